/* Connections: one entry per (ident, pid) with a count; a count per ident beside it, so that LOOKUP does not walk. */
#include "anvil/anvil.h"

#include <uthash.h>

#define ENTRIES_MAX 1000000 /* a million sessions on one machine; beyond that nobody is counted */

struct ident {
    char *name;
    size_t size;
    uint32_t total;
    struct entry *entries; /* of this ident, doubly linked */
    UT_hash_handle hh;
};

struct process {
    pid_t pid;
    struct entry *entries; /* of this process, doubly linked */
    UT_hash_handle hh;
};

/* How many entries a process speaks for: nearly always it is a dispatcher, and there are few. */
struct owner {
    pid_t pid;
    size_t entries;
    UT_hash_handle hh;
};

struct key {
    struct ident *ident;
    struct process *process;
};

struct entry {
    struct key key;
    uint32_t count;
    struct owner *owner;   /* NULL: the process itself */
    struct entry *prev_ident, *next_ident, *prev_process, *next_process;
    UT_hash_handle hh;
};

struct anvil_connections {
    struct ident *idents;
    struct process *processes;
    struct owner *owners;
    struct entry *entries; /* in the order of their connection: CONNECT-DUMP prints them so */
};

struct anvil_connections *anvil_connections_new(void)
{
    return mem_zero(1, sizeof(struct anvil_connections));
}

static struct ident *find_ident(const struct anvil_connections *all, struct slice name)
{
    struct ident *ident;

    HASH_FIND(hh, all->idents, name.at, name.size, ident);
    return ident;
}

static struct process *find_process(const struct anvil_connections *all, pid_t pid)
{
    struct process *process;

    HASH_FIND(hh, all->processes, &pid, sizeof(pid), process);
    return process;
}

static struct entry *find_entry(const struct anvil_connections *all, struct ident *ident, struct process *process)
{
    struct key key = {ident, process};
    struct entry *entry = NULL;

    if (ident != NULL && process != NULL)
        HASH_FIND(hh, all->entries, &key, sizeof(key), entry);
    return entry;
}

static struct owner *find_owner(const struct anvil_connections *all, pid_t pid)
{
    struct owner *owner;

    HASH_FIND(hh, all->owners, &pid, sizeof(pid), owner);
    return owner;
}

static struct owner *take_owner(struct anvil_connections *all, pid_t pid)
{
    struct owner *owner = find_owner(all, pid);

    if (owner == NULL) {
        owner = mem_zero(1, sizeof(*owner));
        owner->pid = pid;
        HASH_ADD(hh, all->owners, pid, sizeof(pid), owner);
    }
    owner->entries++;
    return owner;
}

static void release_owner(struct anvil_connections *all, struct owner *owner)
{
    if (owner == NULL || --owner->entries > 0)
        return;
    HASH_DEL(all->owners, owner);
    mem_free(owner);
}

static void drop_entry(struct anvil_connections *all, struct entry *entry)
{
    struct ident *ident = entry->key.ident;
    struct process *process = entry->key.process;

    ident->total -= entry->count;
    release_owner(all, entry->owner);
    HASH_DEL(all->entries, entry);
    if (entry->prev_ident != NULL)
        entry->prev_ident->next_ident = entry->next_ident;
    else
        ident->entries = entry->next_ident;
    if (entry->next_ident != NULL)
        entry->next_ident->prev_ident = entry->prev_ident;
    if (entry->prev_process != NULL)
        entry->prev_process->next_process = entry->next_process;
    else
        process->entries = entry->next_process;
    if (entry->next_process != NULL)
        entry->next_process->prev_process = entry->prev_process;
    mem_free(entry);
    if (ident->entries == NULL) {
        HASH_DEL(all->idents, ident);
        mem_free(ident->name);
        mem_free(ident);
    }
    if (process->entries == NULL) {
        HASH_DEL(all->processes, process);
        mem_free(process);
    }
}

void anvil_connections_free(struct anvil_connections *all)
{
    struct entry *entry, *next;

    if (all == NULL)
        return;
    HASH_ITER(hh, all->entries, entry, next)
        drop_entry(all, entry);
    mem_free(all);
}

static struct ident *make_ident(struct anvil_connections *all, struct slice name)
{
    struct ident *ident = find_ident(all, name);

    if (ident != NULL)
        return ident;
    ident = mem_zero(1, sizeof(*ident));
    ident->name = mem_strndup(name);
    ident->size = name.size;
    HASH_ADD_KEYPTR(hh, all->idents, ident->name, ident->size, ident);
    return ident;
}

static struct process *make_process(struct anvil_connections *all, pid_t pid)
{
    struct process *process = find_process(all, pid);

    if (process != NULL)
        return process;
    process = mem_zero(1, sizeof(*process));
    process->pid = pid;
    HASH_ADD(hh, all->processes, pid, sizeof(pid), process);
    return process;
}

void anvil_connections_add(struct anvil_connections *all, struct slice name, pid_t pid,
                           pid_t owner)
{
    struct entry *entry = find_entry(all, find_ident(all, name), find_process(all, pid));
    struct ident *ident;
    struct process *process;

    if (entry != NULL) {
        entry->count++;
        entry->key.ident->total++;
        return;
    }
    if (HASH_COUNT(all->entries) >= ENTRIES_MAX)
        return;
    ident = make_ident(all, name);
    process = make_process(all, pid);
    entry = mem_zero(1, sizeof(*entry));
    entry->key = (struct key){ident, process};
    entry->count = 1;
    entry->owner = owner == 0 || owner == pid ? NULL : take_owner(all, owner);
    ident->total++;
    entry->next_ident = ident->entries;
    if (ident->entries != NULL)
        ident->entries->prev_ident = entry;
    ident->entries = entry;
    entry->next_process = process->entries;
    if (process->entries != NULL)
        process->entries->prev_process = entry;
    process->entries = entry;
    HASH_ADD(hh, all->entries, key, sizeof(entry->key), entry);
}

bool anvil_connections_remove(struct anvil_connections *all, struct slice name, pid_t pid)
{
    struct entry *entry = find_entry(all, find_ident(all, name), find_process(all, pid));

    if (entry == NULL)
        return false;
    if (entry->count > 1) {
        entry->count--;
        entry->key.ident->total--;
    } else {
        drop_entry(all, entry);
    }
    return true;
}

void anvil_connections_forget(struct anvil_connections *all, pid_t pid)
{
    struct process *process = find_process(all, pid);
    struct entry *entry = process == NULL ? NULL : process->entries;

    /* The process goes with its last entry. */
    while (entry != NULL) {
        struct entry *next = entry->next_process;

        drop_entry(all, entry);
        entry = next;
    }
    if (find_owner(all, pid) == NULL)
        return;
    for (entry = all->entries; entry != NULL;) {
        struct entry *next = entry->hh.next;

        if (entry->owner != NULL && entry->owner->pid == pid)
            drop_entry(all, entry);
        entry = next;
    }
}

uint32_t anvil_connections_count(const struct anvil_connections *all, struct slice name)
{
    const struct ident *ident = find_ident(all, name);

    return ident == NULL ? 0 : ident->total;
}

bool anvil_connections_has(const struct anvil_connections *all, struct slice name, pid_t pid)
{
    return find_entry(all, find_ident(all, name), find_process(all, pid)) != NULL;
}

void anvil_connections_each(const struct anvil_connections *all,
                            void (*see)(void *arg, struct slice ident, pid_t, uint32_t count), void *arg)
{
    for (const struct entry *entry = all->entries; entry != NULL; entry = entry->hh.next)
        see(arg, slice_of(entry->key.ident->name, entry->key.ident->size), entry->key.process->pid, entry->count);
}
