/* mbox: all messages of a mailbox in one file, which mail programs and delivery agents change, too (maildir-and-layouts 9).
 * What the files of this folder share.
 *
 * The file is the storage; the index knows where each message begins (extension `mbox`), and the file's size and time when it
 * was last read. Nobody touches the file but under its locks, and only by calls after each of which it is an mbox that holds
 * every message (rewrite.c). Lock order: the file, then the index log. */
#ifndef YARILO_STORE_MBOX_MBOX_H
#define YARILO_STORE_MBOX_MBOX_H

#include "store/internal.h"
#include "store/mbox/format.h"

enum mbox_lock_method { MBOX_LOCK_DOTLOCK, MBOX_LOCK_DOTLOCK_TRY, MBOX_LOCK_FCNTL, MBOX_LOCK_FLOCK, MBOX_LOCK_LOCKF };
#define MBOX_LOCKS_MAX 5
struct mbox_locks {
    enum mbox_lock_method at[MBOX_LOCKS_MAX];
    unsigned count;
};
enum mbox_locked { MBOX_UNLOCKED, MBOX_LOCKED_READ, MBOX_LOCKED_WRITE };

struct mbox {
    struct mailbox *box;
    int fd;                        /* the file; -1 = not open */
    dev_t dev;
    ino_t ino;
    bool backend_read_only;        /* the file cannot be written: flags and UIDs are only in the index */
    unsigned ext, ext_md5;
    struct mbox_locks read_locks, write_locks;
    enum mbox_locked locked;
    struct os_dotlock *dotlock;
    bool dotlock_told;             /* that none can be made here, once */
    uint64_t waiting_since;        /* for the locks; 0 = not waiting */
    unsigned lock_timeout, dotlock_stale;
    bool dirty_syncs, very_dirty_syncs, lazy_writes, fsync_never, save_crlf;
    uint64_t min_index_size;
    enum mbox_md5 md5;
    bool old_due;                  /* messages ceased to be recent, their Status does not say so yet */
};

/* Index header extension "mbox" (9.2). */
struct mbox_ext {
    uint64_t size;
    uint32_t mtime;
    bool dirty;                    /* something in front of the tail that was read may have changed */
    unsigned char guid[16];
};
#define MBOX_EXT_SIZE 32

/* driver.c */
void mbox_ext_get(const struct mbox *, struct mbox_ext *);
void mbox_ext_put(const struct mbox *, struct index_batch *, const struct mbox_ext *);
struct mime_source mbox_source(const struct mbox *);   /* of the open file */

/* lock.c */
int mbox_locks_parse(struct slice text, struct mbox_locks *, struct error *);   /* ERROR_INVALID */
/* Opens the file if another one has its name now. ERROR_NOT_FOUND. */
int mbox_file_open(struct mbox *, struct error *);
/* All locks of the kind, and the file is open, or none of them. STEP_WAIT: others have it; ERROR_LOCK_TIMEOUT. */
enum step mbox_lock(struct mbox *, enum mbox_locked, struct error *);
void mbox_unlock(struct mbox *);

/* rewrite.c: a new row of pieces for the end of the file */
struct mbox_piece {
    uint64_t at, size;             /* of the file as it is; or */
    struct slice bytes;            /* new ones, when size is 0 */
};
struct mbox_pieces {
    struct mbox_piece *at;
    size_t count, room;
};
/* The file from `from` on becomes the pieces, in order; it ends with the last one. Written by one call, but where that is more
 * than memory should hold. On failure the file is as it was. *size is its new size. */
int mbox_rewrite(struct mbox *, uint64_t from, const struct mbox_pieces *, uint64_t *size, struct error *);
/* Writes over bytes of the file, which keeps its size; a failure is undone. */
int mbox_overwrite(struct mbox *, uint64_t at, struct slice old, struct slice new_bytes, struct error *);

/* read.c */
int mbox_read(struct mailbox *, uint32_t uid, struct arena *, struct mail_file *, struct error *);
void mbox_read_end(struct mail_file *);
int mbox_item(struct mailbox *, uint32_t uid, enum driver_item, struct arena *, struct driver_value *, struct error *);

/* sync.c */
struct mbox_entry {
    struct mbox_message m;
    uint32_t uid;                  /* that it shall have */
    bool is_new, expunge;          /* not in the index yet; to go */
    struct mbox_facts facts;
    struct slice header;           /* a new one; in the arena */
    uint64_t offset;               /* of its From_ line in the new file */
};
struct mbox_sync {
    enum { MBOX_CHECK, MBOX_LOCK_FILE, MBOX_LOCK_INDEX, MBOX_PREPARE, MBOX_SCAN, MBOX_APPLY } phase;
    struct arena *arena;
    bool need_file;                /* the file is looked at or changed */
    bool index_locked;
    bool keep_locks;               /* a publication goes on with them */
    bool full;                     /* all of the file is read, not only its tail */
    bool flush;                    /* what is only in the index is written to the file */
    uint64_t busy_since;
    struct stat st;                /* of the file, before it was read */
    struct mime_source source;
    struct mbox_scan scan;
    bool scanning;
    uint64_t at;                   /* scanned so far */
    struct { struct mbox_entry *at; size_t count, room; } entries;
    size_t tail;                   /* entries from here on are new: between the first message and them others were skipped; 0 = all */
    struct index_requests requests;
    uint32_t reserve;              /* UIDs that X-IMAPbase shall cover in advance */
    const struct slice *reserve_keywords;
    size_t reserve_keyword_count;
};
enum step mbox_sync_step(struct mbox *, struct driver_sync *, struct mbox_sync *, struct budget *, struct error *);
struct mbox_sync *mbox_sync_new(void);
void mbox_sync_free(struct mbox *, struct mbox_sync *);   /* releases locks, unless they are kept */
enum step mbox_sync(struct mailbox *, struct driver_sync *, struct budget *, struct error *);
void mbox_sync_end(struct mailbox *, struct driver_sync *);
/* sync_apply.c. STEP_MORE: all of the file must be read first (s->full is set). */
enum step mbox_sync_apply(struct mbox *, struct driver_sync *, struct mbox_sync *, struct error *);

/* save.c */
int mbox_stage(struct staged *, struct error *);
int mbox_stage_write(struct staged *, struct slice, struct error *);
int mbox_stage_finish(struct staged *, struct error *);
int mbox_stage_copy(struct staged *, struct mailbox *from, uint32_t uid, struct error *);
int mbox_stage_again(struct staged *, const struct staged *first, struct error *);
int mbox_stage_read(const struct staged *, struct arena *, struct mail_file *, struct error *);
void mbox_discard(struct staged *);
enum step mbox_publish(struct mailbox *, struct driver_publish *, struct budget *, struct error *);
void mbox_publish_end(struct mailbox *, struct driver_publish *);

#endif
