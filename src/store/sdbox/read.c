/* read.c - opening messages, and what their metadata say (dbox-format 1, 2.1, 2.6).
 *
 * A file that is not in its folder is in ALT, or is just being moved there or back, or the message is expunged. What is left
 * then is a contradiction between index and files: it is told, the message counts as gone, and the next sync rebuilds. */
#include "store/sdbox/sdbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int open_in_alt(struct sdbox *d, const char *name, struct dbox_file *file, struct error *e)
{
    int alt = sdbox_open_alt(d, false, e), r;

    if (alt < 0)
        return -1;
    r = dbox_file_open(file, alt, d->alt_path, name, e);
    close(alt);
    return r;
}

int sdbox_file_open(struct sdbox *d, uint32_t uid, struct dbox_file *file, bool *in_alt, struct error *e)
{
    char name[SDBOX_NAME_MAX];

    sdbox_name(name, uid);
    /* Twice: it may be moved from one place to the other between the two looks. */
    for (int tries = 0; tries < 2; tries++) {
        *in_alt = false;
        if (dbox_file_open(file, d->dir, d->box->path, name, e) == 0)
            return 0;
        if (e->class != ERROR_NOT_FOUND || d->alt_path == NULL)
            return -1;
        *in_alt = true;
        if (open_in_alt(d, name, file, e) == 0)
            return 0;
        if (e->class != ERROR_NOT_FOUND)
            return -1;
    }
    return -1;
}

/* Why the file cannot be had, for the caller. */
static int explain(struct sdbox *d, uint32_t uid, struct error *e)
{
    struct index_record rec;
    struct error ignored;

    if (e->class == ERROR_CORRUPT) {
        sdbox_set_damaged(d);
        return -1;
    }
    if (e->class != ERROR_NOT_FOUND)
        return -1;
    if (index_refresh(d->box->index, &ignored) == STEP_DONE && index_get(d->box->index, uid, &rec) &&
        access(d->box->path, F_OK) == 0) {
        mailbox_log(d->box, LOG_LEVEL_ERROR, "UID=%u: dbox: Unexpectedly lost uid", uid);
        sdbox_set_damaged(d);
    }
    return error_set(e, ERROR_EXPUNGED, "message is gone");
}

static int open_message(struct sdbox *d, uint32_t uid, struct dbox_file *file, struct dbox_message *m, bool *in_alt,
                        struct error *e)
{
    if (sdbox_file_open(d, uid, file, in_alt, e) < 0)
        return explain(d, uid, e);
    if (dbox_message_at(file, file->header.size, m, e) == 0)
        return 0;
    dbox_file_close(file);
    return explain(d, uid, e);
}

int sdbox_read(struct mailbox *box, uint32_t uid, struct arena *arena, struct mail_file *out, struct error *e)
{
    struct sdbox *d = box->data;
    struct dbox_metadata meta = {0};
    struct dbox_message m;
    struct dbox_file file;
    struct error damage;
    bool in_alt;

    if (open_message(d, uid, &file, &m, &in_alt, e) < 0)
        return e->class == ERROR_CORRUPT ? dbox_broken(mail_user_log(box->user), uid, 0, e) : -1;
    /* A body that is whole is shown even when what stands behind it is not. */
    if (dbox_message_metadata(&file, &m, arena, &meta, &damage) < 0) {
        if (damage.class != ERROR_CORRUPT) {
            *e = damage;
            dbox_file_close(&file);
            return -1;
        }
        if (!d->damaged)
            log_error_value(mail_user_log(box->user), &damage);
        sdbox_set_damaged(d);
    }
    out->fd = file.fd;
    out->source = dbox_message_source(file.fd, &m, arena);
    out->size = m.size;
    out->internal_date = meta.has_received ? (time_t)meta.received : file.st.st_mtime;
    out->save_date = file.st.st_ctime;
    out->path = arena_strdup(arena, file.path);
    out->ext_refs = meta.attachments;
    out->ext_suffix = meta.attachments == NULL ? NULL : sdbox_suffix(d, arena, uid);
    file.fd = -1;
    dbox_file_close(&file);
    return 0;
}

void sdbox_read_end(struct mail_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

/* ---- facts ---- */

/* What the index says without a look at the file. */
static bool known_absent(struct sdbox *d, uint32_t uid, enum driver_item item)
{
    struct sdbox_header h;

    if (!sdbox_header_get(d, &h))
        return false;
    if (item == ITEM_POP3_ORDER)
        return (h.flags & SDBOX_HAS_POP3_ORDER) == 0;
    return item == ITEM_POP3_UIDL && ((h.flags & SDBOX_HAS_POP3_UIDL) == 0 || uid > sdbox_highest_uidl(d));
}

int sdbox_item(struct mailbox *box, uint32_t uid, enum driver_item item, struct arena *arena, struct driver_value *out,
               struct error *e)
{
    struct sdbox *d = box->data;
    struct dbox_metadata meta;
    struct dbox_message m;
    struct dbox_file file;
    bool in_alt;
    int r = 0;

    *out = (struct driver_value){.known = true};
    if (known_absent(d, uid, item))
        return 0;
    if (open_message(d, uid, &file, &m, &in_alt, e) < 0)
        return -1;
    if (item == ITEM_PATH) {
        out->text = arena_strdup(arena, file.path);
    } else if (item == ITEM_SAVE_DATE) {
        out->number = (uint64_t)file.st.st_ctime;
    } else if (dbox_message_metadata(&file, &m, arena, &meta, e) < 0) {
        r = explain(d, uid, e);
    } else {
        switch (item) {
        case ITEM_GUID:
            out->text = meta.guid;
            out->known = meta.guid != NULL && *meta.guid != '\0';
            break;
        case ITEM_INTERNAL_DATE:
            out->number = meta.has_received ? (uint64_t)meta.received : (uint64_t)file.st.st_mtime;
            break;
        case ITEM_SIZE_PHYSICAL:
            out->number = meta.has_physical ? meta.physical : m.size;
            break;
        case ITEM_SIZE_VIRTUAL:
            out->number = meta.virtual_size;
            out->known = meta.has_virtual;
            break;
        case ITEM_POP3_UIDL:
            out->text = meta.pop3_uidl;
            break;
        case ITEM_POP3_ORDER:
            out->number = meta.pop3_order;
            break;
        default:
            break;
        }
    }
    dbox_file_close(&file);
    return r;
}

const char *sdbox_attachments_of(struct sdbox *d, uint32_t uid, struct arena *arena)
{
    struct dbox_metadata meta;
    struct dbox_message m;
    struct dbox_file file;
    struct error ignored;
    bool in_alt;
    const char *refs = NULL;

    if (!d->attachments || sdbox_file_open(d, uid, &file, &in_alt, &ignored) < 0)
        return NULL;
    if (dbox_message_at(&file, file.header.size, &m, &ignored) == 0 &&
        dbox_message_metadata(&file, &m, arena, &meta, &ignored) == 0)
        refs = meta.attachments;
    dbox_file_close(&file);
    return refs;
}
