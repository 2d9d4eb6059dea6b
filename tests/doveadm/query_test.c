/* The search query: its tree, what is refused and with which words (doveadm 5). */
#include "query_impl.h"

#include "caught.h"

#include <atf-c.h>

static struct arena *arena;

/* The tree as text: (and ...), (or ...), key, mailbox=NAME; "!" for a negation. */
static void show(const struct query_node *n, struct buffer *out)
{
    if (n->negate)
        buffer_append_byte(out, '!');
    if (n->kind == QUERY_KEY)
        buffer_append_str(out, "key");
    else if (n->kind == QUERY_MAILBOX || n->kind == QUERY_MAILBOX_GUID)
        buffer_printf(out, "mailbox=%s", n->text);
    else {
        buffer_append_str(out, n->kind == QUERY_OR ? "(or" : n->kind == QUERY_INTHREAD ? "(inthread" : "(and");
        for (const struct query_node *c = n->children; c != NULL; c = c->next) {
            buffer_append_byte(out, ' ');
            show(c, out);
        }
        buffer_append_byte(out, ')');
    }
    if (n->key != NULL)
        index_ranges_free(&n->key->ranges);
}

static struct query *parsed;

static struct query *parse_words(const char *text)
{
    struct doveadm d = {.arena = arena};
    const char *words[32];
    struct slice rest = slice_from_str(text), word;
    size_t n = 0;

    while (n < 31 && slice_split(&rest, ' ', &word))
        words[n++] = arena_str(arena, word);
    words[n] = NULL;
    return query_parse(&d, words, n);
}

static int parse(const char *text)
{
    int status;

    CAUGHT(status, parsed = parse_words(text));
    return status;
}

static void check_tree(const char *query, const char *want)
{
    struct buffer out = {0};

    ATF_REQUIRE_EQ_MSG(parse(query), -1, "%s: %s", query, caught_text);
    show(parsed->root, &out);
    ATF_CHECK_STREQ_MSG(buffer_cstr(&out), want, "%s", query);
    buffer_free(&out);
}

static void check_refused(const char *query, int status, const char *text)
{
    ATF_CHECK_EQ_MSG(parse(query), status, "%s", query);
    ATF_CHECK_STREQ_MSG(caught_text, text, "%s", query);
}

static void check_unsafe(const char *query, bool unsafe)
{
    int status;

    ATF_REQUIRE_EQ(parse(query), -1);
    CAUGHT(status, query_check_safe(parsed, "expunge"));
    ATF_CHECK_EQ_MSG(status, unsafe ? DOVEADM_USAGE : -1, "%s", query);
}

ATF_TC_WITHOUT_HEAD(trees);
ATF_TC_BODY(trees, tc)
{
    (void)tc;
    arena = arena_new();
    check_tree("mailbox INBOX seen", "(and mailbox=INBOX key)");
    check_tree("MAILBOX INBOX NOT Seen", "(and mailbox=INBOX !key)");
    check_tree("seen or flagged or draft", "(or key key key)");
    check_tree("mailbox A ( seen or flagged )", "(and mailbox=A (or key key))");
    check_tree("not inthread refs ( mailbox A or seen ) draft", "(and !(inthread (or mailbox=A key)) key)");
    check_tree("mimepart ( type text or size larger 1 type ) ) seen", "(and key key)");
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(refused);
ATF_TC_BODY(refused, tc)
{
    (void)tc;
    arena = arena_new();
    check_refused("keyword", 75, "Missing parameter for search key (for search key: KEYWORD)");
    check_refused("inthread x all", 75, "Unknown thread algorithm");
    check_refused("mimepart ( type text", 75, "Missing ')'");
    check_refused("mimepart type text )", 75, "Unexpected ')'");
    ATF_CHECK_EQ(parse("nosuchkey"), 75);
    ATF_CHECK_EQ(parse("( seen"), 75);
    ATF_CHECK_EQ(parse("seen )"), 75);
    ATF_CHECK_EQ(parse("uid 0"), 75);
    ATF_CHECK_EQ(parse("larger x"), 75);
    ATF_CHECK_EQ(parse("since nodate"), 75);
    arena_free(arena);
}

/* expunge must not take everything by accident. */
ATF_TC_WITHOUT_HEAD(accidents);
ATF_TC_BODY(accidents, tc)
{
    (void)tc;
    arena = arena_new();
    check_unsafe("all", true);
    check_unsafe("mailbox INBOX", true);
    check_unsafe("mailbox INBOX all", false);
    check_unsafe("( mailbox A seen ) or ( mailbox B )", true);
    check_unsafe("( mailbox A seen ) or ( mailbox B seen )", false);
    check_unsafe("( mailbox A seen ) or seen", true);
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, trees);
    ATF_TP_ADD_TC(tp, refused);
    ATF_TP_ADD_TC(tp, accidents);
    return atf_no_error();
}
