/* The reader of Dovecot 2.3's configuration language (config 1 to 6). */
#ifndef YARILO_COMPAT_READ_H
#define YARILO_COMPAT_READ_H

#include "conf/reading.h"

/* Reads a file into a tree. Warnings go to the log. -1: the text of Dovecot, with file and line, in *e.
 * *late (ERROR_NONE when there is none): a fault that is told after everything else, since the settings are there. */
int compat_read(const char *path, const struct conf_reading *, struct conf_tree **, struct error *late,
                struct error *e);
/* The same from a text; includes and files are relative to the working folder. For tests and fuzzing. */
int compat_read_text(const char *text, const struct conf_reading *, struct conf_tree **, struct error *e);

#endif
