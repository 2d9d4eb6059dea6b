/* check.c - may this be saved, and what has changed (quota-acl-plugins 1.4). */
#include "store/quota/internal.h"

#include <stdio.h>

bool quota_active(const struct mail_user *user)
{
    return user->quota != NULL && (user->quota->roots.count > 0 || user->quota->max_mail_size > 0);
}

bool quota_uses_virtual(const struct mail_user *user)
{
    return user->quota != NULL && user->quota->vsizes;
}

bool quota_wants_changes(const struct mail_user *user)
{
    const struct quota *q = user->quota;

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

static int failed(struct quota *q, struct error *e)
{
    log_error_value(q->user->log_p, e);
    e->class = ERROR_TEMPORARY;
    return error_user(e, "Internal quota calculation error");
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

static int check_root(struct quota_root *root, const struct mailbox_place *place, uint64_t size, bool delivery, struct error *e)
{
    struct quota *q = root->quota;
    struct quota_amount limits, used;
    int r;

    if (!quota_limits(root->rules.at, root->rules.count, place->vname, &limits))
        return 0;
    if (root->rules.count == 0)
        limits = root->limits;
    if (limits.bytes == 0 && limits.count == 0 && root->backend != &quota_backend_maildir)
        return 0;
    /* Within a batch the sum is known from its first message. */
    if (q->staged.count == 0) {
        r = quota_usage(root, &root->before, e);
        if (r < 0)
            return failed(q, e);
        if (root->rules.count == 0)
            limits = root->limits; /* maildirsize has told them */
    }
    used = root->before;
    used.bytes += q->staged.bytes;
    used.count += q->staged.count;
    if (root->no_enforcing)
        return 0;
    if (!fits_bytes(q, &used, limits.bytes, size, delivery) || (limits.count != 0 && used.count >= limits.count))
        return over(q, place->vname, e);
    return 0;
}

int quota_check(struct mailbox *box, uint64_t size, bool delivery, struct error *e)
{
    struct quota *q = box->user->quota;

    if (q == NULL)
        return 0;
    if (q->max_mail_size > 0 && size > q->max_mail_size) {
        static const char text[] = "Mail size is larger than the maximum size allowed by server configuration";

        error_set(e, ERROR_LIMIT, "Mailbox %s: %s", box->place.vname, text);
        return error_user(e, text);
    }
    for (size_t i = 0; i < q->roots.count; i++)
        if (quota_root_covers(q->roots.at[i], box->place.ns) && check_root(q->roots.at[i], &box->place, size, delivery, e) < 0)
            return -1;
    return 0;
}

void quota_staged(struct mail_user *user, uint64_t size, bool on)
{
    struct quota *q = user->quota;

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

static void changed(struct mailbox *box, int64_t bytes, int64_t count)
{
    struct quota *q = box->user->quota;
    struct quota_amount limits, before, after;
    struct error e;

    for (size_t i = 0; q != NULL && i < q->roots.count; i++) {
        struct quota_root *root = q->roots.at[i];
        bool warn = root->warnings.count > 0;

        if (root->backend == &quota_backend_maildir && box->place.ns->type == MAIL_NAMESPACE_SHARED &&
            quota_maildir_owner_change(box->place.ns, bytes, count, &e) < 0)
            log_error(q->user->log_p, "Failed to update quota of the owner of %s: %s", box->place.vname, e.admin);
        if (!quota_root_covers(root, box->place.ns) || !quota_limits(root->rules.at, root->rules.count, box->place.vname, &limits))
            continue;
        if (root->backend->change != NULL && root->backend->change(root, bytes, count, &e) < 0)
            log_error(q->user->log_p, "Failed to update quota for %s: quota-%s: %s", q->user->name, root->backend->name, e.admin);
        if (!warn || quota_usage(root, &after, &e) < 0)
            continue;
        before.bytes = bytes > 0 ? after.bytes - ((uint64_t)bytes < after.bytes ? (uint64_t)bytes : after.bytes) : after.bytes + (uint64_t)-bytes;
        before.count = count > 0 ? after.count - ((uint64_t)count < after.count ? (uint64_t)count : after.count) : after.count + (uint64_t)-count;
        quota_warn(root, &before, &after);
    }
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
}
