/* Inside the program indexer-worker: a process that runs with the credentials of mail users and indexes their mailboxes.
 *
 * Jobs come from the dispatcher (rpc/dispatch.h); their bytes are the line of rpc/indexer.h. Several may be at work in one process,
 * each in steps; of one user there is one at a time, which the indexer sees to. */
#ifndef YARILO_INDEXER_WORKER_H
#define YARILO_INDEXER_WORKER_H

#include "rpc/auth_home.h"
#include "rpc/dispatch.h"
#include "rpc/indexer.h"
#include "rpc/stats_client.h"

struct index_worker {
    struct service *service;
    struct ev_loop *loop;
    struct dispatch_worker *dispatch;
    struct auth_homes *homes;
    struct stats_client *stats;      /* hears of indexer_worker_indexing_finished */
    unsigned jobs;                   /* at work */
};

/* Begins the job; it answers the dispatcher by itself, also when it cannot begin. */
void index_job_start(struct index_worker *, const struct dispatch_request *);

#endif
