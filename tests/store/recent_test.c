/* Whose \Recent a message is (RFC 3501 section 2.3.2), in every format. */
#include "conf/settings.h"
#include "store/store.h"

#include <atf-c.h>
#include <stdlib.h>

static struct mail_user *open_user(const char *format)
{
    struct conf *conf = conf_from_tree(conf_tree_new("test"));
    char *home = realpath(".", NULL), *pair = mem_printf("mail_location=%s:%s/mail", format, home);
    struct mail_user_params params = {.username = "ann", .home = home, .no_notify = true};
    struct settings *set, *changed;
    struct mail_user *user;
    struct error e;

    set = conf_settings(conf, NULL, &e);
    ATF_REQUIRE(set != NULL);
    changed = settings_override_all(set, (const char *const[]){pair, NULL}, &e);
    ATF_REQUIRE_MSG(changed != NULL, "%s", e.admin);
    ATF_REQUIRE_MSG(mail_user_open(&user, changed, &params, &e) == 0, "%s", e.admin);
    settings_unref(set);
    settings_unref(changed);
    conf_free(conf);
    mem_free(pair);
    free(home);
    return user;
}

static void run(struct store_op *op)
{
    struct error e;

    ATF_REQUIRE_MSG(store_op_wait(op, &e) == 0, "%s", e.admin);
}

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
    struct mail_meta meta = {0};
    struct save_result result;
    struct save *save;
    struct error e;
    uint32_t uid;

    ATF_REQUIRE_MSG(save_begin(box, &meta, &save, &e) == 0, "%s", e.admin);
    ATF_REQUIRE(save_write(save, slice_from_str("Subject: x\n\ntext\n"), &e) == 0);
    ATF_REQUIRE(save_finish(save, &e) == 0);
    run(save_commit(box, &save, 1, true, view, arena, &result));
    uid = result.uids[0];
    arena_free(arena);
    return uid;
}

/* Two sessions on one mailbox: the one that saves has the message as recent, also when the other looks first. */
static void appender_first(const char *format)
{
    struct mail_user *user = open_user(format);
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
