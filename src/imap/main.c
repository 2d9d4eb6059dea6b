/* main.c - the process libexec/imap.
 *
 * Three ways in. Started by a dispatcher: a worker with the credentials of its users, sessions come over the pair
 * (rpc/dispatch.h). Started by hand or by `doveadm exec imap`: one session on standard input and output, greeted with
 * PREAUTH; -u USER asks the userdb and takes that user's uid and groups, without -u the caller is the user (USER, HOME).
 * Everything else is an error of whoever started it. */
#include "imap/imap.h"

#include "rpc/auth_client.h"
#include "rpc/dispatch.h"
#include "rpc/service.h"
#include "rpc/stats_client.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SYNC_THREADS = 4 };

struct program {
    struct service *service;
    struct imap_worker *worker;
    struct dispatch_worker *dispatch; /* NULL: a session by hand */
    const char *user;                 /* -u */
    struct stats_client *stats;
};

static bool take_option(void *arg, int letter, const char *value)
{
    struct program *p = arg;

    if (letter != 'u')
        return false;
    p->user = value;
    return true;
}

/* ---- worker ------------------------------------------------------------------------------------------------------------ */

static void session_ended(void *arg, uint32_t id, int fd)
{
    struct program *p = arg;

    if (fd >= 0)
        dispatch_worker_leave(p->dispatch, id, fd);
    else if (p->dispatch != NULL)
        dispatch_worker_end(p->dispatch, id);
    else
        service_stop(p->service);
}

static void ask_urlauth(void *arg, uint32_t id)
{
    struct program *p = arg;

    dispatch_worker_urlauth(p->dispatch, id);
}

static const struct imap_worker_handler worker_handler = {.ended = session_ended, .urlauth = ask_urlauth};
/* By hand there is no session that a dispatcher knows of. */
static const struct imap_worker_handler standalone_handler = {.ended = session_ended};

static const char *host_text(struct arena *arena, const struct net_endpoint *end)
{
    char text[NET_IP_TEXT];

    return end->ip.family == 0 ? NULL : arena_strdup(arena, net_ip_text(&end->ip, text));
}

static void take_session(void *arg, const struct dispatch_request *request, int fd)
{
    struct program *p = arg;
    struct arena *arena = arena_new();
    struct buffer origin = {0};
    struct imap_login login = {.id = request->id, .user = request->user, .session = request->session,
                               .home = rpc_fields_get(&request->userdb, "home"),
                               .fields = rpc_fields_texts(arena, &request->userdb),
                               .local_ip = host_text(arena, &request->local),
                               .remote_ip = host_text(arena, &request->remote), .tag = request->tag,
                               .nocap = request->nocap, .tls = request->tls, .returns = request->returns, .input = request->input,
                               .rested = request->rested.count > 0 ? &request->rested : NULL};

    dispatch_origin_write(&origin, request);
    login.origin = buffer_cstr(&origin);
    imap_worker_adopt(p->worker, fd, -1, &login);
    buffer_free(&origin);
    arena_free(arena);
}

static void kick_session(void *arg, uint32_t id, const char *reason)
{
    struct program *p = arg;

    imap_worker_kick(p->worker, id, reason != NULL && *reason != '\0' ? reason : "Server shutting down.");
}

static void take_urlauth(void *arg, uint32_t id, int fd)
{
    struct program *p = arg;

    imap_worker_urlauth(p->worker, id, fd);
}

static void take_stats(void *arg, int fd)
{
    struct program *p = arg;

    stats_client_adopt(p->stats, fd);
}

static const struct dispatch_handler dispatch_handler = {.session = take_session, .kick = kick_session, .urlauth = take_urlauth, .stats = take_stats};

static void finishing(void *arg, bool now)
{
    struct program *p = arg;

    if (now)
        imap_worker_shutdown(p->worker, "Server shutting down.");
}

static void terminate(void *arg)
{
    struct program *p = arg;

    imap_worker_shutdown(p->worker, "Server shutting down.");
}

static const struct service_handler service_handler = {.finishing = finishing, .terminate = terminate};

/* ---- by hand ----------------------------------------------------------------------------------------------------------- */

static void become(const char *user, const struct rpc_fields *fields)
{
    const char *uid = rpc_fields_get(fields, "uid"), *gid = rpc_fields_get(fields, "gid");

    if (geteuid() != 0 || uid == NULL || gid == NULL)
        return;
    if (setgid((gid_t)strtoul(gid, NULL, 10)) < 0 || initgroups(user, (gid_t)strtoul(gid, NULL, 10)) < 0 ||
        setuid((uid_t)strtoul(uid, NULL, 10)) < 0)
        log_fatal(EXIT_FATAL, "User %s: can't take uid %s and gid %s: %m", user, uid, gid);
}

/* userdb look-up over auth-userdb, as mail-storage-service does. */
static void look_up(struct program *p, struct arena *arena, struct imap_login *login)
{
    struct auth_user_info info = {.service = "imap"};
    struct rpc_fields *fields = ARENA_NEW(arena, struct rpc_fields);
    const char *path = arena_printf(arena, "%s/auth-userdb", service_base_dir(p->service));
    struct error e = {0};

    if (auth_wait_user(path, p->user, &info, arena, &login->user, fields, &e) < 0)
        log_fatal(EXIT_FATAL, "User %s: userdb lookup: %s", p->user,
                  e.class == ERROR_NOT_FOUND ? "User not known" : e.admin);
    login->home = rpc_fields_get(fields, "home");
    login->fields = rpc_fields_texts(arena, fields);
    become(login->user, fields);
}

static void serve_here(struct program *p)
{
    struct arena *arena = arena_new();
    struct imap_login login = {.id = 1, .session = ""};

    if (p->user != NULL) {
        look_up(p, arena, &login);
    } else {
        struct passwd *pw = getpwuid(geteuid());

        login.user = getenv("USER") != NULL ? getenv("USER") : pw != NULL ? pw->pw_name : "unknown";
        login.home = getenv("HOME") != NULL ? getenv("HOME") : pw != NULL ? pw->pw_dir : NULL;
    }
    imap_worker_adopt(p->worker, STDIN_FILENO, STDOUT_FILENO, &login);
    arena_free(arena);
}

static void start_stats(struct program *p)
{
    p->stats = stats_client_new(p->service);
    if (!stats_client_inherit(p->stats) && !dispatch_is_worker())
        (void)stats_client_connect(p->stats);
}

int main(int argc, char **argv)
{
    struct program p = {0};
    const struct service_options options = {.name = "imap", .own_options = "u:", .option = take_option};
    struct error e = {0};
    int status;

    p.service = service_init(argc, argv, &options, &p);
    os_fault_from_env();
    if (!dispatch_is_worker() && !service_standalone(p.service))
        log_fatal(EXIT_FATAL, "imap processes are started by the dispatcher");
    start_stats(&p);
    if (dispatch_is_worker()) {
        service_drop_privileges(p.service, 0);
        if (os_sync_pool_start(SYNC_THREADS, &e) < 0)
            log_error_value(NULL, &e);
    }
    p.worker = imap_worker_new(service_loop(p.service), service_conf(p.service), dispatch_is_worker() ? &worker_handler : &standalone_handler, &p);
    imap_worker_set_stats(p.worker, p.stats);
    service_ready(p.service, &service_handler, &p);
    if (dispatch_is_worker())
        p.dispatch = dispatch_worker_new(p.service, &dispatch_handler, &p);
    else
        serve_here(&p);
    status = service_run(p.service);
    imap_worker_free(p.worker);
    stats_client_free(p.stats);
    if (p.dispatch != NULL)
        dispatch_worker_free(p.dispatch);
    os_sync_pool_stop();
    return status;
}
