/* Settings for a request: merged once per set of matching levels, then shared (conf.h). */
#include "conf/settings.h"

struct conf *conf_from_tree(struct conf_tree *tree)
{
    struct conf *conf = mem_zero(1, sizeof(*conf));
    conf->refs = 1;
    conf->tree = tree;
    conf->scratch = arena_new();
    return conf;
}

void conf_unref(struct conf *conf)
{
    if (--conf->refs > 0)
        return;
    conf_tree_free(conf->tree);
    arena_free(conf->scratch);
    mem_free(conf);
}

void conf_free(struct conf *conf)
{
    if (conf == NULL)
        return;
    struct settings *set, *next;
    HASH_ITER(hh, conf->cache, set, next) {
        HASH_DEL(conf->cache, set);
        settings_unref(set);
    }
    conf->closed = true;
    conf_unref(conf);
}

const struct conf_tree *conf_tree_of(const struct conf *conf)
{
    return conf->tree;
}

const char *conf_path(const struct conf *conf)
{
    return conf->tree->path;
}

/* ---- building --------------------------------------------------------------------------------------------------- */

static struct conf_ready ready_value(struct arena *arena, const struct conf_section *section,
                                     const struct conf_builtin *builtin, unsigned def)
{
    const struct conf_value *v = conf_section_get(section, def);
    if (v != NULL)
        return (struct conf_ready){v->text, v->number, true};
    struct conf_ready ready = {conf_section_text(arena, section, builtin, def), 0, false};
    const struct conf_def *d = &section->scope->defs[def];
    struct error ignored;
    if (ready.text == NULL)
        ready.text = "";
    else
        (void)conf_parse_value((enum conf_type)d->type, d->value, ready.text, &ready.number, &ignored);
    return ready;
}

static struct conf_blocks build_blocks(struct arena *, const struct conf_list *, enum conf_block_kind);

static const struct conf_block *build_block(struct arena *arena, const struct conf_entry *entry,
                                            enum conf_block_kind kind)
{
    struct conf_block *block = ARENA_NEW(arena, struct conf_block);
    const struct conf_section *section = &entry->section;
    block->kind = kind;
    block->scope = section->scope;
    block->values = ARENA_ARRAY(arena, struct conf_ready, section->scope->count);
    for (unsigned def = 0; def < section->scope->count; def++) {
        const struct conf_def *d = &section->scope->defs[def];
        if (d->kind == CONF_DEF_VALUE) {
            block->values[def] = ready_value(arena, section, entry->builtin, def);
            continue;
        }
        if (block->blocks == NULL)
            block->blocks = ARENA_ARRAY(arena, struct conf_blocks, BLOCK_KINDS);
        block->blocks[d->id] = build_blocks(arena, conf_section_list(section, def), (enum conf_block_kind)d->id);
    }
    const struct conf_value *renamed = conf_section_get(section, (unsigned)section->scope->name_def);
    block->name = arena_strdup(arena, renamed != NULL ? renamed->text : entry->name);
    block->values[section->scope->name_def] = (struct conf_ready){block->name, 0, block->name[0] != '\0'};
    return block;
}

static struct conf_blocks build_blocks(struct arena *arena, const struct conf_list *list, enum conf_block_kind kind)
{
    struct conf_blocks blocks = {0};
    if (list == NULL)
        return blocks;
    blocks.at = (const struct conf_block **)arena_array(arena, list->count, sizeof(*blocks.at));
    for (const struct conf_entry *entry = list->first; entry != NULL; entry = entry->next)
        blocks.at[blocks.count++] = build_block(arena, entry, kind);
    return blocks;
}

static void build_pairs(struct settings *set, const struct conf_section *merged)
{
    for (int which = 0; merged->pairs != NULL && which < STRLISTS; which++) {
        size_t n = 0;
        for (const struct conf_pair *p = merged->pairs[which].first; p != NULL; p = p->next)
            n++;
        set->pairs[which] = ARENA_ARRAY(set->arena, struct conf_ready_pair, n);
        for (const struct conf_pair *p = merged->pairs[which].first; p != NULL; p = p->next)
            set->pairs[which][set->pair_count[which]++] =
                (struct conf_ready_pair){arena_strdup(set->arena, p->key), p->value, false};
    }
}

struct settings *settings_build(struct conf *conf, const struct conf_section *merged)
{
    struct arena *arena = arena_new();
    struct settings *set = ARENA_NEW(arena, struct settings);
    set->refs = 1;
    set->arena = arena;
    set->conf = conf;
    conf->refs++;
    set->values = ARENA_ARRAY(arena, struct conf_ready, SETTINGS);
    for (unsigned def = 0; def < merged->scope->count; def++) {
        const struct conf_def *d = &merged->scope->defs[def];
        if (d->kind == CONF_DEF_VALUE)
            set->values[d->id] = ready_value(arena, merged, NULL, def);
        else if (d->kind == CONF_DEF_BLOCKS)
            set->blocks[d->id] = build_blocks(arena, conf_section_list(merged, def), (enum conf_block_kind)d->id);
    }
    build_pairs(set, merged);
    return set;
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static struct conf_facts filter_facts(const struct conf_filter *filter)
{
    struct conf_facts facts = {0};
    if (filter == NULL)
        return facts;
    facts.service = filter->service;
    facts.local_name = filter->local_name;
    if (filter->local_ip != NULL)
        (void)conf_net_parse_ip(filter->local_ip, &facts.local);
    if (filter->remote_ip != NULL)
        (void)conf_net_parse_ip(filter->remote_ip, &facts.remote);
    return facts;
}

struct settings *conf_settings(struct conf *conf, const struct conf_filter *filter, struct error *e)
{
    struct conf_facts facts = filter_facts(filter);
    struct conf_level **levels;
    size_t n = conf_tree_matching(conf->tree, &facts, conf->scratch, &levels);
    struct buffer key = {0};
    for (size_t i = 0; i < n; i++)
        buffer_printf(&key, "%u ", levels[i]->number);
    struct settings *set;
    HASH_FIND(hh, conf->cache, key.at, key.size, set);
    if (set == NULL) {
        struct conf_section merged;
        if (conf_merge(conf->scratch, levels, n, &merged, e) == 0) {
            set = settings_build(conf, &merged);
            set->key = arena_str(set->arena, buffer_slice(&key));
            HASH_ADD_KEYPTR(hh, conf->cache, set->key, key.size, set);
        }
    }
    buffer_free(&key);
    /* Texts of values live in the tree or in the settings' own arena, never in the scratch. */
    arena_reset(conf->scratch);
    return set == NULL ? NULL : settings_ref(set);
}

struct settings *settings_ref(struct settings *set)
{
    set->refs++;
    return set;
}

void settings_unref(struct settings *set)
{
    while (set != NULL && --set->refs == 0) {
        struct settings *base = set->base;
        struct conf *conf = set->conf;
        arena_free(set->arena);
        conf_unref(conf);
        set = base;
    }
}

static bool applies_to(const struct conf_level *level, const char *service)
{
    const char *tested = level->facts.service;
    if (tested == NULL || service == NULL)
        return true;
    return tested[0] == '!' ? strcmp(tested + 1, service) != 0 : strcmp(tested, service) == 0;
}

bool conf_uses_local(const struct conf *conf, const char *service)
{
    for (const struct conf_level *l = conf->tree->global; l != NULL; l = l->next) {
        if (l->facts.local.bits != 0 && applies_to(l, service))
            return true;
    }
    return false;
}

bool conf_uses_remote(const struct conf *conf, const char *service)
{
    for (const struct conf_level *l = conf->tree->global; l != NULL; l = l->next) {
        if (l->facts.remote.bits != 0 && applies_to(l, service))
            return true;
    }
    return false;
}

bool conf_uses_local_name(const struct conf *conf, const char *service)
{
    for (const struct conf_level *l = conf->tree->global; l != NULL; l = l->next) {
        if (l->facts.local_name != NULL && applies_to(l, service))
            return true;
    }
    return false;
}
