/* The state of a mailbox as the logs make it: base header, extensions, records (index-format 2).
 *
 * One contiguous array of records in exactly the layout of the base index: reading the file is one read, finding a
 * UID a binary search, writing the file a copy. Records that an apply run expunges are marked in a bitmap and
 * squeezed out at its end, so that n expunges cost one move of the array. */
#ifndef YARILO_INDEX_STATE_H
#define YARILO_INDEX_STATE_H

#include "index/format.h"

struct state_ext {
    char name[EXT_NAME_MAX + 1];
    uint32_t header_size, reset_id;
    uint16_t record_offset, record_size, record_align;
    unsigned char *header; /* align8(header_size) bytes */
};

/* Who is told while records are applied. */
struct state_sink {
    void (*flags)(void *, uint32_t first, uint32_t last, bool visible); /* flags, keywords or modseq changed */
    void (*expunged)(void *, uint32_t uid, uint8_t flags, uint64_t modseq, struct slice keywords);
    void (*deleted)(void *, unsigned level);  /* index-deleted: 1 requested, 2 done; 0 undeleted */
    void (*error)(void *, const struct log_record *, const char *why); /* the record (or the rest of it) is skipped; fsck is due */
};

struct state {
    unsigned char *base;
    uint32_t base_size;
    struct state_ext *exts;
    unsigned ext_count;
    int ext_keywords, ext_modseq, ext_cache; /* positions, -1 = none */

    unsigned char *block;           /* what records lies in */
    struct os_map *map;             /* the block is this one's; NULL = memory of our own */
    unsigned char *records;
    uint32_t count, room, stride;   /* records present (with those marked gone), space, bytes each */
    unsigned char *gone;            /* bit per record; NULL outside of a run with expunges */
    uint32_t gone_count, gone_size; /* gone_size: records that the bitmap covers */

    char **keywords;                /* names in order of bits */
    uint32_t *keyword_order;        /* positions sorted by name without case */
    unsigned keyword_count;
    bool keywords_broken;           /* the header does not say what the names above are */

    int applying_ext;               /* the "current extension" of the log walk, -1 = none */
    uint16_t applying_record_size;
    bool applying_ignored, had_dirty;
    uint32_t unseen_from;           /* in memory: no unseen mail below; 0 = not known */

    const struct state_sink *sink;
    void *sink_arg;
};

void state_init(struct state *, uint32_t indexid); /* the state before the first log record (2.1) */
void state_free(struct state *);

static inline uint32_t state_get(const struct state *s, unsigned at)
{
    return bytes_le32(s->base + at);
}
static inline void state_put(struct state *s, unsigned at, uint32_t value)
{
    bytes_put_le32(s->base + at, value);
}
static inline unsigned char *state_record(const struct state *s, uint32_t i)
{
    return s->records + (size_t)i * s->stride;
}
static inline uint32_t state_uid(const struct state *s, uint32_t i)
{
    return bytes_le32(state_record(s, i));
}
static inline bool state_is_gone(const struct state *s, uint32_t i)
{
    return s->gone != NULL && i < s->gone_size && (s->gone[i / 8] & 1u << i % 8) != 0;
}
/* The first record with a UID >= uid; count when there is none. */
uint32_t state_lower(const struct state *, uint32_t uid);
/* -1: not there. */
int64_t state_find(const struct state *, uint32_t uid);
struct slice state_keywords(const struct state *, uint32_t i); /* bits; empty when there are no keywords */
uint64_t state_modseq(const struct state *, uint32_t i); /* 0: none of its own */

/* ---- base index file ---- */
enum state_load {
    STATE_GOOD,
    STATE_MEND,     /* usable after state_mend; the notes say what was dropped already */
    STATE_UNUSABLE, /* nothing can be had from it; `why` is the log text, empty for silent faults */
};
/* Takes the file's bytes over (the buffer is empty afterwards) and replaces the state. `notes` gets lines: with a '!'
 * in front what is wrong with the file, without what was done about it. On UNUSABLE the state is untouched. */
enum state_load state_load(struct state *, struct buffer *file, char *why, size_t why_size, struct buffer *notes);
/* The same for a file that is mapped; the map is taken over as the bytes are. Its records are not all looked at: whether they
 * are in order is for state_unordered, when they are read anyway. */
enum state_load state_load_map(struct state *, struct os_map **, size_t size, char *why, size_t why_size, struct buffer *notes);
/* A mapped state: records that are out of order, or that could not be read. Reads all of them. */
bool state_unordered(const struct state *);
/* Puts another block in the records' place. */
void state_block_replace(struct state *, unsigned char *block, uint32_t room);
/* The bytes of a rewrite (2.5) up to the records; the records follow as they are in memory. The caller has put the
 * tail into the base header: the head, unless the storage has still something to carry out. */
void state_emit_header(const struct state *, struct buffer *);
/* Checks header fields against the records and each other; true: state_mend has something to do. */
bool state_damaged(const struct state *);
/* fsck (12.3): records, counters, marks. Notes get "Fixed index file: <field> a -> b" without the prefix. */
void state_mend(struct state *, struct buffer *notes);

/* ---- extensions ---- */
int state_ext_find(const struct state *, struct slice name); /* -1 = none */
void state_ext_known(struct state *); /* fills the positions of those that have a field of their own */
int state_ext_add(struct state *, struct slice name, uint32_t reset_id, uint32_t header_size, uint16_t record_size,
                  uint16_t record_align);
void state_ext_resize(struct state *, unsigned ext, uint32_t header_size, uint16_t record_size, uint16_t record_align,
                      bool no_shrink);
void state_ext_reset(struct state *, unsigned ext, uint32_t reset_id, bool preserve);
void state_header_size_update(struct state *);

/* ---- keywords (4.4, 10.1) ---- */
int state_keyword_find(const struct state *, struct slice name);
unsigned state_keyword_add(struct state *, struct slice name); /* known or new */
/* Reads the header of extension keywords; a text of 10.1 when it is broken (what can be read is taken). */
const char *state_keywords_load(struct state *);
void state_keywords_free(struct state *);
void state_keywords_store(struct state *); /* names into the header, growing it by the formula when it must */
/* Makes room for bit i in every record. */
void state_keyword_fit(struct state *, unsigned i);

/* ---- applying (6.4) ---- */
void state_apply_begin(struct state *);
void state_apply(struct state *, const struct log_record *, uint64_t modseq_after);
void state_apply_end(struct state *);
void state_squeeze(struct state *); /* removes the records marked gone; state_apply_end does it */

#endif
