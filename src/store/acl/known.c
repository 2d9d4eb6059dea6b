/* known.c - what follows from the lists: dovecot-acl-list and acl_shared_dict (quota-acl-plugins 2.3).
 *
 *     <mail root>/dovecot-acl-list     "<mtime> <storage name>" of each mailbox that somebody else may see
 *     shared/shared-boxes/user/<to>/<owner> = 1, .../group/<group>/<owner>, .../anyone/<owner>
 *
 * Both say only where to look; rights are always read from the lists themselves. They are written for others: Dovecot lists
 * shared namespaces by them. */
#include "store/acl/internal.h"
#include "store/dict.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#define SHARED_PREFIX "shared/shared-boxes/"

struct known {
    struct arena *arena;
    const char *owner;
    struct name_list keys;         /* of the dictionary */
    struct buffer lines;           /* of dovecot-acl-list */
};

static void add_key(struct known *k, const struct acl_entry *entry)
{
    const char *key = NULL;

    if (k->owner == NULL) /* a public namespace: nobody's to be found by */
        return;
    if ((entry->rights & MAILBOX_RIGHT_LOOKUP) == 0 || (entry->name != NULL && (*entry->name == '\0' || strchr(entry->name, '/') != NULL)))
        return;
    switch (entry->kind) {
    case ACL_ANYONE:
    case ACL_AUTHENTICATED:
        key = arena_printf(k->arena, SHARED_PREFIX "anyone/%s", k->owner);
        break;
    case ACL_GROUP:
    case ACL_GROUP_OVERRIDE:
        key = arena_printf(k->arena, SHARED_PREFIX "group/%s/%s", entry->name, k->owner);
        break;
    case ACL_USER:
        if (strcmp(entry->name, k->owner) != 0)
            key = arena_printf(k->arena, SHARED_PREFIX "user/%s/%s", entry->name, k->owner);
        break;
    case ACL_OWNER:
        break;
    }
    if (key != NULL)
        VEC_PUSH(&k->keys, key);
}

static time_t changed_at(const struct mailbox_place *place, struct arena *arena)
{
    const struct acl *acl = place->ns->user->acl;
    const char *path = acl_file_path(place, arena);
    struct stat st;
    time_t when = 0;

    if (path != NULL && stat(path, &st) == 0)
        when = st.st_mtime;
    if (acl->global != NULL && stat(acl->global, &st) == 0 && st.st_mtime > when)
        when = st.st_mtime;
    return when;
}

static int look_at(struct known *k, const struct mailbox_place *place, struct error *e)
{
    struct acl_entries entries = {0};
    bool has_file;
    int r = acl_read(place, k->arena, &entries, &has_file, e);

    if (r == 0 && acl_shows_others(&entries)) {
        buffer_printf(&k->lines, "%lld %s\n", (long long)changed_at(place, k->arena), place->name);
        for (size_t i = 0; i < entries.count; i++)
            add_key(k, &entries.at[i]);
    }
    VEC_FREE(&entries);
    return r;
}

static int look_at_namespace(struct known *k, struct mail_namespace *ns, struct error *e)
{
    struct folder_names names = {0};
    bool inbox = false;
    int r = folder_list(ns->storage, k->arena, &names, e);

    for (size_t i = 0; r == 0 && i <= names.count; i++) {
        struct mailbox_place place = {ns, NULL, "INBOX"};

        if (i < names.count) {
            if (!names.at[i].selectable)
                continue;
            place.name = names.at[i].name;
            inbox |= strcmp(place.name, "INBOX") == 0;
        } else if (inbox || (!ns->inbox && ns->type != MAIL_NAMESPACE_SHARED)) {
            break;
        }
        place.vname = mailbox_vname_of(ns, k->arena, place.name);
        if (look_at(k, &place, e) < 0) {
            log_error_value(ns->user->log_p, e); /* one broken list: the others are told of all the same */
            error_clear(e);
        }
    }
    VEC_FREE(&names);
    return r;
}

/* ---- dovecot-acl-list ---- */

static int write_list(const struct mail_namespace *ns, struct known *k, struct error *e)
{
    const char *folder = acl_list_folder(ns, k->arena), *temp;
    struct mail_modes modes;
    int dir, fd, r = -1;

    if (folder == NULL || (dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 0;
    modes = mail_modes_of(folder);
    temp = arena_printf(k->arena, "dovecot-acl-list%s.%ld.%llx", store_hostname(), (long)getpid(),
                        (unsigned long long)time_monotonic_ns());
    fd = os_create(dir, temp, modes.file, modes.gid, e);
    if (fd >= 0) {
        r = os_write(fd, buffer_slice(&k->lines), e);
        if (r == 0)
            r = os_rename(dir, temp, dir, "dovecot-acl-list", e);
        if (r < 0) {
            struct error ignored;

            os_unlink(dir, temp, &ignored);
        }
        close(fd);
    }
    close(dir);
    return r;
}

/* ---- acl_shared_dict ---- */

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_keys(struct name_list *keys)
{
    size_t n = 0;

    if (keys->count > 1)
        qsort(keys->at, keys->count, sizeof(*keys->at), compare_text);
    for (size_t i = 0; i < keys->count; i++)
        if (n == 0 || strcmp(keys->at[n - 1], keys->at[i]) != 0)
            keys->at[n++] = keys->at[i];
    keys->count = n;
}

static bool has_key(const struct name_list *keys, const char *key)
{
    return keys->count > 0 && bsearch(&key, keys->at, keys->count, sizeof(*keys->at), compare_text) != NULL;
}

/* Keys that end in the owner are his; those that are not true any more go, unless only a part of his mailboxes was seen. */
static enum step update_dict(struct acl *acl, struct known *k, bool all, struct error *e)
{
    struct dict_pairs old = {0};
    VEC(struct dict_change) changes = {0};
    struct name_list there = {0};
    enum step r = STEP_DONE;

    sort_keys(&k->keys);
    if (dict_list(acl->dict, k->arena, SHARED_PREFIX, true, &old, e) < 0)
        r = STEP_ERROR;
    for (size_t i = 0; i < old.count; i++) {
        const char *last = strrchr(old.at[i].key, '/');

        if (last == NULL || strcmp(last + 1, k->owner) != 0)
            continue;
        VEC_PUSH(&there, old.at[i].key);
        if (all && !has_key(&k->keys, old.at[i].key))
            VEC_PUSH(&changes, ((struct dict_change){.what = DICT_UNSET, .key = old.at[i].key}));
    }
    sort_keys(&there);
    for (size_t i = 0; i < k->keys.count; i++)
        if (!has_key(&there, k->keys.at[i]))
            VEC_PUSH(&changes, ((struct dict_change){.what = DICT_SET, .key = k->keys.at[i], .value = "1"}));
    if (r == STEP_DONE && changes.count > 0)
        r = dict_commit(acl->dict, changes.at, changes.count, e);
    VEC_FREE(&old);
    VEC_FREE(&there);
    VEC_FREE(&changes);
    return r;
}

static enum step tell(struct mail_namespace *ns, struct known *k, struct error *e)
{
    struct acl *acl = ns->user->acl;
    bool all = ns->type == MAIL_NAMESPACE_PRIVATE;
    struct mail_namespace *other;

    if (look_at_namespace(k, ns, e) < 0 || write_list(ns, k, e) < 0)
        return STEP_ERROR;
    if (acl->dict_uri == NULL || k->owner == NULL)
        return STEP_DONE;
    /* His other namespaces count too. */
    if (all)
        LL_FOREACH(ns->user->namespaces, other)
            if (other != ns && other->type == MAIL_NAMESPACE_PRIVATE && acl_applies(other) &&
                other->alias_for == NULL && look_at_namespace(k, other, e) < 0)
                return STEP_ERROR;
    if (acl->dict == NULL && mail_user_dict(ns->user, acl->dict_uri, NULL, &acl->dict, e) < 0) {
        error_context(e, "acl_shared_dict: ");
        return STEP_ERROR;
    }
    return update_dict(acl, k, all, e);
}

enum step acl_known_step(struct mail_namespace *ns, struct error *e)
{
    struct known k = {0};
    enum step r;

    if (!acl_applies(ns) || ns->storage->at.layout == LAYOUT_NONE)
        return STEP_DONE;
    k.arena = arena_new();
    k.owner = ns->type == MAIL_NAMESPACE_PRIVATE ? ns->user->name : NULL;
    r = tell(ns, &k, e);
    VEC_FREE(&k.keys);
    buffer_free(&k.lines);
    arena_free(k.arena);
    return r;
}

int acl_known_rebuild(struct mail_namespace *ns, struct error *e)
{
    enum step r;

    while ((r = acl_known_step(ns, e)) == STEP_WAIT)
        usleep(2000);
    return r == STEP_DONE ? 0 : -1;
}
