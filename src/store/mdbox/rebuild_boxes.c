/* rebuild_boxes.c - the mailboxes after the files were read (dbox-format 3.9): their records are found again by GUID, what is
 * nowhere is expunged; then messages that no mailbox has go to the one they were saved to. Only records that changed are
 * written. */
#include "store/mdbox/rebuild.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define BASE_NEXT_UID 28 /* index-format 2.1 */

static void leave_box(struct mdbox_rebuild *r)
{
    if (r->box != NULL && index_locked(r->box->index))
        index_unlock(r->box->index);
    mailbox_close(&r->box);
}

/* ---- the mailboxes ---- */

static struct rebuild_message *find_uid(struct mdbox_rebuild *r, uint32_t uid)
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
static struct rebuild_message *find_guid(struct mdbox_rebuild *r, const unsigned char guid[16], uint32_t map_uid)
{
    size_t low = 0, high = r->found.count;
    struct rebuild_message *first = NULL;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (memcmp(r->found.at[r->by_guid[mid]].guid, guid, 16) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < r->found.count; low++) {
        struct rebuild_message *m = &r->found.at[r->by_guid[low]];

        if (memcmp(m->guid, guid, 16) != 0)
            break;
        if (first == NULL)
            first = m;
        if (!m->extra && m->where.uid == map_uid)
            return m;
    }
    return first;
}

static struct rebuild_message *find_message(struct mdbox_rebuild *r, const struct mdbox_record *rec, bool same_map)
{
    struct rebuild_message *m = rec->has_guid ? find_guid(r, rec->guid, rec->map_uid) : NULL;

    if (m != NULL || !same_map || rec->map_uid == 0)
        return m;
    m = find_uid(r, rec->map_uid);
    return m != NULL && m->moved && rec->has_guid ? NULL : m; /* its size alone does not make it this one */
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
        const struct rebuild_message *message = id.size < 16 ? NULL : find_guid(r, id.at, where.size < 8 ? 0 : bytes_le32(where.at));
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
    VEC(struct rebuild_message *) counted = {0};
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
        struct rebuild_message *message;

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
            if (!message->known) /* a repair may have changed its bytes: what is cached of them may be wrong */
                index_batch_forget_cached(box->index, batch, rec.uid);
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

enum step mdbox_rebuild_mend_boxes(struct mdbox_rebuild *r, struct error *e)
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
        log_write(mdbox_rebuild_log(r), LOG_LEVEL_ERROR, "Couldn't open mailbox '%s': %s", place->vname, e->admin);
        r->skipped = true;
        return STEP_MORE;
    }
    ret = mend_box(r, r->box, e);
    leave_box(r);
    return ret < 0 ? STEP_ERROR : STEP_MORE;
}

/* ---- messages that no mailbox has ---- */

static bool is_orphan(const struct mdbox_rebuild *r, const struct rebuild_message *m)
{
    return m->count == 0 && !m->extra && !(m->known && (m->where.ref == 0 || r->skipped)) && !mdbox_rebuild_is_given(r, m->guid);
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
        struct rebuild_message *message = &r->found.at[i];

        if (!is_orphan(r, message) || (message->mailbox == NULL ? name != NULL : name == NULL || strcmp(message->mailbox, name) != 0))
            continue;
        mdbox_append_record(m, batch, index_batch_append(batch, 0, 0), message->where.uid, (uint32_t)time(NULL), message->guid);
    }
    if (ret == 0)
        ret = index_commit_locked(box->index, batch, NULL, e);
    for (size_t i = r->next; ret == 0 && i < r->found.count; i++) {
        struct rebuild_message *message = &r->found.at[i];

        if (is_orphan(r, message) && (message->mailbox == NULL ? name == NULL : name != NULL && strcmp(message->mailbox, name) == 0))
            message->count = 1;
    }
    arena_free(arena);
    if (ret == 0)
        mailbox_wake_watches(box, NULL);
    return ret;
}

enum step mdbox_rebuild_restore_orphans(struct mdbox_rebuild *r, struct error *e)
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
