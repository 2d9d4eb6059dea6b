/* What the files of src/store share among themselves. Not for other folders. */
#ifndef YARILO_STORE_INTERNAL_H
#define YARILO_STORE_INTERNAL_H

#include "store/dict.h"
#include "store/driver.h"

/* ---- user.c ---- */
struct mail_auto { /* a mailbox {} block of a namespace */
    struct mail_auto *next;
    const char *vname;           /* with the namespace's prefix */
    const char *special_use;     /* NULL = none */
    const char *comment;         /* NULL = none */
    bool create, subscribe, pattern;
    unsigned autoexpunge_secs, autoexpunge_max;   /* 0 = no */
};
struct mail_user {
    unsigned refs;
    struct settings *settings;
    struct arena *arena;
    const char *name, *home, *service, *session_id, *local_ip, *remote_ip;
    const char *const *fields;
    struct log log, *log_p;
    bool no_notify;
    struct mail_namespace *namespaces, *inbox;
    struct dict *attributes;     /* mail_attribute_dict; NULL = not opened yet (attribute.c) */
    struct dict *shared;         /* acl_shared_dict; NULL = not opened yet (shared.c) */
    int (*find_home)(void *arg, const char *username, struct arena *, const char **home, struct error *);
    void *find_home_arg;
    unsigned instances;          /* of shared namespaces */
    struct coding *coding;       /* coding/user.c's; NULL = not asked yet */
    bool welcoming;              /* the script of the welcome plugin runs, and SELECT waits for it */
    bool keep_special_uses;      /* those that clients have set count (special_use.c) */
    bool unchecked;              /* rights are not asked for (doveadm) */
    struct acl *acl;             /* acl/user.c's; NULL = no access control lists */
    struct quota *quota;         /* quota/user.c's; NULL = no quota */
    struct notify *notify;       /* notify.c's; NULL = nobody listens */
    struct mail_others *others;  /* other.c's; NULL = nobody was asked about */
    const char *charset_aliases; /* charset_alias.c's; NULL = none */
};
int coding_open(struct mail_user *, struct error *);
void coding_close(struct coding **);   /* NULL is fine */
/* dict_open for the user; `name`: whose private keys, NULL or "" = his. */
int mail_user_dict(struct mail_user *, const char *uri, const char *name, struct dict **, struct error *);
bool mail_user_plugin(const struct mail_user *, const char *name);     /* is it in mail_plugins? */
char mail_user_list_escape(const struct mail_user *);                  /* of the listescape plugin; 0 = not loaded */
const struct mail_auto *mail_namespace_autos(const struct mail_namespace *);
bool mail_auto_matches(const struct mail_auto *, const char *vname);
const struct mail_auto *mailbox_auto_of(const struct mailbox_place *);   /* NULL = no block names it */
/* Special-use flags of a name, patterns included; NULL = none. */
const char *mailbox_special_use(const struct mail_namespace *, const char *vname);
/* ---- special_use.c ---- */
const char *mailbox_special_use_kept(struct mailbox *, struct arena *);   /* NULL = none */
struct store_op *mailbox_special_use_keep(struct mailbox *, const char *use);
/* All kept ones of a user as pairs of GUID and use, sorted; VEC_FREE. */
void special_uses_load(struct mail_user *, struct arena *, struct dict_pairs *);
const char *special_uses_find(const struct dict_pairs *, struct mail_user *, struct arena *, const char *vname);

/* ---- alias.c: the mailbox_alias plugin ---- */
/* Is the name an alias? *old is the mailbox that it stands for. */
bool mailbox_alias_of(const struct mailbox_place *, struct arena *, struct mailbox_place *old);
bool mailbox_alias_exists(const struct mailbox_place *);               /* its link is there */
bool mailbox_has_aliases(const struct mailbox_place *old);             /* links to it are there */
int mailbox_alias_link(const struct mailbox_place *, const struct mailbox_place *old, struct error *);

/* ---- lazy_expunge.c: the plugin of that name ---- */
/* Where messages of this mailbox go when they are expunged; false: they are really gone. */
bool lazy_expunge_target(struct mailbox *, struct arena *, struct mailbox_place *target);
bool lazy_expunge_namespace(const struct mail_namespace *);            /* the one that they go to */
/* Copies there, makes the target where it is missing. UIDs that are gone are left out. */
struct store_op *lazy_expunge_copy(struct mailbox *, const struct mailbox_place *target, const uint32_t *uids, size_t count);
struct store_op *lazy_expunge_all(struct mailbox *, const struct mailbox_place *target);   /* NULL: it is empty */

/* ---- shared.c: namespaces of other users ---- */
/* Turns a namespace whose prefix has %-variables left into a template; its prefix becomes what stands before them. */
int shared_template_init(struct mail_namespace *, const char *location, struct error *);
/* The owner's namespace that a name lies in; *out NULL: there is no such owner, or the name leads to none. */
int shared_instance_find(struct mail_namespace *template, const char *vname, struct mail_namespace **out, struct error *);
/* Instances of all owners who share something with this user (acl_shared_dict), then the instances' list. */
int shared_instances_load(struct mail_namespace *template, struct error *);
struct mail_namespace *shared_instances(const struct mail_namespace *template);   /* list */
void shared_template_close(struct mail_namespace *);

/* ---- other.c: other users ---- */
/* Opened once, borrowed; NULL: there is no such user, or the log says why ("WHY NAME: ...") he cannot be opened. */
struct mail_user *mail_user_other(struct mail_user *, const char *name, const char *why);
/* The owner of a mailbox in a shared namespace, if that is not its user. */
const char *mailbox_foreign_owner(const struct mailbox *);
void mail_others_close(struct mail_user *);

/* ---- charset_alias.c ---- */
void charset_alias_open(struct mail_user *);
void charset_alias_close(struct mail_user *);

/* ---- welcome.c: the plugin of that name ---- */
bool welcome_wanted(const struct mail_user *);
void welcome_run(struct mail_user *);                                  /* INBOX has just been made */

/* ---- last_login.c: the plugin of that name ---- */
void last_login_write(struct mail_user *);

/* ---- plugin.c: mail_plugins and plugin {} of a user ---- */
/* The value, expanded, in the arena; *value NULL: not set. */
int mail_user_plugin_text(const struct mail_user *, struct arena *, const char *key, const char **value, struct error *);
bool mail_user_plugin_bool(const struct mail_user *, const char *key);
/* Star and question mark as in a shell, separators too. Patterns are the configuration's own. */
bool store_wildcard_match(const char *pattern, const char *text);

/* ---- name.c ---- */
/* The namespace of a name, longest prefix first; templates of shared ones are not resolved. NULL: none. */
struct mail_namespace *mail_namespace_find(const struct mail_user *, const char *vname);
/* "Public" of "Public/"; in the arena. */
const char *mail_namespace_root_name(const struct mail_namespace *, struct arena *);
const char *mailbox_vname_of(const struct mail_namespace *, struct arena *, const char *name);
bool mailbox_name_storable(const struct mail_storage *, const char *name);
/* One part of a storage name without its escapes; in the arena. */
const char *mailbox_part_unescape(const struct mail_storage *, struct arena *, struct slice part);
/* The other way. `first`: the name begins with it. */
const char *mailbox_part_escape(const struct mail_storage *, struct arena *, struct slice part, bool first);

/* ---- op.c ---- */
struct op_class {
    enum step (*run)(struct store_op *, struct budget *, struct error *);
    void (*end)(struct store_op *);       /* releases what it holds; also when cancelled */
};
struct store_op {
    const struct op_class *class;
    struct store_op *prev, *next;         /* in mailbox.waiting */
    void (*wake)(void *arg);
    void *wake_arg;
    struct mailbox *box;                  /* whose job this is, or for which it waits */
    struct store_op *inner;               /* runs first: its waiting is ours */
    bool queued, dead, async;             /* async: something will wake us; no polling */
    unsigned retry_ms, tries;
    unsigned retry_most;                  /* milliseconds; 0 = as always */
    uint64_t wait_since_ns;
};
void *store_op_new(size_t size, const struct op_class *);   /* the struct begins with a struct store_op */
/* The mailbox's job is ours: true. Else we are queued and woken when it is free. */
bool store_op_take(struct store_op *, struct mailbox *);
void store_op_give(struct store_op *);
void store_op_wake(struct store_op *);
/* Steps op->inner and frees it when it has ended; STEP_DONE also when there is none. */
enum step store_op_inner(struct store_op *, struct budget *, struct error *);
/* fsync through the pool; *running goes false when done, with the result in *e. The op is woken. */
struct store_fsync;
struct store_fsync *store_fsync_start(struct store_op *, const int *fds, size_t n);
bool store_fsync_done(struct store_fsync *, int *result, struct error *);
void store_fsync_free(struct store_fsync **);   /* waits for the threads: descriptors may be closed then */

/* ---- mailbox.c ---- */
struct expunge_notes {                     /* commit.c: of the batch that is being made */
    const struct index_batch *batch;
    uint32_t *lazy_uids;                   /* lazy_expunge: to be copied first */
    size_t lazy_count, lazy_room;
    uint64_t gone_bytes, gone_count;       /* what the quota gets back */
    bool moved;                            /* they were copied elsewhere: plugins are told */
};
struct mailbox_view {
    struct mailbox *box;
    struct index_view *view;
    bool read_only;
    struct index_ranges recent;
    struct expunge_notes notes;
    bool autoexpunge;                      /* all its expunges are autoexpunge's: plugins are told */
};
void mailbox_wake_watches(struct mailbox *, const struct mailbox_watch *except);
void mailbox_set_gone(struct mailbox *);
void mailbox_undelete(struct mailbox *);   /* change.c: its deletion was begun by a process that died */
/* The open object of this place, not referenced; NULL. */
struct mailbox *mailbox_find_open(const struct mailbox_place *);
int mailbox_not_found(const struct mailbox_place *, struct error *);
int mailbox_check_gone(struct mailbox *, struct error *);   /* -1: it was deleted while it was open */

/* ---- private.c: INDEXPVT ---- */
enum { PRIVATE_FLAGS = INDEX_SEEN };
int private_open(struct mailbox *, struct error *);    /* box->private, where the location has one */
/* Levels it with the shared index, which has just been synced, and commits this user's flags (NULL = none). */
enum step private_sync(struct mailbox *, struct index_batch *own, struct error *);
void private_follow(struct mailbox *);                 /* the same, best effort: after a sync */
uint32_t private_unseen(struct mailbox *);             /* the mailbox has one */
uint8_t private_flags_of(struct mailbox *, uint32_t uid, uint8_t flags);   /* the flags as this user sees them */

/* ---- mail.c ---- */
uint32_t mail_cache_flags(const struct mime_part *root, bool data);   /* of cache field "flags" (index-format 9.7) */
/* mail_header_fields for one field, if that costs no look at the message. */
bool mail_cached_header(struct mail *, struct slice name, struct slice *block);

/* mail_parts without a look into the cache: for what falls off by the way. */
int mail_parse(struct mail *, struct error *);
/* Can mail_size_virtual tell it without the message's bytes? */
bool mail_size_virtual_known(struct mail *);

/* ---- save_cache.c: what a save puts into the index cache ---- */
void save_cache_parse(struct staged *);      /* from the staged bytes, whose descriptor is open; best effort */
void save_cache_copy(struct staged *, struct mailbox *from, uint32_t uid);   /* from the cache of the copied message */

/* ---- folder.c: mailboxes as folders ---- */
/* Storage names that exist below a storage, sorted: containers too. */
struct folder_name {
    const char *name;            /* storage name */
    bool selectable;
};
struct folder_names {
    struct folder_name *at;
    size_t count, room;
};
int folder_list(const struct mail_storage *, struct arena *, struct folder_names *, struct error *);
int folder_exists(const struct mail_storage *, const char *name, enum mailbox_existence *, struct error *);
int folder_create(const struct mail_storage *, const char *name, bool directory, struct error *);
int folder_delete(const struct mail_storage *, const char *name, struct error *);
int folder_rename(const struct mail_storage *, const char *from, const struct mail_storage *, const char *to,
                  struct error *);
/* Removes what a delete that did not end has left, after an hour. */
void folder_clean_trash(const struct mail_storage *);
bool folder_has_children(const struct mail_storage *, const char *name);
/* mkdir -p of a folder of INDEX or CONTROL, modes of the mailbox. */
int folder_make(const char *path, const struct mail_modes *, struct error *);
int folder_remove_tree(const char *path, struct error *);

/* ---- list_layout.c: LAYOUT=index (5.4) ---- */
/* The folder of a mailbox; false: the tree has no such mailbox. */
bool list_layout_guid(struct mail_storage *, const char *name, unsigned char guid[16]);
int list_layout_exists(struct mail_storage *, const char *name, enum mailbox_existence *, struct error *);
int list_layout_list(struct mail_storage *, struct arena *, struct folder_names *, struct error *);
/* Makes the node, or turns a container into a mailbox; guid NULL: a container. The list index's lock is taken, waiting a
 * moment. ERROR_EXISTS. */
int list_layout_create(struct mail_storage *, const char *name, const unsigned char guid[16], struct error *);
/* A new mailbox: its folder is called so until list_layout_name gives it the name, or list_layout_forget removes the folder. */
void list_layout_begin(struct mail_storage *, const char *name, const unsigned char guid[16]);
int list_layout_name(struct mail_storage *, const char *name, struct error *);   /* 0 also when nothing was begun */
void list_layout_forget(struct mail_storage *, const char *name);
/* force-resync: folders without a name are removed or get one. */
void list_layout_adopt(struct mail_storage *);
int list_layout_delete(struct mail_storage *, const char *name, struct error *);
int list_layout_rename(struct mail_storage *, const char *from, const char *to, struct error *);
/* Writes the mailbox's name into its own index (5.6). Best effort. */
void list_layout_box_name(struct mailbox *);

/* ---- list_lock.c: mailboxes.lock (4.2) ---- */
struct list_lock;
enum step list_lock_try(const struct mail_storage *, struct list_lock **, struct error *);
void list_lock_release(struct list_lock **);

/* ---- mailbox_log.c: dovecot.mailbox.log (6.6) ---- */
enum mailbox_log_type { MAILBOX_LOG_DELETE = 1, MAILBOX_LOG_DELETE_DIR, MAILBOX_LOG_RENAME, MAILBOX_LOG_SUBSCRIBE,
                        MAILBOX_LOG_UNSUBSCRIBE, MAILBOX_LOG_CREATE_DIR };
void mailbox_log_append(const struct mail_storage *, enum mailbox_log_type, const unsigned char guid[16]);
void mailbox_log_append_name(const struct mail_storage *, enum mailbox_log_type, const char *vname);

/* ---- subscriptions.c ---- */
/* Vnames of the subscriptions file that this namespace keeps, sorted and unique. */
struct name_list {
    const char **at;
    size_t count, room;
};
int subscriptions_read(const struct mail_namespace *, struct arena *, struct name_list *, struct error *);
bool name_list_has(const struct name_list *, const char *name);
/* Parses the bytes of a subscriptions file into storage names; linear. -1: a line is too long. */
int subscriptions_parse(struct slice file, char separator, struct arena *, struct name_list *);

/* ---- list_index.c (index-format 11.1) ---- */
struct list_row_status {
    struct mailbox_status status;
    unsigned unknown;              /* STATUS_... that the row does not tell */
};
/* What the row of the mailbox whose folder is `path` says, when it is current. False: open the mailbox. */
bool list_index_status(struct mail_storage *, const char *name, const char *path, struct list_row_status *out);
/* May the row stand for the mailbox, for this user and now? (status.c) */
bool status_by_row(const struct mailbox_place *);
/* Writes the row after a change of the mailbox. Best effort: what is locked by others is left for the next time. */
void list_index_update(struct mailbox *);
/* Names were created, deleted, renamed under mailboxes.lock: the next LIST of any session compares again. */
void list_index_refresh_flag(struct mail_storage *);
/* Brings tree and folders together at the first LIST. */
void list_index_compare(struct mail_storage *, const struct folder_names *);
/* The UID of a name's node in the tree as last read; 0 = none. */
uint32_t list_index_order(struct mail_storage *, const char *name);
void list_index_close(struct list_index **);

#endif
