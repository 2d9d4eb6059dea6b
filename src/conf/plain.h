/* Files of the old syntax beside dovecot.conf: dovecot-sql.conf.ext, dovecot-dict-sql.conf.ext (auth.md 9.4, ipc 10.2).
 *
 * "key = value" lines, comments from '#', a '\' at the end joins the next line, quotes around a value go; where sections
 * are known, "type name {" begins one and "}" ends it. Not the language of dovecot.conf: no includes, no variables. */
#ifndef YARILO_CONF_PLAIN_H
#define YARILO_CONF_PLAIN_H

#include "base/base.h"

struct plain_handler {
    int (*key)(void *arg, const char *key, const char *value, struct error *);      /* texts live in the arena */
    int (*open)(void *arg, const char *type, const char *name, struct error *);     /* NULL: there are no sections */
    int (*close)(void *arg, struct error *);
};

/* Errors of handlers get "Error in configuration file PATH line N: " in front. */
int plain_parse(struct slice text, const char *path, struct arena *, const struct plain_handler *, void *arg, struct error *);

#endif
