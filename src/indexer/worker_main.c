/* libexec/indexer-worker: indexes mailboxes with the rights of their user. Started by a dispatcher, never by master itself. */
#include "indexer/worker.h"

#include "base/os.h"
#include "store/later.h"

#include <stdlib.h>
#include <unistd.h>

enum { LATER_MS = 1000, SYNC_THREADS = 2 };

static void take_job(void *arg, const struct dispatch_request *request, int fd)
{
    if (fd >= 0)
        (void)close(fd);
    index_job_start(arg, request);
}

static void no_session(void *arg, const struct dispatch_request *request, int fd)
{
    struct index_worker *w = arg;

    (void)close(fd);
    dispatch_worker_end(w->dispatch, request->id);
}

static void no_kick(void *arg, uint32_t id, const char *reason)
{
    (void)arg, (void)id, (void)reason;
}

static void take_stats(void *arg, int fd)
{
    struct index_worker *w = arg;

    stats_client_adopt(w->stats, fd);
}

static void pool_ready(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop, (void)io, (void)events;
    os_sync_poll();
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "indexer-worker"};
    static const struct dispatch_handler handler = {.session = no_session, .job = take_job, .kick = no_kick, .stats = take_stats};
    static const struct service_handler events = {0};
    const struct conf_filter filter = {.service = "indexer-worker"};
    struct index_worker w = {0};
    struct settings *set;
    struct error e;
    ev_io pool;
    int status;

    w.service = service_init(argc, argv, &options, &w);
    if (!dispatch_is_worker())
        log_fatal(EXIT_FATAL, "indexer-worker is started by the dispatcher only");
    w.loop = service_loop(w.service);
    w.stats = stats_client_new(w.service);
    (void)stats_client_inherit(w.stats);
    os_fault_from_env();
    service_drop_privileges(w.service, 0);
    if (os_sync_pool_start(SYNC_THREADS, &e) < 0)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    ev_io_init(&pool, pool_ready, os_sync_fd(), EV_READ);
    ev_io_start(w.loop, &pool);
    store_later_begin(w.loop);
    service_ready(w.service, &events, &w);
    set = conf_settings(service_conf(w.service), &filter, &e);
    if (set == NULL)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    w.homes = auth_homes_new(conf_str(set, SET_base_dir), "indexer-worker");
    settings_unref(set);
    service_title("idling");
    w.dispatch = dispatch_worker_new(w.service, &handler, &w);
    status = service_run(w.service);
    store_later_end(LATER_MS);
    dispatch_worker_free(w.dispatch);
    auth_homes_free(w.homes);
    stats_client_free(w.stats);
    ev_io_stop(w.loop, &pool);
    os_sync_pool_stop();
    return status;
}
