/* The dbox file codec, walking, repair, unfinished files (dbox-format 1, 4). */
#include "store/dbox/dbox.h"

#include <atf-c.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define BODY "From: a@example.org\nSubject: one\n\nhello\nworld\n"
#define GUID "0615ce03aed6046ba6140000083ecc375"
#define META "\n\001\003\nR6b04d6ae\nV33\nG" GUID "\n\n"
#define WHOLE "2 M1e C6b04d6ae\n\001\002N          000000000000002E\n" BODY META

static const struct mail_modes modes = {0600, 0700, (gid_t)-1};

static void put_file(const char *name, const void *bytes, size_t size)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ATF_REQUIRE(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

static void put_buffer(const char *name, struct buffer *b)
{
    put_file(name, b->at, b->size);
    buffer_reset(b);
}

static void put_message(struct buffer *b, const char *body, const char *metadata)
{
    unsigned char header[DBOX_MESSAGE_HEADER_SIZE];

    dbox_message_header_put(header, strlen(body));
    buffer_append(b, header, sizeof(header));
    buffer_append_str(b, body);
    buffer_append_str(b, metadata);
}

/* "body|body|" of the messages of a file that must be in order. */
static const char *bodies(struct arena *arena, const char *name)
{
    struct dbox_metadata meta;
    struct dbox_message m;
    struct dbox_file file;
    struct buffer b = {0};
    struct error e;
    uint64_t at = 0;
    const char *out;
    int r;

    ATF_REQUIRE_MSG(dbox_file_open(&file, AT_FDCWD, ".", name, &e) == 0, "%s", e.admin);
    while ((r = dbox_file_next(&file, &at, &m, arena, &meta, &e)) == 1) {
        ATF_CHECK(meta.guid != NULL && meta.has_virtual);
        ATF_REQUIRE(os_pread(file.fd, m.body, (size_t)m.size, &b, &e) == (ssize_t)m.size);
        buffer_append_byte(&b, '|');
    }
    ATF_CHECK_MSG(r == 0, "%s", e.admin);
    dbox_file_close(&file);
    out = arena_strdup(arena, b.size == 0 ? "" : buffer_cstr(&b));
    buffer_free(&b);
    return out;
}

ATF_TC_WITHOUT_HEAD(headers);
ATF_TC_BODY(headers, tc)
{
    static const struct {
        const char *line, *why;
    } vectors[] = {
        {"2 M1e C6b04d6ae\n", NULL}, {"1 M1e C1 A2f\n", NULL}, {"2 M1e\n", NULL}, {"2 Q9 M20 C1\n", NULL},
        {"3 M1e C1\n", "Invalid dbox version"}, {"\n", "Invalid dbox version"}, {"21 M1e\n", "Invalid dbox version"},
        {"2 C1\n", "Missing message header size"}, {"2 M C1\n", "Invalid message header size"},
        {"2 M0 C1\n", "Invalid message header size"}, {"2 Mfffffff C1\n", "Invalid message header size"},
        {"2 M1e Cx\n", "Invalid create time stamp"}, {"2 M1e C1", "EOF while reading file header"},
        {"", "EOF while reading file header"},
    };
    struct dbox_header h;
    struct buffer b = {0};
    unsigned char raw[DBOX_MESSAGE_HEADER_SIZE + 1] = {0};
    uint64_t size;

    (void)tc;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        const char *why = dbox_header_parse(slice_from_str(vectors[i].line), &h);

        ATF_CHECK_STREQ(why == NULL ? "fine" : why, vectors[i].why == NULL ? "fine" : vectors[i].why);
    }
    dbox_header_put(&b, 0x6b04d6ae);
    ATF_CHECK_STREQ(buffer_cstr(&b), "2 M1e C6b04d6ae\n");
    buffer_free(&b);
    dbox_message_header_put(raw, 0x2e);
    ATF_CHECK_STREQ((char *)raw, "\001\002N          000000000000002E\n");
    ATF_CHECK(dbox_message_header_parse(slice_of(raw, 30), &size) == NULL && size == 0x2e);
    raw[29] = ' ';
    ATF_CHECK_STREQ(dbox_message_header_parse(slice_of(raw, 30), &size), "msg header doesn't end with LF");
    raw[0] = 2;
    ATF_CHECK_STREQ(dbox_message_header_parse(slice_of(raw, 30), &size), "msg header has bad magic value");
}

ATF_TC_WITHOUT_HEAD(metadata);
ATF_TC_BODY(metadata, tc)
{
    static const char all[] = "\n\001\003\nZ16d2\nR6b04d6ae\nV33\nPuidl 1\nO12\nGabc\nBINBOX\nX220 5535 B76 e9/dd/e9\n\n";
    struct arena *arena = arena_new();
    struct dbox_metadata m;
    struct buffer b = {0};
    const char *why;
    size_t used;

    (void)tc;
    ATF_REQUIRE_EQ(dbox_metadata_parse(slice_from_str(all), arena, &m, &used, &why), 1);
    ATF_CHECK_EQ(used, sizeof(all) - 1);
    ATF_CHECK(m.has_physical && m.physical == 0x16d2 && m.received == 0x6b04d6ae && m.virtual_size == 0x33 && m.pop3_order == 12);
    ATF_CHECK_STREQ(m.pop3_uidl, "uidl 1");
    ATF_CHECK_STREQ(m.guid, "abc");
    ATF_CHECK_STREQ(m.mailbox, "INBOX");
    ATF_CHECK_STREQ(m.attachments, "220 5535 B76 e9/dd/e9");
    dbox_metadata_put(&b, &m, 1);
    ATF_CHECK(slice_equal(buffer_slice(&b), slice_from_str(all)));
    buffer_reset(&b);
    m.mailbox = "a\nb";
    dbox_metadata_put(&b, &m, 0x16d2);
    ATF_CHECK_STREQ(buffer_cstr(&b), "\n\001\003\nR6b04d6ae\nV33\nPuidl 1\nO12\nGabc\nX220 5535 B76 e9/dd/e9\n\n");
    buffer_free(&b);
    /* The first of a key wins; unknown keys are skipped; version 1 ends with a space. */
    ATF_REQUIRE_EQ(dbox_metadata_parse(SLICE("\n\001\003\nGone\nGtwo\nQ?\nF00001\n \nnext"), arena, &m, &used, &why), 1);
    ATF_CHECK_STREQ(m.guid, "one");
    ATF_CHECK_EQ(used, 26);
    ATF_CHECK_EQ(dbox_metadata_parse(SLICE("\n\001\003\nGone\n"), arena, &m, &used, &why), 0);
    ATF_CHECK_STREQ(why, "missing end-of-metadata line");
    ATF_CHECK_EQ(dbox_metadata_parse(SLICE("x\001\003\n\n"), arena, &m, &used, &why), -1);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(written);
ATF_TC_BODY(written, tc)
{
    struct dbox_metadata meta = {.has_received = true, .received = 0x6b04d6ae, .has_virtual = true, .virtual_size = 0x33,
                                 .guid = GUID, .has_physical = true, .physical = 46};
    struct arena *arena = arena_new();
    struct buffer b = {0};
    struct error e;
    uint64_t at;
    int fd;

    (void)tc;
    fd = open("u.1", O_RDWR | O_CREAT, 0600);
    dbox_header_put(&b, 0x6b04d6ae);
    at = b.size;
    ATF_REQUIRE(os_write(fd, buffer_slice(&b), &e) == 0);
    ATF_REQUIRE(dbox_message_begin(fd, at, &e) == 0 && os_write(fd, SLICE(BODY), &e) == 0 &&
                dbox_message_end(fd, sizeof(BODY) - 1, &meta, &e) == 0);
    ATF_REQUIRE(dbox_message_seal(fd, at, sizeof(BODY) - 1, &e) == 0);
    close(fd);
    ATF_REQUIRE(os_read_file(AT_FDCWD, "u.1", 10000, &b, &e) == 0);
    ATF_CHECK(slice_equal(buffer_slice(&b), SLICE(WHOLE)));
    ATF_CHECK_STREQ(bodies(arena, "u.1"), BODY "|");
    buffer_free(&b);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(corrupt);
ATF_TC_BODY(corrupt, tc)
{
    struct arena *arena = arena_new();
    struct buffer b = {0};
    struct dbox_message m;
    struct dbox_file file;
    struct error e;
    uint64_t at = 0;

    (void)tc;
    /* Cut anywhere: never a message, always a reason. */
    for (size_t cut = 17; cut < sizeof(WHOLE) - 1; cut++) {
        put_file("f", WHOLE, cut);
        at = 0;
        ATF_REQUIRE(dbox_file_open(&file, AT_FDCWD, ".", "f", &e) == 0);
        ATF_CHECK_EQ_MSG(dbox_file_next(&file, &at, &m, arena, NULL, &e), -1, "cut at %zu", cut);
        ATF_CHECK(e.class == ERROR_CORRUPT && strstr(e.admin, "Corrupted dbox file ./f (around offset=") == e.admin);
        dbox_file_close(&file);
    }
    buffer_append(&b, WHOLE, sizeof(WHOLE) - 1);
    b.at[17] = 9;
    put_buffer("f", &b);
    at = 0;
    ATF_REQUIRE(dbox_file_open(&file, AT_FDCWD, ".", "f", &e) == 0);
    ATF_CHECK_EQ(dbox_file_next(&file, &at, &m, arena, NULL, &e), -1);
    ATF_CHECK_STREQ(e.admin, "Corrupted dbox file ./f (around offset=16): msg header has bad magic value");
    dbox_file_close(&file);
    buffer_free(&b);
    arena_free(arena);
}

static void quiet(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

#define HEAD "2 M1e C6b04d6ae\n"

ATF_TC_WITHOUT_HEAD(repaired);
ATF_TC_BODY(repaired, tc)
{
    struct arena *arena = arena_new();
    struct buffer b = {0};
    struct stat st;
    struct error e;

    (void)tc;
    log_capture(quiet, NULL);
    /* What is in order stays, but for the place of V. */
    put_file("f", WHOLE, sizeof(WHOLE) - 1);
    ATF_CHECK_EQ(dbox_file_fix(AT_FDCWD, ".", "f", 0, &modes, NULL, &e), 1);
    ATF_CHECK_STREQ(bodies(arena, "f"), BODY "|");
    ATF_CHECK(stat("f.broken", &st) == 0 && st.st_size == sizeof(WHOLE) - 1);
    /* A header that is none becomes a part of the body. */
    buffer_append(&b, WHOLE, sizeof(WHOLE) - 1);
    b.at[16] = 'x';
    put_buffer("f", &b);
    ATF_CHECK_EQ(dbox_file_fix(AT_FDCWD, ".", "f", 0, &modes, NULL, &e), 1);
    ATF_CHECK_STREQ(bodies(arena, "f"), "x\002N          000000000000002E\n" BODY "|");
    /* A wrong size: the end of the body is found. */
    for (int wrong = 0; wrong < 2; wrong++) {
        buffer_append(&b, WHOLE, sizeof(WHOLE) - 1);
        memcpy(b.at + 40, wrong == 0 ? "00010" : "00048", 5);
        put_buffer("f", &b);
        ATF_CHECK_EQ(dbox_file_fix(AT_FDCWD, ".", "f", 0, &modes, NULL, &e), 1);
        ATF_CHECK_STREQ(bodies(arena, "f"), BODY "|");
    }
    /* Garbage between two messages; a body without metadata; one whose end is cut off. */
    buffer_append_str(&b, HEAD);
    put_message(&b, "one\n", META);
    buffer_append_str(&b, "garbage\n");
    put_message(&b, "two\n", "\n");
    put_message(&b, "three\n", META);
    put_message(&b, "", META);
    put_message(&b, "unfinished\n", "");
    put_buffer("f", &b);
    ATF_CHECK_EQ(dbox_file_fix(AT_FDCWD, ".", "f", 0, &modes, NULL, &e), 1);
    ATF_CHECK_STREQ(bodies(arena, "f"), "one\n|two\n\n|three\n||unfinished\n|");
    /* Nothing to save: the file goes, its copy stays. */
    put_file("f", HEAD "nothing\n", sizeof(HEAD "nothing\n") - 1);
    ATF_CHECK_EQ(dbox_file_fix(AT_FDCWD, ".", "f", 0, &modes, NULL, &e), 0);
    ATF_CHECK(stat("f", &st) < 0 && stat("f.broken", &st) == 0);
    /* What is compressed keeps the size that was counted when it was saved. */
    buffer_append_str(&b, HEAD);
    put_message(&b, "\037\213compressed", "\n\001\003\nZ1234\nR6b04d6ae\nV1300\nGx\n\n");
    buffer_append_str(&b, "garbage");
    put_buffer("f", &b);
    ATF_CHECK_EQ(dbox_file_fix(AT_FDCWD, ".", "f", 0, &modes, NULL, &e), 1);
    ATF_REQUIRE(os_read_file(AT_FDCWD, "f", 10000, &b, &e) == 0);
    ATF_CHECK(slice_ends(buffer_slice(&b), SLICE("\n\001\003\nZ1234\nR6b04d6ae\nGx\nV1300\n\n")));
    buffer_free(&b);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(unfinished);
ATF_TC_BODY(unfinished, tc)
{
    struct arena *arena = arena_new();
    struct stat st;
    struct error e;
    char *a, *b;

    (void)tc;
    close(dbox_temp_create(AT_FDCWD, ".", &modes, arena, &a, &e));
    b = dbox_temp_name(arena);
    ATF_CHECK(strcmp(a, b) != 0 && dbox_temp_is(a) && !dbox_temp_is("u.1") && stat(a, &st) == 0);
    put_file("u.1", "x", 1);
    dbox_temp_clean(".", st.st_ctime + 36 * 3600 - 1, NULL);
    ATF_CHECK(stat(a, &st) == 0);
    dbox_temp_clean(".", st.st_ctime + 36 * 3600, NULL);
    ATF_CHECK(stat(a, &st) < 0 && stat("u.1", &st) == 0);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(alternative);
ATF_TC_BODY(alternative, tc)
{
    char root[4096], alt[4200], other[4200], at_link[4300];
    struct mail_location at = {0};
    struct stat st;
    struct error e;
    int from, to;
    ssize_t n;

    (void)tc;
    log_capture(quiet, NULL);
    ATF_REQUIRE(getcwd(root, sizeof(root)) != NULL);
    snprintf(alt, sizeof(alt), "%s/alt", root);
    snprintf(other, sizeof(other), "%s/other", root);
    at.root = root;
    at.alt = alt;
    ATF_CHECK(!dbox_alt_mounted(&at, true));
    ATF_CHECK(dbox_alt_mounted(&at, false) && stat(alt, &st) == 0);
    dbox_alt_check(&at, NULL);
    n = readlink("dbox-alt-root", at_link, sizeof(at_link) - 1);
    ATF_CHECK(n > 0 && strncmp(at_link, alt, (size_t)n) == 0);
    at.alt = other;
    dbox_alt_check(&at, NULL);
    n = readlink("dbox-alt-root", at_link, sizeof(at_link) - 1);
    ATF_CHECK(n > 0 && strncmp(at_link, other, (size_t)n) == 0);
    at.alt = NULL;
    dbox_alt_check(&at, NULL);
    ATF_CHECK(lstat("dbox-alt-root", &st) < 0);
    put_file("u.7", WHOLE, sizeof(WHOLE) - 1);
    from = open(".", O_RDONLY | O_DIRECTORY);
    to = open("alt", O_RDONLY | O_DIRECTORY);
    ATF_CHECK_EQ(dbox_alt_move(from, ".", "u.7", to, "alt", &modes, &e), 0);
    ATF_CHECK(stat("u.7", &st) < 0 && stat("alt/u.7", &st) == 0 && st.st_size == sizeof(WHOLE) - 1);
    ATF_CHECK(dbox_alt_move(from, ".", "u.7", to, "alt", &modes, &e) < 0 && e.class == ERROR_NOT_FOUND);
    close(from);
    close(to);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, headers);
    ATF_TP_ADD_TC(tp, metadata);
    ATF_TP_ADD_TC(tp, written);
    ATF_TP_ADD_TC(tp, corrupt);
    ATF_TP_ADD_TC(tp, repaired);
    ATF_TP_ADD_TC(tp, unfinished);
    ATF_TP_ADD_TC(tp, alternative);
    return atf_no_error();
}
