/* The authentication cache (auth.md 12). Without one (auth_cache_size = 0) nothing is found and nothing added. */
#ifndef YARILO_AUTH_CACHE_H
#define YARILO_AUTH_CACHE_H

#include "auth/auth.h"

struct cache;

struct cache *cache_new(size_t bytes, unsigned ttl_secs, unsigned negative_ttl_secs);
void cache_free(struct cache *);

/* An answer for the current link of the request: true, and the request is filled as the database would have. */
bool cache_find_passdb(struct request *, enum passdb_result *);
void cache_add_passdb(struct request *, enum passdb_result);
bool cache_find_userdb(struct request *, enum userdb_result *);
void cache_add_userdb(struct request *, enum userdb_result);

/* Removes the entries of these users, or all (count 0); the number removed. */
unsigned cache_flush(struct cache *, const char *const *users, size_t count);
void cache_log_statistics(struct cache *); /* SIGUSR2 */

#endif
