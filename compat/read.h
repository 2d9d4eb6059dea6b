/* The reader of Dovecot 2.3's configuration language (config 1 to 6). */
#ifndef YARILO_COMPAT_READ_H
#define YARILO_COMPAT_READ_H

#include "conf/tree.h"

struct compat_options {
    /* Resolve $names and read <files, as running servers do; else both stay as text (config 4). */
    bool expand;
    /* With expand: modules whose <files are wanted, ended by NULL; NULL = all. */
    const char *const *modules;
    /* With expand: a key of the TLS server that the caller may not read becomes empty instead of an error. */
    bool skip_unreadable_keys;
};

/* Reads a file into a tree. Warnings go to the log. -1: the text of Dovecot, with file and line, in *e.
 * *late (ERROR_NONE when there is none): a fault that is told after everything else, since the settings are there. */
int compat_read(const char *path, const struct compat_options *, struct conf_tree **, struct error *late, struct error *e);
/* The same from a text; includes and files are relative to the working folder. For tests and fuzzing. */
int compat_read_text(const char *text, const struct compat_options *, struct conf_tree **, struct error *e);

#endif
