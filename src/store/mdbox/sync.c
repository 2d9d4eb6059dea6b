/* sync.c - carrying out what sessions have requested (dbox-format 3.6; index-format 7.9), and rebuilding a damaged storage.
 *
 * Flags are the index's own. Expunges need the map, which is locked before the mailbox: found under the mailbox's lock alone,
 * that is let go and both are taken. References go first, then the mailbox's records, then the map's tail: what a crash
 * leaves in between is a count too low that the tail tells of, and no purge runs before the rebuild has counted again. */
#include "store/mdbox/mdbox.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define REBUILDS_MAX 3

struct mdbox_sync {
    enum { CHECK, LOCK_MAP, LOCK, PREPARE, REBUILD } phase;
    struct arena *arena;
    bool need_map, map_locked, locked, resync;
    uint64_t busy_since;
    struct mdbox_rebuild *rebuild;
    struct index_requests requests;
};

static bool wants_recent(const struct driver_sync *sync, const struct index_status *status)
{
    return sync->take_recent && status->first_recent_uid < status->next_uid;
}

/* Is there anything to do? Without the lock. */
static int check(struct mdbox *m, struct driver_sync *sync, struct mdbox_sync *s, bool *work, struct error *e)
{
    struct index_status status;
    struct stat st;

    if (stat(m->box->path, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return error_set(e, ERROR_NOT_FOUND, "%s: the mailbox is gone", m->box->path);
        return error_sys(e, "stat", m->box->path);
    }
    if (index_refresh(m->box->index, e) == STEP_ERROR)
        return -1;
    if (index_deleted(m->box->index) != 0)
        return mailbox_not_found(&m->box->place, e);
    index_status(m->box->index, &status);
    if (status.fscked) /* what the repair of the index has dropped, the files may still have */
        mdbox_storage_set_corrupted(m->storage);
    s->resync = sync->why == SYNC_RESYNC;
    *work = !m->box->read_only && (status.uid_validity == 0 || wants_recent(sync, &status) || s->resync ||
                                   mdbox_rebuild_wanted(m->storage) || index_has_pending(m->box->index));
    return 0;
}

static void unlock(struct mdbox *m, struct mdbox_sync *s)
{
    if (s->locked)
        index_unlock(m->box->index);
    if (s->map_locked)
        mdbox_map_unlock(m->storage->map);
    s->locked = s->map_locked = false;
}

static enum step busy(struct mdbox *m, struct driver_sync *sync, struct mdbox_sync *s)
{
    if (s->busy_since == 0)
        s->busy_since = time_monotonic_ns();
    if (!sync->give_up_busy || time_monotonic_ns() - s->busy_since < 3000000000ull)
        return STEP_WAIT;
    unlock(m, s);
    return STEP_DONE; /* news will come with the next poll */
}

static enum step lock_map(struct mdbox *m, struct driver_sync *sync, struct mdbox_sync *s, struct error *e)
{
    enum step r = mdbox_storage_lock(m->storage, mail_user_log(m->box->user), "expunging", e);

    if (r == STEP_WAIT)
        return busy(m, sync, s);
    if (r != STEP_DONE)
        return r;
    s->map_locked = true;
    s->phase = LOCK;
    return STEP_MORE;
}

static enum step lock(struct mdbox *m, struct driver_sync *sync, struct mdbox_sync *s, struct error *e)
{
    enum step r = index_lock_try(m->box->index, "syncing", e);

    if (r == STEP_WAIT)
        return busy(m, sync, s);
    if (r != STEP_DONE)
        return r;
    s->locked = true;
    s->phase = PREPARE;
    return STEP_MORE;
}

/* ---- the work ---- */

static enum step start_rebuild(struct mdbox *m, struct mdbox_sync *s, struct error *e)
{
    unlock(m, s);
    if (m->storage->rebuilds++ >= REBUILDS_MAX) {
        m->storage->rebuilds = 0;
        return error_set(e, ERROR_CORRUPT, "mdbox: Storage keeps breaking"), STEP_ERROR;
    }
    s->rebuild = mdbox_rebuild_begin(m->storage, m->box->user, s->resync);
    s->resync = false;
    s->phase = REBUILD;
    return STEP_MORE;
}

static enum step rebuild(struct mdbox *m, struct driver_sync *sync, struct mdbox_sync *s, struct budget *budget, struct error *e)
{
    enum step r = mdbox_rebuild_step(s->rebuild, budget, e);

    if (r == STEP_ERROR && sync->why != SYNC_RESYNC) {
        log_error_value(mail_user_log(m->box->user), e); /* sessions go on with what can be read */
        m->storage->refused = true;
        r = STEP_DONE;
    }
    if (r != STEP_DONE)
        return r;
    mdbox_rebuild_end(&s->rebuild);
    sync->changed = true;
    s->phase = s->need_map ? LOCK_MAP : LOCK;
    return STEP_MORE;
}

static bool guid_differs(const struct index_request *r, const struct mdbox_record *rec)
{
    static const unsigned char none[16];

    return memcmp(r->guid, none, 16) != 0 && memcmp(r->guid, rec->guid, 16) != 0;
}

static char *hex_of(struct arena *arena, const unsigned char guid[16])
{
    struct buffer hex = {0};
    char *out;

    text_hex_encode(&hex, slice_of(guid, 16));
    out = arena_strdup(arena, buffer_cstr(&hex));
    buffer_free(&hex);
    return out;
}

static void collect(struct mdbox *m, struct mdbox_sync *s, struct index_batch *batch, struct mdbox_losses *out)
{
    const struct log *log = mail_user_log(m->box->user);

    for (size_t i = 0; i < s->requests.count; i++) {
        const struct index_request *r = &s->requests.at[i];
        struct mdbox_record rec;

        if (!r->expunge)
            continue;
        if (!mdbox_record_get(m, r->uid, &rec))
            rec = (struct mdbox_record){0};
        if (guid_differs(r, &rec)) {
            mdbox_storage_corrupted(m->storage, log, "Expunged GUID mismatch for UID %u: %s vs %s", r->uid,
                                    hex_of(s->arena, rec.guid), hex_of(s->arena, r->guid));
            continue;
        }
        index_batch_expunge(batch, r->uid, rec.guid);
        mdbox_losses_add(out, &rec);
    }
}

static int apply(struct mdbox *m, struct driver_sync *sync, struct mdbox_sync *s, struct error *e)
{
    struct index *index = m->box->index;
    struct index_batch *batch = index_batch_new(s->arena, INDEX_EXTERNAL);
    uint64_t before = index_generation(index);
    struct index_status status;
    struct mdbox_losses losses = {0};
    int r = 0;

    index_status(index, &status);
    collect(m, s, batch, &losses);
    if (losses.count > 0)
        r = mdbox_losses_lower(m, &losses, s->arena, e);
    if (wants_recent(sync, &status)) {
        sync->recent_first = status.first_recent_uid == 0 ? 1 : status.first_recent_uid;
        sync->recent_last = status.next_uid - 1;
        index_batch_first_recent(batch, status.next_uid);
    }
    index_batch_done(batch, &s->requests);
    if (r == 0 && (r = index_commit_locked(index, batch, NULL, e)) < 0 && losses.count > 0)
        mdbox_losses_raise(m, &losses, s->arena);
    if (r < 0) {
        sync->recent_first = sync->recent_last = 0;
    } else {
        index_maintain(index);
        if (losses.count > 0)
            r = mdbox_storage_confirm(m->storage, e);
        sync->changed = sync->changed || index_generation(index) != before;
    }
    VEC_FREE(&losses);
    return r;
}

static bool has_expunges(const struct index_requests *requests)
{
    for (size_t i = 0; i < requests->count; i++)
        if (requests->at[i].expunge)
            return true;
    return false;
}

static enum step prepare(struct mdbox *m, struct driver_sync *sync, struct mdbox_sync *s, struct error *e)
{
    struct index_status status;

    if (s->resync)
        m->storage->refused = false;
    if (s->resync || mdbox_rebuild_wanted(m->storage))
        return start_rebuild(m, s, e);
    index_status(m->box->index, &status);
    sync->changed = sync->changed || status.uid_validity == 0;
    if (mdbox_init_mailbox(m, e) < 0)
        return STEP_ERROR;
    if (sync->batch != NULL) {
        if (index_commit_locked(m->box->index, sync->batch, sync->commit, e) < 0)
            return STEP_ERROR;
        sync->batch = NULL;
        sync->changed = true;
    }
    if (index_pending(m->box->index, s->arena, &s->requests, e) < 0)
        return STEP_ERROR;
    if (has_expunges(&s->requests) && !s->map_locked) {
        unlock(m, s);
        s->need_map = true;
        s->phase = LOCK_MAP;
        return STEP_MORE;
    }
    if (apply(m, sync, s, e) < 0)
        return STEP_ERROR;
    m->storage->rebuilds = 0;
    unlock(m, s);
    /* What was just found wrong is mended before anybody is told. */
    return mdbox_rebuild_wanted(m->storage) ? start_rebuild(m, s, e) : STEP_DONE;
}

static enum step run(struct mdbox *m, struct driver_sync *sync, struct mdbox_sync *s, struct budget *budget, struct error *e)
{
    bool work = true;

    switch (s->phase) {
    case CHECK:
        if (sync->batch == NULL && check(m, sync, s, &work, e) < 0)
            return STEP_ERROR;
        s->need_map = sync->expunges;
        s->phase = s->need_map ? LOCK_MAP : LOCK;
        return work ? STEP_MORE : STEP_DONE;
    case LOCK_MAP:
        return lock_map(m, sync, s, e);
    case LOCK:
        return lock(m, sync, s, e);
    case PREPARE:
        return prepare(m, sync, s, e);
    case REBUILD:
        return rebuild(m, sync, s, budget, e);
    }
    return STEP_DONE;
}

enum step mdbox_sync(struct mailbox *box, struct driver_sync *sync, struct budget *budget, struct error *e)
{
    struct mdbox *m = box->data;
    struct mdbox_sync *s = sync->state;
    enum step r;

    if (s == NULL) {
        s = sync->state = mem_zero(1, sizeof(*s));
        s->arena = arena_new();
    }
    do {
        r = run(m, sync, s, budget, e);
    } while (r == STEP_MORE && !budget_spent(budget, 1));
    return r;
}

void mdbox_sync_end(struct mailbox *box, struct driver_sync *sync)
{
    struct mdbox *m = box->data;
    struct mdbox_sync *s = sync->state;

    if (s == NULL)
        return;
    sync->state = NULL;
    mdbox_rebuild_end(&s->rebuild);
    unlock(m, s);
    arena_free(s->arena);
    mem_free(s);
}
