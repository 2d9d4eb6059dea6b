/* select.c - SELECT, EXAMINE, CLOSE, UNSELECT (RFC 3501 section 6.3.1, 6.4.2; imap 8.1). */
#include "imap/notify.h"
#include "imap/session.h"
#include "imap/updates.h"

struct select_state {
    struct slice asked;            /* the name as the client wrote it */
    bool opened, synced, enable_sent;
    bool qresync;
    uint32_t uid_validity;
    uint64_t modseq;
    struct imap_set known;
    bool has_known;
};

void session_unselect(struct session *s)
{
    mailbox_watch_remove(&s->watch);
    sync_free(s);
    updates_forget(s);
    notify_unselected(s);
    if (s->view != NULL)
        mailbox_view_close(&s->view);
    if (s->box != NULL) {
        index_cache_flush(mailbox_index(s->box));
        mailbox_close(&s->box);
    }
    index_ranges_free(&s->saved);
    s->saved = (struct index_ranges){0};
    if (s->unreadable != NULL)
        index_ranges_free(s->unreadable);
    mem_free(s->unreadable);
    s->unreadable = NULL;
    s->messages = s->recent = s->hint_uid = 0;
    s->modseq_told = s->examined = false;
    s->modseq_confirmed = s->modseq_fetched = 0;
}

bool session_fetch_failed(struct session *s, uint32_t uid)
{
    if (s->unreadable == NULL)
        s->unreadable = mem_zero(1, sizeof(*s->unreadable));
    else if (index_ranges_has(s->unreadable, uid))
        return true;
    index_ranges_add(s->unreadable, uid, uid);
    return false;
}

void session_mailbox_lost(struct session *s)
{
    static const char text[] = "IMAP session state is inconsistent, please relogin.";

    session_bye(s, text, text);
}

/* Numbers in a set; 0 when it holds '*', which has no size. */
static uint64_t set_size(const struct imap_set *set)
{
    uint64_t n = 0;

    for (size_t i = 0; i < set->count; i++) {
        uint32_t a = set->at[i].first, b = set->at[i].last;

        if (a == 0 || b == 0)
            return 0;
        n += (a < b ? b - a : a - b) + (uint64_t)1;
    }
    return n;
}

/* A set without '*'. */
static bool is_known_set(struct request *r, const struct imap_arg *a, struct imap_set *set)
{
    return imap_arg_is_atom(a) && imap_set_parse(r->arena, a->text, set) == 0 && set_size(set) > 0;
}

/* "(sequence-set uid-set)": a sample of what the client knows. */
static const char *known_fault(struct request *r, const struct imap_arg *list)
{
    const struct imap_arg *first = list->children;
    struct imap_set seqs, uids;

    if (!is_known_set(r, first, &seqs))
        return "Invalid QRESYNC known-sequence-set";
    if (!is_known_set(r, first->next, &uids))
        return "Invalid QRESYNC known-uid-set";
    if (set_size(&seqs) != set_size(&uids))
        return "Invalid QRESYNC sets";
    return first->next->next == NULL ? NULL : "Too many parameters to QRESYNC known set";
}

static bool parse_qresync(struct session *s, struct request *r, struct select_state *t, const struct imap_arg *list)
{
    const struct imap_arg *a = list != NULL && list->type == IMAP_LIST ? list->children : NULL;
    const char *fault = NULL;
    uint64_t modseq = 0;

    if (!s->qresync)
        fault = "QRESYNC not enabled";
    else if (list == NULL || list->type != IMAP_LIST)
        fault = "QRESYNC parameters missing";
    else if (!imap_arg_is_atom(a) || !slice_to_u32(a->text, &t->uid_validity) || !imap_arg_is_atom(a->next) ||
             !imap_number(a->next->text, &modseq))
        fault = "Invalid QRESYNC parameters";
    if (fault == NULL) {
        t->modseq = modseq;
        t->qresync = true;
        a = a->next->next;
        if (imap_arg_is_atom(a)) {
            if (imap_set_parse(r->arena, a->text, &t->known) < 0 || slice_find(a->text, '*') >= 0)
                fault = "Invalid QRESYNC known-uids";
            t->has_known = true;
            a = a->next;
        }
    }
    if (fault == NULL && a != NULL && a->type == IMAP_LIST) {
        fault = known_fault(r, a);
        a = a->next;
    }
    if (fault == NULL && a != NULL)
        fault = "Invalid QRESYNC parameters";
    if (fault != NULL)
        request_bad(s, r, "%s", fault);
    return fault == NULL;
}

static bool parse_options(struct session *s, struct request *r, struct select_state *t, const struct imap_arg *list)
{
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        if (!imap_arg_is_atom(a)) {
            request_bad(s, r, "SELECT options contain non-atoms");
            return false;
        }
        if (slice_equal_str_nocase(a->text, "CONDSTORE")) {
            s->condstore = true;
        } else if (slice_equal_str_nocase(a->text, "QRESYNC")) {
            if (!parse_qresync(s, r, t, a->next))
                return false;
            a = a->next;
            s->condstore = true;
        } else {
            request_bad(s, r, "Unknown FETCH modifier");
            return false;
        }
    }
    return true;
}

static void close_earlier(struct session *s)
{
    if (s->view == NULL)
        return;
    session_print(s, "* OK [CLOSED] Previous mailbox closed.");
    session_unselect(s);
}

void select_begin(struct session *s, struct request *r)
{
    struct select_state *t = r->state = ARENA_NEW(r->arena, struct select_state);
    struct mailbox_place place;
    struct slice name;
    struct error e = {0};

    close_earlier(s);
    if (r->args == NULL || !imap_arg_is_string(r->args)) {
        request_bad(s, r, "Invalid arguments");
        return;
    }
    if (!request_name(s, r, r->args->text, &name)) /* the one fault of a name that is told before those of the options */
        return;
    if (r->args->next != NULL && r->args->next->type == IMAP_LIST && !parse_options(s, r, t, r->args->next))
        return;
    if (!request_place(s, r, r->args, &place, ERROR_PLAIN))
        return;
    if (mailbox_open(&s->box, &place, 0, &e) < 0) {
        s->box = NULL;
        request_error(s, r, &e);
        return;
    }
    t->asked = r->args->text;
    s->examined = r->command->name[0] == 'E';
    s->view = mailbox_view_open(s->box, s->examined);
    r->op = mailbox_sync(s->box, s->view, s->examined ? SYNC_POLL : SYNC_SELECT);
}

/* Keyword names that this session learnt are its own, as long as it stays with the mailbox. */
static void take_keywords(struct session *s)
{
    session_keywords_begin(s, mailbox_where(s->box)->vname);
    for (struct session_keyword *k = s->keywords; k != NULL; k = k->hh.next)
        k->bit = -1;
    s->keywords_seen = 0;
    session_keywords_refresh(s);
}

static void tell_vanished_earlier(struct session *s, struct select_state *t)
{
    struct index_ranges gone = {0}, wanted = {0};
    struct index_record record;
    struct error e = {0};
    struct buffer out = {0};
    uint32_t next = index_view_next_uid(mailbox_view_index(s->view)), uid = 1;

    if (index_vanished_since(mailbox_index(s->box), t->modseq, &gone, &e) < 0) {
        /* The logs do not reach back: everything that is missing below the next UID. */
        index_ranges_free(&gone);
        gone = (struct index_ranges){0};
        while (uid < next) {
            uint32_t to = index_get_from(mailbox_index(s->box), uid, &record) && record.uid < next ? record.uid : next;

            if (to > uid)
                index_ranges_add(&gone, uid, to - 1);
            uid = to + 1;
        }
    }
    if (t->has_known) {
        for (size_t i = 0; i < t->known.count; i++) {
            uint32_t a = t->known.at[i].first, b = t->known.at[i].last;

            index_ranges_add(&wanted, a < b ? a : b, a < b ? b : a);
        }
    } else {
        index_ranges_add(&wanted, 1, UINT32_MAX);
    }
    {
        struct index_ranges both = {0};
        size_t i = 0, k = 0;

        while (i < gone.count && k < wanted.count) {
            uint32_t a = gone.at[i].first > wanted.at[k].first ? gone.at[i].first : wanted.at[k].first;
            uint32_t b = gone.at[i].last < wanted.at[k].last ? gone.at[i].last : wanted.at[k].last;

            if (a <= b)
                index_ranges_add(&both, a, b);
            if (gone.at[i].last < wanted.at[k].last)
                i++;
            else
                k++;
        }
        if (both.count > 0) {
            buffer_append_str(&out, "* VANISHED (EARLIER) ");
            imap_ranges_put(&out, &both);
            buffer_append_str(&out, "\r\n");
            session_write(s, buffer_slice(&out));
        }
        index_ranges_free(&both);
    }
    buffer_free(&out);
    index_ranges_free(&gone);
    index_ranges_free(&wanted);
}

static void tell_changed_since(struct session *s, struct select_state *t)
{
    struct index_ranges seqs = {0};
    struct index_record record;
    size_t at = 0;

    if (t->has_known)
        imap_set_resolve(&t->known, IMAP_SET_UIDS, mailbox_view_index(s->view), &s->saved, &seqs);
    else if (s->messages > 0)
        index_ranges_add(&seqs, 1, s->messages);
    for (uint32_t seq = 0; (seq = imap_ranges_next(&seqs, &at, seq)) != 0;) {
        struct buffer out = {0};

        if (!index_view_get(mailbox_view_index(s->view), seq, &record) || record.modseq <= t->modseq)
            continue;
        put_fetch_front(s, &out, seq, record.uid);
        buffer_printf(&out, "UID %u FLAGS ", record.uid);
        session_put_flags(s, &out, record.flags, mailbox_view_recent(s->view, record.uid), record.keywords);
        buffer_printf(&out, " MODSEQ (%llu))\r\n", (unsigned long long)record.modseq);
        session_write(s, buffer_slice(&out));
        buffer_free(&out);
    }
    index_ranges_free(&seqs);
}

/* What IMAP4rev2 and OBJECTID add (RFC 9051 section 6.3.2, RFC 8474 section 4.2). */
static void tell_extensions(struct session *s, const struct select_state *t)
{
    const struct mailbox_place *place = mailbox_where(s->box);
    char separator = place->ns->separator;
    unsigned char guid[16];
    struct buffer out = {0}, shown = {0};
    struct error e;

    if (s->rev2) {
        buffer_printf(&out, "* LIST () \"%s%c\" ", separator == '\\' || separator == '"' ? "\\" : "", separator);
        put_mailbox(s, &out, place->vname);
        put_shown_name(s, &shown, place->vname);
        if (!slice_equal(t->asked, buffer_slice(&shown))) {
            buffer_append_str(&out, " (\"OLDNAME\" (");
            mime_put_astring(&out, t->asked);
            buffer_append_str(&out, "))");
        }
        buffer_append_str(&out, "\r\n");
    }
    if (session_extension(s, "OBJECTID") && mailbox_guid(s->box, guid, &e) == 0) {
        buffer_append_str(&out, "* OK [MAILBOXID (F");
        text_hex_encode(&out, slice_of(guid, sizeof(guid)));
        buffer_append_str(&out, ")] Ok\r\n");
    }
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    buffer_free(&shown);
}

static void tell_mailbox(struct session *s, struct select_state *t)
{
    const struct index_view *view = mailbox_view_index(s->view);
    struct index_status status;
    uint32_t unseen;

    index_view_status(view, &status);
    s->unseen = status.unseen;
    index_status(mailbox_index(s->box), &status);
    s->messages = index_view_count(view);
    s->recent = mailbox_view_recent_count(s->view);
    s->modseq_heard = session_highest_modseq(s);
    session_tell_flags(s);
    session_print(s, "* %u EXISTS", s->messages);
    if (!s->rev2)
        session_print(s, "* %u RECENT", s->recent);
    unseen = s->rev2 || s->uidonly ? 0 : index_view_first_unseen(view);
    if (unseen != 0)
        session_print(s, "* OK [UNSEEN %u] First unseen.", unseen);
    session_print(s, "* OK [UIDVALIDITY %u] UIDs valid", status.uid_validity);
    session_print(s, "* OK [UIDNEXT %u] Predicted next UID", index_view_next_uid(view));
    if (!session_modseqs_last(s)) {
        session_print(s, "* OK [NOMODSEQ] No permanent modsequences");
        s->modseq_told = true;
    } else if (status.modseq_enabled || s->condstore) {
        session_tell_modseq(s);
        s->modseq_confirmed = s->modseq_heard;
    }
    tell_extensions(s, t);
    if (t->qresync && t->uid_validity == status.uid_validity && session_modseqs_last(s)) {
        tell_vanished_earlier(s, t);
        tell_changed_since(s, t);
    }
}

static enum step select_failed(struct session *s, struct request *r, struct error *e)
{
    request_error(s, r, e);
    session_unselect(s);
    return STEP_DONE;
}

enum step select_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct select_state *t = r->state;
    struct index_change change;
    struct index_status status;
    enum step step = request_op(s, r, budget, e);
    bool read_only;

    if (step == STEP_ERROR)
        return select_failed(s, r, e);
    if (step != STEP_DONE)
        return step;
    index_status(mailbox_index(s->box), &status);
    if (s->condstore && !status.modseq_enabled && !t->enable_sent && !mailbox_read_only(s->box)) {
        t->enable_sent = true;
        r->op = session_enable_modseqs(s, r);
        return STEP_MORE;
    }
    index_view_sync(mailbox_view_index(s->view), false);
    while (index_view_next(mailbox_view_index(s->view), &change)) {
    }
    take_keywords(s);
    tell_mailbox(s, t);
    notify_selected(s);
    read_only = s->examined || mailbox_read_only(s->box);
    request_reply(r, "OK [%s] %s completed.", read_only ? "READ-ONLY" : "READ-WRITE",
                  r->command->name[0] == 'E' ? "Examine" : "Select");
    return STEP_DONE;
}

/* A SELECT that was cut off leaves nothing selected. */
void select_end(struct session *s, struct request *r)
{
    if (r->reply == NULL)
        session_unselect(s);
}

/* ---- CLOSE, UNSELECT -------------------------------------------------------------------------------------------------- */

enum { CLOSE_COMMIT, CLOSE_APPLY };

void close_begin(struct session *s, struct request *r)
{
    struct index_batch *batch;

    if (!s->examined && !mailbox_view_read_only(s->view) && expunge_batch(s, r->arena, NULL, &batch)) {
        int *stage = r->state = ARENA_NEW(r->arena, int);

        *stage = CLOSE_COMMIT;
        r->op = mailbox_commit(s->view, batch, MAILBOX_RIGHT_EXPUNGE, NULL);
        return;
    }
    session_unselect(s);
    request_reply(r, "OK Close completed.");
}

enum step close_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    int *stage = r->state;
    enum step step = request_op(s, r, budget, e);

    if (step == STEP_ERROR && e->class == ERROR_PERMISSION) {
        request_reply(r, "OK Closed without expunging: Permission denied.");
        session_unselect(s);
        return STEP_DONE;
    }
    if (step == STEP_ERROR) {
        request_error(s, r, e);
        session_unselect(s);
        return STEP_DONE;
    }
    if (step != STEP_DONE)
        return step;
    if (*stage == CLOSE_COMMIT) {
        *stage = CLOSE_APPLY;
        r->op = mailbox_sync(s->box, s->view, SYNC_APPLY);
        return STEP_MORE;
    }
    session_unselect(s);
    request_reply(r, "OK Close completed.");
    return STEP_DONE;
}

void unselect_begin(struct session *s, struct request *r)
{
    session_unselect(s);
    request_reply(r, "OK Unselect completed.");
}
