/* Overrides: see override.h. */
#include "compat/override.h"

#include "conf/registry.h"

struct override {
    struct conf_tree *tree;
    const char *value;
    struct error *e;
};

static int set_value(struct override *o, struct conf_section *section, unsigned def, bool global)
{
    if (!global && conf_section_get(section, def) == NULL)
        return 0;
    return conf_registry_set(o->tree->arena, section, def, arena_strdup(o->tree->arena, o->value),
                             (struct conf_place){"-o", 0}, o->e);
}

static const struct conf_builtin *find_service(const char *name)
{
    size_t n;
    const struct conf_builtin *all = conf_builtin_services(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    }
    return NULL;
}

static char *unescape_name(struct arena *arena, struct slice part)
{
    static const char letters[] = "s/e=+,_ ";
    char *name = arena_alloc(arena, part.size + 1), *out = name;
    for (size_t i = 0; i < part.size; i++) {
        if (part.at[i] == '\\' && i + 1 < part.size) {
            const char *letter = strchr(letters, part.at[++i]);
            *out++ = letter != NULL && (letter - letters) % 2 == 0 ? letter[1] : (char)part.at[i];
        } else {
            *out++ = (char)part.at[i];
        }
    }
    return name;
}

static int set_path(struct override *o, struct conf_section *section, struct slice path, bool global)
{
    struct slice part = SLICE_EMPTY;
    (void)slice_split(&path, '/', &part);
    if (slice_equal_str(part, "mail") && section->scope == conf_scope_global())
        part = SLICE("mail_location");
    int def = conf_scope_find(section->scope, part);
    if (def < 0)
        return 0;
    const struct conf_def *at = &section->scope->defs[def];
    if (at->kind == CONF_DEF_VALUE)
        return path.size > 0 ? 0 : set_value(o, section, (unsigned)def, global);
    if (!slice_split(&path, '/', &part))
        return 0;
    char *name = unescape_name(o->tree->arena, part);
    if (at->kind == CONF_DEF_STRLIST) {
        if (global || conf_section_pair(section, (enum conf_strlist)at->id, name) != NULL)
            conf_section_set_pair(o->tree->arena, section, (enum conf_strlist)at->id, name,
                                  arena_strdup(o->tree->arena, o->value), (struct conf_place){"-o", 0});
        return 0;
    }
    struct conf_entry *entry = conf_section_find_entry(section, (unsigned)def, name);
    uint32_t index;
    struct conf_list *list = conf_section_list(section, (unsigned)def);
    for (struct conf_entry *each = list == NULL ? NULL : list->first; entry == NULL && each != NULL;
         each = each->next) {
        if (slice_to_u32(part, &index) && each->index == index)
            entry = each;
    }
    if (entry == NULL && global && at->id == BLOCK_SERVICE && find_service(name) != NULL) {
        bool existed;
        entry = conf_section_entry(o->tree->arena, section, (unsigned)def, slice_from_str(name),
                                   (struct conf_place){"-o", 0}, &existed);
        entry->builtin = find_service(name);
    }
    return entry == NULL ? 0 : set_path(o, &entry->section, path, global);
}

int compat_override(struct conf_tree *tree, const char *pair, struct error *e)
{
    const char *equals = strchr(pair, '=');
    if (equals == NULL)
        return error_set(e, ERROR_INVALID, "Error reading configuration: Invalid -o parameter %s: Missing '='", pair);
    struct override o = {tree, equals + 1, e};
    struct slice path = slice_of(pair, (size_t)(equals - pair));
    for (struct conf_level *level = tree->global; level != NULL; level = level->next) {
        if (set_path(&o, &level->section, path, level == tree->global) < 0)
            return error_context(e, "Error reading configuration: Invalid -o parameter %s: ", pair);
    }
    return 0;
}
