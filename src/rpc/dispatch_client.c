/* dispatch_client.c - handing in jobs (the lmtp front): numbers them, and gives each answer to who asked. */
#include "rpc/dispatch.h"
#include "rpc/packet.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uthash.h>

struct open_job {
    uint32_t id;
    dispatch_answer_fn *answer;
    void *arg;
    UT_hash_handle hh;
};

struct dispatch_client {
    struct packet_conn *conn;
    struct ev_loop *loop;
    struct open_job *jobs;
    uint32_t last;
    bool lost;
};

static void finish_job(struct dispatch_client *client, struct open_job *job, const struct error *error,
                       const struct slice *fields, size_t count)
{
    dispatch_answer_fn *answer = job->answer;
    void *arg = job->arg;

    HASH_DEL(client->jobs, job);
    mem_free(job);
    answer(arg, error, fields, count);
}

static void take_packet(void *arg, struct slice packet, int fd)
{
    static const struct error none = {.class = ERROR_NONE};
    struct dispatch_client *client = arg;
    struct arena *arena = arena_new();
    struct slice *fields;
    struct error error;
    struct open_job *job = NULL;
    size_t count = text_tab_fields(arena, packet, &fields);
    uint32_t id;

    if (fd >= 0)
        (void)close(fd);
    if (count >= 2 && slice_to_u32(fields[1], &id))
        HASH_FIND(hh, client->jobs, &id, sizeof(id), job);
    if (job == NULL) {
        arena_free(arena);
        return;
    }
    if (slice_equal_str(fields[0], "ANSWER")) {
        finish_job(client, job, &none, fields + 2, count - 2);
    } else {
        /* FAILED id class text: before a worker had it, or because the worker died. */
        enum error_class class = count > 2 && slice_equal_str(fields[2], "not-found") ? ERROR_NOT_FOUND
                                                                                     : ERROR_TEMPORARY;

        (void)error_set(&error, class, "%.*s", count > 3 ? (int)fields[3].size : 0,
                        count > 3 ? (const char *)fields[3].at : "");
        finish_job(client, job, &error, NULL, 0);
    }
    arena_free(arena);
}

static void take_close(void *arg, const struct error *why)
{
    struct dispatch_client *client = arg;
    struct open_job *job, *next;
    struct error error;

    (void)why;
    packet_conn_free(client->conn);
    client->conn = NULL;
    client->lost = true;
    HASH_ITER (hh, client->jobs, job, next) {
        (void)error_set(&error, ERROR_TEMPORARY, "The connection to the dispatcher was lost");
        finish_job(client, job, &error, NULL, 0);
    }
}

struct dispatch_client *dispatch_client_new(struct ev_loop *loop, const char *path, struct error *error)
{
    static const struct packet_handler handler = {.packet = take_packet, .closed = take_close};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct dispatch_client *client;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        (void)error_set(error, ERROR_INVALID, "Unix socket path too long: %s", path);
        return NULL;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        (void)error_sys(error, "connect", path);
        if (fd >= 0)
            (void)close(fd);
        return NULL;
    }
    client = mem_zero(1, sizeof(*client));
    client->loop = loop;
    client->conn = packet_conn_new(loop, fd, DISPATCH_MESSAGE_MAX, &handler, client);
    return client;
}

void dispatch_client_free(struct dispatch_client *client)
{
    struct open_job *job, *next;

    if (client == NULL)
        return;
    HASH_ITER (hh, client->jobs, job, next) {
        HASH_DEL(client->jobs, job);
        mem_free(job);
    }
    packet_conn_free(client->conn);
    mem_free(client);
}

int dispatch_client_job(struct dispatch_client *client, struct dispatch_request *request, int fd,
                        dispatch_answer_fn *answer, void *arg, struct error *error)
{
    struct buffer out = {0};
    struct open_job *job;
    int result;

    if (client->lost)
        return error_set(error, ERROR_TEMPORARY, "The connection to the dispatcher was lost");
    if (++client->last == 0)
        client->last = 1;
    request->id = client->last;
    request->job = true;
    result = dispatch_request_write(&out, request, error);
    if (result == 0)
        result = packet_conn_send(client->conn, buffer_slice(&out), fd, error);
    buffer_free(&out);
    if (result < 0)
        return -1;
    job = mem_zero(1, sizeof(*job));
    job->id = request->id;
    job->answer = answer;
    job->arg = arg;
    HASH_ADD(hh, client->jobs, id, sizeof(job->id), job);
    return 0;
}
