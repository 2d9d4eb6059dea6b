/* push_notification.c - the plugin of that name (quota-acl-plugins 5): what happens is handed to drivers. Here is the driver dlog, which
 * writes events into the log as debug lines; ox is in push_ox.c. */
#include "store/internal.h"
#include "store/notify.h"
#include "store/push_ox.h"

#include <stdio.h>

struct push {
    struct mail_user *user;
    size_t dlogs;                  /* how many drivers of that name */
    VEC(struct push_ox *) oxen;
};

/* Debug lines are the purpose of the driver: servers write them whether debugging is on or not. */
static void say_line(const struct push *push, const char *line)
{
    const struct mail_user *user = push->user;

    if (strcmp(user->service, "doveadm") != 0 || log_debug_on(user->log_p))
        log_write(user->log_p, LOG_LEVEL_DEBUG, "%s", line);
}

static void say_hook(const struct push *push, const char *hook)
{
    char line[80];

    snprintf(line, sizeof(line), "Called %s push_notification plugin hook.", hook);
    for (size_t i = 0; i < push->dlogs; i++)
        say_line(push, line);
}

/* ---- drivers ---------------------------------------------------------------------------------------------------- */

static void open_dlog(struct push *push, struct slice config)
{
    struct buffer line = {0};

    push->dlogs++;
    say_line(push, "Called init push_notification plugin hook.");
    if (config.size == 0)
        return;
    buffer_printf(&line, "Config string for dlog push_notification driver: %.*s", (int)config.size, (const char *)config.at);
    say_line(push, buffer_cstr(&line));
    buffer_free(&line);
}

static bool open_ox(struct push *push, struct slice config)
{
    struct push_ox *ox = push_ox_open(push->user, config);

    if (ox != NULL)
        VEC_PUSH(&push->oxen, ox);
    return ox != NULL;
}

/* False: those behind it are not looked at. */
static bool open_driver(struct push *push, struct slice text)
{
    struct slice name = text, config = SLICE_EMPTY;
    ptrdiff_t colon = slice_find(text, ':');

    if (colon >= 0) {
        name = slice_head(text, (size_t)colon);
        config = slice_from(text, (size_t)colon + 1);
    }
    if (slice_equal_str(name, "ox"))
        return open_ox(push, config);
    if (slice_equal_str(name, "dlog")) {
        open_dlog(push, config);
    } else if (slice_equal_str(name, "lua")) {
        log_warning(push->user->log_p, "push_notification: the driver lua is not available in this version, it has no effect");
    } else {
        log_error(push->user->log_p, "Unknown push notification driver: %.*s", (int)name.size, (const char *)name.at);
        return false;
    }
    return true;
}

/* PREFIX, PREFIX2, PREFIX3 ... 1: there were some. */
static int open_drivers(struct push *push, const char *prefix, struct error *e)
{
    struct arena *arena = arena_new();
    char key[48];
    const char *text;
    int r = 0;

    snprintf(key, sizeof(key), "%s", prefix);
    for (unsigned i = 2;; i++) {
        if (mail_user_plugin_text(push->user, arena, key, &text, e) < 0)
            r = -1;
        if (r < 0 || text == NULL || *text == '\0')
            break;
        r = 1;
        if (!open_driver(push, slice_from_str(text)))
            break;
        snprintf(key, sizeof(key), "%s%u", prefix, i);
    }
    arena_free(arena);
    return r;
}

static void free_push(struct push *push)
{
    for (size_t i = 0; i < push->oxen.count; i++)
        push_ox_close(push->oxen.at[i]);
    VEC_FREE(&push->oxen);
    mem_free(push);
}

static int open_push(struct mail_user *user, void **self, struct error *e)
{
    struct push *push;
    int r;

    if (!mail_user_plugin(user, "push_notification"))
        return 0;
    push = mem_zero(1, sizeof(*push));
    push->user = user;
    r = open_drivers(push, "push_notification_driver", e);
    if (r == 0)
        r = open_drivers(push, "push_notification_backend", e);
    if (r < 0 || (push->dlogs == 0 && push->oxen.count == 0)) {
        free_push(push);
        return r < 0 ? -1 : 0;
    }
    *self = push;
    return 0;
}

static void close_push(struct mail_user *user, void *self)
{
    struct push *push = self;

    (void)user;
    say_hook(push, "deinit");
    say_hook(push, "cleanup");
    free_push(push);
}

static unsigned wants(const void *self)
{
    (void)self;
    return NOTIFY_FLAGS | NOTIFY_EXPUNGES | NOTIFY_SAVES;
}

/* ---- messages --------------------------------------------------------------------------------------------------- */

static void begin(void *self, struct mailbox *box)
{
    const struct push *push = self;

    say_hook(push, "begin_txn");
    for (size_t i = 0; i < push->oxen.count; i++)
        push_ox_begin(push->oxen.at[i], box);
}

static void end(void *self, struct mailbox *box)
{
    const struct push *push = self;

    say_hook(push, "end_txn");
    for (size_t i = 0; i < push->oxen.count; i++)
        push_ox_end(push->oxen.at[i], box);
    log_debug(push->user->log_p, "push-notification: Push notification transaction completed");
}

static void put_message(struct buffer *out, const struct mailbox *box, uint32_t uid)
{
    struct index_status status;

    index_status(box->index, &status);
    buffer_printf(out, "Called process_msg push_notification plugin hook.\nMessage data: Mailbox [%s], UID [%u], UIDVALIDITY [%u]\n",
                  box->place.vname, uid, status.uid_validity);
}

static void put_flags(struct buffer *out, uint8_t flags, const char *event, const char *what)
{
    for (uint8_t bit = INDEX_ANSWERED; bit <= INDEX_DRAFT; bit = (uint8_t)(bit << 1))
        if ((flags & bit) != 0)
            buffer_printf(out, "%s: %s flag %s\n", event, index_flag_name(bit) + 1, what);
}

/* Keywords of one state that the other has not. */
static void put_keywords(struct buffer *out, const struct notify_state *of, const struct notify_state *not, const char *event, const char *what)
{
    for (size_t i = 0; i < of->keywords.count; i++)
        if (!notify_has_name(not->keywords.at, not->keywords.count, of->keywords.at[i]))
            buffer_printf(out, "%s: Keyword %s [%.*s]\n", event, what, (int)of->keywords.at[i].size, (const char *)of->keywords.at[i].at);
}

static bool note(void *self, const struct notify_change *c, struct buffer *out)
{
    uint8_t set = (uint8_t)(c->after->flags & ~c->before->flags), cleared = (uint8_t)(c->before->flags & ~c->after->flags);

    (void)self;
    put_message(out, c->box, c->uid);
    put_flags(out, cleared, "FlagsClear", "cleared");
    put_keywords(out, c->before, c->after, "FlagsClear", "clear");
    put_flags(out, set, "FlagsSet", "set");
    put_keywords(out, c->after, c->before, "FlagsSet", "set");
    if ((set & INDEX_SEEN) != 0)
        buffer_append_str(out, "MessageRead: Message was flagged as seen\n");
    if ((set & INDEX_DELETED) != 0)
        buffer_append_str(out, "MessageTrash: Message was marked as deleted\n");
    if (c->expunged)
        buffer_append_str(out, "MessageExpunge: Message was expunged\n");
    return true;
}

static void tell(void *self, struct mailbox *box, struct slice text)
{
    const struct push *push = self;
    struct arena *arena = arena_new();
    struct slice line;

    (void)box;
    for (size_t i = 0; i < push->dlogs; i++)
        for (struct slice rest = text; rest.size > 0 && slice_split(&rest, '\n', &line);)
            say_line(push, arena_str(arena, line));
    arena_free(arena);
}

/* dlog says nothing of what kind of save it is. */
static void saved(void *self, const struct staged *staged, const char *from, const struct notify_state *state)
{
    const struct push *push = self;
    struct buffer text = {0};

    (void)from;
    (void)state;
    put_message(&text, staged->box, staged->uid);
    tell(self, staged->box, buffer_slice(&text));
    buffer_free(&text);
    for (size_t i = 0; i < push->oxen.count; i++)
        push_ox_saved(push->oxen.at[i], staged);
}

/* ---- mailboxes -------------------------------------------------------------------------------------------------- */

static void tell_mailbox(void *self, const struct mailbox_place *place, enum notify_event event, const struct mailbox_place *to)
{
    struct buffer text = {0};

    begin(self, NULL);
    buffer_printf(&text, "Called process_mbox push_notification plugin hook.\nMailbox data: Mailbox [%s]\n", (event == NOTIFY_RENAMED ? to : place)->vname);
    if (event == NOTIFY_CREATED)
        buffer_append_str(&text, "MailboxCreate: Mailbox was created\n");
    else if (event == NOTIFY_DELETED)
        buffer_append_str(&text, "MailboxDelete: Mailbox was deleted\n");
    else if (event == NOTIFY_RENAMED)
        buffer_printf(&text, "MailboxRename: Mailbox was renamed (old name: %s)\n", place->vname);
    else if (event == NOTIFY_SUBSCRIBED)
        buffer_append_str(&text, "MailboxSubscribe: Mailbox was subscribed to\n");
    else
        buffer_append_str(&text, "MailboxUnsubscribe: Mailbox was subscribed to\n");
    tell(self, NULL, buffer_slice(&text));
    buffer_free(&text);
    end(self, NULL);
}

const struct notify_listener push_notification_listener = {.open = open_push, .close = close_push, .wants = wants, .note = note, .begin = begin,
                                                           .tell = tell, .end = end, .saved = saved, .mailbox = tell_mailbox};
