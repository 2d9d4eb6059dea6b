/* lmtp_main.c - the process: the front of LMTP, or (started by a dispatcher) a delivery worker.
 *
 * The front starts as root where master starts it so, connects what only root may, and then becomes the internal user
 * (default_internal_user): bytes of clients are never read as root. */
#include "lmtp/lmtp_impl.h"

#include "conf/plugins.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    lmtp_client_new(arg, listener, fd);
}

static void finishing(void *arg, bool now)
{
    struct lmtp_server *s = arg;
    struct lmtp_client *c, *next;

    s->ending = true;
    DL_FOREACH_SAFE(s->clients, c, next)
        if (now || (c->trans == NULL && c->mode == LMTP_COMMAND))
            lmtp_client_shutdown(c);
}

static void terminate(void *arg)
{
    finishing(arg, true);
}

static const struct service_handler events = {.connected = connected, .finishing = finishing, .terminate = terminate};

/* An assigned `user =` was obeyed by service_drop_privileges; otherwise root becomes the internal user here. */
static void become_internal_user(struct lmtp_server *s)
{
    const char *name = conf_str(s->global, SET_default_internal_user);
    struct passwd *pw;

    if (geteuid() != 0)
        return;
    pw = getpwnam(name);
    if (pw == NULL)
        log_fatal(EXIT_FATAL, "User doesn't exist: %s (default_internal_user setting)", name);
    if (pw->pw_uid == 0)
        return;
    if (setgid(pw->pw_gid) < 0 || initgroups(name, pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
        log_fatal(EXIT_FATAL, "Can't become user %s: %m", name);
}

static void run_front(struct lmtp_server *s)
{
    struct error e;
    int fd;

    fd = service_connect(s->service, "auth-master", &e);
    if (fd < 0)
        fd = service_connect(s->service, "auth-userdb", &e);
    if (fd < 0)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    s->auth = auth_master_new(s->loop, NULL, fd);
    fd = service_connect(s->service, "anvil", &e);
    s->anvil = anvil_client_new(s->loop, NULL, fd);
    s->dispatch = dispatch_client_new(s->loop, "dispatch-lmtp", &e);
    if (s->dispatch == NULL)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    service_drop_privileges(s->service, 0);
    become_internal_user(s);
}

int main(int argc, char **argv)
{
    const struct service_options options = {.name = "lmtp"};
    const struct conf_filter filter = {.service = "lmtp"};
    struct lmtp_server s = {0};
    struct lmtp_client *c, *next;
    struct error e;
    int status;

    s.service = service_init(argc, argv, &options, &s);
    if (dispatch_is_worker())
        return lmtp_worker_main(s.service);
    s.loop = service_loop(s.service);
    s.global = conf_settings(service_conf(s.service), &filter, &e);
    if (s.global == NULL)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    s.hostname = conf_str(s.global, SET_hostname);
    if (*s.hostname == '\0')
        s.hostname = getenv("DOVECOT_HOSTDOMAIN") != NULL ? getenv("DOVECOT_HOSTDOMAIN") : service_hostname(s.service);
    s.tls = tls_cache_new(NULL);
    log_set_prefix("lmtp(%d): ", (int)getpid());
    if (conf_plugins_check(s.global, false, &e) < 0)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    run_front(&s);
    service_ready(s.service, &events, &s);
    status = service_run(s.service);

    DL_FOREACH_SAFE(s.clients, c, next)
        lmtp_client_free(c);
    dispatch_client_free(s.dispatch);
    auth_master_free(s.auth);
    anvil_client_free(s.anvil);
    tls_cache_free(s.tls);
    settings_unref(s.global);
    return status;
}
