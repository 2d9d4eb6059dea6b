/* The indexer's queue and its lines. */
#include "indexer/queue.h"

#include <atf-c.h>
#include <stdio.h>
#include <stdlib.h>

struct told {
    struct index_waiter waiter;
    char text[64];
};

static void heard(struct index_waiter *w, int percent)
{
    struct told *t = (struct told *)w;
    size_t n = strlen(t->text);

    (void)snprintf(t->text + n, sizeof(t->text) - n, "%d ", percent);
}

/* One line of a client; false: the queue is full. */
static bool add(struct index_queue *q, const char *line, struct told *t)
{
    struct arena *arena = arena_new();
    struct indexer_request r;
    struct error e;
    bool taken;

    ATF_REQUIRE_EQ_MSG(indexer_request_read(arena, slice_from_str(line), &r, &e), 0, "%s", e.admin);
    if (t != NULL)
        *t = (struct told){.waiter = {.heard = heard}};
    taken = index_queue_add(q, &r, t == NULL ? NULL : &t->waiter);
    arena_free(arena);
    return taken;
}

static struct index_task *take(struct index_queue *q, const char *line)
{
    struct index_task *task = index_queue_take(q);
    struct buffer text = {0};

    if (line == NULL) {
        ATF_REQUIRE(task == NULL);
        return NULL;
    }
    ATF_REQUIRE_MSG(task != NULL, "nothing to do, not %s", line);
    indexer_work_write(&text, index_task_work(task));
    ATF_CHECK_STREQ(line, buffer_cstr(&text));
    buffer_free(&text);
    return task;
}

static void end(struct index_queue *q, struct index_task *task)
{
    index_queue_ended(q, task, true);
}

ATF_TC_WITHOUT_HEAD(order);
ATF_TC_BODY(order, tc)
{
    struct index_queue *q = index_queue_new(100);

    add(q, "APPEND\t1\tu\tone", NULL);
    add(q, "APPEND\t1\tu\ttwo", NULL);
    add(q, "APPEND\t1\tv\tone", NULL);
    add(q, "PREPEND\t1\tw\tone", NULL);
    add(q, "PREPEND\t1\tx\tone", NULL);
    add(q, "PREPEND\t1\tu\ttwo", NULL); /* to the front */
    end(q, take(q, "u\ttwo\t\t0\ti\n"));
    end(q, take(q, "x\tone\t\t0\ti\n"));
    end(q, take(q, "w\tone\t\t0\ti\n"));
    end(q, take(q, "u\tone\t\t0\ti\n"));
    end(q, take(q, "v\tone\t\t0\ti\n"));
    take(q, NULL);
    ATF_CHECK_EQ(index_queue_count(q), 0);
    index_queue_free(q);
}

ATF_TC_WITHOUT_HEAD(one_of_a_user);
ATF_TC_BODY(one_of_a_user, tc)
{
    struct index_queue *q = index_queue_new(100);
    struct index_task *u, *v;

    for (int i = 0; i < 5; i++) {
        char line[40];

        (void)snprintf(line, sizeof(line), "APPEND\t1\tu\tbox%d", i);
        add(q, line, NULL);
    }
    add(q, "APPEND\t1\tv\tone", NULL);
    add(q, "APPEND\t1\tv\ttwo", NULL);
    u = take(q, "u\tbox0\t\t0\ti\n");
    v = take(q, "v\tone\t\t0\ti\n");
    take(q, NULL);
    end(q, v);
    v = take(q, "v\ttwo\t\t0\ti\n");
    end(q, u);
    u = take(q, "u\tbox1\t\t0\ti\n");
    add(q, "PREPEND\t1\tu\tbox4", NULL);
    end(q, u);
    end(q, take(q, "u\tbox4\t\t0\ti\n"));
    end(q, take(q, "u\tbox2\t\t0\ti\n"));
    end(q, take(q, "u\tbox3\t\t0\ti\n"));
    take(q, NULL);
    end(q, v);
    ATF_CHECK_EQ(index_queue_count(q), 0);
    index_queue_free(q);
}

ATF_TC_WITHOUT_HEAD(merge);
ATF_TC_BODY(merge, tc)
{
    struct index_queue *q = index_queue_new(100);
    struct told one, two, three;

    add(q, "APPEND\t1\tu\tbox\t5\ts1", &one);
    add(q, "APPEND\t1\tu\tbox\t3\ts2", &two);
    add(q, "OPTIMIZE\t1\tu\tbox", &three);
    ATF_CHECK_EQ(index_queue_count(q), 1);
    end(q, take(q, "u\tbox\ts1\t0\tio\n"));
    ATF_CHECK_STREQ("100 ", one.text);
    ATF_CHECK_STREQ("100 ", two.text);
    ATF_CHECK_STREQ("100 ", three.text);
    index_queue_free(q);
}

/* Asked for while it is at work: once more, and only then the one who has asked hears of it. */
ATF_TC_WITHOUT_HEAD(again);
ATF_TC_BODY(again, tc)
{
    struct index_queue *q = index_queue_new(100);
    struct told one, two, three;
    struct index_task *task;

    add(q, "APPEND\t1\tu\tbox", &one);
    task = take(q, "u\tbox\t\t0\ti\n");
    add(q, "APPEND\t2\tu\tbox", &two);
    add(q, "APPEND\t3\tu\tbox", &three);
    add(q, "APPEND\t3\tu\tother", NULL);
    index_waiter_leave(&three.waiter);
    index_queue_progress(task, 40);
    index_queue_ended(q, task, false);
    ATF_CHECK_STREQ("40 -1 ", one.text);
    ATF_CHECK_STREQ("", two.text);
    end(q, take(q, "u\tother\t\t0\ti\n"));
    task = take(q, "u\tbox\t\t0\ti\n");
    index_queue_progress(task, 7);
    end(q, task);
    ATF_CHECK_STREQ("7 100 ", two.text);
    ATF_CHECK_STREQ("40 -1 ", one.text);
    ATF_CHECK_STREQ("", three.text);
    take(q, NULL);
    index_queue_free(q);
}

ATF_TC_WITHOUT_HEAD(full);
ATF_TC_BODY(full, tc)
{
    struct index_queue *q = index_queue_new(2);
    struct told one;

    ATF_CHECK(add(q, "APPEND\t1\tu\ta", NULL));
    ATF_CHECK(!index_queue_full(q));
    ATF_CHECK(add(q, "APPEND\t1\tv\ta", &one));
    ATF_CHECK(index_queue_full(q));
    ATF_CHECK(!add(q, "APPEND\t1\tu\tb", NULL));
    ATF_CHECK(add(q, "APPEND\t1\tu\ta", NULL)); /* it is there */
    end(q, take(q, "u\ta\t\t0\ti\n"));
    ATF_CHECK(!index_queue_full(q));
    index_queue_free(q); /* with a waiter */
    ATF_CHECK_STREQ("", one.text);
}

/* Many users, at random: each task is done once, no user has two at work, and the order holds among those who were free. */
ATF_TC_WITHOUT_HEAD(random_users);
ATF_TC_BODY(random_users, tc)
{
    enum { USERS = 50, BOXES = 20, HANDS = 7 };
    struct index_queue *q = index_queue_new(USERS * BOXES);
    struct index_task *hands[HANDS] = {NULL};
    unsigned state = 1, done = 0;
    char line[64], last[USERS] = {0};
    bool busy[USERS] = {false};

    for (unsigned b = 0; b < BOXES; b++)
        for (unsigned u = 0; u < USERS; u++) {
            (void)snprintf(line, sizeof(line), "APPEND\t0\t%u\t%u", u, b);
            ATF_REQUIRE(add(q, line, NULL));
        }
    while (done < USERS * BOXES) {
        unsigned i = (state = state * 1103515245 + 12345) / 65536 % HANDS;

        if (hands[i] != NULL) {
            busy[atoi(index_task_work(hands[i])->user)] = false;
            end(q, hands[i]);
            hands[i] = NULL;
            done++;
        } else if ((hands[i] = index_queue_take(q)) != NULL) {
            int u = atoi(index_task_work(hands[i])->user), b = atoi(index_task_work(hands[i])->mailbox);

            ATF_REQUIRE(!busy[u]);
            ATF_REQUIRE_EQ(b, last[u]);
            last[u]++;
            busy[u] = true;
        }
    }
    ATF_CHECK_EQ(index_queue_count(q), 0);
    index_queue_free(q);
}

ATF_TC_WITHOUT_HEAD(lines);
ATF_TC_BODY(lines, tc)
{
    static const struct {
        const char *line, *why;
    } bad[] = {{"", "Unknown command: "}, {"APPEND", "Wrong parameter count"}, {"APPEND\t1\tu", "Wrong parameter count"},
               {"APPEND\t1\tu\tb\t0\ts\tx", "Wrong parameter count"}, {"OPTIMIZE\t1\tu\tb\t0", "Wrong parameter count"},
               {"APPEND\tx\tu\tb", "Invalid tag"}, {"APPEND\t-1\tu\tb", "Invalid tag"}, {"APPEND\t4294967296\tu\tb", "Invalid tag"},
               {"APPEND\t1\tu\tb\tx", "Invalid max_recent_msgs"}, {"append\t1\tu\tb", "Unknown command: append"},
               {"APPEND\t1\tu\001" "0x\tb", "NULs in parameters"}};
    struct arena *arena = arena_new();
    struct buffer text = {0};
    struct indexer_request r;
    struct indexer_work w;
    struct error e;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ATF_CHECK_EQ_MSG(indexer_request_read(arena, slice_from_str(bad[i].line), &r, &e), -1, "%s", bad[i].line);
        ATF_CHECK_STREQ(bad[i].why, e.admin);
    }
    ATF_REQUIRE_EQ(indexer_request_read(arena, slice_from_str("PREPEND\t4294967295\tu\001tx\tb\001nc\t7\ts"), &r, &e), 0);
    ATF_CHECK_STREQ("u\tx", r.user);
    ATF_CHECK_STREQ("b\nc", r.mailbox);
    indexer_request_write(&text, &r);
    ATF_CHECK_STREQ("PREPEND\t4294967295\tu\001tx\tb\001nc\t7\ts\n", buffer_cstr(&text));
    ATF_CHECK_EQ(indexer_work_read(arena, slice_from_str("u\tb\ts\t0"), &w, &e), -1);
    ATF_CHECK_EQ(indexer_work_read(arena, slice_from_str("u\tb\ts\t0\t"), &w, &e), -1);
    ATF_CHECK_EQ(indexer_work_read(arena, slice_from_str("u\tb\ts\tx\ti"), &w, &e), -1);
    ATF_CHECK_EQ(indexer_work_read(arena, slice_from_str("u\tb\ts\t0\ti\tx"), &w, &e), -1);
    ATF_REQUIRE_EQ(indexer_work_read(arena, slice_from_str("u\tb\001tc\ts\t3\tio"), &w, &e), 0);
    ATF_CHECK_STREQ("b\tc", w.mailbox);
    ATF_CHECK(w.index && w.optimize);
    indexer_work_write(&text, &w);
    ATF_CHECK_STREQ("u\tb\001tc\ts\t3\tio\n", buffer_cstr(&text));
    buffer_free(&text);
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, order);
    ATF_TP_ADD_TC(tp, one_of_a_user);
    ATF_TP_ADD_TC(tp, merge);
    ATF_TP_ADD_TC(tp, again);
    ATF_TP_ADD_TC(tp, full);
    ATF_TP_ADD_TC(tp, random_users);
    ATF_TP_ADD_TC(tp, lines);
    return atf_no_error();
}
