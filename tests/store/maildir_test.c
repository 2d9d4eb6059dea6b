/* Maildir names, uidlist, keywords, subscriptions, the list index tree: maildir-and-layouts 6.4, 8; index-format 11.1. */
#include "store/internal.h"
#include "store/list_tree.h"
#include "store/maildir/maildir.h"

#include <atf-c.h>
#include <stdio.h>

ATF_TC_WITHOUT_HEAD(infos);
ATF_TC_BODY(infos, tc)
{
    static const struct {
        const char *old;
        uint8_t flags;
        uint32_t letters;
        const char *made;
    } vectors[] = {
        {NULL, 0, 0, ":2,"}, {NULL, INDEX_SEEN | INDEX_DRAFT, 0, ":2,DS"}, {":2,S", INDEX_FLAGGED, 1, ":2,Fa"},
        {":2,SX", INDEX_SEEN, 0, ":2,SX"}, {":2,PS", INDEX_ANSWERED, 0, ":2,PR"}, {":2,FS,extra", 0, 2, ":2,b,extra"},
        {":1,abc", INDEX_SEEN, 0, ":2,S"}, {":x:2,S", INDEX_SEEN, 0, ":x:2,S"}, {":2,ab", 0, 1, ":2,a"},
    };
    struct arena *arena = arena_new();
    uint8_t flags;
    uint32_t letters;

    (void)tc;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        ATF_CHECK_STREQ(vectors[i].made, maildir_info_make(arena, vectors[i].old, vectors[i].flags, vectors[i].letters));
    maildir_info_parse(":2,DFRSTaz", &flags, &letters);
    ATF_CHECK_EQ(flags, INDEX_FLAGS_CLIENT);
    ATF_CHECK_EQ(letters, 1u | 1u << 25);
    maildir_info_parse(":1,FS", &flags, &letters);
    ATF_CHECK_EQ(flags, 0);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(sizes);
ATF_TC_BODY(sizes, tc)
{
    uint64_t n;

    (void)tc;
    ATF_CHECK(maildir_size_field(SLICE("1.M2.h,S=46,W=51"), 'S', &n) && n == 46);
    ATF_CHECK(maildir_size_field(SLICE("1.M2.h,S=46,W=51"), 'W', &n) && n == 51);
    ATF_CHECK(!maildir_size_field(SLICE("1.M2.h,S=46x"), 'S', &n));
    ATF_CHECK(!maildir_size_field(SLICE("1.M2.h,S="), 'S', &n));
    ATF_CHECK(!maildir_size_field(SLICE("1.M2.h,S=99999999999999999999"), 'S', &n));
}

ATF_TC_WITHOUT_HEAD(order);
ATF_TC_BODY(order, tc)
{
    static const char *const sorted[] = {"abc", "4.x", "5.M9P1.h", "5.M10P1.h", "5.a"};

    (void)tc;
    for (size_t i = 1; i < 5; i++)
        ATF_CHECK_MSG(maildir_name_compare(sorted[i - 1], sorted[i]) < 0, "%s %s", sorted[i - 1], sorted[i]);
}

ATF_TC_WITHOUT_HEAD(names_are_new);
ATF_TC_BODY(names_are_new, tc)
{
    struct arena *arena = arena_new();
    const char *last = maildir_name_new(arena);

    (void)tc;
    for (int i = 0; i < 1000; i++) {
        const char *next = maildir_name_new(arena);

        ATF_REQUIRE(maildir_name_compare(last, next) < 0);
        last = next;
    }
    arena_free(arena);
}

static char last_line[600];

static void see(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix;
    snprintf(last_line, sizeof(last_line), "%s", text);
}

ATF_TC_WITHOUT_HEAD(uidlist);
ATF_TC_BODY(uidlist, tc)
{
    static const char text[] = "3 V1795479108 N1 Gb876bb0b43d6046b9a0a000083ecc375 Xnew\n"
                               "1 :1795479107.M179404P2714.vm,S=46,W=51\n"
                               "3  G179.M1P2.vm,S=4  P :1795479114.M112481P2716.vm,S=46,W=51\n"
                               "7 S12 W13 :name with : colon";
    struct maildir_uidlist list = {.other_fields = ""};
    struct arena *arena = arena_new();
    struct maildir_record *rec;
    size_t used, doubled;
    struct error e;

    (void)tc;
    ATF_REQUIRE(maildir_uidlist_parse(&list, slice_from_str(text), &used, &e) == 0);
    ATF_CHECK_EQ(list.count, 2); /* the last line has no end yet */
    ATF_CHECK_EQ(list.uid_validity, 1795479108);
    ATF_CHECK_STREQ(" Xnew", list.other_fields);
    ATF_CHECK(list.have_guid && list.guid[0] == 0xb8);
    rec = maildir_uidlist_find(&list, 3);
    ATF_REQUIRE(rec != NULL);
    ATF_CHECK_STREQ("179.M1P2.vm,S=4", maildir_record_field(rec, 'G', arena));
    ATF_CHECK_STREQ("", maildir_record_field(rec, 'P', arena));
    ATF_CHECK(maildir_record_field(rec, 'S', arena) == NULL);
    ATF_REQUIRE(maildir_uidlist_parse(&list, SLICE("7 S12 W13 :name\n"), &used, &e) == 0);
    maildir_uidlist_index(&list, &doubled);
    ATF_CHECK(maildir_uidlist_find_base(&list, "name", 4) == maildir_uidlist_find(&list, 7));
    ATF_CHECK(maildir_uidlist_find_base(&list, "nam", 3) == NULL);
    ATF_CHECK_STREQ("S12 W9", maildir_fields_set(arena, "S12 W13", 'W', "9"));
    ATF_CHECK_STREQ("W13", maildir_fields_set(arena, "S12 W13", 'S', NULL));
    /* The same file on two lines: the higher UID stays. */
    log_capture(see, NULL);
    ATF_REQUIRE(maildir_uidlist_parse(&list, SLICE("9 :name\n"), &used, &e) == 0);
    maildir_uidlist_index(&list, &doubled);
    ATF_CHECK_EQ(doubled, 1);
    ATF_CHECK(maildir_uidlist_find_base(&list, "name", 4)->uid == 9);
    ATF_CHECK_STREQ("/dovecot-uidlist: Duplicate file entry at line 5: name (uid 7 -> 9)", last_line);
    log_capture(NULL, NULL);
    maildir_uidlist_free(&list);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(broken_uidlists);
ATF_TC_BODY(broken_uidlists, tc)
{
    static const struct {
        const char *text, *fault;
    } vectors[] = {
        {"4 V1 N1\n", "line 1: Unsupported version 4"}, {"x\n", "line 1: Corrupted header (invalid version number)"},
        {"1 5\n", "line 1: Corrupted header (version 1)"},
        {"3 N5\n", "line 1: Broken header (uidvalidity = 0, next_uid=5)"},
        {"3 V1 N1 Gzz\n", "line 1: Invalid mailbox GUID: zz"},
        {"3 V1 N1\n5 :a\n5 :b\n", "line 3: UIDs not ordered (5 >= 5)"},
        {"3 V1 N1\n4294967295 :a\n", "line 2: UID too high (4294967295)"},
        {"1 5 3\n3 a\n", "line 2: UID larger than next_uid (3 >= 3)"},
        {"3 V1 N1\n5 name\n", "line 2: Invalid extended fields: name"},
        {"3 V1 N1\n5 :../x\n", "line 2: /dovecot-uidlist: Broken filename at line 2: ../x"}, {"3 V1 N1\nfoo\n", "line 2: Invalid data: foo"},
    };
    struct error e;
    size_t used;

    (void)tc;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct maildir_uidlist list = {.other_fields = ""};
        int r = maildir_uidlist_parse(&list, slice_from_str(vectors[i].text), &used, &e);

        ATF_CHECK_STREQ(vectors[i].fault, r < 0 ? e.admin : "accepted");
        maildir_uidlist_free(&list);
    }
}

ATF_TC_WITHOUT_HEAD(keywords);
ATF_TC_BODY(keywords, tc)
{
    struct maildir_keywords kw = {0};

    (void)tc;
    ATF_CHECK_EQ(maildir_keywords_parse(&kw, SLICE("0 one\n2 $Forwarded\n27 x\nbad\n3 ONE\n5 two\n5 later\n")), 2);
    ATF_CHECK_EQ(maildir_keyword_letter(&kw, SLICE("One")), 0);
    ATF_CHECK_EQ(maildir_keyword_letter(&kw, SLICE("later")), 5);
    ATF_CHECK(kw.names[3] == NULL);
    ATF_CHECK_EQ(maildir_keyword_add(&kw, SLICE("new")), 1);
    for (int i = 0; i < 22; i++)
        ATF_CHECK(maildir_keyword_add(&kw, SLICE("more")) >= 3);
    ATF_CHECK_EQ(maildir_keyword_add(&kw, SLICE("full")), -1);
    maildir_keywords_free(&kw);
}

ATF_TC_WITHOUT_HEAD(subscriptions);
ATF_TC_BODY(subscriptions, tc)
{
    struct name_list names = {0};
    struct arena *arena = arena_new();

    (void)tc;
    ATF_REQUIRE(subscriptions_parse(SLICE("V\t2\n\na\tb\tc\n\n&AOQA9g-\nx\001t"), '.', arena, &names) == 0);
    ATF_CHECK_EQ(names.count, 4);
    ATF_CHECK_STREQ("a.b.c", names.at[0]);
    ATF_CHECK_STREQ("", names.at[1]); /* the namespace itself */
    ATF_CHECK_STREQ("x\t", names.at[3]);
    names.count = 0;
    ATF_REQUIRE(subscriptions_parse(SLICE("INBOX\nA.B.\nV\t3\n"), '.', arena, &names) == 0);
    ATF_CHECK_EQ(names.count, 3);
    ATF_CHECK_STREQ("A.B", names.at[1]);
    VEC_FREE(&names);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(guids);
ATF_TC_BODY(guids, tc)
{
    unsigned char a[16], b[16];

    (void)tc;
    store_guid_new(a);
    store_guid_new(b);
    ATF_CHECK(memcmp(a, b, 16) != 0);
    ATF_CHECK(memcmp(a + 8, b + 8, 8) == 0);
    store_guid_of_text(SLICE("fcc589100ad6046b3907000083ecc375"), a);
    ATF_CHECK(a[0] == 0xfc && a[15] == 0x75);
    store_guid_of_text(SLICE("abc"), a); /* SHA-1 a9993e36 4706816a...: the last 16 bytes */
    ATF_CHECK(a[0] == 0x47 && a[1] == 0x06);
}

ATF_TC_WITHOUT_HEAD(list_tree);
ATF_TC_BODY(list_tree, tc)
{
    static const char header[] = "\0\1\0\0\0INBOX\0\2\0\0\0Big\0\3\0\0\0Sub\0\0\0\0\0\0\0";
    struct arena *arena = arena_new();
    struct list_tree tree = {0};
    unsigned char record[28] = {0};
    struct buffer out = {0};
    struct error e;

    (void)tc;
    ATF_REQUIRE(list_tree_parse_header(&tree, slice_of(header, sizeof(header) - 1), arena, &e) == 0);
    for (uint32_t uid = 1; uid <= 3; uid++) {
        bytes_put_le32(record, uid);
        bytes_put_le32(record + 4, uid == 3 ? 2 : 0);
        ATF_REQUIRE(list_tree_add(&tree, uid, 0, slice_of(record, 28), &e) == 0);
    }
    ATF_REQUIRE(list_tree_finish(&tree, &e) == 0);
    ATF_CHECK_EQ(list_tree_find(&tree, "Big.Sub", '.')->uid, 3);
    ATF_CHECK(list_tree_find(&tree, "Sub", '.') == NULL);
    list_tree_put_header(&tree, &out);
    ATF_CHECK(slice_equal(buffer_slice(&out), slice_of(header, out.size)));
    bytes_put_le32(record, 9);
    ATF_CHECK(list_tree_add(&tree, 4, 0, slice_of(record, 28), &e) < 0);
    ATF_CHECK_STREQ("name_id=9 not in index header", e.admin);
    buffer_free(&out);
    list_tree_free(&tree);
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, infos);
    ATF_TP_ADD_TC(tp, sizes);
    ATF_TP_ADD_TC(tp, order);
    ATF_TP_ADD_TC(tp, names_are_new);
    ATF_TP_ADD_TC(tp, uidlist);
    ATF_TP_ADD_TC(tp, broken_uidlists);
    ATF_TP_ADD_TC(tp, keywords);
    ATF_TP_ADD_TC(tp, subscriptions);
    ATF_TP_ADD_TC(tp, guids);
    ATF_TP_ADD_TC(tp, list_tree);
    return atf_no_error();
}
