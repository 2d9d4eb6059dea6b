/* state_ext.c - extensions: adding, resizing, and where their bytes lie in a record (index-format 2.2, 2.3, 4.5).
 *
 * The placement is determined: other processes apply the same log records, and a base index written by one is read
 * by all, so everybody must compute the same offsets. */
#include "index/state.h"

enum { EXT_HEADERS_MAX = 64 * 1024 * 1024, EXTS_MAX = 1024 };

int state_ext_find(const struct state *s, struct slice name)
{
    for (unsigned i = 0; i < s->ext_count; i++) {
        if (slice_equal_str(name, s->exts[i].name))
            return (int)i;
    }
    return -1;
}

void state_ext_known(struct state *s)
{
    s->ext_keywords = state_ext_find(s, SLICE("keywords"));
    s->ext_modseq = state_ext_find(s, SLICE("modseq"));
    s->ext_cache = state_ext_find(s, SLICE("cache"));
}

/* Positions of extensions by alignment, largest first; equal ones stay in file order (a stable insertion). */
static void sort_by_align(const struct state *s, unsigned *order)
{
    for (unsigned i = 0; i < s->ext_count; i++) {
        unsigned at = i;

        while (at > 0 && s->exts[order[at - 1]].record_align < s->exts[i].record_align) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
}

/* The least multiple of both; alignments are at most 8. */
static uint32_t common_multiple(uint32_t a, uint32_t b)
{
    uint32_t multiple = a;

    while (multiple % b != 0)
        multiple += a;
    return multiple;
}

/* Computes the offsets anew (2.3). -> the record size. */
static uint32_t place_all(struct state *s)
{
    unsigned *order = mem_zero(s->ext_count + 1, sizeof(*order));
    bool *placed = mem_zero(s->ext_count + 1, sizeof(*placed));
    uint32_t pos = 5, most = 4;
    unsigned left = 0;

    sort_by_align(s, order);
    for (unsigned i = 0; i < s->ext_count; i++) {
        if (s->exts[i].record_align > 0) /* powers of two, where nothing is broken: then it is the largest */
            most = common_multiple(most, s->exts[i].record_align);
        s->exts[i].record_offset = 0;
        left += s->exts[i].record_size > 0;
    }
    while (left > 0) {
        uint32_t least = UINT32_MAX;
        unsigned i;

        for (i = 0; i < s->ext_count; i++) {
            struct state_ext *e = &s->exts[order[i]];

            if (e->record_size == 0 || placed[order[i]])
                continue;
            if (e->record_align < least)
                least = e->record_align;
            if (pos % e->record_align == 0) {
                e->record_offset = (uint16_t)pos;
                pos += e->record_size;
                placed[order[i]] = true;
                left--;
                break;
            }
        }
        if (i == s->ext_count)
            pos += least - pos % least;
    }
    mem_free(order);
    mem_free(placed);
    return (pos + most - 1) / most * most;
}

/* Lays all records out anew; `old` has offsets and sizes before the change (fewer entries when one was added). */
static void relayout(struct state *s, const struct state_ext *old, unsigned old_count)
{
    uint32_t stride, old_stride = s->stride;
    unsigned char *block, *old_records;

    state_squeeze(s);
    old_records = s->records;
    stride = place_all(s);
    block = mem_zero(s->count == 0 ? 1 : s->count, stride);
    for (uint32_t i = 0; i < s->count; i++) {
        unsigned char *to = block + (size_t)i * stride;
        const unsigned char *from = old_records + (size_t)i * old_stride;

        memcpy(to, from, RECORD_SIZE_MIN);
        memset(to + 5, 0, RECORD_SIZE_MIN - 5);
        for (unsigned x = 0; x < old_count; x++) {
            uint32_t size = old[x].record_size < s->exts[x].record_size ? old[x].record_size : s->exts[x].record_size;

            if (size > 0)
                memcpy(to + s->exts[x].record_offset, from + old[x].record_offset, size);
        }
    }
    state_block_replace(s, block, s->count);
    s->stride = stride;
    state_put(s, BASE_AT_RECORD_SIZE, stride);
}

static struct state_ext *copy_exts(const struct state *s)
{
    struct state_ext *old = mem_alloc(sizeof(*old) * (s->ext_count + 1));

    if (s->ext_count > 0)
        memcpy(old, s->exts, sizeof(*old) * s->ext_count);
    return old;
}

/* Sizes that would make a record larger than the format allows are refused by whoever applies the log. */
static bool record_fits(const struct state *s, int grown, uint32_t record_size)
{
    uint32_t total = 5 + 8u + record_size;

    for (unsigned i = 0; i < s->ext_count; i++) {
        if ((int)i != grown)
            total += s->exts[i].record_size + 8u;
    }
    return total < RECORD_SIZE_MAX - 8;
}

/* A log of a few kilobytes could ask for gigabytes of headers. */
static bool headers_fit(const struct state *s, int grown, uint32_t header_size)
{
    uint64_t total = header_size;

    for (unsigned i = 0; i < s->ext_count; i++) {
        if ((int)i != grown)
            total += s->exts[i].header_size;
    }
    return total <= EXT_HEADERS_MAX && s->ext_count < EXTS_MAX;
}

int state_ext_add(struct state *s, struct slice name, uint32_t reset_id, uint32_t header_size, uint16_t record_size,
                  uint16_t record_align)
{
    struct state_ext *old, *e;

    if (!record_fits(s, -1, record_size) || !headers_fit(s, -1, header_size))
        return -1;
    old = copy_exts(s);
    s->exts = mem_realloc(s->exts, sizeof(*s->exts) * (s->ext_count + 1));
    e = &s->exts[s->ext_count];
    *e = (struct state_ext){.header_size = header_size, .reset_id = reset_id, .record_size = record_size,
                            .record_align = record_align, .header = mem_zero(1, align8(header_size))};
    memcpy(e->name, name.at, name.size);
    s->ext_count++;
    relayout(s, old, s->ext_count - 1);
    mem_free(old);
    state_header_size_update(s);
    state_ext_known(s);
    return (int)s->ext_count - 1;
}

static void resize_header(struct state_ext *e, uint32_t size)
{
    uint32_t from = align8(e->header_size), to = align8(size);

    if (from != to) {
        e->header = mem_realloc(e->header, to);
        if (to > from)
            memset(e->header + from, 0, to - from);
    }
    e->header_size = size;
}

void state_ext_resize(struct state *s, unsigned ext, uint32_t header_size, uint16_t record_size,
                      uint16_t record_align, bool no_shrink)
{
    struct state_ext *e = &s->exts[ext], *old;
    uint32_t from = align8(e->header_size), to = align8(header_size);
    bool moves = false;

    if (e->record_align == record_align && e->record_size == record_size) {
        if (to < from ? no_shrink : e->header_size == header_size)
            return;
    }
    if (to > from && !headers_fit(s, (int)ext, header_size))
        header_size = e->header_size;
    if (to >= from || !no_shrink)
        resize_header(e, header_size); /* also when it shrinks inside the padding (4.5) */
    if (!record_fits(s, (int)ext, record_size))
        record_size = e->record_size;
    old = copy_exts(s);
    if (e->record_align < record_align || (e->record_align > record_align && !no_shrink)) {
        e->record_align = record_align;
        moves = true;
    }
    if (e->record_size < record_size || (e->record_size > record_size && !no_shrink)) {
        e->record_size = record_size;
        moves = true;
    }
    state_header_size_update(s);
    if (moves)
        relayout(s, old, s->ext_count);
    mem_free(old);
}

void state_ext_reset(struct state *s, unsigned ext, uint32_t reset_id, bool preserve)
{
    struct state_ext *e = &s->exts[ext];

    e->reset_id = reset_id;
    if (preserve)
        return;
    memset(e->header, 0, align8(e->header_size));
    if (e->record_size == 0)
        return;
    for (uint32_t i = 0; i < s->count; i++)
        memset(state_record(s, i) + e->record_offset, 0, e->record_size);
}
