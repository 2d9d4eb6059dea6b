/* http.c - GET /metrics (ipc 8.4): requests without a body, one answer after the other.
 *
 * Who may connect is the administrator's affair (`address` of the inet_listener); a request is 8 KiB at most, and a client
 * that says nothing for ten seconds is closed. */
#include "net/rawlog.h"
#include "net/stream.h"
#include "stats/stats.h"

#include <time.h>

enum { REQUEST_MAX = 8192, PATIENCE_SECS = 10, FINISH_SECS = 60 };

struct peer {
    struct stats *stats;
    struct stream *stream;
    struct rawlog *rawlog;          /* NULL = none */
};

static const char index_head[] = "<!DOCTYPE html>\n<html lang=\"en\">\n\n<head>\n<meta charset=\"utf-8\">\n<title>Dovecot Stats</title>\n"
                                 "</head>\n\n<body>\n<h1>Dovecot Stats:</h1>\n<p><ul>\n<li><a href=\"/metrics\">OpenMetrics</a></li>\n"
                                 "</ul></p>\n</body>\n\n</html>\n";

static void put(struct peer *p, struct slice bytes)
{
    rawlog_out(p->rawlog, bytes);
    stream_write(p->stream, bytes);
}

static void answer(struct peer *p, const char *status, const char *type, struct slice body, bool head, bool close)
{
    struct buffer out = {0};
    char date[64];
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    buffer_printf(&out, "HTTP/1.1 %s\r\nDate: %s\r\nContent-Length: %zu\r\n", status, date, body.size);
    if (type != NULL)
        buffer_printf(&out, "Content-Type: %s; charset=utf-8\r\n", type);
    if (status[0] == '2' ? type == NULL : strncmp(status, "405", 3) == 0)
        buffer_append_str(&out, "Allow: GET\r\n");
    buffer_printf(&out, "%s\r\n", close ? "Connection: close\r\n" : "");
    put(p, buffer_slice(&out));
    if (!head)
        put(p, body);
    buffer_free(&out);
}

/* Takes it from the stream. */
static void consume(struct peer *p, size_t size)
{
    rawlog_in(p->rawlog, slice_head(stream_input(p->stream), size));
    stream_consume(p->stream, size);
}

static void answer_text(struct peer *p, const char *status, bool close)
{
    struct buffer text = {0};

    buffer_printf(&text, "%s\r\n", status + 4);
    answer(p, status, "text/plain", buffer_slice(&text), false, close);
    buffer_free(&text);
}

/* True: the connection goes on. `last`: it shall not. */
static bool answer_request(struct peer *p, struct slice method, struct slice path, bool last)
{
    bool metrics, head = slice_equal_str(method, "HEAD");
    struct buffer body = {0};

    path = slice_head(path, slice_find(path, '?') < 0 ? path.size : (size_t)slice_find(path, '?'));
    metrics = slice_equal_str(path, "/metrics");
    if (!metrics && !slice_equal_str(path, "/")) {
        answer_text(p, "404 Path Not Found", true);
        return false;
    }
    if (slice_equal_str(method, "OPTIONS")) {
        answer(p, "200 OK", NULL, SLICE(""), false, last);
        return !last;
    }
    if (!head && !slice_equal_str(method, "GET")) { /* there may be a body */
        answer_text(p, "405 Method Not Allowed", true);
        return false;
    }
    if (metrics)
        stats_openmetrics(p->stats, &body);
    answer(p, "200 OK", metrics ? "application/openmetrics-text; version=0.0.1" : "text/html",
           metrics ? buffer_slice(&body) : slice_from_str(index_head), head, last);
    buffer_free(&body);
    return !last;
}

static bool take_request(struct peer *p, struct slice head)
{
    struct slice rest = head, line, method, path;
    bool last = false;

    (void)slice_split(&rest, '\n', &line);
    if (slice_ends(line, SLICE("\r")))
        line = slice_head(line, line.size - 1);
    if (!slice_split(&line, ' ', &method) || !slice_split(&line, ' ', &path) || !slice_starts(line, SLICE("HTTP/1."))) {
        answer_text(p, "400 Bad Request", true);
        return false;
    }
    last = !slice_equal_str(line, "HTTP/1.1");
    while (slice_split(&rest, '\n', &line)) {
        if (slice_starts_nocase(line, SLICE("Connection:")))
            last = true; /* close, or something that is not understood */
        if (slice_starts_nocase(line, SLICE("Content-Length:")) || slice_starts_nocase(line, SLICE("Transfer-Encoding:")))
            last = true; /* what follows is not read */
    }
    return answer_request(p, method, path, last);
}

static void readable(void *arg)
{
    struct peer *p = arg;

    for (;;) {
        struct slice in = stream_input(p->stream);
        ptrdiff_t end = slice_find_slice(in, SLICE("\r\n\r\n"));
        size_t size;

        if (end < 0 && in.size < REQUEST_MAX)
            return;
        size = end < 0 ? in.size : (size_t)end + 2;
        if (end < 0) {
            consume(p, in.size);
            answer_text(p, "400 Bad Request", true);
            stream_finish(p->stream, FINISH_SECS);
            return;
        }
        if (!take_request(p, slice_head(in, size))) {
            consume(p, size + 2);
            stream_finish(p->stream, FINISH_SECS);
            return;
        }
        consume(p, size + 2);
        stream_deadline(p->stream, PATIENCE_SECS);
        if (stream_full(p->stream)) {
            stream_want_input(p->stream, false);
            return;
        }
    }
}

static void writable(void *arg)
{
    struct peer *p = arg;

    stream_want_input(p->stream, true);
}

static void closed(void *arg, const struct error *error)
{
    struct peer *p = arg;

    (void)error;
    rawlog_close(&p->rawlog);
    stream_free(p->stream);
    stats_peer_end(p->stats, p);
}

static void too_late(void *arg)
{
    closed(arg, NULL);
}

void stats_http_connected(struct stats *stats, int fd)
{
    static const struct stream_handler handler = {readable, writable, closed, too_late};
    static const struct stream_limits limits = {.input_max = REQUEST_MAX};
    static unsigned number;
    struct peer *p = mem_zero(1, sizeof(*p));

    p->stats = stats;
    p->rawlog = rawlog_open(stats->rawlog_dir, ++number, NULL);
    p->stream = stream_new(service_loop(stats->service), fd, -1, &limits, &handler, p);
    stream_deadline(p->stream, PATIENCE_SECS);
}
