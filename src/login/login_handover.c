/* login_handover.c - gives an authenticated client to the mail service (ipc 7.2, 7.3).
 *
 * One connection to the service's socket serves all clients of this process: a request is one sendmsg with a struct
 * of 96 bytes, the data, and the client's descriptor; the answer is 12 bytes with our tag. A stock imap process
 * closes the connection after its answer; then the next request makes a new one.
 *
 * A plain connection is given away itself. Under TLS, when more input waits than the request may carry, or when the client
 * may come back (UNAUTHENTICATE), the mail process gets one end of a socket pair and this process relays. */
#include "login/login_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <uthash.h>
#include <unistd.h>

enum {
    REQUEST_SIZE = 96,
    ANSWER_SIZE = 12,
    DATA_MAX = 1218,
    FLAG_SECURED = 2, FLAG_TLS = 4, FLAG_TLS_IMPLICIT = 8,
    FLAG_RETURNS = 0x100, /* our own: the client may be given back */
    STATUS_OK = 0,
    TIMEOUT_SECS = 90
};

struct waiting {
    unsigned tag;
    struct login_client *client; /* NULL: it went away; the answer is thrown away */
    UT_hash_handle hh;
};

struct login_handover {
    struct login_server *server;
    int fd;
    ev_io watch;
    unsigned last_tag;
    struct waiting *waiting;
    unsigned char answer[ANSWER_SIZE];
    size_t answer_size;
};

static void put_ip(unsigned char *at, const struct net_ip *ip)
{
    uint16_t family = ip->family;

    memcpy(at, &family, sizeof(family));
    memcpy(at + 4, ip->bytes, ip->family == AF_INET6 ? 16 : 4);
}

static void finish(struct waiting *w, struct login_handover *h)
{
    HASH_DEL(h->waiting, w);
    mem_free(w);
}

/* The mail process has the client now. */
static void accepted(struct login_client *c, pid_t pid)
{
    c->mail_pid = pid;
    login_auth_stop(c); /* the response is kept no longer */
    login_log(c, "Login");
    if (c->relay_fd < 0) {
        login_client_free(c);
        return;
    }
    c->stage = STAGE_RELAY;
    login_client_resume(c);
}

static void refused(struct login_client *c, pid_t pid)
{
    struct arena *a = arena_new();

    c->mail_pid = pid;
    c->handover_failed = true;
    c->server->protocol->failed(c, LOGIN_FAIL_INTERNAL,
                                "Internal error occurred. Refer to server log for more information.");
    login_disconnect(c, arena_printf(a, "Internal login failure (pid=%d id=%u)", (int)getpid(), c->auth_id));
    arena_free(a);
}

static void take_back(struct login_client *c)
{
    c->handover_tag = 0;
    if (c->relay_fd >= 0)
        close(c->relay_fd);
    c->relay_fd = -1;
}

/* `unread`: what we sent last was never read (the kernel tells so by ECONNRESET), for the dispatcher was killed, or replaced before it
 * came to accept us: that client is still ours alone. Of earlier ones nobody knows whether a mail process serves them. */
static void connection_lost(struct login_handover *h, bool unread)
{
    struct waiting *w, *next;

    ev_io_stop(h->server->loop, &h->watch);
    close(h->fd);
    h->fd = -1;
    h->answer_size = 0;
    HASH_ITER(hh, h->waiting, w, next) {
        struct login_client *c = w->client;
        bool last = unread && w->tag == h->last_tag;

        finish(w, h);
        if (c == NULL)
            continue;
        take_back(c);
        if (!last || !login_auth_repeat(c))
            refused(c, 0);
    }
}

static void take_answer(struct login_handover *h)
{
    uint32_t tag, status;
    int32_t pid;
    struct waiting *w;
    struct login_client *c;

    memcpy(&tag, h->answer, 4);
    memcpy(&status, h->answer + 4, 4);
    memcpy(&pid, h->answer + 8, 4);
    h->answer_size = 0;
    HASH_FIND_INT(h->waiting, &tag, w);
    if (w == NULL) {
        log_error(NULL, "Mail service answered with unknown tag %u", tag);
        return;
    }
    c = w->client;
    finish(w, h);
    if (c == NULL)
        return;
    c->handover_tag = 0;
    if (status == STATUS_OK)
        accepted(c, pid);
    else
        refused(c, pid);
}

/* All that are there. What read said in the end: 0, or -1 with errno. */
static ssize_t take_answers(struct login_handover *h)
{
    ssize_t n;

    while ((n = read(h->fd, h->answer + h->answer_size, ANSWER_SIZE - h->answer_size)) > 0) {
        h->answer_size += (size_t)n;
        if (h->answer_size == ANSWER_SIZE)
            take_answer(h);
    }
    return n;
}

static void answer_ready(struct ev_loop *loop, ev_io *w, int events)
{
    struct login_handover *h = w->data;
    ssize_t n = take_answers(h);

    (void)loop;
    (void)events;
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        connection_lost(h, n < 0 && errno == ECONNRESET);
}

void login_handover_take_answers(struct login_handover *h)
{
    if (h->fd >= 0)
        (void)take_answers(h);
}

static void adopt_fd(struct login_handover *h, int fd)
{
    h->fd = fd;
    os_never_block(fd);
    ev_io_init(&h->watch, answer_ready, fd, EV_READ);
    h->watch.data = h;
    ev_io_start(h->server->loop, &h->watch);
}

/* The socket lies in the working directory after the chroot to login/, below login/ without one. */
static int connect_socket(const struct login_protocol *protocol, struct error *e)
{
    const char *name = protocol->socket, *folder = login_folder(protocol);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    int fd;

    if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", folder, name) >= (int)sizeof(sa.sun_path))
        return error_set(e, ERROR_INVALID, "Socket name too long: %s", name);
    if (stat(sa.sun_path, &st) < 0)
        memmove(sa.sun_path, sa.sun_path + strlen(folder) + 1, strlen(name) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_sys(e, "socket", name);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        error_sys(e, "connect", sa.sun_path);
        close(fd);
        return -1;
    }
    return fd;
}

struct login_handover *login_handover_new(struct login_server *server, int fd)
{
    struct login_handover *h = mem_zero(1, sizeof(*h));

    h->server = server;
    h->fd = -1;
    if (fd >= 0)
        adopt_fd(h, fd);
    return h;
}

/* Under our master the connection is made before it is needed: after a reload this process goes on with the auth and the
 * dispatcher of its own generation, which know of each other, for whoever has not logged in yet. */
void login_handover_prepare(struct login_handover *h)
{
    struct error ignored;
    int fd;

    if (h->fd >= 0 || getenv(CONF_FD_ENV) == NULL)
        return;
    fd = connect_socket(h->server->protocol, &ignored);
    if (fd >= 0)
        adopt_fd(h, fd);
}

void login_handover_free(struct login_handover *h)
{
    struct waiting *w, *next;

    HASH_ITER(hh, h->waiting, w, next)
        finish(w, h);
    if (h->fd >= 0) {
        ev_io_stop(h->server->loop, &h->watch);
        close(h->fd);
    }
    mem_free(h);
}

/* The descriptor for the mail process: the client's own (*pair is -1), or one end of a pair, which is to be closed. */
static int choose_fd(struct login_client *c, size_t room, struct slice *input, int *pair, struct error *e)
{
    int ends[2];

    *input = stream_input(c->stream);
    if (!c->tls && !c->returns && input->size <= room && stream_pending(c->stream) == 0) {
        *pair = -1;
        return stream_fd(c->stream);
    }
    *input = SLICE_EMPTY; /* it goes through the relay */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return error_sys(e, "socketpair", NULL);
    *pair = ends[0];
    return ends[1];
}

static void fill_request(struct login_client *c, unsigned tag, size_t data_size, ino_t inode, unsigned char *out)
{
    uint32_t flags = (c->secured ? FLAG_SECURED : 0) | (c->tls ? FLAG_TLS | FLAG_SECURED : 0) |
                     (c->tls_implicit ? FLAG_TLS_IMPLICIT : 0) | (c->returns ? FLAG_RETURNS : 0);
    uint32_t words[4] = {tag, auth_client_server_pid(c->server->auth), c->auth_id, auth_client_cpid(c->server->auth)};
    uint32_t size = (uint32_t)data_size;
    uint64_t ino = inode;

    memset(out, 0, REQUEST_SIZE);
    memcpy(out, words, sizeof(words));
    memcpy(out + 16, auth_client_cookie(c->server->auth), 16);
    put_ip(out + 32, &c->local.ip);
    put_ip(out + 52, &c->remote.ip);
    memcpy(out + 72, &c->local.port, 2);
    memcpy(out + 74, &c->remote.port, 2);
    memcpy(out + 76, &flags, 4);
    memcpy(out + 80, &size, 4);
    memcpy(out + 88, &ino, 8);
}

static int send_request(struct login_handover *h, struct slice message, int fd, struct error *e)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        if (h->fd < 0) {
            int socket = connect_socket(h->server->protocol, e);
            if (socket < 0)
                return -1;
            adopt_fd(h, socket);
        }
        ssize_t n = net_send_fd(h->fd, message, fd);
        if (n == (ssize_t)message.size)
            return 0;
        if (n >= 0)
            return error_set(e, ERROR_TEMPORARY, "Mail service took only a part of a login request");
        error_sys(e, "sendmsg", h->server->protocol->socket);
        if (errno != EPIPE && errno != ECONNRESET)
            return -1;
        connection_lost(h, false); /* the service was restarted: once more, anew */
    }
    return -1;
}

void login_handover_start(struct login_client *c)
{
    struct login_handover *h = c->server->handover;
    struct buffer message = {0};
    struct slice input;
    struct waiting *w;
    struct error e;
    struct stat st;
    unsigned char request[REQUEST_SIZE] = {0};
    int fd, pair = -1;

    c->stage = STAGE_HANDOVER;
    c->returns = c->server->protocol->returns != NULL && c->server->protocol->returns(c);
    buffer_append(&message, request, sizeof(request));
    buffer_append(&message, c->session, strlen(c->session) + 1);
    c->server->protocol->handover(c, &message);
    fd = choose_fd(c, DATA_MAX - (message.size - REQUEST_SIZE), &input, &pair, &e);
    if (fd < 0 || fstat(fd, &st) < 0)
        goto failed;
    buffer_append_slice(&message, input);
    if (++h->last_tag == 0)
        h->last_tag = 1;
    fill_request(c, h->last_tag, message.size - REQUEST_SIZE, st.st_ino, request);
    memcpy(message.at, request, sizeof(request));
    w = mem_zero(1, sizeof(*w));
    w->tag = c->handover_tag = h->last_tag;
    w->client = c;
    if (send_request(h, buffer_slice(&message), fd, &e) < 0) {
        mem_free(w);
        c->handover_tag = 0;
        goto failed;
    }
    HASH_ADD_INT(h->waiting, tag, w);
    c->relay_fd = pair;
    if (pair < 0) { /* the client is the mail process's now */
        stream_want_input(c->stream, false);
        net_loop_forget(fd);
    } else {
        close(fd);
    }
    buffer_wipe(&message);
    stream_deadline(c->stream, TIMEOUT_SECS);
    return;
failed:
    if (pair >= 0) {
        close(pair);
        close(fd);
    }
    buffer_wipe(&message);
    log_error_value(NULL, &e);
    refused(c, 0);
}

void login_handover_cancel(struct login_client *c)
{
    struct waiting *w;

    if (c->handover_tag == 0)
        return;
    HASH_FIND_INT(c->server->handover->waiting, &c->handover_tag, w);
    if (w != NULL)
        w->client = NULL;
    c->handover_tag = 0;
}
