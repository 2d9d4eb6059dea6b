/* set.c - sequence sets.
 *
 * Resolving is O(ranges x log messages); the length of a line limits the ranges. */
#include "imap/set.h"

static int parse_number(struct slice *rest, uint32_t *out, bool *huge)
{
    uint64_t n = 0;
    size_t i = 0;

    if (rest->size > 0 && rest->at[0] == '*') {
        *out = 0;
        *rest = slice_from(*rest, 1);
        return 0;
    }
    for (; i < rest->size && rest->at[i] >= '0' && rest->at[i] <= '9'; i++) {
        if (n <= UINT32_MAX)
            n = n * 10 + (rest->at[i] - '0');
    }
    if (i == 0 || n == 0)
        return -1;
    if (n >= UINT32_MAX) {
        *huge = true;
        n = UINT32_MAX;
    }
    *out = (uint32_t)n;
    *rest = slice_from(*rest, i);
    return 0;
}

int imap_set_parse(struct arena *arena, struct slice text, struct imap_set *set)
{
    struct slice rest = text;
    size_t room = 1;

    *set = (struct imap_set){0};
    if (slice_equal_str(text, "$")) {
        set->saved = true;
        return 0;
    }
    if (text.size == 0)
        return 0;
    for (size_t i = 0; i < text.size; i++)
        room += text.at[i] == ',';
    set->at = ARENA_ARRAY(arena, struct imap_set_range, room);
    do {
        struct imap_set_range *r = &set->at[set->count];

        if (parse_number(&rest, &r->first, &set->huge) < 0)
            return -1;
        r->last = r->first;
        if (rest.size > 0 && rest.at[0] == ':') {
            rest = slice_from(rest, 1);
            if (parse_number(&rest, &r->last, &set->huge) < 0)
                return -1;
        }
        set->count++;
        if (rest.size == 0)
            return 0;
        if (rest.at[0] != ',')
            return -1;
        rest = slice_from(rest, 1);
    } while (rest.size > 0); /* "1," is 1 (imap 10.1) */
    return 0;
}

static void add_uids(const struct index_view *view, uint32_t first, uint32_t last, struct index_ranges *seqs)
{
    uint32_t a, b;

    if (index_view_seq_range(view, first, last, &a, &b))
        index_ranges_add(seqs, a, b);
}

/* Sets of sequence numbers as Dovecot reads them: the ranges are joined, with '*' above all numbers, before anybody looks which
 * messages exist. So "4:*" of three messages names none, "*" the last one, "2:4,4:*" those from 2 on (imap 10.1). */
struct joined {
    struct index_ranges plain;   /* without those that reach '*' */
    bool star;
    uint32_t low;                /* where the range that reaches '*' begins; UINT32_MAX: '*' alone */
};

static struct joined join_ranges(const struct imap_set *set)
{
    struct joined j = {.low = UINT32_MAX};

    for (size_t i = 0; i < set->count; i++) {
        uint32_t a = set->at[i].first, b = set->at[i].last;

        if (a == 0 || b == 0) {
            j.star = true;
            j.low = a != 0 && a < j.low ? a : b != 0 && b < j.low ? b : j.low;
        } else {
            index_ranges_add(&j.plain, a < b ? a : b, a < b ? b : a);
        }
    }
    while (j.star && j.plain.count > 0 && j.plain.at[j.plain.count - 1].last + 1 >= j.low) {
        struct index_range *last = &j.plain.at[--j.plain.count];

        j.low = last->first < j.low ? last->first : j.low;
    }
    return j;
}

/* Only the highest range is looked at: "3:10" of eight messages is wrong, "3:10,*" is not. */
static bool highest_exists(const struct joined *j, uint32_t count)
{
    if (count == 0)
        return false;
    if (j->star)
        return j->low == UINT32_MAX || j->low <= count;
    return j->plain.count > 0 && j->plain.at[j->plain.count - 1].last <= count;
}

static int resolve_seqs(const struct imap_set *set, bool strict, uint32_t count, struct index_ranges *seqs)
{
    struct joined j = join_ranges(set);
    int result = strict && (set->huge || !highest_exists(&j, count)) ? -1 : 0;

    for (size_t i = 0; result == 0 && i < j.plain.count; i++) {
        if (j.plain.at[i].first <= count)
            index_ranges_add(seqs, j.plain.at[i].first, j.plain.at[i].last < count ? j.plain.at[i].last : count);
    }
    if (result == 0 && j.star && count > 0 && (j.low <= count || j.low == UINT32_MAX))
        index_ranges_add(seqs, j.low <= count ? j.low : count, count);
    index_ranges_free(&j.plain);
    return result;
}

static void resolve_uids(const struct imap_set *set, const struct index_view *view, struct index_ranges *seqs)
{
    uint32_t count = index_view_count(view), highest = count == 0 ? 0 : index_view_uid(view, count);

    for (size_t i = 0; count > 0 && i < set->count; i++) {
        uint32_t a = set->at[i].first == 0 ? highest : set->at[i].first, b = set->at[i].last == 0 ? highest : set->at[i].last;

        add_uids(view, a < b ? a : b, a < b ? b : a, seqs);
    }
}

int imap_set_resolve(const struct imap_set *set, enum imap_set_kind kind, const struct index_view *view,
                     const struct index_ranges *saved, struct index_ranges *seqs)
{
    if (set->saved) {
        for (size_t i = 0; i < saved->count; i++)
            add_uids(view, saved->at[i].first, saved->at[i].last, seqs);
        return 0;
    }
    if (kind != IMAP_SET_UIDS)
        return resolve_seqs(set, kind == IMAP_SET_SEQS, index_view_count(view), seqs);
    resolve_uids(set, view, seqs);
    return 0;
}

uint64_t imap_ranges_count(const struct index_ranges *r)
{
    uint64_t n = 0;

    for (size_t i = 0; i < r->count; i++)
        n += (uint64_t)r->at[i].last - r->at[i].first + 1;
    return n;
}

void imap_ranges_put(struct buffer *out, const struct index_ranges *r)
{
    for (size_t i = 0; i < r->count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        buffer_append_number(out, r->at[i].first);
        if (r->at[i].last > r->at[i].first) {
            buffer_append_byte(out, ':');
            buffer_append_number(out, r->at[i].last);
        }
    }
}

uint32_t imap_ranges_next(const struct index_ranges *r, size_t *at, uint32_t after)
{
    while (*at < r->count && r->at[*at].last <= after)
        (*at)++;
    if (*at == r->count)
        return 0;
    return r->at[*at].first > after ? r->at[*at].first : after + 1;
}

void imap_ranges_remove(struct index_ranges *ranges, uint32_t n)
{
    size_t low = 0, high = ranges->count;
    struct index_range *at;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (ranges->at[middle].last < n)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == ranges->count || ranges->at[low].first > n)
        return;
    at = &ranges->at[low];
    if (at->first == at->last) {
        memmove(at, at + 1, (ranges->count - low - 1) * sizeof(*at));
        ranges->count--;
    } else if (at->first == n) {
        at->first++;
    } else if (at->last == n) {
        at->last--;
    } else {
        uint32_t last = at->last;

        at->last = n - 1;
        index_ranges_add(ranges, n + 1, last);
    }
}
