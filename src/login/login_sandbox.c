/* login_sandbox.c - what a login process can still do once it has clients.
 *
 * The filter is a list of what is allowed; anything else ends the process, which master logs. Sockets: only UNIX
 * ones may be made (auth and the mail service live inside the chroot); files cannot be opened for writing, and after
 * the chroot there are none. Landlock closes the file system where there is no chroot (an ordinary user's ./serve).
 * A build with sanitizers allows what their runtime needs. */
#include "login/sandbox.h"

#include "base/base.h"

#include <errno.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int allowed[] = {
    SCMP_SYS(accept4), SCMP_SYS(brk), SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(close),
    SCMP_SYS(connect), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_wait), SCMP_SYS(eventfd2), SCMP_SYS(exit), SCMP_SYS(exit_group),
    SCMP_SYS(fcntl), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(futex), SCMP_SYS(getpeername),
    SCMP_SYS(getpid), SCMP_SYS(getrandom), SCMP_SYS(getrusage), SCMP_SYS(getsockname), SCMP_SYS(getsockopt),
    SCMP_SYS(gettid), SCMP_SYS(gettimeofday), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(lseek),
    SCMP_SYS(madvise), SCMP_SYS(mmap), SCMP_SYS(mprotect), SCMP_SYS(mremap), SCMP_SYS(munmap),
    SCMP_SYS(nanosleep), SCMP_SYS(pipe2), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(pselect6), SCMP_SYS(read),
    SCMP_SYS(readv), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sched_yield), SCMP_SYS(select), SCMP_SYS(sendmsg),
    SCMP_SYS(sendto), SCMP_SYS(setsockopt), SCMP_SYS(shutdown), SCMP_SYS(sigaltstack), SCMP_SYS(time),
    SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(uname), SCMP_SYS(write), SCMP_SYS(writev),
    SCMP_SYS(tgkill), SCMP_SYS(accept), SCMP_SYS(getppid), SCMP_SYS(ioctl), SCMP_SYS(getegid), SCMP_SYS(getgid),
};

#ifdef SANITIZERS
static const int for_sanitizers[] = {
    SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(clone), SCMP_SYS(clone3),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(prctl), SCMP_SYS(ptrace), SCMP_SYS(wait4), SCMP_SYS(process_vm_readv),
    SCMP_SYS(prlimit64), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(pread64), SCMP_SYS(arch_prctl),
    SCMP_SYS(getdents64), SCMP_SYS(kill), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(access), SCMP_SYS(fork),
};
#endif

void login_sandbox_limits(void)
{
    /* No files are ever written, no cores that hold passwords. */
    const struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_FSIZE, &none);
    (void)setrlimit(RLIMIT_CORE, &none);
#ifndef SANITIZERS
    (void)setrlimit(RLIMIT_NPROC, &none);
#endif
}

/* Nothing of the file system, but for reading and for connecting to sockets; kernels without Landlock go without. */
static bool close_file_system(void)
{
    struct landlock_ruleset_attr attr = {
        .handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
#ifndef SANITIZERS
                             LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
#endif
                             LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                             LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                             LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                             LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM,
    };
    int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    bool closed;

    if (fd < 0)
        return false;
    closed = syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    close(fd);
    return closed;
}

static int install_filter(struct error *e)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int r = filter == NULL ? -ENOMEM : 0;

    for (size_t i = 0; r == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
#ifdef SANITIZERS
    for (size_t i = 0; r == 0 && i < sizeof(for_sanitizers) / sizeof(for_sanitizers[0]); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, for_sanitizers[i], 0);
#else
    /* Time zones, certificates: whoever tries late is told that there is no such file, not killed. */
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(openat), 0);
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(open), 0);
#endif
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_NE, AF_UNIX));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    if (r == 0)
        r = seccomp_load(filter);
    if (filter != NULL)
        seccomp_release(filter);
    if (r == 0)
        return 0;
    errno = -r;
    return error_sys(e, "seccomp", NULL);
}

void login_sandbox_enter(bool ordinary_user)
{
    struct error e;

    tzset(); /* log lines and session ids need no file later */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        log_fatal(EXIT_FATAL, "prctl(PR_SET_NO_NEW_PRIVS) failed: %m");
    if (!close_file_system() && ordinary_user)
        log_debug(NULL, "Landlock is not available: the file system stays readable to this process");
    if (install_filter(&e) < 0)
        log_fatal(EXIT_FATAL, "Can't confine the login process: %s", e.admin);
}
