/* dict_proxy.c - a dictionary behind the dict service, "proxy:SOCKET:NAME" (ipc 10.1); Dovecot's service or ours.
 *
 * One connection for each request, as the service of Dovecot gives each connection a process. A request waits for its answer,
 * since quota must be known before a save: at most WAIT_MS. After such a wait, or when nobody listens, requests fail at once
 * for REST_MS, so that a dead service does not hold a worker's other sessions up again and again. Commits that nobody waits
 * for (commit_step) hold nobody up: they have LATER_MS. */
#include "rpc/line.h"
#include "store/dict_driver.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 10000
#define LATER_MS 30000
#define REST_MS 2000
#define CONNECT_MS 1000
#define ANSWER_MOST (64u << 20)
#define TRANSACTION "1"

struct proxy_dict {
    struct dict dict;
    char *path, *name;         /* of the socket, of the dictionary */
    uint64_t resting_until;    /* monotonic ns */
    char *why;                 /* it rests */
    struct talk *later;        /* commit_step's; NULL = none under way */
};

struct talk {
    struct proxy_dict *proxy;
    int fd;                    /* -1: not connected yet */
    uint64_t begun;
    struct buffer in, out;     /* out: what is still to be sent */
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

static void end(struct talk *t)
{
    if (t->fd >= 0)
        close(t->fd);
    buffer_free(&t->in);
    buffer_free(&t->out);
}

static void end_later(struct proxy_dict *proxy)
{
    if (proxy->later == NULL)
        return;
    end(proxy->later);
    mem_free(proxy->later);
    proxy->later = NULL;
}

static void close_proxy(struct dict *dict)
{
    struct proxy_dict *proxy = proxy_of(dict);

    end_later(proxy);
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

/* Behind an error: how long it took, all of it waiting here. */
static int took(const struct talk *t, struct error *e)
{
    const uint64_t ms = (time_monotonic_ns() - t->begun) / 1000000;
    const unsigned long long secs = ms / 1000, rest = ms % 1000;
    const struct error why = *e;

    error_set(e, why.class, "%s (reply took %llu.%03llu secs (%llu.%03llu in dict wait, 0.000 in other ioloops, 0.000 in locks))", why.admin,
              secs, rest, secs, rest);
    e->sys = why.sys;
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

/* STEP_WAIT: there is no room at the moment. */
static enum step send_some(struct talk *t, struct error *e)
{
    while (t->out.size > 0) {
        ssize_t n = send(t->fd, t->out.at, t->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN)
            return STEP_WAIT;
        if (n < 0 && errno != EINTR) {
            error_sys(e, "write", t->proxy->path);
            return STEP_ERROR;
        }
        if (n > 0)
            buffer_drop(&t->out, (size_t)n);
    }
    return STEP_DONE;
}

static void greet(struct talk *t, const struct buffer *request)
{
    buffer_append_str(&t->out, "H3\t2\t0\t");
    text_tab_escape(&t->out, slice_from_str(t->proxy->dict.user));
    buffer_append_byte(&t->out, '\t');
    text_tab_escape(&t->out, slice_from_str(t->proxy->name));
    buffer_append_byte(&t->out, '\n');
    buffer_append_slice(&t->out, buffer_slice(request));
}

static int connect_to(const struct proxy_dict *proxy, unsigned wait_ms, struct error *e)
{
    int fd = line_connect(proxy->path, wait_ms, e);

    if (fd < 0 && e->sys != 0) {
        const int sys = e->sys;

        error_set(e, e->class, "net_connect_unix(%s) failed: %s", proxy->path, strerror(sys));
        e->sys = sys;
    }
    return fd;
}

/* What is sent is short or is written while the other side reads: it answers nothing before the end of a request. */
static int begin(struct talk *t, struct proxy_dict *proxy, struct buffer *request, struct error *e)
{
    enum step r;

    *t = (struct talk){.proxy = proxy, .begun = time_monotonic_ns()};
    if (t->begun < proxy->resting_until)
        return error_set(e, ERROR_TEMPORARY, "%s (not tried again yet)", proxy->why);
    t->fd = connect_to(proxy, CONNECT_MS, e);
    if (t->fd < 0) {
        (void)give_up(proxy, e);
        return took(t, e);
    }
    greet(t, request);
    while ((r = send_some(t, e)) == STEP_WAIT)
        if (wait_for(t, POLLOUT, e) < 0)
            break;
    if (r != STEP_DONE)
        end(t);
    return r == STEP_DONE ? 0 : -1;
}

/* STEP_WAIT: it has not come yet. */
static enum step take_line(struct talk *t, struct slice *line, struct error *e)
{
    for (;;) {
        struct slice rest = slice_from(buffer_slice(&t->in), t->done);
        ptrdiff_t lf = slice_find(rest, '\n');
        unsigned char chunk[16384];
        ssize_t n;

        if (lf >= 0) {
            *line = slice_head(rest, (size_t)lf);
            t->done += (size_t)lf + 1;
            return STEP_DONE;
        }
        if (rest.size > ANSWER_MOST) {
            error_set(e, ERROR_LIMIT, "%s: the answer is too long", t->proxy->path);
            return STEP_ERROR;
        }
        buffer_drop(&t->in, t->done);
        t->done = 0;
        n = recv(t->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return STEP_WAIT;
        if (n == 0) {
            error_set(e, ERROR_TEMPORARY, "Connection closed");
            return STEP_ERROR;
        }
        if (n < 0 && errno != EINTR) {
            error_sys(e, "read", t->proxy->path);
            return STEP_ERROR;
        }
        if (n > 0)
            buffer_append(&t->in, chunk, (size_t)n);
    }
}

static int next_line(struct talk *t, struct slice *line, struct error *e)
{
    enum step r;

    while ((r = take_line(t, line, e)) == STEP_WAIT)
        if (wait_for(t, POLLIN, e) < 0)
            return -1;
    return r == STEP_DONE ? 0 : -1;
}

/* The reply without "+1<TAB>"; `reply` is its letter, '\0' at the end of an iteration, '*': this line is none. Fields are unescaped. */
static int read_reply(const struct talk *t, struct arena *arena, struct slice line, char *reply, struct slice **fields, size_t *count,
                      struct error *e)
{
    struct slice id;

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

static int next_reply(struct talk *t, struct arena *arena, char *reply, struct slice **fields, size_t *count, struct error *e)
{
    struct slice line;

    do {
        if (next_line(t, &line, e) < 0)
            return -1;
    } while (line.size > 0 && line.at[0] == '*');
    return read_reply(t, arena, line, reply, fields, count, e);
}

static int failed(struct talk *t, struct slice text, struct error *e)
{
    error_set(e, ERROR_TEMPORARY, "dict-server returned failure: %.*s", (int)text.size, (const char *)text.at);
    return took(t, e);
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

static void put_commit(struct buffer *request, const struct proxy_dict *proxy, const struct dict_change *changes, size_t count)
{
    buffer_append_str(request, "B" TRANSACTION);
    put_user(request, proxy);
    for (size_t i = 0; i < count; i++)
        put_change(request, &changes[i]);
    buffer_append_str(request, "C" TRANSACTION "\n");
}

static int commit_answer(struct talk *t, char reply, const struct slice *fields, size_t got, struct dict_change *changes, size_t count,
                         struct error *e)
{
    if (reply == 'F' || reply == 'W')
        return failed(t, got > 1 ? fields[1] : SLICE_EMPTY, e);
    if (reply != 'O' && reply != 'N')
        return not_understood(t, reply, e);
    for (size_t i = 0; reply == 'N' && i < count; i++)
        changes[i].missing = changes[i].what == DICT_ADD; /* it does not say which */
    return 0;
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

    put_commit(&request, proxy, changes, count);
    r = begin(&t, proxy, &request, e);
    buffer_free(&request);
    if (r == 0) {
        r = next_reply(&t, arena, &reply, &fields, &got, e);
        if (r == 0)
            r = commit_answer(&t, reply, fields, got, changes, count, e);
        end(&t);
    }
    arena_free(arena);
    return r == 0 ? STEP_DONE : STEP_ERROR;
}

/* Connects and sends. STEP_WAIT: nobody has taken the connection, or all of it, yet. */
static enum step go_out(struct talk *t, struct error *e)
{
    if (t->fd < 0)
        t->fd = connect_to(t->proxy, 0, e);
    if (t->fd < 0)
        return e->sys == EAGAIN ? STEP_WAIT : STEP_ERROR;
    return send_some(t, e);
}

static enum step take_answer(struct talk *t, struct dict_change *changes, size_t count, bool *uncertain, struct error *e)
{
    struct arena *arena;
    struct slice line = SLICE_EMPTY, *fields;
    size_t got;
    char reply;
    enum step r;
    int result;

    do {
        r = take_line(t, &line, e);
    } while (r == STEP_DONE && line.size > 0 && line.at[0] == '*');
    *uncertain = r == STEP_ERROR;
    if (r != STEP_DONE)
        return r;
    arena = arena_new();
    result = read_reply(t, arena, line, &reply, &fields, &got, e);
    *uncertain = result < 0 || (reply != 'O' && reply != 'N' && reply != 'F');
    if (result == 0)
        result = commit_answer(t, reply, fields, got, changes, count, e);
    arena_free(arena);
    return result == 0 ? STEP_DONE : STEP_ERROR;
}

static enum step commit_step(struct dict *dict, struct dict_change *changes, size_t count, bool *uncertain, struct error *e)
{
    struct proxy_dict *proxy = proxy_of(dict);
    struct talk *t = proxy->later;
    enum step r;

    if (t == NULL) {
        struct buffer request = {0};

        t = proxy->later = mem_zero(1, sizeof(*t));
        *t = (struct talk){.proxy = proxy, .fd = -1, .begun = time_monotonic_ns()};
        put_commit(&request, proxy, changes, count);
        greet(t, &request);
        buffer_free(&request);
    }
    r = go_out(t, e);
    if (r == STEP_DONE)
        r = take_answer(t, changes, count, uncertain, e);
    if (r == STEP_WAIT) {
        if ((time_monotonic_ns() - t->begun) / 1000000 < LATER_MS)
            return STEP_WAIT;
        *uncertain = t->fd >= 0 && t->out.size == 0;
        error_set(e, ERROR_TEMPORARY, "Dict server timeout: No input for %d.000 secs", LATER_MS / 1000);
        r = STEP_ERROR;
    }
    if (r == STEP_ERROR && strstr(e->admin, "(reply took ") == NULL)
        took(t, e);
    end_later(proxy);
    return r;
}

const struct dict_driver dict_driver_proxy = {"proxy", open_proxy, close_proxy, get, list, commit, commit_step, false};
