/* save.c - staging messages in .temp files, publishing them as u.<uid> (dbox-format 2.2, 2.3).
 *
 * Staged: a whole file under a temporary name. Durable: its fsync, without a lock. Published, under the index log's lock:
 * UIDs, renames, fsync of the folder, one index transaction with its fsync. A crash before the rename leaves a .temp file
 * that is removed after 36 hours; one between rename and transaction a u.<uid> that the index does not know. The next save,
 * which would take that UID, finds it and rebuilds the index first: the file becomes a message, and the save goes on. */
#include "store/attachment.h"
#include "store/sdbox/sdbox.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define REBUILDS_MAX 3

struct sdbox_staged {
    char *temp;
    bool has_temp, in_alt;
    struct dbox_staging in;
    char *guid;                      /* NULL = the source's */
    const char *refs_suffix;
    bool published;                  /* it is u.<uid> now */
};

static struct sdbox *sdbox_of(const struct staged *s)
{
    return s->box->data;
}

static struct sdbox_staged *new_staged(struct staged *s)
{
    struct sdbox_staged *d = ARENA_NEW(s->arena, struct sdbox_staged);

    s->data = d;
    s->fd = -1;
    return d;
}

static char *new_guid(struct arena *arena)
{
    unsigned char guid[16];
    struct buffer hex = {0};
    char *out;

    store_guid_new(guid);
    text_hex_encode(&hex, slice_of(guid, 16));
    out = arena_strdup(arena, buffer_cstr(&hex));
    buffer_free(&hex);
    return out;
}

/* ---- writing ---- */

int sdbox_stage(struct staged *s, struct error *e)
{
    struct sdbox *box = sdbox_of(s);
    struct sdbox_staged *d = new_staged(s);

    s->fd = dbox_temp_create(box->dir, s->box->path, &s->box->modes, s->arena, &d->temp, e);
    if (s->fd < 0)
        return stage_space_text(e);
    d->has_temp = true;
    return dbox_stage_begin(s, s->fd, &d->in, e);
}

int sdbox_stage_write(struct staged *s, struct slice bytes, struct error *e)
{
    return stage_writer_put(((struct sdbox_staged *)s->data)->in.writer, bytes, e);
}

int sdbox_stage_finish(struct staged *s, struct error *e)
{
    struct sdbox_staged *d = s->data;

    d->guid = s->meta.guid != NULL ? arena_strdup(s->arena, s->meta.guid) : new_guid(s->arena);
    if (dbox_stage_end(s, s->fd, &d->in, d->guid, NULL, e) < 0)
        return -1;
    s->storage_id = d->guid;
    return 0;
}

int sdbox_stage_read(const struct staged *s, struct arena *arena, struct mail_file *out, struct error *e)
{
    const struct sdbox_staged *d = s->data;
    struct dbox_message m = {.body = d->in.header_size + DBOX_MESSAGE_HEADER_SIZE, .size = d->in.stored};

    if (d->in.header_size == 0 || s->fd < 0)
        return error_set(e, ERROR_BUG, "no staged bytes to read");
    out->fd = -1;
    out->source = dbox_message_source(s->fd, &m, arena);
    out->size = m.size;
    out->ext_refs = d->in.refs;
    out->ext_suffix = d->refs_suffix;
    return 0;
}

/* ---- what is not published goes ---- */

/* The folder that a staged message is in; for ALT one to be closed. */
static int folder_of(const struct sdbox *box, const struct sdbox_staged *d, bool create, struct error *e)
{
    return d->in_alt ? sdbox_open_alt(box, create, e) : box->dir;
}

static void done_with(const struct sdbox *box, int dir)
{
    if (dir >= 0 && dir != box->dir)
        close(dir);
}

static void remove_name(struct staged *s, const char *name)
{
    const struct sdbox *box = sdbox_of(s);
    struct error e;
    int dir = folder_of(box, s->data, false, &e);

    if (dir >= 0 && os_unlink(dir, name, &e) < 0 && e.class != ERROR_NOT_FOUND)
        log_error_value(mail_user_log(s->box->user), &e);
    done_with(box, dir);
}

void sdbox_discard(struct staged *s)
{
    struct sdbox_staged *d = s->data;

    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    if (d == NULL)
        return;
    stage_writer_free(&d->in.writer);
    if (d->has_temp)
        remove_name(s, d->temp);
    d->has_temp = false;
    if (d->in.refs != NULL)
        attachment_refs_unlink(s->box->user, d->in.refs, d->refs_suffix);
    d->in.refs = NULL;
}

/* ---- copies by link ---- */

static bool same_modes(const struct mailbox *a, const struct mailbox *b)
{
    return a->modes.file == b->modes.file && a->modes.gid == b->modes.gid;
}

static bool cannot_link(const struct error *e)
{
    return e->sys == EXDEV || e->sys == EMLINK || e->sys == EPERM || e->sys == EACCES || e->sys == EOPNOTSUPP;
}

static bool equal_or_none(const char *wanted, const char *has)
{
    return wanted == NULL || (has != NULL && strcmp(wanted, has) == 0);
}

/* Does the file say what the copy shall say? */
static bool same_meta(const struct mail_meta *wanted, const struct dbox_metadata *has)
{
    return equal_or_none(wanted->guid, has->guid) && equal_or_none(wanted->pop3_uidl, has->pop3_uidl) &&
           (wanted->pop3_order == 0 || (has->has_order && has->pop3_order == wanted->pop3_order)) &&
           (!wanted->has_date || (has->has_received && has->received == wanted->internal_date));
}

/* Sizes and attachments of the source stand in its metadata. 1, 0: other values are wanted, -1. */
static int read_source(struct staged *s, struct sdbox *from, uint32_t uid, struct dbox_metadata *meta, bool *in_alt,
                       struct error *e)
{
    struct dbox_message m;
    struct dbox_file file;
    int r;

    if (sdbox_file_open(from, uid, &file, in_alt, e) < 0)
        return e->class == ERROR_CORRUPT || e->class == ERROR_NOT_FOUND ? 0 : -1; /* reading it tells what is wrong */
    r = dbox_message_at(&file, file.header.size, &m, e) == 0 && dbox_message_metadata(&file, &m, s->arena, meta, e) == 0;
    if (r == 1) {
        s->size_physical = meta->has_physical ? meta->physical : m.size;
        s->size_virtual = meta->virtual_size;
        r = same_meta(&s->meta, meta) && meta->has_virtual;
    } else if (e->class != ERROR_CORRUPT) {
        r = -1;
    }
    dbox_file_close(&file);
    return r;
}

/* Links dir/name to a new .temp name of the staged message. 1, 0, -1. */
static int link_file(struct staged *s, int from_dir, const char *name, struct error *e)
{
    struct sdbox *box = sdbox_of(s);
    struct sdbox_staged *d = s->data;
    int dir = folder_of(box, d, true, e), r = -1;

    d->temp = dbox_temp_name(s->arena);
    if (dir >= 0)
        r = os_link(from_dir, name, dir, d->temp, e);
    done_with(box, dir);
    if (r < 0)
        return cannot_link(e) || e->class == ERROR_NOT_FOUND ? 0 : stage_space_text(e);
    d->has_temp = true;
    return 1;
}

int sdbox_stage_copy(struct staged *s, struct mailbox *from_box, uint32_t uid, struct error *e)
{
    struct sdbox *box = sdbox_of(s), *from;
    struct dbox_metadata meta = {0};
    struct sdbox_staged *d;
    char name[SDBOX_NAME_MAX];
    bool in_alt;
    int dir, r;

    if (from_box->driver != &sdbox_driver || !same_modes(s->box, from_box))
        return 0;
    from = from_box->data;
    d = new_staged(s);
    r = read_source(s, from, uid, &meta, &in_alt, e);
    if (r <= 0 || (in_alt && box->alt_path == NULL))
        return r < 0 ? -1 : 0;
    d->in_alt = in_alt;
    sdbox_name(name, uid);
    dir = in_alt ? sdbox_open_alt(from, false, e) : from->dir;
    r = dir < 0 ? 0 : link_file(s, dir, name, e);
    done_with(from, dir);
    if (r == 1 && meta.attachments != NULL) {
        const char *suffix = arena_printf(s->arena, "-%s", new_guid(s->arena));

        if (attachment_refs_link(s->box->user, meta.attachments, sdbox_suffix(from, s->arena, uid), suffix, e) < 0)
            return -1;
        d->in.refs = meta.attachments;
        d->refs_suffix = suffix;
    }
    if (r == 1) {
        s->storage_id = meta.guid;
        s->meta.pop3_uidl = meta.pop3_uidl; /* the destination's header must know that it has one */
        s->meta.pop3_order = meta.has_order ? meta.pop3_order : 0;
    }
    return r;
}

int sdbox_stage_again(struct staged *s, const struct staged *first, struct error *e)
{
    const struct sdbox_staged *from = first->data;
    struct sdbox_staged *d;
    int r;

    if (first->box->driver != &sdbox_driver || !same_modes(s->box, first->box) || !from->has_temp || from->in_alt ||
        from->in.refs != NULL || s->meta.guid != NULL || s->meta.has_date != first->meta.has_date ||
        s->meta.internal_date != first->meta.internal_date || s->meta.pop3_order != first->meta.pop3_order ||
        !equal_or_none(s->meta.pop3_uidl, first->meta.pop3_uidl) || !equal_or_none(first->meta.pop3_uidl, s->meta.pop3_uidl))
        return 0;
    d = new_staged(s);
    r = link_file(s, ((struct sdbox *)first->box->data)->dir, from->temp, e);
    if (r <= 0)
        return r;
    d->in.header_size = from->in.header_size;
    d->in.stored = from->in.stored;
    d->guid = from->guid == NULL ? NULL : arena_strdup(s->arena, from->guid);
    s->storage_id = d->guid;
    s->size_physical = first->size_physical;
    s->size_virtual = first->size_virtual;
    return 1;
}

/* ---- publishing ---- */

struct publish {
    enum { PUBLISH_LOCK, PUBLISH_CHECK, PUBLISH_REBUILD, PUBLISH_RENAME, PUBLISH_COMMIT } phase;
    struct arena *arena;
    struct sdbox_rebuild *rebuild;
    bool locked, renamed;
    unsigned rebuilds;
    int alt;                         /* ALT's folder while it is synced; -1 = none */
};

static void close_alt(struct publish *p)
{
    if (p->alt >= 0)
        close(p->alt);
    p->alt = -1;
}

/* The failure of one is the failure of all. */
static void undo(struct driver_publish *pub)
{
    for (size_t i = 0; i < pub->count; i++) {
        struct staged *s = pub->staged[i];
        struct sdbox_staged *d = s->data;
        char name[SDBOX_NAME_MAX];

        sdbox_name(name, s->uid);
        if (d->published)
            remove_name(s, name);
        d->published = false;
        s->uid = 0;
    }
}

static enum step rebuild_first(struct mailbox *box, struct publish *p, struct error *e)
{
    if (p->rebuilds++ >= REBUILDS_MAX)
        return error_set(e, ERROR_CORRUPT, "sdbox: Index keeps breaking"), STEP_ERROR;
    p->rebuild = sdbox_rebuild_begin(box->data);
    p->phase = PUBLISH_REBUILD;
    return STEP_MORE;
}

/* A file whose UID would be ours: what a crash has left, or an index that lost its end. */
static bool is_taken(struct mailbox *box, const struct sdbox_staged *d, uint32_t uid)
{
    struct sdbox *sdbox = box->data;
    char name[SDBOX_NAME_MAX];
    struct error ignored;
    struct stat st;
    int dir = folder_of(sdbox, d, true, &ignored);
    bool taken;

    sdbox_name(name, uid);
    taken = dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    done_with(sdbox, dir);
    if (taken)
        mailbox_log(box, LOG_LEVEL_ERROR, "sdbox: %s/%s already exists, rebuilding index", d->in_alt ? sdbox->alt_path : box->path,
                    name);
    return taken;
}

/* UIDs, and whether their names are free. */
static enum step check(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct index_status status;
    uint32_t next;
    bool fresh = true;

    index_status(box->index, &status);
    if (status.uid_validity == 0 && sdbox_init_mailbox(box->data, &fresh, e) < 0)
        return STEP_ERROR;
    if (!fresh || sdbox_rebuild_wanted(box->data))
        return rebuild_first(box, p, e);
    next = status.next_uid;
    for (size_t i = 0; i < pub->count; i++) {
        struct staged *s = pub->staged[i];

        if (s->meta.uid > next && s->meta.uid < UINT32_MAX - 1)
            next = s->meta.uid;
        if (next >= UINT32_MAX - 1)
            return error_set(e, ERROR_LIMIT, "UIDs are used up"), STEP_ERROR;
        if (is_taken(box, s->data, next))
            return rebuild_first(box, p, e);
        s->uid = next++;
    }
    p->phase = PUBLISH_RENAME;
    return STEP_MORE;
}

static int rename_one(struct staged *s, struct error *e)
{
    struct sdbox *box = sdbox_of(s);
    struct sdbox_staged *d = s->data;
    char name[SDBOX_NAME_MAX];
    int dir = folder_of(box, d, false, e), r;

    if (dir < 0)
        return -1;
    sdbox_name(name, s->uid);
    if (d->in.refs != NULL) {
        const char *suffix = sdbox_suffix(box, s->arena, s->uid);

        if (attachment_refs_rename(s->box->user, d->in.refs, d->refs_suffix, suffix, e) < 0) {
            done_with(box, dir);
            return -1;
        }
        d->refs_suffix = suffix;
    }
    r = os_rename(dir, d->temp, dir, name, e);
    done_with(box, dir);
    if (r < 0)
        return -1;
    d->has_temp = false;
    d->published = true;
    return 0;
}

static enum step rename_all(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct sdbox *sdbox = box->data;
    bool in_alt = false, here = false;

    p->renamed = true;
    for (size_t i = 0; i < pub->count; i++) {
        const struct sdbox_staged *d = pub->staged[i]->data;

        if (rename_one(pub->staged[i], e) < 0)
            return stage_space_text(e), STEP_ERROR;
        in_alt = in_alt || d->in_alt;
        here = here || !d->in_alt;
    }
    p->phase = PUBLISH_COMMIT;
    pub->fd_count = 0;
    if (sdbox->fsync_never)
        return STEP_MORE;
    if (here)
        pub->fds[pub->fd_count++] = sdbox->dir;
    if (in_alt && (p->alt = sdbox_open_alt(sdbox, false, e)) < 0)
        return STEP_ERROR;
    if (in_alt)
        pub->fds[pub->fd_count++] = p->alt;
    pub->syncing = true;
    return STEP_WAIT;
}

static void note_pop3(struct sdbox *sdbox, struct driver_publish *pub, struct index_batch *batch)
{
    struct sdbox_header h;
    uint8_t flags = 0;
    uint32_t highest = 0;

    for (size_t i = 0; i < pub->count; i++) {
        const struct staged *s = pub->staged[i];

        if (s->meta.pop3_uidl != NULL) {
            flags |= SDBOX_HAS_POP3_UIDL;
            highest = s->uid;
        }
        if (s->meta.pop3_order != 0)
            flags |= SDBOX_HAS_POP3_ORDER;
    }
    if (flags == 0 || !sdbox_header_get(sdbox, &h))
        return;
    if ((h.flags | flags) != h.flags) {
        h.flags |= flags;
        sdbox_header_put(sdbox, batch, &h);
    }
    if (highest != 0 && sdbox_highest_uidl(sdbox) < highest)
        sdbox_put_highest_uidl(sdbox, batch, highest);
}

static enum step commit(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct index_batch *batch = index_batch_new(p->arena, INDEX_EXTERNAL);
    struct index_status status;
    uint32_t last = pub->staged[pub->count - 1]->uid;

    index_status(box->index, &status);
    for (size_t i = 0; i < pub->count; i++) {
        struct staged *s = pub->staged[i];
        const struct sdbox_staged *d = s->data;
        uint8_t flags = (s->meta.flags & INDEX_FLAGS_CLIENT) | (d->in_alt ? INDEX_BACKEND : 0);
        struct index_append *append = index_batch_append(batch, s->uid, flags);

        for (size_t k = 0; k < s->meta.keyword_count; k++)
            index_append_keyword(batch, append, s->meta.keywords[k]);
        if (s->meta.min_modseq != 0)
            index_append_modseq(batch, append, s->meta.min_modseq);
        stage_append_cached(s, batch, append);
    }
    note_pop3(box->data, pub, batch);
    if (pub->take_recent)
        index_batch_first_recent(batch, last + 1);
    if (index_commit_locked(box->index, batch, &pub->commit, e) < 0)
        return stage_space_text(e), STEP_ERROR;
    if (pub->take_recent) {
        pub->recent_first = status.first_recent_uid == 0 ? 1 : status.first_recent_uid;
        pub->recent_last = last;
    }
    pub->commit.uid_validity = status.uid_validity;
    pub->changed = true;
    return STEP_DONE;
}

static enum step run(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct budget *budget, struct error *e)
{
    enum step r;

    switch (p->phase) {
    case PUBLISH_LOCK:
        r = index_lock_try(box->index, "appending", e);
        if (r != STEP_DONE)
            return r;
        p->locked = true;
        p->phase = PUBLISH_CHECK;
        return STEP_MORE;
    case PUBLISH_CHECK:
        return check(box, pub, p, e);
    case PUBLISH_REBUILD:
        r = sdbox_rebuild_step(p->rebuild, budget, e);
        if (r == STEP_ERROR) {
            log_error_value(mail_user_log(box->user), e); /* new mail is taken all the same, if its name is free */
            ((struct sdbox *)box->data)->refused = true;
            r = STEP_DONE;
        }
        if (r != STEP_DONE)
            return r;
        sdbox_rebuild_end(&p->rebuild);
        p->phase = PUBLISH_CHECK;
        return STEP_MORE;
    case PUBLISH_RENAME:
        return rename_all(box, pub, p, e);
    case PUBLISH_COMMIT:
        close_alt(p);
        return commit(box, pub, p, e);
    }
    return STEP_DONE;
}

enum step sdbox_publish(struct mailbox *box, struct driver_publish *pub, struct budget *budget, struct error *e)
{
    struct publish *p = pub->state;
    enum step r;

    if (p == NULL) {
        p = pub->state = mem_zero(1, sizeof(*p));
        p->arena = arena_new();
        p->alt = -1;
    }
    if (pub->sync_error.class != ERROR_NONE) {
        *e = pub->sync_error;
        r = STEP_ERROR;
    } else {
        do {
            r = run(box, pub, p, budget, e);
        } while (r == STEP_MORE && !budget_spent(budget, 1));
    }
    if (r == STEP_ERROR && p->renamed) {
        undo(pub);
        p->renamed = false;
    }
    if (r == STEP_DONE) {
        p->renamed = false;
        for (size_t i = 0; i < pub->count; i++)
            ((struct sdbox_staged *)pub->staged[i]->data)->in.refs = NULL; /* they belong to the message now */
    }
    return r;
}

void sdbox_publish_end(struct mailbox *box, struct driver_publish *pub)
{
    struct publish *p = pub->state;

    if (p == NULL)
        return;
    pub->state = NULL;
    if (p->renamed)
        undo(pub); /* cancelled half-way */
    close_alt(p);
    sdbox_rebuild_end(&p->rebuild);
    if (p->locked)
        index_unlock(box->index);
    arena_free(p->arena);
    mem_free(p);
}
