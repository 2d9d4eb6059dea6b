/* Kicks: anvil names an ident and a pid, the dispatcher names the sessions to the worker. */
#include "dispatch/dispatch_impl.h"

#include "rpc/kicks.h"

static void tell_worker(struct session *session)
{
    struct buffer out = {0};
    struct error error;

    line_begin(&out, "KICK");
    line_field_num(&out, session->request.id);
    line_field_str(&out, "Disconnected by an administrator");
    if (pool_send(session->worker, buffer_slice(&out), -1, &error) < 0)
        log_error_value(NULL, &error);
    buffer_free(&out);
}

static void take_kick(void *arg, struct slice ident, pid_t pid)
{
    struct dispatcher *d = arg;

    for (struct session *s = d->sessions; s != NULL; s = s->hh.next)
        if (s->delivered && s->ident != NULL && slice_equal_str(ident, s->ident) && pool_pid(s->worker) == pid)
            tell_worker(s);
}

void dispatch_kicks_start(struct dispatcher *d)
{
    d->kicks = kicks_start(d->service, take_kick, d);
}
