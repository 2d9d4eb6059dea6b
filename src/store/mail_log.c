/* mail_log.c - the plugin of that name: lines of the log for what happens to messages and mailboxes (quota-acl-plugins 3).
 *
 * The lines stand in the order of messages; of one message first its flags, then its keywords, then its end, each with the flags
 * that it has after that step. */
#include "store/internal.h"
#include "store/notify.h"

#include <stdio.h>
#include <strings.h>

enum { TEXT_MAX = 80 };    /* bytes of a header's value in a line */

enum { EVENT_DELETE = 0x1, EVENT_UNDELETE = 0x2, EVENT_EXPUNGE = 0x4, EVENT_SAVE = 0x8, EVENT_COPY = 0x10, EVENT_CREATE = 0x20,
       EVENT_REMOVE = 0x40, EVENT_RENAME = 0x80, EVENT_FLAGS = 0x100 };
enum { FIELD_UID = 0x1, FIELD_BOX = 0x2, FIELD_MSGID = 0x4, FIELD_SIZE = 0x8, FIELD_VSIZE = 0x10, FIELD_FLAGS = 0x20,
       FIELD_FROM = 0x40, FIELD_SUBJECT = 0x80 };

struct mail_log {
    const struct mail_user *user;
    unsigned events, fields;
    bool cached_only;
};

struct word {
    const char *name;
    unsigned bit;
};
static const struct word event_words[] = {
    {"delete", EVENT_DELETE}, {"undelete", EVENT_UNDELETE}, {"expunge", EVENT_EXPUNGE}, {"save", EVENT_SAVE}, {"append", EVENT_SAVE},
    {"copy", EVENT_COPY}, {"mailbox_create", EVENT_CREATE}, {"mailbox_delete", EVENT_REMOVE}, {"mailbox_rename", EVENT_RENAME},
    {"flag_change", EVENT_FLAGS}, {NULL, 0}};
static const struct word field_words[] = {
    {"uid", FIELD_UID}, {"box", FIELD_BOX}, {"msgid", FIELD_MSGID}, {"size", FIELD_SIZE}, {"vsize", FIELD_VSIZE},
    {"flags", FIELD_FLAGS}, {"from", FIELD_FROM}, {"subject", FIELD_SUBJECT}, {NULL, 0}};

/* ---- settings --------------------------------------------------------------------------------------------------- */

static int read_words(const struct mail_user *user, const char *key, const char *what, const struct word *words, unsigned standard,
                      unsigned *out, struct error *e)
{
    struct slice rest, word;
    const char *text;

    *out = standard;
    if (mail_user_plugin_text(user, user->arena, key, &text, e) < 0)
        return -1;
    if (text == NULL)
        return 0;
    *out = 0;
    for (rest = slice_from_str(text); slice_split(&rest, ' ', &word);) {
        const struct word *known = words;

        word = slice_trim(word);
        while (known->name != NULL && !slice_equal_str(word, known->name))
            known++;
        if (word.size > 0 && known->name == NULL)
            return error_set(e, ERROR_INVALID, "Unknown %s in %s: '%.*s'", what, key, (int)word.size, (const char *)word.at);
        *out |= known->bit;
    }
    return 0;
}

static int open_log(struct mail_user *user, void **self, struct error *e)
{
    struct mail_log *log;

    if (!mail_user_plugin(user, "mail_log"))
        return 0;
    log = mem_zero(1, sizeof(*log));
    log->user = user;
    if (read_words(user, "mail_log_events", "event", event_words,
                   EVENT_DELETE | EVENT_UNDELETE | EVENT_EXPUNGE | EVENT_SAVE | EVENT_COPY | EVENT_REMOVE | EVENT_RENAME,
                   &log->events, e) < 0 ||
        read_words(user, "mail_log_fields", "field", field_words, FIELD_UID | FIELD_BOX | FIELD_MSGID | FIELD_SIZE, &log->fields, e) < 0) {
        mem_free(log);
        return -1;
    }
    log->cached_only = mail_user_plugin_bool(user, "mail_log_cached_only");
    *self = log;
    return 0;
}

static void close_log(struct mail_user *user, void *self)
{
    (void)user;
    mem_free(self);
}

static unsigned wants(const void *self)
{
    const struct mail_log *log = self;

    return ((log->events & (EVENT_FLAGS | EVENT_DELETE | EVENT_UNDELETE)) != 0 ? NOTIFY_FLAGS : 0u) |
           ((log->events & EVENT_EXPUNGE) != 0 ? NOTIFY_EXPUNGES : 0u) | ((log->events & (EVENT_SAVE | EVENT_COPY)) != 0 ? NOTIFY_SAVES : 0u);
}

/* ---- a line ----------------------------------------------------------------------------------------------------- */

static void put_flags(struct buffer *out, const struct notify_state *state)
{
    size_t start;

    buffer_append_str(out, "flags=(");
    start = out->size;
    index_flags_put(out, state->flags, state->recent);
    for (size_t i = 0; i < state->keywords.count; i++) {
        if (out->size > start)
            buffer_append_byte(out, ' ');
        buffer_append_slice(out, state->keywords.at[i]);
    }
    buffer_append_byte(out, ')');
}

/* At most TEXT_MAX bytes, cut between characters; no control characters. */
static void put_text(struct buffer *out, struct slice text)
{
    size_t start = out->size, cut = start;

    while (text.size > 0) {
        struct slice before = text;
        int32_t c = text_utf8_next(&text);

        if (c < 32) /* -1: not UTF-8 */
            buffer_append_byte(out, '?');
        else
            buffer_append(out, before.at, before.size - text.size);
        if (out->size - start > TEXT_MAX) {
            out->size = cut;
            buffer_append_str(out, "...");
            return;
        }
        if (out->size - start <= TEXT_MAX - 3)
            cut = out->size;
    }
}

/* In a line about what is not in the cache such values are empty, when only cached ones are wanted. */
static void put_header(struct buffer *out, const struct mail_log *log, struct mail *mail, const char *name, bool decode, bool saved)
{
    struct slice wanted = slice_from_str(name), block;
    struct buffer text = {0};
    struct mime_field field;
    struct error ignored;
    bool known = mail != NULL && (log->cached_only && !saved ? mail_cached_header(mail, wanted, &block)
                                                              : mail_header_fields(mail, &wanted, 1, &block, &ignored) == 0);

    if (!known || !mime_header_find(block, name, &field))
        return;
    if (decode) {
        mime_words_decode(&text, field.value);
        put_text(out, slice_trim(buffer_slice(&text)));
        buffer_free(&text);
    } else {
        put_text(out, slice_trim(mime_header_unfold(mail_arena(mail), field.value)));
    }
}

static void put_size(struct buffer *out, struct mail *mail, int (*get)(struct mail *, uint64_t *, struct error *))
{
    struct error ignored;
    uint64_t size;

    if (mail != NULL && get(mail, &size, &ignored) == 0)
        buffer_printf(out, "%llu", (unsigned long long)size);
    else
        buffer_append_str(out, "error");
}

static const char *next(const char **comma)
{
    const char *now = *comma;

    *comma = ", ";
    return now;
}

/* "delete: box=INBOX, uid=1, msgid=<id1@x>, size=100": the order of fields is fixed. The mail may be NULL: it is gone. */
static void put_message(struct buffer *out, const struct mail_log *log, const char *event, const struct mailbox *box, uint32_t uid,
                        struct mail *mail, const struct notify_state *state, bool saved)
{
    const char *comma = "";

    buffer_printf(out, "%s: ", event);
    if ((log->fields & FIELD_BOX) != 0)
        buffer_printf(out, "%sbox=%s", next(&comma), box->place.vname);
    if ((log->fields & FIELD_UID) != 0 && uid != 0)
        buffer_printf(out, "%suid=%u", next(&comma), uid);
    else if ((log->fields & FIELD_UID) != 0)
        buffer_printf(out, "%suid=error", next(&comma));
    if ((log->fields & FIELD_MSGID) != 0) {
        buffer_printf(out, "%smsgid=", next(&comma));
        put_header(out, log, mail, "Message-ID", false, saved);
    }
    if ((log->fields & FIELD_SIZE) != 0) {
        buffer_printf(out, "%ssize=", next(&comma));
        put_size(out, mail, mail_size_physical);
    }
    if ((log->fields & FIELD_VSIZE) != 0) {
        buffer_printf(out, "%svsize=", next(&comma));
        put_size(out, mail, mail_size_virtual);
    }
    if ((log->fields & FIELD_FROM) != 0) {
        buffer_printf(out, "%sfrom=", next(&comma));
        put_header(out, log, mail, "From", true, saved);
    }
    if ((log->fields & FIELD_SUBJECT) != 0) {
        buffer_printf(out, "%ssubject=", next(&comma));
        put_header(out, log, mail, "Subject", true, saved);
    }
    if ((log->fields & FIELD_FLAGS) != 0) {
        buffer_append_str(out, next(&comma));
        put_flags(out, state);
    }
}

static void write_line(const struct mail_user *user, struct slice line)
{
    log_info(user->log_p, "%.*s", (int)line.size, (const char *)line.at);
}

/* ---- events ----------------------------------------------------------------------------------------------------- */

/* Several lines of one message are told as one text: each ends with a LF, which no line holds. */
static void add_line(const struct mail_log *log, struct buffer *out, const char *event, const struct notify_change *c, const struct notify_state *state)
{
    size_t start = out->size;

    put_message(out, log, event, c->box, c->uid, c->mail, state, false);
    for (size_t i = start; i < out->size; i++)
        if (out->at[i] == '\n')
            out->at[i] = '?';
    buffer_append_byte(out, '\n');
}

static bool note(void *self, const struct notify_change *c, struct buffer *out)
{
    const struct mail_log *log = self;
    bool deletion = ((c->before->flags ^ c->flagged->flags) & INDEX_DELETED) != 0, on = (c->flagged->flags & INDEX_DELETED) != 0;
    size_t start = out->size;

    if (c->flags && (log->events & (!deletion ? EVENT_FLAGS : on ? EVENT_DELETE : EVENT_UNDELETE)) != 0)
        add_line(log, out, !deletion ? "flag_change" : on ? "delete" : "undelete", c, c->flagged);
    if (c->keywords && (log->events & EVENT_FLAGS) != 0)
        add_line(log, out, "flag_change", c, c->after);
    if (c->expunged && (log->events & EVENT_EXPUNGE) != 0)
        add_line(log, out, c->autoexpunge ? "autoexpunge" : "expunge", c, c->after);
    return out->size > start;
}

static void tell(void *self, struct mailbox *box, struct slice text)
{
    struct slice line;

    (void)self;
    while (text.size > 0 && slice_split(&text, '\n', &line))
        write_line(box->user, line);
}

static void saved(void *self, const struct staged *staged, const char *from, const struct notify_state *state)
{
    const struct mail_log *log = self;
    struct buffer line = {0};
    struct mail *mail = NULL;
    struct error ignored;
    struct arena *arena;

    if ((log->events & (from == NULL ? EVENT_SAVE : EVENT_COPY)) == 0)
        return;
    arena = arena_new();
    if (staged->uid == 0 || mail_open_uid(staged->box, staged->uid, &mail, &ignored) < 0)
        mail = NULL;
    put_message(&line, log, from == NULL ? "save" : arena_printf(arena, "copy from %s", from), staged->box, staged->uid, mail, state,
                from == NULL);
    write_line(staged->box->user, buffer_slice(&line));
    if (mail != NULL)
        mail_close(&mail);
    buffer_free(&line);
    arena_free(arena);
}

static void tell_mailbox(void *self, const struct mailbox_place *place, enum notify_event event, const struct mailbox_place *to)
{
    const struct mail_log *log = self;

    if (event == NOTIFY_RENAMED && (log->events & EVENT_RENAME) != 0)
        log_info(log->user->log_p, "Mailbox renamed: %s -> %s", place->vname, to->vname);
    else if (event == NOTIFY_CREATED && (log->events & EVENT_CREATE) != 0)
        log_info(log->user->log_p, "Mailbox created: %s", place->vname);
    else if (event == NOTIFY_DELETED && (log->events & EVENT_REMOVE) != 0)
        log_info(log->user->log_p, "Mailbox deleted: %s", place->vname);
}

const struct notify_listener mail_log_listener = {
    .open = open_log, .close = close_log, .wants = wants, .note = note, .tell = tell, .saved = saved, .mailbox = tell_mailbox};
