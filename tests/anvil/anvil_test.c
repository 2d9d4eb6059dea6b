/* anvil's tables; the penalty values are recorded ones (ipc 6). */
#include "anvil/anvil.h"

#include <atf-c.h>
#include <stdio.h>

ATF_TC_WITHOUT_HEAD(counts);
ATF_TC_BODY(counts, tc)
{
    struct anvil_connections *all = anvil_connections_new();

    (void)tc;
    anvil_connections_add(all, SLICE("imap/::1/u"), 10, 0);
    anvil_connections_add(all, SLICE("imap/::1/u"), 10, 0);
    anvil_connections_add(all, SLICE("imap/::1/u"), 11, 0);
    anvil_connections_add(all, SLICE("pop3/::1/u"), 11, 0);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("imap/::1/u")), 3);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("pop3/::1/u")), 1);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("imap/::1/v")), 0);
    ATF_CHECK(anvil_connections_has(all, SLICE("imap/::1/u"), 11));
    ATF_CHECK(!anvil_connections_has(all, SLICE("pop3/::1/u"), 10));
    ATF_CHECK(anvil_connections_remove(all, SLICE("imap/::1/u"), 10));
    ATF_CHECK(!anvil_connections_remove(all, SLICE("pop3/::1/u"), 10));
    ATF_CHECK(!anvil_connections_remove(all, SLICE("nobody"), 12));
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("imap/::1/u")), 2);
    anvil_connections_forget(all, 11);
    anvil_connections_forget(all, 11);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("imap/::1/u")), 1);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("pop3/::1/u")), 0);
    anvil_connections_free(all);
}

struct seen {
    struct buffer text;
};

static void print(void *arg, struct slice ident, pid_t pid, uint32_t count)
{
    struct seen *seen = arg;

    buffer_append_slice(&seen->text, ident);
    buffer_printf(&seen->text, " %ld %u;", (long)pid, count);
}

ATF_TC_WITHOUT_HEAD(dump_is_in_order);
ATF_TC_BODY(dump_is_in_order, tc)
{
    struct anvil_connections *all = anvil_connections_new();
    struct seen seen = {0};

    (void)tc;
    anvil_connections_add(all, SLICE("b"), 2, 0);
    anvil_connections_add(all, SLICE("a"), 1, 0);
    anvil_connections_add(all, SLICE("b"), 2, 0);
    anvil_connections_each(all, print, &seen);
    ATF_CHECK_STREQ(buffer_cstr(&seen.text), "b 2 2;a 1 1;");
    buffer_free(&seen.text);
    anvil_connections_free(all);
}

ATF_TC_WITHOUT_HEAD(many_of_one_process);
ATF_TC_BODY(many_of_one_process, tc)
{
    struct anvil_connections *all = anvil_connections_new();
    char name[32];

    (void)tc;
    for (int i = 0; i < 20000; i++) {
        (void)snprintf(name, sizeof(name), "imap/::1/user%d", i);
        anvil_connections_add(all, slice_from_str(name), i % 7 + 1, 0);
    }
    for (pid_t pid = 1; pid <= 7; pid++)
        anvil_connections_forget(all, pid);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("imap/::1/user19999")), 0);
    anvil_connections_free(all);
}

/* A dispatcher that dies takes what it spoke for with it; a worker only its own. */
ATF_TC_WITHOUT_HEAD(owners);
ATF_TC_BODY(owners, tc)
{
    struct anvil_connections *all = anvil_connections_new();

    (void)tc;
    anvil_connections_add(all, SLICE("a"), 10, 5);
    anvil_connections_add(all, SLICE("b"), 11, 5);
    anvil_connections_add(all, SLICE("c"), 12, 6);
    anvil_connections_add(all, SLICE("d"), 5, 0);
    anvil_connections_forget(all, 11);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("a")), 1);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("b")), 0);
    anvil_connections_forget(all, 5);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("a")), 0);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("d")), 0);
    ATF_CHECK_EQ(anvil_connections_count(all, SLICE("c")), 1);
    ATF_CHECK(anvil_connections_remove(all, SLICE("c"), 12));
    anvil_connections_free(all);
}

ATF_TC_WITHOUT_HEAD(penalties);
ATF_TC_BODY(penalties, tc)
{
    struct anvil_penalties *all = anvil_penalties_new();
    struct slice ip = SLICE("192.0.2.1");
    time_t last;

    (void)tc;
    ATF_CHECK_EQ(anvil_penalties_get(all, ip, 1000, &last), 0);
    ATF_CHECK_EQ(last, 0);
    anvil_penalties_set(all, ip, 111, 1, 1000);
    ATF_CHECK_EQ(anvil_penalties_get(all, ip, 1001, &last), 1);
    ATF_CHECK_EQ(last, 1000);
    anvil_penalties_set(all, ip, 111, 2, 1005); /* the same wrong password again */
    ATF_CHECK_EQ(anvil_penalties_get(all, ip, 1006, &last), 1);
    ATF_CHECK_EQ(last, 1000);
    anvil_penalties_set(all, ip, 112, 2, 1010);
    ATF_CHECK_EQ(anvil_penalties_get(all, ip, 1011, &last), 2);
    ATF_CHECK_EQ(last, 1010);
    anvil_penalties_set(all, ip, 0, 0, 1020); /* a right one */
    ATF_CHECK_EQ(anvil_penalties_get(all, ip, 1021, &last), 0);
    anvil_penalties_set(all, ip, 5, 70000, 1030);
    ATF_CHECK_EQ(anvil_penalties_get(all, ip, 1031, &last), ANVIL_PENALTY_MOST);
    ATF_CHECK_EQ(anvil_penalties_get(all, ip, 1030 + ANVIL_PENALTY_EXPIRE_SECS, &last), 0);
    anvil_penalties_free(all);
}

ATF_TC_WITHOUT_HEAD(penalties_expire_in_order);
ATF_TC_BODY(penalties_expire_in_order, tc)
{
    struct anvil_penalties *all = anvil_penalties_new();
    time_t last;

    (void)tc;
    anvil_penalties_expire_secs(all, 100);
    anvil_penalties_set(all, SLICE("old"), 0, 3, 1000);
    anvil_penalties_set(all, SLICE("new"), 0, 3, 1050);
    anvil_penalties_set(all, SLICE("old"), 0, 4, 1060);
    ATF_CHECK_EQ(anvil_penalties_get(all, SLICE("new"), 1151, &last), 0);
    ATF_CHECK_EQ(anvil_penalties_get(all, SLICE("old"), 1151, &last), 4);
    anvil_penalties_free(all);
}

/* More than ten checksums: the oldest is forgotten, memory stays where it was. */
ATF_TC_WITHOUT_HEAD(many_checksums);
ATF_TC_BODY(many_checksums, tc)
{
    struct anvil_penalties *all = anvil_penalties_new();
    time_t last;

    (void)tc;
    for (uint32_t i = 1; i <= 11; i++)
        anvil_penalties_set(all, SLICE("x"), i, i, 1000);
    anvil_penalties_set(all, SLICE("x"), 11, 12, 1001);
    ATF_CHECK_EQ(anvil_penalties_get(all, SLICE("x"), 1002, &last), 11);
    anvil_penalties_set(all, SLICE("x"), 1, 12, 1001);
    ATF_CHECK_EQ(anvil_penalties_get(all, SLICE("x"), 1002, &last), 12);
    anvil_penalties_free(all);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, counts);
    ATF_TP_ADD_TC(tp, dump_is_in_order);
    ATF_TP_ADD_TC(tp, many_of_one_process);
    ATF_TP_ADD_TC(tp, owners);
    ATF_TP_ADD_TC(tp, penalties);
    ATF_TP_ADD_TC(tp, penalties_expire_in_order);
    ATF_TP_ADD_TC(tp, many_checksums);
    return atf_no_error();
}
