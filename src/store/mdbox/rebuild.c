/* rebuild.c - map and mailboxes are made to agree with the files again (dbox-format 3.9).
 *
 * The files say which messages there are, the old map which of them were given up, the mailboxes which they have: found again
 * by GUID. The map is locked from begin to end, so that no reference comes or goes. What is new in the map is written first,
 * each with one reference, and the tail stays behind it until the counts are right: a crash in between is a rebuild that
 * begins anew, and no purge comes before it. Mailboxes keep their indexes; only records that changed are written.
 *
 * A file that another process has locked is being appended to: what the map does not know of it yet is left alone. */
#include "store/mdbox/rebuild.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct mdbox_rebuild *mdbox_rebuild_begin(struct mdbox_storage *s, struct mail_user *user, bool forced)
{
    struct mdbox_rebuild *r = mem_zero(1, sizeof(*r));

    r->storage = s;
    r->user = user;
    r->forced = forced;
    r->arena = arena_new();
    return r;
}

void mdbox_rebuild_end(struct mdbox_rebuild **r_p)
{
    struct mdbox_rebuild *r = *r_p;

    if (r == NULL)
        return;
    *r_p = NULL;
    if (r->box != NULL)
        mailbox_close(&r->box); /* its lock is held only inside a step */
    if (r->locked)
        mdbox_map_unlock(r->storage->map);
    VEC_FREE(&r->ids);
    VEC_FREE(&r->found);
    VEC_FREE(&r->lost);
    VEC_FREE(&r->places);
    VEC_FREE(&r->given);
    VEC_FREE(&r->given_names);
    mem_free(r->by_guid);
    mem_free(r->by_uid);
    arena_free(r->arena);
    mem_free(r);
}

const struct log *mdbox_rebuild_log(const struct mdbox_rebuild *r)
{
    return mail_user_log(r->user);
}

/* ---- beginning ---- */

static const struct mail_location *location_of(const struct mdbox_rebuild *r)
{
    for (const struct mail_namespace *ns = mail_user_namespaces(r->user); ns != NULL; ns = ns->next)
        if (ns->storage->at.driver == &mdbox_driver && mdbox_storage_is_of(r->storage, &ns->storage->at))
            return &ns->storage->at;
    return NULL;
}

/* Does the map name a file, of messages that somebody has, that is not in the primary folder? */
static bool alt_is_used(const struct mdbox_rebuild *r)
{
    struct mdbox_map_record rec;
    uint32_t last = 0;

    for (uint32_t seq = 1, n = mdbox_map_count(r->storage->map); seq <= n; seq++) {
        char name[MDBOX_NAME_MAX];

        if (!mdbox_map_get_at(r->storage->map, seq, &rec) || rec.file_id == last || rec.ref == 0)
            continue;
        last = rec.file_id;
        mdbox_name(name, last);
        if (faccessat(r->storage->dir, name, F_OK, 0) < 0)
            return true;
    }
    return false;
}

static void log_fsck(const struct mdbox_rebuild *r)
{
    log_write(mdbox_rebuild_log(r), LOG_LEVEL_WARNING, "fscking index file %s/dovecot.map.index", r->storage->map_path);
}

static enum step lock(struct mdbox_rebuild *r, struct error *e)
{
    struct mdbox_storage *s = r->storage;
    const struct mail_location *at = location_of(r);
    bool unfinished;
    enum step step = mdbox_map_lock(s->map, "rebuilding", &unfinished, e);

    if (step != STEP_DONE)
        return step;
    r->locked = true;
    if (!r->forced && s->no_map && !unfinished && mdbox_map_count(s->map) > 0) {
        s->corrupted = s->no_map = false; /* the first message was just being saved */
        return STEP_DONE;
    }
    s->no_map = false;
    if (!r->forced && s->corrupted && !unfinished && mdbox_map_rebuild_count(s->map) != s->corrupted_count &&
        !mdbox_map_fscked(s->map)) {
        s->corrupted = false; /* another process has done it */
        return STEP_DONE;
    }
    if (at != NULL && s->alt_path != NULL && !dbox_alt_mounted(at, alt_is_used(r))) {
        s->refused = true;
        return error_set(e, ERROR_TEMPORARY, "mdbox rebuild: Alt storage %s not mounted, aborting", s->alt_path), STEP_ERROR;
    }
    if (!s->corrupted)
        s->corrupted_count = mdbox_map_rebuild_count(s->map);
    s->corrupted = true;
    log_fsck(r);
    log_write(mdbox_rebuild_log(r), LOG_LEVEL_WARNING, "mdbox %s: rebuilding indexes", s->path);
    if (mdbox_map_problem(s->map) != NULL && index_repair(mdbox_map_index(s->map), e) != STEP_DONE)
        return STEP_ERROR;
    r->same_map = mdbox_map_uid_validity(s->map) != 0;
    r->phase = REBUILD_LIST;
    return STEP_MORE;
}

/* ---- the old map ---- */

struct rebuild_moved {
    struct mdbox_map_record *rec;
    struct rebuild_message *message;         /* that was found; NULL: the old map's */
};

static int compare_messages(const void *x, const void *y)
{
    const struct rebuild_message *a = x, *b = y;

    return mdbox_map_record_compare(&a->where, &b->where);
}

static int compare_guids(const void *x, const void *y, void *arg)
{
    const struct rebuild_message *all = arg, *a = all + *(const size_t *)x, *b = all + *(const size_t *)y;
    int d = memcmp(a->guid, b->guid, 16);

    if (d != 0)
        return d;
    if ((a->known && a->where.ref > 0) != (b->known && b->where.ref > 0))
        return a->known && a->where.ref > 0 ? -1 : 1;
    return compare_messages(a, b);
}

static int compare_uids(const void *x, const void *y, void *arg)
{
    const struct rebuild_message *all = arg;
    uint32_t a = all[*(const size_t *)x].where.uid, b = all[*(const size_t *)y].where.uid;

    return a < b ? -1 : a > b;
}

static size_t *order(const struct mdbox_rebuild *r, int (*compare)(const void *, const void *, void *))
{
    size_t *out = mem_alloc((r->found.count + 1) * sizeof(*out));

    for (size_t i = 0; i < r->found.count; i++)
        out[i] = i;
    if (r->found.count > 1)
        qsort_r(out, r->found.count, sizeof(*out), compare, r->found.at);
    return out;
}

/* By file, size, offset. */
static int compare_sizes(const void *x, const void *y)
{
    const struct rebuild_moved *a = x, *b = y;

    if (a->rec->file_id != b->rec->file_id)
        return a->rec->file_id < b->rec->file_id ? -1 : 1;
    if (a->rec->size != b->rec->size)
        return a->rec->size < b->rec->size ? -1 : 1;
    return a->rec->offset < b->rec->offset ? -1 : a->rec->offset > b->rec->offset;
}

static size_t same_size(const struct rebuild_moved *all, size_t count, size_t first)
{
    size_t n = first;

    while (n < count && all[n].rec->file_id == all[first].rec->file_id && all[n].rec->size == all[first].rec->size)
        n++;
    return n - first;
}

/* A repair changes the places of what is behind it. If a file misses as many messages of a size as it has new ones of that
 * size, they are the same, in the same order: so those that were given up stay so. */
static void match_moved(struct mdbox_rebuild *r, struct mdbox_map_record *missing, size_t count)
{
    VEC(struct rebuild_moved) old = {0}, new = {0};
    size_t i = 0, k = 0;

    for (size_t n = 0; n < count; n++)
        VEC_PUSH(&old, ((struct rebuild_moved){&missing[n], NULL}));
    for (size_t n = 0; old.count > 0 && n < r->found.count; n++)
        if (!r->found.at[n].known)
            VEC_PUSH(&new, ((struct rebuild_moved){&r->found.at[n].where, &r->found.at[n]}));
    if (old.count > 1)
        qsort(old.at, old.count, sizeof(*old.at), compare_sizes);
    if (new.count > 1)
        qsort(new.at, new.count, sizeof(*new.at), compare_sizes);
    while (i < old.count && k < new.count) {
        size_t a = same_size(old.at, old.count, i), b = same_size(new.at, new.count, k);
        const struct mdbox_map_record *x = old.at[i].rec, *y = new.at[k].rec;
        bool before = x->file_id != y->file_id ? x->file_id < y->file_id : x->size < y->size;
        bool same = x->file_id == y->file_id && x->size == y->size;

        for (size_t n = 0; same && a == b && n < a; n++) {
            struct rebuild_message *m = new.at[k + n].message;

            m->known = m->moved = true;
            m->where.uid = old.at[i + n].rec->uid;
            m->where.ref = old.at[i + n].rec->ref;
            old.at[i + n].rec->uid = 0;
        }
        i += same || before ? a : 0;
        k += same || !before ? b : 0;
    }
    VEC_FREE(&old);
    VEC_FREE(&new);
}

/* Equal place and size: the map UID stays. */
static void match_map(struct mdbox_rebuild *r)
{
    struct mdbox_map *map = r->storage->map;
    VEC(struct mdbox_map_record) old = {0}, missing = {0};
    struct mdbox_map_record rec;
    size_t k = 0;

    for (uint32_t seq = 1, n = mdbox_map_count(map); seq <= n; seq++) {
        struct index_record plain;

        if (mdbox_map_get_at(map, seq, &rec))
            VEC_PUSH(&old, rec);
        else if (index_get_at(mdbox_map_index(map), seq, &plain))
            VEC_PUSH(&r->lost, plain.uid);
    }
    if (old.count > 1)
        qsort(old.at, old.count, sizeof(*old.at), mdbox_map_record_compare);
    if (r->found.count > 1)
        qsort(r->found.at, r->found.count, sizeof(*r->found.at), compare_messages);
    for (size_t i = 0; i < old.count; i++) {
        while (k < r->found.count && (r->found.at[k].where.file_id < old.at[i].file_id ||
               (r->found.at[k].where.file_id == old.at[i].file_id && r->found.at[k].where.offset < old.at[i].offset)))
            k++;
        if (k < r->found.count && !r->found.at[k].known && r->found.at[k].where.file_id == old.at[i].file_id &&
            r->found.at[k].where.offset == old.at[i].offset && r->found.at[k].where.size == old.at[i].size) {
            r->found.at[k].known = true;
            r->found.at[k].where = old.at[i];
        } else {
            VEC_PUSH(&missing, old.at[i]);
        }
    }
    match_moved(r, missing.at, missing.count);
    for (size_t i = 0; i < missing.count; i++)
        if (missing.at[i].uid != 0)
            VEC_PUSH(&r->lost, missing.at[i].uid);
    VEC_FREE(&missing);
    VEC_FREE(&old);
}

static void find_extras(struct mdbox_rebuild *r)
{
    struct buffer hex = {0};

    for (size_t i = 1; i < r->found.count; i++) {
        const struct rebuild_message *a = &r->found.at[r->by_guid[i - 1]];
        struct rebuild_message *b = &r->found.at[r->by_guid[i]];

        if (memcmp(a->guid, b->guid, 16) != 0)
            continue;
        if (a->size == b->size) {
            b->extra = true;
            continue;
        }
        buffer_reset(&hex);
        text_hex_encode(&hex, slice_of(b->guid, 16));
        log_write(mdbox_rebuild_log(r), LOG_LEVEL_ERROR, "mdbox %s: Duplicate GUID %s in m.%u:%u (size=%llu) and m.%u:%u (size=%llu)",
                  r->storage->path, buffer_cstr(&hex), a->where.file_id, a->where.offset, (unsigned long long)a->size, b->where.file_id,
                  b->where.offset, (unsigned long long)b->size);
    }
    buffer_free(&hex);
}

/* What the map does not know gets map UIDs, in the order of the files; what it had elsewhere, its new place. */
static int append_unknown(struct mdbox_rebuild *r, struct error *e)
{
    struct mdbox_change change;
    uint32_t first = 0;
    bool any = false;

    mdbox_change_begin(&change, r->storage->map, r->arena, false);
    for (size_t i = 0; i < r->found.count; i++) {
        struct rebuild_message *m = &r->found.at[i];

        any = any || !m->known || m->moved;
        if (m->moved)
            mdbox_change_move(&change, &m->where);
        if (m->known)
            continue;
        m->where.ref = 1;
        mdbox_change_append(&change, &m->where);
    }
    if (!any)
        return 0;
    if (mdbox_change_commit(&change, &first, e) < 0)
        return -1;
    for (size_t i = 0; i < r->found.count; i++)
        if (!r->found.at[i].known)
            r->found.at[i].where.uid = first++;
    return 0;
}

static void list_places(struct mdbox_rebuild *r, struct error *e)
{
    for (struct mail_namespace *ns = mail_user_namespaces(r->user); ns != NULL; ns = ns->next) {
        struct folder_names names = {0};

        if (ns->alias_for != NULL || ns->unusable || ns->storage->at.driver != &mdbox_driver ||
            !mdbox_storage_is_of(r->storage, &ns->storage->at))
            continue;
        if (folder_list(ns->storage, r->arena, &names, e) < 0)
            log_error_value(mdbox_rebuild_log(r), e);
        for (size_t i = 0; i < names.count; i++)
            if (names.at[i].selectable)
                VEC_PUSH(&r->places, ((struct mailbox_place){ns, mailbox_vname_of(ns, r->arena, names.at[i].name), names.at[i].name}));
        VEC_FREE(&names);
        break; /* others of the same root see the same mailboxes */
    }
}

static enum step match(struct mdbox_rebuild *r, struct error *e)
{
    match_map(r);
    r->by_guid = order(r, compare_guids);
    find_extras(r);
    if (append_unknown(r, e) < 0)
        return STEP_ERROR;
    r->by_uid = order(r, compare_uids);
    list_places(r, e);
    if (mdbox_rebuild_read_given(r, e) < 0)
        return STEP_ERROR;
    r->phase = REBUILD_BOXES;
    return STEP_MORE;
}

/* ---- the end ---- */

static enum step finish(struct mdbox_rebuild *r, struct error *e)
{
    struct mdbox_storage *s = r->storage;
    struct mdbox_change change;

    /* Before its count becomes 0, and a purge may take it. One whose count was 0 already has what is its own. */
    for (size_t i = 0; i < r->found.count; i++) {
        const struct rebuild_message *m = &r->found.at[i];

        if (m->extra && m->count == 0 && !(m->known && m->where.ref == 0) && mdbox_disown(s, &m->where, e) < 0)
            return STEP_ERROR;
    }
    mdbox_change_begin(&change, s->map, r->arena, true);
    if (r->highest != mdbox_map_highest_file_id(s->map))
        mdbox_change_highest_file_id(&change, r->highest);
    mdbox_change_rebuild_count(&change, s->corrupted_count + 1 > mdbox_map_rebuild_count(s->map)
                                            ? s->corrupted_count + 1 : mdbox_map_rebuild_count(s->map) + 1);
    for (size_t i = 0; i < r->lost.count; i++)
        mdbox_change_expunge(&change, r->lost.at[i]);
    for (size_t i = 0; i < r->found.count; i++) {
        const struct rebuild_message *m = &r->found.at[i];
        unsigned count = r->skipped && m->known && m->where.ref > m->count ? m->where.ref : m->count;

        if (count != m->where.ref)
            mdbox_change_set_ref(&change, m->where.uid, (uint16_t)count);
    }
    mdbox_change_clear_fscked(&change);
    /* A count of 0 is known before what told of it goes, and confirmed after that. */
    if (mdbox_change_commit(&change, NULL, e) < 0 || (!r->skipped && mdbox_rebuild_remove_given(r, e) < 0) ||
        mdbox_map_confirm(s->map, e) < 0)
        return STEP_ERROR;
    if (r->forced) /* the real server looks at the new map once more */
        log_fsck(r);
    s->corrupted = s->refused = false;
    mdbox_map_unlock(s->map);
    r->locked = false;
    return STEP_DONE;
}

enum step mdbox_rebuild_step(struct mdbox_rebuild *r, struct budget *budget, struct error *e)
{
    enum step step;

    do {
        switch (r->phase) {
        case REBUILD_LOCK:
            step = lock(r, e);
            break;
        case REBUILD_LIST:
            step = mdbox_rebuild_list_files(r, e);
            break;
        case REBUILD_FILES:
            step = mdbox_rebuild_scan_files(r, e);
            break;
        case REBUILD_MATCH:
            step = match(r, e);
            break;
        case REBUILD_BOXES:
            step = mdbox_rebuild_mend_boxes(r, e);
            break;
        case REBUILD_RESTORE:
            step = mdbox_rebuild_restore_orphans(r, e);
            break;
        default:
            step = finish(r, e);
        }
    } while (step == STEP_MORE && !budget_spent(budget, 10));
    return step;
}
