/* Accepting, counting, and the conversation with master: status pipe, master pipe, signals (ipc 2.2, 2.3).
 *
 * A status is 12 bytes: pid, generation, free places. It is written at once at the start and when the count reaches or
 * leaves zero (else master drops connections, or forks too much); otherwise at most once a second. */
#include "net/fdpass.h"
#include "rpc/service_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_PAUSE_SECS 1.0 /* after EMFILE */
#define ORPHAN_SECS 5.        /* how often a finishing process looks whether master lives */

struct service_status {
    int32_t pid;
    uint32_t generation, available;
};

static unsigned available(const struct service *service)
{
    unsigned room;

    if (service->finishing || service->count_left == 0)
        return 0;
    room = service->clients < service->client_limit ? service->client_limit - service->clients : 0;
    return room < service->count_left ? room : service->count_left;
}

/* ---- status ---------------------------------------------------------------------------------------------------- */

static void write_status(struct service *service)
{
    struct service_status status = {.pid = getpid(), .generation = service->generation,
                                    .available = available(service)};

    if (write(SERVICE_FD_STATUS, &status, sizeof(status)) == (ssize_t)sizeof(status)) {
        service->status_sent = status.available;
        ev_timer_stop(service->loop, &service->status_timer);
        return;
    }
    if (errno == EPIPE)
        return; /* the master pipe will tell the same */
    if (errno != EAGAIN && errno != EINTR)
        log_error(NULL, "write(master status) failed: %s", strerror(errno));
    ev_timer_set(&service->status_timer, 0.1, 0.);
    ev_timer_start(service->loop, &service->status_timer);
}

static void status_due(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    write_status(timer->data);
}

static void update_status(struct service *service)
{
    unsigned now = available(service);

    if (!service->child || !service->running || now == service->status_sent)
        return;
    if (now == 0 || service->status_sent == 0 || service->status_sent == UINT_MAX) {
        write_status(service);
    } else if (!ev_is_active(&service->status_timer)) {
        ev_timer_set(&service->status_timer, 1., 0.);
        ev_timer_start(service->loop, &service->status_timer);
    }
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

static void watch_listeners(struct service *service, bool on)
{
    for (size_t i = 0; i < service->listener_count; i++) {
        ev_io *watcher = &service->accepts[i].watcher;

        if (service->listeners[i].fifo || service->listeners[i].fd < 0)
            continue;
        if (on)
            ev_io_start(service->loop, watcher);
        else
            ev_io_stop(service->loop, watcher);
    }
}

/* So that a connection that nobody will accept is refused, or taken by the next generation. */
static void close_listeners(struct service *service)
{
    watch_listeners(service, false);
    for (size_t i = 0; i < service->listener_count; i++) {
        if (service->listeners[i].fifo || service->listeners[i].fd < 0)
            continue;
        (void)close(service->listeners[i].fd);
        service->listeners[i].fd = -1;
    }
}

void service_clients_update(struct service *service)
{
    if (!service->running)
        return;
    watch_listeners(service, available(service) > 0 && !ev_is_active(&service->accept_pause));
    update_status(service);
    if (service->finishing || service->count_left == 0) {
        close_listeners(service);
        if (service->clients == 0)
            service_stop(service);
    }
}

void service_client_begin(struct service *service)
{
    service->clients++;
    if (service->count_left != UINT_MAX && service->count_left > 0)
        service->count_left--;
    service_clients_update(service);
}

void service_client_end(struct service *service)
{
    if (service->clients == 0) {
        log_error(NULL, "BUG: a client ended that had not begun");
        return;
    }
    service->clients--;
    service_clients_update(service);
}

void service_retire(struct service *service)
{
    service->count_left = 0;
    service_clients_update(service);
}

unsigned service_clients(const struct service *service)
{
    return service->clients;
}

/* At a reload others may end before we have looked at the pipe: who asks gets today's answer. */
static bool master_pipe_closed(const struct service *service)
{
    struct pollfd pipe = {.fd = SERVICE_FD_DEAD, .events = POLLIN};

    return service->child && (service->flags & SERVICE_STAYS) == 0 && poll(&pipe, 1, 0) > 0;
}

bool service_finishing(const struct service *service)
{
    return service->finishing || service->count_left == 0 || master_pipe_closed(service);
}

static void accept_resume(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    service_clients_update(timer->data);
}

static void accept_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct service_accept *at = watcher->data;
    struct service *service = at->service;
    struct service_listener *listener = &service->listeners[at->index];

    (void)events;
    if (available(service) == 0 || service->stopping)
        return;
    /* One at a time: the loop comes back while more wait, others get their turn, and nobody asks in vain. */
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            log_error(NULL, "net_accept() failed: %s", strerror(errno));
            ev_timer_set(&service->accept_pause, ACCEPT_PAUSE_SECS, 0.);
            ev_timer_start(loop, &service->accept_pause);
            service_clients_update(service);
        }
        return; /* another process took it, or the peer has gone */
    }
    service_client_begin(service);
    service->handler->connected(service->arg, listener, fd);
}

/* ---- master's wishes ------------------------------------------------------------------------------------------- */

static bool shutdown_clients(const struct service *service)
{
    struct settings *set;
    struct error error;
    bool on;

    if (service->conf == NULL || (set = conf_settings(service->conf, NULL, &error)) == NULL)
        return false;
    on = conf_bool(set, SET_shutdown_clients);
    settings_unref(set);
    return on;
}

/* A closed pipe is a reload, unless another process is our parent by now. */
static void look_for_parent(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct service *service = timer->data;

    (void)loop, (void)events;
    if (getppid() == service->parent || !shutdown_clients(service))
        return;
    if (service->handler->finishing != NULL)
        service->handler->finishing(service->arg, true);
    service_stop(service);
}

static void master_gone(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct service *service = watcher->data;

    (void)events;
    ev_io_stop(loop, watcher);
    service->finishing = true;
    ev_timer_start(loop, &service->orphan);
    if (service->handler->finishing != NULL)
        service->handler->finishing(service->arg, false);
    service_clients_update(service);
}

static void take_term(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct service *service = watcher->data;

    (void)loop, (void)events;
    if (service->handler != NULL && service->handler->terminate != NULL)
        service->handler->terminate(service->arg);
    service_stop(service);
}

/* From master: go if you are idle. From a terminal: as SIGTERM. */
static void take_interrupt(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct service *service = watcher->data;

    if (!service->child && !service->worker) {
        take_term(loop, watcher, events);
        return;
    }
    if (service->clients > 0 || (service->flags & SERVICE_NO_IDLE_EXIT) != 0)
        return;
    if (service->handler->may_idle != NULL && !service->handler->may_idle(service->arg))
        return;
    service_stop(service);
}

static void take_full(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct service *service = watcher->data;

    (void)loop, (void)events;
    /* The flag counts, not the signal: another one comes when there is room again (ipc 2.3). */
    if (service->child && service->handler->full != NULL && lseek(SERVICE_FD_FULL, 0, SEEK_CUR) > 0)
        service->handler->full(service->arg);
}

void service_ready(struct service *service, const struct service_handler *handler, void *arg)
{
    service->handler = handler;
    service->arg = arg;
    service->running = true;
    ev_signal_init(&service->term, take_term, SIGTERM);
    ev_signal_init(&service->interrupt, take_interrupt, SIGINT);
    ev_signal_init(&service->full, take_full, SIGUSR1);
    service->term.data = service->interrupt.data = service->full.data = service;
    ev_signal_start(service->loop, &service->term);
    ev_signal_start(service->loop, &service->interrupt);
    ev_signal_start(service->loop, &service->full);
    ev_timer_init(&service->status_timer, status_due, 1., 0.);
    ev_timer_init(&service->accept_pause, accept_resume, ACCEPT_PAUSE_SECS, 0.);
    ev_timer_init(&service->orphan, look_for_parent, ORPHAN_SECS, ORPHAN_SECS);
    service->status_timer.data = service->accept_pause.data = service->orphan.data = service;

    if (service->child && (service->flags & SERVICE_STAYS) == 0) {
        ev_io_init(&service->dead, master_gone, SERVICE_FD_DEAD, EV_READ);
        service->dead.data = service;
        ev_io_start(service->loop, &service->dead);
    }
    service->accepts = mem_zero(service->listener_count + 1, sizeof(*service->accepts));
    for (size_t i = 0; i < service->listener_count; i++) {
        struct service_accept *at = &service->accepts[i];

        at->service = service;
        at->index = i;
        ev_io_init(&at->watcher, accept_ready, service->listeners[i].fd, EV_READ);
        at->watcher.data = at;
        if (service->listeners[i].fifo)
            handler->connected(arg, &service->listeners[i], service->listeners[i].fd);
    }
    service_clients_update(service);
}

int service_run(struct service *service)
{
    while (!service->stopping)
        (void)ev_run(service->loop, EVRUN_ONCE);
    return 0;
}

void service_stop(struct service *service)
{
    service->stopping = true;
    ev_break(service->loop, EVBREAK_ALL);
}

/* ---- anvil ----------------------------------------------------------------------------------------------------- */

static void tell_anvil(const struct service *service, const char *command, pid_t pid, const char *ident)
{
    struct buffer line = {0};

    if (!service->child)
        return;
    /* The ident's parts are escaped already; the line is shorter than PIPE_BUF, so it arrives whole. */
    buffer_printf(&line, "%s\t%ld\t%s", command, (long)pid, ident);
    if (pid != getpid() && strcmp(command, "CONNECT") == 0)
        buffer_printf(&line, "\t%ld", (long)getpid()); /* if we die, so does what we spoke for */
    buffer_append_byte(&line, '\n');
    if (line.size > 1024)
        log_error(NULL, "The name of a connection is too long for anvil: %.100s", ident);
    else if (write(SERVICE_FD_ANVIL, line.at, line.size) < 0 && errno != EPIPE)
        log_error(NULL, "write(anvil) failed: %s", strerror(errno));
    buffer_free(&line);
}

void service_anvil_connect(const struct service *service, pid_t pid, const char *ident)
{
    tell_anvil(service, "CONNECT", pid, ident);
}

void service_anvil_disconnect(const struct service *service, pid_t pid, const char *ident)
{
    tell_anvil(service, "DISCONNECT", pid, ident);
}
