/* workers.c - connections to the service indexer-worker, each with one task of the queue.
 *
 * How many there may be says each worker when it is connected to; before that one is tried. A connection serves one task, as with
 * the original. Whatever ends it before it has said 100 has failed the task: nobody is left to wait for, and a mailbox that kills
 * workers is not tried for ever. */
#include "indexer/indexer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

enum { CONNECT_WAIT_MS = 0, HANDS_MOST = 1000 };

struct index_hand {
    struct indexer *indexer;
    struct index_task *task;
    struct line_conn *line;
    enum { HAND_GREETING, HAND_LIMIT, HAND_WORK } state;
    struct index_hand *prev, *next;
};

static void end_task(struct indexer *x, struct index_task *task, bool well)
{
    bool full = index_queue_full(x->queue);

    index_queue_ended(x->queue, task, well);
    if (full)
        index_clients_resume(x);
}

static void end_hand(struct index_hand *h, bool well)
{
    struct indexer *x = h->indexer;
    struct index_task *task = h->task;

    line_conn_free(h->line);
    DL_DELETE(x->hands, h);
    x->hand_count--;
    mem_free(h);
    end_task(x, task, well);
    index_hands_start(x);
}

static void fail_hand(struct index_hand *h, const char *why)
{
    log_error(NULL, "conn unix:%s: %s", h->indexer->worker_path, why);
    end_hand(h, false);
}

static void fail_line(struct index_hand *h, const char *what, struct slice line)
{
    struct error e;

    (void)error_set(&e, ERROR_INVALID, "Worker sent invalid %s '%.*s'", what, (int)(line.size < 80 ? line.size : 80),
                    line.size == 0 ? "" : (const char *)line.at);
    fail_hand(h, e.admin);
}

/* How many workers there may be. */
static void take_limit(struct index_hand *h, struct slice line)
{
    uint32_t limit;

    if (!slice_to_u32(line, &limit) || limit == 0) {
        fail_line(h, "process limit", line);
        return;
    }
    h->indexer->hand_most = limit < HANDS_MOST ? limit : HANDS_MOST;
    h->state = HAND_WORK;
    index_hands_start(h->indexer);
}

static void take_percent(struct index_hand *h, struct slice line)
{
    uint32_t percent;

    if (slice_equal_str(line, "-1"))
        end_hand(h, false);
    else if (!slice_to_u32(line, &percent) || percent > INDEXER_DONE)
        fail_line(h, "progress", line);
    else if (percent == INDEXER_DONE)
        end_hand(h, true);
    else
        index_queue_progress(h->task, (int)percent);
}

static void take_line(void *arg, struct slice line)
{
    struct index_hand *h = arg;
    struct error e;
    unsigned minor;

    switch (h->state) {
    case HAND_GREETING:
        if (line_check_version(line, INDEXER_FROM_WORKER_NAME, INDEXER_VERSION, &minor, &e) < 0)
            fail_hand(h, e.admin);
        else
            h->state = HAND_LIMIT;
        return;
    case HAND_LIMIT:
        take_limit(h, line);
        return;
    case HAND_WORK:
        take_percent(h, line);
        return;
    }
}

static void take_close(void *arg, const struct error *e)
{
    struct index_hand *h = arg;

    if (e->class != ERROR_NONE)
        log_error(NULL, "conn unix:%s: %s", h->indexer->worker_path, e->admin);
    end_hand(h, false);
}

/* -1: nothing is there to connect to. */
static int start_hand(struct indexer *x, struct index_task *task, struct error *e)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = 1024, .output_max = 4 * INDEXER_LINE_MAX};
    int fd = line_connect(x->worker_path, CONNECT_WAIT_MS, e);
    struct buffer line = {0};
    struct index_hand *h;

    if (fd < 0)
        return -1;
    h = mem_zero(1, sizeof(*h));
    h->indexer = x;
    h->task = task;
    h->line = line_conn_new(x->loop, fd, &limits, &handler, h);
    DL_APPEND(x->hands, h);
    x->hand_count++;
    line_conn_send_version(h->line, INDEXER_TO_WORKER_NAME, INDEXER_VERSION, 0);
    indexer_work_write(&line, index_task_work(task));
    line_conn_send(h->line, buffer_slice(&line));
    buffer_free(&line);
    return 0;
}

/* The queue's work counts as a client, so that the process does not end before it is done. */
static void count_work(struct indexer *x)
{
    bool any = index_queue_count(x->queue) > 0;

    indexer_show(x);
    if (any == x->counted)
        return;
    x->counted = any;
    if (any)
        service_client_begin(x->service);
    else
        service_client_end(x->service);
}

void index_hands_start(struct indexer *x)
{
    struct index_task *task;
    struct error e;

    while (x->hand_count < x->hand_most && (task = index_queue_take(x->queue)) != NULL) {
        if (start_hand(x, task, &e) == 0)
            continue;
        log_error_value(NULL, &e);
        end_task(x, task, false);
    }
    count_work(x);
}

void index_hands_free(struct indexer *x)
{
    struct index_hand *h, *next;

    DL_FOREACH_SAFE (x->hands, h, next) {
        line_conn_free(h->line);
        mem_free(h);
    }
    x->hands = NULL;
}
