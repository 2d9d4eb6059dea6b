/* The machine form of -S and the environment of -e: path=value in definition order (config 8.6, 8.7). */
#include "compat/print.h"

#include <ctype.h>

static bool is_wanted(const char *path, char *const *names)
{
    if (names[0] == NULL)
        return true;
    for (; *names != NULL; names++) {
        size_t size = strlen(*names);
        if (strncmp(path, *names, size) == 0 && (path[size] == '\0' || path[size] == '/'))
            return true;
    }
    return false;
}

struct machine {
    const struct printer *p;
    char *const *names;
    void (*see)(void *, const char *);
    void *arg;
};

static void put_pair(struct machine *m, const char *path, const char *value)
{
    if (!is_wanted(path, m->names))
        return;
    if (m->see == NULL) {
        buffer_printf(m->p->out, "%s=", path);
        size_t start = m->p->out->size;
        buffer_append_str(m->p->out, value);
        for (size_t i = start; m->p->wire && i < m->p->out->size; i++) {
            if (m->p->out->at[i] == '\n')
                m->p->out->at[i] = 3;
        }
        buffer_append_byte(m->p->out, '\n');
    } else {
        char *pair = arena_printf(m->p->arena, "%s=%s", path, value);
        for (char *c = pair; *c != '='; c++)
            *c = (char)toupper((unsigned char)*c);
        m->see(m->arg, pair);
    }
}

static struct slice last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slice_from_str(slash == NULL ? path : slash + 1);
}

/* "service=imap pop3": before the first item of a list, all its sections are named. */
static void put_list_line(struct machine *m, const struct print_items *items, size_t at)
{
    const struct print_node *node = items->at[at].node, *outer = node->parent;
    struct buffer names = {0};
    const char *seen = NULL;
    for (size_t i = at; i < items->count; i++) {
        const struct print_node *each = items->at[i].node;
        while (each != NULL && each->depth > node->depth)
            each = each->parent;
        if (each == NULL || each->depth != node->depth || each->parent != outer)
            break;
        if (strcmp(each->keyword, node->keyword) != 0)
            break;
        if (each->path == seen)
            continue;
        seen = each->path;
        if (names.size > 0)
            buffer_append_byte(&names, ' ');
        buffer_append_slice(&names, last_component(each->path));
    }
    const char *slash = strrchr(node->path, '/');
    const char *path = arena_str(m->p->arena, slice_of(node->path, (size_t)(slash - node->path)));
    put_pair(m, path, buffer_cstr(&names));
    buffer_free(&names);
}

static bool is_strlist(const struct print_node *node)
{
    return node->depth == 1 && strchr(node->path, '/') == NULL;
}

/* Announces the lists on the way to an item that were not announced before it. */
static void announce(struct machine *m, const struct print_items *items, size_t at, const struct print_node *before)
{
    const struct print_node *node = items->at[at].node;
    if (node == NULL)
        return;
    if (is_strlist(node)) {
        if (before != node)
            put_pair(m, node->path, "");
        return;
    }
    const struct print_node *same = before;
    while (same != NULL && same->depth > node->depth)
        same = same->parent;
    if (same == NULL || same->depth != node->depth || same->parent != node->parent ||
        strcmp(same->keyword, node->keyword) != 0)
        put_list_line(m, items, at);
}

static void print_all(struct machine *m, const struct conf_section *section)
{
    struct print_items items;
    print_gather(m->p, section, true, &items);
    const struct print_node *before = NULL;
    for (size_t i = 0; i < items.count; i++) {
        const struct print_item *item = &items.at[i];
        if (item->own)
            continue;
        announce(m, &items, i, before);
        before = item->node;
        if (item->value == NULL && item->node->name[0] == '\0')
            continue; /* stands for its list alone */
        put_pair(m, item->path, item->value != NULL ? item->value : item->node->name);
    }
    mem_free(items.at);
}

void print_machine(const struct printer *p, const struct conf_section *section, char *const *names)
{
    struct machine m = {.p = p, .names = names};
    print_all(&m, section);
}

void print_environment(const struct printer *p, const struct conf_section *section, void (*see)(void *, const char *),
                       void *arg)
{
    static char *const none[] = {NULL};
    struct printer set = *p;
    struct machine m = {&set, none, see, arg};
    set.scope = PRINT_SET;
    print_all(&m, section);
}
