/* read.c - from a UID through the map to the bytes, and what the metadata say (dbox-format 3.2).
 *
 * A purge may move a message between our look at the map and our opening of the file: then the map is read again, once more
 * and no longer. What is not found after that is a contradiction, which the next sync mends. */
#include "store/mdbox/mdbox.h"

#include <unistd.h>

#define TRIES 3

struct opened {
    struct mdbox_storage *storage;
    struct mdbox_file *file;
    struct dbox_message m;
};

/* The mailbox's records mean nothing if they were made for another map. */
static int check_validity(struct mdbox *m, struct error *e)
{
    struct mdbox_storage *s = m->storage;
    struct mdbox_header h;
    uint32_t now;

    mdbox_header_get(m, &h);
    now = mdbox_map_uid_validity(s->map);
    if (h.map_uid_validity == now && now != 0)
        return 0;
    if (mdbox_map_refresh(s->map, e) == STEP_ERROR)
        return -1;
    now = mdbox_map_uid_validity(s->map);
    if (h.map_uid_validity == now && now != 0)
        return 0;
    if (!s->corrupted)
        mdbox_storage_corrupted(s, mail_user_log(m->box->user), "mdbox: map uidvalidity mismatch (%u vs %u)",
                                h.map_uid_validity, now);
    return error_set(e, ERROR_TEMPORARY, "mdbox: map uidvalidity mismatch (%u vs %u)", h.map_uid_validity, now);
}

static int lost(struct mdbox *m, uint32_t uid, uint32_t map_uid, struct error *e)
{
    struct index_record rec;
    struct error ignored;

    if (index_refresh(m->box->index, &ignored) == STEP_DONE && index_get(m->box->index, uid, &rec))
        mdbox_storage_corrupted(m->storage, mail_user_log(m->box->user), "Unexpectedly lost %s uid=%u map_uid=%u",
                                m->box->place.vname, uid, map_uid);
    return store_message_gone(uid, e);
}

static int open_message(struct mdbox *m, uint32_t uid, struct opened *o, struct error *e)
{
    struct mdbox_storage *s = m->storage;
    struct mdbox_map_record where;
    struct mdbox_record rec;

    if (!mdbox_record_get(m, uid, &rec))
        return store_message_gone(uid, e);
    if (check_validity(m, e) < 0)
        return -1;
    for (int tries = 0; tries < TRIES; tries++) {
        if (tries > 0 && mdbox_map_refresh(s->map, e) == STEP_ERROR)
            return -1;
        if (!mdbox_map_get(s->map, rec.map_uid, &where))
            continue;
        if (where.file_id == 0) {
            if (!s->corrupted)
                mdbox_storage_corrupted(s, mail_user_log(m->box->user), "file_id=0 for map_uid=%u", rec.map_uid);
            break;
        }
        if (mdbox_file_get(s, where.file_id, &o->file, e) < 0) {
            if (e->class == ERROR_NOT_FOUND)
                continue;
            o->m.offset = where.offset;
            if (e->class == ERROR_CORRUPT)
                mdbox_storage_set_corrupted(s);
            return -1;
        }
        o->storage = s;
        if (dbox_message_at(&o->file->file, where.offset, &o->m, e) == 0)
            return 0;
        mdbox_file_put(s, &o->file);
        if (e->class != ERROR_CORRUPT)
            return -1;
        if (tries + 1 == TRIES) {
            mdbox_storage_set_corrupted(s);
            o->m.offset = where.offset;
            return -1;
        }
    }
    return lost(m, uid, rec.map_uid, e);
}

int mdbox_read(struct mailbox *box, uint32_t uid, struct arena *arena, struct mail_file *out, struct error *e)
{
    struct mdbox *m = box->data;
    struct dbox_metadata meta = {0};
    struct opened *o = ARENA_NEW(arena, struct opened);
    struct mdbox_record rec;
    struct error damage;

    if (open_message(m, uid, o, e) < 0)
        return e->class == ERROR_CORRUPT ? dbox_broken(mail_user_log(box->user), uid, o->m.offset, e) : -1;
    /* A body that is whole is shown even when what stands behind it is not. */
    if (dbox_message_metadata(&o->file->file, &o->m, arena, &meta, &damage) < 0) {
        if (damage.class != ERROR_CORRUPT) {
            *e = damage;
            mdbox_file_put(o->storage, &o->file);
            return error_context(e, "UID=%u: ", uid);
        }
        mdbox_storage_corrupted_file(o->storage, mail_user_log(box->user), &damage);
    }
    out->fd = o->file->file.fd;
    out->data = o;
    out->source = dbox_message_source(out->fd, &o->m, arena);
    out->size = o->m.size;
    out->internal_date = meta.has_received ? (time_t)meta.received : o->file->file.st.st_ctime;
    out->save_date = mdbox_record_get(m, uid, &rec) ? (time_t)rec.save_date : 0;
    out->path = arena_strdup(arena, o->file->file.path);
    out->ext_refs = meta.attachments;
    return 0;
}

void mdbox_read_end(struct mail_file *file)
{
    struct opened *o = file->data;

    file->fd = -1;
    file->data = NULL;
    if (o != NULL)
        mdbox_file_put(o->storage, &o->file);
}

/* ---- facts ---- */

/* What the index says without a look at the file: true. */
static bool known_here(struct mdbox *m, uint32_t uid, enum driver_item item, struct driver_value *out)
{
    struct mdbox_header h;
    struct mdbox_record rec;

    switch (item) {
    case ITEM_SAVE_DATE:
        if (!mdbox_record_get(m, uid, &rec) || rec.save_date == 0)
            return false;
        out->number = rec.save_date;
        return true;
    case ITEM_POP3_ORDER:
        return mdbox_header_get(m, &h) && (h.flags & MDBOX_HAS_POP3_ORDER) == 0;
    case ITEM_POP3_UIDL:
        return mdbox_header_get(m, &h) && ((h.flags & MDBOX_HAS_POP3_UIDL) == 0 || uid > mdbox_highest_uidl(m));
    default:
        return false;
    }
}

static void take_item(const struct opened *o, enum driver_item item, const struct dbox_metadata *meta, struct driver_value *out)
{
    switch (item) {
    case ITEM_GUID:
        out->text = meta->guid;
        out->known = meta->guid != NULL && *meta->guid != '\0';
        break;
    case ITEM_INTERNAL_DATE:
        out->number = meta->has_received ? (uint64_t)meta->received : (uint64_t)o->file->file.st.st_ctime;
        break;
    case ITEM_SAVE_DATE:
        out->number = (uint64_t)o->file->file.st.st_ctime;
        break;
    case ITEM_SIZE_PHYSICAL:
        out->number = meta->has_physical ? meta->physical : o->m.size;
        break;
    case ITEM_SIZE_VIRTUAL:
        out->number = meta->virtual_size;
        out->known = meta->has_virtual;
        break;
    case ITEM_POP3_UIDL:
        out->text = meta->pop3_uidl;
        break;
    case ITEM_POP3_ORDER:
        out->number = meta->pop3_order;
        break;
    default:
        break;
    }
}

static uint64_t refcount_of(struct mdbox *m, uint32_t uid)
{
    struct mdbox_map_record where;
    struct mdbox_record rec;

    return mdbox_record_get(m, uid, &rec) && mdbox_map_get(m->storage->map, rec.map_uid, &where) ? where.ref : 0;
}

int mdbox_item(struct mailbox *box, uint32_t uid, enum driver_item item, struct arena *arena, struct driver_value *out,
               struct error *e)
{
    struct mdbox *m = box->data;
    struct dbox_metadata meta;
    struct opened o;
    int r = 0;

    *out = (struct driver_value){.known = true};
    if (known_here(m, uid, item, out))
        return 0;
    if (item == ITEM_REFCOUNT) { /* the map knows it: no file is looked at */
        out->number = refcount_of(m, uid);
        return 0;
    }
    if (open_message(m, uid, &o, e) < 0)
        return -1;
    if (item == ITEM_PATH) {
        out->text = arena_strdup(arena, o.file->file.path);
    } else if (dbox_message_metadata(&o.file->file, &o.m, arena, &meta, e) < 0) {
        if (e->class == ERROR_CORRUPT)
            mdbox_storage_set_corrupted(o.storage);
        r = -1;
    } else {
        take_item(&o, item, &meta, out);
    }
    mdbox_file_put(o.storage, &o.file);
    return r;
}
