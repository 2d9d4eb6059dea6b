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
    int (*rule)(struct quota_rule *, struct error *);              /* of its `backend`; NULL: such rules are not supported */
    bool no_count;                                                 /* STORAGE only */
    bool has_limits;                                               /* usage() may set the root's limits */
};

struct quota_root {
    struct quota *quota;
    const struct quota_backend *backend;
    const char *name, *key;        /* key: "quota2", for messages and names of rules */
    const char *ns_prefix;         /* ns=; NULL = all of the user's */
    bool hidden, no_enforcing, ignore_unlimited;
    const char *dict_uri, *dict_user;
    struct dict *dict;
    struct {
        const char *mount;         /* NULL: where the mail is */
        bool no_user, no_group, inodes;
    } fs;
    VEC(struct quota_rule) rules;
    VEC(struct quota_warning) warnings;
    struct quota_amount limits;    /* of the default rule */
    const char *set_uri;           /* quota_set: where SETQUOTA writes; NULL = nothing can be set */
    struct dict *set;
    struct quota_amount before;    /* usage at the last check, for warnings */
};

struct trash;
/* "100S,5C", maildirsize's first line. */
int quota_maildir_rule(struct quota_rule *, struct error *);

struct quota {
    struct mail_user *user;
    struct arena *arena;
    VEC(struct quota_root *) roots;
    const char *message;           /* quota_exceeded_message */
    uint64_t max_mail_size;
    struct quota_limit grace;
    bool vsizes;
    bool recalculating;            /* for the log: why sizes are summed up */
    struct quota_amount staged;
    struct quota_clone *clone;     /* clone.c's; NULL = usage is not copied anywhere */
    struct trash *trash;           /* trash.c's; NULL = nothing makes room */
    bool over_checked;             /* quota_over_flag */
};

extern const struct quota_backend quota_backend_maildir;
extern const struct quota_backend quota_backend_fs;
/* "user", "group", "inode_per_mail", "mount=PATH"; -1: none of these. */
int quota_fs_parameter(struct quota_root *, struct slice text);
const struct quota_backend *quota_backend_find(struct slice name);
/* Whose quota a mailbox counts for; NULL = nobody's. */
struct quota *quota_of(struct mailbox *);
/* Of another user; NULL = none, or he cannot be asked. */
struct quota *quota_of_owner(struct quota *, const char *name);
bool quota_root_covers_box(const struct quota_root *, const struct mailbox *);
/* What the mailbox is called where rules are looked for: its owner's name of it. */
const char *quota_name_of(const struct quota *, struct arena *, const struct mailbox *);
void quota_trash_open(struct quota *);
void quota_trash_close(struct quota *);
/* Expunges from the mailboxes of the trash plugin what makes so much room. False: nothing is gone. */
bool quota_trash_clean(struct quota *, const struct quota_amount *need);
void quota_clone_open(struct quota *);
void quota_clone_changed(struct quota *);
/* Tells a script service; `why` is for the log, NULL = none. */
void quota_run_script(struct mail_user *, const char *command, const char *why);
/* Sums up all mailboxes of the root. */
int quota_count(struct quota_root *, struct quota_amount *, struct error *);
/* The mailboxes' folders, one after the other. */
int quota_each_folder(struct quota_root *, int (*see)(void *arg, const struct mailbox_place *, struct error *), void *arg, struct error *);
void quota_warn(struct quota_root *, const struct quota_amount *before, const struct quota_amount *after);

#endif
