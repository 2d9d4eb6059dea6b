/* Checks of metrics and event exporters (config 7.2). */
#include "conf/check.h"

#include <stdlib.h>

static int check_exporter(struct conf_check *c, const struct conf_block *exporter)
{
    const char *format = conf_block_str(exporter, "format"), *transport = conf_block_str(exporter, "transport");
    const char *args = conf_block_str(exporter, "format_args");
    struct slice rest = slice_from_str(args), word;
    if (conf_block_name(exporter)[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "Exporter name can't be empty");
    if (format[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "Exporter format name can't be empty");
    if (transport[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "Exporter transport name can't be empty");
    bool none = strcmp(format, "none") == 0;
    if (!none && strcmp(format, "json") != 0 && strcmp(format, "tab-text") != 0)
        return error_set(c->e, ERROR_INVALID, "Unknown exporter format '%s'", format);
    if (strcmp(transport, "drop") != 0 && strcmp(transport, "http-post") != 0 && strcmp(transport, "log") != 0)
        return error_set(c->e, ERROR_INVALID, "Unknown transport type '%s'", transport);
    while (check_next_word(&rest, " ", &word)) {
        if (!slice_equal_str(word, "time-rfc3339") && !slice_equal_str(word, "time-unix"))
            return error_set(c->e, ERROR_INVALID, "Unknown exporter format arg: %.*s", WORD(word));
    }
    bool rfc = slice_has_word(slice_from_str(args), SLICE("time-rfc3339")), epoch = slice_has_word(slice_from_str(args), SLICE("time-unix"));
    if (rfc && epoch)
        return error_set(c->e, ERROR_INVALID, "Exporter '%s' specifies multiple time format args",
                         conf_block_name(exporter));
    if (!none && !rfc && !epoch)
        return error_set(c->e, ERROR_INVALID, "%s exporter format requires a time-* argument", format);
    return 0;
}

static bool to_integer(const char *text, long *number)
{
    char *end;
    *number = strtol(text, &end, 10);
    return *text != '\0' && *end == '\0' && *number >= INT32_MIN && *number <= INT32_MAX;
}

static int check_buckets(struct conf_check *c, const char *function, struct slice args)
{
    struct slice part;
    long n[3] = {0};
    unsigned count = 0;
    bool exponential = strcmp(function, "exponential") == 0, numbers = true;
    while (slice_split(&args, ':', &part)) {
        if (count < 3)
            numbers &= to_integer(arena_str(c->arena, part), &n[count]);
        count++;
    }
    if (count != 3 || !numbers)
        return error_set(c->e, ERROR_INVALID, "group_by '%s' aggregate function takes 3 int args", function);
    if (n[0] < 0 || n[1] < 0 || n[2] < 0)
        return error_set(c->e, ERROR_INVALID, "group_by '%s' aggregate function arguments must be >= 0", function);
    if (n[0] >= n[1])
        return error_set(c->e, ERROR_INVALID, "group_by '%s' aggregate function min must be < max (%ld must be < %ld)",
                         function, n[0], n[1]);
    if (exponential && n[2] != 2 && n[2] != 10)
        return error_set(c->e, ERROR_INVALID,
                         "group_by 'exponential' aggregate function base must be one of: 2, 10 (base=%ld)", n[2]);
    if (!exponential && n[2] == 0)
        return error_set(c->e, ERROR_INVALID, "group_by 'linear' aggregate function step must be > 0");
    if (!exponential && n[0] + n[2] > n[1])
        return error_set(c->e, ERROR_INVALID,
                         "group_by 'linear' aggregate function min+step must be <= max (%ld must be <= %ld)",
                         n[0] + n[2], n[1]);
    return 0;
}

static int check_group_by(struct conf_check *c, struct slice word)
{
    struct slice field, function;
    (void)slice_split(&word, ':', &field);
    if (!slice_split(&word, ':', &function))
        return 0;
    const char *name = arena_str(c->arena, function);
    if (strcmp(name, "discrete") == 0) {
        if (word.size > 0)
            return error_set(c->e, ERROR_INVALID, "group_by 'discrete' aggregate function does not take any args");
        return 0;
    }
    if (strcmp(name, "exponential") == 0 || strcmp(name, "linear") == 0)
        return check_buckets(c, name, word);
    return error_set(c->e, ERROR_INVALID, "unknown aggregation function '%s' on field '%.*s'", name, WORD(field));
}

static int check_metric(struct conf_check *c, const struct conf_block *metric)
{
    const char *name = conf_block_name(metric), *filter = conf_block_str(metric, "filter");
    struct slice rest = slice_from_str(conf_block_str(metric, "group_by")), word;
    if (name[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "Metric name can't be empty");
    if (filter[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "metric %s { filter } is empty - will not match anything", name);
    if (check_event_filter(filter, c->e) < 0)
        return -1;
    while (check_next_word(&rest, " ", &word)) {
        if (check_group_by(c, word) < 0)
            return -1;
    }
    return 0;
}

int check_stats(struct conf_check *c)
{
    size_t metrics, exporters;
    const struct conf_block *const *metric = conf_blocks(c->set, BLOCK_METRIC, &metrics);
    const struct conf_block *const *exporter = conf_blocks(c->set, BLOCK_EVENT_EXPORTER, &exporters);
    for (size_t i = 0; i < metrics && exporters > 0; i++) {
        const char *wanted = conf_block_str(metric[i], "exporter");
        if (wanted[0] != '\0' && conf_block_find(c->set, BLOCK_EVENT_EXPORTER, wanted) == NULL)
            return error_set(c->e, ERROR_INVALID, "metric %s refers to non-existent exporter '%s'",
                             conf_block_name(metric[i]), wanted);
    }
    for (size_t i = 0; i < metrics; i++) {
        if (check_metric(c, metric[i]) < 0)
            return -1;
    }
    for (size_t i = 0; i < exporters; i++) {
        if (check_exporter(c, exporter[i]) < 0)
            return -1;
    }
    return 0;
}
