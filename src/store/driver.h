/* What a mailbox format fills in (DECISIONS 3.4): Maildir now; sdbox, mdbox, mbox, obox behind the same table.
 *
 * A driver knows files and the index of one mailbox. It never sees views, sessions, names or namespaces; rights are
 * checked before it is called. Its functions do not wait: what is locked by others is STEP_WAIT (the op retries at
 * 1, 2, 4 ... ms), what takes long comes back as STEP_MORE and is called again with the same state. Locks are owned by
 * the op that runs, of which a mailbox has one at a time (mailbox.job).
 *
 * docs/architecture.md tells how the other formats fit in. */
#ifndef YARILO_STORE_DRIVER_H
#define YARILO_STORE_DRIVER_H

#include "store/location.h"
#include "store/store.h"

#include <uthash.h>

enum {
    DRIVER_SAVE_GUID = 0x1,        /* keeps a GUID given at saving */
    DRIVER_POP3_UIDL = 0x2,        /* keeps POP3 UIDL and order */
    DRIVER_LINK_COPY = 0x4,        /* stage_copy may share bytes */
    DRIVER_ALT = 0x8,
    DRIVER_INBOX_IS_ROOT = 0x10,   /* without DIRNAME, INBOX's folder is the mail root: it cannot be renamed */
    DRIVER_RESERVED_DIRS = 0x20,   /* cur, new, tmp are no mailbox names in the fs layout */
    DRIVER_ATTACHMENTS = 0x40,     /* keeps X metadata: mail_attachment_dir has an effect (store/attachment.h) */
    DRIVER_IS_FILE = 0x400,        /* a mailbox is one file, not a folder: its index is beside it, nothing is below it */
    DRIVER_IN_MEMORY = 0x200,      /* its indexes, also that of the list, never touch the disk */
    DRIVER_ONE_ROOT = 0x1000,      /* mailboxes of one root share files: none moves to another */
    DRIVER_COUNTS_REFERENCES = 0x100, /* a mailbox that is deleted must give up its messages one by one */
    DRIVER_LIST_KNOWS = 0x800,     /* what the list index says is not checked against files: new mailboxes get a row at once */
    DRIVER_FACTS_IN_FILE = 0x80    /* GUID, dates and sizes stand in the message's file: expunge requests go without GUID,
                                    * and what was read is kept in the cache */
};

/* A mailbox that is open in this process: one object, shared. */
struct mailbox {
    const struct store_driver *driver;
    struct mail_user *user;        /* of the first opener; referenced */
    struct mail_storage *storage;
    struct mailbox_place place;    /* strings in arena */
    struct arena *arena;           /* lives as long as the mailbox */
    const char *path, *index_path, *control_path;   /* index_path NULL: in memory */
    struct mail_modes modes;
    struct index *index;
    struct index *private;         /* INDEXPVT: the user's own \Seen (private.c); NULL = none */
    void *data;                    /* the driver's */
    bool read_only, gone;          /* gone: deleted or renamed under us; every op fails */
    unsigned refs;
    struct store_op *job;          /* the op that may hold this mailbox's locks */
    struct store_op *waiting;      /* ops that want to be next (utlist) */
    struct mailbox_watch *watches;
    int watch_ids[4];              /* inotify watch descriptors: index folder, driver->watch, private index; -1 = none */
    bool arrival;                  /* news came from the first of driver->watch: look there, whatever its times say (a second
                                      change within one tick of the file system's clock leaves them as they were) */
    char *key;                     /* path NUL index_path, of the process's table */
    unsigned key_size;
    UT_hash_handle hh;
    struct mailbox *idle_prev, *idle_next; /* closed, and kept for a while (mailbox.c) */
    uint64_t idle_since_ns;
    dev_t dev;
    ino_t ino;                     /* of the folder when it was opened */
    uint64_t list_generation;      /* index_generation that the list index row was written for */
};

/* What a sync shall do and what it found. Zeroed by the caller but for the first part. */
struct driver_sync {
    enum sync_why why;
    bool take_recent;              /* raise first_recent_uid to next_uid; Maildir empties new/ */
    bool give_up_busy;             /* polls: rather DONE without news than a long wait */
    /* A session's requests: committed under the sync's locks and carried out at once, because a Dovecot that saves at
     * that moment marks requests of others as done without having looked at them. */
    struct index_batch *batch;
    struct index_commit *commit;   /* of the batch; may be NULL */
    bool expunges;                 /* the batch has some: all locks are needed */
    /* out */
    uint32_t recent_first, recent_last; /* UIDs that this sync took over as recent; 0 = none */
    bool changed;
    void *state;                   /* the driver's, between steps; sync_end frees it */
};

struct driver_open {
    bool create;                   /* the folder's own files may be made */
};

/* One staged message. */
struct staged {
    struct mailbox *box;
    struct arena *arena;           /* of this message */
    struct mail_meta meta;         /* strings in the arena */
    uint64_t size_physical, size_virtual;
    int fd;                        /* of its file while it is written and until it is durable; -1 = none */
    void *data;                    /* the driver's */
    uint32_t uid;                  /* set by publish; 0 = not known */
    bool gone;                     /* set by publish (skip_gone): not published, for what it is a copy of is gone */
    const char *storage_id;        /* set by publish; in the arena; NULL = none */
    struct staged_value *cached;   /* for the index cache (save_cache.c); publish hands them on: stage_append_cached */
    size_t cached_count;
};
struct staged_value {
    unsigned field;                /* index_field */
    struct slice value;
};

/* A publication in progress. */
struct driver_publish {
    struct staged **staged;
    size_t count;
    bool need_uids;
    bool take_recent;              /* the saving session's: raise first_recent_uid with the same commit */
    bool skip_gone;                /* a copy whose source is gone is left out; else ERROR_EXPUNGED, for all of them. (Where only
                                    * a purge or damage takes a staged copy's source away it is the error for all.) */
    uint32_t recent_first, recent_last; /* out: UIDs taken over so; 0 = none */
    /* Folders and files to sync before going on: publish fills fds and returns STEP_WAIT with `syncing`; it is called
     * again when they are durable (with sync_error on failure). The descriptors stay the driver's. */
    bool syncing;
    int fds[4];
    size_t fd_count;
    struct error sync_error;
    struct index_commit commit;    /* out */
    bool changed;
    void *state;
};

/* The readable bytes of a stored message. */
struct mail_file {
    int fd;                        /* -1 = no descriptor: source reads by itself */
    struct mime_source source;
    void *data;
    uint64_t size;                 /* physical, of the stored bytes: store_read_size tells the plain text's */
    time_t internal_date, save_date;
    const char *path;
    const char *ext_refs;          /* X metadata, in the arena given; NULL = none */
    const char *ext_suffix;        /* what is behind each path of ext_refs on disk (sdbox "-<mailbox guid>-<uid>"); NULL = nothing */
    void *coding;                  /* store_read's */
    struct mailbox *owner;         /* store_read's: whose it is when it was asked from a virtual mailbox; NULL = the one asked */
};
enum driver_item { ITEM_GUID, ITEM_INTERNAL_DATE, ITEM_SAVE_DATE, ITEM_SIZE_PHYSICAL, ITEM_SIZE_VIRTUAL, ITEM_POP3_UIDL,
                   ITEM_POP3_ORDER, ITEM_PATH,
                   ITEM_REFCOUNT /* asked of those that DRIVER_COUNTS_REFERENCES */ };
struct driver_value {
    bool known;
    uint64_t number;
    const char *text;              /* in the arena given */
};

struct store_driver {
    const char *name;
    uint32_t can;                  /* DRIVER_... */
    enum mail_layout layout;       /* default layout */
    const char *dirname, *mailboxdir, *subscriptions;  /* defaults of 1.2 */
    /* Does this folder hold a mailbox of the format? (fs layout without DIRNAME, autodetection) */
    bool (*is_mailbox)(const char *path);
    bool (*detect)(const char *root);
    /* Makes the format's own files in a folder: list lock held, the folder itself may exist. ERROR_EXISTS. */
    int (*create)(const struct mail_location *, const char *path, bool inbox, const struct mail_modes *, struct error *);
    /* Removes them: fs layout without DIRNAME, where the folder may hold children. */
    int (*remove)(const char *path, struct error *);
    /* Opens the index and what else is needed; box->path and modes are set. close frees data and the index. */
    int (*open)(struct mailbox *, const struct driver_open *, struct error *);
    void (*close)(struct mailbox *);
    int (*guid)(struct mailbox *, unsigned char guid[16], struct error *);

    enum step (*sync)(struct mailbox *, struct driver_sync *, struct budget *, struct error *);
    void (*sync_end)(struct mailbox *, struct driver_sync *);  /* also when cancelled: releases locks */

    int (*stage)(struct staged *, struct error *);             /* meta is filled */
    int (*stage_write)(struct staged *, struct slice, struct error *);
    int (*stage_finish)(struct staged *, struct error *);      /* sizes known */
    /* By link or reference. 1: done; 0: not possible, copy by content; -1 error. Whether the source is still there may turn
     * out as late as in publish. */
    int (*stage_copy)(struct staged *, struct mailbox *from, uint32_t uid, struct error *);
    int (*stage_again)(struct staged *, const struct staged *first, struct error *);
    /* The stored bytes of what is staged here (its fd is open), as read gives them; nothing to end. NULL: the file is the
     * message. */
    int (*stage_read)(const struct staged *, struct arena *, struct mail_file *, struct error *);
    void (*discard)(struct staged *);                          /* not published: nothing remains */
    /* Names, uidlist, index batch, commit, for all or none. Failing, everything is as before. */
    enum step (*publish)(struct mailbox *, struct driver_publish *, struct budget *, struct error *);
    void (*publish_end)(struct mailbox *, struct driver_publish *);

    /* ENOENT is retried inside; ERROR_EXPUNGED when it is really gone. */
    int (*read)(struct mailbox *, uint32_t uid, struct arena *, struct mail_file *, struct error *);
    void (*read_end)(struct mail_file *);
    /* Cheap facts that need no reading of bytes. */
    int (*item)(struct mailbox *, uint32_t uid, enum driver_item, struct arena *, struct driver_value *, struct error *);
    /* DRIVER_ALT: remembers that this message shall move to ALT, or back, at the next purge. NULL: record flag 0x40 is set or
     * cleared, and the sync that carries it out moves the file. */
    void (*altmove)(struct mailbox *, uint32_t uid, bool to_alt);
    /* Takes the space of what no mailbox has any more, and carries out what altmove remembered, in the whole storage of a
     * namespace. begin never fails; step is called until it is done; end also cancels. NULL: nothing is kept. */
    void *(*purge_begin)(struct mail_user *, struct mail_storage *);
    enum step (*purge_step)(void *, struct budget *, struct error *);
    void (*purge_end)(void *);
    /* The identity of another mailbox is taken over, under the locks (adopt.c). NULL: not possible. */
    enum step (*adopt)(struct mailbox *, const struct mailbox_identity *, struct error *);
    /* Takes the messages from this UID on away as if they had never been there: UIDNEXT goes back to it (adopt.c). NULL: whatever
     * puts such messages there in this format gives them the UIDs that they are to have. */
    enum step (*unplace)(struct mailbox *, uint32_t first, struct error *);
    /* The message contradicts what its name or record says: sizes are mended. */
    void (*mend)(struct mailbox *, uint32_t uid, uint64_t physical, uint64_t virtual_size);
    /* A message that is really another mailbox's (virtual): that one, open as long as this one, and its UID there. NULL: this
     * format keeps its own. False: unknown. */
    bool (*origin)(struct mailbox *, uint32_t uid, struct mailbox **real, uint32_t *real_uid);
    /* Where saves go instead; false: nowhere. NULL: here. */
    bool (*save_into)(struct mailbox *, struct mailbox_place *);
    /* List index extension that tells whether a STATUS row is current, and its value now (index-format 11.1). */
    const char *list_ext;
    int (*list_stamp)(const char *path, uint32_t stamp[2]);
    bool (*list_unstamped)(const struct mail_user *);          /* settings say that rows are believed without it; NULL: never */
    void (*list_seen)(struct mailbox *, uint32_t stamp[2]);    /* the same as it was when the mailbox was last synced */
    /* Folders below the mailbox's that tell of news, NULL-ended ("new", "cur"). A mailbox that is a file tells by itself. */
    const char *const *watch;
};

extern const struct store_driver maildir_driver, mdbox_driver, mdbox_deleted_driver, mbox_driver, sdbox_driver, virtual_driver;
const struct store_driver *store_driver_find(const char *name);   /* NULL: unknown */
const struct store_driver *const *store_drivers(void);            /* in the order of autodetection, NULL-ended */

/* ---- for drivers ---- */

/* For adopt, the index being locked: may it be? ERROR_EXISTS; what stands in the index; is the GUID to be taken? */
int store_adopt_check(struct mailbox *, const struct mailbox_identity *, struct error *);
void store_adopt_index(const struct mailbox *, const struct mailbox_identity *, struct index_batch *);
bool store_adopt_guid(const struct mailbox *);

/* UIDVALIDITY for a new mailbox of this namespace (6.5). */
int store_next_uid_validity(struct mail_storage *, uint32_t *, struct error *);
void store_guid_new(unsigned char guid[16]);                      /* 7 */
/* The GUID of a mailbox that is being made: LAYOUT=index has decided on it already (its folder is called so). */
void store_mailbox_guid_new(const struct mailbox *, unsigned char guid[16]);
void store_guid_of_text(struct slice text, unsigned char guid[16]);
const char *store_hostname(void);
/* Removes what a folder holds but for folders. A folder that is not there is no error. */
int store_remove_files(const char *path, struct error *);
/* Settings of the user for index_open. */
void store_index_settings(const struct mail_user *, struct index_settings *);

/* Opens box->index, in memory too where the mailbox has no folder for one; makes that folder. */
struct store_index_how {
    int (*init)(void *box, struct index *, struct index_batch *, struct error *); /* of a new index; may be NULL */
    bool read_only;
    bool in_memory;
    bool only_copy;            /* what it holds stands nowhere else: appends are synced, a backup is kept */
};
int store_index_open(struct mailbox *, const struct store_index_how *, struct error *);
/* In publish, beside index_batch_append: what the cache shall have of the new message. */
void stage_append_cached(const struct staged *, struct index_batch *, struct index_append *);
void mailbox_log(const struct mailbox *, enum log_level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
