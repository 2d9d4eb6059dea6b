/* systemd: readiness over $NOTIFY_SOCKET, sockets it opened for us from descriptor 3 on (LISTEN_PID, LISTEN_FDS).
 * Sockets that no listener of the configuration asks for are closed at the end of the start. */
#include "master/master.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_FIRST 3

void systemd_init(struct master *master)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *notify = getenv("NOTIFY_SOCKET");
    uint32_t number;

    if (notify != NULL && notify[0] != '\0')
        master->notify_socket = mem_strdup(notify);
    master->inherited_first = LISTEN_FIRST;
    master->inherited_count = 0;
    if (pid == NULL || count == NULL || !slice_to_u32(slice_from_str(pid), &number) || (pid_t)number != getpid())
        return;
    if (!slice_to_u32(slice_from_str(count), &number) || number > 4096)
        return;
    master->inherited_count = (int)number;
    for (int fd = LISTEN_FIRST; fd < LISTEN_FIRST + master->inherited_count; fd++) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        os_never_block(fd);
    }
}

int systemd_take(struct master *master, const struct net_endpoint *wanted)
{
    for (int i = 0; i < master->inherited_count; i++) {
        int fd = master->inherited_first + i, type = 0, taken;
        socklen_t size = sizeof(type);
        struct net_endpoint at;
        struct error error;

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
            continue;
        if (net_local(fd, &at, &error) < 0 || at.port != wanted->port || !net_ip_equal(&at.ip, &wanted->ip))
            continue;
        taken = fcntl(fd, F_DUPFD_CLOEXEC, LISTEN_FIRST + master->inherited_count);
        if (taken >= 0)
            (void)close(fd);
        return taken;
    }
    return -1;
}

void systemd_notify(struct master *master, const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = master->notify_socket;
    int fd;

    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
        log_warning(NULL, "sendto(%s) failed: %s", path, strerror(errno));
    (void)close(fd);
}
