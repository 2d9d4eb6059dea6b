/* rebuild.c - map and mailboxes are made to agree with the files again (dbox-format 3.9).
 *
 * The files say which messages there are, the old map which of them were given up, the mailboxes which they have: found again
 * by GUID. The map is locked from begin to end, so that no reference comes or goes. What is new in the map is written first,
 * each with one reference, and the tail stays behind it until the counts are right: a crash in between is a rebuild that
 * begins anew, and no purge comes before it. Mailboxes keep their indexes; only records that changed are written.
 *
 * A file that another process has locked is being appended to: what the map does not know of it yet is left alone. */
#include "store/mdbox/mdbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define BASE_NEXT_UID 28 /* index-format 2.1 */

struct message {
    unsigned char guid[16];
    struct mdbox_map_record where;       /* uid 0: not in the map yet; ref: the old count */
    const char *mailbox;                 /* B; NULL = none */
    unsigned count;                      /* references found */
    bool known;                          /* the old map had it just so */
    bool extra;                          /* another of the same GUID and size counts */
};
struct id {
    uint32_t id;
    bool in_alt;
};
struct mdbox_rebuild {
    struct mdbox_storage *storage;
    struct mail_user *user;
    struct arena *arena;
    enum { REBUILD_LOCK, REBUILD_LIST, REBUILD_FILES, REBUILD_MATCH, REBUILD_BOXES, REBUILD_RESTORE, REBUILD_FINISH } phase;
    bool forced, locked, skipped;        /* skipped: a mailbox could not be opened; its references are not known */
    bool same_map;                       /* old map UIDs of mailboxes mean something */
    VEC(struct id) ids;
    VEC(struct message) found;
    VEC(uint32_t) lost;                  /* map UIDs whose messages are not there any more */
    VEC(struct mailbox_place) places;
    size_t *by_guid;                     /* indexes into found, sorted */
    size_t *by_uid;
    size_t next;
    uint32_t highest;
    struct mailbox *box;                 /* that is being worked on */
    const char *last_mailbox;
};

struct mdbox_rebuild *mdbox_rebuild_begin(struct mdbox_storage *s, struct mail_user *user, bool forced)
{
    struct mdbox_rebuild *r = mem_zero(1, sizeof(*r));

    r->storage = s;
    r->user = user;
    r->forced = forced;
    r->arena = arena_new();
    return r;
}

static void leave_box(struct mdbox_rebuild *r)
{
    if (r->box != NULL && index_locked(r->box->index))
        index_unlock(r->box->index);
    mailbox_close(&r->box);
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
    mem_free(r->by_guid);
    mem_free(r->by_uid);
    arena_free(r->arena);
    mem_free(r);
}

static const struct log *log_of(const struct mdbox_rebuild *r)
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
    log_write(log_of(r), LOG_LEVEL_WARNING, "mdbox %s: rebuilding indexes", s->path);
    if (mdbox_map_problem(s->map) != NULL && index_repair(mdbox_map_index(s->map), e) != STEP_DONE)
        return STEP_ERROR;
    r->same_map = mdbox_map_uid_validity(s->map) != 0;
    r->phase = REBUILD_LIST;
    return STEP_MORE;
}

/* ---- the files ---- */

static int compare_ids(const void *x, const void *y)
{
    const struct id *a = x, *b = y;

    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return (int)a->in_alt - (int)b->in_alt;
}

static int list_folder(struct mdbox_rebuild *r, const char *path, bool in_alt, struct error *e)
{
    DIR *d = opendir(path);
    struct dirent *entry;

    if (d == NULL)
        return errno == ENOENT ? 0 : error_sys(e, "opendir", path);
    while ((entry = readdir(d)) != NULL) {
        struct slice name = slice_from_str(entry->d_name);
        uint32_t id;

        if (strncmp(entry->d_name, "m.", 2) != 0 || slice_ends(name, SLICE(".broken")) || slice_ends(name, SLICE(".lock")))
            continue;
        if (!slice_to_u32(slice_from(name, 2), &id) || id == 0 || name.at[2] == '0') {
            log_write(log_of(r), LOG_LEVEL_WARNING, "mdbox rebuild: Skipping file with missing ID: %s/%s", path, entry->d_name);
            continue;
        }
        VEC_PUSH(&r->ids, ((struct id){id, in_alt}));
        if (id > r->highest)
            r->highest = id;
    }
    closedir(d);
    return 0;
}

/* An id that is in both places gets a new one in ALT. */
static int rename_double(struct mdbox_rebuild *r, struct id *id, struct error *e)
{
    char old[MDBOX_NAME_MAX], new[MDBOX_NAME_MAX];
    int dir = mdbox_open_alt(r->storage, false, e), ret;

    if (dir < 0)
        return -1;
    mdbox_name(old, id->id);
    mdbox_name(new, ++r->highest);
    ret = os_link(dir, old, dir, new, e) < 0 || os_unlink(dir, old, e) < 0 ? -1 : 0;
    close(dir);
    id->id = r->highest;
    return ret;
}

static enum step list_files(struct mdbox_rebuild *r, struct error *e)
{
    r->highest = mdbox_map_highest_file_id(r->storage->map);
    if (list_folder(r, r->storage->path, false, e) < 0 ||
        (r->storage->alt_path != NULL && list_folder(r, r->storage->alt_path, true, e) < 0))
        return STEP_ERROR;
    if (r->ids.count > 1)
        qsort(r->ids.at, r->ids.count, sizeof(*r->ids.at), compare_ids);
    for (size_t i = 1, n = r->ids.count; i < n; i++)
        if (r->ids.at[i].id == r->ids.at[i - 1].id && rename_double(r, &r->ids.at[i], e) < 0)
            return STEP_ERROR;
    r->phase = REBUILD_FILES;
    return STEP_MORE;
}

static const char *keep_name(struct mdbox_rebuild *r, const char *name)
{
    if (name == NULL)
        return NULL;
    if (r->last_mailbox == NULL || strcmp(r->last_mailbox, name) != 0)
        r->last_mailbox = arena_strdup(r->arena, name);
    return r->last_mailbox;
}

/* 1: all of it was read, or all that counts; 0: damaged at *bad; -1: an I/O fault. */
static int read_messages(struct mdbox_rebuild *r, const struct dbox_file *file, uint32_t id, uint64_t until, uint64_t *bad,
                         uint64_t *last_good, struct error *e)
{
    struct arena *arena = arena_new();
    struct dbox_metadata meta;
    struct dbox_message m;
    uint64_t at = 0;
    int ret;

    *last_good = 0;
    for (;;) {
        struct message found = {.known = false};

        arena_reset(arena);
        *bad = at == 0 ? file->header.size : at;
        if (at >= until) {
            ret = 0;
            break;
        }
        ret = dbox_file_next(file, &at, &m, arena, &meta, e);
        if (ret != 1)
            break;
        if (meta.guid == NULL || *meta.guid == '\0') {
            dbox_file_corrupt(file, m.offset, "Message is missing GUID", e);
            ret = -1;
            break;
        }
        if (m.end > UINT32_MAX) {
            dbox_file_corrupt(file, m.offset, "file is too large", e);
            ret = -1;
            break;
        }
        store_guid_of_text(slice_from_str(meta.guid), found.guid);
        found.where = (struct mdbox_map_record){.file_id = id, .offset = (uint32_t)m.offset, .size = (uint32_t)(m.end - m.offset)};
        found.mailbox = keep_name(r, meta.mailbox);
        *last_good = m.offset;
        VEC_PUSH(&r->found, found);
    }
    arena_free(arena);
    return ret == 0 ? 1 : e->class == ERROR_CORRUPT ? 0 : -1;
}

/* A message that was never finished at the end of a file is nobody's. */
static bool cut_unfinished(struct mdbox_rebuild *r, const struct dbox_file *file, uint64_t bad)
{
    unsigned char dummy[DBOX_MESSAGE_HEADER_SIZE];
    struct mdbox_map_record rec;
    struct buffer b = {0};
    struct error e;
    bool yes;

    dbox_message_header_put(dummy, 0);
    yes = os_pread(file->fd, bad, sizeof(dummy), &b, &e) > 0 && memcmp(b.at, dummy, b.size) == 0;
    buffer_free(&b);
    for (uint32_t seq = mdbox_map_count(r->storage->map); yes && seq > 0; seq--)
        yes = !mdbox_map_get_at(r->storage->map, seq, &rec) || rec.file_id != r->found.at[r->found.count - 1].where.file_id ||
              rec.offset < bad;
    if (yes && os_truncate(file->fd, bad, &e) < 0) {
        log_error_value(log_of(r), &e);
        yes = false;
    }
    return yes;
}

static uint64_t mapped_end(const struct mdbox_map *map, uint32_t id)
{
    struct mdbox_map_record rec;
    uint64_t end = 0;

    for (uint32_t seq = mdbox_map_count(map); seq > 0; seq--)
        if (mdbox_map_get_at(map, seq, &rec) && rec.file_id == id && (uint64_t)rec.offset + rec.size > end)
            end = (uint64_t)rec.offset + rec.size;
    return end;
}

/* One file: read, mended if need be, read again. */
static int scan_file(struct mdbox_rebuild *r, const struct id *id, struct error *e)
{
    struct mdbox_storage *s = r->storage;
    const char *path = id->in_alt ? s->alt_path : s->path;
    int dir = id->in_alt ? mdbox_open_alt(s, false, e) : s->dir, ret = dir < 0 ? -1 : 0;
    char name[MDBOX_NAME_MAX];
    bool done = false;

    mdbox_name(name, id->id);
    for (int round = 0; ret == 0 && !done; round++) {
        size_t before = r->found.count;
        uint64_t bad = 0, last_good = 0, until = UINT64_MAX;
        struct dbox_file file;
        bool mine;
        int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && (errno == EACCES || errno == EROFS))
            fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
            ret = errno == ENOENT ? 0 : error_sys(e, "open", name);
            break;
        }
        mine = os_lock_fd(fd, OS_LOCK_FLOCK, e) == OS_GOT;
        if (!mine)
            until = mapped_end(s->map, id->id);
        ret = dbox_file_from_fd(&file, fd, arena_printf(r->arena, "%s/%s", path, name), e);
        if (ret == 0) {
            ret = read_messages(r, &file, id->id, until, &bad, &last_good, e);
            done = ret == 1 || (ret == 0 && mine && r->found.count > before && cut_unfinished(r, &file, bad));
            ret = ret < 0 ? -1 : 0;
        } else if (e->class == ERROR_CORRUPT) {
            ret = 0; /* the header line: the fix writes another */
        }
        if (ret == 0 && !done) {
            log_error_value(log_of(r), e);
            if (round > 0 || !mine) {
                log_write(log_of(r), LOG_LEVEL_ERROR, "mdbox rebuild: Failed to fix file %s/%s", path, name);
                done = true;
            } else {
                r->found.count = before;
                /* 0: nothing was left of it, which the next round finds. */
                if (dbox_file_fix(dir, path, name, last_good, &s->modes, log_of(r), e) < 0) {
                    log_error_value(log_of(r), e);
                    ret = e->class == ERROR_CORRUPT ? 0 : -1;
                }
            }
        }
        dbox_file_close(&file);
    }
    if (dir >= 0 && dir != s->dir)
        close(dir);
    return ret;
}

static enum step scan_files(struct mdbox_rebuild *r, struct error *e)
{
    if (r->next < r->ids.count)
        return scan_file(r, &r->ids.at[r->next++], e) < 0 ? STEP_ERROR : STEP_MORE;
    r->next = 0;
    r->phase = REBUILD_MATCH;
    return STEP_MORE;
}

/* ---- the old map ---- */

static int compare_messages(const void *x, const void *y)
{
    const struct message *a = x, *b = y;

    return mdbox_map_record_compare(&a->where, &b->where);
}

static int compare_guids(const void *x, const void *y, void *arg)
{
    const struct message *all = arg, *a = all + *(const size_t *)x, *b = all + *(const size_t *)y;
    int d = memcmp(a->guid, b->guid, 16);

    if (d != 0)
        return d;
    if ((a->known && a->where.ref > 0) != (b->known && b->where.ref > 0))
        return a->known && a->where.ref > 0 ? -1 : 1;
    return compare_messages(a, b);
}

static int compare_uids(const void *x, const void *y, void *arg)
{
    const struct message *all = arg;
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

/* Equal place and size: the map UID stays. */
static void match_map(struct mdbox_rebuild *r)
{
    struct mdbox_map *map = r->storage->map;
    VEC(struct mdbox_map_record) old = {0};
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
            VEC_PUSH(&r->lost, old.at[i].uid);
        }
    }
    VEC_FREE(&old);
}

static void find_extras(struct mdbox_rebuild *r)
{
    struct buffer hex = {0};

    for (size_t i = 1; i < r->found.count; i++) {
        const struct message *a = &r->found.at[r->by_guid[i - 1]];
        struct message *b = &r->found.at[r->by_guid[i]];

        if (memcmp(a->guid, b->guid, 16) != 0)
            continue;
        if (a->where.size == b->where.size) {
            b->extra = true;
            continue;
        }
        buffer_reset(&hex);
        text_hex_encode(&hex, slice_of(b->guid, 16));
        log_write(log_of(r), LOG_LEVEL_ERROR, "mdbox %s: Duplicate GUID %s in m.%u:%u (size=%u) and m.%u:%u (size=%u)",
                  r->storage->path, buffer_cstr(&hex), a->where.file_id, a->where.offset, a->where.size, b->where.file_id,
                  b->where.offset, b->where.size);
    }
    buffer_free(&hex);
}

/* What the map does not know gets map UIDs, in the order of the files. */
static int append_unknown(struct mdbox_rebuild *r, struct error *e)
{
    struct mdbox_change change;
    uint32_t first = 0;

    mdbox_change_begin(&change, r->storage->map, r->arena, false);
    for (size_t i = 0; i < r->found.count; i++) {
        struct message *m = &r->found.at[i];

        if (m->known)
            continue;
        m->where.ref = 1;
        mdbox_change_append(&change, &m->where);
    }
    if (change.appends == 0)
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
            log_error_value(log_of(r), e);
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
    r->phase = REBUILD_BOXES;
    return STEP_MORE;
}

/* ---- the mailboxes ---- */

static struct message *find_uid(struct mdbox_rebuild *r, uint32_t uid)
{
    size_t low = 0, high = r->found.count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (r->found.at[r->by_uid[mid]].where.uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low < r->found.count && r->found.at[r->by_uid[low]].where.uid == uid ? &r->found.at[r->by_uid[low]] : NULL;
}

/* The one with this GUID that counts; among several of other sizes that which the record names. */
static struct message *find_guid(struct mdbox_rebuild *r, const unsigned char guid[16], uint32_t map_uid)
{
    size_t low = 0, high = r->found.count;
    struct message *first = NULL;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (memcmp(r->found.at[r->by_guid[mid]].guid, guid, 16) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < r->found.count; low++) {
        struct message *m = &r->found.at[r->by_guid[low]];

        if (memcmp(m->guid, guid, 16) != 0)
            break;
        if (first == NULL)
            first = m;
        if (!m->extra && m->where.uid == map_uid)
            return m;
    }
    return first;
}

static struct message *find_message(struct mdbox_rebuild *r, const struct mdbox_record *rec, bool same_map)
{
    struct message *m = rec->has_guid ? find_guid(r, rec->guid, rec->map_uid) : NULL;

    return m != NULL || !same_map || rec->map_uid == 0 ? m : find_uid(r, rec->map_uid);
}

/* The copy of the index that was kept at its last rewrite; NULL = none that says anything. */
static struct index *open_backup(const struct mailbox *box)
{
    struct index_where where = {.path = box->index_path, .prefix = "dovecot.index.backup", .read_only = true, .no_create = true};
    struct index *backup = NULL;
    struct error e;

    if (box->index_path == NULL)
        return NULL;
    where.dir = open(box->index_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (where.dir < 0)
        return NULL;
    if (faccessat(where.dir, where.prefix, F_OK, 0) < 0 || index_open(&backup, &where, &e) < 0)
        backup = NULL;
    close(where.dir);
    if (backup != NULL && index_count(backup) == 0)
        index_close(&backup);
    return backup;
}

/* An index that has lost everything becomes what its backup says: UIDs, UIDVALIDITY, GUID, flags and keywords. Messages that
 * have been given up since stay away. */
static int take_backup(struct mdbox_rebuild *r, struct mailbox *box, struct index *backup, struct error *e)
{
    static const struct index_ext_def header_ext = {.name = "mdbox-hdr", .header_size = MDBOX_HEADER_SIZE};
    static const struct index_ext_def record_ext = {.name = "mdbox", .record_size = 8, .record_align = 4};
    static const struct index_ext_def guid_ext = {.name = "guid", .record_size = 16, .record_align = 1};
    unsigned header = index_ext(backup, &header_ext), record = index_ext(backup, &record_ext), guid = index_ext(backup, &guid_ext);
    struct slice raw = index_ext_header(backup, header);
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    struct index_status status;
    struct index_record rec;
    struct mdbox_header h = {0};
    unsigned char next[4];
    uint32_t last = 0;
    int ret;

    index_status(backup, &status);
    if (raw.size >= 20)
        memcpy(h.guid, raw.at + 4, 16);
    h.flags = raw.size > 20 ? raw.at[20] : MDBOX_HAS_POP3_UIDL | MDBOX_HAS_POP3_ORDER;
    h.map_uid_validity = mdbox_map_uid_validity(r->storage->map);
    mdbox_header_put(box->data, batch, &h);
    index_batch_uid_validity(batch, status.uid_validity);
    for (uint32_t uid = 1; index_get_from(backup, uid, &rec); uid = rec.uid + 1) {
        struct slice where = index_ext_record(backup, record, rec.uid), id = index_ext_record(backup, guid, rec.uid);
        const struct message *message = id.size < 16 ? NULL : find_guid(r, id.at, where.size < 8 ? 0 : bytes_le32(where.at));
        struct index_append *append;

        if (message == NULL || (message->known && message->where.ref == 0))
            continue;
        last = rec.uid;
        append = index_batch_append(batch, rec.uid, rec.flags & INDEX_FLAGS_CLIENT);
        for (unsigned i = 0; i < index_keyword_count(backup); i++)
            if (index_keyword_has(rec.keywords, i))
                index_append_keyword(batch, append, slice_from_str(index_keyword_name(backup, i)));
        mdbox_append_record(box->data, batch, append, message->where.uid, where.size < 8 ? 0 : bytes_le32(where.at + 4), id.at);
    }
    bytes_put_le32(next, status.next_uid);
    if (status.next_uid > last + 1) /* behind the appends, which raise it themselves */
        index_batch_header(batch, BASE_NEXT_UID, slice_of(next, 4), false);
    index_batch_first_recent(batch, status.first_recent_uid);
    ret = index_reset(box->index, batch, e);
    arena_free(arena);
    return ret;
}

static int recall_backup(struct mdbox_rebuild *r, struct mailbox *box, struct error *e)
{
    struct index_status status;
    struct index *backup;
    int ret = 0;

    index_status(box->index, &status);
    if (status.messages > 0 || (status.uid_validity != 0 && !status.fscked) || (backup = open_backup(box)) == NULL)
        return 0;
    ret = take_backup(r, box, backup, e);
    index_close(&backup);
    return ret;
}

static int mend_box(struct mdbox_rebuild *r, struct mailbox *box, struct error *e)
{
    struct mdbox *m = box->data;
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    uint32_t validity = mdbox_map_uid_validity(r->storage->map);
    VEC(struct message *) counted = {0};
    struct index_record rec;
    struct mdbox_header h;
    bool changed = false, same_map;
    struct index_status status;
    int ret = recall_backup(r, box, e);

    if (ret == 0)
        ret = mdbox_init_mailbox(m, e);
    index_status(box->index, &status);
    if (status.fscked) {
        index_batch_clear_fscked(batch);
        changed = true;
    }

    mdbox_header_get(m, &h);
    same_map = r->same_map && h.map_uid_validity == validity;
    if (h.map_uid_validity != validity) {
        h.map_uid_validity = validity;
        mdbox_header_put(m, batch, &h);
        changed = true;
    }
    for (uint32_t uid = 1; ret == 0 && index_get_from(box->index, uid, &rec); uid = rec.uid + 1) {
        struct mdbox_record own;
        struct message *message;

        if (!mdbox_record_get(m, rec.uid, &own))
            own = (struct mdbox_record){0};
        message = find_message(r, &own, same_map);
        if (message == NULL) {
            index_batch_expunge(batch, rec.uid, own.guid);
            changed = true;
            continue;
        }
        if (message->where.uid != own.map_uid) {
            own.map_uid = message->where.uid;
            mdbox_put_map_uid(m, batch, rec.uid, &own);
            changed = true;
        }
        VEC_PUSH(&counted, message);
    }
    if (ret == 0 && changed)
        ret = index_commit_locked(box->index, batch, NULL, e);
    for (size_t i = 0; ret == 0 && i < counted.count; i++)
        if (counted.at[i]->count < MDBOX_REF_MAX)
            counted.at[i]->count++;
    if (ret == 0 && changed)
        mailbox_wake_watches(box, NULL);
    VEC_FREE(&counted);
    arena_free(arena);
    return ret;
}

/* The mailbox of a place, locked; STEP_DONE. r->box stays open over waits. */
static enum step enter_box(struct mdbox_rebuild *r, const struct mailbox_place *place, unsigned flags, struct error *e)
{
    enum step step;

    if (r->box == NULL && mailbox_open(&r->box, place, flags, e) < 0) {
        r->box = NULL;
        return STEP_ERROR;
    }
    if (((struct mdbox *)r->box->data)->storage != r->storage) {
        mailbox_close(&r->box);
        return error_set(e, ERROR_BUG, "mailbox of another storage"), STEP_ERROR;
    }
    step = index_lock_try(r->box->index, "rebuilding", e);
    if (step == STEP_ERROR)
        mailbox_close(&r->box);
    return step;
}

static enum step mend_boxes(struct mdbox_rebuild *r, struct error *e)
{
    const struct mailbox_place *place;
    enum step step;
    int ret;

    if (r->next == r->places.count) {
        r->next = 0;
        r->phase = REBUILD_RESTORE;
        return STEP_MORE;
    }
    place = &r->places.at[r->next];
    step = enter_box(r, place, 0, e);
    if (step == STEP_WAIT)
        return step;
    r->next++;
    if (step == STEP_ERROR) {
        if (e->class == ERROR_NOT_FOUND)
            return STEP_MORE; /* deleted meanwhile */
        log_write(log_of(r), LOG_LEVEL_ERROR, "Couldn't open mailbox '%s': %s", place->vname, e->admin);
        r->skipped = true;
        return STEP_MORE;
    }
    ret = mend_box(r, r->box, e);
    leave_box(r);
    return ret < 0 ? STEP_ERROR : STEP_MORE;
}

/* ---- messages that no mailbox has ---- */

static bool is_orphan(const struct mdbox_rebuild *r, const struct message *m)
{
    return m->count == 0 && !m->extra && !(m->known && (m->where.ref == 0 || r->skipped));
}

static bool place_of(struct mdbox_rebuild *r, const char *name, struct mailbox_place *out)
{
    struct mail_namespace *ns;

    for (ns = mail_user_namespaces(r->user); ns != NULL; ns = ns->next)
        if (ns->alias_for == NULL && !ns->unusable && ns->storage->at.driver == &mdbox_driver &&
            mdbox_storage_is_of(r->storage, &ns->storage->at))
            break;
    if (ns == NULL || name == NULL || !mailbox_name_storable(ns->storage, name))
        return false;
    *out = (struct mailbox_place){ns, mailbox_vname_of(ns, r->arena, name), name};
    return true;
}

/* Appends all orphans of the same mailbox as the first one. */
static int restore(struct mdbox_rebuild *r, struct mailbox *box, const char *name, struct error *e)
{
    struct mdbox *m = box->data;
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    int ret = mdbox_init_mailbox(m, e);

    for (size_t i = r->next; ret == 0 && i < r->found.count; i++) {
        struct message *message = &r->found.at[i];

        if (!is_orphan(r, message) || (message->mailbox == NULL ? name != NULL : name == NULL || strcmp(message->mailbox, name) != 0))
            continue;
        mdbox_append_record(m, batch, index_batch_append(batch, 0, 0), message->where.uid, (uint32_t)time(NULL), message->guid);
    }
    if (ret == 0)
        ret = index_commit_locked(box->index, batch, NULL, e);
    for (size_t i = r->next; ret == 0 && i < r->found.count; i++) {
        struct message *message = &r->found.at[i];

        if (is_orphan(r, message) && (message->mailbox == NULL ? name == NULL : name != NULL && strcmp(message->mailbox, name) == 0))
            message->count = 1;
    }
    arena_free(arena);
    if (ret == 0)
        mailbox_wake_watches(box, NULL);
    return ret;
}

static enum step restore_orphans(struct mdbox_rebuild *r, struct error *e)
{
    struct mailbox_place place;
    const char *name;
    enum step step;
    int ret;

    while (r->next < r->found.count && !is_orphan(r, &r->found.at[r->next]))
        r->next++;
    if (r->next == r->found.count) {
        r->phase = REBUILD_FINISH;
        return STEP_MORE;
    }
    name = r->found.at[r->next].mailbox;
    step = place_of(r, name, &place) ? enter_box(r, &place, MAILBOX_OPEN_CREATE, e) : STEP_ERROR;
    if (step == STEP_ERROR && place_of(r, "INBOX", &place))
        step = enter_box(r, &place, MAILBOX_OPEN_CREATE, e);
    if (step != STEP_DONE)
        return step;
    ret = restore(r, r->box, name, e);
    leave_box(r);
    return ret < 0 ? STEP_ERROR : STEP_MORE;
}

/* ---- the end ---- */

static enum step finish(struct mdbox_rebuild *r, struct error *e)
{
    struct mdbox_storage *s = r->storage;
    struct mdbox_change change;

    /* Before its count becomes 0, and a purge may take it. */
    for (size_t i = 0; i < r->found.count; i++)
        if (r->found.at[i].extra && r->found.at[i].count == 0 && mdbox_disown(s, &r->found.at[i].where, e) < 0)
            return STEP_ERROR;
    mdbox_change_begin(&change, s->map, r->arena, true);
    if (r->highest != mdbox_map_highest_file_id(s->map))
        mdbox_change_highest_file_id(&change, r->highest);
    mdbox_change_rebuild_count(&change, s->corrupted_count + 1 > mdbox_map_rebuild_count(s->map)
                                            ? s->corrupted_count + 1 : mdbox_map_rebuild_count(s->map) + 1);
    for (size_t i = 0; i < r->lost.count; i++)
        mdbox_change_expunge(&change, r->lost.at[i]);
    for (size_t i = 0; i < r->found.count; i++) {
        const struct message *m = &r->found.at[i];
        unsigned count = r->skipped && m->known && m->where.ref > m->count ? m->where.ref : m->count;

        if (count != m->where.ref)
            mdbox_change_set_ref(&change, m->where.uid, (uint16_t)count);
    }
    mdbox_change_clear_fscked(&change);
    if (mdbox_change_commit(&change, NULL, e) < 0 || mdbox_map_confirm(s->map, e) < 0)
        return STEP_ERROR;
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
            step = list_files(r, e);
            break;
        case REBUILD_FILES:
            step = scan_files(r, e);
            break;
        case REBUILD_MATCH:
            step = match(r, e);
            break;
        case REBUILD_BOXES:
            step = mend_boxes(r, e);
            break;
        case REBUILD_RESTORE:
            step = restore_orphans(r, e);
            break;
        default:
            step = finish(r, e);
        }
    } while (step == STEP_MORE && !budget_spent(budget, 10));
    return step;
}
