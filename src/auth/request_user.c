/* request_user.c - what becomes of a user name on its way in (auth.md 4).
 *
 * Every name goes through the same steps, whether the client or a database gave it: default realm, translation, the
 * allowed characters, auth_username_format. */
#include "auth/auth.h"

/* Steps 4 to 7. NULL with *e. */
static const char *fix_name(struct request *r, const char *name, struct error *e)
{
    const struct auth_set *set = &r->auth->set;
    const unsigned char *pair = (const unsigned char *)set->username_translation;
    unsigned char map[256] = {0};
    const char *was, *result;
    char *text;

    if (*set->default_realm != '\0' && strchr(name, '@') == NULL)
        text = arena_printf(r->arena, "%s@%s", name, set->default_realm);
    else
        text = arena_strdup(r->arena, name);
    for (; pair[0] != '\0' && pair[1] != '\0'; pair += 2)
        map[pair[0]] = pair[1];
    for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
        if (map[*c] != 0)
            *c = map[*c];
        if (*set->username_chars != '\0' && strchr(set->username_chars, *c) == NULL) {
            error_set(e, ERROR_INVALID,
                      "Username character disallowed by auth_username_chars: 0x%02x (username: %s)", *c, name);
            return NULL;
        }
    }
    if (*set->username_format != '\0') {
        /* %u, %n and %d are of the name so far. */
        was = r->user;
        r->user = text;
        result = request_expand(r, set->username_format, NULL, NULL);
        r->user = was;
    } else {
        result = text;
    }
    if (*result == '\0') {
        error_set(e, ERROR_INVALID, "Empty username");
        return NULL;
    }
    return result;
}

int request_set_login_user(struct request *r, const char *name, struct error *e)
{
    const char *fixed;

    if (r->auth->masterdbs.count == 0 && !(r->user != NULL && strcmp(name, r->user) == 0))
        return error_set(e, ERROR_INVALID, "Master user login attempted without master passdbs");
    if (*name == '\0')
        return error_set(e, ERROR_INVALID, "Master user login attempted to use empty login username");
    fixed = fix_name(r, name, e);
    if (fixed == NULL)
        return -1;
    /* The own name as authorization identity is an ordinary login. */
    if (r->user != NULL && strcmp(fixed, r->user) == 0)
        return 0;
    r->login_user = fixed;
    return 0;
}

int request_set_user(struct request *r, const char *name, struct error *e)
{
    char separator = r->auth->set.master_separator;
    const char *login = NULL, *fixed;

    if (r->auth->set.username_from_cert && r->cert_username != NULL && *r->cert_username != '\0')
        name = r->cert_username;
    if (separator != '\0' && !r->userdb_lookup) {
        const char *at = strchr(name, separator);
        if (at != NULL) {
            login = arena_str(r->arena, slice_of(name, (size_t)(at - name)));
            name = at + 1;
        }
    }
    r->original_user = arena_strdup(r->arena, name);
    fixed = fix_name(r, name, e);
    if (fixed == NULL) {
        r->user = r->original_user; /* for the FAIL line */
        r->refused_user = true;
        return -1;
    }
    r->user = fixed;
    r->translated_user = fixed;
    return login == NULL ? 0 : request_set_login_user(r, login, e);
}

int request_change_user(struct request *r, const char *name, struct error *e)
{
    const char *fixed = fix_name(r, name, e);

    if (fixed == NULL)
        return -1;
    if (r->user == NULL || strcmp(fixed, r->user) != 0) {
        request_debug(r, "username changed %s -> %s", r->user == NULL ? "" : r->user, fixed);
        r->user = fixed;
    }
    return 0;
}
