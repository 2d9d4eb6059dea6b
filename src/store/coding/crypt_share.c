/* crypt_share.c - the mail_crypt_acl plugin: who may read a mailbox gets its keys (docs/formats/coding.md, "Keys").
 *
 * What is shared follows from the whole list, not from the change that was made to it: keys that are missing are added, those of
 * somebody who may no longer read are taken away. They are shared attributes of the mailbox, in its owner's dictionary:
 *
 *     privkeys/<hex of a user's name>/<identity>     wrapped for that user's key
 *     privkeys/<identity>                            bare: anyone, authenticated or a group may read
 *
 * A user who has no key yet gets none; the next change of the list looks again. */
#include "store/acl/acl.h"
#include "store/attribute.h"
#include "store/coding/crypt_user.h"
#include "store/internal.h"

#define PRIVATE_KEYS ATTRIBUTE_CRYPT_PREFIX "privkeys"

bool crypt_share_wanted(const struct mail_user *user)
{
    return mail_user_plugin(user, "mail_crypt") && mail_user_plugin(user, "mail_crypt_acl");
}

static bool may_read(const struct acl_entry *entry)
{
    return (entry->has_rights && (entry->rights & MAILBOX_RIGHT_READ) != 0) && !(entry->has_negative && (entry->negative & MAILBOX_RIGHT_READ) != 0);
}

static bool is_for_many(enum acl_kind kind)
{
    return kind != ACL_USER && kind != ACL_OWNER;
}

int crypt_share_allowed(const struct mail_user *user, const struct acl_change *change, struct error *e)
{
    if (!crypt_share_wanted(user) || !mail_user_plugin_bool(user, "mail_crypt_acl_require_secure_key_sharing") ||
        !is_for_many(change->who.kind) || change->negative || change->how == ACL_CLEAR || change->how == ACL_REMOVE)
        return 0;
    return error_set(e, ERROR_PERMISSION, "mail-crypt-acl-plugin: Secure key sharing is enabled -Remove or set plugin { "
                                          "mail_crypt_acl_require_secure_key_sharing = no }");
}

struct sharing {
    struct mailbox *box;
    struct arena *arena;
    struct crypt_pairs pairs;
    struct attribute_names there;  /* below privkeys/ */
    struct acl_entries entries;
    VEC(const char *) wanted;      /* names that stay, or come */
    VEC(struct attribute_change) changes;
};

static const char *hex_of(struct arena *arena, const char *name)
{
    struct buffer hex = {0};
    const char *text;

    text_hex_encode(&hex, slice_from_str(name));
    text = arena_str(arena, buffer_slice(&hex));
    buffer_free(&hex);
    return text;
}

static bool is_in(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

const char *crypt_share_name(struct arena *arena, const char *user, const char *id)
{
    return user == NULL ? arena_printf(arena, "privkeys/%s", id) : arena_printf(arena, "privkeys/%s/%s", hex_of(arena, user), id);
}

/* Is what is stored for this key still wrapped for it? */
static int is_current(struct sharing *s, const char *name, const struct crypt_key *with, bool *current, struct error *e)
{
    unsigned char id[CRYPT_ID_SIZE];
    const char *text;

    *current = false;
    if (!is_in(s->there.at, s->there.count, name + strlen("privkeys/")))
        return 0;
    if (mailbox_attribute_get(s->box, ATTRIBUTE_SHARED, arena_printf(s->arena, ATTRIBUTE_CRYPT_PREFIX "%s", name), s->arena, &text, e) < 0)
        return -1;
    if (text != NULL)
        *current = with == NULL ? crypt_key_wrap_of(slice_from_str(text), id) == CRYPT_WRAP_NONE
                                : crypt_key_wrap_of(slice_from_str(text), id) == CRYPT_WRAP_KEY && memcmp(id, with->id, CRYPT_ID_SIZE) == 0;
    return 0;
}

/* All keys of the mailbox, for one user (NULL: for everybody). */
static int share_with(struct sharing *s, const char *user, const struct crypt_key *with, struct error *e)
{
    for (size_t i = 0; i < s->pairs.count; i++) {
        const char *name = crypt_share_name(s->arena, user, s->pairs.at[i].id);
        const struct crypt_key *key;
        struct buffer text = {0};
        bool current;

        VEC_PUSH(&s->wanted, name + strlen("privkeys/"));
        if (is_current(s, name, with, &current, e) < 0)
            return -1;
        if (current)
            continue;
        key = crypt_user_private(s->box->user, s->box, s->pairs.at[i].id, e);
        if (key == NULL)
            return -1;
        crypt_key_private_text(key, with, NULL, &text);
        VEC_PUSH(&s->changes, ((struct attribute_change){ATTRIBUTE_SHARED, name, arena_str(s->arena, buffer_slice(&text))}));
        buffer_wipe(&text);
    }
    return 0;
}

static int share_with_user(struct sharing *s, const char *name, struct error *e)
{
    struct mail_user *other = mail_user_other(s->box->user, name, "mail-crypt-acl-plugin:");
    struct mailbox_place place;
    enum mailbox_existence there;
    struct crypt_key *key = NULL;
    int r;

    if (other == NULL)
        return 0;
    /* A first look must not make somebody's mailbox. */
    if (mailbox_place(other, s->arena, SLICE("INBOX"), &place, e) < 0 || mailbox_exists(&place, false, &there, e) < 0 ||
        (there == MAILBOX_EXISTS_YES && crypt_user_active(other, NULL, &key, e) < 0))
        return error_context(e, "mail-crypt-acl-plugin: acl_update_private_key(%s, %s) failed: ", s->box->place.vname, name);
    r = key == NULL ? 0 : share_with(s, name, key, e);
    crypt_key_free(&key);
    return r;
}

static int collect(struct sharing *s, struct error *e)
{
    struct mail_user *user = s->box->user;
    const char *owner = mailbox_foreign_owner(s->box);
    bool has_file, everybody = false;

    if (crypt_user_pairs(user, s->box, &s->pairs, e) < 0 ||
        mailbox_attribute_list(s->box, ATTRIBUTE_SHARED, PRIVATE_KEYS, true, s->arena, &s->there, e) < 0 ||
        acl_read(&s->box->place, s->arena, &s->entries, &has_file, e) < 0)
        return -1;
    if (owner == NULL)
        owner = user->name;
    for (size_t i = 0; i < s->entries.count; i++) {
        const struct acl_entry *entry = &s->entries.at[i];

        if (!may_read(entry))
            continue;
        if (is_for_many(entry->kind))
            everybody = true;
        else if (entry->kind == ACL_USER && strcmp(entry->name, owner) != 0 && share_with_user(s, entry->name, e) < 0)
            return -1;
    }
    if (everybody && !mail_user_plugin_bool(user, "mail_crypt_acl_require_secure_key_sharing") && share_with(s, NULL, NULL, e) < 0)
        return -1;
    for (size_t i = 0; i < s->there.count; i++)
        if (!is_in(s->wanted.at, s->wanted.count, s->there.at[i]))
            VEC_PUSH(&s->changes, ((struct attribute_change){ATTRIBUTE_SHARED, arena_printf(s->arena, "privkeys/%s", s->there.at[i]), NULL}));
    return 0;
}

int crypt_share_update(struct mailbox *box, struct error *e)
{
    struct sharing s = {.box = box, .arena = arena_new()};
    int r = 0;

    if (crypt_share_wanted(box->user) && acl_applies(box->place.ns) && *conf_str(box->user->settings, SET_mail_attribute_dict) != '\0')
        r = collect(&s, e);
    if (r == 0 && s.changes.count > 0)
        r = crypt_user_put(box->user, box, s.changes.at, s.changes.count, e);
    VEC_FREE(&s.pairs);
    VEC_FREE(&s.there);
    VEC_FREE(&s.entries);
    VEC_FREE(&s.wanted);
    VEC_FREE(&s.changes);
    arena_free(s.arena);
    return r;
}

int crypt_share_update_place(const struct mailbox_place *place, struct error *e)
{
    enum mailbox_existence there;
    struct mailbox *box;
    int r;

    if (!crypt_share_wanted(place->ns->user))
        return 0;
    if (mailbox_exists(place, false, &there, e) < 0)
        return -1;
    if (there != MAILBOX_EXISTS_YES)
        return 0;
    if (mailbox_open(&box, place, 0, e) < 0)
        return -1;
    r = crypt_share_update(box, e);
    mailbox_close(&box);
    return r;
}
