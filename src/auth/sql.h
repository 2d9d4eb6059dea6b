/* SQL for the databases: the driver's configuration file and query templates with bound parameters (auth.md 9.4).
 * Everything is synchronous: it runs in auth-worker. */
#ifndef YARILO_AUTH_SQL_H
#define YARILO_AUTH_SQL_H

#include "sql/sql.h"

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

#endif
