/* $names and <files: see reading.h. */
#include "conf/reading.h"

#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_MOST ((size_t)64 << 20)

int conf_read_file(const char *path, struct buffer *text, struct error *e)
{
    /* Links are followed: administrators keep configurations behind them. A folder reads as empty, as in Dovecot. */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(e, "open", path);
    struct stat st;
    ssize_t got = 0;
    if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode)) {
        do {
            got = os_pread(fd, text->size, 65536, text, e);
        } while (got > 0 && text->size < FILE_MOST);
    }
    close(fd);
    return got < 0 ? -1 : 0;
}

/* ---- $names ----------------------------------------------------------------------------------------------------- */

struct words {
    struct conf_tree *tree;
    struct conf_level *level;
    const char *key;
    bool expand;
};

/* The value of a top-level name at this moment: this level's, an enclosing one's, or the default. */
static const char *current_text(struct words *w, struct conf_level *level, unsigned def)
{
    for (; level != NULL; level = level->parent) {
        const struct conf_value *v = conf_section_get(&level->section, def);
        if (v != NULL)
            return v->text;
    }
    const char *text = conf_section_text(w->tree->arena, &w->tree->global->section, NULL, def);
    return text == NULL ? "" : text;
}

/* "service/imap/executable" */
static const char *text_by_path(struct words *w, struct conf_level *level, const char *path)
{
    struct slice rest = slice_from_str(path), part;
    struct conf_section *section = &level->section;
    const struct conf_builtin *builtin = NULL;
    while (slice_split(&rest, '/', &part)) {
        int def = conf_scope_find(section->scope, part);
        if (def < 0)
            return NULL;
        if (section->scope->defs[def].kind == CONF_DEF_VALUE)
            return rest.size == 0 ? conf_section_text(w->tree->arena, section, builtin, (unsigned)def) : NULL;
        struct slice name = SLICE_EMPTY;
        if (section->scope->defs[def].kind != CONF_DEF_BLOCKS || !slice_split(&rest, '/', &name))
            return NULL;
        const char *text = arena_str(w->tree->arena, name);
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
            section = arena_alloc(w->tree->arena, sizeof(*section));
            conf_section_init(section, conf_scope_block((enum conf_block_kind)conf_scope_global()->defs[def].id));
        } else {
            return NULL;
        }
    }
    return NULL;
}

static int expand_word(struct words *w, struct slice word, struct buffer *out, struct error *e)
{
    struct slice name = slice_from(word, 1);
    bool self = slice_equal_str(name, w->key);
    if (!self && !w->expand) {
        buffer_append_slice(out, word);
        return 0;
    }
    char *text = arena_str(w->tree->arena, name);
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
        value = current_text(w, w->level, (unsigned)def);
    else if (slice_find(name, '/') >= 0)
        value = text_by_path(w, w->level, text);
    if (value == NULL)
        return error_set(e, ERROR_INVALID, "Unknown variable: $%s", text);
    buffer_append_str(out, value);
    return 0;
}

int conf_expand_words(struct conf_tree *tree, struct conf_level *level, const char *key, const char *raw, bool expand,
                      const char **value, struct error *e)
{
    struct words w = {tree, level, key, expand};
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
            result = expand_word(&w, word, &out, e);
        else
            buffer_append_slice(&out, word);
    }
    *value = arena_str(tree->arena, buffer_slice(&out));
    buffer_free(&out);
    return result;
}

/* ---- <files ----------------------------------------------------------------------------------------------------- */

static bool file_is_wanted(const struct conf_reading *how, const char *key, bool global)
{
    if (how->modules == NULL)
        return true;
    int def = global ? conf_scope_find(conf_scope_global(), slice_from_str(key)) : -1;
    if (def < 0)
        return true;
    for (const char *const *m = how->modules; *m != NULL; m++) {
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

int conf_file_value(struct conf_tree *tree, const struct conf_reading *how, const char *full, const char *key,
                    bool global, const char *path, const char **value, struct error *e)
{
    struct buffer text = {0};
    struct error why;
    if (!how->expand || !file_is_wanted(how, key, global)) {
        *value = arena_printf(tree->arena, "<%s", path);
        return 0;
    }
    if (conf_read_file(path, &text, &why) < 0) {
        buffer_free(&text);
        if (how->skip_unreadable_keys && why.sys == EACCES && geteuid() != 0 && is_server_key(key)) {
            *value = "";
            return 0;
        }
        return error_set(e, ERROR_INVALID, "%s%s: Can't open file %s: %s", full, key, path, strerror(why.sys));
    }
    *value = arena_strdup(tree->arena, buffer_cstr(&text)); /* a NUL ends it */
    buffer_wipe(&text);
    return 0;
}
