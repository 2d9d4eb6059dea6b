/* Commands, paths, parameters, the end of DATA. Texts are those of the recordings mail-forms, rcpt-forms, commands. */
#include "smtp/smtp.h"

#include <atf-c.h>
#include <stdlib.h>

ATF_TC_WITHOUT_HEAD(commands);
ATF_TC_BODY(commands, tc)
{
    struct smtp_command c;
    char endless[SMTP_LINE_MAX + 10];

    ATF_CHECK_EQ(smtp_command_parse(SLICE("MAIL FROM:<a@b>\r\nRCPT"), &c), SMTP_COMMAND);
    ATF_CHECK(slice_equal_str(c.name, "MAIL"));
    ATF_CHECK(slice_equal_str(c.params, "FROM:<a@b>"));
    ATF_CHECK_EQ(c.size, 17);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("NOOP\n"), &c), SMTP_COMMAND);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("NOOP"), &c), SMTP_INCOMPLETE);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("\r\n"), &c), SMTP_COMMAND);
    ATF_CHECK_EQ(c.name.size, 0);
    ATF_CHECK_EQ(smtp_command_parse(SLICE(" NOOP\r\n"), &c), SMTP_COMMAND);
    ATF_CHECK_EQ(c.name.size, 0);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("B1\r\n"), &c), SMTP_BAD_SYNTAX);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("NOOP  x\r\n"), &c), SMTP_BAD_SYNTAX);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("NO\001OP\r\n"), &c), SMTP_BAD_SYNTAX);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("NOOP a\rb\r\n"), &c), SMTP_BAD_SYNTAX);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("NOOP \xe4\xff\r\n"), &c), SMTP_BAD_SYNTAX);
    ATF_CHECK_EQ(smtp_command_parse(SLICE("NOOP\0\r\n"), &c), SMTP_BAD_SYNTAX);
    memset(endless, 'y', sizeof(endless));
    ATF_CHECK_EQ(smtp_command_parse(slice_of(endless, sizeof(endless)), &c), SMTP_OVERLONG);
}

static const unsigned sender = SMTP_PATH_NULL_ALLOWED | SMTP_PATH_BROKEN_ALLOWED;

ATF_TC_WITHOUT_HEAD(paths);
ATF_TC_BODY(paths, tc)
{
    static const struct {
        const char *in;
        bool is_sender;
        const char *error, *text; /* one of them */
    } cases[] = {
        {"", true, "Path is empty string", NULL},
        {" <a@b.test>", true, "Unexpected whitespace before path", NULL},
        {"a@b.test", true, "Missing '<' at beginning of path", NULL},
        {"<a@b.test", true, "Missing '>' at end of path", NULL},
        {"<a@b@c>", true, NULL, "a@b@c"},
        {"<@relay.test:a@b.test>", true, NULL, "a@b.test"},
        {"<>", true, NULL, ""},
        {"<a b@c.test>", true, "Invalid character in localpart", NULL},
        {"<\"a b\"@c.test>", true, NULL, "\"a b\"@c.test"},
        {"<local>", true, NULL, "local"},
        {"<j\xc3\xb6rg@b.test>", true, NULL, "j\xc3\xb6rg@b.test"},
        {"<a@[127.0.0.1]>", true, NULL, "a@[127.0.0.1]"},
        {"<a@b..test>", true, NULL, "a@b..test"},
        {"<>", false, "Null path not allowed", NULL},
        {"<@>", false, "Missing domain after '@' in source route", NULL},
        {"<\"\"@>", false, "Missing domain after '@'", NULL},
        {"<\"\">", false, NULL, "\"\""},
        {"<\"\"@x.test>", false, NULL, "\"\"@x.test"},
        {"<alice@>", false, "Missing domain after '@'", NULL},
        {"<a@b..c>", false, "Empty sub-domain", NULL},
        {"<\"alice\"@x.test>", false, NULL, "alice@x.test"},
        {"<with\\ space@x.test>", false, "Missing '>' at end of path", NULL},
        {"<\"sla/sh\"@x.test>", false, NULL, "sla/sh@x.test"},
        {"<..@x.test>", false, NULL, "\"..\"@x.test"},
        {"<j\xc3\xb6rg@x.test>", false, "Missing '>' at end of path", NULL},
        {"<a@b>x", false, "Invalid character in path", NULL},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct smtp_path path;
        struct slice rest;
        const char *error =
            smtp_path_parse(slice_from_str(cases[i].in), cases[i].is_sender ? sender : 0, a, &path, &rest);
        if (cases[i].error != NULL)
            ATF_CHECK_MSG(error != NULL && strcmp(error, cases[i].error) == 0, "%s: %s", cases[i].in, error);
        else
            ATF_CHECK_MSG(error == NULL && strcmp(smtp_path_text(a, &path), cases[i].text) == 0, "%s: %s %s",
                          cases[i].in, error, error == NULL ? smtp_path_text(a, &path) : "");
    }
    arena_free(a);
}

ATF_TC_WITHOUT_HEAD(parameters);
ATF_TC_BODY(parameters, tc)
{
    struct smtp_param list[SMTP_PARAMS_MAX];
    struct buffer out = {0};
    size_t n;

    ATF_CHECK(smtp_params_parse(SLICE(" BODY=8BITMIME FOO"), list, &n) == NULL);
    ATF_CHECK_EQ(n, 2);
    ATF_CHECK(list[0].has_value && slice_equal_str(list[0].value, "8BITMIME"));
    ATF_CHECK(!list[1].has_value);
    ATF_CHECK_STREQ(smtp_params_parse(SLICE("  BODY=x"), list, &n), "Parameter is empty");
    ATF_CHECK_STREQ(smtp_params_parse(SLICE(" X=a=b"), list, &n), "Unexpected character in parameter value");
    ATF_CHECK_EQ(smtp_xtext_decode(&out, SLICE("a+3Db+2B")), 0);
    ATF_CHECK(slice_equal_str(buffer_slice(&out), "a=b+"));
    ATF_CHECK_EQ(smtp_xtext_decode(&out, SLICE("a+3")), -1);
    ATF_CHECK_EQ(smtp_xtext_decode(&out, SLICE("a+3d")), -1);
    buffer_free(&out);
    ATF_CHECK(smtp_string_check(SLICE("alice")) == NULL);
    ATF_CHECK(smtp_string_check(SLICE("\"quoted arg\"")) == NULL);
    ATF_CHECK_STREQ(smtp_string_check(SLICE("with argument")), "Invalid character in string");
    ATF_CHECK_STREQ(smtp_string_check(SLICE("a@b")), "Invalid character in string");
    ATF_CHECK(smtp_hostname_valid(SLICE("client.test")));
    ATF_CHECK(smtp_hostname_valid(SLICE("[IPv6:::1]")));
    ATF_CHECK(!smtp_hostname_valid(SLICE("under_score.test")));
    ATF_CHECK(!smtp_hostname_valid(SLICE("a b")));
}

/* Whole, in every two pieces, and byte by byte: the same message. */
static void check_data(struct slice in, const char *want, size_t size, bool ends)
{
    for (size_t cut = 0; cut <= in.size; cut++) {
        struct smtp_data d = SMTP_DATA_INIT;
        struct buffer out = {0};
        bool end;
        size_t n = smtp_data_take(&d, slice_head(in, cut), &out, &end);
        if (!end && cut < in.size)
            n += smtp_data_take(&d, slice_from(in, cut), &out, &end);
        ATF_CHECK_EQ(end, ends);
        ATF_CHECK_MSG(slice_equal(buffer_slice(&out), slice_from_str(want)), "cut %zu: '%s'", cut, buffer_cstr(&out));
        if (ends)
            ATF_CHECK_EQ(n, size);
        buffer_free(&out);
    }
}

ATF_TC_WITHOUT_HEAD(data);
ATF_TC_BODY(data, tc)
{
    check_data(SLICE("a\r\n..b\r\n.\r\nQUIT"), "a\r\n.b\r\n", 11, true);
    check_data(SLICE(".\r\n"), "", 3, true);
    check_data(SLICE(".x\r\n.\r\n"), "x\r\n", 7, true);
    /* Nothing but CRLF.CRLF ends it. */
    check_data(SLICE("a\n.\nb\r\n.\r\n"), "a\n.\nb\r\n", 10, true);
    check_data(SLICE("a\n.\r\nb\r\n.\r\n"), "a\n.\r\nb\r\n", 11, true);
    check_data(SLICE("a\r\n.\nb\r\n.\r\n"), "a\r\n\nb\r\n", 11, true);
    check_data(SLICE("a\r.\rb\r\n.\r\n"), "a\r.\rb\r\n", 10, true);
    check_data(SLICE("a\r\n.\rb\r\n.\r\n"), "a\r\n\rb\r\n", 11, true);
    check_data(SLICE("a\r\r\n.\r\n"), "a\r\r\n", 7, true);
    check_data(SLICE("a\r\n."), "a\r\n", 0, false);
}

/* As RFC 5321 says it, over the whole text. -> where it ends, 0: it goes on. */
static size_t data_by_bytes(struct slice in, struct buffer *out)
{
    bool begin = true; /* of a line */

    for (size_t i = 0; i < in.size;) {
        struct slice rest = slice_from(in, i);

        if (begin && slice_starts(rest, SLICE(".\r\n")))
            return i + 3;
        i += begin && in.at[i] == '.';
        begin = false;
        if (i == in.size)
            return 0;
        if (slice_starts(slice_from(in, i), SLICE("\r\n"))) {
            buffer_append_str(out, "\r\n");
            i += 2;
            begin = true;
        } else {
            buffer_append_byte(out, in.at[i++]);
        }
    }
    return 0;
}

/* Lines of all lengths, in pieces of all lengths. */
ATF_TC_WITHOUT_HEAD(data_pieces);
ATF_TC_BODY(data_pieces, tc)
{
    static const char some[] = ".\r\n\n.\r\n";
    unsigned char text[400];

    srand(5);
    for (int round = 0; round < 20000; round++) {
        const size_t size = (size_t)rand() % sizeof(text), often = 1 + (size_t)rand() % 100;
        struct buffer want = {0}, out = {0};
        struct smtp_data d = SMTP_DATA_INIT;
        size_t at = 0, ends;
        bool end = false;

        for (size_t i = 0; i < size; i++)
            text[i] = (size_t)rand() % often == 0 ? (unsigned char)some[(size_t)rand() % (sizeof(some) - 1)] : 'x';
        for (size_t i = 0; i + 3 < size; i++)
            if ((size_t)rand() % (often * 4) == 0)
                memcpy(text + i, rand() % 4 == 0 ? "\r\n." : "x\r\n", 3);
        if (size > 0 && text[size - 1] == '\r')
            text[size - 1] = 'x'; /* the end of a text that goes on may wait for what follows */
        ends = data_by_bytes(slice_of(text, size), &want);
        while (at < size && !end) {
            const size_t piece = 1 + (size_t)rand() % (rand() % 2 == 0 ? 10 : 300);
            const size_t n = smtp_data_take(&d, slice_head(slice_of(text + at, size - at), piece), &out, &end);

            ATF_REQUIRE(n > 0);
            at += n;
        }
        ATF_REQUIRE_EQ(end, ends > 0);
        if (end)
            ATF_REQUIRE_EQ(at, ends);
        ATF_REQUIRE(slice_equal(buffer_slice(&want), buffer_slice(&out)));
        buffer_free(&want);
        buffer_free(&out);
    }
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, commands);
    ATF_TP_ADD_TC(tp, paths);
    ATF_TP_ADD_TC(tp, parameters);
    ATF_TP_ADD_TC(tp, data);
    ATF_TP_ADD_TC(tp, data_pieces);
    return atf_no_error();
}
