/* Choosing header fields: BODY[HEADER.FIELDS], BODY[HEADER.FIELDS.NOT] (imap 10.3), and the cache fields hdr.<Name>
 * (index-format 9.7).
 *
 * Names are looked up by a hash over lower-case letters with open addressing, so that a list of a thousand names and a
 * header of a hundred thousand fields stay linear. The key of the hash is random, since both are chosen by others. */
#include <stdlib.h>
#include <sys/random.h>

#include "mime/mime_internal.h"

struct mime_names {
    const struct slice *names;
    size_t count, mask;
    uint32_t *slots;           /* index + 1 */
    uint64_t key;
};

static uint64_t hash_name(uint64_t key, struct slice name)
{
    uint64_t h = key ^ 0xcbf29ce484222325u;

    for (size_t i = 0; i < name.size; i++) {
        unsigned char c = name.at[i];
        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        h = (h ^ c) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h ^ h >> 32;
}

struct mime_names *mime_names_new(struct arena *arena, const struct slice *names, size_t count)
{
    static uint64_t process_key;
    struct mime_names *n = ARENA_NEW(arena, struct mime_names);
    size_t room = 8;

    if (process_key == 0 && getrandom(&process_key, sizeof(process_key), 0) != sizeof(process_key))
        process_key = (uint64_t)(uintptr_t)n | 1;
    while (room < count * 2)
        room *= 2;
    n->names = names;
    n->count = count;
    n->mask = room - 1;
    n->slots = ARENA_ARRAY(arena, uint32_t, room);
    n->key = process_key;
    for (size_t i = 0; i < count; i++) {
        if (mime_names_index(n, names[i]) >= 0)
            continue;
        size_t at = hash_name(n->key, names[i]) & n->mask;
        while (n->slots[at] != 0)
            at = (at + 1) & n->mask;
        n->slots[at] = (uint32_t)(i + 1);
    }
    return n;
}

ptrdiff_t mime_names_index(const struct mime_names *n, struct slice name)
{
    for (size_t at = hash_name(n->key, name) & n->mask; n->slots[at] != 0; at = (at + 1) & n->mask)
        if (slice_equal_nocase(n->names[n->slots[at] - 1], name))
            return (ptrdiff_t)n->slots[at] - 1;
    return -1;
}

bool mime_names_has(const struct mime_names *n, struct slice name)
{
    return mime_names_index(n, name) >= 0;
}

/* Stored lines as they are shown: CRLF, NUL -> 0x80. */
static void put_lines(struct buffer *out, struct slice raw, bool last_without_lf)
{
    while (raw.size > 0) {
        struct slice line;
        bool lf = mime_line_next(&raw, &line);
        size_t from = out->size;

        buffer_append_slice(out, line);
        for (unsigned char *nul; (nul = memchr(out->at + from, '\0', out->size - from)) != NULL;)
            *nul = 0x80;
        if (lf || last_without_lf)
            buffer_append_str(out, "\r\n");
    }
}

void mime_header_filter(struct buffer *out, struct slice block, const struct mime_names *names, bool invert)
{
    struct mime_headers h;
    struct mime_field f;

    mime_headers_init(&h, block);
    for (;;) {
        uint64_t left = h.value_left;
        if (!mime_headers_next(&h, &f))
            break;
        /* A line without a colon has no name that could be asked for. */
        bool nameless = f.name.size == 0;
        if ((nameless ? false : mime_names_has(names, f.name)) == invert)
            continue;
        if (left < f.raw.size && h.value_left == 0) {
            /* Over the cap: the name, and what is left for the value. */
            size_t front = f.value.at == NULL || nameless ? 0 : (size_t)(f.value.at - f.raw.at);
            put_lines(out, slice_head(f.raw, front + f.value.size), true);
        } else {
            put_lines(out, f.raw, f.last_without_lf && !invert);
        }
    }
    if (!invert || h.empty_line)
        buffer_append_str(out, "\r\n");
}

struct mime_field_list mime_headers_all(struct arena *arena, struct slice block)
{
    VEC(struct mime_field) fields = {0};
    struct mime_field_list list;
    struct mime_headers h;
    struct mime_field f;

    mime_headers_init(&h, block);
    while (mime_headers_next(&h, &f))
        VEC_PUSH(&fields, f);
    list.count = fields.count;
    list.at = arena_copy(arena, fields.at, fields.count * sizeof(f));
    VEC_FREE(&fields);
    return list;
}

/* With LF as line end. */
static void put_raw(struct buffer *out, struct slice raw)
{
    while (raw.size > 0) {
        struct slice line;
        bool lf = mime_line_next(&raw, &line);

        buffer_append_slice(out, line);
        if (lf)
            buffer_append_byte(out, '\n');
    }
}

void mime_header_cache_encode(struct buffer *out, const struct mime_field_list *list, struct slice name)
{
    unsigned char number[4];
    size_t first = list->count, last = 0;

    if (name.size == 0)
        return; /* lines without a colon have no name that could be asked for */
    for (size_t i = 0; i < list->count; i++) {
        if (!slice_equal_nocase(list->at[i].name, name))
            continue;
        bytes_put_le32(number, list->at[i].line);
        buffer_append(out, number, sizeof(number));
        first = first < i ? first : i;
        last = i;
    }
    if (first == list->count)
        return;
    memset(number, 0, sizeof(number));
    buffer_append(out, number, sizeof(number));
    for (size_t i = first; i <= last; i++) {
        if (slice_equal_nocase(list->at[i].name, name))
            put_raw(out, list->at[i].raw);
    }
}

/* Splits into the line numbers and the text; -1 when it is malformed. */
static int split_cached(struct slice value, struct slice *lines, struct slice *fields)
{
    uint32_t last = 0;
    size_t at = 0;

    *lines = *fields = SLICE_EMPTY;
    if (value.size == 0)
        return 0;
    for (;; at += 4) {
        if (value.size - at < 4)
            return -1;
        uint32_t line = bytes_le32(value.at + at);
        if (line == 0)
            break;
        if (line <= last)
            return -1;
        last = line;
    }
    if (at == 0)
        return -1;
    *lines = slice_head(value, at);
    *fields = slice_from(value, at + 4);
    return 0;
}

int mime_header_cache_decode(struct slice value, struct slice *fields, struct error *e)
{
    struct slice lines, text;

    if (split_cached(value, &lines, &text) < 0)
        return error_set(e, ERROR_CORRUPT, "Cached header is malformed");
    *fields = text;
    return 0;
}

struct cached_field {
    uint32_t line;
    struct slice raw;
};

static int by_line(const void *a, const void *b)
{
    const struct cached_field *x = a, *y = b;
    return x->line < y->line ? -1 : x->line > y->line;
}

/* The usual case: one name, one field of it, which is a block as it is. */
static bool is_one_field(struct slice value, struct slice *block)
{
    struct slice lines, rest;
    struct mime_headers h;
    struct mime_field f;

    if (split_cached(value, &lines, block) < 0 || lines.size != 4 || !slice_ends(*block, SLICE("\n")))
        return false;
    mime_headers_init(&h, *block);
    if (!mime_headers_next(&h, &f))
        return false;
    rest = slice_from(*block, f.raw.size);
    return rest.size == 0;
}

int mime_header_cache_merge(struct arena *arena, const struct slice *values, size_t count, struct slice *block,
                            struct error *e)
{
    VEC(struct cached_field) all = {0};
    struct buffer out = {0};
    int result = 0;

    if (count == 1 && is_one_field(values[0], block))
        return 0;
    for (size_t i = 0; i < count && result == 0; i++) {
        struct slice lines, text;
        struct mime_headers h;
        struct mime_field f;
        if (split_cached(values[i], &lines, &text) < 0) {
            result = error_set(e, ERROR_CORRUPT, "Cached header is malformed");
            break;
        }
        mime_headers_init(&h, text);
        for (; lines.size > 0; lines = slice_from(lines, 4)) {
            if (!mime_headers_next(&h, &f)) {
                result = error_set(e, ERROR_CORRUPT, "Cached header has more line numbers than fields");
                break;
            }
            struct cached_field one = {bytes_le32(lines.at), f.raw};
            VEC_PUSH(&all, one);
        }
    }
    if (result == 0) {
        if (all.count > 1)
            qsort(all.at, all.count, sizeof(all.at[0]), by_line);
        for (size_t i = 0; i < all.count; i++) {
            buffer_append_slice(&out, all.at[i].raw);
            if (!slice_ends(all.at[i].raw, SLICE("\n")))
                buffer_append_byte(&out, '\n');
        }
        *block = mime_keep(arena, buffer_slice(&out));
    }
    VEC_FREE(&all);
    buffer_free(&out);
    return result;
}
