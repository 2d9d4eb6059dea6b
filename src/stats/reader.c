/* reader.c - connections of `doveadm stats` (ipc 8.2). */
#include "rpc/line.h"
#include "stats/stats.h"

#include "net/fdpass.h"

#include <stdlib.h>

enum { LINE_MAX_BYTES = 64 * 1024, OUTPUT_MAX_BYTES = 256 * 1024 * 1024, ADD_WORDS = 7 };

struct reader {
    struct stats *stats;
    struct line_conn *conn;
    bool greeted;
};

static void put_value(struct buffer *out, const struct dist *d, struct slice field)
{
    buffer_append_byte(out, '\t');
    if (slice_equal_str(field, "count"))
        buffer_append_number(out, d->count);
    else if (slice_equal_str(field, "sum"))
        buffer_append_number(out, d->sum);
    else if (slice_equal_str(field, "min"))
        buffer_append_number(out, d->min);
    else if (slice_equal_str(field, "max"))
        buffer_append_number(out, d->max);
    else if (slice_equal_str(field, "avg"))
        buffer_printf(out, "%.02f", dist_average(d));
    else if (slice_equal_str(field, "median"))
        buffer_append_number(out, dist_median(d));
    else if (slice_equal_str(field, "variance"))
        buffer_printf(out, "%.02f", dist_variance(d));
    else if (field.size > 1 && field.at[0] == '%')
        buffer_append_number(out, dist_percentile(d, strtod((const char *)field.at + 1, NULL) / 100));
}

static void dump_metric(struct buffer *out, const struct metric *m, const struct slice *fields, size_t count)
{
    text_tab_escape(out, slice_from_str(m->name));
    for (size_t i = 0; i < count; i++)
        put_value(out, &m->duration, fields[i]);
    for (size_t f = 0; f < m->field_count; f++) {
        line_field_str(out, m->fields[f]);
        for (size_t i = 0; i < count; i++)
            put_value(out, &m->dists[f], fields[i]);
    }
    buffer_append_byte(out, '\n');
    for (const struct metric *s = m->subs; s != NULL; s = s->next)
        dump_metric(out, s, fields, count);
}

static void fail(struct reader *r, const char *command, const char *why)
{
    struct error e;
    pid_t pid = 0;
    uid_t uid = 0;

    (void)net_peer_credentials(line_conn_fd(r->conn), &pid, &uid);
    log_error(NULL, "conn unix:stats-reader (pid=%ld,uid=%ld): %s: %s", (long)pid, (long)uid, command, why);
    error_set(&e, ERROR_INVALID, "%s", why);
    (void)line_conn_flush(r->conn);
    line_conn_fail(r->conn, &e);
}

static void dump(struct reader *r, const struct slice *fields, size_t count, bool reset)
{
    struct buffer out = {0};

    for (const struct metric *m = r->stats->metrics.first; m != NULL; m = m->next)
        dump_metric(&out, m, fields, count);
    buffer_append_byte(&out, '\n');
    line_conn_send(r->conn, buffer_slice(&out));
    buffer_free(&out);
    if (reset)
        metrics_reset(&r->stats->metrics);
}

static void add(struct reader *r, const struct slice *words, size_t n)
{
    struct arena *arena = arena_new();
    const char *text[ADD_WORDS];
    struct error e;

    for (size_t i = 0; i < ADD_WORDS && i < n; i++)
        text[i] = arena_str(arena, words[i]);
    if (n < ADD_WORDS) {
        fail(r, "METRICS-ADD", "Not enough parameters");
    } else if (text[5][0] != '\0' && exporter_find(&r->stats->metrics, text[5]) == NULL) {
        line_conn_print(r->conn, "-METRICS-ADD: Exporter '%s' does not exist.\n", text[5]);
    } else if (metrics_add(&r->stats->metrics, text[0], text[1], text[2], text[3], text[4], &e) < 0) {
        line_conn_print(r->conn, "-METRICS-ADD: %s\n", e.admin);
    } else {
        metrics_export(&r->stats->metrics, text[0], text[5], text[6]);
        line_conn_print(r->conn, "+\n");
        stats_writers_tell(r->stats);
    }
    arena_free(arena);
}

static void remove_metric(struct reader *r, const struct slice *words, size_t n)
{
    struct arena *arena = arena_new();

    if (n == 0) {
        fail(r, "METRICS-REMOVE", "Not enough parameters");
    } else if (metrics_remove(&r->stats->metrics, arena_str(arena, words[0]))) {
        line_conn_print(r->conn, "+\n");
        stats_writers_tell(r->stats);
    } else {
        line_conn_print(r->conn, "-metrics '%s' not found\n", arena_str(arena, words[0]));
    }
    arena_free(arena);
}

static void take_line(void *arg, struct slice line)
{
    struct reader *r = arg;
    struct arena *arena;
    struct slice rest = line, command, word;
    VEC(struct slice) words = {0};
    struct error e;
    unsigned minor;

    if (!r->greeted) {
        r->greeted = true;
        if (line_check_version(line, "stats-reader-client", 2, &minor, &e) < 0)
            fail(r, "VERSION", e.admin);
        return;
    }
    arena = arena_new();
    (void)slice_split(&rest, '\t', &command);
    while (slice_split(&rest, '\t', &word)) {
        struct slice text = text_tab_unescape(arena, word);

        VEC_PUSH(&words, slice_of(arena_str(arena, text), text.size)); /* a NUL behind each */
    }
    if (slice_equal_str(command, "DUMP") || slice_equal_str(command, "DUMP-RESET"))
        dump(r, words.at, words.count, command.size > 4);
    else if (slice_equal_str(command, "METRICS-ADD"))
        add(r, words.at, words.count);
    else if (slice_equal_str(command, "METRICS-REMOVE"))
        remove_metric(r, words.at, words.count);
    else
        fail(r, arena_str(arena, slice_head(command, 100)), "Unknown command");
    VEC_FREE(&words);
    arena_free(arena);
}

static void take_close(void *arg, const struct error *error)
{
    struct reader *r = arg;

    (void)error;
    line_conn_free(r->conn);
    stats_peer_end(r->stats, r);
}

void stats_reader_connected(struct stats *stats, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = LINE_MAX_BYTES, .output_max = OUTPUT_MAX_BYTES};
    struct reader *r = mem_zero(1, sizeof(*r));

    r->stats = stats;
    r->conn = line_conn_new(service_loop(stats->service), fd, &limits, &handler, r);
    line_conn_send_version(r->conn, "stats-reader-server", 2, 0);
}
