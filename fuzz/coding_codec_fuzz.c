/* Compressed mail: whatever the bytes are, a decoder ends, and what is read in pieces is what is read at once. The first byte
 * chooses the codec, the rest is the stored message. */
#include "store/coding/codec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUT_MAX (1024 * 1024)

static int decode(const struct codec *c, struct slice stored, size_t piece, struct buffer *out)
{
    struct mime_source source = mime_source_slice(stored);
    unsigned char buf[4096];
    struct decoder *d;
    struct input in;
    struct error e;
    ssize_t n;

    input_init(&in, decoder_of_source(&source));
    d = c->decode(&in);
    while ((n = d->read(d, buf, piece, &e)) > 0 && out->size < OUT_MAX)
        buffer_append(out, buf, (size_t)n);
    decoder_free(d);
    return n < 0 ? -1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct codec *const all[] = {&codec_lz4, &codec_gz, &codec_bz2, &codec_zstd, &codec_xz, &codec_deflate};
    const struct codec *c;
    struct buffer one = {0}, two = {0};
    int r, s;

    if (size == 0 || !codec_there(c = all[data[0] % 6]))
        return 0;
    r = decode(c, slice_of(data + 1, size - 1), 4096, &one);
    s = decode(c, slice_of(data + 1, size - 1), 1 + size % 100, &two);
    if (one.size < OUT_MAX && two.size < OUT_MAX && (r != s || (r == 0 && !slice_equal(buffer_slice(&one), buffer_slice(&two)))))
        abort();
    buffer_free(&one);
    buffer_free(&two);
    return 0;
}
