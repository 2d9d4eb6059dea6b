/* Codecs and the spool: what was encoded comes back, and damage is noticed. */
#include "tests/store/coding_help.h"

static const struct codec *const codecs[] = {&codec_gz, &codec_bz2, &codec_lz4, &codec_zstd, &codec_deflate};
#define CODECS (sizeof(codecs) / sizeof(*codecs))

static struct buffer encoded(const struct codec *c, int level, struct slice plain, size_t piece)
{
    struct buffer out = {0};
    struct memory_sink last = to_memory(&out);
    struct byte_sink *sink = c->encode(level, &last.sink);
    struct error e;

    while (plain.size > 0) {
        struct slice part = slice_head(plain, piece);

        ATF_REQUIRE_EQ(byte_sink_put(sink, part, &e), 0);
        plain = slice_from(plain, part.size);
    }
    ATF_REQUIRE_EQ(byte_sink_finish(sink, &e), 0);
    byte_sinks_free(sink);
    return out;
}

static struct decoder *decoder_for(const struct codec *c, struct mime_source *source)
{
    struct input in;

    input_init(&in, decoder_of_source(source));
    return c->decode(&in);
}

/* 0 and the bytes, or -1. */
static int decoded(const struct codec *c, struct slice stored, struct buffer *out, size_t piece)
{
    struct mime_source source = mime_source_slice(stored);
    struct decoder *d = decoder_for(c, &source);
    unsigned char *buf = mem_alloc(piece);
    struct error e;
    ssize_t n;

    while ((n = d->read(d, buf, piece, &e)) > 0)
        buffer_append(out, buf, (size_t)n);
    mem_free(buf);
    decoder_free(d);
    return n < 0 ? -1 : 0;
}

/* ---- codecs ---- */

ATF_TC_WITHOUT_HEAD(round_trips);
ATF_TC_BODY(round_trips, tc)
{
    static const size_t sizes[] = {1, 5, 4096, 65535, 65536, 65537, 300000};

    (void)tc;
    for (size_t k = 0; k < CODECS; k++) {
        const struct codec *c = codecs[k];

        if (!codec_there(c))
            continue;
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
            struct buffer plain = sample(sizes[i], (unsigned)i), back = {0};
            int level = i % 2 == 0 ? c->level_default : c->level_min;
            struct buffer stored = encoded(c, level, buffer_slice(&plain), i % 3 == 0 ? 100 : 70000);

            ATF_CHECK(c->is == NULL || codec_detect(buffer_slice(&stored)) == c);
            ATF_CHECK_EQ(decoded(c, buffer_slice(&stored), &back, i % 2 == 0 ? 100000 : 77), 0);
            ATF_CHECK_MSG(slice_equal(buffer_slice(&back), buffer_slice(&plain)), "%s %zu", c->name, sizes[i]);
            buffer_reset(&back);
            ATF_CHECK_EQ_MSG(decoded(c, buffer_slice(&stored), &back, sizes[i]), 0, "%s: %zu at once", c->name, sizes[i]);
            ATF_CHECK_MSG(slice_equal(buffer_slice(&back), buffer_slice(&plain)), "%s: %zu at once", c->name, sizes[i]);
            buffer_free(&plain);
            buffer_free(&stored);
            buffer_free(&back);
        }
    }
}

/* Cut at any length: an error, or (lz4 between two chunks, which its form cannot tell; nothing at all) a clean end. */
ATF_TC_WITHOUT_HEAD(cut);
ATF_TC_BODY(cut, tc)
{
    (void)tc;
    for (size_t k = 0; k < CODECS; k++) {
        const struct codec *c = codecs[k];
        struct buffer plain = sample(150000, 7), stored;
        size_t clean = 0;

        if (!codec_there(c))
            continue;
        stored = encoded(c, c->level_default, buffer_slice(&plain), 70000);
        for (size_t size = 1; size < stored.size; size += size < 300 ? 1 : 997) {
            struct buffer back = {0};

            if (decoded(c, slice_head(buffer_slice(&stored), size), &back, 65536) == 0)
                clean++;
            ATF_CHECK(slice_starts(buffer_slice(&plain), buffer_slice(&back)));
            buffer_free(&back);
        }
        ATF_CHECK_MSG(clean <= (c == &codec_lz4 ? 4 : 0), "%s: %zu cuts were not seen", c->name, clean);
        buffer_free(&plain);
        buffer_free(&stored);
    }
}

/* Flipped bits: whatever comes out, it ends, and those formats that have checksums notice. */
ATF_TC_WITHOUT_HEAD(flipped);
ATF_TC_BODY(flipped, tc)
{
    (void)tc;
    for (size_t k = 0; k < CODECS; k++) {
        const struct codec *c = codecs[k];
        struct buffer plain = sample(20000, 9), stored;
        size_t unseen = 0;

        if (!codec_there(c))
            continue;
        stored = encoded(c, c->level_default, buffer_slice(&plain), 70000);
        for (size_t i = 0; i < 400; i++) {
            size_t at = (size_t)rand() % stored.size;
            struct buffer back = {0};

            stored.at[at] ^= (unsigned char)(1 << i % 8);
            if (decoded(c, buffer_slice(&stored), &back, 65536) == 0 &&
                !slice_equal(buffer_slice(&back), buffer_slice(&plain)))
                unseen++;
            stored.at[at] ^= (unsigned char)(1 << i % 8);
            buffer_free(&back);
        }
        if (c == &codec_gz || c == &codec_bz2)
            ATF_CHECK_EQ_MSG(unseen, 0, "%s: %zu", c->name, unseen);
        buffer_free(&plain);
        buffer_free(&stored);
    }
}

/* What the real server writes for "Subject: x", an empty line, "hello world" twice and "hello". */
ATF_TC_WITHOUT_HEAD(vectors);
ATF_TC_BODY(vectors, tc)
{
    static const char plain[] = "Subject: x\n\nhello world\nhello world\nhello\n";
    static const struct {
        const struct codec *codec;
        const char *hex;
    } made[] = {
        {&codec_gz, "1f8b08000000000000030b2e4dca4a4d2eb152a8e0e2ca48cdc9c95728cf2fca49c164730100b69474192a000000"},
        {&codec_bz2, "425a6839314159265359583c33f7000004db8000104000001008001e5496c0200031434d300032832019a8bb916a868b4f20"
                     "44163e90e5c14381247e2ee48a70a120b07867ee"},
        {&codec_lz4, "446f7665636f742d4c5a340d2a9bc50001000000000021fa085375626a6563743a20780a0a68656c6c6f20776f726c640c00"
                     "50656c6c6f0a"},
        {&codec_zstd, "28b52ffd0058f40000c05375626a6563743a20780a0a68656c6c6f20776f726c640a0100ef9526010000"},
        {&codec_xz, "fd377a585a000004e6d6b4460200210116000000742fe5a3e00029001f5d00299d4846ca80ef586859a494242f7965163edeca"
                    "aa097f380b8739f77740000000f3b854ee0bae831800013b2ac5938fc71fb6f37d010000000004595a"},
    };

    (void)tc;
    for (size_t k = 0; k < sizeof(made) / sizeof(*made); k++) {
        struct buffer back = {0}, stored = {0};

        if (!codec_there(made[k].codec))
            continue;
        ATF_REQUIRE_EQ(text_hex_decode(&stored, slice_from_str(made[k].hex)), 0);
        ATF_CHECK_EQ(codec_detect(buffer_slice(&stored)), made[k].codec);
        ATF_CHECK_EQ(decoded(made[k].codec, buffer_slice(&stored), &back, 1000), 0);
        ATF_CHECK_MSG(slice_equal_str(buffer_slice(&back), plain), "%s", made[k].codec->name);
        buffer_free(&back);
        for (size_t size = 0; size + 1 < stored.size; size++) {
            if (decoded(made[k].codec, slice_head(buffer_slice(&stored), size), &back, 1000) == 0)
                ATF_CHECK_MSG(size == 0 || size == 19, "%s %zu", made[k].codec->name, size);
            buffer_free(&back);
        }
        buffer_free(&stored);
    }
}

/* Two streams in a row are one message; empty ones add nothing, and many of them are no recursion. */
ATF_TC_WITHOUT_HEAD(several);
ATF_TC_BODY(several, tc)
{
    (void)tc;
    for (size_t k = 0; k < CODECS; k++) {
        const struct codec *c = codecs[k];
        struct buffer stored, second, back = {0};

        if (c == &codec_deflate || c == &codec_lz4 || !codec_there(c))
            continue;
        stored = encoded(c, c->level_default, SLICE("one "), 10);
        second = encoded(c, c->level_default, SLICE_EMPTY, 10);
        for (int i = 0; i < 20000; i++)
            buffer_append_slice(&stored, buffer_slice(&second));
        buffer_free(&second);
        second = encoded(c, c->level_default, SLICE("two"), 10);
        buffer_append_slice(&stored, buffer_slice(&second));
        ATF_CHECK_EQ(decoded(c, buffer_slice(&stored), &back, 100), 0);
        ATF_CHECK_MSG(slice_equal_str(buffer_slice(&back), "one two"), "%s", c->name);
        buffer_free(&stored);
        buffer_free(&second);
        buffer_free(&back);
    }
}

ATF_TC_WITHOUT_HEAD(lz4_limits);
ATF_TC_BODY(lz4_limits, tc)
{
    static const char *const bad[] = {
        "00000000", "00100001", "ffffffff",                      /* impossible chunk sizes */
        "0001000000000000", "0001000000100001aa", "00010000ffffffff", "0001000000000005aabb",  /* impossible chunks */
        "000100000000", "00010000" "00000003" "f0ffff",
    };

    (void)tc;
    if (!codec_there(&codec_lz4))
        atf_tc_skip("machine: built without lz4");
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct buffer stored = {0}, back = {0};

        buffer_append_slice(&stored, SLICE("Dovecot-LZ4\x0d\x2a\x9b\xc5"));
        ATF_REQUIRE_EQ(text_hex_decode(&stored, slice_from_str(bad[i])), 0);
        ATF_CHECK_EQ_MSG(decoded(&codec_lz4, buffer_slice(&stored), &back, 100), -1, "%s", bad[i]);
        buffer_free(&stored);
        buffer_free(&back);
    }
}

/* ---- the spool ---- */

ATF_TC_WITHOUT_HEAD(any_place);
ATF_TC_BODY(any_place, tc)
{
    static const size_t sizes[] = {1000, 131072, 131073, 700000};
    unsigned char *buf = mem_alloc(200000);
    struct error e;

    (void)tc;
    for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
        struct buffer plain = sample(sizes[k], 3), stored = encoded(&codec_gz, 6, buffer_slice(&plain), 70000);
        struct mime_source source = mime_source_slice(buffer_slice(&stored));
        struct spool *s = spool_new(decoder_for(&codec_gz, &source), stored.size, "/tmp");
        uint64_t size;

        for (int i = 0; i < 200; i++) {
            uint64_t at = (uint64_t)rand() % (plain.size + 100);
            size_t want = (size_t)rand() % 200000;
            struct slice expect = slice_head(slice_from(buffer_slice(&plain), (size_t)at), want);
            ssize_t n = spool_read(s, at, buf, want, &e);

            ATF_REQUIRE_EQ(n, (ssize_t)expect.size);
            ATF_REQUIRE(memcmp(buf, expect.at == NULL ? (const void *)"" : expect.at, expect.size) == 0);
        }
        ATF_CHECK_EQ(spool_size(s, &size, &e), 0);
        ATF_CHECK_EQ(size, plain.size);
        spool_free(s);
        buffer_free(&plain);
        buffer_free(&stored);
    }
    mem_free(buf);
}

struct endless {
    struct decoder decoder;
};

static ssize_t endless_read(struct decoder *d, unsigned char *buf, size_t size, struct error *e)
{
    (void)d, (void)e;
    memset(buf, 'x', size);
    return (ssize_t)size;
}

static void endless_free(struct decoder *d)
{
    mem_free(d);
}

ATF_TC_WITHOUT_HEAD(bomb);
ATF_TC_BODY(bomb, tc)
{
    struct endless *d = mem_zero(1, sizeof(*d));
    struct spool *s;
    struct error e;
    uint64_t size;

    (void)tc;
    d->decoder = (struct decoder){endless_read, endless_free};
    s = spool_new(&d->decoder, 1000, "/tmp");
    ATF_CHECK_EQ(spool_size(s, &size, &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_LIMIT);
    ATF_CHECK_EQ(spool_size(s, &size, &e), -1); /* the failure stays */
    spool_free(s);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, round_trips);
    ATF_TP_ADD_TC(tp, cut);
    ATF_TP_ADD_TC(tp, flipped);
    ATF_TP_ADD_TC(tp, vectors);
    ATF_TP_ADD_TC(tp, several);
    ATF_TP_ADD_TC(tp, lz4_limits);
    ATF_TP_ADD_TC(tp, any_place);
    ATF_TP_ADD_TC(tp, bomb);

    return atf_no_error();
}
