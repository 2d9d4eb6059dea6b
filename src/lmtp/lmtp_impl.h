/* What the files of src/lmtp share. The front: one process, many clients, no mail parsed, no file written.
 *
 * A message is read once into a sealed memfd, with the trace headers in front, and handed to delivery workers that run
 * with the recipients' credentials (DECISIONS 1.1). */
#ifndef YARILO_LMTP_LMTP_IMPL_H
#define YARILO_LMTP_LMTP_IMPL_H

#include "net/net.h"
#include "net/tls_conf.h"
#include "rpc/anvil_client.h"
#include "rpc/auth_client.h"
#include "rpc/dispatch.h"
#include "rpc/service.h"
#include "smtp/smtp.h"

#include <time.h>
#include <unistd.h>
#include <utlist.h>

enum {
    LMTP_IDLE_SECS = 300,
    LMTP_MAX_BAD_COMMANDS = 10,
    LMTP_MAX_RCPTS = 10000,
};

struct lmtp_server {
    struct service *service;
    struct ev_loop *loop;
    struct settings *global;
    struct auth_master *auth;
    struct anvil_client *anvil;
    struct dispatch_client *dispatch;
    struct tls_cache *tls;
    struct lmtp_client *clients;
    const char *hostname;
    unsigned connections;      /* so far */
    bool ending;
};

struct lmtp_rcpt {
    struct lmtp_client *client;
    const char *path;          /* as replies show it */
    const char *original;      /* ORCPT, decoded; NULL = none */
    const char *user;          /* name asked for, then the userdb's */
    const char *detail;        /* "" = none */
    const char *session;
    struct rpc_fields userdb;
    struct lmtp_rcpt *same_as; /* the first recipient with this path: one delivery for both */
    const char *anvil_ident;   /* counted at anvil; NULL = not */
    /* the outcome */
    bool answered;
    const char *reply;         /* without line end */
    struct lmtp_rcpt *next;
};

struct lmtp_transaction {
    struct arena *arena;
    struct smtp_path from;
    const char *from_text;     /* without brackets */
    const char *session;       /* "<id>" or "<id>:T2" */
    struct lmtp_rcpt *rcpts;   /* accepted ones, in order */
    unsigned rcpt_count, rcpt_commands;
    time_t started;
    bool chunk_failed, chunking;
    int fd;                    /* the spooled message, -1 = not begun */
    unsigned jobs;             /* not answered yet */
};

enum lmtp_mode { LMTP_PROXY_HEADER, LMTP_TLS, LMTP_COMMAND, LMTP_WAIT, LMTP_DATA, LMTP_CHUNK, LMTP_END };

struct lmtp_client {
    struct lmtp_server *server;
    struct lmtp_client *prev, *next;
    const struct service_listener *listener;
    struct stream *stream;
    struct settings *set;
    struct net_endpoint local, remote, real_local, real_remote;
    const char *state;         /* for the log: "GREETING", "READY" ... */
    enum lmtp_mode mode;
    char session[72];          /* 22 characters, or XCLIENT's */
    char *helo;                /* NULL = unknown */
    unsigned number;           /* of the connection, for the log */
    unsigned transactions, bad_commands;
    bool tls, trusted, greeted, skipping, shown_connect;
    struct lmtp_transaction *trans;
    struct auth_lookup *lookup;
    struct anvil_query *query;
    struct room_query *room;   /* lmtp_rcpt_check_quota asks a worker */
    struct lmtp_rcpt *asking;  /* whose lookup is running */
    struct smtp_data data;
    uint64_t chunk_left, chunk_size;
    bool chunk_last, chunk_drop;
};

/* lmtp_client.c */
void lmtp_client_new(struct lmtp_server *, const struct service_listener *, int fd);
void lmtp_client_free(struct lmtp_client *);
void lmtp_client_end(struct lmtp_client *, const char *reason);   /* after what was written; logs */
void lmtp_client_shutdown(struct lmtp_client *);
void lmtp_client_settings(struct lmtp_client *);
void lmtp_client_greet(struct lmtp_client *);
void lmtp_client_start_tls(struct lmtp_client *);
/* A lookup or delivery is awaited: nothing is read until `resume`, not even that the client has closed its side, which one may
 * that has sent all it has to say and waits for the answers (Exim does). */
void lmtp_client_wait(struct lmtp_client *);
/* It is over: reads on. */
void lmtp_client_resume(struct lmtp_client *);
void lmtp_new_session(struct lmtp_client *);
const char *lmtp_client_address(const struct lmtp_client *, char out[NET_IP_TEXT]); /* "local" for UNIX sockets */
void lmtp_reply(struct lmtp_client *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* lmtp_commands.c */
void lmtp_command(struct lmtp_client *, const struct smtp_command *);
void lmtp_bad_syntax(struct lmtp_client *);
/* A reply that counts as a bad command (500, 501, 503); the client may be ending afterwards. */
void lmtp_bad(struct lmtp_client *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void lmtp_transaction_end(struct lmtp_client *);

/* lmtp_xclient.c */
void lmtp_xclient(struct lmtp_client *, struct slice params);

/* lmtp_rcpt.c */
void lmtp_rcpt_command(struct lmtp_client *, struct slice params);
void lmtp_rcpt_cancel(struct lmtp_client *);

/* lmtp_data.c */
void lmtp_data_command(struct lmtp_client *);
void lmtp_bdat_command(struct lmtp_client *, struct slice params);
/* Takes message bytes from the input; true: something was taken and commands may follow. */
bool lmtp_data_input(struct lmtp_client *);

/* lmtp_submit.c */
void lmtp_submit(struct lmtp_client *);

/* lmtp_worker.c */
int lmtp_worker_main(struct service *);

#endif
