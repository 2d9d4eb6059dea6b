/* Log lines: the protocol's bytes, splitting, neutralised control bytes, captured lines. */
#include "base/log.h"
#include "base/mem.h"

#include <atf-c.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* What `run` writes to standard error, in a child of its own; *status its exit status. */
static struct buffer output_of(void (*run)(void), int *status)
{
    struct buffer out = {0};
    int ends[2];
    char part[4096];
    ssize_t n;
    pid_t pid;

    ATF_REQUIRE_EQ(pipe(ends), 0);
    pid = fork();
    ATF_REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        run();
        _exit(0);
    }
    close(ends[1]);
    while ((n = read(ends[0], part, sizeof(part))) > 0)
        buffer_append(&out, part, (size_t)n);
    close(ends[0]);
    ATF_REQUIRE_EQ(waitpid(pid, status, 0), pid);
    /* Every line names its pid: the text that is expected has P in its place. */
    snprintf(part, sizeof(part), "%ld", (long)pid);
    for (ptrdiff_t i; (i = slice_find_slice(buffer_slice(&out), slice_from_str(part))) >= 0;)
        buffer_splice(&out, (size_t)i, strlen(part), SLICE("P"));
    return out;
}

static void write_service_lines(void)
{
    struct log session = {.prefix = (char *)"imap(u)<S1>: ", .debug = false};

    log_open_service("imap");
    log_info(NULL, "plain %d", 1);
    log_error(&session, "own prefix");
    log_debug(NULL, "not seen");
    session.debug = true;
    log_debug(&session, "seen");
    log_set_prefix("imap(%s): ", "v\n");
    log_warning(NULL, "forged\n\0019%ld x\ttab\x7f", 1L);
    log_fatal(89, "end");
}

ATF_TC_WITHOUT_HEAD(protocol);
ATF_TC_BODY(protocol, tc)
{
    int status;
    struct buffer out = output_of(write_service_lines, &status);

    ATF_CHECK_STREQ(buffer_cstr(&out), "\001\002P plain 1\n"
                                       "\001\x44P 13 imap(u)<S1>: own prefix\n"
                                       "\001\x41P 13 imap(u)<S1>: seen\n"
                                       "\001\010P prefix=imap(v?): \n"
                                       "\001\003P forged??91 x\ttab?\n"
                                       "\001\005P end\n");
    ATF_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 89);
    buffer_free(&out);
}

static void write_long_line(void)
{
    struct log session = {.prefix = (char *)"imap(u): "};
    char *text = mem_alloc(10001);

    memset(text, 'x', 10000);
    text[10000] = '\0';
    log_open_service("imap");
    log_error(&session, "%s", text);
    mem_free(text);
}

ATF_TC_WITHOUT_HEAD(split);
ATF_TC_BODY(split, tc)
{
    int status;
    struct buffer out = output_of(write_long_line, &status);
    struct slice rest = buffer_slice(&out), line;
    size_t total = 0, lines = 0;

    while (slice_split(&rest, '\n', &line) && line.size > 0) {
        struct slice head = SLICE("\001\x44P 9 imap(u): ");

        lines++;
        ATF_CHECK(line.size + 1 <= PIPE_BUF);
        ATF_REQUIRE(slice_starts(line, head));
        total += line.size - head.size;
    }
    ATF_CHECK_EQ(lines, 3);
    ATF_CHECK_EQ(total, 10000);
    buffer_free(&out);
}

static void write_long_prefix(void)
{
    struct log session;
    char *text = mem_alloc(10001);

    memset(text, 'p', 10000);
    text[10000] = '\0';
    session.prefix = text;
    log_open_service("imap");
    log_error(&session, "text");
    log_set_prefix("%s", text);
    mem_free(text);
}

ATF_TC_WITHOUT_HEAD(long_prefix);
ATF_TC_BODY(long_prefix, tc)
{
    int status;
    struct buffer out = output_of(write_long_prefix, &status);
    struct slice rest = buffer_slice(&out), line;

    ATF_REQUIRE(slice_split(&rest, '\n', &line));
    ATF_CHECK(line.size < PIPE_BUF && slice_ends(line, SLICE("ptext")));
    ATF_REQUIRE(slice_split(&rest, '\n', &line));
    ATF_CHECK(line.size < PIPE_BUF && slice_starts(line, SLICE("\001\010P prefix=ppp")));
    ATF_CHECK_EQ(rest.size, 0);
    buffer_free(&out);
}

static void write_stderr_lines(void)
{
    struct error e;

    log_open_stderr("doveadm(u): ", false);
    log_info(NULL, "note");
    error_set(&e, ERROR_CORRUPT, "uidlist is broken");
    log_error_value(NULL, &e);
    log_open_stderr(NULL, true);
    log_fatal(75, "gone\x1b[2J");
}

ATF_TC_WITHOUT_HEAD(terminal);
ATF_TC_BODY(terminal, tc)
{
    int status;
    struct buffer out = output_of(write_stderr_lines, &status);
    struct slice rest = buffer_slice(&out), line;

    ATF_REQUIRE(slice_split(&rest, '\n', &line));
    ATF_CHECK(slice_equal_str(line, "doveadm(u): Info: note"));
    ATF_REQUIRE(slice_split(&rest, '\n', &line));
    ATF_CHECK(slice_equal_str(line, "doveadm(u): Error: uidlist is broken"));
    ATF_REQUIRE(slice_split(&rest, '\n', &line));
    ATF_CHECK(slice_ends(line, SLICE("Fatal: gone?[2J")));
    ATF_CHECK_EQ(line.size, strlen("Nov 25 12:00:00 Fatal: gone?[2J"));
    ATF_CHECK_EQ(rest.size, 0);
    ATF_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 75);
    buffer_free(&out);
}

static void see_line(void *arg, enum log_level level, const char *prefix, const char *text)
{
    buffer_printf(arg, "%d|%s|%s\n", (int)level, prefix, text);
}

ATF_TC_WITHOUT_HEAD(capture);
ATF_TC_BODY(capture, tc)
{
    struct buffer seen = {0};
    struct log own = {.prefix = (char *)"own: "};

    log_open_stderr("", false);
    log_capture(see_line, &seen);
    errno = EIO;
    log_error(NULL, "one %s", "two");
    ATF_CHECK_EQ_MSG(errno, EIO, "logging keeps errno");
    log_set_debug(true);
    log_debug(&own, "three");
    log_capture(NULL, NULL);
    ATF_CHECK_STREQ(buffer_cstr(&seen), "3||one two\n0|own: |three\n");
    buffer_free(&seen);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, protocol);
    ATF_TP_ADD_TC(tp, split);
    ATF_TP_ADD_TC(tp, long_prefix);
    ATF_TP_ADD_TC(tp, terminal);
    ATF_TP_ADD_TC(tp, capture);
    return atf_no_error();
}
