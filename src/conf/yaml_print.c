/* A whole configuration as YAML (config-yaml): everything under `settings:`, by Dovecot's names, so that either form
 * read back gives the same settings. */
#include "conf/yaml.h"

struct out {
    struct buffer *to;
    bool show_secrets;
};

static void put_indent(struct out *o, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        buffer_append_str(o->to, "  ");
}

static void put_text(struct out *o, const char *text)
{
    buffer_append_byte(o->to, '"');
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            buffer_printf(o->to, "\\%c", c);
        else if (c == '\n')
            buffer_append_str(o->to, "\\n");
        else if (c < ' ' || c == 127)
            buffer_printf(o->to, "\\x%02x", c);
        else if (strncmp(text, "${", 2) == 0)
            buffer_append_str(o->to, "$$");
        else
            buffer_append_byte(o->to, c);
    }
    buffer_append_byte(o->to, '"');
}

static bool is_plain_key(const char *key)
{
    static const char bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    static const char *const special[] = {"null", "true", "false", "yes", "no", "on", "off"};
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if (strcasecmp(key, special[i]) == 0)
            return false;
    }
    return key[0] != '\0' && key[strspn(key, bytes)] == '\0' && key[0] != '-' && key[0] != '.';
}

static void put_key(struct out *o, unsigned depth, const char *key)
{
    put_indent(o, depth);
    if (is_plain_key(key))
        buffer_append_str(o->to, key);
    else
        put_text(o, key);
    buffer_append_byte(o->to, ':');
}

static void put_pair(struct out *o, unsigned depth, const char *key, const char *value)
{
    put_key(o, depth, key);
    buffer_append_byte(o->to, ' ');
    put_text(o, !o->show_secrets && value[0] != '\0' && conf_key_is_secret(key) ? "[hidden]" : value);
    buffer_append_byte(o->to, '\n');
}

/* -> whether anything was put. */
static bool put_section(struct out *, unsigned depth, const struct conf_section *);

static void put_entry(struct out *o, unsigned depth, const struct conf_entry *entry, bool in_map)
{
    const struct conf_scope *scope = entry->section.scope;
    if (in_map) {
        put_key(o, depth, entry->name);
        buffer_append_byte(o->to, '\n');
        if (!put_section(o, depth + 1, &entry->section)) {
            o->to->size--;
            buffer_append_str(o->to, " {}\n");
        }
        return;
    }
    put_indent(o, depth);
    buffer_append_str(o->to, "-\n");
    bool any = false;
    if (entry->name[0] != '\0' && conf_section_get(&entry->section, (unsigned)scope->name_def) == NULL) {
        put_pair(o, depth + 1, scope->defs[scope->name_def].name, entry->name);
        any = true;
    }
    if (!put_section(o, depth + 1, &entry->section) && !any) {
        o->to->size--;
        buffer_append_str(o->to, " {}\n");
    }
}

static void put_list(struct out *o, unsigned depth, const char *keyword, const struct conf_list *list)
{
    bool in_map = true;
    for (const struct conf_entry *entry = list->first; entry != NULL; entry = entry->next)
        in_map &= entry->name[0] != '\0' && entry->section.scope->unique;
    put_key(o, depth, keyword);
    buffer_append_byte(o->to, '\n');
    for (const struct conf_entry *entry = list->first; entry != NULL; entry = entry->next)
        put_entry(o, depth + 1, entry, in_map);
}

static bool put_section(struct out *o, unsigned depth, const struct conf_section *section)
{
    static const char *const strlists[STRLISTS] = {[STRLIST_plugin] = "plugin", [STRLIST_dict] = "dict"};
    size_t before = o->to->size;
    for (unsigned i = 0; i < section->scope->count; i++) {
        const struct conf_value *v = conf_section_get(section, i);
        if (v != NULL)
            put_pair(o, depth, section->scope->defs[i].name, v->text);
        else if (conf_section_list(section, i) != NULL)
            put_list(o, depth, section->scope->defs[i].name, conf_section_list(section, i));
    }
    for (int which = 0; section->pairs != NULL && which < STRLISTS; which++) {
        const struct conf_pairs *pairs = &section->pairs[which];
        if (!pairs->opened)
            continue;
        put_key(o, depth, strlists[which]);
        buffer_append_str(o->to, pairs->first == NULL ? " {}\n" : "\n");
        for (const struct conf_pair *pair = pairs->first; pair != NULL; pair = pair->next)
            put_pair(o, depth + 1, pair->key, pair->value);
    }
    return o->to->size > before;
}

/* ---- filters ---------------------------------------------------------------------------------------------------- */

enum { KINDS = 4 };
static const char *const words[KINDS] = {"local", "local_name", "remote", "protocol"};

/* A filter among the filters inside of each other. */
struct node {
    struct node *next, *inner, *last_inner;
    int kind;
    const char *name;
    const struct conf_level *level;
};

static const char *condition(struct arena *arena, const struct conf_facts *facts, int kind)
{
    const struct conf_net *net = kind == 0 ? &facts->local : &facts->remote;
    if (kind == 1)
        return facts->local_name;
    if (kind == 3)
        return facts->service;
    if (net->family == 0)
        return NULL;
    struct buffer text = {0};
    conf_net_format(net, &text);
    const char *copy = arena_str(arena, buffer_slice(&text));
    buffer_free(&text);
    return copy;
}

static struct node *inner_node(struct arena *arena, struct node *outer, int kind, const char *name)
{
    for (struct node *node = outer->inner; node != NULL; node = node->next) {
        if (node->kind == kind && (kind == 1 ? strcasecmp(node->name, name) : strcmp(node->name, name)) == 0)
            return node;
    }
    struct node *node = ARENA_NEW(arena, struct node);
    node->kind = kind;
    node->name = name;
    if (outer->last_inner == NULL)
        outer->inner = node;
    else
        outer->last_inner->next = node;
    outer->last_inner = node;
    return node;
}

static void put_node(struct out *o, unsigned depth, const struct node *node)
{
    bool any = node->level != NULL && put_section(o, depth, &node->level->section);
    for (int kind = 0; kind < KINDS; kind++) {
        bool opened = false;
        for (const struct node *inner = node->inner; inner != NULL; inner = inner->next) {
            if (inner->kind != kind)
                continue;
            if (!opened) {
                put_key(o, depth, words[kind]);
                buffer_append_byte(o->to, '\n');
            }
            opened = any = true;
            put_key(o, depth + 1, inner->name);
            buffer_append_byte(o->to, '\n');
            put_node(o, depth + 2, inner);
        }
    }
    if (!any) {
        o->to->size--;
        buffer_append_str(o->to, " {}\n");
    }
}

void yaml_print(const struct conf_tree *tree, bool show_secrets, struct buffer *to)
{
    struct out o = {to, show_secrets};
    struct arena *arena = arena_new();
    struct node root = {.level = tree->global};
    for (const struct conf_level *level = tree->global->next; level != NULL; level = level->next) {
        struct node *node = &root;
        for (int kind = 0; kind < KINDS; kind++) {
            const char *name = condition(arena, &level->facts, kind);
            if (name != NULL)
                node = inner_node(arena, node, kind, name);
        }
        node->level = level;
    }
    buffer_append_str(to, "settings:\n");
    put_node(&o, 1, &root);
    arena_free(arena);
}
