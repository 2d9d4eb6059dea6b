/* From a checked configuration to the end: start, signals, reload, stop (ipc 2.3, config 11.3).
 *
 * A reload that fails changes nothing. One that succeeds gives the listeners to new services and lets the old
 * processes go on until their clients have left; only where shutdown_clients=yes is written in the configuration are
 * they ended after a minute, as Dovecot does by default. */
#include "master/master.h"

#include "log/log_sink.h"
#include "rpc/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STOP_WAIT_SECS = 5, RELOAD_KILL_SECS = 60, FD_LIMIT_WANTED = 65536 };

/* What a signal handler has seen: the sender, for the log line. libev's watcher does the rest in the loop. */
static volatile struct {
    sig_atomic_t pid, uid, code;
} sender;

static void note_sender(int number, siginfo_t *info, void *context)
{
    (void)context;
    sender.pid = info->si_pid;
    sender.uid = (sig_atomic_t)info->si_uid;
    sender.code = info->si_code;
    ev_feed_signal(number);
}

static const char *code_text(int code)
{
    switch (code) {
    case SI_USER:
        return "kill";
#ifdef SI_KERNEL
    case SI_KERNEL:
        return "kernel";
#endif
    case SI_TIMER:
        return "timer";
    case SI_TKILL:
        return "tkill";
    }
    return "unknown";
}

/* ---- generations ----------------------------------------------------------------------------------------------- */

static int open_generation(struct generation *generation, struct error *error)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_sys(error, "pipe", NULL);
    generation->dead_read = ends[0];
    generation->dead_write = ends[1];
    for (size_t i = 0; i < generation->unit_count; i++)
        if (pipes_open_unit(&generation->units[i], error) < 0)
            return -1;
    return 0;
}

static void free_finished(struct master *master)
{
    struct generation **at = &master->old;

    while (*at != NULL) {
        struct generation *generation = *at;

        if (generation->process_count > 0) {
            at = &generation->next;
            continue;
        }
        *at = generation->next;
        ev_timer_stop(master->loop, &generation->kill_timer);
        generation_free(generation);
    }
}

static void kill_all(struct generation *generation, int signal, unsigned *count)
{
    *count = 0;
    for (size_t i = 0; i < generation->unit_count; i++) {
        if (generation->units[i].type == UNIT_LOG)
            continue;
        for (struct process *p = generation->units[i].processes; p != NULL; p = p->next) {
            process_kill(p, signal);
            (*count)++;
        }
    }
}

static void reload_kills(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct generation *generation = timer->data;
    unsigned count;

    (void)events;
    if (generation->term_sent) {
        kill_all(generation, SIGKILL, &count);
        if (count > 0)
            log_warning(NULL, "Processes aren't dying after reload, sent SIGKILL to %u processes.", count);
        return;
    }
    kill_all(generation, SIGTERM, &count);
    if (count == 0)
        return;
    log_warning(NULL, "Processes aren't dying after reload, sent SIGTERM to %u processes.", count);
    generation->term_sent = true;
    ev_timer_set(timer, STOP_WAIT_SECS, 0.);
    ev_timer_start(loop, timer);
}

/* anvil's process, its status pipe and its sockets go over: it holds the counts of the connections that live on. */
static void move_anvil(struct generation *from, struct generation *to)
{
    struct unit *old = from->anvil, *new = to->anvil;
    int fd;

    ev_io_stop(from->master->loop, &old->status_watcher);
    fd = old->status_read, old->status_read = new->status_read, new->status_read = fd;
    fd = old->status_write, old->status_write = new->status_write, new->status_write = fd;
    for (struct process *p = old->processes; p != NULL; p = p->next) {
        p->unit = new;
        from->process_count--;
        to->process_count++;
    }
    new->processes = old->processes;
    new->process_count = old->process_count;
    new->process_avail = old->process_avail;
    new->process_count_total = old->process_count_total;
    old->processes = NULL;
    old->process_count = old->process_avail = 0;
}

static void retire(struct generation *generation)
{
    struct master *master = generation->master;

    monitor_retire(generation);
    generation->next = master->old;
    master->old = generation;
    /* The old log process ends when the last writer has: keep no end of its pipes. */
    for (size_t i = 0; i < generation->unit_count; i++) {
        struct unit *unit = &generation->units[i];

        if (unit->log_read >= 0)
            (void)close(unit->log_read);
        if (unit->log_write >= 0)
            (void)close(unit->log_write);
        unit->log_read = unit->log_write = -1;
        if (unit->process_count == 0)
            pipes_close_unit(unit);
    }
    ev_timer_init(&generation->kill_timer, reload_kills, RELOAD_KILL_SECS, 0.);
    generation->kill_timer.data = generation;
    if (conf_bool(generation->set, SET_shutdown_clients) && conf_assigned(generation->set, SET_shutdown_clients))
        ev_timer_start(master->loop, &generation->kill_timer);
}

/* A log process that cannot open its file would take the reasons with it. */
static int check_log(const struct generation *generation, struct error *error)
{
    struct log_sink *sink;

    if (log_sink_open(generation->set, &sink, error) < 0)
        return -1;
    log_sink_free(sink);
    return 0;
}

/* The sockets, and whoever is connected to them, are in the base_dir of the start: services must look for each other there. */
static int read_keeping_base_dir(struct master *master, struct conf **conf, struct error *error)
{
    struct settings *set;
    struct arena *arena;
    const char **pairs;
    size_t n = 0;
    bool same;
    int r;

    if (conf_open_file(master->config_path, master->overrides, conf, error) < 0)
        return -1;
    set = conf_settings(*conf, NULL, error);
    if (set == NULL) {
        conf_free(*conf);
        return -1;
    }
    same = strcmp(conf_str(set, SET_base_dir), master->base_dir) == 0;
    settings_unref(set);
    if (same)
        return 0;
    log_error(NULL, "base_dir can't be changed by a reload, it stays %s", master->base_dir);
    conf_free(*conf);
    arena = arena_new();
    while (master->overrides != NULL && master->overrides[n] != NULL)
        n++;
    pairs = ARENA_ARRAY(arena, const char *, n + 2);
    for (size_t i = 0; i < n; i++)
        pairs[i] = master->overrides[i];
    pairs[n] = arena_printf(arena, "base_dir=%s", master->base_dir);
    r = conf_open_file(master->config_path, pairs, conf, error);
    arena_free(arena);
    return r;
}

static void reload(struct master *master)
{
    struct generation *before = master->now, *generation;
    struct conf *conf;
    struct error error;

    log_warning(NULL, "SIGHUP received - reloading configuration");
    systemd_notify(master, "RELOADING=1");
    if (read_keeping_base_dir(master, &conf, &error) < 0) {
        log_error(NULL, "Error reading configuration: %s", error.admin);
        goto out;
    }
    if (generation_new(master, conf, &generation, &error) < 0) {
        log_error(NULL, "Config reload failed: %s", error.admin);
        conf_free(conf);
        goto out;
    }
    if (check_log(generation, &error) < 0 || open_generation(generation, &error) < 0) {
        log_error(NULL, "Config reload failed: %s", error.admin);
        generation_free(generation);
        goto out;
    }
    (void)listeners_open(generation, before, false, &error);
    move_anvil(before, generation);
    master->now = generation;
    pipes_log_takes_over(master);
    monitor_start(generation);
    pipes_anvil_new_log(master);
    retire(before);
    free_finished(master);
out:
    systemd_notify(master, "READY=1");
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

static void stop_waited(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)timer, (void)events;
    ev_break(loop, EVBREAK_ALL);
}

/* The log service writes on until the last of us has gone, anvil sees that master has. */
static bool only_helpers_left(const struct master *master)
{
    for (const struct process *p = master->processes; p != NULL; p = p->hh.next)
        if (p->unit->type != UNIT_LOG && p->unit->type != UNIT_ANVIL)
            return false;
    return true;
}

/* Who has clients of its own says good-bye to them; auth, dict, stats ... end when nobody is connected any more. */
static void end_sessions(struct generation *generation)
{
    for (size_t i = 0; i < generation->unit_count; i++) {
        struct unit *unit = &generation->units[i];

        if (unit->protocol[0] == '\0' && unit->type != UNIT_LOGIN)
            continue;
        for (struct process *p = unit->processes; p != NULL; p = p->next)
            process_kill(p, SIGTERM);
    }
}

static void stop(struct master *master)
{
    bool kill_clients = conf_bool(master->now->set, SET_shutdown_clients);

    if (master->stopping)
        return;
    master->stopping = true;
    systemd_notify(master, "STOPPING=1");
    control_close(master);
    monitor_retire(master->now);
    if (kill_clients) {
        end_sessions(master->now);
        for (struct generation *g = master->old; g != NULL; g = g->next)
            end_sessions(g);
    }
    ev_timer_init(&master->stop_timer, stop_waited, STOP_WAIT_SECS, 0.);
    master->stop_timer.data = master;
    ev_timer_start(master->loop, &master->stop_timer);
    if (only_helpers_left(master))
        ev_break(master->loop, EVBREAK_ALL);
}

/* ---- signals --------------------------------------------------------------------------------------------------- */

static void take_end(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop, (void)events;
    if (((struct master *)watcher->data)->stopping)
        return;
    log_warning(NULL, "Killed with signal %d (by pid=%ld uid=%ld code=%s)", watcher->signum, (long)sender.pid,
                (long)sender.uid, code_text((int)sender.code));
    stop(watcher->data);
}

/* SIGQUIT: nothing new, what runs goes on. */
static void take_quit(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct master *master = watcher->data;

    (void)loop, (void)events;
    log_warning(NULL, "SIGQUIT received - closing the listeners");
    for (size_t i = 0; i < master->now->unit_count; i++)
        listeners_close(&master->now->units[i]);
}

static void take_hup(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct master *master = watcher->data;

    (void)loop, (void)events;
    if (!master->stopping)
        reload(master);
}

static void take_usr1(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct master *master = watcher->data;

    (void)loop, (void)events;
    for (struct process *p = master->processes; p != NULL; p = p->hh.next)
        if (p->unit->type == UNIT_LOG)
            process_kill(p, SIGUSR1);
}

static void child_ended(struct ev_loop *loop, ev_child *watcher, int events)
{
    struct master *master = watcher->data;

    (void)events;
    monitor_child_ended(master, watcher->rpid, watcher->rstatus);
    free_finished(master);
    if (master->stopping && only_helpers_left(master))
        ev_break(loop, EVBREAK_ALL);
}

static void watch_signal(struct master *master, ev_signal *watcher, void (*take)(struct ev_loop *, ev_signal *, int),
                         int number)
{
    struct sigaction action = {.sa_sigaction = note_sender, .sa_flags = SA_SIGINFO | SA_RESTART};

    ev_signal_init(watcher, take, number);
    watcher->data = master;
    ev_signal_start(master->loop, watcher);
    (void)sigaction(number, &action, NULL);
}

static void watch_signals(struct master *master)
{
    watch_signal(master, &master->term, take_end, SIGTERM);
    watch_signal(master, &master->interrupt, take_end, SIGINT);
    watch_signal(master, &master->quit, take_quit, SIGQUIT);
    watch_signal(master, &master->hup, take_hup, SIGHUP);
    watch_signal(master, &master->usr1, take_usr1, SIGUSR1);
    ev_child_init(&master->child, child_ended, 0, 0);
    master->child.data = master;
    ev_child_start(master->loop, &master->child);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGALRM, SIG_IGN);
}

/* ---- start ----------------------------------------------------------------------------------------------------- */

static void raise_fd_limit(struct generation *generation)
{
    rlim_t wanted = FD_LIMIT_WANTED;
    struct rlimit limit;
    unsigned most = 0, configured = 0; /* sessions of a dispatcher are spread over its workers: nothing to warn of */

    for (size_t i = 0; i < generation->unit_count; i++) {
        const struct unit *unit = &generation->units[i];

        most = unit->client_limit > most ? unit->client_limit : most;
        configured = unit->configured_client_limit > configured ? unit->configured_client_limit : configured;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    /* Not simply the hard limit: containers set it to a billion, and programs that close all descriptors one by one
     * would take minutes. */
    if (wanted < 3 * (rlim_t)most)
        wanted = 3 * (rlim_t)most;
    if (limit.rlim_cur < wanted && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < configured)
        log_warning(NULL, "fd limit (ulimit -n) is lower than required under max. load (%u < %u), because of "
                          "default_client_limit", (unsigned)limit.rlim_cur, configured);
}

static void say_starting(struct master *master)
{
    const char *protocols = conf_str(master->now->set, SET_protocols);
    struct buffer list = {0};
    struct slice rest = slice_from_str(protocols), word;
    struct rlimit core;
    bool off = getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0;

    while (rest.size > 0 && slice_split(&rest, ' ', &word)) {
        if (word.size == 0 || slice_equal_str(word, "none"))
            continue;
        buffer_append_str(&list, list.size == 0 ? "" : ", ");
        buffer_append_slice(&list, word);
    }
    if (list.size == 0)
        log_info(NULL, "Dovecot v" SERVICE_COMPAT_VERSION " (" SERVICE_COMPAT_REVISION
                 ") starting up without any protocols%s", off ? " (core dumps disabled)" : "");
    else
        log_info(NULL, "Dovecot v" SERVICE_COMPAT_VERSION " (" SERVICE_COMPAT_REVISION ") starting up for %s%s",
                 buffer_cstr(&list), off ? " (core dumps disabled)" : "");
    if (!master->root)
        log_info(NULL, "Running without root (uid %u): all services keep this user, and nothing is chrooted",
                 geteuid());
    buffer_free(&list);
}

static int open_all(struct master *master, struct conf *conf, struct error *error)
{
    if (generation_new(master, conf, &master->now, error) < 0)
        return -1;
    if (basedir_prepare(master, master->now->set, error) < 0)
        return -1;
    raise_fd_limit(master->now);
    if (pipes_init(master, error) < 0 || open_generation(master->now, error) < 0)
        return -1;
    if (listeners_open(master->now, NULL, true, error) < 0)
        return -1;
    if (control_open(master, error) < 0 || basedir_pidfile_create(master, error) < 0)
        return -1;
    master->pid_file = true;
    return 0;
}

static bool logs_to_stderr(const struct settings *set)
{
    static const enum setting paths[] = {SET_log_path, SET_info_log_path, SET_debug_log_path};

    for (size_t i = 0; i < 3; i++)
        if (strcmp(conf_str(set, paths[i]), "/dev/stderr") == 0)
            return true;
    return false;
}

int master_run(struct master *master, struct conf *conf, int started_fd)
{
    struct error error;

    umask(0);
    if (chdir("/") < 0)
        log_fatal(EXIT_FATAL, "chdir(/) failed: %s", strerror(errno));
    master->loop = ev_default_loop(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
    if (master->loop == NULL)
        log_fatal(EXIT_FATAL, "The event loop could not be made");
    if (open_all(master, conf, &error) < 0)
        master_fatal(master, conf, "%s", error.admin);
    watch_signals(master);
    master->stderr_fd = logs_to_stderr(master->now->set) || master->foreground
                            ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)
                            : fcntl(master->null_fd, F_DUPFD_CLOEXEC, 3);
    pipes_log_takes_over(master);
    say_starting(master);
    monitor_start(master->now);
    systemd_notify(master, "READY=1");
    if (started_fd >= 0) {
        (void)!write(started_fd, "", 1);
        (void)close(started_fd);
    }
    ev_run(master->loop, 0);
    if (!only_helpers_left(master) && conf_bool(master->now->set, SET_shutdown_clients))
        log_warning(NULL, "Processes aren't dying after SIGTERM, leaving %u of them", HASH_COUNT(master->processes));
    basedir_forget(master);
    return 0;
}
