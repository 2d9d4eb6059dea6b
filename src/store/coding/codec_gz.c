/* codec_gz.c - gzip (RFC 1952) and raw deflate (RFC 1951) by zlib. Several gzip members in a row are one message. */
#include "store/coding/codec.h"

#include <zlib.h>

#define BUFFER_SIZE 32768
#define GZIP_WINDOW (MAX_WBITS + 16)

static bool is_gz(struct slice head)
{
    return slice_starts(head, SLICE("\x1f\x8b"));
}

/* ---- reading ---- */

struct gz_decoder {
    struct decoder decoder;
    struct input in;
    z_stream z;
    const char *name;
    bool between;              /* a member has ended */
    bool many;                 /* gzip: more members may follow */
};

static ssize_t gz_read(struct decoder *decoder, unsigned char *buf, size_t size, struct error *e)
{
    struct gz_decoder *d = (struct gz_decoder *)decoder;

    d->z.next_out = buf;
    d->z.avail_out = size > UINT32_MAX ? UINT32_MAX : (uInt)size;
    for (;;) {
        struct slice have;
        int r;

        if (input_fill(&d->in, 1, e) < 0)
            return -1;
        have = input_slice(&d->in);
        if (d->between) {
            if (have.size == 0 || !d->many)
                return have.size == 0 ? 0 : input_bad(&d->in, d->name, "data behind the end", e);
            inflateReset(&d->z);
            d->between = false;
        }
        d->z.next_in = (unsigned char *)have.at;
        d->z.avail_in = (uInt)have.size;
        r = inflate(&d->z, Z_NO_FLUSH);
        input_take(&d->in, have.size - d->z.avail_in);
        if (r == Z_STREAM_END)
            d->between = true;
        else if (r != Z_OK && r != Z_BUF_ERROR)
            return input_bad(&d->in, d->name, d->z.msg == NULL ? "damaged data" : d->z.msg, e);
        if (d->z.next_out != buf)
            return (ssize_t)(d->z.next_out - buf);
        /* Without input zlib may still have had output. */
        if (have.size == 0 && !d->between)
            return input_bad(&d->in, d->name, "unexpected end of data", e);
    }
}

static void gz_free(struct decoder *decoder)
{
    struct gz_decoder *d = (struct gz_decoder *)decoder;

    inflateEnd(&d->z);
    input_free(&d->in);
    mem_free(d);
}

static struct decoder *decode(struct input *in, const char *name, int window, bool many)
{
    struct gz_decoder *d = mem_zero(1, sizeof(*d));

    d->decoder = (struct decoder){gz_read, gz_free};
    d->in = *in;
    d->name = name;
    d->many = many;
    if (inflateInit2(&d->z, window) != Z_OK)
        mem_exhausted(sizeof(d->z));
    return &d->decoder;
}

static struct decoder *gz_decode(struct input *in)
{
    return decode(in, "gz", GZIP_WINDOW, true);
}

static struct decoder *deflate_decode(struct input *in)
{
    return decode(in, "deflate", -MAX_WBITS, false);
}

/* ---- writing ---- */

struct gz_sink {
    struct byte_sink sink;
    z_stream z;
    unsigned char out[BUFFER_SIZE];
};

static int run(struct gz_sink *s, struct slice bytes, int flush, struct error *e)
{
    int r;

    s->z.next_in = (unsigned char *)bytes.at;
    s->z.avail_in = (uInt)bytes.size;
    do {
        s->z.next_out = s->out;
        s->z.avail_out = sizeof(s->out);
        r = deflate(&s->z, flush);
        if (r == Z_STREAM_ERROR)
            return error_set(e, ERROR_BUG, "deflate failed");
        if (byte_sink_put(s->sink.next, slice_of(s->out, sizeof(s->out) - s->z.avail_out), e) < 0)
            return -1;
    } while (s->z.avail_out == 0 || (flush == Z_FINISH && r != Z_STREAM_END));
    return 0;
}

static int gz_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    while (bytes.size > 0) {
        struct slice part = slice_head(bytes, 1U << 30);

        if (run((struct gz_sink *)sink, part, Z_NO_FLUSH, e) < 0)
            return -1;
        bytes = slice_from(bytes, part.size);
    }
    return 0;
}

static int gz_finish(struct byte_sink *sink, struct error *e)
{
    return run((struct gz_sink *)sink, SLICE_EMPTY, Z_FINISH, e) < 0 ? -1 : byte_sink_finish(sink->next, e);
}

static void gz_sink_free(struct byte_sink *sink)
{
    deflateEnd(&((struct gz_sink *)sink)->z);
    mem_free(sink);
}

static struct byte_sink *encode(int level, int window, struct byte_sink *next)
{
    struct gz_sink *s = mem_zero(1, sizeof(*s));

    s->sink = (struct byte_sink){gz_put, gz_finish, gz_sink_free, next};
    if (deflateInit2(&s->z, level, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        mem_exhausted(sizeof(s->z));
    return &s->sink;
}

static struct byte_sink *gz_encode(int level, struct byte_sink *next)
{
    return encode(level, GZIP_WINDOW, next);
}

static struct byte_sink *deflate_encode(int level, struct byte_sink *next)
{
    return encode(level, -MAX_WBITS, next);
}

const struct codec codec_gz = {"gz", 0, 9, 6, is_gz, gz_encode, gz_decode};
const struct codec codec_deflate = {"deflate", 0, 9, 6, NULL, deflate_encode, deflate_decode};
