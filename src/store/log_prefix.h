/* What stands before a user's lines in the log (mail_log_prefix). */
#ifndef STORE_LOG_PREFIX_H
#define STORE_LOG_PREFIX_H

#include "store/store.h"

/* For a user that is about to be opened with these settings and parameters: the variables of mail_user_expand, but not the home,
 * which is not known yet. A variable that there is not becomes UNSUPPORTED_VARIABLE_..., as for Dovecot; never NULL. */
char *mail_user_log_prefix(struct settings *, const struct mail_user_params *, struct arena *);

#endif
