/* db.c - the table of database drivers, and cache keys.
 *
 * A new driver is one row here (or a module that calls db_driver_add) and one file db_NAME.c. */
#include "auth/auth.h"
#include "auth/db_drivers.h"

static const struct db_driver *const drivers[] = {
    &db_passwd_file, &db_static, &db_pam, &db_passwd, &db_shadow, &db_prefetch, &db_sql,
};

#define MODULES_MOST 16
static const struct db_driver *added[MODULES_MOST];
static size_t added_count;

void db_driver_add(const struct db_driver *driver)
{
    if (added_count < MODULES_MOST)
        added[added_count++] = driver;
}

const struct db_driver *db_driver_find(const char *name)
{
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    for (size_t i = 0; i < added_count; i++)
        if (strcmp(added[i]->name, name) == 0)
            return added[i];
    return NULL;
}

static const struct { char key; const char *name; const char *as; } cache_vars[] = {
    {'u', "user", "%u"}, {'n', "username", "%u"}, {'d', "domain", "%u"},
    {0, "domain_first", "%u"}, {0, "domain_last", "%u"},
    {'s', "service", "%s"}, {'l', "lip", "%l"}, {0, "local_ip", "%l"}, {'r', "rip", "%r"}, {0, "remote_ip", "%r"},
    {'a', "lport", "%a"}, {0, "local_port", "%a"}, {'b', "rport", "%b"}, {0, "remote_port", "%b"},
    {'p', "pid", "%p"}, {'m', "mech", "%m"}, {0, "mechanism", "%m"}, {'c', "secured", "%c"}, {'k', "cert", "%k"},
    {'w', "password", "%{sha256:password}"},
    {0, "real_lip", "%{real_lip}"}, {0, "real_rip", "%{real_rip}"}, {0, "real_lport", "%{real_lport}"},
    {0, "real_rport", "%{real_rport}"}, {0, "local_name", "%{local_name}"}, {0, "session", "%{session}"},
    {0, "client_id", "%{client_id}"}, {0, "session_pid", "%{session_pid}"},
    {0, "login_user", "%{login_user}"}, {0, "login_username", "%{login_user}"}, {0, "login_domain", "%{login_user}"},
    {0, "master_user", "%{master_user}"}, {0, "auth_user", "%{auth_user}"}, {0, "auth_username", "%{auth_user}"},
    {0, "auth_domain", "%{auth_user}"}, {0, "orig_user", "%{orig_user}"}, {0, "orig_username", "%{orig_user}"},
    {0, "orig_domain", "%{orig_user}"},
};

const char *db_cache_key(struct arena *arena, const char *const *templates)
{
    struct buffer b = {0};
    const char *key;

    for (size_t i = 0; i < sizeof(cache_vars) / sizeof(cache_vars[0]); i++) {
        bool used = i == 0; /* the user always: entries are flushed by it */
        for (size_t k = 0; !used && templates[k] != NULL; k++) {
            /* A field of another database may be anything. */
            if (strstr(templates[k], "%{passdb:") != NULL || strstr(templates[k], "%{userdb:") != NULL) {
                buffer_free(&b);
                return NULL;
            }
            used = conf_expand_uses(templates[k], cache_vars[i].key, cache_vars[i].name);
        }
        if (!used || strstr(b.size == 0 ? "" : buffer_cstr(&b), cache_vars[i].as) != NULL)
            continue;
        if (b.size > 0)
            buffer_append_byte(&b, '\t');
        buffer_append_str(&b, cache_vars[i].as);
    }
    key = arena_strdup(arena, buffer_cstr(&b));
    buffer_free(&b);
    return key;
}
