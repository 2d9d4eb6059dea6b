/* Ranks: where new ones go between old ones. */
#include "store/rank_room.h"

#include <atf-c.h>
#include <stdlib.h>

/* Texts are positions: `old` of them have ranks; -> the ranks of all, after what is 0 has got one. */
static struct rank_room *give(struct arena *arena, const uint32_t *ranks, const uint32_t *messages, size_t count)
{
    struct rank_room *room = rank_room_new(arena, count);

    for (size_t i = 0; i < count; i++)
        rank_room_add(room, ranks[i], messages == NULL ? 1 : messages[i]);
    rank_room_give(room);
    return room;
}

static void check_order(const struct rank_room *room, size_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        ATF_REQUIRE(rank_room_get(room, i) != 0);
        if (i > 0)
            ATF_REQUIRE_MSG(rank_room_get(room, i) > rank_room_get(room, i - 1), "%u: %u, then %u", i, rank_room_get(room, i - 1),
                            rank_room_get(room, i));
    }
}

/* What the real server (2.3.19) gave to the subjects "", alpha, beta, gamma, zeta of 1, 2, 2, 2, 1 messages, then to "eps" between
 * beta and gamma. */
ATF_TC_WITHOUT_HEAD(as_the_real_server);
ATF_TC_BODY(as_the_real_server, tc)
{
    static const uint32_t none[5], messages[5] = {1, 2, 2, 2, 1}, wanted[5] = {477218589, 954437177, 1511192196, 2207135970, 3251051632u};
    static const uint32_t late[6] = {477218589, 954437177, 1511192196, 0, 2207135970, 3251051632u};
    struct arena *arena = arena_new();
    struct rank_room *room = give(arena, none, messages, 5);

    (void)tc;
    for (uint32_t i = 0; i < 5; i++)
        ATF_CHECK_EQ_MSG(rank_room_get(room, i), wanted[i], "%u: %u", i, rank_room_get(room, i));
    room = give(arena, late, NULL, 6);
    ATF_CHECK_EQ(rank_room_get(room, 3), 1859164083);
    for (uint32_t i = 0; i < 6; i++)
        ATF_CHECK(late[i] == 0 || rank_room_get(room, i) == late[i]);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(no_room);
ATF_TC_BODY(no_room, tc)
{
    static const struct {
        size_t count;
        uint32_t ranks[8];
    } cases[] = {{3, {1000, 0, 1001}}, {4, {1, 2, 0, 3}}, {2, {0, 1}}, {2, {UINT32_MAX, 0}}, {3, {UINT32_MAX - 1, UINT32_MAX, 0}},
                 {8, {5, 0, 6, 0, 7, 0, 8, 0}}, {5, {0, 1, 2, 3, 0}}, {1, {0}}, {3, {1, 0, UINT32_MAX}}, {4, {1, 0, 0, 4}}, {4, {1, 0, 0, 3}}};

    (void)tc;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct arena *arena = arena_new();

        check_order(give(arena, cases[i].ranks, NULL, cases[i].count), cases[i].count);
        arena_free(arena);
    }
}

/* Always in front of the same neighbour: the gap halves each time until neighbours have to move; not all of them every time. */
ATF_TC_WITHOUT_HEAD(one_place);
ATF_TC_BODY(one_place, tc)
{
    enum { TEXTS = 3000 };
    uint32_t *ranks = calloc(TEXTS, sizeof(*ranks));
    uint64_t moved = 0;

    (void)tc;
    for (size_t count = 1; count <= TEXTS; count++) {
        struct arena *arena = arena_new();
        struct rank_room *room;

        /* the new one is the last but one */
        if (count > 1) {
            ranks[count - 1] = ranks[count - 2];
            ranks[count - 2] = 0;
        }
        room = give(arena, ranks, NULL, count);
        check_order(room, count);
        for (uint32_t i = 0; i < count; i++) {
            moved += ranks[i] != 0 && ranks[i] != rank_room_get(room, i);
            ranks[i] = rank_room_get(room, i);
        }
        arena_free(arena);
    }
    ATF_CHECK_MSG(moved > 0 && moved < 100 * TEXTS, "%llu moves", (unsigned long long)moved);
    free(ranks);
}

ATF_TC_WITHOUT_HEAD(anywhere);
ATF_TC_BODY(anywhere, tc)
{
    unsigned state = 1;

    (void)tc;
    for (int round = 0; round < 200; round++) {
        struct arena *arena = arena_new();
        uint32_t ranks[64], messages[64], last = 0;
        size_t count = 1 + (size_t)(rand_r(&state) % 64);

        for (size_t i = 0; i < count; i++) {
            uint32_t step = 1 + (uint32_t)rand_r(&state) % (round % 2 == 0 ? 3 : 1u << 24);

            messages[i] = 1 + (uint32_t)rand_r(&state) % 5;
            ranks[i] = rand_r(&state) % 3 == 0 ? 0 : (last += step);
        }
        check_order(give(arena, ranks, messages, count), count);
        arena_free(arena);
    }
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, as_the_real_server);
    ATF_TP_ADD_TC(tp, no_room);
    ATF_TP_ADD_TC(tp, one_place);
    ATF_TP_ADD_TC(tp, anywhere);
    return atf_no_error();
}
