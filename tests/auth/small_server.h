/* A struct server made by hand, without a configuration: one passdb and one userdb, PLAIN and LOGIN. For unit tests and
 * fuzz targets. */
#ifndef YARILO_TESTS_AUTH_SMALL_SERVER_H
#define YARILO_TESTS_AUTH_SMALL_SERVER_H

#include "auth/auth.h"
#include "auth/conns.h"
#include "auth/worker_pool.h"

static struct db *small_db(struct server *s, const char *driver, const char *args, bool userdb)
{
    struct db_params params = {.args = args, .engine = "sqlite", .dsn = "", .password_query = "", .user_query = "",
                               .iterate_query = "", .default_pass_scheme = "", .userdb = userdb, .arena = s->arena};
    struct db *db = ARENA_NEW(s->arena, struct db);
    struct error e;

    db->driver = db_driver_find(driver);
    db->args = arena_strdup(s->arena, args);
    db->default_scheme = db->driver->default_scheme;
    if (db->driver->open(db, &params, &e) < 0)
        log_fatal(1, "%s", e.admin);
    if (userdb) {
        VEC_PUSH(&s->userdbs, db);
        db->id = (unsigned)s->userdbs.count;
    } else {
        VEC_PUSH(&s->passdbs, db);
        db->id = (unsigned)s->passdbs.count;
    }
    return db;
}

static struct chain_link small_link(struct db *db)
{
    return (struct chain_link){.name = db->driver->name, .db = db, .default_fields = "", .override_fields = "",
                               .mechanisms = "", .username_filter = "", .success = RULE_RETURN_OK,
                               .failure = RULE_CONTINUE, .internalfail = RULE_CONTINUE, .verbose = -1};
}

static struct auth *small_server(struct server *s, const char *driver, const char *args, const char *user_driver,
                                 const char *user_args)
{
    struct auth *a;

    memset(s, 0, sizeof(*s));
    s->loop = ev_loop_new(EVFLAG_AUTO);
    s->arena = arena_new();
    s->delay = delay_new(s->loop);
    s->workers = worker_pool_new(s, "/nonexistent/auth-worker", 1);
    a = ARENA_NEW(s->arena, struct auth);
    a->set = (struct auth_set){.default_realm = "", .realms = "", .username_format = "%Lu", .username_translation = "",
                               .username_chars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@",
                               .proxy_self = "", .anonymous_username = "anonymous", .verbose_passwords = "no"};
    a->passdbs.at = ARENA_ARRAY(s->arena, struct chain_link, 4);
    a->userdbs.at = ARENA_ARRAY(s->arena, struct chain_link, 4);
    a->passdbs.at[a->passdbs.count++] = small_link(small_db(s, driver, args, false));
    a->userdbs.at[a->userdbs.count++] = small_link(small_db(s, user_driver, user_args, true));
    VEC_PUSH(&s->auths, a);
    VEC_PUSH(&s->auth_services, "");
    VEC_PUSH(&s->mechs, &mech_plain);
    VEC_PUSH(&s->mechs, &mech_login);
    return a;
}

static void small_server_end(struct server *s)
{
    client_conns_close(s);
    delay_free(s->delay);
    worker_pool_free(s->workers);
    server_free(s);
    ev_loop_destroy(s->loop);
}

#endif
