/* Access control lists: lines, sorting, evaluation. The cases of evaluation were asked of the real server (doveadm acl
 * rights), as were the bytes that a change writes. */
#include "store/acl/acl.h"

#include <atf-c.h>
#include <stdlib.h>

static const char *const staff[] = {"staff", NULL};

static unsigned letters(const char *text)
{
    unsigned rights = 0;

    for (; *text != '\0'; text++)
        rights |= acl_right_of_letter(*text);
    return rights;
}

static void check(const char *local, const char *global, const struct acl_me *me, const char *want, bool want_match)
{
    struct arena *arena = arena_new();
    struct acl_entries entries = {0}, more = {0};
    struct error e;
    bool matched;
    unsigned rights;

    ATF_REQUIRE_EQ(0, acl_text_parse(arena, slice_from_str(local), "l", &entries, &e));
    ATF_REQUIRE_EQ(0, acl_text_parse(arena, slice_from_str(global), "g", &more, &e));
    for (size_t i = 0; i < more.count; i++) {
        more.at[i].global = true;
        VEC_PUSH(&entries, more.at[i]);
    }
    acl_sort(&entries);
    rights = acl_evaluate(&entries, me, &matched);
    ATF_CHECK_MSG(rights == letters(want) && matched == want_match, "%s | %s: %x instead of %x", local, global, rights, letters(want));
    VEC_FREE(&entries);
    VEC_FREE(&more);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(evaluation);
ATF_TC_BODY(evaluation, tc)
{
    const struct acl_me owner = {"alice", true, staff}, bob = {"bob", false, staff}, carol = {"carol", false, NULL};
    const char all[] = "lrwstipekxa";

    (void)tc;
    check("", "", &owner, all, true);
    check("", "", &bob, "", false);
    check("user=bob lr\n", "", &bob, "lr", true);
    check("user=bob lr\n", "", &carol, "", false);
    check("user=bob lr\n", "", &owner, all, true);
    /* Kinds replace each other, groups add up, the owner is above groups. */
    check("anyone l\ngroup=staff r\nuser=bob s\n", "", &bob, "s", true);
    check("anyone l\ngroup=staff r\n", "", &bob, "r", true);
    check("anyone l\ngroup=staff r\n", "", &carol, "l", true);
    check("group=staff lr\nanyone l\n", "", &owner, all, true);
    check("owner lr\n", "", &owner, "lr", true);
    check("owner lr\nuser=alice la\n", "", &owner, "la", true);
    check("user=alice la\ngroup-override=staff i\n", "", &owner, "i", true);
    /* What is taken away, by the last kind that says so. */
    check("-owner s\n", "", &owner, "lrwtipekxa", true);
    check("-owner s\n-user=alice a\n", "", &owner, "lrwstipekx", true);
    check("anyone lr\n-user=bob r\n", "", &bob, "l", true);
    check("-user=carol l\n", "", &carol, "", true);
    /* Global ones come last, touch the owner, and clear what the mailbox's own list takes away. */
    check("", "group=staff lrs\n", &owner, "lrs", true);
    check("-user=bob r\n", "anyone lr\n", &bob, "lr", true);
    check("user=bob lrw\n", "-user=bob r\n", &bob, "lw", true);
}

ATF_TC_WITHOUT_HEAD(lines);
ATF_TC_BODY(lines, tc)
{
    static const struct {
        const char *in, *out;
    } good[] = {{"user=bob rl", "user=bob lr\n"},           {"-user=carol s", "-user=carol s\n"},
                {"\"user=a b\" l", "\"user=a b\" l\n"},     {"user=a\"b l", "user=a\"b l\n"},
                {"anyone l :read foo,bar", "anyone lr :foo bar\n"}, {"user=bob ", "user=bob \n"},
                {"group-override=x lrwstipekxa", "group-override=x akxeilprwts\n"}};
    static const struct {
        const char *in, *error;
    } bad[] = {{"bob lr", "ACL file p line 2: Unknown ID 'bob'"}, {"user=bob ly", "ACL file p line 2: Unknown ACL 'y'"},
               {"user=bob l foo", "ACL file p line 2: Missing ':' prefix in ACL extensions"},
               {"\"user=x l", "ACL file p line 2: Invalid quoted ID"}};
    struct arena *arena = arena_new();
    struct error e;

    (void)tc;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct acl_entry entry;
        struct buffer out = {0};

        ATF_REQUIRE_EQ_MSG(0, acl_line_parse(arena, slice_from_str(good[i].in), &entry, &e), "%s", good[i].in);
        acl_line_put(&out, &entry);
        ATF_CHECK_STREQ(good[i].out, buffer_cstr(&out));
        buffer_free(&out);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct acl_entries entries = {0};

        ATF_CHECK_EQ(-1, acl_text_parse(arena, slice_from_str(arena_printf(arena, "# c\n%s\n", bad[i].in)), "p", &entries, &e));
        ATF_CHECK_STREQ(bad[i].error, e.admin);
        VEC_FREE(&entries);
    }
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(global_file);
ATF_TC_BODY(global_file, tc)
{
    struct arena *arena = arena_new();
    struct acl_patterns patterns = {0};
    struct error e;

    (void)tc;
    ATF_REQUIRE_EQ(0, acl_global_parse(arena, SLICE("* user=bob lr\n\"a \\\"b\" -anyone l\n"), "g", &patterns, &e));
    ATF_REQUIRE_EQ(2, patterns.count);
    ATF_CHECK_STREQ("a \"b", patterns.at[1].pattern);
    ATF_CHECK(patterns.at[1].entry.global && patterns.at[1].entry.has_negative);
    VEC_FREE(&patterns);
    ATF_CHECK_EQ(-1, acl_global_parse(arena, SLICE("*\n"), "g", &patterns, &e));
    ATF_CHECK_STREQ("Global ACL file g line 1: Missing ACL rights", e.admin);
    VEC_FREE(&patterns);
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, evaluation);
    ATF_TP_ADD_TC(tp, lines);
    ATF_TP_ADD_TC(tp, global_file);
    return atf_no_error();
}
