/* What a compiled configuration and merged settings look like inside: for this folder and its tests. */
#ifndef YARILO_CONF_SETTINGS_H
#define YARILO_CONF_SETTINGS_H

#include "conf/tree.h"

struct conf {
    int refs;                     /* the owner's, and one of every settings object made from it */
    struct conf_tree *tree;
    struct arena *scratch;        /* reset by every request */
    struct settings *cache;       /* by the levels that were merged */
    bool closed;
};

/* A value ready for use. */
struct conf_ready {
    const char *text;
    uint64_t number;
    bool assigned;
};

struct conf_ready_pair {
    const char *key, *value;
    bool overridden;
};

struct conf_blocks {
    const struct conf_block **at;
    size_t count;
};

struct conf_block {
    enum conf_block_kind kind;
    const char *name;
    const struct conf_scope *scope;
    struct conf_ready *values;    /* by place in the scope */
    struct conf_blocks *blocks;   /* BLOCK_KINDS of them; NULL when there are none */
};

/* Either merged (base NULL: all values stand here) or an overlay that says what differs from its base. */
struct settings {
    int refs;
    struct conf *conf;
    struct arena *arena;
    struct settings *base;
    struct conf_ready *values;              /* merged: by enum setting */
    struct settings_change *changes;        /* overlay */
    size_t change_count;
    struct conf_ready_pair *pairs[STRLISTS];
    size_t pair_count[STRLISTS];
    struct conf_blocks blocks[BLOCK_KINDS]; /* an overlay holds all lists, most of them its base's */
    const char *key;                        /* in the cache */
    UT_hash_handle hh;
};

struct settings_change {
    enum setting set;
    struct conf_ready value;
};

/* Takes the tree over. */
struct conf *conf_from_tree(struct conf_tree *);
const struct conf_tree *conf_tree_of(const struct conf *);
void conf_unref(struct conf *);
/* Makes the objects that the accessors read out of a merged section. */
struct settings *settings_build(struct conf *, const struct conf_section *merged);

/* The snapshot (docs/formats/snapshot.md). `service` NULL = everything. */
void conf_snapshot_write(const struct conf_tree *, const char *service, struct buffer *out);
struct conf_tree *conf_snapshot_read(struct slice, struct error *);
/* Modules whose settings a service may see, ended by NULL; NULL = all but the server's TLS keys. */
const char *const *conf_service_modules(const struct conf_tree *, const char *service);

#endif
