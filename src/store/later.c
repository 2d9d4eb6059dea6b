/* later.c - a list of ops, each with its timer in the process's loop. */
#include "store/later.h"

#include "store/http.h"

#include <time.h>
#include <utlist.h>

enum { SLICE_MS = 2, NET_MS = 1000, HTTP_MS = 5000 };   /* NET: for what should have been woken */

struct later {
    struct later *prev, *next;
    struct store_op *op;
    ev_timer timer;
};

static struct ev_loop *loop;       /* the process has one */
static struct later *all;
static bool ending;

static void drop(struct later *l)
{
    ev_timer_stop(loop, &l->timer);
    DL_DELETE(all, l);
    store_op_free(&l->op);
    mem_free(l);
}

static void run_again(struct later *l, unsigned ms)
{
    ev_timer_stop(loop, &l->timer);
    ev_timer_set(&l->timer, ms / 1000.0, 0);
    ev_timer_start(loop, &l->timer);
}

static void run(struct ev_loop *in, ev_timer *timer, int events)
{
    struct later *l = timer->data;
    struct budget budget = budget_ms(SLICE_MS);
    struct error e;
    enum step r = store_op_step(l->op, &budget, &e);

    (void)in;
    (void)events;
    if (r == STEP_DONE || r == STEP_ERROR)
        drop(l);
    else if (r != STEP_WAIT)
        run_again(l, 0);
    else
        run_again(l, store_op_retry_ms(l->op) > 0 ? store_op_retry_ms(l->op) : NET_MS);
}

static void wake(void *arg)
{
    run_again(arg, 0);
}

void store_later_begin(struct ev_loop *of_process)
{
    loop = of_process;
}

bool store_later_has_loop(void)
{
    return loop != NULL;
}

struct ev_loop *store_later_loop(void)
{
    return loop;
}

bool store_later_ending(void)
{
    return ending;
}

void store_later(struct store_op *op)
{
    struct later *l;
    struct error e;

    if (loop == NULL) {
        (void)store_op_wait(op, &e);
        return;
    }
    l = mem_zero(1, sizeof(*l));
    l->op = op;
    ev_timer_init(&l->timer, run, 0, 0);
    l->timer.data = l;
    store_op_set_wake(op, wake, l);
    DL_APPEND(all, l);
    ev_timer_start(loop, &l->timer);
}

/* Steps each once; true: something is left. */
static bool run_all(void)
{
    struct later *l, *next;

    DL_FOREACH_SAFE(all, l, next)
        run(loop, &l->timer, 0);
    return all != NULL;
}

void store_later_end(unsigned ms)
{
    const uint64_t until = time_monotonic_ns() + ms * 1000000ull;

    ending = true;
    while (loop != NULL && run_all() && time_monotonic_ns() < until) {
        os_sync_poll();
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    while (all != NULL)
        drop(all);
    store_http_end(HTTP_MS);
    loop = NULL;
}
