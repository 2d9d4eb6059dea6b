/* packet.c - messages over SOCK_SEQPACKET: one recvmsg a message, a queue for what the peer cannot take yet. */
#include "rpc/packet.h"

#include "net/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <utlist.h>

#define READS_AT_ONCE 32

struct waiting {
    struct waiting *prev, *next;
    int fd;
    size_t size;
    unsigned char bytes[];
};

struct packet_conn {
    struct ev_loop *loop;
    int fd;
    size_t most;
    const struct packet_handler *handler;
    void *arg;
    ev_io reader, writer;
    ev_timer end;            /* calls `closed` from the loop */
    struct waiting *queue;
    unsigned queued;
    unsigned busy;           /* inside a handler */
    bool broken, freed;
    struct error error;
};

static void release(struct packet_conn *conn)
{
    struct waiting *w, *next;

    DL_FOREACH_SAFE (conn->queue, w, next) {
        if (w->fd >= 0)
            (void)close(w->fd);
        mem_free(w);
    }
    (void)close(conn->fd);
    mem_free(conn);
}

static void stop_watching(struct packet_conn *conn)
{
    ev_io_stop(conn->loop, &conn->reader);
    ev_io_stop(conn->loop, &conn->writer);
    ev_timer_stop(conn->loop, &conn->end);
}

static void break_off(struct packet_conn *conn, const struct error *error)
{
    if (conn->broken)
        return;
    conn->broken = true;
    if (error != NULL)
        conn->error = *error;
    else
        error_clear(&conn->error);
    stop_watching(conn);
    ev_timer_set(&conn->end, 0., 0.);
    ev_timer_start(conn->loop, &conn->end);
}

static void tell_closed(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct packet_conn *conn = timer->data;

    (void)loop, (void)events;
    conn->busy++;
    conn->handler->closed(conn->arg, &conn->error);
    if (--conn->busy == 0 && conn->freed)
        release(conn);
}

static void readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct packet_conn *conn = watcher->data;
    unsigned char *bytes = mem_alloc(conn->most + 1);

    (void)loop, (void)events;
    conn->busy++;
    for (int i = 0; i < READS_AT_ONCE && !conn->broken && !conn->freed; i++) {
        struct error error;
        int fd;
        ssize_t n = net_receive_fd(conn->fd, bytes, conn->most + 1, &fd);

        if (n > 0 && (size_t)n <= conn->most) {
            conn->handler->packet(conn->arg, slice_of(bytes, (size_t)n), fd);
            continue;
        }
        if (fd >= 0)
            (void)close(fd);
        if (n == 0) {
            break_off(conn, NULL);
        } else if (n > 0) {
            (void)error_set(&error, ERROR_LIMIT, "A message of more than %zu bytes was received", conn->most);
            break_off(conn, &error);
        } else if (errno == ECONNRESET) {
            break_off(conn, NULL);
        } else if (errno != EAGAIN) {
            (void)error_sys(&error, "recvmsg", NULL);
            break_off(conn, &error);
        }
        if (n < 0)
            break;
    }
    mem_free(bytes);
    if (--conn->busy == 0 && conn->freed)
        release(conn);
}

static void writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct packet_conn *conn = watcher->data;
    struct error error;

    (void)events;
    while (conn->queue != NULL) {
        struct waiting *w = conn->queue;
        ssize_t n = net_send_fd(conn->fd, slice_of(w->bytes, w->size), w->fd);

        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            (void)error_sys(&error, "sendmsg", NULL);
            break_off(conn, errno == EPIPE || errno == ECONNRESET ? NULL : &error);
            return;
        }
        DL_DELETE(conn->queue, w);
        conn->queued--;
        if (w->fd >= 0)
            (void)close(w->fd);
        mem_free(w);
    }
    ev_io_stop(loop, watcher);
}

struct packet_conn *packet_conn_new(struct ev_loop *loop, int fd, size_t most, const struct packet_handler *handler,
                                    void *arg)
{
    struct packet_conn *conn = mem_zero(1, sizeof(*conn));

    os_never_block(fd);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    conn->loop = loop;
    conn->fd = fd;
    conn->most = most;
    conn->handler = handler;
    conn->arg = arg;
    ev_io_init(&conn->reader, readable, fd, EV_READ);
    ev_io_init(&conn->writer, writable, fd, EV_WRITE);
    ev_timer_init(&conn->end, tell_closed, 0., 0.);
    conn->reader.data = conn->writer.data = conn->end.data = conn;
    ev_io_start(loop, &conn->reader);
    return conn;
}

void packet_conn_free(struct packet_conn *conn)
{
    if (conn == NULL || conn->freed)
        return;
    stop_watching(conn);
    conn->freed = true;
    if (conn->busy == 0)
        release(conn);
}

static int enqueue(struct packet_conn *conn, struct slice packet, int fd, struct error *error)
{
    struct waiting *w;

    if (conn->queued >= PACKET_QUEUE_MAX) {
        (void)error_set(error, ERROR_LIMIT, "The peer does not read its messages (%u are waiting)", conn->queued);
        break_off(conn, error);
        return -1;
    }
    w = mem_alloc(sizeof(*w) + packet.size);
    w->size = packet.size;
    memcpy(w->bytes, packet.at, packet.size);
    w->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0 && w->fd < 0) {
        mem_free(w);
        return error_sys(error, "fcntl(F_DUPFD)", NULL);
    }
    DL_APPEND(conn->queue, w);
    conn->queued++;
    ev_io_start(conn->loop, &conn->writer);
    return 0;
}

int packet_conn_send(struct packet_conn *conn, struct slice packet, int fd, struct error *error)
{
    if (conn->broken)
        return error_set(error, ERROR_TEMPORARY, "The connection is broken");
    if (packet.size == 0 || packet.size > conn->most)
        return error_set(error, ERROR_LIMIT, "A message of %zu bytes cannot be sent", packet.size);
    if (conn->queue != NULL)
        return enqueue(conn, packet, fd, error);
    if (net_send_fd(conn->fd, packet, fd) >= 0)
        return 0;
    if (errno == EAGAIN)
        return enqueue(conn, packet, fd, error);
    (void)error_sys(error, "sendmsg", NULL);
    break_off(conn, error);
    return -1;
}

bool packet_conn_idle(const struct packet_conn *conn)
{
    return conn->queue == NULL;
}
