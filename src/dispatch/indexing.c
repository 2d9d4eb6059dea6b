/* Connections of the indexer on the socket indexer-worker: a mailbox to index comes in, percents and the end go out (ipc 13).
 *
 *     indexer -> us    VERSION indexer-master-worker 1 0, then: user mailbox session max-recent flags
 *     us -> indexer    VERSION indexer-worker-master 1 0, how many jobs there may be at one time, then: percent ..., 100 or -1
 *
 * A connection has one job at a time, as with Dovecot's workers, each of which is a process that takes one connection. Here the
 * job goes to a worker that runs with the user's credentials. Whoever may connect (0600, default_internal_user) may have any
 * user's mailbox indexed, and nothing else. */
#include "dispatch/dispatch_impl.h"

#include "rpc/indexer.h"

#include <stdio.h>
#include <unistd.h>

struct indexing_conn {
    struct job_asker asker;
    struct dispatcher *dispatcher;
    struct line_conn *line;    /* NULL: closed, its job is still at work */
    struct session *session;   /* the job; NULL = none */
    bool greeted;
    char peer[LINE_PEER_SIZE]; /* as the log names it, also when it has gone */
};

static void log_conn(struct indexing_conn *conn, const char *text)
{
    char prefix[80];
    struct log log = {.prefix = prefix};

    (void)snprintf(prefix, sizeof(prefix), "%s(%ld): ", service_name(conn->dispatcher->service), (long)getpid());
    log_error(&log, "%s: %s", conn->peer, text);
}

static void free_when_done(struct indexing_conn *conn)
{
    if (conn->line == NULL && conn->session == NULL)
        mem_free(conn);
}

static void disconnect(struct indexing_conn *conn)
{
    line_conn_free(conn->line);
    conn->line = NULL;
    free_when_done(conn);
}

/* ---- the job's end ----------------------------------------------------------------------------------------------- */

static struct indexing_conn *conn_of(struct session *session)
{
    return (struct indexing_conn *)session->job;
}

static void forget(struct session *session)
{
    struct indexing_conn *conn = conn_of(session);

    session->job = NULL;
    conn->session = NULL;
    if (conn->line != NULL)
        line_conn_want_input(conn->line, true);
    free_when_done(conn);
}

/* A worker says nothing but numbers here: what is none counts as a failure. */
static int percent_of(const struct slice *fields, size_t count)
{
    uint32_t percent;

    return count > 0 && slice_to_u32(fields[0], &percent) && percent <= INDEXER_DONE ? (int)percent : INDEXER_FAILED;
}

static void answer(struct session *session, const struct slice *fields, size_t count)
{
    struct indexing_conn *conn = conn_of(session);

    if (conn->line != NULL)
        line_conn_print(conn->line, "%d\n", percent_of(fields, count) == INDEXER_DONE ? INDEXER_DONE : INDEXER_FAILED);
    forget(session);
}

static void fail(struct session *session, const struct error *error)
{
    (void)error;
    answer(session, NULL, 0);
}

static void note(struct session *session, const struct slice *fields, size_t count)
{
    struct indexing_conn *conn = conn_of(session);
    int percent = percent_of(fields, count);

    if (conn->line != NULL && percent >= 0 && percent < INDEXER_DONE && !line_conn_full(conn->line))
        line_conn_print(conn->line, "%d\n", percent);
}

/* The line of the original. */
static void unknown(struct session *session, const struct error *error)
{
    const char *why = error->class == ERROR_NOT_FOUND ? "Unknown user" : error->admin;

    log_conn(conn_of(session), arena_printf(session->arena, "User %s lookup failed: %s", session->request.user, why));
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static void take_version(struct indexing_conn *conn, struct slice line)
{
    struct error error;
    unsigned minor;

    if (line_check_version(line, INDEXER_TO_WORKER_NAME, INDEXER_VERSION, &minor, &error) < 0) {
        log_conn(conn, error.admin);
        disconnect(conn);
        return;
    }
    conn->greeted = true;
    line_conn_print(conn->line, "%u\n", service_client_limit(conn->dispatcher->service));
}

static void take_line(void *arg, struct slice line)
{
    struct indexing_conn *conn = arg;
    struct session *session;
    struct indexer_work work;
    struct error error;

    if (!conn->greeted) {
        take_version(conn, line);
        return;
    }
    session = session_new(conn->dispatcher, -1);
    if (indexer_work_read(session->arena, line, &work, &error) < 0) {
        log_conn(conn, error.admin);
        session_ended(session);
        disconnect(conn);
        return;
    }
    session->request.job = true;
    session->request.user = work.user;
    session->request.session = work.session;
    session->request.input = arena_slice(session->arena, line);
    session->job = &conn->asker;
    conn->session = session;
    line_conn_want_input(conn->line, false); /* the next one when this is done */
    session_start_job(session);
}

static void take_close(void *arg, const struct error *error)
{
    struct indexing_conn *conn = arg;

    if (error->class != ERROR_NONE)
        log_conn(conn, error->admin);
    disconnect(conn);
}

void indexing_conn_new(struct dispatcher *d, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = INDEXER_LINE_MAX};
    static const struct job_calls calls = {.answer = answer, .fail = fail, .forget = forget, .note = note, .unknown = unknown};
    struct indexing_conn *conn = mem_zero(1, sizeof(*conn));

    conn->asker.calls = &calls;
    conn->dispatcher = d;
    conn->line = line_conn_new(d->loop, fd, &limits, &handler, conn);
    (void)line_conn_peer(conn->line, "indexer-worker", conn->peer);
    line_conn_send_version(conn->line, INDEXER_FROM_WORKER_NAME, INDEXER_VERSION, 0);
}
