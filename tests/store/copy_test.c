/* Copies by link in a Maildir: what becomes of them when something happens between their staging and their publication
 * (src/store/maildir/save.c). */
#include "base/os.h"
#include "tests/store/user_help.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT = 3 };

struct scene {
    struct arena *arena;
    struct mail_user *user;
    struct mailbox *from, *to;
    struct save *copies[COUNT];
    struct save_result result;
};

static void publish(struct scene *s, struct mailbox *box, struct save **saves, size_t count)
{
    run(save_commit(box, saves, count, true, NULL, s->arena, &s->result));
}

/* Three messages in "from", a copy of each staged for "to". */
static struct scene begin(void)
{
    struct scene s = {.arena = arena_new(), .user = open_user("maildir", (const char *const[]){NULL})};
    struct error e;

    s.from = open_box(s.user, s.arena, "from");
    s.to = open_box(s.user, s.arena, "to");
    for (int i = 0; i < COUNT; i++) {
        char *text = arena_printf(s.arena, "Subject: %d\n\ntext\n", i + 1);
        struct save *save = stage_text(s.from, slice_from_str(text),
                                       &(struct mail_meta){.flags = INDEX_SEEN, .has_date = true, .internal_date = 1000001 + i});

        publish(&s, s.from, &save, 1);
        ATF_REQUIRE_EQ(i + 1, (int)s.result.uids[0]);
    }
    for (int i = 0; i < COUNT; i++)
        ATF_REQUIRE_MSG(save_copy(s.to, s.from, (uint32_t)i + 1, NULL, &s.copies[i], &e) == 0, "%s", e.admin);
    return s;
}

static void end(struct scene *s)
{
    ATF_CHECK_EQ(0, system("ls -A mail/.to/tmp mail/.from/tmp 2>&1 | grep -v : | grep . && exit 1; exit 0"));
    mailbox_close(&s->from);
    mailbox_close(&s->to);
    mail_user_close(&s->user);
    arena_free(s->arena);
}

/* The subjects of the target's messages in order, as a number: 13 = the first and the third. Their dates are the originals'. */
static int subjects(struct scene *s)
{
    struct mailbox_view *view = mailbox_view_open(s->to, false);
    int all = 0;

    for (uint32_t seq = 1; seq <= index_view_count(mailbox_view_index(view)); seq++) {
        struct mail *mail;
        struct slice header;
        struct error e;
        int64_t date;
        int n;

        ATF_REQUIRE_MSG(mail_open(view, seq, &mail, &e) == 0, "%s", e.admin);
        ATF_REQUIRE_MSG(mail_header(mail, &header, &e) == 0, "%s", e.admin);
        ATF_REQUIRE(header.size > 9);
        n = header.at[9] - '0';
        ATF_REQUIRE_MSG(mail_internal_date(mail, &date, &e) == 0, "%s", e.admin);
        ATF_CHECK(n > COUNT || date == 1000000 + n);
        all = all * 10 + n;
        mail_close(&mail);
    }
    mailbox_view_close(&view);
    return all;
}

/* What is gone is left out. */
static void publish_rest(struct scene *s)
{
    struct store_op *op = save_commit(s->to, s->copies, COUNT, true, NULL, s->arena, &s->result);

    save_commit_skips_gone(op);
    run(op);
}

static enum error_class publish_fails(struct scene *s)
{
    struct error e = {0};

    ATF_CHECK(store_op_wait(save_commit(s->to, s->copies, COUNT, true, NULL, s->arena, &s->result), &e) < 0);
    return e.class;
}

static void sync_box(struct mailbox *box)
{
    run(mailbox_sync(box, NULL, SYNC_FULL));
}

static void count_warnings(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)prefix;
    if (level < LOG_LEVEL_WARNING)
        return;
    fprintf(stderr, "%s\n", text);
    ++*(unsigned *)arg;
}

/* The target is as if nothing had been tried: no message, no UID used up, and nothing said about it. */
static void check_untouched(struct scene *s)
{
    struct save *save;
    unsigned said = 0;

    log_capture(count_warnings, &said);
    sync_box(s->to);
    ATF_CHECK_EQ(0, subjects(s));
    save = stage_text(s->to, SLICE("Subject: 9\n\ntext\n"), &(struct mail_meta){0});
    publish(s, s->to, &save, 1);
    ATF_CHECK_EQ(1, s->result.uids[0]);
    ATF_CHECK_EQ(9, subjects(s));
    log_capture(NULL, NULL);
    ATF_CHECK_EQ(0, said);
}

/* Until they are published nothing of them is to be seen, in tmp/ neither; afterwards it is the same file. */
ATF_TC_WITHOUT_HEAD(linked);
ATF_TC_BODY(linked, tc)
{
    struct scene s = begin();

    ATF_CHECK_EQ(0, system("test -z \"$(ls -A mail/.to/new mail/.to/cur mail/.to/tmp | grep M)\""));
    publish(&s, s.to, s.copies, COUNT);
    ATF_CHECK_EQ(123, subjects(&s));
    ATF_CHECK_EQ(0, system("cd mail && for f in .from/cur/*; do test $f -ef .to/cur/${f##*/} || exit 1; done"));
    end(&s);
}

ATF_TC_WITHOUT_HEAD(cancelled);
ATF_TC_BODY(cancelled, tc)
{
    struct scene s = begin();

    for (int i = 0; i < COUNT; i++)
        save_cancel(&s.copies[i]);
    sync_box(s.to);
    ATF_CHECK_EQ(0, subjects(&s));
    end(&s);
}

/* Another session sets a flag: the file has another name. */
ATF_TC_WITHOUT_HEAD(renamed);
ATF_TC_BODY(renamed, tc)
{
    struct scene s = begin();

    ATF_REQUIRE_EQ(0, system("cd mail/.from/cur && for f in *; do mv $f ${f%S}FS || exit 1; done"));
    publish(&s, s.to, s.copies, COUNT);
    ATF_CHECK_EQ(123, subjects(&s));
    ATF_CHECK_EQ(0, system("ls mail/.to/cur | grep -q ':2,FS$' && exit 1; exit 0")); /* flags as they were asked for */
    end(&s);
}

static void unlink_second(void)
{
    ATF_REQUIRE_EQ(0, system("rm $(grep -l 'Subject: 2' mail/.from/cur/*)"));
}

/* One is gone: none is copied. */
ATF_TC_WITHOUT_HEAD(expunged);
ATF_TC_BODY(expunged, tc)
{
    struct scene s = begin();

    unlink_second();
    ATF_CHECK_EQ(ERROR_EXPUNGED, publish_fails(&s));
    check_untouched(&s);
    end(&s);
}

/* The client goes while files get their names. */
ATF_TC_WITHOUT_HEAD(given_up);
ATF_TC_BODY(given_up, tc)
{
    struct scene s = begin();
    struct store_op *op = save_commit(s.to, s.copies, COUNT, true, NULL, s.arena, &s.result);
    struct error e;

    while (access("mail/.to/cur", F_OK) == 0 && system("test -n \"$(ls -A mail/.to/cur)\"") != 0)
        ATF_REQUIRE(store_op_step(op, &(struct budget){0, 1}, &e) != STEP_ERROR);
    ATF_CHECK_EQ(0, system("test $(ls mail/.to/cur | wc -l) -lt 3"));
    store_op_free(&op);
    check_untouched(&s);
    end(&s);
}

/* The same where that is no reason to stop. */
ATF_TC_WITHOUT_HEAD(expunged_skipped);
ATF_TC_BODY(expunged_skipped, tc)
{
    struct scene s = begin();

    unlink_second();
    publish_rest(&s);
    ATF_CHECK(!s.result.gone[0] && s.result.gone[1] && !s.result.gone[2]);
    ATF_CHECK_EQ(1, s.result.uids[0]);
    ATF_CHECK_EQ(0, s.result.uids[1]);
    ATF_CHECK_EQ(2, s.result.uids[2]);
    ATF_CHECK_EQ(13, subjects(&s));
    sync_box(s.to);
    ATF_CHECK_EQ(13, subjects(&s));
    end(&s);
}

ATF_TC_WITHOUT_HEAD(all_expunged);
ATF_TC_BODY(all_expunged, tc)
{
    struct scene s = begin();

    ATF_REQUIRE_EQ(0, system("rm mail/.from/cur/*"));
    publish_rest(&s);
    ATF_CHECK(s.result.gone[0] && s.result.gone[1] && s.result.gone[2]);
    ATF_CHECK_EQ(0, subjects(&s));
    end(&s);
}

/* Its whole mailbox is gone. */
ATF_TC_WITHOUT_HEAD(source_deleted);
ATF_TC_BODY(source_deleted, tc)
{
    struct scene s = begin();

    ATF_REQUIRE_EQ(0, system("rm -r mail/.from && mkdir -p mail/.from/tmp"));
    ATF_CHECK_EQ(ERROR_EXPUNGED, publish_fails(&s));
    ATF_CHECK_EQ(0, subjects(&s));
    end(&s);
}

/* The target's folder is: that is another error, and no search for the message. */
ATF_TC_WITHOUT_HEAD(target_without_cur);
ATF_TC_BODY(target_without_cur, tc)
{
    struct scene s = begin();

    ATF_REQUIRE_EQ(0, system("rmdir mail/.to/cur"));
    ATF_CHECK_EQ(ERROR_NOT_FOUND, publish_fails(&s));
    end(&s);
}

/* Another program has put a file of that name there, which is not replaced. */
ATF_TC_WITHOUT_HEAD(name_taken);
ATF_TC_BODY(name_taken, tc)
{
    struct scene s = begin();

    ATF_REQUIRE_EQ(0, system("f=$(grep -l 'Subject: 2' mail/.from/cur/*) && printf 'Subject: 7\\n\\nother\\n' > mail/.to/cur/${f##*/}"));
    publish(&s, s.to, s.copies, COUNT);
    sync_box(s.to);
    ATF_CHECK(subjects(&s) == 1237 || subjects(&s) == 7123);
    end(&s);
}

struct armed {
    int err;
    bool done;
};

/* The first copy has its link: the next one's fails. (Locks are links, too.) */
static void arm(void *arg, const struct os_event *event)
{
    struct armed *a = arg;

    if (a->done || event->call != OS_LINK || event->name == NULL || strncmp(event->name, "cur/", 4) != 0)
        return;
    a->done = true;
    os_fault_arm(&(struct os_fault){.at = 1, .calls = 1u << OS_LINK, .how = OS_FAIL, .err = a->err});
}

static void with_fault(int err, bool works)
{
    struct armed armed = {.err = err};
    struct scene s = begin();

    os_trace(arm, &armed);
    if (works)
        publish(&s, s.to, s.copies, COUNT);
    else
        ATF_CHECK_EQ(err == ENOSPC ? ERROR_SPACE : ERROR_TEMPORARY, publish_fails(&s));
    os_trace(NULL, NULL);
    os_fault_arm(NULL);
    sync_box(s.to);
    if (!works)
        check_untouched(&s);
    else
        ATF_CHECK_EQ(123, subjects(&s));
    if (works) /* one of them is a file of its own, under the name that the link would have had */
        ATF_CHECK_EQ(0, system("cd mail && test $(find .to/cur -type f -links 1 | wc -l) = 1 && "
                               "for f in .from/cur/*; do cmp $f .to/cur/${f##*/} || exit 1; done"));
    end(&s);
}

/* No more links to the file, another file system, a kernel that lets nobody link a file of others: copied by content. */
ATF_TC_WITHOUT_HEAD(no_links);
ATF_TC_BODY(no_links, tc)
{
    int errors[] = {EMLINK, EXDEV, EPERM, EACCES};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        with_fault(errors[i], true);
        ATF_REQUIRE_EQ(0, system("rm -r mail"));
    }
}

/* Faults that are none of these: everything is as before. */
ATF_TC_WITHOUT_HEAD(link_fails);
ATF_TC_BODY(link_fails, tc)
{
    with_fault(ENOSPC, false);
    ATF_REQUIRE_EQ(0, system("rm -r mail"));
    with_fault(EIO, false);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, linked);
    ATF_TP_ADD_TC(tp, cancelled);
    ATF_TP_ADD_TC(tp, renamed);
    ATF_TP_ADD_TC(tp, expunged);
    ATF_TP_ADD_TC(tp, given_up);
    ATF_TP_ADD_TC(tp, expunged_skipped);
    ATF_TP_ADD_TC(tp, all_expunged);
    ATF_TP_ADD_TC(tp, source_deleted);
    ATF_TP_ADD_TC(tp, target_without_cur);
    ATF_TP_ADD_TC(tp, name_taken);
    ATF_TP_ADD_TC(tp, no_links);
    ATF_TP_ADD_TC(tp, link_fails);
    return atf_no_error();
}
