/* A whole configuration as its file said it: levels (the global one and one per filter), each with sparse values.
 *
 * Readers fill a tree, the checks and doveconf walk it, the snapshot is its text form, and conf_settings merges the
 * levels that match a request (config 3). A value costs 48 bytes, a level about 200: a thousand local_name blocks
 * are small. Everything lives in the tree's arena. */
#ifndef YARILO_CONF_TREE_H
#define YARILO_CONF_TREE_H

#include "conf/schema.h"

#include <uthash.h>

/* Where something stood. */
struct conf_place {
    const char *file;
    uint32_t line;
};

struct conf_value {
    struct conf_value *next;
    const char *text;             /* canonical form (config 8.4) */
    uint64_t number;
    struct conf_place place;
    uint16_t def;                 /* place in the scope */
    bool copied;                  /* merged: came with a section that only a less specific level has (for printing) */
};

struct conf_pair {
    struct conf_pair *next;
    const char *key, *value;
    struct conf_place place;
    UT_hash_handle hh;
};

struct conf_pairs {
    struct conf_pair *first, *last, *by_key;
    bool opened;                  /* the section stands in the file, even if empty */
};

struct conf_section {
    const struct conf_scope *scope;
    struct conf_value *first, *last;
    unsigned count;
    struct conf_value **by_def;   /* once there are more than a few */
    struct conf_list **lists;     /* by place in the scope; NULL when there are none */
    struct conf_pairs *pairs;     /* STRLISTS of them, top level only; NULL when there are none */
};

struct conf_entry {
    struct conf_entry *next;
    const char *name;             /* "" = unnamed */
    const char *key;              /* lower case; what the same section again is found by */
    unsigned index;               /* in its list */
    const struct conf_builtin *builtin;
    bool copied;                  /* as of a value */
    struct conf_place place;
    struct conf_section section;
    UT_hash_handle hh;
};

struct conf_list {
    struct conf_entry *first, *last, *by_key;
    unsigned count;
};

struct conf_net {
    unsigned char address[16];
    unsigned char family;         /* 0 = not given, 4, 6 */
    unsigned char bits;
};

/* The conditions of a filter, or the facts of a request. */
struct conf_facts {
    const char *service;          /* of a filter also "!name"; NULL = not given */
    const char *local_name;
    struct conf_net local, remote;
};

struct conf_level {
    struct conf_level *next, *parent;
    struct conf_facts facts;
    unsigned number;              /* order of first appearance; 0 = global */
    struct conf_place place;
    struct conf_section section;
    UT_hash_handle hh;
};

struct conf_tree {
    struct arena *arena;
    const char *path;             /* main file as given */
    struct conf_level *global;    /* first of all levels */
    struct conf_level *last, *by_facts;
    unsigned levels;
};

struct conf_tree *conf_tree_new(const char *path);
void conf_tree_free(struct conf_tree *);

/* The level with these conditions (equal ones are one filter, config 3.1). Copies the facts. */
struct conf_level *conf_tree_level(struct conf_tree *, struct conf_level *parent, const struct conf_facts *,
                                   struct conf_place);

void conf_section_init(struct conf_section *, const struct conf_scope *);
struct conf_value *conf_section_get(const struct conf_section *, unsigned def);      /* NULL = not there */
/* Adds or replaces; `text` must live as long as the arena. */
struct conf_value *conf_section_set(struct arena *, struct conf_section *, unsigned def, const char *text,
                                    uint64_t number, struct conf_place);
struct conf_list *conf_section_list(const struct conf_section *, unsigned def);      /* NULL = no entries */
/* The entry of that name (unique lists) or a new one; an empty name is always a new one. */
struct conf_entry *conf_section_entry(struct arena *, struct conf_section *, unsigned def, struct slice name,
                                      struct conf_place, bool *existed);
struct conf_entry *conf_section_find_entry(const struct conf_section *, unsigned def, const char *name);
/* "plugin {": makes the list exist. */
void conf_section_open_pairs(struct arena *, struct conf_section *, enum conf_strlist);
struct conf_pair *conf_section_pair(const struct conf_section *, enum conf_strlist, const char *key);
void conf_section_set_pair(struct arena *, struct conf_section *, enum conf_strlist, const char *key, const char *value,
                           struct conf_place);
/* Value or default, as text. NULL: unset and without default. */
const char *conf_section_text(struct arena *, const struct conf_section *, const struct conf_builtin *, unsigned def);

/* "a/b=c" -> "a\sb\ec": a name as part of a full path (config 2). */
void conf_path_escape(struct buffer *out, const char *name);

/* ---- addresses -------------------------------------------------------------------------------------------------- */

/* "10.0.0.0/8", "::1", "[::1]", "host/32" (resolved). */
int conf_net_parse(const char *text, struct conf_net *, struct error *);
bool conf_net_parse_ip(const char *text, struct conf_net *);       /* a literal address only; all bits */
void conf_net_format(const struct conf_net *, struct buffer *out); /* without the bits when they are all */
bool conf_net_inside(const struct conf_net *inner, const struct conf_net *outer);
bool conf_net_equal(const struct conf_net *, const struct conf_net *);

/* ---- merging ---------------------------------------------------------------------------------------------------- */

bool conf_facts_match(const struct conf_facts *filter, const struct conf_facts *request);
/* All levels that match, most specific first (the global one is last). -> count. */
size_t conf_tree_matching(const struct conf_tree *, const struct conf_facts *request, struct arena *,
                          struct conf_level ***levels);
/* Merges them into *out (config 3.3), with the built-in services in front. -1: conflict, *e has the text; what was
 * merged is there all the same. */
int conf_merge(struct arena *, struct conf_level *const *levels, size_t n, struct conf_section *out, struct error *);

#endif
