/* The PROXY protocol, versions 1 and 2 (ipc 22): a pure parser over the first bytes of a connection. */
#ifndef YARILO_NET_HAPROXY_H
#define YARILO_NET_HAPROXY_H

#include "net/addr.h"
#include "net/stream.h"

enum { HAPROXY_MAX = 1500 };

struct haproxy_header {
    size_t size;                        /* bytes of the header, to be consumed */
    bool local;                         /* LOCAL or UNKNOWN: keep the connection's own addresses */
    struct net_endpoint source, destination;
    char authority[256];                /* TLV 0x02, "" = none */
    char alpn[64];
    bool tls, tls_verified;             /* TLV 0x20 */
    char cert_name[256];                /* sub-TLV 0x22, "" = none */
    char warning[128];                  /* to be logged although the header is accepted; "" = none */
};

/* STEP_DONE: *out is filled. STEP_INPUT: more bytes are needed. STEP_ERROR: error admin text is what follows
 * "haproxy: Client disconnected: " or "haproxy(v1): ..." in the real server's log, without the (rip=...) part. */
enum step haproxy_parse(struct slice, struct haproxy_header *out, struct error *);

/* The same over a stream's input: takes the header off, logs what the real server logs with the peer's address. DONE, INPUT,
 * or ERROR (logged): the connection is to be closed. */
enum step haproxy_read(struct stream *, const struct net_ip *peer, struct haproxy_header *out);

#endif
