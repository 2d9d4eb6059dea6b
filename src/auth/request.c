/* request.c - life of a request, its parameters, and its log lines.
 *
 * Requests are counted references: a database in a worker may answer after the client has gone. */
#include "auth/auth.h"

#include <nettle/sha1.h>
#include <stdio.h>
#include <stdlib.h>

struct request *request_new(struct server *server, const char *service)
{
    struct arena *arena = arena_new();
    struct request *r = ARENA_NEW(arena, struct request);

    r->arena = arena;
    r->references = 1;
    r->server = server;
    r->service = arena_strdup(arena, service);
    r->auth = server_auth(server, service);
    fields_init(&r->passdb_fields, arena);
    fields_init(&r->userdb_fields, arena);
    fields_init(&r->raw, arena);
    return r;
}

struct request *request_ref(struct request *r)
{
    r->references++;
    return r;
}

static void wipe_text(char **text)
{
    if (*text != NULL)
        explicit_bzero(*text, strlen(*text));
    mem_free(*text);
    *text = NULL;
}

void request_unref(struct request *r)
{
    if (r == NULL || --r->references > 0)
        return;
    wipe_text(&r->password);
    wipe_text(&r->stored);
    mem_free(r->wanted_scheme);
    buffer_wipe(&r->credentials);
    fields_free(&r->passdb_fields);
    fields_free(&r->userdb_fields);
    fields_free(&r->raw);
    arena_free(r->arena);
}

static const char *copy(struct request *r, const char *text)
{
    return text == NULL ? NULL : arena_strdup(r->arena, text);
}

struct request *request_branch(const struct request *from)
{
    struct request *r = request_new(from->server, from->service);

    r->user = copy(r, from->user);
    r->original_user = copy(r, from->original_user);
    r->translated_user = copy(r, from->translated_user);
    r->master_user = copy(r, from->master_user);
    r->session = copy(r, from->session);
    r->local_name = copy(r, from->local_name);
    r->client_id = copy(r, from->client_id);
    r->local = from->local;
    r->remote = from->remote;
    r->real_local = from->real_local;
    r->real_remote = from->real_remote;
    r->client_pid = from->client_pid;
    r->session_pid = from->session_pid;
    r->secured = from->secured;
    r->tls = from->tls;
    r->debug = from->debug;
    r->userdb_lookup = from->userdb_lookup;
    return r;
}

/* ---- parameters ----------------------------------------------------------------------------------------------- */

static void set_ip(struct net_endpoint *e, const char *value)
{
    struct net_ip ip;

    if (value != NULL && net_ip_parse(slice_from_str(value), &ip))
        e->ip = ip;
}

static void set_port(struct net_endpoint *e, const char *value)
{
    uint32_t port;

    if (value != NULL && slice_to_u32(slice_from_str(value), &port) && port <= 65535)
        e->port = (uint16_t)port;
}

/* The login process forwards what a trusted front end said: base64 of TAB-escaped k=v. Each name gets "forward_" in
 * front, always: a bare "nopassword" would otherwise become that field (CVE-2026-42008, oracle-build 1.2). */
static void set_forward_fields(struct request *r, const char *value)
{
    struct buffer raw = {0};
    struct slice *field;
    size_t count;

    if (value == NULL || text_base64_decode(&raw, slice_from_str(value)) < 0) {
        buffer_free(&raw);
        return;
    }
    count = text_tab_fields(r->arena, buffer_slice(&raw), &field);
    for (size_t i = 0; i < count && i < 100; i++) {
        ptrdiff_t eq = slice_find(field[i], '=');
        struct slice name = eq < 0 ? field[i] : slice_head(field[i], (size_t)eq);
        if (name.size == 0)
            continue;
        fields_set(&r->passdb_fields, arena_printf(r->arena, "forward_%s", arena_str(r->arena, name)),
                   eq < 0 ? "" : arena_str(r->arena, slice_from(field[i], (size_t)eq + 1)));
    }
    buffer_free(&raw);
}

bool request_set_param(struct request *r, const char *key, const char *value)
{
    const struct { const char *key; const char **at; } texts[] = {
        {"session", &r->session}, {"local_name", &r->local_name}, {"client_id", &r->client_id},
        {"cert_username", &r->cert_username},
    };
    const struct { const char *ip, *port; struct net_endpoint *at; } ends[] = {
        {"lip", "lport", &r->local}, {"rip", "rport", &r->remote},
        {"real_lip", "real_lport", &r->real_local}, {"real_rip", "real_rport", &r->real_remote},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (strcmp(key, texts[i].key) == 0) {
            *texts[i].at = arena_strdup(r->arena, value == NULL ? "" : value);
            return true;
        }
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (strcmp(key, ends[i].ip) == 0)
            return set_ip(ends[i].at, value), true;
        if (strcmp(key, ends[i].port) == 0)
            return set_port(ends[i].at, value), true;
    }
    if (strcmp(key, "secured") == 0) {
        r->secured = true;
        r->tls = value != NULL && strcmp(value, "tls") == 0;
    } else if (strcmp(key, "valid-client-cert") == 0) {
        r->valid_cert = true;
    } else if (strcmp(key, "no-penalty") == 0) {
        r->no_penalty = true;
    } else if (strcmp(key, "debug") == 0) {
        r->debug = true;
    } else if (strcmp(key, "forward_fields") == 0) {
        set_forward_fields(r, value);
    } else {
        return false;
    }
    return true;
}

void request_set_password(struct request *r, const char *password)
{
    wipe_text(&r->password);
    r->password = mem_strdup(password);
}

/* ---- log lines (auth.md 23) ----------------------------------------------------------------------------------- */

static void put_clean(struct buffer *b, const char *text, size_t most)
{
    for (size_t i = 0; text[i] != '\0' && i < most; i++)
        buffer_append_byte(b, (unsigned char)text[i] < 0x20 ? '?' : (unsigned char)text[i]);
}

/* "<passdb name or mechanism>(<user>[,<ip>][,master][,<session>]): " */
static void put_prefix(struct buffer *b, const struct request *r)
{
    char ip[NET_IP_TEXT];

    if (r->link != NULL) {
        buffer_append_str(b, r->link->name);
    } else if (r->mech != NULL) {
        for (const char *c = r->mech; *c != '\0'; c++)
            buffer_append_byte(b, (unsigned char)text_lower(*c));
    } else {
        buffer_append_str(b, "auth");
    }
    buffer_append_byte(b, '(');
    put_clean(b, r->user == NULL || r->refused_user ? "?" : r->user, 64);
    if (r->remote.ip.family != 0)
        buffer_printf(b, ",%s", net_ip_text(&r->remote.ip, ip));
    if (r->login_user != NULL)
        buffer_append_str(b, ",master");
    if (r->session != NULL) {
        buffer_append_str(b, ",<");
        put_clean(b, r->session, 64);
        buffer_append_byte(b, '>');
    }
    buffer_append_str(b, "): ");
}

static void write_line(const struct request *r, enum log_level level, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));

static void write_line(const struct request *r, enum log_level level, const char *fmt, va_list args)
{
    struct buffer b = {0};

    buffer_append_str(&b, r->server->log_context);
    put_prefix(&b, r);
    buffer_vprintf(&b, fmt, args);
    log_write(NULL, level, "%s", buffer_cstr(&b));
    buffer_free(&b);
}

void request_debug(const struct request *r, const char *fmt, ...)
{
    va_list args;

    if (!r->auth->set.debug && !r->debug)
        return;
    va_start(args, fmt);
    write_line(r, LOG_LEVEL_DEBUG, fmt, args);
    va_end(args);
}

static bool is_verbose(const struct request *r)
{
    if (r->link != NULL && r->link->verbose >= 0)
        return r->link->verbose > 0;
    return r->auth->set.verbose;
}

void request_info(const struct request *r, const char *fmt, ...)
{
    va_list args;

    if (!is_verbose(r))
        return;
    va_start(args, fmt);
    write_line(r, LOG_LEVEL_INFO, fmt, args);
    va_end(args);
}

void request_notice(const struct request *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_line(r, LOG_LEVEL_INFO, fmt, args);
    va_end(args);
}

void request_error(const struct request *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_line(r, LOG_LEVEL_ERROR, fmt, args);
    va_end(args);
}

/* auth_verbose_passwords: no, plain, sha1, yes; each optionally ":N". */
static void put_given_password(struct buffer *b, const struct request *r)
{
    const char *how = r->auth->set.verbose_passwords, *colon = strchr(how, ':');
    size_t word = colon == NULL ? strlen(how) : (size_t)(colon - how);
    size_t most = colon == NULL ? SIZE_MAX : (size_t)strtoul(colon + 1, NULL, 10);

    if (strcmp(how, "no") == 0)
        return;
    buffer_append_byte(b, ' '); /* also where no password follows, as with Dovecot */
    if (r->password == NULL)
        return;
    if (most == 0)
        most = SIZE_MAX;
    if ((word == 5 && strncmp(how, "plain", 5) == 0) || (word == 3 && strncmp(how, "yes", 3) == 0)) {
        buffer_append_str(b, "(given password: ");
        put_clean(b, r->password, most);
        buffer_append_byte(b, ')');
    } else if (word == 4 && strncmp(how, "sha1", 4) == 0) {
        unsigned char digest[SHA1_DIGEST_SIZE];
        struct sha1_ctx ctx;
        struct buffer hex = {0};
        sha1_init(&ctx);
        sha1_update(&ctx, strlen(r->password), (const uint8_t *)r->password);
        sha1_digest(&ctx, sizeof(digest), digest);
        text_hex_encode(&hex, slice_of(digest, sizeof(digest)));
        buffer_append_str(b, "(SHA1 of given password: ");
        buffer_append_slice(b, slice_head(buffer_slice(&hex), most));
        buffer_append_byte(b, ')');
        buffer_free(&hex);
    }
}

static void log_refusal(const struct request *r, const char *what)
{
    struct buffer b = {0};

    if (!is_verbose(r))
        return;
    buffer_append_str(&b, what);
    put_given_password(&b, r);
    /* Dovecot says this only where it logs passwords. */
    if (strcmp(r->auth->set.verbose_passwords, "no") != 0 && r->chain != NULL && r->position + 1 < r->chain->count)
        buffer_append_str(&b, " - trying the next passdb");
    request_info(r, "%s", buffer_cstr(&b));
    buffer_wipe(&b);
}

void request_log_mismatch(const struct request *r, const char *what)
{
    log_refusal(r, what == NULL ? "Password mismatch" : what);
}

void request_log_unknown(const struct request *r, const char *what)
{
    log_refusal(r, what == NULL ? "unknown user" : what);
}
