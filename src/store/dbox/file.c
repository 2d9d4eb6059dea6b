/* file.c - dbox files: opened, walked, written (dbox-format 1).
 *
 * Files are only ever appended to (mdbox) or replaced as a whole (repair), so what was read of one stays true while its
 * descriptor is open. Sizes are those of the last fstat; every offset is checked against them. */
#include "store/dbox/dbox.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int read_at(const struct dbox_file *file, uint64_t at, size_t size, struct buffer *out, struct error *e)
{
    if (os_pread(file->fd, at, size, out, e) < 0)
        return error_context(e, "%s: ", file->path);
    return 0;
}

int dbox_file_corrupt(const struct dbox_file *file, uint64_t offset, const char *why, struct error *e)
{
    error_set(e, ERROR_CORRUPT, "Corrupted dbox file %s (around offset=%llu): %s", file->path, (unsigned long long)offset, why);
    e->complete = true;
    return -1;
}

int dbox_broken(const struct log *log, uint32_t uid, uint64_t offset, struct error *e)
{
    char *end = strstr(e->admin, "): ");
    char text[sizeof(e->admin)];

    log_error_value(log, e);
    if (end == NULL)
        return -1;
    snprintf(text, sizeof(text), "%.*s): uid=%u points to broken data at offset=%llu", (int)(end - e->admin), e->admin, uid,
             (unsigned long long)offset);
    memcpy(e->admin, text, sizeof(text));
    return -1;
}

int dbox_file_refresh(struct dbox_file *file, struct error *e)
{
    if (fstat(file->fd, &file->st) < 0)
        return error_sys(e, "fstat", file->path);
    file->size = (uint64_t)file->st.st_size;
    return 0;
}

static int read_header(struct dbox_file *file, struct error *e)
{
    struct buffer b = {0};
    const char *why;
    int r;

    if (dbox_file_refresh(file, e) < 0)
        return -1;
    if (!S_ISREG(file->st.st_mode))
        return dbox_file_corrupt(file, 0, "not a regular file", e);
    r = read_at(file, 0, 4096, &b, e);
    if (r == 0 && (why = dbox_header_parse(buffer_slice(&b), &file->header)) != NULL) {
        ptrdiff_t end = slice_find(buffer_slice(&b), '\n');

        r = dbox_file_corrupt(file, end < 0 ? 0 : (uint64_t)end + 1, why, e); /* as far as it was read */
    }
    buffer_free(&b);
    return r;
}

int dbox_file_from_fd(struct dbox_file *file, int fd, const char *path, struct error *e)
{
    *file = (struct dbox_file){.fd = fd, .path = mem_strdup(path)};
    if (read_header(file, e) == 0)
        return 0;
    dbox_file_close(file);
    return -1;
}

int dbox_file_open(struct dbox_file *file, int dir, const char *dir_path, const char *name, struct error *e)
{
    int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC), sys = errno, r;
    char *path = mem_printf("%s/%s", dir_path, name);

    *file = (struct dbox_file){.fd = -1};
    errno = sys;
    r = fd < 0 ? error_sys(e, "open", path) : dbox_file_from_fd(file, fd, path, e);
    e->complete = r < 0;
    mem_free(path);
    return r;
}

void dbox_file_close(struct dbox_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
    mem_free(file->path);
    file->path = NULL;
}

/* ---- messages ---- */

int dbox_message_at(const struct dbox_file *file, uint64_t offset, struct dbox_message *m, struct error *e)
{
    uint32_t size = file->header.message_header_size;
    struct buffer b = {0};
    const char *why;
    char text[80];
    uint64_t body;
    int r;

    r = read_at(file, offset, size, &b, e);
    if (r == 0 && (b.size < size || size < DBOX_MESSAGE_HEADER_SIZE)) {
        snprintf(text, sizeof(text), "EOF reading msg header (got %zu/%u bytes)", b.size, size);
        r = dbox_file_corrupt(file, offset, text, e);
    } else if (r == 0 && (why = dbox_message_header_parse(buffer_slice(&b), &body)) != NULL) {
        r = dbox_file_corrupt(file, offset, why, e);
    }
    buffer_free(&b);
    if (r < 0)
        return -1;
    if (file->size < offset + size || body > file->size - offset - size) {
        uint64_t end = offset + size;

        return dbox_file_corrupt(file, body > UINT64_MAX - end ? UINT64_MAX : end + body,
                                 "Unexpected EOF while reading metadata header", e);
    }
    *m = (struct dbox_message){.offset = offset, .body = offset + size, .size = body};
    return 0;
}

int dbox_message_metadata(const struct dbox_file *file, struct dbox_message *m, struct arena *arena,
                          struct dbox_metadata *meta, struct error *e)
{
    struct buffer b = {0};
    uint64_t at = m->body + m->size;
    const char *why = NULL;
    size_t used, want = 1024;
    int r;

    for (;;) {
        size_t had = b.size;

        if (read_at(file, at + b.size, want - b.size, &b, e) < 0) {
            r = -1;
            break;
        }
        r = dbox_metadata_parse(buffer_slice(&b), arena, meta, &used, &why);
        if (r == 0 && b.size > had && b.size == want && want < DBOX_METADATA_MAX) {
            want *= 4;
            continue;
        }
        if (r == 1)
            m->end = at + used;
        else
            dbox_file_corrupt(file, at + used, why, e);
        r = r == 1 ? 0 : -1;
        break;
    }
    buffer_free(&b);
    return r;
}

int dbox_file_next(const struct dbox_file *file, uint64_t *offset, struct dbox_message *m, struct arena *arena,
                   struct dbox_metadata *meta, struct error *e)
{
    struct dbox_metadata unwanted;

    if (*offset == 0)
        *offset = file->header.size;
    if (*offset == file->size)
        return 0;
    if (dbox_message_at(file, *offset, m, e) < 0 ||
        dbox_message_metadata(file, m, arena, meta == NULL ? &unwanted : meta, e) < 0)
        return -1;
    *offset = m->end;
    return 1;
}

struct mime_source dbox_message_source(int fd, const struct dbox_message *m, struct arena *arena)
{
    return store_file_source(arena, fd, m->body, m->size);
}

/* ---- writing ---- */

int dbox_message_begin(int fd, uint64_t offset, struct error *e)
{
    unsigned char header[DBOX_MESSAGE_HEADER_SIZE];

    dbox_message_header_put(header, 0);
    if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
        return error_sys(e, "lseek", NULL);
    return os_write(fd, slice_of(header, sizeof(header)), e);
}

int dbox_message_end(int fd, uint64_t body_size, const struct dbox_metadata *meta, struct error *e)
{
    struct buffer b = {0};
    int r;

    dbox_metadata_put(&b, meta, body_size);
    r = os_write(fd, buffer_slice(&b), e);
    buffer_free(&b);
    return r;
}

int dbox_message_seal(int fd, uint64_t offset, uint64_t body_size, struct error *e)
{
    unsigned char header[DBOX_MESSAGE_HEADER_SIZE];

    dbox_message_header_put(header, body_size);
    return os_pwrite(fd, slice_of(header, sizeof(header)), offset, e);
}
