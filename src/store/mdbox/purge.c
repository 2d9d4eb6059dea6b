/* purge.c - taking the space of messages that no mailbox has any more, and moving chosen ones to ALT or back
 * (dbox-format 3.7, 3.8).
 *
 * File by file: what lives is copied into other files, the map is told, then the old file goes, and only then does the map
 * forget its dead messages. So at each moment whatever lies in a file is known to the map, as living or as dead: a rebuild
 * after a crash never brings a purged message back. */
#include "store/attachment.h"
#include "store/mdbox/mdbox.h"
#include "store/stage.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#define REBUILDS_MAX 3

struct chosen {
    uint32_t map_uid;
    unsigned count;
};
struct mdbox_purge {
    struct mdbox_storage *storage;
    struct mail_user *user;
    enum { PURGE_LIST, PURGE_OPEN, PURGE_COPY, PURGE_LOCK, PURGE_COMMIT, PURGE_REBUILD } phase;
    VEC(struct chosen) chosen;
    bool back;
    VEC(uint32_t) ids;
    size_t next;
    unsigned rebuilds;
    struct mdbox_rebuild *rebuild;
    bool locked;
    /* of the file that is being worked on */
    struct arena *arena;
    uint32_t id;
    struct dbox_file file;
    bool in_alt, writing, missing;
    struct mdbox_writer writer;
    struct mdbox_map_record *records;
    struct dbox_message *messages;       /* in the order of records */
    struct mdbox_target **targets;       /* NULL = dead */
    uint32_t *offsets;
    size_t count, at;
    VEC(const char *) refs;              /* attachments of the dead */
};

struct mdbox_purge *mdbox_purge_begin(struct mdbox_storage *s, struct mail_user *user)
{
    struct mdbox_purge *p = mem_zero(1, sizeof(*p));

    p->storage = s;
    p->user = user;
    p->file.fd = -1;
    return p;
}

static const struct log *log_of(const struct mdbox_purge *p)
{
    return mail_user_log(p->user);
}

static void leave_file(struct mdbox_purge *p, bool undo)
{
    if (p->writing) {
        if (undo)
            mdbox_writer_undo(&p->writer);
        mdbox_writer_end(&p->writer);
    }
    p->writing = false;
    if (p->locked)
        mdbox_map_unlock(p->storage->map);
    p->locked = false;
    dbox_file_close(&p->file);
    VEC_FREE(&p->refs);
    arena_free(p->arena);
    p->arena = NULL;
}

void mdbox_purge_end(struct mdbox_purge **p_p)
{
    struct mdbox_purge *p = *p_p;

    if (p == NULL)
        return;
    *p_p = NULL;
    leave_file(p, true);
    mdbox_rebuild_end(&p->rebuild);
    VEC_FREE(&p->chosen);
    VEC_FREE(&p->ids);
    mem_free(p);
}

/* ---- what is to be moved ---- */

void mdbox_purge_move(struct mdbox_purge *p, uint32_t map_uid)
{
    VEC_PUSH(&p->chosen, ((struct chosen){map_uid, 1}));
}

void mdbox_purge_move_back(struct mdbox_purge *p)
{
    p->back = true;
}

static int compare_chosen(const void *x, const void *y)
{
    const struct chosen *a = x, *b = y;

    return a->map_uid < b->map_uid ? -1 : a->map_uid > b->map_uid;
}

static void sum_chosen(struct mdbox_purge *p)
{
    size_t to = 0;

    if (p->chosen.count > 1)
        qsort(p->chosen.at, p->chosen.count, sizeof(*p->chosen.at), compare_chosen);
    for (size_t i = 0; i < p->chosen.count; i++) {
        if (to > 0 && p->chosen.at[to - 1].map_uid == p->chosen.at[i].map_uid)
            p->chosen.at[to - 1].count += p->chosen.at[i].count;
        else
            p->chosen.at[to++] = p->chosen.at[i];
    }
    p->chosen.count = to;
}

/* Only a message all of whose references were chosen moves. */
static bool is_chosen(const struct mdbox_purge *p, const struct mdbox_map_record *rec)
{
    struct chosen key = {rec->uid, 0};
    const struct chosen *found = p->chosen.count == 0 ? NULL
        : bsearch(&key, p->chosen.at, p->chosen.count, sizeof(key), compare_chosen);

    return found != NULL && rec->ref > 0 && found->count >= rec->ref;
}

/* ---- which files ---- */

static int compare_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return a < b ? -1 : a > b;
}

static enum step list_files(struct mdbox_purge *p, struct error *e)
{
    struct mdbox_map *map = p->storage->map;
    struct mdbox_map_record rec;
    size_t to = 0;

    if (mdbox_map_refresh(map, e) == STEP_ERROR)
        return STEP_ERROR;
    if (mdbox_rebuild_wanted(p->storage) && p->rebuilds == 0) {
        p->phase = PURGE_REBUILD;
        return STEP_MORE;
    }
    sum_chosen(p);
    p->ids.count = p->next = 0;
    for (uint32_t seq = 1, n = mdbox_map_count(map); seq <= n; seq++)
        if (mdbox_map_get_at(map, seq, &rec) && (rec.ref == 0 || is_chosen(p, &rec)))
            VEC_PUSH(&p->ids, rec.file_id);
    if (p->ids.count > 1)
        qsort(p->ids.at, p->ids.count, sizeof(*p->ids.at), compare_u32);
    for (size_t i = 0; i < p->ids.count; i++)
        if (to == 0 || p->ids.at[to - 1] != p->ids.at[i])
            p->ids.at[to++] = p->ids.at[i];
    p->ids.count = to;
    p->phase = PURGE_OPEN;
    return STEP_MORE;
}

static enum step next_file(struct mdbox_purge *p, bool undo)
{
    leave_file(p, undo);
    p->phase = PURGE_OPEN;
    return STEP_MORE;
}

/* Map and file contradict each other. */
static enum step want_rebuild(struct mdbox_purge *p)
{
    leave_file(p, true);
    p->phase = PURGE_REBUILD;
    return STEP_MORE;
}

/* ---- one file ---- */

/* 1: open and locked; 0: busy; -1: *e, ERROR_NOT_FOUND when it is in neither place. */
static int open_locked(struct mdbox_purge *p, bool in_alt, struct error *e)
{
    struct mdbox_storage *s = p->storage;
    int dir = in_alt ? mdbox_open_alt(s, false, e) : s->dir, fd, r;
    char name[MDBOX_NAME_MAX];
    struct stat st, now;

    if (dir < 0)
        return -1;
    mdbox_name(name, p->id);
    fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    r = fd < 0 ? error_sys(e, "open", name) : 1;
    if (r == 1 && (os_lock_fd(fd, OS_LOCK_FLOCK, e) != OS_GOT || fstat(fd, &st) < 0 || fstatat(dir, name, &now, 0) < 0 ||
                   st.st_ino != now.st_ino || st.st_dev != now.st_dev)) {
        close(fd);
        r = 0;
    }
    if (in_alt)
        close(dir);
    if (r == 1 && dbox_file_from_fd(&p->file, fd, arena_printf(p->arena, "%s/%s", in_alt ? s->alt_path : s->path, name), e) < 0)
        r = -1;
    p->in_alt = in_alt;
    return r;
}

static int fault(struct mdbox_purge *p, uint64_t offset, struct error *e, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int fault(struct mdbox_purge *p, uint64_t offset, struct error *e, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;
    int r;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    r = dbox_file_corrupt(&p->file, offset, buffer_cstr(&text), e);
    buffer_free(&text);
    return r;
}

/* Every message of the file must be in the map, and all that the map says of it in the file. */
static int walk_file(struct mdbox_purge *p, struct error *e)
{
    struct dbox_metadata meta;
    uint64_t at = 0;
    size_t n = 0;
    int r;

    p->records = mdbox_map_of_file(p->storage->map, p->id, p->arena, &p->count);
    p->messages = ARENA_ARRAY(p->arena, struct dbox_message, p->count + 1);
    p->targets = ARENA_ARRAY(p->arena, struct mdbox_target *, p->count + 1);
    p->offsets = ARENA_ARRAY(p->arena, uint32_t, p->count + 1);
    for (;;) {
        struct dbox_message m;

        r = dbox_file_next(&p->file, &at, &m, p->arena, &meta, e);
        if (r <= 0)
            break;
        if (n == p->count)
            return fault(p, m.offset, e, "more messages available than in map (%zu)", p->count);
        if (m.offset != p->records[n].offset)
            return fault(p, m.offset, e, "purging found mismatched offsets (%llu vs %u, %zu/%zu)",
                         (unsigned long long)m.offset, p->records[n].offset, n, p->count);
        if (p->records[n].ref == 0 && meta.attachments != NULL)
            VEC_PUSH(&p->refs, meta.attachments);
        p->messages[n++] = m;
    }
    if (r == 0 && n < p->count)
        return fault(p, at, e, "purging found mismatched offsets (%llu vs %u, %zu/%zu)", (unsigned long long)at,
                     p->records[n].offset, n, p->count);
    return r;
}

/* A file that is gone although ALT is there: its dead messages are forgotten; living ones are a loss to be told. */
static enum step file_is_gone(struct mdbox_purge *p)
{
    p->records = mdbox_map_of_file(p->storage->map, p->id, p->arena, &p->count);
    for (size_t i = 0; i < p->count; i++) {
        if (p->records[i].ref > 0) {
            if (!p->storage->corrupted)
                mdbox_storage_corrupted(p->storage, log_of(p), "Purging unexpectedly lost map_uid=%u", p->records[i].uid);
            return want_rebuild(p);
        }
    }
    if (p->storage->alt_path != NULL && access(p->storage->alt_path, F_OK) < 0)
        return next_file(p, true); /* it may be there, not mounted */
    p->missing = true;
    p->targets = ARENA_ARRAY(p->arena, struct mdbox_target *, p->count + 1);
    p->phase = PURGE_LOCK;
    return STEP_MORE;
}

static bool anything_to_do(const struct mdbox_purge *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->records[i].ref == 0 || (is_chosen(p, &p->records[i]) && p->in_alt == p->back))
            return true;
    return false;
}

static enum step open_file(struct mdbox_purge *p, struct error *e)
{
    int r;

    if (p->next == p->ids.count)
        return STEP_DONE;
    p->id = p->ids.at[p->next++];
    p->arena = arena_new();
    p->missing = false;
    r = open_locked(p, false, e);
    if (r < 0 && e->class == ERROR_NOT_FOUND && p->storage->alt_path != NULL)
        r = open_locked(p, true, e);
    if (r == 0)
        return next_file(p, true);
    if (r < 0 && e->class == ERROR_NOT_FOUND) {
        if (mdbox_map_refresh(p->storage->map, e) == STEP_ERROR)
            return STEP_ERROR;
        return file_is_gone(p);
    }
    /* With the lock: nobody appends, nobody else purges it. */
    if (r == 1 && mdbox_map_refresh(p->storage->map, e) == STEP_ERROR)
        return STEP_ERROR;
    if (r < 0 || walk_file(p, e) < 0) {
        if (e->class != ERROR_CORRUPT)
            return STEP_ERROR;
        mdbox_storage_corrupted_file(p->storage, log_of(p), e);
        return want_rebuild(p);
    }
    if (!anything_to_do(p))
        return next_file(p, true);
    mdbox_writer_begin(&p->writer, p->storage, p->user, p->arena);
    p->writing = true;
    p->at = 0;
    p->phase = PURGE_COPY;
    return STEP_MORE;
}

static enum step copy_one(struct mdbox_purge *p, struct error *e)
{
    const struct mdbox_map_record *rec = &p->records[p->at];
    const struct dbox_message *m = &p->messages[p->at];
    bool in_alt = is_chosen(p, rec) ? !p->back : p->in_alt;
    uint64_t offset;

    if (rec->ref > 0) {
        struct mdbox_target **t = &p->targets[p->at];

        if (mdbox_writer_target(&p->writer, m->end - m->offset, in_alt, p->id, true, t, e) < 0 ||
            mdbox_writer_copy(*t, p->file.fd, m->offset, m->end - m->offset, m->size, &offset, e) < 0)
            return STEP_ERROR;
        p->offsets[p->at] = (uint32_t)offset;
    }
    if (++p->at < p->count)
        return STEP_MORE;
    for (size_t i = 0; i < p->writer.targets.count; i++)
        if (os_sync(p->writer.targets.at[i]->fd, e) < 0)
            return STEP_ERROR;
    p->phase = PURGE_LOCK;
    return STEP_MORE;
}

static enum step lock(struct mdbox_purge *p, struct error *e)
{
    struct mdbox_storage *s = p->storage;
    enum step r = mdbox_storage_lock(s, log_of(p), "purging check", e);

    if (r != STEP_DONE)
        return r;
    p->locked = true;
    if (mdbox_rebuild_wanted(s))
        return want_rebuild(p);
    for (size_t i = 0; i < p->count; i++) {
        struct mdbox_map_record now;

        if (!mdbox_map_get(s->map, p->records[i].uid, &now) || now.file_id != p->id || now.offset != p->records[i].offset) {
            mdbox_storage_corrupted(s, log_of(p), "Purging unexpectedly lost map_uid=%u", p->records[i].uid);
            return want_rebuild(p);
        }
        if (p->records[i].ref == 0 && now.ref > 0)
            return next_file(p, true); /* copied meanwhile: the next purge sees to it */
    }
    p->phase = PURGE_COMMIT;
    return STEP_MORE;
}

/* The living ones are where the map says, from now on. */
static int commit_moves(struct mdbox_purge *p, struct error *e)
{
    struct mdbox_map *map = p->storage->map;
    uint32_t highest = mdbox_map_highest_file_id(map);
    bool has_new = mdbox_writer_has_new(&p->writer, false), has_new_alt = mdbox_writer_has_new(&p->writer, true), any = false;
    struct mdbox_change change;

    if (mdbox_writer_name(&p->writer, &highest, e) < 0)
        return -1;
    if ((has_new && os_sync(p->storage->dir, e) < 0) || (has_new_alt && os_sync(p->writer.alt, e) < 0))
        return -1;
    mdbox_change_begin(&change, map, p->arena, true);
    if (highest != mdbox_map_highest_file_id(map))
        mdbox_change_highest_file_id(&change, highest);
    for (size_t i = 0; i < p->count; i++) {
        struct mdbox_map_record rec = p->records[i];

        if (p->targets[i] == NULL)
            continue;
        rec.file_id = p->targets[i]->id;
        rec.offset = p->offsets[i];
        rec.size = (uint32_t)(p->messages[i].end - p->messages[i].offset);
        mdbox_change_move(&change, &rec);
        any = true;
    }
    return any ? mdbox_change_commit(&change, NULL, e) : 0;
}

static int forget_dead(struct mdbox_purge *p, struct error *e)
{
    struct mdbox_change change;
    bool any = false;

    mdbox_change_begin(&change, p->storage->map, p->arena, true);
    for (size_t i = 0; i < p->count; i++) {
        if (p->targets[i] != NULL)
            continue;
        mdbox_change_expunge(&change, p->records[i].uid);
        any = true;
    }
    if (any && mdbox_change_commit(&change, NULL, e) < 0)
        return -1;
    return mdbox_storage_confirm(p->storage, e);
}

static int unlink_file(struct mdbox_purge *p, struct error *e)
{
    int dir = p->in_alt ? mdbox_open_alt(p->storage, false, e) : p->storage->dir, r;
    char name[MDBOX_NAME_MAX];

    if (dir < 0)
        return -1;
    mdbox_name(name, p->id);
    r = os_unlink(dir, name, e);
    if (r == 0)
        r = os_sync(dir, e);
    if (p->in_alt)
        close(dir);
    return r;
}

static enum step commit(struct mdbox_purge *p, struct error *e)
{
    if (!p->missing && commit_moves(p, e) < 0) {
        if (e->class != ERROR_EXISTS)
            return STEP_ERROR;
        mdbox_storage_corrupted_file(p->storage, log_of(p), e);
        return want_rebuild(p);
    }
    if (p->writing) /* the map names what was written: it stays */
        mdbox_writer_end(&p->writer);
    p->writing = false;
    if ((!p->missing && unlink_file(p, e) < 0) || forget_dead(p, e) < 0)
        return STEP_ERROR;
    for (size_t i = 0; i < p->refs.count; i++)
        attachment_refs_unlink(p->user, p->refs.at[i], NULL);
    return next_file(p, false);
}

static enum step rebuild(struct mdbox_purge *p, struct budget *budget, struct error *e)
{
    enum step r;

    if (p->rebuild == NULL) {
        if (p->rebuilds++ >= REBUILDS_MAX)
            return error_set(e, ERROR_CORRUPT, "mdbox: Storage keeps breaking"), STEP_ERROR;
        p->rebuild = mdbox_rebuild_begin(p->storage, p->user, false);
    }
    r = mdbox_rebuild_step(p->rebuild, budget, e);
    if (r != STEP_DONE)
        return r;
    mdbox_rebuild_end(&p->rebuild);
    p->phase = PURGE_LIST;
    return STEP_MORE;
}

enum step mdbox_purge_step(struct mdbox_purge *p, struct budget *budget, struct error *e)
{
    enum step r;

    do {
        switch (p->phase) {
        case PURGE_LIST:
            r = list_files(p, e);
            break;
        case PURGE_OPEN:
            r = open_file(p, e);
            break;
        case PURGE_COPY:
            r = copy_one(p, e);
            break;
        case PURGE_LOCK:
            r = lock(p, e);
            break;
        case PURGE_COMMIT:
            r = commit(p, e);
            break;
        default:
            r = rebuild(p, budget, e);
        }
    } while (r == STEP_MORE && !budget_spent(budget, 1));
    return r;
}
