/* Keeping services going: status reports, new processes, limits, throttling, idle processes (ipc 2.2, 2.3).
 *
 * One function decides, monitor_unit_update: it looks at the counts of a service and listens, forks ahead, or lets
 * connections wait. Everything that changes a count calls it. */
#include "master/master.h"

#include "rpc/service.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    FORK_AHEAD_MOST = 10,
    THROTTLE_FIRST_SECS = 2,
    THROTTLE_MOST_SECS = 60,
    DROP_AFTER_SECS = 10,
    FULL_CLEARS_SECS = 2
};

struct status {
    int32_t pid;
    uint32_t number, available;
};

bool monitor_stopped(const struct unit *unit)
{
    return unit->retired || unit->stopped_by_admin || unit->master->stopping;
}

/* ---- limits reached -------------------------------------------------------------------------------------------- */

static void warn_dropping(struct unit *unit)
{
    time_t now = time(NULL);
    const char *what;
    unsigned limit;

    if (now == unit->last_drop_warning)
        return;
    unit->last_drop_warning = now;
    if (unit->configured_process_limit > 1) {
        what = "process_limit";
        limit = unit->configured_process_limit;
    } else if (unit->service_count > 0) {
        what = "client_limit/service_count";
        limit = unit->client_limit;
    } else {
        what = "client_limit";
        limit = unit->client_limit;
    }
    log_warning(NULL, "service(%s): %s (%u) reached, client connections are being dropped", unit->name, what, limit);
}

static void listen_on(struct unit *unit, bool on)
{
    for (size_t i = 0; i < unit->listener_count; i++) {
        struct listener *listener = &unit->listeners[i];

        if (listener->fd < 0)
            continue;
        if (on)
            ev_io_start(unit->master->loop, &listener->watcher);
        else
            ev_io_stop(unit->master->loop, &listener->watcher);
    }
    unit->listening = on;
}

static void set_full(struct unit *unit, bool full)
{
    unit->full = full;
    (void)lseek(unit->full_fd, full ? 1 : 0, SEEK_SET);
    for (struct process *p = unit->processes; p != NULL; p = p->next)
        process_kill(p, SIGUSR1);
}

static void full_clears(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct unit *unit = timer->data;

    (void)loop, (void)events;
    if (unit->full && unit->process_avail > 0)
        set_full(unit, false);
}

static void drop_due(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct unit *unit = timer->data;

    (void)loop, (void)events;
    unit->listen_pending = false;
    if (unit->process_avail == 0 && unit->process_count >= unit->process_limit)
        listeners_drop_waiting(unit);
    monitor_unit_update(unit);
}

/* Nobody is free and no more may be started. Login processes throw out who has not logged in; the others get some
 * time, then the waiting connections are closed. */
static void limit_reached(struct unit *unit)
{
    warn_dropping(unit);
    listen_on(unit, false);
    unit->listen_pending = true;
    if (unit->type == UNIT_LOGIN)
        set_full(unit, true);
    ev_timer_set(&unit->drop_timer, DROP_AFTER_SECS, 0.);
    ev_timer_start(unit->master->loop, &unit->drop_timer);
}

/* ---- starting -------------------------------------------------------------------------------------------------- */

static void throttle_over(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    monitor_unit_update(timer->data);
}

void monitor_throttle(struct unit *unit)
{
    ev_timer *timer = &unit->throttle_timer;

    if (ev_is_active(timer))
        return;
    unit->throttle_secs = unit->throttle_secs == 0 ? THROTTLE_FIRST_SECS : unit->throttle_secs * 2;
    if (unit->throttle_secs > THROTTLE_MOST_SECS)
        unit->throttle_secs = THROTTLE_MOST_SECS;
    log_error(NULL, "service(%s): command startup failed, throttling for %u.000 secs", unit->name,
              unit->throttle_secs);
    listeners_drop_waiting(unit);
    listen_on(unit, false);
    ev_timer_set(timer, unit->throttle_secs, 0.);
    ev_timer_start(unit->master->loop, timer);
}

static void first_status_late(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct process *process = timer->data;

    (void)loop, (void)events;
    log_error(NULL, "service(%s): Initial status notification not received in %d seconds, killing the process",
              process->unit->name, MASTER_FIRST_STATUS_SECS);
    process->killed_late = true; /* the next client gets a new process at once (ipc 2.2) */
    process_kill(process, SIGKILL);
}

static struct process *start_one(struct unit *unit)
{
    struct process *process;
    struct error error;

    if (process_start(unit, &error) < 0) {
        log_error_value(NULL, &error);
        monitor_throttle(unit);
        return NULL;
    }
    process = unit->processes;
    while (process->next != NULL)
        process = process->next;
    ev_timer_init(&process->timer, first_status_late, MASTER_FIRST_STATUS_SECS, 0.);
    process->timer.data = process;
    ev_timer_start(unit->master->loop, &process->timer);
    return process;
}

static void say_absent(struct unit *unit)
{
    if (!unit->absent_said)
        log_error(NULL, "service(%s): This version has no program %s: client connections are being dropped",
                  unit->name, unit->argv[0]);
    unit->absent_said = true;
}

static void listener_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct listener *listener = watcher->data;
    struct unit *unit = listener->unit;

    (void)loop, (void)events;
    if (unit->absent) {
        say_absent(unit);
        if (listener->kind == LISTENER_FIFO)
            listen_on(unit, false);
        else
            listeners_drop_waiting(unit);
        return;
    }
    if (unit->process_avail == 0) {
        if (unit->process_count >= unit->process_limit) {
            limit_reached(unit);
            return;
        }
        (void)start_one(unit);
    }
    monitor_unit_update(unit);
}

void monitor_unit_update(struct unit *unit)
{
    bool more = unit->process_count < unit->process_limit;

    if (monitor_stopped(unit)) {
        listen_on(unit, false);
        return;
    }
    if (ev_is_active(&unit->throttle_timer))
        return;
    for (unsigned n = 0; n < FORK_AHEAD_MOST && !unit->absent && unit->process_avail < unit->process_min_avail &&
                         unit->process_count < unit->process_limit; n++)
        if (start_one(unit) == NULL)
            return;
    if (unit->process_avail > 0) {
        unit->listen_pending = false;
        ev_timer_stop(unit->master->loop, &unit->drop_timer);
        listen_on(unit, false);
        if (unit->full && !ev_is_active(&unit->full_timer)) {
            ev_timer_set(&unit->full_timer, FULL_CLEARS_SECS, 0.);
            ev_timer_start(unit->master->loop, &unit->full_timer);
        }
    } else if (more || !unit->listen_pending) {
        listen_on(unit, true);
    }
}

/* ---- idle processes -------------------------------------------------------------------------------------------- */

static void idle_too_long(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct process *process = timer->data;
    struct unit *unit = process->unit;

    (void)events;
    if (process->available < unit->client_limit)
        return;
    if (process->last_kill != 0) {
        log_error(NULL, "service(%s): Process %ld is ignoring idle SIGINT", unit->name, (long)process->pid);
        process->available = 0; /* counts as busy from now on */
        if (unit->process_avail > 0)
            unit->process_avail--;
        monitor_unit_update(unit);
        return;
    }
    if (unit->process_avail > unit->process_min_avail) {
        process->last_kill = time(NULL);
        process_kill(process, SIGINT);
    }
    ev_timer_set(timer, unit->idle_kill, 0.);
    ev_timer_start(loop, timer);
}

static void note_idle(struct process *process)
{
    struct unit *unit = process->unit;
    bool idle = process->available >= unit->client_limit;

    if (!idle) {
        process->idle_start = 0;
        process->last_kill = 0;
        ev_timer_stop(unit->master->loop, &process->timer);
        return;
    }
    if (process->idle_start != 0)
        return;
    process->idle_start = time(NULL);
    ev_timer_stop(unit->master->loop, &process->timer);
    if (unit->idle_kill == CONF_TIME_NEVER || unit->idle_kill == 0)
        return;
    ev_timer_init(&process->timer, idle_too_long, unit->idle_kill, 0.);
    process->timer.data = process;
    ev_timer_start(unit->master->loop, &process->timer);
}

/* ---- status ---------------------------------------------------------------------------------------------------- */

static void take_status(struct unit *unit, const struct status *status)
{
    struct process *process = process_find(unit->master, status->pid);
    unsigned before;

    /* A late report of a process that has ended, or of somebody who stole the pipe. */
    if (process == NULL || process->number != status->number || process->unit->status_read != unit->status_read)
        return;
    if (status->available > unit->client_limit) {
        log_error(NULL, "service(%s): Process %d sent a status with %u free places, the limit is %u", unit->name,
                  status->pid, status->available, unit->client_limit);
        return;
    }
    if (!process->had_status) {
        process->had_status = true;
        ev_timer_stop(unit->master->loop, &process->timer);
        unit->throttle_secs = 0;
    }
    before = process->available;
    process->last_status = time(NULL);
    process->available = status->available;
    if (status->available < before)
        process->total += before - status->available;
    if (before > 0 && status->available == 0)
        unit->process_avail--;
    else if (before == 0 && status->available > 0)
        unit->process_avail++;
    note_idle(process);
    monitor_unit_update(unit);
}

void monitor_status_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct unit *unit = watcher->data;
    struct status many[64];
    ssize_t n = read(unit->status_read, many, sizeof(many));

    (void)loop, (void)events;
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            log_error(NULL, "service(%s): read(status) failed: %s", unit->name, strerror(errno));
        return;
    }
    if (n % (ssize_t)sizeof(struct status) != 0)
        log_error(NULL, "service(%s): read(status) returned a partial status (%zd bytes)", unit->name, n);
    for (size_t i = 0; i < (size_t)n / sizeof(struct status); i++)
        take_status(unit, &many[i]);
}

/* ---- generations ----------------------------------------------------------------------------------------------- */

static void start_unit(struct unit *unit)
{
    ev_timer_init(&unit->throttle_timer, throttle_over, 0., 0.);
    ev_timer_init(&unit->drop_timer, drop_due, 0., 0.);
    ev_timer_init(&unit->full_timer, full_clears, 0., 0.);
    unit->throttle_timer.data = unit->drop_timer.data = unit->full_timer.data = unit;
    ev_io_init(&unit->status_watcher, monitor_status_ready, unit->status_read, EV_READ);
    unit->status_watcher.data = unit;
    ev_io_start(unit->master->loop, &unit->status_watcher);
    for (size_t i = 0; i < unit->listener_count; i++) {
        struct listener *listener = &unit->listeners[i];

        ev_io_init(&listener->watcher, listener_ready, listener->fd, EV_READ);
        listener->watcher.data = listener;
    }
    monitor_unit_update(unit);
    if (unit->type == UNIT_STARTUP && unit->process_count == 0)
        (void)start_one(unit);
}

/* The log service first: what the others say has a reader from the beginning. */
void monitor_start(struct generation *generation)
{
    start_unit(generation->log);
    start_unit(generation->anvil);
    start_unit(generation->config);
    for (size_t i = 0; i < generation->unit_count; i++) {
        struct unit *unit = &generation->units[i];

        if (unit != generation->log && unit != generation->anvil && unit != generation->config)
            start_unit(unit);
    }
}

static void stop_timers(struct unit *unit)
{
    ev_timer_stop(unit->master->loop, &unit->throttle_timer);
    ev_timer_stop(unit->master->loop, &unit->drop_timer);
    ev_timer_stop(unit->master->loop, &unit->full_timer);
}

void monitor_retire(struct generation *generation)
{
    /* First: who loses a connection that nobody will accept any more shall know why. */
    if (generation->dead_write >= 0) {
        (void)close(generation->dead_write);
        generation->dead_write = -1;
    }
    for (size_t i = 0; i < generation->unit_count; i++) {
        struct unit *unit = &generation->units[i];

        unit->retired = true;
        stop_timers(unit);
        listeners_close(unit);
        unit->listening = false;
    }
}

void monitor_unit_stop(struct unit *unit)
{
    unit->stopped_by_admin = true;
    stop_timers(unit);
    listeners_close(unit);
    unit->listening = false;
    for (struct process *p = unit->processes; p != NULL; p = p->next)
        process_kill(p, SIGTERM);
}
