/* save.c - staging: a message is written to a file of its own under a temporary name, a copy is a reference (dbox-format 3.4,
 * 3.5).
 *
 * Only when all of it is there, and others are to see it, is a file chosen (publish.c): so a slow client holds no lock, its
 * message's size is known, and what it leaves behind is a .temp file that is no part of the store. A message that gets a file
 * of its own keeps the one it was written to. */
#include "store/attachment.h"
#include "store/mdbox/mdbox.h"
#include "store/stage.h"

#include <time.h>
#include <unistd.h>

static struct mdbox *mdbox_of(const struct staged *s)
{
    return s->box->data;
}

static struct mdbox_staged *new_staged(struct staged *s)
{
    struct mdbox_staged *d = ARENA_NEW(s->arena, struct mdbox_staged);

    d->fd = -1;
    s->data = d;
    s->fd = -1;
    d->save_date = (uint32_t)(s->meta.save_date != 0 ? s->meta.save_date : (int64_t)time(NULL));
    return d;
}

static void set_guid(struct staged *s, struct mdbox_staged *d)
{
    struct buffer hex = {0};

    if (s->meta.guid != NULL) {
        d->guid = s->meta.guid;
        store_guid_of_text(slice_from_str(d->guid), d->guid128);
        return;
    }
    store_guid_new(d->guid128);
    text_hex_encode(&hex, slice_of(d->guid128, 16));
    d->guid = arena_strdup(s->arena, buffer_cstr(&hex));
    buffer_free(&hex);
}

int mdbox_stage(struct staged *s, struct error *e)
{
    struct mdbox_storage *storage = mdbox_of(s)->storage;
    struct mdbox_staged *d = new_staged(s);

    d->fd = dbox_temp_create(storage->dir, storage->path, &storage->modes, s->arena, &d->temp, e);
    return d->fd < 0 ? stage_space_text(e) : dbox_stage_begin(s, d->fd, &d->in, e);
}

int mdbox_stage_write(struct staged *s, struct slice bytes, struct error *e)
{
    return stage_writer_put(((struct mdbox_staged *)s->data)->in.writer, bytes, e);
}

int mdbox_stage_finish(struct staged *s, struct error *e)
{
    struct mdbox_staged *d = s->data;
    struct stat st;

    set_guid(s, d);
    if (dbox_stage_end(s, d->fd, &d->in, d->guid, s->box->place.name, e) < 0)
        return -1;
    if (fstat(d->fd, &st) < 0)
        return error_sys(e, "fstat", d->temp);
    d->end = (uint64_t)st.st_size;
    if (d->end > UINT32_MAX)
        return error_set(e, ERROR_LIMIT, "Message is too large");
    d->pop3_flags = (uint8_t)((s->meta.pop3_uidl != NULL ? MDBOX_HAS_POP3_UIDL : 0) |
                              (s->meta.pop3_order != 0 ? MDBOX_HAS_POP3_ORDER : 0));
    return 0;
}

int mdbox_stage_read(const struct staged *s, struct arena *arena, struct mail_file *out, struct error *e)
{
    const struct mdbox_staged *d = s->data;
    struct dbox_message m;

    if (d == NULL || d->reference || d->fd < 0)
        return error_set(e, ERROR_BUG, "no staged bytes to read");
    m = (struct dbox_message){.body = d->in.header_size + DBOX_MESSAGE_HEADER_SIZE, .size = d->in.stored};
    out->fd = -1;
    out->source = dbox_message_source(d->fd, &m, arena);
    out->size = m.size;
    out->ext_refs = d->in.refs;
    return 0;
}

/* Of a published one only the descriptor is left. */
void mdbox_discard(struct staged *s)
{
    struct mdbox_staged *d = s->data;
    struct mdbox_storage *storage = mdbox_of(s)->storage;
    struct error e;

    if (d == NULL)
        return;
    s->data = NULL;
    stage_writer_free(&d->in.writer);
    if (d->temp != NULL && os_unlink(storage->dir, d->temp, &e) < 0 && e.class != ERROR_NOT_FOUND)
        log_error_value(mail_user_log(s->box->user), &e);
    if (d->fd >= 0)
        close(d->fd);
    if (d->in.refs != NULL)
        attachment_refs_unlink(s->box->user, d->in.refs, NULL);
}

/* ---- copies ---- */

/* One more reference to the same message, if nothing else than its flags is to be different. */
int mdbox_stage_copy(struct staged *s, struct mailbox *from_box, uint32_t uid, struct error *e)
{
    struct mdbox *to = mdbox_of(s), *from = from_box->data;
    struct mdbox_map_record where;
    struct mdbox_header header;
    struct mdbox_record rec;
    struct mdbox_staged *d;
    unsigned char wanted[16];
    struct buffer hex = {0};

    (void)e;
    if (from_box->driver != s->box->driver || from->storage != to->storage || s->meta.pop3_uidl != NULL ||
        s->meta.pop3_order != 0)
        return 0;
    if (!mdbox_record_get(from, uid, &rec) || !rec.has_guid || rec.map_uid == 0 || !mdbox_header_get(from, &header) ||
        header.map_uid_validity != mdbox_map_uid_validity(to->storage->map) ||
        !mdbox_map_get(to->storage->map, rec.map_uid, &where))
        return 0; /* reading it tells what is wrong */
    if (s->meta.guid != NULL) {
        store_guid_of_text(slice_from_str(s->meta.guid), wanted);
        if (memcmp(wanted, rec.guid, 16) != 0)
            return 0;
    }
    d = new_staged(s);
    d->reference = true;
    d->map_uid = rec.map_uid;
    memcpy(d->guid128, rec.guid, 16);
    d->pop3_flags = header.flags & (MDBOX_HAS_POP3_UIDL | MDBOX_HAS_POP3_ORDER);
    if (mdbox_highest_uidl(from) < uid)
        d->pop3_flags &= (uint8_t)~MDBOX_HAS_POP3_UIDL;
    text_hex_encode(&hex, slice_of(rec.guid, 16));
    d->guid = arena_strdup(s->arena, buffer_cstr(&hex));
    buffer_free(&hex);
    return 1;
}

int mdbox_stage_again(struct staged *s, const struct staged *first, struct error *e)
{
    (void)s, (void)first, (void)e;
    return 0; /* a reference needs a message that is in the map: this one may never get there */
}
