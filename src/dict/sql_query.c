/* sql_query.c - statements for the rows of a map (ipc 10.2).
 *
 * A hexblob's value is checked to be hex and stands in the text as X'...'; everything else is bound. */
#include "dict/dict_sql.h"

#include <errno.h>
#include <stdlib.h>

void sql_text_free(struct sql_text *t)
{
    buffer_free(&t->text);
    VEC_FREE(&t->values);
}

struct sql_statement sql_text_statement(struct sql_text *t)
{
    return (struct sql_statement){buffer_cstr(&t->text), t->values.at, t->values.count};
}

static bool is_hex(const char *text)
{
    return strspn(text, "0123456789abcdefABCDEF") == strlen(text) && strlen(text) % 2 == 0;
}

static bool is_int(const char *text)
{
    char *end;

    errno = 0;
    (void)strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && strchr("-0123456789", *text) != NULL;
}

int sql_check(const struct sql_map *map, const struct sql_column *column, const char *value, struct error *e)
{
    static const char *const kinds[] = {"string", "hexblob", "64bit signed integer", "64bit unsigned integer"};
    uint64_t number;
    bool good = true;

    if (column->type == SQL_TYPE_HEXBLOB)
        good = is_hex(value);
    else if (column->type == SQL_TYPE_INT)
        good = is_int(value);
    else if (column->type == SQL_TYPE_UINT)
        good = slice_to_u64(slice_from_str(value), &number);
    if (good)
        return 0;
    return error_set(e, ERROR_INVALID, "%s field's value isn't %s: %s (in pattern: %s)", column->variable == NULL ? "value" : column->name, kinds[column->type], value, map->shape);
}

int sql_check_place(const struct sql_place *p, struct error *e)
{
    for (size_t i = 0; i < p->count; i++)
        if (sql_check(p->map, &p->map->fields[i], p->variables[i], e) < 0)
            return -1;
    return 0;
}

static void put_value(struct sql_text *t, enum sql_type type, const char *value)
{
    if (type == SQL_TYPE_HEXBLOB) {
        buffer_printf(&t->text, "X'%s'", value);
        return;
    }
    /* A number is one in columns without a type, too. */
    buffer_append_str(&t->text, type == SQL_TYPE_STRING ? "?" : "CAST(? AS INTEGER)");
    VEC_PUSH(&t->values, value);
}

static bool is_private(const struct sql_map *map)
{
    return strncmp(map->pattern, "priv/", 5) == 0;
}

static void put_where(struct sql_text *t, const struct sql_place *p)
{
    const char *word = " WHERE ";

    for (size_t i = 0; i < p->count; i++) {
        buffer_printf(&t->text, "%s%s = ", word, p->map->fields[i].name);
        put_value(t, p->map->fields[i].type, p->variables[i]);
        word = " AND ";
    }
    if (is_private(p->map)) {
        buffer_printf(&t->text, "%s%s = ", word, p->map->username_field);
        put_value(t, SQL_TYPE_STRING, p->user);
    }
}

static void put_column(struct sql_text *t, const struct sql_column *column)
{
    buffer_printf(&t->text, column->type == SQL_TYPE_HEXBLOB ? "lower(hex(%s))" : "%s", column->name);
}

void sql_put_select(struct sql_text *t, const struct sql_place *p)
{
    const char *word = "SELECT ";

    for (size_t i = 0; i < p->map->value_count; i++, word = ", ") {
        buffer_append_str(&t->text, word);
        put_column(t, &p->map->values[i]);
    }
    for (size_t i = p->count; i < p->map->field_count; i++) {
        buffer_append_str(&t->text, ", ");
        put_column(t, &p->map->fields[i]);
    }
    buffer_printf(&t->text, " FROM %s", p->map->table);
    put_where(t, p);
}

void sql_put_delete(struct sql_text *t, const struct sql_place *p)
{
    buffer_printf(&t->text, "DELETE FROM %s", p->map->table);
    put_where(t, p);
}

void sql_put_add(struct sql_text *t, const struct sql_place *p, const char *diff)
{
    const char *column = p->map->values[0].name;

    buffer_printf(&t->text, "UPDATE %s SET %s = %s + ", p->map->table, column, column);
    put_value(t, SQL_TYPE_INT, diff);
    put_where(t, p);
}

void sql_put_set(struct sql_text *t, const struct sql_place *p, const struct sql_set *sets, size_t count)
{
    const struct sql_map *map = p->map;
    const char *word = "";

    buffer_printf(&t->text, "INSERT INTO %s (", map->table);
    for (size_t i = 0; i < count; i++)
        buffer_printf(&t->text, "%s%s", i == 0 ? "" : ", ", sets[i].map->values[0].name);
    for (size_t i = 0; i < map->field_count; i++)
        buffer_printf(&t->text, ", %s", map->fields[i].name);
    if (is_private(map))
        buffer_printf(&t->text, ", %s", map->username_field);
    buffer_append_str(&t->text, ") VALUES (");
    for (size_t i = 0; i < count; i++) {
        buffer_append_str(&t->text, i == 0 ? "" : ", ");
        put_value(t, sets[i].map->values[0].type, sets[i].value);
    }
    for (size_t i = 0; i < map->field_count; i++) {
        buffer_append_str(&t->text, ", ");
        put_value(t, map->fields[i].type, p->variables[i]);
    }
    if (is_private(map)) {
        buffer_append_str(&t->text, ", ");
        put_value(t, SQL_TYPE_STRING, p->user);
    }
    buffer_append_byte(&t->text, ')');
    if (map->field_count == 0 && !is_private(map))
        return;
    buffer_append_str(&t->text, " ON CONFLICT (");
    for (size_t i = 0; i < map->field_count; i++, word = ", ")
        buffer_printf(&t->text, "%s%s", word, map->fields[i].name);
    if (is_private(map))
        buffer_printf(&t->text, "%s%s", word, map->username_field);
    buffer_append_str(&t->text, ") DO UPDATE SET ");
    for (size_t i = 0; i < count; i++)
        buffer_printf(&t->text, "%s%s = excluded.%s", i == 0 ? "" : ", ", sets[i].map->values[0].name, sets[i].map->values[0].name);
}

bool sql_same_row(const struct sql_place *a, const struct sql_place *b)
{
    if (strcmp(a->map->table, b->map->table) != 0 || is_private(a->map) != is_private(b->map) || a->map->field_count != b->map->field_count)
        return false;
    if (is_private(a->map) && strcmp(a->map->username_field, b->map->username_field) != 0)
        return false;
    for (size_t i = 0; i < a->map->field_count; i++)
        if (strcmp(a->map->fields[i].name, b->map->fields[i].name) != 0 || strcmp(a->variables[i], b->variables[i]) != 0)
            return false;
    return true;
}
