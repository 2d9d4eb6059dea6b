/* keepalive.c - see keepalive.h. */
#include "imap/keepalive.h"

#include "base/base.h"

uint64_t keepalive_next(const char *user, unsigned interval_secs)
{
    uint64_t interval = (uint64_t)interval_secs * 1000000000u, now = time_monotonic_ns(), hash = 5381, next;

    if (interval == 0)
        return 0;
    for (const char *c = user; *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    next = now + interval - (now + hash * 1000000u % interval) % interval;
    return next - now < interval / 2 ? next + interval : next;
}
