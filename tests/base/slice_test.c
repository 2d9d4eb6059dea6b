/* Slices and buffers. */
#include "base/mem.h"
#include "base/slice.h"

#include <atf-c.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

ATF_TC_WITHOUT_HEAD(compare);
ATF_TC_BODY(compare, tc)
{
    ATF_CHECK(slice_equal(SLICE_EMPTY, SLICE("")));
    ATF_CHECK(slice_equal_str(SLICE("ab"), "ab"));
    ATF_CHECK(!slice_equal_str(SLICE("ab"), "aB"));
    ATF_CHECK(slice_equal_str_nocase(SLICE("InBox"), "INBOX"));
    ATF_CHECK(!slice_equal_nocase(SLICE("\xc4"), SLICE("\xe4"))); /* only ASCII folds */
    ATF_CHECK(!slice_equal_nocase(SLICE("@"), SLICE("`")));       /* and only letters */
    ATF_CHECK(slice_starts(SLICE("abc"), SLICE("ab")) && !slice_starts(SLICE("a"), SLICE("ab")));
    ATF_CHECK(slice_starts(SLICE_EMPTY, SLICE_EMPTY));
    ATF_CHECK(slice_starts_nocase(SLICE("AbC"), SLICE("aB")));
    ATF_CHECK(slice_ends(SLICE("abc"), SLICE("bc")) && !slice_ends(SLICE("c"), SLICE("bc")));
    ATF_CHECK(slice_compare(SLICE("a"), SLICE("ab")) < 0);
    ATF_CHECK(slice_compare(SLICE("b"), SLICE("ab")) > 0);
    ATF_CHECK(slice_compare(SLICE("\xff"), SLICE("a")) > 0);
    ATF_CHECK_EQ(slice_compare(SLICE_EMPTY, SLICE_EMPTY), 0);
    ATF_CHECK(slice_equal_secret(SLICE("s3cret"), SLICE("s3cret")));
    ATF_CHECK(!slice_equal_secret(SLICE("s3cret"), SLICE("s3creT")));
    ATF_CHECK(!slice_equal_secret(SLICE("s3cre"), SLICE("s3cret")));
    ATF_CHECK(!slice_equal_secret(SLICE("s3cret"), SLICE("s3cre")));
    ATF_CHECK(slice_equal_secret(SLICE_EMPTY, SLICE("")));
}

ATF_TC_WITHOUT_HEAD(cut);
ATF_TC_BODY(cut, tc)
{
    struct slice s = SLICE("hello");

    ATF_CHECK(slice_equal_str(slice_from(s, 2), "llo"));
    ATF_CHECK_EQ(slice_from(s, 5).size, 0);
    ATF_CHECK_EQ(slice_from(s, SIZE_MAX).size, 0);
    ATF_CHECK_EQ(slice_from(SLICE_EMPTY, 3).size, 0);
    ATF_CHECK(slice_equal_str(slice_head(s, 2), "he"));
    ATF_CHECK_EQ(slice_head(s, SIZE_MAX).size, 5);
    ATF_CHECK(slice_equal_str(slice_trim(SLICE(" \t x y\r\n")), "x y"));
    ATF_CHECK_EQ(slice_trim(SLICE(" \r\n")).size, 0);
}

ATF_TC_WITHOUT_HEAD(find);
ATF_TC_BODY(find, tc)
{
    ATF_CHECK_EQ(slice_find(SLICE("abab"), 'b'), 1);
    ATF_CHECK_EQ(slice_find(SLICE("abab"), 'c'), -1);
    ATF_CHECK_EQ(slice_find(SLICE_EMPTY, 'c'), -1);
    ATF_CHECK_EQ(slice_find_last(SLICE("abab"), 'b'), 3);
    ATF_CHECK_EQ(slice_find_last(SLICE("abab"), 'c'), -1);
    ATF_CHECK_EQ(slice_find_slice(SLICE("aabaab!"), SLICE("aab!")), 3);
    ATF_CHECK_EQ(slice_find_slice(SLICE("ab"), SLICE("")), 0);
    ATF_CHECK_EQ(slice_find_slice(SLICE("ab"), SLICE("abc")), -1);
    ATF_CHECK_EQ(slice_find_slice(slice_of("a\0b", 3), slice_of("\0b", 2)), 1);
}

ATF_TC_WITHOUT_HEAD(split);
ATF_TC_BODY(split, tc)
{
    struct slice rest = SLICE("a,,b,"), part;
    static const char *const parts[] = {"a", "", "b", ""};
    size_t n = 0;

    while (slice_split(&rest, ',', &part)) {
        ATF_REQUIRE(n < 4);
        ATF_CHECK(slice_equal_str(part, parts[n++]));
    }
    ATF_CHECK_EQ(n, 4);
    rest = SLICE("");
    ATF_CHECK(slice_split(&rest, ',', &part) && part.size == 0);
    ATF_CHECK(!slice_split(&rest, ',', &part));
}

ATF_TC_WITHOUT_HEAD(numbers);
ATF_TC_BODY(numbers, tc)
{
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616", "99999999999999999999"};
    uint64_t big = 7;
    uint32_t small = 7;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_MSG(!slice_to_u64(slice_from_str(bad[i]), &big), "%s", bad[i]);
    ATF_CHECK_EQ(big, 7);
    ATF_CHECK(slice_to_u64(SLICE("18446744073709551615"), &big) && big == UINT64_MAX);
    ATF_CHECK(slice_to_u64(SLICE("007"), &big) && big == 7);
    ATF_CHECK(!slice_to_u32(SLICE("4294967296"), &small) && small == 7);
    ATF_CHECK(slice_to_u32(SLICE("4294967295"), &small) && small == UINT32_MAX);
}

ATF_TC_WITHOUT_HEAD(buffer);
ATF_TC_BODY(buffer, tc)
{
    struct buffer b = {0};

    ATF_CHECK_STREQ(buffer_cstr(&b), "");
    buffer_append_str(&b, "hello");
    buffer_append_byte(&b, ' ');
    buffer_append_slice(&b, SLICE_EMPTY);
    buffer_printf(&b, "%s %d", "world", 42);
    ATF_CHECK_STREQ(buffer_cstr(&b), "hello world 42");
    buffer_drop(&b, 6);
    ATF_CHECK_STREQ(buffer_cstr(&b), "world 42");
    buffer_splice(&b, 0, 5, SLICE("W"));
    ATF_CHECK_STREQ(buffer_cstr(&b), "W 42");
    buffer_splice(&b, 4, 0, SLICE("!"));
    buffer_splice(&b, 1, 1, SLICE(" is "));
    ATF_CHECK_STREQ(buffer_cstr(&b), "W is 42!");
    buffer_splice(&b, 0, b.size, SLICE_EMPTY);
    ATF_CHECK_EQ(b.size, 0);
    for (int i = 0; i < 100000; i++)
        buffer_append_byte(&b, (unsigned char)i);
    ATF_CHECK_EQ(b.size, 100000);
    ATF_CHECK_EQ(b.at[99999], (unsigned char)99999);
    buffer_reset(&b);
    ATF_CHECK(b.room > 0);
    buffer_wipe(&b);
    ATF_CHECK(b.at == NULL && b.size == 0 && b.room == 0);
    buffer_append_str(&b, "usable after");
    buffer_free(&b);
}

/* Texts that fit into what is reserved, just so, by one byte not, and by far not. */
ATF_TC_WITHOUT_HEAD(buffer_printf_sizes);
ATF_TC_BODY(buffer_printf_sizes, tc)
{
    for (int size = 0; size < 300; size++) {
        struct buffer b = {0}, twice = {0};

        buffer_printf(&b, "%0*d", size, 0);
        ATF_CHECK_EQ(b.size, size == 0 ? 1 : (size_t)size);
        buffer_printf(&twice, "%s|", buffer_cstr(&b));
        buffer_printf(&twice, "%s", buffer_cstr(&b));
        ATF_CHECK_EQ(twice.size, 2 * b.size + 1);
        ATF_CHECK(memcmp(twice.at, b.at, b.size) == 0 && memcmp(twice.at + b.size + 1, b.at, b.size) == 0);
        buffer_free(&b);
        buffer_free(&twice);
    }
}

ATF_TC_WITHOUT_HEAD(buffer_number);
ATF_TC_BODY(buffer_number, tc)
{
    static const uint64_t numbers[] = {0, 9, 10, 4294967295u, UINT64_MAX};
    struct buffer b = {0};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        buffer_append_number(&b, numbers[i]);
        buffer_append_byte(&b, ' ');
    }
    ATF_CHECK_STREQ("0 9 10 4294967295 18446744073709551615 ", buffer_cstr(&b));
    buffer_reset(&b);
    buffer_append_digits(&b, 7, 2);
    buffer_append_digits(&b, 1994, 4);
    buffer_append_digits(&b, 12345, 3);
    buffer_append_digits(&b, 1, 0);
    buffer_append_digits(&b, UINT64_MAX, 20);
    ATF_CHECK_STREQ("07199434518446744073709551615", buffer_cstr(&b));
    buffer_free(&b);
}

ATF_TC_WITHOUT_HEAD(has_word);
ATF_TC_BODY(has_word, tc)
{
    (void)tc;
    ATF_CHECK(slice_has_word(SLICE("one two  three"), SLICE("one")));
    ATF_CHECK(slice_has_word(SLICE("one two  three"), SLICE("three")));
    ATF_CHECK(!slice_has_word(SLICE("one two  three"), SLICE("tw")));
    ATF_CHECK(!slice_has_word(SLICE("one two  three"), SLICE("twos")));
    ATF_CHECK(!slice_has_word(SLICE("one two  three"), SLICE("")));
    ATF_CHECK(!slice_has_word(SLICE(""), SLICE("one")));
}

ATF_TC_WITHOUT_HEAD(endian);
ATF_TC_BODY(endian, tc)
{
    static const unsigned char b[8] = {0x01, 0x82, 0x03, 0x84, 0x05, 0x86, 0x07, 0x88};
    unsigned char out[9] = {0};

    ATF_CHECK_EQ(bytes_le16(b), 0x8201);
    ATF_CHECK_EQ(bytes_le32(b), 0x84038201u);
    ATF_CHECK_EQ(bytes_be32(b), 0x01820384u);
    ATF_CHECK_EQ(bytes_le64(b), 0x8807860584038201ull);
    bytes_put_le64(out + 1, 0x8807860584038201ull);
    ATF_CHECK(memcmp(out + 1, b, 8) == 0);
    bytes_put_be32(out, 0x01820384u);
    ATF_CHECK(memcmp(out, b, 4) == 0);
    bytes_put_le16(out, 0x8201);
    ATF_CHECK(memcmp(out, b, 2) == 0);
}

/* Instructions that a comparison takes: a child makes it, from one stop to the next, and is led through it step by step.
 * -1: this machine does not let us. */
static long count_steps(struct slice a, struct slice b)
{
    volatile bool equal;
    long steps = 0;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(1);
        raise(SIGSTOP);
        equal = slice_equal_secret(a, b);
        (void)equal;
        raise(SIGUSR1);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
        return -1;
    do {
        steps++;
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
            return -1;
    } while (WSTOPSIG(status) == SIGTRAP);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return steps;
}

/* A secret costs the same whether the first byte, the last one or none is wrong (CVE-2026-27856). */
ATF_TC_WITHOUT_HEAD(secret);
ATF_TC_BODY(secret, tc)
{
    unsigned char secret[64], guess[64];
    long right, first, last;

    (void)tc;
    memset(secret, 'x', sizeof(secret));
    memset(guess, 'x', sizeof(guess));
    right = count_steps(slice_of(guess, sizeof(guess)), slice_of(secret, sizeof(secret)));
    if (right < 0)
        atf_tc_skip("machine: a process cannot be traced");
    guess[63] = 'y';
    last = count_steps(slice_of(guess, sizeof(guess)), slice_of(secret, sizeof(secret)));
    guess[0] = 'y';
    first = count_steps(slice_of(guess, sizeof(guess)), slice_of(secret, sizeof(secret)));
    ATF_CHECK_MSG(right > 20, "%ld steps: nothing was compared", right);
    ATF_CHECK_EQ(right, last);
    ATF_CHECK_EQ(right, first);
}

/* What format_plain does by itself is what printf does. */
#define CHECK_FORMAT(...)                                                       \
    do {                                                                        \
        struct buffer got = {0};                                                \
        char *wanted;                                                           \
                                                                                \
        ATF_REQUIRE(asprintf(&wanted, __VA_ARGS__) >= 0);                       \
        buffer_append_str(&got, "in front ");                                   \
        buffer_printf(&got, __VA_ARGS__);                                       \
        ATF_CHECK_STREQ(buffer_cstr(&got) + 9, wanted);                         \
        ATF_CHECK_STREQ(arena_printf(arena, __VA_ARGS__), wanted);              \
        buffer_free(&got);                                                      \
        free(wanted);                                                           \
    } while (0)

ATF_TC_WITHOUT_HEAD(printf_formats);
ATF_TC_BODY(printf_formats, tc)
{
    struct arena *arena = arena_new();
    char text[400] = "";

    CHECK_FORMAT("plain, 100%%");
    CHECK_FORMAT("%s/%s:%c%.*s", "a", "", 'c', 2, "xyz");
    CHECK_FORMAT("%.*s|%.*s|", 9, "short", 0, "none");
    CHECK_FORMAT("%d %d %d %u", 0, INT_MIN, INT_MAX, UINT_MAX);
    CHECK_FORMAT("%ld %ld %lu %lld %lld %llu %zu", LONG_MIN, LONG_MAX, ULONG_MAX, LLONG_MIN, LLONG_MAX, ULLONG_MAX, SIZE_MAX);
    /* Left to the library, also behind what is not. */
    CHECK_FORMAT("%s %5d|%-3s|%02x|%.3f|%zd", "front", 42, "l", 10U, 1.5, (ssize_t)-1);
    CHECK_FORMAT("%x %lx %hu", 255U, 255UL, (unsigned short)7);
    for (size_t size = 0; size + 1 < sizeof(text); size++) {
        CHECK_FORMAT("%s%d", text, 7);
        text[size] = 't';
    }
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, compare);
    ATF_TP_ADD_TC(tp, cut);
    ATF_TP_ADD_TC(tp, find);
    ATF_TP_ADD_TC(tp, split);
    ATF_TP_ADD_TC(tp, numbers);
    ATF_TP_ADD_TC(tp, buffer);
    ATF_TP_ADD_TC(tp, buffer_printf_sizes);
    ATF_TP_ADD_TC(tp, buffer_number);
    ATF_TP_ADD_TC(tp, has_word);
    ATF_TP_ADD_TC(tp, endian);
    ATF_TP_ADD_TC(tp, secret);
    ATF_TP_ADD_TC(tp, printf_formats);
    return atf_no_error();
}
