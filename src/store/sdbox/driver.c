/* driver.c - sdbox as a store driver: finding, making, opening a mailbox (dbox-format 2.1; maildir-and-layouts 1.4, 4). */
#include "store/sdbox/sdbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void sdbox_name(char out[SDBOX_NAME_MAX], uint32_t uid)
{
    snprintf(out, SDBOX_NAME_MAX, "u.%u", uid);
}

static bool is_there(const char *path, const char *name, bool folder)
{
    char full[4096];
    struct stat st;

    return (size_t)snprintf(full, sizeof(full), "%s/%s", path, name) < sizeof(full) && stat(full, &st) == 0 &&
           (!folder || S_ISDIR(st.st_mode));
}

/* Asked only without DIRNAME, where the folder itself says nothing. */
static bool sdbox_is_mailbox(const char *path)
{
    return is_there(path, "dovecot.index.log", false) || is_there(path, "dovecot.index", false) || is_there(path, "u.1", false);
}

/* A used mdbox has mailboxes/ too: it must not be taken for an sdbox, which would write u.1 into it. */
static bool sdbox_detect(const char *root)
{
    return is_there(root, "mailboxes", true) && !is_there(root, "storage", true);
}

/* ---- the index header ---- */

bool sdbox_header_get(struct sdbox *d, struct sdbox_header *h)
{
    struct slice raw = index_ext_header(d->box->index, d->ext_header);

    *h = (struct sdbox_header){0};
    if (raw.size < 20)
        return false;
    h->rebuild_count = bytes_le32(raw.at);
    memcpy(h->guid, raw.at + 4, 16);
    h->flags = raw.size > 20 ? raw.at[20] : SDBOX_HAS_POP3_UIDL | SDBOX_HAS_POP3_ORDER; /* an old one does not say */
    return true;
}

void sdbox_header_put(struct sdbox *d, struct index_batch *batch, const struct sdbox_header *h)
{
    unsigned char raw[SDBOX_HEADER_SIZE] = {0};

    bytes_put_le32(raw, h->rebuild_count);
    memcpy(raw + 4, h->guid, 16);
    raw[20] = h->flags;
    index_batch_ext_header(batch, d->ext_header, 0, slice_of(raw, sizeof(raw)));
}

uint32_t sdbox_highest_uidl(struct sdbox *d)
{
    struct slice raw = index_ext_header(d->box->index, d->ext_uidl);

    return raw.size < 4 ? UINT32_MAX : bytes_le32(raw.at);
}

void sdbox_put_highest_uidl(struct sdbox *d, struct index_batch *batch, uint32_t uid)
{
    unsigned char raw[4];

    bytes_put_le32(raw, uid);
    index_batch_ext_header(batch, d->ext_uidl, 0, slice_of(raw, 4));
}

void sdbox_set_damaged(struct sdbox *d)
{
    struct sdbox_header h;

    if (d->damaged)
        return;
    d->damaged = true;
    d->damaged_count = sdbox_header_get(d, &h) ? h.rebuild_count : 0;
}

static const struct index_ext_def header_ext = {.name = "dbox-hdr", .header_size = SDBOX_HEADER_SIZE, .shrink = true};
static const struct index_ext_def uidl_ext = {.name = "hdr-pop3-uidl", .header_size = 4};

/* What a new log begins with (index-format 7.3). Also called when damage makes the index begin anew. */
static int init_index(void *arg, struct index *index, struct index_batch *batch, struct error *e)
{
    unsigned char raw[SDBOX_HEADER_SIZE] = {0};

    (void)e;
    store_mailbox_guid_new(arg, raw + 4);
    index_batch_ext_header(batch, index_ext(index, &header_ext), 0, slice_of(raw, sizeof(raw)));
    return 0;
}

/* ---- opening ---- */

int sdbox_open_alt(const struct sdbox *d, bool create, struct error *e)
{
    const struct mail_modes *modes = &d->box->modes;
    int fd;

    if (d->alt_path == NULL)
        return error_set(e, ERROR_NOT_FOUND, "no ALT path is set");
    fd = open(d->alt_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && create) {
        if (os_mkdir_parents(AT_FDCWD, d->alt_path, modes->dir, modes->gid, e) < 0)
            return -1;
        fd = open(d->alt_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return fd < 0 ? error_sys(e, "open", d->alt_path) : fd;
}

char *sdbox_suffix(struct sdbox *d, struct arena *arena, uint32_t uid)
{
    struct sdbox_header h;
    struct buffer hex = {0};
    char *out;

    sdbox_header_get(d, &h);
    text_hex_encode(&hex, slice_of(h.guid, 16));
    out = arena_printf(arena, "-%s-%u", buffer_cstr(&hex), uid);
    buffer_free(&hex);
    return out;
}

static int open_folder(struct mailbox *box, struct sdbox *d, const struct driver_open *how, struct error *e)
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
    d->dir = open(box->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dir < 0)
        return errno == ENOENT || errno == ENOTDIR ? mailbox_not_found(&box->place, e) : error_sys(e, "open", box->path);
    box->read_only = faccessat(d->dir, ".", W_OK, AT_EACCESS) < 0 && (errno == EACCES || errno == EROFS);
    return 0;
}

static int open_index(struct mailbox *box, struct sdbox *d, struct error *e)
{
    /* What is only in the index would be gone with the session. */
    if (box->index_path == NULL)
        return error_set(e, ERROR_TEMPORARY, "Couldn't create index file");
    if (store_index_open(box, &(struct store_index_how){.init = init_index, .read_only = box->read_only, .only_copy = true}, e) < 0)
        return -1;
    d->ext_header = index_ext(box->index, &header_ext);
    d->ext_uidl = index_ext(box->index, &uidl_ext);
    return 0;
}

/* What nobody will sync any more is rebuilt now, unless somebody else is at work there. */
static void rebuild_at_close(struct mailbox *box)
{
    struct sdbox_rebuild *rebuild;
    struct budget budget = BUDGET_UNLIMITED;
    struct error e;
    enum step r;

    if (box->gone || box->read_only || index_deleted(box->index) != 0 || access(box->path, F_OK) < 0 ||
        index_lock_try(box->index, "syncing", &e) != STEP_DONE)
        return;
    if (sdbox_rebuild_wanted(box->data)) {
        rebuild = sdbox_rebuild_begin(box->data);
        while ((r = sdbox_rebuild_step(rebuild, &budget, &e)) == STEP_MORE)
            ;
        if (r == STEP_ERROR)
            log_error_value(mail_user_log(box->user), &e);
        sdbox_rebuild_end(&rebuild);
    }
    index_unlock(box->index);
}

static void sdbox_close(struct mailbox *box)
{
    struct sdbox *d = box->data;

    if (d == NULL)
        return;
    if (box->index != NULL && d->damaged)
        rebuild_at_close(box);
    if (box->index != NULL)
        index_close(&box->index);
    if (d->dir >= 0)
        close(d->dir);
    index_ranges_free(&d->told);
    mem_free(d);
    box->data = NULL;
}

/* Once a week: what crashes have left (1.5). */
static void clean_temps(struct sdbox *d)
{
    struct slice base = index_header(d->box->index);
    int64_t now = (int64_t)time(NULL);
    const struct log *log = mail_user_log(d->box->user);
    struct arena *arena;
    struct index_batch *batch;
    unsigned char raw[4];
    struct error e;
    struct stat st;

    if (d->box->read_only || base.size < 84 || !dbox_temp_due(d->box->user, bytes_le32(base.at + 80), now))
        return;
    /* A new mailbox has nothing to clean: the time of the scan is written with the first one that can find something. */
    if (bytes_le32(base.at + 80) == 0 && fstat(d->dir, &st) == 0 && st.st_ctime > now - 36 * 3600)
        return;
    dbox_temp_clean(d->box->path, now, log);
    if (d->alt_path != NULL)
        dbox_temp_clean(d->alt_path, now, log);
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_EXTERNAL);
    bytes_put_le32(raw, (uint32_t)now);
    index_batch_header(batch, 80, slice_of(raw, 4), false);
    if (index_commit(d->box->index, batch, NULL, &e) == STEP_ERROR)
        log_error_value(log, &e);
    arena_free(arena);
}

static int sdbox_open(struct mailbox *box, const struct driver_open *how, struct error *e)
{
    const struct settings *set = mail_user_settings(box->user);
    struct sdbox *d = mem_zero(1, sizeof(*d));

    box->data = d;
    d->box = box;
    d->dir = -1;
    d->alt_path = mail_location_path(&box->storage->at, box->arena, box->place.name, PATH_ALT);
    d->fsync_never = strcmp(conf_str(set, SET_mail_fsync), "never") == 0;
    d->attachments = *conf_str(set, SET_mail_attachment_dir) != '\0';
    if (open_folder(box, d, how, e) < 0 || open_index(box, d, e) < 0) {
        sdbox_close(box);
        return -1;
    }
    if (!box->read_only)
        dbox_alt_check(&box->storage->at, mail_user_log(box->user));
    clean_temps(d);
    return 0;
}

static int sdbox_guid(struct mailbox *box, unsigned char guid[16], struct error *e)
{
    static const unsigned char none[16];
    struct sdbox_header h;

    if (!sdbox_header_get(box->data, &h) || memcmp(h.guid, none, 16) == 0) {
        sdbox_set_damaged(box->data);
        return error_set(e, ERROR_TEMPORARY, "%s: sdbox: Invalid dbox header size", box->path);
    }
    memcpy(guid, h.guid, 16);
    return 0;
}

/* A publication that ended between its renames and its commit left files above the last UID, under the UIDs that they were to
 * have. A rebuild takes them in; a save that came upon them later would have to give their UIDs away. */
static bool has_files_from(const char *path, uint32_t first)
{
    DIR *d = opendir(path);
    struct dirent *entry;
    bool found = false;
    uint32_t uid;

    while (d != NULL && !found && (entry = readdir(d)) != NULL)
        found = strncmp(entry->d_name, "u.", 2) == 0 && slice_to_u32(slice_from_str(entry->d_name + 2), &uid) && uid >= first;
    if (d != NULL)
        closedir(d);
    return found;
}

static enum step sdbox_adopt(struct mailbox *box, const struct mailbox_identity *id, struct error *e)
{
    static const unsigned char none[16];
    struct sdbox_header h;
    struct index_status status;
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
        sdbox_header_get(box->data, &h);
        if (memcmp(id->guid, none, 16) != 0 && memcmp(id->guid, h.guid, 16) != 0 && store_adopt_guid(box)) {
            memcpy(h.guid, id->guid, 16);
            sdbox_header_put(box->data, batch, &h);
        }
        if (index_commit_locked(box->index, batch, NULL, e) < 0)
            r = STEP_ERROR;
        index_status(box->index, &status);
        if (r == STEP_DONE && has_files_from(box->path, status.next_uid))
            sdbox_set_damaged(box->data);
    }
    index_unlock(box->index);
    arena_free(arena);
    return r;
}

const struct store_driver sdbox_driver = {
    .name = "sdbox",
    .can = DRIVER_SAVE_GUID | DRIVER_POP3_UIDL | DRIVER_LINK_COPY | DRIVER_ALT | DRIVER_ATTACHMENTS | DRIVER_FACTS_IN_FILE |
           DRIVER_LIST_KNOWS,
    .layout = LAYOUT_FS,
    .dirname = "dbox-Mails", .mailboxdir = "mailboxes", .subscriptions = "subscriptions",
    .is_mailbox = sdbox_is_mailbox, .detect = sdbox_detect,
    .create = dbox_folder_create, .remove = dbox_folder_remove,
    .open = sdbox_open, .close = sdbox_close, .guid = sdbox_guid, .adopt = sdbox_adopt,
    .sync = sdbox_sync, .sync_end = sdbox_sync_end,
    .stage = sdbox_stage, .stage_write = sdbox_stage_write, .stage_finish = sdbox_stage_finish,
    .stage_copy = sdbox_stage_copy, .stage_again = sdbox_stage_again, .stage_read = sdbox_stage_read, .discard = sdbox_discard,
    .publish = sdbox_publish, .publish_end = sdbox_publish_end,
    .read = sdbox_read, .read_end = sdbox_read_end, .item = sdbox_item,
};
