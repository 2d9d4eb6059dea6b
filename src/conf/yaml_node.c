/* YAML to nodes: libyaml's events, ${NAME} in texts, includes (config-yaml 1).
 *
 * Nothing of YAML's guessing is used: every scalar is a text, and the schema decides what it means. Refused: tags,
 * second documents, duplicate keys, keys that are no strings, anchors inside themselves; and documents that are
 * deep or, by aliases, large beyond reason. */
#include "conf/yaml_node.h"

#include "conf/reading.h"

#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>
#include <yaml.h>

enum { DEPTH_MOST = 32, NODES_MOST = 200000, INCLUDES_MOST = 100 };

struct anchor {
    const char *name;
    struct yaml_node *node;       /* NULL while it is being read */
    UT_hash_handle hh;
};

struct loader {
    yaml_parser_t parser;
    struct arena *arena;
    struct yaml_faults *faults;
    const char *path;
    struct anchor *anchors;
    unsigned nodes;
    bool failed;
};

void yaml_fault(struct yaml_faults *faults, const char *file, unsigned line, unsigned column, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;
    buffer_printf(&text, "%s:%u:%u: ", file, line, column);
    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    VEC_PUSH(&faults->texts, arena_str(faults->arena, buffer_slice(&text)));
    buffer_free(&text);
}

/* A fault after which the document cannot be followed. */
static struct yaml_node *give_up(struct loader *l, yaml_mark_t at, const char *what)
{
    if (!l->failed)
        yaml_fault(l->faults, l->path, (unsigned)at.line + 1, (unsigned)at.column + 1, "%s", what);
    l->failed = true;
    return NULL;
}

static bool next_event(struct loader *l, yaml_event_t *event)
{
    if (yaml_parser_parse(&l->parser, event) != 0)
        return true;
    const char *problem = l->parser.problem != NULL ? l->parser.problem : "not YAML";
    give_up(l, l->parser.problem_mark, problem);
    return false;
}

/* ---- ${NAME} ---------------------------------------------------------------------------------------------------- */

static const char *put_variable(struct loader *l, const char *p, const struct yaml_node *node, struct buffer *out)
{
    const char *end = strchr(p, '}');
    if (end == NULL) {
        yaml_fault(l->faults, l->path, node->line, node->column, "${ without }");
        return p + strlen(p);
    }
    struct slice inside = slice_of(p, (size_t)(end - p));
    ptrdiff_t split = slice_find_slice(inside, SLICE(":-"));
    char *name = arena_str(l->arena, split < 0 ? inside : slice_head(inside, (size_t)split));
    const char *value = getenv(name);
    if (value != NULL && (value[0] != '\0' || split < 0))
        buffer_append_str(out, value);
    else if (split >= 0)
        buffer_append_slice(out, slice_from(inside, (size_t)split + 2));
    else
        yaml_fault(l->faults, l->path, node->line, node->column, "environment variable %s is not set", name);
    return end + 1;
}

static const char *resolve(struct loader *l, const char *text, const struct yaml_node *node)
{
    if (strstr(text, "${") == NULL)
        return text;
    struct buffer out = {0};
    for (const char *p = text; *p != '\0';) {
        if (strncmp(p, "$${", 3) == 0) {
            buffer_append_str(&out, "${");
            p += 3;
        } else if (strncmp(p, "${", 2) == 0) {
            p = put_variable(l, p + 2, node, &out);
        } else {
            buffer_append_byte(&out, (unsigned char)*p++);
        }
    }
    const char *resolved = arena_str(l->arena, buffer_slice(&out));
    buffer_free(&out);
    return resolved;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

static struct yaml_node *read_node(struct loader *, yaml_event_t *, unsigned depth);

static struct yaml_node *new_node(struct loader *l, enum yaml_kind kind, const yaml_event_t *event)
{
    struct yaml_node *node = ARENA_NEW(l->arena, struct yaml_node);
    node->kind = kind;
    node->file = l->path;
    node->line = (unsigned)event->start_mark.line + 1;
    node->column = (unsigned)event->start_mark.column + 1;
    return node;
}

static struct anchor *add_anchor(struct loader *l, const yaml_char_t *name)
{
    if (name == NULL)
        return NULL;
    struct anchor *anchor = ARENA_NEW(l->arena, struct anchor), *old;
    anchor->name = arena_strdup(l->arena, (const char *)name);
    HASH_FIND_STR(l->anchors, anchor->name, old);
    if (old != NULL)
        HASH_DEL(l->anchors, old);
    HASH_ADD_KEYPTR(hh, l->anchors, anchor->name, strlen(anchor->name), anchor);
    return anchor;
}

/* Aliases share nodes, so that memory does not grow; who walks the tree would, so their size counts. */
static unsigned count_nodes(const struct yaml_node *node, unsigned most)
{
    unsigned n = 1;
    for (const struct yaml_pair *pair = node->first; pair != NULL && n < most; pair = pair->next)
        n += count_nodes(pair->value, most - n);
    for (const struct yaml_node *item = node->items; item != NULL && n < most; item = item->next)
        n += count_nodes(item, most - n);
    return n;
}

static struct yaml_node *read_alias(struct loader *l, const yaml_event_t *event)
{
    struct anchor *anchor;
    const char *name = (const char *)event->data.alias.anchor;
    HASH_FIND_STR(l->anchors, name, anchor);
    if (anchor == NULL)
        return give_up(l, event->start_mark, "unknown anchor");
    if (anchor->node == NULL)
        return give_up(l, event->start_mark, "an anchor refers to itself");
    l->nodes += count_nodes(anchor->node, NODES_MOST);
    if (l->nodes > NODES_MOST)
        return give_up(l, event->start_mark, "too many values");
    struct yaml_node *copy = ARENA_NEW(l->arena, struct yaml_node);
    *copy = *anchor->node;
    copy->next = NULL;
    return copy;
}

static struct yaml_node *read_text(struct loader *l, const yaml_event_t *event)
{
    const char *raw = (const char *)event->data.scalar.value;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (event->data.scalar.tag != NULL)
        return give_up(l, event->start_mark, "tags are not supported");
    if (strlen(raw) != event->data.scalar.length)
        return give_up(l, event->start_mark, "a text must not hold NUL");
    struct yaml_node *node = new_node(l, YAML_TEXT, event);
    node->null = plain && (raw[0] == '\0' || strcmp(raw, "~") == 0 || strcmp(raw, "null") == 0);
    node->text = node->null ? "" : resolve(l, arena_strdup(l->arena, raw), node);
    struct anchor *anchor = add_anchor(l, event->data.scalar.anchor);
    if (anchor != NULL)
        anchor->node = node;
    return node;
}

struct yaml_node *yaml_get(const struct yaml_node *map, const char *key)
{
    for (struct yaml_pair *pair = map == NULL ? NULL : map->first; pair != NULL; pair = pair->next) {
        if (strcmp(pair->key, key) == 0)
            return pair->value;
    }
    return NULL;
}

static void add_pair(struct arena *arena, struct yaml_node *map, const struct yaml_pair *pair)
{
    struct yaml_pair *copy = ARENA_NEW(arena, struct yaml_pair);
    *copy = *pair;
    copy->next = NULL;
    if (map->last == NULL)
        map->first = copy;
    else
        map->last->next = copy;
    map->last = copy;
}

static void add_item(struct yaml_node *list, struct yaml_node *item)
{
    if (list->last_item == NULL)
        list->items = item;
    else
        list->last_item->next = item;
    list->last_item = item;
}

/* A key that was there already in this map. */
struct key_seen {
    const char *key;
    UT_hash_handle hh;
};

static bool read_pair(struct loader *l, yaml_event_t *event, struct yaml_node *map, struct key_seen **seen,
                      unsigned depth)
{
    struct yaml_pair pair = {.key_line = (unsigned)event->start_mark.line + 1,
                             .key_column = (unsigned)event->start_mark.column + 1};
    struct key_seen *key;
    yaml_event_t value;
    if (event->type != YAML_SCALAR_EVENT || event->data.scalar.tag != NULL) {
        give_up(l, event->start_mark, "a key must be a string");
        return false;
    }
    pair.key = arena_strdup(l->arena, (const char *)event->data.scalar.value);
    HASH_FIND_STR(*seen, pair.key, key);
    if (key != NULL) {
        yaml_fault(l->faults, l->path, pair.key_line, pair.key_column, "duplicate key %s", pair.key);
    } else {
        key = ARENA_NEW(l->arena, struct key_seen);
        key->key = pair.key;
        HASH_ADD_KEYPTR(hh, *seen, key->key, strlen(key->key), key);
    }
    if (!next_event(l, &value))
        return false;
    pair.value = read_node(l, &value, depth + 1);
    yaml_event_delete(&value);
    if (pair.value != NULL)
        add_pair(l->arena, map, &pair);
    return pair.value != NULL;
}

static struct yaml_node *read_map(struct loader *l, const yaml_event_t *start, unsigned depth)
{
    struct yaml_node *map = new_node(l, YAML_MAP, start);
    struct anchor *anchor = add_anchor(l, start->data.mapping_start.anchor);
    struct key_seen *seen = NULL;
    bool fine = start->data.mapping_start.tag == NULL;
    if (!fine)
        give_up(l, start->start_mark, "tags are not supported");
    while (fine) {
        yaml_event_t event;
        if (!next_event(l, &event)) {
            fine = false;
            break;
        }
        bool end = event.type == YAML_MAPPING_END_EVENT;
        if (!end)
            fine = read_pair(l, &event, map, &seen, depth);
        yaml_event_delete(&event);
        if (end)
            break;
    }
    HASH_CLEAR(hh, seen);
    if (fine && anchor != NULL)
        anchor->node = map;
    return fine ? map : NULL;
}

static struct yaml_node *read_list(struct loader *l, const yaml_event_t *start, unsigned depth)
{
    struct yaml_node *list = new_node(l, YAML_LIST, start);
    struct anchor *anchor = add_anchor(l, start->data.sequence_start.anchor);
    if (start->data.sequence_start.tag != NULL)
        return give_up(l, start->start_mark, "tags are not supported");
    for (;;) {
        yaml_event_t event;
        if (!next_event(l, &event))
            return NULL;
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        struct yaml_node *item = end ? NULL : read_node(l, &event, depth + 1);
        yaml_event_delete(&event);
        if (end)
            break;
        if (item == NULL)
            return NULL;
        add_item(list, item);
    }
    if (anchor != NULL)
        anchor->node = list;
    return list;
}

static struct yaml_node *read_node(struct loader *l, yaml_event_t *event, unsigned depth)
{
    if (depth > DEPTH_MOST)
        return give_up(l, event->start_mark, "nested too deep");
    if (++l->nodes > NODES_MOST)
        return give_up(l, event->start_mark, "too many values");
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return read_text(l, event);
    case YAML_ALIAS_EVENT:
        return read_alias(l, event);
    case YAML_MAPPING_START_EVENT:
        return read_map(l, event, depth);
    case YAML_SEQUENCE_START_EVENT:
        return read_list(l, event, depth);
    default:
        return give_up(l, event->start_mark, "a value was expected");
    }
}

/* The stream: one document with a map, or nothing at all. */
static struct yaml_node *read_stream(struct loader *l)
{
    struct yaml_node *root = NULL;
    unsigned documents = 0;
    for (;;) {
        yaml_event_t event;
        if (!next_event(l, &event))
            return NULL;
        yaml_event_type_t type = event.type;
        if (type == YAML_DOCUMENT_START_EVENT && ++documents > 1)
            give_up(l, event.start_mark, "a second document");
        else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                 type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT)
            root = read_node(l, &event, 0);
        if (root != NULL && root->kind != YAML_MAP && !root->null)
            give_up(l, event.start_mark, "a map of settings was expected");
        yaml_event_delete(&event);
        if (l->failed)
            return NULL;
        if (type == YAML_STREAM_END_EVENT)
            return root;
    }
}

struct yaml_node *yaml_parse(struct slice text, const char *path, struct arena *arena, struct yaml_faults *faults)
{
    struct loader l = {.arena = arena, .faults = faults, .path = arena_strdup(arena, path)};
    if (yaml_parser_initialize(&l.parser) == 0)
        mem_exhausted(sizeof(l.parser));
    yaml_parser_set_input_string(&l.parser, text.at == NULL ? (const unsigned char *)"" : text.at, text.size);
    struct yaml_node *root = read_stream(&l);
    if (root == NULL && !l.failed) {
        root = ARENA_NEW(arena, struct yaml_node);
        *root = (struct yaml_node){.kind = YAML_MAP, .file = l.path, .line = 1, .column = 1};
    } else if (root != NULL) {
        root->kind = YAML_MAP; /* "~" is an empty map */
    }
    HASH_CLEAR(hh, l.anchors);
    yaml_parser_delete(&l.parser);
    return root;
}

/* ---- includes --------------------------------------------------------------------------------------------------- */

/* Later files override texts, merge maps, append to lists. */
static void merge_maps(struct arena *arena, struct yaml_node *into, const struct yaml_node *from, bool top)
{
    for (const struct yaml_pair *pair = from->first; pair != NULL; pair = pair->next) {
        struct yaml_pair *have = into->first;
        if (top && strcmp(pair->key, "include") == 0)
            continue; /* done already, relative to its own file */
        while (have != NULL && strcmp(have->key, pair->key) != 0)
            have = have->next;
        if (have == NULL)
            add_pair(arena, into, pair);
        else if (have->value->kind == YAML_MAP && pair->value->kind == YAML_MAP)
            merge_maps(arena, have->value, pair->value, false);
        else if (have->value->kind == YAML_LIST && pair->value->kind == YAML_LIST && pair->value->items != NULL) {
            add_item(have->value, pair->value->items);
            have->value->last_item = pair->value->last_item;
        } else {
            have->value = pair->value;
        }
    }
}

struct includes {
    struct arena *arena;
    struct yaml_faults *faults;
    unsigned files;
};

static struct yaml_node *load_file(struct includes *, const char *path, struct error *);

static void include_glob(struct includes *in, struct yaml_node *root, const struct yaml_node *item)
{
    const char *slash = strrchr(item->file, '/');
    const char *pattern = item->text;
    glob_t found;
    if (item->kind != YAML_TEXT) {
        yaml_fault(in->faults, item->file, item->line, item->column, "include: a file name was expected");
        return;
    }
    if (pattern[0] != '/' && slash != NULL)
        pattern = arena_printf(in->arena, "%.*s/%s", (int)(slash - item->file), item->file, pattern);
    if (glob(pattern, GLOB_BRACE, NULL, &found) != 0) {
        if (strpbrk(pattern, "*?[{") == NULL)
            yaml_fault(in->faults, item->file, item->line, item->column, "include: no such file: %s", pattern);
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct error e;
        struct yaml_node *more = load_file(in, found.gl_pathv[i], &e);
        if (more != NULL)
            merge_maps(in->arena, root, more, true);
        else if (e.class != ERROR_NONE)
            yaml_fault(in->faults, item->file, item->line, item->column, "include: %s", e.admin);
    }
    globfree(&found);
}

static struct yaml_node *load_file(struct includes *in, const char *path, struct error *e)
{
    struct buffer text = {0};
    error_clear(e);
    if (++in->files > INCLUDES_MOST) {
        error_set(e, ERROR_LIMIT, "too many files, or a file that includes itself");
        return NULL;
    }
    if (conf_read_file(path, &text, e) < 0) {
        buffer_free(&text);
        return NULL;
    }
    struct yaml_node *root = yaml_parse(buffer_slice(&text), path, in->arena, in->faults);
    buffer_wipe(&text);
    struct yaml_node *include = yaml_get(root, "include");
    if (include == NULL)
        return root;
    if (include->kind == YAML_TEXT)
        include_glob(in, root, include);
    for (struct yaml_node *item = include->items; item != NULL; item = item->next)
        include_glob(in, root, item);
    return root;
}

struct yaml_node *yaml_load(const char *path, struct arena *arena, struct yaml_faults *faults, struct error *e)
{
    struct includes in = {arena, faults, 0};
    return load_file(&in, path, e);
}
