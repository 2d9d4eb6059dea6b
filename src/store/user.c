/* user.c - a user with namespaces, made of settings (maildir-and-layouts 2).
 *
 * Nothing on disk is made or locked here; locations are parsed, formats detected. Faults of the configuration make the
 * login fail with Dovecot's texts. */
#include "conf/plugins.h"
#include "store/acl/acl.h"
#include "store/dict.h"
#include "store/internal.h"
#include "store/log_prefix.h"
#include "store/notify.h"
#include "store/quota/quota.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

static const char *own(struct arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_strdup(arena, text);
}

static bool userdb_field(void *arg, const char *field, struct arena *arena, const char **value, struct error *e)
{
    const struct mail_user *user = arg;
    const char *fallback = strchr(field, ':');
    size_t n = fallback == NULL ? strlen(field) : (size_t)(fallback - field);

    (void)e;
    *value = fallback == NULL ? NULL : arena_strdup(arena, fallback + 1);
    for (size_t i = 0; user->fields != NULL && user->fields[i] != NULL; i++) {
        const char *pair = user->fields[i];

        if (strncmp(pair, field, n) == 0 && (pair[n] == '=' || pair[n] == '\0')) {
            *value = pair[n] == '=' ? arena_strdup(arena, pair + n + 1) : "yes";
            break;
        }
    }
    return true;
}

static const char *field_of(const struct mail_user *user, const char *name, const char *fallback)
{
    size_t n = strlen(name);

    for (size_t i = 0; user->fields != NULL && user->fields[i] != NULL; i++) {
        if (strncmp(user->fields[i], name, n) == 0 && user->fields[i][n] == '=')
            return user->fields[i] + n + 1;
    }
    return fallback;
}

/* `set_up`: the home is known by now. */
static char *expand(const struct mail_user *user, struct arena *arena, const char *text, bool set_up, bool *failed, struct error *e)
{
    if (strchr(text, '%') == NULL)
        return arena_strdup(arena, text); /* most are */
    const char *hostname = conf_str(user->settings, SET_hostname);
    const struct conf_user values = {
        .name = user->name, .auth_user = field_of(user, "auth_user", NULL), .service = user->service, .local_ip = user->local_ip,
        .remote_ip = user->remote_ip, .uid = arena_printf(arena, "%ld", (long)geteuid()), .gid = arena_printf(arena, "%ld", (long)getegid()),
        .session = user->session_id, .hostname = *hostname != '\0' ? hostname : store_hostname(), .home = user->home, .has_home = set_up};
    struct conf_var table[CONF_USER_VARS];
    const struct conf_var_func funcs[] = {{"userdb", userdb_field}, {NULL, NULL}};
    struct conf_vars vars = {table, funcs, (void *)(uintptr_t)user, NULL, conf_plugin_named(user->settings, "var_expand_crypt")};

    conf_user_vars(arena, &values, table);
    return conf_expand(arena, text, &vars, failed, e);
}

char *mail_user_expand(const struct mail_user *user, struct arena *arena, const char *text, struct error *e)
{
    bool failed = false;
    char *out = expand(user, arena, text, true, &failed, e);

    return failed ? NULL : out;
}

char *mail_user_log_prefix(struct settings *settings, const struct mail_user_params *params, struct arena *arena)
{
    const struct mail_user user = {.name = params->username, .settings = settings, .service = params->service,
                                   .session_id = params->session_id, .local_ip = params->local_ip,
                                   .remote_ip = params->remote_ip, .fields = params->fields};
    struct error e = {0};

    return expand(&user, arena, conf_str(settings, SET_mail_log_prefix), false, NULL, &e);
}

/* A member of a namespace, expanded. NULL with *e. */
static const char *ns_text(struct mail_user *user, const struct conf_block *block, const char *member, struct error *e)
{
    const char *out = block == NULL ? "" : mail_user_expand(user, user->arena, conf_block_str(block, member), e);

    if (out == NULL) {
        error_context(e, "Failed to expand settings: namespace/%s/%s: ", conf_block_name(block), member);
        return NULL;
    }
    return out;
}

static const char *location_text(struct mail_user *user, const struct conf_block *block, struct error *e)
{
    const char *text = ns_text(user, block, "location", e), *out;

    if (text == NULL || *text != '\0')
        return text;
    text = conf_str(user->settings, SET_mail_location);
    if (conf_overridden(user->settings, SET_mail_location))
        return text;
    out = mail_user_expand(user, user->arena, text, e);
    if (out == NULL)
        error_context(e, "Failed to expand settings: mail_location: ");
    return out;
}

static struct mail_auto *read_autos(struct mail_user *user, const struct mail_namespace *ns,
                                    const struct conf_block *block)
{
    struct mail_auto *list = NULL;
    size_t n = 0;
    const struct conf_block *const *boxes = block == NULL ? NULL : conf_block_blocks(block, BLOCK_MAILBOX, &n);

    for (size_t i = 0; i < n; i++) {
        struct mail_auto *box = ARENA_NEW(user->arena, struct mail_auto);
        const char *name = conf_block_name(boxes[i]), *use = conf_block_str(boxes[i], "special_use");
        const char *automatic = conf_block_str(boxes[i], "auto");

        box->vname = ns->inbox && strcasecmp(name, "INBOX") == 0 ? "INBOX"
                                                                 : arena_printf(user->arena, "%s%s", ns->prefix, name);
        box->special_use = *use == '\0' ? NULL : use;
        box->comment = *conf_block_str(boxes[i], "comment") == '\0' ? NULL : conf_block_str(boxes[i], "comment");
        box->autoexpunge_secs = conf_block_secs(boxes[i], "autoexpunge");
        box->autoexpunge_max = conf_block_uint(boxes[i], "autoexpunge_max_mails");
        box->subscribe = strcmp(automatic, "subscribe") == 0;
        box->create = box->subscribe || strcmp(automatic, "create") == 0;
        box->pattern = strpbrk(name, "*?") != NULL;
        LL_APPEND(list, box);
    }
    return list;
}

static int ns_check(const struct mail_namespace *ns, struct error *e)
{
    size_t n = strlen(ns->prefix);

    if (ns->list != MAIL_NAMESPACE_LIST_NO && n > 0) {
        if (ns->prefix[n - 1] != ns->separator)
            return error_set(e, ERROR_INVALID, "namespace configuration error: list=yes requires prefix=%s to end with separator %c", ns->prefix, ns->separator);
        if (ns->prefix[0] == ns->separator)
            return error_set(e, ERROR_INVALID, "namespace configuration error: prefix=%s must not start with separator", ns->prefix);
    }
    return 0;
}

bool mail_user_plugin(const struct mail_user *user, const char *name)
{
    return conf_plugin_named(user->settings, name);
}

char mail_user_list_escape(const struct mail_user *user)
{
    const char *escape = conf_plugin(user->settings, "listescape_char");

    if (!mail_user_plugin(user, "listescape"))
        return 0;
    return escape == NULL || *escape == '\0' ? '\\' : *escape;
}

static int check_prefix(const struct mail_user *user, const struct mail_namespace *ns, struct error *e)
{
    const struct mail_namespace *other;

    LL_FOREACH(user->namespaces, other)
        if (strcmp(other->prefix, ns->prefix) == 0)
            return error_set(e, ERROR_INVALID, "namespace configuration error: Duplicate namespace prefix: \"%s\"", ns->prefix);
    return 0;
}

/* A storage that holds nothing and leads nowhere. */
static void no_storage(const struct mail_user *user, struct mail_storage *storage)
{
    storage->at = (struct mail_location){.driver = user->namespaces == NULL ? &maildir_driver : user->namespaces->storage->at.driver,
                                         .layout = LAYOUT_NONE, .root = "", .dirname = "", .mailboxdir = "",
                                         .subscriptions = "", .list_index = ""};
    storage->separator = '/';
}

/* type=shared with %%u: the mailboxes are in instances. */
static int add_template(struct mail_user *user, struct mail_namespace *ns, const char *separator, const char *location, struct error *e)
{
    no_storage(user, ns->storage);
    ns->separator = *separator != '\0' ? *separator : '/';
    if (shared_template_init(ns, location, e) < 0 || ns_check(ns, e) < 0 || check_prefix(user, ns, e) < 0)
        return -1;
    LL_APPEND(user->namespaces, ns);
    return 0;
}

/* An mbox that was found, not named: INBOX is where delivery agents put it (maildir-and-layouts 1.4). */
static void find_spool(const struct mail_user *user, struct mail_location *at)
{
    static const char *const folders[] = {"/var/mail", "/var/spool/mail"};

    for (size_t i = 0; at->driver == &mbox_driver && at->inbox == NULL && i < 2; i++) {
        const char *path = arena_printf(user->arena, "%s/%s", folders[i], user->name);

        if (strchr(user->name, '/') == NULL && access(path, F_OK) == 0)
            at->inbox = path;
    }
}

static int add_namespace(struct mail_user *user, const struct conf_block *block, struct error *e)
{
    static const struct {
        const char *name;
        enum mail_namespace_list list;
    } lists[] = {{"no", MAIL_NAMESPACE_LIST_NO}, {"yes", MAIL_NAMESPACE_LIST_YES}, {"children", MAIL_NAMESPACE_LIST_CHILDREN}};
    struct mail_namespace *ns = ARENA_NEW(user->arena, struct mail_namespace);
    struct mail_storage *storage = ARENA_NEW(user->arena, struct mail_storage);
    const char *text, *separator = block == NULL ? "" : conf_block_str(block, "separator");

    ns->user = user;
    ns->storage = storage;
    storage->ns = ns;
    ns->name = block == NULL ? "" : conf_block_name(block);
    ns->inbox = block == NULL || conf_block_bool(block, "inbox");
    ns->hidden = block != NULL && conf_block_bool(block, "hidden");
    ns->subscriptions = block == NULL || conf_block_bool(block, "subscriptions");
    ns->list = MAIL_NAMESPACE_LIST_YES;
    for (size_t i = 0; block != NULL && i < 3; i++) {
        if (strcmp(conf_block_str(block, "list"), lists[i].name) == 0)
            ns->list = lists[i].list;
    }
    if (block != NULL && strcmp(conf_block_str(block, "type"), "shared") == 0)
        ns->type = MAIL_NAMESPACE_SHARED;
    else if (block != NULL && strcmp(conf_block_str(block, "type"), "public") == 0)
        ns->type = MAIL_NAMESPACE_PUBLIC;
    ns->prefix = ns_text(user, block, "prefix", e);
    if (ns->prefix == NULL || (text = location_text(user, block, e)) == NULL)
        return -1;
    if (ns->type == MAIL_NAMESPACE_SHARED && strchr(ns->prefix, '%') != NULL)
        return add_template(user, ns, separator, text, e);
    ns->owner = ns->type == MAIL_NAMESPACE_PRIVATE ? user->name : NULL;
    if (mail_location_parse(&storage->at, user->arena, text, user->home, e) < 0) {
        error_context(e, "Namespace '%s': ", ns->prefix);
        /* A format that this build has not: the others are served. */
        if (e->class != ERROR_UNSUPPORTED || ns->inbox)
            return -1;
        log_error_value(user->log_p, e);
        return 0;
    }
    if (*text == '\0' || strcmp(text, "auto:") == 0)
        find_spool(user, &storage->at);
    storage->at.no_inbox = !ns->inbox && ns->type != MAIL_NAMESPACE_SHARED;
    if (storage->at.layout == LAYOUT_INDEX && !conf_bool(user->settings, SET_mailbox_list_index))
        return error_set(e, ERROR_INVALID, "Namespace '%s': LAYOUT=index requires mailbox_list_index=yes", ns->prefix);
    mail_storage_names_init(storage, separator, mail_user_list_escape(user));
    ns->separator = *separator != '\0' ? *separator : storage->separator;
    if (ns_check(ns, e) < 0)
        return -1;
    if (check_prefix(user, ns, e) < 0)
        return -1;
    if (ns->inbox && user->inbox != NULL)
        return error_set(e, ERROR_INVALID, "namespace configuration error: There can be only one namespace with inbox=yes");
    if (ns->inbox)
        user->inbox = ns;
    LL_APPEND(user->namespaces, ns);
    storage->autos = read_autos(user, ns, block);
    return 0;
}

static int resolve_aliases(struct mail_user *user, const struct conf_block *const *blocks, size_t n, struct error *e)
{
    for (size_t i = 0; i < n; i++) {
        struct mail_namespace *ns, *target;
        const char *prefix, *alias;

        if (!conf_block_assigned(blocks[i], "alias_for") || conf_block_bool(blocks[i], "disabled"))
            continue;
        prefix = ns_text(user, blocks[i], "prefix", e);
        alias = ns_text(user, blocks[i], "alias_for", e);
        if (prefix == NULL || alias == NULL)
            return -1;
        LL_FOREACH(user->namespaces, ns)
            if (strcmp(ns->prefix, prefix) == 0)
                break;
        LL_FOREACH(user->namespaces, target)
            if (strcmp(target->prefix, alias) == 0)
                break;
        if (ns == NULL)
            continue;
        if (target == NULL)
            return error_set(e, ERROR_INVALID, "namespace configuration error: Namespace prefix=\"%s\": alias_for points to unknown namespace: %s", prefix, alias);
        ns->alias_for = target;
        ns->storage->at.no_inbox = target->storage->at.no_inbox;
    }
    return 0;
}

/* No namespace has prefix "": names without one lead nowhere, but there is a place that says so. */
static void add_root(struct mail_user *user)
{
    struct mail_namespace *ns;
    struct mail_storage *storage;

    LL_FOREACH(user->namespaces, ns)
        if (*ns->prefix == '\0')
            return;
    ns = ARENA_NEW(user->arena, struct mail_namespace);
    storage = ARENA_NEW(user->arena, struct mail_storage);
    *ns = (struct mail_namespace){.user = user, .name = "", .prefix = "", .separator = user->namespaces->separator,
                                  .hidden = true, .unusable = true, .storage = storage};
    storage->ns = ns;
    no_storage(user, storage);
    LL_APPEND(user->namespaces, ns);
}

struct ordered {
    size_t length, number;     /* of the prefix; in the configuration */
    struct mail_namespace *ns;
};

static int compare_ordered(const void *a, const void *b)
{
    const struct ordered *x = a, *y = b;

    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

/* The order of LIST: the shorter prefix first, then as they stand in the configuration. NAMESPACE looks at `order` before. */
static void sort_namespaces(struct mail_user *user, const struct conf_block *const *blocks, size_t n)
{
    struct ordered *all = ARENA_ARRAY(user->arena, struct ordered, n + 1);
    struct mail_namespace *ns;
    size_t count = 0;

    LL_FOREACH(user->namespaces, ns)
    {
        all[count].ns = ns;
        all[count].length = strlen(ns->prefix);
        all[count].number = count;
        for (size_t i = 0; i < n; i++)
            if (conf_block_name(blocks[i]) == ns->name)
                ns->order = conf_block_uint(blocks[i], "order");
        count++;
    }
    qsort(all, count, sizeof(*all), compare_ordered);
    user->namespaces = NULL;
    for (size_t i = 0; i < count; i++) {
        all[i].ns->next = NULL;
        LL_APPEND(user->namespaces, all[i].ns);
    }
}

static int open_namespaces(struct mail_user *user, struct error *e)
{
    size_t n, used = 0;
    const struct conf_block *const *blocks = conf_blocks(user->settings, BLOCK_NAMESPACE, &n);

    for (size_t i = 0; i < n; i++) {
        if (conf_block_bool(blocks[i], "disabled"))
            continue;
        used++;
        if (add_namespace(user, blocks[i], e) < 0) {
            if (!conf_block_bool(blocks[i], "ignore_on_failure"))
                return -1;
            log_error_value(user->log_p, e);
        }
    }
    if (used == 0 && add_namespace(user, NULL, e) < 0)
        return -1;
    if (user->inbox == NULL)
        return error_set(e, ERROR_INVALID, "namespace configuration error: inbox=yes namespace missing");
    sort_namespaces(user, blocks, n);
    if (resolve_aliases(user, blocks, n, e) < 0)
        return -1;
    add_root(user);
    return 0;
}

/* Where the userdb names no home, mail_home does. A user name must not climb out of the folder that holds the homes
 * (config-yaml 3, storage.mail_home_template). */
static int find_home(struct mail_user *user, struct error *e)
{
    const char *template = conf_str(user->settings, SET_mail_home);
    struct slice rest, part;
    char *home;

    if (user->home != NULL || *template == '\0')
        return 0;
    home = mail_user_expand(user, user->arena, template, e);
    if (home == NULL)
        return error_context(e, "Failed to expand settings: mail_home: ");
    rest = slice_from_str(home);
    while (slice_split(&rest, '/', &part))
        if (slice_equal_str(part, ".."))
            return error_set(e, ERROR_INVALID, "mail_home of user %s leads out of its folder: %s", user->name, home);
    user->home = home;
    return 0;
}

int mail_user_open(struct mail_user **out, struct settings *settings, const struct mail_user_params *params,
                   struct error *e)
{
    struct mail_user *user = mem_zero(1, sizeof(*user));
    size_t n = 0;

    user->refs = 1;
    user->arena = arena_new();
    user->settings = settings_ref(settings);
    user->name = own(user->arena, params->username);
    user->home = params->home == NULL || *params->home == '\0' ? NULL : own(user->arena, params->home);
    user->service = params->service == NULL ? "" : own(user->arena, params->service);
    user->session_id = own(user->arena, params->session_id);
    user->local_ip = own(user->arena, params->local_ip);
    user->remote_ip = own(user->arena, params->remote_ip);
    user->no_notify = params->no_notify;
    user->find_home = params->find_home;
    user->find_home_arg = params->find_home_arg;
    if (params->log != NULL) {
        user->log = *params->log;
        user->log.prefix = params->log->prefix == NULL ? NULL : arena_strdup(user->arena, params->log->prefix);
        user->log_p = &user->log;
    }
    while (params->fields != NULL && params->fields[n] != NULL)
        n++;
    if (n > 0) {
        const char **fields = ARENA_ARRAY(user->arena, const char *, n + 1);

        for (size_t i = 0; i < n; i++)
            fields[i] = arena_strdup(user->arena, params->fields[i]);
        user->fields = fields;
    }
    if (conf_plugins_check(settings, true, e) < 0 || find_home(user, e) < 0 || open_namespaces(user, e) < 0 || coding_open(user, e) < 0 ||
        acl_open(user, &user->acl, e) < 0 ||
        quota_open(user, &user->quota, e) < 0 || notify_open(user, &user->notify, e) < 0) {
        mail_user_close(&user);
        return -1;
    }
    charset_alias_open(user);
    *out = user;
    return 0;
}

struct mail_user *mail_user_ref(struct mail_user *user)
{
    user->refs++;
    return user;
}

int mail_user_dict(struct mail_user *user, const char *uri, const char *name, struct dict **out, struct error *e)
{
    const struct dict_settings settings = {.user = name == NULL || *name == '\0' ? user->name : name,
                                           .home = user->home,
                                           .base_dir = conf_str(user->settings, SET_base_dir)};

    return dict_open(out, uri, &settings, e);
}

void mail_user_close(struct mail_user **user_p)
{
    struct mail_user *user = *user_p;
    struct mail_namespace *ns;

    *user_p = NULL;
    if (user == NULL || user->refs-- > 1)
        return;
    user->refs++;
    notify_flush(user);
    quota_flush(user); /* opens mailboxes, which may stay open for a while with a reference */
    if (--user->refs > 0)
        return;
    LL_FOREACH(user->namespaces, ns)
    {
        list_index_close(&ns->storage->list);
        mem_free(ns->storage->pending);
        if (ns->template != NULL)
            shared_template_close(ns);
    }
    mail_others_close(user);
    dict_close(&user->attributes);
    dict_close(&user->shared);
    coding_close(&user->coding);
    acl_close(&user->acl);
    quota_close(&user->quota);
    notify_close(user, &user->notify);
    charset_alias_close(user);
    settings_unref(user->settings);
    arena_free(user->arena);
    mem_free(user);
}

const char *mail_user_name(const struct mail_user *user)
{
    return user->name;
}

const char *mail_user_home(const struct mail_user *user)
{
    return user->home;
}

bool mail_user_is_admin(const struct mail_user *user)
{
    const char first = *field_of(user, "admin", "");

    return first == 'y' || first == 'Y' || first == '1';
}

const struct settings *mail_user_settings(const struct mail_user *user)
{
    return user->settings;
}

const struct log *mail_user_log(const struct mail_user *user)
{
    return user->log_p;
}

struct mail_namespace *mail_user_namespaces(const struct mail_user *user)
{
    return user->namespaces;
}

struct mail_namespace *mail_user_inbox_namespace(const struct mail_user *user)
{
    return user->inbox;
}

/* ---- mailbox {} blocks ---- */

const struct mail_auto *mail_namespace_autos(const struct mail_namespace *ns)
{
    return ns->storage->autos;
}

const struct mail_auto *mailbox_auto_of(const struct mailbox_place *place)
{
    const struct mail_auto *box;

    LL_FOREACH(place->ns->storage->autos, box)
        if (!box->pattern && strcmp(box->vname, place->vname) == 0)
            return box;
    return NULL;
}

bool mail_auto_matches(const struct mail_auto *box, const char *vname)
{
    return box->pattern ? store_wildcard_match(box->vname, vname) : strcmp(box->vname, vname) == 0;
}

const char *mailbox_special_use(const struct mail_namespace *ns, const char *vname)
{
    const struct mail_auto *box;

    LL_FOREACH(ns->storage->autos, box)
        if (box->special_use != NULL && mail_auto_matches(box, vname))
            return box->special_use;
    return NULL;
}
