/* The face of src/index: index, transaction log and cache of a mailbox (specification: index-format).
 *
 * One shared `struct index` per mailbox and process; sessions hold cheap views of it. Everything that is known
 * about the messages besides their bytes is here: UIDs, flags, keywords, modseqs, extensions that storage drivers
 * register by name, and the cache of parsed fields. The file backend writes what a Dovecot 2.3 that shares the
 * store at that very moment reads, and reads what it writes. Other backends (SQLite, Cassandra) stand behind
 * struct index_ops (index_backend.h); callers use the plain functions below.
 *
 * How a change happens: build a batch (values, no I/O), commit it. The commit locks the log head, reads what others
 * wrote, checks the batch against that, appends all of it in one write or nothing, applies it to the shared state.
 * *External* changes are facts of the storage, *internal* ones requests that take effect at once for every reader
 * (flags, keywords) or when the storage has carried them out (expunges); index-format 1.
 *
 * How a change becomes visible: index_refresh reads the log's news (one stat when there is none) into the shared
 * state; every view then yields its differences when its session is ready for them (index_view_sync).
 *
 * Single-threaded: an index belongs to the process's loop. No function here blocks, except those named *_wait:
 * what needs a lock that somebody holds returns STEP_WAIT, see struct index_waiter.
 *
 * Pointers into the shared state (records, keyword bits, header slices) are valid until the next call that may
 * change it: index_refresh, index_lock_try, index_commit*, index_repair, index_view_sync. Copy what you keep. */
#ifndef YARILO_INDEX_INDEX_H
#define YARILO_INDEX_INDEX_H

#include "base/base.h"

struct index;
struct index_view;
struct index_batch;
struct index_ops;

/* ---- opening -------------------------------------------------------------------------------------------------- */

enum index_fsync { INDEX_FSYNC_OPTIMIZED, INDEX_FSYNC_NEVER, INDEX_FSYNC_ALWAYS }; /* index-format 7.8 */

/* Zero means Dovecot's default for every number here. Copied at open. */
struct index_settings {
    enum os_lock_method lock_method;
    enum index_fsync fsync;
    bool sync_appends;            /* dbox: fdatasync the log for appends and external expunges (7.8) */
    bool keep_backup;             /* dbox: dovecot.index.backup at every rewrite (8.2) */
    bool dotlock_by_link;         /* dotlock_use_excl = no */
    bool strict_tail;             /* mdbox's map: only a sync moves the tail, whatever records are behind it (11.2) */
    bool mmap_disable, nfs;       /* nfs: flush attribute caches before looks at paths */
    unsigned lock_timeout_secs;   /* mail_max_lock_timeout; the cap of 180 s stays */
    uint64_t log_rotate_min_size, log_rotate_max_size;       /* 32k, 1M */
    unsigned log_rotate_min_age_secs, log2_max_age_secs;     /* 300, 172800 */
    uint64_t rewrite_min_log_bytes, rewrite_max_log_bytes;   /* 8k, 128k */
    const char *cache_fields;        /* mail_cache_fields; NULL = "flags" */
    const char *always_cache_fields; /* mail_always_cache_fields; NULL = "" */
    const char *never_cache_fields;  /* mail_never_cache_fields; NULL = "imap.envelope" */
    unsigned cache_unaccessed_drop_secs;                     /* 30 days */
    uint32_t cache_min_mails;     /* mail_cache_min_mail_count: fewer messages are not cached */
    uint32_t cache_record_max_size, cache_max_size;          /* 64k, 1G */
    uint32_t cache_purge_min_size;                           /* 32k */
    unsigned cache_purge_delete_percent, cache_purge_continued_percent; /* 20, 200 */
    unsigned cache_purge_headers;                            /* 4: more chained field headers are too many */
};

struct index_where {
    int dir;                  /* descriptor of the folder of the files; duplicated; -1 with in_memory */
    const char *path;         /* the folder's path: log texts, and what to watch */
    const char *prefix;       /* NULL = "dovecot.index" */
    const char *name;         /* what log lines call it ("Mailbox INBOX: "); NULL = none */
    const struct index_settings *settings; /* NULL = defaults */
    mode_t mode;              /* of new files; 0 = 0600 */
    gid_t gid;                /* of new files; (gid_t)-1 = leave */
    bool read_only;           /* never writes, never creates, never repairs */
    bool in_memory;           /* INDEX=MEMORY: lives as long as the handle; not shared */
    bool no_create;           /* fail with ERROR_NOT_FOUND when neither base index nor log is there */
    /* What a new log holds besides its header, in the same write (sdbox: the dbox-hdr extension, 7.3). May be
     * NULL. Applies also when damage makes the family begin anew, so the argument must live as long as the reference. */
    int (*init)(void *arg, struct index *, struct index_batch *, struct error *);
    void *init_arg;
    const struct index_ops *ops; /* NULL = files */
};

/* Opens, or shares the one that this process has open for the same folder and prefix (settings of the first one
 * hold). Reads base index and logs, creates the log when the family does not exist yet. Damage is logged, and
 * repaired if the lock is free; the rest of the chapters 12 says what survives. -> a reference to be closed. */
int index_open(struct index **, const struct index_where *, struct error *);
void index_close(struct index **);               /* drops the reference; queued cache records are written or dropped */
struct index *index_ref(struct index *);
/* For servers: up to `count` indexes that nobody uses any more stay open for `secs`, so that the next SELECT of the same
 * mailbox is a stat. They hold three descriptors and their records. index_keep(0, 0) closes them. */
void index_keep(unsigned count, unsigned secs);
/* Closes those whose time is up; every open and close does it too, an idle process calls it now and then. -> how many
 * are still kept. */
unsigned index_keep_expire(void);

/* Reads what has been appended since. STEP_DONE, or STEP_ERROR (ERROR_NOT_FOUND: log vanished, the mailbox was
 * deleted or renamed). With nothing new this is one stat. Never locks, never creates, never truncates. */
enum step index_refresh(struct index *, struct error *);

bool index_read_only(const struct index *);
/* Nothing of it outlives the handle: neither do modseqs, which must not be told to a client that keeps them. */
bool index_in_memory(const struct index *);
/* An index-deleted record has been seen: 1 requested, 2 done; no commits are accepted after 2 (4.10). */
unsigned index_deleted(const struct index *);
/* Grows with every change of the shared state: "has anything happened?" without looking further. */
uint64_t index_generation(const struct index *);
/* The path of the log's folder and the log's name, for inotify: changes of this file and its being replaced are
 * news (index_refresh then). Valid while the index is open. */
void index_watch(const struct index *, const char **dir_path, const char **log_name);

/* ---- locks ---------------------------------------------------------------------------------------------------- */

/* The log head's lock, refreshed under it (7.1, 7.2.1-2: an incomplete tail is cut off). `why` is the reason in
 * warnings ("syncing", "appending"), a literal. It belongs to one job: a second try in this process is STEP_WAIT
 * too. May be held over returns to the loop, at most seconds. */
enum step index_lock_try(struct index *, const char *why, struct error *);
void index_unlock(struct index *);
bool index_locked(const struct index *);

/* Waiting for a lock, for the callers of functions that returned STEP_WAIT: call again after the returned number
 * of milliseconds (1, 2, 4 ... 100), or earlier when the index's folder has news. -1: the time is up, *e has the
 * text of 7.1. Zero-initialise; zero it again after success. */
struct index_waiter {
    uint64_t since_ns;
    unsigned tries;
};
int index_waiter_next(struct index_waiter *, const struct index *, struct error *);

/* For programs that do one thing: sleeps until the lock is there or the time is up. */
int index_lock_wait(struct index *, const char *why, struct error *);

/* ---- reading the head ----------------------------------------------------------------------------------------- */

enum { /* index-format 2.3 */
    INDEX_ANSWERED = 0x01,
    INDEX_FLAGGED = 0x02,
    INDEX_DELETED = 0x04,
    INDEX_SEEN = 0x08,
    INDEX_DRAFT = 0x10,
    INDEX_FLAGS_CLIENT = 0x1f,
    INDEX_BACKEND = 0x40, /* private to the storage; sdbox: in ALT */
    INDEX_DIRTY = 0x80    /* flags not yet written to the storage */
};
/* The names of these client flags, "\Answered \Seen", and \Recent after them (RFC 3501 section 2.3.2). */
void index_flags_put(struct buffer *, uint8_t flags, bool recent);
/* "\Seen"; of one bit. NULL: it is no client flag. */
const char *index_flag_name(uint8_t bit);
/* The bit of "\seen", without case. False: no client flag is called so. */
bool index_flag_find(struct slice name, uint8_t *bit);

struct index_record {
    uint32_t uid;
    uint8_t flags;
    bool expunged;             /* gone from the head, kept by the view until its session may hear of it */
    struct slice keywords;     /* bit i (byte i/8, 1 << i%8) = keyword i of index_keyword_name; may be short */
    uint64_t modseq;
};

struct index_status {
    uint32_t messages, recent, seen, unseen, deleted;
    uint32_t uid_validity, next_uid, first_recent_uid;
    uint32_t first_unseen_hint;   /* no unseen mail has a lower UID; 0 = unknown */
    uint64_t highest_modseq;
    bool modseq_enabled;          /* messages have modseqs of their own */
    bool fscked, have_dirty;      /* header flags 0x04 and 0x02 */
    uint32_t day_stamp, day_first_uid[8];
    uint32_t log_size, log_mtime; /* of the log file at the last look (list index "index sync", 11.1) */
};
/* first_recent_uid alone: asked for each message that FETCH shows. */
uint32_t index_first_recent(const struct index *);
void index_status(const struct index *, struct index_status *); /* O(1), of the head; no view needed */

uint32_t index_count(const struct index *);
/* By UID, O(log n). False: not there. */
bool index_get(const struct index *, uint32_t uid, struct index_record *);
/* The first with a UID >= uid. Iterate: for (uid = 1; index_get_from(i, uid, &r); uid = r.uid + 1). */
bool index_get_from(const struct index *, uint32_t uid, struct index_record *);
/* By position in the head, 1-based; not what clients call sequence number: that is the view's. */
bool index_get_at(const struct index *, uint32_t seq, struct index_record *);
/* Raw bytes of the base header (index-format 2.1), 120 or more. */
struct slice index_header(const struct index *);

/* Keywords, in order of their bits; names as first written. */
unsigned index_keyword_count(const struct index *);
const char *index_keyword_name(const struct index *, unsigned i);      /* NULL when i is out of range */
int index_keyword_find(const struct index *, struct slice name);       /* without case; -1 = not known */
static inline bool index_keyword_has(struct slice bits, unsigned i)
{
    return i / 8 < bits.size && (bits.at[i / 8] & 1u << i % 8) != 0;
}

/* ---- extensions ----------------------------------------------------------------------------------------------- */

struct index_ext_def {
    const char *name;             /* 1 to 63 of [A-Za-z0-9_- ] */
    uint32_t header_size;
    uint16_t record_size, record_align;
    bool shrink;                  /* intros say these sizes exactly (flags 0) instead of NO_SHRINK (4.5) */
};
/* Registers what this program knows of an extension; nothing is written until a batch updates it. -> handle for
 * this index, the same for the same name (the last definition counts). */
unsigned index_ext(struct index *, const struct index_ext_def *);
bool index_ext_exists(const struct index *, unsigned ext);             /* is it in the files? */
uint32_t index_ext_reset_id(const struct index *, unsigned ext);
struct slice index_ext_header(const struct index *, unsigned ext);     /* empty when it does not exist */
/* The record's bytes, of the size that the files have (may differ from the definition's); empty when there are
 * none or no such UID. */
struct slice index_ext_record(const struct index *, unsigned ext, uint32_t uid);
/* UID and number of all messages of the head at once, for an extension whose records are one number: both arrays have room for
 * index_count; a message without a number has 0. False: it is not in the files, or its records are something else. */
bool index_ext_numbers(const struct index *, unsigned ext, uint32_t *uids, uint32_t *numbers);
/* All extensions of the files in order, for dumps and repairs; false at the end. */
struct index_ext_info {
    const char *name;
    uint32_t header_size, reset_id;
    uint16_t record_size, record_align, record_offset;
    struct slice header;
};
bool index_ext_at(const struct index *, unsigned i, struct index_ext_info *);

/* ---- views ---------------------------------------------------------------------------------------------------- */

/* A session's stable numbering: sequence numbers change only in index_view_sync. Flags, keywords and modseqs are
 * always the head's. Costs about 100 bytes and what differs. */
struct index_view *index_view_open(struct index *);      /* at the head; refresh first */
void index_view_close(struct index_view **);
struct index *index_view_index(const struct index_view *);
size_t index_view_memory(const struct index_view *);

/* Private flags (11.3; private.c): a second index with the same UIDs, whose flags in `mask` this view shows instead of the
 * shared ones; changes of both are yielded. Once, after opening. */
void index_view_private(struct index_view *, struct index *private, uint8_t mask);
/* Takes the private flags out of a batch into one for index_private_sync, in the same arena; NULL: there are none. */
struct index_batch *index_batch_private(struct index_batch *, struct index_view *);
struct index_ranges;
/* Takes messages out of the private batch that the shared one's commit has refused (index_commit.failed). */
void index_batch_private_without(struct index_batch *, const struct index_ranges *failed);
/* Brings the private index level with the shared one, which is fresh, then commits `own` (may be NULL). STEP_WAIT: others
 * have the lock. */
enum step index_private_sync(struct index *private, struct index *shared, struct index_batch *own, struct error *);
/* Messages of the shared index with a lower UID than this that are seen in the private one. */
uint32_t index_private_seen(struct index *private, struct index *shared, uint32_t next_uid);

uint32_t index_view_count(const struct index_view *);
bool index_view_get(const struct index_view *, uint32_t seq, struct index_record *);     /* O(log n) */
bool index_view_get_uid(const struct index_view *, uint32_t uid, struct index_record *);
uint32_t index_view_uid(const struct index_view *, uint32_t seq);   /* 0: no such */
uint32_t index_view_seq(const struct index_view *, uint32_t uid);   /* 0: no such */
/* UIDs first..last as the sequence range that the view shows for them; false: none. */
bool index_view_seq_range(const struct index_view *, uint32_t first_uid, uint32_t last_uid, uint32_t *first_seq,
                          uint32_t *last_seq);
uint32_t index_view_next_uid(const struct index_view *);            /* messages from here on are not visible yet */
/* Counts as this view sees them (held back expunges included, new mails not). */
void index_view_status(const struct index_view *, struct index_status *);
/* First sequence number of an unseen message, 0 = none. */
uint32_t index_view_first_unseen(const struct index_view *);

enum index_change_kind {
    INDEX_CHANGE_EXPUNGED,  /* seq: the number to announce now; highest first, so that lower ones stay right */
    INDEX_CHANGE_APPENDED,  /* count: messages now; first_uid: the first new one. Once, after the expunges */
    INDEX_CHANGE_FLAGS,     /* seq, uid: flags, keywords or modseq changed (once per message, ascending); also of
                             * messages that are held back, when that was before their expunge */
    INDEX_CHANGE_KEYWORDS,  /* keyword names were added: first = index of the first new one. Comes first */
    INDEX_CHANGE_HEADER,    /* uidvalidity, next uid, highest modseq or others changed */
    INDEX_CHANGE_INVALID    /* the mailbox was rebuilt so that UIDs mean something else: end the session */
};
struct index_change {
    enum index_change_kind kind;
    uint32_t seq, uid, count, first;
    bool own_silent;        /* FLAGS: only by batches that this view committed as silent */
    bool flags_visible;     /* FLAGS: something that a client without CONDSTORE sees has changed */
};

/* True: index_view_sync has something to yield (O(1)). */
bool index_view_changed(const struct index_view *);
/* Takes the head's changes into the view and yields them one by one until false. With hold_expunges messages that
 * are gone keep their numbers (FETCH, STORE, SEARCH without UID, RFC 3501 section 5.5); otherwise they are yielded,
 * also those held back earlier. Changes are yielded once. Drain it before other calls on the view. */
void index_view_sync(struct index_view *, bool hold_expunges);
bool index_view_next(struct index_view *, struct index_change *);
struct index_range {
    uint32_t first, last;
};
struct index_ranges {
    struct index_range *at;
    size_t count, room;
};

/* What a view has shown in another process, for sessions that went to rest and come back (imap-hibernate). */
struct index_past {
    uint32_t uid_validity, next_uid;
    struct index_ranges uids;                /* the messages */
    uint32_t log_seq;                        /* index_log_position then (head); 0: unknown */
    uint64_t log_offset;
};
/* Fills *past with what the view shows; uids are the caller's (index_ranges_free). */
void index_view_past(const struct index_view *, struct index_past *);
/* A view that shows what is written in *past: its first index_view_sync yields all that has happened since. Flags of
 * messages count as changed when the logs do not reach back so far. NULL: the mailbox is another one now (UIDVALIDITY,
 * or messages below next_uid that were not there). */
struct index_view *index_view_open_past(struct index *, const struct index_past *);
/* UIDs removed after `modseq`, for VANISHED (EARLIER) and QRESYNC: appends ranges in ascending order. Looks through
 * the logs; -1 with ERROR_NOT_FOUND: they do not reach back so far, say all that are missing (section 5). */
int index_vanished_since(struct index *, uint64_t modseq, struct index_ranges *out, struct error *);
void index_ranges_add(struct index_ranges *, uint32_t first, uint32_t last); /* keeps order, joins neighbours */
bool index_ranges_has(const struct index_ranges *, uint32_t uid);
void index_ranges_free(struct index_ranges *);

/* ---- batches -------------------------------------------------------------------------------------------------- */

enum index_origin { INDEX_INTERNAL, INDEX_EXTERNAL };
enum index_modify { INDEX_ADD, INDEX_REMOVE, INDEX_REPLACE };

/* Lives in the arena; slices and names given to it are copied. */
struct index_batch *index_batch_new(struct arena *, enum index_origin);
bool index_batch_empty(const struct index_batch *);
/* What a batch asks of messages that are there: flags, then keywords, then expunges, each in the order in which they were put in. */
enum index_part_kind { INDEX_PART_FLAGS, INDEX_PART_KEYWORDS, INDEX_PART_EXPUNGE };
struct index_batch_part {
    enum index_part_kind kind;
    uint32_t first, last;          /* UIDs */
    uint8_t add, remove;           /* FLAGS: new = (old & ~remove) | add */
    enum index_modify modify;      /* KEYWORDS */
    const struct slice *names;     /* the batch's */
    size_t count;
};
void index_batch_each(const struct index_batch *, void (*each)(void *arg, const struct index_batch_part *), void *arg);

/* A message to append. uid 0 = the next one at commit. Appends go out in the order of these calls. */
struct index_append;
struct index_append *index_batch_append(struct index_batch *, uint32_t uid, uint8_t flags);
void index_append_keyword(struct index_batch *, struct index_append *, struct slice name);
void index_append_ext(struct index_batch *, struct index_append *, unsigned ext, struct slice record);
void index_append_cache(struct index_batch *, struct index_append *, unsigned field, struct slice value);
/* Raises the modseq of the new message (dsync). */
void index_append_modseq(struct index_batch *, struct index_append *, uint64_t modseq);

/* Flags of first..last. REPLACE keeps 0x40 and 0x80. UIDs that are gone are skipped. */
void index_batch_flags(struct index_batch *, uint32_t first, uint32_t last, enum index_modify, uint8_t flags);
/* As written: new = (old & ~remove) | add, all 8 bits: for storage syncs (DIRTY, BACKEND). */
void index_batch_flags_raw(struct index_batch *, uint32_t first, uint32_t last, uint8_t add, uint8_t remove);
/* ADD and REMOVE take the names; REPLACE removes all others (also with no names at all). */
void index_batch_keywords(struct index_batch *, uint32_t first, uint32_t last, enum index_modify,
                          const struct slice *names, size_t count);
/* All flag and keyword changes of this batch skip messages whose modseq is higher, or gone; see index_commit.failed. */
void index_batch_unchanged_since(struct index_batch *, uint64_t modseq);
/* Remembers who commits: that view's sync tells its own changes from others'; silent: STORE .SILENT. */
void index_batch_by(struct index_batch *, struct index_view *, bool silent);
/* Marks the records as made by dsync (0x20000000). */
void index_batch_sync_origin(struct index_batch *);

/* A request in an internal batch, a fact in an external one. guid: 16 bytes or NULL for unknown. */
void index_batch_expunge(struct index_batch *, uint32_t uid, const unsigned char *guid);
/* In an internal batch: the request again for one that was carried out (struct index_requests), to keep it open in a new log. */
void index_batch_carried_out(struct index_batch *, uint32_t uid);
/* uid 0: only the mailbox's highest. */
void index_batch_modseq(struct index_batch *, uint32_t uid, uint64_t modseq);
void index_batch_enable_modseq(struct index_batch *);          /* first CONDSTORE use (section 5); INTERNAL */

void index_batch_uid_validity(struct index_batch *, uint32_t);
void index_batch_next_uid(struct index_batch *, uint32_t);             /* never lowers */
void index_batch_first_recent(struct index_batch *, uint32_t);         /* never lowers */
/* Any bytes of the base header (2.1), for last_temp_file_scan and repairs. prepend: before the appends. */
void index_batch_header(struct index_batch *, uint16_t offset, struct slice bytes, bool prepend);

/* The definition given to index_ext makes the intro. */
void index_batch_ext_resize(struct index_batch *, unsigned ext, uint32_t header_size);
void index_batch_ext_reset(struct index_batch *, unsigned ext, uint32_t new_reset_id, bool preserve);
void index_batch_ext_header(struct index_batch *, unsigned ext, uint32_t offset, struct slice bytes);
void index_batch_ext_record(struct index_batch *, unsigned ext, uint32_t uid, struct slice record);
void index_batch_ext_inc(struct index_batch *, unsigned ext, uint32_t uid, int32_t diff);

/* Mailbox attributes: the record only tells that one changed (4.9). */
void index_batch_attribute(struct index_batch *, bool set, bool shared, struct slice name, uint32_t stamp,
                           uint32_t value_size);
void index_batch_deleted(struct index_batch *);
void index_batch_undeleted(struct index_batch *);
/* Asks for an fdatasync of the log at commit (the map index does). */
void index_batch_durable(struct index_batch *);

struct index_commit {
    uint32_t first_uid, last_uid;  /* of the appended messages, in order; 0 = none */
    uint32_t uid_validity;
    uint64_t highest_modseq;       /* after the batch */
    struct index_ranges failed;    /* index_batch_unchanged_since; in the batch's arena, nothing to free */
};
/* All or nothing. STEP_WAIT: the log is locked by others (index_waiter). STEP_ERROR: nothing was written; a full
 * disk is ERROR_SPACE or ERROR_QUOTA, the mailbox is as before. A batch whose changes turn out to be void writes
 * nothing and is STEP_DONE. out may be NULL. */
enum step index_commit(struct index *, struct index_batch *, struct index_commit *out, struct error *);
/* The same for the holder of the lock. */
int index_commit_locked(struct index *, struct index_batch *, struct index_commit *out, struct error *);
int index_commit_wait(struct index *, struct index_batch *, struct index_commit *out, struct error *);

/* ---- what the storage has to carry out ------------------------------------------------------------------------- */

struct index_keyword_request {
    unsigned keyword; /* index_keyword_name */
    bool add;
};
struct index_request {
    uint32_t uid;
    bool expunge;                 /* swallows the rest */
    uint8_t flags_add, flags_remove;
    unsigned char guid[16];       /* of expunge requests; zeros = unknown */
    const struct index_keyword_request *keywords;
    size_t keyword_count;
};
struct index_requests {
    const struct index_request *at; /* ascending UIDs, one per message, only messages that exist */
    size_t count;
    const uint32_t *carried_out;    /* ascending: asked to be expunged, and there is no record any more. Whoever did that may not have */
    size_t carried_out_count;       /* lived to clean up behind it */
    bool tail_needed;               /* something between tail and head must be confirmed by a tail update */
    uint32_t head_seq, head_offset; /* up to where they were collected */
};
/* O(1): is anything between tail and head? May be asked without the lock. */
bool index_has_pending(const struct index *);
/* Under the lock: internal flag, keyword and expunge records between tail and head, merged (7.9.3). Memory from the
 * arena. */
int index_pending(struct index *, struct arena *, struct index_requests *, struct error *);
/* Where the confirmed part of the log ends, and the log itself. */
struct index_log_position {
    uint32_t seq;
    uint64_t tail, head;
};
void index_log_position(const struct index *, struct index_log_position *);
/* Makes the batch's commit finish the sync of these requests: the tail update goes out in the same write (7.5).
 * The batch must be external, committed with index_commit_locked under the lock of index_pending; also when it is
 * otherwise empty. */
void index_batch_done(struct index_batch *, const struct index_requests *);
/* At the end of a storage sync, under the lock: rotates the log, rewrites the base index, removes an old .log.2,
 * purges the cache where chapter 8 and 9.6 say that it is time. Failing is not an error of the sync: it is logged. */
void index_maintain(struct index *);

/* ---- repair ---------------------------------------------------------------------------------------------------- */

/* fsck (12.3): takes the lock, mends what is there, logs each value that changed, writes a new base index. */
enum step index_repair(struct index *, struct error *);
/* The same because somebody wants it: that is always logged, once in the life of *index. */
enum step index_fsck(struct index *, struct error *);
/* Clears header flag 0x04 when the storage has checked itself: part of an external batch. */
void index_batch_clear_fscked(struct index_batch *);
/* Rebuild (force-resync of dbox): under the lock, everything that was known is dropped and the batch, a whole new
 * mailbox, becomes the first transaction of a new log with prev 0/0 whose modseq goes on (13). */
int index_reset(struct index *, struct index_batch *, struct error *);
/* Damage was found by a caller (a map that contradicts its files): logs it, and the next sync repairs. */
void index_mark_corrupted(struct index *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- cache ------------------------------------------------------------------------------------------------------ */

/* Fields by the names of 9.7 and "hdr.<Name>". -> number within this process, the same for every index; type and
 * size come from the name. */
unsigned index_field(const char *name);
const char *index_field_name(unsigned field);

enum index_cached { INDEX_CACHE_MISS, INDEX_CACHE_FOUND };
/* The value of one field; copied into the arena. FOUND with size 0 means: known to be absent. Never fails: a
 * damaged cache is logged, deleted, and a miss. Counts as use of the field (decisions, 9.5). */
enum index_cached index_cache_get(struct index *, uint32_t uid, unsigned field, struct arena *, struct slice *out);
/* Several fields of one message by one walk over its records: values[i].at == NULL is a miss. -> number found. */
size_t index_cache_get_many(struct index *, uint32_t uid, const unsigned *fields, size_t count, struct arena *,
                            struct slice *values);
/* The chain of one message without copies: calls see() per field until it returns false. For dumps. */
void index_cache_each(struct index *, uint32_t uid,
                      bool (*see)(void *, const char *field, struct slice value), void *arg);
/* Would a value of this field be kept for this message (decision yes or temp, message new enough)? */
bool index_cache_wants(struct index *, uint32_t uid, unsigned field);
/* Fields that a new message's save should fill: decisions other than no. -> number; fields must have room for max. */
size_t index_cache_wanted(struct index *, unsigned *fields, size_t max);
/* A message that is being saved is parsed for what is wanted: what falls off by the way is worth keeping from now on (no ->
 * temp, as by a first use). False: the configuration forbids it. */
bool index_cache_want(struct index *, unsigned field);
/* The two halves of it: values where they lie, which stay there until the next call that looks something up or changes the cache
 * (of any index); and the use that decisions count, for all or some of them. */
size_t index_cache_borrow(struct index *, uint32_t uid, const unsigned *fields, size_t count, struct slice *values);
void index_cache_used(struct index *, uint32_t uid, const unsigned *fields, size_t count, const struct slice *values);
/* index_cache_get_many for copies: no use that decisions would count. */
size_t index_cache_peek_many(struct index *, uint32_t uid, const unsigned *fields, size_t count, struct arena *,
                             struct slice *values);
/* Queues a value; written by index_cache_flush. Best effort: dropped when the decision is no, when it is there
 * already, when it is too large. */
void index_cache_put(struct index *, uint32_t uid, unsigned field, struct slice value);
/* The same of a field that nobody has asked for so far, and without a word to decisions. */
void index_cache_put_anyway(struct index *, uint32_t uid, unsigned field, struct slice value);
/* Does the configuration allow this field at all, and this mailbox a cache? */
bool index_cache_allows(struct index *, unsigned field);
/* Writes what is queued: cache lock tried once, log lock tried once; not got: stays queued up to a cap. Call at the
 * end of a command. */
void index_cache_flush(struct index *);
/* A value that contradicts the message: forgets the message's cache, logs "Deleting corrupted cache record". */
void index_cache_corrupted(struct index *, uint32_t uid, const char *why);
enum index_decision { INDEX_CACHE_NO, INDEX_CACHE_TEMP, INDEX_CACHE_YES, INDEX_CACHE_FORCED = 0x80 };
bool index_cache_decision(struct index *, unsigned field, enum index_decision *, uint32_t *last_used);
/* A mailbox without a cache so far begins with the decisions of another (INBOX's), if that has a cache: then the file is
 * made. False: nothing was done. */
bool index_cache_inherit(struct index *, struct index *from);
/* What the mailbox's cache keeps count of: the names of 9.7, then the headers of the file in its order. False: no usable file. */
bool index_cache_fields(struct index *, struct arena *, const unsigned **fields, size_t *count);
/* An administrator's word. A decision that the configuration forces stays; of two times the later one counts.
 * NULL: as it is. */
void index_cache_configure(struct index *, unsigned field, const enum index_decision *, const uint32_t *last_used);
/* As a part of a batch: what is known of the message is forgotten. False: there is nothing. */
bool index_batch_forget_cached(struct index *, struct index_batch *, uint32_t uid);
/* Forgets what is known of these messages. */
int index_cache_remove(struct index *, const struct index_ranges *uids, struct error *);
int index_cache_set_decision(struct index *, unsigned field, enum index_decision, struct error *);
enum step index_cache_purge(struct index *, struct error *); /* takes the log lock unless held; STEP_WAIT: others have the log or the cache */

#endif
