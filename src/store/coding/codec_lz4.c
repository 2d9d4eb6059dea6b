/* codec_lz4.c - LZ4 blocks in Dovecot's framing (dbox-format 6):
 *
 *     15 bytes magic, u32 BE the most that a chunk decompresses to, then chunks: u32 BE length, an LZ4 block of that length
 *
 * The end of the file is the end of the message, so that a cut between two chunks cannot be seen here; S= or Z tell it. */
#include "store/coding/codec.h"

#define MAGIC "Dovecot-LZ4\x0d\x2a\x9b\xc5"

static bool is_lz4(struct slice head)
{
    return slice_starts(head, SLICE(MAGIC));
}

#ifdef HAVE_LZ4
#include <lz4.h>

#define CHUNK_SIZE 65536                 /* of plain bytes, as written */
#define CHUNK_MAX (1024 * 1024)          /* of either kind, as read */
#define HEADER_SIZE (sizeof(MAGIC) - 1 + 4)

/* ---- reading ---- */

struct lz4_decoder {
    struct decoder decoder;
    struct input in;
    uint32_t most;
    unsigned char *chunk, *plain;
    size_t at, have;           /* in plain */
};

static int read_header(struct lz4_decoder *d, struct error *e)
{
    struct slice head;

    if (input_fill(&d->in, HEADER_SIZE, e) < 0)
        return -1;
    head = input_slice(&d->in);
    if (head.size < HEADER_SIZE)
        return input_bad(&d->in, "lz4", "unexpected end of data", e);
    if (!is_lz4(head))
        return input_bad(&d->in, "lz4", "wrong magic", e);
    d->most = bytes_be32(head.at + HEADER_SIZE - 4);
    if (d->most == 0 || d->most > CHUNK_MAX)
        return input_bad(&d->in, "lz4", "impossible chunk size", e);
    input_take(&d->in, HEADER_SIZE);
    d->chunk = mem_alloc(CHUNK_MAX);
    d->plain = mem_alloc(d->most);
    return 0;
}

static int take(struct lz4_decoder *d, unsigned char *to, size_t size, struct error *e)
{
    while (size > 0) {
        struct slice have;

        if (input_fill(&d->in, 1, e) < 0)
            return -1;
        have = slice_head(input_slice(&d->in), size);
        if (have.size == 0)
            return input_bad(&d->in, "lz4", "unexpected end of data", e);
        memcpy(to, have.at, have.size);
        input_take(&d->in, have.size);
        to += have.size;
        size -= have.size;
    }
    return 0;
}

static ssize_t lz4_read(struct decoder *decoder, unsigned char *buf, size_t size, struct error *e)
{
    struct lz4_decoder *d = (struct lz4_decoder *)decoder;

    if (d->chunk == NULL && read_header(d, e) < 0)
        return -1;
    while (d->at == d->have) {
        unsigned char length[4];
        uint32_t n;
        int plain;

        if (input_fill(&d->in, 1, e) < 0)
            return -1;
        if (input_slice(&d->in).size == 0)
            return 0;
        if (take(d, length, 4, e) < 0)
            return -1;
        n = bytes_be32(length);
        if (n == 0 || n > CHUNK_MAX)
            return input_bad(&d->in, "lz4", "impossible chunk length", e);
        if (take(d, d->chunk, n, e) < 0)
            return -1;
        plain = LZ4_decompress_safe((const char *)d->chunk, (char *)d->plain, (int)n, (int)d->most);
        if (plain < 0)
            return input_bad(&d->in, "lz4", "damaged chunk", e);
        d->at = 0;
        d->have = (size_t)plain;
    }
    if (size > d->have - d->at)
        size = d->have - d->at;
    memcpy(buf, d->plain + d->at, size);
    d->at += size;
    return (ssize_t)size;
}

static void lz4_free(struct decoder *decoder)
{
    struct lz4_decoder *d = (struct lz4_decoder *)decoder;

    mem_free(d->chunk);
    mem_free(d->plain);
    input_free(&d->in);
    mem_free(d);
}

static struct decoder *lz4_decode(struct input *in)
{
    struct lz4_decoder *d = mem_zero(1, sizeof(*d));

    d->decoder = (struct decoder){lz4_read, lz4_free};
    d->in = *in;
    return &d->decoder;
}

/* ---- writing ---- */

struct lz4_sink {
    struct byte_sink sink;
    bool begun;
    size_t have;
    unsigned char plain[CHUNK_SIZE], out[LZ4_COMPRESSBOUND(CHUNK_SIZE) + 4];
};

static int put_header(struct lz4_sink *s, struct error *e)
{
    unsigned char header[HEADER_SIZE];

    if (s->begun)
        return 0;
    s->begun = true;
    memcpy(header, MAGIC, sizeof(MAGIC) - 1);
    bytes_put_be32(header + sizeof(MAGIC) - 1, CHUNK_SIZE);
    return byte_sink_put(s->sink.next, slice_of(header, sizeof(header)), e);
}

static int flush(struct lz4_sink *s, struct error *e)
{
    int n;

    if (put_header(s, e) < 0)
        return -1;
    if (s->have == 0)
        return 0;
    n = LZ4_compress_default((const char *)s->plain, (char *)s->out + 4, (int)s->have, (int)sizeof(s->out) - 4);
    if (n <= 0)
        return error_set(e, ERROR_BUG, "LZ4_compress_default failed");
    s->have = 0;
    bytes_put_be32(s->out, (uint32_t)n);
    return byte_sink_put(s->sink.next, slice_of(s->out, (size_t)n + 4), e);
}

static int lz4_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    struct lz4_sink *s = (struct lz4_sink *)sink;

    while (bytes.size > 0) {
        struct slice part = slice_head(bytes, CHUNK_SIZE - s->have);

        memcpy(s->plain + s->have, part.at, part.size);
        s->have += part.size;
        bytes = slice_from(bytes, part.size);
        if (s->have == CHUNK_SIZE && flush(s, e) < 0)
            return -1;
    }
    return 0;
}

static int lz4_finish(struct byte_sink *sink, struct error *e)
{
    return flush((struct lz4_sink *)sink, e) < 0 ? -1 : byte_sink_finish(sink->next, e);
}

static void lz4_sink_free(struct byte_sink *sink)
{
    mem_free(sink);
}

static struct byte_sink *lz4_encode(int level, struct byte_sink *next)
{
    struct lz4_sink *s = mem_zero(1, sizeof(*s));

    (void)level;
    s->sink = (struct byte_sink){lz4_put, lz4_finish, lz4_sink_free, next};
    return &s->sink;
}

const struct codec codec_lz4 = {"lz4", 1, 9, 1, is_lz4, lz4_encode, lz4_decode};
#else
const struct codec codec_lz4 = {"lz4", 1, 9, 1, is_lz4, NULL, NULL};
#endif
