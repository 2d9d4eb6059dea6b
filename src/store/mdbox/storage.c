/* storage.c - what all mailboxes of an mdbox root share in this process: folders, map, open files (dbox-format 3.1).
 *
 * One object per root, whatever users and sessions open it; the map's lock, which belongs to one job at a time, so
 * excludes sessions of this process as it excludes others. */
#include "store/mdbox/mdbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <utlist.h>

static struct mdbox_storage *storages;

void mdbox_name(char out[MDBOX_NAME_MAX], uint32_t id)
{
    snprintf(out, MDBOX_NAME_MAX, "m.%u", id);
}

static const char *map_root(const struct mail_location *at)
{
    return at->index != NULL ? at->index : at->root;
}

static bool equal(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool mdbox_storage_is_of(const struct mdbox_storage *s, const struct mail_location *at)
{
    size_t n = strlen(map_root(at));

    return equal(s->root, at->root) && equal(s->alt_root, at->alt) && strncmp(s->map_path, map_root(at), n) == 0 &&
           strcmp(s->map_path + n, "/storage") == 0;
}

static void free_storage(struct mdbox_storage *s)
{
    for (size_t i = 0; i < MDBOX_FILES_OPEN; i++) {
        if (s->files[i] != NULL) {
            dbox_file_close(&s->files[i]->file);
            mem_free(s->files[i]);
        }
    }
    VEC_FREE(&s->moves);
    mdbox_map_close(&s->map);
    if (s->dir >= 0)
        close(s->dir);
    mem_free(s->path);
    mem_free(s->map_path);
    mem_free(s->alt_path);
    mem_free(s->root);
    mem_free(s->alt_root);
    mem_free(s);
}

static int open_map(struct mdbox_storage *s, struct mail_user *user, struct error *e)
{
    struct index_settings settings;
    int dir = open(s->map_path, O_PATH | O_DIRECTORY | O_CLOEXEC), r;

    if (dir < 0)
        return error_sys(e, "open", s->map_path);
    store_index_settings(user, &settings);
    r = mdbox_map_open(&s->map, dir, s->map_path, &settings, s->modes.file, s->modes.gid, s->read_only, e);
    close(dir);
    return r;
}

/* Is there a file of messages? */
static bool has_files(const struct mdbox_storage *s)
{
    DIR *d = opendir(s->path);
    struct dirent *entry;
    bool found = false;
    uint32_t id;

    while (d != NULL && !found && (entry = readdir(d)) != NULL)
        found = strncmp(entry->d_name, "m.", 2) == 0 && slice_to_u32(slice_from_str(entry->d_name + 2), &id) && id > 0;
    if (d != NULL)
        closedir(d);
    return found;
}

static int open_storage(struct mdbox_storage *s, struct mail_user *user, bool create, struct error *e)
{
    const struct log *log = mail_user_log(user);
    const char *problem;
    bool unfinished;

    s->modes = mail_modes_of(s->root);
    if (create && (folder_make(s->path, &s->modes, e) < 0 || folder_make(s->map_path, &s->modes, e) < 0))
        return -1;
    s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0)
        return error_sys(e, "open", s->path);
    s->read_only = faccessat(s->dir, ".", W_OK, AT_EACCESS) < 0 && (errno == EACCES || errno == EROFS);
    if (open_map(s, user, e) < 0)
        return -1;
    if (s->read_only)
        return 0;
    /* A new one gets its UIDVALIDITY at once, so that mailboxes are made with the right value. */
    if (mdbox_map_uid_validity(s->map) == 0 && mdbox_map_lock(s->map, "syncing", &unfinished, e) == STEP_DONE)
        mdbox_map_unlock(s->map);
    if (mdbox_map_count(s->map) == 0 && mdbox_map_rebuild_count(s->map) == 0 && has_files(s)) {
        /* It was lost: mended before anybody takes messages for lost. After that it is known that the files have none. */
        s->no_map = true;
        mdbox_storage_set_corrupted(s);
    }
    problem = mdbox_map_problem(s->map);
    if (problem != NULL)
        mdbox_storage_corrupted(s, log, "%s", problem);
    else if (mdbox_map_fscked(s->map)) {
        s->corrupted = true;
        s->corrupted_count = mdbox_map_rebuild_count(s->map);
    }
    return 0;
}

/* Once a week, by the folder's own time: what crashes have left (1.5). */
static void clean_temps(struct mdbox_storage *s, struct mail_user *user)
{
    int64_t now = (int64_t)time(NULL);
    struct stat st;

    if (s->read_only || fstat(s->dir, &st) < 0 || !dbox_temp_due(user, st.st_atime, now) ||
        st.st_atime > st.st_ctime + 36 * 3600)
        return;
    dbox_temp_clean(s->path, now, mail_user_log(user));
    if (s->alt_path != NULL)
        dbox_temp_clean(s->alt_path, now, mail_user_log(user));
}

int mdbox_storage_get(struct mdbox_storage **out, struct mail_user *user, const struct mail_location *at, bool create,
                      struct error *e)
{
    struct mdbox_storage *s;

    DL_FOREACH(storages, s) {
        if (mdbox_storage_is_of(s, at)) {
            s->refs++;
            *out = s;
            return 0;
        }
    }
    s = mem_zero(1, sizeof(*s));
    s->refs = 1;
    s->dir = -1;
    s->root = mem_strdup(at->root);
    s->path = mem_printf("%s/storage", at->root);
    s->map_path = mem_printf("%s/storage", map_root(at));
    if (at->alt != NULL) {
        s->alt_root = mem_strdup(at->alt);
        s->alt_path = mem_printf("%s/storage", at->alt);
    }
    if (open_storage(s, user, create, e) < 0) {
        free_storage(s);
        return -1;
    }
    if (!s->read_only)
        dbox_alt_check(at, mail_user_log(user));
    clean_temps(s, user);
    DL_APPEND(storages, s);
    *out = s;
    return 0;
}

void mdbox_storage_put(struct mdbox_storage **s_p)
{
    struct mdbox_storage *s = *s_p;

    *s_p = NULL;
    if (s == NULL || --s->refs > 0)
        return;
    DL_DELETE(storages, s);
    free_storage(s);
}

/* ---- damage ---- */

void mdbox_storage_set_corrupted(struct mdbox_storage *s)
{
    if (s->corrupted)
        return;
    s->corrupted = true;
    s->corrupted_count = mdbox_map_rebuild_count(s->map);
}

void mdbox_storage_corrupted(struct mdbox_storage *s, const struct log *log, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    log_write(log, LOG_LEVEL_ERROR, "mdbox map %s/dovecot.map.index corrupted: %s", s->map_path, buffer_cstr(&text));
    buffer_free(&text);
    mdbox_storage_set_corrupted(s);
}

void mdbox_storage_corrupted_file(struct mdbox_storage *s, const struct log *log, const struct error *e)
{
    if (!s->corrupted)
        log_error_value(log, e);
    mdbox_storage_set_corrupted(s);
}

enum step mdbox_storage_lock(struct mdbox_storage *s, const struct log *log, const char *why, struct error *e)
{
    struct index_log_position at;
    bool unfinished;
    enum step r = mdbox_map_lock(s->map, why, &unfinished, e);

    if (r == STEP_DONE && unfinished && !s->corrupted) {
        index_log_position(mdbox_map_index(s->map), &at);
        log_write(log, LOG_LEVEL_WARNING, "mdbox %s: Inconsistency in map index (%u,%llu != %u,%llu)", s->path, at.seq,
                  (unsigned long long)at.tail, at.seq, (unsigned long long)at.head);
        mdbox_storage_set_corrupted(s);
    }
    return r;
}

int mdbox_storage_confirm(struct mdbox_storage *s, struct error *e)
{
    return s->corrupted ? 0 : mdbox_map_confirm(s->map, e);
}

bool mdbox_rebuild_wanted(struct mdbox_storage *s)
{
    return s->corrupted && !s->refused && !s->read_only;
}

/* ---- files ---- */

int mdbox_open_alt(const struct mdbox_storage *s, bool create, struct error *e)
{
    int fd;

    if (s->alt_path == NULL)
        return error_set(e, ERROR_NOT_FOUND, "no ALT path is set");
    fd = open(s->alt_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && create) {
        if (os_mkdir_parents(AT_FDCWD, s->alt_path, s->modes.dir, s->modes.gid, e) < 0)
            return -1;
        fd = open(s->alt_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return fd < 0 ? error_sys(e, "open", s->alt_path) : fd;
}

/* Is an open one still the file of that name? */
static bool is_current(const struct mdbox_storage *s, const struct mdbox_file *f)
{
    struct stat st;

    (void)s;
    return stat(f->file.path, &st) == 0 && st.st_ino == f->file.st.st_ino && st.st_dev == f->file.st.st_dev;
}

static void drop(struct mdbox_file *f)
{
    f->stale = true;
    if (f->refs > 0)
        return;
    dbox_file_close(&f->file);
    mem_free(f);
}

static struct mdbox_file *find_open(struct mdbox_storage *s, uint32_t id)
{
    for (size_t i = 0; i < MDBOX_FILES_OPEN; i++) {
        struct mdbox_file *f = s->files[i];
        struct error ignored;

        if (f == NULL || f->id != id)
            continue;
        memmove(s->files + 1, s->files, i * sizeof(*s->files));
        s->files[0] = f;
        if (is_current(s, f) && dbox_file_refresh(&f->file, &ignored) == 0)
            return f;
        memmove(s->files, s->files + 1, (MDBOX_FILES_OPEN - 1) * sizeof(*s->files));
        s->files[MDBOX_FILES_OPEN - 1] = NULL;
        drop(f);
        return NULL;
    }
    return NULL;
}

int mdbox_file_get(struct mdbox_storage *s, uint32_t id, struct mdbox_file **out, struct error *e)
{
    struct mdbox_file *f = find_open(s, id);
    char name[MDBOX_NAME_MAX];
    int alt, r;

    if (f == NULL) {
        f = mem_zero(1, sizeof(*f));
        f->id = id;
        mdbox_name(name, id);
        r = dbox_file_open(&f->file, s->dir, s->path, name, e);
        if (r < 0 && e->class == ERROR_NOT_FOUND && s->alt_path != NULL && (alt = mdbox_open_alt(s, false, e)) >= 0) {
            f->in_alt = true;
            r = dbox_file_open(&f->file, alt, s->alt_path, name, e);
            close(alt);
        }
        if (r < 0) {
            mem_free(f);
            return -1;
        }
        if (s->files[MDBOX_FILES_OPEN - 1] != NULL)
            drop(s->files[MDBOX_FILES_OPEN - 1]);
        memmove(s->files + 1, s->files, (MDBOX_FILES_OPEN - 1) * sizeof(*s->files));
        s->files[0] = f;
    }
    f->refs++;
    *out = f;
    return 0;
}

void mdbox_file_put(struct mdbox_storage *s, struct mdbox_file **f_p)
{
    struct mdbox_file *f = *f_p;

    (void)s;
    *f_p = NULL;
    if (f != NULL && --f->refs == 0 && f->stale)
        drop(f);
}
