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
    uint32_t round;            /* the message's, else this is left from another one */
    uint32_t at, size;         /* in the file, or in message.bytes when it is copied */
    bool copied;
    uint64_t moves;            /* of the windows: `where` is right as long as there are no more */
    const unsigned char *where;
};

/* What is known of the message that was asked for last. A FETCH asks for one field after the other: each of its records is walked
 * through once, and only as many of them as the question needs. Of the process, like the windows of cache_file.c: values lie
 * there, and are copied only when the windows have moved on before somebody asks for them. */
static struct {
    const struct index_cache *of;
    uint32_t uid, offset, file_seq, round;
    uint32_t next;             /* the record to be walked through next; 0: all are */
    struct known *values;      /* by number of index_field */
    size_t room;
    struct buffer bytes;
} message;

void cache_message_drop(const struct index_cache *c)
{
    if (message.of != c)
        return;
    message.of = NULL;
    mem_free(message.values);
    message.values = NULL;
    message.room = 0;
    buffer_free(&message.bytes);
}

static struct known *find_known(unsigned field)
{
    return field < message.room && message.values[field].round == message.round ? &message.values[field] : NULL;
}

/* Fields get their numbers as they are met. */
static void make_room(void)
{
    const size_t n = cache_field_count();

    message.values = mem_realloc(message.values, n * sizeof(*message.values));
    memset(message.values + message.room, 0, (n - message.room) * sizeof(*message.values));
    message.room = n;
}

/* `at`: the value's place in the file. Bitmasks are ORed over the chain; of all others the first, that is the newest, counts. */
static void take_value(enum cache_type type, unsigned field, uint32_t at, struct slice value)
{
    struct known *known;

    if (field == UINT_MAX) /* a name beyond the cap: not the one that somebody asks for by the same number */
        return;
    if (field >= message.room)
        make_room();
    known = &message.values[field];
    if (known->round != message.round) {
        known->round = message.round;
        known->size = (uint32_t)value.size;
        known->copied = type == CACHE_BITMASK;
        known->at = known->copied ? (uint32_t)message.bytes.size : at;
        known->where = value.at;
        known->moves = cache_moves;
        if (known->copied)
            buffer_append_slice(&message.bytes, value);
    } else if (type == CACHE_BITMASK) {
        for (size_t i = 0; i < value.size && i < known->size; i++)
            message.bytes.at[known->at + i] |= value.at[i];
    }
}

static void begin_message(struct index *index, uint32_t uid, uint32_t at)
{
    if (++message.round == 0) {
        memset(message.values, 0, message.room * sizeof(*message.values));
        message.round = 1;
    }
    buffer_reset(&message.bytes);
    buffer_reserve(&message.bytes, 1);
    message.of = index->cache;
    message.uid = uid;
    message.offset = message.next = at;
    message.file_seq = index->cache->file_seq;
}

/* False: it is broken, and the cache has been deleted. */
static bool read_record(struct index *index)
{
    const struct index_cache *c = index->cache;
    uint32_t at = message.next, number;
    struct cache_record r;
    struct slice rest, value;
    int got;

    message.next = 0;
    if (!cache_record_get(index, at, &r))
        return false;
    rest = r.body;
    while ((got = cache_record_next(index, &rest, &number, &value)) == 1)
        take_value(c->fields[number].type, c->fields[number].global, at + CACHE_RECORD_HEAD + (uint32_t)(value.at - r.body.at), value);
    if (got == 0)
        message.next = r.prev;
    return got == 0;
}

/* Is something that they ask for still to be looked for? */
static bool must_look(const unsigned *fields, size_t count)
{
    uint32_t size;

    for (size_t i = 0; i < count; i++) {
        if (fields[i] >= message.room && fields[i] < cache_field_count())
            make_room();
        if (find_known(fields[i]) != NULL && cache_field_type(fields[i], &size) != CACHE_BITMASK)
            continue;
        return true;
    }
    return false;
}

/* Fills `message` with the fields, from as much of the chain of records as is whole. */
static void read_message(struct index *index, uint32_t uid, const unsigned *fields, size_t count)
{
    const struct index_cache *c = index->cache;
    uint32_t at = cache_offset(index, uid);

    if (message.of != c || message.uid != uid || message.offset != at || message.file_seq != c->file_seq)
        begin_message(index, uid, at);
    while (message.next != 0 && must_look(fields, count)) {
        if (!read_record(index)) {
            message.of = NULL;
            return;
        }
    }
}

static bool lies_still(const struct known *known)
{
    return known->copied || known->moves == cache_moves;
}

/* Into memory of ours, since the windows have moved on. A file that has become shorter has no value. */
static void copy_value(struct index *index, struct known *known)
{
    struct slice bytes = known->size > 0 ? cache_bytes(index, known->at, known->size) : SLICE("");

    if (bytes.at == NULL) {
        known->round = 0;
        return;
    }
    known->at = (uint32_t)message.bytes.size;
    known->copied = true;
    buffer_append_slice(&message.bytes, bytes);
}

/* All that they ask for lies where it stays until the next question: to copy one value may move a window that another lies in. */
static void settle(struct index *index, const unsigned *fields, size_t count)
{
    uint64_t before;

    do {
        before = cache_moves;
        for (size_t i = 0; i < count; i++) {
            struct known *known = find_known(fields[i]);

            if (known != NULL && !lies_still(known))
                copy_value(index, known);
        }
    } while (cache_moves != before);
}

/* A queued value is newer than all in the file. What the file has of a bitmask holds for it, too. */
static void prefer_queued(const struct index_cache *c, uint32_t uid, unsigned field, struct slice *value)
{
    const struct cache_queued *q = find_queued(c, uid, field);
    uint32_t size;

    if (q == NULL)
        return;
    if (cache_field_type(field, &size) == CACHE_BITMASK)
        for (size_t i = 0; i < q->value.size && i < value->size; i++)
            ((unsigned char *)q->value.at)[i] |= value->at[i];
    *value = q->value;
}

size_t index_cache_borrow(struct index *index, uint32_t uid, const unsigned *fields, size_t count, struct slice *values)
{
    size_t found = 0;

    memset(values, 0, count * sizeof(*values));
    if (cache_ready(index)) {
        read_message(index, uid, fields, count);
        settle(index, fields, count);
        for (size_t i = 0; i < count; i++) {
            const struct known *known = find_known(fields[i]);

            if (known != NULL)
                values[i] = slice_of(known->copied ? message.bytes.at + known->at : known->where, known->size);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (index->cache != NULL && index->cache->queue.count > 0)
            prefer_queued(index->cache, uid, fields[i], &values[i]);
        found += values[i].at != NULL;
    }
    return found;
}

/* All in one piece of the arena, a NUL behind each. */
static void keep_all(struct arena *arena, struct slice *values, size_t count)
{
    size_t bytes = 0;
    unsigned char *copies;

    for (size_t i = 0; i < count; i++)
        bytes += values[i].at != NULL ? values[i].size + 1 : 0;
    copies = bytes > 0 ? arena_alloc(arena, bytes) : NULL;
    for (size_t i = 0; i < count; i++) {
        if (values[i].at == NULL)
            continue;
        memcpy(copies, values[i].at, values[i].size);
        values[i].at = copies;
        copies += values[i].size + 1;
    }
}

void index_cache_used(struct index *index, uint32_t uid, const unsigned *fields, size_t count, const struct slice *values)
{
    if (!index->in_memory)
        cache_asked(index, uid, fields, values, count);
}

size_t index_cache_get_many(struct index *index, uint32_t uid, const unsigned *fields, size_t count,
                            struct arena *arena, struct slice *values)
{
    size_t found = index_cache_peek_many(index, uid, fields, count, arena, values);

    index_cache_used(index, uid, fields, count, values);
    return found;
}

size_t index_cache_peek_many(struct index *index, uint32_t uid, const unsigned *fields, size_t count, struct arena *arena,
                             struct slice *values)
{
    size_t found = index_cache_borrow(index, uid, fields, count, values);

    keep_all(arena, values, count);
    return found;
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
