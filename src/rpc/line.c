/* line.c - line connections on a libev loop.
 *
 * Input is read straight into a buffer that can hold the longest line plus one, and given back as soon as it is
 * empty: an idle connection owns no buffer. A handler may free the connection at any time: every function that calls
 * one looks at `gone` afterwards, which lives on its own stack.
 *
 * Output is written after the handlers of a round (an event of the lowest priority): what they have said leaves in one
 * system call, and the loop waits for room only when there was none. */
#include "rpc/line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct line_conn {
    struct ev_loop *loop;
    int fd;
    ev_io in, out;
    ev_prepare flush;       /* never started, only fed: pending while output waits that nobody has tried to write */
    ev_timer later;         /* deferred: lines that waited for output, and `closed` */
    struct line_limits limits;
    const struct line_handler *handler;
    void *arg;
    struct buffer input, output;
    size_t input_at;        /* consumed bytes of input */
    size_t output_at;       /* written bytes of output */
    bool want, paused, ended, failed, told;
    struct error failure;
    bool *gone;             /* set when the connection is freed inside a handler */
};

static void read_ready(struct ev_loop *, ev_io *, int);
static void write_ready(struct ev_loop *, ev_io *, int);
static void flush_ready(struct ev_loop *, ev_prepare *, int);
static void later_ready(struct ev_loop *, ev_timer *, int);

struct line_conn *line_conn_new(struct ev_loop *loop, int fd, const struct line_limits *limits,
                                const struct line_handler *handler, void *arg)
{
    struct line_conn *c = mem_zero(1, sizeof(*c));

    c->loop = loop;
    c->fd = fd;
    if (limits != NULL)
        c->limits = *limits;
    if (c->limits.line_max == 0)
        c->limits.line_max = 8192;
    if (c->limits.output_pause == 0)
        c->limits.output_pause = 50 * 1024;
    if (c->limits.output_max == 0)
        c->limits.output_max = 1024 * 1024;
    c->handler = handler;
    c->arg = arg;
    c->want = true;
    os_never_block(fd);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    ev_io_init(&c->in, read_ready, fd, EV_READ);
    ev_io_init(&c->out, write_ready, fd, EV_WRITE);
    ev_prepare_init(&c->flush, flush_ready);
    ev_set_priority(&c->flush, EV_MINPRI);
    ev_timer_init(&c->later, later_ready, 0., 0.);
    c->in.data = c->out.data = c->flush.data = c->later.data = c;
    ev_io_start(loop, &c->in);
    return c;
}

static void stop_writing(struct line_conn *c)
{
    ev_io_stop(c->loop, &c->out);
    ev_clear_pending(c->loop, &c->flush);
}

static void drop_buffer(struct line_conn *c, struct buffer *b)
{
    if (c->limits.secret)
        buffer_wipe(b);
    else
        buffer_free(b);
}

void line_conn_free(struct line_conn *c)
{
    if (c == NULL)
        return;
    (void)line_conn_flush(c); /* what was answered before an offence is still said */
    ev_io_stop(c->loop, &c->in);
    stop_writing(c);
    ev_timer_stop(c->loop, &c->later);
    close(c->fd);
    drop_buffer(c, &c->input);
    drop_buffer(c, &c->output);
    if (c->gone != NULL)
        *c->gone = true;
    mem_free(c);
}

int line_conn_fd(const struct line_conn *c)
{
    return c->fd;
}

const char *line_conn_peer(const struct line_conn *c, const char *name, char out[LINE_PEER_SIZE])
{
    struct ucred cred = {0};
    socklen_t size = sizeof(cred);

    (void)getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &size);
    (void)snprintf(out, LINE_PEER_SIZE, "conn unix:%s (pid=%ld,uid=%ld)", name, (long)cred.pid, (long)cred.uid);
    return out;
}

bool line_conn_full(const struct line_conn *c)
{
    return c->output.size - c->output_at > c->limits.output_pause;
}

static void call_later(struct line_conn *c)
{
    if (!ev_is_active(&c->later)) {
        ev_timer_set(&c->later, 0., 0.);
        ev_timer_start(c->loop, &c->later);
    }
}

/* Reading goes on while it is wanted, the peer reads what we answer, and nothing has ended. */
static void set_reading(struct line_conn *c)
{
    if (c->want && !c->paused && !c->ended && !c->failed)
        ev_io_start(c->loop, &c->in);
    else
        ev_io_stop(c->loop, &c->in);
}

void line_conn_want_input(struct line_conn *c, bool on)
{
    if (c->want == on)
        return;
    c->want = on;
    set_reading(c);
    if (on)
        call_later(c);
}

void line_conn_fail(struct line_conn *c, const struct error *e)
{
    if (c->failed)
        return;
    c->failed = true;
    c->failure = *e;
    ev_io_stop(c->loop, &c->in);
    stop_writing(c);
    call_later(c);
}

/* ---- input ---------------------------------------------------------------------------------------------------- */

/* Takes the next complete line out of the buffer. */
static bool next_line(struct line_conn *c, struct slice *line)
{
    struct slice rest = slice_from(buffer_slice(&c->input), c->input_at);
    ptrdiff_t end = slice_find(rest, '\n');

    if (end < 0)
        return false;
    *line = slice_head(rest, (size_t)end);
    c->input_at += (size_t)end + 1;
    if (line->size > 0 && line->at[line->size - 1] == '\r')
        line->size--;
    return true;
}

static void tidy_input(struct line_conn *c)
{
    if (c->input_at == c->input.size) {
        drop_buffer(c, &c->input);
    } else if (c->input_at > 0) {
        size_t rest = c->input.size - c->input_at;
        memmove(c->input.at, c->input.at + c->input_at, rest);
        explicit_bzero(c->input.at + rest, c->input.size - rest);
        c->input.size = rest;
    }
    c->input_at = 0;
}

/* Hands out the lines that are there. False: the connection was freed by a handler. */
static bool handle_lines(struct line_conn *c)
{
    bool gone = false, *outer = c->gone;
    struct slice line;

    c->gone = &gone;
    while (c->want && !c->paused && !c->failed && next_line(c, &line)) {
        if (line.size > c->limits.line_max) {
            struct error e;
            error_set(&e, ERROR_LIMIT, "line is longer than %zu bytes", c->limits.line_max);
            line_conn_fail(c, &e);
            break;
        }
        c->handler->line(c->arg, line);
        if (gone) {
            if (outer != NULL)
                *outer = true;
            return false;
        }
        if (line_conn_full(c))
            c->paused = true;
    }
    c->gone = outer;
    tidy_input(c);
    if (!c->failed && c->want && !c->paused && c->input.size > c->limits.line_max) {
        struct error e;
        error_set(&e, ERROR_LIMIT, "line is longer than %zu bytes", c->limits.line_max);
        line_conn_fail(c, &e);
    }
    set_reading(c);
    return true;
}

static bool holds_line(const struct line_conn *c)
{
    return slice_find(slice_from(buffer_slice(&c->input), c->input_at), '\n') >= 0;
}

static void read_ready(struct ev_loop *loop, ev_io *w, int events)
{
    struct line_conn *c = w->data;
    ssize_t n;

    (void)loop, (void)events;
    /* Room for the longest line with its CR LF and one byte that proves it too long. */
    if (c->input.room < c->limits.line_max + 3)
        buffer_reserve(&c->input, c->limits.line_max + 3 - c->input.size);
    n = read(c->fd, c->input.at + c->input.size, c->input.room - c->input.size);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        tidy_input(c);
        return;
    }
    if (n > 0) {
        c->input.size += (size_t)n;
        (void)handle_lines(c);
        return;
    }
    c->ended = true;
    if (n < 0 && errno != ECONNRESET) {
        error_sys(&c->failure, "read", NULL);
        c->failed = true;
    } else {
        error_clear(&c->failure);
    }
    set_reading(c);
    call_later(c);
}

static void later_ready(struct ev_loop *loop, ev_timer *w, int events)
{
    struct line_conn *c = w->data;

    (void)loop, (void)events;
    if (!c->failed && !handle_lines(c))
        return;
    if (c->told)
        return;
    if (c->failed || (c->ended && !holds_line(c))) {
        c->told = true;
        c->failed = true;
        ev_io_stop(c->loop, &c->in);
        stop_writing(c);
        c->handler->closed(c->arg, &c->failure);
    }
}

/* ---- output --------------------------------------------------------------------------------------------------- */

bool line_conn_flush(struct line_conn *c)
{
    while (c->output_at < c->output.size) {
        ssize_t n = send(c->fd, c->output.at + c->output_at, c->output.size - c->output_at, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == ENOTSOCK)
            n = write(c->fd, c->output.at + c->output_at, c->output.size - c->output_at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0) {
            struct error e;
            if (errno == EPIPE || errno == ECONNRESET)
                error_clear(&e);
            else
                error_sys(&e, "write", NULL);
            /* What the peer has sent before it went is still read; its end is seen there. */
            c->output_at = c->output.size;
            if (e.class != ERROR_NONE)
                line_conn_fail(c, &e);
            break;
        }
        c->output_at += (size_t)n;
    }
    drop_buffer(c, &c->output);
    c->output_at = 0;
    return true;
}

/* Writes what it can; waits for room where there was none. */
static void write_on(struct line_conn *c)
{
    if (line_conn_flush(c))
        ev_io_stop(c->loop, &c->out);
    else
        ev_io_start(c->loop, &c->out);
    if (c->paused && c->output.size - c->output_at <= c->limits.output_pause / 2) {
        c->paused = false;
        set_reading(c);
        call_later(c);
        if (c->handler->drained != NULL)
            c->handler->drained(c->arg);
    }
}

static void write_ready(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop, (void)events;
    write_on(w->data);
}

static void flush_ready(struct ev_loop *loop, ev_prepare *w, int events)
{
    (void)loop, (void)events;
    write_on(w->data);
}

void line_conn_send(struct line_conn *c, struct slice bytes)
{
    if (c->failed)
        return;
    if (c->output.size - c->output_at + bytes.size > c->limits.output_max) {
        struct error e;
        error_set(&e, ERROR_LIMIT, "peer does not read: more than %zu bytes wait", c->limits.output_max);
        line_conn_fail(c, &e);
        return;
    }
    if (c->output_at > 0 && c->output_at >= c->output.size / 2) {
        buffer_drop(&c->output, c->output_at);
        c->output_at = 0;
    }
    if (c->limits.secret && c->output.size + bytes.size > c->output.room) {
        /* A move that leaves no copy behind. */
        struct buffer larger = {0};
        buffer_reserve(&larger, (c->output.size + bytes.size) * 2);
        buffer_append_slice(&larger, buffer_slice(&c->output));
        buffer_wipe(&c->output);
        c->output = larger;
    }
    buffer_append_slice(&c->output, bytes);
    if (!ev_is_active(&c->out))
        ev_feed_event(c->loop, &c->flush, EV_CUSTOM);
    if (line_conn_full(c)) {
        c->paused = true;
        set_reading(c);
    }
}

void line_conn_print(struct line_conn *c, const char *fmt, ...)
{
    struct buffer b = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&b, fmt, args);
    va_end(args);
    line_conn_send(c, buffer_slice(&b));
    buffer_free(&b);
}

/* ---- putting lines together ----------------------------------------------------------------------------------- */

void line_begin(struct buffer *b, const char *command)
{
    buffer_reset(b);
    buffer_append_str(b, command);
}

void line_field(struct buffer *b, struct slice value)
{
    buffer_append_byte(b, '\t');
    text_tab_escape(b, value);
}

void line_field_str(struct buffer *b, const char *value)
{
    line_field(b, slice_from_str(value));
}

void line_field_num(struct buffer *b, uint64_t value)
{
    buffer_printf(b, "\t%llu", (unsigned long long)value);
}

void line_pair(struct buffer *b, const char *key, const char *value)
{
    if (value == NULL)
        return;
    buffer_append_byte(b, '\t');
    text_tab_escape(b, slice_from_str(key));
    buffer_append_byte(b, '=');
    text_tab_escape(b, slice_from_str(value));
}

void line_end(struct buffer *b)
{
    buffer_append_byte(b, '\n');
}

void line_conn_send_version(struct line_conn *c, const char *name, unsigned major, unsigned minor)
{
    if (name == NULL)
        line_conn_print(c, "VERSION\t%u\t%u\n", major, minor);
    else
        line_conn_print(c, "VERSION\t%s\t%u\t%u\n", name, major, minor);
}

int line_check_version(struct slice line, const char *name, unsigned major, unsigned *minor, struct error *e)
{
    struct slice rest = line, word;
    uint32_t got_major, got_minor;

    if (!slice_split(&rest, '\t', &word) || !slice_equal_str(word, "VERSION"))
        return error_set(e, ERROR_INVALID, "sent invalid VERSION handshake: %.*s", (int)slice_head(line, 80).size,
                         line.at == NULL ? "" : (const char *)line.at);
    if (name != NULL && (!slice_split(&rest, '\t', &word) || !slice_equal_str(word, name)))
        return error_set(e, ERROR_INVALID, "wrong protocol in VERSION handshake, expected %s", name);
    if (!slice_split(&rest, '\t', &word) || !slice_to_u32(word, &got_major) || !slice_split(&rest, '\t', &word) ||
        !slice_to_u32(word, &got_minor))
        return error_set(e, ERROR_INVALID, "sent invalid VERSION handshake: %.*s", (int)slice_head(line, 80).size,
                         (const char *)line.at);
    if (got_major != major)
        return error_set(e, ERROR_UNSUPPORTED,
                         "not compatible with this server (mixed old and new binaries?): version %u, wanted %u",
                         got_major, major);
    *minor = got_minor;
    return 0;
}

/* ---- connecting ----------------------------------------------------------------------------------------------- */

int line_connect(const char *path, unsigned wait_ms, struct error *e)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    uint64_t until = time_monotonic_ns() + (uint64_t)wait_ms * 1000000U;
    int fd;

    if (strlen(path) >= sizeof(sun.sun_path))
        return error_set(e, ERROR_INVALID, "connect(%s) failed: the path is longer than %zu bytes", path,
                         sizeof(sun.sun_path) - 1);
    memcpy(sun.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_sys(e, "socket", NULL);
    while (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
        /* A full listen queue cannot be polled for; real clients retry too (ipc.md 1). */
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || time_monotonic_ns() >= until) {
            error_sys(e, "connect", path);
            close(fd);
            return -1;
        }
        (void)poll(NULL, 0, 20);
    }
    return fd;
}
