/* A connection to imap-urlauth for a worker's session (ipc 16).
 *
 * The token was made for this process (auth.md 21), so this process shows it; what the services answer is the worker's to read. So
 * a worker has no secret with which somebody could go on after the session. */
#include "dispatch/dispatch_impl.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_for(struct session *session, struct error *error)
{
    const struct dispatch_request *request = &session->request;
    const char *path = arena_printf(session->arena, "%s/imap-urlauth", service_base_dir(session->dispatcher->service));
    struct buffer auth = {0}, out = {0};
    int fd;

    if (session->token == NULL)
        return error_set(error, ERROR_UNSUPPORTED, "imap-urlauth: auth has given no token");
    fd = line_connect(path, 0, error);
    if (fd < 0)
        return -1;
    line_begin(&auth, "AUTH");
    line_field_str(&auth, session->dispatcher->protocol);
    line_field_num(&auth, (uint64_t)getpid());
    line_field_str(&auth, request->user);
    line_field_str(&auth, request->session);
    line_field_str(&auth, session->token);
    line_end(&auth);
    buffer_append_str(&out, "VERSION\timap-urlauth\t2\t0\n");
    buffer_append_slice(&out, buffer_slice(&auth));
    if (send(fd, out.at, out.size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)out.size) {
        (void)error_sys(error, "send", path);
        (void)close(fd);
        fd = -1;
    }
    buffer_wipe(&auth);
    buffer_wipe(&out);
    return fd;
}

void session_urlauth(struct session *session)
{
    struct buffer packet = {0};
    struct error error;
    int fd = connect_for(session, &error);

    if (fd < 0)
        log_error_value(NULL, &error);
    line_begin(&packet, "URLAUTH");
    line_field_num(&packet, session->request.id);
    if (pool_send(session->worker, buffer_slice(&packet), fd, &error) < 0)
        log_error_value(NULL, &error);
    if (fd >= 0)
        (void)close(fd);
    buffer_free(&packet);
}

void session_take_token(struct session *session)
{
    struct rpc_fields *fields = &session->request.userdb;
    size_t kept = 0;

    for (size_t i = 0; i < fields->count; i++) {
        if (strcmp(fields->at[i].key, "auth_token") == 0)
            session->token = fields->at[i].value;
        else
            fields->at[kept++] = fields->at[i];
    }
    fields->count = kept;
}
