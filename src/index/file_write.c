/* file_write.c - whole files: a new log, the base index, rotation, repair, reset (index-format 7.3, 8, 12.3).
 *
 * Nothing that others may read is changed in place: a file is written under another name and renamed. At every
 * moment between two calls the files on disk are a family that readers understand; the order of the calls is 8.2's.
 *
 * What may go wrong: `.newlock` and `.tmp` files of a process that died. While we hold the log's lock nobody else can
 * be rotating, so that a `.newlock` is stale at once; where there is no log yet, it is after NEWLOCK_STALE_SECS. */
#include "index/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NEWLOCK_STALE_SECS = 2, NEWLOCK_POLL_MS = 2 };

static uint32_t now32(void)
{
    return (uint32_t)time(NULL);
}

static int remove_stale(struct index *index, const char *name)
{
    struct error ignored;

    return os_unlink(index->dir, name, &ignored);
}

/* `held`: the lock of the existing log is ours. */
static int create_newlock(struct index *index, const char *name, bool held, struct error *e)
{
    for (unsigned polls = 0;; polls++) {
        struct timespec pause = {0, NEWLOCK_POLL_MS * 1000000L};
        int fd = os_create(index->dir, name, index->mode, index->gid, e);
        struct stat st;

        if (fd >= 0 || e->class != ERROR_EXISTS)
            return fd;
        if (fstatat(index->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue; /* its owner has just finished */
        if (held || st.st_mtime + NEWLOCK_STALE_SECS < time(NULL)) {
            remove_stale(index, name);
            continue;
        }
        if (polls * NEWLOCK_POLL_MS > NEWLOCK_STALE_SECS * 2000u)
            return error_set(e, ERROR_LOCK_TIMEOUT, "Timeout while waiting for %s/%s", index->path, name);
        nanosleep(&pause, NULL); /* a creation race: the other one needs a millisecond */
    }
}

static int write_log(struct index *index, int fd, const struct log_header *h, struct slice more, struct error *e)
{
    struct buffer bytes = {0};
    unsigned char header[LOG_HEADER_SIZE];
    int ret;

    format_log_header_put(header, h);
    buffer_append(&bytes, header, sizeof(header));
    buffer_append_slice(&bytes, more);
    ret = os_write(fd, buffer_slice(&bytes), e);
    buffer_free(&bytes);
    if (ret == 0 && fcntl(fd, F_SETFL, O_APPEND) < 0)
        ret = error_sys(e, "fcntl", index->log_name);
    if (ret == 0 && (index->set.fsync == INDEX_FSYNC_ALWAYS || (more.size > 0 && index->set.fsync != INDEX_FSYNC_NEVER)))
        ret = os_sync(fd, e);
    return ret;
}

static bool log_exists(const struct index *index)
{
    struct stat st;

    return fstatat(index->dir, index->log_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int file_log_create(struct index *index, const struct log_header *h, struct slice more, enum file_keep keep, bool lock,
                    struct error *e)
{
    char newlock[FILE_NAME_SIZE], older[FILE_NAME_SIZE];
    bool held = index->log.fd >= 0;
    int fd = create_newlock(index, file_name(index, newlock, ".log.newlock"), held, e), ret = 0;
    struct error ignored;

    if (fd < 0)
        return -1;
    if (!held && log_exists(index)) {
        ret = -2; /* the winner of the race has renamed his */
    } else {
        ret = write_log(index, fd, h, more, e);
        if (ret == 0 && lock && index->set.lock_method != OS_LOCK_DOTLOCK &&
            os_lock_fd(fd, index->set.lock_method, e) != OS_GOT)
            ret = e->class != ERROR_NONE ? -1 : error_set(e, ERROR_BUG, "%s is locked by others", newlock);
    }
    if (ret == 0 && keep != KEEP_NOT) {
        os_unlink(index->dir, file_name(index, older, ".log.2"), &ignored);
        if (os_link(index->dir, index->log_name, index->dir, older, keep == KEEP_MUST ? e : &ignored) < 0 && keep == KEEP_MUST)
            ret = -1; /* the base index does not have all of it yet */
    }
    if (ret == 0)
        ret = os_rename(index->dir, newlock, index->dir, index->log_name, e);
    if (ret == 0)
        return fd;
    close(fd);
    os_unlink(index->dir, newlock, &ignored);
    return ret;
}

/* The header of a log that begins now and goes on counting modseqs. */
static struct log_header new_header(const struct index *index, uint32_t indexid, uint32_t seq, uint32_t prev_seq,
                                    uint32_t prev_offset)
{
    return (struct log_header){.major = LOG_MAJOR, .minor = LOG_MINOR, .header_size = LOG_HEADER_SIZE,
                               .compat = BASE_COMPAT_LE, .indexid = indexid, .file_seq = seq,
                               .prev_file_seq = prev_seq, .prev_file_offset = prev_offset, .create_stamp = now32(),
                               .initial_modseq = index->modseq > 0 ? index->modseq : 1};
}

/* ---- a new family -------------------------------------------------------------------------------------------------- */

static int initial_records(struct index *index, struct buffer *out, struct error *e)
{
    struct index_commit ignored = {0};
    struct arena *arena;
    struct index_batch *batch;
    int ret;

    if (index->init == NULL)
        return 0;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_INTERNAL);
    ret = index->init(index->init_arg, index, batch, e);
    if (ret == 0)
        ret = batch_encode(index, batch, LOG_HEADER_SIZE, out, &ignored, e);
    if (ret == 0 && out->size > LOG_BOUNDARY_SIZE && (bytes_le32(out->at + 4) & LOG_TYPE_MASK) == LOG_BOUNDARY)
        buffer_drop(out, LOG_BOUNDARY_SIZE); /* they stand alone in the new log (7.3) */
    arena_free(arena);
    return ret;
}

/* With `damaged` the storage is asked to check itself: what was known is lost. */
static int start_family(struct index *index, uint32_t seq, bool damaged, struct error *e)
{
    struct log_header h = new_header(index, now32(), seq, 0, 0);
    struct buffer more = {0};
    int fd;

    if (index->state.base == NULL)
        state_init(&index->state, h.indexid);
    if (initial_records(index, &more, e) < 0) {
        buffer_free(&more);
        return -1;
    }
    if (damaged) {
        unsigned char r[16] = {0};

        format_offset_put(r, sizeof(r));
        bytes_put_le32(r + 4, LOG_HEADER | LOG_EXTERNAL);
        bytes_put_le16(r + 8, BASE_AT_FLAGS);
        bytes_put_le16(r + 10, 4);
        bytes_put_le32(r + 12, BASE_FLAG_FSCKED);
        buffer_append(&more, r, sizeof(r));
    }
    fd = file_log_create(index, &h, buffer_slice(&more), index->log.fd >= 0 ? KEEP_TRY : KEEP_NOT, false, e);
    buffer_free(&more);
    if (fd >= 0)
        close(fd); /* opened again by the load that follows, which also takes the other's if we lost */
    return fd == -1 ? -1 : 0;
}

int file_log_start(struct index *index, struct error *e)
{
    return start_family(index, 2, false, e);
}

/* ---- repair -------------------------------------------------------------------------------------------------------- */

/* Makes the new log the open one; the old one's lock goes with its descriptor. */
static void change_log(struct index *index, int fd, const struct log_header *h, uint64_t head)
{
    if (index->log.fd >= 0) {
        if (index->set.lock_method != OS_LOCK_DOTLOCK)
            os_unlock_fd(index->log.fd, index->set.lock_method);
        close(index->log.fd);
    }
    file_log_take(index, fd, h, head, index->modseq);
    state_put(&index->state, BASE_AT_LOG_SEQ, h->file_seq);
    state_put(&index->state, BASE_AT_LOG_HEAD, (uint32_t)head);
}

/* Flag changes that the storage has not seen would be forgotten with the log: they become dirty flags. Requests to
 * expunge are dropped; the messages stay, which is the safe side. */
static void keep_requests(struct index *index)
{
    struct arena *arena = arena_new();
    struct index_requests requests = {0};
    struct error ignored;

    if (index_has_pending(index) && file_pending(index, arena, &requests, &ignored) == 0) {
        for (size_t i = 0; i < requests.count; i++) {
            int64_t at = state_find(&index->state, requests.at[i].uid);

            if (at >= 0 && !requests.at[i].expunge)
                state_record(&index->state, (uint32_t)at)[4] |= INDEX_DIRTY;
        }
        if (requests.count > 0)
            state_put(&index->state, BASE_AT_FLAGS, state_get(&index->state, BASE_AT_FLAGS) | BASE_FLAG_HAVE_DIRTY);
    }
    index->log.request_end = 0;
    arena_free(arena);
}

/* The log cannot go on. The base index is written first, at the position where the good part ends; then a log that
 * follows on from exactly there takes the damaged one's place, which is kept as .log.2. */
static int replace_log(struct index *index, struct error *e)
{
    uint32_t prev = state_get(&index->state, BASE_AT_LOG_SEQ);
    uint32_t seq = (index->log.h.file_seq > prev ? index->log.h.file_seq : prev) + 1;
    struct log_header h = new_header(index, state_get(&index->state, BASE_AT_INDEXID), seq, prev,
                                     state_get(&index->state, BASE_AT_LOG_HEAD));
    bool lock = index->log.fd >= 0;
    int fd;

    keep_requests(index);
    if (file_base_write(index, e) < 0)
        return -1;
    fd = file_log_create(index, &h, SLICE_EMPTY, lock ? KEEP_TRY : KEEP_NOT, lock, e);
    if (fd == -2)
        return file_load(index, e);
    if (fd < 0)
        return -1;
    change_log(index, fd, &h, LOG_HEADER_SIZE);
    return 0;
}

int file_repair(struct index *index, struct error *e)
{
    struct buffer notes = {0};
    int ret;

    if (index->read_only)
        return error_set(e, ERROR_PERMISSION, "%s/%s is read-only", index->path, index->prefix);
    if (state_get(&index->state, BASE_AT_INDEXID) == 0) { /* nothing could be read: a new family, in the old one's place */
        ret = start_family(index, index->log.h.file_seq + 1, true, e);
        if (ret == 0)
            ret = file_load(index, e);
    } else {
        state_mend(&index->state, &notes);
        index_log_notes(index, &notes);
        buffer_free(&notes);
        ret = index->need_new_log ? replace_log(index, e) : file_base_write(index, e);
    }
    if (ret == 0)
        index->need_repair = index->need_new_log = index->fsck_told = false;
    index->generation++;
    return ret;
}

/* ---- rotation, rewriting ------------------------------------------------------------------------------------------ */

int file_rotate(struct index *index, struct error *e)
{
    struct log_header h = new_header(index, index->log.h.indexid, index->log.h.file_seq + 1, index->log.h.file_seq,
                                     (uint32_t)index->log.head);
    int fd;

    /* A base index that an earlier rotation could not bring up to date still needs .log.2, which goes now. */
    if (index->base_log_seq != index->log.h.file_seq && index->log.h.prev_file_seq != 0 && file_base_write(index, e) < 0)
        return -1;
    fd = file_log_create(index, &h, SLICE_EMPTY, KEEP_MUST, true, e);
    if (fd < 0)
        return -1;
    change_log(index, fd, &h, LOG_HEADER_SIZE);
    state_put(&index->state, BASE_AT_LOG2_TIME, now32());
    return file_base_write_later(index, e);
}

/* 8.3: once per handle. */
static void drop_old_log2(struct index *index)
{
    uint32_t made = state_get(&index->state, BASE_AT_LOG2_TIME);
    char name[FILE_NAME_SIZE];
    struct index_commit out = {0};
    struct index_batch *batch;
    struct arena *arena;
    struct error e;
    struct stat st;

    if (index->log2_checked || made == UINT32_MAX)
        return;
    index->log2_checked = true;
    if (fstatat(index->dir, file_name(index, name, ".log.2"), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (made == 0)
        made = (uint32_t)st.st_mtime;
    if (made + index->set.log2_max_age_secs >= now32() || index->base_log_seq != index->log.h.file_seq)
        return;
    if (os_unlink(index->dir, name, &e) < 0)
        return;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_EXTERNAL);
    index_batch_header(batch, BASE_AT_LOG2_TIME, slice_of("\xff\xff\xff\xff", 4), true);
    if (index->ops->commit(index, batch, &out, &e) < 0)
        index_error(index, "%s", e.admin);
    arena_free(arena);
}

static bool rotation_due(const struct index *index)
{
    const struct file_log *log = &index->log;
    const struct index_settings *set = &index->set;

    return log->h.minor < LOG_MINOR || log->head > set->log_rotate_max_size ||
           (log->head >= set->log_rotate_min_size && log->h.create_stamp < now32() - set->log_rotate_min_age_secs);
}

static bool rewrite_due(const struct index *index)
{
    const struct file_log *log = &index->log;
    uint64_t from = index->base_log_seq == log->h.file_seq ? index->base_log_tail : 0;
    uint64_t behind = log->head > from ? log->head - from : 0;

    if (index->base_job != NULL)
        return false; /* being done */
    if (index->rewrite_wanted)
        return true;
    if (index->base_log_seq != log->h.file_seq && (index->base_size > 0 || log->h.prev_file_seq != 0))
        return true;
    return behind > index->set.rewrite_max_log_bytes ||
           (behind > index->set.rewrite_min_log_bytes && index->refreshed_bytes > index->set.rewrite_min_log_bytes);
}

/* Others may have rewritten the base index since we read it: what it has decides what is due. */
static void look_at_base(struct index *index)
{
    unsigned char h[BASE_HEADER_SIZE];
    struct stat st;
    int fd;

    if (fstatat(index->dir, index->prefix, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        index->base_size = 0;
        index->base_log_seq = index->base_log_tail = 0;
        return;
    }
    if (st.st_ino == index->base_ino && st.st_dev == index->base_dev && index->base_size > 0)
        return;
    fd = openat(index->dir, index->prefix, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (pread(fd, h, sizeof(h), 0) == (ssize_t)sizeof(h)) {
        index->base_log_seq = bytes_le32(h + BASE_AT_LOG_SEQ);
        index->base_log_tail = bytes_le32(h + BASE_AT_LOG_TAIL);
        index->base_size = (uint64_t)st.st_size;
        index->base_ino = st.st_ino;
        index->base_dev = st.st_dev;
    }
    close(fd);
}

void file_maintain(struct index *index)
{
    struct error e;
    bool rotate;

    if (index_has_pending(index))
        return; /* somebody has still to carry out what is there */
    look_at_base(index);
    drop_old_log2(index);
    if (cache_purge_due(index))
        (void)cache_purge_now(index);
    rotate = rotation_due(index);
    if ((rotate && file_rotate(index, &e) < 0) || (!rotate && rewrite_due(index) && file_base_write_later(index, &e) < 0))
        index_error(index, "%s", e.admin);
}

/* Whoever had to read much of the log writes a base index, so that the next one need not (8.1). It may happen without a
 * sync of the storage: the tail stays where it is. */
void file_tidy(struct index *index)
{
    struct error e;

    if (index->read_only || index->gone || index->need_repair || index->log.fd < 0 || !rewrite_due(index) ||
        index_lock_try(index, "rewriting", &e) != STEP_DONE)
        return;
    look_at_base(index);
    if (rewrite_due(index) && file_base_write_later(index, &e) < 0)
        index_error(index, "%s", e.admin);
    index_unlock(index);
}

/* ---- reset ---------------------------------------------------------------------------------------------------------- */

int file_reset(struct index *index, struct index_batch *batch, struct error *e)
{
    struct log_header h = new_header(index, index->log.h.indexid, index->log.h.file_seq + 1, 0, 0);
    struct state old = index->state, new;
    struct index_view *views = index->views;
    struct index_commit out = {0};
    struct buffer bytes = {0};
    struct error ignored;
    int fd = -1, ret;

    index->state = (struct state){.sink = &index_sink, .sink_arg = index};
    state_init(&index->state, h.indexid);
    ret = batch_encode(index, batch, LOG_HEADER_SIZE, &bytes, &out, e);
    if (ret == 0 && (fd = file_log_create(index, &h, buffer_slice(&bytes), KEEP_TRY, true, e)) < 0)
        ret = -1;
    if (ret == 0) {
        os_unlink(index->dir, index->prefix, &ignored); /* it would be reset anyway: prev is 0/0 */
        index->base_size = 0;
        index->base_log_seq = index->base_log_tail = 0;
        index->views = NULL;
        index->modseq = h.initial_modseq;
        change_log(index, fd, &h, LOG_HEADER_SIZE + bytes.size);
        ret = batch_apply(index, batch, buffer_slice(&bytes), LOG_HEADER_SIZE, e);
        index->log.modseq = index->modseq;
        index->views = views;
    }
    new = index->state;
    index->state = old;
    if (ret == 0) {
        index_state_replace(index, &new);
        index->need_repair = index->need_new_log = false;
    } else {
        state_free(&new);
    }
    buffer_free(&bytes);
    return ret;
}
