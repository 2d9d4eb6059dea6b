/* Text codecs: escapes, base64, hex, UTF-8, modified UTF-7, words for times and sizes. */
#include "base/text.h"

#include <atf-c.h>
#include <stdlib.h>

static void check_escape(const char *plain, size_t size, const char *escaped)
{
    struct arena *arena = arena_new();
    struct slice in = slice_of(plain, size);
    struct buffer out = {0};

    text_tab_escape(&out, in);
    ATF_CHECK_STREQ(buffer_cstr(&out), escaped);
    ATF_CHECK_STREQ(text_tab_escaped(arena, in), escaped);
    ATF_CHECK(slice_equal(text_tab_unescape(arena, buffer_slice(&out)), in));
    buffer_free(&out);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(tab_escape);
ATF_TC_BODY(tab_escape, tc)
{
    check_escape("", 0, "");
    check_escape("plain", 5, "plain");
    check_escape("a\tb\nc\rd\001e\0f", 11, "a\001tb\001nc\001rd\0011e\0010f");
    check_escape("\t", 1, "\001t");
}

ATF_TC_WITHOUT_HEAD(tab_unescape_odd);
ATF_TC_BODY(tab_unescape_odd, tc)
{
    struct arena *arena = arena_new();

    ATF_CHECK(slice_equal_str(text_tab_unescape(arena, SLICE("a\001xb\001")), "axb"));
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(tab_fields);
ATF_TC_BODY(tab_fields, tc)
{
    struct arena *arena = arena_new();
    struct slice *f;

    ATF_REQUIRE_EQ(text_tab_fields(arena, SLICE("a\tb\001tc\t"), &f), 3);
    ATF_CHECK(slice_equal_str(f[0], "a"));
    ATF_CHECK(slice_equal_str(f[1], "b\tc"));
    ATF_CHECK_EQ(f[2].size, 0);
    ATF_REQUIRE_EQ(text_tab_fields(arena, SLICE_EMPTY, &f), 1);
    ATF_CHECK_EQ(f[0].size, 0);
    arena_free(arena);
}

static void check_quoted(const char *plain, const char *quoted)
{
    struct buffer out = {0};

    text_quoted(&out, slice_from_str(plain));
    ATF_CHECK_STREQ(buffer_cstr(&out), quoted);
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(quoted);
ATF_TC_BODY(quoted, tc)
{
    struct buffer out = {0};

    check_quoted("", "\"\"");
    check_quoted("plain text", "\"plain text\"");
    check_quoted("\"", "\"\\\"\"");
    check_quoted("a\\\\b\"c", "\"a\\\\\\\\b\\\"c\"");
    text_quoted(&out, SLICE_EMPTY);
    ATF_CHECK_STREQ(buffer_cstr(&out), "\"\"");
    buffer_free(&out);
}

static void check_base64(const char *plain, const char *coded)
{
    struct buffer out = {0};

    text_base64_encode(&out, slice_from_str(plain));
    ATF_CHECK_STREQ(buffer_cstr(&out), coded);
    buffer_reset(&out);
    ATF_REQUIRE_EQ(text_base64_decode(&out, slice_from_str(coded)), 0);
    ATF_CHECK_STREQ(buffer_cstr(&out), plain);
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(base64);
ATF_TC_BODY(base64, tc)
{
    static const char *const bad[] = {"Zg", "Zg=", "Zg==Zg==", "Z===", "====", "Zm9v\n", "Zm9*", "Zg==\n", "=Zg="};
    struct buffer out = {0};

    /* The vectors of RFC 4648 section 10. */
    check_base64("", "");
    check_base64("f", "Zg==");
    check_base64("fo", "Zm8=");
    check_base64("foo", "Zm9v");
    check_base64("foob", "Zm9vYg==");
    check_base64("fooba", "Zm9vYmE=");
    check_base64("foobar", "Zm9vYmFy");
    check_base64("\xfb\xff\xfe", "+//+");
    buffer_append_str(&out, "kept");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ATF_CHECK_EQ_MSG(text_base64_decode(&out, slice_from_str(bad[i])), -1, "%s", bad[i]);
        ATF_CHECK_STREQ(buffer_cstr(&out), "kept");
    }
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(hex);
ATF_TC_BODY(hex, tc)
{
    struct buffer out = {0};

    text_hex_encode(&out, slice_of("\0\x7f\xff", 3));
    ATF_CHECK_STREQ(buffer_cstr(&out), "007fff");
    buffer_reset(&out);
    ATF_REQUIRE_EQ(text_hex_decode(&out, SLICE("aAfF")), 0);
    ATF_CHECK(slice_equal(buffer_slice(&out), SLICE("\xaa\xff")));
    ATF_CHECK_EQ(text_hex_decode(&out, SLICE("abc")), -1);
    ATF_CHECK_EQ(text_hex_decode(&out, SLICE("ab0g")), -1);
    ATF_CHECK_EQ(out.size, 2);
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(utf8);
ATF_TC_BODY(utf8, tc)
{
    static const char *const bad[] = {"\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
                                      "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5",
                                      "\xc3",         "\xe2\x82"};
    static const uint32_t all[] = {0x24, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_MSG(!text_utf8_valid(slice_from_str(bad[i])), "case %zu", i);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct buffer out = {0};
        struct slice s;

        text_utf8_put(&out, all[i]);
        s = buffer_slice(&out);
        ATF_CHECK_EQ(text_utf8_next(&s), (int32_t)all[i]);
        ATF_CHECK_EQ(s.size, 0);
        buffer_free(&out);
    }
    struct slice s = SLICE("\xe2\x82X"); /* one byte of a broken sequence is consumed */
    ATF_CHECK_EQ(text_utf8_next(&s), -1);
    ATF_CHECK_EQ(s.size, 2);
}

static void check_mutf7(const char *utf8, const char *mutf7)
{
    struct buffer out = {0};

    ATF_REQUIRE_EQ_MSG(text_utf8_to_mutf7(&out, slice_from_str(utf8)), 0, "%s", utf8);
    ATF_CHECK_STREQ(buffer_cstr(&out), mutf7);
    buffer_reset(&out);
    ATF_REQUIRE_EQ_MSG(text_mutf7_to_utf8(&out, slice_from_str(mutf7)), 0, "%s", mutf7);
    ATF_CHECK_STREQ(buffer_cstr(&out), utf8);
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(mutf7);
ATF_TC_BODY(mutf7, tc)
{
    static const char *const bad[] = {
        "&",          /* no end */
        "&AOQ",       /* no end */
        "&AOQ-&AOQ-", /* two shifts where one would do */
        "&AGE-",      /* printable ASCII in a shift */
        "&ACY-",      /* an ampersand in a shift */
        "&AOR-",      /* padding that is not zero */
        "&AOQA-",     /* padding longer than needed */
        "&2Dw-",      /* half a surrogate pair */
        "&3D3YPA-",   /* the halves in the wrong order */
        "&AAA-",      /* NUL */
        "&AO.Q-",     /* a foreign letter */
        "\xc3\xa4",   /* eight bits */
        "a\tb",       /* control byte outside of a shift */
    };
    struct buffer out = {0};

    check_mutf7("", "");
    check_mutf7("INBOX", "INBOX");
    check_mutf7("a&b", "a&-b");
    check_mutf7("\xc3\xa4", "&AOQ-");
    check_mutf7("\xc3\xa4&", "&AOQ-&-");
    check_mutf7("~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
                "~peter/mail/&U,BTFw-/&ZeVnLIqe-"); /* the example of RFC 3501 section 5.1.3 */
    check_mutf7("\xf0\x9f\x98\x80", "&2D3eAA-");
    check_mutf7("tab\there", "tab&AAk-here");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_EQ_MSG(text_mutf7_to_utf8(&out, slice_from_str(bad[i])), -1, "%s", bad[i]);
    ATF_CHECK_EQ(text_utf8_to_mutf7(&out, SLICE("\xff")), -1);
    ATF_CHECK_EQ(out.size, 0);
    buffer_free(&out);
}

/* Whatever the decoder accepts, the encoder writes again: one name, one encoding. */
ATF_TC_WITHOUT_HEAD(mutf7_one_encoding);
ATF_TC_BODY(mutf7_one_encoding, tc)
{
    static const char letters[] = "&-AQOkeDw3a";
    char name[8];
    struct buffer utf8 = {0}, again = {0};
    unsigned accepted = 0;

    for (unsigned n = 0; n < 2000000; n++) {
        size_t size = 0;

        for (unsigned rest = n; rest > 0 && size < sizeof(name); rest /= sizeof(letters) - 1)
            name[size++] = letters[rest % (sizeof(letters) - 1)];
        buffer_reset(&utf8);
        if (text_mutf7_to_utf8(&utf8, slice_of(name, size)) < 0)
            continue;
        accepted++;
        buffer_reset(&again);
        ATF_REQUIRE_EQ(text_utf8_to_mutf7(&again, buffer_slice(&utf8)), 0);
        ATF_REQUIRE_MSG(slice_equal(buffer_slice(&again), slice_of(name, size)), "%.*s", (int)size, name);
    }
    ATF_CHECK(accepted > 1000);
    buffer_free(&utf8);
    buffer_free(&again);
}

ATF_TC_WITHOUT_HEAD(times);
ATF_TC_BODY(times, tc)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0", 0},        {"30 secs", 30000}, {"30s", 30000},       {"5 mins", 300000}, {"5m", 300000},
                {"5mi", 300000}, {"2h", 7200000},    {"2 HOURS", 7200000}, {"1 d", 86400000},  {"1w", 604800000},
                {"500ms", 500},  {"500 msecs", 500}, {"7 milli", 7},       {"007 sec", 7000}};
    static const char *const bad[] = {
        "", "5", "s", "-5s", "5\ts", "5 s ", "5 fortnights", "1.5s", "99999999999999999999s", "18446744073709551615w"};
    uint64_t ms;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ATF_REQUIRE_EQ_MSG(text_parse_msecs(slice_from_str(good[i].text), &ms), 0, "%s", good[i].text);
        ATF_CHECK_EQ_MSG(ms, good[i].ms, "%s", good[i].text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_EQ_MSG(text_parse_msecs(slice_from_str(bad[i]), &ms), -1, "%s", bad[i]);
}

ATF_TC_WITHOUT_HEAD(sizes);
ATF_TC_BODY(sizes, tc)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},        {"10", 10},       {"10B", 10},       {"64k", 65536},     {"64 KiB", 65536},
        {"64kb", 65536}, {"2M", 2u << 20}, {"1 G", 1u << 30}, {"1t", 1ull << 40}, {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {
        "", "k", "-1", "1p", "1bb", "1kib2", "1 k b", "18446744073709551616", "99999999999T"};
    uint64_t bytes;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ATF_REQUIRE_EQ_MSG(text_parse_size(slice_from_str(good[i].text), &bytes), 0, "%s", good[i].text);
        ATF_CHECK_EQ_MSG(bytes, good[i].bytes, "%s", good[i].text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_EQ_MSG(text_parse_size(slice_from_str(bad[i]), &bytes), -1, "%s", bad[i]);
}

ATF_TC_WITHOUT_HEAD(lower);
ATF_TC_BODY(lower, tc)
{
    struct arena *arena = arena_new();

    ATF_CHECK(slice_equal_str(text_lowered(arena, SLICE("A[Z]\xc4")), "a[z]\xc4"));
    arena_free(arena);
}

/* Each length, each place of the byte that ends the run, and texts that begin anywhere. */
ATF_TC_WITHOUT_HEAD(blocks);
ATF_TC_BODY(blocks, tc)
{
    static const unsigned char odd[] = {0, '\t', '\n', 0x1f, '=', 0x7f, 0x80, 0xc3, 0xff};
    unsigned char room[80];

    for (size_t begin = 0; begin < 3; begin++) {
        for (size_t size = 0; size < 70; size++) {
            for (size_t at = 0; at <= size; at++) {
                for (size_t k = 0; k < sizeof(odd); k++) {
                    struct slice text = slice_of(room + begin, size);
                    bool ascii = odd[k] < 0x80, plain = odd[k] >= ' ' && odd[k] != '=';

                    memset(room, 'x', sizeof(room));
                    if (at < size)
                        room[begin + at] = odd[k];
                    ATF_REQUIRE_EQ(text_ascii_length(text), ascii ? size : at);
                    ATF_REQUIRE_EQ(text_plain_length(text, '='), plain ? size : at);
                }
            }
        }
    }
    for (size_t size = 0; size < 70; size++) {
        for (size_t i = 0; i < sizeof(room); i++)
            room[i] = (unsigned char)(0x50 + i); /* letters and what stands around them, and beyond ASCII */
        text_upper_ascii(room + 1, size);
        for (size_t i = 0; i < sizeof(room); i++) {
            unsigned char was = (unsigned char)(0x50 + i);

            ATF_REQUIRE_EQ(room[i], i >= 1 && i <= size && was >= 'a' && was <= 'z' ? was - 0x20 : was);
        }
    }
}

static struct text_lines lines_by_bytes(struct slice s, bool cr, int stop)
{
    struct text_lines lines = {0};

    for (size_t i = 0; i < s.size; i++) {
        if (s.at[i] == '\n') {
            lines.size = i + 1;
            lines.count++;
            lines.bare += !cr;
            if (stop >= 0 && i + 1 < s.size && s.at[i + 1] == stop)
                break;
        }
        cr = s.at[i] == '\r';
    }
    return lines;
}

/* Lines of all lengths, with and without CR, lines that begin with the byte that stops, texts that begin anywhere. */
ATF_TC_WITHOUT_HEAD(lines);
ATF_TC_BODY(lines, tc)
{
    static const char some[] = "\n\r-axy\n\r\n-";
    static unsigned char room[9000];

    srand(1);
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)rand() % (round % 100 == 0 ? sizeof(room) : 100), begin = size > 3 ? (size_t)rand() % 3 : 0;
        int often = 1 + rand() % 40;
        struct slice s = slice_of(room + begin, size - begin);
        bool cr = rand() % 2 == 0;

        for (size_t i = 0; i < size; i++)
            room[i] = rand() % often == 0 ? (unsigned char)some[(size_t)rand() % (sizeof(some) - 1)] : 'x';
        for (int stop = -1; stop <= '-'; stop += '-' + 1) {
            struct text_lines got = text_lines(s, cr, stop), want = lines_by_bytes(s, cr, stop);

            ATF_REQUIRE_EQ(want.size, got.size);
            ATF_REQUIRE_EQ(want.count, got.count);
            ATF_REQUIRE_EQ(want.bare, got.bare);
        }
    }
    /* More lines than a lane can count. */
    memset(room, '\n', sizeof(room));
    ATF_CHECK_EQ(sizeof(room), text_lines(slice_of(room, sizeof(room)), false, -1).count);
    room[0] = 'x';
    ATF_CHECK_EQ(sizeof(room) - 1, text_lines(slice_of(room, sizeof(room)), false, '-').bare);
}

static size_t crlf_by_bytes(unsigned char *out, struct slice in, bool cr)
{
    size_t made = 0;

    for (size_t i = 0; i < in.size; i++) {
        if (in.at[i] == '\n' && !cr)
            out[made++] = '\r';
        out[made++] = in.at[i];
        cr = in.at[i] == '\r';
    }
    return made;
}

/* It may stop before the end, but what it has done is right, nothing lies behind the room, and it leaves little of either. */
ATF_TC_WITHOUT_HEAD(put_crlf);
ATF_TC_BODY(put_crlf, tc)
{
    static const char some[] = "\n\rxy\n\r\n";
    unsigned char text[400], out[860], want[860];

    srand(2);
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)rand() % sizeof(text), room = (size_t)rand() % 850, used = 999, made;
        int often = 1 + rand() % 30;
        bool before = rand() % 2 == 0, cr = before;

        for (size_t i = 0; i < size; i++)
            text[i] = rand() % often == 0 ? (unsigned char)some[(size_t)rand() % (sizeof(some) - 1)] : 'x';
        memset(out, '#', sizeof(out));
        made = text_put_crlf(out, room, slice_of(text, size), &cr, &used);
        ATF_REQUIRE(used <= size && made <= room);
        ATF_REQUIRE_EQ(crlf_by_bytes(want, slice_of(text, used), before), made);
        ATF_REQUIRE(memcmp(out, want, made) == 0);
        ATF_REQUIRE_EQ(used > 0 ? text[used - 1] == '\r' : before, cr);
        ATF_REQUIRE(size - used < 128 || room - made < 192);
        for (size_t i = room; i < sizeof(out); i++)
            ATF_REQUIRE_EQ('#', out[i]);
    }
}

/* Likewise the other way. */
ATF_TC_WITHOUT_HEAD(put_lf);
ATF_TC_BODY(put_lf, tc)
{
    static const char some[] = "\n\r\r\n\r\n\r\n";
    unsigned char text[400], out[460], want[460];

    srand(4);
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)rand() % sizeof(text), room = (size_t)rand() % 450, used = 999, made, n = 0;
        int often = 1 + rand() % 30;

        for (size_t i = 0; i < size; i++)
            text[i] = rand() % often == 0 ? (unsigned char)some[(size_t)rand() % (sizeof(some) - 1)] : 'x';
        memset(out, '#', sizeof(out));
        made = text_put_lf(out, room, slice_of(text, size), &used);
        ATF_REQUIRE(used <= size && made <= room);
        for (size_t i = 0; i < used; i++)
            if (text[i] != '\r' || i + 1 == size || text[i + 1] != '\n')
                want[n++] = text[i];
        ATF_REQUIRE_EQ(n, made);
        ATF_REQUIRE(memcmp(out, want, made) == 0);
        ATF_REQUIRE(size - used < 128 || room - made < 128);
        for (size_t i = room; i < sizeof(out); i++)
            ATF_REQUIRE_EQ('#', out[i]);
    }
}

/* At each length, a byte of each kind at each place. */
ATF_TC_WITHOUT_HEAD(plain);
ATF_TC_BODY(plain, tc)
{
    static const unsigned char kinds[] = {' ', '!', '"', '#', '[', '\\', ']', '~', 0, '\t', '\r', '\n', 0x1f, 0x7f, 0x80, 0xa0, 0xff};
    unsigned char text[64];

    ATF_CHECK(!text_is_plain(SLICE_EMPTY, false));
    ATF_CHECK(!text_is_plain(SLICE(""), true));
    for (size_t size = 1; size <= 50; size++) {
        for (size_t at = 0; at < size; at++) {
            for (size_t k = 0; k < sizeof(kinds); k++) {
                const unsigned char c = kinds[k];
                const bool good = c >= ' ' && c < 0x7f && c != '"' && c != '\\';

                memset(text, 'x', sizeof(text));
                text[at] = c;
                text[size] = ' '; /* behind it: not looked at */
                ATF_REQUIRE_EQ(good, text_is_plain(slice_of(text, size), false));
                ATF_REQUIRE_EQ(good && (c != ' ' || (at > 0 && at < size - 1)), text_is_plain(slice_of(text, size), true));
                if (c == ' ' && at > 0 && at + 2 < size) {
                    text[at + 1] = ' ';
                    ATF_REQUIRE(text_is_plain(slice_of(text, size), false));
                    ATF_REQUIRE(!text_is_plain(slice_of(text, size), true));
                }
            }
        }
    }
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, tab_escape);
    ATF_TP_ADD_TC(tp, tab_unescape_odd);
    ATF_TP_ADD_TC(tp, tab_fields);
    ATF_TP_ADD_TC(tp, quoted);
    ATF_TP_ADD_TC(tp, base64);
    ATF_TP_ADD_TC(tp, hex);
    ATF_TP_ADD_TC(tp, utf8);
    ATF_TP_ADD_TC(tp, mutf7);
    ATF_TP_ADD_TC(tp, mutf7_one_encoding);
    ATF_TP_ADD_TC(tp, times);
    ATF_TP_ADD_TC(tp, sizes);
    ATF_TP_ADD_TC(tp, lower);
    ATF_TP_ADD_TC(tp, blocks);
    ATF_TP_ADD_TC(tp, lines);
    ATF_TP_ADD_TC(tp, put_crlf);
    ATF_TP_ADD_TC(tp, put_lf);
    ATF_TP_ADD_TC(tp, plain);
    return atf_no_error();
}
