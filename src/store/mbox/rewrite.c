/* rewrite.c - changing an mbox in place, so that it stays one whatever happens (DESIGN: no mail is ever lost).
 *
 * Others have the file open and append to it, so it cannot be replaced by a new one. What moves is read first and written back
 * by a single call: a process that dies before it has changed nothing, one that dies after it has changed all (the kernel may
 * cut a large write when the process is killed within it, or the power fails: docs/formats/mbox.md). Only the
 * shortening of the file comes as a second call; until then its end is line ends, which a scan knows to be nothing
 * (mbox_message.filler). A call that fails half-way (a full disk) is undone from what was read. */
#include "store/mbox/mbox.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define MEMORY_MAX (64ull << 20)
#define CHUNK (4u << 20)

static int read_range(const struct mbox *m, uint64_t at, uint64_t size, struct buffer *out, struct error *e)
{
    ssize_t n = os_pread(m->fd, at, (size_t)size, out, e);

    if (n < 0)
        return -1;
    return (uint64_t)n == size ? 0 : error_set(e, ERROR_TEMPORARY, "%s: the file became shorter while it was locked", m->box->path);
}

static void undo(struct mbox *m, uint64_t at, struct slice old, uint64_t size)
{
    struct error e;

    if (old.size > 0 && os_pwrite(m->fd, old, at, &e) < 0)
        log_error_value(mail_user_log(m->box->user), &e);
    if (os_truncate(m->fd, size, &e) < 0)
        log_error_value(mail_user_log(m->box->user), &e);
}

static uint64_t size_of(const struct mbox_pieces *pieces)
{
    uint64_t size = 0;

    for (size_t i = 0; i < pieces->count; i++)
        size += pieces->at[i].size + pieces->at[i].bytes.size;
    return size;
}

static int collect(const struct mbox *m, const struct mbox_pieces *pieces, struct buffer *out, struct error *e)
{
    for (size_t i = 0; i < pieces->count; i++) {
        const struct mbox_piece *p = &pieces->at[i];

        if (p->size > 0 && read_range(m, p->at, p->size, out, e) < 0)
            return -1;
        buffer_append_slice(out, p->bytes);
    }
    return 0;
}

static int in_memory(struct mbox *m, uint64_t from, uint64_t old_size, const struct mbox_pieces *pieces, struct error *e)
{
    struct buffer old = {0}, text = {0};
    uint64_t end;
    int r = read_range(m, from, old_size - from, &old, e);

    if (r == 0)
        r = collect(m, pieces, &text, e);
    end = from + text.size;
    if (r == 0) {
        while (from + text.size < old_size)
            buffer_append_byte(&text, '\n');
        if (text.size > 0)
            r = os_pwrite(m->fd, buffer_slice(&text), from, e);
        if (r == 0 && end < old_size)
            r = os_truncate(m->fd, end, e);
        if (r < 0)
            undo(m, from, buffer_slice(&old), old_size);
    }
    buffer_free(&old);
    buffer_free(&text);
    return r;
}

/* Too much for memory: the new end goes to a file without a name first, then over the old one. */
static int by_file(struct mbox *m, uint64_t from, uint64_t old_size, uint64_t new_size, const struct mbox_pieces *pieces, struct error *e)
{
    const char *temp = conf_str(mail_user_settings(m->box->user), SET_mail_temp_dir);
    int fd = open(m->box->index_path != NULL ? m->box->index_path : temp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), r = 0;
    struct buffer part = {0};

    if (fd < 0)
        return error_sys(e, "open", m->box->index_path != NULL ? m->box->index_path : temp);
    for (size_t i = 0; r == 0 && i < pieces->count; i++) {
        const struct mbox_piece *p = &pieces->at[i];

        r = p->bytes.size > 0 ? os_write(fd, p->bytes, e) : 0;
        for (uint64_t done = 0; r == 0 && done < p->size; done += part.size) {
            buffer_reset(&part);
            r = read_range(m, p->at + done, p->size - done < CHUNK ? p->size - done : CHUNK, &part, e);
            if (r == 0)
                r = os_write(fd, buffer_slice(&part), e);
        }
    }
    /* Room first: from here on nothing may fail for want of it. */
    if (r == 0 && new_size > old_size && posix_fallocate(m->fd, (off_t)old_size, (off_t)(new_size - old_size)) != 0) {
        r = error_set(e, ERROR_SPACE, "%s: no room for %llu bytes", m->box->path, (unsigned long long)(new_size - old_size));
        undo(m, 0, SLICE_EMPTY, old_size);
    }
    for (uint64_t done = 0; r == 0 && done < new_size - from; done += part.size) {
        ssize_t n;

        buffer_reset(&part);
        n = os_pread(fd, done, CHUNK, &part, e);
        r = n > 0 ? os_pwrite(m->fd, buffer_slice(&part), from + done, e) : n < 0 ? -1 : error_set(e, ERROR_BUG, "temporary file is short");
    }
    if (r == 0)
        r = os_truncate(m->fd, new_size, e);
    buffer_free(&part);
    close(fd);
    return r;
}

int mbox_rewrite(struct mbox *m, uint64_t from, const struct mbox_pieces *pieces, uint64_t *size, struct error *e)
{
    uint64_t new_size = from + size_of(pieces);
    struct stat st;
    int r;

    if (fstat(m->fd, &st) < 0)
        return error_sys(e, "fstat", m->box->path);
    if (new_size - from > MEMORY_MAX || (uint64_t)st.st_size - from > MEMORY_MAX)
        r = by_file(m, from, (uint64_t)st.st_size, new_size, pieces, e);
    else
        r = in_memory(m, from, (uint64_t)st.st_size, pieces, e);
    if (r == 0)
        *size = new_size;
    return r < 0 ? stage_space_text(e) : 0;
}

int mbox_overwrite(struct mbox *m, uint64_t at, struct slice old, struct slice new_bytes, struct error *e)
{
    struct error sub;

    if (os_pwrite(m->fd, new_bytes, at, e) == 0)
        return 0;
    if (os_pwrite(m->fd, old, at, &sub) < 0)
        log_error_value(mail_user_log(m->box->user), &sub);
    return stage_space_text(e);
}
