/* sync.c - bringing files, uidlist and index together (maildir-and-layouts 8.7). The scan; sync_apply.c the rest.
 *
 * Order: uidlist lock, index log lock, then the folders are read, so that nobody who follows the rules changes names,
 * UIDs or flags between what is read and what is written. Programs that follow none (mutt, a delivery agent) may rename
 * while readdir goes on: a file that is not seen is looked for once more before it counts as expunged.
 *
 * A scan is cut into steps, and so are requests; the locks stay with the job. A folder that has vanished as a whole (unmounted, renamed) is an
 * error, never an empty mailbox. */
#include "store/maildir/sync.h"

#include "base/os_nfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define NAMES_A_STEP 500
#define SCANS_MAX 5
#define ROUNDS_MAX 5
#define LONG_SECS 30

/* ---- what has changed ---- */

static int stat_folders(struct maildir *m, struct stat *st_new, struct stat *st_cur, struct error *e)
{
    struct stat st;

    if (conf_bool(m->box->user->settings, SET_mail_nfs_storage)) {
        os_nfs_flush(m->dir, NULL, NULL);
        os_nfs_flush(m->dir, "new", NULL);
        os_nfs_flush(m->dir, "cur", NULL);
        os_nfs_flush(m->control, NULL, "dovecot-uidlist");
    }
    /* By path: it must still be the folder that was opened. */
    if (stat(m->box->path, &st) < 0 || st.st_dev != m->dev || st.st_ino != m->ino ||
        fstatat(m->dir, "new", st_new, 0) < 0 || fstatat(m->dir, "cur", st_cur, 0) < 0) {
        error_set(e, ERROR_NOT_FOUND, "%s: the mailbox's folder is gone", m->box->path);
        return error_user(e, "Mailbox doesn't exist");
    }
    return 0;
}

/* `changed` or `delayed`, the reason for which the folder is to be read; 0: none. */
static unsigned folder_changed(uint32_t mtime, uint32_t ns, uint32_t check, const struct stat *st, uint32_t now, unsigned changed,
                               unsigned delayed)
{
    uint32_t at = (uint32_t)st->st_mtim.tv_sec;

    if (mtime != at || ns != (uint32_t)st->st_mtim.tv_nsec)
        return changed;
    /* A second change in the same second may have been missed. */
    return check <= at + 1 && now > check + 1 ? delayed : 0;
}

static bool has_files(struct maildir *m)
{
    struct error e;
    DIR *d = maildir_scan_open(m, "new", &e);
    struct dirent *entry;
    bool found = false;

    if (d == NULL)
        return false;
    while (!found && (entry = readdir(d)) != NULL)
        found = entry->d_name[0] != '.';
    closedir(d);
    return found;
}

/* Decides what is to be done; false: nothing. */
static int check(struct maildir *m, struct driver_sync *sync, struct maildir_sync *s, bool *work, struct error *e)
{
    struct stat st_new, st_cur, st_list;
    struct index_status status;
    struct maildir_ext ext;
    unsigned why_new, why_cur;
    bool list_changed;

    if (stat_folders(m, &st_new, &st_cur, e) < 0 || index_refresh(m->box->index, e) == STEP_ERROR)
        return -1;
    s->now = (uint32_t)time(NULL);
    maildir_ext_read(m, &ext);
    index_status(m->box->index, &status);
    list_changed = !maildir_list_stat(m, &st_list) || ext.list_mtime != (uint32_t)st_list.st_mtim.tv_sec ||
                   ext.list_mtime_ns != (uint32_t)st_list.st_mtim.tv_nsec || ext.list_size != (uint32_t)st_list.st_size;
    why_new = folder_changed(ext.new_mtime, ext.new_mtime_ns, ext.new_check, &st_new, s->now, MAILDIR_WHY_NEW, MAILDIR_WHY_DELAYED_NEW);
    why_cur = folder_changed(ext.cur_mtime, ext.cur_mtime_ns, ext.cur_check, &st_cur, s->now, MAILDIR_WHY_CUR,
                             m->very_dirty ? 0 : MAILDIR_WHY_DELAYED_CUR);
    s->scan_new = m->box->arrival || why_new != 0;
    s->scan_cur = why_cur != 0;
    s->why = why_new | why_cur | (m->box->arrival ? MAILDIR_WHY_NEW : 0);
    if (list_changed || status.uid_validity == 0 || sync->why == SYNC_FULL || sync->why == SYNC_RESYNC ||
        (m->list.loaded && m->list.recreate)) {
        s->scan_new = s->scan_cur = true;
        s->why |= status.uid_validity == 0 ? MAILDIR_WHY_FIRST : MAILDIR_WHY_FORCED;
    }
    s->move_new = (sync->take_recent || m->empty_new) && !m->box->read_only &&
                  (s->scan_new || sync->why == SYNC_SELECT) && has_files(m);
    s->scan_new = s->scan_new || s->move_new;
    /* Messages that stay in new/ may have been taken away there: only a look at both folders tells. */
    s->scan_cur = s->scan_cur || (s->scan_new && !s->move_new && status.recent > 0);
    s->why |= s->move_new ? MAILDIR_WHY_DROP_RECENT : 0;
    s->pending = index_has_pending(m->box->index);
    s->take_recent = sync->take_recent && status.first_recent_uid < status.next_uid;
    *work = s->scan_new || s->scan_cur || s->pending || s->take_recent ||
            (status.have_dirty && sync->why == SYNC_FULL);
    /* Whoever may write there keeps the index up to date. */
    if (m->box->read_only && ((!s->scan_new && !s->scan_cur) || index_read_only(m->box->index)))
        *work = false;
    return 0;
}

/* ---- the scan ---- */

unsigned maildir_sync_took(uint64_t since)
{
    uint64_t secs = (time_monotonic_ns() - since) / 1000000000u;

    return secs >= LONG_SECS ? (unsigned)secs : 0;
}

static int open_folder(struct maildir *m, struct maildir_sync *s, struct error *e)
{
    s->folder.since = time_monotonic_ns();
    s->folder.names = s->folder.moved = 0;
    s->dir = maildir_scan_open(m, s->in_new ? "new" : "cur", e);
    return s->dir == NULL ? -1 : 0;
}

static void close_folder(struct maildir *m, struct maildir_sync *s)
{
    unsigned secs = maildir_sync_took(s->folder.since);

    closedir(s->dir);
    s->dir = NULL;
    if (secs > 0)
        log_warning(mail_user_log(m->box->user), "Maildir: Scanning %s/%s took %u seconds (%u readdir()s, %u rename()s to cur/, why=0x%x)",
                    m->box->path, s->in_new ? "new" : "cur", secs, s->folder.names, s->folder.moved, s->why);
}

static int start_scan(struct maildir *m, struct maildir_sync *s, struct error *e)
{
    if (s->arena == NULL)
        s->arena = arena_new();
    arena_reset(s->arena);
    s->entries.count = 0;
    s->in_new = true;
    if (stat_folders(m, &s->st_new, &s->st_cur, e) < 0)
        return -1;
    m->box->arrival = false;
    return open_folder(m, s, e);
}

/* new/x -> cur/x:2, for what was read since `from`. */
static void move_files(struct maildir *m, struct maildir_sync *s, size_t from)
{
    struct error e;

    for (size_t i = from; i < s->entries.count; i++) {
        struct maildir_entry *entry = &s->entries.at[i];
        bool has_info = entry->name[entry->base_size] != '\0';
        char *name = arena_printf(s->arena, "%s%s", entry->name, has_info ? "" : ":2,");

        if (os_rename(m->dir, arena_printf(s->arena, "new/%s", entry->name), m->dir,
                      arena_printf(s->arena, "cur/%s", name), &e) == 0) {
            s->folder.moved++;
            s->moved_any = true;
            entry->name = name;
            entry->in_new = false;
            entry->moved = true;
        } else if (e.class == ERROR_NOT_FOUND) {
            entry->dropped = true; /* somebody else moved it: cur/ is read next */
        } else if (e.class != ERROR_SPACE && e.class != ERROR_QUOTA && e.class != ERROR_PERMISSION) {
            log_error_value(mail_user_log(m->box->user), &e);
        }
    }
}

/* One step of reading. STEP_DONE: both folders were read. */
static enum step scan_step(struct maildir *m, struct maildir_sync *s, struct error *e)
{
    size_t from = s->entries.count;
    bool end;

    maildir_list_touch(m);
    if (maildir_scan(m, s->dir, s->in_new, s->arena, &s->entries, NAMES_A_STEP, &end, e) < 0)
        return STEP_ERROR;
    s->folder.names += (unsigned)(s->entries.count - from);
    if (s->in_new && s->move_new)
        move_files(m, s, from);
    if (!end)
        return STEP_MORE;
    close_folder(m, s);
    if (!s->in_new)
        return STEP_DONE;
    /* readdir may miss entries of a folder that changes: read again until it is quiet. */
    if (s->folder.moved > 5 && ++s->rounds < ROUNDS_MAX)
        return open_folder(m, s, e) < 0 ? STEP_ERROR : STEP_MORE;
    if (s->moved_any) {
        s->scan_cur = true; /* what others had moved meanwhile is there */
        s->why |= MAILDIR_WHY_FIND_RECENT;
    }
    if (!s->scan_cur && !s->need_full)
        return STEP_DONE;
    s->full = true;
    s->in_new = false;
    return open_folder(m, s, e) < 0 ? STEP_ERROR : STEP_MORE;
}

/* ---- doubled files ---- */

static bool unlink_old_link(struct maildir *m, const char *path, const struct stat *st, const struct stat *other, uint32_t now)
{
    struct error e;

    if (st->st_ino != other->st_ino || st->st_dev != other->st_dev || st->st_nlink < 2 ||
        (int64_t)st->st_ctime > (int64_t)now - 30)
        return false;
    if (os_unlink(m->dir, path, &e) == 0)
        mailbox_log(m->box, LOG_LEVEL_WARNING, "Unlinked a duplicate: %s/%s", m->box->path, path);
    return true;
}

static void fix_double(struct maildir *m, struct maildir_sync *s, struct maildir_entry *first, struct maildir_entry *second)
{
    const char *a = arena_printf(s->arena, "%s/%s", first->in_new ? "new" : "cur", first->name);
    const char *b = arena_printf(s->arena, "%s/%s", second->in_new ? "new" : "cur", second->name);
    struct stat st_a, st_b;
    struct slice base = slice_of(second->name, second->base_size);
    uint64_t size;
    struct error e;
    char *fresh;

    second->dropped = true;
    if (strcmp(a, b) == 0 || fstatat(m->dir, a, &st_a, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(m->dir, b, &st_b, AT_SYMLINK_NOFOLLOW) < 0) {
        s->again = true; /* renamed between the two looks: the next scan knows */
        return;
    }
    if (st_a.st_ino == st_b.st_ino && st_a.st_dev == st_b.st_dev) {
        unlink_old_link(m, b, &st_b, &st_a, s->now);
        return;
    }
    fresh = arena_printf(s->arena, "new/%s", maildir_name_new(s->arena));
    if (maildir_size_field(base, 'S', &size))
        fresh = arena_printf(s->arena, "%s,S=%llu", fresh, (unsigned long long)size);
    if (maildir_size_field(base, 'W', &size))
        fresh = arena_printf(s->arena, "%s,W=%llu", fresh, (unsigned long long)size);
    if (os_rename(m->dir, b, m->dir, fresh, &e) == 0)
        mailbox_log(m->box, LOG_LEVEL_WARNING, "Fixed a duplicate: %s/%s -> %s", m->box->path, b, fresh);
    else if (e.class != ERROR_NOT_FOUND)
        log_error_value(mail_user_log(m->box->user), &e);
    s->again = true;
}

static void fix_doubles(struct maildir *m, struct maildir_sync *s)
{
    struct maildir_entry *last = NULL;

    for (size_t i = 0; i < s->entries.count; i++) {
        struct maildir_entry *entry = &s->entries.at[i];

        if (entry->dropped)
            continue;
        if (last != NULL && last->base_size == entry->base_size && memcmp(last->name, entry->name, entry->base_size) == 0) {
            if (strcmp(last->name, entry->name) == 0 && last->in_new == entry->in_new)
                entry->dropped = true; /* read twice */
            else
                fix_double(m, s, last, entry);
        }
        if (!entry->dropped)
            last = entry;
    }
}

/* ---- the merge ---- */

/* Does a message of the index lack its file in what was read? */
static bool is_missing(const struct maildir *m)
{
    struct index_record rec;

    for (size_t i = 0; i < m->list.count; i++) {
        const struct maildir_record *file = &m->list.at[i];

        if (!file->seen && file->where != WHERE_GONE && index_get(m->box->index, file->uid, &rec))
            return true;
    }
    return false;
}

/* STEP_DONE: what was read is what is there. STEP_MORE: read again. */
static enum step merge(struct maildir *m, struct maildir_sync *s, struct error *e)
{
    maildir_entries_sort(&s->entries);
    if (!m->look_only)
        fix_doubles(m, s);
    s->fresh.count = 0;
    maildir_entries_merge(m, &s->entries, &s->fresh);
    if (s->again && s->scans < SCANS_MAX) {
        s->again = false;
    } else if (s->full && s->scans < 2 && is_missing(m)) {
        /* Perhaps renamed while we read: one more look before anything counts as expunged. */
    } else {
        m->search_new = s->st_new.st_mtim;
        m->search_cur = s->full ? s->st_cur.st_mtim : m->search_cur;
        return STEP_DONE;
    }
    return start_scan(m, s, e) < 0 ? STEP_ERROR : STEP_MORE;
}

/* ---- steps ---- */

static enum step wait_busy(struct maildir *m, struct driver_sync *sync, struct maildir_sync *s)
{
    if (s->busy_since == 0)
        s->busy_since = time_monotonic_ns();
    if (!sync->give_up_busy || time_monotonic_ns() - s->busy_since < 3000000000ull)
        return STEP_WAIT;
    maildir_list_unlock(m);
    return STEP_DONE; /* news will come with the next poll */
}

static enum step lock_both(struct maildir *m, struct driver_sync *sync, struct maildir_sync *s, struct error *e)
{
    enum step r = STEP_DONE;

    if (!s->index_first && !m->look_only) {
        r = maildir_list_lock(m, e);
        if (r == STEP_WAIT)
            return wait_busy(m, sync, s);
        if (r != STEP_DONE)
            return r;
    }
    if (!s->index_locked) {
        r = index_lock_try(m->box->index, "syncing", e);
        if (r == STEP_WAIT) {
            r = wait_busy(m, sync, s);
            return r;
        }
        if (r != STEP_DONE)
            return r;
        s->index_locked = true;
    }
    s->locked_at = time_monotonic_ns();
    s->phase = SYNC_PREPARE;
    return STEP_MORE;
}

static enum step prepare(struct maildir *m, struct driver_sync *sync, struct maildir_sync *s, struct error *e)
{
    if (sync->batch != NULL) {
        if (index_commit_locked(m->box->index, sync->batch, sync->commit, e) < 0)
            return STEP_ERROR;
        sync->batch = NULL;
        sync->changed = true;
    }
    if (maildir_list_refresh(m, e) < 0 || maildir_keywords_refresh(m, e) < 0)
        return STEP_ERROR;
    if (s->index_first) {
        /* Only flags are to be carried out: the names of files that are known. What needs more takes both locks. */
        s->phase = SYNC_APPLYING;
        return STEP_MORE;
    }
    s->need_full = !m->list.exists || m->list.recreate;
    if (m->look_only && !m->list.exists)
        return error_set(e, ERROR_PERMISSION, "%s: the messages have no UIDs, and none can be given", m->box->path), STEP_ERROR;
    if (!m->look_only && maildir_list_begin(m, e) < 0)
        return STEP_ERROR;
    if (!s->scan_new && !s->scan_cur && !s->need_full) {
        s->phase = SYNC_APPLYING;
        return STEP_MORE;
    }
    if (s->need_full)
        s->why |= MAILDIR_WHY_FORCED;
    s->phase = SYNC_SCANNING;
    s->scans = 1;
    return start_scan(m, s, e) < 0 ? STEP_ERROR : STEP_MORE;
}

static enum step run(struct maildir *m, struct driver_sync *sync, struct maildir_sync *s, struct budget *budget, struct error *e)
{
    enum step r;
    bool work;

    switch (s->phase) {
    case SYNC_CHECKING:
        if (sync->batch != NULL) {
            s->now = (uint32_t)time(NULL);
            s->index_first = !sync->expunges;
            s->phase = SYNC_LOCKING;
            return stat_folders(m, &s->st_new, &s->st_cur, e) < 0 ? STEP_ERROR : STEP_MORE;
        }
        if (check(m, sync, s, &work, e) < 0)
            return STEP_ERROR;
        if (!work)
            return STEP_DONE;
        s->index_first = !s->scan_new && !s->scan_cur && !s->move_new;
        /* Without a scan, what the folders are like before we change them. */
        if (stat_folders(m, &s->st_new, &s->st_cur, e) < 0)
            return STEP_ERROR;
        s->phase = SYNC_LOCKING;
        return STEP_MORE;
    case SYNC_LOCKING:
        return lock_both(m, sync, s, e);
    case SYNC_PREPARE:
        return prepare(m, sync, s, e);
    case SYNC_SCANNING:
        r = scan_step(m, s, e);
        if (r != STEP_DONE)
            return r;
        r = merge(m, s, e);
        if (r == STEP_MORE)
            s->scans++;
        if (r == STEP_DONE) {
            s->scanned = true;
            s->phase = SYNC_APPLYING;
            /* In the same step: nobody may look for files in between, which changes what was seen. */
            return maildir_sync_apply(m, sync, s, budget, e);
        }
        return r;
    case SYNC_APPLYING:
        return maildir_sync_apply(m, sync, s, budget, e);
    }
    return STEP_DONE;
}

enum step maildir_sync(struct mailbox *box, struct driver_sync *sync, struct budget *budget, struct error *e)
{
    struct maildir *m = box->data;
    struct maildir_sync *s = sync->state;
    enum step r;

    if (s == NULL)
        s = sync->state = mem_zero(1, sizeof(*s));
    do {
        r = run(m, sync, s, budget, e);
    } while (r == STEP_MORE && !budget_spent(budget, NAMES_A_STEP / 4));
    return r;
}

void maildir_sync_release(struct maildir *m, struct maildir_sync *s)
{
    if (s->index_locked)
        index_unlock(m->box->index);
    s->index_locked = false;
    maildir_list_unlock(m);
}

void maildir_sync_end(struct mailbox *box, struct driver_sync *sync)
{
    struct maildir *m = box->data;
    struct maildir_sync *s = sync->state;

    if (s == NULL)
        return;
    sync->state = NULL;
    maildir_sync_apply_free(s);
    maildir_sync_release(m, s);
    maildir_uidlist_repack(&m->list);
    if (s->dir != NULL)
        closedir(s->dir);
    VEC_FREE(&s->entries);
    VEC_FREE(&s->fresh);
    arena_free(s->arena);
    mem_free(s);
}
