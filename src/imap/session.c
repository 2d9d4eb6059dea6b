/* session.c - one IMAP session: from bytes to requests, from requests to replies.
 *
 * The phases: LINE (tag and name) -> ARGS (arguments, as the command wants them) -> SKIP (the rest of the line) ->
 * CONDSTORE (when the command turns it on) -> RUN (in steps) -> LINE. A finished request that wants a
 * synchronisation waits in `finished` until the input is used up, the queue is full, or a command comes that must
 * not overlap with others; then SYNC answers them all (imap 6.2). */
#include "imap/hibernate.h"
#include "imap/notify.h"
#include "imap/session.h"
#include "imap/urlauth_remote.h"

#include "conf/plugins.h"
#include "rpc/auth_home.h"
#include "rpc/service.h"
#include "store/later.h"
#include "store/log_prefix.h"
#include "store/plugins.h"

#include <stdio.h>
#include <unistd.h>

#include <utlist.h>

/* ---- requests ----------------------------------------------------------------------------------------------------- */

static struct request *request_new(struct session *s, const struct imap_line *line, const struct command *command)
{
    struct arena *arena = worker_arena(s->worker);
    struct request *r = ARENA_NEW(arena, struct request);
    char *name;

    r->arena = arena;
    r->command = command;
    r->tag = arena_str(arena, line->tag);
    name = arena_printf(arena, "%s%.*s", line->uid ? "UID " : "", (int)line->name.size, (const char *)line->name.at);
    mem_free(s->last_command);
    s->last_command = mem_strdup(name);
    for (char *c = name; *c != '\0'; c++) {
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 32);
    }
    r->name = name;
    r->uid = line->uid;
    r->begun_ns = r->last_ns = time_monotonic_ns();
    if (command != NULL) {
        r->sync = (command->flags & COMMAND_SYNC) != 0;
        r->hold = (command->flags & COMMAND_HOLD) != 0;
    }
    return r;
}

static void end_command(struct session *s, struct request *r)
{
    store_op_free(&r->op);
    store_op_free(&r->condstore_op);
    if (r->writer != NULL)
        mailbox_view_close(&r->writer);
    if (!r->ended && r->command != NULL && r->command->end != NULL)
        r->command->end(s, r);
    r->ended = true;
}

void request_arena_back(struct session *s, struct request *r)
{
    if (!r->arena_kept)
        worker_arena_back(s->worker, r->arena);
}

static void request_free(struct session *s, struct request *r)
{
    if (r == NULL)
        return;
    end_command(s, r);
    request_arena_back(s, r);
}

void session_resume_idle(struct session *s, const char *tag, const char *reply)
{
    struct arena *arena = worker_arena(s->worker);
    struct request *r = ARENA_NEW(arena, struct request);

    r->arena = arena;
    r->command = command_find(false, SLICE("IDLE"));
    r->tag = arena_strdup(arena, tag == NULL ? "*" : tag);
    r->name = arena_strdup(arena, r->command->name);
    r->begun_ns = r->last_ns = time_monotonic_ns();
    s->now = r;
    s->phase = PHASE_RUN;
    idle_resume(s, r, reply);
}

/* The request `now` is over: answer it, or let it wait for a synchronisation. */
static enum step finish_request(struct session *s)
{
    struct request *r = s->now;

    s->now = NULL;
    r->last_ns = time_monotonic_ns();
    s->last_command_ns = r->last_ns;
    end_command(s, r);
    if (s->phase == PHASE_RUN || s->phase == PHASE_CONDSTORE || s->phase == PHASE_ARGS)
        s->phase = PHASE_LINE;
    if (r->sync && s->view != NULL && s->phase != PHASE_OVER) {
        *s->finished_tail = r;
        s->finished_tail = &r->next;
        s->finished_count++;
        return STEP_MORE;
    }
    reply_send(s, r);
    if (r->stray)
        reply_bad_line(s, SLICE_EMPTY, "Error in IMAP tag: Invalid tag.");
    request_free(s, r);
    if (s->compress_next)
        compression_start(s);
    if (s->end_text != NULL && s->phase != PHASE_OVER) {
        char *text = s->end_text;

        s->end_text = NULL;
        session_bye(s, text, text);
        mem_free(text);
    }
    return STEP_MORE;
}

static enum step check_bad_count(struct session *s)
{
    if (s->bad_count >= SESSION_BAD_MAX)
        session_bye(s, "Too many invalid IMAP commands.", "Too many invalid IMAP commands.");
    return STEP_MORE;
}

/* ---- phases --------------------------------------------------------------------------------------------------------- */

static enum step go_sync(struct session *s)
{
    s->after_sync = s->phase;
    s->phase = PHASE_SYNC;
    return STEP_MORE;
}

static enum step need_input(struct session *s)
{
    if (s->phase == PHASE_OVER)
        return STEP_MORE;
    if (s->finished != NULL)
        return go_sync(s);
    return STEP_INPUT;
}

/* Between two commands. */
static enum step step_notify(struct session *s, struct budget *budget)
{
    enum step step = notify_step(s, budget);

    if (step != STEP_DONE)
        return step;
    if (s->phase == PHASE_NOTIFY)
        s->phase = PHASE_LINE;
    return STEP_MORE;
}

/* RFC 9586 section 3.1; SEARCH and alike look at their keys. */
static bool uses_numbers(const struct command *command)
{
    static const char *const names[] = {"COPY", "FETCH", "MOVE", "REPLACE", "STORE"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(command->name, names[i]) == 0)
            return true;
    }
    return false;
}

/* Where CREATE takes no uses, what stands behind the name is not looked at: it may be anything. */
static unsigned args_wanted(const struct session *s, const struct command *command)
{
    return command->begin == create_begin && session_extension(s, "CREATE-SPECIAL-USE") ? 2 : (unsigned)command->args;
}

static enum step step_line(struct session *s)
{
    struct imap_line line;
    const struct command *command;
    struct request *r;
    size_t used;

    switch (imap_line_read(session_input(s), conf_size(s->set, SET_imap_max_line_length), &line, &used)) {
    case IMAP_PARSE_MORE:
        if (s->finished == NULL && notify_pending(s)) {
            s->phase = PHASE_NOTIFY;
            return STEP_MORE;
        }
        return need_input(s);
    case IMAP_PARSE_DONE:
        break;
    default:
        reply_bad_line(s, line.tag, line.problem);
        session_consume(s, used);
        s->phase = PHASE_SKIP;
        return check_bad_count(s);
    }
    command = command_find(line.uid, line.name);
    if (command != NULL && command->plugin != NULL && !session_plugin(s, command->plugin))
        command = NULL;
    if (command != NULL && command->extension != NULL && !session_extension(s, command->extension))
        command = NULL;
    if (s->finished != NULL &&
        (s->finished_count >= SESSION_QUEUE || (command != NULL && (command->flags & COMMAND_ALONE) != 0)))
        return go_sync(s);
    r = s->now = request_new(s, &line, command);
    session_consume(s, used);
    event_begin(s, r);
    s->phase = PHASE_SKIP;
    if (command == NULL) {
        request_bad(s, r, "Unknown command");
        finish_request(s);
        return check_bad_count(s);
    }
    if ((command->flags & COMMAND_SELECTED) != 0 && (command->flags & COMMAND_MESSAGE) != 0 && s->view == NULL) {
        request_reply(r, "BAD No mailbox selected."); /* others take their arguments first */
        return finish_request(s);
    }
    if (s->uidonly && uses_numbers(command)) {
        request_reply(r, "BAD [UIDREQUIRED] Message numbers are not allowed once UIDONLY is enabled.");
        return finish_request(s);
    }
    if (command->args != ARGS_NONE) {
        unsigned flags = conf_bool(s->set, SET_imap_literal_minus) ? IMAP_PARSER_LITERAL_MINUS : 0;

        if ((command->flags & COMMAND_LITERAL8) != 0)
            flags |= IMAP_PARSER_LITERAL8;
        imap_parser_init(&r->parser, r->arena, conf_size(s->set, SET_imap_max_line_length), flags,
                         args_wanted(s, command));
        s->phase = PHASE_ARGS;
    }
    return STEP_MORE;
}

void session_turn_on_modseqs(struct session *s)
{
    if (s->phase == PHASE_RUN && (!s->condstore || !s->modseq_told))
        s->phase = PHASE_CONDSTORE;
    else
        s->condstore = true;
}

static void begin_command(struct session *s)
{
    struct request *r = s->now;
    uint64_t from = time_monotonic_ns();

    s->phase = PHASE_RUN;
    r->args = r->parser.args;
    r->out_before = stream_bytes_out(s->io) + stream_pending(s->io);
    if ((r->command->flags & (COMMAND_SELECTED | COMMAND_LATE)) == COMMAND_SELECTED && s->view == NULL)
        request_reply(r, "BAD No mailbox selected.");
    else
        r->command->begin(s, r);
    r->run_ns += time_monotonic_ns() - from;
    if (r->condstore)
        session_turn_on_modseqs(s);
}

static enum step step_args(struct session *s)
{
    struct request *r = s->now;
    enum imap_parse got;
    size_t used;

    got = imap_parser_read(&r->parser, session_input(s), &used);
    session_consume(s, used);
    if (r->parser.say_go_on) {
        r->parser.say_go_on = false;
        session_print(s, "+ OK");
    }
    switch (got) {
    case IMAP_PARSE_MORE:
        return need_input(s);
    case IMAP_PARSE_DONE:
    case IMAP_PARSE_MESSAGE:
        if (r->parser.eol || (r->command->flags & COMMAND_MESSAGE) != 0)
            begin_command(s);
        else
            s->phase = PHASE_SKIP;
        return STEP_MORE;
    case IMAP_PARSE_BYE:
        session_bye(s, r->parser.problem, imap_parser_reason(&r->parser));
        return STEP_MORE;
    default:
        r->args = r->parser.args;
        if (r->command->broken != NULL)
            r->command->broken(s, r);
        if (r->reply == NULL)
            request_bad(s, r, "%s", r->parser.problem);
        s->phase = PHASE_SKIP;
        finish_request(s);
        return check_bad_count(s);
    }
}

/* The rest of the line, then: the command that stood in it, or the next line. Literals that a client sends without being asked
 * belong to the line that was refused (RFC 7888 section 4): what stands in them is never a command. */
static enum step step_skip(struct session *s)
{
    struct slice in = session_input(s);
    size_t used = s->skip < in.size ? (size_t)s->skip : in.size;
    bool found;

    session_consume(s, used);
    s->skip -= used;
    if (s->skip > 0)
        return need_input(s);
    found = imap_skip_line(session_input(s), &used, &s->skip);
    if (found && s->now != NULL)
        s->now->parser.eol = used > 1 && session_input(s).at[used - 2] == '\r' ? 2 : 1;
    session_consume(s, used);
    if (!found)
        return need_input(s);
    if (s->skip > conf_size(s->set, SET_imap_max_line_length)) {
        session_bye(s, "Literal size too large", "Literal size too large");
        return STEP_MORE;
    }
    if (s->skip > 0)
        return STEP_MORE;
    if (s->now != NULL)
        begin_command(s);
    else
        s->phase = PHASE_LINE;
    return STEP_MORE;
}

/* Also a session that only examines the mailbox turns its modseqs on. */
struct store_op *session_enable_modseqs(struct session *s, struct request *r)
{
    struct index_batch *batch = index_batch_new(r->arena, INDEX_INTERNAL);

    index_batch_enable_modseq(batch);
    if (s->examined && r->writer == NULL)
        r->writer = mailbox_view_open(s->box, false);
    return mailbox_commit(r->writer != NULL ? r->writer : s->view, batch, 0, NULL);
}

/* Turns CONDSTORE on: permanently for the mailbox, once, and tells the client (imap 12.1). */
static enum step step_condstore(struct session *s, struct budget *budget, struct error *e)
{
    struct request *r = s->now;
    struct index_status status;

    s->condstore = true;
    if (s->view == NULL) {
        s->phase = PHASE_RUN;
        return STEP_MORE;
    }
    index_status(mailbox_index(s->box), &status);
    if (!r->condstore_asked && !status.modseq_enabled && !mailbox_read_only(s->box)) {
        r->condstore_asked = true;
        r->condstore_op = session_enable_modseqs(s, r);
    }
    if (r->condstore_op != NULL) {
        enum step step = session_op(s, &r->condstore_op, budget, e);

        if (step == STEP_ERROR)
            log_error_value(&s->log, e);
        else if (step != STEP_DONE)
            return step;
    }
    session_tell_modseq(s);
    s->phase = PHASE_RUN;
    return STEP_MORE;
}

static enum step step_run(struct session *s, struct budget *budget, struct error *e)
{
    struct request *r = s->now;
    enum step step = STEP_DONE;

    if (r->reply == NULL) {
        uint64_t from = time_monotonic_ns();

        step = r->command->run(s, r, budget, e);
        if (s->phase == PHASE_OVER)
            return STEP_MORE;
        r->last_ns = time_monotonic_ns();
        r->run_ns += r->last_ns - from;
    }
    if (step == STEP_ERROR)
        request_error(s, r, e);
    if (r->reply == NULL)
        return step;
    finish_request(s);
    return check_bad_count(s);
}

static enum step step_sync(struct session *s, struct budget *budget)
{
    enum step step = sync_step(s, budget);

    if (step != STEP_DONE)
        return step;
    if (s->phase != PHASE_OVER)
        s->phase = s->after_sync;
    return STEP_MORE;
}

static enum step step_phase(struct session *s, struct budget *budget)
{
    struct error e = {0};

    switch (s->phase) {
    case PHASE_LINE:
        return step_line(s);
    case PHASE_ARGS:
        return step_args(s);
    case PHASE_SKIP:
        return step_skip(s);
    case PHASE_CONDSTORE:
        return step_condstore(s, budget, &e);
    case PHASE_RUN:
        return step_run(s, budget, &e);
    case PHASE_SYNC:
        return step_sync(s, budget);
    case PHASE_NOTIFY:
        return step_notify(s, budget);
    case PHASE_OVER:
        break;
    }
    return STEP_DONE;
}

enum step session_step(struct session *s, struct budget *budget)
{
    enum step step = STEP_MORE;

    if (hibernate_underway(s))
        return STEP_WAIT;
    if (s->user != NULL)
        mail_user_enter(s->user);
    while (step == STEP_MORE && s->phase != PHASE_OVER) {
        if (stream_full(s->io))
            step = STEP_OUTPUT_FULL;
        else if (budget_spent(budget, 1))
            break;
        else
            step = step_phase(s, budget);
    }
    session_flush(s);
    if (step == STEP_INPUT && stream_ended(s->io) && s->phase != PHASE_OVER)
        session_bye(s, NULL, NULL);
    if (s->phase == PHASE_OVER)
        return STEP_DONE;
    if (step == STEP_OUTPUT_FULL)
        stream_deadline(s->io, SESSION_OUTPUT_SECS);
    else
        stream_deadline(s->io, s->watch != NULL || (s->now != NULL && step != STEP_INPUT) ? 0 : SESSION_INPUT_SECS);
    return step;
}

/* ---- the connection ------------------------------------------------------------------------------------------------- */

void session_wake(struct session *s)
{
    worker_queue(s->worker, s);
}

static void on_event(void *arg)
{
    session_wake(arg);
}

static void on_closed(void *arg, const struct error *e)
{
    struct session *s = arg;

    s->closed = true;
    if (e->class != ERROR_NONE) {
        session_bye(s, NULL, NULL);
        s->over_ns = 1;
    }
    session_wake(s); /* what came before the end is still to be done */
}

bool session_may_go(struct session *s)
{
    if (s->leaving != LEAVING_NOT)
        return unauthenticate_step(s);
    /* `closed` comes once: a client that closed its side first may still read the rest. */
    if (s->phase != PHASE_OVER || !s->closed)
        return false;
    stream_flush(s->io);
    return stream_pending(s->io) == 0 || time_monotonic_ns() - s->over_ns > (uint64_t)SESSION_FINISH_SECS * 1000000000;
}

static void on_deadline(void *arg)
{
    struct session *s = arg;

    if (stream_pending(s->io) > 0)
        session_bye(s, NULL, "Inactivity - client didn't read output for 300 secs");
    else
        session_bye(s, "Disconnected for inactivity.", "Inactivity - no input for 1800 secs");
    session_wake(s);
}

static const struct stream_handler stream_handler = {
    .readable = on_event, .writable = on_event, .closed = on_closed, .deadline = on_deadline};

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    session_wake(w->data);
}

const char *session_stats_text(struct session *s, struct arena *arena)
{
    const struct session_stats *t = &s->stats;
    /* what is taken from the input, but for the line end of a command that runs: the real server reads it behind the command */
    uint64_t in = t->bytes_in + stream_bytes_in(s->io) - (s->compression == NULL ? session_input(s).size : 0) -
                  (s->now != NULL ? s->now->parser.eol : 0);
    const char *user = mail_user_name(s->user), *at = strchr(user, '@');
    uint64_t out = t->bytes_out + stream_bytes_out(s->io) + stream_pending(s->io);
    struct error e;
    const struct conf_var table[] = {
        {'i', "input", arena_printf(arena, "%llu", (unsigned long long)in)},
        {'o', "output", arena_printf(arena, "%llu", (unsigned long long)out)},
        {0, "session", s->session_id},
        {0, "fetch_hdr_count", arena_printf(arena, "%llu", (unsigned long long)t->hdr_count)},
        {0, "fetch_hdr_bytes", arena_printf(arena, "%llu", (unsigned long long)t->hdr_bytes)},
        {0, "fetch_body_count", arena_printf(arena, "%llu", (unsigned long long)t->body_count)},
        {0, "fetch_body_bytes", arena_printf(arena, "%llu", (unsigned long long)t->body_bytes)},
        {0, "deleted", arena_printf(arena, "%u", t->deleted)},
        {0, "expunged", arena_printf(arena, "%u", t->expunged)},
        {0, "trashed", arena_printf(arena, "%u", t->trashed)},
        {0, "appended", arena_printf(arena, "%u", t->appended)},
        {0, "autoexpunged", "0"},
        {'u', "user", user},
        {'n', "username", at == NULL ? user : arena_str(arena, slice_of(user, (size_t)(at - user)))},
        {'d', "domain", at == NULL ? "" : at + 1},
        {'h', "home", mail_user_home(s->user) == NULL ? "" : mail_user_home(s->user)},
        {0, NULL, NULL}};
    const struct conf_vars vars = {.table = table};

    return conf_expand(arena, conf_str(s->set, SET_imap_logout_format), &vars, NULL, &e);
}

/* The line at the end of a session (imap 14.2). */
void session_log_end(struct session *s, const char *reason)
{
    struct arena *arena = worker_arena(s->worker);
    const char *format = session_stats_text(s, arena), *last;

    if (reason != NULL) {
        log_info(&s->log, "Disconnected: %s %s", reason, format);
    } else {
        uint64_t ago = time_monotonic_ns() - s->last_command_ns;

        if (s->now != NULL && (last = append_progress_text(s->now)) != NULL)
            ;
        else if (s->last_command == NULL)
            last = arena_strdup(arena, "No commands sent");
        else if (s->now != NULL)
            last = arena_printf(arena, "%s running for %llu.%03llu + waiting input for 0.000 secs, %llu B in + %llu B out, "
                                "state=wait-input", s->last_command,
                                (unsigned long long)(s->now->run_ns / 1000000000),
                                (unsigned long long)(s->now->run_ns / 1000000 % 1000),
                                (unsigned long long)s->now->bytes_in,
                                (unsigned long long)(stream_bytes_out(s->io) + stream_pending(s->io) - s->now->out_before));
        else
            last = arena_printf(arena, "%s finished %llu.%03llu secs ago", s->last_command,
                                (unsigned long long)(ago / 1000000000), (unsigned long long)(ago / 1000000 % 1000));
        log_info(&s->log, "Disconnected: Connection closed (%s) %s", last, format);
    }
    worker_arena_back(s->worker, arena);
}

static void end_phase(struct session *s)
{
    session_flush(s);
    (void)hibernate_cancel(s); /* shut down is the connection in any case */
    s->phase = PHASE_OVER;
    s->over_ns = time_monotonic_ns();
    stream_finish(s->io, SESSION_FINISH_SECS);
    ev_timer_stop(worker_loop(s->worker), &s->alarm);
    ev_timer_set(&s->alarm, SESSION_FINISH_SECS + 0.1, 0);
    ev_timer_start(worker_loop(s->worker), &s->alarm);
    session_wake(s);
}

void session_bye(struct session *s, const char *bye, const char *reason)
{
    if (s->phase == PHASE_OVER)
        return;
    if (bye != NULL)
        session_print(s, "* BYE %s", bye);
    session_flush(s); /* it counts */
    session_log_end(s, reason);
    end_phase(s);
}

void session_kick(struct session *s, const char *bye)
{
    session_bye(s, bye, bye);
}

static void greet(struct session *s, const struct imap_login *login)
{
    struct arena *arena = worker_arena(s->worker);
    const char *caps = session_capabilities(s, arena);

    if (login->tag == NULL)
        session_print(s, "* PREAUTH [CAPABILITY %s] Logged in as %s", caps, mail_user_name(s->user));
    else if (login->nocap)
        session_print(s, "* CAPABILITY %s\r\n%s OK Logged in", caps, login->tag);
    else
        session_print(s, "%s OK [CAPABILITY %s] Logged in", login->tag, caps);
    worker_arena_back(s->worker, arena);
}

static int open_user(struct session *s, const struct imap_login *login, struct error *e)
{
    struct conf_filter filter = {.service = "imap", .local_ip = login->local_ip, .remote_ip = login->remote_ip};
    struct mail_user_params params = {.username = login->user, .home = login->home, .service = "imap",
                                      .session_id = s->session_id, .local_ip = login->local_ip,
                                      .remote_ip = login->remote_ip, .fields = login->fields, .log = &s->log};
    struct settings *set = conf_settings(worker_conf(s->worker), &filter, e);
    struct arena *arena;

    if (set == NULL)
        return -1;
    if (login->fields != NULL) {
        struct settings *own = settings_override_all(set, login->fields, e);

        settings_unref(set);
        if (own == NULL)
            return -1;
        set = own;
    }
    s->set = set;
    s->log.debug = conf_bool(set, SET_mail_debug);
    if (conf_plugins_check(set, true, e) < 0) {
        mem_free(s->log.prefix);
        s->log.prefix = mem_printf("imap(%s): ", login->user); /* as early as with Dovecot */
        return -1;
    }
    arena = worker_arena(s->worker);
    mem_free(s->log.prefix);
    s->log.prefix = mem_strdup(mail_user_log_prefix(set, &params, arena));
    worker_arena_back(s->worker, arena);
    params.find_home = auth_homes_find;
    params.find_home_arg = worker_homes(s->worker, set);
    if (mail_user_open(&s->user, set, &params, e) < 0)
        return -1;
    if (session_extension(s, "CREATE-SPECIAL-USE"))
        mail_user_keep_special_uses(s->user);
    if (login->rested == NULL)
        mail_user_login(s->user);
    return 0;
}

static void open_rawlog(struct session *s)
{
    const char *set = conf_str(s->set, SET_rawlog_dir), *dir;
    struct arena *arena;
    struct error ignored;

    if (*set == '\0')
        return;
    arena = worker_arena(s->worker);
    dir = mail_user_expand(s->user, arena, set, &ignored);
    if (dir != NULL)
        s->rawlog = rawlog_open(dir, s->id, &s->log);
    worker_arena_back(s->worker, arena);
}

struct session *session_new(struct imap_worker *worker, int fd, int out_fd, const struct imap_login *login)
{
    struct session *s = mem_zero(1, sizeof(*s));
    struct stream_limits limits = {0};
    struct error e = {0};

    s->worker = worker;
    s->id = login->id;
    s->returns = login->returns;
    s->session_id = login->session == NULL || *login->session == '\0' ? NULL : mem_strdup(login->session);
    s->local_ip = mem_strdup_null(login->local_ip);
    s->remote_ip = mem_strdup_null(login->remote_ip);
    s->log.prefix = s->session_id == NULL
                        ? mem_printf("imap(%s)<%ld>: ", login->user, (long)getpid())
                        : mem_printf("imap(%s)<%ld><%s>: ", login->user, (long)getpid(), s->session_id);
    if (service_titled())
        s->title = login->remote_ip == NULL ? mem_strdup(login->user) : mem_printf("%s %s", login->user, login->remote_ip);
    s->finished_tail = &s->finished;
    s->last_command_ns = time_monotonic_ns();
    ev_init(&s->retry, on_timer);
    ev_init(&s->alarm, on_timer);
    s->retry.data = s->alarm.data = s;
    if (open_user(s, login, &e) < 0) {
        limits.input_max = 0;
        s->io = stream_new(worker_loop(worker), fd, out_fd, &limits, &stream_handler, s);
        log_error_value(&s->log, &e);
        if (login->tag != NULL && login->rested == NULL)
            session_print(s, "%s OK Logged in, but initialization failed.", login->tag);
        session_print(s, "* BYE Internal error occurred. Refer to server log for more information.");
        end_phase(s);
        return s;
    }
    limits.input_max = conf_size(s->set, SET_imap_max_line_length) + 16384;
    s->io = stream_new(worker_loop(worker), fd, out_fd, &limits, &stream_handler, s);
    if (login->input.size > 0)
        stream_unread(s->io, login->input);
    if (login->origin != NULL && conf_secs(s->set, SET_imap_hibernate_timeout) > 0)
        s->origin = mem_strdup(login->origin);
    open_rawlog(s);
    if (login->rested == NULL)
        greet(s, login);
    else
        (void)hibernate_resume(s, login);
    s->stats.bytes_in += login->input.size; /* the stream has not read it */
    return s;
}

void session_free(struct session *s)
{
    struct request *r;

    if (s == NULL)
        return;
    (void)hibernate_cancel(s);
    ev_timer_stop(worker_loop(s->worker), &s->retry);
    ev_timer_stop(worker_loop(s->worker), &s->alarm);
    sync_free(s);
    request_free(s, s->now);
    while ((r = s->finished) != NULL) {
        s->finished = r->next;
        request_free(s, r);
    }
    session_unselect(s);
    notify_free(s);
    urlauth_remote_free(s);
    session_keywords_forget(s);
    mem_free(s->end_text);
    mem_free(s->last_command);
    compression_free(s);
    rawlog_close(&s->rawlog);
    stream_free(s->io);
    if (s->user != NULL && mail_user_has_autoexpunge(s->user))
        store_later(mail_user_autoexpunge(s->user));
    mail_user_close(&s->user);
    settings_unref(s->set);
    mem_free(s->log.prefix);
    mem_free(s->title);
    mem_free(s->local_ip);
    mem_free(s->remote_ip);
    mem_free(s->session_id);
    mem_free(s->origin);
    mem_free(s);
}

size_t session_memory(const struct session *s)
{
    size_t n = sizeof(*s) + stream_memory(s->io) + HASH_COUNT(s->keywords) * sizeof(struct session_keyword);

    if (s->now != NULL)
        n += arena_used(s->now->arena);
    if (s->view != NULL)
        n += mailbox_view_memory(s->view);
    return n;
}
