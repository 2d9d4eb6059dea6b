/* Errors: values on the caller's stack, filled where the fault is seen, logged once at the boundary that answers.
 *
 * A function that can fail returns 0 or -1 (or a value whose failure is documented) and fills *e, which is never
 * NULL; on failure its out parameters are untouched. The class decides what a protocol answers (one table per
 * protocol), `user` is what the client may read, `admin` what the log says. Waiting is not an error: see step.h. */
#ifndef YARILO_BASE_ERROR_H
#define YARILO_BASE_ERROR_H

#include <stdbool.h>

enum error_class {
    ERROR_NONE,
    ERROR_NOT_FOUND,
    ERROR_EXISTS,
    ERROR_PERMISSION,
    ERROR_QUOTA,
    ERROR_SPACE,
    ERROR_TEMPORARY,
    ERROR_CORRUPT,
    ERROR_INVALID,
    ERROR_LIMIT,
    ERROR_EXPUNGED,
    ERROR_UNSUPPORTED,
    ERROR_LOCK_TIMEOUT,
    ERROR_BUSY, /* somebody else is at work on the answer: ask again later */
    ERROR_BUG
};

struct error {
    enum error_class class;
    int sys; /* errno, or 0 */
    const char *file;
    int line;
    bool complete;   /* the admin's text says where by itself: nothing is put in front of it */
    char user[128];  /* exact text for the client; empty: the protocol's text for the class */
    char admin[512];
};

/* Fills *e and returns -1, so that `return error_set(e, ERROR_INVALID, "...")` reads well. */
#define error_set(e, class, ...) error_set_at((e), (class), 0, __FILE__, __LINE__, __VA_ARGS__)
int error_set_at(struct error *e, enum error_class, int sys, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 6, 7), cold));

/* From errno: "rename(/a/b) failed: No space left on device", class from the number (ENOENT NOT_FOUND, EACCES
 * and EPERM and EROFS PERMISSION, ENOSPC SPACE, EDQUOT QUOTA, EEXIST EXISTS, else TEMPORARY). Returns -1.
 * `path` may be NULL. */
#define error_sys(e, what, path) error_sys_at((e), (what), (path), __FILE__, __LINE__)
int error_sys_at(struct error *e, const char *what, const char *path, const char *file, int line)
    __attribute__((cold));

/* Puts text in front of the admin's, unless that is complete: error_context(e, "Mailbox %s: ", name). Returns -1. */
int error_context(struct error *e, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));

/* Sets the exact text for the client. Returns -1. */
int error_user(struct error *e, const char *text);

void error_clear(struct error *e);

const char *error_class_name(enum error_class);

#endif
