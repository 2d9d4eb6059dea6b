/* Whose \Recent a message is (RFC 3501 section 2.3.2), in every format. */
#include "tests/store/user_help.h"

static void look(struct mailbox_view *view, enum sync_why why)
{
    struct index_change change;

    run(mailbox_sync(mailbox_view_box(view), view, why));
    index_view_sync(mailbox_view_index(view), false);
    while (index_view_next(mailbox_view_index(view), &change))
        continue;
}

/* Saves one message for the session of `view`; its UID. */
static uint32_t save(struct mailbox *box, struct mailbox_view *view)
{
    struct arena *arena = arena_new();
    struct save *save = stage_text(box, slice_from_str("Subject: x\n\ntext\n"), &(struct mail_meta){0});
    struct save_result result;
    uint32_t uid;

    run(save_commit(box, &save, 1, true, view, arena, &result));
    uid = result.uids[0];
    arena_free(arena);
    return uid;
}

/* Two sessions on one mailbox: the one that saves has the message as recent, also when the other looks first. */
static void appender_first(const char *format)
{
    struct mail_user *user = open_user(format, (const char *const[]){NULL});
    struct arena *arena = arena_new();
    struct mailbox_view *saving, *other;
    struct mailbox_place place;
    struct mailbox *box;
    struct error e;
    uint32_t uid;

    ATF_REQUIRE(mailbox_place(user, arena, slice_from_str("INBOX"), &place, &e) == 0);
    ATF_REQUIRE_MSG(mailbox_open(&box, &place, MAILBOX_OPEN_CREATE, &e) == 0, "%s", e.admin);
    saving = mailbox_view_open(box, false);
    other = mailbox_view_open(box, false);
    look(saving, SYNC_SELECT);
    look(other, SYNC_SELECT);

    /* A delivery is nobody's yet: the first to look takes it. */
    uid = save(box, NULL);
    look(other, SYNC_POLL);
    look(saving, SYNC_POLL);
    ATF_CHECK_MSG(mailbox_view_recent(other, uid) && !mailbox_view_recent(saving, uid), "%s: a delivery", format);

    for (unsigned i = 0; i < 3; i++) {
        uid = save(box, saving);
        look(other, SYNC_POLL);
        look(saving, SYNC_POLL);
        ATF_CHECK_MSG(mailbox_view_recent(saving, uid), "%s: UID %u is not the saving session's", format, uid);
        ATF_CHECK_MSG(!mailbox_view_recent(other, uid), "%s: UID %u is another session's", format, uid);
    }
    ATF_CHECK_EQ(3, mailbox_view_recent_count(saving));
    ATF_CHECK_EQ(1, mailbox_view_recent_count(other));

    mailbox_view_close(&saving);
    mailbox_view_close(&other);
    mailbox_close(&box);
    mail_user_close(&user);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(maildir);
ATF_TC_BODY(maildir, tc)
{
    appender_first("maildir");
}

ATF_TC_WITHOUT_HEAD(sdbox);
ATF_TC_BODY(sdbox, tc)
{
    appender_first("sdbox");
}

ATF_TC_WITHOUT_HEAD(mdbox);
ATF_TC_BODY(mdbox, tc)
{
    appender_first("mdbox");
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, maildir);
    ATF_TP_ADD_TC(tp, sdbox);
    ATF_TP_ADD_TC(tp, mdbox);
    return atf_no_error();
}
