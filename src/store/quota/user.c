/* user.c - the roots of a user, from quota, quota2 ... and their rules (quota-acl-plugins 1.1). */
#include "store/quota/internal.h"

#include <stdio.h>
#include <utlist.h>

/* Limits in the words of the backend. */
static int read_backend_rule(const struct quota_root *root, const char *text, struct quota_rule *rule, struct error *e)
{
    if (root->backend->rule != NULL && root->backend->rule(rule, e) == 0)
        return 0;
    if (root->backend->rule == NULL)
        error_set(e, ERROR_INVALID, "backend rule not supported");
    return error_context(e, "Invalid rule %s: ", text);
}

static int read_rules(struct quota_root *root, struct error *e)
{
    struct quota *q = root->quota;
    char key[80];

    for (unsigned i = 1;; i++) {
        const char *text;
        struct quota_rule rule;

        if (i == 1)
            snprintf(key, sizeof(key), "%s_rule", root->key);
        else
            snprintf(key, sizeof(key), "%s_rule%u", root->key, i);
        if (mail_user_plugin_text(q->user, q->arena, key, &text, e) < 0)
            return -1;
        if (text == NULL)
            break;
        if (quota_rule_parse(q->arena, text, &rule, e) < 0 || (rule.backend != NULL && read_backend_rule(root, text, &rule, e) < 0))
            return error_context(e, "Invalid quota root %s: ", root->key);
        if (strcmp(rule.mailbox, "*") != 0 && !rule.ignore && rule.backend == NULL && ((rule.bytes.given && !rule.bytes.relative) || (rule.count.given && !rule.count.relative)))
            log_warning(q->user->log_p, "quota root %s rule %s: obsolete configuration for rule '%s' should be changed to have '+'",
                        root->key, rule.mailbox, text);
        VEC_PUSH(&root->rules, rule);
    }
    for (unsigned i = 1;; i++) {
        const char *text;
        struct quota_warning warning;

        if (i == 1)
            snprintf(key, sizeof(key), "%s_warning", root->key);
        else
            snprintf(key, sizeof(key), "%s_warning%u", root->key, i);
        if (mail_user_plugin_text(q->user, q->arena, key, &text, e) < 0)
            return -1;
        if (text == NULL)
            break;
        if (quota_warning_parse(q->arena, text, &warning, e) < 0)
            return error_context(e, "Invalid quota root %s: ", root->key);
        VEC_PUSH(&root->warnings, warning);
    }
    return 0;
}

/* quota_set, quota2_set: opened when something is set. */
static int read_set(struct quota_root *root, struct error *e)
{
    static const char dict[] = "dict:";
    const char *text;

    if (mail_user_plugin_text(root->quota->user, root->quota->arena, arena_printf(root->quota->arena, "%s_set", root->key), &text, e) < 0)
        return -1;
    if (text == NULL)
        return 0;
    if (strncmp(text, dict, sizeof(dict) - 1) != 0)
        return error_set(e, ERROR_INVALID, "Invalid quota root %s: %s_set supports only dict backend", root->key, root->key);
    root->set_uri = text + sizeof(dict) - 1;
    return 0;
}

static int read_parameters(struct quota_root *root, struct slice rest, struct error *e)
{
    struct quota *q = root->quota;
    bool dict = strcmp(root->backend->name, "dict") == 0, user_seen = false;
    struct slice part;

    while (rest.size > 0) {
        struct slice before = rest;

        if (!slice_split(&rest, ':', &part))
            break;
        if (dict && !user_seen) {
            root->dict_user = arena_str(q->arena, part);
            user_seen = true;
        } else if (slice_equal_str(part, "hidden")) {
            root->hidden = true;
        } else if (slice_equal_str(part, "noenforcing")) {
            root->no_enforcing = true;
        } else if (slice_equal_str(part, "ignoreunlimited")) {
            root->ignore_unlimited = true;
        } else if (slice_starts(part, SLICE("ns="))) {
            root->ns_prefix = arena_str(q->arena, slice_from(part, 3));
        } else if (dict && (slice_equal_str(part, "no-unset") || part.size == 0)) {
            continue;
        } else if (root->backend == &quota_backend_fs && quota_fs_parameter(root, part) == 0) {
            continue;
        } else if (dict) {
            root->dict_uri = arena_str(q->arena, before);
            return 0;
        } else if (part.size > 0) {
            return error_set(e, ERROR_INVALID, "Quota root %s: %s quota init failed: Unknown parameter for backend %s: %.*s", root->name,
                             root->backend->name, root->backend->name, (int)part.size, (const char *)part.at);
        }
    }
    if (dict)
        return error_set(e, ERROR_INVALID, "Quota root %s: dict quota init failed: Missing dict URI", root->name);
    return 0;
}

static int add_root(struct quota *q, const char *key, const char *text, struct error *e)
{
    struct quota_root *root = ARENA_NEW(q->arena, struct quota_root);
    struct slice rest = slice_from_str(text), part;

    root->quota = q;
    root->key = arena_strdup(q->arena, key);
    root->name = "";
    slice_split(&rest, ':', &part);
    root->backend = quota_backend_find(part);
    if (root->backend == NULL)
        return error_set(e, ERROR_INVALID, "Invalid quota root %s: Unknown quota backend: %.*s", key, (int)part.size, (const char *)part.at);
    if (slice_split(&rest, ':', &part))
        root->name = arena_str(q->arena, part);
    VEC_PUSH(&q->roots, root);
    if (read_parameters(root, rest, e) < 0)
        return -1;
    if (strcmp(root->backend->name, "count") == 0 && !q->vsizes)
        return error_set(e, ERROR_INVALID, "Quota root %s: count quota init failed: quota count backend requires quota_vsizes=yes", root->name);
    if (read_rules(root, e) < 0)
        return -1;
    if (read_set(root, e) < 0)
        return -1;
    quota_limits(root->rules.at, root->rules.count, NULL, &root->limits);
    if (root->backend->init != NULL && root->backend->init(root, e) < 0)
        return -1;
    if (root->ignore_unlimited && root->limits.bytes == 0 && root->limits.count == 0)
        q->roots.count--;
    return 0;
}

static int read_settings(struct quota *q, struct error *e)
{
    const char *grace, *most;
    struct quota_rule rule;
    uint64_t bytes;

    q->vsizes = mail_user_plugin_bool(q->user, "quota_vsizes");
    if (mail_user_plugin_text(q->user, q->arena, "quota_exceeded_message", &q->message, e) < 0 ||
        mail_user_plugin_text(q->user, q->arena, "quota_grace", &grace, e) < 0 ||
        mail_user_plugin_text(q->user, q->arena, "quota_max_mail_size", &most, e) < 0)
        return -1;
    if (q->message == NULL || *q->message == '\0')
        q->message = "Quota exceeded (mailbox for user is full)";
    if (grace == NULL || *grace == '\0')
        grace = "10%";
    if (quota_rule_parse(q->arena, arena_printf(q->arena, "grace:bytes=%s", grace), &rule, e) < 0)
        return error_set(e, ERROR_INVALID, "Invalid quota_grace value '%s'", grace);
    q->grace = rule.bytes;
    if (most != NULL && *most != '\0') {
        if (text_parse_size(slice_from_str(most), &bytes) < 0)
            return error_set(e, ERROR_INVALID, "quota_max_mail_size: Invalid size: %s", most);
        q->max_mail_size = bytes;
    }
    return 0;
}

static int read_roots(struct quota *q, struct error *e)
{
    char key[32] = "quota";

    if (read_settings(q, e) < 0)
        return -1;
    for (unsigned i = 2;; i++) {
        const char *text;

        if (mail_user_plugin_text(q->user, q->arena, key, &text, e) < 0)
            return -1;
        if (text == NULL || *text == '\0')
            return 0;
        if (add_root(q, key, text, e) < 0)
            return -1;
        snprintf(key, sizeof(key), "quota%u", i);
    }
}

int quota_open(struct mail_user *user, struct quota **out, struct error *e)
{
    struct quota *q;

    *out = NULL;
    if (!mail_user_plugin(user, "quota"))
        return 0;
    q = mem_zero(1, sizeof(*q));
    q->arena = arena_new();
    q->user = user;
    if (read_roots(q, e) < 0) {
        quota_close(&q);
        /* A value that cannot be expanded is no plugin's fault. */
        return strncmp(e->admin, "Failed to expand ", 17) == 0 ? -1 : error_context(e, "Failed to initialize quota: ");
    }
    quota_trash_open(q);
    quota_clone_open(q);
    *out = q;
    return 0;
}

void quota_close(struct quota **quota_p)
{
    struct quota *q = *quota_p;

    if (q == NULL)
        return;
    *quota_p = NULL;
    quota_trash_close(q);
    for (size_t i = 0; i < q->roots.count; i++) {
        VEC_FREE(&q->roots.at[i]->rules);
        VEC_FREE(&q->roots.at[i]->warnings);
        dict_close(&q->roots.at[i]->dict);
        dict_close(&q->roots.at[i]->set);
    }
    VEC_FREE(&q->roots);
    arena_free(q->arena);
    mem_free(q);
}

struct quota_root *quota_root_at(const struct mail_user *user, size_t i)
{
    return user->quota == NULL || i >= user->quota->roots.count ? NULL : user->quota->roots.at[i];
}

static struct quota_root *root_named(const struct quota *q, struct slice name)
{
    for (size_t i = 0; q != NULL && i < q->roots.count; i++)
        if (slice_equal_str(name, q->roots.at[i]->name))
            return q->roots.at[i];
    return NULL;
}

struct quota_root *quota_root_find(const struct mail_user *user, struct slice name)
{
    struct quota_root *root = root_named(user->quota, name);
    const struct mail_namespace *template, *ns;
    struct slice owner, rest = name;

    if (root != NULL || user->quota == NULL || !mail_user_is_admin(user) || slice_find(name, ':') < 0 || !slice_split(&rest, ':', &owner))
        return root;
    if (slice_equal_str(owner, user->name))
        return root_named(user->quota, rest);
    /* Whose mailboxes nobody has asked about yet is not known, as with Dovecot. */
    LL_FOREACH(user->namespaces, template)
        LL_FOREACH(template->template == NULL ? NULL : shared_instances(template), ns)
            if (ns->owner != NULL && slice_equal_str(owner, ns->owner))
                return root_named(quota_of_owner(user->quota, ns->owner), rest);
    return NULL;
}

const char *quota_root_name_for(const struct quota_root *root, const struct mail_user *user, struct arena *arena)
{
    const struct mail_user *owner = root->quota->user;

    return owner == user ? root->name : arena_printf(arena, "%s:%s", owner->name, root->name);
}

int quota_root_set(struct quota_root *root, struct slice resource, uint64_t value, struct error *e)
{
    static const struct {
        const char *resource, *key;
    } known[] = {{"STORAGE", "priv/quota/limit/storage"}, {"STORAGE_BYTES", "priv/quota/limit/bytes"}, {"MESSAGE", "priv/quota/limit/messages"}};
    struct dict_change change = {.what = DICT_SET};
    char text[24];

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (slice_equal_str_nocase(resource, known[i].resource))
            change.key = known[i].key;
    if (root->set_uri == NULL) {
        error_set(e, ERROR_PERMISSION, "Permission denied");
        return error_user(e, "Permission denied");
    }
    if (change.key == NULL) {
        error_set(e, ERROR_INVALID, "Unsupported resource name: %.*s", (int)resource.size, (const char *)resource.at);
        return error_user(e, e->admin);
    }
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    change.value = text;
    if ((root->set == NULL && mail_user_dict(root->quota->user, root->set_uri, NULL, &root->set, e) < 0 &&
         error_context(e, "quota: dict_init() failed: ") < 0) ||
        dict_commit_wait(root->set, &change, 1, e) < 0)
        return error_user(e, "Internal quota limit update error");
    return 0;
}

const char *quota_root_name(const struct quota_root *root)
{
    return root->name;
}

bool quota_root_hidden(const struct quota_root *root)
{
    return root->hidden;
}

bool quota_root_covers(const struct quota_root *root, const struct mail_namespace *ns)
{
    if (ns->storage != NULL && ns->storage->at.driver == &virtual_driver)
        return false; /* its messages are others' */
    if (ns->unusable || ns->type != MAIL_NAMESPACE_PRIVATE || ns->alias_for != NULL)
        return false;
    return root->ns_prefix == NULL || strcmp(root->ns_prefix, ns->prefix) == 0;
}

bool quota_root_counts(const struct quota_root *root)
{
    return !root->backend->no_count && (root->backend != &quota_backend_fs || root->fs.inodes);
}

struct quota_amount quota_root_limits(const struct quota_root *root)
{
    return root->limits;
}

int quota_usage(struct quota_root *root, struct quota_amount *out, struct error *e)
{
    if (root->backend->usage(root, out, e) == 0)
        return 0;
    return error_context(e, "quota-%s: ", root->backend->name);
}

int quota_recalculate(struct quota_root *root, struct error *e)
{
    struct quota_amount amount;

    int r;

    if (root->backend->recalculate == NULL) {
        root->quota->recalculating = true;
        r = root->backend->usage(root, &amount, e);
        root->quota->recalculating = false;
        return r == 0 ? 0 : error_context(e, "quota-%s: recalculate failed: ", root->backend->name);
    }
    return root->backend->recalculate(root, e);
}
