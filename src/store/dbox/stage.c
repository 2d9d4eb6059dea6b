/* stage.c - what the two formats do alike: the folder of a mailbox, and a new file with one message (dbox-format 1.5). */
#include "store/dbox/dbox.h"

#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

int dbox_folder_create(const struct mail_location *at, const char *path, bool inbox, const struct mail_modes *modes,
                       struct error *e)
{
    struct stat st;

    (void)at, (void)inbox;
    if (stat(path, &st) == 0)
        return error_set(e, ERROR_EXISTS, "Mailbox already exists: %s", path);
    return os_mkdir_parents(AT_FDCWD, path, modes->dir, modes->gid, e);
}

int dbox_folder_remove(const char *path, struct error *e)
{
    if (store_remove_files(path, e) < 0)
        return -1;
    if (os_rmdir(AT_FDCWD, path, e) < 0 && e->class != ERROR_NOT_FOUND && e->sys != ENOTEMPTY && e->sys != EEXIST)
        return -1;
    return 0;
}

int dbox_stage_begin(struct staged *s, int fd, struct dbox_staging *in, struct error *e)
{
    struct buffer header = {0};
    int r;

    dbox_header_put(&header, time(NULL));
    in->header_size = (uint32_t)header.size;
    r = os_write(fd, buffer_slice(&header), e);
    buffer_free(&header);
    if (r < 0 || dbox_message_begin(fd, in->header_size, e) < 0)
        return stage_space_text(e);
    in->writer = stage_writer_new(s->box, fd, false);
    return 0;
}

int dbox_stage_end(struct staged *s, int fd, struct dbox_staging *in, const char *guid, const char *mailbox,
                   struct error *e)
{
    struct dbox_metadata meta = {
        .has_physical = true, .has_received = true, .has_virtual = true, .guid = guid, .mailbox = mailbox};
    const char *refs;

    if (stage_writer_finish(in->writer, e) < 0)
        return stage_space_text(e);
    s->size_physical = meta.physical = in->writer->size_physical;
    s->size_virtual = meta.virtual_size = in->writer->size_virtual;
    in->stored = in->writer->stored;
    refs = stage_writer_ext_refs(in->writer);
    in->refs = refs == NULL ? NULL : arena_strdup(s->arena, refs);
    stage_writer_free(&in->writer);
    meta.received = s->meta.has_date ? s->meta.internal_date : (int64_t)time(NULL);
    meta.pop3_uidl = s->meta.pop3_uidl;
    meta.has_order = s->meta.pop3_order != 0;
    meta.pop3_order = s->meta.pop3_order;
    meta.attachments = in->refs;
    if (dbox_message_end(fd, in->stored, &meta, e) < 0 || dbox_message_seal(fd, in->header_size, in->stored, e) < 0)
        return stage_space_text(e);
    return 0;
}
