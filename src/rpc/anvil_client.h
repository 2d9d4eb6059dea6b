/* Client of anvil: connection counts and login penalties (ipc.md 6).
 *
 * anvil never greets. Replies come in the order of the queries. A query that fails or gets no answer in
 * ANVIL_TIMEOUT_SECS calls back with ok = false: the caller then allows the login, as the real client does. The
 * connection is made again when needed, at most every 5 seconds. */
#ifndef YARILO_RPC_ANVIL_CLIENT_H
#define YARILO_RPC_ANVIL_CLIENT_H

#include "rpc/line.h"

#define ANVIL_TIMEOUT_SECS 5

struct anvil_client;
struct anvil_query;

/* path "anvil" or "anvil-auth-penalty", or NULL and a connected descriptor (-1: wait for anvil_client_give_fd). */
struct anvil_client *anvil_client_new(struct ev_loop *, const char *path, int fd);
void anvil_client_free(struct anvil_client *); /* open queries are dropped without a callback */
void anvil_client_give_fd(struct anvil_client *, int fd);
/* The connection ended, or was given up. */
void anvil_client_on_lost(struct anvil_client *, void (*lost)(void *arg), void *arg);
bool anvil_client_connected(struct anvil_client *); /* connects now if it is not */

/* service "imap", ip "127.0.0.1" (empty: none), user: "imap/127.0.0.1/user", the user escaped. */
char *anvil_ident(struct arena *, const char *service, const char *ip, const char *user);

void anvil_connect(struct anvil_client *, pid_t, const char *ident);
void anvil_disconnect(struct anvil_client *, pid_t, const char *ident);
struct anvil_query *anvil_lookup(struct anvil_client *, const char *ident,
                                 void (*done)(void *arg, bool ok, unsigned count), void *arg);
/* All entries: `each` per line, then `done`. */
struct anvil_query *anvil_dump(struct anvil_client *,
                               void (*each)(void *arg, const char *ident, pid_t, unsigned count),
                               void (*done)(void *arg, bool ok, unsigned lines), void *arg);
void anvil_query_cancel(struct anvil_query *); /* no callback any more */

struct anvil_query *anvil_penalty_get(struct anvil_client *, const char *ident,
                                      void (*done)(void *arg, bool ok, unsigned penalty, uint64_t last), void *arg);
void anvil_penalty_inc(struct anvil_client *, const char *ident, uint32_t checksum, unsigned value);
void anvil_penalty_expire(struct anvil_client *, unsigned seconds);

#endif
