/* writer.c - connections of the services that send events (ipc 8.1). */
#include "rpc/line.h"
#include "stats/stats.h"

#include "net/fdpass.h"

#include <utlist.h>

enum { LINE_MAX_BYTES = 128 * 1024 };

struct writer {
    struct writer *prev, *next;
    struct stats *stats;
    struct line_conn *conn;
    bool greeted;
    struct told told;
};

struct writers {
    struct writer *first;
};

static void tell_filter(struct writer *w)
{
    struct buffer filter = {0}, line = {0};

    metrics_filter(&w->stats->metrics, &filter);
    line_begin(&line, "FILTER");
    line_field(&line, buffer_slice(&filter));
    line_end(&line);
    line_conn_send(w->conn, buffer_slice(&line));
    buffer_free(&filter);
    buffer_free(&line);
}

void stats_writers_tell(struct stats *stats)
{
    struct writer *w;

    if (stats->writers == NULL)
        return;
    DL_FOREACH(stats->writers->first, w)
        tell_filter(w);
}

static void take_line(void *arg, struct slice line)
{
    struct writer *w = arg;
    struct error e;
    unsigned minor;

    if (w->greeted) {
        if (!told_line(&w->told, &w->stats->metrics, line, &e))
            line_conn_fail(w->conn, &e);
        return;
    }
    w->greeted = true;
    if (line_check_version(line, "stats-client", 4, &minor, &e) < 0) {
        pid_t pid = 0;
        uid_t uid = 0;

        (void)net_peer_credentials(line_conn_fd(w->conn), &pid, &uid);
        log_error(NULL, "conn unix:stats-writer (pid=%ld,uid=%ld): didn't reply with a valid VERSION line: %.*s", (long)pid, (long)uid,
                  (int)slice_head(line, 200).size, (const char *)line.at);
        line_conn_fail(w->conn, &e);
    }
}

static void take_close(void *arg, const struct error *error)
{
    struct writer *w = arg;
    struct stats *stats = w->stats;

    (void)error;
    told_free(&w->told);
    DL_DELETE(stats->writers->first, w);
    line_conn_free(w->conn);
    stats_peer_end(stats, w);
}

void stats_writer_connected(struct stats *stats, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = LINE_MAX_BYTES};
    struct writer *w = mem_zero(1, sizeof(*w));

    if (stats->writers == NULL)
        stats->writers = mem_zero(1, sizeof(*stats->writers));
    w->stats = stats;
    w->conn = line_conn_new(service_loop(stats->service), fd, &limits, &handler, w);
    DL_APPEND(stats->writers->first, w);
    line_conn_send_version(w->conn, "stats-server", 4, 0);
    tell_filter(w);
}
