/* SQL for the databases: the driver's configuration file, statements with bound parameters, and the table of engines
 * (auth.md 9.4). Everything is synchronous: it runs in auth-worker. */
#ifndef YARILO_AUTH_SQL_H
#define YARILO_AUTH_SQL_H

#include "base/base.h"

/* ---- dovecot-sql.conf.ext -------------------------------------------------------------------------------------- */

struct sql_conf {
    const char *driver, *connect, *password_query, *user_query, *update_query, *iterate_query, *default_pass_scheme;
};

void sql_conf_defaults(struct sql_conf *);
/* Reads "key = value" lines; texts in the arena. Errors name `path` and the line. */
int sql_conf_parse(struct slice text, const char *path, struct arena *, struct sql_conf *, struct error *);

/* ---- statements ------------------------------------------------------------------------------------------------ */

/* A query template in pieces: SQL text with '?', and the template of each value. */
struct sql_template {
    const char *text;
    const char **values;   /* %-templates, one per '?' */
    size_t count;
};

/* Every literal that holds a variable ('%n@%d'), and every variable outside of literals, becomes a bound parameter: no
 * value is ever read as SQL (CVE-2026-24031, 27860, 40018). A variable in a name (FROM users_%d) is an error. */
int sql_template_parse(const char *query, struct arena *, struct sql_template *, struct error *);

struct sql_statement {
    const char *text;
    const char *const *values;
    size_t count;
};

/* ---- engines --------------------------------------------------------------------------------------------------- */

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
    int (*query)(void *, const struct sql_statement *, sql_row_fn *, void *arg, struct error *);
};

const struct sql_engine *sql_engine_find(const char *name); /* NULL */
extern const struct sql_engine sql_sqlite;

#endif
