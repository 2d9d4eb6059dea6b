/* rebuild_files.c - what messages the m.* files have (dbox-format 3.9). Damaged files are mended and read again.
 *
 * A file that another process has locked is being appended to: what the map does not know of it yet is left alone. */
#include "store/mdbox/rebuild.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the files ---- */

static int compare_ids(const void *x, const void *y)
{
    const struct rebuild_id *a = x, *b = y;

    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return (int)a->in_alt - (int)b->in_alt;
}

static int list_folder(struct mdbox_rebuild *r, const char *path, bool in_alt, struct error *e)
{
    DIR *d = opendir(path);
    struct dirent *entry;

    if (d == NULL)
        return errno == ENOENT ? 0 : error_sys(e, "opendir", path);
    while ((entry = readdir(d)) != NULL) {
        struct slice name = slice_from_str(entry->d_name);
        uint32_t id;

        if (strncmp(entry->d_name, "m.", 2) != 0 || slice_ends(name, SLICE(".broken")) || slice_ends(name, SLICE(".lock")))
            continue;
        if (!slice_to_u32(slice_from(name, 2), &id) || id == 0 || name.at[2] == '0') {
            log_write(mdbox_rebuild_log(r), LOG_LEVEL_WARNING, "mdbox rebuild: Skipping file with missing ID: %s/%s", path, entry->d_name);
            continue;
        }
        VEC_PUSH(&r->ids, ((struct rebuild_id){id, in_alt}));
        if (id > r->highest)
            r->highest = id;
    }
    closedir(d);
    return 0;
}

/* An id that is in both places gets a new one in ALT. */
static int rename_double(struct mdbox_rebuild *r, struct rebuild_id *id, struct error *e)
{
    char old[MDBOX_NAME_MAX], new[MDBOX_NAME_MAX];
    int dir = mdbox_open_alt(r->storage, false, e), ret;

    if (dir < 0)
        return -1;
    mdbox_name(old, id->id);
    mdbox_name(new, ++r->highest);
    ret = os_link(dir, old, dir, new, e) < 0 || os_unlink(dir, old, e) < 0 ? -1 : 0;
    close(dir);
    id->id = r->highest;
    return ret;
}

enum step mdbox_rebuild_list_files(struct mdbox_rebuild *r, struct error *e)
{
    r->highest = mdbox_map_highest_file_id(r->storage->map);
    if (list_folder(r, r->storage->path, false, e) < 0 ||
        (r->storage->alt_path != NULL && list_folder(r, r->storage->alt_path, true, e) < 0))
        return STEP_ERROR;
    if (r->ids.count > 1)
        qsort(r->ids.at, r->ids.count, sizeof(*r->ids.at), compare_ids);
    for (size_t i = 1, n = r->ids.count; i < n; i++)
        if (r->ids.at[i].id == r->ids.at[i - 1].id && rename_double(r, &r->ids.at[i], e) < 0)
            return STEP_ERROR;
    r->phase = REBUILD_FILES;
    return STEP_MORE;
}

static const char *keep_name(struct mdbox_rebuild *r, const char *name)
{
    if (name == NULL)
        return NULL;
    if (r->last_mailbox == NULL || strcmp(r->last_mailbox, name) != 0)
        r->last_mailbox = arena_strdup(r->arena, name);
    return r->last_mailbox;
}

/* 1: all of it was read, or all that counts; 0: damaged at *bad; -1: an I/O fault. */
static int read_messages(struct mdbox_rebuild *r, const struct dbox_file *file, uint32_t id, uint64_t until, uint64_t *bad,
                         uint64_t *last_good, struct error *e)
{
    struct arena *arena = arena_new();
    struct dbox_metadata meta;
    struct dbox_message m;
    uint64_t at = 0;
    int ret;

    *last_good = 0;
    for (;;) {
        struct rebuild_message found = {.known = false};

        arena_reset(arena);
        *bad = at == 0 ? file->header.size : at;
        if (at >= until) {
            ret = 0;
            break;
        }
        ret = dbox_file_next(file, &at, &m, arena, &meta, e);
        if (ret != 1)
            break;
        if (meta.guid == NULL || *meta.guid == '\0') {
            dbox_file_corrupt(file, m.end, "Message is missing GUID", e);
            ret = -1;
            break;
        }
        if (m.end > UINT32_MAX) {
            dbox_file_corrupt(file, m.offset, "file is too large", e);
            ret = -1;
            break;
        }
        store_guid_of_text(slice_from_str(meta.guid), found.guid);
        found.where = (struct mdbox_map_record){.file_id = id, .offset = (uint32_t)m.offset, .size = (uint32_t)(m.end - m.offset)};
        found.size = m.size;
        found.mailbox = keep_name(r, meta.mailbox);
        *last_good = m.offset;
        VEC_PUSH(&r->found, found);
    }
    arena_free(arena);
    return ret == 0 ? 1 : e->class == ERROR_CORRUPT ? 0 : -1;
}

/* A message that was never finished at the end of a file is nobody's. */
static bool cut_unfinished(struct mdbox_rebuild *r, const struct dbox_file *file, uint64_t bad)
{
    unsigned char dummy[DBOX_MESSAGE_HEADER_SIZE];
    struct mdbox_map_record rec;
    struct buffer b = {0};
    struct error e;
    bool yes;

    dbox_message_header_put(dummy, 0);
    yes = os_pread(file->fd, bad, sizeof(dummy), &b, &e) > 0 && memcmp(b.at, dummy, b.size) == 0;
    buffer_free(&b);
    for (uint32_t seq = mdbox_map_count(r->storage->map); yes && seq > 0; seq--)
        yes = !mdbox_map_get_at(r->storage->map, seq, &rec) || rec.file_id != r->found.at[r->found.count - 1].where.file_id ||
              rec.offset < bad;
    if (yes && os_truncate(file->fd, bad, &e) < 0) {
        log_error_value(mdbox_rebuild_log(r), &e);
        yes = false;
    }
    return yes;
}

static uint64_t mapped_end(const struct mdbox_map *map, uint32_t id)
{
    struct mdbox_map_record rec;
    uint64_t end = 0;

    for (uint32_t seq = mdbox_map_count(map); seq > 0; seq--)
        if (mdbox_map_get_at(map, seq, &rec) && rec.file_id == id && (uint64_t)rec.offset + rec.size > end)
            end = (uint64_t)rec.offset + rec.size;
    return end;
}

/* One file: read, mended if need be, read again. */
static int scan_file(struct mdbox_rebuild *r, const struct rebuild_id *id, struct error *e)
{
    struct mdbox_storage *s = r->storage;
    const char *path = id->in_alt ? s->alt_path : s->path;
    int dir = id->in_alt ? mdbox_open_alt(s, false, e) : s->dir, ret = dir < 0 ? -1 : 0;
    char name[MDBOX_NAME_MAX];
    bool done = false;

    mdbox_name(name, id->id);
    for (int round = 0; ret == 0 && !done; round++) {
        size_t before = r->found.count;
        uint64_t bad = 0, last_good = 0, until = UINT64_MAX;
        struct dbox_file file;
        bool mine;
        int fixed, fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && (errno == EACCES || errno == EROFS))
            fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
            ret = errno == ENOENT ? 0 : error_sys(e, "open", arena_printf(r->arena, "%s/%s", path, name));
            e->complete = true;
            break;
        }
        mine = os_lock_fd(fd, OS_LOCK_FLOCK, e) == OS_GOT;
        if (!mine)
            until = mapped_end(s->map, id->id);
        ret = dbox_file_from_fd(&file, fd, arena_printf(r->arena, "%s/%s", path, name), e);
        if (ret == 0) {
            ret = read_messages(r, &file, id->id, until, &bad, &last_good, e);
            done = ret == 1 || (ret == 0 && mine && r->found.count > before && cut_unfinished(r, &file, bad));
            ret = ret < 0 ? -1 : 0;
        } else if (e->class == ERROR_CORRUPT) {
            ret = 0; /* the header line: the fix writes another */
        }
        if (ret == 0 && !done) {
            log_error_value(mdbox_rebuild_log(r), e);
            if (round > 0 || !mine) {
                log_write(mdbox_rebuild_log(r), LOG_LEVEL_ERROR, "mdbox rebuild: Failed to fix file %s/%s", path, name);
                done = true;
            } else {
                r->found.count = before;
                fixed = dbox_file_fix(dir, path, name, last_good, &s->modes, mdbox_rebuild_log(r), e);
                if (fixed < 0) {
                    log_error_value(mdbox_rebuild_log(r), e);
                    ret = e->class == ERROR_CORRUPT ? 0 : -1;
                } else if (fixed == 0) { /* nothing was left of it, which the next round finds */
                    log_write(mdbox_rebuild_log(r), LOG_LEVEL_ERROR, "mdbox rebuild: Failed to fix file %s/%s", path, name);
                }
            }
        }
        dbox_file_close(&file);
    }
    if (dir >= 0 && dir != s->dir)
        close(dir);
    return ret;
}

enum step mdbox_rebuild_scan_files(struct mdbox_rebuild *r, struct error *e)
{
    if (r->next < r->ids.count)
        return scan_file(r, &r->ids.at[r->next++], e) < 0 ? STEP_ERROR : STEP_MORE;
    r->next = 0;
    r->phase = REBUILD_MATCH;
    return STEP_MORE;
}
