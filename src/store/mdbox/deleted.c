/* deleted.c - mdbox_deleted: the messages of an mdbox that are expunged and not purged yet, to be copied back
 * (dbox-format 3.10).
 *
 * Read only. INBOX shows every message of the map that no mailbox refers to, in the map's order; other mailboxes are empty.
 * The index is in memory and begins anew with each open. Nothing of the store is touched. */
#include "store/mdbox/mdbox.h"

#include <time.h>

static bool deleted_is_mailbox(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int refuse(const char *what, struct error *e)
{
    error_set(e, ERROR_UNSUPPORTED, "mdbox_deleted doesn't support %s", what);
    return error_user(e, e->admin);
}

static int deleted_create(const struct mail_location *at, const char *path, bool inbox, const struct mail_modes *modes,
                          struct error *e)
{
    (void)at, (void)path, (void)inbox, (void)modes;
    return refuse("creating mailboxes", e);
}

static int deleted_remove(const char *path, struct error *e)
{
    (void)path;
    return refuse("deleting mailboxes", e);
}

/* ---- opening ---- */

static int fill(struct mdbox *m, struct error *e)
{
    struct mdbox_map *map = m->storage->map;
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    static const unsigned char no_guid[16];
    uint32_t now = (uint32_t)time(NULL);
    struct mdbox_header header = {.map_uid_validity = mdbox_map_uid_validity(map),
                                  .flags = MDBOX_HAS_POP3_UIDL | MDBOX_HAS_POP3_ORDER};
    struct mdbox_map_record rec;
    bool inbox = strcmp(m->box->place.name, "INBOX") == 0;
    int r;

    store_guid_new(header.guid);
    mdbox_header_put(m, batch, &header);
    index_batch_uid_validity(batch, now);
    for (uint32_t seq = 1; inbox && seq <= mdbox_map_count(map); seq++)
        if (mdbox_map_get_at(map, seq, &rec) && rec.ref == 0)
            mdbox_append_record(m, batch, index_batch_append(batch, 0, 0), rec.uid, now, no_guid);
    r = index_commit_wait(m->box->index, batch, NULL, e); /* it is ours alone: nothing is waited for */
    arena_free(arena);
    return r;
}

static void deleted_close(struct mailbox *box)
{
    struct mdbox *m = box->data;

    if (m == NULL)
        return;
    if (box->index != NULL)
        index_close(&box->index);
    mdbox_storage_put(&m->storage);
    mem_free(m);
    box->data = NULL;
}

static int deleted_open(struct mailbox *box, const struct driver_open *how, struct error *e)
{
    struct mdbox *m = mem_zero(1, sizeof(*m));

    (void)how;
    box->data = m;
    m->box = box;
    if (mdbox_storage_get(&m->storage, box->user, &box->storage->at, false, e) < 0 || mdbox_open_index(m, e) < 0 ||
        fill(m, e) < 0) {
        bool none = e->class == ERROR_NOT_FOUND;

        deleted_close(box);
        return none ? mailbox_not_found(&box->place, e) : -1;
    }
    box->read_only = true;
    return 0;
}

static enum step deleted_sync(struct mailbox *box, struct driver_sync *sync, struct budget *budget, struct error *e)
{
    (void)box, (void)sync, (void)budget, (void)e;
    return STEP_DONE;
}

static void deleted_sync_end(struct mailbox *box, struct driver_sync *sync)
{
    (void)box, (void)sync;
}

/* ---- saving is refused ---- */

static int deleted_stage(struct staged *s, struct error *e)
{
    (void)s;
    return refuse("saving mails", e);
}

static int deleted_stage_write(struct staged *s, struct slice bytes, struct error *e)
{
    (void)s, (void)bytes;
    return refuse("saving mails", e);
}

static int deleted_stage_copy(struct staged *s, struct mailbox *from, uint32_t uid, struct error *e)
{
    (void)s, (void)from, (void)uid;
    return refuse("saving mails", e);
}

static int deleted_stage_again(struct staged *s, const struct staged *first, struct error *e)
{
    (void)s, (void)first;
    return refuse("saving mails", e);
}

static void deleted_discard(struct staged *s)
{
    (void)s;
}

static enum step deleted_publish(struct mailbox *box, struct driver_publish *pub, struct budget *budget, struct error *e)
{
    (void)box, (void)pub, (void)budget;
    refuse("saving mails", e);
    return STEP_ERROR;
}

static void deleted_publish_end(struct mailbox *box, struct driver_publish *pub)
{
    (void)box, (void)pub;
}

const struct store_driver mdbox_deleted_driver = {
    .name = "mdbox_deleted",
    .can = DRIVER_ALT | DRIVER_ATTACHMENTS | DRIVER_FACTS_IN_FILE | DRIVER_IN_MEMORY,
    .layout = LAYOUT_FS,
    .dirname = "dbox-Mails", .mailboxdir = "mailboxes", .subscriptions = "subscriptions",
    .is_mailbox = deleted_is_mailbox,
    .create = deleted_create, .remove = deleted_remove,
    .open = deleted_open, .close = deleted_close, .guid = mdbox_guid,
    .sync = deleted_sync, .sync_end = deleted_sync_end,
    .stage = deleted_stage, .stage_write = deleted_stage_write, .stage_finish = deleted_stage,
    .stage_copy = deleted_stage_copy, .stage_again = deleted_stage_again, .discard = deleted_discard,
    .publish = deleted_publish, .publish_end = deleted_publish_end,
    .read = mdbox_read, .read_end = mdbox_read_end, .item = mdbox_item,
};
