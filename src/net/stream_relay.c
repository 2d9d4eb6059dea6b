/* stream_relay.c - copies bytes both ways between two streams.
 *
 * The login process keeps TLS and relays between the client and the mail process. Backpressure goes through: while
 * one side does not take output, nothing is read from the other. */
#include "net/stream.h"

struct stream_relay {
    struct stream *client, *server;
    void (*done)(void *arg, bool client_ended);
    void *arg;
    bool ending;       /* one side has ended, the other is writing out */
    bool client_ended;
};

enum { LINGER_SECONDS = 10 };

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
    if (!r->ending)
        copy(r->client, r->server);
}

static void server_readable(void *arg)
{
    struct stream_relay *r = arg;
    if (!r->ending)
        copy(r->server, r->client);
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
    if (!r->ending)
        stream_want_input(r->client, true);
}

static void end(struct stream_relay *r)
{
    void (*done)(void *, bool) = r->done;
    void *arg = r->arg;
    bool client_ended = r->client_ended;

    stream_free(r->client);
    stream_free(r->server);
    mem_free(r);
    done(arg, client_ended);
}

static void side_closed(struct stream_relay *r, struct stream *side, struct stream *other)
{
    if (r->ending) {
        end(r);
        return;
    }
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
    (void)e;
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

void stream_relay_stop(struct stream_relay *r)
{
    if (r == NULL)
        return;
    stream_free(r->client);
    stream_free(r->server);
    mem_free(r);
}
