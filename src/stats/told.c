/* told.c - what one writer has told: its categories, and its events that are open (ipc 8.1). Each writer has its own. */
#include "stats/stats.h"

enum { OPEN_MOST = 100000, CATEGORIES_MOST = 10000 };

struct open_event {
    uint64_t id;
    struct stats_event *event;
    UT_hash_handle hh;
};

static bool refuse(const char *command, const char *why, struct slice line, struct error *e)
{
    log_error(NULL, "Client sent invalid input for %s: %s (input: %.*s)", command, why, (int)slice_head(line, 200).size,
              (const char *)line.at);
    error_set(e, ERROR_INVALID, "%s", why);
    return false;
}

static struct stats_category *find_category(struct told *t, struct slice name)
{
    struct stats_category *found;

    HASH_FIND(hh, t->categories, name.at, name.size, found);
    return found;
}

/* name [parent] */
static bool take_category(struct told *t, const struct slice *words, size_t n, struct slice line, struct error *e)
{
    struct arena *scratch = arena_new();
    struct slice name = n > 0 ? text_tab_unescape(scratch, words[0]) : SLICE_EMPTY;
    struct slice parent = n > 1 ? text_tab_unescape(scratch, words[1]) : SLICE_EMPTY;
    struct stats_category *c, *above = parent.size > 0 ? find_category(t, parent) : NULL;
    bool good = true;

    if (name.size == 0)
        good = refuse("CATEGORY", "Missing category name", line, e);
    else if (parent.size > 0 && above == NULL)
        good = refuse("CATEGORY", "Unknown parent category", line, e);
    else if (find_category(t, name) == NULL && HASH_COUNT(t->categories) >= CATEGORIES_MOST)
        good = refuse("CATEGORY", "Too many categories", line, e);
    else if (find_category(t, name) == NULL) {
        c = mem_zero(1, sizeof(*c));
        c->name = mem_strndup(name);
        c->parent = above;
        HASH_ADD_KEYPTR(hh, t->categories, c->name, name.size, c);
    }
    arena_free(scratch);
    return good;
}

static struct open_event *find_event(struct told *t, uint64_t id)
{
    struct open_event *found;

    HASH_FIND(hh, t->events, &id, sizeof(id), found);
    return found;
}

/* An id that may be 0: none. */
static bool take_id(struct told *t, struct slice word, struct stats_event **out)
{
    struct open_event *found;
    uint64_t id;

    *out = NULL;
    if (!slice_to_u64(word, &id))
        return false;
    found = id == 0 ? NULL : find_event(t, id);
    if (found != NULL)
        *out = found->event;
    return id == 0 || found != NULL;
}

/* EVENT: global id, parent id, log type, export. */
static bool take_event(struct told *t, struct metrics *metrics, const struct slice *words, size_t n, struct slice line, struct error *e)
{
    struct stats_event *global, *parent, *event;

    if (n < 3 || !take_id(t, words[0], &global))
        return refuse("EVENT", n < 3 ? "Invalid event IDs" : "Unknown global event ID", line, e);
    if (!take_id(t, words[1], &parent))
        return refuse("EVENT", "Unknown parent event ID", line, e);
    event = stats_event_parse(words + 3, n - 3, t->categories, e);
    if (event == NULL)
        return refuse("EVENT", e->admin, line, e);
    event->global = global == NULL ? NULL : stats_event_ref(global);
    event->parent = parent == NULL ? NULL : stats_event_ref(parent);
    metrics_event(metrics, event);
    stats_event_unref(event);
    return true;
}

/* BEGIN: id, parent id, log type, export. UPDATE: the same without the type. */
static bool take_begin(struct told *t, const struct slice *words, size_t n, bool update, struct slice line, struct error *e)
{
    const char *command = update ? "UPDATE" : "BEGIN";
    size_t head = update ? 2 : 3;
    struct stats_event *parent, *event;
    struct open_event *entry;
    uint64_t id;

    if (n < head || !slice_to_u64(words[0], &id) || id == 0)
        return refuse(command, "Invalid event IDs", line, e);
    entry = find_event(t, id);
    if (update != (entry != NULL))
        return refuse(command, update ? "Unknown event ID" : "Duplicate event ID", line, e);
    if (!take_id(t, words[1], &parent) || (update && parent == entry->event))
        return refuse(command, "Unknown parent event ID", line, e);
    if (!update && HASH_COUNT(t->events) >= OPEN_MOST)
        return refuse(command, "Too many events", line, e);
    event = stats_event_parse(words + head, n - head, t->categories, e);
    if (event == NULL)
        return refuse(command, e->admin, line, e);
    if (update) {
        stats_event_update(entry->event, event);
        return true;
    }
    event->parent = parent == NULL ? NULL : stats_event_ref(parent);
    entry = mem_zero(1, sizeof(*entry));
    entry->id = id;
    entry->event = event;
    HASH_ADD(hh, t->events, id, sizeof(id), entry);
    return true;
}

static void end_event(struct told *t, struct open_event *entry)
{
    HASH_DEL(t->events, entry);
    stats_event_unref(entry->event);
    mem_free(entry);
}

static bool take_end(struct told *t, const struct slice *words, size_t n, struct slice line, struct error *e)
{
    struct open_event *entry;
    uint64_t id;

    entry = n == 1 && slice_to_u64(words[0], &id) ? find_event(t, id) : NULL;
    if (entry == NULL)
        return refuse("END", "Unknown event ID", line, e);
    end_event(t, entry);
    return true;
}

bool told_line(struct told *t, struct metrics *metrics, struct slice line, struct error *e)
{
    struct slice rest = line, command, word;
    VEC(struct slice) words = {0};
    bool good;

    (void)slice_split(&rest, '\t', &command);
    while (slice_split(&rest, '\t', &word))
        VEC_PUSH(&words, word);
    if (slice_equal_str(command, "EVENT"))
        good = take_event(t, metrics, words.at, words.count, line, e);
    else if (slice_equal_str(command, "BEGIN") || slice_equal_str(command, "UPDATE"))
        good = take_begin(t, words.at, words.count, *command.at == 'U', line, e);
    else if (slice_equal_str(command, "END"))
        good = take_end(t, words.at, words.count, line, e);
    else if (slice_equal_str(command, "CATEGORY"))
        good = take_category(t, words.at, words.count, line, e);
    else
        good = refuse("command", "Unknown command", line, e);
    VEC_FREE(&words);
    return good;
}

void told_free(struct told *t)
{
    struct open_event *entry, *next;
    struct stats_category *c, *next_category;

    HASH_ITER(hh, t->events, entry, next)
        end_event(t, entry);
    HASH_ITER(hh, t->categories, c, next_category) {
        HASH_DEL(t->categories, c);
        mem_free((char *)(uintptr_t)c->name);
        mem_free(c);
    }
}
