/* shared.c - namespaces of other users: `type = shared` with %%u, %%n, %%d, %%h (maildir-and-layouts 2.1).
 *
 * The namespace in the configuration is a template. An instance, a namespace of its own, is made for each owner whose name a
 * client asks for or who shares something with this user; it lives as long as the user object. An instance is kept only if
 * the owner's mail is there, and their number has a cap, since clients choose the names. */
#include "store/acl/acl.h"
#include "store/dict.h"
#include "store/internal.h"

#include <ctype.h>
#include <sys/stat.h>
#include <utlist.h>

#define INSTANCES_MAX 1000

struct shared_template {
    const char *pattern;           /* "shared/%u/" */
    const char *location;          /* "maildir:%h/Maildir" */
    struct mail_namespace *instances;
};

struct owner {
    const char *user, *local, *domain, *home;
    size_t prefix;                 /* bytes of the vname that the pattern took */
};

int shared_template_init(struct mail_namespace *ns, const char *location, struct error *e)
{
    struct arena *arena = ns->user->arena;
    const char *percent = strchr(ns->prefix, '%');
    size_t n = (size_t)(percent - ns->prefix);

    while (n > 0 && ns->prefix[n - 1] != ns->separator)
        n--;
    if (n == 0)
        return error_set(e, ERROR_INVALID, "namespace configuration error: shared namespace prefix=%s has no part before %%", ns->prefix);
    for (const char *p = percent; *p != '\0'; p++) {
        if (*p == '%' && (p[1] == '\0' || strchr("und", p[1]) == NULL))
            return error_set(e, ERROR_INVALID, "namespace configuration error: Shared namespace prefix must contain only %%u, %%n, %%d: %s", ns->prefix);
    }
    ns->template = ARENA_NEW(arena, struct shared_template);
    ns->template->pattern = ns->prefix;
    ns->template->location = arena_strdup(arena, location);
    ns->prefix = arena_str(arena, slice_of(ns->prefix, n));
    return 0;
}

struct mail_namespace *shared_instances(const struct mail_namespace *template)
{
    return template->template->instances;
}

void shared_template_close(struct mail_namespace *template)
{
    struct mail_namespace *ns;

    LL_FOREACH(template->template->instances, ns)
        list_index_close(&ns->storage->list);
}

/* Takes the values of %u, %n, %d out of a name. False: it does not fit. */
static bool match(const struct mail_namespace *template, struct arena *arena, const char *vname, struct owner *owner)
{
    const char *user = NULL, *at, *own = template->user->name;
    const char *p = template->template->pattern, *v = vname;

    *owner = (struct owner){0};
    while (*p != '\0') {
        const char **value, *end;

        if (*p != '%') {
            /* The last separator may be missing: the namespace's own name. */
            if (*v == '\0' && *p == template->separator && p[1] == '\0')
                break;
            if (*p++ != *v++)
                return false;
            continue;
        }
        value = p[1] == 'u' ? &user : p[1] == 'n' ? &owner->local : &owner->domain;
        end = strchrnul(v, p[2] == '\0' ? template->separator : p[2]);
        if (end == v)
            return false;
        *value = arena_str(arena, slice_of(v, (size_t)(end - v)));
        v = end;
        p += 2;
    }
    owner->prefix = (size_t)(v - vname);
    if (user == NULL && owner->local == NULL)
        return false;
    if (user == NULL) {
        /* Without a domain in the prefix it is the user's own. */
        at = strchr(own, '@');
        user = owner->domain != NULL ? arena_printf(arena, "%s@%s", owner->local, owner->domain)
               : at != NULL          ? arena_printf(arena, "%s%s", owner->local, at)
                                     : owner->local;
    }
    at = strchrnul(user, '@');
    owner->user = user;
    owner->local = arena_str(arena, slice_of(user, (size_t)(at - user)));
    owner->domain = *at == '\0' ? "" : at + 1;
    return true;
}

/* A user name must not climb about in paths. */
static bool is_plain(const char *user)
{
    if (*user == '\0' || strcmp(user, ".") == 0 || strcmp(user, "..") == 0)
        return false;
    for (const char *p = user; *p != '\0'; p++)
        if (*p == '/' || iscntrl((unsigned char)*p))
            return false;
    return true;
}

static char *expand(struct arena *arena, const char *text, const struct owner *owner, struct error *e)
{
    const struct conf_var table[] = {{'u', "user", owner->user}, {'n', "username", owner->local}, {'d', "domain", owner->domain},
                                     {'h', "home", owner->home}, {0, NULL, NULL}};
    struct conf_vars vars = {.table = table};
    bool failed = false;
    char *out = conf_expand(arena, text, &vars, &failed, e);

    return failed ? NULL : out;
}

static struct mail_namespace *new_instance(struct mail_namespace *template, const struct owner *owner, struct arena *arena, const char *vname)
{
    struct mail_namespace *ns = ARENA_NEW(arena, struct mail_namespace);
    struct mail_storage *storage = ARENA_NEW(arena, struct mail_storage);
    const char *prefix = arena_printf(arena, "%.*s%c", (int)owner->prefix, vname, template->separator);

    /* Where the pattern took its separator, it is there already. */
    if (owner->prefix > 0 && vname[owner->prefix - 1] == template->separator)
        prefix = arena_str(arena, slice_of(vname, owner->prefix));
    *ns = (struct mail_namespace){.user = template->user, .name = template->name, .prefix = prefix, .separator = template->separator,
                                  .type = MAIL_NAMESPACE_SHARED, .list = MAIL_NAMESPACE_LIST_YES, .hidden = true,
                                  .subscriptions = template->subscriptions, .storage = storage,
                                  .owner = arena_strdup(arena, owner->user),
                                  .owner_inbox = !conf_bool(template->user->settings, SET_mail_shared_explicit_inbox)};
    storage->ns = ns;
    return ns;
}

/* *out NULL: no such owner, or he has no mail. */
static int make_instance(struct mail_namespace *template, struct owner *owner, const char *vname, struct mail_namespace **out,
                         struct error *e)
{
    struct mail_user *user = template->user;
    struct arena *arena = arena_new();
    struct mail_namespace *ns = NULL;
    const char *location;
    struct stat st;
    int r = 0;

    if (conf_expand_uses(template->template->location, 'h', "home")) {
        if (user->find_home != NULL)
            r = user->find_home(user->find_home_arg, owner->user, arena, &owner->home, e);
        if (owner->home == NULL) {
            arena_free(arena);
            return r;
        }
    }
    location = expand(arena, template->template->location, owner, e);
    if (location == NULL) {
        arena_free(arena);
        return error_context(e, "Failed to expand settings: namespace/%s/location: ", template->name);
    }
    /* The user's arena is where instances live; what does not become one is parsed in its own. */
    ns = new_instance(template, owner, arena, vname);
    if (mail_location_parse(&ns->storage->at, arena, location, user->home, e) < 0) {
        arena_free(arena);
        return error_context(e, "Namespace '%s': ", template->prefix);
    }
    if (stat(ns->storage->at.root, &st) < 0) {
        arena_free(arena);
        return 0;
    }
    if (user->instances >= INSTANCES_MAX) {
        arena_free(arena);
        return error_set(e, ERROR_LIMIT, "More than %d users' mailboxes were opened", INSTANCES_MAX);
    }
    user->instances++;
    *out = new_instance(template, owner, user->arena, vname);
    r = mail_location_parse(&(*out)->storage->at, user->arena, location, user->home, e);
    mail_storage_names_init((*out)->storage, (char[]){template->separator, '\0'}, mail_user_list_escape(user));
    arena_free(arena);
    LL_APPEND(template->template->instances, *out);
    return r;
}

int shared_instance_find(struct mail_namespace *template, const char *vname, struct mail_namespace **out, struct error *e)
{
    struct mail_namespace *ns;
    struct arena *arena;
    struct owner owner;
    int r = 0;

    *out = NULL;
    LL_FOREACH(template->template->instances, ns)
    {
        size_t n = strlen(ns->prefix);

        if (strncmp(vname, ns->prefix, n) == 0 || (strlen(vname) == n - 1 && strncmp(vname, ns->prefix, n - 1) == 0)) {
            *out = ns;
            return 0;
        }
    }
    arena = arena_new();
    if (match(template, arena, vname, &owner) && is_plain(owner.user))
        r = make_instance(template, &owner, vname, out, e);
    arena_free(arena);
    return r;
}

/* ---- who shares with us ---- */

static int open_shared_dict(struct mail_user *user, struct error *e)
{
    const char *uri = conf_plugin(user->settings, "acl_shared_dict");

    if (user->shared != NULL || uri == NULL || *uri == '\0')
        return 0;
    if (!conf_plugin_overridden(user->settings, "acl_shared_dict"))
        uri = mail_user_expand(user, user->arena, uri, e);
    if (uri == NULL || mail_user_dict(user, uri, NULL, &user->shared, e) < 0)
        return error_context(e, "acl_shared_dict: ");
    return 0;
}

static int add_owners(struct mail_namespace *template, struct arena *arena, const char *prefix, struct error *e)
{
    struct dict_pairs pairs = {0};
    size_t n = strlen(prefix);
    int r = dict_list(template->user->shared, arena, prefix, false, &pairs, e);

    for (size_t i = 0; r == 0 && i < pairs.count; i++) {
        const char *user = pairs.at[i].key + n, *at = strchrnul(user, '@');
        struct owner owner = {.user = user, .local = arena_str(arena, slice_of(user, (size_t)(at - user))),
                              .domain = *at == '\0' ? "" : at + 1};
        const char *vname = is_plain(user) ? expand(arena, template->template->pattern, &owner, e) : NULL;
        struct mail_namespace *ns;
        struct error sub;

        if (vname != NULL && strcmp(user, template->user->name) != 0 && shared_instance_find(template, vname, &ns, &sub) < 0)
            log_error_value(template->user->log_p, &sub);
    }
    VEC_FREE(&pairs);
    return r;
}

int shared_instances_load(struct mail_namespace *template, struct error *e)
{
    struct mail_user *user = template->user;
    const char *const *groups = acl_groups(user);
    struct arena *arena;
    int r;

    if (open_shared_dict(user, e) < 0)
        return -1;
    if (user->shared == NULL)
        return 0;
    arena = arena_new();
    r = add_owners(template, arena, arena_printf(arena, "shared/shared-boxes/user/%s/", user->name), e);
    if (r == 0)
        r = add_owners(template, arena, "shared/shared-boxes/anyone/", e);
    for (; r == 0 && *groups != NULL; groups++)
        r = add_owners(template, arena, arena_printf(arena, "shared/shared-boxes/group/%s/", *groups), e);
    arena_free(arena);
    return r;
}
