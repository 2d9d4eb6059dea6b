/* state_mend.c - what fsck does to a state in memory (index-format 12.1, 12.3).
 *
 * Nothing is invented: records that are in order stay as they are, counters are counted anew, marks are moved to
 * where they are true. */
#include "index/state.h"

#include <time.h>

enum { MAPPED_LOOK = 1000 }; /* of a mapped file only the last records are read to check their order */

struct counts {
    uint32_t seen, deleted, first_unseen, first_deleted;
};

static struct counts count_records(const struct state *s)
{
    struct counts c = {.first_unseen = state_get(s, BASE_AT_NEXT_UID)};

    c.first_deleted = c.first_unseen;
    for (uint32_t i = s->count; i-- > 0;) {
        const unsigned char *r = state_record(s, i);

        if ((r[4] & 0x08) != 0)
            c.seen++;
        else
            c.first_unseen = bytes_le32(r);
        if ((r[4] & 0x04) != 0) {
            c.deleted++;
            c.first_deleted = bytes_le32(r);
        }
    }
    return c;
}

/* One pass over records: everything that looks messages up relies on the order. */
static bool is_ordered(const struct state *s, uint32_t from)
{
    uint32_t prev = from == 0 ? 0 : state_uid(s, from - 1);

    for (uint32_t i = from; i < s->count; i++) {
        uint32_t uid = state_uid(s, i);

        if (uid <= prev)
            return false;
        prev = uid;
    }
    return true;
}

bool state_unordered(const struct state *s)
{
    return s->map != NULL && (!is_ordered(s, 0) || os_map_lost(s->map));
}

bool state_damaged(const struct state *s)
{
    uint32_t next = state_get(s, BASE_AT_NEXT_UID), messages = state_get(s, BASE_AT_MESSAGES);
    uint32_t recent = state_get(s, BASE_AT_FIRST_RECENT), last = s->count > 0 ? state_uid(s, s->count - 1) : 0;

    return next == 0 || (state_get(s, BASE_AT_UID_VALIDITY) == 0 && next != 1) || (s->count > 0 && last == 0) ||
           last >= next || state_get(s, BASE_AT_SEEN) > messages || state_get(s, BASE_AT_DELETED) > messages ||
           recent == 0 || recent > next || state_get(s, BASE_AT_UNSEEN_LOWWATER) > next ||
           state_get(s, BASE_AT_DELETED_LOWWATER) > next || s->keywords_broken ||
           !is_ordered(s, s->map != NULL && s->count > MAPPED_LOOK ? s->count - MAPPED_LOOK : 0);
}

/* Drops records whose UIDs are zero or not ascending, keeping the first of them. */
static void drop_unordered(struct state *s, struct buffer *notes)
{
    uint32_t kept = 0, prev = 0;
    bool zero = false, unordered = false;

    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t uid = state_uid(s, i);

        if (uid == 0) {
            zero = true;
        } else if (uid <= prev || uid == UINT32_MAX) {
            unordered = true;
        } else {
            if (kept != i)
                memmove(state_record(s, kept), state_record(s, i), s->stride);
            kept++;
            prev = uid;
        }
    }
    if (zero)
        buffer_append_str(notes, "Record UIDs have zeroes\n");
    if (unordered)
        buffer_append_str(notes, "Record UIDs unordered\n");
    s->count = kept;
}

static void set_field(struct state *s, unsigned at, const char *name, uint32_t value, struct buffer *notes)
{
    uint32_t old = state_get(s, at);

    if (old == value)
        return;
    buffer_printf(notes, "%s %u -> %u\n", name, old, value);
    state_put(s, at, value);
}

void state_mend(struct state *s, struct buffer *notes)
{
    struct counts c;
    uint32_t next, recent;

    state_squeeze(s);
    if (s->keywords_broken)
        state_keywords_store(s);
    drop_unordered(s, notes);
    next = state_get(s, BASE_AT_NEXT_UID);
    if (next == 0)
        next = 1;
    if (s->count > 0 && state_uid(s, s->count - 1) >= next)
        next = state_uid(s, s->count - 1) + 1;
    set_field(s, BASE_AT_NEXT_UID, "next_uid", next, notes);
    if (state_get(s, BASE_AT_UID_VALIDITY) == 0 && next != 1) {
        state_put(s, BASE_AT_UID_VALIDITY, (uint32_t)time(NULL));
        buffer_append_byte(notes, '\n'); /* that it was mended is logged, not what, as in Dovecot */
    }
    c = count_records(s);
    set_field(s, BASE_AT_MESSAGES, "messages_count", s->count, notes);
    set_field(s, BASE_AT_SEEN, "seen_messages_count", c.seen, notes);
    set_field(s, BASE_AT_DELETED, "deleted_messages_count", c.deleted, notes);
    recent = state_get(s, BASE_AT_FIRST_RECENT);
    if (recent == 0 || recent > next)
        set_field(s, BASE_AT_FIRST_RECENT, "first_recent_uid", recent == 0 ? 1 : next, notes);
    if (c.first_unseen < state_get(s, BASE_AT_UNSEEN_LOWWATER) || state_get(s, BASE_AT_UNSEEN_LOWWATER) > next)
        set_field(s, BASE_AT_UNSEEN_LOWWATER, "first_unseen_uid_lowwater", c.first_unseen, notes);
    else
        state_put(s, BASE_AT_UNSEEN_LOWWATER, c.first_unseen); /* raising it is no repair: not worth a line */
    if (c.first_deleted < state_get(s, BASE_AT_DELETED_LOWWATER) || state_get(s, BASE_AT_DELETED_LOWWATER) > next)
        set_field(s, BASE_AT_DELETED_LOWWATER, "first_deleted_uid_lowwater", c.first_deleted, notes);
    else
        state_put(s, BASE_AT_DELETED_LOWWATER, c.first_deleted);
    state_put(s, BASE_AT_RECORD_SIZE, s->stride);
    state_header_size_update(s);
    state_put(s, BASE_AT_FLAGS, (state_get(s, BASE_AT_FLAGS) & ~(uint32_t)BASE_FLAG_CORRUPTED) | BASE_FLAG_FSCKED);
    s->unseen_from = 0;
}
