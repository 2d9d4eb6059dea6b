/* The human form: sorted, indented, secrets hidden (config 8.4, 8.5, 8.8). */
#include "compat/print.h"

#include <ctype.h>
#include <stdlib.h>

/* ---- secrets ---------------------------------------------------------------------------------------------------- */

#define HIDDEN_PART "#hidden_use-P_to_show#"

/* The earliest of the words that announce a secret; *url when it is a scheme. */
static const char *find_hint(const char *text, size_t *size, bool *url)
{
    static const char *const hints[] = {"key", "secret", "pass", "http://", "https://", "ftp://"};
    const char *best = NULL;
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        const char *at = strstr(text, hints[i]);
        if (at != NULL && (best == NULL || at < best)) {
            best = at;
            *size = strlen(hints[i]);
            *url = i >= 3;
        }
    }
    return best;
}

static bool is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Copies a URL with what stands before an @ replaced. -> what follows. */
static const char *hide_in_url(const char *p, size_t scheme, struct buffer *out, bool *hidden)
{
    buffer_append(out, p, scheme);
    p += scheme;
    size_t size = 0;
    while (p[size] != '\0' && !is_white(p[size]) && p[size] != '/' && p[size] != '@')
        size++;
    if (p[size] != '@' || size == 0)
        return p;
    buffer_append_str(out, HIDDEN_PART);
    *hidden = true;
    return p + size;
}

/* Copies "pass..." and, when it is an assignment, hides the value. */
static const char *hide_in_word(const char *start, const char *p, size_t size, struct buffer *out, bool *hidden)
{
    if (p != start && isalnum((unsigned char)p[-1])) {
        buffer_append(out, p, size);
        return p + size;
    }
    const char *end = p + size;
    while (*end != '\0' && *end != '=' && !is_white(*end))
        end++;
    while (is_white(*end))
        end++;
    buffer_append(out, p, (size_t)(end - p));
    if (*end != '=')
        return end;
    buffer_append_str(out, "=" HIDDEN_PART);
    *hidden = true;
    for (end++; *end != '\0' && !is_white(*end) && *end != ';' && *end != ':';)
        end++;
    return end;
}

/* True when something was hidden; *out is the value then. */
static bool hide_parts(const char *value, struct buffer *out)
{
    bool hidden = false, url;
    size_t size = 0;
    const char *p = value, *hint;
    while ((hint = find_hint(p, &size, &url)) != NULL) {
        buffer_append(out, p, (size_t)(hint - p));
        p = url ? hide_in_url(hint, size, out, &hidden) : hide_in_word(value, hint, size, out, &hidden);
    }
    buffer_append_str(out, p);
    return hidden;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static void escape_quotes(struct buffer *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"' || *value == '\'')
            buffer_append_byte(out, '\\');
        buffer_append_byte(out, (unsigned char)*value);
    }
}

static bool needs_quotes(const char *value)
{
    size_t size = strlen(value);
    return size > 0 &&
           (strchr(value, '#') != NULL || strchr(" \t", value[0]) != NULL || strchr(" \t", value[size - 1]) != NULL);
}

void print_value(const struct printer *p, const char *key, const char *value)
{
    struct buffer hidden = {0};
    if (!p->show_secrets && value[0] != '\0' && conf_key_is_secret(key)) {
        buffer_append_str(p->out, "# hidden, use -P to show it");
    } else if (!p->show_secrets && hide_parts(value, &hidden)) {
        /* Parts that were in need of quotes are escaped, but the quotes themselves are left out. */
        buffer_append_slice(p->out, buffer_slice(&hidden));
    } else if (needs_quotes(value)) {
        buffer_append_byte(p->out, '"');
        escape_quotes(p->out, value);
        buffer_append_byte(p->out, '"');
    } else {
        buffer_append_str(p->out, value);
    }
    buffer_free(&hidden);
}

/* ---- sections --------------------------------------------------------------------------------------------------- */

static int compare_items(const void *a, const void *b)
{
    const signed char *x = (const signed char *)((const struct print_item *)a)->path;
    const signed char *y = (const signed char *)((const struct print_item *)b)->path;
    for (; *x == *y && *x != 0; x++, y++)
        ;
    if (*x == 0 || *y == 0)
        return *x == *y ? 0 : *x == 0 ? -1 : 1;
    return *x < *y ? -1 : 1;
}

/* A section's name comes before its members. */
static int compare_with_names(const void *a, const void *b)
{
    const struct print_item *x = a, *y = b;
    struct print_item one = *x, two = *y;
    if (x->value == NULL)
        one.path = x->node->path;
    if (y->value == NULL)
        two.path = y->node->path;
    int order = compare_items(&one, &two);
    return order != 0 ? order : (y->value == NULL) - (x->value == NULL);
}

static void put_indent(const struct printer *p, unsigned levels)
{
    for (unsigned i = 0; i < levels; i++)
        buffer_append_str(p->out, "  ");
}

static void open_node(const struct printer *p, const struct print_node *node, unsigned indent)
{
    put_indent(p, indent + node->depth - 1);
    buffer_append_str(p->out, node->keyword);
    if (node->name[0] != '\0' && *node->named) {
        bool quote = strchr(node->name, ' ') != NULL;
        buffer_append_str(p->out, quote ? " \"" : " ");
        if (quote)
            escape_quotes(p->out, node->name);
        else
            buffer_append_str(p->out, node->name);
        buffer_append_str(p->out, quote ? "\"" : "");
    }
    buffer_append_str(p->out, " {\n");
}

static void close_nodes(const struct printer *p, const struct print_node **open, unsigned depth, unsigned indent)
{
    while (*open != NULL && (*open)->depth > depth) {
        put_indent(p, indent + (*open)->depth - 1);
        buffer_append_str(p->out, "}\n");
        *open = (*open)->parent;
    }
}

static bool is_around(const struct print_node *outer, const struct print_node *inner)
{
    while (inner != NULL && inner->depth > outer->depth)
        inner = inner->parent;
    return inner == outer;
}

static void open_nodes(const struct printer *p, const struct print_node **open, const struct print_node *wanted,
                       unsigned indent)
{
    while (*open != NULL && (wanted == NULL || !is_around(*open, wanted)))
        close_nodes(p, open, (*open)->depth - 1, indent);
    while (*open != wanted) {
        const struct print_node *next = wanted;
        while (next->parent != *open)
            next = next->parent;
        open_node(p, next, indent);
        *open = next;
    }
}

static void print_items(const struct printer *p, struct print_items *items, unsigned indent)
{
    const struct print_node *open = NULL;
    bool pending = false;
    if (items->count > 0)
        qsort(items->at, items->count, sizeof(*items->at), compare_with_names);
    for (size_t i = 0; i < items->count; i++) {
        const struct print_item *item = &items->at[i];
        pending = item->value == NULL;
        if (pending) {
            *item->node->named = true;
            while (open != NULL && !is_around(open, item->node))
                close_nodes(p, &open, open->depth - 1, indent);
            continue;
        }
        open_nodes(p, &open, item->node, indent);
        put_indent(p, indent + (item->node == NULL ? 0 : item->node->depth));
        if (item->own)
            buffer_append_str(p->out, "# ");
        buffer_printf(p->out, "%s = ", item->key);
        print_value(p, item->key, item->value);
        buffer_append_byte(p->out, '\n');
    }
    /* Dovecot loses the closing braces when the last thing is a named section without content, and scripts compare
     * with its output (config 14). */
    if (!pending)
        close_nodes(p, &open, 0, indent);
    mem_free(items->at);
}

void print_settings(const struct printer *p, const struct conf_section *section, unsigned indent)
{
    struct print_items items;
    print_gather(p, section, false, &items);
    print_items(p, &items, indent);
}

/* ---- filters ---------------------------------------------------------------------------------------------------- */

/* A condition of the block that a fact of the same kind contradicts. */
static bool fits(const struct conf_facts *block, const struct conf_facts *request)
{
    struct conf_facts known = *block;
    if (request->service == NULL)
        known.service = NULL;
    if (request->local_name == NULL)
        known.local_name = NULL;
    if (request->local.family == 0)
        known.local = (struct conf_net){0};
    if (request->remote.family == 0)
        known.remote = (struct conf_net){0};
    return conf_facts_match(&known, request);
}

static int compare_blocks(const void *a, const void *b)
{
    const struct conf_level *x = *(const struct conf_level *const *)a, *y = *(const struct conf_level *const *)b;
    int order = (x->facts.local_name != NULL) - (y->facts.local_name != NULL);
    if (order == 0)
        order = (int)x->facts.local.bits - (int)y->facts.local.bits;
    if (order == 0)
        order = (int)x->facts.remote.bits - (int)y->facts.remote.bits;
    if (order == 0)
        order = (x->facts.service != NULL) - (y->facts.service != NULL);
    return order != 0 ? order : x->number < y->number ? -1 : 1;
}

static void put_header(const struct printer *p, unsigned *indent, const char *keyword, const char *name)
{
    put_indent(p, (*indent)++);
    buffer_printf(p->out, "%s %s {\n", keyword, name);
}

static void print_block(const struct printer *p, const struct conf_level *level)
{
    struct printer inner = *p;
    struct buffer body = {0}, net = {0};
    const struct conf_facts *facts = &level->facts;
    unsigned indent = 0;
    indent += (facts->local.family != 0) + (facts->remote.family != 0) + (facts->local_name != NULL) +
              (facts->service != NULL);
    inner.scope = PRINT_ASSIGNED;
    inner.out = &body;
    print_settings(&inner, &level->section, indent);
    unsigned at = 0;
    if (body.size > 0) {
        if (facts->local.family != 0) {
            conf_net_format(&facts->local, &net);
            put_header(p, &at, "local", buffer_cstr(&net));
        }
        if (facts->local_name != NULL)
            put_header(p, &at, "local_name", facts->local_name);
        if (facts->remote.family != 0) {
            buffer_reset(&net);
            conf_net_format(&facts->remote, &net);
            put_header(p, &at, "remote", buffer_cstr(&net));
        }
        if (facts->service != NULL)
            put_header(p, &at, "protocol", facts->service);
        buffer_append_slice(p->out, buffer_slice(&body));
    }
    while (at > 0) {
        put_indent(p, --at);
        buffer_append_str(p->out, "}\n");
    }
    buffer_free(&body);
    buffer_free(&net);
}

size_t print_order_filters(struct arena *arena, const struct conf_tree *tree, struct conf_level ***blocks)
{
    size_t n = 0;
    *blocks = ARENA_ARRAY(arena, struct conf_level *, tree->levels);
    for (struct conf_level *level = tree->global->next; level != NULL; level = level->next)
        (*blocks)[n++] = level;
    qsort(*blocks, n, sizeof(**blocks), compare_blocks);
    return n;
}

void print_filters(const struct printer *p, const struct conf_tree *tree, const struct conf_facts *request)
{
    struct conf_level **blocks;
    size_t n = print_order_filters(p->arena, tree, &blocks);
    for (size_t i = 0; i < n; i++) {
        if (fits(&blocks[i]->facts, request))
            print_block(p, blocks[i]);
    }
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

bool print_name(const struct printer *p, const struct conf_section *section, const char *name, bool value_only)
{
    struct printer wide = *p;
    struct print_items all, below = {0};
    size_t size = strlen(name);
    wide.modules = NULL;
    print_gather(&wide, section, false, &all);
    for (size_t i = 0; i < all.count; i++) {
        const struct print_item *item = &all.at[i];
        if (strcmp(item->path, name) == 0 && !item->own) {
            const char *value = item->value != NULL ? item->value : item->node->name;
            if (value_only)
                buffer_printf(p->out, "%s\n", value);
            else
                buffer_printf(p->out, "%s = %s\n", name, value);
            mem_free(all.at);
            return false;
        }
    }
    for (size_t i = 0; i < all.count; i++) {
        const char *path = all.at[i].path;
        if (strncmp(path, name, size) == 0 && path[size] == '/') {
            if (below.count == below.room)
                below.at = vec_grow(below.at, &below.room, sizeof(*below.at));
            below.at[below.count++] = all.at[i];
        }
    }
    mem_free(all.at);
    bool any = below.count > 0;
    print_items(p, &below, 0);
    return any;
}
