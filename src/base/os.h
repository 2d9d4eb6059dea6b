/* The one door to the operating system's mutating calls.
 *
 * Everything that changes a file system goes through here, so that a test can count the calls, end the process at
 * the N-th, let call N fail, and read the order of writes and syncs. Names are relative to an open folder (dirfd;
 * AT_FDCWD allowed), so that a path is made in one place. All descriptors are O_CLOEXEC. What is created never goes
 * through a symbolic link; opening follows them, since administrators link folders and files into mail stores, and a
 * process that opens mail has no more rights than its user.
 *
 * Calls fill *e (error_sys) and return -1; they retry EINTR. */
#ifndef YARILO_BASE_OS_H
#define YARILO_BASE_OS_H

#include "base/error.h"
#include "base/slice.h"

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

enum os_call {
    OS_CREATE, OS_WRITE, OS_PWRITE, OS_TRUNCATE, OS_SYNC, OS_LINK, OS_RENAME, OS_UNLINK, OS_MKDIR, OS_RMDIR,
    OS_ATTR, OS_LOCK, OS_CALLS
};
const char *os_call_name(enum os_call);

/* Fault injection: compiled in with --enable-faults, else os_fault_arm does nothing. */
struct os_fault {
    uint64_t at;    /* fires at this count of the calls selected below, 1 = the first */
    uint32_t calls; /* bit per enum os_call; 0 = all */
    enum { OS_EXIT_BEFORE, OS_EXIT_AFTER, OS_FAIL, OS_SHORT } how;
    int err;        /* errno for OS_FAIL (EIO when 0) and for OS_SHORT (ENOSPC when 0) */
    size_t keep;    /* bytes written by OS_SHORT before err */
    bool stays;     /* OS_FAIL, OS_SHORT: also every selected call after `at`, as on a full disk */
};
#define OS_FAULT_EXIT 70 /* status of a process that a fault ended */
void os_fault_arm(const struct os_fault *); /* NULL disarms */
/* Arms from the environment YARILO_FAULT="at=N[,calls=write+rename...][,how=exit-before|exit-after|fail|short]
 * [,err=ENOSPC][,keep=K][,stays]"; called once by every program that mutates. A text that it does not understand is
 * fatal: a crash test that tests nothing must not pass. */
void os_fault_from_env(void);
uint64_t os_count(void);                    /* mutating calls so far in this process */

/* What a trace sees: a mutating call after it was made. */
struct os_event {
    uint64_t seq;         /* number of the call in this process, from 1 */
    enum os_call call;
    int fd;               /* the file, or the folder of `name` */
    const char *name;     /* NULL for calls on a file */
    int from_fd;          /* rename and link: the old name; from is NULL for others */
    const char *from;
    int64_t n;            /* bytes, or the new size */
    int err;              /* 0 or errno */
};

/* One hook a process; from the sync pool it is called on the pool's threads, one call at a time. NULL ends it.
 * With YARILO_TRACE_FD=n in the environment os_fault_from_env installs one that writes a line per call:
 * "<seq> TAB <call> TAB <path> TAB <n> TAB <err> [TAB <old path>] LF", paths TAB-escaped. */
void os_trace(void (*see)(void *, const struct os_event *), void *arg);

/* Creates with O_EXCL; mode is exact (umask is 0 in our processes); gid (gid_t)-1 = leave. -> fd or -1. */
int os_create(int dir, const char *name, mode_t mode, gid_t gid, struct error *);
/* A file that nobody can see and that is gone when it is closed, until os_link_unnamed gives it a name: whole, or not at
 * all. ERROR_UNSUPPORTED: this file system cannot; ERROR_EXISTS: the name is taken. */
int os_create_unnamed(int dir, mode_t mode, gid_t gid, struct error *); /* -> fd or -1 */
int os_link_unnamed(int fd, int dir, const char *name, struct error *);
/* Opens for reading and writing (folders: for reading), never creates. extra: O_APPEND, O_DIRECTORY ... -> fd or -1.
 * Not counted. */
int os_open(int dir, const char *name, int extra_flags, struct error *);
int os_open_read(int dir, const char *name, int extra_flags, struct error *); /* for reading only */
/* One write at the end of an O_APPEND descriptor. A short write or an error truncates the file back to where it
 * was, so that all of the bytes are there or none. */
int os_append(int fd, struct slice, struct error *);
/* Writes all at the current position; for new files that nobody reads yet. */
int os_write(int fd, struct slice, struct error *);
int os_pwrite(int fd, struct slice, uint64_t at, struct error *);
int os_truncate(int fd, uint64_t size, struct error *);
int os_sync(int fd, struct error *);        /* fdatasync; for a folder fsync */
int os_link(int dir, const char *from, int todir, const char *to, struct error *);
int os_rename(int dir, const char *from, int todir, const char *to, struct error *);
int os_unlink(int dir, const char *name, struct error *);
int os_mkdir(int dir, const char *name, mode_t mode, gid_t gid, struct error *);
/* mkdir -p: makes missing parents too (each with `mode`); 0 also when it exists as a folder. */
int os_mkdir_parents(int dir, const char *path, mode_t mode, gid_t gid, struct error *);
int os_rmdir(int dir, const char *name, struct error *);
int os_symlink(const char *target, int dir, const char *name, struct error *);
int os_set_times(int dir, const char *name, time_t mtime, struct error *);     /* atime is set to the same */
int os_set_mode(int fd, mode_t, struct error *);

/* Reading: whole files with a cap; pread in full. */
int os_read_file(int dir, const char *name, size_t most, struct buffer *out, struct error *); /* replaces *out */
/* Reads up to `size` bytes at `at`, onto the end of *out or into memory; fewer only at the end of file. -> bytes read or -1. */
ssize_t os_pread(int fd, uint64_t at, size_t size, struct buffer *out, struct error *);
ssize_t os_pread_into(int fd, uint64_t at, void *to, size_t size, struct error *);
void os_never_block(int fd);                /* O_NONBLOCK; one system call less where it is set */

/* Locks. A lockable is one object per file and process (DECISIONS 9): OFD locks exclude between two opens of one
 * process and conflict both ways with Dovecot's fcntl locks; flock; or a dotlock beside the file. Never waits. */
enum os_lock { OS_GOT, OS_BUSY, OS_LOCK_ERROR };
enum os_lock_method { OS_LOCK_FCNTL, OS_LOCK_FLOCK, OS_LOCK_DOTLOCK };
enum os_lock os_lock_fd(int fd, enum os_lock_method, struct error *);   /* FCNTL or FLOCK; exclusive */
enum os_lock os_lock_fd_shared(int fd, enum os_lock_method, struct error *);
void os_unlock_fd(int fd, enum os_lock_method);

/* Dotlocks in Dovecot's manner (maildir-and-layouts 8.5): content "pid:host". Ours appear with their content, so that a
 * process that dies leaves a lock that says whose it was. One is stale when its pid (of this host) is dead or our own; when
 * it has been empty for five seconds (its maker, another program, died before it wrote its pid); and, when it names no process
 * of this host, when neither it nor the file that it protects has changed for `stale_secs`. A registry in the process, keyed by device and
 * inode of the folder plus name, stands before the file: two sessions of one worker exclude each other (DECISIONS 9). */
struct os_dotlock_options {
    mode_t mode;           /* 0 = 0600 */
    bool set_gid;
    gid_t gid;
    unsigned stale_secs;   /* 0 = never by time */
    const char *protects;  /* name in the same folder, or NULL */
    bool by_link;          /* dotlock_use_excl = no: a file of another name is linked to this one, for old NFS */
    bool replaces;         /* the lock is the new file (index-format 7.1 log creation, subscriptions): it stays empty, and
                            * only time makes it stale */
};
struct os_dotlock;
enum os_lock os_dotlock_try(int dir, const char *name, unsigned stale_secs, struct os_dotlock **, struct error *);
enum os_lock os_dotlock_try_with(int dir, const char *name, const struct os_dotlock_options *, struct os_dotlock **,
                                 struct error *);
int os_dotlock_fd(const struct os_dotlock *);            /* to write through, then os_dotlock_rename */
/* Renames the lock file over `to`: replaces a file whose new content was written into the lock. Frees it, also on
 * failure (ERROR_TEMPORARY when somebody took the lock meanwhile: then nothing was renamed). */
int os_dotlock_replace(struct os_dotlock **, const char *to, struct error *);
void os_dotlock_release(struct os_dotlock **);           /* warns in the log if somebody took the lock */
bool os_dotlock_touch(struct os_dotlock *);              /* every minute while held; false: somebody took it */

/* fsync away from the loop: a pool of threads that do nothing else (DECISIONS 11). done() is called on the thread
 * that calls os_sync_poll, when os_sync_fd() is readable. Inline (before returning) while a fault is armed, when
 * os_sync_pool_start was not called, in single-shot programs, and where jobs have been quicker than waking a thread.
 * The descriptors stay owned by the caller until done(). error class ERROR_NONE = success. */
int os_sync_pool_start(unsigned threads, struct error *);
void os_sync_pool_stop(void);             /* waits for what was submitted; its done()s are called */
int os_sync_fd(void);                     /* -1 without a pool */
void os_sync_poll(void);
void os_sync_submit(const int *fds, size_t n, void (*done)(void *, const struct error *), void *arg);

#endif
