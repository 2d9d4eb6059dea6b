/* state_apply.c - what each log record does to the state (index-format 2.4, 4, 5, 6.4).
 *
 * What may go wrong: records are well-formed here (format_log_next), but may contradict the state: an append below
 * next_uid, an update of an extension that nobody introduced. Such a record is reported to the sink with Dovecot's
 * text (4) and skipped; the rest is applied, and fsck is due. */
#include "index/state.h"

#include <stdarg.h>
#include <stdio.h>

struct run {
    struct state *s;
    const struct log_record *r;
    uint64_t modseq;
};

static void report(const struct run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void report(const struct run *run, const char *fmt, ...)
{
    char text[160];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (run->s->sink != NULL)
        run->s->sink->error(run->s->sink_arg, run->r, text);
}

static void tell_flags(const struct run *run, uint32_t first, uint32_t last, bool visible)
{
    if (run->s->sink != NULL)
        run->s->sink->flags(run->s->sink_arg, first, last, visible);
}

/* Raises the modseq of a message to the one of this change. */
static void touch(const struct run *run, uint32_t i, uint64_t modseq)
{
    const struct state_ext *e;
    unsigned char *at;

    if (run->s->ext_modseq < 0)
        return;
    e = &run->s->exts[run->s->ext_modseq];
    if (e->record_size != 8)
        return;
    at = state_record(run->s, i) + e->record_offset;
    if (bytes_le64(at) < modseq)
        bytes_put_le64(at, modseq);
}

/* ---- counters and marks (2.4) ------------------------------------------------------------------------------------ */

static void count_seen(const struct run *run, bool set)
{
    struct state *s = run->s;
    uint32_t n = state_get(s, BASE_AT_SEEN), all = state_get(s, BASE_AT_MESSAGES);

    if (set ? n >= all : n == 0) {
        report(run, "Seen counter wrong");
        return;
    }
    n = set ? n + 1 : n - 1;
    state_put(s, BASE_AT_SEEN, n);
    if (set && n == all)
        state_put(s, BASE_AT_UNSEEN_LOWWATER, state_get(s, BASE_AT_NEXT_UID));
}

static void count_deleted(const struct run *run, bool set)
{
    struct state *s = run->s;
    uint32_t n = state_get(s, BASE_AT_DELETED);

    if (set ? n >= state_get(s, BASE_AT_MESSAGES) : n == 0) {
        report(run, "Deleted counter wrong");
        return;
    }
    n = set ? n + 1 : n - 1;
    state_put(s, BASE_AT_DELETED, n);
    if (!set && n == 0)
        state_put(s, BASE_AT_DELETED_LOWWATER, state_get(s, BASE_AT_NEXT_UID));
}

static void count_change(const struct run *run, uint8_t old, uint8_t new)
{
    if (((old ^ new) & 0x08) != 0)
        count_seen(run, (new & 0x08) != 0);
    if (((old ^ new) & 0x04) != 0)
        count_deleted(run, (new & 0x04) != 0);
}

static void lower_marks(struct state *s, uint32_t uid, uint8_t flags)
{
    if ((flags & 0x08) == 0 && uid < state_get(s, BASE_AT_UNSEEN_LOWWATER))
        state_put(s, BASE_AT_UNSEEN_LOWWATER, uid);
    if ((flags & 0x08) == 0 && uid < s->unseen_from)
        s->unseen_from = uid;
    if ((flags & 0x04) != 0 && uid < state_get(s, BASE_AT_DELETED_LOWWATER))
        state_put(s, BASE_AT_DELETED_LOWWATER, uid);
}

static void set_have_dirty(struct state *s)
{
    state_put(s, BASE_AT_FLAGS, state_get(s, BASE_AT_FLAGS) | BASE_FLAG_HAVE_DIRTY);
}

/* ---- records ------------------------------------------------------------------------------------------------------ */

static void make_room(struct state *s)
{
    uint32_t room = s->room < 16 ? 32 : s->room + s->room / 2;
    unsigned char *block;

    if (s->count < s->room)
        return;
    block = mem_alloc((size_t)room * s->stride);
    if (s->count > 0)
        memcpy(block, s->records, (size_t)s->count * s->stride);
    state_block_replace(s, block, room);
}

static void apply_append(const struct run *run)
{
    struct state *s = run->s;
    struct slice body = run->r->body;

    for (size_t at = 0; at < body.size; at += 8) {
        uint32_t uid = bytes_le32(body.at + at), next = state_get(s, BASE_AT_NEXT_UID);
        uint8_t flags = body.at[at + 4];
        unsigned char *r;

        if (uid < next || uid == UINT32_MAX) {
            report(run, "Append with UID %u, but next_uid = %u", uid, next);
            return;
        }
        make_room(s);
        r = state_record(s, s->count);
        memset(r, 0, s->stride);
        memcpy(r, body.at + at, 8);
        s->count++;
        touch(run, s->count - 1, run->modseq);
        state_put(s, BASE_AT_MESSAGES, state_get(s, BASE_AT_MESSAGES) + 1);
        state_put(s, BASE_AT_NEXT_UID, uid + 1);
        if ((flags & 0x80) != 0)
            set_have_dirty(s);
        lower_marks(s, uid, flags);
        count_change(run, 0, flags);
    }
}

static void mark_gone(struct state *s, uint32_t i)
{
    if (i >= s->gone_size) {
        uint32_t size = (s->count + 1024) & ~7u;

        s->gone = mem_realloc(s->gone, size / 8);
        memset(s->gone + s->gone_size / 8, 0, (size - s->gone_size) / 8);
        s->gone_size = size;
    }
    s->gone[i / 8] |= (unsigned char)(1u << i % 8);
    s->gone_count++;
}

static void expunge_range(const struct run *run, uint32_t first, uint32_t last)
{
    struct state *s = run->s;
    uint32_t removed = 0;

    for (uint32_t i = state_lower(s, first); i < s->count && state_uid(s, i) <= last; i++) {
        uint8_t flags = state_record(s, i)[4];

        if (state_is_gone(s, i))
            continue;
        count_change(run, flags, 0);
        mark_gone(s, i);
        removed++;
        if (s->sink != NULL)
            s->sink->expunged(s->sink_arg, state_uid(s, i), flags, state_modseq(s, i), state_keywords(s, i));
    }
    state_put(s, BASE_AT_MESSAGES, state_get(s, BASE_AT_MESSAGES) - removed);
}

static void apply_expunge(const struct run *run)
{
    struct slice rest = run->r->body;
    uint32_t first, last;

    if (!run->r->external) /* a request: visible when a sync has carried it out */
        return;
    if (run->r->type == LOG_EXPUNGE) {
        while (format_range_next(&rest, &first, &last))
            expunge_range(run, first, last);
        return;
    }
    for (size_t at = 0; at < rest.size; at += 20)
        expunge_range(run, bytes_le32(rest.at + at), bytes_le32(rest.at + at));
}

static void apply_flags(const struct run *run)
{
    struct state *s = run->s;
    struct slice rest = run->r->body;
    struct log_flags f;

    while (format_flags_next(&rest, &f)) {
        bool internal = format_flags_internal(&f), any = false;

        for (uint32_t i = state_lower(s, f.first); i < s->count && state_uid(s, i) <= f.last; i++) {
            unsigned char *r = state_record(s, i);
            uint8_t old = r[4];

            if (state_is_gone(s, i))
                continue;
            any = true;
            r[4] = (uint8_t)((old & ~f.remove) | f.add);
            if (!internal)
                touch(run, i, run->modseq);
            if (((f.add | f.remove) & 0x0c) != 0) {
                lower_marks(s, bytes_le32(r), r[4]);
                count_change(run, old, r[4]);
            }
        }
        if (any && (f.add & 0x80) != 0)
            set_have_dirty(s);
        if (any && !internal)
            tell_flags(run, f.first, f.last, ((f.add | f.remove) & 0x1f) != 0);
    }
}

static void apply_header(const struct run *run)
{
    struct state *s = run->s;
    struct slice rest = run->r->body;
    struct log_header_part part;

    while (format_header_next(&rest, false, &part)) {
        uint32_t next = state_get(s, BASE_AT_NEXT_UID), tail = state_get(s, BASE_AT_LOG_TAIL);
        uint32_t recent = state_get(s, BASE_AT_FIRST_RECENT), messages = state_get(s, BASE_AT_MESSAGES);
        unsigned char saved[BASE_AT_FLAGS];

        if (part.offset + part.bytes.size > s->base_size) {
            report(run, "Header update outside range: %u + %zu > %u", part.offset, part.bytes.size, s->base_size);
            return;
        }
        memcpy(saved, s->base, sizeof(saved));
        memcpy(s->base + part.offset, part.bytes.at, part.bytes.size);
        /* sizes, version, id and the count describe our memory and the family: no record may change them */
        memcpy(s->base, saved, sizeof(saved));
        state_put(s, BASE_AT_MESSAGES, messages);
        state_put(s, BASE_AT_LOG_TAIL, tail); /* tracked by 7.5 */
        if (state_get(s, BASE_AT_NEXT_UID) < next)
            state_put(s, BASE_AT_NEXT_UID, next);
        if (state_get(s, BASE_AT_FIRST_RECENT) < recent) {
            report(run, "first_recent_uid unexpectedly shrank: %u -> %u", recent, state_get(s, BASE_AT_FIRST_RECENT));
            state_put(s, BASE_AT_FIRST_RECENT, recent);
        }
    }
    s->unseen_from = 0;
}

/* ---- extensions --------------------------------------------------------------------------------------------------- */

/* -> the extension's position, -1 with *add when it is new, -2 when the introduction is wrong. */
static int intro_target(const struct run *run, const struct log_intro *in, bool *add)
{
    struct state *s = run->s;
    struct slice name = in->name;
    const char *problem;
    int ext;

    *add = false;
    if (in->ext_id != LOG_INTRO_BY_NAME) {
        if (in->ext_id >= s->ext_count) {
            report(run, "Extension introduction for unknown id %u", in->ext_id);
            return -2;
        }
        ext = (int)in->ext_id;
        name = slice_from_str(s->exts[ext].name);
    } else if (name.size == 0) {
        report(run, "Extension introduction without id or name");
        return -2;
    } else {
        ext = state_ext_find(s, name);
    }
    if (slice_equal_str(name, "keywords")) {
        report(run, "Extension introduction for keywords");
        return -2;
    }
    problem = format_ext_problem(name, in->header_size, in->record_size, in->record_align);
    if (problem != NULL) {
        report(run, "Broken extension introduction: %s", problem);
        return -2;
    }
    *add = ext < 0;
    return ext;
}

static void apply_intro(const struct run *run)
{
    struct state *s = run->s;
    struct slice rest = run->r->body;
    struct log_intro in;
    bool add;
    int ext;

    while (format_intro_next(&rest, &in)) {
        s->applying_ext = -1;
        s->applying_ignored = true;
        ext = intro_target(run, &in, &add);
        if (ext == -2)
            return;
        s->applying_record_size = in.record_size;
        if (add) {
            ext = state_ext_add(s, in.name, in.reset_id, in.header_size, in.record_size, in.record_align);
            if (ext < 0) {
                report(run, "Broken extension introduction: Record size is too large");
                return;
            }
            s->applying_ignored = false;
        } else if (s->exts[ext].reset_id == in.reset_id) {
            state_ext_resize(s, (unsigned)ext, in.header_size, in.record_size, in.record_align,
                             (in.flags & LOG_INTRO_NO_SHRINK) != 0);
            s->applying_ignored = false;
        } /* else: made against data that has been reset since: ignored silently */
        s->applying_ext = ext;
    }
}

static void apply_ext_reset(const struct run *run)
{
    struct state *s = run->s;
    struct slice body = run->r->body;

    if (s->applying_ext < 0) {
        report(run, "Extension reset without intro prefix");
        return;
    }
    state_ext_reset(s, (unsigned)s->applying_ext, bytes_le32(body.at), body.size > 4 && body.at[4] != 0);
}

/* Enabling: every record without a modseq gets the one that the header announces (5). */
static void fill_modseqs(struct state *s)
{
    const struct state_ext *e = &s->exts[s->ext_modseq];
    uint64_t highest;

    if (e->header_size < 16 || e->record_size != 8)
        return;
    highest = bytes_le64(e->header);
    for (uint32_t i = 0; i < s->count; i++) {
        unsigned char *at = state_record(s, i) + e->record_offset;

        if (bytes_le64(at) == 0)
            bytes_put_le64(at, highest);
    }
}

static void apply_ext_header(const struct run *run, bool wide)
{
    struct state *s = run->s;
    struct slice rest = run->r->body;
    struct log_header_part part;
    struct state_ext *e;

    if (s->applying_ext < 0) {
        report(run, "Extension header update without intro prefix");
        return;
    }
    if (s->applying_ignored)
        return;
    e = &s->exts[s->applying_ext];
    while (format_header_next(&rest, wide, &part)) {
        if (part.offset > e->header_size || part.bytes.size > e->header_size - part.offset) {
            report(run, "Extension header update points outside header size");
            return;
        }
        memcpy(e->header + part.offset, part.bytes.at, part.bytes.size);
    }
    if (s->applying_ext == s->ext_modseq)
        fill_modseqs(s);
}

static void apply_ext_record(const struct run *run)
{
    struct state *s = run->s;
    struct slice body = run->r->body;
    size_t step = align4(4 + (uint32_t)s->applying_record_size);
    const struct state_ext *e;

    if (s->applying_ext < 0) {
        report(run, "Extension record updated without intro prefix");
        return;
    }
    if (s->applying_ignored)
        return;
    e = &s->exts[s->applying_ext];
    if (body.size % step != 0) {
        report(run, "Invalid record size (type=0x%x)", LOG_EXT_RECORD);
        return;
    }
    for (size_t at = 0; at < body.size; at += step) {
        uint32_t uid = bytes_le32(body.at + at);
        size_t size = s->applying_record_size < e->record_size ? s->applying_record_size : e->record_size;
        unsigned char *to;
        int64_t i;

        if (uid == 0 || uid >= state_get(s, BASE_AT_NEXT_UID)) {
            report(run, "Extension record update for invalid uid=%u", uid);
            return;
        }
        i = state_find(s, uid);
        if (i < 0 || e->record_size == 0)
            continue;
        to = state_record(s, (uint32_t)i) + e->record_offset;
        memcpy(to, body.at + at + 4, size);
        memset(to + size, 0, e->record_size - size);
    }
}

static uint64_t read_sized(const unsigned char *at, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = size; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static void apply_ext_inc(const struct run *run)
{
    struct state *s = run->s;
    struct slice body = run->r->body;
    const struct state_ext *e;

    if (s->applying_ext < 0) {
        report(run, "Extension record inc update without intro prefix");
        return;
    }
    if (s->applying_ignored)
        return;
    e = &s->exts[s->applying_ext];
    if (e->record_size != 1 && e->record_size != 2 && e->record_size != 4 && e->record_size != 8) {
        report(run, "Extension record inc with invalid size=%u", e->record_size);
        return;
    }
    for (size_t at = 0; at < body.size; at += 8) {
        uint32_t uid = bytes_le32(body.at + at);
        int32_t diff = (int32_t)bytes_le32(body.at + at + 4);
        int64_t i = state_find(s, uid);
        uint64_t value, most = e->record_size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * e->record_size) - 1;
        unsigned char *to;

        if (uid == 0 || uid >= state_get(s, BASE_AT_NEXT_UID)) {
            report(run, "Extension record inc update for invalid uid=%u", uid);
            return;
        }
        if (i < 0)
            continue;
        to = state_record(s, (uint32_t)i) + e->record_offset;
        value = read_sized(to, e->record_size);
        if (diff < 0 && value < (uint64_t)-(int64_t)diff) {
            report(run, "Extension record inc drops number below zero (uid=%u, diff=%d, orig=%llu)", uid, diff,
                   (unsigned long long)value);
            return;
        }
        if (diff > 0 && most - value < (uint64_t)diff) {
            report(run, "Extension record inc overflows number (uid=%u, diff=%d, orig=%llu)", uid, diff,
                   (unsigned long long)value);
            return;
        }
        value += (uint64_t)(int64_t)diff;
        for (unsigned b = 0; b < e->record_size; b++)
            to[b] = (unsigned char)(value >> 8 * b);
    }
}

/* ---- keywords, modseqs --------------------------------------------------------------------------------------------- */

static void apply_keyword(const struct run *run)
{
    struct state *s = run->s;
    struct log_keyword k;
    const struct state_ext *e;
    uint32_t first, last;
    unsigned bit;

    format_keyword_get(run->r->body, &k);
    if (memchr(k.name.at, 0, k.name.size) != NULL) {
        report(run, "Trying to use empty keyword");
        return;
    }
    bit = state_keyword_add(s, k.name);
    if (k.modify == 0)
        state_keyword_fit(s, bit);
    if (s->ext_keywords < 0)
        return;
    e = &s->exts[s->ext_keywords];
    while (format_range_next(&k.ranges, &first, &last)) {
        for (uint32_t i = state_lower(s, first); i < s->count && state_uid(s, i) <= last; i++) {
            unsigned char *at = state_record(s, i) + e->record_offset;

            if (state_is_gone(s, i))
                continue;
            touch(run, i, run->modseq);
            if (bit / 8 >= e->record_size)
                continue;
            if (k.modify == 0)
                at[bit / 8] |= (unsigned char)(1u << bit % 8);
            else if (k.modify == 1)
                at[bit / 8] &= (unsigned char)~(1u << bit % 8);
        }
        tell_flags(run, first, last, true);
    }
}

static void apply_keyword_reset(const struct run *run)
{
    struct state *s = run->s;
    struct slice rest = run->r->body;
    const struct state_ext *e = s->ext_keywords < 0 ? NULL : &s->exts[s->ext_keywords];
    uint32_t first, last;

    while (format_range_next(&rest, &first, &last)) {
        for (uint32_t i = state_lower(s, first); i < s->count && state_uid(s, i) <= last; i++) {
            if (state_is_gone(s, i))
                continue;
            touch(run, i, run->modseq);
            if (e != NULL)
                memset(state_record(s, i) + e->record_offset, 0, e->record_size);
        }
        tell_flags(run, first, last, true);
    }
}

static void apply_modseq(const struct run *run)
{
    struct state *s = run->s;
    struct slice body = run->r->body;

    for (size_t at = 0; at < body.size; at += 12) {
        uint32_t uid = bytes_le32(body.at + at);
        uint64_t value = (uint64_t)bytes_le32(body.at + at + 4) | (uint64_t)bytes_le32(body.at + at + 8) << 32;
        int64_t i = uid == 0 ? -1 : state_find(s, uid);

        if (i < 0)
            continue;
        touch(run, (uint32_t)i, value);
        tell_flags(run, uid, uid, false);
    }
}

void state_apply_begin(struct state *s)
{
    s->applying_ext = -1;
    s->applying_ignored = true;
    s->had_dirty = (state_get(s, BASE_AT_FLAGS) & BASE_FLAG_HAVE_DIRTY) != 0;
    state_put(s, BASE_AT_FLAGS, state_get(s, BASE_AT_FLAGS) & ~(uint32_t)BASE_FLAG_HAVE_DIRTY);
}

void state_apply(struct state *s, const struct log_record *r, uint64_t modseq)
{
    struct run run = {s, r, modseq};

    switch (r->type) {
    case LOG_APPEND:
        apply_append(&run);
        break;
    case LOG_EXPUNGE:
    case LOG_EXPUNGE_GUID:
        apply_expunge(&run);
        break;
    case LOG_FLAGS:
        apply_flags(&run);
        break;
    case LOG_HEADER:
        apply_header(&run);
        break;
    case LOG_EXT_INTRO:
        apply_intro(&run);
        break;
    case LOG_EXT_RESET:
        apply_ext_reset(&run);
        break;
    case LOG_EXT_HEADER:
    case LOG_EXT_HEADER32:
        apply_ext_header(&run, r->type == LOG_EXT_HEADER32);
        break;
    case LOG_EXT_RECORD:
        apply_ext_record(&run);
        break;
    case LOG_EXT_INC:
        apply_ext_inc(&run);
        break;
    case LOG_KEYWORD:
        apply_keyword(&run);
        break;
    case LOG_KEYWORD_RESET:
        apply_keyword_reset(&run);
        break;
    case LOG_MODSEQ:
        apply_modseq(&run);
        break;
    case LOG_DELETED:
    case LOG_UNDELETED:
        if (s->sink != NULL)
            s->sink->deleted(s->sink_arg, r->type == LOG_UNDELETED ? 0 : r->external ? 2 : 1);
        break;
    case LOG_BOUNDARY:
    case LOG_ATTRIBUTE:
        break;
    default:
        report(&run, "Unknown transaction record type 0x%x", r->type);
    }
}

void state_squeeze(struct state *s)
{
    uint32_t to = 0, i = 0;

    if (s->gone_count == 0)
        return;
    while (i < s->count) {
        uint32_t run;

        while (i < s->count && state_is_gone(s, i))
            i++;
        run = i;
        while (i < s->count && !state_is_gone(s, i))
            i++;
        if (to != run && i > run)
            memmove(state_record(s, to), state_record(s, run), (size_t)(i - run) * s->stride);
        to += i - run;
    }
    s->count = to;
    mem_free(s->gone);
    s->gone = NULL;
    s->gone_count = s->gone_size = 0;
}

void state_apply_end(struct state *s)
{
    state_squeeze(s);
    if (!s->had_dirty || (state_get(s, BASE_AT_FLAGS) & BASE_FLAG_HAVE_DIRTY) != 0)
        return;
    for (uint32_t i = 0; i < s->count; i++) {
        if ((state_record(s, i)[4] & 0x80) != 0) {
            set_have_dirty(s);
            return;
        }
    }
}
