/* Requests of login processes (a recorded one of ipc 7.2), and the messages to workers. */
#include "dispatch/dispatch_impl.h"

#include <atf-c.h>

static void from_hex(const char *text, unsigned char *out, size_t size)
{
    struct buffer bytes = {0};

    ATF_REQUIRE_EQ(text_hex_decode(&bytes, slice_from_str(text)), 0);
    ATF_REQUIRE_EQ(bytes.size, size);
    memcpy(out, bytes.at, size);
    buffer_free(&bytes);
}

static const char recorded[] =
    "01000000c765000001000000cf6500004117251f4e023ec21c0c08c505cfb43a"
    "020000007f000001000000000000000000000000020000007f000005000000000000000000000000"
    "c3533dc10000000027000000000000004756060000000000";

ATF_TC_WITHOUT_HEAD(recorded_request);
ATF_TC_BODY(recorded_request, tc)
{
    unsigned char bytes[LOGIN_REQUEST_SIZE];
    struct login_request r;
    struct error e;
    char text[NET_IP_TEXT];

    (void)tc;
    from_hex(recorded, bytes, sizeof(bytes));
    ATF_REQUIRE_EQ(login_request_read(bytes, &r, &e), 0);
    ATF_CHECK_EQ(r.tag, 1);
    ATF_CHECK_EQ(r.auth_pid, 0x65c7);
    ATF_CHECK_EQ(r.client_pid, 0x65cf);
    ATF_CHECK_EQ(r.cookie[0], 0x41);
    ATF_CHECK_STREQ(net_ip_text(&r.local.ip, text), "127.0.0.1");
    ATF_CHECK_STREQ(net_ip_text(&r.remote.ip, text), "127.0.0.5");
    ATF_CHECK_EQ(r.local.port, 0x53c3);
    ATF_CHECK_EQ(r.data_size, 39);
    ATF_CHECK_EQ(r.inode, 0x65647);
    bytes[32] = 7; /* an address family that does not exist */
    ATF_CHECK_EQ(login_request_read(bytes, &r, &e), -1);
    bytes[32] = 2;
    bytes[82] = 1; /* 65 575 bytes of data */
    ATF_CHECK_EQ(login_request_read(bytes, &r, &e), -1);
}

ATF_TC_WITHOUT_HEAD(data);
ATF_TC_BODY(data, tc)
{
    static const char bytes[] = "lUxkPPxgPcF/AAAF\0" "0tag1\0" "b SELECT INBOX\r\n";
    struct login_data d;

    (void)tc;
    login_data_read(slice_of(bytes, sizeof(bytes) - 1), true, &d);
    ATF_CHECK(slice_equal_str(d.session, "lUxkPPxgPcF/AAAF"));
    ATF_CHECK(d.has_tag);
    ATF_CHECK(!d.nocap);
    ATF_CHECK(slice_equal_str(d.tag, "tag1"));
    ATF_CHECK(slice_equal_str(d.input, "b SELECT INBOX\r\n"));
    login_data_read(slice_of(bytes, 17), true, &d);
    ATF_CHECK(!d.has_tag);
    login_data_read(slice_of("s\0QUIT\r\n", 8), false, &d);
    ATF_CHECK(slice_equal_str(d.input, "QUIT\r\n"));
    login_data_read(SLICE_EMPTY, true, &d);
    ATF_CHECK(!d.has_tag);
    ATF_CHECK_EQ(d.input.size, 0);
}

ATF_TC_WITHOUT_HEAD(answer);
ATF_TC_BODY(answer, tc)
{
    unsigned char bytes[LOGIN_ANSWER_SIZE], wanted[LOGIN_ANSWER_SIZE];

    (void)tc;
    from_hex("0100000000000000d1650000", wanted, sizeof(wanted));
    login_answer_write(bytes, 1, 0, 0x65d1);
    ATF_CHECK_EQ(memcmp(bytes, wanted, sizeof(bytes)), 0);
}

/* What is written is what is read, with every byte that needs escaping. */
ATF_TC_WITHOUT_HEAD(messages);
ATF_TC_BODY(messages, tc)
{
    struct rpc_field fields[] = {{"uid", "1000"}, {"home", "/srv/a\tb\nc=d"}, {"plain", NULL}, {"session", "evil"}};
    struct dispatch_request in = {.id = 77, .service = "imap", .user = "u\t\r\n\001x", .session = "S=1",
                                  .secured = true, .tls = true, .nocap = true, .tag = "a1", .login_pid = 12,
                                  .created_usecs = 1795480321906601ull, .userdb = {fields, 4},
                                  .input = SLICE("b NOOP\r\n\0x")};
    struct dispatch_request out;
    struct arena *arena = arena_new();
    struct buffer packet = {0};
    struct error e;

    (void)tc;
    ATF_REQUIRE(net_ip_parse(SLICE("2001:db8::1"), &in.remote.ip));
    in.remote.port = 4321;
    ATF_REQUIRE_EQ(dispatch_request_write(&packet, &in, &e), 0);
    ATF_REQUIRE_EQ(dispatch_request_read(arena, buffer_slice(&packet), &out, &e), 0);
    ATF_CHECK_EQ(out.id, 77);
    ATF_CHECK(!out.job);
    ATF_CHECK_STREQ(out.service, "imap");
    ATF_CHECK_STREQ(out.user, in.user);
    ATF_CHECK_STREQ(out.session, "S=1");
    ATF_CHECK_STREQ(out.tag, "a1");
    ATF_CHECK(out.secured && out.tls && out.nocap && !out.tls_implicit && !out.compressed);
    ATF_CHECK(net_ip_equal(&out.remote.ip, &in.remote.ip));
    ATF_CHECK_EQ(out.remote.port, 4321);
    ATF_CHECK_EQ(out.local.ip.family, 0);
    ATF_CHECK_EQ(out.created_usecs, in.created_usecs);
    ATF_CHECK_EQ(out.userdb.count, 4);
    ATF_CHECK_STREQ(rpc_fields_get(&out.userdb, "home"), "/srv/a\tb\nc=d");
    ATF_CHECK(rpc_fields_has(&out.userdb, "plain"));
    ATF_CHECK(slice_equal(out.input, in.input));
    buffer_free(&packet);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(bad_messages);
ATF_TC_BODY(bad_messages, tc)
{
    const struct slice bad[] = {SLICE(""), SLICE("SESSION\t1\timap\tu"), SLICE("HELLO\t1\timap\tu\0"),
                                       SLICE("SESSION\tx\timap\tu\0"), SLICE("SESSION\t1\t\tu\0"),
                                       SLICE("SESSION\t1\0"), SLICE("\0\0\0"),
                                SLICE("SESSION\t1\timap\tu\0010x\0"), SLICE("SESSION\t1\timap\tu\t+home=a\0010\0")};
    struct dispatch_request out;
    struct arena *arena = arena_new();
    struct error e;
    char big[DISPATCH_MESSAGE_MAX];
    struct dispatch_request in = {.id = 1, .service = "imap", .user = big, .session = ""};
    struct buffer packet = {0};

    (void)tc;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ATF_CHECK_EQ_MSG(dispatch_request_read(arena, bad[i], &out, &e), -1, "message %zu", i);
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    ATF_CHECK_EQ(dispatch_request_write(&packet, &in, &e), -1);
    buffer_free(&packet);
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, recorded_request);
    ATF_TP_ADD_TC(tp, data);
    ATF_TP_ADD_TC(tp, answer);
    ATF_TP_ADD_TC(tp, messages);
    ATF_TP_ADD_TC(tp, bad_messages);
    return atf_no_error();
}
