/* Workers and who sits where (DECISIONS 1.3).
 *
 * Where nothing is assigned, each set of credentials has a fixed number of slots, and a user always comes to the same
 * one (by hash), so that all sessions of one user share one process and its open indexes. With client_limit or
 * service_count assigned a worker has so many places, and a new one is started when none has room. A user whose workers
 * died twice gets one of his own, so that he pulls nobody else down. */
#include "dispatch/dispatch_impl.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

enum { DEATHS_OWN_WORKER = 2, BLAMED_MOST = 10000, END_WAIT_MSECS = 4000 };

/* Workers for the same users: of one set of credentials, and one slot of it. */
struct place {
    char *key;
    struct worker *workers;
    UT_hash_handle hh;
};

struct worker {
    struct dispatcher *dispatcher;
    struct place *place;
    pid_t pid;                /* 0 = has ended */
    struct packet_conn *conn;
    bool ready, finishing, has_stats;
    struct session *sessions;
    unsigned session_count, served;
    ev_child child;
    ev_timer idle;
    struct worker *prev, *next; /* of the place */
};

struct blamed {
    char *user;
    unsigned deaths;
    pid_t last;               /* the worker that died last: several sessions of a user are one death */
    UT_hash_handle hh;
};

/* ---- users whose workers died ----------------------------------------------------------------------------------- */

static struct blamed *find_blamed(struct dispatcher *d, const char *user)
{
    struct blamed *blamed;

    HASH_FIND_STR(d->blamed, user, blamed);
    return blamed;
}

static void blame(struct dispatcher *d, const char *user, pid_t pid)
{
    struct blamed *blamed = find_blamed(d, user);

    if (blamed == NULL) {
        if (HASH_COUNT(d->blamed) >= BLAMED_MOST) {
            struct blamed *oldest = d->blamed;

            HASH_DEL(d->blamed, oldest);
            mem_free(oldest->user);
            mem_free(oldest);
        }
        blamed = mem_zero(1, sizeof(*blamed));
        blamed->user = mem_strdup(user);
        HASH_ADD_KEYPTR(hh, d->blamed, blamed->user, strlen(blamed->user), blamed);
    }
    if (blamed->last == pid)
        return;
    blamed->last = pid;
    if (++blamed->deaths == DEATHS_OWN_WORKER)
        log_warning(NULL, "Worker processes of user %s died %u times: the user gets a process of its own", user,
                    blamed->deaths);
}

/* ---- the end of a worker ---------------------------------------------------------------------------------------- */

static void free_worker(struct worker *worker)
{
    struct dispatcher *d = worker->dispatcher;

    ev_child_stop(d->loop, &worker->child);
    ev_timer_stop(d->loop, &worker->idle);
    packet_conn_free(worker->conn);
    DL_DELETE(worker->place->workers, worker);
    if (worker->place->workers == NULL) {
        HASH_DEL(d->places, worker->place);
        mem_free(worker->place->key);
        mem_free(worker->place);
    }
    mem_free(worker);
}

static const char *status_text(int status)
{
    return status == EXIT_OUT_OF_MEMORY ? " (Out of memory, you may need to increase vsz_limit)"
           : status == 84               ? " (exec() failed)"
           : status == EXIT_FATAL       ? " (Fatal failure)"
                                        : "";
}

/* As the original's master writes it; behind the prefix of the session when there was just one. */
static void report_end(struct worker *worker, int status)
{
    const char *name = service_name(worker->dispatcher->service);
    const struct dispatch_request *only =
        worker->sessions != NULL && worker->sessions->next == NULL ? &worker->sessions->request : NULL;
    char prefix[512];
    struct log log = {.prefix = only == NULL ? NULL : prefix};
    struct rlimit core;

    if (only != NULL)
        (void)snprintf(prefix, sizeof(prefix), "%s(%s)<%ld><%s>: ", name, only->user, (long)worker->pid,
                       only->session);
    if (WIFSIGNALED(status)) {
        bool off = getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0;
        bool dumps = WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGABRT || WTERMSIG(status) == SIGBUS;

        log_write(&log, LOG_LEVEL_FATAL, "master: service(%s): child %ld killed with signal %d%s", name,
                  (long)worker->pid, WTERMSIG(status),
                  WCOREDUMP(status) ? " (core dumped)"
                  : dumps && off    ? " (core dumps disabled - https://dovecot.org/bugreport.html#coredumps)"
                                    : "");
    } else if (WEXITSTATUS(status) != 0) {
        log_write(&log, LOG_LEVEL_FATAL, "master: service(%s): child %ld returned error %d%s", name, (long)worker->pid,
                  WEXITSTATUS(status), status_text(WEXITSTATUS(status)));
    }
}

static void lose_sessions(struct worker *worker, bool died)
{
    while (worker->sessions != NULL) {
        struct session *session = worker->sessions;

        if (died)
            blame(worker->dispatcher, session->request.user, worker->pid);
        session_worker_died(session); /* takes itself off the list */
    }
}

static void child_ended(struct ev_loop *loop, ev_child *watcher, int events)
{
    struct worker *worker = watcher->data;
    bool died = !WIFEXITED(watcher->rstatus) || WEXITSTATUS(watcher->rstatus) != 0;

    (void)loop, (void)events;
    report_end(worker, watcher->rstatus);
    worker->finishing = true; /* what it had not read goes to others */
    lose_sessions(worker, died);
    free_worker(worker);
}

/* A worker that closes its socket will end; its end is reported by child_ended. */
static void take_close(void *arg, const struct error *error)
{
    struct worker *worker = arg;

    if (error->class != ERROR_NONE)
        log_error_value(NULL, error);
    worker->finishing = true;
}

static void finish_worker(struct worker *worker)
{
    struct error error;

    if (worker->finishing)
        return;
    worker->finishing = true;
    (void)packet_conn_send(worker->conn, SLICE("FINISH"), -1, &error);
}

static void idle_too_long(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct worker *worker = timer->data;

    (void)loop, (void)events;
    if (worker->session_count == 0)
        finish_worker(worker);
}

/* ---- what a worker says ----------------------------------------------------------------------------------------- */

static void worker_is_ready(struct worker *worker)
{
    struct session *session, *next;

    worker->ready = true;
    DL_FOREACH_SAFE (worker->sessions, session, next)
        session_worker_ready(session);
}

static void take_packet(void *arg, struct slice packet, int fd)
{
    struct worker *worker = arg;
    struct arena *arena = arena_new();
    struct slice *fields;
    size_t count = text_tab_fields(arena, packet, &fields);
    struct session *session = NULL;
    uint32_t id;

    if (slice_equal_str(fields[0], "READY")) {
        worker_is_ready(worker);
    } else if (count >= 2 && slice_to_u32(fields[1], &id)) {
        session = session_find(worker->dispatcher, id);
        /* A worker speaks for its own sessions only. */
        if (session == NULL || session->worker != worker)
            log_error(NULL, "Worker %ld speaks of a session that it does not have", (long)worker->pid);
        else if (slice_equal_str(fields[0], "TAKEN"))
            session_taken(session);
        else if (slice_equal_str(fields[0], "URLAUTH"))
            session_urlauth(session);
        else if (slice_equal_str(fields[0], "END"))
            session_ended(session);
        else if (slice_equal_str(fields[0], "NOTE"))
            session_noted(session, fields + 2, count - 2);
        else if (slice_equal_str(fields[0], "ANSWER"))
            session_answered(session, fields + 2, count - 2);
    }
    if (fd >= 0)
        (void)close(fd); /* of END: now its login process may count the user's sessions */
    arena_free(arena);
}

/* ---- choosing --------------------------------------------------------------------------------------------------- */

static uint32_t hash_user(const char *user)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (; *user != '\0'; user++)
        hash = (hash ^ (unsigned char)*user) * 16777619u;
    return hash;
}

static const char *place_of(struct session *session, const struct credentials *credentials)
{
    struct dispatcher *d = session->dispatcher;
    const char *key = credentials_key(session->arena, credentials), *user = session->request.user;
    const struct blamed *blamed = find_blamed(d, user);

    if (blamed != NULL && blamed->deaths >= DEATHS_OWN_WORKER)
        return arena_printf(session->arena, "%s user %s", key, user);
    if (d->per_worker > 0)
        return key;
    return arena_printf(session->arena, "%s slot %u", key, hash_user(user) % d->slots);
}

static bool has_room(const struct worker *worker)
{
    const struct dispatcher *d = worker->dispatcher;

    if (worker->finishing || worker->pid == 0)
        return false;
    if (d->worker_count > 0 && worker->served >= d->worker_count)
        return false;
    return d->per_worker == 0 || worker->session_count < d->per_worker;
}

static struct place *find_place(struct dispatcher *d, const char *key)
{
    struct place *place;

    HASH_FIND_STR(d->places, key, place);
    return place;
}

static struct worker *find_worker(const struct place *place)
{
    for (struct worker *worker = place == NULL ? NULL : place->workers; worker != NULL; worker = worker->next)
        if (has_room(worker))
            return worker;
    return NULL;
}

static struct place *make_place(struct dispatcher *d, const char *key)
{
    struct place *place = find_place(d, key);

    if (place != NULL)
        return place;
    place = mem_zero(1, sizeof(*place));
    place->key = mem_strdup(key);
    HASH_ADD_KEYPTR(hh, d->places, place->key, strlen(place->key), place);
    return place;
}

static struct worker *start_worker(struct dispatcher *d, const struct credentials *credentials, const char *key,
                                   struct error *error)
{
    static const struct packet_handler handler = {.packet = take_packet, .closed = take_close};
    struct worker *worker;
    int fd;
    pid_t pid = spawn_worker(d, credentials, &fd, error);

    if (pid < 0)
        return NULL;
    worker = mem_zero(1, sizeof(*worker));
    worker->dispatcher = d;
    worker->place = make_place(d, key);
    worker->pid = pid;
    worker->has_stats = dispatch_stats_asked(d);
    worker->conn = packet_conn_new(d->loop, fd, DISPATCH_MESSAGE_MAX, &handler, worker);
    ev_child_init(&worker->child, child_ended, pid, 0);
    ev_timer_init(&worker->idle, idle_too_long, d->idle_secs, 0.);
    worker->child.data = worker->idle.data = worker;
    ev_child_start(d->loop, &worker->child);
    /* In front: with one session a process the others are full. */
    DL_PREPEND(worker->place->workers, worker);
    return worker;
}

int pool_assign(struct session *session, const struct credentials *credentials, struct error *error)
{
    struct dispatcher *d = session->dispatcher;
    const char *key = place_of(session, credentials);
    struct worker *worker = find_worker(find_place(d, key));

    if (worker == NULL)
        worker = start_worker(d, credentials, key, error);
    if (worker == NULL)
        return -1;
    ev_timer_stop(d->loop, &worker->idle);
    DL_APPEND(worker->sessions, session);
    session->worker = worker;
    worker->session_count++;
    worker->served++;
    spawn_limit(d, worker->pid, worker->session_count);
    if (worker->ready)
        session_worker_ready(session);
    return 0;
}

void pool_remove(struct session *session)
{
    struct worker *worker = session->worker;
    struct dispatcher *d = session->dispatcher;

    if (worker == NULL)
        return;
    DL_DELETE(worker->sessions, session);
    session->worker = NULL;
    worker->session_count--;
    if (worker->session_count > 0)
        return;
    if (d->worker_count > 0 && worker->served >= d->worker_count) {
        finish_worker(worker);
    } else if (d->idle_secs != CONF_TIME_NEVER) {
        ev_timer_set(&worker->idle, d->idle_secs, 0.);
        ev_timer_start(d->loop, &worker->idle);
    }
}

int pool_send(struct worker *worker, struct slice packet, int fd, struct error *error)
{
    return packet_conn_send(worker->conn, packet, fd, error);
}

void pool_broken(struct worker *worker)
{
    worker->finishing = true;
}

pid_t pool_pid(const struct worker *worker)
{
    return worker == NULL ? 0 : worker->pid;
}

static void for_each(struct dispatcher *d, void (*call)(struct worker *))
{
    for (struct place *place = d->places; place != NULL; place = place->hh.next)
        for (struct worker *worker = place->workers; worker != NULL; worker = worker->next)
            call(worker);
}

void pool_finish(struct dispatcher *d)
{
    for_each(d, finish_worker);
}

static void give_stats(struct worker *worker)
{
    struct error error;
    int fd = worker->has_stats ? -1 : dispatch_stats_connect(worker->dispatcher);

    if (fd < 0)
        return;
    worker->has_stats = packet_conn_send(worker->conn, SLICE("STATS"), fd, &error) == 0;
    (void)close(fd);
}

void pool_give_stats(struct dispatcher *d)
{
    for_each(d, give_stats);
}

static void lost_stats(struct worker *worker)
{
    worker->has_stats = false;
}

void pool_lost_stats(struct dispatcher *d)
{
    for_each(d, lost_stats);
}

static void terminate(struct worker *worker)
{
    (void)kill(worker->pid, SIGTERM);
}

/* The last thing the dispatcher does: who asked for the stop shall not come back while sessions are still open. */
void pool_end(struct dispatcher *d)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000000L};

    for_each(d, terminate);
    for (int i = 0; i < END_WAIT_MSECS / 10; i++) {
        pid_t pid;

        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            continue;
        if (pid < 0)
            return; /* no children any more */
        (void)nanosleep(&pause, NULL);
    }
}
