/* The schema as tables in memory, for those who read, check, merge or print whole configurations (the readers,
 * doveconf, the snapshot). Services need conf.h alone. */
#ifndef YARILO_CONF_SCHEMA_H
#define YARILO_CONF_SCHEMA_H

#include "conf/conf.h"

enum {
    CONF_HIDDEN = 1,   /* doveconf -a leaves it out unless assigned */
    CONF_IN_AUTH = 2,  /* auth knows it too: refused inside local, remote, local_name (config 3.2) */
    CONF_UNSET = 4,    /* has no default at all: printed only when assigned */
    CONF_OWN = 8,      /* not a setting of Dovecot: printed as a comment in Dovecot's form */
    CONF_NAME = 16     /* holds the section's name */
};

enum conf_group {
#define GROUP(name, modules) GROUP_##name,
#include "conf/groups.def"
    GROUPS
};

enum conf_def_kind { CONF_DEF_VALUE, CONF_DEF_BLOCKS, CONF_DEF_STRLIST };
enum conf_strlist { STRLIST_plugin, STRLIST_dict, STRLISTS };

struct conf_def {
    const char *name;
    const char *value;            /* default as text; for CONF_ENUM all words, the default first */
    uint8_t kind;                 /* enum conf_def_kind */
    uint8_t type;                 /* enum conf_type, of a value */
    uint8_t flags;
    uint8_t group;                /* enum conf_group; of members: their list's */
    uint16_t id;                  /* enum setting, conf_block_kind or conf_strlist, by kind; 0 for a member's value */
};

/* What can stand in one kind of section, in definition order. */
struct conf_scope {
    const struct conf_def *defs;
    uint16_t count;
    int16_t name_def;             /* the member that holds the section's name, or -1 */
    bool unique;                  /* the same name again is the same section (config 2) */
};

const struct conf_scope *conf_scope_global(void);
const struct conf_scope *conf_scope_block(enum conf_block_kind);
const char *conf_block_keyword(enum conf_block_kind);                 /* "passdb" */

/* -> place in scope->defs, or -1. */
int conf_scope_find(const struct conf_scope *, struct slice name);
int conf_setting_def(enum setting);                                   /* place in the global scope */
/* The default as text: of an enum its first word. */
struct slice conf_def_default(const struct conf_def *);

/* Does the module's program ask for the group? (config 8.1 -m) */
bool conf_group_in_module(enum conf_group, const char *module);
bool conf_module_known(const char *module);

/* Built-in services and their listeners (services.def). */
struct conf_builtin {
    const char *name;                    /* service name, listener path or name */
    enum conf_block_kind kind;
    const char *members;                 /* "member=value\n"... that differ from the plain defaults */
    bool one_process;                    /* services: process_limit must be 1 */
    uint8_t service;                     /* listeners: index of their service */
};
const struct conf_builtin *conf_builtin_services(size_t *n);
const struct conf_builtin *conf_builtin_listeners(size_t *n);         /* sorted as in services.def */
/* The built-in default of a member, or the plain one. */
struct slice conf_builtin_default(const struct conf_builtin *, const struct conf_def *);

/* Its value is hidden when settings are printed (config 8.8). */
bool conf_key_is_secret(const char *key);

/* Checks and brings into the form that is printed: "5m" -> "5 mins". *number as conf_parse_value. */
int conf_canonical_value(const struct conf_def *, const char *text, struct arena *, const char **canonical,
                         uint64_t *number, struct error *);
void conf_format_number(enum conf_type, uint64_t number, struct buffer *out);

#endif
