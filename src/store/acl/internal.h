/* What the files of src/store/acl share among themselves. */
#ifndef YARILO_STORE_ACL_INTERNAL_H
#define YARILO_STORE_ACL_INTERNAL_H

#include "store/acl/acl.h"
#include "store/internal.h"

#include <uthash.h>

/* A file as it was last read. */
struct acl_file {
    char *path;
    UT_hash_handle hh;
    struct arena *arena;
    struct stat st;
    bool known, exists, failed, fresh;  /* fresh: it had changed so shortly before that its times may stay as they are */
    struct error error;
    struct acl_entries entries;         /* of a dovecot-acl, or a file of a global folder */
    struct acl_patterns patterns;       /* of a global file */
};

struct acl {
    struct mail_user *user;
    struct arena *arena;
    const char *name;              /* acl_user */
    const char *const *groups;
    const char *global;            /* path; NULL = none */
    bool global_is_folder, globals_only, defaults_from_inbox, anyone;
    const char *const *ignored;    /* patterns of namespace prefixes, NULL-ended */
    const char *dict_uri;          /* acl_shared_dict; NULL = none */
    struct dict *dict;             /* once it was needed */
    struct acl_file *files;        /* uthash by path */
};

/* The parsed file; one that does not exist has no entries. */
int acl_file_get(struct acl *, const char *path, bool patterns, const struct acl_file **, struct error *);
void acl_file_forget(struct acl *, const char *path);
void acl_files_free(struct acl *);
/* Path of the list that stands for mailboxes without one; NULL: there can be none. */
const char *acl_default_path(const struct mail_namespace *, struct arena *);
/* The parent's place; the namespace's own where there is none. */
struct mailbox_place acl_parent_of(const struct mailbox_place *, struct arena *);
/* What follows from the lists: dovecot-acl-list of the namespace, acl_shared_dict of its owner. STEP_WAIT: somebody has the
 * dictionary's lock. */
enum step acl_known_step(struct mail_namespace *, struct error *);
/* Where dovecot-acl-list lies: the root with MAILBOXDIR. */
const char *acl_list_folder(const struct mail_namespace *, struct arena *);

#endif
