/* Addresses and nets in filters (config 3.1). */
#include "conf/tree.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

bool conf_net_parse_ip(const char *text, struct conf_net *net)
{
    char plain[64];
    size_t size = strlen(text);
    if (size >= 2 && text[0] == '[' && text[size - 1] == ']') {
        text++;
        size -= 2;
    }
    if (size >= sizeof(plain))
        return false;
    memcpy(plain, text, size);
    plain[size] = '\0';
    struct conf_net found = {0};
    if (inet_pton(AF_INET, plain, found.address) == 1) {
        found.family = 4;
        found.bits = 32;
    } else if (inet_pton(AF_INET6, plain, found.address) == 1) {
        found.family = 6;
        found.bits = 128;
    } else {
        return false;
    }
    *net = found;
    return true;
}

/* The first address of a host name. */
static int resolve(const char *host, struct conf_net *net, struct error *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int code = getaddrinfo(host, NULL, &hints, &found);
    if (code != 0)
        return error_set(e, ERROR_INVALID, "gethostbyname(%s) failed: %s", host, gai_strerror(code));
    *net = (struct conf_net){0};
    if (found->ai_family == AF_INET) {
        net->family = 4;
        memcpy(net->address, &((const struct sockaddr_in *)(const void *)found->ai_addr)->sin_addr, 4);
    } else {
        net->family = 6;
        memcpy(net->address, &((const struct sockaddr_in6 *)(const void *)found->ai_addr)->sin6_addr, 16);
    }
    net->bits = net->family == 4 ? 32 : 128;
    freeaddrinfo(found);
    return 0;
}

int conf_net_parse(const char *text, struct conf_net *net, struct error *e)
{
    const char *slash = strchr(text, '/');
    char *host = mem_strndup(slash == NULL ? slice_from_str(text) : slice_of(text, (size_t)(slash - text)));
    int result = conf_net_parse_ip(host, net) ? 0 : resolve(host, net, e);
    mem_free(host);
    if (result < 0 || slash == NULL)
        return result;
    uint32_t bits;
    if (!slice_to_u32(slice_from_str(slash + 1), &bits) || bits > net->bits)
        return error_set(e, ERROR_INVALID, "Invalid network mask: %s", slash + 1);
    net->bits = (unsigned char)bits;
    return 0;
}

void conf_net_format(const struct conf_net *net, struct buffer *out)
{
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(net->family == 4 ? AF_INET : AF_INET6, net->address, text, sizeof(text)) != NULL)
        buffer_append_str(out, text);
    if (net->bits != (net->family == 4 ? 32 : 128))
        buffer_printf(out, "/%u", net->bits);
}

/* An IPv4 address that came over an IPv6 socket counts as IPv4. */
static struct conf_net unmapped(const struct conf_net *net)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct conf_net plain = *net;
    if (net->family == 6 && net->bits >= 96 && memcmp(net->address, mapped, sizeof(mapped)) == 0) {
        plain = (struct conf_net){.family = 4, .bits = (unsigned char)(net->bits - 96)};
        memcpy(plain.address, net->address + 12, 4);
    }
    return plain;
}

bool conf_net_inside(const struct conf_net *inner_net, const struct conf_net *outer_net)
{
    struct conf_net inner = unmapped(inner_net), outer = unmapped(outer_net);
    if (inner.family != outer.family || inner.bits < outer.bits)
        return false;
    unsigned whole = outer.bits / 8, rest = outer.bits % 8;
    if (memcmp(inner.address, outer.address, whole) != 0)
        return false;
    return rest == 0 || ((inner.address[whole] ^ outer.address[whole]) >> (8 - rest)) == 0;
}

bool conf_net_equal(const struct conf_net *a, const struct conf_net *b)
{
    return a->family == b->family && a->bits == b->bits && memcmp(a->address, b->address, sizeof(a->address)) == 0;
}
