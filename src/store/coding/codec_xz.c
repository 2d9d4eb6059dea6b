/* codec_xz.c - xz, which is read and never written. A stream may ask for 80 MiB. */
#include "store/coding/codec.h"

static bool is_xz(struct slice head)
{
    return slice_starts(head, slice_of("\xfd\x37\x7a\x58\x5a\x00", 6));
}

#ifdef HAVE_LZMA
#include <lzma.h>

#define MEMORY_MAX (80 * 1024 * 1024)

struct xz_decoder {
    struct decoder decoder;
    struct input in;
    lzma_stream z;
    bool ended;
};

static ssize_t xz_read(struct decoder *decoder, unsigned char *buf, size_t size, struct error *e)
{
    struct xz_decoder *d = (struct xz_decoder *)decoder;

    d->z.next_out = buf;
    d->z.avail_out = size;
    while (d->z.next_out == buf && !d->ended) {
        struct slice have;
        lzma_ret r;

        if (input_fill(&d->in, 1, e) < 0)
            return -1;
        have = input_slice(&d->in);
        d->z.next_in = have.at;
        d->z.avail_in = have.size;
        r = lzma_code(&d->z, have.size == 0 ? LZMA_FINISH : LZMA_RUN);
        input_take(&d->in, have.size - d->z.avail_in);
        if (r == LZMA_STREAM_END)
            d->ended = true;
        else if (r == LZMA_MEMLIMIT_ERROR)
            return input_bad(&d->in, "xz", "it wants too much memory", e);
        else if (r == LZMA_BUF_ERROR)
            return input_bad(&d->in, "xz", "unexpected end of data", e);
        else if (r != LZMA_OK)
            return input_bad(&d->in, "xz", "damaged data", e);
    }
    return (ssize_t)(size - d->z.avail_out);
}

static void xz_free(struct decoder *decoder)
{
    struct xz_decoder *d = (struct xz_decoder *)decoder;

    lzma_end(&d->z);
    input_free(&d->in);
    mem_free(d);
}

static struct decoder *xz_decode(struct input *in)
{
    struct xz_decoder *d = mem_zero(1, sizeof(*d));

    d->decoder = (struct decoder){xz_read, xz_free};
    d->in = *in;
    d->z = (lzma_stream)LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&d->z, MEMORY_MAX, LZMA_CONCATENATED) != LZMA_OK)
        mem_exhausted(sizeof(d->z));
    return &d->decoder;
}

const struct codec codec_xz = {"xz", 0, 0, 0, is_xz, NULL, xz_decode};
#else
const struct codec codec_xz = {"xz", 0, 0, 0, is_xz, NULL, NULL};
#endif
