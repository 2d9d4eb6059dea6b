/* A session from the request to its end:
 *
 *     userdb lookup -> credentials -> worker (until it is ready) -> 12 bytes -> [post-login script] -> worker has it
 *
 * What fails before the worker has it is answered here: the client gets the protocol's text first, then the login
 * process its status, so that the client does not see a bare end (ipc 7.3). */
#include "dispatch/dispatch_impl.h"

#include "rpc/anvil_client.h"

#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ATTEMPTS_MOST = 3 }; /* workers that may die before one reads the session */

static uint64_t now_usecs(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

struct session *session_new(struct dispatcher *d, int fd)
{
    struct arena *arena = arena_new();
    struct session *session = ARENA_NEW(arena, struct session);

    session->dispatcher = d;
    session->arena = arena;
    session->fd = fd;
    if (++d->last_id == 0)
        d->last_id = 1;
    session->request = (struct dispatch_request){.id = d->last_id, .service = d->protocol, .user = "", .session = "",
                                                 .created_usecs = now_usecs()};
    HASH_ADD(hh, d->sessions, request.id, sizeof(session->request.id), session);
    return session;
}

struct session *session_find(struct dispatcher *d, uint32_t id)
{
    struct session *session;

    HASH_FIND(hh, d->sessions, &id, sizeof(id), session);
    return session;
}

static void session_free(struct session *session)
{
    struct dispatcher *d = session->dispatcher;
    pid_t pid = pool_pid(session->worker);

    if (session->lookup != NULL)
        auth_lookup_cancel(session->lookup);
    if (session->postlogin != NULL)
        postlogin_cancel(session->postlogin);
    if (session->ident != NULL)
        service_anvil_disconnect(d->service, pid, session->ident);
    if (session->login != NULL)
        login_conn_forget(session);
    if (session->job != NULL)
        session->job->calls->forget(session);
    if (session->rest != NULL)
        restore_answer(session, "The session could not begin");
    pool_remove(session);
    if (session->fd >= 0)
        (void)close(session->fd);
    HASH_DEL(d->sessions, session);
    if (session->counted) {
        d->session_count--;
        service_client_end(d->service);
    }
    arena_free(session->arena);
}

/* ---- failing ---------------------------------------------------------------------------------------------------- */

/* The line for a client that waits for the answer to its login. */
static void tell_client(struct session *session)
{
    const char *protocol = session->dispatcher->protocol, *tag = session->request.tag;
    static const char text[] = "Internal error occurred. Refer to server log for more information.";
    char line[512];

    if (session->fd < 0 || session->taken)
        return;
    if (strcmp(protocol, "imap") == 0 && tag != NULL)
        (void)snprintf(line, sizeof(line), "%s NO [UNAVAILABLE] %s\r\n", tag, text);
    else if (strcmp(protocol, "pop3") == 0)
        (void)snprintf(line, sizeof(line), "-ERR [SYS/TEMP] %s\r\n", text);
    else if (strcmp(protocol, "submission") == 0)
        (void)snprintf(line, sizeof(line), "454 4.7.0 %s\r\n", text);
    else if (strcmp(protocol, "sieve") == 0)
        (void)snprintf(line, sizeof(line), "NO (TRYLATER) \"%s\"\r\n", text);
    else
        return;
    (void)send(session->fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static struct log session_log(struct session *session)
{
    const struct dispatch_request *request = &session->request;

    return (struct log){.prefix = arena_printf(session->arena, "%s(%s)<%ld><%s>: ",
                                               service_name(session->dispatcher->service), request->user,
                                               (long)getpid(), request->session)};
}

static void session_fail(struct session *session, const struct error *error)
{
    if (session->job != NULL) {
        session->job->calls->fail(session, error);
    } else if (session->rest != NULL) {
        restore_answer(session, error->admin);
    } else if (!session->answered) {
        tell_client(session);
        session->answered = true;
        login_conn_answer(session, 1, getpid());
    }
    session_free(session);
}

/* As session_fail, with a log line. */
static void session_fail_log(struct session *session, const struct error *error)
{
    struct log log = session_log(session);

    if (session->request.user[0] != '\0')
        log_error_value(&log, error);
    else
        log_error_value(NULL, error);
    session_fail(session, error);
}

/* ---- the way to a worker ---------------------------------------------------------------------------------------- */

/* Userdb fields that change a setting which decides about credentials. */
static bool overrides_credentials(const struct rpc_fields *fields)
{
    static const char *const names[] = {"mail_access_groups", "mail_privileged_group", "mail_chroot",
                                        "valid_chroot_dirs", "mail_uid", "mail_gid", NULL};

    for (size_t i = 0; names[i] != NULL; i++)
        if (rpc_fields_has(fields, names[i]))
            return true;
    return false;
}

static struct settings *session_settings(struct session *session, struct error *error)
{
    const struct dispatch_request *request = &session->request;
    char lip[NET_IP_TEXT], rip[NET_IP_TEXT];
    struct conf_filter filter = {.service = session->dispatcher->protocol};
    struct settings *set, *own;

    if (request->local.ip.family != 0)
        filter.local_ip = net_ip_text(&request->local.ip, lip);
    if (request->remote.ip.family != 0)
        filter.remote_ip = net_ip_text(&request->remote.ip, rip);
    set = conf_settings(service_conf(session->dispatcher->service), &filter, error);
    if (set == NULL || !overrides_credentials(&request->userdb))
        return set;
    own = settings_override_all(set, rpc_fields_texts(session->arena, &request->userdb), error);
    settings_unref(set);
    return own;
}

static int choose_worker(struct session *session, struct error *error)
{
    struct settings *set = session_settings(session, error);
    struct credentials credentials;
    int result;

    if (set == NULL)
        return -1;
    credentials_split_home(session->arena, set, &session->request.userdb);
    result = credentials_find(session->arena, set, session->request.user, &session->request.userdb, &credentials,
                              error);
    if (result == 0)
        credentials_add_groups(&credentials, session->dispatcher->extra_groups);
    settings_unref(set);
    return result < 0 ? -1 : pool_assign(session, &credentials, error);
}

static void count_in_anvil(struct session *session)
{
    const struct dispatch_request *request = &session->request;
    char ip[NET_IP_TEXT] = "";

    if (request->job || session->ident != NULL)
        return;
    if (request->remote.ip.family != 0)
        (void)net_ip_text(&request->remote.ip, ip);
    session->ident = anvil_ident(session->arena, session->dispatcher->protocol, ip, request->user);
    service_anvil_connect(session->dispatcher->service, pool_pid(session->worker), session->ident);
}

static int deliver(struct session *session, struct error *error)
{
    struct buffer packet = {0};
    int result;

    if (!session->request.job)
        session->request.ticket = restore_ticket(session);
    result = dispatch_request_write(&packet, &session->request, error);

    if (result == 0)
        result = pool_send(session->worker, buffer_slice(&packet), session->fd, error);
    buffer_free(&packet);
    if (result < 0)
        return -1;
    session->delivered = true;
    return 0;
}

/* The descriptor was kept for the case that the worker dies before it reads its socket. */
void session_taken(struct session *session)
{
    session->taken = true;
    if (session->fd >= 0)
        (void)close(session->fd);
    session->fd = -1;
    if (session->rest != NULL)
        restore_answer(session, NULL);
}

static bool try_another(struct session *session)
{
    struct error error;

    if (session->taken || session->attempts++ >= ATTEMPTS_MOST)
        return false;
    if (session->ident != NULL)
        service_anvil_disconnect(session->dispatcher->service, pool_pid(session->worker), session->ident);
    session->ident = NULL;
    session->delivered = false;
    pool_remove(session);
    if (choose_worker(session, &error) < 0)
        session_fail_log(session, &error);
    return true;
}

void session_worker_ready(struct session *session)
{
    const char *script = rpc_fields_get(&session->request.userdb, "postlogin");
    struct error error;

    if (session->delivered || session->postlogin != NULL)
        return;
    count_in_anvil(session);
    if (session->login != NULL && !session->answered) {
        session->answered = true;
        login_conn_answer(session, 0, pool_pid(session->worker));
    }
    if (script == NULL || script[0] == '\0')
        script = session->dispatcher->script;
    if (script != NULL && !session->scripted && !session->request.job) {
        if (postlogin_start(session, script, &error) < 0)
            session_fail_log(session, &error);
        return;
    }
    if (deliver(session, &error) == 0)
        return;
    pool_broken(session->worker);
    if (!try_another(session))
        session_fail_log(session, &error);
}

/* The script may have changed the ids: then another worker has the session. */
void session_script_done(struct session *session, const struct error *why)
{
    struct error error;
    struct log log = session_log(session);

    session->postlogin = NULL;
    session->scripted = true;
    if (why->class != ERROR_NONE) {
        log_error_value(&log, why);
        session_fail(session, why);
        return;
    }
    if (session->ident != NULL)
        service_anvil_disconnect(session->dispatcher->service, pool_pid(session->worker), session->ident);
    session->ident = NULL;
    pool_remove(session);
    if (choose_worker(session, &error) < 0)
        session_fail_log(session, &error);
}

void session_worker_died(struct session *session)
{
    struct error error;

    if (try_another(session))
        return;
    (void)error_set(&error, ERROR_TEMPORARY, "The worker process of the session has died");
    if (session->delivered && session->job == NULL)
        session_free(session);
    else
        session_fail_log(session, &error);
}

void session_ended(struct session *session)
{
    if (session->job != NULL) {
        struct error error;

        (void)error_set(&error, ERROR_TEMPORARY, "The worker process ended the job without an answer");
        session->job->calls->fail(session, &error);
    }
    session_free(session);
}

void session_answered(struct session *session, const struct slice *fields, size_t count)
{
    if (session->job != NULL)
        session->job->calls->answer(session, fields, count);
    session_free(session);
}

void session_noted(struct session *session, const struct slice *fields, size_t count)
{
    if (session->job != NULL && session->job->calls->note != NULL)
        session->job->calls->note(session, fields, count);
}

/* ---- the userdb ------------------------------------------------------------------------------------------------- */

/* The line of the original (auth 23), whose mail process tells this behind "imap(PID): ". */
static void login_lookup_failed(struct session *session, const struct error *why)
{
    struct dispatcher *d = session->dispatcher;
    uint64_t now = now_usecs();
    struct log log = {.prefix = arena_printf(session->arena, "%s(%ld): ", service_name(d->service), (long)getpid())};
    char reason[128] = "Internal auth failure";
    struct error error;

    if (why->class == ERROR_NOT_FOUND)
        (void)snprintf(reason, sizeof(reason), "Authenticated user not found from userdb, auth lookup id=%u",
                       session->request.id);
    (void)error_set(&error, why->class,
                    "auth-master: login: request [%u]: Login auth request failed: %s (auth connected %llu msecs ago, "
                    "request took %llu msecs, client-pid=%ld client-id=%u)", session->request.id, reason,
                    (unsigned long long)(now - d->auth_since_usecs) / 1000,
                    (unsigned long long)(now - session->request.created_usecs) / 1000,
                    (long)session->request.login_pid, session->auth_id);
    log_error_value(&log, &error);
    session_fail(session, &error);
}

static void found(void *arg, const struct error *why, const char *user, const struct rpc_fields *fields)
{
    struct session *session = arg;
    struct error error = *why;

    session->lookup = NULL;
    if (error.class != ERROR_NONE && !session->request.job && session->rest == NULL) {
        login_lookup_failed(session, &error);
        return;
    }
    if (error.class != ERROR_NONE && session->job != NULL && session->job->calls->unknown != NULL) {
        session->job->calls->unknown(session, &error);
        session_fail(session, &error);
        return;
    }
    if (error.class != ERROR_NONE) {
        session_fail_log(session, &error);
        return;
    }
    session->request.user = arena_strdup(session->arena, user);
    session->request.userdb = rpc_fields_copy(session->arena, fields);
    session_take_token(session);
    if (choose_worker(session, &error) < 0)
        session_fail_log(session, &error);
}

static void count_session(struct session *session)
{
    session->counted = true;
    session->dispatcher->session_count++;
    service_client_begin(session->dispatcher->service);
}

void session_start_login(struct session *session, const struct login_request *request)
{
    count_session(session);
    session->auth_id = request->auth_id;
    if (session->dispatcher->auth_since_usecs == 0)
        session->dispatcher->auth_since_usecs = now_usecs();
    session->lookup = auth_master_login(session->dispatcher->auth, request->client_pid, request->auth_id,
                                        request->cookie, getpid(), strcmp(session->dispatcher->protocol, "imap") == 0, found, session);
}

void session_start_job(struct session *session)
{
    const struct dispatch_request *request = &session->request;
    struct auth_user_info info = {.service = session->dispatcher->protocol, .local = request->local,
                                  .remote = request->remote, .real_local = request->real_local,
                                  .real_remote = request->real_remote,
                                  .session = request->session[0] == '\0' ? NULL : request->session};

    count_session(session);
    session->lookup = auth_master_user(session->dispatcher->auth, request->user, &info, found, session);
}

void session_start_rested(struct session *session, bool believed)
{
    struct auth_user_info info = {.service = session->dispatcher->protocol, .local = session->request.local,
                                  .remote = session->request.remote, .session = session->request.session};
    struct error error;

    count_session(session);
    session->answered = session->scripted = true;
    if (!believed)
        session->lookup = auth_master_user(session->dispatcher->auth, session->request.user, &info, found, session);
    else if (choose_worker(session, &error) < 0)
        session_fail_log(session, &error);
}
