/* private.c - flags that each user of a shared mailbox has for himself (index-format 11.3): an index of his own beside the shared
 * one, with the same UIDs, whose flags stand for those of the shared one in his views.
 *
 * The shared index is never touched by private flags. The private one follows it: new messages come in without flags,
 * expunged ones go, another UIDVALIDITY begins it anew. A message that it does not have yet has no private flags. */
#include "index/batch.h"

uint8_t private_flags(const struct index_view *v, uint32_t uid, uint8_t flags)
{
    struct index_record r;

    if (v->private == NULL)
        return flags;
    flags &= (uint8_t)~v->private_mask;
    return index_get(v->private->index, uid, &r) ? (uint8_t)(flags | (r.flags & v->private_mask)) : flags;
}

void index_view_private(struct index_view *v, struct index *private, uint8_t mask)
{
    v->private = index_view_open(private);
    v->private_mask = mask;
}

uint32_t index_private_seen(struct index *private, struct index *shared, uint32_t next_uid)
{
    struct index_record r, there;
    uint32_t seen = 0;

    for (uint32_t uid = 1; index_get_from(private, uid, &r) && r.uid < next_uid; uid = r.uid + 1)
        seen += (r.flags & INDEX_SEEN) != 0 && index_get(shared, r.uid, &there);
    return seen;
}

uint32_t private_seen(struct index_view *v)
{
    uint64_t generation = index_generation(v->index), private_generation = index_generation(v->private->index);

    if (v->private_seen.generation != generation || v->private_seen.private_generation != private_generation ||
        v->private_seen.next_uid != v->next_uid) {
        v->private_seen.generation = generation;
        v->private_seen.private_generation = private_generation;
        v->private_seen.next_uid = v->next_uid;
        v->private_seen.seen = index_private_seen(v->private->index, v->index, v->next_uid);
    }
    return v->private_seen.seen;
}

struct flag_ops {
    LIST(struct flag_op) list;
};

static void keep_run(struct flag_ops *kept, struct arena *arena, struct flag_op op, uint32_t first, uint32_t last, bool changes)
{
    op.first = first;
    op.last = last;
    op.modseq = changes;
    if (first <= last && ((op.add | op.remove) != 0 || changes))
        LIST_PUSH(arena, &kept->list, op);
}

/* UNCHANGEDSINCE forbids it: the shared index's commit has to say so, even where nothing would change. */
static bool is_forbidden(const struct index_batch *b, const struct index_record *r)
{
    return b->unchanged_since_set && r->modseq > b->unchanged_since;
}

/* What remains of an operation for the shared index. Where private flags change, the message gets a new modseq there: CONDSTORE
 * counts in the shared index, and this user's other sessions have to hear of it. */
static void keep_shared(struct index_view *v, struct flag_ops *kept, const struct index_batch *b, struct flag_op op)
{
    uint8_t add = op.add & v->private_mask, remove = op.remove & v->private_mask;
    uint32_t first = op.first;
    struct index_record r, own;
    bool run = false;

    op.add &= (uint8_t)~v->private_mask;
    op.remove &= (uint8_t)~v->private_mask;
    for (uint32_t uid = op.first; index_get_from(v->index, uid, &r) && r.uid <= op.last; uid = r.uid + 1) {
        uint8_t old = index_get(v->private->index, r.uid, &own) ? own.flags & v->private_mask : 0;
        bool changes = ((old & ~remove) | add) != old || is_forbidden(b, &r);

        if (changes == run)
            continue;
        keep_run(kept, b->arena, op, first, r.uid - 1, run);
        first = r.uid;
        run = changes;
    }
    keep_run(kept, b->arena, op, first, op.last, run);
}

struct index_batch *index_batch_private(struct index_batch *b, struct index_view *v)
{
    struct index_batch *own = NULL;
    struct flag_ops kept = {0};

    if (v->private == NULL)
        return NULL;
    for (size_t i = 0; i < b->flags.count; i++) {
        struct flag_op op = b->flags.at[i];

        if (((op.add | op.remove) & v->private_mask) == 0) {
            LIST_PUSH(b->arena, &kept.list, op);
            continue;
        }
        if (own == NULL) {
            own = index_batch_new(b->arena, INDEX_EXTERNAL);
            if (b->view == v->id)
                index_batch_by(own, v->private, b->silent);
        }
        index_batch_flags_raw(own, op.first, op.last, op.add & v->private_mask, op.remove & v->private_mask);
        keep_shared(v, &kept, b, op);
    }
    b->flags.at = kept.list.at;
    b->flags.count = kept.list.count;
    b->flags.room = kept.list.room;
    return own;
}

void index_batch_private_without(struct index_batch *own, const struct index_ranges *failed)
{
    struct flag_ops kept = {0};

    for (size_t i = 0; i < own->flags.count; i++) {
        struct flag_op op = own->flags.at[i];
        uint32_t from = op.first, last = op.last;

        for (size_t k = 0; k < failed->count && from <= last; k++) {
            if (failed->at[k].last < from)
                continue;
            if (failed->at[k].first > last)
                break;
            op.first = from;
            op.last = failed->at[k].first - 1;
            if (failed->at[k].first > from)
                LIST_PUSH(own->arena, &kept.list, op);
            from = failed->at[k].last + 1;
        }
        op.first = from;
        op.last = last;
        if (from <= last)
            LIST_PUSH(own->arena, &kept.list, op);
    }
    own->flags.at = kept.list.at;
    own->flags.count = kept.list.count;
    own->flags.room = kept.list.room;
}

/* The whole of what it has to have, flags included. */
static struct index_batch *begin_anew(struct index *private, struct index *shared, struct arena *arena)
{
    struct index_batch *b = index_batch_new(arena, INDEX_EXTERNAL);
    struct index_status want;
    struct index_record r, own;

    index_status(shared, &want);
    index_batch_uid_validity(b, want.uid_validity);
    for (uint32_t uid = 1; index_get_from(shared, uid, &r); uid = r.uid + 1)
        index_batch_append(b, r.uid, index_get(private, r.uid, &own) ? own.flags & INDEX_FLAGS_CLIENT : 0);
    return b;
}

/* What the private index lacks and has too much; *anew: it belongs to another mailbox that was here before, or messages that had
 * gone are back (a rebuild has found their files), which no append can put between others. */
static struct index_batch *find_differences(struct index *private, struct index *shared, struct arena *arena, bool *anew)
{
    struct index_batch *b = index_batch_new(arena, INDEX_EXTERNAL);
    struct index_status have, want;
    struct index_record r, there;
    uint32_t from, appended = 0, common;

    index_status(private, &have);
    index_status(shared, &want);
    *anew = have.uid_validity != 0 && have.uid_validity != want.uid_validity;
    from = *anew || have.next_uid == 0 ? 1 : have.next_uid;
    if (have.uid_validity != want.uid_validity)
        index_batch_uid_validity(b, want.uid_validity);
    for (uint32_t uid = from; index_get_from(shared, uid, &r); uid = r.uid + 1) {
        index_batch_append(b, r.uid, 0);
        appended++;
    }
    common = *anew ? 0 : have.messages;
    for (uint32_t uid = 1; common > 0 && index_get_from(private, uid, &r); uid = r.uid + 1) {
        if (index_get(shared, r.uid, &there))
            continue;
        index_batch_expunge(b, r.uid, NULL);
        common--;
    }
    if (!*anew && want.messages - appended > common) {
        *anew = true;
        return begin_anew(private, shared, arena);
    }
    /* Only what came and went since leaves a gap; it is closed when there is nothing to append, which would be below. */
    if (appended == 0 && have.next_uid < want.next_uid)
        index_batch_next_uid(b, want.next_uid);
    return b;
}

enum step index_private_sync(struct index *private, struct index *shared, struct index_batch *own, struct error *e)
{
    struct arena *arena;
    struct index_batch *b;
    enum step r = index_refresh(private, e);
    bool anew;

    if (r == STEP_ERROR)
        return r;
    arena = arena_new();
    b = find_differences(private, shared, arena, &anew);
    if (index_batch_empty(b) && own == NULL) {
        arena_free(arena);
        return STEP_DONE;
    }
    r = index_lock_try(private, "syncing", e);
    if (r == STEP_DONE) {
        /* Under the lock: what another session has done meanwhile is there, in the shared one too if that was done first. */
        b = find_differences(private, shared, arena, &anew);
        if (anew && (r = index_refresh(shared, e)) == STEP_DONE)
            b = find_differences(private, shared, arena, &anew);
        if (r == STEP_DONE && ((anew ? index_reset(private, b, e) : index_commit_locked(private, b, NULL, e)) < 0 ||
                               (own != NULL && index_commit_locked(private, own, NULL, e) < 0)))
            r = STEP_ERROR;
        if (r == STEP_DONE)
            index_maintain(private);
        index_unlock(private);
    }
    arena_free(arena);
    return r;
}
