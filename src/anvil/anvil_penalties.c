/* Penalties: a number per address that auth raises at wrong passwords and asks for before the next try (ipc 6).
 *
 * Entries are kept in the order of their last update, so that what has expired stands at the front and is removed from
 * there; beyond the cap the oldest go. */
#include "anvil/anvil.h"

#include <uthash.h>
#include <utlist.h>

enum { CHECKSUMS_FIRST = 2, CHECKSUMS_MOST = 10, ENTRIES_MAX = 200000 };

struct penalty {
    char *name;
    size_t size;
    uint32_t value;
    time_t last, update;
    uint32_t checksums[CHECKSUMS_MOST];
    unsigned checksum_count;
    struct penalty *prev, *next; /* oldest update first */
    UT_hash_handle hh;
};

struct anvil_penalties {
    struct penalty *table, *list;
    uint32_t expire_secs;
};

struct anvil_penalties *anvil_penalties_new(void)
{
    struct anvil_penalties *all = mem_zero(1, sizeof(*all));

    all->expire_secs = ANVIL_PENALTY_EXPIRE_SECS;
    return all;
}

static void drop(struct anvil_penalties *all, struct penalty *penalty)
{
    HASH_DEL(all->table, penalty);
    DL_DELETE(all->list, penalty);
    mem_free(penalty->name);
    mem_free(penalty);
}

void anvil_penalties_free(struct anvil_penalties *all)
{
    if (all == NULL)
        return;
    while (all->list != NULL)
        drop(all, all->list);
    mem_free(all);
}

void anvil_penalties_expire_secs(struct anvil_penalties *all, uint32_t secs)
{
    all->expire_secs = secs;
}

static void expire(struct anvil_penalties *all, time_t now)
{
    while (all->list != NULL && all->list->update + (time_t)all->expire_secs <= now)
        drop(all, all->list);
}

static struct penalty *find(const struct anvil_penalties *all, struct slice ident)
{
    struct penalty *penalty;

    HASH_FIND(hh, all->table, ident.at, ident.size, penalty);
    return penalty;
}

uint32_t anvil_penalties_get(struct anvil_penalties *all, struct slice ident, time_t now, time_t *last)
{
    const struct penalty *penalty;

    expire(all, now);
    penalty = find(all, ident);
    *last = penalty == NULL ? 0 : penalty->last;
    return penalty == NULL ? 0 : penalty->value;
}

/* Remembers the checksum. True: it was known. The first two are kept first; from then on ten, the newest first. */
static bool known_checksum(struct penalty *penalty, uint32_t checksum)
{
    for (unsigned i = 0; i < penalty->checksum_count; i++)
        if (penalty->checksums[i] == checksum)
            return true;
    if (penalty->checksum_count < CHECKSUMS_MOST)
        penalty->checksum_count++;
    memmove(penalty->checksums + 1, penalty->checksums, (penalty->checksum_count - 1) * sizeof(checksum));
    penalty->checksums[0] = checksum;
    return false;
}

static struct penalty *make(struct anvil_penalties *all, struct slice ident)
{
    struct penalty *penalty = find(all, ident);

    if (penalty != NULL)
        return penalty;
    if (HASH_COUNT(all->table) >= ENTRIES_MAX)
        drop(all, all->list);
    penalty = mem_zero(1, sizeof(*penalty));
    penalty->name = mem_strndup(ident);
    penalty->size = ident.size;
    HASH_ADD_KEYPTR(hh, all->table, penalty->name, penalty->size, penalty);
    DL_APPEND(all->list, penalty);
    return penalty;
}

void anvil_penalties_set(struct anvil_penalties *all, struct slice ident, uint32_t checksum, uint32_t value,
                         time_t now)
{
    struct penalty *penalty;
    bool known;

    expire(all, now);
    penalty = make(all, ident);
    known = checksum != 0 && known_checksum(penalty, checksum);
    if (value > ANVIL_PENALTY_MOST)
        value = ANVIL_PENALTY_MOST;
    if (known) {
        if (value > 0)
            value--;
    } else {
        penalty->last = now;
    }
    penalty->value = value;
    penalty->update = now;
    DL_DELETE(all->list, penalty);
    DL_APPEND(all->list, penalty);
}

void anvil_penalties_each(struct anvil_penalties *all, time_t now,
                          void (*see)(void *arg, struct slice ident, uint32_t penalty, time_t last, time_t update),
                          void *arg)
{
    expire(all, now);
    for (const struct penalty *p = all->list; p != NULL; p = p->next)
        see(arg, slice_of(p->name, p->size), p->value, p->last, p->update);
}
