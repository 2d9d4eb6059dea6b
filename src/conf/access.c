/* The accessors of conf.h. A wrong setting type or member name is a bug of the caller: log and abort. */
#include "base/log.h"
#include "conf/settings.h"

#include <stdlib.h>

static void refuse(const char *name, const char *what)
{
    log_write(NULL, LOG_LEVEL_PANIC, "setting %s: %s", name, what);
    abort();
}

static const struct conf_ready *find_value(const struct settings *set, enum setting id)
{
    for (; set->base != NULL; set = set->base) {
        for (size_t i = 0; i < set->change_count; i++) {
            if (set->changes[i].set == id)
                return &set->changes[i].value;
        }
    }
    return &set->values[id];
}

static const struct conf_ready *typed_value(const struct settings *set, enum setting id, unsigned types)
{
    const struct conf_def *def = &conf_scope_global()->defs[conf_setting_def(id)];
    if ((types & 1U << def->type) == 0)
        refuse(def->name, "read as another type");
    return find_value(set, id);
}

enum {
    AS_TEXT = 1 << CONF_STR | 1 << CONF_STR_VARS | 1 << CONF_ENUM,
    AS_UINT = 1 << CONF_UINT | 1 << CONF_OCTAL | 1 << CONF_PORT
};

bool conf_bool(const struct settings *set, enum setting id)
{
    return typed_value(set, id, 1 << CONF_BOOL)->number != 0;
}

unsigned conf_uint(const struct settings *set, enum setting id)
{
    return (unsigned)typed_value(set, id, AS_UINT)->number;
}

uint64_t conf_size(const struct settings *set, enum setting id)
{
    return typed_value(set, id, 1 << CONF_SIZE)->number;
}

unsigned conf_secs(const struct settings *set, enum setting id)
{
    return (unsigned)typed_value(set, id, 1 << CONF_TIME)->number;
}

unsigned conf_msecs(const struct settings *set, enum setting id)
{
    uint64_t n = typed_value(set, id, 1 << CONF_TIME | 1 << CONF_TIME_MSECS)->number;
    if (conf_scope_global()->defs[conf_setting_def(id)].type == CONF_TIME)
        n = n > UINT32_MAX / 1000 ? UINT32_MAX : n * 1000;
    return (unsigned)n;
}

const char *conf_str(const struct settings *set, enum setting id)
{
    return typed_value(set, id, AS_TEXT)->text;
}

const char *conf_text(const struct settings *set, enum setting id)
{
    return find_value(set, id)->text;
}

bool conf_assigned(const struct settings *set, enum setting id)
{
    return find_value(set, id)->assigned;
}

bool conf_overridden(const struct settings *set, enum setting id)
{
    for (; set->base != NULL; set = set->base) {
        for (size_t i = 0; i < set->change_count; i++) {
            if (set->changes[i].set == id)
                return true;
        }
    }
    return false;
}

/* ---- plugin, dict ----------------------------------------------------------------------------------------------- */

static const struct conf_ready_pair *find_pair(const struct settings *set, enum conf_strlist which, const char *key)
{
    for (; set != NULL; set = set->base) {
        for (size_t i = 0; i < set->pair_count[which]; i++) {
            if (strcmp(set->pairs[which][i].key, key) == 0)
                return &set->pairs[which][i];
        }
    }
    return NULL;
}

static bool pair_at(const struct settings *set, enum conf_strlist which, size_t i, const char **key, const char **value)
{
    /* Overlays first, then the base, without what an overlay has replaced. */
    for (const struct settings *at = set; at != NULL; at = at->base) {
        for (size_t k = 0; k < at->pair_count[which]; k++) {
            const struct conf_ready_pair *pair = &at->pairs[which][k];
            if (at != set && find_pair(set, which, pair->key) != pair)
                continue;
            if (i-- == 0) {
                *key = pair->key;
                *value = pair->value;
                return true;
            }
        }
    }
    return false;
}

bool conf_imap_extension(const struct settings *set, const char *name)
{
    struct slice rest = slice_from_str(conf_str(set, SET_imap_capability)), word;

    if (rest.size > 0 && rest.at[0] == '+')
        rest = slice_from(rest, 1);
    while (rest.size > 0 && slice_split(&rest, ' ', &word)) {
        if (slice_equal_str_nocase(word, name))
            return true;
    }
    return false;
}

const char *conf_plugin(const struct settings *set, const char *key)
{
    const struct conf_ready_pair *pair = find_pair(set, STRLIST_plugin, key);
    return pair == NULL ? NULL : pair->value;
}

bool conf_plugin_bool(const struct settings *set, const char *key)
{
    const char *value = conf_plugin(set, key);
    return value != NULL && (value[0] == '\0' || strchr("nN0fF", value[0]) == NULL);
}

bool conf_plugin_overridden(const struct settings *set, const char *key)
{
    const struct conf_ready_pair *pair = find_pair(set, STRLIST_plugin, key);
    return pair != NULL && pair->overridden;
}

const char *conf_dict(const struct settings *set, const char *key)
{
    const struct conf_ready_pair *pair = find_pair(set, STRLIST_dict, key);
    return pair == NULL ? NULL : pair->value;
}

bool conf_plugin_at(const struct settings *set, size_t i, const char **key, const char **value)
{
    return pair_at(set, STRLIST_plugin, i, key, value);
}

bool conf_dict_at(const struct settings *set, size_t i, const char **key, const char **value)
{
    return pair_at(set, STRLIST_dict, i, key, value);
}

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

const struct conf_block *const *conf_blocks(const struct settings *set, enum conf_block_kind kind, size_t *n)
{
    *n = set->blocks[kind].count;
    return set->blocks[kind].at;
}

const struct conf_block *const *conf_block_blocks(const struct conf_block *block, enum conf_block_kind kind, size_t *n)
{
    *n = block->blocks == NULL ? 0 : block->blocks[kind].count;
    return *n == 0 ? NULL : block->blocks[kind].at;
}

const struct conf_block *conf_block_find(const struct settings *set, enum conf_block_kind kind, const char *name)
{
    for (size_t i = 0; i < set->blocks[kind].count; i++) {
        if (strcmp(set->blocks[kind].at[i]->name, name) == 0)
            return set->blocks[kind].at[i];
    }
    return NULL;
}

const char *conf_block_name(const struct conf_block *block)
{
    return block->name;
}

static const struct conf_ready *member_value(const struct conf_block *block, const char *member, unsigned types)
{
    int def = conf_scope_find(block->scope, slice_from_str(member));
    if (def < 0 || block->scope->defs[def].kind != CONF_DEF_VALUE || (types & 1U << block->scope->defs[def].type) == 0)
        refuse(member, "no such member of this type");
    return &block->values[def];
}

const char *conf_block_str(const struct conf_block *block, const char *member)
{
    return member_value(block, member, AS_TEXT)->text;
}

bool conf_block_bool(const struct conf_block *block, const char *member)
{
    return member_value(block, member, 1 << CONF_BOOL)->number != 0;
}

unsigned conf_block_uint(const struct conf_block *block, const char *member)
{
    return (unsigned)member_value(block, member, AS_UINT)->number;
}

uint64_t conf_block_size(const struct conf_block *block, const char *member)
{
    return member_value(block, member, 1 << CONF_SIZE)->number;
}

unsigned conf_block_secs(const struct conf_block *block, const char *member)
{
    return (unsigned)member_value(block, member, 1 << CONF_TIME)->number;
}

unsigned conf_block_msecs(const struct conf_block *block, const char *member)
{
    return (unsigned)member_value(block, member, 1 << CONF_TIME_MSECS)->number;
}

bool conf_block_assigned(const struct conf_block *block, const char *member)
{
    return member_value(block, member, ~0U)->assigned;
}
