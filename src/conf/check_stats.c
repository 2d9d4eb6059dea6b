/* Checks of metrics and event exporters (config 7.2). */
#include "conf/check.h"
#include "conf/metric.h"

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

static int check_metric(struct conf_check *c, const struct conf_block *metric)
{
    struct metric_group *groups;
    size_t count;

    return metric_check(c->arena, conf_block_name(metric), conf_block_str(metric, "filter"), c->e) < 0 ||
           metric_groups_parse(c->arena, conf_block_str(metric, "group_by"), &groups, &count, c->e) < 0 ? -1 : 0;
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
