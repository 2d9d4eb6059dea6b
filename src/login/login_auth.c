/* login_auth.c - the dialogue with auth, and what follows from its answer.
 *
 * The client's base64 is checked where it is put into a line for auth (auth_client.h); here only the size of a
 * response is bounded. Results are translated to one enum, from which protocols take their words. */
#include "login/login_impl.h"

#include <stdio.h>
#include <time.h>

static void set_text(char **at, const char *text)
{
    mem_free(*at);
    *at = mem_strdup_null(text);
}

static void forget_response(struct login_client *c)
{
    buffer_wipe(&c->again.response);
    c->again = (struct login_again){0};
}

static void keep_response(struct login_client *c, struct slice base64)
{
    buffer_reserve(&c->again.response, base64.size + 1); /* at once: growing would leave a copy behind */
    buffer_append_slice(&c->again.response, base64);
    c->again.has_response = true;
}

static void end_attempt(struct login_client *c)
{
    ev_timer_stop(c->server->loop, &c->slow);
    c->auth = NULL;
    c->attempt_open = false;
    forget_response(c);
}

static void fail(struct login_client *c, enum login_failure failure, const char *text)
{
    end_attempt(c);
    c->last_failure = failure;
    c->stage = STAGE_COMMAND;
    stream_input_max(c->stream, LOGIN_INPUT_MAX);
    c->server->protocol->failed(c, failure, text);
    if (c->stage == STAGE_COMMAND)
        login_client_resume(c);
}

/* "Temporary authentication failure. [host:2022-01-31 12:00:00]": the stamp helps to find the log line. */
static const char *temporary_text(struct login_client *c, char *out, size_t size)
{
    char stamp[32];
    time_t now = time(NULL);
    struct tm tm;

    localtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(out, size, "Temporary authentication failure. [%s:%s]", service_hostname(c->server->service), stamp);
    return out;
}

static void auth_failed(struct login_client *c, const struct rpc_fields *fields)
{
    static const struct {
        const char *code;
        enum login_failure failure;
        const char *text;
    } codes[] = {
        {"temp_fail", LOGIN_FAIL_TEMP, NULL},
        {"authz_fail", LOGIN_FAIL_AUTHZ, "Authorization failed"},
        {"user_disabled", LOGIN_FAIL_USER_DISABLED, "Account disabled"},
        {"pass_expired", LOGIN_FAIL_PASS_EXPIRED, "Password expired"},
        {"invalid_base64", LOGIN_FAIL_INVALID_BASE64, "Invalid base64 in response"},
        {"login_disabled", LOGIN_FAIL_NOLOGIN, "Login disabled for this user"},
    };
    const char *code = fields == NULL ? NULL : rpc_fields_get(fields, "code");
    const char *reason = fields == NULL ? NULL : rpc_fields_get(fields, "reason");
    char text[256];

    if (fields != NULL && rpc_fields_get(fields, "user") != NULL)
        set_text(&c->user, rpc_fields_get(fields, "user"));
    if (code == NULL && fields != NULL && rpc_fields_has(fields, "temp"))
        code = "temp_fail";
    for (size_t i = 0; code != NULL && i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(code, codes[i].code) != 0)
            continue;
        if (reason != NULL && codes[i].failure != LOGIN_FAIL_TEMP) {
            fail(c, LOGIN_FAIL_REASON, reason);
            c->last_failure = codes[i].failure;
        } else
            fail(c, codes[i].failure,
                 codes[i].text != NULL ? codes[i].text : temporary_text(c, text, sizeof(text)));
        return;
    }
    if (reason != NULL)
        fail(c, LOGIN_FAIL_REASON, reason);
    else
        fail(c, LOGIN_FAIL_AUTH, "Authentication failed.");
}

static void limit_known(void *arg, bool ok, unsigned count)
{
    struct login_client *c = arg;
    unsigned most = conf_uint(c->set, SET_mail_max_userip_connections);
    char text[128];

    c->query = NULL;
    if (!ok || count < most) { /* without anvil the login is allowed, as the real server does */
        login_handover_start(c);
        return;
    }
    snprintf(text, sizeof(text), "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=%u)",
             most);
    end_attempt(c);
    auth_client_forget(c->server->auth, c->auth_id);
    c->handover_failed = true; /* the reason says all */
    c->server->protocol->failed(c, LOGIN_FAIL_LIMIT, text);
    login_disconnect(c, text);
}

static void check_limit(struct login_client *c)
{
    struct arena *a;
    char ip[NET_IP_TEXT];

    if (c->server->protocol->local || conf_uint(c->set, SET_mail_max_userip_connections) == 0) {
        login_handover_start(c);
        return;
    }
    a = arena_new();
    c->stage = STAGE_LIMIT;
    c->query = anvil_lookup(c->server->anvil,
                            anvil_ident(a, c->server->protocol->name, net_ip_text(&c->remote.ip, ip), c->user),
                            limit_known, c);
    arena_free(a);
}

static void auth_succeeded(struct login_client *c, const struct rpc_fields *fields)
{
    const char *user = rpc_fields_get(fields, "user"), *original = rpc_fields_get(fields, "original_user");
    const char *reason = rpc_fields_get(fields, "reason");

    if (user != NULL)
        set_text(&c->user, user);
    set_text(&c->auth_user, original != NULL ? original : c->user);
    c->successes++;
    if (rpc_fields_has(fields, "proxy")) {
        login_log_line(c, LOG_LEVEL_ERROR,
                       "passdb returned proxy, but this login service has no proxy yet: refusing the login");
        fail(c, LOGIN_FAIL_UNAVAILABLE, "Account is temporarily unavailable.");
        return;
    }
    if (rpc_fields_has(fields, "nologin")) {
        if (reason != NULL)
            fail(c, LOGIN_FAIL_NOLOGIN, reason);
        else
            fail(c, LOGIN_FAIL_NOLOGIN, "Login disabled for this user");
        return;
    }
    c->auth = NULL;
    ev_timer_stop(c->server->loop, &c->slow);
    check_limit(c);
}

static bool may_repeat(struct login_client *c)
{
    if (!c->again.possible || c->again.done)
        return false;
    c->again.done = true;
    return true;
}

/* While auth is asked nothing is read: commands sent ahead wait, and so does the end of a client that has sent all it had and closed
 * its side: it is logged in and answered. A client that waits long is told so. */
static void ask(struct login_client *c)
{
    c->stage = STAGE_AUTH;
    stream_want_input(c->stream, false);
    ev_timer_stop(c->server->loop, &c->slow);
    ev_timer_set(&c->slow, LOGIN_AUTH_SLOW_SECS, 0.);
    ev_timer_start(c->server->loop, &c->slow);
}

/* login_auth_connected or login_auth_unreachable follows. */
static void wait_for_auth(struct login_client *c)
{
    c->auth = NULL;
    ask(c);
    c->again.losses = 0;
}

void login_auth_unreachable(struct login_client *c)
{
    char text[256];

    if (++c->again.losses < 2) /* the first tells why we wait */
        return;
    fail(c, LOGIN_FAIL_TEMP, temporary_text(c, text, sizeof(text)));
}

bool login_auth_repeat(struct login_client *c)
{
    if (!may_repeat(c))
        return false;
    c->successes--;
    wait_for_auth(c);
    auth_client_forget(c->server->auth, c->auth_id);
    auth_client_reconnect(c->server->auth); /* it may be one that the dispatcher which is there now does not know */
    return true;
}

static void answered(void *arg, enum auth_answer answer, struct slice challenge, const struct rpc_fields *fields)
{
    struct login_client *c = arg;
    char text[256];

    switch (answer) {
    case AUTH_CONTINUE:
        ev_timer_stop(c->server->loop, &c->slow);
        c->stage = STAGE_RESPONSE;
        if (c->again.has_response || challenge.size > 0)
            forget_response(c);
        stream_input_max(c->stream, LOGIN_RESPONSE_MAX + 2);
        c->server->protocol->challenge(c, challenge);
        login_client_resume(c);
        return;
    case AUTH_OK:
        auth_succeeded(c, fields);
        return;
    case AUTH_FAIL:
        auth_failed(c, fields);
        return;
    case AUTH_ABORTED:
        if (c->stage == STAGE_AUTH && !auth_client_ready(c->server->auth) && may_repeat(c)) { /* it is gone, not just slow */
            wait_for_auth(c);
            return;
        }
        c->auth_broke = true;
        fail(c, LOGIN_FAIL_TEMP, temporary_text(c, text, sizeof(text)));
        return;
    }
}

static void auth_is_slow(struct ev_loop *loop, ev_timer *w, int events)
{
    struct login_client *c = w->data;

    (void)loop;
    (void)events;
    c->server->protocol->notice(c, "Waiting for authentication process to respond..");
}

void login_auth_init(struct login_client *c)
{
    ev_init(&c->slow, auth_is_slow);
    c->slow.data = c;
}

/* The attempt, as it stands in c->mech and c->again, is put to auth; or it is refused before. */
void login_auth_connected(struct login_client *c)
{
    const struct auth_mech_info *info = auth_client_mech(c->server->auth, slice_from_str(c->mech));
    struct auth_request_info request = {
        .service = c->server->protocol->name,
        .secured = c->tls || c->tls_proxied ? AUTH_SECURED_TLS : c->secured ? AUTH_SECURED : AUTH_INSECURE,
        .session = c->session,
        .local_name = c->local_name,
        .client_id = c->client_id,
        .cert_username = c->cert_username,
        .valid_client_cert = c->cert_valid,
        .local = c->local,
        .remote = c->remote,
        .real_local = c->real_local,
        .real_remote = c->real_remote,
        .has_initial = c->again.has_response,
        .initial = buffer_slice(&c->again.response),
    };
    struct buffer forward = {0};
    struct error e;
    char text[256];

    if (info == NULL) {
        fail(c, LOGIN_FAIL_MECH_UNKNOWN, "Unsupported authentication mechanism.");
        return;
    }
    if ((info->flags & AUTH_MECH_PLAINTEXT) != 0 && login_plaintext_refused(c)) {
        fail(c, LOGIN_FAIL_PLAINTEXT, "Plaintext authentication disabled.");
        return;
    }
    if (strcmp(conf_str(c->set, SET_ssl), "required") == 0 && !login_secured(c)) {
        fail(c, LOGIN_FAIL_TLS_REQUIRED, "Authentication not allowed until SSL/TLS is enabled.");
        return;
    }
    request.mech = info->name;
    if (c->forward_fields.size > 0) {
        text_base64_encode(&forward, buffer_slice(&c->forward_fields));
        request.forward_fields = buffer_cstr(&forward);
    }
    ask(c);
    c->attempt_open = true;
    c->auth = auth_request_start(c->server->auth, &request, answered, c, &e);
    buffer_free(&forward);
    if (c->auth == NULL) {
        if (e.class == ERROR_INVALID)
            fail(c, LOGIN_FAIL_INVALID_BASE64, "Invalid base64 in response");
        else {
            log_error_value(NULL, &e);
            fail(c, LOGIN_FAIL_TEMP, temporary_text(c, text, sizeof(text)));
        }
        return;
    }
    c->auth_id = auth_request_id(c->auth);
}

void login_auth_start(struct login_client *c, struct slice mech, bool has_initial, struct slice initial)
{
    c->attempts++;
    if (c->attempts == 1)
        c->first_attempt_at = ev_now(c->server->loop);
    c->attempt_aborted = false;
    c->auth_broke = false;
    mem_free(c->mech);
    c->mech = mem_strndup(slice_head(mech, 64));
    for (char *p = c->mech; *p != '\0'; p++)
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
    forget_response(c);
    c->again.possible = true;
    if (has_initial)
        keep_response(c, initial);
    if (auth_client_ready(c->server->auth))
        login_auth_connected(c);
    else
        wait_for_auth(c);
}

void login_auth_password(struct login_client *c, struct slice user, struct slice password)
{
    struct buffer plain = {0}, encoded = {0};

    /* NUL separates the parts of PLAIN: it cannot be in a name or password (known-faults: names cut at NUL). */
    if (slice_find(user, 0) >= 0 || slice_find(password, 0) >= 0) {
        c->attempts++;
        fail(c, LOGIN_FAIL_AUTH, "Authentication failed.");
        return;
    }
    buffer_append_byte(&plain, 0);
    buffer_append_slice(&plain, user);
    buffer_append_byte(&plain, 0);
    buffer_append_slice(&plain, password);
    text_base64_encode(&encoded, buffer_slice(&plain));
    buffer_wipe(&plain);
    mem_free(c->user);
    c->user = mem_strndup(user);
    login_auth_start(c, SLICE("PLAIN"), true, buffer_slice(&encoded));
    buffer_wipe(&encoded);
}

void login_auth_continue(struct login_client *c, struct slice base64)
{
    struct error e;

    ask(c);
    stream_input_max(c->stream, LOGIN_INPUT_MAX);
    if (auth_request_continue(c->auth, base64, &e) < 0) {
        auth_request_cancel(c->auth);
        fail(c, LOGIN_FAIL_INVALID_BASE64, "Invalid base64 in response");
        return;
    }
    if (c->again.possible) /* the answer to an empty challenge is what could have come with the command */
        keep_response(c, base64);
}

void login_auth_abort(struct login_client *c)
{
    auth_request_cancel(c->auth);
    c->attempt_aborted = true;
    fail(c, LOGIN_FAIL_ABORTED, "Authentication aborted by client.");
}

void login_auth_drop(struct login_client *c)
{
    auth_request_cancel(c->auth);
    end_attempt(c);
    c->last_failure = LOGIN_FAIL_INVALID_BASE64;
    c->stage = STAGE_COMMAND;
    stream_input_max(c->stream, LOGIN_INPUT_MAX);
}

void login_auth_stop(struct login_client *c)
{
    ev_timer_stop(c->server->loop, &c->slow);
    if (c->auth != NULL)
        auth_request_cancel(c->auth);
    c->auth = NULL;
    if (c->query != NULL)
        anvil_query_cancel(c->query);
    c->query = NULL;
    forget_response(c);
}

bool login_auth_waits(const struct login_client *c)
{
    return c->stage == STAGE_RESPONSE;
}
