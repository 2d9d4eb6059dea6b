/* store_flags.c - STORE and UID STORE (RFC 3501 section 6.4.6, RFC 7162 section 3.1.3; imap 9.3).
 *
 * The batch is committed as this view's own; the synchronisation afterwards sends the FETCHs of what really changed. */
#include "imap/notify.h"
#include "imap/session.h"

struct store_state {
    struct index_ranges seqs, failed;
    struct index_commit commit;
    bool conditional, committed;
    uint64_t modseq;
};

static bool parse_modifiers(struct session *s, struct request *r, const struct imap_arg *list, uint64_t *modseq,
                            bool *conditional)
{
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next->next) {
        if (!imap_arg_is_atom(a) || a->next == NULL) {
            request_bad(s, r, "Invalid STORE modifiers");
            return false;
        }
        if (!slice_equal_str_nocase(a->text, "UNCHANGEDSINCE")) {
            request_bad(s, r, "Unknown STORE modifier");
            return false;
        }
        if (!imap_arg_is_atom(a->next) || !imap_number(a->next->text, modseq)) {
            request_bad(s, r, "Invalid modseq");
            return false;
        }
        if (!session_modseqs_last(s)) {
            request_bad(s, r, "STORE UNCHANGEDSINCE can't be used with non-permanent modseqs");
            return false;
        }
        *conditional = true;
    }
    return true;
}

static bool parse_action(struct slice word, enum index_modify *modify, bool *silent)
{
    *modify = INDEX_REPLACE;
    if (word.size > 0 && (word.at[0] == '+' || word.at[0] == '-')) {
        *modify = word.at[0] == '+' ? INDEX_ADD : INDEX_REMOVE;
        word = slice_from(word, 1);
    }
    *silent = slice_equal_str_nocase(word, "FLAGS.SILENT");
    return *silent || slice_equal_str_nocase(word, "FLAGS");
}

/* Flags that this user may change; `keywords`: those too (RFC 4314 section 4). The others are left as they are, silently. */
static uint8_t changeable(struct session *s, bool *keywords)
{
    unsigned rights = mailbox_rights(mailbox_where(s->box));
    uint8_t mask = 0;

    if ((rights & MAILBOX_RIGHT_SEEN) != 0)
        mask |= INDEX_SEEN;
    if ((rights & MAILBOX_RIGHT_TRASH) != 0)
        mask |= INDEX_DELETED;
    *keywords = (rights & MAILBOX_RIGHT_WRITE) != 0;
    if (*keywords)
        mask |= INDEX_FLAGS_CLIENT & ~(INDEX_SEEN | INDEX_DELETED);
    return mask;
}

static void fill_batch(struct session *s, struct index_batch *batch, const struct index_ranges *seqs,
                       enum index_modify modify, const struct flag_list *flags)
{
    const struct index_view *view = mailbox_view_index(s->view);
    bool keywords;
    const uint8_t mask = changeable(s, &keywords);

    for (size_t i = 0; i < seqs->count; i++) {
        uint32_t first = index_view_uid(view, seqs->at[i].first), last = index_view_uid(view, seqs->at[i].last);

        if (modify == INDEX_REPLACE && mask != INDEX_FLAGS_CLIENT) {
            if ((flags->flags & mask) != 0)
                index_batch_flags(batch, first, last, INDEX_ADD, flags->flags & mask);
            if ((~flags->flags & mask) != 0)
                index_batch_flags(batch, first, last, INDEX_REMOVE, (uint8_t)(~flags->flags & mask));
        } else if (modify == INDEX_REPLACE || (flags->flags & mask) != 0) {
            index_batch_flags(batch, first, last, modify, flags->flags & mask);
        }
        if (keywords && (modify == INDEX_REPLACE || flags->keyword_count > 0))
            index_batch_keywords(batch, first, last, modify, flags->keywords, flags->keyword_count);
    }
}

/* Messages that are gone, but not for this session yet: STORE on them answers as usual (imap 10.2); nothing is kept. */
static void answer_for_gone(struct session *s, struct request *r, const struct index_ranges *seqs,
                            enum index_modify modify, uint8_t flags)
{
    size_t at = 0;

    if (notify_hides_flags(s) || index_view_count(mailbox_view_index(s->view)) <= index_count(mailbox_index(s->box)))
        return; /* none is held back */
    for (uint32_t seq = 0; (seq = imap_ranges_next(seqs, &at, seq)) != 0;) {
        struct index_record record;
        struct buffer out = {0};
        uint8_t now;

        if (!index_view_get(mailbox_view_index(s->view), seq, &record) || !record.expunged)
            continue;
        now = (uint8_t)(modify == INDEX_ADD ? record.flags | flags : modify == INDEX_REMOVE ? record.flags & ~flags : flags);
        if (now == record.flags)
            continue;
        put_fetch_front(s, &out, seq, record.uid);
        if (r->uid || (s->qresync && !s->uidonly))
            buffer_printf(&out, "UID %u ", record.uid);
        if (s->condstore && session_modseqs_last(s))
            buffer_printf(&out, "MODSEQ (%llu) ", (unsigned long long)record.modseq);
        buffer_append_str(&out, "FLAGS ");
        session_put_flags(s, &out, now, mailbox_view_recent(s->view, record.uid), record.keywords);
        buffer_append_str(&out, ")\r\n");
        session_write(s, buffer_slice(&out));
        buffer_free(&out);
    }
}

void store_begin(struct session *s, struct request *r)
{
    struct store_state *t = r->state = ARENA_NEW(r->arena, struct store_state);
    const struct imap_arg *a = r->args;
    struct flag_list flags;
    struct index_batch *batch;
    enum index_modify modify;
    uint64_t modseq = 0;
    bool silent, list;

    if (!imap_arg_is_atom(a)) {
        request_bad(s, r, "Invalid arguments");
        return;
    }
    if (!request_set(s, r, a->text, &t->seqs) || limit_refuses(s, r, imap_ranges_count(&t->seqs), false))
        return;
    a = a->next;
    if (a != NULL && a->type == IMAP_LIST) {
        bool good = parse_modifiers(s, r, a, &modseq, &t->conditional);

        r->condstore = t->conditional; /* also where the next modifier is refused */
        if (!good)
            return;
        a = a->next;
    }
    if (a == NULL || !imap_arg_is_atom(a) || !parse_action(a->text, &modify, &silent)) {
        request_bad(s, r, "Invalid arguments");
        return;
    }
    a = a->next;
    list = a != NULL && a->type == IMAP_LIST; /* what stands behind it is passed over, as there */
    if (!request_flags(s, r, a, list, &flags))
        return;
    r->send_uid = r->uid && (!silent || s->condstore || t->conditional);
    t->modseq = modseq;
    for (size_t i = 0; i < flags.keyword_mentions; i++)
        session_keyword_mention(s, flags.keywords[i]);
    if (s->examined)
        return; /* store_run says so */
    if (modify != INDEX_REMOVE && (flags.flags & INDEX_DELETED) != 0)
        s->stats.deleted += (uint32_t)imap_ranges_count(&t->seqs);
    if (!silent && r->hold) /* UID STORE tells of the expunge instead */
        answer_for_gone(s, r, &t->seqs, modify, flags.flags);
    batch = index_batch_new(r->arena, INDEX_INTERNAL);
    fill_batch(s, batch, &t->seqs, modify, &flags);
    if (t->conditional)
        index_batch_unchanged_since(batch, modseq);
    index_batch_by(batch, mailbox_view_index(s->view), silent);
    if (!index_batch_empty(batch) && !mailbox_view_read_only(s->view)) {
        r->op = mailbox_commit(s->view, batch, 0, &t->commit);
        t->committed = true;
    }
}

/* Nothing to change, but the condition counts. */
static void check_condition(struct session *s, struct store_state *t)
{
    size_t at = 0;

    for (uint32_t seq = 0; (seq = imap_ranges_next(&t->seqs, &at, seq)) != 0;) {
        struct index_record record;

        if (index_view_get(mailbox_view_index(s->view), seq, &record) && record.modseq > t->modseq)
            index_ranges_add(&t->failed, record.uid, record.uid);
    }
}

static void put_modified(struct session *s, struct request *r, const struct index_ranges *uids)
{
    struct index_ranges seqs = {0};
    struct buffer out = {0};

    if (r->uid) {
        imap_ranges_put(&out, uids);
    } else {
        for (size_t i = 0; i < uids->count; i++) {
            uint32_t a, b;

            if (index_view_seq_range(mailbox_view_index(s->view), uids->at[i].first, uids->at[i].last, &a, &b))
                index_ranges_add(&seqs, a, b);
        }
        imap_ranges_put(&out, &seqs);
        index_ranges_free(&seqs);
    }
    request_reply(r, "OK [MODIFIED %s] Conditional store failed.", buffer_cstr(&out));
    buffer_free(&out);
}

enum step store_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct store_state *t = r->state;
    enum step step = request_op(s, r, budget, e);

    if (step == STEP_ERROR && e->class == ERROR_PERMISSION)
        step = STEP_DONE; /* flags without right stay as they are, silently (imap 9.3) */
    if (step != STEP_DONE)
        return step;
    if (t->conditional && !t->committed && !s->examined)
        check_condition(s, t);
    if (s->examined)
        request_reply(r, t->conditional ? "NO CONDSTORE failed: Mailbox is read-only."
                                        : "OK Store ignored with read-only mailbox.");
    else if (t->conditional && t->commit.failed.count > 0)
        put_modified(s, r, &t->commit.failed);
    else if (t->failed.count > 0)
        put_modified(s, r, &t->failed);
    else
        request_reply(r, "OK Store completed.");
    return STEP_DONE;
}

void store_end(struct session *s, struct request *r)
{
    struct store_state *t = r->state;

    (void)s;
    if (t != NULL)
        index_ranges_free(&t->seqs);
    if (t != NULL)
        index_ranges_free(&t->failed);
}
