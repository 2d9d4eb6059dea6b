/* server.c - from the configuration to databases and chains (auth.md 2, 3).
 *
 * The global settings come first, then those of each service that has its own; databases get their numbers in that
 * order, in auth and in its workers alike: the worker protocol speaks of them by number. */
#include "auth/auth.h"
#include "auth/cache.h"
#include "auth/mech.h"
#include "auth/scheme.h"

#include <nettle/md5.h>

/* Services that may have settings of their own (protocol X { }). */
static const char *const services[] = {
    "imap", "pop3", "lmtp", "lda", "submission", "sieve", "smtp", "doveadm", "imap-urlauth", "jmap",
};

#define NO_PASSDB "No passdbs specified in configuration file. %s mechanism needs one"

/* ---- databases ------------------------------------------------------------------------------------------------ */

/* "driver: sqlite" in YAML is the SQL driver with that engine. */
static const char *sql_engine_name(const char *driver)
{
    if (strcmp(driver, "sqlite") == 0 || strcmp(driver, "mysql") == 0 || strcmp(driver, "pgsql") == 0)
        return driver;
    return strcmp(driver, "postgres") == 0 ? "pgsql" : NULL;
}

static int open_db(struct server *s, const struct conf_block *block, bool userdb, struct db **out, struct error *e)
{
    const char *driver = conf_block_str(block, "driver"), *engine = sql_engine_name(driver);
    const char *kind = userdb ? "userdb" : "passdb";
    const char *skip = conf_block_str(block, "skip_schema");
    struct db_params params = {
        .args = conf_block_str(block, "args"), .engine = engine == NULL ? "sqlite" : engine,
        .dsn = conf_block_str(block, "dsn"), .password_query = conf_block_str(block, "password_query"),
        .user_query = conf_block_str(block, "user_query"), .iterate_query = conf_block_str(block, "iterate_query"),
        .default_pass_scheme = conf_block_str(block, "default_pass_scheme"),
        .skip_schema = strcmp(skip, "yes") == 0 || strcmp(skip, "true") == 0,
        .userdb = userdb, .arena = s->arena,
    };
    const struct db_driver *d;
    struct db *db;

    if (*driver == '\0')
        return error_set(e, ERROR_INVALID, "%s is missing driver", kind);
    d = db_driver_find(engine != NULL ? "sql" : driver);
    if (d == NULL)
        return error_set(e, ERROR_INVALID, "Unknown %s driver '%s'", kind, driver);
    if (userdb ? !d->userdb : !d->passdb)
        return error_set(e, ERROR_INVALID, "Support not compiled in for %s driver '%s'", kind, driver);
    db = ARENA_NEW(s->arena, struct db);
    db->driver = d;
    db->args = arena_strdup(s->arena, params.args);
    db->default_scheme = d->default_scheme;
    if (d->open != NULL && d->open(db, &params, e) < 0) {
        if (d->close != NULL)
            d->close(db);
        return -1;
    }
    if (userdb) {
        VEC_PUSH(&s->userdbs, db);
        db->id = (unsigned)s->userdbs.count;
    } else {
        VEC_PUSH(&s->passdbs, db);
        db->id = (unsigned)s->passdbs.count;
    }
    *out = db;
    return 0;
}

/* ---- chains --------------------------------------------------------------------------------------------------- */

static enum chain_rule rule_of(const char *word)
{
    static const struct { const char *word; enum chain_rule rule; } rules[] = {
        {"return", RULE_RETURN}, {"return-ok", RULE_RETURN_OK}, {"return-fail", RULE_RETURN_FAIL},
        {"continue", RULE_CONTINUE}, {"continue-ok", RULE_CONTINUE_OK}, {"continue-fail", RULE_CONTINUE_FAIL}};

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (strcmp(word, rules[i].word) == 0)
            return rules[i].rule;
    return RULE_CONTINUE;
}

static enum chain_skip skip_of(const char *word)
{
    if (strcmp(word, "authenticated") == 0 || strcmp(word, "found") == 0)
        return SKIP_IF_SUCCESS;
    if (strcmp(word, "unauthenticated") == 0 || strcmp(word, "notfound") == 0)
        return SKIP_UNLESS_SUCCESS;
    return SKIP_NEVER;
}

static const char *keep(struct server *s, const char *text)
{
    return arena_strdup(s->arena, text);
}

static int make_link(struct server *s, const struct conf_block *block, bool userdb, struct chain_link *l, struct error *e)
{
    const char *verbose = conf_block_str(block, "auth_verbose");

    memset(l, 0, sizeof(*l));
    if (open_db(s, block, userdb, &l->db, e) < 0)
        return -1;
    l->name = keep(s, *conf_block_name(block) != '\0' ? conf_block_name(block) : l->db->driver->name);
    l->default_fields = keep(s, conf_block_str(block, "default_fields"));
    l->override_fields = keep(s, conf_block_str(block, "override_fields"));
    l->skip = skip_of(conf_block_str(block, "skip"));
    l->success = rule_of(conf_block_str(block, "result_success"));
    l->failure = rule_of(conf_block_str(block, "result_failure"));
    l->internalfail = rule_of(conf_block_str(block, "result_internalfail"));
    l->mechanisms = l->username_filter = "";
    l->verbose = strcmp(verbose, "yes") == 0 ? 1 : strcmp(verbose, "no") == 0 ? 0 : -1;
    if (userdb)
        return 0;
    l->mechanisms = keep(s, conf_block_str(block, "mechanisms"));
    l->username_filter = keep(s, conf_block_str(block, "username_filter"));
    l->deny = conf_block_bool(block, "deny");
    if (conf_block_bool(block, "pass"))
        l->success = RULE_CONTINUE;
    return 0;
}

static int make_passdbs(struct server *s, struct auth *a, const struct settings *set, struct error *e)
{
    size_t count;
    const struct conf_block *const *blocks = conf_blocks(set, BLOCK_PASSDB, &count);

    a->passdbs.at = ARENA_ARRAY(s->arena, struct chain_link, count + 1);
    a->masterdbs.at = ARENA_ARRAY(s->arena, struct chain_link, count + 1);
    /* Two rounds: the numbers count normal databases first, then those of master users (auth.md 3). */
    for (unsigned master = 0; master < 2; master++) {
        struct chain *chain = master ? &a->masterdbs : &a->passdbs;
        for (size_t i = 0; i < count; i++) {
            if (conf_block_bool(blocks[i], "master") != (bool)master)
                continue;
            if (!master && chain->count == 0 && skip_of(conf_block_str(blocks[i], "skip")) == SKIP_UNLESS_SUCCESS)
                continue; /* could never be asked */
            if (make_link(s, blocks[i], false, &chain->at[chain->count], e) < 0)
                return -1;
            chain->count++;
        }
    }
    return 0;
}

static int make_userdbs(struct server *s, struct auth *a, const struct settings *set, struct error *e)
{
    size_t count;
    const struct conf_block *const *blocks = conf_blocks(set, BLOCK_USERDB, &count);

    a->userdbs.at = ARENA_ARRAY(s->arena, struct chain_link, count + 1);
    for (size_t i = 0; i < count; i++) {
        if (make_link(s, blocks[i], true, &a->userdbs.at[i], e) < 0)
            return -1;
        a->userdbs.count++;
    }
    if (count == 0) {
        /* Without a userdb everybody whom a passdb knows is found, with no fields. */
        struct chain_link *l = &a->userdbs.at[0];
        struct db_params params = {.args = "", .userdb = true, .arena = s->arena};
        struct db *db = ARENA_NEW(s->arena, struct db);
        db->driver = db_driver_find("static");
        db->args = arena_strdup(s->arena, "");
        db->default_scheme = "PLAIN";
        if (db->driver->open(db, &params, e) < 0)
            return -1;
        VEC_PUSH(&s->userdbs, db);
        db->id = (unsigned)s->userdbs.count;
        *l = (struct chain_link){.name = "static", .db = db, .default_fields = "", .override_fields = "",
                                 .mechanisms = "", .username_filter = "", .success = RULE_RETURN_OK,
                                 .failure = RULE_CONTINUE, .internalfail = RULE_CONTINUE, .verbose = -1};
        a->userdbs.count = 1;
    }
    return 0;
}

static void fill_set(struct server *s, struct auth_set *a, const struct settings *set)
{
    a->default_realm = keep(s, conf_str(set, SET_auth_default_realm));
    a->realms = keep(s, conf_str(set, SET_auth_realms));
    a->username_chars = keep(s, conf_str(set, SET_auth_username_chars));
    a->username_format = keep(s, conf_str(set, SET_auth_username_format));
    a->username_translation = keep(s, conf_str(set, SET_auth_username_translation));
    a->proxy_self = keep(s, conf_str(set, SET_auth_proxy_self));
    a->anonymous_username = keep(s, conf_str(set, SET_auth_anonymous_username));
    a->verbose_passwords = keep(s, conf_str(set, SET_auth_verbose_passwords));
    a->master_separator = conf_str(set, SET_auth_master_user_separator)[0];
    a->debug_passwords = conf_bool(set, SET_auth_debug_passwords);
    a->debug = conf_bool(set, SET_auth_debug) || a->debug_passwords;
    a->verbose = conf_bool(set, SET_auth_verbose) || a->debug;
    a->require_client_cert = conf_bool(set, SET_auth_ssl_require_client_cert);
    a->username_from_cert = conf_bool(set, SET_auth_ssl_username_from_cert);
    a->failure_delay = conf_secs(set, SET_auth_failure_delay);
    a->first_uid = conf_uint(set, SET_first_valid_uid);
    a->last_uid = conf_uint(set, SET_last_valid_uid);
    a->first_gid = conf_uint(set, SET_first_valid_gid);
    a->last_gid = conf_uint(set, SET_last_valid_gid);
}

static struct auth *make_auth(struct server *s, const struct settings *set, struct error *e)
{
    struct auth *a = ARENA_NEW(s->arena, struct auth);

    fill_set(s, &a->set, set);
    if (make_passdbs(s, a, set, e) < 0 || make_userdbs(s, a, set, e) < 0)
        return NULL;
    if (a->masterdbs.count > 0 && a->passdbs.count == 0 &&
        a->masterdbs.at[a->masterdbs.count - 1].success == RULE_CONTINUE) {
        error_set(e, ERROR_INVALID, "Master passdb can't have pass=yes if there are no passdbs");
        return NULL;
    }
    return a;
}

/* ---- mechanisms ----------------------------------------------------------------------------------------------- */

static int make_mechs(struct server *s, const struct settings *set, struct error *e)
{
    struct slice rest = slice_from_str(conf_str(set, SET_auth_mechanisms)), word;
    const struct auth *global = s->auths.at[0];

    while (rest.size > 0) {
        const struct mech *m;
        size_t n = 0;

        while (n < rest.size && strchr(" ,\t", rest.at[n]) == NULL)
            n++;
        word = slice_head(rest, n);
        rest = slice_from(rest, n < rest.size ? n + 1 : n);
        if (word.size == 0)
            continue;
        m = mech_find(word);
        if (m == NULL)
            return error_set(e, ERROR_INVALID, "Unknown authentication mechanism '%.*s'", (int)word.size,
                             (const char *)word.at);
        if (global->passdbs.count == 0 && m->needs_passdb)
            return error_set(e, ERROR_INVALID, NO_PASSDB, m->name);
        VEC_PUSH(&s->mechs, m);
    }
    if (s->mechs.count == 0)
        return error_set(e, ERROR_INVALID, "No authentication mechanisms configured");
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

int server_configure(struct server *s, struct conf *conf, struct error *e)
{
    struct settings *global = conf_settings(conf, NULL, e), *own;
    struct auth *a;
    uint64_t cache_size;

    if (global == NULL)
        return -1;
    if (s->arena == NULL)
        s->arena = arena_new();
    a = make_auth(s, global, e);
    if (a == NULL) {
        settings_unref(global);
        return -1;
    }
    VEC_PUSH(&s->auths, a);
    VEC_PUSH(&s->auth_services, "");
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        struct conf_filter filter = {.service = services[i]};
        own = conf_settings(conf, &filter, e);
        if (own == NULL || (own != global && (a = make_auth(s, own, e)) == NULL)) {
            settings_unref(own);
            settings_unref(global);
            return -1;
        }
        if (own != global) {
            VEC_PUSH(&s->auths, a);
            VEC_PUSH(&s->auth_services, services[i]);
        }
        settings_unref(own);
    }
    cache_size = conf_size(global, SET_auth_cache_size);
    if (cache_size > 0 && cache_size < 1024) {
        settings_unref(global);
        return error_set(e, ERROR_INVALID, "auth_cache_size value is too small (%u bytes)", (unsigned)cache_size);
    }
    if (cache_size > 0 && !s->worker)
        s->cache = cache_new((size_t)cache_size, conf_secs(global, SET_auth_cache_ttl),
                             conf_secs(global, SET_auth_cache_negative_ttl));
    if (make_mechs(s, global, e) < 0) {
        settings_unref(global);
        return -1;
    }
    settings_unref(global);
    return 0;
}

void server_free(struct server *s)
{
    for (size_t i = 0; i < s->passdbs.count; i++)
        if (s->passdbs.at[i]->driver->close != NULL)
            s->passdbs.at[i]->driver->close(s->passdbs.at[i]);
    for (size_t i = 0; i < s->userdbs.count; i++)
        if (s->userdbs.at[i]->driver->close != NULL)
            s->userdbs.at[i]->driver->close(s->userdbs.at[i]);
    VEC_FREE(&s->passdbs);
    VEC_FREE(&s->userdbs);
    VEC_FREE(&s->auths);
    VEC_FREE(&s->auth_services);
    VEC_FREE(&s->mechs);
    cache_free(s->cache);
    s->cache = NULL;
    arena_free(s->arena);
    s->arena = NULL;
}

const struct auth *server_auth(const struct server *s, const char *service)
{
    for (size_t i = 1; i < s->auths.count; i++)
        if (strcmp(s->auth_services.at[i], service) == 0)
            return s->auths.at[i];
    return s->auths.at[0];
}

void server_db_hash(const struct server *s, bool userdb, char out[33])
{
    size_t count = userdb ? s->userdbs.count : s->passdbs.count;
    struct db *const *dbs = userdb ? s->userdbs.at : s->passdbs.at;
    unsigned char digest[MD5_DIGEST_SIZE];
    struct buffer hex = {0};
    struct md5_ctx ctx;

    md5_init(&ctx);
    for (size_t i = 0; i < count; i++) {
        unsigned char id[4];
        bytes_put_le32(id, dbs[i]->id);
        md5_update(&ctx, sizeof(id), id);
        md5_update(&ctx, strlen(dbs[i]->driver->name), (const uint8_t *)dbs[i]->driver->name);
        md5_update(&ctx, strlen(dbs[i]->args), (const uint8_t *)dbs[i]->args);
    }
    md5_digest(&ctx, sizeof(digest), digest);
    text_hex_encode(&hex, slice_of(digest, sizeof(digest)));
    memcpy(out, buffer_cstr(&hex), 33);
    buffer_free(&hex);
}
