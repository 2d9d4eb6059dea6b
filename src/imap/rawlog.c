/* rawlog.c - copies of what a session reads and writes (rawlog_dir): DIR/20220131-120000.PID.N.in and .out, while the directory
 * exists. Each line has the time at which its first byte passed in front. A copy that cannot be written ends; the session goes on. */
#include "imap/session.h"

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
};

static int make_file(const struct session *s, const char *dir, const char *stamp, unsigned n, const char *end)
{
    char path[4096];
    struct error e = {0};
    int fd;

    snprintf(path, sizeof(path), "%s/%s.%ld.%u.%s", dir, stamp, (long)getpid(), n, end);
    fd = os_create(AT_FDCWD, path, 0600, (gid_t)-1, &e);
    if (fd < 0)
        log_error_value(&s->log, &e);
    return fd;
}

void rawlog_open(struct session *s)
{
    const char *set = conf_str(s->set, SET_rawlog_dir), *dir;
    struct arena *arena;
    char stamp[32];
    struct error e = {0};
    struct stat st;
    struct tm tm;
    time_t now = time(NULL);

    if (*set == '\0')
        return;
    arena = worker_arena(s->worker);
    dir = mail_user_expand(s->user, arena, set, &e);
    if (dir != NULL && stat(dir, &st) == 0 && S_ISDIR(st.st_mode)) {
        localtime_r(&now, &tm);
        strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
        s->rawlog = mem_zero(1, sizeof(*s->rawlog));
        s->rawlog->in.fd = make_file(s, dir, stamp, s->id, "in");
        s->rawlog->out.fd = make_file(s, dir, stamp, s->id, "out");
    }
    worker_arena_back(s->worker, arena);
}

void rawlog_close(struct session *s)
{
    if (s->rawlog == NULL)
        return;
    if (s->rawlog->in.fd >= 0)
        close(s->rawlog->in.fd);
    if (s->rawlog->out.fd >= 0)
        close(s->rawlog->out.fd);
    mem_free(s->rawlog);
    s->rawlog = NULL;
}

static void put(struct session *s, struct rawlog_half *half, struct slice bytes)
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
        log_error_value(&s->log, &e);
        close(half->fd);
        half->fd = -1;
    }
    buffer_free(&text);
}

void rawlog_in(struct session *s, struct slice bytes)
{
    if (s->rawlog != NULL)
        put(s, &s->rawlog->in, bytes);
}

void rawlog_out(struct session *s, struct slice bytes)
{
    if (s->rawlog != NULL)
        put(s, &s->rawlog->out, bytes);
}
