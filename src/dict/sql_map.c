/* sql_map.c - dovecot-dict-sql.conf.ext and its patterns (ipc 10.2).
 *
 *     map {
 *       pattern = shared/shared-boxes/user/$to/$from
 *       table = user_shares
 *       value_field = dummy
 *       fields {
 *         from_user = $from
 *         to_user = $to
 *       }
 *     }
 *
 * A variable is one part of the key between two '/'; the last one is everything that is left. */
#include "conf/plain.h"
#include "dict/dict_sql.h"

#include <utlist.h>

struct reading {
    struct arena *arena;
    struct sql_maps *maps;
    struct sql_map *map;           /* inside of "map {" */
    bool fields;                   /* inside of "fields {" */
    VEC(struct sql_column) columns;
    const char *value_field, *value_type;
    bool hexblob;
};

/* ---- the file ---- */

static bool find_type(struct slice word, enum sql_type *type)
{
    static const char *const words[] = {"string", "hexblob", "int", "uint"};

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (slice_equal_str(word, words[i])) {
            *type = (enum sql_type)i;
            return true;
        }
    return false;
}

/* "$to", "${to}", "${int:to}" */
static int read_variable(struct arena *arena, const char *text, struct sql_column *column, struct error *e)
{
    struct slice rest = slice_from_str(text), type;

    if (*text != '$')
        return error_set(e, ERROR_INVALID, "Value is missing '$' for field: %s", column->name);
    rest = slice_from(rest, 1);
    column->type = SQL_TYPE_STRING;
    if (rest.size >= 2 && rest.at[0] == '{' && rest.at[rest.size - 1] == '}') {
        rest = slice_of(rest.at + 1, rest.size - 2);
        if (slice_find(rest, ':') >= 0) {
            (void)slice_split(&rest, ':', &type);
            if (!find_type(type, &column->type))
                return error_set(e, ERROR_INVALID, "Invalid field type: %.*s", (int)type.size, (const char *)type.at);
        }
    }
    column->variable = arena_str(arena, rest);
    return 0;
}

static int set_key(void *arg, const char *key, const char *value, struct error *e)
{
    struct reading *r = arg;
    const struct { const char *name; const char **at; } keys[] = {
        {"pattern", r->map == NULL ? NULL : &r->map->pattern}, {"table", r->map == NULL ? NULL : &r->map->table},
        {"username_field", r->map == NULL ? NULL : &r->map->username_field}, {"value_field", &r->value_field}, {"value_type", &r->value_type},
    };

    if (r->fields) {
        struct sql_column column = {.name = key};

        if (read_variable(r->arena, value, &column, e) < 0)
            return -1;
        VEC_PUSH(&r->columns, column);
        return 0;
    }
    if (r->map == NULL && strcmp(key, "connect") == 0) {
        r->maps->connect = value;
        return 0;
    }
    for (size_t i = 0; r->map != NULL && i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(key, keys[i].name) == 0) {
            *keys[i].at = value;
            return 0;
        }
    if (r->map != NULL && strcmp(key, "value_hexblob") == 0) {
        r->hexblob = strcmp(value, "yes") == 0;
        return 0;
    }
    return error_set(e, ERROR_INVALID, "Unknown setting: %s", key);
}

static int open_section(void *arg, const char *type, const char *name, struct error *e)
{
    struct reading *r = arg;

    (void)name;
    if (r->map == NULL && strcmp(type, "map") == 0) {
        r->map = ARENA_NEW(r->arena, struct sql_map);
        r->value_field = r->value_type = NULL;
        r->hexblob = false;
        r->columns.count = 0;
        return 0;
    }
    if (r->map == NULL || r->fields || strcmp(type, "fields") != 0)
        return error_set(e, ERROR_INVALID, "Unknown section: %s", type);
    r->fields = true;
    return 0;
}

static size_t count_words(const char *list)
{
    size_t n = 1;

    for (; *list != '\0'; list++)
        n += *list == ',';
    return n;
}

/* "bytes, messages" and "int, int"; types that are not given are strings. */
static int read_values(struct reading *r, struct error *e)
{
    struct slice names = slice_from_str(r->value_field), types = slice_from_str(r->value_type == NULL ? "" : r->value_type), word;
    struct sql_map *map = r->map;

    map->values = ARENA_ARRAY(r->arena, struct sql_column, count_words(r->value_field));
    while (slice_split(&names, ',', &word)) {
        struct sql_column *column = &map->values[map->value_count++];

        column->name = arena_str(r->arena, slice_trim(word));
        column->type = r->hexblob ? SQL_TYPE_HEXBLOB : SQL_TYPE_STRING;
        if (slice_split(&types, ',', &word) && word.size > 0 && !find_type(slice_trim(word), &column->type))
            return error_set(e, ERROR_INVALID, "Invalid value in value_type: %.*s", (int)word.size, (const char *)word.at);
    }
    return 0;
}

/* The columns in the order of the pattern's variables. */
static int read_pattern(struct reading *r, struct error *e)
{
    struct slice rest = slice_from_str(r->map->pattern), part;
    struct buffer shape = {0};
    struct sql_map *map = r->map;
    bool first = true;

    map->fields = ARENA_ARRAY(r->arena, struct sql_column, r->columns.count + 1);
    while (slice_split(&rest, '/', &part)) {
        ptrdiff_t at = slice_find(part, '$');
        size_t i = 0;

        if (!first)
            buffer_append_byte(&shape, '/');
        first = false;
        buffer_append_slice(&shape, at < 0 ? part : slice_head(part, (size_t)at));
        if (at < 0)
            continue;
        buffer_append_byte(&shape, '$');
        part = slice_from(part, (size_t)at + 1);
        if (part.size >= 2 && part.at[0] == '{' && part.at[part.size - 1] == '}')
            part = slice_of(part.at + 1, part.size - 2);
        while (i < r->columns.count && (r->columns.at[i].name == NULL || !slice_equal_str(part, r->columns.at[i].variable)))
            i++;
        if (i == r->columns.count) {
            buffer_free(&shape);
            return error_set(e, ERROR_INVALID, "Missing SQL field for variable: %.*s", (int)part.size, (const char *)part.at);
        }
        map->fields[map->field_count++] = r->columns.at[i];
        r->columns.at[i].name = NULL;
    }
    map->shape = arena_str(r->arena, buffer_slice(&shape));
    buffer_free(&shape);
    for (size_t i = 0; i < r->columns.count; i++)
        if (r->columns.at[i].name != NULL)
            return error_set(e, ERROR_INVALID, "Missing variable $%s in pattern: %s", r->columns.at[i].variable, map->pattern);
    return 0;
}

static int close_section(void *arg, struct error *e)
{
    struct reading *r = arg;

    if (r->fields) {
        r->fields = false;
        return 0;
    }
    if (r->map->pattern == NULL)
        return error_set(e, ERROR_INVALID, "Missing setting: pattern");
    if (r->map->table == NULL)
        return error_set(e, ERROR_INVALID, "Missing setting: table");
    if (r->value_field == NULL || *r->value_field == '\0')
        return error_set(e, ERROR_INVALID, "Missing setting: value_field");
    if (!dict_key_valid(r->map->pattern))
        return error_set(e, ERROR_INVALID, "Pattern must begin with priv/ or shared/: %s", r->map->pattern);
    if (strncmp(r->map->pattern, "priv/", 5) == 0 && r->map->username_field == NULL)
        return error_set(e, ERROR_INVALID, "Missing setting: username_field");
    if (read_values(r, e) < 0 || read_pattern(r, e) < 0)
        return -1;
    LL_APPEND(r->maps->first, r->map);
    r->map = NULL;
    return 0;
}

int sql_maps_parse(struct slice text, const char *path, struct arena *arena, struct sql_maps *maps, struct error *e)
{
    static const struct plain_handler handler = {.key = set_key, .open = open_section, .close = close_section};
    struct reading r = {.arena = arena, .maps = maps};
    int result;

    *maps = (struct sql_maps){0};
    result = plain_parse(text, path, arena, &handler, &r, e);
    VEC_FREE(&r.columns);
    if (result == 0 && maps->connect == NULL)
        result = error_set(e, ERROR_INVALID, "Error in configuration file %s: Missing connect setting", path);
    return result;
}

/* ---- patterns ---- */

/* Walks pattern and text together. What is left of both is given back; false: they differ. */
static bool walk(const struct sql_map *map, struct arena *arena, const char *text, const char **variables, size_t *known,
                 const char **shape_rest, const char **text_rest)
{
    const char *p = map->shape;

    *known = 0;
    while (*p != '\0' && *text != '\0') {
        const char *end;

        if (*p != '$') {
            if (*p != *text)
                break;
            p++;
            text++;
            continue;
        }
        end = p[1] == '\0' ? text + strlen(text) : strchrnul(text, '/');
        variables[(*known)++] = arena_str(arena, slice_of(text, (size_t)(end - text)));
        text = end;
        p++;
    }
    *shape_rest = p;
    *text_rest = text;
    return *p == '\0' || *text == '\0';
}

const struct sql_map *sql_maps_find(const struct sql_maps *maps, struct arena *arena, const char *key, const char ***variables)
{
    for (const struct sql_map *map = maps->first; map != NULL; map = map->next) {
        const char **values = ARENA_ARRAY(arena, const char *, map->field_count + 1), *shape, *text;
        size_t known;

        if (!walk(map, arena, key, values, &known, &shape, &text) || *shape != '\0' || *text != '\0')
            continue;
        *variables = values;
        return map;
    }
    return NULL;
}

bool sql_map_below(const struct sql_map *map, struct arena *arena, const char *prefix, const char ***variables, size_t *known)
{
    const char *shape, *text;

    *variables = ARENA_ARRAY(arena, const char *, map->field_count + 1);
    if (!walk(map, arena, prefix, *variables, known, &shape, &text) || *text != '\0')
        return false;
    /* "shared/a/" is above "shared/a/$x"; in "priv/x/" the last variable may have begun already, and is not known. */
    if (*shape == '\0' && map->field_count > 0 && *known == map->field_count && prefix[strlen(prefix) - 1] == '/')
        (*known)--;
    else if (*shape == '\0')
        return false;
    return true;
}

const char *sql_map_key(const struct sql_map *map, struct arena *arena, const char *const *variables)
{
    struct buffer key = {0};
    const char *text;
    size_t n = 0;

    for (const char *p = map->shape; *p != '\0'; p++) {
        if (*p == '$')
            buffer_append_str(&key, variables[n] == NULL ? "" : variables[n]);
        else
            buffer_append_byte(&key, (unsigned char)*p);
        n += *p == '$';
    }
    text = arena_str(arena, buffer_slice(&key));
    buffer_free(&key);
    return text;
}
