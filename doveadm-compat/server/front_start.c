/* front_start.c - a doveadm-front for a connection: pipes, packets, its part of the configuration, fork, exec. */
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct ends {
    int client, wire, out, log, conf;
};

static void keep(int from, int to)
{
    if (dup2(from, to) < 0)
        log_fatal(EXIT_FATAL, "dup2() failed: %s", strerror(errno));
}

/* The descriptors are first moved out of the way of their new places. */
static void place(const struct ends *ends)
{
    const int from[] = {ends->client, ends->wire, ends->out, ends->log, ends->conf};
    int high[sizeof(from) / sizeof(from[0])];

    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
        high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 32);
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
        keep(high[i], FRONT_FD_CLIENT + (int)i);
}

static void set_environment(void)
{
    static const char *const gone[] = {"GENERATION", "SOCKET_COUNT", "SERVICE_COUNT", "RESTRICT_SETUID", "RESTRICT_SETGID",
                                       "RESTRICT_SETGID_PRIV", "RESTRICT_SETEXTRAGROUPS", "RESTRICT_CHROOT", NULL};
    char number[16];

    for (size_t i = 0; gone[i] != NULL; i++)
        (void)unsetenv(gone[i]);
    (void)snprintf(number, sizeof(number), "%d", FRONT_FD_CONF);
    (void)setenv(CONF_FD_ENV, number, 1);
}

__attribute__((noreturn)) static void run_front(struct server_client *c, const struct service_listener *listener,
                                                const struct ends *ends)
{
    char *program = mem_printf("%s/doveadm-front", service_libexec_dir());
    char *root = mem_printf("%s/empty", service_base_dir(c->service));
    char flags[8];                 /* '-' and those of wire.h */
    char *argv[] = {mem_strdup("dovecot/doveadm-front"), mem_strdup(strcmp(listener->name, "http") == 0 ? "http" : "line"),
                    flags, c->ip, mem_strdup(conf_str(c->set, SET_default_internal_user)), root, NULL};

    (void)snprintf(flags, sizeof(flags), "-%s%s%s%s%s", c->rawlog != NULL ? "r" : "", listener->ssl ? "t" : "", c->trusted ? "u" : "",
                   *conf_str(c->set, SET_doveadm_password) != '\0' ? "p" : "",
                   *conf_str(c->set, SET_doveadm_api_key) != '\0' ? "k" : "");
    service_reset_signals();
    (void)signal(SIGPIPE, SIG_IGN);
    place(ends);
    set_environment();
    (void)execv(program, argv);
    log_fatal(84, "execv(%s) failed: %s", program, strerror(errno));
}

static void close_ends(struct ends *ends)
{
    int *all[] = {&ends->wire, &ends->out, &ends->log, &ends->conf};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (*all[i] >= 0)
            close(*all[i]);
}

int server_start_front(struct server_client *c, const struct service_listener *listener, int fd, struct error *e)
{
    struct ends ends = {fd, -1, -1, -1, -1};
    int pair[2] = {-1, -1}, out[2], log[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_sys(e, "socketpair", NULL);
    ends.wire = pair[1];
    if (pipe2(out, O_CLOEXEC) == 0) {
        ends.out = out[0];
        c->out = out[1];
    }
    if (pipe2(log, O_CLOEXEC) == 0) {
        ends.log = log[0];
        c->log = log[1];
    }
    if (c->out < 0 || c->log < 0)
        (void)error_sys(e, "pipe", NULL);
    else if ((ends.conf = conf_seal(service_conf(c->service), FRONT_CONF_SERVICE, e)) >= 0) {
        c->front = fork();
        if (c->front == 0)
            run_front(c, listener, &ends);
        if (c->front < 0)
            (void)error_sys(e, "fork", NULL);
    }
    close_ends(&ends);
    if (c->front <= 0)
        close(pair[0]);
    return c->front > 0 ? pair[0] : -1;
}
