/* metric.c - names, filters and groups of metrics (config 7.2). */
#include "conf/metric.h"

#include <stdlib.h>
#include <string.h>

static bool to_integer(const char *text, long *number)
{
    char *end;
    *number = strtol(text, &end, 10);
    return *text != '\0' && *end == '\0' && *number >= INT32_MIN && *number <= INT32_MAX;
}

static int parse_buckets(struct arena *arena, const char *function, struct slice args, struct metric_group *group, struct error *e)
{
    struct slice part;
    long n[3] = {0};
    unsigned count = 0;
    bool exponential = strcmp(function, "exponential") == 0, numbers = true;

    while (slice_split(&args, ':', &part)) {
        if (count < 3)
            numbers &= to_integer(arena_str(arena, part), &n[count]);
        count++;
    }
    if (count != 3 || !numbers)
        return error_set(e, ERROR_INVALID, "group_by '%s' aggregate function takes 3 int args", function);
    if (n[0] < 0 || n[1] < 0 || n[2] < 0)
        return error_set(e, ERROR_INVALID, "group_by '%s' aggregate function arguments must be >= 0", function);
    if (n[0] >= n[1])
        return error_set(e, ERROR_INVALID, "group_by '%s' aggregate function min must be < max (%ld must be < %ld)",
                         function, n[0], n[1]);
    if (exponential && n[2] != 2 && n[2] != 10)
        return error_set(e, ERROR_INVALID,
                         "group_by 'exponential' aggregate function base must be one of: 2, 10 (base=%ld)", n[2]);
    if (!exponential && n[2] == 0)
        return error_set(e, ERROR_INVALID, "group_by 'linear' aggregate function step must be > 0");
    if (!exponential && n[0] + n[2] > n[1])
        return error_set(e, ERROR_INVALID,
                         "group_by 'linear' aggregate function min+step must be <= max (%ld must be <= %ld)",
                         n[0] + n[2], n[1]);
    *group = (struct metric_group){group->field, exponential ? METRIC_EXPONENTIAL : METRIC_LINEAR, n[0], n[1], n[2]};
    return 0;
}

static int parse_group(struct arena *arena, struct slice word, struct metric_group *group, struct error *e)
{
    struct slice field, function;
    const char *name;

    (void)slice_split(&word, ':', &field);
    *group = (struct metric_group){.field = arena_str(arena, field)};
    if (!slice_split(&word, ':', &function))
        return 0;
    name = arena_str(arena, function);
    if (strcmp(name, "discrete") == 0) {
        if (word.size > 0)
            return error_set(e, ERROR_INVALID, "group_by 'discrete' aggregate function does not take any args");
        return 0;
    }
    if (strcmp(name, "exponential") == 0 || strcmp(name, "linear") == 0)
        return parse_buckets(arena, name, word, group, e);
    return error_set(e, ERROR_INVALID, "unknown aggregation function '%s' on field '%s'", name, group->field);
}

int metric_groups_parse(struct arena *arena, const char *group_by, struct metric_group **out, size_t *count, struct error *e)
{
    struct slice rest = slice_from_str(group_by), word;

    *out = ARENA_ARRAY(arena, struct metric_group, rest.size / 2 + 1);
    *count = 0;
    while (slice_split(&rest, ' ', &word)) {
        if (word.size > 0 && parse_group(arena, word, &(*out)[(*count)++], e) < 0)
            return -1;
    }
    return 0;
}

int metric_check(struct arena *arena, const char *name, const char *filter, struct error *e)
{
    struct event_filter *parsed;

    if (name[0] == '\0')
        return error_set(e, ERROR_INVALID, "Metric name can't be empty");
    if (filter[0] == '\0')
        return error_set(e, ERROR_INVALID, "metric %s { filter } is empty - will not match anything", name);
    return event_filter_parse(arena, filter, &parsed, e);
}
