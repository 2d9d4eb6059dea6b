/* Pipes between master, the log service and anvil (ipc 2.1, 3, 6).
 *
 * Every service has one pipe that is standard error of all its processes; master writes the handshake (magic, prefix)
 * into it before anybody else can. Master keeps both ends, so that a new log process reads on where a crashed one
 * stopped. anvil has two pipes: one only for master (KILL), one for everybody's CONNECT and DISCONNECT lines. */
#include "master/master.h"

#include "net/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOG_MAGIC 0x02FF03FEu

static void close_end(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static int make_pipe(int ends[2], struct error *error)
{
    return pipe2(ends, O_CLOEXEC) < 0 ? error_sys(error, "pipe", NULL) : 0;
}

static int write_handshake(int fd, const char *prefix, struct error *error)
{
    uint32_t head[2] = {LOG_MAGIC, (uint32_t)strlen(prefix)};
    struct buffer bytes = {0};
    ssize_t n;

    buffer_append(&bytes, head, sizeof(head));
    buffer_append_str(&bytes, prefix);
    n = write(fd, bytes.at, bytes.size);
    buffer_free(&bytes);
    return n < 0 ? error_sys(error, "write", "log pipe") : 0;
}

int pipes_init(struct master *master, struct error *error)
{
    static const char version[] = "VERSION\tanvil\t1\t0\n";

    int ends[2];

    if (make_pipe(ends, error) < 0)
        return -1;
    master->dead_read = ends[0];
    master->dead_write = ends[1];
    if (make_pipe(master->anvil_blocking, error) < 0 || make_pipe(master->anvil_control, error) < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, master->anvil_log_socket) < 0)
        return error_sys(error, "socketpair", NULL);
    /* Children write to the blocking pipe; master never waits for anybody. */
    os_never_block(master->anvil_control[1]);
    os_never_block(master->anvil_control[0]);
    if (write(master->anvil_blocking[1], version, sizeof(version) - 1) < 0 ||
        write(master->anvil_control[1], version, sizeof(version) - 1) < 0)
        return error_sys(error, "write", "anvil");
    return 0;
}

int pipes_open_unit(struct unit *unit, struct error *error)
{
    char *prefix;
    int ends[2], result;

    if (make_pipe(ends, error) < 0)
        return -1;
    unit->status_read = ends[0];
    unit->status_write = ends[1];
    os_never_block(unit->status_read);
    os_never_block(unit->status_write);
    /* The log service's own standard error is master's; its pipe here is the one "MASTER". */
    if (make_pipe(ends, error) < 0)
        return -1;
    unit->log_read = ends[0];
    unit->log_write = ends[1];
    prefix = unit->type == UNIT_LOG ? mem_strdup("MASTER") : mem_printf("%s: ", unit->name);
    result = write_handshake(unit->log_write, prefix, error);
    mem_free(prefix);
    if (result < 0)
        return -1;
    if (unit->type == UNIT_LOGIN) {
        unit->full_fd = open(unit->master->base_dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        if (unit->full_fd < 0) /* not every file system has them */
            unit->full_fd = memfd_create("login-full", MFD_CLOEXEC);
        if (unit->full_fd < 0)
            return error_sys(error, "open", unit->master->base_dir);
    }
    return 0;
}

void pipes_close_unit(struct unit *unit)
{
    if (unit->status_read >= 0)
        ev_io_stop(unit->master->loop, &unit->status_watcher);
    close_end(&unit->status_read);
    close_end(&unit->status_write);
    close_end(&unit->log_read);
    close_end(&unit->log_write);
    close_end(&unit->full_fd);
}

void pipes_log_takes_over(struct master *master)
{
    int fd = master->now->log->log_write;

    if (dup2(fd, STDERR_FILENO) < 0)
        log_fatal(EXIT_FATAL, "dup2(log) failed: %s", strerror(errno));
    log_open_service("master");
    log_set_prefix("master: ");
    if (master->log_control >= 0)
        (void)close(master->log_control);
    /* Its lines are hints; when nobody reads they are dropped instead of stopping the supervisor. A descriptor of
     * its own, since O_NONBLOCK belongs to the open file that standard error shares. */
    {
        char path[64];

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        master->log_control = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    }
    if (master->log_control < 0)
        master->log_control = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

void pipes_anvil_new_log(struct master *master)
{
    static const unsigned char zero = 0;

    if (net_send_fd(master->anvil_log_socket[0], slice_of(&zero, 1), master->now->anvil->log_write) < 0)
        log_error(NULL, "The new log pipe could not be sent to anvil: %s", strerror(errno));
}

/* The descriptor under which the log process knows the service's pipe: master's is 7, then in order. */
static int log_number(const struct unit *unit)
{
    const struct generation *generation = unit->generation;
    int number = 7;

    for (size_t i = 0; i < generation->unit_count; i++) {
        if (generation->units[i].type == UNIT_LOG)
            continue;
        number++;
        if (&generation->units[i] == unit)
            return number;
    }
    return 7;
}

void pipes_tell_log(struct unit *unit, pid_t pid, const char *what, const char *text)
{
    struct buffer line = {0};

    if (unit->master->log_control < 0 || unit->generation != unit->master->now)
        return;
    buffer_printf(&line, "%d %ld %s%s%s\n", log_number(unit), (long)pid, what, text == NULL ? "" : " ",
                  text == NULL ? "" : text);
    (void)!write(unit->master->log_control, line.at, line.size);
    buffer_free(&line);
}

void pipes_anvil_kill(struct master *master, pid_t pid)
{
    char line[64];
    int n = snprintf(line, sizeof(line), "KILL\t%ld\n", (long)pid);

    if (write(master->anvil_control[1], line, (size_t)n) < 0)
        log_error(NULL, "write(anvil) failed: %s", strerror(errno));
}
