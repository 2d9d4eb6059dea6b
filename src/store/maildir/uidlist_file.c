/* uidlist_file.c - reading, locking and writing dovecot-uidlist (maildir-and-layouts 8.3, 8.5).
 *
 * A reader takes no lock and reads only what was appended, as long as the file is the same and grew. A writer holds
 * dovecot-uidlist.lock, appends with one write, or writes a new file and renames it. */
#include "store/internal.h"
#include "store/maildir/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define NAME "dovecot-uidlist"
#define FILE_MAX (1u << 30)

bool maildir_list_stat(const struct maildir *m, struct stat *st)
{
    return fstatat(m->control, NAME, st, 0) == 0 && S_ISREG(st->st_mode);
}

/* Starts over with an empty list; what is known of the header may stay. */
static void forget(struct maildir_uidlist *list)
{
    struct maildir_uidlist kept = *list;

    maildir_uidlist_free(list);
    list->uid_validity = kept.uid_validity;
    list->next_uid = kept.next_uid;
    list->have_guid = kept.have_guid;
    memcpy(list->guid, kept.guid, 16);
    list->other_fields = "";
}

/* Carries over what scans have found about files that are in the old and the new list. */
static void carry_over(struct maildir_uidlist *to, struct maildir_uidlist *from)
{
    size_t doubled;

    maildir_uidlist_index(to, &doubled);
    for (size_t i = 0; i < from->count; i++) {
        const struct maildir_record *old = &from->at[i];
        struct maildir_record *rec;

        if (old->where == WHERE_UNKNOWN || old->where == WHERE_GONE)
            continue;
        rec = maildir_uidlist_find(to, old->uid);
        if (rec == NULL || strcmp(rec->base, old->base) != 0)
            continue;
        rec->where = old->where;
        rec->info = old->info == NULL ? NULL : arena_strdup(maildir_uidlist_arena(to), old->info);
    }
}

static int read_all(struct maildir *m, int fd, const struct stat *st, struct error *e)
{
    struct maildir_uidlist old = m->list, *list = &m->list;
    struct buffer text = {0};
    size_t used = 0, doubled;
    uint32_t old_next = old.next_uid, old_validity = old.uid_validity;
    int r;

    *list = (struct maildir_uidlist){.other_fields = "", .box = m->box};
    r = os_pread(fd, 0, FILE_MAX, &text, e) < 0 ? -1 : 0;
    if (r == 0)
        r = maildir_uidlist_parse(list, buffer_slice(&text), &used, e);
    if (r == 0 && list->version == 0)
        r = error_set(e, ERROR_CORRUPT, "line 1: Corrupted header (invalid version number)");
    if (r == 0 && old_validity == list->uid_validity && old_next > list->next_uid && old.loaded &&
        (list->count == 0 || list->at[list->count - 1].uid < old_next - 1)) {
        /* UIDs were handed out that the file knows no more: never again. */
        mailbox_log(m->box, LOG_LEVEL_WARNING, "%s/" NAME ": next_uid header was lowered (%u -> %u)", m->box->control_path,
                    old_next, list->next_uid);
        list->next_uid = old_next;
        list->recreate = true;
    }
    buffer_free(&text);
    list->exists = true;
    list->loaded = true;
    list->dev = st->st_dev;
    list->ino = st->st_ino;
    list->size = used;
    list->mtime = st->st_mtim;
    if (r < 0 && e->class == ERROR_CORRUPT) {
        mailbox_log(m->box, LOG_LEVEL_ERROR, "Broken file %s/" NAME " %s", m->box->control_path, e->admin);
        error_clear(e);
        /* What stood before the bad line is kept; the file is written anew by whoever has the lock. */
        list->recreate = true;
        list->dev = 0;
        list->ino = 0;
        r = 0;
    }
    if (r < 0) {
        maildir_uidlist_free(list);
        *list = old;
        return -1;
    }
    carry_over(list, &old);
    maildir_uidlist_index(list, &doubled);
    maildir_uidlist_free(&old);
    return 0;
}

static int read_tail(struct maildir *m, int fd, const struct stat *st, struct error *e)
{
    struct maildir_uidlist *list = &m->list;
    struct buffer text = {0};
    size_t used = 0, doubled;
    int r = os_pread(fd, list->size, FILE_MAX, &text, e) < 0 ? -1 : 0;

    if (r == 0)
        r = maildir_uidlist_parse(list, buffer_slice(&text), &used, e);
    buffer_free(&text);
    if (r == 0) {
        list->size += used;
        list->mtime = st->st_mtim;
        maildir_uidlist_index(list, &doubled);
        return 0;
    }
    if (e->class != ERROR_CORRUPT)
        return -1;
    mailbox_log(m->box, LOG_LEVEL_WARNING, "Broken or unexpectedly changed file %s/" NAME " %s - re-reading from beginning",
                m->box->control_path, e->admin);
    return read_all(m, fd, st, e);
}

int maildir_list_refresh(struct maildir *m, struct error *e)
{
    struct maildir_uidlist *list = &m->list;
    struct stat st;
    int fd, r;

    if (!maildir_list_stat(m, &st)) {
        if (errno != ENOENT && errno != ENOTDIR)
            return error_sys(e, "stat", NAME);
        if (!list->loaded || list->exists) {
            forget(list);
            list->loaded = true;
            list->recreate = true;
        }
        return 0;
    }
    if (list->loaded && list->exists && st.st_dev == list->dev && st.st_ino == list->ino &&
        (uint64_t)st.st_size == list->size && st.st_mtim.tv_sec == list->mtime.tv_sec &&
        st.st_mtim.tv_nsec == list->mtime.tv_nsec)
        return 0;
    fd = openat(m->control, NAME, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? maildir_list_refresh(m, e) : error_sys(e, "open", NAME);
    if (fstat(fd, &st) < 0)
        r = error_sys(e, "fstat", NAME);
    else if (list->loaded && list->exists && st.st_dev == list->dev && st.st_ino == list->ino &&
             (uint64_t)st.st_size >= list->size)
        r = read_tail(m, fd, &st, e);
    else
        r = read_all(m, fd, &st, e);
    close(fd);
    return r;
}

/* ---- lock ---- */

enum step maildir_list_lock(struct maildir *m, struct error *e)
{
    const struct mail_modes *modes = &m->box->modes;
    struct os_dotlock_options options = {.mode = modes->file, .set_gid = modes->gid != (gid_t)-1, .gid = modes->gid,
                                         .stale_secs = 120, .protects = NAME,
                                         .by_link = !conf_bool(mail_user_settings(m->box->user), SET_dotlock_use_excl)};

    if (m->lock != NULL)
        return STEP_DONE;
    switch (os_dotlock_try_with(m->control, NAME ".lock", &options, &m->lock, e)) {
    case OS_GOT:
        m->lock_touched = time(NULL);
        return STEP_DONE;
    case OS_BUSY:
        return STEP_WAIT;
    case OS_LOCK_ERROR:
        break;
    }
    error_context(e, "%s/" NAME ".lock: ", m->box->control_path);
    return STEP_ERROR;
}

void maildir_list_unlock(struct maildir *m)
{
    if (m->lock != NULL)
        os_dotlock_release(&m->lock);
}

void maildir_list_touch(struct maildir *m)
{
    time_t now = time(NULL);

    if (m->lock == NULL || now - m->lock_touched < 10)
        return;
    m->lock_touched = now;
    os_dotlock_touch(m->lock);
}

/* ---- write ---- */

int maildir_list_begin(struct maildir *m, struct error *e)
{
    struct maildir_uidlist *list = &m->list;
    struct index_status status;

    index_status(m->box->index, &status);
    if (list->uid_validity == 0) {
        if (status.uid_validity != 0)
            list->uid_validity = status.uid_validity;
        else if (store_next_uid_validity(m->box->storage, &list->uid_validity, e) < 0)
            return -1;
        list->recreate = true;
    }
    if (!list->have_guid) {
        store_mailbox_guid_new(m->box, list->guid);
        list->have_guid = true;
        list->recreate = true;
    }
    if (list->next_uid == 0)
        list->next_uid = 1;
    if (list->count > 0 && list->next_uid <= list->at[list->count - 1].uid)
        list->next_uid = list->at[list->count - 1].uid + 1;
    if (status.uid_validity == list->uid_validity && status.next_uid > list->next_uid)
        list->next_uid = status.next_uid;
    return 0;
}

/* Throws out what is gone. */
static void compact(struct maildir_uidlist *list)
{
    size_t n = 0, doubled;

    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].where != WHERE_GONE)
            list->at[n++] = list->at[i];
    list->count = n;
    list->sorted = 0;
    list->gone = 0;
    maildir_uidlist_index(list, &doubled);
}

int maildir_list_recreate(struct maildir *m, struct error *e)
{
    struct maildir_uidlist *list = &m->list;
    const struct mail_modes *modes = &m->box->modes;
    struct buffer out = {0};
    struct error ignored;
    struct stat st;
    int fd, r;

    compact(list);
    maildir_uidlist_put_header(&out, list);
    for (size_t i = 0; i < list->count; i++)
        maildir_uidlist_put(&out, &list->at[i]);
    fd = os_create(m->control, NAME ".tmp", modes->file, modes->gid, e);
    if (fd < 0 && e->class == ERROR_EXISTS && os_unlink(m->control, NAME ".tmp", e) == 0)
        fd = os_create(m->control, NAME ".tmp", modes->file, modes->gid, e);
    if (fd < 0) {
        buffer_free(&out);
        return error_context(e, "%s/" NAME ".tmp: ", m->box->control_path);
    }
    r = os_write(fd, buffer_slice(&out), e);
    if (r == 0 && !m->fsync_never)
        r = os_sync(fd, e);
    if (r == 0)
        r = os_rename(m->control, NAME ".tmp", m->control, NAME, e);
    if (r == 0 && fstat(fd, &st) == 0) {
        list->dev = st.st_dev;
        list->ino = st.st_ino;
        list->size = out.size;
        list->mtime = st.st_mtim;
        list->exists = true;
        list->version = 3;
        list->lines = list->count;
        list->recreate = false;
    }
    close(fd);
    if (r < 0)
        os_unlink(m->control, NAME ".tmp", &ignored);
    buffer_free(&out);
    return r;
}

static int append(struct maildir *m, size_t from, struct error *e)
{
    struct maildir_uidlist *list = &m->list;
    struct buffer out = {0};
    struct stat st;
    int fd = openat(m->control, NAME, O_RDWR | O_APPEND | O_CLOEXEC), r;

    if (fd < 0)
        return error_sys(e, "open", NAME);
    /* Half a line of a writer that died: ours would be glued to it. */
    if (fstat(fd, &st) < 0 || st.st_ino != list->ino || (uint64_t)st.st_size != list->size) {
        close(fd);
        return maildir_list_recreate(m, e);
    }
    for (size_t i = from; i < list->count; i++)
        maildir_uidlist_put(&out, &list->at[i]);
    r = os_append(fd, buffer_slice(&out), e);
    if (r == 0 && !m->fsync_never && !m->defer_sync && os_sync(fd, e) < 0)
        r = -1;
    if (r == 0 && fstat(fd, &st) == 0) {
        list->size += out.size;
        list->lines += list->count - from;
        list->mtime = st.st_mtim;
    }
    if (r == 0 && m->defer_sync && !m->fsync_never && m->sync_fd < 0)
        m->sync_fd = fd;
    else
        close(fd);
    buffer_free(&out);
    return r;
}

int maildir_list_write(struct maildir *m, size_t from, struct error *e)
{
    struct maildir_uidlist *list = &m->list;

    if (list->count > 0 && list->next_uid <= list->at[list->count - 1].uid)
        list->next_uid = list->at[list->count - 1].uid + 1;
    if (list->recreate || !list->exists || list->version != 3)
        return maildir_list_recreate(m, e);
    return from < list->count ? append(m, from, e) : 0;
}
