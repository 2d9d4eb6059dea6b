/* Requests by HTTP to servers of others. The library that speaks it is heavy: it is in a module, which is loaded with the
 * first request.
 *
 * Nothing blocks but http_client_wait. To one server (scheme, host, port) goes one request at a time, in order, by a
 * connection that is kept. How many requests wait is limited. Redirections are not followed. */
#ifndef YARILO_RPC_HTTP_CLIENT_H
#define YARILO_RPC_HTTP_CLIENT_H

#include "base/base.h"

#include <ev.h>

/* What a URL says; the slices are within it. */
struct http_url {
    bool secure;
    struct slice host;               /* without the brackets of an IPv6 address */
    uint16_t port;
};
/* "Relative HTTP URL not allowed", "Not an HTTP URL", "Invalid port number", ... */
int http_url_parse(const char *url, struct http_url *, struct error *);

/* Whose certificates are believed (ssl_client_*). */
struct http_trust {
    const char *ca_file, *ca_dir;    /* NULL or "": none; both: those of the system */
    bool insecure;                   /* whatever certificate there is */
};

struct http_request {
    const char *method, *url;        /* credentials in the URL are sent as Basic */
    const char *content_type;
    struct slice body;
    struct http_trust trust;
    unsigned timeout_ms;             /* for all of it, waiting too; 0 = none */
    unsigned attempt_ms;             /* for one attempt; 0 = none */
    unsigned retries;                /* after an attempt that timed out, or whose connection was lost */
};

/* Where a status would be, why there is none; the numbers are those that the real server logs. */
enum http_failure {
    HTTP_FAILED_ABORTED = 9000, HTTP_FAILED_LOOKUP = 9002, HTTP_FAILED_CONNECT = 9003, HTTP_FAILED_LOST = 9005,
    HTTP_FAILED_BAD_ANSWER = 9007, HTTP_FAILED_TIMEOUT = 9008
};

enum { HTTP_ANSWER_MAX = 64 * 1024 };
struct http_answer {
    unsigned status;                 /* 200; from 9000 on enum http_failure */
    const char *text;                /* the reason that the server gave, or what went wrong */
    struct slice body;               /* of it HTTP_ANSWER_MAX bytes at most */
};
static inline bool http_succeeded(const struct http_answer *a)
{
    return a->status / 100 == 2;
}

struct http_client;
typedef void http_done_fn(void *arg, const struct http_answer *);

struct http_client *http_client_new(struct ev_loop *);
/* What waits ends with HTTP_FAILED_ABORTED. Not from inside a http_done_fn. NULL is fine. */
void http_client_free(struct http_client *);
/* Everything is copied. `done` is called once, from the loop. -1 with *e (it is not called then): the URL is none, the module
 * is not there, too much waits. */
int http_client_send(struct http_client *, const struct http_request *, http_done_fn *done, void *arg, struct error *);
size_t http_client_waiting(const struct http_client *);      /* requests that have not ended */
/* Until nothing waits, at most `ms`; of the process's loop nothing else runs meanwhile. NULL is fine. */
void http_client_wait(struct http_client *, unsigned ms);

#endif
