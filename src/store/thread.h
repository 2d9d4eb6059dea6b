/* Threads (RFC 5256 section 3, REFS: imap 11.7): messages of a view put into trees.
 *
 * IMAP's THREAD and the search key INTHREAD are built on it.
 *
 *     t = thread_new(arena, THREAD_REFS);
 *     while (thread_read(t, view, &seqs, &budget) == STEP_MORE) ...
 *     for (node = thread_roots(t); node != NULL; node = node->next) ... */
#ifndef YARILO_STORE_THREAD_H
#define YARILO_STORE_THREAD_H

#include "store/store.h"

enum thread_kind { THREAD_REFERENCES, THREAD_REFS, THREAD_ORDEREDSUBJECT };

struct thread_entry;
struct thread_node {
    struct thread_node *parent, *children, *next;   /* parent: not of use after thread_roots */
    uint32_t named;                /* REFS: a missing root stood here; its number among those that are referred to */
    const struct thread_entry *about;   /* whose subject counts; of a missing message, its first child's. NULL: none's */
    uint32_t seq;              /* of the visible message; 0: missing */
    int64_t date;              /* of a missing one: its first child's */
};

struct thread;
bool thread_kind_parse(struct slice name, enum thread_kind *);   /* in any case; false: there is no such algorithm */
struct thread *thread_new(struct arena *, enum thread_kind);     /* lives in the arena */
/* Reads the headers of the messages `seqs` (they stay the caller's and must not change), and builds the trees. Subjects get ranks
 * (rank.h) where that pays. MORE: call again; DONE. A message that cannot be read is logged and counts as one without headers. */
enum step thread_read(struct thread *, struct mailbox_view *, const struct index_ranges *seqs, struct budget *);
bool thread_missed(const struct thread *);         /* a message was gone before it could be read */
/* After all is read: the trees, in order; NULL: none. Messages that were not read count as missing. */
const struct thread_node *thread_roots(struct thread *);
/* Likewise: adds the messages of trees that have one of `wanted` to `out`. */
void thread_members(struct thread *, const struct index_ranges *wanted, struct index_ranges *out);

#endif
