/* folder.c - mailboxes as folders: what exists, making and finding them (maildir-and-layouts 5, 6.1).
 *
 * Names come from name.c only; what is read from the disk is checked by the same rules before anybody sees it, so that a
 * folder whose name could not be asked for is not listed either. */
#include "store/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 100

int folder_make(const char *path, const struct mail_modes *modes, struct error *e)
{
    struct stat st;

    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return 0;
        errno = ENOTDIR;
        return error_sys(e, "mkdir", path);
    }
    return os_mkdir_parents(AT_FDCWD, path, modes->dir, modes->gid, e);
}

int store_remove_files(const char *path, struct error *e)
{
    DIR *d = opendir(path);
    struct dirent *entry;
    int r = 0;

    if (d == NULL)
        return errno == ENOENT ? 0 : error_sys(e, "opendir", path);
    while (r == 0 && (entry = readdir(d)) != NULL) {
        struct stat st;

        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
            os_unlink(dirfd(d), entry->d_name, e) < 0 && e->class != ERROR_NOT_FOUND)
            r = -1;
    }
    closedir(d);
    return r;
}

static bool is_dir_at(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* ---- listing ---- */

static void add_name(struct folder_names *names, struct arena *arena, const struct mail_storage *storage,
                     const char *name, bool selectable)
{
    if (!mailbox_name_storable(storage, name))
        return;
    VEC_PUSH(names, ((struct folder_name){arena_strdup(arena, name), selectable}));
}

/* Maildir++ and imapdir: one flat folder. */
static int list_flat(const struct mail_storage *storage, struct arena *arena, struct folder_names *names,
                     struct error *e)
{
    const struct mail_location *at = &storage->at;
    bool dot = at->layout == LAYOUT_MAILDIRPP;
    bool stat_dirs = conf_bool(mail_user_settings(storage->ns->user), SET_maildir_stat_dirs);
    const char *root = at->iter_index ? at->index : at->root;
    DIR *d = opendir(root);
    struct dirent *entry;

    if (d == NULL) {
        if (errno == ENOENT || errno == ENOTDIR)
            return 0;
        return error_sys(e, "opendir", root);
    }
    while ((entry = readdir(d)) != NULL) {
        const char *name = entry->d_name;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "..DOVECOT-TRASHED") == 0 ||
            strncmp(name, ".nfs", 4) == 0 || (*name == '.') != dot)
            continue;
        name += dot;
        if (entry->d_type == DT_REG || entry->d_type == DT_FIFO || entry->d_type == DT_SOCK ||
            entry->d_type == DT_CHR || entry->d_type == DT_BLK)
            continue;
        if ((stat_dirs || !dot) && !is_dir_at(dirfd(d), entry->d_name))
            continue;
        if (strcmp(name, "INBOX") == 0 && !at->no_inbox)
            continue; /* INBOX is the root (5.1), or added by the caller */
        add_name(names, arena, storage, name, true);
    }
    closedir(d);
    return 0;
}

/* Is a mailbox the file of its name? */
static bool is_file(const struct mail_location *at)
{
    return (at->driver->can & DRIVER_IS_FILE) != 0 && *at->dirname == '\0';
}

static bool fs_is_mailbox(const struct mail_location *at, int dir, const char *path)
{
    struct stat st;

    if ((at->driver->can & DRIVER_IS_FILE) != 0)
        return *at->dirname != '\0' && fstatat(dir, at->dirname, &st, 0) == 0 && S_ISREG(st.st_mode);
    if (*at->dirname != '\0')
        return is_dir_at(dir, at->dirname);
    return at->driver->is_mailbox != NULL && at->driver->is_mailbox(path);
}

static bool fs_skip(const struct mail_storage *storage, const char *name, bool top)
{
    const struct mail_location *at = &storage->at;

    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strncmp(name, ".nfs", 4) == 0)
        return true;
    if (top && (strcmp(name, at->subscriptions) == 0 || strncmp(name, "..DOVECOT-TR", 12) == 0))
        return true;
    if (is_file(at)) {
        size_t n = strlen(name);

        return strcmp(name, ".imap") == 0 || (n > 5 && strcmp(name + n - 5, ".lock") == 0);
    }
    if (*at->dirname != '\0')
        return strcmp(name, at->dirname) == 0;
    return (at->driver->can & DRIVER_RESERVED_DIRS) != 0 &&
           (strcmp(name, "cur") == 0 || strcmp(name, "new") == 0 || strcmp(name, "tmp") == 0);
}

static int list_fs(const struct mail_storage *storage, struct arena *arena, struct folder_names *names,
                   const char *path, const char *prefix, unsigned depth, struct error *e)
{
    const struct mail_location *at = &storage->at;
    bool files = is_file(at);
    DIR *d = opendir(path);
    struct dirent *entry;
    int r = 0;

    if (d == NULL) {
        if (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP)
            return 0;
        return error_sys(e, "opendir", path);
    }
    while (r == 0 && (entry = readdir(d)) != NULL) {
        char *name, *below;
        struct stat st;
        int fd;

        if (fs_skip(storage, entry->d_name, depth == 0) || (entry->d_type == DT_REG && !files))
            continue;
        if (fstatat(dirfd(d), entry->d_name, &st, 0) < 0 || !(S_ISDIR(st.st_mode) || (files && S_ISREG(st.st_mode))))
            continue;
        name = arena_printf(arena, "%s%s", prefix, entry->d_name);
        if (S_ISREG(st.st_mode)) {
            if (strcasecmp(name, "INBOX") != 0 || at->no_inbox)
                add_name(names, arena, storage, name, true);
            continue;
        }
        below = arena_printf(arena, "%s/%s", path, entry->d_name);
        fd = openat(dirfd(d), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        /* A link to a folder above would have no end: only its own mailbox counts. */
        if (strcmp(name, "INBOX") != 0 || *at->dirname != '\0' || at->no_inbox)
            add_name(names, arena, storage, name, fs_is_mailbox(at, fd, below));
        close(fd);
        if (depth < DEPTH_MAX && entry->d_type != DT_LNK)
            r = list_fs(storage, arena, names, below, arena_printf(arena, "%s/", name), depth + 1, e);
    }
    closedir(d);
    return r;
}

static int compare_names(const void *a, const void *b)
{
    const struct folder_name *x = a, *y = b;

    return strcmp(x->name, y->name);
}

int folder_list(const struct mail_storage *storage, struct arena *arena, struct folder_names *names, struct error *e)
{
    int r = 0;

    switch (storage->at.layout) {
    case LAYOUT_MAILDIRPP:
    case LAYOUT_IMAPDIR:
        r = list_flat(storage, arena, names, e);
        break;
    case LAYOUT_FS:
        r = list_fs(storage, arena, names, mail_location_path(&storage->at, arena, "", PATH_DIR), "", 0, e);
        break;
    case LAYOUT_INDEX:
        r = list_layout_list((struct mail_storage *)(uintptr_t)storage, arena, names, e);
        break;
    case LAYOUT_NONE:
        break;
    }
    if (names->count > 1)
        qsort(names->at, names->count, sizeof(*names->at), compare_names);
    return r;
}

int folder_exists(const struct mail_storage *storage, const char *name, enum mailbox_existence *out, struct error *e)
{
    if (storage->at.layout == LAYOUT_INDEX && *name != '\0')
        return list_layout_exists((struct mail_storage *)(uintptr_t)storage, name, out, e);

    struct arena *arena = arena_new();
    const char *path = mail_location_path(&storage->at, arena, name, PATH_MAILBOX);
    const char *dir = mail_location_path(&storage->at, arena, name, PATH_DIR);
    struct stat st;
    int r = 0;

    *out = MAILBOX_EXISTS_NO;
    if (*name == '\0' && storage->at.layout != LAYOUT_NONE) {
        /* The root: a mailbox only where somebody has made it one, be it as INBOX. */
        *out = MAILBOX_EXISTS_NOSELECT;
        if ((!storage->ns->inbox || *storage->ns->prefix != '\0') && (*storage->at.dirname != '\0' ? stat(path, &st) == 0 && S_ISDIR(st.st_mode)
                                                                  : storage->at.driver->is_mailbox != NULL && storage->at.driver->is_mailbox(path)))
            *out = MAILBOX_EXISTS_YES;
    } else if (path == NULL) {
        *out = MAILBOX_EXISTS_NO;
    } else if (storage->at.layout == LAYOUT_FS && *storage->at.dirname == '\0') {
        if (storage->at.driver->is_mailbox(path))
            *out = MAILBOX_EXISTS_YES;
        else if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
            *out = MAILBOX_EXISTS_NOSELECT;
    } else if (stat(path, &st) == 0) {
        *out = S_ISDIR(st.st_mode) != ((storage->at.driver->can & DRIVER_IS_FILE) != 0) ? MAILBOX_EXISTS_YES : MAILBOX_EXISTS_NO;
    } else if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
        r = error_sys(e, "stat", path);
    } else if (strcmp(path, dir) != 0 && stat(dir, &st) == 0 && S_ISDIR(st.st_mode)) {
        *out = MAILBOX_EXISTS_NOSELECT;
    }
    arena_free(arena);
    return r;
}

bool folder_has_children(const struct mail_storage *storage, const char *name)
{
    struct arena *arena = arena_new();
    struct folder_names names = {0};
    struct error e;
    size_t n = strlen(name);
    bool found = false;

    folder_list(storage, arena, &names, &e);
    for (size_t i = 0; i < names.count && !found; i++)
        found = strncmp(names.at[i].name, name, n) == 0 && names.at[i].name[n] == storage->separator;
    VEC_FREE(&names);
    arena_free(arena);
    return found;
}

/* ---- creating ---- */

/* The folder first, and all that opening makes in it; then its name: a crash leaves a folder that nobody sees. */
static int create_by_index(struct mail_storage *storage, struct arena *arena, const char *name, bool directory,
                           const struct mail_modes *modes, struct error *e)
{
    const struct mail_location *at = &storage->at;
    enum mailbox_existence there;
    unsigned char guid[16];
    struct buffer hex = {0};
    const char *path;
    int r;

    if (directory)
        return list_layout_create(storage, name, NULL, e);
    if (list_layout_exists(storage, name, &there, e) < 0)
        return -1;
    if (there == MAILBOX_EXISTS_YES)
        return error_set(e, ERROR_EXISTS, "Mailbox already exists");
    store_guid_new(guid);
    text_hex_encode(&hex, slice_of(guid, sizeof(guid)));
    path = arena_printf(arena, "%s%s%s/%s", at->root, *at->mailboxdir != '\0' ? "/" : "", at->mailboxdir, buffer_cstr(&hex));
    buffer_free(&hex);
    r = at->driver->create(at, path, strcmp(name, "INBOX") == 0, modes, e);
    if (r == 0)
        list_layout_begin(storage, name, guid);
    return r;
}

/* The folder that a mailbox's file is in. A file among those above it has no room for others. */
static int make_above(const char *path, const struct mail_modes *modes, struct error *e)
{
    char *above = mem_strdup(path), *slash = strrchr(above, '/');
    int r = 0;

    if (slash != NULL && slash != above) {
        *slash = '\0';
        r = folder_make(above, modes, e);
    }
    mem_free(above);
    if (r < 0 && e->sys == ENOTDIR) {
        error_set(e, ERROR_UNSUPPORTED, "%s: Mailbox doesn't allow inferior mailboxes", path);
        error_user(e, "Mailbox doesn't allow inferior mailboxes");
    }
    return r;
}

int folder_create(const struct mail_storage *storage, const char *name, bool directory, struct error *e)
{
    struct arena *arena = arena_new();
    const struct mail_location *at = &storage->at;
    const char *path = mail_location_path(at, arena, name, PATH_MAILBOX);
    const char *dir = mail_location_path(at, arena, name, PATH_DIR);
    struct mail_modes modes = mail_modes_of(at->root);
    bool inbox = strcmp(name, "INBOX") == 0 && !at->no_inbox;
    int r;

    /* The root itself may be new. */
    r = folder_make(at->root, &modes, e);
    if (r == 0 && at->layout == LAYOUT_INDEX) {
        r = create_by_index((struct mail_storage *)(uintptr_t)storage, arena, name, directory, &modes, e);
    } else if (r == 0 && directory && at->layout == LAYOUT_FS) {
        struct stat st;

        if (stat(dir, &st) == 0) {
            error_set(e, ERROR_EXISTS, "Mailbox already exists");
            r = error_user(e, "Mailbox already exists");
        } else {
            r = os_mkdir_parents(AT_FDCWD, dir, modes.dir, modes.gid, e);
        }
    } else if (r == 0) {
        if (at->layout == LAYOUT_FS)
            r = is_file(at) ? make_above(path, &modes, e) : folder_make(dir, &modes, e);
        if (r == 0)
            r = at->driver->create(at, path, inbox, &modes, e);
    }
    if (r < 0 && e->class == ERROR_EXISTS)
        error_user(e, "Mailbox already exists");
    arena_free(arena);
    return r;
}

/* ---- removing a tree ---- */

static int remove_below(int dir, const char *name, unsigned depth, struct error *e)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (d == NULL) {
        if (fd >= 0)
            close(fd);
        if (errno == ENOENT)
            return 0;
        if (errno == ENOTDIR || errno == ELOOP)
            return os_unlink(dir, name, e);
        return error_sys(e, "opendir", name);
    }
    while (r == 0 && (entry = readdir(d)) != NULL) {
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            r = depth >= DEPTH_MAX ? error_set(e, ERROR_LIMIT, "%s: folders are nested too deeply", name)
                                   : remove_below(fd, entry->d_name, depth + 1, e);
        } else if (os_unlink(fd, entry->d_name, e) < 0 && e->class != ERROR_NOT_FOUND) {
            r = -1;
        }
    }
    closedir(d);
    if (r == 0 && os_rmdir(dir, name, e) < 0 && e->class != ERROR_NOT_FOUND)
        r = -1;
    return r;
}

int folder_remove_tree(const char *path, struct error *e)
{
    return remove_below(AT_FDCWD, path, 0, e);
}
