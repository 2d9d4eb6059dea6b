/* The dispatcher: gives each login (or delivery) to a worker that runs with the user's credentials (DECISIONS 1.3).
 *
 *     login process --request+fd--> login.c --> auth-master --> session.c --> pool.c --> worker (src/imap)
 *     lmtp front   --JOB+fd-------> jobs.c  --> auth-userdb --|
 *     indexer      --line---------> indexing.c > auth-userdb --'
 *
 * It runs as root and therefore reads as little as it can: the fixed request of 96 bytes, auth's answers, and packets
 * of its own workers. It never reads from a client. */
#ifndef YARILO_DISPATCH_DISPATCH_IMPL_H
#define YARILO_DISPATCH_DISPATCH_IMPL_H

#include "conf/conf.h"
#include "net/addr.h"
#include "rpc/auth_client.h"
#include "rpc/credentials.h"
#include "rpc/dispatch.h"
#include "rpc/packet.h"
#include "rpc/service.h"

#include <ev.h>
#include <uthash.h>

/* ---- login_request.c: the request of a login process (ipc 7.2), pure -------------------------------------------- */

enum { LOGIN_REQUEST_SIZE = 96, LOGIN_DATA_MAX = 1218, LOGIN_ANSWER_SIZE = 12 };

struct login_request {
    uint32_t tag, auth_pid, auth_id, client_pid;
    unsigned char cookie[16];
    struct net_endpoint local, remote;
    bool compressed, secured, tls, tls_implicit, returns;
    uint32_t data_size;
    uint64_t inode;
};

/* -1: an address family that does not exist, or a data size beyond the limit. */
int login_request_read(const unsigned char bytes[LOGIN_REQUEST_SIZE], struct login_request *, struct error *);
void login_answer_write(unsigned char bytes[LOGIN_ANSWER_SIZE], uint32_t tag, uint32_t status, pid_t);

struct login_data {
    struct slice session;
    bool has_tag, nocap;      /* IMAP's part */
    struct slice tag;
    struct slice input;
};
/* The bytes behind the request: session id NUL, with `imap` also '0' or '1', tag NUL; then unread input. */
void login_data_read(struct slice bytes, bool imap, struct login_data *);

/* ---- the process ------------------------------------------------------------------------------------------------ */

struct dispatcher {
    struct service *service;
    struct ev_loop *loop;
    const char *protocol;              /* "imap", "lmtp" ...: the service name of settings and idents */
    char *program;                     /* path of the worker's program */
    const char *worker_path;           /* -x: instead of libexec/PROGRAM */
    const char *script;                /* name of the post-login socket, NULL = none */
    unsigned session_limit;            /* process_limit: sessions at one time */
    unsigned per_worker;               /* sessions a worker serves at one time; 0 = many, chosen by user */
    unsigned worker_count;             /* sessions a worker serves in its life; 0 = without end */
    unsigned idle_secs;                /* an idle worker ends after so long */
    uint64_t vsz_limit;
    unsigned slots;                    /* workers for one set of credentials when per_worker is 0 */
    int conf_fd;
    bool root;
    unsigned char ticket_key[32];
    char *extra_groups;                /* of the service, for workers too; NULL = none */

    struct auth_master *auth;
    uint64_t auth_since_usecs;         /* the first question */
    struct place *places;              /* by credentials and slot, each with its workers */
    struct session *sessions;          /* by id */
    struct blamed *blamed;             /* users whose workers died */
    unsigned session_count;
    uint32_t last_id;
    time_t last_limit_warning;
    struct kicks *kicks;
    struct stats_watch *stats;         /* NULL: its workers tell of no events */
    struct login_conn *login_conns;    /* all that are open */
    bool finishing;
};

/* ---- session.c: one login or delivery from the userdb lookup to its end ------------------------------------------ */

struct login_conn;
struct restore;
struct session;

/* Who waits for a job's answer: the first member of jobs.c's and indexing.c's connections. */
struct job_asker {
    const struct job_calls *calls;
};
struct job_calls {
    /* The job's end; each takes the asker off the session. */
    void (*answer)(struct session *, const struct slice *fields, size_t count);
    void (*fail)(struct session *, const struct error *);
    void (*forget)(struct session *);                      /* nobody is told */
    void (*note)(struct session *, const struct slice *fields, size_t count);   /* it goes on; NULL: not interested */
    void (*unknown)(struct session *, const struct error *);   /* logs that the user was not found, `fail` follows; NULL: as for all */
};

struct session {
    struct dispatcher *dispatcher;
    struct dispatch_request request;   /* what the worker gets; texts in the arena */
    struct arena *arena;
    int fd;
    struct worker *worker;
    struct session *prev, *next;       /* of the worker */
    struct login_conn *login;          /* who waits for the 12 bytes; NULL = nobody any more */
    struct job_asker *job;             /* who waits for the answer */
    struct restore *rest;              /* imap-hibernate gives the session back and waits */
    uint32_t origin_id;                /* login tag, or the front's number */
    uint32_t auth_id;                  /* number of the login at auth */
    struct auth_lookup *lookup;
    struct postlogin *postlogin;
    const char *token;                 /* of the session, for imap-urlauth; NULL: auth gave none. The worker never sees it */
    char *ident;                       /* told to anvil, NULL = not */
    bool answered, scripted, delivered, counted;
    bool taken;                        /* the worker has read it: no other one may get it */
    unsigned attempts;
    UT_hash_handle hh;
};

struct session *session_new(struct dispatcher *, int fd);
/* Asks auth; goes on by itself. */
void session_start_login(struct session *, const struct login_request *);
void session_start_job(struct session *);
/* A session that comes back; `believed`: its userdb fields are those that this dispatcher had found. */
void session_start_rested(struct session *, bool believed);
/* The pool's events. */
void session_worker_ready(struct session *);
void session_worker_died(struct session *);
/* A worker's TAKEN, END, ANSWER or NOTE. */
void session_taken(struct session *);
/* A worker's URLAUTH: it gets a connection on which the token has been shown. */
void session_urlauth(struct session *);
/* Takes auth's token out of the fields. */
void session_take_token(struct session *);
void session_ended(struct session *);
void session_answered(struct session *, const struct slice *fields, size_t count);
void session_noted(struct session *, const struct slice *fields, size_t count);
/* The post-login script is done: fields replaced by its answer; error class not NONE: the login is refused. */
void session_script_done(struct session *, const struct error *);
struct session *session_find(struct dispatcher *, uint32_t id);

/* ---- pool.c: workers --------------------------------------------------------------------------------------------- */

struct worker;

/* Chooses or starts a worker and puts the session on its list; session_worker_ready follows (or _died), from the loop
 * or at once. -1: none could be started. */
int pool_assign(struct session *, const struct credentials *, struct error *);
int pool_send(struct worker *, struct slice packet, int fd, struct error *);
void pool_remove(struct session *);
void pool_broken(struct worker *);                     /* gets nothing more; its end will be reported */
pid_t pool_pid(const struct worker *);
/* Connections to the stats service for the workers that have none of its present life. */
void pool_give_stats(struct dispatcher *);
void pool_lost_stats(struct dispatcher *);             /* it has gone, and all connections with it */
void pool_finish(struct dispatcher *);                 /* nothing more will come */
void pool_end(struct dispatcher *);                    /* SIGTERM to all, and waits some seconds for them */

/* spawn.c. -> pid, and *fd the dispatcher's end; or -1. */
pid_t spawn_worker(struct dispatcher *, const struct credentials *, int *fd, struct error *);
void spawn_limit(struct dispatcher *, pid_t, unsigned sessions); /* the address space grows with the sessions */

/* ---- login.c, jobs.c, indexing.c, postlogin.c, kick.c ------------------------------------------------------------------------ */

void login_conn_new(struct dispatcher *, int fd);
/* From now on login processes keep this process alive: their clients may still log in. */
void login_conns_hold(struct dispatcher *);
/* The 12 bytes; status 0 = ok. */
void login_conn_answer(struct session *, uint32_t status, pid_t);
void login_conn_forget(struct session *);
void login_warn_limit(struct dispatcher *);            /* process_limit is reached; once a second */

void job_conn_new(struct dispatcher *, int fd);
void indexing_conn_new(struct dispatcher *, int fd);

/* restore.c: sessions that come back from imap-hibernate (ipc 14). */
void restore_conn_new(struct dispatcher *, int fd);
void restore_answer(struct session *, const char *problem);
/* The session's fields that decide about rights, under a key that only dispatchers of this master know, and its token, which nobody
 * else can read. In the session's arena. */
const char *restore_ticket(struct session *);

int postlogin_start(struct session *, const char *socket, struct error *);
void postlogin_cancel(struct postlogin *);

void dispatch_kicks_start(struct dispatcher *);

/* stats.c: workers have a connection to the stats service only while it asks for events. */
void dispatch_stats_start(struct dispatcher *);
bool dispatch_stats_asked(const struct dispatcher *);  /* or not known yet */
/* A connection for a worker; -1: it needs none, or nobody listens. */
int dispatch_stats_connect(const struct dispatcher *);

#endif
