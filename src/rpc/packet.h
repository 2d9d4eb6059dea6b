/* Packet connections: whole messages with at most one descriptor over SOCK_SEQPACKET, in order, never blocking.
 *
 * Used between dispatcher, workers and whoever hands in jobs (dispatch.h). Packets that cannot be sent yet wait with a
 * duplicate of their descriptor; a peer that lets more than PACKET_QUEUE_MAX of them wait is given up. */
#ifndef YARILO_RPC_PACKET_H
#define YARILO_RPC_PACKET_H

#include "base/base.h"

#include <ev.h>

#define PACKET_QUEUE_MAX 10000

struct packet_conn;

struct packet_handler {
    /* One packet; the bytes live until the handler returns, fd (or -1) is the handler's. */
    void (*packet)(void *arg, struct slice packet, int fd);
    /* Once, from the loop: the peer is gone (class NONE) or the connection failed. The owner frees it then or later. */
    void (*closed)(void *arg, const struct error *);
};

/* Takes the descriptor and makes it non-blocking. Safe to free from inside a handler. */
struct packet_conn *packet_conn_new(struct ev_loop *, int fd, size_t packet_max, const struct packet_handler *,
                                    void *arg);
void packet_conn_free(struct packet_conn *); /* NULL is fine */
/* The descriptor stays the caller's. -1: the connection is broken or the queue is full; `closed` will be called. */
int packet_conn_send(struct packet_conn *, struct slice packet, int fd, struct error *);
bool packet_conn_idle(const struct packet_conn *); /* nothing waits to be sent */

#endif
