/* handoff.c - giving and taking sessions (handoff.h). */
#include "rpc/handoff.h"

#include "net/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_SECS 0.1
enum { READ_PIECE = 4096, REPLY_MAX = 1024 };

/* ---- giving ---------------------------------------------------------------------------------------------------------- */

struct handoff {
    struct ev_loop *loop;
    char *path, *protocol;
    struct buffer line;
    int peer;                  /* the connection, -1: not connected */
    int fd, second_fd;
    bool retry, over;
    size_t sent;               /* of `line`; the descriptor goes with its first byte */
    enum { GIVE_LINE, GIVE_REPLY, GIVE_SECOND, GIVE_REPLY2 } at;
    struct buffer reply;
    bool versioned;            /* the peer's VERSION was read */
    ev_io io;
    ev_timer again, timeout;
    handoff_done *done;
    void *arg;
    char *problem;             /* of the last attempt */
    size_t head;               /* bytes of `line` that are the VERSION line: no descriptor goes with them */
};

static void finish(struct handoff *h, enum handoff_end end, const char *text)
{
    if (h->over)
        return;
    h->over = true;
    ev_io_stop(h->loop, &h->io);
    ev_timer_stop(h->loop, &h->again);
    ev_timer_stop(h->loop, &h->timeout);
    h->done(h->arg, end, text);
}

static void disconnect(struct handoff *h)
{
    ev_io_stop(h->loop, &h->io);
    if (h->peer >= 0)
        (void)close(h->peer);
    h->peer = -1;
    buffer_free(&h->reply);
}

static void fail(struct handoff *h, const struct error *e)
{
    disconnect(h);
    mem_free(h->problem);
    h->problem = mem_strdup(e->admin);
    if (h->retry)
        ev_timer_again(h->loop, &h->again);
    else
        finish(h, HANDOFF_FAILED, h->problem);
}

/* One line of the answer, without LF. False: none yet. */
static bool next_line(struct handoff *h, struct slice *line, size_t *used)
{
    ptrdiff_t lf = slice_find(buffer_slice(&h->reply), '\n');

    if (lf < 0)
        return false;
    *line = slice_head(buffer_slice(&h->reply), (size_t)lf);
    *used = (size_t)lf + 1;
    return true;
}

static void watch(struct handoff *h, int events)
{
    ev_io_stop(h->loop, &h->io);
    ev_io_set(&h->io, h->peer, events);
    ev_io_start(h->loop, &h->io);
}

/* Takes what has been read. True: the handoff is over, or the connection was given up. */
static bool take_replies(struct handoff *h)
{
    struct slice line;
    struct error e;
    size_t used;
    unsigned minor;

    while (next_line(h, &line, &used)) {
        if (!h->versioned) {
            if (line_check_version(line, h->protocol, 1, &minor, &e) < 0) {
                h->retry = false;
                fail(h, &e);
                return true;
            }
            h->versioned = true;
            buffer_drop(&h->reply, used);
            continue;
        }
        if (line.size == 0 || line.at[0] != '+') {
            char *text = mem_strndup(slice_from(line, line.size > 0 ? 1 : 0));

            disconnect(h);
            finish(h, HANDOFF_REFUSED, text);
            mem_free(text);
            return true;
        }
        buffer_drop(&h->reply, used);
        if (h->at == GIVE_REPLY && h->second_fd >= 0) {
            h->at = GIVE_SECOND;
            watch(h, EV_READ | EV_WRITE);
            continue;
        }
        finish(h, HANDOFF_TAKEN, NULL);
        return true;
    }
    return false;
}

static void read_replies(struct handoff *h)
{
    unsigned char piece[REPLY_MAX];
    ssize_t n = read(h->peer, piece, sizeof(piece));
    struct error e;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        (void)error_sys(&e, "read", h->path);
        fail(h, &e);
    } else if (n == 0) {
        (void)error_set(&e, ERROR_TEMPORARY, "read(%s) failed: EOF", h->path);
        fail(h, &e);
    } else {
        buffer_append(&h->reply, piece, (size_t)n);
        if (!take_replies(h) && h->reply.size > REPLY_MAX) {
            (void)error_set(&e, ERROR_LIMIT, "read(%s) failed: Too long a reply", h->path);
            fail(h, &e);
        }
    }
}

/* The descriptor goes with the first byte behind the VERSION line, which is sent for itself. */
static ssize_t write_piece(struct handoff *h)
{
    struct slice rest = slice_from(buffer_slice(&h->line), h->sent);

    if (h->at == GIVE_SECOND)
        return net_send_fd(h->peer, SLICE("\n"), h->second_fd);
    if (h->sent < h->head)
        return net_send_fd(h->peer, slice_head(rest, h->head - h->sent), -1);
    if (h->sent == h->head)
        return net_send_fd(h->peer, slice_head(rest, 1), h->fd);
    return net_send_fd(h->peer, rest, -1);
}

static void write_more(struct handoff *h)
{
    while (h->peer >= 0 && (h->at == GIVE_LINE || h->at == GIVE_SECOND)) {
        ssize_t n = write_piece(h);
        struct error e;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            (void)error_sys(&e, "write", h->path);
            fail(h, &e);
            return;
        }
        if (h->at == GIVE_SECOND) {
            h->at = GIVE_REPLY2;
        } else {
            h->sent += (size_t)n;
            if (h->sent < h->line.size)
                continue;
            h->at = GIVE_REPLY;
        }
        watch(h, EV_READ);
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
    struct handoff *h = w->data;

    (void)loop;
    if ((events & EV_WRITE) != 0)
        write_more(h);
    else if ((events & EV_READ) != 0)
        read_replies(h);
}

static void attempt(struct handoff *h)
{
    struct error e;

    h->sent = 0;
    h->at = GIVE_LINE;
    h->versioned = false;
    ev_timer_stop(h->loop, &h->again);
    h->peer = line_connect(h->path, 0, &e);
    if (h->peer >= 0) {
        watch(h, EV_WRITE);
        return;
    }
    (void)error_set(&e, e.class, "net_connect_unix(%s) failed: %s", h->path, strerror(e.sys));
    fail(h, &e);
}

static void on_again(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    attempt(timer->data);
}

/* Nothing that the peer says from now on arrives; had it said "+" before? */
static bool give_up(struct handoff *h)
{
    struct slice line;
    size_t used;
    bool taken = false;

    if (h->peer < 0)
        return false;
    (void)shutdown(h->peer, SHUT_RD);
    for (;;) {
        unsigned char piece[REPLY_MAX];
        ssize_t n = recv(h->peer, piece, sizeof(piece), MSG_DONTWAIT);

        if (n <= 0)
            break;
        buffer_append(&h->reply, piece, (size_t)n);
    }
    while (next_line(h, &line, &used)) {
        if (h->versioned && line.size > 0 && line.at[0] == '+')
            taken = h->second_fd < 0 || h->at == GIVE_REPLY2;
        h->versioned = true;
        buffer_drop(&h->reply, used);
    }
    return taken;
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct handoff *h = timer->data;
    struct error e;

    (void)loop, (void)events;
    if (give_up(h)) {
        finish(h, HANDOFF_TAKEN, NULL);
        return;
    }
    h->retry = false;
    if (h->peer < 0 && h->problem != NULL)
        (void)error_set(&e, ERROR_TEMPORARY, "%s", h->problem);
    else
        (void)error_set(&e, ERROR_TEMPORARY, "read(%s) failed: Timeout", h->path);
    fail(h, &e);
}

struct handoff *handoff_start(struct ev_loop *loop, const struct handoff_job *job, handoff_done *done, void *arg)
{
    struct handoff *h = mem_zero(1, sizeof(*h));

    h->loop = loop;
    h->path = mem_strdup(job->path);
    h->protocol = mem_strdup(job->protocol);
    h->fd = job->fd;
    h->second_fd = job->second_fd;
    h->retry = job->retry;
    h->done = done;
    h->arg = arg;
    h->peer = -1;
    buffer_printf(&h->line, "VERSION\t%s\t1\t0\n", job->protocol);
    h->head = h->line.size;
    buffer_append_slice(&h->line, job->line);
    buffer_append_byte(&h->line, '\n');
    ev_init(&h->io, on_io);
    ev_init(&h->again, on_again);
    h->again.repeat = RETRY_SECS;
    ev_timer_init(&h->timeout, on_timeout, job->seconds, 0.);
    h->io.data = h->again.data = h->timeout.data = h;
    ev_timer_start(loop, &h->timeout);
    /* From the loop, so that `done` never comes before this returns. */
    ev_timer_set(&h->again, 0., RETRY_SECS);
    ev_timer_start(loop, &h->again);
    return h;
}

bool handoff_free(struct handoff *h)
{
    bool taken;

    if (h == NULL)
        return false;
    taken = !h->over && give_up(h);
    disconnect(h);
    ev_timer_stop(h->loop, &h->again);
    ev_timer_stop(h->loop, &h->timeout);
    buffer_free(&h->line);
    mem_free(h->problem);
    mem_free(h->path);
    mem_free(h->protocol);
    mem_free(h);
    return taken;
}

/* ---- taking ---------------------------------------------------------------------------------------------------------- */

struct handoff_conn {
    struct ev_loop *loop;
    int fd;
    int passed;                /* came with what is read now, -1 = none */
    const char *protocol;
    const struct handoff_handler *handler;
    void *arg;
    struct buffer input;
    bool versioned, lined, over;
    ev_io io;
    bool *gone;                /* set when it is freed inside a handler */
};

static void stop_taking(struct handoff_conn *c)
{
    if (c->over)
        return;
    c->over = true;
    ev_io_stop(c->loop, &c->io);
    c->handler->closed(c->arg, c);
}

static void take_line(struct handoff_conn *c, struct slice line)
{
    struct error e;
    unsigned minor;
    int fd = c->passed;

    if (!c->versioned) {
        c->versioned = true;
        if (line_check_version(line, c->protocol, 1, &minor, &e) < 0) {
            log_error_value(NULL, &e);
            stop_taking(c);
        }
        return;
    }
    c->passed = -1;
    if (!c->lined) {
        struct arena *arena;
        struct slice *fields;
        size_t count;

        if (fd < 0) { /* without an answer, as the original */
            log_error(NULL, "%s: IMAP client fd not received", c->protocol);
            stop_taking(c);
            return;
        }
        arena = arena_new();
        count = text_tab_fields(arena, line, &fields);
        c->lined = true;
        c->handler->line(c->arg, c, fields, count, fd);
        arena_free(arena);
    } else if (line.size == 0 && fd >= 0 && c->handler->second != NULL) {
        c->handler->second(c->arg, c, fd);
    } else {
        if (fd >= 0)
            (void)close(fd);
        log_error(NULL, "%s: Unexpected line", c->protocol);
        stop_taking(c);
    }
}

static void on_taking(struct ev_loop *loop, ev_io *w, int events)
{
    struct handoff_conn *c = w->data;
    unsigned char piece[READ_PIECE];
    bool gone = false;
    int fd;
    ssize_t n = net_receive_fd(c->fd, piece, sizeof(piece), &fd);
    ptrdiff_t lf;

    (void)loop, (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (fd >= 0) {
        if (c->passed >= 0)
            (void)close(c->passed);
        c->passed = fd;
    }
    if (n <= 0) {
        stop_taking(c);
        return;
    }
    buffer_append(&c->input, piece, (size_t)n);
    c->gone = &gone;
    while (!gone && !c->over && (lf = slice_find(buffer_slice(&c->input), '\n')) >= 0) {
        struct slice line = slice_head(buffer_slice(&c->input), (size_t)lf);

        take_line(c, line); /* its fields are copies: the handler may free the connection */
        if (!gone)
            buffer_drop(&c->input, (size_t)lf + 1);
    }
    if (gone)
        return;
    c->gone = NULL;
    if (c->input.size == 0)
        buffer_free(&c->input);
    if (c->input.size > HANDOFF_LINE_MAX) {
        log_error(NULL, "%s: Too long a line", c->protocol);
        stop_taking(c);
    }
}

struct handoff_conn *handoff_conn_new(struct ev_loop *loop, int fd, const char *protocol, const struct handoff_handler *handler,
                                      void *arg)
{
    struct handoff_conn *c = mem_zero(1, sizeof(*c));
    struct buffer hello = {0};

    c->loop = loop;
    c->fd = fd;
    c->passed = -1;
    c->protocol = protocol;
    c->handler = handler;
    c->arg = arg;
    os_never_block(fd);
    buffer_printf(&hello, "VERSION\t%s\t1\t0\n", protocol);
    (void)net_send_fd(fd, buffer_slice(&hello), -1); /* an empty socket takes it; a closed one tells so by its end */
    buffer_free(&hello);
    ev_io_init(&c->io, on_taking, fd, EV_READ);
    c->io.data = c;
    ev_io_start(loop, &c->io);
    return c;
}

bool handoff_reply(struct handoff_conn *c, const char *problem)
{
    struct buffer line = {0};
    ssize_t n;

    if (problem == NULL)
        buffer_append_str(&line, "+\n");
    else
        buffer_printf(&line, "-%s\n", problem);
    n = net_send_fd(c->fd, buffer_slice(&line), -1);
    n = n == (ssize_t)line.size ? 0 : -1;
    buffer_free(&line);
    return n == 0;
}

void handoff_conn_free(struct handoff_conn *c)
{
    if (c == NULL)
        return;
    if (c->gone != NULL)
        *c->gone = true;
    ev_io_stop(c->loop, &c->io);
    if (c->passed >= 0)
        (void)close(c->passed);
    (void)close(c->fd);
    buffer_free(&c->input);
    mem_free(c);
}
