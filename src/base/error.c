/* error.c - error values without allocation. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set_at(struct error *e, enum error_class class, int sys, const char *file, int line, const char *fmt, ...)
{
    va_list args;

    e->class = class;
    e->sys = sys;
    e->file = file;
    e->line = line;
    e->complete = false;
    e->user[0] = '\0';
    va_start(args, fmt);
    vsnprintf(e->admin, sizeof(e->admin), fmt, args);
    va_end(args);
    return -1;
}

static enum error_class class_of_errno(int number)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return ERROR_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return ERROR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERROR_PERMISSION;
    case ENOSPC:
        return ERROR_SPACE;
    case EDQUOT:
        return ERROR_QUOTA;
    default:
        return ERROR_TEMPORARY;
    }
}

int error_sys_at(struct error *e, const char *what, const char *path, const char *file, int line)
{
    int number = errno;
    int r = error_set_at(e, class_of_errno(number), number, file, line, "%s(%s) failed: %s", what,
                         path == NULL ? "" : path, strerror(number));
    errno = number;
    return r;
}

int error_context(struct error *e, const char *fmt, ...)
{
    char front[sizeof(e->admin)];
    va_list args;
    size_t n, old = strlen(e->admin);

    if (e->complete)
        return -1;
    va_start(args, fmt);
    vsnprintf(front, sizeof(front), fmt, args);
    va_end(args);
    n = strlen(front);
    if (n >= sizeof(e->admin) - 1)
        n = sizeof(e->admin) - 1;
    if (old > sizeof(e->admin) - 1 - n)
        old = sizeof(e->admin) - 1 - n;
    memmove(e->admin + n, e->admin, old);
    memcpy(e->admin, front, n);
    e->admin[n + old] = '\0';
    return -1;
}

int error_user(struct error *e, const char *text)
{
    snprintf(e->user, sizeof(e->user), "%s", text);
    return -1;
}

void error_clear(struct error *e)
{
    e->class = ERROR_NONE;
    e->sys = 0;
    e->user[0] = e->admin[0] = '\0';
}

const char *error_class_name(enum error_class class)
{
    static const char *const names[] = {"none",     "not found",   "exists",       "permission", "quota",
                                        "space",    "temporary",   "corrupt",      "invalid",    "limit",
                                        "expunged", "unsupported", "lock timeout", "busy", "bug"};

    return (unsigned)class < sizeof(names) / sizeof(names[0]) ? names[class] : "unknown";
}
