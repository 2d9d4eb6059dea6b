/* Connections of the lmtp front: deliveries in, answers out (dispatch.h, JOB).
 *
 * The front runs as the internal user and is not believed about anybody's ids: the user is looked up here again, and
 * the fields that it sent are thrown away. */
#include "dispatch/dispatch_impl.h"

#include <unistd.h>

enum { JOBS_OPEN_MOST = 5000 };

struct job_conn {
    struct job_asker asker;
    struct dispatcher *dispatcher;
    struct packet_conn *conn; /* NULL: closed, sessions still open */
    unsigned open;
};

static void free_when_done(struct job_conn *jobs)
{
    if (jobs->conn == NULL && jobs->open == 0)
        mem_free(jobs);
}

static void send_failure(struct job_conn *jobs, uint32_t id, const struct error *error)
{
    struct buffer out = {0};
    struct error ignored;

    if (jobs->conn == NULL)
        return;
    line_begin(&out, "FAILED");
    line_field_num(&out, id);
    line_field_str(&out, error->class == ERROR_NOT_FOUND ? "not-found" : "temporary");
    line_field_str(&out, error->admin);
    (void)packet_conn_send(jobs->conn, buffer_slice(&out), -1, &ignored);
    buffer_free(&out);
}

static void forget(struct session *session)
{
    struct job_conn *jobs = (struct job_conn *)session->job;

    session->job = NULL;
    jobs->open--;
    free_when_done(jobs);
}

static void answer(struct session *session, const struct slice *fields, size_t count)
{
    struct job_conn *jobs = (struct job_conn *)session->job;
    struct buffer out = {0};
    struct error error;

    if (jobs->conn != NULL) {
        line_begin(&out, "ANSWER");
        line_field_num(&out, session->origin_id);
        for (size_t i = 0; i < count; i++)
            line_field(&out, fields[i]);
        if (packet_conn_send(jobs->conn, buffer_slice(&out), -1, &error) < 0)
            log_error_value(NULL, &error);
        buffer_free(&out);
    }
    forget(session);
}

static void fail(struct session *session, const struct error *error)
{
    send_failure((struct job_conn *)session->job, session->origin_id, error);
    forget(session);
}

static void take_packet(void *arg, struct slice packet, int fd)
{
    struct job_conn *jobs = arg;
    struct dispatcher *d = jobs->dispatcher;
    struct session *session = session_new(d, fd);
    uint32_t own = session->request.id;
    struct error error;

    if (dispatch_request_read(session->arena, packet, &session->request, &error) < 0 || !session->request.job) {
        session->request.id = own;
        log_error(NULL, "The delivery front sent an invalid job");
        session_ended(session);
        return;
    }
    session->origin_id = session->request.id;
    session->request.id = own;
    session->request.service = d->protocol;
    session->request.userdb = (struct rpc_fields){0};
    session->request.input = arena_slice(session->arena, session->request.input);
    session->job = &jobs->asker;
    jobs->open++;
    if (jobs->open > JOBS_OPEN_MOST) {
        (void)error_set(&error, ERROR_LIMIT, "Too many deliveries are open");
        fail(session, &error);
        session_ended(session);
        return;
    }
    session_start_job(session);
}

static void take_close(void *arg, const struct error *error)
{
    struct job_conn *jobs = arg;

    if (error->class != ERROR_NONE)
        log_error_value(NULL, error);
    packet_conn_free(jobs->conn);
    jobs->conn = NULL;
    free_when_done(jobs);
}

void job_conn_new(struct dispatcher *d, int fd)
{
    static const struct packet_handler handler = {.packet = take_packet, .closed = take_close};
    static const struct job_calls calls = {.answer = answer, .fail = fail, .forget = forget};
    struct job_conn *jobs = mem_zero(1, sizeof(*jobs));

    jobs->asker.calls = &calls;
    jobs->dispatcher = d;
    jobs->conn = packet_conn_new(d->loop, fd, DISPATCH_MESSAGE_MAX, &handler, jobs);
}
