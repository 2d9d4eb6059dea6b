/* stats.c - what the stats service asks for. The dispatcher's own connection hears it; a worker, which could not connect with its
 * user's rights, gets one when events are asked for, so that where nobody counts none costs anything. */
#include "dispatch/dispatch_impl.h"

#include "rpc/stats_client.h"

#include <stdlib.h>

enum { RETRY_SECS = 5 };

struct stats_watch {
    struct dispatcher *dispatcher;
    struct stats_client *client;
    ev_timer retry;
};

static void heard(void *arg)
{
    struct stats_watch *w = arg;

    switch (stats_client_asks(w->client)) {
    case STATS_GONE: /* master starts it again when somebody connects */
        pool_lost_stats(w->dispatcher);
        ev_timer_set(&w->retry, RETRY_SECS, 0.);
        ev_timer_start(w->dispatcher->loop, &w->retry);
        return;
    case STATS_EVENTS:
        pool_give_stats(w->dispatcher);
        return;
    case STATS_SILENT:
    case STATS_NOTHING:
        return;
    }
}

static void retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct stats_watch *w = timer->data;

    (void)loop, (void)events;
    (void)stats_client_connect(w->client); /* no socket: no service */
}

void dispatch_stats_start(struct dispatcher *d)
{
    struct stats_watch *w;

    if (strcmp(d->protocol, "imap") != 0 && strcmp(d->protocol, "indexer-worker") != 0)
        return; /* only their workers have something to tell */
    d->stats = w = mem_zero(1, sizeof(*w));
    w->dispatcher = d;
    w->client = stats_client_new(d->service);
    stats_client_watch(w->client, heard, w);
    ev_init(&w->retry, retry);
    w->retry.data = w;
    (void)stats_client_connect(w->client);
}

bool dispatch_stats_asked(const struct dispatcher *d)
{
    enum stats_asks asks = d->stats == NULL ? STATS_GONE : stats_client_asks(d->stats->client);

    return asks == STATS_EVENTS || asks == STATS_SILENT;
}

int dispatch_stats_connect(const struct dispatcher *d)
{
    const char *path = getenv(STATS_PATH_ENV);
    struct error e;

    return !dispatch_stats_asked(d) || path == NULL ? -1 : line_connect(path, 0, &e);
}
