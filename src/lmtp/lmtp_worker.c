/* lmtp_worker.c - a delivery worker: runs with the recipients' credentials and writes messages into mailboxes.
 *
 * A job brings one sealed message and its recipients. In rounds, so that the number of open mailboxes stays bounded,
 * each recipient's message is staged (the first one's bytes, links of it for the others), then all are committed side
 * by side, so that their syncs share the journal. A recipient's failure touches nobody else. The answer goes back when
 * every recipient has its outcome: what is answered 250 is on disk (store.h, save_commit). */
#include "lmtp/lmtp_impl.h"
#include "lmtp/lmtp_deliver.h"
#include "lmtp/lmtp_job.h"

#include "store/later.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { ROUND = 50, SYNC_THREADS = 4, LATER_MS = 1000 };

struct worker {
    struct service *service;
    struct ev_loop *loop;
    struct dispatch_worker *dispatch;
    struct auth_homes *homes;
    ev_io pool;
};

struct report {
    struct deliver_line *lines;
    size_t count;
};

struct delivery {
    struct worker *worker;
    struct arena *arena;
    uint32_t id;
    struct lmtp_job job;
    struct slice message; /* mapped */
    struct deliver_message facts;
    struct deliver **open; /* one per recipient; NULL = not begun or over */
    size_t *next_of_user;  /* the next recipient of the round with the same user; 0 = none */
    size_t begun, over;    /* recipients */
    const char **answers;
    struct report *reports;
    size_t logged;         /* recipients whose lines are written: in order, whatever ends first */
};

static void start_round(struct delivery *d);

static void finish_job(struct delivery *d)
{
    dispatch_worker_answer(d->worker->dispatch, d->id, d->answers, d->job.count);
    if (d->message.at != NULL)
        munmap((void *)(uintptr_t)d->message.at, d->message.size);
    arena_free(d->arena);
    mem_free(d);
}

static void keep_lines(struct delivery *d, unsigned index, const struct deliver_line *lines, size_t count)
{
    struct report *r = &d->reports[index];

    r->count = count;
    r->lines = arena_copy(d->arena, lines, count * sizeof(*lines));
    for (size_t i = 0; i < count; i++) {
        r->lines[i].text = arena_strdup(d->arena, lines[i].text);
        r->lines[i].prefix = lines[i].prefix == NULL ? NULL : arena_strdup(d->arena, lines[i].prefix);
    }
}

static void write_lines(struct delivery *d)
{
    for (; d->logged < d->job.count && d->answers[d->logged] != NULL; d->logged++) {
        const struct report *r = &d->reports[d->logged];
        for (size_t i = 0; i < r->count; i++) {
            struct log log = {.prefix = (char *)(uintptr_t)r->lines[i].prefix};
            log_write(log.prefix == NULL ? NULL : &log, r->lines[i].level, "%s", r->lines[i].text);
        }
    }
}

static void recipient_over(void *arg, unsigned index, const char *answer, const struct deliver_line *lines, size_t count)
{
    struct delivery *d = arg;

    keep_lines(d, index, lines, count);
    d->answers[index] = arena_printf(d->arena, "%u %s", d->job.rcpts[index].index, answer);
    d->open[index] = NULL;
    write_lines(d);
    if (++d->over == d->job.count)
        finish_job(d);
    else if (d->over == d->begun)
        start_round(d);
    else if (d->next_of_user[index] != 0)
        deliver_commit(d->open[d->next_of_user[index]]);
}

/* One user's deliveries follow each other, so that their UIDs, subscriptions and files have the order of RCPT. Marks
 * who waits for whom; true: this one waits for an earlier one. */
static bool waits(struct delivery *d, size_t from, size_t index)
{
    for (size_t i = index; i-- > from;)
        if (strcmp(d->job.rcpts[i].user, d->job.rcpts[index].user) == 0) {
            d->next_of_user[i] = index;
            return true;
        }
    return false;
}

static void start_round(struct delivery *d)
{
    size_t from = d->begun, end = from + ROUND < d->job.count ? from + ROUND : d->job.count;
    bool waiting[ROUND] = {false};
    struct deliver *first = NULL;
    size_t last = from;

    d->begun = end;
    for (size_t i = from; i < end; i++) {
        struct deliver_request request = {.loop = d->worker->loop,
                                          .conf = service_conf(d->worker->service),
                                          .homes = d->worker->homes,
                                          .message = &d->facts,
                                          .sender = d->job.sender,
                                          .rcpt = &d->job.rcpts[i],
                                          .number = (unsigned)i};
        d->open[i] = deliver_stage(&request, first, recipient_over, d);
        if (first == NULL && deliver_is_staged(d->open[i]))
            first = d->open[i];
        waiting[i - from] = waits(d, from, i);
        if (!waiting[i - from])
            last = i;
    }
    /* All are staged; now they are committed. The commit of the last one may free the job. */
    for (size_t i = from; i < last; i++)
        if (!waiting[i - from])
            deliver_commit(d->open[i]);
    deliver_commit(d->open[last]);
}

static int map_message(int fd, struct slice *out, struct error *e)
{
    struct stat st;
    void *at;

    /* Unsealed memory could change while it is read. */
    if ((fcntl(fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_SHRINK)) != (F_SEAL_WRITE | F_SEAL_SHRINK))
        return error_set(e, ERROR_INVALID, "Delivery job: the message is not sealed");
    if (fstat(fd, &st) < 0)
        return error_sys(e, "fstat", "message");
    if (st.st_size == 0) {
        *out = SLICE_EMPTY;
        return 0;
    }
    at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return error_sys(e, "mmap", "message");
    *out = slice_of(at, (size_t)st.st_size);
    return 0;
}

/* Who the user is has been asked by the dispatcher. */
static void answer_room(struct worker *w, struct delivery *d, const struct dispatch_request *from)
{
    const struct deliver_request request = {.loop = w->loop, .conf = service_conf(w->service), .homes = w->homes, .rcpt = d->job.rcpts};
    const char *fields[3];
    size_t n;

    d->job.rcpts[0].user = from->user;
    d->job.rcpts[0].userdb = from->userdb;
    n = deliver_room(&request, d->job.room_service, d->job.room_size, d->arena, fields);

    dispatch_worker_answer(w->dispatch, d->id, fields, n);
    arena_free(d->arena);
    mem_free(d);
}

static void take_job(void *arg, const struct dispatch_request *request, int fd)
{
    struct worker *w = arg;
    struct delivery *d = mem_zero(1, sizeof(*d));
    struct error e;
    int r;

    d->worker = w;
    d->arena = arena_new();
    d->id = request->id;
    r = lmtp_job_read(d->arena, request->input, &d->job, &e);
    if (r == 0 && d->job.room_service != NULL) {
        if (fd >= 0)
            close(fd);
        answer_room(w, d, request);
        return;
    }
    if (r == 0 && fd < 0)
        r = error_set(&e, ERROR_INVALID, "Delivery job: no message");
    if (r < 0 || map_message(fd, &d->message, &e) < 0) {
        log_error_value(NULL, &e);
        if (fd >= 0)
            close(fd);
        dispatch_worker_answer(w->dispatch, request->id, NULL, 0);
        arena_free(d->arena);
        mem_free(d);
        return;
    }
    close(fd); /* the mapping stays */
    d->facts = deliver_message_read(d->arena, d->message);
    d->facts.started_usecs = request->created_usecs;
    d->open = ARENA_ARRAY(d->arena, struct deliver *, d->job.count);
    d->next_of_user = ARENA_ARRAY(d->arena, size_t, d->job.count);
    d->answers = ARENA_ARRAY(d->arena, const char *, d->job.count);
    d->reports = ARENA_ARRAY(d->arena, struct report, d->job.count);
    start_round(d);
}

static void no_session(void *arg, const struct dispatch_request *request, int fd)
{
    struct worker *w = arg;

    close(fd);
    dispatch_worker_end(w->dispatch, request->id);
}

static void no_kick(void *arg, uint32_t id, const char *reason)
{
    (void)arg;
    (void)id;
    (void)reason; /* a delivery is short and is not interrupted */
}

static void pool_ready(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    (void)io;
    (void)events;
    os_sync_poll();
}

/* Whoever has a shared namespace asks for the homes of others. NULL: no configuration, no delivery will get far. */
static struct auth_homes *new_homes(struct service *service)
{
    struct conf_filter filter = {.service = "lmtp"};
    struct error e;
    struct settings *set = conf_settings(service_conf(service), &filter, &e);
    struct auth_homes *homes = set == NULL ? NULL : auth_homes_new(conf_str(set, SET_base_dir), "lmtp");

    settings_unref(set);
    return homes;
}

int lmtp_worker_main(struct service *service)
{
    static const struct dispatch_handler handler = {.session = no_session, .job = take_job, .kick = no_kick};
    static const struct service_handler events = {0};
    struct worker w = {.service = service, .loop = service_loop(service)};
    struct error e;
    int status;

    os_fault_from_env();
    service_drop_privileges(service, 0);
    if (os_sync_pool_start(SYNC_THREADS, &e) < 0)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    ev_io_init(&w.pool, pool_ready, os_sync_fd(), EV_READ);
    ev_io_start(w.loop, &w.pool);
    store_later_begin(w.loop);
    service_ready(service, &events, &w);
    w.homes = new_homes(service);
    w.dispatch = dispatch_worker_new(service, &handler, &w);
    status = service_run(service);
    store_later_end(LATER_MS);
    dispatch_worker_free(w.dispatch);
    auth_homes_free(w.homes);
    ev_io_stop(w.loop, &w.pool);
    os_sync_pool_stop();
    return status;
}
