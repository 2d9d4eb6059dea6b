/* Maildir among its own files: names, uidlist, keywords, what a mailbox holds (maildir-and-layouts 8). */
#ifndef YARILO_STORE_MAILDIR_MAILDIR_H
#define YARILO_STORE_MAILDIR_MAILDIR_H

#include "store/driver.h"

/* ---- names.c: file names; pure functions ---- */

#define MAILDIR_LETTERS 26

/* The identity of a file: its name up to the first ':'. */
size_t maildir_base_size(const char *name);
/* Flags and keyword letters (bit n = letter 'a' + n) of the info part; no info or another version: none. */
void maildir_info_parse(const char *info, uint8_t *flags, uint32_t *letters);
/* The info part ":2,..." with these flags; unknown letters and what follows a second comma are kept from the old one. */
char *maildir_info_make(struct arena *, const char *old_info, uint8_t flags, uint32_t letters);
/* ",S=<n>" or ",W=<n>" in the base; the first one counts, and only when digits end at ',', ':' or the end. */
bool maildir_size_field(struct slice base, char key, uint64_t *out);
/* A base that no other call of this process gives: "<secs>.M<usecs>P<pid>.<host>". */
char *maildir_name_new(struct arena *);
/* The order in which new files get their UIDs (8.7-5). */
int maildir_name_compare(const char *a, const char *b);

/* ---- uidlist.c ---- */

enum { WHERE_UNKNOWN, WHERE_NEW, WHERE_CUR, WHERE_GONE };

struct maildir_record {
    uint32_t uid;
    uint8_t where;           /* as last seen */
    bool seen;               /* in the running scan */
    bool was_new;            /* it stood in new/ at the last scan, or was moved from there, or has just got its UID */
    bool suspect;            /* reappeared after its expunge, seen once (8.7) */
    const char *base;
    const char *info;        /* from ':' on, as last seen; NULL = none or not known */
    const char *fields;      /* "S12 W13 Gabc", as in the file; NULL = none */
};

struct maildir_uidlist {
    struct maildir_record *at;   /* ascending UIDs */
    size_t count, room;
    uint32_t *by_base;           /* indexes into at, sorted by base; the first `sorted` records are in it */
    size_t sorted, by_base_room;
    struct arena *arena;
    bool loaded, exists;
    bool recreate;               /* must be rewritten at the next chance */
    unsigned version;
    uint32_t uid_validity, next_uid;
    bool have_guid;
    unsigned char guid[16];
    const char *other_fields;    /* unknown header fields, with a space in front of each; "" = none */
    size_t lines;                /* records in the file */
    size_t gone;
    dev_t dev;
    ino_t ino;
    uint64_t size;               /* bytes that were read; whole lines */
    struct timespec mtime;
    const struct mailbox *box;   /* whose list it is, for the log; NULL = unknown */
    size_t line;                 /* of the file, which is being parsed */
};

void maildir_uidlist_free(struct maildir_uidlist *);
struct arena *maildir_uidlist_arena(struct maildir_uidlist *);   /* for strings that records point to */
/* Parses complete lines, with the header when the list is empty; appends records. *used: bytes consumed. ERROR_CORRUPT with
 * the reason ("line %n: ..." comes first) and what stood before the bad line kept. */
int maildir_uidlist_parse(struct maildir_uidlist *, struct slice text, size_t *used, struct error *);
struct maildir_record *maildir_uidlist_find(struct maildir_uidlist *, uint32_t uid);            /* O(log n) */
struct maildir_record *maildir_uidlist_find_base(struct maildir_uidlist *, const char *base, size_t size);
/* Sorts what was added since. Doubled bases: the higher UID stays; *doubled counts them. */
void maildir_uidlist_index(struct maildir_uidlist *, size_t *doubled);
struct maildir_record *maildir_uidlist_add(struct maildir_uidlist *, uint32_t uid, const char *base, const char *fields);
/* Strings of names that changed long ago are given back when they are most of the memory. */
void maildir_uidlist_repack(struct maildir_uidlist *);
/* The field's value (in the arena), NULL = absent. */
const char *maildir_record_field(const struct maildir_record *, char key, struct arena *);
/* Fields with one replaced (value NULL: removed). */
const char *maildir_fields_set(struct arena *, const char *fields, char key, const char *value);

/* ---- keywords.c ---- */

struct maildir_keywords {
    char *names[MAILDIR_LETTERS];  /* NULL = free */
    bool loaded;
    struct timespec mtime;
    bool changed;                  /* to be written */
};
void maildir_keywords_free(struct maildir_keywords *);
/* Pure: the file's lines. Bad lines are counted. */
size_t maildir_keywords_parse(struct maildir_keywords *, struct slice text);
int maildir_keyword_letter(const struct maildir_keywords *, struct slice name);   /* without case; -1 */
int maildir_keyword_add(struct maildir_keywords *, struct slice name);            /* letter, or -1: full */

/* ---- scan.c: reading new/ and cur/ ---- */

struct maildir_entry {
    const char *name;              /* in the scan's arena */
    uint32_t base_size;
    bool in_new, dropped;
    bool moved;                    /* stood in new/ when this scan came by */
};
struct maildir_entries {
    struct maildir_entry *at;
    size_t count, room;
};

/* ---- a mailbox ---- */

struct maildir {
    struct mailbox *box;
    int dir, control;              /* the mailbox's and the control folder, O_PATH */
    dev_t dev;
    ino_t ino;                     /* of the mailbox's folder when it was opened */
    struct maildir_uidlist list;
    struct maildir_keywords keywords;
    struct os_dotlock *lock;       /* dovecot-uidlist.lock, while a job holds it */
    time_t lock_touched;
    unsigned ext;                  /* index extension "maildir" */
    bool very_dirty, broken_sizes, empty_new, copy_with_hardlinks, save_crlf;
    bool look_only;              /* nothing may be written there, not even the uidlist */
    bool fsync_never;
    bool defer_sync;               /* leave the uidlist's fdatasync to the caller: sync_fd */
    int sync_fd;                   /* -1 = none */
    bool given;                    /* the file of given.c is there */
    bool odd_files_logged;         /* FIFOs, devices, links: said once */
    struct timespec search_new, search_cur; /* folders' times at the last search for a missing file */
};

/* Reads at most `most` names of an open folder into the entries; *end at the end. */
int maildir_scan(struct maildir *, void *dir, bool in_new, struct arena *, struct maildir_entries *, unsigned most,
                 bool *end, struct error *);
void *maildir_scan_open(struct maildir *, const char *folder, struct error *);   /* DIR; NULL */
/* Sorts by base; of doubled ones those in cur/ first. */
void maildir_entries_sort(struct maildir_entries *);
/* Notes in the records where their files are: merges the sorted entries. Those that are no record's go to `fresh`
 * (may be NULL), those that lack a file keep seen == false. */
void maildir_entries_merge(struct maildir *, const struct maildir_entries *, struct maildir_entries *fresh);
/* Both folders at once, when they changed since the last search: files renamed by others are found again. */
int maildir_search(struct maildir *, struct error *);

/* Index header extension "maildir" (8.6). */
struct maildir_ext {
    uint32_t new_check, new_mtime, new_mtime_ns, cur_check, cur_mtime, cur_mtime_ns, list_mtime, list_mtime_ns, list_size;
};
void maildir_ext_read(const struct maildir *, struct maildir_ext *);
void maildir_ext_write(struct maildir *, struct index_batch *, const struct maildir_ext *);
void maildir_ext_stat_list(const struct maildir *, struct maildir_ext *);

/* uidlist_file.c: the file. */
int maildir_list_refresh(struct maildir *, struct error *);       /* reads what changed; missing: empty list */
bool maildir_list_stat(const struct maildir *, struct stat *);
enum step maildir_list_lock(struct maildir *, struct error *);    /* STEP_WAIT: others have it; then refresh */
void maildir_list_unlock(struct maildir *);
void maildir_list_touch(struct maildir *);                        /* keeps a long held lock alive */
/* Sees to it that UIDVALIDITY and GUID exist (lock held). */
int maildir_list_begin(struct maildir *, struct error *);
/* Appends the records from index `from` on with one write, or rewrites all if that is due. *fd_out: to be synced (not
 * closed); -1: synced already or not wanted. Lock held. */
int maildir_list_write(struct maildir *, size_t from, struct error *);
int maildir_list_recreate(struct maildir *, struct error *);

/* uidlist.c: the file's text, by lines. */
void maildir_uidlist_put_header(struct buffer *, const struct maildir_uidlist *);
void maildir_uidlist_put(struct buffer *, const struct maildir_record *);

/* given.c: UIDs that messages bring along; the uidlist's lock is held. */
struct maildir_given {
    uint32_t uid;
    size_t entry;                  /* which of the new files */
    const char *fields;
};
/* Says, durably, which UIDs and fields the files that are about to appear get. Nothing for none. */
int maildir_given_write(struct maildir *, const struct maildir_record *, size_t count, struct error *);
void maildir_given_done(struct maildir *);                 /* removes it, if it is there; one that stays harms nobody, and is logged */
bool maildir_given_there(struct maildir *);                /* a dead process may have left it, too */
int maildir_given_end(struct maildir *, struct error *);   /* also one that a dead process has left */
/* Of the new files, those whose UIDs were given and are still free: by ascending UIDs, into out[fresh->count]. -> how many */
size_t maildir_given_match(struct maildir *, const struct maildir_entries *fresh, struct maildir_given *out);

/* keywords_file.c */
int maildir_keywords_refresh(struct maildir *, struct error *);
int maildir_keywords_write(struct maildir *, struct error *);     /* if changed; uidlist lock held */

/* read.c */
struct maildir_record *maildir_record_of(struct maildir *, uint32_t uid, struct error *);   /* reads the uidlist if need be; NULL */
/* Runs `act` on the file's name ("cur/x") relative to m->dir until it is not ENOENT; looks for a renamed file. act
 * returns 1: done, 0: not there (ENOENT), -1: *e. -> 1, 0: really gone, -1. */
int maildir_file_do(struct maildir *, uint32_t uid, int (*act)(struct maildir *, const char *name, void *arg, struct error *),
                    void *arg, struct error *);
char *maildir_record_path(const struct maildir_record *, struct arena *);   /* "cur/base:2,S" as last seen */
int maildir_read(struct mailbox *, uint32_t uid, struct arena *, struct mail_file *, struct error *);
void maildir_read_end(struct mail_file *);
int maildir_item(struct mailbox *, uint32_t uid, enum driver_item, struct arena *, struct driver_value *, struct error *);
void maildir_mend(struct mailbox *, uint32_t uid, uint64_t physical, uint64_t virtual_size);
const char *maildir_guid_of(const struct maildir_record *, struct arena *);

/* sync.c */
enum step maildir_sync(struct mailbox *, struct driver_sync *, struct budget *, struct error *);
void maildir_sync_end(struct mailbox *, struct driver_sync *);

/* save.c */
int maildir_stage(struct staged *, struct error *);
int maildir_stage_write(struct staged *, struct slice, struct error *);
int maildir_stage_finish(struct staged *, struct error *);
int maildir_stage_copy(struct staged *, struct mailbox *from, uint32_t uid, struct error *);
int maildir_stage_again(struct staged *, const struct staged *first, struct error *);
void maildir_discard(struct staged *);
enum step maildir_publish(struct mailbox *, struct driver_publish *, struct budget *, struct error *);
void maildir_publish_end(struct mailbox *, struct driver_publish *);

#endif
