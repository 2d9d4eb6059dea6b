/* unix_listener, fifo_listener and inet_listener blocks to listeners (config 10.2); listeners.c opens them. */
#include "master/services.h"

#include <netdb.h>
#include <sys/socket.h>

struct listener *service_add_listener(struct unit *unit, enum listener_kind kind, char *name)
{
    struct listener *listener;

    unit->listeners = mem_realloc(unit->listeners, (unit->listener_count + 1) * sizeof(*unit->listeners));
    listener = &unit->listeners[unit->listener_count++];
    *listener = (struct listener){.kind = kind, .name = name, .uid = (uid_t)-1, .gid = (gid_t)-1, .fd = -1,
                                  .unit = unit};
    return listener;
}

static int add_file_listener(struct build *b, struct unit *unit, enum listener_kind kind,
                             const struct conf_block *block)
{
    static const char *const words[] = {"unix_listener", "fifo_listener"};
    const char *path = conf_block_name(block), *word = words[kind == LISTENER_FIFO], *slash = strrchr(path, '/');
    struct listener *listener;
    char *user, *group;
    int result;

    if (conf_block_uint(block, "mode") == 0)
        return 0;
    listener = service_add_listener(unit, kind, mem_strdup(slash == NULL ? path : slash + 1));
    listener->path = path[0] == '/' ? mem_strdup(path) : mem_printf("%s/%s", b->generation->master->base_dir, path);
    listener->mode = conf_block_uint(block, "mode");
    user = mem_printf("service %s { %s %s { user } } setting", unit->name, word, path);
    group = mem_printf("service %s { %s %s { group } } setting", unit->name, word, path);
    result = service_take_user(b, unit->name, conf_block_str(block, "user"), user, &listener->uid, NULL);
    if (result == 0)
        result = service_take_group(b, unit->name, conf_block_str(block, "group"), group, &listener->gid);
    mem_free(user);
    mem_free(group);
    return result;
}

static void add_inet(struct unit *unit, const struct conf_block *block, const struct net_ip *ip, const char *text)
{
    struct listener *listener = service_add_listener(unit, LISTENER_INET, mem_strdup(conf_block_name(block)));

    listener->at = (struct net_endpoint){*ip, (uint16_t)conf_block_uint(block, "port")};
    listener->address = mem_strdup(text);
    listener->ssl = conf_block_bool(block, "ssl");
    listener->haproxy = conf_block_bool(block, "haproxy");
    listener->reuse_port = conf_block_bool(block, "reuse_port");
}

static int add_resolved(struct build *b, struct unit *unit, const struct conf_block *block, const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int status = getaddrinfo(host, NULL, &hints, &list);

    if (status != 0)
        return error_set(b->error, ERROR_NOT_FOUND, "service(%s) Can't resolve address %s: %s", unit->name, host,
                         gai_strerror(status));
    if (list == NULL)
        return error_set(b->error, ERROR_NOT_FOUND, "service(%s) No IPs for address: %s", unit->name, host);
    for (struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        struct net_endpoint end = net_endpoint_of(at->ai_addr);
        char text[NET_IP_TEXT];

        if (end.ip.family != 0)
            add_inet(unit, block, &end.ip, net_ip_text(&end.ip, text));
    }
    freeaddrinfo(list);
    return 0;
}

static int add_inet_listener(struct build *b, struct unit *unit, const struct conf_block *block)
{
    const char *addresses = conf_block_str(block, "address");
    struct slice rest;

    if (conf_block_uint(block, "port") == 0)
        return 0;
    if (conf_block_bool(block, "ssl") && strcmp(conf_text(b->set, SET_ssl), "no") == 0)
        return 0;
    if (addresses[0] == '\0')
        addresses = conf_str(b->set, SET_listen);
    rest = slice_from_str(addresses);
    while (rest.size > 0) {
        size_t size = 0;
        struct slice word;
        struct net_ip ip = {0};
        char *text;
        int result = 0;

        while (size < rest.size && rest.at[size] != ' ' && rest.at[size] != ',')
            size++;
        word = slice_head(rest, size);
        rest = slice_from(rest, size + 1);
        if (word.size == 0)
            continue;
        if (word.size > 2 && word.at[0] == '[' && word.at[word.size - 1] == ']')
            word = slice_head(slice_from(word, 1), word.size - 2);
        text = mem_strndup(word);
        if (strcmp(text, "*") == 0)
            ip.family = AF_INET;
        else if (!net_ip_parse(word, &ip))
            result = add_resolved(b, unit, block, text);
        if (ip.family != 0)
            add_inet(unit, block, &ip, text);
        mem_free(text);
        if (result < 0)
            return -1;
    }
    return 0;
}

int service_take_listeners(struct build *b, struct unit *unit, const struct conf_block *block)
{
    static const enum conf_block_kind kinds[] = {BLOCK_UNIX_LISTENER, BLOCK_FIFO_LISTENER, BLOCK_INET_LISTENER};

    for (size_t k = 0; k < 3; k++) {
        size_t n;
        const struct conf_block *const *blocks = conf_block_blocks(block, kinds[k], &n);

        for (size_t i = 0; i < n; i++) {
            int result = kinds[k] == BLOCK_INET_LISTENER
                             ? add_inet_listener(b, unit, blocks[i])
                             : add_file_listener(b, unit, k == 0 ? LISTENER_UNIX : LISTENER_FIFO, blocks[i]);

            if (result < 0)
                return -1;
        }
    }
    return 0;
}
