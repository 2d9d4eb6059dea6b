/* What stands behind the face: the shared object, and what a backend has to provide (DECISIONS 3.3).
 *
 * A backend fills index->state and keeps it up to date; views, batches as values and the cache's policy are common
 * to all. The file backend (file_*.c) turns a batch into log records and applies these; a database backend would
 * turn it into statements and apply what it committed by the same state_* functions, or by encoding the same log
 * records in memory (batch_encode), which is what the memory backend does.
 *
 * Only files of src/index include this. */
#ifndef YARILO_INDEX_BACKEND_H
#define YARILO_INDEX_BACKEND_H

#include "index/index.h"
#include "index/state.h"

#include <uthash.h>

struct index_ops {
    const char *name;
    int (*open)(struct index *, struct error *);
    void (*close)(struct index *);
    enum step (*refresh)(struct index *, struct error *);
    enum step (*lock)(struct index *, struct error *);      /* refreshed under it */
    void (*unlock)(struct index *);
    /* Under the lock. `tail`: the requests that the batch finishes, or NULL. */
    int (*commit)(struct index *, struct index_batch *, struct index_commit *, struct error *);
    int (*pending)(struct index *, struct arena *, struct index_requests *, struct error *);
    void (*maintain)(struct index *);
    int (*repair)(struct index *, struct error *);           /* under the lock */
    int (*reset)(struct index *, struct index_batch *, struct error *);
    int (*vanished)(struct index *, uint64_t modseq, struct index_ranges *, struct error *);
    /* Appends the UIDs whose flags or keywords were changed from there on; false: the logs do not reach back so far. */
    bool (*changed)(struct index *, uint32_t log_seq, uint64_t log_offset, struct index_ranges *);
    void (*tidy)(struct index *);                            /* nobody uses it any more; not under the lock */
};
extern const struct index_ops index_files_ops;
extern const struct index_ops index_memory_ops;

/* One change that views have not seen yet. */
struct journal_entry {
    uint32_t first, last;   /* UIDs */
    uint32_t view;          /* whose commit it was; 0 = others' */
    uint8_t expunged;       /* first == last then */
    uint8_t flags;          /* of the expunged message */
    uint8_t silent, visible;
    unsigned char keywords[8]; /* of the expunged message: its first 64 */
    uint64_t modseq;        /* of the expunged message; 0 = none of its own */
};

struct index_ext_known {
    char name[EXT_NAME_MAX + 1];
    struct index_ext_def def;
};

/* A log file that is open: the only descriptor of it in this process (DECISIONS 9). */
struct file_log {
    int fd;
    dev_t dev;
    ino_t ino;
    struct log_header h;
    uint64_t head;          /* end of the valid part */
    uint64_t modseq;        /* the counter at head */
    uint64_t tail, tail_last;
    uint64_t request_end;   /* end of the last record that asks the storage for something */
    uint32_t mtime;         /* 0 = look again */
    bool writable;
};

struct index_cache;

struct index {
    const struct index_ops *ops;
    UT_hash_handle hh;
    char *key;              /* "<dev>:<ino>:<prefix>"; NULL when not shared (any more) */
    unsigned refs;
    struct index *prev, *next; /* of those that are kept open without users */
    uint64_t unused_ns;

    int dir;
    char *path, *prefix, *name, *log_name;
    struct index_settings set;
    char *cache_fields, *always_cache_fields, *never_cache_fields;
    mode_t mode;
    gid_t gid;
    bool read_only, in_memory, no_create;
    int (*init)(void *, struct index *, struct index_batch *, struct error *);
    void *init_arg;

    struct state state;
    uint64_t generation, modseq;
    unsigned deleted;
    unsigned epoch;         /* raised when UIDs begin to mean something else: views are invalid */
    uint32_t reading_seq;   /* the log whose records are being applied */
    bool need_repair, gone; /* gone: the files were removed */
    bool no_map;            /* the base index could not be read where it was mapped */
    bool need_new_log;      /* the log cannot go on: its good part ends at log.head (12.2) */
    bool fsck_told;         /* "fscking" has been said of the present damage */

    VEC(struct journal_entry) journal;
    uint64_t journal_start; /* number of journal.at[0] */
    struct index_view *views;
    uint32_t next_view_id;
    uint32_t commit_view;   /* who is committing now, for the journal */
    bool commit_silent;

    VEC(struct index_ext_known) known_exts;

    bool locked;
    const char *lock_why;
    uint64_t locked_ns;
    struct os_dotlock *dotlock;

    struct file_log log;
    struct buffer memory_log; /* in_memory: the transactions that the storage has not confirmed */
    dev_t base_dev;         /* the base index that was read or written; base_size 0: none */
    ino_t base_ino;
    uint64_t base_size;
    uint32_t base_log_seq, base_log_tail; /* its position */
    struct base_job *base_job; /* a new one that is being made durable (file_base.c) */
    uint64_t refreshed_bytes; /* of log read at refreshes since the base was written (8.1) */
    bool log2_checked, rewrite_wanted;

    struct index_cache *cache;
};

struct index_view {
    struct index *index;
    struct index_view *prev, *next;
    uint64_t pos;           /* number of the next journal entry */
    uint32_t next_uid;      /* messages from here on are not visible */
    uint32_t id;
    unsigned epoch;
    unsigned keywords;      /* names known to the session */
    uint32_t uid_validity, first_recent;
    uint64_t modseq;
    struct ghost *ghosts;   /* by UID: messages that are gone from the head and still have a number here */
    uint32_t ghost_count, ghost_room;
    uint32_t ghosts_shown;  /* the rest came and went since the last sync: no numbers yet */
    struct journal_entry *changed; /* flag changes not yet yielded */
    uint32_t changed_count, changed_room;
    struct view_sync *sync;
    struct index_view *private; /* private.c: of the index with this user's own flags; NULL = none */
    uint8_t private_mask;
    struct {
        uint64_t generation, private_generation;
        uint32_t next_uid, seen;
    } private_seen;         /* messages below next_uid that are seen there, as last counted */
};

/* private.c */
uint8_t private_flags(const struct index_view *, uint32_t uid, uint8_t flags); /* what this user sees of a message's flags */
uint32_t private_seen(struct index_view *);          /* of the records that the view shows */

struct ghost {
    uint32_t uid;
    uint8_t flags;          /* as of the expunge */
    unsigned char keywords[8];
    uint8_t changed, own_silent, visible; /* its flags changed before that, and the session has not heard of it */
    uint64_t modseq;        /* its last one */
};

/* ---- index.c ---- */
void index_log_prefix(const struct index *, char *out, size_t size);
void index_warning(const struct index *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void index_error(const struct index *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void index_info(const struct index *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern const struct state_sink index_sink;
uint32_t index_lock_timeout(const struct index *); /* seconds */
/* Lines of notes (state.h): what is wrong, that fsck begins, what was mended. */
void index_log_notes(struct index *, struct buffer *notes);
void index_log_fsck(struct index *);
/* Replaces the state by another one that was read anew; what differs goes to the journal. */
void index_state_replace(struct index *, struct state *);
/* The modseq extension's header says where the counter stands now (5). */
void index_store_modseq(struct index *);
/* The extension's position in the files for a handle, or -1. */
int index_ext_position(const struct index *, unsigned ext);

/* ---- view.c ---- */
void journal_flags(struct index *, uint32_t first, uint32_t last, bool visible);
uint64_t index_default_modseq(const struct index *); /* of messages that have none of their own */
void journal_expunged(struct index *, uint32_t uid, uint8_t flags, uint64_t modseq, struct slice keywords);

/* ---- requests.c ---- */
bool requests_is(const struct log_record *);
/* Merges the internal records in log bytes, which begin at `base`, into requests (7.9.3). */
void requests_collect(struct index *, struct arena *, struct slice bytes, uint64_t base, struct index_requests *);

/* ---- batch_encode.c ---- */
/* The log bytes of a batch against the state of now, boundary included, tail update included when `log` is given
 * and the batch finishes a sync. `at` is where they will begin in the log. Empty: nothing to write. */
int batch_encode(struct index *, struct index_batch *, uint64_t at, struct buffer *out, struct index_commit *,
                 struct error *);
bool batch_has_cached(const struct index_batch *);
bool batch_undeletes(const struct index_batch *);
/* Does the commit need an fdatasync of the log (7.8)? */
bool batch_wants_sync(const struct index *, const struct index_batch *);
/* Walks the bytes and applies them; -1 only when they are not valid, which would be our own fault. */
int batch_apply(struct index *, struct index_batch *, struct slice bytes, uint64_t at, struct error *);
/* Expunged messages of the batch that have something in the cache. */
uint32_t batch_expunged_cached(const struct index *, const struct index_batch *);

/* ---- file_*.c ---- */
#define FILE_NAME_SIZE 256
/* "dovecot.index" + suffix into out. */
const char *file_name(const struct index *, char out[FILE_NAME_SIZE], const char *suffix);
/* Reads base index and logs from the start, replaces the state (6.1, 6.3). -1: ERROR_NOT_FOUND when there is neither;
 * damage is not an error: it is logged, and need_repair says that a lock holder should mend it. */
int file_load(struct index *, struct error *);
/* News of the open log file; applies them. `locked`: an incomplete end is cut off, as nobody can be writing. */
int file_log_read(struct index *, bool locked, struct error *);
void file_log_close(struct index *);
/* Makes the log the one that is open now; the descriptor goes over. */
void file_log_take(struct index *, int fd, const struct log_header *, uint64_t head, uint64_t modseq);
int file_repair(struct index *, struct error *);             /* under the lock, or with no log to lock */
int file_base_write(struct index *, struct error *);         /* under the lock; durable afterwards */
/* The same without waiting for the disk, where the process has a sync pool: it takes the old one's place later, or is dropped. */
int file_base_write_later(struct index *, struct error *);
void file_base_finish(struct index *);                       /* waits for one that is being made durable */
/* The log's lock and nothing else: no refresh, no repair. False: not to be had at once, or another log is there now. */
bool file_log_lock(struct index *);
void file_log_unlock(struct index *);
/* Writes `.newlock` and renames it over the log; the old one becomes `.log.2` when `keep`. Under the old log's lock
 * if there is one; the new descriptor is locked before it gets its name when `lock`. -> descriptor; -1; -2: somebody
 * else has made one meanwhile. */
enum file_keep { KEEP_NOT, KEEP_TRY, KEEP_MUST };
int file_log_create(struct index *, const struct log_header *, struct slice more, enum file_keep, bool lock, struct error *);
int file_log_start(struct index *, struct error *);          /* a new family, or a log for a lonely base index */
int file_rotate(struct index *, struct error *);
void file_maintain(struct index *);
void file_tidy(struct index *);
int file_reset(struct index *, struct index_batch *, struct error *);
int file_vanished(struct index *, uint64_t modseq, struct index_ranges *, struct error *);
bool file_changed(struct index *, uint32_t log_seq, uint64_t log_offset, struct index_ranges *);
int file_pending(struct index *, struct arena *, struct index_requests *, struct error *);

/* ---- cache ---- */
void cache_close(struct index *);
/* During a commit, under the log lock: writes the records of appended messages and gives each its offset. */
struct cache_value {
    unsigned field;
    struct slice value;
};
struct cache_new {
    uint32_t uid;
    const struct cache_value *values;
    size_t count;
    uint32_t prev_offset;
    uint32_t offset;         /* out; 0 = not written */
};
/* -> the reset_id that the offsets belong to; 0: nothing was written. */
uint32_t cache_write(struct index *, struct cache_new *, size_t count);
void cache_expunged(struct index *, uint32_t messages);
bool cache_purge_due(struct index *);
int cache_purge_locked(struct index *, struct error *);
bool cache_purge_now(struct index *);         /* the same, and logs; a cache that others have locked is left for the next time */
unsigned cache_ext(struct index *);  /* handle of extension "cache" */

#endif
