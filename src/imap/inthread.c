/* inthread.c - INTHREAD algorithm key (imap 11.1): messages in whose thread some message matches.
 *
 * Such a key has a search of its own, over all messages, and threads of all messages; both are run, in steps, before the
 * search that it stands in. Then it is a set of numbers like any other. */
#include "imap/search.h"

struct inthread {
    struct search_key *key;        /* becomes SEARCH_SEQS */
    struct search sub;             /* the key inside; afterwards its hits are what was found */
    struct search all;             /* the threads of everything */
};

bool inthread_parse(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg, struct search_key *k)
{
    struct inthread *t = ARENA_NEW(r->arena, struct inthread);
    const struct imap_arg *a = (*arg)->next;

    if (!thread_kind_of(r, &t->all, (*arg)->text)) {
        request_bad(s, r, "Unknown thread algorithm");
        return false;
    }
    if (a == NULL) {
        request_bad(s, r, "Missing argument");
        return false;
    }
    if (!search_parse_key(s, r, q, &a, &t->sub.root)) /* sets and inner INTHREADs are kept with the search around */
        return false;
    *arg = a;
    t->sub.match = store_search_new(r->arena, t->sub.root);
    k->type = SEARCH_SEQS;
    t->key = k;
    VEC_PUSH(&q->with_ranges, k);
    VEC_PUSH(&q->inthreads, t);
    return true;
}

enum step inthread_run(struct session *s, struct request *r, struct search *q, struct budget *budget)
{
    for (; q->inthread_at < q->inthreads.count; q->inthread_at++) {
        struct inthread *t = q->inthreads.at[q->inthread_at];

        if (t->sub.count == 0) {
            t->sub.count = index_view_count(mailbox_view_index(s->view));
            if (t->sub.count > 0)
                index_ranges_add(&t->all.hits, 1, t->sub.count);
        }
        if ((!t->sub.walked && search_walk(s, &t->sub, budget) != STEP_DONE) ||
            thread_members(s, r, &t->all, &t->sub.hits, &t->key->ranges, budget) != STEP_DONE)
            return STEP_MORE;
    }
    return STEP_DONE;
}

void inthread_free(struct search *q)
{
    for (size_t i = 0; i < q->inthreads.count; i++) {
        struct inthread *t = q->inthreads.at[i];

        store_search_free(t->sub.match);
        index_ranges_free(&t->sub.hits);
        index_ranges_free(&t->all.hits);
    }
    VEC_FREE(&q->inthreads);
}
