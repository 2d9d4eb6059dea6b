/* The bytes of an mbox: From_ lines, where messages end, hidden headers (maildir-and-layouts 9.1). */
#include "index/index.h"
#include "store/mbox/format.h"
#include "store/store.h"
#include "tests/store/user_help.h"

#include <atf-c.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FROM "From a@b Wed Jan  1 10:00:00 2020\n"

ATF_TC_WITHOUT_HEAD(from_lines);
ATF_TC_BODY(from_lines, tc)
{
    static const struct {
        const char *line;
        int64_t date;              /* -1 = none */
    } lines[] = {
        {"From a@b Wed Jan  1 10:00:00 2020", 1577872800},
        {"From a@b  Wed Jan 01 10:00:00 2020", 1577872800},
        {"From a@b Wed Jan 1 10:00 2020", 1577872800},
        {"From a@b Wed Jan  1 10:00:00 2020 +0300", 1577862000},
        {"From a@b Wed Jan  1 10:00:00 -0130 2020", 1577878200},
        {"From a@b Wed Jan  1 10:00:00 CEST 2020", 1577872800},
        {"From bob Thu, 02 Jan 2020 11:00:00 +0200", 1577955600},
        {"From \"a b\"@c Wed Jan  1 10:00:00 2020", 1577872800},
        {"From a!b Wed Jan  1 10:00:00 2020 remote from c", 1577872800},
        {"From  Wed Jan  1 10:00:00 2020", 1577872800},
        {"From here", -1}, {"From a Wed Jan 32 10:00:00 2020", -1}, {"From a Wed Jan  1 25:00:00 2020", -1},
        {"From a Jan  1 10:00:00 2020", -1}, {">From a@b Wed Jan  1 10:00:00 2020", -1}, {"From", -1}, {"From ", -1},
        {"From a Wed Jan  1 10:00:00", -1}, {"From a Wed", -1}, {"from a@b Wed Jan  1 10:00:00 2020", -1},
    };
    struct buffer out = {0};

    (void)tc;
    setenv("TZ", "UTC", 1);
    tzset();
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        int64_t date = -1;
        bool is = mbox_from_parse(slice_from_str(lines[i].line), &date);

        ATF_CHECK_MSG(is == (lines[i].date >= 0) && date == lines[i].date, "%s: %d %lld", lines[i].line, is, (long long)date);
    }
    mbox_from_make(&out, "ann@vm", 1577872800);
    mbox_from_make(&out, "", 1577872800);
    ATF_CHECK_STREQ(buffer_cstr(&out), "From ann@vm  Wed Jan 01 10:00:00 2020\nFrom MAILER-DAEMON  Wed Jan 01 10:00:00 2020\n");
    buffer_free(&out);
}

/* "header-size+body;" of each message, or "!" where it is none. */
static const char *messages(struct arena *arena, const char *file)
{
    struct mime_source source = mime_source_slice(slice_from_str(file));
    struct buffer out = {0};
    struct mbox_message m;
    struct mbox_scan scan;
    struct error e;
    const char *text;

    mbox_scan_init(&scan, &source, strlen(file), MBOX_MD5_APOP3D);
    for (uint64_t at = 0; at < scan.size; at = m.next) {
        if (mbox_scan_message(&scan, at, arena, &m, &e) < 0) {
            buffer_append_str(&out, "!");
            break;
        }
        buffer_printf(&out, "%d+%.*s;", (int)(m.body - m.header), (int)(m.end - m.body), file + m.body);
    }
    mbox_scan_end(&scan);
    text = arena_strdup(arena, buffer_cstr(&out));
    buffer_free(&out);
    return text;
}

ATF_TC_WITHOUT_HEAD(ends);
ATF_TC_BODY(ends, tc)
{
    static const struct {
        const char *file, *messages;
    } files[] = {
        {"", ""},
        {"hello\n", "!"},
        {"\n" FROM "S: x\n\nb\n", "!"},
        {FROM "S: x\n\nb\n\n", "6+b\n;"},
        {FROM "S: x\n\nb\n", "6+b;"},
        {FROM "S: x\n\nb", "6+b;"},
        {FROM "S: x\n\nb\n\n" FROM "S: y\n\nc\n\n", "6+b\n;6+c\n;"},
        {FROM "S: x\n\nb\n" FROM "S: y\n\nc\n\n", "6+b;6+c\n;"},
        {FROM "S: x\n\nb\nFrom here\n>From there\n\n" FROM "\nc\n\n", "6+b\nFrom here\n>From there\n;1+c\n;"},
        /* Content-Length covers a From_ line; one that leads nowhere does not count */
        {FROM "Content-Length: 39\n\nx\n\n" FROM "y\n\n", "20+x\n\n" FROM "y\n;"},
        {FROM "Content-Length: 37\n\nx\n\n" FROM "y\n\n", "20+x\n;3+;"},
        {FROM "Content-Length: 999999999999\n\nx\n\n", "30+x\n;"},
        {FROM "Content-Length: -1\n\nx\n\n", "20+x\n;"},
        {FROM "Content-Length: 2\n\nx\n\n\n\n\n\n", "19+x\n;"},
        {FROM "S: x\n" FROM "S: y\n\nc\n\n", "5+;6+c\n;"},
        {FROM "S: x\n\n" FROM "S: y\n\nc\n\n", "6+;6+c\n;"},
        {FROM, "0+;"},
    };
    struct arena *arena = arena_new();

    (void)tc;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        const char *is = messages(arena, files[i].file);

        ATF_CHECK_MSG(strcmp(is, files[i].messages) == 0, "%zu: %s", i, is);
    }
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(hidden);
ATF_TC_BODY(hidden, tc)
{
    static const char header[] = "From: a\nStatus: RO\nX-IMAPbase: 17 0000000020 k1\n k2\nReceived: q\n  w\nX-Status: AFT\nX-Keywords: k1 \n\tk2   \n"
                                 "Date: d\nX-UID: 19   \nX-UID: 3\nX-Delivery-ID: z\nContent-Length: 5\nDelivered-To: me\n\n";
    /* as the real server's: "q  w", "z", "me" */
    static const unsigned char sum[16] = {0xc3, 0xf1, 0x8c, 0x14, 0x2e, 0x66, 0x24, 0x98, 0x7f, 0x77, 0x2a, 0x64, 0x79, 0x27, 0x70, 0xc0};
    struct arena *arena = arena_new();
    struct mbox_message m = {.uid = 0};
    struct buffer out = {0};

    (void)tc;
    mbox_header_read(slice_from_str(header), MBOX_MD5_APOP3D, arena, &m);
    ATF_CHECK(memcmp(m.md5, sum, 16) == 0);
    ATF_CHECK(m.has_base && !m.pseudo && m.base_validity == 17 && m.base_last == 20);
    ATF_CHECK(slice_equal_str(m.base_keywords, "k1\n k2"));
    ATF_CHECK_EQ(m.flags, INDEX_SEEN | INDEX_ANSWERED | INDEX_FLAGGED | INDEX_DRAFT);
    ATF_CHECK(m.old && m.uid == 19 && slice_equal_str(m.keywords, "k1 \n\tk2"));
    mbox_header_visible(slice_from_str(header), false, &out);
    ATF_CHECK_STREQ(buffer_cstr(&out), "From: a\nReceived: q\n  w\nDate: d\nX-Delivery-ID: z\nDelivered-To: me\n\n");
    buffer_reset(&out);
    mbox_header_visible(slice_from_str(header), true, &out);
    ATF_CHECK_STREQ(buffer_cstr(&out), "From: a\nReceived: q\n  w\nDate: d\nDelivered-To: me\n\n");
    buffer_free(&out);
    arena_free(arena);
}

/* What is written is what is read, in the room that there is. */
ATF_TC_WITHOUT_HEAD(written);
ATF_TC_BODY(written, tc)
{
    struct mbox_facts f = {.uid = 4, .flags = INDEX_SEEN | INDEX_DELETED, .old = true, .has_length = true, .length = 12,
                           .keywords = SLICE("k1 k2")};
    struct arena *arena = arena_new();
    struct buffer first = {0}, second = {0};
    struct mbox_message m = {.uid = 0};

    (void)tc;
    mbox_header_make(SLICE("Subject: x\nX-UID: 77\n\n"), &f, 0, &first);
    mbox_header_read(buffer_slice(&first), MBOX_MD5_ALL, arena, &m);
    ATF_CHECK(m.uid == 4 && m.flags == f.flags && m.old && slice_equal_str(m.keywords, "k1 k2"));
    ATF_CHECK(slice_ends(buffer_slice(&first), SLICE("\n\n")));
    /* every change that needs less than the padding keeps the size */
    for (size_t n = 0; n <= MBOX_PADDING + 5; n++) {
        char words[64] = "k1 k2";

        memset(words + 5, 'a', n);
        words[5 + n] = '\0';
        f.keywords = slice_from_str(words);
        buffer_reset(&second);
        mbox_header_make(buffer_slice(&first), &f, first.size, &second);
        ATF_CHECK_MSG((second.size == first.size) == (n <= MBOX_PADDING), "%zu: %zu %zu", n, first.size, second.size);
    }
    /* and so does each that needs none: the room goes somewhere */
    f.keywords = SLICE_EMPTY;
    f.has_length = false;
    f.flags = 0;
    for (size_t room = 45; room < 120; room++) {
        buffer_reset(&second);
        mbox_header_make(SLICE("Subject: x\n\n"), &f, room, &second);
        ATF_CHECK_MSG(second.size == room, "%zu: %zu", room, second.size);
        m = (struct mbox_message){.uid = 0};
        mbox_header_read(buffer_slice(&second), MBOX_MD5_ALL, arena, &m);
        ATF_CHECK(m.uid == 4 && m.keywords.size == 0);
    }
    buffer_free(&first);
    buffer_free(&second);
    arena_free(arena);
}

/* A child that holds the file until the pipe is closed, and for so long changes it all the time: it is as it was
 * in the end. */
static pid_t hold(const char *file, unsigned changes_ms, int *keep)
{
    int held[2], end[2];
    char c;
    pid_t child;

    ATF_REQUIRE(pipe(held) == 0 && pipe(end) == 0);
    child = fork();
    if (child == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(file, O_RDWR);
        off_t size;
        uint64_t until = time_monotonic_ns() + changes_ms * 1000000ull;

        close(end[1]);
        if (fd < 0 || fcntl(fd, F_SETLK, &lock) < 0 || write(held[1], "x", 1) != 1)
            _exit(1);
        size = lseek(fd, 0, SEEK_END);
        for (off_t more = 1; time_monotonic_ns() < until; more++)
            if (ftruncate(fd, size + more) < 0)
                _exit(1);
        if (ftruncate(fd, size) < 0)
            _exit(1);
        _exit(read(end[0], &c, 1) == 0 ? 0 : 1);
    }
    close(held[1]);
    close(end[0]);
    ATF_REQUIRE(child > 0 && read(held[0], &c, 1) == 1);
    close(held[0]);
    *keep = end[1];
    return child;
}

static void let_go(pid_t child, int keep)
{
    int status;

    close(keep);
    ATF_REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

struct inbox {
    struct mail_user *user;
    struct mailbox *box;
    struct arena *arena;
};

/* With one message. */
static void open_inbox(struct inbox *in)
{
    char *home = realpath(".", NULL), *location = mem_printf("mbox:%s/mail:INBOX=%s/inbox", home, home);
    struct mail_user_params params = {.username = "ann", .home = home, .no_notify = true};
    FILE *file;

    in->arena = arena_new();
    ATF_REQUIRE((file = fopen("inbox", "w")) != NULL && fputs(FROM "S: x\n\nb\n\n", file) >= 0 && fclose(file) == 0);
    in->user = open_user_of(&params, location, (const char *const[]){NULL});
    in->box = open_box(in->user, in->arena, "INBOX");
    mem_free(location);
    free(home);
}

static void close_inbox(struct inbox *in)
{
    mailbox_close(&in->box);
    mail_user_close(&in->user);
    arena_free(in->arena);
}

/* Who looks rarely never finds a lock free that others take again at once. */
ATF_TC_WITHOUT_HEAD(busy);
ATF_TC_BODY(busy, tc)
{
    struct budget budget = BUDGET_UNLIMITED;
    struct store_op *op;
    struct inbox in;
    struct error e;
    bool seen[11] = {false};
    enum step r;
    pid_t child;
    int keep;

    (void)tc;
    open_inbox(&in);
    child = hold("inbox", 0, &keep);
    op = mailbox_sync(in.box, NULL, SYNC_FULL);
    for (unsigned i = 0; i < 100; i++) {
        while ((r = store_op_step(op, &budget, &e)) == STEP_MORE)
            continue;
        ATF_REQUIRE_EQ(r, STEP_WAIT);
        ATF_REQUIRE_MSG(store_op_retry_ms(op) >= 1 && store_op_retry_ms(op) <= 10, "%u: %u", i, store_op_retry_ms(op));
        seen[store_op_retry_ms(op)] = true;
    }
    /* and has no rhythm */
    for (unsigned ms = 1; ms <= 10; ms++)
        ATF_CHECK_MSG(seen[ms], "%u", ms);
    let_go(child, keep);
    ATF_CHECK_MSG(store_op_wait(op, &e) == 0, "%s", e.admin);
    close_inbox(&in);
}

/* A message is read also while others hold the file, as soon as they leave it alone for a moment. */
ATF_TC_WITHOUT_HEAD(read_held);
ATF_TC_BODY(read_held, tc)
{
    struct mail *mail = NULL;
    struct inbox in;
    struct error e;
    uint64_t size = 0;
    pid_t child;
    int keep;

    (void)tc;
    open_inbox(&in);
    ATF_REQUIRE_MSG(store_op_wait(mailbox_sync(in.box, NULL, SYNC_FULL), &e) == 0, "%s", e.admin);
    child = hold("inbox", 400, &keep);
    ATF_REQUIRE_MSG(mail_open_uid(in.box, 1, &mail, &e) == 0, "%s", e.admin);
    ATF_CHECK_MSG(mail_size_physical(mail, &size, &e) == 0, "%s", e.admin);
    ATF_CHECK_EQ(size, strlen("S: x\n\nb\n"));
    mail_close(&mail);
    let_go(child, keep);
    close_inbox(&in);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, from_lines);
    ATF_TP_ADD_TC(tp, ends);
    ATF_TP_ADD_TC(tp, hidden);
    ATF_TP_ADD_TC(tp, written);
    ATF_TP_ADD_TC(tp, busy);
    ATF_TP_ADD_TC(tp, read_held);
    return atf_no_error();
}
