/* lmtp_room.c - would a mail fit? Asked at RCPT (lmtp_rcpt_check_quota) and by Postfix through quota-status (ipc 18). */
#include "lmtp/lmtp_deliver.h"

#include "store/quota/quota.h"
#include "store/store.h"

#include <unistd.h>

static const char *kind_of(int r, const struct error *e, struct mail_user *user, uint64_t size)
{
    struct quota_root *root;

    if (r == 0)
        return LMTP_ROOM_FITS;
    if (e->class == ERROR_LIMIT)
        return LMTP_ROOM_LARGE;
    if (e->class != ERROR_QUOTA)
        return LMTP_ROOM_FAILED;
    for (size_t i = 0; (root = quota_root_at(user, i)) != NULL; i++)
        if (quota_root_limits(root).bytes != 0 && size > quota_root_limits(root).bytes)
            return LMTP_ROOM_LARGE;
    return LMTP_ROOM_OVER;
}

/* What is configured for Postfix. */
static const char *configured(struct mail_user *user, struct arena *arena, const char *kind)
{
    const char *const keys[] = {strcmp(kind, LMTP_ROOM_FITS) == 0    ? "quota_status_success"
                                : strcmp(kind, LMTP_ROOM_LARGE) == 0 ? "quota_status_toolarge"
                                                                     : "quota_status_overquota",
                                strcmp(kind, LMTP_ROOM_LARGE) == 0 ? "quota_status_overquota" : NULL};

    for (size_t i = 0; i < 2 && keys[i] != NULL; i++) {
        const char *value = conf_plugin(mail_user_settings(user), keys[i]);
        struct error e;

        if (value == NULL || *value == '\0')
            continue;
        if (!conf_plugin_overridden(mail_user_settings(user), keys[i]))
            value = mail_user_expand(user, arena, value, &e);
        if (value != NULL)
            return value;
        log_error(mail_user_log(user), "Failed to expand plugin setting %s: %s", keys[i], e.admin);
    }
    return "";
}

static int ask(struct mail_user *user, struct arena *arena, uint64_t size, struct error *e)
{
    struct mailbox_place place;
    struct mailbox *box;
    int r;

    if (mailbox_place(user, arena, SLICE("INBOX"), &place, e) < 0 || mailbox_open(&box, &place, MAILBOX_OPEN_UNCHECKED, e) < 0)
        return e->class == ERROR_NOT_FOUND ? 0 : -1;
    r = quota_check(box, size, true, e);
    mailbox_close(&box);
    return r;
}

size_t deliver_room(const struct deliver_request *request, const char *service, uint64_t size, struct arena *arena, const char *fields[3])
{
    struct log log = {.prefix = arena_printf(arena, "%s(%s)<%d><%s>: ", service, request->rcpt->user, (int)getpid(), request->rcpt->session)};
    struct mail_user *user = NULL;
    struct settings *set = NULL;
    struct error e = {0};
    int r = deliver_open_user(request, service, arena, &log, &set, &user, &e);

    if (r == 0)
        r = ask(user, arena, size, &e);
    fields[0] = user == NULL ? LMTP_ROOM_FAILED : kind_of(r, &e, user, size);
    fields[1] = arena_strdup(arena, e.user);
    fields[2] = user == NULL ? "" : configured(user, arena, fields[0]);
    if (strcmp(fields[0], LMTP_ROOM_FAILED) == 0) {
        log_error(&log, "Failed to ask for the room in INBOX: %s", e.admin);
        fields[1] = "Temporary internal error";
    }
    mail_user_close(&user);
    settings_unref(set);
    return 3;
}
