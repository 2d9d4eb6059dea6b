/* db_sql.c - passdb and userdb sql (auth.md 9.4): queries of the configuration, in a worker. */
#include "auth/db_drivers.h"
#include "auth/scheme.h"
#include "auth/sql.h"

#include <fcntl.h>

#define CONF_MOST (1024 * 1024)

struct state {
    const struct sql_engine *engine;
    void *connection;
    struct sql_template password, user, iterate;
    bool make_table;        /* before the first query */
};

/* A block with a dsn instead of a file needs no queries: it has a table of its own (config-yaml 4). */
#define OWN_TABLE "CREATE TABLE IF NOT EXISTS yarilo_users (username TEXT PRIMARY KEY, password TEXT NOT NULL, " \
                  "home TEXT, mail TEXT, enabled INTEGER NOT NULL DEFAULT 1)"
#define OWN_PASSWORD_QUERY "SELECT password FROM yarilo_users WHERE username = '%u' AND enabled = 1"
#define OWN_USER_QUERY "SELECT home, mail FROM yarilo_users WHERE username = '%u' AND enabled = 1"
#define OWN_ITERATE_QUERY "SELECT username AS user FROM yarilo_users WHERE enabled = 1"
#define OWN_SCHEME "CRYPT"

static int read_conf(const struct db_params *params, struct sql_conf *conf, struct error *e)
{
    struct buffer text = {0};
    int result;

    if (*params->args == '\0') {
        /* The keys of the block itself (config-yaml 3). */
        const struct { const char *value; const char **at; } own[] = {
            {params->dsn, &conf->connect}, {params->password_query, &conf->password_query},
            {params->user_query, &conf->user_query}, {params->iterate_query, &conf->iterate_query},
            {params->default_pass_scheme, &conf->default_pass_scheme}};
        if (*params->dsn == '\0')
            return error_set(e, ERROR_INVALID, "sql: Configuration file path not given");
        conf->password_query = OWN_PASSWORD_QUERY;
        conf->user_query = OWN_USER_QUERY;
        conf->iterate_query = OWN_ITERATE_QUERY;
        conf->default_pass_scheme = OWN_SCHEME;
        for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
            if (*own[i].value != '\0')
                *own[i].at = own[i].value;
        conf->driver = params->engine;
        return 0;
    }
    result = os_read_file(AT_FDCWD, params->args, CONF_MOST, &text, e);
    if (result == 0)
        result = sql_conf_parse(buffer_slice(&text), params->args, params->arena, conf, e);
    buffer_wipe(&text);
    return result;
}

static int open_sql(struct db *db, const struct db_params *params, struct error *e)
{
    struct state *s = ARENA_NEW(params->arena, struct state);
    struct sql_conf conf;
    const char *templates[2] = {NULL, NULL};

    sql_conf_defaults(&conf);
    if (read_conf(params, &conf, e) < 0)
        return -1;
    if (*conf.driver == '\0')
        return error_set(e, ERROR_INVALID, "sql: driver not set in configuration file %s", params->args);
    s->engine = sql_engine_find(conf.driver);
    if (s->engine == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "sql: Unknown driver '%s' (not compiled in)", conf.driver);
    if (!scheme_known(slice_from_str(conf.default_pass_scheme)))
        return error_set(e, ERROR_INVALID, "passdb sql: Invalid default_pass_scheme=%s", conf.default_pass_scheme);
    if (sql_template_parse(conf.password_query, params->arena, &s->password, e) < 0)
        return error_context(e, "password_query: ");
    if (sql_template_parse(conf.user_query, params->arena, &s->user, e) < 0)
        return error_context(e, "user_query: ");
    if (sql_template_parse(conf.iterate_query, params->arena, &s->iterate, e) < 0)
        return error_context(e, "iterate_query: ");
    s->make_table = *params->args == '\0' && !params->skip_schema && *params->password_query == '\0';
    s->connection = s->engine->open(conf.connect, s->make_table, e);
    if (s->connection == NULL)
        return -1;
    templates[0] = params->userdb ? conf.user_query : conf.password_query;
    db->cache_key = db_cache_key(params->arena, templates);
    db->default_scheme = conf.default_pass_scheme;
    db->blocking = true;
    db->state = s;
    return 0;
}

static void close_sql(struct db *db)
{
    struct state *s = db->state;

    if (s != NULL)
        s->engine->close(s->connection);
}

static int run(struct state *s, const struct sql_template *t, struct request *r, sql_row_fn *row, void *arg,
               struct error *e)
{
    const char **values = ARENA_ARRAY(r->arena, const char *, t->count + 1);
    struct sql_statement statement = {t->text, values, t->count};

    for (size_t i = 0; i < t->count; i++)
        values[i] = request_expand(r, t->values[i], NULL, NULL);
    if (s->make_table) {
        static const struct sql_statement make = {OWN_TABLE, NULL, 0};
        if (s->engine->query(s->connection, &make, row, arg, e) < 0)
            return -1;
        s->make_table = false;
    }
    request_debug(r, "query: %s", t->text);
    return s->engine->query(s->connection, &statement, row, arg, e);
}

/* ---- passdb --------------------------------------------------------------------------------------------------- */

struct answer {
    struct request *request;
    const char *scheme;
    unsigned rows;
    bool userdb, has_password;
};

static void take_columns(struct answer *a, const struct sql_row *row)
{
    for (int i = 0; i < row->columns; i++) {
        const char *name = row->names[i], *value = row->values[i];
        bool password = strcmp(name, "password") == 0 || strcmp(name, "password_noscheme") == 0;

        if (password)
            a->has_password = true;
        if (value == NULL || *name == '\0')
            continue;
        if (a->userdb)
            request_set_userdb_field(a->request, name, value);
        else
            request_set_field(a->request, name, value, a->scheme);
    }
}

static bool take_row(void *arg, const struct sql_row *row)
{
    struct answer *a = arg;

    if (a->rows++ == 0)
        take_columns(a, row);
    return a->rows < 2;
}

static enum passdb_result lookup(struct db *db, struct request *r)
{
    struct state *s = db->state;
    struct answer a = {.request = r, .scheme = db->default_scheme};
    struct error e;

    if (run(s, &s->password, r, take_row, &a, &e) < 0) {
        request_error(r, "Password query failed: %s", e.admin);
        return PASSDB_INTERNAL;
    }
    if (a.rows == 0) {
        request_log_unknown(r, NULL);
        return PASSDB_USER_UNKNOWN;
    }
    if (a.rows > 1) {
        request_error(r, "Password query returned multiple matches");
        return PASSDB_INTERNAL;
    }
    if (!a.has_password) {
        request_error(r, "Password query must return a field named 'password'");
        return PASSDB_INTERNAL;
    }
    return PASSDB_OK;
}

/* ---- userdb --------------------------------------------------------------------------------------------------- */

static enum userdb_result find_user(struct db *db, struct request *r)
{
    struct state *s = db->state;
    struct answer a = {.request = r, .scheme = "", .userdb = true};
    struct error e;

    if (run(s, &s->user, r, take_row, &a, &e) < 0) {
        request_error(r, "User query failed: %s", e.admin);
        return USERDB_INTERNAL;
    }
    /* Of several rows the first one counts, as with Dovecot. */
    if (a.rows == 0)
        request_info(r, "unknown user");
    return a.rows == 0 ? USERDB_UNKNOWN : USERDB_FOUND;
}

struct listing {
    db_each_fn *each;
    void *arg;
    struct arena *arena;
    bool broken;
};

/* `user` counts only as the first column; else username and, if there is one, domain. */
static bool list_row(void *arg, const struct sql_row *row)
{
    struct listing *l = arg;
    const char *user = NULL, *domain = NULL;

    if (row->columns > 0 && strcmp(row->names[0], "user") == 0) {
        user = row->values[0];
    } else {
        for (int i = 0; i < row->columns; i++) {
            if (strcmp(row->names[i], "username") == 0)
                user = row->values[i];
            else if (strcmp(row->names[i], "domain") == 0)
                domain = row->values[i];
        }
        if (user != NULL && domain != NULL)
            user = arena_printf(l->arena, "%s@%s", user, domain);
    }
    if (user == NULL) {
        l->broken = true;
        return false;
    }
    l->each(l->arg, user);
    arena_reset(l->arena);
    return true;
}

static int iterate(struct db *db, struct request *r, db_each_fn *each, void *arg, struct error *e)
{
    struct state *s = db->state;
    struct listing l = {each, arg, arena_new(), false};
    int result = run(s, &s->iterate, r, list_row, &l, e);

    arena_free(l.arena);
    if (result == 0 && l.broken)
        return error_set(e, ERROR_INVALID, "sql: Iterate query didn't return 'user' (or 'username' and 'domain') field");
    return result < 0 ? error_context(e, "sql: Iterate query failed: ") : 0;
}

const struct db_driver db_sql = {
    .name = "sql", .default_scheme = "MD5", .passdb = true, .userdb = true,
    .open = open_sql, .close = close_sql, .lookup = lookup, .user = find_user, .iterate = iterate,
};
