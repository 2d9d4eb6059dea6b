/* inthread.c - INTHREAD algorithm key (imap 11.1): messages in whose thread some message matches.
 *
 * Such a key has a search of its own, over all messages, and threads of all messages; both are run, in steps, before the
 * search that it stands in. Then it is a set of UIDs like any other, which also holds when the messages' numbers have changed. */
#include "store/inthread.h"

#include "store/internal.h"

struct inthread {
    struct store_search *match;    /* the key inside */
    struct thread *thread;
    struct index_ranges all;       /* numbers of the messages, */
    struct index_ranges hits;      /* ... of those that match */
    struct index_ranges uids;      /* the result */
    uint32_t seq;
    bool in_message;
};

struct inthread *inthread_new(struct arena *arena, struct search_key *key)
{
    struct inthread *t = ARENA_NEW(arena, struct inthread);

    t->match = store_search_new(arena, key->children);
    t->thread = thread_new(arena, key->thread);
    return t;
}

/* Which messages match? */
static enum step walk(struct inthread *t, struct mailbox_view *view, struct budget *budget)
{
    uint32_t count = index_view_count(mailbox_view_index(view));

    while (t->in_message || t->seq < count) {
        struct error e = {0};
        enum step step;
        bool yes;

        if (!t->in_message)
            t->seq++;
        step = store_search_match(t->match, view, t->seq, budget, &yes, &e);
        t->in_message = step == STEP_MORE;
        if (step == STEP_MORE)
            return step;
        if (step == STEP_ERROR && e.class != ERROR_EXPUNGED)
            log_error_value(mailbox_view_box(view)->user->log_p, &e);
        if (yes)
            index_ranges_add(&t->hits, t->seq, t->seq);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    return STEP_DONE;
}

enum step inthread_run(struct inthread *t, struct mailbox_view *view, struct budget *budget)
{
    struct index_view *index = mailbox_view_index(view);
    struct index_ranges members = {0};

    if (t->all.count == 0 && index_view_count(index) > 0)
        index_ranges_add(&t->all, 1, index_view_count(index));
    if (walk(t, view, budget) != STEP_DONE || thread_read(t->thread, view, &t->all, budget) != STEP_DONE)
        return STEP_MORE;
    thread_members(t->thread, &t->hits, &members);
    for (size_t i = 0; i < members.count; i++) {
        for (uint32_t seq = members.at[i].first; seq <= members.at[i].last; seq++)
            index_ranges_add(&t->uids, index_view_uid(index, seq), index_view_uid(index, seq));
    }
    index_ranges_free(&members);
    return STEP_DONE;
}

bool inthread_has(const struct inthread *t, uint32_t uid)
{
    return index_ranges_has(&t->uids, uid);
}

void inthread_free(struct inthread *t)
{
    store_search_free(t->match);
    index_ranges_free(&t->all);
    index_ranges_free(&t->hits);
    index_ranges_free(&t->uids);
}
