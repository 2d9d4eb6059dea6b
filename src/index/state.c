/* state.c - the record array and the base index file: making, finding, loading, emitting (index-format 2, 12.1).
 *
 * What may go wrong: a base file comes from a disk. Every size in it is checked before it is used; what is beyond
 * repair is refused as a whole, what can be dropped is dropped and noted, and contradictions between counters are
 * left to state_mend. */
#include "index/state.h"

#include <stdio.h>

void state_init(struct state *s, uint32_t indexid)
{
    const struct state_sink *sink = s->sink;
    void *arg = s->sink_arg;

    *s = (struct state){.ext_keywords = -1, .ext_modseq = -1, .ext_cache = -1, .applying_ext = -1, .stride = RECORD_SIZE_MIN,
                        .sink = sink, .sink_arg = arg};
    s->base = mem_zero(1, BASE_HEADER_SIZE);
    s->base_size = BASE_HEADER_SIZE;
    s->base[BASE_AT_MAJOR] = BASE_MAJOR;
    s->base[BASE_AT_MINOR] = BASE_MINOR;
    bytes_put_le16(s->base + BASE_AT_BASE_SIZE, BASE_HEADER_SIZE);
    state_put(s, BASE_AT_HEADER_SIZE, BASE_HEADER_SIZE);
    state_put(s, BASE_AT_RECORD_SIZE, RECORD_SIZE_MIN);
    s->base[BASE_AT_COMPAT] = BASE_COMPAT_LE;
    state_put(s, BASE_AT_INDEXID, indexid);
    state_put(s, BASE_AT_NEXT_UID, 1);
    state_put(s, BASE_AT_FIRST_RECENT, 1);
    state_put(s, BASE_AT_LOG_SEQ, 1);
}

static void free_block(struct state *s)
{
    if (s->map != NULL)
        os_map_close(&s->map);
    else
        mem_free(s->block);
}

void state_block_replace(struct state *s, unsigned char *block, uint32_t room)
{
    free_block(s);
    s->block = s->records = block;
    s->room = room;
}

void state_free(struct state *s)
{
    state_keywords_free(s);
    for (unsigned i = 0; i < s->ext_count; i++)
        mem_free(s->exts[i].header);
    mem_free(s->exts);
    mem_free(s->base);
    free_block(s);
    mem_free(s->gone);
    *s = (struct state){.ext_keywords = -1, .ext_modseq = -1, .ext_cache = -1, .sink = s->sink, .sink_arg = s->sink_arg};
}

uint32_t state_lower(const struct state *s, uint32_t uid)
{
    uint32_t low = 0, high = s->count, first, last;

    if (high == 0)
        return 0;
    first = state_uid(s, 0);
    last = state_uid(s, high - 1);
    if (last < uid) /* the usual question: is there anything new? */
        return high;
    /* UIDs ascend, so none lies further from either end than its number says; where none is missing that is its place. */
    if (last - uid < high - 1)
        low = high - 1 - (last - uid);
    if (uid <= first)
        return 0;
    if (uid - first < high)
        high = uid - first;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (state_uid(s, mid) < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int64_t state_find(const struct state *s, uint32_t uid)
{
    uint32_t i = state_lower(s, uid);

    if (i == s->count || state_uid(s, i) != uid || state_is_gone(s, i))
        return -1;
    return i;
}

struct slice state_keywords(const struct state *s, uint32_t i)
{
    const struct state_ext *e;

    if (s->ext_keywords < 0)
        return SLICE_EMPTY;
    e = &s->exts[s->ext_keywords];
    return slice_of(state_record(s, i) + e->record_offset, e->record_size);
}

uint64_t state_modseq(const struct state *s, uint32_t i)
{
    const struct state_ext *e;

    if (s->ext_modseq < 0)
        return 0;
    e = &s->exts[s->ext_modseq];
    if (e->record_size != 8)
        return 0;
    return bytes_le64(state_record(s, i) + e->record_offset);
}

void state_header_size_update(struct state *s)
{
    uint32_t size = s->ext_count > 0 ? align8(s->base_size) : s->base_size;

    for (unsigned i = 0; i < s->ext_count; i++) {
        size += align8(EXT_HEADER_SIZE + (uint32_t)strlen(s->exts[i].name));
        size += align8(s->exts[i].header_size);
    }
    state_put(s, BASE_AT_HEADER_SIZE, size);
}

/* ---- loading ---------------------------------------------------------------------------------------------------- */

static const char *check_sizes(struct slice f, char *why, size_t size)
{
    uint32_t base_size, header_size, record_size;

    if (f.size < BASE_HEADER_SIZE || f.size < (base_size = bytes_le16(f.at + BASE_AT_BASE_SIZE)))
        return "File too small";
    header_size = bytes_le32(f.at + BASE_AT_HEADER_SIZE);
    record_size = bytes_le32(f.at + BASE_AT_RECORD_SIZE);
    if (f.at[BASE_AT_COMPAT] != BASE_COMPAT_LE)
        return "CPU architecture changed";
    if (base_size < BASE_HEADER_SIZE || header_size < base_size) {
        snprintf(why, size, "Corrupted header sizes (base %u, full %u)", base_size, header_size);
        return why;
    }
    if (header_size > f.size) {
        snprintf(why, size, "Header size is larger than file (%u > %zu)", header_size, f.size);
        return why;
    }
    if (record_size < RECORD_SIZE_MIN) {
        snprintf(why, size, "record_size too small (%u < %d)", record_size, RECORD_SIZE_MIN);
        return why;
    }
    if (record_size > RECORD_SIZE_MAX)
        return "record_size too large";
    return NULL;
}

static const char *check_placement(const struct state_ext *e, uint32_t record_size, char *why, size_t size)
{
    if (e->record_size == 0)
        return NULL;
    if (e->record_offset < 5 || (uint32_t)e->record_offset + e->record_size > record_size) {
        snprintf(why, size, "Record field points outside record size (%u+%u > %u)", e->record_offset, e->record_size,
                 record_size);
        return why;
    }
    if (e->record_offset % e->record_align != 0) {
        snprintf(why, size, "Record field alignment %u not used", e->record_align);
        return why;
    }
    if (record_size % e->record_align != 0)
        return "Record size not aligned as required by extension";
    return NULL;
}

static void load_exts(struct state *s, struct slice header, struct buffer *notes)
{
    size_t at = align8(s->base_size);
    VEC(struct state_ext) exts = {0};
    char why[96];

    for (unsigned number = 0; at < header.size; number++) {
        const unsigned char *p = header.at + at;
        struct state_ext e = {0};
        const char *problem, *printable;
        uint64_t data_at, next;
        struct slice name;
        bool twice = false;

        if (header.size - at <= EXT_HEADER_SIZE) {
            buffer_printf(notes, "!Header extension #%u () goes outside header\n"
                                 "Dropped extension #%u () with invalid header size\n", number, number);
            break;
        }
        e.header_size = bytes_le32(p);
        e.reset_id = bytes_le32(p + 4);
        e.record_offset = bytes_le16(p + 8);
        e.record_size = bytes_le16(p + 10);
        e.record_align = bytes_le16(p + 12);
        name = slice_head(slice_from(header, at + EXT_HEADER_SIZE), bytes_le16(p + 14));
        data_at = at + align8(EXT_HEADER_SIZE + (uint32_t)bytes_le16(p + 14));
        next = data_at + (((uint64_t)e.header_size + 7) & ~(uint64_t)7);
        problem = format_ext_problem(name, e.header_size, e.record_size, e.record_align);
        memcpy(e.name, name.at, name.size <= EXT_NAME_MAX ? name.size : EXT_NAME_MAX);
        printable = format_ext_problem(name, 1, 0, 0) == NULL ? e.name : "?";
        if (next > header.size || name.size != bytes_le16(p + 14)) {
            buffer_printf(notes, "!Header extension #%u (%s) goes outside header\n"
                                 "Dropped extension #%u (%s) with invalid header size\n",
                          number, printable, number, printable);
            break;
        }
        if (problem == NULL)
            problem = check_placement(&e, s->stride, why, sizeof(why));
        for (size_t i = 0; problem == NULL && i < exts.count; i++) {
            twice |= strcmp(exts.at[i].name, e.name) == 0;
        }
        if (problem != NULL) {
            buffer_printf(notes, "!Broken extension #%u (%s): %s\nDropped broken extension #%u (%s)\n", number,
                          printable, problem, number, printable);
        } else if (twice) {
            buffer_printf(notes, "!Duplicate header extension %s\nDropped duplicate extension %s\n", e.name, e.name);
        } else {
            e.header = mem_zero(1, align8(e.header_size));
            memcpy(e.header, header.at + data_at, next - data_at);
            VEC_PUSH(&exts, e);
        }
        at = next;
    }
    s->exts = exts.at;
    s->ext_count = (unsigned)exts.count;
    state_ext_known(s);
}

/* Fields that older minor versions used otherwise (2.1, minor_version). */
static void upgrade_minor(struct state *s)
{
    uint8_t minor = s->base[BASE_AT_MINOR];

    if (minor >= BASE_MINOR)
        return;
    if (minor == 0 && state_get(s, BASE_AT_FIRST_RECENT) == 0)
        state_put(s, BASE_AT_FIRST_RECENT, 1);
    if (minor <= 1) {
        for (uint32_t i = 0; i < s->count; i++)
            state_record(s, i)[4] &= (unsigned char)~0x20;
    }
    state_put(s, 72, 0);
    state_put(s, BASE_AT_LOG2_TIME, 0);
    state_put(s, 80, 0);
    s->base[BASE_AT_MINOR] = BASE_MINOR;
}

/* Everything but the block, which the caller hands over where this is not UNUSABLE. */
static enum state_load load(struct state *s, struct slice f, size_t room, struct os_map *map, char *why, size_t why_size,
                            struct buffer *notes)
{
    struct state n = {.ext_keywords = -1, .ext_modseq = -1, .ext_cache = -1, .applying_ext = -1, .sink = s->sink,
                      .sink_arg = s->sink_arg};
    uint32_t header_size, messages, fits;
    const char *problem;
    size_t noted = notes->size;

    why[0] = '\0';
    if (f.size > 0 && f.at[0] != BASE_MAJOR)
        return STATE_UNUSABLE;
    problem = check_sizes(f, why, why_size);
    if (problem != NULL) {
        if (problem != why)
            snprintf(why, why_size, "%s", problem);
        return STATE_UNUSABLE;
    }
    n.base_size = bytes_le16(f.at + BASE_AT_BASE_SIZE);
    n.base = mem_alloc(n.base_size);
    memcpy(n.base, f.at, n.base_size);
    n.stride = state_get(&n, BASE_AT_RECORD_SIZE);
    header_size = state_get(&n, BASE_AT_HEADER_SIZE);
    load_exts(&n, slice_head(f, header_size), notes);
    messages = state_get(&n, BASE_AT_MESSAGES);
    fits = (uint32_t)((f.size - header_size) / n.stride);
    if (messages > fits) {
        buffer_printf(notes, "!messages_count too large (%u > %u)\nmessages_count %u -> %u\n", messages, fits, messages,
                      fits);
        state_put(&n, BASE_AT_MESSAGES, fits);
        messages = fits;
    }
    n.block = (unsigned char *)f.at;
    n.map = map;
    n.records = n.block + header_size;
    n.count = messages;
    n.room = (uint32_t)((room - header_size) / n.stride);
    upgrade_minor(&n);
    problem = state_keywords_load(&n);
    if (problem != NULL)
        buffer_printf(notes, "!%s\n", problem);
    state_free(s);
    *s = n;
    if (s->count > 0 && state_uid(s, s->count - 1) == 0 && notes->size == noted)
        buffer_printf(notes, "!last message has uid=0\n");
    return notes->size > noted || state_damaged(s) ? STATE_MEND : STATE_GOOD;
}

enum state_load state_load(struct state *s, struct buffer *file, char *why, size_t why_size, struct buffer *notes)
{
    enum state_load result = load(s, buffer_slice(file), file->room, NULL, why, why_size, notes);

    if (result != STATE_UNUSABLE)
        *file = (struct buffer){0};
    return result;
}

enum state_load state_load_map(struct state *s, struct os_map **map, size_t size, char *why, size_t why_size, struct buffer *notes)
{
    enum state_load result = load(s, slice_of(os_map_bytes(*map), size), os_map_room(*map), *map, why, why_size, notes);

    if (result != STATE_UNUSABLE)
        *map = NULL;
    return result;
}

void state_emit_header(const struct state *s, struct buffer *out)
{
    static const unsigned char zeros[8];
    size_t start = out->size;

    buffer_append(out, s->base, s->base_size);
    if (s->ext_count > 0)
        buffer_append(out, zeros, align8(s->base_size) - s->base_size);
    for (unsigned i = 0; i < s->ext_count; i++) {
        const struct state_ext *e = &s->exts[i];
        uint32_t name_size = (uint32_t)strlen(e->name);
        unsigned char h[EXT_HEADER_SIZE];

        bytes_put_le32(h, e->header_size);
        bytes_put_le32(h + 4, e->reset_id);
        bytes_put_le16(h + 8, e->record_offset);
        bytes_put_le16(h + 10, e->record_size);
        bytes_put_le16(h + 12, e->record_align);
        bytes_put_le16(h + 14, (uint16_t)name_size);
        buffer_append(out, h, sizeof(h));
        buffer_append(out, e->name, name_size);
        buffer_append(out, zeros, align8(EXT_HEADER_SIZE + name_size) - (EXT_HEADER_SIZE + name_size));
        buffer_append(out, e->header, align8(e->header_size));
    }
    bytes_put_le32(out->at + start + BASE_AT_HEADER_SIZE, (uint32_t)(out->size - start));
}
