/* driver.c - mdbox as a store driver: finding, making, opening a mailbox; its index extensions (dbox-format 3.1). */
#include "store/mdbox/mdbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_WAIT_NS (10ull * 1000 * 1000 * 1000)

static bool is_there(const char *path, const char *name)
{
    char full[4096];

    return (size_t)snprintf(full, sizeof(full), "%s/%s", path, name) < sizeof(full) && access(full, F_OK) == 0;
}

/* Asked only without DIRNAME, where the folder itself says nothing. */
static bool mdbox_is_mailbox(const char *path)
{
    return is_there(path, "dovecot.index.log") || is_there(path, "dovecot.index");
}

/* The map tells an mdbox from an sdbox, which has mailboxes/ too (chapter 9, row 11). */
static bool mdbox_detect(const char *root)
{
    return is_there(root, "storage/dovecot.map.index.log") || is_there(root, "storage/dovecot.map.index") ||
           is_there(root, "storage/m.1") || (is_there(root, "storage") && is_there(root, "mailboxes"));
}

/* ---- what the index says ---- */

bool mdbox_header_get(const struct mdbox *m, struct mdbox_header *h)
{
    struct slice raw = index_ext_header(m->box->index, m->ext_header);

    *h = (struct mdbox_header){0};
    if (raw.size < 20)
        return false;
    h->map_uid_validity = bytes_le32(raw.at);
    memcpy(h->guid, raw.at + 4, 16);
    h->flags = raw.size > 20 ? raw.at[20] : MDBOX_HAS_POP3_UIDL | MDBOX_HAS_POP3_ORDER; /* an old one does not say */
    return true;
}

void mdbox_header_put(const struct mdbox *m, struct index_batch *batch, const struct mdbox_header *h)
{
    unsigned char raw[MDBOX_HEADER_SIZE] = {0};

    bytes_put_le32(raw, h->map_uid_validity);
    memcpy(raw + 4, h->guid, 16);
    raw[20] = h->flags;
    index_batch_ext_header(batch, m->ext_header, 0, slice_of(raw, sizeof(raw)));
}

bool mdbox_record_get(const struct mdbox *m, uint32_t uid, struct mdbox_record *out)
{
    static const unsigned char none[16];
    struct slice rec = index_ext_record(m->box->index, m->ext_record, uid);
    struct slice guid = index_ext_record(m->box->index, m->ext_guid, uid);

    *out = (struct mdbox_record){0};
    if (rec.size < 8)
        return false;
    out->map_uid = bytes_le32(rec.at);
    out->save_date = bytes_le32(rec.at + 4);
    if (guid.size >= 16) {
        memcpy(out->guid, guid.at, 16);
        out->has_guid = memcmp(guid.at, none, 16) != 0;
    }
    return true;
}

static struct slice put_record(unsigned char out[8], uint32_t map_uid, uint32_t save_date)
{
    bytes_put_le32(out, map_uid);
    bytes_put_le32(out + 4, save_date);
    return slice_of(out, 8);
}

void mdbox_append_record(const struct mdbox *m, struct index_batch *batch, struct index_append *append, uint32_t map_uid,
                         uint32_t save_date, const unsigned char guid[16])
{
    unsigned char raw[8];

    index_append_ext(batch, append, m->ext_record, put_record(raw, map_uid, save_date));
    index_append_ext(batch, append, m->ext_guid, slice_of(guid, 16));
}

void mdbox_put_map_uid(const struct mdbox *m, struct index_batch *batch, uint32_t uid, const struct mdbox_record *rec)
{
    unsigned char raw[8];

    index_batch_ext_record(batch, m->ext_record, uid, put_record(raw, rec->map_uid, rec->save_date));
}

uint32_t mdbox_highest_uidl(const struct mdbox *m)
{
    struct slice raw = index_ext_header(m->box->index, m->ext_uidl);

    return raw.size < 4 ? UINT32_MAX : bytes_le32(raw.at);
}

void mdbox_put_highest_uidl(const struct mdbox *m, struct index_batch *batch, uint32_t uid)
{
    unsigned char raw[4];

    bytes_put_le32(raw, uid);
    index_batch_ext_header(batch, m->ext_uidl, 0, slice_of(raw, 4));
}

int mdbox_init_mailbox(struct mdbox *m, struct error *e)
{
    static const unsigned char none[16];
    struct index *index = m->box->index;
    struct index_status status;
    struct mdbox_header h;
    struct index_batch *batch;
    struct arena *arena;
    uint32_t uid_validity;
    int r = 0;

    index_status(index, &status);
    if (status.uid_validity != 0 && mdbox_header_get(m, &h) && memcmp(h.guid, none, 16) != 0)
        return 0;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_EXTERNAL);
    if (strcmp(m->box->place.name, "INBOX") == 0 && index_ext_header(index, m->ext_uidl).size == 0)
        mdbox_put_highest_uidl(m, batch, 0);
    mdbox_header_get(m, &h);
    if (h.map_uid_validity == 0)
        h.map_uid_validity = mdbox_map_uid_validity(m->storage->map);
    if (memcmp(h.guid, none, 16) == 0)
        store_mailbox_guid_new(m->box, h.guid);
    mdbox_header_put(m, batch, &h);
    if (status.uid_validity == 0) {
        r = store_next_uid_validity(m->box->storage, &uid_validity, e);
        if (r == 0)
            index_batch_uid_validity(batch, uid_validity);
    }
    if (r == 0)
        r = index_commit_locked(index, batch, NULL, e);
    arena_free(arena);
    return r;
}

/* ---- opening ---- */

static int open_folder(struct mailbox *box, const struct driver_open *how, struct error *e)
{
    struct stat st;

    if (stat(box->path, &st) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return error_sys(e, "stat", box->path);
        if (!how->create)
            return mailbox_not_found(&box->place, e);
        if (folder_create(box->storage, box->place.name, false, e) < 0 && e->class != ERROR_EXISTS)
            return -1;
        box->modes = mail_modes_of(box->path);
    }
    box->read_only = access(box->path, W_OK) < 0 && (errno == EACCES || errno == EROFS);
    return 0;
}

int mdbox_open_index(struct mdbox *m, struct error *e)
{
    struct mailbox *box = m->box;
    static const struct index_ext_def header = {.name = "mdbox-hdr", .header_size = MDBOX_HEADER_SIZE, .shrink = true};
    static const struct index_ext_def uidl = {.name = "hdr-pop3-uidl", .header_size = 4};
    static const struct index_ext_def record = {.name = "mdbox", .record_size = 8, .record_align = 4};
    static const struct index_ext_def guid = {.name = "guid", .record_size = 16, .record_align = 1};

    if (store_index_open(box, &(struct store_index_how){.read_only = box->read_only, .only_copy = true}, e) < 0)
        return -1;
    m->ext_header = index_ext(box->index, &header);
    m->ext_uidl = index_ext(box->index, &uidl);
    m->ext_record = index_ext(box->index, &record);
    m->ext_guid = index_ext(box->index, &guid);
    return 0;
}

/* A program that does one thing and ends has no next sync: the last to close mends, as Dovecot does. Locks of others are
 * waited for, but not for long: the next one will find the same. */
static void mend_at_the_end(struct mdbox *m)
{
    uint64_t until = time_monotonic_ns() + CLOSE_WAIT_NS;
    struct budget budget = BUDGET_UNLIMITED;
    struct mdbox_rebuild *rebuild;
    enum step r = STEP_WAIT;
    struct error e;

    if (!m->box->user->no_notify || m->box->read_only || m->storage == NULL || m->storage->refs > 1 ||
        !mdbox_rebuild_wanted(m->storage))
        return;
    rebuild = mdbox_rebuild_begin(m->storage, m->box->user, false);
    while ((r == STEP_WAIT || r == STEP_MORE) && time_monotonic_ns() < until) {
        r = mdbox_rebuild_step(rebuild, &budget, &e);
        if (r == STEP_WAIT)
            nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
    }
    mdbox_rebuild_end(&rebuild);
    if (r == STEP_ERROR)
        log_error_value(mail_user_log(m->box->user), &e);
}

static void mdbox_close(struct mailbox *box)
{
    struct mdbox *m = box->data;

    if (m == NULL)
        return;
    if (box->index != NULL)
        mend_at_the_end(m);
    if (box->index != NULL)
        index_close(&box->index);
    mdbox_storage_put(&m->storage);
    mem_free(m);
    box->data = NULL;
}

/* Whose index is lost, and a copy of it is not, is no new mailbox: the rebuild takes that. */
static bool has_backup(const struct mailbox *box)
{
    char path[4096];

    return box->index_path != NULL &&
           (size_t)snprintf(path, sizeof(path), "%s/dovecot.index.backup", box->index_path) < sizeof(path) && access(path, F_OK) == 0;
}

/* A new mailbox is one from the beginning, unless somebody holds its lock: then the first sync does it. */
static int begin_mailbox(struct mdbox *m, struct error *e)
{
    struct index_status status;
    int r = 0;

    index_status(m->box->index, &status);
    if (m->box->read_only || status.uid_validity != 0)
        return 0;
    if (has_backup(m->box)) {
        mdbox_storage_set_corrupted(m->storage);
        return 0;
    }
    switch (index_lock_try(m->box->index, "syncing", e)) {
    case STEP_DONE:
        r = mdbox_init_mailbox(m, e);
        index_unlock(m->box->index);
        return r;
    case STEP_ERROR:
        return -1;
    default:
        return 0;
    }
}

static int mdbox_open(struct mailbox *box, const struct driver_open *how, struct error *e)
{
    struct mdbox *m = mem_zero(1, sizeof(*m));

    box->data = m;
    m->box = box;
    m->fsync_never = strcmp(conf_str(mail_user_settings(box->user), SET_mail_fsync), "never") == 0;
    if (open_folder(box, how, e) < 0 || mdbox_storage_get(&m->storage, box->user, &box->storage->at, !box->read_only, e) < 0 ||
        mdbox_open_index(m, e) < 0 || begin_mailbox(m, e) < 0) {
        mdbox_close(box);
        return -1;
    }
    box->read_only = box->read_only || m->storage->read_only;
    return 0;
}

int mdbox_guid(struct mailbox *box, unsigned char guid[16], struct error *e)
{
    static const unsigned char none[16];
    struct mdbox_header h;

    if (!mdbox_header_get(box->data, &h) || memcmp(h.guid, none, 16) == 0)
        return error_set(e, ERROR_TEMPORARY, "%s: the mailbox has no GUID yet", box->path);
    memcpy(guid, h.guid, 16);
    return 0;
}

/* ---- purge and altmove ---- */

/* Remembered in the storage, until the purge that this process runs at the end of its command. */
static void mdbox_remember_move(struct mailbox *box, uint32_t uid, bool to_alt)
{
    struct mdbox *m = box->data;
    struct mdbox_record rec;

    if (m->storage->alt_path == NULL || !mdbox_record_get(m, uid, &rec) || rec.map_uid == 0)
        return;
    m->storage->moves_back = !to_alt;
    if (m->storage->moves.count == 0)
        m->storage->refs++; /* the purge's, which comes when the mailboxes are closed again */
    VEC_PUSH(&m->storage->moves, rec.map_uid);
}

struct driver_purge {
    struct mail_user *user;
    struct mail_storage *storage;
    struct mdbox_storage *mdbox;
    struct mdbox_purge *purge;
};

static void *mdbox_driver_purge_begin(struct mail_user *user, struct mail_storage *storage)
{
    struct driver_purge *p = mem_zero(1, sizeof(*p));

    p->user = user;
    p->storage = storage;
    return p;
}

static enum step mdbox_driver_purge_step(void *arg, struct budget *budget, struct error *e)
{
    struct driver_purge *p = arg;

    if (p->purge == NULL) {
        if (mdbox_storage_get(&p->mdbox, p->user, &p->storage->at, false, e) < 0)
            return e->class == ERROR_NOT_FOUND ? STEP_DONE : STEP_ERROR; /* a user without mail */
        p->purge = mdbox_purge_begin(p->mdbox, p->user);
        for (size_t i = 0; i < p->mdbox->moves.count; i++)
            mdbox_purge_move(p->purge, p->mdbox->moves.at[i]);
        if (p->mdbox->moves_back)
            mdbox_purge_move_back(p->purge);
        if (p->mdbox->moves.count > 0)
            p->mdbox->refs--;
        p->mdbox->moves.count = 0;
    }
    return mdbox_purge_step(p->purge, budget, e);
}

static void mdbox_driver_purge_end(void *arg)
{
    struct driver_purge *p = arg;

    mdbox_purge_end(&p->purge);
    mdbox_storage_put(&p->mdbox);
    mem_free(p);
}

static enum step mdbox_adopt(struct mailbox *box, const struct mailbox_identity *id, struct error *e)
{
    static const unsigned char none[16];
    struct mdbox *m = box->data;
    struct mdbox_header h;
    struct index_batch *batch;
    struct arena *arena;
    enum step r = index_lock_try(box->index, "migrating", e);

    if (r != STEP_DONE)
        return r;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_EXTERNAL);
    if (store_adopt_check(box, id, e) < 0) {
        r = STEP_ERROR;
    } else {
        store_adopt_index(box, id, batch);
        mdbox_header_get(box->data, &h);
        if (memcmp(id->guid, none, 16) != 0 && memcmp(id->guid, h.guid, 16) != 0 && store_adopt_guid(box)) {
            memcpy(h.guid, id->guid, 16);
            mdbox_header_put(box->data, batch, &h);
        }
        if (index_commit_locked(box->index, batch, NULL, e) < 0)
            r = STEP_ERROR;
    }
    index_unlock(box->index);
    arena_free(arena);
    if (r == STEP_DONE && mdbox_given_left(m->storage))
        mdbox_storage_set_corrupted(m->storage); /* the sync that follows puts an end to what an interrupted run has begun */
    return r;
}

const struct store_driver mdbox_driver = {
    .name = "mdbox",
    .can = DRIVER_SAVE_GUID | DRIVER_POP3_UIDL | DRIVER_LINK_COPY | DRIVER_ALT | DRIVER_ATTACHMENTS | DRIVER_FACTS_IN_FILE |
           DRIVER_COUNTS_REFERENCES | DRIVER_LIST_KNOWS | DRIVER_ONE_ROOT,
    .layout = LAYOUT_FS,
    .dirname = "dbox-Mails", .mailboxdir = "mailboxes", .subscriptions = "subscriptions",
    .is_mailbox = mdbox_is_mailbox, .detect = mdbox_detect,
    .create = dbox_folder_create, .remove = dbox_folder_remove,
    .open = mdbox_open, .close = mdbox_close, .guid = mdbox_guid, .adopt = mdbox_adopt, .unplace = mdbox_unplace,
    .sync = mdbox_sync, .sync_end = mdbox_sync_end,
    .stage = mdbox_stage, .stage_write = mdbox_stage_write, .stage_finish = mdbox_stage_finish,
    .stage_copy = mdbox_stage_copy, .stage_again = mdbox_stage_again, .stage_read = mdbox_stage_read, .discard = mdbox_discard,
    .publish = mdbox_publish, .publish_end = mdbox_publish_end,
    .altmove = mdbox_remember_move,
    .purge_begin = mdbox_driver_purge_begin, .purge_step = mdbox_driver_purge_step, .purge_end = mdbox_driver_purge_end,
    .read = mdbox_read, .read_end = mdbox_read_end, .item = mdbox_item,
};
