/* The map of an mdbox store: which message lies where, and how many mailboxes refer to it (dbox-format 3.1).
 *
 * An ordinary index, dovecot.map.index, whose UIDs are map UIDs. Every change is made under its lock and durable; it counts as
 * unfinished until mdbox_map_confirm has moved the log's tail behind it, so that whoever takes the lock after a crash sees
 * that mailboxes and map may disagree (3.4 to 3.6). Lock order everywhere: m.* file, map, mailbox. */
#ifndef YARILO_STORE_MDBOX_MAP_H
#define YARILO_STORE_MDBOX_MAP_H

#include "index/index.h"

#define MDBOX_REF_MAX 32767

struct mdbox_map;
struct mdbox_map_record {
    uint32_t uid;
    uint32_t file_id, offset, size;    /* size: up to the next message */
    uint16_t ref;                      /* 0 = purge removes it */
};

/* `dir` is the folder of the map, `path` names it. Creates the map when it is not there, unless read_only. */
int mdbox_map_open(struct mdbox_map **, int dir, const char *path, const struct index_settings *, mode_t, gid_t,
                   bool read_only, struct error *);
void mdbox_map_close(struct mdbox_map **);
struct index *mdbox_map_index(const struct mdbox_map *);
enum step mdbox_map_refresh(struct mdbox_map *, struct error *);
uint32_t mdbox_map_uid_validity(const struct mdbox_map *);         /* 0 = not made yet */
uint32_t mdbox_map_highest_file_id(const struct mdbox_map *);
uint32_t mdbox_map_rebuild_count(const struct mdbox_map *);
/* NULL, or what is wrong with the map itself (3.9). */
const char *mdbox_map_problem(const struct mdbox_map *);
bool mdbox_map_fscked(const struct mdbox_map *);

uint32_t mdbox_map_count(const struct mdbox_map *);
bool mdbox_map_get(const struct mdbox_map *, uint32_t uid, struct mdbox_map_record *);
bool mdbox_map_get_at(const struct mdbox_map *, uint32_t seq, struct mdbox_map_record *);   /* 1-based */
/* All records of one file, by offset; memory from the arena. */
struct mdbox_map_record *mdbox_map_of_file(const struct mdbox_map *, uint32_t file_id, struct arena *, size_t *count);
/* By file, then offset. */
int mdbox_map_record_compare(const void *, const void *);

/* STEP_WAIT: others have it. *unfinished: what was begun last was not ended; the store wants a rebuild. A new map gets its
 * UIDVALIDITY here. */
enum step mdbox_map_lock(struct mdbox_map *, const char *why, bool *unfinished, struct error *);
void mdbox_map_unlock(struct mdbox_map *);

/* A change: values first, then all of them in one durable commit. Purge's are facts (external), all others internal. */
struct mdbox_change {
    struct mdbox_map *map;
    struct index_batch *batch;
    unsigned appends;
};
void mdbox_change_begin(struct mdbox_change *, struct mdbox_map *, struct arena *, bool external);
void mdbox_change_append(struct mdbox_change *, const struct mdbox_map_record *);      /* uid is ignored */
void mdbox_change_move(struct mdbox_change *, const struct mdbox_map_record *);        /* file_id, offset, size of uid */
void mdbox_change_ref(struct mdbox_change *, uint32_t uid, int diff);                  /* summed; the caller checks limits */
void mdbox_change_set_ref(struct mdbox_change *, uint32_t uid, uint16_t ref);
void mdbox_change_expunge(struct mdbox_change *, uint32_t uid);                        /* external changes only */
void mdbox_change_highest_file_id(struct mdbox_change *, uint32_t);
void mdbox_change_rebuild_count(struct mdbox_change *, uint32_t);
void mdbox_change_clear_fscked(struct mdbox_change *);                                 /* external changes only */
/* *first_uid: of the appended records, in order. */
int mdbox_change_commit(struct mdbox_change *, uint32_t *first_uid, struct error *);
/* Everything is in its mailboxes too: the tail goes to the end. Rotates and rewrites the map where that is due. */
int mdbox_map_confirm(struct mdbox_map *, struct error *);

#endif
