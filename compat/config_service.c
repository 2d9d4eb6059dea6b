/* Answers REQ and FILTERS on the config socket from the snapshot that master passed (ipc 4).
 *
 * A reply holds only what is assigned, in the form of doveconf -S -x. The socket belongs to root; whoever reaches it
 * may read every setting. */
#include "compat/config_service.h"

#include "compat/print.h"
#include "conf/settings.h"
#include "rpc/line.h"
#include "rpc/service.h"

#include <stdio.h>

enum { LINE_MOST = 1024, REPLY_MOST = 64 << 20 };

struct server {
    struct service *service;
};

struct client {
    struct server *server;
    struct line_conn *line;
    bool greeted;
};

struct request {
    struct conf_facts facts;
    VEC(const char *) modules;
};

static void end_client(struct client *client)
{
    struct server *server = client->server;
    line_conn_free(client->line);
    mem_free(client);
    service_client_end(server->service);
}

/* ---- REQ -------------------------------------------------------------------------------------------------------- */

static void read_request(struct arena *arena, const struct slice *fields, size_t n, struct request *r)
{
    struct rpc_fields all = rpc_fields_parse(arena, fields, n, 1);
    *r = (struct request){0};
    for (size_t i = 0; i < all.count; i++) {
        const char *key = all.at[i].key, *value = all.at[i].value;
        if (value == NULL)
            continue;
        if (strcmp(key, "module") == 0)
            VEC_PUSH(&r->modules, value);
        else if (strcmp(key, "service") == 0)
            r->facts.service = value;
        else if (strcmp(key, "lname") == 0)
            r->facts.local_name = value;
        else if (strcmp(key, "lip") == 0)
            (void)conf_net_parse_ip(value, &r->facts.local); /* one that is none counts as absent */
        else if (strcmp(key, "rip") == 0)
            (void)conf_net_parse_ip(value, &r->facts.remote);
    }
    if (r->modules.count > 0)
        VEC_PUSH(&r->modules, NULL);
}

static bool sets_something(const struct conf_level *level, const struct request *r)
{
    for (const struct conf_value *v = level->section.first; v != NULL; v = v->next) {
        enum conf_group group = (enum conf_group)level->section.scope->defs[v->def].group;
        for (size_t i = 0; i + 1 < r->modules.count; i++) {
            if (group != GROUP_service && conf_group_in_module(group, r->modules.at[i]))
                return true;
        }
        if (r->modules.count == 0)
            return true;
    }
    /* In Dovecot every level holds the built-in services, so a block always says something to the master's module. */
    for (size_t i = 0; i + 1 < r->modules.count; i++) {
        if (strcmp(r->modules.at[i], "master") == 0)
            return true;
    }
    return false;
}

/* "service=X" once, however many blocks are about it. */
static void put_service(struct buffer *out, const char *service)
{
    char *word = mem_printf("service=%s\t", service);
    if (slice_find_slice(buffer_slice(out), slice_from_str(word)) < 0)
        buffer_append_str(out, word);
    mem_free(word);
}

static bool tests_local(const struct conf_facts *facts)
{
    return facts->local.bits != 0 || facts->local_name != NULL;
}

/* Words that tell a client when to ask again. */
static void put_flags(const struct conf_tree *tree, const struct request *r, struct buffer *out)
{
    bool local = false, remote = false, used_local = false, used_remote = false;
    for (const struct conf_level *level = tree->global; level != NULL; level = level->next) {
        const struct conf_facts *facts = &level->facts;
        bool matches = conf_facts_match(facts, &r->facts);
        local |= tests_local(facts);
        remote |= facts->remote.bits != 0;
        used_local |= matches && tests_local(facts);
        used_remote |= matches && facts->remote.bits != 0;
        if (r->facts.service == NULL && facts->service != NULL && facts->service[0] != '!' && sets_something(level, r))
            put_service(out, facts->service);
    }
    buffer_append_str(out, local ? "service-uses-local\t" : "");
    buffer_append_str(out, remote ? "service-uses-remote\t" : "");
    buffer_append_str(out, used_local ? "used-local\t" : "");
    buffer_append_str(out, used_remote ? "used-remote\t" : "");
    buffer_append_byte(out, '\n');
}

static void answer_request(struct client *client, const struct slice *fields, size_t n, struct arena *arena)
{
    static char *const all[] = {NULL};
    const struct conf_tree *tree = conf_tree_of(service_conf(client->server->service));
    struct buffer out = {0};
    struct request r;
    struct conf_level **levels;
    struct conf_section merged;
    struct error e;
    read_request(arena, fields, n, &r);
    size_t count = conf_tree_matching(tree, &r.facts, arena, &levels);
    if (conf_merge(arena, levels, count, &merged, &e) < 0) {
        buffer_printf(&out, "\nERROR %s\n", e.admin);
    } else {
        struct printer p = {.arena = arena, .scope = PRINT_SET, .show_secrets = true, .out = &out, .wire = true,
                            .modules = r.modules.count > 0 ? r.modules.at : NULL};
        put_flags(tree, &r, &out);
        print_machine(&p, &merged, all);
        buffer_append_byte(&out, '\n');
    }
    line_conn_send(client->line, buffer_slice(&out));
    buffer_wipe(&out);
    VEC_FREE(&r.modules);
}

/* ---- FILTERS ---------------------------------------------------------------------------------------------------- */

static void put_net(struct buffer *out, const char *key, const struct conf_net *net)
{
    if (net->family == 0)
        return;
    buffer_printf(out, "\t%s=", key);
    conf_net_format(net, out);
    if (net->bits == (net->family == 4 ? 32 : 128))
        buffer_printf(out, "/%u", net->bits);
}

static void answer_filters(struct client *client, struct arena *arena)
{
    struct conf_level **levels;
    struct buffer out = {0};
    size_t n = print_order_filters(arena, conf_tree_of(service_conf(client->server->service)), &levels);
    buffer_append_str(&out, "FILTER\n");
    for (size_t i = 0; i < n; i++) {
        const struct conf_facts *facts = &levels[i]->facts;
        buffer_append_str(&out, "FILTER");
        line_pair(&out, "service", facts->service);
        line_pair(&out, "local-name", facts->local_name);
        put_net(&out, "local-net", &facts->local);
        put_net(&out, "remote-net", &facts->remote);
        buffer_append_byte(&out, '\n');
    }
    buffer_append_byte(&out, '\n');
    line_conn_send(client->line, buffer_slice(&out));
    buffer_free(&out);
}

/* ---- connections ------------------------------------------------------------------------------------------------ */

static void take_line(void *arg, struct slice line)
{
    struct client *client = arg;
    struct error e;
    unsigned minor;
    if (!client->greeted) {
        if (line_check_version(line, "config", 2, &minor, &e) < 0) {
            error_set(&e, ERROR_INVALID, "Config client not compatible with this server (mixed old and new binaries?)");
            line_conn_fail(client->line, &e);
        }
        client->greeted = true;
        return;
    }
    struct arena *arena = arena_new();
    struct slice *fields;
    size_t n = text_tab_fields(arena, line, &fields);
    if (slice_equal_str(fields[0], "REQ"))
        answer_request(client, fields, n, arena);
    else if (slice_equal_str(fields[0], "FILTERS"))
        answer_filters(client, arena);
    arena_free(arena); /* other words get no answer, as in Dovecot */
}

static void closed(void *arg, const struct error *e)
{
    struct client *client = arg;
    if (e->class != ERROR_NONE)
        log_error(NULL, "%s", e->admin);
    end_client(client);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = closed};
    static const struct line_limits limits = {.line_max = LINE_MOST, .output_pause = 1 << 20, .output_max = REPLY_MOST};
    struct server *server = arg;
    struct client *client = mem_zero(1, sizeof(*client));
    (void)listener;
    client->server = server;
    client->line = line_conn_new(service_loop(server->service), fd, &limits, &handler, client);
}

int config_service(int argc, char **argv)
{
    static const struct service_options options = {.name = "config", .flags = SERVICE_NO_IDLE_EXIT};
    static const struct service_handler handler = {.connected = connected};
    struct server server;
    server.service = service_init(argc, argv, &options, &server);
    service_drop_privileges(server.service, 0);
    service_ready(server.service, &handler, &server);
    return service_run(server.service);
}
