/* cache_purge.c - writing the cache anew: the first file, and a compact one when garbage has gathered (index-format
 * 9.6).
 *
 * Under the log's lock: a temporary file, renamed; then one log transaction resets the extension to the new file_seq
 * and gives every message its new offset. Between the two a reader finds a generation that its index does not mean,
 * and takes nothing from it. */
#include "index/batch.h"
#include "index/cache.h"

#include <limits.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct purge {
    struct index *index;
    struct arena *arena;
    struct index_batch *batch;
    int fd;
    struct buffer out;          /* what has not been written yet */
    uint64_t at;                /* size of the file with it */
    struct cache_field *fields; /* of the new file */
    uint32_t field_count;
    int *new_number;            /* old number -> new; -1 = dropped */
    uint32_t old_count;         /* so many of them */
    uint32_t records;
};

bool cache_purge_due(struct index *index)
{
    struct index_cache *c = index->cache;
    const struct index_settings *set = &index->set;
    unsigned char h[CACHE_HEADER_SIZE];
    uint64_t records, continued, deleted;
    struct stat st;

    if (c == NULL || c->fd < 0 || index->read_only || !cache_ready(index))
        return false;
    if (c->purge_wanted || c->drop_due)
        return true;
    if (pread(c->fd, h, sizeof(h), 0) != (ssize_t)sizeof(h) || fstat(c->fd, &st) < 0)
        return false;
    if ((uint64_t)st.st_size < set->cache_purge_min_size)
        return false;
    records = bytes_le32(h + CACHE_AT_RECORDS);
    continued = bytes_le32(h + CACHE_AT_CONTINUED);
    deleted = bytes_le32(h + CACHE_AT_DELETED);
    if (records == 0 || records > 2 * (uint64_t)index->state.count)
        records = index->state.count;
    if (records > 0 && continued * 100 / records >= set->cache_purge_continued_percent)
        return true;
    return records + deleted > 0 && deleted * 100 / (records + deleted) >= set->cache_purge_delete_percent;
}

/* ---- fields ------------------------------------------------------------------------------------------------------- */

static void keep_field(struct purge *p, const char *name, enum cache_type type, uint32_t size, unsigned global,
                       uint8_t decision, uint32_t last_used)
{
    p->fields[p->field_count++] = (struct cache_field){arena_strdup(p->arena, name), global, type, size, last_used,
                                                       decision};
}

/* Fields of the old file in their order, without those that nobody has used for long; then ours that are missing, and
 * headers that are wanted (another mailbox's decisions were taken over). */
static void choose_fields(struct purge *p)
{
    struct index *index = p->index;
    struct index_cache *c = index->cache;
    uint32_t stamp = state_get(&index->state, BASE_AT_DAY_STAMP), age = index->set.cache_unaccessed_drop_secs;
    unsigned builtin = cache_field_builtin(), all = cache_field_count();

    p->fields = ARENA_ARRAY(p->arena, struct cache_field, c->field_count + all);
    p->new_number = ARENA_ARRAY(p->arena, int, c->field_count + 1);
    p->old_count = c->field_count;
    for (uint32_t i = 0; i < c->field_count; i++) {
        const struct cache_field *f = &c->fields[i];
        struct cache_policy *policy = cache_policy_of(index, f->global);
        uint8_t decision = policy != NULL ? policy->decision : f->decision;
        uint32_t used = policy != NULL ? policy->last_used : f->last_used;

        if (stamp != 0 && used != 0 && (decision & INDEX_CACHE_FORCED) == 0) {
            if (decision != INDEX_CACHE_NO && used < stamp - 2 * age)
                decision = INDEX_CACHE_NO;
            else if (decision == INDEX_CACHE_YES && used < stamp - age)
                decision = INDEX_CACHE_TEMP;
        }
        p->new_number[i] = (decision & 0x7f) == INDEX_CACHE_NO && f->type == CACHE_HEADER ? -1 : (int)p->field_count;
        if (p->new_number[i] >= 0)
            keep_field(p, f->name, f->type, f->size, f->global, decision, used);
    }
    for (unsigned b = 0; b < all; b++) {
        struct cache_policy *policy = cache_policy_of(index, b);
        bool there = false;
        enum cache_type type;
        uint32_t size;

        for (uint32_t i = 0; i < p->field_count && !there; i++)
            there = p->fields[i].global == b;
        if (there || (b >= builtin && (policy->decision & 0x7f) == INDEX_CACHE_NO))
            continue;
        type = cache_field_type(b, &size);
        keep_field(p, index_field_name(b), type, size, b, policy->decision, policy->last_used);
    }
}

/* ---- records ------------------------------------------------------------------------------------------------------ */

static int flush_out(struct purge *p, struct error *e)
{
    int ret = p->out.size == 0 ? 0 : os_write(p->fd, buffer_slice(&p->out), e);

    buffer_reset(&p->out);
    return ret;
}

static bool wanted(const struct purge *p, uint32_t uid, int number)
{
    if (number < 0)
        return false;
    switch (p->fields[number].decision & 0x7f) {
    case INDEX_CACHE_YES:
        return true;
    case INDEX_CACHE_TEMP:
        return !cache_is_old(p->index, uid);
    default:
        return false;
    }
}

/* All of a message's records become one. -1: the old file turned out to be damaged. */
static int merge_message(struct purge *p, uint32_t uid, uint32_t offset, struct slice *values)
{
    struct arena *arena = arena_new();
    size_t start = p->out.size;
    struct cache_record r;
    struct slice value;
    uint32_t number;
    int got = 0;

    memset(values, 0, p->field_count * sizeof(*values));
    for (uint32_t at = offset; at != 0 && got >= 0; at = r.prev) {
        if (!cache_record_get(p->index, at, &r)) {
            got = -1;
            break;
        }
        while ((got = cache_record_next(p->index, &r.body, &number, &value)) == 1) {
            int new = number < p->old_count ? p->new_number[number] : -1;

            if (!wanted(p, uid, new))
                continue;
            if (values[new].at == NULL)
                values[new] = arena_slice(arena, value);
            else if (p->fields[new].type == CACHE_BITMASK)
                for (size_t b = 0; b < value.size; b++)
                    ((unsigned char *)values[new].at)[b] |= value.at[b];
        }
    }
    buffer_append(&p->out, "\0\0\0\0\0\0\0\0", 8);
    for (uint32_t i = 0; got >= 0 && i < p->field_count; i++) {
        unsigned char b[4];

        if (values[i].at == NULL)
            continue;
        bytes_put_le32(b, i);
        buffer_append(&p->out, b, 4);
        if (p->fields[i].size == CACHE_VARIABLE) {
            bytes_put_le32(b, (uint32_t)values[i].size);
            buffer_append(&p->out, b, 4);
        }
        buffer_append_slice(&p->out, values[i]);
        buffer_append(&p->out, "\0\0\0", -p->out.size & 3);
    }
    arena_free(arena);
    if (got < 0 || p->out.size == start + 8) {
        p->out.size = start;
        return got < 0 ? -1 : 0;
    }
    bytes_put_le32(p->out.at + start + 4, (uint32_t)(p->out.size - start));
    return 1;
}

static int copy_records(struct purge *p, struct error *e)
{
    struct index *index = p->index;
    struct slice *values = ARENA_ARRAY(p->arena, struct slice, p->field_count);
    unsigned ext = cache_ext(index);

    for (uint32_t i = 0; i < index->state.count; i++) {
        uint32_t uid = state_uid(&index->state, i), offset = cache_offset(index, uid);
        size_t before = p->out.size;
        unsigned char b[4];
        int got;

        if (offset == 0)
            continue;
        got = merge_message(p, uid, offset, values);
        if (got < 0)
            return 0; /* the rest is lost with the damaged file; what was copied is good */
        if (got == 0)
            continue;
        bytes_put_le32(b, (uint32_t)p->at);
        index_batch_ext_record(p->batch, ext, uid, slice_of(b, 4));
        p->at += p->out.size - before;
        p->records++;
        if (p->at > index->set.cache_max_size)
            return error_set(e, ERROR_LIMIT, "%s/%s.cache: File is too large - deleting", index->path, index->prefix);
        if (p->out.size > 256 * 1024 && flush_out(p, e) < 0)
            return -1;
    }
    return 0;
}

static int write_file(struct purge *p, uint32_t file_seq, struct error *e)
{
    struct index *index = p->index;
    unsigned char h[CACHE_HEADER_SIZE] = {CACHE_MAJOR, 8, CACHE_MINOR};
    uint32_t fields_at = CACHE_HEADER_SIZE;
    bool copies = cache_reset_id(index) != 0 && index->cache->fd >= 0 && index->cache->file_seq == cache_reset_id(index);

    bytes_put_le32(h + CACHE_AT_INDEXID, state_get(&index->state, BASE_AT_INDEXID));
    bytes_put_le32(h + CACHE_AT_FILE_SEQ, file_seq);
    buffer_append(&p->out, h, sizeof(h));
    p->at = sizeof(h);
    if (copies && copy_records(p, e) < 0)
        return -1;
    if (p->records > 0)
        fields_at = (uint32_t)p->at;
    cache_emit_fields(p->fields, p->field_count, &p->out);
    buffer_append(&p->out, "\0\0\0", -p->out.size & 3);
    if (flush_out(p, e) < 0)
        return -1;
    bytes_put_le32(h + CACHE_AT_RECORDS, p->records);
    format_offset_put(h + CACHE_AT_FIELDS, fields_at);
    {
        struct stat st;

        if (fstat(p->fd, &st) == 0)
            bytes_put_le32(h + CACHE_AT_USED_SIZE, (uint32_t)st.st_size);
    }
    return os_pwrite(p->fd, slice_of(h, sizeof(h)), 0, e);
}

static int replace_file(struct purge *p, uint32_t file_seq, struct error *e)
{
    struct index *index = p->index;
    char tmp[FILE_NAME_SIZE], name[FILE_NAME_SIZE];
    struct error ignored;
    int ret;

    os_unlink(index->dir, file_name(index, tmp, ".cache.tmp"), &ignored);
    p->fd = os_create(index->dir, tmp, index->mode, index->gid, e);
    if (p->fd < 0)
        return -1;
    ret = write_file(p, file_seq, e);
    if (ret == 0 && index->set.fsync == INDEX_FSYNC_ALWAYS)
        ret = os_sync(p->fd, e);
    close(p->fd);
    if (ret == 0)
        ret = os_rename(index->dir, tmp, index->dir, file_name(index, name, ".cache"), e);
    if (ret < 0)
        os_unlink(index->dir, tmp, &ignored);
    return ret;
}

int cache_purge_locked(struct index *index, struct error *e)
{
    struct index_cache *c = cache_of(index);
    uint32_t reset_id = cache_reset_id(index), file_seq;
    struct purge p = {.index = index, .arena = arena_new(), .fd = -1};
    struct index_commit out = {0};
    bool have = cache_ready(index);
    int ret;

    if (have) {
        switch (cache_lock(index)) {
        case OS_BUSY:
            arena_free(p.arena);
            return error_set(e, ERROR_LOCK_TIMEOUT, "%s/%s.cache is locked", index->path, index->prefix);
        default:
            break;
        }
        /* Others may have added fields since we read its header, and from now on nobody does. */
        (void)cache_load_fields(index);
    }
    file_seq = c->file_seq > reset_id ? c->file_seq : reset_id;
    file_seq = file_seq == 0 ? (uint32_t)time(NULL) : file_seq + 1;
    p.batch = index_batch_new(p.arena, INDEX_EXTERNAL);
    choose_fields(&p);
    index_batch_ext_reset(p.batch, cache_ext(index), file_seq, false);
    ret = replace_file(&p, file_seq, e);
    if (c->fd >= 0)
        cache_unlock(index);
    cache_forget(c);
    if (ret == 0 && (ret = index->ops->commit(index, p.batch, &out, e)) < 0) {
        char name[FILE_NAME_SIZE];
        struct error ignored;

        os_unlink(index->dir, file_name(index, name, ".cache"), &ignored); /* of a generation that there is not */
    }
    if (ret == 0)
        c->purge_wanted = c->drop_due = c->policy_dirty = false;
    buffer_free(&p.out);
    arena_free(p.arena);
    return ret;
}

bool cache_purge_now(struct index *index)
{
    struct error e;

    if (cache_purge_locked(index, &e) == 0)
        return true;
    if (e.class != ERROR_LOCK_TIMEOUT)
        index_error(index, "%s", e.admin);
    return false;
}

enum step index_cache_purge(struct index *index, struct error *e)
{
    bool mine = !index->locked;
    enum step step;
    int ret;

    if (index->in_memory)
        return STEP_DONE;
    if (mine && (step = index_lock_try(index, "cache purge", e)) != STEP_DONE)
        return step;
    ret = cache_purge_locked(index, e);
    if (mine)
        index_unlock(index);
    return ret == 0 ? STEP_DONE : e->class == ERROR_LOCK_TIMEOUT ? STEP_WAIT : STEP_ERROR;
}
