/* metadata.c - GETMETADATA and SETMETADATA (RFC 5464, imap 12.4).
 *
 * A mailbox name of "" means the server, whose entries the store keeps at INBOX under a name of their own. Entries that
 * hold secrets of the server (vendor.dovecot/pvt) are never shown. */
#include "imap/session.h"
#include "store/attribute.h"

enum { DEPTH_ONE = 1, DEPTH_ALL = 2 };

struct metadata_state {
    const struct imap_arg *name, *entries;   /* entries: the first; NULL = none */
    bool server, many;
    bool broken;                             /* the list of entries does not end */
    size_t changes;                          /* of the selected mailbox, all of which the client knows */
    /* GETMETADATA */
    bool limited;
    uint32_t max_size;
    int depth;
    uint64_t longest;                        /* of the values that were too long */
    struct mailbox_list *list;
    struct slice pattern;
    struct error first;                      /* failure of the first mailbox of a list */
    bool failed;
};

/* ---- names ---- */

static const char *entry_fault(struct slice entry)
{
    if (entry.size == 0 || entry.at[0] != '/')
        return "Entry name must begin with '/'";
    for (size_t i = 0; i < entry.size; i++) {
        if (entry.at[i] == '/' && i > 0 && entry.at[i - 1] == '/')
            return "Entry name can't contain consecutive '/'";
        if (entry.at[i] == '/' && i + 1 == entry.size)
            return "Entry name can't end with '/'";
        if (entry.at[i] == '*')
            return "Entry name can't contain '*'";
        if (entry.at[i] == '%')
            return "Entry name can't contain '%'";
        if (entry.at[i] < 0x20)
            return "Entry name can't contain control chars";
    }
    for (size_t n = 7; n <= 8; n++) {
        const char *scope = n == 7 ? "/shared" : "/private";

        if (slice_equal_nocase(slice_head(entry, n), slice_from_str(scope)) && (entry.size == n || entry.at[n] == '/'))
            return NULL;
    }
    return "Entry name must begin with /private or /shared";
}

/* "/private/x" -> scope and "x" in lower case. */
static const char *entry_name(struct request *r, struct slice entry, enum attribute_scope *scope)
{
    size_t n = text_lower((char)entry.at[1]) == 'p' ? sizeof("/private") - 1 : sizeof("/shared") - 1;

    *scope = n == sizeof("/private") - 1 ? ATTRIBUTE_PRIVATE : ATTRIBUTE_SHARED;
    return arena_str(r->arena, text_lowered(r->arena, slice_from(entry, n < entry.size ? n + 1 : n)));
}

static bool is_internal(const char *name)
{
    return strncmp(name, ATTRIBUTE_INTERNAL_PREFIX, sizeof(ATTRIBUTE_INTERNAL_PREFIX) - 1) == 0;
}

/* The store's name of an entry. */
static const char *stored_name(const struct metadata_state *t, struct request *r, const char *name)
{
    return t->server ? arena_printf(r->arena, ATTRIBUTE_SERVER_PREFIX "%s", name) : name;
}

static bool check_entry(struct session *s, struct request *r, const struct imap_arg *a, const char *otherwise)
{
    const char *fault = imap_arg_is_string(a) ? entry_fault(a->text) : otherwise;

    if (fault != NULL)
        request_bad(s, r, "%s", fault);
    return fault == NULL;
}

static void not_enabled(struct error *e)
{
    error_set(e, ERROR_UNSUPPORTED, "Generic mailbox attributes not enabled");
    error_user(e, "Generic mailbox attributes not enabled");
}

/* Opens the mailbox, or INBOX for the server's entries. */
static int open_box(struct session *s, const struct mailbox_place *place, struct mailbox **box, struct error *e)
{
    const unsigned any = MAILBOX_RIGHT_READ | MAILBOX_RIGHT_SEEN | MAILBOX_RIGHT_WRITE | MAILBOX_RIGHT_INSERT | MAILBOX_RIGHT_POST;

    if (mailbox_need(place, MAILBOX_RIGHT_LOOKUP, e) < 0)
        return -1;
    if ((mailbox_rights(place) & any) == 0) /* RFC 5464 section 3.3 */
        return mailbox_need(place, MAILBOX_RIGHT_READ, e);
    if (mailbox_open(box, place, 0, e) < 0)
        return -1;
    if (!conf_bool(s->set, SET_imap_metadata)) {
        mailbox_close(box);
        not_enabled(e);
        return -1;
    }
    return 0;
}

/* The place of the name argument; false: answered. What cannot be a name does not exist. */
static bool find_place(struct session *s, struct request *r, struct metadata_state *t, struct mailbox_place *place)
{
    struct slice name;
    struct error e = {0};

    if (t->server)
        return mailbox_place(s->user, r->arena, SLICE("INBOX"), place, &e) == 0;
    if (!request_name(s, r, t->name->text, &name))
        return false;
    if (mailbox_place(s->user, r->arena, name, place, &e) == 0)
        return true;
    if (strstr(e.user, "Missing namespace prefix") != NULL)
        request_place_error(s, r, &e, ERROR_PLAIN);
    else
        request_no_mailbox(r, name);
    return false;
}

/* ---- GETMETADATA ---- */

static bool parse_options(struct session *s, struct request *r, struct metadata_state *t, const struct imap_arg *list)
{
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        const struct imap_arg *value = a->next;

        if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "MAXSIZE")) {
            if (!imap_arg_is_atom(value) || !slice_to_u32(value->text, &t->max_size)) {
                request_bad(s, r, "Invalid value for MAXSIZE option");
                return false;
            }
            t->limited = true;
        } else if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "DEPTH")) {
            if (imap_arg_is_atom(value) && slice_equal_str(value->text, "0")) {
                t->depth = 0;
            } else if (imap_arg_is_atom(value) && slice_equal_str(value->text, "1")) {
                t->depth = DEPTH_ONE;
            } else if (imap_arg_is_atom(value) && slice_equal_str_nocase(value->text, "infinity")) {
                t->depth = DEPTH_ALL;
            } else {
                request_bad(s, r, "Invalid value for DEPTH option");
                return false;
            }
        } else {
            request_bad(s, r, "Unknown option");
            return false;
        }
        a = value;
    }
    return true;
}

/* The entries of a list, or the one that stands alone: what stands behind it is not looked at. */
static const struct imap_arg *entries_of(struct request *r, const struct imap_arg *a)
{
    struct imap_arg *alone;

    if (a->type == IMAP_LIST)
        return a->children;
    alone = ARENA_NEW(r->arena, struct imap_arg);
    *alone = *a;
    alone->next = NULL;
    return alone;
}

void getmetadata_begin(struct session *s, struct request *r)
{
    struct metadata_state *t = r->state = ARENA_NEW(r->arena, struct metadata_state);
    const struct imap_arg *a = r->args;

    if (a != NULL && a->type == IMAP_LIST) {
        if (!parse_options(s, r, t, a))
            return;
        a = a->next;
    }
    if (!imap_arg_is_string(a) || a->next == NULL || (a->next->type != IMAP_LIST && a->next->next != NULL)) {
        request_bad(s, r, "Invalid arguments");
        return;
    }
    t->name = a;
    t->entries = entries_of(r, a->next);
    for (const struct imap_arg *entry = t->entries; entry != NULL; entry = entry->next)
        if (!check_entry(s, r, entry, "Entry isn't astring"))
            return;
    t->server = a->text.size == 0;
    t->many = slice_find(a->text, '*') >= 0 || slice_find(a->text, '%') >= 0;
    if (t->many) {
        struct buffer utf8 = {0};
        bool valid = text_mutf7_to_utf8(&utf8, a->text) == 0;

        t->pattern = arena_slice(r->arena, buffer_slice(&utf8));
        buffer_free(&utf8);
        if (!valid) {
            request_reply(r, "OK Getmetadata completed.");
            return;
        }
        t->list = mailbox_list_begin(s->user, &t->pattern, 1, 0);
    }
}

/* One mailbox's answer while it grows: nothing is said when it stays empty. */
struct answer {
    struct buffer out;
    bool any;
};

static void put_entry(struct metadata_state *t, struct answer *to, struct slice name, const char *value)
{
    size_t n = value == NULL ? 0 : strlen(value);

    if (t->limited && n > t->max_size) {
        if (n > t->longest)
            t->longest = n;
        return;
    }
    buffer_append_byte(&to->out, to->any ? ' ' : '(');
    to->any = true;
    mime_put_astring(&to->out, name);
    if (value == NULL)
        buffer_append_str(&to->out, " NIL");
    else
        buffer_printf(&to->out, " {%zu}\r\n%s", n, value);
}

/* An entry that is there, and what is below it. */
static int put_below(struct metadata_state *t, struct request *r, struct mailbox *box, struct slice entry,
                     enum attribute_scope scope, const char *name, struct answer *to, struct error *e)
{
    struct attribute_names names = {0};
    const char *value;
    int result = mailbox_attribute_get(box, scope, stored_name(t, r, name), r->arena, &value, e);

    if (result == 0 && value != NULL && *name != '\0')
        put_entry(t, to, entry, value);
    /* The prefix of the server's entries ends in its slash. */
    const char *prefix = stored_name(t, r, name);
    if (t->server && *name == '\0')
        prefix = arena_str(r->arena, slice_of(prefix, strlen(prefix) - 1));
    if (result == 0)
        result = mailbox_attribute_list(box, scope, prefix, t->server, r->arena, &names, e);
    for (size_t i = 0; result == 0 && i < names.count; i++) {
        const char *child = *name == '\0' ? names.at[i] : arena_printf(r->arena, "%s/%s", name, names.at[i]);

        if (is_internal(child) || (t->depth == DEPTH_ONE && strchr(names.at[i], '/') != NULL))
            continue;
        result = mailbox_attribute_get(box, scope, stored_name(t, r, child), r->arena, &value, e);
        if (result == 0 && value != NULL)
            put_entry(t, to, slice_from_str(arena_printf(r->arena, "%.*s/%s", (int)entry.size, (const char *)entry.at, names.at[i])), value);
    }
    VEC_FREE(&names);
    return result;
}

/* All entries of one mailbox. Failures of single ones are told behind it. */
static void tell_box(struct session *s, struct request *r, struct metadata_state *t, struct mailbox *box, struct slice shown)
{
    struct answer to = {0};
    struct buffer faults = {0};

    for (const struct imap_arg *entry = t->entries; entry != NULL; entry = entry->next) {
        enum attribute_scope scope;
        struct slice told = text_lowered(r->arena, entry->text);
        const char *name = entry_name(r, entry->text, &scope), *value = NULL;
        struct error e = {0};
        int result = 0;

        if (t->depth > 0)
            result = is_internal(name) ? 0 : put_below(t, r, box, told, scope, name, &to, &e);
        else if (is_internal(name) || (result = mailbox_attribute_get(box, scope, stored_name(t, r, name), r->arena, &value, &e)) == 0)
            put_entry(t, &to, told, value);
        if (result < 0)
            buffer_printf(&faults, "* NO %s\r\n", error_reply(s, r->arena, &e, ERROR_PLAIN));
    }
    if (to.any) {
        struct buffer line = {0};

        buffer_append_str(&line, "* METADATA ");
        mime_put_astring(&line, shown);
        buffer_append_byte(&line, ' ');
        buffer_append_slice(&line, buffer_slice(&to.out));
        buffer_append_str(&line, ")\r\n");
        session_write(s, buffer_slice(&line));
        buffer_free(&line);
    }
    if (faults.size > 0)
        session_write(s, buffer_slice(&faults));
    buffer_free(&faults);
    buffer_free(&to.out);
}

bool metadata_entries(struct session *s, struct request *r, const struct imap_arg *list)
{
    if (list == NULL || list->type != IMAP_LIST || list->children == NULL) {
        request_bad(s, r, "Invalid arguments");
        return false;
    }
    for (const struct imap_arg *entry = list->children; entry != NULL; entry = entry->next)
        if (!check_entry(s, r, entry, "Entry isn't astring"))
            return false;
    return true;
}

void metadata_tell(struct session *s, struct request *r, const struct mailbox_place *place, const struct imap_arg *entries,
                   struct slice shown)
{
    struct metadata_state t = {.entries = entries};
    struct mailbox *box;
    struct error e = {0};

    if (open_box(s, place, &box, &e) < 0) {
        session_print(s, "* NO Failed to open mailbox %.*s: %s", (int)shown.size, (const char *)shown.at,
                      e.class == ERROR_UNSUPPORTED ? e.user : error_reply(s, r->arena, &e, ERROR_PLAIN));
        return;
    }
    tell_box(s, r, &t, box, shown);
    mailbox_close(&box);
}

static void get_done(struct request *r, const struct metadata_state *t)
{
    if (t->longest > 0)
        request_reply(r, "OK [METADATA LONGENTRIES %llu] Getmetadata completed.", (unsigned long long)t->longest);
    else
        request_reply(r, "OK Getmetadata completed.");
}

/* The next mailbox of the pattern. DONE: no more. */
static enum step get_next(struct session *s, struct request *r, struct metadata_state *t, struct budget *budget, struct error *e)
{
    const struct mailbox_info *info;
    struct mailbox_place place;
    struct mailbox *box;
    struct buffer shown = {0};
    struct error sub = {0};
    enum step step = mailbox_list_next(t->list, budget, &info, e);

    if (step != STEP_MORE)
        return step == STEP_WAIT ? STEP_MORE : step;
    if ((info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) != 0)
        return STEP_MORE;
    if (text_utf8_to_mutf7(&shown, slice_from_str(info->vname)) < 0)
        buffer_append_str(&shown, info->vname);
    if (mailbox_place(s->user, r->arena, slice_from_str(info->vname), &place, &sub) < 0 || open_box(s, &place, &box, &sub) < 0) {
        if (!t->failed)
            t->first = sub;
        t->failed = true;
        if (sub.class == ERROR_UNSUPPORTED)
            session_print(s, "* NO %s", sub.user);
        else
            session_print(s, "* NO Failed to open mailbox %s: %s", buffer_cstr(&shown), error_reply(s, r->arena, &sub, ERROR_PLAIN));
    } else {
        tell_box(s, r, t, box, buffer_slice(&shown));
        mailbox_close(&box);
    }
    buffer_free(&shown);
    return STEP_MORE;
}

enum step getmetadata_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct metadata_state *t = r->state;
    struct mailbox_place place;
    struct mailbox *box;

    if (!t->many) {
        if (!find_place(s, r, t, &place))
            return STEP_DONE;
        if (open_box(s, &place, &box, e) < 0) {
            request_error(s, r, e);
            return STEP_DONE;
        }
        tell_box(s, r, t, box, t->name->text);
        mailbox_close(&box);
        get_done(r, t);
        return STEP_DONE;
    }
    for (;;) {
        enum step step;

        if (stream_full(s->io))
            return STEP_OUTPUT_FULL;
        step = get_next(s, r, t, budget, e);
        if (step == STEP_MORE && budget_spent(budget, 1))
            return STEP_MORE;
        if (step == STEP_MORE)
            continue;
        if (step == STEP_DONE && t->failed)
            request_error(s, r, &t->first);
        else if (step == STEP_DONE)
            get_done(r, t);
        return step;
    }
}

void getmetadata_end(struct session *s, struct request *r)
{
    struct metadata_state *t = r->state;

    (void)s;
    if (t != NULL && t->list != NULL)
        mailbox_list_end(&t->list);
}

/* ---- SETMETADATA ---- */

void setmetadata_begin(struct session *s, struct request *r)
{
    struct metadata_state *t = r->state = ARENA_NEW(r->arena, struct metadata_state);
    const struct imap_arg *a = r->args;

    if (!imap_arg_is_string(a) || a->next == NULL || a->next->type != IMAP_LIST) {
        request_bad(s, r, "Invalid arguments");
        return;
    }
    t->name = a;
    t->server = a->text.size == 0;
    t->entries = a->next->children;
}

static int check_change(const struct metadata_state *t, struct request *r, struct mailbox *box, const struct imap_arg *value,
                        struct attribute_change *change, struct error *e)
{
    if (is_internal(change->name)) {
        error_set(e, ERROR_UNSUPPORTED, "Internal mailbox attributes cannot be accessed");
        return error_user(e, "Internal mailbox attributes cannot be accessed");
    }
    change->name = *change->name == '\0' ? "" : stored_name(t, r, change->name);
    if (value->type != IMAP_NIL && memchr(value->text.at == NULL ? (const unsigned char *)"" : value->text.at, '\0', value->text.size) != NULL) {
        error_set(e, ERROR_UNSUPPORTED, "Attribute string value has NULs");
        return error_user(e, "Attribute string value has NULs");
    }
    return mailbox_attribute_settable(box, change, e);
}

/* In a broken line: its end is reached before this entry's. */
static bool is_cut(const struct request *r, const struct imap_arg *entry)
{
    const struct imap_arg *last = entry->type == IMAP_LIST ? entry : entry->next;

    return last == NULL || (last->type == IMAP_LIST && last->next == NULL && r->parser.depth > 1);
}

/* Entries to changes, checked; the first fault answers: one of how they are written before those of the store. In a broken list those that
 * are whole. */
static bool read_changes(struct session *s, struct request *r, struct metadata_state *t, struct mailbox *box,
                         struct attribute_change *changes, size_t *count)
{
    struct error first;
    bool refused = false;

    for (const struct imap_arg *a = t->entries; a != NULL && !(t->broken && is_cut(r, a)); a = a->next->next) {
        struct attribute_change *change = &changes[(*count)++];
        struct error e = {0};

        if (imap_arg_is_string(a) && (a->next == NULL || a->next->type == IMAP_LIST)) {
            request_bad(s, r, a->next == NULL ? "Entry value missing" : "Entry value can't be a list");
            return false;
        }
        if (!check_entry(s, r, a, "Entry name isn't astring"))
            return false;
        change->name = entry_name(r, a->text, &change->scope);
        change->value = a->next->type == IMAP_NIL ? NULL : arena_str(r->arena, a->next->text);
        if (check_change(t, r, box, a->next, change, &e) < 0 && !refused) {
            first = e;
            refused = true;
        }
    }
    if (refused && !t->broken)
        request_error(s, r, &first);
    return !refused;
}

static void set_start(struct session *s, struct request *r, struct metadata_state *t)
{
    struct mailbox_place place;
    struct attribute_change *changes;
    struct mailbox *box;
    struct error e = {0};
    size_t n = 1, count = 0;

    if (!find_place(s, r, t, &place))
        return;
    if (open_box(s, &place, &box, &e) < 0) {
        request_error(s, r, &e);
        return;
    }
    for (const struct imap_arg *a = t->entries; a != NULL; a = a->next)
        n++;
    changes = ARENA_ARRAY(r->arena, struct attribute_change, n);
    if (read_changes(s, r, t, box, changes, &count) && !t->broken) {
        t->changes = session_knows_all(s, box) ? count : 0;
        r->op = mailbox_attribute_set(box, changes, count);
    }
    mailbox_close(&box);
}

enum step setmetadata_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct metadata_state *t = r->state;
    enum step step;

    if (r->op == NULL) {
        set_start(s, r, t);
        if (r->op == NULL)
            return STEP_DONE;
    }
    step = request_op(s, r, budget, e);
    if (step == STEP_ERROR) {
        request_error(s, r, e);
        return STEP_DONE;
    }
    if (step == STEP_DONE) {
        if (t->changes > 0)
            session_knows_own(s, t->changes);
        request_reply(r, "OK Setmetadata completed.");
    }
    return step;
}

/* The mailbox is looked for, and entries are, before the rest is read. */
void setmetadata_broken(struct session *s, struct request *r)
{
    struct metadata_state *t;

    if (r->args == NULL || (imap_arg_is_string(r->args) && (r->args->next == NULL || r->args->next->type != IMAP_LIST)))
        return; /* nothing that could be looked at */
    setmetadata_begin(s, r);
    t = r->state;
    if (r->reply != NULL)
        return;
    t->broken = true;
    set_start(s, r, t);
}
