/* publish.c - staged messages become visible, all or none (dbox-format 3.4, 3.5).
 *
 * The bytes go to the ends of flocked files, durably, then, with the map locked: names for new files, the mailbox's lock, one
 * map transaction (records, references), one transaction of the mailbox, and the map's tail, which says that both are there.
 * A crash leaves, in this order: bytes behind what the map knows, cut off by the next writer or purged; files that the map
 * does not know; a map that counts a reference too many and, as its tail tells, wants a rebuild. Never a reference that is
 * not counted: that one would be purged. */
#include "store/mdbox/mdbox.h"
#include "store/stage.h"

#include <unistd.h>

#define REBUILDS_MAX 3

struct publish {
    enum { PUBLISH_CHOOSE, PUBLISH_SYNC, PUBLISH_LOCK_MAP, PUBLISH_LOCK_MAILBOX, PUBLISH_NAME, PUBLISH_COMMIT,
           PUBLISH_REBUILD } phase;
    struct arena *arena;
    struct mdbox_writer writer;
    struct mdbox_rebuild *rebuild;
    struct mdbox_given given;
    struct mdbox_map_record *records;      /* one per staged message; size 0 = a reference */
    struct mdbox_target **targets;         /* where each went */
    size_t next;
    unsigned rebuilds;
    uint32_t highest;
    bool writing, map_locked, box_locked, written;
};

static struct mdbox *mdbox_of(const struct mailbox *box)
{
    return box->data;
}

static const struct log *log_of(const struct mailbox *box)
{
    return mail_user_log(box->user);
}

static void unlock(struct mailbox *box, struct publish *p)
{
    if (p->box_locked)
        index_unlock(box->index);
    if (p->map_locked)
        mdbox_map_unlock(mdbox_of(box)->storage->map);
    p->box_locked = p->map_locked = false;
}

/* Back to where only the staged files are there. */
static void take_back(struct mailbox *box, struct driver_publish *pub, struct publish *p)
{
    (void)box;
    if (p->writing) {
        mdbox_writer_undo(&p->writer);
        mdbox_writer_end(&p->writer);
    }
    p->writing = false;
    p->next = 0;
    for (size_t i = 0; i < pub->count; i++)
        ((struct mdbox_staged *)pub->staged[i]->data)->adopted = false;
}

/* ---- choosing and writing ---- */

static int place_one(struct mailbox *box, struct publish *p, struct staged *s, size_t i, struct error *e)
{
    struct mdbox_staged *d = s->data;
    uint64_t size = d->end - d->in.header_size, offset = d->in.header_size;
    struct mdbox_target *t = NULL;
    int r;

    (void)box;
    if (d->reference)
        return 0;
    r = mdbox_writer_target(&p->writer, size, false, 0, false, &t, e);
    if (r < 0)
        return -1;
    if (r == 0) {
        t = mdbox_writer_adopt(&p->writer, d->fd, d->temp, d->end);
        d->adopted = true;
    } else if (mdbox_writer_copy(t, d->fd, d->in.header_size, size, d->in.stored, &offset, e) < 0) {
        return -1;
    }
    p->targets[i] = t;
    p->records[i] = (struct mdbox_map_record){.offset = (uint32_t)offset, .size = (uint32_t)size, .ref = 1};
    return 0;
}

static enum step choose(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    if (!p->writing) {
        if (mdbox_given_begin(&p->given, mdbox_of(box)->storage, pub->staged, pub->count, !mdbox_of(box)->fsync_never, p->arena, e) < 0)
            return STEP_ERROR;
        mdbox_writer_begin(&p->writer, mdbox_of(box)->storage, box->user, p->arena);
        p->records = ARENA_ARRAY(p->arena, struct mdbox_map_record, pub->count);
        p->targets = ARENA_ARRAY(p->arena, struct mdbox_target *, pub->count);
        p->writing = true;
    }
    if (p->next < pub->count) {
        if (place_one(box, p, pub->staged[p->next], p->next, e) < 0)
            return STEP_ERROR;
        p->next++;
        return STEP_MORE;
    }
    p->phase = PUBLISH_SYNC;
    return STEP_MORE;
}

/* A few descriptors a time; comes back until all are durable. */
static enum step sync_files(struct mailbox *box, struct driver_publish *pub, struct publish *p)
{
    pub->fd_count = 0;
    for (size_t i = 0; i < p->writer.targets.count && pub->fd_count < 4 && !mdbox_of(box)->fsync_never; i++) {
        struct mdbox_target *t = p->writer.targets.at[i];

        if (t->synced)
            continue;
        t->synced = true;
        pub->fds[pub->fd_count++] = t->fd;
    }
    pub->syncing = pub->fd_count > 0;
    if (pub->syncing)
        return STEP_WAIT;
    p->phase = PUBLISH_LOCK_MAP;
    return STEP_MORE;
}

/* ---- under the locks ---- */

static enum step want_rebuild(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct mdbox_storage *storage = mdbox_of(box)->storage;

    if (p->rebuilds++ >= REBUILDS_MAX)
        return error_set(e, ERROR_CORRUPT, "mdbox: Storage keeps breaking"), STEP_ERROR;
    unlock(box, p);
    take_back(box, pub, p);
    p->rebuild = mdbox_rebuild_begin(storage, box->user, false);
    p->phase = PUBLISH_REBUILD;
    return STEP_MORE;
}

static enum step lock_map(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct mdbox_storage *storage = mdbox_of(box)->storage;
    enum step r = mdbox_storage_lock(storage, log_of(box), "saving", e);

    if (r != STEP_DONE)
        return r;
    p->map_locked = true;
    if (mdbox_rebuild_wanted(storage) && p->rebuilds == 0)
        return want_rebuild(box, pub, p, e);
    mdbox_writer_cut_tails(&p->writer);
    p->phase = PUBLISH_LOCK_MAILBOX;
    return STEP_MORE;
}

/* Every source must still be in the map, and have room for one more reference. */
static int check_references(struct mailbox *box, struct driver_publish *pub, struct error *e)
{
    struct mdbox_map *map = mdbox_of(box)->storage->map;

    for (size_t i = 0; i < pub->count; i++) {
        const struct mdbox_staged *d = pub->staged[i]->data;
        struct mdbox_map_record rec;
        size_t more = 0;

        if (!d->reference)
            continue;
        if (!mdbox_map_get(map, d->map_uid, &rec))
            return error_set(e, ERROR_EXPUNGED, "map_uid=%u: message is gone", d->map_uid);
        if (rec.ref >= MDBOX_REF_MAX - 1024) /* only then is it worth while to count */
            for (size_t k = 0; k < pub->count; k++) {
                const struct mdbox_staged *other = pub->staged[k]->data;

                more += other->reference && other->map_uid == d->map_uid;
            }
        if (rec.ref >= MDBOX_REF_MAX || rec.ref + more > MDBOX_REF_MAX) {
            error_set(e, ERROR_LIMIT, "Message has been copied too many times (%u + %zu)", rec.ref, more == 0 ? 1 : more);
            return error_user(e, "Message has been copied too many times");
        }
    }
    return 0;
}

static enum step lock_mailbox(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    enum step r = index_lock_try(box->index, "appending", e);

    if (r != STEP_DONE)
        return r;
    p->box_locked = true;
    if (mdbox_init_mailbox(mdbox_of(box), e) < 0 || check_references(box, pub, e) < 0)
        return STEP_ERROR;
    p->phase = PUBLISH_NAME;
    return STEP_MORE;
}

static enum step name_files(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct mdbox_storage *storage = mdbox_of(box)->storage;
    bool has_new = mdbox_writer_has_new(&p->writer, false);

    p->highest = mdbox_map_highest_file_id(storage->map);
    if (mdbox_writer_name(&p->writer, &p->highest, e) < 0) {
        if (e->class != ERROR_EXISTS)
            return STEP_ERROR;
        /* A crash of another has left it: its messages come back, ours get the next id. */
        mdbox_storage_corrupted_file(storage, log_of(box), e);
        return storage->refused ? STEP_ERROR : want_rebuild(box, pub, p, e);
    }
    p->phase = PUBLISH_COMMIT;
    if (!has_new || mdbox_of(box)->fsync_never)
        return STEP_MORE;
    pub->fds[0] = storage->dir;
    pub->fd_count = 1;
    pub->syncing = true;
    return STEP_WAIT;
}

static int commit_map(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct mdbox_storage *storage = mdbox_of(box)->storage;
    struct mdbox_change change;
    uint32_t first = 0;

    mdbox_change_begin(&change, storage->map, p->arena, false);
    if (p->highest != mdbox_map_highest_file_id(storage->map))
        mdbox_change_highest_file_id(&change, p->highest);
    for (size_t i = 0; i < pub->count; i++) {
        const struct mdbox_staged *d = pub->staged[i]->data;

        if (d->reference) {
            mdbox_change_ref(&change, d->map_uid, 1);
        } else {
            p->records[i].file_id = p->targets[i]->id;
            mdbox_change_append(&change, &p->records[i]);
        }
    }
    if (mdbox_change_commit(&change, &first, e) < 0)
        return -1;
    p->written = true;
    for (size_t i = 0; i < pub->count; i++) {
        struct mdbox_staged *d = pub->staged[i]->data;

        if (!d->reference)
            p->records[i].uid = d->map_uid = first++;
    }
    return 0;
}

/* The mailbox would not take them: the map forgets them again. Failing that too (the disk is full), its tail stays where it
 * is, and the next one who locks it rebuilds. */
static void uncommit_map(struct mailbox *box, struct driver_publish *pub, struct publish *p)
{
    struct mdbox_storage *storage = mdbox_of(box)->storage;
    struct mdbox_change refs, records;
    struct error e;
    bool any = false;

    p->written = false;
    mdbox_change_begin(&refs, storage->map, p->arena, false);
    mdbox_change_begin(&records, storage->map, p->arena, true);
    for (size_t i = 0; i < pub->count; i++) {
        const struct mdbox_staged *d = pub->staged[i]->data;

        if (d->reference)
            mdbox_change_ref(&refs, d->map_uid, -1);
        else
            mdbox_change_expunge(&records, d->map_uid);
        any = any || d->reference;
    }
    if ((any && mdbox_change_commit(&refs, NULL, &e) < 0) || mdbox_change_commit(&records, NULL, &e) < 0 ||
        mdbox_storage_confirm(storage, &e) < 0) {
        log_error_value(log_of(box), &e);
        /* What the map names must stay where it is. */
        mdbox_given_keep(&p->given);
        if (p->writing)
            mdbox_writer_end(&p->writer);
        p->writing = false;
        for (size_t i = 0; i < pub->count; i++) {
            struct mdbox_staged *d = pub->staged[i]->data;

            d->in.refs = NULL;
            if (d->adopted)
                d->temp = NULL;
        }
    }
}

static void put_pop3(const struct mdbox *m, struct driver_publish *pub, struct index_batch *batch, struct mdbox_header *h,
                     uint32_t first_uid, bool *put_header)
{
    uint32_t highest = 0;

    for (size_t i = 0; i < pub->count; i++) {
        const struct mdbox_staged *d = pub->staged[i]->data;

        if ((d->pop3_flags & ~h->flags) != 0) {
            h->flags |= d->pop3_flags;
            *put_header = true;
        }
        if ((d->pop3_flags & MDBOX_HAS_POP3_UIDL) != 0)
            highest = pub->staged[i]->uid != 0 ? pub->staged[i]->uid : first_uid + (uint32_t)i;
    }
    if (highest != 0)
        mdbox_put_highest_uidl(m, batch, highest);
}

static int commit_mailbox(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct mdbox *m = mdbox_of(box);
    struct index_batch *batch = index_batch_new(p->arena, INDEX_EXTERNAL);
    struct index_status status;
    struct mdbox_header header;
    bool put_header = false;
    uint32_t next;

    index_status(box->index, &status);
    mdbox_header_get(m, &header);
    if (header.map_uid_validity == 0) {
        header.map_uid_validity = mdbox_map_uid_validity(m->storage->map);
        put_header = true;
    }
    next = status.next_uid;
    for (size_t i = 0; i < pub->count; i++) {
        struct staged *s = pub->staged[i];
        const struct mdbox_staged *d = s->data;
        struct index_append *append;

        if (s->meta.uid >= next && s->meta.uid < UINT32_MAX - 1)
            next = s->meta.uid;
        s->uid = next++;
        append = index_batch_append(batch, s->uid, s->meta.flags & INDEX_FLAGS_CLIENT);
        for (size_t k = 0; k < s->meta.keyword_count; k++)
            index_append_keyword(batch, append, s->meta.keywords[k]);
        if (s->meta.min_modseq != 0)
            index_append_modseq(batch, append, s->meta.min_modseq);
        stage_append_cached(s, batch, append);
        mdbox_append_record(m, batch, append, d->map_uid, d->save_date, d->guid128);
    }
    put_pop3(m, pub, batch, &header, status.next_uid, &put_header);
    if (put_header)
        mdbox_header_put(m, batch, &header);
    if (pub->take_recent)
        index_batch_first_recent(batch, next);
    if (index_commit_locked(box->index, batch, &pub->commit, e) < 0)
        return -1;
    if (pub->take_recent) {
        pub->recent_first = status.first_recent_uid == 0 ? 1 : status.first_recent_uid;
        pub->recent_last = next - 1;
    }
    return 0;
}

static enum step commit(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct error confirm;

    if (commit_map(box, pub, p, e) < 0)
        return STEP_ERROR;
    if (commit_mailbox(box, pub, p, e) < 0) {
        for (size_t i = 0; i < pub->count; i++)
            pub->staged[i]->uid = 0;
        uncommit_map(box, pub, p);
        return STEP_ERROR;
    }
    /* From here on they are there, whatever happens. */
    for (size_t i = 0; i < pub->count; i++) {
        struct mdbox_staged *d = pub->staged[i]->data;

        d->in.refs = NULL;
        if (d->adopted)
            d->temp = NULL;
    }
    mdbox_writer_end(&p->writer);
    p->writing = false;
    index_maintain(box->index);
    index_unlock(box->index);
    p->box_locked = false;
    mdbox_given_end(&p->given, mdbox_of(box)->storage, log_of(box));
    if (mdbox_storage_confirm(mdbox_of(box)->storage, &confirm) < 0)
        log_error_value(log_of(box), &confirm); /* the next one rebuilds, and finds everything in order */
    unlock(box, p);
    pub->changed = true;
    return STEP_DONE;
}

static enum step run(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct budget *budget, struct error *e)
{
    enum step r;

    switch (p->phase) {
    case PUBLISH_CHOOSE:
        return choose(box, pub, p, e);
    case PUBLISH_SYNC:
        return sync_files(box, pub, p);
    case PUBLISH_LOCK_MAP:
        return lock_map(box, pub, p, e);
    case PUBLISH_LOCK_MAILBOX:
        return lock_mailbox(box, pub, p, e);
    case PUBLISH_NAME:
        return name_files(box, pub, p, e);
    case PUBLISH_COMMIT:
        return commit(box, pub, p, e);
    case PUBLISH_REBUILD:
        r = mdbox_rebuild_step(p->rebuild, budget, e);
        if (r == STEP_ERROR) {
            log_error_value(log_of(box), e); /* new mail is taken all the same */
            mdbox_of(box)->storage->refused = true;
            r = STEP_DONE;
        }
        if (r != STEP_DONE)
            return r;
        mdbox_rebuild_end(&p->rebuild);
        p->phase = PUBLISH_CHOOSE;
        return STEP_MORE;
    }
    return STEP_DONE;
}

enum step mdbox_publish(struct mailbox *box, struct driver_publish *pub, struct budget *budget, struct error *e)
{
    struct publish *p = pub->state;
    enum step r;

    if (p == NULL) {
        p = pub->state = mem_zero(1, sizeof(*p));
        p->arena = arena_new();
    }
    if (pub->sync_error.class != ERROR_NONE) {
        *e = pub->sync_error;
        return STEP_ERROR;
    }
    do {
        r = run(box, pub, p, budget, e);
    } while (r == STEP_MORE && !budget_spent(budget, 1));
    if (r == STEP_ERROR)
        stage_space_text(e);
    return r;
}

void mdbox_publish_end(struct mailbox *box, struct driver_publish *pub)
{
    struct publish *p = pub->state;

    if (p == NULL)
        return;
    pub->state = NULL;
    mdbox_rebuild_end(&p->rebuild);
    take_back(box, pub, p); /* failed, or cancelled half-way */
    mdbox_given_end(&p->given, mdbox_of(box)->storage, log_of(box));
    unlock(box, p);
    arena_free(p->arena);
    mem_free(p);
}
