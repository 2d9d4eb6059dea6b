/* order.c - radix sort from the lowest byte to the highest; bytes that are the same everywhere cost one look. */
#include "store/order.h"

#include <stdlib.h>

enum { BYTE_VALUES = 256 };

void order_init(struct order *o, uint32_t count)
{
    o->count = count;
    o->at = mem_alloc(((size_t)count + 1) * sizeof(*o->at));
    o->spare = mem_alloc(((size_t)count + 1) * sizeof(*o->spare));
    for (uint32_t i = 0; i < count; i++)
        o->at[i] = i;
}

static void by_byte(struct order *o, const uint64_t *numbers, uint64_t flip, unsigned shift)
{
    uint32_t starts[BYTE_VALUES + 1] = {0}, *to = o->spare;

    for (uint32_t i = 0; i < o->count; i++)
        starts[((numbers[o->at[i]] ^ flip) >> shift & 0xff) + 1]++;
    for (unsigned i = 1; i <= BYTE_VALUES; i++)
        starts[i] += starts[i - 1];
    for (uint32_t i = 0; i < o->count; i++)
        to[starts[(numbers[o->at[i]] ^ flip) >> shift & 0xff]++] = o->at[i];
    o->spare = o->at;
    o->at = to;
}

void order_by(struct order *o, const uint64_t *numbers, bool reverse)
{
    uint64_t differ = 0;

    for (uint32_t i = 1; i < o->count; i++)
        differ |= numbers[i] ^ numbers[0];
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if ((differ >> shift & 0xff) != 0)
            by_byte(o, numbers, reverse ? UINT64_MAX : 0, shift);
    }
}

uint32_t *order_take(struct order *o)
{
    uint32_t *at = o->at;

    o->at = NULL;
    order_free(o);
    return at;
}

void order_free(struct order *o)
{
    mem_free(o->at);
    mem_free(o->spare);
    *o = (struct order){0};
}

struct placed_text {
    struct slice text;
    uint32_t at;
};

static int compare_texts(const void *a, const void *b)
{
    return slice_compare(((const struct placed_text *)a)->text, ((const struct placed_text *)b)->text);
}

void order_number_texts(const struct slice *texts, uint32_t count, uint64_t *numbers)
{
    struct placed_text *placed = mem_alloc(((size_t)count + 1) * sizeof(*placed));
    uint64_t number = 0;

    for (uint32_t i = 0; i < count; i++)
        placed[i] = (struct placed_text){texts[i], i};
    if (count > 1)
        qsort(placed, count, sizeof(*placed), compare_texts);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || !slice_equal(placed[i].text, placed[i - 1].text))
            number++;
        numbers[placed[i].at] = number;
    }
    mem_free(placed);
}
