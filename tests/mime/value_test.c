/* src/mime by examples: values of header fields, decoding, searching, previews. */
#include "mime/mime_internal.h"
#include "tests/mime/mime_help.h"

/* ---- values ------------------------------------------------------------------------------------------------- */

ATF_TC_WITHOUT_HEAD(dates);
ATF_TC_BODY(dates, tc)
{
    static const struct {
        const char *text;
        long long unix_time;   /* -1: no date */
        int zone;
    } cases[] = {
        {"Tue, 24 Nov 2026 19:37:57 +0000", 1795549077, 0}, {"24 Nov 26 19:37 +0100", 1795545420, 60},
        {"24 Nov 99 00:00:00 GMT", 943401600, 0},           {"24 Nov 69 00:00:00 GMT", 3152476800, 0},
        {"24 Nov 2026 19:37:57 EST", 1795567077, -300},     {"24 Nov 2026 19:37:57 M", 1795505877, 720},
        {"24 Nov 2026 23:59:60 +0000", 1795564799, 0},      {"24 Nov 2026 19.37.57 (c) -2459", 1795639017, -1499},
        {"24 November 2026 19:37:57 bogus", 1795549077, 0}, {"31 Feb 2026 00:00:00 +0000", -1, 0},
        {"29 Feb 2023 00:00:00 +0000", -1, 0},              {"29 Feb 2024 00:00:00 +0000", 1709164800, 0},
        {"24 Nov 126 00:00:00 GMT", -1, 0},                 {"4 Nov 2026 0:0:0 +0000", -1, 0},
        {"Tue 24 Nov 2026 19:37:57 +0000", -1, 0},          {"Tuesday, 24 Nov 2026 19:37:57 +0000", -1, 0},
        {"24 Nov 2026 24:00:00 +0000", -1, 0},              {"", -1, 0},
        {"24 Nov 2026 19:37:", -1, 0},                      {"24 Nov 1900 00:00:00 +0000", -2180736000LL, 0},
    };
    struct buffer out = {0};
    int64_t t;
    int zone;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool good = mime_date_parse(slice_from_str(cases[i].text), &t, &zone);
        ATF_CHECK_MSG(good == (cases[i].unix_time != -1), "%s", cases[i].text);
        if (good)
            ATF_CHECK_MSG(t == cases[i].unix_time && zone == cases[i].zone, "%s: %lld %d", cases[i].text, (long long)t, zone);
    }
    /* There and back over four hundred years, a prime number of seconds apart. */
    for (int64_t when = -6000000000LL; when < 7000000000LL; when += 7654321) {
        buffer_reset(&out);
        mime_date_imap_put(&out, when, 90);
        int64_t again = 0;
        ATF_REQUIRE_MSG(mime_date_imap_parse(buffer_slice(&out), &again, &zone), "%s", buffer_cstr(&out));
        ATF_CHECK_EQ(again, when);
        ATF_CHECK_EQ(zone, 90);
        buffer_reset(&out);
        mime_date_mail_put(&out, when, -330);
        ATF_REQUIRE_MSG(mime_date_parse(buffer_slice(&out), &again, &zone), "%s", buffer_cstr(&out));
        ATF_CHECK_EQ(again, when);
        ATF_CHECK_EQ(zone, -330);
    }
    buffer_reset(&out);
    mime_date_imap_put(&out, 1641376800, 0);
    CHECK_SLICE(buffer_slice(&out), "05-Jan-2022 10:00:00 +0000");
    buffer_reset(&out);
    mime_date_mail_put(&out, 1795549077, 0);
    CHECK_SLICE(buffer_slice(&out), "Tue, 24 Nov 2026 19:37:57 +0000");
    ATF_CHECK(mime_date_imap_parse(SLICE(" 5-Jan-2022 10:00:00 +0000"), &t, &zone));
    ATF_CHECK(mime_date_imap_parse(SLICE("32-Jan-2022 10:00:00 +0000"), &t, &zone) && t == INT64_MAX);
    ATF_CHECK(mime_date_imap_parse(SLICE("31-Dec-2016 23:59:60 +0000"), &t, &zone) && t == 1483228799);
    ATF_CHECK(!mime_date_imap_parse(SLICE("05-Jan-2022 10:00:00"), &t, &zone));
    ATF_CHECK(!mime_date_imap_parse(SLICE("05-Jan-22 10:00:00 +0000"), &t, &zone));
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(words);
ATF_TC_BODY(words, tc)
{
    static const struct {
        const char *text, *decoded;
    } cases[] = {
        {"=?utf-8?q?a_b?=", "a b"}, {"=?utf-8?q?a?= \r\n =?utf-8?q?b?=", "ab"}, {"=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"},
        {"x=?utf-8?q?a?=y", "xay"}, {"=?iso-8859-1?q?=E4?=", "\xc3\xa4"}, {"=?iso-8859-1*de?q?=E4?=", "\xef\xbf\xbd"},
        {"=?koi8-r?b?8tXT?=", "\xd0\xa0\xd1\x83\xd1\x81"}, {"=?utf-8?x?a?=", "=?utf-8?x?a?="}, {"=?utf-8?q?a", "=?utf-8?q?a"},
        {"=?utf-8?q?a?b?=", "=?utf-8?q?a?b?="}, {"=?bogus?q?a?=", "a"}, {"=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "\xc3\xa4"},
        {"\xe4", "\xef\xbf\xbd"}, {"a\n b", "a b"}, {"=?utf-8?b?w6Q?=", "\xc3\xa4"}, {"=?utf-8?q?=FF?=", "\xef\xbf\xbd"},
        {"=?utf-8?q?a=00b?=", "a b"}, {"=?=?utf-8?q?a?=", "=?a"}, {"=?iso-2022-jp?b?GyRCJCIbKEI=?=", "\xe3\x81\x82"},
    };
    struct buffer out = {0};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buffer_reset(&out);
        mime_words_decode(&out, slice_from_str(cases[i].text));
        CHECK_SLICE(buffer_slice(&out), cases[i].decoded);
    }
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(subjects);
ATF_TC_BODY(subjects, tc)
{
    static const struct {
        const char *text, *base;
        bool reply;
    } cases[] = {
        {"Hello", "HELLO", false}, {"Re: Hello", "HELLO", true}, {"RE : [x] fwd: Hello (fwd) (FWD)", "HELLO", true},
        {"[list] Hello", "HELLO", false}, {"[list] Re: Hello", "HELLO", true}, {"Re[2]: Hello", "HELLO", true},
        {"[fwd: Hello]", "HELLO", true}, {"[Fwd: [x] Re: Hello]", "HELLO", true}, {"[blob]", "[BLOB]", false},
        {"Re:", "", true}, {"", "", false}, {"  a \t b ", "A B", false}, {"=?utf-8?q?re=3A_=C3=A4?=", "A\xcc\x88", true},
        {"reply: x", "REPLY: X", false}, {"[a][b] x", "X", false}, {"[a [b] x", "[A [B] X", false},
    };
    struct arena *arena = arena_new();

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool reply;
        CHECK_SLICE(mime_base_subject(arena, slice_from_str(cases[i].text), &reply), cases[i].base);
        ATF_CHECK_MSG(reply == cases[i].reply, "%s", cases[i].text);
    }
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(message_ids);
ATF_TC_BODY(message_ids, tc)
{
    struct arena *arena = arena_new();
    struct slice rest = SLICE("junk <a@b> (c) <d.e @ f.g>\n <a b@c@d> <<x@y>> <bad> <\"q\"@h> <i@j"), id;

    ATF_REQUIRE(mime_message_id_next(arena, &rest, &id));
    CHECK_SLICE(id, "a@b");
    ATF_REQUIRE(mime_message_id_next(arena, &rest, &id));
    CHECK_SLICE(id, "d.e@f.g");
    ATF_REQUIRE(mime_message_id_next(arena, &rest, &id));
    CHECK_SLICE(id, "ab@c@d"); /* nothing to parse in it: all that stands there */
    ATF_REQUIRE(mime_message_id_next(arena, &rest, &id));
    CHECK_SLICE(id, "<x@y");
    ATF_REQUIRE(mime_message_id_next(arena, &rest, &id));
    CHECK_SLICE(id, "q@h");
    ATF_CHECK(!mime_message_id_next(arena, &rest, &id));
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(addresses);
ATF_TC_BODY(addresses, tc)
{
    struct arena *arena = arena_new();
    struct buffer out = {0};
    struct slice first;

    mime_address_write(&out, mime_address_parse(arena, SLICE("a@b, Name <c@d>, \"Q, S\" <\"e f\"@g>, grp: h@i, j@k;, x (Com)"), NULL, true));
    CHECK_SLICE(buffer_slice(&out),
                "<a@b>, Name <c@d>, \"Q, S\" <\"e f\"@g>, grp: <h@i>, <j@k>;, Com <x@MISSING_DOMAIN>");
    ATF_REQUIRE(mime_address_first(arena, SLICE("g: x <a@b>, c@d;"), &first));
    CHECK_SLICE(first, "a@b");
    ATF_CHECK(!mime_address_first(arena, SLICE("x"), &first));
    ATF_CHECK(!mime_address_first(arena, SLICE(""), &first));
    struct mime_address *a = mime_address_parse(arena, SLICE("x"), NULL, false);
    ATF_REQUIRE(a != NULL);
    ATF_CHECK(a->invalid);
    ATF_CHECK_EQ(a->domain.size, 0);
    buffer_free(&out);
    arena_free(arena);
}

static size_t plain_ones(const struct mime_address *a)
{
    size_t n = 0;

    for (; a != NULL; a = a->next)
        n += a->plain;
    return n;
}

/* The short way says what the long one says. -> how many addresses it took. */
static size_t short_as_long(struct arena *arena, struct slice list)
{
    struct mime_envelope a = {.to = mime_address_parse_how(arena, list, NULL, MIME_ADDRESS_FILL | MIME_ADDRESS_BORROW)};
    struct mime_envelope b = {.to = mime_address_parse_how(arena, list, NULL, MIME_ADDRESS_FILL | MIME_ADDRESS_NO_SHORT_WAY)};
    struct buffer quick = {0}, thorough = {0};

    ATF_REQUIRE_EQ(plain_ones(b.to), 0);
    mime_envelope_put(&quick, &a);
    mime_envelope_put(&thorough, &b);
    ATF_REQUIRE_MSG(slice_equal(buffer_slice(&quick), buffer_slice(&thorough)), "%.*s: %s, not %s", (int)list.size, list.at,
                    buffer_cstr(&quick), buffer_cstr(&thorough));
    buffer_reset(&quick);
    buffer_reset(&thorough);
    mime_address_write(&quick, mime_address_parse(arena, list, NULL, true));
    mime_address_write(&thorough, b.to);
    ATF_REQUIRE(slice_equal(buffer_slice(&quick), buffer_slice(&thorough)));
    buffer_free(&quick);
    buffer_free(&thorough);
    return plain_ones(a.to);
}

/* It is taken where it should be; and anything may be made of what addresses are made of. */
ATF_TC_WITHOUT_HEAD(short_way);
ATF_TC_BODY(short_way, tc)
{
    static const struct {
        const char *list;
        size_t plain;
    } cases[] = {
        {"a@b", 1}, {"<a@b>", 1}, {"Some One <a.b+c@d.example>", 1}, {"\"One, Some\" <a@b>", 1}, {"a@b, Some One <c@d> ,e@f", 3},
        {"J. R. One <a@b>, x@y", 2}, {"a@b,", 1}, {"a@b,,c@d", 2}, {"a@b (Com)", 0}, {"(Com) a@b", 1}, {"Some  One <a@b>", 0},
        {"\"\" <a@b>", 0}, {"\" x\" <a@b>", 0}, {"\"x \" <a@b>", 0}, {"\"a\\\"b\" <a@b>", 0}, {"\"a\" b <a@b>", 0}, {"a \"b\" <a@b>", 0},
        {".a@b", 0}, {"a.@b", 0}, {"a..b@c", 0}, {"a@.b", 0}, {"a@b.", 0}, {"a@b..c", 0}, {"a@[1.2.3.4]", 0}, {"\"a b\"@c", 0},
        {"<@r:a@b>", 0}, {"<a@b", 0}, {"Name <a@b> x", 0}, {"Name <a @b>", 0}, {"a@b c@d", 0}, {"a", 0}, {"a b", 0}, {"@b", 0}, {"a@", 0},
        {"g: a@b, c@d;", 0}, {"g:;, a@b", 1}, {"a@b; c@d", 0}, {"N\xc3\xa4me <a@b>", 0}, {"a\xc3\xa4@b", 0}, {"Name<a@b>", 1},
        {"=?utf-8?q?x?= <a@b>", 1}, {"Some\r\n One <a@b>", 0}, {"a@b,\r\n c@d", 2}, {"Name <>", 0}, {"< a@b >", 0}, {"a@b\t, c@d", 1},
        {".Name <a@b>", 0}, {"Na.me . x <a@b>", 1}, {"a@b , ", 1}, {"\"x", 0}, {"\"x\"", 0}, {"\"<\" <a@b>", 1}, {"Na\x7fme <a@b>", 0},
    };
    static const char some[] = "ab@ab,a<b> .\"(\\);:\t\n\xc3[";
    struct arena *arena = arena_new();
    unsigned char text[24];
    size_t taken = 0;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ATF_CHECK_EQ_MSG(cases[i].plain, short_as_long(arena, slice_from_str(cases[i].list)), "%s", cases[i].list);
    srand(3);
    for (int round = 0; round < 300000; round++) {
        const size_t size = (size_t)rand() % sizeof(text), few = 4 + (size_t)rand() % (sizeof(some) - 4);

        for (size_t i = 0; i < size; i++)
            text[i] = (unsigned char)some[(size_t)rand() % few];
        taken += short_as_long(arena, slice_of(text, size));
        arena_reset(arena);
    }
    ATF_CHECK(taken > 1000);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(params);
ATF_TC_BODY(params, tc)
{
    struct arena *arena = arena_new();
    struct slice type, subtype;
    struct mime_params params;

    ATF_REQUIRE(mime_content_type_parse(arena, SLICE("a/b; n*0*=utf-8''x%C3%A4; n*1=y; m=\"=?utf-8?q?=C3=A4?=\"; k*=iso-8859-1'de'%E4"),
                                        &type, &subtype, &params));
    CHECK_SLICE(mime_param_utf8(arena, &params, "N"), "x\xc3\xa4y");
    CHECK_SLICE(mime_param_utf8(arena, &params, "m"), "\xc3\xa4");
    CHECK_SLICE(mime_param_utf8(arena, &params, "k"), "\xc3\xa4");
    ATF_CHECK(mime_param_utf8(arena, &params, "none").at == NULL);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(unfold);
ATF_TC_BODY(unfold, tc)
{
    struct arena *arena = arena_new();
    CHECK_SLICE(mime_header_unfold(arena, SLICE("  a\r\n b\n\tc\r\n ")), "a b\tc");
    CHECK_SLICE(mime_header_unfold(arena, SLICE(" \r\n ")), "");
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(quoting);
ATF_TC_BODY(quoting, tc)
{
    struct buffer out = {0};

    mime_put_nstring(&out, SLICE_EMPTY);
    mime_put_nstring(&out, slice_of("", 0));
    mime_put_nstring(&out, SLICE("a\"b\\"));
    mime_put_nstring(&out, SLICE("\"\"\"\"\""));
    mime_put_nstring_nolf(&out, SLICE("a\r\n b\nc"));
    mime_put_humans(&out, SLICE("say \"hi\""));
    mime_put_humans(&out, SLICE("plain text"));
    mime_put_astring(&out, SLICE("INBOX"));
    mime_put_astring(&out, SLICE("nil"));
    mime_put_astring(&out, SLICE("a b"));
    CHECK_SLICE(buffer_slice(&out), "NIL\"\"\"a\\\"b\\\\\"{5}\r\n\"\"\"\"\"\"a b c\"{8}\r\nsay \"hi\"\"plain text\"INBOX\"nil\"\"a b\"");
    buffer_free(&out);
}

/* ---- decoding and searching ---------------------------------------------------------------------------------- */

static void check_decoder(enum mime_encoding encoding, const char *in, const char *want, bool broken)
{
    /* In one piece and in pieces of every size. */
    struct slice text = slice_from_str(in);
    for (size_t piece = 1; piece <= text.size + 1; piece++) {
        struct mime_decoder d;
        struct buffer out = {0};
        mime_decoder_init(&d, encoding);
        for (size_t at = 0; at < text.size; at += piece)
            mime_decoder_feed(&d, slice_head(slice_from(text, at), piece), &out);
        mime_decoder_finish(&d, &out);
        CHECK_SLICE(buffer_slice(&out), want);
        ATF_CHECK_EQ_MSG(d.broken, broken, "%s", in);
        buffer_free(&out);
    }
}

ATF_TC_WITHOUT_HEAD(decoders);
ATF_TC_BODY(decoders, tc)
{
    check_decoder(MIME_ENCODING_BASE64, "aGVs\r\nbG8=", "hello", false);
    check_decoder(MIME_ENCODING_BASE64, "aGVsbG8", "hello", true);
    check_decoder(MIME_ENCODING_BASE64, "aGVsbG9o", "helloh", false);
    check_decoder(MIME_ENCODING_BASE64, "aA==\n", "h", false);
    check_decoder(MIME_ENCODING_BASE64, "aGV!sbG8=", "he", true);
    check_decoder(MIME_ENCODING_BASE64, "aGVsbG8=aGVs", "hello", true);
    check_decoder(MIME_ENCODING_QP, "a=3Db=\r\n c =\nd \t\ne", "a=b c d\r\ne", false);
    check_decoder(MIME_ENCODING_QP, "a=GGb", "a=GGb", true);
    check_decoder(MIME_ENCODING_QP, "a= \nb=c3=a4", "ab\xc3\xa4", false);
    check_decoder(MIME_ENCODING_QP, "a  b  \r\nc", "a  b\r\nc", false);
    check_decoder(MIME_ENCODING_NONE, "a=20", "a=20", false);
    ATF_CHECK_EQ(mime_encoding_of(SLICE("Base64")), MIME_ENCODING_BASE64);
    ATF_CHECK_EQ(mime_encoding_of(SLICE("x-uuencode")), MIME_ENCODING_UNKNOWN);
    ATF_CHECK_EQ(mime_encoding_of(SLICE_EMPTY), MIME_ENCODING_NONE);
}

ATF_TC_WITHOUT_HEAD(charsets);
ATF_TC_BODY(charsets, tc)
{
    static const struct {
        const char *charset, *in, *want;
        bool good;
    } cases[] = {
        {NULL, "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", true},
        {"", "a\xc3\xa4" "b", "a\xef\xbf\xbd" "b", false},
        {"utf-8", "a\xff\xfe" "b\xc3", "a\xef\xbf\xbd" "b\xef\xbf\xbd", false},
        {"utf-8", "\xed\xa0\x80x\xc0\x80", "\xef\xbf\xbdx\xef\xbf\xbd", false},
        {"iso-8859-1", "\xe4\xf6", "\xc3\xa4\xc3\xb6", true},
        {"iso-2022-jp", "\x1b$B$\"\x1b(B", "\xe3\x81\x82", true},
        {"shift_jis", "\x82\xa0", "\xe3\x81\x82", true},
        {"utf-16be", "A\x04", "\xe4\x84\x84", true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice in = slice_from_str(cases[i].in);
        for (size_t piece = 1; piece <= in.size; piece++) {
            struct buffer out = {0};
            struct mime_charset *c = mime_charset_open(cases[i].charset == NULL ? SLICE_EMPTY : slice_from_str(cases[i].charset));
            ATF_REQUIRE(c != NULL);
            for (size_t at = 0; at < in.size; at += piece)
                mime_charset_feed(c, slice_head(slice_from(in, at), piece), &out);
            bool good = mime_charset_close(c, &out);
            CHECK_SLICE(buffer_slice(&out), cases[i].want);
            ATF_CHECK_EQ(good, cases[i].good);
            buffer_free(&out);
        }
    }
    mime_charset_aliases("utf-8=bogus");
    struct mime_charset *c = mime_charset_open_body(SLICE("other"));
    ATF_REQUIRE(c != NULL);
    mime_charset_close_body(c, &(struct buffer){0});
    mime_charset_aliases(NULL);
    ATF_CHECK(!mime_charset_known(SLICE("bogus")));
    /* As iconv reads names: some characters do not count, nor does what stands behind "//". */
    ATF_CHECK(mime_charset_known(SLICE("utf-16//TRANSLIT")));
    ATF_CHECK(mime_charset_known(SLICE("iso\\8859 -1")));
    ATF_CHECK(mime_charset_known(SLICE("koi8-r//")));
    ATF_CHECK(mime_charset_known(SLICE(" ")));
    ATF_CHECK(mime_charset_known(SLICE("koi8-r ,, "))); /* as iconv, which drops separators at the end first, then what it does not take notice of */
    ATF_CHECK(!mime_charset_known(SLICE("koi8-r,$")));
    ATF_CHECK(!mime_charset_known(SLICE("UTF-8,$")));
    ATF_CHECK(!mime_charset_known(SLICE("koi8-r/x")));
    ATF_CHECK(!mime_charset_known(SLICE("/koi8-r")));
    ATF_CHECK(!mime_charset_known(SLICE("../../x")));
}

static void check_fold(const char *in, const char *want)
{
    struct buffer out = {0};
    mime_normalise(&out, slice_from_str(in));
    CHECK_SLICE(buffer_slice(&out), want);
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(folding);
ATF_TC_BODY(folding, tc)
{
    check_fold("abcXYZ1", "ABCXYZ1");
    check_fold("\xc3\xa4pfel", "A\xcc\x88PFEL");
    check_fold("a\xcc\x88", "A\xcc\x88");
    check_fold("\xc3\x9f", "\xc3\x9f");
    check_fold("\xef\xbc\x81", "!");
    check_fold("\xff", "\xef\xbf\xbd");
}

static void search(struct slice mail, const char *const *texts, size_t count, bool headers, bool *found)
{
    struct arena *arena = arena_new();
    struct mime_source source = mime_source_slice(mail);
    struct mime_part *root = parse(arena, &source);
    struct mime_key keys[8];
    struct error e = {0};
    enum step step;

    for (size_t i = 0; i < count; i++) {
        keys[i] = mime_key_new(arena, slice_from_str(texts[i]));
        found[i] = false;
    }
    struct mime_search *s = mime_search_new(arena, &source, root, keys, found, count, headers);
    while ((step = mime_search_step(s, 1000, &e)) == STEP_MORE)
        ;
    ATF_CHECK_EQ(step, STEP_DONE);
    mime_search_free(s);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(searching);
ATF_TC_BODY(searching, tc)
{
    static const char *const keys[] = {"GR\xc3\x9cSSE", "gr\xc3\xbc\xc3\x9f" "e", "preamble", "inner", "side", "subject: INNER", "in\r\nside", ""};
    bool body[8], text[8];

    search(slice_from_str(multipart), keys, 8, false, body);
    search(slice_from_str(multipart), keys, 8, true, text);
    static const bool want_body[] = {false, true, false, false, true, false, true, true};
    static const bool want_text[] = {false, true, false, true, true, true, true, true};
    for (size_t i = 0; i < 8; i++) {
        ATF_CHECK_EQ_MSG(body[i], want_body[i], "%s", keys[i]);
        ATF_CHECK_EQ_MSG(text[i], want_text[i], "%s", keys[i]);
    }
}

/* Bodies are searched whose last Content-Type is one of text; they are decoded by the first one's charset; MIME-Version has no say. */
ATF_TC_WITHOUT_HEAD(search_two_types);
ATF_TC_BODY(search_two_types, tc)
{
    static const struct {
        const char *types;
        bool found;
    } cases[] = {
        {"Content-Type: image/png\n", false},
        {"Content-Type: text/plain\nContent-Type: image/png\n", false},
        {"Content-Type: image/png\nContent-Type: text/plain\n", true},
        {"Content-Type: image/png\nContent-Type: text\n", false},
        {"Content-Type: text/plain x\n", false},
        {"Content-Type: message/x\n", true},
        {"Content-Type: image/png; charset=utf-16\nContent-Type: text/plain; charset=utf-8\n", false},
        {"Content-Type: text/plain; charset=utf-8\nContent-Type: text/plain; charset=utf-16\n", true},
    };
    const char *const keys[] = {"needle"};

    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer mail = {0};
        bool found;

        buffer_printf(&mail, "%s%s\nneedle and thread\n", i % 2 == 0 ? "" : "MIME-Version: 1.0\n", cases[i / 2].types);
        search(buffer_slice(&mail), keys, 1, false, &found);
        ATF_CHECK_EQ_MSG(found, cases[i / 2].found, "%s", buffer_cstr(&mail));
        buffer_free(&mail);
    }
}

ATF_TC_WITHOUT_HEAD(search_across_chunks);
ATF_TC_BODY(search_across_chunks, tc)
{
    static const char *const key[] = {"needle in the hay"};
    struct buffer mail = {0};
    bool found;

    for (size_t at = 32768 - 20; at < 32768 + 20; at++) {
        buffer_reset(&mail);
        buffer_append_str(&mail, "\n");
        while (mail.size < at)
            buffer_append_byte(&mail, 'h');
        buffer_append_str(&mail, "Needle in the HAY");
        append_many(&mail, "h", 40000);
        search(buffer_slice(&mail), key, 1, false, &found);
        ATF_CHECK_MSG(found, "at %zu", at);
    }
    buffer_free(&mail);
}

ATF_TC_WITHOUT_HEAD(search_values);
ATF_TC_BODY(search_values, tc)
{
    static const char block[] = "From: \"Anna B\" <x@y>\nFrom: z@w (Com)\nSubject: a\n  b\tc\nX:\n\n";
    struct arena *arena = arena_new();
    struct mime_key empty = mime_key_new(arena, SLICE_EMPTY);
    static const struct {
        const char *name, *key;
        enum mime_match_kind kind;
        bool want;
    } cases[] = {
        {"from", "\"anna b\" <x@", MIME_MATCH_ADDRESSES, true}, {"from", "com <z@w>", MIME_MATCH_ADDRESSES, true},
        {"from", "(com)", MIME_MATCH_ADDRESSES, false}, {"from", "(com)", MIME_MATCH_VALUE, true},
        {"subject", "a b c", MIME_MATCH_SUBJECT, true}, {"subject", "a b c", MIME_MATCH_VALUE, false},
        {"subject", "a  b", MIME_MATCH_VALUE, true}, {"to", "a", MIME_MATCH_VALUE, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mime_key key = mime_key_new(arena, slice_from_str(cases[i].key));
        ATF_CHECK_EQ_MSG(mime_match_header(&key, slice_from_str(block), slice_from_str(cases[i].name), cases[i].kind),
                         cases[i].want, "%s %s", cases[i].name, cases[i].key);
    }
    ATF_CHECK(mime_match_header(&empty, slice_from_str(block), SLICE("x"), MIME_MATCH_VALUE));
    ATF_CHECK(!mime_match_header(&empty, slice_from_str(block), SLICE("y"), MIME_MATCH_VALUE));
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(previews);
ATF_TC_BODY(previews, tc)
{
    static const struct {
        const char *mail, *preview;
    } cases[] = {
        {"\na\n> q\nb", "a b"}, {"\n> q\n> r", ">q r"}, {"\n  \n", ""},
        {"Content-Type: text/html\n\n<p>Hello <b>World</b> &amp; all</p>", "Hello World & all"},
        {"Content-Type: text/html\n\n<style>x{}</style>a<script>if (a<b) c</script>d<!-- x -->e", "a de"},
        {"Content-Type: text/html\n\n<blockquote>q</blockquote>z &eacute;&#233;&#xe9;", "z \xc3\xa9\xc3\xa9\xc3\xa9"},
        {"Content-Type: image/gif\n\nx", ""}, {"Content-Type: text/html\n\n<a b=\"c>d", ""},   /* 2020-7957: crafted mail */
        {"Content-Type: text/html\n\n&", ""}, {"\n>", ""}, {"\n\xef\xbb\xbfx", "x"},
        {"\ncaf\xe9\n", "caf"}, {"\na\xfc" "bcde", "a"}, {"\na\xfc" "bcdef", "a\xef\xbf\xbd" "bcdef"}, {"\nhello world \xc3", "hello world"},
        {"\ncaf\xe9 au lait", "caf\xef\xbf\xbd au lait"}, {"Content-Type: text\n\nx", ""},
        {"MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/calendar\n\nc\n--b\n"
         "Content-Type: text/html\n\nh\n--b\nContent-Type: multipart/mixed; boundary=d\n\n--d\n\np\n--d--\n--b--\n", "h"},
        {"Content-Transfer-Encoding: base64\n\naGVsbG8=", "hello"}, {"Content-Transfer-Encoding: base64 x\n\naGVsbG8=", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct arena *arena = arena_new();
        struct mime_source source = mime_source_slice(slice_from_str(cases[i].mail));
        struct buffer out = {0};
        struct error e = {0};
        ATF_REQUIRE_EQ(mime_preview(arena, &source, parse(arena, &source), &out, &e), 0);
        CHECK_SLICE(buffer_slice(&out), cases[i].preview);
        buffer_free(&out);
        arena_free(arena);
    }
}

ATF_TC_WITHOUT_HEAD(plain_structure);
ATF_TC_BODY(plain_structure, tc)
{
    struct arena *arena = arena_new();
    static const char *const plain[] = {"\nx\n", "Content-Type: text/plain; charset=us-ascii\n\nx\ny",
                                        "MIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\n"};
    static const char *const not_plain[] = {"Content-Type: text/html\n\nx", "Content-Type: text/plain; charset=utf-8\n\nx",
                                            "MIME-Version: 1\nContent-ID: x\n\nx", "Content-Type: image/gif\n\nx"};

    for (size_t i = 0; i < 3; i++) {
        struct mime_source source = mime_source_slice(slice_from_str(plain[i]));
        struct mime_part *root = parse(arena, &source);
        struct buffer out = {0};
        ATF_CHECK(mime_structure_is_plain(root));
        mime_structure_put_plain(&out, root, true);
        ATF_CHECK(slice_equal(buffer_slice(&out), structure_of(arena, source.whole)));
        buffer_free(&out);
    }
    for (size_t i = 0; i < 4; i++) {
        struct mime_source source = mime_source_slice(slice_from_str(not_plain[i]));
        ATF_CHECK(!mime_structure_is_plain(parse(arena, &source)));
    }
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, dates);
    ATF_TP_ADD_TC(tp, words);
    ATF_TP_ADD_TC(tp, subjects);
    ATF_TP_ADD_TC(tp, message_ids);
    ATF_TP_ADD_TC(tp, addresses);
    ATF_TP_ADD_TC(tp, short_way);
    ATF_TP_ADD_TC(tp, params);
    ATF_TP_ADD_TC(tp, unfold);
    ATF_TP_ADD_TC(tp, quoting);
    ATF_TP_ADD_TC(tp, decoders);
    ATF_TP_ADD_TC(tp, charsets);
    ATF_TP_ADD_TC(tp, folding);
    ATF_TP_ADD_TC(tp, searching);
    ATF_TP_ADD_TC(tp, search_two_types);
    ATF_TP_ADD_TC(tp, search_across_chunks);
    ATF_TP_ADD_TC(tp, search_values);
    ATF_TP_ADD_TC(tp, previews);
    ATF_TP_ADD_TC(tp, plain_structure);

    return atf_no_error();
}
