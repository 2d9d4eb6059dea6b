/* batch.c - collecting changes as values. Nothing here looks at the state: that is the commit's business, under the
 * lock, when it is known what the others have done meanwhile. */
#include "index/batch.h"

void *batch_grow(struct arena *arena, void *at, size_t *room, size_t size)
{
    size_t more = *room == 0 ? 4 : *room * 2;
    void *new = arena_array(arena, more, size);

    if (*room > 0)
        memcpy(new, at, *room * size);
    *room = more;
    return new;
}

struct index_batch *index_batch_new(struct arena *arena, enum index_origin origin)
{
    struct index_batch *b = ARENA_NEW(arena, struct index_batch);

    b->arena = arena;
    b->origin = origin;
    return b;
}

bool index_batch_empty(const struct index_batch *b)
{
    return b->appends.count == 0 && b->flags.count == 0 && b->keywords.count == 0 && b->expunges.count == 0 &&
           b->modseqs.count == 0 && b->attributes.count == 0 && b->exts.count == 0 && !b->pre.any && !b->post.any &&
           b->next_uid == 0 && b->first_recent == 0 && b->done == NULL && !b->deleted && !b->undeleted &&
           !b->enable_modseq && !b->clear_fscked;
}

void index_batch_each(const struct index_batch *b, void (*each)(void *arg, const struct index_batch_part *), void *arg)
{
    for (size_t i = 0; i < b->flags.count; i++) {
        const struct flag_op *op = &b->flags.at[i];

        each(arg, &(struct index_batch_part){
                      .kind = INDEX_PART_FLAGS, .first = op->first, .last = op->last, .add = op->add, .remove = op->remove});
    }
    for (size_t i = 0; i < b->keywords.count; i++) {
        const struct keyword_op *op = &b->keywords.at[i];

        each(arg, &(struct index_batch_part){.kind = INDEX_PART_KEYWORDS, .first = op->first, .last = op->last, .modify = op->modify,
                                             .names = op->names, .count = op->count});
    }
    for (size_t i = 0; i < b->expunges.count; i++)
        each(arg, &(struct index_batch_part){
                      .kind = INDEX_PART_EXPUNGE, .first = b->expunges.at[i].uid, .last = b->expunges.at[i].uid});
}

/* ---- appends ------------------------------------------------------------------------------------------------------ */

struct index_append *index_batch_append(struct index_batch *b, uint32_t uid, uint8_t flags)
{
    struct index_append *a = ARENA_NEW(b->arena, struct index_append);

    a->uid = uid;
    a->uid_given = uid != 0;
    a->flags = flags;
    LIST_PUSH(b->arena, &b->appends, a);
    return a;
}

void index_append_keyword(struct index_batch *b, struct index_append *a, struct slice name)
{
    LIST_PUSH(b->arena, &a->keywords, arena_slice(b->arena, name));
}

void index_append_ext(struct index_batch *b, struct index_append *a, unsigned ext, struct slice record)
{
    LIST_PUSH(b->arena, &a->exts, ((struct ext_value){ext, arena_slice(b->arena, record)}));
}

void index_append_cache(struct index_batch *b, struct index_append *a, unsigned field, struct slice value)
{
    LIST_PUSH(b->arena, &a->cached, ((struct cache_value){field, arena_slice(b->arena, value)}));
}

void index_append_modseq(struct index_batch *b, struct index_append *a, uint64_t modseq)
{
    (void)b;
    a->modseq = modseq;
}

/* ---- flags and keywords ------------------------------------------------------------------------------------------- */

void index_batch_flags_raw(struct index_batch *b, uint32_t first, uint32_t last, uint8_t add, uint8_t remove)
{
    /* 0x20 means nothing and must never be written (4.2) */
    LIST_PUSH(b->arena, &b->flags, ((struct flag_op){first, last, add & 0xdf, remove & 0xdf}));
}

void index_batch_flags(struct index_batch *b, uint32_t first, uint32_t last, enum index_modify modify, uint8_t flags)
{
    flags &= INDEX_FLAGS_CLIENT;
    switch (modify) {
    case INDEX_ADD:
        index_batch_flags_raw(b, first, last, flags, 0);
        break;
    case INDEX_REMOVE:
        index_batch_flags_raw(b, first, last, 0, flags);
        break;
    case INDEX_REPLACE:
        index_batch_flags_raw(b, first, last, flags, (uint8_t)(~flags & INDEX_FLAGS_CLIENT));
        break;
    }
}

void index_batch_keywords(struct index_batch *b, uint32_t first, uint32_t last, enum index_modify modify,
                          const struct slice *names, size_t count)
{
    struct slice *copy = ARENA_ARRAY(b->arena, struct slice, count);

    if (count == 0 && modify != INDEX_REPLACE)
        return;
    for (size_t i = 0; i < count; i++)
        copy[i] = arena_slice(b->arena, names[i]);
    LIST_PUSH(b->arena, &b->keywords, ((struct keyword_op){first, last, modify, copy, count}));
}

void index_batch_unchanged_since(struct index_batch *b, uint64_t modseq)
{
    b->unchanged_since_set = true;
    b->unchanged_since = modseq;
}

void index_batch_by(struct index_batch *b, struct index_view *view, bool silent)
{
    b->view = view->id;
    b->silent = silent;
}

void index_batch_sync_origin(struct index_batch *b)
{
    b->dsync = true;
}

/* ---- expunges, modseqs -------------------------------------------------------------------------------------------- */

void index_batch_expunge(struct index_batch *b, uint32_t uid, const unsigned char *guid)
{
    struct expunge_op op = {.uid = uid};

    if (guid != NULL)
        memcpy(op.guid, guid, sizeof(op.guid));
    LIST_PUSH(b->arena, &b->expunges, op);
}

void index_batch_carried_out(struct index_batch *b, uint32_t uid)
{
    LIST_PUSH(b->arena, &b->expunges, ((struct expunge_op){.uid = uid, .carried_out = true}));
}

void index_batch_modseq(struct index_batch *b, uint32_t uid, uint64_t modseq)
{
    LIST_PUSH(b->arena, &b->modseqs, ((struct modseq_op){uid, modseq}));
}

void index_batch_enable_modseq(struct index_batch *b)
{
    b->enable_modseq = true;
}

/* ---- headers ------------------------------------------------------------------------------------------------------ */

void index_batch_header(struct index_batch *b, uint16_t offset, struct slice bytes, bool prepend)
{
    struct header_ops *h = prepend ? &b->pre : &b->post;

    if (offset >= BASE_HEADER_SIZE)
        return;
    bytes = slice_head(bytes, (size_t)(BASE_HEADER_SIZE - offset));
    memcpy(h->bytes + offset, bytes.at, bytes.size);
    memset(h->mask + offset, 1, bytes.size);
    h->any = true;
}

static void header_u32(struct index_batch *b, uint16_t offset, uint32_t value, bool prepend)
{
    unsigned char bytes[4];

    bytes_put_le32(bytes, value);
    index_batch_header(b, offset, slice_of(bytes, 4), prepend);
}

void index_batch_uid_validity(struct index_batch *b, uint32_t value)
{
    header_u32(b, BASE_AT_UID_VALIDITY, value, true);
}

void index_batch_next_uid(struct index_batch *b, uint32_t value)
{
    if (value > b->next_uid)
        b->next_uid = value;
}

void index_batch_first_recent(struct index_batch *b, uint32_t value)
{
    if (value > b->first_recent)
        b->first_recent = value;
}

void index_batch_clear_fscked(struct index_batch *b)
{
    b->clear_fscked = true;
}

/* ---- extensions --------------------------------------------------------------------------------------------------- */

static struct ext_ops *ops_of(struct index_batch *b, unsigned ext)
{
    for (size_t i = 0; i < b->exts.count; i++) {
        if (b->exts.at[i].ext == ext)
            return &b->exts.at[i];
    }
    LIST_PUSH(b->arena, &b->exts, (struct ext_ops){.ext = ext});
    return &b->exts.at[b->exts.count - 1];
}

void index_batch_ext_resize(struct index_batch *b, unsigned ext, uint32_t header_size)
{
    struct ext_ops *o = ops_of(b, ext);

    o->resize = true;
    o->header_size = header_size;
}

void index_batch_ext_reset(struct index_batch *b, unsigned ext, uint32_t reset_id, bool preserve)
{
    struct ext_ops *o = ops_of(b, ext);

    o->reset = true;
    o->reset_id = reset_id;
    o->preserve = preserve;
}

void index_batch_ext_header(struct index_batch *b, unsigned ext, uint32_t offset, struct slice bytes)
{
    struct ext_ops *o = ops_of(b, ext);

    LIST_PUSH(b->arena, &o->headers, ((struct ext_header_op){offset, arena_slice(b->arena, bytes)}));
}

void index_batch_ext_record(struct index_batch *b, unsigned ext, uint32_t uid, struct slice record)
{
    struct ext_ops *o = ops_of(b, ext);

    LIST_PUSH(b->arena, &o->records, ((struct ext_record_op){uid, arena_slice(b->arena, record)}));
}

void index_batch_ext_inc(struct index_batch *b, unsigned ext, uint32_t uid, int32_t diff)
{
    struct ext_ops *o = ops_of(b, ext);

    LIST_PUSH(b->arena, &o->incs, ((struct ext_inc_op){uid, diff}));
}

/* ---- the rest ----------------------------------------------------------------------------------------------------- */

void index_batch_attribute(struct index_batch *b, bool set, bool shared, struct slice name, uint32_t stamp,
                           uint32_t value_size)
{
    LIST_PUSH(b->arena, &b->attributes,
              ((struct attribute_op){set, shared, arena_slice(b->arena, name), stamp, value_size}));
}

void index_batch_deleted(struct index_batch *b)
{
    b->deleted = true;
}

bool batch_undeletes(const struct index_batch *b)
{
    return b->undeleted;
}

void index_batch_undeleted(struct index_batch *b)
{
    b->undeleted = true;
}

void index_batch_durable(struct index_batch *b)
{
    b->durable = true;
}

void index_batch_done(struct index_batch *b, const struct index_requests *requests)
{
    b->done = requests;
}
