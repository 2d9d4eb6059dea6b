/* unlink.c - the files of what is expunged (dbox-format 2.4).
 *
 * The records go first, the files when the lock is free again. Until they are gone the requests stay open (the log's tail is
 * before them), though their messages have no record any more: so the next sync, or the rebuild that would find the files,
 * knows which ones a crash or a failed unlink has left, and removes them. Dovecot, which knows nothing of it, finds requests
 * for messages that are not there, and closes them. */
#include "store/attachment.h"
#include "store/sdbox/sdbox.h"

#include <errno.h>
#include <unistd.h>

void sdbox_unlink_begin(struct sdbox_unlinker *u, struct sdbox *d)
{
    *u = (struct sdbox_unlinker){.d = d, .alt = -1};
}

void sdbox_unlink_end(struct sdbox_unlinker *u)
{
    if (u->alt >= 0)
        close(u->alt);
    u->alt = -1;
}

/* 1: there is none. The whole path stands in the error, as others write it. */
static int unlink_in(int dir, const char *path, const char *name, struct error *e)
{
    char *full;

    if (os_unlink(dir, name, e) == 0)
        return 0;
    if (e->class == ERROR_NOT_FOUND)
        return 1;
    full = mem_printf("%s/%s", path, name);
    errno = e->sys;
    error_sys(e, "unlink", full);
    mem_free(full);
    return -1;
}

/* A file may be in both places: a move whose last step failed. */
static int unlink_in_alt(struct sdbox_unlinker *u, const char *name, bool was_here, struct error *e)
{
    const struct sdbox *d = u->d;

    if (d->alt_path == NULL)
        return 0;
    if (u->alt < 0 && (u->alt = sdbox_open_alt(d, false, e)) < 0) {
        if (e->class != ERROR_NOT_FOUND)
            return -1;
        return was_here || dbox_alt_mounted(&d->box->storage->at, true)
                   ? 0
                   : error_set(e, ERROR_TEMPORARY, "sdbox: Alt storage not mounted, %s/%s is still there", d->alt_path, name);
    }
    return unlink_in(u->alt, d->alt_path, name, e) < 0 ? -1 : 0;
}

int sdbox_unlink(struct sdbox_unlinker *u, uint32_t uid, struct error *e)
{
    struct sdbox *d = u->d;
    struct arena *arena = d->attachments ? arena_new() : NULL;
    const char *refs = d->attachments ? sdbox_attachments_of(d, uid, arena) : NULL;
    char name[SDBOX_NAME_MAX];
    int r;

    sdbox_name(name, uid);
    r = unlink_in(d->dir, d->box->path, name, e);
    if (r >= 0)
        r = unlink_in_alt(u, name, r == 0, e);
    if (r == 0 && refs != NULL)
        attachment_refs_unlink(d->box->user, refs, sdbox_suffix(d, arena, uid));
    arena_free(arena);
    return r;
}

int sdbox_unlink_carried_out(struct sdbox *d, struct arena *arena, struct index_requests *left, struct error *e)
{
    struct index_requests requests;
    struct sdbox_unlinker u;
    uint32_t *uids;
    size_t kept = 0;

    *left = (struct index_requests){0};
    if (!index_has_pending(d->box->index))
        return 0;
    if (index_pending(d->box->index, arena, &requests, e) < 0)
        return -1;
    uids = ARENA_ARRAY(arena, uint32_t, requests.carried_out_count);
    sdbox_unlink_begin(&u, d);
    for (size_t i = 0; i < requests.carried_out_count; i++) {
        if (sdbox_unlink(&u, requests.carried_out[i], e) == 0)
            continue;
        log_error_value(mail_user_log(d->box->user), e);
        uids[kept++] = requests.carried_out[i];
    }
    sdbox_unlink_end(&u);
    left->carried_out = uids;
    left->carried_out_count = kept;
    return 0;
}
