/* multisearch.c - ESEARCH (RFC 7377): one search in many mailboxes, one after the other.
 *
 * First the names that are meant are collected, then each mailbox is opened, brought up to date without taking \Recent, searched
 * and closed: never more than one is open, and what a search needed goes with its arena. The keys are read anew for each, since
 * what a UID set means depends on the mailbox. Mailboxes without results, and those that the user may not read or that are not
 * there, are passed over in silence (RFC 7377 section 2). The selected mailbox is searched as the client knows it. */
#include "imap/filter.h"
#include "imap/search.h"

enum { PROGRESS_SECS = 10, FILTERS_MAX = 20 };

/* What of a session the search looks at. */
struct place_of_search {
    struct mailbox *box;
    struct mailbox_view *view;
    struct index_ranges saved;
};

struct multisearch {
    struct mailbox_filter filters[FILTERS_MAX];
    size_t filter_count;
    bool selected, others;             /* the selected mailbox, any other */
    const struct imap_arg *program;    /* RETURN and keys */

    struct mailbox_list *list;         /* names are being collected; NULL: they are */
    VEC(const char *) names;
    size_t next;

    struct arena *arena;               /* of the mailbox being searched; NULL: none is */
    bool elsewhere;                    /* it is not the selected one, but: */
    struct place_of_search at;
    struct store_op *op;
    struct search *search;
};

/* ---- arguments ------------------------------------------------------------------------------------------------------------ */

static bool parse_sources(struct session *s, struct request *r, struct multisearch *m, const struct imap_arg *list)
{
    const struct imap_arg *a = list->children;

    while (a != NULL) {
        struct mailbox_filter *f = &m->filters[m->filter_count];

        if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "selected")) {
            m->selected = true;
            a = a->next;
        } else if (a->type == IMAP_LIST) { /* scope options: none are known (RFC 7377 section 2.2) */
            request_bad(s, r, "Unknown scope option");
            return false;
        } else if (m->filter_count == FILTERS_MAX || !mailbox_filter_parse(s, r, &a, f)) {
            request_bad(s, r, "Invalid mailbox filter");
            return false;
        } else if (f->too_many) {
            request_reply(r, "NO [LIMIT] Too many mailbox names.");
            return false;
        } else {
            m->filter_count++;
            m->others = true;
        }
    }
    if (m->selected || m->others)
        return true;
    request_bad(s, r, "Empty mailbox filter");
    return false;
}

void esearch_begin(struct session *s, struct request *r)
{
    struct multisearch *m = r->state = ARENA_NEW(r->arena, struct multisearch);
    const struct imap_arg *a = r->args;
    struct slice all = SLICE("*");

    r->uid = true;
    if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "IN") && a->next != NULL && a->next->type == IMAP_LIST) {
        if (!parse_sources(s, r, m, a->next))
            return;
        a = a->next->next;
    } else {
        m->selected = true;
    }
    if (m->selected && s->view == NULL) {
        request_reply(r, "BAD No mailbox selected.");
        return;
    }
    m->program = a;
    if (m->selected)
        VEC_PUSH(&m->names, arena_strdup(r->arena, mailbox_where(s->box)->vname));
    if (m->others)
        m->list = mailbox_list_begin(s->user, &all, 1, MAILBOX_LIST_RETURN_SUBSCRIBED);
}

/* ---- names ---------------------------------------------------------------------------------------------------------------- */

static enum step collect(struct request *r, struct multisearch *m, struct budget *budget, struct error *e)
{
    const struct mailbox_info *info;
    enum step step;

    while ((step = mailbox_list_next(m->list, budget, &info, e)) == STEP_MORE) {
        bool wanted = false;

        if ((info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) != 0)
            continue;
        for (size_t i = 0; i < m->filter_count && !wanted; i++)
            wanted = mailbox_filter_has(&m->filters[i], info);
        if (wanted && !(m->selected && strcmp(m->names.at[0], info->vname) == 0))
            VEC_PUSH(&m->names, arena_strdup(r->arena, info->vname));
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    if (step == STEP_DONE)
        mailbox_list_end(&m->list);
    return step == STEP_WAIT ? STEP_MORE : step;
}

/* ---- one mailbox ---------------------------------------------------------------------------------------------------------- */

static void swap_place(struct session *s, struct multisearch *m)
{
    struct place_of_search own = {s->box, s->view, s->saved};

    if (!m->elsewhere)
        return;
    s->box = m->at.box;
    s->view = m->at.view;
    s->saved = m->at.saved;
    m->at = own;
}

static void close_one(struct multisearch *m)
{
    store_op_free(&m->op);
    if (m->search != NULL)
        search_free(m->search);
    m->search = NULL;
    if (m->at.view != NULL)
        mailbox_view_close(&m->at.view);
    if (m->at.box != NULL)
        mailbox_close(&m->at.box);
    m->at = (struct place_of_search){0};
    m->elsewhere = false;
    if (m->arena != NULL)
        arena_free(m->arena);
    m->arena = NULL;
}

/* Neither is worth a word: what is not there, and what is not for this user. */
static void tell_failure(struct session *s, struct request *r, const char *vname, const struct error *e)
{
    struct buffer shown = {0};

    if (e->class == ERROR_NOT_FOUND || e->class == ERROR_PERMISSION || e->class == ERROR_INVALID)
        return;
    put_shown_name(s, &shown, vname);
    session_print(s, "* NO Failed to search mailbox %s: %s", buffer_cstr(&shown), error_reply(s, r->arena, e, ERROR_PLAIN));
    buffer_free(&shown);
}

static void open_one(struct session *s, struct request *r, struct multisearch *m, const char *vname)
{
    struct mailbox_place place;
    struct error e = {0};

    m->arena = arena_new();
    if (s->box != NULL && strcmp(mailbox_where(s->box)->vname, vname) == 0)
        return;
    if (mailbox_place(s->user, m->arena, slice_from_str(vname), &place, &e) < 0 || mailbox_open(&m->at.box, &place, 0, &e) < 0) {
        m->at.box = NULL;
        tell_failure(s, r, vname, &e);
        close_one(m);
        return;
    }
    m->elsewhere = true;
    m->at.view = mailbox_view_open(m->at.box, true);
    m->op = mailbox_sync(m->at.box, m->at.view, SYNC_POLL);
}

/* RETURN and keys, for the mailbox that stands in the session now. False: answered. */
static bool begin_search(struct session *s, struct request *r, struct multisearch *m)
{
    struct search *q = m->search = ARENA_NEW(m->arena, struct search);
    struct buffer shown = {0};
    struct index_status status;

    put_shown_name(s, &shown, mailbox_where(s->box)->vname);
    q->where = arena_slice(m->arena, buffer_slice(&shown));
    buffer_free(&shown);
    index_status(mailbox_index(s->box), &status);
    q->uid_validity = status.uid_validity;
    if (!search_parse_all(s, r, q, m->program))
        return false;
    if ((q->returns & RETURN_UPDATE) != 0)
        request_bad(s, r, "ESEARCH cannot be watched");
    else if (m->others && q->has_set)
        request_bad(s, r, "Message numbers mean nothing in several mailboxes");
    else if (m->others && (q->returns & RETURN_SAVE) != 0)
        request_bad(s, r, "Results of several mailboxes cannot be saved");
    r->hold = q->has_set;
    return r->reply == NULL;
}

/* Called with the mailbox in the session and its arena in the request. DONE: this mailbox is over, or the request answered. */
static enum step search_one(struct session *s, struct request *r, struct multisearch *m, struct budget *budget)
{
    struct search *q = m->search;

    if (q == NULL) {
        if (!begin_search(s, r, m))
            return STEP_DONE;
        q = m->search;
    }
    if (!q->walked && search_walk(s, q, budget) != STEP_DONE)
        return STEP_MORE;
    if (q->hits.count > 0 || (q->returns & RETURN_SAVE) != 0)
        search_tell(s, r, q);
    index_cache_flush(mailbox_index(s->box));
    return STEP_DONE;
}

static enum step run_one(struct session *s, struct request *r, struct multisearch *m, struct budget *budget)
{
    struct arena *own = r->arena;
    enum step step;

    swap_place(s, m);
    r->arena = m->arena;
    step = search_one(s, r, m, budget);
    r->arena = own;
    swap_place(s, m);
    if (step != STEP_DONE)
        return step;
    if (r->reply != NULL) /* it lies in the arena of the mailbox */
        r->reply = arena_strdup(r->arena, r->reply);
    close_one(m);
    return STEP_DONE;
}

enum step esearch_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct multisearch *m = r->state;
    enum step step;

    if (m->list != NULL && (step = collect(r, m, budget, e)) != STEP_DONE)
        return step;
    while (m->arena != NULL || m->next < m->names.count) {
        if (stream_full(s->io))
            return STEP_OUTPUT_FULL;
        if (m->arena == NULL)
            open_one(s, r, m, m->names.at[m->next++]);
        if (m->arena == NULL)
            continue;
        if (m->op != NULL) {
            step = session_op(s, &m->op, budget, e);
            if (step == STEP_ERROR) {
                tell_failure(s, r, m->names.at[m->next - 1], e);
                close_one(m);
                continue;
            }
            if (step != STEP_DONE)
                return step;
        }
        step = run_one(s, r, m, budget);
        if (r->reply != NULL)
            return STEP_DONE;
        if (session_may_tell_progress(s, r, PROGRESS_SECS))
            session_print(s, "* OK Searched %zu of %zu mailboxes", m->next - 1, m->names.count);
        if (step != STEP_DONE || budget_spent(budget, 1))
            return STEP_MORE;
    }
    request_reply(r, "OK Search completed.");
    return STEP_DONE;
}

void esearch_end(struct session *s, struct request *r)
{
    struct multisearch *m = r->state;

    (void)s;
    if (m == NULL)
        return;
    close_one(m);
    mailbox_list_end(&m->list);
    VEC_FREE(&m->names);
}
