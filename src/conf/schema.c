/* The tables of schema.h, made from schema.def, groups.def and services.def.
 *
 * Everything is constant data, so that all programs share the pages; the only work at run time is the search for a
 * name, by bisection in an index that is sorted when it is first needed. */
#include "conf/schema.h"

#include <stdlib.h>

static const struct conf_def global_defs[] = {
#define SETTING(name, type, value, group, flags) \
    {#name, value, CONF_DEF_VALUE, type, flags, GROUP_##group, SET_##name},
#define OWN_SETTING(id, path, type, value, flags) \
    {path, value, CONF_DEF_VALUE, type, (flags) | CONF_OWN, GROUP_service, SET_##id},
#define BLOCK(name, kind, group, flags) {#name, "", CONF_DEF_BLOCKS, 0, flags, GROUP_##group, kind},
#define STRLIST(name, group, flags) {#name, "", CONF_DEF_STRLIST, 0, flags, GROUP_##group, STRLIST_##name},
#include "conf/schema.def"
};

enum { GROUP_OF_PASSDB = GROUP_auth, GROUP_OF_USERDB = GROUP_auth, GROUP_OF_NAMESPACE = GROUP_mail,
       GROUP_OF_MAILBOX = GROUP_mail, GROUP_OF_SERVICE = GROUP_master, GROUP_OF_UNIX_LISTENER = GROUP_master,
       GROUP_OF_FIFO_LISTENER = GROUP_master, GROUP_OF_INET_LISTENER = GROUP_master, GROUP_OF_METRIC = GROUP_stats,
       GROUP_OF_EVENT_EXPORTER = GROUP_stats };

/* All members of all kinds stand in one array, kind after kind; the counts cut it into scopes. */
static const struct conf_def member_defs[] = {
#define MEMBER(kind, name, type, value, flags) {#name, value, CONF_DEF_VALUE, type, flags, GROUP_OF_##kind, 0},
#define MEMBER_BLOCK(kind, name, subkind) {#name, "", CONF_DEF_BLOCKS, 0, 0, GROUP_OF_##kind, subkind},
#include "conf/schema.def"
};

static const uint8_t member_kinds[] = {
#define MEMBER(kind, name, type, value, flags) BLOCK_##kind,
#define MEMBER_BLOCK(kind, name, subkind) BLOCK_##kind,
#include "conf/schema.def"
};

static const char *const keywords[BLOCK_KINDS] = {
    "passdb", "userdb", "namespace", "mailbox", "service", "unix_listener", "fifo_listener", "inet_listener", "metric",
    "event_exporter"
};

static const char *const group_modules[GROUPS] = {
#define GROUP(name, modules) [GROUP_##name] = modules,
#include "conf/groups.def"
};

enum { GLOBAL_DEFS = sizeof(global_defs) / sizeof(global_defs[0]),
       MEMBER_DEFS = sizeof(member_defs) / sizeof(member_defs[0]) };

static struct {
    bool made;
    struct conf_scope global, blocks[BLOCK_KINDS];
    uint16_t by_name[GLOBAL_DEFS];
    uint16_t by_setting[SETTINGS];
} index_of;

static int compare_names(const void *a, const void *b)
{
    return strcmp(global_defs[*(const uint16_t *)a].name, global_defs[*(const uint16_t *)b].name);
}

static void make_index(void)
{
    if (index_of.made)
        return;
    index_of.global = (struct conf_scope){global_defs, GLOBAL_DEFS, -1, true};
    for (uint16_t i = 0; i < GLOBAL_DEFS; i++) {
        index_of.by_name[i] = i;
        if (global_defs[i].kind == CONF_DEF_VALUE)
            index_of.by_setting[global_defs[i].id] = i;
    }
    qsort(index_of.by_name, GLOBAL_DEFS, sizeof(index_of.by_name[0]), compare_names);
    for (uint16_t i = 0; i < MEMBER_DEFS;) {
        uint16_t first = i;
        struct conf_scope *scope = &index_of.blocks[member_kinds[first]];
        *scope = (struct conf_scope){&member_defs[first], 0, -1, true};
        scope->unique = member_kinds[first] != BLOCK_PASSDB && member_kinds[first] != BLOCK_USERDB;
        for (; i < MEMBER_DEFS && member_kinds[i] == member_kinds[first]; i++) {
            if (member_defs[i].flags & CONF_NAME)
                scope->name_def = (int16_t)(i - first);
            scope->count++;
        }
    }
    index_of.made = true;
}

const struct conf_scope *conf_scope_global(void)
{
    make_index();
    return &index_of.global;
}

const struct conf_scope *conf_scope_block(enum conf_block_kind kind)
{
    make_index();
    return &index_of.blocks[kind];
}

const char *conf_block_keyword(enum conf_block_kind kind)
{
    return keywords[kind];
}

static int compare_slice(struct slice a, const char *name)
{
    return slice_compare(a, slice_from_str(name));
}

int conf_scope_find(const struct conf_scope *scope, struct slice name)
{
    if (scope->defs != global_defs) {
        for (int i = 0; i < scope->count; i++) {
            if (slice_equal_str(name, scope->defs[i].name))
                return i;
        }
        return -1;
    }
    size_t low = 0, high = GLOBAL_DEFS;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_slice(name, global_defs[index_of.by_name[middle]].name);
        if (order == 0)
            return index_of.by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

int conf_setting_def(enum setting set)
{
    make_index();
    return index_of.by_setting[set];
}

struct slice conf_def_default(const struct conf_def *def)
{
    struct slice all = slice_from_str(def->value);
    if (def->type != CONF_ENUM || def->kind != CONF_DEF_VALUE)
        return all;
    struct slice word = all;
    (void)slice_split(&all, '|', &word);
    return word;
}

const char *conf_name(enum setting set)
{
    return global_defs[conf_setting_def(set)].name;
}

bool conf_find(const char *name, enum setting *set)
{
    int i = conf_scope_find(conf_scope_global(), slice_from_str(name));
    if (i < 0 || global_defs[i].kind != CONF_DEF_VALUE)
        return false;
    *set = (enum setting)global_defs[i].id;
    return true;
}

bool conf_group_in_module(enum conf_group group, const char *module)
{
    return group_modules[group][0] == '*' || slice_has_word(slice_from_str(group_modules[group]), slice_from_str(module));
}

bool conf_module_known(const char *module)
{
    for (int g = 0; g < GROUPS; g++) {
        if (slice_has_word(slice_from_str(group_modules[g]), slice_from_str(module)))
            return true;
    }
    return false;
}

bool conf_key_is_secret(const char *key)
{
    static const char *const suffixes[] = {"_password", "_key", "_nonce"};
    size_t size = strlen(key);
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        size_t end = strlen(suffixes[i]);
        if (size > end && strcmp(key + size - end, suffixes[i]) == 0)
            return true;
    }
    return strncmp(key, "ssl_dh", 6) == 0;
}

/* ---- built-in services ------------------------------------------------------------------------------------------ */

static const struct conf_builtin services[] = {
#define SERVICE(name, one, members) {name, BLOCK_SERVICE, members, one, 0},
#include "conf/services.def"
};

enum { SERVICE_COUNT = sizeof(services) / sizeof(services[0]) };

static const struct {
    const char *service;
    struct conf_builtin builtin;
} listeners[] = {
#define LISTENER(service, kind, path, mode, user, group) \
    {service, {path, BLOCK_##kind##_LISTENER, "mode=" mode "\nuser=" user "\ngroup=" group "\n", false, 0}},
#define INET(service, name, port, ssl) {service, {name, BLOCK_INET_LISTENER, "port=" port "\nssl=" ssl "\n", false, 0}},
#include "conf/services.def"
};

enum { LISTENER_COUNT = sizeof(listeners) / sizeof(listeners[0]) };

const struct conf_builtin *conf_builtin_services(size_t *n)
{
    *n = SERVICE_COUNT;
    return services;
}

const struct conf_builtin *conf_builtin_listeners(size_t *n)
{
    static struct conf_builtin table[LISTENER_COUNT];
    if (table[0].name == NULL) {
        for (size_t i = 0; i < LISTENER_COUNT; i++) {
            table[i] = listeners[i].builtin;
            while (strcmp(services[table[i].service].name, listeners[i].service) != 0)
                table[i].service++;
        }
    }
    *n = LISTENER_COUNT;
    return table;
}

struct slice conf_builtin_default(const struct conf_builtin *builtin, const struct conf_def *def)
{
    if (builtin != NULL) {
        struct slice rest = slice_from_str(builtin->members), line;
        struct slice name = slice_from_str(def->name);
        while (slice_split(&rest, '\n', &line)) {
            if (slice_starts(line, name) && line.size > name.size && line.at[name.size] == '=')
                return slice_from(line, name.size + 1);
        }
        if (def->flags & CONF_NAME)
            return slice_from_str(builtin->name);
    }
    return conf_def_default(def);
}
