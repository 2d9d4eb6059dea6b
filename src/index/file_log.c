/* file_log.c - the log file of an open index: news, lock, append (index-format 6.2, 7.1, 7.2).
 *
 * There is exactly one descriptor of a log in this process; looking whether it has been replaced is a stat of the
 * path. What stands behind the head is another process's unfinished write for a reader, and garbage for the holder
 * of the lock, who cuts it off: only he knows that nobody is writing. */
#include "base/os_nfs.h"
#include "index/batch.h"
#include "index/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOCK_CHASES = 10 };

void file_log_close(struct index *index)
{
    if (index->log.fd >= 0)
        close(index->log.fd);
    index->log = (struct file_log){.fd = -1};
}

void file_log_take(struct index *index, int fd, const struct log_header *h, uint64_t head, uint64_t modseq)
{
    struct stat st;

    index->log = (struct file_log){.fd = fd, .h = *h, .head = head, .modseq = modseq, .tail = h->header_size,
                                   .writable = true};
    if (fd >= 0 && fstat(fd, &st) == 0) {
        index->log.dev = st.st_dev;
        index->log.ino = st.st_ino;
        index->log.mtime = (uint32_t)st.st_mtime;
    }
}

static int broken(struct index *index, const char *why, uint64_t at, struct error *e)
{
    bool told = index->need_new_log;

    index->need_repair = index->need_new_log = true;
    error_set(e, ERROR_CORRUPT, "Corrupted transaction log file %s/%s.log seq %u: %s (sync_offset=%llu)", index->path,
              index->prefix, index->log.h.file_seq, why, (unsigned long long)at);
    if (!told) /* every refresh comes by here until a lock holder has mended it */
        index_error(index, "%s", e->admin);
    return -1;
}

static int cut_off(struct index *index, uint64_t size, struct error *e)
{
    index_warning(index, "Transaction log file %s/%s.log: cutting off %llu bytes of an unfinished transaction at %llu",
                  index->path, index->prefix, (unsigned long long)(size - index->log.head),
                  (unsigned long long)index->log.head);
    return os_truncate(index->log.fd, index->log.head, e);
}

int file_log_read(struct index *index, bool locked, struct error *e)
{
    struct file_log *log = &index->log;
    struct buffer bytes = {0};
    struct log_walk walk;
    struct log_record r;
    enum log_scan scan;
    struct stat st;
    uint32_t bad = 0;
    int ret = 0;

    if (fstat(log->fd, &st) < 0)
        return error_sys(e, "fstat", index->log_name);
    log->mtime = (uint32_t)st.st_mtime;
    if ((uint64_t)st.st_size == log->head)
        return 0;
    if ((uint64_t)st.st_size < log->head)
        return broken(index, "file size shrank", (uint64_t)st.st_size, e);
    if (os_pread(log->fd, log->head, (size_t)st.st_size - (size_t)log->head, &bytes, e) < 0)
        return -1;
    walk = (struct log_walk){.bytes = buffer_slice(&bytes), .base = log->head};
    index->reading_seq = log->h.file_seq;
    state_apply_begin(&index->state);
    while ((scan = format_log_next(&walk, &r)) == LOG_SCAN_RECORD) {
        log->modseq = format_modseq_after(&r, log->modseq, log->h.minor);
        state_apply(&index->state, &r, log->modseq);
        if (requests_is(&r))
            log->request_end = r.offset + r.size;
        if (!format_tail_after(&r, &log->tail_last, &log->tail, &bad)) {
            snprintf(walk.why, sizeof(walk.why), "log_file_tail_offset %u goes past sync offset %llu", bad,
                     (unsigned long long)(r.offset + r.size));
            walk.told = r.offset;
            scan = LOG_SCAN_BROKEN;
            break;
        }
    }
    state_apply_end(&index->state);
    if (walk.at > 0)
        index->generation++;
    log->head += walk.at;
    index->refreshed_bytes += walk.at;
    if (log->modseq > index->modseq)
        index->modseq = log->modseq;
    state_put(&index->state, BASE_AT_LOG_SEQ, log->h.file_seq);
    state_put(&index->state, BASE_AT_LOG_HEAD, (uint32_t)log->head);
    if (scan == LOG_SCAN_BROKEN)
        ret = broken(index, walk.why, walk.told, e);
    else if (locked && walk.at < bytes.size && format_log_goes_on(slice_from(buffer_slice(&bytes), walk.at)))
        ret = broken(index, "Unexpected garbage", log->head, e);
    else if (locked && walk.at < bytes.size)
        ret = cut_off(index, (uint64_t)st.st_size, e);
    buffer_free(&bytes);
    return ret;
}

/* The path names another file now: the old one is read to its end, then the new one follows on, if it does. */
static int follow_rotation(struct index *index, struct error *e)
{
    unsigned char bytes[LOG_HEADER_SIZE];
    struct log_header h;
    struct error ignored;
    ssize_t n;
    int fd;

    if (index->log.fd < 0 || file_log_read(index, false, &ignored) < 0)
        return file_load(index, e);
    fd = openat(index->dir, index->log_name,
                (index->read_only ? O_RDONLY : O_RDWR | O_APPEND) | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? error_set(e, ERROR_NOT_FOUND, "%s/%s.log vanished", index->path, index->prefix)
                               : error_sys(e, "open", index->log_name);
    n = pread(fd, bytes, sizeof(bytes), 0);
    if (n != (ssize_t)sizeof(bytes) || format_log_header_get(slice_of(bytes, sizeof(bytes)), &h) != NULL ||
        h.indexid != index->log.h.indexid || h.prev_file_seq != index->log.h.file_seq ||
        h.prev_file_offset != index->log.head) {
        close(fd);
        return file_load(index, e); /* a reset, more than one rotation, or damage */
    }
    close(index->log.fd);
    file_log_take(index, fd, &h, h.header_size, h.initial_modseq);
    return file_log_read(index, false, e);
}

static int vanished(struct index *index, struct error *e)
{
    index->gone = true;
    index->generation++;
    return error_set(e, ERROR_NOT_FOUND, "%s/%s.log was deleted while it was open", index->path, index->prefix);
}

/* 1: the path names the open file; 0: another; -1. */
static int same_file(struct index *index, struct stat *st, struct error *e)
{
    if (index->set.nfs)
        os_nfs_flush(index->dir, NULL, index->log_name);
    if (fstatat(index->dir, index->log_name, st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || errno == ESTALE ? vanished(index, e) : error_sys(e, "stat", index->log_name);
    return index->log.fd >= 0 && st->st_ino == index->log.ino && st->st_dev == index->log.dev;
}

static enum step refresh_files(struct index *index, struct error *e)
{
    struct stat st;
    int same = same_file(index, &st, e);

    if (same < 0)
        return STEP_ERROR;
    if (index->state.map != NULL && os_map_lost(index->state.map)) {
        index_error(index, "mmaped index file %s/%s: Lost pages of the file, reading it again", index->path, index->prefix);
        index->no_map = true;
        return file_load(index, e) < 0 ? STEP_ERROR : STEP_DONE;
    }
    if (same && (uint64_t)st.st_size == index->log.head)
        return STEP_DONE;
    if (same ? file_log_read(index, index->locked, e) < 0 : follow_rotation(index, e) < 0) {
        /* a damaged log still has a state to show; the lock holder repairs it */
        return e->class == ERROR_CORRUPT ? STEP_DONE : STEP_ERROR;
    }
    return STEP_DONE;
}

/* ---- lock --------------------------------------------------------------------------------------------------------- */

static enum os_lock lock_file(struct index *index, struct error *e)
{
    char name[FILE_NAME_SIZE];

    if (index->set.lock_method == OS_LOCK_DOTLOCK) {
        struct os_dotlock_options options = {.mode = index->mode, .set_gid = index->gid != (gid_t)-1, .gid = index->gid,
                                             .stale_secs = 180, .by_link = index->set.dotlock_by_link};

        return os_dotlock_try_with(index->dir, file_name(index, name, ".log.lock"), &options, &index->dotlock, e);
    }
    return os_lock_fd(index->log.fd, index->set.lock_method, e);
}

static void unlock_file(struct index *index)
{
    if (index->set.lock_method == OS_LOCK_DOTLOCK)
        os_dotlock_release(&index->dotlock);
    else if (index->log.fd >= 0)
        os_unlock_fd(index->log.fd, index->set.lock_method);
}

bool file_log_lock(struct index *index)
{
    struct stat st;
    struct error e = {0};

    if (index->log.fd < 0 || lock_file(index, &e) != OS_GOT)
        return false;
    if (same_file(index, &st, &e) > 0)
        return true;
    unlock_file(index);
    return false;
}

void file_log_unlock(struct index *index)
{
    unlock_file(index);
}

/* A log that somebody began with less than what had been handed out (14.3): the counter is raised by a record, so that
 * it does not fall back when the log is read again. */
static int raise_modseq(struct index *index, struct error *e)
{
    struct index_commit out = {0};
    struct index_batch *batch;
    struct arena *arena;
    int ret;

    if (index->modseq <= index->log.modseq)
        return 0;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_INTERNAL);
    index_batch_modseq(batch, 0, index->modseq);
    ret = index->ops->commit(index, batch, &out, e);
    arena_free(arena);
    return ret;
}

/* 7.1 "lock the head": after locking, the path must still name what was locked. */
static enum step lock_files(struct index *index, struct error *e)
{
    struct stat st;

    error_clear(e);
    for (int chase = 0; chase < LOCK_CHASES; chase++) {
        int same;

        if (index->log.fd < 0) { /* no usable log: the repair makes one */
            if (file_repair(index, e) < 0)
                return STEP_ERROR;
            continue;
        }
        switch (lock_file(index, e)) {
        case OS_BUSY:
            return STEP_WAIT;
        case OS_LOCK_ERROR:
            return STEP_ERROR;
        case OS_GOT:
            break;
        }
        same = same_file(index, &st, e);
        if (same == 1) {
            if (file_log_read(index, true, e) < 0 && e->class != ERROR_CORRUPT)
                break;
            if ((index->need_repair && file_repair(index, e) < 0) || raise_modseq(index, e) < 0)
                break;
            return STEP_DONE;
        }
        unlock_file(index);
        if (same < 0 || follow_rotation(index, e) < 0)
            return STEP_ERROR;
    }
    unlock_file(index);
    if (e->class == ERROR_NONE)
        error_set(e, ERROR_TEMPORARY, "%s/%s.log is being replaced all the time", index->path, index->prefix);
    return STEP_ERROR;
}

/* ---- append ------------------------------------------------------------------------------------------------------- */

static int commit_files(struct index *index, struct index_batch *batch, struct index_commit *out, struct error *e)
{
    struct buffer bytes = {0};
    uint32_t cached = batch_expunged_cached(index, batch);
    uint64_t at;
    int ret;

    if (batch_has_cached(batch))
        cache_prepare(index); /* may append a transaction of its own */
    at = index->log.head;
    index->modseq = index->log.modseq > index->modseq ? index->log.modseq : index->modseq;
    ret = batch_encode(index, batch, at, &bytes, out, e);
    if (ret == 0 && bytes.size > 0) {
        ret = os_append(index->log.fd, buffer_slice(&bytes), e);
        if (ret == 0 && batch_wants_sync(index, batch) && os_sync(index->log.fd, e) < 0) {
            struct error again;

            /* not known to be durable: it must not stand there as if it were */
            os_truncate(index->log.fd, at, &again);
            ret = -1;
        }
        if (ret < 0)
            error_context(e, "%s/%s.log: ", index->path, index->prefix);
    }
    if (ret == 0 && bytes.size > 0) {
        index->log.head += bytes.size;
        index->log.mtime = 0;
        ret = batch_apply(index, batch, buffer_slice(&bytes), at, e);
        index->log.modseq = index->modseq;
        state_put(&index->state, BASE_AT_LOG_HEAD, (uint32_t)index->log.head);
        if (cached > 0)
            cache_expunged(index, cached);
    }
    buffer_free(&bytes);
    return ret;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static int open_files(struct index *index, struct error *e)
{
    int tries = 0;

    while (file_load(index, e) < 0) {
        if (e->class != ERROR_NOT_FOUND || index->read_only || index->no_create || ++tries > 3)
            return -1;
        if (file_log_start(index, e) < 0)
            return -1;
    }
    if (!index->need_repair || index->read_only)
        return 0;
    /* mend at once if nobody holds the lock; otherwise the next holder does */
    if (index->log.fd < 0)
        return file_repair(index, e);
    if (index_lock_try(index, "fscking", e) == STEP_DONE)
        index_unlock(index);
    return 0;
}

static void close_files(struct index *index)
{
    file_base_finish(index);
    file_log_close(index);
}

const struct index_ops index_files_ops = {
    .name = "files",
    .open = open_files,
    .close = close_files,
    .refresh = refresh_files,
    .lock = lock_files,
    .unlock = unlock_file,
    .commit = commit_files,
    .pending = file_pending,
    .maintain = file_maintain,
    .repair = file_repair,
    .reset = file_reset,
    .vanished = file_vanished,
    .changed = file_changed,
    .tidy = file_tidy,
};
