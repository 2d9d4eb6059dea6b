/* worker.c - the sessions of a process take turns.
 *
 * A session that has something to do stands in the run queue; each round of the loop gives every queued session one
 * slice of at most 2 ms (DECISIONS 3.5). While the queue is not empty an idle watcher keeps the loop from sleeping, so
 * that new input, the sync pool and inotify are looked at between two rounds. */
#include "imap/session.h"
#include "imap/urlauth_remote.h"

#include "rpc/auth_home.h"
#include "rpc/service.h"
#include "store/later.h"

#include <stdio.h>
#include <unistd.h>
#include <utlist.h>

enum { LEFTOVER_MS = 1000, SPARE_ARENAS = 8, SLICE_MS = 2, KEEP_INDEXES = 32, KEEP_SECS = 30 };

struct imap_worker {
    struct ev_loop *loop;
    struct conf *conf;
    const struct imap_worker_handler *handler;
    void *arg;
    struct session *sessions;
    unsigned count;
    struct session *first, **last;
    ev_check check;
    ev_idle busy;
    ev_io pool, watch, lists;
    ev_timer kept; /* closes mailboxes' indexes that nobody has used for KEEP_SECS */
    struct arena *spare[SPARE_ARENAS];
    unsigned spares;
    struct auth_homes *homes;      /* NULL = not asked for yet */
    struct stats_client *stats;    /* NULL: nobody counts */
};

/* Who is here; of one session alone also the command that is not done yet. */
static void show_title(const struct imap_worker *w)
{
    char text[512];
    const struct session *s = w->sessions;

    if (!service_titled())
        return;
    if (w->count == 0)
        (void)snprintf(text, sizeof(text), "idling");
    else if (w->count > 1)
        (void)snprintf(text, sizeof(text), "%u connections", w->count);
    else if (s->now != NULL && s->now->command != NULL)
        (void)snprintf(text, sizeof(text), "%s %s", s->title, s->now->name);
    else
        (void)snprintf(text, sizeof(text), "%s", s->title);
    service_title(text);
}

static void run_one(struct imap_worker *w, struct session *s)
{
    struct budget budget = budget_ms(SLICE_MS);

    if (session_step(s, &budget) == STEP_MORE)
        worker_queue(w, s);
    else if (session_may_go(s))
        worker_session_over(w, s);
    show_title(w);
}

static void run_round(struct ev_loop *loop, ev_check *watcher, int events)
{
    struct imap_worker *w = watcher->data;
    struct session *s = w->first, *next;

    (void)events;
    w->first = NULL;
    w->last = &w->first;
    for (; s != NULL; s = next) {
        next = s->next_run;
        s->next_run = NULL;
        s->queued = false;
        run_one(w, s);
    }
    if (w->first == NULL)
        ev_idle_stop(loop, &w->busy);
}

static void nothing(struct ev_loop *loop, ev_idle *w, int events)
{
    (void)loop;
    (void)w;
    (void)events;
}

void worker_queue(struct imap_worker *w, struct session *s)
{
    if (s->queued)
        return;
    s->queued = true;
    s->next_run = NULL;
    *w->last = s;
    w->last = &s->next_run;
    ev_idle_start(w->loop, &w->busy);
}

static void unqueue(struct imap_worker *w, struct session *s)
{
    struct session **at = &w->first;

    if (!s->queued)
        return;
    while (*at != s)
        at = &(*at)->next_run;
    *at = s->next_run;
    if (w->last == &s->next_run)
        w->last = at;
    s->queued = false;
}

static void on_pool(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)w;
    (void)events;
    os_sync_poll();
}

static void on_watch(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)w;
    (void)events;
    store_watch_poll();
}

static void on_lists(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)w;
    (void)events;
    store_list_watch_poll();
}

void worker_watch_lists(struct imap_worker *w)
{
    if (ev_is_active(&w->lists) || store_list_watch_fd() < 0)
        return;
    ev_io_init(&w->lists, on_lists, store_list_watch_fd(), EV_READ);
    ev_io_start(w->loop, &w->lists);
}

static void on_kept(struct ev_loop *loop, ev_timer *t, int events)
{
    (void)events;
    if (index_keep_expire() == 0)
        ev_timer_stop(loop, t);
    else
        ev_timer_again(loop, t);
}

struct imap_worker *imap_worker_new(struct ev_loop *loop, struct conf *conf, const struct imap_worker_handler *handler,
                                    void *arg)
{
    struct imap_worker *w = mem_zero(1, sizeof(*w));

    w->loop = loop;
    w->conf = conf;
    w->handler = handler;
    w->arg = arg;
    w->last = &w->first;
    ev_check_init(&w->check, run_round);
    ev_idle_init(&w->busy, nothing);
    w->check.data = w;
    ev_check_start(loop, &w->check);
    store_later_begin(loop);
    index_keep(KEEP_INDEXES, KEEP_SECS);
    ev_init(&w->kept, on_kept);
    w->kept.repeat = KEEP_SECS + 1;
    if (os_sync_fd() >= 0) {
        ev_io_init(&w->pool, on_pool, os_sync_fd(), EV_READ);
        ev_io_start(loop, &w->pool);
    }
    if (store_watch_fd() >= 0) {
        ev_io_init(&w->watch, on_watch, store_watch_fd(), EV_READ);
        ev_io_start(loop, &w->watch);
    }
    return w;
}

void imap_worker_set_stats(struct imap_worker *w, struct stats_client *stats)
{
    w->stats = stats;
}

struct stats_client *worker_stats(const struct imap_worker *w)
{
    return w->stats;
}

struct auth_homes *worker_homes(struct imap_worker *w, const struct settings *set)
{
    if (w->homes == NULL)
        w->homes = auth_homes_new(conf_str(set, SET_base_dir), "imap");
    return w->homes;
}

void imap_worker_free(struct imap_worker *w)
{
    while (w->sessions != NULL)
        worker_session_over(w, w->sessions);
    store_later_end(LEFTOVER_MS);
    ev_timer_stop(w->loop, &w->kept);
    index_keep(0, 0);
    ev_check_stop(w->loop, &w->check);
    ev_idle_stop(w->loop, &w->busy);
    if (os_sync_fd() >= 0)
        ev_io_stop(w->loop, &w->pool);
    if (ev_is_active(&w->watch))
        ev_io_stop(w->loop, &w->watch);
    if (ev_is_active(&w->lists))
        ev_io_stop(w->loop, &w->lists);
    while (w->spares > 0)
        arena_free(w->spare[--w->spares]);
    auth_homes_free(w->homes);
    mem_free(w);
}

unsigned imap_worker_sessions(const struct imap_worker *w)
{
    return w->count;
}

void imap_worker_adopt(struct imap_worker *w, int fd, int out_fd, const struct imap_login *login)
{
    struct session *s = session_new(w, fd, out_fd, login);

    DL_APPEND(w->sessions, s);
    w->count++;
    show_title(w);
    if (s->phase != PHASE_OVER)
        worker_queue(w, s);
}

void imap_worker_kick(struct imap_worker *w, uint32_t id, const char *reason)
{
    struct session *s;

    DL_FOREACH(w->sessions, s) {
        if (s->id == id)
            session_kick(s, reason);
    }
}

bool worker_ask_urlauth(struct imap_worker *w, struct session *s)
{
    if (w->handler->urlauth == NULL)
        return false;
    w->handler->urlauth(w->arg, s->id);
    return true;
}

void imap_worker_urlauth(struct imap_worker *w, uint32_t id, int fd)
{
    struct session *s;

    DL_FOREACH(w->sessions, s) {
        if (s->id == id) {
            urlauth_remote_connected(s, fd);
            return;
        }
    }
    if (fd >= 0)
        (void)close(fd); /* the session has ended meanwhile */
}

void imap_worker_shutdown(struct imap_worker *w, const char *bye)
{
    struct session *s, *next;

    DL_FOREACH_SAFE(w->sessions, s, next)
        session_kick(s, bye);
}

void worker_session_over(struct imap_worker *w, struct session *s)
{
    uint32_t id = s->id;
    int fd = unauthenticate_fd(s);

    unqueue(w, s);
    DL_DELETE(w->sessions, s);
    w->count--;
    session_free(s);
    show_title(w);
    if (index_keep_expire() > 0 && !ev_is_active(&w->kept))
        ev_timer_again(w->loop, &w->kept);
    if (w->handler->ended != NULL)
        w->handler->ended(w->arg, id, fd);
}

struct ev_loop *worker_loop(const struct imap_worker *w)
{
    return w->loop;
}

struct conf *worker_conf(const struct imap_worker *w)
{
    return w->conf;
}

/* Idle sessions hold no arena: a few used ones serve all. One that has grown is given back to the system. */
struct arena *worker_arena(struct imap_worker *w)
{
    return w->spares > 0 ? w->spare[--w->spares] : arena_new();
}

void worker_arena_back(struct imap_worker *w, struct arena *arena)
{
    if (w->spares == SPARE_ARENAS) {
        arena_free(arena);
        return;
    }
    arena_reset(arena);
    w->spare[w->spares++] = arena;
}
