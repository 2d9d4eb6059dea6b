/* user_vars.c - the variables of a mail process's user, for whoever writes texts on his behalf (config 9.3). */
#include "conf/conf.h"

#include <unistd.h>

static const char *local_part(struct arena *arena, const char *user)
{
    return arena_str(arena, slice_head(slice_from_str(user), strcspn(user, "@")));
}

static const char *domain(const char *user)
{
    const char *at = strchr(user, '@');

    return at == NULL ? "" : at + 1;
}

void conf_user_vars(struct arena *arena, const struct conf_user *u, struct conf_var table[CONF_USER_VARS])
{
    const char *auth_user = u->auth_user == NULL ? u->name : u->auth_user;
    const struct conf_var all[CONF_USER_VARS] = {
        {'u', "user", u->name}, {'n', "username", local_part(arena, u->name)}, {'d', "domain", domain(u->name)},
        {'s', "service", u->service},
        {'l', "lip", u->local_ip}, {0, "local_ip", u->local_ip}, {'r', "rip", u->remote_ip}, {0, "remote_ip", u->remote_ip},
        {'p', "pid", arena_printf(arena, "%ld", (long)getpid())}, {'i', "uid", u->uid}, {0, "gid", u->gid},
        {0, "session", u->session}, {0, "auth_user", auth_user}, {0, "auth_username", local_part(arena, auth_user)},
        {0, "auth_domain", domain(auth_user)}, {0, "hostname", u->hostname},
        u->has_home ? (struct conf_var){'h', "home", u->home} : (struct conf_var){0, NULL, NULL},
        {0, NULL, NULL}};

    memcpy(table, all, sizeof(all));
}
