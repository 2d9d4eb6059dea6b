/* dump_thread.c - doveadm dump of dovecot.index.thread (oracle-build 1.6), in which Dovecot keeps hashes of message ids. This server
 * neither reads nor writes it.
 *
 * A header of 16 bytes, then blocks: a size in the form of the index's offsets, and records of numbers with 7 bits a byte (the
 * lowest first) and of 32 bits. What is broken ends the dump, as there. */
#include "doveadm.h"
#include "index/format.h"

#include <errno.h>
#include <sys/stat.h>

enum { HEADER = 16, FILE_MAX = 256 * 1024 * 1024 };

static bool take_packed(struct slice *rest, uint32_t *n)
{
    *n = 0;
    for (unsigned shift = 0; shift < 35 && rest->size > 0; shift += 7) {
        unsigned char c = rest->at[0];

        *rest = slice_from(*rest, 1);
        *n |= (uint32_t)(c & 0x7f) << shift;
        if ((c & 0x80) == 0)
            return true;
    }
    return false;
}

/* The name of the id at `i` of a record that says `n`. */
static void put_id(struct buffer *out, uint32_t n, uint32_t i, uint32_t hash, uint32_t index)
{
    if (i == 0)
        buffer_append_str(out, "   - message-id: ");
    else if (n == 1)
        buffer_append_str(out, "   - in-reply-to: ");
    else
        buffer_printf(out, "   - references[%u]: ", i);
    buffer_printf(out, "crc32=%08x index=%u\n", hash, index);
}

/* `most`: indexes above it are hardly right in a file of this size. */
static bool put_record(struct buffer *out, struct slice *rest, uint32_t *uid, uint32_t most)
{
    uint32_t n, count, delta;

    if (!take_packed(rest, &delta) || !take_packed(rest, &n))
        return false;
    *uid += delta;
    buffer_printf(out, " - uid %u: n=%u\n", *uid, n);
    count = n < 2 ? n + 1 : n;
    if (count > rest->size / 8)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = bytes_le32(rest->at + 4 * (size_t)(count + i));

        put_id(out, n, i, bytes_le32(rest->at + 4 * (size_t)i), index);
        if (index > most)
            buffer_append_str(out, " - index probably broken\n");
    }
    *rest = slice_from(*rest, 8 * (size_t)count);
    return true;
}

static void put_blocks(struct buffer *out, struct slice file)
{
    struct slice rest = slice_from(file, HEADER);
    uint32_t uid = 1;

    for (;;) {
        struct slice block;
        uint32_t size;

        buffer_printf(out, "block at offset %zu:\n", file.size - rest.size);
        if (rest.size <= 4)
            return;
        size = format_offset_get(rest.at) / 4; /* there in units of four bytes */
        rest = slice_from(rest, 4);
        buffer_printf(out, " - block_size=%u\n", size);
        if (size > rest.size)
            buffer_append_str(out, "   - broken!\n");
        if (size == 0 || size > rest.size)
            return;
        for (block = slice_head(rest, size); block.size > 0;) {
            if (!put_record(out, &block, &uid, (uint32_t)(file.size / 8 * 2))) {
                buffer_append_str(out, " - broken\n");
                return;
            }
        }
        rest = slice_from(rest, size);
        uid++;
    }
}

int doveadm_dump_thread(const char *path, struct buffer *out)
{
    struct buffer file = {0};
    int fault = doveadm_dump_read(path, FILE_MAX, &file);

    if (fault == EISDIR || (fault == 0 && file.size == 0))
        doveadm_fatal(DOVEADM_TEMPFAIL, "mmap() failed: %s", strerror(fault == 0 ? EINVAL : ENODEV));
    if (fault != 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "open(%s) failed: %s", path, strerror(fault));
    while (file.size < HEADER) /* what is missing is nil */
        buffer_append_byte(&file, 0);
    buffer_printf(out, "version = %u\nuid validity = %u\n", file.at[0], bytes_le32(file.at + 4));
    put_blocks(out, buffer_slice(&file));
    buffer_free(&file);
    return DOVEADM_OK;
}
