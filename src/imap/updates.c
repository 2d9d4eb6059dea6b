/* updates.c - CONTEXT=SEARCH and CONTEXT=SORT (RFC 5267 section 4.3, imap 11.3): what has come to match, and what no longer does.
 *
 * An update owns the arena of the request that made it, with the keys in it. Sequence numbers in the keys have become UIDs.
 * Only messages that have changed or are new are looked at, in bounded steps. */
#include "imap/updates.h"

#include <utlist.h>

struct search_update {
    struct search_update *next;
    struct arena *arena;
    const char *tag;
    bool uid;
    struct store_search *match;
    struct search_key **with_ranges;
    size_t with_ranges_count;
    struct fetch *items;           /* UPDATE (items): sent of each new message; NULL: none */
    struct index_ranges hits;      /* UIDs */
    uint32_t last_uid;             /* messages up to here have been looked at */
};

struct updates_pass {
    VEC(uint32_t) changed;         /* UIDs, ascending */
    struct search_update *at;
    bool begun, in_message;
    size_t changed_at;
    uint32_t uid;                  /* being looked at */
    struct index_ranges removed, added;
    struct request *fetch;         /* the items being sent */
};

static void update_free(struct session *s, struct search_update *u)
{
    struct arena *arena = u->arena;

    store_search_free(u->match);
    for (size_t i = 0; i < u->with_ranges_count; i++)
        index_ranges_free(&u->with_ranges[i]->ranges);
    index_ranges_free(&u->hits);
    worker_arena_back(s->worker, arena);
}

bool updates_full(const struct session *s)
{
    struct search_update *u;
    int n;

    LL_COUNT(s->updates, u, n);
    return n >= UPDATES_MAX;
}

bool updates_has(const struct session *s, struct slice tag)
{
    for (const struct search_update *u = s->updates; u != NULL; u = u->next) {
        if (slice_equal_str(tag, u->tag))
            return true;
    }
    return false;
}

void updates_forget(struct session *s)
{
    struct search_update *u;

    while ((u = s->updates) != NULL) {
        s->updates = u->next;
        update_free(s, u);
    }
}

/* Numbers become UIDs: numbers change. */
static void keys_to_uids(struct session *s, struct search_update *u)
{
    const struct index_view *view = mailbox_view_index(s->view);

    for (size_t i = 0; i < u->with_ranges_count; i++) {
        struct search_key *k = u->with_ranges[i];
        struct index_ranges uids = {0};
        size_t at = 0;

        if (k->type != SEARCH_SEQS)
            continue;
        for (uint32_t seq = 0; (seq = imap_ranges_next(&k->ranges, &at, seq)) != 0;)
            index_ranges_add(&uids, index_view_uid(view, seq), index_view_uid(view, seq));
        index_ranges_free(&k->ranges);
        k->ranges = uids;
        k->type = SEARCH_UIDS;
    }
}

void updates_add(struct session *s, struct request *r, struct search *q)
{
    struct search_update *u = ARENA_NEW(r->arena, struct search_update);
    const struct index_view *view = mailbox_view_index(s->view);
    size_t at = 0;

    u->arena = r->arena;
    r->arena_kept = true;
    u->tag = r->tag;
    u->uid = r->uid;
    u->items = q->update_items;
    u->with_ranges = ARENA_ARRAY(r->arena, struct search_key *, q->with_ranges.count + 1);
    for (size_t i = 0; i < q->with_ranges.count; i++)
        u->with_ranges[i] = q->with_ranges.at[i];
    u->with_ranges_count = q->with_ranges.count;
    VEC_FREE(&q->with_ranges);
    keys_to_uids(s, u);
    u->match = q->match;
    q->match = NULL;
    for (uint32_t seq = 0; (seq = imap_ranges_next(&q->hits, &at, seq)) != 0;)
        index_ranges_add(&u->hits, index_view_uid(view, seq), index_view_uid(view, seq));
    u->last_uid = q->count == 0 ? 0 : index_view_uid(view, q->count);
    LL_APPEND(s->updates, u);
}

/* ---- telling ------------------------------------------------------------------------------------------------------------ */

static void put_list(struct session *s, struct buffer *out, const struct search_update *u, const char *word,
                     const struct index_ranges *uids)
{
    struct index_ranges seqs = {0};

    if (uids->count == 0)
        return;
    buffer_printf(out, " %s (0 ", word);
    if (u->uid) {
        imap_ranges_put(out, uids);
    } else {
        size_t at = 0;

        for (uint32_t uid = 0; (uid = imap_ranges_next(uids, &at, uid)) != 0;) {
            uint32_t seq = index_view_seq(mailbox_view_index(s->view), uid);

            if (seq != 0)
                index_ranges_add(&seqs, seq, seq);
        }
        imap_ranges_put(out, &seqs);
        index_ranges_free(&seqs);
    }
    buffer_append_byte(out, ')');
}

static void tell(struct session *s, const struct search_update *u, const struct index_ranges *removed,
                 const struct index_ranges *added)
{
    struct buffer out = {0};

    if (removed->count == 0 && added->count == 0)
        return;
    buffer_append_str(&out, "* ESEARCH (TAG ");
    mime_put_nstring(&out, slice_from_str(u->tag));
    buffer_append_str(&out, u->uid ? ") UID" : ")");
    put_list(s, &out, u, "REMOVEFROM", removed);
    put_list(s, &out, u, "ADDTO", added);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
}

void updates_tell_expunged(struct session *s, const struct index_change *gone, size_t count)
{
    for (struct search_update *u = s->updates; u != NULL; u = u->next) {
        struct index_ranges shown = {0};
        struct buffer out = {0};

        for (size_t i = count; i-- > 0;) {
            if (!index_ranges_has(&u->hits, gone[i].uid))
                continue;
            index_ranges_add(&shown, u->uid ? gone[i].uid : gone[i].seq, u->uid ? gone[i].uid : gone[i].seq);
            imap_ranges_remove(&u->hits, gone[i].uid);
        }
        if (shown.count > 0) {
            buffer_append_str(&out, "* ESEARCH (TAG ");
            mime_put_nstring(&out, slice_from_str(u->tag));
            buffer_append_str(&out, u->uid ? ") UID REMOVEFROM (0 " : ") REMOVEFROM (0 ");
            imap_ranges_put(&out, &shown);
            buffer_append_str(&out, ")\r\n");
            session_write(s, buffer_slice(&out));
        }
        buffer_free(&out);
        index_ranges_free(&shown);
    }
}

/* ---- looking ------------------------------------------------------------------------------------------------------------ */

struct updates_pass *updates_pass_new(struct session *s)
{
    struct updates_pass *p = mem_zero(1, sizeof(*p));

    p->at = s->updates;
    return p;
}

void updates_pass_changed(struct updates_pass *p, uint32_t uid)
{
    VEC_PUSH(&p->changed, uid);
}

/* The next UID to look at for this update; 0: none. New messages count also where the session may not hear of them yet (NOTIFY,
 * delay-newmail): who asked for the update hears of them in it, as from the real server. */
static uint32_t next_uid(struct session *s, struct updates_pass *p)
{
    const struct index_view *view = mailbox_view_index(s->view);
    uint32_t uid, seq, end;

    while (p->changed_at < p->changed.count) {
        uid = p->changed.at[p->changed_at++];
        if (uid <= p->at->last_uid && index_view_seq(view, uid) != 0)
            return uid;
    }
    uid = index_view_next_uid(view);
    if (p->at->last_uid + 1 >= uid || !index_view_seq_range(view, p->at->last_uid + 1, uid - 1, &seq, &end))
        return 0;
    uid = index_view_uid(view, seq);
    p->at->last_uid = uid;
    return uid;
}

static void send_items(struct session *s, struct updates_pass *p)
{
    struct index_ranges seqs = {0};
    size_t at = 0;

    for (uint32_t uid = 0; (uid = imap_ranges_next(&p->added, &at, uid)) != 0;) {
        uint32_t seq = index_view_seq(mailbox_view_index(s->view), uid);

        /* of new messages alone (imap 11.3) */
        if (seq != 0 && !index_ranges_has(&p->at->hits, uid) && seq > p->at->items->told)
            index_ranges_add(&seqs, seq, seq);
    }
    if (seqs.count > 0)
        p->fetch = fetch_news_begin(s, p->at->items, &seqs);
    else
        index_ranges_free(&seqs);
}

static void judged(struct updates_pass *p, bool yes)
{
    bool was = index_ranges_has(&p->at->hits, p->uid);

    if (yes && !was)
        index_ranges_add(&p->added, p->uid, p->uid);
    else if (!yes && was)
        index_ranges_add(&p->removed, p->uid, p->uid);
}

static void end_update(struct session *s, struct updates_pass *p)
{
    struct search_update *u = p->at;
    size_t at = 0;

    tell(s, u, &p->removed, &p->added);
    for (uint32_t uid = 0; (uid = imap_ranges_next(&p->removed, &at, uid)) != 0;)
        imap_ranges_remove(&u->hits, uid);
    for (size_t i = 0; i < p->added.count; i++)
        index_ranges_add(&u->hits, p->added.at[i].first, p->added.at[i].last);
    index_ranges_free(&p->removed);
    index_ranges_free(&p->added);
    p->removed = p->added = (struct index_ranges){0};
    p->at = u->next;
    p->begun = false;
}

enum step updates_step(struct session *s, struct updates_pass *p, struct budget *budget, struct error *e)
{
    while (p->at != NULL) {
        enum step step;
        bool yes;

        if (p->fetch != NULL) {
            step = fetch_news_step(s, &p->fetch, budget, e);
            if (step != STEP_DONE)
                return step;
            end_update(s, p);
            continue;
        }
        if (!p->begun) {
            p->begun = true;
            p->changed_at = 0;
            if (p->at->items != NULL) {
                uint32_t first, end;

                p->at->items->told = index_view_seq_range(mailbox_view_index(s->view), 1, p->at->last_uid, &first, &end) ? end : 0;
            }
        }
        if (!p->in_message) {
            p->uid = next_uid(s, p);
            if (p->uid == 0) {
                if (p->at->items != NULL)
                    send_items(s, p);
                if (p->fetch == NULL)
                    end_update(s, p);
                continue;
            }
        }
        step = store_search_match(p->at->match, s->view, index_view_seq(mailbox_view_index(s->view), p->uid), budget, &yes, e);
        p->in_message = step == STEP_MORE;
        if (step == STEP_MORE)
            return step;
        judged(p, yes);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    return STEP_DONE;
}

void updates_pass_free(struct session *s, struct updates_pass **pass)
{
    struct updates_pass *p = *pass;

    *pass = NULL;
    if (p == NULL)
        return;
    fetch_news_end(s, &p->fetch);
    VEC_FREE(&p->changed);
    index_ranges_free(&p->removed);
    index_ranges_free(&p->added);
    mem_free(p);
}

/* ---- CANCELUPDATE ------------------------------------------------------------------------------------------------------- */

void cancelupdate_begin(struct session *s, struct request *r)
{
    for (const struct imap_arg *a = r->args; a != NULL || r->args == NULL; a = a->next) {
        if (a == NULL || (a->type != IMAP_QUOTED && a->type != IMAP_LITERAL)) {
            request_bad(s, r, "Invalid parameters");
            return;
        }
    }
    for (const struct imap_arg *a = r->args; a != NULL; a = a->next) {
        struct search_update **at = &s->updates, *u;

        while (*at != NULL && !slice_equal_str(a->text, (*at)->tag))
            at = &(*at)->next;
        u = *at;
        if (u == NULL) {
            request_reply(r, "NO Unknown tag.");
            return;
        }
        *at = u->next;
        update_free(s, u);
    }
    request_reply(r, "OK Updates cancelled.");
}
