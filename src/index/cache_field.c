/* cache_field.c - names of cached fields and what type each has (index-format 9.7).
 *
 * Numbers are the process's own; a file has its own numbering. Header names come from clients: they are found by
 * binary search, and there is a cap, beyond which a field is simply not cached. */
#include "index/cache.h"

#include <limits.h>

struct field {
    const char *name;
    enum cache_type type;
    uint32_t size;
};

static const struct field builtin[] = {
    {"flags", CACHE_BITMASK, 4},
    {"date.sent", CACHE_FIXED, 8},
    {"date.received", CACHE_FIXED, 4},
    {"date.save", CACHE_FIXED, 4},
    {"size.virtual", CACHE_FIXED, 8},
    {"size.physical", CACHE_FIXED, 8},
    {"imap.body", CACHE_STRING, CACHE_VARIABLE},
    {"imap.bodystructure", CACHE_STRING, CACHE_VARIABLE},
    {"imap.envelope", CACHE_STRING, CACHE_VARIABLE},
    {"pop3.uidl", CACHE_STRING, CACHE_VARIABLE},
    {"pop3.order", CACHE_FIXED, 4},
    {"guid", CACHE_STRING, CACHE_VARIABLE},
    {"mime.parts", CACHE_VAR, CACHE_VARIABLE},
    {"binary.parts", CACHE_VAR, CACHE_VARIABLE},
    {"body.snippet", CACHE_VAR, CACHE_VARIABLE},
};
enum { BUILTIN = sizeof(builtin) / sizeof(builtin[0]) };

/* A table of names, no configuration: numbers stay valid as long as the process lives. */
static VEC(struct field) fields;
static VEC(unsigned) order; /* numbers by name without case */

static int compare_nocase(const char *a, const char *b)
{
    for (;; a++, b++) {
        unsigned char x = (unsigned char)text_lower(*a), y = (unsigned char)text_lower(*b);

        if (x != y)
            return x < y ? -1 : 1;
        if (x == 0)
            return 0;
    }
}

static size_t order_at(const char *name, bool *found)
{
    size_t low = 0, high = order.count;

    *found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare_nocase(fields.at[order.at[mid]].name, name);

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

static unsigned add_field(const char *name, enum cache_type type, uint32_t size, size_t at)
{
    unsigned number = (unsigned)fields.count;

    VEC_PUSH(&fields, ((struct field){mem_strdup(name), type, size}));
    VEC_PUSH(&order, 0u);
    memmove(order.at + at + 1, order.at + at, (order.count - 1 - at) * sizeof(*order.at));
    order.at[at] = number;
    return number;
}

static void add_builtin(void)
{
    for (unsigned i = 0; i < BUILTIN; i++) {
        bool found;
        size_t at = order_at(builtin[i].name, &found);

        add_field(builtin[i].name, builtin[i].type, builtin[i].size, at);
    }
}

unsigned index_field(const char *name)
{
    bool found, header = slice_starts_nocase(slice_from_str(name), SLICE("hdr."));
    size_t at;

    if (fields.count == 0)
        add_builtin();
    at = order_at(name, &found);
    if (found)
        return order.at[at];
    if (fields.count >= CACHE_FIELDS_MAX || name[0] == '\0' || (header && name[4] == '\0'))
        return UINT_MAX;
    return add_field(name, header ? CACHE_HEADER : CACHE_VAR, CACHE_VARIABLE, at);
}

const char *index_field_name(unsigned field)
{
    return field < fields.count ? fields.at[field].name : NULL;
}

enum cache_type cache_field_type(unsigned field, uint32_t *size)
{
    *size = fields.at[field].size;
    return fields.at[field].type;
}

unsigned cache_field_count(void)
{
    if (fields.count == 0)
        add_builtin();
    return (unsigned)fields.count;
}

unsigned cache_field_builtin(void)
{
    return BUILTIN;
}
