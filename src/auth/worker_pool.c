/* worker_pool.c - asks auth-worker processes (auth.md 20).
 *
 * A worker does one thing at a time: each connection has at most one request. What finds no free worker waits in one
 * queue, in order; auth_worker_max_count bounds the connections. A connection that breaks in the middle of a request
 * makes that request an internal failure, once: the database may have been changed or may be what kills the worker. */
#include "auth/worker_pool.h"
#include "auth/cache.h"
#include "auth/scheme.h"
#include "rpc/line.h"

#include <stdio.h>
#include <utlist.h>

#define LINE_MAX_BYTES 8192
#define LOOKUP_TIMEOUT_SECS 60
#define LIST_TIMEOUT_SECS (30 * 60)
#define IDLE_SECS (5 * 60)
#define QUEUE_ABORT_SECS 60
#define QUEUE_WARN_SECS 3
#define QUEUE_WARN_EVERY_SECS 300
#define RETRY_SECS 1.

struct job {
    struct request *request;
    uint32_t id;
    struct buffer line;        /* without the id; wiped */
    ev_tstamp queued;
    passdb_done_fn *passdb;
    userdb_done_fn *userdb;
    db_each_fn *each;
    void (*listed)(void *, bool ok);
    void *arg;
    struct job *next, *prev;
};

struct worker {
    struct worker_pool *pool;
    struct line_conn *conn;
    struct job *job;
    bool greeted, retiring;
    ev_timer timer;            /* of the job, or until an idle worker goes */
    struct worker *next, *prev;
};

struct worker_pool {
    struct server *server;
    char *path;
    unsigned most, count;
    struct worker *workers;
    struct job *queue;
    unsigned waiting;
    uint32_t last_id;
    ev_timer retry;            /* looks after the queue: retries connecting, gives up what waits too long */
    ev_tstamp warned;
};

static void handle_line(void *arg, struct slice line);
static void handle_closed(void *arg, const struct error *);
static const struct line_handler conn_handler = {.line = handle_line, .closed = handle_closed};

static void run_queue(struct worker_pool *);

/* ---- jobs ----------------------------------------------------------------------------------------------------- */

static void free_job(struct job *job)
{
    request_unref(job->request);
    buffer_wipe(&job->line);
    mem_free(job);
}

static void fail_job(struct job *job)
{
    if (job->passdb != NULL)
        job->passdb(job->request, PASSDB_INTERNAL);
    else if (job->userdb != NULL)
        job->userdb(job->request, USERDB_INTERNAL);
    else
        job->listed(job->arg, false);
    free_job(job);
}

static void queue_ready(struct ev_loop *loop, ev_timer *w, int events)
{
    struct worker_pool *pool = w->data;

    (void)events;
    while (pool->queue != NULL && ev_now(loop) - pool->queue->queued > QUEUE_ABORT_SECS) {
        struct job *job = pool->queue;
        DL_DELETE(pool->queue, job);
        pool->waiting--;
        request_error(job->request, "Aborting auth request that was queued for %d seconds, %u left in queue",
                      (int)(ev_now(loop) - job->queued), pool->waiting);
        fail_job(job);
    }
    run_queue(pool);
}

struct worker_pool *worker_pool_new(struct server *server, const char *path, unsigned most)
{
    struct worker_pool *pool = mem_zero(1, sizeof(*pool));

    pool->server = server;
    pool->path = mem_strdup(path);
    pool->most = most;
    pool->warned = -QUEUE_WARN_EVERY_SECS;
    ev_timer_init(&pool->retry, queue_ready, 0., 0.);
    pool->retry.data = pool;
    return pool;
}

/* ---- workers -------------------------------------------------------------------------------------------------- */

static void free_worker(struct worker *w)
{
    DL_DELETE(w->pool->workers, w);
    w->pool->count--;
    ev_timer_stop(w->pool->server->loop, &w->timer);
    line_conn_free(w->conn);
    mem_free(w);
}

void worker_pool_free(struct worker_pool *pool)
{
    if (pool == NULL)
        return;
    while (pool->workers != NULL) {
        if (pool->workers->job != NULL)
            free_job(pool->workers->job);
        free_worker(pool->workers);
    }
    while (pool->queue != NULL) {
        struct job *job = pool->queue;
        DL_DELETE(pool->queue, job);
        free_job(job);
    }
    ev_timer_stop(pool->server->loop, &pool->retry);
    mem_free(pool->path);
    mem_free(pool);
}

static void set_timer(struct worker *w, double seconds)
{
    ev_timer_stop(w->pool->server->loop, &w->timer);
    ev_now_update(w->pool->server->loop);
    ev_timer_set(&w->timer, seconds, 0.);
    ev_timer_start(w->pool->server->loop, &w->timer);
}

/* The worker has answered, or never will. */
static struct job *take_job(struct worker *w)
{
    struct job *job = w->job;

    w->job = NULL;
    set_timer(w, IDLE_SECS);
    return job;
}

static void lose_worker(struct worker *w, const char *why)
{
    struct worker_pool *pool = w->pool;
    struct job *job = w->job;

    if (job != NULL) {
        log_error(NULL, "auth worker: Aborted %s request for %s: %s",
                  job->passdb != NULL ? "PASSV" : job->userdb != NULL ? "USER" : "LIST",
                  job->request->user == NULL ? "" : job->request->user, why);
        w->job = NULL;
    }
    free_worker(w);
    if (job != NULL)
        fail_job(job);
    run_queue(pool);
}

static void timer_ready(struct ev_loop *loop, ev_timer *t, int events)
{
    struct worker *w = t->data;

    (void)loop, (void)events;
    if (w->job != NULL)
        lose_worker(w, "Lookup timed out");
    else if (w->pool->count > 1)
        free_worker(w); /* one is kept */
}

static struct worker *new_worker(struct worker_pool *pool)
{
    const struct line_limits limits = {.line_max = LINE_MAX_BYTES, .secret = true};
    struct worker *w;
    struct error e;
    char hash[2][33];
    int fd = line_connect(pool->path, 0, &e);

    if (fd < 0) {
        log_error(NULL, "auth-worker: %s", e.admin);
        return NULL;
    }
    w = mem_zero(1, sizeof(*w));
    w->pool = pool;
    w->conn = line_conn_new(pool->server->loop, fd, &limits, &conn_handler, w);
    ev_timer_init(&w->timer, timer_ready, 0., 0.);
    w->timer.data = w;
    DL_APPEND(pool->workers, w);
    pool->count++;
    server_db_hash(pool->server, false, hash[0]);
    server_db_hash(pool->server, true, hash[1]);
    line_conn_print(w->conn, "VERSION\tauth-worker\t1\t0\nDBHASH\t%s\t%s\n", hash[0], hash[1]);
    return w;
}

static void give_job(struct worker *w, struct job *job)
{
    char number[16];

    job->id = ++w->pool->last_id;
    w->job = job;
    snprintf(number, sizeof(number), "%u", job->id);
    line_conn_send(w->conn, slice_from_str(number));
    line_conn_send(w->conn, buffer_slice(&job->line));
    buffer_wipe(&job->line);
    set_timer(w, job->each != NULL ? LIST_TIMEOUT_SECS : LOOKUP_TIMEOUT_SECS);
}

static struct worker *free_one(struct worker_pool *pool)
{
    struct worker *w;

    DL_FOREACH(pool->workers, w)
        if (w->job == NULL && !w->retiring)
            return w;
    return pool->count < pool->most ? new_worker(pool) : NULL;
}

static void warn_of_queue(struct worker_pool *pool, const struct job *job)
{
    ev_tstamp now = ev_now(pool->server->loop);

    if (now - job->queued < QUEUE_WARN_SECS || now - pool->warned < QUEUE_WARN_EVERY_SECS)
        return;
    pool->warned = now;
    log_warning(NULL, "auth workers: Auth request was queued for %d seconds, %u left in queue "
                "(see auth_worker_max_count)", (int)(now - job->queued), pool->waiting);
}

static void run_queue(struct worker_pool *pool)
{
    while (pool->queue != NULL) {
        struct job *job = pool->queue;
        struct worker *w = free_one(pool);

        if (w == NULL) {
            if (!ev_is_active(&pool->retry)) {
                ev_timer_set(&pool->retry, RETRY_SECS, 0.);
                ev_timer_start(pool->server->loop, &pool->retry);
            }
            return;
        }
        DL_DELETE(pool->queue, job);
        pool->waiting--;
        warn_of_queue(pool, job);
        give_job(w, job);
    }
}

static void handle_closed(void *arg, const struct error *why)
{
    lose_worker(arg, why->class == ERROR_NONE ? "Worker process died unexpectedly" : why->admin);
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

static void set_reply_fields(struct request *r, const struct slice *word, size_t count, size_t from, bool userdb)
{
    for (size_t i = from; i < count; i++) {
        ptrdiff_t eq = slice_find(word[i], '=');
        const char *key, *value;

        if (word[i].size == 0)
            continue;
        key = arena_str(r->arena, eq < 0 ? word[i] : slice_head(word[i], (size_t)eq));
        value = eq < 0 ? "" : arena_str(r->arena, slice_from(word[i], (size_t)eq + 1));
        if (userdb)
            request_set_userdb_field(r, key, value);
        else
            request_set_field(r, key, value, "PLAIN");
    }
}

/* user, password, fields...: what the database said beside its result. */
static void take_details(struct request *r, const struct slice *word, size_t count, size_t from)
{
    if (from < count && word[from].size > 0)
        r->user = arena_str(r->arena, word[from]);
    if (from + 1 < count && word[from + 1].size > 0) {
        char *stored = mem_strndup(word[from + 1]);
        if (r->wanted_scheme != NULL && *r->wanted_scheme != '\0') {
            struct slice data = slice_from_str(stored), scheme;
            struct error e;
            buffer_reset(&r->credentials);
            /* "{SCHEME.b64}..." (auth.md 20). */
            if (scheme_split(&data, &scheme))
                (void)scheme_decode(scheme, data, &r->credentials, &e);
        }
        if (r->stored != NULL)
            explicit_bzero(r->stored, strlen(r->stored));
        mem_free(r->stored);
        r->stored = stored;
    }
    set_reply_fields(r, word, count, from + 2, false);
}

static void answer_passdb(struct job *job, const struct slice *word, size_t count)
{
    struct request *r = job->request;
    enum passdb_result result = PASSDB_INTERNAL;

    if (count >= 2 && slice_equal_str(word[1], "OK")) {
        result = PASSDB_OK;
        take_details(r, word, count, 2);
    } else if (count >= 2 && slice_equal_str(word[1], "NEXT")) {
        result = PASSDB_NEXT;
        take_details(r, word, count, 2);
    } else if (count >= 3 && slice_equal_str(word[1], "FAIL")) {
        struct slice number = word[2];
        uint32_t n;
        bool minus = number.size > 0 && number.at[0] == '-';
        if (minus)
            number = slice_from(number, 1);
        if (slice_to_u32(number, &n) && n <= 6 && (minus ? n != 6 : n == 0))
            result = (enum passdb_result)(minus ? -(int)n : 0);
        take_details(r, word, count, 3);
    }
    cache_add_passdb(r, result);
    job->passdb(r, result);
    free_job(job);
}

static void answer_userdb(struct job *job, const struct slice *word, size_t count)
{
    struct request *r = job->request;
    enum userdb_result result = USERDB_INTERNAL;

    if (count >= 2 && slice_equal_str(word[1], "OK")) {
        result = USERDB_FOUND;
        if (count >= 3 && word[2].size > 0)
            r->user = arena_str(r->arena, word[2]);
        set_reply_fields(r, word, count, 3, true);
    } else if (count >= 2 && slice_equal_str(word[1], "NOTFOUND")) {
        result = USERDB_UNKNOWN;
    }
    cache_add_userdb(r, result);
    job->userdb(r, result);
    free_job(job);
}

static void handle_answer(struct worker *w, const struct slice *word, size_t count)
{
    struct worker_pool *pool = w->pool;
    struct job *job = w->job;
    uint32_t id;

    if (slice_equal_str(word[0], "RESTART") || slice_equal_str(word[0], "SHUTDOWN")) {
        w->retiring = true;
        if (job == NULL)
            free_worker(w);
        return;
    }
    if (slice_equal_str(word[0], "ERROR") || slice_equal_str(word[0], "SUCCESS"))
        return;
    if (job == NULL || !slice_to_u32(word[0], &id) || id != job->id) {
        struct error e;
        error_set(&e, ERROR_INVALID, "BUG: Worker sent reply with unknown ID");
        line_conn_fail(w->conn, &e);
        return;
    }
    if (job->each != NULL && count >= 3 && slice_equal_str(word[1], "*")) {
        set_timer(w, LIST_TIMEOUT_SECS);
        job->each(job->arg, arena_str(job->request->arena, word[2]));
        return;
    }
    job = take_job(w);
    if (w->retiring)
        free_worker(w);
    if (job->passdb != NULL) {
        answer_passdb(job, word, count);
    } else if (job->userdb != NULL) {
        answer_userdb(job, word, count);
    } else {
        job->listed(job->arg, count >= 2 && slice_equal_str(word[1], "OK"));
        free_job(job);
    }
    run_queue(pool);
}

static void handle_line(void *arg, struct slice line)
{
    struct worker *w = arg;
    struct arena *arena;
    struct slice *word;
    size_t count;

    if (!w->greeted) {
        struct error e;
        unsigned minor;
        if (line_check_version(line, "auth-worker", 1, &minor, &e) < 0)
            line_conn_fail(w->conn, &e);
        w->greeted = true;
        return;
    }
    arena = arena_new();
    count = text_tab_fields(arena, line, &word);
    handle_answer(w, word, count);
    arena_free(arena);
}

/* ---- questions ------------------------------------------------------------------------------------------------ */

static struct job *new_job(struct request *r)
{
    struct job *job = mem_zero(1, sizeof(*job));

    job->request = request_ref(r);
    buffer_reserve(&job->line, 1024);
    return job;
}

static void send_job(struct job *job)
{
    struct worker_pool *pool = job->request->server->workers;

    line_end(&job->line);
    if (job->line.size > LINE_MAX_BYTES - 16) {
        request_error(job->request, "request is too long for auth-worker");
        fail_job(job);
        return;
    }
    ev_now_update(pool->server->loop);
    job->queued = ev_now(pool->server->loop);
    DL_APPEND(pool->queue, job);
    pool->waiting++;
    run_queue(pool);
}

void worker_ask_passdb(struct request *r, passdb_done_fn *done)
{
    struct job *job = new_job(r);

    job->passdb = done;
    buffer_printf(&job->line, "\t%s\t%u", r->wanted_scheme != NULL ? "PASSL" : "PASSV", r->link->db->id);
    line_field_str(&job->line, r->wanted_scheme != NULL ? r->wanted_scheme : r->password);
    worker_export(&job->line, r);
    send_job(job);
}

void worker_ask_userdb(struct request *r, userdb_done_fn *done)
{
    struct job *job = new_job(r);

    job->userdb = done;
    buffer_printf(&job->line, "\tUSER\t%u", r->link->db->id);
    worker_export(&job->line, r);
    send_job(job);
}

void worker_ask_list(struct request *r, struct db *db, const char *mask, db_each_fn *each,
                     void (*done)(void *, bool ok), void *arg)
{
    struct job *job = new_job(r);

    job->each = each;
    job->listed = done;
    job->arg = arg;
    r->user = mask;
    buffer_printf(&job->line, "\tLIST\t%u", db->id);
    worker_export(&job->line, r);
    send_job(job);
}
