/* db_passwd.c - passwd and shadow, by NSS (auth.md 9.2).
 *
 * NSS may ask a directory over the network, so look-ups run in a worker unless `blocking=no` says otherwise. shadow needs root,
 * so it is always there. A locked account ("*", "!") is disabled, whatever the password. */
#include "auth/db_drivers.h"

#include <errno.h>
#include <pwd.h>
#include <shadow.h>

static const char *const key_templates[] = {"%u", NULL};

static int open_nss(struct db *db, const struct db_params *params, struct error *e)
{
    struct slice rest = slice_from_str(params->args), word, value;

    db->cache_key = db_cache_key(params->arena, key_templates);
    db->blocking = true; /* a directory may stand behind NSS */
    while (db_args_next(&rest, &word)) {
        if (db_arg_is(word, "blocking", &value)) {
            if (!slice_equal_str(value, "yes") && !slice_equal_str(value, "no"))
                return error_set(e, ERROR_INVALID, "%s: Invalid blocking value", db->driver->name);
            db->blocking = slice_equal_str(value, "yes");
        } else if (params->userdb) {
            db->state = arena_str(params->arena, slice_of(word.at, (size_t)(rest.at == NULL ? word.size
                                  : (size_t)(rest.at + rest.size - word.at))));
            break;
        } else {
            return error_set(e, ERROR_INVALID, "passdb %s: Unknown setting: %.*s", db->driver->name, (int)word.size,
                             (const char *)word.at);
        }
    }
    return 0;
}

static int open_shadow(struct db *db, const struct db_params *params, struct error *e)
{
    if (open_nss(db, params, e) < 0)
        return -1;
    db->blocking = true;
    return 0;
}

static enum passdb_result check_field(struct request *r, const char *name, const char *stored, const char *scheme)
{
    if (stored[0] == '\0' || stored[0] == '*' || stored[0] == '!') {
        if (r->auth->set.debug_passwords)
            request_info(r, "invalid password field '%s'", stored);
        else
            request_info(r, "invalid password field");
        return PASSDB_USER_DISABLED;
    }
    request_set_field(r, "password", stored, scheme);
    request_set_field(r, "user", name, scheme);
    return PASSDB_OK;
}

/* NULL: unknown, or (*failed, logged) not to be found out. */
static struct passwd *find_passwd(struct request *r, bool *failed)
{
    struct passwd *pw;
    struct error e;

    errno = 0;
    pw = getpwnam(r->user);
    *failed = pw == NULL && errno != 0 && errno != ENOENT && errno != ESRCH;
    if (*failed) {
        error_sys(&e, "getpwnam", NULL);
        request_error(r, "%s", e.admin);
    }
    return pw;
}

static enum passdb_result lookup_passwd(struct db *db, struct request *r)
{
    bool failed;
    struct passwd *pw = find_passwd(r, &failed);

    if (failed)
        return PASSDB_INTERNAL;
    if (pw == NULL) {
        request_log_unknown(r, NULL);
        return PASSDB_USER_UNKNOWN;
    }
    return check_field(r, pw->pw_name, pw->pw_passwd, db->default_scheme);
}

static enum passdb_result lookup_shadow(struct db *db, struct request *r)
{
    struct spwd *sp = getspnam(r->user);

    if (sp == NULL) {
        request_log_unknown(r, NULL);
        return PASSDB_USER_UNKNOWN;
    }
    return check_field(r, sp->sp_namp, sp->sp_pwdp, db->default_scheme);
}

static enum userdb_result find_user(struct db *db, struct request *r)
{
    bool failed;
    struct passwd *pw = find_passwd(r, &failed);

    if (failed)
        return USERDB_INTERNAL;
    if (pw == NULL) {
        request_info(r, "unknown user");
        return USERDB_UNKNOWN;
    }
    request_set_userdb_field(r, "system_groups_user", pw->pw_name);
    request_set_userdb_field(r, "uid", arena_printf(r->arena, "%u", pw->pw_uid));
    request_set_userdb_field(r, "gid", arena_printf(r->arena, "%u", pw->pw_gid));
    request_set_userdb_field(r, "home", pw->pw_dir);
    if (db->state != NULL)
        request_set_template(r, db->state, "", true);
    return USERDB_FOUND;
}

static bool in_range(unsigned id, unsigned first, unsigned last)
{
    return id >= first && (last == 0 || id <= last);
}

static int iterate(struct db *db, struct request *r, db_each_fn *each, void *arg, struct error *e)
{
    const struct auth_set *set = &r->auth->set;
    struct passwd *pw;

    (void)db, (void)e;
    setpwent();
    while ((pw = getpwent()) != NULL)
        if (in_range(pw->pw_uid, set->first_uid, set->last_uid) && in_range(pw->pw_gid, set->first_gid, set->last_gid))
            each(arg, pw->pw_name);
    endpwent();
    return 0;
}

const struct db_driver db_passwd = {
    .name = "passwd", .default_scheme = "CRYPT", .passdb = true, .userdb = true,
    .open = open_nss, .lookup = lookup_passwd, .user = find_user, .iterate = iterate,
};

const struct db_driver db_shadow = {
    .name = "shadow", .default_scheme = "CRYPT", .passdb = true, .open = open_shadow, .lookup = lookup_shadow,
};
