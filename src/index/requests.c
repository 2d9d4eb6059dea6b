/* requests.c - what lies between tail and head, merged per message (index-format 7.5, 7.9).
 *
 * Later flag changes override earlier ones; an expunge swallows them. Of messages that exist no more only the expunges are told. */
#include "index/index_backend.h"

#include <stdlib.h>

struct merge {
    struct index *index;
    struct arena *arena;
    struct index_request *at;   /* one per affected message, ascending */
    size_t count;
};

bool requests_is(const struct log_record *r)
{
    return !r->external && (r->type == LOG_FLAGS || r->type == LOG_KEYWORD || r->type == LOG_KEYWORD_RESET ||
                            r->type == LOG_EXPUNGE || r->type == LOG_EXPUNGE_GUID);
}

/* What clients see, and the bit by which a storage is asked to move a message (altmove of sdbox). */
static bool is_request(const struct log_flags *f)
{
    return !format_flags_internal(f) || ((f->add | f->remove) & INDEX_BACKEND) != 0;
}

static void add_ranges(struct index_ranges *out, const struct log_record *r)
{
    struct slice rest = r->body;
    struct log_keyword k;
    struct log_flags f;
    uint32_t first, last;

    switch (r->type) {
    case LOG_FLAGS:
        while (format_flags_next(&rest, &f)) {
            if (is_request(&f))
                index_ranges_add(out, f.first, f.last);
        }
        break;
    case LOG_KEYWORD:
        format_keyword_get(r->body, &k);
        rest = k.ranges;
        __attribute__((fallthrough));
    case LOG_KEYWORD_RESET:
    case LOG_EXPUNGE:
        while (format_range_next(&rest, &first, &last))
            index_ranges_add(out, first, last);
        break;
    case LOG_EXPUNGE_GUID:
        for (size_t at = 0; at < rest.size; at += 20)
            index_ranges_add(out, bytes_le32(rest.at + at), bytes_le32(rest.at + at));
        break;
    default:
        break;
    }
}

/* The first request with a UID >= uid. */
static size_t request_lower(const struct merge *m, uint32_t uid)
{
    size_t low = 0, high = m->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (m->at[mid].uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void merge_keyword(struct merge *m, struct index_request *q, unsigned keyword, bool add)
{
    struct index_keyword_request *k = (struct index_keyword_request *)q->keywords;

    for (size_t i = 0; i < q->keyword_count; i++) {
        if (k[i].keyword == keyword) {
            k[i].add = add;
            return;
        }
    }
    if ((q->keyword_count & (q->keyword_count - 1)) == 0) { /* full at the powers of two */
        size_t room = q->keyword_count == 0 ? 1 : q->keyword_count * 2;
        struct index_keyword_request *more = ARENA_ARRAY(m->arena, struct index_keyword_request, room);

        if (q->keyword_count > 0)
            memcpy(more, k, q->keyword_count * sizeof(*more));
        q->keywords = k = more;
    }
    k[q->keyword_count++] = (struct index_keyword_request){keyword, add};
}

static void merge_keywords(struct merge *m, const struct log_record *r)
{
    const struct state *s = &m->index->state;
    struct log_keyword k = {.ranges = r->body};
    uint32_t first, last;
    int bit = -1;

    if (r->type == LOG_KEYWORD) {
        format_keyword_get(r->body, &k);
        bit = state_keyword_find(s, k.name);
        if (bit < 0)
            return;
    }
    while (format_range_next(&k.ranges, &first, &last)) {
        for (size_t i = request_lower(m, first); i < m->count && m->at[i].uid <= last; i++) {
            if (bit >= 0) {
                merge_keyword(m, &m->at[i], (unsigned)bit, k.modify == 0);
                continue;
            }
            for (unsigned n = 0; n < s->keyword_count; n++)
                merge_keyword(m, &m->at[i], n, false);
        }
    }
}

static void merge_expunges(struct merge *m, const struct log_record *r)
{
    struct slice rest = r->body;
    uint32_t first, last;

    if (r->type == LOG_EXPUNGE) {
        while (format_range_next(&rest, &first, &last)) {
            for (size_t i = request_lower(m, first); i < m->count && m->at[i].uid <= last; i++)
                m->at[i].expunge = true;
        }
        return;
    }
    for (size_t at = 0; at < rest.size; at += 20) {
        size_t i = request_lower(m, bytes_le32(rest.at + at));

        if (i < m->count && m->at[i].uid == bytes_le32(rest.at + at)) {
            m->at[i].expunge = true;
            memcpy(m->at[i].guid, rest.at + at + 4, sizeof(m->at[i].guid));
        }
    }
}

static void merge_record(struct merge *m, const struct log_record *r)
{
    struct slice rest = r->body;
    struct log_flags f;

    switch (r->type) {
    case LOG_FLAGS:
        while (format_flags_next(&rest, &f)) {
            if (!is_request(&f))
                continue;
            for (size_t i = request_lower(m, f.first); i < m->count && m->at[i].uid <= f.last; i++) {
                struct index_request *q = &m->at[i];

                q->flags_add = (uint8_t)((q->flags_add & ~f.remove) | f.add);
                q->flags_remove = (uint8_t)((q->flags_remove | f.remove) & ~f.add);
            }
        }
        break;
    case LOG_KEYWORD:
    case LOG_KEYWORD_RESET:
        merge_keywords(m, r);
        break;
    default:
        merge_expunges(m, r);
    }
}

static int compare_uids(const void *x, const void *y)
{
    const uint32_t *a = x, *b = y;

    return *a < *b ? -1 : *a > *b;
}

/* Expunges of messages that have no record. Those that name each one (LOG_EXPUNGE_GUID): both servers write no others, and a
 * range may be as long as it likes. */
static void collect_carried_out(const struct merge *m, struct slice bytes, uint64_t base, struct index_requests *out)
{
    uint32_t next_uid = state_get(&m->index->state, BASE_AT_NEXT_UID), *uids = NULL;
    struct log_walk walk = {.bytes = bytes, .base = base};
    struct log_record r;
    size_t count = 0, kept = 0;

    while (format_log_next(&walk, &r) == LOG_SCAN_RECORD)
        if (!r.external && r.type == LOG_EXPUNGE_GUID)
            count += r.body.size / 20;
    if (count == 0)
        return;
    uids = ARENA_ARRAY(m->arena, uint32_t, count);
    count = 0;
    walk = (struct log_walk){.bytes = bytes, .base = base};
    while (format_log_next(&walk, &r) == LOG_SCAN_RECORD) {
        if (r.external || r.type != LOG_EXPUNGE_GUID)
            continue;
        for (size_t at = 0; at < r.body.size / 20 * 20; at += 20) {
            uint32_t uid = bytes_le32(r.body.at + at);

            if (uid != 0 && uid < next_uid && state_find(&m->index->state, uid) < 0)
                uids[count++] = uid;
        }
    }
    if (count > 1)
        qsort(uids, count, sizeof(*uids), compare_uids);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || uids[kept - 1] != uids[i])
            uids[kept++] = uids[i];
    out->carried_out = uids;
    out->carried_out_count = kept;
}

void requests_collect(struct index *index, struct arena *arena, struct slice bytes, uint64_t base,
                      struct index_requests *out)
{
    const struct state *s = &index->state;
    struct log_walk walk = {.bytes = bytes, .base = base};
    struct index_ranges ranges = {0};
    struct merge m = {index, arena, NULL, 0};
    struct log_record r;

    while (format_log_next(&walk, &r) == LOG_SCAN_RECORD) {
        if (requests_is(&r))
            add_ranges(&ranges, &r);
        if (requests_is(&r) || (r.external && (r.type == LOG_EXPUNGE || r.type == LOG_EXPUNGE_GUID)))
            out->tail_needed = true;
    }
    for (size_t n = 0; n < ranges.count; n++) {
        uint32_t from = state_lower(s, ranges.at[n].first);
        uint32_t to = ranges.at[n].last == UINT32_MAX ? s->count : state_lower(s, ranges.at[n].last + 1);

        m.count += to - from;
    }
    m.at = ARENA_ARRAY(arena, struct index_request, m.count);
    m.count = 0;
    for (size_t n = 0; n < ranges.count; n++) {
        for (uint32_t i = state_lower(s, ranges.at[n].first); i < s->count && state_uid(s, i) <= ranges.at[n].last; i++)
            m.at[m.count++].uid = state_uid(s, i);
    }
    index_ranges_free(&ranges);
    walk = (struct log_walk){.bytes = bytes, .base = base};
    while (m.count > 0 && format_log_next(&walk, &r) == LOG_SCAN_RECORD) {
        if (requests_is(&r))
            merge_record(&m, &r);
    }
    out->at = m.at;
    out->count = m.count;
    collect_carried_out(&m, bytes, base, out);
}
