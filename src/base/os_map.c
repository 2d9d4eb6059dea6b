/* os_map.c - files as private memory: what nobody looks at is never read.
 *
 * For files that are replaced, never changed where they are. If one is cut off all the same, or its disk fails, the kernel
 * answers an access with SIGBUS; the handler puts zeros in the page's place and notes it, so that the owner, who looks for the
 * note, can read the file again as one that is damaged. The list of maps changes in the main thread only; a handler runs in
 * the thread that touched the page. */
#include "base/base.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

struct os_map {
    unsigned char *at;
    size_t whole;                  /* file and room, in pages */
    volatile sig_atomic_t lost;
    struct os_map *next;
};

static struct os_map *maps;

static size_t page_size(void)
{
    static size_t size;

    if (size == 0)
        size = (size_t)sysconf(_SC_PAGESIZE);
    return size;
}

static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
    unsigned char *address = info->si_addr;

    (void)context;
    for (struct os_map *map = maps; map != NULL; map = map->next) {
        if (address < map->at || (size_t)(address - map->at) >= map->whole)
            continue;
        address -= (size_t)(address - map->at) % page_size();
        if (mmap(address, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            break;
        map->lost = 1;
        return;
    }
    signal(signal_number, SIG_DFL); /* not ours: it happens again and ends the process */
}

static void watch_bus_errors(void)
{
    static bool watching;
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER};

    if (watching)
        return;
    watching = true;
    page_size();
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

int os_map_open(struct os_map **out, int fd, size_t size, size_t room, struct error *e)
{
    const size_t whole = (size + room + page_size() - 1) & ~(page_size() - 1);
    unsigned char *at = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct os_map *map;

    if (at == MAP_FAILED)
        return error_sys(e, "mmap", "memory");
    if (size == 0 || mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED) {
        const int err = size == 0 ? EINVAL : errno;

        munmap(at, whole);
        errno = err;
        return error_sys(e, "mmap", "file");
    }
    /* What is looked for lies here and there: pages around it would be read for nothing. */
    madvise(at, size, MADV_RANDOM);
    watch_bus_errors();
    map = mem_zero(1, sizeof(*map));
    map->at = at;
    map->whole = whole;
    map->next = maps;
    maps = map;
    *out = map;
    return 0;
}

unsigned char *os_map_bytes(const struct os_map *map)
{
    return map->at;
}

size_t os_map_room(const struct os_map *map)
{
    return map->whole;
}

bool os_map_lost(const struct os_map *map)
{
    return map->lost != 0;
}

void os_map_close(struct os_map **map_p)
{
    struct os_map *map = *map_p, **at = &maps;

    if (map == NULL)
        return;
    *map_p = NULL;
    while (*at != map)
        at = &(*at)->next;
    *at = map->next;
    munmap(map->at, map->whole);
    mem_free(map);
}
