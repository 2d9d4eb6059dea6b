/* The stats service among its own files: events that services send, metrics that count them, and who reads these (ipc 8). */
#ifndef YARILO_STATS_STATS_H
#define YARILO_STATS_STATS_H

#include "conf/metric.h"
#include "rpc/http_client.h"
#include "rpc/service.h"

#include <uthash.h>

/* ---- event.c: what a writer told of an event ---- */

struct stats_field {
    struct slice key;
    struct event_value value;
};

struct stats_category {
    const char *name;
    struct stats_category *parent;
    UT_hash_handle hh;
};

struct stats_event {
    unsigned refs;
    struct stats_event *parent, *global;    /* referenced; NULL = none */
    struct arena *arena;            /* of all that follows */
    struct slice name, file;        /* name: at = NULL when it has none */
    uint32_t line;
    int64_t created, sent;          /* microseconds */
    struct stats_field *fields;
    size_t field_count;
    struct stats_category **categories;
    size_t category_count;
};

/* Reads an exported event (ipc 8.1), whose fields stand in `words`; NULL with *e. It has one reference. */
struct stats_event *stats_event_parse(const struct slice *words, size_t count, struct stats_category *known, struct error *e);
struct stats_event *stats_event_ref(struct stats_event *);
void stats_event_unref(struct stats_event *);                           /* NULL is fine */
/* Takes over what `news` says; news loses its reference. */
void stats_event_update(struct stats_event *, struct stats_event *news);
/* Of the event, or of those that it belongs to. NULL: nobody has it. */
const struct stats_field *stats_event_find(const struct stats_event *, struct slice key);
int64_t stats_event_duration(const struct stats_event *);               /* microseconds; its field `duration`, too */
bool stats_event_matches(const struct stats_event *, const struct event_filter *);

/* ---- dist.c: the distribution of a number ---- */

enum { DIST_SAMPLES = 768 };
struct dist {
    uint64_t count, sum, min, max;
    uint64_t *samples;              /* at most DIST_SAMPLES, chosen evenly among all */
    size_t room;
};
void dist_add(struct dist *, uint64_t);
void dist_reset(struct dist *);                  /* as in the beginning; also frees */
double dist_average(const struct dist *);
double dist_variance(const struct dist *);
uint64_t dist_median(const struct dist *);
uint64_t dist_percentile(const struct dist *, double fraction);

/* ---- metric.c ---- */

enum { METRIC_SUBS_MOST = 100000 };              /* of all metrics: their names come from clients */
struct metric {
    struct metric *next, *subs, *last_sub;
    struct metric *parent;          /* of a sub-metric */
    const char *name;               /* whole: "cmd_FETCH_OK" */
    struct arena *arena;            /* the top metric's */
    /* top metrics */
    const char *description, *filter_text;
    struct event_filter *filter;
    const struct exporter *exporter;        /* NULL: its events are only counted */
    unsigned include;
    /* a sub-metric: the value of its group's field */
    struct slice value;
    long range;                     /* ... or which of its ranges; -1: none */
    struct metric_group *groups;    /* that are still to divide it */
    size_t group_count;
    struct dist duration;
    const char **fields;
    struct dist *dists;
    size_t field_count;
    struct metric *by_value;        /* the subs, by `value` */
    UT_hash_handle hh;
};

struct exporter;
struct metrics {
    struct metric *first;
    struct exporter *exporters;
    const char *hostname;           /* in exported events; set before exporters are added */
    struct http_client *http;       /* of exporters; NULL: what they post goes nowhere */
    struct http_trust trust;        /* its strings live as long as exporters do */
    time_t complained;              /* when a failed export was last logged, and how many in that second were not */
    unsigned suppressed;
    size_t sub_count;
    bool warned;
};

/* "Metric already exists", and what metric_check says. Appended to the others. */
int metrics_add(struct metrics *, const char *name, const char *description, const char *fields, const char *group_by, const char *filter,
                struct error *);
bool metrics_remove(struct metrics *, const char *name);
/* The events of a metric that is there are exported, too. Without such an exporter they are not. */
void metrics_export(struct metrics *, const char *name, const char *exporter, const char *include);
void metrics_event(struct metrics *, const struct stats_event *);
void metrics_reset(struct metrics *);
/* Of all metrics, as a filter of its own; empty: there are none. */
void metrics_filter(const struct metrics *, struct buffer *out);
/* The ranges of a group by ranges: how many, and their bounds (low < x <= high; INT64_MIN and INT64_MAX are infinite). */
size_t metric_ranges(const struct metric_group *);
void metric_range(const struct metric_group *, size_t at, int64_t *low, int64_t *high);

/* ---- export.c: event_exporter ---- */

/* The words of the settings, which are right; the URL and the time limit in milliseconds are of "http-post". */
void exporter_add(struct metrics *, const char *name, const char *format, const char *format_args, const char *transport, const char *url,
                  unsigned timeout_ms);
struct exporter *exporter_find(const struct metrics *, const char *name);   /* NULL: there is none */
void exporters_free(struct metrics *);
unsigned exporter_include(const char *words);    /* exporter_include; unknown words are warned of */
void exporter_event(struct metrics *, const struct exporter *, unsigned include, const struct stats_event *);

/* ---- told.c: what one writer has told ---- */

struct open_event;
struct told {
    struct open_event *events;              /* by their ids */
    struct stats_category *categories;
};
/* A line of a writer; what it says is counted. False with *e: it makes no sense, which is logged, and the writer is to be left. */
bool told_line(struct told *, struct metrics *, struct slice line, struct error *);
void told_free(struct told *);

/* ---- connections ---- */

struct writers;
struct stats {
    struct service *service;
    struct metrics metrics;
    struct writers *writers;
    const char *rawlog_dir;         /* of HTTP; "" = none */
    time_t started;
};

void stats_peer_end(struct stats *, void *peer); /* a connection is over; frees what was known of it */
void stats_writer_connected(struct stats *, int fd);
void stats_writers_tell(struct stats *);         /* the filter has changed */
void stats_reader_connected(struct stats *, int fd);
void stats_http_connected(struct stats *, int fd);
void stats_openmetrics(const struct stats *, struct buffer *out);

#endif
