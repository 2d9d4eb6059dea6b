/* expunge.c - EXPUNGE and UID EXPUNGE (RFC 3501 section 6.4.3, RFC 4315; imap 8.1). */
#include "imap/session.h"

struct expunge_state {
    enum { EXPUNGE_LOOK, EXPUNGE_COMMIT } stage;
    struct imap_set set;
    bool has_set;
};

bool expunge_batch(struct session *s, struct arena *arena, const struct index_ranges *seqs, struct index_batch **out)
{
    const struct index_view *view = mailbox_view_index(s->view);
    struct index_ranges all = {0};
    struct index_status status;
    struct index_record record;
    size_t at = 0;
    bool any = false;

    index_status(mailbox_index(s->box), &status);
    if (status.deleted == 0 || index_view_count(view) == 0)
        return false;
    if (seqs == NULL) {
        index_ranges_add(&all, 1, index_view_count(view));
        seqs = &all;
    }
    *out = index_batch_new(arena, INDEX_INTERNAL);
    for (uint32_t seq = 0; (seq = imap_ranges_next(seqs, &at, seq)) != 0;) {
        if (!index_view_get(view, seq, &record) || record.expunged || (record.flags & INDEX_DELETED) == 0)
            continue;
        mailbox_batch_expunge(s->view, *out, record.uid);
        s->stats.expunged++;
        any = true;
    }
    index_ranges_free(&all);
    return any;
}

void expunge_begin(struct session *s, struct request *r)
{
    struct expunge_state *t = r->state = ARENA_NEW(r->arena, struct expunge_state);

    if (r->uid) {
        if (r->args == NULL) {
            request_bad(s, r, "Missing arguments");
            return;
        }
        if (s->view == NULL) {
            request_reply(r, "BAD No mailbox selected.");
            return;
        }
        if (!imap_arg_is_string(r->args)) {
            request_bad(s, r, "Invalid arguments");
            return;
        }
        if (imap_set_parse(r->arena, r->args->text, &t->set) < 0) {
            request_bad(s, r, "Invalid uidset");
            return;
        }
        t->has_set = true;
    }
    if (s->examined || mailbox_view_read_only(s->view)) {
        request_reply(r, "OK Expunge completed.");
        return;
    }
    r->op = mailbox_sync(s->box, s->view, SYNC_POLL); /* \Deleted by others counts too */
}

enum step expunge_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct expunge_state *t = r->state;
    struct index_ranges seqs = {0};
    struct index_batch *batch;
    enum step step = request_op(s, r, budget, e);
    bool any;

    if (step == STEP_ERROR && e->class == ERROR_NOT_FOUND) {
        session_mailbox_lost(s);
        return STEP_DONE;
    }
    if (step == STEP_ERROR && e->class == ERROR_PERMISSION) {
        request_reply(r, "OK Expunge ignored: Permission denied.");
        return STEP_DONE;
    }
    if (step != STEP_DONE)
        return step;
    if (t->stage == EXPUNGE_COMMIT) {
        request_reply(r, "OK Expunge completed.");
        return STEP_DONE;
    }
    if (t->has_set)
        imap_set_resolve(&t->set, IMAP_SET_UIDS, mailbox_view_index(s->view), &s->saved, &seqs);
    if (limit_refuses(s, r, imap_ranges_count(&seqs), false)) {
        index_ranges_free(&seqs);
        return STEP_DONE;
    }
    any = expunge_batch(s, r->arena, t->has_set ? &seqs : NULL, &batch);
    index_ranges_free(&seqs);
    if (!any) {
        request_reply(r, "OK Expunge completed.");
        return STEP_DONE;
    }
    t->stage = EXPUNGE_COMMIT;
    r->op = mailbox_commit(s->view, batch, MAILBOX_RIGHT_EXPUNGE, NULL);
    return STEP_MORE;
}
