/* The post-login script stage (ipc 7.4): the client's descriptor goes to a script service, which returns the user's
 * fields, changed or not, and perhaps another descriptor. No answer means that the script refuses the login. */
#include "dispatch/dispatch_impl.h"

#include "net/fdpass.h"

#include <errno.h>
#include <unistd.h>

enum { SCRIPT_TIMEOUT_SECS = 60, REPLY_MAX = 64 * 1024 };

struct postlogin {
    struct session *session;
    int fd, passed;
    struct buffer reply;
    ev_io watcher;
    ev_timer timeout;
};

static void release(struct postlogin *p)
{
    struct ev_loop *loop = p->session->dispatcher->loop;

    ev_io_stop(loop, &p->watcher);
    ev_timer_stop(loop, &p->timeout);
    (void)close(p->fd);
    if (p->passed >= 0)
        (void)close(p->passed);
    buffer_free(&p->reply);
    mem_free(p);
}

void postlogin_cancel(struct postlogin *p)
{
    release(p);
}

static void refuse(struct postlogin *p, const char *why)
{
    struct session *session = p->session;
    struct error error;

    (void)error_set(&error, ERROR_PERMISSION, "Post-login script %s user %s", why, session->request.user);
    release(p);
    session_script_done(session, &error);
}

static void take_reply(struct postlogin *p, size_t size)
{
    static const struct error none = {.class = ERROR_NONE};
    struct session *session = p->session;
    struct slice *fields;
    size_t count = text_tab_fields(session->arena, slice_head(buffer_slice(&p->reply), size), &fields);
    struct rpc_fields parsed = rpc_fields_parse(session->arena, fields, count, 1);

    if (fields[0].size == 0) {
        refuse(p, "denied access to");
        return;
    }
    session->request.user = arena_str(session->arena, fields[0]);
    session->request.userdb = rpc_fields_copy(session->arena, &parsed);
    if (p->passed >= 0) {
        (void)close(session->fd);
        session->fd = p->passed;
        p->passed = -1;
    }
    release(p);
    session_script_done(session, &none);
}

static void readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct postlogin *p = watcher->data;
    unsigned char chunk[4096];
    int fd = -1;
    ssize_t n = net_receive_fd(p->fd, chunk, sizeof(chunk), &fd);
    ptrdiff_t end;

    (void)loop, (void)events;
    if (fd >= 0) {
        if (p->passed >= 0)
            (void)close(p->passed);
        p->passed = fd;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        refuse(p, "denied access to");
        return;
    }
    buffer_append(&p->reply, chunk, (size_t)n);
    end = slice_find(buffer_slice(&p->reply), '\n');
    if (end >= 0)
        take_reply(p, (size_t)end);
    else if (p->reply.size > REPLY_MAX)
        refuse(p, "sent too long a reply for");
}

static void too_late(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    refuse(timer->data, "timed out for");
}

/* The descriptor travels with the first byte. The message is small: a fresh socket takes it whole. */
static int send_request(struct session *session, int fd, struct error *error)
{
    const struct dispatch_request *request = &session->request;
    struct buffer out = {0};
    char lip[NET_IP_TEXT] = "", rip[NET_IP_TEXT] = "";
    ssize_t n;

    if (request->local.ip.family != 0)
        (void)net_ip_text(&request->local.ip, lip);
    if (request->remote.ip.family != 0)
        (void)net_ip_text(&request->remote.ip, rip);
    buffer_printf(&out, "VERSION\tscript-login\t1\t0\n%s\t%s\t", lip, rip);
    text_tab_escape(&out, slice_from_str(request->user));
    rpc_fields_write(&out, "", &request->userdb);
    line_end(&out);
    n = net_send_fd(fd, buffer_slice(&out), session->fd);
    if (n == (ssize_t)out.size) {
        buffer_free(&out);
        return 0;
    }
    buffer_free(&out);
    return n < 0 ? error_sys(error, "sendmsg", "post-login socket")
                 : error_set(error, ERROR_TEMPORARY, "The post-login socket took only a part of the request");
}

int postlogin_start(struct session *session, const char *socket, struct error *error)
{
    struct dispatcher *d = session->dispatcher;
    struct postlogin *p;
    int fd = service_connect(d->service, socket, error);

    if (fd < 0)
        return -1;
    if (send_request(session, fd, error) < 0) {
        (void)close(fd);
        return -1;
    }
    p = mem_zero(1, sizeof(*p));
    p->session = session;
    p->fd = fd;
    p->passed = -1;
    ev_io_init(&p->watcher, readable, fd, EV_READ);
    ev_timer_init(&p->timeout, too_late, SCRIPT_TIMEOUT_SECS, 0.);
    p->watcher.data = p->timeout.data = p;
    ev_io_start(d->loop, &p->watcher);
    ev_timer_start(d->loop, &p->timeout);
    session->postlogin = p;
    return 0;
}
