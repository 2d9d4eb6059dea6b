/* cache_write.c - adding values: at the end of the file, under the cache's lock (index-format 9.4).
 *
 * Order of locks: the log's, then the cache's, which is only tried: caching is never worth a wait. A crash leaves
 * records that nobody refers to. */
#include "index/batch.h"
#include "index/cache.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the queue ---------------------------------------------------------------------------------------------------- */

void cache_drop_queue(struct index_cache *c)
{
    arena_free(c->queue_arena);
    c->queue_arena = NULL;
    VEC_FREE(&c->queue);
    c->queued_bytes = 0;
    c->queue_sorted = true;
}

static bool is_there(struct index *index, uint32_t uid, unsigned field)
{
    struct index_cache *c = index->cache;
    struct cache_record r;
    struct slice value;
    uint32_t at, number, size;

    for (size_t i = c->queue.count; i-- > 0;) {
        if (c->queue.at[i].uid == uid && c->queue.at[i].field == field)
            return true;
        if (c->queue_sorted && c->queue.at[i].uid < uid)
            break;
    }
    if (cache_field_type(field, &size) == CACHE_BITMASK) /* may add bits */
        return false;
    if (!cache_ready(index) || cache_number(c, field) < 0)
        return false;
    for (at = cache_offset(index, uid); at != 0; at = r.prev) {
        if (!cache_record_get(index, at, &r))
            return false;
        while (cache_record_next(index, &r.body, &number, &value) == 1) {
            if (c->fields[number].global == field)
                return true;
        }
        if (c->fd < 0)
            return false;
    }
    return false;
}

static void put(struct index *index, uint32_t uid, unsigned field, struct slice value)
{
    struct index_cache *c = cache_of(index);
    uint32_t fixed;

    if (value.size + 24 > index->set.cache_record_max_size)
        return;
    cache_field_type(field, &fixed);
    if (fixed != CACHE_VARIABLE && fixed != value.size)
        return;
    if (c->queued_bytes + value.size > CACHE_QUEUE_MAX)
        index_cache_flush(index);
    if (c->queued_bytes + value.size > CACHE_QUEUE_MAX || is_there(index, uid, field))
        return;
    if (index_cache_wants(index, uid, field))
        cache_added(index, field);
    if (c->queue.count > 0 && c->queue.at[c->queue.count - 1].uid > uid)
        c->queue_sorted = false;
    if (c->queue_arena == NULL)
        c->queue_arena = arena_new();
    VEC_PUSH(&c->queue, ((struct cache_queued){uid, field, arena_slice(c->queue_arena, value)}));
    c->queued_bytes += value.size + sizeof(struct cache_queued);
}

void index_cache_put(struct index *index, uint32_t uid, unsigned field, struct slice value)
{
    if (index_cache_wants(index, uid, field))
        put(index, uid, field, value);
}

void index_cache_put_anyway(struct index *index, uint32_t uid, unsigned field, struct slice value)
{
    if (index_cache_allows(index, field))
        put(index, uid, field, value);
}

/* ---- the file ----------------------------------------------------------------------------------------------------- */

bool cache_prepare(struct index *index)
{
    if (index->in_memory || index->read_only || !index->locked)
        return false;
    if (cache_ready(index))
        return true;
    /* not there, deleted as damaged, or of another generation while we hold the log's lock: a new one is due. A purge
     * writes what is still valid, here nothing, under a new file_seq. */
    return cache_purge_now(index) && cache_ready(index);
}

/* Makes sure that all fields have numbers; a new field header at the end of the file (9.2). */
static bool add_fields(struct index *index, const struct cache_new *new, size_t count, uint64_t *end)
{
    struct index_cache *c = index->cache;
    VEC(unsigned) missing = {0};
    struct buffer out = {0};
    unsigned char offset[4];
    struct cache_field *all;
    struct error e;
    bool ok;

    cache_map_fields(c);
    for (size_t i = 0; i < count; i++) {
        for (size_t v = 0; v < new[i].count; v++)
            cache_added(index, new[i].values[v].field);
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t v = 0; v < new[i].count; v++) {
            bool listed = cache_number(c, new[i].values[v].field) >= 0;

            for (size_t m = 0; m < missing.count && !listed; m++)
                listed = missing.at[m] == new[i].values[v].field;
            if (!listed && new[i].values[v].field < cache_field_count())
                VEC_PUSH(&missing, new[i].values[v].field);
        }
    }
    if (missing.count == 0)
        return true;
    all = mem_zero(c->field_count + missing.count, sizeof(*all));
    if (c->field_count > 0)
        memcpy(all, c->fields, c->field_count * sizeof(*all));
    for (size_t m = 0; m < missing.count; m++) {
        struct cache_field *f = &all[c->field_count + m];
        struct cache_policy *p = cache_policy_of(index, missing.at[m]);

        f->name = (char *)index_field_name(missing.at[m]);
        f->type = cache_field_type(missing.at[m], &f->size);
        f->decision = p->decision;
        f->last_used = p->last_used;
    }
    cache_emit_fields(all, c->field_count + (uint32_t)missing.count, &out);
    buffer_append(&out, "\0\0\0", -out.size & 3);
    ok = *end + out.size < index->set.cache_max_size && os_pwrite(c->fd, buffer_slice(&out), *end, &e) == 0;
    if (ok) {
        format_offset_put(offset, (uint32_t)*end);
        ok = os_pwrite(c->fd, slice_of(offset, 4), c->fields_at, &e) == 0; /* this is the commit */
        *end += out.size;
    }
    mem_free(all);
    VEC_FREE(&missing);
    buffer_free(&out);
    return ok && cache_load_fields(index);
}

static void put_value(struct index_cache *c, const struct cache_value *v, struct buffer *out)
{
    int number = cache_number(c, v->field);
    unsigned char b[4];
    uint32_t fixed;

    if (number < 0)
        return;
    fixed = c->fields[number].size;
    if (fixed != CACHE_VARIABLE && fixed != v->value.size)
        return;
    bytes_put_le32(b, (uint32_t)number);
    buffer_append(out, b, 4);
    if (fixed == CACHE_VARIABLE) {
        bytes_put_le32(b, (uint32_t)v->value.size);
        buffer_append(out, b, 4);
    }
    buffer_append_slice(out, v->value);
    buffer_append(out, "\0\0\0", -out->size & 3);
}

/* One record per message; `base` is where the buffer's begin will be in the file. */
static void put_records(struct index *index, struct cache_new *new, size_t count, uint64_t base, struct buffer *out,
                        uint32_t *fresh, uint32_t *continued)
{
    for (size_t i = 0; i < count; i++) {
        size_t start = out->size;

        new[i].offset = 0;
        buffer_append(out, "\0\0\0\0\0\0\0\0", 8);
        for (size_t v = 0; v < new[i].count; v++) {
            size_t before = out->size;

            put_value(index->cache, &new[i].values[v], out);
            if (out->size - start > index->set.cache_record_max_size)
                out->size = before; /* this field does not fit (9.3) */
        }
        if (out->size == start + 8 || base + out->size > index->set.cache_max_size) {
            out->size = start;
            continue;
        }
        bytes_put_le32(out->at + start, new[i].prev_offset);
        bytes_put_le32(out->at + start + 4, (uint32_t)(out->size - start));
        new[i].offset = (uint32_t)(base + start);
        if (new[i].prev_offset != 0)
            ++*continued;
        else
            ++*fresh;
    }
}

static bool write_counts(struct index_cache *c, uint32_t fresh, uint32_t continued)
{
    unsigned char h[CACHE_HEADER_SIZE];
    struct error e;

    if (pread(c->fd, h, sizeof(h), 0) != (ssize_t)sizeof(h))
        return false;
    bytes_put_le32(h + CACHE_AT_RECORDS, bytes_le32(h + CACHE_AT_RECORDS) + fresh);
    bytes_put_le32(h + CACHE_AT_CONTINUED, bytes_le32(h + CACHE_AT_CONTINUED) + continued);
    return os_pwrite(c->fd, slice_of(h, sizeof(h)), 0, &e) == 0;
}

uint32_t cache_write(struct index *index, struct cache_new *new, size_t count)
{
    struct index_cache *c = cache_of(index);
    uint32_t fresh = 0, continued = 0, seq = 0;
    struct buffer out = {0};
    struct error e;
    struct stat st;
    uint64_t end;

    if (index->read_only || cache_lock(index) != OS_GOT)
        return 0;
    /* the file may have been replaced before we had the lock */
    if (c->file_seq != cache_reset_id(index) || !cache_load_fields(index) || fstat(c->fd, &st) < 0) {
        cache_unlock(index);
        return 0;
    }
    end = ((uint64_t)st.st_size + 3) & ~(uint64_t)3;
    if (add_fields(index, new, count, &end)) {
        put_records(index, new, count, end, &out, &fresh, &continued);
        if (out.size > 0 && os_pwrite(c->fd, buffer_slice(&out), end, &e) == 0 && write_counts(c, fresh, continued))
            seq = c->file_seq;
    }
    if (c->fd >= 0) {
        if (c->policy_dirty)
            cache_policy_write(index);
        if (index->set.fsync == INDEX_FSYNC_ALWAYS)
            os_sync(c->fd, &e);
        cache_unlock(index);
    }
    cache_bytes_drop(c);
    buffer_free(&out);
    return seq;
}

void cache_expunged(struct index *index, uint32_t messages)
{
    struct index_cache *c;
    unsigned char h[CACHE_HEADER_SIZE];
    uint32_t records;
    struct error e;

    if (!cache_ready(index) || index->read_only || cache_lock(index) != OS_GOT)
        return;
    c = index->cache;
    if (c->file_seq == cache_reset_id(index) && pread(c->fd, h, sizeof(h), 0) == (ssize_t)sizeof(h)) {
        records = bytes_le32(h + CACHE_AT_RECORDS);
        bytes_put_le32(h + CACHE_AT_DELETED, bytes_le32(h + CACHE_AT_DELETED) + messages);
        bytes_put_le32(h + CACHE_AT_RECORDS, records > messages ? records - messages : 0);
        os_pwrite(c->fd, slice_of(h, sizeof(h)), 0, &e);
    }
    cache_unlock(index);
}

/* ---- flushing ----------------------------------------------------------------------------------------------------- */

/* Queued values, grouped by message in order of queueing. */
static size_t group_queue(struct index *index, struct arena *arena, struct cache_new **out)
{
    struct index_cache *c = index->cache;
    struct cache_new *new = ARENA_ARRAY(arena, struct cache_new, c->queue.count);
    struct cache_value *values = ARENA_ARRAY(arena, struct cache_value, c->queue.count);
    size_t count = 0;

    for (size_t i = 0; i < c->queue.count; i++) {
        const struct cache_queued *q = &c->queue.at[i];

        values[i] = (struct cache_value){q->field, q->value};
        if (count > 0 && new[count - 1].uid == q->uid) {
            new[count - 1].count++;
            continue;
        }
        if (state_find(&index->state, q->uid) < 0) {
            continue; /* expunged meanwhile; its values stay out of every group */
        }
        new[count++] = (struct cache_new){.uid = q->uid, .values = &values[i], .count = 1};
    }
    *out = new;
    return count;
}

static void write_queue(struct index *index)
{
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_INTERNAL);
    struct index_commit out = {0};
    struct cache_new *new;
    struct error e;
    size_t count = group_queue(index, arena, &new);

    if (count > 0 && cache_prepare(index)) {
        for (size_t i = 0; i < count; i++)
            new[i].prev_offset = cache_offset(index, new[i].uid);
        if (cache_write(index, new, count) != 0) {
            for (size_t i = 0; i < count; i++) {
                unsigned char offset[4];

                bytes_put_le32(offset, new[i].offset);
                if (new[i].offset != 0)
                    index_batch_ext_record(batch, cache_ext(index), new[i].uid, slice_of(offset, 4));
            }
            if (!index_batch_empty(batch) && index->ops->commit(index, batch, &out, &e) < 0)
                index_error(index, "%s", e.admin);
        }
    }
    arena_free(arena);
}

void index_cache_flush(struct index *index)
{
    struct index_cache *c = index->cache;
    bool mine = !index->locked;
    struct error e;

    if (c == NULL || index->read_only || index->in_memory || index->gone)
        return;
    if (c->queue.count > 0) {
        if (mine && index_lock_try(index, "cache", &e) != STEP_DONE) {
            if (c->queued_bytes > CACHE_QUEUE_MAX / 2)
                cache_drop_queue(c);
            return;
        }
        write_queue(index);
        cache_drop_queue(c);
        if (mine)
            index_unlock(index);
    }
    if (c->policy_dirty && cache_ready(index) && cache_lock(index) == OS_GOT) {
        if (c->file_seq == cache_reset_id(index))
            cache_policy_write(index);
        cache_unlock(index);
    }
}

bool index_batch_forget_cached(struct index *index, struct index_batch *batch, uint32_t uid)
{
    if (cache_offset(index, uid) == 0)
        return false;
    index_batch_ext_record(batch, cache_ext(index), uid, slice_of("\0\0\0\0", 4));
    return true;
}

int index_cache_remove(struct index *index, const struct index_ranges *uids, struct error *e)
{
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_INTERNAL);
    bool any = false;
    int r = 0;

    for (uint32_t i = 0; i < index->state.count; i++) {
        uint32_t uid = state_uid(&index->state, i);

        if (index_ranges_has(uids, uid) && index_batch_forget_cached(index, batch, uid))
            any = true;
    }
    if (any)
        r = index_commit_wait(index, batch, NULL, e);
    arena_free(arena);
    return r;
}

void index_cache_corrupted(struct index *index, uint32_t uid, const char *why)
{
    struct arena *arena;
    struct index_batch *batch;
    struct error e;

    index_error(index, "Deleting corrupted cache record uid=%u: %s", uid, why);
    if (index->read_only)
        return;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_INTERNAL);
    if (index_batch_forget_cached(index, batch, uid)) {
        if (index->locked)
            index_commit_locked(index, batch, NULL, &e);
        else
            index_commit(index, batch, NULL, &e); /* busy: the next reader comes to the same conclusion */
    }
    arena_free(arena);
}
