/* losses.c - references that messages of a mailbox give up (dbox-format 3.6): summed per map UID, since copies in one mailbox
 * share it. The map is locked, and confirmed by the caller when the mailbox's records are gone too. */
#include "store/mdbox/mdbox.h"

#include <stdlib.h>

void mdbox_losses_add(struct mdbox_losses *l, const struct mdbox_record *rec)
{
    if (rec->has_guid && rec->map_uid != 0)
        VEC_PUSH(l, ((struct mdbox_loss){rec->map_uid, 1}));
}

static int compare(const void *x, const void *y)
{
    const struct mdbox_loss *a = x, *b = y;

    return a->map_uid < b->map_uid ? -1 : a->map_uid > b->map_uid;
}

static void sum(struct mdbox_losses *l)
{
    size_t kept = 0;

    if (l->count > 1)
        qsort(l->at, l->count, sizeof(*l->at), compare);
    for (size_t i = 0; i < l->count; i++) {
        if (kept > 0 && l->at[kept - 1].map_uid == l->at[i].map_uid)
            l->at[kept - 1].count++;
        else
            l->at[kept++] = l->at[i];
    }
    l->count = kept;
}

int mdbox_losses_lower(struct mdbox *m, struct mdbox_losses *l, struct arena *arena, struct error *e)
{
    const struct log *log = mail_user_log(m->box->user);
    struct mdbox_change change;
    struct mdbox_map_record rec;
    bool any = false;

    sum(l);
    mdbox_change_begin(&change, m->storage->map, arena, false);
    for (size_t i = 0; i < l->count; i++) {
        struct mdbox_loss *loss = &l->at[i];

        if (!mdbox_map_get(m->storage->map, loss->map_uid, &rec)) {
            mdbox_storage_corrupted(m->storage, log, "refcount update lost map_uid=%u", loss->map_uid);
            loss->count = 0;
        } else if (loss->count > rec.ref) {
            mdbox_storage_corrupted(m->storage, log, "map_uid=%u refcount too low", loss->map_uid);
            loss->count = rec.ref;
        }
        if (loss->count > 0)
            mdbox_change_ref(&change, loss->map_uid, -(int)loss->count);
        any = any || loss->count > 0;
    }
    return any ? mdbox_change_commit(&change, NULL, e) : 0;
}

void mdbox_losses_raise(struct mdbox *m, const struct mdbox_losses *l, struct arena *arena)
{
    struct mdbox_change change;
    struct error e;

    mdbox_change_begin(&change, m->storage->map, arena, false);
    for (size_t i = 0; i < l->count; i++)
        if (l->at[i].count > 0)
            mdbox_change_ref(&change, l->at[i].map_uid, (int)l->at[i].count);
    if (mdbox_change_commit(&change, NULL, &e) < 0 || mdbox_storage_confirm(m->storage, &e) < 0)
        log_error_value(mail_user_log(m->box->user), &e);
}
