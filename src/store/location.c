/* location.c - mail_location: "driver:root:KEY=value:..." (maildir-and-layouts 1), and names to paths (4).
 *
 * The text is expanded already; this splits it, expands "~", checks keys, and where no driver is named looks which
 * format is there. mail_location_path is the only place where a name becomes a path: its input has passed name.c. */
#include "store/location.h"

#include "store/internal.h"

#include <ctype.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Takes the next part off *rest; "::" is a literal colon. False at the end. */
static bool next_part(struct arena *arena, const char **rest, char **part)
{
    const char *p = *rest;
    char *out;

    if (p == NULL)
        return false;
    out = *part = arena_alloc(arena, strlen(p) + 1);
    for (; *p != '\0'; p++) {
        if (*p == ':') {
            if (p[1] != ':')
                break;
            p++;
        }
        *out++ = *p;
    }
    *out = '\0';
    *rest = *p == ':' ? p + 1 : NULL;
    return true;
}

/* The driver's name before the first colon, if it is one. */
static const char *cut_driver(struct arena *arena, const char **text)
{
    const char *p = *text;

    while (isalnum((unsigned char)*p) || *p == '_')
        p++;
    if (*p != ':')
        return NULL;
    char *name = arena_str(arena, slice_of(*text, (size_t)(p - *text)));
    *text = p + 1;
    return name;
}

static char *strip_slash(char *path)
{
    size_t n = strlen(path);

    if (n > 1 && path[n - 1] == '/')
        path[n - 1] = '\0';
    return path;
}

static int expand_home(struct arena *arena, const char *path, const char *home, const char *what, const char *location,
                       const char **out, struct error *e)
{
    const char *slash = strchrnul(path, '/');

    if (path[0] != '~') {
        *out = strip_slash(arena_strdup(arena, path));
        return 0;
    }
    if (slash != path + 1) {
        struct passwd *pw = getpwnam(arena_str(arena, slice_of(path + 1, (size_t)(slash - path - 1))));

        if (pw == NULL)
            return error_set(e, ERROR_INVALID, "No home directory for system user. Can't expand %.*s for %s in: %s",
                             (int)(slash - path), path, what, location);
        home = arena_strdup(arena, pw->pw_dir);
    } else if (home == NULL || *home == '\0') {
        return error_set(e, ERROR_INVALID, "Home directory not set for user. Can't expand ~/ for %s in: %s", what,
                         location);
    }
    *out = strip_slash(arena_printf(arena, "%s%s", home, slash));
    return 0;
}

static bool is_folder(const char *base, const char *name)
{
    char path[4096];
    struct stat st;

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", base, name) >= sizeof(path))
        return false;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Where other mailboxes are when only INBOX's file is known. */
static const char *mbox_root(struct arena *arena, const char *home)
{
    return arena_printf(arena, "%s/%s", home, !is_folder(home, "mail") && is_folder(home, "Mail") ? "Mail" : "mail");
}

/* 1.4 (a): the format found in a root whose driver is not named. */
static const struct store_driver *detect_driver(const char *root)
{
    for (const struct store_driver *const *d = store_drivers(); *d != NULL; d++) {
        if ((*d)->detect != NULL && (*d)->detect(root))
            return *d;
    }
    return NULL;
}

/* 1.4 (b): nothing is configured at all. Formats that this build has not are seen, so that nobody's sdbox is taken for
 * an empty account. */
static int detect_everywhere(struct mail_location *at, struct arena *arena, const char *home, struct error *e)
{
    if (home != NULL && (is_folder(home, "sdbox/mailboxes") || is_folder(home, "mdbox/storage"))) {
        bool sdbox = is_folder(home, "sdbox/mailboxes");

        at->root = arena_printf(arena, "%s/%s", home, sdbox ? "sdbox" : "mdbox");
        at->driver = store_driver_find(sdbox ? "sdbox" : "mdbox");
        if (at->driver == NULL)
            return error_set(e, ERROR_UNSUPPORTED, "Unknown mail storage driver %s", sdbox ? "sdbox" : "mdbox");
        return 0;
    }
    if (is_folder(home == NULL ? "" : home, "Maildir/cur") || (home == NULL && is_folder("", "cur"))) {
        at->root = home == NULL ? "/" : arena_printf(arena, "%s/Maildir", home);
        at->driver = &maildir_driver;
        return 0;
    }
    for (unsigned i = 0; home != NULL && i < 2; i++) {
        at->root = arena_printf(arena, "%s/%s", home, i == 0 ? "mail" : "Mail");
        if (!mbox_driver.detect(at->root))
            continue;
        at->driver = &mbox_driver;
        return 0;
    }
    return error_set(e, ERROR_INVALID, "Mail storage autodetection failed with home=%s", home == NULL ? "(not set)" : home);
}

struct key {
    const char *name;
    size_t offset;
    enum { KEY_PATH, KEY_TEXT, KEY_FLAG, KEY_CHAR, KEY_LAYOUT } kind;
};
#define KEY(name, member, kind) {name, offsetof(struct mail_location, member), kind}
static const struct key keys[] = {
    KEY("INBOX", inbox, KEY_PATH), KEY("INDEX", index, KEY_PATH), KEY("CONTROL", control, KEY_PATH),
    KEY("INDEXCACHE", cache, KEY_PATH), KEY("ALT", alt, KEY_PATH), KEY("VOLATILEDIR", volatile_dir, KEY_PATH),
    KEY("LAYOUT", layout, KEY_LAYOUT), KEY("SUBSCRIPTIONS", subscriptions, KEY_TEXT),
    KEY("DIRNAME", dirname, KEY_TEXT), KEY("FULLDIRNAME", dirname, KEY_TEXT), KEY("MAILBOXDIR", mailboxdir, KEY_TEXT),
    KEY("LISTINDEX", list_index, KEY_TEXT), KEY("BROKENCHAR", broken_char, KEY_CHAR),
    KEY("ITERINDEX", iter_index, KEY_FLAG), KEY("NO-NOSELECT", no_noselect, KEY_FLAG),
    KEY("NO-FS-VALIDATION", no_fs_validation, KEY_FLAG), KEY("UTF-8", utf8, KEY_FLAG),
    KEY("ALTNOCHECK", alt_nocheck, KEY_FLAG), KEY("INDEXPVT", index_private, KEY_PATH),
};

static int set_layout(struct mail_location *at, const char *value, struct error *e)
{
    static const struct {
        const char *name;
        enum mail_layout layout;
    } names[] = {{"Maildir++", LAYOUT_MAILDIRPP}, {"imapdir", LAYOUT_IMAPDIR}, {"fs", LAYOUT_FS}, {"index", LAYOUT_INDEX}, {"none", LAYOUT_NONE}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(names[i].name, value) == 0) {
            at->layout = names[i].layout;
            return 0;
        }
    }
    return error_set(e, ERROR_UNSUPPORTED, "Unknown mailbox list driver: %s", value);
}

static int set_key(struct mail_location *at, struct arena *arena, char *part, const char *home, const char *location,
                   struct error *e)
{
    char *value = strchr(part, '=');
    size_t length = value == NULL ? strlen(part) : (size_t)(value - part);
    const char *path;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const struct key *key = &keys[i];
        void *member = (char *)at + key->offset;

        if (strlen(key->name) != length || strncmp(key->name, part, length) != 0)
            continue;
        if (key->kind == KEY_FLAG) {
            *(bool *)member = true;
            return 0;
        }
        if (value == NULL)
            break;
        value++;
        if (key->kind == KEY_LAYOUT)
            return set_layout(at, value, e);
        if (key->kind == KEY_CHAR) {
            if (strlen(value) != 1)
                return error_set(e, ERROR_INVALID, "BROKENCHAR value must be a single character");
            *(char *)member = *value;
            return 0;
        }
        if (strcmp(key->name, "INDEX") == 0 && strcmp(value, "MEMORY") == 0) {
            at->index_memory = true;
            return 0;
        }
        if (strcmp(key->name, "FULLDIRNAME") == 0)
            at->full_dirname = true;
        /* Every value may begin with "~" (1.1). */
        if (expand_home(arena, value, home, key->name, location, &path, e) < 0)
            return -1;
        *(const char **)member = path;
        return 0;
    }
    return error_set(e, ERROR_INVALID, "Unknown setting: %.*s", (int)length, part);
}

static void forget_equal(const struct mail_location *at, const char **path)
{
    if (*path != NULL && strcmp(*path, at->root) == 0)
        *path = NULL;
}

static int check_location(struct mail_location *at, const char *text, struct error *e)
{
    const char **paths[] = {&at->index, &at->control, &at->cache, &at->index_private};
    const char *list = at->layout == LAYOUT_MAILDIRPP ? "maildir++" : "imapdir";

    if (at->root[0] != '/')
        return error_set(e, ERROR_INVALID, "Mail root directory isn't an absolute path in: %s", text);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        forget_equal(at, paths[i]);
    if (at->layout == LAYOUT_MAILDIRPP || at->layout == LAYOUT_IMAPDIR) {
        if (*at->dirname != '\0')
            return error_set(e, ERROR_INVALID, "Mailbox list driver %s: maildir_name not supported by this driver", list);
        if (at->alt != NULL)
            return error_set(e, ERROR_INVALID, "Mailbox list driver %s: alt_dir not supported by this driver", list);
    }
    if (at->iter_index && at->index == NULL)
        return error_set(e, ERROR_INVALID, "ITERINDEX requires INDEX to be explicitly set");
    if (strchr(at->subscriptions, '/') != NULL)
        return error_set(e, ERROR_INVALID, "SUBSCRIPTIONS must be a file name in: %s", text);
    return 0;
}

int mail_location_parse(struct mail_location *at, struct arena *arena, const char *text, const char *home,
                        struct error *e)
{
    const char *rest = text, *driver = cut_driver(arena, &rest), *behind = rest, *set_names[3];
    char *part, *root;

    *at = (struct mail_location){.layout = LAYOUT_NONE};
    if (driver != NULL && strcmp(driver, "auto") == 0)
        driver = NULL;
    if (!next_part(arena, &rest, &root))
        root = arena_strdup(arena, "");
    if (strncmp(root, "INBOX=", 6) == 0)
        return error_set(e, ERROR_INVALID, "Mail root directory not given");
    if (driver != NULL && (at->driver = store_driver_find(driver)) == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "Unknown mail storage driver %s", driver);
    if (*root == '\0') {
        if (driver != NULL)
            return error_set(e, ERROR_INVALID, "Root mail directory not given");
        if (detect_everywhere(at, arena, home, e) < 0)
            return -1;
    } else if (expand_home(arena, root, home, "mail root dir", behind, &at->root, e) < 0) {
        return -1;
    }
    if (at->driver == NULL && is_file(at->root)) {
        at->driver = &mbox_driver;
        at->inbox = at->root;
        if (home == NULL)
            return error_set(e, ERROR_INVALID, "Home directory not set for user. Can't find the mail root of %s", text);
        at->root = mbox_root(arena, home);
    }
    if (at->driver == NULL && (at->driver = detect_driver(at->root)) == NULL)
        return error_set(e, ERROR_INVALID, "Ambiguous mail location setting, don't know what to do with it: %s "
                         "(try prefixing it with mbox: or maildir:)", text);
    at->layout = at->driver->layout;
    set_names[0] = at->driver->dirname;
    set_names[1] = at->driver->mailboxdir;
    set_names[2] = at->driver->subscriptions;
    while (next_part(arena, &rest, &part)) {
        if (*part != '\0' && set_key(at, arena, part, home, behind, e) < 0)
            return -1;
    }
    /* Named as empty they are not named. */
    if (at->dirname == NULL || *at->dirname == '\0')
        at->dirname = set_names[0];
    if (at->mailboxdir == NULL || *at->mailboxdir == '\0')
        at->mailboxdir = set_names[1];
    if (at->subscriptions == NULL)
        at->subscriptions = set_names[2];
    if (at->list_index == NULL)
        at->list_index = "dovecot.list.index";
    if (check_location(at, text, e) < 0)
        return -1;
    at->index_memory = at->index_memory || (at->driver->can & DRIVER_IN_MEMORY) != 0;
    return 0;
}

char mail_layout_separator(enum mail_layout layout)
{
    return layout == LAYOUT_MAILDIRPP || layout == LAYOUT_IMAPDIR ? '.' : '/';
}

void mail_storage_names_init(struct mail_storage *storage, const char *configured, char escape)
{
    storage->separator = mail_layout_separator(storage->at.layout);
    storage->escape = escape;
    if (storage->at.layout != LAYOUT_INDEX)
        return;
    /* Names live in the list index; files and lines that need a whole name have them escaped (3.1, 3.2). */
    storage->escape = '^';
    storage->separator = *configured != '\0' ? *configured : '~';
    if (storage->separator == storage->escape)
        storage->separator = '~';
    storage->at.names = storage;
}

static const char *root_of(const struct mail_location *at, enum mail_path what)
{
    switch (what) {
    case PATH_INDEX:
        return at->index != NULL ? at->index : at->root;
    case PATH_CONTROL:
        return at->control != NULL ? at->control : at->root;
    case PATH_CACHE:
        return at->cache != NULL ? at->cache : root_of(at, PATH_INDEX);
    case PATH_ALT:
        return at->alt;
    case PATH_PRIVATE:
        return at->index_private;
    default:
        return at->root;
    }
}

static bool is_inbox(const char *name)
{
    return strcmp(name, "INBOX") == 0;
}

/* Does INDEX, CONTROL ... of this kind live in a tree of its own? */
static bool has_own_tree(const struct mail_location *at, enum mail_path what)
{
    return (what == PATH_INDEX && at->index != NULL) || (what == PATH_CONTROL && at->control != NULL) ||
           (what == PATH_CACHE && (at->cache != NULL || at->index != NULL)) || what == PATH_ALT || what == PATH_PRIVATE;
}

static char *maildirpp_path(const struct mail_location *at, struct arena *arena, const char *root, const char *name,
                            bool own)
{
    if (is_inbox(name) && !own && !at->no_inbox)
        return arena_strdup(arena, at->inbox != NULL ? at->inbox : at->root);
    return arena_printf(arena, "%s/.%s", root, name);
}

/* Formats whose mailboxes are files keep what belongs to them in .imap beside them (9.4): a/b -> a/.imap/b. */
static char *beside_path(const struct mail_location *at, struct arena *arena, const char *root, const char *name)
{
    const char *slash = strrchr(name, '/');
    int parent = slash == NULL ? 0 : (int)(slash + 1 - name);

    return arena_printf(arena, "%s%s%s/%.*s.imap/%s", root, *at->mailboxdir != '\0' ? "/" : "", at->mailboxdir, parent, name, name + parent);
}

static bool is_beside(const struct mail_location *at, enum mail_path what)
{
    return (at->driver->can & DRIVER_IS_FILE) != 0 && *at->dirname == '\0' &&
           (what == PATH_INDEX || what == PATH_CACHE || what == PATH_CONTROL);
}

static char *fs_path(const struct mail_location *at, struct arena *arena, const char *root, const char *name,
                     enum mail_path what, bool own)
{
    bool with_dirname = *at->dirname != '\0' && what != PATH_DIR && (!own || at->full_dirname || what == PATH_ALT);
    if (is_beside(at, what))
        return beside_path(at, arena, root, name);
    const char *slash1 = *at->mailboxdir != '\0' ? "/" : "", *slash2 = with_dirname ? "/" : "";

    if (is_inbox(name) && !own && !at->no_inbox) {
        if (at->inbox != NULL)
            return arena_strdup(arena, at->inbox); /* the folder itself, DIRNAME or not */
        if (*at->dirname == '\0' && (at->driver->can & DRIVER_IS_FILE) != 0)
            return arena_printf(arena, "%s/inbox", at->root);
        if (*at->dirname == '\0' && (at->driver->can & DRIVER_INBOX_IS_ROOT) != 0)
            return arena_strdup(arena, at->root);
    }
    return arena_printf(arena, "%s%s%s/%s%s%s", root, slash1, at->mailboxdir, name, slash2,
                        with_dirname ? at->dirname : "");
}

/* A folder (or file) per mailbox, called by its GUID. NULL: no such mailbox. */
static char *index_path(const struct mail_location *at, struct arena *arena, const char *root, const char *name, enum mail_path what)
{
    unsigned char guid[16];
    struct buffer hex = {0};
    char *path;

    if (at->names == NULL || !list_layout_guid(at->names, name, guid))
        return NULL;
    text_hex_encode(&hex, slice_of(guid, sizeof(guid)));
    path = is_beside(at, what) ? beside_path(at, arena, root, buffer_cstr(&hex))
                               : arena_printf(arena, "%s%s%s/%s", root, *at->mailboxdir != '\0' ? "/" : "", at->mailboxdir, buffer_cstr(&hex));
    buffer_free(&hex);
    return path;
}

char *mail_location_path(const struct mail_location *at, struct arena *arena, const char *name, enum mail_path what)
{
    const char *root = root_of(at, what);
    bool own = has_own_tree(at, what);

    if (root == NULL || ((what == PATH_INDEX || what == PATH_CACHE) && at->index_memory))
        return NULL;
    if (*name == '\0') {
        /* CONTROL has a root of its own for its files, INDEX has not. */
        if ((at->layout == LAYOUT_FS || at->layout == LAYOUT_INDEX) && is_beside(at, what) && !(what == PATH_CONTROL && at->control != NULL))
            return arena_printf(arena, "%s/.imap", root);
        if (at->layout == LAYOUT_FS && *at->mailboxdir != '\0' && what == PATH_MAILBOX && *at->dirname != '\0')
            return arena_printf(arena, "%s/%s/%s", root, at->mailboxdir, at->dirname);
        if (at->layout == LAYOUT_FS && *at->mailboxdir != '\0' && (what == PATH_MAILBOX || what == PATH_DIR))
            return arena_printf(arena, "%s/%s", root, at->mailboxdir);
        return arena_strdup(arena, root);
    }
    switch (at->layout) {
    case LAYOUT_MAILDIRPP:
        return maildirpp_path(at, arena, root, name, own);
    case LAYOUT_IMAPDIR:
        return is_inbox(name) && !own && !at->no_inbox && at->inbox != NULL ? arena_strdup(arena, at->inbox)
                                                           : arena_printf(arena, "%s/%s", root, name);
    case LAYOUT_FS:
        return fs_path(at, arena, root, name, what, own);
    case LAYOUT_INDEX:
        return index_path(at, arena, root, name, what);
    case LAYOUT_NONE:
        break;
    }
    return NULL;
}

struct mail_modes mail_modes_of(const char *folder)
{
    struct mail_modes modes = {0600, 0700, (gid_t)-1};
    struct stat st;

    if (stat(folder, &st) < 0)
        return modes;
    modes.file = (st.st_mode & 0666) | 0600;
    modes.dir = (st.st_mode & 0777) | 0700;
    /* The group matters only where it has other rights than the world, and a setgid folder hands it on by itself. */
    if ((st.st_mode & 02000) == 0 && ((st.st_mode & 0070) >> 3) != (st.st_mode & 0007) && st.st_gid != getegid())
        modes.gid = st.st_gid;
    return modes;
}
