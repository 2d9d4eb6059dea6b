/* view_test.c - numbers of a session while others change the mailbox (index.h, views). */
#include "lib.h"

#include <stdlib.h>

/* The changes as text: "E3 E1 A5/7 F2/2s K0 H". */
static const char *changes(struct index_view *v, bool hold)
{
    static struct buffer text;
    struct index_change c;

    buffer_reset(&text);
    index_view_sync(v, hold);
    while (index_view_next(v, &c)) {
        switch (c.kind) {
        case INDEX_CHANGE_EXPUNGED:
            buffer_printf(&text, "E%u/%u ", c.seq, c.uid);
            break;
        case INDEX_CHANGE_APPENDED:
            buffer_printf(&text, "A%u/%u ", c.count, c.first);
            break;
        case INDEX_CHANGE_FLAGS:
            buffer_printf(&text, "F%u/%u%s%s ", c.seq, c.uid, c.own_silent ? "s" : "", c.flags_visible ? "" : "i");
            break;
        case INDEX_CHANGE_KEYWORDS:
            buffer_printf(&text, "K%u ", c.first);
            break;
        case INDEX_CHANGE_HEADER:
            buffer_append_str(&text, "H ");
            break;
        case INDEX_CHANGE_INVALID:
            buffer_append_str(&text, "X ");
            break;
        }
    }
    return buffer_cstr(&text);
}

ATF_TC_WITHOUT_HEAD(expunges_are_held_back);
ATF_TC_BODY(expunges_are_held_back, tc)
{
    struct index *index = open_memory_index();
    struct index_view *v;
    struct index_record r;
    uint32_t first, last;

    append(index, 5);
    v = index_view_open(index);
    ATF_CHECK(!index_view_changed(v));
    set_flags(index, 2, 2, INDEX_SEEN);
    expunge(index, 2);
    expunge(index, 4);
    ATF_CHECK(index_view_changed(v));
    ATF_CHECK_EQ(index_view_count(v), 5);
    ATF_CHECK_EQ(index_view_uid(v, 2), 2);
    ATF_CHECK_EQ(index_view_uid(v, 3), 3);
    ATF_CHECK_EQ(index_view_uid(v, 4), 4);
    ATF_CHECK_EQ(index_view_uid(v, 5), 5);
    ATF_CHECK_EQ(index_view_uid(v, 6), 0);
    ATF_REQUIRE(index_view_get(v, 2, &r));
    ATF_CHECK(r.expunged);
    ATF_CHECK(r.modseq > 0); /* of message 2, whose flags changed before it went */
    ATF_CHECK_EQ(r.flags, INDEX_SEEN);
    ATF_CHECK_EQ(index_view_seq(v, 4), 4);
    append(index, 2);
    ATF_CHECK_EQ(index_view_count(v), 5);
    /* the flag change before the expunge is told, the number stays */
    ATF_CHECK_STREQ(changes(v, true), "A7/6 F2/2 H ");
    ATF_CHECK_STREQ(changes(v, true), "");
    ATF_CHECK_EQ(index_view_count(v), 7);
    ATF_CHECK_EQ(index_view_seq(v, 7), 7);
    ATF_REQUIRE(index_view_seq_range(v, 2, 4, &first, &last));
    ATF_CHECK_EQ(first, 2);
    ATF_CHECK_EQ(last, 4);
    set_flags(index, 5, 5, INDEX_FLAGGED);
    ATF_CHECK_STREQ(changes(v, false), "E4/4 E2/2 F3/5 H ");
    ATF_CHECK_EQ(index_view_count(v), 5);
    ATF_CHECK_EQ(index_view_seq(v, 7), 5);
    ATF_CHECK(!index_view_changed(v));
    /* what came and went in between is shown as gone when numbers are held, and not at all otherwise */
    append(index, 2);
    set_keyword(index, 8, 8, "word");
    expunge(index, 8);
    ATF_CHECK_EQ(index_view_count(v), 5);
    ATF_CHECK_STREQ(changes(v, true), "K0 A7/8 H ");
    ATF_REQUIRE(index_view_get(v, 6, &r));
    ATF_CHECK(r.expunged);
    ATF_CHECK_EQ(r.uid, 8);
    ATF_CHECK(index_keyword_has(r.keywords, 0));
    append(index, 1);
    expunge(index, 10);
    ATF_CHECK_STREQ(changes(v, false), "E6/8 H ");
    ATF_CHECK_EQ(index_view_count(v), 6);
    index_view_close(&v);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(own_silent_changes);
ATF_TC_BODY(own_silent_changes, tc)
{
    struct index *index = open_memory_index();
    struct index_view *mine, *other;
    struct index_batch *b;

    append(index, 4);
    mine = index_view_open(index);
    other = index_view_open(index);
    b = batch_of(INDEX_INTERNAL);
    index_batch_by(b, mine, true);
    index_batch_flags(b, 1, 3, INDEX_ADD, INDEX_SEEN);
    commit(index, b);
    set_flags(index, 2, 2, INDEX_FLAGGED); /* somebody else, one of the same messages */
    ATF_CHECK_STREQ(changes(mine, true), "F1/1s F2/2 F3/3s H ");
    ATF_CHECK_STREQ(changes(other, true), "F1/1 F2/2 F3/3 H ");
    b = batch_of(INDEX_EXTERNAL);
    index_batch_flags_raw(b, 1, 4, INDEX_DIRTY, 0); /* no client sees this */
    commit(index, b);
    ATF_CHECK_STREQ(changes(mine, true), "");
    index_view_close(&mine);
    index_view_close(&other);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(keywords_are_announced);
ATF_TC_BODY(keywords_are_announced, tc)
{
    struct index *index = open_memory_index();
    struct index_view *v;
    struct index_record r;

    append(index, 2);
    set_keyword(index, 1, 1, "one");
    v = index_view_open(index);
    set_keyword(index, 2, 2, "Two");
    set_keyword(index, 1, 2, "two"); /* the same, as first written */
    ATF_CHECK_STREQ(changes(v, true), "K1 F1/1 F2/2 H ");
    ATF_CHECK_EQ(index_keyword_count(index), 2);
    ATF_CHECK_STREQ(index_keyword_name(index, 1), "Two");
    ATF_REQUIRE(index_view_get(v, 1, &r));
    ATF_CHECK(index_keyword_has(r.keywords, 0));
    ATF_CHECK(index_keyword_has(r.keywords, 1));
    index_view_close(&v);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(counts);
ATF_TC_BODY(counts, tc)
{
    struct index *index = open_memory_index();
    struct index_view *v;
    struct index_status st;
    struct index_batch *b;

    append(index, 10);
    set_flags(index, 1, 4, INDEX_SEEN);
    b = batch_of(INDEX_EXTERNAL);
    index_batch_first_recent(b, 8);
    commit(index, b);
    v = index_view_open(index);
    ATF_CHECK_EQ(index_view_first_unseen(v), 5);
    expunge(index, 2);
    expunge(index, 9);
    append(index, 1);
    index_view_status(v, &st);
    ATF_CHECK_EQ(st.messages, 10);
    ATF_CHECK_EQ(st.unseen, 6);
    ATF_CHECK_EQ(st.recent, 3);
    changes(v, false);
    index_view_status(v, &st);
    ATF_CHECK_EQ(st.messages, 9);
    ATF_CHECK_EQ(st.unseen, 6);
    ATF_CHECK_EQ(st.recent, 3);
    ATF_CHECK_EQ(index_view_first_unseen(v), 4);
    set_flags(index, 1, UINT32_MAX, INDEX_SEEN);
    ATF_CHECK_EQ(index_view_first_unseen(v), 0);
    index_view_close(&v);
    done(&index);
}

/* A session's numbers against a plain list that is kept beside it, through random changes of several sessions. */
struct model {
    struct index_view *view;
    uint32_t uids[4096];
    uint32_t count;
};

static void check_model(const struct model *m)
{
    ATF_REQUIRE_EQ(index_view_count(m->view), m->count);
    for (uint32_t i = 0; i < m->count; i++) {
        ATF_REQUIRE_EQ(index_view_uid(m->view, i + 1), m->uids[i]);
        ATF_REQUIRE_EQ(index_view_seq(m->view, m->uids[i]), i + 1);
    }
    ATF_REQUIRE_EQ(index_view_uid(m->view, m->count + 1), 0);
}

static void sync_model(struct model *m, bool hold)
{
    struct index_change c;
    uint32_t told = 0;

    index_view_sync(m->view, hold);
    while (index_view_next(m->view, &c)) {
        if (c.kind == INDEX_CHANGE_EXPUNGED) {
            ATF_REQUIRE(!hold);
            ATF_REQUIRE(c.seq >= 1 && c.seq <= m->count);
            ATF_REQUIRE_EQ(m->uids[c.seq - 1], c.uid);
            memmove(m->uids + c.seq - 1, m->uids + c.seq, (m->count - c.seq) * sizeof(m->uids[0]));
            m->count--;
        } else if (c.kind == INDEX_CHANGE_APPENDED) {
            while (m->count < c.count) {
                m->uids[m->count] = index_view_uid(m->view, m->count + 1);
                ATF_REQUIRE(m->uids[m->count] >= c.first);
                m->count++;
            }
            ATF_REQUIRE_EQ(m->count, c.count);
        } else if (c.kind == INDEX_CHANGE_FLAGS) {
            ATF_REQUIRE(c.seq > told);
            ATF_REQUIRE_EQ(m->uids[c.seq - 1], c.uid);
            told = c.seq;
        }
    }
}

ATF_TC_WITHOUT_HEAD(random_sessions);
ATF_TC_BODY(random_sessions, tc)
{
    static struct model models[4];
    struct index *index = open_memory_index();

    srandom(42);
    append(index, 20);
    for (int i = 0; i < 4; i++) {
        models[i].view = index_view_open(index);
        sync_model(&models[i], false);
        models[i].count = 20;
        for (uint32_t n = 0; n < 20; n++)
            models[i].uids[n] = n + 1;
    }
    for (int step = 0; step < 1500; step++) {
        struct model *m = &models[random() % 4];
        struct index_record r;

        switch (random() % 6) {
        case 0:
            if (index_count(index) < 300)
                append(index, (unsigned)(random() % 5));
            break;
        case 1:
        case 2:
            if (index_count(index) > 3 && index_get_at(index, (uint32_t)(random() % index_count(index)) + 1, &r))
                expunge(index, r.uid);
            break;
        case 3:
            if (index_get_at(index, (uint32_t)(random() % (index_count(index) + 1)), &r)) {
                struct index_batch *b = batch_of(INDEX_INTERNAL);

                index_batch_flags(b, r.uid, r.uid + (uint32_t)(random() % 9), random() % 2 ? INDEX_ADD : INDEX_REMOVE,
                                  (uint8_t)(1u << random() % 5));
                commit(index, b);
            }
            break;
        case 4:
            sync_model(m, true);
            break;
        default:
            sync_model(m, false);
        }
        check_model(m);
    }
    for (int i = 0; i < 4; i++) {
        sync_model(&models[i], false);
        check_model(&models[i]);
        ATF_CHECK_EQ(models[i].count, index_count(index));
        index_view_close(&models[i].view);
    }
    done(&index);
}

ATF_TC_WITHOUT_HEAD(idle_view_is_small);
ATF_TC_BODY(idle_view_is_small, tc)
{
    struct index *index = open_memory_index();
    struct index_view *v;

    append(index, 100);
    v = index_view_open(index);
    for (int i = 0; i < 100000; i++)
        journal_flags(index, (uint32_t)(i % 50) * 2 + 1, (uint32_t)(i % 50) * 2 + 1, true);
    /* a session that never syncs costs no more than its messages do */
    ATF_CHECK_MSG(index_view_memory(v) < 256 * 1024, "%zu", index_view_memory(v));
    ATF_CHECK(index->journal.room <= 32768);
    changes(v, true);
    ATF_CHECK_MSG(index_view_memory(v) <= 256, "%zu", index_view_memory(v));
    index_view_close(&v);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(ranges);
ATF_TC_BODY(ranges, tc)
{
    struct index_ranges r = {0};

    index_ranges_add(&r, 5, 6);
    index_ranges_add(&r, 10, 12);
    index_ranges_add(&r, 1, 1);
    index_ranges_add(&r, 7, 7);
    ATF_REQUIRE_EQ(r.count, 3);
    ATF_CHECK_EQ(r.at[1].first, 5);
    ATF_CHECK_EQ(r.at[1].last, 7);
    index_ranges_add(&r, 2, 11);
    ATF_REQUIRE_EQ(r.count, 1);
    ATF_CHECK_EQ(r.at[0].first, 1);
    ATF_CHECK_EQ(r.at[0].last, 12);
    index_ranges_add(&r, UINT32_MAX, UINT32_MAX);
    index_ranges_add(&r, 3, UINT32_MAX);
    ATF_REQUIRE_EQ(r.count, 1);
    ATF_CHECK(index_ranges_has(&r, 1));
    ATF_CHECK(!index_ranges_has(&r, 0));
    index_ranges_free(&r);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, expunges_are_held_back);
    ATF_TP_ADD_TC(tp, own_silent_changes);
    ATF_TP_ADD_TC(tp, keywords_are_announced);
    ATF_TP_ADD_TC(tp, counts);
    ATF_TP_ADD_TC(tp, random_sessions);
    ATF_TP_ADD_TC(tp, idle_view_is_small);
    ATF_TP_ADD_TC(tp, ranges);
    return atf_no_error();
}
