/* request_field.c - what the fields of databases do (auth.md 7.1), and the check against the stored password. */
#include "auth/auth.h"
#include "auth/scheme_impl.h"

#include <grp.h>
#include <pwd.h>
#include <time.h>

#define DELAY_UNTIL_MOST 300 /* seconds (auth.md 7.1) */

static void set_stored(struct request *r, char *value)
{
    if (r->stored != NULL)
        explicit_bzero(r->stored, strlen(r->stored));
    mem_free(r->stored);
    r->stored = value;
}

/* The stored form gets the default scheme as prefix when it names none. */
static void set_password_field(struct request *r, const char *value, const char *scheme, bool literal)
{
    struct slice rest = slice_from_str(value), name;

    if (!literal && value[0] == '{' && scheme_split(&rest, &name))
        set_stored(r, mem_strdup(value));
    else if (!literal && strncmp(value, "$1$", 3) == 0)
        set_stored(r, mem_printf("{MD5-CRYPT}%s", value));
    else
        set_stored(r, mem_printf("{%s}%s", scheme, value));
}

static void fail_request(struct request *r)
{
    r->failed = true;
}

/* user, username and domain: the new name is put together, then goes through auth.md 4 as any other. */
static void set_user_field(struct request *r, const char *name, const char *value)
{
    const char *old = r->user == NULL ? "" : r->user, *at = strchr(old, '@');
    const char *new = value;
    struct error e;

    if (strcmp(name, "username") == 0 && strchr(value, '@') == NULL && at != NULL)
        new = *value == '\0' ? "" : arena_printf(r->arena, "%s%s", value, at);
    else if (strcmp(name, "domain") == 0)
        new = arena_printf(r->arena, "%.*s@%s", (int)(at == NULL ? strlen(old) : (size_t)(at - old)), old, value);
    if (*new == '\0') {
        request_error(r, "username attribute is empty, failing the request");
        fail_request(r);
    } else if (request_change_user(r, new, &e) < 0) {
        request_error(r, "%s", e.admin);
        fail_request(r);
    }
}

static void check_nets(struct request *r, const char *networks, const struct net_ip *ip)
{
    struct slice rest = slice_from_str(networks), word;
    bool local = false;
    char text[NET_IP_TEXT];

    while (slice_split(&rest, ',', &word))
        if (slice_equal_str(slice_trim(word), "local"))
            local = true;
    if (ip->family == 0 ? local : net_ip_in(ip, networks))
        return;
    if (ip->family == 0)
        request_info(r, "allow_nets check failed: Remote IP not known and 'local' missing");
    else
        request_info(r, "allow_nets check failed: IP %s not in allowed networks", net_ip_text(ip, text));
    fail_request(r);
}

/* "<unix time>[+<at most so many seconds more>]" */
static void set_delay_until(struct request *r, const char *value)
{
    struct slice rest = slice_from_str(value), stamp, extra = SLICE_EMPTY;
    uint64_t until, more = 0;

    if (!slice_split(&rest, '+', &stamp) || !slice_to_u64(stamp, &until) ||
        (rest.at != NULL && slice_split(&rest, '+', &extra) && !slice_to_u64(extra, &more))) {
        request_error(r, "Invalid delay_until timestamp '%s'", value);
        fail_request(r);
        return;
    }
    if (until + more > (uint64_t)time(NULL) + DELAY_UNTIL_MOST) {
        request_error(r, "delay_until timestamp %s is too much in the future, failing", value);
        fail_request(r);
        return;
    }
    if (more > 0) {
        uint32_t pick;
        scheme_random((unsigned char *)&pick, sizeof(pick));
        until += pick % (more + 1);
    }
    r->delay_until = (int64_t)until;
}

static void set_field(struct request *, const char *name, const char *value, const char *scheme);
static void set_userdb_field(struct request *, const char *name, const char *value);

static void import_fields(struct request *r, const char *value, const char *scheme, bool userdb)
{
    struct slice rest = slice_from_str(value), word;

    while (slice_split(&rest, '\t', &word)) {
        ptrdiff_t eq = slice_find(word, '=');
        const char *key = arena_str(r->arena, eq < 0 ? word : slice_head(word, (size_t)eq));
        const char *text = eq < 0 ? "" : arena_str(r->arena, slice_from(word, (size_t)eq + 1));
        if (*key == '\0')
            continue;
        if (userdb)
            set_userdb_field(r, key, text);
        else
            set_field(r, key, text, scheme);
    }
}

/* ":protected" and ":remove" (auth.md 7.1). True: nothing is left to do. */
static bool handle_suffix(struct request *r, struct fields *f, const char **name)
{
    size_t size = strlen(*name);

    if (size > 10 && strcmp(*name + size - 10, ":protected") == 0) {
        *name = arena_str(r->arena, slice_of(*name, size - 10));
        return fields_has(f, *name);
    }
    if (size > 7 && strcmp(*name + size - 7, ":remove") == 0) {
        fields_remove(f, arena_str(r->arena, slice_of(*name, size - 7)));
        return true;
    }
    return false;
}

/* Fields that only steer auth stay in the set, hidden: replies show by a trailing TAB that there is something. */
static void set_field(struct request *r, const char *name, const char *value, const char *scheme)
{
    struct error e;

    if (handle_suffix(r, &r->passdb_fields, &name))
        return;
    if (strcmp(name, "password") == 0) {
        set_password_field(r, value, scheme, false);
    } else if (strcmp(name, "password_noscheme") == 0) {
        set_password_field(r, value, scheme, true);
    } else if (strcmp(name, "user") == 0 || strcmp(name, "username") == 0 || strcmp(name, "domain") == 0) {
        set_user_field(r, name, value);
        fields_set(&r->passdb_fields, name, value);
    } else if (strcmp(name, "login_user") == 0) {
        fields_set(&r->passdb_fields, name, value);
        if (request_set_login_user(r, value, &e) < 0) {
            request_error(r, "%s", e.admin);
            fail_request(r);
        }
    } else if (strcmp(name, "allow_nets") == 0) {
        fields_set(&r->passdb_fields, name, value);
        check_nets(r, value, &r->remote.ip);
    } else if (strcmp(name, "allow_real_nets") == 0) {
        fields_set(&r->passdb_fields, name, value);
        check_nets(r, value, r->real_remote.ip.family != 0 ? &r->real_remote.ip : &r->remote.ip);
    } else if (strcmp(name, "fail") == 0) {
        fail_request(r);
    } else if (strcmp(name, "delay_until") == 0) {
        set_delay_until(r, value);
    } else if (strcmp(name, "userdb_userdb_import") == 0) {
        import_fields(r, value, scheme, true);
    } else if (strncmp(name, "userdb_", 7) == 0) {
        fields_set(&r->passdb_fields, name, value);
        set_userdb_field(r, name + 7, value);
    } else if (strcmp(name, "passdb_import") == 0) {
        import_fields(r, value, scheme, false);
    } else if (strcmp(name, "noauthenticate") == 0) {
        fields_set(&r->passdb_fields, "nopassword", "");
        fields_set(&r->passdb_fields, name, value);
    } else if (strcmp(name, "temp") != 0 && strcmp(name, "authz") != 0 && strcmp(name, "code") != 0) {
        /* never from a database: a client would take them for auth's own verdict */
        fields_set(&r->passdb_fields, name, value);
    }
}

void request_set_field(struct request *r, const char *name, const char *value, const char *scheme)
{
    if (r->recording && strcmp(name, "password") != 0 && strcmp(name, "password_noscheme") != 0)
        fields_set(&r->raw, name, value);
    set_field(r, name, value, scheme);
}

/* ---- userdb --------------------------------------------------------------------------------------------------- */

static bool put_id(struct request *r, const char *name, const char *value)
{
    struct passwd *pw;
    struct group *gr;
    uint32_t id;

    if (slice_to_u32(slice_from_str(value), &id)) {
        fields_set(&r->userdb_fields, name, value);
        return true;
    }
    if (strcmp(name, "uid") == 0 && (pw = getpwnam(value)) != NULL)
        id = pw->pw_uid;
    else if (strcmp(name, "gid") == 0 && (gr = getgrnam(value)) != NULL)
        id = gr->gr_gid;
    else
        return false;
    fields_set(&r->userdb_fields, name, arena_printf(r->arena, "%u", id));
    return true;
}

static void set_userdb_field(struct request *r, const char *name, const char *value)
{
    struct error e;
    struct stat st;

    if (handle_suffix(r, &r->userdb_fields, &name))
        return;
    if (strcmp(name, "uid") == 0 || strcmp(name, "gid") == 0) {
        if (!put_id(r, name, value)) {
            request_error(r, "Invalid %s value '%s'", strcmp(name, "uid") == 0 ? "UID" : "GID", value);
            fields_set(&r->userdb_fields, "tempfail", "yes");
        }
    } else if (strcmp(name, "user") == 0 || strcmp(name, "username") == 0 || strcmp(name, "domain") == 0) {
        if (r->userdb_lookup)
            set_user_field(r, name, value);
    } else if (strcmp(name, "uidgid_file") == 0) {
        if (stat(value, &st) < 0) {
            error_sys(&e, "stat", value);
            request_error(r, "%s", e.admin);
            fields_set(&r->userdb_fields, "tempfail", "yes");
        } else {
            fields_set(&r->userdb_fields, "uid", arena_printf(r->arena, "%u", st.st_uid));
            fields_set(&r->userdb_fields, "gid", arena_printf(r->arena, "%u", st.st_gid));
        }
    } else if (strcmp(name, "userdb_import") == 0) {
        import_fields(r, value, "", true);
    } else if (strcmp(name, "system_user") == 0) {
        log_warning(NULL, "userdb: Replace system_user with system_groups_user");
        fields_set(&r->userdb_fields, "system_groups_user", value);
    } else {
        fields_set(&r->userdb_fields, name, value);
    }
}

void request_set_userdb_field(struct request *r, const char *name, const char *value)
{
    if (r->recording)
        fields_set(&r->raw, name, value);
    set_userdb_field(r, name, value);
}

void request_set_template(struct request *r, const char *fields, const char *scheme, bool userdb)
{
    struct slice rest = slice_from_str(fields), word;

    while (slice_split(&rest, ' ', &word)) {
        ptrdiff_t eq = slice_find(word, '=');
        const char *key, *value = "";
        if (word.size == 0)
            continue;
        key = arena_str(r->arena, eq < 0 ? word : slice_head(word, (size_t)eq));
        if (eq >= 0)
            value = request_expand(r, arena_str(r->arena, slice_from(word, (size_t)eq + 1)), NULL, NULL);
        if (userdb)
            request_set_userdb_field(r, key, value);
        else
            request_set_field(r, key, value, scheme);
    }
}

/* ---- the stored password -------------------------------------------------------------------------------------- */

enum passdb_result request_verify_stored(struct request *r)
{
    struct slice data = slice_from_str(r->stored), scheme;
    enum scheme_result match;
    struct buffer decoded = {0};
    struct error e;
    bool open = fields_has(&r->passdb_fields, "nopassword");

    if (r->skip_password_check)
        return PASSDB_OK;
    if (open) {
        if (r->stored != NULL) {
            (void)scheme_split(&data, &scheme);
            if (data.size > 0) {
                request_error(r, "nopassword set but password is non-empty");
                request_log_mismatch(r, NULL);
                return PASSDB_MISMATCH;
            }
        }
        return fields_has(&r->passdb_fields, "noauthenticate") ? PASSDB_NEXT : PASSDB_OK;
    }
    if (r->stored == NULL) {
        request_info(r, "No password returned (and no nopassword)");
        return PASSDB_MISMATCH;
    }
    if (!scheme_split(&data, &scheme))
        return PASSDB_INTERNAL; /* set_password_field always writes one */
    match = scheme_verify(slice_from_str(r->password), r->original_user, scheme, data, &e);
    switch (match) {
    case SCHEME_MATCH:
        return PASSDB_OK;
    case SCHEME_MISMATCH:
        request_log_mismatch(r, NULL);
        return PASSDB_MISMATCH;
    case SCHEME_INVALID:
        if (scheme_decode(scheme, data, &decoded, &e) < 0)
            request_error(r, "Password data is not valid for scheme %.*s: %s", (int)slice_head(scheme, 64).size,
                          (const char *)scheme.at, e.admin);
        else if (r->auth->set.debug_passwords)
            request_error(r, "Invalid password '%s' in passdb: %s", r->stored, e.admin);
        else
            request_error(r, "Invalid password in passdb: %s", e.admin);
        buffer_wipe(&decoded);
        return PASSDB_MISMATCH;
    case SCHEME_UNKNOWN:
        request_error(r, "%s", e.admin);
        return PASSDB_MISMATCH;
    }
    return PASSDB_INTERNAL;
}

enum passdb_result request_make_credentials(struct request *r)
{
    struct slice data = slice_from_str(r->stored), scheme;
    struct error e;

    buffer_reset(&r->credentials);
    if (fields_has(&r->passdb_fields, "noauthenticate"))
        return PASSDB_NEXT;
    if (fields_has(&r->passdb_fields, "nopassword"))
        return PASSDB_OK; /* empty credentials */
    if (r->stored == NULL) {
        request_info(r, "No password returned (and no nopassword)");
        return PASSDB_MISMATCH;
    }
    if (r->wanted_scheme == NULL || *r->wanted_scheme == '\0') {
        /* Any scheme will do, but it must be one. */
        if (!scheme_split(&data, &scheme) || scheme_decode(scheme, data, &r->credentials, &e) == 0)
            return PASSDB_OK;
        if (e.class == ERROR_UNSUPPORTED)
            request_error(r, "Unknown scheme %.*s", (int)slice_head(scheme, 64).size, (const char *)scheme.at);
        else
            request_error(r, "Password data is not valid for scheme %.*s: %s", (int)slice_head(scheme, 64).size,
                          (const char *)scheme.at, e.admin);
        return PASSDB_SCHEME_NOT_AVAILABLE;
    }
    if (!scheme_split(&data, &scheme))
        return PASSDB_INTERNAL;
    if (scheme_credentials(scheme, data, r->original_user, r->wanted_scheme, &r->credentials, &e) < 0) {
        if (e.class == ERROR_UNSUPPORTED && scheme_known(scheme))
            request_info(r, "%s", e.admin);
        else
            request_error(r, "%s", e.admin);
        return PASSDB_SCHEME_NOT_AVAILABLE;
    }
    return PASSDB_OK;
}
