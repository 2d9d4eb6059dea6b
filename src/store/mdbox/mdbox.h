/* mdbox: many messages a file, storage/m.<n>, with a map of where they lie (dbox-format 3). What the files of this folder
 * share.
 *
 * The files and the map belong to the whole store, not to a mailbox: struct mdbox_storage is one per root and process. A
 * mailbox is an index whose records name map UIDs. Locks are taken in this order and no other: m.* files, map, mailbox;
 * nobody who waits for one holds a later one. */
#ifndef YARILO_STORE_MDBOX_MDBOX_H
#define YARILO_STORE_MDBOX_MDBOX_H

#include "store/dbox/dbox.h"
#include "store/internal.h"
#include "store/mdbox/map.h"

#define MDBOX_NAME_MAX 24                    /* "m.4294967295" */
#define MDBOX_FILES_OPEN 8

struct mdbox_file {                          /* an m.<id> that is open for reading */
    uint32_t id;
    unsigned refs;
    struct dbox_file file;
    bool in_alt, stale;
};

struct mdbox_storage {
    struct mdbox_storage *prev, *next;       /* of the process's list */
    unsigned refs;
    char *path, *map_path, *alt_path;        /* storage/ of root, INDEX, ALT; alt_path NULL = none */
    char *root, *alt_root;
    int dir;                                 /* storage/, for reading: it is synced */
    struct mail_modes modes;
    struct mdbox_map *map;
    bool read_only;
    bool corrupted;                          /* whoever syncs next rebuilds */
    bool no_map;                             /* corrupted because there are files and a map that knows of none */
    uint32_t corrupted_count;                /* rebuild_count when that was seen */
    bool refused;                            /* the rebuild was not possible (ALT is not mounted, a file cannot be read): not tried
                                              * by itself again */
    unsigned rebuilds;                       /* since the last time that everything was in order */
    VEC(uint32_t) moves;                     /* map UIDs that altmove has chosen, once per reference */
    bool moves_back;
    struct mdbox_file *files[MDBOX_FILES_OPEN]; /* most recently used first */
};

/* storage.c. `create`: make what is missing; otherwise ERROR_NOT_FOUND. */
int mdbox_storage_get(struct mdbox_storage **, struct mail_user *, const struct mail_location *, bool create, struct error *);
void mdbox_storage_put(struct mdbox_storage **);
bool mdbox_storage_is_of(const struct mdbox_storage *, const struct mail_location *);
void mdbox_name(char out[MDBOX_NAME_MAX], uint32_t id);
/* Files and map contradict each other: told once, mended by the next sync. */
void mdbox_storage_corrupted(struct mdbox_storage *, const struct log *, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void mdbox_storage_set_corrupted(struct mdbox_storage *);        /* told already */
/* The same for a file: e is ERROR_CORRUPT. */
void mdbox_storage_corrupted_file(struct mdbox_storage *, const struct log *, const struct error *e);
/* Locks the map. What an earlier change has not ended makes the storage corrupted; then nobody confirms any more until it is
 * rebuilt. */
enum step mdbox_storage_lock(struct mdbox_storage *, const struct log *, const char *why, struct error *);
int mdbox_storage_confirm(struct mdbox_storage *, struct error *);
bool mdbox_rebuild_wanted(struct mdbox_storage *);
/* ALT/storage as a descriptor to be closed. */
int mdbox_open_alt(const struct mdbox_storage *, bool create, struct error *);
/* An m.<id>, primary first, then ALT; kept open for a while. Release with mdbox_file_put. ERROR_NOT_FOUND, ERROR_CORRUPT. */
int mdbox_file_get(struct mdbox_storage *, uint32_t id, struct mdbox_file **, struct error *);
void mdbox_file_put(struct mdbox_storage *, struct mdbox_file **);

/* ---- a mailbox ---- */

enum { MDBOX_HAS_POP3_UIDL = 1, MDBOX_HAS_POP3_ORDER = 2 };
#define MDBOX_HEADER_SIZE 24
struct mdbox_header {                        /* index extension mdbox-hdr */
    uint32_t map_uid_validity;
    unsigned char guid[16];
    uint8_t flags;                           /* MDBOX_HAS_... */
};
struct mdbox_record {                        /* index extensions mdbox and guid */
    uint32_t map_uid, save_date;
    unsigned char guid[16];
    bool has_guid;                           /* not all zero */
};
struct mdbox {
    struct mailbox *box;
    struct mdbox_storage *storage;
    unsigned ext_header, ext_uidl, ext_record, ext_guid;
    bool fsync_never;
};

/* driver.c */
bool mdbox_header_get(const struct mdbox *, struct mdbox_header *);
void mdbox_header_put(const struct mdbox *, struct index_batch *, const struct mdbox_header *);
bool mdbox_record_get(const struct mdbox *, uint32_t uid, struct mdbox_record *);
void mdbox_append_record(const struct mdbox *, struct index_batch *, struct index_append *, uint32_t map_uid,
                         uint32_t save_date, const unsigned char guid[16]);
void mdbox_put_map_uid(const struct mdbox *, struct index_batch *, uint32_t uid, const struct mdbox_record *);
uint32_t mdbox_highest_uidl(const struct mdbox *);
void mdbox_put_highest_uidl(const struct mdbox *, struct index_batch *, uint32_t uid);
/* The lock is held: UIDVALIDITY, GUID and the map's UIDVALIDITY of a new mailbox. */
int mdbox_init_mailbox(struct mdbox *, struct error *);
/* The message is a second copy of another one: its attachments are that one's (disown.c). */
int mdbox_disown(struct mdbox_storage *, const struct mdbox_map_record *, struct error *);
int mdbox_open_index(struct mdbox *, struct error *);           /* with its extensions */
int mdbox_guid(struct mailbox *, unsigned char guid[16], struct error *);

/* ---- writing messages into files (writer.c) ---- */

struct mdbox_target {                        /* a file that messages are appended to, flocked */
    uint32_t id;                             /* 0 = new, still under its temporary name */
    int fd;
    const char *name;                        /* m.<id> or .temp..., in its folder */
    uint64_t start, end;                     /* its size before us, and now */
    bool in_alt, spoiled;
    bool synced;
    const char *adopted;                     /* the temporary name of a file that was taken over; its fd is its owner's */
};
struct mdbox_writer {
    struct mdbox_storage *storage;
    struct mail_user *user;
    struct arena *arena;
    int alt;                                 /* ALT's folder; -1 = not opened */
    VEC(struct mdbox_target *) targets;
    VEC(uint32_t) refused;                   /* files that were no good for us: not looked at again */
    VEC(struct mdbox_target *) tails;        /* files that end with a message that was never finished */
    uint64_t limit;                          /* mdbox_rotate_size */
    bool preallocate;
    int64_t oldest;                          /* mdbox_rotate_interval: files made before are not appended to; 0 = none */
};
void mdbox_writer_begin(struct mdbox_writer *, struct mdbox_storage *, struct mail_user *, struct arena *);
/* A file with room for `size` bytes more (3.3); never one that is in `not_id`. may_make: false answers 0 instead of making a
 * new file. 1, 0, -1. */
int mdbox_writer_target(struct mdbox_writer *, uint64_t size, bool in_alt, uint32_t not_id, bool may_make,
                        struct mdbox_target **, struct error *);
/* Takes over a whole file under a temporary name of the storage's folder (fd too) as a new one. */
struct mdbox_target *mdbox_writer_adopt(struct mdbox_writer *, int fd, const char *temp_name, uint64_t size);
/* Copies `size` bytes, a whole message, of another descriptor to the end of the target: header last. *offset: where. */
int mdbox_writer_copy(struct mdbox_target *, int from_fd, uint64_t from, uint64_t size, uint64_t body_size, uint64_t *offset,
                      struct error *);
/* Map locked: the new files get their ids and names; *highest is raised. ERROR_EXISTS: a file is there that the map does not
 * know. */
int mdbox_writer_name(struct mdbox_writer *, uint32_t *highest, struct error *);
/* Map locked: cuts off what was never finished in files that were passed over for it. */
void mdbox_writer_cut_tails(struct mdbox_writer *);
bool mdbox_writer_has_new(const struct mdbox_writer *, bool in_alt);
/* Takes everything back: what was appended, files that were made; adopted ones get their temporary names again. */
void mdbox_writer_undo(struct mdbox_writer *);
void mdbox_writer_end(struct mdbox_writer *);        /* also the flocks */

/* ---- messages (read.c) ---- */

int mdbox_read(struct mailbox *, uint32_t uid, struct arena *, struct mail_file *, struct error *);
void mdbox_read_end(struct mail_file *);
int mdbox_item(struct mailbox *, uint32_t uid, enum driver_item, struct arena *, struct driver_value *, struct error *);

/* ---- save.c ---- */

int mdbox_stage(struct staged *, struct error *);
int mdbox_stage_write(struct staged *, struct slice, struct error *);
int mdbox_stage_finish(struct staged *, struct error *);
int mdbox_stage_copy(struct staged *, struct mailbox *from, uint32_t uid, struct error *);
int mdbox_stage_again(struct staged *, const struct staged *first, struct error *);
int mdbox_stage_read(const struct staged *, struct arena *, struct mail_file *, struct error *);
void mdbox_discard(struct staged *);

/* ---- given.c: UIDs that a conversion gives ---- */

struct mdbox_given {
    char *name;                      /* NULL = no file was made */
    int fd;
};
/* Nothing to do where no message brings a UID, or the file is there already. After -1 too mdbox_given_end is called. */
int mdbox_given_begin(struct mdbox_given *, struct mdbox_storage *, struct staged *const *, size_t count, bool sync, struct arena *,
                      struct error *);
void mdbox_given_end(struct mdbox_given *, struct mdbox_storage *, const struct log *);
void mdbox_given_keep(struct mdbox_given *);         /* for the rebuild that must come */
/* A process died while it saved with given UIDs: the storage wants a rebuild. */
bool mdbox_given_left(const struct mdbox_storage *);

/* ---- publish.c ---- */

enum step mdbox_publish(struct mailbox *, struct driver_publish *, struct budget *, struct error *);
void mdbox_publish_end(struct mailbox *, struct driver_publish *);

struct mdbox_staged {
    char *temp;                      /* a whole dbox file with this one message */
    int fd;                          /* of it */
    uint64_t end;                    /* its size */
    struct dbox_staging in;
    const char *guid;                /* text */
    unsigned char guid128[16];
    bool reference;                  /* a copy: map_uid is the source's */
    uint32_t map_uid, save_date;
    uint8_t pop3_flags;              /* MDBOX_HAS_... */
    bool adopted;                    /* temp is the writer's now */
};

/* ---- losses.c ---- */

struct mdbox_loss {
    uint32_t map_uid;
    unsigned count;
};
struct mdbox_losses {                /* zeroed; VEC_FREE at the end */
    struct mdbox_loss *at;
    size_t count, room;
};
void mdbox_losses_add(struct mdbox_losses *, const struct mdbox_record *);
/* The map is locked. A count never goes below 0: what is too low already is counted anew by the rebuild. */
int mdbox_losses_lower(struct mdbox *, struct mdbox_losses *, struct arena *, struct error *);
/* The mailbox could not be written: its messages are counted again. If that fails too, the tail tells of it. */
void mdbox_losses_raise(struct mdbox *, const struct mdbox_losses *, struct arena *);

/* ---- unplace.c ---- */

enum step mdbox_unplace(struct mailbox *, uint32_t first, struct error *);

/* ---- sync.c ---- */

enum step mdbox_sync(struct mailbox *, struct driver_sync *, struct budget *, struct error *);
void mdbox_sync_end(struct mailbox *, struct driver_sync *);

/* ---- purge.c ---- */

/* Both as steps of one operation. STEP_DONE: all that could be done is done. */
struct mdbox_purge;
struct mdbox_purge *mdbox_purge_begin(struct mdbox_storage *, struct mail_user *);
/* Moves too: messages all of whose references were chosen. */
void mdbox_purge_move(struct mdbox_purge *, uint32_t map_uid);
void mdbox_purge_move_back(struct mdbox_purge *);    /* the chosen ones come back from ALT */
enum step mdbox_purge_step(struct mdbox_purge *, struct budget *, struct error *);
void mdbox_purge_end(struct mdbox_purge **);

/* ---- rebuild*.c ---- */

struct mdbox_rebuild;
/* No lock is held by the caller but none of another's is needed. forced: also when another process has just done it. */
struct mdbox_rebuild *mdbox_rebuild_begin(struct mdbox_storage *, struct mail_user *, bool forced);
enum step mdbox_rebuild_step(struct mdbox_rebuild *, struct budget *, struct error *);
void mdbox_rebuild_end(struct mdbox_rebuild **);

#endif
