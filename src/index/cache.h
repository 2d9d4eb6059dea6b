/* The cache file from inside (index-format 9). */
#ifndef YARILO_INDEX_CACHE_H
#define YARILO_INDEX_CACHE_H

#include "index/index_backend.h"

enum {
    CACHE_HEADER_SIZE = 32,
    CACHE_RECORD_HEAD = 8,         /* offset of the one before, size */
    CACHE_MAJOR = 1,
    CACHE_MINOR = 1,
    CACHE_AT_INDEXID = 4,
    CACHE_AT_FILE_SEQ = 8,
    CACHE_AT_CONTINUED = 12,
    CACHE_AT_RECORDS = 16,
    CACHE_AT_USED_SIZE = 20,
    CACHE_AT_DELETED = 24,
    CACHE_AT_FIELDS = 28,
    CACHE_FIELDS_MAX = 4096,       /* names that this process keeps; header names come from clients */
    CACHE_QUEUE_MAX = 512 * 1024
};
#define CACHE_VARIABLE UINT32_MAX

enum cache_type { CACHE_FIXED, CACHE_VAR, CACHE_STRING, CACHE_BITMASK, CACHE_HEADER };

struct cache_field {               /* as the newest field header in the file has it */
    char *name;
    unsigned global;               /* number of index_field; UINT_MAX = not kept by this process */
    enum cache_type type;
    uint32_t size, last_used;
    uint8_t decision;              /* with 0x80 when the configuration forces it */
};

struct cache_policy {              /* per number of index_field */
    uint8_t decision;
    bool known, dirty;             /* dirty: to be written into the file */
    uint32_t last_used, highwater;
};

struct cache_queued {
    uint32_t uid;
    unsigned field;
    struct slice value;            /* in queue_arena */
};

struct index_cache {
    int fd;
    dev_t dev;
    ino_t ino;
    uint32_t file_seq;
    uint64_t failed_at;            /* the index's generation + 1 when there was no usable file */
    struct cache_field *fields;
    uint32_t field_count;
    uint32_t fields_at, header_count; /* newest field header, length of the chain */
    uint32_t *by_global;           /* number of index_field -> number in the file + 1 */
    unsigned by_global_count;
    struct cache_policy *policy;
    unsigned policy_count;
    VEC(struct cache_queued) queue;
    struct arena *queue_arena;         /* NULL while nothing is queued */
    size_t queued_bytes;
    bool queue_sorted, policy_dirty, purge_wanted, drop_due;
};

/* ---- cache_field.c ---- */
enum cache_type cache_field_type(unsigned field, uint32_t *size);
unsigned cache_field_count(void);  /* numbers given so far */
unsigned cache_field_builtin(void); /* the first so many are those of 9.7 without headers */

/* ---- cache_file.c ---- */
struct index_cache *cache_of(struct index *); /* never NULL */
/* Open, of this family, and of the generation that the index's offsets mean. */
bool cache_ready(struct index *);
void cache_forget(struct index_cache *);      /* closes the file */
void cache_delete(struct index *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint32_t cache_reset_id(const struct index *);
uint32_t cache_offset(const struct index *, uint32_t uid); /* 0 = nothing */
bool cache_load_fields(struct index *);       /* reads the newest field header */
enum os_lock cache_lock(struct index *);      /* tries; the file is the current one then */
void cache_unlock(struct index *);
/* Bytes of the file, borrowed as long as cache_moves stays what it is; at == NULL: not that many there. */
extern uint64_t cache_moves;
struct slice cache_bytes(struct index *, uint32_t offset, uint32_t size);
void cache_bytes_drop(const struct index_cache *);
void cache_free_fields(struct index_cache *);
int cache_number(struct index_cache *, unsigned field); /* in the file; -1 */
void cache_map_fields(struct index_cache *);
/* A whole field header, unpadded. */
void cache_emit_fields(const struct cache_field *, uint32_t count, struct buffer *out);

/* One record of a chain. */
struct cache_record {
    uint32_t prev;
    struct slice body;
};
bool cache_record_get(struct index *, uint32_t offset, struct cache_record *);
/* 1: a field; 0: the end; -1: broken (reported). */
int cache_record_rest(struct index *, struct slice *rest, uint32_t *number, struct slice *value);

/* The same; what is usual stands here, since a FETCH of many messages goes through ten values for each. */
static inline int cache_record_next(struct index *index, struct slice *rest, uint32_t *number, struct slice *value)
{
    const struct index_cache *c = index->cache;
    size_t size, at = 4;

    if (rest->size < 8 || (*number = bytes_le32(rest->at)) >= c->field_count)
        return cache_record_rest(index, rest, number, value);
    size = c->fields[*number].size;
    if (size == CACHE_VARIABLE) {
        size = bytes_le32(rest->at + 4);
        at = 8;
    }
    if (size > rest->size - at)
        return cache_record_rest(index, rest, number, value);
    *value = slice_of(rest->at + at, size);
    *rest = slice_from(*rest, at + ((size + 3) & ~(size_t)3));
    return 1;
}

/* ---- cache_read.c ---- */
void cache_message_drop(const struct index_cache *); /* forgets what it keeps of this file's last message */

/* ---- cache_policy.c ---- */
struct cache_policy *cache_policy_first(struct index *, unsigned field);
/* NULL: not a field that is kept. */
static inline struct cache_policy *cache_policy_of(struct index *index, unsigned field)
{
    const struct index_cache *c = index->cache;

    return c != NULL && field < c->policy_count && c->policy[field].known ? &c->policy[field] : cache_policy_first(index, field);
}
/* Somebody asked for these, and found them or not; decides what is kept from now on. */
void cache_asked(struct index *, uint32_t uid, const unsigned *fields, const struct slice *found, size_t count);
void cache_added(struct index *, unsigned field); /* a value is being kept: that is a use, too */
bool cache_is_old(const struct index *, uint32_t uid); /* before day_first_uid[7] */
void cache_policy_from_file(struct index *);
void cache_policy_write(struct index *);               /* under the cache lock */

/* ---- cache_write.c ---- */
/* Makes sure under the log lock that a file of the index's generation exists; may append a transaction. */
bool cache_prepare(struct index *);
void cache_drop_queue(struct index_cache *);           /* what has not been written is forgotten */

#endif
