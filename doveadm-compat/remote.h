/* Mail commands that a doveadm-server runs: -S, doveadm_worker_count (doveadm 4, 8). */
#ifndef YARILO_DOVEADM_REMOTE_H
#define YARILO_DOVEADM_REMOTE_H

#include "doveadm.h"

/* Is the command to be run by a server? */
bool doveadm_is_remote(struct doveadm *);
/* Runs it there for each of the users, several at a time where the settings say so, and prints what comes; headers are
 * declared. The exit status of the whole: 75 also when a connection was lost and the rest not run. */
int doveadm_remote_run(struct doveadm *, const char *const *users, size_t count);

#endif
