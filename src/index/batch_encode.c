/* batch_encode.c - a batch against the state of now becomes the bytes of one log transaction (index-format 3.4, 3.5).
 *
 * Called under the lock, after a refresh: UIDs are given here, messages that are gone are left out here, and what
 * UNCHANGEDSINCE forbids (RFC 7162 section 3.1.3). Nothing is written by this file but the cache records of new
 * messages, which are garbage if the log write fails, and harmless.
 *
 * The order of records is Dovecot's; every extension update has its introduction before it in the same transaction;
 * ranges of one record ascend. */
#include "index/batch_encode.h"

#include <stdlib.h>
#include <time.h>

enum { TRANSACTION_MAX = 256 * 1024 * 1024 };

/* ---- records ------------------------------------------------------------------------------------------------------ */

void encode_begin(struct encoder *c, uint32_t type)
{
    unsigned char head[8] = {0};

    c->record_at = c->out->size;
    bytes_put_le32(head + 4, type | c->type_bits);
    buffer_append(c->out, head, sizeof(head));
}

void encode_end(struct encoder *c)
{
    format_offset_put(c->out->at + c->record_at, (uint32_t)(c->out->size - c->record_at));
    c->records++;
}

void encode_u16(struct encoder *c, uint16_t v)
{
    unsigned char b[2];

    bytes_put_le16(b, v);
    buffer_append(c->out, b, 2);
}

void encode_u32(struct encoder *c, uint32_t v)
{
    unsigned char b[4];

    bytes_put_le32(b, v);
    buffer_append(c->out, b, 4);
}

void encode_pad4(struct encoder *c)
{
    static const unsigned char zeros[4];

    buffer_append(c->out, zeros, -(c->out->size - c->record_at) & 3);
}

/* ---- extensions --------------------------------------------------------------------------------------------------- */

static const struct ext_ops *find_ops(const struct encoder *c, unsigned ext)
{
    for (size_t i = 0; i < c->b->exts.count; i++) {
        if (c->b->exts.at[i].ext == ext)
            return &c->b->exts.at[i];
    }
    return NULL;
}

/* reset_id: of the data that the following updates are meant for. */
static void put_intro(struct encoder *c, unsigned ext, uint32_t reset_id, uint32_t header_size, bool exact)
{
    const struct index_ext_def *def = &c->index->known_exts.at[ext].def;
    const char *name = c->index->known_exts.at[ext].name;
    const struct ext_ops *o = find_ops(c, ext);
    int at = index_ext_position(c->index, ext);

    if (at >= 0 && c->s->exts[at].header_size > header_size && !exact)
        header_size = c->s->exts[at].header_size;
    /* What this batch has just resized keeps its size: a smaller one within the padding would be taken over (4.5). */
    if (o != NULL && o->resize && !exact)
        header_size = o->header_size;
    encode_begin(c, LOG_EXT_INTRO);
    encode_u32(c, at >= 0 ? (uint32_t)at : LOG_INTRO_BY_NAME);
    encode_u32(c, reset_id);
    encode_u32(c, header_size);
    encode_u16(c, def->record_size);
    encode_u16(c, def->record_align);
    encode_u16(c, exact ? 0 : LOG_INTRO_NO_SHRINK);
    encode_u16(c, at >= 0 ? 0 : (uint16_t)strlen(name));
    if (at < 0)
        buffer_append_str(c->out, name);
    encode_pad4(c);
    encode_end(c);
}

static uint32_t reset_id_now(const struct encoder *c, unsigned ext)
{
    int at = index_ext_position(c->index, ext);

    return at < 0 ? 0 : c->s->exts[at].reset_id;
}

/* The reset_id after the batch's own reset. */
static uint32_t reset_id_then(const struct encoder *c, unsigned ext)
{
    const struct ext_ops *o = find_ops(c, ext);

    return o != NULL && o->reset ? o->reset_id : reset_id_now(c, ext);
}

static void put_header_parts(struct encoder *c, const struct ext_ops *o)
{
    bool wide = false;

    for (size_t i = 0; i < o->headers.count; i++)
        wide |= o->headers.at[i].offset + o->headers.at[i].bytes.size >= 65536;
    encode_begin(c, wide ? LOG_EXT_HEADER32 : LOG_EXT_HEADER);
    for (size_t i = 0; i < o->headers.count; i++) {
        const struct ext_header_op *h = &o->headers.at[i];

        if (wide) {
            encode_u32(c, h->offset);
            encode_u32(c, (uint32_t)h->bytes.size);
        } else {
            encode_u16(c, (uint16_t)h->offset);
            encode_u16(c, (uint16_t)h->bytes.size);
        }
        buffer_append_slice(c->out, h->bytes);
        encode_pad4(c);
    }
    encode_end(c);
}

/* A modseq of a message has no place without the extension: readers would take the record for damage (4, 5). */
static bool names_modseqs(const struct index_batch *b)
{
    for (size_t i = 0; i < b->modseqs.count; i++)
        if (b->modseqs.at[i].uid != 0)
            return true;
    for (size_t i = 0; i < b->appends.count; i++)
        if (b->appends.at[i]->modseq != 0)
            return true;
    return false;
}

static void put_ext_headers(struct encoder *c)
{
    for (size_t i = 0; i < c->b->exts.count; i++) {
        const struct ext_ops *o = &c->b->exts.at[i];
        const struct index_ext_def *def = &c->index->known_exts.at[o->ext].def;
        bool new = index_ext_position(c->index, o->ext) < 0;

        if (!o->resize && !o->reset && o->headers.count == 0)
            continue;
        put_intro(c, o->ext, reset_id_now(c, o->ext), o->resize ? o->header_size : def->header_size,
                  o->resize || (new && def->shrink));
        if (o->reset) {
            encode_begin(c, LOG_EXT_RESET);
            encode_u32(c, o->reset_id);
            encode_u32(c, o->preserve ? 1 : 0);
            encode_end(c);
        }
        if (o->headers.count > 0)
            put_header_parts(c, o);
    }
    if ((c->b->enable_modseq || names_modseqs(c->b)) && c->s->ext_modseq < 0) {
        unsigned ext = index_ext(c->index, &(struct index_ext_def){"modseq", 16, 8, 8, false});
        uint64_t now = c->index->modseq > 0 ? c->index->modseq : 1;

        put_intro(c, ext, 0, 16, false);
        encode_begin(c, LOG_EXT_HEADER);
        encode_u16(c, 0);
        encode_u16(c, 16);
        encode_u32(c, (uint32_t)now);
        encode_u32(c, (uint32_t)(now >> 32));
        encode_u32(c, 0);
        encode_u32(c, 0);
        encode_end(c);
    }
}

static void put_ext_element(struct encoder *c, uint32_t uid, struct slice bytes, uint16_t size)
{
    static const unsigned char zeros[64];
    size_t missing = bytes.size < size ? size - bytes.size : 0;

    encode_u32(c, uid);
    buffer_append_slice(c->out, slice_head(bytes, size));
    for (; missing > 0; missing -= missing < sizeof(zeros) ? missing : sizeof(zeros))
        buffer_append(c->out, zeros, missing < sizeof(zeros) ? missing : sizeof(zeros));
    encode_pad4(c);
}

/* One introduction and one record for all updates of one extension: new messages first, then others. */
static void put_ext_records_of(struct encoder *c, unsigned ext)
{
    const struct index_ext_def *def = &c->index->known_exts.at[ext].def;
    const struct ext_ops *o = find_ops(c, ext);
    size_t count = 0;

    if (def->record_size == 0)
        return;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            if (count == 0)
                return;
            put_intro(c, ext, reset_id_then(c, ext), def->header_size, false);
            encode_begin(c, LOG_EXT_RECORD);
        }
        for (size_t i = 0; o != NULL && i < o->records.count; i++) {
            if (state_find(c->s, o->records.at[i].uid) < 0)
                continue;
            count++;
            if (pass == 1)
                put_ext_element(c, o->records.at[i].uid, o->records.at[i].bytes, def->record_size);
        }
        for (size_t a = 0; a < c->b->appends.count; a++) {
            const struct index_append *app = c->b->appends.at[a];

            for (size_t x = 0; x < app->exts.count; x++) {
                if (app->exts.at[x].ext != ext)
                    continue;
                count++;
                if (pass == 1)
                    put_ext_element(c, app->uid, app->exts.at[x].bytes, def->record_size);
            }
        }
    }
    encode_end(c);
}

static void put_cache_offsets(struct encoder *c)
{
    size_t n = 0;
    struct cache_new *new;
    uint32_t reset_id;
    unsigned ext;

    for (size_t a = 0; a < c->b->appends.count; a++)
        n += c->b->appends.at[a]->cached.count > 0;
    if (n == 0 || c->index->in_memory)
        return;
    new = ARENA_ARRAY(c->b->arena, struct cache_new, n);
    n = 0;
    for (size_t a = 0; a < c->b->appends.count; a++) {
        const struct index_append *app = c->b->appends.at[a];

        if (app->cached.count > 0)
            new[n++] = (struct cache_new){.uid = app->uid, .values = app->cached.at, .count = app->cached.count};
    }
    reset_id = cache_write(c->index, new, n);
    if (reset_id == 0)
        return;
    ext = cache_ext(c->index);
    put_intro(c, ext, reset_id, 0, false);
    encode_begin(c, LOG_EXT_RECORD);
    for (size_t i = 0; i < n; i++) {
        if (new[i].offset == 0)
            continue;
        encode_u32(c, new[i].uid);
        encode_u32(c, new[i].offset);
    }
    if (c->out->size == c->record_at + 8) { /* none fitted */
        c->out->size = c->record_at;
        return;
    }
    encode_end(c);
}

static void put_ext_records(struct encoder *c)
{
    size_t known = c->index->known_exts.count;

    for (unsigned ext = 0; ext < known; ext++)
        put_ext_records_of(c, ext);
    put_cache_offsets(c);
    for (size_t i = 0; i < c->b->exts.count; i++) {
        const struct ext_ops *o = &c->b->exts.at[i];

        if (o->incs.count == 0)
            continue;
        put_intro(c, o->ext, reset_id_then(c, o->ext), c->index->known_exts.at[o->ext].def.header_size, false);
        encode_begin(c, LOG_EXT_INC);
        for (size_t n = 0; n < o->incs.count; n++) {
            encode_u32(c, o->incs.at[n].uid);
            encode_u32(c, (uint32_t)o->incs.at[n].diff);
        }
        encode_end(c);
    }
}

/* ---- base header -------------------------------------------------------------------------------------------------- */

static void header_op_u32(struct header_ops *h, unsigned at, uint32_t value)
{
    bytes_put_le32(h->bytes + at, value);
    memset(h->mask + at, 1, 4);
    h->any = true;
}

static void put_header_ops(struct encoder *c, const struct header_ops *h)
{
    if (!h->any)
        return;
    encode_begin(c, LOG_HEADER);
    for (unsigned at = 0; at < BASE_HEADER_SIZE;) {
        unsigned end = at;

        while (end < BASE_HEADER_SIZE && h->mask[end])
            end++;
        if (end == at) {
            at++;
            continue;
        }
        encode_u16(c, (uint16_t)at);
        encode_u16(c, (uint16_t)(end - at));
        buffer_append(c->out, h->bytes + at, end - at);
        encode_pad4(c);
        at = end;
    }
    encode_end(c);
}

/* 7.7: for the ageing of cached fields. */
static void day_headers(const struct encoder *c, struct header_ops *post, uint32_t first_uid)
{
    uint32_t stamp = state_get(c->s, BASE_AT_DAY_STAMP), today, days, oldest, old[BASE_DAYS];
    time_t now = time(NULL);
    struct tm tm;

    if (localtime_r(&now, &tm) == NULL)
        return;
    tm.tm_sec = tm.tm_min = tm.tm_hour = 0;
    tm.tm_isdst = -1;
    today = (uint32_t)mktime(&tm);
    if (stamp >= today)
        return;
    days = (today - stamp) / 86400;
    if (days > BASE_DAYS)
        days = BASE_DAYS;
    for (unsigned i = 0; i < BASE_DAYS; i++)
        old[i] = state_get(c->s, BASE_AT_DAY_FIRST + 4 * i);
    oldest = old[0];
    for (unsigned i = BASE_DAYS; i-- > 0;) {
        uint32_t value = i == 0 ? first_uid : i < days ? oldest : i >= days && days > 0 ? old[i - days] : old[i];

        header_op_u32(post, BASE_AT_DAY_FIRST + 4 * i, value);
    }
    header_op_u32(post, BASE_AT_DAY_STAMP, today);
}

/* ---- messages ----------------------------------------------------------------------------------------------------- */

static int give_uids(struct encoder *c, struct index_commit *out, struct error *e)
{
    uint32_t next = state_get(c->s, BASE_AT_NEXT_UID);

    if (c->b->next_uid > next)
        next = c->b->next_uid;
    for (size_t i = 0; i < c->b->appends.count; i++) {
        struct index_append *a = c->b->appends.at[i];

        if (!a->uid_given)
            a->uid = next;
        if (a->uid < next)
            return error_set(e, ERROR_INVALID, "%s/%s: Append with UID %u, but next_uid = %u", c->index->path,
                             c->index->prefix, a->uid, next);
        if (a->uid >= UINT32_MAX - 1)
            return error_set(e, ERROR_LIMIT, "%s/%s: all UIDs are used up", c->index->path, c->index->prefix);
        next = a->uid + 1;
    }
    if (c->b->appends.count > 0) {
        out->first_uid = c->b->appends.at[0]->uid;
        out->last_uid = next - 1;
    }
    return 0;
}

static void put_appends(struct encoder *c)
{
    if (c->b->appends.count == 0)
        return;
    encode_begin(c, LOG_APPEND);
    for (size_t i = 0; i < c->b->appends.count; i++) {
        encode_u32(c, c->b->appends.at[i]->uid);
        encode_u32(c, c->b->appends.at[i]->flags & 0xdf);
    }
    encode_end(c);
}

/* May the batch change this message (UNCHANGEDSINCE)? */
bool encode_may_change(struct encoder *c, uint32_t i)
{
    uint64_t modseq;

    if (!c->b->unchanged_since_set)
        return true;
    modseq = state_modseq(c->s, i);
    if (modseq == 0) {
        struct index_record r;

        modseq = index_get_at(c->index, i + 1, &r) ? r.modseq : 0;
    }
    if (modseq <= c->b->unchanged_since)
        return true;
    index_ranges_add(&c->failed, state_uid(c->s, i), state_uid(c->s, i));
    return false;
}

static void put_flag_element(struct encoder *c, const struct flag_op *op, uint32_t first, uint32_t last, uint32_t *prev)
{
    if (*prev >= first && *prev != 0) { /* not ascending: a record of its own */
        encode_end(c);
        *prev = 0;
    }
    if (*prev == 0)
        encode_begin(c, LOG_FLAGS);
    encode_u32(c, first);
    encode_u32(c, last);
    buffer_append_byte(c->out, op->add);
    buffer_append_byte(c->out, op->remove);
    buffer_append_byte(c->out, op->modseq);
    buffer_append_byte(c->out, 0);
    *prev = last;
}

/* What changes nothing is left out, as Dovecot does: a STORE of what is there already has no record and no modseq.
 * Only the state before the batch is known here, so an operation that may overlap an earlier one keeps its range. */
static void put_flags(struct encoder *c)
{
    uint32_t prev = 0, reached = 0;

    for (size_t n = 0; n < c->b->flags.count; n++) {
        const struct flag_op *op = &c->b->flags.at[n];
        bool apart = n == 0 || op->first > reached;
        uint32_t first = 0, last = 0;

        for (uint32_t i = state_lower(c->s, op->first); i < c->s->count && state_uid(c->s, i) <= op->last; i++) {
            uint8_t old = state_record(c->s, i)[4];
            uint32_t uid = state_uid(c->s, i);

            if (!encode_may_change(c, i) || (apart && !op->modseq && ((old & ~op->remove) | op->add) == old))
                continue;
            if (first != 0 && uid != last + 1) {
                put_flag_element(c, op, first, last, &prev);
                first = 0;
            }
            if (first == 0)
                first = uid;
            last = uid;
        }
        if (first != 0)
            put_flag_element(c, op, first, last, &prev);
        if (op->last > reached)
            reached = op->last;
    }
    if (prev != 0)
        encode_end(c);
}

/* ---- the rest ----------------------------------------------------------------------------------------------------- */

static void put_attributes(struct encoder *c)
{
    size_t n = c->b->attributes.count;

    if (n == 0)
        return;
    encode_begin(c, LOG_ATTRIBUTE);
    for (size_t i = 0; i < n; i++) {
        const struct attribute_op *a = &c->b->attributes.at[i];

        buffer_append_byte(c->out, a->set ? '+' : '-');
        buffer_append_byte(c->out, a->shared ? 's' : 'p');
        buffer_append_slice(c->out, a->name);
        buffer_append_byte(c->out, 0);
    }
    buffer_append_byte(c->out, 0);
    encode_pad4(c);
    for (size_t i = 0; i < n; i++) {
        encode_u32(c, c->b->attributes.at[i].stamp);
        if (c->b->attributes.at[i].set)
            encode_u32(c, c->b->attributes.at[i].size);
    }
    encode_end(c);
}

static void put_modseqs(struct encoder *c)
{
    bool open = false;

    for (size_t i = 0; i < c->b->modseqs.count + c->b->appends.count; i++) {
        struct modseq_op op;

        if (i < c->b->modseqs.count) {
            op = c->b->modseqs.at[i];
        } else {
            const struct index_append *a = c->b->appends.at[i - c->b->modseqs.count];

            if (a->modseq == 0)
                continue;
            op = (struct modseq_op){a->uid, a->modseq};
        }
        if (!open)
            encode_begin(c, LOG_MODSEQ);
        open = true;
        encode_u32(c, op.uid);
        encode_u32(c, (uint32_t)op.modseq);
        encode_u32(c, (uint32_t)(op.modseq >> 32));
    }
    if (open)
        encode_end(c);
}

static int compare_expunges(const void *a, const void *b)
{
    const struct expunge_op *x = a, *y = b;

    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static void put_expunges(struct encoder *c)
{
    uint32_t prev = 0;
    bool open = false;

    if (c->b->expunges.count > 1)
        qsort(c->b->expunges.at, c->b->expunges.count, sizeof(*c->b->expunges.at), compare_expunges);
    for (size_t i = 0; i < c->b->expunges.count; i++) {
        const struct expunge_op *op = &c->b->expunges.at[i];

        if (op->uid == prev || (state_find(c->s, op->uid) < 0 && !op->carried_out))
            continue;
        if (!open)
            encode_begin(c, LOG_EXPUNGE_GUID);
        open = true;
        encode_u32(c, op->uid);
        buffer_append(c->out, op->guid, sizeof(op->guid));
        prev = op->uid;
    }
    if (open)
        encode_end(c);
}

static void put_single(struct encoder *c, uint32_t type)
{
    encode_begin(c, type);
    encode_u32(c, 0);
    encode_end(c);
}

/* Outside of the boundary, counting itself (7.5). */
static void put_tail(struct encoder *c, uint64_t at, size_t start)
{
    const struct index_requests *done = c->b->done;
    uint64_t value;

    if (done == NULL || c->index->in_memory)
        return;
    if (!done->tail_needed)
        return;
    value = at + (c->out->size - start) + LOG_TAIL_UPDATE_SIZE;
    if (done->head_seq != c->index->log.h.file_seq)
        return; /* the log was rotated since: the tail is where the new one says */
    if (c->index->log.request_end > done->head_offset)
        value = done->head_offset; /* something else has been asked for since they were collected */
    c->type_bits = LOG_EXTERNAL;
    encode_begin(c, LOG_HEADER);
    encode_u16(c, BASE_AT_LOG_TAIL);
    encode_u16(c, 4);
    encode_u32(c, (uint32_t)value);
    encode_end(c);
}

static void header_wishes(struct encoder *c, struct header_ops *pre, struct header_ops *post)
{
    const struct index_batch *b = c->b;

    if (b->next_uid > state_get(c->s, BASE_AT_NEXT_UID))
        header_op_u32(pre, BASE_AT_NEXT_UID, b->next_uid);
    if (b->first_recent > state_get(c->s, BASE_AT_FIRST_RECENT))
        header_op_u32(post, BASE_AT_FIRST_RECENT, b->first_recent);
    if (pre->mask[BASE_AT_UID_VALIDITY] && state_get(c->s, BASE_AT_UID_VALIDITY) == 0 &&
        state_get(c->s, BASE_AT_LOG2_TIME) == 0 && c->index->log.h.prev_file_seq == 0)
        header_op_u32(pre, BASE_AT_LOG2_TIME, UINT32_MAX); /* a new family has no .log.2 (7.3) */
    if (b->clear_fscked && (state_get(c->s, BASE_AT_FLAGS) & BASE_FLAG_FSCKED) != 0)
        header_op_u32(pre, BASE_AT_FLAGS, state_get(c->s, BASE_AT_FLAGS) & ~(uint32_t)BASE_FLAG_FSCKED);
    if (b->appends.count > 0)
        day_headers(c, post, b->appends.at[0]->uid);
}

static void take_failed(struct encoder *c, struct index_commit *out)
{
    size_t n = c->failed.count;

    if (n > 0) {
        out->failed.at = arena_copy(c->b->arena, c->failed.at, n * sizeof(*c->failed.at));
        out->failed.count = out->failed.room = n;
    }
    index_ranges_free(&c->failed);
}

int batch_encode(struct index *index, struct index_batch *b, uint64_t at, struct buffer *out,
                 struct index_commit *commit, struct error *e)
{
    struct encoder c = {.index = index, .s = &index->state, .b = b, .out = out};
    struct header_ops pre = b->pre, post = b->post;
    size_t start = out->size;
    unsigned char boundary[LOG_BOUNDARY_SIZE] = {0};

    c.type_bits = (b->origin == INDEX_EXTERNAL ? LOG_EXTERNAL : 0) | (b->dsync ? LOG_SYNC : 0);
    if (give_uids(&c, commit, e) < 0)
        return -1;
    header_wishes(&c, &pre, &post);
    buffer_append(out, boundary, sizeof(boundary));
    if (b->undeleted)
        put_single(&c, LOG_UNDELETED);
    put_ext_headers(&c);
    put_header_ops(&c, &pre);
    put_attributes(&c);
    put_appends(&c);
    put_flags(&c);
    put_ext_records(&c);
    encode_keywords(&c);
    put_modseqs(&c);
    put_expunges(&c);
    put_header_ops(&c, &post);
    if (b->deleted)
        put_single(&c, LOG_DELETED);
    take_failed(&c, commit);
    if (c.records < 2) {
        buffer_splice(out, start, sizeof(boundary), SLICE_EMPTY);
    } else {
        format_offset_put(boundary, LOG_BOUNDARY_SIZE);
        bytes_put_le32(boundary + 4, LOG_BOUNDARY | LOG_EXTERNAL);
        bytes_put_le32(boundary + 8, (uint32_t)(out->size - start));
        memcpy(out->at + start, boundary, sizeof(boundary));
    }
    put_tail(&c, at, start);
    if (out->size - start > TRANSACTION_MAX || at + out->size > UINT32_MAX)
        return error_set(e, ERROR_LIMIT, "%s/%s: transaction is too large", index->path, index->prefix);
    return 0;
}

bool batch_has_cached(const struct index_batch *b)
{
    for (size_t i = 0; i < b->appends.count; i++) {
        if (b->appends.at[i]->cached.count > 0)
            return true;
    }
    return false;
}

bool batch_wants_sync(const struct index *index, const struct index_batch *b)
{
    switch (index->set.fsync) {
    case INDEX_FSYNC_NEVER:
        return false;
    case INDEX_FSYNC_ALWAYS:
        return true;
    case INDEX_FSYNC_OPTIMIZED:
        break;
    }
    return b->durable || (index->set.sync_appends &&
                          (b->appends.count > 0 || (b->origin == INDEX_EXTERNAL && b->expunges.count > 0)));
}

uint32_t batch_expunged_cached(const struct index *index, const struct index_batch *b)
{
    int ext = index->state.ext_cache;
    uint32_t n = 0;

    if (ext < 0 || b->origin != INDEX_EXTERNAL || index->state.exts[ext].record_size != 4)
        return 0;
    for (size_t i = 0; i < b->expunges.count; i++) {
        int64_t at = state_find(&index->state, b->expunges.at[i].uid);

        if (at >= 0 && bytes_le32(state_record(&index->state, (uint32_t)at) + index->state.exts[ext].record_offset) != 0)
            n++;
    }
    return n;
}

int batch_apply(struct index *index, struct index_batch *b, struct slice bytes, uint64_t at, struct error *e)
{
    struct log_walk walk = {.bytes = bytes, .base = at};
    struct log_record r;
    enum log_scan scan;
    uint32_t bad;

    index->commit_view = b->view;
    index->commit_silent = b->silent;
    state_apply_begin(&index->state);
    while ((scan = format_log_next(&walk, &r)) == LOG_SCAN_RECORD) {
        index->modseq = format_modseq_after(&r, index->modseq, LOG_MINOR);
        state_apply(&index->state, &r, index->modseq);
        if (requests_is(&r))
            index->log.request_end = r.offset + r.size;
        if (!format_tail_after(&r, &index->log.tail_last, &index->log.tail, &bad)) {
            scan = LOG_SCAN_BROKEN;
            break;
        }
    }
    state_apply_end(&index->state);
    index->commit_view = 0;
    index->commit_silent = false;
    index->generation++;
    if (scan == LOG_SCAN_BROKEN || walk.at != bytes.size)
        return error_set(e, ERROR_BUG, "%s/%s: our own transaction is not valid at %zu of %zu: %s", index->path,
                         index->prefix, walk.at, bytes.size, walk.why);
    return 0;
}
