/* The HTTP client towards a server of the test's own: order, retries, time limits, ends. */
#include "rpc/http_client.h"
#include "rpc/module.h"

#include <arpa/inet.h>
#include <atf-c.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the server: a process that answers one connection after the other ---- */

static struct {
    pid_t pid;
    unsigned port;
    int seen;              /* a line for each request: its path */
} server;

/* The path decides. False: the connection ends. */
static bool respond(int fd, const char *path)
{
    char head[160], *body = NULL;
    size_t size = strcmp(path, "/big") == 0 ? 100000 : 2;
    char byte;

    if (strcmp(path, "/hang") == 0)
        return read(fd, &byte, 1) > 0;
    if (strcmp(path, "/close") == 0)
        return false;
    body = calloc(1, size);
    snprintf(head, sizeof(head), "HTTP/1.1 %d Some Reason\r\nContent-Length: %zu\r\n\r\n", strcmp(path, "/missing") == 0 ? 404 : 200, size);
    (void)!write(fd, head, strlen(head));
    for (size_t sent = 0; sent < size;) {
        ssize_t n = write(fd, body + sent, size - sent);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    free(body);
    return true;
}

static void serve(int fd, int seen)
{
    char line[1024], path[256];
    FILE *in = fdopen(fd, "r");
    unsigned size = 0;

    for (bool go_on = true; go_on && fgets(line, sizeof(line), in) != NULL;) {
        if (sscanf(line, "%*s %255s", path) != 1)
            break;
        while (fgets(line, sizeof(line), in) != NULL && line[0] != '\r')
            (void)sscanf(line, "Content-Length: %u", &size);
        while (size > 0 && fgetc(in) != EOF)
            size--;
        dprintf(seen, "%s\n", path);
        go_on = respond(fd, path);
    }
    fclose(in);
}

static void start_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int pair[2], fd = socket(AF_INET, SOCK_STREAM, 0);

    ATF_REQUIRE(bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 16) == 0 && pipe(pair) == 0);
    ATF_REQUIRE(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    server.port = ntohs(address.sin_port);
    server.pid = fork();
    if (server.pid == 0)
        for (;;)
            serve(accept(fd, NULL, NULL), pair[1]);
    close(fd);
    close(pair[1]);
    server.seen = pair[0];
}

/* What it has seen, as one text. */
static const char *stop_server(void)
{
    static char text[4096];
    size_t used = 0;
    ssize_t n;

    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
    while (used < sizeof(text) - 1 && (n = read(server.seen, text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = '\0';
    close(server.seen);
    return text;
}

/* ---- the client ---- */

static struct http_client *client;
static char answers[4096];
static size_t answer_size;

static void done(void *arg, const struct http_answer *answer)
{
    size_t used = strlen(answers);

    snprintf(answers + used, sizeof(answers) - used, "%s %u %s\n", (const char *)arg, answer->status, answer->text);
    answer_size = answer->body.size;
}

static void send_one(const char *path, unsigned timeout_ms, unsigned attempt_ms, unsigned retries)
{
    char url[256];
    struct http_request request = {.method = "PUT", .url = url, .content_type = "text/plain", .body = SLICE("body"), .timeout_ms = timeout_ms,
                                   .attempt_ms = attempt_ms, .retries = retries};
    struct error e;

    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", server.port, path);
    ATF_REQUIRE_MSG(http_client_send(client, &request, done, (void *)(uintptr_t)path, &e) == 0, "%s", e.admin);
}

static void begin(void)
{
    struct error e;

    if (module_load("http_curl", &e) == NULL)
        atf_tc_skip("machine: built without libcurl: %s", e.admin);
    signal(SIGPIPE, SIG_IGN);
    start_server();
    client = http_client_new(ev_default_loop(0));
}

static const char *end(void)
{
    http_client_free(client);
    ev_loop_destroy(ev_default_loop(0));
    return stop_server();
}

ATF_TC_WITHOUT_HEAD(url);
ATF_TC_BODY(url, tc)
{
    static const struct { const char *url, *host; unsigned port; const char *wrong; } cases[] = {
        {"http://a", "a", 80, NULL}, {"HTTPS://a.b/c?d", "a.b", 443, NULL}, {"http://u:p@h:81/", "h", 81, NULL}, {"http://h?x", "h", 80, NULL},
        {"http://[::1]:82/x", "::1", 82, NULL}, {"http://[::1]", "::1", 80, NULL}, {"http://h/a@b:c", "h", 80, NULL},
        {"nonsense", NULL, 0, "Relative HTTP URL not allowed"}, {"", NULL, 0, "Relative HTTP URL not allowed"},
        {"/a:b", NULL, 0, "Relative HTTP URL not allowed"}, {"ftp://h/", NULL, 0, "Not an HTTP URL"},
        {"http://h:0/", NULL, 0, "Invalid port number"}, {"http://h:99999/", NULL, 0, "Invalid port number"},
        {"http://h:x/", NULL, 0, "Invalid port number"}, {"http://h/#f", NULL, 0, "URL fragment not allowed for HTTP URL in this context"},
        {"http:///x", NULL, 0, "Missing host in HTTP URL"}, {"http://h/a b", NULL, 0, "Invalid character in HTTP URL"},
        {"http://h/\r\nX: y", NULL, 0, "Invalid character in HTTP URL"}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_url url;
        struct error e;
        int r = http_url_parse(cases[i].url, &url, &e);

        ATF_CHECK_MSG((r < 0) == (cases[i].wrong != NULL), "%s", cases[i].url);
        if (r < 0 && cases[i].wrong != NULL)
            ATF_CHECK_STREQ(cases[i].wrong, e.admin);
        if (r == 0 && cases[i].wrong == NULL)
            ATF_CHECK_MSG(slice_equal_str(url.host, cases[i].host) && url.port == cases[i].port, "%s", cases[i].url);
    }
}

ATF_TC_WITHOUT_HEAD(order);
ATF_TC_BODY(order, tc)
{
    begin();
    send_one("/a", 0, 0, 0);
    send_one("/missing", 0, 0, 0);
    send_one("/big", 0, 0, 0);
    ATF_CHECK_EQ(3, http_client_waiting(client));
    http_client_wait(client, 60000);
    ATF_CHECK_EQ(0, http_client_waiting(client));
    ATF_CHECK_STREQ("/a 200 Some Reason\n/missing 404 Some Reason\n/big 200 Some Reason\n", answers);
    ATF_CHECK_EQ(HTTP_ANSWER_MAX, answer_size);
    ATF_CHECK_STREQ("/a\n/missing\n/big\n", end());
}

/* A lost connection is made again as often as is asked for, an answer is final. */
ATF_TC_WITHOUT_HEAD(lost);
ATF_TC_BODY(lost, tc)
{
    begin();
    send_one("/close", 0, 0, 2);
    send_one("/missing", 0, 0, 2);
    http_client_wait(client, 60000);
    ATF_CHECK_MSG(strstr(answers, "/close 9005 Connection lost: ") == answers && strstr(answers, "2 times retried, 3 send attempts") != NULL, "%s",
                  answers);
    ATF_CHECK_MSG(strstr(answers, "\n/missing 404 ") != NULL, "%s", answers);
    ATF_CHECK_STREQ("/close\n/close\n/close\n/missing\n", end());
}

/* One that hangs does not hold up those behind it for longer than its time. */
ATF_TC_WITHOUT_HEAD(slow);
ATF_TC_BODY(slow, tc)
{
    begin();
    send_one("/hang", 0, 100, 1);
    send_one("/a", 0, 0, 0);
    send_one("/hang", 300, 0, 0);
    send_one("/b", 1, 0, 0);
    http_client_wait(client, 60000);
    ATF_CHECK_MSG(strstr(answers, "/b 9008 Absolute request timeout expired") == answers && strstr(answers, "not yet sent") != NULL, "%s", answers);
    ATF_CHECK_MSG(strstr(answers, "\n/hang 9008 Request timed out") != NULL && strstr(answers, "2 send attempts)\n/a 200") != NULL, "%s", answers);
    ATF_CHECK_MSG(strstr(answers, "\n/hang 9008 Absolute request timeout expired") != NULL, "%s", answers);
    ATF_CHECK_MSG(strstr(end(), "/b\n") == NULL, "what was too late was sent");
}

ATF_TC_WITHOUT_HEAD(ends);
ATF_TC_BODY(ends, tc)
{
    begin();
    send_one("/hang", 0, 0, 0);
    send_one("/a", 0, 0, 0);
    http_client_wait(client, 1);
    ATF_CHECK_EQ(2, http_client_waiting(client));
    (void)end();
    ATF_CHECK_STREQ("/a 9000 Aborted\n/hang 9000 Aborted\n", answers);
}

ATF_TC_WITHOUT_HEAD(refused);
ATF_TC_BODY(refused, tc)
{
    char expected[128];

    begin();
    (void)stop_server();
    send_one("/a", 0, 0, 3);
    http_client_wait(client, 60000);
    snprintf(expected, sizeof(expected), "/a 9003 connect(127.0.0.1:%u) failed: Connection refused\n", server.port);
    ATF_CHECK_STREQ(expected, answers);
    http_client_free(client);
    ev_loop_destroy(ev_default_loop(0));
}

/* A server that is away costs bounded memory. */
ATF_TC_WITHOUT_HEAD(full);
ATF_TC_BODY(full, tc)
{
    struct http_request request = {.method = "PUT", .content_type = "text/plain"};
    char url[64];
    struct error e;
    unsigned n = 0;

    begin();
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/hang", server.port);
    request.url = url;
    while (http_client_send(client, &request, done, (void *)(uintptr_t)"x", &e) == 0)
        ATF_REQUIRE(++n < 100000);
    ATF_CHECK_STREQ("Too many HTTP requests are waiting", e.admin);
    (void)end();
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, url);
    ATF_TP_ADD_TC(tp, order);
    ATF_TP_ADD_TC(tp, lost);
    ATF_TP_ADD_TC(tp, slow);
    ATF_TP_ADD_TC(tp, ends);
    ATF_TP_ADD_TC(tp, refused);
    ATF_TP_ADD_TC(tp, full);
    return atf_no_error();
}
