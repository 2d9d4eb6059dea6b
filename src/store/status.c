/* status.c - STATUS: from the list index where that is current, else from the mailbox (index-format 11.1). */
#include "store/vsize.h"

struct status_op {
    struct store_op op;
    struct arena *arena;
    struct mailbox_place place;
    unsigned items;
    struct mailbox_status *out;
    struct mailbox *box;
    bool synced;
    struct vsize_sum sum;
    uint32_t deleted_uid;       /* up to which deleted_storage is summed */
};

static void find_first_saved(struct status_op *s)
{
    struct index_record rec;
    struct mail *mail;
    struct error e;
    int64_t date;

    if (!index_get_from(s->box->index, 1, &rec) || mail_open_uid(s->box, rec.uid, &mail, &e) < 0)
        return;
    if (mail_save_date(mail, &date, &e) == 0)
        s->out->first_saved = (time_t)date;
    mail_close(&mail);
}

static enum step sum_sizes(struct status_op *s, struct budget *budget, struct error *e)
{
    enum step r = vsize_step(s->box, &s->sum, budget, e);

    if (r != STEP_DONE)
        return r;
    s->out->size = s->sum.bytes;
    index_cache_flush(s->box->index);
    vsize_remember(s->box, &s->sum);
    list_index_update(s->box);
    return STEP_DONE;
}

/* Adds up what the \Deleted messages take, some messages a step. */
static enum step sum_deleted(struct status_op *s, struct budget *budget, struct error *e)
{
    struct index_record record;

    while (index_get_from(s->box->index, s->deleted_uid + 1, &record)) {
        struct mail *mail;
        uint64_t size = 0;
        int r;

        s->deleted_uid = record.uid;
        if ((record.flags & INDEX_DELETED) == 0)
            continue;
        if (budget_spent(budget, 1)) {
            s->deleted_uid = record.uid - 1;
            return STEP_MORE;
        }
        r = mail_open_uid(s->box, record.uid, &mail, e);
        if (r == 0) {
            r = mail_size_physical(mail, &size, e);
            mail_close(&mail);
        }
        if (r == 0)
            s->out->deleted_storage += size;
        else if (e->class != ERROR_EXPUNGED)
            return STEP_ERROR;
    }
    return STEP_DONE;
}

/* It counts what the shared index says is unseen; what a session has open knows more. */
bool status_by_row(const struct mailbox_place *place)
{
    const struct mailbox *box;

    if (place->ns->storage->at.index_private != NULL)
        return false;
    box = mailbox_find_open(place);
    return box == NULL || box->refs == 0;
}

static enum step run_status(struct store_op *op, struct budget *budget, struct error *e)
{
    struct status_op *s = (struct status_op *)op;
    struct index_status status;
    struct list_row_status row;
    const char *path;
    enum step r;

    if (s->box == NULL) {
        if (mailbox_need(&s->place, MAILBOX_RIGHT_READ, e) < 0)
            return STEP_ERROR;
        path = mail_location_path(&s->place.ns->storage->at, s->arena, s->place.name, PATH_MAILBOX);
        if (path != NULL && status_by_row(&s->place) && list_index_status(s->place.ns->storage, s->place.name, path, &row) &&
            (s->items & row.unknown) == 0) {
            *s->out = row.status;
            return STEP_DONE;
        }
        if (mailbox_open(&s->box, &s->place, 0, e) < 0)
            return STEP_ERROR;
        op->inner = mailbox_sync(s->box, NULL, SYNC_POLL);
    }
    if (op->inner != NULL) {
        r = store_op_inner(op, budget, e);
        if (r != STEP_DONE)
            return r;
    }
    index_status(s->box->index, &status);
    if (!s->synced) {
        s->synced = true;
        vsize_begin(s->box, &s->sum, false);
        *s->out = (struct mailbox_status){
            .messages = status.messages, .recent = status.recent, .uid_next = status.next_uid,
            .uid_validity = status.uid_validity, .unseen = status.unseen, .deleted = status.deleted,
            .first_recent = status.first_recent_uid, .highest_modseq = status.highest_modseq};
        if (s->box->private != NULL)
            s->out->unseen = private_unseen(s->box);
        if ((s->items & STATUS_GUID) != 0 && mailbox_guid(s->box, s->out->guid, e) < 0)
            return STEP_ERROR;
        if ((s->items & STATUS_FIRST_SAVED) != 0)
            find_first_saved(s);
    }
    if ((s->items & STATUS_DELETED_STORAGE) != 0 && (r = sum_deleted(s, budget, e)) != STEP_DONE)
        return r;
    return (s->items & STATUS_SIZE) != 0 ? sum_sizes(s, budget, e) : STEP_DONE;
}

static void end_status(struct store_op *op)
{
    struct status_op *s = (struct status_op *)op;

    store_op_free(&op->inner);
    mailbox_close(&s->box);
    arena_free(s->arena);
}

struct store_op *mailbox_status(const struct mailbox_place *place, unsigned items, struct mailbox_status *out)
{
    static const struct op_class class = {run_status, end_status};
    struct status_op *s = store_op_new(sizeof(*s), &class);

    s->arena = arena_new();
    s->place = (struct mailbox_place){place->ns, arena_strdup(s->arena, place->vname), arena_strdup(s->arena, place->name)};
    s->items = items;
    s->out = out;
    return &s->op;
}
