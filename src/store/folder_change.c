/* folder_change.c - deleting and renaming mailbox folders (maildir-and-layouts 6.2, 6.3). The list lock is held.
 *
 * Deleting first renames the folder away, so that it is gone at once for everybody; a crash leaves a trash folder that a
 * later delete, or LIST after an hour, removes. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* ---- delete ---- */

#define TRASH_OLD_SECS 3600

static const char *trash_name(const struct mail_location *at, struct arena *arena)
{
    return arena_printf(arena, "%s/..DOVECOT-%s", at->root, at->layout == LAYOUT_FS || at->layout == LAYOUT_INDEX ? "TrasH" : "TRASHED");
}

void folder_clean_trash(const struct mail_storage *storage)
{
    struct arena *arena = arena_new();
    const char *path = trash_name(&storage->at, arena);
    struct error e;
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_mtime < time(NULL) - TRASH_OLD_SECS &&
        folder_remove_tree(path, &e) < 0)
        log_error_value(storage->ns->user->log_p, &e);
    arena_free(arena);
}

/* Renames the folder to the trash name and deletes that. */
static int trash(const struct mail_location *at, struct arena *arena, const char *path, struct error *e)
{
    const char *base = trash_name(at, arena), *target = base;
    unsigned char random[8] = {0};
    struct stat st;

    if (stat(base, &st) == 0) {
        if (getrandom(random, sizeof(random), 0) < 0)
            bytes_put_le64(random, time_monotonic_ns());
        target = arena_printf(arena, "%s/%s.%ld.%02x%02x%02x%02x%02x%02x%02x%02x", base, store_hostname(),
                              (long)getpid(), random[0], random[1], random[2], random[3], random[4], random[5],
                              random[6], random[7]);
    }
    if (os_rename(AT_FDCWD, path, AT_FDCWD, target, e) < 0)
        return -1;
    return folder_remove_tree(base, e);
}

/* rmdir of the folders above, as long as they are empty, up to the root. */
static void remove_empty_above(const char *path, const char *root_path, struct arena *arena)
{
    char *p = arena_strdup(arena, path);
    size_t root = strlen(root_path);
    struct error e;

    for (;;) {
        char *slash = strrchr(p, '/');

        if (slash == NULL || (size_t)(slash - p) <= root)
            return;
        *slash = '\0';
        if (os_rmdir(AT_FDCWD, p, &e) < 0)
            return;
    }
}

static void remove_empty_parents(const struct mail_location *at, struct arena *arena, const char *path)
{
    remove_empty_above(path, mail_location_path(at, arena, "", PATH_DIR), arena);
}

static void remove_own_trees(const struct mail_location *at, struct arena *arena, const char *name,
                             const char *mailbox_path, const struct log *log)
{
    static const enum mail_path kinds[] = {PATH_CONTROL, PATH_CACHE, PATH_INDEX, PATH_ALT, PATH_PRIVATE};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *path = mail_location_path(at, arena, name, kinds[i]);
        struct error e;
        struct stat st;

        /* Those that live inside the mailbox folder went with it. */
        if (path == NULL || strncmp(path, mailbox_path, strlen(mailbox_path)) == 0 || lstat(path, &st) < 0)
            continue;
        /* In the fs layout children live below: only the files of this one go. */
        if (at->layout == LAYOUT_FS ? at->driver->remove(path, &e) < 0 : folder_remove_tree(path, &e) < 0)
            log_error_value(log, &e);
        else if (at->layout == LAYOUT_FS && (os_rmdir(AT_FDCWD, path, &e) == 0 || e.class == ERROR_NOT_FOUND))
            remove_empty_above(path, mail_location_path(at, arena, "", kinds[i]), arena);
    }
}

/* The name goes first, then the folder, which nobody finds any more. */
static int delete_by_index(struct mail_storage *storage, struct arena *arena, const char *name, const char *path, struct error *e)
{
    static const enum mail_path kinds[] = {PATH_CONTROL, PATH_CACHE, PATH_INDEX, PATH_ALT, PATH_PRIVATE};
    const char *paths[sizeof(kinds) / sizeof(kinds[0])];
    struct error ignored;
    struct stat st;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        paths[i] = path == NULL ? NULL : mail_location_path(&storage->at, arena, name, kinds[i]);
    if (list_layout_delete(storage, name, e) < 0)
        return -1;
    if (path != NULL && lstat(path, &st) == 0 &&
        (S_ISDIR(st.st_mode) ? trash(&storage->at, arena, path, &ignored) : storage->at.driver->remove(path, &ignored)) < 0)
        log_error_value(storage->ns->user->log_p, &ignored);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (paths[i] != NULL && strcmp(paths[i], path) != 0 && lstat(paths[i], &st) == 0 && folder_remove_tree(paths[i], &ignored) < 0)
            log_error_value(storage->ns->user->log_p, &ignored);
    return 0;
}

int folder_delete(const struct mail_storage *storage, const char *name, struct error *e)
{
    const struct mail_location *at = &storage->at;
    struct arena *arena = arena_new();
    const char *path = mail_location_path(at, arena, name, PATH_MAILBOX);
    const char *dir = mail_location_path(at, arena, name, PATH_DIR);
    struct error ignored;
    struct stat st;
    int r;

    if (at->layout == LAYOUT_INDEX) {
        r = delete_by_index((struct mail_storage *)(uintptr_t)storage, arena, name, path, e);
    } else if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) {
        r = os_unlink(AT_FDCWD, path, e);
    } else if (at->layout != LAYOUT_FS) {
        r = trash(at, arena, path, e);
        if (r == 0)
            remove_own_trees(at, arena, name, path, storage->ns->user->log_p);
    } else if (*at->dirname != '\0' && lstat(path, &st) == 0) {
        r = trash(at, arena, path, e);
        if (r == 0) {
            remove_own_trees(at, arena, name, path, storage->ns->user->log_p);
            if (os_rmdir(AT_FDCWD, dir, &ignored) == 0 && at->no_noselect)
                remove_empty_parents(at, arena, dir);
        }
    } else if (*at->dirname == '\0' && at->driver->is_mailbox(path)) {
        r = at->driver->remove(path, e);
        if (r == 0) {
            remove_own_trees(at, arena, name, path, storage->ns->user->log_p);
            if (os_rmdir(AT_FDCWD, dir, &ignored) == 0 && at->no_noselect)
                remove_empty_parents(at, arena, dir);
        }
    } else if (os_rmdir(AT_FDCWD, dir, e) < 0) {
        r = -1;
        if (e->sys == ENOTEMPTY || e->sys == EEXIST) {
            error_set(e, ERROR_EXISTS, "Mailbox has children, delete them first");
            error_user(e, "Mailbox has children, delete them first");
        }
    } else {
        r = 0;
    }
    arena_free(arena);
    return r;
}

/* ---- rename ---- */

enum { RENAME_PLACES = 6 };

struct renamed {
    const char *from[RENAME_PLACES], *to[RENAME_PLACES];
    size_t count;
};

static void rename_back(const struct renamed *done, const struct log *log)
{
    struct error e;

    for (size_t i = done->count; i-- > 0;)
        if (os_rename(AT_FDCWD, done->to[i], AT_FDCWD, done->from[i], &e) < 0)
            log_error_value(log, &e);
}

/* The last part may be new below parents that this tree has not yet. */
static int rename_place(const struct mail_location *to_at, const char *a, const char *b, bool make_parents, struct arena *arena,
                        struct error *e)
{
    char *parent = arena_strdup(arena, b), *slash = strrchr(parent, '/');

    if (make_parents && slash != NULL) {
        struct mail_modes modes = mail_modes_of(to_at->root);

        *slash = '\0';
        if (folder_make(parent, &modes, e) < 0)
            return -1;
    }
    return os_rename(AT_FDCWD, a, AT_FDCWD, b, e);
}

/* All folders of a mailbox, or none: without its list of UIDs, or its index, it would be another one. */
static int rename_one(const struct mail_location *from_at, const char *from, const struct mail_location *to_at,
                      const char *to, struct arena *arena, const struct log *log, struct error *e)
{
    static const enum mail_path kinds[RENAME_PLACES] = {PATH_DIR, PATH_ALT, PATH_CONTROL, PATH_INDEX, PATH_CACHE, PATH_PRIVATE};
    struct renamed done = {.count = 0};

    for (size_t i = 0; i < RENAME_PLACES; i++) {
        const char *a = mail_location_path(from_at, arena, from, kinds[i]);
        const char *b = mail_location_path(to_at, arena, to, kinds[i]);
        struct error failed;

        if (a == NULL || b == NULL || (done.count > 0 && strcmp(a, done.from[0]) == 0))
            continue;
        if (kinds[i] != PATH_DIR && access(a, F_OK) < 0)
            continue; /* never made, or moved with an earlier kind */
        if (rename_place(to_at, a, b, kinds[i] != PATH_DIR && from_at->layout == LAYOUT_FS, arena, &failed) == 0) {
            done.from[done.count] = a;
            done.to[done.count++] = b;
        } else if (kinds[i] == PATH_CACHE) {
            log_error_value(log, &failed); /* it is made anew */
        } else if (kinds[i] == PATH_DIR || failed.class != ERROR_NOT_FOUND) {
            rename_back(&done, log);
            *e = failed;
            return -1;
        }
    }
    return 0;
}

static int rename_flat(const struct mail_storage *from, const char *old, const struct mail_storage *to,
                       const char *new, struct arena *arena, struct error *e)
{
    struct folder_names names = {0};
    const struct log *log = from->ns->user->log_p;
    size_t n = strlen(old);
    bool exists = false, moved = false; /* moved: or could have been, had its target not existed */
    struct error sub;
    int r = folder_list(from, arena, &names, e);

    for (size_t i = 0; i < names.count; i++)
        exists = exists || strcmp(names.at[i].name, old) == 0;
    if (r == 0 && exists) {
        r = rename_one(&from->at, old, &to->at, new, arena, log, e);
        moved = r == 0;
    }
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        const char *name = names.at[i].name;
        enum mailbox_existence there = MAILBOX_EXISTS_NO;

        if (strncmp(name, old, n) != 0 || name[n] != from->separator)
            continue;
        moved = true;
        const char *target = arena_printf(arena, "%s%c%s", new, to->separator, name + n + 1);
        /* A child whose target exists stays (6.2). */
        if (folder_exists(to, target, &there, &sub) < 0 || there != MAILBOX_EXISTS_NO)
            continue;
        if (rename_one(&from->at, name, &to->at, target, arena, log, &sub) < 0)
            log_error_value(log, &sub);
    }
    VEC_FREE(&names);
    if (r == 0 && !moved)
        return error_set(e, ERROR_NOT_FOUND, "Mailbox doesn't exist: %s", old);
    return r;
}

static int rename_fs(const struct mail_storage *from, const char *old, const struct mail_storage *to, const char *new,
                     struct arena *arena, struct error *e)
{
    const char *dir = mail_location_path(&from->at, arena, old, PATH_DIR);
    char *parent = mail_location_path(&to->at, arena, new, PATH_DIR), *slash = strrchr(parent, '/');
    struct mail_modes modes = mail_modes_of(to->at.root);

    if (slash != NULL && slash != parent) {
        *slash = '\0';
        if (folder_make(parent, &modes, e) < 0)
            return -1;
    }
    if (rename_one(&from->at, old, &to->at, new, arena, from->ns->user->log_p, e) < 0)
        return -1;
    remove_empty_parents(&from->at, arena, dir);
    return 0;
}

int folder_rename(const struct mail_storage *from, const char *old, const struct mail_storage *to, const char *new,
                  struct error *e)
{
    struct arena *arena = arena_new();
    int r = from->at.layout == LAYOUT_INDEX ? list_layout_rename((struct mail_storage *)(uintptr_t)from, old, new, e)
            : from->at.layout == LAYOUT_FS  ? rename_fs(from, old, to, new, arena, e)
                                            : rename_flat(from, old, to, new, arena, e);

    arena_free(arena);
    return r;
}
