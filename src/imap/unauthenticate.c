/* unauthenticate.c - UNAUTHENTICATE (RFC 8437): the connection goes back to its login process, which has stayed between us and
 * the client; the session ends here, with all that was the user's.
 *
 * In this order: the answer is written (the end of a layer of COMPRESS too); a mark tells the login process that it has the
 * client again (net/stream.h); what it had sent us before it saw the mark is read to the end; what was not used of that goes
 * back; the session is freed; the dispatcher is told, with the connection, which it closes when anvil knows. Only that end lets
 * the login process read the client's next command, so that a new login never finds the old session counted.
 *
 * RFC 8437 section 3 leaves no room for NO: what goes wrong ends the connection. */
#include "imap/session.h"

#include "net/loop.h"

#include <errno.h>

enum { INPUT_MOST = 1024 * 1024, ANSWER_SECS = 10 };

void unauthenticate_begin(struct session *s, struct request *r)
{
    request_reply(r, "OK Unauthenticated.");
    reply_send(s, r);
    compression_finish(s);
    session_log_end(s, "Unauthenticated");
    s->phase = PHASE_OVER;
    s->leaving = LEAVING_OUTPUT;
    s->over_ns = time_monotonic_ns();
    stream_deadline(s->io, 0);
    session_wake(s);
}

static void look_again(struct session *s, double secs)
{
    ev_timer_stop(worker_loop(s->worker), &s->alarm);
    ev_timer_set(&s->alarm, secs, 0);
    ev_timer_start(worker_loop(s->worker), &s->alarm);
}

/* The peer takes its time: true when that was too long, and the session ends as if it had not been asked to leave. */
static bool gives_up(struct session *s, unsigned seconds, double again)
{
    if (s->over_ns == 1 || time_monotonic_ns() - s->over_ns > (uint64_t)seconds * 1000000000)
        return true;
    look_again(s, again);
    return false;
}

static void send_rest(struct session *s)
{
    struct buffer rest = {0};
    unsigned char size[4];

    compression_put_rest(s, &rest);
    compression_free(s);
    bytes_put_le32(size, (uint32_t)rest.size);
    stream_write(s->io, slice_of(size, sizeof(size)));
    stream_write(s->io, buffer_slice(&rest));
    buffer_wipe(&rest); /* the next login's password may be in it */
}

bool unauthenticate_step(struct session *s)
{
    if (s->leaving == LEAVING_OUTPUT) {
        stream_flush(s->io);
        if (stream_pending(s->io) > 0)
            return gives_up(s, SESSION_OUTPUT_SECS, 0.05);
        if (stream_send_mark(s->io) < 0)
            return errno == EAGAIN || errno == EMFILE ? gives_up(s, SESSION_OUTPUT_SECS, 0.05) : true;
        stream_input_max(s->io, INPUT_MOST);
        s->leaving = LEAVING_INPUT;
        s->over_ns = s->over_ns == 1 ? 1 : time_monotonic_ns();
    }
    if (s->leaving == LEAVING_INPUT) {
        if (!s->closed)
            return gives_up(s, ANSWER_SECS, ANSWER_SECS + 0.1);
        send_rest(s);
        s->leaving = LEAVING_REST;
    }
    stream_flush(s->io);
    if (stream_pending(s->io) > 0)
        return gives_up(s, ANSWER_SECS, 0.05);
    if (s->over_ns != 1)
        s->leaving = LEAVING_DONE;
    return true;
}

int unauthenticate_fd(struct session *s)
{
    struct buffer none = {0};
    int fd;

    if (s->leaving != LEAVING_DONE)
        return -1;
    stream_want_input(s->io, false);
    fd = stream_release(s->io, &none);
    s->io = NULL;
    net_loop_forget(fd);
    buffer_wipe(&none);
    return fd;
}
