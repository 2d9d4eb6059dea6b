/* os.c - the door to the operating system: the calls.
 *
 * Each call has the same shape: enter (count; a fault may end the process or forbid the call), the call itself with
 * EINTR retried, leave (trace; a fault may end the process). Counting, faults and trace are in os_door.c, locks in
 * os_lock.c, the sync pool in os_sync.c. */
#include "base/os.h"
#include "base/mem.h"
#include "base/os_door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Makes a call that needs no more than a verdict: DOOR_CALL(event, expression that is -1 on failure). */
#define DOOR_CALL(event, expression)                                                                                   \
    do {                                                                                                               \
        size_t keep_;                                                                                                  \
        int err_;                                                                                                      \
        ssize_t r_ = -1;                                                                                               \
        if (os_door_enter((event), &keep_, &err_) != OS_DOOR_FAIL)                                                     \
            r_ = TEMP_FAILURE_RETRY(expression);                                                                       \
        (event)->err = r_ < 0 ? errno : 0;                                                                             \
        os_door_leave(event);                                                                                          \
    } while (0)

/* A group that may not be set (EPERM) must not turn into rights for the group that the file has instead. */
static int set_group(int fd, int dir, const char *name, mode_t mode, gid_t gid)
{
    int r;

    if (gid == (gid_t)-1)
        return 0;
    r = fd >= 0 ? fchown(fd, (uid_t)-1, gid) : fchownat(dir, name, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW);
    if (r == 0)
        return fd >= 0 ? fchmod(fd, mode) : fchmodat(dir, name, mode, 0); /* chown drops the setgid bit */
    if (errno != EPERM)
        return -1;
    mode = (mode & ~(mode_t)070) | (mode & 07) << 3;
    return fd >= 0 ? fchmod(fd, mode) : fchmodat(dir, name, mode, 0);
}

int os_create(int dir, const char *name, mode_t mode, gid_t gid, struct error *e)
{
    struct os_event event = {.call = OS_CREATE, .fd = dir, .name = name};
    int fd = -1;

    DOOR_CALL(&event, fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
    if (event.err != 0)
        return error_sys(e, "open", name);
    if (set_group(fd, dir, name, mode, gid) < 0) {
        error_sys(e, "fchown", name);
        unlinkat(dir, name, 0);
        close(fd);
        return -1;
    }
    return fd;
}

int os_create_unnamed(int dir, mode_t mode, gid_t gid, struct error *e)
{
    struct os_event event = {.call = OS_CREATE, .fd = dir, .name = ""};
    int fd = -1;

    DOOR_CALL(&event, fd = openat(dir, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, mode));
    if (event.err == EOPNOTSUPP || event.err == EISDIR || event.err == EINVAL)
        return error_set(e, ERROR_UNSUPPORTED, "the file system has no files without a name");
    if (event.err != 0)
        return error_sys(e, "open", NULL);
    if (set_group(fd, dir, NULL, mode, gid) < 0) {
        error_sys(e, "fchown", NULL);
        close(fd);
        return -1;
    }
    return fd;
}

int os_link_unnamed(int fd, int dir, const char *name, struct error *e)
{
    struct os_event event = {.call = OS_LINK, .fd = dir, .name = name};
    char proc[64];

    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    DOOR_CALL(&event, linkat(AT_FDCWD, proc, dir, name, AT_SYMLINK_FOLLOW));
    if (event.err == ENOENT) /* no /proc here, or the folder is gone */
        return error_set(e, ERROR_UNSUPPORTED, "a file without a name cannot be given one");
    return event.err == 0 ? 0 : error_sys(e, "link", name);
}

int os_open(int dir, const char *name, int extra_flags, struct error *e)
{
    int access = (extra_flags & (O_DIRECTORY | O_PATH)) != 0 ? O_RDONLY : O_RDWR;
    int fd = (int)TEMP_FAILURE_RETRY(openat(dir, name, access | extra_flags | O_CLOEXEC | O_NOCTTY));

    return fd >= 0 ? fd : error_sys(e, "open", name);
}

int os_open_read(int dir, const char *name, int extra_flags, struct error *e)
{
    int fd = (int)TEMP_FAILURE_RETRY(openat(dir, name, O_RDONLY | extra_flags | O_CLOEXEC | O_NOCTTY));

    return fd >= 0 ? fd : error_sys(e, "open", name);
}

/* One call to write; a verdict SHORT writes the first bytes and fails. -> 0, or -1 with errno; *done: bytes written. */
static int write_once(enum os_call call, int fd, struct slice s, uint64_t at, size_t *done)
{
    struct os_event event = {.call = call, .fd = fd};
    size_t keep = s.size;
    int err = 0;
    ssize_t n = -1;
    enum os_door verdict = os_door_enter(&event, &keep, &err);

    if (verdict != OS_DOOR_FAIL) {
        struct slice part = slice_head(s, verdict == OS_DOOR_SHORT ? keep : s.size);

        n = call == OS_WRITE ? TEMP_FAILURE_RETRY(write(fd, part.at, part.size))
                             : TEMP_FAILURE_RETRY(pwrite(fd, part.at, part.size, (off_t)at));
    }
    *done = n < 0 ? 0 : (size_t)n;
    event.n = (int64_t)*done;
    event.err = n < 0 ? errno : err;
    os_door_leave(&event);
    if (event.err != 0)
        errno = event.err;
    return event.err == 0 ? 0 : -1;
}

int os_append(int fd, struct slice s, struct error *e)
{
    struct stat st;
    struct error again;
    size_t done;
    int r;

    if (fstat(fd, &st) < 0)
        return error_sys(e, "fstat", NULL);
    r = write_once(OS_WRITE, fd, s, 0, &done);
    if (r == 0 && done == s.size)
        return 0;
    if (r == 0)
        errno = ENOSPC; /* the kernel says why only when asked for the rest, which is not to be written */
    error_sys(e, "write", NULL);
    if (done > 0 && os_truncate(fd, (uint64_t)st.st_size, &again) < 0)
        error_context(e, "%s after: ", again.admin);
    return -1;
}

void os_never_block(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if ((flags & O_NONBLOCK) == 0)
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int os_write(int fd, struct slice s, struct error *e)
{
    size_t done;

    do {
        if (write_once(OS_WRITE, fd, s, 0, &done) < 0)
            return error_sys(e, "write", NULL);
        s = slice_from(s, done);
    } while (s.size > 0);
    return 0;
}

int os_pwrite(int fd, struct slice s, uint64_t at, struct error *e)
{
    size_t done;

    do {
        if (write_once(OS_PWRITE, fd, s, at, &done) < 0)
            return error_sys(e, "pwrite", NULL);
        s = slice_from(s, done);
        at += done;
    } while (s.size > 0);
    return 0;
}

int os_truncate(int fd, uint64_t size, struct error *e)
{
    struct os_event event = {.call = OS_TRUNCATE, .fd = fd, .n = (int64_t)size};

    DOOR_CALL(&event, ftruncate(fd, (off_t)size));
    return event.err == 0 ? 0 : error_sys(e, "ftruncate", NULL);
}

int os_sync(int fd, struct error *e)
{
    struct os_event event = {.call = OS_SYNC, .fd = fd};
    struct stat st;
    bool folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);

    DOOR_CALL(&event, folder ? fsync(fd) : fdatasync(fd));
    return event.err == 0 ? 0 : error_sys(e, folder ? "fsync" : "fdatasync", NULL);
}

int os_link(int dir, const char *from, int todir, const char *to, struct error *e)
{
    struct os_event event = {.call = OS_LINK, .fd = todir, .name = to, .from_fd = dir, .from = from};

    DOOR_CALL(&event, linkat(dir, from, todir, to, 0));
    return event.err == 0 ? 0 : error_sys(e, "link", to);
}

int os_rename(int dir, const char *from, int todir, const char *to, struct error *e)
{
    struct os_event event = {.call = OS_RENAME, .fd = todir, .name = to, .from_fd = dir, .from = from};

    DOOR_CALL(&event, renameat(dir, from, todir, to));
    return event.err == 0 ? 0 : error_sys(e, "rename", to);
}

int os_unlink(int dir, const char *name, struct error *e)
{
    struct os_event event = {.call = OS_UNLINK, .fd = dir, .name = name};

    DOOR_CALL(&event, unlinkat(dir, name, 0));
    return event.err == 0 ? 0 : error_sys(e, "unlink", name);
}

int os_mkdir(int dir, const char *name, mode_t mode, gid_t gid, struct error *e)
{
    struct os_event event = {.call = OS_MKDIR, .fd = dir, .name = name};

    DOOR_CALL(&event, mkdirat(dir, name, mode));
    if (event.err != 0)
        return error_sys(e, "mkdir", name);
    return set_group(-1, dir, name, mode, gid) == 0 ? 0 : error_sys(e, "chown", name);
}

int os_mkdir_parents(int dir, const char *path, mode_t mode, gid_t gid, struct error *e)
{
    char *copy = mem_strdup(path);
    struct stat st;
    int r = 0;

    for (char *p = copy; r == 0 && p != NULL;) {
        p = strchr(*p == '/' ? p + 1 : p, '/');
        if (p != NULL)
            *p = '\0';
        if (copy[0] != '\0' && (fstatat(dir, copy, &st, 0) < 0 || !S_ISDIR(st.st_mode))) {
            r = os_mkdir(dir, copy, mode, gid, e);
            if (r < 0 && e->class == ERROR_EXISTS && fstatat(dir, copy, &st, 0) == 0 && S_ISDIR(st.st_mode))
                r = 0; /* somebody else made it at the same moment */
        }
        if (p != NULL)
            *p = '/';
    }
    mem_free(copy);
    return r;
}

int os_rmdir(int dir, const char *name, struct error *e)
{
    struct os_event event = {.call = OS_RMDIR, .fd = dir, .name = name};

    DOOR_CALL(&event, unlinkat(dir, name, AT_REMOVEDIR));
    return event.err == 0 ? 0 : error_sys(e, "rmdir", name);
}

int os_symlink(const char *target, int dir, const char *name, struct error *e)
{
    struct os_event event = {.call = OS_LINK, .fd = dir, .name = name, .from_fd = dir, .from = target};

    DOOR_CALL(&event, symlinkat(target, dir, name));
    return event.err == 0 ? 0 : error_sys(e, "symlink", name);
}

int os_set_times(int dir, const char *name, time_t mtime, struct error *e)
{
    struct os_event event = {.call = OS_ATTR, .fd = dir, .name = name};
    struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};

    DOOR_CALL(&event, utimensat(dir, name, times, 0));
    return event.err == 0 ? 0 : error_sys(e, "utimensat", name);
}

int os_set_mode(int fd, mode_t mode, struct error *e)
{
    struct os_event event = {.call = OS_ATTR, .fd = fd};

    DOOR_CALL(&event, fchmod(fd, mode));
    return event.err == 0 ? 0 : error_sys(e, "fchmod", NULL);
}

int os_read_file(int dir, const char *name, size_t most, struct buffer *out, struct error *e)
{
    struct stat st;
    struct buffer content = {0};
    ssize_t n;
    int r = -1, fd = os_open_read(dir, name, 0, e);

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0) {
        error_sys(e, "fstat", name);
    } else if (!S_ISREG(st.st_mode)) {
        error_set(e, ERROR_INVALID, "%s is not a regular file", name);
    } else if ((uint64_t)st.st_size > most) {
        error_set(e, ERROR_LIMIT, "%s is larger than %zu bytes", name, most);
    } else {
        /* The file may grow while it is read: what came after the first look is read too, up to the cap. */
        n = os_pread(fd, 0, most, &content, e);
        if (n >= 0) {
            buffer_free(out);
            *out = content;
            r = 0;
        } else {
            buffer_free(&content);
        }
    }
    close(fd);
    return r;
}

ssize_t os_pread_into(int fd, uint64_t at, void *to, size_t size, struct error *e)
{
    size_t total = 0;

    while (total < size && at <= (uint64_t)INT64_MAX - total) {
        ssize_t n = TEMP_FAILURE_RETRY(pread(fd, (char *)to + total, size - total, (off_t)(at + total)));

        if (n < 0)
            return error_sys(e, "pread", NULL);
        if (n == 0)
            break;
        total += (size_t)n;
    }
    return (ssize_t)total;
}

ssize_t os_pread(int fd, uint64_t at, size_t size, struct buffer *out, struct error *e)
{
    size_t before = out->size, total = 0;

    /* In parts: `size` may be a cap that is far beyond what there is. */
    while (total < size) {
        size_t part = size - total < 65536 ? size - total : 65536;
        ssize_t n;

        buffer_reserve(out, part);
        n = at > UINT64_MAX - total ? 0 : os_pread_into(fd, at + total, out->at + out->size, part, e);
        if (n < 0) {
            out->size = before;
            return -1;
        }
        out->size += (size_t)n;
        total += (size_t)n;
        if ((size_t)n < part)
            break;
    }
    return (ssize_t)total;
}
