/* Sorting by numbers, and the trees of THREAD without a mailbox. */
#include "store/order.h"
#include "store/thread_tree.h"

#include <atf-c.h>
#include <stdlib.h>

ATF_TC_WITHOUT_HEAD(order);
ATF_TC_BODY(order, tc)
{
    unsigned state = 7;

    (void)tc;
    for (int round = 0; round < 100; round++) {
        uint32_t count = (uint32_t)(rand_r(&state) % 500);
        uint64_t first[500], second[500];
        struct order order;

        for (uint32_t i = 0; i < count; i++) {
            first[i] = (uint64_t)rand_r(&state) % 5 << (round % 8 * 8);
            second[i] = (uint64_t)rand_r(&state) << 32 | (uint64_t)rand_r(&state);
            if (round % 3 == 0)
                second[i] %= 3;
        }
        order_init(&order, count);
        order_by(&order, second, round % 2 == 0);
        order_by(&order, first, false);
        for (uint32_t i = 1; i < count; i++) {
            uint32_t a = order.at[i - 1], b = order.at[i];

            ATF_REQUIRE(first[a] <= first[b]);
            if (first[a] != first[b])
                continue;
            ATF_REQUIRE(round % 2 == 0 ? second[a] >= second[b] : second[a] <= second[b]);
            ATF_REQUIRE(second[a] != second[b] || a < b);
        }
        order_free(&order);
    }
}

ATF_TC_WITHOUT_HEAD(texts);
ATF_TC_BODY(texts, tc)
{
    struct slice texts[] = {SLICE("b"), SLICE(""), SLICE("ab"), SLICE("b"), SLICE("a"), SLICE("")};
    static const uint64_t wanted[] = {4, 1, 3, 4, 2, 1};
    uint64_t numbers[6];

    (void)tc;
    order_number_texts(texts, 6, numbers);
    for (int i = 0; i < 6; i++)
        ATF_CHECK_EQ(numbers[i], wanted[i]);
    order_number_texts(NULL, 0, numbers);
}

static void put(struct buffer *out, const struct thread_node *n)
{
    for (; n != NULL; n = n->next) {
        buffer_printf(out, "(%u", n->seq);
        put(out, n->children);
        buffer_append_byte(out, ')');
    }
}

static void check_tree(const struct thread_node *roots, const char *wanted)
{
    struct buffer out = {0};

    put(&out, roots);
    ATF_CHECK_STREQ(buffer_cstr(&out), wanted);
    buffer_free(&out);
}

/* Two ids that the tree's hash takes for one: each is its own message, with its own answers. */
ATF_TC_WITHOUT_HEAD(collisions);
ATF_TC_BODY(collisions, tc)
{
    struct arena *arena = arena_new();
    struct slice one = SLICE("m122636@x"), two = SLICE("m342968@x"), other = SLICE("z@x");
    struct thread_entry entries[] = {{.seq = 1, .id = one, .date = 1}, {.seq = 2, .id = two, .date = 2},
                                     {.seq = 3, .references = &two, .count = 1, .date = 3}, {.seq = 4, .references = &one, .count = 1, .date = 4},
                                     {.seq = 5, .id = two, .date = 5}, {.seq = 6, .references = &other, .count = 1, .date = 6},
                                     {.seq = 7, .references = &two, .count = 1, .date = 7}};

    (void)tc;
    check_tree(thread_build(arena, THREAD_REFERENCES, entries, 7), "(1(4))(2(3)(7))(5)(6)");
    arena_free(arena);
}

/* Tens of thousands with one subject become one thread, in linear time: a test that is not would take minutes. */
ATF_TC_WITHOUT_HEAD(one_subject);
ATF_TC_BODY(one_subject, tc)
{
    enum { MESSAGES = 200000 };
    struct arena *arena = arena_new();
    struct thread_entry *entries = calloc(MESSAGES, sizeof(*entries));
    const struct thread_entry **doubtful;
    struct thread_node *roots;
    uint32_t children = 0;

    (void)tc;
    for (uint32_t i = 0; i < MESSAGES; i++)
        entries[i] = (struct thread_entry){.seq = i + 1, .date = MESSAGES - i, .subject = 5, .reply = i != 7, .no_subject = false};
    roots = thread_build(arena, THREAD_REFERENCES, entries, MESSAGES);
    ATF_CHECK_EQ(thread_doubtful(arena, roots, &doubtful), MESSAGES);
    roots = thread_merge_subjects(arena, roots);
    ATF_REQUIRE(roots->next == NULL);
    ATF_CHECK_EQ(roots->seq, 8);
    for (const struct thread_node *n = roots->children; n != NULL; n = n->next)
        children++;
    ATF_CHECK_EQ(children, MESSAGES - 1);
    ATF_CHECK_EQ(roots->children->seq, MESSAGES);
    free(entries);
    arena_free(arena);
}

/* Subjects are equal as numbers; no subject is none. */
ATF_TC_WITHOUT_HEAD(subjects);
ATF_TC_BODY(subjects, tc)
{
    struct arena *arena = arena_new();
    struct thread_entry entries[] = {{.seq = 1, .date = 1, .subject = 9}, {.seq = 2, .date = 2, .subject = 9, .reply = true},
                                     {.seq = 3, .date = 3, .subject = 1, .no_subject = true}, {.seq = 4, .date = 4, .subject = 1, .no_subject = true},
                                     {.seq = 5, .date = 5, .subject = 4}, {.seq = 6, .date = 6, .subject = 4}};
    const struct thread_entry **doubtful;
    struct thread_node *roots;

    (void)tc;
    roots = thread_build(arena, THREAD_REFERENCES, entries, 6);
    ATF_CHECK_EQ(thread_doubtful(arena, roots, &doubtful), 6);
    check_tree(thread_merge_subjects(arena, roots), "(1(2))(3)(4)(0(5)(6))");
    check_tree(thread_build(arena, THREAD_ORDEREDSUBJECT, entries, 6), "(1(2))(3(4))(5(6))");
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, order);
    ATF_TP_ADD_TC(tp, texts);
    ATF_TP_ADD_TC(tp, collisions);
    ATF_TP_ADD_TC(tp, one_subject);
    ATF_TP_ADD_TC(tp, subjects);
    return atf_no_error();
}
