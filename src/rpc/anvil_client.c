/* anvil_client.c - client of anvil (ipc.md 6).
 *
 * Queries stand in a queue in the order in which they were sent; a cancelled one stays there without a callback,
 * since its reply still comes. A query without answer in five seconds means that the order is lost: the connection
 * is given up and all queries fail, which callers take for "allowed". */
#include "rpc/anvil_client.h"

#include <utlist.h>

enum query_kind { QUERY_LOOKUP, QUERY_PENALTY, QUERY_DUMP };

struct anvil_query {
    enum query_kind kind;
    bool cancelled;
    unsigned lines;
    void (*count)(void *arg, bool ok, unsigned count);
    void (*penalty)(void *arg, bool ok, unsigned penalty, uint64_t last);
    void (*each)(void *arg, const char *ident, pid_t, unsigned count);
    void *arg;
    struct anvil_query *next, *prev;
};

struct anvil_client {
    struct ev_loop *loop;
    char *path;
    struct line_conn *conn;
    ev_tstamp failed_at;
    ev_timer timer;              /* answers are due, or (without connection) failures are told */
    struct anvil_query *queries;
    void (*lost)(void *arg);
    void *lost_arg;
    bool *gone;
};

static void handle_line(void *arg, struct slice line);
static void handle_closed(void *arg, const struct error *);
static const struct line_handler conn_handler = {.line = handle_line, .closed = handle_closed};
static void timer_ready(struct ev_loop *, ev_timer *, int);

static void start_conn(struct anvil_client *c, int fd)
{
    c->conn = line_conn_new(c->loop, fd, NULL, &conn_handler, c);
    line_conn_send_version(c->conn, "anvil", 1, 0);
}

struct anvil_client *anvil_client_new(struct ev_loop *loop, const char *path, int fd)
{
    struct anvil_client *c = mem_zero(1, sizeof(*c));

    c->loop = loop;
    c->path = mem_strdup_null(path);
    c->failed_at = -5;
    ev_timer_init(&c->timer, timer_ready, 0., 0.);
    c->timer.data = c;
    if (fd >= 0)
        start_conn(c, fd);
    return c;
}

void anvil_client_free(struct anvil_client *c)
{
    struct anvil_query *q, *next;

    if (c == NULL)
        return;
    DL_FOREACH_SAFE(c->queries, q, next)
        mem_free(q);
    line_conn_free(c->conn);
    ev_timer_stop(c->loop, &c->timer);
    mem_free(c->path);
    if (c->gone != NULL)
        *c->gone = true;
    mem_free(c);
}

void anvil_client_give_fd(struct anvil_client *c, int fd)
{
    line_conn_free(c->conn);
    start_conn(c, fd);
}

void anvil_client_on_lost(struct anvil_client *c, void (*lost)(void *arg), void *arg)
{
    c->lost = lost;
    c->lost_arg = arg;
}

bool anvil_client_connected(struct anvil_client *c)
{
    struct error e;
    int fd;

    if (c->conn != NULL)
        return true;
    ev_now_update(c->loop);
    if (c->path == NULL || ev_now(c->loop) - c->failed_at < 5)
        return false;
    fd = line_connect(c->path, 0, &e);
    if (fd < 0) {
        c->failed_at = ev_now(c->loop);
        return false;
    }
    start_conn(c, fd);
    return true;
}

char *anvil_ident(struct arena *arena, const char *service, const char *ip, const char *user)
{
    return *ip == '\0' ? arena_printf(arena, "%s/%s", service, text_tab_escaped(arena, slice_from_str(user)))
                       : arena_printf(arena, "%s/%s/%s", service, ip, text_tab_escaped(arena, slice_from_str(user)));
}

static bool finish_query(struct anvil_client *c, struct anvil_query *q, bool ok, unsigned count, uint64_t last)
{
    struct anvil_query copy = *q;
    bool gone = false, *outer = c->gone;

    DL_DELETE(c->queries, q);
    mem_free(q);
    if (copy.cancelled)
        return true;
    c->gone = &gone;
    if (copy.kind == QUERY_PENALTY)
        copy.penalty(copy.arg, ok, count, last);
    else
        copy.count(copy.arg, ok, count);
    if (gone) {
        if (outer != NULL)
            *outer = true;
        return false;
    }
    c->gone = outer;
    return true;
}

static void fail_all(struct anvil_client *c)
{
    while (c->queries != NULL)
        if (!finish_query(c, c->queries, false, 0, 0))
            return;
}

static void drop_conn(struct anvil_client *c)
{
    line_conn_free(c->conn);
    c->conn = NULL;
    if (c->lost != NULL)
        c->lost(c->lost_arg);
}

static void handle_closed(void *arg, const struct error *why)
{
    struct anvil_client *c = arg;

    (void)why;
    drop_conn(c);
    ev_now_update(c->loop);
    c->failed_at = ev_now(c->loop);
    fail_all(c);
}

static void timer_ready(struct ev_loop *loop, ev_timer *w, int events)
{
    struct anvil_client *c = w->data;

    (void)loop, (void)events;
    if (c->queries == NULL)
        return;
    if (c->conn != NULL) {
        log_error(NULL, "Anvil queries timed out after %d secs - aborting queries", ANVIL_TIMEOUT_SECS);
        drop_conn(c);
    }
    fail_all(c);
}

static void handle_dump(struct anvil_client *c, struct anvil_query *q, struct slice line)
{
    struct arena *arena;
    struct slice *word;
    uint32_t pid, count;

    if (line.size == 0) {
        (void)finish_query(c, q, true, q->lines, 0);
        return;
    }
    arena = arena_new();
    if (text_tab_fields(arena, line, &word) >= 3 && slice_to_u32(word[1], &pid) && slice_to_u32(word[2], &count)) {
        q->lines++;
        if (!q->cancelled)
            q->each(q->arg, arena_str(arena, word[0]), (pid_t)pid, count);
    }
    arena_free(arena);
}

static void handle_line(void *arg, struct slice line)
{
    struct anvil_client *c = arg;
    struct anvil_query *q = c->queries;
    struct slice rest = line, word;
    uint32_t count = 0;
    uint64_t last = 0;
    bool ok;

    if (q == NULL)
        return;
    ev_timer_stop(c->loop, &c->timer);
    if (q->next != NULL || q->kind == QUERY_DUMP) {
        ev_timer_set(&c->timer, ANVIL_TIMEOUT_SECS, 0.);
        ev_timer_start(c->loop, &c->timer);
    }
    if (q->kind == QUERY_DUMP) {
        handle_dump(c, q, line);
        return;
    }
    ok = slice_split(&rest, ' ', &word) && slice_to_u32(word, &count);
    if (ok && q->kind == QUERY_PENALTY)
        ok = slice_split(&rest, ' ', &word) && slice_to_u64(word, &last);
    (void)finish_query(c, q, ok, count, last);
}

/* ---- commands ------------------------------------------------------------------------------------------------- */

static struct anvil_query *new_query(struct anvil_client *c, enum query_kind kind, const char *command, const char *ident,
                                     void *arg)
{
    struct anvil_query *q = mem_zero(1, sizeof(*q));

    q->kind = kind;
    q->arg = arg;
    if (anvil_client_connected(c)) {
        if (ident != NULL)
            line_conn_print(c->conn, "%s\t%s\n", command, ident);
        else
            line_conn_print(c->conn, "%s\n", command);
    }
    ev_now_update(c->loop);
    if (!ev_is_active(&c->timer) || c->conn == NULL) {
        ev_timer_stop(c->loop, &c->timer);
        ev_timer_set(&c->timer, c->conn == NULL ? 0. : ANVIL_TIMEOUT_SECS, 0.);
        ev_timer_start(c->loop, &c->timer);
    }
    DL_APPEND(c->queries, q);
    return q;
}

void anvil_connect(struct anvil_client *c, pid_t pid, const char *ident)
{
    if (anvil_client_connected(c))
        line_conn_print(c->conn, "CONNECT\t%ld\t%s\n", (long)pid, ident);
}

void anvil_disconnect(struct anvil_client *c, pid_t pid, const char *ident)
{
    if (anvil_client_connected(c))
        line_conn_print(c->conn, "DISCONNECT\t%ld\t%s\n", (long)pid, ident);
}

struct anvil_query *anvil_lookup(struct anvil_client *c, const char *ident,
                                 void (*done)(void *arg, bool ok, unsigned count), void *arg)
{
    struct anvil_query *q = new_query(c, QUERY_LOOKUP, "LOOKUP", ident, arg);

    q->count = done;
    return q;
}

struct anvil_query *anvil_dump(struct anvil_client *c,
                               void (*each)(void *arg, const char *ident, pid_t, unsigned count),
                               void (*done)(void *arg, bool ok, unsigned lines), void *arg)
{
    struct anvil_query *q = new_query(c, QUERY_DUMP, "CONNECT-DUMP", NULL, arg);

    q->each = each;
    q->count = done;
    return q;
}

void anvil_query_cancel(struct anvil_query *q)
{
    q->cancelled = true;
}

struct anvil_query *anvil_penalty_get(struct anvil_client *c, const char *ident,
                                      void (*done)(void *arg, bool ok, unsigned penalty, uint64_t last), void *arg)
{
    struct anvil_query *q = new_query(c, QUERY_PENALTY, "PENALTY-GET", ident, arg);

    q->penalty = done;
    return q;
}

void anvil_penalty_inc(struct anvil_client *c, const char *ident, uint32_t checksum, unsigned value)
{
    if (anvil_client_connected(c))
        line_conn_print(c->conn, "PENALTY-INC\t%s\t%u\t%u\n", ident, checksum, value);
}

void anvil_penalty_expire(struct anvil_client *c, unsigned seconds)
{
    if (anvil_client_connected(c))
        line_conn_print(c->conn, "PENALTY-SET-EXPIRE-SECS\t%u\n", seconds);
}
