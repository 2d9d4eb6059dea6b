/* mail_log.c - lines of the log for what happens to messages and mailboxes (quota-acl-plugins 3).
 *
 * The lines stand in the order of messages; of one message first its flags, then its keywords, then its end, each with the flags
 * that it has after that step. Virtual mailboxes tell nothing: the mailboxes behind them do. */
#include "store/mail_log.h"

#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { TEXT_MAX = 80 };    /* bytes of a header's value in a line */

enum { EVENT_DELETE = 0x1, EVENT_UNDELETE = 0x2, EVENT_EXPUNGE = 0x4, EVENT_SAVE = 0x8, EVENT_COPY = 0x10, EVENT_CREATE = 0x20,
       EVENT_REMOVE = 0x40, EVENT_RENAME = 0x80, EVENT_FLAGS = 0x100 };
enum { FIELD_UID = 0x1, FIELD_BOX = 0x2, FIELD_MSGID = 0x4, FIELD_SIZE = 0x8, FIELD_VSIZE = 0x10, FIELD_FLAGS = 0x20,
       FIELD_FROM = 0x40, FIELD_SUBJECT = 0x80 };

struct mail_log {
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

int mail_log_open(struct mail_user *user, struct mail_log **out, struct error *e)
{
    struct mail_log *log;

    *out = NULL;
    if (!mail_user_plugin(user, "notify") || !mail_user_plugin(user, "mail_log"))
        return 0;
    log = mem_zero(1, sizeof(*log));
    if (read_words(user, "mail_log_events", "event", event_words,
                   EVENT_DELETE | EVENT_UNDELETE | EVENT_EXPUNGE | EVENT_SAVE | EVENT_COPY | EVENT_REMOVE | EVENT_RENAME,
                   &log->events, e) < 0 ||
        read_words(user, "mail_log_fields", "field", field_words, FIELD_UID | FIELD_BOX | FIELD_MSGID | FIELD_SIZE, &log->fields, e) < 0) {
        mem_free(log);
        return -1;
    }
    log->cached_only = mail_user_plugin_bool(user, "mail_log_cached_only");
    *out = log;
    return 0;
}

void mail_log_close(struct mail_log **log)
{
    mem_free(*log);
    *log = NULL;
}

/* NULL: nothing is told of this mailbox. */
static const struct mail_log *log_of(const struct mailbox *box)
{
    return box->driver->origin != NULL ? NULL : box->user->mail_log;
}

/* ---- a line ----------------------------------------------------------------------------------------------------- */

struct state {             /* of a message, as far as lines show it */
    uint8_t flags;
    bool recent;
    VEC(struct slice) keywords;
};

static void put_flags(struct buffer *out, const struct state *state)
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
                        struct mail *mail, const struct state *state, bool saved)
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

/* ---- changes of messages ---------------------------------------------------------------------------------------- */

struct wish {              /* one part of the batch about one message */
    uint32_t uid;
    uint32_t part;
};

struct note {
    uint32_t uid;
    size_t end;            /* of its line in `text`: it begins where the one before ends */
};

struct mail_log_notes {
    struct mailbox *box;   /* referenced */
    struct mailbox_view *view;       /* NULL: the mailbox is deleted */
    const char *expunge;   /* the word */
    bool moved;            /* expunged because they were moved: shown without \Recent, as the real server does */
    struct arena *arena;
    VEC(struct index_batch_part) parts;
    VEC(struct wish) wishes;
    size_t next;           /* wish to look at */
    VEC(struct note) notes;
    struct buffer text;
};

static void add_wishes(void *arg, const struct index_batch_part *part)
{
    struct mail_log_notes *n = arg;
    const struct mail_log *log = n->box->user->mail_log;
    struct index_record rec;

    if ((log->events & (part->kind == INDEX_PART_EXPUNGE ? EVENT_EXPUNGE : EVENT_FLAGS | EVENT_DELETE | EVENT_UNDELETE)) == 0)
        return;
    VEC_PUSH(&n->parts, *part);
    for (uint32_t uid = part->first; uid <= part->last && index_get_from(n->box->index, uid, &rec) && rec.uid <= part->last;
         uid = rec.uid + 1)
        VEC_PUSH(&n->wishes, ((struct wish){rec.uid, (uint32_t)n->parts.count - 1}));
}

static int by_message(const void *a, const void *b)
{
    const struct wish *x = a, *y = b;

    if (x->uid != y->uid)
        return x->uid < y->uid ? -1 : 1;
    return x->part < y->part ? -1 : x->part > y->part;
}

static struct mail_log_notes *new_notes(struct mailbox *box, struct mailbox_view *view)
{
    struct mail_log_notes *n = mem_zero(1, sizeof(*n));

    n->box = mailbox_ref(box);
    n->view = view;
    n->expunge = view != NULL && view->autoexpunge ? "autoexpunge" : "expunge";
    n->arena = arena_new();
    return n;
}

struct mail_log_notes *mail_log_changes(struct mailbox_view *view, const struct index_batch *batch, bool moved)
{
    struct mail_log_notes *n;

    if (log_of(view->box) == NULL || view->read_only)
        return NULL;
    n = new_notes(view->box, view);
    n->moved = moved;
    index_batch_each(batch, add_wishes, n);
    if (n->wishes.count == 0) {
        mail_log_notes_free(&n);
        return NULL;
    }
    qsort(n->wishes.at, n->wishes.count, sizeof(*n->wishes.at), by_message);
    return n;
}

struct mail_log_notes *mail_log_deletion(struct mailbox *box)
{
    struct mail_log_notes *n;

    if (log_of(box) == NULL)
        return NULL;
    n = new_notes(box, NULL);
    add_wishes(n, &(struct index_batch_part){.kind = INDEX_PART_EXPUNGE, .first = 1, .last = UINT32_MAX});
    return n;
}

static void load_state(const struct mail_log_notes *n, const struct index_record *rec, struct state *state)
{
    state->flags = private_flags_of(n->box, rec->uid, rec->flags & INDEX_FLAGS_CLIENT);
    state->recent = !n->moved && (rec->uid >= index_first_recent(n->box->index) || (n->view != NULL && mailbox_view_recent(n->view, rec->uid)));
    for (unsigned i = 0, count = index_keyword_count(n->box->index); i < count; i++)
        if (index_keyword_has(rec->keywords, i))
            VEC_PUSH(&state->keywords, slice_from_str(arena_strdup(n->arena, index_keyword_name(n->box->index, i))));
}

static bool has_name(const struct slice *names, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal_nocase(names[i], name))
            return true;
    return false;
}

/* True: something is different. */
static bool change_keywords(struct state *state, const struct index_batch_part *part)
{
    size_t kept = 0, before = state->keywords.count;
    bool changed = false;

    for (size_t i = 0; i < before && part->modify != INDEX_ADD; i++)
        if (has_name(part->names, part->count, state->keywords.at[i]) == (part->modify == INDEX_REPLACE))
            state->keywords.at[kept++] = state->keywords.at[i];
    if (part->modify != INDEX_ADD) {
        changed = kept != before;
        state->keywords.count = kept;
    }
    for (size_t i = 0; i < part->count && part->modify != INDEX_REMOVE; i++) {
        if (has_name(state->keywords.at, state->keywords.count, part->names[i]))
            continue;
        VEC_PUSH(&state->keywords, part->names[i]);
        changed = true;
    }
    return changed;
}

static void add_line(struct mail_log_notes *n, const char *event, uint32_t uid, struct mail *mail, const struct state *state)
{
    put_message(&n->text, n->box->user->mail_log, event, n->box, uid, mail, state, false);
    VEC_PUSH(&n->notes, ((struct note){uid, n->text.size}));
}

static void add_flag_line(struct mail_log_notes *n, uint8_t before, uint32_t uid, struct mail *mail, const struct state *state)
{
    unsigned events = n->box->user->mail_log->events;
    bool deletion = ((before ^ state->flags) & INDEX_DELETED) != 0, on = (state->flags & INDEX_DELETED) != 0;

    if ((events & (!deletion ? EVENT_FLAGS : on ? EVENT_DELETE : EVENT_UNDELETE)) != 0)
        add_line(n, !deletion ? "flag_change" : on ? "delete" : "undelete", uid, mail, state);
}

/* All wishes about one message. */
static void add_lines(struct mail_log_notes *n, const struct wish *wish, size_t count)
{
    const struct index_batch_part *part = &n->parts.at[wish[0].part];
    struct state state = {0};
    struct index_record rec;
    struct mail *mail = NULL;
    struct error ignored;
    bool keywords = false;
    uint8_t before;

    if (!index_get(n->box->index, wish[0].uid, &rec))
        return;
    if (mail_open_uid(n->box, wish[0].uid, &mail, &ignored) < 0)
        mail = NULL;
    load_state(n, &rec, &state);
    before = state.flags;
    for (size_t i = 0; i < count; i++) {
        part = &n->parts.at[wish[i].part];
        if (part->kind == INDEX_PART_FLAGS)
            state.flags = (uint8_t)((state.flags & ~part->remove) | part->add) & INDEX_FLAGS_CLIENT;
    }
    if (state.flags != before)
        add_flag_line(n, before, rec.uid, mail, &state);
    for (size_t i = 0; i < count; i++) {
        part = &n->parts.at[wish[i].part];
        if (part->kind == INDEX_PART_KEYWORDS)
            keywords = change_keywords(&state, part) || keywords;
    }
    if (keywords && (n->box->user->mail_log->events & EVENT_FLAGS) != 0)
        add_line(n, "flag_change", rec.uid, mail, &state);
    if (part->kind == INDEX_PART_EXPUNGE)
        add_line(n, n->expunge, rec.uid, mail, &state);
    if (mail != NULL)
        mail_close(&mail);
    VEC_FREE(&state.keywords);
}

enum step mail_log_prepare(struct mail_log_notes *n, struct budget *budget)
{
    while (n != NULL && n->next < n->wishes.count) {
        const struct wish *wish = &n->wishes.at[n->next];
        size_t count = 1;

        while (n->next + count < n->wishes.count && wish[count].uid == wish[0].uid)
            count++;
        add_lines(n, wish, count);
        n->next += count;
        if (budget_spent(budget, 1) && n->next < n->wishes.count)
            return STEP_MORE;
    }
    return STEP_DONE;
}

void mail_log_tell(const struct mail_log_notes *n, const struct index_ranges *failed)
{
    size_t start = 0;

    if (n == NULL)
        return;
    for (size_t i = 0; i < n->notes.count; start = n->notes.at[i++].end)
        if (failed == NULL || !index_ranges_has(failed, n->notes.at[i].uid))
            write_line(n->box->user, slice_of(n->text.at + start, n->notes.at[i].end - start));
}

void mail_log_notes_free(struct mail_log_notes **notes)
{
    struct mail_log_notes *n = *notes;

    *notes = NULL;
    if (n == NULL)
        return;
    VEC_FREE(&n->parts);
    VEC_FREE(&n->wishes);
    VEC_FREE(&n->notes);
    buffer_free(&n->text);
    arena_free(n->arena);
    mailbox_close(&n->box);
    mem_free(n);
}

/* ---- saves ------------------------------------------------------------------------------------------------------ */

bool mail_log_wants_uids(const struct mail_user *user)
{
    return user->mail_log != NULL && (user->mail_log->events & (EVENT_SAVE | EVENT_COPY)) != 0;
}

void mail_log_saved(const struct staged *staged, const char *from, uint8_t private_flags)
{
    const struct mail_log *log = log_of(staged->box);
    struct state state = {.flags = (uint8_t)((staged->meta.flags | private_flags) & INDEX_FLAGS_CLIENT)};
    struct buffer line = {0};
    struct arena *arena;
    struct mail *mail = NULL;
    struct error ignored;

    if (log == NULL || (log->events & (from == NULL ? EVENT_SAVE : EVENT_COPY)) == 0)
        return;
    arena = arena_new();
    for (size_t i = 0; i < staged->meta.keyword_count; i++)
        VEC_PUSH(&state.keywords, staged->meta.keywords[i]);
    if (staged->uid == 0 || mail_open_uid(staged->box, staged->uid, &mail, &ignored) < 0)
        mail = NULL;
    put_message(&line, log, from == NULL ? "save" : arena_printf(arena, "copy from %s", from), staged->box, staged->uid, mail, &state,
                from == NULL);
    write_line(staged->box->user, buffer_slice(&line));
    if (mail != NULL)
        mail_close(&mail);
    VEC_FREE(&state.keywords);
    buffer_free(&line);
    arena_free(arena);
}

/* ---- mailboxes -------------------------------------------------------------------------------------------------- */

void mail_log_mailbox(const struct mailbox_place *place, enum mail_log_event event, const struct mailbox_place *to)
{
    static const unsigned wanted[] = {
        [MAIL_LOG_CREATED] = EVENT_CREATE, [MAIL_LOG_DELETED] = EVENT_REMOVE, [MAIL_LOG_RENAMED] = EVENT_RENAME};
    const struct mail_user *user = place->ns->user;

    if (user->mail_log == NULL || (user->mail_log->events & wanted[event]) == 0)
        return;
    if (event == MAIL_LOG_RENAMED)
        log_info(user->log_p, "Mailbox renamed: %s -> %s", place->vname, to->vname);
    else
        log_info(user->log_p, "Mailbox %s: %s", event == MAIL_LOG_CREATED ? "created" : "deleted", place->vname);
}
