/* haproxy.c - the PROXY protocol (ipc 22), versions 1 and 2.
 *
 * A pure function over the bytes read so far. It asks for more until the whole header is there; the caller bounds
 * the time (haproxy_timeout). Version 1 lines end within 108 bytes, version 2 headers within 1500. */
#include "net/haproxy.h"

#include <stdio.h>

static const unsigned char signature[12] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};

enum { V1_MAX = 108, V2_HEADER = 16 };
enum { TLV_ALPN = 0x01, TLV_AUTHORITY = 0x02, TLV_SSL = 0x20, TLV_SSL_CN = 0x22 };

static enum step fail(struct error *e, const char *text)
{
    error_set(e, ERROR_INVALID, "%s", text);
    return STEP_ERROR;
}

static enum step parse_v1(struct slice in, struct haproxy_header *out, struct error *e)
{
    ptrdiff_t lf = slice_find(slice_head(in, V1_MAX), '\n');
    struct slice line, rest, word[6];
    size_t n = 0;
    uint32_t sport, dport;

    if (lf < 0) {
        if (in.size < V1_MAX)
            return STEP_INPUT;
        return fail(e, "haproxy(v1): Client disconnected: Header line too long");
    }
    if (lf == 0 || in.at[lf - 1] != '\r')
        return fail(e, "haproxy(v1): Client disconnected: Header line does not end in CRLF");
    out->size = (size_t)lf + 1;
    line = slice_head(in, (size_t)lf - 1);
    rest = slice_from(line, 6); /* "PROXY " */
    if (line.size < 6 || line.at[5] != ' ')
        return fail(e, "haproxy(v1): Client disconnected: Field for proxied protocol is missing");
    while (n < 6 && slice_split(&rest, ' ', &word[n]))
        n++;
    if (slice_equal_str(word[0], "UNKNOWN")) {
        out->local = true;
        return STEP_DONE;
    }
    if (!slice_equal_str(word[0], "TCP4") && !slice_equal_str(word[0], "TCP6")) {
        error_set(e, ERROR_INVALID, "haproxy(v1): Client disconnected: Unknown proxied protocol (protocol=`%.*s')",
                  (int)word[0].size, word[0].at);
        return STEP_ERROR;
    }
    if (n < 2 || !net_ip_parse(word[1], &out->source.ip))
        return fail(e, "haproxy(v1): Client disconnected: Proxied remote address is invalid");
    if (n < 3 || !net_ip_parse(word[2], &out->destination.ip))
        return fail(e, "haproxy(v1): Client disconnected: Proxied local address is invalid");
    if (n < 4 || !slice_to_u32(word[3], &sport) || sport > 65535)
        return fail(e, "haproxy(v1): Client disconnected: Proxied remote port is invalid");
    if (n < 5 || !slice_to_u32(word[4], &dport) || dport > 65535)
        return fail(e, "haproxy(v1): Client disconnected: Proxied local port is invalid");
    if (n > 5)
        return fail(e, "haproxy(v1): Client disconnected: Header line has spurius extra field");
    out->source.port = (uint16_t)sport;
    out->destination.port = (uint16_t)dport;
    return STEP_DONE;
}

/* Text of a TLV when it is printable and short; anything else is left out. */
static void keep_text(char *out, size_t size, struct slice value)
{
    if (value.size >= size)
        return;
    for (size_t i = 0; i < value.size; i++)
        if (value.at[i] < 0x20 || value.at[i] == 0x7f)
            return;
    memcpy(out, value.at, value.size);
    out[value.size] = '\0';
}

static bool next_tlv(struct slice *rest, unsigned *type, struct slice *value)
{
    size_t size;

    if (rest->size < 3)
        return false;
    size = (size_t)rest->at[1] << 8 | rest->at[2];
    if (size > rest->size - 3)
        return false;
    *type = rest->at[0];
    *value = slice_head(slice_from(*rest, 3), size);
    *rest = slice_from(*rest, 3 + size);
    return true;
}

static enum step parse_tlvs(struct slice rest, unsigned command, struct haproxy_header *out, struct error *e)
{
    struct slice value, sub;
    unsigned type, count = 0;

    while (rest.size > 0) {
        if (!next_tlv(&rest, &type, &value)) {
            error_set(e, ERROR_INVALID,
                      "haproxy(v2): Client disconnected: Invalid TLV: get_tlv(%u) failed: Truncated data (cmd=%02x)",
                      count, command);
            return STEP_ERROR;
        }
        count++;
        if (type == TLV_ALPN)
            keep_text(out->alpn, sizeof(out->alpn), value);
        else if (type == TLV_AUTHORITY)
            keep_text(out->authority, sizeof(out->authority), value);
        else if (type == TLV_SSL) {
            if (value.size < 5)
                return fail(e, "haproxy(v2): Client disconnected: Invalid TLV: SSL data too short");
            out->tls = (value.at[0] & 1) != 0;
            out->tls_verified = bytes_be32(value.at + 1) == 0;
            sub = slice_from(value, 5);
            while (sub.size > 0) {
                struct slice inner;
                if (!next_tlv(&sub, &type, &inner))
                    return fail(e, "haproxy(v2): Client disconnected: Invalid TLV: Truncated SSL data");
                if (type == TLV_SSL_CN)
                    keep_text(out->cert_name, sizeof(out->cert_name), inner);
            }
        }
    }
    return STEP_DONE;
}

static enum step parse_v2(struct slice in, struct haproxy_header *out, struct error *e)
{
    unsigned command, family, transport;
    size_t length;
    struct slice body;

    if (in.size < V2_HEADER)
        return STEP_INPUT;
    length = (size_t)in.at[14] << 8 | in.at[15];
    if (in.at[12] >> 4 != 2) {
        error_set(e, ERROR_INVALID, "haproxy: Client disconnected: Unsupported protocol version (version=%02x)",
                  (unsigned)in.at[12] >> 4);
        return STEP_ERROR;
    }
    if (length > HAPROXY_MAX - V2_HEADER)
        return fail(e, "haproxy(v2): Client disconnected: Too long header");
    if (in.size < V2_HEADER + length)
        return STEP_INPUT;
    out->size = V2_HEADER + length;
    body = slice_head(slice_from(in, V2_HEADER), length);
    command = in.at[12] & 0x0f;
    family = (unsigned)in.at[13] >> 4;
    transport = in.at[13] & 0x0f;
    if (command == 0) {
        out->local = true;
        return STEP_DONE;
    }
    if (command != 1) {
        error_set(e, ERROR_INVALID, "haproxy(v2): Client disconnected: Invalid command (cmd=%02x)", command);
        return STEP_ERROR;
    }
    if (transport != 1) {
        error_set(e, ERROR_INVALID, "haproxy(v2): Client disconnected: Not using TCP (type=%02x)", transport);
        return STEP_ERROR;
    }
    if (family == 1 || family == 2) {
        size_t ip = family == 1 ? 4 : 16;
        if (body.size < 2 * ip + 4) {
            error_set(e, ERROR_INVALID, "haproxy(v2): Client disconnected: %s data is incomplete",
                      family == 1 ? "IPv4" : "IPv6");
            return STEP_ERROR;
        }
        char text[NET_IP_TEXT];
        struct net_ip raw = {.family = family == 1 ? AF_INET : AF_INET6};
        /* Through text, so that mapped addresses become IPv4 as everywhere. */
        memcpy(raw.bytes, body.at, ip);
        net_ip_parse(slice_from_str(net_ip_text(&raw, text)), &out->source.ip);
        memcpy(raw.bytes, body.at + ip, ip);
        net_ip_parse(slice_from_str(net_ip_text(&raw, text)), &out->destination.ip);
        out->source.port = (uint16_t)(body.at[2 * ip] << 8 | body.at[2 * ip + 1]);
        out->destination.port = (uint16_t)(body.at[2 * ip + 2] << 8 | body.at[2 * ip + 3]);
        body = slice_from(body, 2 * ip + 4);
    } else if (family == 0 || family == 3) {
        /* The real server goes on with the connection's own addresses, and reads what follows as TLVs. */
        out->local = true;
        snprintf(out->warning, sizeof(out->warning), "haproxy(v2): Unsupported address family (family=%02x", family);
    } else
        return fail(e, "haproxy(v2): Client disconnected: Unknown address family");
    return parse_tlvs(body, command, out, e);
}

enum step haproxy_parse(struct slice in, struct haproxy_header *out, struct error *e)
{
    memset(out, 0, sizeof(*out));
    if (in.size < 8)
        return STEP_INPUT;
    if (slice_starts(in, SLICE("PROXY")))
        return parse_v1(in, out, e);
    if (in.size < sizeof(signature)) {
        if (memcmp(in.at, signature, in.size) == 0)
            return STEP_INPUT;
    } else if (memcmp(in.at, signature, sizeof(signature)) == 0)
        return parse_v2(in, out, e);
    return fail(e, "haproxy: Client disconnected: Failed to read valid HAproxy data");
}

enum step haproxy_read(struct stream *stream, const struct net_ip *peer, struct haproxy_header *out)
{
    char ip[NET_IP_TEXT];
    struct error e;
    enum step step = haproxy_parse(stream_input(stream), out, &e);

    if (step == STEP_ERROR)
        log_error(NULL, "%s (rip=%s)", e.admin, net_ip_text(peer, ip));
    if (step == STEP_DONE) {
        if (out->warning[0] != '\0')
            log_error(NULL, "%s, rip=%s)", out->warning, net_ip_text(peer, ip));
        stream_consume(stream, out->size);
    }
    return step;
}
