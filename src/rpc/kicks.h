/* Kicks: anvil passes `KICK ident pid` of doveadm on to those who have sessions (ours beside Dovecot's anvil protocol). */
#ifndef YARILO_RPC_KICKS_H
#define YARILO_RPC_KICKS_H

#include "rpc/service.h"

struct kicks;

/* Connects to anvil, and again when the connection ends. Before privileges are dropped: the socket is root's. `kick` is
 * told the ident as it was sent to anvil (escaped), and the pid that was named there. */
struct kicks *kicks_start(struct service *, void (*kick)(void *arg, struct slice ident, pid_t), void *arg);

#endif
