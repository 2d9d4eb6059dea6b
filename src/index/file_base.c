/* file_base.c - the base index as a whole file: written beside the old one, made durable, then put in its place (index-format 8.1, 8.2).
 *
 * Rewriting is maintenance: the log has everything. So it need not wait for the disk: the file is written under the log's lock,
 * the sync pool makes it durable, and then, under the lock again, it takes the old one's place, if that is still the one that
 * it was made from. Otherwise it is dropped, and somebody makes another one. Where the base index must be there before something
 * else is done (repair, a log that goes), file_base_write waits. */
#include "index/index_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that is being made durable. */
struct base_job {
    struct index *index;           /* NULL: closed meanwhile, it has been seen to */
    int fd;
    struct stat st;                /* of the new file */
    uint32_t log_seq, log_tail;    /* its position */
    dev_t old_dev;                 /* the base index then */
    ino_t old_ino;
    uint64_t old_size;
};

static void keep_backup(struct index *index)
{
    char tmp[FILE_NAME_SIZE], backup[FILE_NAME_SIZE];
    struct error ignored;

    file_name(index, tmp, ".backup.tmp");
    os_unlink(index->dir, tmp, &ignored);
    if (os_link(index->dir, index->prefix, index->dir, tmp, &ignored) == 0)
        os_rename(index->dir, tmp, index->dir, file_name(index, backup, ".backup"), &ignored);
}

static void drop_tmp(struct index *index)
{
    char tmp[FILE_NAME_SIZE];
    struct error ignored;

    os_unlink(index->dir, file_name(index, tmp, ".tmp"), &ignored);
}

static int failed(struct index *index, struct error *e)
{
    drop_tmp(index);
    return error_context(e, "%s/%s: ", index->path, index->prefix);
}

/* The new file, not synced. -> its descriptor, or -1: nothing stays. */
static int write_tmp(struct index *index, struct stat *st, struct error *e)
{
    struct state *s = &index->state;
    struct buffer header = {0};
    char tmp[FILE_NAME_SIZE];
    int fd, ret;

    if (state_unordered(s)) { /* it was mapped and has not been looked at until now, when all of it is read anyway */
        struct buffer notes = {0};

        state_mend(s, &notes);
        index_log_notes(index, &notes);
        buffer_free(&notes);
    }
    index_store_modseq(index);
    state_put(s, BASE_AT_LOG_TAIL, (uint32_t)(index_has_pending(index) || index->set.strict_tail ? index->log.tail : index->log.head));
    state_emit_header(s, &header);
    drop_tmp(index);
    fd = os_create(index->dir, file_name(index, tmp, ".tmp"), index->mode, index->gid, e);
    if (fd < 0) {
        buffer_free(&header);
        return -1;
    }
    ret = os_write(fd, buffer_slice(&header), e);
    buffer_free(&header);
    if (ret == 0 && s->count > 0)
        ret = os_write(fd, slice_of(s->records, (size_t)s->count * s->stride), e);
    if (ret == 0 && fstat(fd, st) < 0)
        ret = error_sys(e, "fstat", tmp);
    if (ret == 0)
        return fd;
    close(fd);
    return failed(index, e);
}

static int put_in_place(struct index *index, const struct stat *st, uint32_t log_seq, uint32_t log_tail, struct error *e)
{
    char tmp[FILE_NAME_SIZE];

    if (index->set.keep_backup && index->base_size > 0)
        keep_backup(index);
    if (os_rename(index->dir, file_name(index, tmp, ".tmp"), index->dir, index->prefix, e) < 0)
        return failed(index, e);
    index->base_dev = st->st_dev;
    index->base_ino = st->st_ino;
    index->base_size = (uint64_t)st->st_size;
    index->base_log_seq = log_seq;
    index->base_log_tail = log_tail;
    index->refreshed_bytes = 0;
    index->rewrite_wanted = false;
    return 0;
}

int file_base_write(struct index *index, struct error *e)
{
    struct stat st;
    int fd = write_tmp(index, &st, e), ret = 0;

    if (fd < 0)
        return -1;
    if (index->set.fsync != INDEX_FSYNC_NEVER)
        ret = os_sync(fd, e);
    close(fd);
    if (ret < 0)
        return failed(index, e);
    return put_in_place(index, &st, state_get(&index->state, BASE_AT_LOG_SEQ), state_get(&index->state, BASE_AT_LOG_TAIL), e);
}

/* ---- without waiting ---------------------------------------------------------------------------------------------------- */

static bool names(const struct index *index, const char *name, dev_t dev, ino_t ino)
{
    struct stat st;

    return fstatat(index->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* Under the lock: is the old file still what the new one was made from? A later log needs a later base index. */
static bool is_wanted(const struct index *index, const struct base_job *job)
{
    struct stat st;

    if (index->log.h.file_seq != job->log_seq)
        return false;
    if (job->old_size == 0)
        return fstatat(index->dir, index->prefix, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
    return names(index, index->prefix, job->old_dev, job->old_ino);
}

/* The file is durable, or could not be made so. */
static void finish(struct base_job *job, const struct error *synced)
{
    struct index *index = job->index;
    const bool held = index->locked;
    char tmp[FILE_NAME_SIZE];
    struct error e = *synced;
    int ret = e.class == ERROR_NONE ? 0 : -1;

    index->base_job = NULL;
    job->index = NULL;
    if (index->gone)
        return;
    if (ret < 0)
        error_context(&e, "%s/%s: ", index->path, index->prefix);
    if (held || file_log_lock(index)) {
        if (names(index, file_name(index, tmp, ".tmp"), job->st.st_dev, job->st.st_ino)) {
            if (ret < 0 || !is_wanted(index, job))
                drop_tmp(index);
            else
                ret = put_in_place(index, &job->st, job->log_seq, job->log_tail, &e);
        }
        if (!held)
            file_log_unlock(index);
    } /* else somebody writes: what he makes is newer, and a left-over .tmp is replaced by whoever needs the name */
    if (ret < 0)
        index_error(index, "%s", e.admin);
}

static void synced(void *arg, const struct error *e)
{
    struct base_job *job = arg;

    if (job->index != NULL)
        finish(job, e);
    close(job->fd);
    mem_free(job);
}

int file_base_write_later(struct index *index, struct error *e)
{
    struct base_job *job;
    struct stat st;
    int fd;

    if (index->set.fsync == INDEX_FSYNC_NEVER || os_sync_fd() < 0 || index->base_job != NULL)
        return file_base_write(index, e);
    fd = write_tmp(index, &st, e);
    if (fd < 0)
        return -1;
    job = mem_zero(1, sizeof(*job));
    *job = (struct base_job){.index = index, .fd = fd, .st = st, .log_seq = state_get(&index->state, BASE_AT_LOG_SEQ),
                             .log_tail = state_get(&index->state, BASE_AT_LOG_TAIL), .old_dev = index->base_dev,
                             .old_ino = index->base_ino, .old_size = index->base_size};
    index->base_job = job;
    os_sync_submit(&job->fd, 1, synced, job);
    return 0;
}

void file_base_finish(struct index *index)
{
    struct base_job *job = index->base_job;
    struct error e = {0};

    if (job == NULL)
        return;
    os_sync(job->fd, &e);
    finish(job, &e);
}
