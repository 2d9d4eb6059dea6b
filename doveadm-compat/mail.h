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

/* Logs "what: text" for a failure; returns the exit status. _by: with the reason where the other says that it is in the log;
 * what reads, as the real one does. */
int doveadm_mail_failed_as(struct doveadm *, const struct error *, bool reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#define doveadm_mail_failed(d, e, ...) doveadm_mail_failed_as(d, e, false, __VA_ARGS__)
#define doveadm_mail_failed_by(d, e, ...) doveadm_mail_failed_as(d, e, true, __VA_ARGS__)

/* Another user's mail as the source of a copy, read as whoever the program is by now. With a location: that mail, as if it
 * were the user's (no look-up when it is the user at work). Errors are logged; the exit status. */
struct doveadm_source {
    struct mail_user *user;
    struct settings *set;
    struct auth_homes *homes;
};
int doveadm_source_open(struct doveadm *, const char *name, const char *location, struct doveadm_source *);
void doveadm_source_close(struct doveadm_source *);

/* A mailbox by its name (UTF-8), open and synced. With MAILBOX_OPEN_SAVE the right to save there is asked for,
 * otherwise none. */
int doveadm_mailbox_open(struct doveadm *, struct mail_user *, const char *name, unsigned flags, struct mailbox **,
                         struct error *);
int doveadm_mailbox_sync(struct mailbox *, struct mailbox_view *, enum sync_why, struct error *);

/* 32 hex digits. */
bool doveadm_guid_parse(const char *, unsigned char guid[16]);
/* Gives a mailbox this identity, whatever it has; zeros leave what is there. */
int doveadm_mailbox_identify(struct doveadm *, const struct mailbox_place *, struct mailbox_identity *, struct error *);

enum doveadm_match {
    DOVEADM_MATCH_PRIVATE = 1,    /* only of private namespaces */
    DOVEADM_MATCH_LISTED = 2,     /* also what LIST shows without being a mailbox that exists */
    DOVEADM_MATCH_SUBSCRIBED = 4, /* what is subscribed; with LISTED, as that names it whether it exists or not */
};

/* Names that match one of the masks, in list order, INBOX last; without masks all. Only what exists. A single mask without
 * wildcard is taken as it is; wildcards of a single mask stay within their namespace. In the arena. */
int doveadm_mailbox_match(struct doveadm *, struct mail_user *, const char *const *masks, size_t n, enum doveadm_match,
                          const char ***names, size_t *count, struct error *);

#endif
