/* A YAML document as a tree of nodes that know where they stood (config-yaml 1). */
#ifndef YARILO_CONF_YAML_NODE_H
#define YARILO_CONF_YAML_NODE_H

#include "base/error.h"
#include "base/mem.h"
#include "base/slice.h"

struct yaml_node;

struct yaml_pair {
    struct yaml_pair *next;
    const char *key;
    unsigned key_line, key_column;
    struct yaml_node *value;
};

enum yaml_kind { YAML_TEXT, YAML_MAP, YAML_LIST };

struct yaml_node {
    enum yaml_kind kind;
    const char *file;
    unsigned line, column;        /* from 1 */
    const char *text;             /* YAML_TEXT: ${NAME} is resolved */
    bool null;                    /* an empty plain scalar, or ~ */
    struct yaml_pair *first, *last;           /* YAML_MAP, in order */
    struct yaml_node *items, *last_item;      /* YAML_LIST */
    struct yaml_node *next;                   /* in its list */
};

/* Where faults go: all of them are found, not only the first. */
struct yaml_faults {
    struct arena *arena;
    VEC(const char *) texts;      /* "FILE:LINE:COLUMN: ..." */
};

void yaml_fault(struct yaml_faults *, const char *file, unsigned line, unsigned column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* One document. NULL: it is none (the reason is a fault). A missing ${NAME} is a fault too. `path` "" = no name. */
struct yaml_node *yaml_parse(struct slice text, const char *path, struct arena *, struct yaml_faults *);
/* With its `include:` globs merged in. NULL with *e: the file cannot be read. */
struct yaml_node *yaml_load(const char *path, struct arena *, struct yaml_faults *, struct error *);
struct yaml_node *yaml_get(const struct yaml_node *map, const char *key);

#endif
