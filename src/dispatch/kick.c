/* Kicks: anvil passes `KICK ident pid` of doveadm on to the dispatcher, which names the sessions to the worker. */
#include "dispatch/dispatch_impl.h"

enum { RETRY_SECS = 5 };

struct kicks {
    struct dispatcher *dispatcher;
    struct line_conn *conn; /* NULL: not connected */
    ev_timer retry;
};

static void tell_worker(struct session *session)
{
    struct buffer out = {0};
    struct error error;

    line_begin(&out, "KICK");
    line_field_num(&out, session->request.id);
    line_field_str(&out, "Disconnected by an administrator");
    if (pool_send(session->worker, buffer_slice(&out), -1, &error) < 0)
        log_error_value(NULL, &error);
    buffer_free(&out);
}

static void take_line(void *arg, struct slice line)
{
    struct kicks *kicks = arg;
    struct slice rest = line, command, ident, pid;
    uint32_t number;

    /* Idents are compared as they were sent: escaped. */
    if (!slice_split(&rest, '\t', &command) || !slice_equal_str(command, "KICK") ||
        !slice_split(&rest, '\t', &ident) || !slice_split(&rest, '\t', &pid) || !slice_to_u32(pid, &number))
        return;
    for (struct session *s = kicks->dispatcher->sessions; s != NULL; s = s->hh.next)
        if (s->delivered && s->ident != NULL && slice_equal_str(ident, s->ident) &&
            pool_pid(s->worker) == (pid_t)number)
            tell_worker(s);
}

static void take_close(void *arg, const struct error *error)
{
    struct kicks *kicks = arg;

    (void)error;
    line_conn_free(kicks->conn);
    kicks->conn = NULL;
    ev_timer_start(kicks->dispatcher->loop, &kicks->retry);
}

static void connect_anvil(struct kicks *kicks)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = 2048};
    struct error error;
    int fd = service_connect(kicks->dispatcher->service, "anvil", &error);

    if (fd < 0) {
        ev_timer_start(kicks->dispatcher->loop, &kicks->retry);
        return;
    }
    kicks->conn = line_conn_new(kicks->dispatcher->loop, fd, &limits, &handler, kicks);
    line_conn_send_version(kicks->conn, "anvil", 1, 0);
    line_conn_print(kicks->conn, "KICK-LISTEN\n");
}

static void retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    connect_anvil(timer->data);
}

void kicks_start(struct dispatcher *d)
{
    struct kicks *kicks = mem_zero(1, sizeof(*kicks));

    kicks->dispatcher = d;
    d->kicks = kicks;
    ev_timer_init(&kicks->retry, retry, RETRY_SECS, 0.);
    kicks->retry.data = kicks;
    connect_anvil(kicks);
}
