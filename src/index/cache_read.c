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

struct known {
    unsigned field;
    size_t at, size;           /* in message.bytes */
};

/* All values of the message that was asked for last. A FETCH asks for one field after the other: its records are walked
 * through once. Of the process, like the windows of cache_file.c; the bytes are copies. */
static struct {
    const struct index_cache *of;
    uint32_t uid, offset, file_seq;
    VEC(struct known) values;
    struct buffer bytes;
} message;

void cache_message_drop(const struct index_cache *c)
{
    if (message.of != c)
        return;
    message.of = NULL;
    VEC_FREE(&message.values);
    buffer_free(&message.bytes);
}

static struct known *find_known(unsigned field)
{
    for (size_t i = 0; i < message.values.count; i++)
        if (message.values.at[i].field == field)
            return &message.values.at[i];
    return NULL;
}

/* Bitmasks are ORed over the chain; of all others the first, that is the newest, counts. */
static void take_value(enum cache_type type, unsigned field, struct slice value)
{
    struct known *known;

    if (field == UINT_MAX) /* a name beyond the cap: not the one that somebody asks for by the same number */
        return;
    known = find_known(field);
    if (known == NULL) {
        VEC_PUSH(&message.values, ((struct known){field, message.bytes.size, value.size}));
        buffer_append_slice(&message.bytes, value);
    } else if (type == CACHE_BITMASK) {
        for (size_t i = 0; i < value.size && i < known->size; i++)
            message.bytes.at[known->at + i] |= value.at[i];
    }
}

/* Fills `message` from the chain of records; from as much of it as is whole. */
static void read_message(struct index *index, uint32_t uid)
{
    const struct index_cache *c = index->cache;
    uint32_t at = cache_offset(index, uid), number;
    struct cache_record r;
    struct slice value;
    int got;

    if (message.of == c && message.uid == uid && message.offset == at && message.file_seq == c->file_seq)
        return;
    message.of = NULL;
    message.values.count = 0;
    buffer_reset(&message.bytes);
    buffer_reserve(&message.bytes, 1);
    for (uint32_t next = at; next != 0; next = r.prev) {
        if (!cache_record_get(index, next, &r))
            return;
        while ((got = cache_record_next(index, &r.body, &number, &value)) == 1)
            take_value(c->fields[number].type, c->fields[number].global, value);
        if (got < 0)
            return;
    }
    message.of = c;
    message.uid = uid;
    message.offset = at;
    message.file_seq = c->file_seq;
}

/* A queued value is newer than all in the file. */
static void prefer_queued(const struct index_cache *c, uint32_t uid, unsigned field, struct slice *value, struct arena *arena)
{
    const struct cache_queued *q = find_queued(c, uid, field);
    struct slice old = *value;
    uint32_t size;

    if (q == NULL)
        return;
    *value = arena_slice(arena, q->value);
    if (cache_field_type(field, &size) == CACHE_BITMASK)
        for (size_t i = 0; i < value->size && i < old.size; i++)
            ((unsigned char *)value->at)[i] |= old.at[i];
}

static size_t lookup(struct index *index, uint32_t uid, const unsigned *fields, size_t count, struct arena *arena,
                     struct slice *values)
{
    size_t found = 0, bytes = 0;
    unsigned char *copies;

    memset(values, 0, count * sizeof(*values));
    if (cache_ready(index)) {
        read_message(index, uid);
        for (size_t i = 0; i < count; i++) {
            const struct known *known = find_known(fields[i]);

            if (known != NULL) {
                values[i] = slice_of(message.bytes.at + known->at, known->size);
                bytes += known->size + 1;
            }
        }
        copies = bytes > 0 ? arena_alloc(arena, bytes) : NULL;
        for (size_t i = 0; i < count; i++) {
            if (values[i].at == NULL)
                continue;
            memcpy(copies, values[i].at, values[i].size);
            values[i].at = copies;
            copies += values[i].size + 1; /* a NUL stands behind each */
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (index->cache != NULL && index->cache->queue.count > 0)
            prefer_queued(index->cache, uid, fields[i], &values[i], arena);
        found += values[i].at != NULL;
    }
    return found;
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
