/* http_client.c - requests, the queue of each server, and the module's transfers on the process's loop (http_client.h). */
#include "rpc/http_client.h"

#include "rpc/http_curl.h"
#include "rpc/module.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

enum { PAUSE_MS = 100 };             /* before a lost connection is made again */
enum { REQUESTS_MOST = 10000, BYTES_MOST = 64 * 1024 * 1024 };   /* that wait, of all servers */

struct request {
    struct request *prev, *next;     /* of its server */
    struct server *server;
    char *method, *url, *content_type;
    struct buffer body;
    char *ca_file, *ca_dir;          /* NULL = none */
    bool insecure, refused;          /* refused: by the module */
    unsigned attempt_ms, retries, attempts;
    uint64_t begun_ns;
    ev_timer whole, attempt;
    struct http_curl_transfer *transfer;     /* NULL: not on its way */
    http_done_fn *done;
    void *arg;
};

struct server {
    struct server *prev, *next;
    struct http_client *client;
    char *host;
    struct http_url url;             /* .host is not used */
    struct request *requests;        /* the first is on its way */
};

struct watch {
    struct watch *prev, *next;
    ev_io io;
};

struct http_client {
    struct ev_loop *loop;
    const struct http_curl_face *face;       /* NULL: the module is not loaded */
    struct http_curl *curl;
    struct server *servers;
    struct watch *watches;
    ev_timer timer;                  /* the module's */
    size_t count, bytes;
};

/* ---- URLs -------------------------------------------------------------------------------------------------------- */

static bool take_scheme(struct slice *rest, struct http_url *out)
{
    if (slice_starts_nocase(*rest, SLICE("http://")))
        out->port = 80;
    else if (slice_starts_nocase(*rest, SLICE("https://")))
        out->port = 443;
    else
        return false;
    out->secure = out->port == 443;
    *rest = slice_from(*rest, out->secure ? 8 : 7);
    return true;
}

/* Is there "scheme:" in front? */
static bool has_scheme(struct slice url)
{
    ptrdiff_t colon = slice_find(url, ':'), slash = slice_find(url, '/');

    return colon > 0 && (slash < 0 || colon < slash);
}

int http_url_parse(const char *url, struct http_url *out, struct error *e)
{
    struct slice rest = slice_from_str(url), authority;
    struct http_url parsed = {0};
    ptrdiff_t at;
    uint32_t port;

    for (const char *c = url; *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            return error_set(e, ERROR_INVALID, "Invalid character in HTTP URL");
    if (!take_scheme(&rest, &parsed))
        return error_set(e, ERROR_INVALID, has_scheme(rest) ? "Not an HTTP URL" : "Relative HTTP URL not allowed");
    if (slice_find(rest, '#') >= 0)
        return error_set(e, ERROR_INVALID, "URL fragment not allowed for HTTP URL in this context");
    authority = slice_head(rest, strcspn((const char *)rest.at, "/?"));
    if ((at = slice_find_last(authority, '@')) >= 0)
        authority = slice_from(authority, (size_t)at + 1);
    at = slice_find_last(authority, ':');
    if (at >= 0 && slice_find(slice_from(authority, (size_t)at), ']') < 0) {
        if (!slice_to_u32(slice_from(authority, (size_t)at + 1), &port) || port == 0 || port > 65535)
            return error_set(e, ERROR_INVALID, "Invalid port number");
        parsed.port = (uint16_t)port;
        authority = slice_head(authority, (size_t)at);
    }
    if (authority.size > 2 && authority.at[0] == '[' && authority.at[authority.size - 1] == ']')
        authority = slice_of(authority.at + 1, authority.size - 2);
    if (authority.size == 0)
        return error_set(e, ERROR_INVALID, "Missing host in HTTP URL");
    parsed.host = authority;
    *out = parsed;
    return 0;
}

/* ---- servers ------------------------------------------------------------------------------------------------------ */

static struct server *server_for(struct http_client *c, const struct http_url *url)
{
    struct server *s;

    DL_FOREACH(c->servers, s)
        if (s->url.secure == url->secure && s->url.port == url->port && slice_equal_str(url->host, s->host))
            return s;
    s = mem_zero(1, sizeof(*s));
    s->client = c;
    s->host = mem_strndup(url->host);
    s->url = *url;
    DL_APPEND(c->servers, s);
    return s;
}

static void drop_server(struct server *s)
{
    DL_DELETE(s->client->servers, s);
    mem_free(s->host);
    mem_free(s);
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

static void start_first(struct server *s);

static void free_request(struct request *r)
{
    buffer_free(&r->body);
    mem_free(r->method);
    mem_free(r->url);
    mem_free(r->content_type);
    mem_free(r->ca_file);
    mem_free(r->ca_dir);
    mem_free(r);
}

static void end_request(struct request *r, const struct http_answer *answer)
{
    struct server *s = r->server;
    struct http_client *c = s->client;
    http_done_fn *done = r->done;
    void *arg = r->arg;
    bool first = s->requests == r;

    ev_timer_stop(c->loop, &r->whole);
    ev_timer_stop(c->loop, &r->attempt);
    if (r->transfer != NULL)
        c->face->stop(r->transfer);
    DL_DELETE(s->requests, r);
    c->count--;
    c->bytes -= r->body.size;
    free_request(r);
    if (s->requests == NULL)
        drop_server(s);
    else if (first)
        start_first(s);
    done(arg, answer);               /* may send another one */
}

static void fail(struct request *r, enum http_failure failure, const char *text)
{
    const struct http_answer answer = {.status = failure, .text = text};

    end_request(r, &answer);
}

/* "Request timed out (Request queued 4.014 secs ago, 1 times retried, 2 send attempts)" */
static void fail_later_than(struct request *r, enum http_failure failure, const char *what)
{
    double secs = (double)(time_monotonic_ns() - r->begun_ns) / 1e9;
    char text[640];

    if (r->attempts == 0)
        snprintf(text, sizeof(text), "%s (Request queued %.3f secs ago, not yet sent)", what, secs);
    else if (r->attempts == 1)
        snprintf(text, sizeof(text), "%s (Request queued %.3f secs ago, 1 send attempts)", what, secs);
    else
        snprintf(text, sizeof(text), "%s (Request queued %.3f secs ago, %u times retried, %u send attempts)", what, secs, r->attempts - 1,
                 r->attempts);
    fail(r, failure, text);
}

/* Begins `ms` from now what begins an attempt, or ends it. */
static void set_attempt(struct request *r, unsigned ms)
{
    struct ev_loop *loop = r->server->client->loop;

    ev_now_update(loop);             /* time has passed since it woke */
    ev_timer_stop(loop, &r->attempt);
    ev_timer_set(&r->attempt, ms / 1000.0, 0);
    ev_timer_start(loop, &r->attempt);
}

static bool try_again(struct request *r, unsigned ms)
{
    if (r->retries == 0)
        return false;
    r->retries--;
    set_attempt(r, ms);
    return true;
}

static void on_whole(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct request *r = timer->data;

    (void)loop;
    (void)events;
    if (r->refused)
        fail(r, HTTP_FAILED_ABORTED, "The request could not be made");
    else
        fail_later_than(r, HTTP_FAILED_TIMEOUT, "Absolute request timeout expired");
}

static void on_attempt(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct request *r = timer->data;

    (void)loop;
    (void)events;
    if (r->transfer == NULL) {
        start_first(r->server);
        return;
    }
    r->server->client->face->stop(r->transfer);
    r->transfer = NULL;
    if (!try_again(r, 0))
        fail_later_than(r, HTTP_FAILED_TIMEOUT, "Request timed out");
}

static void put_date(char *out, size_t size)
{
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(out, size, "Date: %a, %d %b %Y %H:%M:%S GMT", &tm);
}

static void start_first(struct server *s)
{
    struct http_client *c = s->client;
    struct request *r = s->requests;
    char date[64], type[256];
    const char *headers[] = {date, "Connection: Keep-Alive", type, NULL};
    const struct http_curl_question question = {.method = r->method, .url = r->url, .headers = headers, .body = r->body.at,
                                                .body_size = r->body.size, .ca_file = r->ca_file, .ca_dir = r->ca_dir,
                                                .insecure = r->insecure, .answer_max = HTTP_ANSWER_MAX};

    put_date(date, sizeof(date));
    snprintf(type, sizeof(type), "Content-Type: %s", r->content_type);
    r->attempts++;
    if (r->attempt_ms > 0)
        set_attempt(r, r->attempt_ms);
    r->transfer = c->face->start(c->curl, &question, r);
    if (r->transfer == NULL) {       /* not now: who sends it does not expect `done` yet */
        r->refused = true;
        ev_feed_event(c->loop, &r->whole, EV_TIMER);
    }
}

/* ---- answers ---------------------------------------------------------------------------------------------------------- */

static void fail_transfer(struct request *r, const struct http_curl_answer *a)
{
    const char *host = r->server->host;
    unsigned port = r->server->url.port;
    char text[512];

    switch (a->failure) {
    case HTTP_CURL_LOOKUP:
        snprintf(text, sizeof(text), "Failed to lookup host %s: Name or service not known", host);
        fail(r, HTTP_FAILED_LOOKUP, text);
        return;
    case HTTP_CURL_CONNECT:
        snprintf(text, sizeof(text), "connect(%s:%u) failed: %s", host, port, a->sys != 0 ? strerror(a->sys) : a->text);
        fail(r, HTTP_FAILED_CONNECT, text);
        return;
    case HTTP_CURL_TLS:
        snprintf(text, sizeof(text), "SSL handshaking with %s:%u failed: %s (check ssl_client_ca_* settings?)", host, port, a->text);
        fail(r, HTTP_FAILED_CONNECT, text);
        return;
    case HTTP_CURL_LOST:
        if (try_again(r, PAUSE_MS))
            return;
        snprintf(text, sizeof(text), "Connection lost: %s", a->text);
        fail_later_than(r, HTTP_FAILED_LOST, text);
        return;
    case HTTP_CURL_BAD_ANSWER:
        fail(r, HTTP_FAILED_BAD_ANSWER, a->text);
        return;
    case HTTP_CURL_ANSWERED:
    case HTTP_CURL_OTHER:
        break;
    }
    fail(r, HTTP_FAILED_ABORTED, a->text);
}

static void on_done(void *request, const struct http_curl_answer *a)
{
    struct request *r = request;
    const struct http_answer answer = {.status = a->status, .text = a->reason, .body = slice_of(a->body, a->body_size)};

    r->transfer = NULL;
    ev_timer_stop(r->server->client->loop, &r->attempt);
    if (a->failure == HTTP_CURL_ANSWERED)
        end_request(r, &answer);
    else
        fail_transfer(r, a);
}

/* ---- the loop ----------------------------------------------------------------------------------------------------------- */

static void on_ready(struct ev_loop *loop, ev_io *io, int events)
{
    struct http_client *c = io->data;

    (void)loop;
    c->face->act(c->curl, io->fd, ((events & EV_READ) != 0 ? HTTP_CURL_READ : 0u) | ((events & EV_WRITE) != 0 ? HTTP_CURL_WRITE : 0u));
}

static void on_watch(void *arg, int fd, unsigned events)
{
    struct http_client *c = arg;
    struct watch *w;

    DL_FOREACH(c->watches, w)
        if (w->io.fd == fd)
            break;
    if (w == NULL) {
        if (events == 0)
            return;
        w = mem_zero(1, sizeof(*w));
        ev_init(&w->io, on_ready);
        w->io.data = c;
        DL_APPEND(c->watches, w);
    }
    ev_io_stop(c->loop, &w->io);
    if (events == 0) {
        DL_DELETE(c->watches, w);
        mem_free(w);
        return;
    }
    ev_io_set(&w->io, fd, ((events & HTTP_CURL_READ) != 0 ? EV_READ : 0) | ((events & HTTP_CURL_WRITE) != 0 ? EV_WRITE : 0));
    ev_io_start(c->loop, &w->io);
}

static void on_time(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct http_client *c = timer->data;

    (void)loop;
    (void)events;
    c->face->act(c->curl, -1, 0);
}

static void on_timer(void *arg, long msecs)
{
    struct http_client *c = arg;

    ev_timer_stop(c->loop, &c->timer);
    if (msecs < 0)
        return;
    ev_timer_set(&c->timer, (double)msecs / 1000.0, 0);
    ev_timer_start(c->loop, &c->timer);
}

/* ---- the client ---------------------------------------------------------------------------------------------------------- */

struct http_client *http_client_new(struct ev_loop *loop)
{
    struct http_client *c = mem_zero(1, sizeof(*c));

    c->loop = loop;
    ev_timer_init(&c->timer, on_time, 0, 0);
    c->timer.data = c;
    return c;
}

static int load(struct http_client *c, struct error *e)
{
    static const struct http_curl_host host = {on_watch, on_timer, on_done};
    const struct yarilo_module *module;

    if (c->curl != NULL)
        return 0;
    module = module_load(HTTP_CURL_MODULE, e);
    if (module == NULL)
        return -1;
    c->face = module->face;
    c->curl = c->face->open(&host, c);
    return c->curl != NULL ? 0 : error_set(e, ERROR_TEMPORARY, "No memory for HTTP");
}

static char *copy_set(const char *text)
{
    return text == NULL || *text == '\0' ? NULL : mem_strdup(text);
}

int http_client_send(struct http_client *c, const struct http_request *q, http_done_fn *done, void *arg, struct error *e)
{
    struct http_url url;
    struct request *r;

    if (http_url_parse(q->url, &url, e) < 0 || load(c, e) < 0)
        return -1;
    if (c->count >= REQUESTS_MOST || q->body.size > BYTES_MOST - c->bytes)
        return error_set(e, ERROR_LIMIT, "Too many HTTP requests are waiting");
    r = mem_zero(1, sizeof(*r));
    r->server = server_for(c, &url);
    r->method = mem_strdup(q->method);
    r->url = mem_strdup(q->url);
    r->content_type = mem_strdup(q->content_type);
    buffer_append_slice(&r->body, q->body);
    r->ca_file = copy_set(q->trust.ca_file);
    r->ca_dir = copy_set(q->trust.ca_dir);
    r->insecure = q->trust.insecure;
    r->attempt_ms = q->attempt_ms;
    r->retries = q->retries;
    r->begun_ns = time_monotonic_ns();
    r->done = done;
    r->arg = arg;
    ev_now_update(c->loop);
    ev_timer_init(&r->whole, on_whole, q->timeout_ms / 1000.0, 0);
    ev_init(&r->attempt, on_attempt);
    r->whole.data = r->attempt.data = r;
    if (q->timeout_ms > 0)
        ev_timer_start(c->loop, &r->whole);
    c->count++;
    c->bytes += r->body.size;
    DL_APPEND(r->server->requests, r);
    if (r->server->requests == r)
        start_first(r->server);
    return 0;
}

size_t http_client_waiting(const struct http_client *c)
{
    return c->count;
}

static void move_timer(ev_timer *timer, struct ev_loop *from, struct ev_loop *to)
{
    double left;

    if (!ev_is_active(timer))
        return;
    left = ev_timer_remaining(from, timer);
    ev_timer_stop(from, timer);
    ev_timer_set(timer, left > 0 ? left : 0, 0);
    ev_timer_start(to, timer);
}

static void move_requests(const struct server *s, struct ev_loop *from, struct ev_loop *to)
{
    struct request *r;

    DL_FOREACH(s->requests, r)
    {
        move_timer(&r->whole, from, to);
        move_timer(&r->attempt, from, to);
        if (r->refused) {
            ev_clear_pending(from, &r->whole);
            ev_feed_event(to, &r->whole, EV_TIMER);
        }
    }
}

static void move_to(struct http_client *c, struct ev_loop *to)
{
    struct ev_loop *from = c->loop;
    struct server *s;
    struct watch *w;

    DL_FOREACH(c->watches, w)
    {
        ev_io_stop(from, &w->io);
        ev_io_start(to, &w->io);
    }
    move_timer(&c->timer, from, to);
    DL_FOREACH(c->servers, s)
        move_requests(s, from, to);
    c->loop = to;
}

static void on_end(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    *(bool *)timer->data = true;
}

void http_client_wait(struct http_client *c, unsigned ms)
{
    struct ev_loop *process = c == NULL ? NULL : c->loop, *own;
    bool over = false;
    ev_timer end;

    if (c == NULL || c->count == 0 || (own = ev_loop_new(EVBACKEND_POLL)) == NULL)
        return;
    move_to(c, own);
    ev_timer_init(&end, on_end, ms / 1000.0, 0);
    end.data = &over;
    ev_timer_start(own, &end);
    while (c->count > 0 && !over)
        (void)ev_run(own, EVRUN_ONCE);
    ev_timer_stop(own, &end);
    move_to(c, process);
    ev_loop_destroy(own);
}

void http_client_free(struct http_client *c)
{
    if (c == NULL)
        return;
    while (c->servers != NULL)
        fail(c->servers->requests->prev, HTTP_FAILED_ABORTED, "Aborted");
    if (c->curl != NULL)
        c->face->close(c->curl);
    ev_timer_stop(c->loop, &c->timer);
    mem_free(c);
}
