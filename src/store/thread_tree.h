/* Threads inside: what is read of the messages (thread.c), and the trees that are built of it (thread_tree.c). */
#ifndef YARILO_STORE_THREAD_TREE_H
#define YARILO_STORE_THREAD_TREE_H

#include "store/thread.h"

enum { THREAD_DEPTH_MAX = 1000 };

struct thread_entry {              /* a message of the result */
    uint32_t seq;
    bool reply, no_subject;        /* of the base subject; with ranks only for those that thread_doubtful names */
    int64_t date;
    uint64_t subject;              /* number of the base subject: equal ones are equal, and in their order */
    struct slice id;
    struct slice *references;
    size_t count;
};

/* The roots, missing messages taken out where they hold nothing together, in their order; REFERENCES is not merged by
 * subject yet. Everything in the arena. */
struct thread_node *thread_build(struct arena *, enum thread_kind, const struct thread_entry *, uint32_t count);
/* Entries of roots that share their subject with another: what merging must know of them. -> number of them. */
uint32_t thread_doubtful(struct arena *, struct thread_node *roots, const struct thread_entry ***);
/* REFERENCES: threads with the same subject become one (RFC 5256 section 3, step 5). */
struct thread_node *thread_merge_subjects(struct arena *, struct thread_node *roots);

#endif
