/* sync.c - bringing file and index together (maildir-and-layouts 9.2): what is to be done, locks, the scan. sync_apply.c the
 * rest.
 *
 * What others append is the usual news: then only the new tail is read (mbox_dirty_syncs), and the index remembers that the
 * rest was not looked at, for the next full sync. Flag changes of our own go to the index alone until somebody asks for more
 * (mbox_lazy_writes). A scan is cut into steps; the locks stay with the job. */
#include "store/mbox/mbox.h"

#include <errno.h>
#include <unistd.h>

static bool differs(const struct mbox_ext *ext, const struct stat *st)
{
    return ext->size != (uint64_t)st->st_size || ext->mtime != (uint32_t)st->st_mtime;
}

static bool is_full(const struct mbox *m, const struct driver_sync *sync)
{
    if (sync->why == SYNC_RESYNC)
        return true;
    return !m->very_dirty_syncs && (!m->dirty_syncs || sync->why == SYNC_FULL || sync->why == SYNC_SELECT || sync->expunges);
}

/* Must the file be read? */
static bool wants_scan(const struct mbox *m, const struct driver_sync *sync, const struct mbox_sync *s, const struct stat *st)
{
    static const unsigned char none[16];
    struct index_status status;
    struct mbox_ext ext;

    index_status(m->box->index, &status);
    mbox_ext_get(m, &ext);
    return differs(&ext, st) || status.uid_validity == 0 || memcmp(ext.guid, none, 16) == 0 || (ext.dirty && is_full(m, sync)) ||
           sync->why == SYNC_RESYNC || s->reserve > 0 || s->flush;
}

static int check(struct mbox *m, struct driver_sync *sync, struct mbox_sync *s, bool *work, struct error *e)
{
    struct index_status status;
    bool scan, pending;

    if (stat(m->box->path, &s->st) < 0 || !S_ISREG(s->st.st_mode))
        return errno == ENOENT || errno == ENOTDIR ? error_set(e, ERROR_NOT_FOUND, "%s: the mailbox is gone", m->box->path)
                                                   : error_sys(e, "stat", m->box->path);
    if (index_refresh(m->box->index, e) == STEP_ERROR)
        return -1;
    if (index_deleted(m->box->index) != 0)
        return mailbox_not_found(&m->box->place, e);
    index_status(m->box->index, &status);
    s->flush = !m->backend_read_only && ((sync->why == SYNC_FULL && (status.have_dirty || m->old_due)) || sync->why == SYNC_RESYNC);
    scan = wants_scan(m, sync, s, &s->st);
    pending = index_has_pending(m->box->index);
    *work = scan || pending || sync->batch != NULL || (sync->take_recent && status.first_recent_uid < status.next_uid);
    s->need_file = s->need_file || scan || sync->expunges || ((pending || sync->batch != NULL) && !m->lazy_writes);
    return 0;
}

static enum step wait_busy(struct driver_sync *sync, struct mbox_sync *s)
{
    if (s->busy_since == 0)
        s->busy_since = time_monotonic_ns();
    if (!sync->give_up_busy || time_monotonic_ns() - s->busy_since < 3000000000ull)
        return STEP_WAIT;
    return STEP_DONE; /* news will come with the next poll */
}

static enum step lock_file(struct mbox *m, struct driver_sync *sync, struct mbox_sync *s, struct error *e)
{
    enum step r = STEP_DONE;

    if (s->need_file && m->locked == MBOX_UNLOCKED) {
        if (mbox_file_open(m, e) < 0)
            return STEP_ERROR;
        r = mbox_lock(m, m->backend_read_only ? MBOX_LOCKED_READ : MBOX_LOCKED_WRITE, e);
    }
    if (r == STEP_WAIT)
        return wait_busy(sync, s);
    if (r != STEP_DONE)
        return r;
    s->phase = MBOX_LOCK_INDEX;
    return STEP_MORE;
}

static enum step lock_index(struct mbox *m, struct driver_sync *sync, struct mbox_sync *s, struct error *e)
{
    enum step r = index_lock_try(m->box->index, "syncing", e);

    if (r == STEP_WAIT)
        return wait_busy(sync, s);
    if (r != STEP_DONE)
        return r;
    s->index_locked = true;
    s->phase = MBOX_PREPARE;
    return STEP_MORE;
}

static void unlock(struct mbox *m, struct mbox_sync *s)
{
    if (s->index_locked)
        index_unlock(m->box->index);
    s->index_locked = false;
    mbox_unlock(m);
}

static bool has_expunges(const struct mbox_sync *s)
{
    for (size_t i = 0; i < s->requests.count; i++)
        if (s->requests.at[i].expunge)
            return true;
    return false;
}

static void start_scan(struct mbox *m, struct mbox_sync *s)
{
    if (s->scanning)
        mbox_scan_end(&s->scan);
    s->source = mbox_source(m);
    mbox_scan_init(&s->scan, &s->source, (uint64_t)s->st.st_size, m->md5);
    s->scanning = true;
    s->entries.count = 0;
    s->tail = 0;
    s->at = 0;
    s->phase = MBOX_SCAN;
}

static enum step prepare(struct mbox *m, struct driver_sync *sync, struct mbox_sync *s, struct error *e)
{
    struct index *index = m->box->index;
    struct mbox_ext ext;

    if (sync->expunges && m->backend_read_only) {
        error_set(e, ERROR_PERMISSION, "Mailbox %s: Mailbox is read-only", m->box->place.vname);
        error_user(e, "Mailbox is read-only");
        return STEP_ERROR;
    }
    if (sync->batch != NULL) {
        if (index_commit_locked(index, sync->batch, sync->commit, e) < 0)
            return STEP_ERROR;
        sync->batch = NULL;
        sync->changed = true;
    }
    if (index_pending(index, s->arena, &s->requests, e) < 0)
        return STEP_ERROR;
    if (m->locked == MBOX_UNLOCKED) {
        if (!has_expunges(s) || m->backend_read_only) {
            s->phase = MBOX_APPLY;
            return STEP_MORE;
        }
        /* Others have asked for expunges: the file comes first. */
        unlock(m, s);
        s->need_file = true;
        s->phase = MBOX_LOCK_FILE;
        return STEP_MORE;
    }
    if (fstat(m->fd, &s->st) < 0)
        return error_sys(e, "fstat", m->box->path), STEP_ERROR;
    if (!wants_scan(m, sync, s, &s->st) && !has_expunges(s) && (m->lazy_writes || s->requests.count == 0)) {
        s->phase = MBOX_APPLY;
        return STEP_MORE;
    }
    mbox_ext_get(m, &ext);
    s->full = s->full || is_full(m, sync) || s->flush || has_expunges(s) || !m->lazy_writes || index_count(index) == 0 ||
              ext.size == 0 || ext.size > (uint64_t)s->st.st_size;
    start_scan(m, s);
    return STEP_MORE;
}

/* Where the tail begins that was not there at the last sync; 0: nowhere, the file is another. */
static int tail_begins(struct mbox *m, struct mbox_sync *s, uint64_t *at, struct error *e)
{
    struct mbox_ext ext;
    int r;

    mbox_ext_get(m, &ext);
    *at = ext.size;
    if (ext.size == (uint64_t)s->st.st_size)
        return 1;
    r = mbox_scan_from(&s->scan, ext.size, e);
    return r;
}

static enum step refuse(struct mbox *m, struct error *e)
{
    error_set(e, ERROR_CORRUPT, "Syncing %s failed: Mailbox isn't a valid mbox file", m->box->place.vname);
    error_user(e, "Mailbox isn't a valid mbox file");
    return STEP_ERROR;
}

static enum step scan(struct mbox *m, struct mbox_sync *s, struct error *e)
{
    struct mbox_entry entry = {0};
    int r;

    if (s->at >= s->scan.size) {
        s->phase = MBOX_APPLY;
        return STEP_MORE;
    }
    if (mbox_scan_message(&s->scan, s->at, s->arena, &entry.m, e) < 0)
        return e->class == ERROR_CORRUPT ? refuse(m, e) : STEP_ERROR;
    VEC_PUSH(&s->entries, entry);
    s->at = entry.m.next;
    if (!s->full && s->tail == 0) {
        /* The first message has what counts for all; then comes what is new. */
        s->tail = 1;
        r = tail_begins(m, s, &s->at, e);
        if (r < 0)
            return STEP_ERROR;
        if (r == 0 || s->at < entry.m.next) {
            s->full = true;
            start_scan(m, s);
        }
    }
    return STEP_MORE;
}

static enum step run(struct mbox *m, struct driver_sync *sync, struct mbox_sync *s, struct error *e)
{
    bool work = false;
    enum step r;

    switch (s->phase) {
    case MBOX_CHECK:
        if (check(m, sync, s, &work, e) < 0)
            return STEP_ERROR;
        s->phase = MBOX_LOCK_FILE;
        return work || s->need_file ? STEP_MORE : STEP_DONE;
    case MBOX_LOCK_FILE:
        return lock_file(m, sync, s, e);
    case MBOX_LOCK_INDEX:
        return lock_index(m, sync, s, e);
    case MBOX_PREPARE:
        return prepare(m, sync, s, e);
    case MBOX_SCAN:
        return scan(m, s, e);
    case MBOX_APPLY:
        r = mbox_sync_apply(m, sync, s, e);
        if (r == STEP_MORE)
            start_scan(m, s);
        if (r == STEP_DONE && !s->keep_locks)
            unlock(m, s);
        return r;
    }
    return STEP_DONE;
}

enum step mbox_sync_step(struct mbox *m, struct driver_sync *sync, struct mbox_sync *s, struct budget *budget, struct error *e)
{
    enum step r;

    do {
        r = run(m, sync, s, e);
    } while (r == STEP_MORE && !budget_spent(budget, 1));
    return r;
}

struct mbox_sync *mbox_sync_new(void)
{
    struct mbox_sync *s = mem_zero(1, sizeof(*s));

    s->arena = arena_new();
    return s;
}

void mbox_sync_free(struct mbox *m, struct mbox_sync *s)
{
    if (s == NULL)
        return;
    unlock(m, s);
    if (s->scanning)
        mbox_scan_end(&s->scan);
    VEC_FREE(&s->entries);
    arena_free(s->arena);
    mem_free(s);
}

enum step mbox_sync(struct mailbox *box, struct driver_sync *sync, struct budget *budget, struct error *e)
{
    if (sync->state == NULL)
        sync->state = mbox_sync_new();
    return mbox_sync_step(box->data, sync, sync->state, budget, e);
}

void mbox_sync_end(struct mailbox *box, struct driver_sync *sync)
{
    mbox_sync_free(box->data, sync->state);
    sync->state = NULL;
}
