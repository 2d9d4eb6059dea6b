/* Quota: rules, limits of a mailbox, maildirsize. */
#include "store/quota/quota.h"

#include <atf-c.h>

ATF_TC_WITHOUT_HEAD(rules);
ATF_TC_BODY(rules, tc)
{
    static const char *const texts[] = {"*:storage=64k:messages=100", "Spam:ignore", "Trash:storage=+16k", "Archive/*:storage=+10%:messages=+50%"};
    struct quota_rule all[4];
    struct arena *arena = arena_new();
    struct quota_amount limits;
    struct error e;

    (void)tc;
    for (size_t i = 0; i < 4; i++)
        ATF_REQUIRE_EQ(0, quota_rule_parse(arena, texts[i], &all[i], &e));
    ATF_CHECK(quota_limits(all, 4, "INBOX", &limits) && limits.bytes == 65536 && limits.count == 100);
    ATF_CHECK(quota_limits(all, 4, "Trash", &limits) && limits.bytes == 81920 && limits.count == 100);
    ATF_CHECK(!quota_limits(all, 4, "Spam", &limits));
    ATF_CHECK(quota_limits(all, 4, "Archive/1", &limits) && limits.bytes == 72089 && limits.count == 150);
    ATF_REQUIRE_EQ(0, quota_rule_parse(arena, "*:storage=5", &all[0], &e));
    ATF_CHECK(quota_limits(all, 1, NULL, &limits) && limits.bytes == 5120);
    ATF_REQUIRE_EQ(0, quota_rule_parse(arena, "*:bytes=5", &all[0], &e));
    ATF_CHECK(quota_limits(all, 1, NULL, &limits) && limits.bytes == 5);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(faults);
ATF_TC_BODY(faults, tc)
{
    static const struct {
        const char *rule, *error;
    } bad[] = {{"bad", "Invalid rule bad: Invalid rule"}, {"*:storage=abc", "Invalid rule *:storage=abc: Invalid storage limit: abc"},
               {"*:foo=1", "Invalid rule *:foo=1: Unknown rule limit name: foo"},
               {"*:storage=10%", "Invalid rule *:storage=10%: Default rule can't be a percentage"},
               {"*:storage=+10k", "Invalid rule *:storage=+10k: Rule limit cannot have '+'"},
               {"*:storage=99999999999999999999", "Invalid rule *:storage=99999999999999999999: Invalid storage limit: 99999999999999999999"}};
    struct arena *arena = arena_new();
    struct quota_warning warning;
    struct quota_rule rule;
    struct error e;

    (void)tc;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ATF_CHECK_EQ(-1, quota_rule_parse(arena, bad[i].rule, &rule, &e));
        ATF_CHECK_STREQ(bad[i].error, e.admin);
    }
    ATF_CHECK_EQ(-1, quota_warning_parse(arena, "foo", &warning, &e));
    ATF_REQUIRE_EQ(0, quota_warning_parse(arena, "-storage=80% quota-warning 80 alice", &warning, &e));
    ATF_CHECK(warning.below && warning.bytes.percent && warning.bytes.value == 80);
    ATF_CHECK_STREQ("quota-warning 80 alice", warning.command);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(maildirsize);
ATF_TC_BODY(maildirsize, tc)
{
    struct quota_amount limits, sum;
    unsigned lines;

    (void)tc;
    ATF_REQUIRE(quota_maildirsize_parse(SLICE("10485760S,100C\n0 0\n46 1\n100 2\n-46 -1\n9 "), &limits, &sum, &lines));
    ATF_CHECK(limits.bytes == 10485760 && limits.count == 100 && sum.bytes == 100 && sum.count == 2 && lines == 4);
    ATF_CHECK(quota_maildirsize_parse(SLICE("0S\n5 1\n"), &limits, &sum, &lines) && limits.bytes == 0);
    ATF_CHECK(!quota_maildirsize_parse(SLICE(""), &limits, &sum, &lines));
    ATF_CHECK(!quota_maildirsize_parse(SLICE("0S\n"), &limits, &sum, &lines));
    ATF_CHECK(!quota_maildirsize_parse(SLICE("0S\n5 1\n-6 0\n"), &limits, &sum, &lines));
    ATF_CHECK(!quota_maildirsize_parse(SLICE("0S\n5 1\nx y\n"), &limits, &sum, &lines));
    ATF_CHECK(!quota_maildirsize_parse(SLICE("0S\n9223372036854775807 1\n9223372036854775807 1\n"), &limits, &sum, &lines));
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, rules);
    ATF_TP_ADD_TC(tp, faults);
    ATF_TP_ADD_TC(tp, maildirsize);
    return atf_no_error();
}
