/* os_lock.c - locks that never wait: OFD, flock, dotlocks.
 *
 * OFD locks (F_OFD_SETLK) belong to the open, not to the process: they exclude two opens of one process and conflict
 * both ways with the fcntl locks of a Dovecot beside us (DECISIONS 9). Dotlocks follow maildir-and-layouts 8.5.
 * What may go wrong: a dotlock taken over by somebody else; release and replace notice it by the inode. */
#include "base/log.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/os_door.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>
#include <utlist.h>

static enum os_lock lock_fd(int fd, enum os_lock_method method, bool shared, struct error *e)
{
    struct os_event event = {.call = OS_LOCK, .fd = fd};
    struct flock range = {.l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    size_t keep;
    int err, r = -1;

    if (os_door_enter(&event, &keep, &err) != OS_DOOR_FAIL) {
        if (method == OS_LOCK_FLOCK)
            r = (int)TEMP_FAILURE_RETRY(flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB));
        else
            r = (int)TEMP_FAILURE_RETRY(fcntl(fd, F_OFD_SETLK, &range));
        event.n = shared ? 0 : 1;
    }
    event.err = r < 0 ? errno : 0;
    os_door_leave(&event);
    if (r == 0)
        return OS_GOT;
    if (errno == EAGAIN || errno == EACCES || errno == EWOULDBLOCK)
        return OS_BUSY;
    error_sys(e, method == OS_LOCK_FLOCK ? "flock" : "fcntl(F_OFD_SETLK)", NULL);
    return OS_LOCK_ERROR;
}

enum os_lock os_lock_fd(int fd, enum os_lock_method method, struct error *e)
{
    return lock_fd(fd, method, false, e);
}

enum os_lock os_lock_fd_shared(int fd, enum os_lock_method method, struct error *e)
{
    return lock_fd(fd, method, true, e);
}

void os_unlock_fd(int fd, enum os_lock_method method)
{
    struct flock range = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    if (method == OS_LOCK_FLOCK)
        flock(fd, LOCK_UN);
    else
        fcntl(fd, F_OFD_SETLK, &range);
}

enum { EMPTY_STALE_SECS = 5 };

struct os_dotlock {
    struct os_dotlock *next, *prev;
    pid_t owner; /* after a fork the child has this list too, but not the locks */
    dev_t dev;   /* of the folder */
    ino_t ino;
    char *name;
    int dir, fd;
    ino_t lock_ino;
    time_t locked, touched;
};

/* The locks that this process holds: few at a time, so a list will do. */
static struct os_dotlock *held;

static bool is_held(const struct stat *folder, const char *name)
{
    struct os_dotlock *lock;
    pid_t me = getpid();

    DL_FOREACH(held, lock)
    {
        if (lock->owner == me && lock->dev == folder->st_dev && lock->ino == folder->st_ino &&
            strcmp(lock->name, name) == 0)
            return true;
    }
    return false;
}

static const char *host_name(void)
{
    static char name[HOST_NAME_MAX + 1];

    if (name[0] == '\0' && gethostname(name, sizeof(name) - 1) < 0)
        snprintf(name, sizeof(name), "localhost");
    return name;
}

/* The pid in a lock of this host; 0: another host's, or unreadable. */
static pid_t owner_of(int fd)
{
    struct buffer text = {0};
    struct error e;
    struct slice rest, pid;
    uint32_t number;
    pid_t owner = 0;

    if (os_pread(fd, 0, 1024, &text, &e) >= 0) {
        rest = slice_trim(buffer_slice(&text));
        if (slice_split(&rest, ':', &pid) && slice_equal_str(rest, host_name()) && slice_to_u32(pid, &number) &&
            number <= INT_MAX)
            owner = (pid_t)number;
    }
    buffer_free(&text);
    return owner;
}

/* When a file last changed: its ctime, or its mtime where that is newer and not in the future. */
static time_t last_change(const struct stat *st, time_t now)
{
    return st->st_mtime > st->st_ctime && st->st_mtime <= now ? st->st_mtime : st->st_ctime;
}

static bool is_stale(int dir, int fd, const struct os_dotlock_options *opt)
{
    time_t now = time(NULL), changed;
    struct stat st, other;
    pid_t owner = opt->replaces ? 0 : owner_of(fd);

    /* Our own pid with no entry in the registry is that of a dead process which had the same number. */
    if (owner != 0)
        return owner == getpid() || (kill(owner, 0) < 0 && errno == ESRCH);
    if (opt->stale_secs == 0 || fstat(fd, &st) < 0)
        return false;
    changed = last_change(&st, now);
    if (st.st_size == 0 && !opt->replaces)
        return now - changed >= EMPTY_STALE_SECS;
    if (opt->protects != NULL && fstatat(dir, opt->protects, &other, 0) == 0 && last_change(&other, now) > changed)
        changed = last_change(&other, now);
    return now - changed >= (time_t)opt->stale_secs;
}

/* Removes a lock that is stale. True: it is worth trying to create it again.
 *
 * Several waiters may find it stale at once, and the slower one must not remove the lock that the faster one has made
 * since. So who removes it holds a flock on the stale file, and looks under that whether the name still leads to it (while
 * it is open its inode number is not given to another file). Dovecot's waiters know nothing of this; they look at a lock
 * only when it is 2 s old. */
static bool override_stale(int dir, const char *name, const struct os_dotlock_options *opt)
{
    struct stat seen, now;
    struct error e;
    int fd = os_open_read(dir, name, O_NOFOLLOW | O_NONBLOCK, &e);
    bool gone = false;

    if (fd < 0)
        return e.class == ERROR_NOT_FOUND;
    if (fstat(fd, &seen) == 0 && S_ISREG(seen.st_mode) && is_stale(dir, fd, opt) && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
        fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == seen.st_ino && now.st_dev == seen.st_dev)
        gone = os_unlink(dir, name, &e) == 0;
    close(fd);
    return gone;
}

static void free_lock(struct os_dotlock *lock)
{
    if (lock->fd >= 0)
        close(lock->fd);
    if (lock->dir >= 0)
        close(lock->dir);
    mem_free(lock->name);
    mem_free(lock);
}

/* "pid:host"; a lock that is itself the new file has no content yet. */
static int write_owner(int fd, const struct os_dotlock_options *opt, struct error *e)
{
    char text[HOST_NAME_MAX + 32];
    int n;

    if (opt->replaces)
        return 0;
    n = snprintf(text, sizeof(text), "%ld:%s", (long)getpid(), host_name());
    return os_write(fd, slice_of(text, (size_t)n), e);
}

/* The usual way: a file without a name gets its content, then the name. */
static int make_whole(int dir, const char *name, const struct os_dotlock_options *opt, mode_t mode, gid_t gid, struct error *e)
{
    int fd = os_create_unnamed(dir, mode, gid, e);

    if (fd < 0)
        return -1;
    if (write_owner(fd, opt, e) == 0 && os_link_unnamed(fd, dir, name, e) == 0)
        return fd;
    close(fd);
    return -1;
}

/* dotlock_use_excl = no: O_EXCL is not to be trusted there, link is; and a link that fails may have been made all the same. */
static int make_by_link(int dir, const char *name, const struct os_dotlock_options *opt, mode_t mode, gid_t gid, struct error *e)
{
    char temp[NAME_MAX + 1];
    struct error ignored;
    struct stat st;
    int fd;

    if ((size_t)snprintf(temp, sizeof(temp), ".temp.%s.%ld.%s", host_name(), (long)getpid(), name) >= sizeof(temp))
        return error_set(e, ERROR_INVALID, "%s: name is too long", name);
    fd = os_create(dir, temp, mode, gid, e);
    if (fd < 0 && e->class == ERROR_EXISTS && os_unlink(dir, temp, e) == 0) /* of a dead process with our number */
        fd = os_create(dir, temp, mode, gid, e);
    if (fd < 0)
        return -1;
    if (write_owner(fd, opt, e) < 0 || (os_link(dir, temp, dir, name, e) < 0 && (fstat(fd, &st) < 0 || st.st_nlink != 2))) {
        close(fd);
        fd = -1;
    }
    os_unlink(dir, temp, &ignored);
    return fd;
}

static int make_file(int dir, const char *name, const struct os_dotlock_options *opt, struct error *e)
{
    mode_t mode = opt->mode == 0 ? 0600 : opt->mode;
    gid_t gid = opt->set_gid ? opt->gid : (gid_t)-1;
    struct error ignored;
    struct stat st;
    int fd;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) /* waiting shall not cost three calls a look */
        return error_set(e, ERROR_EXISTS, "%s exists", name);
    if (opt->by_link)
        return make_by_link(dir, name, opt, mode, gid, e);
    if (!opt->replaces) {
        fd = make_whole(dir, name, opt, mode, gid, e);
        if (fd >= 0 || e->class != ERROR_UNSUPPORTED)
            return fd;
    }
    fd = os_create(dir, name, mode, gid, e);
    if (fd < 0 || write_owner(fd, opt, e) == 0)
        return fd;
    os_unlink(dir, name, &ignored);
    close(fd);
    return -1;
}

enum os_lock os_dotlock_try_with(int dir, const char *name, const struct os_dotlock_options *opt,
                                 struct os_dotlock **out, struct error *e)
{
    struct os_dotlock *lock;
    struct error ignored;
    struct stat folder, st;

    if (fstatat(dir, ".", &folder, 0) < 0) {
        error_sys(e, "fstat", ".");
        return OS_LOCK_ERROR;
    }
    if (is_held(&folder, name))
        return OS_BUSY;
    lock = mem_zero(1, sizeof(*lock));
    lock->owner = getpid();
    lock->dev = folder.st_dev;
    lock->ino = folder.st_ino;
    lock->name = mem_strdup(name);
    lock->dir = -1;
    lock->fd = make_file(dir, name, opt, e);
    if (lock->fd < 0 && e->class == ERROR_EXISTS && override_stale(dir, name, opt))
        lock->fd = make_file(dir, name, opt, e);
    if (lock->fd < 0) {
        enum os_lock r = e->class == ERROR_EXISTS ? OS_BUSY : OS_LOCK_ERROR;

        free_lock(lock);
        return r;
    }
    lock->dir = openat(dir, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (lock->dir < 0 || fstat(lock->fd, &st) < 0) {
        error_sys(e, "open", name);
        os_unlink(dir, name, &ignored);
        free_lock(lock);
        return OS_LOCK_ERROR;
    }
    lock->lock_ino = st.st_ino;
    lock->locked = lock->touched = time(NULL);
    DL_APPEND(held, lock);
    *out = lock;
    return OS_GOT;
}

enum os_lock os_dotlock_try(int dir, const char *name, unsigned stale_secs, struct os_dotlock **out, struct error *e)
{
    return os_dotlock_try_with(dir, name, &(struct os_dotlock_options){.stale_secs = stale_secs}, out, e);
}

int os_dotlock_fd(const struct os_dotlock *lock)
{
    return lock->fd;
}

/* NULL: the lock file is still ours; else what happened to it. */
static const char *lost_how(const struct os_dotlock *lock)
{
    struct stat st;

    if (fstatat(lock->dir, lock->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return "deleted";
    return st.st_ino == lock->lock_ino ? NULL : "overridden";
}

int os_dotlock_replace(struct os_dotlock **lock_p, const char *to, struct error *e)
{
    struct os_dotlock *lock = *lock_p;
    struct error ignored;
    const char *lost = lost_how(lock);
    int r;

    if (lost != NULL) {
        r = error_set(e, ERROR_TEMPORARY, "Our dotlock file %s was %s", lock->name, lost);
    } else {
        r = os_rename(lock->dir, lock->name, lock->dir, to, e);
        if (r < 0)
            os_unlink(lock->dir, lock->name, &ignored);
    }
    DL_DELETE(held, lock);
    free_lock(lock);
    *lock_p = NULL;
    return r;
}

void os_dotlock_release(struct os_dotlock **lock_p)
{
    struct os_dotlock *lock = *lock_p;
    struct error e;
    const char *lost;

    if (lock == NULL)
        return;
    if (lock->owner == getpid()) {
        lost = lost_how(lock);
        if (lost != NULL)
            log_warning(NULL, "Our dotlock file %s was %s (locked %ld secs ago, touched %ld secs ago)", lock->name,
                        lost, (long)(time(NULL) - lock->locked), (long)(time(NULL) - lock->touched));
        else if (os_unlink(lock->dir, lock->name, &e) < 0)
            log_error_value(NULL, &e);
    }
    DL_DELETE(held, lock);
    free_lock(lock);
    *lock_p = NULL;
}

bool os_dotlock_touch(struct os_dotlock *lock)
{
    struct error e;
    time_t now = time(NULL);

    if (lost_how(lock) != NULL)
        return false;
    if (os_set_times(lock->dir, lock->name, now, &e) < 0)
        log_error_value(NULL, &e);
    lock->touched = now;
    return true;
}
