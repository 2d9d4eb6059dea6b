/* loop.c - which descriptor libev's epoll set has. libev does not tell: the one that was not there before. */
#include "net/loop.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static int epoll_fd = -1; /* a process has one loop; -1: not known, or another backend */

static bool is_epoll(int fd)
{
    char path[40], what[40];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = readlink(path, what, sizeof(what) - 1);
    if (n < 0)
        return false;
    what[n] = '\0';
    return strcmp(what, "anon_inode:[eventpoll]") == 0;
}

struct ev_loop *net_loop_open(void)
{
    int free_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct ev_loop *loop;

    if (free_fd >= 0)
        close(free_fd);
    loop = ev_default_loop(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
    if (loop != NULL && free_fd >= 0 && ev_backend(loop) == EVBACKEND_EPOLL && is_epoll(free_fd))
        epoll_fd = free_fd;
    return loop;
}

void net_loop_forget(int fd)
{
    struct epoll_event none = {0};

    if (epoll_fd >= 0)
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, &none);
}
