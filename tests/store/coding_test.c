/* Codecs, base64, hash templates, references, single instance storage, and attachments against a model: what was saved is
 * read back (dbox-format 5, 6). */
#include "conf/settings.h"
#include "conf/tree.h"
#include "store/attachment.h"
#include "store/coding/attach.h"
#include "store/coding/codec.h"
#include "store/coding/crypt.h"
#include "store/internal.h"

#include <atf-c.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- helpers ---- */

struct memory_sink {
    struct byte_sink sink;
    struct buffer *out;
};

static int memory_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    (void)e;
    buffer_append_slice(((struct memory_sink *)sink)->out, bytes);
    return 0;
}

static int memory_finish(struct byte_sink *sink, struct error *e)
{
    (void)sink, (void)e;
    return 0;
}

static void memory_free(struct byte_sink *sink)
{
    (void)sink;
}

static struct memory_sink to_memory(struct buffer *out)
{
    return (struct memory_sink){{memory_put, memory_finish, memory_free, NULL}, out};
}

static const struct codec *const codecs[] = {&codec_gz, &codec_bz2, &codec_lz4, &codec_zstd, &codec_deflate};
#define CODECS (sizeof(codecs) / sizeof(*codecs))

/* Text that compresses, with stretches that do not. */
static struct buffer sample(size_t size, unsigned seed)
{
    struct buffer out = {0};

    srand(seed);
    while (out.size < size) {
        if (rand() % 4 == 0)
            for (int i = 0; i < 300; i++)
                buffer_append_byte(&out, (unsigned char)rand());
        buffer_printf(&out, "line %d of %u\n", rand() % 100, seed);
    }
    out.size = size;
    return out;
}

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

/* ---- attachments ---- */

ATF_TC_WITHOUT_HEAD(base64);
ATF_TC_BODY(base64, tc)
{
    static const struct {
        const char *text;
        unsigned columns;  /* 0: cannot be written again */
        size_t size;       /* of the base64 */
    } vectors[] = {
        {"QUJD", 4, 4}, {"QUJD\n", 4, 4}, {"QUJDRA==", 8, 8}, {"QUJDRA==\n", 8, 8}, {"QUJD\nQUJD\nQQ==", 4, 14},
        {"QUJDQUJD\nQUJD\n", 8, 13}, {"QUJDQUJD\nQUJD\n\ntext behind", 8, 13}, {"QUJD\nQUJD\n\n\n", 4, 9}, {"QQ== junk", 4, 4},
        {"QUJD\nQUJDQUJD", 0, 0}, {"QUJ", 0, 0}, {"QUJDR", 0, 0}, {"QUJD QUJD", 0, 0}, {"", 0, 0}, {"\n", 0, 0}, {"\nQUJD", 0, 0},
        {"QR==", 0, 0}, {"QUK=", 0, 0}, {"QQ=", 0, 0}, {"Q===", 0, 0}, {"QUJD\r\nQUJD", 0, 0}, {"=QUJ", 0, 0}, {"QQ=Q", 0, 0},
    };
    struct buffer line = {0};

    (void)tc;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
        for (size_t piece = 1; piece < 4; piece++) {
            struct slice rest = slice_from_str(vectors[i].text);
            struct base64_check c = {0};
            bool good;

            for (; rest.size > 0; rest = slice_from(rest, piece))
                base64_check_put(&c, slice_head(rest, piece));
            good = base64_check_end(&c);
            ATF_CHECK_EQ_MSG(good, vectors[i].columns != 0, "%s", vectors[i].text);
            if (good)
                ATF_CHECK_MSG(c.columns == vectors[i].columns && c.text == vectors[i].size, "%s: %u, %llu", vectors[i].text,
                              c.columns, (unsigned long long)c.text);
        }
    }
    /* Too much behind the end; lines that are too long. */
    for (int k = 0; k < 2; k++) {
        struct base64_check c = {0};

        buffer_reset(&line);
        for (int i = 0; i < 1028; i++)
            buffer_append_byte(&line, k == 0 && i == 4 ? '\n' : 'Q');
        if (k == 0)
            buffer_append_str(&line, "=");
        base64_check_put(&c, buffer_slice(&line));
        ATF_CHECK(!base64_check_end(&c));
    }
    buffer_free(&line);
}

ATF_TC_WITHOUT_HEAD(hashes);
ATF_TC_BODY(hashes, tc)
{
    static const struct {
        const char *template, *text;
    } vectors[] = {
        {"%{sha1}", "a9993e364706816aba3e25717850c26c9cd0d89d"}, {"%{md5}", "900150983cd24fb0d6963f7d28e17f72"},
        {"%{md4}", "a448017aaf21d8525fc10ae87aa6729d"}, {"%{sha256:80}", "ba7816bf8f01cfea4141"},
        {"%{sha1:12}", "a990"}, {"x%{size}.%{md5:8}", "x3.90"}, {"%X{md5:16}", "9001"}, {"%B{sha1:24}", "qZk+"},
    };
    static const char *const bad[] = {"%{sha3}", "%{sha1:161}", "%{sha1:0}", "%{sha1", "%sha1", "%"};
    struct arena *arena = arena_new();
    struct hash_template *t;
    struct error e;

    (void)tc;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
        struct buffer out = {0};

        t = hash_template_new(arena, vectors[i].template, &e);
        ATF_REQUIRE(t != NULL);
        hash_template_put(t, SLICE("a"));
        hash_template_put(t, SLICE("bc"));
        hash_template_end(t, &out);
        ATF_CHECK_STREQ(vectors[i].text, buffer_cstr(&out));
        buffer_free(&out);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ATF_CHECK_MSG(hash_template_new(arena, bad[i], &e) == NULL, "%s", bad[i]);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(references);
ATF_TC_BODY(references, tc)
{
    static const char *const bad[] = {
        "", "1", "1 2 -", "1 2 - a b", "x 2 - a", "1 x - a", "1 2 Q a", "1 2 B a", "1 2 B0 a", "1 2 B7 a", "1 2 B99999999999 a",
        "1 2 - ../a", "1 2 - /a", "1 2 - a//b", "1 2 - .", "5 5 - a 7 1 - b", "1 18446744073709551615 - a",
        "18446744073709551615 1 - a", "1 2 - a ",
    };
    struct arena *arena = arena_new();
    struct attachment_refs refs;
    struct error e;

    (void)tc;
    ATF_REQUIRE_EQ(attachment_refs_parse(SLICE("220 5535 B76 e9/dd/x-1 6000 10 - a/b 6010 8 B4C c"), arena, &refs, &e), 0);
    ATF_CHECK_EQ(refs.count, 3);
    ATF_CHECK_EQ(refs.at[0].offset, 220);
    ATF_CHECK_EQ(refs.at[0].size, 5535);
    ATF_CHECK_EQ(refs.at[0].base64_columns, 76);
    ATF_CHECK(slice_equal_str(refs.at[0].path, "e9/dd/x-1"));
    ATF_CHECK_EQ(refs.at[1].base64_columns, 0);
    ATF_CHECK(refs.at[2].crlf);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ATF_CHECK_EQ_MSG(attachment_refs_parse(slice_from_str(bad[i]), arena, &refs, &e), -1, "%s", bad[i]);
    arena_free(arena);
}

/* A user whose attachments lie below the test's folder. */
static struct mail_user *user_with(const char *const *pairs)
{
    char folder[4096];
    const char *all[8] = {NULL};
    struct mail_user_params params = {.username = "u", .home = "/nonexistent", .service = "imap"};
    struct settings *set, *changed;
    struct mail_user *user;
    struct conf *conf = conf_from_tree(conf_tree_new("test"));
    struct error e;
    size_t n = 0;
    char *dir;

    ATF_REQUIRE(getcwd(folder, sizeof(folder)) != NULL);
    dir = mem_printf("mail_attachment_dir=%s/att", folder);
    all[n++] = dir;
    all[n++] = "mail_attachment_min_size=100";
    all[n++] = "mail_location=maildir:/nonexistent/Maildir";
    while (pairs != NULL && *pairs != NULL)
        all[n++] = *pairs++;
    set = conf_settings(conf, NULL, &e);
    ATF_REQUIRE(set != NULL);
    changed = settings_override_all(set, all, &e);
    ATF_REQUIRE_MSG(changed != NULL, "%s", e.admin);
    ATF_REQUIRE_EQ_MSG(mail_user_open(&user, changed, &params, &e), 0, "%s", e.admin);
    settings_unref(set);
    settings_unref(changed);
    conf_free(conf);
    mem_free(dir);
    return user;
}

static unsigned files_below(const char *folder)
{
    char command[300];
    unsigned n = 0;
    FILE *f;

    snprintf(command, sizeof(command), "find %s -type f 2>/dev/null | wc -l", folder);
    f = popen(command, "r");
    ATF_REQUIRE(f != NULL && fscanf(f, "%u", &n) == 1);
    pclose(f);
    return n;
}

/* Saves through the extracting sink and reads back through the splice. -> references in the arena, NULL = none. */
static const char *there_and_back(struct mail_user *user, struct slice mail, struct arena *arena)
{
    static const struct store_driver driver = {.name = "test", .can = DRIVER_ATTACHMENTS};
    struct mailbox box = {.driver = &driver, .user = user};
    struct buffer stored = {0}, back = {0};
    struct memory_sink last = to_memory(&stored);
    struct byte_sink *sink;
    const char *refs;
    struct error e;

    sink = extract_sink_new(&box, &last.sink, &e);
    ATF_REQUIRE_MSG(sink != NULL, "%s", e.admin);
    for (struct slice rest = mail; rest.size > 0; rest = slice_from(rest, 5000))
        ATF_REQUIRE_EQ(byte_sink_put(sink, slice_head(rest, 5000), &e), 0);
    ATF_REQUIRE_EQ_MSG(byte_sink_finish(sink, &e), 0, "%s", e.admin);
    extract_sink_keep(sink);
    refs = extract_sink_refs(sink);
    refs = refs == NULL ? NULL : arena_strdup(arena, refs);
    byte_sinks_free(sink);
    if (refs != NULL) {
        struct mime_source source = mime_source_slice(buffer_slice(&stored));
        struct splice *s = splice_open(user, &source, refs, NULL, &e);
        unsigned char buf[3001];
        ssize_t n = 0;

        ATF_REQUIRE_MSG(s != NULL, "%s", e.admin);
        ATF_CHECK_EQ(splice_size(s, stored.size), mail.size);
        for (uint64_t at = 0; (n = splice_read(s, at, buf, sizeof(buf), &e)) > 0; at += (uint64_t)n)
            buffer_append(&back, buf, (size_t)n);
        ATF_REQUIRE_MSG(n == 0, "%s", e.admin);
        /* And any range alone. */
        for (int i = 0; i < 300; i++) {
            uint64_t at = (uint64_t)rand() % mail.size;
            struct slice expect = slice_head(slice_from(mail, (size_t)at), 1 + (size_t)rand() % 3000);

            ATF_REQUIRE_EQ(splice_read(s, at, buf, expect.size, &e), (ssize_t)expect.size);
            ATF_REQUIRE(memcmp(buf, expect.at, expect.size) == 0);
        }
        splice_close(&s);
    } else {
        buffer_append_slice(&back, buffer_slice(&stored));
    }
    ATF_CHECK_MSG(slice_equal(buffer_slice(&back), mail), "%s", refs);
    buffer_free(&stored);
    buffer_free(&back);
    return refs;
}

static void put_base64(struct buffer *out, size_t bytes, unsigned columns, unsigned seed)
{
    struct buffer raw = {0}, text = {0};

    srand(seed);
    for (size_t i = 0; i < bytes; i++)
        buffer_append_byte(&raw, (unsigned char)rand());
    text_base64_encode(&text, buffer_slice(&raw));
    for (size_t at = 0; at < text.size; at += columns) {
        buffer_append_slice(out, slice_head(slice_from(buffer_slice(&text), at), columns));
        buffer_append_byte(out, '\n');
    }
    buffer_free(&raw);
    buffer_free(&text);
}

ATF_TC_WITHOUT_HEAD(model);
ATF_TC_BODY(model, tc)
{
    static const char *const types[] = {"application/zip", "image/png", "text/plain", "message/rfc822", "video/mp4; name=x", ""};
    struct mail_user *user = user_with(NULL);
    struct arena *arena = arena_new();
    unsigned taken = 0;

    (void)tc;
    for (unsigned round = 0; round < 60; round++) {
        struct buffer mail = {0};
        const char *refs;
        unsigned random;

        srand(round);
        random = (unsigned)rand();
        buffer_append_str(&mail, "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\npreamble\n");
        for (unsigned part = 0; part < 1 + random % 4; part++) {
            unsigned what = (unsigned)rand();
            const char *type = types[what % 6];

            buffer_append_str(&mail, "--b\n");
            if (*type != '\0')
                buffer_printf(&mail, "Content-Type: %s\n", type);
            if (what % 7 != 0)
                buffer_append_str(&mail, "Content-Transfer-Encoding: base64\n");
            buffer_append_str(&mail, "\n");
            put_base64(&mail, what % 5 == 0 ? 40 : what % 4000, what % 3 == 0 ? 76 : what % 3 == 1 ? 60 : 4, what);
            if (what % 11 == 0)
                buffer_append_str(&mail, "\ntrailing text\n");
            if (what % 13 == 0)
                buffer_append_byte(&mail, '\0');
        }
        buffer_append_str(&mail, round % 2 == 0 ? "--b--\nepilogue\n" : "");
        refs = there_and_back(user, buffer_slice(&mail), arena);
        if (refs != NULL) {
            taken++;
            ATF_CHECK(files_below("att") > 0);
            attachment_refs_unlink(user, refs, NULL);
        }
        ATF_CHECK_EQ(files_below("att"), 0);
        buffer_free(&mail);
    }
    ATF_CHECK(taken > 20);
    arena_free(arena);
    mail_user_close(&user);
}

static void write_file(const char *name, struct slice content)
{
    FILE *f = fopen(name, "w");

    ATF_REQUIRE(f != NULL && fwrite(content.at, 1, content.size, f) == content.size);
    fclose(f);
}

/* Equal content is one file, whatever becomes of the messages. */
static void same_twice(const char *fs, unsigned files_with_two)
{
    const char *pairs[] = {fs, NULL};
    struct mail_user *user = user_with(pairs);
    struct arena *arena = arena_new();
    struct buffer mail = {0};
    const char *one, *two, *three;
    struct error e;

    buffer_append_str(&mail, "Content-Type: application/zip\nContent-Transfer-Encoding: base64\n\n");
    put_base64(&mail, 3000, 76, 1);
    one = there_and_back(user, buffer_slice(&mail), arena);
    two = there_and_back(user, buffer_slice(&mail), arena);
    ATF_REQUIRE(one != NULL && two != NULL && strcmp(one, two) != 0);
    ATF_CHECK(strstr(one, " B76 ") != NULL);
    ATF_CHECK_EQ(files_below("att -links 3"), files_with_two);
    /* sdbox: named anew, linked for a copy. */
    ATF_CHECK_EQ(attachment_refs_rename(user, one, NULL, "-guid-1", &e), 0);
    ATF_CHECK_EQ(attachment_refs_link(user, one, "-guid-1", "-other-2", &e), 0);
    ATF_CHECK_EQ(attachment_refs_link(user, one, "-guid-1", "-other-2", &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_EXISTS);
    attachment_refs_unlink(user, one, "-guid-1");
    attachment_refs_unlink(user, two, NULL);
    three = there_and_back(user, buffer_slice(&mail), arena);
    attachment_refs_unlink(user, three, NULL);
    ATF_CHECK(files_below("att") > 0);
    attachment_refs_unlink(user, one, "-other-2");
    ATF_CHECK_EQ(files_below("att"), 0);
    attachment_refs_unlink(user, one, "-other-2"); /* not there: not told */
    ATF_CHECK_EQ(access("att/hashes", F_OK), -1);
    buffer_free(&mail);
    arena_free(arena);
    mail_user_close(&user);
}

ATF_TC_WITHOUT_HEAD(instances);
ATF_TC_BODY(instances, tc)
{
    (void)tc;
    same_twice("mail_attachment_fs=sis posix", 3);
    same_twice("mail_attachment_fs=posix", 0);
    same_twice("mail_attachment_fs=sis-queue queue:posix", 0);
    ATF_CHECK_EQ(files_below("queue"), 3);
}

/* Encoded on the way: the same comes back, and the files are others than the plain ones. */
ATF_TC_WITHOUT_HEAD(coded_fs);
ATF_TC_BODY(coded_fs, tc)
{
    static const char *const specs[] = {
        "mail_attachment_fs=compress:gz:6:posix", "mail_attachment_fs=compress:maybe-zstd:3:sis posix",
        "mail_attachment_fs=crypt:public_key_path=pub:private_key_path=priv:posix",
        "mail_attachment_fs=crypt:algo=aes-256-cbc-sha1:public_key_path=pub:private_key_path=priv:compress:gz:posix",
        "mail_attachment_fs=sis crypt:public_key_path=pub:private_key_path=priv:posix",
    };
    struct crypt_key *key = crypt_key_generate(crypt_curve_find(SLICE("prime256v1")));
    struct buffer pub = {0}, priv = {0}, mail = {0};
    struct error e;

    (void)tc;
    crypt_key_public_text(key, &pub);
    ATF_REQUIRE_EQ(crypt_key_pem(key, &priv, &e), 0);
    write_file("pub", buffer_slice(&pub));
    write_file("priv", buffer_slice(&priv));
    buffer_append_str(&mail, "Content-Type: application/zip\n\n");
    for (int i = 0; i < 20000; i++)
        buffer_printf(&mail, "%d ", i);
    for (size_t i = 0; i < sizeof(specs) / sizeof(*specs); i++) {
        const char *pairs[] = {specs[i], NULL};
        struct mail_user *user = user_with(pairs);
        struct arena *arena = arena_new();
        const char *refs = there_and_back(user, buffer_slice(&mail), arena);

        ATF_CHECK_MSG(refs != NULL, "%s", specs[i]);
        ATF_CHECK_EQ(system("grep -rq '1 2 3 4 5 6' att && exit 1; exit 0"), 0);
        attachment_refs_unlink(user, refs, NULL);
        ATF_CHECK_EQ(files_below("att"), 0);
        arena_free(arena);
        mail_user_close(&user);
    }
    crypt_key_free(&key);
    buffer_free(&pub);
    buffer_free(&priv);
    buffer_free(&mail);
}

/* ---- encryption ---- */

struct one_key {
    struct crypt_ring ring;
    const struct crypt_key *key;
};

static const struct crypt_key *find_one(struct crypt_ring *ring, const unsigned char id[CRYPT_ID_SIZE], bool old,
                                        struct error *e)
{
    const struct crypt_key *key = ((struct one_key *)ring)->key;

    (void)e;
    return memcmp(old ? key->old_id : key->id, id, CRYPT_ID_SIZE) == 0 ? key : NULL;
}

/* 0 and the bytes, or -1. */
static int decrypted(const struct crypt_key *key, struct slice stored, struct buffer *out, struct error *e)
{
    struct mime_source source = mime_source_slice(stored);
    struct one_key ring = {{find_one}, key};
    unsigned char buf[5000];
    struct decoder *d;
    struct input in;
    ssize_t n;

    input_init(&in, decoder_of_source(&source));
    d = crypt_decode(&in, &ring.ring, e);
    if (d == NULL)
        return -1;
    while ((n = d->read(d, buf, sizeof(buf), e)) > 0)
        buffer_append(out, buf, (size_t)n);
    decoder_free(d);
    return n < 0 ? -1 : 0;
}

static struct buffer encrypted(const struct crypt_key *key, unsigned version, const char *suite_name, struct slice plain,
                               size_t piece)
{
    struct buffer out = {0};
    struct memory_sink last = to_memory(&out);
    struct crypt_suite suite;
    struct byte_sink *sink;
    struct error e;

    ATF_REQUIRE_EQ(crypt_suite_parse(slice_from_str(suite_name), &suite), 0);
    sink = crypt_encode_as(key, version, &suite, &last.sink);
    for (; plain.size > 0; plain = slice_from(plain, piece))
        ATF_REQUIRE_EQ(byte_sink_put(sink, slice_head(plain, piece), &e), 0);
    ATF_REQUIRE_EQ(byte_sink_finish(sink, &e), 0);
    byte_sinks_free(sink);
    return out;
}

ATF_TC_WITHOUT_HEAD(crypt_round_trips);
ATF_TC_BODY(crypt_round_trips, tc)
{
    static const char *const curves[] = {"prime256v1", "secp384r1", "secp521r1", "secp224r1", "prime192v1"};
    static const char *const suites[] = {"aes-256-gcm-sha256", "aes-256-cbc-sha1", "aes-128-gcm-sha512", "aes-128-cbc-sha384"};
    static const size_t sizes[] = {0, 1, 15, 16, 17, 20007, 32768, 100001};
    struct error e;

    (void)tc;
    for (size_t c = 0; c < 5; c++) {
        struct crypt_key *key = crypt_key_generate(crypt_curve_find(slice_from_str(curves[c])));
        struct crypt_key *other = crypt_key_generate(crypt_curve_find(slice_from_str(curves[c])));

        for (size_t i = 0; i < 8; i++) {
            unsigned version = (i + c) % 3 == 0 ? 1 : 2;
            struct buffer plain = sample(sizes[i], 1), back = {0}, stored;

            stored = encrypted(key, version, suites[(i + c) % 4], buffer_slice(&plain), i % 2 == 0 ? 7 : 50000);
            ATF_CHECK(crypt_is(buffer_slice(&stored)));
            ATF_CHECK_EQ_MSG(decrypted(key, buffer_slice(&stored), &back, &e), 0, "%s", e.admin);
            ATF_CHECK(slice_equal(buffer_slice(&back), buffer_slice(&plain)));
            buffer_free(&back);
            ATF_CHECK_EQ(decrypted(other, buffer_slice(&stored), &back, &e), -1);
            ATF_CHECK_EQ(e.class, ERROR_PERMISSION);
            buffer_free(&plain);
            buffer_free(&stored);
            buffer_free(&back);
        }
        crypt_key_free(&key);
        crypt_key_free(&other);
    }
}

/* With a tag nothing that was changed or cut is taken as whole. */
ATF_TC_WITHOUT_HEAD(crypt_damaged);
ATF_TC_BODY(crypt_damaged, tc)
{
    struct crypt_key *key = crypt_key_generate(crypt_curve_find(SLICE("prime256v1")));
    struct buffer plain = sample(1000, 1), stored, back = {0};
    struct error e;

    (void)tc;
    stored = encrypted(key, 2, "aes-256-gcm-sha256", buffer_slice(&plain), 1000);
    for (size_t size = 0; size < stored.size; size += 1 + size / 50) {
        ATF_CHECK_EQ_MSG(decrypted(key, slice_head(buffer_slice(&stored), size), &back, &e), -1, "%zu", size);
        buffer_free(&back);
    }
    for (size_t at = 0; at < stored.size; at += 1 + (size_t)rand() % 9) {
        stored.at[at] ^= (unsigned char)(1 << at % 8);
        /* Rounds of a key derivation are capped; that byte may still cost seconds. */
        if (at < 40 || at >= 44)
            ATF_CHECK_EQ_MSG(decrypted(key, buffer_slice(&stored), &back, &e), -1, "%zu", at);
        stored.at[at] ^= (unsigned char)(1 << at % 8);
        buffer_free(&back);
    }
    ATF_CHECK_EQ(decrypted(key, buffer_slice(&stored), &back, &e), 0);
    buffer_free(&back);
    buffer_free(&plain);
    buffer_free(&stored);
    crypt_key_free(&key);
}

/* A key and messages of the real server. */
ATF_TC_WITHOUT_HEAD(crypt_vectors);
ATF_TC_BODY(crypt_vectors, tc)
{
    static const char pem[] =
        "-----BEGIN PRIVATE KEY-----\n"
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdsIbQX3NjPCDJpD2\n"
        "DOcdmh0RZ+TlaTUaMg91ifbdHGqhRANCAARzosnqHYS4IeWkXIjXt9RK4ON3vBTI\n"
        "54hALYVN2/0kHlv9IQJ7GQ+xA37oYKFgl8BDPc/n5JribebVTMcWT4RJ\n"
        "-----END PRIVATE KEY-----\n";
    static const char *const made[] = {
        "4352595054454403070200000002000000ff060960864801650304012e060960864801650304020100000800000000cf0102"
        "89ba02d9be1af1baab6ae8aa3affca1bd55ad060a6983a2040309cf4717b40a60000004104f382c4667af3af9f1546a314ee"
        "67be03df99cadf79250c7f99a949d94f6534dd28ca0df53efaffe7a863b24b5e56ec792d136ab5054e32ac387bc53c544dbe"
        "0700000040ece534ebcbff634eb013170b68921221dc142489d28e5b114963aea34d7c06c7f6bd1cbc3fff36acc21bd46604"
        "6e5f9c1df1c36c0f03d19e6a0d62e2e1e87e7f00000020efb2614208d74babbb2160bc35cda7f45ff010a6609e439d6b8a82"
        "2e9cb4c04679f5e75ead45c939e01cb6298c66e72cc89e5c8a6013eed5b025f4cf33469fa2ca9949336bebf57d7b4926e1af"
        "1c8f9adb37a8f1e354ffd9c86c",
        "4352595054454403070100a9004104acf0614cadbc86a2330755ac33ccbcb4daf94eec906f0e8a199bb8e26ab232aeeff54a"
        "053b387b900f3d46e15c83fc5936bb1eb1a6590cd2fc707d1cb6171505002056a875d9fcf4fabd1d6fbd45881e427462992a"
        "d3f8c403a5756f1c7162e9698500204c14365a15ad5d9cf666a27c92b79ca63685694ff7eafd357d956d7c36d6e0c90020a1"
        "651430dcac0c42a3dc57c3bc863d959b0ff5504c15f11ea15f269caf519c5d6390efa951610dc1e3233fc5174e50b4375dbc"
        "e75b2ae946b6406ed6227847bf8fa6331d411e63f501ab",
    };
    struct crypt_key *key;
    struct error e;

    (void)tc;
    ATF_REQUIRE_EQ_MSG(crypt_key_private(slice_from_str(pem), NULL, &key, &e), 0, "%s", e.admin);
    for (size_t i = 0; i < sizeof(made) / sizeof(*made); i++) {
        struct buffer stored = {0}, back = {0};

        ATF_REQUIRE_EQ(text_hex_decode(&stored, slice_from_str(made[i])), 0);
        ATF_CHECK_EQ_MSG(decrypted(key, buffer_slice(&stored), &back, &e), 0, "%s", e.admin);
        ATF_CHECK(slice_equal_str(buffer_slice(&back), "Subject: x\n\nhello world\nhello world\nhello\n"));
        buffer_free(&stored);
        buffer_free(&back);
    }
    crypt_key_free(&key);
}

ATF_TC_WITHOUT_HEAD(key_texts);
ATF_TC_BODY(key_texts, tc)
{
    static const char *const curves[] = {"prime256v1", "secp384r1", "secp521r1", "prime192v1"};
    static const char *const bad[] = {"", "x", "2:", "2:a:b", "1:a:b:c", "2:1.2.840.10045.3.1.7:0:00000001ff:aa", "-----BEGIN X",
                                      "2:1.2.3:0:00000001ff:aa"};
    struct error e;

    (void)tc;
    for (size_t c = 0; c < 4; c++) {
        struct crypt_key *key = crypt_key_generate(crypt_curve_find(slice_from_str(curves[c]))), *again = NULL;
        struct crypt_key *owner = crypt_key_generate(crypt_curve_find(SLICE("prime256v1")));
        struct buffer text = {0};
        unsigned char id[CRYPT_ID_SIZE];

        crypt_key_public_text(key, &text);
        ATF_REQUIRE_EQ_MSG(crypt_key_public(buffer_slice(&text), &again, &e), 0, "%s: %s", curves[c], e.admin);
        ATF_CHECK(memcmp(again->id, key->id, CRYPT_ID_SIZE) == 0);
        crypt_key_free(&again);
        buffer_reset(&text);
        ATF_REQUIRE_EQ(crypt_key_pem(key, &text, &e), 0);
        ATF_REQUIRE_EQ_MSG(crypt_key_private(buffer_slice(&text), NULL, &again, &e), 0, "%s", e.admin);
        ATF_CHECK(memcmp(again->id, key->id, CRYPT_ID_SIZE) == 0);
        crypt_key_free(&again);
        for (int wrap = 0; wrap < 3; wrap++) {
            buffer_reset(&text);
            crypt_key_private_text(key, wrap == 1 ? owner : NULL, wrap == 2 ? "secret" : NULL, &text);
            ATF_CHECK_EQ(crypt_key_wrap_of(buffer_slice(&text), id), (enum crypt_wrap)wrap);
            if (wrap == 1) {
                ATF_CHECK(memcmp(id, owner->id, CRYPT_ID_SIZE) == 0);
                ATF_CHECK_EQ(crypt_key_private(buffer_slice(&text), NULL, &again, &e), -1);
                ATF_REQUIRE_EQ_MSG(crypt_key_unwrap(buffer_slice(&text), owner, &again, &e), 0, "%s", e.admin);
            } else {
                ATF_REQUIRE_EQ_MSG(crypt_key_private(buffer_slice(&text), "secret", &again, &e), 0, "%s", e.admin);
            }
            ATF_CHECK(memcmp(again->id, key->id, CRYPT_ID_SIZE) == 0);
            crypt_key_free(&again);
            if (wrap == 2) {
                ATF_CHECK_EQ(crypt_key_private(buffer_slice(&text), "other", &again, &e), -1);
                ATF_CHECK_EQ(crypt_key_private(buffer_slice(&text), NULL, &again, &e), -1);
            }
        }
        crypt_key_free(&key);
        crypt_key_free(&owner);
        buffer_free(&text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct crypt_key *key;

        ATF_CHECK_EQ(crypt_key_private(slice_from_str(bad[i]), NULL, &key, &e), -1);
        ATF_CHECK_EQ(crypt_key_public(slice_from_str(bad[i]), &key, &e), -1);
    }
}

/* A hash that collides: the bytes are compared, not believed. */
ATF_TC_WITHOUT_HEAD(collision);
ATF_TC_BODY(collision, tc)
{
    static const char *const pairs[] = {"mail_attachment_hash=%{size}", NULL};
    struct mail_user *user = user_with(pairs);
    struct arena *arena = arena_new();
    struct buffer a = {0}, b = {0};

    (void)tc;
    buffer_append_str(&a, "Content-Type: image/png\n\n");
    put_base64(&a, 300, 76, 1);
    buffer_append_str(&b, "Content-Type: image/png\n\n");
    put_base64(&b, 300, 76, 2);
    there_and_back(user, buffer_slice(&a), arena);
    there_and_back(user, buffer_slice(&b), arena);
    there_and_back(user, buffer_slice(&a), arena);
    there_and_back(user, buffer_slice(&a), arena);
    buffer_free(&a);
    buffer_free(&b);
    arena_free(arena);
    mail_user_close(&user);
}

/* Missing and short files cost the ranges that they were for, nothing else. */
ATF_TC_WITHOUT_HEAD(lost_file);
ATF_TC_BODY(lost_file, tc)
{
    struct mail_user *user = user_with(NULL);
    struct mime_source source = mime_source_slice(SLICE("header\n\nrest"));
    unsigned char buf[100];
    struct splice *s;
    struct error e;

    (void)tc;
    ATF_REQUIRE_EQ(system("mkdir -p att/aa && printf 12345 >att/aa/short"), 0);
    s = splice_open(user, &source, "8 10 - aa/none", NULL, &e);
    ATF_REQUIRE(s != NULL);
    ATF_CHECK_EQ(splice_read(s, 0, buf, 8, &e), 8);
    ATF_CHECK_EQ(splice_read(s, 0, buf, 9, &e), -1);
    ATF_CHECK_EQ(splice_read(s, 18, buf, 100, &e), 4);
    splice_close(&s);
    s = splice_open(user, &source, "8 10 - aa/short", NULL, &e);
    ATF_CHECK_EQ(splice_read(s, 8, buf, 5, &e), 5);
    ATF_CHECK_EQ(splice_read(s, 8, buf, 6, &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_CORRUPT);
    splice_close(&s);
    s = splice_open(user, &source, "8 10 B4 aa/short", NULL, &e);
    ATF_CHECK_EQ(splice_read(s, 8, buf, 9, &e), 9);
    ATF_CHECK(memcmp(buf, "MTIz\nNDU=", 9) == 0);
    ATF_CHECK_EQ(splice_read(s, 8, buf, 10, &e), -1);
    splice_close(&s);
    s = splice_open(user, &source, "100 10 - aa/short", NULL, &e);
    ATF_CHECK_EQ(splice_read(s, 0, buf, 100, &e), -1);
    splice_close(&s);
    mail_user_close(&user);
}

/* A message that was given up leaves no file. */
ATF_TC_WITHOUT_HEAD(given_up);
ATF_TC_BODY(given_up, tc)
{
    static const struct store_driver driver = {.name = "test", .can = DRIVER_ATTACHMENTS};
    struct mail_user *user = user_with(NULL);
    struct mailbox box = {.driver = &driver, .user = user};
    struct buffer mail = {0};
    struct stage_writer *w;
    struct error e;
    int fd;

    (void)tc;
    buffer_append_str(&mail, "Content-Type: image/png\r\n\r\n");
    put_base64(&mail, 3000, 76, 1);
    for (int finished = 0; finished < 2; finished++) {
        fd = open("staged", O_CREAT | O_RDWR | O_TRUNC, 0600);
        w = stage_writer_new(&box, fd, false);
        ATF_CHECK_EQ(stage_writer_put(w, buffer_slice(&mail), &e), 0);
        if (finished) {
            ATF_CHECK_EQ(stage_writer_finish(w, &e), 0);
            ATF_CHECK(stage_writer_ext_refs(w) != NULL);
            ATF_CHECK(w->stored < 100 && w->size_physical > 4000 && w->size_virtual == w->size_physical + 2 + 53);
            ATF_CHECK(files_below("att") > 0);
            attachment_refs_unlink(user, stage_writer_ext_refs(w), NULL);
        }
        stage_writer_free(&w);
        close(fd);
        ATF_CHECK_EQ(files_below("att"), 0);
    }
    buffer_free(&mail);
    mail_user_close(&user);
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
    ATF_TP_ADD_TC(tp, base64);
    ATF_TP_ADD_TC(tp, hashes);
    ATF_TP_ADD_TC(tp, references);
    ATF_TP_ADD_TC(tp, model);
    ATF_TP_ADD_TC(tp, instances);
    ATF_TP_ADD_TC(tp, collision);
    ATF_TP_ADD_TC(tp, coded_fs);
    ATF_TP_ADD_TC(tp, crypt_round_trips);
    ATF_TP_ADD_TC(tp, crypt_damaged);
    ATF_TP_ADD_TC(tp, crypt_vectors);
    ATF_TP_ADD_TC(tp, key_texts);
    ATF_TP_ADD_TC(tp, lost_file);
    ATF_TP_ADD_TC(tp, given_up);
    return atf_no_error();
}
