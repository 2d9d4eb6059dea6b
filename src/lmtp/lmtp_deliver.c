/* lmtp_deliver.c - one message into one mailbox: stage, commit, the fallback to INBOX, the line in the log. */
#include "lmtp/lmtp_deliver.h"

#include "mime/mime.h"
#include "store/log_prefix.h"
#include "store/plugins.h"
#include "store/store.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_ID_MAX = 200, TEXT_MAX = 80 };

struct deliver {
    struct arena *arena;
    struct deliver_request request;
    deliver_over_fn *over;
    void *arg;
    struct settings *set;
    struct mail_user *user;
    struct log log;
    const char *mailbox;     /* as it is logged */
    struct mailbox *box;
    struct save *save;
    struct store_op *op;
    struct save_result result;
    bool in_inbox;           /* there is nothing to fall back to */
    struct error error;      /* class NONE = fine so far */
    const char *answer;      /* fixed already */
    ev_timer retry;
    ev_idle more;
    uint64_t started_ns;
    uint64_t size;           /* bytes as they are stored */
    bool saved;
    bool from_copy;          /* at work on another recipient's staged mail, which does not carry the sender */
    bool subscribe;          /* the mailbox was made for this message: subscribe to it when the message is in */
    VEC(struct deliver_line) lines;
};

/* ---- the message -------------------------------------------------------------------------------------------------- */

/* Control bytes become '?', at most `most` bytes, cut at a character. */
static const char *printable(struct arena *a, struct slice s, size_t most)
{
    char *out;

    if (s.size > most) {
        s.size = most;
        while (s.size > 0 && (s.at[s.size] & 0xc0) == 0x80)
            s.size--;
    }
    out = arena_str(a, s);
    for (size_t i = 0; i < s.size; i++)
        if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f)
            out[i] = '?';
    return out;
}

static const char *decoded_subject(struct arena *a, struct slice header)
{
    struct mime_field field;
    struct buffer out = {0};
    const char *text = "";

    if (mime_header_find(header, "Subject", &field)) {
        mime_words_decode(&out, mime_header_unfold(a, field.value));
        text = printable(a, buffer_slice(&out), TEXT_MAX);
    }
    buffer_free(&out);
    return text;
}

/* mailbox@domain of the first address of From. */
static const char *first_from(struct arena *a, struct slice header)
{
    struct mime_field field;
    struct mime_address *list;
    uint32_t left = 1;

    if (!mime_header_find(header, "From", &field))
        return "";
    list = mime_address_parse(a, field.value, &left, false);
    if (list == NULL || list->mailbox.size == 0 || list->domain.size == 0)
        return "";
    return printable(a, slice_from_str(arena_printf(a, "%.*s@%.*s", (int)list->mailbox.size, list->mailbox.at,
                                                    (int)list->domain.size, list->domain.at)),
                     TEXT_MAX);
}

struct deliver_message deliver_message_read(struct arena *a, struct slice bytes)
{
    struct deliver_message m = {.bytes = bytes, .message_id = "unspecified", .subject = "", .from = ""};
    struct mime_source source = mime_source_slice(bytes);
    struct mime_field field;
    struct slice header;
    struct error e;

    if (mime_header_read(a, &source, NULL, &header, &e) < 0)
        return m;
    if (mime_header_find(header, "Message-ID", &field)) {
        struct slice id = slice_trim(mime_header_unfold(a, field.value));
        if (id.size > 0)
            m.message_id = printable(a, id, MESSAGE_ID_MAX);
    }
    m.subject = decoded_subject(a, header);
    m.from = first_from(a, header);
    return m;
}

/* ---- log and outcome ----------------------------------------------------------------------------------------------- */

static void add_line(struct deliver *d, enum log_level level, const char *prefix, const char *text)
{
    struct deliver_line line = {level, prefix, arena_strdup(d->arena, text)};

    VEC_PUSH(&d->lines, line);
}

static void log_delivery(struct deliver *d, const char *what)
{
    const struct deliver_message *m = d->request.message;
    const struct lmtp_job_rcpt *r = d->request.rcpt;
    const char *format = conf_str(d->set, SET_deliver_log_format);
    struct arena *a = d->arena;
    struct conf_var table[] = {
        {'$', NULL, what},
        {'m', "msgid", m->message_id},
        {'s', "subject", m->subject},
        {'f', "from", m->from},
        {'e', "from_envelope", d->from_copy ? "" : d->request.sender},
        {'p', "size", arena_printf(a, "%llu", (unsigned long long)(d->size == 0 ? m->bytes.size : d->size))},
        {'w', "vsize", arena_printf(a, "%llu", (unsigned long long)m->bytes.size)},
        {0, "to_envelope", *r->original != '\0' ? r->original : r->path},
        {0, "delivery_time", arena_printf(a, "%llu", (unsigned long long)((time_monotonic_ns() - d->started_ns) / 1000000))},
        {0, "session_time", arena_printf(a, "%llu", (unsigned long long)((time_monotonic_ns() - d->started_ns) / 1000000))},
        {0, "storage_id", d->result.storage_ids == NULL ? "" : d->result.storage_ids[0]},
        {0, NULL, NULL},
    };
    struct conf_vars vars = {.table = table};
    struct error e;

    if (*format != '\0')
        add_line(d, LOG_LEVEL_INFO, d->log.prefix, conf_expand(a, format, &vars, NULL, &e));
}

static const char *client_text(struct deliver *d, const struct error *e)
{
    char stamp[40];
    time_t now = time(NULL);
    struct tm tm;

    if (e->user[0] != '\0')
        return e->user;
    localtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
    return arena_printf(d->arena, "Internal error occurred. Refer to server log for more information. [%s]", stamp);
}

static bool is_temporary(const struct error *e)
{
    switch (e->class) {
    case ERROR_NOT_FOUND:
    case ERROR_INVALID:
    case ERROR_PERMISSION:
    case ERROR_EXISTS:
        return false;
    default:
        return true;
    }
}

static const char *failure_answer(struct deliver *d, const struct error *e)
{
    if (e->class == ERROR_QUOTA) {
        bool temporary = conf_bool(d->set, SET_quota_full_tempfail);
        return arena_printf(d->arena, "%s %s", temporary ? "452 4.2.2" : "552 5.2.2",
                            e->user[0] != '\0' ? e->user : "Quota exceeded (mailbox for user is full)");
    }
    return arena_printf(d->arena, "451 4.2.0 %s", client_text(d, e));
}

/* What of others' locks an autoexpunge after a delivery waits for; the next one does the rest. */
#define AUTOEXPUNGE_WAIT_MS 50

static void end(struct deliver *d, const char *answer)
{
    deliver_over_fn *over = d->over;
    void *arg = d->arg;
    struct arena *a = d->arena;
    unsigned number = d->request.number;

    ev_timer_stop(d->request.loop, &d->retry);
    ev_idle_stop(d->request.loop, &d->more);
    store_op_free(&d->op);
    save_cancel(&d->save);
    mailbox_close(&d->box);
    if (d->user != NULL && mail_user_has_autoexpunge(d->user))
        store_op_finish(mail_user_autoexpunge(d->user), AUTOEXPUNGE_WAIT_MS);
    mail_user_close(&d->user);
    settings_unref(d->set);
    over(arg, number, answer, d->lines.at, d->lines.count);
    VEC_FREE(&d->lines);
    arena_free(a); /* the deliver itself lives in it */
}

/* ---- staging -------------------------------------------------------------------------------------------------------- */

static int stage_into(struct deliver *d, struct slice vname, struct deliver *like, struct error *e)
{
    const bool create = conf_bool(d->set, SET_lda_mailbox_autocreate);
    const unsigned flags = MAILBOX_OPEN_POST | (create ? MAILBOX_OPEN_CREATE : 0);
    struct mailbox_place place;
    struct mail_meta meta = {.envelope_sender = d->request.sender, .post = true};
    enum mailbox_existence existed = MAILBOX_EXISTS_YES;

    d->mailbox = printable(d->arena, vname, TEXT_MAX);
    if (mailbox_place(d->user, d->arena, vname, &place, e) < 0)
        return -1;
    if (create && conf_bool(d->set, SET_lda_mailbox_autosubscribe) && mailbox_exists(&place, true, &existed, e) < 0)
        return -1;
    if (mailbox_open(&d->box, &place, flags, e) < 0)
        return -1;
    d->subscribe = existed != MAILBOX_EXISTS_YES;
    if (like != NULL) {
        d->size = like->size;
        return save_again(like->save, d->box, &meta, &d->save, e);
    }
    if (save_begin(d->box, &meta, &d->save, e) < 0)
        return -1;
    for (struct slice rest = d->request.message->bytes; rest.size > 0;) {
        struct slice part = slice_head(rest, 256 * 1024);
        if (save_write(d->save, part, e) < 0)
            return -1;
        rest = slice_from(rest, part.size);
    }
    if (save_finish(d->save, e) < 0)
        return -1;
    d->size = save_size(d->save);
    return 0;
}

static void log_stage_failure(struct deliver *d, const struct deliver *like, const struct error *e)
{
    const char *text = e->user[0] != '\0' ? e->user : e->admin;

    d->from_copy = like != NULL;
    if (like != NULL)
        d->size = like->size;

    log_delivery(d, d->box == NULL
                        ? arena_printf(d->arena, "save failed to open mailbox %s: %s", d->mailbox, text)
                        : arena_printf(d->arena, "save failed to %s: %s", d->mailbox, text));
    d->from_copy = false;
}

static void drop_target(struct deliver *d)
{
    save_cancel(&d->save);
    mailbox_close(&d->box);
}

/* The detail's mailbox if wanted, INBOX otherwise, or when the first cannot take it for good. */
static int stage(struct deliver *d, struct deliver *like, struct error *e)
{
    const char *detail = d->request.rcpt->detail;
    struct buffer vname = {0};
    int r = -1;

    if (*detail != '\0' && conf_bool(d->set, SET_lmtp_save_to_detail_mailbox)) {
        buffer_append_str(&vname, mail_user_inbox_namespace(d->user)->prefix);
        buffer_append_str(&vname, detail);
        if (!text_utf8_valid(buffer_slice(&vname))) {
            error_set(e, ERROR_INVALID, "Mailbox name not valid UTF-8");
            error_user(e, "Mailbox name not valid UTF-8");
            d->mailbox = printable(d->arena, slice_from_str(detail), TEXT_MAX);
        } else
            r = stage_into(d, buffer_slice(&vname), like, e);
        buffer_free(&vname);
        if (r == 0)
            return 0;
        log_stage_failure(d, like, e);
        drop_target(d);
        if (is_temporary(e))
            return -1;
    }
    d->in_inbox = true;
    r = stage_into(d, SLICE("INBOX"), like, e);
    if (r < 0) {
        log_stage_failure(d, like, e);
        drop_target(d);
    }
    return r;
}

int deliver_open_user(const struct deliver_request *q, const char *service, struct arena *arena, struct log *log, struct settings **out_set,
                      struct mail_user **out, struct error *e)
{
    struct conf_filter filter = {.service = service};
    struct settings *set = conf_settings(q->conf, &filter, e), *own;
    struct mail_user_params params = {.username = q->rcpt->user,
                                      .home = rpc_fields_get(&q->rcpt->userdb, "home"),
                                      .service = service,
                                      .session_id = q->rcpt->session,
                                      .fields = rpc_fields_texts(arena, &q->rcpt->userdb),
                                      .log = log,
                                      .find_home = q->homes == NULL ? NULL : auth_homes_find,
                                      .find_home_arg = q->homes,
                                      .no_notify = true};

    if (set == NULL)
        return -1;
    *out_set = set;
    own = settings_override_all(set, params.fields, e);
    if (own == NULL)
        return -1;
    settings_unref(set);
    *out_set = own;
    log->debug = conf_bool(own, SET_mail_debug);
    log->prefix = mail_user_log_prefix(own, &params, arena);
    if (mail_user_open(out, own, &params, e) < 0)
        return -1;
    mail_user_login(*out);
    return 0;
}

static void wake(void *arg);
static void retry_now(struct ev_loop *loop, ev_timer *w, int events);
static void go_on(struct ev_loop *loop, ev_idle *w, int events);

struct deliver *deliver_stage(const struct deliver_request *request, struct deliver *like, deliver_over_fn *over, void *arg)
{
    struct arena *a = arena_new();
    struct deliver *d = ARENA_NEW(a, struct deliver);

    d->arena = a;
    d->request = *request;
    d->over = over;
    d->arg = arg;
    d->started_ns = time_monotonic_ns();
    ev_init(&d->retry, retry_now);
    ev_init(&d->more, go_on);
    d->retry.data = d->more.data = d;
    d->log.prefix = arena_printf(a, "lmtp(%s)<%d><%s>: ", request->rcpt->user, (int)getpid(), request->rcpt->session);
    if (deliver_open_user(request, "lmtp", a, &d->log, &d->set, &d->user, &d->error) < 0) {
        add_line(d, LOG_LEVEL_ERROR, NULL,
                 arena_printf(a, "rcpt %s: Failed to initialize user: %s", request->rcpt->path, d->error.admin));
        d->answer = "451 4.3.0 Temporary internal error";
    } else if (stage(d, like, &d->error) < 0) {
        if (is_temporary(&d->error) && d->error.user[0] == '\0')
            add_line(d, LOG_LEVEL_ERROR, d->log.prefix, d->error.admin);
        d->answer = failure_answer(d, &d->error);
    }
    return d;
}

bool deliver_is_staged(const struct deliver *d)
{
    return d->answer == NULL;
}

/* ---- commit --------------------------------------------------------------------------------------------------------- */

static void step(struct deliver *d);

/* The message is in; a mailbox that was made for it is subscribed to. */
static void step_done(struct deliver *d)
{
    if (!d->saved) {
        d->saved = true;
        log_delivery(d, arena_printf(d->arena, "saved mail to %s", d->mailbox));
        if (d->subscribe) {
            store_op_free(&d->op);
            d->op = mailbox_subscribe(mailbox_where(d->box), true);
            store_op_set_wake(d->op, wake, d);
            step(d);
            return;
        }
    }
    end(d, "250 2.0.0 Saved");
}

static void step(struct deliver *d)
{
    struct budget budget = budget_ms(5);
    struct error e;
    unsigned ms;

    ev_timer_stop(d->request.loop, &d->retry);
    ev_idle_stop(d->request.loop, &d->more);
    switch (store_op_step(d->op, &budget, &e)) {
    case STEP_DONE:
        step_done(d);
        return;
    case STEP_WAIT:
        ms = store_op_retry_ms(d->op);
        if (ms > 0) {
            ev_timer_set(&d->retry, ms / 1000., 0.);
            ev_timer_start(d->request.loop, &d->retry);
        }
        return;
    case STEP_ERROR:
        if (d->saved) { /* the subscription alone failed: the message is in */
            add_line(d, LOG_LEVEL_ERROR, d->log.prefix,
                     arena_printf(d->arena, "Can't subscribe to mailbox %s: %s", d->mailbox, e.admin));
            end(d, "250 2.0.0 Saved");
            return;
        }
        if (e.user[0] == '\0')
            add_line(d, LOG_LEVEL_ERROR, d->log.prefix, e.admin);
        log_delivery(d, arena_printf(d->arena, "save failed to %s: %s", d->mailbox,
                                     e.user[0] != '\0' ? e.user : client_text(d, &e)));
        end(d, failure_answer(d, &e));
        return;
    default:
        ev_idle_start(d->request.loop, &d->more);
        return;
    }
}

static void wake(void *arg)
{
    struct deliver *d = arg;

    ev_idle_start(d->request.loop, &d->more);
}

static void retry_now(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    step(w->data);
}

static void go_on(struct ev_loop *loop, ev_idle *w, int events)
{
    (void)loop;
    (void)events;
    step(w->data);
}

void deliver_commit(struct deliver *d)
{
    struct save *save = d->save;

    if (d->answer != NULL) {
        end(d, d->answer);
        return;
    }
    d->save = NULL; /* the commit takes it */
    d->op = save_commit(d->box, &save, 1, false, NULL, d->arena, &d->result);
    store_op_set_wake(d->op, wake, d);
    step(d);
}
