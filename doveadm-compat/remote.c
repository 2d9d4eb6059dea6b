/* remote.c - the client of doveadm-server (doveadm 8).
 *
 * A connection runs one user's command after the other. With several connections the rows of users are not mixed: one that
 * has begun to print is read to the end of its reply, meanwhile the others wait with what they have. A lost connection ends
 * the whole run, as with the real client. */
#include "remote.h"

#include "line_status.h"
#include "mail.h"
#include "net/net.h"
#include "rpc/line.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONNECT_SECONDS = 30, HEAD = 5, LOGIN_LINE_MAX = 1024, INPUT_MAX = 256 * 1024, VERSION_MAJOR = 1 };

struct remote;

struct remote_conn {
    struct remote *remote;
    struct stream *stream;
    enum { AWAITS_VERSION, AWAITS_WELCOME, AWAITS_LOGIN, IDLE, BUSY, GONE } state;
    const char *user;              /* whose command is at work */
    unsigned char channel;
    uint32_t left;                 /* of the packet that is being read */
    struct buffer field, log;      /* begun, not yet ended */
    bool in_status;                /* rows are over, `field` is the status line */
};

struct remote {
    struct doveadm *d;
    struct ev_loop *loop;
    const char *server;            /* as it was named */
    const char *const *users;
    size_t count, next, done, conn_count;
    struct remote_conn *conns;
    struct remote_conn *printing;  /* whose rows are on their way; NULL = nobody's */
    int status;
};

bool doveadm_is_remote(struct doveadm *d)
{
    return !d->server && d->batch_user == NULL &&
           (doveadm_given(d, "socket-path") || conf_uint(doveadm_settings(d), SET_doveadm_worker_count) > 0);
}

/* ---- connecting ---------------------------------------------------------------------------------------------------- */

static int connect_to(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = 0;
    socklen_t size = sizeof(err);
    struct pollfd wait = {fd, POLLOUT, 0};

    if (fd < 0)
        return -1;
    if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
        if (errno != EINPROGRESS)
            err = errno;
        else if (poll(&wait, 1, CONNECT_SECONDS * 1000) <= 0)
            err = ETIMEDOUT;
        else
            (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size);
    }
    if (err == 0)
        return fd;
    close(fd);
    errno = err;
    return -1;
}

/* HOST, HOST:PORT, [IPV6]:PORT; the first address that answers. */
static int connect_host(struct doveadm *d, const char *server)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(server, ':'), *host = server;
    char *port = arena_printf(d->arena, "%u", conf_uint(doveadm_settings(d), SET_doveadm_port));
    struct addrinfo *found = NULL, *ai;
    struct net_endpoint last = {0};
    char ip[NET_IP_TEXT];
    int r, fd = -1;

    if (colon != NULL && (strchr(server, ':') == colon || *server == '[')) {
        host = arena_str(d->arena, slice_of(server, (size_t)(colon - server)));
        port = arena_strdup(d->arena, colon + 1);
    }
    if (*host == '[' && strchr(host, ']') != NULL)
        host = arena_str(d->arena, slice_of(host + 1, strcspn(host + 1, "]")));
    r = getaddrinfo(host, port, &hints, &found);
    if (r != 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Lookup of host %s failed: %s", host, gai_strerror(r));
    for (ai = found; ai != NULL && fd < 0; ai = ai->ai_next) {
        last = net_endpoint_of(ai->ai_addr);
        fd = connect_to(ai);
    }
    r = errno;
    freeaddrinfo(found);
    if (fd < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "connect(%s:%u) failed: %s", net_ip_text(&last.ip, ip), last.port, strerror(r));
    return fd;
}

static int connect_server(struct remote *r)
{
    struct error e;
    int fd;

    if (strchr(r->server, '/') == NULL)
        return connect_host(r->d, r->server);
    fd = line_connect(r->server, CONNECT_SECONDS * 1000, &e);
    if (fd < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "net_connect_unix(%s) failed: %s", r->server, strerror(e.sys));
    return fd;
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

static void send_login(struct remote_conn *c)
{
    const struct settings *set = doveadm_settings(c->remote->d);
    const char *name = conf_str(set, SET_doveadm_username), *password = conf_str(set, SET_doveadm_password);
    struct buffer plain = {0}, line = {0};

    buffer_append_byte(&plain, '\0');
    buffer_append_str(&plain, name);
    buffer_append_byte(&plain, '\0');
    buffer_append_str(&plain, password);
    buffer_append_str(&line, "PLAIN\t");
    text_base64_encode(&line, buffer_slice(&plain));
    buffer_append_byte(&line, '\n');
    stream_write(c->stream, buffer_slice(&line));
    buffer_wipe(&plain);
    buffer_wipe(&line);
}

/* The line feed that follows the data belongs to the end mark. */
static void send_input(struct stream *stream, struct slice data)
{
    struct buffer out = {0};
    bool begin = true;

    for (size_t i = 0; i < data.size; i++) {
        unsigned char c = data.at[i];
        if (begin && c == '.')
            buffer_append_byte(&out, '.');
        if (c == '\n' && (i == 0 || data.at[i - 1] != '\r'))
            buffer_append_byte(&out, '\r');
        buffer_append_byte(&out, c);
        begin = c == '\n';
    }
    buffer_append_str(&out, "\r\n.\r\n");
    stream_write(stream, buffer_slice(&out));
    buffer_free(&out);
}

static void send_command(struct remote_conn *c)
{
    struct doveadm *d = c->remote->d;
    const char **args = doveadm_args_again(d, d->has_input ? "file" : NULL);
    struct buffer line = {0};

    line_begin(&line, d->debug ? "D" : d->verbose ? "v" : "");
    line_field_str(&line, c->user);
    line_field_str(&line, d->command->name);
    for (size_t i = 0; args[i] != NULL; i++)
        line_field_str(&line, args[i]);
    line_end(&line);
    stream_write(c->stream, buffer_slice(&line));
    buffer_free(&line);
    if (d->has_input)
        send_input(c->stream, d->input);
    c->state = BUSY;
    c->in_status = false;
}

static void next_user(struct remote_conn *c)
{
    struct remote *r = c->remote;

    c->state = IDLE;
    if (r->next < r->count) {
        c->user = r->users[r->next++];
        send_command(c);
    } else if (r->done == r->count)
        ev_break(r->loop, EVBREAK_ALL);
}

/* ---- replies ----------------------------------------------------------------------------------------------------------- */

/* The run ends: there is no telling what was done. */
static void lost(struct remote_conn *c, const char *why)
{
    struct remote *r = c->remote;
    const char *user = c->user != NULL ? c->user : r->users[0];

    if (c->state == GONE)
        return;
    if (c->state != IDLE) {
        if (c->state == AWAITS_VERSION)
            log_error(NULL, "doveadm server disconnected before handshake: %s", why);
        log_error(NULL, "%s: Command %s failed for %s: %s", r->server, r->d->command->name, user, why);
        doveadm_status_add(&r->status, DOVEADM_TEMPFAIL);
        ev_break(r->loop, EVBREAK_ALL);
    }
    c->state = GONE;
}

static void take_status(struct remote_conn *c, struct slice line)
{
    struct remote *r = c->remote;
    int status = line_status_of(line);

    if (status == DOVEADM_NOUSER)
        log_error(NULL, "%s: No such user: %s", r->server, c->user);
    doveadm_status_add(&r->status, status);
    r->done++;
    r->printing = NULL;
    next_user(c);
}

/* Values end with a TAB each, the rows with a LF where a value would begin, then comes the status. */
static void take_reply(struct remote_conn *c, struct slice bytes)
{
    struct arena *a = NULL;

    for (size_t i = 0; i < bytes.size && c->state == BUSY; i++) {
        unsigned char b = bytes.at[i];
        if (!c->in_status && b == '\t') {
            struct slice value;
            a = a != NULL ? a : arena_new();
            value = text_tab_unescape(a, buffer_slice(&c->field));
            if (c->remote->d->print != NULL)
                print_value(c->remote->d, arena_str(a, value));
            buffer_reset(&c->field);
        } else if (b != '\n') {
            buffer_append_byte(&c->field, b);
        } else if (!c->in_status) {
            c->in_status = true;
            buffer_reset(&c->field);
        } else {
            struct buffer line = c->field;
            c->field = (struct buffer){0};
            take_status(c, buffer_slice(&line));
            buffer_free(&line);
        }
    }
    arena_free(a);
}

/* A byte for the level, the text, LF. */
static void take_log(struct remote_conn *c, struct slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        if (bytes.at[i] != '\n') {
            buffer_append_byte(&c->log, bytes.at[i]);
            continue;
        }
        if (c->log.size > 0) {
            unsigned level = c->log.at[0];
            bool known = level >= LOG_LEVEL_DEBUG + 1 && level <= LOG_LEVEL_PANIC + 1;
            if (level != LOG_LEVEL_DEBUG + 1 || log_debug_on(NULL))
                log_write(NULL, known ? (enum log_level)(level - 1) : LOG_LEVEL_ERROR, "remote(%s): %.*s", c->remote->server,
                          (int)(c->log.size - 1), (const char *)c->log.at + 1);
        }
        buffer_reset(&c->log);
    }
}

static void wake_others(struct remote *r)
{
    for (size_t i = 0; i < r->conn_count; i++)
        if (r->conns[i].state == BUSY)
            stream_want_input(r->conns[i].stream, true);
}

static void take_packets(struct remote_conn *c)
{
    struct remote *r = c->remote;
    struct slice input;

    while ((c->state == BUSY || c->state == IDLE) && (input = stream_input(c->stream)).size > 0) {
        struct slice piece = slice_head(input, c->left);
        if (c->state == BUSY && r->printing != NULL && r->printing != c)
            return; /* looked at again when the other one is done */
        if (c->left == 0) {
            if (input.size < HEAD)
                return;
            c->channel = input.at[0];
            c->left = bytes_be32(input.at + 1);
            stream_consume(c->stream, HEAD);
            continue;
        }
        c->left -= (uint32_t)piece.size;
        if (c->channel == 0 && c->state == BUSY)
            r->printing = c;
        if (c->channel == 'L')
            take_log(c, piece);
        else if (c->channel == 0)
            take_reply(c, piece);
        stream_consume(c->stream, piece.size);
        if (r->printing == NULL)
            wake_others(r);
    }
}

/* ---- the beginning --------------------------------------------------------------------------------------------------- */

static void take_line(struct remote_conn *c, struct slice line)
{
    struct remote *r = c->remote;
    unsigned minor;
    struct error e;

    if (c->state == AWAITS_VERSION) {
        if (line_check_version(line, "doveadm-client", VERSION_MAJOR, &minor, &e) < 0) {
            log_error(NULL, "doveadm server not compatible with this client (mixed old and new binaries?)");
            lost(c, "EOF");
        } else
            c->state = AWAITS_WELCOME;
        return;
    }
    if (slice_equal_str(line, "+"))
        next_user(c);
    else if (c->state == AWAITS_LOGIN) {
        log_error(NULL, "doveadm authentication failed (%.*s)", (int)slice_from(line, 1).size, (const char *)line.at + 1);
        lost(c, "EOF");
    } else if (*conf_str(doveadm_settings(r->d), SET_doveadm_password) == '\0') {
        log_error(NULL, "doveadm_password not set, can't authenticate to remote server");
        lost(c, "EOF");
    } else {
        send_login(c);
        c->state = AWAITS_LOGIN;
    }
}

static void readable(void *arg)
{
    struct remote_conn *c = arg;

    while (c->state < IDLE) {
        struct slice input = stream_input(c->stream);
        ptrdiff_t end = slice_find(slice_head(input, LOGIN_LINE_MAX), '\n');
        struct buffer line = {0};

        if (end < 0) {
            if (input.size >= LOGIN_LINE_MAX)
                lost(c, "EOF");
            return;
        }
        buffer_append(&line, input.at, (size_t)end);
        stream_consume(c->stream, (size_t)end + 1);
        take_line(c, buffer_slice(&line));
        buffer_free(&line);
    }
    take_packets(c);
}

static void closed(void *arg, const struct error *e)
{
    struct remote_conn *c = arg;

    take_packets(c);
    lost(c, e->class == ERROR_NONE || e->sys == ECONNRESET ? "EOF" : e->admin);
}

/* ---- the run ------------------------------------------------------------------------------------------------------------ */

static void open_conn(struct remote *r, struct remote_conn *c)
{
    static const struct stream_handler handler = {.readable = readable, .closed = closed};
    static const struct stream_limits limits = {.input_max = INPUT_MAX};

    c->remote = r;
    c->stream = stream_new(r->loop, connect_server(r), -1, &limits, &handler, c);
    stream_print(c->stream, "VERSION\tdoveadm-server\t1\t2\n");
}

/* How many connections: as many as the settings allow and there are users; one with -S alone. */
static size_t how_many(struct doveadm *d, size_t users)
{
    size_t most = conf_uint(doveadm_settings(d), SET_doveadm_worker_count);

    most = most == 0 ? 1 : most;
    return most < users ? most : users;
}

int doveadm_remote_run(struct doveadm *d, const char *const *users, size_t count)
{
    struct remote r = {.d = d, .users = users, .count = count, .status = DOVEADM_OK};

    r.server = doveadm_given(d, "socket-path") ? doveadm_text(d, "socket-path")
                                               : doveadm_socket(d, conf_str(doveadm_settings(d), SET_doveadm_socket_path));
    r.conn_count = how_many(d, count);
    r.conns = ARENA_ARRAY(d->arena, struct remote_conn, r.conn_count + 1);
    r.loop = ev_loop_new(EVFLAG_AUTO);
    if (r.loop == NULL)
        doveadm_fatal(DOVEADM_TEMPFAIL, "ev_loop_new() failed");
    (void)signal(SIGPIPE, SIG_IGN);
    if (count > 0)
        log_set_prefix("doveadm(%s): ", users[0]);
    for (size_t i = 0; i < r.conn_count; i++)
        open_conn(&r, &r.conns[i]);
    if (d->iterating)
        log_set_prefix("doveadm: "); /* lines say themselves whom they are about */
    if (count > 0)
        ev_run(r.loop, 0);
    for (size_t i = 0; i < r.conn_count; i++) {
        stream_free(r.conns[i].stream);
        buffer_free(&r.conns[i].field);
        buffer_free(&r.conns[i].log);
    }
    ev_loop_destroy(r.loop);
    return r.status;
}
