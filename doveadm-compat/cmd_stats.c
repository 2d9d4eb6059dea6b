/* cmd_stats.c - stats add, dump, remove: metrics of the stats service (ipc 8.2); oldstats dump, reset: those of the plugin
 * of older days (ipc 9). */
#include "doveadm.h"
#include "print.h"
#include "rpc/line.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *reader(struct doveadm *d, FILE **out, const char **path)
{
    FILE *in;

    *path = doveadm_text(d, "socket-path");
    if (*path == NULL)
        *path = doveadm_socket(d, "stats-reader");
    in = doveadm_stream(*path, out);
    fputs("VERSION\tstats-reader-client\t2\t0\n", *out);
    return in;
}

static void send_field(FILE *out, const char *text)
{
    struct buffer field = {0};

    line_field_str(&field, text == NULL ? "" : text);
    fwrite(field.at, 1, field.size, out);
    buffer_free(&field);
}

/* The next line without its end, NULL at the end of the connection. The first one is the other side's version. */
static char *next_line(FILE *in, char **line, size_t *room)
{
    ssize_t n = getline(line, room, in);

    if (n <= 0)
        return NULL;
    (*line)[strcspn(*line, "\n")] = '\0';
    return *line;
}

static int close_streams(FILE *in, FILE *out, char *line, int status)
{
    free(line);
    fclose(in);
    fclose(out);
    return status;
}

/* ---- stats add, remove ------------------------------------------------------------------------------------------------ */

/* What is wrong is said, and the status is 0 all the same: scripts know it so. */
static int missing(struct doveadm *d, const char *what)
{
    log_error(NULL, "%s: missing %s parameter", d->command->name, what);
    return DOVEADM_OK;
}

static int take_answer(FILE *in, FILE *out, const char *path)
{
    char *line = NULL;
    size_t room = 0;

    fflush(out);
    if (next_line(in, &line, &room) == NULL || next_line(in, &line, &room) == NULL)
        log_error(NULL, "read(%s) failed: Connection closed", path);
    else if (line[0] == '-')
        log_error(NULL, "%s", line + 1);
    return close_streams(in, out, line, DOVEADM_OK);
}

int doveadm_stats_add(struct doveadm *d)
{
    static const char *const order[] = {"name", "description", "fields", "group-by", "filter", "exporter", "exporter-include"};
    const char *path;
    FILE *in, *out;

    if (doveadm_text(d, "name") == NULL || *doveadm_text(d, "name") == '\0')
        return missing(d, "name");
    if (doveadm_text(d, "filter") == NULL || *doveadm_text(d, "filter") == '\0')
        return missing(d, "filter");
    in = reader(d, &out, &path);
    fputs("METRICS-ADD", out);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        send_field(out, doveadm_text(d, order[i]));
    fputc('\n', out);
    return take_answer(in, out, path);
}

int doveadm_stats_remove(struct doveadm *d)
{
    const char *path;
    FILE *in, *out;

    if (doveadm_text(d, "name") == NULL || *doveadm_text(d, "name") == '\0')
        return missing(d, "name");
    in = reader(d, &out, &path);
    fputs("METRICS-REMOVE", out);
    send_field(out, doveadm_text(d, "name"));
    fputc('\n', out);
    return take_answer(in, out, path);
}

/* ---- stats dump ------------------------------------------------------------------------------------------------------- */

struct fields {
    struct slice *at;
    size_t count;
};

static struct fields parse_fields(struct doveadm *d)
{
    const char *text = doveadm_given(d, "fields") ? doveadm_text(d, "fields") : "count sum min max avg median stddev %95";
    struct fields f = {.at = ARENA_ARRAY(d->arena, struct slice, strlen(text) + 1)};

    for (const char *at = text; *(at += strspn(at, " ,")) != '\0';) {
        size_t n = strcspn(at, " ,");

        f.at[f.count++] = slice_of(at, n);
        at += n;
    }
    return f;
}

/* Standard deviations are not sent: their squares are. */
static void print_field(struct doveadm *d, struct slice name, struct slice value)
{
    const char *text = arena_str(d->arena, value);

    print_value(d, slice_equal_str(name, "stddev") ? arena_printf(d->arena, "%.02f", sqrt(strtod(text, NULL))) : text);
}

/* name, values of its duration, then each field with its values. */
static bool print_metric(struct doveadm *d, const struct fields *f, const char *line)
{
    struct slice rest = slice_from_str(line), name, value, field = SLICE("duration");

    slice_split(&rest, '\t', &name);
    name = text_tab_unescape(d->arena, name);
    do {
        print_value(d, arena_str(d->arena, name));
        print_value(d, arena_str(d->arena, text_tab_unescape(d->arena, field)));
        for (size_t i = 0; i < f->count; i++) {
            if (!slice_split(&rest, '\t', &value))
                return false;
            print_field(d, f->at[i], value);
        }
    } while (slice_split(&rest, '\t', &field));
    return true;
}

int doveadm_stats_dump(struct doveadm *d)
{
    struct fields f = parse_fields(d);
    const char *path;
    FILE *out, *in;
    char *line = NULL;
    size_t room = 0;
    bool version = false;

    if (f.count == 0)
        return doveadm_usage(d);
    in = reader(d, &out, &path);
    fputs(doveadm_flag(d, "reset") ? "DUMP-RESET" : "DUMP", out);
    for (size_t i = 0; i < f.count; i++)
        send_field(out, slice_equal_str(f.at[i], "stddev") ? "variance" : arena_str(d->arena, f.at[i]));
    fputc('\n', out);
    fflush(out);
    print_init(d, "tab");
    print_header_simple(d, "metric_name");
    print_header_simple(d, "field");
    for (size_t i = 0; i < f.count; i++) {
        const char *name = arena_str(d->arena, f.at[i]);

        print_header(d, name, name, PRINT_NUMBER);
    }
    while (next_line(in, &line, &room) != NULL && (!version || *line != '\0')) {
        if (version && !print_metric(d, &f, line))
            doveadm_fatal(DOVEADM_TEMPFAIL, "read(%s) failed: Invalid line", path);
        version = true;
    }
    if (line == NULL || *line != '\0') {
        log_error(NULL, "read(%s) failed: Connection closed", path);
        return close_streams(in, out, line, DOVEADM_TEMPFAIL);
    }
    return close_streams(in, out, line, DOVEADM_OK);
}

/* ---- oldstats --------------------------------------------------------------------------------------------------------- */

static FILE *old_reader(struct doveadm *d, FILE **out, const char **path)
{
    *path = doveadm_text(d, "socket-path");
    if (*path == NULL)
        *path = doveadm_socket(d, "old-stats");
    return doveadm_stream(*path, out);
}

/* The first line names the columns. */
int doveadm_oldstats_dump(struct doveadm *d)
{
    const char *type = doveadm_text(d, "type"), *filter = doveadm_text(d, "filter"), *path;
    char *line = NULL;
    size_t room = 0, columns = 0;
    bool titles = true;
    FILE *in, *out;

    if (type == NULL) {
        log_error(NULL, "Missing type parameter");
        return DOVEADM_USAGE;
    }
    in = old_reader(d, &out, &path);
    fprintf(out, "EXPORT\t%s%s%s\n", type, filter != NULL ? "\t" : "", filter != NULL ? filter : "");
    fflush(out);
    print_init(d, "tab");
    while (next_line(in, &line, &room) != NULL && *line != '\0') {
        struct slice rest = slice_from_str(line), one;
        size_t n = 0;

        for (; (titles || n < columns) && slice_split(&rest, '\t', &one); n++) {
            if (titles)
                print_header_simple(d, arena_str(d->arena, one));
            else
                print_value(d, arena_str(d->arena, text_tab_unescape(d->arena, one)));
        }
        for (; !titles && n < columns; n++)
            print_value(d, "");
        columns = titles ? n : columns;
        titles = false;
    }
    if (line == NULL || *line != '\0')
        doveadm_fatal(DOVEADM_TEMPFAIL, "read(%s) unexpectedly disconnected", path);
    if (titles)
        log_info(NULL, "no statistics available");
    return close_streams(in, out, line, DOVEADM_OK);
}

/* A screen that is drawn anew each second: not there, but the service that it asks would be missed first. */
int doveadm_oldstats_top(struct doveadm *d)
{
    const char *path;
    FILE *out;

    (void)old_reader(d, &out, &path);
    return doveadm_absent(d);
}

int doveadm_oldstats_reset(struct doveadm *d)
{
    char *line = NULL;
    size_t room = 0;
    const char *path;
    FILE *out, *in = old_reader(d, &out, &path);

    fputs("RESET\n", out);
    fflush(out);
    if (next_line(in, &line, &room) == NULL || strcmp(line, "OK") != 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "read(%s) unexpectedly disconnected", path);
    log_info(NULL, "Stats reset");
    return close_streams(in, out, line, DOVEADM_OK);
}
