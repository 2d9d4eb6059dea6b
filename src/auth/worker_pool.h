/* Connections to auth-worker processes (auth.md 20): the auth side. */
#ifndef YARILO_AUTH_WORKER_POOL_H
#define YARILO_AUTH_WORKER_POOL_H

#include "auth/auth.h"

struct worker_pool;

/* path: the socket of service auth-worker. */
struct worker_pool *worker_pool_new(struct server *, const char *path, unsigned most);
void worker_pool_free(struct worker_pool *);

/* Ask the database of the request's current link. The request is held until the answer. */
void worker_ask_passdb(struct request *, passdb_done_fn *);
void worker_ask_userdb(struct request *, userdb_done_fn *);
/* LIST of a userdb: `each` per user, `done` with ok. */
void worker_ask_list(struct request *, struct db *, const char *mask, db_each_fn *each, void (*done)(void *, bool ok),
                     void *arg);

/* The request as worker protocol fields, and back. */
void worker_export(struct buffer *, const struct request *);
void worker_import(struct request *, const struct slice *fields, size_t count);

#endif
