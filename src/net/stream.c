/* stream.c - buffered sockets on the loop.
 *
 * All streams of a process share one loop, one scratch buffer for reading, and one list of "dirty" streams, which
 * is worked off just before the loop sleeps: so an answer made of many small writes leaves in one system call, and
 * `closed` is never called from inside a handler's own call.
 *
 * A callback may free its stream. After each one `guard_call` tells whether it did. */
#include "net/fdpass.h"
#include "net/stream_impl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SCRATCH = 32 * 1024, DEFAULT_INPUT_MAX = 64 * 1024, DEFAULT_OUTPUT_HIGH = 128 * 1024,
       WIDE_OUTPUT_HIGH = 512 * 1024 };

/* One per process, since a process runs one loop (DESIGN "Processes"). */
static struct {
    struct ev_loop *loop;
    ev_prepare prepare;
    struct stream *dirty;
    unsigned streams;
    unsigned char scratch[SCRATCH];
} shared;

static void flush_dirty(struct ev_loop *loop, ev_prepare *w, int events);

static void loop_enter(struct ev_loop *loop)
{
    if (shared.streams++ > 0) {
        assert(shared.loop == loop);
        return;
    }
    signal(SIGPIPE, SIG_IGN);
    shared.loop = loop;
    ev_prepare_init(&shared.prepare, flush_dirty);
    ev_prepare_start(loop, &shared.prepare);
    ev_unref(loop); /* an empty loop must be able to end */
}

static void loop_leave(struct ev_loop *loop)
{
    if (--shared.streams > 0)
        return;
    ev_ref(loop);
    ev_prepare_stop(loop, &shared.prepare);
}

void stream_mark_dirty(struct stream *s)
{
    if (s->link_dirty != NULL)
        return;
    s->next_dirty = shared.dirty;
    s->link_dirty = &shared.dirty;
    if (shared.dirty != NULL)
        shared.dirty->link_dirty = &s->next_dirty;
    shared.dirty = s;
    /* Marked outside of a callback, the loop could be asleep already in its next round. */
    ev_feed_event(s->loop, &shared.prepare, EV_CUSTOM);
}

static void unmark_dirty(struct stream *s)
{
    if (s->link_dirty == NULL)
        return;
    *s->link_dirty = s->next_dirty;
    if (s->next_dirty != NULL)
        s->next_dirty->link_dirty = s->link_dirty;
    s->link_dirty = NULL;
}

/* Runs a callback; false when it freed the stream. */
#define GUARD_CALL(s, call)            \
    ({                                 \
        bool freed_ = false;           \
        bool *outer_ = (s)->freed;     \
        (s)->freed = &freed_;          \
        call;                          \
        if (!freed_)                   \
            (s)->freed = outer_;       \
        else if (outer_ != NULL)       \
            *outer_ = true;            \
        !freed_;                       \
    })

static void set_watch(struct stream *s, ev_io *w, int fd, int events)
{
    int now = ev_is_active(w) ? w->events & (EV_READ | EV_WRITE) : 0;

    if (now == events)
        return;
    if (now != 0)
        ev_io_stop(s->loop, w);
    if (events != 0) {
        ev_io_set(w, fd, events);
        ev_io_start(s->loop, w);
    }
}

void stream_update_watchers(struct stream *s)
{
    int in = 0, out = 0;

    if (!s->failed && !s->shut) {
        bool handshake = s->tls != NULL && s->tls->state == TLS_HANDSHAKE;
        if (handshake) {
            if (gnutls_record_get_direction(s->tls->session) == 0)
                in = EV_READ;
            else
                out = EV_WRITE;
        } else {
            if (!s->ended && (s->finishing || (s->want_input && stream_input(s).size < s->input_max)))
                in = EV_READ;
            if (stream_pending(s) > 0 || (s->tls != NULL && s->tls->send_blocked))
                out = EV_WRITE;
        }
    }
    if (s->fd == s->out_fd) {
        set_watch(s, &s->in_watch, s->fd, in | out);
    } else {
        set_watch(s, &s->in_watch, s->fd, in);
        set_watch(s, &s->out_watch, s->out_fd, out);
    }
}

void stream_fail(struct stream *s, const struct error *e)
{
    if (s->failed)
        return;
    s->failed = true;
    s->error = *e;
    buffer_free(&s->output);
    s->output_at = 0;
    stream_mark_dirty(s);
}

/* The kernel ends a read behind bytes that a descriptor came with: a mark is always its last byte. */
static ssize_t read_marked(struct stream *s, void *at, size_t size)
{
    int fd;
    ssize_t n = net_receive_fd(s->fd, at, size, &fd);

    if (fd >= 0) {
        close(fd);
        s->mark_read = s->marked = true;
    }
    return n;
}

ssize_t stream_raw_read(struct stream *s, void *at, size_t size)
{
    ssize_t n;

    if (s->tls != NULL && s->tls->state == TLS_OPEN) {
        n = gnutls_record_recv(s->tls->session, at, size);
        if (n >= 0)
            return n;
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_REHANDSHAKE) {
            errno = EAGAIN;
            return -1;
        }
        /* A peer that closes without close_notify is an ordinary end: line protocols know their own end. */
        if (n == GNUTLS_E_PREMATURE_TERMINATION)
            return 0;
        errno = n == GNUTLS_E_PULL_ERROR || n == GNUTLS_E_PUSH_ERROR ? ECONNRESET : EPROTO;
        return -1;
    }
    if (s->marks)
        return read_marked(s, at, size);
    do
        n = read(s->fd, at, size);
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t stream_raw_write(struct stream *s, const void *at, size_t size)
{
    ssize_t n;

    if (s->tls != NULL && s->tls->state == TLS_OPEN) {
        /* A blocked record is inside GnuTLS already; it wants to be asked again with nothing. */
        n = s->tls->send_blocked ? gnutls_record_send(s->tls->session, NULL, 0)
                                 : gnutls_record_send(s->tls->session, at, size);
        s->tls->send_blocked = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED;
        if (n >= 0)
            return n;
        errno = s->tls->send_blocked ? EAGAIN : EPIPE;
        return -1;
    }
    do
        n = write(s->out_fd, at, size);
    while (n < 0 && errno == EINTR);
    return n;
}

static bool is_handshaking(const struct stream *s)
{
    return s->tls != NULL && s->tls->state == TLS_HANDSHAKE;
}

/* The room of output that has been written is the next one's, of whatever stream: an idle one has none, and who writes much
 * need not let it grow from nothing each time. One stream of the process may let more bytes wait than others, as long as its
 * client takes all that there is: each write wakes that client, which costs as much as a message. */
enum { SPARE_LEAST = 4 * 1024, SPARE_MOST = 2 * WIDE_OUTPUT_HIGH };
static struct buffer spare;
static const struct stream *wide;

static void give_room(struct stream *s)
{
    if (spare.at != NULL || s->output.room < SPARE_LEAST || s->output.room > SPARE_MOST) {
        buffer_free(&s->output);
        return;
    }
    spare = s->output;
    spare.size = 0;
    s->output = (struct buffer){0};
}

static void take_room(struct stream *s)
{
    if (s->output.at != NULL)
        return;
    s->output = spare;
    spare = (struct buffer){0};
}

static void narrow(const struct stream *s)
{
    if (wide == s)
        wide = NULL;
}

void stream_flush(struct stream *s)
{
    while (stream_pending(s) > 0 && !s->failed && !s->shut && !is_handshaking(s)) {
        ssize_t n = stream_raw_write(s, s->output.at + s->output_at, stream_pending(s));
        if (n < 0) {
            if (errno != EAGAIN) {
                struct error e;
                error_sys(&e, "write", "client");
                stream_fail(s, &e);
            }
            narrow(s);
            break;
        }
        s->output_at += (size_t)n;
        s->bytes_out += (uint64_t)n;
    }
    if (stream_pending(s) == 0) {
        /* Where it had filled up it may be wide from now on; where not, somebody else. */
        if (s->was_full && wide == NULL && s->output_high == DEFAULT_OUTPUT_HIGH && !s->failed)
            wide = s;
        else if (!s->was_full)
            narrow(s);
        give_room(s);
        s->output_at = 0;
    } else if (s->output_at > 64 * 1024 && s->output_at * 2 > s->output.size) {
        buffer_drop(&s->output, s->output_at);
        s->output_at = 0;
    }
    stream_update_watchers(s);
}

/* Tells the handler that there is input; what it leaves moves from the scratch buffer to the stream's own. */
static bool tell_readable(struct stream *s)
{
    s->call_readable = false;
    if (!GUARD_CALL(s, s->handler->readable(s->arg)))
        return false;
    if (s->borrowed.size > 0)
        buffer_append_slice(&s->input, s->borrowed);
    s->borrowed = SLICE_EMPTY;
    if (s->input.size == 0)
        buffer_free(&s->input);
    return true;
}

static bool tell_closed(struct stream *s)
{
    struct error none = {.class = ERROR_NONE};

    if (s->closed_told)
        return true;
    s->closed_told = true;
    return GUARD_CALL(s, s->handler->closed(s->arg, s->failed ? &s->error : &none));
}

/* One read, then the handler. False when the stream is gone. */
static bool read_once(struct stream *s, bool *again)
{
    size_t have = s->input.size;
    size_t room = s->input_max > have ? s->input_max - have : 0;
    ssize_t n;

    *again = false;
    if (s->finishing)
        room = SCRATCH; /* thrown away; only the end is of interest */
    if (room == 0 || s->ended)
        return true;
    if (room > SCRATCH)
        room = SCRATCH;
    n = stream_raw_read(s, shared.scratch, room);
    if (n < 0) {
        if (errno != EAGAIN) {
            struct error e;
            error_sys(&e, "read", "client");
            stream_fail(s, &e);
        }
        return true;
    }
    if (n == 0) {
        s->ended = true;
        stream_mark_dirty(s);
        return true;
    }
    *again = (size_t)n == room;
    if (s->mark_read) {
        s->mark_read = false;
        n--;
    }
    s->bytes_in += (uint64_t)n;
    if (s->finishing)
        return true;
    if (have > 0)
        buffer_append(&s->input, shared.scratch, (size_t)n);
    else
        s->borrowed = slice_of(shared.scratch, (size_t)n);
    return tell_readable(s);
}

/* Nothing goes back that could carry the acknowledgement, and the kernel would hold it for 40 ms. A client that sends a literal
 * and then the end of its command in a write of its own waits for it (Nagle): each APPEND of such a one took that long. */
static void acknowledge(const struct stream *s)
{
    if (!s->failed && !s->ended && stream_pending(s) == 0)
        (void)setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
}

static void read_ready(struct stream *s)
{
    bool again = true;

    /* A few rounds only, so that one busy client does not keep the others waiting. TLS may hold decrypted bytes
     * of which the kernel knows nothing: those must be taken now. */
    for (int i = 0; (i < 4 && again) || stream_tls_read_pending(s); i++) {
        if (!s->finishing && (!s->want_input || s->input.size >= s->input_max))
            break;
        if (s->failed || s->ended)
            break;
        if (!read_once(s, &again))
            return; /* It may be gone. */
    }
    acknowledge(s);
}

static void write_ready(struct stream *s)
{
    stream_flush(s);
    if (s->tls != NULL && s->tls->state == TLS_AFTER_FLUSH && stream_pending(s) == 0)
        stream_tls_begin(s);
    if (s->was_full && stream_pending(s) * 4 <= s->output_high) {
        s->was_full = false;
        if (s->handler->writable != NULL && !s->failed)
            GUARD_CALL(s, s->handler->writable(s->arg));
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
    struct stream *s = w->data;
    bool freed = false;

    (void)loop;
    s->freed = &freed;
    if (is_handshaking(s))
        stream_tls_step(s);
    else {
        if (events & EV_READ)
            read_ready(s);
        if (!freed && (events & EV_WRITE))
            write_ready(s);
    }
    if (freed)
        return;
    s->freed = NULL;
    stream_update_watchers(s);
}

/* Before the loop sleeps: write what handlers have produced, tell about ends. */
static void settle(struct stream *s)
{
    bool freed = false;

    s->freed = &freed;
    if (!s->failed)
        write_ready(s);
    if (!freed && s->call_readable && s->want_input && !s->finishing && stream_input(s).size > 0)
        tell_readable(s);
    if (!freed && !s->failed && s->tls != NULL && s->want_input && stream_tls_read_pending(s))
        read_ready(s);
    if (!freed && s->finishing && !s->failed && !s->shut && stream_pending(s) == 0 && !is_handshaking(s)) {
        stream_tls_bye(s);
        s->shut = true;
        shutdown(s->out_fd, SHUT_WR);
        s->ended = true;
    }
    if (!freed && (s->failed || s->ended) && (s->failed || !s->finishing || s->shut))
        tell_closed(s);
    if (freed)
        return;
    s->freed = NULL;
    stream_update_watchers(s);
}

static void flush_dirty(struct ev_loop *loop, ev_prepare *w, int events)
{
    (void)loop;
    (void)w;
    (void)events;
    /* Handlers may mark streams dirty again; those get their turn too, but a stream that does so for ever only in
     * the next round. */
    for (unsigned rounds = shared.streams * 2 + 16; shared.dirty != NULL && rounds > 0; rounds--) {
        struct stream *s = shared.dirty;
        unmark_dirty(s);
        settle(s);
    }
    if (shared.dirty != NULL)
        ev_feed_event(shared.loop, &shared.prepare, EV_CUSTOM);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    struct stream *s = w->data;

    (void)events;
    ev_timer_stop(loop, w);
    if (s->finishing) { /* the peer does not take the rest: enough */
        struct error e;
        error_set(&e, ERROR_TEMPORARY, "Timeout while closing the connection");
        stream_fail(s, &e);
    } else if (s->handler->deadline != NULL)
        s->handler->deadline(s->arg);
}

struct stream *stream_new(struct ev_loop *loop, int fd, int out_fd, const struct stream_limits *limits,
                          const struct stream_handler *handler, void *arg)
{
    struct stream *s = mem_zero(1, sizeof(*s));

    loop_enter(loop);
    s->loop = loop;
    s->fd = fd;
    s->out_fd = out_fd < 0 ? fd : out_fd;
    s->input_max = limits != NULL && limits->input_max > 0 ? limits->input_max : DEFAULT_INPUT_MAX;
    s->output_high = limits != NULL && limits->output_high > 0 ? limits->output_high : DEFAULT_OUTPUT_HIGH;
    s->handler = handler;
    s->arg = arg;
    s->want_input = true;
    os_never_block(s->fd);
    if (s->out_fd != s->fd)
        os_never_block(s->out_fd);
    /* Answers leave in whole writes already; without this the last piece of a long one waits for an ACK. */
    (void)setsockopt(s->out_fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    ev_init(&s->in_watch, on_io);
    ev_init(&s->out_watch, on_io);
    ev_init(&s->timer, on_timer);
    s->in_watch.data = s->out_watch.data = s->timer.data = s;
    stream_update_watchers(s);
    return s;
}

void stream_set_handler(struct stream *s, const struct stream_handler *handler, void *arg)
{
    s->handler = handler;
    s->arg = arg;
}

static void let_go(struct stream *s)
{
    if (s->freed != NULL)
        *s->freed = true;
    unmark_dirty(s);
    ev_io_stop(s->loop, &s->in_watch);
    ev_io_stop(s->loop, &s->out_watch);
    ev_timer_stop(s->loop, &s->timer);
    if (s->tls != NULL)
        stream_tls_free(s);
    loop_leave(s->loop);
    narrow(s);
    buffer_wipe(&s->input); /* may hold a password */
    buffer_free(&s->output);
    mem_free(s);
}

void stream_free(struct stream *s)
{
    int fd, out_fd;

    if (s == NULL)
        return;
    fd = s->fd;
    out_fd = s->out_fd;
    let_go(s);
    close(fd);
    if (out_fd != fd)
        close(out_fd);
}

int stream_release(struct stream *s, struct buffer *rest)
{
    int fd = s->fd;

    assert(s->tls == NULL && s->fd == s->out_fd && stream_pending(s) == 0);
    buffer_append_slice(rest, stream_input(s));
    let_go(s);
    return fd;
}

struct slice stream_input(const struct stream *s)
{
    return s->borrowed.size > 0 ? s->borrowed : buffer_slice(&s->input);
}

void stream_consume(struct stream *s, size_t size)
{
    if (s->borrowed.size > 0) {
        assert(size <= s->borrowed.size);
        s->borrowed = slice_from(s->borrowed, size);
    } else {
        buffer_drop(&s->input, size);
        if (s->input.size == 0)
            buffer_free(&s->input);
    }
    if (size > 0 && s->freed == NULL)
        stream_update_watchers(s);
}

void stream_want_input(struct stream *s, bool on)
{
    if (s->want_input == on)
        return;
    s->want_input = on;
    if (on && (stream_input(s).size > 0 || stream_tls_read_pending(s))) {
        s->call_readable = true;
        stream_mark_dirty(s);
    }
    if (s->freed == NULL)
        stream_update_watchers(s);
}

void stream_unread(struct stream *s, struct slice bytes)
{
    assert(s->borrowed.size == 0);
    buffer_splice(&s->input, 0, 0, bytes);
    if (bytes.size > 0) {
        s->call_readable = true;
        stream_mark_dirty(s);
    }
}

void stream_input_max(struct stream *s, size_t most)
{
    s->input_max = most;
    if (s->freed == NULL)
        stream_update_watchers(s);
}

bool stream_ended(const struct stream *s)
{
    return s->ended || s->failed;
}

static void wrote(struct stream *s)
{
    if (stream_full(s))
        s->was_full = true;
    stream_mark_dirty(s);
}

void stream_write(struct stream *s, struct slice bytes)
{
    if (s->failed || s->finishing || bytes.size == 0)
        return;
    take_room(s);
    buffer_append_slice(&s->output, bytes);
    wrote(s);
}

unsigned char *stream_room(struct stream *s, size_t size)
{
    if (s->failed || s->finishing)
        return NULL;
    take_room(s);
    buffer_reserve(&s->output, size);
    return s->output.at + s->output.size;
}

void stream_wrote(struct stream *s, size_t size)
{
    s->output.size += size;
    wrote(s);
}

void stream_print(struct stream *s, const char *fmt, ...)
{
    va_list args;

    if (s->failed || s->finishing)
        return;
    take_room(s);
    va_start(args, fmt);
    buffer_vprintf(&s->output, fmt, args);
    va_end(args);
    wrote(s);
}

size_t stream_pending(const struct stream *s)
{
    return s->output.size - s->output_at;
}

bool stream_full(const struct stream *s)
{
    return stream_pending(s) >= (s == wide ? WIDE_OUTPUT_HIGH : s->output_high);
}

void stream_finish(struct stream *s, double seconds)
{
    s->finishing = true;
    s->borrowed = SLICE_EMPTY;
    buffer_wipe(&s->input);
    stream_deadline(s, seconds);
    stream_mark_dirty(s);
}

int stream_send_mark(struct stream *s)
{
    int fd = eventfd(0, EFD_CLOEXEC), sent;

    assert(s->tls == NULL && stream_pending(s) == 0);
    if (fd < 0)
        return -1;
    sent = net_send_fd(s->out_fd, SLICE("\n"), fd) == 1 ? 0 : -1;
    close(fd);
    return sent;
}

void stream_expect_mark(struct stream *s)
{
    s->marks = true;
}

bool stream_marked(const struct stream *s)
{
    return s->marked;
}

void stream_take_output(struct stream *s, struct buffer *out)
{
    assert(s->tls == NULL);
    buffer_append_slice(out, slice_from(buffer_slice(&s->output), s->output_at));
    buffer_free(&s->output);
    s->output_at = 0;
}

void stream_deadline(struct stream *s, double seconds)
{
    ev_timer_stop(s->loop, &s->timer);
    if (seconds <= 0)
        return;
    ev_now_update(s->loop);
    ev_timer_set(&s->timer, seconds, 0.);
    ev_timer_start(s->loop, &s->timer);
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}

uint64_t stream_bytes_in(const struct stream *s)
{
    return s->bytes_in;
}

uint64_t stream_bytes_out(const struct stream *s)
{
    return s->bytes_out;
}

size_t stream_memory(const struct stream *s)
{
    return sizeof(*s) + s->input.room + s->output.room + (s->tls == NULL ? 0 : sizeof(*s->tls));
}
