/* check.c - may this be saved, and what has changed (quota-acl-plugins 1.4). */
#include "store/quota/internal.h"

#include <stdio.h>

#define TRASH_TRIES 5              /* others may save meanwhile */

bool quota_active(struct mailbox *box)
{
    const struct quota *q = quota_of(box);

    return (q != NULL && q->roots.count > 0) || (box->user->quota != NULL && box->user->quota->max_mail_size > 0);
}

bool quota_uses_virtual(const struct mail_user *user)
{
    return user->quota != NULL && user->quota->vsizes;
}

bool quota_wants_changes(struct mailbox *box)
{
    const struct quota *q = quota_of(box);

    if (q != NULL && q->clone != NULL)
        return true;
    for (size_t i = 0; q != NULL && i < q->roots.count; i++)
        if (q->roots.at[i]->backend->change != NULL || q->roots.at[i]->warnings.count > 0)
            return true;
    return false;
}

static int over(struct quota *q, const char *vname, struct error *e)
{
    error_set(e, ERROR_QUOTA, "Mailbox %s: %s", vname, q->message);
    return error_user(e, q->message);
}

/* What a delivery may pass the limit by, once. */
static uint64_t grace_of(const struct quota *q, uint64_t limit)
{
    if (!q->grace.percent)
        return (uint64_t)q->grace.value;
    return limit / 100 * (uint64_t)q->grace.value + limit % 100 * (uint64_t)q->grace.value / 100;
}

static bool fits_bytes(const struct quota *q, const struct quota_amount *used, uint64_t limit, uint64_t size, bool delivery)
{
    if (limit == 0 || (used->bytes <= limit && size <= limit - used->bytes))
        return true;
    /* The grace is for one message: what is over already stays refused. */
    return delivery && q->staged.count == 0 && used->bytes < limit && size <= limit - used->bytes + grace_of(q, limit);
}

/* A mail is not refused because its owner's usage cannot be told. 1: it will be known later, which nobody needs to hear twice. */
static int pass_unknown(struct quota *q, const char *name, bool delivery, struct error *e)
{
    if (e->class == ERROR_BUSY) {
        log_warning(q->user->log_p, "quota: %sFailed to get quota resource STORAGE_BYTES for %s: %s - %s mail anyway",
                    delivery ? "" : "Failed to check if user is under quota: ", name, e->admin, delivery ? "copying" : "saving");
        return 1;
    }
    log_error(q->user->log_p, "quota: Failed to check if user is under quota: %s - saving mail anyway", e->admin);
    return 0;
}

/* How much is too much; false: it fits. */
static bool too_much(struct quota *q, const struct quota_root *root, const struct quota_amount *limits, uint64_t size, bool delivery,
                     struct quota_amount *excess)
{
    struct quota_amount used = root->before;

    used.bytes += q->staged.bytes;
    used.count += q->staged.count;
    *excess = (struct quota_amount){0, 0};
    if (!fits_bytes(q, &used, limits->bytes, size, delivery))
        excess->bytes = used.bytes + size - limits->bytes;
    if (limits->count != 0 && used.count >= limits->count)
        excess->count = used.count + 1 - limits->count;
    return excess->bytes != 0 || excess->count != 0;
}

static int check_root(struct quota_root *root, const char *name, uint64_t size, bool delivery, struct error *e)
{
    struct quota *q = root->quota;
    struct quota_amount limits, excess;

    if (!quota_limits(root->rules.at, root->rules.count, name, &limits))
        return 0;
    if (root->rules.count == 0)
        limits = root->limits;
    if (limits.bytes == 0 && limits.count == 0 && !root->backend->has_limits)
        return 0;
    /* Within a batch the sum is known from its first message. */
    if (q->staged.count == 0 && quota_usage(root, &root->before, e) < 0)
        return pass_unknown(q, name, delivery, e);
    if (root->rules.count == 0)
        limits = root->limits; /* the backend has told them with the usage */
    if (root->no_enforcing)
        return 0;
    for (int tries = 0; too_much(q, root, &limits, size, delivery, &excess); tries++) {
        if (limits.bytes != 0 && size > limits.bytes)
            log_debug(q->user->log_p, "trash plugin: Mail is larger than quota, won't even try to handle");
        else if (tries < TRASH_TRIES && quota_trash_clean(q, &excess)) {
            if (quota_usage(root, &root->before, e) < 0)
                return pass_unknown(q, name, delivery, e);
            continue;
        }
        return over(q, name, e);
    }
    return 0;
}

/* 1: let through because usage is not known yet. */
static int check(struct mailbox *box, uint64_t size, bool delivery, struct error *e)
{
    struct quota *own = box->user->quota, *q = quota_of(box);
    struct arena *arena;
    const char *name;
    bool unknown = false;
    int r = 0;

    if (own != NULL && own->max_mail_size > 0 && size > own->max_mail_size) {
        static const char text[] = "Mail size is larger than the maximum size allowed by server configuration";

        error_set(e, ERROR_LIMIT, "Mailbox %s: %s", box->place.vname, text);
        return error_user(e, text);
    }
    if (q == NULL)
        return 0;
    arena = arena_new();
    name = quota_name_of(q, arena, box);
    for (size_t i = 0; r == 0 && i < q->roots.count; i++) {
        if (!quota_root_covers_box(q->roots.at[i], box))
            continue;
        r = check_root(q->roots.at[i], name, size, delivery, e);
        unknown = unknown || r > 0;
        r = r < 0 ? -1 : 0;
    }
    arena_free(arena);
    return r < 0 ? -1 : unknown;
}

int quota_check(struct mailbox *box, uint64_t size, bool delivery, struct error *e)
{
    return check(box, size, delivery, e) < 0 ? -1 : 0;
}

int quota_check_ahead(struct mailbox *box, uint64_t size, bool *unknown, struct error *e)
{
    int r = check(box, size, false, e);

    *unknown = r > 0;
    return r < 0 ? -1 : 0;
}

void quota_staged(struct mailbox *box, uint64_t size, bool on)
{
    struct quota *q = quota_of(box);

    if (q == NULL)
        return;
    if (on) {
        q->staged.bytes += size;
        q->staged.count++;
    } else {
        q->staged.bytes -= size;
        q->staged.count--;
    }
}

static void root_changed(struct quota_root *root, int64_t bytes, int64_t count)
{
    struct quota *q = root->quota;
    struct quota_amount before, after;
    struct error e;

    if (root->backend->change != NULL && root->backend->change(root, bytes, count, &e) < 0)
        log_error(q->user->log_p, "Failed to update quota for %s: quota-%s: %s", q->user->name, root->backend->name, e.admin);
    if (root->warnings.count == 0 || quota_usage(root, &after, &e) < 0)
        return;
    before.bytes = bytes > 0 ? after.bytes - ((uint64_t)bytes < after.bytes ? (uint64_t)bytes : after.bytes) : after.bytes + (uint64_t)-bytes;
    before.count = count > 0 ? after.count - ((uint64_t)count < after.count ? (uint64_t)count : after.count) : after.count + (uint64_t)-count;
    quota_warn(root, &before, &after);
}

static void changed(struct mailbox *box, int64_t bytes, int64_t count)
{
    struct quota *q = quota_of(box);
    struct quota_amount limits;
    struct arena *arena;
    const char *name;

    if (q == NULL)
        return;
    arena = arena_new();
    name = quota_name_of(q, arena, box);
    for (size_t i = 0; i < q->roots.count; i++)
        if (quota_root_covers_box(q->roots.at[i], box) && quota_limits(q->roots.at[i]->rules.at, q->roots.at[i]->rules.count, name, &limits))
            root_changed(q->roots.at[i], bytes, count);
    arena_free(arena);
    quota_clone_changed(q);
}

void quota_saved(struct mailbox *box, const struct quota_amount *amount)
{
    if (amount->count > 0)
        changed(box, (int64_t)amount->bytes, (int64_t)amount->count);
}

void quota_expunged(struct mailbox *box, const struct quota_amount *amount)
{
    if (amount->count > 0)
        changed(box, -(int64_t)amount->bytes, -(int64_t)amount->count);
}

void quota_unknown(struct mail_user *user)
{
    struct quota *q = user->quota;
    struct error e;

    for (size_t i = 0; q != NULL && i < q->roots.count; i++)
        if (q->roots.at[i]->backend->recalculate != NULL && quota_recalculate(q->roots.at[i], &e) < 0)
            log_error(q->user->log_p, "Failed to update quota for %s: %s", q->user->name, e.admin);
    if (q != NULL)
        quota_clone_changed(q);
}
