/* query_run.c - which mailboxes a query opens, and the messages that match in each (doveadm 5). */
#include "query_impl.h"

#include <strings.h>

static bool has_wildcard(const char *name)
{
    return strpbrk(name, "*%") != NULL;
}

/* Positive MAILBOX keys outside of OR choose the mailboxes. */
static void collect_names(const struct query_node *n, const char **names, size_t *count, size_t most)
{
    if (n->negate)
        return;
    if (n->kind == QUERY_MAILBOX && *count < most)
        names[(*count)++] = n->text;
    if (n->kind == QUERY_AND)
        for (const struct query_node *c = n->children; c != NULL; c = c->next)
            collect_names(c, names, count, most);
}

static size_t count_nodes(const struct query_node *n)
{
    size_t sum = 1;

    for (const struct query_node *c = n->children; c != NULL; c = c->next)
        sum += count_nodes(c);
    return sum;
}

static bool names_guid(const struct query_node *n)
{
    bool found = n->kind == QUERY_MAILBOX_GUID;

    for (const struct query_node *c = n->children; c != NULL && !found; c = c->next)
        found = names_guid(c);
    return found;
}

/* Without a name: the user's own mailboxes; those of others and public ones too where a GUID may mean one of them. */
static int choose_mailboxes(struct doveadm *d, const struct query *q, struct mail_user *user, const char ***out,
                            size_t *count, struct error *e)
{
    size_t most = count_nodes(q->root), n = 0;
    const char **names = ARENA_ARRAY(d->arena, const char *, most);
    bool patterns = false;

    collect_names(q->root, names, &n, most);
    for (size_t i = 0; i < n; i++)
        patterns = patterns || has_wildcard(names[i]);
    if (n > 0 && !patterns) {
        *out = names;
        *count = n;
        return 0;
    }
    return doveadm_mailbox_match(d, user, names, n, n == 0 && !names_guid(q->root) ? DOVEADM_MATCH_PRIVATE : 0, out, count, e);
}

/* ---- the tree for one mailbox ------------------------------------------------------------------------------------------ */

struct chosen {
    const char *vname;
    char separator;
    char guid[33];
};

static struct search_key *convert(struct doveadm *d, const struct query_node *n, const struct chosen *box)
{
    struct search_key *key, **last;
    bool yes;

    switch (n->kind) {
    case QUERY_KEY:
    case QUERY_INTHREAD:
        key = ARENA_NEW(d->arena, struct search_key);
        *key = *n->key;
        key->next = NULL;
        if (n->kind == QUERY_INTHREAD)
            key->children = convert(d, n->children, box);
        break;
    case QUERY_AND:
    case QUERY_OR:
        key = search_key_new(d->arena, n->kind == QUERY_AND ? SEARCH_AND : SEARCH_OR);
        last = &key->children;
        for (const struct query_node *c = n->children; c != NULL; c = c->next) {
            *last = convert(d, c, box);
            last = &(*last)->next;
        }
        break;
    default:
        if (n->kind == QUERY_MAILBOX_GUID)
            yes = strcasecmp(n->text, box->guid) == 0;
        else
            yes = has_wildcard(n->text)
                      ? mailbox_pattern_match(slice_from_str(n->text), slice_from_str(box->vname), box->separator)
                      : strcmp(n->text, box->vname) == 0;
        key = search_key_new(d->arena, yes ? SEARCH_ALL : SEARCH_NONE);
        break;
    }
    key->negate ^= n->negate;
    return key;
}

/* "*" in a set means the last message. */
static void resolve_star(struct index_ranges *ranges, uint32_t last)
{
    for (size_t i = 0; i < ranges->count; i++) {
        if (ranges->at[i].first == UINT32_MAX || ranges->at[i].first > last)
            if (ranges->at[i].last == UINT32_MAX)
                ranges->at[i].first = last;
        if (ranges->at[i].last == UINT32_MAX && ranges->at[i].first <= last)
            ranges->at[i].last = last;
    }
}

static void resolve_stars(struct doveadm *d, struct search_key *key, struct index_view *view)
{
    uint32_t count = index_view_count(view);

    for (; key != NULL; key = key->next) {
        if (key->type == SEARCH_SEQS || key->type == SEARCH_UIDS) {
            struct index_ranges copy = key->ranges;
            copy.at = arena_copy(d->arena, copy.at, copy.count * sizeof(*copy.at));
            key->ranges = copy; /* the query's own stays for the next mailbox */
            resolve_star(&key->ranges, key->type == SEARCH_SEQS ? count : index_view_uid(view, count));
        }
        resolve_stars(d, key->children, view);
    }
}

void doveadm_view_refresh(struct mailbox_view *view)
{
    struct index_change change;

    index_view_sync(mailbox_view_index(view), false);
    while (index_view_next(mailbox_view_index(view), &change))
        ;
}

static int walk_mailbox(struct doveadm *d, struct query *q, struct mailbox *box, const struct query_walk *walk, void *arg)
{
    struct mailbox_view *view = mailbox_view_open(box, walk->read_only);
    struct index_view *index = mailbox_view_index(view);
    const struct mailbox_place *place = mailbox_where(box);
    struct chosen chosen = {.vname = place->vname, .separator = place->ns->separator};
    struct buffer hex = {0};
    unsigned char guid[16];
    struct store_search *search;
    struct search_key *root;
    int status = DOVEADM_OK;
    struct error e;

    /* Without the view: \Recent stays for the mail client. */
    if (doveadm_mailbox_sync(box, NULL, walk->why, &e) < 0) {
        status = walk->failed(d, place->vname, &e);
        mailbox_view_close(&view);
        return status;
    }
    doveadm_view_refresh(view);
    if (mailbox_guid(box, guid, &e) == 0) {
        text_hex_encode(&hex, slice_of(guid, sizeof(guid)));
        memcpy(chosen.guid, hex.at, 32);
        buffer_free(&hex);
    }
    root = convert(d, q->root, &chosen);
    resolve_stars(d, root, index);
    search = store_search_new(d->arena, root);
    for (uint32_t seq = 1, count = index_view_count(index); seq <= count; seq++) {
        struct budget budget = BUDGET_UNLIMITED;
        bool matches = false;
        enum step step;
        while ((step = store_search_match(search, view, seq, &budget, &matches, &e)) == STEP_MORE)
            ;
        if (step == STEP_ERROR) {
            if (e.class != ERROR_EXPUNGED)
                doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Mailbox %s: reading a mail failed", place->vname));
            continue;
        }
        if (matches)
            doveadm_status_add(&status, walk->mail(d, view, seq, arg));
        else if (q->oldest_only && !store_search_glanced(search))
            break;
    }
    store_search_free(search);
    if (walk->done != NULL)
        doveadm_status_add(&status, walk->done(d, view, arg));
    index_cache_flush(mailbox_index(box));
    mailbox_view_close(&view);
    return status;
}

int query_run(struct doveadm *d, struct query *q, struct mail_user *user, const struct query_walk *walk, void *arg)
{
    const char **names;
    size_t n;
    int status = DOVEADM_OK;
    struct error e;

    if (choose_mailboxes(d, q, user, &names, &n, &e) < 0)
        return doveadm_mail_failed(d, &e, "Listing mailboxes failed");
    for (size_t i = 0; i < n; i++) {
        struct mailbox_place place;
        struct mailbox *box;
        if (mailbox_place(user, d->arena, slice_from_str(names[i]), &place, &e) < 0 ||
            mailbox_open(&box, &place, 0, &e) < 0) {
            doveadm_status_add(&status, walk->failed(d, names[i], &e));
            continue;
        }
        doveadm_status_add(&status, walk_mailbox(d, q, box, walk, arg));
        mailbox_close(&box);
    }
    return status;
}
