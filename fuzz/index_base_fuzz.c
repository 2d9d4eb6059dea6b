/* A base index from anywhere: loading, looking up, mending, writing, loading again (index-format 2). */
#include "index/state.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct state *s)
{
    volatile uint64_t sum = 0;

    for (uint32_t i = 0; i < s->count; i++)
        sum += state_uid(s, i) + state_modseq(s, i);
    for (unsigned k = 0; k < s->keyword_count; k++)
        sum += (uint64_t)state_keyword_find(s, slice_from_str(s->keywords[k]));
    sum += state_lower(s, 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state s = {0};
    struct buffer file = {0}, notes = {0}, out = {0};
    char why[128];

    buffer_append(&file, data, size);
    if (state_load(&s, &file, why, sizeof(why), &notes) != STATE_UNUSABLE) {
        look(&s);
        state_mend(&s, &notes);
        look(&s);
        state_keyword_add(&s, SLICE("new-keyword"));
        state_keyword_fit(&s, s.keyword_count - 1);
        state_emit_header(&s, &out);
        if (s.count > 0)
            buffer_append(&out, s.records, (size_t)s.count * s.stride);
        state_free(&s);
        if (state_load(&s, &out, why, sizeof(why), &notes) != STATE_GOOD)
            abort(); /* what was mended and written must be sound */
        look(&s);
    }
    if (s.base != NULL)
        state_free(&s);
    buffer_free(&file);
    buffer_free(&notes);
    buffer_free(&out);
    return 0;
}
