/* Filters of events: how operands are joined, how deep and how long a filter may be, what a comparison means. */
#include "conf/event_filter.h"

#include <atf-c.h>
#include <string.h>

static struct event_value number_of(int64_t n)
{
    return (struct event_value){.type = EVENT_INT, .number = n};
}

/* An event with the fields a=1, b=two, c=(x y). */
static bool leaf(void *arg, const struct event_filter *f)
{
    static const struct slice list[] = {{(const unsigned char *)"x", 1}, {(const unsigned char *)"y", 1}};
    struct event_value a = number_of(1), b = {.text = SLICE("two")}, c = {.type = EVENT_LIST, .list = list, .count = 2};

    (void)arg;
    return event_filter_is(f, slice_equal_str(f->key, "a")   ? &a
                              : slice_equal_str(f->key, "b") ? &b
                              : slice_equal_str(f->key, "c") ? &c
                                                             : NULL);
}

static void check(const char *text, bool wanted)
{
    struct arena *arena = arena_new();
    struct event_filter *filter;
    struct error e;

    ATF_REQUIRE_MSG(event_filter_parse(arena, text, &filter, &e) == 0, "%.60s: %s", text, e.admin);
    ATF_CHECK_MSG(event_filter_match(filter, leaf, NULL) == wanted, "%.60s", text);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(matches);
ATF_TC_BODY(matches, tc)
{
    check("a=1", true);
    check("a=2", false);
    check("a>0 and b=T*", true);
    check("a>=1 AND a<=1 AND NOT a>1", true);
    check("b=\"t?o\"", true);
    check("c=y", true);
    check("c=z", false);
    check("d=\"\"", true);
    check("NOT d=\"\"", false);
    /* From left to right, whatever joins them. */
    check("a=1 OR b=two AND d=x", false);
    check("a=1 OR (b=two AND d=x)", true);
    check("d=x AND a=1 OR b=two", true);
    check("d=x AND (a=1 OR b=two)", false);
    check("NOT d=x AND a=1", true);
    check("NOT (d=x OR a=1)", false);
}

static void repeat(struct buffer *out, const char *text, unsigned count)
{
    while (count-- > 0)
        buffer_append_str(out, text);
}

ATF_TC_WITHOUT_HEAD(long_chains);
ATF_TC_BODY(long_chains, tc)
{
    struct buffer text = {0};

    /* As the stats service joins the filters of its metrics. */
    repeat(&text, "(b=one) OR ", 100000);
    buffer_append_str(&text, "(b=two)");
    check(buffer_cstr(&text), true);
    buffer_reset(&text);
    repeat(&text, "NOT b=one AND ", 100000);
    buffer_append_str(&text, "a=2");
    check(buffer_cstr(&text), false);
    buffer_free(&text);
}

ATF_TC_WITHOUT_HEAD(depth);
ATF_TC_BODY(depth, tc)
{
    for (unsigned n = 64; n <= 65; n++) {
        struct arena *arena = arena_new();
        struct buffer text = {0};
        struct event_filter *filter;
        struct error e;

        repeat(&text, "(", n);
        buffer_append_str(&text, "a=1");
        repeat(&text, ")", n);
        ATF_CHECK_EQ(event_filter_parse(arena, buffer_cstr(&text), &filter, &e), n == 64 ? 0 : -1);
        buffer_free(&text);
        arena_free(arena);
    }
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, matches);
    ATF_TP_ADD_TC(tp, long_chains);
    ATF_TP_ADD_TC(tp, depth);
    return atf_no_error();
}
