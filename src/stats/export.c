/* export.c - events as texts for others (event_exporter, config 7.2): as JSON or fields behind TABs, into the log, to a server by HTTP,
 * or nowhere.
 *
 * An exported event has the categories and fields of those that it belongs to: from the outermost in, the last value of a field
 * at the place of its first. Its end is when it was heard of, as there. */
#include "stats/stats.h"

#include <stdio.h>
#include <time.h>

enum { FIELDS_MOST = 1000, CATEGORIES_MOST = 64, CHAIN_MOST = 100 };
enum { INCLUDE_NAME = 1, INCLUDE_HOSTNAME = 2, INCLUDE_TIMESTAMPS = 4, INCLUDE_CATEGORIES = 8, INCLUDE_FIELDS = 16 };

enum format { FORMAT_NONE, FORMAT_JSON, FORMAT_TAB };
struct exporter {
    struct exporter *next;
    const char *name;
    enum format format;
    bool epoch;                     /* times are seconds since 1970 */
    enum { DROP, LOG, POST } transport;
    char *url;                      /* of POST */
    unsigned timeout_ms;
    const char *hostname;           /* of events */
};

struct exporter *exporter_find(const struct metrics *all, const char *name)
{
    struct exporter *x = all->exporters;

    while (x != NULL && strcmp(x->name, name) != 0)
        x = x->next;
    return x;
}

void exporter_add(struct metrics *all, const char *name, const char *format, const char *format_args, const char *transport, const char *url,
                  unsigned timeout_ms)
{
    struct exporter *x = mem_zero(1, sizeof(*x));

    x->name = mem_strdup(name);
    x->format = strcmp(format, "json") == 0 ? FORMAT_JSON : strcmp(format, "tab-text") == 0 ? FORMAT_TAB : FORMAT_NONE;
    x->epoch = slice_has_word(slice_from_str(format_args), SLICE("time-unix"));
    x->transport = strcmp(transport, "log") == 0 ? LOG : strcmp(transport, "http-post") == 0 ? POST : DROP;
    x->url = mem_strdup(url);
    x->timeout_ms = timeout_ms;
    x->hostname = all->hostname;
    x->next = all->exporters;
    all->exporters = x;
}

void exporters_free(struct metrics *all)
{
    while (all->exporters != NULL) {
        struct exporter *x = all->exporters;

        all->exporters = x->next;
        mem_free((char *)(uintptr_t)x->name);
        mem_free(x->url);
        mem_free(x);
    }
}

unsigned exporter_include(const char *words)
{
    static const char *const names[] = {"name", "hostname", "timestamps", "categories", "fields"};
    struct slice rest = slice_from_str(words), word;
    unsigned include = 0;

    while (slice_split(&rest, ' ', &word)) {
        unsigned i = 0;

        while (i < 5 && !slice_equal_str(word, names[i]))
            i++;
        if (i < 5)
            include |= 1u << i;
        else if (word.size > 0)
            log_warning(NULL, "Ignoring unknown exporter include '%.*s'", (int)word.size, (const char *)word.at);
    }
    return include;
}

/* ---- what an event has altogether ------------------------------------------------------------------------------------ */

struct whole {
    struct stats_field fields[FIELDS_MOST];
    size_t field_count;
    const struct stats_category *categories[CATEGORIES_MOST];
    size_t category_count;
};

static void add_field(struct whole *w, const struct stats_field *f)
{
    size_t i = 0;

    while (i < w->field_count && !slice_equal(w->fields[i].key, f->key))
        i++;
    if (i < FIELDS_MOST)
        w->fields[i] = *f;
    if (i == w->field_count && i < FIELDS_MOST)
        w->field_count++;
}

static void add_category(struct whole *w, const struct stats_category *c)
{
    for (size_t i = 0; i < w->category_count; i++) {
        if (w->categories[i] == c)
            return;
    }
    if (w->category_count < CATEGORIES_MOST)
        w->categories[w->category_count++] = c;
}

static void add_own(struct whole *w, const struct stats_event *event)
{
    for (size_t i = 0; i < event->field_count; i++)
        add_field(w, &event->fields[i]);
    for (size_t i = 0; i < event->category_count; i++)
        add_category(w, event->categories[i]);
}

/* Is it above another one, which will name it? */
static bool is_above(const struct whole *w, const struct stats_category *c)
{
    for (size_t i = 0; i < w->category_count; i++) {
        for (const struct stats_category *p = w->categories[i]->parent; p != NULL; p = p->parent) {
            if (p == c)
                return true;
        }
    }
    return false;
}

static void gather(struct whole *w, const struct stats_event *event)
{
    const struct stats_event *chain[CHAIN_MOST];
    const struct stats_category *given[CATEGORIES_MOST];
    size_t n = 0, count;

    w->field_count = w->category_count = 0;
    if (event->global != NULL)
        add_own(w, event->global);
    for (const struct stats_event *e = event; e != NULL && n < CHAIN_MOST; e = e->parent)
        chain[n++] = e;
    while (n > 0)
        add_own(w, chain[--n]);
    /* Each with those above it behind it. */
    count = 0;
    for (size_t i = 0; i < w->category_count; i++) {
        if (!is_above(w, w->categories[i]))
            given[count++] = w->categories[i];
    }
    w->category_count = 0;
    for (size_t i = 0; i < count; i++) {
        for (const struct stats_category *c = given[i]; c != NULL; c = c->parent)
            add_category(w, c);
    }
}

/* ---- times ------------------------------------------------------------------------------------------------------------ */

static void put_time(struct buffer *out, const struct exporter *x, int64_t usecs)
{
    time_t secs = (time_t)(usecs / 1000000);
    char text[64];
    struct tm tm;

    if (x->epoch) {
        buffer_printf(out, "%lld.%06lld", (long long)secs, (long long)(usecs % 1000000));
        return;
    }
    gmtime_r(&secs, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    buffer_printf(out, "%s.%06lldZ", text, (long long)(usecs % 1000000));
}

static int64_t now_usecs(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------- */

static void json_text(struct buffer *out, struct slice text)
{
    buffer_append_byte(out, '"');
    text_json_escape(out, text);
    buffer_append_byte(out, '"');
}

/* "key": with a comma before it, unless it is the first. */
static void json_key(struct buffer *out, struct slice key)
{
    if (out->size > 0 && out->at[out->size - 1] != '{')
        buffer_append_byte(out, ',');
    json_text(out, key);
    buffer_append_byte(out, ':');
}

static void json_time(struct buffer *out, const struct exporter *x, int64_t usecs)
{
    const char *quote = x->epoch ? "" : "\"";

    buffer_append_str(out, quote);
    put_time(out, x, usecs);
    buffer_append_str(out, quote);
}

static void json_value(struct buffer *out, const struct exporter *x, const struct event_value *v)
{
    switch (v->type) {
    case EVENT_STR:
        json_text(out, v->text);
        return;
    case EVENT_INT:
        buffer_printf(out, "%lld", (long long)v->number);
        return;
    case EVENT_TIME:
        json_time(out, x, v->number);
        return;
    case EVENT_LIST:
        for (size_t i = 0; i < v->count; i++) {
            buffer_append_byte(out, i == 0 ? '[' : ',');
            json_text(out, v->list[i]);
        }
        buffer_append_byte(out, ']');
        return;
    }
}

static bool is_nothing(const struct event_value *v)
{
    return v->type == EVENT_LIST && v->count == 0;
}

static void put_json(struct buffer *out, const struct exporter *x, unsigned include, const struct stats_event *event, const struct whole *w)
{
    buffer_append_byte(out, '{');
    if ((include & INCLUDE_NAME) != 0 && event->name.at != NULL) {
        json_key(out, SLICE("event"));
        json_text(out, event->name);
    }
    if ((include & INCLUDE_HOSTNAME) != 0) {
        json_key(out, SLICE("hostname"));
        json_text(out, slice_from_str(x->hostname));
    }
    if ((include & INCLUDE_TIMESTAMPS) != 0) {
        json_key(out, SLICE("start_time"));
        json_time(out, x, event->created);
        json_key(out, SLICE("end_time"));
        json_time(out, x, now_usecs());
    }
    if ((include & INCLUDE_CATEGORIES) != 0) {
        json_key(out, SLICE("categories"));
        buffer_append_byte(out, '[');
        for (size_t i = 0; i < w->category_count; i++) {
            if (i > 0)
                buffer_append_byte(out, ',');
            json_text(out, slice_from_str(w->categories[i]->name));
        }
        buffer_append_byte(out, ']');
    }
    if ((include & INCLUDE_FIELDS) != 0) {
        json_key(out, SLICE("fields"));
        buffer_append_byte(out, '{');
        for (size_t i = 0; i < w->field_count; i++) {
            if (is_nothing(&w->fields[i].value))
                continue;
            json_key(out, w->fields[i].key);
            json_value(out, x, &w->fields[i].value);
        }
        buffer_append_byte(out, '}');
    }
    buffer_append_byte(out, '}');
}

/* ---- fields behind TABs ------------------------------------------------------------------------------------------------ */

static void tab(struct buffer *out)
{
    if (out->size > 0)
        buffer_append_byte(out, '\t');
}

static void tab_list(struct buffer *out, const struct event_value *v)
{
    struct buffer joined = {0};

    for (size_t i = 0; i < v->count; i++) {
        if (i > 0)
            buffer_append_byte(&joined, '\t');
        text_tab_escape(&joined, v->list[i]);
    }
    text_tab_escape(out, buffer_slice(&joined));
    buffer_free(&joined);
}

static void tab_field(struct buffer *out, const struct exporter *x, const struct stats_field *f)
{
    buffer_append_str(out, "field:");
    text_tab_escape(out, f->key);
    buffer_append_byte(out, '=');
    switch (f->value.type) {
    case EVENT_STR:
        text_tab_escape(out, f->value.text);
        return;
    case EVENT_INT:
        buffer_printf(out, "%lld", (long long)f->value.number);
        return;
    case EVENT_TIME:
        put_time(out, x, f->value.number);
        return;
    case EVENT_LIST:
        tab_list(out, &f->value);
        return;
    }
}

/* A part without anything in it is an empty field. */
static void put_tabs(struct buffer *out, const struct exporter *x, unsigned include, const struct stats_event *event, const struct whole *w)
{
    bool first = true;

    if ((include & INCLUDE_NAME) != 0 && event->name.at != NULL) {
        buffer_append_str(out, "event:");
        text_tab_escape(out, event->name);
    }
    if ((include & INCLUDE_HOSTNAME) != 0) {
        tab(out);
        buffer_append_str(out, "hostname:");
        text_tab_escape(out, slice_from_str(x->hostname));
    }
    if ((include & INCLUDE_TIMESTAMPS) != 0) {
        tab(out);
        buffer_append_str(out, "start_time:");
        put_time(out, x, event->created);
        buffer_append_str(out, "\tend_time:");
        put_time(out, x, now_usecs());
    }
    if ((include & INCLUDE_CATEGORIES) != 0) {
        tab(out);
        for (size_t i = 0; i < w->category_count; i++) {
            buffer_append_str(out, i == 0 ? "category:" : "\tcategory:");
            text_tab_escape(out, slice_from_str(w->categories[i]->name));
        }
    }
    if ((include & INCLUDE_FIELDS) == 0)
        return;
    tab(out);
    for (size_t i = 0; i < w->field_count; i++) {
        if (is_nothing(&w->fields[i].value))
            continue;
        if (!first)
            buffer_append_byte(out, '\t');
        first = false;
        tab_field(out, x, &w->fields[i]);
    }
}

/* ---- transports ------------------------------------------------------------------------------------------------------- */

/* One line a second: a server that is away costs no more. */
static void complain(struct metrics *all, const char *what)
{
    time_t now = time(NULL);

    if (all->complained == now) {
        all->suppressed++;
        return;
    }
    if (all->suppressed == 0)
        log_error(NULL, "Failed to export event via HTTP POST: %s", what);
    else
        log_error(NULL, "Failed to export event via HTTP POST: %s (%u more errors suppressed)", what, all->suppressed);
    all->complained = now;
    all->suppressed = 0;
}

static void posted(void *arg, const struct http_answer *answer)
{
    struct buffer text = {0};

    if (http_succeeded(answer))
        return;
    buffer_printf(&text, "%u %s", answer->status, answer->text);
    complain(arg, buffer_cstr(&text));
    buffer_free(&text);
}

static void post(struct metrics *all, const struct exporter *x, struct slice text)
{
    static const char *const types[] = {[FORMAT_NONE] = "application/octet-stream", [FORMAT_JSON] = "application/json", [FORMAT_TAB] = "text/plain"};
    const struct http_request request = {.method = "POST", .url = x->url, .content_type = types[x->format], .body = text, .trust = all->trust,
                                         .timeout_ms = x->timeout_ms};
    struct error e;

    if (all->http != NULL && http_client_send(all->http, &request, posted, all, &e) < 0)
        complain(all, e.admin);
}

void exporter_event(struct metrics *all, const struct exporter *x, unsigned include, const struct stats_event *event)
{
    static struct whole whole;      /* large */
    struct buffer out = {0};

    if (x->transport == DROP)
        return;
    gather(&whole, event);
    if (x->format == FORMAT_JSON)
        put_json(&out, x, include, event, &whole);
    else if (x->format == FORMAT_TAB)
        put_tabs(&out, x, include, event, &whole);
    if (x->transport == POST)
        post(all, x, buffer_slice(&out));
    else
        log_info(NULL, "%s", buffer_cstr(&out));
    buffer_free(&out);
}
