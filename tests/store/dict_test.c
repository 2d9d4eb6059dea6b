/* The file dictionary: bytes as Dovecot writes them, changes, locks (ipc 10.2). */
#include "store/dict.h"

#include <atf-c.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static struct dict *open_here(const char *name)
{
    char uri[4200], cwd[4096];
    struct dict *dict;
    struct error e;

    ATF_REQUIRE(getcwd(cwd, sizeof(cwd)) != NULL);
    snprintf(uri, sizeof(uri), "file:%s/%s", cwd, name);
    ATF_REQUIRE_MSG(dict_open(&dict, uri, &(struct dict_settings){0}, &e) == 0, "%s", e.admin);
    return dict;
}

static void expect_file(const char *name, const char *text)
{
    struct buffer got = {0};
    struct error e;

    ATF_REQUIRE(os_read_file(AT_FDCWD, name, 1 << 20, &got, &e) == 0);
    ATF_CHECK_STREQ(buffer_cstr(&got), text);
    buffer_free(&got);
}

ATF_TC_WITHOUT_HEAD(change);
ATF_TC_BODY(change, tc)
{
    struct dict *dict = open_here("d");
    struct dict_change changes[] = {{.what = DICT_SET, .key = "priv/a\tb", .value = "x\ty\nz"},
                                    {.what = DICT_SET, .key = "shared/n", .value = "41"}};
    struct dict_change more[] = {{.what = DICT_ADD, .key = "shared/n", .add = 1},
                                 {.what = DICT_ADD, .key = "shared/none", .add = 1}};
    struct dict_change gone = {.what = DICT_UNSET, .key = "priv/a\tb"};
    struct dict_change wrong = {.what = DICT_ADD, .key = "priv/a\tb", .add = 1};
    struct dict_change nothing = {.what = DICT_UNSET, .key = "priv/none"};
    struct arena *arena = arena_new();
    struct stat before, after;
    const char *value;
    struct error e;

    (void)tc;
    ATF_REQUIRE(dict_get(dict, arena, "priv/a\tb", &value, &e) == 0);
    ATF_CHECK(value == NULL);
    ATF_REQUIRE(dict_commit(dict, changes, 2, &e) == STEP_DONE);
    expect_file("d", "priv/a\001tb\nx\001ty\001nz\nshared/n\n41\n");
    ATF_REQUIRE(dict_commit(dict, more, 2, &e) == STEP_DONE);
    ATF_CHECK(!more[0].missing && more[1].missing);
    ATF_REQUIRE(dict_commit(dict, &wrong, 1, &e) == STEP_ERROR);
    ATF_CHECK_EQ(e.class, ERROR_CORRUPT);
    ATF_REQUIRE(dict_get(dict, arena, "priv/a\tb", &value, &e) == 0);
    ATF_CHECK_STREQ(value, "x\ty\nz");
    ATF_REQUIRE(stat("d", &before) == 0);
    ATF_REQUIRE(dict_commit(dict, &nothing, 1, &e) == STEP_DONE);
    ATF_REQUIRE(stat("d", &after) == 0);
    ATF_CHECK_EQ(before.st_ino, after.st_ino);
    ATF_REQUIRE(dict_commit(dict, &gone, 1, &e) == STEP_DONE);
    expect_file("d", "shared/n\n42\n");
    ATF_CHECK(access("d.lock", F_OK) < 0);
    dict_close(&dict);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(others);
ATF_TC_BODY(others, tc)
{
    struct dict *dict = open_here("d"), *other = open_here("d");
    struct dict_change a = {.what = DICT_SET, .key = "priv/x/a", .value = "1"};
    struct dict_change b = {.what = DICT_SET, .key = "priv/x/b/c", .value = "2"};
    struct dict_change below = {.what = DICT_UNSET_BELOW, .key = "priv/x/"};
    struct arena *arena = arena_new();
    struct dict_pairs pairs = {0};
    const char *value;
    struct error e;
    int fd;

    (void)tc;
    ATF_REQUIRE(dict_commit(dict, &a, 1, &e) == STEP_DONE);
    ATF_REQUIRE(dict_get(other, arena, "priv/x/a", &value, &e) == 0);
    ATF_CHECK_STREQ(value, "1");
    ATF_REQUIRE(dict_commit(other, &b, 1, &e) == STEP_DONE);
    ATF_REQUIRE(dict_list(dict, arena, "priv/x/", false, &pairs, &e) == 0);
    ATF_CHECK_EQ(pairs.count, 1);
    pairs.count = 0;
    ATF_REQUIRE(dict_list(dict, arena, "priv/x/", true, &pairs, &e) == 0);
    ATF_CHECK_EQ(pairs.count, 2);
    VEC_FREE(&pairs);
    /* Somebody has the lock. */
    fd = open("d.lock", O_CREAT | O_EXCL | O_WRONLY, 0600);
    ATF_REQUIRE(fd >= 0);
    ATF_CHECK_EQ(dict_commit(dict, &below, 1, &e), STEP_WAIT);
    close(fd);
    ATF_REQUIRE(unlink("d.lock") == 0);
    ATF_REQUIRE(dict_commit(dict, &below, 1, &e) == STEP_DONE);
    expect_file("d", "");
    dict_close(&dict);
    dict_close(&other);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(uris);
ATF_TC_BODY(uris, tc)
{
    static const char *const bad[] = {"file", "file:", "file:relative", "sql:x", ""};
    struct dict *dict;
    struct error e;

    (void)tc;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_MSG(dict_open(&dict, bad[i], &(struct dict_settings){0}, &e) < 0, "%s", bad[i]);
    ATF_REQUIRE(dict_open(&dict, "file:/x/y:lock=fcntl", &(struct dict_settings){0}, &e) == 0);
    dict_close(&dict);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, change);
    ATF_TP_ADD_TC(tp, others);
    ATF_TP_ADD_TC(tp, uris);
    return atf_no_error();
}
