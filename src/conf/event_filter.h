/* Filters of events: what a metric counts, what a service sends (config 7.2, ipc 8). */
#ifndef YARILO_CONF_EVENT_FILTER_H
#define YARILO_CONF_EVENT_FILTER_H

#include "base/base.h"

enum event_filter_type {
    EVENT_FILTER_GROUP, EVENT_FILTER_NOT,    /* of inner */
    EVENT_FILTER_IS,                         /* key = value; value may have the wildcards * and ? */
    EVENT_FILTER_ABOVE, EVENT_FILTER_BELOW   /* key > value, with equal_too: >= */
};

/* One operand, and what AND or OR joins to it: from left to right, both bind alike. */
struct event_filter {
    enum event_filter_type type;
    struct event_filter *inner, *next;       /* next: NULL = the last one */
    bool or_next;                            /* OR next; else AND next */
    bool equal_too;
    struct slice key, value;                 /* NUL stands behind both */
};

enum event_value_type { EVENT_STR, EVENT_INT, EVENT_TIME, EVENT_LIST };
struct event_value {
    enum event_value_type type;
    struct slice text;                       /* STR */
    int64_t number;                          /* INT; TIME in microseconds */
    const struct slice *list;                /* LIST */
    size_t count;
};
/* A comparison with the field that it names. NULL: the event has no such field, which is as an empty one. Texts are compared with
 * masks, in any case; only integers are above or below. */
bool event_filter_is(const struct event_filter *, const struct event_value *);
/* source_location = FILE or FILE:LINE. */
bool event_filter_is_source(const struct event_filter *, struct slice file, uint32_t line);

/* *out NULL: the filter is empty. Texts live in the arena. Brackets and NOTs may be 64 deep. */
int event_filter_parse(struct arena *, const char *text, struct event_filter **out, struct error *);
/* `leaf` judges comparisons. */
bool event_filter_match(const struct event_filter *, bool (*leaf)(void *arg, const struct event_filter *), void *arg);

#endif
