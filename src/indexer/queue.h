/* What the indexer has still to do: one request per user and mailbox, in order, no two of one user at work at a time.
 *
 * Pure: no sockets, no clock. A request that is asked for again while it waits becomes one with the first: the smaller max_recent
 * counts (0 is the smallest: no limit), the first session's name stays, PREPEND moves it to the front. One that is asked for while
 * it is at work comes again at the end, for those who have asked since; the mailbox may have been read already where the new
 * message is.
 *
 *     take: PREPENDs, the last first, then the others in their order; but those whose user is at work stand aside, each user's in
 *     their order, until he is free.
 *
 * Everybody may write to the indexer's socket, so the queue has an end: index_queue_full. */
#ifndef YARILO_INDEXER_QUEUE_H
#define YARILO_INDEXER_QUEUE_H

#include "rpc/indexer.h"

struct index_queue;
struct index_task;

/* Who wants to hear of a task. Chained into it by index_queue_add; `heard` is called for each percent, and once for the end
 * (INDEXER_DONE or INDEXER_FAILED), after which the queue knows it no more. It may free its own waiter then, and no other. */
struct index_waiter {
    void (*heard)(struct index_waiter *, int percent);
    struct index_waiter **list;          /* NULL = not waiting */
    struct index_waiter *prev, *next;
};

struct index_queue *index_queue_new(unsigned most);      /* tasks */
void index_queue_free(struct index_queue *);             /* waiters hear nothing any more */
bool index_queue_full(const struct index_queue *);
unsigned index_queue_count(const struct index_queue *);  /* at work too */

/* Not while the queue is full, unless it has the task already. waiter NULL: nobody wants to hear. false: full. */
bool index_queue_add(struct index_queue *, const struct indexer_request *, struct index_waiter *);
void index_waiter_leave(struct index_waiter *);          /* the task stays */

/* The next task that may begin, at work from now on; NULL: none. */
struct index_task *index_queue_take(struct index_queue *);
const struct indexer_work *index_task_work(const struct index_task *);   /* lives until index_queue_ended */
void index_queue_progress(struct index_task *, int percent);
/* Its end; the task is gone, or waits again. */
void index_queue_ended(struct index_queue *, struct index_task *, bool well);

#endif
