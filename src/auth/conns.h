/* Connections that clients of auth make (auth.md 17, 19, 20), and what they share. */
#ifndef YARILO_AUTH_CONNS_H
#define YARILO_AUTH_CONNS_H

#include "auth/mech.h"
#include "rpc/line.h"

/* ---- client connections (client_conn.c) ------------------------------------------------------------------------ */

struct client_conn;
struct client_request;

/* login: requests stay for master, proxy fields are finished, CPIDs are unique. token: only DOVECOT-TOKEN. */
void client_conn_new(struct server *, int fd, bool login, bool token);
void client_conns_close(struct server *);
/* The answer of a delayed failure is sent now; frees the request. */
void client_request_flush(struct client_request *);

enum pickup { PICKUP_FOUND, PICKUP_NO_CLIENT, PICKUP_WRONG_COOKIE, PICKUP_NO_REQUEST };
/* Takes a successful request off the login connection with that CPID and cookie: the caller owns a reference. */
enum pickup client_request_pick_up(struct server *, uint32_t cpid, uint32_t id, struct slice cookie,
                                   struct request **);

/* ---- master connections (master_conn.c) ------------------------------------------------------------------------ */

/* userdb_only: USER, PASS and LIST. path: for the permission rule of auth-userdb (auth.md 1); NULL = unrestricted. */
void master_conn_new(struct server *, int fd, bool userdb_only, const char *path);

/* ---- worker connections (worker_conn.c) ------------------------------------------------------------------------ */

void worker_conn_new(struct server *, int fd);

/* ---- replies (reply.c, proxy.c) -------------------------------------------------------------------------------- */

/* The visible fields, as OK (normalised) or PASS (as stored) show them. */
void reply_put_fields(struct buffer *, const struct request *, bool normalise);
void reply_put_ok(struct buffer *, uint32_t id, const struct request *, bool login, struct slice final);
void reply_put_fail(struct buffer *, uint32_t id, const struct request *, enum passdb_result);
void reply_put_user(struct buffer *, uint32_t id, struct request *, const char *token);
/* auth.md 16: proxy_maybe is decided, lip and lport are added for a director. */
void reply_finish_proxy(struct request *);
/* event.c: auth_request_finished, for the stats service (ipc 8.1). */
void event_request_finished(const struct request *, bool success);

/* ---- delays (delay.c) ------------------------------------------------------------------------------------------ */

struct delay;
struct delay *delay_new(struct ev_loop *);
void delay_free(struct delay *);
struct delayed;
/* client_request_flush is called when `seconds` are over (looked at every 500 ms, in random order). */
struct delayed *delay_add(struct delay *, struct client_request *, double seconds);
void delay_remove(struct delay *, struct delayed *);
void delay_flush(struct delay *);

/* ---- penalty (penalty.c) --------------------------------------------------------------------------------------- */

struct penalty;
struct penalty *penalty_new(struct server *, int fd); /* a connection to anvil-auth-penalty */
void penalty_free(struct penalty *);
/* Seconds to wait and the value now; calls back later, or at once where the address had no penalty a moment ago. The request is held. */
void penalty_ask(struct penalty *, struct request *, void (*done)(void *arg, unsigned value, unsigned secs), void *arg);
void penalty_failed(struct penalty *, const struct request *, unsigned value);
void penalty_succeeded(struct penalty *, const struct request *, unsigned value);

/* ---- session tokens (token.c) ---------------------------------------------------------------------------------- */

struct token;
/* Reads or makes the secret file; NULL with *e. */
struct token *token_new(const char *path, struct error *);
void token_free(struct token *);
/* 40 hex digits and NUL (auth.md 21). */
void token_make(const struct token *, const char *user, unsigned session_pid, const char *session, const char *service,
                char out[41]);

#endif
