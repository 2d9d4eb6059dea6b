/* Extra fields: an ordered set of key and value with a snapshot to roll back to (auth.md 5, 7). */
#ifndef YARILO_AUTH_FIELDS_H
#define YARILO_AUTH_FIELDS_H

#include "base/base.h"

struct field {
    const char *key;
    const char *value; /* NULL = bare word */
};

struct fields {
    struct arena *arena;
    VEC(struct field) list;
    VEC(struct field) saved;
};

void fields_init(struct fields *, struct arena *);
void fields_free(struct fields *);
/* Replaces the value in place, or appends. */
void fields_set(struct fields *, const char *key, const char *value);
void fields_remove(struct fields *, const char *key);
bool fields_has(const struct fields *, const char *key);
const char *fields_get(const struct fields *, const char *key); /* NULL absent, "" bare */
void fields_save(struct fields *);
void fields_roll_back(struct fields *);

#endif
