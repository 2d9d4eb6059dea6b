/* sql_conf.c - the settings of dovecot-sql.conf.ext (auth.md 9.4). */
#include "auth/sql.h"
#include "conf/plain.h"

void sql_conf_defaults(struct sql_conf *c)
{
    *c = (struct sql_conf){
        .driver = "", .connect = "",
        .password_query = "SELECT username, domain, password FROM users WHERE username = '%n' AND domain = '%d'",
        .user_query = "SELECT home, uid, gid FROM users WHERE username = '%n' AND domain = '%d'",
        .update_query = "UPDATE users SET password = '%w' WHERE username = '%n' AND domain = '%d'",
        .iterate_query = "SELECT username, domain FROM users",
        .default_pass_scheme = "MD5",
    };
}

static int set_key(void *arg, const char *key, const char *value, struct error *e)
{
    struct sql_conf *c = arg;
    const struct { const char *name; const char **at; } keys[] = {
        {"driver", &c->driver}, {"connect", &c->connect}, {"password_query", &c->password_query},
        {"user_query", &c->user_query}, {"update_query", &c->update_query}, {"iterate_query", &c->iterate_query},
        {"default_pass_scheme", &c->default_pass_scheme},
    };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(key, keys[i].name) == 0) {
            *keys[i].at = value;
            return 0;
        }
    if (strcmp(key, "userdb_warning_disable") == 0)
        return 0;
    return error_set(e, ERROR_INVALID, "Unknown setting: %.64s", key);
}

int sql_conf_parse(struct slice text, const char *path, struct arena *arena, struct sql_conf *c, struct error *e)
{
    static const struct plain_handler handler = {.key = set_key};

    return plain_parse(text, path, arena, &handler, c, e);
}
