/* cmd_copy.c - copy, move, import: messages of a query into mailboxes of the user (doveadm 6.4, 6.6).
 *
 * The user is the one who gets the mail; it comes from his own mailboxes, from another user's, or from a location that is
 * opened as if it were his. Rights count at the target only. One transaction per source mailbox; a source is expunged
 * only after it has been committed. */
#include "query.h"

#include <stdlib.h>
#include <strings.h>

struct copying {
    struct mail_user *user;            /* who gets the mail */
    struct mailbox *to;                /* import: of the source mailbox at work, opened with its first message */
    const char *parent;                /* import: where the source's names go; NULL = one target for all */
    bool move, subscribe;
    VEC(struct save *) saves;
    VEC(uint32_t) uids;
};

static int failed(struct doveadm *d, const struct copying *c, struct mailbox *from, uint32_t uid, struct error *e)
{
    if (e->class == ERROR_EXPUNGED)
        error_user(e, "Message was expunged");
    return doveadm_mail_failed(d, e, "%s message UID %u from '%s' failed", c->move ? "Moving" : "Copying", uid,
                               mailbox_where(from)->vname);
}

/* ---- the target ------------------------------------------------------------------------------------------------------- */

/* The name that an imported mailbox gets: below the parent, with this side's separator; one that is a character of a name
 * here becomes "_". */
static const char *imported_name(struct doveadm *d, const struct copying *c, const struct mailbox_place *from)
{
    struct mail_namespace *ns = mail_user_inbox_namespace(c->user);
    char *name = arena_strdup(d->arena, from->vname);

    for (char *p = name; *p != '\0' && from->ns->separator != ns->separator; p++)
        if (*p == ns->separator)
            *p = '_';
        else if (*p == from->ns->separator)
            *p = ns->separator;
    return *c->parent == '\0' ? name : arena_printf(d->arena, "%s%c%s", c->parent, ns->separator, name);
}

static int open_imported(struct doveadm *d, struct copying *c, const struct mailbox_place *from, struct error *e)
{
    struct mailbox_place place;
    bool directory;

    if (mailbox_place_new(c->user, d->arena, slice_from_str(imported_name(d, c, from)), &place, &directory, e) < 0 ||
        mailbox_open(&c->to, &place, MAILBOX_OPEN_CREATE | MAILBOX_OPEN_SAVE, e) < 0)
        return -1;
    if (doveadm_mailbox_sync(c->to, NULL, SYNC_POLL, e) < 0 ||
        (c->subscribe && store_op_wait(mailbox_subscribe(&place, true), e) < 0)) {
        mailbox_close(&c->to);
        return -1;
    }
    return 0;
}

/* What an imported message keeps, also in another format. A copy inside the user's mail keeps it by itself. */
static int imported_meta(struct mail *mail, struct mailbox_view *view, uint32_t seq, struct mail_meta *meta, struct error *e)
{
    struct index *index = mailbox_index(mailbox_view_box(view));
    unsigned known = index_keyword_count(index);
    struct slice *names = ARENA_ARRAY(mail_arena(mail), struct slice, known + 1);
    struct index_record record;

    if (!index_view_get(mailbox_view_index(view), seq, &record))
        return error_set(e, ERROR_EXPUNGED, "gone");
    *meta = (struct mail_meta){.has_date = true, .flags = record.flags & INDEX_FLAGS_CLIENT, .keywords = names};
    for (unsigned i = 0; i < known; i++)
        if (index_keyword_has(record.keywords, i))
            names[meta->keyword_count++] = slice_from_str(index_keyword_name(index, i));
    return mail_internal_date(mail, &meta->internal_date, e) < 0 || mail_save_date(mail, &meta->save_date, e) < 0 ||
                   mail_guid(mail, &meta->guid, e) < 0
               ? -1
               : 0;
}

/* ---- the walk --------------------------------------------------------------------------------------------------------- */

static int copy_mail(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    struct copying *c = arg;
    struct mailbox *from = mailbox_view_box(view);
    uint32_t uid = index_view_uid(mailbox_view_index(view), seq);
    struct mail_meta meta;
    struct mail *mail;
    struct save *save;
    struct error e;
    int r;

    if (c->to == NULL && open_imported(d, c, mailbox_where(from), &e) < 0)
        return doveadm_mail_failed(d, &e, "Couldn't create mailbox %s", imported_name(d, c, mailbox_where(from)));
    if (c->parent == NULL) {
        r = save_copy(c->to, from, uid, NULL, &save, &e);
    } else {
        if (mail_open(view, seq, &mail, &e) < 0)
            return failed(d, c, from, uid, &e);
        r = imported_meta(mail, view, seq, &meta, &e) < 0 ? -1 : save_copy(c->to, from, uid, &meta, &save, &e);
        mail_close(&mail);
    }
    if (r < 0)
        return failed(d, c, from, uid, &e);
    VEC_PUSH(&c->saves, save);
    VEC_PUSH(&c->uids, uid);
    return DOVEADM_OK;
}

static int copy_commit(struct doveadm *d, struct mailbox_view *view, struct copying *c)
{
    struct save_result result;
    struct store_op *op = save_commit(c->to, c->saves.at, c->saves.count, true, NULL, d->arena, &result);
    struct index_batch *batch = index_batch_new(d->arena, INDEX_INTERNAL);
    int status = DOVEADM_OK;
    struct error e;

    save_commit_skips_gone(op);
    if (store_op_wait(op, &e) < 0)
        return doveadm_mail_failed(d, &e, "Committing %s mails failed", c->move ? "moved" : "copied");
    for (size_t i = 0; i < c->uids.count; i++) {
        if (result.gone[i]) {
            store_message_gone(c->uids.at[i], &e);
            doveadm_status_add(&status, failed(d, c, mailbox_view_box(view), c->uids.at[i], &e));
        } else if (c->move) {
            mailbox_batch_expunge(view, batch, c->uids.at[i]);
        }
    }
    doveadm_status_add(&status, doveadm_batch_commit(d, view, &batch)); /* empty where nothing is moved */
    return status;
}

static int copy_done(struct doveadm *d, struct mailbox_view *view, void *arg)
{
    struct copying *c = arg;
    int status = c->saves.count > 0 ? copy_commit(d, view, c) : DOVEADM_OK;

    c->saves.count = c->uids.count = 0;
    if (c->parent != NULL && c->to != NULL)
        mailbox_close(&c->to);
    return status;
}

static const struct query_walk walk = {
    .why = SYNC_POLL, .mail = copy_mail, .done = copy_done, .failed = doveadm_change_failed};

/* ---- copy, move ------------------------------------------------------------------------------------------------------- */

/* "user NAME" in front of the query names another source; otherwise those words are the query's own. */
static struct query *copy_query(struct doveadm *d, const char **source_user)
{
    const char *type = doveadm_text(d, "source-type"), *name = doveadm_text(d, "source-user");
    size_t n, i = 0;
    const char *const *words = doveadm_list(d, "query", &n);
    const char **all = ARENA_ARRAY(d->arena, const char *, n + 2);

    *source_user = NULL;
    if (strcasecmp(type, "user") == 0 && name != NULL) {
        *source_user = name;
        if (n == 0)
            all[i++] = "ALL"; /* no query is everything */
    } else {
        all[i++] = type;
        if (name != NULL)
            all[i++] = name;
    }
    for (size_t j = 0; j < n; j++)
        all[i++] = words[j];
    return query_parse(d, all, i);
}

static int copy_prepare(struct doveadm *d)
{
    const char *source;
    struct query *query;

    if (doveadm_text(d, "destination-mailbox") == NULL || doveadm_text(d, "source-type") == NULL)
        return doveadm_usage(d);
    query = copy_query(d, &source);
    if (source != NULL && d->batch_user == NULL && !doveadm_given(d, "user") && !doveadm_given(d, "all-users") &&
        !doveadm_given(d, "user-file"))
        doveadm_fatal(DOVEADM_TEMPFAIL, "Use -u parameter to specify destination user");
    if (strcmp(d->command->name, "move") == 0)
        query_check_safe(query, "move");
    doveadm_mail_print(d, "flow");
    return DOVEADM_OK;
}

static int copy_run(struct doveadm *d, struct mail_user *user)
{
    const char *to = doveadm_text(d, "destination-mailbox"), *source;
    struct copying c = {.user = user, .move = strcmp(d->command->name, "move") == 0};
    struct query *query = copy_query(d, &source);
    struct doveadm_source other = {0};
    struct error e;
    int status = DOVEADM_OK;

    if (source != NULL)
        status = doveadm_source_open(d, source, NULL, &other);
    if (status != DOVEADM_OK)
        return status;
    if (doveadm_mailbox_open(d, user, to, MAILBOX_OPEN_SAVE, &c.to, &e) < 0)
        status = doveadm_mail_failed(d, &e, "Can't open mailbox '%s'", to);
    else
        status = query_run(d, query, source == NULL ? user : other.user, &walk, &c);
    if (c.to != NULL)
        mailbox_close(&c.to);
    doveadm_source_close(&other);
    VEC_FREE(&c.saves);
    VEC_FREE(&c.uids);
    return status;
}

int doveadm_copy(struct doveadm *d)
{
    static const struct mail_command command = {copy_prepare, copy_run};

    return doveadm_mail_run(d, &command);
}

/* ---- import ----------------------------------------------------------------------------------------------------------- */

static int import_prepare(struct doveadm *d)
{
    size_t n;

    (void)doveadm_list(d, "query", &n);
    return n == 0 ? doveadm_usage(d) : DOVEADM_OK;
}

static int import_run(struct doveadm *d, struct mail_user *user)
{
    struct copying c = {.user = user, .parent = doveadm_text(d, "dest-parent-mailbox"), .subscribe = doveadm_flag(d, "subscribe")};
    const char *name = doveadm_given(d, "source-user") ? doveadm_text(d, "source-user") : mail_user_name(user);
    struct doveadm_source source = {0};
    size_t n;
    const char *const *words = doveadm_list(d, "query", &n);
    struct query *query = query_parse(d, words, n);
    int status = doveadm_source_open(d, name, doveadm_text(d, "source-location"), &source);

    if (status != DOVEADM_OK)
        return status;
    /* Rights are asked where mailboxes are made and filled. */
    mail_user_set_unchecked(user, false);
    status = query_run(d, query, source.user, &walk, &c);
    mail_user_set_unchecked(user, true);
    doveadm_source_close(&source);
    VEC_FREE(&c.saves);
    VEC_FREE(&c.uids);
    return status;
}

int doveadm_import(struct doveadm *d)
{
    static const struct mail_command command = {import_prepare, import_run};

    return doveadm_mail_run(d, &command);
}
