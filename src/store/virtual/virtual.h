/* The virtual plugin among its own files: a mailbox that shows messages of others (imap 12.9, index-format 10). */
#ifndef YARILO_STORE_VIRTUAL_VIRTUAL_H
#define YARILO_STORE_VIRTUAL_VIRTUAL_H

#include "store/driver.h"
#include "store/search.h"

/* ---- config.c: the file dovecot-virtual ---- */

#define VIRTUAL_FILE "dovecot-virtual"

enum virtual_mark { VIRTUAL_PLAIN, VIRTUAL_EXCLUDE, VIRTUAL_SAVE, VIRTUAL_CLEAR_RECENT };
struct virtual_line {
    enum virtual_mark mark;
    const char *pattern;           /* a name, or with wildcards */
    size_t rule;                   /* of rules */
};
struct virtual_config {
    struct virtual_line *lines;
    size_t line_count, line_room;
    const char **rules;            /* search programs */
    size_t rule_count, rule_room;
    uint32_t crc;                  /* of the rules as Dovecot sums them up: another one means other messages */
};
/* Strings live in the arena; free with virtual_config_free. ERROR_INVALID with a text. */
int virtual_config_parse(struct virtual_config *, struct slice file, struct arena *, struct error *);
void virtual_config_free(struct virtual_config *);

/* ---- query.c: a search program in IMAP's syntax (RFC 3501 section 6.4.4) ---- */
struct search_key *virtual_query_parse(struct arena *, const char *text, struct error *);   /* NULL with *e */

/* ---- header.c: the extensions "virtual" and "virtual2" ---- */

struct virtual_entry {
    uint32_t id, uid_validity, next_uid;
    uint64_t modseq;
    const char *name;              /* visible name */
    unsigned char guid[16];
};
struct virtual_header {
    uint32_t change_counter, highest_id, crc;
    struct virtual_entry *at;
    size_t count, room;
};
/* An empty slice is an empty header; ERROR_CORRUPT. `more` is virtual2, may be empty. */
int virtual_header_parse(struct virtual_header *, struct slice header, struct slice more, struct arena *, struct error *);
void virtual_header_put(const struct virtual_header *, struct buffer *header, struct buffer *more);

/* ---- driver.c ---- */

struct virtual_box {               /* a mailbox whose messages are shown */
    const char *vname;
    size_t rule;
    bool used;                     /* the configuration still names it */
    struct virtual_entry entry;    /* what the index says of it */
    struct mailbox *box;           /* NULL = not open */
    struct mailbox_view *view;
    struct mailbox_watch *watch;
    struct index_ranges matches;   /* of the running sync: real UIDs that are to be shown */
    uint32_t looked_from;          /* real UIDs from here on were looked at */
};
struct virtual {
    struct mailbox *box;
    unsigned ext, ext2, ext_guid;
    struct arena *arena;           /* of the configuration */
    struct virtual_config config;
    struct search_key **rules;     /* parsed; of config.rules */
    struct stat config_stat;
    bool configured;
    struct virtual_box **at;       /* by entry.id, ascending; those without an id last */
    size_t count, room;
    struct mailbox_place save;     /* vname NULL: saving is refused */
    uint32_t change_counter, highest_id, crc;
};

int virtual_load(struct virtual *, bool again, struct error *);   /* configuration and header to `at` */
struct virtual_box *virtual_box_of(struct virtual *, uint32_t id);
/* The message behind one of ours; false: unknown. */
bool virtual_real(struct virtual *, uint32_t uid, uint32_t *id, uint32_t *real_uid);

/* ---- sync.c ---- */
enum step virtual_sync(struct mailbox *, struct driver_sync *, struct budget *, struct error *);
void virtual_sync_end(struct mailbox *, struct driver_sync *);

#endif
