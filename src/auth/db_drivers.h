/* The database drivers that are built in. */
#ifndef YARILO_AUTH_DB_DRIVERS_H
#define YARILO_AUTH_DB_DRIVERS_H

#include "auth/auth.h"

extern const struct db_driver db_passwd_file, db_static, db_pam, db_passwd, db_shadow, db_prefetch, db_sql;

/* Option words of args: "key=value ... REST". Takes one word off the front; false at the end. */
static inline bool db_args_next(struct slice *rest, struct slice *word)
{
    while (rest->size > 0) {
        if (!slice_split(rest, ' ', word))
            return false;
        if (word->size > 0)
            return true;
    }
    return false;
}

/* "blocking=yes" and the like. */
static inline bool db_arg_is(struct slice word, const char *key, struct slice *value)
{
    size_t size = strlen(key);

    if (!slice_starts(word, slice_from_str(key)) || word.size <= size || word.at[size] != '=')
        return false;
    *value = slice_from(word, size + 1);
    return true;
}

#endif
