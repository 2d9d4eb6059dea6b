/* vsize.c - the sum of the messages' virtual sizes: header extension hdr-vsize {u64 bytes, u32 highest UID summed, u32 messages
 * summed} of the mailbox's index (index-format 10). Quota and STATUS SIZE need it, and no message has to be looked at twice.
 *
 * It holds as long as the messages up to that UID are as many as it says; newer ones are added, and the header is written again,
 * at the next question. Two who write it at a time write the same: nobody has to be waited for. */
#include "store/vsize.h"

static unsigned ext_of(struct mailbox *box)
{
    static const struct index_ext_def def = {.name = "hdr-vsize", .header_size = 16, .record_align = 8};

    return index_ext(box->index, &def);
}

void vsize_begin(struct mailbox *box, struct vsize_sum *v)
{
    struct slice header;
    struct index_status status;
    struct index_record record;
    uint32_t newer = 0;

    *v = (struct vsize_sum){.next_uid = 1, .ext = ext_of(box)};
    header = index_ext_header(box->index, v->ext);
    if (header.size != 16)
        return;
    index_status(box->index, &status);
    v->stored_bytes = bytes_le64(header.at);
    v->stored_highest = bytes_le32(header.at + 8);
    v->stored_count = bytes_le32(header.at + 12);
    if (v->stored_highest == 0 || v->stored_highest >= status.next_uid)
        return;
    for (uint32_t uid = v->stored_highest + 1; index_get_from(box->index, uid, &record); uid = record.uid + 1)
        newer++;
    if (newer > status.messages || status.messages - newer != v->stored_count)
        return;
    v->bytes = v->stored_bytes;
    v->count = v->stored_count;
    v->next_uid = v->stored_highest + 1;
}

static int size_of(struct mailbox *box, uint32_t uid, uint64_t *size, struct error *e)
{
    struct mail *mail;
    int r;

    *size = 0;
    if (mail_open_uid(box, uid, &mail, e) < 0)
        return e->class == ERROR_EXPUNGED ? 0 : -1;
    r = mail_size_virtual(mail, size, e);
    mail_close(&mail);
    if (r < 0 && e->class == ERROR_EXPUNGED) {
        *size = 0;
        r = 0;
    }
    return r;
}

enum step vsize_step(struct mailbox *box, struct vsize_sum *v, struct budget *budget, struct error *e)
{
    struct index_record record;

    while (index_get_from(box->index, v->next_uid, &record)) {
        uint64_t size;

        if (budget_spent(budget, 1))
            return STEP_MORE;
        v->next_uid = record.uid + 1;
        if (size_of(box, record.uid, &size, e) < 0)
            return STEP_ERROR;
        v->bytes += size;
        v->count++;
    }
    return STEP_DONE;
}

void vsize_remember(struct mailbox *box, const struct vsize_sum *v)
{
    struct index_status status;
    struct index_batch *batch;
    unsigned char bytes[16];
    struct arena *arena;
    struct error ignored;

    index_status(box->index, &status);
    /* What was expunged meanwhile may have been added. */
    if (status.next_uid <= 1 || box->job != NULL || box->read_only || v->count != status.messages ||
        (v->stored_bytes == v->bytes && v->stored_count == v->count && v->stored_highest + 1 == status.next_uid))
        return;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_EXTERNAL);
    bytes_put_le64(bytes, v->bytes);
    bytes_put_le32(bytes + 8, status.next_uid - 1);
    bytes_put_le32(bytes + 12, v->count);
    index_batch_ext_header(batch, v->ext, 0, slice_of(bytes, sizeof(bytes)));
    (void)index_commit(box->index, batch, NULL, &ignored);
    arena_free(arena);
}

struct slice vsize_current(struct mailbox *box)
{
    struct slice header = index_ext_header(box->index, ext_of(box));
    struct index_status status;

    index_status(box->index, &status);
    return header.size == 16 && bytes_le32(header.at + 8) + 1 == status.next_uid && bytes_le32(header.at + 12) == status.messages
        ? header : SLICE_EMPTY;
}

/* ---- what was left to the indexer ---------------------------------------------------------------------------------------------- */

struct finish_op {
    struct store_op op;
    struct mailbox *box;
    struct vsize_sum sum;
    bool begun;
};

static enum step run_finish(struct store_op *op, struct budget *budget, struct error *e)
{
    struct finish_op *f = (struct finish_op *)op;
    enum step r;

    if (!f->begun) {
        f->begun = true;
        vsize_begin(f->box, &f->sum);
        if (f->sum.stored_highest == 0)
            return STEP_DONE;
    }
    r = vsize_step(f->box, &f->sum, budget, e);
    if (r != STEP_DONE)
        return r;
    index_cache_flush(f->box->index);
    vsize_remember(f->box, &f->sum);
    list_index_update(f->box);
    return STEP_DONE;
}

static void end_finish(struct store_op *op)
{
    mailbox_close(&((struct finish_op *)op)->box);
}

struct store_op *mailbox_finish_vsize(struct mailbox *box)
{
    static const struct op_class class = {run_finish, end_finish};
    struct finish_op *f = store_op_new(sizeof(*f), &class);

    f->box = mailbox_ref(box);
    return &f->op;
}
