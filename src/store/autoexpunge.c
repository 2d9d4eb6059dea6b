/* autoexpunge.c - `mailbox { autoexpunge, autoexpunge_max_mails }`: old messages go when a session ends
 * (maildir-and-layouts 2.3).
 *
 * One process of a user at a time does it: dovecot.autoexpunge.lock in the home, tried once. A message is as old as its save
 * date, or as the mailbox's last rename. Messages go in batches from the first on, until one is young enough. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define LOCK_NAME "dovecot.autoexpunge.lock"
#define BATCH 1000
#define STAMP_FUTURE_SECS 60

struct due {
    const char *vname;
    const struct mail_auto *block;
};

struct autoexpunge_op {
    struct store_op op;
    struct mail_user *user;
    struct arena *arena;               /* of the whole run */
    struct arena *step;                /* of a batch */
    VEC(struct due) due;
    size_t next;
    bool begun;
    int dir, lock;
    struct mailbox *box;
    struct mailbox_view *view;
    bool committed;
    struct index_commit commit;
};

static bool wants(const struct mail_auto *block)
{
    return block->autoexpunge_secs != 0 || block->autoexpunge_max != 0;
}

bool mail_user_has_autoexpunge(const struct mail_user *user)
{
    const struct mail_namespace *ns;
    const struct mail_auto *block;

    LL_FOREACH(user->namespaces, ns)
        LL_FOREACH(mail_namespace_autos(ns), block)
            if (wants(block))
                return true;
    return false;
}

static void add_due(struct autoexpunge_op *a, const char *vname, const struct mail_auto *block)
{
    for (size_t i = 0; i < a->due.count; i++)
        if (strcmp(a->due.at[i].vname, vname) == 0)
            return;
    VEC_PUSH(&a->due, ((struct due){arena_strdup(a->arena, vname), block}));
}

/* Blocks with wildcards: the mailboxes that there are. */
static void add_matching(struct autoexpunge_op *a, const struct mail_auto *block)
{
    struct slice all = SLICE("*");
    struct mailbox_list *list = mailbox_list_begin(a->user, &all, 1, 0);
    struct budget budget = BUDGET_UNLIMITED;
    const struct mailbox_info *info;
    struct error e;
    enum step r;

    while ((r = mailbox_list_next(list, &budget, &info, &e)) == STEP_MORE || r == STEP_WAIT)
        if (r == STEP_MORE && (info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) == 0 &&
            mail_auto_matches(block, info->vname))
            add_due(a, info->vname, block);
    mailbox_list_end(&list);
}

static void find_due(struct autoexpunge_op *a)
{
    const struct mail_namespace *ns;
    const struct mail_auto *block;

    LL_FOREACH(a->user->namespaces, ns)
    {
        if (ns->alias_for != NULL)
            continue;
        LL_FOREACH(mail_namespace_autos(ns), block)
        {
            if (wants(block) && !block->pattern)
                add_due(a, block->vname, block);
            else if (wants(block))
                add_matching(a, block);
        }
    }
}

/* False: somebody else is at it. Without a place for the lock we go on without one, as the real server does. */
static bool take_lock(struct autoexpunge_op *a)
{
    const char *volatile_dir = a->user->inbox->storage->at.volatile_dir;
    const char *folder = volatile_dir != NULL ? volatile_dir : a->user->home;
    struct stat st, named;
    struct error e;

    if (folder == NULL) {
        error_set(&e, ERROR_TEMPORARY, "User has no home directory");
    } else if ((a->dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) {
        (void)error_sys(&e, "open", folder);
    } else {
        a->lock = os_create(a->dir, LOCK_NAME, 0600, (gid_t)-1, &e);
        if (a->lock < 0 && e.class == ERROR_EXISTS) {
            a->lock = openat(a->dir, LOCK_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
            if (a->lock < 0)
                (void)error_sys(&e, "open", arena_printf(a->arena, "%s/" LOCK_NAME, folder));
        }
    }
    if (a->lock < 0) {
        error_context(&e, "autoexpunge: Couldn't create " LOCK_NAME " lock: ");
        log_error_value(a->user->log_p, &e);
        return true;
    }
    return os_lock_fd(a->lock, OS_LOCK_FCNTL, &e) == OS_GOT && fstat(a->lock, &st) == 0 &&
           fstatat(a->dir, LOCK_NAME, &named, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == named.st_ino;
}

static uint32_t rename_stamp(struct mailbox *box)
{
    struct index_ext_def def = {.name = "last-rename-stamp", .header_size = 4};
    struct slice raw = index_ext_header(box->index, index_ext(box->index, &def));
    uint32_t stamp = raw.size < 4 ? 0 : bytes_le32(raw.at);

    return stamp > (uint32_t)time(NULL) + STAMP_FUTURE_SECS ? 0 : stamp;
}

static bool is_old(struct mailbox *box, uint32_t uid, uint32_t stamp, int64_t limit)
{
    struct mail *mail;
    struct error e;
    int64_t saved = 0;
    bool known = false;

    if (mail_open_uid(box, uid, &mail, &e) == 0) {
        known = mail_save_date(mail, &saved, &e) == 0;
        mail_close(&mail);
    }
    return known && (saved > stamp ? saved : stamp) <= limit;
}

/* The next messages that are to go. NULL: none. */
static struct index_batch *next_batch(struct autoexpunge_op *a, const struct mail_auto *block)
{
    struct index_batch *batch = index_batch_new(a->step, INDEX_INTERNAL);
    uint32_t stamp = rename_stamp(a->box), count = index_count(a->box->index), taken = 0;
    int64_t limit = (int64_t)time(NULL) - block->autoexpunge_secs;
    struct index_record rec;

    for (uint32_t uid = 1; taken < BATCH && index_get_from(a->box->index, uid, &rec); uid = rec.uid + 1) {
        bool too_many = block->autoexpunge_max != 0 && count - taken > block->autoexpunge_max;

        if (!too_many && (block->autoexpunge_secs == 0 || !is_old(a->box, rec.uid, stamp, limit)))
            break;
        mailbox_batch_expunge(a->view, batch, rec.uid);
        taken++;
    }
    index_cache_flush(a->box->index);
    return taken == 0 ? NULL : batch;
}

static void leave_box(struct autoexpunge_op *a)
{
    store_op_free(&a->op.inner);
    mailbox_view_close(&a->view);
    mailbox_close(&a->box);
    arena_reset(a->step);
    a->committed = false;
    a->next++;
}

static int enter_box(struct autoexpunge_op *a, struct error *e)
{
    struct mailbox_place place;
    enum mailbox_existence there;

    if (mailbox_place(a->user, a->step, slice_from_str(a->due.at[a->next].vname), &place, e) < 0 ||
        mailbox_exists(&place, false, &there, e) < 0)
        return -1;
    if (there != MAILBOX_EXISTS_YES)
        return 1; /* what was never made has nothing */
    if (mailbox_open(&a->box, &place, 0, e) < 0) {
        a->box = NULL;
        return -1;
    }
    a->view = mailbox_view_open(a->box, false);
    a->view->autoexpunge = true;
    a->op.inner = mailbox_sync(a->box, NULL, SYNC_POLL);
    return 0;
}

static enum step run_autoexpunge(struct store_op *op, struct budget *budget, struct error *e)
{
    struct autoexpunge_op *a = (struct autoexpunge_op *)op;

    if (!a->begun) {
        find_due(a);
        a->begun = true;
        if (a->due.count == 0 || !take_lock(a))
            return STEP_DONE;
    }
    while (a->next < a->due.count) {
        struct index_batch *batch;
        enum step r;
        int entered = a->box != NULL ? 0 : enter_box(a, e);

        if (entered != 0) {
            if (entered < 0)
                log_error_value(a->user->log_p, e);
            leave_box(a);
            continue;
        }
        r = store_op_inner(op, budget, e);
        if (r == STEP_ERROR) {
            error_context(e, "autoexpunge: ");
            log_error_value(a->user->log_p, e);
            leave_box(a);
            continue;
        }
        if (r != STEP_DONE)
            return r;
        batch = next_batch(a, a->due.at[a->next].block);
        if (batch == NULL) {
            leave_box(a);
            continue;
        }
        op->inner = mailbox_commit(a->view, batch, MAILBOX_RIGHT_EXPUNGE, &a->commit);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    return STEP_DONE;
}

static void end_autoexpunge(struct store_op *op)
{
    struct autoexpunge_op *a = (struct autoexpunge_op *)op;
    struct error e;

    store_op_free(&op->inner);
    mailbox_view_close(&a->view);
    mailbox_close(&a->box);
    if (a->lock >= 0) {
        os_unlink(a->dir, LOCK_NAME, &e);
        close(a->lock);
    }
    if (a->dir >= 0)
        close(a->dir);
    VEC_FREE(&a->due);
    arena_free(a->step);
    arena_free(a->arena);
    mail_user_close(&a->user);
}

struct store_op *mail_user_autoexpunge(struct mail_user *user)
{
    static const struct op_class class = {run_autoexpunge, end_autoexpunge};
    struct autoexpunge_op *a = store_op_new(sizeof(*a), &class);

    a->user = mail_user_ref(user);
    a->arena = arena_new();
    a->step = arena_new();
    a->dir = a->lock = -1;
    return &a->op;
}
