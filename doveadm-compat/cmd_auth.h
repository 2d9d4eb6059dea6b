/* What the commands that ask auth share. */
#ifndef YARILO_DOVEADM_CMD_AUTH_H
#define YARILO_DOVEADM_CMD_AUTH_H

#include "doveadm.h"
#include "rpc/auth_client.h"

/* The repeated option -x (auth-info); *extra must live as long as the info. */
void doveadm_auth_info(struct doveadm *, struct auth_user_info *, struct rpc_fields *extra);
/* "auth-master: WHAT(NAME): reason" to the log; `user`: under that user's prefix, as the storage service writes it. */
void doveadm_auth_error(const char *user, const char *what, const struct error *);

/* The reply of a lookup: the user, then the fields; a name by itself is followed by blanks only, as the real program does. */
void doveadm_auth_print(const char *kind, const char *asked, const char *found, const struct rpc_fields *);

#endif

