/* libexec/doveadm-server: runs doveadm's commands for clients on sockets (doveadm 8).
 *
 * It reads nothing from them: doveadm-front does, and hands over what it has understood (wire.h). A command is run in a
 * process of its own, which becomes the user like doveadm on the command line; so the service needs root where users have
 * several uids. With client_limit 1, the default, each connection has a process. */
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct server_client *only; /* the last one: told of the end */

/* A command's process ends with its client's connection, and says nothing to it (doveadm 8). */
void doveadm_fatal(int status, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    fflush(NULL);
    log_write(NULL, LOG_LEVEL_FATAL, "%s", buffer_cstr(&text));
    exit(SERVER_FATAL + status);
}

void server_client_free(struct server_client *c)
{
    struct service *service = c->service;

    if (c->front > 0) {
        (void)kill(c->front, SIGKILL);
        (void)waitpid(c->front, NULL, 0);
    }
    packet_conn_free(c->wire);
    if (c->input >= 0)
        close(c->input);
    close(c->out);
    close(c->log);
    arena_free(c->waiting);
    rawlog_close(&c->rawlog);
    settings_unref(c->set);
    if (only == c)
        only = NULL;
    mem_free(c);
    service_client_end(service);
}

static void take_packet(void *arg, struct slice packet, int fd)
{
    if (fd >= 0)
        close(fd);
    server_take_packet(arg, packet);
}

/* A command that is at work is let finish, unless it writes. */
static void front_closed(void *arg, const struct error *e)
{
    struct server_client *c = arg;

    (void)e;
    c->front_gone = true;
    if (c->command == 0)
        server_client_free(c);
}

/* A UNIX socket that only its owner may use: whoever comes needs no password. */
static bool only_for_its_owner(int fd)
{
    struct sockaddr_un address = {0};
    socklen_t size = sizeof(address);
    struct stat st;

    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0 || address.sun_family != AF_UNIX)
        return false;
    if (stat(address.sun_path, &st) < 0) {
        log_error(NULL, "stat(%s) failed: %s", address.sun_path, strerror(errno));
        return false;
    }
    return (st.st_mode & 0777) == 0600;
}

static int open_client(struct server_client *c, const struct service_listener *listener, int fd, struct error *e)
{
    struct conf_filter filter = {.service = "doveadm"};
    static unsigned number;
    struct net_endpoint local = {0}, remote = {0};
    char ip[NET_IP_TEXT];

    if (net_local(fd, &local, e) < 0 || net_peer(fd, &remote, e) < 0)
        return -1;
    if (local.ip.family != 0) {
        filter.local_ip = net_ip_text(&local.ip, ip);
        filter.remote_ip = net_ip_text(&remote.ip, c->ip);
        log_set_prefix("doveadm(%s): ", c->ip);
    }
    c->set = conf_settings(service_conf(c->service), &filter, e);
    if (c->set == NULL)
        return -1;
    c->trusted = local.ip.family == 0 && only_for_its_owner(fd);
    if (strcmp(listener->name, "http") == 0)
        c->rawlog = rawlog_open(conf_str(c->set, SET_doveadm_http_rawlog_dir), ++number, NULL);
    return server_start_front(c, listener, fd, e);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    static const struct packet_handler handler = {take_packet, front_closed};
    struct server_client *c = mem_zero(1, sizeof(*c));
    struct error e;
    int wire;

    c->service = arg;
    c->input = c->out = c->log = -1;
    wire = open_client(c, listener, fd, &e);
    close(fd);
    if (wire < 0) {
        log_error(NULL, "%s", e.admin);
        server_client_free(c);
        return;
    }
    c->wire = packet_conn_new(service_loop(c->service), wire, WIRE_PACKET_MAX, &handler, c);
    only = c;
}

static void terminate(void *arg)
{
    (void)arg;
    if (only != NULL && only->command > 0)
        (void)kill(only->command, SIGTERM);
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "doveadm"};
    static const struct service_handler handler = {.connected = connected, .terminate = terminate};
    struct service *service = service_init(argc, argv, &options, NULL);

    service_drop_privileges(service, SERVICE_MAY_GAIN);
    service_ready(service, &handler, service);
    return service_run(service);
}
