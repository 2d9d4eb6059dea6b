/* batch_encode.c - a batch against the state of now becomes the bytes of one log transaction (index-format 3.4, 3.5).
 *
 * Called under the lock, after a refresh: UIDs are given here, messages that are gone are left out here, and what
 * UNCHANGEDSINCE forbids (RFC 7162 section 3.1.3). Nothing is written by this file but the cache records of new
 * messages, which are garbage if the log write fails, and harmless.
 *
 * The order of records is Dovecot's; every extension update has its introduction before it in the same transaction;
 * ranges of one record ascend. */
#include "index/batch.h"

#include <stdlib.h>
#include <time.h>

enum { TRANSACTION_MAX = 256 * 1024 * 1024 };

struct encoder {
    struct index *index;
    struct state *s;
    struct index_batch *b;
    struct buffer *out;
    uint32_t type_bits;     /* EXTERNAL, SYNC */
    unsigned records;
    size_t record_at;       /* where the open record begins */
    struct index_ranges failed;
};

/* ---- records ------------------------------------------------------------------------------------------------------ */

static void begin_record(struct encoder *c, uint32_t type)
{
    unsigned char head[8] = {0};

    c->record_at = c->out->size;
    bytes_put_le32(head + 4, type | c->type_bits);
    buffer_append(c->out, head, sizeof(head));
}

static void end_record(struct encoder *c)
{
    format_offset_put(c->out->at + c->record_at, (uint32_t)(c->out->size - c->record_at));
    c->records++;
}

static void put16(struct encoder *c, uint16_t v)
{
    unsigned char b[2];

    bytes_put_le16(b, v);
    buffer_append(c->out, b, 2);
}

static void put32(struct encoder *c, uint32_t v)
{
    unsigned char b[4];

    bytes_put_le32(b, v);
    buffer_append(c->out, b, 4);
}

static void put_pad4(struct encoder *c)
{
    static const unsigned char zeros[4];

    buffer_append(c->out, zeros, -(c->out->size - c->record_at) & 3);
}

/* ---- extensions --------------------------------------------------------------------------------------------------- */

/* reset_id: of the data that the following updates are meant for. */
static void put_intro(struct encoder *c, unsigned ext, uint32_t reset_id, uint32_t header_size, bool exact)
{
    const struct index_ext_def *def = &c->index->known_exts.at[ext].def;
    const char *name = c->index->known_exts.at[ext].name;
    int at = index_ext_position(c->index, ext);

    if (at >= 0 && c->s->exts[at].header_size > header_size && !exact)
        header_size = c->s->exts[at].header_size;
    begin_record(c, LOG_EXT_INTRO);
    put32(c, at >= 0 ? (uint32_t)at : LOG_INTRO_BY_NAME);
    put32(c, reset_id);
    put32(c, header_size);
    put16(c, def->record_size);
    put16(c, def->record_align);
    put16(c, exact ? 0 : LOG_INTRO_NO_SHRINK);
    put16(c, at >= 0 ? 0 : (uint16_t)strlen(name));
    if (at < 0)
        buffer_append_str(c->out, name);
    put_pad4(c);
    end_record(c);
}

static uint32_t reset_id_now(const struct encoder *c, unsigned ext)
{
    int at = index_ext_position(c->index, ext);

    return at < 0 ? 0 : c->s->exts[at].reset_id;
}

static const struct ext_ops *find_ops(const struct encoder *c, unsigned ext)
{
    for (size_t i = 0; i < c->b->exts.count; i++) {
        if (c->b->exts.at[i].ext == ext)
            return &c->b->exts.at[i];
    }
    return NULL;
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
    begin_record(c, wide ? LOG_EXT_HEADER32 : LOG_EXT_HEADER);
    for (size_t i = 0; i < o->headers.count; i++) {
        const struct ext_header_op *h = &o->headers.at[i];

        if (wide) {
            put32(c, h->offset);
            put32(c, (uint32_t)h->bytes.size);
        } else {
            put16(c, (uint16_t)h->offset);
            put16(c, (uint16_t)h->bytes.size);
        }
        buffer_append_slice(c->out, h->bytes);
        put_pad4(c);
    }
    end_record(c);
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
            begin_record(c, LOG_EXT_RESET);
            put32(c, o->reset_id);
            put32(c, o->preserve ? 1 : 0);
            end_record(c);
        }
        if (o->headers.count > 0)
            put_header_parts(c, o);
    }
    if (c->b->enable_modseq && c->s->ext_modseq < 0) {
        unsigned ext = index_ext(c->index, &(struct index_ext_def){"modseq", 16, 8, 8, false});
        uint64_t now = c->index->modseq > 0 ? c->index->modseq : 1;

        put_intro(c, ext, 0, 16, false);
        begin_record(c, LOG_EXT_HEADER);
        put16(c, 0);
        put16(c, 16);
        put32(c, (uint32_t)now);
        put32(c, (uint32_t)(now >> 32));
        put32(c, 0);
        put32(c, 0);
        end_record(c);
    }
}

static void put_ext_element(struct encoder *c, uint32_t uid, struct slice bytes, uint16_t size)
{
    static const unsigned char zeros[64];
    size_t missing = bytes.size < size ? size - bytes.size : 0;

    put32(c, uid);
    buffer_append_slice(c->out, slice_head(bytes, size));
    for (; missing > 0; missing -= missing < sizeof(zeros) ? missing : sizeof(zeros))
        buffer_append(c->out, zeros, missing < sizeof(zeros) ? missing : sizeof(zeros));
    put_pad4(c);
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
            begin_record(c, LOG_EXT_RECORD);
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
    end_record(c);
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
    begin_record(c, LOG_EXT_RECORD);
    for (size_t i = 0; i < n; i++) {
        if (new[i].offset == 0)
            continue;
        put32(c, new[i].uid);
        put32(c, new[i].offset);
    }
    if (c->out->size == c->record_at + 8) { /* none fitted */
        c->out->size = c->record_at;
        return;
    }
    end_record(c);
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
        begin_record(c, LOG_EXT_INC);
        for (size_t n = 0; n < o->incs.count; n++) {
            put32(c, o->incs.at[n].uid);
            put32(c, (uint32_t)o->incs.at[n].diff);
        }
        end_record(c);
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
    begin_record(c, LOG_HEADER);
    for (unsigned at = 0; at < BASE_HEADER_SIZE;) {
        unsigned end = at;

        while (end < BASE_HEADER_SIZE && h->mask[end])
            end++;
        if (end == at) {
            at++;
            continue;
        }
        put16(c, (uint16_t)at);
        put16(c, (uint16_t)(end - at));
        buffer_append(c->out, h->bytes + at, end - at);
        put_pad4(c);
        at = end;
    }
    end_record(c);
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
    begin_record(c, LOG_APPEND);
    for (size_t i = 0; i < c->b->appends.count; i++) {
        put32(c, c->b->appends.at[i]->uid);
        put32(c, c->b->appends.at[i]->flags & 0xdf);
    }
    end_record(c);
}

/* May the batch change this message (UNCHANGEDSINCE)? */
static bool may_change(struct encoder *c, uint32_t i)
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
        end_record(c);
        *prev = 0;
    }
    if (*prev == 0)
        begin_record(c, LOG_FLAGS);
    put32(c, first);
    put32(c, last);
    buffer_append_byte(c->out, op->add);
    buffer_append_byte(c->out, op->remove);
    buffer_append(c->out, "\0\0", 2);
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

            if (!may_change(c, i) || (apart && ((old & ~op->remove) | op->add) == old))
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
        end_record(c);
}

/* ---- keywords ----------------------------------------------------------------------------------------------------- */

/* What the batch does with one keyword. */
struct keyword_change {
    struct slice name;
    int bit;                       /* -1: not known yet */
    size_t number;                 /* order of appearance */
    bool named;                    /* by the operation at hand */
    struct index_ranges add, remove;
};

struct keyword_changes {
    struct keyword_change **at;    /* sorted by name without case */
    struct keyword_change **order; /* in order of appearance */
    size_t count, room;
};

static int compare_names(struct slice a, struct slice b)
{
    size_t n = a.size < b.size ? a.size : b.size;

    for (size_t i = 0; i < n; i++) {
        int x = text_lower((char)a.at[i]), y = text_lower((char)b.at[i]);

        if (x != y)
            return x - y;
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

static struct keyword_change *change_of(struct encoder *c, struct keyword_changes *all, struct slice name)
{
    size_t low = 0, high = all->count;
    struct keyword_change *k;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = compare_names(all->at[mid]->name, name);

        if (order == 0)
            return all->at[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (all->count == all->room) {
        all->room = all->room == 0 ? 8 : all->room * 2;
        all->at = mem_realloc(all->at, all->room * sizeof(*all->at));
        all->order = mem_realloc(all->order, all->room * sizeof(*all->order));
    }
    k = ARENA_NEW(c->b->arena, struct keyword_change);
    k->name = name;
    k->bit = state_keyword_find(c->s, name);
    memmove(all->at + low + 1, all->at + low, (all->count - low) * sizeof(*all->at));
    all->at[low] = k;
    k->number = all->count;
    all->order[all->count++] = k;
    return k;
}

static void ranges_subtract(struct index_ranges *r, uint32_t uid)
{
    size_t i = 0, high = r->count;

    while (i < high) {
        size_t mid = i + (high - i) / 2;

        if (r->at[mid].last < uid)
            i = mid + 1;
        else
            high = mid;
    }
    if (i == r->count || r->at[i].first > uid)
        return;
    if (r->at[i].first == uid && r->at[i].last == uid) {
        memmove(r->at + i, r->at + i + 1, (r->count - i - 1) * sizeof(*r->at));
        r->count--;
    } else if (r->at[i].first == uid) {
        r->at[i].first++;
    } else if (r->at[i].last == uid) {
        r->at[i].last--;
    } else {
        struct index_range tail = {uid + 1, r->at[i].last};

        r->at[i].last = uid - 1;
        VEC_PUSH(r, tail);
        memmove(r->at + i + 2, r->at + i + 1, (r->count - i - 2) * sizeof(*r->at));
        r->at[i + 1] = tail;
    }
}

static bool has_bit(const struct state *s, uint32_t i, int bit)
{
    const struct state_ext *e;

    if (bit < 0 || s->ext_keywords < 0)
        return false;
    e = &s->exts[s->ext_keywords];
    return (unsigned)bit / 8 < e->record_size &&
           (state_record(s, i)[e->record_offset + bit / 8] & 1u << bit % 8) != 0;
}

/* With what the batch has done so far. */
static bool has_now(struct encoder *c, const struct keyword_change *k, uint32_t i)
{
    uint32_t uid = state_uid(c->s, i);

    if (k->add.count > 0 && index_ranges_has(&k->add, uid))
        return true;
    return has_bit(c->s, i, k->bit) && (k->remove.count == 0 || !index_ranges_has(&k->remove, uid));
}

static void change_bit(struct encoder *c, struct keyword_change *k, uint32_t i, bool add)
{
    uint32_t uid = state_uid(c->s, i);
    struct index_ranges *other = add ? &k->remove : &k->add;

    if (other->count > 0)
        ranges_subtract(other, uid);
    index_ranges_add(add ? &k->add : &k->remove, uid, uid);
}

struct keyword_list {
    struct keyword_change **at;
    size_t count;
};

/* Does the operation change anything about this message? Then all of its names are written for it, as Dovecot does;
 * the number of records decides about modseqs (5). */
static bool changes_message(struct encoder *c, const struct keyword_op *op, const struct keyword_list *named,
                            const struct keyword_changes *all, uint32_t i)
{
    for (size_t n = 0; n < named->count; n++) {
        if (has_now(c, named->at[n], i) == (op->modify == INDEX_REMOVE))
            return true;
    }
    for (size_t k = 0; op->modify == INDEX_REPLACE && k < all->count; k++) {
        if (!all->order[k]->named && has_now(c, all->order[k], i))
            return true;
    }
    return false;
}

static void collect_keyword_op(struct encoder *c, struct keyword_changes *all, const struct keyword_op *op)
{
    struct keyword_list named = {ARENA_ARRAY(c->b->arena, struct keyword_change *, op->count + 1), 0};

    for (size_t n = 0; n < op->count; n++) {
        struct keyword_change *k = change_of(c, all, op->names[n]);

        if (!k->named)
            named.at[named.count++] = k;
        k->named = true;
    }
    if (op->modify == INDEX_REPLACE) {
        for (unsigned k = 0; k < c->s->keyword_count; k++)
            change_of(c, all, slice_from_str(c->s->keywords[k]));
    }
    for (uint32_t i = state_lower(c->s, op->first); i < c->s->count && state_uid(c->s, i) <= op->last; i++) {
        if (!may_change(c, i) || !changes_message(c, op, &named, all, i))
            continue;
        for (size_t k = 0; op->modify == INDEX_REPLACE && k < all->count; k++) {
            if (!all->order[k]->named && has_now(c, all->order[k], i))
                change_bit(c, all->order[k], i, false);
        }
        for (size_t n = 0; n < named.count; n++)
            change_bit(c, named.at[n], i, op->modify != INDEX_REMOVE);
    }
    for (size_t n = 0; n < named.count; n++)
        named.at[n]->named = false;
}

/* Known keywords in order of their bits, then new ones as they appeared. */
static int compare_bits(const void *a, const void *b)
{
    const struct keyword_change *x = *(struct keyword_change *const *)a, *y = *(struct keyword_change *const *)b;

    if (x->bit != y->bit)
        return (unsigned)x->bit < (unsigned)y->bit ? -1 : 1; /* -1 goes last */
    return x->number < y->number ? -1 : x->number > y->number;
}

static void put_keyword_record(struct encoder *c, uint8_t modify, struct slice name, const struct index_ranges *r)
{
    if (r->count == 0)
        return;
    begin_record(c, LOG_KEYWORD);
    buffer_append_byte(c->out, modify);
    buffer_append_byte(c->out, 0);
    put16(c, (uint16_t)name.size);
    buffer_append_slice(c->out, name);
    put_pad4(c);
    for (size_t i = 0; i < r->count; i++) {
        put32(c, r->at[i].first);
        put32(c, r->at[i].last);
    }
    end_record(c);
}

static void put_keywords(struct encoder *c)
{
    struct keyword_changes all = {0};

    for (size_t i = 0; i < c->b->keywords.count; i++)
        collect_keyword_op(c, &all, &c->b->keywords.at[i]);
    for (size_t a = 0; a < c->b->appends.count; a++) {
        const struct index_append *app = c->b->appends.at[a];

        for (size_t n = 0; n < app->keywords.count; n++) {
            struct keyword_change *k = change_of(c, &all, app->keywords.at[n]);

            index_ranges_add(&k->add, app->uid, app->uid);
        }
    }
    if (all.count > 1)
        qsort(all.order, all.count, sizeof(struct keyword_change *), compare_bits);
    for (size_t i = 0; i < all.count; i++) {
        struct keyword_change *k = all.order[i];

        if (k->name.size > 0 && k->name.size <= UINT16_MAX && memchr(k->name.at, 0, k->name.size) == NULL) {
            put_keyword_record(c, 0, k->name, &k->add);
            put_keyword_record(c, 1, k->name, &k->remove);
        }
        index_ranges_free(&k->add);
        index_ranges_free(&k->remove);
    }
    mem_free(all.at);
    mem_free(all.order);
}

/* ---- the rest ----------------------------------------------------------------------------------------------------- */

static void put_attributes(struct encoder *c)
{
    size_t n = c->b->attributes.count;

    if (n == 0)
        return;
    begin_record(c, LOG_ATTRIBUTE);
    for (size_t i = 0; i < n; i++) {
        const struct attribute_op *a = &c->b->attributes.at[i];

        buffer_append_byte(c->out, a->set ? '+' : '-');
        buffer_append_byte(c->out, a->shared ? 's' : 'p');
        buffer_append_slice(c->out, a->name);
        buffer_append_byte(c->out, 0);
    }
    buffer_append_byte(c->out, 0);
    put_pad4(c);
    for (size_t i = 0; i < n; i++) {
        put32(c, c->b->attributes.at[i].stamp);
        if (c->b->attributes.at[i].set)
            put32(c, c->b->attributes.at[i].size);
    }
    end_record(c);
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
            begin_record(c, LOG_MODSEQ);
        open = true;
        put32(c, op.uid);
        put32(c, (uint32_t)op.modseq);
        put32(c, (uint32_t)(op.modseq >> 32));
    }
    if (open)
        end_record(c);
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

        if (op->uid == prev || state_find(c->s, op->uid) < 0)
            continue;
        if (!open)
            begin_record(c, LOG_EXPUNGE_GUID);
        open = true;
        put32(c, op->uid);
        buffer_append(c->out, op->guid, sizeof(op->guid));
        prev = op->uid;
    }
    if (open)
        end_record(c);
}

static void put_single(struct encoder *c, uint32_t type)
{
    begin_record(c, type);
    put32(c, 0);
    end_record(c);
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
    begin_record(c, LOG_HEADER);
    put16(c, BASE_AT_LOG_TAIL);
    put16(c, 4);
    put32(c, (uint32_t)value);
    end_record(c);
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
    put_keywords(&c);
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
    int ext = state_ext_find(&index->state, SLICE("cache"));
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
        if (!format_tail_after(&r, &index->log.tail_last, &index->log.tail, &bad))
            scan = LOG_SCAN_BROKEN;
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
