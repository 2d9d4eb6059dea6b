/* writer.c - connections of the services that send events (ipc 8.1). Each has events and categories of its own. */
#include "rpc/line.h"
#include "stats/stats.h"

#include "net/fdpass.h"

#include <utlist.h>

enum { LINE_MAX_BYTES = 128 * 1024, OPEN_MOST = 100000, CATEGORIES_MOST = 10000 };

struct open_event {
    uint64_t id;
    struct stats_event *event;
    UT_hash_handle hh;
};

struct writer {
    struct writer *prev, *next;
    struct stats *stats;
    struct line_conn *conn;
    bool greeted;
    struct open_event *events;
    struct stats_category *categories;
};

struct writers {
    struct writer *first;
};

static bool refuse(const char *command, const char *why, struct slice line, struct error *e)
{
    log_error(NULL, "Client sent invalid input for %s: %s (input: %.*s)", command, why, (int)slice_head(line, 200).size,
              (const char *)line.at);
    error_set(e, ERROR_INVALID, "%s", why);
    return false;
}

static void tell_filter(struct writer *w)
{
    struct buffer filter = {0}, line = {0};

    metrics_filter(&w->stats->metrics, &filter);
    line_begin(&line, "FILTER");
    line_field(&line, buffer_slice(&filter));
    line_end(&line);
    line_conn_send(w->conn, buffer_slice(&line));
    buffer_free(&filter);
    buffer_free(&line);
}

void stats_writers_tell(struct stats *stats)
{
    struct writer *w;

    if (stats->writers == NULL)
        return;
    DL_FOREACH(stats->writers->first, w)
        tell_filter(w);
}

static struct stats_category *find_category(struct writer *w, struct slice name)
{
    struct stats_category *found;

    HASH_FIND(hh, w->categories, name.at, name.size, found);
    return found;
}

/* name [parent] */
static bool take_category(struct writer *w, const struct slice *words, size_t n, struct slice line, struct error *e)
{
    struct arena *scratch = arena_new();
    struct slice name = n > 0 ? text_tab_unescape(scratch, words[0]) : SLICE_EMPTY;
    struct slice parent = n > 1 ? text_tab_unescape(scratch, words[1]) : SLICE_EMPTY;
    struct stats_category *c, *above = parent.size > 0 ? find_category(w, parent) : NULL;
    bool good = true;

    if (name.size == 0)
        good = refuse("CATEGORY", "Missing category name", line, e);
    else if (parent.size > 0 && above == NULL)
        good = refuse("CATEGORY", "Unknown parent category", line, e);
    else if (find_category(w, name) == NULL && HASH_COUNT(w->categories) >= CATEGORIES_MOST)
        good = refuse("CATEGORY", "Too many categories", line, e);
    else if (find_category(w, name) == NULL) {
        c = mem_zero(1, sizeof(*c));
        c->name = mem_strndup(name);
        c->parent = above;
        HASH_ADD_KEYPTR(hh, w->categories, c->name, name.size, c);
    }
    arena_free(scratch);
    return good;
}

static struct open_event *find_event(struct writer *w, uint64_t id)
{
    struct open_event *found;

    HASH_FIND(hh, w->events, &id, sizeof(id), found);
    return found;
}

/* An id that may be 0: none. */
static bool take_id(struct writer *w, struct slice word, struct stats_event **out)
{
    struct open_event *found;
    uint64_t id;

    *out = NULL;
    if (!slice_to_u64(word, &id))
        return false;
    found = id == 0 ? NULL : find_event(w, id);
    if (found != NULL)
        *out = found->event;
    return id == 0 || found != NULL;
}

/* EVENT: global id, parent id, log type, export. */
static bool take_event(struct writer *w, const struct slice *words, size_t n, struct slice line, struct error *e)
{
    struct stats_event *global, *parent, *event;

    if (n < 3 || !take_id(w, words[0], &global))
        return refuse("EVENT", n < 3 ? "Invalid event IDs" : "Unknown global event ID", line, e);
    if (!take_id(w, words[1], &parent))
        return refuse("EVENT", "Unknown parent event ID", line, e);
    event = stats_event_parse(words + 3, n - 3, w->categories, e);
    if (event == NULL)
        return refuse("EVENT", e->admin, line, e);
    event->global = global == NULL ? NULL : stats_event_ref(global);
    event->parent = parent == NULL ? NULL : stats_event_ref(parent);
    metrics_event(&w->stats->metrics, event);
    stats_event_unref(event);
    return true;
}

/* BEGIN: id, parent id, log type, export. UPDATE: the same without the type. */
static bool take_begin(struct writer *w, const struct slice *words, size_t n, bool update, struct slice line, struct error *e)
{
    const char *command = update ? "UPDATE" : "BEGIN";
    size_t head = update ? 2 : 3;
    struct stats_event *parent, *event;
    struct open_event *entry;
    uint64_t id;

    if (n < head || !slice_to_u64(words[0], &id) || id == 0)
        return refuse(command, "Invalid event IDs", line, e);
    entry = find_event(w, id);
    if (update != (entry != NULL))
        return refuse(command, update ? "Unknown event ID" : "Duplicate event ID", line, e);
    if (!take_id(w, words[1], &parent) || (update && parent == entry->event))
        return refuse(command, "Unknown parent event ID", line, e);
    if (!update && HASH_COUNT(w->events) >= OPEN_MOST)
        return refuse(command, "Too many events", line, e);
    event = stats_event_parse(words + head, n - head, w->categories, e);
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
    HASH_ADD(hh, w->events, id, sizeof(id), entry);
    return true;
}

static void end_event(struct writer *w, struct open_event *entry)
{
    HASH_DEL(w->events, entry);
    stats_event_unref(entry->event);
    mem_free(entry);
}

static bool take_end(struct writer *w, const struct slice *words, size_t n, struct slice line, struct error *e)
{
    struct open_event *entry;
    uint64_t id;

    entry = n == 1 && slice_to_u64(words[0], &id) ? find_event(w, id) : NULL;
    if (entry == NULL)
        return refuse("END", "Unknown event ID", line, e);
    end_event(w, entry);
    return true;
}

static bool take_command(struct writer *w, struct slice line, struct error *e)
{
    struct slice rest = line, command, word;
    VEC(struct slice) words = {0};
    bool good;

    (void)slice_split(&rest, '\t', &command);
    while (slice_split(&rest, '\t', &word))
        VEC_PUSH(&words, word);
    if (slice_equal_str(command, "EVENT"))
        good = take_event(w, words.at, words.count, line, e);
    else if (slice_equal_str(command, "BEGIN") || slice_equal_str(command, "UPDATE"))
        good = take_begin(w, words.at, words.count, *command.at == 'U', line, e);
    else if (slice_equal_str(command, "END"))
        good = take_end(w, words.at, words.count, line, e);
    else if (slice_equal_str(command, "CATEGORY"))
        good = take_category(w, words.at, words.count, line, e);
    else
        good = refuse("command", "Unknown command", line, e);
    VEC_FREE(&words);
    return good;
}

static void take_line(void *arg, struct slice line)
{
    struct writer *w = arg;
    struct error e;
    unsigned minor;

    if (w->greeted) {
        if (!take_command(w, line, &e))
            line_conn_fail(w->conn, &e);
        return;
    }
    w->greeted = true;
    if (line_check_version(line, "stats-client", 4, &minor, &e) < 0) {
        pid_t pid = 0;
        uid_t uid = 0;

        (void)net_peer_credentials(line_conn_fd(w->conn), &pid, &uid);
        log_error(NULL, "conn unix:stats-writer (pid=%ld,uid=%ld): didn't reply with a valid VERSION line: %.*s", (long)pid, (long)uid,
                  (int)slice_head(line, 200).size, (const char *)line.at);
        line_conn_fail(w->conn, &e);
    }
}

static void take_close(void *arg, const struct error *error)
{
    struct writer *w = arg;
    struct stats *stats = w->stats;
    struct open_event *entry, *next;
    struct stats_category *c, *next_category;

    (void)error;
    HASH_ITER(hh, w->events, entry, next)
        end_event(w, entry);
    HASH_ITER(hh, w->categories, c, next_category) {
        HASH_DEL(w->categories, c);
        mem_free((char *)(uintptr_t)c->name);
        mem_free(c);
    }
    DL_DELETE(stats->writers->first, w);
    line_conn_free(w->conn);
    stats_peer_end(stats, w);
}

void stats_writer_connected(struct stats *stats, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = LINE_MAX_BYTES};
    struct writer *w = mem_zero(1, sizeof(*w));

    if (stats->writers == NULL)
        stats->writers = mem_zero(1, sizeof(*stats->writers));
    w->stats = stats;
    w->conn = line_conn_new(service_loop(stats->service), fd, &limits, &handler, w);
    DL_APPEND(stats->writers->first, w);
    line_conn_send_version(w->conn, "stats-server", 4, 0);
    tell_filter(w);
}
