/* clock_jump.c - preloaded: reading a folder named cur takes 31 seconds more, for every clock that the program asks.
 *
 * cc -shared -fPIC -o clock_jump.so clock_jump.c; LD_PRELOAD=./clock_jump.so program */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);
    int r;

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    r = real(clock, ts);
    ts->tv_sec += ahead;
    return r;
}

time_t time(time_t *at)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (at != NULL)
        *at = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

struct dirent *readdir(DIR *d)
{
    static struct dirent *(*real)(DIR *);
    struct dirent *entry;
    char link[64], path[4096];
    ssize_t n;

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "readdir");
    entry = real(d);
    if (entry != NULL)
        return entry;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd(d));
    n = readlink(link, path, sizeof(path));
    if (n > 4 && memcmp(path + n - 4, "/cur", 4) == 0)
        ahead += 31;
    return NULL;
}
