/* "* OK Still here": when (imap 6.1). */
#ifndef YARILO_IMAP_KEEPALIVE_H
#define YARILO_IMAP_KEEPALIVE_H

#include <stdint.h>

/* The next time to say it, of time_monotonic_ns; 0: never (interval 0). The same for all sessions of a user, in whatever
 * process: phones wake once for all. At least half an interval away. */
uint64_t keepalive_next(const char *user, unsigned interval_secs);

#endif
