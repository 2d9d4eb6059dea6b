/* Streams: input kept and bounded, output with backpressure, ends, TLS with its handshake, the relay. */
#include "net/net.h"

#include <atf-c.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct end {
    struct stream *stream;
    struct buffer got;
    size_t take;           /* bytes taken per call; 0 = all */
    unsigned calls, writable, closed, deadlines, tls;
    struct error error;
};

static void readable(void *arg)
{
    struct end *e = arg;
    struct slice in = stream_input(e->stream);
    size_t n = e->take == 0 || e->take > in.size ? in.size : e->take;

    e->calls++;
    buffer_append(&e->got, in.at, n);
    stream_consume(e->stream, n);
}

static void writable(void *arg)
{
    ((struct end *)arg)->writable++;
}

static void closed(void *arg, const struct error *error)
{
    struct end *e = arg;

    e->closed++;
    e->error = *error;
}

static void deadline(void *arg)
{
    ((struct end *)arg)->deadlines++;
}

static void tls_done(void *arg, const struct error *error)
{
    struct end *e = arg;

    if (error->class == ERROR_NONE)
        e->tls++;
    else
        e->error = *error;
}

static const struct stream_handler handler = {readable, writable, closed, deadline};

static void make_pair(int ends[2])
{
    ATF_REQUIRE_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

static void spin(struct ev_loop *loop)
{
    for (int i = 0; i < 50; i++)
        ev_run(loop, EVRUN_NOWAIT);
}

ATF_TC_WITHOUT_HEAD(input);
ATF_TC_BODY(input, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct stream_limits limits = {.input_max = 10};
    struct end e = {.take = 3};
    int ends[2];

    make_pair(ends);
    e.stream = stream_new(loop, ends[0], -1, &limits, &handler, &e);
    ATF_REQUIRE_EQ(write(ends[1], "0123456789abcdef", 16), 16);
    spin(loop);
    /* What a handler leaves is kept, and it is called again only when more has come. */
    ATF_CHECK(slice_equal_str(buffer_slice(&e.got), "012345678") || e.got.size >= 3);
    ATF_CHECK(stream_input(e.stream).size <= 10);
    e.take = 0;
    stream_unread(e.stream, SLICE("<<"));
    spin(loop);
    ATF_CHECK(slice_find_slice(buffer_slice(&e.got), SLICE("<<")) >= 0);
    ATF_CHECK_EQ(e.got.size, 18);
    ATF_CHECK_EQ(stream_input(e.stream).size, 0);
    ATF_CHECK_EQ(stream_bytes_in(e.stream), 16);
    close(ends[1]);
    spin(loop);
    ATF_CHECK_EQ(e.closed, 1);
    ATF_CHECK_EQ(e.error.class, ERROR_NONE);
    stream_free(e.stream);
    buffer_free(&e.got);
    ev_loop_destroy(loop);
}

/* Input that is not answered is acknowledged at once: a connection that has answered before would hold that back. */
ATF_TC_WITHOUT_HEAD(acknowledged);
ATF_TC_BODY(acknowledged, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct stream_limits limits = {0};
    struct end e = {0};
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin), size = sizeof(int);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int server, at_once = -1;

    ATF_REQUIRE(bind(listener, (struct sockaddr *)&sin, len) == 0 && listen(listener, 1) == 0);
    ATF_REQUIRE(getsockname(listener, (struct sockaddr *)&sin, &len) == 0);
    ATF_REQUIRE(connect(client, (struct sockaddr *)&sin, len) == 0);
    server = accept(listener, NULL, NULL);
    ATF_REQUIRE(setsockopt(server, IPPROTO_TCP, TCP_QUICKACK, &(int){0}, sizeof(int)) == 0);
    e.stream = stream_new(loop, server, -1, &limits, &handler, &e);
    ATF_REQUIRE_EQ(write(client, "literal", 7), 7);
    while (e.got.size < 7)
        ev_run(loop, EVRUN_ONCE);
    ATF_REQUIRE(getsockopt(server, IPPROTO_TCP, TCP_QUICKACK, &at_once, &size) == 0);
    ATF_CHECK_EQ(at_once, 1);
    stream_free(e.stream);
    buffer_free(&e.got);
    close(client);
    close(listener);
    ev_loop_destroy(loop);
}

ATF_TC_WITHOUT_HEAD(input_off);
ATF_TC_BODY(input_off, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end e = {0};
    int ends[2];

    make_pair(ends);
    e.stream = stream_new(loop, ends[0], -1, NULL, &handler, &e);
    stream_want_input(e.stream, false);
    ATF_REQUIRE_EQ(write(ends[1], "x", 1), 1);
    spin(loop);
    ATF_CHECK_EQ(e.calls, 0);
    stream_want_input(e.stream, true);
    spin(loop);
    ATF_CHECK_EQ(e.got.size, 1);
    stream_free(e.stream);
    close(ends[1]);
    buffer_free(&e.got);
    ev_loop_destroy(loop);
}

ATF_TC_WITHOUT_HEAD(output);
ATF_TC_BODY(output, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct stream_limits limits = {.output_high = 4096};
    struct end e = {0};
    static char block[1024 * 1024];
    size_t got = 0;
    int ends[2];

    make_pair(ends);
    ATF_REQUIRE_EQ(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    memset(block, 'x', sizeof(block));
    e.stream = stream_new(loop, ends[0], -1, &limits, &handler, &e);
    stream_print(e.stream, "%s", "hello ");
    ATF_CHECK(!stream_full(e.stream));
    stream_write(e.stream, slice_of(block, sizeof(block)));
    ATF_CHECK(stream_full(e.stream));
    spin(loop);
    ATF_CHECK_EQ(e.writable, 0); /* the peer has read nothing */
    for (int i = 0; i < 2000 && got < sizeof(block) + 6; i++) {
        char in[65536];
        ssize_t n = read(ends[1], in, sizeof(in));
        if (n > 0)
            got += (size_t)n;
        ev_run(loop, EVRUN_NOWAIT);
    }
    ATF_CHECK_EQ(got, sizeof(block) + 6);
    ATF_CHECK_EQ(e.writable, 1);
    ATF_CHECK_EQ(stream_pending(e.stream), 0);
    stream_print(e.stream, "bye");
    stream_finish(e.stream, 5);
    spin(loop);
    char in[8];
    ATF_CHECK_EQ(read(ends[1], in, sizeof(in)), 3);
    ATF_CHECK_EQ(read(ends[1], in, sizeof(in)), 0);
    ATF_CHECK_EQ(e.closed, 1);
    stream_free(e.stream);
    close(ends[1]);
    ev_loop_destroy(loop);
}

enum { HIGH = 128 * 1024, WIDE_HIGH = 512 * 1024 };

static char many[WIDE_HIGH];

static bool is_full_at(struct end *e, size_t size)
{
    bool before;

    stream_write(e->stream, slice_of(many, size - 1));
    before = stream_full(e->stream);
    stream_write(e->stream, slice_of(many, 1));
    return !before && stream_full(e->stream);
}

static struct stream *to_nowhere(struct ev_loop *loop, struct end *e, int ends[2])
{
    int out = open("/dev/null", O_WRONLY | O_CLOEXEC);

    ATF_REQUIRE(out >= 0);
    make_pair(ends);
    return stream_new(loop, ends[0], out, NULL, &handler, e);
}

/* One stream of the process may let more wait, while its client takes all. */
ATF_TC_WITHOUT_HEAD(wide);
ATF_TC_BODY(wide, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end first = {0}, second = {0};
    int ends[2], others[2];

    first.stream = to_nowhere(loop, &first, ends);
    second.stream = to_nowhere(loop, &second, others);
    ATF_CHECK(is_full_at(&first, HIGH));
    spin(loop);
    ATF_CHECK_EQ(1, first.writable);
    ATF_CHECK(is_full_at(&first, WIDE_HIGH));
    for (int i = 0; i < 2; i++) {
        ATF_CHECK(is_full_at(&second, HIGH));
        spin(loop);
    }
    /* Until it has nothing more to say, or is gone. */
    stream_print(first.stream, "x");
    spin(loop);
    ATF_CHECK(is_full_at(&second, HIGH));
    spin(loop);
    ATF_CHECK(is_full_at(&second, WIDE_HIGH));
    ATF_CHECK(is_full_at(&first, HIGH));
    stream_free(second.stream);
    spin(loop);
    ATF_CHECK(is_full_at(&first, WIDE_HIGH));
    stream_free(first.stream);
    close(ends[1]);
    close(others[1]);
    ev_loop_destroy(loop);
}

/* A client that does not read on has the room of all others. */
ATF_TC_WITHOUT_HEAD(wide_and_slow);
ATF_TC_BODY(wide_and_slow, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end e = {0};
    char in[4096];
    int ends[2];

    make_pair(ends);
    ATF_REQUIRE_EQ(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    e.stream = stream_new(loop, ends[0], -1, NULL, &handler, &e);
    ATF_CHECK(is_full_at(&e, HIGH));
    while (stream_pending(e.stream) > 0) {
        ev_run(loop, EVRUN_NOWAIT);
        while (read(ends[1], in, sizeof(in)) > 0)
            continue;
    }
    ATF_CHECK(!stream_full(e.stream));
    stream_write(e.stream, slice_of(many, WIDE_HIGH));
    while (stream_pending(e.stream) == WIDE_HIGH)
        ev_run(loop, EVRUN_NOWAIT);
    ATF_REQUIRE(stream_pending(e.stream) > HIGH && stream_pending(e.stream) < WIDE_HIGH);
    ATF_CHECK(stream_full(e.stream));
    stream_free(e.stream);
    close(ends[1]);
    ev_loop_destroy(loop);
}

ATF_TC_WITHOUT_HEAD(peer_gone);
ATF_TC_BODY(peer_gone, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end e = {0};
    int ends[2];

    make_pair(ends);
    e.stream = stream_new(loop, ends[0], -1, NULL, &handler, &e);
    stream_want_input(e.stream, false);
    close(ends[1]);
    stream_print(e.stream, "into the void");
    ATF_CHECK_EQ(e.closed, 0); /* never from inside a call */
    spin(loop);
    ATF_CHECK_EQ(e.closed, 1);
    ATF_CHECK(e.error.class != ERROR_NONE);
    stream_free(e.stream);
    ev_loop_destroy(loop);
}

ATF_TC_WITHOUT_HEAD(timer);
ATF_TC_BODY(timer, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end e = {0};
    int ends[2];

    make_pair(ends);
    e.stream = stream_new(loop, ends[0], -1, NULL, &handler, &e);
    stream_deadline(e.stream, 0.01);
    while (e.deadlines == 0)
        ev_run(loop, EVRUN_ONCE);
    ATF_CHECK_EQ(e.deadlines, 1);
    stream_free(e.stream);
    close(ends[1]);
    ev_loop_destroy(loop);
}

/* ---- TLS ------------------------------------------------------------------------------------------------------- */

static char *read_all(const char *path)
{
    struct buffer b = {0};
    struct error e;
    char *text;

    ATF_REQUIRE_EQ_MSG(os_read_file(AT_FDCWD, path, 65536, &b, &e), 0, "%s", e.admin);
    text = mem_strdup(buffer_cstr(&b));
    buffer_free(&b);
    return text;
}

static struct tls_context *make_context(const char *name, const char *ciphers)
{
    struct tls_settings set = {.alpn = "imap", .tickets = true, .cipher_list = ciphers};
    struct tls_context *context;
    struct error e;
    char command[512];

    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey rsa:2048 -nodes -keyout %s.key -out %s.crt -days 2 -subj /CN=%s "
             "-addext subjectAltName=DNS:%s 2>openssl.err", name, name, name, name);
    ATF_REQUIRE_EQ(system(command), 0);
    snprintf(command, sizeof(command), "%s.crt", name);
    char *cert = read_all(command);
    snprintf(command, sizeof(command), "%s.key", name);
    char *key = read_all(command);
    set.cert = slice_from_str(cert);
    set.key = slice_from_str(key);
    ATF_REQUIRE_EQ_MSG(tls_context_new(&set, &context, &e), 0, "%s", e.admin);
    mem_free(cert);
    mem_free(key);
    return context;
}

static struct tls_context *other_context;

static struct tls_context *choose(void *arg, const char *name)
{
    (void)arg;
    return strcmp(name, "b.example") == 0 ? other_context : NULL;
}

ATF_TC_WITHOUT_HEAD(tls);
ATF_TC_BODY(tls, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end server = {0}, client = {0};
    struct tls_context *context = make_context("a.example", NULL);
    struct tls_session_info info;
    int ends[2];

    other_context = make_context("b.example", NULL);
    make_pair(ends);
    server.stream = stream_new(loop, ends[0], -1, NULL, &handler, &server);
    client.stream = stream_new(loop, ends[1], -1, NULL, &handler, &client);
    /* Plain text in front of the handshake is not there afterwards. */
    stream_unread(server.stream, SLICE("a1 LOGIN x y\r\n"));
    stream_start_tls(server.stream, context, tls_done);
    stream_choose_tls(server.stream, choose);
    stream_start_tls_client(client.stream, context, "B.example", false, tls_done);
    for (int i = 0; i < 1000 && (server.tls == 0 || client.tls == 0); i++)
        ev_run(loop, EVRUN_NOWAIT);
    ATF_REQUIRE_EQ(server.tls, 1);
    ATF_REQUIRE_EQ(client.tls, 1);
    ATF_CHECK_EQ(server.got.size, 0);
    ATF_REQUIRE(stream_tls_info(server.stream, &info));
    ATF_CHECK_STREQ(info.protocol, "TLSv1.3");
    ATF_CHECK_STREQ(info.sni, "b.example");
    ATF_CHECK_STREQ(info.alpn, "imap");
    ATF_CHECK(strncmp(info.cipher, "TLS_", 4) == 0);
    /* Larger than a record, both ways. */
    static char block[100000];
    memset(block, 'y', sizeof(block));
    stream_write(client.stream, slice_of(block, sizeof(block)));
    stream_write(server.stream, slice_of(block, sizeof(block)));
    for (int i = 0; i < 1000 && (server.got.size < sizeof(block) || client.got.size < sizeof(block)); i++)
        ev_run(loop, EVRUN_NOWAIT);
    ATF_CHECK_EQ(server.got.size, sizeof(block));
    ATF_CHECK_EQ(client.got.size, sizeof(block));
    stream_finish(client.stream, 5);
    spin(loop);
    ATF_CHECK_EQ(server.closed, 1);
    ATF_CHECK_EQ(server.error.class, ERROR_NONE);
    stream_free(server.stream);
    stream_free(client.stream);
    buffer_free(&server.got);
    buffer_free(&client.got);
    tls_context_unref(context);
    tls_context_unref(other_context);
    ev_loop_destroy(loop);
}

/* The first bytes of the handshake were read together with a PROXY header. */
ATF_TC_WITHOUT_HEAD(tls_behind_proxy);
ATF_TC_BODY(tls_behind_proxy, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end server = {0}, client = {0};
    struct tls_context *context = make_context("a.example", NULL);
    int ends[2], tap[2];
    char hello[4096];
    ssize_t n;

    make_pair(ends);
    make_pair(tap);
    client.stream = stream_new(loop, tap[0], -1, NULL, &handler, &client);
    stream_start_tls_client(client.stream, context, "a.example", false, tls_done);
    spin(loop);
    n = read(tap[1], hello, sizeof(hello)); /* its ClientHello */
    ATF_REQUIRE(n > 100);
    server.stream = stream_new(loop, ends[0], -1, NULL, &handler, &server);
    stream_unread(server.stream, slice_of(hello, (size_t)n));
    stream_start_tls_behind_proxy(server.stream, context, tls_done);
    ATF_REQUIRE_EQ(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    ATF_REQUIRE_EQ(fcntl(tap[1], F_SETFL, O_NONBLOCK), 0);
    for (int i = 0; i < 1000 && (server.tls == 0 || client.tls == 0); i++) {
        ev_run(loop, EVRUN_NOWAIT);
        if ((n = read(ends[1], hello, sizeof(hello))) > 0)
            ATF_REQUIRE_EQ(write(tap[1], hello, (size_t)n), n);
        if ((n = read(tap[1], hello, sizeof(hello))) > 0)
            ATF_REQUIRE_EQ(write(ends[1], hello, (size_t)n), n);
    }
    ATF_CHECK_EQ(server.tls, 1);
    ATF_CHECK_EQ(client.tls, 1);
    stream_free(server.stream);
    stream_free(client.stream);
    close(ends[1]);
    close(tap[1]);
    tls_context_unref(context);
    ev_loop_destroy(loop);
}

/* With TLS 1.2 only the suites of the list are on, although TLS 1.3 has others on. */
ATF_TC_WITHOUT_HEAD(tls12_suites);
ATF_TC_BODY(tls12_suites, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct tls_context *context = make_context("a.example", "ECDHE-RSA-AES128-GCM-SHA256");
    static const struct {
        const char *client;
        bool good;
    } cases[] = {{"ECDHE-RSA-AES256-GCM-SHA384", false}, {"ALL", true}};

    for (size_t i = 0; i < 2; i++) {
        struct end server = {0};
        int ends[2];
        char command[256];
        pid_t child;

        make_pair(ends);
        ATF_REQUIRE((child = fork()) >= 0);
        if (child == 0) {
            gnutls_session_t s;
            gnutls_certificate_credentials_t cred;
            gnutls_certificate_allocate_credentials(&cred);
            gnutls_init(&s, GNUTLS_CLIENT);
            snprintf(command, sizeof(command), "NORMAL:-VERS-ALL:+VERS-TLS1.2%s",
                     cases[i].good ? "" : ":-CIPHER-ALL:+AES-256-GCM");
            gnutls_priority_set_direct(s, command, NULL);
            gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred);
            gnutls_transport_set_int(s, ends[1]);
            close(ends[0]);
            _exit(gnutls_handshake(s) == 0 ? 0 : 1);
        }
        close(ends[1]);
        server.stream = stream_new(loop, ends[0], -1, NULL, &handler, &server);
        stream_start_tls(server.stream, context, tls_done);
        while (server.tls == 0 && server.closed == 0)
            ev_run(loop, EVRUN_ONCE);
        ATF_CHECK_EQ(server.tls == 1, cases[i].good);
        struct tls_session_info info;
        if (cases[i].good && stream_tls_info(server.stream, &info))
            ATF_CHECK_STREQ(info.cipher, "ECDHE-RSA-AES128-GCM-SHA256");
        stream_free(server.stream);
        int status;
        ATF_REQUIRE_EQ(waitpid(child, &status, 0), child);
        ATF_CHECK_EQ(WEXITSTATUS(status) == 0, cases[i].good);
    }
    tls_context_unref(context);
    ev_loop_destroy(loop);
}

ATF_TC_WITHOUT_HEAD(tls_garbage);
ATF_TC_BODY(tls_garbage, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end server = {0};
    struct tls_context *context = make_context("a.example", NULL);
    int ends[2];

    make_pair(ends);
    server.stream = stream_new(loop, ends[0], -1, NULL, &handler, &server);
    stream_start_tls(server.stream, context, tls_done);
    ATF_REQUIRE_EQ(write(ends[1], "GET / HTTP/1.0\r\n\r\n", 18), 18);
    for (int i = 0; i < 100 && server.closed == 0; i++)
        ev_run(loop, EVRUN_NOWAIT);
    ATF_CHECK_EQ(server.tls, 0);
    ATF_CHECK_EQ(server.closed, 1);
    ATF_CHECK(server.error.class != ERROR_NONE);
    stream_free(server.stream);
    close(ends[1]);
    tls_context_unref(context);
    ev_loop_destroy(loop);
}

ATF_TC_WITHOUT_HEAD(bad_certificates);
ATF_TC_BODY(bad_certificates, tc)
{
    struct tls_settings set = {0};
    struct tls_context *context;
    struct error e;

    ATF_CHECK_EQ(tls_context_new(&set, &context, &e), -1);
    ATF_CHECK_STREQ(e.admin, "Can't load SSL certificate (ssl_cert setting): The certificate is empty");
    set.cert = SLICE("nonsense");
    set.key = SLICE("nonsense");
    ATF_CHECK_EQ(tls_context_new(&set, &context, &e), -1);
    ATF_CHECK_MATCH("^Can't load SSL certificate \\(ssl_cert setting\\): ", e.admin);
}

/* ---- relay ----------------------------------------------------------------------------------------------------- */

static void relay_done(void *arg, bool client_ended)
{
    *(int *)arg = client_ended ? 1 : 2;
}

ATF_TC_WITHOUT_HEAD(relay);
ATF_TC_BODY(relay, tc)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end none = {0};
    int client[2], server[2], done = 0;
    char in[16];

    make_pair(client);
    make_pair(server);
    struct stream *a = stream_new(loop, client[0], -1, NULL, &handler, &none);
    struct stream *b = stream_new(loop, server[0], -1, NULL, &handler, &none);
    stream_want_input(a, false);
    stream_unread(a, SLICE("early "));
    ATF_REQUIRE(stream_relay_start(a, b, relay_done, &done) != NULL);
    ATF_REQUIRE_EQ(write(client[1], "late", 4), 4);
    ATF_REQUIRE_EQ(write(server[1], "answer", 6), 6);
    spin(loop);
    ATF_CHECK_EQ(read(server[1], in, sizeof(in)), 10);
    ATF_CHECK(memcmp(in, "early late", 10) == 0);
    ATF_CHECK_EQ(read(client[1], in, sizeof(in)), 6);
    ATF_REQUIRE_EQ(write(client[1], "end", 3), 3);
    close(client[1]);
    spin(loop);
    ATF_CHECK_EQ(read(server[1], in, sizeof(in)), 3);
    ATF_CHECK_EQ(read(server[1], in, sizeof(in)), 0);
    close(server[1]);
    spin(loop);
    ATF_CHECK_EQ(done, 1);
    ev_loop_destroy(loop);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, input);
    ATF_TP_ADD_TC(tp, acknowledged);
    ATF_TP_ADD_TC(tp, input_off);
    ATF_TP_ADD_TC(tp, output);
    ATF_TP_ADD_TC(tp, wide);
    ATF_TP_ADD_TC(tp, wide_and_slow);
    ATF_TP_ADD_TC(tp, peer_gone);
    ATF_TP_ADD_TC(tp, timer);
    ATF_TP_ADD_TC(tp, tls);
    ATF_TP_ADD_TC(tp, tls_behind_proxy);
    ATF_TP_ADD_TC(tp, tls12_suites);
    ATF_TP_ADD_TC(tp, tls_garbage);
    ATF_TP_ADD_TC(tp, bad_certificates);
    ATF_TP_ADD_TC(tp, relay);
    return atf_no_error();
}
