/* step.c - slices of work. */
#include "base/step.h"

#include <time.h>

uint64_t time_monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct budget budget_ms(unsigned ms)
{
    return (struct budget){time_monotonic_ns() + (uint64_t)ms * 1000000u, UINT32_MAX - 1};
}

bool budget_spent(struct budget *b, uint32_t units)
{
    uint32_t before = b->units;

    if (before == UINT32_MAX && b->until_ns == 0)
        return false;
    b->units = before > units ? before - units : 0;
    if (b->units == 0)
        return true;
    return b->until_ns != 0 && (before / 16 != b->units / 16) && time_monotonic_ns() >= b->until_ns;
}
