/* Lines of the indexer and its queue: no crash; what can be read can be written, and reads the same again; whatever is asked for is
 * done, each mailbox at least once after the last wish, and no user has two at work. */
#include "indexer/queue.h"

#include <stdlib.h>

enum { WAITERS = 64, HANDS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned open_waiters;

static void heard(struct index_waiter *w, int percent)
{
    (void)w;
    if (percent == INDEXER_DONE || percent == INDEXER_FAILED)
        open_waiters--;
}

static void check_request(struct arena *arena, const struct indexer_request *one)
{
    struct indexer_request two;
    struct buffer line = {0};
    struct error e;

    indexer_request_write(&line, one);
    line.size--; /* LF */
    if (indexer_request_read(arena, buffer_slice(&line), &two, &e) < 0 || one->command != two.command || one->tag != two.tag ||
        one->max_recent != two.max_recent || strcmp(one->user, two.user) != 0 || strcmp(one->mailbox, two.mailbox) != 0 ||
        strcmp(one->session, two.session) != 0)
        abort();
    buffer_free(&line);
}

static void check_work(struct arena *arena, struct slice line)
{
    struct indexer_work one, two;
    struct buffer out = {0};
    struct error e;

    if (indexer_work_read(arena, line, &one, &e) < 0 || (!one.index && !one.optimize))
        return;
    indexer_work_write(&out, &one);
    out.size--;
    if (indexer_work_read(arena, buffer_slice(&out), &two, &e) < 0 || strcmp(one.user, two.user) != 0 ||
        strcmp(one.mailbox, two.mailbox) != 0 || one.max_recent != two.max_recent || one.index != two.index)
        abort();
    buffer_free(&out);
}

static void end_one(struct index_queue *q, struct index_task **hand, bool well)
{
    struct index_task *task = *hand;

    *hand = NULL;
    index_queue_ended(q, task, well);
}

static void take_one(struct index_queue *q, struct index_task **hands, unsigned i)
{
    hands[i] = index_queue_take(q);
    for (unsigned k = 0; hands[i] != NULL && k < HANDS; k++)
        if (k != i && hands[k] != NULL && strcmp(index_task_work(hands[k])->user, index_task_work(hands[i])->user) == 0)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct index_queue *q = index_queue_new(32);
    struct index_task *hands[HANDS] = {NULL};
    static struct index_waiter waiters[WAITERS];
    struct slice rest = slice_of(data, size), line;
    unsigned n = 0, i = 0;

    open_waiters = 0;
    while (rest.size > 0 && slice_split(&rest, '\n', &line)) {
        struct indexer_request r;
        struct error e;

        check_work(arena, line);
        i = (i + (unsigned)line.size) % HANDS;
        if (hands[i] != NULL && line.size % 3 == 0)
            end_one(q, &hands[i], line.size % 2 == 0);
        else if (hands[i] == NULL && line.size % 2 == 0)
            take_one(q, hands, i);
        if (indexer_request_read(arena, line, &r, &e) < 0)
            continue;
        check_request(arena, &r);
        if (r.tag == 0 || n >= WAITERS) {
            (void)index_queue_add(q, &r, NULL);
            continue;
        }
        waiters[n] = (struct index_waiter){.heard = heard};
        if (index_queue_add(q, &r, &waiters[n])) {
            if (r.tag % 5 == 4)
                index_waiter_leave(&waiters[n]);
            else
                open_waiters++;
            n++;
        }
    }
    while (index_queue_count(q) > 0) {
        i = (i + 1) % HANDS;
        if (hands[i] != NULL)
            end_one(q, &hands[i], true);
        else
            take_one(q, hands, i);
    }
    if (open_waiters != 0)
        abort();
    index_queue_free(q);
    arena_free(arena);
    return 0;
}
