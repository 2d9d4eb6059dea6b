/* spool.c - a decoded message that can be read at any place.
 *
 * It is decoded once, no further than somebody reads. Small ones stay in memory, large ones go to a file without a name in
 * mail_temp_dir (or, where none can be made, to a memory file). A failure stays: what lies before it can still be read. */
#include "store/coding/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_MAX (128 * 1024)
#define STEP_SIZE 65536
/* A bomb: so large, and so many times its stored size. Honest text stays far below. */
#define BOMB_SIZE (256ULL * 1024 * 1024)
#define BOMB_RATIO 1200

/* ---- bytes that are kept ---- */

struct blob {
    uint64_t size;
    unsigned char *memory;     /* the first MEMORY_MAX bytes, until there is a file */
    int fd;
    char *temp_dir;
};

struct blob *blob_new(const char *temp_dir)
{
    struct blob *b = mem_zero(1, sizeof(*b));

    b->fd = -1;
    b->temp_dir = mem_strdup(temp_dir == NULL || *temp_dir == '\0' ? "/tmp" : temp_dir);
    return b;
}

void blob_free(struct blob *b)
{
    if (b == NULL)
        return;
    if (b->fd >= 0)
        close(b->fd);
    mem_free(b->memory);
    mem_free(b->temp_dir);
    mem_free(b);
}

uint64_t blob_size(const struct blob *b)
{
    return b->size;
}

static int to_file(struct blob *b, struct error *e)
{
    if (b->fd >= 0)
        return 0;
    b->fd = open(b->temp_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (b->fd < 0)
        b->fd = memfd_create("message", MFD_CLOEXEC);
    if (b->fd < 0)
        return error_sys(e, "open", b->temp_dir);
    if (b->size > 0 && os_write(b->fd, slice_of(b->memory, (size_t)b->size), e) < 0)
        return -1;
    mem_free(b->memory);
    b->memory = NULL;
    return 0;
}

int blob_append(struct blob *b, struct slice bytes, struct error *e)
{
    if (b->fd >= 0 || b->size + bytes.size > MEMORY_MAX) {
        if (to_file(b, e) < 0 || os_write(b->fd, bytes, e) < 0)
            return -1;
    } else if (bytes.size > 0) {
        if (b->memory == NULL)
            b->memory = mem_alloc(MEMORY_MAX);
        memcpy(b->memory + b->size, bytes.at, bytes.size);
    }
    b->size += bytes.size;
    return 0;
}

ssize_t blob_read(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    struct blob *b = arg;
    ssize_t n;

    if (offset >= b->size)
        return 0;
    if (size > b->size - offset)
        size = (size_t)(b->size - offset);
    if (b->fd < 0) {
        memcpy(buf, b->memory + offset, size);
        return (ssize_t)size;
    }
    n = os_pread_into(b->fd, offset, buf, size, e);
    if (n < 0)
        return error_context(e, "%s: ", b->temp_dir);
    return (size_t)n == size ? n : error_set(e, ERROR_TEMPORARY, "%s: a file was cut", b->temp_dir);
}

/* ---- a decoded message ---- */

struct spool {
    struct decoder *decoder;   /* NULL once it has ended */
    uint64_t stored;
    struct blob *blob;
    unsigned char *step;
    struct error failed;
};

struct spool *spool_new(struct decoder *decoder, uint64_t stored, const char *temp_dir)
{
    struct spool *s = mem_zero(1, sizeof(*s));

    s->decoder = decoder;
    s->stored = stored;
    s->blob = blob_new(temp_dir);
    return s;
}

void spool_free(struct spool *s)
{
    if (s == NULL)
        return;
    decoder_free(s->decoder);
    blob_free(s->blob);
    mem_free(s->step);
    mem_free(s);
}

static int keep(struct spool *s, struct slice bytes, struct error *e)
{
    uint64_t size = blob_size(s->blob) + bytes.size;

    if (size > BOMB_SIZE && size / BOMB_RATIO > s->stored)
        return error_set(e, ERROR_LIMIT, "%llu stored bytes decode to more than %llu", (unsigned long long)s->stored,
                         (unsigned long long)blob_size(s->blob));
    return blob_append(s->blob, bytes, e);
}

/* Decodes until `want` bytes are there, or all. */
static int decode(struct spool *s, uint64_t want, struct error *e)
{
    while (blob_size(s->blob) < want && (s->decoder != NULL || s->failed.class != ERROR_NONE)) {
        ssize_t n;

        if (s->failed.class != ERROR_NONE) {
            *e = s->failed;
            return -1;
        }
        if (s->step == NULL)
            s->step = mem_alloc(STEP_SIZE);
        n = s->decoder->read(s->decoder, s->step, STEP_SIZE, e);
        if (n < 0 || (n > 0 && keep(s, slice_of(s->step, (size_t)n), e) < 0)) {
            s->failed = *e;
            n = 0;
        }
        if (n == 0) {
            decoder_free(s->decoder);
            s->decoder = NULL;
            mem_free(s->step);
            s->step = NULL;
        }
    }
    return 0;
}

ssize_t spool_read(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    struct spool *s = arg;

    if (decode(s, offset > UINT64_MAX - size ? UINT64_MAX : offset + size, e) < 0)
        return -1;
    return blob_read(s->blob, offset, buf, size, e);
}

int spool_size(struct spool *s, uint64_t *size, struct error *e)
{
    if (decode(s, UINT64_MAX, e) < 0)
        return -1;
    *size = blob_size(s->blob);
    return 0;
}
