/* Script services: a program that runs behind a socket (ipc 15). */
#ifndef YARILO_STORE_SCRIPT_H
#define YARILO_STORE_SCRIPT_H

#include "store/store.h"

/* Starts the script behind `path` (relative ones are below base_dir) with the words as its arguments, separated by blanks.
 * `answer`: it says "+" or "-" when it has ended, on the descriptor that is returned; else nobody listens. Never waits. -1:
 * "net_connect_unix(PATH) failed: ...". */
int script_start(const struct mail_user *, struct slice path, struct slice words, bool answer, struct error *);

#endif
