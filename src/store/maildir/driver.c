/* driver.c - Maildir as a store driver: opening, creating, removing a mailbox (maildir-and-layouts 5.1, 6.1, 8). */
#include "store/internal.h"
#include "store/maildir/maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define TMP_OLD_SECS (36 * 3600)

static bool has_folder(const char *path, const char *name)
{
    char full[4096];
    struct stat st;

    return (size_t)snprintf(full, sizeof(full), "%s/%s", path, name) < sizeof(full) && stat(full, &st) == 0 &&
           S_ISDIR(st.st_mode);
}

static bool maildir_is_mailbox(const char *path)
{
    return has_folder(path, "cur");
}

/* ---- create ---- */

static int make_folders(int dir, const struct mail_modes *modes, bool *made, struct error *e)
{
    static const char *const names[] = {"cur", "new", "tmp"};

    *made = false;
    for (size_t i = 0; i < 3; i++) {
        if (os_mkdir(dir, names[i], modes->dir, modes->gid, e) == 0)
            *made = true;
        else if (e->class != ERROR_EXISTS)
            return -1;
    }
    return 0;
}

/* An empty file beside the folders. `like`: only if that exists in the root, with its mode. */
static int make_mark(int dir, const char *name, const struct mail_modes *modes, const char *root, struct error *e)
{
    struct stat st;
    char path[4096];
    int fd;

    if (root != NULL && ((size_t)snprintf(path, sizeof(path), "%s/%s", root, name) >= sizeof(path) || stat(path, &st) < 0))
        return 0;
    fd = os_create(dir, name, root != NULL ? st.st_mode & 0666 : modes->file, modes->gid, e);
    if (fd < 0)
        return e->class == ERROR_EXISTS ? 0 : -1;
    close(fd);
    return 0;
}

static int maildir_create(const struct mail_location *at, const char *path, bool inbox, const struct mail_modes *modes,
                          struct error *e)
{
    bool had = maildir_is_mailbox(path), made = false;
    int dir, r;

    if (os_mkdir(AT_FDCWD, path, modes->dir, modes->gid, e) < 0 && e->class != ERROR_EXISTS &&
        os_mkdir_parents(AT_FDCWD, path, modes->dir, modes->gid, e) < 0)
        return -1;
    dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return error_sys(e, "open", path);
    r = make_folders(dir, modes, &made, e);
    if (r == 0 && at->layout == LAYOUT_MAILDIRPP && !inbox)
        r = make_mark(dir, "maildirfolder", modes, NULL, e);
    if (r == 0 && !inbox)
        r = make_mark(dir, "dovecot-shared", modes, at->root, e);
    close(dir);
    if (r < 0)
        return error_context(e, "%s: ", path);
    if (had && !made)
        return error_set(e, ERROR_EXISTS, "Mailbox already exists: %s", path);
    return 0;
}

static int maildir_remove(const char *path, struct error *e)
{
    static const char *const folders[] = {"tmp", "new", "cur"}; /* a mailbox until the last is gone: it can be deleted again */
    char full[4096];
    struct dirent *entry;
    DIR *d;
    int r = 0;

    for (size_t i = 0; r == 0 && i < 3; i++) {
        if ((size_t)snprintf(full, sizeof(full), "%s/%s", path, folders[i]) >= sizeof(full))
            return error_set(e, ERROR_INVALID, "%s: path is too long", path);
        r = folder_remove_tree(full, e);
    }
    d = r < 0 ? NULL : opendir(path);
    if (d == NULL)
        return r < 0 || errno == ENOENT ? r : error_sys(e, "opendir", path);
    while (r == 0 && (entry = readdir(d)) != NULL) {
        struct stat st;

        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            os_unlink(dirfd(d), entry->d_name, e) < 0 && e->class != ERROR_NOT_FOUND)
            r = -1;
    }
    closedir(d);
    return r;
}

/* ---- open ---- */

/* Files in tmp/ that nobody finished: once a week, what is older than 36 hours. */
static void clean_tmp(struct maildir *m)
{
    unsigned interval = conf_secs(mail_user_settings(m->box->user), SET_mail_temp_scan_interval);
    time_t now = time(NULL);
    struct error e;
    struct stat st;
    struct dirent *entry;
    DIR *d;

    if (interval == 0 || fstatat(m->dir, "tmp", &st, 0) < 0 || st.st_atime > now - (time_t)interval ||
        st.st_atime > st.st_ctime + TMP_OLD_SECS)
        return;
    d = maildir_scan_open(m, "tmp", &e);
    if (d == NULL)
        return;
    while ((entry = readdir(d)) != NULL) {
        if (entry->d_name[0] == '.' || fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            S_ISDIR(st.st_mode) || st.st_ctime > now - TMP_OLD_SECS)
            continue;
        if (os_unlink(dirfd(d), entry->d_name, &e) < 0 && e.class != ERROR_NOT_FOUND)
            log_error_value(mail_user_log(m->box->user), &e);
    }
    closedir(d);
}

/* A mail root that is not there although CONTROL or INDEX know the mailbox: unmounted, not new. */
static int refuse_vanished(const struct mailbox *box, struct error *e)
{
    char file[4096];
    const char *const others[] = {box->control_path, box->index_path};
    const char *const names[] = {"dovecot-uidlist", "dovecot.index.log"};

    for (size_t i = 0; i < 2; i++) {
        if (others[i] == NULL || strcmp(others[i], box->path) == 0 ||
            (size_t)snprintf(file, sizeof(file), "%s/%s", others[i], names[i]) >= sizeof(file) || access(file, F_OK) < 0)
            continue;
        return error_set(e, ERROR_TEMPORARY, "%s is missing although %s is there: is its file system mounted?", box->path, file);
    }
    return 0;
}

static int open_folders(struct mailbox *box, struct maildir *m, const struct driver_open *how, struct error *e)
{
    struct stat st;
    bool made;

    if (!maildir_is_mailbox(box->path)) {
        if (has_folder(box->path, ".") && !how->create && strcmp(box->place.name, "INBOX") != 0) {
            /* The folder is there, its three are not: made on opening (5.1). */
        } else if (!how->create) {
            return mailbox_not_found(&box->place, e);
        }
        if (refuse_vanished(box, e) < 0)
            return -1;
        if (how->create) {
            if (folder_create(box->storage, box->place.name, false, e) < 0 && e->class != ERROR_EXISTS)
                return -1;
            box->modes = mail_modes_of(box->path);
        }
    }
    m->dir = open(box->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (m->dir < 0 || fstat(m->dir, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return mailbox_not_found(&box->place, e);
        return error_sys(e, "open", box->path);
    }
    m->dev = st.st_dev;
    m->ino = st.st_ino;
    /* One of them may be there without the others: another process is just making the mailbox. */
    if ((faccessat(m->dir, "cur", F_OK, 0) < 0 || faccessat(m->dir, "new", F_OK, 0) < 0) &&
        make_folders(m->dir, &box->modes, &made, e) < 0)
        return -1;
    if (strcmp(box->control_path, box->path) == 0) {
        m->control = m->dir; /* descriptors are dear in a process with a thousand mailboxes */
        box->read_only = faccessat(m->dir, "cur", W_OK, AT_EACCESS) < 0 && (errno == EACCES || errno == EROFS);
        return 0;
    }
    if (folder_make(box->control_path, &box->modes, e) < 0)
        return -1;
    m->control = open(box->control_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (m->control < 0)
        return error_sys(e, "open", box->control_path);
    box->read_only = faccessat(m->dir, "cur", W_OK, AT_EACCESS) < 0 && (errno == EACCES || errno == EROFS);
    return 0;
}

static int open_index(struct mailbox *box, struct maildir *m, struct error *e)
{
    static const struct index_ext_def ext = {.name = "maildir", .header_size = 36};

    if (store_index_open(box, &(struct store_index_how){.read_only = box->read_only}, e) < 0)
        return -1;
    m->ext = index_ext(box->index, &ext);
    return 0;
}

static void maildir_close(struct mailbox *box)
{
    struct maildir *m = box->data;

    if (m == NULL)
        return;
    maildir_list_unlock(m);
    if (box->index != NULL)
        index_close(&box->index);
    maildir_uidlist_free(&m->list);
    maildir_keywords_free(&m->keywords);
    if (m->control >= 0 && m->control != m->dir)
        close(m->control);
    if (m->dir >= 0)
        close(m->dir);
    mem_free(m);
    box->data = NULL;
}

static int maildir_open(struct mailbox *box, const struct driver_open *how, struct error *e)
{
    const struct settings *set = mail_user_settings(box->user);
    struct maildir *m = mem_zero(1, sizeof(*m));

    box->data = m;
    m->box = box;
    m->dir = m->control = m->sync_fd = -1;
    m->very_dirty = conf_bool(set, SET_maildir_very_dirty_syncs);
    m->broken_sizes = conf_bool(set, SET_maildir_broken_filename_sizes);
    m->empty_new = conf_bool(set, SET_maildir_empty_new);
    m->copy_with_hardlinks = conf_bool(set, SET_maildir_copy_with_hardlinks);
    m->save_crlf = conf_bool(set, SET_mail_save_crlf);
    m->fsync_never = strcmp(conf_str(set, SET_mail_fsync), "never") == 0;
    m->list.other_fields = "";
    if (open_folders(box, m, how, e) < 0 || open_index(box, m, e) < 0) {
        maildir_close(box);
        return -1;
    }
    m->look_only = box->read_only && faccessat(m->control, ".", W_OK, AT_EACCESS) < 0;
    if (!box->read_only)
        clean_tmp(m);
    return 0;
}

static int maildir_guid(struct mailbox *box, unsigned char guid[16], struct error *e)
{
    struct maildir *m = box->data;

    if (!m->list.have_guid && maildir_list_refresh(m, e) < 0)
        return -1;
    if (!m->list.have_guid)
        return error_set(e, ERROR_TEMPORARY, "%s: the mailbox has no GUID yet", box->path);
    memcpy(guid, m->list.guid, 16);
    return 0;
}

/* ---- index header ---- */

#define EXT_FIELDS 9

void maildir_ext_read(const struct maildir *m, struct maildir_ext *ext)
{
    struct slice raw = index_ext_header(m->box->index, m->ext);
    uint32_t *fields = (uint32_t *)ext;

    *ext = (struct maildir_ext){0};
    for (size_t i = 0; i < EXT_FIELDS && raw.size >= (i + 1) * 4; i++)
        fields[i] = bytes_le32(raw.at + i * 4);
}

void maildir_ext_write(struct maildir *m, struct index_batch *batch, const struct maildir_ext *ext)
{
    const uint32_t *fields = (const uint32_t *)ext;
    unsigned char raw[EXT_FIELDS * 4];

    for (size_t i = 0; i < EXT_FIELDS; i++)
        bytes_put_le32(raw + i * 4, fields[i]);
    index_batch_ext_header(batch, m->ext, 0, slice_of(raw, sizeof(raw)));
}

void maildir_ext_stat_list(const struct maildir *m, struct maildir_ext *ext)
{
    struct stat st;

    if (!maildir_list_stat(m, &st))
        return;
    /* Only what we have read ourselves: another's later lines must still be news. */
    if (!m->list.loaded || st.st_ino != m->list.ino || (uint64_t)st.st_size != m->list.size)
        return;
    ext->list_mtime = (uint32_t)st.st_mtim.tv_sec;
    ext->list_mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
    ext->list_size = (uint32_t)st.st_size;
}

static int maildir_list_stamp(const char *path, uint32_t stamp[2])
{
    char file[4096];
    struct stat st_new, st_cur;

    if ((size_t)snprintf(file, sizeof(file), "%s/new", path) >= sizeof(file) || stat(file, &st_new) < 0)
        return -1;
    snprintf(file, sizeof(file), "%s/cur", path);
    if (stat(file, &st_cur) < 0)
        return -1;
    stamp[0] = (uint32_t)st_new.st_mtime;
    stamp[1] = (uint32_t)st_cur.st_mtime;
    return 0;
}

/* Nobody looks at the folders: who delivers without the index is noticed by the next SELECT. */
static bool maildir_list_unstamped(const struct mail_user *user)
{
    return conf_bool(user->settings, SET_maildir_very_dirty_syncs);
}

static void maildir_list_seen(struct mailbox *box, uint32_t stamp[2])
{
    struct maildir_ext ext;

    maildir_ext_read(box->data, &ext);
    stamp[0] = ext.new_mtime;
    stamp[1] = ext.cur_mtime;
}

static const char *const watched[] = {"new", "cur", NULL};

/* The uidlist first: an index that says otherwise gives way to it. */
static int adopt_locked(struct mailbox *box, const struct mailbox_identity *id, struct arena *arena, struct error *e)
{
    static const unsigned char none[16];
    struct maildir *m = box->data;
    struct maildir_uidlist *list = &m->list;
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);

    if (maildir_list_refresh(m, e) < 0)
        return -1;
    if (!id->replace && (list->count > 0 || list->next_uid > 1) && list->uid_validity != id->uid_validity)
        return error_set(e, ERROR_EXISTS, "it has or had messages under another UIDVALIDITY (%u, not %u)", list->uid_validity,
                         id->uid_validity);
    if (store_adopt_check(box, id, e) < 0 || maildir_list_begin(m, e) < 0)
        return -1;
    list->uid_validity = id->uid_validity;
    if (id->next_uid > list->next_uid)
        list->next_uid = id->next_uid;
    if (memcmp(id->guid, none, 16) != 0 && store_adopt_guid(box))
        memcpy(list->guid, id->guid, 16);
    /* UIDNEXT comes last: all UIDs that were to be given have been. */
    if (maildir_list_recreate(m, e) < 0 || (id->next_uid > 0 && maildir_given_end(m, e) < 0))
        return -1;
    store_adopt_index(box, id, batch);
    return index_commit_locked(box->index, batch, NULL, e);
}

static enum step maildir_adopt(struct mailbox *box, const struct mailbox_identity *id, struct error *e)
{
    enum step r = maildir_list_lock(box->data, e);
    struct arena *arena;

    if (r != STEP_DONE)
        return r;
    r = index_lock_try(box->index, "migrating", e);
    if (r == STEP_DONE) {
        arena = arena_new();
        if (adopt_locked(box, id, arena, e) < 0)
            r = STEP_ERROR;
        index_unlock(box->index);
        arena_free(arena);
    }
    maildir_list_unlock(box->data);
    return r;
}

const struct store_driver maildir_driver = {
    .name = "maildir",
    .can = DRIVER_SAVE_GUID | DRIVER_POP3_UIDL | DRIVER_LINK_COPY | DRIVER_INBOX_IS_ROOT | DRIVER_RESERVED_DIRS,
    .layout = LAYOUT_MAILDIRPP,
    .dirname = "", .mailboxdir = "", .subscriptions = "subscriptions",
    .is_mailbox = maildir_is_mailbox, .detect = maildir_is_mailbox,
    .create = maildir_create, .remove = maildir_remove,
    .open = maildir_open, .close = maildir_close, .guid = maildir_guid, .adopt = maildir_adopt,
    .sync = maildir_sync, .sync_end = maildir_sync_end,
    .stage = maildir_stage, .stage_write = maildir_stage_write, .stage_finish = maildir_stage_finish,
    .stage_copy = maildir_stage_copy, .stage_again = maildir_stage_again, .discard = maildir_discard,
    .publish = maildir_publish, .publish_end = maildir_publish_end,
    .read = maildir_read, .read_end = maildir_read_end, .item = maildir_item, .mend = maildir_mend,
    .list_ext = "maildir", .list_stamp = maildir_list_stamp, .list_unstamped = maildir_list_unstamped, .list_seen = maildir_list_seen,
    .watch = watched,
};
