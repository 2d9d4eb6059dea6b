/* private.c - INDEXPVT: in a shared mailbox each user has \Seen for himself, in an index of his own (index-format 11.3).
 *
 * The shared index, file names and headers never get that flag from here; views show it from the private index
 * (index_view_private), which every sync and commit brings level with the shared one. */
#include "store/internal.h"

#include <fcntl.h>
#include <unistd.h>

int private_open(struct mailbox *box, struct error *e)
{
    struct arena *arena = arena_new();
    const char *path = mail_location_path(&box->storage->at, arena, box->place.name, PATH_PRIVATE);
    struct mail_modes modes = {0600, 0700, (gid_t)-1};
    struct index_settings settings;
    struct index_where where = {.dir = -1, .path = path, .prefix = "dovecot.index.pvt", .settings = &settings, .gid = (gid_t)-1,
                                .name = arena_printf(box->arena, "Mailbox %s: ", box->place.vname)};
    int r = 0;

    store_index_settings(box->user, &settings);
    if (path != NULL && box->driver->origin == NULL) {
        r = folder_make(path, &modes, e);
        if (r == 0 && (where.dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            r = error_sys(e, "open", path);
        if (r == 0)
            r = index_open(&box->private, &where, e);
        if (where.dir >= 0)
            close(where.dir);
    }
    arena_free(arena);
    return r;
}

enum step private_sync(struct mailbox *box, struct index_batch *own, struct error *e)
{
    enum step r = box->private == NULL ? STEP_DONE : index_private_sync(box->private, box->index, own, e);

    return r == STEP_ERROR ? error_context(e, "Mailbox %s: private index: ", box->place.vname), r : r;
}

void private_follow(struct mailbox *box)
{
    struct error e;

    if (private_sync(box, NULL, &e) == STEP_ERROR)
        log_error_value(box->user->log_p, &e);
}

uint32_t private_unseen(struct mailbox *box)
{
    struct index_status status;

    index_status(box->index, &status);
    return status.messages - index_private_seen(box->private, box->index, status.next_uid);
}

uint8_t private_flags_of(struct mailbox *box, uint32_t uid, uint8_t flags)
{
    struct index_record r;

    if (box->private == NULL)
        return flags;
    flags &= (uint8_t)~PRIVATE_FLAGS;
    return index_get(box->private, uid, &r) ? (uint8_t)(flags | (r.flags & PRIVATE_FLAGS)) : flags;
}
