/* libexec/dict: dictionaries for processes that shall not reach them themselves, quota above all (ipc 10).
 *
 * Listeners `dict` and `dict-async`. `dict { name = uri }` says which dictionaries there are; they are opened for each
 * connection, as Dovecot does, so a process keeps nothing of another client. Requests are answered one after the other: a
 * database may make a connection wait, which is why Dovecot's default gives each client a process (client_limit = 1). A held
 * lock of a file is waited for on a timer. */
#include "dict/dict_conn.h"
#include "dict/dict_sql.h"
#include "rpc/line.h"
#include "rpc/service.h"

enum { LINE_MOST = 64 * 1024, OUTPUT_MOST = 64 << 20, HELD_MOST = 8 << 20 };
#define LOCK_SECS 0.002
#define LOCK_MOST_NS (120ull * 1000000000ull)

struct state {
    struct service *service;
    struct settings *settings;
};

struct peer {
    struct state *state;
    struct line_conn *line;
    struct dict_conn *conn;
    /* While a lock is held by somebody: the line that waits and those that came after it. */
    struct buffer held;
    ev_timer timer;
    uint64_t begun;
    bool ended;
};

static bool open_dict(void *arg, const char *name, struct dict **out)
{
    static const struct dict_driver *const more[] = {&dict_driver_sqlite, NULL};
    struct peer *peer = arg;
    const struct dict_settings settings = {.base_dir = service_base_dir(peer->state->service), .more = more};
    const char *uri = conf_dict(peer->state->settings, name);
    struct error e;

    if (uri == NULL)
        log_error(NULL, "Unconfigured dictionary name '%s'", name);
    else if (dict_open(out, uri, &settings, &e) == 0)
        return true;
    else
        log_error(NULL, "%s: Failed to initialize dictionary '%s': %s", name, name, e.admin);
    return false;
}

static void send_lines(void *arg, struct slice lines)
{
    struct peer *peer = arg;

    line_conn_send(peer->line, lines);
}

static void finish(struct peer *peer, struct error *e)
{
    peer->ended = true;
    if (e->class != ERROR_NONE)
        log_error_value(NULL, e);
    (void)line_conn_flush(peer->line); /* what was asked before is answered */
    line_conn_fail(peer->line, e);
}

static void hold(struct peer *peer, struct slice line)
{
    struct error e = {0};

    if (peer->held.size + line.size > HELD_MOST) {
        error_set(&e, ERROR_LIMIT, "Too much input while a lock is waited for");
        finish(peer, &e);
        return;
    }
    buffer_append_slice(&peer->held, line);
    buffer_append_byte(&peer->held, '\n');
}

/* False: a lock is held, the line has to come again. */
static bool take_one(struct peer *peer, struct slice line)
{
    struct error e = {0};
    enum dict_input r = dict_conn_take(peer->conn, line, &e);

    if (r == DICT_END)
        finish(peer, &e);
    return r != DICT_AGAIN;
}

static void take_line(void *arg, struct slice line)
{
    struct peer *peer = arg;

    if (peer->ended)
        return;
    if (peer->held.size > 0) {
        hold(peer, line);
        return;
    }
    if (take_one(peer, line))
        return;
    peer->begun = time_monotonic_ns();
    hold(peer, line);
    ev_timer_set(&peer->timer, LOCK_SECS, LOCK_SECS);
    ev_timer_start(service_loop(peer->state->service), &peer->timer);
}

static void try_again(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct peer *peer = timer->data;
    struct error e = {0};
    size_t done = 0;

    (void)events;
    while (!peer->ended && done < peer->held.size) {
        struct slice rest = slice_from(buffer_slice(&peer->held), done), line;

        (void)slice_split(&rest, '\n', &line);
        if (!take_one(peer, line))
            break;
        done += line.size + 1;
        peer->begun = time_monotonic_ns();
    }
    buffer_drop(&peer->held, done < peer->held.size ? done : peer->held.size);
    if (peer->held.size > 0 && !peer->ended && time_monotonic_ns() - peer->begun > LOCK_MOST_NS) {
        error_set(&e, ERROR_LOCK_TIMEOUT, "Timeout while waiting for lock");
        finish(peer, &e);
    }
    if (peer->held.size == 0 || peer->ended)
        ev_timer_stop(loop, timer);
}

static void take_close(void *arg, const struct error *error)
{
    struct peer *peer = arg;
    struct state *state = peer->state;

    (void)error;
    ev_timer_stop(service_loop(state->service), &peer->timer);
    buffer_free(&peer->held);
    line_conn_free(peer->line);
    dict_conn_free(peer->conn);
    mem_free(peer);
    service_client_end(state->service);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = LINE_MOST, .output_max = OUTPUT_MOST};
    static const struct dict_conn_handler dict_handler = {open_dict, send_lines};
    struct state *state = arg;
    struct peer *peer = mem_zero(1, sizeof(*peer));

    (void)listener;
    peer->state = state;
    ev_init(&peer->timer, try_again);
    peer->timer.data = peer;
    peer->conn = dict_conn_new(&dict_handler, peer);
    peer->line = line_conn_new(service_loop(state->service), fd, &limits, &handler, peer);
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "dict"};
    static const struct service_handler handler = {.connected = connected};
    struct state state = {0};
    struct error e;
    int status;

    state.service = service_init(argc, argv, &options, &state);
    service_drop_privileges(state.service, 0);
    state.settings = conf_settings(service_conf(state.service), NULL, &e);
    if (state.settings == NULL)
        log_fatal(89, "%s", e.admin);
    service_ready(state.service, &handler, &state);
    status = service_run(state.service);
    settings_unref(state.settings);
    return status;
}
