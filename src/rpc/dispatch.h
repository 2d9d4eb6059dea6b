/* Dispatcher and workers: the face both sides use (DECISIONS 1.3).
 *
 * The dispatcher owns the sockets on which logins (login/imap) or deliveries arrive, has asked auth who the user is,
 * and chooses a worker that runs with the user's credentials. They talk over a SOCK_SEQPACKET pair, one message a
 * packet:
 *
 *     command TAB field TAB field ...  [NUL bytes]          fields escaped by text_tab_escape; at most one descriptor
 *
 * | dispatcher -> worker | |
 * | SESSION id service user key=value... NUL input, fd | serve this client; `input` was read ahead of it |
 * | JOB id service user key=value... NUL bytes, fd | do this piece of work (a delivery: fd is the sealed message) |
 * | KICK id text | end that session; `text` is the reason for the log and the client |
 * | URLAUTH id, fd | the connection that the worker asked for; without a descriptor: there is none |
 * | STATS, fd | a connection to the stats service, which asks for events; in place of the one that the worker has |
 * | FINISH | nothing more will come: end when the last session has |
 * | worker -> dispatcher | |
 * | READY | may be sent work; the first thing a worker says |
 * | TAKEN id | the session or job was read; if the worker dies before, another one gets it |
 * | URLAUTH id | wants a connection to imap-urlauth with the session's token shown (ipc 16) |
 * | END id [, fd] | the session is over; the descriptor is closed when anvil has been told |
 * | NOTE id field... | how far the job is; the fields go to whoever asked for it |
 * | ANSWER id field... | the job is done; the fields go to whoever asked for it |
 *
 * Keys of SESSION and JOB: session lip rip lport rport real_lip real_rip real_lport real_rport (absent = unknown),
 * secured, tls, tls-implicit, compressed, returns (bare words), tag (IMAP: of the command that logged in), nocap (the client
 * ignores CAPABILITY in the answer), login-pid, created (microseconds since 1970), and every userdb field with '+'
 * before its name ("+home=/srv/u"). ticket: the dispatcher's word for what it says here, which a session that comes back
 * from imap-hibernate shows. Of such a session, what imap-hibernate says about it with '!' before the key ("!state=...");
 * no command waits for its answer then, and `input` is what the client has sent meanwhile.
 *
 * A worker is started with the descriptor of its end in DISPATCH_FD_ENV and with the user's uid, groups and chroot
 * set; its service_init finds no listeners. End of file on the pair means that the dispatcher is gone: sessions go on,
 * the process ends with the last one. */
#ifndef YARILO_RPC_DISPATCH_H
#define YARILO_RPC_DISPATCH_H

#include "net/addr.h"
#include "rpc/line.h"
#include "rpc/service.h"

#define DISPATCH_FD_ENV "YARILO_WORKER_FD"
#define DISPATCH_TICKET_ENV "YARILO_TICKET_KEY" /* master to its dispatchers: 32 bytes in hex */
/* Bytes of a packet; a longer one is refused by the sender. A socket's buffer takes one of this size (net.core.wmem_default). */
#define DISPATCH_MESSAGE_MAX (128 * 1024)

struct dispatch_request {
    uint32_t id;                 /* of the dispatcher: names the session in KICK and END */
    bool job;                    /* JOB instead of SESSION */
    const char *service;         /* "imap", "pop3", "lmtp" ... */
    const char *user;            /* as the userdb named it */
    const char *session;         /* session id, "" = none */
    struct net_endpoint local, remote, real_local, real_remote; /* family 0 = unknown */
    bool secured, tls, tls_implicit, compressed;
    bool returns;                /* the login process takes the client back when the session is over (stream_relay_returns) */
    const char *tag;             /* NULL = no command waits for its answer */
    bool nocap;
    pid_t login_pid;
    uint64_t created_usecs;
    const char *ticket;          /* NULL = none */
    struct rpc_fields rested;    /* of a session that comes back (ipc 14); count 0 = it is a new one */
    struct rpc_fields userdb;    /* uid, gid, home, mail, any setting ...: for settings_override_all */
    struct slice input;          /* bytes that the client had sent already; of a JOB: its own bytes */
};

/* ---- the messages (both sides, tests) -------------------------------------------------------------------------- */

/* Appends the packet to *out, which is emptied first. -1: longer than DISPATCH_MESSAGE_MAX. */
int dispatch_request_write(struct buffer *out, const struct dispatch_request *, struct error *);
/* Reads SESSION or JOB; texts are in the arena, input borrows from the packet. */
int dispatch_request_read(struct arena *, struct slice packet, struct dispatch_request *, struct error *);

/* What a session needs to come back, as fields for imap-hibernate: TAB and key=value ... (session, session_created, lip, lport,
 * rip, rport, userdb_fields, tls words, ticket). */
void dispatch_origin_write(struct buffer *out, const struct dispatch_request *);
/* The same read again: fields of the line on imap-master behind the user's name. Everything in the arena. */
void dispatch_origin_read(struct arena *, const struct rpc_fields *, struct dispatch_request *);

/* ---- the worker's side ----------------------------------------------------------------------------------------- */

struct dispatch_worker;

struct dispatch_handler {
    /* A session to serve. `fd` is yours. Everything in *request lives until the call returns. When the session is
     * over, also if it could not be begun: dispatch_worker_end. */
    void (*session)(void *arg, const struct dispatch_request *request, int fd);
    /* A job; fd may be -1. Ends with dispatch_worker_answer. NULL: the worker has no jobs. */
    void (*job)(void *arg, const struct dispatch_request *request, int fd);
    /* End session `id` (unknown ids are those that have just ended). */
    void (*kick)(void *arg, uint32_t id, const char *reason);
    /* Answer to dispatch_worker_urlauth; fd is yours, -1: there is no connection. May be NULL. */
    void (*urlauth)(void *arg, uint32_t id, int fd);
    /* A connection to the stats service; fd is yours. May be NULL. */
    void (*stats)(void *arg, int fd);
    /* Nothing more will come (reload, stop). May be NULL. */
    void (*finish)(void *arg);
};

/* Is this process a worker, started by a dispatcher? */
bool dispatch_is_worker(void);
/* Says READY. Sessions count as clients of the service (service_client_begin and _end are called in here). */
struct dispatch_worker *dispatch_worker_new(struct service *, const struct dispatch_handler *, void *arg);
/* Asks for a connection to the imap-urlauth services in the name of the session. */
void dispatch_worker_urlauth(struct dispatch_worker *, uint32_t id);
void dispatch_worker_end(struct dispatch_worker *, uint32_t id);
/* The same of a session whose client goes on without it: the connection (yours no longer) ends when the session is no longer counted. */
void dispatch_worker_leave(struct dispatch_worker *, uint32_t id, int fd);
void dispatch_worker_answer(struct dispatch_worker *, uint32_t id, const char *const *fields, size_t count);
/* The job goes on; not every asker listens. */
void dispatch_worker_note(struct dispatch_worker *, uint32_t id, const char *const *fields, size_t count);
void dispatch_worker_free(struct dispatch_worker *);

/* ---- whoever hands in jobs (the lmtp front) -------------------------------------------------------------------- */

/* A connection to the dispatcher's job socket ($RUN/dispatch-lmtp, SOCK_SEQPACKET). Answers may come in any order. */
struct dispatch_client;
typedef void dispatch_answer_fn(void *arg, const struct error *, const struct slice *fields, size_t count);

/* Connects now; before privileges are dropped if the socket asks for it. -> NULL with *e. */
struct dispatch_client *dispatch_client_new(struct ev_loop *, const char *path, struct error *);
void dispatch_client_free(struct dispatch_client *);
/* request->id is chosen here. `answer` is called exactly once, from the loop: class NONE with the worker's fields, or
 * TEMPORARY when the worker died or the dispatcher is gone. `fd` stays the caller's. */
int dispatch_client_job(struct dispatch_client *, struct dispatch_request *, int fd, dispatch_answer_fn *answer,
                        void *arg, struct error *);

#endif
