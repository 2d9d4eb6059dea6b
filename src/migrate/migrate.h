/* What the files of yarilo-migrate share: the run, one mailbox of it, how it is told. */
#ifndef YARILO_MIGRATE_MIGRATE_H
#define YARILO_MIGRATE_MIGRATE_H

#include "store/store.h"

struct migrate_box {
    const char *name;              /* in the source */
    uint32_t total, done;          /* messages of the source; looked at so far */
    uint32_t copied, present;      /* saved by this run; there already */
    uint32_t changed;              /* of those: flags or keywords brought up to date */
    uint32_t gone, extra;          /* had been removed from the target; only in the target: both are left alone */
    const char *failed;            /* NULL = no */
};

struct migrate {
    struct mail_user *from, *to;
    struct arena *arena;
    bool dry_run, terminal;
    int64_t shown_ms;              /* when progress was last drawn */
};

/* mailbox.c: converts one; the error's text is in box->failed too. */
int migrate_mailbox(struct migrate *, const struct mailbox_place *from, const struct mailbox_place *to, struct migrate_box *,
                    struct error *);

/* misplaced.c: *first: the messages of the target from this UID on are the source's, under wrong UIDs; 0 = none are. */
int migrate_find_misplaced(struct mailbox *from, struct mailbox *to, uint32_t *first, struct error *);

/* progress.c: a bar on a terminal, else one JSON object a line. */
void progress_draw(struct migrate *, const struct migrate_box *);   /* now and then, while a mailbox is at work */
void progress_box(struct migrate *, const struct migrate_box *);    /* it is done */
void progress_end(struct migrate *, unsigned boxes, unsigned failed, uint64_t copied, unsigned subscribed);

#endif
