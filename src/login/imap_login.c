/* imap_login.c - IMAP before login: greeting, capabilities, the eight commands (imap 1, 3.1, 5). */
#include "login/imap_login.h"

#include <stdio.h>

enum { TAG_MAX = 126 };

static void say(struct login_client *c, const char *tag, const char *text)
{
    stream_print(login_stream(c), "%s %s\r\n", tag, text);
}

static void put_mech(void *arg, const char *name)
{
    stream_print(arg, " AUTH=%s", name);
}

static void put_capabilities(struct login_client *c)
{
    const struct settings *set = login_settings(c);
    const char *own = conf_str(set, SET_imap_capability);
    struct stream *out = login_stream(c);

    if (*own != '\0' && *own != '+')
        stream_print(out, "%s", own);
    else
        stream_print(out, "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE%s%s %s", *own == '+' ? " " : "",
                     *own == '+' ? own + 1 : "",
                     conf_bool(set, SET_imap_literal_minus) ? "LITERAL-" : "LITERAL+");
    if (login_tls_offered(c))
        stream_print(out, " STARTTLS");
    if (login_plaintext_refused(c) || !login_has_mech(c, "PLAIN"))
        stream_print(out, " LOGINDISABLED");
    login_each_mech(c, put_mech, out);
}

static void open_client(struct login_client *c)
{
    login_set_state(c, mem_zero(1, sizeof(struct imap_login)));
}

static void close_client(struct login_client *c)
{
    mem_free(login_state(c));
    login_set_state(c, NULL);
}

static void greet(struct login_client *c)
{
    stream_print(login_stream(c), "* OK [CAPABILITY ");
    put_capabilities(c);
    stream_print(login_stream(c), "] %s\r\n", conf_str(login_settings(c), SET_login_greeting));
}

static void bye(struct login_client *c, const char *text)
{
    say(c, "* BYE", text);
}

static void notice(struct login_client *c, const char *text)
{
    say(c, "* OK", text);
}

static void challenge(struct login_client *c, struct slice base64)
{
    stream_print(login_stream(c), "+ %.*s\r\n", (int)base64.size, base64.at);
}

static void failed(struct login_client *c, enum login_failure failure, const char *text)
{
    static const char *const codes[] = {
        [LOGIN_FAIL_AUTH] = "NO [AUTHENTICATIONFAILED]",  [LOGIN_FAIL_TEMP] = "NO [UNAVAILABLE]",
        [LOGIN_FAIL_AUTHZ] = "NO [AUTHORIZATIONFAILED]",  [LOGIN_FAIL_USER_DISABLED] = "NO [ALERT]",
        [LOGIN_FAIL_PASS_EXPIRED] = "NO [EXPIRED]",       [LOGIN_FAIL_NOLOGIN] = "NO [CONTACTADMIN]",
        [LOGIN_FAIL_REASON] = "NO [ALERT]",               [LOGIN_FAIL_INVALID_BASE64] = "NO [ALERT]",
        [LOGIN_FAIL_MECH_UNKNOWN] = "NO [ALERT]",         [LOGIN_FAIL_PLAINTEXT] = "NO [PRIVACYREQUIRED]",
        [LOGIN_FAIL_TLS_REQUIRED] = "NO [PRIVACYREQUIRED]", [LOGIN_FAIL_ABORTED] = "BAD",
        [LOGIN_FAIL_LIMIT] = "NO [LIMIT]",                [LOGIN_FAIL_INTERNAL] = "NO [UNAVAILABLE]",
        [LOGIN_FAIL_UNAVAILABLE] = "NO [UNAVAILABLE]",
    };
    struct imap_login *imap = login_state(c);

    /* A text of auth's that brings its own response code stands as it is. */
    if (failure == LOGIN_FAIL_REASON && text[0] == '[')
        stream_print(login_stream(c), "%s NO %s\r\n", imap->tag, text);
    else
        stream_print(login_stream(c), "%s %s %s\r\n", imap->tag, codes[failure], text);
}

static void starttls_done(struct login_client *c)
{
    struct imap_login *imap = login_state(c);

    /* What was asked before counts on, as with the real server. */
    *imap = (struct imap_login){.id_logged = imap->id_logged, .capability_asked = imap->capability_asked};
}

static bool returns(struct login_client *c)
{
    return conf_imap_extension(login_settings(c), "UNAUTHENTICATE");
}

/* ID alone outlives UNAUTHENTICATE (RFC 8437 section 4). */
static void returned(struct login_client *c)
{
    struct imap_login *imap = login_state(c);

    *imap = (struct imap_login){.id_logged = imap->id_logged};
}

static void handover(struct login_client *c, struct buffer *out)
{
    struct imap_login *imap = login_state(c);

    buffer_append_byte(out, imap->capability_asked ? '1' : '0');
    buffer_append(out, imap->tag, strlen(imap->tag) + 1);
}

/* ---- commands ------------------------------------------------------------------------------------------------- */

static bool run_capability(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    (void)line;
    /* After STARTTLS a client has to ask (RFC 3501 section 6.2.1), so that tells nothing of what it does with the code. */
    imap->capability_asked = imap->capability_asked || !login_tls_by_command(c);
    stream_print(login_stream(c), "* CAPABILITY ");
    put_capabilities(c);
    stream_print(login_stream(c), "\r\n");
    say(c, imap->tag, "OK Pre-login capabilities listed, post-login capabilities have more.");
    return true;
}

static bool run_noop(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    (void)line;
    say(c, imap->tag, "OK NOOP completed.");
    return true;
}

static bool run_logout(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    (void)line;
    say(c, "* BYE", "Logging out");
    say(c, imap->tag, "OK Logout completed.");
    login_disconnect(c, "Aborted login by logging out");
    return true;
}

static bool run_enable(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    (void)line;
    say(c, "*", "ENABLED");
    say(c, imap->tag, "OK ENABLE ignored in non-authenticated state.");
    return true;
}

static bool run_id(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    if (!imap_id_command(c, imap, line)) {
        say(c, imap->tag, "BAD Invalid ID parameters");
        return true;
    }
    imap_id_reply(c);
    say(c, imap->tag, "OK ID completed.");
    return true;
}

static bool run_starttls(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    (void)line;
    if (login_tls_active(c))
        say(c, imap->tag, "BAD TLS is already active.");
    else if (!login_tls_offered(c))
        say(c, imap->tag, "BAD TLS support isn't enabled.");
    else {
        say(c, imap->tag, "OK Begin TLS negotiation now.");
        login_starttls(c);
    }
    return true;
}

static bool run_login(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    struct slice user, password;

    if (line->count != 2 || !imap_arg_string(line, 0, &user) || !imap_arg_string(line, 1, &password))
        return false;
    if (login_plaintext_refused(c)) {
        say(c, "*",
            "BAD [ALERT] Plaintext authentication not allowed without SSL/TLS, but your client did it anyway. "
            "If anyone was listening, the password was exposed.");
        say(c, imap->tag,
            "NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.");
        return true;
    }
    login_auth_password(c, user, password);
    return true;
}

/* In the alphabet but not decodable is an error of syntax; anything else auth's client refuses (imap 5.5). */
static bool decodes(struct slice base64)
{
    struct buffer out = {0};
    bool good = text_base64_decode(&out, base64) == 0;

    buffer_wipe(&out);
    return good;
}

static bool in_alphabet(struct slice s)
{
    for (size_t i = 0; i < s.size; i++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=", s.at[i]) == NULL ||
            s.at[i] == 0)
            return false;
    return true;
}

static bool run_authenticate(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    struct slice initial = SLICE_EMPTY, mech = line->count > 0 && line->args[0].kind == IMAP_ATOM ? line->args[0].value : SLICE_EMPTY;

    if (line->count < 1)
        return false;
    if (line->count > 1 && mech.size > 0) {
        initial = line->args[1].value;
        if (line->count > 2 || line->args[1].kind != IMAP_ATOM ||
            (!slice_equal_str(initial, "=") && !decodes(initial))) {
            say(c, imap->tag, "BAD Invalid base64 data in initial response");
            return true;
        }
        if (slice_equal_str(initial, "="))
            initial = SLICE_EMPTY;
    }
    login_auth_start(c, mech, line->count > 1, initial); /* a name that is no atom is none that there is */
    return true;
}

static const struct {
    const char *name;
    /* False: wrong arguments. */
    bool (*run)(struct login_client *, struct imap_login *, const struct imap_line *);
} commands[] = {
    {"CAPABILITY", run_capability}, {"NOOP", run_noop},   {"LOGOUT", run_logout},
    {"ENABLE", run_enable},         {"ID", run_id},       {"STARTTLS", run_starttls},
    {"LOGIN", run_login},           {"AUTHENTICATE", run_authenticate},
};

static bool tag_is_valid(struct slice tag)
{
    if (tag.size == 0 || tag.size > TAG_MAX)
        return false;
    for (size_t i = 0; i < tag.size; i++)
        if (tag.at[i] <= 0x20 || tag.at[i] >= 0x7f || strchr("+(){%*\"\\", tag.at[i]) != NULL)
            return false;
    return true;
}

static void bad_command(struct login_client *c, const char *tag)
{
    if (login_bad_command(c)) {
        bye(c, "Too many invalid IMAP commands.");
        login_disconnect(c, "Too many invalid commands.");
    } else
        say(c, tag, "BAD Error in IMAP command received by server.");
}

static void run(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    if (!tag_is_valid(line->tag)) {
        bad_command(c, "*");
        return;
    }
    snprintf(imap->tag, sizeof(imap->tag), "%.*s", (int)line->tag.size, line->tag.at);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (!slice_equal_str_nocase(line->command, commands[i].name))
            continue;
        if (line->error != NULL && commands[i].run != run_id) {
            struct arena *a = arena_new();
            say(c, imap->tag, arena_printf(a, "BAD %s", line->error));
            arena_free(a);
        } else if (!commands[i].run(c, imap, line))
            bad_command(c, imap->tag);
        return;
    }
    if (slice_equal_str_nocase(line->tag, "LOGIN"))
        say(c, imap->tag,
            "BAD First parameter in line is IMAP's command tag, not the command name. Add that before the command, "
            "like: a login user pass");
    else
        bad_command(c, imap->tag);
}

/* A line of a SASL exchange. False: it is not complete. */
static bool take_response(struct login_client *c, struct imap_login *imap)
{
    struct slice in = stream_input(login_stream(c)), line;
    ptrdiff_t lf = slice_find(in, '\n');
    struct buffer copy = {0};

    if (lf < 0) {
        if (in.size > LOGIN_RESPONSE_MAX)
            login_disconnect(c, "Authentication response too large");
        return false;
    }
    line = slice_head(in, (size_t)lf);
    if (line.size > 0 && line.at[line.size - 1] == '\r')
        line.size--;
    buffer_append_slice(&copy, line);
    stream_consume(login_stream(c), (size_t)lf + 1);
    if (slice_equal_str(buffer_slice(&copy), "*"))
        login_auth_abort(c);
    else if (in_alphabet(buffer_slice(&copy)) && !decodes(buffer_slice(&copy))) {
        login_auth_drop(c);
        say(c, imap->tag, "BAD Invalid base64 data in continued response");
    } else
        login_auth_continue(c, buffer_slice(&copy));
    buffer_wipe(&copy);
    return true;
}

/* One command off the input. False: none is complete. */
static bool take_command(struct login_client *c, struct imap_login *imap)
{
    struct slice in = stream_input(login_stream(c));
    struct arena *a = arena_new();
    struct imap_line line;
    bool more = false;

    switch (imap_parse_line(in, LOGIN_RESPONSE_MAX, &imap->wait, a, &line)) {
    case IMAP_LINE:
        stream_input_max(login_stream(c), LOGIN_INPUT_MAX);
        stream_consume(login_stream(c), line.size);
        run(c, imap, &line);
        more = true;
        break;
    case IMAP_GO_AHEAD:
        stream_print(login_stream(c), "+ OK\r\n");
        /* fall through */
    case IMAP_INCOMPLETE:
        if (imap->wait.need > in.size + 1)
            stream_input_max(login_stream(c), imap->wait.need + LOGIN_INPUT_MAX);
        else if (in.size >= LOGIN_INPUT_MAX && imap->wait.literals_seen == 0) {
            bye(c, "Input buffer full, aborting");
            login_disconnect(c, "Input buffer full");
        }
        break;
    case IMAP_LITERAL_TOO_BIG:
        bye(c, "Literal size too large");
        login_disconnect(c, "Literal size too large");
        break;
    }
    arena_free(a);
    return more;
}

static void input(struct login_client *c)
{
    struct imap_login *imap = login_state(c);

    while (!login_busy(c) && stream_input(login_stream(c)).size > 0)
        if (!(login_auth_waits(c) ? take_response(c, imap) : take_command(c, imap)))
            break;
}

static const struct login_protocol imap_protocol = {
    .name = "imap",
    .process = "imap-login",
    .socket = "imap",
    .open = open_client,
    .close = close_client,
    .greet = greet,
    .input = input,
    .challenge = challenge,
    .failed = failed,
    .bye = bye,
    .notice = notice,
    .starttls_done = starttls_done,
    .returns = returns,
    .returned = returned,
    .handover = handover,
};

int main(int argc, char **argv)
{
    return login_main(argc, argv, &imap_protocol);
}
