/* The content of a passwd-file (auth.md 9.1). */
#ifndef YARILO_AUTH_PASSWD_FILE_H
#define YARILO_AUTH_PASSWD_FILE_H

#include "base/base.h"

struct passwd_entry {
    const char *user;
    const char *password;  /* NULL: the field is absent */
    const char *scheme;    /* of the old "[34]" form; NULL = the default */
    const char *uid, *gid, *home; /* numbers as text; NULL = empty */
    bool has_userdb;       /* there are more than two fields */
    const char **extra;    /* "key=value" */
    size_t count;
};

struct passwd_file;

/* Lines that make no sense are logged with the path and left out. */
struct passwd_file *passwd_file_parse(struct slice text, const char *path);
void passwd_file_free(struct passwd_file *);
const struct passwd_entry *passwd_file_find(const struct passwd_file *, const char *user);
void passwd_file_each(const struct passwd_file *, void (*each)(void *arg, const char *user), void *arg);

/* "/a/b/../c//d/." -> "/a/c/d". */
char *passwd_file_normalize(struct arena *, const char *path);
/* Does the expanded path stay below the part of the template that stands before its first variable? (CVE-2026-0394) */
bool passwd_file_path_allowed(struct arena *, const char *template, const char *path, const char **prefix);

#endif
