/* batch_keyword.c - keyword changes of a batch as log records (index-format 4.4): per keyword first what is added, then
 * what is removed, known keywords in order of their bits.
 *
 * Names come from clients and may be many: they are kept sorted, and a message's place in ranges is searched. */
#include "index/batch_encode.h"

#include <stdlib.h>

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
        if (!encode_may_change(c, i) || !changes_message(c, op, &named, all, i))
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
    encode_begin(c, LOG_KEYWORD);
    buffer_append_byte(c->out, modify);
    buffer_append_byte(c->out, 0);
    encode_u16(c, (uint16_t)name.size);
    buffer_append_slice(c->out, name);
    encode_pad4(c);
    for (size_t i = 0; i < r->count; i++) {
        encode_u32(c, r->at[i].first);
        encode_u32(c, r->at[i].last);
    }
    encode_end(c);
}

void encode_keywords(struct encoder *c)
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
