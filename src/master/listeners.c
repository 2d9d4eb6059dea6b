/* Opening the sockets that services answer on (config 10.2).
 *
 * UNIX sockets and FIFOs are made anew at every start and reload: an existing socket that answers belongs to somebody
 * who lives, a dead one is replaced. Internet sockets with the same address and port are kept over a reload, or taken
 * from systemd. Modes are exact: our umask is 0, so the mode stands before anybody could connect. */
#include "master/master.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void listener_free(struct listener *listener)
{
    mem_free(listener->name);
    mem_free(listener->path);
    mem_free(listener->address);
}

static int backlog(const struct unit *unit)
{
    uint64_t clients = (uint64_t)unit->process_limit * unit->client_limit;

    if (clients < MASTER_LISTEN_BACKLOG_MIN)
        return MASTER_LISTEN_BACKLOG_MIN;
    return clients > MASTER_LISTEN_BACKLOG_MAX ? MASTER_LISTEN_BACKLOG_MAX : (int)clients;
}

/* ---- UNIX sockets and FIFOs ------------------------------------------------------------------------------------ */

static int fill_address(struct sockaddr_un *address, const char *path, struct error *error)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address->sun_path))
        return error_set(error, ERROR_INVALID, "Unix socket path too long: %s", path);
    memcpy(address->sun_path, path, strlen(path) + 1);
    return 0;
}

/* Removes a socket that nobody answers. */
static int remove_dead_socket(const char *path, int type, struct error *error)
{
    struct sockaddr_un address;
    struct stat st;
    int fd, result;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_sys(error, "lstat", path);
    if (!S_ISSOCK(st.st_mode))
        return 0; /* bind says what is in its place */
    if (fill_address(&address, path, error) < 0)
        return -1;
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_sys(error, "socket", path);
    result = connect(fd, (struct sockaddr *)&address, sizeof(address));
    if (result == 0 || errno == EAGAIN) {
        (void)close(fd);
        return error_set(error, ERROR_EXISTS, "Socket already exists: %s", path);
    }
    (void)close(fd);
    return os_unlink(AT_FDCWD, path, error);
}

static int set_owner(const struct listener *listener, struct error *error)
{
    if (listener->uid == (uid_t)-1 && listener->gid == (gid_t)-1)
        return 0;
    if (lchown(listener->path, listener->uid, listener->gid) < 0)
        return error_sys(error, "chown", listener->path);
    return 0;
}

/* A reload replaces the sockets of the generation before, which answer of course. */
static bool is_ours(const struct listener *listener, struct generation *old)
{
    for (size_t i = 0; old != NULL && i < old->unit_count; i++)
        for (size_t k = 0; k < old->units[i].listener_count; k++) {
            const struct listener *other = &old->units[i].listeners[k];

            if (other->fd >= 0 && other->kind == LISTENER_UNIX && strcmp(other->path, listener->path) == 0)
                return true;
        }
    return false;
}

static int make_way(const struct listener *listener, struct generation *old, int type, struct error *error)
{
    if (is_ours(listener, old))
        return os_unlink(AT_FDCWD, listener->path, error) < 0 && error->class != ERROR_NOT_FOUND ? -1 : 0;
    return remove_dead_socket(listener->path, type, error);
}

static int open_unix(struct listener *listener, struct generation *old, struct error *error)
{
    int type = listener->seqpacket ? SOCK_SEQPACKET : SOCK_STREAM, fd;
    struct sockaddr_un address;
    mode_t before;
    int result;

    if (fill_address(&address, listener->path, error) < 0 || make_way(listener, old, type, error) < 0)
        return -1;
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_sys(error, "socket", listener->path);
    before = umask((mode_t)(0777 & ~listener->mode));
    result = bind(fd, (struct sockaddr *)&address, sizeof(address));
    (void)umask(before);
    if (result < 0)
        (void)error_sys(error, "bind", listener->path);
    else if ((result = set_owner(listener, error)) == 0 && (result = listen(fd, backlog(listener->unit))) < 0)
        (void)error_sys(error, "listen", listener->path);
    if (result < 0) {
        (void)close(fd);
        return -1;
    }
    listener->fd = fd;
    return 0;
}

static int open_fifo(struct listener *listener, struct error *error)
{
    struct error ignored;
    int fd;

    (void)os_unlink(AT_FDCWD, listener->path, &ignored);
    if (mkfifo(listener->path, listener->mode) < 0)
        return error_set(error, ERROR_TEMPORARY, "service(%s): mkfifo(%s) failed: %s", listener->unit->name,
                         listener->path, strerror(errno));
    if (set_owner(listener, error) < 0)
        return -1;
    /* Both ends, so that it never is at its end. */
    fd = open(listener->path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_sys(error, "open", listener->path);
    listener->fd = fd;
    return 0;
}

/* ---- internet sockets ------------------------------------------------------------------------------------------ */

static bool same_place(const struct listener *a, const struct listener *b)
{
    return a->kind == LISTENER_INET && b->kind == LISTENER_INET && a->at.port == b->at.port &&
           net_ip_equal(&a->at.ip, &b->at.ip) && a->reuse_port == b->reuse_port;
}

/* The old generation's socket changes hands: connections that wait in it are not lost. */
static bool take_old(struct listener *listener, struct generation *old)
{
    for (size_t i = 0; old != NULL && i < old->unit_count; i++) {
        for (size_t k = 0; k < old->units[i].listener_count; k++) {
            struct listener *other = &old->units[i].listeners[k];

            if (other->fd < 0 || !same_place(listener, other))
                continue;
            ev_io_stop(listener->unit->master->loop, &other->watcher);
            listener->fd = other->fd;
            other->fd = -1;
            (void)listen(listener->fd, backlog(listener->unit));
            return true;
        }
    }
    return false;
}

static socklen_t inet_address(const struct listener *listener, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (listener->at.ip.family == AF_INET6) {
        struct sockaddr_in6 *in = (struct sockaddr_in6 *)out;

        in->sin6_family = AF_INET6;
        in->sin6_port = htons(listener->at.port);
        memcpy(&in->sin6_addr, listener->at.ip.bytes, 16);
        return sizeof(*in);
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)out;

        in->sin_family = AF_INET;
        in->sin_port = htons(listener->at.port);
        memcpy(&in->sin_addr, listener->at.ip.bytes, 4);
        return sizeof(*in);
    }
}

static int inet_failed(const struct listener *listener, int fd, struct error *error)
{
    int err = errno;

    if (fd >= 0)
        (void)close(fd);
    return error_set_at(error, ERROR_TEMPORARY, err, __FILE__, __LINE__, "service(%s): listen(%s, %u) failed: %s",
                        listener->unit->name, listener->address, listener->at.port, strerror(err));
}

static int open_inet(struct listener *listener, struct generation *old, struct error *error)
{
    struct sockaddr_storage address;
    socklen_t size = inet_address(listener, &address);
    int on = 1, fd;

    if (take_old(listener, old))
        return 0;
    listener->fd = systemd_take(listener->unit->master, &listener->at);
    if (listener->fd >= 0)
        return 0;
    fd = socket(listener->at.ip.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return inet_failed(listener, fd, error);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (listener->at.ip.family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (listener->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
        return inet_failed(listener, fd, error);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, backlog(listener->unit)) < 0)
        return inet_failed(listener, fd, error);
    listener->fd = fd;
    return 0;
}

/* `listen = *, ::` is the default; a machine without IPv6 is not an error of the admin's. */
static bool may_be_left_out(const struct listener *listener, const struct error *error)
{
    return listener->kind == LISTENER_INET && (error->sys == EAFNOSUPPORT || error->sys == EADDRNOTAVAIL) &&
           !conf_assigned(listener->unit->generation->set, SET_listen) && strcmp(listener->address, "::") == 0;
}

/* ---- all of them ----------------------------------------------------------------------------------------------- */

/* anvil's sockets go with its process, which outlives the generation. */
static bool take_anvil(struct unit *unit, struct generation *old)
{
    struct unit *before = old == NULL ? NULL : old->anvil;

    if (unit->type != UNIT_ANVIL || before == NULL)
        return false;
    for (size_t i = 0; i < unit->listener_count; i++) {
        struct listener *mine = &unit->listeners[i], *theirs = NULL;

        for (size_t k = 0; k < before->listener_count && theirs == NULL; k++)
            if (before->listeners[k].fd >= 0 && strcmp(before->listeners[k].path, mine->path) == 0)
                theirs = &before->listeners[k];
        if (theirs == NULL) {
            log_error(NULL, "Can't change anvil's listeners on the fly");
            continue;
        }
        mine->fd = theirs->fd;
        theirs->fd = -1;
    }
    return true;
}

int listeners_open(struct generation *generation, struct generation *old, bool all, struct error *error)
{
    int result = 0;

    for (size_t i = 0; i < generation->unit_count; i++) {
        struct unit *unit = &generation->units[i];

        if (take_anvil(unit, old))
            continue;
        for (size_t k = 0; k < unit->listener_count; k++) {
            struct listener *listener = &unit->listeners[k];
            int opened = listener->kind == LISTENER_UNIX   ? open_unix(listener, old, error)
                         : listener->kind == LISTENER_FIFO ? open_fifo(listener, error)
                                                           : open_inet(listener, old, error);

            if (opened == 0 || may_be_left_out(listener, error))
                continue;
            log_error_value(NULL, error);
            result = -1;
        }
    }
    if (result < 0 && all)
        return error_set(error, ERROR_TEMPORARY, "Failed to start listeners");
    return 0;
}

void listeners_close(struct unit *unit)
{
    for (size_t i = 0; i < unit->listener_count; i++) {
        struct listener *listener = &unit->listeners[i];

        if (listener->fd < 0)
            continue;
        ev_io_stop(unit->master->loop, &listener->watcher);
        (void)close(listener->fd);
        listener->fd = -1;
    }
}

void listeners_drop_waiting(struct unit *unit)
{
    for (size_t i = 0; i < unit->listener_count; i++) {
        struct listener *listener = &unit->listeners[i];
        int fd;

        if (listener->fd < 0 || listener->kind == LISTENER_FIFO)
            continue;
        while ((fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
            (void)close(fd);
    }
}
