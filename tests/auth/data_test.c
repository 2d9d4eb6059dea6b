/* What databases are made of: passwd-file lines and paths, SQL configuration and templates. */
#include "auth/passwd_file.h"
#include "auth/sql.h"

#include <atf-c.h>
#include <stdio.h>

static struct slice text(const char *s)
{
    return slice_from_str(s);
}

ATF_TC_WITHOUT_HEAD(passwd_file);
ATF_TC_BODY(passwd_file, tc)
{
    struct passwd_file *f = passwd_file_parse(text("# a comment\n"
                                                   "\n"
                                                   ":nobody:x\n"
                                                   "a:{PLAIN}x:1:2:gecos:/home/a:/bin/sh:k=v:w l\r\n"
                                                   "b:5ebe2294ecd0e0f08eab7690d2a6ee69[34]\n"
                                                   "c:x:0:1::::\n"
                                                   "a:second\n"
                                                   "d:x:1:1::::: maildir:/x y\n"
                                                   "e"),
                                              "test");
    const struct passwd_entry *e = passwd_file_find(f, "a");

    ATF_REQUIRE(e != NULL && e->has_userdb);
    ATF_CHECK_STREQ(e->password, "{PLAIN}x");
    ATF_CHECK_STREQ(e->uid, "1");
    ATF_CHECK_STREQ(e->gid, "2");
    ATF_CHECK_STREQ(e->home, "/home/a");
    ATF_REQUIRE_EQ(e->count, 2);
    ATF_CHECK_STREQ(e->extra[0], "k=v:w");
    ATF_CHECK_STREQ(e->extra[1], "l");
    e = passwd_file_find(f, "b");
    ATF_REQUIRE(e != NULL && !e->has_userdb);
    ATF_CHECK_STREQ(e->scheme, "PLAIN-MD5");
    ATF_CHECK_STREQ(e->password, "5ebe2294ecd0e0f08eab7690d2a6ee69");
    ATF_CHECK(passwd_file_find(f, "c") == NULL);
    e = passwd_file_find(f, "d");
    ATF_REQUIRE(e != NULL && e->count == 1);
    ATF_CHECK_STREQ(e->extra[0], "userdb_mail= maildir:/x y");
    e = passwd_file_find(f, "e");
    ATF_REQUIRE(e != NULL && e->password == NULL);
    ATF_CHECK(passwd_file_find(f, "") == NULL);
    passwd_file_free(f);
}

ATF_TC_WITHOUT_HEAD(passwd_file_paths);
ATF_TC_BODY(passwd_file_paths, tc)
{
    static const struct { const char *path; bool good; } rows[] = {
        {"/etc/pw/dom/users", true},       {"/etc/pw/../pwother/users", false}, {"/etc/pw/../users", false},
        {"/etc/pw/dom/../dom/users", true}, {"/etc/pw/a/../users", true},        {"/etc/pw/./dom/users", true},
        {"/etc/pw///users", true},          {"/etc/pw/..//pw//dom/users", true}, {"/etc/pwx/users", false},
        {"/etc/pw/../../../../../etc/pw/x", true},
    };
    struct arena *arena = arena_new();
    const char *prefix;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ATF_CHECK_EQ_MSG(passwd_file_path_allowed(arena, "/etc/pw/%d/users", rows[i].path, &prefix), rows[i].good, "%s",
                         rows[i].path);
    ATF_CHECK_STREQ(prefix, "/etc/pw/");
    ATF_CHECK(passwd_file_path_allowed(arena, "%d/users", "/anything", &prefix));
    ATF_CHECK_STREQ(passwd_file_normalize(arena, "/a/b/../c//d/."), "/a/c/d");
    ATF_CHECK_STREQ(passwd_file_normalize(arena, "/../.."), "/");
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(sql_conf);
ATF_TC_BODY(sql_conf, tc)
{
    struct arena *arena = arena_new();
    struct sql_conf c;
    struct error e;

    sql_conf_defaults(&c);
    ATF_REQUIRE_EQ(0, sql_conf_parse(text("# comment\n"
                                          "driver = sqlite # behind\n"
                                          "connect= \"a b\\\"c\"\n"
                                          "password_query = SELECT a, \\\n"
                                          "   b FROM t \\\n"
                                          "   WHERE x = '%u#'\n"
                                          "default_pass_scheme=PLAIN\n"),
                                     "f", arena, &c, &e));
    ATF_CHECK_STREQ(c.driver, "sqlite");
    ATF_CHECK_STREQ(c.connect, "a b\"c");
    ATF_CHECK_STREQ(c.password_query, "SELECT a, b FROM t WHERE x = '%u#'");
    ATF_CHECK_STREQ(c.default_pass_scheme, "PLAIN");
    ATF_CHECK_EQ(-1, sql_conf_parse(text("\nfoo = 1\n"), "f", arena, &c, &e));
    ATF_CHECK_STREQ(e.admin, "Error in configuration file f line 2: Unknown setting: foo");
    ATF_CHECK_EQ(-1, sql_conf_parse(text("driver sqlite\n"), "f", arena, &c, &e));
    ATF_CHECK_EQ(-1, sql_conf_parse(text("driver = a \\"), "f", arena, &c, &e));
    arena_free(arena);
}

static void check_template(const char *query, const char *sql, const char *values)
{
    struct arena *arena = arena_new();
    struct sql_template t;
    struct buffer joined = {0};
    struct error e;

    ATF_REQUIRE_EQ_MSG(0, sql_template_parse(query, arena, &t, &e), "%s: %s", query, e.admin);
    ATF_CHECK_STREQ(t.text, sql);
    for (size_t i = 0; i < t.count; i++)
        buffer_printf(&joined, "[%s]", t.values[i]);
    ATF_CHECK_STREQ(joined.size == 0 ? "" : buffer_cstr(&joined), values);
    buffer_free(&joined);
    arena_free(arena);
}

/* No value may ever be read as SQL: each becomes a parameter. */
ATF_TC_WITHOUT_HEAD(sql_template);
ATF_TC_BODY(sql_template, tc)
{
    static const char *const refused[] = {"SELECT a FROM users_%d", "SELECT '%u", "SELECT x FROM %dusers"};
    struct arena *arena = arena_new();
    struct sql_template t;
    struct error e;

    check_template("SELECT a FROM t WHERE u = '%n' AND d = '%d'", "SELECT a FROM t WHERE u = ? AND d = ?", "[%n][%d]");
    check_template("SELECT a FROM t WHERE u = '%Ln@%{domain}'", "SELECT a FROM t WHERE u = ?", "[%Ln@%{domain}]");
    check_template("SELECT '%u' AS user, 'it''s', 'it''s %u' FROM t", "SELECT ? AS user, 'it''s', ? FROM t",
                   "[%u][it's %u]");
    check_template("SELECT a FROM t WHERE id = %{session_pid} LIMIT 1", "SELECT a FROM t WHERE id = ? LIMIT 1",
                   "[%{session_pid}]");
    check_template("SELECT a FROM t WHERE x LIKE 'a%%' AND y=%u", "SELECT a FROM t WHERE x LIKE 'a%' AND y=?", "[%u]");
    check_template("SELECT \"col\" FROM `t` WHERE u = \"%u\"", "SELECT \"col\" FROM `t` WHERE u = ?", "[%u]");
    check_template("SELECT 5 %% 2", "SELECT 5 % 2", "");
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        ATF_CHECK_EQ_MSG(-1, sql_template_parse(refused[i], arena, &t, &e), "%s", refused[i]);
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, passwd_file);
    ATF_TP_ADD_TC(tp, passwd_file_paths);
    ATF_TP_ADD_TC(tp, sql_conf);
    ATF_TP_ADD_TC(tp, sql_template);
    return atf_no_error();
}
