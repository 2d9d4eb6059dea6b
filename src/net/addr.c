/* addr.c - internet addresses.
 *
 * IPv4-mapped IPv6 addresses are turned into IPv4 where they enter, so that 127.0.0.1 equals ::ffff:127.0.0.1 in
 * every comparison and log line. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>

static size_t ip_size(const struct net_ip *ip)
{
    return ip->family == AF_INET ? 4 : ip->family == AF_INET6 ? 16 : 0;
}

/* inet_ntop of four bytes is a printf; each login asks for its addresses in every process that it passes. */
static const char *four_text(const unsigned char bytes[4], char out[NET_IP_TEXT])
{
    char *at = out;

    for (int i = 0; i < 4; i++) {
        unsigned n = bytes[i];

        if (n >= 100)
            *at++ = (char)('0' + n / 100);
        if (n >= 10)
            *at++ = (char)('0' + n / 10 % 10);
        *at++ = (char)('0' + n % 10);
        *at++ = i < 3 ? '.' : '\0';
    }
    return out;
}

const char *net_ip_text(const struct net_ip *ip, char out[NET_IP_TEXT])
{
    if (ip->family == AF_INET)
        return four_text(ip->bytes, out);
    if (ip_size(ip) == 0 || inet_ntop(ip->family, ip->bytes, out, NET_IP_TEXT) == NULL)
        out[0] = '\0';
    return out;
}

static struct net_ip ip_unmap(const struct in6_addr *six)
{
    struct net_ip ip = {.family = AF_INET6};

    if (IN6_IS_ADDR_V4MAPPED(six)) {
        ip.family = AF_INET;
        memcpy(ip.bytes, six->s6_addr + 12, 4);
    } else
        memcpy(ip.bytes, six->s6_addr, 16);
    return ip;
}

bool net_ip_parse(struct slice text, struct net_ip *out)
{
    char word[NET_IP_TEXT];
    struct in_addr four;
    struct in6_addr six;

    if (text.size == 0 || text.size >= sizeof(word) || memchr(text.at, '\0', text.size) != NULL)
        return false;
    memcpy(word, text.at, text.size);
    word[text.size] = '\0';
    if (inet_pton(AF_INET, word, &four) == 1) {
        *out = (struct net_ip){.family = AF_INET};
        memcpy(out->bytes, &four, 4);
        return true;
    }
    if (inet_pton(AF_INET6, word, &six) == 1) {
        *out = ip_unmap(&six);
        return true;
    }
    return false;
}

bool net_ip_equal(const struct net_ip *a, const struct net_ip *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, ip_size(a)) == 0;
}

static bool in_network(const struct net_ip *ip, struct slice word)
{
    struct net_ip net;
    ptrdiff_t slash = slice_find(word, '/');
    uint32_t bits;

    if (!net_ip_parse(slash < 0 ? word : slice_head(word, (size_t)slash), &net) || net.family != ip->family)
        return false;
    bits = (uint32_t)ip_size(ip) * 8;
    if (slash >= 0) {
        uint32_t given;
        if (!slice_to_u32(slice_from(word, (size_t)slash + 1), &given) || given > bits)
            return false;
        bits = given;
    }
    if (memcmp(net.bytes, ip->bytes, bits / 8) != 0)
        return false;
    if (bits % 8 == 0)
        return true;
    return ((net.bytes[bits / 8] ^ ip->bytes[bits / 8]) & (0xff << (8 - bits % 8)) & 0xff) == 0;
}

bool net_ip_in(const struct net_ip *ip, const char *networks)
{
    const char *p = networks;

    if (networks == NULL || ip_size(ip) == 0)
        return false;
    while (*p != '\0') {
        size_t n = strcspn(p, " ,\t");
        if (n > 0 && in_network(ip, slice_of(p, n)))
            return true;
        p += n;
        p += strspn(p, " ,\t");
    }
    return false;
}

struct net_endpoint net_endpoint_of(const struct sockaddr *sa)
{
    struct net_endpoint end = {{0}, 0};

    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        end.ip.family = AF_INET;
        memcpy(end.ip.bytes, &in->sin_addr, 4);
        end.port = ntohs(in->sin_port);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
        end.ip = ip_unmap(&in6->sin6_addr);
        end.port = ntohs(in6->sin6_port);
    }
    return end;
}

int net_local(int fd, struct net_endpoint *out, struct error *e)
{
    struct sockaddr_storage sa;
    socklen_t size = sizeof(sa);

    if (getsockname(fd, (struct sockaddr *)&sa, &size) < 0)
        return error_sys(e, "getsockname", NULL);
    *out = net_endpoint_of((struct sockaddr *)&sa);
    return 0;
}

int net_peer(int fd, struct net_endpoint *out, struct error *e)
{
    struct sockaddr_storage sa;
    socklen_t size = sizeof(sa);

    if (getpeername(fd, (struct sockaddr *)&sa, &size) < 0)
        return error_sys(e, "getpeername", NULL);
    *out = net_endpoint_of((struct sockaddr *)&sa);
    return 0;
}
