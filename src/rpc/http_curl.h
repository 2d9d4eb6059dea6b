/* The face of the module http_curl (rpc/module.h): libcurl's transfers on a loop that it does not know. Its one user is
 * http_client.c. */
#ifndef YARILO_RPC_HTTP_CURL_H
#define YARILO_RPC_HTTP_CURL_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_CURL_MODULE "http_curl"

struct http_curl;
struct http_curl_transfer;

enum { HTTP_CURL_READ = 1, HTTP_CURL_WRITE = 2 };

/* Strings and bytes are copied, but for the body's, which live until the transfer is over. */
struct http_curl_question {
    const char *method, *url;
    const char *const *headers;        /* "Name: value", NULL-ended; NULL = none */
    const void *body;
    size_t body_size;
    const char *ca_file, *ca_dir;      /* both NULL: those of the library */
    bool insecure;                     /* certificates are not verified */
    size_t answer_max;                 /* of the answer's body: the rest is read and dropped */
};

enum http_curl_failure {
    HTTP_CURL_ANSWERED,
    HTTP_CURL_LOOKUP,                  /* the host's name has no address */
    HTTP_CURL_CONNECT,
    HTTP_CURL_TLS,
    HTTP_CURL_LOST,                    /* the connection ended before the answer did */
    HTTP_CURL_BAD_ANSWER,
    HTTP_CURL_OTHER
};

struct http_curl_answer {
    enum http_curl_failure failure;
    const char *text;                  /* of a failure: the library's */
    int sys;                           /* its errno, or 0 */
    unsigned status;
    const char *reason;
    const void *body;
    size_t body_size;
};

struct http_curl_host {
    void (*watch)(void *arg, int fd, unsigned events);   /* 0: no longer */
    void (*timer)(void *arg, long msecs);                /* call `act` with fd -1 then; < 0: not any more */
    /* The transfer is over and gone; from inside `act` only. */
    void (*done)(void *request, const struct http_curl_answer *);
};

struct http_curl_face {
    struct http_curl *(*open)(const struct http_curl_host *, void *arg);   /* NULL: no memory */
    void (*close)(struct http_curl *);                   /* no transfer is left */
    /* NULL: the URL is none, or no memory. */
    struct http_curl_transfer *(*start)(struct http_curl *, const struct http_curl_question *, void *request);
    void (*stop)(struct http_curl_transfer *);           /* `done` is not called */
    void (*act)(struct http_curl *, int fd, unsigned events);
};

#endif
