/* user.c - whether and how lists count for a user (quota-acl-plugins 2.1). */
#include "store/acl/internal.h"
#include "store/dict.h"

#include <stdio.h>

static int read_backend(struct acl *acl, const char *text, struct error *e)
{
    struct slice rest = slice_from_str(text), part;
    struct stat st;

    if (!slice_split(&rest, ':', &part) || !slice_equal_str(part, "vfile"))
        return error_set(e, ERROR_INVALID, "Unknown ACL backend: %.*s", (int)part.size, (const char *)part.at);
    if (slice_split(&rest, ':', &part) && part.size > 0)
        acl->global = arena_str(acl->arena, part);
    while (slice_split(&rest, ':', &part)) {
        uint32_t secs;

        /* How old an answer may be at most: here none is older than the file. */
        if (!slice_starts(part, SLICE("cache_secs=")))
            return error_set(e, ERROR_INVALID, "acl vfile: Unknown parameter: %.*s", (int)part.size, (const char *)part.at);
        if (!slice_to_u32(slice_from(part, 11), &secs))
            return error_set(e, ERROR_INVALID, "acl vfile: Invalid cache_secs value: %.*s", (int)part.size - 11,
                             (const char *)part.at + 11);
    }
    acl->global_is_folder = acl->global != NULL && stat(acl->global, &st) == 0 && S_ISDIR(st.st_mode);
    return 0;
}

static int read_list(struct acl *acl, const char *text, const char *const **out)
{
    VEC(const char *) list = {0};
    struct slice rest = slice_from_str(text), part;

    while (rest.size > 0 && slice_split(&rest, ',', &part)) {
        part = slice_trim(part);
        if (part.size > 0)
            VEC_PUSH(&list, arena_str(acl->arena, part));
    }
    VEC_PUSH(&list, NULL);
    *out = arena_copy(acl->arena, list.at, list.count * sizeof(*list.at));
    VEC_FREE(&list);
    return 0;
}

static int read_ignored(struct acl *acl, struct error *e)
{
    VEC(const char *) list = {0};
    const char *value = "";
    char key[64] = "acl_ignore_namespace";

    for (unsigned i = 2; value != NULL; i++) {
        if (mail_user_plugin_text(acl->user, acl->arena, key, &value, e) < 0) {
            VEC_FREE(&list);
            return -1;
        }
        if (value != NULL)
            VEC_PUSH(&list, value);
        snprintf(key, sizeof(key), "acl_ignore_namespace%u", i);
    }
    VEC_PUSH(&list, NULL);
    acl->ignored = arena_copy(acl->arena, list.at, list.count * sizeof(*list.at));
    VEC_FREE(&list);
    return 0;
}

static int read_settings(struct acl *acl, const char *backend, struct error *e)
{
    const char *name, *groups, *anyone;

    if (read_backend(acl, backend, e) < 0 || read_ignored(acl, e) < 0 ||
        mail_user_plugin_text(acl->user, acl->arena, "acl_user", &name, e) < 0 ||
        mail_user_plugin_text(acl->user, acl->arena, "acl_groups", &groups, e) < 0 ||
        mail_user_plugin_text(acl->user, acl->arena, "acl_anyone", &anyone, e) < 0 ||
        mail_user_plugin_text(acl->user, acl->arena, "acl_shared_dict", &acl->dict_uri, e) < 0)
        return -1;
    if (name == NULL && mail_user_plugin_text(acl->user, acl->arena, "master_user", &name, e) < 0)
        return -1;
    acl->name = name == NULL || *name == '\0' ? acl->user->name : name;
    acl->anyone = anyone != NULL && strcmp(anyone, "allow") == 0;
    acl->globals_only = mail_user_plugin_bool(acl->user, "acl_globals_only");
    acl->defaults_from_inbox = mail_user_plugin_bool(acl->user, "acl_defaults_from_inbox");
    if (acl->dict_uri != NULL && *acl->dict_uri == '\0')
        acl->dict_uri = NULL;
    return read_list(acl, groups == NULL ? "" : groups, &acl->groups);
}

int acl_open(struct mail_user *user, struct acl **out, struct error *e)
{
    const char *backend;
    struct acl *acl;

    *out = NULL;
    if (!mail_user_plugin(user, "acl"))
        return 0;
    if (mail_user_plugin_text(user, user->arena, "acl", &backend, e) < 0)
        return -1;
    if (backend == NULL || *backend == '\0')
        return 0;
    acl = mem_zero(1, sizeof(*acl));
    acl->arena = arena_new();
    acl->user = user;
    if (read_settings(acl, backend, e) < 0) {
        acl_close(&acl);
        return -1;
    }
    *out = acl;
    return 0;
}

void acl_close(struct acl **acl_p)
{
    struct acl *acl = *acl_p;

    if (acl == NULL)
        return;
    *acl_p = NULL;
    acl_files_free(acl);
    dict_close(&acl->dict);
    arena_free(acl->arena);
    mem_free(acl);
}

bool acl_applies(const struct mail_namespace *ns)
{
    const struct acl *acl = ns->user->acl;

    if (acl == NULL || ns->unusable)
        return false;
    for (size_t i = 0; acl->ignored[i] != NULL; i++)
        if (store_wildcard_match(acl->ignored[i], ns->prefix))
            return false;
    return true;
}

bool acl_may_grant_anyone(const struct mail_user *user)
{
    return user->acl != NULL && user->acl->anyone;
}

const char *acl_user_name(const struct mail_user *user)
{
    return user->acl == NULL ? user->name : user->acl->name;
}

const char *const *acl_groups(const struct mail_user *user)
{
    static const char *const none[] = {NULL};

    return user->acl == NULL ? none : user->acl->groups;
}

/* Nobody owns what is shared or public, and whoever comes under another identity does not own what he sees. */
bool acl_is_owner(const struct mail_namespace *ns)
{
    return ns->type == MAIL_NAMESPACE_PRIVATE && strcmp(acl_user_name(ns->user), ns->user->name) == 0;
}
