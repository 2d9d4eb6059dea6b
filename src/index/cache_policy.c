/* cache_policy.c - which fields are worth keeping (index-format 9.5).
 *
 * The configuration gives the first decision; use changes it: what is looked at once becomes temp, what is looked at
 * again for old mails becomes yes, what nobody has used for long is dropped by a purge (cache_purge.c). */
#include "index/cache.h"

#include <time.h>

enum { DAY = 86400 };

static bool list_has(const char *list, const char *name)
{
    struct slice rest = slice_from_str(list), word;

    while (rest.size > 0 && slice_split(&rest, ' ', &word)) {
        if (slice_equal_str_nocase(slice_trim(word), name))
            return true;
    }
    return false;
}

static uint8_t first_decision(const struct index *index, const char *name)
{
    if (list_has(index->never_cache_fields, name))
        return INDEX_CACHE_NO | INDEX_CACHE_FORCED;
    if (list_has(index->always_cache_fields, name))
        return INDEX_CACHE_YES | INDEX_CACHE_FORCED;
    return list_has(index->cache_fields, name) ? INDEX_CACHE_TEMP : INDEX_CACHE_NO;
}

struct cache_policy *cache_policy_first(struct index *index, unsigned field)
{
    struct index_cache *c = cache_of(index);
    unsigned n = cache_field_count();

    if (field >= n)
        return NULL;
    if (field >= c->policy_count) {
        c->policy = mem_realloc(c->policy, n * sizeof(*c->policy));
        memset(c->policy + c->policy_count, 0, (n - c->policy_count) * sizeof(*c->policy));
        c->policy_count = n;
    }
    if (!c->policy[field].known) {
        c->policy[field].known = true;
        c->policy[field].decision = first_decision(index, index_field_name(field));
    }
    return &c->policy[field];
}

void cache_policy_from_file(struct index *index)
{
    struct index_cache *c = index->cache;
    uint32_t stamp = state_get(&index->state, BASE_AT_DAY_STAMP), age = index->set.cache_unaccessed_drop_secs;

    c->drop_due = false;
    for (uint32_t i = 0; i < c->field_count; i++) {
        struct cache_field *f = &c->fields[i];
        struct cache_policy *p = cache_policy_of(index, f->global);

        /* 0: configured, and not used so far */
        if (stamp != 0 && f->decision != INDEX_CACHE_NO && f->last_used != 0 && f->last_used < stamp - 2 * age)
            c->drop_due = true;
        if (p == NULL || p->dirty)
            continue;
        if ((p->decision & INDEX_CACHE_FORCED) == 0)
            p->decision = f->decision;
        p->last_used = f->last_used;
    }
}

bool cache_is_old(const struct index *index, uint32_t uid)
{
    return uid < state_get(&index->state, BASE_AT_DAY_FIRST + 4 * (BASE_DAYS - 1));
}

static void mark_used(struct index *index, struct cache_policy *p, uint32_t now)
{
    if (p->last_used + DAY > now)
        return;
    p->last_used = now;
    p->dirty = true;
    index->cache->policy_dirty = true;
}

static void mark_decision(struct index *index, struct cache_policy *p, uint8_t decision, uint32_t now)
{
    p->decision = decision;
    p->last_used = now;
    p->dirty = true;
    index->cache->policy_dirty = true;
}

void cache_added(struct index *index, unsigned field)
{
    struct cache_policy *p = cache_policy_of(index, field);

    if (p != NULL && p->last_used == 0)
        mark_used(index, p, (uint32_t)time(NULL));
}

static void used(struct index *index, struct cache_policy *p, uint32_t uid, bool old, uint32_t now)
{
    bool again = uid < p->highwater || old;

    if (uid > p->highwater)
        p->highwater = uid;
    if ((p->decision & INDEX_CACHE_FORCED) != 0)
        return;
    if (p->decision == INDEX_CACHE_TEMP) {
        if (again)
            mark_decision(index, p, INDEX_CACHE_YES, now);
        else
            mark_used(index, p, now);
    } else if (p->decision == INDEX_CACHE_YES && again) {
        mark_used(index, p, now);
    }
}

void cache_asked(struct index *index, uint32_t uid, const unsigned *fields, const struct slice *found, size_t count)
{
    const uint32_t now = (uint32_t)time(NULL);
    const bool old = cache_is_old(index, uid);

    for (size_t i = 0; i < count; i++) {
        struct cache_policy *p = cache_policy_of(index, fields[i]);

        if (p == NULL)
            continue;
        if (found[i].at == NULL && p->decision == INDEX_CACHE_NO)
            mark_decision(index, p, INDEX_CACHE_TEMP, now);
        used(index, p, uid, old, now);
    }
}

/* Small mailboxes may be kept without a cache; of another that has one already it is used. */
static bool is_off(const struct index *index)
{
    return index->in_memory || index->read_only || index->state.count < index->set.cache_min_mails;
}

bool index_cache_want(struct index *index, unsigned field)
{
    struct cache_policy *p = is_off(index) ? NULL : cache_policy_of(index, field);

    if (p == NULL || p->decision == (INDEX_CACHE_NO | INDEX_CACHE_FORCED))
        return false;
    if (p->decision == INDEX_CACHE_NO)
        mark_decision(index, p, INDEX_CACHE_TEMP, (uint32_t)time(NULL));
    return true;
}

bool index_cache_allows(struct index *index, unsigned field)
{
    struct cache_policy *p = is_off(index) ? NULL : cache_policy_of(index, field);

    return p != NULL && p->decision != (INDEX_CACHE_NO | INDEX_CACHE_FORCED);
}

bool index_cache_wants(struct index *index, uint32_t uid, unsigned field)
{
    struct cache_policy *p;

    if (is_off(index) || (p = cache_policy_of(index, field)) == NULL)
        return false;
    switch (p->decision & 0x7f) {
    case INDEX_CACHE_YES:
        return true;
    case INDEX_CACHE_TEMP:
        return !cache_is_old(index, uid);
    default:
        return false;
    }
}

size_t index_cache_wanted(struct index *index, unsigned *fields, size_t max)
{
    size_t count = 0;
    unsigned n;

    if (is_off(index))
        return 0;
    cache_ready(index); /* decisions are in the file, if there is one */
    n = cache_field_count();
    for (unsigned i = 0; i < n && count < max; i++) {
        struct cache_policy *p = cache_policy_of(index, i);

        if ((p->decision & 0x7f) != INDEX_CACHE_NO)
            fields[count++] = i;
    }
    return count;
}

bool index_cache_inherit(struct index *index, struct index *from)
{
    unsigned n;
    struct error e;

    if (index == from || is_off(index) || cache_ready(index) || !cache_ready(from))
        return false;
    n = cache_field_count(); /* now that the names of its file are known */
    for (unsigned i = 0; i < n; i++) {
        const struct cache_policy *theirs = cache_policy_of(from, i);
        struct cache_policy *ours = cache_policy_of(index, i);

        if ((ours->decision & INDEX_CACHE_FORCED) != 0 || (theirs->decision & INDEX_CACHE_FORCED) != 0)
            continue;
        ours->decision = theirs->decision;
        ours->last_used = theirs->last_used;
    }
    if (index_cache_purge(index, &e) == STEP_ERROR)
        index_error(index, "%s", e.admin);
    return true;
}

bool index_cache_decision(struct index *index, unsigned field, enum index_decision *decision, uint32_t *last_used)
{
    struct cache_policy *p;

    cache_ready(index);
    p = cache_policy_of(index, field);
    if (p == NULL)
        return false;
    *decision = p->decision;
    *last_used = p->last_used;
    return true;
}

bool index_cache_fields(struct index *index, struct arena *arena, const unsigned **fields, size_t *count)
{
    unsigned builtin = cache_field_builtin(), *out;

    if (!cache_ready(index))
        return false;
    out = ARENA_ARRAY(arena, unsigned, builtin + index->cache->field_count);
    *count = 0;
    for (unsigned i = 0; i < builtin; i++)
        out[(*count)++] = i;
    for (uint32_t i = 0; i < index->cache->field_count; i++) {
        unsigned field = index->cache->fields[i].global;

        if (field >= builtin && cache_policy_of(index, field) != NULL)
            out[(*count)++] = field;
    }
    *fields = out;
    return true;
}

void index_cache_configure(struct index *index, unsigned field, const enum index_decision *decision, const uint32_t *last_used)
{
    struct cache_policy *p;

    cache_ready(index);
    p = cache_policy_of(index, field);
    if (p == NULL)
        return;
    if (decision != NULL && (p->decision & INDEX_CACHE_FORCED) == 0)
        p->decision = (uint8_t)(*decision & 0x7f);
    if (last_used != NULL && *last_used > p->last_used)
        p->last_used = *last_used;
    p->dirty = true;
    index->cache->policy_dirty = true;
}

int index_cache_set_decision(struct index *index, unsigned field, enum index_decision decision, struct error *e)
{
    struct cache_policy *p;

    cache_ready(index);
    p = cache_policy_of(index, field);
    if (p == NULL)
        return error_set(e, ERROR_INVALID, "Unknown cache field");
    mark_decision(index, p, (uint8_t)(decision & 0x7f), (uint32_t)time(NULL));
    index_cache_flush(index);
    return 0;
}

/* In place, in the newest field header: the two arrays (9.2). */
void cache_policy_write(struct index *index)
{
    struct index_cache *c = index->cache;
    struct buffer used = {0}, decisions = {0};
    uint32_t n = c->field_count;
    struct error ignored;
    unsigned char b[4];

    for (uint32_t i = 0; i < n; i++) {
        struct cache_policy *p = cache_policy_of(index, c->fields[i].global);

        if (p != NULL) {
            c->fields[i].last_used = p->last_used;
            c->fields[i].decision = p->decision;
            p->dirty = false;
        }
        bytes_put_le32(b, c->fields[i].last_used);
        buffer_append(&used, b, 4);
        buffer_append_byte(&decisions, c->fields[i].decision);
    }
    if (n > 0 && os_pwrite(c->fd, buffer_slice(&used), (uint64_t)c->fields_at + 12, &ignored) == 0)
        os_pwrite(c->fd, buffer_slice(&decisions), (uint64_t)c->fields_at + 12 + 9 * (uint64_t)n, &ignored);
    buffer_free(&used);
    buffer_free(&decisions);
    c->policy_dirty = false;
}
