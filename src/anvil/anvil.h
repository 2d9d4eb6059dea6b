/* anvil's tables: who is connected, and who guessed passwords wrong (ipc 6). Pure, so that tests reach them.
 *
 * Both tables are keyed by text from other processes, have caps, and every operation is O(1) on average. */
#ifndef YARILO_ANVIL_ANVIL_H
#define YARILO_ANVIL_ANVIL_H

#include "base/base.h"

#include <sys/types.h>
#include <time.h>

/* ---- connections ----------------------------------------------------------------------------------------------- */

struct anvil_connections;

struct anvil_connections *anvil_connections_new(void);
void anvil_connections_free(struct anvil_connections *);
/* owner: the process that speaks for `pid` (a dispatcher for its workers), 0 = pid itself. */
void anvil_connections_add(struct anvil_connections *, struct slice ident, pid_t, pid_t owner);
/* False: that pid has no such connection. */
bool anvil_connections_remove(struct anvil_connections *, struct slice ident, pid_t);
/* Everything of a process that has died, and what it spoke for. */
void anvil_connections_forget(struct anvil_connections *, pid_t);
uint32_t anvil_connections_count(const struct anvil_connections *, struct slice ident);
bool anvil_connections_has(const struct anvil_connections *, struct slice ident, pid_t);
void anvil_connections_each(const struct anvil_connections *,
                            void (*see)(void *arg, struct slice ident, pid_t, uint32_t count), void *arg);

/* ---- penalties ------------------------------------------------------------------------------------------------- */

struct anvil_penalties;

enum { ANVIL_PENALTY_EXPIRE_SECS = 3600, ANVIL_PENALTY_MOST = 65535 };

struct anvil_penalties *anvil_penalties_new(void);
void anvil_penalties_free(struct anvil_penalties *);
void anvil_penalties_expire_secs(struct anvil_penalties *, uint32_t secs);
/* *last = when it was raised last; 0 and 0 for the unknown. */
uint32_t anvil_penalties_get(struct anvil_penalties *, struct slice ident, time_t now, time_t *last);
/* A checksum (of a user name and password) that was seen for this ident already does not raise it: the same client
 * with the same wrong password is no attacker. 0: no checksum. */
void anvil_penalties_set(struct anvil_penalties *, struct slice ident, uint32_t checksum, uint32_t value, time_t now);
void anvil_penalties_each(struct anvil_penalties *, time_t now,
                          void (*see)(void *arg, struct slice ident, uint32_t penalty, time_t last, time_t update),
                          void *arg);

#endif
