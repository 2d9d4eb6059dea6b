/* fields.c - key and value pairs of replies. */
#include "rpc/line.h"

static const struct rpc_field *find_field(const struct rpc_fields *f, const char *key)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->at[i].key, key) == 0)
            return &f->at[i];
    return NULL;
}

const char *rpc_fields_get(const struct rpc_fields *f, const char *key)
{
    const struct rpc_field *field = find_field(f, key);

    return field == NULL ? NULL : field->value == NULL ? "" : field->value;
}

bool rpc_fields_has(const struct rpc_fields *f, const char *key)
{
    return find_field(f, key) != NULL;
}

struct rpc_fields rpc_fields_parse(struct arena *arena, const struct slice *fields, size_t count, size_t from)
{
    struct rpc_fields out = {0};

    if (from >= count)
        return out;
    out.at = ARENA_ARRAY(arena, struct rpc_field, count - from);
    for (size_t i = from; i < count; i++) {
        ptrdiff_t eq = slice_find(fields[i], '=');

        if (fields[i].size == 0) {
            out.empty = out.count + 1;
            continue;
        }
        if (eq < 0) {
            out.at[out.count++].key = arena_str(arena, fields[i]);
        } else {
            out.at[out.count].key = arena_str(arena, slice_head(fields[i], (size_t)eq));
            out.at[out.count++].value = arena_str(arena, slice_from(fields[i], (size_t)eq + 1));
        }
    }
    return out;
}

struct rpc_fields rpc_fields_copy(struct arena *arena, const struct rpc_fields *f)
{
    struct rpc_fields out = {.count = f->count, .empty = f->empty};

    if (f->count > 0)
        out.at = ARENA_ARRAY(arena, struct rpc_field, f->count);
    for (size_t i = 0; i < f->count; i++) {
        out.at[i].key = arena_strdup(arena, f->at[i].key);
        out.at[i].value = f->at[i].value == NULL ? NULL : arena_strdup(arena, f->at[i].value);
    }
    return out;
}

/* Goes back only to the last star: O(mask x name). */
bool rpc_wildcard_match(struct slice mask, struct slice name)
{
    size_t m = 0, n = 0, star = SIZE_MAX, mark = 0;

    while (n < name.size) {
        if (m < mask.size && mask.at[m] == '*') {
            star = m++;
            mark = n;
        } else if (m < mask.size && (mask.at[m] == '?' || mask.at[m] == name.at[n])) {
            m++, n++;
        } else if (star != SIZE_MAX) {
            m = star + 1;
            n = ++mark;
        } else {
            return false;
        }
    }
    while (m < mask.size && mask.at[m] == '*')
        m++;
    return m == mask.size;
}

void rpc_fields_write(struct buffer *out, const char *mark, const struct rpc_fields *f)
{
    struct buffer field = {0};

    for (size_t i = 0; i < f->count; i++) {
        buffer_reset(&field);
        buffer_append_str(&field, mark);
        buffer_append_str(&field, f->at[i].key);
        if (f->at[i].value != NULL)
            buffer_printf(&field, "=%s", f->at[i].value);
        line_field(out, buffer_slice(&field));
    }
    buffer_free(&field);
}

const char *const *rpc_fields_texts(struct arena *arena, const struct rpc_fields *f)
{
    const char **texts = ARENA_ARRAY(arena, const char *, f->count + 1);

    for (size_t i = 0; i < f->count; i++)
        texts[i] = f->at[i].value == NULL ? f->at[i].key : arena_printf(arena, "%s=%s", f->at[i].key, f->at[i].value);
    return texts;
}
