/* The tree of names in dovecot.list.index: its header extension and its records, as values (index-format 11.1). */
#ifndef YARILO_STORE_LIST_TREE_H
#define YARILO_STORE_LIST_TREE_H

#include "base/base.h"

enum { LIST_NODE_NOINFERIORS = 0x01, LIST_NODE_NONEXISTENT = 0x04, LIST_NODE_CORRUPTED_NAME = 0x08, LIST_NODE_NOSELECT = 0x10 };

struct list_name {
    uint32_t id;
    const char *name;              /* one part of a storage name */
};
struct list_node {
    uint32_t uid, parent_uid, name_id;
    const char *name;
    uint8_t flags;
    bool wanted;                   /* of a comparison */
};
struct list_tree {
    bool refresh;
    struct list_name *names;       /* ascending ids */
    size_t name_count, name_room;
    struct list_node *at;          /* sorted by parent, then name */
    size_t count, room;
};

/* The header extension: refresh flag, then {u32 id, name NUL}, ended by id 0. ERROR_CORRUPT with Dovecot's words. */
int list_tree_parse_header(struct list_tree *, struct slice header, struct arena *, struct error *);
/* A record; the names must be parsed. ERROR_CORRUPT. */
int list_tree_add(struct list_tree *, uint32_t uid, uint8_t flags, struct slice record, struct error *);
/* After the last record: order, parents, loops, doubles. ERROR_CORRUPT. */
int list_tree_finish(struct list_tree *, struct error *);
struct list_node *list_tree_child(struct list_tree *, uint32_t parent_uid, struct slice name);
/* By a whole storage name. NULL: not there. */
struct list_node *list_tree_find(struct list_tree *, const char *name, char separator);
void list_tree_put_header(const struct list_tree *, struct buffer *out);
void list_tree_free(struct list_tree *);

#endif
