/* codec_zstd.c - Zstandard (RFC 8878). Several frames in a row are one message; the library's own cap on a frame's window
 * (128 MiB) bounds what a frame may ask for. */
#include "store/coding/codec.h"

static bool is_zstd(struct slice head)
{
    return slice_starts(head, SLICE("\x28\xb5\x2f\xfd"));
}

#ifdef HAVE_ZSTD
#include <zstd.h>

#define BUFFER_SIZE 32768
#define FRAME_HEADER_MAX 18

/* ---- reading ---- */

struct zstd_decoder {
    struct decoder decoder;
    struct input in;
    ZSTD_DStream *z;
    bool between;              /* no frame is open */
    unsigned long long left;   /* bytes that the open frame says to have yet; ZSTD_CONTENTSIZE_UNKNOWN: it does not say */
    bool pending;              /* the library holds output that did not fit */
};

static ssize_t zstd_read(struct decoder *decoder, unsigned char *buf, size_t size, struct error *e)
{
    struct zstd_decoder *d = (struct zstd_decoder *)decoder;
    ZSTD_outBuffer out = {buf, size, 0};

    while (out.pos == 0) {
        ZSTD_inBuffer in;
        struct slice have;
        size_t r;

        if (input_fill(&d->in, d->between ? FRAME_HEADER_MAX : 1, e) < 0)
            return -1;
        have = input_slice(&d->in);
        if (d->between)
            d->left = ZSTD_getFrameContentSize(have.at, have.size);
        if (have.size == 0 && !d->pending)
            return d->between ? 0 : input_bad(&d->in, "zstd", "unexpected end of data", e);
        in = (ZSTD_inBuffer){have.at, have.size, 0};
        r = ZSTD_decompressStream(d->z, &out, &in);
        if (ZSTD_isError(r))
            return input_bad(&d->in, "zstd", ZSTD_getErrorName(r), e);
        input_take(&d->in, in.pos);
        /* The library does not compare where it gives a frame in pieces. */
        if (d->left < ZSTD_CONTENTSIZE_ERROR && (out.pos > d->left || (r == 0 && out.pos < d->left)))
            return input_bad(&d->in, "zstd", "a frame has not the size that it says", e);
        if (d->left < ZSTD_CONTENTSIZE_ERROR)
            d->left -= out.pos;
        d->between = r == 0;
        d->pending = r != 0 && out.pos == out.size;
    }
    return (ssize_t)out.pos;
}

static void zstd_free(struct decoder *decoder)
{
    struct zstd_decoder *d = (struct zstd_decoder *)decoder;

    ZSTD_freeDStream(d->z);
    input_free(&d->in);
    mem_free(d);
}

static struct decoder *zstd_decode(struct input *in)
{
    struct zstd_decoder *d = mem_zero(1, sizeof(*d));

    d->decoder = (struct decoder){zstd_read, zstd_free};
    d->in = *in;
    d->z = ZSTD_createDStream();
    d->between = true;
    if (d->z == NULL)
        mem_exhausted(sizeof(*d));
    return &d->decoder;
}

/* ---- writing ---- */

struct zstd_sink {
    struct byte_sink sink;
    ZSTD_CStream *z;
    unsigned char buf[BUFFER_SIZE];
};

static int run(struct zstd_sink *s, struct slice bytes, ZSTD_EndDirective how, struct error *e)
{
    ZSTD_inBuffer in = {bytes.at, bytes.size, 0};
    size_t left;

    do {
        ZSTD_outBuffer out = {s->buf, sizeof(s->buf), 0};

        left = ZSTD_compressStream2(s->z, &out, &in, how);
        if (ZSTD_isError(left))
            return error_set(e, ERROR_BUG, "zstd: %s", ZSTD_getErrorName(left));
        if (byte_sink_put(s->sink.next, slice_of(s->buf, out.pos), e) < 0)
            return -1;
    } while (how == ZSTD_e_end ? left > 0 : in.pos < in.size);
    return 0;
}

static int zstd_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    return run((struct zstd_sink *)sink, bytes, ZSTD_e_continue, e);
}

static int zstd_finish(struct byte_sink *sink, struct error *e)
{
    return run((struct zstd_sink *)sink, SLICE_EMPTY, ZSTD_e_end, e) < 0 ? -1 : byte_sink_finish(sink->next, e);
}

static void zstd_sink_free(struct byte_sink *sink)
{
    ZSTD_freeCStream(((struct zstd_sink *)sink)->z);
    mem_free(sink);
}

static struct byte_sink *zstd_encode(int level, struct byte_sink *next)
{
    struct zstd_sink *s = mem_zero(1, sizeof(*s));

    s->sink = (struct byte_sink){zstd_put, zstd_finish, zstd_sink_free, next};
    s->z = ZSTD_createCStream();
    if (s->z == NULL)
        mem_exhausted(sizeof(*s));
    ZSTD_CCtx_setParameter(s->z, ZSTD_c_compressionLevel, level);
    return &s->sink;
}

const struct codec codec_zstd = {"zstd", 1, 22, 3, is_zstd, zstd_encode, zstd_decode};
#else
const struct codec codec_zstd = {"zstd", 1, 22, 3, is_zstd, NULL, NULL};
#endif
