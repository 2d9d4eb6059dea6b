/* urlauth_remote.c - asks the imap-urlauth services for the bytes that a URL of another user names (ipc 16). */
#include "imap/urlauth_remote.h"

#include "rpc/line.h"

#include <unistd.h>

enum { ANSWER_SECS = 60, LINE_MOST = 64 * 1024, INPUT_MOST = 128 * 1024 };

enum remote_state {
    REMOTE_NONE,               /* no connection */
    REMOTE_CONNECTING,         /* the dispatcher has been asked */
    REMOTE_GREETING,           /* its OK is awaited */
    REMOTE_SELECTING,          /* USER has been sent */
    REMOTE_ASKED,              /* URL has been sent */
    REMOTE_BYTES,              /* of the answer, and the LF behind them */
    REMOTE_IDLE
};

struct urlauth_remote {
    enum remote_state state;
    struct stream *io;
    char *owner;               /* of the connection */
    struct buffer request;     /* the URL line, until it can be sent */
    uint64_t left;
    bool lost;
};

static void drop(struct urlauth_remote *t)
{
    stream_free(t->io);
    t->io = NULL;
    t->state = REMOTE_NONE;
    mem_free(t->owner);
    t->owner = NULL;
}

static void on_event(void *arg)
{
    session_wake(arg);
}

static void on_closed(void *arg, const struct error *e)
{
    struct session *s = arg;

    (void)e;
    s->remote->lost = true;
    session_wake(s);
}

static void on_deadline(void *arg)
{
    struct session *s = arg;

    s->remote->lost = true;
    session_wake(s);
}

static const struct stream_handler handler = {.readable = on_event, .closed = on_closed, .deadline = on_deadline};

void urlauth_remote_connected(struct session *s, int fd)
{
    const struct stream_limits limits = {.input_max = INPUT_MOST};
    struct urlauth_remote *t = s->remote;

    if (t == NULL || t->state != REMOTE_CONNECTING) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    if (fd < 0) {
        t->lost = true;
    } else {
        t->io = stream_new(worker_loop(s->worker), fd, -1, &limits, &handler, s);
        t->state = REMOTE_GREETING;
        stream_deadline(t->io, ANSWER_SECS);
    }
    session_wake(s);
}

void urlauth_remote_ask(struct session *s, const char *owner, struct slice url, unsigned want)
{
    struct urlauth_remote *t = s->remote;

    if (t == NULL)
        t = s->remote = mem_zero(1, sizeof(*t));
    if (t->state != REMOTE_IDLE || t->lost || strcmp(t->owner, owner) != 0)
        drop(t);
    t->lost = false;
    line_begin(&t->request, "URL");
    line_field(&t->request, url);
    if ((want & REMOTE_BINARY) != 0)
        line_field_str(&t->request, "binary");
    else if ((want & REMOTE_BODY) != 0)
        line_field_str(&t->request, "body");
    if ((want & REMOTE_STRUCTURE) != 0)
        line_field_str(&t->request, "bpstruct");
    line_end(&t->request);
    if (t->state == REMOTE_IDLE) {
        stream_write(t->io, buffer_slice(&t->request));
        stream_deadline(t->io, ANSWER_SECS);
        t->state = REMOTE_ASKED;
        return;
    }
    t->owner = mem_strdup(owner);
    t->state = REMOTE_CONNECTING;
    if (!worker_ask_urlauth(s->worker, s))
        t->lost = true;
}

static int failed(struct urlauth_remote *t, struct error *e, const char *what)
{
    drop(t);
    t->lost = false;
    return error_set(e, ERROR_TEMPORARY, "imap-urlauth: %s", what);
}

/* "OK [bpstruct=..] [hasnuls] size" or "NO [error=..]". -1: it is neither. */
static int read_answer(struct urlauth_remote *t, struct arena *arena, struct slice line, struct urlauth_answer *answer)
{
    struct slice *f;
    size_t count = text_tab_fields(arena, line, &f);

    *answer = (struct urlauth_answer){0};
    if (slice_equal_str(f[0], "NO")) {
        answer->refused = true;
        for (size_t i = 1; i < count; i++)
            if (slice_starts(f[i], SLICE("error=")))
                answer->fault = arena_str(arena, slice_from(f[i], 6));
        t->state = REMOTE_IDLE;
        return 0;
    }
    if (!slice_equal_str(f[0], "OK") || count < 2 || !slice_to_u64(f[count - 1], &answer->size) || answer->size > INT64_MAX)
        return -1;
    for (size_t i = 1; i + 1 < count; i++) {
        if (slice_starts(f[i], SLICE("bpstruct=")))
            answer->structure = arena_str(arena, slice_from(f[i], 9));
        else if (slice_equal_str(f[i], "hasnuls"))
            answer->binary = true;
    }
    stream_deadline(t->io, 0);
    t->left = answer->size == 0 ? 0 : answer->size + 1;
    t->state = answer->size == 0 ? REMOTE_IDLE : REMOTE_BYTES;
    return 0;
}

/* A line of the service: DONE when it was the answer to the URL. */
static enum step take_line(struct urlauth_remote *t, struct arena *arena, struct slice line, struct urlauth_answer *answer, struct error *e)
{
    bool good = slice_equal_str(line, "OK");

    if (t->state == REMOTE_ASKED)
        return read_answer(t, arena, line, answer) == 0 ? STEP_DONE : (failed(t, e, "broken answer"), STEP_ERROR);
    if (!good && t->state == REMOTE_SELECTING) { /* there is no such user, or URLAUTH is off for him */
        drop(t);
        *answer = (struct urlauth_answer){.refused = true};
        return STEP_DONE;
    }
    if (!good)
        return failed(t, e, "access refused"), STEP_ERROR;
    if (t->state == REMOTE_GREETING) {
        struct buffer out = {0};

        line_begin(&out, "USER");
        line_field_str(&out, t->owner);
        line_end(&out);
        stream_write(t->io, buffer_slice(&out));
        buffer_free(&out);
        t->state = REMOTE_SELECTING;
    } else {
        stream_write(t->io, buffer_slice(&t->request));
        t->state = REMOTE_ASKED;
    }
    return STEP_MORE;
}

enum step urlauth_remote_answer(struct session *s, struct arena *arena, struct urlauth_answer *answer, struct error *e)
{
    struct urlauth_remote *t = s->remote;

    while (t->io != NULL) {
        struct slice in = stream_input(t->io), line;
        ptrdiff_t end = slice_find(slice_head(in, LINE_MOST), '\n');
        enum step step;

        if (end < 0 && in.size >= LINE_MOST)
            return failed(t, e, "answer too long"), STEP_ERROR;
        if (end < 0)
            break;
        line = arena_slice(arena, slice_head(in, (size_t)end));
        stream_consume(t->io, line.size + 1);
        step = take_line(t, arena, line, answer, e);
        if (t->io != NULL && step == STEP_MORE)
            stream_deadline(t->io, ANSWER_SECS);
        if (step != STEP_MORE)
            return step;
    }
    if (t->lost)
        return failed(t, e, "no connection"), STEP_ERROR;
    return STEP_WAIT;
}

struct slice urlauth_remote_bytes(struct session *s, bool *lost)
{
    struct urlauth_remote *t = s->remote;
    struct slice in = t->io == NULL ? SLICE_EMPTY : stream_input(t->io);

    *lost = in.size == 0 && (t->lost || t->io == NULL);
    if (in.size == 0 && !*lost)
        stream_deadline(t->io, ANSWER_SECS);
    return t->left <= 1 ? SLICE_EMPTY : in.size < t->left - 1 ? in : slice_head(in, (size_t)(t->left - 1));
}

void urlauth_remote_consume(struct session *s, size_t size)
{
    struct urlauth_remote *t = s->remote;

    stream_consume(t->io, size);
    stream_deadline(t->io, 0); /* from here on it may be our client that is slow */
    t->left -= size;
}

/* The LF behind the bytes. DONE: the next URL may be asked for. */
enum step urlauth_remote_finish(struct session *s)
{
    struct urlauth_remote *t = s->remote;

    if (t->state != REMOTE_BYTES)
        return STEP_DONE;
    if (t->io == NULL || (stream_input(t->io).size == 0 && t->lost)) {
        drop(t);
        return STEP_DONE;
    }
    if (stream_input(t->io).size == 0)
        return STEP_WAIT;
    stream_consume(t->io, 1);
    stream_deadline(t->io, 0);
    t->state = REMOTE_IDLE;
    return STEP_DONE;
}

void urlauth_remote_free(struct session *s)
{
    if (s->remote == NULL)
        return;
    drop(s->remote);
    buffer_free(&s->remote->request);
    mem_free(s->remote);
    s->remote = NULL;
}
