/* Access control lists in Dovecot's vfile form (quota-acl-plugins 2, RFC 4314).
 *
 * Only where mail_plugins names `acl` and plugin { acl } is set does a user have a `struct acl`; without it everybody may
 * do everything in the namespaces that he has, as before. What a user may do with a mailbox is asked through
 * mailbox_rights and mailbox_need (store.h), never from here; this header is for those who read and change the lists
 * themselves: GETACL, SETACL, doveadm acl.
 *
 *     entry.c    an entry, its line in a file, its identifiers
 *     file.c     dovecot-acl of a mailbox and the global ones, read when they have changed
 *     eval.c     entries -> what I may
 *     change.c   SETACL: the file rewritten under its dotlock
 *     known.c    dovecot-acl-list and acl_shared_dict, which follow from the files */
#ifndef YARILO_STORE_ACL_ACL_H
#define YARILO_STORE_ACL_ACL_H

#include "store/store.h"

struct acl;

/* In the order in which they are applied: later ones replace earlier ones. */
enum acl_kind { ACL_ANYONE, ACL_AUTHENTICATED, ACL_GROUP, ACL_OWNER, ACL_USER, ACL_GROUP_OVERRIDE };

struct acl_entry {
    enum acl_kind kind;
    const char *name;              /* of a user or group; else NULL */
    bool has_rights, has_negative; /* there is a line with, without '-' (it may give nothing) */
    unsigned rights, negative;     /* MAILBOX_RIGHT_... */
    const char *more, *more_negative;  /* rights that nobody here knows, by name, with spaces between; NULL = none */
    bool global;
};
struct acl_entries {
    struct acl_entry *at;
    size_t count, room;
};

/* ---- entry.c ---- */

/* "lookup" of a single bit; the list of rights is sorted by these names. */
const char *acl_right_name(unsigned right);
unsigned acl_right_of_name(struct slice name);        /* 0: unknown */
unsigned acl_right_of_letter(char letter);            /* RFC 4314 ones; 0: unknown */
/* All rights one after the other in stored order: for (i = 0; (right = acl_right_at(i)) != 0; i++). */
unsigned acl_right_at(size_t i);
char acl_right_letter(unsigned right);
void acl_put_letters(struct buffer *, unsigned rights);

/* "user=bob", "anyone" ...; false: unknown. The name lives in the arena. */
bool acl_identifier_parse(struct arena *, struct slice text, struct acl_entry *);
void acl_identifier_put(struct buffer *, const struct acl_entry *);

/* A line without its LF: not empty, no comment. ERROR_CORRUPT with the reason. */
int acl_line_parse(struct arena *, struct slice line, struct acl_entry *, struct error *);
/* One or two lines. */
void acl_line_put(struct buffer *, const struct acl_entry *);
/* A whole dovecot-acl; entries come out sorted, equal ones merged. `path` is for the message. */
int acl_text_parse(struct arena *, struct slice text, const char *path, struct acl_entries *, struct error *);
/* A global file: lines with a pattern in front. */
struct acl_pattern {
    const char *pattern;
    struct acl_entry entry;
};
struct acl_patterns {
    struct acl_pattern *at;
    size_t count, room;
};
int acl_global_parse(struct arena *, struct slice text, const char *path, struct acl_patterns *, struct error *);
void acl_sort(struct acl_entries *);
int acl_compare(const struct acl_entry *, const struct acl_entry *);   /* globals last, then by kind and name */

/* ---- eval.c ---- */

struct acl_me {
    const char *user;
    bool owner;                    /* of the namespace */
    const char *const *groups;     /* NULL-ended */
};
/* What sorted entries give me. `matched` false: none was for me (nor am I the owner), defaults count. */
unsigned acl_evaluate(const struct acl_entries *, const struct acl_me *, bool *matched);
/* Does anybody but the owner see a mailbox with these? */
bool acl_shows_others(const struct acl_entries *);

/* ---- user.c, file.c ---- */

/* When the user is opened. ERROR_INVALID: "Unknown ACL backend: x". No plugin: *out = NULL. */
int acl_open(struct mail_user *, struct acl **out, struct error *);
void acl_close(struct acl **);                     /* NULL is fine */
/* Do lists count in this namespace? */
bool acl_applies(const struct mail_namespace *);
bool acl_may_grant_anyone(const struct mail_user *);
const char *acl_user_name(const struct mail_user *);    /* the identity that rights are for */
bool acl_is_owner(const struct mail_namespace *);
const char *const *acl_groups(const struct mail_user *);   /* NULL-ended */

/* The lists of a mailbox, own and global ones, sorted; *has_file: there is a dovecot-acl. In the arena. */
int acl_read(const struct mailbox_place *, struct arena *, struct acl_entries *, bool *has_file, struct error *);
/* What I may; with fewer look-ups than reading. */
int acl_rights(const struct mailbox_place *, unsigned *rights, struct error *);
/* The same for the parent's place, or the namespace's default: CREATE. */
int acl_parent_rights(const struct mailbox_place *, unsigned *rights, struct error *);
/* Path of the mailbox's dovecot-acl; NULL: it can have none. */
const char *acl_file_path(const struct mailbox_place *, struct arena *);

/* ---- change.c ---- */

enum acl_how { ACL_SET, ACL_ADD, ACL_REMOVE, ACL_CLEAR };
struct acl_change {
    struct acl_entry who;          /* kind and name */
    bool negative;
    enum acl_how how;              /* CLEAR: the rights are taken away as a whole, nothing remains of them */
    unsigned rights;
    const char *more;              /* set together with the rights; NULL = none */
};
/* Rewrites the file, then what follows from it. The caller has checked the rights. */
struct store_op *acl_update(const struct mailbox_place *, const struct acl_change *);
/* A new mailbox gets its parent's list (or the namespace's default). Best effort but for errors of the file system. */
int acl_copy_from_parent(const struct mailbox_place *, struct error *);

/* ---- known.c ---- */

/* Vnames of mailboxes with a list that shows them to others come into dovecot-acl-list and acl_shared_dict. Rebuilds both
 * for the namespace. */
int acl_known_rebuild(struct mail_namespace *, struct error *);

#endif
