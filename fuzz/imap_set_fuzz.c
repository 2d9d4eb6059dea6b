/* Sequence sets: no crash; a set has no ranges where there is no text, never more than it has room for, and no number is 0 but as '*'. */
#include "imap/set.h"
#include "store/search.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct imap_set set;
    uint64_t day;

    if (imap_set_parse(arena, slice_of(data, size), &set) == 0 && !set.saved) {
        bool star = slice_find(slice_of(data, size), '*') >= 0;

        if ((set.count == 0) != (size == 0) || set.count > size)
            abort();
        for (size_t i = 0; i < set.count; i++) {
            if ((set.at[i].first == 0 || set.at[i].last == 0) && !star)
                abort();
        }
    }
    search_date_parse(slice_of(data, size), &day);
    arena_free(arena);
    return 0;
}
