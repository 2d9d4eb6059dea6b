/* request_vars.c - the variables of auth (auth.md 8). */
#include "auth/auth.h"

static const char *before_at(struct arena *a, const char *name)
{
    const char *at = name == NULL ? NULL : strchr(name, '@');

    return at == NULL ? name : arena_str(a, slice_of(name, (size_t)(at - name)));
}

static const char *after_at(const char *name, bool last)
{
    const char *at = name == NULL ? NULL : last ? strrchr(name, '@') : strchr(name, '@');

    return at == NULL ? NULL : at + 1;
}

static const char *first_domain(struct arena *a, const char *name)
{
    return before_at(a, after_at(name, false));
}

static bool get_field(const struct fields *f, const char *field, struct arena *arena, const char **value)
{
    const char *colon = strchr(field, ':');
    const char *key = colon == NULL ? field : arena_str(arena, slice_of(field, (size_t)(colon - field)));
    const char *found = fields_get(f, key);

    *value = found != NULL ? found : colon != NULL ? colon + 1 : NULL;
    return true;
}

/* conf_vars has one argument for its functions and its escaping. */
struct context {
    struct request *request;
    request_escape_fn *escape;
    void *arg;
};

static bool get_passdb(void *arg, const char *field, struct arena *arena, const char **value, struct error *e)
{
    (void)e;
    return get_field(&((struct context *)arg)->request->passdb_fields, field, arena, value);
}

static bool get_userdb(void *arg, const char *field, struct arena *arena, const char **value, struct error *e)
{
    (void)e;
    return get_field(&((struct context *)arg)->request->userdb_fields, field, arena, value);
}

static const char *escape_value(void *arg, const char *value, struct arena *arena)
{
    struct context *c = arg;

    return c->escape(c->arg, value, arena);
}

static const char *ip_text(struct arena *a, const struct net_endpoint *e)
{
    char text[NET_IP_TEXT];

    return e->ip.family == 0 ? NULL : arena_strdup(a, net_ip_text(&e->ip, text));
}

static const char *port_text(struct arena *a, const struct net_endpoint *e)
{
    return e->port == 0 ? NULL : arena_printf(a, "%u", e->port);
}

static const struct net_endpoint *or_else(const struct net_endpoint *e, const struct net_endpoint *other)
{
    return e->ip.family != 0 ? e : other;
}

char *request_expand(struct request *r, const char *template, request_escape_fn *escape, void *arg)
{
    if (strchr(template, '%') == NULL)
        return arena_strdup(r->arena, template); /* most of them: "uid=vmail", "password=..." */

    static const struct conf_var_func funcs[] = {{"passdb", get_passdb}, {"userdb", get_userdb}, {NULL, NULL}};
    struct arena *a = r->arena;
    const struct net_endpoint *real_local = or_else(&r->real_local, &r->local);
    const struct net_endpoint *real_remote = or_else(&r->real_remote, &r->remote);
    const char *auth_user = r->master_user != NULL ? r->master_user : r->original_user;
    const char *secured = r->tls ? "TLS" : r->secured ? "secured" : NULL;
    const char *pid = r->client_pid == 0 ? NULL : arena_printf(a, "%u", r->client_pid);
    const char *id = r->link == NULL ? NULL : arena_printf(a, "%u", r->link->db->id);
    const char *lip = ip_text(a, &r->local), *rip = ip_text(a, &r->remote);
    const char *lport = port_text(a, &r->local), *rport = port_text(a, &r->remote);
    const char *rlip = ip_text(a, real_local), *rrip = ip_text(a, real_remote);
    const char *rlport = port_text(a, real_local), *rrport = port_text(a, real_remote);
    const char *orig_name = before_at(a, r->original_user), *orig_domain = after_at(r->original_user, false);
    const struct conf_var table[] = {
        {'u', "user", r->user}, {'n', "username", before_at(a, r->user)}, {'d', "domain", after_at(r->user, false)},
        {'s', "service", r->service}, {'h', "home", NULL}, {'l', "lip", lip}, {0, "local_ip", lip},
        {'r', "rip", rip}, {0, "remote_ip", rip}, {'p', "pid", pid}, {'w', "password", r->password},
        {'!', NULL, id}, {'m', "mech", r->mech}, {0, "mechanism", r->mech}, {'c', "secured", secured},
        {'a', "lport", lport}, {0, "local_port", lport}, {'b', "rport", rport}, {0, "remote_port", rport},
        {'k', "cert", r->valid_cert ? "valid" : NULL},
        {0, "real_lip", rlip}, {0, "real_rip", rrip}, {0, "real_lport", rlport}, {0, "real_rport", rrport},
        {0, "real_local_ip", rlip}, {0, "real_remote_ip", rrip}, {0, "real_local_port", rlport},
        {0, "real_remote_port", rrport},
        {0, "session", r->session}, {0, "client_id", r->client_id}, {0, "local_name", r->local_name},
        {0, "session_pid", r->session_pid == 0 ? NULL : arena_printf(a, "%u", r->session_pid)},
        {0, "domain_first", first_domain(a, r->user)}, {0, "domain_last", after_at(r->user, true)},
        {0, "login_user", r->login_user}, {0, "login_username", before_at(a, r->login_user)},
        {0, "login_domain", after_at(r->login_user, false)},
        {0, "master_user", r->master_user},
        {0, "orig_user", r->original_user}, {0, "orig_username", orig_name}, {0, "orig_domain", orig_domain},
        {0, "original_user", r->original_user}, {0, "original_username", orig_name},
        {0, "original_domain", orig_domain},
        {0, "auth_user", auth_user}, {0, "auth_username", before_at(a, auth_user)},
        {0, "auth_domain", after_at(auth_user, false)},
        {0, NULL, NULL},
    };
    struct context context = {r, escape, arg};
    const struct conf_vars vars = {table, funcs, &context, escape == NULL ? NULL : escape_value, true};
    struct error e;
    bool failed = false;
    char *result = conf_expand(a, template, &vars, &failed, &e);

    if (failed)
        request_error(r, "Failed to expand %s: %s", template, e.admin);
    return result;
}
