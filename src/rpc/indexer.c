/* indexer.c - lines of the indexer, read and written (indexer.h). */
#include "rpc/indexer.h"

#include <errno.h>
#include <unistd.h>

static const char *const command_words[] = {[INDEXER_APPEND] = "APPEND", [INDEXER_PREPEND] = "PREPEND", [INDEXER_OPTIMIZE] = "OPTIMIZE"};

enum { COMMANDS = sizeof(command_words) / sizeof(command_words[0]) };

static bool any_nul(const struct slice *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_find(fields[i], 0) >= 0)
            return true;
    return false;
}

/* tag user mailbox [max-recent [session]]; the last two not of OPTIMIZE. */
static int read_arguments(struct arena *arena, const struct slice *f, size_t count, struct indexer_request *r, struct error *e)
{
    if (count < 3 || count > (r->command == INDEXER_OPTIMIZE ? 3 : 5))
        return error_set(e, ERROR_INVALID, "Wrong parameter count");
    if (!slice_to_u32(f[0], &r->tag))
        return error_set(e, ERROR_INVALID, "Invalid tag");
    if (count > 3 && !slice_to_u32(f[3], &r->max_recent))
        return error_set(e, ERROR_INVALID, "Invalid max_recent_msgs");
    if (any_nul(f, count))
        return error_set(e, ERROR_INVALID, "NULs in parameters");
    r->user = arena_str(arena, f[1]);
    r->mailbox = arena_str(arena, f[2]);
    r->limited = count > 3;
    r->session = count > 4 ? arena_str(arena, f[4]) : "";
    return 0;
}

int indexer_request_read(struct arena *arena, struct slice line, struct indexer_request *r, struct error *e)
{
    struct slice *f;
    size_t count = text_tab_fields(arena, line, &f);

    *r = (struct indexer_request){.user = "", .mailbox = "", .session = ""};
    for (int i = 0; i < COMMANDS; i++)
        if (slice_equal_str(f[0], command_words[i])) {
            r->command = (enum indexer_command)i;
            return read_arguments(arena, f + 1, count - 1, r, e);
        }
    return error_set(e, ERROR_INVALID, "Unknown command: %.*s", (int)(f[0].size < 64 ? f[0].size : 64), (const char *)f[0].at);
}

void indexer_request_write(struct buffer *out, const struct indexer_request *r)
{
    line_begin(out, command_words[r->command]);
    line_field_num(out, r->tag);
    line_field_str(out, r->user);
    line_field_str(out, r->mailbox);
    if (r->command != INDEXER_OPTIMIZE && (r->limited || r->max_recent != 0 || r->session[0] != '\0'))
        line_field_num(out, r->max_recent);
    if (r->command != INDEXER_OPTIMIZE && r->session[0] != '\0')
        line_field_str(out, r->session);
    line_end(out);
}

int indexer_work_read(struct arena *arena, struct slice line, struct indexer_work *w, struct error *e)
{
    struct slice *f;
    size_t count = text_tab_fields(arena, line, &f);

    if (count != 5 || !slice_to_u32(f[3], &w->max_recent) || f[4].size == 0 || any_nul(f, count))
        return error_set(e, ERROR_INVALID, "Invalid input from master: %.*s", (int)(line.size < 1024 ? line.size : 1024), (const char *)line.at);
    w->user = arena_str(arena, f[0]);
    w->mailbox = arena_str(arena, f[1]);
    w->session = arena_str(arena, f[2]);
    w->index = slice_find(f[4], 'i') >= 0;
    w->optimize = slice_find(f[4], 'o') >= 0;
    return 0;
}

void indexer_work_write(struct buffer *out, const struct indexer_work *w)
{
    buffer_reset(out);
    text_tab_escape(out, slice_from_str(w->user));
    line_field_str(out, w->mailbox);
    line_field_str(out, w->session);
    line_field_num(out, w->max_recent);
    buffer_append_byte(out, '\t');
    if (w->index)
        buffer_append_byte(out, 'i');
    if (w->optimize)
        buffer_append_byte(out, 'o');
    line_end(out);
}

int indexer_ask(const char *path, const struct indexer_request *r, unsigned wait_ms, struct error *e)
{
    struct buffer line = {0}, all = {0};
    int fd = line_connect(path, wait_ms, e);
    int result = 0;

    if (fd < 0)
        return error_set(e, e->class, "net_connect_unix(%s) failed: %s", path, strerror(e->sys));
    indexer_request_write(&line, r);
    buffer_printf(&all, "VERSION\t" INDEXER_VERSION_NAME "\t%d\t0\n", INDEXER_VERSION);
    buffer_append_slice(&all, buffer_slice(&line));
    if (write(fd, all.at, all.size) != (ssize_t)all.size)
        result = error_set(e, ERROR_TEMPORARY, "write(%s) failed: %s", path, strerror(errno));
    buffer_free(&line);
    buffer_free(&all);
    (void)close(fd);
    return result;
}
