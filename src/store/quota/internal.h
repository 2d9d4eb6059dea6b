/* What the files of src/store/quota share among themselves. */
#ifndef YARILO_STORE_QUOTA_INTERNAL_H
#define YARILO_STORE_QUOTA_INTERNAL_H

#include "store/dict.h"
#include "store/internal.h"
#include "store/quota/quota.h"

struct quota_backend {
    const char *name;
    int (*init)(struct quota_root *, struct error *);              /* NULL = nothing to do */
    int (*usage)(struct quota_root *, struct quota_amount *, struct error *);
    int (*recalculate)(struct quota_root *, struct error *);       /* NULL: usage is always true */
    int (*change)(struct quota_root *, int64_t bytes, int64_t count, struct error *);   /* NULL: needs not to be told */
    bool no_count;                                                 /* STORAGE only */
};

struct quota_root {
    struct quota *quota;
    const struct quota_backend *backend;
    const char *name, *key;        /* key: "quota2", for messages and names of rules */
    const char *ns_prefix;         /* ns=; NULL = all of the user's */
    bool hidden, no_enforcing, ignore_unlimited;
    const char *dict_uri, *dict_user;
    struct dict *dict;
    VEC(struct quota_rule) rules;
    VEC(struct quota_warning) warnings;
    struct quota_amount limits;    /* of the default rule */
    struct quota_amount before;    /* usage at the last check, for warnings */
};

struct quota {
    struct mail_user *user;
    struct arena *arena;
    VEC(struct quota_root *) roots;
    const char *message;           /* quota_exceeded_message */
    uint64_t max_mail_size;
    struct quota_limit grace;
    bool vsizes;
    struct quota_amount staged;
};

extern const struct quota_backend quota_backend_maildir;
/* What is saved with another user is told to the file of that user, if he has one. */
int quota_maildir_owner_change(const struct mail_namespace *, int64_t bytes, int64_t count, struct error *);
const struct quota_backend *quota_backend_find(struct slice name);
/* Sums up all mailboxes of the root. */
int quota_count(struct quota_root *, struct quota_amount *, struct error *);
/* The mailboxes' folders, one after the other. */
int quota_each_folder(struct quota_root *, int (*see)(void *arg, const struct mailbox_place *, struct error *), void *arg, struct error *);
void quota_warn(struct quota_root *, const struct quota_amount *before, const struct quota_amount *after);

#endif
