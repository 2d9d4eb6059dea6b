/* libexec/dispatch: stands where Dovecot starts imap, pop3, ... (DECISIONS 1.3).
 *
 *     dispatch [-l SESSIONS] [-n COUNT] [-k SECONDS] [-v BYTES] [-x PATH] PROGRAM [POSTLOGIN-SOCKET]
 *
 * master gives the options: sessions a worker serves at one time (0 = many), in its life (0 = without end), seconds
 * until an idle worker ends, address space of one. PROGRAM is the worker's, beside us in libexec (-x: another one);
 * "lmtp-deliver" and "indexer-worker" mean that jobs come instead of logins. */
#include "dispatch/dispatch_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

static bool take_option(void *arg, int letter, const char *value)
{
    struct dispatcher *d = arg;
    uint64_t number;

    if (letter == 'x') {
        d->worker_path = value;
        return true;
    }
    if (value == NULL || !slice_to_u64(slice_from_str(value), &number))
        return false;
    switch (letter) {
    case 'l':
        d->per_worker = (unsigned)number;
        return true;
    case 'n':
        d->worker_count = (unsigned)number;
        return true;
    case 'k':
        d->idle_secs = (unsigned)number;
        return true;
    case 'v':
        d->vsz_limit = number;
        return true;
    }
    return false;
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    struct dispatcher *d = arg;

    /* Connections are not clients here, sessions are. */
    service_client_end(d->service);
    if (strcmp(listener->name, "dispatch-lmtp") == 0) {
        job_conn_new(d, fd);
    } else if (strcmp(d->protocol, "indexer-worker") == 0) {
        indexing_conn_new(d, fd);
    } else if (strcmp(listener->name, "imap-master") == 0) {
        restore_conn_new(d, fd);
    } else {
        login_conn_new(d, fd);
    }
}

static void finishing(void *arg, bool now)
{
    struct dispatcher *d = arg;

    d->finishing = true;
    if (now) {
        pool_end(d);
        return;
    }
    login_conns_hold(d);
    pool_finish(d);
}

static void terminate(void *arg)
{
    pool_end(arg);
}

static unsigned cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : (unsigned)n;
}

/* "imap" serves protocol imap with libexec/imap; settings know managesieve as sieve. */
static void take_program(struct dispatcher *d)
{
    char *const *args = service_args(d->service);
    const char *program = args[0], *file;

    if (program == NULL)
        log_fatal(EXIT_FATAL, "Usage: dispatch [-l n] [-n n] [-k secs] [-v bytes] <program> [<post-login socket>]");
    d->protocol = strcmp(program, "managesieve") == 0 ? "sieve" : program;
    file = program;
    if (strcmp(program, "lmtp-deliver") == 0) {
        d->protocol = "lmtp";
        file = "lmtp";
    } else {
        d->script = args[1];
    }
    d->program = d->worker_path != NULL ? mem_strdup(d->worker_path)
                                        : mem_printf("%s/%s", service_libexec_dir(), file);
    if (access(d->program, X_OK) < 0)
        log_fatal(EXIT_FATAL, "This version has no program %s", d->program);
}

/* Master makes the key, so that it outlives a reload; without master it lives as long as the process. */
static void take_ticket_key(struct dispatcher *d)
{
    const char *text = getenv(DISPATCH_TICKET_ENV);
    struct buffer key = {0};

    if (text != NULL && text_hex_decode(&key, slice_from_str(text)) == 0 && key.size == sizeof(d->ticket_key))
        memcpy(d->ticket_key, key.at, sizeof(d->ticket_key));
    else if (getrandom(d->ticket_key, sizeof(d->ticket_key), 0) != (ssize_t)sizeof(d->ticket_key))
        log_fatal(EXIT_FATAL, "getrandom() failed: %s", strerror(errno));
    (void)unsetenv(DISPATCH_TICKET_ENV); /* no worker shall have it */
    buffer_wipe(&key);
}

static int keep_conf(void)
{
    const char *text = getenv(CONF_FD_ENV);
    uint32_t fd;

    if (text == NULL || !slice_to_u32(slice_from_str(text), &fd) || fd > INT32_MAX)
        return -1;
    (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    return (int)fd;
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "imap", .own_options = "l:n:k:v:x:", .option = take_option,
                                                   .flags = SERVICE_NO_IDLE_EXIT};
    static const struct service_handler handler = {.connected = connected, .finishing = finishing,
                                                   .terminate = terminate};
    struct dispatcher d = {.idle_secs = 60, .conf_fd = -1};

    d.service = service_init(argc, argv, &options, &d);
    d.loop = service_loop(d.service);
    d.root = !service_unprivileged(d.service);
    d.session_limit = service_client_limit(d.service);
    d.slots = cores();
    d.conf_fd = keep_conf();
    take_ticket_key(&d);
    if (getenv("RESTRICT_SETEXTRAGROUPS") != NULL)
        d.extra_groups = mem_strdup(getenv("RESTRICT_SETEXTRAGROUPS"));
    take_program(&d);
    {
        char *path = mem_printf("%s/%s", service_base_dir(d.service),
                                strcmp(d.protocol, "lmtp") == 0 || strcmp(d.protocol, "indexer-worker") == 0 ? "auth-userdb" : "auth-master");

        d.auth = auth_master_new(d.loop, path, -1);
        mem_free(path);
    }
    if (!service_standalone(d.service)) {
        dispatch_kicks_start(&d);
        dispatch_stats_start(&d);
    }
    service_drop_privileges(d.service, SERVICE_MAY_GAIN);
    service_ready(d.service, &handler, &d);
    return service_run(d.service);
}
