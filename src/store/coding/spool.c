/* spool.c - a decoded message that can be read at any place.
 *
 * It is decoded once, no further than somebody reads. Small ones stay in memory, large ones go to a file without a name in
 * mail_temp_dir (or, where none can be made, to a memory file). A failure stays: what came before it can still be read. */
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

struct spool {
    struct decoder *decoder;   /* NULL once it has ended */
    uint64_t have, stored;
    unsigned char *memory;     /* the first MEMORY_MAX bytes, until there is a file */
    unsigned char *step;
    int fd;
    struct error failed;
    char *temp_dir;
};

struct spool *spool_new(struct decoder *decoder, uint64_t stored, const char *temp_dir)
{
    struct spool *s = mem_zero(1, sizeof(*s));

    s->decoder = decoder;
    s->stored = stored;
    s->fd = -1;
    s->temp_dir = mem_strdup(temp_dir == NULL || *temp_dir == '\0' ? "/tmp" : temp_dir);
    return s;
}

void spool_free(struct spool *s)
{
    if (s == NULL)
        return;
    decoder_free(s->decoder);
    if (s->fd >= 0)
        close(s->fd);
    mem_free(s->memory);
    mem_free(s->step);
    mem_free(s->temp_dir);
    mem_free(s);
}

static int to_file(struct spool *s, struct error *e)
{
    if (s->fd >= 0)
        return 0;
    s->fd = open(s->temp_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (s->fd < 0)
        s->fd = memfd_create("decoded message", MFD_CLOEXEC);
    if (s->fd < 0)
        return error_sys(e, "open", s->temp_dir);
    if (os_write(s->fd, slice_of(s->memory, (size_t)s->have), e) < 0)
        return -1;
    mem_free(s->memory);
    s->memory = NULL;
    return 0;
}

static int keep(struct spool *s, struct slice bytes, struct error *e)
{
    if (s->have + bytes.size > BOMB_SIZE && (s->have + bytes.size) / BOMB_RATIO > s->stored)
        return error_set(e, ERROR_LIMIT, "%llu stored bytes decode to more than %llu", (unsigned long long)s->stored,
                         (unsigned long long)s->have);
    if (s->have + bytes.size > MEMORY_MAX || s->fd >= 0) {
        if (to_file(s, e) < 0 || os_write(s->fd, bytes, e) < 0)
            return -1;
    } else {
        if (s->memory == NULL)
            s->memory = mem_alloc(MEMORY_MAX);
        memcpy(s->memory + s->have, bytes.at, bytes.size);
    }
    s->have += bytes.size;
    return 0;
}

/* Decodes until `want` bytes are there, or all. */
static int decode(struct spool *s, uint64_t want, struct error *e)
{
    while (s->have < want && (s->decoder != NULL || s->failed.class != ERROR_NONE)) {
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
    size_t done = 0;

    if (decode(s, offset > UINT64_MAX - size ? UINT64_MAX : offset + size, e) < 0)
        return -1;
    if (offset >= s->have)
        return 0;
    if (size > s->have - offset)
        size = (size_t)(s->have - offset);
    if (s->fd < 0) {
        memcpy(buf, s->memory + offset, size);
        return (ssize_t)size;
    }
    while (done < size) {
        ssize_t n = TEMP_FAILURE_RETRY(pread(s->fd, (char *)buf + done, size - done, (off_t)(offset + done)));

        if (n <= 0)
            return n < 0 ? error_sys(e, "read", s->temp_dir) : error_set(e, ERROR_TEMPORARY, "%s: a spool was cut", s->temp_dir);
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int spool_size(struct spool *s, uint64_t *size, struct error *e)
{
    if (decode(s, UINT64_MAX, e) < 0)
        return -1;
    *size = s->have;
    return 0;
}
