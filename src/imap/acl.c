/* acl.c - GETACL, SETACL, DELETEACL, LISTRIGHTS, MYRIGHTS (RFC 4314; imap 12.3, quota-acl-plugins 2.6).
 *
 * Letters of RFC 2086 go in and out beside the newer ones: c is k and x, d is e and t. The list of a mailbox is shown to and
 * changed by who has `a` there, if only that; who has no right at all is told that there is no such mailbox. */
#include "imap/session.h"

#include "store/acl/acl.h"

static const char shown_order[] = "lrwstipekxa"; /* of MYRIGHTS */
enum { IDENTIFIER_MAX = 1024 };

/* "lrs" + the old letters. */
static void put_rights(struct buffer *out, unsigned rights)
{
    struct buffer letters = {0};

    acl_put_letters(&letters, rights);
    if ((rights & (MAILBOX_RIGHT_CREATE | MAILBOX_RIGHT_DELETE)) != 0)
        buffer_append_byte(&letters, 'c');
    if ((rights & (MAILBOX_RIGHT_EXPUNGE | MAILBOX_RIGHT_TRASH)) != 0)
        buffer_append_byte(&letters, 'd');
    mime_put_astring(out, slice_of(letters.at == NULL ? (const unsigned char *)"" : letters.at, letters.size));
    buffer_free(&letters);
}

static void put_my_rights(struct buffer *out, unsigned rights)
{
    for (const char *c = shown_order; *c != '\0'; c++)
        if ((rights & acl_right_of_letter(*c)) != 0)
            buffer_append_byte(out, (unsigned char)*c);
    if ((rights & (MAILBOX_RIGHT_CREATE | MAILBOX_RIGHT_DELETE)) != 0)
        buffer_append_byte(out, 'c');
    if ((rights & (MAILBOX_RIGHT_EXPUNGE | MAILBOX_RIGHT_TRASH)) != 0)
        buffer_append_byte(out, 'd');
}

static bool arguments(struct session *s, struct request *r, unsigned count)
{
    const struct imap_arg *a = r->args;

    for (unsigned i = 0; i < count; i++, a = a->next) {
        if (a == NULL) {
            request_bad(s, r, "Missing arguments");
            return false;
        }
        if (!imap_arg_is_string(a)) {
            request_bad(s, r, "Invalid arguments");
            return false;
        }
    }
    return true;
}

static void not_found(struct request *r, const struct mailbox_place *place)
{
    request_reply(r, "NO [NONEXISTENT] Mailbox doesn't exist: %s.", place->vname);
}

/* The name as a place; without the checks for a name that a mailbox could have, since "" is asked for too. */
static bool find_place(struct session *s, struct request *r, struct mailbox_place *place)
{
    struct error e = {0};
    struct slice name;

    if (!request_name(s, r, r->args->text, &name))
        return false;
    if (name.size == 0) {
        struct mail_namespace *ns = mail_user_namespaces(s->user);

        while (ns != NULL && *ns->prefix != '\0')
            ns = ns->next;
        *place = (struct mailbox_place){ns == NULL ? mail_user_inbox_namespace(s->user) : ns, "", ""};
        return true;
    }
    if (mailbox_place(s->user, r->arena, name, place, &e) == 0)
        return true;
    if (e.class != ERROR_INVALID || strstr(e.user, "Missing namespace prefix") != NULL) {
        request_place_error(s, r, &e, ERROR_NONEXISTENT);
        return false;
    }
    /* Not a name that a mailbox could have: the namespace's own rights, no list. */
    *place = (struct mailbox_place){mail_user_inbox_namespace(s->user), arena_str(r->arena, name), ""};
    return true;
}

/* A place whose list this user may see and change. False: answered. */
static bool find_administered(struct session *s, struct request *r, struct mailbox_place *place)
{
    enum mailbox_existence there = MAILBOX_EXISTS_NO;
    struct error e = {0};
    unsigned rights;

    if (!find_place(s, r, place))
        return false;
    if (!acl_applies(place->ns)) {
        request_bad(s, r, "ACLs disabled");
        return false;
    }
    if (acl_rights(place, &rights, &e) < 0) {
        log_error_value(&s->log, &e);
        not_found(r, place);
        return false;
    }
    if ((rights & MAILBOX_RIGHT_ADMIN) != 0) {
        struct mailbox *box;

        if (*place->name == '\0' || mailbox_open(&box, place, MAILBOX_OPEN_UNCHECKED, &e) < 0) {
            if (*place->name == '\0' || e.class == ERROR_NOT_FOUND)
                not_found(r, place);
            else
                request_error_as(s, r, &e, ERROR_NONEXISTENT);
            return false;
        }
        mailbox_close(&box);
        return true;
    }
    if ((rights & MAILBOX_RIGHT_LOOKUP) == 0 || mailbox_exists(place, true, &there, &e) < 0 || there == MAILBOX_EXISTS_NO)
        not_found(r, place);
    else
        request_reply(r, "NO [NOPERM] You lack administrator privileges on this mailbox.");
    return false;
}

/* ---- MYRIGHTS, LISTRIGHTS ------------------------------------------------------------------------------------------- */

/* With the right to post alone it is not told of either: deliveries must not find out who is there. */
static bool may_know(unsigned rights)
{
    return (rights & ~(unsigned)MAILBOX_RIGHT_POST) != 0;
}

static void tell_rights(struct session *s, struct slice shown, unsigned rights)
{
    struct buffer out = {0};

    buffer_append_str(&out, "* MYRIGHTS ");
    mime_put_astring(&out, shown);
    buffer_append_byte(&out, ' ');
    put_my_rights(&out, rights);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
}

void myrights_begin(struct session *s, struct request *r)
{
    struct mailbox_place place;
    struct error e = {0};
    unsigned rights;

    if (!arguments(s, r, 1) || !find_place(s, r, &place))
        return;
    if (!acl_applies(place.ns)) {
        request_bad(s, r, "ACLs disabled");
        return;
    }
    if (acl_rights(&place, &rights, &e) < 0) {
        log_error_value(&s->log, &e);
        request_reply(r, "NO Internal error occurred. Refer to server log for more information.");
        return;
    }
    if (!may_know(rights)) {
        not_found(r, &place);
        return;
    }
    tell_rights(s, r->args->text, rights);
    request_reply(r, "OK Myrights completed.");
}

void myrights_tell(struct session *s, const struct mailbox_place *place, struct slice shown)
{
    struct error e = {0};
    unsigned rights;

    if (!acl_applies(place->ns))
        return;
    if (acl_rights(place, &rights, &e) < 0)
        log_error_value(&s->log, &e);
    else if (may_know(rights))
        tell_rights(s, shown, rights);
}

/* All rights can be given to everybody one by one; nobody has some that could not be taken away. */
void listrights_begin(struct session *s, struct request *r)
{
    struct buffer out = {0};
    struct slice name;

    if (!arguments(s, r, 2) || !request_name(s, r, r->args->text, &name))
        return;
    buffer_append_str(&out, "* LISTRIGHTS ");
    mime_put_astring(&out, r->args->text);
    buffer_append_byte(&out, ' ');
    mime_put_astring(&out, r->args->next->text);
    buffer_append_str(&out, " \"\" l r w s t p i e k x a c d\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    request_reply(r, "OK Listrights completed.");
}

/* ---- GETACL --------------------------------------------------------------------------------------------------------- */

static void put_identifier(struct buffer *out, const struct acl_entry *entry, bool negative)
{
    struct buffer id = {0};

    if (negative)
        buffer_append_byte(&id, '-');
    if (entry->global)
        buffer_append_byte(&id, '#');
    switch (entry->kind) {
    case ACL_ANYONE:
        buffer_append_str(&id, "anyone");
        break;
    case ACL_AUTHENTICATED:
        buffer_append_str(&id, "authenticated");
        break;
    case ACL_OWNER:
        buffer_append_str(&id, "owner");
        break;
    case ACL_USER:
        buffer_append_str(&id, entry->name);
        break;
    case ACL_GROUP:
        buffer_printf(&id, "$%s", entry->name);
        break;
    case ACL_GROUP_OVERRIDE:
        buffer_printf(&id, "!$%s", entry->name);
        break;
    }
    mime_put_astring(out, buffer_slice(&id));
    buffer_free(&id);
}

static bool is_me(const struct acl_entry *entry, const char *me, bool owner)
{
    return owner && (entry->kind == ACL_OWNER || (entry->kind == ACL_USER && strcmp(entry->name, me) == 0));
}

/* The owner is shown by his name, unless there is an entry for that name too. */
static void put_entries(struct buffer *out, const struct acl_entries *entries, const char *me, bool owner)
{
    bool positive = false;
    unsigned mine = 0;

    for (size_t i = 0; i < entries->count; i++)
        mine += is_me(&entries->at[i], me, owner) && !entries->at[i].global;
    for (size_t i = 0; i < entries->count; i++) {
        struct acl_entry entry = entries->at[i];

        if (is_me(&entry, me, owner) && !entry.global) {
            positive |= entry.has_rights;
            if (entry.kind == ACL_OWNER && mine == 1)
                entry.kind = ACL_USER, entry.name = me;
        }
        for (int negative = 0; negative <= 1; negative++) {
            if (!(negative ? entry.has_negative : entry.has_rights))
                continue;
            buffer_append_byte(out, ' ');
            put_identifier(out, &entry, negative);
            buffer_append_byte(out, ' ');
            put_rights(out, negative ? entry.negative : entry.rights);
        }
    }
    if (owner && !positive) {
        struct acl_entry entry = {.kind = mine > 1 ? ACL_OWNER : ACL_USER, .name = me};

        buffer_append_byte(out, ' ');
        put_identifier(out, &entry, false);
        buffer_append_byte(out, ' ');
        put_my_rights(out, MAILBOX_RIGHTS_ALL);
    }
}

void getacl_begin(struct session *s, struct request *r)
{
    struct acl_entries entries = {0};
    struct mailbox_place place;
    struct buffer out = {0};
    struct error e = {0};
    bool has_file;

    if (!arguments(s, r, 1) || !find_administered(s, r, &place))
        return;
    if (acl_read(&place, r->arena, &entries, &has_file, &e) < 0) {
        request_error_as(s, r, &e, ERROR_NONEXISTENT);
    } else {
        buffer_append_str(&out, "* ACL ");
        mime_put_astring(&out, r->args->text);
        put_entries(&out, &entries, acl_user_name(s->user), acl_is_owner(place.ns));
        buffer_append_str(&out, "\r\n");
        session_write(s, buffer_slice(&out));
        buffer_free(&out);
        request_reply(r, "OK Getacl completed.");
    }
    VEC_FREE(&entries);
}

/* ---- SETACL, DELETEACL ---------------------------------------------------------------------------------------------- */

static bool parse_rights(struct session *s, struct request *r, struct slice text, struct acl_change *change)
{
    change->how = ACL_SET;
    if (text.size > 0 && (text.at[0] == '+' || text.at[0] == '-')) {
        change->how = text.at[0] == '+' ? ACL_ADD : ACL_REMOVE;
        text = slice_from(text, 1);
    }
    for (size_t i = 0; i < text.size; i++) {
        unsigned right = acl_right_of_letter((char)text.at[i]);

        if (text.at[i] == 'c')
            right = MAILBOX_RIGHT_CREATE | MAILBOX_RIGHT_DELETE;
        else if (text.at[i] == 'd')
            right = MAILBOX_RIGHT_EXPUNGE | MAILBOX_RIGHT_TRASH;
        if (right == 0) {
            request_bad(s, r, "Invalid ACL right: %c", text.at[i]);
            return false;
        }
        change->rights |= right;
    }
    return true;
}

static bool printable(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.at[i] < 0x20 || text.at[i] == 0x7f)
            return false;
    return text_utf8_valid(text);
}

/* Whoever is meant by it, in whatever form: everybody may be given rights only where the administrator says so (acl_anyone). */
static bool parse_identifier(struct session *s, struct request *r, struct slice text, struct acl_change *change)
{
    struct slice rest = text;

    if (text.size == 0) {
        request_bad(s, r, "Invalid arguments");
        return false;
    }
    if (text.size > IDENTIFIER_MAX || !printable(text)) {
        request_bad(s, r, "Invalid identifier");
        return false;
    }
    if (rest.at[0] == '-') {
        change->negative = true;
        rest = slice_from(rest, 1);
    }
    change->who = (struct acl_entry){.kind = ACL_USER};
    if (rest.size > 0 && rest.at[0] == '#') {
        request_bad(s, r, "Global ACLs can't be modified: %.*s", (int)text.size, (const char *)text.at);
        return false;
    }
    if (slice_equal_str(rest, "anyone") || slice_equal_str(rest, "authenticated")) {
        change->who.kind = slice_equal_str(rest, "anyone") ? ACL_ANYONE : ACL_AUTHENTICATED;
    } else if (slice_equal_str(rest, "owner")) {
        change->who.kind = ACL_OWNER;
    } else if (slice_starts(rest, SLICE("!$"))) {
        change->who.kind = ACL_GROUP_OVERRIDE;
        change->who.name = arena_str(r->arena, slice_from(rest, 2));
    } else if (slice_starts(rest, SLICE("$"))) {
        change->who.kind = ACL_GROUP;
        change->who.name = arena_str(r->arena, slice_from(rest, 1));
    } else {
        change->who.name = arena_str(r->arena, rest);
    }
    return true;
}

static bool may_be_granted(struct session *s, struct request *r, const struct acl_change *change)
{
    if ((change->who.kind != ACL_ANYONE && change->who.kind != ACL_AUTHENTICATED) || acl_may_grant_anyone(s->user))
        return true;
    request_bad(s, r, "'%s' identifier is disallowed", change->who.kind == ACL_ANYONE ? "anyone" : "authenticated");
    return false;
}

/* The owner keeps `a`, and an addition to what he has by himself starts from that. False: there is nothing to do. */
static bool keep_owner(struct session *s, struct request *r, const struct mailbox_place *place, struct acl_change *change)
{
    struct acl_entries entries = {0};
    struct error e;
    bool has_file, there = false;

    if (change->negative || !is_me(&change->who, acl_user_name(s->user), acl_is_owner(place->ns)))
        return true;
    if (acl_read(place, r->arena, &entries, &has_file, &e) == 0)
        for (size_t i = 0; i < entries.count; i++)
            there |= acl_compare(&entries.at[i], &change->who) == 0 && entries.at[i].has_rights;
    VEC_FREE(&entries);
    if (change->how == ACL_REMOVE) {
        change->rights &= ~(unsigned)MAILBOX_RIGHT_ADMIN;
        return there;
    }
    if (change->how == ACL_ADD && !there) {
        change->how = ACL_SET;
        change->rights = MAILBOX_RIGHTS_ALL;
    }
    change->rights |= MAILBOX_RIGHT_ADMIN;
    return true;
}

struct change_state {
    bool own;                  /* of the selected mailbox, all of which the client knows: its log tells of the change */
};

static void start(struct session *s, struct request *r, const struct mailbox_place *place, struct acl_change *change)
{
    struct change_state *t = ARENA_NEW(r->arena, struct change_state);

    if (change->who.kind == ACL_OWNER && place->ns->type == MAIL_NAMESPACE_PUBLIC) {
        request_reply(r, "NO Public namespaces have no owner.");
        return;
    }
    t->own = status_is_selected(s, place) && session_knows_all(s, s->box);
    r->state = t;
    r->op = acl_update(place, change);
}

void setacl_begin(struct session *s, struct request *r)
{
    struct acl_change change = {0};
    struct mailbox_place place;

    if (!arguments(s, r, 3) || !parse_identifier(s, r, r->args->next->text, &change) ||
        !may_be_granted(s, r, &change) || !parse_rights(s, r, r->args->next->next->text, &change) ||
        !find_administered(s, r, &place))
        return;
    if (!keep_owner(s, r, &place, &change)) {
        request_reply(r, "OK Setacl complete.");
        return;
    }
    start(s, r, &place, &change);
}

void deleteacl_begin(struct session *s, struct request *r)
{
    struct acl_change change = {.how = ACL_CLEAR};
    struct mailbox_place place;

    if (!arguments(s, r, 2) || !parse_identifier(s, r, r->args->next->text, &change) || !find_administered(s, r, &place))
        return;
    start(s, r, &place, &change);
}

enum step setacl_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    enum step step = request_op(s, r, budget, e);

    if (step == STEP_ERROR) {
        request_error_as(s, r, e, ERROR_NONEXISTENT);
        return STEP_DONE;
    }
    if (step == STEP_DONE) {
        const struct change_state *t = r->state;

        if (t != NULL && t->own)
            session_knows_own(s, 1);
        request_reply(r, r->command->name[0] == 'S' ? "OK Setacl complete." : "OK Deleteacl complete.");
    }
    return step;
}
