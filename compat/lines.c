/* Logical lines of a configuration file and of what it includes (config 1.1, 1.2, 1.5).
 *
 * Oddities that files depend on: an empty or comment line throws a pending continuation away; the comment is cut
 * before the backslash is looked for; a continuation may run over the end of an included file. */
#include "compat/lines.h"

#include "base/log.h"
#include "conf/reading.h"

#include <glob.h>

enum { INCLUDE_MOST = 1000 };

static void push(struct lines *lines, const char *path)
{
    struct input *input = mem_zero(1, sizeof(*input));
    input->path = arena_strdup(lines->arena, path);
    input->below = lines->top;
    lines->top = input;
    lines->depth++;
}

static void pop(struct lines *lines)
{
    struct input *input = lines->top;
    lines->top = input->below;
    lines->depth--;
    buffer_free(&input->text);
    mem_free(input);
}

int lines_open(struct lines *lines, const char *path, struct error *e)
{
    struct buffer text = {0};
    if (conf_read_file(path, &text, e) < 0) {
        buffer_free(&text);
        return -1;
    }
    push(lines, path);
    lines->top->text = text;
    return 0;
}

void lines_open_text(struct lines *lines, const char *path, struct slice text)
{
    push(lines, path);
    buffer_append_slice(&lines->top->text, text);
}

void lines_close(struct lines *lines)
{
    while (lines->top != NULL)
        pop(lines);
    buffer_free(&lines->pending);
}

static bool is_white(unsigned char c)
{
    return c == ' ' || c == '\t';
}

/* A comment starts at # outside of quotes; an unclosed quote ends the search. */
static size_t comment_start(struct slice line)
{
    for (size_t i = 0; i < line.size; i++) {
        unsigned char c = line.at[i];
        if (c == '#')
            return i;
        if (c != '\'' && c != '"')
            continue;
        for (i++; i < line.size && line.at[i] != c; i++) {
            if (line.at[i] == '\\')
                i++;
        }
    }
    return line.size;
}

static struct slice without_comment(struct slice line, const struct conf_place *place)
{
    size_t at = comment_start(line);
    if (at < line.size && at > 0 && !is_white(line.at[at - 1]))
        log_warning(NULL,
                    "Configuration file %s line %u: Ambiguous '#' character in line, treating it as comment. "
                    "Add a space before it to remove this warning.",
                    place->file, place->line);
    line.size = at < line.size ? at : line.size;
    while (line.size > 0 && is_white(line.at[line.size - 1]))
        line.size--;
    return line;
}

static bool next_physical(struct lines *lines, struct slice *line, struct conf_place *place)
{
    struct input *input = lines->top;
    struct slice rest = slice_from(buffer_slice(&input->text), input->at);
    if (rest.size == 0)
        return false;
    ptrdiff_t end = slice_find(rest, '\n');
    *line = end < 0 ? rest : slice_head(rest, (size_t)end);
    input->at += line->size + (end >= 0);
    input->line++;
    if (end >= 0 && line->size > 0 && line->at[line->size - 1] == '\r')
        line->size--;
    ptrdiff_t nul = slice_find(*line, '\0');
    if (nul >= 0)
        line->size = (size_t)nul;
    while (line->size > 0 && is_white(line->at[0]))
        *line = slice_from(*line, 1);
    *place = (struct conf_place){input->path, input->line};
    return true;
}

bool lines_next(struct lines *lines, char **text, struct conf_place *place)
{
    struct slice line;
    buffer_reset(&lines->pending);
    while (lines->top != NULL) {
        if (!next_physical(lines, &line, place)) {
            if (lines->top->below == NULL)
                return false;
            pop(lines);
            continue;
        }
        if (line.size == 0 || line.at[0] == '#') {
            buffer_reset(&lines->pending);
            continue;
        }
        line = without_comment(line, place);
        if (line.size > 0 && line.at[line.size - 1] == '\\') {
            line.size--;
            while (line.size > 0 && is_white(line.at[line.size - 1]))
                line.size--;
            if (line.size > 0) {
                buffer_append_slice(&lines->pending, line);
                buffer_append_byte(&lines->pending, ' ');
            }
            continue;
        }
        buffer_append_slice(&lines->pending, line);
        buffer_append_byte(&lines->pending, '\0');
        *text = (char *)lines->pending.at;
        return true;
    }
    return false;
}

const char *lines_path(const struct lines *lines, const char *name)
{
    const char *slash = lines->top == NULL ? NULL : strrchr(lines->top->path, '/');
    if (name[0] == '/' || slash == NULL)
        return name;
    return arena_printf(lines->arena, "%.*s/%s", (int)(slash - lines->top->path), lines->top->path, name);
}

static int include_one(struct lines *lines, const char *path, bool must, struct error *e)
{
    /* The siblings of one pattern are on the stack together, so they cannot include each other either. */
    for (const struct input *input = lines->top; input != NULL; input = input->below) {
        if (strcmp(input->path, path) == 0)
            return error_set(e, ERROR_INVALID, "Recursive include file: %s", path);
    }
    struct buffer text = {0};
    struct error why;
    if (conf_read_file(path, &text, &why) < 0) {
        buffer_free(&text);
        if (!must)
            return 0;
        return error_set(e, ERROR_INVALID, "Couldn't open include file %s: %s", path, strerror(why.sys));
    }
    push(lines, path);
    lines->top->text = text;
    return 0;
}

int lines_include(struct lines *lines, const char *pattern, bool must, struct error *e)
{
    glob_t found;
    const char *path = lines_path(lines, pattern);
    if (lines->depth > INCLUDE_MOST)
        return error_set(e, ERROR_LIMIT, "Too many include files");
    int status = glob(path, GLOB_BRACE, NULL, &found);
    if (status == GLOB_NOMATCH)
        return must ? error_set(e, ERROR_INVALID, "No matches") : 0;
    if (status != 0) {
        const char *why = status == GLOB_NOSPACE   ? "Not enough memory"
                          : status == GLOB_ABORTED ? "Read error"
                                                   : "Unknown error";
        return error_set(e, ERROR_INVALID, "glob() failed: %s", why);
    }
    /* The first file must be read first: it goes on top of the stack, last. */
    int result = 0;
    for (size_t i = found.gl_pathc; result == 0 && i-- > 0;)
        result = include_one(lines, found.gl_pathv[i], must, e);
    globfree(&found);
    return result;
}
