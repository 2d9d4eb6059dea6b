/* As whom a session runs: uid, gid, groups, chroot, nice, from the userdb and the mail_* settings (auth 7; config).
 *
 * It is the one place that decides this, and it refuses: root, ids outside first_valid_*...last_valid_*, and a chroot
 * that valid_chroot_dirs does not allow. */
#include "dispatch/dispatch_impl.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

static bool user_id(const char *text, uid_t *uid)
{
    struct passwd *pw;
    uint32_t number;

    if (slice_to_u32(slice_from_str(text), &number)) {
        *uid = number;
        return number != UINT32_MAX;
    }
    pw = getpwnam(text);
    if (pw == NULL)
        return false;
    *uid = pw->pw_uid;
    return true;
}

static bool group_id(const char *text, gid_t *gid)
{
    struct group *gr;
    uint32_t number;

    if (slice_to_u32(slice_from_str(text), &number)) {
        *gid = number;
        return number != UINT32_MAX;
    }
    gr = getgrnam(text);
    if (gr == NULL)
        return false;
    *gid = gr->gr_gid;
    return true;
}

static void add_group(struct credentials *c, gid_t gid)
{
    for (size_t i = 0; i < c->group_count; i++)
        if (c->groups[i] == gid)
            return;
    if (c->group_count < CREDENTIALS_GROUPS_MAX)
        c->groups[c->group_count++] = gid;
}

static int find_uid(const struct settings *set, const struct rpc_fields *fields, struct credentials *c,
                    struct error *error)
{
    const char *text = rpc_fields_get(fields, "uid"), *source = "userdb lookup";
    unsigned first = conf_uint(set, SET_first_valid_uid), last = conf_uint(set, SET_last_valid_uid);

    if (text == NULL || text[0] == '\0') {
        text = conf_str(set, SET_mail_uid);
        source = "mail_uid setting";
    }
    if (text[0] == '\0')
        return error_set(error, ERROR_INVALID, "User is missing UID (see mail_uid setting)");
    if (!user_id(text, &c->uid))
        return error_set(error, ERROR_INVALID, "%s: Unknown user: %s", source, text);
    if (c->uid == 0)
        return error_set(error, ERROR_PERMISSION, "Mail access not allowed for root");
    if (c->uid < first || (last != 0 && c->uid > last))
        return error_set(error, ERROR_PERMISSION,
                         "Mail access for users with UID %u not permitted (see %s in config file, uid from %s).",
                         c->uid, c->uid < first ? "first_valid_uid" : "last_valid_uid", source);
    return 0;
}

static int find_gid(const struct settings *set, const struct rpc_fields *fields, struct credentials *c,
                    struct error *error)
{
    const char *text = rpc_fields_get(fields, "gid"), *source = "userdb lookup";
    unsigned first = conf_uint(set, SET_first_valid_gid), last = conf_uint(set, SET_last_valid_gid);

    if (text == NULL || text[0] == '\0') {
        text = conf_str(set, SET_mail_gid);
        source = "mail_gid setting";
    }
    if (text[0] == '\0')
        return error_set(error, ERROR_INVALID, "User is missing GID (see mail_gid setting)");
    if (!group_id(text, &c->gid))
        return error_set(error, ERROR_INVALID, "%s: Unknown group: %s", source, text);
    if (c->gid < first || (last != 0 && c->gid > last))
        return error_set(error, ERROR_PERMISSION,
                         "Mail access for users with GID %u not permitted (see %s in config file, gid from %s).",
                         c->gid, c->gid < first ? "first_valid_gid" : "last_valid_gid", source);
    return 0;
}

/* mail_access_groups, and the groups of system_groups_user. */
static int find_groups(const struct settings *set, const struct rpc_fields *fields, struct credentials *c,
                       struct error *error)
{
    struct slice rest = slice_from_str(conf_str(set, SET_mail_access_groups)), word;
    const char *system = rpc_fields_get(fields, "system_groups_user");
    const char *privileged = conf_str(set, SET_mail_privileged_group);
    gid_t list[CREDENTIALS_GROUPS_MAX];
    int count = CREDENTIALS_GROUPS_MAX;

    while (rest.size > 0 && slice_split(&rest, ',', &word)) {
        char *name = mem_strndup(slice_trim(word));
        gid_t gid;
        bool known = name[0] == '\0' || group_id(name, &gid);

        if (known && name[0] != '\0')
            add_group(c, gid);
        if (!known)
            (void)error_set(error, ERROR_INVALID, "mail_access_groups setting: Unknown group: %s", name);
        mem_free(name);
        if (!known)
            return -1;
    }
    if (system != NULL && system[0] != '\0') {
        if (getgrouplist(system, c->gid, list, &count) < 0)
            count = CREDENTIALS_GROUPS_MAX;
        for (int i = 0; i < count; i++)
            add_group(c, list[i]);
    }
    c->privileged_gid = (gid_t)-1;
    if (privileged[0] != '\0' && !group_id(privileged, &c->privileged_gid))
        return error_set(error, ERROR_INVALID, "mail_privileged_group setting: Unknown group: %s", privileged);
    return 0;
}

/* Is `path` one of the allowed folders, or below one? Without ".." in it. */
static bool chroot_allowed(const char *allowed, const char *path)
{
    struct slice rest = slice_from_str(allowed), folder, whole = slice_from_str(path);

    if (path[0] != '/' || strstr(path, "/../") != NULL || slice_ends(whole, SLICE("/..")))
        return false;
    while (rest.size > 0 && slice_split(&rest, ':', &folder)) {
        while (folder.size > 1 && folder.at[folder.size - 1] == '/')
            folder.size--;
        if (folder.size > 0 && slice_starts(whole, folder) &&
            (whole.size == folder.size || whole.at[folder.size] == '/' || folder.size == 1))
            return true;
    }
    return false;
}

static int find_chroot(struct arena *arena, const struct settings *set, const struct rpc_fields *fields,
                       struct credentials *c, struct error *error)
{
    const char *chroot = rpc_fields_get(fields, "chroot"), *home = rpc_fields_get(fields, "home");
    const char *allowed = conf_str(set, SET_valid_chroot_dirs), *cut = home == NULL ? NULL : strstr(home, "/./");

    if ((chroot == NULL || chroot[0] == '\0') && cut != NULL && allowed[0] != '\0')
        chroot = arena_str(arena, slice_of(home, (size_t)(cut - home)));
    if (chroot == NULL || chroot[0] == '\0') {
        chroot = conf_str(set, SET_mail_chroot); /* the admin's own: needs no permission */
        c->chroot = chroot[0] == '\0' ? NULL : arena_strdup(arena, chroot);
        return 0;
    }
    if (!chroot_allowed(allowed, chroot))
        return error_set(error, ERROR_PERMISSION,
                         "userdb returned invalid chroot directory '%s' (see valid_chroot_dirs setting)", chroot);
    c->chroot = arena_strdup(arena, chroot);
    return 0;
}

int credentials_find(struct arena *arena, const struct settings *set, const char *user,
                     const struct rpc_fields *fields, struct credentials *out, struct error *error)
{
    struct credentials c = {.privileged_gid = (gid_t)-1};
    const char *nice = rpc_fields_get(fields, "nice");

    (void)user;
    if (nice != NULL)
        c.nice = (int)strtol(nice, NULL, 10);
    if (geteuid() != 0) {
        /* There is one user only: whoever started the server. */
        c.uid = geteuid();
        c.gid = getegid();
        *out = c;
        return 0;
    }
    if (find_uid(set, fields, &c, error) < 0 || find_gid(set, fields, &c, error) < 0 ||
        find_groups(set, fields, &c, error) < 0 || find_chroot(arena, set, fields, &c, error) < 0)
        return -1;
    *out = c;
    return 0;
}

const char *credentials_key(struct arena *arena, const struct credentials *c)
{
    struct buffer text = {0};
    char *key;

    buffer_printf(&text, "%u:%u:%u:%d:", c->uid, c->gid, c->privileged_gid, c->nice);
    for (size_t i = 0; i < c->group_count; i++)
        buffer_printf(&text, "%u,", c->groups[i]);
    buffer_printf(&text, ":%s", c->chroot == NULL ? "" : c->chroot);
    key = arena_strdup(arena, buffer_cstr(&text));
    buffer_free(&text);
    return key;
}
