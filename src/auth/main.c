/* libexec/auth: the services auth, and with -w auth-worker (auth.md 1).
 *
 * auth decides who is who for everybody else. It reads what only root may read (database configurations, passwd-files,
 * the token secret), connects to anvil's penalty socket, then gives up its privileges; slow databases are asked in
 * auth-worker processes, which stay root. What a client of a socket may ask is decided by the socket's name. */
#include "auth/cache.h"
#include "auth/conns.h"
#include "auth/worker_pool.h"
#include "rpc/service.h"
#include "rpc/stats_client.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct process {
    struct server server;
    bool worker;
    ev_signal hup, usr2;
};

static bool take_option(void *arg, int letter, const char *value)
{
    struct process *p = arg;

    (void)value;
    if (letter != 'w')
        return false;
    p->worker = true;
    return true;
}

/* What stands behind the last '-' of the name, or all of it. */
static const char *suffix_of(const char *name)
{
    const char *dash = strrchr(name, '-');

    return dash == NULL ? name : dash + 1;
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    struct process *p = arg;
    const char *suffix = suffix_of(listener->name);
    struct sockaddr_un address = {0};
    socklen_t size = sizeof(address) - 1;

    if (p->worker)
        worker_conn_new(&p->server, fd);
    else if (strcmp(suffix, "master") == 0)
        master_conn_new(&p->server, fd, false, NULL);
    else if (strcmp(suffix, "userdb") == 0)
        master_conn_new(&p->server, fd, true,
                        getsockname(fd, (struct sockaddr *)&address, &size) == 0 && address.sun_path[0] != '\0'
                            ? address.sun_path : NULL);
    else
        client_conn_new(&p->server, fd, strcmp(suffix, "login") == 0, strcmp(suffix, "tokenlogin") == 0);
}

static void take_hup(struct ev_loop *loop, ev_signal *w, int events)
{
    struct process *p = w->data;

    (void)loop, (void)events;
    if (p->server.cache != NULL)
        log_info(NULL, "SIGHUP received, %u cache entries flushed", cache_flush(p->server.cache, NULL, 0));
}

static void take_usr2(struct ev_loop *loop, ev_signal *w, int events)
{
    struct process *p = w->data;

    (void)loop, (void)events;
    if (p->server.cache != NULL)
        cache_log_statistics(p->server.cache);
}

static void open_auth(struct process *p, struct service *service)
{
    struct server *s = &p->server;
    struct settings *set;
    struct error e;
    int fd;

    s->stats = stats_client_new(service);
    (void)stats_client_connect(s->stats);
    fd = service_connect(service, "anvil-auth-penalty", &e);
    if (fd >= 0)
        s->penalty = penalty_new(s, fd);
    set = conf_settings(service_conf(service), NULL, &e);
    if (set == NULL)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    s->workers = worker_pool_new(s, "auth-worker", conf_uint(set, SET_auth_worker_max_count));
    settings_unref(set);
    s->delay = delay_new(s->loop);
    s->token = token_new("auth-token-secret.dat", &e);
    if (s->token == NULL)
        log_error(NULL, "auth-token-secret.dat: %s", e.admin);
    ev_signal_init(&p->hup, take_hup, SIGHUP);
    ev_signal_init(&p->usr2, take_usr2, SIGUSR2);
    p->hup.data = p->usr2.data = p;
    ev_signal_start(s->loop, &p->hup);
    ev_signal_start(s->loop, &p->usr2);
}

static void close_auth(struct process *p)
{
    struct server *s = &p->server;

    ev_signal_stop(s->loop, &p->hup);
    ev_signal_stop(s->loop, &p->usr2);
    delay_flush(s->delay);
    client_conns_close(s);
    delay_free(s->delay);
    worker_pool_free(s->workers);
    penalty_free(s->penalty);
    token_free(s->token);
    stats_client_free(s->stats);
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "auth", .own_options = "w", .option = take_option};
    static const struct service_handler handler = {.connected = connected};
    static struct process process;
    struct service *service = service_init(argc, argv, &options, &process);
    struct error e;
    int status;

    process.server.service = service;
    process.server.loop = service_loop(service);
    process.server.worker = process.worker;
    process.server.hostname = service_hostname(service);
    if (server_configure(&process.server, service_conf(service), &e) < 0)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    if (process.worker)
        log_set_prefix("auth-worker(%ld): ", (long)getpid());
    if (!process.worker)
        open_auth(&process, service);
    service_drop_privileges(service, 0);
    service_ready(service, &handler, &process);
    status = service_run(service);
    if (!process.worker)
        close_auth(&process);
    server_free(&process.server);
    return status;
}
