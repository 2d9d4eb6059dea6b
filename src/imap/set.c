/* set.c - sequence sets.
 *
 * Resolving is O(ranges x log messages); ranges are limited by the length of a line. */
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

static void resolve_range(const struct imap_set_range *range, enum imap_set_kind kind, const struct index_view *view,
                         struct index_ranges *seqs)
{
    uint32_t count = index_view_count(view);
    uint32_t highest = kind == IMAP_SET_UIDS ? (count == 0 ? 0 : index_view_uid(view, count)) : count;
    uint32_t a = range->first == 0 ? highest : range->first, b = range->last == 0 ? highest : range->last;
    bool star = range->first == 0 || range->last == 0;

    if (count == 0)
        return;
    if (kind == IMAP_SET_SEARCH_SEQS && star && (a > count || b > count))
        return;
    if (a > b) {
        uint32_t t = a;
        a = b;
        b = t;
    }
    if (kind == IMAP_SET_UIDS) {
        add_uids(view, a, b, seqs);
        return;
    }
    if (a <= count)
        index_ranges_add(seqs, a, b < count ? b : count);
}

/* Sequence numbers must exist. Dovecot joins the ranges and looks at the highest one alone, with '*' above all numbers: "3:10"
 * of eight messages is wrong, "3:10,*" is not; "4:*" of three is wrong, "2:4,4:*" is not (imap 10.1). */
static bool seqs_exist(const struct imap_set *set, uint32_t count)
{
    struct index_ranges plain = {0};
    uint32_t low = UINT32_MAX;
    bool star = false, fits = true;
    size_t n;

    for (size_t i = 0; i < set->count; i++) {
        uint32_t a = set->at[i].first, b = set->at[i].last;

        if (a == 0 || b == 0) {
            star = true;
            low = a != 0 && a < low ? a : b != 0 && b < low ? b : low;
        } else {
            index_ranges_add(&plain, a < b ? a : b, a < b ? b : a);
            fits = fits && a <= count && b <= count;
        }
    }
    for (n = plain.count; star && n > 0 && plain.at[n - 1].last + 1 >= low; n--)
        low = plain.at[n - 1].first < low ? plain.at[n - 1].first : low;
    index_ranges_free(&plain);
    return count > 0 && (star ? low == UINT32_MAX || low <= count : fits);
}

int imap_set_resolve(const struct imap_set *set, enum imap_set_kind kind, const struct index_view *view,
                     const struct index_ranges *saved, struct index_ranges *seqs)
{
    if (set->saved) {
        for (size_t i = 0; i < saved->count; i++)
            add_uids(view, saved->at[i].first, saved->at[i].last, seqs);
        return 0;
    }
    if (kind == IMAP_SET_SEQS && (set->huge || !seqs_exist(set, index_view_count(view))))
        return -1;
    for (size_t i = 0; i < set->count; i++)
        resolve_range(&set->at[i], kind, view, seqs);
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
        buffer_printf(out, "%u", r->at[i].first);
        if (r->at[i].last > r->at[i].first)
            buffer_printf(out, ":%u", r->at[i].last);
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
