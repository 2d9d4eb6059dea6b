/* os_door.c - what every mutating call passes: the count, the faults that tests inject, the trace.
 *
 * The count is of the process, so that "the process ends at call N" means the same in every run; while a fault is
 * armed the sync pool runs inline for that reason. The trace is how durability is proved: a kill shows nothing about
 * fsync, since the page cache survives it. */
#include "base/os_door.h"
#include "base/log.h"
#include "base/mem.h"
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
    [OS_CREATE] = "create", [OS_WRITE] = "write", [OS_PWRITE] = "pwrite", [OS_TRUNCATE] = "truncate",
    [OS_SYNC] = "sync",     [OS_LINK] = "link",   [OS_RENAME] = "rename", [OS_UNLINK] = "unlink",
    [OS_MKDIR] = "mkdir",   [OS_RMDIR] = "rmdir", [OS_ATTR] = "attr",     [OS_LOCK] = "lock"};

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
    static const char *const names[] = {
        [OS_EXIT_BEFORE] = "exit-before", [OS_EXIT_AFTER] = "exit-after", [OS_FAIL] = "fail", [OS_SHORT] = "short"};

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
