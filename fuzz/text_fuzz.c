/* The text codecs: nothing crashes, and what decodes encodes again to the same bytes. */
#include "base/text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool good)
{
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size), *fields;
    struct arena *arena = arena_new();
    struct buffer out = {0}, again = {0};
    uint64_t number;

    text_tab_escape(&out, in);
    expect(slice_equal(text_tab_unescape(arena, buffer_slice(&out)), in));
    text_tab_unescape(arena, in);
    text_tab_fields(arena, in, &fields);

    buffer_reset(&out);
    if (text_mutf7_to_utf8(&out, in) == 0) {
        expect(text_utf8_valid(buffer_slice(&out)));
        expect(text_utf8_to_mutf7(&again, buffer_slice(&out)) == 0);
        expect(slice_equal(buffer_slice(&again), in));
    }
    buffer_reset(&out);
    buffer_reset(&again);
    if (text_utf8_to_mutf7(&out, in) == 0) {
        expect(text_mutf7_to_utf8(&again, buffer_slice(&out)) == 0);
        expect(slice_equal(buffer_slice(&again), in));
    }

    buffer_reset(&out);
    buffer_reset(&again);
    text_base64_encode(&out, in);
    expect(text_base64_decode(&again, buffer_slice(&out)) == 0 && slice_equal(buffer_slice(&again), in));
    text_base64_decode(&out, in);
    buffer_reset(&out);
    text_hex_decode(&out, in);
    text_parse_msecs(in, &number);
    text_parse_size(in, &number);

    buffer_free(&out);
    buffer_free(&again);
    arena_free(arena);
    return 0;
}
