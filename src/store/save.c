/* save.c - saving and copying: staged without a lock, durable, then published together (DECISIONS 3.4).
 *
 * The message's own file is made durable before any lock is taken; folder and list once per commit, under the lock; the
 * op is done, and the message may be acknowledged, when all of that is on disk. */
#include "store/internal.h"
#include "store/notify.h"
#include "store/quota/quota.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct save {
    struct staged s;
    bool finished;
    bool moved;                    /* takes no new room */
    uint8_t private_flags;         /* not the message's but this user's (private.c) */
    bool counts;                   /* among what the quota knows to be staged */
    uint64_t size;                 /* as the quota counts */
    const char *from;              /* the mailbox of which it is a copy; NULL = none */
};

static void copy_meta(struct staged *s, const struct mail_meta *meta)
{
    struct slice *keywords;

    s->meta = *meta;
    keywords = meta->keyword_count == 0 ? NULL : ARENA_ARRAY(s->arena, struct slice, meta->keyword_count);
    for (size_t i = 0; i < meta->keyword_count; i++)
        keywords[i] = arena_slice(s->arena, meta->keywords[i]);
    s->meta.keywords = keywords;
    s->meta.guid = meta->guid == NULL ? NULL : arena_strdup(s->arena, meta->guid);
    s->meta.pop3_uidl = meta->pop3_uidl == NULL ? NULL : arena_strdup(s->arena, meta->pop3_uidl);
    s->meta.envelope_sender = meta->envelope_sender == NULL ? NULL : arena_strdup(s->arena, meta->envelope_sender);
}

/* The mailbox that a save really goes to (virtual ones name another): referenced. */
static int open_target(struct mailbox *box, struct mailbox **target, struct error *e)
{
    struct mailbox_place place;

    if (box->driver->save_into == NULL || !box->driver->save_into(box, &place)) {
        *target = mailbox_ref(box);
        return 0;
    }
    return mailbox_open(target, &place, MAILBOX_OPEN_SAVE, e);
}

/* A flag that this user may not set stays off. */
static void filter_flags(struct staged *s)
{
    unsigned rights = mailbox_rights(&s->box->place);
    uint8_t may = 0;

    if ((rights & MAILBOX_RIGHT_SEEN) != 0)
        may |= INDEX_SEEN;
    if ((rights & MAILBOX_RIGHT_TRASH) != 0)
        may |= INDEX_DELETED;
    if ((rights & MAILBOX_RIGHT_WRITE) != 0)
        may |= (uint8_t)~(INDEX_SEEN | INDEX_DELETED);
    else
        s->meta.keyword_count = 0;
    s->meta.flags &= may;
}

static int new_save(struct mailbox *box, const struct mail_meta *meta, struct save **out, struct error *e)
{
    struct mailbox *target;
    struct save *save;

    if (box->gone)
        return mailbox_not_found(&box->place, e);
    const unsigned right = meta->post ? MAILBOX_RIGHT_POST : MAILBOX_RIGHT_INSERT;

    if (mailbox_need(&box->place, right, e) < 0 || open_target(box, &target, e) < 0)
        return -1;
    if (target->read_only || mailbox_need(&target->place, right, e) < 0) {
        if (target->read_only) {
            error_set(e, ERROR_PERMISSION, "Mailbox %s: Mailbox is read-only", box->place.vname);
            error_user(e, "Mailbox is read-only");
        }
        mailbox_close(&target);
        return -1;
    }
    save = mem_zero(1, sizeof(*save));
    save->s.box = target;
    save->s.arena = arena_new();
    save->s.fd = -1;
    copy_meta(&save->s, meta);
    filter_flags(&save->s);
    if (target->private != NULL) {
        save->private_flags = save->s.meta.flags & PRIVATE_FLAGS;
        save->s.meta.flags &= (uint8_t)~PRIVATE_FLAGS;
    }
    *out = save;
    return 0;
}

static void free_save(struct save *save)
{
    mailbox_close(&save->s.box);
    arena_free(save->s.arena);
    mem_free(save);
}

int save_begin(struct mailbox *box, const struct mail_meta *meta, struct save **out, struct error *e)
{
    struct save *save;

    if (new_save(box, meta, &save, e) < 0)
        return -1;
    if (save->s.box->driver->stage(&save->s, e) < 0) {
        save_cancel(&save);
        return -1;
    }
    *out = save;
    return 0;
}

int save_write(struct save *save, struct slice bytes, struct error *e)
{
    return save->s.box->driver->stage_write(&save->s, bytes, e);
}

/* The whole message is known: is there room for it? */
static int ask_quota(struct save *save, uint64_t size, struct error *e)
{
    if (!quota_active(save->s.box))
        return 0;
    if (!save->moved && !save->s.meta.quota_unknown && quota_check(save->s.box, size, save->s.meta.post, e) < 0)
        return -1;
    save->size = size;
    save->counts = true;
    if (!save->moved)
        quota_staged(save->s.box, size, true);
    return 0;
}

int save_finish(struct save *save, struct error *e)
{
    if (save->s.box->driver->stage_finish(&save->s, e) < 0)
        return -1;
    save->finished = true;
    return ask_quota(save, quota_uses_virtual(save->s.box->user) ? save->s.size_virtual : save->s.size_physical, e);
}

void save_cancel(struct save **save_p)
{
    struct save *save = *save_p;

    if (save == NULL)
        return;
    *save_p = NULL;
    if (save->counts && !save->moved)
        quota_staged(save->s.box, save->size, false);
    save->s.box->driver->discard(&save->s);
    free_save(save);
}

uint64_t save_size(const struct save *save)
{
    return save->s.size_physical;
}

/* ---- copies ---- */

int store_message_gone(uint32_t uid, struct error *e)
{
    return error_set(e, ERROR_EXPUNGED, "UID=%u: message is gone", uid);
}

/* Everything of the source that a copy keeps. */
static int source_meta(struct mailbox *from, uint32_t uid, struct arena *arena, struct mail_meta *meta, struct error *e)
{
    struct index_record rec;
    unsigned n = index_keyword_count(from->index);
    struct slice *keywords;

    *meta = (struct mail_meta){0};
    if (!index_get(from->index, uid, &rec))
        return store_message_gone(uid, e);
    meta->flags = private_flags_of(from, uid, rec.flags & INDEX_FLAGS_CLIENT);
    keywords = ARENA_ARRAY(arena, struct slice, n + 1);
    for (unsigned i = 0; i < n; i++)
        if (index_keyword_has(rec.keywords, i))
            keywords[meta->keyword_count++] = slice_from_str(arena_strdup(arena, index_keyword_name(from->index, i)));
    meta->keywords = keywords;
    return 0; /* a link keeps the date; for a copy by content it comes with the file */
}

static int copy_bytes(struct save *save, const struct mime_source *source, struct error *e)
{
    unsigned char *buf = mem_room_new();
    uint64_t at = 0;
    int r = 0;

    for (;;) {
        ssize_t n = source->read(source->arg, at, buf, MEM_ROOM_SIZE, e);

        if (n <= 0) {
            r = n < 0 ? -1 : 0;
            break;
        }
        if ((r = save_write(save, slice_of(buf, (size_t)n), e)) < 0)
            break;
        at += (uint64_t)n;
    }
    mem_room_free(buf);
    return r < 0 ? -1 : save_finish(save, e);
}

static int copy_content(struct save *save, struct mailbox *from, uint32_t uid, struct error *e)
{
    struct mail_file file = {.fd = -1};
    int r;

    if (store_read(from, uid, save->s.arena, &file, e) < 0)
        return -1;
    if (!save->s.meta.has_date) {
        save->s.meta.has_date = true;
        save->s.meta.internal_date = (int64_t)file.internal_date;
    }
    r = save->s.box->driver->stage(&save->s, e);
    if (r == 0)
        r = copy_bytes(save, &file.source, e);
    store_read_end(from, &file);
    return r;
}

/* A link or reference: its size is the source's. */
static int ask_quota_for_copy(struct save *save, struct mailbox *from, uint32_t uid, struct error *e)
{
    struct mail *mail;
    uint64_t size;
    int r;

    if (!quota_active(save->s.box))
        return 0;
    if (mail_open_uid(from, uid, &mail, e) < 0)
        return -1;
    r = quota_uses_virtual(save->s.box->user) ? mail_size_virtual(mail, &size, e) : mail_size_physical(mail, &size, e);
    mail_close(&mail);
    return r < 0 ? -1 : ask_quota(save, size, e);
}

static int copy_message(struct mailbox *to, struct mailbox *from, uint32_t uid, const struct mail_meta *given, bool moved,
                        struct save **out, struct error *e)
{
    struct arena *arena = arena_new();
    struct mail_meta meta;
    struct save *save = NULL;
    int r = 0;

    mailbox_origin(&from, &uid);
    if (given != NULL)
        meta = *given;
    else
        r = source_meta(from, uid, arena, &meta, e);
    if (r == 0)
        r = new_save(to, &meta, &save, e);
    arena_free(arena);
    if (r < 0)
        return -1;
    save->moved = moved;
    save->from = arena_strdup(save->s.arena, from->place.vname);
    r = store_may_share(save->s.box, from) ? save->s.box->driver->stage_copy(&save->s, from, uid, e) : 0;
    if (r == 1)
        save_cache_copy(&save->s, from, uid);
    if (r == 0) {
        if (save->s.data != NULL)
            save->s.box->driver->discard(&save->s);
        save->s.data = NULL;
        r = copy_content(save, from, uid, e);
    } else if (r > 0) {
        r = ask_quota_for_copy(save, from, uid, e);
    }
    if (r < 0) {
        save_cancel(&save);
        return -1;
    }
    save->finished = true;
    *out = save;
    return 0;
}

int save_copy(struct mailbox *to, struct mailbox *from, uint32_t uid, const struct mail_meta *given, struct save **out,
              struct error *e)
{
    return copy_message(to, from, uid, given, false, out, e);
}

int save_move(struct mailbox *to, struct mailbox *from, uint32_t uid, const struct mail_meta *given, struct save **out,
              struct error *e)
{
    return copy_message(to, from, uid, given, from->user == to->user, out, e);
}

/* The bytes of a staged message, saved anew. */
static int copy_staged(struct save *save, const struct save *first, struct error *e)
{
    struct mail_file file;
    int r;

    if (first->s.fd < 0 && first->s.box->driver->stage_read == NULL)
        return error_set(e, ERROR_BUG, "the first staged message is published already");
    if (store_read_staged(&first->s, save->s.arena, &file, e) < 0)
        return -1;
    r = save->s.box->driver->stage(&save->s, e);
    if (r == 0)
        r = copy_bytes(save, &file.source, e);
    store_read_end(NULL, &file);
    return r;
}

int save_again(struct save *first, struct mailbox *to, const struct mail_meta *meta, struct save **out, struct error *e)
{
    struct save *save;
    int r;

    if (new_save(to, meta, &save, e) < 0)
        return -1;
    r = to->driver == first->s.box->driver && store_may_share(to, first->s.box)
            ? to->driver->stage_again(&save->s, &first->s, e)
            : 0;
    if (r > 0 && first->s.fd >= 0) {
        /* The same bytes: whoever commits first makes them durable, the other must know it too. */
        save->s.fd = fcntl(first->s.fd, F_DUPFD_CLOEXEC, 0);
        if (save->s.fd < 0)
            r = error_sys(e, "dup", NULL);
    }
    if (r > 0) {
        r = ask_quota(save, quota_uses_virtual(to->user) ? first->s.size_virtual : first->s.size_physical, e);
    } else if (r == 0) {
        if (save->s.data != NULL)
            to->driver->discard(&save->s);
        save->s.data = NULL;
        r = copy_staged(save, first, e);
    }
    if (r < 0) {
        save_cancel(&save);
        return -1;
    }
    save->finished = true;
    *out = save;
    return 0;
}

/* ---- commit ---- */

struct save_op {
    struct store_op op;
    struct mailbox *box;
    struct save **saves;
    struct staged **staged;
    size_t count;
    struct arena *arena;
    struct save_result *out;
    struct mailbox_view *view;         /* that takes the messages as recent; NULL = none */
    struct driver_publish pub;
    struct store_fsync *fsync;
    bool durable, published;
    size_t told;                       /* of the saves (notify.h) */
    bool elsewhere;                    /* not into the mailbox that was asked for: its UIDs are not the caller's */
};

static enum step wait_fsync(struct save_op *s, struct error *e)
{
    int result;

    if (!store_fsync_done(s->fsync, &result, e)) {
        s->op.async = true;
        return STEP_WAIT;
    }
    store_fsync_free(&s->fsync);
    return result == 0 ? STEP_DONE : STEP_ERROR;
}

/* The messages' own bytes. */
static enum step make_durable(struct save_op *s, struct error *e)
{
    enum step r;

    if (s->fsync == NULL) {
        size_t n = 0;
        int *fds = mem_alloc((s->count + 1) * sizeof(*fds));

        for (size_t i = 0; i < s->count; i++)
            if (s->staged[i]->fd >= 0)
                fds[n++] = s->staged[i]->fd;
        if (n == 0 || strcmp(conf_str(s->box->user->settings, SET_mail_fsync), "never") == 0) {
            mem_free(fds);
            return STEP_DONE;
        }
        s->fsync = store_fsync_start(&s->op, fds, n);
        mem_free(fds);
    }
    r = wait_fsync(s, e);
    return r;
}

static void close_staged(struct save_op *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->staged[i]->fd >= 0)
            close(s->staged[i]->fd);
        s->staged[i]->fd = -1;
    }
}

static void fill_result(struct save_op *s)
{
    uint32_t *uids = ARENA_ARRAY(s->arena, uint32_t, s->count + 1);
    const char **ids = ARENA_ARRAY(s->arena, const char *, s->count + 1);
    bool *gone = ARENA_ARRAY(s->arena, bool, s->count + 1);

    for (size_t i = 0; i < s->count; i++) {
        uids[i] = s->elsewhere ? 0 : s->staged[i]->uid;
        gone[i] = s->staged[i]->gone;
        ids[i] = s->staged[i]->storage_id == NULL ? "" : arena_strdup(s->arena, s->staged[i]->storage_id);
    }
    *s->out = (struct save_result){s->pub.commit.uid_validity, uids, s->pub.commit.highest_modseq, ids, gone};
}

/* The messages are saved: what goes wrong here is not the save's failure. */
static enum step set_private_flags(struct save_op *s)
{
    struct index_batch *own = index_batch_new(s->arena, INDEX_EXTERNAL);
    struct error e;
    enum step r;

    for (size_t i = 0; i < s->count; i++)
        if (s->saves[i]->private_flags != 0 && s->staged[i]->uid != 0)
            index_batch_flags_raw(own, s->staged[i]->uid, s->staged[i]->uid, s->saves[i]->private_flags, 0);
    r = private_sync(s->box, index_batch_empty(own) ? NULL : own, &e);
    if (r == STEP_ERROR)
        log_error_value(s->box->user->log_p, &e);
    return r;
}

static enum step tell_saved(struct save_op *s, struct budget *budget)
{
    while (s->box->user->notify != NULL && s->told < s->count) {
        const struct save *save = s->saves[s->told];

        if (s->told++ == 0)
            notify_saves_begin(s->box);
        if (!save->s.gone)
            notify_saved(&save->s, save->from, save->private_flags);
        if (s->told == s->count)
            notify_saves_end(s->box);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    return STEP_DONE;
}

static enum step run_save(struct store_op *op, struct budget *budget, struct error *e)
{
    struct save_op *s = (struct save_op *)op;
    enum step r;

    if (s->box->gone)
        return mailbox_not_found(&s->box->place, e), STEP_ERROR;
    for (size_t i = 0; i < s->count; i++)
        if (!s->saves[i]->finished || s->saves[i]->s.box != s->box)
            return error_set(e, ERROR_BUG, "message is not staged as a whole for this mailbox"), STEP_ERROR;
    if (s->count == 0) {
        fill_result(s);
        return STEP_DONE;
    }
    if (!s->durable) {
        for (size_t i = 0; i < s->count && s->fsync == NULL; i++)
            save_cache_parse(s->staged[i]);
        r = make_durable(s, e);
        if (r != STEP_DONE)
            return r;
        close_staged(s);
        s->durable = true;
    }
    if (!store_op_take(op, s->box))
        return STEP_WAIT;
    while (!s->published) {
        if (s->pub.syncing) {
            struct error sub;

            if (s->fsync == NULL)
                s->fsync = store_fsync_start(op, s->pub.fds, s->pub.fd_count);
            r = wait_fsync(s, &sub);
            if (r == STEP_WAIT)
                return r;
            s->pub.syncing = false;
            if (r == STEP_ERROR)
                s->pub.sync_error = sub;
        }
        r = s->box->driver->publish(s->box, &s->pub, budget, e);
        if (r == STEP_WAIT && s->pub.syncing)
            continue;
        if (r == STEP_ERROR)
            error_context(e, "Mailbox %s: ", s->box->place.vname);
        if (r != STEP_DONE)
            return r;
        s->published = true;
    }
    if (s->box->private != NULL && set_private_flags(s) == STEP_WAIT)
        return STEP_WAIT;
    if (s->pub.recent_first != 0)
        index_ranges_add(&s->view->recent, s->pub.recent_first, s->pub.recent_last);
    s->pub.recent_first = 0; /* once */
    if (tell_saved(s, budget) == STEP_MORE)
        return STEP_MORE;
    fill_result(s);
    return STEP_DONE;
}

static void end_save(struct store_op *op)
{
    struct save_op *s = (struct save_op *)op;
    struct quota_amount saved = {0, 0};
    struct budget unlimited = BUDGET_UNLIMITED;

    if (s->published)
        (void)tell_saved(s, &unlimited); /* whoever waited is gone */
    store_fsync_free(&s->fsync);
    s->box->driver->publish_end(s->box, &s->pub);
    store_op_give(op);
    for (size_t i = 0; i < s->count; i++) {
        if (s->saves[i]->counts && !s->staged[i]->gone) {
            saved.bytes += s->saves[i]->size;
            saved.count++;
        }
        save_cancel(&s->saves[i]); /* removes what was not published */
    }
    if (s->published) {
        quota_saved(s->box, &saved);
        list_index_update(s->box);
        mailbox_wake_watches(s->box, NULL);
    }
    mem_free(s->saves);
    mem_free(s->staged);
    mailbox_close(&s->box);
}

struct store_op *save_commit(struct mailbox *box, struct save **saves, size_t count, bool need_uids,
                             struct mailbox_view *view, struct arena *arena, struct save_result *out)
{
    static const struct op_class class = {run_save, end_save};
    struct save_op *s = store_op_new(sizeof(*s), &class);

    s->box = mailbox_ref(count > 0 ? saves[0]->s.box : box);
    s->elsewhere = s->box != box;
    s->saves = mem_alloc((count + 1) * sizeof(*s->saves));
    s->staged = mem_alloc((count + 1) * sizeof(*s->staged));
    for (size_t i = 0; i < count; i++) {
        s->saves[i] = saves[i];
        s->staged[i] = &saves[i]->s;
    }
    s->count = count;
    s->arena = arena;
    s->out = out;
    s->view = view != NULL && view->box == s->box && !view->read_only ? view : NULL;
    s->pub = (struct driver_publish){
        .staged = s->staged, .count = count, .need_uids = need_uids || s->box->private != NULL || notify_wants_uids(s->box->user), .take_recent = s->view != NULL};
    return &s->op;
}

void save_commit_skips_gone(struct store_op *op)
{
    ((struct save_op *)op)->pub.skip_gone = true;
}
