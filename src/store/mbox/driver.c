/* driver.c - mbox as a store driver: finding, making, opening a mailbox (maildir-and-layouts 1.4, 9). */
#include "store/mbox/mbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static bool is_kind(const char *path, const char *name, mode_t kind)
{
    char full[4096];
    struct stat st;

    return (size_t)snprintf(full, sizeof(full), "%s%s%s", path, *name == '\0' ? "" : "/", name) < sizeof(full) &&
           stat(full, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

static bool mbox_is_mailbox(const char *path)
{
    return is_kind(path, "", S_IFREG);
}

static bool mbox_detect(const char *root)
{
    return is_kind(root, ".imap", S_IFDIR) || is_kind(root, "inbox", S_IFREG) || is_kind(root, "mbox", S_IFREG) ||
           is_kind(root, "", S_IFREG);
}

/* ---- the index header ---- */

static const struct index_ext_def header_ext = {.name = "mbox", .header_size = MBOX_EXT_SIZE, .record_size = 8, .record_align = 8};
static const struct index_ext_def md5_ext = {.name = "header-md5", .record_size = 16, .record_align = 1};

void mbox_ext_get(const struct mbox *m, struct mbox_ext *ext)
{
    struct slice raw = index_ext_header(m->box->index, m->ext);

    *ext = (struct mbox_ext){0};
    if (raw.size < 12)
        return;
    ext->size = bytes_le64(raw.at);
    ext->mtime = bytes_le32(raw.at + 8);
    ext->dirty = raw.size > 12 && raw.at[12] != 0;
    if (raw.size >= MBOX_EXT_SIZE)
        memcpy(ext->guid, raw.at + 16, 16);
}

void mbox_ext_put(const struct mbox *m, struct index_batch *batch, const struct mbox_ext *ext)
{
    unsigned char raw[MBOX_EXT_SIZE] = {0};

    bytes_put_le64(raw, ext->size);
    bytes_put_le32(raw + 8, ext->mtime);
    raw[12] = ext->dirty;
    memcpy(raw + 16, ext->guid, 16);
    index_batch_ext_header(batch, m->ext, 0, slice_of(raw, sizeof(raw)));
}

/* What a new log begins with. */
static int init_index(void *arg, struct index *index, struct index_batch *batch, struct error *e)
{
    unsigned char raw[MBOX_EXT_SIZE] = {0};

    (void)e;
    store_mailbox_guid_new(arg, raw + 16);
    index_batch_ext_header(batch, index_ext(index, &header_ext), 0, slice_of(raw, sizeof(raw)));
    return 0;
}

/* ---- creating, opening ---- */

static int mbox_create(const struct mail_location *at, const char *path, bool inbox, const struct mail_modes *modes, struct error *e)
{
    bool spool = inbox && at->inbox != NULL && strncmp(path, at->root, strlen(at->root)) != 0;
    int fd = os_create(AT_FDCWD, path, spool ? 0600 : modes->file, spool ? (gid_t)-1 : modes->gid, e);

    if (fd < 0)
        return e->class == ERROR_EXISTS ? error_set(e, ERROR_EXISTS, "Mailbox already exists: %s", path) : -1;
    close(fd);
    return 0;
}

/* The file, or a folder of INDEX or CONTROL with what is in it. */
static int mbox_remove(const char *path, struct error *e)
{
    if (is_kind(path, "", S_IFDIR))
        return store_remove_files(path, e);
    return os_unlink(AT_FDCWD, path, e) < 0 && e->class != ERROR_NOT_FOUND ? -1 : 0;
}

static int open_file(struct mbox *m, const struct driver_open *how, struct error *e)
{
    struct mailbox *box = m->box;

    if (!mbox_is_mailbox(box->path)) {
        if (!how->create)
            return mailbox_not_found(&box->place, e);
        if (folder_create(box->storage, box->place.name, false, e) < 0 && e->class != ERROR_EXISTS)
            return -1;
        box->modes = mail_modes_of(box->path);
    }
    return mbox_file_open(m, e);
}

/* Small mailboxes need no index on the disk. */
static bool in_memory(const struct mbox *m)
{
    struct stat st;

    if (m->box->index_path == NULL)
        return true;
    return m->min_index_size > 0 && !is_kind(m->box->index_path, "dovecot.index.log", S_IFREG) && fstat(m->fd, &st) == 0 &&
           (uint64_t)st.st_size < m->min_index_size;
}

static int open_index(struct mbox *m, struct error *e)
{
    struct mailbox *box = m->box;

    if (store_index_open(box, &(struct store_index_how){.init = init_index, .in_memory = in_memory(m)}, e) < 0)
        return -1;
    m->ext = index_ext(box->index, &header_ext);
    m->ext_md5 = index_ext(box->index, &md5_ext);
    return 0;
}

/* What was left for later is written now, unless somebody has a lock: then it is the next one's. */
static void flush_at_close(struct mailbox *box)
{
    struct driver_sync sync = {.why = SYNC_FULL};
    struct budget budget = BUDGET_UNLIMITED;
    struct mbox *m = box->data;
    struct index_status status;
    struct error e;
    enum step r;

    index_status(box->index, &status);
    if (box->gone || m->backend_read_only || m->locked != MBOX_UNLOCKED || (!status.have_dirty && !m->old_due) ||
        index_deleted(box->index) != 0 || !mbox_is_mailbox(box->path))
        return;
    while ((r = mbox_sync(box, &sync, &budget, &e)) == STEP_MORE)
        ;
    mbox_sync_end(box, &sync);
    if (r == STEP_ERROR && e.class != ERROR_SPACE && e.class != ERROR_QUOTA)
        log_error_value(mail_user_log(box->user), &e);
}

static void mbox_close(struct mailbox *box)
{
    struct mbox *m = box->data;

    if (m == NULL)
        return;
    if (box->index != NULL)
        flush_at_close(box);
    mbox_unlock(m);
    if (box->index != NULL)
        index_close(&box->index);
    if (m->fd >= 0)
        close(m->fd);
    mem_free(m);
    box->data = NULL;
}

/* "write locks must contain the read locks in the same relative order": else two of us could exclude nobody. */
static int read_locks(struct mbox *m, const struct settings *set, struct error *e)
{
    unsigned k = 0;

    if (mbox_locks_parse(slice_from_str(conf_str(set, SET_mbox_read_locks)), &m->read_locks, e) < 0)
        return error_context(e, "mbox_read_locks: ");
    if (mbox_locks_parse(slice_from_str(conf_str(set, SET_mbox_write_locks)), &m->write_locks, e) < 0)
        return error_context(e, "mbox_write_locks: ");
    for (unsigned i = 0; i < m->write_locks.count; i++)
        if (k < m->read_locks.count && m->write_locks.at[i] == m->read_locks.at[k])
            k++;
    if (k < m->read_locks.count || m->write_locks.count == 0)
        return error_set(e, ERROR_INVALID, "mbox read/write lock list settings are invalid. Lock ordering must be the same with both, "
                         "and write locks must contain all read locks (and possibly more)");
    return 0;
}

static int mbox_open(struct mailbox *box, const struct driver_open *how, struct error *e)
{
    const struct settings *set = mail_user_settings(box->user);
    struct mbox *m = mem_zero(1, sizeof(*m));

    box->data = m;
    m->box = box;
    m->fd = -1;
    m->lock_timeout = conf_secs(set, SET_mbox_lock_timeout);
    m->dotlock_stale = conf_secs(set, SET_mbox_dotlock_change_timeout);
    m->dirty_syncs = conf_bool(set, SET_mbox_dirty_syncs);
    m->very_dirty_syncs = conf_bool(set, SET_mbox_very_dirty_syncs);
    m->lazy_writes = conf_bool(set, SET_mbox_lazy_writes);
    m->min_index_size = conf_size(set, SET_mbox_min_index_size);
    m->md5 = strcmp(conf_str(set, SET_mbox_md5), "all") == 0 ? MBOX_MD5_ALL : MBOX_MD5_APOP3D;
    m->fsync_never = strcmp(conf_str(set, SET_mail_fsync), "never") == 0;
    m->save_crlf = conf_bool(set, SET_mail_save_crlf);
    if (read_locks(m, set, e) < 0 || open_file(m, how, e) < 0 || open_index(m, e) < 0) {
        mbox_close(box);
        return -1;
    }
    return 0;
}

static int mbox_guid(struct mailbox *box, unsigned char guid[16], struct error *e)
{
    static const unsigned char none[16];
    struct mbox_ext ext;

    mbox_ext_get(box->data, &ext);
    if (memcmp(ext.guid, none, 16) == 0)
        return error_set(e, ERROR_TEMPORARY, "%s: the mailbox has no GUID yet", box->path);
    memcpy(guid, ext.guid, 16);
    return 0;
}

/* The index alone: the file gets UIDVALIDITY and the next UID by the sync that follows. */
static enum step mbox_adopt(struct mailbox *box, const struct mailbox_identity *id, struct error *e)
{
    static const unsigned char none[16];
    struct index_batch *batch;
    struct mbox_ext ext;
    struct arena *arena;
    enum step r = mbox_lock(box->data, MBOX_LOCKED_WRITE, e);

    if (r != STEP_DONE)
        return r;
    r = index_lock_try(box->index, "migrating", e);
    if (r == STEP_DONE) {
        arena = arena_new();
        batch = index_batch_new(arena, INDEX_EXTERNAL);
        if (store_adopt_check(box, id, e) < 0) {
            r = STEP_ERROR;
        } else {
            store_adopt_index(box, id, batch);
            mbox_ext_get(box->data, &ext);
            if (memcmp(id->guid, none, 16) != 0 && store_adopt_guid(box))
                memcpy(ext.guid, id->guid, 16);
            ext.mtime = 0; /* to be read again, and written */
            ext.dirty = true;
            mbox_ext_put(box->data, batch, &ext);
            if (index_commit_locked(box->index, batch, NULL, e) < 0)
                r = STEP_ERROR;
        }
        index_unlock(box->index);
        arena_free(arena);
    }
    mbox_unlock(box->data);
    return r;
}

/* ---- the list index ---- */

static int mbox_list_stamp(const char *path, uint32_t stamp[2])
{
    struct stat st;

    if (stat(path, &st) < 0)
        return -1;
    stamp[0] = (uint32_t)st.st_mtime;
    stamp[1] = (uint32_t)st.st_size;
    return 0;
}

static void mbox_list_seen(struct mailbox *box, uint32_t stamp[2])
{
    struct mbox_ext ext;

    mbox_ext_get(box->data, &ext);
    stamp[0] = ext.mtime;
    stamp[1] = (uint32_t)ext.size;
}

const struct store_driver mbox_driver = {
    .name = "mbox",
    .can = DRIVER_IS_FILE | DRIVER_FACTS_IN_FILE,
    .layout = LAYOUT_FS,
    .dirname = "", .mailboxdir = "", .subscriptions = ".subscriptions",
    .is_mailbox = mbox_is_mailbox, .detect = mbox_detect,
    .create = mbox_create, .remove = mbox_remove,
    .open = mbox_open, .close = mbox_close, .guid = mbox_guid, .adopt = mbox_adopt,
    .sync = mbox_sync, .sync_end = mbox_sync_end,
    .stage = mbox_stage, .stage_write = mbox_stage_write, .stage_finish = mbox_stage_finish,
    .stage_copy = mbox_stage_copy, .stage_again = mbox_stage_again, .stage_read = mbox_stage_read, .discard = mbox_discard,
    .publish = mbox_publish, .publish_end = mbox_publish_end,
    .read = mbox_read, .read_end = mbox_read_end, .item = mbox_item,
    .list_ext = "mbox", .list_stamp = mbox_list_stamp, .list_seen = mbox_list_seen,
};
