/* state_keyword.c - the extension "keywords": names and bits (index-format 4.4, 10.1).
 *
 * No log record introduces it: every reader makes and grows it from keyword-updates, by a fixed formula. Names are
 * found by binary search without case, not by hash: names come from clients, and equal hashes could be chosen. */
#include "index/state.h"

#include <stdio.h>

enum { KEYWORD_SPARE = 128 }; /* bytes of header that a growing extension keeps free */

static int compare_nocase(struct slice a, struct slice b)
{
    size_t n = a.size < b.size ? a.size : b.size;

    for (size_t i = 0; i < n; i++) {
        unsigned char x = (unsigned char)text_lower((char)a.at[i]), y = (unsigned char)text_lower((char)b.at[i]);

        if (x != y)
            return x < y ? -1 : 1;
    }
    return a.size == b.size ? 0 : a.size < b.size ? -1 : 1;
}

/* Where the name stands in the order, or would. */
static unsigned order_at(const struct state *s, struct slice name, bool *found)
{
    unsigned low = 0, high = s->keyword_count;

    *found = false;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        int c = compare_nocase(slice_from_str(s->keywords[s->keyword_order[mid]]), name);

        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int state_keyword_find(const struct state *s, struct slice name)
{
    bool found;
    unsigned at = order_at(s, name, &found);

    return found ? (int)s->keyword_order[at] : -1;
}

void state_keywords_free(struct state *s)
{
    for (unsigned i = 0; i < s->keyword_count; i++)
        mem_free(s->keywords[i]);
    mem_free(s->keywords);
    mem_free(s->keyword_order);
    s->keywords = NULL;
    s->keyword_order = NULL;
    s->keyword_count = 0;
}

/* Room doubles at powers of two. */
static void remember(struct state *s, struct slice name)
{
    unsigned n = s->keyword_count, at;
    bool found;

    if ((n & (n - 1)) == 0) {
        unsigned room = n == 0 ? 1 : n * 2;

        s->keywords = mem_realloc(s->keywords, room * sizeof(*s->keywords));
        s->keyword_order = mem_realloc(s->keyword_order, room * sizeof(*s->keyword_order));
    }
    at = order_at(s, name, &found); /* a duplicate name in a broken header keeps its place behind the first */
    if (found)
        at++;
    memmove(s->keyword_order + at + 1, s->keyword_order + at, (n - at) * sizeof(*s->keyword_order));
    s->keyword_order[at] = n;
    s->keywords[n] = mem_strndup(name);
    s->keyword_count = n + 1;
}

const char *state_keywords_load(struct state *s)
{
    const struct state_ext *e;
    const char *problem = NULL;
    struct slice h, names;
    uint32_t count;

    state_keywords_free(s);
    s->keywords_broken = false;
    if (s->ext_keywords < 0)
        return NULL;
    e = &s->exts[s->ext_keywords];
    h = slice_of(e->header, e->header_size);
    s->keywords_broken = h.size < 4;
    if (h.size < 4)
        return "keywords_count larger than header size";
    count = bytes_le32(h.at);
    if (count > (h.size - 4) / 8) {
        problem = "keywords_count larger than header size";
        count = 0;
    }
    names = slice_from(h, 4 + 8 * (size_t)count);
    if (problem == NULL && count > 0 && (names.size == 0 || names.at[names.size - 1] != 0))
        problem = "Keyword header doesn't end with NUL";
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = bytes_le32(h.at + 4 + 8 * (size_t)i + 4);
        struct slice rest = slice_from(names, at);
        ptrdiff_t end = slice_find(rest, 0);
        char unknown[32];

        if (end > 0) {
            remember(s, slice_head(rest, (size_t)end));
            continue;
        }
        /* the bit stays where it is: under a name that says that the real one is lost (12.1) */
        problem = at >= names.size ? "name_offset points outside allocated header" : "Empty keyword name in header";
        snprintf(unknown, sizeof(unknown), "unknown-%u", i);
        remember(s, slice_from_str(unknown));
    }
    s->keywords_broken = problem != NULL;
    return problem;
}

static uint16_t keyword_bytes(unsigned count)
{
    unsigned size = (count + 7) / 8;

    return (uint16_t)(size % 4 != 0 ? size + 1 : size);
}

/* The header's content for the names known, zero-padded to 4. */
static void emit_names(const struct state *s, struct buffer *out)
{
    static const unsigned char zeros[4];
    unsigned char word[8] = {0};
    uint32_t at = 0;

    bytes_put_le32(word, s->keyword_count);
    buffer_append(out, word, 4);
    memset(word, 0, 4);
    for (unsigned i = 0; i < s->keyword_count; i++) {
        bytes_put_le32(word + 4, at);
        buffer_append(out, word, 8);
        at += (uint32_t)strlen(s->keywords[i]) + 1;
    }
    for (unsigned i = 0; i < s->keyword_count; i++)
        buffer_append(out, s->keywords[i], strlen(s->keywords[i]) + 1);
    buffer_append(out, zeros, align4((uint32_t)out->size) - out->size);
}

unsigned state_keyword_add(struct state *s, struct slice name)
{
    int known = state_keyword_find(s, name);

    if (known >= 0)
        return (unsigned)known;
    remember(s, name);
    state_keywords_store(s);
    return s->keyword_count - 1;
}

void state_keywords_store(struct state *s)
{
    struct buffer h = {0};
    struct state_ext *e;

    s->keywords_broken = false;
    emit_names(s, &h);
    e = s->ext_keywords < 0 ? NULL : &s->exts[s->ext_keywords];
    if (e == NULL || h.size > e->header_size || e->record_size * 8u < s->keyword_count) {
        uint32_t size = (uint32_t)h.size + KEYWORD_SPARE;

        if (e == NULL)
            state_ext_add(s, SLICE("keywords"), 0, size, keyword_bytes(s->keyword_count), 1);
        else
            state_ext_resize(s, (unsigned)s->ext_keywords, size, keyword_bytes(s->keyword_count), 1, false);
    }
    if (s->ext_keywords >= 0) {
        e = &s->exts[s->ext_keywords];
        memset(e->header, 0, align8(e->header_size));
        if (h.size <= e->header_size)
            memcpy(e->header, h.at, h.size);
    }
    buffer_free(&h);
}

void state_keyword_fit(struct state *s, unsigned i)
{
    const struct state_ext *e;

    if (s->ext_keywords < 0)
        return;
    e = &s->exts[s->ext_keywords];
    if (i / 8 >= e->record_size)
        state_ext_resize(s, (unsigned)s->ext_keywords, e->header_size, keyword_bytes(s->keyword_count), 1, false);
}
