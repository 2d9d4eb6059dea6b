/* The first byte chooses: the file dovecot-virtual with its search programs, the header of a virtual mailbox's index, or the
 * bytes of a dictionary. */
#include "store/dict.h"
#include "store/virtual/virtual.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_config(struct slice bytes, struct arena *arena)
{
    struct virtual_config config;
    struct error e;

    if (virtual_config_parse(&config, bytes, arena, &e) < 0)
        return;
    for (size_t i = 0; i < config.line_count; i++)
        if (config.lines[i].rule >= config.rule_count)
            abort();
    for (size_t i = 0; i < config.rule_count; i++)
        virtual_query_parse(arena, config.rules[i], &e);
    virtual_config_free(&config);
}

static void try_header(struct slice bytes, struct arena *arena)
{
    struct buffer header = {0}, more = {0};
    struct virtual_header h, again;
    struct error e;

    if (virtual_header_parse(&h, slice_head(bytes, bytes.size / 2), slice_from(bytes, bytes.size / 2), arena, &e) == 0 && h.count > 0) {
        virtual_header_put(&h, &header, &more);
        if (virtual_header_parse(&again, buffer_slice(&header), buffer_slice(&more), arena, &e) < 0 || again.count != h.count)
            abort();
    }
    buffer_free(&header);
    buffer_free(&more);
}

static void try_dict(struct slice bytes, struct arena *arena)
{
    struct dict_pairs pairs = {0}, again = {0};
    struct buffer out = {0};

    dict_parse(bytes, arena, &pairs);
    dict_put(&out, &pairs);
    dict_parse(buffer_slice(&out), arena, &again);
    if (again.count != pairs.count)
        abort();
    VEC_FREE(&pairs);
    VEC_FREE(&again);
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct slice rest = slice_of(data, size);

    if (size > 0) {
        rest = slice_from(rest, 1);
        if (data[0] % 3 == 0)
            try_config(rest, arena);
        else if (data[0] % 3 == 1)
            try_header(rest, arena);
        else
            try_dict(rest, arena);
    }
    arena_free(arena);
    return 0;
}
