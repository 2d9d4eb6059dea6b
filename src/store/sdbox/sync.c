/* sync.c - carrying out what sessions have requested (dbox-format 2.4, 2.5; index-format 7.9), and rebuilding what is
 * damaged (2.6).
 *
 * Flags are the index's own: nothing but the confirmation is to be done. Expunges: the records go first, durably, then, when
 * the lock is free again, the files, then the confirmation; who asked is told that it is done when the files are gone. What a
 * crash in between has left the next sync removes (unlink.c); a message without file there never is. */
#include "store/sdbox/sdbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define REBUILDS_MAX 3
#define OPEN_MAX 16384 /* bytes of log that may stay unconfirmed because of files that cannot be removed */

struct sdbox_sync {
    enum { CHECK, LOCK, PREPARE, REBUILD, MOVE, APPLY, UNLINK, CONFIRM } phase;
    struct arena *arena;
    bool locked, take_recent, resync;
    bool asked;                   /* the caller's own batch has expunges: it is told when one fails */
    uint64_t busy_since;
    struct sdbox_rebuild *rebuild;
    struct index_requests requests;
    size_t next;                  /* of the requests (MOVE), of gone (UNLINK) */
    VEC(uint32_t) gone;           /* expunged: their files are to go */
    size_t fresh;                 /* so many at the front of gone by this sync */
    VEC(uint32_t) left;           /* their files are still there */
    struct error failed;          /* why the first of the fresh ones could not be removed */
    struct sdbox_unlinker unlinker;
};

static bool wants_recent(const struct driver_sync *sync, const struct index_status *status)
{
    return sync->take_recent && status->first_recent_uid < status->next_uid;
}

/* Is there anything to do? Without the lock. */
static int check(struct sdbox *d, struct driver_sync *sync, struct sdbox_sync *s, bool *work, struct error *e)
{
    struct index_status status;
    struct stat st;

    if (stat(d->box->path, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return error_set(e, ERROR_NOT_FOUND, "%s: the mailbox is gone", d->box->path);
        return error_sys(e, "stat", d->box->path);
    }
    if (index_refresh(d->box->index, e) == STEP_ERROR)
        return -1;
    if (index_deleted(d->box->index) != 0)
        return mailbox_not_found(&d->box->place, e);
    index_status(d->box->index, &status);
    s->take_recent = wants_recent(sync, &status);
    s->resync = sync->why == SYNC_RESYNC;
    *work = !d->box->read_only && (status.uid_validity == 0 || s->take_recent || s->resync || sdbox_rebuild_wanted(d) ||
                                   index_has_pending(d->box->index));
    return 0;
}

static enum step lock(struct sdbox *d, struct driver_sync *sync, struct sdbox_sync *s, struct error *e)
{
    enum step r = index_lock_try(d->box->index, "syncing", e);

    if (r == STEP_WAIT && sync->give_up_busy) {
        if (s->busy_since == 0)
            s->busy_since = time_monotonic_ns();
        if (time_monotonic_ns() - s->busy_since > 3000000000ull)
            return STEP_DONE; /* news will come with the next poll */
    }
    if (r != STEP_DONE)
        return r;
    s->locked = true;
    s->phase = PREPARE;
    return STEP_MORE;
}

static void unlock(struct sdbox *d, struct sdbox_sync *s)
{
    if (s->locked)
        index_unlock(d->box->index);
    s->locked = false;
}

/* ---- a new mailbox ---- */

static bool has_messages(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool found = false;

    if (dir == NULL)
        return false;
    while (!found && (entry = readdir(dir)) != NULL)
        found = entry->d_name[0] == 'u' && entry->d_name[1] == '.' && entry->d_name[2] >= '1' && entry->d_name[2] <= '9';
    closedir(dir);
    return found;
}

int sdbox_init_mailbox(struct sdbox *d, bool *fresh, struct error *e)
{
    struct mailbox *box = d->box;
    struct index_batch *batch;
    struct arena *arena;
    uint32_t uid_validity;
    int r;

    /* Whose index is lost has files, or a backup: it must not show as an empty mailbox. */
    *fresh = !has_messages(box->path) && (d->alt_path == NULL || !has_messages(d->alt_path));
    if (!*fresh)
        return 0;
    if (store_next_uid_validity(box->storage, &uid_validity, e) < 0)
        return -1;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_EXTERNAL);
    if (strcmp(box->place.name, "INBOX") == 0)
        sdbox_put_highest_uidl(d, batch, 0);
    index_batch_uid_validity(batch, uid_validity);
    r = index_commit_locked(box->index, batch, NULL, e);
    arena_free(arena);
    return r;
}

/* ---- the work ---- */

static enum step prepare(struct sdbox *d, struct driver_sync *sync, struct sdbox_sync *s, struct error *e)
{
    struct index_status status;
    bool fresh = true;

    if (s->resync)
        d->refused = false;
    index_status(d->box->index, &status);
    if (status.uid_validity == 0 && !d->refused && sdbox_init_mailbox(d, &fresh, e) < 0)
        return STEP_ERROR;
    sync->changed = sync->changed || status.uid_validity == 0;
    if (!fresh || s->resync || sdbox_rebuild_wanted(d)) {
        if (d->rebuilds++ >= REBUILDS_MAX) {
            d->rebuilds = 0;
            return error_set(e, ERROR_CORRUPT, "sdbox: Index keeps breaking"), STEP_ERROR;
        }
        s->resync = false;
        s->rebuild = sdbox_rebuild_begin(d);
        s->phase = REBUILD;
        return STEP_MORE;
    }
    if (sync->batch != NULL) {
        if (index_commit_locked(d->box->index, sync->batch, sync->commit, e) < 0)
            return STEP_ERROR;
        s->asked = sync->expunges;
        sync->batch = NULL;
        sync->changed = true;
    }
    if (index_pending(d->box->index, s->arena, &s->requests, e) < 0)
        return STEP_ERROR;
    s->phase = MOVE;
    return STEP_MORE;
}

static enum step rebuild(struct sdbox *d, struct driver_sync *sync, struct sdbox_sync *s, struct budget *budget, struct error *e)
{
    enum step r = sdbox_rebuild_step(s->rebuild, budget, e);

    if (r == STEP_ERROR && sync->why != SYNC_RESYNC) {
        /* Sessions go on with what can be read. */
        log_error_value(mail_user_log(d->box->user), e);
        d->refused = true;
        r = STEP_DONE;
    } else if (r == STEP_ERROR && !d->refused) {
        log_error_value(mail_user_log(d->box->user), e);
        error_set(e, ERROR_TEMPORARY, "sdbox: Rebuilding failed");
    }
    if (r != STEP_DONE)
        return r;
    sdbox_rebuild_end(&s->rebuild);
    sync->changed = true;
    s->phase = PREPARE;
    return STEP_MORE;
}

/* altmove set or cleared flag 0x40: the file follows. What fails is logged; the flag stays, readers look in both places. */
static void move(struct sdbox *d, uint32_t uid, bool to_alt)
{
    const struct mailbox *box = d->box;
    char name[SDBOX_NAME_MAX];
    struct error e;
    int alt = sdbox_open_alt(d, to_alt, &e), r;

    sdbox_name(name, uid);
    r = alt < 0 ? -1 : to_alt ? dbox_alt_move(d->dir, box->path, name, alt, d->alt_path, &box->modes, &e)
                              : dbox_alt_move(alt, d->alt_path, name, d->dir, box->path, &box->modes, &e);
    if (r < 0 && e.class != ERROR_NOT_FOUND)
        log_error_value(mail_user_log(box->user), &e);
    if (alt >= 0)
        close(alt);
}

static enum step move_one(struct sdbox *d, struct sdbox_sync *s)
{
    while (s->next < s->requests.count) {
        const struct index_request *r = &s->requests.at[s->next++];

        if (r->expunge || ((r->flags_add | r->flags_remove) & INDEX_BACKEND) == 0)
            continue;
        move(d, r->uid, (r->flags_add & INDEX_BACKEND) != 0);
        return STEP_MORE;
    }
    s->next = 0;
    s->phase = APPLY;
    return STEP_MORE;
}

static enum step apply(struct sdbox *d, struct driver_sync *sync, struct sdbox_sync *s, struct error *e)
{
    struct index *index = d->box->index;
    struct index_batch *batch = index_batch_new(s->arena, INDEX_EXTERNAL);
    uint64_t before = index_generation(index);
    struct index_status status;

    index_status(index, &status);
    for (size_t i = 0; i < s->requests.count; i++) {
        const struct index_request *r = &s->requests.at[i];

        if (!r->expunge)
            continue;
        index_batch_expunge(batch, r->uid, r->guid);
        VEC_PUSH(&s->gone, r->uid);
    }
    s->fresh = s->gone.count;
    for (size_t i = 0; i < s->requests.carried_out_count; i++)
        VEC_PUSH(&s->gone, s->requests.carried_out[i]);
    if (wants_recent(sync, &status)) {
        sync->recent_first = status.first_recent_uid == 0 ? 1 : status.first_recent_uid;
        sync->recent_last = status.next_uid - 1;
        index_batch_first_recent(batch, status.next_uid);
    }
    if (s->gone.count == 0)
        index_batch_done(batch, &s->requests);
    if (index_commit_locked(index, batch, NULL, e) < 0) {
        sync->recent_first = sync->recent_last = 0;
        s->gone.count = s->fresh = 0;
        return STEP_ERROR;
    }
    if (s->gone.count == 0)
        index_maintain(index);
    sync->changed = sync->changed || index_generation(index) != before;
    d->rebuilds = 0;
    unlock(d, s);
    s->phase = UNLINK;
    return s->gone.count == 0 ? STEP_DONE : STEP_MORE;
}

static void unlink_one(struct sdbox *d, struct sdbox_sync *s)
{
    bool fresh = s->next < s->fresh;
    uint32_t uid = s->gone.at[s->next++];
    struct error e;

    if (sdbox_unlink(&s->unlinker, uid, &e) == 0)
        return;
    VEC_PUSH(&s->left, uid);
    if (fresh && s->asked && s->failed.class == ERROR_NONE)
        s->failed = e; /* logged by who answers */
    else if (!index_ranges_has(&d->told, uid))
        log_error_value(mail_user_log(d->box->user), &e);
    index_ranges_add(&d->told, uid, uid);
}

static enum step unlink_some(struct sdbox *d, struct sdbox_sync *s, struct budget *budget)
{
    while (s->next < s->gone.count) {
        unlink_one(d, s);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    s->phase = CONFIRM;
    return STEP_MORE;
}

/* Nothing is lost when it cannot be written: it is found out once more, by the next sync, that the files are gone. */
static void confirm(struct sdbox *d, struct sdbox_sync *s)
{
    struct index *index = d->box->index;
    struct index_batch *batch = index_batch_new(s->arena, INDEX_EXTERNAL);
    struct index_log_position at;
    struct error e;

    index_log_position(index, &at);
    if ((s->left.count > 0 && at.head - at.tail < OPEN_MAX) || index_lock_try(index, "syncing", &e) != STEP_DONE)
        return;
    s->locked = true;
    index_batch_done(batch, &s->requests);
    if (index_commit_locked(index, batch, NULL, &e) < 0) {
        log_error_value(mail_user_log(d->box->user), &e);
        return;
    }
    index_maintain(index);
    if (s->left.count == 0)
        return;
    batch = index_batch_new(s->arena, INDEX_INTERNAL);
    for (size_t i = 0; i < s->left.count; i++)
        index_batch_carried_out(batch, s->left.at[i]);
    if (index_commit_locked(index, batch, NULL, &e) < 0)
        log_error_value(mail_user_log(d->box->user), &e);
}

static enum step finish(struct sdbox *d, struct sdbox_sync *s, struct error *e)
{
    confirm(d, s);
    unlock(d, s);
    if (s->failed.class == ERROR_NONE)
        return STEP_DONE;
    *e = s->failed;
    return STEP_ERROR;
}

static enum step run(struct sdbox *d, struct driver_sync *sync, struct sdbox_sync *s, struct budget *budget, struct error *e)
{
    bool work = true;

    switch (s->phase) {
    case CHECK:
        if (sync->batch == NULL && check(d, sync, s, &work, e) < 0)
            return STEP_ERROR;
        s->phase = LOCK;
        return work ? STEP_MORE : STEP_DONE;
    case LOCK:
        return lock(d, sync, s, e);
    case PREPARE:
        return prepare(d, sync, s, e);
    case REBUILD:
        return rebuild(d, sync, s, budget, e);
    case MOVE:
        return move_one(d, s);
    case APPLY:
        return apply(d, sync, s, e);
    case UNLINK:
        return unlink_some(d, s, budget);
    case CONFIRM:
        return finish(d, s, e);
    }
    return STEP_DONE;
}

enum step sdbox_sync(struct mailbox *box, struct driver_sync *sync, struct budget *budget, struct error *e)
{
    struct sdbox *d = box->data;
    struct sdbox_sync *s = sync->state;
    enum step r;

    if (s == NULL) {
        s = sync->state = mem_zero(1, sizeof(*s));
        s->arena = arena_new();
        sdbox_unlink_begin(&s->unlinker, d);
    }
    do {
        r = run(d, sync, s, budget, e);
    } while (r == STEP_MORE && !budget_spent(budget, 1));
    return r;
}

void sdbox_sync_end(struct mailbox *box, struct driver_sync *sync)
{
    struct sdbox *d = box->data;
    struct sdbox_sync *s = sync->state;

    if (s == NULL)
        return;
    sync->state = NULL;
    sdbox_rebuild_end(&s->rebuild);
    unlock(d, s);
    /* Cancelled after the records were written: nobody else would remove these files. */
    while (s->next < s->gone.count)
        unlink_one(d, s);
    sdbox_unlink_end(&s->unlinker);
    VEC_FREE(&s->gone);
    VEC_FREE(&s->left);
    arena_free(s->arena);
    mem_free(s);
}
