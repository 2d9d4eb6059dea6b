/* What metrics are made of (config 7.2): for who checks the configuration and for the stats service. */
#ifndef YARILO_CONF_METRIC_H
#define YARILO_CONF_METRIC_H

#include "conf/event_filter.h"

enum metric_function { METRIC_DISCRETE, METRIC_EXPONENTIAL, METRIC_LINEAR };
struct metric_group {
    const char *field;
    enum metric_function function;
    long min, max, step;                /* EXPONENTIAL: powers of `step` */
};
/* group_by of a metric. Texts live in the arena. */
int metric_groups_parse(struct arena *, const char *group_by, struct metric_group **, size_t *count, struct error *);
/* The name, and the syntax of the filter. */
int metric_check(struct arena *, const char *name, const char *filter, struct error *);

#endif
