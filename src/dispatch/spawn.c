/* A new worker: socket pair, fork, credentials, exec.
 *
 * The user's rights are in force before our program is even loaded; only a chroot has to wait for the worker itself
 * (its program lies outside), which then gets the ids as RESTRICT_* like every service. */
#include "dispatch/dispatch_impl.h"

#include "rpc/stats_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FD_DISPATCH = 3, FD_CONF = 4, FD_STATS = 5, SESSIONS_PER_VSZ = 32, EXIT_EXEC_FAILED = 84 };

static void fail(const char *what, const char *path)
{
    log_fatal(EXIT_FATAL, "%s(%s) failed: %s", what, path, strerror(errno));
}

static void set_number(const char *name, long number)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%ld", number);
    (void)setenv(name, text, 1);
}

static void set_environment(const struct dispatcher *d, const struct credentials *c)
{
    static const char *const gone[] = {"DOVECOT_CHILD_PROCESS", "GENERATION", "SOCKET_COUNT", "SERVICE_COUNT",
                                       "RESTRICT_SETUID", "RESTRICT_SETGID", "RESTRICT_SETGID_PRIV",
                                       "RESTRICT_SETEXTRAGROUPS", "RESTRICT_CHROOT", CONF_FD_ENV, NULL};
    struct buffer groups = {0};

    for (size_t i = 0; gone[i] != NULL; i++)
        (void)unsetenv(gone[i]);
    set_number(DISPATCH_FD_ENV, FD_DISPATCH);
    if (d->conf_fd >= 0)
        set_number(CONF_FD_ENV, FD_CONF);
    set_number("CLIENT_LIMIT", d->per_worker > 0 ? d->per_worker : d->session_limit);
    if (c->chroot == NULL || !d->root)
        return;
    set_number("RESTRICT_SETUID", c->uid);
    set_number("RESTRICT_SETGID", c->gid);
    if (c->privileged_gid != (gid_t)-1)
        set_number("RESTRICT_SETGID_PRIV", c->privileged_gid);
    for (size_t i = 0; i < c->group_count; i++)
        buffer_printf(&groups, "%s%u", i == 0 ? "" : ",", c->groups[i]);
    if (groups.size > 0)
        (void)setenv("RESTRICT_SETEXTRAGROUPS", buffer_cstr(&groups), 1);
    (void)setenv("RESTRICT_CHROOT", c->chroot, 1);
    buffer_free(&groups);
}

/* What stats.c would send it is there from its beginning. */
static void give_stats(const struct dispatcher *d)
{
    int fd = dispatch_stats_connect(d);

    if (fd < 0)
        return;
    if (fd == FD_STATS)
        (void)fcntl(fd, F_SETFD, 0);
    else if (dup2(fd, FD_STATS) < 0)
        fail("dup2", "stats");
    set_number(STATS_FD_ENV, FD_STATS);
}

static uint64_t address_space(const struct dispatcher *d, unsigned sessions)
{
    uint64_t bytes = d->vsz_limit;

    if (bytes == 0 || __builtin_mul_overflow(bytes, (uint64_t)1 + sessions / SESSIONS_PER_VSZ, &bytes))
        return 0;
    return bytes;
}

__attribute__((noreturn)) static void run_worker(struct dispatcher *d, const struct credentials *c, int fd)
{
    struct error e;
    char *argv[] = {mem_printf("dovecot/%s", service_name(d->service)), NULL};
    int program = open(d->program, O_PATH | O_CLOEXEC);
    int high = fcntl(fd, F_DUPFD, 16), high_conf = d->conf_fd < 0 ? -1 : fcntl(d->conf_fd, F_DUPFD, 16);

    service_reset_signals();
    if (high < 0 || dup2(high, FD_DISPATCH) < 0)
        fail("dup2", "worker");
    if (high_conf >= 0 && (dup2(high_conf, FD_CONF) < 0 || lseek(FD_CONF, 0, SEEK_SET) < 0))
        fail("dup2", "configuration");
    (void)close(high);
    if (high_conf >= 0)
        (void)close(high_conf);
    /* Everything else is close-on-exec. */
    set_environment(d, c);
    give_stats(d);
    if (c->nice != 0 && setpriority(PRIO_PROCESS, 0, c->nice) < 0)
        log_error(NULL, "setpriority(%d) failed: %s", c->nice, strerror(errno));
    if (d->root && c->chroot == NULL && credentials_take(c, &e) < 0)
        log_fatal(EXIT_FATAL, "worker: %s", e.admin);
    (void)execv(d->program, argv);
    /* A build tree in root's home, which the user may not enter: the program itself he may run. */
    if (errno == EACCES && program >= 0) {
        (void)fexecve(program, argv, environ);
        errno = EACCES;
    }
    log_fatal(EXIT_EXEC_FAILED, "execv(%s) failed: %s", d->program, strerror(errno));
}

void spawn_limit(struct dispatcher *d, pid_t pid, unsigned sessions)
{
#ifndef SANITIZERS
    uint64_t bytes = address_space(d, d->per_worker == 1 ? 0 : sessions + SESSIONS_PER_VSZ);
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};

    /* Only root may raise another user's limits; without root the first one stays. */
    if (bytes != 0 && (d->root || sessions == 0))
        (void)prlimit(pid, RLIMIT_AS, &limit, NULL);
#else
    (void)d, (void)pid, (void)sessions, (void)address_space;
#endif
}

pid_t spawn_worker(struct dispatcher *d, const struct credentials *c, int *fd, struct error *error)
{
    int ends[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_sys(error, "socketpair", NULL);
    pid = fork();
    if (pid == 0)
        run_worker(d, c, ends[1]);
    (void)close(ends[1]);
    if (pid < 0) {
        (void)error_sys(error, "fork", NULL);
        (void)close(ends[0]);
        return -1;
    }
    spawn_limit(d, pid, 0);
    *fd = ends[0];
    return pid;
}
