/* The state of one running Maildir sync; shared by sync.c and sync_apply.c. */
#ifndef YARILO_STORE_MAILDIR_SYNC_H
#define YARILO_STORE_MAILDIR_SYNC_H

#include "store/internal.h"
#include "store/maildir/maildir.h"

/* Why the folders are read, as the log tells it (its numbers are Dovecot's). */
enum {
    MAILDIR_WHY_FORCED = 0x01, MAILDIR_WHY_FIRST = 0x02, MAILDIR_WHY_NEW = 0x04, MAILDIR_WHY_CUR = 0x08, MAILDIR_WHY_DROP_RECENT = 0x10,
    MAILDIR_WHY_FIND_RECENT = 0x20, MAILDIR_WHY_DELAYED_NEW = 0x40, MAILDIR_WHY_DELAYED_CUR = 0x80
};

struct maildir_sync {
    enum { SYNC_CHECKING, SYNC_LOCKING, SYNC_PREPARE, SYNC_SCANNING, SYNC_APPLYING } phase;
    bool scan_new, scan_cur, move_new, pending, take_recent;
    bool need_full;                  /* the uidlist is not to be relied on */
    bool index_first;                /* only the index lock was taken */
    bool index_locked;
    bool scanned, full;              /* new/ was read; cur/ too, so that what was not seen is gone */
    bool in_new, again, moved_any;
    unsigned rounds, scans;
    unsigned why;                    /* MAILDIR_WHY_...: of a scan that takes long */
    struct {
        uint64_t since;              /* monotonic, ns */
        unsigned names, moved;       /* moved: from new/ to cur/ */
    } folder;                        /* the one that is being read */
    uint64_t locked_at;              /* monotonic, ns */
    unsigned new_messages, flag_changes, expunges; /* of this sync; tried, whether they succeeded or not */
    uint32_t now;
    uint64_t busy_since;
    void *dir;
    struct stat st_new, st_cur;      /* before the folders were read */
    struct arena *arena;
    struct maildir_entries entries, fresh;
    struct maildir_apply *apply;     /* that goes on with the next step; NULL: none */
};

/* UIDs for new files, requests to the files, one batch for the index. Locks are held. STEP_MORE: to be called again, or s->phase
 * says that both locks are needed. What a scan has seen is carried out in one step; requests alone are cut into steps. */
enum step maildir_sync_apply(struct maildir *, struct driver_sync *, struct maildir_sync *, struct budget *, struct error *);
/* Seconds since `since` (monotonic, ns) when there are so many that the log is to tell of it; else 0. */
unsigned maildir_sync_took(uint64_t since);
void maildir_sync_apply_free(struct maildir_sync *);
void maildir_sync_release(struct maildir *, struct maildir_sync *);

#endif
