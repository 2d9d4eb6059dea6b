/* What services tell the stats service, line by line, counted by metrics that divide in every way, and shown: no crash, no leak.
 * The first line is a filter and a group_by of one more metric, with a TAB between. */
#include "base/log.h"
#include "stats/stats.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

static void add(struct metrics *metrics, const char *name, const char *group_by, const char *filter)
{
    struct error e;

    (void)metrics_add(metrics, name, "what it is", "bytes when reasons", group_by, filter, &e);
}

static void show(struct stats *stats)
{
    struct buffer page = {0};
    struct dist *d;

    metrics_filter(&stats->metrics, &page);
    buffer_reset(&page);
    stats_openmetrics(stats, &page);
    if (page.size < 6 || memcmp(page.at + page.size - 6, "# EOF\n", 6) != 0)
        abort();
    for (struct metric *m = stats->metrics.first; m != NULL; m = m->next) {
        d = &m->duration;
        if (d->count > 0 && (dist_median(d) < d->min || dist_median(d) > d->max || dist_percentile(d, 0.95) > d->max))
            abort();
        (void)dist_variance(d);
    }
    buffer_free(&page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct stats stats = {0};
    struct told told = {0};
    struct slice rest = slice_of(data, size), line, filter;
    struct error e;

    log_capture(ignore, NULL);
    (void)slice_split(&rest, '\n', &line);
    (void)slice_split(&line, '\t', &filter);
    add(&stats.metrics, "own", arena_str(arena, line), arena_str(arena, filter));
    add(&stats.metrics, "all", "", "NOT nosuch=x");
    stats.metrics.hostname = "host";
    exporter_add(&stats.metrics, "json", "json", "time-rfc3339", "log", "", 0);
    exporter_add(&stats.metrics, "text", "tab-text", "time-unix", "log", "", 0);
    metrics_export(&stats.metrics, "all", "json", "name hostname timestamps categories fields");
    metrics_export(&stats.metrics, "own", "text", "fields name timestamps categories x");
    add(&stats.metrics, "category", "", "category=service:test OR source_location=test.c:10");
    add(&stats.metrics, "groups", "user cmd_name reasons", "event=cmd");
    add(&stats.metrics, "linear", "bytes:linear:0:100:30", "event=cmd");
    add(&stats.metrics, "powers", "duration:exponential:1:9:10 user", "bytes>=0");
    while (slice_split(&rest, '\n', &line) && told_line(&told, &stats.metrics, line, &e))
        continue;
    show(&stats);
    told_free(&told);
    while (stats.metrics.first != NULL)
        (void)metrics_remove(&stats.metrics, stats.metrics.first->name);
    exporters_free(&stats.metrics);
    log_capture(NULL, NULL);
    arena_free(arena);
    return 0;
}
