/* cmd_auth.c - auth test, auth login, auth lookup, auth cache flush: questions to the auth service (doveadm 7.1). */
#include "cmd_auth.h"
#include "print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

void doveadm_auth_error(const char *user, const char *what, const struct error *e)
{
    static const char said[] = "auth-master: ";
    const char *reason = strncmp(e->admin, said, sizeof(said) - 1) == 0 ? e->admin + sizeof(said) - 1 : e->admin;

    if (user != NULL)
        fprintf(stderr, "doveadm(%s)<%d><>: Error: auth-master: %s(%s): %s\n", user, (int)getpid(), what, user, reason);
    else
        log_error(NULL, "auth-master: %s: %s", what, reason);
}

/* -x key=value. Unknown keys go along where the protocol takes them; bad addresses are fatal. */
void doveadm_auth_info(struct doveadm *d, struct auth_user_info *info, struct rpc_fields *extra)
{
    static const char *const ips[] = {"lip", "rip", "real_lip", "real_rip"};
    static const char *const ports[] = {"lport", "rport", "real_lport", "real_rport"};
    struct net_endpoint *ends[] = {&info->local, &info->remote, &info->real_local, &info->real_remote};
    size_t n, i, j;
    const char *const *list = doveadm_list(d, "auth-info", &n);
    uint32_t port;

    extra->at = ARENA_ARRAY(d->arena, struct rpc_field, n);
    extra->count = 0;
    for (i = 0; i < n; i++) {
        const char *eq = strchr(list[i], '=');
        const char *key = eq == NULL ? list[i] : arena_str(d->arena, slice_of(list[i], (size_t)(eq - list[i])));
        const char *value = eq == NULL ? "" : eq + 1;
        for (j = 0; j < 4; j++) {
            if (strcmp(key, ips[j]) == 0 && !net_ip_parse(slice_from_str(value), &ends[j]->ip))
                doveadm_fatal(DOVEADM_USAGE, "%s: Invalid ip", key);
            if (strcmp(key, ports[j]) == 0) {
                if (!slice_to_u32(slice_from_str(value), &port) || port > 65535)
                    doveadm_fatal(DOVEADM_USAGE, "%s: Invalid port number", key);
                ends[j]->port = (uint16_t)port;
            }
            if (strcmp(key, ips[j]) == 0 || strcmp(key, ports[j]) == 0)
                break;
        }
        if (j < 4)
            continue;
        if (strcmp(key, "service") == 0)
            info->service = value;
        else if (strcmp(key, "session") == 0)
            info->session = value;
        else if (strcmp(key, "local_name") == 0)
            info->local_name = value;
        else if (strcmp(key, "debug") == 0)
            info->debug = true;
        else
            extra->at[extra->count++] = (struct rpc_field){key, eq == NULL ? NULL : value};
    }
    info->extra = extra;
}

static const char *ask_password(struct doveadm *d)
{
    struct termios old, quiet;
    bool terminal = tcgetattr(STDIN_FILENO, &old) == 0;
    char line[1024];

    if (terminal) {
        quiet = old;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
        fputs("Password: ", stderr);
    }
    if (fgets(line, sizeof(line), stdin) == NULL)
        line[0] = '\0';
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    line[strcspn(line, "\r\n")] = '\0';
    return arena_strdup(d->arena, line);
}

/* An empty field is shown, too. */
static void print_fields(const struct rpc_fields *fields)
{
    for (size_t i = 0; i <= fields->count; i++) {
        if (fields->empty == i + 1)
            printf("  \n");
        if (i < fields->count)
            printf("  %s%s%s\n", fields->at[i].key, fields->at[i].value == NULL ? "" : "=",
                   fields->at[i].value == NULL ? "" : fields->at[i].value);
    }
}

static struct auth_request_info request_info(const struct auth_user_info *info)
{
    return (struct auth_request_info){
        .service = info->service,
        .session = info->session,
        .local_name = info->local_name,
        .local = info->local,
        .remote = info->remote,
        .real_local = info->real_local,
        .real_remote = info->real_remote,
        .secured = AUTH_SECURED,
        .debug = info->debug,
    };
}

static int test(struct doveadm *d, const char *socket)
{
    const char *user = doveadm_text(d, "user"), *password = doveadm_text(d, "password");
    struct auth_user_info info = {.service = "doveadm"};
    struct rpc_fields extra, fields = {NULL, 0};
    struct auth_request_info request;
    struct error e;
    int r;

    if (user == NULL)
        return doveadm_usage(d);
    doveadm_auth_info(d, &info, &extra);
    if (password == NULL)
        password = ask_password(d);
    request = request_info(&info);
    r = auth_wait_plain(socket, &request, doveadm_text(d, "master-user"), user, password, d->arena, &fields, &e);
    if (r < 0 && e.class != ERROR_PERMISSION) {
        log_error(NULL, "auth-client: conn unix:%s: %s", socket, e.admin);
        return DOVEADM_NOPERM;
    }
    printf("passdb: %s auth %s\n", user, r == 0 ? "succeeded" : "failed");
    if (fields.count > 0) {
        printf("extra fields:\n");
        print_fields(&fields);
    }
    return r == 0 ? DOVEADM_OK : DOVEADM_NOPERM;
}

int doveadm_auth_test(struct doveadm *d)
{
    const char *socket = doveadm_text(d, "socket-path");

    return test(d, socket != NULL ? socket : doveadm_socket(d, "auth-client"));
}

void doveadm_auth_print(const char *kind, const char *asked, const char *found, const struct rpc_fields *fields)
{
    printf("%s: %s\n  %-10s: %s\n", kind, asked, "user", found);
    for (size_t i = 0; i <= fields->count; i++) {
        if (fields->empty == i + 1)
            printf("  %-10s\n", "");
        if (i == fields->count || (strcmp(kind, "passdb") == 0 && strcmp(fields->at[i].key, "user") == 0))
            continue;
        if (fields->at[i].value == NULL)
            printf("  %-10s\n", fields->at[i].key);
        else
            printf("  %-10s: %s\n", fields->at[i].key, fields->at[i].value);
    }
}

int doveadm_auth_lookup(struct doveadm *d)
{
    const char *socket = doveadm_text(d, "socket-path"), *field = doveadm_text(d, "field");
    struct auth_user_info info = {.service = "doveadm"};
    struct rpc_fields extra;
    size_t n;
    const char *const *users = doveadm_list(d, "user", &n);
    int status = DOVEADM_OK;

    if (n == 0)
        return doveadm_usage(d);
    doveadm_auth_info(d, &info, &extra);
    if (socket == NULL)
        socket = doveadm_socket(d, "auth-userdb");
    for (size_t i = 0; i < n; i++) {
        struct rpc_fields fields;
        const char *found;
        struct error e;
        if (i > 0)
            putchar('\n');
        if (auth_wait_pass(socket, users[i], &info, d->arena, &found, &fields, &e) < 0) {
            if (e.class == ERROR_NOT_FOUND && e.sys == 0) {
                printf("passdb lookup: user %s doesn't exist\n", users[i]);
                doveadm_status_add(&status, DOVEADM_NOUSER);
            } else {
                doveadm_auth_error(NULL, arena_printf(d->arena, "passdb lookup(%s)", users[i]), &e);
                log_error(NULL, "passdb lookup failed for %s", users[i]);
                doveadm_status_add(&status, DOVEADM_TEMPFAIL);
            }
            continue;
        }
        if (field != NULL) {
            const char *value = strcmp(field, "user") == 0 ? found : rpc_fields_get(&fields, field);
            if (value != NULL)
                printf("%s\n", value);
            continue;
        }
        doveadm_auth_print("passdb", users[i], found, &fields);
    }
    return status;
}

int doveadm_auth_cache_flush(struct doveadm *d)
{
    const char *socket = doveadm_text(d, "socket-path");
    size_t n;
    const char *const *users = doveadm_list(d, "user", &n);
    unsigned removed = 0;
    struct error e;

    if (socket == NULL)
        socket = doveadm_socket(d, "auth-master");
    if (auth_wait_cache_flush(socket, users, n, &removed, &e) < 0)
        doveadm_auth_error(NULL, "auth cache flush", &e);
    print_init(d, "formatted");
    print_template(d, "%{entries} cache entries flushed\n");
    print_header_simple(d, "entries");
    print_number(d, removed);
    return DOVEADM_OK;
}

/* ---- auth login: as a login process and the mail process behind it ------------------------------------------------------ */

struct login {
    struct doveadm *d;
    struct ev_loop *loop;
    struct auth_client *client;
    struct auth_request_info request;
    const char *user;
    uint32_t request_id;
    int status;
    struct auth_master *master;
};

static const char *login_socket(struct doveadm *d)
{
    const char *socket = doveadm_text(d, "auth-login-socket-path");

    return socket != NULL ? socket : doveadm_socket(d, "auth-login");
}

static void login_found(void *arg, const struct error *e, const char *user, const struct rpc_fields *fields)
{
    struct login *l = arg;

    if (e->class != ERROR_NONE) {
        log_error(NULL, "userdb lookup failed: %s", e->admin);
        l->status = DOVEADM_NOPERM;
    } else {
        printf("userdb extra fields:\n  %s\n", user);
        print_fields(fields);
        l->status = DOVEADM_OK;
    }
    ev_break(l->loop, EVBREAK_ALL);
}

static void login_answer(void *arg, enum auth_answer answer, struct slice challenge, const struct rpc_fields *fields)
{
    struct login *l = arg;

    (void)challenge;
    printf("passdb: %s auth %s\n", l->user, answer == AUTH_OK ? "succeeded" : "failed");
    if (fields != NULL && fields->count > 0) {
        printf("extra fields:\n");
        print_fields(fields);
    }
    if (answer != AUTH_OK) {
        ev_break(l->loop, EVBREAK_ALL);
        return;
    }
    auth_master_login(l->master, auth_client_cpid(l->client), l->request_id, auth_client_cookie(l->client), getpid(),
                      false, login_found, l);
}

static void login_ready(void *arg)
{
    struct login *l = arg;
    struct error e;
    struct auth_request *request = auth_request_start(l->client, &l->request, login_answer, l, &e);

    if (request != NULL) {
        l->request_id = auth_request_id(request);
        return;
    }
    log_error(NULL, "auth-client: %s", e.admin);
    ev_break(l->loop, EVBREAK_ALL);
}

static void login_lost(void *arg, const struct error *e)
{
    struct login *l = arg;

    log_error(NULL, "auth-client: conn unix:%s: %s", login_socket(l->d), e->admin);
    ev_break(l->loop, EVBREAK_ALL);
}

/* PLAIN: authorization identity (with a master user), NUL, authentication identity, NUL, password (RFC 4616). */
static struct slice plain_response(struct doveadm *d, const char *user, const char *password)
{
    const char *master = doveadm_text(d, "master-user");
    struct buffer raw = {0}, coded = {0};
    struct slice out;

    buffer_printf(&raw, "%s", master != NULL ? user : "");
    buffer_append_byte(&raw, '\0');
    buffer_append_str(&raw, master != NULL ? master : user);
    buffer_append_byte(&raw, '\0');
    buffer_append_str(&raw, password);
    text_base64_encode(&coded, buffer_slice(&raw));
    out = slice_from_str(arena_str(d->arena, buffer_slice(&coded)));
    buffer_wipe(&raw);
    buffer_wipe(&coded);
    return out;
}

int doveadm_auth_login(struct doveadm *d)
{
    static const struct auth_client_handler handler = {.ready = login_ready, .lost = login_lost};
    struct auth_user_info info = {.service = "doveadm"};
    struct login l = {.d = d, .user = doveadm_text(d, "user"), .status = DOVEADM_NOPERM};
    const char *password = doveadm_text(d, "password"), *master = doveadm_text(d, "auth-master-socket-path");
    struct rpc_fields extra;

    if (l.user == NULL)
        return doveadm_usage(d);
    doveadm_auth_info(d, &info, &extra);
    if (password == NULL)
        password = ask_password(d);
    l.request = request_info(&info);
    l.request.mech = "PLAIN";
    l.request.has_initial = true;
    l.request.initial = plain_response(d, l.user, password);
    l.loop = ev_loop_new(EVFLAG_AUTO);
    l.master = auth_master_new(l.loop, master != NULL ? master : doveadm_socket(d, "auth-master"), -1);
    l.client = auth_client_new(l.loop, login_socket(d), -1, (unsigned)getpid(), &handler, &l);
    ev_run(l.loop, 0);
    auth_client_free(l.client);
    auth_master_free(l.master);
    ev_loop_destroy(l.loop);
    return l.status;
}
