/* The formatters; what they print is the real program's layout (doveadm 3). Output goes to the file "out". */
#include "print.h"

#include "caught.h"

#include <atf-c.h>
#include <stdlib.h>

static void begin(struct doveadm *d, const char *formatter)
{
    *d = (struct doveadm){.arena = arena_new()};
    ATF_REQUIRE(freopen("out", "w", stdout) != NULL);
    print_init(d, formatter);
    print_header(d, "name", "Name", 0);
    print_header(d, "size", "size", PRINT_RIGHT | PRINT_NUMBER);
}

static void end(struct doveadm *d, const char *want)
{
    print_flush(d);
    print_free(d);
    arena_free(d->arena);
    ATF_CHECK(atf_utils_compare_file("out", want));
}

static void rows(struct doveadm *d)
{
    print_value(d, "a\tb");
    print_number(d, 7);
    print_value(d, "");
    print_number(d, 12345678);
}

#define FORMAT_CASE(formatter, want)     \
    ATF_TC_WITHOUT_HEAD(formatter);      \
    ATF_TC_BODY(formatter, tc)           \
    {                                    \
        struct doveadm d;                \
        (void)tc;                        \
        begin(&d, #formatter);           \
        rows(&d);                        \
        end(&d, want);                   \
    }

FORMAT_CASE(flow, "Name=a\tb size=7\nName= size=12345678\n")
FORMAT_CASE(pager, "Name: a\tb\nsize: 7\n\f\nName: \nsize: 12345678\n")
FORMAT_CASE(tab, "Name\tsize\na\tb\t7\n\t12345678\n")
FORMAT_CASE(json, "[{\"name\":\"a\\tb\",\"size\":7},{\"name\":\"\",\"size\":12345678}]")
/* A last column takes the width that is left when none is told to. */
FORMAT_CASE(table, "Name                                      size\n"
                   "a\tb                                          7\n"
                   "                                      12345678\n")

/* A sticky value stands in each row; a value may come in pieces. */
ATF_TC_WITHOUT_HEAD(sticky_stream);
ATF_TC_BODY(sticky_stream, tc)
{
    struct doveadm d = {.arena = arena_new()};

    (void)tc;
    ATF_REQUIRE(freopen("out", "w", stdout) != NULL);
    print_init(&d, "tab");
    print_header(&d, "username", "Username", PRINT_STICKY | PRINT_HIDE_TITLE);
    print_header_simple(&d, "text");
    print_sticky(&d, "username", "u1");
    print_stream(&d, SLICE("one\n"), false);
    print_stream(&d, SLICE("two"), true);
    print_sticky(&d, "username", "u2");
    print_value(&d, "x");
    end(&d, "Username\ttext\nu1\tone\ntwo\t\nu2\tx\n");
}

ATF_TC_WITHOUT_HEAD(names);
ATF_TC_BODY(names, tc)
{
    (void)tc;
    ATF_CHECK(print_known("json") && print_known("formatted"));
    ATF_CHECK(!print_known("xml") && !print_known(""));
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, flow);
    ATF_TP_ADD_TC(tp, pager);
    ATF_TP_ADD_TC(tp, tab);
    ATF_TP_ADD_TC(tp, json);
    ATF_TP_ADD_TC(tp, table);
    ATF_TP_ADD_TC(tp, sticky_stream);
    ATF_TP_ADD_TC(tp, names);
    return atf_no_error();
}
