/* codec_bz2.c - bzip2. Several streams in a row are one message. */
#include "store/coding/codec.h"

static bool is_bz2(struct slice head)
{
    return slice_starts(head, SLICE("BZh")) && head.size > 3 && head.at[3] >= '1' && head.at[3] <= '9';
}

#ifdef HAVE_BZIP2
#include <bzlib.h>

#define BUFFER_SIZE 32768

/* ---- reading ---- */

struct bz_decoder {
    struct decoder decoder;
    struct input in;
    bz_stream z;
    bool running;              /* z is to be ended */
};

static ssize_t bz_read(struct decoder *decoder, unsigned char *buf, size_t size, struct error *e)
{
    struct bz_decoder *d = (struct bz_decoder *)decoder;

    d->z.next_out = (char *)buf;
    d->z.avail_out = size > UINT32_MAX ? UINT32_MAX : (unsigned)size;
    for (;;) {
        struct slice have;
        int r;

        if (input_fill(&d->in, 1, e) < 0)
            return -1;
        have = input_slice(&d->in);
        if (!d->running) {
            char *out = d->z.next_out;
            unsigned room = d->z.avail_out;

            if (have.size == 0)
                return 0;
            d->z = (bz_stream){.next_out = out, .avail_out = room};
            if (BZ2_bzDecompressInit(&d->z, 0, 0) != BZ_OK)
                mem_exhausted(sizeof(d->z));
            d->running = true;
        }
        if (have.size == 0)
            return input_bad(&d->in, "bz2", "unexpected end of data", e);
        d->z.next_in = (char *)(unsigned char *)have.at;
        d->z.avail_in = (unsigned)have.size;
        r = BZ2_bzDecompress(&d->z);
        input_take(&d->in, have.size - d->z.avail_in);
        if (r == BZ_STREAM_END) {
            BZ2_bzDecompressEnd(&d->z);
            d->running = false;
        } else if (r != BZ_OK) {
            return input_bad(&d->in, "bz2", "damaged data", e);
        }
        if (d->z.next_out != (char *)buf)
            return d->z.next_out - (char *)buf;
    }
}

static void bz_free(struct decoder *decoder)
{
    struct bz_decoder *d = (struct bz_decoder *)decoder;

    if (d->running)
        BZ2_bzDecompressEnd(&d->z);
    input_free(&d->in);
    mem_free(d);
}

static struct decoder *bz_decode(struct input *in)
{
    struct bz_decoder *d = mem_zero(1, sizeof(*d));

    d->decoder = (struct decoder){bz_read, bz_free};
    d->in = *in;
    return &d->decoder;
}

/* ---- writing ---- */

struct bz_sink {
    struct byte_sink sink;
    bz_stream z;
    char out[BUFFER_SIZE];
};

static int run(struct bz_sink *s, struct slice bytes, int action, struct error *e)
{
    int r;

    s->z.next_in = (char *)(unsigned char *)bytes.at;
    s->z.avail_in = (unsigned)bytes.size;
    do {
        s->z.next_out = s->out;
        s->z.avail_out = sizeof(s->out);
        r = BZ2_bzCompress(&s->z, action);
        if (r < 0)
            return error_set(e, ERROR_BUG, "BZ2_bzCompress failed");
        if (byte_sink_put(s->sink.next, slice_of(s->out, sizeof(s->out) - s->z.avail_out), e) < 0)
            return -1;
    } while (action == BZ_FINISH ? r != BZ_STREAM_END : s->z.avail_in > 0);
    return 0;
}

static int bz_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    while (bytes.size > 0) {
        struct slice part = slice_head(bytes, 1U << 30);

        if (run((struct bz_sink *)sink, part, BZ_RUN, e) < 0)
            return -1;
        bytes = slice_from(bytes, part.size);
    }
    return 0;
}

static int bz_finish(struct byte_sink *sink, struct error *e)
{
    return run((struct bz_sink *)sink, SLICE_EMPTY, BZ_FINISH, e) < 0 ? -1 : byte_sink_finish(sink->next, e);
}

static void bz_sink_free(struct byte_sink *sink)
{
    BZ2_bzCompressEnd(&((struct bz_sink *)sink)->z);
    mem_free(sink);
}

static struct byte_sink *bz_encode(int level, struct byte_sink *next)
{
    struct bz_sink *s = mem_zero(1, sizeof(*s));

    s->sink = (struct byte_sink){bz_put, bz_finish, bz_sink_free, next};
    if (BZ2_bzCompressInit(&s->z, level, 0, 0) != BZ_OK)
        mem_exhausted(sizeof(s->z));
    return &s->sink;
}

const struct codec codec_bz2 = {"bz2", 1, 9, 9, is_bz2, bz_encode, bz_decode};
#else
const struct codec codec_bz2 = {"bz2", 1, 9, 9, is_bz2, NULL, NULL};
#endif
