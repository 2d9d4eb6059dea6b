/* master_conn.c - the master protocol (auth.md 19): mail processes fetch logins, everybody asks for users.
 *
 * Every question is answered once, in the order in which databases answer. A connection that ends leaves its requests
 * running; their answers find no connection. */
#include "auth/cache.h"
#include "auth/conns.h"
#include "auth/worker_pool.h"
#include "net/fdpass.h"
#include "rpc/service.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#define LINE_MAX_BYTES 1024
#define LIST_OUTPUT_MOST (256UL * 1024 * 1024)

struct master_conn {
    struct server *server;
    struct line_conn *conn;       /* NULL: ended, questions are still open */
    bool userdb_only, have_version, restricted;
    char *path;
    uid_t peer_uid, socket_uid;
    pid_t peer_pid;
    unsigned open;                /* questions */
    uint64_t created, greeted;    /* time_monotonic_ns, for log lines */
};

struct question {
    struct master_conn *master;
    uint32_t id;
    unsigned session_pid;
    bool want_token, list_failed;
    struct arena *arena;          /* LIST */
    struct request *request;
    size_t position;
};

static void handle_line(void *arg, struct slice line);
static void handle_closed(void *arg, const struct error *);
static const struct line_handler conn_handler = {.line = handle_line, .closed = handle_closed};

/* ---- connections ---------------------------------------------------------------------------------------------- */

/* auth.md 1: mode 0666 means "about yourself" for all but root, the socket's owner and its group. */
static void set_restriction(struct master_conn *m, int fd, const char *path)
{
    struct stat st;
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return;
    m->peer_pid = peer.pid;
    m->peer_uid = peer.uid;
    if (!m->userdb_only || path == NULL || stat(path, &st) < 0)
        return;
    m->socket_uid = st.st_uid;
    m->restricted = (st.st_mode & 0777) == 0666 && peer.uid != 0 && peer.uid != st.st_uid && peer.gid != st.st_gid;
}

void master_conn_new(struct server *s, int fd, bool userdb_only, const char *path)
{
    const struct line_limits limits = {.line_max = LINE_MAX_BYTES, .output_max = LIST_OUTPUT_MOST};
    struct master_conn *m = mem_zero(1, sizeof(*m));

    m->server = s;
    m->userdb_only = userdb_only;
    m->path = mem_strdup(path == NULL ? "" : path);
    m->created = time_monotonic_ns();
    set_restriction(m, fd, path);
    m->conn = line_conn_new(s->loop, fd, &limits, &conn_handler, m);
    line_conn_print(m->conn, "VERSION\t1\t1\nSPID\t%ld\n", (long)getpid());
}

static void free_if_done(struct master_conn *m)
{
    if (m->conn != NULL || m->open > 0)
        return;
    mem_free(m->path);
    mem_free(m);
}

static void log_fault(const struct master_conn *m, const char *text)
{
    uint64_t now = time_monotonic_ns();

    if (m->greeted == 0)
        log_error(NULL, "auth-master client: %s (created %llu msecs ago)", text,
                  (unsigned long long)((now - m->created) / 1000000));
    else
        log_error(NULL, "auth-master client: %s (created %llu msecs ago, handshake %llu msecs ago)", text,
                  (unsigned long long)((now - m->created) / 1000000), (unsigned long long)((now - m->greeted) / 1000000));
}

static void handle_closed(void *arg, const struct error *why)
{
    struct master_conn *m = arg;
    struct service *service = m->server->service;

    if (why->class == ERROR_LIMIT)
        log_fault(m, "BUG: Master sent us more than 1024 bytes");
    else if (why->class != ERROR_NONE)
        log_fault(m, why->admin);
    line_conn_free(m->conn);
    m->conn = NULL;
    free_if_done(m);
    if (service != NULL)
        service_client_end(service);
}

static void refuse_client(struct master_conn *m, const char *text)
{
    struct error e;

    error_set(&e, ERROR_INVALID, "%s", text);
    line_conn_fail(m->conn, &e);
}

/* ---- questions ------------------------------------------------------------------------------------------------ */

static struct question *new_question(struct master_conn *m, uint32_t id, struct request *r)
{
    struct question *q = mem_zero(1, sizeof(*q));

    q->master = m;
    q->id = id;
    q->request = r;
    r->owner = q;
    m->open++;
    return q;
}

static void end_question(struct question *q)
{
    struct master_conn *m = q->master;

    m->open--;
    q->request->owner = NULL;
    request_unref(q->request);
    arena_free(q->arena);
    mem_free(q);
    free_if_done(m);
}

static void answer(struct question *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void answer(struct question *q, const char *fmt, ...)
{
    struct buffer b = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&b, fmt, args);
    va_end(args);
    if (q->master->conn != NULL)
        line_conn_send(q->master->conn, buffer_slice(&b));
    buffer_free(&b);
}

/* key=value arguments of USER, PASS, LIST from `from` on; the service is required. NULL: refused. */
static struct request *make_request(struct master_conn *m, struct arena *arena, const struct slice *word, size_t count,
                                    size_t from)
{
    struct request *r;
    const char *service = NULL;

    for (size_t i = from; i < count; i++)
        if (slice_starts(word[i], SLICE("service=")))
            service = arena_str(arena, slice_from(word[i], 8));
    if (service == NULL) {
        refuse_client(m, arena_printf(arena, "BUG: Master sent %s request without service", arena_str(arena, word[0])));
        return NULL;
    }
    r = request_new(m->server, service);
    r->userdb_lookup = true;
    for (size_t i = from; i < count; i++) {
        ptrdiff_t eq = slice_find(word[i], '=');
        (void)request_set_param(r, arena_str(r->arena, eq < 0 ? word[i] : slice_head(word[i], (size_t)eq)),
                                eq < 0 ? NULL : arena_str(r->arena, slice_from(word[i], (size_t)eq + 1)));
    }
    return r;
}

/* ---- USER ----------------------------------------------------------------------------------------------------- */

/* A restricted peer learns only about its own uid. */
static bool may_see(struct question *q)
{
    const struct master_conn *m = q->master;
    const char *uid = fields_get(&q->request->userdb_fields, "uid");
    uint32_t number;

    if (!m->restricted)
        return true;
    if (uid != NULL && slice_to_u32(slice_from_str(uid), &number) && number == m->peer_uid)
        return true;
    request_error(q->request, "client doesn't have lookup permissions for this user: userdb uid (%s) doesn't match peer "
                  "uid (%u) (to bypass this check, set: service auth { unix_listener %s { mode=0777 } })",
                  uid == NULL ? "" : uid, (unsigned)m->peer_uid, m->path);
    return false;
}

static void user_found(struct request *r, enum userdb_result result)
{
    struct question *q = r->owner;
    const char *reason;
    char token[41];
    struct buffer b = {0};

    switch (result) {
    case USERDB_FOUND:
        if (!may_see(q)) {
            answer(q, "FAIL\t%u\n", q->id);
            break;
        }
        if (q->want_token && r->server->token != NULL)
            token_make(r->server->token, r->user, q->session_pid, r->session == NULL ? "" : r->session, r->service, token);
        else
            token[0] = '\0';
        reply_put_user(&b, q->id, r, token[0] == '\0' ? NULL : token);
        if (q->master->conn != NULL)
            line_conn_send(q->master->conn, buffer_slice(&b));
        buffer_wipe(&b);
        break;
    case USERDB_UNKNOWN:
        answer(q, "NOTFOUND\t%u\n", q->id);
        break;
    case USERDB_INTERNAL:
        reason = fields_get(&r->userdb_fields, "reason");
        if (reason != NULL)
            answer(q, "FAIL\t%u\treason=%s\n", q->id, text_tab_escaped(r->arena, slice_from_str(reason)));
        else
            answer(q, "FAIL\t%u\n", q->id);
        break;
    }
    end_question(q);
}

/* USER and PASS begin alike. NULL: answered. */
static struct question *begin_lookup(struct master_conn *m, struct arena *arena, const struct slice *word, size_t count)
{
    struct question *q;
    struct request *r;
    struct error e;
    uint32_t id;

    if (count < 3 || !slice_to_u32(word[1], &id)) {
        refuse_client(m, arena_printf(arena, "BUG: Master sent broken %s", arena_str(arena, word[0])));
        return NULL;
    }
    r = make_request(m, arena, word, count, 3);
    if (r == NULL)
        return NULL;
    q = new_question(m, id, r);
    if (request_set_user(r, arena_str(r->arena, word[2]), &e) < 0) {
        log_info(NULL, "%s", e.admin);
        answer(q, "NOTFOUND\t%u\n", id);
        end_question(q);
        return NULL;
    }
    return q;
}

static void handle_user(struct master_conn *m, struct arena *arena, const struct slice *word, size_t count)
{
    struct question *q = begin_lookup(m, arena, word, count);

    if (q != NULL)
        userdb_lookup(q->request, user_found);
}

/* ---- PASS ----------------------------------------------------------------------------------------------------- */

static void pass_found(struct request *r, enum passdb_result result)
{
    struct question *q = r->owner;
    struct buffer b = {0};

    switch (result) {
    case PASSDB_OK:
    case PASSDB_NEXT:
        reply_finish_proxy(r);
        line_begin(&b, "PASS");
        line_field_num(&b, q->id);
        line_pair(&b, "user", r->user);
        reply_put_fields(&b, r, false);
        line_end(&b);
        if (q->master->conn != NULL)
            line_conn_send(q->master->conn, buffer_slice(&b));
        buffer_wipe(&b);
        break;
    case PASSDB_USER_UNKNOWN:
    case PASSDB_USER_DISABLED:
    case PASSDB_PASS_EXPIRED:
        answer(q, "NOTFOUND\t%u\n", q->id);
        break;
    case PASSDB_SCHEME_NOT_AVAILABLE:
        answer(q, "FAIL\t%u\treason=Configured passdbs don't support credentials lookups\n", q->id);
        break;
    default:
        answer(q, "FAIL\t%u\n", q->id);
        break;
    }
    end_question(q);
}

static void handle_pass(struct master_conn *m, struct arena *arena, const struct slice *word, size_t count)
{
    struct question *q = begin_lookup(m, arena, word, count);
    struct passwd *pw;

    if (q == NULL)
        return;
    if (m->restricted) {
        pw = getpwuid(m->peer_uid);
        log_error(NULL, "Auth client doesn't have permissions to do a PASS lookup: %s mode=0666, but not owned by UID "
                  "%u(%s)", m->path, (unsigned)m->peer_uid, pw == NULL ? "unknown" : pw->pw_name);
        answer(q, "FAIL\t%u\n", q->id);
        end_question(q);
        return;
    }
    passdb_credentials(q->request, "", pass_found);
}

/* ---- LIST ----------------------------------------------------------------------------------------------------- */

static void list_next(struct question *);

static void list_user(void *arg, const char *user)
{
    struct question *q = arg;

    if (q->master->conn == NULL)
        return;
    arena_reset(q->arena);
    line_conn_print(q->master->conn, "LIST\t%u\t%s\n", q->id, text_tab_escaped(q->arena, slice_from_str(user)));
}

static void list_done(void *arg, bool ok)
{
    struct question *q = arg;

    if (!ok)
        q->list_failed = true;
    q->position++;
    list_next(q);
}

static void list_next(struct question *q)
{
    struct request *r = q->request;
    const struct chain *chain = &r->auth->userdbs;
    struct db *db;
    struct error e;

    for (; q->position < chain->count; q->position++) {
        r->link = &chain->at[q->position];
        db = r->link->db;
        if (db->driver->iterate == NULL) {
            request_error(r, "userdb %s: iteration isn't supported", r->link->name);
            q->list_failed = true;
        } else if (db->blocking) {
            worker_ask_list(r, db, r->user, list_user, list_done, q);
            return;
        } else if (db->driver->iterate(db, r, list_user, q, &e) < 0) {
            log_error(NULL, "%s", e.admin);
            q->list_failed = true;
        }
    }
    answer(q, "DONE\t%u\t%s\n", q->id, q->list_failed ? "fail" : "");
    end_question(q);
}

static void handle_list(struct master_conn *m, struct arena *arena, struct slice *word, size_t count)
{
    struct question *q;
    struct request *r;
    const char *mask = "*";
    static const struct slice any_service = {(const unsigned char *)"service=", 8};
    bool have_service = false;
    struct passwd *pw;
    uint32_t id;

    if (count < 2 || !slice_to_u32(word[1], &id)) {
        refuse_client(m, "BUG: Master sent broken LIST request");
        return;
    }
    for (size_t i = 2; i < count; i++) {
        if (slice_starts(word[i], SLICE("user=")))
            mask = arena_str(arena, slice_from(word[i], 5));
        have_service = have_service || slice_starts(word[i], any_service);
    }
    r = have_service ? make_request(m, arena, word, count, 2) : request_new(m->server, "");
    r->userdb_lookup = true;
    r->user = arena_strdup(r->arena, mask);
    q = new_question(m, id, r);
    q->arena = arena_new();
    if (m->restricted) {
        pw = getpwuid(m->socket_uid);
        log_error(NULL, "Auth client doesn't have permissions to list users: %s mode=0666, but not owned by UID %u(%s)",
                  m->path, (unsigned)m->socket_uid, pw == NULL ? "unknown" : pw->pw_name);
        answer(q, "DONE\t%u\tfail\n", id);
        end_question(q);
        return;
    }
    list_next(q);
}

/* ---- REQUEST -------------------------------------------------------------------------------------------------- */

static pid_t parent_of(unsigned pid)
{
    char path[64], text[512], *close_paren;
    int fd, parent = 0;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    close_paren = strrchr(text, ')');
    if (close_paren == NULL || sscanf(close_paren + 1, " %*c %d", &parent) != 1)
        return 0;
    return parent;
}

/* The session's process must be the peer, or a child of a dispatcher that may do this for it (DECISIONS 4). */
static bool pid_allowed(const struct master_conn *m, unsigned session_pid)
{
    if ((pid_t)session_pid == m->peer_pid)
        return true;
    return (m->peer_uid == 0 || m->peer_uid == geteuid()) && parent_of(session_pid) == m->peer_pid;
}

static void handle_request(struct master_conn *m, struct arena *arena, const struct slice *word, size_t count)
{
    struct buffer cookie = {0};
    struct request *r = NULL;
    struct question *q;
    uint32_t id, client_pid, client_id, session_pid = 0;
    enum pickup got;
    bool want_token = false;

    if (count < 5 || !slice_to_u32(word[1], &id) || !slice_to_u32(word[2], &client_pid) ||
        !slice_to_u32(word[3], &client_id)) {
        refuse_client(m, "BUG: Master sent broken REQUEST");
        return;
    }
    if (text_hex_decode(&cookie, word[4]) < 0 || cookie.size != 16) {
        refuse_client(m, "BUG: Master sent broken REQUEST cookie");
        buffer_wipe(&cookie);
        return;
    }
    for (size_t i = 5; i < count; i++) {
        if (slice_starts(word[i], SLICE("session_pid=")))
            (void)slice_to_u32(slice_from(word[i], 12), &session_pid);
        else if (slice_equal_str(word[i], "request_auth_token"))
            want_token = true;
    }
    if (session_pid != 0 && !pid_allowed(m, session_pid)) {
        refuse_client(m, arena_printf(arena, "Session pid %u provided by master for auth request %u.%u did not match "
                                      "peer credentials (pid=%ld, uid=%u)", session_pid, client_pid, client_id,
                                      (long)m->peer_pid, (unsigned)m->peer_uid));
        buffer_wipe(&cookie);
        return;
    }
    got = client_request_pick_up(m->server, client_pid, client_id, buffer_slice(&cookie), &r);
    buffer_wipe(&cookie);
    if (got != PICKUP_FOUND) {
        log_fault(m, got == PICKUP_NO_CLIENT ? arena_printf(arena, "Master requested auth for nonexistent client %u", client_pid)
                     : got == PICKUP_WRONG_COOKIE
                         ? arena_printf(arena, "Master requested auth for client %u with invalid cookie", client_pid)
                         : arena_printf(arena, "Master request %u.%u not found", client_pid, client_id));
        line_conn_print(m->conn, "FAIL\t%u\n", id);
        return;
    }
    r->session_pid = session_pid;
    q = new_question(m, id, r);
    q->session_pid = session_pid;
    q->want_token = want_token && session_pid != 0;
    userdb_lookup(r, user_found);
}

static void handle_flush(struct master_conn *m, struct arena *arena, const struct slice *word, size_t count)
{
    const char **users = ARENA_ARRAY(arena, const char *, count);
    uint32_t id;

    if (count < 2 || !slice_to_u32(word[1], &id)) {
        refuse_client(m, "BUG: Master sent broken CACHE-FLUSH request");
        return;
    }
    for (size_t i = 2; i < count; i++)
        users[i - 2] = arena_str(arena, word[i]);
    line_conn_print(m->conn, "OK\t%u\t%u\n", id, cache_flush(m->server->cache, users, count - 2));
}

/* ---- lines ---------------------------------------------------------------------------------------------------- */

static void handle_line(void *arg, struct slice line)
{
    struct master_conn *m = arg;
    struct arena *arena;
    struct slice *word;
    struct error e;
    size_t count;
    unsigned minor;

    if (!m->have_version) {
        if (line_check_version(line, NULL, 1, &minor, &e) < 0) {
            error_context(&e, "Master ");
            line_conn_fail(m->conn, &e);
        }
        m->have_version = true;
        m->greeted = time_monotonic_ns();
        return;
    }
    arena = arena_new();
    count = text_tab_fields(arena, line, &word);
    if (slice_equal_str(word[0], "USER"))
        handle_user(m, arena, word, count);
    else if (slice_equal_str(word[0], "PASS"))
        handle_pass(m, arena, word, count);
    else if (slice_equal_str(word[0], "LIST"))
        handle_list(m, arena, word, count);
    else if (!m->userdb_only && slice_equal_str(word[0], "REQUEST"))
        handle_request(m, arena, word, count);
    else if (!m->userdb_only && slice_equal_str(word[0], "CACHE-FLUSH"))
        handle_flush(m, arena, word, count);
    else
        refuse_client(m, arena_printf(arena, "BUG: Unknown command in %s socket: %s",
                                      m->userdb_only ? "userdb" : "master", arena_str(arena, slice_head(line, 64))));
    arena_free(arena);
}
