/* sync.c - a virtual mailbox and those behind it are brought together (imap 12.9).
 *
 * First the mailboxes behind are synced and what the rules want of them is found out, without any lock. Then, under this
 * mailbox's index lock: what sessions have asked for is carried out behind (flags, expunges), and the index is made to say what
 * is behind: new messages in the order of their dates, flags, messages that are gone. What no longer matches goes when a
 * session selects the mailbox, not while one looks at it. */
#include "store/virtual/virtual.h"

#include "store/internal.h"

#include <stdlib.h>
#include <time.h>

struct found {
    int64_t date;
    uint32_t id, uid;              /* of the mailbox behind, there */
    struct virtual_box *b;
};

struct virtual_run {
    enum { START, BEHIND, MATCH, LOCK, COMMIT, REQUESTS, APPLY } phase;
    struct arena *arena;
    bool full, locked, wanted;     /* full: existing messages are judged too */
    size_t next;                   /* of v->at */
    struct store_op *op;
    struct store_search *search;
    uint32_t seq;                  /* of the view that is searched */
    struct index_requests requests;
    struct index_commit commit;
    uint64_t busy_since;
};

static void end_search(struct virtual_run *s)
{
    store_search_free(s->search);
    s->search = NULL;
}

/* ---- the mailboxes behind ---- */

static void on_news(void *arg)
{
    mailbox_wake_watches(arg, NULL);
}

static int open_behind(struct virtual *v, struct virtual_run *s, struct virtual_box *b, struct error *e)
{
    struct mailbox_place place;

    if (b->box != NULL && b->box->gone) {
        mailbox_watch_remove(&b->watch);
        mailbox_view_close(&b->view);
        mailbox_close(&b->box);
    }
    if (b->box == NULL) {
        if (mailbox_place(v->box->user, s->arena, slice_from_str(b->vname), &place, e) < 0 || mailbox_open(&b->box, &place, 0, e) < 0) {
            b->box = NULL;
            return -1;
        }
    }
    if (b->view == NULL)
        b->view = mailbox_view_open(b->box, false);
    if (b->watch == NULL && !v->box->user->no_notify)
        b->watch = mailbox_watch_add(b->box, on_news, v->box);
    return 0;
}

static void take_news(struct virtual_box *b)
{
    struct index_change change;

    index_view_sync(mailbox_view_index(b->view), false);
    while (index_view_next(mailbox_view_index(b->view), &change))
        ;
}

/* Syncs one after the other. What cannot be opened is not shown; its messages go. */
static enum step behind(struct virtual *v, struct virtual_run *s, struct budget *budget, struct error *e)
{
    while (s->next < v->count) {
        struct virtual_box *b = v->at[s->next];
        enum step r;

        if (!b->used) {
            s->next++;
            continue;
        }
        if (s->op == NULL) {
            if (open_behind(v, s, b, e) < 0) {
                if (e->class != ERROR_NOT_FOUND && e->class != ERROR_PERMISSION)
                    return error_context(e, "Virtual mailbox open failed because of mailbox %s: ", b->vname), STEP_ERROR;
                b->used = false;
                s->next++;
                continue;
            }
            s->op = mailbox_sync(b->box, NULL, SYNC_POLL);
        }
        r = store_op_step(s->op, budget, e);
        if (r == STEP_DONE || r == STEP_ERROR)
            store_op_free(&s->op);
        if (r == STEP_ERROR && e->class == ERROR_NOT_FOUND) {
            b->used = false;
            s->next++;
            continue;
        }
        if (r != STEP_DONE)
            return r;
        take_news(b);
        s->next++;
    }
    s->next = 0;
    s->seq = 0;
    s->phase = MATCH;
    return STEP_MORE;
}

/* ---- what the rules want ---- */

static bool is_all(const struct search_key *k)
{
    while (k->type == SEARCH_AND && !k->negate && k->children != NULL && k->children->next == NULL)
        k = k->children;
    return k->type == SEARCH_ALL && !k->negate;
}

static bool has_inthread(const struct search_key *k)
{
    for (; k != NULL; k = k->next) {
        if (k->type == SEARCH_INTHREAD || has_inthread(k->children))
            return true;
    }
    return false;
}

static enum step match_box(struct virtual *v, struct virtual_run *s, struct virtual_box *b, struct budget *budget)
{
    struct index_view *view = mailbox_view_index(b->view);
    struct search_key *rule = v->rules[b->rule];
    uint32_t count = index_view_count(view);

    if (s->seq == 0) {
        index_ranges_free(&b->matches);
        b->looked_from = s->full || b->entry.id == 0 ? 1 : b->entry.next_uid;
        if (b->looked_from < index_view_next_uid(view) && has_inthread(rule))
            b->looked_from = 1; /* a new message may bring others of its thread */
        if (is_all(rule)) {
            if (count > 0)
                index_ranges_add(&b->matches, b->looked_from, UINT32_MAX - 1);
            return STEP_DONE;
        }
        for (s->seq = 1; s->seq <= count && index_view_uid(view, s->seq) < b->looked_from; s->seq++)
            ;
    }
    for (; s->seq <= count; s->seq++) {
        uint32_t uid = index_view_uid(view, s->seq);
        struct error e;
        enum step r;
        bool yes = false;

        if (s->search == NULL)
            s->search = store_search_new(s->arena, rule);
        r = store_search_match(s->search, b->view, s->seq, budget, &yes, &e);
        if (r == STEP_MORE)
            return r;
        if (r == STEP_DONE && yes)
            index_ranges_add(&b->matches, uid, uid);
        if (budget_spent(budget, 1)) {
            s->seq++;
            return STEP_MORE;
        }
    }
    return STEP_DONE;
}

static enum step match(struct virtual *v, struct virtual_run *s, struct budget *budget)
{
    while (s->next < v->count) {
        struct virtual_box *b = v->at[s->next];

        if (b->used) {
            enum step r = match_box(v, s, b, budget);

            if (r != STEP_DONE)
                return r;
        }
        end_search(s);
        s->seq = 0;
        s->next++;
    }
    s->next = 0;
    s->phase = LOCK;
    return STEP_MORE;
}

/* ---- what sessions have asked for ---- */

static struct index_batch *requests_for(struct virtual *v, struct virtual_run *s, struct virtual_box *b, unsigned *rights)
{
    struct index_batch *batch = index_batch_new(s->arena, INDEX_INTERNAL);
    struct index *index = v->box->index;

    for (size_t i = 0; i < s->requests.count; i++) {
        const struct index_request *r = &s->requests.at[i];
        uint32_t id, uid;

        if (!virtual_real(v, r->uid, &id, &uid) || id != b->entry.id)
            continue;
        if (r->expunge) {
            mailbox_batch_expunge(b->view, batch, uid);
            *rights |= MAILBOX_RIGHT_EXPUNGE;
            continue;
        }
        if ((r->flags_add & INDEX_FLAGS_CLIENT) != 0)
            index_batch_flags(batch, uid, uid, INDEX_ADD, r->flags_add & INDEX_FLAGS_CLIENT);
        if ((r->flags_remove & INDEX_FLAGS_CLIENT) != 0)
            index_batch_flags(batch, uid, uid, INDEX_REMOVE, r->flags_remove & INDEX_FLAGS_CLIENT);
        for (size_t k = 0; k < r->keyword_count; k++) {
            struct slice name = slice_from_str(index_keyword_name(index, r->keywords[k].keyword));

            index_batch_keywords(batch, uid, uid, r->keywords[k].add ? INDEX_ADD : INDEX_REMOVE, &name, 1);
        }
    }
    return index_batch_empty(batch) ? NULL : batch;
}

static enum step carry_out(struct virtual *v, struct virtual_run *s, struct budget *budget, struct error *e)
{
    while (s->next < v->count) {
        struct virtual_box *b = v->at[s->next];
        enum step r;

        if (s->op == NULL) {
            unsigned rights = 0;
            struct index_batch *batch = b->used && b->view != NULL ? requests_for(v, s, b, &rights) : NULL;

            if (batch == NULL) {
                s->next++;
                continue;
            }
            s->op = mailbox_commit(b->view, batch, rights, &s->commit);
        }
        r = store_op_step(s->op, budget, e);
        if (r == STEP_DONE || r == STEP_ERROR)
            store_op_free(&s->op);
        if (r == STEP_ERROR && (e->class == ERROR_PERMISSION || e->class == ERROR_NOT_FOUND)) {
            /* What may not be done behind is undone here: the index follows what is there. */
            log_error_value(v->box->user->log_p, e);
            r = STEP_DONE;
        }
        if (r != STEP_DONE)
            return r;
        take_news(b);
        s->next++;
    }
    s->phase = APPLY;
    return STEP_MORE;
}

/* ---- the index says what is behind ---- */

static bool same_keywords(struct virtual *v, struct virtual_box *b, const struct index_record *ours, const struct index_record *theirs)
{
    unsigned n = index_keyword_count(b->box->index), m = index_keyword_count(v->box->index);

    for (unsigned i = 0; i < n; i++) {
        int bit = index_keyword_find(v->box->index, slice_from_str(index_keyword_name(b->box->index, i)));

        if (index_keyword_has(theirs->keywords, i) != (bit >= 0 && index_keyword_has(ours->keywords, (unsigned)bit)))
            return false;
    }
    for (unsigned i = 0; i < m; i++)
        if (index_keyword_has(ours->keywords, i) && index_keyword_find(b->box->index, slice_from_str(index_keyword_name(v->box->index, i))) < 0)
            return false;
    return true;
}

static size_t keyword_names(struct virtual_run *s, struct virtual_box *b, const struct index_record *rec, struct slice **names)
{
    unsigned n = index_keyword_count(b->box->index);
    size_t count = 0;

    *names = ARENA_ARRAY(s->arena, struct slice, n + 1);
    for (unsigned i = 0; i < n; i++)
        if (index_keyword_has(rec->keywords, i))
            (*names)[count++] = slice_from_str(arena_strdup(s->arena, index_keyword_name(b->box->index, i)));
    return count;
}

static void follow_flags(struct virtual *v, struct virtual_run *s, struct virtual_box *b, struct index_batch *batch,
                         const struct index_record *ours, const struct index_record *theirs)
{
    uint8_t want = theirs->flags & INDEX_FLAGS_CLIENT, have = ours->flags & INDEX_FLAGS_CLIENT;
    struct slice *names;
    size_t count;

    if (want != have)
        index_batch_flags_raw(batch, ours->uid, ours->uid, (uint8_t)(want & ~have), (uint8_t)(have & ~want));
    if (same_keywords(v, b, ours, theirs))
        return;
    count = keyword_names(s, b, theirs, &names);
    index_batch_keywords(batch, ours->uid, ours->uid, INDEX_REPLACE, names, count);
}

/* Existing records: gone, changed, or no longer wanted. Real UIDs that are shown go into `shown`. */
static void follow_existing(struct virtual *v, struct virtual_run *s, struct index_batch *batch, struct index_ranges *shown)
{
    struct index_record ours, theirs;

    for (uint32_t uid = 1; index_get_from(v->box->index, uid, &ours); uid = ours.uid + 1) {
        uint32_t id, real;
        struct virtual_box *b = virtual_real(v, ours.uid, &id, &real) ? virtual_box_of(v, id) : NULL;
        size_t at = 0;

        while (b != NULL && v->at[at] != b)
            at++;
        if (b == NULL || !b->used || b->box == NULL || !index_get(b->box->index, real, &theirs) ||
            (s->full && !index_ranges_has(&b->matches, real))) {
            index_batch_expunge(batch, ours.uid, NULL);
            continue;
        }
        index_ranges_add(&shown[at], real, real);
        follow_flags(v, s, b, batch, &ours, &theirs);
    }
}

static int compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->date != y->date)
        return x->date < y->date ? -1 : 1;
    if (x->uid != y->uid)
        return x->uid < y->uid ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int64_t date_of(struct virtual_box *b, uint32_t uid)
{
    struct mail *mail;
    struct error e;
    int64_t date = 0;

    if (mail_open_uid(b->box, uid, &mail, &e) == 0) {
        if (mail_internal_date(mail, &date, &e) < 0)
            date = 0;
        mail_close(&mail);
    }
    return date;
}

static void append_new(struct virtual *v, struct virtual_run *s, struct index_batch *batch, const struct index_ranges *shown)
{
    VEC(struct found) all = {0};
    struct index_record rec;

    for (size_t i = 0; i < v->count; i++) {
        struct virtual_box *b = v->at[i];

        if (!b->used || b->box == NULL)
            continue;
        for (uint32_t uid = b->looked_from; index_get_from(b->box->index, uid, &rec); uid = rec.uid + 1)
            if (rec.uid < index_view_next_uid(mailbox_view_index(b->view)) && index_ranges_has(&b->matches, rec.uid) &&
                !index_ranges_has(&shown[i], rec.uid))
                VEC_PUSH(&all, ((struct found){date_of(b, rec.uid), b->entry.id, rec.uid, b}));
    }
    if (all.count > 1)
        qsort(all.at, all.count, sizeof(*all.at), compare_found);
    for (size_t i = 0; i < all.count; i++) {
        struct index_append *append;
        unsigned char row[8];
        struct slice *names;
        size_t count;

        if (!index_get(all.at[i].b->box->index, all.at[i].uid, &rec))
            continue;
        append = index_batch_append(batch, 0, rec.flags & INDEX_FLAGS_CLIENT);
        count = keyword_names(s, all.at[i].b, &rec, &names);
        for (size_t k = 0; k < count; k++)
            index_append_keyword(batch, append, names[k]);
        bytes_put_le32(row, all.at[i].id);
        bytes_put_le32(row + 4, all.at[i].uid);
        index_append_ext(batch, append, v->ext, slice_of(row, sizeof(row)));
    }
    VEC_FREE(&all);
}

/* Brings the header up to what was looked at; mailboxes that are not used any more fall out of it. */
static void put_header(struct virtual *v, struct index_batch *batch)
{
    struct virtual_header h = {.change_counter = v->change_counter + 1, .highest_id = v->highest_id, .crc = v->config.crc};
    struct buffer header = {0}, more = {0};
    struct slice old = index_ext_header(v->box->index, v->ext);
    struct error e;

    for (size_t i = 0; i < v->count; i++) {
        struct virtual_box *b = v->at[i];
        struct index_status status;

        if (!b->used || b->box == NULL)
            continue;
        index_status(b->box->index, &status);
        b->entry.uid_validity = status.uid_validity;
        b->entry.next_uid = index_view_next_uid(mailbox_view_index(b->view));
        b->entry.modseq = status.highest_modseq;
        if (mailbox_guid(b->box, b->entry.guid, &e) < 0)
            memset(b->entry.guid, 0, sizeof(b->entry.guid));
        if (h.count == h.room)
            h.at = vec_grow(h.at, &h.room, sizeof(*h.at));
        h.at[h.count++] = b->entry;
    }
    virtual_header_put(&h, &header, &more);
    /* Only the counter would change: nothing is written. */
    if (old.size != header.size || memcmp(old.at + 4, header.at + 4, header.size - 4) != 0) {
        index_batch_ext_resize(batch, v->ext, (uint32_t)header.size);
        index_batch_ext_header(batch, v->ext, 0, buffer_slice(&header));
        index_batch_ext_resize(batch, v->ext2, (uint32_t)more.size);
        index_batch_ext_header(batch, v->ext2, 0, buffer_slice(&more));
        v->change_counter++;
    }
    mem_free(h.at);
    buffer_free(&header);
    buffer_free(&more);
}

/* Ids for those that have none; a mailbox that was made anew is another one. */
static void give_ids(struct virtual *v)
{
    for (size_t i = 0; i < v->count; i++) {
        struct virtual_box *b = v->at[i];
        struct index_status status;

        if (!b->used || b->box == NULL)
            continue;
        index_status(b->box->index, &status);
        if (b->entry.id != 0 && b->entry.uid_validity == status.uid_validity)
            continue;
        b->entry.id = ++v->highest_id;
        b->looked_from = 1;
    }
}

static enum step apply(struct virtual *v, struct driver_sync *sync, struct virtual_run *s, struct error *e)
{
    struct index *index = v->box->index;
    struct index_batch *batch = index_batch_new(s->arena, INDEX_EXTERNAL);
    struct index_ranges *shown = ARENA_ARRAY(s->arena, struct index_ranges, v->count + 1);
    uint64_t before = index_generation(index);
    struct index_status status;
    int r;

    index_status(index, &status);
    follow_existing(v, s, batch, shown);
    give_ids(v);
    append_new(v, s, batch, shown);
    for (size_t i = 0; i < v->count; i++)
        index_ranges_free(&shown[i]);
    put_header(v, batch);
    if (status.uid_validity == 0)
        index_batch_uid_validity(batch, (uint32_t)time(NULL));
    index_batch_done(batch, &s->requests);
    r = index_commit_locked(index, batch, NULL, e);
    if (r == 0 && sync->take_recent) {
        struct index_batch *recent = index_batch_new(s->arena, INDEX_EXTERNAL);

        index_status(index, &status);
        if (status.first_recent_uid < status.next_uid) {
            index_batch_first_recent(recent, status.next_uid);
            r = index_commit_locked(index, recent, NULL, e);
            if (r == 0) {
                sync->recent_first = status.first_recent_uid == 0 ? 1 : status.first_recent_uid;
                sync->recent_last = status.next_uid - 1;
            }
        }
    }
    if (r < 0)
        return STEP_ERROR;
    index_maintain(index);
    sync->changed = sync->changed || index_generation(index) != before;
    return STEP_DONE;
}

/* ---- the run ---- */

static enum step start(struct virtual *v, struct driver_sync *sync, struct virtual_run *s, struct error *e)
{
    bool again = sync->why == SYNC_SELECT || sync->why == SYNC_FULL || sync->why == SYNC_RESYNC;

    if (index_refresh(v->box->index, e) == STEP_ERROR)
        return STEP_ERROR;
    if (index_deleted(v->box->index) != 0)
        return mailbox_not_found(&v->box->place, e), STEP_ERROR;
    if (sync->why == SYNC_FAST && !index_has_pending(v->box->index))
        return STEP_DONE;
    if (virtual_load(v, again, e) < 0)
        return STEP_ERROR;
    /* A rule that has changed means other messages. */
    s->full = again || v->crc != v->config.crc;
    s->phase = BEHIND;
    return STEP_MORE;
}

static enum step lock(struct virtual *v, struct driver_sync *sync, struct virtual_run *s, struct error *e)
{
    enum step r = index_lock_try(v->box->index, "syncing", e);

    if (r == STEP_WAIT && sync->give_up_busy) {
        if (s->busy_since == 0)
            s->busy_since = time_monotonic_ns();
        if (time_monotonic_ns() - s->busy_since > 3000000000ull)
            return STEP_DONE; /* news will come with the next poll */
    }
    if (r != STEP_DONE)
        return r;
    s->locked = true;
    /* Another process may have been here: ids and what it has looked at are its word. */
    if (virtual_load(v, false, e) < 0)
        return STEP_ERROR;
    s->phase = COMMIT;
    return STEP_MORE;
}

static enum step commit(struct virtual *v, struct driver_sync *sync, struct virtual_run *s, struct error *e)
{
    if (sync->batch != NULL) {
        if (index_commit_locked(v->box->index, sync->batch, sync->commit, e) < 0)
            return STEP_ERROR;
        sync->batch = NULL;
        sync->changed = true;
    }
    if (index_pending(v->box->index, s->arena, &s->requests, e) < 0)
        return STEP_ERROR;
    s->next = 0;
    s->phase = REQUESTS;
    return STEP_MORE;
}

static enum step run(struct virtual *v, struct driver_sync *sync, struct virtual_run *s, struct budget *budget, struct error *e)
{
    switch (s->phase) {
    case START:
        return start(v, sync, s, e);
    case BEHIND:
        return behind(v, s, budget, e);
    case MATCH:
        return match(v, s, budget);
    case LOCK:
        return lock(v, sync, s, e);
    case COMMIT:
        return commit(v, sync, s, e);
    case REQUESTS:
        return carry_out(v, s, budget, e);
    case APPLY:
        return apply(v, sync, s, e);
    }
    return STEP_DONE;
}

enum step virtual_sync(struct mailbox *box, struct driver_sync *sync, struct budget *budget, struct error *e)
{
    struct virtual_run *s = sync->state;
    enum step r;

    if (s == NULL) {
        s = sync->state = mem_zero(1, sizeof(*s));
        s->arena = arena_new();
    }
    do {
        r = run(box->data, sync, s, budget, e);
    } while (r == STEP_MORE && !budget_spent(budget, 1));
    return r;
}

void virtual_sync_end(struct mailbox *box, struct driver_sync *sync)
{
    struct virtual_run *s = sync->state;

    if (s == NULL)
        return;
    sync->state = NULL;
    end_search(s);
    store_op_free(&s->op);
    if (s->locked)
        index_unlock(box->index);
    arena_free(s->arena);
    mem_free(s);
}
