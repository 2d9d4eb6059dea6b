/* control.c - the program imap-urlauth: a client that has shown who it is goes to one worker after the other (ipc 16).
 *
 * The request of the login process comes as to every mail service (ipc 7.2), auth says who it is, the login process gets its 12
 * bytes and the client "OK". From then on this process only passes the client's socket on: to a worker, which serves it until it
 * is done with one user (FINISHED), then to the next.
 *
 * A process serves one client (client_limit=1), and waits blocking for its workers, so that no byte of the client is read here. */
#include "dispatch/dispatch_impl.h"
#include "net/fdpass.h"
#include "urlauth/wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST_SECS = 30, ANSWER_SECS = 30, LINE_MOST = 2048, IDLE_SECS = 10 * 60 };

struct control {
    struct service *service;
    struct settings *set;
    struct auth_master *auth;
    int login;                         /* the login process's connection; -1: none */
    ev_io watch;
    struct wire client;
    struct arena *arena;               /* of the client */
    struct log log;
    uint32_t tag;
    struct auth_lookup *lookup;
};

static void answer_login(struct control *c, uint32_t status)
{
    unsigned char bytes[LOGIN_ANSWER_SIZE];

    if (c->login < 0)
        return;
    login_answer_write(bytes, c->tag, status, getpid());
    (void)send(c->login, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)close(c->login);
    c->login = -1;
}

static void end_client(struct control *c)
{
    if (c->login >= 0)
        (void)close(c->login);
    c->login = -1;
    if (c->client.fd >= 0)
        (void)close(c->client.fd);
    c->client.fd = -1;
    if (c->arena != NULL)
        arena_free(c->arena);
    c->arena = NULL;
    service_client_end(c->service);
}

static void log_end(struct control *c, const char *reason)
{
    const struct conf_var table[] = {
        {'i', "input", arena_printf(c->arena, "%llu", (unsigned long long)c->client.in)},
        {'o', "output", arena_printf(c->arena, "%llu", (unsigned long long)c->client.out)},
        {0, NULL, NULL}};
    const struct conf_vars vars = {.table = table};
    struct error e;

    log_info(&c->log, "Disconnected: %s %s", reason,
             conf_expand(c->arena, conf_str(c->set, SET_imap_urlauth_logout_format), &vars, NULL, &e));
}

/* ---- workers ------------------------------------------------------------------------------------------------------------- */

/* "ACCESS user service [debug] [apps=submit+,stream]" */
static void put_access(struct control *c, struct buffer *out, const char *user, const char *service, bool anonymous)
{
    const char *submit = conf_str(c->set, SET_imap_urlauth_submit_user), *stream = conf_str(c->set, SET_imap_urlauth_stream_user);
    bool may_submit = !anonymous && strcmp(submit, user) == 0, may_stream = !anonymous && strcmp(stream, user) == 0;

    line_begin(out, "ACCESS");
    line_field_str(out, anonymous ? "" : user);
    line_field_str(out, service);
    if (conf_bool(c->set, SET_mail_debug))
        line_field_str(out, "debug");
    if (may_submit || may_stream)
        line_pair(out, "apps", may_submit && may_stream ? "submit+,stream" : may_submit ? "submit+" : "stream");
    line_end(out);
}

static bool expect_ok(struct wire *w, struct buffer *line)
{
    return wire_line(w, line, LINE_MOST, ANSWER_SECS) == WIRE_LINE && slice_equal_str(buffer_slice(line), "OK");
}

/* The client goes to one worker. True: it may have another one. */
static bool serve_one(struct control *c, const char *path, struct slice access)
{
    struct buffer line = {0};
    struct wire worker = {.fd = -1, .guard = -1};
    struct error e;
    bool more = false;

    worker.fd = line_connect(path, 1000, &e);
    if (worker.fd < 0) {
        log_error_value(&c->log, &e);
        log_end(c, "No worker");
        return false;
    }
    if (net_send_fd(worker.fd, SLICE("0"), c->client.fd) != 1 || wire_write(&worker, SLICE("VERSION\timap-urlauth-worker\t2\t0\n")) < 0 ||
        !expect_ok(&worker, &line) || wire_write(&worker, access) < 0 || !expect_ok(&worker, &line)) {
        log_error(&c->log, "Worker did not take the client");
    } else {
        /* The worker has deadlines of its own; its end ends the waiting. */
        enum wire_result got = wire_line(&worker, &line, LINE_MOST, 24 * 3600);
        struct slice word = SLICE_EMPTY, *f;
        struct arena *arena = arena_new();
        size_t count = got == WIRE_LINE ? wire_fields(arena, &line, &f) : 0;
        uint64_t n;

        if (count > 0)
            word = f[0];
        more = slice_equal_str(word, "FINISHED");
        if (count > 2 && slice_to_u64(f[1], &n))
            c->client.in += n;
        if (count > 2 && slice_to_u64(f[2], &n))
            c->client.out += n;
        arena_free(arena);
    }
    (void)close(worker.fd);
    buffer_free(&line);
    return more;
}

static void serve(struct control *c, const char *user, const struct rpc_fields *fields)
{
    const char *service = rpc_fields_get(fields, "client_service");
    char *path = mem_printf("%s/imap-urlauth-worker", service_base_dir(c->service));
    struct buffer access = {0};
    struct pollfd more = {.fd = c->client.fd, .events = POLLIN};

    put_access(c, &access, user, service == NULL ? "imap" : service, rpc_fields_has(fields, "anonymous"));
    if (wire_write(&c->client, SLICE("OK\n")) == 0) {
        char byte;

        /* A worker is asked for when the client has something to say. */
        while (poll(&more, 1, IDLE_SECS * 1000) > 0 && recv(c->client.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0 &&
               serve_one(c, path, buffer_slice(&access)))
            ;
        log_end(c, "Connection closed");
    }
    buffer_free(&access);
    mem_free(path);
}

/* ---- logins -------------------------------------------------------------------------------------------------------------- */

static void found(void *arg, const struct error *why, const char *user, const struct rpc_fields *fields)
{
    struct control *c = arg;

    c->lookup = NULL;
    if (why->class != ERROR_NONE) {
        log_error_value(NULL, why);
        (void)wire_write(&c->client, SLICE("NO\n"));
        answer_login(c, 1);
        end_client(c);
        return;
    }
    c->log.prefix = arena_printf(c->arena, "imap-urlauth(%s)<%ld>: ", user, (long)getpid());
    answer_login(c, 0);
    (void)signal(SIGTERM, SIG_DFL); /* from here on this process waits without its loop; nothing is lost by its end */
    serve(c, user, fields);
    end_client(c);
}

static int read_all(int fd, unsigned char *at, size_t size, int *client)
{
    size_t got = 0;

    while (got < size) {
        struct pollfd more = {.fd = fd, .events = POLLIN};
        int came = -1;
        ssize_t n;

        if (poll(&more, 1, REQUEST_SECS * 1000) <= 0)
            return -1;
        n = net_receive_fd(fd, at + got, size - got, &came);
        if (came >= 0) {
            if (*client >= 0)
                (void)close(*client);
            *client = came;
        }
        if (n <= 0)
            return -1;
        got += (size_t)n;
    }
    return 0;
}

static void readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct control *c = watcher->data;
    unsigned char head[LOGIN_REQUEST_SIZE], data[LOGIN_DATA_MAX];
    struct login_request request;
    struct error e = {0};
    char byte;

    (void)events;
    ev_io_stop(loop, watcher);
    if (recv(c->login, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) { /* it has gone without a request */
        end_client(c);
        return;
    }
    if (read_all(c->login, head, sizeof(head), &c->client.fd) < 0 || login_request_read(head, &request, &e) < 0 ||
        read_all(c->login, data, request.data_size, &c->client.fd) < 0 || c->client.fd < 0) {
        log_error(NULL, "Broken request of a login process: %s", e.admin);
        end_client(c);
        return;
    }
    c->tag = request.tag;
    c->lookup = auth_master_login(c->auth, request.client_pid, request.auth_id, request.cookie, getpid(), false, found, c);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    struct control *c = arg;

    (void)listener;
    c->arena = arena_new();
    c->client = (struct wire){.fd = -1, .guard = -1};
    c->login = fd;
    ev_io_init(&c->watch, readable, fd, EV_READ);
    c->watch.data = c;
    ev_io_start(service_loop(c->service), &c->watch);
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "imap-urlauth"};
    static const struct service_handler handler = {.connected = connected};
    const struct conf_filter filter = {.service = "imap-urlauth"};
    struct control c = {.login = -1};
    struct error e = {0};
    int fd, status;

    c.service = service_init(argc, argv, &options, &c);
    c.set = conf_settings(service_conf(c.service), &filter, &e);
    fd = c.set == NULL ? -1 : service_connect(c.service, "auth-master", &e); /* before privileges are dropped */
    if (fd < 0)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    c.auth = auth_master_new(service_loop(c.service), NULL, fd);
    service_drop_privileges(c.service, 0);
    service_ready(c.service, &handler, &c);
    status = service_run(c.service);
    auth_master_free(c.auth);
    settings_unref(c.set);
    return status;
}
