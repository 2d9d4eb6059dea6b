/* Header blocks in memory: walking their fields, finding one, unfolding values (RFC 5322 section 2.2).
 *
 * Lenient as the real server: a line without a colon is a field without a name, a name ends at a NUL, white space
 * before the colon is dropped, and a first line that begins with white space is a line like any other. The values of
 * one block are cut at 10 MiB together (oracle-build 1.5). */
#include <stdlib.h>

#include "mime/mime_internal.h"

void mime_headers_init(struct mime_headers *h, struct slice block)
{
    *h = (struct mime_headers){.rest = block, .line = 1, .value_left = mime_limits_default.header_size};
}

struct slice mime_field_value(struct slice s)
{
    size_t i = 0;

    if (s.size > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
        s = slice_from(s, 1);
    while (i < s.size && (s.at[i] == ' ' || s.at[i] == '\t'))
        i++;
    /* White space that runs into the line end is part of the value. */
    if (i < s.size && s.at[i] != '\n' && !(s.at[i] == '\r' && i + 1 < s.size && s.at[i + 1] == '\n'))
        s = slice_from(s, i);
    if (s.size > 0 && s.at[s.size - 1] == '\n')
        s.size--;
    if (s.size > 0 && s.at[s.size - 1] == '\r')
        s.size--;
    return s;
}

static struct slice field_name(struct slice s)
{
    const unsigned char *nul = s.size == 0 ? NULL : memchr(s.at, '\0', s.size);
    if (nul != NULL)
        s.size = (size_t)(nul - s.at);
    while (s.size > 0 && (s.at[s.size - 1] == ' ' || s.at[s.size - 1] == '\t'))
        s.size--;
    return s;
}

bool mime_headers_next(struct mime_headers *h, struct mime_field *f)
{
    uint32_t lines = 0;

    if (h->rest.size == 0) /* of no bytes, there may be no address */
        return false;
    const unsigned char *begin = h->rest.at, *end = begin + h->rest.size, *p = begin;
    if (*p == '\n' || (*p == '\r' && h->rest.size > 1 && p[1] == '\n')) {
        h->empty_line = true;
        h->rest = SLICE_EMPTY;
        return false;
    }
    const unsigned char *line_end = NULL;
    f->last_without_lf = false;
    do {
        const unsigned char *lf = memchr(p, '\n', (size_t)(end - p));
        if (lf == NULL) {
            f->last_without_lf = true;
            p = end;
        } else {
            p = lf + 1;
        }
        if (lines++ == 0)
            line_end = p;
    } while (p < end && (*p == ' ' || *p == '\t'));

    f->raw = slice_of(begin, (size_t)(p - begin));
    f->line = h->line;
    h->line += lines;
    h->rest = slice_of(p, (size_t)(end - p));

    const unsigned char *colon = memchr(begin, ':', (size_t)(line_end - begin));
    struct slice after = f->raw;
    f->name = slice_of(begin, 0);
    if (colon != NULL) {
        f->name = field_name(slice_of(begin, (size_t)(colon - begin)));
        after = slice_from(f->raw, (size_t)(colon + 1 - begin));
    }
    f->value = mime_field_value(after);
    if (f->value.at == NULL)
        f->value = slice_of("", 0);
    if (f->value.size > h->value_left)
        f->value.size = (size_t)h->value_left;
    h->value_left -= f->value.size;
    return true;
}

bool mime_header_find(struct slice block, const char *name, struct mime_field *f)
{
    struct mime_headers h;

    mime_headers_init(&h, block);
    while (mime_headers_next(&h, f))
        if (f->name.size > 0 && slice_equal_str_nocase(f->name, name))
            return true;
    return false;
}

struct slice mime_header_unfold(struct arena *arena, struct slice value)
{
    struct slice s = slice_trim(value);
    struct buffer b = {0};

    if (s.size == 0)
        return slice_of("", 0);
    if (memchr(s.at, '\n', s.size) == NULL)
        return arena_slice(arena, s);
    for (size_t i = 0; i < s.size; i++) {
        if (s.at[i] == '\n') {
            if (b.size > 0 && b.at[b.size - 1] == '\r')
                b.size--;
            if (i + 1 < s.size && s.at[i + 1] != ' ' && s.at[i + 1] != '\t')
                buffer_append_byte(&b, ' ');
        } else {
            buffer_append_byte(&b, s.at[i]);
        }
    }
    struct slice kept = mime_keep(arena, buffer_slice(&b));
    buffer_free(&b);
    return kept;
}

/* Length of the header block at the front of the bytes at hand (with its empty line), or 0 when it goes on. */
static size_t block_end(struct slice s, size_t *from)
{
    size_t i = *from;
    while (i < s.size) {
        if (s.at[i] == '\n')
            return i + 1;
        if (s.at[i] == '\r') {
            if (i + 1 == s.size)
                break;
            if (s.at[i + 1] == '\n')
                return i + 2;
        }
        const unsigned char *lf = memchr(s.at + i, '\n', s.size - i);
        if (lf == NULL)
            break;
        i = (size_t)(lf + 1 - s.at);
        *from = i;
    }
    return 0;
}

int mime_header_read(struct arena *arena, const struct mime_source *source, const struct mime_part *part,
                     struct slice *block, struct error *e)
{
    uint64_t offset = part == NULL ? 0 : part->offset;
    uint64_t limit = part == NULL ? mime_limits_default.headers_size : part->header.physical;
    struct buffer b = {0};
    size_t from = 0;

    if (limit > mime_limits_default.headers_size)
        limit = mime_limits_default.headers_size;
    if (source->read == NULL) {
        struct slice rest = slice_head(slice_from(source->whole, offset > SIZE_MAX ? SIZE_MAX : (size_t)offset),
                                       (size_t)limit);
        size_t end = part == NULL ? block_end(rest, &from) : rest.size;
        *block = end == 0 ? rest : slice_head(rest, end);
        return 0;
    }
    while (b.size < limit) {
        size_t want = part == NULL && b.size == 0 ? 8192 : MIME_WINDOW_SIZE;
        if (want > limit - b.size)
            want = (size_t)(limit - b.size);
        buffer_reserve(&b, want);
        ssize_t got = mime_read_ahead(source, offset + b.size, b.at + b.size, &want, 1, e);
        if (got < 0) {
            buffer_free(&b);
            return -1;
        }
        b.size += (size_t)got;
        size_t end = part == NULL ? block_end(buffer_slice(&b), &from) : 0;
        if (end > 0)
            b.size = end;
        if (end > 0 || (size_t)got < want)
            break;
    }
    *block = mime_keep(arena, buffer_slice(&b));
    buffer_free(&b);
    return 0;
}
