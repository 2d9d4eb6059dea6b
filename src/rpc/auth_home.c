/* auth_home.c - look-ups of other users' homes (auth.md 19).
 *
 * The answers are few and asked for again at every LIST, so they are kept: a minute, and at most KEEP of them. */
#include "rpc/auth_home.h"

#include "base/base.h"

#include <uthash.h>

#define KEEP 1000
#define KEEP_NS (60ull * 1000000000ull)

struct known {
    char *user, *home;             /* home NULL: no such user */
    uint64_t since_ns;
    UT_hash_handle hh;
};

struct auth_homes {
    char *path, *service;
    struct known *known;
};

struct auth_homes *auth_homes_new(const char *base_dir, const char *service)
{
    struct auth_homes *homes = mem_zero(1, sizeof(*homes));

    homes->path = mem_printf("%s/auth-userdb", base_dir);
    homes->service = mem_strdup(service);
    return homes;
}

static void forget(struct auth_homes *homes, struct known *known)
{
    HASH_DEL(homes->known, known);
    mem_free(known->user);
    mem_free(known->home);
    mem_free(known);
}

void auth_homes_free(struct auth_homes *homes)
{
    struct known *known, *next;

    if (homes == NULL)
        return;
    HASH_ITER(hh, homes->known, known, next)
        forget(homes, known);
    mem_free(homes->path);
    mem_free(homes->service);
    mem_free(homes);
}

int auth_homes_find(void *arg, const char *username, struct arena *arena, const char **home, struct error *e)
{
    struct auth_homes *homes = arg;
    struct auth_user_info info = {.service = homes->service};
    struct rpc_fields fields = {0};
    struct known *known;
    const char *found;

    *home = NULL;
    HASH_FIND_STR(homes->known, username, known);
    if (known != NULL && time_monotonic_ns() - known->since_ns > KEEP_NS) {
        forget(homes, known);
        known = NULL;
    }
    if (known == NULL) {
        if (auth_wait_user(homes->path, username, &info, arena, &found, &fields, e) < 0) {
            if (e->class != ERROR_NOT_FOUND || e->sys != 0)
                return -1;
            fields.count = 0;
        }
        if (HASH_COUNT(homes->known) >= KEEP)
            forget(homes, homes->known);
        known = mem_zero(1, sizeof(*known));
        known->user = mem_strdup(username);
        if (rpc_fields_get(&fields, "home") != NULL)
            known->home = mem_strdup(rpc_fields_get(&fields, "home"));
        known->since_ns = time_monotonic_ns();
        HASH_ADD_KEYPTR(hh, homes->known, known->user, strlen(known->user), known);
    }
    *home = known->home == NULL ? NULL : arena_strdup(arena, known->home);
    return 0;
}
