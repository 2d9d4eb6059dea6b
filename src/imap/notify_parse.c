/* notify_parse.c - the arguments of NOTIFY (RFC 5465 section 8). */
#include "imap/notify.h"

static const struct {
    const char *name;
    unsigned event;                /* 0: not supported */
} events[] = {{"MessageNew", NOTIFY_NEW},           {"MessageExpunge", NOTIFY_EXPUNGE},
              {"FlagChange", NOTIFY_FLAGS},         {"MailboxName", NOTIFY_NAMES},
              {"SubscriptionChange", NOTIFY_SUBSCRIPTIONS},
              {"AnnotationChange", 0},              {"MailboxMetadataChange", 0},
              {"ServerMetadataChange", 0}};
enum { EVENTS = sizeof(events) / sizeof(events[0]) };

struct parse {
    struct session *s;
    struct request *r;
    struct notify_plan *plan;
    struct buffer unsupported;
    bool lists;                    /* a group about mailboxes that are not selected */
    bool too_many;
};

static bool invalid(struct parse *p)
{
    request_bad(p->s, p->r, "Invalid arguments");
    return false;
}

/* What stands behind NONE is not looked at. */
static bool is_none(const struct imap_arg *a)
{
    return imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "NONE");
}

/* "(MessageNew (items) MessageExpunge ...)" or NONE */
static bool parse_events(struct parse *p, const struct imap_arg *a, bool selected, unsigned *out)
{
    const unsigned both = NOTIFY_NEW | NOTIFY_EXPUNGE;

    *out = 0;
    if (is_none(a))
        return true;
    if (a == NULL || a->next != NULL)
        return invalid(p);
    if (a->type != IMAP_LIST || a->children == NULL)
        return invalid(p);
    for (a = a->children; a != NULL; a = a->next) {
        int i = 0;

        while (i < EVENTS && !(imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, events[i].name)))
            i++;
        if (i == EVENTS)
            return invalid(p);
        *out |= events[i].event;
        if (events[i].event == 0) {
            buffer_append_byte(&p->unsupported, ' ');
            buffer_append_str(&p->unsupported, events[i].name);
        }
        if (events[i].event == NOTIFY_NEW && selected && a->next != NULL && a->next->type == IMAP_LIST) {
            if (a->next->children == NULL)
                return invalid(p);
            if (!fetch_parse_news(p->s, p->r, a->next, "", &p->plan->fetch))
                return false;
            a = a->next;
        }
    }
    if (!selected) /* the real server asks for pairs of the selected mailbox alone */
        return true;
    if ((*out & both) != 0 && (*out & both) != both) {
        request_bad(p->s, p->r, "MessageNew and MessageExpunge must be together");
        return false;
    }
    if ((*out & NOTIFY_FLAGS) != 0 && (*out & both) == 0) {
        request_bad(p->s, p->r, "FlagChange requires MessageNew and MessageExpunge");
        return false;
    }
    return true;
}

static bool parse_selected(struct parse *p, const struct imap_arg *a, bool delayed)
{
    if (p->plan->selected) {
        request_bad(p->s, p->r, "Duplicate selected filter");
        return false;
    }
    p->plan->selected = true;
    p->plan->delayed = delayed;
    return parse_events(p, a, true, &p->plan->selected_events);
}

static bool parse_group(struct parse *p, const struct imap_arg *a, struct notify_group ***tail)
{
    struct notify_group *g;
    const struct imap_arg *name = a->children;

    if (a->type != IMAP_LIST || !imap_arg_is_atom(a->children))
        return invalid(p);
    a = a->children;
    if (slice_equal_str_nocase(a->text, "selected") || slice_equal_str_nocase(a->text, "selected-delayed"))
        return parse_selected(p, a->next, a->text.size > 8);
    g = ARENA_NEW(p->r->arena, struct notify_group);
    if (!mailbox_filter_parse(p->s, p->r, &a, &g->filter))
        return is_none(name->next) || invalid(p); /* no mailboxes, no events */
    if (g->filter.kind == FILTER_SUBTREE_ONE && !session_extension(p->s, "MULTISEARCH"))
        return invalid(p);
    p->too_many = p->too_many || g->filter.too_many;
    if (!parse_events(p, a, false, &g->events))
        return false;
    p->lists = p->lists || g->events != 0;
    **tail = g;
    *tail = &g->next;
    return true;
}

static bool parse_groups(struct parse *p, const struct imap_arg *a)
{
    struct notify_group **tail = &p->plan->groups;

    for (; a != NULL; a = a->next) {
        if (!parse_group(p, a, &tail))
            return false;
    }
    if (p->unsupported.size > 0) {
        request_reply(p->r, "NO [BADEVENT%s] Unsupported NOTIFY events.", buffer_cstr(&p->unsupported));
        return false;
    }
    if (p->too_many)
        request_reply(p->r, "NO [NOTIFICATIONOVERFLOW] Too many mailbox names.");
    else if (p->lists && !conf_bool(p->s->set, SET_mailbox_list_index))
        request_reply(p->r, "NO [NOTIFICATIONOVERFLOW] NOTIFY not supported for these mailboxes.");
    return p->r->reply == NULL;
}

bool notify_parse(struct session *s, struct request *r, struct notify_plan *plan)
{
    struct parse p = {.s = s, .r = r, .plan = plan};
    const struct imap_arg *a = r->args;
    bool good;

    if (!imap_arg_is_atom(a))
        return invalid(&p);
    if (slice_equal_str_nocase(a->text, "NONE"))
        return true;
    if (!slice_equal_str_nocase(a->text, "SET"))
        return invalid(&p);
    a = a->next;
    if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "STATUS")) {
        plan->status = true;
        a = a->next;
    }
    good = parse_groups(&p, a);
    buffer_free(&p.unsupported);
    return good;
}
