/* cmd_rebuild.c - doveadm rebuild attachments: the keywords that tell which mails have attachments, anew (doveadm 6.7). */
#include "query.h"
#include "store/attachment.h"

struct rebuild {
    struct index_batch *batch; /* of the mailbox at work */
    const char *options;
};

/* No query is everything. */
static struct query *parse_query(struct doveadm *d)
{
    static const char *const all[] = {"ALL"};
    size_t n;
    const char *const *words = doveadm_list(d, "query", &n);

    return n == 0 ? query_parse(d, all, 1) : query_parse(d, words, n);
}

static int rebuild_prepare(struct doveadm *d)
{
    (void)parse_query(d);
    doveadm_mail_print(d, "table");
    print_header_simple(d, "uid");
    print_header_simple(d, "attachment");
    return DOVEADM_OK;
}

static int rebuild_mail(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    static const struct slice yes_no[] = {SLICE("$HasAttachment"), SLICE("$HasNoAttachment")};
    struct rebuild *r = arg;
    uint32_t uid = index_view_uid(mailbox_view_index(view), seq);
    struct mime_part *root;
    struct mail *mail;
    struct error e;
    bool found;

    if (mail_open(view, seq, &mail, &e) < 0)
        return DOVEADM_OK; /* gone meanwhile */
    if (mail_parts(mail, true, &root, &e) < 0) {
        mail_close(&mail);
        if (e.class == ERROR_EXPUNGED)
            return DOVEADM_OK;
        print_number(d, uid);
        print_value(d, "error");
        return doveadm_mail_failed(d, &e, "Mailbox %s: reading a mail failed", mailbox_where(mailbox_view_box(view))->vname);
    }
    found = attachment_find(mail_arena(mail), root, r->options);
    mail_close(&mail);
    if (r->batch == NULL)
        r->batch = index_batch_new(d->arena, INDEX_INTERNAL);
    index_batch_keywords(r->batch, uid, uid, INDEX_ADD, &yes_no[found ? 0 : 1], 1);
    index_batch_keywords(r->batch, uid, uid, INDEX_REMOVE, &yes_no[found ? 1 : 0], 1);
    print_number(d, uid);
    print_value(d, found ? "yes" : "no");
    return DOVEADM_OK;
}

static int rebuild_done(struct doveadm *d, struct mailbox_view *view, void *arg)
{
    struct rebuild *r = arg;

    return doveadm_batch_commit(d, view, &r->batch);
}

/* A mailbox that is missing is silent, as with fetch. */
static int rebuild_failed(struct doveadm *d, const char *mailbox, const struct error *e)
{
    return e->class == ERROR_NOT_FOUND ? DOVEADM_OK : doveadm_change_failed(d, mailbox, e);
}

static int rebuild_run(struct doveadm *d, struct mail_user *user)
{
    static const struct query_walk walk = {
        .why = SYNC_POLL, .mail = rebuild_mail, .done = rebuild_done, .failed = rebuild_failed};
    struct rebuild r = {.options = conf_str(mail_user_settings(user), SET_mail_attachment_detection_options)};

    return query_run(d, parse_query(d), user, &walk, &r);
}

int doveadm_rebuild_attachments(struct doveadm *d)
{
    static const struct mail_command command = {rebuild_prepare, rebuild_run};

    return doveadm_mail_run(d, &command);
}
