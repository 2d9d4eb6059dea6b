/* Connections of login processes: requests in, 12 bytes out (ipc 7.2, 7.3).
 *
 * A connection carries one request after the other; it is not counted as a client, the sessions are. When process_limit
 * sessions run, requests are left in their sockets for up to ten seconds, as the original leaves connections waiting;
 * then they fail. */
#include "dispatch/dispatch_impl.h"

#include "net/fdpass.h"

#include <errno.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

enum { WAIT_FOR_ROOM_SECS = 10 };

struct login_conn {
    struct dispatcher *dispatcher;
    int fd, client;            /* client: the descriptor that came with the request */
    size_t got;                /* of header and data */
    unsigned char bytes[LOGIN_REQUEST_SIZE + LOGIN_DATA_MAX];
    struct login_request request;
    unsigned sessions;         /* that have not been answered */
    bool closed;
    bool held;                 /* counts as a client of the service */
    struct login_conn *prev, *next;
    ev_io watcher;
    ev_timer room;             /* waits until a session ends */
    unsigned waited;
};

static void free_conn(struct login_conn *conn)
{
    if (conn->client >= 0)
        (void)close(conn->client);
    mem_free(conn);
}

static void close_conn(struct login_conn *conn)
{
    if (conn->closed)
        return;
    conn->closed = true;
    DL_DELETE(conn->dispatcher->login_conns, conn);
    ev_io_stop(conn->dispatcher->loop, &conn->watcher);
    ev_timer_stop(conn->dispatcher->loop, &conn->room);
    (void)close(conn->fd);
    conn->fd = -1;
    if (conn->held)
        service_client_end(conn->dispatcher->service);
    if (conn->sessions == 0)
        free_conn(conn);
}

void login_conns_hold(struct dispatcher *d)
{
    for (struct login_conn *conn = d->login_conns; conn != NULL; conn = conn->next) {
        conn->held = true;
        service_client_begin(d->service);
    }
}

static void reject(struct login_conn *conn, const struct error *error)
{
    log_error_value(NULL, error);
    close_conn(conn);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static int check_client(struct login_conn *conn, struct error *error)
{
    struct stat st;

    if (conn->client < 0)
        return error_set(error, ERROR_INVALID, "Auth request missing a file descriptor");
    if (fstat(conn->client, &st) < 0)
        return error_sys(error, "fstat", "auth request");
    if (st.st_ino != conn->request.inode)
        return error_set(error, ERROR_INVALID, "Auth request inode mismatch: %llu != %llu",
                         (unsigned long long)st.st_ino, (unsigned long long)conn->request.inode);
    return 0;
}

static struct session *make_session(struct login_conn *conn)
{
    struct dispatcher *d = conn->dispatcher;
    struct session *session = session_new(d, conn->client);
    struct dispatch_request *to = &session->request;
    struct login_data data;

    conn->client = -1;
    login_data_read(slice_of(conn->bytes + LOGIN_REQUEST_SIZE, conn->request.data_size),
                    strcmp(d->protocol, "imap") == 0, &data);
    to->session = arena_str(session->arena, data.session);
    if (data.has_tag)
        to->tag = arena_str(session->arena, data.tag);
    to->nocap = data.nocap;
    to->input = arena_slice(session->arena, data.input);
    to->local = conn->request.local;
    to->remote = conn->request.remote;
    to->secured = conn->request.secured;
    to->tls = conn->request.tls;
    to->tls_implicit = conn->request.tls_implicit;
    to->compressed = conn->request.compressed;
    to->returns = conn->request.returns;
    to->login_pid = (pid_t)conn->request.client_pid;
    session->login = conn;
    session->origin_id = conn->request.tag;
    conn->sessions++;
    return session;
}

static bool has_room(const struct dispatcher *d)
{
    return d->session_count < d->session_limit;
}

void login_warn_limit(struct dispatcher *d)
{
    time_t now = time(NULL);

    if (now != d->last_limit_warning)
        log_warning(NULL, "service(%s): process_limit (%u) reached, client connections are being dropped",
                    service_name(d->service), d->per_worker > 0 ? d->session_limit / d->per_worker : d->session_limit);
    d->last_limit_warning = now;
}

static void start(struct login_conn *conn)
{
    struct login_request request = conn->request;
    struct session *session = make_session(conn);

    conn->got = 0;
    session_start_login(session, &request);
}

static void room_due(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct login_conn *conn = timer->data;
    struct session *session;

    (void)events;
    if (!has_room(conn->dispatcher) && conn->waited++ < WAIT_FOR_ROOM_SECS * 10)
        return;
    ev_timer_stop(loop, timer);
    ev_io_start(loop, &conn->watcher);
    if (has_room(conn->dispatcher)) {
        start(conn);
        return;
    }
    session = make_session(conn);
    conn->got = 0;
    login_conn_answer(session, 1, getpid());
    session_ended(session);
}

static void request_complete(struct login_conn *conn)
{
    struct error error;

    if (check_client(conn, &error) < 0) {
        reject(conn, &error);
        return;
    }
    if (has_room(conn->dispatcher)) {
        start(conn);
        return;
    }
    login_warn_limit(conn->dispatcher);
    conn->waited = 0;
    ev_io_stop(conn->dispatcher->loop, &conn->watcher);
    ev_timer_again(conn->dispatcher->loop, &conn->room);
}

static void readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct login_conn *conn = watcher->data;
    bool header = conn->got < LOGIN_REQUEST_SIZE;
    size_t want = header ? LOGIN_REQUEST_SIZE : LOGIN_REQUEST_SIZE + conn->request.data_size;
    struct error error;
    int fd = -1;
    ssize_t n = net_receive_fd(conn->fd, conn->bytes + conn->got, want - conn->got, &fd);

    if (fd >= 0) {
        if (conn->client >= 0)
            (void)close(conn->client);
        conn->client = fd;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (conn->got > 0)
            log_error(NULL, "fd_read() partial input (%zu/%d)", conn->got, LOGIN_REQUEST_SIZE);
        close_conn(conn);
        return;
    }
    conn->got += (size_t)n;
    if (conn->got < want)
        return;
    if (header) {
        if (login_request_read(conn->bytes, &conn->request, &error) < 0) {
            reject(conn, &error);
            return;
        }
        if (conn->request.data_size > 0) {
            readable(loop, watcher, events); /* the rest is there already, or it is waited for */
            return;
        }
    }
    request_complete(conn);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

void login_conn_answer(struct session *session, uint32_t status, pid_t pid)
{
    struct login_conn *conn = session->login;
    unsigned char bytes[LOGIN_ANSWER_SIZE];

    if (conn == NULL)
        return;
    login_answer_write(bytes, session->origin_id, status, pid);
    /* 12 bytes fit, unless the login process does not read at all. */
    if (!conn->closed && write(conn->fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes)) {
        if (errno != EPIPE && errno != ECONNRESET)
            log_error(NULL, "write(login answer) failed: %s", strerror(errno));
        close_conn(conn);
    }
    login_conn_forget(session);
}

void login_conn_forget(struct session *session)
{
    struct login_conn *conn = session->login;

    if (conn == NULL)
        return;
    session->login = NULL;
    if (--conn->sessions == 0 && conn->closed)
        free_conn(conn);
}

void login_conn_new(struct dispatcher *d, int fd)
{
    struct login_conn *conn = mem_zero(1, sizeof(*conn));

    conn->dispatcher = d;
    conn->fd = fd;
    conn->client = -1;
    DL_APPEND(d->login_conns, conn);
    ev_io_init(&conn->watcher, readable, fd, EV_READ);
    ev_timer_init(&conn->room, room_due, 0.1, 0.1);
    conn->watcher.data = conn->room.data = conn;
    ev_io_start(d->loop, &conn->watcher);
}
