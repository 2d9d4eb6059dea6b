/* kicks.c - see kicks.h. */
#include "rpc/kicks.h"

#include "rpc/line.h"

enum { RETRY_SECS = 5 };

struct kicks {
    struct service *service;
    void (*kick)(void *arg, struct slice ident, pid_t);
    void *arg;
    struct line_conn *conn; /* NULL: not connected */
    ev_timer retry;
};

static void take_line(void *arg, struct slice line)
{
    struct kicks *kicks = arg;
    struct slice rest = line, command, ident, pid;
    uint32_t number;

    /* Idents are compared as they were sent: escaped. */
    if (!slice_split(&rest, '\t', &command) || !slice_equal_str(command, "KICK") ||
        !slice_split(&rest, '\t', &ident) || !slice_split(&rest, '\t', &pid) || !slice_to_u32(pid, &number))
        return;
    kicks->kick(kicks->arg, ident, (pid_t)number);
}

static void take_close(void *arg, const struct error *error)
{
    struct kicks *kicks = arg;

    (void)error;
    line_conn_free(kicks->conn);
    kicks->conn = NULL;
    ev_timer_start(service_loop(kicks->service), &kicks->retry);
}

static void connect_anvil(struct kicks *kicks)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = 2048};
    struct error error;
    int fd = service_connect(kicks->service, "anvil", &error);

    if (fd < 0) {
        ev_timer_start(service_loop(kicks->service), &kicks->retry);
        return;
    }
    kicks->conn = line_conn_new(service_loop(kicks->service), fd, &limits, &handler, kicks);
    line_conn_send_version(kicks->conn, "anvil", 1, 0);
    line_conn_print(kicks->conn, "KICK-LISTEN\n");
}

static void retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    connect_anvil(timer->data);
}

struct kicks *kicks_start(struct service *service, void (*kick)(void *arg, struct slice ident, pid_t), void *arg)
{
    struct kicks *kicks = mem_zero(1, sizeof(*kicks));

    kicks->service = service;
    kicks->kick = kick;
    kicks->arg = arg;
    ev_timer_init(&kicks->retry, retry, RETRY_SECS, 0.);
    kicks->retry.data = kicks;
    connect_anvil(kicks);
    return kicks;
}
