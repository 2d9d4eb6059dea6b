/* cmd_master.c - stop, reload, service *, process status: the master by signal and by its socket (ipc 5). */
#include "doveadm.h"
#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { STOP_WAIT_MS = 3000, PID_FILE_MAX = 64, REPLY_MAX = 1024 * 1024 };

static pid_t master_pid(struct doveadm *d, const char **path)
{
    struct buffer text = {0};
    struct error e;
    uint32_t pid = 0;

    *path = doveadm_socket(d, "master.pid");
    if (os_read_file(AT_FDCWD, *path, PID_FILE_MAX, &text, &e) < 0 ||
        !slice_to_u32(slice_trim(buffer_slice(&text)), &pid) || pid == 0 || pid > INT32_MAX ||
        kill((pid_t)pid, 0) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Dovecot is not running (read from %s)", *path);
    buffer_free(&text);
    return (pid_t)pid;
}

static void send_signal(struct doveadm *d, int signal, pid_t *pid)
{
    const char *path;

    *pid = master_pid(d, &path);
    if (kill(*pid, signal) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "kill(%d, %s) failed: %s", (int)*pid, strsignal(signal), strerror(errno));
}

int doveadm_stop(struct doveadm *d)
{
    pid_t pid;

    send_signal(d, SIGTERM, &pid);
    /* The next command may be a start: wait until the process is gone. */
    for (int ms = 0; ms < STOP_WAIT_MS && kill(pid, 0) == 0; ms += 10)
        poll(NULL, 0, 10);
    return DOVEADM_OK;
}

int doveadm_reload(struct doveadm *d)
{
    pid_t pid;

    send_signal(d, SIGHUP, &pid);
    return DOVEADM_OK;
}

int doveadm_log_reopen(struct doveadm *d)
{
    pid_t pid;

    send_signal(d, SIGUSR1, &pid);
    return DOVEADM_OK;
}

/* ---- the master's socket ---------------------------------------------------------------------------------------- */

/* Connects, greets, sends one line; the answer without the greeting, up to the empty line or the first line. */
static struct slice ask_master(struct doveadm *d, struct slice request, bool one_line)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    const char *path = doveadm_socket(d, "master");
    struct buffer in = {0};
    struct slice answer;
    ptrdiff_t greeting;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path) >= (int)sizeof(sa.sun_path) ||
        connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "net_connect_unix(%s) failed: %s", path, strerror(errno));
    if (write(fd, "VERSION\tmaster-client\t1\t0\n", 26) != 26 ||
        write(fd, request.at, request.size) != (ssize_t)request.size)
        doveadm_fatal(DOVEADM_TEMPFAIL, "write(%s) failed: %s", path, strerror(errno));
    for (;;) {
        char part[4096];
        ssize_t n = read(fd, part, sizeof(part));
        if (n <= 0 || in.size > REPLY_MAX)
            doveadm_fatal(DOVEADM_TEMPFAIL, "%s: Connection lost", path);
        buffer_append(&in, part, (size_t)n);
        greeting = slice_find(buffer_slice(&in), '\n');
        if (greeting < 0)
            continue;
        answer = slice_from(buffer_slice(&in), (size_t)greeting + 1);
        if (one_line ? slice_find(answer, '\n') >= 0
                     : slice_starts(answer, SLICE("\n")) || slice_find_slice(answer, SLICE("\n\n")) >= 0)
            break;
    }
    close(fd);
    answer = arena_slice(d->arena, answer);
    buffer_free(&in);
    return answer;
}

static void print_lines(struct doveadm *d, struct slice answer, size_t columns)
{
    struct slice line, *fields;

    while (slice_split(&answer, '\n', &line) && line.size > 0) {
        size_t n = text_tab_fields(d->arena, line, &fields);
        for (size_t i = 0; i < columns; i++)
            print_value(d, i < n ? arena_str(d->arena, fields[i]) : "");
    }
}

/* Lines whose first field is one of the names; all without names. */
static struct slice only_named(struct doveadm *d, struct slice answer, const char *const *names, size_t count)
{
    struct buffer out = {0};
    struct slice line, rest;

    while (slice_split(&answer, '\n', &line) && line.size > 0) {
        struct slice name, all = line;
        slice_split(&all, '\t', &name);
        for (size_t i = 0; i < count || count == 0; i++) {
            if (count == 0 || slice_equal_str(name, names[i])) {
                buffer_append_slice(&out, line);
                buffer_append_byte(&out, '\n');
                break;
            }
        }
    }
    rest = arena_slice(d->arena, buffer_slice(&out));
    buffer_free(&out);
    return rest;
}

/* Master's answer to `question`, a line for each of the services that the command names. */
static int print_status(struct doveadm *d, struct slice question, const char *formatter, const char *const *titles,
                        size_t columns)
{
    size_t n;
    const char *const *names = doveadm_list(d, "service", &n);
    struct slice answer = ask_master(d, question, false);

    print_init(d, formatter);
    for (size_t i = 0; i < columns; i++)
        print_header_simple(d, titles[i]);
    print_lines(d, only_named(d, answer, names, n), columns);
    return DOVEADM_OK;
}

int doveadm_service_status(struct doveadm *d)
{
    static const char *const titles[] = {"name",          "process_count",     "process_avail",        "process_limit",
                                         "client_limit",  "throttle_secs",     "exit_failure_last",    "exit_failures_in_sec",
                                         "last_drop_warning", "listen_pending", "listening", "doveadm_stop",
                                         "process_total"};

    return print_status(d, SLICE("SERVICE-STATUS\n"), "pager", titles, sizeof(titles) / sizeof(titles[0]));
}

int doveadm_process_status(struct doveadm *d)
{
    static const char *const titles[] = {"name",       "pid",  "available_count", "total_count",
                                         "idle_start", "last_status_update", "last_kill_sent"};

    return print_status(d, SLICE("PROCESS-STATUS\n"), "table", titles, sizeof(titles) / sizeof(titles[0]));
}

int doveadm_service_stop(struct doveadm *d)
{
    struct buffer line = {0};
    struct slice answer;
    size_t n;
    const char *const *names = doveadm_list(d, "service", &n);

    if (n == 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "service parameter missing");
    buffer_append_str(&line, "STOP");
    for (size_t i = 0; i < n; i++) {
        buffer_append_byte(&line, '\t');
        text_tab_escape(&line, slice_from_str(names[i]));
    }
    buffer_append_byte(&line, '\n');
    answer = slice_trim(ask_master(d, buffer_slice(&line), true));
    buffer_free(&line);
    if (slice_starts(answer, SLICE("+")))
        return DOVEADM_OK;
    log_error(NULL, "%.*s", (int)(answer.size > 0 ? answer.size - 1 : 0), answer.at + 1);
    return DOVEADM_NOTFOUND;
}
