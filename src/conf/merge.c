/* Which levels apply to a request, and what they say together (config 3.3).
 *
 * The most specific level comes first; each following one fills in what is not set yet. A level that is not a
 * superset of the one before it and sets the same thing is a conflict: nobody can say which was meant. */
#include "base/text.h"
#include "conf/tree.h"

#include <stdlib.h>

/* "?" is any one byte, "*" exactly one first label, without case. */
static bool name_matches(struct slice pattern, struct slice name)
{
    if (pattern.size >= 2 && pattern.at[0] == '*' && pattern.at[1] == '.') {
        ptrdiff_t dot = slice_find(name, '.');
        if (dot <= 0)
            return false;
        pattern = slice_from(pattern, 1);
        name = slice_from(name, (size_t)dot);
    }
    if (pattern.size != name.size)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        if (pattern.at[i] != '?' && text_lower((char)pattern.at[i]) != text_lower((char)name.at[i]))
            return false;
    }
    return true;
}

static bool local_name_matches(const char *patterns, const char *name)
{
    struct slice rest = slice_from_str(patterns), each;
    while (slice_split(&rest, ' ', &each)) {
        if (name_matches(each, slice_from_str(name)))
            return true;
    }
    return false;
}

bool conf_facts_match(const struct conf_facts *filter, const struct conf_facts *request)
{
    if (filter->service != NULL) {
        if (request->service == NULL)
            return false;
        bool not = filter->service[0] == '!';
        if ((strcmp(filter->service + not, request->service) == 0) == not)
            return false;
    }
    if (filter->local_name != NULL &&
        (request->local_name == NULL || !local_name_matches(filter->local_name, request->local_name)))
        return false;
    if (filter->local.bits != 0 && (request->local.family == 0 || !conf_net_inside(&request->local, &filter->local)))
        return false;
    return filter->remote.bits == 0 ||
           (request->remote.family != 0 && conf_net_inside(&request->remote, &filter->remote));
}

static int compare_bools(bool a, bool b)
{
    return (int)b - (int)a;
}

static int compare_levels(const void *one, const void *two)
{
    const struct conf_level *a = *(struct conf_level *const *)one, *b = *(struct conf_level *const *)two;
    int order = compare_bools(a->facts.local_name != NULL, b->facts.local_name != NULL);
    if (order == 0)
        order = (int)b->facts.local.bits - (int)a->facts.local.bits;
    if (order == 0)
        order = (int)b->facts.remote.bits - (int)a->facts.remote.bits;
    if (order == 0)
        order = compare_bools(a->facts.service != NULL, b->facts.service != NULL);
    if (order == 0)
        order = a->number < b->number ? -1 : 1;
    return order;
}

size_t conf_tree_matching(const struct conf_tree *tree, const struct conf_facts *request, struct arena *arena,
                          struct conf_level ***levels)
{
    size_t n = 0, most = 0;
    for (const struct conf_level *level = tree->global; level != NULL; level = level->next)
        most += conf_facts_match(&level->facts, request);
    *levels = ARENA_ARRAY(arena, struct conf_level *, most);
    for (struct conf_level *level = tree->global; level != NULL; level = level->next) {
        if (conf_facts_match(&level->facts, request))
            (*levels)[n++] = level;
    }
    qsort(*levels, n, sizeof(**levels), compare_levels);
    return n;
}

/* Does `wide` apply whenever `narrow` does, as far as the kinds of conditions tell? */
static bool is_superset(const struct conf_facts *wide, const struct conf_facts *narrow)
{
    return wide->local.bits <= narrow->local.bits && wide->remote.bits <= narrow->remote.bits &&
           (wide->local_name == NULL || narrow->local_name != NULL) &&
           (wide->service == NULL || narrow->service != NULL);
}

/* What is being merged: the level for messages, and whether setting something twice is a conflict. */
struct merge {
    struct arena *arena;
    const struct conf_level *level;
    bool strict;
    bool copied;                  /* inside of a section that the levels before do not have */
    bool first;                   /* the most specific level */
    struct error *e;
    int result;
};

static void merge_section(struct merge *, struct conf_section *out, const struct conf_section *from);

static void merge_values(struct merge *m, struct conf_section *out, const struct conf_section *from)
{
    for (const struct conf_value *v = from->first; v != NULL; v = v->next) {
        struct conf_value *have = conf_section_get(out, v->def);
        if (have == NULL) {
            conf_section_set(m->arena, out, v->def, v->text, v->number, v->place)->copied = m->copied;
        } else if (m->strict && m->result == 0) {
            const char *name = out->scope->defs[v->def].name;
            m->result = error_set(m->e, ERROR_INVALID, "Conflict in setting %s found from filter at %s:%u", name,
                                  m->level->place.file, m->level->place.line);
        }
    }
}

static void merge_list(struct merge *m, struct conf_section *out, unsigned def, const struct conf_list *from)
{
    bool unique = conf_scope_block((enum conf_block_kind)out->scope->defs[def].id)->unique;
    for (const struct conf_entry *each = from->first; each != NULL; each = each->next) {
        bool existed;
        struct slice name = unique ? slice_from_str(each->key) : SLICE_EMPTY;
        struct conf_entry *entry = conf_section_entry(m->arena, out, def, name, each->place, &existed);
        if (!existed || entry->builtin != NULL) {
            entry->name = each->name;
            entry->place = each->place;
        }
        if (!existed)
            entry->builtin = each->builtin;
        bool outer = m->copied;
        if (!existed) {
            m->copied = !m->first;
            entry->copied = m->copied;
        }
        merge_section(m, &entry->section, &each->section);
        m->copied = outer;
    }
}

static void merge_section(struct merge *m, struct conf_section *out, const struct conf_section *from)
{
    merge_values(m, out, from);
    for (unsigned def = 0; from->lists != NULL && def < from->scope->count; def++) {
        if (from->lists[def] != NULL)
            merge_list(m, out, def, from->lists[def]);
    }
    for (int which = 0; from->pairs != NULL && which < STRLISTS; which++) {
        if (from->pairs[which].opened)
            conf_section_open_pairs(m->arena, out, (enum conf_strlist)which);
        for (const struct conf_pair *p = from->pairs[which].first; p != NULL; p = p->next) {
            if (conf_section_pair(out, (enum conf_strlist)which, p->key) == NULL)
                conf_section_set_pair(m->arena, out, (enum conf_strlist)which, p->key, p->value, p->place);
        }
    }
}

static void add_builtins(struct arena *arena, struct conf_section *out)
{
    size_t services, listeners;
    const struct conf_builtin *service = conf_builtin_services(&services);
    const struct conf_builtin *listener = conf_builtin_listeners(&listeners);
    int def = conf_scope_find(out->scope, SLICE("service"));
    size_t next = 0;
    bool existed;
    for (size_t i = 0; i < services; i++) {
        struct conf_entry *entry = conf_section_entry(arena, out, (unsigned)def, slice_from_str(service[i].name),
                                                      (struct conf_place){NULL, 0}, &existed);
        entry->builtin = &service[i];
        for (; next < listeners && listener[next].service == i; next++) {
            int kind = conf_scope_find(entry->section.scope, slice_from_str(conf_block_keyword(listener[next].kind)));
            struct conf_entry *at =
                conf_section_entry(arena, &entry->section, (unsigned)kind, slice_from_str(listener[next].name),
                                   (struct conf_place){NULL, 0}, &existed);
            at->builtin = &listener[next];
        }
    }
}

int conf_merge(struct arena *arena, struct conf_level *const *levels, size_t n, struct conf_section *out,
               struct error *e)
{
    conf_section_init(out, conf_scope_global());
    add_builtins(arena, out);
    struct merge m = {.arena = arena, .e = e};
    for (size_t i = 0; i < n; i++) {
        m.level = levels[i];
        m.first = i == 0;
        m.strict = i > 0 && !is_superset(&levels[i]->facts, &levels[i - 1]->facts);
        merge_section(&m, out, &levels[i]->section);
    }
    return m.result;
}
