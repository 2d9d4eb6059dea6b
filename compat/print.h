/* Printing settings as doveconf does (config 8). */
#ifndef YARILO_COMPAT_PRINT_H
#define YARILO_COMPAT_PRINT_H

#include "conf/tree.h"

enum print_scope {
    PRINT_CHANGED,    /* -n */
    PRINT_SET,        /* -N */
    PRINT_ALL,        /* -a */
    PRINT_ALL_HIDDEN, /* -s */
    PRINT_ASSIGNED    /* inside filter blocks */
};

struct printer {
    struct arena *arena;
    enum print_scope scope;
    bool show_secrets;
    const char *const *modules; /* NULL = all */
    bool wire;                  /* print_machine: a LF inside a value is the byte 0x03 (ipc 4) */
    struct buffer *out;
};

/* Everything, sorted; own keys of this server as comments. `indent`: levels of filter blocks around. */
void print_settings(const struct printer *, const struct conf_section *, unsigned indent);
/* The blocks that fit the request. */
void print_filters(const struct printer *, const struct conf_tree *, const struct conf_facts *request);
/* All levels but the global one, in the order in which they are printed. */
size_t print_order_filters(struct arena *, const struct conf_tree *, struct conf_level ***blocks);
/* doveconf NAME. True when NAME is a section that was printed. */
bool print_name(const struct printer *, const struct conf_section *, const char *name, bool value_only);
/* doveconf -S; `names` NULL-ended, empty = all. */
void print_machine(const struct printer *, const struct conf_section *, char *const *names);
/* doveconf -e: NAME=value for every assigned setting. */
void print_environment(const struct printer *, const struct conf_section *, void (*see)(void *, const char *pair),
                       void *arg);

/* ---- shared by print*.c ----------------------------------------------------------------------------------------- */

/* A section on the way to an item. */
struct print_node {
    const struct print_node *parent;
    const char *keyword, *name; /* "" = unnamed */
    const char *path;
    unsigned depth;
    bool *named;                /* its name stands among the printed items */
};

struct print_item {
    const char *path;           /* escaped, full */
    const char *key;
    const char *value;          /* NULL = the name of its section */
    const struct print_node *node;
    bool own;                   /* not a setting of Dovecot */
};

struct print_items {
    struct print_item *at;
    size_t count, room;
};

/* In definition order. `plain_defaults`: built-in services are compared with the plain defaults (-S). */
void print_gather(const struct printer *, const struct conf_section *, bool plain_defaults, struct print_items *);
/* The value as it is printed: secrets hidden, quotes where they are needed. */
void print_value(const struct printer *, const char *key, const char *value);

#endif
