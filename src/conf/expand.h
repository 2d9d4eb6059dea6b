/* Between expand.c and expand_func.c. */
#ifndef YARILO_CONF_EXPAND_H
#define YARILO_CONF_EXPAND_H

#include "base/text.h"
#include "conf/conf.h"

struct expand {
    struct arena *arena;
    const struct conf_vars *vars;
    struct error *e;
    bool failed;
    unsigned depth;
};

struct slice expand_text(struct expand *, const char *template);
/* Remembers the first error. */
void expand_fail(struct expand *, const struct error *);
/* A long name: table, built-in, function. False: unknown, or failed. */
bool expand_find(struct expand *, struct slice name, struct slice *value);
/* env:, hashes, if;...  */
bool expand_function(struct expand *, struct slice name, struct slice *value);

#endif
