/* dispatch.c - the messages between dispatcher and workers as bytes (dispatch.h), in one place for both sides. */
#include "rpc/dispatch.h"

#include <stdio.h>

static void put_endpoint(struct buffer *out, const char *ip_key, const char *port_key, const struct net_endpoint *end)
{
    char text[NET_IP_TEXT], port[8];

    if (end->ip.family == 0)
        return;
    (void)snprintf(port, sizeof(port), "%u", end->port);
    line_pair(out, ip_key, net_ip_text(&end->ip, text));
    line_pair(out, port_key, port);
}

static void put_word(struct buffer *out, const char *word, bool on)
{
    if (on)
        line_field_str(out, word);
}

int dispatch_request_write(struct buffer *out, const struct dispatch_request *request, struct error *error)
{
    char number[32];

    line_begin(out, request->job ? "JOB" : "SESSION");
    line_field_num(out, request->id);
    line_field_str(out, request->service);
    line_field_str(out, request->user);
    if (request->session != NULL && request->session[0] != '\0')
        line_pair(out, "session", request->session);
    put_endpoint(out, "lip", "lport", &request->local);
    put_endpoint(out, "rip", "rport", &request->remote);
    put_endpoint(out, "real_lip", "real_lport", &request->real_local);
    put_endpoint(out, "real_rip", "real_rport", &request->real_remote);
    put_word(out, "secured", request->secured);
    put_word(out, "tls", request->tls);
    put_word(out, "tls-implicit", request->tls_implicit);
    put_word(out, "compressed", request->compressed);
    put_word(out, "returns", request->returns);
    line_pair(out, "tag", request->tag);
    put_word(out, "nocap", request->nocap);
    (void)snprintf(number, sizeof(number), "%ld", (long)request->login_pid);
    if (request->login_pid > 0)
        line_pair(out, "login-pid", number);
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)request->created_usecs);
    if (request->created_usecs > 0)
        line_pair(out, "created", number);
    line_pair(out, "ticket", request->ticket);
    rpc_fields_write(out, "!", &request->rested);
    rpc_fields_write(out, "+", &request->userdb);
    buffer_append_byte(out, '\0');
    buffer_append_slice(out, request->input);
    if (out->size > DISPATCH_MESSAGE_MAX)
        return error_set(error, ERROR_LIMIT, "The fields of user %.100s are too long for a message (%zu bytes)",
                         request->user, out->size);
    return 0;
}

static void take_ip(struct net_endpoint *end, const char *text)
{
    (void)net_ip_parse(slice_from_str(text), &end->ip);
}

static void take_port(struct net_endpoint *end, const char *text)
{
    uint32_t port;

    if (slice_to_u32(slice_from_str(text), &port) && port <= UINT16_MAX)
        end->port = (uint16_t)port;
}

static const struct {
    const char *ip, *port;
    size_t offset;
} endpoints[] = {{"lip", "lport", offsetof(struct dispatch_request, local)},
                 {"rip", "rport", offsetof(struct dispatch_request, remote)},
                 {"real_lip", "real_lport", offsetof(struct dispatch_request, real_local)},
                 {"real_rip", "real_rport", offsetof(struct dispatch_request, real_remote)}};

static const struct {
    const char *word;
    size_t offset;
} words[] = {{"secured", offsetof(struct dispatch_request, secured)},
             {"tls", offsetof(struct dispatch_request, tls)},
             {"tls-implicit", offsetof(struct dispatch_request, tls_implicit)},
             {"compressed", offsetof(struct dispatch_request, compressed)},
             {"returns", offsetof(struct dispatch_request, returns)},
             {"nocap", offsetof(struct dispatch_request, nocap)}};

static void take_field(struct dispatch_request *request, const struct rpc_field *field)
{
    const char *value = field->value == NULL ? "" : field->value;
    uint64_t number;

    for (size_t i = 0; i < sizeof(endpoints) / sizeof(*endpoints); i++) {
        struct net_endpoint *end = (struct net_endpoint *)((char *)request + endpoints[i].offset);

        if (strcmp(field->key, endpoints[i].ip) == 0)
            take_ip(end, value);
        else if (strcmp(field->key, endpoints[i].port) == 0)
            take_port(end, value);
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (strcmp(field->key, words[i].word) == 0)
            *(bool *)((char *)request + words[i].offset) = true;
    if (strcmp(field->key, "session") == 0)
        request->session = value;
    else if (strcmp(field->key, "tag") == 0)
        request->tag = value;
    else if (strcmp(field->key, "ticket") == 0)
        request->ticket = value;
    else if (strcmp(field->key, "login-pid") == 0 && slice_to_u64(slice_from_str(value), &number) &&
             number <= INT32_MAX)
        request->login_pid = (pid_t)number;
    else if (strcmp(field->key, "created") == 0)
        (void)slice_to_u64(slice_from_str(value), &request->created_usecs);
}

int dispatch_request_read(struct arena *arena, struct slice packet, struct dispatch_request *request,
                          struct error *error)
{
    ptrdiff_t nul = slice_find(packet, '\0');
    struct slice *fields;
    struct rpc_fields all;
    size_t count, own = 0, rested = 0;

    if (nul < 0)
        return error_set(error, ERROR_INVALID, "Dispatch message has no end");
    count = text_tab_fields(arena, slice_head(packet, (size_t)nul), &fields);
    /* A name that ends early as a C string is another name. */
    for (size_t i = 0; i < count; i++)
        if (slice_find(fields[i], '\0') >= 0)
            return error_set(error, ERROR_INVALID, "Dispatch message with a NUL in a field");
    *request = (struct dispatch_request){.session = "", .input = slice_from(packet, (size_t)nul + 1)};
    request->job = slice_equal_str(fields[0], "JOB");
    if (!request->job && !slice_equal_str(fields[0], "SESSION"))
        return error_set(error, ERROR_INVALID, "Unknown dispatch message");
    if (count < 4 || !slice_to_u32(fields[1], &request->id) || fields[2].size == 0)
        return error_set(error, ERROR_INVALID, "Dispatch message without id, service or user");
    request->service = arena_str(arena, fields[2]);
    request->user = arena_str(arena, fields[3]);
    all = rpc_fields_parse(arena, fields, count, 4);
    request->userdb.at = ARENA_ARRAY(arena, struct rpc_field, all.count + 1);
    request->rested.at = ARENA_ARRAY(arena, struct rpc_field, all.count + 1);
    for (size_t i = 0; i < all.count; i++) {
        if (all.at[i].key[0] == '+')
            request->userdb.at[own++] = (struct rpc_field){all.at[i].key + 1, all.at[i].value};
        else if (all.at[i].key[0] == '!')
            request->rested.at[rested++] = (struct rpc_field){all.at[i].key + 1, all.at[i].value};
        else
            take_field(request, &all.at[i]);
    }
    request->userdb.count = own;
    request->rested.count = rested;
    return 0;
}

/* ---- sessions at rest ------------------------------------------------------------------------------------------------ */

void dispatch_origin_write(struct buffer *out, const struct dispatch_request *request)
{
    struct buffer fields = {0};
    char number[32];

    line_pair(out, "session", request->session);
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)request->created_usecs / 1000000);
    line_pair(out, "session_created", number);
    put_endpoint(out, "lip", "lport", &request->local);
    put_endpoint(out, "rip", "rport", &request->remote);
    rpc_fields_write(&fields, "", &request->userdb); /* begins with a TAB when there are any */
    line_pair(out, "userdb_fields", fields.size > 0 ? buffer_cstr(&fields) + 1 : "");
    buffer_free(&fields);
    put_word(out, "secured", request->secured);
    put_word(out, "tls", request->tls);
    put_word(out, "tls-implicit", request->tls_implicit);
    put_word(out, "returns", request->returns);
    line_pair(out, "ticket", request->ticket);
}

void dispatch_origin_read(struct arena *arena, const struct rpc_fields *fields, struct dispatch_request *request)
{
    const char *text = rpc_fields_get(fields, "userdb_fields");
    uint64_t created;

    for (size_t i = 0; i < fields->count; i++) {
        const struct rpc_field *field = &fields->at[i];

        if (strcmp(field->key, "tag") == 0)
            continue; /* of IDLE */
        if (strcmp(field->key, "session_created") == 0 && field->value != NULL &&
            slice_to_u64(slice_from_str(field->value), &created) && created < UINT64_MAX / 1000000)
            request->created_usecs = created * 1000000;
        take_field(request, field);
    }
    if (text != NULL && text[0] != '\0') {
        struct slice *parts;
        size_t count = text_tab_fields(arena, slice_from_str(text), &parts);

        request->userdb = rpc_fields_parse(arena, parts, count, 0);
    }
}
