/* The right side of "key = value": quotes, $names, <files (config 1.4, 4). */
#include "compat/dialect.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

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

/* The value of a top-level name at this moment: this level's, an enclosing one's, or the default. */
static const char *current_text(struct dialect *d, struct conf_level *level, unsigned def)
{
    for (; level != NULL; level = level->parent) {
        const struct conf_value *v = conf_section_get(&level->section, def);
        if (v != NULL)
            return v->text;
    }
    const char *text = conf_section_text(d->arena, &d->tree->global->section, NULL, def);
    return text == NULL ? "" : text;
}

/* "service/imap/executable" */
static const char *text_by_path(struct dialect *d, struct conf_level *level, const char *path)
{
    struct slice rest = slice_from_str(path), part;
    struct conf_section *section = &level->section;
    const struct conf_builtin *builtin = NULL;
    while (slice_split(&rest, '/', &part)) {
        int def = conf_scope_find(section->scope, part);
        if (def < 0)
            return NULL;
        if (section->scope->defs[def].kind == CONF_DEF_VALUE)
            return rest.size == 0 ? conf_section_text(d->arena, section, builtin, (unsigned)def) : NULL;
        struct slice name = SLICE_EMPTY;
        if (section->scope->defs[def].kind != CONF_DEF_BLOCKS || !slice_split(&rest, '/', &name))
            return NULL;
        const char *text = arena_str(d->arena, name);
        size_t n;
        const struct conf_builtin *services = conf_builtin_services(&n);
        for (size_t i = 0; i < n && section == &level->section && slice_equal_str(part, "service"); i++) {
            if (strcmp(services[i].name, text) == 0)
                builtin = &services[i];
        }
        struct conf_entry *entry = conf_section_find_entry(section, (unsigned)def, text);
        if (entry != NULL) {
            section = &entry->section;
        } else if (builtin != NULL) {
            section = arena_alloc(d->arena, sizeof(*section));
            conf_section_init(section, conf_scope_block((enum conf_block_kind)conf_scope_global()->defs[def].id));
        } else {
            return NULL;
        }
    }
    return NULL;
}

static int expand_word(struct dialect *d, struct frame *frame, const char *key, struct slice word, struct buffer *out,
                       struct error *e)
{
    struct slice name = slice_from(word, 1);
    bool self = slice_equal_str(name, key);
    if (!self && !d->options->expand) {
        buffer_append_slice(out, word);
        return 0;
    }
    char *text = arena_str(d->arena, name);
    if (!self && slice_starts(name, SLICE("ENV:"))) {
        const char *value = getenv(text + 4);
        buffer_append_str(out, value == NULL ? "" : value);
        return 0;
    }
    int def = conf_scope_find(conf_scope_global(), name);
    const char *value = NULL;
    if (def >= 0 && conf_scope_global()->defs[def].kind != CONF_DEF_VALUE)
        return error_set(e, ERROR_INVALID, "Invalid variable: $%s", text);
    if (def >= 0 && (conf_scope_global()->defs[def].flags & CONF_OWN) == 0)
        value = current_text(d, frame->level, (unsigned)def);
    else if (slice_find(name, '/') >= 0)
        value = text_by_path(d, frame->level, text);
    if (value == NULL)
        return error_set(e, ERROR_INVALID, "Unknown variable: $%s", text);
    buffer_append_str(out, value);
    return 0;
}

static int expand_words(struct dialect *d, struct frame *frame, const char *key, const char *raw, const char **value,
                        struct error *e)
{
    struct buffer out = {0};
    struct slice rest = slice_from_str(raw), word;
    int result = 0;
    bool first = true;
    while (result == 0 && slice_split(&rest, ' ', &word)) {
        if (word.size == 0)
            continue;
        if (!first)
            buffer_append_byte(&out, ' ');
        first = false;
        if (word.at[0] == '$')
            result = expand_word(d, frame, key, word, &out, e);
        else
            buffer_append_slice(&out, word);
    }
    *value = arena_str(d->arena, buffer_slice(&out));
    buffer_free(&out);
    return result;
}

static bool file_is_wanted(const struct dialect *d, const struct frame *frame, const char *key)
{
    if (d->options->modules == NULL)
        return true;
    int def = frame->kind == FRAME_LEVEL ? conf_scope_find(conf_scope_global(), slice_from_str(key)) : -1;
    if (def < 0)
        return true;
    for (const char *const *m = d->options->modules; *m != NULL; m++) {
        if (conf_group_in_module((enum conf_group)conf_scope_global()->defs[def].group, *m))
            return true;
    }
    return false;
}

static bool is_server_key(const char *key)
{
    int def = conf_scope_find(conf_scope_global(), slice_from_str(key));
    return def >= 0 && conf_scope_global()->defs[def].group == GROUP_ssl_server;
}

static int read_file_value(struct dialect *d, struct frame *frame, const char *key, const char *path,
                           const char **value, struct error *e)
{
    struct buffer text = {0};
    struct error why;
    path = lines_path(&d->lines, path);
    if (lines_read_file(path, &text, &why) < 0) {
        buffer_free(&text);
        if (d->options->skip_unreadable_keys && why.sys == EACCES && geteuid() != 0 && is_server_key(key)) {
            *value = "";
            return 0;
        }
        return error_set(e, ERROR_INVALID, "%s%s: Can't open file %s: %s", frame->full, key, path, strerror(why.sys));
    }
    *value = arena_strdup(d->arena, buffer_cstr(&text)); /* a NUL ends it */
    buffer_wipe(&text);
    return 0;
}

int dialect_value(struct dialect *d, struct frame *frame, const char *key, const char *raw, const char **value,
                  bool *plain, struct error *e)
{
    *plain = false;
    if (raw[0] == '<') {
        raw++;
        while (*raw == ' ' || *raw == '\t')
            raw++;
        if (d->options->expand && file_is_wanted(d, frame, key))
            return read_file_value(d, frame, key, raw, value, e);
        *value = arena_printf(d->arena, "<%s", raw);
        return 0;
    }
    if (raw[0] != '"' && raw[0] != '\'' && strchr(raw, '$') != NULL)
        return expand_words(d, frame, key, raw, value, e);
    *plain = true;
    *value = arena_strdup(d->arena, unquote(d->arena, raw));
    return 0;
}
