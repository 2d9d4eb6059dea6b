/* The socket "master": status of services and processes, `doveadm service stop` (ipc 5). Unknown commands end the
 * connection. Root only (mode 0600), few connections, all answers small. */
#include "master/master.h"

#include "net/fdpass.h"
#include "rpc/line.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192

struct control {
    struct master *master;
    struct line_conn *conn;
    bool greeted;
};

static void close_control(struct control *control)
{
    line_conn_free(control->conn);
    mem_free(control);
}

static char yes(bool on)
{
    return on ? 'y' : 'n';
}

static void service_status(struct control *control)
{
    struct generation *generation = control->master->now;
    struct buffer line = {0};

    for (size_t i = 0; i < generation->unit_count; i++) {
        const struct unit *unit = &generation->units[i];

        buffer_reset(&line);
        text_tab_escape(&line, slice_from_str(unit->name));
        buffer_printf(&line, "\t%u\t%u\t%u\t%u\t%u\t%lld\t%u\t%lld\t%c\t%c\t%c\t%u\n", unit->process_count,
                      unit->process_avail, unit->configured_process_limit, unit->configured_client_limit,
                      unit->throttle_secs, (long long)unit->exit_failure_last, unit->exit_failures_in_sec,
                      (long long)unit->last_drop_warning, yes(unit->listen_pending), yes(unit->listening),
                      yes(unit->stopped_by_admin), unit->process_count_total);
        line_conn_send(control->conn, buffer_slice(&line));
    }
    line_conn_print(control->conn, "\n");
    buffer_free(&line);
}

static bool named(const struct slice *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal_str(names[i], name))
            return true;
    return count == 0;
}

static void process_status(struct control *control, const struct slice *names, size_t count)
{
    struct generation *generation = control->master->now;

    for (size_t i = 0; i < generation->unit_count; i++) {
        const struct unit *unit = &generation->units[i];

        if (!named(names, count, unit->name))
            continue;
        for (const struct process *p = unit->processes; p != NULL; p = p->next)
            line_conn_print(control->conn, "%s\t%ld\t%u\t%u\t%lld\t%lld\t%lld\n", unit->name, (long)p->pid,
                            p->available, p->total, (long long)p->idle_start, (long long)p->last_status,
                            (long long)p->last_kill);
    }
    line_conn_print(control->conn, "\n");
}

static void stop_services(struct control *control, const struct slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *name = mem_strndup(names[i]);
        struct unit *unit = generation_find(control->master->now, name);

        /* Without a reader of their log pipes all others would stand still soon; anvil's counts would be lost. */
        bool needed = unit != NULL && (unit->type == UNIT_LOG || unit->type == UNIT_ANVIL);

        if (unit == NULL)
            line_conn_print(control->conn, "-Unknown service: %s\n", name);
        else if (needed)
            line_conn_print(control->conn, "-Service can't be stopped: %s\n", name);
        else
            monitor_unit_stop(unit);
        mem_free(name);
        if (unit == NULL || needed)
            return;
    }
    line_conn_print(control->conn, "+\n");
}

static void take_line(void *arg, struct slice line)
{
    struct control *control = arg;
    struct arena *arena = arena_new();
    struct slice *fields;
    size_t n = text_tab_fields(arena, line, &fields);
    struct error error = {0};
    unsigned minor;

    if (!control->greeted) {
        control->greeted = true;
        if (line_check_version(line, "master-client", 1, &minor, &error) < 0) {
            pid_t pid = 0;
            uid_t uid = 0;

            (void)net_peer_credentials(line_conn_fd(control->conn), &pid, &uid);
            log_error(NULL, "conn unix:master-client (pid=%ld,uid=%ld): didn't reply with a valid VERSION line: %.*s",
                      (long)pid, (long)uid, (int)slice_head(line, 200).size, (const char *)line.at);
            line_conn_fail(control->conn, &error);
        }
    } else if (slice_equal_str(fields[0], "SERVICE-STATUS")) {
        service_status(control);
    } else if (slice_equal_str(fields[0], "PROCESS-STATUS")) {
        process_status(control, fields + 1, n - 1);
    } else if (slice_equal_str(fields[0], "STOP")) {
        stop_services(control, fields + 1, n - 1);
    } else {
        (void)error_set(&error, ERROR_INVALID, "master-client: Unknown command: %.*s",
                        (int)slice_head(fields[0], 200).size, (const char *)fields[0].at);
        log_error_value(NULL, &error);
        line_conn_fail(control->conn, &error);
    }
    arena_free(arena);
}

static void take_close(void *arg, const struct error *error)
{
    (void)error;
    close_control(arg);
}

static void accept_client(struct ev_loop *loop, ev_io *watcher, int events)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    struct line_limits limits = {.line_max = LINE_MAX_BYTES};
    struct master *master = watcher->data;
    struct control *control;
    int fd = accept4(master->control_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return;
    control = mem_zero(1, sizeof(*control));
    control->master = master;
    control->conn = line_conn_new(loop, fd, &limits, &handler, control);
    line_conn_send_version(control->conn, "master-server", 1, 0);
}

int control_open(struct master *master, struct error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = mem_printf("%s/master", master->base_dir);
    struct error ignored;
    int fd = -1, result = -1;
    mode_t before;

    if (strlen(path) >= sizeof(address.sun_path)) {
        (void)error_set(error, ERROR_INVALID, "Unix socket path too long: %s", path);
        goto out;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    (void)os_unlink(AT_FDCWD, path, &ignored);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    before = umask(0177);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
        (void)error_sys(error, "bind", path);
    else
        result = 0;
    (void)umask(before);
    if (result == 0) {
        master->control_fd = fd;
        ev_io_init(&master->control_watcher, accept_client, fd, EV_READ);
        master->control_watcher.data = master;
        ev_io_start(master->loop, &master->control_watcher);
    } else if (fd >= 0) {
        (void)close(fd);
    }
out:
    mem_free(path);
    return result;
}

void control_close(struct master *master)
{
    if (master->control_fd < 0)
        return;
    ev_io_stop(master->loop, &master->control_watcher);
    (void)close(master->control_fd);
    master->control_fd = -1;
}
