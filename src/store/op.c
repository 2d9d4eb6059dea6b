/* op.c - operations in steps, and who may have a mailbox's locks.
 *
 * A mailbox has one job at a time in this process; other ops queue and are woken when it ends. What other processes have
 * locked is tried again after 1, 2, 4 ... 100 ms, up to Dovecot's limit (maildir-and-layouts 8.5: 122 s), or to
 * mail_max_lock_timeout where that is less. */
#include "store/internal.h"
#include "store/plugins.h"

#include <time.h>
#include <utlist.h>

#define LOCK_TIMEOUT_SECS 122u

void *store_op_new(size_t size, const struct op_class *class)
{
    struct store_op *op = mem_zero(1, size);

    op->class = class;
    return op;
}

void store_op_set_wake(struct store_op *op, void (*wake)(void *arg), void *arg)
{
    op->wake = wake;
    op->wake_arg = arg;
}

void store_op_wake(struct store_op *op)
{
    if (op->wake != NULL)
        op->wake(op->wake_arg);
}

bool store_op_take(struct store_op *op, struct mailbox *box)
{
    if (box->job == op)
        return true;
    if (box->job == NULL && (box->waiting == NULL || box->waiting == op)) {
        if (op->queued)
            DL_DELETE(box->waiting, op);
        op->queued = false;
        op->box = box;
        box->job = op;
        return true;
    }
    if (!op->queued) {
        op->queued = true;
        op->box = box;
        DL_APPEND(box->waiting, op);
    }
    op->async = true;
    return false;
}

void store_op_give(struct store_op *op)
{
    struct mailbox *box = op->box;

    if (box == NULL)
        return;
    if (op->queued)
        DL_DELETE(box->waiting, op);
    op->queued = false;
    op->box = NULL;
    if (box->job == op)
        box->job = NULL;
    if (box->job == NULL && box->waiting != NULL)
        store_op_wake(box->waiting);
}

static void forward_wake(void *arg)
{
    store_op_wake(arg);
}

enum step store_op_inner(struct store_op *op, struct budget *budget, struct error *e)
{
    enum step r;

    if (op->inner == NULL)
        return STEP_DONE;
    store_op_set_wake(op->inner, forward_wake, op);
    r = store_op_step(op->inner, budget, e);
    if (r == STEP_WAIT) {
        op->async = op->inner->retry_ms == 0;
        return r;
    }
    if (r == STEP_DONE || r == STEP_ERROR)
        store_op_free(&op->inner);
    return r;
}

static unsigned lock_timeout_secs(const struct store_op *op)
{
    unsigned most = op->box == NULL ? 0 : conf_secs(mail_user_settings(op->box->user), SET_mail_max_lock_timeout);

    return most > 0 && most < LOCK_TIMEOUT_SECS ? most : LOCK_TIMEOUT_SECS;
}

enum step store_op_step(struct store_op *op, struct budget *budget, struct error *e)
{
    enum step r;

    op->async = false;
    if (op->box != NULL)
        mail_user_enter(op->box->user);
    r = op->class->run(op, budget, e);
    if (r != STEP_WAIT) {
        op->tries = op->retry_most = 0;
        op->wait_since_ns = 0;
        if (r == STEP_DONE || r == STEP_ERROR) {
            op->class->end(op);
            store_op_give(op);
            op->dead = true;
        }
        return r;
    }
    if (op->async) {
        /* Whoever holds us up wakes us; the timer is a net for what nobody foresaw. */
        op->retry_ms = op->inner != NULL && op->inner->retry_ms != 0 ? op->inner->retry_ms : 0;
        return r;
    }
    if (op->wait_since_ns == 0)
        op->wait_since_ns = time_monotonic_ns();
    if (time_monotonic_ns() - op->wait_since_ns > lock_timeout_secs(op) * 1000000000ull) {
        unsigned secs = lock_timeout_secs(op);

        op->class->end(op);
        store_op_give(op);
        op->dead = true;
        error_set(e, ERROR_LOCK_TIMEOUT, "Timeout (%us) while waiting for lock", secs);
        error_user(e, "Timeout while waiting for lock");
        return STEP_ERROR;
    }
    op->retry_ms = op->tries < 7 ? 1u << op->tries : 100;
    if (op->retry_most != 0 && op->retry_ms > op->retry_most)
        op->retry_ms = 1 + op->tries % op->retry_most; /* no rhythm that another's could fall in with */
    if (op->inner != NULL && op->inner->retry_ms != 0 && op->inner->retry_ms < op->retry_ms)
        op->retry_ms = op->inner->retry_ms;
    op->tries++;
    return r;
}

unsigned store_op_retry_ms(const struct store_op *op)
{
    return op->retry_ms;
}

void store_op_free(struct store_op **op_p)
{
    struct store_op *op = *op_p;

    if (op == NULL)
        return;
    *op_p = NULL;
    store_op_free(&op->inner);
    if (!op->dead) {
        op->class->end(op);
        store_op_give(op);
    }
    mem_free(op);
}

void store_op_finish(struct store_op *op, unsigned ms)
{
    struct budget budget = BUDGET_UNLIMITED;
    struct error e;
    enum step r;

    while ((r = store_op_step(op, &budget, &e)) == STEP_MORE || (r == STEP_WAIT && ms > 0)) {
        if (r == STEP_WAIT) {
            os_sync_poll();
            nanosleep(&(struct timespec){0, 1000000}, NULL);
            ms--;
        }
    }
    store_op_free(&op);
}

int store_op_wait(struct store_op *op, struct error *e)
{
    struct budget budget = BUDGET_UNLIMITED;
    enum step r;

    while ((r = store_op_step(op, &budget, e)) == STEP_MORE || r == STEP_WAIT) {
        unsigned ms = op->retry_ms == 0 ? 1 : op->retry_ms;

        if (r == STEP_WAIT) {
            os_sync_poll();
            nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
        }
    }
    store_op_free(&op);
    return r == STEP_DONE ? 0 : -1;
}

/* ---- fsync ---- */

struct store_fsync {
    struct store_op *op;         /* NULL: nobody waits any more */
    bool done;
    int result;
    struct error e;
};

static void fsync_done(void *arg, const struct error *e)
{
    struct store_fsync *sync = arg;

    sync->done = true;
    sync->result = e->class == ERROR_NONE ? 0 : -1;
    sync->e = *e;
    if (sync->op != NULL)
        store_op_wake(sync->op);
}

struct store_fsync *store_fsync_start(struct store_op *op, const int *fds, size_t n)
{
    struct store_fsync *sync = mem_zero(1, sizeof(*sync));

    sync->op = NULL; /* what is done at once wakes nobody: we are inside a step */
    os_sync_submit(fds, n, fsync_done, sync);
    sync->op = op;
    return sync;
}

bool store_fsync_done(struct store_fsync *sync, int *result, struct error *e)
{
    if (!sync->done)
        return false;
    *result = sync->result;
    if (sync->result < 0)
        *e = sync->e;
    return true;
}

void store_fsync_free(struct store_fsync **sync_p)
{
    struct store_fsync *sync = *sync_p;

    if (sync == NULL)
        return;
    *sync_p = NULL;
    sync->op = NULL;
    while (!sync->done) { /* cancelled: the threads still use the descriptors */
        os_sync_poll();
        if (!sync->done)
            nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    mem_free(sync);
}
