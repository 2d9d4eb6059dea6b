/* attribute.c - attributes of mailboxes in mail_attribute_dict (maildir-and-layouts 10, imap 12.4).
 *
 * The dictionary is written first, then the mailbox's log tells that an attribute changed (index-format 4.9), which is how
 * dsync hears of it; a crash in between loses only that hint. A few names have values that nobody wrote: they come from the
 * settings. */
#include "store/attribute.h"

#include "store/internal.h"

#include <stdio.h>
#include <time.h>

static int not_enabled(struct error *e)
{
    error_set(e, ERROR_UNSUPPORTED, "Mailbox attributes not enabled");
    return error_user(e, "Mailbox attributes not enabled");
}

int mail_user_attributes(struct mail_user *user, struct dict **out, struct error *e)
{
    const char *uri = conf_str(user->settings, SET_mail_attribute_dict);

    if (user->attributes == NULL) {
        if (*uri == '\0')
            return not_enabled(e);
        if (!conf_overridden(user->settings, SET_mail_attribute_dict))
            uri = mail_user_expand(user, user->arena, uri, e);
        if (uri == NULL || mail_user_dict(user, uri, NULL, &user->attributes, e) < 0)
            return error_context(e, "mail_attribute_dict: ");
    }
    *out = user->attributes;
    return 0;
}

int mailbox_attributes(struct mailbox *box, enum attribute_scope scope, struct dict **out, struct error *e)
{
    const char *owner = scope == ATTRIBUTE_SHARED ? mailbox_foreign_owner(box) : NULL;
    struct mail_user *user = owner == NULL ? box->user : mail_user_other(box->user, owner, "attributes of the owner of a shared mailbox,");

    if (user == NULL)
        return not_enabled(e);
    return mail_user_attributes(user, out, e);
}

static const char *guid_text(struct arena *arena, const unsigned char guid[16])
{
    struct buffer hex = {0};
    const char *text;

    text_hex_encode(&hex, slice_of(guid, 16));
    text = arena_str(arena, buffer_slice(&hex));
    buffer_free(&hex);
    return text;
}

static const char *lower(struct arena *arena, const char *name)
{
    return arena_str(arena, text_lowered(arena, slice_from_str(name)));
}

/* "priv/<guid>/" and the name. *key NULL: a mailbox that was never synced has no GUID, and so no attributes. */
static int key_of(struct mailbox *box, enum attribute_scope scope, const char *name, struct arena *arena, const char **key,
                  struct error *e)
{
    unsigned char guid[16];

    *key = NULL;
    if (mailbox_guid(box, guid, e) < 0)
        return e->class == ERROR_TEMPORARY ? 0 : -1;
    *key = arena_printf(arena, "%s/%s/%s", scope == ATTRIBUTE_PRIVATE ? "priv" : "shared", guid_text(arena, guid),
                        lower(arena, name));
    return 0;
}

/* ---- values of the settings ---- */

struct built_in {
    enum attribute_scope scope;
    const char *name;
    bool fixed;                    /* what is stored does not count, and cannot be stored */
    bool server;
    const char *(*get)(struct mailbox *);
};

static const char *get_comment(struct mailbox *box)
{
    const struct mail_auto *block = mailbox_auto_of(&box->place);

    return block == NULL ? NULL : block->comment;
}

static const char *get_special_use(struct mailbox *box)
{
    return mailbox_special_use(box->place.ns, box->place.vname);
}

static const char *setting(struct mailbox *box, enum setting id)
{
    const char *text = conf_str(box->user->settings, id);

    return *text == '\0' ? NULL : text;
}

static const char *get_server_comment(struct mailbox *box)
{
    return setting(box, SET_mail_server_comment);
}

static const char *get_server_admin(struct mailbox *box)
{
    return setting(box, SET_mail_server_admin);
}

/* In the order in which they are listed. */
static const struct built_in built_ins[] = {
    {ATTRIBUTE_PRIVATE, "comment", false, false, get_comment},
    {ATTRIBUTE_PRIVATE, "specialuse", true, false, get_special_use},
    {ATTRIBUTE_SHARED, "comment", false, false, get_comment},
    {ATTRIBUTE_SHARED, ATTRIBUTE_SERVER_PREFIX "admin", true, true, get_server_admin},
    {ATTRIBUTE_SHARED, ATTRIBUTE_SERVER_PREFIX "comment", true, true, get_server_comment},
};
enum { BUILT_INS = sizeof(built_ins) / sizeof(built_ins[0]) };

static bool is_inbox(const struct mailbox *box)
{
    return box->place.ns->inbox && strcmp(box->place.name, "INBOX") == 0;
}

static const struct built_in *find_built_in(const struct mailbox *box, enum attribute_scope scope, const char *name)
{
    for (size_t i = 0; i < BUILT_INS; i++)
        if (built_ins[i].scope == scope && (!built_ins[i].server || is_inbox(box)) && strcasecmp(built_ins[i].name, name) == 0)
            return &built_ins[i];
    return NULL;
}

/* ---- reading ---- */

int mailbox_attribute_get(struct mailbox *box, enum attribute_scope scope, const char *name, struct arena *arena,
                          const char **value, struct error *e)
{
    const struct built_in *known = find_built_in(box, scope, name);
    struct dict *dict;
    const char *key;

    *value = NULL;
    if (known == NULL || !known->fixed) {
        if (mailbox_attributes(box, scope, &dict, e) < 0 || key_of(box, scope, name, arena, &key, e) < 0 ||
            (key != NULL && dict_get(dict, arena, key, value, e) < 0))
            return -1;
    }
    if (*value == NULL && known != NULL)
        *value = known->get(box);
    if (*value == NULL && known != NULL && known->get == get_special_use)
        *value = mailbox_special_use_kept(box, arena);
    return 0;
}

static bool is_internal(const char *name)
{
    return strncmp(name, ATTRIBUTE_INTERNAL_PREFIX, sizeof(ATTRIBUTE_INTERNAL_PREFIX) - 1) == 0;
}

int mailbox_attribute_list(struct mailbox *box, enum attribute_scope scope, const char *prefix, bool internal,
                           struct arena *arena, struct attribute_names *out, struct error *e)
{
    struct dict *dict = NULL; /* where there is none the built-in ones are all there is */
    struct dict_pairs pairs = {0};
    const char *key, *all;
    const char *below = *prefix == '\0' ? "" : arena_printf(arena, "%s/", lower(arena, prefix));
    size_t skip, n = strlen(below);

    if ((*conf_str(box->user->settings, SET_mail_attribute_dict) != '\0' && mailbox_attributes(box, scope, &dict, e) < 0) ||
        key_of(box, scope, "", arena, &all, e) < 0 || key_of(box, scope, below, arena, &key, e) < 0)
        return -1;
    skip = all == NULL ? 0 : strlen(all);
    if (dict != NULL && key != NULL && dict_list(dict, arena, key, true, &pairs, e) < 0) {
        VEC_FREE(&pairs);
        return -1;
    }
    for (size_t i = 0; i < pairs.count; i++) {
        const char *name = pairs.at[i].key + skip;

        /* What a built-in name has stored is listed once, with the built-in ones. */
        if (*name != '\0' && name[n] != '\0' && (internal || !is_internal(name)) && find_built_in(box, scope, name) == NULL)
            VEC_PUSH(out, arena_strdup(arena, name + n));
    }
    VEC_FREE(&pairs);
    for (size_t i = 0; i < BUILT_INS; i++) {
        const struct built_in *known = &built_ins[i];

        if (known->scope == scope && (dict != NULL || known->fixed) && (!known->server || is_inbox(box)) && strncmp(known->name, below, n) == 0 &&
            (internal || !known->server))
            VEC_PUSH(out, known->name + n);
    }
    return 0;
}

/* ---- changing ---- */

int mailbox_attribute_settable(struct mailbox *box, const struct attribute_change *change, struct error *e)
{
    const struct built_in *known = find_built_in(box, change->scope, change->name);
    struct dict *dict;
    char text[128];

    if (known != NULL && known->fixed) {
        error_set(e, ERROR_UNSUPPORTED, "The /%s/%s attribute cannot be changed",
                  change->scope == ATTRIBUTE_PRIVATE ? "private" : "shared", known->name);
        return error_user(e, e->admin);
    }
    if (*change->name == '\0') {
        /* Dovecot takes it, and finds its log broken by the empty name. */
        snprintf(text, sizeof(text), "Invalid attribute name");
        error_set(e, ERROR_INVALID, "%s", text);
        return error_user(e, text);
    }
    return mailbox_attributes(box, change->scope, &dict, e);
}

struct attribute_op {
    struct store_op op;
    struct arena *arena;
    struct mailbox *box;
    struct attribute_change *changes;
    struct dict_change *dict_changes;
    size_t count, written;
    bool synced;
    bool note;                 /* nothing is to be written but the log */
};

static int prepare(struct attribute_op *a, struct error *e)
{
    struct dict_change *changes = ARENA_ARRAY(a->arena, struct dict_change, a->count + 1);

    for (size_t i = 0; i < a->count; i++) {
        if (mailbox_attribute_settable(a->box, &a->changes[i], e) < 0 ||
            key_of(a->box, a->changes[i].scope, a->changes[i].name, a->arena, &changes[i].key, e) < 0)
            return -1;
        if (changes[i].key == NULL)
            return error_set(e, ERROR_TEMPORARY, "Mailbox %s: has no GUID", a->box->place.vname);
        changes[i].what = a->changes[i].value == NULL ? DICT_UNSET : DICT_SET;
        changes[i].value = a->changes[i].value;
    }
    a->dict_changes = changes;
    return 0;
}

/* One commit for all; where private and shared ones have different dictionaries, one for each. */
static enum step write_changes(struct attribute_op *a, struct error *e)
{
    struct dict *dict;
    size_t n;
    enum step r;

    while (a->written < a->count) {
        enum attribute_scope scope = a->changes[a->written].scope;

        for (n = 1; a->written + n < a->count; n++)
            if (a->changes[a->written + n].scope != scope && mailbox_foreign_owner(a->box) != NULL)
                break;
        if (mailbox_attributes(a->box, scope, &dict, e) < 0)
            return STEP_ERROR;
        r = dict_commit(dict, a->dict_changes + a->written, n, e);
        if (r != STEP_DONE)
            return r;
        a->written += n;
    }
    return STEP_DONE;
}

static enum step tell_log(struct attribute_op *a, struct error *e)
{
    struct index_batch *batch = index_batch_new(a->arena, a->note ? INDEX_EXTERNAL : INDEX_INTERNAL);
    uint32_t now = (uint32_t)time(NULL);

    for (size_t i = 0; i < a->count; i++)
        index_batch_attribute(batch, a->changes[i].value != NULL, a->changes[i].scope == ATTRIBUTE_SHARED,
                              slice_from_str(a->changes[i].name), now,
                              a->changes[i].value == NULL ? 0 : (uint32_t)strlen(a->changes[i].value));
    return index_commit(a->box->index, batch, NULL, e);
}

static enum step run_set(struct store_op *op, struct budget *budget, struct error *e)
{
    struct attribute_op *a = (struct attribute_op *)op;
    enum step r;

    if (a->count == 0)
        return STEP_DONE;
    if (!a->synced) {
        unsigned char guid[16];

        /* The first sync of a mailbox gives it its GUID. */
        if (op->inner == NULL && mailbox_guid(a->box, guid, e) < 0)
            op->inner = mailbox_sync(a->box, NULL, SYNC_FULL);
        r = store_op_inner(op, budget, e);
        if (r != STEP_DONE)
            return r;
        a->synced = true;
    }
    if (!a->note) {
        if (a->dict_changes == NULL && prepare(a, e) < 0)
            return STEP_ERROR;
        r = write_changes(a, e);
        if (r != STEP_DONE)
            return r;
    }
    if (!store_op_take(op, a->box))
        return STEP_WAIT;
    r = tell_log(a, e);
    if (r == STEP_ERROR) {
        log_error_value(a->box->user->log_p, e); /* the values are there */
        return STEP_DONE;
    }
    return r;
}

static void end_set(struct store_op *op)
{
    struct attribute_op *a = (struct attribute_op *)op;

    store_op_free(&op->inner);
    store_op_give(op);
    mailbox_close(&a->box);
    arena_free(a->arena);
}

static struct attribute_op *new_op(struct mailbox *box, const struct attribute_change *changes, size_t count, bool note)
{
    static const struct op_class class = {run_set, end_set};
    struct attribute_op *a = store_op_new(sizeof(*a), &class);

    a->arena = arena_new();
    a->box = mailbox_ref(box);
    a->count = count;
    a->note = note;
    a->changes = ARENA_ARRAY(a->arena, struct attribute_change, count + 1);
    for (size_t i = 0; i < count; i++) {
        a->changes[i].scope = changes[i].scope;
        a->changes[i].name = note ? arena_strdup(a->arena, changes[i].name) : lower(a->arena, changes[i].name);
        a->changes[i].value = changes[i].value == NULL ? NULL : arena_strdup(a->arena, changes[i].value);
    }
    return a;
}

struct store_op *mailbox_attribute_set(struct mailbox *box, const struct attribute_change *changes, size_t count)
{
    return &new_op(box, changes, count, false)->op;
}

struct store_op *mailbox_attribute_note(struct mailbox *box, const struct attribute_change *changes, size_t count)
{
    return &new_op(box, changes, count, true)->op;
}

enum step attribute_forget(struct mail_user *user, const unsigned char guid[16], struct error *e)
{
    struct arena *arena;
    struct dict *dict;
    const char *text;
    enum step r;

    if (*conf_str(user->settings, SET_mail_attribute_dict) == '\0')
        return STEP_DONE;
    if (mail_user_attributes(user, &dict, e) < 0)
        return STEP_ERROR;
    arena = arena_new();
    text = guid_text(arena, guid);
    struct dict_change changes[2] = {{.what = DICT_UNSET_BELOW, .key = arena_printf(arena, "priv/%s/", text)},
                                     {.what = DICT_UNSET_BELOW, .key = arena_printf(arena, "shared/%s/", text)}};
    r = dict_commit(dict, changes, 2, e);
    arena_free(arena);
    return r;
}
