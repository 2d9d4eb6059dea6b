/* dict_proxy.c - a dictionary behind the dict service, "proxy:SOCKET:NAME" (ipc 10.1); Dovecot's service or ours.
 *
 * One connection for each request, as the service of Dovecot gives each connection a process. A request waits for its answer,
 * since quota must be known before a save: at most WAIT_MS. After such a wait, or when nobody listens, requests fail at once
 * for REST_MS, so that a dead service does not hold a worker's other sessions up again and again. */
#include "rpc/line.h"
#include "store/dict_driver.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 10000
#define REST_MS 2000
#define CONNECT_MS 1000
#define ANSWER_MOST (64u << 20)
#define TRANSACTION "1"

struct proxy_dict {
    struct dict dict;
    char *path, *name;         /* of the socket, of the dictionary */
    uint64_t resting_until;    /* monotonic ns */
    char *why;                 /* it rests */
};

struct talk {
    struct proxy_dict *proxy;
    int fd;
    uint64_t begun;
    struct buffer in;
    size_t done;               /* bytes of `in` that were lines already */
};

static struct proxy_dict *proxy_of(struct dict *dict)
{
    return (struct proxy_dict *)dict; /* its first member */
}

static int open_proxy(struct dict **out, const char *args, const struct dict_settings *settings, struct error *e)
{
    const char *base = settings->base_dir == NULL ? "." : settings->base_dir;
    struct slice rest = slice_from_str(args), socket = SLICE_EMPTY;
    struct proxy_dict *proxy;

    if (slice_find(rest, ':') < 0 || !slice_split(&rest, ':', &socket))
        return error_set(e, ERROR_INVALID, "dict proxy: Invalid URI: %s", args);
    proxy = mem_zero(1, sizeof(*proxy));
    if (socket.size > 0 && socket.at[0] == '/')
        proxy->path = mem_strndup(socket);
    else
        proxy->path = mem_printf("%s/%.*s", base, socket.size == 0 ? 4 : (int)socket.size, socket.size == 0 ? "dict" : (const char *)socket.at);
    proxy->name = mem_strndup(rest);
    *out = &proxy->dict;
    return 0;
}

static void close_proxy(struct dict *dict)
{
    struct proxy_dict *proxy = proxy_of(dict);

    mem_free(proxy->path);
    mem_free(proxy->name);
    mem_free(proxy->why);
    mem_free(proxy);
}

/* ---- one request and its answer ---- */

static int give_up(struct proxy_dict *proxy, struct error *e)
{
    proxy->resting_until = time_monotonic_ns() + REST_MS * 1000000ull;
    mem_free(proxy->why);
    proxy->why = mem_strdup(e->admin);
    return -1;
}

static int wait_for(struct talk *t, short events, struct error *e)
{
    for (;;) {
        uint64_t spent = (time_monotonic_ns() - t->begun) / 1000000;
        struct pollfd p = {.fd = t->fd, .events = events};
        int r = spent >= WAIT_MS ? 0 : poll(&p, 1, (int)(WAIT_MS - spent));

        if (r > 0)
            return 0;
        if (r == 0) {
            error_set(e, ERROR_TEMPORARY, "Dict server timeout: %s: No input for %d.000 secs", t->proxy->path, WAIT_MS / 1000);
            return give_up(t->proxy, e);
        }
        if (errno != EINTR)
            return error_sys(e, "poll", t->proxy->path);
    }
}

static int send_all(struct talk *t, struct slice bytes, struct error *e)
{
    while (bytes.size > 0) {
        ssize_t n = send(t->fd, bytes.at, bytes.size, MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return error_sys(e, "write", t->proxy->path);
        if (n < 0 && wait_for(t, POLLOUT, e) < 0)
            return -1;
        bytes = slice_from(bytes, n < 0 ? 0 : (size_t)n);
    }
    return 0;
}

/* What is sent is short or is written while the other side reads: it answers nothing before the end of a request. */
static int begin(struct talk *t, struct proxy_dict *proxy, struct buffer *request, struct error *e)
{
    struct buffer all = {0};
    int r;

    *t = (struct talk){.proxy = proxy, .begun = time_monotonic_ns()};
    if (t->begun < proxy->resting_until)
        return error_set(e, ERROR_TEMPORARY, "%s (not tried again yet)", proxy->why);
    t->fd = line_connect(proxy->path, CONNECT_MS, e);
    if (t->fd < 0)
        return give_up(proxy, e);
    buffer_append_str(&all, "H3\t2\t0\t");
    text_tab_escape(&all, slice_from_str(proxy->dict.user));
    buffer_append_byte(&all, '\t');
    text_tab_escape(&all, slice_from_str(proxy->name));
    buffer_append_byte(&all, '\n');
    buffer_append_slice(&all, buffer_slice(request));
    r = send_all(t, buffer_slice(&all), e);
    buffer_free(&all);
    if (r < 0)
        close(t->fd);
    return r;
}

static void end(struct talk *t)
{
    close(t->fd);
    buffer_free(&t->in);
}

static int next_line(struct talk *t, struct slice *line, struct error *e)
{
    for (;;) {
        struct slice rest = slice_from(buffer_slice(&t->in), t->done);
        ptrdiff_t lf = slice_find(rest, '\n');
        unsigned char chunk[16384];
        ssize_t n;

        if (lf >= 0) {
            *line = slice_head(rest, (size_t)lf);
            t->done += (size_t)lf + 1;
            return 0;
        }
        if (rest.size > ANSWER_MOST)
            return error_set(e, ERROR_LIMIT, "%s: the answer is too long", t->proxy->path);
        if (wait_for(t, POLLIN, e) < 0)
            return -1;
        buffer_drop(&t->in, t->done);
        t->done = 0;
        n = recv(t->fd, chunk, sizeof(chunk), 0);
        if (n == 0)
            return error_set(e, ERROR_TEMPORARY, "dict-client: Connection to %s closed: no answer", t->proxy->path);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return error_sys(e, "read", t->proxy->path);
        if (n > 0)
            buffer_append(&t->in, chunk, (size_t)n);
    }
}

/* The reply without "*1" lines and "+1<TAB>"; `reply` is its letter, '\0' at the end of an iteration. Fields are unescaped. */
static int next_reply(struct talk *t, struct arena *arena, char *reply, struct slice **fields, size_t *count, struct error *e)
{
    struct slice line, id;

    do {
        if (next_line(t, &line, e) < 0)
            return -1;
    } while (line.size > 0 && line.at[0] == '*');
    if (line.size > 0 && line.at[0] == '+' && !slice_split(&line, '\t', &id))
        return error_set(e, ERROR_INVALID, "%s: Broken reply", t->proxy->path);
    *reply = '\0';
    if (line.size > 0 && line.at[0] != '\t') {
        *reply = (char)line.at[0];
        line = slice_from(line, 1);
    }
    *count = text_tab_fields(arena, line, fields);
    return 0;
}

static int failed(struct talk *t, struct slice text, struct error *e)
{
    uint64_t ms = (time_monotonic_ns() - t->begun) / 1000000;

    return error_set(e, ERROR_TEMPORARY, "dict-server returned failure: %.*s (reply took %llu.%03llu secs)", (int)text.size,
                     (const char *)text.at, (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000));
}

static int not_understood(struct talk *t, char reply, struct error *e)
{
    return error_set(e, ERROR_INVALID, "dict-client: %s: Invalid reply '%c'", t->proxy->path, reply >= ' ' ? reply : '?');
}

static void put_user(struct buffer *b, const struct proxy_dict *proxy)
{
    line_field_str(b, proxy->dict.user);
    line_end(b);
}

static int get(struct dict *dict, struct arena *arena, const char *key, struct dict_values *values, struct error *e)
{
    struct proxy_dict *proxy = proxy_of(dict);
    struct buffer request = {0};
    struct slice *fields, *parts;
    size_t count, n;
    struct talk t;
    char reply;
    int r;

    buffer_append_byte(&request, 'L');
    text_tab_escape(&request, slice_from_str(key));
    put_user(&request, proxy);
    r = begin(&t, proxy, &request, e);
    buffer_free(&request);
    if (r < 0)
        return -1;
    r = next_reply(&t, arena, &reply, &fields, &count, e);
    if (r == 0 && reply == 'O') {
        dict_value_add(values, arena, arena_str(arena, fields[0]));
    } else if (r == 0 && reply == 'M') {
        n = text_tab_fields(arena, fields[0], &parts);
        for (size_t i = 0; i < n; i++)
            dict_value_add(values, arena, arena_str(arena, parts[i]));
    } else if (r == 0 && reply == 'F') {
        r = failed(&t, fields[0], e);
    } else if (r == 0 && reply != 'N') {
        r = not_understood(&t, reply, e);
    }
    end(&t);
    return r;
}

static int list(struct dict *dict, struct arena *arena, const char *prefix, bool deep, struct dict_pairs *out, struct error *e)
{
    struct proxy_dict *proxy = proxy_of(dict);
    struct buffer request = {0};
    struct slice *fields;
    struct talk t;
    size_t count;
    char reply;
    int r;

    buffer_printf(&request, "I%d\t0\t", deep ? 1 : 0);
    text_tab_escape(&request, slice_from_str(prefix));
    put_user(&request, proxy);
    r = begin(&t, proxy, &request, e);
    buffer_free(&request);
    if (r < 0)
        return -1;
    while ((r = next_reply(&t, arena, &reply, &fields, &count, e)) == 0 && reply == 'O')
        if (count >= 2)
            VEC_PUSH(out, ((struct dict_pair){arena_str(arena, fields[0]), arena_str(arena, fields[1])}));
    if (r == 0 && reply == 'F')
        r = failed(&t, fields[0], e);
    else if (r == 0 && reply != '\0')
        r = not_understood(&t, reply, e);
    end(&t);
    return r;
}

static void put_change(struct buffer *b, const struct dict_change *c)
{
    buffer_append_str(b, c->what == DICT_SET ? "S" TRANSACTION : c->what == DICT_ADD ? "A" TRANSACTION : "U" TRANSACTION);
    line_field_str(b, c->key);
    if (c->what == DICT_SET)
        line_field_str(b, c->value);
    else if (c->what == DICT_ADD)
        buffer_printf(b, "\t%lld", (long long)c->add);
    line_end(b);
}

static enum step commit(struct dict *dict, struct dict_change *changes, size_t count, struct error *e)
{
    struct proxy_dict *proxy = proxy_of(dict);
    struct arena *arena = arena_new();
    struct buffer request = {0};
    struct slice *fields;
    size_t got;
    struct talk t;
    char reply;
    int r;

    buffer_append_str(&request, "B" TRANSACTION);
    put_user(&request, proxy);
    for (size_t i = 0; i < count; i++)
        put_change(&request, &changes[i]);
    buffer_append_str(&request, "C" TRANSACTION "\n");
    r = begin(&t, proxy, &request, e);
    buffer_free(&request);
    if (r == 0) {
        r = next_reply(&t, arena, &reply, &fields, &got, e);
        if (r == 0 && reply == 'N') {
            /* It does not say which. */
            for (size_t i = 0; i < count; i++)
                changes[i].missing = changes[i].what == DICT_ADD;
        } else if (r == 0 && (reply == 'F' || reply == 'W')) {
            r = failed(&t, got > 1 ? fields[1] : SLICE_EMPTY, e);
        } else if (r == 0 && reply != 'O') {
            r = not_understood(&t, reply, e);
        }
        end(&t);
    }
    arena_free(arena);
    return r == 0 ? STEP_DONE : STEP_ERROR;
}

const struct dict_driver dict_driver_proxy = {"proxy", open_proxy, close_proxy, get, list, commit, false};
