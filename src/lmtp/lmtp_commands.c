/* lmtp_commands.c - the command table and the short commands (doors 1.1, 1.2, 1.5, 2.8). */
#include "lmtp/lmtp_impl.h"

#include <strings.h>
#include <time.h>

void lmtp_transaction_end(struct lmtp_client *c)
{
    struct lmtp_transaction *t = c->trans;

    if (t == NULL)
        return;
    for (struct lmtp_rcpt *r = t->rcpts; r != NULL; r = r->next)
        if (r->anvil_ident != NULL)
            anvil_disconnect(c->server->anvil, getpid(), r->anvil_ident);
    if (t->fd >= 0)
        close(t->fd);
    arena_free(t->arena);
    c->trans = NULL;
}

/* Bad commands count (500, 501, 503); the one too many is answered by 421 alone. */
static bool too_many_bad(struct lmtp_client *c)
{
    if (++c->bad_commands <= LMTP_MAX_BAD_COMMANDS)
        return false;
    lmtp_reply(c, "421 4.7.0 %s Too many invalid commands.", c->server->hostname);
    lmtp_client_end(c, "Too many invalid commands.");
    return true;
}

void lmtp_bad_syntax(struct lmtp_client *c)
{
    if (!too_many_bad(c))
        lmtp_reply(c, "500 5.5.2 Invalid command syntax");
}

void lmtp_bad(struct lmtp_client *c, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    if (too_many_bad(c))
        return;
    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    lmtp_reply(c, "%s", buffer_cstr(&text));
    buffer_free(&text);
}

static void good(struct lmtp_client *c)
{
    c->bad_commands = 0;
}

static bool starttls_offered(const struct lmtp_client *c)
{
    return !c->tls && strcmp(conf_str(c->set, SET_ssl), "no") != 0;
}

static void run_lhlo(struct lmtp_client *c, struct slice params)
{
    if (params.size == 0) {
        lmtp_bad(c, "501 Missing hostname");
        return;
    }
    good(c);
    lmtp_transaction_end(c);
    mem_free(c->helo);
    c->helo = smtp_hostname_valid(params) ? mem_strndup(params) : NULL;
    c->state = "READY";
    lmtp_reply(c, "250-%s", c->server->hostname);
    lmtp_reply(c, "250-8BITMIME");
    lmtp_reply(c, "250-CHUNKING");
    lmtp_reply(c, "250-ENHANCEDSTATUSCODES");
    lmtp_reply(c, "%sPIPELINING", starttls_offered(c) || c->trusted ? "250-" : "250 ");
    if (starttls_offered(c))
        lmtp_reply(c, "%sSTARTTLS", c->trusted ? "250-" : "250 ");
    if (c->trusted) {
        lmtp_reply(c, "250-XCLIENT ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT");
        lmtp_reply(c, "250 XRCPTFORWARD");
    }
}

static bool body_is_valid(const struct smtp_param *p)
{
    return slice_equal_str_nocase(p->value, "7BIT") || slice_equal_str_nocase(p->value, "8BITMIME");
}

static void run_mail(struct lmtp_client *c, struct slice params)
{
    const char *workarounds = conf_str(c->set, SET_lmtp_client_workarounds), *error;
    unsigned flags = SMTP_PATH_NULL_ALLOWED | SMTP_PATH_BROKEN_ALLOWED |
                     (strstr(workarounds, "whitespace-before-path") != NULL ? SMTP_PATH_SPACE_BEFORE : 0) |
                     (strstr(workarounds, "mailbox-for-path") != NULL ? SMTP_PATH_NO_BRACKETS : 0);
    struct smtp_param list[SMTP_PARAMS_MAX];
    struct lmtp_transaction *t;
    struct arena *a;
    struct slice rest;
    size_t n;

    if (c->trans != NULL) {
        lmtp_bad(c, "503 5.5.0 MAIL already given");
        return;
    }
    if (!slice_starts_nocase(params, SLICE("FROM:"))) {
        lmtp_bad(c, "501 5.5.4 Invalid parameters");
        return;
    }
    a = arena_new();
    t = ARENA_NEW(a, struct lmtp_transaction);
    t->arena = a;
    t->fd = -1;
    error = smtp_path_parse(slice_from(params, 5), flags, a, &t->from, &rest);
    if (error != NULL) {
        lmtp_bad(c, "501 5.5.4 Invalid FROM: %s", error);
        arena_free(a);
        return;
    }
    error = smtp_params_parse(rest, list, &n);
    if (error != NULL) {
        lmtp_bad(c, "501 5.5.4 Invalid MAIL parameter: %s", error);
        arena_free(a);
        return;
    }
    good(c);
    for (size_t i = 0; i < n; i++) {
        bool is_body = slice_equal_str_nocase(list[i].key, "BODY") && list[i].has_value;
        if (is_body && body_is_valid(&list[i]))
            continue;
        lmtp_reply(c, "555 5.5.4 Unsupported %s", is_body ? "mail BODY type" : "parameters");
        arena_free(a);
        return;
    }
    /* A sender that does not parse is accepted and shown as the null path (recording broken-sender). */
    t->from_text = t->from.broken.at != NULL ? "" : smtp_path_text(a, &t->from);
    t->started = time(NULL);
    c->transactions++;
    t->session = c->transactions == 1 ? arena_strdup(a, c->session)
                                      : arena_printf(a, "%s:T%u", c->session, c->transactions);
    c->trans = t;
    c->state = "MAIL FROM";
    lmtp_reply(c, "250 2.1.0 OK");
}

static void run_rset(struct lmtp_client *c, struct slice params)
{
    if (params.size > 0) {
        lmtp_bad(c, "501 5.5.4 Invalid parameters");
        return;
    }
    good(c);
    if (c->trans != NULL)
        c->state = "READY";
    lmtp_transaction_end(c);
    lmtp_reply(c, "250 2.0.0 OK");
}

static void run_noop(struct lmtp_client *c, struct slice params)
{
    const char *error = params.size == 0 ? NULL : smtp_string_check(params);

    if (error != NULL) {
        lmtp_bad(c, "501 5.5.4 Invalid string parameter: %s", error);
        return;
    }
    good(c);
    lmtp_reply(c, "250 2.0.0 OK");
}

static void run_vrfy(struct lmtp_client *c, struct slice params)
{
    const char *error;

    if (params.size == 0)
        lmtp_bad(c, "501 5.5.4 Invalid parameters");
    else if ((error = smtp_string_check(params)) != NULL)
        lmtp_bad(c, "501 5.5.4 Invalid string parameter: %s", error);
    else {
        good(c);
        lmtp_reply(c, "252 2.3.3 Try RCPT instead");
    }
}

static void run_quit(struct lmtp_client *c, struct slice params)
{
    if (params.size > 0) {
        lmtp_bad(c, "501 5.5.4 Invalid parameters");
        return;
    }
    lmtp_reply(c, "221 2.0.0 Bye");
    lmtp_client_end(c, "Logged out");
}

static void run_starttls(struct lmtp_client *c, struct slice params)
{
    if (params.size > 0)
        lmtp_bad(c, "501 5.5.4 Invalid parameters");
    else if (c->tls)
        lmtp_reply(c, "502 5.5.1 TLS is already active.");
    else if (!starttls_offered(c))
        lmtp_reply(c, "502 5.5.1 TLS support is not enabled.");
    else {
        good(c);
        lmtp_transaction_end(c);
        lmtp_reply(c, "220 2.0.0 Begin TLS negotiation now.");
        lmtp_client_start_tls(c);
    }
}

static void run_data(struct lmtp_client *c, struct slice params)
{
    if (params.size > 0)
        lmtp_bad(c, "501 5.5.4 Invalid parameters");
    else
        lmtp_data_command(c);
}

static void run_auth(struct lmtp_client *c, struct slice params)
{
    (void)params;
    good(c);
    lmtp_reply(c, "502 5.5.1 Unsupported command");
}

static const struct {
    const char *name;
    void (*run)(struct lmtp_client *, struct slice params);
} commands[] = {
    {"LHLO", run_lhlo}, {"MAIL", run_mail},     {"RCPT", lmtp_rcpt_command}, {"DATA", run_data},
    {"BDAT", lmtp_bdat_command}, {"RSET", run_rset}, {"NOOP", run_noop},     {"VRFY", run_vrfy},
    {"QUIT", run_quit}, {"STARTTLS", run_starttls}, {"XCLIENT", lmtp_xclient}, {"AUTH", run_auth},
};

void lmtp_command(struct lmtp_client *c, const struct smtp_command *command)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (slice_equal_str_nocase(command->name, commands[i].name)) {
            commands[i].run(c, command->params);
            return;
        }
    lmtp_bad(c, "500 5.5.1 Unknown command");
}
