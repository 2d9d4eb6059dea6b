/* login_log.c - the lines that fail2ban and people read (auth 23).
 *
 * login_log_format_elements is split at spaces; an element whose expansion does not differ from that with empty
 * values is dropped, unless it names the user. Values come from the client: they are made printable and cut. */
#include "login/login_impl.h"

#include <stdio.h>
#include <unistd.h>

enum { VALUE_MAX = 80 };

/* Control bytes become '?', at most VALUE_MAX bytes, cut at a character. */
static const char *printable(struct arena *a, const char *text)
{
    struct slice s = slice_from_str(text == NULL ? "" : text);
    char *out;

    if (s.size > VALUE_MAX) {
        s.size = VALUE_MAX;
        while (s.size > 0 && (s.at[s.size] & 0xc0) == 0x80)
            s.size--;
    }
    out = arena_str(a, s);
    for (char *p = out; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return out;
}

static const char *port_text(struct arena *a, uint16_t port)
{
    return port == 0 ? "" : arena_printf(a, "%u", port);
}

static const char *tls_word(struct arena *a, const struct login_client *c)
{
    if (c->tls)
        return c->tls_error != NULL ? arena_printf(a, "TLS: %s", c->tls_error) : "TLS";
    if (c->stage == STAGE_TLS || c->tls_error != NULL)
        return c->tls_error != NULL ? arena_printf(a, "TLS handshaking: %s", c->tls_error) : "TLS handshaking";
    return c->secured ? "secured" : "";
}

static const char *tls_text(struct arena *a, struct login_client *c)
{
    struct tls_session_info info;

    if (c->tls_proxied)
        return "(proxied)";
    if (c->stream == NULL || !stream_tls_info(c->stream, &info))
        return "";
    return arena_printf(a, "%s with cipher %s (%u/%u bits)", info.protocol, info.cipher, info.bits, info.bits);
}

enum { VARS = 24 };

static void fill_vars(struct arena *a, struct login_client *c, struct conf_var *v)
{
    char rip[NET_IP_TEXT], lip[NET_IP_TEXT], real_rip[NET_IP_TEXT], real_lip[NET_IP_TEXT];
    const char *at = c->user == NULL ? NULL : strchr(c->user, '@');
    struct conf_var all[VARS] = {
        {'u', "user", printable(a, c->user)},
        {'n', "username",
         printable(a, c->user == NULL ? "" : arena_str(a, slice_of(c->user, at == NULL ? strlen(c->user) : (size_t)(at - c->user))))},
        {'d', "domain", printable(a, at == NULL ? "" : at + 1)},
        {'s', "service", c->server->protocol->name},
        {'h', "home", NULL},
        {'l', "lip", arena_strdup(a, net_ip_text(&c->local.ip, lip))},
        {'r', "rip", arena_strdup(a, net_ip_text(&c->remote.ip, rip))},
        {'p', "pid", arena_printf(a, "%d", (int)getpid())},
        {'m', "mech", printable(a, c->mech)},
        {'a', "lport", port_text(a, c->local.port)},
        {'b', "rport", port_text(a, c->remote.port)},
        {'c', "secured", printable(a, tls_word(a, c))},
        {'k', "ssl_security", tls_text(a, c)},
        {'e', "mail_pid", c->mail_pid == 0 ? "" : arena_printf(a, "%d", (int)c->mail_pid)},
        {0, "session", c->session},
        {0, "real_rip", arena_strdup(a, net_ip_text(&c->real_remote.ip, real_rip))},
        {0, "real_lip", arena_strdup(a, net_ip_text(&c->real_local.ip, real_lip))},
        {0, "real_rport", port_text(a, c->real_remote.port)},
        {0, "real_lport", port_text(a, c->real_local.port)},
        {0, "auth_user", printable(a, c->auth_user)},
        {0, "orig_user", printable(a, c->auth_user)},
        {0, "listener", c->listener->name},
        {0, "local_name", printable(a, c->local_name)},
        {0, NULL, NULL},
    };

    memcpy(v, all, sizeof(all));
}

static char *elements(struct arena *a, struct login_client *c)
{
    struct conf_var full[VARS], empty[VARS];
    struct conf_vars with = {.table = full}, without = {.table = empty};
    struct slice rest = slice_from_str(conf_str(c->set, SET_login_log_format_elements)), word;
    struct buffer out = {0};
    struct error e;
    char *text;

    fill_vars(a, c, full);
    memcpy(empty, full, sizeof(full));
    for (size_t i = 0; i < VARS; i++)
        empty[i].value = "";
    while (slice_split(&rest, ' ', &word)) {
        char *element = arena_str(a, word), *one;
        if (word.size == 0)
            continue;
        one = conf_expand(a, element, &with, NULL, &e);
        if (strcmp(one, conf_expand(a, element, &without, NULL, &e)) == 0 &&
            !conf_expand_uses(element, 'u', "user") && !conf_expand_uses(element, 'n', "username"))
            continue;
        if (out.size > 0)
            buffer_append_str(&out, ", ");
        buffer_append_str(&out, one);
    }
    text = arena_str(a, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

void login_log_line(struct login_client *c, enum log_level level, const char *message)
{
    struct arena *a = arena_new();
    struct conf_var table[] = {{'s', NULL, elements(a, c)}, {'$', NULL, message}, {0, NULL, NULL}};
    struct conf_vars vars = {.table = table};
    struct error e;

    log_write(NULL, level, "%s", conf_expand(a, conf_str(c->set, SET_login_log_format), &vars, NULL, &e));
    arena_free(a);
}

void login_log(struct login_client *c, const char *fmt, ...)
{
    va_list args;
    struct buffer text = {0};

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    login_log_line(c, LOG_LEVEL_INFO, buffer_cstr(&text));
    buffer_free(&text);
}

/* The bracket behind the reason: the first condition that holds (auth 23). */
static char *explain(struct arena *a, const struct login_client *c)
{
    double now = ev_now(c->server->loop);
    unsigned since_connect = (unsigned)(now - c->connected_at);
    unsigned since_first = c->attempts == 0 ? 0 : (unsigned)(now - c->first_attempt_at);

    if (c->handover_failed)
        return arena_strdup(a, "");
    if (conf_bool(c->set, SET_auth_ssl_require_client_cert) && c->tls && !c->cert_valid && c->greeted)
        return arena_strdup(a, " (client didn't send a cert)");
    if (!c->greeted && !auth_client_ready(c->server->auth))
        return arena_printf(a, " (disconnected before auth was ready, waited %u secs)", since_connect);
    if (c->attempts == 0)
        return c->greeted || c->stage == STAGE_TLS || c->tls_error != NULL
                   ? arena_printf(a, " (no auth attempts in %u secs)", since_connect)
                   : arena_strdup(a, "");
    if (conf_bool(c->set, SET_auth_ssl_require_client_cert) && !c->tls)
        return arena_strdup(a, " (cert required, client didn't start TLS)");
    if (c->attempts == 1) {
        if (c->stage == STAGE_RESPONSE || (c->attempt_aborted && c->last_failure == LOGIN_FAIL_ABORTED))
            return arena_printf(a, " (client didn't finish SASL auth, waited %u secs)", since_first);
        if (c->stage == STAGE_AUTH)
            return arena_printf(a, " (disconnected while authenticating, waited %u secs)", since_first);
        if (c->stage == STAGE_HANDOVER || c->stage == STAGE_LIMIT)
            return arena_printf(a, " (disconnected while finishing login, waited %u secs)", since_first);
    }
    if (c->auth_broke)
        return arena_strdup(a, " (auth process communication failure)");
    if (c->successes > 0)
        return arena_printf(a, " (internal failure, %u successful auths)", c->successes);
    switch (c->last_failure) {
    case LOGIN_FAIL_AUTHZ:
        return arena_printf(a, " (authorization failed, %u attempts in %u secs)", c->attempts, since_first);
    case LOGIN_FAIL_TEMP:
        return arena_strdup(a, " (auth service reported temporary failure)");
    case LOGIN_FAIL_USER_DISABLED:
        return arena_strdup(a, " (user disabled)");
    case LOGIN_FAIL_PASS_EXPIRED:
        return arena_strdup(a, " (password expired)");
    case LOGIN_FAIL_INVALID_BASE64:
        return arena_strdup(a, " (sent invalid base64 in response)");
    case LOGIN_FAIL_NOLOGIN:
        return arena_strdup(a, " (login disabled)");
    case LOGIN_FAIL_MECH_UNKNOWN:
        return arena_strdup(a, " (tried to use unsupported auth mechanism)");
    case LOGIN_FAIL_PLAINTEXT:
        return arena_strdup(a, " (tried to use disallowed plaintext auth)");
    default:
        return arena_printf(a, " (auth failed, %u attempts in %u secs)", c->attempts, since_first);
    }
}

void login_log_reason(struct login_client *c, const char *reason)
{
    struct arena *a = arena_new();

    login_log_line(c, LOG_LEVEL_INFO, arena_printf(a, "Disconnected: %s%s", reason, explain(a, c)));
    arena_free(a);
}
