/* A cache file from anywhere: four bytes of offset for the one message, then the file (index-format 9). */
#include "index/batch.h"
#include "index/cache.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg;
    (void)level;
    (void)prefix;
    (void)text;
}

static bool look(void *arg, const char *name, struct slice value)
{
    volatile unsigned char sum = (unsigned char)name[0];

    for (size_t i = 0; i < value.size; i++)
        sum ^= value.at[i];
    return ++*(unsigned *)arg < 1000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct index_where where = {.in_memory = true, .dir = -1};
    struct arena *arena = arena_new();
    unsigned seen = 0, fields[3] = {index_field("flags"), index_field("mime.parts"), index_field("hdr.Subject")};
    struct slice values[3];
    struct index_batch *b;
    struct index *index;
    struct error e;

    log_capture(quiet, NULL);
    if (size < 4 || index_open(&index, &where, &e) < 0) {
        arena_free(arena);
        return 0;
    }
    b = index_batch_new(arena, INDEX_EXTERNAL);
    index_batch_ext_reset(b, cache_ext(index), 7, false);
    index_append_ext(b, index_batch_append(b, 1, 0), cache_ext(index), slice_of(data, 4));
    if (index_commit(index, b, NULL, &e) == STEP_DONE) {
        struct index_cache *c = cache_of(index);

        c->fd = memfd_create("cache", MFD_CLOEXEC);
        if (c->fd >= 0 && pwrite(c->fd, data + 4, size - 4, 0) >= 0) {
            index->in_memory = false;
            index->read_only = true;
            c->file_seq = 7;
            if (cache_load_fields(index)) {
                index_cache_each(index, 1, look, &seen);
                index_cache_get_many(index, 1, fields, 3, arena, values);
            }
            index->in_memory = true;
        }
    }
    index_close(&index);
    arena_free(arena);
    return 0;
}
