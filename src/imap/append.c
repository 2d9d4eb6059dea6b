/* append.c - APPEND, MULTIAPPEND, CATENATE (RFC 3501 section 6.3.11, RFC 3502, RFC 4469, RFC 7888; imap 9.1).
 *
 * The arguments are taken as far as the parser has come: it stops in front of each literal, since those are messages or parts
 * of one. `done` and `part_done` are where the taking stands; everything behind is new.
 *
 * The mailbox is opened and flags and date are checked before "+ OK"; then the bytes stream from the connection into
 * the staged message, without being gathered. A failed APPEND goes on reading what the client has promised to send
 * ({n+}), so that message data is never read as commands (known-faults). */
#include "imap/part.h"
#include "imap/session.h"

#include "store/quota/quota.h"

#include <time.h>

enum { CHUNK = 32 * 1024, FUTURE_SECS = 2 * 3600 };

struct append_state {
    enum { APPEND_ARGS, APPEND_DATA, APPEND_URL, APPEND_COMMIT } stage;
    enum { PENDING_NONE, PENDING_LITERAL, PENDING_END } pending; /* what the parser stopped at */
    const struct imap_arg *done;     /* the last argument of this parser that was taken; NULL: none */
    const struct imap_arg *catenate; /* the list of parts being taken; NULL: none */
    const struct imap_arg *part_done;
    unsigned parts;
    bool binary;                     /* CATENATE: the first part was a literal8 */
    struct part part;                /* a URL being read */
    const struct imap_arg *url;
    uint32_t replaces;               /* REPLACE: the message that goes; 0: APPEND */
    bool expunging;
    struct mailbox *box;
    struct save *save;               /* the one being written; NULL: its bytes are thrown away */
    VEC(struct save *) saves;
    uint64_t left, size;             /* of the literal being read */
    unsigned messages;
    const char *failed;              /* the reply that this command will get */
    struct save_result result;
};

const char *append_progress_text(struct request *r)
{
    const struct append_state *t = r->state;

    if (r->command->begin != append_begin || t == NULL || t->stage != APPEND_DATA)
        return NULL;
    return arena_printf(r->arena, "While APPENDing: %u msgs, %llu secs, %llu/%llu bytes", t->messages + 1,
                        (unsigned long long)((time_monotonic_ns() - r->begun_ns) / 1000000000), (unsigned long long)(t->size - t->left),
                        (unsigned long long)t->size);
}

static void next_args(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    unsigned flags = IMAP_PARSER_LITERAL8 | IMAP_PARSER_MESSAGE;

    t->done = NULL;
    t->pending = PENDING_NONE;
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

/* REPLACE number mailbox (RFC 8508 section 3.1). False: answered. */
static bool take_target(struct session *s, struct request *r, const struct imap_arg **name)
{
    struct append_state *t = r->state;
    uint32_t n = 0;

    if (!imap_arg_is_atom(r->args) || r->args->next == NULL) {
        request_bad(s, r, "Missing arguments");
        return false;
    }
    *name = r->args->next;
    if (s->examined || mailbox_view_read_only(s->view)) {
        request_reply(r, "NO [NOPERM] Mailbox is read-only.");
        return false;
    }
    if (!slice_to_u32(r->args->text, &n) || n == 0 ||
        (!r->uid && n > index_view_count(mailbox_view_index(s->view)))) {
        request_bad(s, r, r->uid ? "Invalid uidset" : "Invalid messageset");
        return false;
    }
    t->replaces = r->uid ? n : index_view_uid(mailbox_view_index(s->view), n);
    return true;
}

void append_begin(struct session *s, struct request *r)
{
    struct append_state *t = r->state = ARENA_NEW(r->arena, struct append_state);
    struct mailbox_place place;
    struct error e = {0};

    const struct imap_arg *name = r->args;

    if (r->command->extension != NULL && !take_target(s, r, &name))
        return;
    if (r->args == NULL || r->parser.eol) {
        bool named = r->args != NULL;

        if (named && !imap_arg_is_string(r->args))
            request_bad(s, r, "Invalid arguments");
        else
            request_bad(s, r, named ? "Missing message size" : "Missing arguments");
        return;
    }
    if (!imap_arg_is_string(name)) {
        request_bad(s, r, "Invalid arguments");
        fail(r);
    } else if (!request_place(s, r, name, &place, ERROR_TRYCREATE)) {
        fail(r);
    } else if (mailbox_open(&t->box, &place, MAILBOX_OPEN_SAVE, &e) < 0) {
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

/* ---- the arguments of one message -------------------------------------------------------------------------------------- */

static enum step finish_failed(struct request *r)
{
    struct append_state *t = r->state;

    r->reply = t->failed;
    r->sync = false;
    return STEP_DONE;
}

/* Shown from now on, in this session's order. Those that are not set are shown too, when the mailbox is selected: the real server's
 * index has heard of them. */
static void mention_keywords(struct session *s, struct mailbox *box, const struct flag_list *flags)
{
    if (s->box == NULL && box != NULL && flags->keyword_mentions > flags->keyword_count)
        session_keywords_begin(s, mailbox_where(box)->vname);
    else if (box != s->box)
        return;
    for (size_t i = 0; i < flags->keyword_mentions; i++)
        session_keyword_mention(s, flags->keywords[i]);
}

/* [flags] [date] in front of the literal or CATENATE; *at moves behind them. */
static bool take_meta(struct session *s, struct request *r, const struct imap_arg **at, struct mail_meta *meta)
{
    struct append_state *t = r->state;
    const struct imap_arg *a = *at;
    struct flag_list flags = {0};

    if (a != NULL && a->type == IMAP_LIST) {
        if (!request_flags(s, r, a, true, &flags))
            return false;
        a = a->next;
    }
    meta->flags = flags.flags;
    meta->keywords = flags.keywords;
    meta->keyword_count = flags.keyword_count;
    mention_keywords(s, t->box, &flags);
    if (a != NULL && a->type == IMAP_QUOTED) {
        if (!parse_date(r, a->text, &meta->internal_date)) {
            request_bad(s, r, "Invalid internal date");
            return false;
        }
        meta->has_date = meta->internal_date <= (int64_t)time(NULL) + FUTURE_SECS;
        a = a->next;
    }
    *at = a;
    return true;
}

static void stage_message(struct session *s, struct request *r, struct mail_meta *meta)
{
    struct append_state *t = r->state;
    struct error e = {0};

    /* A size that is announced is refused before the client sends it. */
    if ((t->pending != PENDING_END && t->catenate == NULL && quota_check_ahead(t->box, r->parser.literal_size, &meta->quota_unknown, &e) < 0) ||
        save_begin(t->box, meta, &t->save, &e) < 0) {
        t->save = NULL;
        fail_error(s, r, &e);
    }
}

/* A literal has been announced: its bytes come next. */
static void begin_data(struct session *s, struct request *r)
{
    struct append_state *t = r->state;

    if (!r->parser.literal_plus)
        session_print(s, "+ OK");
    t->left = t->size = r->parser.literal_size;
    t->stage = APPEND_DATA;
}

static void end_message(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    struct error e = {0};

    if (t->save != NULL && save_finish(t->save, &e) < 0) {
        save_cancel(&t->save);
        fail_error(s, r, &e);
    }
    if (t->save != NULL) {
        VEC_PUSH(&t->saves, t->save);
        t->save = NULL;
    }
    t->messages++;
}

/* The next message's arguments. */
static void take_message(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    const struct imap_arg *first = t->done == NULL ? r->parser.args : t->done->next, *a = first;
    struct mail_meta meta = {0};

    if (first == NULL && t->pending == PENDING_END) {
        if (t->messages > 0) {
            t->stage = APPEND_COMMIT;
            return;
        }
        request_bad(s, r, "Missing message size");
    } else if (t->pending == PENDING_LITERAL && r->parser.depth > 0 &&
               (a == NULL || a->next == NULL)) {
        request_bad(s, r, "Invalid arguments"); /* a literal among the flags */
    } else if (limit_refuses(s, r, (uint64_t)t->messages + 1, true)) { /* MULTIAPPEND */
    } else if (!take_meta(s, r, &a, &meta)) {
    } else if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "CATENATE")) {
        if (a->next != NULL && a->next->type == IMAP_LIST) {
            t->catenate = t->done = a->next;
            t->part_done = NULL;
            t->parts = 0;
            if (t->catenate->children != NULL || r->parser.depth > 0) {
                stage_message(s, r, &meta);
                return;
            }
            request_bad(s, r, "Empty CATENATE list");
        } else {
            request_bad(s, r, "Invalid arguments");
        }
    } else if (a != NULL) {
        request_bad(s, r, "Invalid arguments");
    } else if (t->pending == PENDING_END) {
        request_bad(s, r, t->messages == 0 ? "Missing message size" : "Invalid arguments");
    } else if (r->parser.literal_size == 0) {
        request_reply(r, "NO Can't save a zero byte message.");
    } else {
        stage_message(s, r, &meta);
        if (t->failed == NULL)
            begin_data(s, r);
        return;
    }
    fail(r);
}

/* ---- CATENATE (RFC 4469) ------------------------------------------------------------------------------------------------ */

/* A part that is neither "URL string" nor "TEXT literal". The real server reads what stands behind as one more line. */
static void bad_part(struct session *s, struct request *r)
{
    request_bad(s, r, "Invalid arguments");
    r->stray = true;
    fail(r);
}

static void bad_url(struct request *r, const char *text)
{
    struct append_state *t = r->state;
    struct buffer url = {0};

    for (size_t i = 0; i < t->url->text.size; i++)
        buffer_append_byte(&url, t->url->text.at[i] < ' ' ? '?' : t->url->text.at[i]);
    request_reply(r, "NO [BADURL %s] %s.", buffer_cstr(&url), text);
    buffer_free(&url);
    fail(r);
}

static void begin_url(struct session *s, struct request *r, const struct imap_arg *value)
{
    struct append_state *t = r->state;
    struct imap_url *url = ARENA_NEW(r->arena, struct imap_url);
    const char *fault, *base = s->box == NULL ? NULL : mailbox_where(s->box)->vname;
    struct error e = {0};

    t->url = value;
    if (imap_url_parse(r->arena, value->text, base, IMAP_URL_RELATIVE, url, &fault) < 0) {
        bad_url(r, arena_printf(r->arena, "Invalid IMAP URL: %s", fault));
    } else if (part_begin(&t->part, s->user, r->arena, url, &fault, &e) < 0) {
        if (fault != NULL)
            bad_url(r, fault);
        else
            fail_error(s, r, &e);
    } else {
        t->stage = APPEND_URL;
    }
}

static void end_url(struct append_state *t)
{
    part_close(&t->part);
    t->part_done = t->url;
    t->url = NULL;
    t->parts++;
    t->stage = APPEND_ARGS;
}

static enum step read_url(struct session *s, struct request *r, struct budget *budget)
{
    struct append_state *t = r->state;
    unsigned char chunk[CHUNK];
    struct error e = {0};
    const char *fault = NULL;
    ssize_t n;

    if (t->part.op != NULL) {
        enum step step = session_op(s, &t->part.op, budget, &e);

        if (step != STEP_DONE && step != STEP_ERROR)
            return step;
        if (step == STEP_ERROR || part_check(&t->part, &fault) < 0 || part_find(&t->part, r->arena, &fault, &e) < 0 ||
            part_open(&t->part, r->arena, false, &fault, &e) < 0) {
            if (fault != NULL)
                bad_url(r, fault);
            else
                fail_error(s, r, &e);
            end_url(t);
            return STEP_MORE;
        }
    }
    while ((n = part_read(&t->part, chunk, sizeof(chunk), &e)) > 0) {
        if (save_write(t->save, slice_of(chunk, (size_t)n), &e) < 0) {
            n = -1;
            break;
        }
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    if (n < 0)
        fail_error(s, r, &e);
    end_url(t);
    return STEP_MORE;
}

/* The next part of the list. */
static enum step take_part(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    const struct imap_arg *a = t->part_done == NULL ? t->catenate->children : t->part_done->next, *value;
    bool open = r->parser.depth > 0, literal = open && t->pending == PENDING_LITERAL, url;

    if (a == NULL && !open) {
        t->catenate = NULL;
        end_message(s, r);
        return STEP_MORE;
    }
    url = imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "URL");
    if (!url && !(imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "TEXT"))) {
        bad_part(s, r);
        return STEP_MORE;
    }
    value = a->next;
    if (value == NULL && !literal) {
        bad_part(s, r);
    } else if (value == NULL && url) {
        t->pending = PENDING_NONE;
        if (!imap_parser_gather(&r->parser)) {
            session_bye(s, "Literal size too large", "Literal size too large");
            return STEP_DONE;
        }
    } else if (url && imap_arg_is_string(value)) {
        begin_url(s, r, value);
    } else if (!url && value == NULL) {
        if (t->parts == 0)
            t->binary = r->parser.literal8;
        if (r->parser.literal8 && !t->binary) {
            request_reply(r, "NO [UNKNOWN-CTE] Binary input allowed only when the first part is binary.");
            fail(r);
        } else {
            begin_data(s, r);
        }
    } else if (!url && value->type == IMAP_LITERAL) {
        t->part_done = value;
        t->parts++;
    } else {
        bad_part(s, r);
    }
    return STEP_MORE;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

/* After a failure: what the client has promised to send is thrown away; a client that waits for us is answered. */
static enum step skip_rest(struct request *r)
{
    struct append_state *t = r->state;

    save_cancel(&t->save);
    if (t->pending == PENDING_END || !r->parser.literal_plus)
        return finish_failed(r);
    t->left = t->size = r->parser.literal_size;
    t->stage = APPEND_DATA;
    return STEP_MORE;
}

static enum step take_args(struct session *s, struct request *r)
{
    struct append_state *t = r->state;

    if (t->failed == NULL && t->catenate != NULL) {
        enum step step = take_part(s, r);

        if (step != STEP_MORE)
            return step;
    } else if (t->failed == NULL) {
        take_message(s, r);
    }
    if (t->failed != NULL)
        return t->pending == PENDING_NONE ? STEP_MORE : skip_rest(r);
    if (t->stage == APPEND_COMMIT) {
        r->op = save_commit(t->box, t->saves.at, t->saves.count, true, s->view, r->arena, &t->result);
        t->saves.count = 0; /* they are the operation's now */
    }
    return STEP_MORE;
}

static enum step read_args(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    enum imap_parse got;
    size_t used;

    if (t->pending != PENDING_NONE)
        return take_args(s, r);
    got = imap_parser_read(&r->parser, session_input(s), &used);
    session_consume(s, used);
    if (r->parser.say_go_on) {
        r->parser.say_go_on = false;
        session_print(s, "+ OK");
    }
    switch (got) {
    case IMAP_PARSE_MORE:
        return STEP_INPUT;
    case IMAP_PARSE_MESSAGE:
        t->pending = PENDING_LITERAL;
        return STEP_MORE;
    case IMAP_PARSE_BYE:
        session_bye(s, r->parser.problem, imap_parser_reason(&r->parser));
        return STEP_DONE;
    case IMAP_PARSE_BAD:
        request_bad(s, r, "%s", r->parser.problem);
        fail(r);
        return finish_failed(r);
    case IMAP_PARSE_DONE:
        break;
    }
    t->pending = PENDING_END;
    return STEP_MORE;
}

static enum step read_data(struct session *s, struct request *r, struct budget *budget)
{
    struct append_state *t = r->state;
    struct error e = {0};

    while (t->left > 0) {
        struct slice chunk = slice_head(session_input(s), t->left < CHUNK ? (size_t)t->left : CHUNK);

        if (chunk.size == 0)
            return STEP_INPUT;
        if (t->save != NULL && save_write(t->save, chunk, &e) < 0) {
            save_cancel(&t->save);
            fail_error(s, r, &e);
        }
        t->left -= chunk.size;
        session_consume(s, chunk.size);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    t->stage = APPEND_ARGS;
    if (r->parser.depth > 0) {
        t->pending = PENDING_NONE;
        imap_parser_message_done(&r->parser);
        return STEP_MORE;
    }
    end_message(s, r);
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
    if (t->replaces != 0) {
        imap_ranges_put(&set, &uids);
        if (uids.count > 0)
            session_print(s, "* OK [APPENDUID %u %s] Replacement Message ready", t->result.uid_validity, buffer_cstr(&set));
    } else if (uids.count > 0) {
        imap_ranges_put(&set, &uids);
        request_reply(r, "OK [APPENDUID %u %s] Append completed.", t->result.uid_validity, buffer_cstr(&set));
    } else {
        request_reply(r, "OK Append completed.");
    }
    buffer_free(&set);
    index_ranges_free(&uids);
}

/* The new message is safe: the old one goes, whatever its flags. */
static void expunge_replaced(struct session *s, struct request *r)
{
    struct append_state *t = r->state;
    struct index_batch *batch = index_batch_new(r->arena, INDEX_INTERNAL);

    t->expunging = true;
    mailbox_batch_expunge(s->view, batch, t->replaces);
    r->op = mailbox_commit(s->view, batch, MAILBOX_RIGHT_EXPUNGE, NULL);
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
        } else if (t->stage == APPEND_URL) {
            step = read_url(s, r, budget);
        } else {
            step = request_op(s, r, budget, e);
            if (step == STEP_ERROR) {
                request_error_as(s, r, e, ERROR_TRYCREATE);
                return STEP_DONE;
            }
            if (step == STEP_DONE && t->expunging) {
                request_reply(r, "OK Replace completed.");
            } else if (step == STEP_DONE) {
                put_reply(s, r);
                if (t->replaces != 0) {
                    expunge_replaced(s, r);
                    step = STEP_MORE;
                }
            }
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
    part_close(&t->part);
    save_cancel(&t->save);
    for (size_t i = 0; i < t->saves.count; i++)
        save_cancel(&t->saves.at[i]);
    VEC_FREE(&t->saves);
    if (t->box != NULL)
        mailbox_close(&t->box);
}
