/* login_server.c - the process: connections to the other services, privileges, the list of clients. */
#include "login/login_impl.h"
#include "login/sandbox.h"

#include <unistd.h>

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    login_client_new(arg, listener, fd);
}

static void auth_ready(void *arg)
{
    struct login_server *s = arg;
    struct login_client *c, *next;

    DL_FOREACH_SAFE(s->clients, c, next)
        login_client_auth_ready(c);
}

static void auth_lost(void *arg, const struct error *e)
{
    struct login_server *s = arg;
    struct login_client *c, *next;

    if (!s->ending && !service_finishing(s->service) && e->class != ERROR_NONE)
        log_warning(NULL, "Auth connection lost: %s", e->admin);
    DL_FOREACH_SAFE(s->clients, c, next)
        login_client_auth_lost(c);
}

/* Limits are counted by anvil, whose socket is out of reach of this process: whoever comes next is another one's. */
static void anvil_lost(void *arg)
{
    struct login_server *s = arg;

    service_retire(s->service);
}

/* The service has no room: the oldest clients that have not logged in make place (ipc 2.3). */
static void full(void *arg)
{
    struct login_server *s = arg;
    struct login_client *c, *next;
    unsigned rest = s->client_count / 16 + 1;

    DL_FOREACH_SAFE(s->clients, c, next) {
        if (rest == 0)
            break;
        if (c->stage == STAGE_RELAY || c->stage == STAGE_HANDOVER || c->stage == STAGE_END)
            continue;
        login_client_kick(c, "Connection queue full", "Connection queue full");
        rest--;
    }
}

static void drop_all(struct login_server *s, const char *text, const char *reason, bool relays)
{
    struct login_client *c, *next;

    s->ending = true;
    login_handover_take_answers(s->handover);
    DL_FOREACH_SAFE(s->clients, c, next) {
        if (c->stage == STAGE_RELAY) {
            if (relays)
                login_client_free(c);
        } else if (c->stage == STAGE_HANDOVER && c->relay_fd < 0) {
            /* Its descriptor is on its way: a mail process may be talking to it by now. */
            login_log_reason(c, reason);
            login_client_free(c);
        } else
            login_client_kick(c, text, reason);
    }
}

static void finishing(void *arg, bool now)
{
    struct login_server *s = arg;

    s->ending = true;
    if (now) /* else whoever is here may still log in: auth and dispatcher of our generation wait for us */
        drop_all(s, "Disconnected: Shutting down", "Shutting down", true);
}

static void terminate(void *arg)
{
    drop_all(arg, "Disconnected: Shutting down", "Shutting down", true);
}

static const struct auth_client_handler auth_handler = {auth_ready, auth_lost};
static const struct service_handler service_events = {
    .connected = connected, .finishing = finishing, .full = full, .terminate = terminate};

/* auth's socket lies in the working directory after the chroot to login/, below login/ without one. */
static char *auth_socket(const struct login_protocol *protocol)
{
    const char *name = protocol->auth_socket != NULL ? protocol->auth_socket : "login";
    char *path = mem_printf("%s/%s", login_folder(protocol), name);

    if (access(path, F_OK) == 0)
        return path;
    mem_free(path);
    return mem_strdup(name);
}

int login_main(int argc, char **argv, const struct login_protocol *protocol)
{
    const struct service_options options = {.name = protocol->process};
    struct conf_filter filter = {.service = protocol->name};
    struct login_server s = {.protocol = protocol};
    struct error e;
    char *socket;
    int fd, status;

    s.service = service_init(argc, argv, &options, &s);
    s.loop = service_loop(s.service);
    s.global = conf_settings(service_conf(s.service), &filter, &e);
    if (s.global == NULL)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    s.tls = tls_cache_new(protocol->name);
    fd = service_connect(s.service, "anvil", &e); /* for root only: before privileges are dropped */
    if (fd < 0)
        log_warning(NULL, "%s: limits per user and address are off", e.admin);
    s.anvil = anvil_client_new(s.loop, NULL, fd);
    if (!protocol->local && strcmp(conf_str(s.global, SET_ssl), "no") != 0) {
        /* Parses the certificate while errors can still be told from the start on, and warms GnuTLS up before the
         * sandbox: its first use opens files. */
        if (tls_cache_get(s.tls, s.global, &e) == NULL)
            log_debug(NULL, "Failed to initialize SSL server context: %s", e.admin);
    }
    login_sandbox_limits();
    service_drop_privileges(s.service, 0);
    s.handover = login_handover_new(&s, -1);
    socket = auth_socket(protocol);
    s.auth = auth_client_new(s.loop, socket, -1, (unsigned)getpid(), &auth_handler, &s);
    mem_free(socket);
    login_handover_prepare(s.handover);
    login_sandbox_enter(service_unprivileged(s.service));
    service_ready(s.service, &service_events, &s);
    anvil_client_on_lost(s.anvil, anvil_lost, &s);
    status = service_run(s.service);

    drop_all(&s, NULL, "Shutting down", true);
    for (struct login_client *c = s.clients, *next; c != NULL; c = next) {
        next = c->next;
        login_client_free(c);
    }
    auth_client_free(s.auth);
    login_handover_free(s.handover);
    anvil_client_free(s.anvil);
    tls_cache_free(s.tls);
    settings_unref(s.global);
    return status;
}
