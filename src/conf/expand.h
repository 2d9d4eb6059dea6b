/* Between expand.c, expand_func.c and expand_crypt.c. */
#ifndef YARILO_CONF_EXPAND_H
#define YARILO_CONF_EXPAND_H

#include "base/text.h"
#include "conf/conf.h"

struct expand {
    struct arena *arena;
    const struct conf_vars *vars;
    struct error *e;
    bool failed;
    unsigned errors;
    unsigned depth;
};

struct slice expand_text(struct expand *, const char *template);
/* Remembers the last error, as Dovecot does. */
void expand_fail(struct expand *, const struct error *);
/* A long name: table, built-in, function. False: unknown, or failed. */
bool expand_find(struct expand *, struct slice name, struct slice *value);
bool expand_fail_text(struct expand *, const char *text);   /* false */
/* env:, hashes, if;...  */
bool expand_function(struct expand *, struct slice name, struct slice *value);
/* True: the function is one of encrypt and decrypt, and the variables allow them; *done false: it failed. */
bool expand_crypt(struct expand *, struct slice function, struct slice options, struct slice field, bool *done, struct slice *value);

#endif
