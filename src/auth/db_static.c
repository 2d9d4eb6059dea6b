/* db_static.c - static and prefetch (auth.md 9.3, 9.10). */
#include "auth/db_drivers.h"

struct state {
    char *fields;         /* the template without our own words */
    bool allow_all_users;
};

static int open_static(struct db *db, const struct db_params *params, struct error *e)
{
    struct slice rest = slice_from_str(params->args), word, value;
    struct buffer b = {0};
    struct state *s = ARENA_NEW(params->arena, struct state);
    bool password = false;

    (void)e;
    while (db_args_next(&rest, &word)) {
        if (params->userdb && db_arg_is(word, "allow_all_users", &value)) {
            s->allow_all_users = slice_equal_str(value, "yes");
            continue;
        }
        if (slice_equal_str(word, "nopassword") || slice_starts(word, SLICE("nopassword=")) ||
            slice_starts(word, SLICE("password=")))
            password = true;
        if (b.size > 0)
            buffer_append_byte(&b, ' ');
        buffer_append_slice(&b, word);
    }
    /* Without a password nobody can log in: the empty one would let everybody in. */
    if (!params->userdb && !password)
        log_warning(NULL, "passdb static: neither password nor nopassword is set");
    s->fields = arena_strdup(params->arena, buffer_cstr(&b));
    buffer_free(&b);
    db->state = s;
    return 0;
}

static enum passdb_result lookup(struct db *db, struct request *r)
{
    struct state *s = db->state;

    request_set_template(r, s->fields, db->default_scheme, false);
    return PASSDB_OK;
}

static enum userdb_result find_user(struct db *db, struct request *r)
{
    struct state *s = db->state;

    request_set_template(r, s->fields, "", true);
    return USERDB_FOUND;
}

static bool wants_passdb(const struct db *db)
{
    return !((const struct state *)db->state)->allow_all_users;
}

const struct db_driver db_static = {
    .name = "static", .default_scheme = "PLAIN", .passdb = true, .userdb = true,
    .open = open_static, .lookup = lookup, .user = find_user, .wants_passdb = wants_passdb,
};

/* ---- prefetch ------------------------------------------------------------------------------------------------- */

static int open_prefetch(struct db *db, const struct db_params *params, struct error *e)
{
    (void)db;
    if (*params->args != '\0')
        return error_set(e, ERROR_INVALID, "userdb prefetch: No args are supported: %s", params->args);
    return 0;
}

static enum userdb_result find_prefetched(struct db *db, struct request *r)
{
    (void)db;
    for (size_t i = 0; i < r->passdb_fields.list.count; i++)
        if (strncmp(r->passdb_fields.list.at[i].key, "userdb_", 7) == 0)
            return USERDB_FOUND; /* the fields are in the set already */
    if (r->successful)
        request_debug(r, "passdb didn't return userdb entries, trying the next userdb");
    return USERDB_UNKNOWN;
}

const struct db_driver db_prefetch = {
    .name = "prefetch", .default_scheme = "PLAIN", .userdb = true, .open = open_prefetch, .user = find_prefetched,
};
