/* Values from YAML into settings: the schema decides what a scalar means (config-yaml 1). */
#include "conf/registry.h"
#include "conf/yaml_key.h"

#include <stdio.h>

static bool is_digits(const char *text)
{
    uint64_t n;
    return slice_to_u64(slice_from_str(text), &n);
}

static bool word_bool(const char *text, bool *value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true}, {"yes", true}, {"on", true}, {"false", false}, {"no", false}, {"off", false}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_equal_str_nocase(slice_from_str(text), words[i].word)) {
            *value = words[i].value;
            return true;
        }
    }
    return false;
}

bool yaml_bool(struct yaml *y, const struct yaml_node *node, bool *value)
{
    if (node->kind == YAML_TEXT && word_bool(node->text, value))
        return true;
    FAULT(y, node, "true or false was expected");
    return false;
}

const char *yaml_text(struct yaml *y, const struct yaml_node *node)
{
    if (node->kind == YAML_TEXT)
        return node->text;
    FAULT(y, node, "a text was expected");
    return NULL;
}

static const char *join_list(struct yaml *y, const struct yaml_node *list)
{
    struct buffer out = {0};
    for (const struct yaml_node *item = list->items; item != NULL; item = item->next) {
        if (item->kind != YAML_TEXT) {
            FAULT(y, item, "a text was expected");
            continue;
        }
        if (out.size > 0)
            buffer_append_byte(&out, ' ');
        buffer_append_str(&out, item->text);
    }
    const char *text = arena_str(y->arena, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

const char *yaml_value_text(struct yaml *y, const struct conf_def *def, const struct yaml_node *node)
{
    bool value;
    if (node->kind == YAML_MAP) {
        FAULT(y, node, "%s: a value was expected, not a map", def->name);
        return NULL;
    }
    if (node->kind == YAML_LIST) {
        if (def->type != CONF_STR && def->type != CONF_STR_VARS) {
            FAULT(y, node, "%s: one value was expected, not a list", def->name);
            return NULL;
        }
        return join_list(y, node);
    }
    switch (def->type) {
    case CONF_BOOL:
        return word_bool(node->text, &value) ? (value ? "yes" : "no") : node->text;
    case CONF_TIME:
    case CONF_TIME_MSECS:
        return is_digits(node->text) ? arena_printf(y->arena, "%s secs", node->text) : node->text;
    default:
        return node->text;
    }
}

void yaml_set_text(struct yaml *y, struct conf_section *section, unsigned def, const char *text,
                   const struct yaml_node *at)
{
    struct error e;
    struct arena *arena = y->tree->arena;
    const struct conf_def *d = &section->scope->defs[def];
    struct conf_place place = {arena_strdup(arena, at->file), at->line};
    if (conf_registry_set(arena, section, def, arena_strdup(arena, text), place, &e) == 0)
        return;
    if (d->type == CONF_ENUM)
        FAULT(y, at, "%s: %s (known: %s)", d->name, e.admin, d->value);
    else
        FAULT(y, at, "%s: %s", d->name, e.admin);
}

/* $words of Dovecot's language and <path are understood in every text. */
static const char *resolve(struct yaml *y, struct conf_level *level, const struct conf_def *def, bool global,
                           const char *text, const struct yaml_node *at)
{
    struct error e;
    const char *value = text;
    int result = 0;
    if (text[0] == '<') {
        do {
            text++;
        } while (*text == ' ' || *text == '\t');
        const char *slash = strrchr(at->file, '/');
        if (y->how->expand && text[0] != '/' && slash != NULL)
            text = arena_printf(y->arena, "%.*s/%s", (int)(slash - at->file), at->file, text);
        result = conf_file_value(y->tree, y->how, "", def->name, global, text, &value, &e);
    } else if (strchr(text, '$') != NULL && level != NULL) {
        result = conf_expand_words(y->tree, level, def->name, text, y->how->expand, &value, &e);
    }
    if (result == 0)
        return value;
    FAULT(y, at, "%s%s%s", text[0] == '<' ? "" : def->name, text[0] == '<' ? "" : ": ", e.admin);
    return NULL;
}

void yaml_set(struct yaml *y, struct conf_level *level, struct conf_section *section, unsigned def,
              const struct yaml_node *node)
{
    const struct conf_def *d = &section->scope->defs[def];
    const char *text = yaml_value_text(y, d, node);
    if (text == NULL)
        return;
    text = resolve(y, level, d, section->scope == conf_scope_global(), text, node);
    if (text != NULL)
        yaml_set_text(y, section, def, text, node);
}

void yaml_set_global(struct yaml *y, enum setting id, const struct yaml_node *node)
{
    yaml_set(y, y->tree->global, &y->tree->global->section, (unsigned)conf_setting_def(id), node);
}

void yaml_set_file(struct yaml *y, struct conf_level *level, enum setting id, const struct yaml_node *node)
{
    unsigned def = (unsigned)conf_setting_def(id);
    const char *text = yaml_text(y, node);
    if (text == NULL)
        return;
    if (text[0] != '<' && text[0] != '\0')
        text = arena_printf(y->arena, "<%s", text);
    text = resolve(y, NULL, &conf_scope_global()->defs[def], true, text, node);
    if (text != NULL)
        yaml_set_text(y, &level->section, def, text, node);
}

void yaml_set_pair(struct yaml *y, struct conf_level *level, enum conf_strlist which, const char *key,
                   const char *value, const struct yaml_node *at)
{
    struct arena *arena = y->tree->arena;
    struct conf_place place = {arena_strdup(arena, at->file), at->line};
    conf_section_set_pair(arena, &level->section, which, key, arena_strdup(arena, value), place);
}

struct conf_section *yaml_entry(struct yaml *y, struct conf_section *section, const char *list, const char *name,
                                const struct yaml_node *at)
{
    bool existed;
    int def = conf_scope_find(section->scope, slice_from_str(list));
    struct conf_place place = {arena_strdup(y->tree->arena, at->file), at->line};
    return &conf_section_entry(y->tree->arena, section, (unsigned)def, slice_from_str(name), place, &existed)->section;
}

void yaml_member(struct yaml *y, struct conf_section *section, const char *member, const char *text,
                 const struct yaml_node *at)
{
    yaml_set_text(y, section, (unsigned)conf_scope_find(section->scope, slice_from_str(member)), text, at);
}

struct conf_level *yaml_protocol(struct yaml *y, const char *protocol, const struct yaml_node *at)
{
    struct conf_facts facts = {.service = protocol};
    struct conf_place place = {arena_strdup(y->tree->arena, at->file), at->line};
    return conf_tree_level(y->tree, y->tree->global, &facts, place);
}

struct conf_level *yaml_local_name(struct yaml *y, const char *name, const struct yaml_node *at)
{
    struct conf_facts facts = {.local_name = name};
    struct conf_place place = {arena_strdup(y->tree->arena, at->file), at->line};
    return conf_tree_level(y->tree, y->tree->global, &facts, place);
}

/* Edits between two names (one row of the usual table), for "did you mean". */
unsigned yaml_distance(const char *a, const char *b)
{
    enum { NAME_MOST = 64 };
    unsigned row[NAME_MOST + 1];
    size_t n = strlen(b);
    if (n > NAME_MOST || strlen(a) > NAME_MOST)
        return NAME_MOST;
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[n];
}
