/* A worker for the tests of the dispatcher: says what it was given, then echoes lines. Words it obeys:
 * "bye" ends the session, "crash" kills the process, "pid" prints the pid, "who" prints the ids it runs with. */
#include "net/stream.h"
#include "rpc/dispatch.h"

#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

struct client {
    struct client *prev, *next;
    struct worker *worker;
    struct stream *stream;
    uint32_t id;
};

struct worker {
    struct service *service;
    struct dispatch_worker *dispatch;
    struct client *clients;
};

static void end(struct client *client)
{
    struct worker *worker = client->worker;
    uint32_t id = client->id;

    DL_DELETE(worker->clients, client);
    stream_free(client->stream);
    mem_free(client);
    dispatch_worker_end(worker->dispatch, id);
}

static void print_ids(struct stream *stream)
{
    gid_t groups[64];
    int n = getgroups(64, groups);

    stream_print(stream, "uid=%u euid=%u gid=%u egid=%u groups=", getuid(), geteuid(), getgid(), getegid());
    for (int i = 0; i < n; i++)
        stream_print(stream, "%s%u", i == 0 ? "" : ",", groups[i]);
    stream_print(stream, "\n");
}

static void readable(void *arg)
{
    struct client *client = arg;
    struct slice input = stream_input(client->stream), line;
    ptrdiff_t nl;

    while ((nl = slice_find(input, '\n')) >= 0) {
        line = slice_trim(slice_head(input, (size_t)nl));
        if (slice_equal_str(line, "bye")) {
            stream_flush(client->stream);
            end(client);
            return;
        }
        if (slice_equal_str(line, "crash"))
            (void)raise(SIGKILL);
        if (slice_equal_str(line, "pid"))
            stream_print(client->stream, "pid=%ld\n", (long)getpid());
        else if (slice_equal_str(line, "who"))
            print_ids(client->stream);
        else
            stream_print(client->stream, "echo %.*s\n", (int)line.size, (const char *)line.at);
        stream_consume(client->stream, (size_t)nl + 1);
        input = stream_input(client->stream);
    }
}

static void closed(void *arg, const struct error *error)
{
    (void)error;
    end(arg);
}

static void session(void *arg, const struct dispatch_request *request, int fd)
{
    static const struct stream_handler handler = {.readable = readable, .closed = closed};
    struct worker *worker = arg;
    struct client *client = mem_zero(1, sizeof(*client));

    client->worker = worker;
    client->id = request->id;
    client->stream = stream_new(service_loop(worker->service), fd, -1, NULL, &handler, client);
    stream_unread(client->stream, request->input);
    DL_APPEND(worker->clients, client);
    stream_print(client->stream, "%s OK user=%s session=%s", request->tag == NULL ? "*" : request->tag, request->user,
                 request->session);
    for (size_t i = 0; i < request->userdb.count; i++)
        stream_print(client->stream, " %s=%s", request->userdb.at[i].key,
                     request->userdb.at[i].value == NULL ? "" : request->userdb.at[i].value);
    stream_print(client->stream, "\n");
    if (request->input.size > 0)
        readable(client);
}

static void kick(void *arg, uint32_t id, const char *reason)
{
    struct worker *worker = arg;

    for (struct client *c = worker->clients; c != NULL; c = c->next)
        if (c->id == id) {
            stream_print(c->stream, "* BYE %s\n", reason);
            stream_flush(c->stream);
            end(c);
            return;
        }
}

static void job(void *arg, const struct dispatch_request *request, int fd)
{
    struct worker *worker = arg;
    const char *const fields[] = {"done", request->user};

    if (fd >= 0)
        (void)close(fd);
    dispatch_worker_answer(worker->dispatch, request->id, fields, 2);
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "imap"};
    static const struct service_handler handler = {0};
    static const struct dispatch_handler dispatch = {.session = session, .kick = kick, .job = job};
    struct worker worker = {0};

    worker.service = service_init(argc, argv, &options, NULL);
    service_drop_privileges(worker.service, 0);
    worker.dispatch = dispatch_worker_new(worker.service, &dispatch, &worker);
    service_ready(worker.service, &handler, &worker);
    return service_run(worker.service);
}
