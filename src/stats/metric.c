/* metric.c - metrics: which events they count, and how group_by divides them (config 7.2, ipc 8.2). */
#include "stats/stats.h"

#include <stdio.h>
#include <utlist.h>

/* ---- ranges ------------------------------------------------------------------------------------------------------------- */

size_t metric_ranges(const struct metric_group *g)
{
    return g->function == METRIC_LINEAR ? 2 + (size_t)((g->max - g->min) / g->step) : 2 + (size_t)(g->max - g->min);
}

static int64_t power(int64_t base, long exponent)
{
    int64_t n = 1;

    for (long i = 0; i < exponent; i++) {
        if (n > INT64_MAX / base)
            return INT64_MAX;
        n *= base;
    }
    return n;
}

static int64_t bound(const struct metric_group *g, size_t at)
{
    if (g->function == METRIC_LINEAR)
        return at + 2 == metric_ranges(g) ? g->max : g->min + (int64_t)at * g->step;
    return power(g->step, g->min + (long)at);
}

void metric_range(const struct metric_group *g, size_t at, int64_t *low, int64_t *high)
{
    *low = at == 0 ? INT64_MIN : bound(g, at - 1);
    *high = at + 1 == metric_ranges(g) ? INT64_MAX : bound(g, at);
}

static size_t range_of(const struct metric_group *g, int64_t n)
{
    size_t low = 0, high = metric_ranges(g) - 1;

    while (low < high) { /* the first whose upper bound is not below */
        size_t middle = (low + high) / 2;
        int64_t from, to;

        metric_range(g, middle, &from, &to);
        if (n <= to)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* ---- metrics ------------------------------------------------------------------------------------------------------------ */

static void init_fields(struct metric *m)
{
    m->dists = ARENA_ARRAY(m->arena, struct dist, m->field_count + 1);
}

static struct metric *find(const struct metrics *all, const char *name)
{
    for (struct metric *m = all->first; m != NULL; m = m->next) {
        if (strcmp(m->name, name) == 0)
            return m;
    }
    return NULL;
}

int metrics_add(struct metrics *all, const char *name, const char *description, const char *fields, const char *group_by, const char *filter,
                struct error *e)
{
    struct arena *arena = arena_new();
    struct metric *m = ARENA_NEW(arena, struct metric);
    struct slice rest = slice_from_str(fields), word;

    *m = (struct metric){.arena = arena, .name = arena_strdup(arena, name), .description = arena_strdup(arena, description),
                         .filter_text = arena_strdup(arena, filter), .range = -1};
    if (metric_check(arena, name, filter, e) < 0 || event_filter_parse(arena, filter, &m->filter, e) < 0 ||
        metric_groups_parse(arena, group_by, &m->groups, &m->group_count, e) < 0)
        goto failed;
    if (m->filter == NULL) {
        error_set(e, ERROR_INVALID, "metric %s { filter } is empty - will not match anything", name);
        goto failed;
    }
    if (find(all, name) != NULL) {
        error_set(e, ERROR_EXISTS, "Metric already exists");
        goto failed;
    }
    m->fields = ARENA_ARRAY(arena, const char *, rest.size / 2 + 2);
    while (slice_split(&rest, ' ', &word)) {
        if (word.size > 0)
            m->fields[m->field_count++] = arena_str(arena, word);
    }
    init_fields(m);
    LL_APPEND(all->first, m);
    return 0;
failed:
    arena_free(arena);
    return -1;
}

/* Of a metric and all below: `gone` takes it out of what it is found by, too. */
static void reset(struct metrics *all, struct metric *m, bool gone)
{
    dist_reset(&m->duration);
    for (size_t i = 0; i < m->field_count; i++)
        dist_reset(&m->dists[i]);
    for (struct metric *s = m->subs; s != NULL; s = s->next) {
        reset(all, s, gone);
        all->sub_count -= gone;
    }
    if (gone)
        HASH_CLEAR(hh, m->by_value);
}

bool metrics_remove(struct metrics *all, const char *name)
{
    struct metric *m = find(all, name);

    if (m == NULL)
        return false;
    LL_DELETE(all->first, m);
    reset(all, m, true);
    arena_free(m->arena);
    return true;
}

void metrics_export(struct metrics *all, const char *name, const char *exporter, const char *include)
{
    struct metric *m = find(all, name);

    if (m == NULL || exporter[0] == '\0')
        return;
    m->exporter = exporter_find(all, exporter);
    m->include = exporter_include(include);
}

void metrics_reset(struct metrics *all)
{
    for (struct metric *m = all->first; m != NULL; m = m->next)
        reset(all, m, false);
}

void metrics_filter(const struct metrics *all, struct buffer *out)
{
    for (const struct metric *m = all->first; m != NULL; m = m->next)
        buffer_printf(out, "%s(%s)", out->size > 0 ? " OR " : "", m->filter_text);
}

/* ---- events ------------------------------------------------------------------------------------------------------------- */

static void count_event(struct metrics *all, struct metric *m, const struct stats_event *event);

static void put_bound(struct buffer *out, int64_t n, bool low)
{
    if (n == INT64_MIN || n == INT64_MAX)
        buffer_append_str(out, low ? "ninf" : "inf");
    else
        buffer_printf(out, "%lld", (long long)(low ? n + 1 : n));
}

static struct metric *new_sub(struct metrics *all, struct metric *m, struct slice value, long range)
{
    const struct metric_group *group = &m->groups[0];
    struct metric *sub;
    struct buffer name = {0};

    if (all->sub_count >= METRIC_SUBS_MOST) {
        if (!all->warned)
            log_warning(NULL, "More than %d groups of metrics: others are not counted (metric %s)", METRIC_SUBS_MOST, m->name);
        all->warned = true;
        return NULL;
    }
    all->sub_count++;
    sub = ARENA_NEW(m->arena, struct metric);
    buffer_printf(&name, "%s_", m->name);
    if (range >= 0) {
        int64_t low, high;

        metric_range(group, (size_t)range, &low, &high);
        buffer_printf(&name, "%s_", group->field);
        put_bound(&name, low, true);
        buffer_append_byte(&name, '_');
        put_bound(&name, high, false);
    } else {
        buffer_append(&name, value.at, value.size);
    }
    for (size_t i = 0; i < name.size; i++)
        name.at[i] = name.at[i] == ' ' ? '_' : name.at[i];
    *sub = (struct metric){.arena = m->arena, .parent = m, .name = arena_str(m->arena, buffer_slice(&name)), .value = slice_of(arena_str(m->arena, value), value.size),
                           .range = range, .groups = m->groups + 1, .group_count = m->group_count - 1, .fields = m->fields,
                           .field_count = m->field_count};
    buffer_free(&name);
    init_fields(sub);
    if (m->subs == NULL)
        m->subs = sub;
    else
        m->last_sub->next = sub;
    m->last_sub = sub;
    HASH_ADD_KEYPTR(hh, m->by_value, sub->value.at, sub->value.size, sub);
    return sub;
}

static void count_in(struct metrics *all, struct metric *m, struct slice value, long range, const struct stats_event *event)
{
    struct metric *sub;

    if (value.size == 0)
        value = SLICE("");
    HASH_FIND(hh, m->by_value, value.at, value.size, sub);
    if (sub == NULL)
        sub = new_sub(all, m, value, range);
    if (sub != NULL)
        count_event(all, sub, event);
}

static void count_number(struct metrics *all, struct metric *m, int64_t n, const struct stats_event *event)
{
    const struct metric_group *group = &m->groups[0];
    long range = group->function == METRIC_DISCRETE ? -1 : (long)range_of(group, n);
    char text[32];
    int size = snprintf(text, sizeof(text), "%lld", range >= 0 ? (long long)range : (long long)n);

    count_in(all, m, slice_of(text, (size_t)size), range, event);
}

static void divide(struct metrics *all, struct metric *m, const struct stats_event *event)
{
    const struct metric_group *group = &m->groups[0];
    const struct stats_field *field = stats_event_find(event, slice_from_str(group->field));

    if (field == NULL)
        return;
    if (field->value.type == EVENT_INT)
        count_number(all, m, field->value.number, event);
    else if (group->function == METRIC_DISCRETE && field->value.type == EVENT_STR)
        count_in(all, m, field->value.text, -1, event);
    else if (group->function == METRIC_DISCRETE && field->value.type == EVENT_LIST)
        for (size_t i = 0; i < field->value.count; i++)
            count_in(all, m, field->value.list[i], -1, event);
}

static void count_event(struct metrics *all, struct metric *m, const struct stats_event *event)
{
    dist_add(&m->duration, (uint64_t)stats_event_duration(event));
    for (size_t i = 0; i < m->field_count; i++) {
        const struct stats_field *field = stats_event_find(event, slice_from_str(m->fields[i]));

        if (field != NULL) /* texts and lists count as 0 */
            dist_add(&m->dists[i], field->value.type == EVENT_INT || field->value.type == EVENT_TIME ? (uint64_t)field->value.number : 0);
    }
    if (m->group_count > 0)
        divide(all, m, event);
}

void metrics_event(struct metrics *all, const struct stats_event *event)
{
    for (struct metric *m = all->first; m != NULL; m = m->next) {
        if (!stats_event_matches(event, m->filter))
            continue;
        count_event(all, m, event);
        if (m->exporter != NULL)
            exporter_event(all, m->exporter, m->include, event);
    }
}
