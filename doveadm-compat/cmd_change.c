/* cmd_change.c - search, flags, altmove, expunge, deduplicate: commands over the messages of a query (doveadm 6). */
#include "query.h"

#include <strings.h>
#include <uthash.h>

static int query_prepare(struct doveadm *d)
{
    size_t n;

    doveadm_list(d, "query", &n);
    return n == 0 ? doveadm_usage(d) : DOVEADM_OK;
}

static struct query *parse_query(struct doveadm *d)
{
    size_t n;
    const char *const *words = doveadm_list(d, "query", &n);

    return query_parse(d, words, n);
}

int doveadm_batch_commit(struct doveadm *d, struct mailbox_view *view, struct index_batch **batch_p)
{
    struct index_batch *batch = *batch_p;
    const char *vname = mailbox_where(mailbox_view_box(view))->vname;
    struct error e;

    *batch_p = NULL;
    if (batch == NULL || index_batch_empty(batch))
        return DOVEADM_OK;
    /* Rights are not asked (doveadm 6.3). */
    if (store_op_wait(mailbox_commit(view, batch, 0, NULL), &e) < 0 ||
        doveadm_mailbox_sync(mailbox_view_box(view), NULL, SYNC_APPLY, &e) < 0)
        return doveadm_mail_failed(d, &e, "Mailbox %s: Mailbox sync failed", vname);
    doveadm_view_refresh(view);
    return DOVEADM_OK;
}

/* ---- search --------------------------------------------------------------------------------------------------------- */

static int search_prepare(struct doveadm *d)
{
    if (query_prepare(d) != DOVEADM_OK)
        return DOVEADM_USAGE;
    (void)parse_query(d);
    doveadm_mail_print(d, "flow");
    print_header(d, "mailbox-guid", "mailbox-guid", PRINT_HIDE_TITLE);
    print_header(d, "uid", "uid", PRINT_HIDE_TITLE);
    return DOVEADM_OK;
}

static int search_mail(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    unsigned char guid[16];
    struct buffer hex = {0};
    struct error e;

    (void)arg;
    if (mailbox_guid(mailbox_view_box(view), guid, &e) < 0)
        return doveadm_mail_failed(d, &e, "Couldn't get mailbox '%s' GUID", mailbox_where(mailbox_view_box(view))->vname);
    text_hex_encode(&hex, slice_of(guid, sizeof(guid)));
    print_value(d, buffer_cstr(&hex));
    buffer_free(&hex);
    print_number(d, index_view_uid(mailbox_view_index(view), seq));
    return DOVEADM_OK;
}

static int search_failed(struct doveadm *d, const char *mailbox, const struct error *e)
{
    return doveadm_mail_failed(d, e, "Couldn't get mailbox '%s' GUID", mailbox);
}

static int search_run(struct doveadm *d, struct mail_user *user)
{
    static const struct query_walk walk = {
        .why = SYNC_POLL, .read_only = true, .mail = search_mail, .failed = search_failed};

    return query_run(d, parse_query(d), user, &walk, NULL);
}

int doveadm_search(struct doveadm *d)
{
    static const struct mail_command command = {search_prepare, search_run};

    return doveadm_mail_run(d, &command);
}

/* ---- flags ---------------------------------------------------------------------------------------------------------- */

struct flags_change {
    enum index_modify how;
    uint8_t flags;
    struct slice *keywords;
    size_t count;
    struct index_batch *batch; /* of the mailbox at work */
    struct arena *arena;
};

static struct flags_change *parse_flags(struct doveadm *d)
{
    struct flags_change *c = ARENA_NEW(d->arena, struct flags_change);
    const char *text = doveadm_text(d, "flagstr");
    struct slice rest = slice_from_str(text), word;

    c->keywords = ARENA_ARRAY(d->arena, struct slice, strlen(text) + 1);
    while (slice_split(&rest, ' ', &word)) {
        uint8_t flag = 0;

        if (word.size == 0)
            continue;
        if (word.at[0] != '\\') {
            c->keywords[c->count++] = word;
            continue;
        }
        if (!index_flag_find(word, &flag) && !slice_equal_str_nocase(word, "\\Recent")) /* known, and nobody can set it */
            doveadm_fatal(DOVEADM_TEMPFAIL, "Invalid system flag: %.*s", (int)word.size, word.at);
        c->flags |= flag;
    }
    c->how = strstr(d->command->name, "add") != NULL      ? INDEX_ADD
             : strstr(d->command->name, "remove") != NULL ? INDEX_REMOVE
                                                          : INDEX_REPLACE;
    return c;
}

static int flags_prepare(struct doveadm *d)
{
    if (doveadm_text(d, "flagstr") == NULL || query_prepare(d) != DOVEADM_OK)
        return doveadm_text(d, "flagstr") == NULL ? doveadm_usage(d) : DOVEADM_USAGE;
    (void)parse_flags(d);
    (void)parse_query(d);
    doveadm_mail_print(d, "flow");
    return DOVEADM_OK;
}

static int flags_mail(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    struct flags_change *c = arg;
    uint32_t uid = index_view_uid(mailbox_view_index(view), seq);

    if (c->batch == NULL)
        c->batch = index_batch_new(d->arena, INDEX_INTERNAL);
    if (c->flags != 0 || c->how == INDEX_REPLACE)
        index_batch_flags(c->batch, uid, uid, c->how, c->flags);
    if (c->count > 0 || c->how == INDEX_REPLACE)
        index_batch_keywords(c->batch, uid, uid, c->how, c->keywords, c->count);
    return DOVEADM_OK;
}

static int flags_done(struct doveadm *d, struct mailbox_view *view, void *arg)
{
    struct flags_change *c = arg;

    return doveadm_batch_commit(d, view, &c->batch);
}

int doveadm_change_failed(struct doveadm *d, const char *mailbox, const struct error *e)
{
    return doveadm_mail_failed(d, e, "Mailbox %s: Mailbox sync failed", mailbox);
}

/* The atoms of RFC 3501: no list wildcards, no brackets, nothing that ends a word. */
static bool keyword_is_valid(struct slice name)
{
    for (size_t i = 0; i < name.size; i++)
        if (name.at[i] <= 0x20 || name.at[i] >= 0x7f || strchr("(){%*\"\\]", name.at[i]) != NULL)
            return false;
    return true;
}

static int flags_run(struct doveadm *d, struct mail_user *user)
{
    static const struct query_walk walk = {
        .why = SYNC_POLL, .mail = flags_mail, .done = flags_done, .failed = doveadm_change_failed};
    struct flags_change *c = parse_flags(d);

    for (size_t i = 0; i < c->count; i++)
        if (!keyword_is_valid(c->keywords[i])) {
            log_error(NULL, "Invalid keywords: Invalid characters in keyword");
            return DOVEADM_DATAERR;
        }
    return query_run(d, parse_query(d), user, &walk, c);
}

int doveadm_flags(struct doveadm *d)
{
    static const struct mail_command command = {flags_prepare, flags_run};

    return doveadm_mail_run(d, &command);
}

/* ---- altmove ---------------------------------------------------------------------------------------------------------- */

struct altmove {
    struct index_batch *batch;
    bool to_alt;
};

static int altmove_prepare(struct doveadm *d)
{
    if (query_prepare(d) != DOVEADM_OK)
        return DOVEADM_USAGE;
    (void)parse_query(d);
    return DOVEADM_OK;
}

static int altmove_mail(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    struct altmove *a = arg;

    if (a->batch == NULL)
        a->batch = index_batch_new(d->arena, INDEX_INTERNAL);
    mailbox_batch_altmove(view, a->batch, index_view_uid(mailbox_view_index(view), seq), a->to_alt);
    return DOVEADM_OK;
}

static int altmove_done(struct doveadm *d, struct mailbox_view *view, void *arg)
{
    struct altmove *a = arg;

    return doveadm_batch_commit(d, view, &a->batch);
}

/* Only dbox has alternative storage; for other formats the query is read, and nothing moves (doveadm 6.7). */
static int altmove_run(struct doveadm *d, struct mail_user *user)
{
    static const struct query_walk walk = {
        .why = SYNC_POLL, .mail = altmove_mail, .done = altmove_done, .failed = doveadm_change_failed};
    struct altmove a = {NULL, !doveadm_flag(d, "reverse")};
    int status = query_run(d, parse_query(d), user, &walk, &a);

    doveadm_status_add(&status, doveadm_purge_user(d, user)); /* mdbox moves its messages there */
    return status;
}

int doveadm_altmove(struct doveadm *d)
{
    static const struct mail_command command = {altmove_prepare, altmove_run};

    return doveadm_mail_run(d, &command);
}

/* ---- expunge ---------------------------------------------------------------------------------------------------------- */

struct expunge {
    struct index_batch *batch;
    bool delete_empty;
};

static int expunge_prepare(struct doveadm *d)
{
    if (query_prepare(d) != DOVEADM_OK)
        return DOVEADM_USAGE;
    query_check_safe(parse_query(d), "expunge");
    doveadm_mail_print(d, "flow");
    return DOVEADM_OK;
}

static int expunge_mail(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    struct expunge *x = arg;

    if (x->batch == NULL)
        x->batch = index_batch_new(d->arena, INDEX_INTERNAL);
    mailbox_batch_expunge(view, x->batch, index_view_uid(mailbox_view_index(view), seq));
    return DOVEADM_OK;
}

static int expunge_done(struct doveadm *d, struct mailbox_view *view, void *arg)
{
    struct expunge *x = arg;
    int status = doveadm_batch_commit(d, view, &x->batch);
    struct error e;

    if (status == DOVEADM_OK && x->delete_empty && index_view_count(mailbox_view_index(view)) == 0) {
        struct mailbox_place place = *mailbox_where(mailbox_view_box(view));
        if (strcmp(place.vname, "INBOX") == 0)
            return status;
        if (store_op_wait(mailbox_delete(&place), &e) < 0 || store_op_wait(mailbox_subscribe(&place, false), &e) < 0)
            return doveadm_mail_failed(d, &e, "Can't delete mailbox %s", place.vname);
    }
    return status;
}

static int expunge_failed(struct doveadm *d, const char *mailbox, const struct error *e)
{
    return doveadm_mail_failed(d, e, "Syncing mailbox '%s' failed", mailbox);
}

static int expunge_run(struct doveadm *d, struct mail_user *user)
{
    static const struct query_walk walk = {
        .why = SYNC_POLL, .mail = expunge_mail, .done = expunge_done, .failed = expunge_failed};
    struct expunge x = {.delete_empty = doveadm_flag(d, "delete-empty-mailbox")};

    return query_run(d, parse_query(d), user, &walk, &x);
}

int doveadm_expunge(struct doveadm *d)
{
    static const struct mail_command command = {expunge_prepare, expunge_run};

    return doveadm_mail_run(d, &command);
}

/* ---- deduplicate ------------------------------------------------------------------------------------------------------------ */

struct seen_mail {
    char *key;
    UT_hash_handle hh;
};

struct dedup {
    struct seen_mail *seen; /* of the mailbox at work */
    struct expunge expunge;
    bool by_msgid;
};

/* The GUID, or the Message-ID; NULL: the mail has none and is kept. */
static const char *dedup_key(struct doveadm *d, struct mailbox_view *view, uint32_t seq, bool by_msgid)
{
    static const struct slice name = {(const unsigned char *)"Message-ID", 10};
    struct mime_field field;
    struct slice block;
    const char *key = NULL, *guid;
    struct mail *mail;
    struct error e;

    if (mail_open(view, seq, &mail, &e) < 0)
        return NULL;
    if (by_msgid) {
        if (mail_header_fields(mail, &name, 1, &block, &e) == 0 && mime_header_find(block, "Message-ID", &field))
            key = arena_str(d->arena, slice_trim(field.value));
    } else if (mail_guid(mail, &guid, &e) == 0)
        key = arena_strdup(d->arena, guid);
    mail_close(&mail);
    return key == NULL || *key == '\0' ? NULL : key;
}

static int dedup_mail(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    struct dedup *x = arg;
    const char *key = dedup_key(d, view, seq, x->by_msgid);
    struct seen_mail *old;

    if (key == NULL)
        return DOVEADM_OK;
    HASH_FIND_STR(x->seen, key, old);
    if (old != NULL)
        return expunge_mail(d, view, seq, &x->expunge);
    old = ARENA_NEW(d->arena, struct seen_mail);
    old->key = arena_strdup(d->arena, key);
    HASH_ADD_KEYPTR(hh, x->seen, old->key, strlen(old->key), old);
    return DOVEADM_OK;
}

static int dedup_done(struct doveadm *d, struct mailbox_view *view, void *arg)
{
    struct dedup *x = arg;

    HASH_CLEAR(hh, x->seen);
    return expunge_done(d, view, &x->expunge);
}

static int dedup_run(struct doveadm *d, struct mail_user *user)
{
    static const struct query_walk walk = {
        .why = SYNC_POLL, .mail = dedup_mail, .done = dedup_done, .failed = doveadm_change_failed};
    struct dedup x = {.by_msgid = doveadm_flag(d, "by-msgid")};

    return query_run(d, parse_query(d), user, &walk, &x);
}

int doveadm_deduplicate(struct doveadm *d)
{
    static const struct mail_command command = {query_prepare, dedup_run};

    return doveadm_mail_run(d, &command);
}
