/* Where a namespace's mail lies: a parsed mail_location, and the paths that names become (maildir-and-layouts 1, 4). */
#ifndef YARILO_STORE_LOCATION_H
#define YARILO_STORE_LOCATION_H

#include "base/base.h"

struct store_driver;
struct mail_user;
struct mail_namespace;
struct list_index;

enum mail_layout { LAYOUT_MAILDIRPP, LAYOUT_IMAPDIR, LAYOUT_FS, LAYOUT_INDEX, LAYOUT_NONE };

/* Paths are absolute, without a trailing slash. Those that equal root are NULL (maildir-and-layouts 1.2). */
struct mail_location {
    const struct store_driver *driver;
    enum mail_layout layout;
    const char *root;
    const char *inbox;             /* INBOX=; NULL = the layout's */
    const char *index, *control, *cache, *alt, *volatile_dir;
    const char *index_private;     /* INDEXPVT: \Seen is each user's own; NULL = it is not */
    const char *subscriptions;     /* file name */
    const char *list_index;        /* LISTINDEX prefix */
    const char *dirname, *mailboxdir;  /* "" = none */
    bool full_dirname;             /* FULLDIRNAME: dirname in INDEX and CONTROL too */
    bool index_memory;
    bool alt_nocheck;              /* ALTNOCHECK: no dbox-alt-root link */
    bool iter_index, no_noselect, no_fs_validation, utf8;
    bool no_inbox;                 /* a namespace without INBOX: that name is one like others, and not the root's */
    char broken_char;              /* 0 = none */
    struct mail_storage *names;    /* LAYOUT_INDEX: whose list index knows the folders; set by the storage */
};

/* Parses an expanded location. `home` may be NULL. Errors have the texts of 1.1 and 1.2. Autodetection (1.4) looks at the
 * file system. */
int mail_location_parse(struct mail_location *, struct arena *, const char *text, const char *home,
                        struct error *);

enum mail_path { PATH_MAILBOX, PATH_INDEX, PATH_CONTROL, PATH_CACHE, PATH_ALT, PATH_PRIVATE, PATH_DIR };
/* The one function that makes a path of a storage name (already checked). "" = the root itself. PATH_DIR: the mailbox's
 * folder without DIRNAME. NULL: there is none (in-memory index, no ALT, no INDEXPVT). */
char *mail_location_path(const struct mail_location *, struct arena *, const char *name, enum mail_path);
char mail_layout_separator(enum mail_layout);
/* Separator and escape character of a storage whose location is parsed and whose namespace has its separator; `configured`
 * is the namespace's setting ("" = none), `escape` that of the listescape plugin (0 = not loaded). */
void mail_storage_names_init(struct mail_storage *, const char *configured, char escape);

/* One per namespace. */
struct mail_storage {
    struct mail_namespace *ns;
    struct mail_location at;
    char separator;                /* the layout's */
    char *pending;                 /* LAYOUT=index: this mailbox has a folder and gets its name when it is open; owned */
    unsigned char pending_guid[16];
    char escape;                   /* of storage names (maildir-and-layouts 3.2); 0 = none */
    struct mail_auto *autos;       /* mailbox {} blocks (internal.h) */
    struct list_index *list;       /* NULL = not opened yet, or none */
    bool list_checked;             /* tree and folders were compared (index-format 11.1) */
};

/* Modes of new files and folders below a folder (maildir-and-layouts 4.1). */
struct mail_modes {
    mode_t file, dir;
    gid_t gid;                     /* (gid_t)-1 = leave */
};
struct mail_modes mail_modes_of(const char *folder_path);

#endif
