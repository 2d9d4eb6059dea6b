/* Options and positional parameters of a command (doveadm 1). */
#include "doveadm_args.h"

#include "caught.h"

#include <atf-c.h>

static const struct doveadm_command plain = {"x y", "", 0, "a:alpha:s,f:flag:b,x:extra:a,n:number:n", "first,rest+", NULL};
static const struct doveadm_command ordered = {"batch", "", DOVEADM_NO_PERMUTE, "f:flag:b", "args+", NULL};
static const struct doveadm_command raw = {"exec", "", DOVEADM_RAW_ARGS, "", "args+", NULL};
static const struct doveadm_command mail = {"save", "", DOVEADM_MAIL, "m:mailbox:s", "file", NULL};

static int parse(struct doveadm *d, const struct doveadm_command *command, char **argv)
{
    int argc = 0;

    *d = (struct doveadm){.arena = arena_new(), .command = command};
    while (argv[argc] != NULL)
        argc++;
    return doveadm_args_parse(d, argc, argv);
}

static void end(struct doveadm *d)
{
    doveadm_args_free(d);
    arena_free(d->arena);
}

#define ARGS(...) (char *[]){(char *)(uintptr_t)"cmd", __VA_ARGS__, NULL}
#define W(text) ((char *)(uintptr_t)(text))

ATF_TC_WITHOUT_HEAD(all_kinds);
ATF_TC_BODY(all_kinds, tc)
{
    struct doveadm d;
    int64_t number;
    size_t n;

    (void)tc;
    ATF_REQUIRE_EQ(parse(&d, &plain, ARGS(W("one"), W("-a"), W("v"), W("-x"), W("k=1"), W("two"), W("--extra=k2"), W("-n"),
                                          W("12"), W("three"))), 0);
    ATF_CHECK_STREQ(doveadm_text(&d, "alpha"), "v");
    ATF_CHECK(!doveadm_flag(&d, "flag") && !doveadm_given(&d, "nosuch"));
    ATF_CHECK_STREQ(doveadm_list(&d, "extra", &n)[1], "k2");
    ATF_CHECK_EQ(n, 2);
    ATF_CHECK(doveadm_number(&d, "number", &number) && number == 12);
    ATF_CHECK_STREQ(doveadm_text(&d, "first"), "one");
    ATF_CHECK_STREQ(doveadm_list(&d, "rest", &n)[0], "two");
    ATF_CHECK_EQ(n, 2);
    ATF_CHECK_EQ(doveadm_list(&d, "rest", &n)[2], NULL);
    end(&d);
    ATF_REQUIRE_EQ(parse(&d, &plain, ARGS(W("-n"), W("1x"), W("--"), W("-f"))), 0);
    ATF_CHECK(!doveadm_number(&d, "number", &number) && !doveadm_flag(&d, "flag"));
    ATF_CHECK_STREQ(doveadm_text(&d, "first"), "-f");
    end(&d);
}

ATF_TC_WITHOUT_HEAD(order);
ATF_TC_BODY(order, tc)
{
    struct doveadm d;
    size_t n;

    (void)tc;
    ATF_REQUIRE_EQ(parse(&d, &ordered, ARGS(W("a"), W("-f"))), 0);
    ATF_CHECK(!doveadm_flag(&d, "flag"));
    ATF_CHECK_STREQ(doveadm_list(&d, "args", &n)[1], "-f");
    end(&d);
    ATF_REQUIRE_EQ(parse(&d, &raw, ARGS(W("-q"), W("--z"))), 0);
    ATF_CHECK_STREQ(doveadm_list(&d, "args", &n)[0], "-q");
    ATF_CHECK_EQ(n, 2);
    end(&d);
}

ATF_TC_WITHOUT_HEAD(refused);
ATF_TC_BODY(refused, tc)
{
    struct doveadm d;

    (void)tc;
    ATF_CHECK_EQ(parse(&d, &mail, ARGS(W("-u"), W("bob"), W("f"))), 0);
    ATF_CHECK_STREQ(doveadm_text(&d, "user"), "bob");
    end(&d);
    ATF_CHECK_EQ(parse(&d, &mail, ARGS(W("f"), W("g"))), DOVEADM_USAGE); /* one file only */
    end(&d);
    ATF_CHECK_EQ(parse(&d, &mail, ARGS(W("-Z"))), DOVEADM_USAGE);
    end(&d);
    ATF_CHECK_EQ(parse(&d, &plain, ARGS(W("-u"), W("bob"))), DOVEADM_USAGE); /* only mail commands have -u */
    end(&d);
    ATF_CHECK_EQ(parse(&d, &plain, ARGS(W("-a"))), DOVEADM_USAGE);
    end(&d);
}

/* What the dispatcher relies on: sorted names, so that families stand together, and a function in each row. */
ATF_TC_WITHOUT_HEAD(rows);
ATF_TC_BODY(rows, tc)
{
    (void)tc;
    for (const struct doveadm_command *c = doveadm_commands; c->name != NULL; c++) {
        ATF_CHECK_MSG(c->run != NULL, "%s", c->name);
        ATF_CHECK_MSG(c[1].name == NULL || strcmp(c->name, c[1].name) < 0, "%s", c->name);
    }
    ATF_CHECK(doveadm_is_family("mailbox") && doveadm_is_family("director ring"));
    ATF_CHECK(!doveadm_is_family("mail") && !doveadm_is_family("stop"));
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, all_kinds);
    ATF_TP_ADD_TC(tp, order);
    ATF_TP_ADD_TC(tp, refused);
    ATF_TP_ADD_TC(tp, rows);
    return atf_no_error();
}
