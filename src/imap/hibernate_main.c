/* hibernate_main.c - the process libexec/imap-hibernate: waits in the place of workers (ipc 14, imap 13).
 *
 * A session at rest is its client's descriptor, a descriptor that tells of changes in its mailbox, and one line of text that
 * a worker can go on from. Nothing is read of mail, nobody's rights are held. When the client says something, or the mailbox
 * changes, the session goes to a worker again, through the dispatcher's socket imap-master.
 *
 * Nobody is lost on the way: a session is taken only where imap-master can be reached; until the worker has let go of it
 * (the end of its connection) nothing is read; and whoever gives up says so before (rpc/handoff.h). At a reload the sessions
 * stay where they are. */
#include "imap/keepalive.h"

#include "conf/conf.h"
#include "net/loop.h"
#include "rpc/anvil_client.h"
#include "rpc/handoff.h"
#include "rpc/kicks.h"
#include "rpc/service.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

/* Input longer than this is for a worker. */
enum { INPUT_MAX = 141, INPUT_SECS = 10, NEWS_SECS = 300 };

struct program {
    struct service *service;
    struct ev_loop *loop;
    char *master_path;
    char hostname[HOST_NAME_MAX + 1];
    struct parked *all;
};

/* One session. What is said of it again and again is one text; the rest is made when it is needed. */
struct parked {
    struct parked *prev, *next;
    struct program *program;
    struct handoff_conn *conn;      /* the worker still has it */
    struct handoff *back;           /* on its way to a worker */
    int fd, notify_fd;              /* notify -1: no mailbox is selected */
    bool second, acknowledged;      /* a second descriptor is to come; "+" was said to the last thing */
    bool compressed;                /* with DEFLATE: only a worker understands what comes */
    unsigned interval;
    uint64_t begun_usecs;
    char *user, *tag;
    char *prefix;                   /* of log lines (mail_log_prefix); NULL: not known yet */
    char *back_line;                /* user and fields, for imap-master */
    char *stats;                    /* of imap_logout_format */
    char *ident;                    /* told to anvil; NULL = not */
    unsigned char input[INPUT_MAX];
    size_t have;
    ev_io in, notify;
    ev_timer keepalive;
};

/* ---- the end ----------------------------------------------------------------------------------------------------------- */

static void drop(struct parked *p)
{
    struct program *program = p->program;

    ev_io_stop(program->loop, &p->in);
    ev_io_stop(program->loop, &p->notify);
    ev_timer_stop(program->loop, &p->keepalive);
    (void)handoff_free(p->back);
    handoff_conn_free(p->conn);
    if (p->ident != NULL)
        service_anvil_disconnect(program->service, getpid(), p->ident);
    if (p->fd >= 0) {
        net_loop_forget(p->fd); /* a worker may have it now, and what comes there would wake us */
        (void)close(p->fd);
    }
    if (p->notify_fd >= 0)
        (void)close(p->notify_fd);
    DL_DELETE(program->all, p);
    mem_free(p->user);
    mem_free(p->tag);
    mem_free(p->prefix);
    mem_free(p->back_line);
    mem_free(p->stats);
    mem_free(p->ident);
    mem_free(p);
    service_client_end(program->service);
}

static struct log log_of(const struct parked *p)
{
    return (struct log){.prefix = p->prefix};
}

/* Whole lines, or what the client's window takes of them. To a client with COMPRESS as a block that is stored (RFC 1951 section
 * 3.2.4), which may stand between any two. */
static ssize_t say(const struct parked *p, const char *text, size_t size)
{
    unsigned char block[5 + 512] = {0, (unsigned char)size, (unsigned char)(size >> 8), (unsigned char)~size, (unsigned char)(~size >> 8)};

    if (!p->compressed)
        return send(p->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size > sizeof(block) - 5)
        return -1;
    memcpy(block + 5, text, size);
    return send(p->fd, block, size + 5, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void disconnect(struct parked *p, const char *reason, const char *bye)
{
    char line[256];
    struct log log = log_of(p);

    log_info(&log, "Disconnected: %s %s", reason, p->stats);
    if (bye != NULL) {
        (void)snprintf(line, sizeof(line), "* BYE %s\r\n", bye);
        (void)say(p, line, strlen(line));
    }
    drop(p);
}

/* ---- back to a worker --------------------------------------------------------------------------------------------------- */

static void returned(void *arg, enum handoff_end end, const char *text)
{
    struct parked *p = arg;
    struct log log = log_of(p);

    if (end == HANDOFF_TAKEN) {
        drop(p);
        return;
    }
    log_error(&log, "Failed to unhibernate client: %s", text);
    disconnect(p, "Failed to unhibernate client", NULL);
}

/* `input` is what the worker shall read; `how`: a word that says how IDLE goes on, NULL: it ends as it should. */
static void give_back(struct parked *p, struct slice input, const char *how, double seconds)
{
    struct handoff_job job = {.path = p->program->master_path, .protocol = "imap-master", .fd = p->fd, .second_fd = -1,
                              .seconds = seconds, .retry = true};
    struct buffer line = {0}, text = {0};
    char started[40];

    ev_io_stop(p->program->loop, &p->in);
    ev_io_stop(p->program->loop, &p->notify);
    ev_timer_stop(p->program->loop, &p->keepalive);
    buffer_append_str(&line, p->back_line);
    (void)snprintf(started, sizeof(started), "%llu.%06u", (unsigned long long)(p->begun_usecs / 1000000),
                   (unsigned)(p->begun_usecs % 1000000));
    line_pair(&line, "hibernation_started", started);
    line_pair(&line, "tag", p->tag);
    if (input.size > 0) {
        text_base64_encode(&text, input);
        line_pair(&line, "client_input", buffer_cstr(&text));
        buffer_free(&text);
    }
    if (how != NULL)
        line_field_str(&line, how);
    job.line = buffer_slice(&line);
    p->back = handoff_start(p->program->loop, &job, returned, p);
    buffer_free(&line);
}

static void on_notify(struct ev_loop *loop, ev_io *w, int events)
{
    struct parked *p = w->data;

    (void)loop, (void)events;
    give_back(p, slice_of(p->input, p->have), "idle-continue", NEWS_SECS);
}

/* ---- the client --------------------------------------------------------------------------------------------------------- */

static void plan_keepalive(struct parked *p)
{
    uint64_t at = keepalive_next(p->user, p->interval), now = time_monotonic_ns();

    if (at == 0)
        return;
    ev_timer_stop(p->program->loop, &p->keepalive);
    ev_timer_set(&p->keepalive, at > now ? (double)(at - now) / 1e9 : 0., 0.);
    ev_timer_start(p->program->loop, &p->keepalive);
}

static void on_keepalive(struct ev_loop *loop, ev_timer *w, int events)
{
    static const char text[] = "* OK Still here\r\n";
    struct parked *p = w->data;

    (void)loop, (void)events;
    /* A client whose window is full has been told enough. */
    (void)say(p, text, sizeof(text) - 1);
    plan_keepalive(p);
}

/* "DONE" and its line's end in front of what has come: its length; 0: not yet; -1: something else. */
static ptrdiff_t find_done(struct slice in)
{
    static const char word[] = "DONE";
    size_t n = in.size < 4 ? in.size : 4;

    if (!slice_equal_nocase(slice_head(in, n), slice_of(word, n)))
        return -1;
    if (in.size > 4 && in.at[4] == '\n')
        return 5;
    if (in.size > 4 && in.at[4] != '\r')
        return -1;
    if (in.size > 5)
        return in.at[5] == '\n' ? 6 : -1;
    return 0;
}

/* "tag IDLE" and nothing else, as clients renew it: the new tag. */
static bool is_idle_again(struct slice in, struct slice *tag)
{
    struct slice rest;

    if (!slice_ends(in, SLICE("\n")) || slice_find(in, '\n') != (ptrdiff_t)in.size - 1)
        return false;
    in = slice_head(in, in.size - 1);
    if (slice_ends(in, SLICE("\r")))
        in = slice_head(in, in.size - 1);
    rest = in;
    if (!slice_split(&rest, ' ', tag) || tag->size == 0 || !slice_equal_str_nocase(rest, "IDLE"))
        return false;
    for (size_t i = 0; i < tag->size; i++) /* what else it could be, a worker says */
        if (tag->at[i] <= ' ' || tag->at[i] >= 0x7f || strchr("(){%*\"\\+", tag->at[i]) != NULL)
            return false;
    return true;
}

static bool answer_here(struct parked *p, struct slice tag)
{
    struct buffer out = {0};
    ssize_t n;
    bool sent;

    buffer_printf(&out, "%s OK Idle completed.\r\n+ idling\r\n", p->tag);
    n = send(p->fd, out.at, out.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    sent = n == (ssize_t)out.size;
    buffer_free(&out);
    if (sent) {
        mem_free(p->tag);
        p->tag = mem_strndup(tag);
        p->have = 0;
        plan_keepalive(p);
    } else if (n > 0) { /* half a line is out: nobody can go on from there */
        disconnect(p, "Client output buffer is full", NULL);
        return true;
    }
    return sent;
}

static void take_input(struct parked *p)
{
    struct slice in = slice_of(p->input, p->have), rest, tag;
    ptrdiff_t done;

    if (p->compressed) {
        give_back(p, in, "idle-continue", INPUT_SECS);
        return;
    }
    done = find_done(in);
    if (done == 0)
        return;
    if (done < 0) {
        give_back(p, in, "bad-done", INPUT_SECS);
        return;
    }
    rest = slice_from(in, (size_t)done);
    if (is_idle_again(rest, &tag) && answer_here(p, tag))
        return;
    give_back(p, rest, NULL, INPUT_SECS);
}

static void on_input(struct ev_loop *loop, ev_io *w, int events)
{
    struct parked *p = w->data;
    ssize_t n = recv(p->fd, p->input + p->have, sizeof(p->input) - p->have, MSG_DONTWAIT);

    (void)loop, (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        disconnect(p, n < 0 && errno != ECONNRESET ? strerror(errno) : "Connection closed", NULL);
        return;
    }
    p->have += (size_t)n;
    take_input(p);
}

/* ---- from a worker ------------------------------------------------------------------------------------------------------ */

static void begin(struct parked *p)
{
    ev_io_init(&p->in, on_input, p->fd, EV_READ);
    ev_io_start(p->program->loop, &p->in);
    if (p->notify_fd >= 0) {
        ev_io_init(&p->notify, on_notify, p->notify_fd, EV_READ);
        ev_io_start(p->program->loop, &p->notify);
    }
    p->in.data = p->notify.data = p;
    plan_keepalive(p);
}

/* The line for imap-master: all that is not ours alone, in the same order. */
static char *make_back_line(const struct slice *fields, size_t count)
{
    static const char *const own[] = {"tag=", "stats=", "idle-cmd", "notify_fd", "idle_notify_interval=", "mailbox=", "uid=", "gid="};
    struct buffer line = {0};
    char *text;

    line_begin(&line, "");
    text_tab_escape(&line, fields[0]);
    for (size_t i = 2; i < count; i++) {
        bool keep = true;

        for (size_t k = 0; k < sizeof(own) / sizeof(own[0]); k++)
            keep = keep && !slice_starts(fields[i], slice_from_str(own[k]));
        if (keep)
            line_field(&line, fields[i]);
    }
    text = mem_strndup(buffer_slice(&line));
    buffer_free(&line);
    return text;
}

static const char *text_of(const struct rpc_fields *fields, const char *key)
{
    const char *text = rpc_fields_get(fields, key);

    return text == NULL ? "" : text;
}

/* The name that was given at the login: a field of the userdb. NULL: the user's own. */
static const char *auth_user_of(struct arena *arena, const struct rpc_fields *fields)
{
    struct slice all = slice_from_str(text_of(fields, "userdb_fields")), field;

    while (slice_split(&all, '\t', &field)) {
        if (slice_starts(field, SLICE("auth_user=")))
            return arena_str(arena, slice_from(field, strlen("auth_user=")));
    }
    return NULL;
}

/* mail_log_prefix as the worker has it, with this process's name and pid. */
static char *make_prefix(const struct parked *p, struct arena *arena, struct slice template, const struct rpc_fields *fields)
{
    const struct conf_user values = {
        .name = p->user, .auth_user = auth_user_of(arena, fields), .service = service_name(p->program->service),
        .local_ip = text_of(fields, "lip"), .remote_ip = text_of(fields, "rip"), .uid = text_of(fields, "uid"), .gid = text_of(fields, "gid"),
        .session = text_of(fields, "session"), .hostname = p->program->hostname, .home = "", .has_home = true};
    struct conf_var table[CONF_USER_VARS];
    const struct conf_vars vars = {table, NULL, NULL, NULL};
    struct error e;

    conf_user_vars(arena, &values, table);
    return mem_strdup(conf_expand(arena, arena_str(arena, template), &vars, NULL, &e));
}

static void tell_anvil(struct parked *p, struct arena *arena, const struct rpc_fields *fields)
{
    const char *ip = rpc_fields_get(fields, "rip");

    p->ident = mem_strdup(anvil_ident(arena, "imap", ip == NULL ? "" : ip, p->user));
    service_anvil_connect(p->program->service, getpid(), p->ident);
}

static void acknowledge(struct parked *p)
{
    p->acknowledged = handoff_reply(p->conn, NULL);
}

static void take_line(void *arg, struct handoff_conn *conn, const struct slice *fields, size_t count, int fd)
{
    struct parked *p = arg;
    struct arena *arena = arena_new();
    struct rpc_fields all = rpc_fields_parse(arena, fields, count, 2);
    const char *tag = rpc_fields_get(&all, "tag"), *interval = rpc_fields_get(&all, "idle_notify_interval"),
               *stats = rpc_fields_get(&all, "stats");
    struct timespec now;
    uint32_t secs;

    p->fd = fd;
    p->user = arena_str(arena, fields[0]);
    if (count < 2 || fields[0].size == 0 || tag == NULL) {
        (void)handoff_reply(conn, count < 2 ? "Missing user or log prefix" : "Missing tag");
    } else if (access(p->program->master_path, R_OK | W_OK) < 0) {
        char problem[512];

        /* The original finds out when the client says DONE, and has lost it then. */
        (void)snprintf(problem, sizeof(problem), "net_connect_unix(%s) failed: %s", p->program->master_path, strerror(errno));
        (void)handoff_reply(conn, problem);
    } else {
        p->user = mem_strdup(p->user);
        p->tag = mem_strdup(tag);
        p->prefix = make_prefix(p, arena, fields[1], &all);
        p->stats = mem_strdup(stats == NULL ? "" : stats);
        p->interval = interval != NULL && slice_to_u32(slice_from_str(interval), &secs) ? secs : 0;
        p->back_line = make_back_line(fields, count);
        p->second = rpc_fields_has(&all, "notify_fd");
        p->compressed = rpc_fields_has(&all, "compress");
        (void)clock_gettime(CLOCK_REALTIME, &now);
        p->begun_usecs = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
        tell_anvil(p, arena, &all);
        acknowledge(p);
        arena_free(arena);
        return;
    }
    p->user = NULL;
    arena_free(arena);
}

static void take_second(void *arg, struct handoff_conn *conn, int fd)
{
    struct parked *p = arg;

    (void)conn;
    if (p->notify_fd >= 0 || !p->second) {
        (void)close(fd);
        p->acknowledged = false;
        return;
    }
    p->notify_fd = fd;
    p->second = false;
    acknowledge(p);
}

/* The worker has let go of it, or has never given it whole. */
static void take_end(void *arg, struct handoff_conn *conn)
{
    struct parked *p = arg;

    p->conn = NULL;
    handoff_conn_free(conn);
    if (p->acknowledged && !p->second)
        begin(p);
    else
        drop(p);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    static const struct handoff_handler handler = {.line = take_line, .second = take_second, .closed = take_end};
    struct program *program = arg;
    struct parked *p = mem_zero(1, sizeof(*p));

    (void)listener;
    p->program = program;
    p->fd = p->notify_fd = -1;
    ev_init(&p->in, on_input);
    ev_init(&p->notify, on_notify);
    ev_timer_init(&p->keepalive, on_keepalive, 0., 0.);
    p->keepalive.data = p;
    DL_APPEND(program->all, p);
    p->conn = handoff_conn_new(program->loop, fd, "imap-hibernate", &handler, p);
}

/* ---- the process --------------------------------------------------------------------------------------------------------- */

static void shut_down(struct program *program)
{
    struct parked *p, *next;

    DL_FOREACH_SAFE (program->all, p, next) {
        if (p->conn == NULL)
            disconnect(p, "Shutting down", "Server shutting down.");
        else
            drop(p);
    }
}

static void finishing(void *arg, bool now)
{
    if (now)
        shut_down(arg);
}

static void terminate(void *arg)
{
    shut_down(arg);
}

static void kick(void *arg, struct slice ident, pid_t pid)
{
    static const char text[] = "Disconnected by an administrator";
    struct program *program = arg;
    struct parked *p, *next;

    if (pid != getpid())
        return;
    DL_FOREACH_SAFE (program->all, p, next) {
        if (p->conn == NULL && p->back == NULL && p->ident != NULL && slice_equal_str(ident, p->ident))
            disconnect(p, text, text);
    }
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "imap-hibernate"};
    static const struct service_handler handler = {.connected = connected, .finishing = finishing, .terminate = terminate};
    struct program program = {0};

    program.service = service_init(argc, argv, &options, &program);
    program.loop = service_loop(program.service);
    (void)gethostname(program.hostname, sizeof(program.hostname) - 1);
    program.master_path = mem_printf("%s/imap-master", service_base_dir(program.service));
    if (!service_standalone(program.service))
        (void)kicks_start(program.service, kick, &program);
    service_drop_privileges(program.service, 0);
    service_ready(program.service, &handler, &program);
    return service_run(program.service);
}
