/* auth_master.c - the master side of the auth protocol (auth.md 19).
 *
 * The server reads at most 1024 bytes a line and disconnects otherwise, with all lookups of the connection: a
 * request that would be longer is answered here. Names with TAB, CR or LF exist nowhere (auth.md 19). */
#include "rpc/auth_client.h"

#include <uthash.h>

#define REQUEST_MAX 1024
#define REPLY_MAX (64 * 1024)
#define LIST_TIMEOUT_SECS (30 * 60)

enum lookup_kind { LOOKUP_LOGIN, LOOKUP_USER, LOOKUP_PASS, LOOKUP_LIST, LOOKUP_FLUSH };

struct auth_lookup {
    uint32_t id;
    enum lookup_kind kind;
    struct auth_master *master;
    auth_lookup_fn *done;
    void (*each)(void *arg, const char *user);
    void *arg;
    char *mask;
    ev_timer timer;          /* time-out, or the deferred failure in `error` */
    struct error error;
    UT_hash_handle hh;
};

struct auth_master {
    struct ev_loop *loop;
    char *path;
    struct line_conn *conn;
    bool greeted;
    ev_tstamp failed_at;     /* of the last failed connect */
    struct error failure;
    uint32_t last_id;
    struct auth_lookup *lookups;
    bool *gone;
};

static void handle_line(void *arg, struct slice line);
static void handle_closed(void *arg, const struct error *);
static const struct line_handler conn_handler = {.line = handle_line, .closed = handle_closed};

static void start_conn(struct auth_master *m, int fd)
{
    const struct line_limits limits = {.line_max = REPLY_MAX};

    m->conn = line_conn_new(m->loop, fd, &limits, &conn_handler, m);
    m->greeted = false;
    line_conn_send_version(m->conn, NULL, 1, 1);
}

struct auth_master *auth_master_new(struct ev_loop *loop, const char *path, int fd)
{
    struct auth_master *m = mem_zero(1, sizeof(*m));

    m->loop = loop;
    m->path = mem_strdup_null(path);
    m->failed_at = -AUTH_RECONNECT_SECS;
    if (fd >= 0)
        start_conn(m, fd);
    return m;
}

static void free_lookup(struct auth_lookup *l)
{
    HASH_DEL(l->master->lookups, l);
    ev_timer_stop(l->master->loop, &l->timer);
    mem_free(l->mask);
    mem_free(l);
}

void auth_master_free(struct auth_master *m)
{
    if (m == NULL)
        return;
    while (m->lookups != NULL)
        free_lookup(m->lookups);
    line_conn_free(m->conn);
    mem_free(m->path);
    if (m->gone != NULL)
        *m->gone = true;
    mem_free(m);
}

void auth_master_give_fd(struct auth_master *m, int fd)
{
    line_conn_free(m->conn);
    start_conn(m, fd);
}

/* Connected, or connects now. */
static int ensure_conn(struct auth_master *m, struct error *e)
{
    int fd;

    if (m->conn != NULL)
        return 0;
    if (m->path == NULL)
        return error_set(e, ERROR_TEMPORARY, "auth-master: not connected");
    ev_now_update(m->loop);
    if (ev_now(m->loop) - m->failed_at < AUTH_RECONNECT_SECS) {
        *e = m->failure;
        return -1;
    }
    fd = line_connect(m->path, 1000, e);
    if (fd < 0) {
        error_context(e, "auth-master: ");
        m->failed_at = ev_now(m->loop);
        m->failure = *e;
        return -1;
    }
    start_conn(m, fd);
    return 0;
}

/* False: the client was freed in the callback. */
static bool finish_lookup(struct auth_lookup *l, const struct error *e, const char *user, const struct rpc_fields *fields)
{
    static const struct rpc_fields none = {0};
    struct auth_master *m = l->master;
    auth_lookup_fn *done = l->done;
    void *arg = l->arg;
    bool gone = false, *outer = m->gone;

    free_lookup(l);
    m->gone = &gone;
    done(arg, e, user, fields == NULL ? &none : fields);
    if (gone) {
        if (outer != NULL)
            *outer = true;
        return false;
    }
    m->gone = outer;
    return true;
}

static void timer_ready(struct ev_loop *loop, ev_timer *w, int events)
{
    struct auth_lookup *l = w->data;
    struct error e = l->error;

    (void)loop, (void)events;
    if (e.class == ERROR_NONE)
        error_set(&e, ERROR_TEMPORARY, "auth-master: request [%u] timed out", l->id);
    (void)finish_lookup(l, &e, NULL, NULL);
}

static void handle_closed(void *arg, const struct error *why)
{
    struct auth_master *m = arg;
    struct error e;

    error_set(&e, ERROR_TEMPORARY, "auth-master: Disconnected from auth server%s%s",
              why->class == ERROR_NONE ? "" : ": ", why->class == ERROR_NONE ? "" : why->admin);
    line_conn_free(m->conn);
    m->conn = NULL;
    while (m->lookups != NULL)
        if (!finish_lookup(m->lookups, &e, NULL, NULL))
            return;
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

static void answer_found(struct auth_lookup *l, struct arena *arena, const struct slice *word, size_t count)
{
    struct error e;
    struct rpc_fields fields;
    const char *user = NULL;

    error_clear(&e);
    if (l->kind == LOOKUP_PASS) {
        fields = rpc_fields_parse(arena, word, count, 2);
        user = rpc_fields_get(&fields, "user");
    } else {
        if (count >= 3)
            user = arena_str(arena, word[2]);
        fields = rpc_fields_parse(arena, word, count, 3);
    }
    if (user == NULL || *user == '\0')
        error_set(&e, ERROR_TEMPORARY, "auth-master: reply without a user name");
    (void)finish_lookup(l, &e, user, &fields);
}

static void answer_failed(struct auth_lookup *l, struct arena *arena, const struct slice *word, size_t count)
{
    struct rpc_fields fields = rpc_fields_parse(arena, word, count, 2);
    const char *reason = rpc_fields_get(&fields, "reason");
    struct error e;

    error_set(&e, ERROR_TEMPORARY, "auth-master: request [%u]: %s", l->id, reason != NULL ? reason : "lookup failed");
    if (reason != NULL)
        error_user(&e, reason);
    (void)finish_lookup(l, &e, NULL, &fields);
}

static void answer_listed(struct auth_lookup *l, struct arena *arena, const struct slice *word, size_t count)
{
    if (count < 3 || (l->mask != NULL && !rpc_wildcard_match(slice_from_str(l->mask), word[2])))
        return;
    ev_timer_stop(l->master->loop, &l->timer);
    ev_timer_set(&l->timer, LIST_TIMEOUT_SECS, 0.);
    ev_timer_start(l->master->loop, &l->timer);
    l->each(l->arg, arena_str(arena, word[2]));
}

static void answer_lookup(struct auth_master *m, struct arena *arena, const struct slice *word, size_t count)
{
    struct auth_lookup *l;
    struct error e;
    uint32_t id;

    if (count < 2 || !slice_to_u32(word[1], &id))
        return;
    HASH_FIND(hh, m->lookups, &id, sizeof(id), l);
    if (l == NULL)
        return;
    error_clear(&e);
    if (slice_equal_str(word[0], "USER") || slice_equal_str(word[0], "PASS")) {
        answer_found(l, arena, word, count);
    } else if (slice_equal_str(word[0], "NOTFOUND")) {
        error_set(&e, ERROR_NOT_FOUND, "auth-master: request [%u]: user not found", id);
        (void)finish_lookup(l, &e, NULL, NULL);
    } else if (slice_equal_str(word[0], "FAIL")) {
        answer_failed(l, arena, word, count);
    } else if (slice_equal_str(word[0], "LIST") && l->kind == LOOKUP_LIST) {
        answer_listed(l, arena, word, count);
    } else if (slice_equal_str(word[0], "DONE") && l->kind == LOOKUP_LIST) {
        if (count >= 3 && slice_equal_str(word[2], "fail"))
            error_set(&e, ERROR_TEMPORARY, "auth-master: userdb list: User listing returned failure");
        (void)finish_lookup(l, &e, NULL, NULL);
    } else if (slice_equal_str(word[0], "OK")) {
        (void)finish_lookup(l, &e, count >= 3 ? arena_str(arena, word[2]) : "0", NULL);
    } else {
        error_set(&e, ERROR_INVALID, "BUG: auth server sent unknown reply");
        line_conn_fail(m->conn, &e);
    }
}

static void handle_line(void *arg, struct slice line)
{
    struct auth_master *m = arg;
    struct arena *arena;
    struct slice *word;
    size_t count;

    if (!m->greeted) {
        struct error e;
        unsigned minor;
        if (line_check_version(line, NULL, 1, &minor, &e) < 0)
            line_conn_fail(m->conn, &e);
        m->greeted = true;
        return;
    }
    arena = arena_new();
    count = text_tab_fields(arena, line, &word);
    if (!slice_equal_str(word[0], "SPID"))
        answer_lookup(m, arena, word, count);
    arena_free(arena);
}

/* ---- questions ------------------------------------------------------------------------------------------------ */

static struct auth_lookup *new_lookup(struct auth_master *m, enum lookup_kind kind, auth_lookup_fn *done, void *arg)
{
    struct auth_lookup *l = mem_zero(1, sizeof(*l)), *other;

    do {
        l->id = ++m->last_id;
        HASH_FIND(hh, m->lookups, &l->id, sizeof(l->id), other);
    } while (l->id == 0 || other != NULL);
    l->kind = kind;
    l->master = m;
    l->done = done;
    l->arg = arg;
    ev_timer_init(&l->timer, timer_ready, kind == LOOKUP_LIST ? LIST_TIMEOUT_SECS : AUTH_CLIENT_TIMEOUT_SECS, 0.);
    l->timer.data = l;
    HASH_ADD(hh, m->lookups, id, sizeof(l->id), l);
    return l;
}

/* Sends the line, or lets the lookup fail from the loop. Frees the buffer. */
static struct auth_lookup *send_lookup(struct auth_lookup *l, struct buffer *line, const char *refused)
{
    struct auth_master *m = l->master;

    line_end(line);
    if (refused == NULL && line->size > REQUEST_MAX)
        refused = "the request is longer than 1024 bytes";
    if (refused != NULL)
        error_set(&l->error, ERROR_NOT_FOUND, "auth-master: %s", refused);
    else if (ensure_conn(m, &l->error) == 0)
        line_conn_send(m->conn, buffer_slice(line));
    if (l->error.class != ERROR_NONE)
        ev_timer_set(&l->timer, 0., 0.);
    ev_now_update(m->loop);
    ev_timer_start(m->loop, &l->timer);
    buffer_wipe(line);
    return l;
}

struct auth_lookup *auth_master_login(struct auth_master *m, uint32_t client_pid, uint32_t request_id,
                                      const unsigned char *cookie, pid_t session_pid, bool want_token,
                                      auth_lookup_fn *done, void *arg)
{
    struct auth_lookup *l = new_lookup(m, LOOKUP_LOGIN, done, arg);
    struct buffer b = {0};

    line_begin(&b, "REQUEST");
    line_field_num(&b, l->id);
    line_field_num(&b, client_pid);
    line_field_num(&b, request_id);
    buffer_append_byte(&b, '\t');
    text_hex_encode(&b, slice_of(cookie, 16));
    buffer_printf(&b, "\tsession_pid=%ld", (long)session_pid);
    if (want_token)
        buffer_append_str(&b, "\trequest_auth_token");
    return send_lookup(l, &b, NULL);
}

static void put_endpoint(struct buffer *b, const char *ip_key, const char *port_key, const struct net_endpoint *e)
{
    char text[NET_IP_TEXT];

    if (e->ip.family == 0)
        return;
    line_pair(b, ip_key, net_ip_text(&e->ip, text));
    if (e->port != 0)
        buffer_printf(b, "\t%s=%u", port_key, e->port);
}

static void put_info(struct buffer *b, const struct auth_user_info *info)
{
    line_pair(b, "service", info->service);
    put_endpoint(b, "lip", "lport", &info->local);
    put_endpoint(b, "rip", "rport", &info->remote);
    put_endpoint(b, "real_lip", "real_lport", &info->real_local);
    put_endpoint(b, "real_rip", "real_rport", &info->real_remote);
    line_pair(b, "local_name", info->local_name);
    line_pair(b, "session", info->session);
    line_pair(b, "client_id", info->client_id);
    if (info->debug)
        buffer_append_str(b, "\tdebug");
    for (size_t i = 0; info->extra != NULL && i < info->extra->count; i++) {
        if (info->extra->at[i].value != NULL)
            line_pair(b, info->extra->at[i].key, info->extra->at[i].value);
        else
            line_field_str(b, info->extra->at[i].key);
    }
}

static struct auth_lookup *ask_user(struct auth_master *m, enum lookup_kind kind, const char *user,
                                    const struct auth_user_info *info, auth_lookup_fn *done, void *arg)
{
    struct auth_lookup *l = new_lookup(m, kind, done, arg);
    struct buffer b = {0};

    line_begin(&b, kind == LOOKUP_PASS ? "PASS" : "USER");
    line_field_num(&b, l->id);
    line_field_str(&b, user);
    put_info(&b, info);
    return send_lookup(l, &b,
                       strpbrk(user, "\t\r\n") != NULL || strpbrk(info->service, "\t\r\n") != NULL
                           ? "the name holds control characters" : NULL);
}

struct auth_lookup *auth_master_user(struct auth_master *m, const char *user, const struct auth_user_info *info,
                                     auth_lookup_fn *done, void *arg)
{
    return ask_user(m, LOOKUP_USER, user, info, done, arg);
}

struct auth_lookup *auth_master_pass(struct auth_master *m, const char *user, const struct auth_user_info *info,
                                     auth_lookup_fn *done, void *arg)
{
    return ask_user(m, LOOKUP_PASS, user, info, done, arg);
}

struct auth_lookup *auth_master_list(struct auth_master *m, const char *mask, const struct auth_user_info *info,
                                     void (*each)(void *arg, const char *user), auth_lookup_fn *done, void *arg)
{
    struct auth_lookup *l = new_lookup(m, LOOKUP_LIST, done, arg);
    struct buffer b = {0};

    l->each = each;
    l->mask = mem_strdup_null(mask);
    line_begin(&b, "LIST");
    line_field_num(&b, l->id);
    line_pair(&b, "user", mask);
    put_info(&b, info);
    return send_lookup(l, &b, NULL);
}

struct auth_lookup *auth_master_cache_flush(struct auth_master *m, const char *const *users, size_t count,
                                            auth_lookup_fn *done, void *arg)
{
    struct auth_lookup *l = new_lookup(m, LOOKUP_FLUSH, done, arg);
    struct buffer b = {0};

    line_begin(&b, "CACHE-FLUSH");
    line_field_num(&b, l->id);
    for (size_t i = 0; i < count; i++)
        line_field_str(&b, users[i]);
    return send_lookup(l, &b, NULL);
}

void auth_lookup_cancel(struct auth_lookup *l)
{
    free_lookup(l);
}
