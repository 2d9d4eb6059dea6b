/* The door to the operating system: what each call does, that each fails where a fault says so and leaves nothing
 * half done, what the trace tells. The build tree needs --enable-faults. */
#include "base/os.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <atf-c.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef FAULTS
#define REQUIRE_FAULTS() atf_tc_skip("build: configure with --enable-faults")
#else
#define REQUIRE_FAULTS() ((void)0)
#endif

static struct error e;

static int make_file(const char *name, const char *text)
{
    int fd = os_create(AT_FDCWD, name, 0644, (gid_t)-1, &e);

    ATF_REQUIRE_MSG(fd >= 0, "%s", e.admin);
    ATF_REQUIRE_EQ(os_write(fd, slice_from_str(text), &e), 0);
    close(fd);
    fd = os_open(AT_FDCWD, name, O_APPEND, &e);
    ATF_REQUIRE(fd >= 0);
    return fd;
}

static void check_content(const char *name, const char *text)
{
    struct buffer b = {0};

    ATF_REQUIRE_EQ_MSG(os_read_file(AT_FDCWD, name, 1 << 20, &b, &e), 0, "%s", e.admin);
    ATF_CHECK_STREQ(buffer_cstr(&b), text);
    buffer_free(&b);
}

ATF_TC_WITHOUT_HEAD(files);
ATF_TC_BODY(files, tc)
{
    struct stat st;
    int fd, dir;
    struct buffer b = {0};

    umask(0);
    ATF_REQUIRE_EQ(os_mkdir(AT_FDCWD, "d", 0750, (gid_t)-1, &e), 0);
    ATF_CHECK_EQ(os_mkdir(AT_FDCWD, "d", 0750, (gid_t)-1, &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_EXISTS);
    dir = os_open(AT_FDCWD, "d", O_DIRECTORY, &e);
    ATF_REQUIRE(dir >= 0);
    fd = os_create(dir, "f", 0640, getgid(), &e);
    ATF_REQUIRE(fd >= 0);
    ATF_CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    ATF_REQUIRE_EQ(fstat(fd, &st), 0);
    ATF_CHECK_EQ(st.st_mode & 07777, 0640);
    ATF_CHECK_EQ(os_create(dir, "f", 0640, (gid_t)-1, &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_EXISTS);
    ATF_CHECK_EQ(os_write(fd, SLICE("hello "), &e), 0);
    ATF_CHECK_EQ(os_write(fd, SLICE("world"), &e), 0);
    ATF_CHECK_EQ(os_pwrite(fd, SLICE("J"), 0, &e), 0);
    ATF_CHECK_EQ(os_sync(fd, &e), 0);
    ATF_CHECK_EQ(os_sync(dir, &e), 0);
    check_content("d/f", "Jello world");
    ATF_CHECK_EQ(os_pread(fd, 6, 3, &b, &e), 3);
    ATF_CHECK_EQ(os_pread(fd, 9, 100, &b, &e), 2);
    ATF_CHECK_EQ(os_pread(fd, 11, 100, &b, &e), 0);
    ATF_CHECK_STREQ(buffer_cstr(&b), "world");
    ATF_CHECK_EQ(os_truncate(fd, 5, &e), 0);
    check_content("d/f", "Jello");
    ATF_CHECK_EQ(os_set_mode(fd, 0600, &e), 0);
    ATF_CHECK_EQ(os_set_times(dir, "f", 1234567, &e), 0);
    ATF_REQUIRE_EQ(fstat(fd, &st), 0);
    ATF_CHECK_EQ(st.st_mtime, 1234567);
    ATF_CHECK_EQ(st.st_mode & 07777, 0600);
    close(fd);
    ATF_CHECK_EQ(os_link(dir, "f", dir, "g", &e), 0);
    ATF_CHECK_EQ(os_link(dir, "f", dir, "g", &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_EXISTS);
    ATF_CHECK_EQ(os_rename(dir, "g", AT_FDCWD, "h", &e), 0);
    check_content("h", "Jello");
    ATF_CHECK_EQ(os_symlink("d/f", AT_FDCWD, "s", &e), 0);
    check_content("s", "Jello");
    ATF_CHECK_EQ_MSG(os_create(AT_FDCWD, "s", 0600, (gid_t)-1, &e), -1, "never through a link");
    ATF_CHECK_EQ(os_rmdir(AT_FDCWD, "d", &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_EXISTS);
    ATF_CHECK_EQ(os_unlink(dir, "f", &e), 0);
    ATF_CHECK_EQ(os_unlink(dir, "f", &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_NOT_FOUND);
    ATF_CHECK_EQ(os_rmdir(AT_FDCWD, "d", &e), 0);
    close(dir);
    buffer_free(&b);
}

ATF_TC_WITHOUT_HEAD(mkdir_parents);
ATF_TC_BODY(mkdir_parents, tc)
{
    char cwd[4096], *path;
    struct stat st;

    umask(0);
    ATF_CHECK_EQ(os_mkdir_parents(AT_FDCWD, "a/b/c", 0711, (gid_t)-1, &e), 0);
    ATF_CHECK_EQ(os_mkdir_parents(AT_FDCWD, "a/b/c", 0711, (gid_t)-1, &e), 0);
    ATF_CHECK_EQ(os_mkdir_parents(AT_FDCWD, "a/b/c/d/", 0700, (gid_t)-1, &e), 0);
    ATF_REQUIRE_EQ(stat("a/b", &st), 0);
    ATF_CHECK_EQ(st.st_mode & 07777, 0711);
    ATF_REQUIRE(getcwd(cwd, sizeof(cwd)) != NULL);
    path = mem_printf("%s//x/y", cwd);
    ATF_CHECK_EQ(os_mkdir_parents(AT_FDCWD, path, 0700, (gid_t)-1, &e), 0);
    ATF_CHECK_EQ(stat("x/y", &st), 0);
    mem_free(path);
    close(make_file("file", ""));
    ATF_CHECK_EQ(os_mkdir_parents(AT_FDCWD, "file/b", 0700, (gid_t)-1, &e), -1);
    ATF_CHECK_EQ(os_mkdir_parents(AT_FDCWD, "file", 0700, (gid_t)-1, &e), -1);
}

ATF_TC_WITHOUT_HEAD(read_file);
ATF_TC_BODY(read_file, tc)
{
    struct buffer b = {0};

    buffer_append_str(&b, "kept");
    ATF_CHECK_EQ(os_read_file(AT_FDCWD, "none", 10, &b, &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_NOT_FOUND);
    close(make_file("f", "0123456789"));
    ATF_CHECK_EQ(os_read_file(AT_FDCWD, "f", 9, &b, &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_LIMIT);
    ATF_CHECK_EQ(os_mkdir(AT_FDCWD, "d", 0700, (gid_t)-1, &e), 0);
    ATF_CHECK_EQ(os_read_file(AT_FDCWD, "d", 9, &b, &e), -1);
    ATF_CHECK_STREQ(buffer_cstr(&b), "kept");
    ATF_CHECK_EQ(os_read_file(AT_FDCWD, "f", 10, &b, &e), 0);
    ATF_CHECK_STREQ(buffer_cstr(&b), "0123456789");
    buffer_free(&b);
}

/* A job that makes each kind of call once. -> 0, or -1 at the first failure. */
static int do_every_call(enum os_lock *lock)
{
    struct error ignored;
    int fd, r;

    fd = os_create(AT_FDCWD, "f", 0600, (gid_t)-1, &e);
    if (fd < 0)
        return -1;
    r = os_write(fd, SLICE("abc"), &e);
    if (r == 0)
        r = os_pwrite(fd, SLICE("x"), 1, &e);
    if (r == 0)
        r = os_truncate(fd, 2, &e);
    if (r == 0)
        r = os_sync(fd, &e);
    if (r == 0) {
        *lock = os_lock_fd(fd, OS_LOCK_FCNTL, &e);
        r = *lock == OS_GOT ? 0 : -1;
    }
    if (r == 0)
        r = os_set_mode(fd, 0640, &e);
    close(fd);
    if (r == 0)
        r = os_link(AT_FDCWD, "f", AT_FDCWD, "g", &e);
    if (r == 0)
        r = os_rename(AT_FDCWD, "g", AT_FDCWD, "h", &e);
    if (r == 0)
        r = os_mkdir(AT_FDCWD, "d", 0700, (gid_t)-1, &e);
    if (r == 0)
        r = os_rmdir(AT_FDCWD, "d", &e);
    if (r == 0)
        r = os_unlink(AT_FDCWD, "h", &e);
    os_fault_arm(NULL);
    os_unlink(AT_FDCWD, "f", &ignored);
    os_unlink(AT_FDCWD, "g", &ignored);
    os_unlink(AT_FDCWD, "h", &ignored);
    os_rmdir(AT_FDCWD, "d", &ignored);
    return r;
}

static void count_event(void *arg, const struct os_event *event)
{
    unsigned *counts = arg;

    if (event->err == 0)
        counts[event->call]++;
}

ATF_TC_WITHOUT_HEAD(every_call_fails);
ATF_TC_BODY(every_call_fails, tc)
{
    enum { CALLS = 12 };
    enum os_lock lock = OS_GOT;
    unsigned counts[OS_CALLS];
    uint64_t before;

    REQUIRE_FAULTS();
    for (uint64_t at = 1; at <= CALLS; at++) {
        memset(counts, 0, sizeof(counts));
        os_trace(count_event, counts);
        os_fault_arm(&(struct os_fault){.at = at, .how = OS_FAIL, .err = EDQUOT});
        before = os_count();
        error_clear(&e);
        ATF_CHECK_EQ_MSG(do_every_call(&lock), -1, "call %u", (unsigned)at);
        ATF_CHECK_EQ(e.class, ERROR_QUOTA);
        ATF_CHECK_EQ(e.sys, EDQUOT);
        ATF_CHECK(os_count() - before >= at);
        os_trace(NULL, NULL);
    }
    memset(counts, 0, sizeof(counts));
    os_trace(count_event, counts);
    os_fault_arm(&(struct os_fault){.at = CALLS + 1, .how = OS_FAIL});
    ATF_CHECK_EQ(do_every_call(&lock), 0);
    os_trace(NULL, NULL);
    for (unsigned i = 0; i < OS_CALLS; i++)
        ATF_CHECK_MSG(counts[i] >= 1, "%s is not part of this test", os_call_name(i));
}

ATF_TC_WITHOUT_HEAD(selected_calls);
ATF_TC_BODY(selected_calls, tc)
{
    int fd;

    REQUIRE_FAULTS();
    fd = make_file("f", "");
    os_fault_arm(&(struct os_fault){.at = 2, .calls = 1u << OS_SYNC, .how = OS_FAIL});
    ATF_CHECK_EQ(os_sync(fd, &e), 0);
    ATF_CHECK_EQ(os_append(fd, SLICE("x"), &e), 0);
    ATF_CHECK_EQ(os_sync(fd, &e), -1);
    ATF_CHECK_EQ(os_sync(fd, &e), 0);
    os_fault_arm(&(struct os_fault){.at = 2, .calls = 1u << OS_SYNC, .how = OS_FAIL, .stays = true});
    ATF_CHECK_EQ(os_sync(fd, &e), 0);
    ATF_CHECK_EQ(os_sync(fd, &e), -1);
    ATF_CHECK_EQ(os_sync(fd, &e), -1);
    os_fault_arm(NULL);
    close(fd);
}

ATF_TC_WITHOUT_HEAD(append_all_or_nothing);
ATF_TC_BODY(append_all_or_nothing, tc)
{
    int fd;

    REQUIRE_FAULTS();
    fd = make_file("f", "before");
    for (size_t keep = 0; keep <= 5; keep++) {
        os_fault_arm(&(struct os_fault){.at = 1, .how = OS_SHORT, .keep = keep});
        ATF_CHECK_EQ(os_append(fd, SLICE("after"), &e), -1);
        ATF_CHECK_EQ(e.class, ERROR_SPACE);
        check_content("f", "before");
    }
    /* The truncation fails as well: the error says both, the caller's reader copes with a tail. */
    os_fault_arm(&(struct os_fault){.at = 1, .how = OS_SHORT, .keep = 2, .stays = true});
    ATF_CHECK_EQ(os_append(fd, SLICE("after"), &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_SPACE);
    ATF_CHECK(strstr(e.admin, "ftruncate") != NULL);
    check_content("f", "beforeaf");
    os_fault_arm(NULL);
    ATF_CHECK_EQ(os_append(fd, SLICE("ter"), &e), 0);
    check_content("f", "beforeafter");
    close(fd);
}

/* Exit status of a child that appends and creates while a fault of the environment is armed. */
static int child_status(const char *fault)
{
    int status, fd;
    pid_t pid = fork();

    ATF_REQUIRE(pid >= 0);
    if (pid == 0) {
        setenv("YARILO_FAULT", fault, 1);
        os_fault_from_env();
        fd = os_open(AT_FDCWD, "f", O_APPEND, &e);
        if (fd < 0 || os_append(fd, SLICE("1"), &e) < 0 || os_append(fd, SLICE("2"), &e) < 0)
            _exit(1);
        _exit(0);
    }
    ATF_REQUIRE_EQ(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

ATF_TC_WITHOUT_HEAD(faults_of_environment);
ATF_TC_BODY(faults_of_environment, tc)
{
    static const char *const bad[] = {
        "", "at=0", "at=x", "how=fail", "at=1,calls=fly", "at=1,how=perhaps", "at=1,err=EFOO", "at=1,often"};

    REQUIRE_FAULTS();
    close(make_file("f", ""));
    ATF_CHECK_EQ(child_status("at=2"), OS_FAULT_EXIT);
    check_content("f", "1");
    ATF_CHECK_EQ(child_status("at=2,how=exit-after"), OS_FAULT_EXIT);
    check_content("f", "112");
    ATF_CHECK_EQ(child_status("at=1,calls=write+sync,how=fail,err=ENOSPC"), 1);
    check_content("f", "112");
    ATF_CHECK_EQ(child_status("at=1,how=short,keep=1,stays"), 1);
    ATF_CHECK_EQ(child_status("at=99,how=exit-before"), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_EQ_MSG(child_status(bad[i]), EXIT_FATAL, "%s", bad[i]);
}

ATF_TC_WITHOUT_HEAD(trace);
ATF_TC_BODY(trace, tc)
{
    struct buffer out = {0}, want = {0};
    char cwd[4096], number[16];
    int fd, out_fd = open("trace", O_CREAT | O_RDWR, 0600);

    ATF_REQUIRE(out_fd >= 0 && getcwd(cwd, sizeof(cwd)) != NULL);
    snprintf(number, sizeof(number), "%d", out_fd);
    setenv("YARILO_TRACE_FD", number, 1);
    os_fault_from_env();
    ATF_REQUIRE_EQ(os_mkdir(AT_FDCWD, "new\n", 0700, (gid_t)-1, &e), 0);
    fd = os_create(AT_FDCWD, "tmp", 0600, (gid_t)-1, &e);
    ATF_REQUIRE(fd >= 0);
    ATF_CHECK_EQ(os_write(fd, SLICE("12345"), &e), 0);
    ATF_CHECK_EQ(os_sync(fd, &e), 0);
    ATF_CHECK_EQ(os_rename(AT_FDCWD, "tmp", AT_FDCWD, "new\n/m", &e), 0);
    ATF_CHECK_EQ(os_unlink(AT_FDCWD, "gone", &e), -1);
    os_trace(NULL, NULL);
    buffer_printf(&want,
                  "1\tmkdir\t%s/new\001n\t0\t0\n2\tcreate\t%s/tmp\t0\t0\n3\twrite\t%s/tmp\t5\t0\n"
                  "4\tsync\t%s/tmp\t0\t0\n5\trename\t%s/new\001n/m\t0\t0\t%s/tmp\n6\tunlink\t%s/gone\t0\t%d\n",
                  cwd, cwd, cwd, cwd, cwd, cwd, cwd, ENOENT);
    ATF_REQUIRE(os_read_file(AT_FDCWD, "trace", 1 << 20, &out, &e) == 0);
    ATF_CHECK_STREQ(buffer_cstr(&out), buffer_cstr(&want));
    close(fd);
    close(out_fd);
    buffer_free(&out);
    buffer_free(&want);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, files);
    ATF_TP_ADD_TC(tp, mkdir_parents);
    ATF_TP_ADD_TC(tp, read_file);
    ATF_TP_ADD_TC(tp, every_call_fails);
    ATF_TP_ADD_TC(tp, selected_calls);
    ATF_TP_ADD_TC(tp, append_all_or_nothing);
    ATF_TP_ADD_TC(tp, faults_of_environment);
    ATF_TP_ADD_TC(tp, trace);
    return atf_no_error();
}
