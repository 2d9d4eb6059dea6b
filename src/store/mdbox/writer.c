/* writer.c - where new messages go: which m.<id>, under which lock, and how it is taken back (dbox-format 3.3, 3.4).
 *
 * A file is appended to only under its flock, and only when all of it is known: the map's records reach its end, or what
 * stands behind them is whole messages (of a session whose map is newer than ours would be). A half message at the end is
 * never appended behind: the next reader could not tell where the new one begins. One that was never finished (its header
 * says size 0) is cut off under the map's lock; anything else is left to the rebuild. */
#include "store/mdbox/mdbox.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define IDS_MAX 10             /* files that are looked at (3.3-2) */
#define RECORDS_MAX 20000      /* map records that are walked for them */
#define CHUNK 65536

/* The time before which a file was made that is not appended to any more. */
static int64_t oldest_stamp(unsigned interval, time_t now)
{
    struct tm tm;

    if (interval == 0)
        return 0;
    localtime_r(&now, &tm);
    tm.tm_sec = 0;
    if (interval >= 60 * 60)
        tm.tm_min = 0;
    if (interval >= 24 * 60 * 60)
        tm.tm_hour = 0;
    return (int64_t)mktime(&tm) -
           (int64_t)(interval >= 24 * 60 * 60 ? interval - 24 * 60 * 60 : interval >= 60 * 60 ? interval - 60 * 60
                     : interval >= 60 ? interval - 60 : 0);
}

void mdbox_writer_begin(struct mdbox_writer *w, struct mdbox_storage *s, struct mail_user *user, struct arena *arena)
{
    const struct settings *set = mail_user_settings(user);

    *w = (struct mdbox_writer){.storage = s, .user = user, .arena = arena, .alt = -1};
    w->limit = conf_size(set, SET_mdbox_rotate_size);
    w->preallocate = conf_bool(set, SET_mdbox_preallocate_space);
    w->oldest = oldest_stamp(conf_secs(set, SET_mdbox_rotate_interval), time(NULL));
}

static int folder(struct mdbox_writer *w, bool in_alt, struct error *e)
{
    if (!in_alt)
        return w->storage->dir;
    if (w->alt < 0)
        w->alt = mdbox_open_alt(w->storage, true, e);
    return w->alt;
}

static const char *folder_path(const struct mdbox_writer *w, bool in_alt)
{
    return in_alt ? w->storage->alt_path : w->storage->path;
}

static bool has_room(const struct mdbox_writer *w, uint64_t used, uint64_t size)
{
    return size < w->limit && used < w->limit && used + size < w->limit;
}

/* ---- looking at a file ---- */

/* The end of what the map knows of this file. */
static uint64_t mapped_end(const struct mdbox_map *map, uint32_t id)
{
    struct mdbox_map_record rec;
    uint64_t end = 0;

    for (uint32_t seq = mdbox_map_count(map); seq > 0; seq--)
        if (mdbox_map_get_at(map, seq, &rec) && rec.file_id == id && (uint64_t)rec.offset + rec.size > end)
            end = (uint64_t)rec.offset + rec.size;
    return end;
}

/* Is all that stands at `at` a message that nobody has finished? */
static bool is_unfinished(const struct dbox_file *file, uint64_t at)
{
    struct buffer b = {0};
    struct error ignored;
    unsigned char dummy[DBOX_MESSAGE_HEADER_SIZE];
    bool yes;

    dbox_message_header_put(dummy, 0);
    yes = os_pread(file->fd, at, sizeof(dummy), &b, &ignored) > 0 && memcmp(b.at, dummy, b.size) == 0;
    buffer_free(&b);
    return yes;
}

/* 1: everything up to the end is messages; 0: a message that was never finished stands at *bad; -1: *e. */
static int check_tail(const struct dbox_file *file, uint64_t from, uint64_t *bad, struct error *e)
{
    struct arena *arena = arena_new();
    struct dbox_message m;
    uint64_t at = from;
    int r;

    do {
        arena_reset(arena);
        *bad = at;
        r = dbox_file_next(file, &at, &m, arena, NULL, e);
    } while (r == 1);
    arena_free(arena);
    if (r < 0 && e->class == ERROR_CORRUPT && is_unfinished(file, *bad))
        return 0;
    return r == 0 ? 1 : -1;
}

static struct mdbox_target *add_target(struct mdbox_writer *w, uint32_t id, int fd, const char *name, uint64_t size, bool in_alt)
{
    struct mdbox_target *t = ARENA_NEW(w->arena, struct mdbox_target);

    *t = (struct mdbox_target){.id = id, .fd = fd, .name = arena_strdup(w->arena, name), .start = size, .end = size,
                               .in_alt = in_alt};
    return t;
}

/* Opens and locks one candidate. 1: *out; 0: not this one; -1: an I/O fault. 2: it is older than the interval allows. */
static int try_file(struct mdbox_writer *w, uint32_t id, uint64_t known_end, uint64_t size, bool in_alt, struct mdbox_target **out,
                    struct error *e)
{
    struct mdbox_storage *s = w->storage;
    const struct log *log = mail_user_log(w->user);
    int dir = folder(w, in_alt, e), fd, r;
    struct dbox_file file;
    char name[MDBOX_NAME_MAX], *path;
    uint64_t end, bad;
    struct stat st;

    if (dir < 0)
        return -1;
    mdbox_name(name, id);
    fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == EACCES || errno == EPERM || errno == ELOOP || errno == EISDIR
                   ? 0 : error_sys(e, "open", name);
    if (os_lock_fd(fd, OS_LOCK_FLOCK, e) != OS_GOT || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        close(fd);
        return 0;
    }
    path = arena_printf(w->arena, "%s/%s", folder_path(w, in_alt), name);
    if (dbox_file_from_fd(&file, fd, path, e) < 0) {
        if (e->class != ERROR_CORRUPT)
            return -1;
        mdbox_storage_corrupted_file(s, log, e);
        return 0;
    }
    r = file.st.st_ino != st.st_ino || file.st.st_dev != st.st_dev || file.header.version != 2 ||
        file.header.message_header_size != DBOX_MESSAGE_HEADER_SIZE ? 0 : 1;
    if (r == 1 && w->oldest != 0 && (int64_t)file.header.created < w->oldest)
        r = 2;
    if (r == 1 && !has_room(w, file.size, size))
        r = 0;
    /* Whoever wrote here before has let the lock go after its map transaction: the map knows it now. */
    if (r == 1 && mdbox_map_refresh(s->map, e) == STEP_ERROR)
        r = -1;
    end = r != 1 || known_end == file.size ? known_end : mapped_end(s->map, id);
    if (end < file.header.size)
        end = file.header.size;
    if (r == 1 && end > file.size) {
        dbox_file_corrupt(&file, file.size, "file is shorter than the map says", e);
        mdbox_storage_corrupted_file(s, log, e);
        r = 0;
    } else if (r == 1 && end < file.size) {
        r = check_tail(&file, end, &bad, e);
        if (r == 0) {
            struct mdbox_target *t = add_target(w, id, file.fd, name, bad, in_alt);

            VEC_PUSH(&w->tails, t);
            file.fd = -1;
        } else if (r < 0 && e->class == ERROR_CORRUPT) {
            mdbox_storage_corrupted_file(s, log, e);
            r = 0;
        }
    }
    if (r == 1) {
        *out = add_target(w, id, file.fd, name, file.size, in_alt);
        file.fd = -1;
        VEC_PUSH(&w->targets, *out);
    }
    dbox_file_close(&file);
    return r;
}

static bool is_refused(struct mdbox_writer *w, uint32_t id)
{
    for (size_t i = 0; i < w->refused.count; i++)
        if (w->refused.at[i] == id)
            return true;
    for (size_t i = 0; i < w->targets.count; i++)
        if (w->targets.at[i]->id == id)
            return true;
    return false;
}

/* 1, 0, -1. */
static int find_file(struct mdbox_writer *w, uint64_t size, bool in_alt, uint32_t not_id, struct mdbox_target **out,
                     struct error *e)
{
    struct mdbox_map *map = w->storage->map;
    struct mdbox_map_record rec;
    uint32_t walked = 0, last = 0;
    unsigned ids = 0;

    if (mdbox_map_refresh(map, e) == STEP_ERROR)
        return -1;
    for (uint32_t seq = mdbox_map_count(map); seq > 0 && ids < IDS_MAX && walked < RECORDS_MAX; seq--, walked++) {
        int r;

        if (!mdbox_map_get_at(map, seq, &rec) || rec.file_id == last || rec.file_id == 0 || rec.file_id == not_id)
            continue;
        last = rec.file_id;
        if (is_refused(w, rec.file_id))
            continue;
        ids++;
        r = 0;
        if (has_room(w, (uint64_t)rec.offset + rec.size, size))
            r = try_file(w, rec.file_id, (uint64_t)rec.offset + rec.size, size, in_alt, out, e);
        if (r < 0 || r == 1)
            return r;
        VEC_PUSH(&w->refused, rec.file_id);
        if (r == 2)
            return 0;
    }
    return 0;
}

/* From its map transaction on, others may find a new file; they must not append to it while it may still be taken back. */
static void lock_new(int fd)
{
    struct error ignored;

    (void)os_lock_fd(fd, OS_LOCK_FLOCK, &ignored); /* nobody else has it open */
}

static int make_file(struct mdbox_writer *w, bool in_alt, struct mdbox_target **out, struct error *e)
{
    int dir = folder(w, in_alt, e), fd, r;
    struct buffer header = {0};
    char *name;

    fd = dir < 0 ? -1 : dbox_temp_create(dir, folder_path(w, in_alt), &w->storage->modes, w->arena, &name, e);
    if (fd < 0)
        return stage_space_text(e);
    if (w->preallocate)
        (void)!fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)w->limit);
    dbox_header_put(&header, time(NULL));
    *out = add_target(w, 0, fd, name, 0, in_alt);
    VEC_PUSH(&w->targets, *out);
    lock_new(fd);
    r = os_write(fd, buffer_slice(&header), e);
    (*out)->end = header.size;
    buffer_free(&header);
    return r < 0 ? stage_space_text(e) : 1;
}

int mdbox_writer_target(struct mdbox_writer *w, uint64_t size, bool in_alt, uint32_t not_id, bool may_make,
                        struct mdbox_target **out, struct error *e)
{
    int r = 0;

    for (size_t i = 0; i < w->targets.count; i++) {
        struct mdbox_target *t = w->targets.at[i];

        if (t->in_alt == in_alt && !t->spoiled && has_room(w, t->end, size)) {
            *out = t;
            return 1;
        }
    }
    if (size < w->limit)
        r = find_file(w, size, in_alt, not_id, out, e);
    return r != 0 || !may_make ? r : make_file(w, in_alt, out, e);
}

struct mdbox_target *mdbox_writer_adopt(struct mdbox_writer *w, int fd, const char *temp_name, uint64_t size)
{
    struct mdbox_target *t = add_target(w, 0, fd, temp_name, size, false);

    t->adopted = t->name;
    lock_new(fd);
    if (w->preallocate)
        (void)!fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)w->limit);
    VEC_PUSH(&w->targets, t);
    return t;
}

/* ---- bytes ---- */

int mdbox_writer_copy(struct mdbox_target *t, int from_fd, uint64_t from, uint64_t size, uint64_t body_size, uint64_t *offset,
                      struct error *e)
{
    uint64_t at = DBOX_MESSAGE_HEADER_SIZE;
    struct buffer b = {0};
    int r = 0;

    if (t->end > UINT32_MAX || size > UINT32_MAX)
        return error_set(e, ERROR_LIMIT, "%s: too large", t->name);
    *offset = t->end;
    t->spoiled = true;
    r = dbox_message_begin(t->fd, t->end, e);
    while (r == 0 && at < size) {
        uint64_t want = size - at < CHUNK ? size - at : CHUNK;
        ssize_t n;

        buffer_reset(&b);
        n = os_pread(from_fd, from + at, (size_t)want, &b, e);
        if (n == 0)
            r = error_set(e, ERROR_CORRUPT, "message ends early");
        else
            r = n < 0 ? -1 : os_write(t->fd, buffer_slice(&b), e);
        at += (uint64_t)(n > 0 ? n : 0);
    }
    buffer_free(&b);
    if (r == 0)
        r = dbox_message_seal(t->fd, t->end, body_size, e);
    if (r < 0)
        return stage_space_text(e);
    t->end += size;
    t->spoiled = false;
    t->synced = false;
    return 0;
}

/* ---- names ---- */

bool mdbox_writer_has_new(const struct mdbox_writer *w, bool in_alt)
{
    for (size_t i = 0; i < w->targets.count; i++)
        if (w->targets.at[i]->id == 0 && w->targets.at[i]->in_alt == in_alt)
            return true;
    return false;
}

/* Never over a file: link and unlink would leave two names to a crash, so the name is looked for first; the map's lock keeps
 * others from making it. */
static int name_file(struct mdbox_writer *w, struct mdbox_target *t, uint32_t id, struct error *e)
{
    int dir = folder(w, t->in_alt, e);
    char name[MDBOX_NAME_MAX];
    struct stat st;

    mdbox_name(name, id);
    if (dir < 0)
        return -1;
    if (fstatat(w->storage->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(e, ERROR_EXISTS, "mdbox: %s/%s already exists, rebuilding index", folder_path(w, t->in_alt), name);
    if (os_rename(dir, t->name, dir, name, e) < 0)
        return error_context(e, "%s/", folder_path(w, t->in_alt));
    t->name = arena_strdup(w->arena, name);
    t->id = id;
    return 0;
}

int mdbox_writer_name(struct mdbox_writer *w, uint32_t *highest, struct error *e)
{
    for (size_t i = 0; i < w->targets.count; i++) {
        struct mdbox_target *t = w->targets.at[i];

        if (t->id != 0)
            continue;
        if (*highest >= UINT32_MAX - 1)
            return error_set(e, ERROR_LIMIT, "file ids are used up");
        if (name_file(w, t, *highest + 1, e) < 0)
            return -1;
        ++*highest;
    }
    return 0;
}

void mdbox_writer_cut_tails(struct mdbox_writer *w)
{
    struct error e;

    for (size_t i = 0; i < w->tails.count; i++) {
        struct mdbox_target *t = w->tails.at[i];

        if (w->storage->corrupted || mapped_end(w->storage->map, t->id) > t->end)
            continue;
        if (os_truncate(t->fd, t->end, &e) < 0)
            log_error_value(mail_user_log(w->user), &e);
    }
}

/* ---- the end ---- */

void mdbox_writer_undo(struct mdbox_writer *w)
{
    struct error e;

    for (size_t i = 0; i < w->targets.count; i++) {
        struct mdbox_target *t = w->targets.at[i];
        int r = 0;

        if (t->adopted != NULL) { /* its message is its owner's, who has it under the old name again */
            if (t->id != 0)
                r = os_rename(w->storage->dir, t->name, w->storage->dir, t->adopted, &e);
            if (r == 0 && (t->end > t->start || t->spoiled))
                r = os_truncate(t->fd, t->start, &e);
            t->name = t->adopted;
            t->id = 0;
        } else if (t->start == 0) /* ours from the beginning, named or not */
            r = os_unlink(folder(w, t->in_alt, &e), t->name, &e) < 0 && e.class != ERROR_NOT_FOUND ? -1 : 0;
        else if (t->end > t->start || t->spoiled)
            r = os_truncate(t->fd, t->start, &e);
        if (r < 0)
            log_error_value(mail_user_log(w->user), &e);
        t->end = t->start;
    }
}

void mdbox_writer_end(struct mdbox_writer *w)
{
    for (size_t i = 0; i < w->targets.count; i++) {
        if (w->targets.at[i]->adopted == NULL)
            close(w->targets.at[i]->fd);
        else
            os_unlock_fd(w->targets.at[i]->fd, OS_LOCK_FLOCK);
    }
    for (size_t i = 0; i < w->tails.count; i++)
        close(w->tails.at[i]->fd);
    VEC_FREE(&w->targets);
    VEC_FREE(&w->tails);
    VEC_FREE(&w->refused);
    if (w->alt >= 0)
        close(w->alt);
    w->alt = -1;
}
