/* stats_client.c - the connection to the stats service. Who has given up his rights does not make it anew: a dispatcher does. */
#include "rpc/stats_client.h"

#include "rpc/line.h"
#include "rpc/service.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>

enum { LINE_MAX_BYTES = 1024 * 1024, CATEGORIES = 16 };

struct stats_client {
    struct service *service;
    void (*heard)(void *arg);                /* NULL: nobody wants to know */
    void *arg;
    struct line_conn *conn;                  /* NULL: there is none, or it has gone */
    struct arena *arena;                     /* of the filter */
    struct event_filter *filter;
    bool greeted, filtered;                  /* has said what it is, and what it wants */
    const char *told[CATEGORIES];            /* categories that the service knows */
    unsigned told_count;
};

static void take_filter(struct stats_client *c, struct slice text)
{
    struct error e;

    arena_free(c->arena);
    c->arena = arena_new();
    c->filter = NULL;
    if (event_filter_parse(c->arena, arena_str(c->arena, text_tab_unescape(c->arena, text)), &c->filter, &e) < 0) {
        log_error(NULL, "stats: Received an invalid event filter: %s", e.admin);
        c->filter = NULL;
    }
    c->filtered = true;
    if (c->heard != NULL)
        c->heard(c->arg);
}

static void take_line(void *arg, struct slice line)
{
    struct stats_client *c = arg;
    struct slice rest = line, command;
    struct error e;
    unsigned minor;

    if (!c->greeted) {
        c->greeted = true;
        if (line_check_version(line, "stats-server", 4, &minor, &e) < 0)
            line_conn_fail(c->conn, &e);
        return;
    }
    (void)slice_split(&rest, '\t', &command);
    if (slice_equal_str(command, "FILTER"))
        take_filter(c, rest);
}

static void close_conn(struct stats_client *c)
{
    line_conn_free(c->conn);
    c->conn = NULL;
    c->filter = NULL;
    c->greeted = c->filtered = false;
    c->told_count = 0;
}

static void take_close(void *arg, const struct error *e)
{
    struct stats_client *c = arg;

    (void)e;
    close_conn(c);
    if (c->heard != NULL)
        c->heard(c->arg);
}

struct stats_client *stats_client_new(struct service *service)
{
    struct stats_client *c = mem_zero(1, sizeof(*c));

    c->service = service;
    c->arena = arena_new();
    return c;
}

void stats_client_watch(struct stats_client *c, void (*heard)(void *arg), void *arg)
{
    c->heard = heard;
    c->arg = arg;
}

void stats_client_adopt(struct stats_client *c, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = LINE_MAX_BYTES};

    close_conn(c);
    c->conn = line_conn_new(service_loop(c->service), fd, &limits, &handler, c);
    line_conn_send_version(c->conn, "stats-client", 4, 0);
}

bool stats_client_inherit(struct stats_client *c)
{
    const char *given = getenv(STATS_FD_ENV);
    int fd = given == NULL ? -1 : atoi(given);

    if (given == NULL)
        return false;
    (void)unsetenv(STATS_FD_ENV);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    stats_client_adopt(c, fd);
    return true;
}

bool stats_client_connect(struct stats_client *c)
{
    const char *path = getenv(STATS_PATH_ENV);
    struct error e;
    int fd = path == NULL || *path == '\0' ? -1 : line_connect(path, 0, &e);

    if (fd >= 0)
        stats_client_adopt(c, fd);
    return fd >= 0;
}

void stats_client_free(struct stats_client *c)
{
    if (c == NULL)
        return;
    line_conn_free(c->conn);
    arena_free(c->arena);
    mem_free(c);
}

enum stats_asks stats_client_asks(const struct stats_client *c)
{
    return c == NULL || c->conn == NULL ? STATS_GONE : !c->filtered ? STATS_SILENT : c->filter == NULL ? STATS_NOTHING : STATS_EVENTS;
}

bool stats_client_on(const struct stats_client *c)
{
    return c != NULL && c->filter != NULL;
}

/* ---- is it asked for? -------------------------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static bool leaf_matches(void *arg, const struct event_filter *f)
{
    const struct stats_out *out = arg;
    const struct event_value name = {.text = slice_from_str(out->name)};

    if (slice_equal_str(f->key, "event"))
        return event_filter_is(f, &name);
    if (slice_equal_str(f->key, "category")) {
        for (const char *const *c = out->categories; *c != NULL; c++) {
            if (f->type == EVENT_FILTER_IS && slice_equal_str(f->value, *c))
                return true;
        }
        return false;
    }
    if (slice_equal_str(f->key, "source_location"))
        return event_filter_is_source(f, slice_from_str(base_name(out->file)), out->line);
    for (size_t i = 0; i < out->count; i++) {
        if (slice_equal_str(f->key, out->fields[i].key) && (out->fields[i].value.type != EVENT_STR || out->fields[i].value.text.at != NULL))
            return event_filter_is(f, &out->fields[i].value);
    }
    return event_filter_is(f, NULL);
}

/* ---- sending ----------------------------------------------------------------------------------------------------------- */

static void tell_category(struct stats_client *c, const char *name, struct buffer *out)
{
    for (unsigned i = 0; i < c->told_count; i++) {
        if (strcmp(c->told[i], name) == 0)
            return;
    }
    if (c->told_count < CATEGORIES)
        c->told[c->told_count++] = name;
    buffer_append_str(out, "CATEGORY");
    line_field_str(out, name);
    buffer_append_byte(out, '\n');
}

static void put_coded(struct buffer *out, char code, const char *text)
{
    buffer_append_byte(out, '\t');
    buffer_append_byte(out, (unsigned char)code);
    text_tab_escape(out, slice_from_str(text));
}

static void put_field(struct buffer *out, const struct stats_out_field *f)
{
    switch (f->value.type) {
    case EVENT_STR:
        if (f->value.text.at == NULL)
            return;
        put_coded(out, 'S', f->key);
        line_field(out, f->value.text);
        return;
    case EVENT_INT:
        put_coded(out, 'I', f->key);
        buffer_printf(out, "\t%lld", (long long)f->value.number);
        return;
    case EVENT_TIME:
        put_coded(out, 'T', f->key);
        buffer_printf(out, "\t%lld\t%lld", (long long)(f->value.number / 1000000), (long long)(f->value.number % 1000000));
        return;
    case EVENT_LIST:
        put_coded(out, 'L', f->key);
        line_field_num(out, f->value.count);
        for (size_t i = 0; i < f->value.count; i++)
            line_field(out, f->value.list[i]);
        return;
    }
}

void stats_client_send(struct stats_client *c, const struct stats_out *event)
{
    struct buffer out = {0};
    struct timespec now;
    int64_t sent, begun;

    if (!stats_client_on(c) || line_conn_full(c->conn) || !event_filter_match(c->filter, leaf_matches, (void *)(uintptr_t)event))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    sent = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    begun = sent - (int64_t)(event->took_ns / 1000);
    for (const char *const *category = event->categories; *category != NULL; category++)
        tell_category(c, *category, &out);
    buffer_printf(&out, "EVENT\t0\t0\t1\t%lld\t%lld", (long long)(begun / 1000000), (long long)(begun % 1000000));
    put_coded(&out, 's', base_name(event->file));
    buffer_printf(&out, "\t%u\tl%lld\t%lld", event->line, (long long)(sent / 1000000), (long long)(sent % 1000000));
    put_coded(&out, 'n', event->name);
    for (const char *const *category = event->categories; *category != NULL; category++)
        put_coded(&out, 'c', *category);
    for (size_t i = 0; i < event->count; i++)
        put_field(&out, &event->fields[i]);
    buffer_append_byte(&out, '\n');
    line_conn_send(c->conn, buffer_slice(&out));
    buffer_free(&out);
}
