/* The binary request of login processes (ipc 7.2): native layout of x86-64, every field checked. */
#include "dispatch/dispatch_impl.h"

enum { FLAG_COMPRESSED = 1, FLAG_SECURED = 2, FLAG_TLS = 4, FLAG_TLS_IMPLICIT = 8,
       FLAG_RETURNS = 0x100 /* of our own login processes */ };

static uint32_t word(const unsigned char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static int read_endpoint(const unsigned char *ip, const unsigned char *port, struct net_endpoint *end,
                         struct error *error)
{
    uint16_t family, number;

    memcpy(&family, ip, sizeof(family));
    memcpy(&number, port, sizeof(number));
    *end = (struct net_endpoint){.port = number};
    if (family == 0)
        return 0;
    if (family != AF_INET && family != AF_INET6)
        return error_set(error, ERROR_INVALID, "Login request with the unknown address family %u", family);
    end->ip.family = family;
    memcpy(end->ip.bytes, ip + 4, family == AF_INET6 ? 16 : 4);
    return 0;
}

int login_request_read(const unsigned char bytes[LOGIN_REQUEST_SIZE], struct login_request *out, struct error *error)
{
    struct login_request request = {.tag = word(bytes), .auth_pid = word(bytes + 4), .auth_id = word(bytes + 8),
                                    .client_pid = word(bytes + 12), .data_size = word(bytes + 80)};
    uint32_t flags = word(bytes + 76);

    memcpy(request.cookie, bytes + 16, sizeof(request.cookie));
    memcpy(&request.inode, bytes + 88, sizeof(request.inode));
    request.compressed = (flags & FLAG_COMPRESSED) != 0;
    request.secured = (flags & FLAG_SECURED) != 0;
    request.tls = (flags & FLAG_TLS) != 0;
    request.tls_implicit = (flags & FLAG_TLS_IMPLICIT) != 0;
    request.returns = (flags & FLAG_RETURNS) != 0;
    if (read_endpoint(bytes + 32, bytes + 72, &request.local, error) < 0 ||
        read_endpoint(bytes + 52, bytes + 74, &request.remote, error) < 0)
        return -1;
    if (request.data_size > LOGIN_DATA_MAX)
        return error_set(error, ERROR_LIMIT, "Login request with too much data: %u bytes", request.data_size);
    *out = request;
    return 0;
}

void login_answer_write(unsigned char bytes[LOGIN_ANSWER_SIZE], uint32_t tag, uint32_t status, pid_t pid)
{
    int32_t number = pid;

    memcpy(bytes, &tag, 4);
    memcpy(bytes + 4, &status, 4);
    memcpy(bytes + 8, &number, 4);
}

void login_data_read(struct slice bytes, bool imap, struct login_data *data)
{
    struct slice rest = bytes;

    *data = (struct login_data){0};
    if (!slice_split(&rest, '\0', &data->session))
        return;
    if (imap && rest.size > 0) {
        struct slice tag;

        if (slice_find(rest, '\0') >= 0 && slice_split(&rest, '\0', &tag) && tag.size > 0) {
            data->has_tag = true;
            data->nocap = tag.at[0] == '1';
            data->tag = slice_from(tag, 1);
        }
    }
    data->input = rest;
}
