/* copy.c - COPY, MOVE and their UID forms (RFC 3501 section 6.4.7, RFC 6851; imap 9.2).
 *
 * Messages are staged one by one, then published together. MOVE does that in batches of MOVE_BATCH, each followed by
 * the expunge of what it copied. */
#include "imap/session.h"

enum { MOVE_BATCH = 1000, PROGRESS_SECS = 15 };

struct copy_state {
    enum { COPY_STAGE, COPY_PUBLISH, COPY_EXPUNGE } stage;
    bool move;
    struct index_ranges seqs, from;  /* from: UIDs of this batch */
    size_t at;
    uint32_t seq;
    struct mailbox *to;
    VEC(struct save *) saves;
    size_t count, moved;
    struct save_result result;
};

void copy_begin(struct session *s, struct request *r)
{
    struct copy_state *t = r->state = ARENA_NEW(r->arena, struct copy_state);
    struct mailbox_place place;
    struct error e = {0};
    struct slice name;

    t->move = strstr(r->command->name, "MOVE") != NULL;
    if (r->args == NULL || r->args->next == NULL) {
        request_bad(s, r, "Missing arguments");
        return;
    }
    if (!imap_arg_is_string(r->args) || !imap_arg_is_string(r->args->next)) {
        request_bad(s, r, "Invalid arguments");
        return;
    }
    if (s->view == NULL) {
        request_reply(r, "BAD No mailbox selected.");
        return;
    }
    if (!request_set(s, r, r->args->text, &t->seqs) || !request_name(s, r, r->args->next->text, &name))
        return;
    if (t->seqs.count == 0) {
        request_reply(r, "OK No messages found.");
        return;
    }
    if (limit_refuses(s, r, imap_ranges_count(&t->seqs), true))
        return;
    if (!request_place(s, r, r->args->next, &place, ERROR_TRYCREATE))
        return;
    if (mailbox_open(&t->to, &place, MAILBOX_OPEN_SAVE, &e) < 0) {
        t->to = NULL;
        request_error_as(s, r, &e, ERROR_TRYCREATE);
        return;
    }
    if (mailbox_need(mailbox_where(s->box), t->move ? MAILBOX_RIGHT_READ | MAILBOX_RIGHT_EXPUNGE | MAILBOX_RIGHT_TRASH : MAILBOX_RIGHT_READ, &e) < 0) {
        request_error_as(s, r, &e, ERROR_TRYCREATE);
        return;
    }
    if (t->move && s->examined)
        r->writer = mailbox_view_open(s->box, false); /* it expunges there (imap 9.2) */
}

static enum step gone(struct session *s, struct request *r)
{
    (void)s;
    request_reply(r, "NO [EXPUNGEISSUED] Some of the requested messages no longer exist.");
    r->sync = true;
    return STEP_DONE;
}

static void to_publish(struct session *s, struct request *r)
{
    struct copy_state *t = r->state;

    t->count = t->saves.count;
    r->op = save_commit(t->to, t->saves.at, t->saves.count, true, s->view, r->arena, &t->result);
    t->saves.count = 0;
    t->stage = COPY_PUBLISH;
}

static enum step stage_messages(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct copy_state *t = r->state;
    struct index_record record;
    struct save *save;

    while (!t->move || t->saves.count < MOVE_BATCH) {
        t->seq = imap_ranges_next(&t->seqs, &t->at, t->seq);
        if (t->seq == 0)
            break;
        if (!index_view_get(mailbox_view_index(s->view), t->seq, &record) || record.expunged)
            return gone(s, r);
        if ((t->move ? save_move : save_copy)(t->to, s->box, record.uid, NULL, &save, e) < 0)
            return e->class == ERROR_EXPUNGED ? gone(s, r) : STEP_ERROR;
        VEC_PUSH(&t->saves, save);
        index_ranges_add(&t->from, record.uid, record.uid);
        if (session_may_tell_progress(s, r, PROGRESS_SECS))
            session_print(s, "* OK Hang in there..");
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    if (t->saves.count == 0) { /* MOVE: the last batch was full */
        request_reply(r, "OK Move completed.");
        return STEP_DONE;
    }
    to_publish(s, r);
    return STEP_MORE;
}

/* "[COPYUID validity from to]", or nothing when the UIDs are not known. */
static const char *copyuid(struct request *r)
{
    struct copy_state *t = r->state;
    struct index_ranges to = {0};
    struct buffer out = {0};
    char *text;

    for (size_t i = 0; i < t->count && t->result.uids != NULL; i++) {
        if (t->result.uids[i] != 0)
            index_ranges_add(&to, t->result.uids[i], t->result.uids[i]);
    }
    if (to.count > 0) {
        buffer_printf(&out, "[COPYUID %u ", t->result.uid_validity);
        imap_ranges_put(&out, &t->from);
        buffer_append_byte(&out, ' ');
        imap_ranges_put(&out, &to);
        buffer_append_str(&out, "] ");
    }
    text = arena_str(r->arena, buffer_slice(&out));
    buffer_free(&out);
    index_ranges_free(&to);
    return text;
}

/* Is it the mailbox with special_use \Trash? (imap 14.2, trashed=) */
static bool is_trash(struct session *s, const struct mailbox *box)
{
    size_t n;
    const struct conf_block *space =
        conf_block_find(s->set, BLOCK_NAMESPACE, mailbox_where(box)->ns->name == NULL ? "" : mailbox_where(box)->ns->name);
    const struct conf_block *const *boxes;

    if (space == NULL)
        return false;
    boxes = conf_block_blocks(space, BLOCK_MAILBOX, &n);
    for (size_t i = 0; i < n; i++) {
        const char *vname = mailbox_where(box)->vname, *prefix = mailbox_where(box)->ns->prefix;
        size_t skip = strncmp(vname, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0;

        if (strcmp(conf_block_name(boxes[i]), vname + skip) == 0)
            return strstr(conf_block_str(boxes[i], "special_use"), "\\Trash") != NULL;
    }
    return false;
}

static enum step published(struct session *s, struct request *r)
{
    struct copy_state *t = r->state;
    struct index_batch *batch;

    if (is_trash(s, t->to))
        s->stats.trashed += (uint32_t)t->count;
    if (!t->move) {
        request_reply(r, "OK %sCopy completed.", copyuid(r));
        r->quiet = t->to == s->box;
        return STEP_DONE;
    }
    session_print(s, "* OK %sMoved UIDs.", copyuid(r));
    batch = index_batch_new(r->arena, INDEX_INTERNAL);
    for (size_t i = 0; i < t->from.count; i++) {
        for (uint64_t uid = t->from.at[i].first; uid <= t->from.at[i].last; uid++)
            mailbox_batch_moved(r->writer != NULL ? r->writer : s->view, batch, (uint32_t)uid);
    }
    r->op = mailbox_commit(r->writer != NULL ? r->writer : s->view, batch, MAILBOX_RIGHT_EXPUNGE, NULL);
    t->stage = COPY_EXPUNGE;
    return STEP_MORE;
}

enum step copy_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct copy_state *t = r->state;
    enum step step;

    if (t->stage == COPY_STAGE) {
        step = stage_messages(s, r, budget, e);
        if (step == STEP_ERROR) {
            request_error_as(s, r, e, ERROR_TRYCREATE);
            return STEP_DONE;
        }
        return step;
    }
    step = request_op(s, r, budget, e);
    if (step == STEP_ERROR) {
        if (t->stage == COPY_PUBLISH && e->class == ERROR_EXPUNGED)
            return gone(s, r);
        request_error_as(s, r, e, t->stage == COPY_PUBLISH ? ERROR_TRYCREATE : ERROR_PLAIN);
        return STEP_DONE;
    }
    if (step != STEP_DONE)
        return step;
    if (t->stage == COPY_PUBLISH)
        return published(s, r);
    index_ranges_free(&t->from);
    t->from = (struct index_ranges){0};
    t->stage = COPY_STAGE;
    return STEP_MORE;
}

void copy_end(struct session *s, struct request *r)
{
    struct copy_state *t = r->state;

    (void)s;
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->saves.count; i++)
        save_cancel(&t->saves.at[i]);
    VEC_FREE(&t->saves);
    index_ranges_free(&t->seqs);
    index_ranges_free(&t->from);
    if (t->to != NULL)
        mailbox_close(&t->to);
}
