/* fields.c - extra fields with a snapshot. Sets are short (tens of fields): searching is linear, and the number that a
 * database can add is capped. */
#include "auth/fields.h"

#define FIELDS_MOST 1000

void fields_init(struct fields *f, struct arena *arena)
{
    memset(f, 0, sizeof(*f));
    f->arena = arena;
}

void fields_free(struct fields *f)
{
    VEC_FREE(&f->list);
    VEC_FREE(&f->saved);
}

static struct field *find(const struct fields *f, const char *key)
{
    for (size_t i = 0; i < f->list.count; i++)
        if (strcmp(f->list.at[i].key, key) == 0)
            return &f->list.at[i];
    return NULL;
}

void fields_set(struct fields *f, const char *key, const char *value)
{
    struct field *old = find(f, key);
    struct field new = {NULL, value == NULL ? NULL : arena_strdup(f->arena, value)};

    if (old != NULL) {
        old->value = new.value;
    } else if (f->list.count < FIELDS_MOST) {
        new.key = arena_strdup(f->arena, key);
        VEC_PUSH(&f->list, new);
    }
}

void fields_remove(struct fields *f, const char *key)
{
    struct field *old = find(f, key);

    if (old == NULL)
        return;
    memmove(old, old + 1, (size_t)(f->list.at + f->list.count - (old + 1)) * sizeof(*old));
    f->list.count--;
}

bool fields_has(const struct fields *f, const char *key)
{
    return find(f, key) != NULL;
}

const char *fields_get(const struct fields *f, const char *key)
{
    const struct field *field = find(f, key);

    return field == NULL ? NULL : field->value == NULL ? "" : field->value;
}

void fields_save(struct fields *f)
{
    f->saved.count = 0;
    for (size_t i = 0; i < f->list.count; i++)
        VEC_PUSH(&f->saved, f->list.at[i]);
}

void fields_roll_back(struct fields *f)
{
    f->list.count = 0;
    for (size_t i = 0; i < f->saved.count; i++)
        VEC_PUSH(&f->list, f->saved.at[i]);
}
