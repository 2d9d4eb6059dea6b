/* rank_room.c - new numbers between old ones, in the 32 bits of a rank.
 *
 * The room between two neighbours is shared out evenly, a part to each message that is still to come and one to the right
 * neighbour: so much is left on both sides for what comes later. That is also how Dovecot shares it, so that a mailbox has the
 * same ranks whoever gave them. Where there is no room left, the window doubles to both sides until its numbers lie at
 * least LEAST_GAP apart, and everything in it gets a new one: each insertion pays O(log n) moves in the long run. */
#include "store/rank_room.h"

enum { LEAST_GAP = 16 };
static const uint32_t LOWEST = 1, HIGHEST = UINT32_MAX;

struct entry {
    uint32_t rank, messages;
};

struct rank_room {
    size_t count, room;
    struct entry *at;
};

struct rank_room *rank_room_new(struct arena *arena, size_t most)
{
    struct rank_room *r = ARENA_NEW(arena, struct rank_room);

    r->room = most;
    r->at = ARENA_ARRAY(arena, struct entry, most + 1);
    return r;
}

void rank_room_add(struct rank_room *r, uint32_t rank, uint32_t messages)
{
    if (r->count < r->room)
        r->at[r->count++] = (struct entry){rank, messages};
}

static uint64_t left_of(const struct rank_room *r, size_t first)
{
    return first == 0 ? LOWEST : r->at[first - 1].rank;
}

static uint64_t right_of(const struct rank_room *r, size_t end)
{
    return end == r->count ? HIGHEST : r->at[end].rank;
}

static uint64_t messages_in(const struct rank_room *r, size_t first, size_t end)
{
    uint64_t n = 0;

    for (size_t i = first; i < end; i++)
        n += r->at[i].messages;
    return n;
}

static void share_out(struct rank_room *r, size_t first, size_t end)
{
    uint64_t left = left_of(r, first), right = right_of(r, end), messages = messages_in(r, first, end);

    for (size_t i = first; i < end; i++) {
        left += (right - left) / (messages + 1);
        r->at[i].rank = (uint32_t)left;
        messages -= r->at[i].messages;
    }
}

/* A window around first..end that has room. Its right end is never a text without a rank. */
static void widen(const struct rank_room *r, size_t *first, size_t *end)
{
    size_t span = *end - *first;

    while (*first > 0 || *end < r->count) {
        *first = *first > span ? *first - span : 0;
        *end = r->count - *end > span ? *end + span : r->count;
        while (*end < r->count && r->at[*end].rank == 0)
            (*end)++;
        span *= 2;
        if ((right_of(r, *end) - left_of(r, *first)) / (messages_in(r, *first, *end) + 1) >= LEAST_GAP)
            return;
    }
}

void rank_room_give(struct rank_room *r)
{
    for (size_t first = 0, end; first < r->count; first = end) {
        size_t from = first;

        for (end = first; end < r->count && r->at[end].rank == 0; end++) {
        }
        if (end == first) {
            end++;
            continue;
        }
        if (right_of(r, end) - left_of(r, from) <= messages_in(r, from, end))
            widen(r, &from, &end);
        share_out(r, from, end);
    }
}

uint32_t rank_room_get(const struct rank_room *r, uint32_t at)
{
    return r->at[at].rank;
}
