/* event.c - events as writers send them (ipc 8.1), and whether a filter means one.
 *
 * What an event does not say itself is asked of the events it belongs to. */
#include "stats/stats.h"

enum { FIELDS_MOST = 1000 };

struct words {
    const struct slice *at;
    size_t left;
    struct arena *arena;
};

static bool take(struct words *w, struct slice *out)
{
    if (w->left == 0)
        return false;
    *out = arena_slice(w->arena, text_tab_unescape(w->arena, *w->at));
    w->at++;
    w->left--;
    return true;
}

static bool take_number(struct words *w, int64_t *out)
{
    struct slice text;
    uint64_t n;
    bool minus;

    if (!take(w, &text))
        return false;
    minus = text.size > 0 && text.at[0] == '-';
    if (!slice_to_u64(minus ? slice_from(text, 1) : text, &n) || n > INT64_MAX)
        return false;
    *out = minus ? -(int64_t)n : (int64_t)n;
    return true;
}

/* Seconds and microseconds; `first` NULL: the seconds are a word of their own. */
static bool take_time(struct words *w, const struct slice *first, int64_t *out)
{
    uint64_t secs;
    int64_t s, usecs;

    if (first != NULL) {
        if (!slice_to_u64(*first, &secs))
            return false;
        s = (int64_t)secs;
    } else if (!take_number(w, &s)) {
        return false;
    }
    if (s < 0 || s > INT64_MAX / 1000000 - 1 || !take_number(w, &usecs) || usecs < 0 || usecs >= 1000000)
        return false;
    *out = s * 1000000 + usecs;
    return true;
}

static bool take_field(struct words *w, char code, struct slice key, struct stats_field *f)
{
    struct event_value *v = &f->value;
    struct slice *list;
    int64_t count;

    f->key = key;
    switch (code) {
    case 'S':
        v->type = EVENT_STR;
        return take(w, &v->text);
    case 'I':
        v->type = EVENT_INT;
        return take_number(w, &v->number);
    case 'T':
        v->type = EVENT_TIME;
        return take_time(w, NULL, &v->number);
    default:
        v->type = EVENT_LIST;
        if (!take_number(w, &count) || count < 0 || (uint64_t)count > w->left)
            return false;
        v->count = (size_t)count;
        v->list = list = ARENA_ARRAY(w->arena, struct slice, v->count + 1);
        for (size_t i = 0; i < v->count; i++) {
            if (!take(w, &list[i]))
                return false;
        }
        return true;
    }
}

/* A field that is given again has its last value. */
static struct stats_field *field_slot(struct stats_event *event, struct slice key)
{
    for (size_t i = 0; i < event->field_count; i++) {
        if (slice_equal(event->fields[i].key, key))
            return &event->fields[i];
    }
    return &event->fields[event->field_count++];
}

static bool take_part(struct stats_event *event, struct words *w, struct slice word, struct stats_category *known)
{
    struct slice rest = slice_from(word, 1);
    struct stats_category *category;
    struct stats_field field = {0};
    int64_t line;

    switch (word.at[0]) {
    case 'a':
        return word.size == 1;
    case 's':
        event->file = rest;
        if (!take_number(w, &line) || line < 0 || line > UINT32_MAX)
            return false;
        event->line = (uint32_t)line;
        return true;
    case 'l':
        return take_time(w, &rest, &event->sent);
    case 'n':
        event->name = rest;
        return true;
    case 'c':
        HASH_FIND(hh, known, rest.at, rest.size, category);
        if (category == NULL)
            return false;
        event->categories[event->category_count++] = category;
        return true;
    case 'S':
    case 'I':
    case 'T':
    case 'L':
        if (event->field_count >= FIELDS_MOST || !take_field(w, (char)word.at[0], rest, &field))
            return false;
        *field_slot(event, rest) = field;
        return true;
    default:
        return false;
    }
}

int64_t stats_event_duration(const struct stats_event *event)
{
    return event->sent > event->created ? event->sent - event->created : 0;
}

static void add_duration(struct stats_event *event)
{
    const struct slice key = SLICE("duration");

    *field_slot(event, key) = (struct stats_field){key, {.type = EVENT_INT, .number = stats_event_duration(event)}};
}

struct stats_event *stats_event_parse(const struct slice *words, size_t count, struct stats_category *known, struct error *e)
{
    struct stats_event *event = mem_zero(1, sizeof(*event));
    struct words w = {words, count, arena_new()};
    struct slice word;
    bool good;

    event->refs = 1;
    event->arena = w.arena;
    event->fields = ARENA_ARRAY(w.arena, struct stats_field, count + 1);
    event->categories = ARENA_ARRAY(w.arena, struct stats_category *, count + 1);
    good = take_time(&w, NULL, &event->created);
    event->sent = event->created;
    while (good && w.left > 0)
        good = take(&w, &word) && word.size > 0 && take_part(event, &w, word, known);
    if (good) {
        add_duration(event);
        return event;
    }
    stats_event_unref(event);
    error_set(e, ERROR_INVALID, "Invalid event");
    return NULL;
}

struct stats_event *stats_event_ref(struct stats_event *event)
{
    event->refs++;
    return event;
}

void stats_event_unref(struct stats_event *event)
{
    while (event != NULL && --event->refs == 0) { /* a chain of parents goes in a loop, however long it is */
        struct stats_event *parent = event->parent;

        stats_event_unref(event->global);
        arena_free(event->arena);
        mem_free(event);
        event = parent;
    }
}

static void copy_field(struct arena *arena, struct stats_field *f)
{
    struct slice *list = ARENA_ARRAY(arena, struct slice, f->value.count + 1);

    f->key = arena_slice(arena, f->key);
    f->value.text = arena_slice(arena, f->value.text);
    for (size_t i = 0; i < f->value.count; i++)
        list[i] = arena_slice(arena, f->value.list[i]);
    f->value.list = list;
}

void stats_event_update(struct stats_event *event, struct stats_event *news)
{
    size_t most = event->field_count + news->field_count;
    struct stats_event merged = *news;
    struct arena *old = event->arena;

    merged.refs = event->refs;
    merged.parent = event->parent;
    merged.global = event->global;
    merged.fields = ARENA_ARRAY(news->arena, struct stats_field, most + 1);
    merged.field_count = 0;
    for (size_t i = 0; i < event->field_count; i++) {
        merged.fields[merged.field_count] = event->fields[i];
        copy_field(news->arena, &merged.fields[merged.field_count++]);
    }
    for (size_t i = 0; i < news->field_count && merged.field_count < FIELDS_MOST; i++)
        *field_slot(&merged, news->fields[i].key) = news->fields[i];
    *event = merged;
    news->arena = old;
    stats_event_unref(news);
}

/* ---- asking ------------------------------------------------------------------------------------------------------------ */

const struct stats_field *stats_event_find(const struct stats_event *event, struct slice key)
{
    for (; event != NULL; event = event->parent) {
        for (size_t i = 0; i < event->field_count; i++) {
            if (slice_equal(event->fields[i].key, key))
                return &event->fields[i];
        }
        for (size_t i = 0; event->global != NULL && i < event->global->field_count; i++) {
            if (slice_equal(event->global->fields[i].key, key))
                return &event->global->fields[i];
        }
    }
    return NULL;
}

static bool has_category(const struct stats_event *event, struct slice name)
{
    for (; event != NULL; event = event->parent) {
        for (size_t i = 0; i < event->category_count; i++) {
            for (const struct stats_category *c = event->categories[i]; c != NULL; c = c->parent) {
                if (slice_equal_str(name, c->name))
                    return true;
            }
        }
    }
    return false;
}

static bool leaf_matches(void *arg, const struct event_filter *f)
{
    const struct stats_event *event = arg;
    const struct stats_field *field;
    const struct event_value name = {.text = event->name};

    if (slice_equal_str(f->key, "event"))
        return event->name.at != NULL && event_filter_is(f, &name);
    if (slice_equal_str(f->key, "category"))
        return f->type == EVENT_FILTER_IS && has_category(event, f->value);
    if (slice_equal_str(f->key, "source_location"))
        return event_filter_is_source(f, event->file, event->line);
    field = stats_event_find(event, f->key);
    return event_filter_is(f, field == NULL ? NULL : &field->value);
}

bool stats_event_matches(const struct stats_event *event, const struct event_filter *filter)
{
    return event_filter_match(filter, leaf_matches, (void *)(uintptr_t)event);
}
