/* notify.c - NOTIFY (RFC 5465, imap 12.6): what happens in mailboxes that are not selected, told between commands.
 *
 * The session keeps a picture of the mailboxes that it was asked to watch: names, counts, subscriptions. When the list of
 * mailboxes has news (store.h, mailbox_list_watch_add), it waits COLLECT_MS for what comes with it, makes a new picture in
 * steps, and tells the difference. A name that has gone while another with the same GUID has come is a rename; that is told
 * RENAME_MS after it was first seen, since the other half may still be on its way. */
#include "imap/notify.h"

#include <utlist.h>

enum { COLLECT_MS = 250, RENAME_MS = 1100, BOX_MS = 20 };

struct watched_box {
    char *vname;
    char separator;
    unsigned events;
    bool selectable, subscribed, has_guid, has_counts;
    bool leaving;                  /* is watched for this once */
    bool uncounted;                /* nobody had counted it when NOTIFY began */
    unsigned char guid[16];
    unsigned flags;                /* mailbox_info.flags */
    uint32_t messages, uid_next, uid_validity, unseen;
    uint64_t modseq;
    struct watched_box *partner;   /* of a rename, while pictures are compared */
    UT_hash_handle hh;
};

struct notify {
    struct arena *arena;           /* of the plan; NULL: NOTIFY NONE */
    struct notify_plan plan;
    struct list_watch *lists;
    struct mailbox_watch *box;     /* of the selected mailbox */
    ev_timer timer, box_timer;
    bool scan_due, box_due, syncing;
    uint64_t rename_ns;            /* since when a rename is waiting; 0: none does */
    struct watched_box *boxes;     /* the picture */
    struct scan *scan;             /* a new one in the making */
};

struct scan {
    bool first;                    /* with the option STATUS: counts everything that was not counted */
    struct arena *arena;           /* of the step */
    struct mailbox_list *list;
    struct store_op *op;
    struct mailbox_place place;
    struct mailbox_status status;
    struct watched_box *box;       /* its counts are being looked for */
    struct watched_box *boxes;
};

/* ---- who wants what ----------------------------------------------------------------------------------------------------- */

/* The events of the first group that names the mailbox (RFC 5465 section 3.1). */
static unsigned events_of(const struct notify_plan *plan, const struct mailbox_info *info)
{
    for (const struct notify_group *g = plan->groups; g != NULL; g = g->next) {
        if (mailbox_filter_has(&g->filter, info))
            return g->events;
    }
    return 0;
}

bool notify_hides_counts(const struct session *s)
{
    return s->notify != NULL && (s->notify->plan.selected_events & NOTIFY_NEW) == 0;
}

bool notify_hides_flags(const struct session *s)
{
    return s->notify != NULL && (s->notify->plan.selected_events & NOTIFY_FLAGS) == 0;
}

bool notify_delays_expunge(const struct session *s)
{
    return s->notify != NULL && s->notify->plan.delayed;
}

const struct fetch *notify_fetch(const struct session *s)
{
    return s->notify == NULL ? NULL : s->notify->plan.fetch;
}

/* ---- pictures ----------------------------------------------------------------------------------------------------------- */

static void box_free(struct watched_box *b)
{
    mem_free(b->vname);
    mem_free(b);
}

static void boxes_free(struct watched_box **boxes)
{
    struct watched_box *b, *next;

    HASH_ITER(hh, *boxes, b, next) {
        HASH_DEL(*boxes, b);
        box_free(b);
    }
}

static struct watched_box *box_find(struct watched_box *boxes, const char *vname)
{
    struct watched_box *b;

    HASH_FIND_STR(boxes, vname, b);
    return b;
}

static void scan_free(struct session *s, struct scan **scan)
{
    struct scan *c = *scan;

    *scan = NULL;
    if (c == NULL)
        return;
    store_op_free(&c->op);
    mailbox_list_end(&c->list);
    boxes_free(&c->boxes);
    worker_arena_back(s->worker, c->arena);
    mem_free(c);
}

static struct scan *scan_new(struct session *s)
{
    struct scan *c = mem_zero(1, sizeof(*c));
    struct slice all = SLICE("*");

    c->arena = worker_arena(s->worker);
    c->list = mailbox_list_begin(s->user, &all, 1, MAILBOX_LIST_RETURN_SUBSCRIBED);
    return c;
}

static void take_counts(struct scan *c)
{
    struct watched_box *b = c->box;
    const struct mailbox_status *t = &c->status;

    b->has_counts = b->has_guid = true;
    memcpy(b->guid, t->guid, sizeof(b->guid));
    b->messages = t->messages;
    b->uid_next = t->uid_next;
    b->uid_validity = t->uid_validity;
    b->unseen = t->unseen;
    b->modseq = t->highest_modseq > 0 ? t->highest_modseq : 1;
    b->uncounted = c->first && !t->from_list_index && t->uid_next == 1;
}

/* The mailbox at hand: its counts, in steps. */
static enum step count_box(struct session *s, struct scan *c, struct budget *budget)
{
    const unsigned items = STATUS_MESSAGES | STATUS_UIDNEXT | STATUS_UIDVALIDITY | STATUS_UNSEEN | STATUS_HIGHESTMODSEQ | STATUS_GUID;
    struct error e = {0};
    enum step step;

    if (c->op == NULL) {
        if (mailbox_place(s->user, c->arena, slice_from_str(c->box->vname), &c->place, &e) < 0) {
            c->box = NULL;
            return STEP_DONE;
        }
        c->op = mailbox_status(&c->place, items, &c->status);
    }
    step = session_op(s, &c->op, budget, &e);
    if (step != STEP_DONE && step != STEP_ERROR)
        return step;
    if (step == STEP_DONE)
        take_counts(c);
    c->box = NULL;
    return STEP_DONE;
}

static enum step scan_step(struct session *s, struct scan *c, struct budget *budget)
{
    const struct mailbox_info *info;
    struct error e = {0};

    for (;;) {
        struct watched_box *b;
        unsigned events;
        enum step step;
        bool leaving = false;

        if (c->box != NULL) {
            step = count_box(s, c, budget);
            if (step != STEP_DONE)
                return step;
        }
        step = mailbox_list_next(c->list, budget, &info, &e);
        if (step == STEP_WAIT)
            return STEP_MORE;
        if (step != STEP_MORE)
            return STEP_DONE;
        events = events_of(&s->notify->plan, info);
        if (events == 0 && box_find(s->notify->boxes, info->vname) != NULL) {
            leaving = true; /* no longer subscribed: that is told, then it is no longer watched */
            events = box_find(s->notify->boxes, info->vname)->events & NOTIFY_SUBSCRIPTIONS;
        }
        if (events == 0)
            continue;
        b = mem_zero(1, sizeof(*b));
        b->vname = mem_strdup(info->vname);
        b->separator = info->ns->separator;
        b->events = events;
        b->subscribed = (info->flags & MAILBOX_INFO_SUBSCRIBED) != 0;
        b->flags = info->flags;
        b->selectable = (info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) == 0;
        HASH_ADD_KEYPTR(hh, c->boxes, b->vname, strlen(b->vname), b);
        b->leaving = leaving;
        if (b->selectable && !leaving)
            c->box = b;
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
}

/* ---- telling the difference --------------------------------------------------------------------------------------------- */

static bool is_selected(const struct session *s, const struct watched_box *b)
{
    return s->box != NULL && strcmp(mailbox_where(s->box)->vname, b->vname) == 0;
}

static void tell_status(struct session *s, const struct watched_box *b, unsigned items)
{
    struct mailbox_status status = {.messages = b->messages, .uid_next = b->uid_next, .uid_validity = b->uid_validity,
                                    .unseen = b->unseen, .highest_modseq = b->modseq};
    struct buffer name = {0}, out = {0};

    put_shown_name(s, &name, b->vname);
    put_status(s, &out, buffer_slice(&name), items, false, &status);
    session_write(s, buffer_slice(&out));
    buffer_free(&name);
    buffer_free(&out);
}

/* `flags` NULL: what is known, after \Subscribed if that is to be said. */
static void tell_list(struct session *s, const struct watched_box *b, const char *flags, bool subscribed, const char *old_name)
{
    bool first = !subscribed;
    struct buffer out = {0};

    buffer_printf(&out, "* LIST (%s", flags != NULL ? flags : subscribed ? "\\Subscribed" : "");
    if (flags == NULL && (b->flags & MAILBOX_INFO_BY_INDEX) != 0 && strcmp(b->vname, "INBOX") != 0)
        put_box_flags(&out, b->flags, "\\NonExistent", true, &first);
    buffer_printf(&out, ") \"%s%c\" ", b->separator == '\\' || b->separator == '"' ? "\\" : "", b->separator);
    put_mailbox(s, &out, b->vname);
    if (old_name != NULL) {
        buffer_append_str(&out, " (\"OLDNAME\" (");
        put_mailbox(s, &out, old_name);
        buffer_append_str(&out, "))");
    }
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
}

/* What has come pairs with what has gone by GUID: a rename. True: there is one. */
static bool pair_renames(struct notify *n, struct scan *c)
{
    struct watched_box *b, *old, *next, *by_guid = NULL;
    bool any = false;

    /* a second table of the vanished, by GUID: entries are copies, so that the hash handles do not clash */
    HASH_ITER(hh, n->boxes, old, next)
        old->partner = NULL;
    HASH_ITER(hh, n->boxes, old, next) {
        struct watched_box *copy;

        if (!old->has_guid || box_find(c->boxes, old->vname) != NULL)
            continue;
        HASH_FIND(hh, by_guid, old->guid, sizeof(old->guid), copy);
        if (copy != NULL)
            continue;
        copy = mem_zero(1, sizeof(*copy));
        memcpy(copy->guid, old->guid, sizeof(copy->guid));
        copy->partner = old;
        HASH_ADD(hh, by_guid, guid, sizeof(copy->guid), copy);
    }
    HASH_ITER(hh, c->boxes, b, next) {
        struct watched_box *copy = NULL;

        b->partner = NULL;
        if (b->has_guid && box_find(n->boxes, b->vname) == NULL)
            HASH_FIND(hh, by_guid, b->guid, sizeof(b->guid), copy);
        if (copy != NULL && copy->partner->partner == NULL) {
            b->partner = copy->partner;
            copy->partner->partner = b;
            any = true;
        }
    }
    HASH_ITER(hh, by_guid, b, next) {
        HASH_DEL(by_guid, b);
        mem_free(b);
    }
    return any;
}

/* A rename that was seen only now: the picture stays as if nothing had happened to the two. */
static void put_off_renames(struct notify *n, struct scan *c)
{
    struct watched_box *b, *next;

    HASH_ITER(hh, c->boxes, b, next) {
        struct watched_box *old = b->partner;

        if (old == NULL)
            continue;
        HASH_DEL(c->boxes, b);
        box_free(b);
        HASH_DEL(n->boxes, old);
        old->partner = NULL;
        HASH_ADD_KEYPTR(hh, c->boxes, old->vname, strlen(old->vname), old);
    }
}

static unsigned with_modseq(const struct session *s, unsigned items)
{
    return s->condstore ? items | STATUS_HIGHESTMODSEQ : items;
}

static void tell_new_box(struct session *s, struct watched_box *b)
{
    if ((b->events & NOTIFY_NAMES) != 0 || (b->subscribed && (b->events & NOTIFY_SUBSCRIPTIONS) != 0))
        tell_list(s, b, NULL, b->subscribed && (b->events & NOTIFY_SUBSCRIPTIONS) != 0, b->partner == NULL ? NULL : b->partner->vname);
    if (b->partner == NULL && b->has_counts && b->uid_next > 1 && (b->events & NOTIFY_NEW) != 0 && !is_selected(s, b))
        tell_status(s, b, with_modseq(s, STATUS_MESSAGES | STATUS_UIDNEXT | STATUS_UIDVALIDITY | STATUS_UNSEEN));
}

/* An INBOX that nobody had opened before: the real server tells of it twice, over dbox once as of a new name. */
static bool is_new_inbox(const struct watched_box *old, const struct watched_box *b)
{
    return old->uncounted && strcmp(b->vname, "INBOX") == 0;
}

static void tell_changed_box(struct session *s, struct watched_box *old, struct watched_box *b)
{
    unsigned items = with_modseq(s, STATUS_MESSAGES | STATUS_UIDNEXT | STATUS_UNSEEN);

    if (old->subscribed != b->subscribed && (b->events & NOTIFY_SUBSCRIPTIONS) != 0)
        tell_list(s, b, NULL, b->subscribed, NULL);
    if (!b->has_counts || (b->events & NOTIFY_NEW) == 0 || is_selected(s, b))
        return;
    if (!old->has_counts || old->uid_validity != b->uid_validity || old->uncounted)
        items |= STATUS_UIDVALIDITY;
    b->uncounted = false;
    if (is_new_inbox(old, b) && (b->flags & MAILBOX_INFO_BY_INDEX) == 0)
        tell_status(s, b, items);
    if ((items & STATUS_UIDVALIDITY) != 0 || old->messages != b->messages || old->uid_next != b->uid_next)
        tell_status(s, b, items);
    else if ((b->events & NOTIFY_FLAGS) != 0 && (old->unseen != b->unseen || (s->condstore && old->modseq != b->modseq)))
        tell_status(s, b, with_modseq(s, STATUS_UNSEEN));
}

/* `put_off`: nothing of renames. */
static void tell_difference(struct session *s, struct notify *n, struct scan *c, bool put_off)
{
    struct watched_box *b, *old, *next;

    HASH_ITER(hh, c->boxes, b, next) {
        old = box_find(n->boxes, b->vname);
        if (old == NULL && !(put_off && b->partner != NULL))
            tell_new_box(s, b);
        else if (old != NULL && is_new_inbox(old, b) && (b->flags & MAILBOX_INFO_BY_INDEX) != 0 && (b->events & NOTIFY_NAMES) != 0)
            tell_list(s, b, NULL, false, NULL);
    }
    HASH_ITER(hh, n->boxes, old, next) {
        if (box_find(c->boxes, old->vname) == NULL && old->partner == NULL && (old->events & NOTIFY_NAMES) != 0)
            tell_list(s, old, "\\NonExistent", false, NULL);
    }
    HASH_ITER(hh, c->boxes, b, next) {
        old = box_find(n->boxes, b->vname);
        if (old != NULL)
            tell_changed_box(s, old, b);
    }
}

static void start_timer(struct session *s, ev_timer *timer, unsigned ms)
{
    if (ev_is_active(timer))
        return;
    ev_timer_set(timer, ms / 1000.0, 0);
    ev_timer_start(worker_loop(s->worker), timer);
}

static void scan_done(struct session *s)
{
    struct notify *n = s->notify;
    struct scan *c = n->scan;
    struct watched_box *b, *next;
    uint64_t now = time_monotonic_ns();
    bool renames = pair_renames(n, c), put_off = false;

    if (!renames) {
        n->rename_ns = 0;
    } else if (n->rename_ns == 0 || now - n->rename_ns < (uint64_t)RENAME_MS * 1000000) {
        if (n->rename_ns == 0)
            n->rename_ns = now - (uint64_t)COLLECT_MS * 1000000;
        put_off = true;
        start_timer(s, &n->timer, (unsigned)((uint64_t)RENAME_MS - (now - n->rename_ns) / 1000000) + 1);
    } else {
        n->rename_ns = 0;
    }
    tell_difference(s, n, c, put_off);
    if (put_off)
        put_off_renames(n, c);
    boxes_free(&n->boxes);
    n->boxes = c->boxes;
    c->boxes = NULL;
    HASH_ITER(hh, n->boxes, b, next) {
        if (b->leaving) {
            HASH_DEL(n->boxes, b);
            box_free(b);
        }
    }
    scan_free(s, &n->scan);
}

/* ---- news --------------------------------------------------------------------------------------------------------------- */

static void on_lists(void *arg)
{
    struct session *s = arg;

    start_timer(s, &s->notify->timer, COLLECT_MS);
}

static void on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
    struct session *s = t->data;

    (void)loop;
    (void)events;
    s->notify->scan_due = true;
    session_wake(s);
}

static void on_box(void *arg)
{
    struct session *s = arg;

    start_timer(s, &s->notify->box_timer, BOX_MS);
}

static void on_box_timer(struct ev_loop *loop, ev_timer *t, int events)
{
    struct session *s = t->data;

    (void)loop;
    (void)events;
    s->notify->box_due = true;
    session_wake(s);
}

bool notify_pending(const struct session *s)
{
    const struct notify *n = s->notify;

    return n != NULL && (n->scan_due || n->scan != NULL || n->box_due || n->syncing);
}

enum step notify_step(struct session *s, struct budget *budget)
{
    struct notify *n = s->notify;
    enum step step;

    if (n->box_due && s->view != NULL)
        n->syncing = true;
    n->box_due = false;
    if (n->syncing) {
        step = sync_news(s, budget);
        if (step != STEP_DONE)
            return step;
        n->syncing = false;
        if (s->phase == PHASE_OVER)
            return STEP_DONE;
    }
    if (n->scan == NULL && n->scan_due) {
        n->scan_due = false;
        n->scan = scan_new(s);
    }
    if (n->scan != NULL) {
        step = scan_step(s, n->scan, budget);
        if (step != STEP_DONE)
            return step;
        scan_done(s);
    }
    return STEP_DONE;
}

void notify_selected(struct session *s)
{
    struct notify *n = s->notify;

    if (n != NULL && n->box == NULL && s->box != NULL && n->plan.selected_events != 0)
        n->box = mailbox_watch_add(s->box, on_box, s);
}

void notify_unselected(struct session *s)
{
    struct notify *n = s->notify;

    if (n == NULL)
        return;
    mailbox_watch_remove(&n->box);
    n->box_due = n->syncing = false;
}

void notify_free(struct session *s)
{
    struct notify *n = s->notify;

    if (n == NULL)
        return;
    s->notify = NULL;
    mailbox_list_watch_remove(&n->lists);
    mailbox_watch_remove(&n->box);
    ev_timer_stop(worker_loop(s->worker), &n->timer);
    ev_timer_stop(worker_loop(s->worker), &n->box_timer);
    scan_free(s, &n->scan);
    boxes_free(&n->boxes);
    if (n->arena != NULL)
        worker_arena_back(s->worker, n->arena);
    mem_free(n);
}

/* ---- the command -------------------------------------------------------------------------------------------------------- */

static bool wants_lists(const struct notify_plan *plan)
{
    for (const struct notify_group *g = plan->groups; g != NULL; g = g->next) {
        if (g->events != 0)
            return true;
    }
    return false;
}

static bool wants_flags(const struct notify_plan *plan)
{
    bool flags = (plan->selected_events & NOTIFY_FLAGS) != 0;

    for (const struct notify_group *g = plan->groups; g != NULL; g = g->next)
        flags = flags || (g->events & NOTIFY_FLAGS) != 0;
    return flags;
}

void notify_begin(struct session *s, struct request *r)
{
    struct notify_plan plan = {0};
    struct notify *n;

    r->sync = false;
    if (!notify_parse(s, r, &plan))
        return;
    notify_free(s);
    n = s->notify = mem_zero(1, sizeof(*n));
    n->arena = r->arena;
    r->arena_kept = true;
    n->plan = plan;
    ev_init(&n->timer, on_timer);
    ev_init(&n->box_timer, on_box_timer);
    n->timer.data = n->box_timer.data = s;
    r->sync = true;
    r->condstore = plan.status && wants_flags(&plan) && !s->condstore;
    if (wants_lists(&plan)) {
        n->lists = mailbox_list_watch_add(s->user, on_lists, s);
        worker_watch_lists(s->worker);
        n->scan = scan_new(s);
        n->scan->first = plan.status;
    }
    notify_selected(s);
}

static void tell_all(struct session *s, struct notify *n)
{
    struct watched_box *b, *next;

    HASH_ITER(hh, n->boxes, b, next) {
        unsigned items = STATUS_MESSAGES | STATUS_UIDNEXT | STATUS_UIDVALIDITY | STATUS_UNSEEN;

        if ((b->events & NOTIFY_NEW) == 0 || is_selected(s, b) || !b->selectable)
            continue;
        if (b->has_counts)
            tell_status(s, b, wants_flags(&n->plan) ? items | STATUS_HIGHESTMODSEQ : items);
        else
            tell_list(s, b, "\\NoAccess", false, NULL);
    }
}

/* The first picture, without which there is no difference. */
enum step notify_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct notify *n = s->notify;
    enum step step;

    (void)e;
    if (n->scan != NULL) {
        step = scan_step(s, n->scan, budget);
        if (step != STEP_DONE)
            return step;
        n->boxes = n->scan->boxes;
        n->scan->boxes = NULL;
        scan_free(s, &n->scan);
        if (n->plan.status)
            tell_all(s, n);
    }
    request_reply(r, "OK NOTIFY completed.");
    return STEP_DONE;
}
