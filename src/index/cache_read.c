/* cache_read.c - looking cached values up: one walk over a message's records, newest first (index-format 9.3). */
#include "index/cache.h"

#include <limits.h>

/* The newest queued value of the field, not yet written. */
static const struct cache_queued *find_queued(const struct index_cache *c, uint32_t uid, unsigned field)
{
    for (size_t i = c->queue.count; i-- > 0;) {
        const struct cache_queued *q = &c->queue.at[i];

        if (q->uid == uid && q->field == field)
            return q;
        if (c->queue_sorted && q->uid < uid)
            return NULL;
    }
    return NULL;
}

struct wanted {
    const unsigned *fields;
    size_t count, found;
    struct arena *arena;
    struct slice *values;
};

/* Bitmasks are ORed over the chain; of all others the first, that is the newest, counts. */
static void take_value(struct wanted *w, enum cache_type type, unsigned field, struct slice value)
{
    if (field == UINT_MAX) /* a name beyond the cap: not the one that somebody asks for by the same number */
        return;
    for (size_t i = 0; i < w->count; i++) {
        if (w->fields[i] != field)
            continue;
        if (w->values[i].at == NULL) {
            w->values[i] = arena_slice(w->arena, value);
            w->found++;
        } else if (type == CACHE_BITMASK) {
            unsigned char *bits = (unsigned char *)w->values[i].at;

            for (size_t b = 0; b < value.size && b < w->values[i].size; b++)
                bits[b] |= value.at[b];
        }
    }
}

static bool any_bitmask(const struct wanted *w)
{
    uint32_t size;

    for (size_t i = 0; i < w->count; i++) {
        if (w->fields[i] < cache_field_count() && cache_field_type(w->fields[i], &size) == CACHE_BITMASK)
            return true;
    }
    return false;
}

static void walk_chain(struct index *index, uint32_t uid, struct wanted *w)
{
    struct index_cache *c = index->cache;
    uint32_t at = cache_offset(index, uid), number;
    bool to_the_end = any_bitmask(w);
    struct cache_record r;
    struct slice value;
    int got;

    while (at != 0 && (w->found < w->count || to_the_end)) {
        if (!cache_record_get(index, at, &r))
            return;
        while ((got = cache_record_next(index, &r.body, &number, &value)) == 1)
            take_value(w, c->fields[number].type, c->fields[number].global, value);
        if (got < 0)
            return;
        at = r.prev;
    }
}

static size_t lookup(struct index *index, uint32_t uid, const unsigned *fields, size_t count, struct arena *arena,
                     struct slice *values)
{
    struct wanted w = {fields, count, 0, arena, values};

    memset(values, 0, count * sizeof(*values));
    if (index->cache != NULL && index->cache->queue.count > 0) {
        for (size_t i = 0; i < count; i++) {
            const struct cache_queued *q = find_queued(index->cache, uid, fields[i]);

            if (q != NULL) {
                values[i] = arena_slice(arena, q->value);
                w.found++;
            }
        }
    }
    if (cache_ready(index))
        walk_chain(index, uid, &w);
    return w.found;
}

size_t index_cache_get_many(struct index *index, uint32_t uid, const unsigned *fields, size_t count,
                            struct arena *arena, struct slice *values)
{
    size_t found = lookup(index, uid, fields, count, arena, values);

    if (index->in_memory)
        return found;
    for (size_t i = 0; i < count; i++) {
        if (values[i].at != NULL)
            cache_used(index, uid, fields[i]);
        else
            cache_missed(index, uid, fields[i]);
    }
    return found;
}

size_t index_cache_peek_many(struct index *index, uint32_t uid, const unsigned *fields, size_t count, struct arena *arena,
                             struct slice *values)
{
    return lookup(index, uid, fields, count, arena, values);
}

enum index_cached index_cache_get(struct index *index, uint32_t uid, unsigned field, struct arena *arena,
                                  struct slice *out)
{
    struct slice value;

    if (index_cache_get_many(index, uid, &field, 1, arena, &value) == 0)
        return INDEX_CACHE_MISS;
    *out = value;
    return INDEX_CACHE_FOUND;
}

void index_cache_each(struct index *index, uint32_t uid, bool (*see)(void *, const char *, struct slice), void *arg)
{
    struct cache_record r;
    struct slice value;
    uint32_t at, number;

    if (!cache_ready(index))
        return;
    for (at = cache_offset(index, uid); at != 0; at = r.prev) {
        if (!cache_record_get(index, at, &r))
            return;
        while (cache_record_next(index, &r.body, &number, &value) == 1) {
            if (!see(arg, index->cache->fields[number].name, value))
                return;
        }
        if (index->cache->fd < 0) /* it turned out to be damaged */
            return;
    }
}
