/* dovecot.list.index, as list_index.c and list_layout.c share it. */
#ifndef YARILO_STORE_LIST_INDEX_H
#define YARILO_STORE_LIST_INDEX_H

#include "store/internal.h"
#include "store/list_tree.h"

enum { EXT_LIST, EXT_MSGS, EXT_MODSEQ, EXT_VSIZE, EXT_SYNC, EXT_DRIVER, EXT_SUBS, EXT_COUNT };

struct list_index {
    struct index *index;
    unsigned ext[EXT_COUNT];
    struct arena *arena;           /* names of the tree */
    struct list_tree tree;
    bool tree_known;
    uint64_t generation;           /* of the index, for which the tree was built */
    uint64_t looked_at;            /* monotonic, ns: when rows were last read from the disk */
};

/* NULL: not used, or not there and not to be made. */
struct list_index *list_index_open(struct mail_storage *, bool create);
/* The tree as it is on the disk now. */
int list_index_refresh(struct list_index *, struct error *);
/* The tree of the index's state, for the holder of the lock. */
int list_index_load(struct list_index *, struct error *);
/* The node of a storage name; parts of the tree have no escapes. NULL: none. */
struct list_node *list_index_node(struct list_index *, const struct mail_storage *, const char *name);

#endif
