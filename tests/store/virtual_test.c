/* dovecot-virtual, its search programs, and what the index says of the mailboxes behind. */
#include "store/virtual/virtual.h"

#include <atf-c.h>

ATF_TC_WITHOUT_HEAD(config);
ATF_TC_BODY(config, tc)
{
    struct arena *arena = arena_new();
    struct virtual_config c;
    struct error e;

    (void)tc;
    ATF_REQUIRE(virtual_config_parse(&c, SLICE("# comment\nINBOX\n  unseen\nbox\n-old\n!Sent\n+New\n  subject y\r\n   seen\n"), arena, &e) == 0);
    ATF_REQUIRE_EQ(c.rule_count, 2);
    ATF_REQUIRE_EQ(c.line_count, 5);
    ATF_CHECK_STREQ(c.rules[0], "unseen");
    ATF_CHECK_STREQ(c.rules[1], "subject y seen");
    ATF_CHECK_EQ(c.lines[0].rule, 0);
    ATF_CHECK_EQ(c.lines[1].rule, 1);
    ATF_CHECK_EQ(c.lines[2].mark, VIRTUAL_EXCLUDE);
    ATF_CHECK_EQ(c.lines[3].mark, VIRTUAL_SAVE);
    ATF_CHECK_EQ(c.lines[4].mark, VIRTUAL_CLEAR_RECENT);
    /* As the real server has written them into its indexes. */
    ATF_CHECK_EQ(c.crc, 0xb02c4c36);
    virtual_config_free(&c);
    ATF_REQUIRE(virtual_config_parse(&c, SLICE("INBOX\n  all"), arena, &e) == 0);
    ATF_CHECK_EQ(c.crc, 0x9b94f80e);
    virtual_config_free(&c);
    ATF_CHECK(virtual_config_parse(&c, SLICE(""), arena, &e) < 0);
    ATF_CHECK(virtual_config_parse(&c, SLICE("INBOX\n"), arena, &e) < 0);
    ATF_CHECK(virtual_config_parse(&c, SLICE("  all\n"), arena, &e) < 0);
    ATF_CHECK(virtual_config_parse(&c, SLICE("-\n  all\n"), arena, &e) < 0);
    ATF_CHECK(virtual_config_parse(&c, SLICE("\xff\n  all\n"), arena, &e) < 0);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(query);
ATF_TC_BODY(query, tc)
{
    static const char *const good[] = {"all", "UNSEEN from \"a b\"", "or flagged not subject x", "(seen (draft)) header x-y z",
                                       "not (or seen flagged)", "since 1-Jan-2020 larger 100 younger 3600", "keyword $Work body \"\"",
                                       "inthread refs (seen or flagged draft)", "not mimepart (type text child exists) seen"};
    static const char *const bad[] = {"", "bogus", "(seen", "seen)", "or seen", "not", "from", "header x", "since yesterday", "larger x", "()",
                                      "1:3", "inthread", "inthread foo seen", "inthread refs", "mimepart", "mimepart (type", "mimepart type (text)"};
    struct arena *arena = arena_new();
    struct buffer deep = {0};
    struct error e;

    (void)tc;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ATF_CHECK_MSG(virtual_query_parse(arena, good[i], &e) != NULL, "%s: %s", good[i], e.admin);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_MSG(virtual_query_parse(arena, bad[i], &e) == NULL, "%s", bad[i]);
    for (int i = 0; i < 100000; i++)
        buffer_append_str(&deep, "not ");
    ATF_CHECK(virtual_query_parse(arena, buffer_cstr(&deep), &e) == NULL);
    buffer_free(&deep);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(header);
ATF_TC_BODY(header, tc)
{
    /* Of a real index: INBOX and box. */
    static const unsigned char raw[] = {1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0x36, 0x4c, 0x2c, 0xb0, 1, 0, 0, 0, 5, 0, 0, 0, 0x8d, 0x51, 7, 0x6b,
                                        4, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0x8b, 0x51, 7, 0x6b, 4, 0, 0, 0,
                                        4, 0, 0, 0, 0, 0, 0, 0, 'I', 'N', 'B', 'O', 'X', 'b', 'o', 'x'};
    struct arena *arena = arena_new();
    struct buffer header = {0}, more = {0};
    struct virtual_header h;
    struct error e;

    (void)tc;
    ATF_REQUIRE(virtual_header_parse(&h, slice_of(raw, sizeof(raw)), SLICE(""), arena, &e) == 0);
    ATF_REQUIRE_EQ(h.count, 2);
    ATF_CHECK_STREQ(h.at[0].name, "INBOX");
    ATF_CHECK_STREQ(h.at[1].name, "box");
    ATF_CHECK_EQ(h.at[1].next_uid, 4);
    ATF_CHECK_EQ(h.crc, 0xb02c4c36);
    h.at[1].guid[0] = 7;
    virtual_header_put(&h, &header, &more);
    ATF_CHECK(slice_equal(buffer_slice(&header), slice_of(raw, sizeof(raw))));
    ATF_REQUIRE(virtual_header_parse(&h, buffer_slice(&header), buffer_slice(&more), arena, &e) == 0);
    ATF_CHECK_EQ(h.at[1].guid[0], 7);
    for (size_t n = 1; n < sizeof(raw); n++)
        ATF_CHECK_MSG(virtual_header_parse(&h, slice_of(raw, n), SLICE(""), arena, &e) < 0, "%zu bytes", n);
    buffer_free(&header);
    buffer_free(&more);
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, config);
    ATF_TP_ADD_TC(tp, query);
    ATF_TP_ADD_TC(tp, header);
    return atf_no_error();
}
