/* SQL databases: statements with bound parameters, and the table of engines (auth.md 9.4). Everything is synchronous: it
 * runs in processes that may wait (auth-worker, dict). */
#ifndef YARILO_SQL_SQL_H
#define YARILO_SQL_SQL_H

#include "base/base.h"

struct sql_statement {
    const char *text;
    const char *const *values;
    size_t count;
};

struct sql_row {
    int columns;
    const char *const *names;
    const char *const *values; /* NULL = SQL NULL */
};

/* True: go on. */
typedef bool sql_row_fn(void *arg, const struct sql_row *);

struct sql_engine {
    const char *name;
    /* Connecting may be put off to the first query; `create` makes a missing database. NULL with *e. */
    void *(*open)(const char *connect, bool create, struct error *);
    void (*close)(void *);
    /* `row` NULL: the statement gives none that matter. */
    int (*query)(void *, const struct sql_statement *, sql_row_fn *, void *arg, struct error *);
    uint64_t (*changed)(void *); /* rows that the last INSERT, UPDATE or DELETE touched */
};

const struct sql_engine *sql_engine_find(const char *name); /* NULL */
extern const struct sql_engine sql_sqlite;

#endif
