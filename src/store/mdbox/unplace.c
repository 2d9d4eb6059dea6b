/* unplace.c - messages that a rebuild of Dovecot's gave to a mailbox in the middle of a conversion are taken away again.
 *
 * Such a rebuild appends what an interrupted conversion has put into the files to the mailbox that it was for, under the next
 * UIDs; it does not know those that the messages are to have (given.c). UIDs only ascend: so the mailbox gets a new log, in
 * which there are only the messages before, and UIDNEXT is what it was. References go first, then the records, then the
 * map's tail, as for an expunge; a crash in between is a rebuild. */
#include "store/mdbox/mdbox.h"

#define BASE_NEXT_UID 28 /* index-format 2.1 */

static void keep(const struct mdbox *m, struct index_batch *batch, const struct index_record *rec)
{
    const struct index *index = m->box->index;
    struct index_append *append = index_batch_append(batch, rec->uid, rec->flags & INDEX_FLAGS_CLIENT);
    struct mdbox_record own;

    for (unsigned i = 0; i < index_keyword_count(index); i++)
        if (index_keyword_has(rec->keywords, i))
            index_append_keyword(batch, append, slice_from_str(index_keyword_name(index, i)));
    if (mdbox_record_get(m, rec->uid, &own))
        mdbox_append_record(m, batch, append, own.map_uid, own.save_date, own.guid);
}

static int put_rest(struct mdbox *m, uint32_t first, struct arena *arena, struct error *e)
{
    struct index *index = m->box->index;
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    struct index_status status;
    struct mdbox_header header;
    struct index_record rec;
    uint32_t uidl = mdbox_highest_uidl(m), last = 0;
    unsigned char next[4];

    index_status(index, &status);
    mdbox_header_get(m, &header);
    mdbox_header_put(m, batch, &header);
    if (uidl != UINT32_MAX)
        mdbox_put_highest_uidl(m, batch, uidl < first ? uidl : first - 1);
    index_batch_uid_validity(batch, status.uid_validity);
    for (uint32_t uid = 1; index_get_from(index, uid, &rec) && rec.uid < first; uid = rec.uid + 1) {
        keep(m, batch, &rec);
        last = rec.uid;
    }
    bytes_put_le32(next, first);
    if (first > last + 1) /* behind the appends, which raise it themselves */
        index_batch_header(batch, BASE_NEXT_UID, slice_of(next, 4), false);
    index_batch_first_recent(batch, status.first_recent_uid < first ? status.first_recent_uid : first);
    if (index_reset(index, batch, e) < 0)
        return -1;
    if (!status.modseq_enabled)
        return 0;
    batch = index_batch_new(arena, INDEX_INTERNAL);
    index_batch_enable_modseq(batch);
    return index_commit_locked(index, batch, NULL, e);
}

static int unplace_locked(struct mdbox *m, uint32_t first, struct arena *arena, struct error *e)
{
    struct mdbox_losses losses = {0};
    struct mdbox_record own;
    struct index_record rec;
    int r;

    for (uint32_t uid = first; index_get_from(m->box->index, uid, &rec); uid = rec.uid + 1)
        if (mdbox_record_get(m, rec.uid, &own))
            mdbox_losses_add(&losses, &own);
    r = mdbox_losses_lower(m, &losses, arena, e);
    if (r == 0 && (r = put_rest(m, first, arena, e)) < 0)
        mdbox_losses_raise(m, &losses, arena);
    else if (r == 0)
        r = mdbox_storage_confirm(m->storage, e);
    VEC_FREE(&losses);
    return r;
}

enum step mdbox_unplace(struct mailbox *box, uint32_t first, struct error *e)
{
    struct mdbox *m = box->data;
    struct arena *arena;
    enum step r = mdbox_storage_lock(m->storage, mail_user_log(box->user), "migrating", e);

    if (r != STEP_DONE)
        return r;
    r = index_lock_try(box->index, "migrating", e);
    if (r == STEP_DONE) {
        arena = arena_new();
        if (mdbox_rebuild_wanted(m->storage)) {
            error_set(e, ERROR_TEMPORARY, "%s: it must be rebuilt first", m->storage->path);
            r = STEP_ERROR;
        } else if (unplace_locked(m, first, arena, e) < 0) {
            r = STEP_ERROR;
        }
        arena_free(arena);
        index_unlock(box->index);
    }
    mdbox_map_unlock(m->storage->map);
    return r;
}
