/* The homes of other users, asked from the auth service and kept for a minute: shared namespaces (%%h). */
#ifndef YARILO_RPC_AUTH_HOME_H
#define YARILO_RPC_AUTH_HOME_H

#include "rpc/auth_client.h"

/* One a process. `base_dir` holds the socket auth-userdb; service names the asker ("imap"). */
struct auth_homes;
struct auth_homes *auth_homes_new(const char *base_dir, const char *service);
void auth_homes_free(struct auth_homes *);   /* NULL is fine */
/* Has the form of mail_user_params.find_home; arg is the struct auth_homes. Waits for the service's answer. *home NULL: no such
 * user, or one without a home. */
int auth_homes_find(void *arg, const char *username, struct arena *, const char **home, struct error *);

#endif
