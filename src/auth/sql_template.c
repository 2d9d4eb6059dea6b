/* sql_template.c - turns a query with %-variables into SQL with bound parameters (auth.md 9.4).
 *
 *     SELECT password FROM users WHERE userid = '%n@%d' AND active = 1
 *     SELECT password FROM users WHERE userid = ? AND active = 1          values: "%n@%d"
 *
 * A variable outside of quotes is bound alone. One that touches a letter, a digit or '_' would be part of a name; it
 * cannot be bound, and is refused when the configuration is read. */
#include "auth/sql.h"

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Bytes of the variable that begins at p ("%u", "%{x}", "%Lu", "%1.2Ln"). */
static size_t variable_size(const char *p)
{
    const char *q = p + 1;

    while (*q != '\0' && strchr("-.0123456789LUEXRHNMDT", *q) != NULL)
        q++;
    if (*q == '{') {
        const char *end = strchr(q, '}');
        return end == NULL ? strlen(p) : (size_t)(end + 1 - p);
    }
    return *q == '\0' ? (size_t)(q - p) : (size_t)(q + 1 - p);
}

static bool holds_variable(struct slice text)
{
    for (size_t i = 0; i + 1 < text.size; i++)
        if (text.at[i] == '%' && text.at[++i] != '%')
            return true;
    return false;
}

struct maker {
    struct arena *arena;
    struct buffer text;
    VEC(const char *) values;
};

static void add_value(struct maker *m, const char *value)
{
    buffer_append_byte(&m->text, '?');
    VEC_PUSH(&m->values, value);
}

/* A literal: with a variable it becomes a parameter whose doubled quotes are single again. */
static const char *take_literal(struct maker *m, const char *p, struct error *e)
{
    char quote = *p;
    const char *q = p + 1;
    struct buffer inner = {0};

    for (;;) {
        if (*q == '\0') {
            buffer_free(&inner);
            error_set(e, ERROR_INVALID, "Invalid query: a literal is not closed");
            return NULL;
        }
        if (*q == quote && q[1] == quote) {
            buffer_append_byte(&inner, (unsigned char)quote);
            q += 2;
        } else if (*q == quote) {
            break;
        } else {
            buffer_append_byte(&inner, (unsigned char)*q++);
        }
    }
    q++;
    if (holds_variable(buffer_slice(&inner))) {
        add_value(m, arena_strdup(m->arena, buffer_cstr(&inner)));
    } else {
        /* Only "%%" has to be undone. */
        for (; p < q; p++) {
            buffer_append_byte(&m->text, (unsigned char)*p);
            if (*p == '%' && p[1] == '%')
                p++;
        }
    }
    buffer_free(&inner);
    return q;
}

static const char *take_variable(struct maker *m, const char *start, const char *p, struct error *e)
{
    size_t size;

    if (p[1] == '%') {
        buffer_append_byte(&m->text, '%');
        return p + 2;
    }
    size = variable_size(p);
    if ((p > start && is_name(p[-1])) || is_name(p[size])) {
        error_set(e, ERROR_INVALID, "Invalid query: variable %.*s is part of a name; only values can be variable",
                  (int)size, p);
        return NULL;
    }
    add_value(m, arena_str(m->arena, slice_of(p, size)));
    return p + size;
}

int sql_template_parse(const char *query, struct arena *arena, struct sql_template *out, struct error *e)
{
    struct maker m = {.arena = arena};
    const char *p = query;

    while (p != NULL && *p != '\0') {
        if (*p == '\'' || *p == '"' || *p == '`')
            p = take_literal(&m, p, e);
        else if (*p == '%')
            p = take_variable(&m, query, p, e);
        else
            buffer_append_byte(&m.text, (unsigned char)*p++);
    }
    if (p != NULL) {
        out->text = arena_strdup(arena, buffer_cstr(&m.text));
        out->count = m.values.count;
        out->values = arena_copy(arena, m.values.at, m.values.count * sizeof(*m.values.at));
    }
    buffer_free(&m.text);
    VEC_FREE(&m.values);
    return p == NULL ? -1 : 0;
}
