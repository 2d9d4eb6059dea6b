/* The right side of "key = value": quotes, $names, <files (config 1.4, 4). */
#include "compat/dialect.h"

/* Removes the quotes when first and last byte are the same quote; every \x inside becomes x. */
static const char *unquote(struct arena *arena, const char *raw)
{
    size_t size = strlen(raw);
    if (size == 0 || (raw[0] != '"' && raw[0] != '\'') || raw[size - 1] != raw[0])
        return raw;
    if (size == 1)
        return "";
    char *out = arena_alloc(arena, size), *p = out;
    for (size_t i = 1; i < size - 1; i++) {
        if (raw[i] == '\\' && ++i == size - 1)
            break;
        *p++ = raw[i];
    }
    *p = '\0';
    return out;
}

int dialect_value(struct dialect *d, struct frame *frame, const char *key, const char *raw, const char **value,
                  bool *plain, struct error *e)
{
    *plain = false;
    if (raw[0] == '<') {
        raw++;
        while (*raw == ' ' || *raw == '\t')
            raw++;
        const char *path = d->options->expand ? lines_path(&d->lines, raw) : raw;
        return conf_file_value(d->tree, d->options, frame->full, key, frame->kind == FRAME_LEVEL, path, value, e);
    }
    if (raw[0] != '"' && raw[0] != '\'' && strchr(raw, '$') != NULL)
        return conf_expand_words(d->tree, frame->level, key, raw, d->options->expand, value, e);
    *plain = true;
    *value = arena_strdup(d->arena, unquote(d->arena, raw));
    return 0;
}
