/* login_client.c - the life of a connection before login: PROXY header, TLS, greeting, commands, end. */
#include "login/login_impl.h"

#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

enum { RELAY_INPUT_MAX = 32 * 1024 }; /* read at once of a client that has logged in */

static void greet(struct login_client *c);

/* ---- facts --------------------------------------------------------------------------------------------------- */

void *login_state(struct login_client *c)
{
    return c->state;
}

void login_set_state(struct login_client *c, void *state)
{
    c->state = state;
}

const struct settings *login_settings(const struct login_client *c)
{
    return c->set;
}

struct stream *login_stream(struct login_client *c)
{
    return c->stream;
}

bool login_tls_active(const struct login_client *c)
{
    return c->tls;
}

bool login_tls_by_command(const struct login_client *c)
{
    return c->tls && !c->tls_implicit;
}

bool login_tls_offered(const struct login_client *c)
{
    return !c->tls && strcmp(conf_str(c->set, SET_ssl), "no") != 0;
}

bool login_secured(const struct login_client *c)
{
    return c->secured || c->tls;
}

bool login_peer_is(const struct login_client *c, pid_t pid)
{
    pid_t peer;
    uid_t uid;

    return net_peer_credentials(stream_fd(c->stream), &peer, &uid) == 0 && peer == pid;
}

bool login_trusted(const struct login_client *c)
{
    return c->trusted;
}

bool login_plaintext_refused(const struct login_client *c)
{
    return !login_secured(c) && (conf_bool(c->set, SET_disable_plaintext_auth) ||
                                 strcmp(conf_str(c->set, SET_ssl), "required") == 0);
}

bool login_busy(const struct login_client *c)
{
    return c->stage != STAGE_COMMAND && c->stage != STAGE_RESPONSE;
}

void login_each_mech(struct login_client *c, void (*each)(void *, const char *name), void *arg)
{
    size_t n;
    const struct auth_mech_info *mechs = auth_client_mechs(c->server->auth, &n);
    bool plaintext = !login_plaintext_refused(c);

    for (size_t i = 0; i < n; i++)
        if ((mechs[i].flags & AUTH_MECH_PRIVATE) == 0 && ((mechs[i].flags & AUTH_MECH_PLAINTEXT) == 0 || plaintext))
            each(arg, mechs[i].name);
}

bool login_has_mech(struct login_client *c, const char *name)
{
    return auth_client_mech(c->server->auth, slice_from_str(name)) != NULL;
}

/* Session id (auth 24): 6 bytes of time, 2 of port, the address; base64 without padding. */
static void make_session(struct login_client *c)
{
    struct timeval now;
    struct buffer raw = {0}, text = {0};
    unsigned char head[8];
    uint64_t usecs;

    gettimeofday(&now, NULL);
    usecs = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_usec;
    bytes_put_le64(head, usecs);
    bytes_put_le16(head + 6, c->remote.port);
    buffer_append(&raw, head, sizeof(head));
    buffer_append(&raw, c->remote.ip.bytes, c->remote.ip.family == AF_INET6 ? 16 : 4);
    text_base64_encode(&text, buffer_slice(&raw));
    while (text.size > 0 && text.at[text.size - 1] == '=')
        text.size--;
    snprintf(c->session, sizeof(c->session), "%s", buffer_cstr(&text));
    buffer_free(&raw);
    buffer_free(&text);
}

void login_client_settings(struct login_client *c)
{
    struct login_server *s = c->server;
    char lip[NET_IP_TEXT], rip[NET_IP_TEXT];
    struct conf_filter filter = {
        .service = s->protocol->name,
        .local_name = c->local_name,
        .local_ip = net_ip_text(&c->local.ip, lip),
        .remote_ip = net_ip_text(&c->remote.ip, rip),
    };
    struct settings *set;
    struct error e;

    set = conf_settings(service_conf(s->service), &filter, &e);
    if (set == NULL) {
        log_error_value(NULL, &e);
        set = settings_ref(s->global);
    }
    settings_unref(c->set);
    c->set = set;
    c->trusted = net_ip_in(&c->real_remote.ip, conf_str(set, SET_login_trusted_networks));
    c->secured = c->tls || c->tls_proxied || c->trusted || c->real_remote.ip.family == 0 ||
                 net_ip_equal(&c->real_remote.ip, &c->real_local.ip);
}

/* What ps shows of the process (verbose_proctitle). */
static void show_title(const struct login_server *s)
{
    const struct login_client *c = s->clients;
    char text[128], ip[NET_IP_TEXT];

    if (!service_titled())
        return;
    if (s->client_count == 0)
        text[0] = '\0';
    else if (s->client_count == 1)
        (void)snprintf(text, sizeof(text), "%s%s%s", c->remote.ip.family == 0 ? "" : net_ip_text(&c->remote.ip, ip),
                       c->remote.ip.family == 0 ? "" : " ", c->relayed ? "TLS proxy" : "pre-login");
    else if (s->relay_count == 0)
        (void)snprintf(text, sizeof(text), "%u pre-login", s->client_count);
    else
        (void)snprintf(text, sizeof(text), "%u pre-login + %u TLS proxies", s->client_count - s->relay_count, s->relay_count);
    service_title(text);
}

/* ---- end ------------------------------------------------------------------------------------------------------ */

void login_client_free(struct login_client *c)
{
    struct login_server *s = c->server;

    login_auth_stop(c);
    login_handover_cancel(c);
    if (c->state != NULL)
        s->protocol->close(c);
    if (c->relay != NULL)
        stream_relay_stop(c->relay); /* frees the stream too */
    else
        stream_free(c->stream);
    if (c->relay_fd >= 0)
        close(c->relay_fd);
    DL_DELETE(s->clients, c);
    s->client_count--;
    if (c->relayed)
        s->relay_count--;
    show_title(s);
    settings_unref(c->set);
    buffer_wipe(&c->forward_fields);
    mem_free(c->local_name);
    mem_free(c->client_id);
    mem_free(c->cert_username);
    mem_free(c->tls_error);
    mem_free(c->mech);
    mem_free(c->user);
    mem_free(c->auth_user);
    mem_free(c);
    service_client_end(s->service);
}

void login_disconnect(struct login_client *c, const char *reason)
{
    if (c->stage == STAGE_END)
        return;
    login_log_reason(c, reason);
    login_auth_stop(c);
    c->stage = STAGE_END;
    stream_finish(c->stream, 5);
}

void login_client_kick(struct login_client *c, const char *text, const char *reason)
{
    if (c->stage == STAGE_END || c->stage == STAGE_RELAY)
        return;
    if (text != NULL && c->stage != STAGE_PROXY && c->stage != STAGE_TLS)
        c->server->protocol->bye(c, text);
    login_disconnect(c, reason);
}

bool login_bad_command(struct login_client *c)
{
    return ++c->bad_commands >= LOGIN_MAX_BAD_COMMANDS;
}

/* ---- stream events -------------------------------------------------------------------------------------------- */

static void after_proxy(struct login_client *c);

static void close_unwelcome(struct login_client *c)
{
    c->stage = STAGE_END;
    stream_finish(c->stream, 0.1);
}

static void read_proxy_header(struct login_client *c)
{
    struct haproxy_header header;

    switch (haproxy_read(c->stream, &c->real_remote.ip, &header)) {
    case STEP_INPUT:
        return;
    case STEP_DONE:
        break;
    default:
        close_unwelcome(c);
        return;
    }
    if (!header.local) {
        c->remote = header.source;
        c->local = header.destination;
    }
    c->tls_proxied = header.tls;
    if (header.authority[0] != '\0')
        c->local_name = mem_strdup(header.authority);
    if (header.cert_name[0] != '\0' && header.tls_verified) {
        c->cert_valid = true;
        c->cert_username = mem_strdup(header.cert_name);
    }
    after_proxy(c);
}

static void readable(void *arg)
{
    struct login_client *c = arg;

    if (c->stage == STAGE_PROXY)
        read_proxy_header(c);
    else if (c->stage == STAGE_COMMAND || c->stage == STAGE_RESPONSE) {
        stream_deadline(c->stream, LOGIN_TIMEOUT_SECS);
        c->server->protocol->input(c);
    }
}

/* What the TLS layer says stands twice in the line, as in the real server's. */
static const char *handshake_failed(struct login_client *c, struct arena *a, const struct error *e)
{
    bool plain = e->class == ERROR_NONE || strcmp(e->admin, "Connection closed") == 0;

    mem_free(c->tls_error);
    c->tls_error = plain ? mem_strdup("Connection closed") : mem_printf("SSL_accept() failed: %s", e->admin);
    return plain ? "Connection closed" : arena_printf(a, "Connection closed: %s", c->tls_error);
}

static void closed(void *arg, const struct error *e)
{
    struct login_client *c = arg;
    struct arena *a = arena_new();
    const char *reason = "Connection closed";

    if (c->stage != STAGE_END && c->stage != STAGE_RELAY) {
        if (c->stage == STAGE_TLS)
            reason = handshake_failed(c, a, e);
        else if (e->class != ERROR_NONE && e->sys != 0)
            reason = arena_printf(a, "Connection closed: %s", e->admin);
        login_log_reason(c, reason);
    }
    arena_free(a);
    login_client_free(c);
}

static void deadline(void *arg)
{
    struct login_client *c = arg;
    char ip[NET_IP_TEXT];

    switch (c->stage) {
    case STAGE_PROXY:
        log_error(NULL, "haproxy: Client timed out (rip=%s)", net_ip_text(&c->real_remote.ip, ip));
        close_unwelcome(c);
        break;
    case STAGE_RESPONSE:
    case STAGE_AUTH:
        login_client_kick(c, "Disconnected for inactivity during authentication.", "Inactivity during authentication");
        break;
    case STAGE_LIMIT:
    case STAGE_HANDOVER:
        login_client_kick(c, "Timeout while finishing login.", "Timeout while finishing login");
        break;
    default:
        login_client_kick(c, "Disconnected for inactivity.", "Inactivity");
        break;
    }
}

static const struct stream_handler handler = {readable, NULL, closed, deadline};

/* ---- TLS ------------------------------------------------------------------------------------------------------- */

static struct tls_context *choose_context(void *arg, const char *name)
{
    struct login_client *c = arg;
    struct error e;

    if (c->local_name == NULL) /* a PROXY header's word counts more */
        c->local_name = mem_strdup(name);
    if (!conf_uses_local_name(service_conf(c->server->service), c->server->protocol->name))
        return NULL;
    login_client_settings(c);
    return tls_cache_get(c->server->tls, c->set, &e);
}

static void tls_done(void *arg, const struct error *e)
{
    struct login_client *c = arg;
    struct tls_session_info info;

    if (e->class != ERROR_NONE)
        return; /* `closed` follows */
    c->tls = true;
    if (stream_tls_info(c->stream, &info) && info.client_certificate_valid) {
        c->cert_valid = true;
        mem_free(c->cert_username);
        c->cert_username = mem_strdup(info.client_certificate_name);
    }
    login_client_settings(c);
    if (!c->greeted)
        greet(c);
    else {
        c->server->protocol->starttls_done(c);
        c->stage = STAGE_COMMAND;
        stream_deadline(c->stream, LOGIN_TIMEOUT_SECS);
    }
}

static void start_tls(struct login_client *c)
{
    struct error e;
    struct tls_context *context = tls_cache_get(c->server->tls, c->set, &e);

    c->stage = STAGE_TLS;
    if (context == NULL) {
        struct arena *a = arena_new();
        c->stage = STAGE_COMMAND;
        login_log_line(c, LOG_LEVEL_ERROR, arena_printf(a, "Failed to initialize SSL server context: %s", e.admin));
        arena_free(a);
        login_client_kick(c, c->greeted ? "TLS initialization failed." : NULL, "TLS initialization failed.");
        return;
    }
    if (c->listener->haproxy && !c->greeted)
        stream_start_tls_behind_proxy(c->stream, context, tls_done);
    else
        stream_start_tls(c->stream, context, tls_done);
    stream_choose_tls(c->stream, choose_context);
}

void login_starttls(struct login_client *c)
{
    c->bad_commands = 0;
    start_tls(c);
}

/* ---- the way in ------------------------------------------------------------------------------------------------ */

static void greet(struct login_client *c)
{
    if (!auth_client_ready(c->server->auth)) {
        c->stage = STAGE_GREETING;
        stream_want_input(c->stream, false);
        return;
    }
    if (c->state == NULL)
        c->server->protocol->open(c);
    c->greeted = true;
    c->stage = STAGE_COMMAND;
    c->server->protocol->greet(c);
    login_client_resume(c);
}

void login_client_auth_ready(struct login_client *c)
{
    if (c->stage == STAGE_GREETING)
        greet(c);
    else if (c->stage == STAGE_AUTH && c->auth == NULL)
        login_auth_connected(c);
}

void login_client_auth_lost(struct login_client *c)
{
    if (c->stage == STAGE_AUTH && c->auth == NULL)
        login_auth_unreachable(c);
}

static void relay_done(void *arg, bool client_ended)
{
    struct login_client *c = arg;

    (void)client_ended;
    c->relay = NULL;
    c->stream = NULL; /* the relay has freed both */
    login_client_free(c);
}

/* The mail process has given the client back: it is as if it had just connected, but for TLS, and for what is known of its address.
 * Nothing of the user who was logged in stays here. */
static void forget_user(struct login_client *c)
{
    login_auth_stop(c);
    mem_free(c->mech);
    mem_free(c->user);
    mem_free(c->auth_user);
    c->mech = c->user = c->auth_user = NULL;
    buffer_wipe(&c->forward_fields);
    c->attempts = c->successes = c->bad_commands = 0;
    c->auth_id = 0;
    c->attempt_open = c->attempt_aborted = c->auth_broke = c->handover_failed = false;
    c->mail_pid = 0;
    c->connected_at = ev_now(c->server->loop);
}

static void relay_returned(void *arg, struct slice rest)
{
    struct login_client *c = arg;

    c->relay = NULL;
    c->relayed = false;
    c->server->relay_count--;
    stream_set_handler(c->stream, &handler, c);
    stream_input_max(c->stream, LOGIN_INPUT_MAX);
    forget_user(c);
    make_session(c);
    show_title(c->server);
    login_client_settings(c);
    c->stage = STAGE_COMMAND;
    if (c->server->ending) { /* this process has no services behind it for another login */
        login_client_kick(c, "Disconnected: Shutting down", "Shutting down");
        return;
    }
    c->server->protocol->returned(c);
    stream_unread(c->stream, rest);
    login_client_resume(c);
}

void login_client_resume(struct login_client *c)
{
    if (c->stage == STAGE_RELAY) {
        struct stream *server = stream_new(c->server->loop, c->relay_fd, -1, NULL, &handler, c);
        c->relay_fd = -1;
        stream_input_max(c->stream, RELAY_INPUT_MAX);
        c->relay = stream_relay_start(c->stream, server, relay_done, c);
        if (c->returns)
            stream_relay_returns(c->relay, relay_returned);
        c->relayed = true;
        c->server->relay_count++;
        show_title(c->server);
        return;
    }
    stream_deadline(c->stream, LOGIN_TIMEOUT_SECS);
    /* Commands that were pipelined behind the last one are waiting already. */
    stream_want_input(c->stream, false);
    stream_want_input(c->stream, true);
}

static void after_proxy(struct login_client *c)
{
    make_session(c);
    show_title(c->server);
    login_client_settings(c);
    if (c->listener->ssl) {
        c->tls_implicit = true;
        start_tls(c);
    } else
        greet(c);
}

void login_client_new(struct login_server *s, const struct service_listener *listener, int fd)
{
    struct stream_limits limits = {.input_max = LOGIN_INPUT_MAX, .output_high = 64 * 1024};
    struct login_client *c = mem_zero(1, sizeof(*c));
    struct error e;

    c->server = s;
    c->listener = listener;
    c->relay_fd = -1;
    c->connected_at = ev_now(s->loop);
    login_auth_init(c);
    if (!s->protocol->local && (net_local(fd, &c->local, &e) < 0 || net_peer(fd, &c->remote, &e) < 0)) {
        /* The client is gone already. */
        close(fd);
        mem_free(c);
        service_client_end(s->service);
        return;
    }
    c->real_local = c->local;
    c->real_remote = c->remote;
    c->set = settings_ref(s->global);
    c->stream = stream_new(s->loop, fd, -1, &limits, &handler, c);
    DL_APPEND(s->clients, c);
    s->client_count++;
    if (!listener->haproxy) {
        after_proxy(c);
        return;
    }
    if (!net_ip_in(&c->remote.ip, conf_str(c->set, SET_haproxy_trusted_networks))) {
        char ip[NET_IP_TEXT];
        log_warning(NULL, "haproxy: Client not trusted (rip=%s)", net_ip_text(&c->remote.ip, ip));
        close_unwelcome(c);
        return;
    }
    c->stage = STAGE_PROXY;
    stream_input_max(c->stream, HAPROXY_MAX + LOGIN_INPUT_MAX);
    stream_deadline(c->stream, conf_secs(c->set, SET_haproxy_timeout));
}

/* ---- a trusted front's word ------------------------------------------------------------------------------------- */

void login_forwarded(struct login_client *c, const struct net_endpoint *remote, const struct net_endpoint *local,
                     const char *session)
{
    if (remote != NULL && remote->ip.family != 0)
        c->remote.ip = remote->ip;
    if (remote != NULL && remote->port != 0)
        c->remote.port = remote->port;
    if (local != NULL && local->ip.family != 0)
        c->local.ip = local->ip;
    if (local != NULL && local->port != 0)
        c->local.port = local->port;
    if (session != NULL && strlen(session) <= 64)
        snprintf(c->session, sizeof(c->session), "%s", session);
    login_client_settings(c);
}

void login_forward_field(struct login_client *c, struct slice name, struct slice value)
{
    if (c->forward_fields.size + name.size + value.size > 4096)
        return;
    if (c->forward_fields.size > 0)
        buffer_append_byte(&c->forward_fields, '\t');
    text_tab_escape(&c->forward_fields, name);
    buffer_append_byte(&c->forward_fields, '=');
    text_tab_escape(&c->forward_fields, value);
}

void login_set_client_id(struct login_client *c, const char *text)
{
    mem_free(c->client_id);
    c->client_id = mem_strdup(text);
}

void login_set_user(struct login_client *c, const char *user)
{
    mem_free(c->user);
    c->user = mem_strdup(user);
}
