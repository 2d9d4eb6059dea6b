/* client_conn.c - the client protocol (auth.md 17): login processes, Postfix, Exim, doveadm auth.
 *
 * A request runs through: wait for the penalty, the exchange, a delayed answer if it failed; a success on a login
 * socket then stays until a master process picks it up. Whatever it waits for, the connection may end: the request's
 * owner pointer is cleared and late answers find nobody. */
#include "auth/conns.h"
#include "auth/scheme_impl.h"
#include "rpc/service.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>
#include <utlist.h>

#define LINE_MAX_BYTES 16384
#define REQUEST_SECS 150
#define REQUESTS_MOST 4096 /* open at a time on one connection */
#define COOKIE_SIZE 16

enum state { STATE_PENALTY, STATE_RUNNING, STATE_ASKED, STATE_DELAYED, STATE_DONE };

struct client_request {
    uint32_t id;
    struct client_conn *client;
    struct exchange exchange;
    struct request *request;
    enum state state;
    bool has_initial, final_resp_ok, final_sent;
    struct buffer initial;      /* raw; wiped */
    struct buffer answer;       /* of a delayed failure, or of an OK that waits for the final round */
    unsigned penalty;
    struct delayed *delayed;
    ev_timer timer;             /* penalty or delay_until; else the life of the request */
    UT_hash_handle hh;
};

struct client_conn {
    struct server *server;
    struct line_conn *conn;
    bool login, token, have_version, have_cpid;
    unsigned minor;
    uint32_t cpid, connect_uid;
    unsigned char cookie[COOKIE_SIZE];
    struct client_request *requests;
    struct client_conn *next, *prev;
};

static void handle_line(void *arg, struct slice line);
static void handle_closed(void *arg, const struct error *);
static const struct line_handler conn_handler = {.line = handle_line, .closed = handle_closed};

/* ---- connections ---------------------------------------------------------------------------------------------- */

static void send_greeting(struct client_conn *c)
{
    struct buffer b = {0};

    buffer_append_str(&b, "VERSION\t1\t2\n");
    if (c->token)
        buffer_printf(&b, "MECH\t%s%s\n", mech_token.name, mech_token.flags);
    for (size_t i = 0; !c->token && i < c->server->mechs.count; i++)
        buffer_printf(&b, "MECH\t%s%s\n", c->server->mechs.at[i]->name, c->server->mechs.at[i]->flags);
    buffer_printf(&b, "SPID\t%ld\nCUID\t%u\nCOOKIE\t", (long)getpid(), c->connect_uid);
    text_hex_encode(&b, slice_of(c->cookie, sizeof(c->cookie)));
    buffer_append_str(&b, "\nDONE\n");
    line_conn_send(c->conn, buffer_slice(&b));
    buffer_free(&b);
}

void client_conn_new(struct server *s, int fd, bool login, bool token)
{
    const struct line_limits limits = {.line_max = LINE_MAX_BYTES, .secret = true};
    struct client_conn *c = mem_zero(1, sizeof(*c));

    c->server = s;
    c->login = login || token;
    c->token = token;
    c->connect_uid = ++s->last_connect_uid;
    scheme_random(c->cookie, sizeof(c->cookie));
    c->conn = line_conn_new(s->loop, fd, &limits, &conn_handler, c);
    DL_APPEND(s->clients, c);
    send_greeting(c);
}

static void free_request(struct client_request *q)
{
    struct client_conn *c = q->client;

    HASH_DEL(c->requests, q);
    ev_timer_stop(c->server->loop, &q->timer);
    if (q->delayed != NULL)
        delay_remove(c->server->delay, q->delayed);
    if (q->exchange.mech->free != NULL)
        q->exchange.mech->free(&q->exchange);
    q->request->owner = NULL;
    request_unref(q->request);
    buffer_wipe(&q->initial);
    buffer_wipe(&q->answer);
    mem_free(q);
}

static void free_conn(struct client_conn *c)
{
    struct server *s = c->server;

    while (c->requests != NULL)
        free_request(c->requests);
    DL_DELETE(s->clients, c);
    line_conn_free(c->conn);
    explicit_bzero(c->cookie, sizeof(c->cookie));
    mem_free(c);
    if (s->service != NULL)
        service_client_end(s->service);
}

static void handle_closed(void *arg, const struct error *why)
{
    struct client_conn *c = arg;
    unsigned pending = 0;

    for (struct client_request *q = c->requests; q != NULL; q = q->hh.next)
        if (q->state != STATE_DELAYED)
            pending++;
    if (why->class == ERROR_LIMIT)
        log_error(NULL, "BUG: Auth client %u sent us more than %d bytes", c->cpid, LINE_MAX_BYTES);
    else if (why->class != ERROR_NONE)
        log_error(NULL, "%s", why->admin);
    else if (pending > 0)
        log_error(NULL, "auth client %u disconnected with %u pending requests: %s", c->cpid, pending,
                  "EOF");
    free_conn(c);
}

void client_conns_close(struct server *s)
{
    while (s->clients != NULL)
        free_conn(s->clients);
}

static void refuse_client(struct client_conn *c, const char *text)
{
    struct error e;

    error_set(&e, ERROR_INVALID, "%s", text);
    line_conn_fail(c->conn, &e);
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

static void arm(struct client_request *q, double seconds)
{
    struct ev_loop *loop = q->client->server->loop;

    ev_timer_stop(loop, &q->timer);
    ev_now_update(loop);
    ev_timer_set(&q->timer, seconds, 0.);
    ev_timer_start(loop, &q->timer);
}

void client_request_flush(struct client_request *q)
{
    line_conn_send(q->client->conn, buffer_slice(&q->answer));
    free_request(q);
}

static void fail_request(struct client_request *q, enum passdb_result result)
{
    struct client_conn *c = q->client;
    const struct auth_set *set = &q->request->auth->set;
    bool at_once = fields_has(&q->request->passdb_fields, "nodelay");

    reply_put_fail(&q->answer, q->id, q->request, result);
    ev_timer_stop(c->server->loop, &q->timer);
    if (!at_once && c->server->penalty != NULL && !q->request->no_penalty)
        penalty_failed(c->server->penalty, q->request, q->penalty);
    if (at_once || set->failure_delay <= 0) {
        client_request_flush(q);
        return;
    }
    q->state = STATE_DELAYED;
    q->delayed = delay_add(c->server->delay, q, set->failure_delay);
}

/* A line that is no verdict of a database: FAIL id <text>, at once. */
static void fail_now(struct client_conn *c, uint32_t id, const char *text)
{
    line_conn_print(c->conn, "FAIL\t%u\t%s\n", id, text);
}

static bool stays_for_master(const struct client_request *q)
{
    const struct fields *f = &q->request->passdb_fields;

    return q->client->login && !fields_has(f, "nologin") && !fields_has(f, "proxy");
}

static void send_success(struct client_request *q)
{
    struct client_conn *c = q->client;

    line_conn_send(c->conn, buffer_slice(&q->answer));
    buffer_wipe(&q->answer);
    if (!stays_for_master(q)) {
        free_request(q);
        return;
    }
    q->state = STATE_DONE;
    arm(q, REQUEST_SECS);
}

static void succeed_request(struct client_request *q, struct slice final)
{
    struct client_conn *c = q->client;
    struct request *r = q->request;
    int64_t wait;

    if (c->server->penalty != NULL && !r->no_penalty)
        penalty_succeeded(c->server->penalty, r, q->penalty);
    if (c->login)
        reply_finish_proxy(r);
    reply_put_ok(&q->answer, q->id, r, c->login, q->final_resp_ok ? final : SLICE_EMPTY);
    if (final.size > 0 && !q->final_resp_ok) {
        /* Older clients get the server's last words as a challenge and answer with nothing. */
        struct buffer b = {0};
        buffer_printf(&b, "CONT\t%u\t", q->id);
        text_base64_encode(&b, final);
        line_end(&b);
        line_conn_send(c->conn, buffer_slice(&b));
        buffer_free(&b);
        q->final_sent = true;
        q->state = STATE_ASKED;
        return;
    }
    wait = r->delay_until - (int64_t)time(NULL);
    if (r->delay_until != 0 && wait > 0) {
        q->final_sent = true;
        q->state = STATE_PENALTY;
        arm(q, (double)wait);
        return;
    }
    send_success(q);
}

static struct client_request *request_of(struct exchange *x)
{
    return (struct client_request *)(void *)((char *)x - offsetof(struct client_request, exchange));
}

static void exchange_challenged(struct exchange *x, struct slice data)
{
    struct client_request *q = request_of(x);
    struct buffer b = {0};

    buffer_printf(&b, "CONT\t%u\t", q->id);
    text_base64_encode(&b, data);
    line_end(&b);
    line_conn_send(q->client->conn, buffer_slice(&b));
    buffer_free(&b);
    q->state = STATE_ASKED;
}

static void exchange_finished(struct exchange *x, enum passdb_result result, struct slice final)
{
    struct client_request *q = request_of(x);

    event_request_finished(q->request, result == PASSDB_OK);
    if (result == PASSDB_OK)
        succeed_request(q, final);
    else
        fail_request(q, result);
}

/* ---- AUTH ----------------------------------------------------------------------------------------------------- */

static void begin_exchange(struct client_request *q)
{
    struct exchange *x = &q->exchange;

    q->state = STATE_RUNNING;
    arm(q, REQUEST_SECS);
    if (q->has_initial) {
        /* The buffer moves to the stack: the request may be gone when `input` returns. */
        struct buffer data = q->initial;
        memset(&q->initial, 0, sizeof(q->initial));
        x->mech->input(x, buffer_slice(&data));
        buffer_wipe(&data);
    } else if (x->mech->begin != NULL) {
        x->mech->begin(x);
    } else {
        exchange_challenged(x, SLICE_EMPTY);
    }
}

static void timer_ready(struct ev_loop *loop, ev_timer *w, int events)
{
    struct client_request *q = w->data;

    (void)loop, (void)events;
    switch (q->state) {
    case STATE_PENALTY:
        if (q->final_sent)
            send_success(q);
        else
            begin_exchange(q);
        break;
    case STATE_DONE: /* nobody came for it */
        free_request(q);
        break;
    default:
        fail_now(q->client, q->id, "reason=Authentication request timed out");
        free_request(q);
        break;
    }
}

static void penalty_known(void *arg, unsigned value, unsigned secs)
{
    struct request *r = arg;
    struct client_request *q;

    if (r->owner == NULL)
        return; /* the client has gone */
    q = request_of(r->owner);
    q->penalty = value;
    if (secs == 0)
        begin_exchange(q);
    else
        arm(q, secs);
}

/* "key=value" or a bare word. */
static void take_param(struct client_request *q, struct slice field)
{
    struct request *r = q->request;
    ptrdiff_t eq = slice_find(field, '=');
    const char *key = arena_str(r->arena, eq < 0 ? field : slice_head(field, (size_t)eq));

    if (strcmp(key, "final-resp-ok") == 0)
        q->final_resp_ok = true;
    else
        (void)request_set_param(r, key, eq < 0 ? NULL : arena_str(r->arena, slice_from(field, (size_t)eq + 1)));
}

/* resp=: -1 = not base64. */
static int take_initial(struct client_request *q, struct slice data)
{
    if (data.size == 0 && q->client->minor < 2)
        return 0; /* for old clients an empty one is none */
    q->has_initial = true;
    if (slice_equal_str(data, "="))
        return 0;
    buffer_reserve(&q->initial, data.size + 1);
    return text_base64_decode(&q->initial, data);
}

static const char *find_service(struct arena *arena, const struct slice *word, size_t count)
{
    for (size_t i = 3; i < count; i++)
        if (slice_starts(word[i], SLICE("service=")))
            return arena_str(arena, slice_from(word[i], 8));
    return NULL;
}

static const struct mech *offered(const struct client_conn *c, struct slice name)
{
    if (c->token)
        return slice_equal_str_nocase(name, mech_token.name) ? &mech_token : NULL;
    for (size_t i = 0; i < c->server->mechs.count; i++)
        if (slice_equal_str_nocase(name, c->server->mechs.at[i]->name))
            return c->server->mechs.at[i];
    return NULL;
}

static struct client_request *new_request(struct client_conn *c, uint32_t id, const struct mech *mech, const char *service)
{
    struct client_request *q = mem_zero(1, sizeof(*q));

    q->id = id;
    q->client = c;
    q->request = request_new(c->server, service);
    q->request->mech = mech->name;
    q->request->client_pid = c->cpid;
    q->request->owner = &q->exchange;
    q->request->begun_ns = time_monotonic_ns();
    q->exchange = (struct exchange){.mech = mech, .request = q->request, .challenge = exchange_challenged,
                                    .finished = exchange_finished};
    ev_timer_init(&q->timer, timer_ready, REQUEST_SECS, 0.);
    q->timer.data = q;
    HASH_ADD(hh, c->requests, id, sizeof(q->id), q);
    return q;
}

/* The certificate rules; false: answered. */
static bool check_certificate(struct client_request *q)
{
    const struct auth_set *set = &q->request->auth->set;
    const char *why = NULL;

    if (set->require_client_cert && !q->request->valid_cert)
        why = "Client didn't present valid SSL certificate";
    else if (set->username_from_cert && q->request->valid_cert &&
             (q->request->cert_username == NULL || *q->request->cert_username == '\0'))
        why = "SSL certificate didn't contain username";
    if (why == NULL)
        return true;
    request_info(q->request, "%s", why);
    fields_set(&q->request->passdb_fields, "reason", why);
    fail_request(q, PASSDB_MISMATCH);
    return false;
}

static void handle_auth(struct client_conn *c, struct arena *arena, const struct slice *word, size_t count)
{
    struct client_request *q;
    const struct mech *mech;
    const char *service;
    uint32_t id;

    if (count < 3 || !slice_to_u32(word[1], &id)) {
        refuse_client(c, arena_printf(arena, "BUG: Authentication client %u sent broken AUTH request", c->cpid));
        return;
    }
    HASH_FIND(hh, c->requests, &id, sizeof(id), q);
    if (q != NULL || HASH_COUNT(c->requests) >= REQUESTS_MOST) {
        refuse_client(c, arena_printf(arena, "BUG: Authentication client %u sent a duplicate ID %u", c->cpid, id));
        return;
    }
    mech = offered(c, word[2]);
    if (mech == NULL) {
        refuse_client(c, arena_printf(arena, "BUG: Authentication client %u requested unsupported authentication "
                                      "mechanism %s", c->cpid, arena_str(arena, slice_head(word[2], 64))));
        return;
    }
    service = find_service(arena, word, count);
    if (service == NULL) {
        refuse_client(c, arena_printf(arena, "BUG: Authentication client %u didn't specify service in request", c->cpid));
        return;
    }
    q = new_request(c, id, mech, service);
    for (size_t i = 3; i < count; i++) {
        if (!slice_starts(word[i], SLICE("resp="))) {
            take_param(q, word[i]);
        } else if (i + 1 != count) {
            refuse_client(c, arena_printf(arena, "BUG: Authentication client %u sent AUTH parameters after 'resp'",
                                          c->cpid));
            free_request(q);
            return;
        } else if (take_initial(q, slice_from(word[i], 5)) < 0) {
            request_info(q->request, "Invalid base64 data in initial response");
            fail_now(c, id, "code=invalid_base64\treason=Invalid base64 data in initial response");
            free_request(q);
            return;
        }
    }
    request_debug(q->request, "client in: AUTH\t%u\t%s\tservice=%s", id, mech->name, service);
    if (!check_certificate(q))
        return;
    if (c->server->penalty != NULL && !q->request->no_penalty)
        penalty_ask(c->server->penalty, q->request, penalty_known, q->request);
    else
        begin_exchange(q);
}

/* ---- CONT, CANCEL --------------------------------------------------------------------------------------------- */

static void handle_cont(struct client_conn *c, const struct slice *word, size_t count)
{
    struct client_request *q;
    struct buffer data = {0};
    uint32_t id;

    if (count < 3 || !slice_to_u32(word[1], &id)) {
        refuse_client(c, "BUG: Authentication client sent broken CONT request");
        return;
    }
    HASH_FIND(hh, c->requests, &id, sizeof(id), q);
    if (q == NULL) {
        fail_now(c, id, "reason=Authentication request timed out");
        return;
    }
    if (q->state != STATE_ASKED) {
        request_info(q->request, "Unexpected continuation");
        if (q->state == STATE_DELAYED || q->state == STATE_DONE)
            return; /* answered, or about to be */
        fail_now(c, id, "reason=Unexpected continuation");
        free_request(q);
        return;
    }
    buffer_reserve(&data, word[2].size + 1);
    if (!slice_equal_str(word[2], "=") && text_base64_decode(&data, word[2]) < 0) {
        request_info(q->request, "Invalid base64 data in continued response");
        fail_now(c, id, "code=invalid_base64\treason=Invalid base64 data in continued response");
        free_request(q);
    } else if (q->final_sent) {
        if (data.size == 0)
            send_success(q);
        else
            fail_request(q, PASSDB_MISMATCH);
    } else {
        q->state = STATE_RUNNING;
        arm(q, REQUEST_SECS);
        q->exchange.mech->input(&q->exchange, buffer_slice(&data));
    }
    buffer_wipe(&data);
}

static void handle_cancel(struct client_conn *c, const struct slice *word, size_t count)
{
    struct client_request *q;
    uint32_t id;

    if (count < 2 || !slice_to_u32(word[1], &id)) {
        refuse_client(c, "BUG: Authentication client sent broken CANCEL request");
        return;
    }
    HASH_FIND(hh, c->requests, &id, sizeof(id), q);
    if (q != NULL && q->state != STATE_DELAYED)
        free_request(q);
}

/* ---- lines ---------------------------------------------------------------------------------------------------- */

static void handle_version(struct client_conn *c, struct slice line)
{
    struct error e;

    if (line_check_version(line, NULL, 1, &c->minor, &e) < 0) {
        if (e.class == ERROR_UNSUPPORTED)
            error_set(&e, ERROR_INVALID, "Authentication client not compatible with this server "
                      "(mixed old and new binaries?)");
        else
            error_set(&e, ERROR_INVALID, "Authentication client sent invalid VERSION line: %.*s",
                      (int)slice_head(line, 100).size, (const char *)line.at);
        line_conn_fail(c->conn, &e);
        return;
    }
    c->have_version = true;
}

/* Of a client that comes again we may hear before we have read that it had gone. */
static bool peer_left(const struct client_conn *c)
{
    struct pollfd p = {.fd = line_conn_fd(c->conn), .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP)) != 0;
}

static void handle_cpid(struct client_conn *c, struct arena *arena, const struct slice *word, size_t count)
{
    struct client_conn *other;
    uint32_t pid;

    if (count < 2 || !slice_to_u32(word[1], &pid) || pid == 0) {
        refuse_client(c, "BUG: Authentication client said it's PID 0");
        return;
    }
    if (c->login)
        DL_FOREACH(c->server->clients, other) {
            if (other == c || !other->login || !other->have_cpid || other->cpid != pid || peer_left(other))
                continue;
            refuse_client(c, arena_printf(arena, "BUG: Authentication client gave a PID %u of existing connection", pid));
            return;
        }
    if (c->login) /* elsewhere the number means nothing and names nobody */
        c->cpid = pid;
    c->have_cpid = true;
}

static void handle_line(void *arg, struct slice line)
{
    struct client_conn *c = arg;
    struct arena *arena;
    struct slice *word;
    size_t count;

    if (!c->have_version) {
        handle_version(c, line);
        return;
    }
    arena = arena_new();
    count = text_tab_fields(arena, line, &word);
    if (!c->have_cpid && slice_equal_str(word[0], "CPID"))
        handle_cpid(c, arena, word, count);
    else if (!c->have_cpid)
        refuse_client(c, "BUG: Authentication client didn't send its PID");
    else if (slice_equal_str(word[0], "AUTH"))
        handle_auth(c, arena, word, count);
    else if (slice_equal_str(word[0], "CONT"))
        handle_cont(c, word, count);
    else if (slice_equal_str(word[0], "CANCEL"))
        handle_cancel(c, word, count);
    else
        refuse_client(c, arena_printf(arena, "BUG: Authentication client sent unknown command: %s",
                                      arena_str(arena, slice_head(line, 64))));
    for (size_t i = 0; i < count; i++)
        explicit_bzero((void *)(uintptr_t)word[i].at, word[i].size);
    arena_free(arena);
}

/* ---- for master connections ----------------------------------------------------------------------------------- */

enum pickup client_request_pick_up(struct server *s, uint32_t cpid, uint32_t id, struct slice cookie,
                                   struct request **out)
{
    struct client_conn *c;
    struct client_request *q = NULL;
    bool known = false;

    DL_FOREACH(s->clients, c) {
        if (!c->login || !c->have_cpid || c->cpid != cpid)
            continue;
        known = true;
        if (slice_equal_secret(cookie, slice_of(c->cookie, sizeof(c->cookie))))
            break;
    }
    if (c == NULL)
        return known ? PICKUP_WRONG_COOKIE : PICKUP_NO_CLIENT;
    HASH_FIND(hh, c->requests, &id, sizeof(id), q);
    if (q == NULL || q->state != STATE_DONE)
        return PICKUP_NO_REQUEST;
    *out = request_ref(q->request);
    free_request(q);
    return PICKUP_FOUND;
}
