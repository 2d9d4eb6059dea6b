/* settings: any setting of Dovecot by its own name; sections are maps (config-yaml 2). */
#include "conf/yaml_key.h"

#include <stdio.h>

enum filter { LOCAL, LOCAL_NAME, REMOTE, PROTOCOL, FILTERS };
static const char *const filter_words[FILTERS] = {"local", "local_name", "remote", "protocol"};

static void unknown_setting(struct yaml *y, const struct conf_scope *scope, const struct yaml_pair *pair)
{
    const char *best = NULL;
    unsigned distance = (unsigned)strlen(pair->key) / 2 + 2;
    for (unsigned i = 0; i < scope->count; i++) {
        unsigned d = yaml_distance(pair->key, scope->defs[i].name);
        if (d < distance) {
            distance = d;
            best = scope->defs[i].name;
        }
    }
    for (int i = 0; scope == conf_scope_global() && i < FILTERS; i++) {
        unsigned d = yaml_distance(pair->key, filter_words[i]);
        if (d < distance) {
            distance = d;
            best = filter_words[i];
        }
    }
    yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column, "unknown setting %s%s%s%s", pair->key,
               best == NULL ? "" : ", did you mean ", best == NULL ? "" : best, best == NULL ? "" : "?");
}

static void read_list(struct yaml *y, struct conf_level *level, struct conf_section *section, unsigned def,
                      const struct yaml_node *node)
{
    if (node->null)
        return;
    if (node->kind == YAML_LIST) {
        for (const struct yaml_node *item = node->items; item != NULL; item = item->next)
            yaml_read_block(y, level, section, def, "", item);
        return;
    }
    if (node->kind != YAML_MAP) {
        FAULT(y, node, "%s: a map of sections was expected", section->scope->defs[def].name);
        return;
    }
    for (const struct yaml_pair *pair = node->first; pair != NULL; pair = pair->next)
        yaml_read_block(y, level, section, def, pair->key, pair->value);
}

static void read_members(struct yaml *y, struct conf_level *level, struct conf_section *section,
                         const struct yaml_node *map)
{
    bool is_namespace = section->scope == conf_scope_block(BLOCK_NAMESPACE);
    for (const struct yaml_pair *pair = map->first; pair != NULL; pair = pair->next) {
        const char *key = pair->key;
        if (is_namespace && (strcmp(key, "mail") == 0 || strcmp(key, "mail_location") == 0))
            key = "location";
        int def = conf_scope_find(section->scope, slice_from_str(key));
        if (def < 0)
            unknown_setting(y, section->scope, pair);
        else if (section->scope->defs[def].kind == CONF_DEF_BLOCKS)
            read_list(y, level, section, (unsigned)def, pair->value);
        else
            yaml_set(y, level, section, (unsigned)def, pair->value);
    }
}

static void rename_driver(struct yaml *y, struct conf_section *block, const struct yaml_node *node)
{
    unsigned def = (unsigned)conf_scope_find(block->scope, SLICE("driver"));
    const struct conf_value *driver = conf_section_get(block, def);
    if (driver != NULL && (strcmp(driver->text, "postgres") == 0 || strcmp(driver->text, "postgresql") == 0))
        yaml_set_text(y, block, def, "pgsql", node);
}

void yaml_read_block(struct yaml *y, struct conf_level *level, struct conf_section *section, unsigned def,
                     const char *name, const struct yaml_node *node)
{
    enum conf_block_kind kind = (enum conf_block_kind)section->scope->defs[def].id;
    const struct conf_scope *scope = conf_scope_block(kind);
    struct conf_place place = {arena_strdup(y->tree->arena, node->file), node->line};
    bool existed;
    if (node->kind != YAML_MAP && !node->null) {
        FAULT(y, node, "%s: a map of settings was expected", section->scope->defs[def].name);
        return;
    }
    const struct yaml_node *named = node->null ? NULL : yaml_get(node, scope->defs[scope->name_def].name);
    if (name[0] == '\0' && named != NULL && named->kind == YAML_TEXT)
        name = named->text;
    struct conf_entry *entry = conf_section_entry(y->tree->arena, section, def, slice_from_str(name), place, &existed);
    entry->name = arena_strdup(y->tree->arena, name);
    if (!node->null)
        read_members(y, level, &entry->section, node);
    if (kind == BLOCK_PASSDB || kind == BLOCK_USERDB)
        rename_driver(y, &entry->section, node);
}

static void read_pairs(struct yaml *y, struct conf_level *level, enum conf_strlist which, const char *list,
                       const struct yaml_node *node)
{
    conf_section_open_pairs(y->tree->arena, &level->section, which);
    if (node->null)
        return;
    if (node->kind != YAML_MAP) {
        FAULT(y, node, "%s: a map was expected", list);
        return;
    }
    for (const struct yaml_pair *pair = node->first; pair != NULL; pair = pair->next) {
        struct conf_def any = {.name = pair->key, .value = "", .type = CONF_STR};
        const char *text = yaml_value_text(y, &any, pair->value), *value = text;
        struct error e;
        int result = 0;
        if (text == NULL)
            continue;
        if (strchr(pair->key, '/') != NULL) {
            yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column, "a key of %s has no /", list);
            continue;
        }
        if (text[0] == '<')
            result = conf_file_value(y->tree, y->how, "", pair->key, false, text + 1, &value, &e);
        else if (strchr(text, '$') != NULL && y->how->expand)
            result = conf_expand_words(y->tree, level, "", text, true, &value, &e);
        if (result < 0)
            FAULT(y, pair->value, "%s: %s", pair->key, e.admin);
        else
            yaml_set_pair(y, level, which, pair->key, value, pair->value);
    }
}

/* ---- filters ---------------------------------------------------------------------------------------------------- */

static void read_level(struct yaml *, struct conf_level *, const struct yaml_node *);

/* Outside to inside: local, local_name, remote, protocol (config 3.2). */
static bool may_nest(const struct conf_facts *outer, enum filter inner)
{
    return outer->service == NULL && (inner == PROTOCOL || outer->remote.family == 0 || inner == REMOTE) &&
           (inner != LOCAL || outer->local_name == NULL);
}

static void read_filter(struct yaml *y, struct conf_level *outer, enum filter kind, const struct yaml_pair *pair)
{
    struct conf_facts facts = outer->facts;
    struct conf_net net;
    struct error e;
    if (!may_nest(&facts, kind)) {
        yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column,
                   "filters stand in the order local, local_name, remote, protocol");
        return;
    }
    if (kind == PROTOCOL) {
        facts.service = pair->key;
    } else if (kind == LOCAL_NAME) {
        facts.local_name = pair->key;
    } else if (conf_net_parse(pair->key, &net, &e) < 0) {
        yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column, "%s", e.admin);
        return;
    } else {
        *(kind == LOCAL ? &facts.local : &facts.remote) = net;
    }
    struct conf_place place = {arena_strdup(y->tree->arena, pair->value->file), pair->key_line};
    read_level(y, conf_tree_level(y->tree, outer, &facts, place), pair->value);
}

static bool is_filter(struct yaml *y, struct conf_level *level, const struct yaml_pair *pair)
{
    for (int i = 0; i < FILTERS; i++) {
        if (strcmp(pair->key, filter_words[i]) != 0)
            continue;
        if (pair->value->kind != YAML_MAP)
            FAULT(y, pair->value, "%s: a map was expected", pair->key);
        for (const struct yaml_pair *each = pair->value->first; each != NULL; each = each->next)
            read_filter(y, level, (enum filter)i, each);
        return true;
    }
    return false;
}

static void read_level(struct yaml *y, struct conf_level *level, const struct yaml_node *map)
{
    const struct conf_scope *scope = conf_scope_global();
    bool tests = level->facts.local.family != 0 || level->facts.remote.family != 0 || level->facts.local_name != NULL;
    if (map->null)
        return;
    if (map->kind != YAML_MAP) {
        FAULT(y, map, "a map of settings was expected");
        return;
    }
    /* Filters last: what they take over from around ($name) must stand. */
    for (int filters = 0; filters < 2; filters++) {
        for (const struct yaml_pair *pair = map->first; pair != NULL; pair = pair->next) {
            bool one = false;
            for (int i = 0; i < FILTERS; i++)
                one |= strcmp(pair->key, filter_words[i]) == 0;
            if (one != (filters == 1))
                continue;
            if (one && is_filter(y, level, pair))
                continue;
            const char *key = strcmp(pair->key, "mail") == 0 ? "mail_location" : pair->key;
            int def = conf_scope_find(scope, slice_from_str(key));
            if (def < 0)
                unknown_setting(y, scope, pair);
            else if (tests && (scope->defs[def].flags & CONF_IN_AUTH))
                yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column,
                           "Auth settings not supported inside local/remote blocks: %s", key);
            else if (scope->defs[def].kind == CONF_DEF_BLOCKS)
                read_list(y, level, &level->section, (unsigned)def, pair->value);
            else if (scope->defs[def].kind == CONF_DEF_STRLIST)
                read_pairs(y, level, (enum conf_strlist)scope->defs[def].id, key, pair->value);
            else
                yaml_set(y, level, &level->section, (unsigned)def, pair->value);
        }
    }
}

void yaml_read_settings(struct yaml *y, const struct yaml_node *settings)
{
    read_level(y, y->tree->global, settings);
}
