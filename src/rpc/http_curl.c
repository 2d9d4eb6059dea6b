/* http_curl.c - the module http_curl: HTTP by libcurl (http_curl.h). */
#define YARILO_MODULE_ITSELF
#include "rpc/http_curl.h"
#include "rpc/module.h"

#include <curl/curl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { REASON_MAX = 256 };

struct http_curl {
    CURLM *multi;
    const struct http_curl_host *host;
    void *arg;
};

struct http_curl_transfer {
    struct http_curl *set;
    void *request;
    CURL *easy;
    struct curl_slist *headers;
    char reason[REASON_MAX];
    char text[CURL_ERROR_SIZE];
    char *body;
    size_t body_size, answer_max;
};

/* ---- answers ------------------------------------------------------------------------------------------------------- */

static size_t take_body(char *at, size_t size, size_t count, void *arg)
{
    struct http_curl_transfer *t = arg;
    size_t got = size * count, keep = got;
    char *room;

    if (keep > t->answer_max - t->body_size)
        keep = t->answer_max - t->body_size;
    if (keep == 0)
        return got;
    room = realloc(t->body, t->body_size + keep);
    if (room == NULL)
        return 0;
    memcpy(room + t->body_size, at, keep);
    t->body = room;
    t->body_size += keep;
    return got;
}

/* "HTTP/1.1 404 Not Found": of several answers (100, redirections) the last one counts. */
static size_t take_header(char *at, size_t size, size_t count, void *arg)
{
    struct http_curl_transfer *t = arg;
    size_t n = size * count, skip = 0, length;

    if (n < 5 || memcmp(at, "HTTP/", 5) != 0)
        return n;
    for (unsigned words = 0; words < 2 && skip < n; skip++)
        if (at[skip] == ' ')
            words++;
    length = n - skip;
    while (length > 0 && (at[skip + length - 1] == '\r' || at[skip + length - 1] == '\n'))
        length--;
    if (length >= sizeof(t->reason))
        length = sizeof(t->reason) - 1;
    memcpy(t->reason, at + skip, length);
    t->reason[length] = '\0';
    t->body_size = 0;
    return n;
}

static enum http_curl_failure failure_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return HTTP_CURL_ANSWERED;
    case CURLE_COULDNT_RESOLVE_HOST:
        return HTTP_CURL_LOOKUP;
    case CURLE_COULDNT_CONNECT:
        return HTTP_CURL_CONNECT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return HTTP_CURL_TLS;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
        return HTTP_CURL_LOST;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return HTTP_CURL_BAD_ANSWER;
    default:
        return HTTP_CURL_OTHER;
    }
}

static void free_transfer(struct http_curl_transfer *t)
{
    (void)curl_multi_remove_handle(t->set->multi, t->easy);
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    free(t->body);
    free(t);
}

static void finish(struct http_curl *c, CURL *easy, CURLcode code)
{
    struct http_curl_answer answer = {.failure = failure_of(code)};
    struct http_curl_transfer *t = NULL;
    long status = 0, sys = 0;

    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &sys);
    answer.text = t->text[0] != '\0' ? t->text : curl_easy_strerror(code);
    answer.sys = (int)sys;
    answer.status = (unsigned)status;
    answer.reason = t->reason;
    answer.body = t->body;
    answer.body_size = t->body_size;
    c->host->done(t->request, &answer);
    free_transfer(t);
}

/* ---- the loop ------------------------------------------------------------------------------------------------------- */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *ignored)
{
    struct http_curl *c = arg;
    unsigned events = what == CURL_POLL_IN ? HTTP_CURL_READ : what == CURL_POLL_OUT ? HTTP_CURL_WRITE
                      : what == CURL_POLL_INOUT ? (unsigned)HTTP_CURL_READ | (unsigned)HTTP_CURL_WRITE : 0;

    (void)easy;
    (void)ignored;
    c->host->watch(c->arg, fd, events);
    return 0;
}

static int on_timer(CURLM *multi, long msecs, void *arg)
{
    struct http_curl *c = arg;

    (void)multi;
    c->host->timer(c->arg, msecs);
    return 0;
}

static void act(struct http_curl *c, int fd, unsigned events)
{
    int what = ((events & HTTP_CURL_READ) != 0 ? CURL_CSELECT_IN : 0) | ((events & HTTP_CURL_WRITE) != 0 ? CURL_CSELECT_OUT : 0);
    int left;
    CURLMsg *message;

    (void)curl_multi_socket_action(c->multi, fd < 0 ? CURL_SOCKET_TIMEOUT : fd, what, &left);
    while ((message = curl_multi_info_read(c->multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE)
            finish(c, message->easy_handle, message->data.result);
}

/* ---- transfers ------------------------------------------------------------------------------------------------------ */

static bool add_header(struct http_curl_transfer *t, const char *line)
{
    struct curl_slist *more = curl_slist_append(t->headers, line);

    if (more != NULL)
        t->headers = more;
    return more != NULL;
}

static bool set_up(struct http_curl_transfer *t, const struct http_curl_question *q)
{
    CURL *e = t->easy;
    bool good = add_header(t, "Accept:") && add_header(t, "Expect:");   /* what curl would send by itself, we do not */

    for (const char *const *h = q->headers; good && h != NULL && *h != NULL; h++)
        good = add_header(t, *h);
    return good && curl_easy_setopt(e, CURLOPT_URL, q->url) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, q->method) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_size) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_POSTFIELDS, q->body_size == 0 ? "" : q->body) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK && /* whatever the environment says */
           curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, q->insecure ? 0L : 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, q->insecure ? 0L : 2L) == CURLE_OK &&
           ((q->ca_file == NULL && q->ca_dir == NULL) ||
            (curl_easy_setopt(e, CURLOPT_CAINFO, q->ca_file) == CURLE_OK && curl_easy_setopt(e, CURLOPT_CAPATH, q->ca_dir) == CURLE_OK)) &&
           curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEDATA, t) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HEADERDATA, t) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->text) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PRIVATE, t) == CURLE_OK;
}

static struct http_curl_transfer *start(struct http_curl *c, const struct http_curl_question *q, void *request)
{
    struct http_curl_transfer *t = calloc(1, sizeof(*t));

    if (t == NULL)
        return NULL;
    t->set = c;
    t->request = request;
    t->answer_max = q->answer_max;
    t->easy = curl_easy_init();
    if (t->easy != NULL && set_up(t, q) && curl_multi_add_handle(c->multi, t->easy) == CURLM_OK)
        return t;
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    free(t);
    return NULL;
}

static void close_set(struct http_curl *c)
{
    (void)curl_multi_cleanup(c->multi);
    free(c);
}

static struct http_curl *open_set(const struct http_curl_host *host, void *arg)
{
    struct http_curl *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->host = host;
    c->arg = arg;
    c->multi = curl_multi_init();
    if (c->multi != NULL && curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) == CURLM_OK &&
        curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
        curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) == CURLM_OK)
        return c;
    (void)curl_multi_cleanup(c->multi);
    free(c);
    return NULL;
}

static const struct http_curl_face face = {open_set, close_set, start, free_transfer, act};
static const struct yarilo_module module = {YARILO_MODULE_VERSION, HTTP_CURL_MODULE, &face};

yarilo_module_fn yarilo_module;

const struct yarilo_module *yarilo_module(const struct yarilo_host *host)
{
    if (host->version != YARILO_MODULE_VERSION || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return NULL;
    return &module;
}
