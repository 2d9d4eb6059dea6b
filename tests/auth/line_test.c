/* Line connections and the login side's client (src/rpc). */
#include "rpc/auth_client.h"

#include <atf-c.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct seen {
    struct ev_loop *loop;
    struct line_conn *conn;
    struct buffer lines;
    bool closed, drained, free_in_line;
    enum error_class class;
};

static void see_line(void *arg, struct slice line)
{
    struct seen *s = arg;

    buffer_append_slice(&s->lines, line);
    buffer_append_byte(&s->lines, '|');
    if (s->free_in_line) {
        line_conn_free(s->conn);
        s->conn = NULL;
        ev_break(s->loop, EVBREAK_ALL);
    }
}

static void see_closed(void *arg, const struct error *e)
{
    struct seen *s = arg;

    s->closed = true;
    s->class = e->class;
    ev_break(s->loop, EVBREAK_ALL);
}

static void see_drained(void *arg)
{
    ((struct seen *)arg)->drained = true;
}

static const struct line_handler handler = {see_line, see_closed, see_drained};

static int begin(struct seen *s, const struct line_limits *limits)
{
    int pair[2];

    memset(s, 0, sizeof(*s));
    s->loop = ev_loop_new(EVFLAG_AUTO);
    ATF_REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    s->conn = line_conn_new(s->loop, pair[0], limits, &handler, s);
    return pair[1];
}

static void end(struct seen *s)
{
    line_conn_free(s->conn);
    buffer_free(&s->lines);
    ev_loop_destroy(s->loop);
}

static void put(int fd, const char *text)
{
    ATF_REQUIRE_EQ((ssize_t)strlen(text), write(fd, text, strlen(text)));
}

ATF_TC_WITHOUT_HEAD(lines);
ATF_TC_BODY(lines, tc)
{
    struct seen s;
    int fd = begin(&s, NULL);

    put(fd, "one\r\ntwo\n\nthr");
    ev_run(s.loop, EVRUN_ONCE);
    put(fd, "ee\nrest without end");
    close(fd);
    ev_run(s.loop, 0);
    ATF_CHECK_STREQ(buffer_cstr(&s.lines), "one|two||three|");
    ATF_CHECK(s.closed);
    ATF_CHECK_EQ(s.class, ERROR_NONE);
    end(&s);
}

ATF_TC_WITHOUT_HEAD(too_long);
ATF_TC_BODY(too_long, tc)
{
    const struct line_limits limits = {.line_max = 8};
    struct seen s;
    int fd = begin(&s, &limits);

    put(fd, "12345678\r\n123456789\nnever\n");
    ev_run(s.loop, 0);
    ATF_CHECK_STREQ(buffer_cstr(&s.lines), "12345678|");
    ATF_CHECK(s.closed);
    ATF_CHECK_EQ(s.class, ERROR_LIMIT);
    end(&s);
    close(fd);
    fd = begin(&s, &limits);
    put(fd, "123456789012345678901234567890"); /* no end in sight */
    ev_run(s.loop, 0);
    ATF_CHECK_EQ(s.class, ERROR_LIMIT);
    end(&s);
    close(fd);
}

ATF_TC_WITHOUT_HEAD(freed_in_handler);
ATF_TC_BODY(freed_in_handler, tc)
{
    struct seen s;
    int fd = begin(&s, NULL);

    s.free_in_line = true;
    put(fd, "one\ntwo\n");
    ev_run(s.loop, 0);
    ATF_CHECK_STREQ(buffer_cstr(&s.lines), "one|");
    end(&s);
    close(fd);
}

/* A peer that does not read is not read from, and in the end is closed. */
ATF_TC_WITHOUT_HEAD(output_capped);
ATF_TC_BODY(output_capped, tc)
{
    const struct line_limits limits = {.output_pause = 1000, .output_max = 4000000};
    struct seen s;
    int fd = begin(&s, &limits);
    char big[10001], got[65536];
    ssize_t n;
    size_t total = 0;

    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    for (int i = 0; i < 300; i++)
        line_conn_print(s.conn, "%s\n", big);
    ATF_CHECK(line_conn_full(s.conn));
    put(fd, "waits\n");
    ev_run(s.loop, EVRUN_NOWAIT);
    ATF_CHECK_EQ(s.lines.size, 0);
    while (total < 300 * 10001) {
        n = read(fd, got, sizeof(got));
        ATF_REQUIRE(n > 0);
        total += (size_t)n;
        ev_run(s.loop, EVRUN_NOWAIT);
    }
    while (s.lines.size == 0)
        ev_run(s.loop, EVRUN_ONCE);
    ATF_CHECK(s.drained);
    ATF_CHECK_STREQ(buffer_cstr(&s.lines), "waits|");
    for (int i = 0; i < 500; i++)
        line_conn_print(s.conn, "%s\n", big);
    ev_run(s.loop, 0);
    ATF_CHECK_EQ(s.class, ERROR_LIMIT);
    end(&s);
    close(fd);
}

ATF_TC_WITHOUT_HEAD(fields);
ATF_TC_BODY(fields, tc)
{
    struct arena *arena = arena_new();
    struct buffer b = {0};
    struct slice *word;
    struct rpc_fields f;
    size_t count;

    line_begin(&b, "OK");
    line_field_num(&b, 7);
    line_pair(&b, "user", "a\tb\n\001");
    line_pair(&b, "absent", NULL);
    line_field_str(&b, "bare");
    line_field_str(&b, "");
    line_end(&b);
    ATF_CHECK_STREQ(buffer_cstr(&b), "OK\t7\tuser=a\001tb\001n\0011\tbare\t\n");
    count = text_tab_fields(arena, slice_head(buffer_slice(&b), b.size - 1), &word);
    f = rpc_fields_parse(arena, word, count, 2);
    ATF_REQUIRE_EQ(f.count, 2);
    ATF_CHECK_STREQ(rpc_fields_get(&f, "user"), "a\tb\n\001");
    ATF_CHECK_STREQ(rpc_fields_get(&f, "bare"), "");
    ATF_CHECK(rpc_fields_get(&f, "absent") == NULL);
    ATF_CHECK(rpc_wildcard_match(SLICE("*a?c*"), SLICE("xxabcabd")));
    ATF_CHECK(!rpc_wildcard_match(SLICE("*a?c"), SLICE("xxabcabd")));
    buffer_free(&b);
    arena_free(arena);
}

/* ---- the client against recorded servers ---------------------------------------------------------------------- */

struct login {
    struct ev_loop *loop;
    struct auth_client *client;
    bool ready;
    struct error lost;
    enum auth_answer answer;
    unsigned answers;
    char text[256];
};

static void is_ready(void *arg)
{
    struct login *l = arg;

    l->ready = true;
    ev_break(l->loop, EVBREAK_ALL);
}

static void is_lost(void *arg, const struct error *e)
{
    struct login *l = arg;

    l->lost = *e;
    ev_break(l->loop, EVBREAK_ALL);
}

static void answered(void *arg, enum auth_answer answer, struct slice challenge, const struct rpc_fields *f)
{
    struct login *l = arg;

    l->answer = answer;
    l->answers++;
    l->text[0] = '\0';
    if (answer == AUTH_CONTINUE)
        snprintf(l->text, sizeof(l->text), "%.*s", (int)challenge.size, (const char *)challenge.at);
    for (size_t i = 0; i < f->count; i++)
        snprintf(l->text + strlen(l->text), sizeof(l->text) - strlen(l->text), "%s=%s;", f->at[i].key,
                 f->at[i].value == NULL ? "" : f->at[i].value);
    ev_break(l->loop, EVBREAK_ALL);
}

static const struct auth_client_handler client_handler = {is_ready, is_lost};

#define GREETING "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\tnew-flag\nSPID\t20223\nCUID\t1\n" \
                 "COOKIE\td78b80a88090191225d5be3e6d8aedeb\nDONE\n"

static int begin_login(struct login *l, const char *greeting)
{
    int pair[2];

    memset(l, 0, sizeof(*l));
    l->loop = ev_loop_new(EVFLAG_AUTO);
    ATF_REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    l->client = auth_client_new(l->loop, NULL, pair[0], 4242, &client_handler, l);
    put(pair[1], greeting);
    ev_run(l->loop, 0);
    return pair[1];
}

static void end_login(struct login *l, int fd)
{
    auth_client_free(l->client);
    ev_loop_destroy(l->loop);
    close(fd);
}

static const char *take(struct login *l, int fd)
{
    static char got[4096];
    ssize_t n;

    while ((n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT)) < 0)
        ev_run(l->loop, EVRUN_NOWAIT);
    got[n] = '\0';
    return got;
}

ATF_TC_WITHOUT_HEAD(login_client);
ATF_TC_BODY(login_client, tc)
{
    struct login l;
    int fd = begin_login(&l, GREETING);
    struct auth_request_info info = {.service = "imap", .mech = "plain", .secured = AUTH_SECURED_TLS,
                                     .session = "S\t1", .has_initial = true, .initial = SLICE("AGEAYg==")};
    struct auth_request *r;
    struct error e;
    size_t count;

    ATF_REQUIRE(l.ready);
    ATF_CHECK_EQ(auth_client_server_pid(l.client), 20223);
    ATF_CHECK_EQ(auth_client_cookie(l.client)[0], 0xd7);
    (void)auth_client_mechs(l.client, &count);
    ATF_CHECK_EQ(count, 2);
    ATF_CHECK_EQ(auth_client_mech(l.client, SLICE("cram-md5"))->flags, AUTH_MECH_DICTIONARY | AUTH_MECH_ACTIVE);
    (void)net_ip_parse(SLICE("192.0.2.9"), &info.remote.ip);
    info.remote.port = 4444;
    ATF_CHECK_STREQ(take(&l, fd), "VERSION\t1\t2\nCPID\t4242\n");
    r = auth_request_start(l.client, &info, answered, &l, &e);
    ATF_REQUIRE(r != NULL);
    ATF_CHECK_STREQ(take(&l, fd), "AUTH\t1\tPLAIN\tservice=imap\tsecured=tls\tsession=S\001t1\t"
                                  "rip=192.0.2.9\trport=4444\tresp=AGEAYg==\n");
    put(fd, "CONT\t1\tVXNlcm5hbWU6\n");
    ev_run(l.loop, 0);
    ATF_CHECK_EQ(l.answer, AUTH_CONTINUE);
    ATF_CHECK_STREQ(l.text, "VXNlcm5hbWU6");
    /* A TAB would be a field of the protocol (known-faults, 33603). */
    ATF_CHECK_EQ(-1, auth_request_continue(r, SLICE("YQ==\tnopassword"), &e));
    ATF_CHECK_EQ(0, auth_request_continue(r, SLICE("YQ=="), &e));
    ATF_CHECK_STREQ(take(&l, fd), "CONT\t1\tYQ==\n");
    put(fd, "OK\t1\tuser=a\t\tnologin\treason=x y\n");
    ev_run(l.loop, 0);
    ATF_CHECK_EQ(l.answer, AUTH_OK);
    ATF_CHECK_STREQ(l.text, "user=a;nologin=;reason=x y;");
    r = auth_request_start(l.client, &info, answered, &l, &e);
    auth_request_cancel(r);
    (void)auth_request_start(l.client, &info, answered, &l, &e);
    (void)take(&l, fd);
    put(fd, "FAIL\t2\tuser=late\nFAIL\t3\tuser=a\tcode=temp_fail\n");
    ev_run(l.loop, 0);
    ATF_CHECK_EQ(l.answer, AUTH_FAIL);
    ATF_CHECK_STREQ(l.text, "user=a;code=temp_fail;");
    (void)auth_request_start(l.client, &info, answered, &l, &e);
    (void)take(&l, fd);
    shutdown(fd, SHUT_RDWR);
    ev_run(l.loop, 0);
    ATF_CHECK_EQ(l.answer, AUTH_ABORTED);
    ATF_CHECK_EQ(l.answers, 4);
    ATF_CHECK(auth_request_start(l.client, &info, answered, &l, &e) == NULL);
    end_login(&l, fd);
}

/* Greetings without a needed part end the connection with a line that says which (known-faults: SPID). */
ATF_TC_WITHOUT_HEAD(bad_greetings);
ATF_TC_BODY(bad_greetings, tc)
{
    static const struct { const char *greeting, *why; } rows[] = {
        {"VERSION\t1\t2\nSPID\t1\nCOOKIE\td78b80a88090191225d5be3e6d8aedeb\nDONE\n", "returned no mechanisms"},
        {"VERSION\t1\t2\nMECH\tPLAIN\nSPID\t1\nDONE\n", "didn't send a cookie"},
        {"VERSION\t1\t2\nMECH\tPLAIN\nCOOKIE\td78b80a88090191225d5be3e6d8aedeb\nDONE\n", "didn't send its PID"},
        {"VERSION\t1\t2\nMECH\tPLAIN\nNEWCMD\tx\ty\n", "unknown handshake: NEWCMD"},
        {"VERSION\t2\t0\n", "not compatible"},
        {"MECH\tPLAIN\nSPID\t1\nCOOKIE\td78b80a88090191225d5be3e6d8aedeb\nDONE\n", "version"},
        {"COOKIE\tzz\n", "invalid cookie"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct login l;
        int fd = begin_login(&l, rows[i].greeting);
        ATF_CHECK(!l.ready);
        ATF_CHECK_MSG(strstr(l.lost.admin, rows[i].why) != NULL, "%s", l.lost.admin);
        end_login(&l, fd);
    }
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, lines);
    ATF_TP_ADD_TC(tp, too_long);
    ATF_TP_ADD_TC(tp, freed_in_handler);
    ATF_TP_ADD_TC(tp, output_capped);
    ATF_TP_ADD_TC(tp, fields);
    ATF_TP_ADD_TC(tp, login_client);
    ATF_TP_ADD_TC(tp, bad_greetings);
    return atf_no_error();
}
