/* Dictionaries in SQL tables, "sqlite:FILE" (ipc 10.2): the file says which key is which column of which row.
 *
 *     sql_map.c     the file, and which map a key belongs to: pure
 *     sql_query.c   statements of a map: pure
 *     sql_dict.c    the driver
 *
 * Values are always bound; only names of tables and columns, which the admin wrote, are part of a statement's text. */
#ifndef YARILO_DICT_DICT_SQL_H
#define YARILO_DICT_DICT_SQL_H

#include "sql/sql.h"
#include "store/dict_driver.h"

extern const struct dict_driver dict_driver_sqlite;

/* ---- sql_map.c ---- */

enum sql_type { SQL_TYPE_STRING, SQL_TYPE_HEXBLOB, SQL_TYPE_INT, SQL_TYPE_UINT };

struct sql_column {
    const char *name;
    enum sql_type type;
    const char *variable;      /* of fields: "to" in "$to"; NULL in values */
};

struct sql_map {
    const char *pattern;       /* as it is written */
    const char *shape;         /* each variable is one '$' */
    const char *table, *username_field;
    struct sql_column *values, *fields;   /* fields: one for each variable of the pattern, in its order */
    size_t value_count, field_count;
    struct sql_map *next;
};

struct sql_maps {
    const char *connect;
    struct sql_map *first;
};

int sql_maps_parse(struct slice text, const char *path, struct arena *, struct sql_maps *, struct error *);

/* The first map whose pattern is the key; variables[i] is what field i stands for. NULL: none. */
const struct sql_map *sql_maps_find(const struct sql_maps *, struct arena *, const char *key, const char ***variables);
/* Does the map have keys that begin with `prefix`? `known`: variables that the prefix decides. */
bool sql_map_below(const struct sql_map *, struct arena *, const char *prefix, const char ***variables, size_t *known);
/* The key of a row. */
const char *sql_map_key(const struct sql_map *, struct arena *, const char *const *variables);

/* ---- sql_query.c ---- */

/* One statement with its values, growing. */
struct sql_text {
    struct buffer text;
    VEC(const char *) values;
};
void sql_text_free(struct sql_text *);
struct sql_statement sql_text_statement(struct sql_text *);

/* A row of a map: where it is. `count` variables are known (all, but for iterations). */
struct sql_place {
    const struct sql_map *map;
    const char **variables;
    size_t count;
    const char *user;          /* of "priv/" keys */
};
/* Is `value` of the column's type? "F field's value isn't 64bit signed integer: x (in pattern: P)". */
int sql_check(const struct sql_map *, const struct sql_column *, const char *value, struct error *);
int sql_check_place(const struct sql_place *, struct error *);
/* The columns of a SELECT: values, then the fields that are not known. */
void sql_put_select(struct sql_text *, const struct sql_place *);
void sql_put_delete(struct sql_text *, const struct sql_place *);
void sql_put_add(struct sql_text *, const struct sql_place *, const char *diff);

/* Several SETs of one row become one INSERT ... ON CONFLICT ... DO UPDATE. */
struct sql_set {
    const struct sql_map *map;
    const char *value;
};
void sql_put_set(struct sql_text *, const struct sql_place *, const struct sql_set *, size_t count);
/* Are both the same row of the same table? */
bool sql_same_row(const struct sql_place *, const struct sql_place *);

#endif
