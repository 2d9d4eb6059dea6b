/* Locks between opens of one process and between processes, dotlocks, the sync pool. */
#include "base/log.h"
#include "base/os.h"

#include <atf-c.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct error e;

static int open_file(void)
{
    int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    ATF_REQUIRE(fd >= 0);
    return fd;
}

/* A child that holds a lock as Dovecot would: it says when it has it, and lets go when it is told. */
struct holder {
    pid_t pid;
    int to, from;
};

static struct holder start_holder(bool use_flock)
{
    struct holder h;
    int there[2], back[2];
    char byte;

    ATF_REQUIRE(pipe(there) == 0 && pipe(back) == 0);
    h.pid = fork();
    ATF_REQUIRE(h.pid >= 0);
    if (h.pid == 0) {
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open("f", O_RDWR);

        if ((use_flock ? flock(fd, LOCK_EX | LOCK_NB) : fcntl(fd, F_SETLK, &range)) < 0)
            _exit(1);
        if (write(back[1], "l", 1) != 1 || read(there[0], &byte, 1) != 1)
            _exit(2);
        _exit(0);
    }
    h.to = there[1];
    h.from = back[0];
    close(there[0]);
    close(back[1]);
    ATF_REQUIRE_EQ(read(h.from, &byte, 1), 1);
    return h;
}

static void end_holder(struct holder h)
{
    int status;

    ATF_REQUIRE_EQ(write(h.to, "x", 1), 1);
    ATF_REQUIRE_EQ(waitpid(h.pid, &status, 0), h.pid);
    ATF_CHECK_EQ(status, 0);
    close(h.to);
    close(h.from);
}

/* Whether a process that uses plain fcntl locks finds the file locked. */
static bool other_process_is_kept_out(void)
{
    int status;
    pid_t pid = fork();

    ATF_REQUIRE(pid >= 0);
    if (pid == 0) {
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open("f", O_RDWR);

        _exit(fcntl(fd, F_SETLK, &range) < 0 && (errno == EAGAIN || errno == EACCES) ? 1 : 0);
    }
    ATF_REQUIRE_EQ(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status) == 1;
}

ATF_TC_WITHOUT_HEAD(between_two_opens);
ATF_TC_BODY(between_two_opens, tc)
{
    static const enum os_lock_method methods[] = {OS_LOCK_FCNTL, OS_LOCK_FLOCK};
    int a = open_file(), b = open_file(), c;

    for (size_t i = 0; i < 2; i++) {
        ATF_CHECK_EQ(os_lock_fd(a, methods[i], &e), OS_GOT);
        ATF_CHECK_EQ(os_lock_fd(b, methods[i], &e), OS_BUSY);
        ATF_CHECK_EQ(os_lock_fd_shared(b, methods[i], &e), OS_BUSY);
        c = open_file();
        close(c); /* the close of another descriptor does not drop the lock, as that of a POSIX lock would */
        ATF_CHECK_EQ(os_lock_fd(b, methods[i], &e), OS_BUSY);
        os_unlock_fd(a, methods[i]);
        ATF_CHECK_EQ(os_lock_fd_shared(b, methods[i], &e), OS_GOT);
        ATF_CHECK_EQ(os_lock_fd_shared(a, methods[i], &e), OS_GOT);
        ATF_CHECK_EQ(os_lock_fd(a, methods[i], &e), OS_BUSY);
        os_unlock_fd(a, methods[i]);
        os_unlock_fd(b, methods[i]);
    }
    close(a);
    close(b);
    ATF_CHECK_EQ(os_lock_fd(-1, OS_LOCK_FCNTL, &e), OS_LOCK_ERROR);
    ATF_CHECK_EQ(e.sys, EBADF);
}

ATF_TC_WITHOUT_HEAD(against_fcntl);
ATF_TC_BODY(against_fcntl, tc)
{
    int fd = open_file();
    struct holder h = start_holder(false);

    ATF_CHECK_EQ(os_lock_fd(fd, OS_LOCK_FCNTL, &e), OS_BUSY);
    end_holder(h);
    ATF_CHECK_EQ(os_lock_fd(fd, OS_LOCK_FCNTL, &e), OS_GOT);
    ATF_CHECK(other_process_is_kept_out());
    os_unlock_fd(fd, OS_LOCK_FCNTL);
    ATF_CHECK(!other_process_is_kept_out());
    close(fd);
}

ATF_TC_WITHOUT_HEAD(against_flock);
ATF_TC_BODY(against_flock, tc)
{
    int fd = open_file();
    struct holder h = start_holder(true);

    ATF_CHECK_EQ(os_lock_fd(fd, OS_LOCK_FLOCK, &e), OS_BUSY);
    end_holder(h);
    ATF_CHECK_EQ(os_lock_fd(fd, OS_LOCK_FLOCK, &e), OS_GOT);
    close(fd);
}

static void check_lock_text(const char *name)
{
    char want[HOST_NAME_MAX + 32], host[HOST_NAME_MAX + 1] = "";
    struct buffer text = {0};

    gethostname(host, sizeof(host) - 1);
    snprintf(want, sizeof(want), "%ld:%s", (long)getpid(), host);
    ATF_REQUIRE_EQ(os_read_file(AT_FDCWD, name, 4096, &text, &e), 0);
    ATF_CHECK_STREQ(buffer_cstr(&text), want);
    buffer_free(&text);
}

ATF_TC_WITHOUT_HEAD(dotlock);
ATF_TC_BODY(dotlock, tc)
{
    struct os_dotlock *a = NULL, *b = NULL;
    struct stat st;

    ATF_REQUIRE_EQ_MSG(os_dotlock_try(AT_FDCWD, "l.lock", 120, &a, &e), OS_GOT, "%s", e.admin);
    check_lock_text("l.lock");
    ATF_CHECK_EQ_MSG(os_dotlock_try(AT_FDCWD, "l.lock", 120, &b, &e), OS_BUSY,
                     "the registry keeps out a second session");
    ATF_CHECK(b == NULL);
    ATF_CHECK_EQ(os_dotlock_try(AT_FDCWD, "m.lock", 120, &b, &e), OS_GOT);
    ATF_CHECK(os_dotlock_touch(b));
    os_dotlock_release(&b);
    ATF_CHECK(b == NULL);
    os_dotlock_release(&b);
    os_dotlock_release(&a);
    ATF_CHECK_EQ(stat("l.lock", &st), -1);
    ATF_CHECK_EQ(os_dotlock_try(AT_FDCWD, "l.lock", 120, &a, &e), OS_GOT);
    os_dotlock_release(&a);
    ATF_CHECK_EQ(os_dotlock_try(AT_FDCWD, "none/l.lock", 120, &a, &e), OS_LOCK_ERROR);
    ATF_CHECK_EQ(e.class, ERROR_NOT_FOUND);
}

/* Writes a lock of somebody else, last changed `age` seconds ago by its mtime. */
static void put_lock(const char *name, const char *text, time_t age)
{
    struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    FILE *f = fopen(name, "w");

    ATF_REQUIRE(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
    ATF_REQUIRE_EQ(utimensat(AT_FDCWD, name, times, 0), 0);
}

static pid_t dead_pid(void)
{
    pid_t pid = fork();

    ATF_REQUIRE(pid >= 0);
    if (pid == 0)
        _exit(0);
    ATF_REQUIRE_EQ(waitpid(pid, NULL, 0), pid);
    return pid;
}

ATF_TC_WITHOUT_HEAD(dotlock_stale);
ATF_TC_BODY(dotlock_stale, tc)
{
    struct os_dotlock *lock = NULL;
    char host[HOST_NAME_MAX + 1] = "", text[HOST_NAME_MAX + 32];

    gethostname(host, sizeof(host) - 1);
    snprintf(text, sizeof(text), "%ld:%s", (long)getppid(), host);
    put_lock("living.lock", text, 100000);
    ATF_CHECK_EQ_MSG(os_dotlock_try(AT_FDCWD, "living.lock", 1, &lock, &e), OS_BUSY,
                     "a living pid is never overridden");

    snprintf(text, sizeof(text), "%ld:%s", (long)dead_pid(), host);
    put_lock("dead.lock", text, 0);
    ATF_CHECK_EQ(os_dotlock_try(AT_FDCWD, "dead.lock", 0, &lock, &e), OS_GOT);
    check_lock_text("dead.lock");
    os_dotlock_release(&lock);

    snprintf(text, sizeof(text), "%ld:%s", (long)getpid(), host);
    put_lock("own.lock", text, 0);
    ATF_CHECK_EQ_MSG(os_dotlock_try(AT_FDCWD, "own.lock", 0, &lock, &e), OS_GOT, "our number, but not our lock");
    os_dotlock_release(&lock);

    /* Another host's is judged by time alone, and its ctime is now. */
    put_lock("far.lock", "1:another.host.invalid", 100000);
    ATF_CHECK_EQ(os_dotlock_try(AT_FDCWD, "far.lock", 120, &lock, &e), OS_BUSY);
    ATF_CHECK_EQ(os_dotlock_try(AT_FDCWD, "far.lock", 0, &lock, &e), OS_BUSY);
    put_lock("empty.lock", "", 100000);
    ATF_CHECK_EQ(os_dotlock_try(AT_FDCWD, "empty.lock", 120, &lock, &e), OS_BUSY);
}

/* Many processes fight for a lock whose holders die with it: never two have it at once. */
ATF_TC_WITHOUT_HEAD(dotlock_race);
ATF_TC_BODY(dotlock_race, tc)
{
    enum { CHILDREN = 8, TURNS = 200 };
    struct os_dotlock *lock = NULL;
    int status, fd = open("turns", O_RDWR | O_CREAT, 0600);

    ATF_REQUIRE(fd >= 0);
    for (unsigned i = 0; i < CHILDREN; i++) {
        pid_t pid = fork();

        ATF_REQUIRE(pid >= 0);
        if (pid > 0)
            continue;
        for (unsigned turn = 0; turn < TURNS;) {
            if (fork() > 0) { /* a grandchild takes the lock and dies without giving it back */
                wait(&status);
                if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
                    _exit(2);
                turn += WEXITSTATUS(status) == 0;
                continue;
            }
            if (os_dotlock_try(AT_FDCWD, "race.lock", 0, &lock, &e) != OS_GOT)
                _exit(1);
            int inside = open("inside", O_CREAT | O_EXCL | O_WRONLY, 0600);
            if (inside < 0)
                _exit(3); /* somebody else is inside as well */
            unlink("inside");
            if (write(fd, "x", 1) != 1)
                _exit(4);
            _exit(0);
        }
        _exit(0);
    }
    for (unsigned i = 0; i < CHILDREN; i++) {
        ATF_REQUIRE(wait(&status) > 0);
        ATF_CHECK_EQ(status, 0);
    }
    ATF_CHECK_EQ(lseek(fd, 0, SEEK_END), CHILDREN * TURNS);
    close(fd);
}

ATF_TC_WITHOUT_HEAD(dotlock_replace);
ATF_TC_BODY(dotlock_replace, tc)
{
    static const struct os_dotlock_options replaces = {.mode = 0640, .stale_secs = 30, .replaces = true};
    struct os_dotlock *lock = NULL, *other = NULL;
    struct buffer text = {0};
    struct stat st;

    umask(0);
    ATF_REQUIRE_EQ(os_dotlock_try_with(AT_FDCWD, "subs.lock", &replaces, &lock, &e), OS_GOT);
    ATF_REQUIRE_EQ(fstat(os_dotlock_fd(lock), &st), 0);
    ATF_CHECK_EQ(st.st_mode & 07777, 0640);
    ATF_CHECK_EQ_MSG(st.st_size, 0, "the lock is the new file; it must not begin with a pid");
    ATF_CHECK_EQ(os_dotlock_try_with(AT_FDCWD, "subs.lock", &replaces, &other, &e), OS_BUSY);
    ATF_CHECK_EQ(os_write(os_dotlock_fd(lock), SLICE("INBOX\n"), &e), 0);
    ATF_CHECK_EQ(os_dotlock_replace(&lock, "subs", &e), 0);
    ATF_CHECK(lock == NULL);
    ATF_REQUIRE_EQ(os_read_file(AT_FDCWD, "subs", 100, &text, &e), 0);
    ATF_CHECK_STREQ(buffer_cstr(&text), "INBOX\n");
    ATF_CHECK_EQ(stat("subs.lock", &st), -1);
    buffer_free(&text);
}

static void see_line(void *arg, enum log_level level, const char *prefix, const char *text)
{
    buffer_printf(arg, "%d%s%s\n", (int)level, prefix, text);
}

ATF_TC_WITHOUT_HEAD(dotlock_lost);
ATF_TC_BODY(dotlock_lost, tc)
{
    struct os_dotlock *lock = NULL;
    struct buffer seen = {0}, text = {0};

    log_open_stderr("", false);
    log_capture(see_line, &seen);
    ATF_REQUIRE_EQ(os_dotlock_try(AT_FDCWD, "l.lock", 120, &lock, &e), OS_GOT);
    ATF_REQUIRE_EQ(rename("l.lock", "was"), 0); /* the inode stays in use: the next file has another one */
    put_lock("l.lock", "1:thief", 0);
    ATF_CHECK(!os_dotlock_touch(lock));
    os_dotlock_release(&lock);
    ATF_CHECK(strstr(buffer_cstr(&seen), "2Our dotlock file l.lock was overridden (locked ") != NULL);
    ATF_REQUIRE_EQ(os_read_file(AT_FDCWD, "l.lock", 100, &text, &e), 0);
    ATF_CHECK_STREQ_MSG(buffer_cstr(&text), "1:thief", "what is not ours stays");

    ATF_REQUIRE_EQ(unlink("l.lock"), 0);
    ATF_REQUIRE_EQ(os_dotlock_try(AT_FDCWD, "l.lock", 120, &lock, &e), OS_GOT);
    ATF_REQUIRE_EQ(unlink("l.lock"), 0);
    ATF_CHECK_EQ(os_dotlock_replace(&lock, "target", &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_TEMPORARY);
    ATF_CHECK(lock == NULL);
    ATF_CHECK_EQ(access("target", F_OK), -1);
    log_capture(NULL, NULL);
    buffer_free(&seen);
    buffer_free(&text);
}

ATF_TC_WITHOUT_HEAD(dotlock_after_fork);
ATF_TC_BODY(dotlock_after_fork, tc)
{
    struct os_dotlock *lock = NULL, *other = NULL;
    int status;
    pid_t pid;

    ATF_REQUIRE_EQ(os_dotlock_try(AT_FDCWD, "l.lock", 120, &lock, &e), OS_GOT);
    pid = fork();
    ATF_REQUIRE(pid >= 0);
    if (pid == 0) {
        os_dotlock_release(&lock); /* frees the child's memory; the lock is the parent's */
        _exit(os_dotlock_try(AT_FDCWD, "l.lock", 120, &other, &e) == OS_BUSY ? 0 : 1);
    }
    ATF_REQUIRE_EQ(waitpid(pid, &status, 0), pid);
    ATF_CHECK_EQ(status, 0);
    ATF_CHECK_EQ(access("l.lock", F_OK), 0);
    os_dotlock_release(&lock);
}

struct tally {
    unsigned done, failed;
};

static void count_done(void *arg, const struct error *error)
{
    struct tally *t = arg;

    t->done++;
    t->failed += error->class != ERROR_NONE;
}

ATF_TC_WITHOUT_HEAD(sync_inline);
ATF_TC_BODY(sync_inline, tc)
{
    struct tally t = {0, 0};
    int fd = open_file(), bad = -1;

    ATF_CHECK_EQ(os_sync_fd(), -1);
    os_sync_submit(&fd, 1, count_done, &t);
    ATF_CHECK_EQ(t.done, 1);
    ATF_CHECK_EQ(t.failed, 0);
    os_sync_submit(&bad, 1, count_done, &t);
    ATF_CHECK_EQ(t.failed, 1);
    os_sync_submit(NULL, 0, count_done, &t);
    ATF_CHECK_EQ(t.done, 3);
    ATF_CHECK_EQ(t.failed, 1);
    close(fd);
}

ATF_TC_WITHOUT_HEAD(sync_pool);
ATF_TC_BODY(sync_pool, tc)
{
    enum { JOBS = 200 };
    struct tally t = {0, 0};
    uint64_t before = os_count();
    int dir = open(".", O_RDONLY | O_DIRECTORY), fd = open_file(), both[2] = {fd, dir}, bad[2] = {fd, -1};

    ATF_REQUIRE_EQ_MSG(os_sync_pool_start(4, &e), 0, "%s", e.admin);
    ATF_REQUIRE(os_sync_fd() >= 0);
    for (unsigned i = 0; i < JOBS; i++)
        os_sync_submit(i % 10 == 0 ? bad : both, 2, count_done, &t);
    while (t.done < JOBS) {
        struct pollfd wait = {os_sync_fd(), POLLIN, 0};

        ATF_REQUIRE_EQ_MSG(poll(&wait, 1, 60000), 1, "%u done", t.done);
        os_sync_poll();
    }
    ATF_CHECK_EQ(t.failed, JOBS / 10);
    ATF_CHECK_EQ(os_count() - before, JOBS * 2);
    for (unsigned i = 0; i < 20; i++)
        os_sync_submit(both, 2, count_done, &t);
    os_sync_pool_stop();
    ATF_CHECK_EQ_MSG(t.done, JOBS + 20, "stop waits for what was submitted");
    ATF_CHECK_EQ(os_sync_fd(), -1);
    os_sync_submit(both, 2, count_done, &t);
    ATF_CHECK_EQ(t.done, JOBS + 21);
    close(fd);
    close(dir);
}

ATF_TC_WITHOUT_HEAD(sync_pool_faults);
ATF_TC_BODY(sync_pool_faults, tc)
{
    struct tally t = {0, 0};
    int fd = open_file();

#ifndef FAULTS
    atf_tc_skip("build: configure with --enable-faults");
#endif
    ATF_REQUIRE_EQ(os_sync_pool_start(2, &e), 0);
    os_fault_arm(&(struct os_fault){.at = 2, .calls = 1u << OS_SYNC, .how = OS_FAIL});
    os_sync_submit(&fd, 1, count_done, &t);
    ATF_CHECK_EQ_MSG(t.done, 1, "inline while a fault is armed");
    ATF_CHECK_EQ(t.failed, 0);
    os_sync_submit(&fd, 1, count_done, &t);
    ATF_CHECK_EQ(t.failed, 1);
    os_fault_arm(NULL);
    os_sync_pool_stop();
    close(fd);
}

/* What is done sooner than a thread can be woken is done in place: sooner or later a file in memory is that quick. */
ATF_TC_WITHOUT_HEAD(sync_at_once);
ATF_TC_BODY(sync_at_once, tc)
{
    struct tally t = {0, 0};
    int fd = memfd_create("quick", MFD_CLOEXEC), at_once = 0;

    ATF_REQUIRE(fd >= 0);
    ATF_REQUIRE_EQ_MSG(os_sync_pool_start(2, &e), 0, "%s", e.admin);
    for (int i = 0; i < 10000 && at_once < 3; i++) {
        unsigned before = t.done;

        os_sync_submit(&fd, 1, count_done, &t);
        at_once += t.done > before;
        while (t.done == before) {
            struct pollfd wait = {os_sync_fd(), POLLIN, 0};

            ATF_REQUIRE_EQ(poll(&wait, 1, 10000), 1);
            os_sync_poll();
        }
    }
    ATF_CHECK_EQ(at_once, 3);
    ATF_CHECK_EQ(t.failed, 0);
    os_sync_pool_stop();
    close(fd);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, between_two_opens);
    ATF_TP_ADD_TC(tp, against_fcntl);
    ATF_TP_ADD_TC(tp, against_flock);
    ATF_TP_ADD_TC(tp, dotlock);
    ATF_TP_ADD_TC(tp, dotlock_stale);
    ATF_TP_ADD_TC(tp, dotlock_race);
    ATF_TP_ADD_TC(tp, dotlock_replace);
    ATF_TP_ADD_TC(tp, dotlock_lost);
    ATF_TP_ADD_TC(tp, dotlock_after_fork);
    ATF_TP_ADD_TC(tp, sync_inline);
    ATF_TP_ADD_TC(tp, sync_pool);
    ATF_TP_ADD_TC(tp, sync_at_once);
    ATF_TP_ADD_TC(tp, sync_pool_faults);
    return atf_no_error();
}
