/* Which settings are printed, as a flat list of full paths (config 8.3). */
#include "compat/print.h"

struct gather {
    const struct printer *p;
    struct print_items *items;
    bool plain_defaults;
};

static void add_item(struct gather *g, struct print_item item)
{
    struct print_items *all = g->items;
    if (all->count == all->room)
        all->at = vec_grow(all->at, &all->room, sizeof(*all->at));
    all->at[all->count++] = item;
}

static bool wanted_module(const struct printer *p, const struct conf_def *def)
{
    if (p->modules == NULL || def->group == GROUP_service)
        return true;
    for (const char *const *m = p->modules; *m != NULL; m++) {
        if (conf_group_in_module((enum conf_group)def->group, *m))
            return true;
    }
    return false;
}

/* Dovecot compares with the start of an enum's default, so that result_success=return looks like return-ok. */
static bool differs(const struct conf_def *def, const char *value, const char *plain)
{
    if (def->flags & CONF_UNSET)
        return true;
    return def->type == CONF_ENUM ? strncmp(plain, value, strlen(value)) != 0 : strcmp(value, plain) != 0;
}

/* Whether the value is in scope. `unique`: in a section of a unique list, where -n means assigned. */
static bool in_scope(const struct gather *g, const struct conf_def *def, const struct conf_value *assigned,
                     const char *value, const char *plain, bool unique)
{
    bool set = assigned != NULL && !assigned->copied;
    switch (g->p->scope) {
    case PRINT_CHANGED:
        return unique && !g->plain_defaults ? set : differs(def, value, plain);
    case PRINT_SET:
        if (set)
            return true;
        return (g->plain_defaults || (assigned != NULL && !unique)) && differs(def, value, plain);
    case PRINT_ASSIGNED:
        return set;
    case PRINT_ALL:
        return assigned != NULL || (def->flags & CONF_HIDDEN) == 0;
    default:
        return true;
    }
}

static void gather_section(struct gather *, const struct conf_section *, const struct conf_builtin *,
                           const struct print_node *);

static const char *join(struct arena *arena, const char *path, const char *key)
{
    return path[0] == '\0' ? key : arena_printf(arena, "%s/%s", path, key);
}

static void gather_value(struct gather *g, const struct conf_section *section, const struct conf_builtin *builtin,
                         const struct print_node *node, unsigned i)
{
    const struct conf_def *def = &section->scope->defs[i];
    const struct conf_value *assigned = conf_section_get(section, i);
    const char *value = conf_section_text(g->p->arena, section, builtin, i);
    bool unique = node != NULL && section->scope->unique;
    if (value == NULL || (unique && (int)i == section->scope->name_def))
        return;
    const char *plain = arena_str(g->p->arena, conf_def_default(def));
    /* These always count as changed (config 8.3). */
    bool vars = unique && !g->plain_defaults && def->type == CONF_STR_VARS && (def->flags & CONF_UNSET) == 0;
    if (!vars && !in_scope(g, def, assigned, value, plain, unique))
        return;
    if ((def->flags & CONF_OWN) && assigned == NULL)
        return;
    add_item(g, (struct print_item){join(g->p->arena, node == NULL ? "" : node->path, def->name), def->name, value,
                                    node, (def->flags & CONF_OWN) != 0});
}

static void gather_list(struct gather *g, const struct conf_section *section, const struct conf_def *def,
                        const struct conf_list *list, const struct print_node *outer)
{
    const struct conf_scope *scope = conf_scope_block((enum conf_block_kind)def->id);
    const struct conf_def *name_def = &scope->defs[scope->name_def];
    (void)section;
    for (const struct conf_entry *entry = list->first; entry != NULL; entry = entry->next) {
        struct print_node *node = ARENA_NEW(g->p->arena, struct print_node);
        struct buffer path = {0};
        const struct conf_value *renamed = conf_section_get(&entry->section, (unsigned)scope->name_def);
        const char *name = renamed != NULL ? renamed->text : entry->name;
        if (outer != NULL)
            buffer_printf(&path, "%s/", outer->path);
        buffer_printf(&path, "%s/", def->name);
        if (name[0] == '\0' || !scope->unique)
            buffer_printf(&path, "%u", entry->index);
        else
            conf_path_escape(&path, name);
        *node = (struct print_node){.parent = outer,
                                    .keyword = def->name,
                                    .name = scope->unique ? name : "",
                                    .path = arena_str(g->p->arena, buffer_slice(&path)),
                                    .depth = outer == NULL ? 1 : outer->depth + 1,
                                    .named = ARENA_NEW(g->p->arena, bool)};
        buffer_free(&path);
        bool in_file = entry->place.file != NULL, hidden = entry->copied && g->p->scope == PRINT_SET;
        *node->named = entry->copied && g->p->scope != PRINT_ALL && g->p->scope != PRINT_ALL_HIDDEN;
        bool shown = (in_file && !entry->copied) || g->plain_defaults || g->p->scope == PRINT_ALL ||
                     g->p->scope == PRINT_ALL_HIDDEN;
        const char *name_path = arena_printf(g->p->arena, "%s/%s", node->path, name_def->name);
        if (scope->unique && shown && name[0] != '\0')
            add_item(g, (struct print_item){name_path, name_def->name, NULL, node, false});
        else if (scope->unique && g->plain_defaults && g->p->scope != PRINT_CHANGED && !hidden)
            add_item(g, (struct print_item){name_path, name_def->name, "", node, false});
        else if (scope->unique && g->plain_defaults) /* only its list is told of */
            add_item(g, (struct print_item){name_path, name_def->name, NULL, node, false});
        else if (!scope->unique && (name[0] != '\0' || (g->p->scope != PRINT_CHANGED && !hidden)))
            add_item(g, (struct print_item){name_path, name_def->name, name, node, false});
        gather_section(g, &entry->section, entry->builtin, node);
    }
}

static void gather_pairs(struct gather *g, const struct conf_section *section, const struct conf_def *def)
{
    if (section->pairs == NULL || !section->pairs[def->id].opened)
        return;
    struct print_node *node = ARENA_NEW(g->p->arena, struct print_node);
    *node = (struct print_node){.keyword = def->name, .name = "", .path = def->name, .depth = 1,
                                .named = ARENA_NEW(g->p->arena, bool)};
    if (g->plain_defaults)
        add_item(g, (struct print_item){def->name, def->name, NULL, node, false});
    for (const struct conf_pair *pair = section->pairs[def->id].first; pair != NULL; pair = pair->next)
        add_item(g, (struct print_item){join(g->p->arena, def->name, pair->key), pair->key, pair->value, node, false});
}

static void gather_section(struct gather *g, const struct conf_section *section, const struct conf_builtin *builtin,
                           const struct print_node *node)
{
    for (unsigned i = 0; i < section->scope->count; i++) {
        const struct conf_def *def = &section->scope->defs[i];
        if (node == NULL && !wanted_module(g->p, def))
            continue;
        if (def->kind == CONF_DEF_VALUE) {
            bool is_name = node != NULL && (int)i == section->scope->name_def;
            if (!is_name)
                gather_value(g, section, builtin, node, i);
        } else if (def->kind == CONF_DEF_STRLIST) {
            gather_pairs(g, section, def);
        } else if (conf_section_list(section, i) != NULL) {
            gather_list(g, section, def, conf_section_list(section, i), node);
        }
    }
}

void print_gather(const struct printer *p, const struct conf_section *section, bool plain_defaults,
                  struct print_items *items)
{
    struct gather g = {p, items, plain_defaults};
    *items = (struct print_items){0};
    gather_section(&g, section, NULL, NULL);
}
