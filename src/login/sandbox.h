/* What a process that talks to clients before they have logged in can still do (login_sandbox.c). */
#ifndef YARILO_LOGIN_SANDBOX_H
#define YARILO_LOGIN_SANDBOX_H

#include <stdbool.h>

/* No files are written, no cores, no processes: before privileges are dropped. */
void login_sandbox_limits(void);
/* Last: no_new_privs, seccomp, Landlock. `ordinary_user`: the process had no root to give up, nothing is chrooted. */
void login_sandbox_enter(bool ordinary_user);

#endif
