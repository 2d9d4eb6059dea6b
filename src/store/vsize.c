/* vsize.c - the sum of the messages' virtual sizes: header extension hdr-vsize {u64 bytes, u32 highest UID summed, u32 messages
 * summed} of the mailbox's index (index-format 10). Quota and STATUS SIZE need it, and no message has to be looked at twice.
 *
 * It holds as long as the messages up to that UID are as many as it says; newer ones are added, and the header is written again,
 * at the next question. Two who write it at a time write the same: nobody has to be waited for.
 *
 * A sum may be of the first messages only: where mail_vsize_bg_after_count is set, so many are read for one question, and the
 * indexer, which is asked then, goes on from there (mailbox_finish_vsize). Messages whose size is known without their file do not
 * count. */
#include "rpc/indexer.h"
#include "store/vsize.h"

static unsigned ext_of(struct mailbox *box)
{
    static const struct index_ext_def def = {.name = "hdr-vsize", .header_size = 16, .record_align = 8};

    return index_ext(box->index, &def);
}

/* How many messages have at most this UID. */
static uint32_t messages_up_to(struct mailbox *box, const struct index_status *status, uint32_t highest)
{
    struct index_record record;
    uint32_t newer = 0;

    for (uint32_t uid = highest + 1; uid > highest && index_get_from(box->index, uid, &record); uid = record.uid + 1)
        newer++;
    return newer > status->messages ? 0 : status->messages - newer;
}

void vsize_begin(struct mailbox *box, struct vsize_sum *v, bool whole)
{
    struct slice header;
    struct index_status status;
    uint32_t most = whole ? 0 : conf_uint(box->user->settings, SET_mail_vsize_bg_after_count);

    *v = (struct vsize_sum){.next_uid = 1, .ext = ext_of(box), .left = most == 0 ? UINT32_MAX : most};
    header = index_ext_header(box->index, v->ext);
    if (header.size != 16)
        return;
    index_status(box->index, &status);
    v->stored_bytes = bytes_le64(header.at);
    v->stored_highest = bytes_le32(header.at + 8);
    v->stored_count = bytes_le32(header.at + 12);
    if (v->stored_highest == 0 || v->stored_highest >= status.next_uid)
        return;
    if (messages_up_to(box, &status, v->stored_highest) != v->stored_count)
        return;
    v->bytes = v->stored_bytes;
    v->count = v->stored_count;
    v->next_uid = v->stored_highest + 1;
}

/* 1: it would have to be read, which it may not. */
static int size_of(struct mailbox *box, uint32_t uid, uint32_t *left, uint64_t *size, struct error *e)
{
    struct mail *mail;
    int r = 0;

    *size = 0;
    if (mail_open_uid(box, uid, &mail, e) < 0)
        return e->class == ERROR_EXPUNGED ? 0 : -1;
    if (*left == UINT32_MAX || !mail_size_virtual_known(mail)) {
        if (*left == 0) {
            mail_close(&mail);
            return 1;
        }
        if (*left != UINT32_MAX)
            (*left)--;
    }
    r = mail_size_virtual(mail, size, e);
    mail_close(&mail);
    if (r < 0 && e->class == ERROR_EXPUNGED) {
        *size = 0;
        r = 0;
    }
    return r;
}

static int stop(struct mailbox *box, struct vsize_sum *v, struct error *e)
{
    const struct indexer_request request = {.command = INDEXER_APPEND, .user = box->user->name, .mailbox = box->place.vname, .session = ""};
    char *path = mem_printf("%s/indexer", conf_str(box->user->settings, SET_base_dir));
    int r;

    v->stopped = true;
    index_cache_flush(box->index);
    vsize_remember(box, v);
    r = indexer_ask(path, &request, 0, e);
    mem_free(path);
    if (r < 0) {
        e->class = ERROR_TEMPORARY;
        return error_context(e, "Mailbox %s: Can't start vsize building on background: ", box->place.vname);
    }
    (void)error_set(e, ERROR_BUSY, "Finishing vsize calculation on background");
    return error_user(e, e->admin);
}

enum step vsize_step(struct mailbox *box, struct vsize_sum *v, struct budget *budget, struct error *e)
{
    struct index_record record;

    while (index_get_from(box->index, v->next_uid, &record)) {
        uint64_t size;
        int r;

        if (budget_spent(budget, 1))
            return STEP_MORE;
        r = size_of(box, record.uid, &v->left, &size, e);
        if (r != 0) {
            if (r > 0)
                (void)stop(box, v, e);
            return STEP_ERROR;
        }
        v->next_uid = record.uid + 1;
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
    uint32_t highest;

    index_status(box->index, &status);
    highest = (v->stopped ? v->next_uid : status.next_uid) - 1;
    /* What was expunged meanwhile may have been added. */
    if (status.next_uid <= 1 || highest == 0 || box->job != NULL || box->read_only || v->count != messages_up_to(box, &status, highest) ||
        (v->stored_bytes == v->bytes && v->stored_count == v->count && v->stored_highest == highest))
        return;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_EXTERNAL);
    bytes_put_le64(bytes, v->bytes);
    bytes_put_le32(bytes + 8, highest);
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
        vsize_begin(f->box, &f->sum, true);
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
