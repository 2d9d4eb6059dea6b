/* plain.c - reads files of "key = value" lines and sections (auth.md 9.4). The old parser of Dovecot, not that of
 * dovecot.conf. */
#include "conf/plain.h"

#define JOINED_MOST (64 * 1024)
#define DEPTH_MOST 8

/* What stands before a '#' that is not inside of quotes. */
static struct slice without_comment(struct slice line)
{
    unsigned char quote = 0;

    for (size_t i = 0; i < line.size; i++) {
        unsigned char c = line.at[i];
        if (quote != 0) {
            if (c == '\\' && i + 1 < line.size)
                i++;
            else if (c == quote)
                quote = 0;
        } else if (c == '\'' || c == '"') {
            quote = c;
        } else if (c == '#') {
            return slice_trim(slice_head(line, i));
        }
    }
    return slice_trim(line);
}

static char *unquoted(struct arena *arena, struct slice value)
{
    struct buffer b = {0};
    char *out;

    if (value.size < 2 || (value.at[0] != '"' && value.at[0] != '\'') || value.at[value.size - 1] != value.at[0])
        return arena_str(arena, value);
    for (size_t i = 1; i + 1 < value.size; i++) {
        if (value.at[i] == '\\' && i + 2 < value.size)
            i++;
        buffer_append_byte(&b, value.at[i]);
    }
    out = arena_strdup(arena, buffer_cstr(&b));
    buffer_free(&b);
    return out;
}

static int take_line(struct slice whole, unsigned *depth, struct arena *arena, const struct plain_handler *handler, void *arg, struct error *e)
{
    struct slice key;
    size_t n = 0;

    if (handler->open != NULL && slice_equal_str(whole, "}")) {
        if (*depth == 0)
            return error_set(e, ERROR_INVALID, "Unexpected '}'");
        (*depth)--;
        return handler->close(arg, e);
    }
    while (n < whole.size && whole.at[n] != ' ' && whole.at[n] != '\t' && whole.at[n] != '=')
        n++;
    key = slice_head(whole, n);
    whole = slice_trim(slice_from(whole, n));
    if (whole.size > 0 && whole.at[0] == '=')
        return handler->key(arg, arena_str(arena, key), unquoted(arena, slice_trim(slice_from(whole, 1))), e);
    if (handler->open == NULL || whole.size == 0 || whole.at[whole.size - 1] != '{')
        return error_set(e, ERROR_INVALID, "Missing '='");
    if (++*depth > DEPTH_MOST)
        return error_set(e, ERROR_INVALID, "Too many sections inside of each other");
    return handler->open(arg, arena_str(arena, key), unquoted(arena, slice_trim(slice_head(whole, whole.size - 1))), e);
}

int plain_parse(struct slice text, const char *path, struct arena *arena, const struct plain_handler *handler, void *arg, struct error *e)
{
    struct slice rest = text, line;
    struct buffer joined = {0};
    unsigned number = 0, depth = 0;
    int result = 0;

    while (result == 0 && slice_split(&rest, '\n', &line)) {
        number++;
        line = slice_trim(line);
        if (joined.size == 0 && (line.size == 0 || line.at[0] == '#'))
            continue;
        line = without_comment(line);
        if (joined.size > 0)
            buffer_append_byte(&joined, ' ');
        if (line.size > 0 && line.at[line.size - 1] == '\\') {
            buffer_append_slice(&joined, slice_trim(slice_head(line, line.size - 1)));
            if (joined.size > JOINED_MOST)
                result = error_set(e, ERROR_LIMIT, "line is too long");
            continue;
        }
        buffer_append_slice(&joined, line);
        result = take_line(buffer_slice(&joined), &depth, arena, handler, arg, e);
        buffer_reset(&joined);
    }
    if (result == 0 && (joined.size > 0 || depth > 0))
        result = error_set(e, ERROR_INVALID, joined.size > 0 ? "Unfinished line" : "Missing '}'");
    buffer_wipe(&joined);
    return result == 0 ? 0 : error_context(e, "Error in configuration file %s line %u: ", path, number);
}
