/* Internet addresses: parse, print, match networks. */
#ifndef YARILO_NET_ADDR_H
#define YARILO_NET_ADDR_H

#include "base/base.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* An IPv4 or IPv6 address without port; family 0 = none (UNIX peers). IPv4-mapped IPv6 becomes IPv4. */
struct net_ip {
    sa_family_t family;
    unsigned char bytes[16]; /* 4 or 16 of them, network order */
};

struct net_endpoint {
    struct net_ip ip;
    uint16_t port;
};

#define NET_IP_TEXT 46 /* INET6_ADDRSTRLEN */
const char *net_ip_text(const struct net_ip *, char out[NET_IP_TEXT]); /* "" for none */
bool net_ip_parse(struct slice, struct net_ip *);                       /* also "[::1]"-less IPv6; no names */
bool net_ip_equal(const struct net_ip *, const struct net_ip *);

/* "10.0.0.0/8", "::1", several separated by spaces or commas. Unparsable words match nothing. */
bool net_ip_in(const struct net_ip *, const char *networks);

struct net_endpoint net_endpoint_of(const struct sockaddr *);
int net_local(int fd, struct net_endpoint *, struct error *);   /* getsockname */
int net_peer(int fd, struct net_endpoint *, struct error *);    /* getpeername */

#endif
