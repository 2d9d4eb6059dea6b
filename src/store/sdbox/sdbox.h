/* sdbox: one message a file, u.<uid>, everything else in the index (dbox-format 2). What the files of this folder share.
 *
 * The index is the storage: UIDs, flags and keywords are nowhere else, the file names repeat only the UIDs. Therefore what is
 * appended to the index is synced before anybody is told, and what contradicts the files is mended by a rebuild
 * (rebuild.c), which takes the files, the old index and its backup together. */
#ifndef YARILO_STORE_SDBOX_SDBOX_H
#define YARILO_STORE_SDBOX_SDBOX_H

#include "store/dbox/dbox.h"
#include "store/internal.h"

#define SDBOX_NAME_MAX 24                    /* "u.4294967295" */
enum { SDBOX_HAS_POP3_UIDL = 1, SDBOX_HAS_POP3_ORDER = 2 };

struct sdbox_header {                        /* index extension dbox-hdr */
    uint32_t rebuild_count;
    unsigned char guid[16];
    uint8_t flags;                           /* SDBOX_HAS_... */
};
#define SDBOX_HEADER_SIZE 24

struct sdbox {
    struct mailbox *box;
    int dir;                                 /* the mailbox folder, for reading: it is synced */
    char *alt_path;                          /* NULL = no ALT */
    unsigned ext_header, ext_uidl;
    bool fsync_never, attachments;
    bool damaged;                            /* the next sync rebuilds */
    uint32_t damaged_count;                  /* rebuild_count when that was seen */
    bool refused;                            /* a rebuild cannot be made now (ALT is not mounted, a file cannot be read): not tried by itself again */
    struct index_ranges told;                /* expunged messages of which it was logged that their files cannot be unlinked */
    unsigned rebuilds;                       /* since the last sync that found everything in order */
};

/* driver.c */
void sdbox_name(char out[SDBOX_NAME_MAX], uint32_t uid);
/* False: there is none, or a short one. */
bool sdbox_header_get(struct sdbox *, struct sdbox_header *);
void sdbox_header_put(struct sdbox *, struct index_batch *, const struct sdbox_header *);
uint32_t sdbox_highest_uidl(struct sdbox *);
void sdbox_put_highest_uidl(struct sdbox *, struct index_batch *, uint32_t uid);
/* Remembers that the files and the index contradict each other. */
void sdbox_set_damaged(struct sdbox *);
/* The folder in ALT: -1 with ERROR_NOT_FOUND when it is not there (or there is no ALT). To be closed. */
int sdbox_open_alt(const struct sdbox *, bool create, struct error *);
/* "-<mailbox guid>-<uid>", behind the path of each attachment. */
char *sdbox_suffix(struct sdbox *, struct arena *, uint32_t uid);

/* read.c */
/* u.<uid>, here or in ALT; *in_alt tells where. ERROR_NOT_FOUND, ERROR_CORRUPT. */
int sdbox_file_open(struct sdbox *, uint32_t uid, struct dbox_file *, bool *in_alt, struct error *);
int sdbox_read(struct mailbox *, uint32_t uid, struct arena *, struct mail_file *, struct error *);
void sdbox_read_end(struct mail_file *);
int sdbox_item(struct mailbox *, uint32_t uid, enum driver_item, struct arena *, struct driver_value *, struct error *);
/* The X metadata of a message that is to go, NULL = none. */
const char *sdbox_attachments_of(struct sdbox *, uint32_t uid, struct arena *);

/* unlink.c */
struct sdbox_unlinker {                      /* for many messages of a mailbox */
    struct sdbox *d;
    int alt;                                 /* -1: not opened */
};
void sdbox_unlink_begin(struct sdbox_unlinker *, struct sdbox *);
/* The file of a message, here and in ALT, and its attachments. One that is in neither place is gone already. -1: it is still
 * there. */
int sdbox_unlink(struct sdbox_unlinker *, uint32_t uid, struct error *);
void sdbox_unlink_end(struct sdbox_unlinker *);
/* Under the lock: the files of expunged messages that are still there. *left: carried_out has those that cannot be removed,
 * which was logged; memory from the arena. */
int sdbox_unlink_carried_out(struct sdbox *, struct arena *, struct index_requests *left, struct error *);

/* save.c */
int sdbox_stage(struct staged *, struct error *);
int sdbox_stage_write(struct staged *, struct slice, struct error *);
int sdbox_stage_finish(struct staged *, struct error *);
int sdbox_stage_copy(struct staged *, struct mailbox *from, uint32_t uid, struct error *);
int sdbox_stage_again(struct staged *, const struct staged *first, struct error *);
int sdbox_stage_read(const struct staged *, struct arena *, struct mail_file *, struct error *);
void sdbox_discard(struct staged *);
enum step sdbox_publish(struct mailbox *, struct driver_publish *, struct budget *, struct error *);
void sdbox_publish_end(struct mailbox *, struct driver_publish *);

/* sync.c */
enum step sdbox_sync(struct mailbox *, struct driver_sync *, struct budget *, struct error *);
void sdbox_sync_end(struct mailbox *, struct driver_sync *);
/* The lock is held: a mailbox without UIDVALIDITY and without files is made one. False in *fresh: it has files, rebuild. */
int sdbox_init_mailbox(struct sdbox *, bool *fresh, struct error *);

/* rebuild.c: the lock is held from begin to end by the caller. */
struct sdbox_rebuild;
struct sdbox_rebuild *sdbox_rebuild_begin(struct sdbox *);
/* STEP_DONE: the index is a new one, committed. */
enum step sdbox_rebuild_step(struct sdbox_rebuild *, struct budget *, struct error *);
void sdbox_rebuild_end(struct sdbox_rebuild **);
/* Is a rebuild wanted, and not yet done by another process? */
bool sdbox_rebuild_wanted(struct sdbox *);

#endif
