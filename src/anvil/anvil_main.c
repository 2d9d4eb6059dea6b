/* libexec/anvil: connection counts and penalties for everybody (ipc 6). Chrooted into an empty folder; opens nothing.
 *
 * Lines come from three sides: 7, master alone (KILL); 8, the pipe of all services (CONNECT, DISCONNECT); and clients
 * of the sockets `anvil` and `anvil-auth-penalty`, who ask. anvil outlives reloads: master sends the new log pipe over
 * descriptor 4.
 *
 * Ours beside Dovecot's commands: a dispatcher says KICK-LISTEN, and `KICK ident pid` of a client is passed on to all
 * of them ("+" when such a connection is known, else "-"); they tell the worker that has the session.
 * Nobody waits for what comes in the pipes: after a read they rest for a moment, so that one turn takes the connections of many
 * logins. Whoever asks is told what was in them.
 * `CONNECT pid ident owner` names the process that speaks for pid: when it dies, its entries go too. */
#include "anvil/anvil.h"
#include "net/fdpass.h"
#include "rpc/line.h"
#include "rpc/service.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <stdlib.h>
#include <utlist.h>

#define REST_SECS 0.01
enum { LINE_MOST = 1024, OUTPUT_MOST = 64 << 20, FD_LOG_SOCKET = 4, FD_MASTER = 7 };

struct peer {
    struct state *state;
    struct line_conn *conn;   /* NULL: one of the pipes */
    bool greeted, master, kicks;
    struct peer *prev, *next;
    struct buffer input;      /* of a pipe */
    ev_io watcher;
    ev_timer rest;            /* until the pipe is looked at again */
};

struct state {
    struct service *service;
    struct anvil_connections *connections;
    struct anvil_penalties *penalties;
    struct peer *peers;
    struct peer *pipes;
    ev_io log_watcher;
    bool restarted;                /* another one has died: of the connections that end some are unknown */
};

/* ---- answers --------------------------------------------------------------------------------------------------- */

static void print_connection(void *arg, struct slice ident, pid_t pid, uint32_t count)
{
    struct buffer *out = arg;

    buffer_append_slice(out, ident); /* is kept as it came: escaped */
    buffer_printf(out, "\t%ld\t%u\n", (long)pid, count);
}

static void print_penalty(void *arg, struct slice ident, uint32_t penalty, time_t last, time_t update)
{
    struct buffer *out = arg;

    buffer_append_slice(out, ident);
    buffer_printf(out, "\t%u\t%lld\t%lld\n", penalty, (long long)last, (long long)update);
}

static void reply(struct peer *peer, struct buffer *out)
{
    if (peer->conn != NULL)
        line_conn_send(peer->conn, buffer_slice(out));
    buffer_free(out);
}

static void dump_connections(struct peer *peer)
{
    struct buffer out = {0};

    anvil_connections_each(peer->state->connections, print_connection, &out);
    buffer_append_byte(&out, '\n');
    reply(peer, &out);
}

static void dump_penalties(struct peer *peer)
{
    struct buffer out = {0};

    anvil_penalties_each(peer->state->penalties, time(NULL), print_penalty, &out);
    buffer_append_byte(&out, '\n');
    reply(peer, &out);
}

static void answer_number(struct peer *peer, uint32_t number)
{
    struct buffer out = {0};

    buffer_printf(&out, "%u\n", number);
    reply(peer, &out);
}

static void answer_penalty(struct peer *peer, struct slice ident)
{
    struct buffer out = {0};
    time_t last;
    uint32_t value = anvil_penalties_get(peer->state->penalties, ident, time(NULL), &last);

    buffer_printf(&out, "%u %lld\n", value, (long long)last);
    reply(peer, &out);
}

static void kick(struct peer *peer, struct slice ident, uint32_t pid)
{
    struct buffer line = {0}, out = {0};
    bool known = anvil_connections_has(peer->state->connections, ident, (pid_t)pid);

    buffer_append_str(&line, "KICK\t");
    buffer_append_slice(&line, ident);
    buffer_printf(&line, "\t%u\n", pid);
    for (struct peer *at = peer->state->peers; known && at != NULL; at = at->next)
        if (at->kicks)
            line_conn_send(at->conn, buffer_slice(&line));
    buffer_free(&line);
    buffer_append_str(&out, known ? "+\n" : "-\n");
    reply(peer, &out);
}

/* ---- commands -------------------------------------------------------------------------------------------------- */

/* Fields are not unescaped: an ident is a name for equality, and is printed as it came. */
enum { FIELDS_MOST = 4 };

static size_t split(struct slice line, struct slice fields[FIELDS_MOST])
{
    struct slice rest = line;
    size_t n = 0;

    while (n < FIELDS_MOST && slice_split(&rest, '\t', &fields[n]))
        n++;
    return n;
}

static int take_connection(struct peer *peer, struct slice *fields, size_t n, bool on, struct error *error)
{
    uint32_t pid, owner = 0;

    if (n < 3)
        return error_set(error, ERROR_INVALID, "%s: Not enough parameters", on ? "CONNECT" : "DISCONNECT");
    if (!slice_to_u32(fields[1], &pid))
        return error_set(error, ERROR_INVALID, "%s: Invalid pid", on ? "CONNECT" : "DISCONNECT");
    if (n > 3 && !slice_to_u32(fields[3], &owner))
        return error_set(error, ERROR_INVALID, "CONNECT: Invalid owner");
    if (on)
        anvil_connections_add(peer->state->connections, fields[2], (pid_t)pid, (pid_t)owner);
    else if (!anvil_connections_remove(peer->state->connections, fields[2], (pid_t)pid) && !peer->state->restarted)
        log_error(NULL, "connect limit: disconnection for unknown pid %u + ident %.*s", pid, (int)fields[2].size,
                  (const char *)fields[2].at);
    return 0;
}

static int take_penalty(struct peer *peer, struct slice *fields, size_t n, struct error *error)
{
    uint32_t checksum, value;

    if (n < 4)
        return error_set(error, ERROR_INVALID, "PENALTY-INC: Not enough parameters");
    if (!slice_to_u32(fields[2], &checksum) || !slice_to_u32(fields[3], &value) || value > ANVIL_PENALTY_MOST)
        return error_set(error, ERROR_INVALID, "PENALTY-INC: Invalid parameters");
    anvil_penalties_set(peer->state->penalties, fields[1], checksum, value, time(NULL));
    return 0;
}

static int take_command(struct peer *peer, struct slice line, struct error *error)
{
    struct slice fields[FIELDS_MOST];
    size_t n = split(line, fields);
    uint32_t number;

    if (n == 0)
        return error_set(error, ERROR_INVALID, "Empty command");
    if (slice_equal_str(fields[0], "CONNECT"))
        return take_connection(peer, fields, n, true, error);
    if (slice_equal_str(fields[0], "DISCONNECT"))
        return take_connection(peer, fields, n, false, error);
    if (slice_equal_str(fields[0], "CONNECT-DUMP")) {
        dump_connections(peer);
    } else if (slice_equal_str(fields[0], "KILL")) {
        if (!peer->master)
            return error_set(error, ERROR_PERMISSION, "KILL sent by a non-master connection");
        if (n < 2 || !slice_to_u32(fields[1], &number))
            return error_set(error, ERROR_INVALID, "KILL: Invalid pid");
        anvil_connections_forget(peer->state->connections, (pid_t)number);
    } else if (slice_equal_str(fields[0], "LOOKUP")) {
        if (n < 2)
            return error_set(error, ERROR_INVALID, "LOOKUP: Not enough parameters");
        answer_number(peer, anvil_connections_count(peer->state->connections, fields[1]));
    } else if (slice_equal_str(fields[0], "PENALTY-GET")) {
        if (n < 2)
            return error_set(error, ERROR_INVALID, "PENALTY-GET: Not enough parameters");
        answer_penalty(peer, fields[1]);
    } else if (slice_equal_str(fields[0], "PENALTY-INC")) {
        return take_penalty(peer, fields, n, error);
    } else if (slice_equal_str(fields[0], "PENALTY-SET-EXPIRE-SECS")) {
        if (n < 2 || !slice_to_u32(fields[1], &number))
            return error_set(error, ERROR_INVALID, "PENALTY-SET-EXPIRE-SECS: Invalid parameters");
        anvil_penalties_expire_secs(peer->state->penalties, number);
    } else if (slice_equal_str(fields[0], "PENALTY-DUMP")) {
        dump_penalties(peer);
    } else if (slice_equal_str(fields[0], "KICK-LISTEN") && peer->conn != NULL) {
        peer->kicks = true;
    } else if (slice_equal_str(fields[0], "KICK") && n >= 3 && slice_to_u32(fields[2], &number)) {
        kick(peer, fields[1], number);
    } else {
        return error_set(error, ERROR_INVALID, "Unknown command: %.*s", (int)fields[0].size,
                         (const char *)fields[0].at);
    }
    return 0;
}

/* VERSION comes first, but after a crash of anvil KILL can stand before it on master's pipe (ipc 2.1). */
static int take_any(struct peer *peer, struct slice line, struct error *error)
{
    unsigned minor;
    bool version = slice_starts(line, SLICE("VERSION\t"));

    if (peer->greeted || (!version && peer->conn == NULL)) {
        if (take_command(peer, line, error) == 0)
            return 0;
        return error_context(error, "Anvil client input error: ");
    }
    peer->greeted = true;
    if (version && line_check_version(line, "anvil", 1, &minor, error) == 0)
        return 0;
    return error_set(error, ERROR_INVALID,
                     "Anvil client not compatible with this server (mixed old and new binaries?) %.*s",
                     (int)slice_head(line, 200).size, (const char *)line.at);
}

/* ---- pipes ----------------------------------------------------------------------------------------------------- */

/* False: its end. */
static bool read_pipe(struct peer *peer)
{
    unsigned char chunk[65536]; /* all that a pipe holds */
    ssize_t n = read(peer->watcher.fd, chunk, sizeof(chunk));
    size_t done = 0;
    ptrdiff_t end;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    buffer_append(&peer->input, chunk, (size_t)n);
    while ((end = slice_find(slice_from(buffer_slice(&peer->input), done), '\n')) >= 0) {
        struct slice line = slice_head(slice_from(buffer_slice(&peer->input), done), (size_t)end);
        struct error error = {0};

        if (take_any(peer, line, &error) < 0)
            log_error_value(NULL, &error);
        done += (size_t)end + 1;
    }
    buffer_drop(&peer->input, done);
    if (peer->input.size > LINE_MOST) {
        log_error(NULL, "Anvil client input error: A line is too long");
        buffer_reset(&peer->input);
    }
    return true;
}

static void pipe_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct peer *peer = watcher->data;

    (void)events;
    ev_io_stop(loop, watcher);
    if (!read_pipe(peer))
        return;
    ev_timer_set(&peer->rest, REST_SECS, 0.);
    ev_timer_start(loop, &peer->rest);
}

static void rested(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct peer *peer = timer->data;

    (void)events;
    ev_io_start(loop, &peer->watcher);
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

static void take_line(void *arg, struct slice line)
{
    struct peer *peer = arg;
    struct error error = {0};

    for (struct peer *pipe = peer->state->pipes; pipe != NULL; pipe = pipe->next)
        (void)read_pipe(pipe); /* what was written before the question counts */
    if (take_any(peer, line, &error) == 0)
        return;
    log_error_value(NULL, &error);
    (void)line_conn_flush(peer->conn); /* what was asked before is answered */
    line_conn_fail(peer->conn, &error);
}

static void take_close(void *arg, const struct error *error)
{
    struct peer *peer = arg;
    struct state *state = peer->state;

    (void)error;
    DL_DELETE(state->peers, peer);
    line_conn_free(peer->conn);
    mem_free(peer);
    service_client_end(state->service);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = LINE_MOST, .output_max = OUTPUT_MOST};
    struct state *state = arg;
    struct peer *peer = mem_zero(1, sizeof(*peer));

    peer->state = state;
    if (listener->fifo) {
        peer->master = fd == FD_MASTER;
        os_never_block(fd);
        ev_io_init(&peer->watcher, pipe_ready, fd, EV_READ);
        ev_timer_init(&peer->rest, rested, REST_SECS, 0.);
        peer->watcher.data = peer->rest.data = peer;
        DL_APPEND(state->pipes, peer);
        ev_io_start(service_loop(state->service), &peer->watcher);
        return;
    }
    peer->conn = line_conn_new(service_loop(state->service), fd, &limits, &handler, peer);
    DL_APPEND(state->peers, peer);
}

/* After a reload there is a new log process with new pipes. */
static void new_log(struct ev_loop *loop, ev_io *watcher, int events)
{
    unsigned char byte;
    int fd = -1;
    ssize_t n = net_receive_fd(FD_LOG_SOCKET, &byte, 1, &fd);

    (void)events;
    if (n == 0)
        ev_io_stop(loop, watcher);
    if (fd >= 0) {
        (void)dup2(fd, STDERR_FILENO);
        (void)close(fd);
    }
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "anvil", .flags = SERVICE_NO_CONFIG | SERVICE_NO_IDLE_EXIT};
    static const struct service_handler handler = {.connected = connected};
    struct state state = {0};

    state.service = service_init(argc, argv, &options, &state);
    state.connections = anvil_connections_new();
    state.restarted = getenv("ANVIL_RESTARTED") != NULL;
    state.penalties = anvil_penalties_new();
    service_drop_privileges(state.service, 0);
    if (!service_standalone(state.service)) {
        ev_io_init(&state.log_watcher, new_log, FD_LOG_SOCKET, EV_READ);
        state.log_watcher.data = &state;
        ev_io_start(service_loop(state.service), &state.log_watcher);
    }
    service_ready(state.service, &handler, &state);
    return service_run(state.service);
}
