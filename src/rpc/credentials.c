/* credentials.c - as whom the mail of a user is touched, and becoming that user (auth 7; config). */
#include "rpc/credentials.h"

#include <errno.h>
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

static bool outside(uint32_t id, unsigned first, unsigned last)
{
    return id < first || (last != 0 && id > last);
}

/* The real server names first_valid_* for both ends of the range. */
static int refuse_id(struct error *error, const char *what, const char *lower, uint32_t id, const char *source)
{
    return error_set(error, ERROR_PERMISSION,
                     "Mail access for users with %s %u not permitted (see first_valid_%s in config file, %s from %s).",
                     what, id, lower, lower, source);
}

static int find_uid(const struct settings *set, const struct rpc_fields *fields, struct credentials *c,
                    struct error *error)
{
    const char *text = rpc_fields_get(fields, "uid"), *source = "userdb lookup";

    if (text == NULL || text[0] == '\0') {
        text = conf_str(set, SET_mail_uid);
        source = "mail_uid setting";
    }
    if (text[0] == '\0')
        return error_set(error, ERROR_TEMPORARY, "Couldn't drop privileges: User is missing UID (see mail_uid setting)");
    if (!user_id(text, &c->uid))
        return error_set(error, ERROR_TEMPORARY, "Unknown UNIX UID user: %s (from %s)", text, source);
    if (outside(c->uid, conf_uint(set, SET_first_valid_uid), conf_uint(set, SET_last_valid_uid)))
        return refuse_id(error, "UID", "uid", c->uid, source);
    return 0;
}

/* Nobody named a gid: root's own remains, where the configuration lets users have it. */
static int find_gid(const struct settings *set, const struct rpc_fields *fields, struct credentials *c,
                    struct error *error)
{
    const char *text = rpc_fields_get(fields, "gid"), *source = "userdb lookup";
    unsigned first = conf_uint(set, SET_first_valid_gid);

    if (text == NULL || text[0] == '\0') {
        text = conf_str(set, SET_mail_gid);
        source = "mail_gid setting";
    }
    if (text[0] == '\0' && first > 0)
        return error_set(error, ERROR_TEMPORARY, "Couldn't drop privileges: User is missing GID (see mail_gid setting)");
    if (text[0] == '\0')
        return 0;
    if (!group_id(text, &c->gid))
        return error_set(error, ERROR_TEMPORARY, "Unknown UNIX GID group: %s (from %s)", text, source);
    if (outside(c->gid, first, conf_uint(set, SET_last_valid_gid)))
        return refuse_id(error, "GID", "gid", c->gid, source);
    return 0;
}

/* mail_access_groups, and the groups of system_groups_user. */
static int find_groups(const struct settings *set, const struct rpc_fields *fields, struct credentials *c,
                       struct error *error)
{
    struct slice rest = slice_from_str(conf_str(set, SET_mail_access_groups));
    const char *system = rpc_fields_get(fields, "system_groups_user");
    const char *privileged = conf_str(set, SET_mail_privileged_group);
    gid_t list[CREDENTIALS_GROUPS_MAX];
    int count = CREDENTIALS_GROUPS_MAX;

    while (rest.size > 0) {
        size_t n = 0;
        char *name;
        gid_t gid = 0;
        bool known;

        while (n < rest.size && rest.at[n] != ',' && rest.at[n] != ' ')
            n++;
        name = mem_strndup(slice_head(rest, n));
        rest = slice_from(rest, n < rest.size ? n + 1 : n);
        known = n == 0 || group_id(name, &gid);
        if (known && n > 0)
            add_group(c, gid);
        if (!known)
            (void)error_set(error, ERROR_TEMPORARY, "unknown group name in extra_groups: %s", name);
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
        return error_set(error, ERROR_TEMPORARY,
                         "Couldn't drop privileges: Unknown UNIX GID group: %s (in mail_privileged_group setting)", privileged);
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

void credentials_split_home(struct arena *arena, const struct settings *set, struct rpc_fields *fields)
{
    const char *home = rpc_fields_get(fields, "home"), *cut = home == NULL ? NULL : strstr(home, "/./");
    struct rpc_field *grown;

    if (cut == NULL || *conf_str(set, SET_valid_chroot_dirs) == '\0')
        return;
    grown = ARENA_ARRAY(arena, struct rpc_field, fields->count + 1);
    /* In front, where a field "chroot" of the userdb itself does not count any more. */
    grown[0] = (struct rpc_field){.key = "chroot", .value = arena_str(arena, slice_of(home, (size_t)(cut - home)))};
    memcpy(grown + 1, fields->at, fields->count * sizeof(*grown));
    for (size_t i = 1; i <= fields->count; i++)
        if (strcmp(grown[i].key, "home") == 0)
            grown[i].value = arena_strdup(arena, cut + 2);
    *fields = (struct rpc_fields){.at = grown, .count = fields->count + 1};
}

/* mail_chroot: the admin's own, needs no permission. */
static int default_chroot(struct arena *arena, const struct settings *set, const char *user,
                          const struct rpc_fields *fields, struct credentials *c, struct error *error)
{
    const char *template = conf_str(set, SET_mail_chroot), *at = strchr(user, '@'), *home = rpc_fields_get(fields, "home");
    const struct conf_var table[] = {
        {'u', "user", user},
        {'n', "username", arena_str(arena, slice_of(user, at == NULL ? strlen(user) : (size_t)(at - user)))},
        {'d', "domain", at == NULL ? "" : at + 1},
        {'h', "home", home == NULL ? "" : home},
        {0, NULL, NULL}};
    const struct conf_vars vars = {.table = table};
    bool failed = false;

    if (*template == '\0')
        return 0;
    c->chroot = conf_expand(arena, template, &vars, &failed, error);
    return failed ? error_context(error, "Failed to expand mail_chroot '%s': ", template) : 0;
}

static int find_chroot(struct arena *arena, const struct settings *set, const char *user,
                       const struct rpc_fields *fields, struct credentials *c, struct error *error)
{
    const char *chroot = rpc_fields_get(fields, "chroot");

    if (chroot == NULL || chroot[0] == '\0')
        return default_chroot(arena, set, user, fields, c, error);
    if (!chroot_allowed(conf_str(set, SET_valid_chroot_dirs), chroot))
        return error_set(error, ERROR_INVALID,
                         "Invalid settings in userdb: userdb returned invalid chroot directory: %s "
                         "(see valid_chroot_dirs setting)", chroot);
    c->chroot = arena_strdup(arena, chroot);
    return 0;
}

int credentials_find(struct arena *arena, const struct settings *set, const char *user,
                     const struct rpc_fields *fields, struct credentials *out, struct error *error)
{
    struct credentials c = {.privileged_gid = (gid_t)-1};
    const char *nice = rpc_fields_get(fields, "nice");

    if (nice != NULL)
        c.nice = (int)strtol(nice, NULL, 10);
    if (geteuid() != 0) {
        c.uid = geteuid();
        c.gid = getegid();
        *out = c;
        return 0;
    }
    if (find_chroot(arena, set, user, fields, &c, error) < 0 || find_uid(set, fields, &c, error) < 0 ||
        find_gid(set, fields, &c, error) < 0 || find_groups(set, fields, &c, error) < 0)
        return -1;
    if (c.uid == 0)
        return error_set(error, ERROR_PERMISSION, "Couldn't drop privileges: Mail access not allowed for root");
    *out = c;
    return 0;
}

void credentials_add_groups(struct credentials *c, const char *numbers)
{
    struct slice rest = slice_from_str(numbers), word;
    uint32_t gid;

    while (rest.size > 0 && slice_split(&rest, ',', &word))
        if (slice_to_u32(word, &gid) && geteuid() == 0)
            add_group(c, gid);
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

/* ---- becoming the user ------------------------------------------------------------------------------------------------ */

static int set_groups(const struct credentials *c, struct error *error)
{
    gid_t groups[CREDENTIALS_GROUPS_MAX + 1];

    groups[0] = c->gid;
    memcpy(groups + 1, c->groups, c->group_count * sizeof(*groups));
    return setgroups(c->group_count + 1, groups) < 0 ? error_sys(error, "setgroups", NULL) : 0;
}

int credentials_take(const struct credentials *c, struct error *error)
{
    /* The privileged group stays reachable as the saved one: for locks beside mail spools. */
    gid_t saved = c->privileged_gid == (gid_t)-1 ? c->gid : c->privileged_gid;

    if (set_groups(c, error) < 0)
        return -1;
    if (setresgid(c->gid, c->gid, saved) < 0)
        return error_sys(error, "setresgid", NULL);
    if (c->chroot != NULL && chroot(c->chroot) < 0)
        return error_sys(error, "chroot", c->chroot);
    if (c->chroot != NULL && chdir("/") < 0)
        return error_sys(error, "chdir", "/");
    if (setresuid(c->uid, c->uid, c->uid) < 0)
        return error_sys(error, "setresuid", NULL);
    if (c->uid != 0 && setuid(0) == 0)
        return error_set(error, ERROR_BUG, "We could still become root after setuid(%u)", c->uid);
    return 0;
}

int credentials_lend(const struct credentials *c, struct error *error)
{
    if (set_groups(c, error) < 0)
        return -1;
    if (setegid(c->gid) < 0)
        return error_sys(error, "setegid", NULL);
    return seteuid(c->uid) < 0 ? error_sys(error, "seteuid", NULL) : 0;
}

int credentials_return(struct error *error)
{
    static const gid_t root;

    if (getuid() != 0)
        return 0;
    if (geteuid() != 0 && seteuid(0) < 0)
        return error_sys(error, "seteuid", NULL);
    if (getegid() != 0 && setegid(0) < 0)
        return error_sys(error, "setegid", NULL);
    return setgroups(1, &root) < 0 ? error_sys(error, "setgroups", NULL) : 0;
}
