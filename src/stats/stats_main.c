/* libexec/stats: answers the protocols of the stats service (ipc 8), so that nobody who connects waits for it.
 *
 * It counts nothing: its filter is empty, which tells writers to send no events, readers see no metrics, and
 * METRICS-ADD is refused with a reason (docs/compatibility.md). What it does is exact: who speaks first, the versions,
 * the empty lines, and what ends a connection. */
#include "net/fdpass.h"
#include "rpc/line.h"
#include "rpc/service.h"

enum { WRITER_LINE_MAX = 128 * 1024, READER_LINE_MAX = 1024 };

struct peer {
    struct service *service;
    struct line_conn *conn;
    bool reader, greeted;
};

static void end(struct peer *peer, const char *text, struct slice line)
{
    struct error error;

    (void)error_set(&error, ERROR_INVALID, "%s", text);
    if (line.size > 0)
        log_error(NULL, "Client sent invalid input: %s (input: %.*s)", text, (int)(line.size > 100 ? 100 : line.size),
                  (const char *)line.at);
    (void)line_conn_flush(peer->conn);
    line_conn_fail(peer->conn, &error);
}

static void take_reader_line(struct peer *peer, struct slice line)
{
    struct slice rest = line, command = SLICE_EMPTY, name = SLICE_EMPTY;

    (void)slice_split(&rest, '\t', &command);
    (void)slice_split(&rest, '\t', &name);
    if (slice_equal_str(command, "DUMP") || slice_equal_str(command, "DUMP-RESET"))
        line_conn_print(peer->conn, "\n");
    else if (slice_equal_str(command, "METRICS-ADD"))
        line_conn_print(peer->conn, "-METRICS-ADD: This version has no metrics\n");
    else if (slice_equal_str(command, "METRICS-REMOVE"))
        line_conn_print(peer->conn, "-metrics '%.*s' not found\n", (int)name.size, (const char *)name.at);
    else
        end(peer, "Unknown command", line);
}

/* Events of writers that had no time to read the filter are thrown away. */
static void take_line(void *arg, struct slice line)
{
    struct peer *peer = arg;
    struct error error;
    unsigned minor;

    if (!peer->greeted) {
        peer->greeted = true;
        if (line_check_version(line, peer->reader ? "stats-reader-client" : "stats-client", peer->reader ? 2 : 4,
                               &minor, &error) < 0) {
            pid_t pid = 0;
            uid_t uid = 0;

            (void)net_peer_credentials(line_conn_fd(peer->conn), &pid, &uid);
            log_error(NULL, "conn unix:%s (pid=%ld,uid=%ld): didn't reply with a valid VERSION line: %.*s",
                      peer->reader ? "stats-reader" : "stats-writer", (long)pid, (long)uid,
                      (int)slice_head(line, 200).size, (const char *)line.at);
            line_conn_fail(peer->conn, &error);
        }
    } else if (peer->reader) {
        take_reader_line(peer, line);
    }
}

static void take_close(void *arg, const struct error *error)
{
    struct peer *peer = arg;
    struct service *service = peer->service;

    (void)error;
    line_conn_free(peer->conn);
    mem_free(peer);
    service_client_end(service);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    struct service *service = arg;
    struct peer *peer = mem_zero(1, sizeof(*peer));
    struct line_limits limits;

    peer->service = service;
    peer->reader = strcmp(listener->name, "stats-reader") == 0;
    limits = (struct line_limits){.line_max = peer->reader ? READER_LINE_MAX : WRITER_LINE_MAX};
    peer->conn = line_conn_new(service_loop(service), fd, &limits, &handler, peer);
    line_conn_send_version(peer->conn, peer->reader ? "stats-reader-server" : "stats-server", peer->reader ? 2 : 4, 0);
    if (!peer->reader)
        line_conn_print(peer->conn, "FILTER\t\n");
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "stats", .flags = SERVICE_NO_CONFIG};
    static const struct service_handler handler = {.connected = connected};
    struct service *service = service_init(argc, argv, &options, NULL);

    service_drop_privileges(service, 0);
    service_ready(service, &handler, service);
    return service_run(service);
}
