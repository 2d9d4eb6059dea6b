/* ranges.c - sets of UIDs as ranges in ascending order. */
#include "index/index_backend.h"

void index_ranges_add(struct index_ranges *r, uint32_t first, uint32_t last)
{
    size_t low = 0, high = r->count, end;

    if (r->count > 0 && first > r->at[r->count - 1].last) { /* the usual case: ascending */
        if (first == r->at[r->count - 1].last + 1)
            r->at[r->count - 1].last = last;
        else
            VEC_PUSH(r, ((struct index_range){first, last}));
        return;
    }
    while (low < high) { /* the first range that touches or follows */
        size_t mid = low + (high - low) / 2;

        if ((uint64_t)r->at[mid].last + 1 < first)
            low = mid + 1;
        else
            high = mid;
    }
    for (end = low; end < r->count && r->at[end].first <= (uint64_t)last + 1; end++) {
        if (r->at[end].first < first)
            first = r->at[end].first;
        if (r->at[end].last > last)
            last = r->at[end].last;
    }
    if (end == low) {
        VEC_PUSH(r, ((struct index_range){0, 0}));
        memmove(r->at + low + 1, r->at + low, (r->count - 1 - low) * sizeof(*r->at));
    } else {
        memmove(r->at + low + 1, r->at + end, (r->count - end) * sizeof(*r->at));
        r->count -= end - low - 1;
    }
    r->at[low] = (struct index_range){first, last};
}

bool index_ranges_has(const struct index_ranges *r, uint32_t uid)
{
    size_t low = 0, high = r->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (r->at[mid].last < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low < r->count && r->at[low].first <= uid;
}

void index_ranges_free(struct index_ranges *r)
{
    VEC_FREE(r);
}
