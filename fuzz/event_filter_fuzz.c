/* Filters of events: no crash; brackets around one change nothing, NOT before them turns it round. The first line is the
 * filter, the second a value, the rest a list, for the fields that it names. */
#include "conf/event_filter.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct event {
    struct slice text;
    int64_t number;
    struct slice list[16];
    size_t count;
};

/* What a field is depends on its name. */
static bool leaf(void *arg, const struct event_filter *f)
{
    const struct event *event = arg;
    const struct event_value values[] = {{.text = event->text},
                                         {.type = EVENT_INT, .number = event->number},
                                         {.type = EVENT_TIME, .number = event->number},
                                         {.type = EVENT_LIST, .list = event->list, .count = event->count}};
    unsigned which = f->key.size == 0 ? 0 : f->key.at[f->key.size - 1] % 6;

    if (which == 5)
        return event_filter_is_source(f, event->text, (uint32_t)event->number);
    return event_filter_is(f, which == 4 ? NULL : &values[which]);
}

static bool matches(struct arena *arena, const char *text, struct event *event)
{
    struct event_filter *filter;
    struct error e;

    if (event_filter_parse(arena, text, &filter, &e) < 0)
        abort();
    return event_filter_match(filter, leaf, event);
}

/* Brackets can stand around it: it is not as deep as may be, and no string goes on to the end, which is as if it were not there. */
static bool fits_in_brackets(struct slice text)
{
    unsigned n = 0;
    bool quoted = false;

    for (size_t i = 0; i < text.size; i++) {
        n += text.at[i] == '(' || text.at[i] == 'N' || text.at[i] == 'n';
        if (text.at[i] == '"')
            quoted = !quoted;
        else if (quoted && text.at[i] == '\\')
            i++;
    }
    return n <= 60 && !quoted;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct slice rest = slice_of(data, size), line, number;
    struct event event = {.text = SLICE_EMPTY};
    struct event_filter *filter;
    struct error e;
    uint64_t n;

    (void)slice_split(&rest, '\n', &line);
    (void)slice_split(&rest, '\n', &event.text);
    number = event.text;
    if (slice_to_u64(number, &n))
        event.number = (int64_t)n;
    while (event.count < 16 && slice_split(&rest, '\n', &event.list[event.count]))
        event.count++;
    const char *text = arena_str(arena, line);
    if (event_filter_parse(arena, text, &filter, &e) == 0 && filter != NULL && fits_in_brackets(slice_from_str(text))) {
        bool is = event_filter_match(filter, leaf, &event);

        if (matches(arena, arena_printf(arena, "(%s)", text), &event) != is ||
            matches(arena, arena_printf(arena, "NOT (%s)", text), &event) == is)
            abort();
    }
    arena_free(arena);
    return 0;
}
