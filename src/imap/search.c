/* search.c - the walk over the messages, in bounded steps. */
#include "imap/search.h"

enum { PROGRESS_SECS = 10 };

/* ---- starting ---------------------------------------------------------------------------------------------------------- */

/* [CHARSET name] (SEARCH), or charset as an argument of its own (SORT, THREAD). */
static bool take_charset(struct session *s, struct request *r, struct search *q, const struct imap_arg *arg)
{
    if (arg == NULL || !imap_arg_is_string(arg)) {
        request_bad(s, r, "Invalid charset argument");
        return false;
    }
    /* An unknown one is told of at the first key whose text is in it, else behind the keys. */
    q->bad_charset = !mime_charset_known(arg->text);
    q->charset = q->bad_charset ? "ISO-8859-1" : arena_str(r->arena, arg->text);
    return true;
}

bool search_charset_unknown(struct session *s, struct request *r, const struct search *q)
{
    request_reply(r, "NO [BADCHARSET] Unknown charset.");
    r->sync = false;
    if ((q->returns & RETURN_SAVE) != 0) {
        index_ranges_free(&s->saved);
        s->saved = (struct index_ranges){0};
    }
    return false;
}

bool search_parse_all(struct session *s, struct request *r, struct search *q, const struct imap_arg *a)
{
    bool sort = strstr(r->command->name, "SORT") != NULL;

    if (strstr(r->command->name, "THREAD") != NULL) {
        if (!thread_parse(s, r, q, a) || !take_charset(s, r, q, a->next))
            return false;
        a = a->next->next;
    } else if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "RETURN") && a->next != NULL &&
        a->next->type == IMAP_LIST) {
        if (!search_parse_returns(s, r, q, a->next))
            return false;
        a = a->next->next;
    }
    if (sort) {
        if (!sort_parse(s, r, q, a))
            return false;
        a = a->next;
        if (!take_charset(s, r, q, a))
            return false;
        a = a->next;
    } else if (q->thread == NULL && imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "CHARSET")) {
        if (!take_charset(s, r, q, a->next))
            return false;
        a = a->next->next;
    }
    if ((s->rev2 || q->where.size > 0) && !q->extended && q->thread == NULL) { /* RFC 9051 section 6.4.4 */
        q->extended = true;
        q->returns = RETURN_ALL;
    }
    if (!search_parse(s, r, q, a))
        return false;
    if (q->bad_charset)
        return search_charset_unknown(s, r, q);
    if (s->uidonly && q->has_set) {
        request_reply(r, "BAD [UIDREQUIRED] Message numbers are not allowed once UIDONLY is enabled.");
        return false;
    }
    q->count = index_view_count(mailbox_view_index(s->view));
    return true;
}

void search_begin(struct session *s, struct request *r)
{
    struct search *q = r->state = ARENA_NEW(r->arena, struct search);

    if (!search_parse_all(s, r, q, r->args)) {
        r->condstore = false; /* MODSEQ among keys that are refused turns nothing on */
        return;
    }
    r->hold = !r->uid || q->has_set;
    r->condstore = r->condstore && q->thread == NULL;
}

/* ---- the walk ---------------------------------------------------------------------------------------------------------- */

enum step search_walk(struct session *s, struct search *q, struct budget *budget)
{
    if (q->seq == 0 && q->count > 0 && !q->has_modseq && store_search_matches_all(q->match)) {
        index_ranges_add(&q->hits, 1, q->count);
        q->seq = q->count;
    }
    while (q->in_message || q->seq < q->count) {
        struct error e = {0};
        struct index_record record;
        enum step step;
        bool yes;

        if (!q->in_message)
            q->seq++;
        step = store_search_match(q->match, s->view, q->seq, budget, &yes, &e);
        q->in_message = step == STEP_MORE;
        if (step == STEP_MORE)
            return step;
        if (step == STEP_ERROR && e.class == ERROR_EXPUNGED)
            q->issued = true;
        else if (step == STEP_ERROR)
            log_error_value(&s->log, &e);
        if (yes) {
            index_ranges_add(&q->hits, q->seq, q->seq);
            if (q->has_modseq && index_view_get(mailbox_view_index(s->view), q->seq, &record) &&
                record.modseq > q->modseq)
                q->modseq = record.modseq;
        }
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    q->walked = true;
    return STEP_DONE;
}

static void tell_progress(struct session *s, struct request *r, const struct search *q)
{
    uint64_t passed = (time_monotonic_ns() - r->begun_ns) / 1000000000, left = passed * (q->count - q->seq) / (q->seq > 0 ? q->seq : 1);

    if (session_extension(s, "INPROGRESS"))
        session_print(s, "* OK [INPROGRESS (\"%s\" %u %u)] Searching", r->tag, q->seq, q->count);
    else
        session_print(s, "* OK Searched %u%% of the mailbox, ETA %llu:%02u", (unsigned)((uint64_t)q->seq * 100 / q->count),
                  (unsigned long long)(left / 60), (unsigned)(left % 60));
}

enum step search_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct search *q = r->state;
    bool sort = q->sort != NULL;
    enum step step;

    if (!q->walked && search_walk(s, q, budget) != STEP_DONE) {
        if (session_may_tell_progress(s, r, PROGRESS_SECS))
            tell_progress(s, r, q);
        return STEP_MORE;
    }
    if (!sort && q->thread == NULL)
        limit_keep_last(s, r, &q->hits);
    if (sort && (step = sort_run(s, r, q, budget, e)) != STEP_DONE)
        return step;
    step = q->thread != NULL ? thread_run(s, r, q, budget) : search_tell(s, r, q);
    if (step != STEP_DONE)
        return step;
    index_cache_flush(mailbox_index(s->box));
    if (q->sort_limited)
        request_reply(r, "NO [LIMIT] Requested sort would have taken too long.");
    else
        request_reply(r, "OK %s%s completed.", r->limited != NULL ? r->limited : q->issued ? "[EXPUNGEISSUED] " : "", sort ? "Sort" : q->thread != NULL ? "Thread" : "Search");
    return STEP_DONE;
}

void search_free(struct search *q)
{
    store_search_free(q->match);
    for (size_t i = 0; i < q->with_ranges.count; i++)
        index_ranges_free(&q->with_ranges.at[i]->ranges);
    VEC_FREE(&q->with_ranges);
    index_ranges_free(&q->hits);
    mem_free(q->order);
}

void search_end(struct session *s, struct request *r)
{
    (void)s;
    if (r->state != NULL)
        search_free(r->state);
}
