/* append.c - APPEND and MULTIAPPEND (RFC 3501 section 6.3.11, RFC 3502, RFC 7888; imap 9.1).
 *
 * The mailbox is opened and flags and date are checked before "+ OK"; then the bytes stream from the connection into
 * the staged message, without being gathered. A failed APPEND goes on reading what the client has promised to send
 * ({n+}), so that message data is never read as commands (known-faults). */
#include "imap/session.h"

#include <time.h>

enum { CHUNK = 32 * 1024, FUTURE_SECS = 2 * 3600 };

struct append_state {
    enum { APPEND_ARGS, APPEND_DATA, APPEND_COMMIT } stage;
    struct mailbox *box;
    struct save *save;               /* the one being written; NULL: its bytes are thrown away */
    VEC(struct save *) saves;
    uint64_t left;
    unsigned messages;
    const char *failed;              /* the reply that this command will get */
    struct save_result result;
};

static void next_args(struct session *s, struct request *r)
{
    unsigned flags = IMAP_PARSER_LITERAL8 | IMAP_PARSER_MESSAGE;

    if (conf_bool(s->set, SET_imap_literal_minus))
        flags |= IMAP_PARSER_LITERAL_MINUS;
    imap_parser_init(&r->parser, r->arena, conf_size(s->set, SET_imap_max_line_length), flags, 0);
}

/* The reply stays in `failed` until the client has sent what it will send. */
static void fail(struct request *r)
{
    struct append_state *t = r->state;

    if (t->failed == NULL)
        t->failed = r->reply;
    r->reply = NULL;
}

static void fail_error(struct session *s, struct request *r, const struct error *e)
{
    request_error_as(s, r, e, ERROR_TRYCREATE);
    fail(r);
}

void append_begin(struct session *s, struct request *r)
{
    struct append_state *t = r->state = ARENA_NEW(r->arena, struct append_state);
    struct mailbox_place place;
    struct error e = {0};

    if (r->args == NULL || r->parser.eol) {
        bool named = r->args != NULL;

        if (named && !imap_arg_is_string(r->args))
            request_bad(s, r, "Invalid arguments");
        else
            request_bad(s, r, named ? "Missing message size" : "Missing arguments");
        return;
    }
    if (!imap_arg_is_string(r->args)) {
        request_bad(s, r, "Invalid arguments");
        fail(r);
    } else if (!request_place(s, r, r->args, &place, ERROR_TRYCREATE)) {
        fail(r);
    } else if (mailbox_open(&t->box, &place, 0, &e) < 0) {
        t->box = NULL;
        fail_error(s, r, &e);
    }
    next_args(s, r);
}

/* "dd-Mon-yyyy hh:mm:ss zone" with a day of one digit, a leading space, an unknown zone (imap 9.1). */
static bool parse_date(struct request *r, struct slice text, int64_t *when)
{
    static const size_t zone_at = 21;
    char *full;
    int zone;

    while (text.size > 0 && text.at[0] == ' ')
        text = slice_from(text, 1);
    if (text.size > 1 && text.at[1] == '-')
        full = arena_printf(r->arena, "0%.*s", (int)text.size, (const char *)text.at);
    else
        full = arena_str(r->arena, text);
    if (mime_date_imap_parse(slice_from_str(full), when, &zone))
        return true;
    if (strlen(full) <= zone_at)
        return false;
    full = arena_printf(r->arena, "%.*s+0000", (int)zone_at, full);
    return mime_date_imap_parse(slice_from_str(full), when, &zone);
}

/* [flags] [date] in front of the literal. */
static bool parse_meta(struct session *s, struct request *r, struct mail_meta *meta)
{
    const struct imap_arg *a = r->parser.args;
    struct flag_list flags = {0};

    if (r->parser.depth > 0 || (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "CATENATE"))) {
        request_reply(r, "NO [CANNOT] CATENATE is not supported by this server.");
        return false;
    }
    if (a != NULL && a->type == IMAP_LIST) {
        if (!request_flags(s, r, a, true, &flags))
            return false;
        a = a->next;
    }
    meta->flags = flags.flags;
    meta->keywords = flags.keywords;
    meta->keyword_count = flags.keyword_count;
    if (a != NULL && a->type == IMAP_QUOTED) {
        if (!parse_date(r, a->text, &meta->internal_date)) {
            request_bad(s, r, "Invalid internal date");
            return false;
        }
        meta->has_date = meta->internal_date <= (int64_t)time(NULL) + FUTURE_SECS;
        a = a->next;
    }
    if (a != NULL) {
        request_bad(s, r, "Invalid arguments");
        return false;
    }
    return true;
}

static enum step finish_failed(struct request *r)
{
    struct append_state *t = r->state;

    r->reply = t->failed;
    r->sync = false;
    return STEP_DONE;
}

/* A literal has been announced: check, stage, say "+ OK". */
static enum step begin_message(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    struct mail_meta meta = {0};
    struct error e = {0};

    if (t->failed == NULL && !parse_meta(s, r, &meta))
        fail(r);
    if (t->failed == NULL && r->parser.literal_size == 0) {
        request_reply(r, "NO Can't save a zero byte message.");
        fail(r);
    }
    if (t->failed == NULL && save_begin(t->box, &meta, &t->save, &e) < 0) {
        t->save = NULL;
        fail_error(s, r, &e);
    }
    if (t->failed != NULL && !r->parser.literal_plus)
        return finish_failed(r); /* the client waits for us before it sends */
    if (!r->parser.literal_plus)
        session_print(s, "+ OK");
    t->left = r->parser.literal_size;
    t->stage = APPEND_DATA;
    return STEP_MORE;
}

static enum step read_args(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    size_t used;
    enum imap_parse got = imap_parser_read(&r->parser, session_input(s), &used);

    session_consume(s, used);
    switch (got) {
    case IMAP_PARSE_MORE:
        return STEP_INPUT;
    case IMAP_PARSE_MESSAGE:
        return begin_message(s, r);
    case IMAP_PARSE_BYE:
        session_bye(s, r->parser.problem, r->parser.problem);
        return STEP_DONE;
    case IMAP_PARSE_BAD:
        request_bad(s, r, "%s", r->parser.problem);
        fail(r);
        return finish_failed(r);
    case IMAP_PARSE_DONE:
        break;
    }
    if (t->failed == NULL && r->parser.args != NULL) {
        request_bad(s, r, t->messages == 0 ? "Missing message size" : "Invalid arguments");
        fail(r);
    } else if (t->failed == NULL && t->messages == 0) {
        request_bad(s, r, "Missing message size");
        fail(r);
    }
    if (t->failed != NULL)
        return finish_failed(r);
    t->stage = APPEND_COMMIT;
    r->op = save_commit(t->box, t->saves.at, t->saves.count, true, s->view, r->arena, &t->result);
    t->saves.count = 0; /* they are the operation's now */
    return STEP_MORE;
}

/* NUL is no character of mail: 0x80 stands for it, unless the client says literal8 (imap 9.1). */
static int write_chunk(struct append_state *t, struct request *r, struct slice chunk, struct error *e)
{
    unsigned char *copy;

    if (r->parser.literal8 || slice_find(chunk, '\0') < 0)
        return save_write(t->save, chunk, e);
    copy = mem_alloc(chunk.size);
    for (size_t i = 0; i < chunk.size; i++)
        copy[i] = chunk.at[i] == '\0' ? 0x80 : chunk.at[i];
    int done = save_write(t->save, slice_of(copy, chunk.size), e);
    mem_free(copy);
    return done;
}

static enum step read_data(struct session *s, struct request *r, struct budget *budget)
{
    struct append_state *t = r->state;
    struct error e = {0};

    while (t->left > 0) {
        struct slice chunk = slice_head(session_input(s), t->left < CHUNK ? (size_t)t->left : CHUNK);

        if (chunk.size == 0)
            return STEP_INPUT;
        if (t->save != NULL && write_chunk(t, r, chunk, &e) < 0) {
            save_cancel(&t->save);
            fail_error(s, r, &e);
        }
        t->left -= chunk.size;
        session_consume(s, chunk.size);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    if (t->save != NULL && save_finish(t->save, &e) < 0) {
        save_cancel(&t->save);
        fail_error(s, r, &e);
    }
    if (t->save != NULL) {
        VEC_PUSH(&t->saves, t->save);
        t->save = NULL;
    }
    t->messages++;
    t->stage = APPEND_ARGS;
    next_args(s, r);
    return STEP_MORE;
}

static void put_reply(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    struct index_ranges uids = {0};
    struct buffer set = {0};

    for (unsigned i = 0; i < t->messages; i++) {
        if (t->result.uids != NULL && t->result.uids[i] != 0)
            index_ranges_add(&uids, t->result.uids[i], t->result.uids[i]);
    }
    s->stats.appended += t->messages;
    if (uids.count > 0) {
        imap_ranges_put(&set, &uids);
        request_reply(r, "OK [APPENDUID %u %s] Append completed.", t->result.uid_validity, buffer_cstr(&set));
    } else {
        request_reply(r, "OK Append completed.");
    }
    r->sync = t->box == s->box;
    buffer_free(&set);
    index_ranges_free(&uids);
}

enum step append_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct append_state *t = r->state;
    enum step step = STEP_MORE;

    while (step == STEP_MORE && !budget_spent(budget, 1)) {
        if (t->stage == APPEND_ARGS) {
            step = read_args(s, r);
        } else if (t->stage == APPEND_DATA) {
            step = read_data(s, r, budget);
        } else {
            step = request_op(s, r, budget, e);
            if (step == STEP_ERROR) {
                request_error_as(s, r, e, ERROR_TRYCREATE);
                return STEP_DONE;
            }
            if (step == STEP_DONE)
                put_reply(s, r);
        }
    }
    return step;
}

void append_end(struct session *s, struct request *r)
{
    struct append_state *t = r->state;

    (void)s;
    if (t == NULL)
        return;
    save_cancel(&t->save);
    for (size_t i = 0; i < t->saves.count; i++)
        save_cancel(&t->saves.at[i]);
    VEC_FREE(&t->saves);
    if (t->box != NULL)
        mailbox_close(&t->box);
}
