/* auth_client.c - the login side of the auth protocol (auth.md 17).
 *
 * What the greeting must hold is what Dovecot's own login processes insist on, but a missing piece fails the
 * connection with a line in the log instead of a panic. Requests are found by id; ids count up and are never reused
 * while open. The rest of a response never reaches the wire unchecked: only the base64 alphabet does. */
#include "rpc/auth_client.h"

#include <uthash.h>

#define LINE_MAX_BYTES 16384 /* auth.md 17 */

struct auth_request {
    uint32_t id;
    struct auth_client *client;
    auth_answer_fn *answer;
    void *arg;
    ev_timer timeout;
    UT_hash_handle hh;
};

struct auth_client {
    struct ev_loop *loop;
    char *path;
    unsigned cpid;
    const struct auth_client_handler *handler;
    void *arg;
    struct line_conn *conn;
    ev_timer retry;          /* reconnects, and tells `lost` from the loop */
    bool tell_lost;
    bool leaving;            /* auth_client_reconnect: what is open is aborted from the loop */
    bool was_ready;          /* the connection that is lost had been good: the next is made at once */
    struct error lost;
    struct arena *greeting;  /* strings of the handshake */
    VEC(struct auth_mech_info) mechs;
    bool ready, have_version, have_cookie;
    uint32_t server_pid;
    unsigned char cookie[16];
    uint32_t last_id;
    struct auth_request *requests;
    bool *gone;              /* set when the client is freed inside a callback */
};

static void handle_line(void *arg, struct slice line);
static void handle_closed(void *arg, const struct error *);
static const struct line_handler conn_handler = {.line = handle_line, .closed = handle_closed};

static void start_conn(struct auth_client *c, int fd)
{
    const struct line_limits limits = {.line_max = LINE_MAX_BYTES, .secret = true};

    c->conn = line_conn_new(c->loop, fd, &limits, &conn_handler, c);
    line_conn_print(c->conn, "VERSION\t1\t2\nCPID\t%u\n", c->cpid);
}

static void connect_path(struct auth_client *c)
{
    struct error e;
    int fd = line_connect(c->path, 0, &e);

    if (fd >= 0) {
        start_conn(c, fd);
        return;
    }
    c->lost = e;
    c->tell_lost = true;
    ev_timer_set(&c->retry, 0., 0.);
    ev_timer_start(c->loop, &c->retry);
}

static bool abort_requests(struct auth_client *c);

static void retry_ready(struct ev_loop *loop, ev_timer *w, int events)
{
    struct auth_client *c = w->data;

    (void)events;
    if (c->leaving) {
        c->leaving = false;
        if (!abort_requests(c))
            return;
    }
    if (!c->tell_lost) {
        if (c->conn == NULL && c->path != NULL)
            connect_path(c);
        return;
    }
    c->tell_lost = false;
    if (c->path != NULL) {
        ev_timer_set(w, c->was_ready ? 0. : AUTH_RECONNECT_SECS, 0.);
        c->was_ready = false;
        ev_timer_start(loop, w);
    }
    c->handler->lost(c->arg, &c->lost); /* may free c */
}

struct auth_client *auth_client_new(struct ev_loop *loop, const char *path, int fd, unsigned cpid,
                                    const struct auth_client_handler *handler, void *arg)
{
    struct auth_client *c = mem_zero(1, sizeof(*c));

    c->loop = loop;
    c->path = mem_strdup_null(path);
    c->cpid = cpid;
    c->handler = handler;
    c->arg = arg;
    c->greeting = arena_new();
    ev_timer_init(&c->retry, retry_ready, 0., 0.);
    c->retry.data = c;
    if (path != NULL)
        connect_path(c);
    else if (fd >= 0)
        start_conn(c, fd);
    return c;
}

static void free_request(struct auth_request *r)
{
    HASH_DEL(r->client->requests, r);
    ev_timer_stop(r->client->loop, &r->timeout);
    mem_free(r);
}

static void forget_conn(struct auth_client *c)
{
    line_conn_free(c->conn);
    c->conn = NULL;
    c->ready = c->have_version = c->have_cookie = false;
    c->server_pid = 0;
    c->mechs.count = 0;
    explicit_bzero(c->cookie, sizeof(c->cookie));
    arena_reset(c->greeting);
}

void auth_client_free(struct auth_client *c)
{
    if (c == NULL)
        return;
    while (c->requests != NULL)
        free_request(c->requests);
    forget_conn(c);
    ev_timer_stop(c->loop, &c->retry);
    arena_free(c->greeting);
    VEC_FREE(&c->mechs);
    mem_free(c->path);
    if (c->gone != NULL)
        *c->gone = true;
    mem_free(c);
}

void auth_client_give_fd(struct auth_client *c, int fd)
{
    forget_conn(c);
    start_conn(c, fd);
}

void auth_client_reconnect(struct auth_client *c)
{
    if (c->path == NULL || c->leaving)
        return;
    forget_conn(c);
    c->leaving = true;
    ev_timer_stop(c->loop, &c->retry);
    ev_timer_set(&c->retry, 0., 0.);
    ev_timer_start(c->loop, &c->retry);
}

bool auth_client_ready(const struct auth_client *c)
{
    return c->ready;
}

const struct auth_mech_info *auth_client_mechs(const struct auth_client *c, size_t *count)
{
    *count = c->mechs.count;
    return c->mechs.at;
}

const struct auth_mech_info *auth_client_mech(const struct auth_client *c, struct slice name)
{
    for (size_t i = 0; i < c->mechs.count; i++)
        if (slice_equal_str_nocase(name, c->mechs.at[i].name))
            return &c->mechs.at[i];
    return NULL;
}

uint32_t auth_client_server_pid(const struct auth_client *c)
{
    return c->server_pid;
}

uint32_t auth_client_cpid(const struct auth_client *c)
{
    return c->cpid;
}

const unsigned char *auth_client_cookie(const struct auth_client *c)
{
    return c->cookie;
}

/* ---- what the server says ------------------------------------------------------------------------------------- */

/* Ends one request with its callback. False: the client was freed in it. */
static bool finish_request(struct auth_request *r, enum auth_answer answer, const struct rpc_fields *fields)
{
    struct auth_client *c = r->client;
    auth_answer_fn *call = r->answer;
    void *arg = r->arg;
    bool gone = false, *outer = c->gone;

    free_request(r);
    c->gone = &gone;
    call(arg, answer, SLICE_EMPTY, fields);
    if (gone) {
        if (outer != NULL)
            *outer = true;
        return false;
    }
    c->gone = outer;
    return true;
}

/* False: the client was freed meanwhile. */
static bool abort_requests(struct auth_client *c)
{
    static const struct rpc_fields none = {0};

    while (c->requests != NULL)
        if (!finish_request(c->requests, AUTH_ABORTED, &none))
            return false;
    return true;
}

static void handle_closed(void *arg, const struct error *why)
{
    struct auth_client *c = arg;

    c->was_ready = c->ready;
    c->lost = *why;
    if (why->class == ERROR_NONE)
        error_set(&c->lost, ERROR_TEMPORARY, "Disconnected from auth server");
    forget_conn(c);
    c->tell_lost = true;
    ev_timer_stop(c->loop, &c->retry);
    ev_timer_set(&c->retry, 0., 0.);
    ev_timer_start(c->loop, &c->retry);
    (void)abort_requests(c);
}

static void refuse_server(struct auth_client *c, const char *what, struct slice line)
{
    struct error e;

    error_set(&e, ERROR_INVALID, "%s%.*s", what, (int)slice_head(line, 100).size, (const char *)line.at);
    line_conn_fail(c->conn, &e);
}

static const struct { const char *word; unsigned flag; } mech_flags[] = {
    {"private", AUTH_MECH_PRIVATE},       {"anonymous", AUTH_MECH_ANONYMOUS},
    {"plaintext", AUTH_MECH_PLAINTEXT},   {"dictionary", AUTH_MECH_DICTIONARY},
    {"active", AUTH_MECH_ACTIVE},         {"forward-secrecy", AUTH_MECH_FORWARD_SECRECY},
    {"mutual-auth", AUTH_MECH_MUTUAL_AUTH},
};

static void add_mech(struct auth_client *c, const struct slice *word, size_t count)
{
    struct auth_mech_info mech = {0};

    if (count < 2 || word[1].size == 0)
        return;
    mech.name = arena_str(c->greeting, word[1]);
    for (size_t i = 2; i < count; i++)
        for (size_t k = 0; k < sizeof(mech_flags) / sizeof(mech_flags[0]); k++)
            if (slice_equal_str(word[i], mech_flags[k].word))
                mech.flags |= mech_flags[k].flag;
    VEC_PUSH(&c->mechs, mech);
}

static void finish_greeting(struct auth_client *c)
{
    if (!c->have_version)
        refuse_server(c, "BUG: Authentication server didn't send its version", SLICE_EMPTY);
    else if (c->mechs.count == 0)
        refuse_server(c, "BUG: Authentication server returned no mechanisms", SLICE_EMPTY);
    else if (!c->have_cookie)
        refuse_server(c, "BUG: Authentication server didn't send a cookie", SLICE_EMPTY);
    else if (c->server_pid == 0)
        refuse_server(c, "BUG: Authentication server didn't send its PID", SLICE_EMPTY);
    else {
        c->ready = true;
        if (c->handler->ready != NULL)
            c->handler->ready(c->arg);
    }
}

static void handle_greeting(struct auth_client *c, struct arena *arena, struct slice line)
{
    struct slice *word;
    size_t count = text_tab_fields(arena, line, &word);

    if (slice_equal_str(word[0], "VERSION")) {
        unsigned minor;
        struct error e;
        if (line_check_version(line, NULL, 1, &minor, &e) < 0) {
            line_conn_fail(c->conn, &e);
            return;
        }
        c->have_version = true;
    } else if (slice_equal_str(word[0], "MECH")) {
        add_mech(c, word, count);
    } else if (slice_equal_str(word[0], "SPID")) {
        if (count < 2 || !slice_to_u32(word[1], &c->server_pid))
            refuse_server(c, "BUG: Authentication server sent invalid PID: ", line);
    } else if (slice_equal_str(word[0], "CUID")) {
        /* the connection's number there; only APOP challenges use it */
    } else if (slice_equal_str(word[0], "COOKIE")) {
        struct buffer raw = {0};
        if (count >= 2 && text_hex_decode(&raw, word[1]) == 0 && raw.size == sizeof(c->cookie)) {
            memcpy(c->cookie, raw.at, sizeof(c->cookie));
            c->have_cookie = true;
        }
        buffer_wipe(&raw);
        if (!c->have_cookie)
            refuse_server(c, "BUG: Authentication server sent invalid cookie", SLICE_EMPTY);
    } else if (slice_equal_str(word[0], "DONE")) {
        finish_greeting(c);
    } else {
        refuse_server(c, "Auth server sent unknown handshake: ", line);
    }
}

static void handle_answer(struct auth_client *c, struct arena *arena, struct slice line)
{
    struct slice *word;
    size_t count = text_tab_fields(arena, line, &word);
    struct auth_request *r;
    struct rpc_fields fields;
    uint32_t id;

    if (count < 2 || !slice_to_u32(word[1], &id)) {
        refuse_server(c, "BUG: Authentication server sent broken line: ", slice_head(word[0], 20));
        return;
    }
    HASH_FIND(hh, c->requests, &id, sizeof(id), r);
    if (r == NULL)
        return; /* cancelled, or timed out here */
    fields = rpc_fields_parse(arena, word, count, 2);
    if (slice_equal_str(word[0], "OK"))
        (void)finish_request(r, AUTH_OK, &fields);
    else if (slice_equal_str(word[0], "FAIL"))
        (void)finish_request(r, AUTH_FAIL, &fields);
    else if (slice_equal_str(word[0], "CONT"))
        r->answer(r->arg, AUTH_CONTINUE, count >= 3 ? word[2] : SLICE_EMPTY, &(struct rpc_fields){0});
    else
        refuse_server(c, "BUG: Authentication server sent unknown command: ", slice_head(word[0], 20));
}

static void handle_line(void *arg, struct slice line)
{
    struct auth_client *c = arg;
    struct arena *arena = arena_new();

    if (c->ready)
        handle_answer(c, arena, line);
    else
        handle_greeting(c, arena, line);
    arena_free(arena);
}

/* ---- requests ------------------------------------------------------------------------------------------------- */

static bool is_base64(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char ch = text.at[i];
        if (!((ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '+' ||
              ch == '/' || ch == '='))
            return false;
    }
    return true;
}

static void add_ip(struct buffer *b, const char *key, const struct net_endpoint *e)
{
    char text[NET_IP_TEXT];

    if (e->ip.family == 0)
        return;
    line_pair(b, key, net_ip_text(&e->ip, text));
}

static void add_port(struct buffer *b, const char *key, const struct net_endpoint *e)
{
    if (e->port != 0)
        buffer_printf(b, "\t%s=%u", key, e->port);
}

static bool same_endpoint(const struct net_endpoint *a, const struct net_endpoint *b)
{
    return net_ip_equal(&a->ip, &b->ip) && a->port == b->port;
}

/* The order is that of Dovecot's own clients (auth.md 17). */
static void put_params(struct buffer *b, const struct auth_request_info *info)
{
    line_pair(b, "service", info->service);
    if (info->final_resp_ok)
        buffer_append_str(b, "\tfinal-resp-ok");
    if (info->secured == AUTH_SECURED_TLS)
        buffer_append_str(b, "\tsecured=tls");
    else if (info->secured == AUTH_SECURED)
        buffer_append_str(b, "\tsecured");
    if (info->no_penalty)
        buffer_append_str(b, "\tno-penalty");
    if (info->valid_client_cert)
        buffer_append_str(b, "\tvalid-client-cert");
    if (info->debug)
        buffer_append_str(b, "\tdebug");
    line_pair(b, "session", info->session);
    line_pair(b, "cert_username", info->cert_username);
    add_ip(b, "lip", &info->local);
    add_ip(b, "rip", &info->remote);
    add_port(b, "lport", &info->local);
    add_port(b, "rport", &info->remote);
    if (!same_endpoint(&info->local, &info->real_local) || !same_endpoint(&info->remote, &info->real_remote)) {
        add_ip(b, "real_lip", &info->real_local);
        add_ip(b, "real_rip", &info->real_remote);
        add_port(b, "real_lport", &info->real_local);
        add_port(b, "real_rport", &info->real_remote);
    }
    line_pair(b, "local_name", info->local_name);
    line_pair(b, "client_id", info->client_id);
    line_pair(b, "forward_fields", info->forward_fields);
    if (info->has_initial) {
        /* An empty response is written as "=" so that no version takes it for an absent one. */
        buffer_append_str(b, "\tresp=");
        if (info->initial.size == 0)
            buffer_append_byte(b, '=');
        buffer_append_slice(b, info->initial);
    }
}

static void request_timed_out(struct ev_loop *loop, ev_timer *w, int events)
{
    static const struct rpc_fields none = {0};
    struct auth_request *r = w->data;

    (void)loop, (void)events;
    (void)finish_request(r, AUTH_ABORTED, &none);
}

static void send_secret(struct auth_client *c, struct buffer *b)
{
    line_conn_send(c->conn, buffer_slice(b));
    buffer_wipe(b);
}

struct auth_request *auth_request_start(struct auth_client *c, const struct auth_request_info *info,
                                        auth_answer_fn *answer, void *arg, struct error *e)
{
    struct auth_request *r;
    struct buffer b = {0};

    if (!c->ready) {
        error_set(e, ERROR_TEMPORARY, "Not connected to the auth server");
        return NULL;
    }
    if (auth_client_mech(c, slice_from_str(info->mech)) == NULL) {
        error_set(e, ERROR_UNSUPPORTED, "Unsupported authentication mechanism.");
        return NULL;
    }
    if (info->has_initial && !is_base64(info->initial)) {
        error_set(e, ERROR_INVALID, "Invalid base64 data in initial response");
        return NULL;
    }
    r = mem_zero(1, sizeof(*r));
    do {
        r->id = ++c->last_id;
        struct auth_request *other;
        HASH_FIND(hh, c->requests, &r->id, sizeof(r->id), other);
        if (other == NULL && r->id != 0)
            break;
    } while (true);
    r->client = c;
    r->answer = answer;
    r->arg = arg;
    ev_timer_init(&r->timeout, request_timed_out, AUTH_CLIENT_TIMEOUT_SECS, 0.);
    r->timeout.data = r;
    ev_now_update(c->loop);
    ev_timer_start(c->loop, &r->timeout);
    HASH_ADD(hh, c->requests, id, sizeof(r->id), r);

    buffer_reserve(&b, 1024 + info->initial.size); /* so that the response is not moved about */
    buffer_printf(&b, "AUTH\t%u\t", r->id);
    buffer_append_str(&b, auth_client_mech(c, slice_from_str(info->mech))->name);
    put_params(&b, info);
    line_end(&b);
    send_secret(c, &b);
    return r;
}

int auth_request_continue(struct auth_request *r, struct slice base64, struct error *e)
{
    struct buffer b = {0};

    if (!is_base64(base64))
        return error_set(e, ERROR_INVALID, "Invalid base64 in response");
    buffer_reserve(&b, 64 + base64.size);
    buffer_printf(&b, "CONT\t%u\t", r->id);
    buffer_append_slice(&b, base64);
    line_end(&b);
    send_secret(r->client, &b);
    return 0;
}

void auth_request_cancel(struct auth_request *r)
{
    if (r->client->conn != NULL)
        line_conn_print(r->client->conn, "CANCEL\t%u\n", r->id);
    free_request(r);
}

void auth_client_forget(struct auth_client *c, uint32_t id)
{
    if (c->conn != NULL)
        line_conn_print(c->conn, "CANCEL\t%u\n", id);
}

uint32_t auth_request_id(const struct auth_request *r)
{
    return r->id;
}
