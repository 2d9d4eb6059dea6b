/* Mail commands: which users, their settings and privileges, one open user after the other (doveadm 4). */
#ifndef YARILO_DOVEADM_MAIL_H
#define YARILO_DOVEADM_MAIL_H

#include "doveadm.h"
#include "print.h"
#include "store/store.h"

struct mail_command {
    /* Checks the arguments and starts the output, once, before any user is opened. 0, or the exit status. May be NULL. */
    int (*prepare)(struct doveadm *);
    /* One user; the exit status. */
    int (*run)(struct doveadm *, struct mail_user *);
};

/* Runs the command for the users that -u, -A, -F or $USER name; the exit status of the whole. */
int doveadm_mail_run(struct doveadm *, const struct mail_command *);
/* Purges every namespace; carries out the moves that altmove has chosen. */
int doveadm_purge_user(struct doveadm *, struct mail_user *);

/* print_init for mail commands: adds the user's name when several users are visited. */
void doveadm_mail_print(struct doveadm *, const char *formatter);

/* Logs "what: text" for a failure; returns the exit status. */
int doveadm_mail_failed(struct doveadm *, const struct error *, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A mailbox by its name (UTF-8), open and synced; NULL with the error logged ("Can't open mailbox ..." is the caller's). */
int doveadm_mailbox_open(struct doveadm *, struct mail_user *, const char *name, unsigned flags, struct mailbox **,
                         struct error *);
int doveadm_mailbox_sync(struct mailbox *, struct mailbox_view *, enum sync_why, struct error *);

/* Names that match the masks, in list order; a mask without wildcard is taken as it is. Only what exists, with
 * private_only only of private namespaces. In the arena. */
int doveadm_mailbox_match(struct doveadm *, struct mail_user *, const char *const *masks, size_t n, bool private_only,
                          const char ***names, size_t *count, struct error *);

#endif
