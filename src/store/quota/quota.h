/* Quota: how much a user may store, asked before a save, told after commits and expunges (quota-acl-plugins 1).
 *
 * A root is a way of counting with its limits. It covers the user's own namespaces; a limit depends on the mailbox that is
 * saved into, usage is always of the whole root. Only where mail_plugins names `quota` does a user have one.
 *
 *     rule.c     "Trash:storage=+10%" and warnings
 *     user.c     the roots, from the settings
 *     usage.c    the backends: count (vsize headers of the indexes), dict, dirsize
 *     maildir.c  the backend with the file maildirsize
 *     check.c    may this be saved? what has changed?
 *     owner.c    the quota of another user, whose mailbox is saved into
 *     trash.c    the trash plugin: makes room
 *     clone.c    the quota_clone plugin: usage is copied into a dictionary
 *     over.c     quota_over_flag
 *     warning.c  scripts at crossed limits */
#ifndef YARILO_STORE_QUOTA_QUOTA_H
#define YARILO_STORE_QUOTA_QUOTA_H

#include "store/store.h"

struct quota;
struct quota_root;

struct quota_amount {
    uint64_t bytes, count;
};

/* ---- rule.c ---- */

struct quota_limit {
    int64_t value;                 /* bytes or messages */
    bool given, percent, relative; /* percent: of the default rule's */
};
struct quota_rule {
    const char *mailbox;           /* with * and ?; "*" = the default rule */
    bool ignore;
    struct quota_limit bytes, count;
    const char *backend;           /* "backend=": a text for the root's backend, which gives the limits; NULL = none */
};
/* ERROR_INVALID "Invalid rule bad: Invalid rule" ... */
int quota_rule_parse(struct arena *, const char *text, struct quota_rule *, struct error *);
struct quota_warning {
    bool below;                    /* '-': when usage falls below it */
    struct quota_limit bytes, count;
    const char *command;
};
int quota_warning_parse(struct arena *, const char *text, struct quota_warning *, struct error *);
/* The limits of a mailbox, 0 = none. False: nothing there counts. */
bool quota_limits(const struct quota_rule *rules, size_t count, const char *vname, struct quota_amount *);
/* The lines of a maildirsize: limits (0 = none) and the sum. `lines`: data lines. False: it is to be calculated again. */
bool quota_maildirsize_parse(struct slice file, struct quota_amount *limits, struct quota_amount *sum, unsigned *lines);

/* ---- user.c ---- */

/* When the user is opened: "Failed to initialize quota: ...". Without the plugin *out = NULL. */
int quota_open(struct mail_user *, struct quota **out, struct error *);
void quota_close(struct quota **);                 /* NULL is fine */
/* Roots in their order; NULL: no more. Hidden ones only if asked for. */
struct quota_root *quota_root_at(const struct mail_user *, size_t i);
const char *quota_root_name(const struct quota_root *);
/* By the name that a client gives; an administrator's session has "OWNER:NAME" too, for owners of the shared mailboxes that
 * it has seen. NULL: there is none. */
struct quota_root *quota_root_find(const struct mail_user *, struct slice name);
/* The name with its owner's in front where the root is not the user's. */
const char *quota_root_name_for(const struct quota_root *, const struct mail_user *, struct arena *);
/* Writes a limit where quota_set says (nothing else changes: whoever reads that dictionary obeys it). Only for administrators
 * (mail_user_is_admin). The text for the client is in the error; ERROR_TEMPORARY and the like are for the log too. */
int quota_root_set(struct quota_root *, struct slice resource, uint64_t value, struct error *);
bool quota_root_hidden(const struct quota_root *);
bool quota_root_covers(const struct quota_root *, const struct mail_namespace *);
bool quota_root_counts(const struct quota_root *);  /* messages too, not only bytes */
/* The limits of the default rule. */
struct quota_amount quota_root_limits(const struct quota_root *);
int quota_usage(struct quota_root *, struct quota_amount *, struct error *);
/* Counts anew, whatever was written down. */
int quota_recalculate(struct quota_root *, struct error *);

/* ---- check.c ---- */

/* May `size` more bytes be saved into the mailbox, beside what is staged already? ERROR_QUOTA, ERROR_LIMIT with the text for
 * the client. Deliveries have the grace. */
int quota_check(struct mailbox *, uint64_t size, bool delivery, struct error *);
/* The same before the message has come, so that a client need not send what will be refused. *unknown: usage is not known yet, which
 * is logged; the message is not asked about again (mail_meta.quota_unknown). */
int quota_check_ahead(struct mailbox *, uint64_t size, bool *unknown, struct error *);
/* Staged and not committed yet: counts in checks of the same owner until it is taken back. */
void quota_staged(struct mailbox *, uint64_t size, bool on);
/* Published, or really gone. */
void quota_saved(struct mailbox *, const struct quota_amount *);
void quota_expunged(struct mailbox *, const struct quota_amount *);
/* A mailbox went with all its messages. */
void quota_unknown(struct mail_user *);
/* What a message counts: virtual or physical size. */
bool quota_uses_virtual(const struct mail_user *);
bool quota_active(struct mailbox *);               /* is there a root at all? */
/* Must saved and expunged be told? (Not where only indexes are summed up.) */
bool quota_wants_changes(struct mailbox *);

/* ---- clone.c ---- */

/* Before the user is closed: writes what a program without a loop still has to write (quota_clone). */
void quota_flush(struct mail_user *);

/* ---- over.c ---- */

/* Runs quota_over_script if quota_over_flag does not say what is: when a user was opened, or (`used`) when somebody asks for
 * his usage, whichever quota_over_flag_lazy_check wants. Once a user. */
void quota_over_check(struct mail_user *, bool used);

#endif
