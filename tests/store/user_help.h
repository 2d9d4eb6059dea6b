/* What tests of formats share: a user without a configuration file, and that user's mailboxes. */
#ifndef TESTS_STORE_USER_HELP_H
#define TESTS_STORE_USER_HELP_H

#include "conf/settings.h"
#include "store/store.h"

#include <atf-c.h>
#include <stdlib.h>

/* more: "setting=value", NULL-ended; at most six. */
static inline struct mail_user *open_user_of(const struct mail_user_params *params, const char *location, const char *const *more)
{
    struct conf *conf = conf_from_tree(conf_tree_new("test"));
    char *pair = mem_printf("mail_location=%s", location);
    const char *pairs[8] = {pair};
    struct settings *set, *changed;
    struct mail_user *user;
    struct error e;

    for (size_t i = 0; more[i] != NULL; i++) {
        ATF_REQUIRE(i < 6);
        pairs[i + 1] = more[i];
    }
    set = conf_settings(conf, NULL, &e);
    ATF_REQUIRE(set != NULL);
    changed = settings_override_all(set, pairs, &e);
    ATF_REQUIRE_MSG(changed != NULL, "%s", e.admin);
    ATF_REQUIRE_MSG(mail_user_open(&user, changed, params, &e) == 0, "%s", e.admin);
    settings_unref(set);
    settings_unref(changed);
    conf_free(conf);
    mem_free(pair);
    return user;
}

/* "ann", whose home is the folder that the test runs in and whose mail lies in mail/. */
static inline struct mail_user *open_user(const char *format, const char *const *more)
{
    char *home = realpath(".", NULL), *location = mem_printf("%s:%s/mail", format, home);
    struct mail_user_params params = {.username = "ann", .home = home, .no_notify = true};
    struct mail_user *user = open_user_of(&params, location, more);

    mem_free(location);
    free(home);
    return user;
}

static inline struct mailbox *open_box(struct mail_user *user, struct arena *arena, const char *name)
{
    struct mailbox_place place;
    struct mailbox *box;
    struct error e;

    ATF_REQUIRE(mailbox_place(user, arena, slice_from_str(name), &place, &e) == 0);
    ATF_REQUIRE_MSG(mailbox_open(&box, &place, MAILBOX_OPEN_CREATE, &e) == 0, "%s", e.admin);
    return box;
}

static inline void run(struct store_op *op)
{
    struct error e;

    ATF_REQUIRE_MSG(store_op_wait(op, &e) == 0, "%s", e.admin);
}

/* A message that is all there, and not published. */
static inline struct save *stage_text(struct mailbox *box, struct slice text, const struct mail_meta *meta)
{
    struct save *save;
    struct error e;

    ATF_REQUIRE_MSG(save_begin(box, meta, &save, &e) == 0, "%s", e.admin);
    ATF_REQUIRE_MSG(save_write(save, text, &e) == 0, "%s", e.admin);
    ATF_REQUIRE_MSG(save_finish(save, &e) == 0, "%s", e.admin);
    return save;
}

#endif
