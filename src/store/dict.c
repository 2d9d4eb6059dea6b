/* dict.c - dictionaries by their URI (ipc 10.2). */
#include "store/dict_driver.h"

#include <time.h>

#define WAIT_NS (120ull * 1000000000ull)

static const struct dict_driver *find_driver(struct slice name, const struct dict_driver *const *more)
{
    static const struct dict_driver *const own[] = {&dict_driver_file, &dict_driver_proxy, NULL};

    for (size_t i = 0; own[i] != NULL; i++)
        if (slice_equal_str(name, own[i]->name))
            return own[i];
    for (size_t i = 0; more != NULL && more[i] != NULL; i++)
        if (slice_equal_str(name, more[i]->name))
            return more[i];
    return NULL;
}

int dict_open(struct dict **out, const char *uri, const struct dict_settings *settings, struct error *e)
{
    struct slice rest = slice_from_str(uri), name;
    const struct dict_driver *driver;

    if (!slice_split(&rest, ':', &name) || rest.size == 0)
        return error_set(e, ERROR_INVALID, "Dictionary URI is missing ':': %s", uri);
    driver = find_driver(name, settings->more);
    if (driver == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "Unknown dict module: %.*s", (int)name.size, (const char *)name.at);
    if (driver->open(out, uri + name.size + 1, settings, e) < 0)
        return -1;
    (*out)->driver = driver;
    (*out)->user = mem_strdup(settings->user == NULL ? "" : settings->user);
    return 0;
}

void dict_close(struct dict **dict_p)
{
    struct dict *dict = *dict_p;

    if (dict == NULL)
        return;
    *dict_p = NULL;
    mem_free(dict->user);
    dict->driver->close(dict);
}

void dict_set_user(struct dict *dict, const char *user)
{
    mem_free(dict->user);
    dict->user = mem_strdup(user);
}

bool dict_key_valid(const char *key)
{
    return strncmp(key, "priv/", 5) == 0 || strncmp(key, "shared/", 7) == 0;
}

void dict_value_add(struct dict_values *values, struct arena *arena, const char *value)
{
    VEC_PUSH(values, arena_strdup(arena, value == NULL ? "" : value));
}

int dict_get_values(struct dict *dict, struct arena *arena, const char *key, struct dict_values *values, struct error *e)
{
    return dict->driver->get(dict, arena, key, values, e);
}

int dict_get(struct dict *dict, struct arena *arena, const char *key, const char **value, struct error *e)
{
    struct dict_values values = {0};
    int r = dict->driver->get(dict, arena, key, &values, e);

    *value = r == 0 && values.count > 0 ? values.at[0] : NULL;
    VEC_FREE(&values);
    return r;
}

int dict_list(struct dict *dict, struct arena *arena, const char *prefix, bool deep, struct dict_pairs *out, struct error *e)
{
    return dict->driver->list(dict, arena, prefix, deep, out, e);
}

/* UNSET_BELOW becomes an UNSET of each key, for drivers that change keys one by one. `origin`: where each change came from. */
static enum step commit_each(struct dict *dict, struct dict_change *changes, size_t count, struct error *e)
{
    VEC(struct dict_change) each = {0};
    VEC(size_t) origin = {0};
    struct arena *arena = arena_new();
    enum step r = STEP_DONE;

    for (size_t i = 0; r == STEP_DONE && i < count; i++) {
        struct dict_pairs pairs = {0};

        if (changes[i].what != DICT_UNSET_BELOW) {
            VEC_PUSH(&each, changes[i]);
            VEC_PUSH(&origin, i);
            continue;
        }
        if (dict->driver->list(dict, arena, changes[i].key, true, &pairs, e) < 0)
            r = STEP_ERROR;
        for (size_t k = 0; r == STEP_DONE && k < pairs.count; k++) {
            VEC_PUSH(&each, ((struct dict_change){.what = DICT_UNSET, .key = pairs.at[k].key}));
            VEC_PUSH(&origin, i);
        }
        VEC_FREE(&pairs);
    }
    if (r == STEP_DONE && each.count > 0)
        r = dict->driver->commit(dict, each.at, each.count, e);
    for (size_t i = 0; i < each.count; i++)
        changes[origin.at[i]].missing = each.at[i].missing;
    VEC_FREE(&each);
    VEC_FREE(&origin);
    arena_free(arena);
    return r;
}

enum step dict_commit(struct dict *dict, struct dict_change *changes, size_t count, struct error *e)
{
    for (size_t i = 0; i < count; i++)
        changes[i].missing = false;
    if (dict->driver->unsets_below)
        return dict->driver->commit(dict, changes, count, e);
    return commit_each(dict, changes, count, e);
}

enum step dict_commit_step(struct dict *dict, struct dict_change *changes, size_t count, bool *uncertain, struct error *e)
{
    *uncertain = false;
    if (dict->driver->commit_step == NULL)
        return dict_commit(dict, changes, count, e);
    for (size_t i = 0; i < count; i++)
        changes[i].missing = false;
    return dict->driver->commit_step(dict, changes, count, uncertain, e);
}

int dict_commit_wait(struct dict *dict, struct dict_change *changes, size_t count, struct error *e)
{
    uint64_t begun = time_monotonic_ns();
    enum step r;

    while ((r = dict_commit(dict, changes, count, e)) == STEP_WAIT) {
        if (time_monotonic_ns() - begun > WAIT_NS)
            return error_set(e, ERROR_LOCK_TIMEOUT, "dict-%s: Timeout while waiting for lock", dict->driver->name);
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    return r == STEP_DONE ? 0 : -1;
}
