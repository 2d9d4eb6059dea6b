/* The bytes of the index family as constants and small pure functions (specification: index-format 2, 3, 4).
 * Nothing here knows files, descriptors or state. */
#ifndef YARILO_INDEX_FORMAT_H
#define YARILO_INDEX_FORMAT_H

#include "base/base.h"

/* ---- base index: offsets in the base header (index-format 2.1) -------------------------------------------------- */
enum {
    BASE_MAJOR = 7,
    BASE_MINOR = 3,
    BASE_HEADER_SIZE = 120,
    BASE_COMPAT_LE = 0x01,

    BASE_AT_MAJOR = 0,
    BASE_AT_MINOR = 1,
    BASE_AT_BASE_SIZE = 2,
    BASE_AT_HEADER_SIZE = 4,
    BASE_AT_RECORD_SIZE = 8,
    BASE_AT_COMPAT = 12,
    BASE_AT_INDEXID = 16,
    BASE_AT_FLAGS = 20,
    BASE_AT_UID_VALIDITY = 24,
    BASE_AT_NEXT_UID = 28,
    BASE_AT_MESSAGES = 32,
    BASE_AT_SEEN = 40,
    BASE_AT_DELETED = 44,
    BASE_AT_FIRST_RECENT = 48,
    BASE_AT_UNSEEN_LOWWATER = 52,
    BASE_AT_DELETED_LOWWATER = 56,
    BASE_AT_LOG_SEQ = 60,
    BASE_AT_LOG_TAIL = 64,
    BASE_AT_LOG_HEAD = 68,
    BASE_AT_LOG2_TIME = 76,
    BASE_AT_DAY_STAMP = 84,
    BASE_AT_DAY_FIRST = 88,
    BASE_DAYS = 8,

    BASE_FLAG_CORRUPTED = 0x01,
    BASE_FLAG_HAVE_DIRTY = 0x02,
    BASE_FLAG_FSCKED = 0x04,

    EXT_HEADER_SIZE = 16,      /* before the name (2.2) */
    EXT_NAME_MAX = 63,
    EXT_HEADER_MAX = 16 * 1024 * 1024 - 1,
    RECORD_SIZE_MIN = 8,
    RECORD_SIZE_MAX = 65535
};

/* ---- log (index-format 3) --------------------------------------------------------------------------------------- */
enum {
    LOG_MAJOR = 1,
    LOG_MINOR = 3,
    LOG_HEADER_SIZE = 40,
    LOG_HEADER_MIN = 24,

    LOG_EXPUNGE_PROTECTION = 0xcd90,
    LOG_TYPE_MASK = 0x0fffffff,
    LOG_EXTERNAL = 0x10000000,
    LOG_SYNC = 0x20000000,

    LOG_EXPUNGE = 0x0001 | LOG_EXPUNGE_PROTECTION,
    LOG_APPEND = 0x0002,
    LOG_FLAGS = 0x0004,
    LOG_HEADER = 0x0020,
    LOG_EXT_INTRO = 0x0040,
    LOG_EXT_RESET = 0x0080,
    LOG_EXT_HEADER = 0x0100,
    LOG_EXT_RECORD = 0x0200,
    LOG_KEYWORD = 0x0400,
    LOG_KEYWORD_RESET = 0x0800,
    LOG_EXT_INC = 0x1000,
    LOG_EXPUNGE_GUID = 0x2000 | LOG_EXPUNGE_PROTECTION,
    LOG_MODSEQ = 0x8000,
    LOG_EXT_HEADER32 = 0x10000,
    LOG_DELETED = 0x20000,
    LOG_UNDELETED = 0x40000,
    LOG_BOUNDARY = 0x80000,
    LOG_ATTRIBUTE = 0x100000,

    LOG_BOUNDARY_SIZE = 12,
    LOG_TAIL_UPDATE_SIZE = 16,
    LOG_INTRO_NO_SHRINK = 0x01,
    LOG_INTRO_SIZE = 20

};

/* ext_id of an intro by name (4.5). */
#define LOG_INTRO_BY_NAME UINT32_MAX

static inline uint32_t align4(uint32_t n)
{
    return (n + 3) & ~3u;
}

static inline uint32_t align8(uint32_t n)
{
    return (n + 7) & ~7u;
}

/* Offset encoding (3.2): n % 4 == 0, n < 2^30. Decoding gives 0 for "not (completely) written". */
void format_offset_put(unsigned char out[4], uint32_t n);
uint32_t format_offset_get(const unsigned char at[4]);

struct log_header {
    uint8_t major, minor;
    uint16_t header_size;
    uint32_t indexid, file_seq, prev_file_seq, prev_file_offset, create_stamp;
    uint64_t initial_modseq;
    uint8_t compat;
};
/* NULL: good. Otherwise why the file is unusable, "" for the faults that are silent (12.2). indexid 0 is good here:
 * the caller says "marked corrupted". */
const char *format_log_header_get(struct slice file, struct log_header *);
void format_log_header_put(unsigned char out[LOG_HEADER_SIZE], const struct log_header *);

/* One record; body borrows the scanned bytes. */
struct log_record {
    uint64_t offset;      /* of its header in the file */
    uint32_t size;        /* with the 8 bytes of the header */
    uint32_t type;        /* without EXTERNAL and SYNC */
    bool external, sync;
    struct slice body;
};

enum log_scan { LOG_SCAN_RECORD, LOG_SCAN_END, LOG_SCAN_BROKEN };

/* A walk over log bytes that begin at file offset `base`. Stops silently (END) where 3.2 says that the head is: the
 * walk's `at` is then the head. Every record that it yields has a valid body (checked as 12.2 says). */
struct log_walk {
    struct slice bytes;
    uint64_t base;
    size_t at;           /* relative to base */
    bool raw_boundaries; /* for printing: an unfinished transaction is shown as far as it goes */
    char why[96];        /* BROKEN: the text of 12.2 */
    uint64_t told;       /* BROKEN: the offset that goes with it, behind what is wrong */
};
enum log_scan format_log_next(struct log_walk *, struct log_record *);
/* What stands behind the head: do sound records follow, up to the very end? Then it is no unfinished write but damage
 * in the middle, and worth keeping. */
bool format_log_goes_on(struct slice tail);

/* The modseq counter after a record (5). */
uint64_t format_modseq_after(const struct log_record *, uint64_t modseq, uint8_t log_minor);

/* Parts of bodies. Each takes the front off *rest; false at its end. Bodies were checked by format_log_next, so that
 * these cannot fail half way. */
struct log_flags {
    uint32_t first, last;
    uint8_t add, remove;
    bool modseq_inc;
};
bool format_flags_next(struct slice *rest, struct log_flags *);
/* True: only bits that clients do not see (4.2). */
bool format_flags_internal(const struct log_flags *);
bool format_range_next(struct slice *rest, uint32_t *first, uint32_t *last);
struct log_keyword {
    uint8_t modify;       /* 0 add, 1 remove */
    struct slice name, ranges;
};
void format_keyword_get(struct slice body, struct log_keyword *);
struct log_header_part {
    uint32_t offset;
    struct slice bytes;
};
bool format_header_next(struct slice *rest, bool wide, struct log_header_part *);
struct log_intro {
    uint32_t ext_id, reset_id, header_size;
    uint16_t record_size, record_align, flags;
    struct slice name;
};
bool format_intro_next(struct slice *rest, struct log_intro *);

/* Where the tail is after one more record (7.5): last and tail as there. False: corrupted, *bad is the offset. */
bool format_tail_after(const struct log_record *, uint64_t *last, uint64_t *tail, uint32_t *bad);

/* Why an extension's sizes or name are not valid (2.2), or NULL. */
const char *format_ext_problem(struct slice name, uint32_t header_size, uint16_t record_size, uint16_t record_align);

#endif
