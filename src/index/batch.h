/* A batch as values: what batch.c collects and batch_encode.c turns into log records. */
#ifndef YARILO_INDEX_BATCH_H
#define YARILO_INDEX_BATCH_H

#include "index/index_backend.h"

/* A growing array whose memory belongs to the arena. */
#define LIST(type) struct { type *at; size_t count, room; }
#define LIST_PUSH(arena, list, value) \
    (((list)->count == (list)->room \
          ? (void)((list)->at = batch_grow((arena), (list)->at, &(list)->room, sizeof(*(list)->at))) \
          : (void)0), \
     (list)->at[(list)->count++] = (value))
void *batch_grow(struct arena *, void *at, size_t *room, size_t size);

struct ext_value {
    unsigned ext;
    struct slice bytes;
};

struct index_append {
    uint32_t uid;           /* given, or set at commit */
    bool uid_given;
    uint8_t flags;
    uint64_t modseq;
    LIST(struct slice) keywords;
    LIST(struct ext_value) exts;
    LIST(struct cache_value) cached;
};

struct flag_op {
    uint32_t first, last;
    uint8_t add, remove;
    bool modseq;            /* a new modseq whatever the flags are: private ones changed (private.c) */
};

struct keyword_op {
    uint32_t first, last;
    enum index_modify modify;
    const struct slice *names;
    size_t count;
};

struct expunge_op {
    uint32_t uid;
    unsigned char guid[16];
    bool carried_out;                     /* there need be no record */
};

struct modseq_op {
    uint32_t uid;
    uint64_t modseq;
};

struct attribute_op {
    bool set, shared;
    struct slice name;
    uint32_t stamp, size;
};

struct ext_header_op {
    uint32_t offset;
    struct slice bytes;
};

struct ext_record_op {
    uint32_t uid;
    struct slice bytes;     /* of the definition's record size */
};

struct ext_inc_op {
    uint32_t uid;
    int32_t diff;
};

/* Everything that a batch does to one extension. */
struct ext_ops {
    unsigned ext;
    bool resize, reset, preserve;
    uint32_t header_size, reset_id;
    LIST(struct ext_header_op) headers;
    LIST(struct ext_record_op) records;
    LIST(struct ext_inc_op) incs;
};

/* Bytes of the base header to write, with a mask. */
struct header_ops {
    unsigned char bytes[BASE_HEADER_SIZE], mask[BASE_HEADER_SIZE];
    bool any;
};

struct index_batch {
    struct arena *arena;
    enum index_origin origin;
    bool dsync, durable, deleted, undeleted, enable_modseq, clear_fscked;
    uint32_t view;
    bool silent;
    bool unchanged_since_set;
    uint64_t unchanged_since;
    LIST(struct index_append *) appends;
    LIST(struct flag_op) flags;
    LIST(struct keyword_op) keywords;
    LIST(struct expunge_op) expunges;
    LIST(struct modseq_op) modseqs;
    LIST(struct attribute_op) attributes;
    LIST(struct ext_ops) exts;
    struct header_ops pre, post;
    uint32_t next_uid, first_recent;      /* wanted; 0 = no */
    const struct index_requests *done;
};

#endif
