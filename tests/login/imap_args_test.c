/* The parser of IMAP commands before login. */
#include "login/imap_args.h"

#include <atf-c.h>

static enum imap_parsed parse(const char *text, struct imap_wait *wait, struct arena *a, struct imap_line *line)
{
    return imap_parse_line(slice_from_str(text), 100, wait, a, line);
}

ATF_TC_WITHOUT_HEAD(commands);
ATF_TC_BODY(commands, tc)
{
    struct arena *a = arena_new();
    struct imap_wait wait = {0, 0};
    struct imap_line line;
    struct slice s;

    ATF_REQUIRE_EQ(parse("a1 LOGIN \"us\\\"er\"   pass\r\nrest", &wait, a, &line), IMAP_LINE);
    ATF_CHECK(line.error == NULL);
    ATF_CHECK(slice_equal_str(line.tag, "a1"));
    ATF_CHECK(slice_equal_str(line.command, "LOGIN"));
    ATF_CHECK_EQ(line.count, 2);
    ATF_REQUIRE(imap_arg_string(&line, 0, &s));
    ATF_CHECK(slice_equal_str(s, "us\"er"));
    ATF_CHECK_EQ(line.size, strlen("a1 LOGIN \"us\\\"er\"   pass\r\n"));
    ATF_REQUIRE_EQ(parse("a NOOP\n", &wait, a, &line), IMAP_LINE);
    ATF_CHECK_EQ(line.size, 7);
    ATF_REQUIRE_EQ(parse("\r\n", &wait, a, &line), IMAP_LINE);
    ATF_CHECK_EQ(line.tag.size, 0);
    arena_free(a);
}

ATF_TC_WITHOUT_HEAD(literals);
ATF_TC_BODY(literals, tc)
{
    struct arena *a = arena_new();
    struct imap_wait wait = {0, 0};
    struct imap_line line;
    struct slice s;

    ATF_CHECK_EQ(parse("a LOGIN {3}\r\n", &wait, a, &line), IMAP_GO_AHEAD);
    ATF_CHECK_EQ(parse("a LOGIN {3}\r\n", &wait, a, &line), IMAP_INCOMPLETE); /* once only */
    ATF_CHECK_EQ(parse("a LOGIN {3}\r\nab", &wait, a, &line), IMAP_INCOMPLETE);
    ATF_CHECK_EQ(parse("a LOGIN {3}\r\nabc", &wait, a, &line), IMAP_INCOMPLETE);
    ATF_CHECK_EQ(parse("a LOGIN {3}\r\nabc {2}\r\n", &wait, a, &line), IMAP_GO_AHEAD);
    ATF_REQUIRE_EQ(parse("a LOGIN {3}\r\nabc {2}\r\nde\r\n", &wait, a, &line), IMAP_LINE);
    ATF_REQUIRE(imap_arg_string(&line, 1, &s));
    ATF_CHECK(slice_equal_str(s, "de"));
    ATF_REQUIRE_EQ(parse("a LOGIN {3+}\r\nabc x\r\n", &wait, a, &line), IMAP_LINE);
    ATF_CHECK_EQ(line.count, 2);
    ATF_CHECK_EQ(parse("a LOGIN {101}\r\n", &wait, a, &line), IMAP_LITERAL_TOO_BIG);
    ATF_CHECK_EQ(parse("a LOGIN {18446744073709551616}\r\n", &wait, a, &line), IMAP_LITERAL_TOO_BIG);
    ATF_CHECK_EQ(parse("a LOGIN {99999999999999999999999x}\r\n", &wait, a, &line), IMAP_LITERAL_TOO_BIG);
    wait = (struct imap_wait){0, 0};
    ATF_CHECK_EQ(parse("a LOGIN x {0}\r\n", &wait, a, &line), IMAP_GO_AHEAD);
    ATF_CHECK_EQ(parse("a LOGIN x {0}\r\n\r\n", &wait, a, &line), IMAP_LINE);
    ATF_CHECK_EQ(parse("a LOGIN x {+}\r\n\r\n", &wait, a, &line), IMAP_LINE);
    ATF_CHECK_EQ(line.error, NULL);
    arena_free(a);
}

ATF_TC_WITHOUT_HEAD(errors);
ATF_TC_BODY(errors, tc)
{
    static const struct {
        const char *in, *error;
    } cases[] = {
        {"a LOGIN \"x\r\n", "Missing '\"'"},
        {"a LOGIN x{y\r\n", "Invalid characters in atom"},
        {"a LOGIN x\xe4\r\n", "8bit data in atom"},
        {"a LOGIN {3+x}\r\n", "Expecting '}' after '+'"},
        {"a LOGIN {x}\r\n", "Invalid literal size"},
        {"a LOGIN {18446744073709551615x}\r\n", "Invalid literal size"},
        {"a ID ((\r\n", "Too many '('"},
        {"a ID )\r\n", "Unexpected ')'"},
    };
    struct arena *a = arena_new();
    struct imap_line line;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct imap_wait wait = {0, 0};
        ATF_REQUIRE_EQ(parse(cases[i].in, &wait, a, &line), IMAP_LINE);
        ATF_REQUIRE_MSG(line.error != NULL, "%s", cases[i].in);
        ATF_CHECK_STREQ(line.error, cases[i].error);
        ATF_CHECK_EQ(line.size, strlen(cases[i].in));
    }
    arena_free(a);
}

ATF_TC_WITHOUT_HEAD(many);
ATF_TC_BODY(many, tc)
{
    struct arena *a = arena_new();
    struct imap_wait wait = {0, 0};
    struct buffer in = {0};
    struct imap_line line;

    buffer_append_str(&in, "a ID");
    for (int i = 0; i < 1000; i++)
        buffer_append_str(&in, " x");
    buffer_append_str(&in, "\r\n");
    ATF_REQUIRE_EQ(parse(buffer_cstr(&in), &wait, a, &line), IMAP_LINE);
    ATF_CHECK_STREQ(line.error, "Too many arguments");
    ATF_CHECK_EQ(line.size, in.size);
    buffer_free(&in);
    arena_free(a);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, commands);
    ATF_TP_ADD_TC(tp, literals);
    ATF_TP_ADD_TC(tp, errors);
    ATF_TP_ADD_TC(tp, many);
    return atf_no_error();
}
