/* alias.c - the mailbox_alias plugin: one mailbox under further names, as links beside it (quota-acl-plugins 7).
 *
 * The settings name pairs. Creating the new name makes a link to the folder of the old one, opening it opens the old one: within
 * this process there is one mailbox. Only layouts with a folder per mailbox have such links. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* The n-th pair, from 1; false: no more. */
static bool get_pair(const struct mail_user *user, unsigned n, const char **old, const char **new)
{
    char number[16] = "", key[64];

    if (n > 1)
        snprintf(number, sizeof(number), "%u", n);
    snprintf(key, sizeof(key), "mailbox_alias_old%s", number);
    *old = conf_plugin(user->settings, key);
    snprintf(key, sizeof(key), "mailbox_alias_new%s", number);
    *new = conf_plugin(user->settings, key);
    return *old != NULL && *new != NULL && **old != '\0' && **new != '\0';
}

static bool has_links(const struct mailbox_place *place)
{
    enum mail_layout layout = place->ns->storage->at.layout;

    return layout == LAYOUT_MAILDIRPP || layout == LAYOUT_IMAPDIR || layout == LAYOUT_FS;
}

bool mailbox_alias_of(const struct mailbox_place *place, struct arena *arena, struct mailbox_place *old)
{
    struct mail_user *user = place->ns->user;
    const char *from, *to;
    struct error e;

    if (!mail_user_plugin(user, "mailbox_alias") || !has_links(place))
        return false;
    for (unsigned n = 1; get_pair(user, n, &from, &to); n++)
        if (strcmp(to, place->vname) == 0)
            return mailbox_place(user, arena, slice_from_str(from), old, &e) == 0 && old->ns == place->ns;
    return false;
}

static const char *link_path(const struct mailbox_place *place, struct arena *arena)
{
    return mail_location_path(&place->ns->storage->at, arena, place->name, PATH_DIR);
}

bool mailbox_alias_exists(const struct mailbox_place *place)
{
    struct arena *arena = arena_new();
    const char *path = link_path(place, arena);
    struct stat st;
    bool found = path != NULL && lstat(path, &st) == 0 && S_ISLNK(st.st_mode);

    arena_free(arena);
    return found;
}

bool mailbox_has_aliases(const struct mailbox_place *place)
{
    struct mail_user *user = place->ns->user;
    struct arena *arena;
    const char *from, *to;
    bool found = false;

    if (!mail_user_plugin(user, "mailbox_alias") || !has_links(place))
        return false;
    arena = arena_new();
    for (unsigned n = 1; !found && get_pair(user, n, &from, &to); n++) {
        struct mailbox_place new;
        struct error e;

        found = strcmp(from, place->vname) == 0 && mailbox_place(user, arena, slice_from_str(to), &new, &e) == 0 &&
                new.ns == place->ns && mailbox_alias_exists(&new);
    }
    arena_free(arena);
    return found;
}

/* The link, relative where both folders lie side by side. */
int mailbox_alias_link(const struct mailbox_place *place, const struct mailbox_place *old, struct error *e)
{
    struct arena *arena = arena_new();
    const char *path = link_path(place, arena), *target = link_path(old, arena), *a, *b;
    int r = 0;

    if (path == NULL || target == NULL)
        r = error_set(e, ERROR_UNSUPPORTED, "Mailbox aliases not supported by storage");
    a = r == 0 ? strrchr(path, '/') : NULL;
    b = r == 0 ? strrchr(target, '/') : NULL;
    if (a != NULL && b != NULL && a - path == b - target && strncmp(path, target, (size_t)(a - path)) == 0)
        target = b + 1;
    if (r == 0 && os_symlink(target, AT_FDCWD, path, e) < 0)
        r = e->class == ERROR_EXISTS ? 0 : -1;
    arena_free(arena);
    return r;
}
