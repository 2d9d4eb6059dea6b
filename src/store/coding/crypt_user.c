/* crypt_user.c - which keys a user has, and which of them a mailbox takes (docs/formats/coding.md, "Keys").
 *
 * Making a pair happens inside of a save, once a mailbox: it waits for the dictionary's lock, never for a mailbox's job, which
 * another session of this process may hold. Two processes that make pairs at once leave two; one is active, both can be read. */
#include "store/coding/crypt_user.h"

#include "store/attribute.h"
#include "store/internal.h"

#include <stdio.h>
#include <time.h>

#define LOCK_WAIT_MS 10000
#define USER_PREFIX ATTRIBUTE_SERVER_PREFIX ATTRIBUTE_CRYPT_PREFIX

struct crypt_user {
    unsigned save_version;
    const struct crypt_curve *curve;      /* NULL: mail_crypt_curve is not set, or not known */
    const char *curve_name, *password;
    bool must_encrypt;
    struct crypt_key *global;             /* public; NULL = keys are the mailboxes' */
    VEC(struct crypt_key *) keys;         /* private ones: of the settings, and those that were unwrapped */
};

/* ---- settings ---- */

/* `setting`, or with its number; its password stands under its own name and "_password", or under `password_setting`. */
static int add_private(const struct mail_user *user, struct crypt_user *c, const char *setting, const char *password_setting,
                       unsigned number, bool *there, struct error *e)
{
    char name[80], password_name[100];
    const char *text, *password;
    struct crypt_key *key;

    snprintf(name, sizeof(name), number == 1 ? "%s" : "%s%u", setting, number);
    if (password_setting == NULL)
        snprintf(password_name, sizeof(password_name), "%s_password", name);
    else
        snprintf(password_name, sizeof(password_name), number == 1 ? "%s" : "%s%u", password_setting, number);
    text = conf_plugin(user->settings, name);
    *there = text != NULL && *text != '\0';
    if (!*there)
        return 0;
    password = conf_plugin(user->settings, password_name);
    if (crypt_key_private(slice_from_str(text), password, &key, e) < 0) {
        if (password == NULL && e->class == ERROR_PERMISSION)
            return error_set(e, ERROR_INVALID, "mail_crypt_plugin: %s: %s unset, no password to decrypt the key", name,
                             password_name);
        return error_context(e, "mail_crypt_plugin: %s: Couldn't load private key: ", name);
    }
    VEC_PUSH(&c->keys, key);
    return 0;
}

static int read_settings(const struct mail_user *user, struct crypt_user *c, struct error *e)
{
    const char *version = conf_plugin(user->settings, "mail_crypt_save_version");
    const char *text = conf_plugin(user->settings, "mail_crypt_global_public_key");
    bool there = true;

    if (version == NULL || *version == '\0')
        return error_set(e, ERROR_INVALID, "mail_crypt_plugin: mail_crypt_save_version setting missing");
    if (version[0] < '0' || version[0] > '2' || version[1] != '\0')
        return error_set(e, ERROR_INVALID, "mail_crypt_plugin: Invalid mail_crypt_save_version %s: use 0, 1, or 2 ", version);
    c->save_version = (unsigned)(version[0] - '0');
    if (text != NULL && *text != '\0' && crypt_key_public(slice_from_str(text), &c->global, e) < 0)
        return error_context(e, "mail_crypt_plugin: mail_crypt_global_public_key: Couldn't parse public key: ");
    for (unsigned i = 1; there; i++)
        if (add_private(user, c, "mail_crypt_global_private_key", NULL, i, &there, e) < 0)
            return -1;
    there = true;
    for (unsigned i = 1; there; i++)
        if (add_private(user, c, "mail_crypt_private_key", "mail_crypt_private_password", i, &there, e) < 0)
            return -1;
    c->curve_name = conf_plugin(user->settings, "mail_crypt_curve");
    c->curve = c->curve_name == NULL ? NULL : crypt_curve_find(slice_from_str(c->curve_name));
    if (c->curve_name != NULL && *c->curve_name != '\0' && c->curve == NULL)
        return error_set(e, ERROR_INVALID, "mail_crypt_plugin: invalid mail_crypt_curve setting %s: unknown object name",
                         c->curve_name);
    c->password = conf_plugin(user->settings, "mail_crypt_private_password");
    c->must_encrypt = conf_plugin(user->settings, "mail_crypt_require_encrypted_user_key") != NULL;
    return 0;
}

int crypt_user_open(struct mail_user *user, struct crypt_user **out, struct error *e)
{
    struct crypt_user *c = mem_zero(1, sizeof(*c));

    if (read_settings(user, c, e) < 0) {
        crypt_user_close(&c);
        return -1;
    }
    *out = c;
    return 0;
}

void crypt_user_close(struct crypt_user **user_p)
{
    struct crypt_user *c = *user_p;

    if (c == NULL)
        return;
    *user_p = NULL;
    crypt_key_free(&c->global);
    for (size_t i = 0; i < c->keys.count; i++)
        crypt_key_free(&c->keys.at[i]);
    VEC_FREE(&c->keys);
    mem_free(c);
}

bool crypt_user_by_folder(const struct mail_user *user)
{
    return user->coding != NULL && user->coding->crypt_user != NULL && user->coding->crypt_user->global == NULL;
}

/* ---- attributes ---- */

/* The mailbox whose attributes hold a pair: its own, or INBOX for the user's. Referenced. */
static int box_of(struct mail_user *user, struct mailbox *box, struct mailbox **out, struct error *e)
{
    struct arena *arena;
    struct mailbox_place place;
    int r;

    if (box != NULL) {
        *out = mailbox_ref(box);
        return 0;
    }
    arena = arena_new();
    r = mailbox_place(user, arena, SLICE("INBOX"), &place, e);
    if (r == 0)
        r = mailbox_open(out, &place, MAILBOX_OPEN_CREATE, e);
    arena_free(arena);
    return r;
}

static int get(struct mail_user *user, struct mailbox *box, enum attribute_scope scope, const char *name, struct arena *arena,
               const char **value, struct error *e)
{
    struct mailbox *at;
    int r;

    if (box_of(user, box, &at, e) < 0)
        return -1;
    r = mailbox_attribute_get(at, scope, arena_printf(arena, "%s%s", box == NULL ? USER_PREFIX : ATTRIBUTE_CRYPT_PREFIX, name),
                              arena, value, e);
    mailbox_close(&at);
    return r;
}

/* Keys "<scope>/<guid>/...": the GUID must be there first, which a mailbox that was never synced lacks. */
static int need_guid(struct mailbox *box, unsigned char guid[16], struct error *e)
{
    if (mailbox_guid(box, guid, e) == 0)
        return 0;
    if (box->job != NULL)
        return -1; /* somebody is at it: the next save finds it */
    if (store_op_wait(mailbox_sync(box, NULL, SYNC_FULL), e) < 0)
        return -1;
    return mailbox_guid(box, guid, e);
}

int crypt_user_put(struct mail_user *user, struct mailbox *box, const struct attribute_change *changes, size_t count, struct error *e)
{
    struct arena *arena = arena_new();
    struct dict_change *keys = ARENA_ARRAY(arena, struct dict_change, count);
    struct buffer hex = {0};
    unsigned char guid[16];
    struct mailbox *at;
    struct dict *dict;
    int r = -1;

    if (box_of(user, box, &at, e) < 0) {
        arena_free(arena);
        return -1;
    }
    /* In another user's mailbox there are only shared ones to change. */
    if (mailbox_attributes(at, changes[0].scope, &dict, e) == 0 && need_guid(at, guid, e) == 0) {
        enum step step = STEP_WAIT;

        text_hex_encode(&hex, slice_of(guid, 16));
        for (size_t i = 0; i < count; i++) {
            keys[i].what = changes[i].value == NULL ? DICT_UNSET : DICT_SET;
            keys[i].key = arena_printf(arena, "%s/%s/%s%s", changes[i].scope == ATTRIBUTE_PRIVATE ? "priv" : "shared",
                                       buffer_cstr(&hex), box == NULL ? USER_PREFIX : ATTRIBUTE_CRYPT_PREFIX, changes[i].name);
            keys[i].value = changes[i].value;
        }
        for (unsigned waited = 0; step == STEP_WAIT && waited < LOCK_WAIT_MS; waited += 5) {
            step = dict_commit(dict, keys, count, e);
            if (step == STEP_WAIT)
                nanosleep(&(struct timespec){0, 5000000}, NULL);
        }
        r = step == STEP_DONE ? 0 : step == STEP_WAIT ? error_set(e, ERROR_LOCK_TIMEOUT, "Timeout while waiting for the keys' lock") : -1;
    }
    buffer_free(&hex);
    mailbox_close(&at);
    arena_free(arena);
    return r;
}

/* ---- public keys ---- */

int crypt_user_active(struct mail_user *user, struct mailbox *box, struct crypt_key **key, struct error *e)
{
    struct arena *arena = arena_new();
    const char *id, *text = NULL;
    int r;

    *key = NULL;
    r = get(user, box, ATTRIBUTE_SHARED, "active", arena, &id, e);
    if (r == 0 && id != NULL && *id != '\0' && strlen(id) <= 2 * CRYPT_ID_SIZE) {
        r = get(user, box, ATTRIBUTE_SHARED, arena_printf(arena, "pubkeys/%s", id), arena, &text, e);
        if (r == 0 && text != NULL && crypt_key_public(slice_from_str(text), key, e) < 0)
            r = error_context(e, "public key %s: ", id);
    }
    arena_free(arena);
    return r;
}

static int store_pair(struct mail_user *user, struct mailbox *box, const struct crypt_key *key, const struct crypt_key *with,
                      const char *password, struct error *e)
{
    struct buffer public_text = {0}, private_text = {0};
    char id[2 * CRYPT_ID_SIZE + 1], public_name[100], private_name[100];
    struct attribute_change changes[3] = {{ATTRIBUTE_PRIVATE, private_name, NULL}, {ATTRIBUTE_SHARED, public_name, NULL},
                                {ATTRIBUTE_SHARED, "active", id}};
    int r;

    crypt_id_hex(key->id, id);
    snprintf(public_name, sizeof(public_name), "pubkeys/%s", id);
    snprintf(private_name, sizeof(private_name), "privkeys/%s", id);
    crypt_key_public_text(key, &public_text);
    crypt_key_private_text(key, with, password, &private_text);
    changes[0].value = buffer_cstr(&private_text);
    changes[1].value = buffer_cstr(&public_text);
    r = crypt_user_put(user, box, changes, 3, e);
    buffer_wipe(&private_text);
    buffer_free(&public_text);
    return r;
}

/* A pair of another user's mailbox is his: wrapped for him, in his dictionary, then shared with those who may read. */
static int generate_for_owner(struct mailbox *box, const char *name, struct crypt_key **out, struct error *e)
{
    struct mail_user *owner = mail_user_other(box->user, name, "mail-crypt-acl-plugin:");
    struct mailbox_place place;
    struct mailbox *own = NULL;
    struct arena *arena;
    int r;

    if (owner == NULL || owner->inbox == NULL || owner->coding == NULL || owner->coding->crypt_user == NULL)
        return error_set(e, ERROR_TEMPORARY, "generate_keypair(%s) failed: its owner %s is not known", box->place.vname, name);
    arena = arena_new();
    r = mailbox_place(owner, arena, slice_from_str(mailbox_vname_of(owner->inbox, arena, box->place.name)), &place, e);
    if (r == 0)
        r = mailbox_open(&own, &place, 0, e);
    if (r == 0)
        r = crypt_user_generate(owner, own, out, e);
    if (own != NULL)
        mailbox_close(&own);
    arena_free(arena);
    return r;
}

int crypt_user_generate(struct mail_user *user, struct mailbox *box, struct crypt_key **out, struct error *e)
{
    struct crypt_user *c = user->coding->crypt_user;
    const char *foreign = box == NULL ? NULL : mailbox_foreign_owner(box);
    struct crypt_key *key = NULL, *owner = NULL;
    int r = 0;

    if (foreign != NULL)
        return generate_for_owner(box, foreign, out, e);
    if (c->curve == NULL)
        return error_set(e, ERROR_INVALID, "%s",
                         c->curve_name == NULL ? "mail_crypt_curve not set, cannot generate EC key" : "Unknown EC curve");
    if (box != NULL) {
        r = crypt_user_active(user, NULL, &owner, e);
        if (r == 0 && owner == NULL)
            r = crypt_user_generate(user, NULL, &owner, e);
    } else if (c->must_encrypt && (c->password == NULL || *c->password == '\0')) {
        return error_set(e, ERROR_INVALID, "mail_crypt_require_encrypted_user_key set, cannot generate user keypair without password or key");
    }
    if (r == 0) {
        key = crypt_key_generate(c->curve);
        r = store_pair(user, box, key, owner, box == NULL && c->password != NULL && *c->password != '\0' ? c->password : NULL, e);
    }
    crypt_key_free(&owner);
    if (r == 0 && box != NULL) {
        struct error sub;

        if (crypt_share_update(box, &sub) < 0)
            log_error_value(user->log_p, &sub); /* the key is there */
    }
    if (r < 0)
        crypt_key_free(&key);
    else
        *out = key;
    return r;
}

/* ---- private keys ---- */

static const struct crypt_key *known(const struct crypt_user *c, const unsigned char id[CRYPT_ID_SIZE], bool old)
{
    for (size_t i = 0; i < c->keys.count; i++)
        if (memcmp(old ? c->keys.at[i]->old_id : c->keys.at[i]->id, id, CRYPT_ID_SIZE) == 0)
            return c->keys.at[i];
    return NULL;
}

static int id_of_hex(const char *hex, unsigned char id[CRYPT_ID_SIZE])
{
    struct buffer raw = {0};
    int r = text_hex_decode(&raw, slice_from_str(hex)) < 0 || raw.size != CRYPT_ID_SIZE ? -1 : 0;

    if (r == 0)
        memcpy(id, raw.at, CRYPT_ID_SIZE);
    buffer_free(&raw);
    return r;
}

static const struct crypt_key *unwrap(struct mail_user *user, struct mailbox *box, const char *id, const char *text,
                                      struct error *e)
{
    struct crypt_user *c = user->coding->crypt_user;
    unsigned char with_id[CRYPT_ID_SIZE];
    char with_hex[2 * CRYPT_ID_SIZE + 1];
    const struct crypt_key *with = NULL;
    struct crypt_key *key;
    int r;

    if (crypt_key_wrap_of(slice_from_str(text), with_id) == CRYPT_WRAP_KEY) {
        crypt_id_hex(with_id, with_hex);
        with = known(c, with_id, false);
        if (with == NULL && box != NULL)
            with = crypt_user_private(user, NULL, with_hex, e);
        else if (with == NULL)
            error_set(e, ERROR_PERMISSION, "Private key %s not available", with_hex);
        r = with == NULL ? -1 : crypt_key_unwrap(slice_from_str(text), with, &key, e);
    } else {
        r = crypt_key_private(slice_from_str(text), c->password, &key, e);
    }
    if (r < 0) {
        error_context(e, "Cannot decrypt key %s: ", id);
        return NULL;
    }
    VEC_PUSH(&c->keys, key);
    return key;
}

/* The text of a private key: in one's own mailbox the owner's, else what is shared with this user, or with everybody. */
static int private_text(struct mail_user *user, struct mailbox *box, const char *id, struct arena *arena, const char **text,
                        struct error *e)
{
    const bool foreign = box != NULL && mailbox_foreign_owner(box) != NULL;
    int r = 0;

    *text = NULL;
    if (!foreign)
        r = get(user, box, ATTRIBUTE_PRIVATE, arena_printf(arena, "privkeys/%s", id), arena, text, e);
    else
        r = get(user, box, ATTRIBUTE_SHARED, crypt_share_name(arena, user->name, id), arena, text, e);
    if (r == 0 && *text == NULL && foreign)
        r = get(user, box, ATTRIBUTE_SHARED, crypt_share_name(arena, NULL, id), arena, text, e);
    return r;
}

const struct crypt_key *crypt_user_private(struct mail_user *user, struct mailbox *box, const char *id, struct error *e)
{
    const struct crypt_key *key = NULL;
    unsigned char raw[CRYPT_ID_SIZE];
    struct arena *arena;
    const char *text;

    if (id_of_hex(id, raw) < 0) {
        error_set(e, ERROR_INVALID, "%s is no key id", id);
        return NULL;
    }
    key = known(user->coding->crypt_user, raw, false);
    if (key != NULL)
        return key;
    arena = arena_new();
    if (private_text(user, box, id, arena, &text, e) == 0) {
        if (text == NULL)
            error_set(e, ERROR_NOT_FOUND, "Private key %s not found", id);
        else
            key = unwrap(user, box, id, text, e);
    }
    arena_free(arena);
    return key;
}

/* ---- messages ---- */

bool crypt_user_saves(const struct mail_user *user)
{
    return user->coding->crypt_user->save_version != 0;
}

int crypt_user_encode(struct mailbox *box, struct byte_sink **first, struct error *e)
{
    struct crypt_user *c = box->user->coding->crypt_user;
    struct crypt_key *key = NULL;
    char text[sizeof(e->user)];
    int r = 0;

    if (c->save_version == 0)
        return 0;
    if (c->global == NULL) {
        r = crypt_user_active(box->user, box, &key, e);
        if (r == 0 && key == NULL) {
            r = crypt_user_generate(box->user, box, &key, e);
            if (r < 0 && e->class == ERROR_INVALID) {
                error_context(e, "generate_keypair(%s) failed: ", box->place.vname);
                snprintf(text, sizeof(text), "%.*s", (int)sizeof(text) - 1, e->admin);
                error_user(e, text);
            }
        }
    }
    if (r == 0 && c->save_version == 1 && (key != NULL ? key : c->global)->rsa != NULL)
        r = error_set(e, ERROR_TEMPORARY, "Key hash failed: Only EC key supported");
    if (r == 0)
        *first = crypt_encode(key != NULL ? key : c->global, c->save_version, *first);
    crypt_key_free(&key);
    return r;
}

struct folder_ring {
    struct crypt_ring ring;
    struct mailbox *box;
};

static const struct crypt_key *find(struct crypt_ring *ring, const unsigned char id[CRYPT_ID_SIZE], bool old, struct error *e)
{
    struct mailbox *box = ((struct folder_ring *)ring)->box;
    struct crypt_user *c = box->user->coding->crypt_user;
    const struct crypt_key *key = known(c, id, old);
    char hex[2 * CRYPT_ID_SIZE + 1];
    struct error sub;

    if (key != NULL || *conf_str(box->user->settings, SET_mail_attribute_dict) == '\0')
        return key;
    if (old) {
        /* Version 1 names keys otherwise: all of the mailbox's are tried. */
        struct crypt_pairs pairs = {0};

        if (crypt_user_pairs(box->user, box, &pairs, &sub) == 0)
            for (size_t i = 0; i < pairs.count; i++)
                (void)crypt_user_private(box->user, box, pairs.at[i].id, &sub);
        VEC_FREE(&pairs);
        return known(c, id, true);
    }
    crypt_id_hex(id, hex);
    key = crypt_user_private(box->user, box, hex, &sub);
    if (key == NULL && sub.class != ERROR_NOT_FOUND) {
        *e = sub;
        error_context(e, "Private key not available: ");
    }
    return key;
}

struct decoder *crypt_user_decode(struct mailbox *box, struct input *in, struct error *e)
{
    struct folder_ring ring = {{find}, box};

    return crypt_decode(in, &ring.ring, e);
}

/* ---- what administrators do ---- */

int crypt_user_pairs(struct mail_user *user, struct mailbox *box, struct crypt_pairs *out, struct error *e)
{
    struct arena *arena = arena_new();
    struct attribute_names names = {0};
    const char *active;
    struct mailbox *at = NULL;
    int r = box_of(user, box, &at, e);

    if (r == 0)
        r = mailbox_attribute_list(at, ATTRIBUTE_SHARED, box == NULL ? USER_PREFIX "pubkeys" : ATTRIBUTE_CRYPT_PREFIX "pubkeys",
                                   true, arena, &names, e);
    if (r == 0)
        r = get(user, box, ATTRIBUTE_SHARED, "active", arena, &active, e);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        struct crypt_pair pair = {.active = active != NULL && strcmp(active, names.at[i]) == 0};

        if (strlen(names.at[i]) != 2 * CRYPT_ID_SIZE)
            continue;
        memcpy(pair.id, names.at[i], sizeof(pair.id));
        VEC_PUSH(out, pair);
    }
    VEC_FREE(&names);
    if (at != NULL)
        mailbox_close(&at);
    arena_free(arena);
    return r;
}

static int put_private(struct mail_user *user, struct mailbox *box, const struct crypt_key *key, const struct crypt_key *with,
                       const char *password, struct error *e)
{
    char id[2 * CRYPT_ID_SIZE + 1], name[100];
    struct buffer text = {0};
    struct attribute_change change = {ATTRIBUTE_PRIVATE, name, NULL};
    int r;

    crypt_id_hex(key->id, id);
    snprintf(name, sizeof(name), "privkeys/%s", id);
    crypt_key_private_text(key, with, password, &text);
    change.value = buffer_cstr(&text);
    r = crypt_user_put(user, box, &change, 1, e);
    buffer_wipe(&text);
    return r;
}

int crypt_user_rewrap(struct mail_user *user, struct mailbox *box, size_t *count, struct error *e)
{
    struct crypt_pairs pairs = {0};
    struct crypt_key *with = NULL;
    int r = crypt_user_active(user, NULL, &with, e);

    *count = 0;
    if (r == 0 && with == NULL)
        r = error_set(e, ERROR_NOT_FOUND, "No active user key");
    if (r == 0)
        r = crypt_user_pairs(user, box, &pairs, e);
    for (size_t i = 0; r == 0 && i < pairs.count; i++) {
        const struct crypt_key *key = crypt_user_private(user, box, pairs.at[i].id, e);

        r = key == NULL ? -1 : put_private(user, box, key, with, NULL, e);
        *count += r == 0;
    }
    VEC_FREE(&pairs);
    crypt_key_free(&with);
    return r;
}

int crypt_user_password(struct mail_user *user, const char *old, const char *fresh, size_t *count, struct error *e)
{
    struct crypt_user *c = user->coding->crypt_user;
    struct crypt_pairs pairs = {0};
    int r = crypt_user_pairs(user, NULL, &pairs, e);

    *count = 0;
    if (old != NULL)
        c->password = old;
    for (size_t i = 0; r == 0 && i < pairs.count; i++) {
        const struct crypt_key *key = crypt_user_private(user, NULL, pairs.at[i].id, e);

        if (key == NULL)
            r = strstr(e->admin, "Password not available") != NULL
                    ? error_set(e, ERROR_PERMISSION, "dcrypt_key_load_private(%s) failed: password missing", pairs.at[i].id)
                    : error_set(e, ERROR_PERMISSION, "dcrypt_key_load_private(%s) failed: Invalid password", pairs.at[i].id);
        else
            r = put_private(user, NULL, key, NULL, fresh, e);
        *count += r == 0;
    }
    VEC_FREE(&pairs);
    return r;
}
