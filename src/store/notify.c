/* notify.c - the one place that plugins hear of changes from (notify.h).
 *
 * A commit's batch is taken apart by messages before it is carried out; what listeners say of each is kept with its UID, and told
 * for those that the commit did not leave alone. */
#include "store/notify.h"

#include "store/internal.h"

#include <stdlib.h>

static const struct notify_listener *const listeners[] = {&mail_log_listener, &notify_status_listener, &push_notification_listener};
enum { LISTENERS = sizeof(listeners) / sizeof(listeners[0]) };

struct notify {
    void *selves[LISTENERS];       /* NULL: that one does not listen */
    unsigned wants;
};

struct wish {              /* one part of the batch about one message */
    uint32_t uid;
    uint32_t part;
};

struct note {
    uint32_t uid;
    unsigned listener;
    size_t end;            /* of its text: it begins where the one before ends */
};

struct notify_notes {
    struct mailbox *box;   /* referenced */
    struct mailbox_view *view;       /* NULL: the mailbox is deleted */
    bool moved;            /* expunged because they were moved: shown without \Recent, as the real server does */
    struct arena *arena;
    VEC(struct index_batch_part) parts;
    VEC(struct wish) wishes;
    size_t next;           /* wish to look at */
    VEC(struct note) notes;
    struct buffer text;
};

/* ---- users ------------------------------------------------------------------------------------------------------ */

int notify_open(struct mail_user *user, struct notify **out, struct error *e)
{
    struct notify *n;
    bool any = false;

    *out = NULL;
    if (!mail_user_plugin(user, "notify"))
        return 0;
    n = *out = mem_zero(1, sizeof(*n));
    for (size_t i = 0; i < LISTENERS; i++) {
        if (listeners[i]->open(user, &n->selves[i], e) < 0) {
            notify_close(user, out);
            return -1;
        }
        any = any || n->selves[i] != NULL;
        if (n->selves[i] != NULL)
            n->wants |= listeners[i]->wants(n->selves[i]);
    }
    if (!any)
        notify_close(user, out);
    return 0;
}

void notify_close(struct mail_user *user, struct notify **notify)
{
    for (size_t i = 0; *notify != NULL && i < LISTENERS; i++)
        if ((*notify)->selves[i] != NULL)
            listeners[i]->close(user, (*notify)->selves[i]);
    mem_free(*notify);
    *notify = NULL;
}

void notify_flush(struct mail_user *user)
{
    for (size_t i = 0; user->notify != NULL && i < LISTENERS; i++)
        if (user->notify->selves[i] != NULL && listeners[i]->flush != NULL)
            listeners[i]->flush(user, user->notify->selves[i]);
}

/* NULL: nothing is told of this mailbox. */
static struct notify *notify_of(const struct mailbox *box)
{
    return box->driver->origin != NULL ? NULL : box->user->notify;
}

/* ---- changes of messages ---------------------------------------------------------------------------------------- */

static void add_wishes(void *arg, const struct index_batch_part *part)
{
    struct notify_notes *n = arg;
    struct index_record rec;

    if ((n->box->user->notify->wants & (part->kind == INDEX_PART_EXPUNGE ? NOTIFY_EXPUNGES : NOTIFY_FLAGS)) == 0)
        return;
    VEC_PUSH(&n->parts, *part);
    for (uint32_t uid = part->first; uid <= part->last && index_get_from(n->box->index, uid, &rec) && rec.uid <= part->last;
         uid = rec.uid + 1)
        VEC_PUSH(&n->wishes, ((struct wish){rec.uid, (uint32_t)n->parts.count - 1}));
}

static int by_message(const void *a, const void *b)
{
    const struct wish *x = a, *y = b;

    if (x->uid != y->uid)
        return x->uid < y->uid ? -1 : 1;
    return x->part < y->part ? -1 : x->part > y->part;
}

static struct notify_notes *new_notes(struct mailbox *box, struct mailbox_view *view)
{
    struct notify_notes *n = mem_zero(1, sizeof(*n));

    n->box = mailbox_ref(box);
    n->view = view;
    n->arena = arena_new();
    return n;
}

struct notify_notes *notify_changes(struct mailbox_view *view, const struct index_batch *batch, bool moved)
{
    struct notify_notes *n;

    if (notify_of(view->box) == NULL || view->read_only)
        return NULL;
    n = new_notes(view->box, view);
    n->moved = moved;
    index_batch_each(batch, add_wishes, n);
    if (n->wishes.count == 0) {
        notify_notes_free(&n);
        return NULL;
    }
    qsort(n->wishes.at, n->wishes.count, sizeof(*n->wishes.at), by_message);
    return n;
}

struct notify_notes *notify_deletion(struct mailbox *box)
{
    struct notify_notes *n;

    if (notify_of(box) == NULL)
        return NULL;
    n = new_notes(box, NULL);
    add_wishes(n, &(struct index_batch_part){.kind = INDEX_PART_EXPUNGE, .first = 1, .last = UINT32_MAX});
    return n;
}

static void load_state(const struct notify_notes *n, const struct index_record *rec, struct notify_state *state)
{
    state->flags = private_flags_of(n->box, rec->uid, rec->flags & INDEX_FLAGS_CLIENT);
    state->recent = !n->moved && (rec->uid >= index_first_recent(n->box->index) || (n->view != NULL && mailbox_view_recent(n->view, rec->uid)));
    for (unsigned i = 0, count = index_keyword_count(n->box->index); i < count; i++)
        if (index_keyword_has(rec->keywords, i))
            VEC_PUSH(&state->keywords, slice_from_str(arena_strdup(n->arena, index_keyword_name(n->box->index, i))));
}

bool notify_has_name(const struct slice *names, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal_nocase(names[i], name))
            return true;
    return false;
}

/* True: something is different. */
static bool change_keywords(struct notify_state *state, const struct index_batch_part *part)
{
    size_t kept = 0, before = state->keywords.count;
    bool changed = false;

    for (size_t i = 0; i < before && part->modify != INDEX_ADD; i++)
        if (notify_has_name(part->names, part->count, state->keywords.at[i]) == (part->modify == INDEX_REPLACE))
            state->keywords.at[kept++] = state->keywords.at[i];
    if (part->modify != INDEX_ADD) {
        changed = kept != before;
        state->keywords.count = kept;
    }
    for (size_t i = 0; i < part->count && part->modify != INDEX_REMOVE; i++) {
        if (notify_has_name(state->keywords.at, state->keywords.count, part->names[i]))
            continue;
        VEC_PUSH(&state->keywords, part->names[i]);
        changed = true;
    }
    return changed;
}

static void add_notes(struct notify_notes *n, const struct notify_change *change)
{
    const struct notify *notify = n->box->user->notify;

    for (unsigned i = 0; i < LISTENERS; i++) {
        if (notify->selves[i] == NULL || (listeners[i]->wants(notify->selves[i]) & (NOTIFY_FLAGS | NOTIFY_EXPUNGES)) == 0)
            continue;
        if (listeners[i]->note(notify->selves[i], change, &n->text))
            VEC_PUSH(&n->notes, ((struct note){change->uid, i, n->text.size}));
    }
}

/* All wishes about one message. */
static void look_at(struct notify_notes *n, const struct wish *wish, size_t count)
{
    struct notify_state before = {0}, flagged, after;
    struct notify_change change = {.box = n->box, .uid = wish[0].uid, .before = &before, .flagged = &flagged, .after = &after,
                                   .autoexpunge = n->view != NULL && n->view->autoexpunge};
    const struct index_batch_part *part;
    struct index_record rec;
    struct error ignored;

    if (!index_get(n->box->index, wish[0].uid, &rec))
        return;
    if (mail_open_uid(n->box, wish[0].uid, &change.mail, &ignored) < 0)
        change.mail = NULL;
    load_state(n, &rec, &before);
    flagged = before;
    after = (struct notify_state){0};
    for (size_t i = 0; i < count; i++) {
        part = &n->parts.at[wish[i].part];
        if (part->kind == INDEX_PART_FLAGS)
            flagged.flags = (uint8_t)((flagged.flags & ~part->remove) | part->add) & INDEX_FLAGS_CLIENT;
    }
    change.flags = flagged.flags != before.flags;
    after.flags = flagged.flags;
    after.recent = flagged.recent;
    for (size_t i = 0; i < before.keywords.count; i++)
        VEC_PUSH(&after.keywords, before.keywords.at[i]);
    for (size_t i = 0; i < count; i++) {
        part = &n->parts.at[wish[i].part];
        if (part->kind == INDEX_PART_KEYWORDS)
            change.keywords = change_keywords(&after, part) || change.keywords;
        change.expunged = part->kind == INDEX_PART_EXPUNGE;
    }
    if (change.flags || change.keywords || change.expunged)
        add_notes(n, &change);
    if (change.mail != NULL)
        mail_close(&change.mail);
    VEC_FREE(&before.keywords);
    VEC_FREE(&after.keywords);
}

enum step notify_prepare(struct notify_notes *n, struct budget *budget)
{
    while (n != NULL && n->next < n->wishes.count) {
        const struct wish *wish = &n->wishes.at[n->next];
        size_t count = 1;

        while (n->next + count < n->wishes.count && wish[count].uid == wish[0].uid)
            count++;
        look_at(n, wish, count);
        n->next += count;
        if (budget_spent(budget, 1) && n->next < n->wishes.count)
            return STEP_MORE;
    }
    return STEP_DONE;
}

void notify_tell(const struct notify_notes *n, const struct index_ranges *failed)
{
    bool begun[LISTENERS] = {false};
    const struct notify *notify;
    size_t start = 0;

    if (n == NULL)
        return;
    notify = n->box->user->notify;
    for (size_t i = 0; i < n->notes.count; start = n->notes.at[i++].end) {
        const struct note *note = &n->notes.at[i];
        const struct notify_listener *l = listeners[note->listener];
        void *self = notify->selves[note->listener];

        if (failed != NULL && index_ranges_has(failed, note->uid))
            continue;
        if (!begun[note->listener] && l->begin != NULL)
            l->begin(self, n->box);
        begun[note->listener] = true;
        l->tell(self, n->box, slice_of(n->text.at + start, note->end - start));
    }
    for (unsigned i = 0; i < LISTENERS; i++)
        if (begun[i] && listeners[i]->end != NULL)
            listeners[i]->end(notify->selves[i], n->box);
}

void notify_notes_free(struct notify_notes **notes)
{
    struct notify_notes *n = *notes;

    *notes = NULL;
    if (n == NULL)
        return;
    VEC_FREE(&n->parts);
    VEC_FREE(&n->wishes);
    VEC_FREE(&n->notes);
    buffer_free(&n->text);
    arena_free(n->arena);
    mailbox_close(&n->box);
    mem_free(n);
}

/* ---- saves ------------------------------------------------------------------------------------------------------ */

bool notify_wants_uids(const struct mail_user *user)
{
    return user->notify != NULL && (user->notify->wants & NOTIFY_SAVES) != 0;
}

static bool hears_saves(const struct notify *notify, size_t i)
{
    return notify->selves[i] != NULL && (listeners[i]->wants(notify->selves[i]) & NOTIFY_SAVES) != 0;
}

void notify_saves_begin(struct mailbox *box)
{
    const struct notify *notify = notify_of(box);

    for (size_t i = 0; notify != NULL && i < LISTENERS; i++)
        if (hears_saves(notify, i) && listeners[i]->begin != NULL)
            listeners[i]->begin(notify->selves[i], box);
}

void notify_saved(const struct staged *staged, const char *from, uint8_t private_flags)
{
    const struct notify *notify = notify_of(staged->box);
    struct notify_state state = {.flags = (uint8_t)((staged->meta.flags | private_flags) & INDEX_FLAGS_CLIENT)};

    if (notify == NULL)
        return;
    for (size_t i = 0; i < staged->meta.keyword_count; i++)
        VEC_PUSH(&state.keywords, staged->meta.keywords[i]);
    for (size_t i = 0; i < LISTENERS; i++)
        if (hears_saves(notify, i))
            listeners[i]->saved(notify->selves[i], staged, from, &state);
    VEC_FREE(&state.keywords);
}

void notify_saves_end(struct mailbox *box)
{
    const struct notify *notify = notify_of(box);

    for (size_t i = 0; notify != NULL && i < LISTENERS; i++)
        if (hears_saves(notify, i) && listeners[i]->end != NULL)
            listeners[i]->end(notify->selves[i], box);
}

/* ---- mailboxes -------------------------------------------------------------------------------------------------- */

void notify_mailbox(const struct mailbox_place *place, enum notify_event event, const struct mailbox_place *to)
{
    const struct notify *notify = place->ns->user->notify;

    for (size_t i = 0; notify != NULL && i < LISTENERS; i++)
        if (notify->selves[i] != NULL)
            listeners[i]->mailbox(notify->selves[i], place, event, to);
}
