/* The indexer: programs say which mailboxes shall be indexed, and workers do it one after the other (ipc 13).
 *
 *     doveadm index -q, quota, ... --APPEND--> client.c -> queue.c -> workers.c --line--> indexer-worker
 *                                  <--percent--        <-        <-          <--percent--
 *
 * The program indexer runs as the internal user. It opens no mailbox and reads no mail; what it hands on are the names that it was
 * told, to a service that looks the user up itself. Anybody on the machine may write to its socket (0666), so every line, every
 * connection and the queue have a size; who asks for too much is not read from until there is room.
 *
 * With a new configuration or without master it accepts nobody any more, and ends when the queue is empty; the workers' socket is a
 * path, so that what is left is done with the new configuration. */
#ifndef YARILO_INDEXER_INDEXER_H
#define YARILO_INDEXER_INDEXER_H

#include "indexer/queue.h"
#include "rpc/service.h"

enum {
    INDEXER_TASKS_MOST = 100000,   /* mailboxes in the queue */
    INDEXER_WAITS_MOST = 1000      /* answers that one client may wait for */
};

struct indexer {
    struct service *service;
    struct ev_loop *loop;
    struct index_queue *queue;
    char *worker_path;
    struct index_client *clients;      /* list */
    struct index_hand *hands;          /* connections to workers, each with its task */
    unsigned hand_count, hand_most;    /* most: as a worker has said; 1 until then */
    bool counted;                      /* the work in the queue keeps the process alive */
    unsigned client_count;
};

/* main.c: "[N clients, M requests]", for `ps` (verbose_proctitle). */
void indexer_show(const struct indexer *);

/* client.c */
void index_client_new(struct indexer *, int fd);
void index_clients_resume(struct indexer *);   /* the queue has room again */
void index_clients_free(struct indexer *);

/* workers.c: as many tasks of the queue as may be are at work. */
void index_hands_start(struct indexer *);
void index_hands_free(struct indexer *);

#endif
