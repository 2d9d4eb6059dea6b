/* X metadata: what is taken is in order, does not overflow, and stays below the folder. */
#include "store/attachment.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct attachment_refs refs;
    struct error e;
    uint64_t end = 0;

    if (attachment_refs_parse(slice_of(data, size), arena, &refs, &e) == 0) {
        for (size_t i = 0; i < refs.count; i++) {
            const struct attachment_ref *ref = &refs.at[i];

            if (ref->offset < end || ref->size > INT64_MAX - ref->offset || ref->base64_columns % 4 != 0 ||
                ref->path.size == 0 || ref->path.at[0] == '/' || slice_find_slice(ref->path, SLICE("//")) >= 0)
                abort();
            end = ref->offset + ref->size;
        }
    }
    arena_free(arena);
    return 0;
}
