/* list.c - LIST, LSUB, XLIST (RFC 3501 section 6.3.8, RFC 5258, RFC 5819, RFC 8440, RFC 9590; imap 8.4). */
#include "imap/session.h"

struct list_state {
    struct mailbox_list *list;
    unsigned flags;                 /* of mailbox_list_begin */
    bool lsub, extended, lsub_flags;
    unsigned status_items;
    bool x_size, myrights;
    const struct imap_arg *metadata; /* entries that are asked for; NULL: none */
    bool tells_status;              /* of the mailbox that was listed last */
    struct store_op *status_op;
    struct mailbox_place place;     /* ... its place and name */
    struct slice shown;
    struct mailbox_status status;
    struct status_sum sum;          /* ... where it is the selected one */
    struct slice *patterns;
    size_t pattern_count;
};

/* STATUS_... that the store is to find out of each mailbox. */
static unsigned wanted_of_store(const struct list_state *t)
{
    return status_store_items(t->status_items) | (t->x_size ? STATUS_SIZE : 0);
}

static bool parse_selection(struct session *s, struct request *r, struct list_state *t, const struct imap_arg *list)
{
    static const struct {
        const char *name;
        unsigned flag;
    } words[] = {{"SUBSCRIBED", MAILBOX_LIST_SELECT_SUBSCRIBED | MAILBOX_LIST_RETURN_SUBSCRIBED},
                 {"RECURSIVEMATCH", MAILBOX_LIST_SELECT_RECURSIVE},
                 {"SPECIAL-USE", MAILBOX_LIST_SELECT_SPECIAL_USE | MAILBOX_LIST_RETURN_SPECIAL_USE},
                 {"REMOTE", 0}};

    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        size_t i = 0;

        if (!imap_arg_is_atom(a)) {
            request_bad(s, r, "List options contains non-atoms");
            return false;
        }
        while (i < 4 && !slice_equal_str_nocase(a->text, words[i].name))
            i++;
        if (i == 4) {
            request_bad(s, r, "Unknown select options");
            return false;
        }
        t->flags |= words[i].flag;
    }
    if ((t->flags & MAILBOX_LIST_SELECT_RECURSIVE) != 0 &&
        (t->flags & (MAILBOX_LIST_SELECT_SUBSCRIBED | MAILBOX_LIST_SELECT_SPECIAL_USE)) == 0) {
        request_bad(s, r, "RECURSIVEMATCH must not be the only selection");
        return false;
    }
    return true;
}

static bool parse_return(struct session *s, struct request *r, struct list_state *t, const struct imap_arg *list)
{
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        if (!imap_arg_is_atom(a)) {
            request_bad(s, r, "List options contains non-atoms");
            return false;
        }
        if (slice_equal_str_nocase(a->text, "SUBSCRIBED")) {
            t->flags |= MAILBOX_LIST_RETURN_SUBSCRIBED;
        } else if (slice_equal_str_nocase(a->text, "CHILDREN")) {
            t->flags |= MAILBOX_LIST_RETURN_CHILDREN;
        } else if (slice_equal_str_nocase(a->text, "SPECIAL-USE")) {
            t->flags |= MAILBOX_LIST_RETURN_SPECIAL_USE;
        } else if (slice_equal_str_nocase(a->text, "STATUS") && a->next != NULL && a->next->type == IMAP_LIST) {
            a = a->next;
            if (!request_status_items(s, r, a, &t->status_items, &t->x_size))
                return false;
        } else if (slice_equal_str_nocase(a->text, "MYRIGHTS") && session_extension(s, "LIST-MYRIGHTS")) {
            t->myrights = true;
        } else if (slice_equal_str_nocase(a->text, "METADATA") && session_extension(s, "LIST-METADATA")) {
            a = a->next;
            if (!metadata_entries(s, r, a))
                return false;
            t->metadata = a->children;
        } else {
            request_bad(s, r, "Unknown return options");
            return false;
        }
    }
    return true;
}

/* `LIST ref ""`: the separator, and what of the reference is a root (imap 8.4). */
static void tell_root(struct session *s, struct slice reference)
{
    const struct mail_namespace *ns, *found = mail_user_inbox_namespace(s->user);
    struct slice root = SLICE("");
    struct buffer out = {0};
    char separator[2] = {found->separator, '\0'};
    ptrdiff_t at;

    for (ns = mail_user_namespaces(s->user); ns != NULL; ns = ns->next) {
        size_t n = strlen(ns->prefix);

        if (n > 0 && (slice_starts(reference, slice_from_str(ns->prefix)) ||
                      (reference.size == n - 1 && slice_equal(reference, slice_of(ns->prefix, n - 1)))))
            root = slice_from_str(ns->prefix);
    }
    at = slice_find(reference, (unsigned char)found->separator);
    if (root.size == 0 && at >= 0)
        root = slice_head(reference, (size_t)at + 1);
    buffer_append_str(&out, "* LIST (\\Noselect) ");
    mime_put_nstring(&out, slice_from_str(separator));
    buffer_append_byte(&out, ' ');
    mime_put_astring(&out, root);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
}

/* Reference and pattern as one pattern in UTF-8; what is not mUTF-7 matches nothing. */
static void add_pattern(const struct session *s, struct request *r, struct list_state *t, struct slice reference, struct slice pattern)
{
    struct buffer joined = {0}, utf8 = {0};

    buffer_append_slice(&joined, reference);
    buffer_append_slice(&joined, pattern);
    if (s->utf8 && text_utf8_valid(buffer_slice(&joined)))
        buffer_append_slice(&utf8, buffer_slice(&joined));
    if (utf8.size > 0 || text_mutf7_to_utf8(&utf8, buffer_slice(&joined)) == 0)
        t->patterns[t->pattern_count++] = arena_slice(r->arena, buffer_slice(&utf8));
    buffer_free(&joined);
    buffer_free(&utf8);
}

static bool parse_patterns(struct session *s, struct request *r, struct list_state *t, struct slice reference,
                           const struct imap_arg *arg)
{
    size_t n = 1;

    if (arg->type != IMAP_LIST) {
        t->patterns = ARENA_NEW(r->arena, struct slice);
        add_pattern(s, r, t, reference, arg->text);
        return true;
    }
    for (const struct imap_arg *a = arg->children; a != NULL; a = a->next)
        n++;
    t->patterns = ARENA_ARRAY(r->arena, struct slice, n);
    for (const struct imap_arg *a = arg->children; a != NULL; a = a->next) {
        if (!imap_arg_is_string(a)) {
            request_bad(s, r, "Invalid pattern list");
            return false;
        }
        if (a->text.size > 0 || t->lsub)
            add_pattern(s, r, t, reference, a->text);
    }
    return true;
}

/* LSUB: a name that is not subscribed is said for what is subscribed below it. */
static bool shows_parents(const struct imap_arg *pattern)
{
    return pattern->type == IMAP_LIST || slice_ends(pattern->text, SLICE("%"));
}

static void begin(struct session *s, struct request *r, bool lsub)
{
    struct list_state *t = r->state = ARENA_NEW(r->arena, struct list_state);
    const struct imap_arg *a = r->args, *reference, *pattern;

    t->lsub = lsub;
    if (!lsub && a != NULL && a->type == IMAP_LIST) {
        t->extended = true;
        if (!parse_selection(s, r, t, a))
            return;
        a = a->next;
    }
    if (!imap_arg_is_string(a)) {
        request_bad(s, r, "Invalid reference");
        return;
    }
    reference = a;
    pattern = a->next;
    if (pattern == NULL) {
        request_bad(s, r, "Invalid pattern");
        return;
    }
    a = pattern->next;
    if (a != NULL) {
        if (!imap_arg_is_atom(a) || !slice_equal_str_nocase(a->text, "RETURN") || a->next == NULL ||
            a->next->type != IMAP_LIST) {
            request_bad(s, r, "Extra arguments");
            return;
        }
        if (!parse_return(s, r, t, a->next))
            return;
        if (a->next->next != NULL) {
            request_bad(s, r, "Extra arguments");
            return;
        }
        t->extended = true;
    }
    t->extended = t->extended || pattern->type == IMAP_LIST;
    if (!t->extended && !lsub && pattern->text.size == 0) {
        tell_root(s, reference->text);
        request_reply(r, "OK List completed.");
        return;
    }
    if (!parse_patterns(s, r, t, reference->text, pattern))
        return;
    if (lsub)
        t->flags |= MAILBOX_LIST_SELECT_SUBSCRIBED | MAILBOX_LIST_LSUB | (t->extended ? 0 : MAILBOX_LIST_RETURN_SPECIAL_USE) |
                    (shows_parents(pattern) ? MAILBOX_LIST_SELECT_RECURSIVE : 0);
    else if (!t->extended)
        t->flags = MAILBOX_LIST_RETURN_CHILDREN | MAILBOX_LIST_RETURN_SPECIAL_USE;
    t->lsub_flags = lsub && session_workaround(s, "tb-lsub-flags");
    t->list = mailbox_list_begin(s->user, t->patterns, t->pattern_count, t->flags);
    mailbox_list_ask(t->list, wanted_of_store(t));
}

void list_begin(struct session *s, struct request *r)
{
    begin(s, r, false);
}

void lsub_begin(struct session *s, struct request *r)
{
    begin(s, r, true);
}

static void put_flag(struct buffer *out, const char *name, bool *first)
{
    buffer_printf(out, "%s%s", *first ? "" : " ", name);
    *first = false;
}

void put_box_flags(struct buffer *out, unsigned f, const char *missing, bool children, bool *first)
{
    if ((f & MAILBOX_INFO_NONEXISTENT) != 0)
        put_flag(out, missing, first);
    else if ((f & MAILBOX_INFO_NOSELECT) != 0)
        put_flag(out, "\\Noselect", first);
    if (children && (f & MAILBOX_INFO_NOINFERIORS) != 0)
        put_flag(out, "\\NoInferiors", first);
    else if (children && (f & MAILBOX_INFO_CHILDREN) != 0)
        put_flag(out, "\\HasChildren", first);
    else if (children && (f & MAILBOX_INFO_NOCHILDREN) != 0)
        put_flag(out, "\\HasNoChildren", first);
    if ((f & MAILBOX_INFO_MARKED) != 0)
        put_flag(out, "\\Marked", first);
    if ((f & MAILBOX_INFO_UNMARKED) != 0)
        put_flag(out, "\\UnMarked", first);
}

static void put_info_flags(const struct list_state *t, struct buffer *out, const struct mailbox_info *info)
{
    bool first = true;
    unsigned f = info->flags;

    buffer_append_byte(out, '(');
    if ((t->flags & MAILBOX_LIST_RETURN_SUBSCRIBED) != 0 && (f & MAILBOX_INFO_SUBSCRIBED) != 0)
        put_flag(out, "\\Subscribed", &first);
    if (t->lsub) {
        /* a subscribed name that does not exist is no \Noselect, unless the workaround asks for the truth */
        if ((f & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) != 0 &&
            ((f & MAILBOX_INFO_SUBSCRIBED) == 0 || t->lsub_flags))
            put_flag(out, t->extended ? "\\NonExistent" : "\\Noselect", &first);
        if ((t->flags & MAILBOX_LIST_RETURN_CHILDREN) != 0) /* it knows of subscriptions alone */
            put_flag(out, (f & MAILBOX_INFO_CHILD_SUBSCRIBED) != 0 ? "\\HasChildren" : "\\HasNoChildren", &first);
    } else {
        put_box_flags(out, f, t->extended ? "\\NonExistent" : "\\Noselect",
                      (t->flags & MAILBOX_LIST_RETURN_CHILDREN) != 0 || !t->extended, &first);
    }
    if ((t->flags & MAILBOX_LIST_RETURN_SPECIAL_USE) != 0 && info->special_use != NULL && *info->special_use != '\0')
        put_flag(out, info->special_use, &first);
    buffer_append_byte(out, ')');
}

static void put_child_info(const struct list_state *t, struct buffer *out, const struct mailbox_info *info)
{
    bool subscribed = (info->flags & MAILBOX_INFO_CHILD_SUBSCRIBED) != 0;
    bool special = (info->flags & MAILBOX_INFO_CHILD_SPECIAL_USE) != 0;

    if (t->lsub ? !t->extended : (t->flags & MAILBOX_LIST_SELECT_RECURSIVE) == 0)
        return;
    if (subscribed)
        buffer_append_str(out, " (CHILDINFO (\"SUBSCRIBED\"))");
    else if (special && info->special_use == NULL)
        buffer_append_str(out, " (CHILDINFO (\"SPECIAL-USE\"))");
}

static void write_status(struct session *s, const struct list_state *t, struct slice shown, const struct mailbox_status *status)
{
    struct buffer out = {0};

    put_status(s, &out, shown, t->status_items, t->x_size, status);
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
}

/* What else was asked for of a mailbox that can be selected. */
static void tell_more(struct session *s, struct request *r, struct list_state *t, const struct mailbox_info *info)
{
    bool status = t->status_items != 0 || t->x_size, only_status = !t->myrights && t->metadata == NULL;
    struct buffer name = {0};
    struct error e = {0};

    if ((!status && only_status) || (info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) != 0)
        return;
    put_shown_name(s, &name, info->vname);
    if (info->status != NULL && only_status && (t->status_items & STATUS_HIGHESTMODSEQ) == 0) {
        write_status(s, t, buffer_slice(&name), info->status);
        buffer_free(&name);
        return;
    }
    t->shown = arena_slice(r->arena, buffer_slice(&name));
    buffer_free(&name);
    if (mailbox_place(s->user, r->arena, slice_from_str(info->vname), &t->place, &e) < 0)
        return;
    if (t->myrights)
        myrights_tell(s, &t->place, t->shown);
    if (t->metadata != NULL)
        metadata_tell(s, r, &t->place, t->metadata, t->shown);
    if (status && (t->status_items & STATUS_HIGHESTMODSEQ) != 0)
        session_turn_on_modseqs(s);
    if (status) {
        t->status_op = mailbox_status(&t->place, wanted_of_store(t), &t->status);
        t->sum = (struct status_sum){0};
        t->tells_status = true;
    }
}

static void tell_mailbox(struct session *s, struct request *r, struct list_state *t, const struct mailbox_info *info)
{
    struct buffer out = {0};
    char separator[2] = {info->ns->separator, '\0'};

    buffer_append_str(&out, t->lsub ? "* LSUB " : "* LIST ");
    put_info_flags(t, &out, info);
    buffer_append_byte(&out, ' ');
    mime_put_nstring(&out, slice_from_str(separator));
    buffer_append_byte(&out, ' ');
    put_mailbox(s, &out, info->vname);
    put_child_info(t, &out, info);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    tell_more(s, r, t, info);
}

/* The STATUS that belongs to the LIST line before it. */
static enum step tell_status(struct session *s, struct request *r, struct list_state *t, struct budget *budget)
{
    struct error e = {0};
    enum step step = session_op(s, &t->status_op, budget, &e);

    if (step == STEP_ERROR) {
        t->tells_status = false;
        if (e.class != ERROR_NOT_FOUND)
            session_print(s, "* NO %s", error_reply(s, r->arena, &e, ERROR_PLAIN));
        return STEP_DONE;
    }
    if (step != STEP_DONE)
        return step;
    if (status_is_selected(s, &t->place) && status_from_view(s, wanted_of_store(t), &t->sum, &t->status, budget) != STEP_DONE)
        return STEP_MORE;
    write_status(s, t, t->shown, &t->status);
    t->tells_status = false;
    return STEP_DONE;
}

enum step list_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct list_state *t = r->state;

    for (;;) {
        const struct mailbox_info *info = NULL;
        enum step step;

        if (t->tells_status && (step = tell_status(s, r, t, budget)) != STEP_DONE)
            return step;
        if (stream_full(s->io))
            return STEP_OUTPUT_FULL;
        step = mailbox_list_next(t->list, budget, &info, e);
        if (step == STEP_MORE) {
            tell_mailbox(s, r, t, info);
            if (s->phase != PHASE_RUN) /* CONDSTORE comes first, and then this goes on */
                return STEP_MORE;
            continue;
        }
        if (step == STEP_WAIT)
            return STEP_MORE; /* its slice is used up */
        if (step == STEP_DONE)
            request_reply(r, t->lsub ? "OK Lsub completed." : "OK List completed.");
        return step;
    }
}

void list_end(struct session *s, struct request *r)
{
    struct list_state *t = r->state;

    (void)s;
    if (t == NULL)
        return;
    store_op_free(&t->status_op);
    if (t->list != NULL)
        mailbox_list_end(&t->list);
}
