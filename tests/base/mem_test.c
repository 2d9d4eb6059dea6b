/* Arenas, vectors, errors, budgets. */
#include "base/error.h"
#include "base/mem.h"
#include "base/step.h"

#include <atf-c.h>
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

ATF_TC_WITHOUT_HEAD(arena);
ATF_TC_BODY(arena, tc)
{
    struct arena *a = arena_new();
    size_t idle;
    char *p;

    for (size_t size = 0; size < 3000; size += 7) {
        p = arena_alloc(a, size);
        ATF_REQUIRE_EQ((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < size; i++)
            ATF_REQUIRE_EQ(p[i], 0);
        memset(p, 'x', size);
    }
    ATF_CHECK_STREQ(arena_printf(a, "%s-%d", "n", 7), "n-7");
    ATF_CHECK_STREQ(arena_str(a, slice_of("ab\0c", 4)), "ab");
    ATF_CHECK_EQ(arena_slice(a, slice_of("ab\0c", 4)).size, 4);
    ATF_CHECK_STREQ(arena_strdup(a, "text"), "text");
    ATF_CHECK(arena_array(a, 3, sizeof(int)) != NULL);
    arena_reset(a);
    /* An idle session keeps the first block alone, and what comes from it is zero again. */
    idle = arena_used(a);
    ATF_CHECK(idle < 2048);
    p = arena_alloc(a, 512);
    for (size_t i = 0; i < 512; i++)
        ATF_REQUIRE_EQ(p[i], 0);
    ATF_CHECK_EQ(arena_used(a), idle);
    arena_free(a);
    arena_free(NULL);
}

/* The next user allocates as much without a call of malloc: nothing more is held than before. */
ATF_TC_WITHOUT_HEAD(arena_recycle);
ATF_TC_BODY(arena_recycle, tc)
{
    struct arena *a = arena_new();
    size_t held;

    (void)tc;
    for (int i = 0; i < 5; i++)
        arena_alloc(a, 900);
    arena_recycle(a, 8192);
    held = arena_used(a);
    ATF_CHECK(held > 4 * 900);
    for (int i = 0; i < 4; i++)
        memset(arena_alloc(a, 900), 'x', 900);
    ATF_CHECK_EQ(arena_used(a), held);
    arena_alloc(a, 1 << 20);
    arena_recycle(a, 8192);
    ATF_CHECK(arena_used(a) < 8192);
    arena_recycle(a, 8192);
    arena_free(a);
}

ATF_TC_WITHOUT_HEAD(arena_big_first);
ATF_TC_BODY(arena_big_first, tc)
{
    struct arena *a = arena_new();

    arena_alloc(a, 1 << 20);
    arena_reset(a);
    ATF_CHECK(arena_used(a) < 2048);
    arena_free(a);
}

/* Runs in a child; its exit status. */
static int status_of(void (*run)(void))
{
    int status;
    pid_t pid = fork();

    ATF_REQUIRE(pid >= 0);
    if (pid == 0) {
        run();
        _exit(0);
    }
    ATF_REQUIRE_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void overflow_array(void)
{
    arena_array(arena_new(), SIZE_MAX / 2, 3);
}

static void overflow_alloc(void)
{
    arena_alloc(arena_new(), SIZE_MAX);
}

static void overflow_buffer(void)
{
    struct buffer b = {0};

    buffer_append_byte(&b, 1);
    buffer_reserve(&b, SIZE_MAX);
}

ATF_TC_WITHOUT_HEAD(exhausted);
ATF_TC_BODY(exhausted, tc)
{
    ATF_CHECK_EQ(status_of(overflow_array), EXIT_OUT_OF_MEMORY);
    ATF_CHECK_EQ(status_of(overflow_alloc), EXIT_OUT_OF_MEMORY);
    ATF_CHECK_EQ(status_of(overflow_buffer), EXIT_OUT_OF_MEMORY);
}

ATF_TC_WITHOUT_HEAD(strings);
ATF_TC_BODY(strings, tc)
{
    char *a = mem_strdup("text"), *b = mem_strndup(SLICE("cut")), *c = mem_printf("%05d", 42);

    ATF_CHECK_STREQ(a, "text");
    ATF_CHECK_STREQ(b, "cut");
    ATF_CHECK_STREQ(c, "00042");
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

ATF_TC_WITHOUT_HEAD(vector);
ATF_TC_BODY(vector, tc)
{
    VEC(uint32_t) v = {0};

    for (uint32_t i = 0; i < 1000; i++)
        VEC_PUSH(&v, i * 3);
    ATF_CHECK_EQ(v.count, 1000);
    for (uint32_t i = 0; i < 1000; i++)
        ATF_REQUIRE_EQ(v.at[i], i * 3);
    VEC_FREE(&v);
    ATF_CHECK(v.at == NULL && v.count == 0);
}

ATF_TC_WITHOUT_HEAD(errors);
ATF_TC_BODY(errors, tc)
{
    static const struct {
        int number;
        enum error_class class;
    } classes[] = {{ENOENT, ERROR_NOT_FOUND}, {EACCES, ERROR_PERMISSION}, {EROFS, ERROR_PERMISSION},
                   {ENOSPC, ERROR_SPACE},     {EDQUOT, ERROR_QUOTA},      {EEXIST, ERROR_EXISTS},
                   {EIO, ERROR_TEMPORARY}};
    struct error e;

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        errno = classes[i].number;
        ATF_CHECK_EQ(error_sys(&e, "rename", "/a/b"), -1);
        ATF_CHECK_EQ(e.class, classes[i].class);
        ATF_CHECK_EQ(e.sys, classes[i].number);
        ATF_CHECK_EQ(errno, classes[i].number);
    }
    ATF_CHECK_STREQ(e.admin, "rename(/a/b) failed: Input/output error");
    ATF_CHECK_EQ(error_context(&e, "Mailbox %s: ", "INBOX"), -1);
    ATF_CHECK_STREQ(e.admin, "Mailbox INBOX: rename(/a/b) failed: Input/output error");
    ATF_CHECK_EQ(error_user(&e, "Not now"), -1);
    ATF_CHECK_STREQ(e.user, "Not now");
    ATF_CHECK_EQ(error_set(&e, ERROR_CORRUPT, "uid %u", 7u), -1);
    ATF_CHECK_STREQ(e.admin, "uid 7");
    ATF_CHECK_STREQ(e.user, "");
    ATF_CHECK_STREQ(error_class_name(e.class), "corrupt");
    error_clear(&e);
    ATF_CHECK_EQ(e.class, ERROR_NONE);
}

ATF_TC_WITHOUT_HEAD(error_long);
ATF_TC_BODY(error_long, tc)
{
    struct error e;
    char text[2000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&e, ERROR_BUG, "%s", text);
    ATF_CHECK_EQ(strlen(e.admin), sizeof(e.admin) - 1);
    error_context(&e, "front: ");
    ATF_CHECK_EQ(strlen(e.admin), sizeof(e.admin) - 1);
    ATF_CHECK(strncmp(e.admin, "front: xxx", 10) == 0);
    error_context(&e, "%s", text);
    ATF_CHECK_EQ(strlen(e.admin), sizeof(e.admin) - 1);
    error_user(&e, text);
    ATF_CHECK_EQ(strlen(e.user), sizeof(e.user) - 1);
}

ATF_TC_WITHOUT_HEAD(budgets);
ATF_TC_BODY(budgets, tc)
{
    struct budget none = BUDGET_UNLIMITED, three = {0, 3}, past = {1, UINT32_MAX - 1};
    unsigned n = 0;

    for (int i = 0; i < 1000; i++)
        ATF_REQUIRE(!budget_spent(&none, 1000));
    ATF_CHECK(!budget_spent(&three, 1));
    ATF_CHECK(!budget_spent(&three, 1));
    ATF_CHECK(budget_spent(&three, 1));
    ATF_CHECK(budget_spent(&three, 1));
    while (!budget_spent(&past, 1) && n < 100)
        n++;
    ATF_CHECK_MSG(n < 17, "the clock is read at least every 16th unit");
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, arena);
    ATF_TP_ADD_TC(tp, arena_recycle);
    ATF_TP_ADD_TC(tp, arena_big_first);
    ATF_TP_ADD_TC(tp, exhausted);
    ATF_TP_ADD_TC(tp, strings);
    ATF_TP_ADD_TC(tp, vector);
    ATF_TP_ADD_TC(tp, errors);
    ATF_TP_ADD_TC(tp, error_long);
    ATF_TP_ADD_TC(tp, budgets);
    return atf_no_error();
}
