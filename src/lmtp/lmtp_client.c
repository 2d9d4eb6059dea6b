/* lmtp_client.c - a connection: PROXY header, TLS, greeting, the loop over its input, its end. */
#include "lmtp/lmtp_impl.h"
#include "rpc/session_id.h"

#include <stdio.h>
#include <unistd.h>

const char *lmtp_client_address(const struct lmtp_client *c, char out[NET_IP_TEXT])
{
    return c->remote.ip.family == 0 ? "local" : net_ip_text(&c->remote.ip, out);
}

void lmtp_reply(struct lmtp_client *c, const char *fmt, ...)
{
    struct buffer line = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&line, fmt, args);
    va_end(args);
    buffer_append_str(&line, "\r\n");
    stream_write(c->stream, buffer_slice(&line));
    buffer_free(&line);
}

void lmtp_new_session(struct lmtp_client *c)
{
    session_id_new(c->session);
}

void lmtp_client_settings(struct lmtp_client *c)
{
    char lip[NET_IP_TEXT], rip[NET_IP_TEXT];
    struct conf_filter filter = {.service = "lmtp",
                                 .local_ip = c->local.ip.family == 0 ? NULL : net_ip_text(&c->local.ip, lip),
                                 .remote_ip = c->remote.ip.family == 0 ? NULL : net_ip_text(&c->remote.ip, rip)};
    struct settings *set;
    struct error e;

    set = conf_settings(service_conf(c->server->service), &filter, &e);
    if (set == NULL) {
        log_error_value(NULL, &e);
        set = settings_ref(c->server->global);
    }
    settings_unref(c->set);
    c->set = set;
    /* A front's word does not make the peer more trusted: the real address counts. */
    c->trusted = net_ip_in(&c->real_remote.ip, conf_str(set, SET_login_trusted_networks));
}

void lmtp_client_free(struct lmtp_client *c)
{
    struct lmtp_server *s = c->server;

    lmtp_rcpt_cancel(c);
    if (c->trans != NULL && c->trans->jobs > 0) {
        /* Deliveries are running: their answers still come, to a client that is marked as gone. */
        stream_free(c->stream);
        c->stream = NULL;
        return;
    }
    lmtp_transaction_end(c);
    stream_free(c->stream);
    DL_DELETE(s->clients, c);
    settings_unref(c->set);
    mem_free(c->helo);
    mem_free(c);
    service_client_end(s->service);
}

void lmtp_client_end(struct lmtp_client *c, const char *reason)
{
    char ip[NET_IP_TEXT];

    if (c->mode == LMTP_END)
        return;
    if (c->shown_connect)
        log_info(NULL, "Disconnect from %s: %s (state=%s)", lmtp_client_address(c, ip), reason, c->state);
    c->mode = LMTP_END;
    stream_finish(c->stream, 5);
}

void lmtp_client_shutdown(struct lmtp_client *c)
{
    if (c->mode == LMTP_END || c->stream == NULL)
        return;
    if (c->greeted)
        lmtp_reply(c, "421 4.3.2 %s Shutting down", c->server->hostname);
    lmtp_client_end(c, "Shutting down");
}

static void take_input(struct lmtp_client *c)
{
    struct smtp_command command;

    while ((c->mode == LMTP_COMMAND || c->mode == LMTP_DATA || c->mode == LMTP_CHUNK) && !stream_full(c->stream)) {
        struct slice in = stream_input(c->stream);
        if (c->mode != LMTP_COMMAND) {
            if (!lmtp_data_input(c))
                return;
            continue;
        }
        if (in.size == 0)
            return;
        if (c->skipping) {
            ptrdiff_t lf = slice_find(in, '\n');
            stream_consume(c->stream, lf < 0 ? in.size : (size_t)lf + 1);
            c->skipping = lf < 0;
            continue;
        }
        switch (smtp_command_parse(in, &command)) {
        case SMTP_INCOMPLETE:
            return;
        case SMTP_OVERLONG:
            c->skipping = true;
            stream_consume(c->stream, in.size);
            lmtp_bad_syntax(c);
            break;
        case SMTP_BAD_SYNTAX:
            stream_consume(c->stream, command.size);
            lmtp_bad_syntax(c);
            break;
        case SMTP_COMMAND: {
            /* Its slices point into the input: it is taken off first, the copy lives for the call. */
            struct arena *a = arena_new();
            size_t size = command.size;
            command.name = arena_slice(a, command.name);
            command.params = arena_slice(a, command.params);
            stream_consume(c->stream, size);
            lmtp_command(c, &command);
            arena_free(a);
            break;
        }
        }
    }
}

static void close_unwelcome(struct lmtp_client *c)
{
    c->mode = LMTP_END;
    stream_finish(c->stream, 0.1);
}

static void readable_proxy(struct lmtp_client *c)
{
    struct haproxy_header h;

    switch (haproxy_read(c->stream, &c->real_remote.ip, &h)) {
    case STEP_INPUT:
        return;
    case STEP_DONE:
        break;
    default:
        close_unwelcome(c);
        return;
    }
    if (!h.local) {
        c->remote = h.source;
        c->local = h.destination;
    }
    lmtp_client_settings(c);
    if (c->listener->ssl)
        lmtp_client_start_tls(c);
    else
        lmtp_client_greet(c);
}

static void readable(void *arg)
{
    struct lmtp_client *c = arg;

    if (c->mode == LMTP_PROXY_HEADER)
        readable_proxy(c);
    else {
        stream_deadline(c->stream, LMTP_IDLE_SECS);
        take_input(c);
    }
}

static void writable(void *arg)
{
    lmtp_client_resume(arg);
}

static void closed(void *arg, const struct error *e)
{
    struct lmtp_client *c = arg;
    char ip[NET_IP_TEXT];

    (void)e;
    if (c->mode != LMTP_END && c->shown_connect)
        log_info(NULL, "Disconnect from %s: Connection closed%s (state=%s)", lmtp_client_address(c, ip),
                 c->mode == LMTP_DATA    ? " (unfinished DATA command)"
                 : c->mode == LMTP_CHUNK ? " (unfinished BDAT command)"
                                         : "",
                 c->state);
    c->mode = LMTP_END;
    lmtp_client_free(c);
}

static void deadline(void *arg)
{
    struct lmtp_client *c = arg;
    char ip[NET_IP_TEXT];

    if (c->mode == LMTP_PROXY_HEADER) {
        log_error(NULL, "haproxy: Client timed out (rip=%s)", net_ip_text(&c->real_remote.ip, ip));
        close_unwelcome(c);
        return;
    }
    if (c->mode == LMTP_WAIT) { /* a delivery takes its time; the client is not idle */
        stream_deadline(c->stream, LMTP_IDLE_SECS);
        return;
    }
    if (c->greeted)
        lmtp_reply(c, "421 4.4.2 %s Disconnected for inactivity", c->server->hostname);
    lmtp_client_end(c, "Disconnected for inactivity");
}

static const struct stream_handler handler = {readable, writable, closed, deadline};

void lmtp_client_wait(struct lmtp_client *c)
{
    c->mode = LMTP_WAIT;
    stream_want_input(c->stream, false);
}

void lmtp_client_resume(struct lmtp_client *c)
{
    if (c->stream == NULL || c->mode == LMTP_END)
        return;
    stream_deadline(c->stream, LMTP_IDLE_SECS);
    stream_want_input(c->stream, false); /* input that is here already is looked at again from the loop */
    stream_want_input(c->stream, true);
}

static void tls_done(void *arg, const struct error *e)
{
    struct lmtp_client *c = arg;

    if (e->class != ERROR_NONE) {
        char ip[NET_IP_TEXT];
        log_info(NULL, "TLS handshake with %s failed: %s", lmtp_client_address(c, ip), e->admin);
        return; /* `closed` follows */
    }
    c->tls = true;
    if (c->greeted) {
        c->mode = LMTP_COMMAND;
        lmtp_client_resume(c);
    } else
        lmtp_client_greet(c);
}

void lmtp_client_start_tls(struct lmtp_client *c)
{
    struct error e;
    struct tls_context *context = tls_cache_get(c->server->tls, c->set, &e);

    if (context == NULL) {
        log_error(NULL, "Failed to initialize SSL server context: %s", e.admin);
        lmtp_client_end(c, "TLS initialization failed.");
        return;
    }
    if (c->greeted && stream_input(c->stream).size > 0) {
        /* Commands sent behind STARTTLS: nobody who speaks TLS does that, and what was sent must not be read. */
        stream_consume(c->stream, stream_input(c->stream).size);
        lmtp_client_end(c, "Connection closed");
        return;
    }
    c->mode = LMTP_TLS;
    if (c->listener->haproxy && !c->greeted)
        stream_start_tls_behind_proxy(c->stream, context, tls_done);
    else
        stream_start_tls(c->stream, context, tls_done);
}

void lmtp_client_greet(struct lmtp_client *c)
{
    char ip[NET_IP_TEXT], lip[NET_IP_TEXT];
    struct arena *a = arena_new();
    struct conf_var table[] = {{'s', "service", "lmtp"},
                               {'l', "lip", net_ip_text(&c->local.ip, lip)},
                               {'r', "rip", net_ip_text(&c->remote.ip, ip)},
                               {'p', "pid", arena_printf(a, "%d", (int)getpid())},
                               {0, "session", c->session},
                               {0, NULL, NULL}};
    struct conf_vars vars = {.table = table};
    struct error e;

    log_info(NULL, "Connect from %s", lmtp_client_address(c, ip));
    c->shown_connect = true;
    lmtp_reply(c, "220 %s %s", c->server->hostname, conf_expand(a, conf_str(c->set, SET_login_greeting), &vars, NULL, &e));
    c->greeted = true;
    c->mode = LMTP_COMMAND;
    c->state = "GREETING";
    arena_free(a);
    lmtp_client_resume(c);
}

void lmtp_client_new(struct lmtp_server *s, const struct service_listener *listener, int fd)
{
    struct stream_limits limits = {.input_max = 64 * 1024, .output_high = 64 * 1024};
    struct lmtp_client *c = mem_zero(1, sizeof(*c));
    struct error e;
    char ip[NET_IP_TEXT];

    c->server = s;
    c->number = ++s->connections;
    c->listener = listener;
    c->state = "GREETING";
    (void)net_local(fd, &c->local, &e); /* UNIX sockets have no addresses */
    (void)net_peer(fd, &c->remote, &e);
    c->real_local = c->local;
    c->real_remote = c->remote;
    c->stream = stream_new(s->loop, fd, -1, &limits, &handler, c);
    DL_APPEND(s->clients, c);
    lmtp_client_settings(c);
    lmtp_new_session(c);
    if (listener->haproxy) {
        if (net_ip_in(&c->remote.ip, conf_str(c->set, SET_haproxy_trusted_networks))) {
            c->mode = LMTP_PROXY_HEADER;
            stream_deadline(c->stream, conf_secs(c->set, SET_haproxy_timeout));
            return;
        }
        log_warning(NULL, "haproxy: Client not trusted (rip=%s)", net_ip_text(&c->remote.ip, ip));
        close_unwelcome(c);
    } else if (listener->ssl)
        lmtp_client_start_tls(c);
    else
        lmtp_client_greet(c);
}
