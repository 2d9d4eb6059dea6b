/* The line parser: trees, problems and their texts, whole and byte by byte (imap 2, 3). */
#include <atf-c.h>

#include "imap/parser.h"

static void put_args(struct buffer *out, const struct imap_arg *a)
{
    static const char *const kinds[] = {"nil:", "", "q:", "l:", ""};

    for (bool first = true; a != NULL; a = a->next, first = false) {
        if (!first)
            buffer_append_byte(out, ' ');
        buffer_append_str(out, a->literal8 ? "l8:" : kinds[a->type]);
        if (a->type == IMAP_LIST) {
            buffer_append_byte(out, '(');
            put_args(out, a->children);
            buffer_append_byte(out, ')');
        } else {
            buffer_append_slice(out, a->text);
        }
    }
}

struct outcome {
    struct buffer text;   /* "+" for each "+ OK", then the tree or the problem */
    size_t used;
};

/* Offers `piece` bytes more at a time. */
static struct outcome parse(struct slice in, unsigned flags, unsigned want, size_t max, size_t piece)
{
    struct arena *arena = arena_new();
    struct imap_parser p;
    struct outcome o = {0};
    size_t have = piece < in.size ? piece : in.size, used;
    enum imap_parse got;

    imap_parser_init(&p, arena, max, flags, want);
    for (;;) {
        got = imap_parser_read(&p, slice_from(slice_head(in, have), o.used), &used);
        o.used += used;
        if (p.say_go_on)
            buffer_append_byte(&o.text, '+');
        p.say_go_on = false;
        if (got != IMAP_PARSE_MORE || have == in.size)
            break;
        have = have + piece < in.size ? have + piece : in.size;
    }
    if (got == IMAP_PARSE_DONE) {
        put_args(&o.text, p.args);
    } else if (got == IMAP_PARSE_MESSAGE) {
        put_args(&o.text, p.args);
        buffer_printf(&o.text, " message:%llu%s", (unsigned long long)p.literal_size, p.literal_plus ? "+" : "");
    } else {
        buffer_printf(&o.text, "%s%s", got == IMAP_PARSE_MORE ? "more" : got == IMAP_PARSE_BYE ? "bye " : "bad ",
                      got == IMAP_PARSE_MORE ? "" : p.problem);
    }
    arena_free(arena);
    return o;
}

static void check(const char *in, size_t size, unsigned flags, unsigned want, const char *expected, size_t used)
{
    for (size_t piece = 1; piece <= size; piece = piece < 4 ? piece + 1 : piece * 7) {
        struct outcome o = parse(slice_of(in, size), flags, want, 1000, piece);

        ATF_CHECK_STREQ_MSG(expected, buffer_cstr(&o.text), "%s in pieces of %zu: %s", in, piece, buffer_cstr(&o.text));
        ATF_CHECK_EQ_MSG(used, o.used, "%s in pieces of %zu: used %zu", in, piece, o.used);
        buffer_free(&o.text);
    }
}
#define CHECK(in, expected) check(in, sizeof(in) - 1, 0, 0, expected, sizeof(in) - 1)
#define CHECK_BAD(in, expected, used) check(in, sizeof(in) - 1, 0, 0, expected, used)

ATF_TC_WITHOUT_HEAD(trees);
ATF_TC_BODY(trees, tc)
{
    CHECK(" 1:* (UID FLAGS)\r\n", "1:* (UID FLAGS)");
    CHECK("\r\n", "");
    CHECK(" a  b\n", "a b");
    CHECK(" NIL nil\r\n", "nil:NIL nil:nil");
    CHECK(" \"a \\\"b\\\\\" x\r\n", "q:a \"b\\ x");
    CHECK(" ((a) () b)\r\n", "((a) () b)");
    CHECK(" BODY[HEADER.FIELDS (From \"To\")]<0.5>\r\n", "BODY[HEADER.FIELDS (From q:To) ]<0.5>");
    CHECK(" {3}\r\nabc {2+}\r\n\r\n x\r\n", "+l:abc l:\r\n x");
    CHECK(" (a {1}\nb)\n", "+(a l:b)");
    CHECK(" ~x\r\n", "~x");
    CHECK(" {0}\r\n\r\n", "+l:");
}

ATF_TC_WITHOUT_HEAD(problems);
ATF_TC_BODY(problems, tc)
{
    CHECK_BAD(" (1 FLAGS\r\n", "bad Missing ')'", 9);
    CHECK_BAD(" 1 FLAGS)\r\n", "bad Unexpected ')'", 8);
    CHECK_BAD(" 1 \"FLAGS\r\n", "bad Missing '\"'", 3);
    CHECK_BAD(" {x}\r\n", "bad Invalid literal size", 2);
    CHECK_BAD(" {3+x}\r\n", "bad Expecting '}' after '+'", 4);
    CHECK_BAD(" b{3}\r\n", "bad Invalid characters in atom", 1);
    CHECK_BAD(" \"b\0x\"\r\n", "bad NULs not allowed in strings", 1);
    CHECK_BAD(" b\303\244x\r\n", "bad 8bit data in atom", 1);
    CHECK_BAD(" {3}\rxx\r\n", "+bad Missing LF after literal size", 4);
    CHECK_BAD(" ~{3}\r\n", "bad literal8 not allowed here", 1);
    CHECK_BAD(" a\rb\r\n", "bad CR sent without LF", 2);
    CHECK_BAD(" {3}\r\na\0b x\r\n", "+bad NULs not allowed in strings", 9);
    CHECK_BAD(" {99999999999999999999}\r\n", "bye Literal size too large", 1);
    CHECK_BAD(" {00000000000000000000000000000000000003}\r\n", "bad Invalid literal size", 1);
    CHECK_BAD(" {1001}\r\n", "bye Literal size too large", 7);
    check(" {4097+}\r\n", 10, IMAP_PARSER_LITERAL_MINUS, 0, "bye [TOOBIG] Non-synchronizing literal size too large", 8);
}

ATF_TC_WITHOUT_HEAD(limits);
ATF_TC_BODY(limits, tc)
{
    struct buffer in = {0};
    struct outcome o;

    buffer_append_str(&in, " \"");
    for (int i = 0; i < 1100; i++)
        buffer_append_byte(&in, 'a');
    o = parse(buffer_slice(&in), 0, 0, 1000, 100);
    ATF_CHECK_STREQ("bad Too long argument", buffer_cstr(&o.text));
    buffer_free(&o.text);

    buffer_reset(&in);
    for (int i = 0; i < 60; i++)
        buffer_append_str(&in, "(");
    o = parse(buffer_slice(&in), 0, 0, 1000, 7);
    ATF_CHECK_STREQ("bad Too many '('", buffer_cstr(&o.text));
    buffer_free(&o.text);

    buffer_reset(&in);
    for (int i = 0; i < 600; i++)
        buffer_append_str(&in, " ab");
    o = parse(buffer_slice(&in), 0, 0, 1000, 64);
    ATF_CHECK_STREQ("bad IMAP command line too large", buffer_cstr(&o.text));
    buffer_free(&o.text);
    buffer_free(&in);
}

ATF_TC_WITHOUT_HEAD(few_arguments);
ATF_TC_BODY(few_arguments, tc)
{
    /* the rest of the line is not looked at */
    check(" box extra (\r\n", 14, 0, 1, "box", 4);
    check(" box\r\n", 6, 0, 2, "box", 6);
    check(" box (A B) {3}\r\n", 16, 0, 2, "box (A B)", 10);
    /* but a ')' belongs to the atom in front of it */
    check(" box x)\r\n", 9, 0, 2, "bad Unexpected ')'", 6);
    check(" box \"x\")\r\n", 11, 0, 2, "box q:x", 8);
    check(" box (x))\r\n", 11, 0, 2, "box (x)", 8);
}

ATF_TC_WITHOUT_HEAD(messages);
ATF_TC_BODY(messages, tc)
{
    check(" (\\Seen) \"date\" {5}\r\nabcde", 25, IMAP_PARSER_MESSAGE, 0, "(\\Seen) q:date message:5", 21);
    check(" {7000+}\r\nabcde", 15, IMAP_PARSER_MESSAGE, 0, " message:7000+", 10);
    check(" ~{5}\r\n", 7, IMAP_PARSER_MESSAGE | IMAP_PARSER_LITERAL8, 0, " message:5", 7);
    check("\r\n", 2, IMAP_PARSER_MESSAGE, 0, "", 2);
}

static void check_line(const char *in, const char *expected)
{
    struct imap_line line;
    struct buffer out = {0};
    size_t used;
    enum imap_parse got = imap_line_read(slice_from_str(in), 64 * 1024, &line, &used);

    if (got == IMAP_PARSE_MORE)
        buffer_append_str(&out, "more");
    else if (got == IMAP_PARSE_BAD)
        buffer_printf(&out, "%.*s: %s", (int)line.tag.size, (const char *)line.tag.at, line.problem);
    else
        buffer_printf(&out, "%.*s|%s%.*s|%s", (int)line.tag.size, (const char *)line.tag.at, line.uid ? "UID " : "",
                      (int)line.name.size, (const char *)line.name.at, in + used);
    ATF_CHECK_STREQ(expected, buffer_cstr(&out));
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(lines);
ATF_TC_BODY(lines, tc)
{
    check_line("a1 NOOP\r\n", "a1|NOOP|\r\n");
    check_line("a1 uid fetch 1 UID\r\n", "a1|UID fetch| 1 UID\r\n");
    check_line("a1 UID UID x\r\n", "a1|UID UID| x\r\n");
    check_line("a1", "more");
    check_line("a1 NO", "more");
    check_line("a1 UID ", "more");
    check_line("\r\n", ": Error in IMAP tag: Invalid tag");
    check_line("+a NOOP\r\n", ": Error in IMAP tag: Invalid tag");
    check_line("a*5 NOOP\r\n", ": Error in IMAP tag: Invalid tag");
    check_line("a2\r\n", "a2: Error in IMAP command: Invalid command name");
    check_line("a3 \r\n", "a3: Error in IMAP command: Invalid command name");
    check_line("a  NOOP\r\n", "a: Error in IMAP command: Invalid command name");
    check_line("a UID\r\n", "a: Error in IMAP command: Invalid command name");
    check_line("a UID  FETCH\r\n", "a: Error in IMAP command: Invalid command name");
    check_line("a FE%TCH 1\r\n", "a: Error in IMAP command: Invalid command name");
}

static void check_skip(const char *in, bool found, size_t used_wanted, uint64_t literal_wanted)
{
    uint64_t literal;
    size_t used;

    ATF_CHECK_EQ_MSG(found, imap_skip_line(slice_from_str(in), &used, &literal), "%s", in);
    ATF_CHECK_EQ_MSG(used_wanted, used, "%s: %zu", in, used);
    ATF_CHECK_EQ_MSG(literal_wanted, literal, "%s: %llu", in, (unsigned long long)literal);
}

/* What follows a line that was refused is known from its end (RFC 7888 section 4). */
ATF_TC_WITHOUT_HEAD(skipped);
ATF_TC_BODY(skipped, tc)
{
    char many[200];

    check_skip(" x y\r\nb", true, 6, 0);
    check_skip(" {12+}\r\nb", true, 8, 12);
    check_skip(" ~{12+}\nb", true, 8, 12);
    check_skip("{0+}\r\n", true, 6, 0);
    check_skip(" {12}\r\n", true, 7, 0);
    check_skip(" {+}\r\n", true, 6, 0);
    check_skip("12+}\r\n", true, 6, 0);
    check_skip("+}\n", true, 3, 0);
    check_skip(" {99999999999999999999+}\r\n", true, 26, UINT64_MAX);
    check_skip("\n", true, 1, 0);
    check_skip("", false, 0, 0);
    check_skip(" {12+}\r", false, 0, 0);
    memset(many, 'x', sizeof(many));
    memcpy(many + 190, "{345+}", 7);
    check_skip(many, false, 196 - 48, 0);
    check_skip(many + 196 - 48, false, 0, 0);
    memcpy(many + 190, "{345+}\n", 8);
    check_skip(many + 196 - 48, true, 49, 345);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, trees);
    ATF_TP_ADD_TC(tp, problems);
    ATF_TP_ADD_TC(tp, limits);
    ATF_TP_ADD_TC(tp, few_arguments);
    ATF_TP_ADD_TC(tp, messages);
    ATF_TP_ADD_TC(tp, lines);
    ATF_TP_ADD_TC(tp, skipped);
    return atf_no_error();
}
