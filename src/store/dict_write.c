/* dict_write.c - a commit as an op of its own, with a dictionary of its own.
 *
 * Each has a connection, so few run at a time: a dict service that hangs costs a bounded number of descriptors. The others
 * stand in a queue and are woken one by one. */
#include "store/dict_write.h"

#include "store/internal.h"
#include "store/later.h"

#include <utlist.h>

enum { RUN_MOST = 16, WAIT_MOST = 1000 };

struct dict_writer {
    struct store_op op;            /* first */
    struct dict_writer *prev, *next;   /* in the queue */
    struct arena *arena;
    const char *what;
    struct log log, *log_p;
    struct dict *dict;
    struct dict_change *changes;
    size_t count;
    bool queued, running, ended;
    void (*done)(void *arg);       /* NULL = nobody wants to know */
    void *arg;
};

static struct dict_writer *queue;
static unsigned running, waiting;

static void leave_queue(struct dict_writer *w)
{
    if (!w->queued)
        return;
    DL_DELETE(queue, w);
    w->queued = false;
    waiting--;
}

static bool may_run(struct dict_writer *w)
{
    if (w->running)
        return true;
    if (running >= RUN_MOST || (queue != NULL && queue != w)) {
        if (!w->queued) {
            DL_APPEND(queue, w);
            w->queued = true;
            waiting++;
        }
        return false;
    }
    leave_queue(w);
    w->running = true;
    running++;
    return true;
}

static enum step run(struct store_op *op, struct budget *budget, struct error *e)
{
    struct dict_writer *w = (struct dict_writer *)op;
    bool uncertain;
    enum step r;

    (void)budget;
    if (!may_run(w)) {
        op->async = true;
        return STEP_WAIT;
    }
    r = dict_commit_step(w->dict, w->changes, w->count, &uncertain, e);
    if (r == STEP_WAIT)
        return r;
    w->ended = true;
    if (r == STEP_ERROR) {
        error_context(e, "%s: %s: ", w->what, uncertain ? "Write was unconfirmed (timeout or disconnect)" : "Failed to write value");
        log_error_value(w->log_p, e);
    }
    return r;
}

static void end(struct store_op *op)
{
    struct dict_writer *w = (struct dict_writer *)op;

    if (!w->ended)
        log_write(w->log_p, LOG_LEVEL_ERROR, "%s: Write was unconfirmed (timeout or disconnect): it took too long", w->what);
    leave_queue(w);
    if (w->running)
        running--;
    dict_close(&w->dict);
    arena_free(w->arena);
    w->arena = NULL;
    if (w->done != NULL)
        w->done(w->arg);
    if (queue != NULL && running < RUN_MOST)
        store_op_wake(&queue->op);
}

static const struct op_class writer_class = {.run = run, .end = end};

void dict_write(struct mail_user *user, const char *what, const char *uri, const struct dict_change *changes, size_t count, void (*done)(void *arg),
                void *arg)
{
    struct dict_writer *w;
    struct dict *dict = NULL;
    struct error e;

    if (waiting >= WAIT_MOST) {
        error_set(&e, ERROR_LIMIT, "%s: Failed to write value: %u others wait already", what, waiting);
    } else if (mail_user_dict(user, uri, NULL, &dict, &e) < 0) {
        error_context(&e, "%s: dict_init(%s) failed: ", what, uri);
    }
    if (dict == NULL) {
        log_error_value(user->log_p, &e);
        if (done != NULL)
            done(arg);
        return;
    }
    w = store_op_new(sizeof(*w), &writer_class);
    w->arena = arena_new();
    w->what = arena_strdup(w->arena, what);
    w->dict = dict;
    w->changes = arena_copy(w->arena, changes, count * sizeof(*changes));
    w->count = count;
    w->done = done;
    w->arg = arg;
    for (size_t i = 0; i < count; i++) {
        w->changes[i].key = arena_strdup(w->arena, changes[i].key);
        w->changes[i].value = changes[i].value == NULL ? NULL : arena_strdup(w->arena, changes[i].value);
    }
    if (user->log_p != NULL) {
        w->log = *user->log_p;
        w->log.prefix = w->log.prefix == NULL ? NULL : arena_strdup(w->arena, w->log.prefix);
        w->log_p = &w->log;
    }
    store_later(&w->op);
}
