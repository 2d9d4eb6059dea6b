/* libexec/quota-status: Postfix asks at RCPT whether the recipient has room (check_policy_service; ipc 18).
 *
 *     request=smtpd_access_policy / protocol_state=RCPT / recipient=u@example / size=5000 / (empty line)
 *     -> action=OK, action=554 5.2.2 Quota exceeded ..., and an empty line
 *
 * A delivery worker, which runs as the recipient, is asked (lmtp_job.h); this process never reads mail and keeps root's rights
 * only until it has connected. One request of a connection at a time; a size counts for its own request alone. */
#include "lmtp/lmtp_job.h"
#include "rpc/dispatch.h"
#include "rpc/service.h"
#include "smtp/smtp.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_MOST = 4096, EXIT_USAGE = 64 };

struct server {
    struct service *service;
    struct settings *set;
    struct dispatch_client *dispatch;
    const char *protocol;          /* -p */
};

struct query;

struct peer {
    struct server *server;
    struct line_conn *line;
    struct query *query;           /* a worker is asked; NULL = none */
    char *recipient, *state;       /* of the request that is read; NULL = not said */
    uint64_t size;
    bool warned;
};

struct query {
    struct peer *peer;             /* NULL: gone meanwhile */
};

static void forget(struct peer *peer)
{
    mem_free(peer->recipient);
    mem_free(peer->state);
    peer->recipient = peer->state = NULL;
    peer->size = 0;
}

static void answer(struct peer *peer, const char *action)
{
    line_conn_print(peer->line, "action=%s\n\n", action);
}

static const char *configured(const struct server *s, const char *key, const char *otherwise)
{
    const char *value = conf_plugin(s->set, key);

    return value == NULL || *value == '\0' ? otherwise : value;
}

/* The action for what the worker has said. */
static const char *action_of(struct arena *arena, const struct slice *fields, size_t count)
{
    if (count < 3 || slice_equal_str(fields[0], LMTP_ROOM_FAILED))
        return arena_printf(arena, "DEFER_IF_PERMIT %s", count < 2 ? "Temporary internal error" : arena_str(arena, fields[1]));
    if (fields[2].size > 0)
        return arena_str(arena, fields[2]);
    if (slice_equal_str(fields[0], LMTP_ROOM_FITS))
        return "OK";
    return arena_printf(arena, "554 5.2.2 %s", arena_str(arena, fields[1]));
}

static void room_known(void *arg, const struct error *e, const struct slice *fields, size_t count)
{
    struct query *query = arg;
    struct peer *peer = query->peer;
    struct arena *arena;

    mem_free(query);
    if (peer == NULL)
        return;
    peer->query = NULL;
    arena = arena_new();
    if (e->class == ERROR_NOT_FOUND) {
        answer(peer, configured(peer->server, "quota_status_nouser", "REJECT Unknown user"));
    } else {
        if (e->class != ERROR_NONE)
            log_error(NULL, "Failed to ask for a quota: %s", e->admin);
        answer(peer, action_of(arena, fields, e->class != ERROR_NONE ? 0 : count));
    }
    arena_free(arena);
    line_conn_want_input(peer->line, true);
}

static void ask(struct peer *peer, const char *user, const char *path)
{
    struct server *s = peer->server;
    struct lmtp_job_rcpt line = {.user = user, .session = "", .path = path, .detail = ""};
    struct dispatch_request request = {.job = true, .service = "lmtp", .user = user, .session = ""};
    struct buffer bytes = {0};
    struct error e;

    peer->query = mem_zero(1, sizeof(*peer->query));
    peer->query->peer = peer;
    line_conn_want_input(peer->line, false);
    lmtp_job_room(&bytes, "quota-status", peer->size == 0 ? 1 : peer->size);
    lmtp_job_add(&bytes, &line);
    request.input = buffer_slice(&bytes);
    if (dispatch_client_job(s->dispatch, &request, -1, room_known, peer->query, &e) < 0)
        room_known(peer->query, &e, NULL, 0);
    buffer_free(&bytes);
}

/* Without detail, as LMTP takes it. NULL: no address. */
static const char *user_of(const struct server *s, struct arena *arena, const char *recipient, const char **text)
{
    const char *delimiters = conf_str(s->set, SET_recipient_delimiter), *why;
    struct smtp_path path;
    struct slice rest;

    why = smtp_path_parse(slice_from_str(recipient), SMTP_PATH_NO_BRACKETS, arena, &path, &rest);
    if (why == NULL && path.local.size == 0)
        why = "Path is empty string";
    if (why != NULL) {
        log_error(NULL, "Client sent invalid recipient address `%s': %s", recipient, why);
        return NULL;
    }
    *text = smtp_path_text(arena, &path);
    for (size_t i = 0; i < path.local.size; i++)
        if (path.local.at[i] != 0 && strchr(delimiters, path.local.at[i]) != NULL) {
            path.local = slice_head(path.local, i);
            break;
        }
    return smtp_path_user(arena, &path);
}

static void end_request(struct peer *peer)
{
    struct arena *arena = arena_new();
    const char *user = NULL, *path = NULL;

    if (peer->state != NULL && strcmp(peer->state, "RCPT") != 0) {
        if (!peer->warned)
            log_warning(NULL, "Received policy query from MTA in unexpected state %s (service can only be used for recipient restrictions)",
                        peer->state);
        peer->warned = true;
    } else if (peer->recipient != NULL) {
        user = user_of(peer->server, arena, peer->recipient, &path);
    }
    if (user == NULL)
        answer(peer, "DUNNO");
    else
        ask(peer, user, path);
    forget(peer);
    arena_free(arena);
}

/* The first recipient and the last size count. */
static void take_line(void *arg, struct slice line)
{
    struct peer *peer = arg;
    ptrdiff_t at = slice_find(line, '=');
    struct slice key, value;

    if (line.size == 0) {
        end_request(peer);
        return;
    }
    if (at < 0)
        return;
    key = slice_head(line, (size_t)at);
    value = slice_from(line, (size_t)at + 1);
    if (slice_equal_str(key, "recipient") && peer->recipient == NULL)
        peer->recipient = mem_printf("%.*s", (int)value.size, (const char *)value.at);
    else if (slice_equal_str(key, "protocol_state") && peer->state == NULL)
        peer->state = mem_printf("%.*s", (int)value.size, (const char *)value.at);
    else if (slice_equal_str(key, "size") && !slice_to_u64(value, &peer->size))
        peer->size = 0;
}

static void take_close(void *arg, const struct error *e)
{
    struct peer *peer = arg;
    struct service *service = peer->server->service;

    if (e->class != ERROR_NONE)
        log_error_value(NULL, e);
    if (peer->query != NULL)
        peer->query->peer = NULL;
    forget(peer);
    line_conn_free(peer->line);
    mem_free(peer);
    service_client_end(service);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = LINE_MOST};
    struct peer *peer = mem_zero(1, sizeof(*peer));

    (void)listener;
    peer->server = arg;
    peer->line = line_conn_new(service_loop(peer->server->service), fd, &limits, &handler, peer);
}

static bool take_option(void *arg, int letter, const char *value)
{
    struct server *s = arg;

    if (letter == 'p')
        s->protocol = value;
    return letter == 'p';
}

/* An assigned `user =` is obeyed before; root becomes the internal user. */
static void become_internal_user(const struct server *s)
{
    const char *name = conf_str(s->set, SET_default_internal_user);
    struct passwd *pw;

    if (geteuid() != 0)
        return;
    pw = getpwnam(name);
    if (pw == NULL)
        log_fatal(89, "User doesn't exist: %s (default_internal_user setting)", name);
    if (pw->pw_uid != 0 && (setgid(pw->pw_gid) < 0 || initgroups(name, pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0))
        log_fatal(89, "Can't become user %s: %m", name);
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "quota-status", .own_options = "p:", .option = take_option};
    static const struct service_handler handler = {.connected = connected};
    const struct conf_filter filter = {.service = "quota-status"};
    struct server s = {0};
    struct error e;
    int status;

    s.service = service_init(argc, argv, &options, &s);
    if (s.protocol == NULL)
        log_fatal(EXIT_USAGE, "Missing -p parameter");
    if (strcmp(s.protocol, "postfix") != 0)
        log_fatal(EXIT_USAGE, "Unknown -p parameter: %s", s.protocol);
    s.set = conf_settings(service_conf(s.service), &filter, &e);
    if (s.set == NULL)
        log_fatal(89, "%s", e.admin);
    s.dispatch = dispatch_client_new(service_loop(s.service), "dispatch-lmtp", &e);
    if (s.dispatch == NULL)
        log_fatal(89, "%s", e.admin);
    service_drop_privileges(s.service, 0);
    become_internal_user(&s);
    service_ready(s.service, &handler, &s);
    status = service_run(s.service);
    dispatch_client_free(s.dispatch);
    settings_unref(s.set);
    return status;
}
