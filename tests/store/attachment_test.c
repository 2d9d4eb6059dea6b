/* Base64, hash templates, references, single instance storage, and attachments against a model: what was saved is what is read. */
#include "tests/store/coding_help.h"
#include "tests/store/user_help.h"

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
    /* Too much behind the end; a long line is none the worse for it. */
    for (int k = 0; k < 2; k++) {
        struct base64_check c = {0};

        buffer_reset(&line);
        for (int i = 0; i < 8000; i++)
            buffer_append_byte(&line, k == 0 && i == 4 ? '\n' : 'Q');
        base64_check_put(&c, buffer_slice(&line));
        ATF_CHECK_EQ(base64_check_end(&c), k == 1);
        ATF_CHECK(k == 0 || (c.columns == 8000 && c.text == 8000));
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
    struct mail_user_params params = {.username = "u", .home = "/nonexistent", .service = "imap"};
    char *folder = realpath(".", NULL), *dir = mem_printf("mail_attachment_dir=%s/att", folder);
    const char *more[7] = {dir, "mail_attachment_min_size=100"};
    struct mail_user *user;

    for (size_t i = 0; pairs != NULL && pairs[i] != NULL; i++) {
        ATF_REQUIRE(i < 4);
        more[i + 2] = pairs[i];
    }
    user = open_user_of(&params, "maildir:/nonexistent/Maildir", more);
    mem_free(dir);
    free(folder);
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
            put_base64(&mail, what % 17 == 0 ? 4000 + what % 40000 : what % 5 == 0 ? 40 : what % 4000, what % 17 == 0 ? 2000 : what % 3 == 0 ? 76 : what % 3 == 1 ? 60 : 4, what);
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

static struct slice header_of(struct arena *arena, struct splice *s)
{
    const struct mime_source source = {splice_read, s, SLICE_EMPTY};
    struct slice block = SLICE_EMPTY;
    struct error e;

    ATF_CHECK_EQ_MSG(mime_header_read(arena, &source, NULL, &block, &e), 0, "%s", e.admin);
    return block;
}

/* Missing and short files cost the ranges that they were for, nothing else. */
ATF_TC_WITHOUT_HEAD(lost_file);
ATF_TC_BODY(lost_file, tc)
{
    static const char *const none[] = {"mail_attachment_dir=", NULL};
    struct mail_user *user = user_with(NULL), *unset = user_with(none);
    struct arena *arena = arena_new();
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
    ATF_CHECK_EQ(e.class, ERROR_CORRUPT);
    ATF_CHECK_EQ(splice_read(s, 18, buf, 100, &e), 4);
    /* So a parser, which reads ahead, gets the header. */
    ATF_CHECK(slice_equal_str(header_of(arena, s), "header\n\n"));
    splice_close(&s);
    s = splice_open(unset, &source, "8 10 - aa/short", NULL, &e);
    ATF_REQUIRE(s != NULL);
    ATF_CHECK(slice_equal_str(header_of(arena, s), "header\n\n"));
    ATF_CHECK_EQ(splice_read(s, 8, buf, 1, &e), -1);
    ATF_CHECK_STREQ(e.admin, "It contains references to external attachments, but mail_attachment_dir is unset");
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
    arena_free(arena);
    mail_user_close(&unset);
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
    ATF_TP_ADD_TC(tp, base64);
    ATF_TP_ADD_TC(tp, hashes);
    ATF_TP_ADD_TC(tp, references);
    ATF_TP_ADD_TC(tp, model);
    ATF_TP_ADD_TC(tp, instances);
    ATF_TP_ADD_TC(tp, coded_fs);
    ATF_TP_ADD_TC(tp, collision);
    ATF_TP_ADD_TC(tp, lost_file);
    ATF_TP_ADD_TC(tp, given_up);

    return atf_no_error();
}
