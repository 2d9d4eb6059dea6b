/* What the tests of src/store/coding share: a sink into memory, bytes to work on. */
#ifndef TESTS_STORE_CODING_HELP_H
#define TESTS_STORE_CODING_HELP_H

#include "conf/settings.h"
#include "conf/tree.h"
#include "store/attachment.h"
#include "store/coding/attach.h"
#include "store/coding/codec.h"
#include "store/coding/crypt.h"
#include "store/internal.h"

#include <atf-c.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct memory_sink {
    struct byte_sink sink;
    struct buffer *out;
};

static inline int memory_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    (void)e;
    buffer_append_slice(((struct memory_sink *)sink)->out, bytes);
    return 0;
}

static inline int memory_finish(struct byte_sink *sink, struct error *e)
{
    (void)sink, (void)e;
    return 0;
}

static inline void memory_free(struct byte_sink *sink)
{
    (void)sink;
}

static inline struct memory_sink to_memory(struct buffer *out)
{
    return (struct memory_sink){{memory_put, memory_finish, memory_free, NULL}, out};
}

/* Text that compresses, with stretches that do not. */
static inline struct buffer sample(size_t size, unsigned seed)
{
    struct buffer out = {0};

    srand(seed);
    while (out.size < size) {
        if (rand() % 4 == 0)
            for (int i = 0; i < 300; i++)
                buffer_append_byte(&out, (unsigned char)rand());
        buffer_printf(&out, "line %d of %u\n", rand() % 100, seed);
    }
    out.size = size;
    return out;
}

#endif
