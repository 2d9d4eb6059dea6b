/* filter.c - filters of mailboxes: personal, subscribed, subtree, mailboxes. */
#include "imap/filter.h"

static bool take_name(const struct session *s, struct request *r, struct mailbox_filter *f, const struct imap_arg *a)
{
    struct buffer utf8 = {0};

    if (!imap_arg_is_string(a))
        return false;
    if (f->count == FILTER_NAMES_MAX) {
        f->too_many = true;
        return true;
    }
    if (s->utf8 && text_utf8_valid(a->text))
        f->names[f->count++] = arena_str(r->arena, a->text);
    else if (text_mutf7_to_utf8(&utf8, a->text) == 0) /* what is no name matches nothing */
        f->names[f->count++] = arena_str(r->arena, buffer_slice(&utf8));
    buffer_free(&utf8);
    return true;
}

/* One name or a list of them. */
static bool take_names(const struct session *s, struct request *r, struct mailbox_filter *f, const struct imap_arg *a)
{
    f->names = ARENA_ARRAY(r->arena, const char *, FILTER_NAMES_MAX);
    if (a == NULL || (a->type == IMAP_LIST && a->children == NULL))
        return false;
    if (a->type != IMAP_LIST)
        return take_name(s, r, f, a);
    for (const struct imap_arg *c = a->children; c != NULL; c = c->next) {
        if (!take_name(s, r, f, c))
            return false;
    }
    return true;
}

bool mailbox_filter_parse(const struct session *s, struct request *r, const struct imap_arg **arg, struct mailbox_filter *f)
{
    static const struct {
        const char *name;
        enum mailbox_filter_kind kind;
    } filters[] = {{"inboxes", FILTER_PERSONAL},       {"personal", FILTER_PERSONAL},   {"subscribed", FILTER_SUBSCRIBED},
                   {"subtree", FILTER_SUBTREE},        {"subtree-one", FILTER_SUBTREE_ONE}, {"mailboxes", FILTER_MAILBOXES}};
    const struct imap_arg *a = *arg;
    size_t i = 0;

    *f = (struct mailbox_filter){0};
    while (i < sizeof(filters) / sizeof(filters[0]) && !(imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, filters[i].name)))
        i++;
    if (i == sizeof(filters) / sizeof(filters[0]))
        return false;
    f->kind = filters[i].kind;
    a = a->next;
    if (f->kind != FILTER_PERSONAL && f->kind != FILTER_SUBSCRIBED) {
        if (!take_names(s, r, f, a))
            return false;
        a = a->next;
    }
    *arg = a;
    return true;
}

/* The name itself or one below it; `one`: not further down than the next level. */
static bool is_below(const char *vname, const char *parent, char separator, bool one)
{
    size_t n = strlen(parent);

    if (strncmp(vname, parent, n) != 0)
        return false;
    if (vname[n] == '\0')
        return true;
    if (n > 0 && vname[n] != separator)
        return false;
    return !one || strchr(vname + n + (n > 0), separator) == NULL;
}

bool mailbox_filter_has(const struct mailbox_filter *f, const struct mailbox_info *info)
{
    if (f->kind == FILTER_PERSONAL)
        return info->ns->type == MAIL_NAMESPACE_PRIVATE;
    if (f->kind == FILTER_SUBSCRIBED)
        return (info->flags & MAILBOX_INFO_SUBSCRIBED) != 0;
    for (size_t i = 0; i < f->count; i++) {
        const char *name = strcasecmp(f->names[i], "INBOX") == 0 ? "INBOX" : f->names[i];

        if (f->kind == FILTER_MAILBOXES ? strcmp(info->vname, name) == 0
                                        : is_below(info->vname, name, info->ns->separator, f->kind == FILTER_SUBTREE_ONE))
            return true;
    }
    return false;
}
