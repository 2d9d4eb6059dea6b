/* wire.c - blocking lines with deadlines. */
#include "urlauth/wire.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

enum { WRITE_SECS = 300, PEEK = 4096 };

/* False: nothing came in time, or the guard has ended. */
static bool wait_for(const struct wire *w, short events, unsigned secs)
{
    struct pollfd fds[2] = {{.fd = w->fd, .events = events}, {.fd = w->guard, .events = POLLRDHUP}};
    int n;

    do
        n = poll(fds, 2, (int)secs * 1000);
    while (n < 0 && errno == EINTR);
    return n > 0 && fds[0].revents != 0;
}

enum wire_result wire_line(struct wire *w, struct buffer *line, size_t most, unsigned secs)
{
    char seen[PEEK];

    buffer_reset(line);
    for (;;) {
        const char *end;
        ssize_t n;
        size_t take;

        if (!wait_for(w, POLLIN, secs))
            return WIRE_TIMEOUT;
        n = recv(w->fd, seen, sizeof(seen), MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return WIRE_END;
        end = memchr(seen, '\n', (size_t)n);
        take = end == NULL ? (size_t)n : (size_t)(end - seen) + 1;
        if (line->size + take - (end != NULL) > most)
            return WIRE_TOO_LONG;
        if (recv(w->fd, seen, take, MSG_DONTWAIT) != (ssize_t)take)
            return WIRE_END;
        w->in += take;
        buffer_append(line, seen, take - (end != NULL));
        if (end != NULL)
            return WIRE_LINE;
    }
}

int wire_write(struct wire *w, struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t n;

        if (!wait_for(w, POLLOUT, WRITE_SECS))
            return -1;
        n = send(w->fd, bytes.at, bytes.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return -1;
        w->out += (uint64_t)n;
        bytes = slice_from(bytes, (size_t)n);
    }
    return 0;
}

size_t wire_fields(struct arena *arena, const struct buffer *line, struct slice **fields)
{
    return text_tab_fields(arena, buffer_slice(line), fields);
}
