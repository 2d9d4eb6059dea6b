/* special_use.c - special uses that clients give to mailboxes (RFC 6154 section 3), beside those of the settings.
 *
 * They are attributes of the mailbox under a name that clients cannot touch, so they go with DELETE and stay at RENAME. A mailbox
 * block of the settings counts before them. Off unless mail_user_keep_special_uses was called. */
#include "store/attribute.h"

#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define KEPT_NAME ATTRIBUTE_INTERNAL_PREFIX "special-use"

void mail_user_keep_special_uses(struct mail_user *user)
{
    user->keep_special_uses = true;
}

const char *mailbox_special_use_kept(struct mailbox *box, struct arena *arena)
{
    const char *value = NULL;
    struct error e = {0};

    if (!box->user->keep_special_uses || *conf_str(box->user->settings, SET_mail_attribute_dict) == '\0')
        return NULL;
    if (mailbox_attribute_get(box, ATTRIBUTE_PRIVATE, KEPT_NAME, arena, &value, &e) < 0)
        log_error_value(box->user->log_p, &e);
    return value;
}

struct store_op *mailbox_special_use_keep(struct mailbox *box, const char *use)
{
    struct attribute_change change = {.scope = ATTRIBUTE_PRIVATE, .name = KEPT_NAME, .value = use};

    return mailbox_attribute_set(box, &change, 1);
}

/* ---- for the list ---- */

static int compare_pair(const void *x, const void *y)
{
    const struct dict_pair *a = x, *b = y;

    return strcmp(a->key, b->key);
}

/* "priv/<guid>/name" -> "<guid>" */
static const char *guid_of_key(struct arena *arena, const char *key)
{
    const char *guid = key + sizeof("priv/") - 1, *end = strchr(guid, '/');

    return end != NULL && strcmp(end + 1, KEPT_NAME) == 0 ? arena_str(arena, slice_of(guid, (size_t)(end - guid))) : NULL;
}

void special_uses_load(struct mail_user *user, struct arena *arena, struct dict_pairs *out)
{
    struct dict_pairs all = {0};
    struct dict *dict;
    struct error e = {0};

    *out = (struct dict_pairs){0};
    if (!user->keep_special_uses || *conf_str(user->settings, SET_mail_attribute_dict) == '\0')
        return;
    if (mail_user_attributes(user, &dict, &e) < 0 || dict_list(dict, arena, "priv/", true, &all, &e) < 0)
        log_error_value(user->log_p, &e);
    for (size_t i = 0; i < all.count; i++) {
        const char *guid = guid_of_key(arena, all.at[i].key);

        if (guid != NULL)
            VEC_PUSH(out, ((struct dict_pair){.key = guid, .value = all.at[i].value}));
    }
    VEC_FREE(&all);
    if (out->count > 1)
        qsort(out->at, out->count, sizeof(*out->at), compare_pair);
}

const char *special_uses_find(const struct dict_pairs *uses, struct mail_user *user, struct arena *arena, const char *vname)
{
    struct mailbox_place place;
    struct mailbox *box;
    struct error ignored = {0};
    unsigned char guid[16];
    struct buffer hex = {0};
    struct dict_pair key = {0}, *found = NULL;

    if (uses->count == 0 || mailbox_place(user, arena, slice_from_str(vname), &place, &ignored) < 0 ||
        mailbox_open(&box, &place, MAILBOX_OPEN_UNCHECKED, &ignored) < 0)
        return NULL;
    if (mailbox_guid(box, guid, &ignored) == 0) {
        text_hex_encode(&hex, slice_of(guid, sizeof(guid)));
        key.key = buffer_cstr(&hex);
        found = bsearch(&key, uses->at, uses->count, sizeof(*uses->at), compare_pair);
    }
    buffer_free(&hex);
    mailbox_close(&box);
    return found == NULL ? NULL : found->value;
}
