/* openmetrics.c - the metrics in the text form that Prometheus reads (ipc 8.4).
 *
 * A metric is a counter of events and one of their durations; divided by group_by, each group has a line with its values as labels.
 * A group by ranges makes it a histogram. */
#include "stats/stats.h"

#include <inttypes.h>
#include <stdio.h>

enum { BUCKETS_MOST = 10000 };

static void put_escaped(struct buffer *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = text.at[i];

        if (c == '"' || c == '\\')
            buffer_append_byte(out, '\\');
        if (c == '\n')
            buffer_append_str(out, "\\n");
        else
            buffer_append_byte(out, c);
    }
}

/* Names are letters, digits and "_". A metric with another one is not shown, as there; in a field's name "_" stands instead. */
static bool in_names(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_name(const char *text)
{
    while (in_names(*text))
        text++;
    return *text == '\0';
}

static void put_name(struct buffer *out, const char *name)
{
    for (; *name != '\0'; name++)
        buffer_append_byte(out, in_names(*name) ? (unsigned char)*name : '_');
}

static const struct metric *top_of(const struct metric *m)
{
    while (m->parent != NULL)
        m = m->parent;
    return m;
}

/* key="value", ... from the top down; `more` is put behind. */
static void put_labels(struct buffer *out, const struct metric *m, const char *more)
{
    const struct metric *chain[64];
    size_t n = 0;

    for (; m->parent != NULL && n < 64; m = m->parent)
        chain[n++] = m;
    if (n == 0 && more[0] == '\0')
        return;
    buffer_append_byte(out, '{');
    for (size_t i = n; i-- > 0;) {
        put_name(out, chain[i]->parent->groups[0].field);
        buffer_append_str(out, "=\"");
        put_escaped(out, chain[i]->value);
        buffer_append_str(out, i > 0 || more[0] != '\0' ? "\"," : "\"");
    }
    buffer_printf(out, "%s}", more);
}

static void put_head(struct buffer *out, const struct metric *m, const char *suffix, const char *what, const char *type)
{
    buffer_append_str(out, "# HELP dovecot_");
    put_name(out, m->name);
    buffer_printf(out, "%s %s", suffix, what);
    if (m->description[0] != '\0' && type[0] == 'c') {
        buffer_append_str(out, " of ");
        for (const char *c = m->description; *c != '\0'; c++) {
            if (*c == '\n')
                buffer_append_str(out, "\\n");
            else
                buffer_append_byte(out, (unsigned char)*c);
        }
    }
    buffer_append_str(out, "\n# TYPE dovecot_");
    put_name(out, m->name);
    buffer_printf(out, "%s %s\n", suffix, type);
}

enum value { COUNT, SECONDS };

static void put_line(struct buffer *out, const struct metric *m, const char *suffix, enum value value)
{
    buffer_append_str(out, "dovecot_");
    put_name(out, top_of(m)->name);
    buffer_append_str(out, suffix);
    put_labels(out, m, "");
    if (value == COUNT)
        buffer_printf(out, " %" PRIu64 "\n", m->duration.count);
    else
        buffer_printf(out, " %.6f\n", (double)m->duration.sum / 1000000);
}

static void put_groups(struct buffer *out, const struct metric *m, const char *suffix, enum value value)
{
    for (const struct metric *s = m->subs; s != NULL; s = s->next) {
        put_line(out, s, suffix, value);
        put_groups(out, s, suffix, value);
    }
}

static void put_counter(struct buffer *out, const struct metric *m)
{
    static const struct {
        const char *head, *what, *each, *all;
        enum value value;
    } both[] = {{"", "Total number of all events of this kind", "_total", "_count", COUNT},
                {"_duration_seconds", "Total duration of all events of this kind", "_duration_seconds_total", "_duration_seconds_sum", SECONDS}};

    for (int i = 0; i < 2; i++) {
        put_head(out, m, both[i].head, both[i].what, "counter");
        if (m->group_count == 0) {
            put_line(out, m, both[i].each, both[i].value);
            continue;
        }
        put_groups(out, m, both[i].each, both[i].value);
        put_line(out, m, both[i].all, both[i].value);
    }
}

static bool in_ranges(const struct metric *m)
{
    return m->group_count > 0 && m->groups[m->group_count - 1].function != METRIC_DISCRETE;
}

static void put_buckets(struct buffer *out, const struct metric *m)
{
    const struct metric_group *group = &m->groups[0];
    bool seconds = strcmp(group->field, "duration") == 0;
    uint64_t sum = 0;
    const struct metric *s;

    for (size_t i = 0, n = metric_ranges(group); i < n && i < BUCKETS_MOST; i++) {
        char text[48], number[32];
        int64_t low, high;
        int size = snprintf(number, sizeof(number), "%zu", i);

        metric_range(group, i, &low, &high);
        HASH_FIND(hh, m->by_value, number, (size_t)size, s);
        sum += s == NULL ? 0 : s->duration.count;
        if (high == INT64_MAX)
            snprintf(text, sizeof(text), "le=\"+Inf\"");
        else if (seconds)
            snprintf(text, sizeof(text), "le=\"%.6f\"", (double)high / 1000000);
        else
            snprintf(text, sizeof(text), "le=\"%" PRId64 "\"", high);
        buffer_append_str(out, "dovecot_");
        put_name(out, top_of(m)->name);
        buffer_append_str(out, "_bucket");
        put_labels(out, m, text);
        buffer_printf(out, " %" PRIu64 "\n", sum);
    }
    if (m->duration.count == 0)
        return;
    for (int i = 0; i < 2; i++) {
        buffer_append_str(out, "dovecot_");
        put_name(out, top_of(m)->name);
        buffer_append_str(out, i == 0 ? "_sum" : "_count");
        put_labels(out, m, "");
        if (i == 0) /* of the durations, whatever the ranges are of */
            buffer_printf(out, " %.6f\n", (double)m->duration.sum / (seconds ? 1000000 : 1));
        else
            buffer_printf(out, " %" PRIu64 "\n", sum);
    }
}

static void put_histograms(struct buffer *out, const struct metric *m)
{
    if (m->group_count == 1) {
        put_buckets(out, m);
        return;
    }
    for (const struct metric *s = m->subs; s != NULL; s = s->next)
        put_histograms(out, s);
}

void stats_openmetrics(const struct stats *stats, struct buffer *out)
{
    buffer_printf(out,
                  "# HELP process_start_time_seconds Timestamp of service start\n# TYPE process_start_time_seconds gauge\n"
                  "process_start_time_seconds %lld\n"
                  "# HELP dovecot_build Dovecot build information\n# TYPE dovecot_build info\n"
                  "dovecot_build_info{version=\"%s\",revision=\"%s\"} 1\n",
                  (long long)stats->started, SERVICE_COMPAT_VERSION, SERVICE_COMPAT_REVISION);
    for (const struct metric *m = stats->metrics.first; m != NULL; m = m->next) {
        if (!is_name(m->name))
            continue;
        if (in_ranges(m)) {
            put_head(out, m, "", "Histogram", "histogram");
            put_histograms(out, m);
        } else {
            put_counter(out, m);
        }
    }
    buffer_append_str(out, "# EOF\n");
}
