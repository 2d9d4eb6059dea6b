/* Sequence sets: what is one, and what it means in a mailbox (imap 10.1). */
#include <atf-c.h>

#include "imap/set.h"

static struct arena *arena;

/* The set as parsed: "1-3,*-7", "$", or "bad". */
static const char *parsed(const char *text)
{
    struct imap_set set;
    struct buffer out = {0};
    const char *result;

    if (imap_set_parse(arena, slice_from_str(text), &set) < 0)
        return "bad";
    if (set.saved)
        return "$";
    for (size_t i = 0; i < set.count; i++)
        buffer_printf(&out, "%s%u-%u", i == 0 ? "" : ",", set.at[i].first, set.at[i].last);
    if (set.huge)
        buffer_append_byte(&out, '!');
    result = arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return result;
}

ATF_TC_WITHOUT_HEAD(syntax);
ATF_TC_BODY(syntax, tc)
{
    arena = arena_new();
    ATF_CHECK_STREQ("1-1", parsed("1"));
    ATF_CHECK_STREQ("1-3,7-7", parsed("1:3,7"));
    ATF_CHECK_STREQ("0-0", parsed("*"));
    ATF_CHECK_STREQ("4-0", parsed("4:*"));
    ATF_CHECK_STREQ("0-3", parsed("*:3"));
    ATF_CHECK_STREQ("1-1", parsed("1,"));
    ATF_CHECK_STREQ("$", parsed("$"));
    ATF_CHECK_STREQ("4294967295-4294967295!", parsed("4294967295"));
    ATF_CHECK_STREQ("4294967295-4294967295!", parsed("4294967296"));
    ATF_CHECK_STREQ("4294967295-4294967295!", parsed("99999999999999999999999999"));
    ATF_CHECK_STREQ("bad", parsed("0"));
    ATF_CHECK_STREQ("bad", parsed("1:0"));
    ATF_CHECK_STREQ("", parsed(""));
    ATF_CHECK_STREQ("bad", parsed("abc"));
    ATF_CHECK_STREQ("bad", parsed("1,,2"));
    ATF_CHECK_STREQ("bad", parsed("-1"));
    ATF_CHECK_STREQ("bad", parsed("1:2:3"));
    ATF_CHECK_STREQ("bad", parsed("1x"));
    ATF_CHECK_STREQ("bad", parsed("$,1"));
    arena_free(arena);
}

/* A mailbox in memory with the UIDs given. */
static struct index *make_index(const uint32_t *uids, size_t count)
{
    struct index_where where = {.dir = -1, .path = "memory", .in_memory = true};
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    struct index *index;
    struct error e;

    ATF_REQUIRE_EQ_MSG(0, index_open(&index, &where, &e), "%s", e.admin);
    index_batch_uid_validity(batch, 1);
    for (size_t i = 0; i < count; i++)
        index_batch_append(batch, uids[i], 0);
    ATF_REQUIRE_EQ_MSG(0, index_commit_wait(index, batch, NULL, &e), "%s", e.admin);
    return index;
}

static const char *resolved(const struct index_view *view, const char *text, enum imap_set_kind kind)
{
    struct imap_set set;
    struct index_ranges saved = {0}, seqs = {0};
    struct buffer out = {0};
    const char *result = "bad";

    index_ranges_add(&saved, 3, 4);
    if (imap_set_parse(arena, slice_from_str(text), &set) == 0 && imap_set_resolve(&set, kind, view, &saved, &seqs) == 0) {
        imap_ranges_put(&out, &seqs);
        result = arena_str(arena, buffer_slice(&out));
    }
    buffer_free(&out);
    index_ranges_free(&saved);
    index_ranges_free(&seqs);
    return result;
}

ATF_TC_WITHOUT_HEAD(meaning);
ATF_TC_BODY(meaning, tc)
{
    static const uint32_t uids[] = {1, 3, 4, 6, 7};
    struct index *index, *empty;
    struct index_view *view;

    arena = arena_new();
    index = make_index(uids, 5);
    view = index_view_open(index);
    ATF_CHECK_STREQ("1:3", resolved(view, "1:3", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("1:3", resolved(view, "3:1", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("5", resolved(view, "*", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("3:5", resolved(view, "*:3", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("1:5", resolved(view, "2:*,1", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("bad", resolved(view, "6:*", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("bad", resolved(view, "1:3,6", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("bad", resolved(view, "4294967297", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("", resolved(view, "100", IMAP_SET_SEARCH_SEQS));
    ATF_CHECK_STREQ("", resolved(view, "100:*", IMAP_SET_SEARCH_SEQS));
    ATF_CHECK_STREQ("3:5", resolved(view, "3:100", IMAP_SET_SEARCH_SEQS));
    ATF_CHECK_STREQ("1:2", resolved(view, "1:3", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("", resolved(view, "2", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("3", resolved(view, "2:2,5,4", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("5", resolved(view, "8:*", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("1,5", resolved(view, "*,1", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("1:5", resolved(view, "1:4294967295", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("", resolved(view, "99999999999", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("", resolved(view, "", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("bad", resolved(view, "", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("2:3", resolved(view, "$", IMAP_SET_SEQS));
    index_view_close(&view);
    index_close(&index);

    empty = make_index(NULL, 0);
    view = index_view_open(empty);
    ATF_CHECK_STREQ("bad", resolved(view, "*", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("bad", resolved(view, "1:*", IMAP_SET_SEQS));
    ATF_CHECK_STREQ("", resolved(view, "*", IMAP_SET_UIDS));
    ATF_CHECK_STREQ("", resolved(view, "1:*", IMAP_SET_SEARCH_SEQS));
    index_view_close(&view);
    index_close(&empty);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(walking);
ATF_TC_BODY(walking, tc)
{
    struct index_ranges r = {0};
    struct buffer out = {0};
    size_t at = 0;

    index_ranges_add(&r, 2, 4);
    index_ranges_add(&r, 7, 7);
    for (uint32_t n = 0; (n = imap_ranges_next(&r, &at, n)) != 0;)
        buffer_printf(&out, "%u ", n);
    ATF_CHECK_STREQ("2 3 4 7 ", buffer_cstr(&out));
    ATF_CHECK_EQ(4, imap_ranges_count(&r));
    buffer_free(&out);
    index_ranges_free(&r);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, syntax);
    ATF_TP_ADD_TC(tp, meaning);
    ATF_TP_ADD_TC(tp, walking);
    return atf_no_error();
}
