/* Sequence sets and UID sets (RFC 3501 section 9, imap 10.1) and the lists of ranges that they become. */
#ifndef YARILO_IMAP_SET_H
#define YARILO_IMAP_SET_H

#include "index/index.h"

/* As written: 0 stands for '*'. Numbers from UINT32_MAX on are kept as that, and `huge` tells. */
struct imap_set_range {
    uint32_t first, last;
};
struct imap_set {
    struct imap_set_range *at;   /* in the arena */
    size_t count;
    bool saved;                  /* the set is "$" (RFC 5182) */
    bool huge;
};

/* -1: not a set. Nothing at all is an empty one, which only sets of UIDs may be. */
int imap_set_parse(struct arena *, struct slice text, struct imap_set *);

enum imap_set_kind {
    IMAP_SET_SEQS,        /* numbers must exist; -1 otherwise */
    IMAP_SET_SEARCH_SEQS, /* numbers that do not exist match nothing */
    IMAP_SET_UIDS
};
/* What it means in a mailbox: ranges of the view's sequence numbers, ascending, without overlaps. `saved`: the UIDs
 * that "$" stands for. */
int imap_set_resolve(const struct imap_set *, enum imap_set_kind, const struct index_view *,
                     const struct index_ranges *saved, struct index_ranges *seqs);

uint64_t imap_ranges_count(const struct index_ranges *);
/* "1:3,7" */
void imap_ranges_put(struct buffer *, const struct index_ranges *);
void imap_ranges_remove(struct index_ranges *, uint32_t n);
/* The next number after `after` that is in the ranges; 0: none. `at` is a cursor, 0 at first. */
uint32_t imap_ranges_next(const struct index_ranges *, size_t *at, uint32_t after);

#endif
