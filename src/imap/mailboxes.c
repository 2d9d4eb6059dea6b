/* mailboxes.c - CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (imap 8.2, 8.3). All of them are one operation of the
 * store and a text. */
#include "imap/session.h"

struct mailbox_state {
    const char *done;          /* text of success */
    enum error_use use;
    bool selected;             /* DELETE of the selected mailbox: the session ends, whatever comes (imap 7.4) */
};

static struct mailbox_state *begin_op(struct request *r, struct store_op *op, const char *done, enum error_use use)
{
    struct mailbox_state *t = r->state = ARENA_NEW(r->arena, struct mailbox_state);

    r->op = op;
    t->done = done;
    t->use = use;
    return t;
}

static bool need_strings(struct session *s, struct request *r, unsigned n)
{
    const struct imap_arg *a = r->args;

    for (unsigned i = 0; i < n; i++, a = a->next) {
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

/* A name for CREATE or RENAME: CREATE drops one trailing separator, if the name is the same in both encodings (imap 8.2:
 * Dovecot compares lengths). */
static bool place_new(struct session *s, struct request *r, const struct imap_arg *arg, struct mailbox_place *place,
                      bool *directory, enum error_use use)
{
    struct slice name;
    struct error e = {0};
    char separator = mail_user_inbox_namespace(s->user)->separator;
    bool drops;

    if (!request_name(s, r, arg->text, &name))
        return false;
    drops = *r->command->name == 'C' && name.size == arg->text.size; /* the store takes it for a container, where the layout has such */
    if (!drops && name.size > 0 && name.at[name.size - 1] == (unsigned char)separator) {
        if (mailbox_place(s->user, r->arena, name, place, &e) == 0) { /* a namespace's prefix */
            request_reply(r, "NO [CANNOT] Invalid mailbox name: Ends with hierarchy separator.");
            return false;
        }
    } else if (mailbox_place_new(s->user, r->arena, name, place, directory, &e) == 0) {
        return true;
    }
    request_place_error(s, r, &e, use);
    return false;
}

/* "(USE (\\Sent))": the uses as the store keeps them (RFC 6154 section 3). What is no such list is nothing, as in Dovecot, unless
 * the extension is on. False: answered. */
static bool special_uses(struct session *s, struct request *r, const struct imap_arg *arg, const char **uses)
{
    static const char *const known[] = {"\\Archive", "\\Drafts", "\\Important", "\\Junk", "\\Sent", "\\Trash"};
    enum { KNOWN = sizeof(known) / sizeof(known[0]) };
    const struct imap_arg *list;
    unsigned found = 0;

    *uses = NULL;
    if (arg == NULL || !session_extension(s, "CREATE-SPECIAL-USE"))
        return true;
    if (arg->type != IMAP_LIST || !imap_arg_is_atom(arg->children) || !slice_equal_str_nocase(arg->children->text, "USE") ||
        (list = arg->children->next) == NULL || list->type != IMAP_LIST) {
        request_bad(s, r, "Invalid arguments");
        return false;
    }
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        unsigned i = 0;

        while (i < KNOWN && !(imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, known[i])))
            i++;
        if (i == KNOWN) {
            request_reply(r, "NO [USEATTR] Unsupported special-use attribute.");
            return false;
        }
        found |= 1u << i;
    }
    for (unsigned i = 0; i < KNOWN; i++)
        if ((found & 1u << i) != 0)
            *uses = *uses == NULL ? known[i] : arena_printf(r->arena, "%s %s", *uses, known[i]);
    return true;
}

void create_begin(struct session *s, struct request *r)
{
    struct mailbox_place place;
    const char *uses;
    bool directory = false;

    if (!need_strings(s, r, 1) || !special_uses(s, r, r->args->next, &uses) ||
        !place_new(s, r, r->args, &place, &directory, ERROR_PLAIN))
        return;
    begin_op(r, mailbox_create(&place, directory, uses), "OK Create completed.", ERROR_PLAIN);
}

void delete_begin(struct session *s, struct request *r)
{
    struct mailbox_place place;
    struct mailbox_state *t;

    if (!need_strings(s, r, 1))
        return;
    if (r->args->text.size == 0) {
        request_reply(r, "NO [CANNOT] Storage root can't be deleted.");
        return;
    }
    if (!request_place(s, r, r->args, &place, ERROR_NONEXISTENT))
        return;
    if (strcmp(place.vname, "INBOX") == 0) {
        request_reply(r, "NO INBOX can't be deleted.");
        return;
    }
    t = begin_op(r, NULL, "OK Delete completed.", ERROR_NONEXISTENT);
    t->selected = s->box != NULL && strcmp(mailbox_where(s->box)->vname, place.vname) == 0;
    if (t->selected)
        session_unselect(s);
    r->op = mailbox_delete(&place);
}

void rename_begin(struct session *s, struct request *r)
{
    struct mailbox_place from, to;
    struct slice old, new;
    bool directory = false;

    if (!need_strings(s, r, 2) || !request_name(s, r, r->args->text, &old) ||
        !request_name(s, r, r->args->next->text, &new))
        return;
    if (new.size > old.size && slice_starts(new, old) &&
        new.at[old.size] == (unsigned char)mail_user_inbox_namespace(s->user)->separator) {
        request_reply(r, "NO Can't rename mailbox under its own child.");
        return;
    }
    if (request_place(s, r, r->args, &from, ERROR_NONEXISTENT) &&
        place_new(s, r, r->args->next, &to, &directory, ERROR_NONEXISTENT))
        begin_op(r, mailbox_rename(&from, &to), "OK Rename completed.", ERROR_NONEXISTENT);
}

void subscribe_begin(struct session *s, struct request *r)
{
    struct mailbox_place place;
    enum mailbox_existence existence;
    struct error e = {0};
    struct slice name, asked;
    bool ends;

    if (!need_strings(s, r, 1) || !request_name(s, r, r->args->text, &name))
        return;
    asked = name;
    ends = name.size > 0 && name.at[name.size - 1] == (unsigned char)mail_user_inbox_namespace(s->user)->separator;
    if (ends && session_workaround(s, "tb-extra-mailbox-sep"))
        name.size--;
    if (mailbox_place(s->user, r->arena, name, &place, &e) < 0) {
        /* what cannot be a name does not exist */
        if (!ends && strstr(e.user, "Missing namespace prefix") != NULL)
            request_place_error(s, r, &e, ERROR_PLAIN);
        else
            request_no_mailbox(r, asked);
        return;
    }
    if (mailbox_exists(&place, true, &existence, &e) < 0) {
        request_error(s, r, &e);
        return;
    }
    if (existence != MAILBOX_EXISTS_YES) {
        request_no_mailbox(r, slice_from_str(place.vname));
        return;
    }
    begin_op(r, mailbox_subscribe(&place, true), "OK Subscribe completed.", ERROR_PLAIN);
}

void unsubscribe_begin(struct session *s, struct request *r)
{
    struct mailbox_place place;

    if (!need_strings(s, r, 1) || !request_place(s, r, r->args, &place, ERROR_NONEXISTENT))
        return;
    begin_op(r, mailbox_subscribe(&place, false), "OK Unsubscribe completed.", ERROR_NONEXISTENT);
}

enum step mailbox_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    static const char deleted[] = "Selected mailbox was deleted, have to disconnect.";
    struct mailbox_state *t = r->state;
    enum step step = request_op(s, r, budget, e);

    if (step != STEP_DONE && step != STEP_ERROR)
        return step;
    if (step == STEP_ERROR && strncmp(e->user, "Mailbox has children", 20) == 0)
        request_reply(r, "NO %s.", e->user); /* without a code, unlike others of its kind */
    else if (step == STEP_ERROR)
        request_error_as(s, r, e, t->use);
    else
        request_reply(r, "%s", t->done);
    if (t->selected)
        s->end_text = mem_strdup(deleted);
    return STEP_DONE;
}
