/* The face of src/auth: what its files share.
 *
 * A `struct request` is one authentication or look-up. Mechanisms (mech.h) and the master protocol fill it, the
 * passdb chain (passdb_chain.c) and the userdb chain (userdb_chain.c) lead it through the configured databases, the
 * protocols write the answer. Databases are drivers (struct db_driver) whose functions are synchronous and fill the
 * request's fields: quick ones run here, slow ones in an auth-worker process, which is the one asynchronous step
 * (worker_pool.c). Chapters are those of auth.md.
 *
 * Secrets (the given password, the stored one, credentials) live outside the arena and are wiped by request_unref. */
#ifndef YARILO_AUTH_AUTH_H
#define YARILO_AUTH_AUTH_H

#include "auth/fields.h"
#include "base/base.h"
#include "conf/conf.h"
#include "net/addr.h"

#include <ev.h>
#include <sys/types.h>

struct auth;
struct db;
struct request;
struct server;

enum passdb_result { /* also on the worker wire (auth.md 5) */
    PASSDB_OK = 1,
    PASSDB_MISMATCH = 0,
    PASSDB_INTERNAL = -1,
    PASSDB_SCHEME_NOT_AVAILABLE = -2,
    PASSDB_USER_UNKNOWN = -3,
    PASSDB_USER_DISABLED = -4,
    PASSDB_PASS_EXPIRED = -5,
    PASSDB_NEXT = -6
};

enum userdb_result { USERDB_FOUND, USERDB_UNKNOWN, USERDB_INTERNAL };

/* ---- databases (db.c, db_*.c) ---------------------------------------------------------------------------------- */

/* What a block says beyond driver and args; empty texts where it is silent. */
struct db_params {
    const char *args;
    const char *engine;   /* sql: "sqlite" ... when the block names it instead of "sql" */
    const char *dsn, *password_query, *user_query, *iterate_query, *default_pass_scheme; /* sql without a file */
    bool userdb;          /* opened for a userdb block */
    bool skip_schema;     /* sql without a file: do not make the table */
    unsigned first_uid, last_uid, first_gid, last_gid; /* users that a listing shows */
    struct arena *arena;  /* of the configuration */
};

typedef void db_each_fn(void *arg, const char *user);

struct db_driver {
    const char *name;
    const char *default_scheme;
    bool passdb, userdb;  /* what it can be used for */
    /* Parses args; may set db->blocking, default_scheme, cache_key. */
    int (*open)(struct db *, const struct db_params *, struct error *);
    void (*close)(struct db *);
    /* Finds the user and sets fields, `password` among them (request_set_field). NULL: the driver knows no stored
     * passwords. */
    enum passdb_result (*lookup)(struct db *, struct request *);
    /* Checks the password itself (PAM). NULL: lookup, then the stored password is compared. */
    enum passdb_result (*verify)(struct db *, struct request *, const char *password);
    /* Sets userdb fields (request_set_userdb_field). */
    enum userdb_result (*user)(struct db *, struct request *);
    /* The user must be known to some passdb before `user` is asked (static). NULL = no. */
    bool (*wants_passdb)(const struct db *);
    int (*iterate)(struct db *, struct request *, db_each_fn *each, void *arg, struct error *);
};

struct db {
    unsigned id;                   /* %! and the worker protocol; from 1, passdbs and userdbs apart */
    const struct db_driver *driver;
    char *args;
    const char *default_scheme;
    const char *cache_key;         /* template of the variables that the answer depends on; NULL = never cached */
    bool blocking;                 /* ask an auth-worker */
    void *state;
};

/* The cache key of a driver whose answer depends on the variables of these templates (auth.md 12); NULL-ended. */
const char *db_cache_key(struct arena *, const char *const *templates);
const struct db_driver *db_driver_find(const char *name);
void db_driver_add(const struct db_driver *); /* from a module */

/* ---- chains ---------------------------------------------------------------------------------------------------- */

enum chain_rule { RULE_RETURN, RULE_RETURN_OK, RULE_RETURN_FAIL, RULE_CONTINUE, RULE_CONTINUE_OK, RULE_CONTINUE_FAIL };
enum chain_skip { SKIP_NEVER, SKIP_IF_SUCCESS, SKIP_UNLESS_SUCCESS };

/* One passdb or userdb block. */
struct chain_link {
    const char *name;              /* for log prefixes */
    struct db *db;
    const char *default_fields, *override_fields;
    const char *mechanisms, *username_filter;
    enum chain_skip skip;
    enum chain_rule success, failure, internalfail;
    bool deny;
    int verbose;                   /* -1 = as auth_verbose */
};

struct chain {
    struct chain_link *at;
    size_t count;
};

/* The settings of one service; shared by services without settings of their own. */
struct auth_set {
    const char *default_realm, *realms, *username_chars, *username_format, *username_translation, *proxy_self;
    const char *anonymous_username;
    char master_separator;         /* 0 = none */
    bool verbose, debug, debug_passwords, require_client_cert, username_from_cert;
    const char *verbose_passwords;
    double failure_delay;
    unsigned first_uid, last_uid, first_gid, last_gid;
};

struct auth {
    struct auth_set set;
    struct chain passdbs, masterdbs, userdbs;
};

/* ---- requests (request*.c) ------------------------------------------------------------------------------------- */

typedef void passdb_done_fn(struct request *, enum passdb_result);
typedef void userdb_done_fn(struct request *, enum userdb_result);

struct request {
    struct arena *arena;
    unsigned references;
    struct server *server;
    const struct auth *auth;
    void *owner;                   /* the connection's own; NULL once it is gone */

    const char *user, *original_user, *translated_user;
    const char *login_user;        /* asked for by a master login, until it is settled */
    const char *master_user;
    const char *service, *mech, *session, *local_name, *client_id, *cert_username;
    struct net_endpoint local, remote, real_local, real_remote;
    unsigned client_pid, session_pid;
    bool secured, tls, valid_cert, no_penalty, debug, userdb_lookup;
    bool refused_user;             /* `user` is only what the client sent */

    struct fields passdb_fields, userdb_fields;
    struct fields raw;             /* what the current database itself said, for the cache and the worker protocol */
    bool recording;
    char *password;                /* as given, wiped; NULL for look-ups */
    char *stored;                  /* "{SCHEME}data" of the current passdb, wiped */
    char *wanted_scheme;           /* credentials look-up: "" = any */
    struct buffer credentials;     /* raw, wiped */

    /* state of the chain */
    const struct chain_link *link;
    const struct chain *chain;
    size_t position;
    enum { SUCCESS_UNSET, SUCCESS_NO, SUCCESS_YES } success;
    bool skip_password_check, skip_before_deny, internal_seen, unknown_seen, failed, master_was_right, successful;
    enum passdb_result last_result;
    int64_t delay_until;
    uint64_t begun_ns;
    passdb_done_fn *passdb_done;
    userdb_done_fn *userdb_done;
};

struct request *request_new(struct server *, const char *service);
struct request *request_ref(struct request *);
void request_unref(struct request *);
/* A second request about the same user with fields of its own, for a look-up inside of a look-up. */
struct request *request_branch(const struct request *);

/* A parameter of AUTH, USER or PASS ("rip", "127.0.0.1"; bare words have value NULL). False: unknown, ignored. -1 is
 * never returned; bad addresses count as absent. */
bool request_set_param(struct request *, const char *key, const char *value);

/* Sets the user from what the client sent (auth.md 4). -1 with the text for the log. */
int request_set_user(struct request *, const char *name, struct error *);
int request_set_login_user(struct request *, const char *name, struct error *);
/* The same steps for a name from a database. */
int request_change_user(struct request *, const char *name, struct error *);

/* A field from a database (auth.md 7.1). `scheme` is the default one for `password`. */
void request_set_field(struct request *, const char *name, const char *value, const char *scheme);
void request_set_userdb_field(struct request *, const char *name, const char *value);
/* "key=value key2=value2" templates of default_fields, override_fields and static; splits first, then expands. */
void request_set_template(struct request *, const char *fields, const char *scheme, bool userdb);
void request_set_password(struct request *, const char *password);

/* Is the given password the stored one? For drivers' results and cache hits. */
enum passdb_result request_verify_stored(struct request *);
/* Turns the stored password into r->credentials of r->wanted_scheme. */
enum passdb_result request_make_credentials(struct request *);

/* Expands a template; `escape` NULL = as it is. Unknown variables are logged. */
typedef const char *request_escape_fn(void *arg, const char *value, struct arena *);
char *request_expand(struct request *, const char *template, request_escape_fn *, void *arg);

/* Log lines with auth's prefix (auth.md 23). info: only with auth_verbose; debug: only with auth_debug. */
void request_debug(const struct request *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void request_info(const struct request *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void request_notice(const struct request *, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* info, always */
void request_error(const struct request *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void request_log_mismatch(const struct request *, const char *what);
void request_log_unknown(const struct request *, const char *what);

/* ---- chains: `done` may be called before these return ---------------------------------------------------------- */

void passdb_verify(struct request *, passdb_done_fn *done);             /* r->password */
void passdb_credentials(struct request *, const char *scheme, passdb_done_fn *done);
void userdb_lookup(struct request *, userdb_done_fn *done);
/* One database, synchronously: what a worker does, and auth for quick drivers. */
enum passdb_result passdb_verify_here(struct db *, struct request *);
enum passdb_result passdb_lookup_here(struct db *, struct request *);
enum userdb_result userdb_lookup_here(struct db *, struct request *);

/* ---- the process ----------------------------------------------------------------------------------------------- */

struct service;
struct worker_pool;
struct penalty;
struct cache;
struct delay;
struct token;

struct server {
    struct ev_loop *loop;
    struct service *service;
    bool worker;                          /* this is auth-worker */
    struct arena *arena;                  /* of the configuration */
    VEC(struct db *) passdbs, userdbs;    /* by id - 1 */
    VEC(struct auth *) auths;             /* the global one first */
    VEC(const char *) auth_services;      /* names beside auths */
    VEC(const struct mech *) mechs;       /* offered, in configuration order */
    struct worker_pool *workers;
    struct penalty *penalty;
    struct cache *cache;                  /* NULL = off */
    struct delay *delay;
    struct token *token;
    struct stats_client *stats;           /* NULL: nobody counts */
    const char *hostname;
    unsigned last_connect_uid;
    struct client_conn *clients;          /* utlist */
    bool retire;                          /* worker: a database wants a new process after this answer */
    char log_context[128];                /* worker: who asks, in front of log lines */
};

/* Builds everything from the configuration; *e has Dovecot's text. */
int server_configure(struct server *, struct conf *, struct error *);
void server_free(struct server *);
const struct auth *server_auth(const struct server *, const char *service);
/* MD5 over id, driver and args of all databases, as the worker protocol compares it (auth.md 20); 32 hex digits. */
void server_db_hash(const struct server *, bool userdb, char out[33]);

#endif
