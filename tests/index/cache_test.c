/* cache_test.c - cached fields: put and get, decisions, purge, damage (index-format 9, 12.4). */
#include "lib.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const struct index_settings keep = {.cache_fields = "flags size.virtual imap.bodystructure hdr.subject"};

static const char *get(struct index *index, uint32_t uid, const char *field)
{
    struct slice value;

    if (index_cache_get(index, uid, index_field(field), arena, &value) == INDEX_CACHE_MISS)
        return NULL;
    return arena_str(arena, value);
}

ATF_TC_WITHOUT_HEAD(put_and_get);
ATF_TC_BODY(put_and_get, tc)
{
    struct index *index = open_dir("box", &keep, false);
    unsigned fields[3] = {index_field("imap.bodystructure"), index_field("hdr.Subject"), index_field("guid")};
    struct slice values[3];

    append(index, 10);
    for (uint32_t uid = 1; uid <= 10; uid++)
        index_cache_put(index, uid, fields[0], slice_from_str(arena_printf(arena, "structure %u", uid)));
    ATF_CHECK_STREQ(get(index, 7, "imap.bodystructure"), "structure 7"); /* before it is written */
    index_cache_flush(index);
    index_cache_put(index, 7, fields[1], SLICE("subject"));
    index_cache_put(index, 7, fields[0], SLICE("another")); /* is there already */
    index_cache_flush(index);
    ATF_CHECK_STREQ(get(index, 7, "IMAP.BodyStructure"), "structure 7");
    ATF_CHECK_EQ(index_cache_get_many(index, 7, fields, 3, arena, values), 2);
    ATF_CHECK(slice_equal_str(values[0], "structure 7"));
    ATF_CHECK(slice_equal_str(values[1], "subject"));
    ATF_CHECK(values[2].at == NULL);
    ATF_CHECK(get(index, 11, "imap.bodystructure") == NULL);
    done(&index);
    index = open_dir("box", &keep, true);
    arena = arena_new();
    ATF_CHECK_STREQ(get(index, 10, "imap.bodystructure"), "structure 10");
    ATF_CHECK_STREQ(get(index, 7, "hdr.SUBJECT"), "subject");
    done(&index);
}

static uint64_t bytes_read(void)
{
    FILE *io = fopen("/proc/self/io", "r");
    unsigned long long n = 0;

    ATF_REQUIRE(io != NULL && fscanf(io, "rchar: %llu", &n) == 1);
    fclose(io);
    return n;
}

/* What several kinds of questions have added stands in as many places of the file: each is read once, not once a message. */
ATF_TC_WITHOUT_HEAD(chains_are_read_once);
ATF_TC_BODY(chains_are_read_once, tc)
{
    enum { MESSAGES = 2000, PLACES = 8 };
    static const char *const names[PLACES] = {"hdr.a", "hdr.b", "hdr.c", "hdr.d", "hdr.e", "hdr.f", "hdr.g", "hdr.h"};
    struct index *index = open_dir("box", &(struct index_settings){.cache_fields = "hdr.a hdr.b hdr.c hdr.d hdr.e hdr.f hdr.g hdr.h"}, false);
    unsigned fields[PLACES];
    struct slice values[PLACES];
    struct stat st;
    uint64_t before;

    append(index, MESSAGES);
    for (int i = 0; i < PLACES; i++) {
        fields[i] = index_field(names[i]);
        for (uint32_t uid = 1; uid <= MESSAGES; uid++)
            index_cache_put(index, uid, fields[i], slice_from_str(arena_printf(arena, "%050u", uid)));
        index_cache_flush(index);
    }
    done(&index);
    index = open_dir("box", &keep, true);
    arena = arena_new();
    ATF_REQUIRE_EQ(stat("box/dovecot.index.cache", &st), 0);
    ATF_REQUIRE_EQ(index_cache_get_many(index, 1, fields, PLACES, arena, values), PLACES);
    before = bytes_read();
    for (uint32_t uid = 2; uid <= MESSAGES; uid++)
        ATF_REQUIRE_EQ(index_cache_get_many(index, uid, fields, PLACES, arena, values), PLACES);
    ATF_CHECK(bytes_read() - before < 2 * (uint64_t)st.st_size);
    done(&index);
}

/* A message whose values lie in more places than there are windows: what is borrowed stays all the same. */
ATF_TC_WITHOUT_HEAD(borrowed_stays);
ATF_TC_BODY(borrowed_stays, tc)
{
    enum { PLACES = 40, SIZE = 20000 };
    struct index *index = open_dir("box", &keep, false);
    unsigned fields[PLACES];
    struct slice values[PLACES];
    unsigned char text[SIZE];

    append(index, 2);
    for (unsigned i = 0; i < PLACES; i++) {
        fields[i] = index_field(arena_printf(arena, "hdr.place%u", i));
        for (uint32_t uid = 1; uid <= 2; uid++) {
            memset(text, 'a' + (int)i % 26, sizeof(text));
            text[0] = (unsigned char)uid;
            text[1] = (unsigned char)i;
            index_cache_want(index, fields[i]);
            index_cache_put(index, uid, fields[i], slice_of(text, sizeof(text) - i));
        }
        index_cache_flush(index);
    }
    done(&index);
    index = open_dir("box", &keep, true);
    arena = arena_new();
    for (uint32_t uid = 1; uid <= 2; uid++) {
        ATF_REQUIRE_EQ(index_cache_borrow(index, uid, fields, 1, values), 1);
        for (int again = 0; again < 2; again++) {
            ATF_REQUIRE_EQ(index_cache_borrow(index, uid, fields, PLACES, values), PLACES);
            for (unsigned i = 0; i < PLACES; i++) {
                ATF_REQUIRE_EQ(values[i].size, SIZE - i);
                ATF_REQUIRE(values[i].at[0] == uid && values[i].at[1] == i);
                for (size_t k = 2; k < values[i].size; k++)
                    ATF_REQUIRE_EQ(values[i].at[k], 'a' + i % 26);
            }
        }
    }
    done(&index);
}

ATF_TC_WITHOUT_HEAD(bitmask_is_ored);
ATF_TC_BODY(bitmask_is_ored, tc)
{
    struct index *index = open_dir("box", &keep, false);
    struct slice value;

    append(index, 1);
    index_cache_put(index, 1, index_field("flags"), SLICE("\x10\0\0\0"));
    index_cache_flush(index);
    index_cache_put(index, 1, index_field("flags"), SLICE("\x21\0\0\0"));
    index_cache_flush(index);
    ATF_REQUIRE_EQ(index_cache_get(index, 1, index_field("flags"), arena, &value), INDEX_CACHE_FOUND);
    ATF_CHECK_EQ(bytes_le32(value.at), 0x31);
    index_cache_put(index, 1, index_field("size.virtual"), SLICE("\1\2\3")); /* not of its size: refused */
    ATF_CHECK(get(index, 1, "size.virtual") == NULL);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(appended_with_fields);
ATF_TC_BODY(appended_with_fields, tc)
{
    struct index *index = open_dir("box", &keep, false);
    struct index_batch *b;
    struct index_append *a;

    append(index, 1);
    b = batch_of(INDEX_EXTERNAL);
    a = index_batch_append(b, 0, 0);
    index_append_cache(b, a, index_field("imap.bodystructure"), SLICE("new"));
    index_append_cache(b, a, index_field("hdr.Subject"), SLICE(""));
    index_batch_append(b, 0, 0);
    ATF_CHECK_EQ(commit(index, b).last_uid, 3);
    ATF_CHECK_STREQ(get(index, 2, "imap.bodystructure"), "new");
    ATF_CHECK_STREQ(get(index, 2, "hdr.Subject"), ""); /* known to be absent */
    ATF_CHECK(get(index, 3, "imap.bodystructure") == NULL);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(decisions);
ATF_TC_BODY(decisions, tc)
{
    struct index *index = open_dir("box", &(struct index_settings){.cache_fields = "flags"}, false), *other;
    enum index_decision decision;
    unsigned field = index_field("imap.body");
    uint32_t used;

    append(index, 5);
    ATF_CHECK(!index_cache_wants(index, 3, field));
    ATF_CHECK(get(index, 3, "imap.body") == NULL); /* the first use */
    ATF_CHECK(index_cache_wants(index, 3, field));
    ATF_REQUIRE(index_cache_decision(index, field, &decision, &used));
    ATF_CHECK_EQ(decision, INDEX_CACHE_TEMP);
    get(index, 4, "imap.body");
    index_cache_decision(index, field, &decision, &used);
    ATF_CHECK_EQ(decision, INDEX_CACHE_TEMP);
    get(index, 2, "imap.body"); /* going back: not a look at what is new */
    index_cache_decision(index, field, &decision, &used);
    ATF_CHECK_EQ(decision, INDEX_CACHE_YES);
    get(index, 2, "imap.envelope"); /* forced to "no" by default */
    ATF_CHECK(!index_cache_wants(index, 2, index_field("imap.envelope")));
    index_cache_put(index, 2, field, SLICE("body"));
    done(&index);
    index = open_dir("box", NULL, false); /* the file remembers */
    arena = arena_new();
    ATF_REQUIRE(index_cache_decision(index, field, &decision, &used));
    ATF_CHECK_EQ(decision, INDEX_CACHE_YES);
    ATF_CHECK(used > 0);
    ATF_CHECK_STREQ(get(index, 2, "imap.body"), "body");
    other = open_dir("other", NULL, false);
    append(other, 1);
    ATF_CHECK(!index_cache_wants(other, 1, field));
    index_cache_inherit(other, index);
    ATF_CHECK(index_cache_wants(other, 1, field));
    ATF_CHECK(!index_cache_wants(other, 1, index_field("imap.envelope")));
    index_close(&other);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(purge);
ATF_TC_BODY(purge, tc)
{
    struct index *index = open_dir("box", &keep, false);
    uint32_t seq;
    struct stat before, after;

    append(index, 40);
    for (uint32_t uid = 1; uid <= 40; uid++) {
        index_cache_put(index, uid, index_field("imap.bodystructure"), slice_from_str(arena_printf(arena, "s%u", uid)));
        index_cache_flush(index);
        index_cache_put(index, uid, index_field("hdr.subject"), SLICE("x"));
        index_cache_flush(index);
    }
    for (uint32_t uid = 2; uid <= 40; uid += 2)
        expunge(index, uid);
    seq = index->cache->file_seq;
    stat("box/dovecot.index.cache", &before);
    ATF_REQUIRE_EQ(index_cache_purge(index, &err), STEP_DONE);
    stat("box/dovecot.index.cache", &after);
    ATF_CHECK(after.st_size < before.st_size);
    ATF_CHECK_STREQ(get(index, 39, "imap.bodystructure"), "s39");
    ATF_CHECK_STREQ(get(index, 39, "hdr.subject"), "x");
    ATF_CHECK(index->cache->file_seq > seq); /* never the same generation twice */
    ATF_CHECK_EQ(cache_reset_id(index), index->cache->file_seq);
    index_cache_put(index, 1, index_field("size.virtual"), SLICE("12345678"));
    index_cache_flush(index);
    ATF_CHECK_STREQ(get(index, 1, "size.virtual"), "12345678");
    ATF_CHECK_STREQ(get(index, 1, "imap.bodystructure"), "s1");
    done(&index);
}

/* Another process adds fields that this one has not read when it begins to write the file anew. */
ATF_TC_WITHOUT_HEAD(purge_with_fields_of_others);
ATF_TC_BODY(purge_with_fields_of_others, tc)
{
    struct index *index = open_dir("box", &keep, false);
    char name[32];
    int status;
    pid_t child;

    append(index, 2);
    index_cache_put(index, 1, index_field("imap.bodystructure"), SLICE("one"));
    index_cache_flush(index);
    for (int i = 1; i <= 6; i++) { /* known to both, so that it does not depend on the order of names */
        snprintf(name, sizeof(name), "hdr.late%d", i);
        (void)index_field(name);
    }
    child = fork();
    if (child == 0) {
        for (int i = 1; i <= 6; i++) {
            snprintf(name, sizeof(name), "hdr.late%d", i);
            (void)get(index, 2, name); /* asked for: from now on it is kept */
            index_cache_put(index, 2, index_field(name), slice_from_str(name));
        }
        index_cache_flush(index);
        _exit(get(index, 2, name) == NULL);
    }
    ATF_REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    ATF_REQUIRE_EQ(index_cache_purge(index, &err), STEP_DONE);
    ATF_CHECK_STREQ(get(index, 1, "imap.bodystructure"), "one");
    for (int i = 1; i <= 6; i++) {
        snprintf(name, sizeof(name), "hdr.late%d", i);
        ATF_REQUIRE(get(index, 2, name) != NULL);
        ATF_CHECK_STREQ(get(index, 2, name), name);
    }
    done(&index);
}

/* A file that was replaced by another of the same generation must never answer for the wrong message: a recreated
 * file gets a new id. */
ATF_TC_WITHOUT_HEAD(deleted_file);
ATF_TC_BODY(deleted_file, tc)
{
    struct index *index = open_dir("box", &keep, false);
    uint32_t seq;

    append(index, 2);
    index_cache_put(index, 1, index_field("imap.bodystructure"), SLICE("one"));
    index_cache_flush(index);
    seq = index->cache->file_seq;
    done(&index);
    unlink("box/dovecot.index.cache");
    index = open_dir("box", &keep, false);
    arena = arena_new();
    ATF_CHECK(get(index, 1, "imap.bodystructure") == NULL);
    index_cache_put(index, 2, index_field("imap.bodystructure"), SLICE("two"));
    index_cache_flush(index);
    ATF_CHECK_STREQ(get(index, 2, "imap.bodystructure"), "two");
    ATF_CHECK(get(index, 1, "imap.bodystructure") == NULL);
    ATF_CHECK(index->cache->file_seq > seq);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(names_are_capped);
ATF_TC_BODY(names_are_capped, tc)
{
    unsigned last = 0;

    ATF_CHECK_EQ(index_field("hdr.a"), index_field("HDR.A"));
    ATF_CHECK_EQ(index_field("hdr."), UINT_MAX);
    for (int i = 0; i < 10000; i++) {
        char name[32];

        snprintf(name, sizeof(name), "hdr.x%d", i);
        last = index_field(name);
    }
    ATF_CHECK_EQ(last, UINT_MAX); /* names come from clients */
    {
        struct index *index = open_dir("box", &keep, false);

        append(index, 1);
        index_cache_put(index, 1, last, SLICE("nobody knows whose"));
        index_cache_flush(index);
        ATF_CHECK(!index_cache_wants(index, 1, last));
        ATF_CHECK_EQ(index_cache_get_many(index, 1, &last, 1, arena, &(struct slice){0}), 0);
        done(&index);
    }
    ATF_CHECK_EQ(cache_field_count(), CACHE_FIELDS_MAX);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, put_and_get);
    ATF_TP_ADD_TC(tp, chains_are_read_once);
    ATF_TP_ADD_TC(tp, borrowed_stays);
    ATF_TP_ADD_TC(tp, bitmask_is_ored);
    ATF_TP_ADD_TC(tp, appended_with_fields);
    ATF_TP_ADD_TC(tp, decisions);
    ATF_TP_ADD_TC(tp, purge);
    ATF_TP_ADD_TC(tp, purge_with_fields_of_others);
    ATF_TP_ADD_TC(tp, deleted_file);
    ATF_TP_ADD_TC(tp, names_are_capped);
    return atf_no_error();
}
