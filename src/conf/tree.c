/* Trees: see tree.h. Hash tables (uthash) are allocated from the tree's arena and vanish with it. */
#include "base/text.h"
#include "conf/tree.h"

#include <stdio.h>

/* uthash asks for memory by these names; every function that adds has `arena` in scope. */
#undef uthash_malloc
#undef uthash_free
#define uthash_malloc(size) arena_alloc(arena, size)
#define uthash_free(at, size) ((void)0)

enum { FEW = 8 };

struct conf_tree *conf_tree_new(const char *path)
{
    struct arena *arena = arena_new();
    struct conf_tree *tree = ARENA_NEW(arena, struct conf_tree);
    tree->arena = arena;
    tree->path = arena_strdup(arena, path);
    struct conf_facts none = {0};
    (void)conf_tree_level(tree, NULL, &none, (struct conf_place){tree->path, 0});
    return tree;
}

void conf_tree_free(struct conf_tree *tree)
{
    if (tree != NULL)
        arena_free(tree->arena);
}

static char *facts_key(struct arena *arena, const struct conf_facts *facts)
{
    struct buffer key = {0};
    const struct conf_net *nets[] = {&facts->local, &facts->remote};
    for (int i = 0; i < 2; i++) {
        buffer_printf(&key, "%u/%u/", nets[i]->family, nets[i]->bits);
        text_hex_encode(&key, slice_of(nets[i]->address, nets[i]->family == 0 ? 0 : 16));
        buffer_append_byte(&key, '\n');
    }
    if (facts->local_name != NULL) {
        buffer_append_byte(&key, 'n');
        buffer_append_slice(&key, text_lowered(arena, slice_from_str(facts->local_name)));
    }
    buffer_append_byte(&key, '\n');
    if (facts->service != NULL)
        buffer_printf(&key, "s%s", facts->service);
    char *text = arena_str(arena, buffer_slice(&key));
    buffer_free(&key);
    return text;
}

struct conf_level *conf_tree_level(struct conf_tree *tree, struct conf_level *parent, const struct conf_facts *facts,
                                   struct conf_place place)
{
    struct arena *arena = tree->arena;
    char *key = facts_key(arena, facts);
    struct conf_level *level;
    HASH_FIND_STR(tree->by_facts, key, level);
    if (level != NULL)
        return level;
    level = ARENA_NEW(arena, struct conf_level);
    level->facts = *facts;
    if (facts->service != NULL)
        level->facts.service = arena_strdup(arena, facts->service);
    if (facts->local_name != NULL)
        level->facts.local_name = arena_strdup(arena, facts->local_name);
    level->parent = parent;
    level->number = tree->levels++;
    level->place = place;
    conf_section_init(&level->section, conf_scope_global());
    if (tree->last == NULL)
        tree->global = level;
    else
        tree->last->next = level;
    tree->last = level;
    HASH_ADD_KEYPTR(hh, tree->by_facts, key, strlen(key), level);
    return level;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

void conf_section_init(struct conf_section *section, const struct conf_scope *scope)
{
    *section = (struct conf_section){.scope = scope};
}

struct conf_value *conf_section_get(const struct conf_section *section, unsigned def)
{
    if (section->by_def != NULL)
        return section->by_def[def];
    for (struct conf_value *v = section->first; v != NULL; v = v->next) {
        if (v->def == def)
            return v;
    }
    return NULL;
}

struct conf_value *conf_section_set(struct arena *arena, struct conf_section *section, unsigned def, const char *text,
                                    uint64_t number, struct conf_place place)
{
    struct conf_value *v = conf_section_get(section, def);
    if (v == NULL) {
        v = ARENA_NEW(arena, struct conf_value);
        v->def = (uint16_t)def;
        if (section->last == NULL)
            section->first = v;
        else
            section->last->next = v;
        section->last = v;
        section->count++;
        if (section->by_def != NULL) {
            section->by_def[def] = v;
        } else if (section->count > FEW) {
            section->by_def = ARENA_ARRAY(arena, struct conf_value *, section->scope->count);
            for (struct conf_value *each = section->first; each != NULL; each = each->next)
                section->by_def[each->def] = each;
        }
    }
    v->text = text;
    v->number = number;
    v->place = place;
    return v;
}

const char *conf_section_text(struct arena *arena, const struct conf_section *section,
                              const struct conf_builtin *builtin, unsigned def)
{
    const struct conf_value *v = conf_section_get(section, def);
    if (v != NULL)
        return v->text;
    const struct conf_def *d = &section->scope->defs[def];
    if (d->flags & CONF_UNSET)
        return NULL;
    if (builtin == NULL && (d->kind != CONF_DEF_VALUE || d->type != CONF_ENUM))
        return d->value;
    return arena_str(arena, conf_builtin_default(builtin, d));
}

/* ---- lists ------------------------------------------------------------------------------------------------------ */

struct conf_list *conf_section_list(const struct conf_section *section, unsigned def)
{
    return section->lists == NULL ? NULL : section->lists[def];
}

static struct conf_entry *find_entry(const struct conf_list *list, struct slice key)
{
    struct conf_entry *entry = NULL;
    if (list != NULL && key.size != 0)
        HASH_FIND(hh, list->by_key, key.at, key.size, entry);
    return entry;
}

struct conf_entry *conf_section_entry(struct arena *arena, struct conf_section *section, unsigned def,
                                      struct slice name, struct conf_place place, bool *existed)
{
    if (section->lists == NULL)
        section->lists = ARENA_ARRAY(arena, struct conf_list *, section->scope->count);
    struct conf_list *list = section->lists[def];
    if (list == NULL)
        list = section->lists[def] = ARENA_NEW(arena, struct conf_list);
    struct slice key = text_lowered(arena, name);
    struct conf_entry *entry = find_entry(list, key);
    *existed = entry != NULL;
    if (entry != NULL)
        return entry;
    const struct conf_scope *scope = conf_scope_block((enum conf_block_kind)section->scope->defs[def].id);
    entry = ARENA_NEW(arena, struct conf_entry);
    entry->name = arena_str(arena, name);
    entry->key = arena_str(arena, key);
    entry->index = list->count++;
    entry->place = place;
    conf_section_init(&entry->section, scope);
    if (list->last == NULL)
        list->first = entry;
    else
        list->last->next = entry;
    list->last = entry;
    if (key.size != 0)
        HASH_ADD_KEYPTR(hh, list->by_key, entry->key, key.size, entry);
    return entry;
}

struct conf_entry *conf_section_find_entry(const struct conf_section *section, unsigned def, const char *name)
{
    struct arena *scratch = arena_new();
    struct conf_entry *entry =
        find_entry(conf_section_list(section, def), text_lowered(scratch, slice_from_str(name)));
    arena_free(scratch);
    return entry;
}

struct conf_pair *conf_section_pair(const struct conf_section *section, enum conf_strlist which, const char *key)
{
    struct conf_pair *pair = NULL;
    if (section->pairs != NULL)
        HASH_FIND_STR(section->pairs[which].by_key, key, pair);
    return pair;
}

void conf_section_open_pairs(struct arena *arena, struct conf_section *section, enum conf_strlist which)
{
    if (section->pairs == NULL)
        section->pairs = ARENA_ARRAY(arena, struct conf_pairs, STRLISTS);
    section->pairs[which].opened = true;
}

void conf_section_set_pair(struct arena *arena, struct conf_section *section, enum conf_strlist which, const char *key,
                           const char *value, struct conf_place place)
{
    conf_section_open_pairs(arena, section, which);
    struct conf_pairs *pairs = &section->pairs[which];
    struct conf_pair *pair = conf_section_pair(section, which, key);
    if (pair == NULL) {
        pair = ARENA_NEW(arena, struct conf_pair);
        pair->key = arena_strdup(arena, key);
        if (pairs->last == NULL)
            pairs->first = pair;
        else
            pairs->last->next = pair;
        pairs->last = pair;
        HASH_ADD_KEYPTR(hh, pairs->by_key, pair->key, strlen(pair->key), pair);
    }
    pair->value = value;
    pair->place = place;
}

void conf_path_escape(struct buffer *out, const char *name)
{
    for (; *name != '\0'; name++) {
        switch (*name) {
        case '\\': buffer_append_str(out, "\\\\"); break;
        case '/': buffer_append_str(out, "\\s"); break;
        case '=': buffer_append_str(out, "\\e"); break;
        case ',': buffer_append_str(out, "\\+"); break;
        case ' ': buffer_append_str(out, "\\_"); break;
        default: buffer_append_byte(out, (unsigned char)*name); break;
        }
    }
}
