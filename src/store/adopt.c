/* adopt.c - a mailbox takes the identity of another one: UIDVALIDITY, GUID, the next UID, the highest modseq.
 *
 * Clients and other servers know a mailbox by these. A mailbox that is converted to another format must keep them, or every
 * client downloads everything again. Where they stand is the driver's matter; what all have in common is the index. */
#include "store/internal.h"

struct adopt_op {
    struct store_op op;
    struct mailbox *box;
    struct mailbox_identity id;
    uint32_t unplace;             /* the first UID; 0 = the identity is adopted */
};

int store_adopt_check(struct mailbox *box, const struct mailbox_identity *id, struct error *e)
{
    static const unsigned char none[16];
    struct index_status status;
    unsigned char guid[16];

    if (id->replace)
        return 0;
    index_status(box->index, &status);
    /* Also one that has none any more: its UIDs were used, those of the other mailbox would count as expunged. */
    if ((status.messages > 0 || status.next_uid > 1) && status.uid_validity != id->uid_validity)
        return error_set(e, ERROR_EXISTS, "it has or had messages under another UIDVALIDITY (%u, not %u)", status.uid_validity,
                         id->uid_validity);
    if (status.next_uid == 1 || memcmp(id->guid, none, 16) == 0 || !store_adopt_guid(box))
        return 0;
    /* UIDVALIDITYs are times in seconds: two mailboxes may well have the same. */
    if (box->driver->guid(box, guid, e) < 0)
        return -1;
    return memcmp(guid, id->guid, 16) == 0 ? 0 : error_set(e, ERROR_EXISTS, "it has or had messages, and its GUID is another one");
}

void store_adopt_index(const struct mailbox *box, const struct mailbox_identity *id, struct index_batch *batch)
{
    struct index_status status;

    index_status(box->index, &status);
    if (status.uid_validity != id->uid_validity)
        index_batch_uid_validity(batch, id->uid_validity);
    if (id->next_uid > status.next_uid)
        index_batch_next_uid(batch, id->next_uid);
    if (id->first_recent > status.first_recent_uid)
        index_batch_first_recent(batch, id->first_recent);
    if (id->highest_modseq > status.highest_modseq)
        index_batch_modseq(batch, 0, id->highest_modseq);
}

bool store_adopt_guid(const struct mailbox *box)
{
    return box->storage->at.layout != LAYOUT_INDEX;
}

static enum step run_adopt(struct store_op *op, struct budget *budget, struct error *e)
{
    struct adopt_op *a = (struct adopt_op *)op;
    const struct store_driver *driver = a->box->driver;
    enum step r;

    (void)budget;
    if (a->unplace != 0 ? driver->unplace == NULL : driver->adopt == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "Mailbox %s: %s mailboxes have no identity of their own", a->box->place.vname,
                         driver->name), STEP_ERROR;
    if (!store_op_take(op, a->box))
        return STEP_WAIT;
    r = a->unplace != 0 ? driver->unplace(a->box, a->unplace, e) : driver->adopt(a->box, &a->id, e);
    if (r == STEP_ERROR)
        error_context(e, "Mailbox %s: ", a->box->place.vname);
    if (r == STEP_DONE)
        mailbox_wake_watches(a->box, NULL);
    return r;
}

static void end_adopt(struct store_op *op)
{
    struct adopt_op *a = (struct adopt_op *)op;

    store_op_give(op);
    mailbox_close(&a->box);
}

static struct adopt_op *new_op(struct mailbox *box)
{
    static const struct op_class class = {run_adopt, end_adopt};
    struct adopt_op *a = store_op_new(sizeof(*a), &class);

    a->box = mailbox_ref(box);
    return a;
}

struct store_op *mailbox_adopt(struct mailbox *box, const struct mailbox_identity *id)
{
    struct adopt_op *a = new_op(box);

    a->id = *id;
    return &a->op;
}

bool mailbox_can_unplace(const struct mailbox *box)
{
    return box->driver->unplace != NULL;
}

struct store_op *mailbox_unplace(struct mailbox *box, uint32_t first_uid)
{
    struct adopt_op *a = new_op(box);

    a->unplace = first_uid;
    return &a->op;
}
