/* The YAML reader (config-yaml): loads the document, takes its named keys, then the settings by Dovecot's names. */
#include "conf/yaml.h"

#include "base/log.h"
#include "conf/yaml_key.h"

bool yaml_is_name(const char *path)
{
    struct slice name = slice_from_str(path);
    return slice_ends(name, SLICE(".yaml")) || slice_ends(name, SLICE(".yml"));
}

static const char *folder_of(struct arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return ".";
    return slash == path ? "/" : arena_str(arena, slice_of(path, (size_t)(slash - path)));
}

/* A YAML file logs as JSON unless it says otherwise. */
static void set_log_format(struct yaml *y, const struct yaml_node *root)
{
    unsigned def = (unsigned)conf_setting_def(SET_log_format);
    if (conf_section_get(&y->tree->global->section, def) == NULL)
        yaml_set_text(y, &y->tree->global->section, def, "json", root);
}

static struct conf_tree *read_document(const struct yaml_node *root, const char *path, const struct conf_reading *how,
                                       struct arena *arena, struct yaml_faults *faults)
{
    struct yaml y = {
        .tree = conf_tree_new(path), .how = how, .arena = arena, .faults = faults, .folder = folder_of(arena, path)};
    yaml_walk_keys(&y, root);
    yaml_finish_services(&y);
    yaml_finish_storage(&y);
    const struct yaml_node *settings = yaml_get(root, "settings");
    if (settings != NULL)
        yaml_read_settings(&y, settings);
    yaml_finish_single(&y, root);
    if (root->first != NULL && (root->first->next != NULL || root->first->value != settings))
        set_log_format(&y, root);
    buffer_free(&y.plugins);
    buffer_free(&y.imap_plugins);
    return y.tree;
}

struct outcome {
    struct conf_tree *tree;
    struct yaml_faults faults;
    struct arena *arena;
};

static void start(struct outcome *o)
{
    *o = (struct outcome){.arena = arena_new()};
    o->faults.arena = o->arena;
}

static void finish(struct outcome *o)
{
    VEC_FREE(&o->faults.texts);
    arena_free(o->arena);
}

static int give_result(struct outcome *o, struct conf_tree **tree, struct error *e)
{
    int result = 0;
    if (o->faults.texts.count > 0) {
        conf_tree_free(o->tree);
        result = error_set(e, ERROR_INVALID, "%s", o->faults.texts.at[0]);
    } else {
        *tree = o->tree;
    }
    finish(o);
    return result;
}

int yaml_read(const char *path, const struct conf_reading *how, struct conf_tree **tree, struct error *late,
              struct error *e)
{
    struct outcome o;
    (void)late;
    start(&o);
    struct yaml_node *root = yaml_load(path, o.arena, &o.faults, e);
    if (root == NULL && o.faults.texts.count == 0) {
        finish(&o);
        return -1;
    }
    if (root != NULL)
        o.tree = read_document(root, path, how, o.arena, &o.faults);
    return give_result(&o, tree, e);
}

int yaml_read_text(struct slice text, const struct conf_reading *how, struct conf_tree **tree, struct error *e)
{
    struct outcome o;
    start(&o);
    struct yaml_node *root = yaml_parse(text, "text", o.arena, &o.faults);
    if (root != NULL)
        o.tree = read_document(root, "text", how, o.arena, &o.faults);
    return give_result(&o, tree, e);
}

static bool is_unknown(const char *text)
{
    return strstr(text, ": unknown key ") != NULL || strstr(text, ": unknown setting ") != NULL;
}

size_t yaml_read_all(const char *path, const struct conf_reading *how, bool lenient, struct conf_tree **tree,
                     void (*see)(void *, const char *), void *arg)
{
    struct outcome o;
    struct error e;
    size_t faults = 0;
    start(&o);
    struct yaml_node *root = yaml_load(path, o.arena, &o.faults, &e);
    if (root != NULL)
        o.tree = read_document(root, path, how, o.arena, &o.faults);
    else if (o.faults.texts.count == 0)
        VEC_PUSH(&o.faults.texts, arena_strdup(o.arena, e.admin));
    for (size_t i = 0; i < o.faults.texts.count; i++) {
        if (lenient && is_unknown(o.faults.texts.at[i])) {
            log_warning(NULL, "%s", o.faults.texts.at[i]);
            continue;
        }
        see(arg, o.faults.texts.at[i]);
        faults++;
    }
    if (faults == 0)
        *tree = o.tree;
    else
        conf_tree_free(o.tree);
    finish(&o);
    return faults;
}
