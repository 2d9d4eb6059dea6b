/* The sum of a mailbox's virtual sizes, and where it is remembered (vsize.c). */
#ifndef YARILO_STORE_VSIZE_H
#define YARILO_STORE_VSIZE_H

#include "store/internal.h"

struct vsize_sum {
    uint64_t bytes;
    uint32_t count;             /* messages that were added up */
    uint32_t next_uid;          /* who comes next */
    uint64_t stored_bytes;      /* as the index has it */
    uint32_t stored_count, stored_highest;
    unsigned ext;
    uint32_t left;              /* messages that may still be opened for it; UINT32_MAX: all */
    bool stopped;               /* there were more */
};

/* What the index has, if that is still right; else nothing. The mailbox is synced. `whole`: mail_vsize_bg_after_count does not
 * count. */
void vsize_begin(struct mailbox *, struct vsize_sum *, bool whole);
/* Adds the messages that are missing. STEP_DONE: bytes and count are those of the whole mailbox. ERROR_BUSY, with the text for the
 * client: too many of them would have to be read (mail_vsize_bg_after_count); what is summed up is remembered, and the indexer is
 * asked to do the rest. ERROR_TEMPORARY: it cannot be asked. */
enum step vsize_step(struct mailbox *, struct vsize_sum *, struct budget *, struct error *);
/* Remembers it, unless nothing is new, the mailbox is at work, or its index cannot be written now: then it is counted again. */
void vsize_remember(struct mailbox *, const struct vsize_sum *);
/* The header's bytes where it covers all of the mailbox, for the list index; else empty. */
struct slice vsize_current(struct mailbox *);

#endif
