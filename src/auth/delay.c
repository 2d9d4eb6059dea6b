/* delay.c - holds failure replies back (auth.md 13). The queue is looked at every 500 ms; what is due goes out in random
 * order, so that the order says nothing about which check failed. */
#include "auth/conns.h"
#include "auth/scheme_impl.h"

#include <utlist.h>

#define LOOK_SECS 0.5

struct delayed {
    struct client_request *request;
    ev_tstamp due;
    struct delayed *next, *prev;
};

struct delay {
    struct ev_loop *loop;
    ev_timer timer;
    struct delayed *queue;
};

static void look(struct ev_loop *loop, ev_timer *w, int events);

struct delay *delay_new(struct ev_loop *loop)
{
    struct delay *d = mem_zero(1, sizeof(*d));

    d->loop = loop;
    ev_timer_init(&d->timer, look, LOOK_SECS, LOOK_SECS);
    d->timer.data = d;
    return d;
}

void delay_free(struct delay *d)
{
    if (d == NULL)
        return;
    delay_flush(d);
    ev_timer_stop(d->loop, &d->timer);
    mem_free(d);
}

void delay_remove(struct delay *d, struct delayed *x)
{
    DL_DELETE(d->queue, x);
    mem_free(x);
    if (d->queue == NULL)
        ev_timer_stop(d->loop, &d->timer);
}

static void look(struct ev_loop *loop, ev_timer *w, int events)
{
    struct delay *d = w->data;
    VEC(struct client_request *) due = {0};
    struct delayed *x;

    (void)events;
    DL_FOREACH(d->queue, x)
        if (x->due <= ev_now(loop))
            VEC_PUSH(&due, x->request);
    while (due.count > 0) {
        uint32_t pick;
        scheme_random((unsigned char *)&pick, sizeof(pick));
        pick %= (uint32_t)due.count;
        client_request_flush(due.at[pick]); /* takes it off the queue */
        due.at[pick] = due.at[--due.count];
    }
    VEC_FREE(&due);
}

struct delayed *delay_add(struct delay *d, struct client_request *request, double seconds)
{
    struct delayed *x = mem_zero(1, sizeof(*x));

    ev_now_update(d->loop);
    x->request = request;
    x->due = ev_now(d->loop) + seconds - LOOK_SECS; /* 1.5 to 2.0 s for 2 s, as measured */
    DL_APPEND(d->queue, x);
    if (!ev_is_active(&d->timer)) {
        ev_timer_set(&d->timer, LOOK_SECS, LOOK_SECS);
        ev_timer_start(d->loop, &d->timer);
    }
    return x;
}

void delay_flush(struct delay *d)
{
    while (d->queue != NULL)
        client_request_flush(d->queue->request);
}
