/* Clients of the auth service: the login side (auth.md 17) and the master side (auth.md 19).
 *
 * Everything is asynchronous on the caller's loop; auth_wait_* are the blocking forms for one-shot programs. A
 * callback is never called from inside the call that asked, and always exactly once unless the request is cancelled.
 * Names and fields that a callback gets live until it returns.
 *
 * A broken connection fails what is open (AUTH_ABORTED, or ERROR_TEMPORARY on the master side) and is made again:
 * on the login side at once if it had been good, else after AUTH_RECONNECT_SECS; on the master side when the next request
 * comes, at most every AUTH_RECONNECT_SECS. A client made from a descriptor waits for auth_client_give_fd. */
#ifndef YARILO_RPC_AUTH_CLIENT_H
#define YARILO_RPC_AUTH_CLIENT_H

#include "net/addr.h"
#include "rpc/line.h"

#define AUTH_RECONNECT_SECS 5
#define AUTH_CLIENT_TIMEOUT_SECS 155 /* of one request, both sides (auth.md 17, 19) */

/* ---- login side: authenticates clients ------------------------------------------------------------------------ */

enum auth_mech_flag {
    AUTH_MECH_PRIVATE = 1, AUTH_MECH_ANONYMOUS = 2, AUTH_MECH_PLAINTEXT = 4, AUTH_MECH_DICTIONARY = 8,
    AUTH_MECH_ACTIVE = 16, AUTH_MECH_FORWARD_SECRECY = 32, AUTH_MECH_MUTUAL_AUTH = 64
};

struct auth_mech_info {
    const char *name; /* upper case, as the server sent it */
    unsigned flags;
};

struct auth_client;

struct auth_client_handler {
    void (*ready)(void *arg);                             /* the server's greeting is complete */
    void (*lost)(void *arg, const struct error *);        /* the connection broke, or could not be made */
};

/* path: a client socket ("auth-client", "login/login"); or NULL and a connected descriptor `fd` (-1: wait for
 * auth_client_give_fd). `cpid` is the client's number, unique per connection on login sockets: getpid(). */
struct auth_client *auth_client_new(struct ev_loop *, const char *path, int fd, unsigned cpid,
                                    const struct auth_client_handler *, void *arg);
void auth_client_free(struct auth_client *);              /* open requests are dropped without a callback */
void auth_client_give_fd(struct auth_client *, int fd);   /* a new connection, after `lost` */
/* Leaves the server for whoever answers at the path now. Open requests are aborted, from the loop; `lost` is not called for it. */
void auth_client_reconnect(struct auth_client *);
bool auth_client_ready(const struct auth_client *);

/* Of the greeting; the order of the list is the server's configuration. Valid until `lost`. */
const struct auth_mech_info *auth_client_mechs(const struct auth_client *, size_t *count);
const struct auth_mech_info *auth_client_mech(const struct auth_client *, struct slice name); /* any case; NULL */
/* What the request to the mail process carries (ipc.md 7.2). */
uint32_t auth_client_server_pid(const struct auth_client *);
uint32_t auth_client_cpid(const struct auth_client *);
const unsigned char *auth_client_cookie(const struct auth_client *); /* 16 bytes */

enum auth_secured { AUTH_INSECURE, AUTH_SECURED, AUTH_SECURED_TLS };

struct auth_request_info {
    const char *service;                         /* "imap"; required */
    const char *mech;                            /* as offered; required */
    enum auth_secured secured;
    bool no_penalty, final_resp_ok, valid_client_cert, debug;
    const char *session, *cert_username, *local_name, *client_id;
    const char *forward_fields;                  /* TAB-escaped k=v list, base64 */
    struct net_endpoint local, remote;           /* family 0: not sent */
    struct net_endpoint real_local, real_remote; /* family 0, or the same: not sent */
    bool has_initial;                            /* the client sent an initial response (may be empty) */
    struct slice initial;                        /* base64 as the client sent it */
};

enum auth_answer {
    AUTH_CONTINUE, /* `challenge` (base64) goes to the client; answer with auth_request_continue or _cancel */
    AUTH_OK,       /* fields: user=, and passdb fields (nologin, proxy, host, reason ...; resp= with final_resp_ok) */
    AUTH_FAIL,     /* fields: user=, code=, reason=, nodelay */
    AUTH_ABORTED   /* the connection to auth broke, or no answer in time */
};

struct auth_request;
typedef void auth_answer_fn(void *arg, enum auth_answer, struct slice challenge, const struct rpc_fields *);

/* NULL: not connected, unknown mechanism, or the response holds bytes that are not base64 (known-faults 33603: a
 * TAB there would become a field); *e says which. After OK, FAIL or ABORTED the request is gone. */
struct auth_request *auth_request_start(struct auth_client *, const struct auth_request_info *, auth_answer_fn *,
                                        void *arg, struct error *);
/* -1: the response is not base64; the request is still open (cancel it). */
int auth_request_continue(struct auth_request *, struct slice base64, struct error *);
void auth_request_cancel(struct auth_request *); /* no callback any more */
void auth_client_forget(struct auth_client *, uint32_t id); /* of a request that succeeded: nobody will ask for its user */
uint32_t auth_request_id(const struct auth_request *);

/* ---- master side: what the databases say about users ----------------------------------------------------------- */

struct auth_master;
struct auth_lookup;

/* path: "auth-master" or "auth-userdb"; or NULL and a connected descriptor. */
struct auth_master *auth_master_new(struct ev_loop *, const char *path, int fd);
void auth_master_free(struct auth_master *);     /* open requests are dropped without a callback */
void auth_master_give_fd(struct auth_master *, int fd);

/* error class NONE: found, `user` (it may differ from the name asked for) and fields. NOT_FOUND: no such user.
 * TEMPORARY: lookup failed; error.user holds the server's reason= if it gave one. */
typedef void auth_lookup_fn(void *arg, const struct error *, const char *user, const struct rpc_fields *);

/* The login that a login process handed over (REQUEST). `cookie` 16 bytes; session_pid: the process that will serve
 * the session; want_token asks for auth_token=. */
struct auth_lookup *auth_master_login(struct auth_master *, uint32_t client_pid, uint32_t request_id,
                                      const unsigned char *cookie, pid_t session_pid, bool want_token,
                                      auth_lookup_fn *, void *arg);

struct auth_user_info {
    const char *service; /* required */
    struct net_endpoint local, remote, real_local, real_remote;
    const char *session, *local_name, *client_id;
    bool debug;
    const struct rpc_fields *extra; /* further k=v arguments (doveadm -x), may be NULL */
};

/* userdb fields of a user (USER), passdb fields (PASS; `user` is the name in user=). */
struct auth_lookup *auth_master_user(struct auth_master *, const char *user, const struct auth_user_info *,
                                     auth_lookup_fn *, void *arg);
struct auth_lookup *auth_master_pass(struct auth_master *, const char *user, const struct auth_user_info *,
                                     auth_lookup_fn *, void *arg);
/* All users that match the mask (`*`, `?`; NULL = all): `each` per name, then `done` with class NONE, or TEMPORARY
 * when some database failed. The mask is applied here too: the server's databases may ignore it. */
struct auth_lookup *auth_master_list(struct auth_master *, const char *mask, const struct auth_user_info *,
                                     void (*each)(void *arg, const char *user), auth_lookup_fn *done, void *arg);
/* Removes cached entries of these users, or of all (count 0). `user` of the callback is the number removed. */
struct auth_lookup *auth_master_cache_flush(struct auth_master *, const char *const *users, size_t count,
                                            auth_lookup_fn *, void *arg);
void auth_lookup_cancel(struct auth_lookup *); /* no callback any more */

/* Blocking forms, with a loop of their own. 0 found, -1 otherwise (*e as above). *user and *fields in the arena. */
int auth_wait_user(const char *path, const char *user, const struct auth_user_info *, struct arena *,
                   const char **found, struct rpc_fields *, struct error *);
int auth_wait_pass(const char *path, const char *user, const struct auth_user_info *, struct arena *,
                   const char **found, struct rpc_fields *, struct error *);
int auth_wait_list(const char *path, const char *mask, const struct auth_user_info *, struct arena *,
                   const char ***users, size_t *count, struct error *);
int auth_wait_cache_flush(const char *path, const char *const *users, size_t count, unsigned *removed,
                          struct error *);
/* PLAIN against a client socket: 0 = accepted, -1 with class PERMISSION = refused (*fields are filled), any other
 * class: could not ask. master: the master user, or NULL. */
int auth_wait_plain(const char *path, const struct auth_request_info *, const char *master, const char *user,
                    const char *password, struct arena *, struct rpc_fields *, struct error *);

#endif
