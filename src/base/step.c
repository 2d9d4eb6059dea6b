/* step.c - slices of work. */
#include "base/step.h"

#include <stdlib.h>
#include <time.h>

uint64_t time_monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#ifdef FAULTS
/* Units of a slice in tests that want every step cut as short as can be (YARILO_SLICE_UNITS); 0 = as usual. */
static uint32_t test_units(void)
{
    static int64_t units = -1;

    if (units < 0)
        units = getenv("YARILO_SLICE_UNITS") == NULL ? 0 : strtoul(getenv("YARILO_SLICE_UNITS"), NULL, 10);
    return (uint32_t)units;
}
#endif

struct budget budget_ms(unsigned ms)
{
#ifdef FAULTS
    if (test_units() > 0)
        return (struct budget){0, test_units()};
#endif
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
