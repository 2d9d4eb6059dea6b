/* stream_relay.c - copies bytes both ways between two streams.
 *
 * The login process keeps TLS and relays between the client and the mail process. Backpressure goes through: while
 * one side does not take output, nothing is read from the other.
 *
 * A mail process that gives its client back sends a mark, reads what has come for it to the end, and sends what it has not
 * used: none of the client's bytes is lost, however many commands it has sent ahead. */
#include "net/stream.h"

#include <sys/socket.h>

struct stream_relay {
    struct stream *client, *server;
    void (*done)(void *arg, bool client_ended);
    void *arg;
    bool ending;       /* one side has ended, the other is writing out */
    bool client_ended;
    void (*returned)(void *arg, struct slice rest); /* NULL: the server keeps the client */
    bool returning;    /* the mark has come */
    struct buffer unsent; /* of the client's bytes, then */
};

/* RETURN_MAX: what the server may not have used: what fits into the socket and both sides' buffers is much less. */
enum { LINGER_SECONDS = 10, SIZE_BYTES = 4, RETURN_MAX = 4 * 1024 * 1024 };

static void copy(struct stream *from, struct stream *to)
{
    struct slice bytes = stream_input(from);

    if (bytes.size > 0) {
        stream_write(to, bytes);
        stream_consume(from, bytes.size);
    }
    if (stream_full(to))
        stream_want_input(from, false);
}

static void client_readable(void *arg)
{
    struct stream_relay *r = arg;
    if (!r->ending && !r->returning)
        copy(r->client, r->server);
}

static void begin_return(struct stream_relay *r)
{
    r->returning = true;
    stream_want_input(r->client, false);
    stream_take_output(r->server, &r->unsent);
    stream_input_max(r->server, SIZE_BYTES + RETURN_MAX);
    stream_want_input(r->server, true);
    (void)shutdown(stream_fd(r->server), SHUT_WR);
}

static void server_readable(void *arg)
{
    struct stream_relay *r = arg;
    if (r->ending || r->returning)
        return;
    copy(r->server, r->client);
    if (r->returned != NULL && stream_marked(r->server))
        begin_return(r);
}

static void client_writable(void *arg)
{
    struct stream_relay *r = arg;
    if (!r->ending)
        stream_want_input(r->server, true);
}

static void server_writable(void *arg)
{
    struct stream_relay *r = arg;
    if (!r->ending && !r->returning)
        stream_want_input(r->client, true);
}

static void end(struct stream_relay *r)
{
    void (*done)(void *, bool) = r->done;
    void *arg = r->arg;
    bool client_ended = r->client_ended;

    stream_free(r->client);
    stream_free(r->server);
    buffer_wipe(&r->unsent);
    mem_free(r);
    done(arg, client_ended);
}

/* What the server has sent behind the mark, when it is whole. */
static bool read_rest(const struct stream_relay *r, struct slice *rest)
{
    struct slice all = stream_input(r->server);
    uint32_t size;

    if (all.size < SIZE_BYTES)
        return false;
    size = bytes_le32(all.at);
    *rest = slice_from(all, SIZE_BYTES);
    return rest->size == size;
}

static void give_back(struct stream_relay *r, struct slice rest)
{
    void (*returned)(void *, struct slice) = r->returned;
    void *arg = r->arg;
    struct buffer bytes = {0};

    buffer_append_slice(&bytes, rest);
    buffer_append_slice(&bytes, buffer_slice(&r->unsent));
    stream_free(r->server);
    buffer_wipe(&r->unsent);
    mem_free(r);
    returned(arg, buffer_slice(&bytes));
    buffer_wipe(&bytes); /* may hold a password */
}

static void side_closed(struct stream_relay *r, struct stream *side, struct stream *other)
{
    if (r->ending) {
        end(r);
        return;
    }
    if (!r->returning)
        copy(side, other); /* what came last still belongs to the other side */
    r->ending = true;
    r->client_ended = side == r->client;
    stream_want_input(side, false);
    stream_finish(other, LINGER_SECONDS);
}

static void client_closed(void *arg, const struct error *e)
{
    struct stream_relay *r = arg;
    (void)e;
    side_closed(r, r->client, r->server);
}

static void server_closed(void *arg, const struct error *e)
{
    struct stream_relay *r = arg;
    struct slice rest;

    (void)e;
    if (r->returning && !r->ending && read_rest(r, &rest))
        give_back(r, rest);
    else
        side_closed(r, r->server, r->client);
}

static const struct stream_handler client_side = {client_readable, client_writable, client_closed, NULL};
static const struct stream_handler server_side = {server_readable, server_writable, server_closed, NULL};

struct stream_relay *stream_relay_start(struct stream *client, struct stream *server,
                                        void (*done)(void *arg, bool client_ended), void *arg)
{
    struct stream_relay *r = mem_zero(1, sizeof(*r));

    r->client = client;
    r->server = server;
    r->done = done;
    r->arg = arg;
    stream_deadline(client, 0);
    stream_deadline(server, 0);
    stream_set_handler(client, &client_side, r);
    stream_set_handler(server, &server_side, r);
    copy(client, server);
    copy(server, client);
    stream_want_input(client, true);
    stream_want_input(server, true);
    return r;
}

void stream_relay_returns(struct stream_relay *r, void (*returned)(void *arg, struct slice rest))
{
    r->returned = returned;
    stream_expect_mark(r->server);
}

void stream_relay_stop(struct stream_relay *r)
{
    if (r == NULL)
        return;
    stream_free(r->client);
    stream_free(r->server);
    buffer_wipe(&r->unsent);
    mem_free(r);
}
