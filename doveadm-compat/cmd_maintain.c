/* cmd_maintain.c - index, force-resync, purge: what brings a mailbox and its index together (doveadm 6.7). */
#include "query.h"
#include "rpc/line.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

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
    if (doveadm_mailbox_sync(box, NULL, SYNC_RESYNC, &e) < 0)
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

static bool see_field(void *arg, const char *field, struct slice value)
{
    (void)field;
    (void)value;
    *(bool *)arg = true;
    return false;
}

/* The last message of which the cache has something, whatever that is: the ones behind it are new. */
static uint32_t last_cached(struct index_view *view)
{
    uint32_t seq = index_view_count(view);

    for (bool cached = false; seq > 0; seq--) {
        index_cache_each(index_view_index(view), index_view_uid(view, seq), see_field, &cached);
        if (cached)
            break;
    }
    return seq;
}

/* Fills the cache with what its decisions want of each message. */
static int cache_messages(struct doveadm *d, struct mailbox_view *view, struct error *e)
{
    struct index_view *index = mailbox_view_index(view);
    uint32_t count = index_view_count(index), first = last_cached(index) + 1;
    const char *name = mailbox_where(mailbox_view_box(view))->vname;

    if (d->verbose && first > count)
        log_info(NULL, "%s: Cache is already up to date", name);
    else if (d->verbose)
        log_info(NULL, "%s: Caching mails seq=%u..%u", name, first, count);
    for (uint32_t seq = first; seq <= count; seq++) {
        struct mail *mail;
        struct mime_part *root;
        if (mail_open(view, seq, &mail, e) < 0) {
            if (e->class == ERROR_EXPUNGED)
                continue;
            return -1;
        }
        if (mail_parts(mail, false, &root, e) < 0 && e->class != ERROR_EXPUNGED) {
            mail_close(&mail);
            return -1;
        }
        mail_close(&mail);
        if (d->verbose && (seq - first + 1) % 100 == 0)
            printf("\r%u/%u", seq, count);
    }
    if (d->verbose && first <= count)
        printf("\r%u/%u\n", count, count);
    index_cache_flush(mailbox_index(mailbox_view_box(view)));
    return 0;
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
    const char *path = doveadm_socket(d, "indexer");
    struct buffer line = {0}, text = {0};
    int64_t most = 0;
    struct error e;
    int fd = line_connect(path, 0, &e);

    if (fd < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "net_connect_unix(%s) failed: %s", path, strerror(e.sys));
    (void)doveadm_number(d, "max-recent", &most);
    line_begin(&line, "APPEND");
    line_field_num(&line, 0); /* no answer wanted */
    line_field_str(&line, mail_user_name(user));
    line_field_str(&line, name);
    line_field_num(&line, (uint64_t)most);
    line_end(&line);
    buffer_append_str(&text, "VERSION\tindexer\t1\t0\n");
    buffer_append_slice(&text, buffer_slice(&line));
    if (write(fd, text.at, text.size) != (ssize_t)text.size)
        doveadm_fatal(DOVEADM_TEMPFAIL, "write(%s) failed: %s", path, strerror(errno));
    buffer_free(&line);
    buffer_free(&text);
    close(fd);
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
