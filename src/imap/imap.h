/* The face of src/imap (floor 6): the worker that serves IMAP sessions.
 *
 * A process has one worker on its loop. Sessions come from the dispatcher (rpc/dispatch.h) or, by hand, on standard
 * input and output. Each session is a state machine that does one bounded step and returns; runnable sessions take
 * turns (worker.c). Nothing here blocks. */
#ifndef YARILO_IMAP_IMAP_H
#define YARILO_IMAP_IMAP_H

#include "base/base.h"
#include "conf/conf.h"
#include "net/addr.h"
#include "rpc/line.h"

#include <ev.h>

struct imap_worker;
struct session;
struct stats_client;

struct imap_worker_handler {
    /* The session of that id is over and freed. fd: of a client that has left it for the login process, the callee's; else -1. */
    void (*ended)(void *arg, uint32_t id, int fd);
    /* The session wants a connection to the imap-urlauth services: imap_worker_urlauth answers. NULL: there is none to be had. */
    void (*urlauth)(void *arg, uint32_t id);
};

/* Facts about a session that is to be served. Texts are copied. */
struct imap_login {
    uint32_t id;                       /* chosen by the caller, for `ended` and kicks */
    const char *user, *session;        /* session "" = none */
    const char *home;                  /* NULL = unknown */
    const char *const *fields;         /* userdb fields "key=value", NULL-ended; NULL = none */
    const char *local_ip, *remote_ip;  /* NULL = unknown */
    const char *tag;                   /* answer this command; NULL: greet with PREAUTH */
    bool nocap;                        /* the client has asked for the capabilities before */
    bool tls;
    bool returns;                      /* the login process takes the client back (UNAUTHENTICATE) */
    struct slice input;                /* read ahead of us */
    const char *origin;                /* for imap-hibernate (dispatch_origin_write); NULL: the session never goes there */
    const struct rpc_fields *rested;   /* it comes back from there: no greeting; NULL: a new session */
};

struct imap_worker *imap_worker_new(struct ev_loop *, struct conf *, const struct imap_worker_handler *, void *arg);
void imap_worker_free(struct imap_worker *);
/* Where events go (rpc/stats_client.h); stays the caller's. Without it: nowhere. */
void imap_worker_set_stats(struct imap_worker *, struct stats_client *);
unsigned imap_worker_sessions(const struct imap_worker *);
/* Takes the descriptors (out_fd -1: the same). A session that cannot begin tells the client so ("Logged in, but
 * initialization failed."), logs why, and ends: `ended` is called then too. */
void imap_worker_adopt(struct imap_worker *, int fd, int out_fd, const struct imap_login *);
void imap_worker_kick(struct imap_worker *, uint32_t id, const char *reason);
/* The connection that a session has asked for, or -1. Takes the descriptor. */
void imap_worker_urlauth(struct imap_worker *, uint32_t id, int fd);
/* All sessions, with this BYE text. */
void imap_worker_shutdown(struct imap_worker *, const char *bye);

#endif
