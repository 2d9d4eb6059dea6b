/* os_sync.c - fsync away from the loop: the only threads in the house (DECISIONS 11).
 *
 * A job is a list of descriptors. Threads take jobs from a queue, sync each descriptor through the door, and put them
 * on the finished list; an eventfd wakes the loop, which calls done() on its own thread. Nothing else is shared.
 *
 * Where jobs are done sooner than a thread can be woken and wake the loop again (a file system in memory, a controller whose memory
 * outlasts the power), the loop does them itself, until one takes longer. */
#include "base/mem.h"
#include "base/os.h"
#include "base/os_door.h"
#include "base/step.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

enum { MOST_THREADS = 16, QUICK_NS = 50 * 1000 };

struct job {
    struct job *next, *prev;
    void (*done)(void *, const struct error *);
    void *arg;
    struct error error;
    size_t n;
    int fds[];
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct job *queue, *finished;
    bool stop;
    pid_t owner; /* a forked child has no threads: it syncs inline */
    int event_fd;
    unsigned threads;
    pthread_t thread[MOST_THREADS];
    atomic_long usual_ns; /* that a job takes; the average of the last eight or so */
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .event_fd = -1, .usual_ns = LONG_MAX};

static void run_job(struct job *job)
{
    uint64_t begun = time_monotonic_ns();
    long took, usual;

    error_clear(&job->error);
    for (size_t i = 0; i < job->n; i++)
        if (os_sync(job->fds[i], &job->error) < 0)
            break;
    took = (long)(time_monotonic_ns() - begun);
    usual = atomic_load_explicit(&pool.usual_ns, memory_order_relaxed);
    /* Threads that write at the same time lose one of their measures, no more. */
    usual = usual == LONG_MAX || took > QUICK_NS ? took : usual - usual / 8 + took / 8;
    atomic_store_explicit(&pool.usual_ns, usual, memory_order_relaxed);
}

static bool is_quick(void)
{
    return atomic_load_explicit(&pool.usual_ns, memory_order_relaxed) < QUICK_NS;
}

static void *run_thread(void *arg)
{
    uint64_t one = 1;

    (void)arg;
    pthread_mutex_lock(&pool.mutex);
    for (;;) {
        struct job *job = pool.queue;

        if (job == NULL) {
            if (pool.stop)
                break;
            pthread_cond_wait(&pool.work, &pool.mutex);
            continue;
        }
        DL_DELETE(pool.queue, job);
        pthread_mutex_unlock(&pool.mutex);
        run_job(job);
        pthread_mutex_lock(&pool.mutex);
        DL_APPEND(pool.finished, job);
        (void)!write(pool.event_fd, &one, sizeof(one)); /* full (2^64-2): it is readable anyway */
    }
    pthread_mutex_unlock(&pool.mutex);
    return NULL;
}

static bool pool_runs(void)
{
    return pool.threads > 0 && pool.owner == getpid();
}

int os_sync_pool_start(unsigned threads, struct error *e)
{
    sigset_t all, before;
    int r = 0;

    if (pool_runs())
        return 0;
    pool.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool.event_fd < 0)
        return error_sys(e, "eventfd", NULL);
    pool.owner = getpid();
    pool.stop = false;
    pool.threads = 0;
    /* Signals are the loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.threads < threads && pool.threads < MOST_THREADS && r == 0) {
        r = pthread_create(&pool.thread[pool.threads], NULL, run_thread, NULL);
        if (r == 0)
            pool.threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pool.threads == 0) {
        close(pool.event_fd);
        pool.event_fd = -1;
        errno = r;
        return error_sys(e, "pthread_create", NULL);
    }
    return 0;
}

void os_sync_pool_stop(void)
{
    if (!pool_runs())
        return;
    pthread_mutex_lock(&pool.mutex);
    pool.stop = true;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
    for (unsigned i = 0; i < pool.threads; i++)
        pthread_join(pool.thread[i], NULL);
    os_sync_poll();
    close(pool.event_fd);
    pool.event_fd = -1;
    pool.threads = 0;
}

int os_sync_fd(void)
{
    return pool_runs() ? pool.event_fd : -1;
}

void os_sync_poll(void)
{
    struct job *list, *job, *next;
    uint64_t count;

    if (!pool_runs())
        return;
    (void)!read(pool.event_fd, &count, sizeof(count)); /* the list says what is done, the number does not matter */
    pthread_mutex_lock(&pool.mutex);
    list = pool.finished;
    pool.finished = NULL;
    pthread_mutex_unlock(&pool.mutex);
    DL_FOREACH_SAFE(list, job, next)
    {
        job->done(job->arg, &job->error);
        mem_free(job);
    }
}

void os_sync_submit(const int *fds, size_t n, void (*done)(void *, const struct error *), void *arg)
{
    size_t size;
    struct job *job;

    if (__builtin_mul_overflow(n, sizeof(int), &size) || __builtin_add_overflow(size, sizeof(*job), &size))
        mem_exhausted(n);
    job = mem_zero(1, size);
    job->done = done;
    job->arg = arg;
    job->n = n;
    if (n > 0)
        memcpy(job->fds, fds, n * sizeof(int));
    if (!pool_runs() || os_door_armed() || is_quick()) {
        run_job(job);
        done(arg, &job->error);
        mem_free(job);
        return;
    }
    pthread_mutex_lock(&pool.mutex);
    DL_APPEND(pool.queue, job);
    pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
}
