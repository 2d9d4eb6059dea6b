/* dispatch_worker.c - the worker's end: sessions and jobs come in, their ends go out (dispatch.h). */
#include "rpc/dispatch.h"
#include "rpc/packet.h"

#include <stdlib.h>
#include <unistd.h>

struct dispatch_worker {
    struct service *service;
    struct packet_conn *conn; /* NULL: the dispatcher is gone */
    const struct dispatch_handler *handler;
    void *arg;
    bool finishing;
    unsigned open;            /* sessions and jobs */
};

bool dispatch_is_worker(void)
{
    return getenv(DISPATCH_FD_ENV) != NULL;
}

static void stop_when_done(struct dispatch_worker *worker)
{
    if (worker->finishing && worker->open == 0)
        service_stop(worker->service);
}

static void finish(struct dispatch_worker *worker)
{
    if (worker->finishing)
        return;
    worker->finishing = true;
    if (worker->handler->finish != NULL)
        worker->handler->finish(worker->arg);
    stop_when_done(worker);
}

static void send_words(struct dispatch_worker *worker, const char *command, uint32_t id, const char *const *fields,
                       size_t count, int fd)
{
    struct buffer out = {0};
    struct error error;

    if (worker->conn == NULL)
        return;
    line_begin(&out, command);
    if (id != 0)
        line_field_num(&out, id);
    for (size_t i = 0; i < count; i++)
        line_field_str(&out, fields[i]);
    if (packet_conn_send(worker->conn, buffer_slice(&out), fd, &error) < 0)
        log_error_value(NULL, &error);
    buffer_free(&out);
}

static void take_request(struct dispatch_worker *worker, struct arena *arena, struct slice packet, int fd)
{
    struct dispatch_request request;
    struct error error;

    if (dispatch_request_read(arena, packet, &request, &error) < 0) {
        log_error_value(NULL, &error);
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    worker->open++;
    service_client_begin(worker->service);
    send_words(worker, "TAKEN", request.id, NULL, 0, -1);
    if (request.job && worker->handler->job != NULL) {
        worker->handler->job(worker->arg, &request, fd);
    } else if (!request.job && fd >= 0) {
        worker->handler->session(worker->arg, &request, fd);
    } else {
        log_error(NULL, "The dispatcher sent %s that this worker cannot serve",
                  request.job ? "a job" : "a session without a descriptor");
        if (fd >= 0)
            (void)close(fd);
        dispatch_worker_end(worker, request.id);
    }
}

static void take_packet(void *arg, struct slice packet, int fd)
{
    struct dispatch_worker *worker = arg;
    struct arena *arena = arena_new();
    struct slice *fields;
    size_t count;
    uint32_t id;

    if (slice_starts(packet, SLICE("SESSION\t")) || slice_starts(packet, SLICE("JOB\t"))) {
        take_request(worker, arena, packet, fd);
        arena_free(arena);
        return;
    }
    count = text_tab_fields(arena, packet, &fields);
    if (slice_equal_str(fields[0], "KICK") && count >= 2 && slice_to_u32(fields[1], &id))
        worker->handler->kick(worker->arg, id, count > 2 ? arena_str(arena, fields[2]) : "");
    else if (slice_equal_str(fields[0], "FINISH"))
        finish(worker);
    else if (slice_equal_str(fields[0], "URLAUTH") && count >= 2 && slice_to_u32(fields[1], &id) && worker->handler->urlauth != NULL) {
        worker->handler->urlauth(worker->arg, id, fd);
        fd = -1;
    } else if (slice_equal_str(fields[0], "STATS") && fd >= 0 && worker->handler->stats != NULL) {
        worker->handler->stats(worker->arg, fd);
        fd = -1;
    }
    if (fd >= 0)
        (void)close(fd);
    arena_free(arena);
}

static void take_close(void *arg, const struct error *error)
{
    struct dispatch_worker *worker = arg;

    if (error->class != ERROR_NONE)
        log_error_value(NULL, error);
    packet_conn_free(worker->conn);
    worker->conn = NULL;
    finish(worker);
}

struct dispatch_worker *dispatch_worker_new(struct service *service, const struct dispatch_handler *handler, void *arg)
{
    static const struct packet_handler packets = {.packet = take_packet, .closed = take_close};
    struct dispatch_worker *worker = mem_zero(1, sizeof(*worker));
    const char *text = getenv(DISPATCH_FD_ENV);
    uint32_t fd;

    if (text == NULL || !slice_to_u32(slice_from_str(text), &fd) || fd > INT32_MAX)
        log_fatal(EXIT_FATAL, "Invalid environment: " DISPATCH_FD_ENV "=%s", text == NULL ? "" : text);
    (void)unsetenv(DISPATCH_FD_ENV);
    worker->service = service;
    worker->handler = handler;
    worker->arg = arg;
    worker->conn = packet_conn_new(service_loop(service), (int)fd, DISPATCH_MESSAGE_MAX, &packets, worker);
    send_words(worker, "READY", 0, NULL, 0, -1);
    return worker;
}

static void close_one(struct dispatch_worker *worker)
{
    if (worker->open == 0)
        return;
    worker->open--;
    service_client_end(worker->service);
    stop_when_done(worker);
}

void dispatch_worker_urlauth(struct dispatch_worker *worker, uint32_t id)
{
    if (worker->conn == NULL) {
        worker->handler->urlauth(worker->arg, id, -1);
        return;
    }
    send_words(worker, "URLAUTH", id, NULL, 0, -1);
}

void dispatch_worker_end(struct dispatch_worker *worker, uint32_t id)
{
    send_words(worker, "END", id, NULL, 0, -1);
    close_one(worker);
}

void dispatch_worker_leave(struct dispatch_worker *worker, uint32_t id, int fd)
{
    send_words(worker, "END", id, NULL, 0, fd);
    (void)close(fd);
    close_one(worker);
}

void dispatch_worker_answer(struct dispatch_worker *worker, uint32_t id, const char *const *fields, size_t count)
{
    send_words(worker, "ANSWER", id, fields, count, -1);
    close_one(worker);
}

void dispatch_worker_note(struct dispatch_worker *worker, uint32_t id, const char *const *fields, size_t count)
{
    send_words(worker, "NOTE", id, fields, count, -1);
}

void dispatch_worker_free(struct dispatch_worker *worker)
{
    if (worker == NULL)
        return;
    packet_conn_free(worker->conn);
    mem_free(worker);
}
