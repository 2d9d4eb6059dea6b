/* commit.c - changes of messages, from the batch that a session fills to the op that commits it.
 *
 * What plugins must know of an expunge is noted when it is put into the batch, and used by the commit of that batch. */
#include "store/internal.h"
#include "store/notify.h"
#include "store/quota/quota.h"

struct commit_op {
    struct store_op op;
    struct mailbox *box;
    struct mailbox_view *view;
    struct driver_sync sync;
    struct index_batch *private;  /* this user's own flags out of the batch; NULL = none, or they are committed */
    unsigned rights;
    bool lazy;                    /* op.inner copies what is expunged */
    bool done;
    struct quota_amount gone;     /* what the expunges give back */
    struct notify_notes *lines; /* NULL = nothing to tell */
};

static enum step run_commit(struct store_op *op, struct budget *budget, struct error *e)
{
    struct commit_op *c = (struct commit_op *)op;
    enum step r;

    if (mailbox_check_gone(c->box, e) < 0)
        return STEP_ERROR;
    if (c->view->read_only) {
        error_set(e, ERROR_PERMISSION, "Mailbox %s: Mailbox is read-only", c->box->place.vname);
        error_user(e, "Mailbox is read-only");
        return STEP_ERROR;
    }
    if (mailbox_need(&c->box->place, c->rights, e) < 0)
        return STEP_ERROR;
    if (c->lazy) {
        /* Copied elsewhere before anything is gone. */
        r = store_op_inner(op, budget, e);
        if (r != STEP_DONE)
            return r;
        c->lazy = false;
    }
    if (notify_prepare(c->lines, budget) == STEP_MORE)
        return STEP_MORE;
    if (!store_op_take(op, c->box))
        return STEP_WAIT;
    r = c->done ? STEP_DONE : c->box->driver->sync(c->box, &c->sync, budget, e);
    if (r == STEP_ERROR) {
        error_context(e, "Mailbox %s: ", c->box->place.vname);
        if (e->class == ERROR_NOT_FOUND)
            mailbox_set_gone(c->box);
    }
    if (r == STEP_DONE && c->box->private != NULL) {
        if (c->private != NULL && !c->done && c->sync.commit != NULL)
            index_batch_private_without(c->private, &c->sync.commit->failed);
        c->done = true;
        r = private_sync(c->box, c->private, e);
        c->sync.changed = c->sync.changed || c->private != NULL;
        if (r == STEP_WAIT)
            return r;
    }
    if ((r == STEP_DONE || r == STEP_ERROR) && c->sync.changed && !c->box->gone) {
        list_index_update(c->box);
        mailbox_wake_watches(c->box, NULL);
    }
    c->done = c->done || r == STEP_DONE;
    return r;
}

static void end_commit(struct store_op *op)
{
    struct commit_op *c = (struct commit_op *)op;

    store_op_free(&op->inner);
    c->box->driver->sync_end(c->box, &c->sync);
    store_op_give(op);
    if (c->done) {
        quota_expunged(c->box, &c->gone);
        notify_tell(c->lines, c->sync.commit == NULL ? NULL : &c->sync.commit->failed);
    }
    notify_notes_free(&c->lines);
    mailbox_close(&c->box);
}

/* What was noted of this batch; notes of another one, which was never committed, are forgotten. */
static struct expunge_notes *notes_for(struct mailbox_view *view, const struct index_batch *batch)
{
    struct expunge_notes *notes = &view->notes;

    if (notes->batch != batch) {
        notes->batch = batch;
        notes->lazy_count = 0;
        notes->gone_bytes = notes->gone_count = 0;
        notes->moved = false;
    }
    return notes;
}

static void start_lazy(struct commit_op *c, const struct expunge_notes *notes)
{
    struct mailbox_place target;
    struct arena *arena;

    if (notes->lazy_count == 0)
        return;
    arena = arena_new();
    if (!c->view->read_only && lazy_expunge_target(c->box, arena, &target)) {
        c->op.inner = lazy_expunge_copy(c->box, &target, notes->lazy_uids, notes->lazy_count);
        c->lazy = true;
    }
    arena_free(arena);
}

struct store_op *mailbox_commit(struct mailbox_view *view, struct index_batch *batch, unsigned rights,
                                struct index_commit *out)
{
    static const struct op_class class = {run_commit, end_commit};
    struct commit_op *c = store_op_new(sizeof(*c), &class);
    const struct expunge_notes *notes = notes_for(view, batch);

    c->box = mailbox_ref(view->box);
    c->view = view;
    c->rights = rights;
    c->lines = notify_changes(view, batch, notes->moved);
    c->private = index_batch_private(batch, view->view);
    c->sync = (struct driver_sync){.why = SYNC_APPLY, .batch = batch, .commit = out,
                                   .expunges = (rights & MAILBOX_RIGHT_EXPUNGE) != 0};
    c->gone = (struct quota_amount){notes->gone_bytes, notes->gone_count};
    start_lazy(c, notes);
    notes_for(view, NULL); /* the next batch may lie where this one lay */
    return &c->op;
}

/* lazy_expunge: remembers the message for the commit of this batch. */
static void note_lazy(struct mailbox_view *view, struct expunge_notes *notes, uint32_t uid)
{
    if (!mail_user_plugin(view->box->user, "lazy_expunge"))
        return;
    if (notes->lazy_count == notes->lazy_room)
        notes->lazy_uids = vec_grow(notes->lazy_uids, &notes->lazy_room, sizeof(*notes->lazy_uids));
    notes->lazy_uids[notes->lazy_count++] = uid;
}

/* Its size is known only as long as it is there. */
static void note_gone(struct mailbox *box, struct expunge_notes *notes, uint32_t uid)
{
    struct mail *mail;
    struct error ignored;
    uint64_t size = 0;

    if (!quota_wants_changes(box) || mail_open_uid(box, uid, &mail, &ignored) < 0)
        return;
    if ((quota_uses_virtual(box->user) ? mail_size_virtual(mail, &size, &ignored) : mail_size_physical(mail, &size, &ignored)) == 0) {
        notes->gone_bytes += size;
        notes->gone_count++;
    }
    mail_close(&mail);
}

void mailbox_batch_expunge(struct mailbox_view *view, struct index_batch *batch, uint32_t uid)
{
    struct expunge_notes *notes = notes_for(view, batch);
    struct arena *arena = arena_new();
    struct driver_value value;
    unsigned char guid[16];
    struct error e;

    note_lazy(view, notes, uid);
    note_gone(view->box, notes, uid);
    if ((view->box->driver->can & DRIVER_FACTS_IN_FILE) == 0 &&
        view->box->driver->item(view->box, uid, ITEM_GUID, arena, &value, &e) == 0 && value.text != NULL) {
        store_guid_of_text(slice_from_str(value.text), guid);
        index_batch_expunge(batch, uid, guid);
    } else {
        index_batch_expunge(batch, uid, NULL);
    }
    arena_free(arena);
}

void mailbox_batch_moved(struct mailbox_view *view, struct index_batch *batch, uint32_t uid)
{
    notes_for(view, batch)->moved = true;
    mailbox_batch_expunge(view, batch, uid);
}

void mailbox_batch_altmove(struct mailbox_view *view, struct index_batch *batch, uint32_t uid, bool to_alt)
{
    struct mailbox *box = view->box;

    if ((box->driver->can & DRIVER_ALT) == 0 || box->storage->at.alt == NULL)
        return;
    if (box->driver->altmove != NULL)
        box->driver->altmove(box, uid, to_alt);
    else
        index_batch_flags_raw(batch, uid, uid, to_alt ? INDEX_BACKEND : 0, to_alt ? 0 : INDEX_BACKEND);
}
