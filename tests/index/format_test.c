/* format_test.c - log records: sizes, boundaries, checks, modseq, tail (index-format 3, 5, 7.5, 16.2). */
#include "lib.h"

static void put_record(struct buffer *out, uint32_t type, const void *body, uint32_t size)
{
    unsigned char head[8];

    format_offset_put(head, size + 8);
    bytes_put_le32(head + 4, type);
    buffer_append(out, head, sizeof(head));
    buffer_append(out, body, size);
}

ATF_TC_WITHOUT_HEAD(offsets);
ATF_TC_BODY(offsets, tc)
{
    static const struct {
        uint32_t n;
        unsigned char bytes[4];
    } known[] = {{12, {0x80, 0x80, 0x80, 0x83}}, {20, {0x80, 0x80, 0x80, 0x85}}, {512, {0x80, 0x80, 0x81, 0x80}},
                 {580, {0x80, 0x80, 0x81, 0x91}}};
    unsigned char b[4];

    for (size_t i = 0; i < 4; i++) {
        format_offset_put(b, known[i].n);
        ATF_CHECK(memcmp(b, known[i].bytes, 4) == 0);
    }
    for (uint32_t n = 4; n < 1u << 30; n = n * 3 & ~3u) {
        format_offset_put(b, n);
        ATF_CHECK_EQ(format_offset_get(b), n);
        if (n > 1u << 28)
            break;
    }
    b[2] &= 0x7f; /* one high bit missing: not written */
    ATF_CHECK_EQ(format_offset_get(b), 0);
}

ATF_TC_WITHOUT_HEAD(walk_stops_at_the_head);
ATF_TC_BODY(walk_stops_at_the_head, tc)
{
    struct buffer log = {0};
    unsigned char boundary[4], append[8] = {1}, flags[12] = {1, 0, 0, 0, 1, 0, 0, 0, 8};

    bytes_put_le32(boundary, 12 + 16 + 20);
    put_record(&log, LOG_APPEND | LOG_EXTERNAL, append, 8);
    put_record(&log, LOG_BOUNDARY | LOG_EXTERNAL, boundary, 4);
    put_record(&log, LOG_APPEND | LOG_EXTERNAL, append, 8);
    put_record(&log, LOG_FLAGS, flags, 12);
    for (size_t cut = 0; cut <= log.size; cut++) {
        struct log_walk walk = {.bytes = slice_head(buffer_slice(&log), cut), .base = 40};
        struct log_record r;
        enum log_scan scan;
        unsigned n = 0;

        while ((scan = format_log_next(&walk, &r)) == LOG_SCAN_RECORD)
            n++;
        ATF_REQUIRE_EQ(scan, LOG_SCAN_END);
        /* the transaction is there as a whole or not at all */
        ATF_REQUIRE_EQ_MSG(n, cut < 16 ? 0 : cut < log.size ? 1 : 4, "cut at %zu: %u records", cut, n);
        ATF_REQUIRE_EQ(walk.at, n == 0 ? 0 : n == 1 ? 16 : log.size);
    }
    buffer_free(&log);
}

ATF_TC_WITHOUT_HEAD(damage_is_no_unfinished_write);
ATF_TC_BODY(damage_is_no_unfinished_write, tc)
{
    struct buffer log = {0};
    unsigned char boundary[4], append[8] = {1}, flags[12] = {1, 0, 0, 0, 1, 0, 0, 0, 8};
    struct log_walk walk;
    struct log_record r;

    bytes_put_le32(boundary, 12 + 16 + 20);
    put_record(&log, LOG_BOUNDARY | LOG_EXTERNAL, boundary, 4);
    put_record(&log, LOG_APPEND | LOG_EXTERNAL, append, 8);
    put_record(&log, LOG_FLAGS, flags, 12);
    put_record(&log, LOG_FLAGS, flags, 12);
    put_record(&log, LOG_FLAGS, flags, 12);
    log.at[12 + 2] ^= 1; /* the size of the append inside the transaction */
    walk = (struct log_walk){.bytes = buffer_slice(&log)};
    ATF_CHECK_EQ(format_log_next(&walk, &r), LOG_SCAN_BROKEN);
    ATF_CHECK_EQ(walk.at, 0); /* nothing of it has been shown */
    log.at[12 + 2] ^= 1;
    ATF_CHECK(!format_log_goes_on(slice_head(buffer_slice(&log), log.size - 44)));
    log.at[2] ^= 1; /* the boundary's own size: beyond the end, but two records follow */
    walk = (struct log_walk){.bytes = buffer_slice(&log)};
    ATF_CHECK_EQ(format_log_next(&walk, &r), LOG_SCAN_END);
    ATF_CHECK(format_log_goes_on(buffer_slice(&log)));
    ATF_CHECK(!format_log_goes_on(slice_head(buffer_slice(&log), log.size - 4)));
    buffer_free(&log);
}

static void check_broken(uint32_t type, const void *body, uint32_t size, const char *why)
{
    struct buffer log = {0};
    struct log_walk walk;
    struct log_record r;

    put_record(&log, type, body, size);
    walk = (struct log_walk){.bytes = buffer_slice(&log)};
    ATF_CHECK_EQ_MSG(format_log_next(&walk, &r), LOG_SCAN_BROKEN, "%s", why);
    ATF_CHECK_MSG(strncmp(walk.why, why, strlen(why)) == 0, "%s instead of %s", walk.why, why);
    buffer_free(&log);
}

ATF_TC_WITHOUT_HEAD(broken_records);
ATF_TC_BODY(broken_records, tc)
{
    unsigned char two[16] = {5, 0, 0, 0, 6, 0, 0, 0, 6, 0, 0, 0, 7}, zero[20] = {0};
    unsigned char keyword[12] = {0, 0, 200, 0, 'x'}, intro[20] = {0}, attribute[8] = "*pname";

    check_broken(LOG_APPEND, NULL, 0, "Empty record contents (type=0x2)");
    check_broken(LOG_APPEND, zero, 12, "Invalid append record size");
    check_broken(0x1 | LOG_EXTERNAL, zero, 8, "expunge record missing protection mask");
    check_broken(0x2000, zero, 20, "expunge guid record missing protection mask");
    check_broken(LOG_EXPUNGE_GUID, zero, 20, "Expunge guid record with uid=0");
    check_broken(LOG_EXPUNGE_GUID, zero, 16, "Invalid expunge guid record size");
    check_broken(LOG_KEYWORD_RESET, two, 16, "Non-sorted UID ranges");
    check_broken(LOG_KEYWORD_RESET, zero, 8, "Invalid UID range (0 .. 0");
    check_broken(LOG_FLAGS, two, 16, "Invalid record size (type=0x4)");
    check_broken(LOG_KEYWORD, zero, 12, "Trying to use empty keyword");
    check_broken(LOG_KEYWORD, keyword, 12, "Invalid keyword update record size");
    intro[18] = 9;
    check_broken(LOG_EXT_INTRO, intro, 20, "ext intro: name_size too large");
    check_broken(LOG_ATTRIBUTE, attribute, 8, "attribute update: Invalid prefix 0x2a");
    attribute[0] = '+';
    attribute[1] = 'x';
    check_broken(LOG_ATTRIBUTE, attribute, 8, "attribute update: Invalid type");
}

static uint64_t modseq_after(uint32_t type, bool external, const void *body, uint32_t size, uint64_t modseq)
{
    struct log_record r = {.type = type, .external = external, .size = size + 8, .body = slice_of(body, size)};

    return format_modseq_after(&r, modseq, LOG_MINOR);
}

ATF_TC_WITHOUT_HEAD(modseq);
ATF_TC_BODY(modseq, tc)
{
    unsigned char flags[12] = {1, 0, 0, 0, 9, 0, 0, 0, 8}, guid[20] = {1}, raise[12] = {0, 0, 0, 0, 7, 0, 0, 0, 1};

    ATF_CHECK_EQ(modseq_after(LOG_APPEND, true, flags, 8, 5), 6);
    ATF_CHECK_EQ(modseq_after(LOG_FLAGS, false, flags, 12, 5), 6);
    flags[8] = INDEX_DIRTY;
    ATF_CHECK_EQ(modseq_after(LOG_FLAGS, false, flags, 12, 5), 5);
    flags[10] = 1;
    ATF_CHECK_EQ(modseq_after(LOG_FLAGS, false, flags, 12, 5), 6);
    ATF_CHECK_EQ(modseq_after(LOG_EXPUNGE_GUID, false, guid, 20, 5), 5);
    ATF_CHECK_EQ(modseq_after(LOG_EXPUNGE_GUID, true, guid, 20, 5), 6);
    ATF_CHECK_EQ(modseq_after(LOG_MODSEQ, true, raise, 12, 5), 0x100000007u);
    ATF_CHECK_EQ(modseq_after(LOG_MODSEQ, true, raise, 12, 0x200000000u), 0x200000000u);
    ATF_CHECK_EQ(modseq_after(LOG_HEADER, true, raise, 12, 5), 5);
    ATF_CHECK_EQ(modseq_after(LOG_APPEND, true, flags, 8, 0), 0);
}

/* The walk of index-format 16.2, in the parts that matter for the tail. */
ATF_TC_WITHOUT_HEAD(tail);
ATF_TC_BODY(tail, tc)
{
    unsigned char update[8] = {BASE_AT_LOG_TAIL, 0, 4, 0};
    struct log_record r = {.offset = 608, .size = 16, .type = LOG_HEADER, .external = true,
                           .body = slice_of(update, 8)};
    uint64_t last = 0, now = 0;
    uint32_t bad;

    bytes_put_le32(update + 4, 624);
    ATF_CHECK(format_tail_after(&r, &last, &now, &bad));
    ATF_CHECK_EQ(now, 624);
    r = (struct log_record){.offset = 624, .size = 12, .type = LOG_BOUNDARY, .external = true};
    ATF_CHECK(format_tail_after(&r, &last, &now, &bad));
    ATF_CHECK_EQ(now, 636); /* external records right behind it are skipped */
    r = (struct log_record){.offset = 636, .size = 28, .type = LOG_EXT_INTRO};
    ATF_CHECK(format_tail_after(&r, &last, &now, &bad));
    ATF_CHECK_EQ(now, 636);
    r = (struct log_record){.offset = 832, .size = 16, .type = LOG_HEADER, .external = true, .body = slice_of(update, 8)};
    bytes_put_le32(update + 4, 848);
    ATF_CHECK(format_tail_after(&r, &last, &now, &bad));
    ATF_CHECK_EQ(now, 848);
    bytes_put_le32(update + 4, 600); /* smaller: ignored */
    r.offset = 848;
    ATF_CHECK(format_tail_after(&r, &last, &now, &bad));
    ATF_CHECK_EQ(now, 848);
    bytes_put_le32(update + 4, 10000);
    ATF_CHECK(!format_tail_after(&r, &last, &now, &bad));
    ATF_CHECK_EQ(bad, 10000);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, offsets);
    ATF_TP_ADD_TC(tp, walk_stops_at_the_head);
    ATF_TP_ADD_TC(tp, damage_is_no_unfinished_write);
    ATF_TP_ADD_TC(tp, broken_records);
    ATF_TP_ADD_TC(tp, modseq);
    ATF_TP_ADD_TC(tp, tail);
    return atf_no_error();
}
