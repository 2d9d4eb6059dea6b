/* sql_dict.c - the driver of dictionaries in SQL tables. A transaction is one of the database. */
#include "dict/dict_sql.h"

#include <fcntl.h>
#include <stdio.h>

#define CONF_MOST (1024 * 1024)

struct sql_dict {
    struct dict dict;
    struct arena *arena;           /* of the maps */
    struct sql_maps maps;
    const struct sql_engine *engine;
    void *connection;
};

static struct sql_dict *sql_of(struct dict *dict)
{
    return (struct sql_dict *)dict; /* its first member */
}

static void close_sql(struct dict *dict)
{
    struct sql_dict *sql = sql_of(dict);

    if (sql->connection != NULL)
        sql->engine->close(sql->connection);
    arena_free(sql->arena);
    mem_free(sql);
}

static int open_sqlite(struct dict **out, const char *path, const struct dict_settings *settings, struct error *e)
{
    struct sql_dict *sql = mem_zero(1, sizeof(*sql));
    struct buffer text = {0};
    int r;

    (void)settings;
    sql->arena = arena_new();
    sql->engine = &sql_sqlite;
    r = os_read_file(AT_FDCWD, path, CONF_MOST, &text, e);
    if (r == 0)
        r = sql_maps_parse(buffer_slice(&text), path, sql->arena, &sql->maps, e);
    buffer_wipe(&text);
    if (r == 0) {
        sql->connection = sql->engine->open(sql->maps.connect, false, e);
        r = sql->connection == NULL ? -1 : 0;
    }
    if (r < 0) {
        close_sql(&sql->dict);
        return error_context(e, "dict sqlite: ");
    }
    *out = &sql->dict;
    return 0;
}

/* ---- reading ---- */

struct rows {
    const struct sql_place *place;
    struct arena *arena;
    struct dict_values *values;    /* a lookup: of the first row */
    struct dict_pairs *pairs;      /* an iteration */
    const char *prefix;
    bool deep, found;
};

static bool take_value(void *arg, const struct sql_row *row)
{
    struct rows *r = arg;

    for (size_t i = 0; i < r->place->map->value_count && i < (size_t)row->columns; i++)
        dict_value_add(r->values, r->arena, row->values[i]);
    return false;
}

static bool take_pair(void *arg, const struct sql_row *row)
{
    struct rows *r = arg;
    const struct sql_map *map = r->place->map;
    const char **variables = ARENA_ARRAY(r->arena, const char *, map->field_count + 1), *key;
    size_t n = strlen(r->prefix);

    for (size_t i = 0; i < map->field_count; i++)
        variables[i] = i < r->place->count ? r->place->variables[i] : row->values[map->value_count + i - r->place->count];
    key = sql_map_key(map, r->arena, variables);
    if (strncmp(key, r->prefix, n) != 0 || (!r->deep && strchr(key + n, '/') != NULL))
        return true;
    VEC_PUSH(r->pairs, ((struct dict_pair){key, arena_strdup(r->arena, row->values[0] == NULL ? "" : row->values[0])}));
    return true;
}

static int query(struct sql_dict *sql, struct sql_text *text, sql_row_fn *row, void *arg, struct error *e)
{
    struct sql_statement statement = sql_text_statement(text);

    return sql->engine->query(sql->connection, &statement, row, arg, e);
}

static int get(struct dict *dict, struct arena *arena, const char *key, struct dict_values *values, struct error *e)
{
    struct sql_dict *sql = sql_of(dict);
    struct sql_place place = {.user = dict->user};
    struct rows rows = {.place = &place, .arena = arena, .values = values};
    struct sql_text text = {0};
    int r;

    place.map = sql_maps_find(&sql->maps, arena, key, &place.variables);
    if (place.map == NULL)
        return error_set(e, ERROR_INVALID, "sql dict lookup: Invalid/unmapped key: %s", key);
    place.count = place.map->field_count;
    if (sql_check_place(&place, e) < 0)
        return error_context(e, "sql dict lookup: Failed to lookup key %s: ", key);
    sql_put_select(&text, &place);
    r = query(sql, &text, take_value, &rows, e);
    sql_text_free(&text);
    return r == 0 ? 0 : error_context(e, "dict sql lookup failed: ");
}

static size_t count_slashes(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += *text == '/';
    return n;
}

static int list(struct dict *dict, struct arena *arena, const char *prefix, bool deep, struct dict_pairs *out, struct error *e)
{
    struct sql_dict *sql = sql_of(dict);
    bool any = false;
    int r = 0;

    for (const struct sql_map *map = sql->maps.first; r == 0 && map != NULL; map = map->next) {
        struct sql_place place = {.map = map, .user = dict->user};
        struct rows rows = {.place = &place, .arena = arena, .pairs = out, .prefix = prefix, .deep = deep};
        struct sql_text text = {0};

        if (!sql_map_below(map, arena, prefix, &place.variables, &place.count) || (!deep && count_slashes(map->shape) > count_slashes(prefix)))
            continue;
        any = true;
        if (sql_check_place(&place, e) < 0)
            return error_context(e, "sql dict iterate failed for %s: ", prefix);
        sql_put_select(&text, &place);
        r = query(sql, &text, take_pair, &rows, e);
        sql_text_free(&text);
    }
    if (!any)
        return error_set(e, ERROR_INVALID, "sql dict iterate failed for %s: Invalid/unmapped path", prefix);
    return r == 0 ? 0 : error_context(e, "dict sql iterate failed: ");
}

/* ---- changing ---- */

struct writing {
    struct sql_dict *sql;
    struct arena *arena;
    /* SETs of one row that wait for the next of it. */
    struct sql_place row;
    VEC(struct sql_set) sets;
};

static int run_text(struct sql_dict *sql, const char *text, struct error *e)
{
    struct sql_statement statement = {.text = text};

    return sql->engine->query(sql->connection, &statement, NULL, NULL, e);
}

static int flush_sets(struct writing *w, struct error *e)
{
    struct sql_text text = {0};
    int r;

    if (w->sets.count == 0)
        return 0;
    sql_put_set(&text, &w->row, w->sets.at, w->sets.count);
    r = query(w->sql, &text, NULL, NULL, e);
    sql_text_free(&text);
    w->sets.count = 0;
    return r;
}

static int find_place(struct writing *w, const struct dict_change *c, struct sql_place *place, struct error *e)
{
    static const char *const words[] = {[DICT_SET] = "sql dict set", [DICT_UNSET] = "dict-sql", [DICT_ADD] = "sql dict atomic inc"};

    *place = (struct sql_place){.user = w->sql->dict.user};
    place->map = sql_maps_find(&w->sql->maps, w->arena, c->key, &place->variables);
    if (place->map == NULL)
        return error_set(e, ERROR_INVALID, "%s: Invalid/unmapped key: %s", words[c->what], c->key);
    place->count = place->map->field_count;
    if (sql_check_place(place, e) == 0 && (c->what != DICT_SET || sql_check(place->map, &place->map->values[0], c->value, e) == 0))
        return 0;
    return error_context(e, "dict-sql: Failed to set 1 fields (first %s): ", c->key);
}

static bool sets_column(const struct writing *w, const char *column)
{
    for (size_t i = 0; i < w->sets.count; i++)
        if (strcmp(w->sets.at[i].map->values[0].name, column) == 0)
            return true;
    return false;
}

static int change(struct writing *w, struct dict_change *c, struct error *e)
{
    struct sql_text text = {0};
    struct sql_place place;
    char diff[24];
    int r;

    if (find_place(w, c, &place, e) < 0)
        return -1;
    if (w->sets.count > 0 && (c->what != DICT_SET || !sql_same_row(&place, &w->row) || sets_column(w, place.map->values[0].name)) &&
        flush_sets(w, e) < 0)
        return -1;
    if (c->what == DICT_SET) {
        w->row = place;
        VEC_PUSH(&w->sets, ((struct sql_set){place.map, c->value}));
        return 0;
    }
    if (c->what == DICT_UNSET) {
        sql_put_delete(&text, &place);
    } else {
        snprintf(diff, sizeof(diff), "%lld", (long long)c->add);
        sql_put_add(&text, &place, diff);
    }
    r = query(w->sql, &text, NULL, NULL, e);
    c->missing = r == 0 && c->what == DICT_ADD && w->sql->engine->changed(w->sql->connection) == 0;
    sql_text_free(&text);
    return r;
}

static enum step commit(struct dict *dict, struct dict_change *changes, size_t count, struct error *e)
{
    struct writing w = {.sql = sql_of(dict), .arena = arena_new()};
    struct error ignored;
    int r = run_text(w.sql, "BEGIN IMMEDIATE", e);
    bool begun = r == 0;

    for (size_t i = 0; r == 0 && i < count; i++)
        r = change(&w, &changes[i], e);
    if (r == 0)
        r = flush_sets(&w, e);
    if (r == 0)
        r = run_text(w.sql, "COMMIT", e);
    if (r < 0 && begun)
        (void)run_text(w.sql, "ROLLBACK", &ignored);
    VEC_FREE(&w.sets);
    arena_free(w.arena);
    return r == 0 ? STEP_DONE : STEP_ERROR;
}

const struct dict_driver dict_driver_sqlite = {"sqlite", open_sqlite, close_sql, get, list, commit, NULL, false};
