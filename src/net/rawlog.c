/* rawlog.c - copies of what a connection reads and writes (rawlog.h). */
#include "net/rawlog.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct rawlog_half {
    int fd;                    /* -1: none */
    bool inside;               /* a line */
};

struct rawlog {
    struct rawlog_half in, out;
    const struct log *log;
};

static int make_file(const struct rawlog *r, const char *dir, const char *stamp, unsigned n, const char *end)
{
    char path[4096];
    struct error e = {0};
    int fd;

    snprintf(path, sizeof(path), "%s/%s.%ld.%u.%s", dir, stamp, (long)getpid(), n, end);
    fd = os_create(AT_FDCWD, path, 0600, (gid_t)-1, &e);
    if (fd < 0)
        log_error_value(r->log, &e);
    return fd;
}

struct rawlog *rawlog_open(const char *dir, unsigned n, const struct log *log)
{
    struct rawlog *r;
    char stamp[32];
    struct stat st;
    struct tm tm;
    time_t now = time(NULL);

    if (*dir == '\0' || stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return NULL;
    localtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
    r = mem_zero(1, sizeof(*r));
    r->log = log;
    r->in.fd = make_file(r, dir, stamp, n, "in");
    r->out.fd = make_file(r, dir, stamp, n, "out");
    return r;
}

void rawlog_close(struct rawlog **rawlog)
{
    struct rawlog *r = *rawlog;

    *rawlog = NULL;
    if (r == NULL)
        return;
    if (r->in.fd >= 0)
        close(r->in.fd);
    if (r->out.fd >= 0)
        close(r->out.fd);
    mem_free(r);
}

static void put(const struct rawlog *r, struct rawlog_half *half, struct slice bytes)
{
    struct buffer text = {0};
    struct timeval now;
    struct error e = {0};

    if (half->fd < 0 || bytes.size == 0)
        return;
    gettimeofday(&now, NULL);
    while (bytes.size > 0) {
        ptrdiff_t lf = slice_find(bytes, '\n');
        struct slice line = lf < 0 ? bytes : slice_head(bytes, (size_t)lf + 1);

        if (!half->inside)
            buffer_printf(&text, "%lld.%06ld ", (long long)now.tv_sec, (long)now.tv_usec);
        half->inside = lf < 0;
        buffer_append_slice(&text, line);
        bytes = slice_from(bytes, line.size);
    }
    if (os_write(half->fd, buffer_slice(&text), &e) < 0) {
        log_error_value(r->log, &e);
        close(half->fd);
        half->fd = -1;
    }
    buffer_free(&text);
}

void rawlog_in(struct rawlog *r, struct slice bytes)
{
    if (r != NULL)
        put(r, &r->in, bytes);
}

void rawlog_out(struct rawlog *r, struct slice bytes)
{
    if (r != NULL)
        put(r, &r->out, bytes);
}
