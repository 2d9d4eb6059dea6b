/* rebuild.h - among the files of the rebuild (dbox-format 3.9): what it knows, and its parts in order. rebuild.c begins, ends
 * and matches the old map; rebuild_files.c reads the files; rebuild_boxes.c mends the mailboxes. */
#ifndef YARILO_STORE_MDBOX_REBUILD_H
#define YARILO_STORE_MDBOX_REBUILD_H

#include "store/mdbox/mdbox.h"

struct rebuild_message {
    unsigned char guid[16];
    struct mdbox_map_record where;       /* uid 0: not in the map yet; ref: the old count */
    const char *mailbox;                 /* B; NULL = none */
    uint64_t size;                       /* of the stored bytes */
    unsigned count;                      /* references found */
    bool known;                          /* the old map had it just so, or */
    bool moved;                          /* had it, and a repair of the file has changed its place */
    bool extra;                          /* another of the same GUID and size counts */
};
struct rebuild_guid {
    unsigned char guid[16];
};
struct rebuild_id {
    uint32_t id;
    bool in_alt;
};
struct mdbox_rebuild {
    struct mdbox_storage *storage;
    struct mail_user *user;
    struct arena *arena;
    enum { REBUILD_LOCK, REBUILD_LIST, REBUILD_FILES, REBUILD_MATCH, REBUILD_BOXES, REBUILD_RESTORE, REBUILD_FINISH } phase;
    bool forced, locked, skipped;        /* skipped: a mailbox could not be opened; its references are not known */
    bool same_map;                       /* old map UIDs of mailboxes mean something */
    VEC(struct rebuild_id) ids;
    VEC(struct rebuild_message) found;
    VEC(uint32_t) lost;                  /* map UIDs whose messages are not there any more */
    VEC(struct mailbox_place) places;
    VEC(struct rebuild_guid) given;      /* of conversions that died (given.c), sorted */
    VEC(const char *) given_names;       /* the files that say so */
    size_t *by_guid;                     /* indexes into found, sorted */
    size_t *by_uid;
    size_t next;
    uint32_t highest;
    struct mailbox *box;                 /* that is being worked on */
    const char *last_mailbox;
};


const struct log *mdbox_rebuild_log(const struct mdbox_rebuild *);

/* rebuild_files.c: r->ids, then r->found; one file a step, damaged ones are mended. STEP_MORE; the phase moves on. */
enum step mdbox_rebuild_list_files(struct mdbox_rebuild *, struct error *);
enum step mdbox_rebuild_scan_files(struct mdbox_rebuild *, struct error *);

/* rebuild_boxes.c: one mailbox a step: counts what they have in r->found, then gives messages that none has a place. */
enum step mdbox_rebuild_mend_boxes(struct mdbox_rebuild *, struct error *);
enum step mdbox_rebuild_restore_orphans(struct mdbox_rebuild *, struct error *);

/* given.c: r->given; whose messages are not given to a mailbox; what is not needed any more. */
int mdbox_rebuild_read_given(struct mdbox_rebuild *, struct error *);
bool mdbox_rebuild_is_given(const struct mdbox_rebuild *, const unsigned char guid[16]);
int mdbox_rebuild_remove_given(struct mdbox_rebuild *, struct error *);

#endif
