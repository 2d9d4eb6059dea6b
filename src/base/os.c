/* os.c - the door to the operating system: calls, counting, faults, trace.
 *
 * Each call has the same shape: enter (count; a fault may end the process or forbid the call), the call itself with
 * EINTR retried, leave (trace; a fault may end the process). Locks are in os_lock.c, the sync pool in os_sync.c. */
#include "base/os.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/os_door.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const call_names[OS_CALLS] = {
    [OS_CREATE] = "create", [OS_WRITE] = "write",   [OS_PWRITE] = "pwrite", [OS_TRUNCATE] = "truncate",
    [OS_SYNC] = "sync",     [OS_LINK] = "link",     [OS_RENAME] = "rename", [OS_UNLINK] = "unlink",
    [OS_MKDIR] = "mkdir",   [OS_RMDIR] = "rmdir",   [OS_ATTR] = "attr",     [OS_LOCK] = "lock"};

/* The state of the door is the process's, as the calls are. The pool's threads pass it too: hence the atomic and the
 * mutex around the hook. */
static struct {
    atomic_uint_fast64_t count;
    pthread_mutex_t see_lock;
    void (*see)(void *, const struct os_event *);
    void *see_arg;
#ifdef FAULTS
    bool armed, fired;
    uint64_t selected;
    struct os_fault fault;
#endif
} door = {.see_lock = PTHREAD_MUTEX_INITIALIZER};

const char *os_call_name(enum os_call call)
{
    return (unsigned)call < OS_CALLS ? call_names[call] : "unknown";
}

uint64_t os_count(void)
{
    return atomic_load(&door.count);
}

void os_trace(void (*see)(void *, const struct os_event *), void *arg)
{
    pthread_mutex_lock(&door.see_lock);
    door.see = see;
    door.see_arg = arg;
    pthread_mutex_unlock(&door.see_lock);
}

#ifdef FAULTS

void os_fault_arm(const struct os_fault *fault)
{
    door.armed = fault != NULL;
    door.fired = false;
    door.selected = 0;
    if (fault != NULL)
        door.fault = *fault;
}

bool os_door_armed(void)
{
    return door.armed;
}

/* Whether the fault fires at this call. It fires once, unless it stays. */
static bool fault_fires(enum os_call call)
{
    const struct os_fault *f = &door.fault;

    if (!door.armed || (f->calls != 0 && (f->calls & 1u << call) == 0))
        return false;
    door.selected++;
    return door.selected == f->at || (f->stays && door.selected > f->at);
}

static enum os_door apply_fault(enum os_call call, size_t *keep, int *err)
{
    const struct os_fault *f = &door.fault;

    if (!fault_fires(call))
        return OS_DOOR_GO;
    switch (f->how) {
    case OS_EXIT_BEFORE:
        _exit(OS_FAULT_EXIT);
    case OS_EXIT_AFTER:
        door.fired = true;
        return OS_DOOR_GO;
    case OS_SHORT:
        *keep = f->keep;
        *err = f->err == 0 ? ENOSPC : f->err;
        if (call == OS_WRITE || call == OS_PWRITE)
            return OS_DOOR_SHORT;
        errno = *err;
        return OS_DOOR_FAIL;
    case OS_FAIL:
    default:
        errno = f->err == 0 ? EIO : f->err;
        return OS_DOOR_FAIL;
    }
}

static bool exits_after(void)
{
    return door.fired;
}

static bool parse_call_list(char *text, uint32_t *calls)
{
    for (char *save, *word = strtok_r(text, "+", &save); word != NULL; word = strtok_r(NULL, "+", &save)) {
        unsigned i = 0;

        while (i < OS_CALLS && strcmp(call_names[i], word) != 0)
            i++;
        if (i == OS_CALLS)
            return false;
        *calls |= 1u << i;
    }
    return *calls != 0;
}

static bool parse_errno(const char *word, int *err)
{
    for (int i = 1; i < 134; i++) {
        const char *name = strerrorname_np(i);

        if (name != NULL && strcmp(name, word) == 0) {
            *err = i;
            return true;
        }
    }
    return false;
}

static bool parse_how(const char *word, struct os_fault *f)
{
    static const char *const names[] = {[OS_EXIT_BEFORE] = "exit-before", [OS_EXIT_AFTER] = "exit-after",
                                        [OS_FAIL] = "fail", [OS_SHORT] = "short"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], word) == 0) {
            f->how = i;
            return true;
        }
    }
    return false;
}

static bool parse_fault_word(char *word, struct os_fault *f)
{
    char *value = strchr(word, '=');
    uint64_t keep;

    if (value == NULL) {
        f->stays = true;
        return strcmp(word, "stays") == 0;
    }
    *value++ = '\0';
    if (strcmp(word, "at") == 0)
        return slice_to_u64(slice_from_str(value), &f->at);
    if (strcmp(word, "calls") == 0)
        return parse_call_list(value, &f->calls);
    if (strcmp(word, "how") == 0)
        return parse_how(value, f);
    if (strcmp(word, "err") == 0)
        return parse_errno(value, &f->err);
    if (strcmp(word, "keep") == 0 && slice_to_u64(slice_from_str(value), &keep)) {
        f->keep = (size_t)keep;
        return true;
    }
    return false;
}

static void arm_from_text(const char *text)
{
    struct os_fault f = {.how = OS_EXIT_BEFORE};
    char *copy = mem_strdup(text), *save, *word;
    bool good = true;

    for (word = strtok_r(copy, ",", &save); word != NULL && good; word = strtok_r(NULL, ",", &save))
        good = parse_fault_word(word, &f);
    mem_free(copy);
    if (!good || f.at == 0)
        log_fatal(EXIT_FATAL, "YARILO_FAULT: cannot understand '%s'", text);
    os_fault_arm(&f);
}

#else

void os_fault_arm(const struct os_fault *fault)
{
    (void)fault;
}

bool os_door_armed(void)
{
    return false;
}

static enum os_door apply_fault(enum os_call call, size_t *keep, int *err)
{
    (void)call;
    (void)keep;
    (void)err;
    return OS_DOOR_GO;
}

static bool exits_after(void)
{
    return false;
}

static void arm_from_text(const char *text)
{
    log_fatal(EXIT_FATAL, "YARILO_FAULT is set to '%s', but this build has no fault injection", text);
}

#endif

/* The path of an open descriptor as the kernel knows it, then /name. */
static void append_path(struct buffer *line, int fd, const char *name)
{
    char proc[64], path[PATH_MAX];
    ssize_t n;

    if (name == NULL || name[0] != '/') {
        if (fd == AT_FDCWD)
            snprintf(proc, sizeof(proc), "/proc/self/cwd");
        else
            snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
        n = readlink(proc, path, sizeof(path));
        text_tab_escape(line, slice_of(path, n < 0 ? 0 : (size_t)n));
        if (name != NULL)
            buffer_append_byte(line, '/');
    }
    if (name != NULL)
        text_tab_escape(line, slice_from_str(name));
}

static void write_trace_line(void *arg, const struct os_event *event)
{
    int fd = (int)(intptr_t)arg;
    struct buffer line = {0};

    buffer_printf(&line, "%llu\t%s\t", (unsigned long long)event->seq, os_call_name(event->call));
    append_path(&line, event->fd, event->name);
    buffer_printf(&line, "\t%lld\t%d", (long long)event->n, event->err);
    if (event->from != NULL) {
        buffer_append_byte(&line, '\t');
        append_path(&line, event->from_fd, event->from);
    }
    buffer_append_byte(&line, '\n');
    (void)!write(fd, line.at, line.size); /* a reader that has gone is no fault of the traced program */
    buffer_free(&line);
}

void os_fault_from_env(void)
{
    const char *fault = getenv("YARILO_FAULT"), *trace = getenv("YARILO_TRACE_FD");
    uint32_t fd;

    if (trace != NULL) {
        if (!slice_to_u32(slice_from_str(trace), &fd) || fd > INT_MAX)
            log_fatal(EXIT_FATAL, "YARILO_TRACE_FD: '%s' is not a descriptor", trace);
        os_trace(write_trace_line, (void *)(intptr_t)fd);
    }
    if (fault != NULL)
        arm_from_text(fault);
}

enum os_door os_door_enter(struct os_event *event, size_t *keep, int *err)
{
    event->seq = atomic_fetch_add(&door.count, 1) + 1;
    return apply_fault(event->call, keep, err);
}

int os_door_leave(struct os_event *event)
{
    int saved = errno;

    if (door.see != NULL) {
        pthread_mutex_lock(&door.see_lock);
        if (door.see != NULL)
            door.see(door.see_arg, event);
        pthread_mutex_unlock(&door.see_lock);
    }
    if (exits_after())
        _exit(OS_FAULT_EXIT);
    errno = saved;
    return event->err == 0 ? 0 : -1;
}

/* Makes a call that needs no more than a verdict: DOOR_CALL(event, expression that is -1 on failure). */
#define DOOR_CALL(event, expression)                                                           \
    do {                                                                                       \
        size_t keep_;                                                                          \
        int err_;                                                                              \
        ssize_t r_ = -1;                                                                       \
        if (os_door_enter((event), &keep_, &err_) != OS_DOOR_FAIL)                       \
            r_ = TEMP_FAILURE_RETRY(expression);                                               \
        (event)->err = r_ < 0 ? errno : 0;                                                     \
        os_door_leave(event);                                                                  \
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

ssize_t os_pread(int fd, uint64_t at, size_t size, struct buffer *out, struct error *e)
{
    size_t before = out->size, total = 0;

    while (total < size) {
        size_t part = size - total < 65536 ? size - total : 65536;
        ssize_t n;

        if (at > (uint64_t)INT64_MAX - total)
            break;
        buffer_reserve(out, part);
        n = TEMP_FAILURE_RETRY(pread(fd, out->at + out->size, part, (off_t)(at + total)));
        if (n < 0) {
            out->size = before;
            return error_sys(e, "pread", NULL);
        }
        if (n == 0)
            break;
        out->size += (size_t)n;
        total += (size_t)n;
    }
    return (ssize_t)total;
}
