/* queue.c - tasks in order, and users who have one at work (queue.h).
 *
 * Each task has a place in the order, a number: the next one at the end, or the one before the first. A user's waiting tasks are a
 * list in that order; free users who have some stand in a heap by the place of their first one. So taking and adding cost the
 * logarithm of the users, whatever their tasks. (A PREPEND is before all others, also of its user: lists grow only at their ends.) */
#include "indexer/queue.h"

#include <uthash.h>
#include <utlist.h>

struct index_user;

struct index_task {
    struct index_user *user;
    struct indexer_work work;
    char *mailbox, *session;
    int64_t place;
    bool at_work;
    bool again;                          /* asked for while it is at work */
    struct index_waiter *waiters, *later;   /* later: they have asked while it is at work */
    struct index_task *prev, *next;      /* waiting ones of the user */
    UT_hash_handle hh;                   /* of the user, by mailbox */
};

struct index_user {
    char *name;
    struct index_task *tasks;            /* all, by mailbox */
    struct index_task *waiting;
    bool busy;
    size_t at;                           /* place in the heap plus 1; 0 = not there */
    UT_hash_handle hh;
};

struct index_queue {
    struct index_user *users;
    VEC(struct index_user *) heap;       /* free users with waiting tasks; the first is the smallest */
    int64_t first, last;                 /* places given */
    unsigned most, count;
};

/* ---- the heap ---------------------------------------------------------------------------------------------------- */

static bool before(const struct index_user *a, const struct index_user *b)
{
    return a->waiting->place < b->waiting->place;
}

static void put_at(struct index_queue *q, size_t i, struct index_user *user)
{
    q->heap.at[i] = user;
    user->at = i + 1;
}

static void sift(struct index_queue *q, size_t i)
{
    struct index_user *user = q->heap.at[i];

    while (i > 0 && before(user, q->heap.at[(i - 1) / 2])) {
        put_at(q, i, q->heap.at[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * i + 1;

        if (child + 1 < q->heap.count && before(q->heap.at[child + 1], q->heap.at[child]))
            child++;
        if (child >= q->heap.count || !before(q->heap.at[child], user))
            break;
        put_at(q, i, q->heap.at[child]);
        i = child;
    }
    put_at(q, i, user);
}

/* The user has changed: into the heap, out of it, or to another place in it. */
static void place_user(struct index_queue *q, struct index_user *user)
{
    bool in = !user->busy && user->waiting != NULL;

    if (in && user->at == 0) {
        VEC_PUSH(&q->heap, user);
        sift(q, q->heap.count - 1);
    } else if (in) {
        sift(q, user->at - 1);
    } else if (user->at != 0) {
        size_t i = user->at - 1;
        struct index_user *last = q->heap.at[--q->heap.count];

        user->at = 0;
        if (last != user) {
            put_at(q, i, last);
            sift(q, i);
        }
    }
}

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

struct index_queue *index_queue_new(unsigned most)
{
    struct index_queue *q = mem_zero(1, sizeof(*q));

    q->most = most;
    return q;
}

static void drop_waiters(struct index_waiter **waiters)
{
    struct index_waiter *w, *next;

    DL_FOREACH_SAFE (*waiters, w, next)
        w->list = NULL;
    *waiters = NULL;
}

static void free_task(struct index_queue *q, struct index_task *task)
{
    drop_waiters(&task->waiters);
    drop_waiters(&task->later);
    HASH_DEL(task->user->tasks, task);
    mem_free(task->mailbox);
    mem_free(task->session);
    mem_free(task);
    q->count--;
}

static void free_user(struct index_queue *q, struct index_user *user)
{
    HASH_DEL(q->users, user);
    mem_free(user->name);
    mem_free(user);
}

void index_queue_free(struct index_queue *q)
{
    struct index_user *user, *next_user;
    struct index_task *task, *next;

    HASH_ITER (hh, q->users, user, next_user) {
        HASH_ITER (hh, user->tasks, task, next)
            free_task(q, task);
        free_user(q, user);
    }
    VEC_FREE(&q->heap);
    mem_free(q);
}

bool index_queue_full(const struct index_queue *q)
{
    return q->count >= q->most;
}

unsigned index_queue_count(const struct index_queue *q)
{
    return q->count;
}

static struct index_user *make_user(struct index_queue *q, const char *name)
{
    struct index_user *user;

    HASH_FIND_STR(q->users, name, user);
    if (user == NULL) {
        user = mem_zero(1, sizeof(*user));
        user->name = mem_strdup(name);
        HASH_ADD_KEYPTR(hh, q->users, user->name, strlen(user->name), user);
    }
    return user;
}

static void add_wishes(struct indexer_work *work, const struct indexer_request *r)
{
    if (r->command == INDEXER_OPTIMIZE)
        work->optimize = true;
    else
        work->index = true;
    if (r->max_recent < work->max_recent)
        work->max_recent = r->max_recent;
}

static void enqueue(struct index_queue *q, struct index_task *task, bool in_front)
{
    task->place = in_front ? --q->first : ++q->last;
    if (in_front)
        DL_PREPEND(task->user->waiting, task);
    else
        DL_APPEND(task->user->waiting, task);
    place_user(q, task->user);
}

static struct index_task *make_task(struct index_queue *q, struct index_user *user, const struct indexer_request *r)
{
    struct index_task *task = mem_zero(1, sizeof(*task));

    task->user = user;
    task->mailbox = mem_strdup(r->mailbox);
    task->session = mem_strdup(r->session);
    task->work = (struct indexer_work){.user = user->name, .mailbox = task->mailbox, .session = task->session, .max_recent = r->max_recent};
    HASH_ADD_KEYPTR(hh, user->tasks, task->mailbox, strlen(task->mailbox), task);
    q->count++;
    enqueue(q, task, r->command == INDEXER_PREPEND);
    return task;
}

bool index_queue_add(struct index_queue *q, const struct indexer_request *r, struct index_waiter *waiter)
{
    struct index_user *user;
    struct index_task *task = NULL;

    HASH_FIND_STR(q->users, r->user, user);
    if (user != NULL)
        HASH_FIND_STR(user->tasks, r->mailbox, task);
    if (task == NULL && index_queue_full(q))
        return false;
    if (task == NULL)
        task = make_task(q, make_user(q, r->user), r);
    add_wishes(&task->work, r); /* a worker that is at it has its line already */
    if (task->at_work) {
        task->again = true;
    } else if (r->command == INDEXER_PREPEND) {
        DL_DELETE(task->user->waiting, task);
        enqueue(q, task, true);
    }
    if (waiter != NULL) {
        waiter->list = task->at_work ? &task->later : &task->waiters;
        DL_APPEND(*waiter->list, waiter);
    }
    return true;
}

void index_waiter_leave(struct index_waiter *waiter)
{
    if (waiter->list != NULL)
        DL_DELETE(*waiter->list, waiter);
    waiter->list = NULL;
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

struct index_task *index_queue_take(struct index_queue *q)
{
    struct index_user *user = q->heap.count == 0 ? NULL : q->heap.at[0];
    struct index_task *task;

    if (user == NULL)
        return NULL;
    task = user->waiting;
    DL_DELETE(user->waiting, task);
    task->at_work = true;
    user->busy = true;
    place_user(q, user);
    return task;
}

const struct indexer_work *index_task_work(const struct index_task *task)
{
    return &task->work;
}

/* A waiter may leave, or ask again, while it is told. */
static void tell(struct index_waiter *list, int percent)
{
    struct index_waiter *w, *next;

    DL_FOREACH_SAFE (list, w, next)
        w->heard(w, percent);
}

void index_queue_progress(struct index_task *task, int percent)
{
    tell(task->waiters, percent);
}

/* Those who wait are told when the queue is in order again: what they do then is up to them. */
void index_queue_ended(struct index_queue *q, struct index_task *task, bool well)
{
    struct index_user *user = task->user;
    struct index_waiter *waiters = task->waiters, *w, *next;

    user->busy = false;
    task->waiters = NULL;
    DL_FOREACH (waiters, w)
        w->list = NULL;
    if (task->again) {
        task->waiters = task->later;
        task->later = NULL;
        DL_FOREACH (task->waiters, w)
            w->list = &task->waiters;
        task->again = task->at_work = false;
        enqueue(q, task, false);
    } else {
        free_task(q, task);
        place_user(q, user);
        if (user->tasks == NULL)
            free_user(q, user);
    }
    DL_FOREACH_SAFE (waiters, w, next)
        w->heard(w, well ? INDEXER_DONE : INDEXER_FAILED);
}
