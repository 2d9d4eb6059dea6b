/* codec.c - the table of codecs, and the buffered input that all decoders read from (dbox-format 6). */
#include "store/coding/codec.h"

static const struct codec *const all[] = {&codec_gz, &codec_bz2, &codec_deflate, &codec_lz4, &codec_zstd, &codec_xz};

const struct codec *codec_find(struct slice name)
{
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (slice_equal_str(name, all[i]->name))
            return all[i];
    return NULL;
}

const struct codec *codec_detect(struct slice head)
{
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (all[i]->is != NULL && all[i]->is(head))
            return all[i];
    return NULL;
}

/* ---- the first decoder: a source ---- */

struct source_decoder {
    struct decoder decoder;
    struct mime_source source;
    uint64_t at;
};

static ssize_t read_source(struct decoder *decoder, unsigned char *buf, size_t size, struct error *e)
{
    struct source_decoder *d = (struct source_decoder *)decoder;
    ssize_t n = mime_source_read(&d->source, d->at, buf, size, e);

    if (n > 0)
        d->at += (uint64_t)n;
    return n;
}

static void free_source(struct decoder *decoder)
{
    mem_free(decoder);
}

struct decoder *decoder_of_source(const struct mime_source *source)
{
    struct source_decoder *d = mem_zero(1, sizeof(*d));

    d->decoder = (struct decoder){read_source, free_source};
    d->source = *source;
    return &d->decoder;
}

void decoder_free(struct decoder *d)
{
    if (d != NULL)
        d->free(d);
}

/* ---- input ---- */

void input_init(struct input *in, struct decoder *from)
{
    *in = (struct input){.from = from, .buf = mem_alloc(INPUT_SIZE)};
}

void input_free(struct input *in)
{
    decoder_free(in->from);
    mem_free(in->buf);
    *in = (struct input){0};
}

struct input_decoder {
    struct decoder decoder;
    struct input in;
};

static ssize_t read_input(struct decoder *decoder, unsigned char *buf, size_t size, struct error *e)
{
    struct input_decoder *d = (struct input_decoder *)decoder;
    struct slice have;

    if (input_fill(&d->in, 1, e) < 0)
        return -1;
    have = slice_head(input_slice(&d->in), size);
    if (have.size > 0)
        memcpy(buf, have.at, have.size);
    input_take(&d->in, have.size);
    return (ssize_t)have.size;
}

static void free_input(struct decoder *decoder)
{
    input_free(&((struct input_decoder *)decoder)->in);
    mem_free(decoder);
}

struct decoder *decoder_of_input(struct input *in)
{
    struct input_decoder *d = mem_zero(1, sizeof(*d));

    d->decoder = (struct decoder){read_input, free_input};
    d->in = *in;
    return &d->decoder;
}

int input_fill(struct input *in, size_t want, struct error *e)
{
    while (!in->end && in->have - in->at < want) {
        ssize_t n;

        if (in->at > 0) {
            memmove(in->buf, in->buf + in->at, in->have - in->at);
            in->have -= in->at;
            in->at = 0;
        }
        n = in->from->read(in->from, in->buf + in->have, INPUT_SIZE - in->have, e);
        if (n < 0)
            return -1;
        in->end = n == 0;
        in->have += (size_t)n;
    }
    return 0;
}

int input_bad(const struct input *in, const char *codec, const char *why, struct error *e)
{
    return error_set(e, ERROR_CORRUPT, "%s: %s at stored byte %llu", codec, why, (unsigned long long)in->taken);
}
