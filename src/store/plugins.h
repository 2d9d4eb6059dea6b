/* What the small plugins of mail_plugins do for a whole user (quota-acl-plugins 6, 7). */
#ifndef YARILO_STORE_PLUGINS_H
#define YARILO_STORE_PLUGINS_H

#include "store/store.h"

/* A session begins, a mail is delivered, a command runs: quota_over_flag is looked at, last_login is written (without waiting).
 * Plugins of mail_plugins that this server does not have are warned of, each once in a process; doveadm says it only with -D,
 * since scripts read what it prints. Not for sessions that come back from hibernation, nor for users whose mail others share. */
void mail_user_login(struct mail_user *);

/* What follows is done for this user, until it is called for another: charset_aliases are the process's. Ops of mailboxes do that by
 * themselves; whoever converts charsets outside of them calls it first. */
void mail_user_enter(const struct mail_user *);

#endif
