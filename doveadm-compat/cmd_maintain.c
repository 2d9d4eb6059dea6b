/* cmd_maintain.c - index, force-resync, purge: what brings a mailbox and its index together (doveadm 6.7). */
#include "query.h"
#include "rpc/indexer.h"

#include <stdio.h>

static int mask_prepare(struct doveadm *d)
{
    return doveadm_text(d, "mailbox-mask") == NULL ? doveadm_usage(d) : DOVEADM_OK;
}

static int each_mailbox(struct doveadm *d, struct mail_user *user,
                        int (*run)(struct doveadm *, struct mail_user *, const char *))
{
    const char *mask = doveadm_text(d, "mailbox-mask"), **names;
    int status = DOVEADM_OK;
    size_t n;
    struct error e;

    if (doveadm_mailbox_match(d, user, &mask, 1, 0, &names, &n, &e) < 0)
        return doveadm_mail_failed(d, &e, "Listing mailboxes failed");
    for (size_t i = 0; i < n; i++)
        doveadm_status_add(&status, run(d, user, names[i]));
    return status;
}

static int resync_one(struct doveadm *d, struct mail_user *user, const char *name)
{
    struct mailbox_place place;
    struct mailbox *box;
    struct error e;
    int status = DOVEADM_OK;

    if (mailbox_place(user, d->arena, slice_from_str(name), &place, &e) < 0 || mailbox_open(&box, &place, 0, &e) < 0)
        /* A name that does not exist is no error here. */
        return e.class == ERROR_NOT_FOUND ? DOVEADM_OK
                                          : doveadm_mail_failed(d, &e, "Opening mailbox %s failed", name);
    if ((doveadm_flag(d, "fsck") && store_op_wait(mailbox_fsck(box), &e) < 0) || doveadm_mailbox_sync(box, NULL, SYNC_RESYNC, &e) < 0)
        status = doveadm_mail_failed_by(d, &e, "Forcing a resync on mailbox %s failed", name);
    mailbox_close(&box);
    return status;
}

static int resync_run(struct doveadm *d, struct mail_user *user)
{
    return each_mailbox(d, user, resync_one);
}

int doveadm_force_resync(struct doveadm *d)
{
    static const struct mail_command command = {mask_prepare, resync_run};

    return doveadm_mail_run(d, &command);
}

/* Fills the cache with what its decisions want of each message. */
static int cache_messages(struct doveadm *d, struct mailbox_view *view, struct error *e)
{
    const char *name = mailbox_where(mailbox_view_box(view))->vname;
    struct mailbox_precache p;
    struct store_op *op = mailbox_precache(view, &p);
    bool told = false;
    enum step r;

    do {
        struct budget budget = {.units = 100};
        uint32_t before = p.seq;

        r = store_op_step(op, &budget, e);
        if (d->verbose && !told && p.first > 0) {
            told = true;
            if (p.first > p.last)
                log_info(NULL, "%s: Cache is already up to date", name);
            else
                log_info(NULL, "%s: Caching mails seq=%u..%u", name, p.first, p.last);
        }
        for (uint32_t seq = before + 1; d->verbose && p.first > 0 && seq <= p.seq; seq++)
            if (seq >= p.first && (seq - p.first + 1) % 100 == 0)
                printf("\r%u/%u", seq, p.last);
    } while (r == STEP_MORE);
    store_op_free(&op);
    if (d->verbose && p.first <= p.last)
        printf("\r%u/%u\n", p.last, p.last);
    return r == STEP_DONE ? 0 : -1;
}

static int index_one(struct doveadm *d, struct mail_user *user, const char *name)
{
    int64_t most = -1;
    struct mailbox *box;
    struct mailbox_view *view;
    struct error e;
    int status = DOVEADM_OK;

    doveadm_number(d, "max-recent", &most);
    if (doveadm_mailbox_open(d, user, name, 0, &box, &e) < 0)
        return e.class == ERROR_NOT_FOUND ? DOVEADM_OK : doveadm_mail_failed(d, &e, "Opening mailbox %s failed", name);
    view = mailbox_view_open(box, true);
    if (doveadm_mailbox_sync(box, NULL, SYNC_FULL, &e) < 0)
        status = doveadm_mail_failed(d, &e, "Syncing mailbox %s failed", name);
    else if (most < 0 || (int64_t)mailbox_view_recent_count(view) <= most) {
        doveadm_view_refresh(view);
        if (cache_messages(d, view, &e) < 0)
            status = doveadm_mail_failed(d, &e, "Mailbox %s: indexing failed", name);
    }
    mailbox_view_close(&view);
    mailbox_close(&box);
    return status;
}

/* The request goes to the indexer service, whose answer nobody waits for. */
static int queue_one(struct doveadm *d, struct mail_user *user, const char *name)
{
    struct indexer_request request = {.command = INDEXER_APPEND, .user = mail_user_name(user), .mailbox = name, .session = "", .limited = true};
    int64_t most = 0;
    struct error e;

    (void)doveadm_number(d, "max-recent", &most);
    request.max_recent = (uint32_t)most;
    if (indexer_ask(doveadm_socket(d, "indexer"), &request, 0, &e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s", e.admin);
    return DOVEADM_OK;
}

static int index_run(struct doveadm *d, struct mail_user *user)
{
    return each_mailbox(d, user, doveadm_flag(d, "queue") ? queue_one : index_one);
}

int doveadm_index(struct doveadm *d)
{
    static const struct mail_command command = {mask_prepare, index_run};
    const char *most = doveadm_text(d, "max-recent");
    uint32_t number;

    if (most != NULL && !slice_to_u32(slice_from_str(most), &number))
        doveadm_fatal(DOVEADM_USAGE, "Invalid -n parameter number: %s", most);
    return doveadm_mail_run(d, &command);
}

/* Formats that keep no deleted mail have nothing to purge: Maildir is silent. */
int doveadm_purge_user(struct doveadm *d, struct mail_user *user)
{
    int status = DOVEADM_OK;
    struct error e;

    for (struct mail_namespace *ns = mail_user_namespaces(user); ns != NULL; ns = ns->next)
        if (ns->alias_for == NULL && !ns->unusable && store_op_wait(mail_namespace_purge(ns), &e) < 0)
            doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Purging namespace '%s' failed", ns->prefix));
    return status;
}

int doveadm_purge(struct doveadm *d)
{
    static const struct mail_command command = {NULL, doveadm_purge_user};

    return doveadm_mail_run(d, &command);
}
