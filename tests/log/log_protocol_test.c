/* The log protocol: recorded lines of the real server (ipc 3), and what must not be believed. */
#include "log/log_protocol.h"

#include <atf-c.h>

#define LINE(literal) slice_of(literal, sizeof(literal) - 1)

ATF_TC_WITHOUT_HEAD(recorded);
ATF_TC_BODY(recorded, tc)
{
    struct log_message m;

    (void)tc;
    log_protocol_parse(LINE("\001\01031125 prefix=x: "), &m);
    ATF_CHECK(!m.plain);
    ATF_CHECK_EQ(m.type, LOG_PROTOCOL_OPTION);
    ATF_CHECK_EQ(m.pid, 31125);
    ATF_CHECK(slice_equal_str(m.text, "prefix=x: "));
    log_protocol_parse(LINE("\001\00531131 Missing script path"), &m);
    ATF_CHECK_EQ(m.type, LOG_LEVEL_FATAL);
    ATF_CHECK_EQ(m.pid, 31131);
    ATF_CHECK(!m.has_prefix);
    ATF_CHECK(slice_equal_str(m.text, "Missing script path"));
}

ATF_TC_WITHOUT_HEAD(prefix_of_a_message);
ATF_TC_BODY(prefix_of_a_message, tc)
{
    struct log_message m;

    (void)tc;
    log_protocol_parse(LINE("\001\10212 9 imap(u): text"), &m); /* 0x42: info with a prefix */
    ATF_CHECK(!m.plain);
    ATF_CHECK_EQ(m.type, LOG_LEVEL_INFO);
    ATF_CHECK(m.has_prefix);
    ATF_CHECK(slice_equal_str(m.prefix, "imap(u): "));
    ATF_CHECK(slice_equal_str(m.text, "text"));
    log_protocol_parse(LINE("\001\20212 text"), &m); /* 0x82: without the service's prefix */
    ATF_CHECK(m.no_service_prefix);
    ATF_CHECK(!m.has_prefix);
}

ATF_TC_WITHOUT_HEAD(not_believed);
ATF_TC_BODY(not_believed, tc)
{
    const struct slice lines[] = {
        LINE(""), LINE("plain words"), LINE("\001"), LINE("\001\002"), LINE("\001\002x text"),
        LINE("\001\00212"), LINE("\001\0000"), LINE("\001\01012 not a type"), LINE("\001\07712 text"),
        LINE("\001\10212 99 short"), LINE("\001\10212 -1 x"), LINE("\001\10299999999999 1 x"),
        LINE("\001\10212 4294967295 x"), LINE("\001\002 12 x"),
    };
    struct log_message m;

    (void)tc;
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        log_protocol_parse(lines[i], &m);
        if (i == 7) {
            ATF_CHECK_MSG(!m.plain && m.type == LOG_PROTOCOL_OPTION, "line %zu", i);
            continue;
        }
        ATF_CHECK_MSG(m.plain, "line %zu", i);
        ATF_CHECK_EQ(m.type, LOG_LEVEL_ERROR);
        ATF_CHECK(slice_equal(m.text, lines[i]));
    }
}

ATF_TC_WITHOUT_HEAD(handshake);
ATF_TC_BODY(handshake, tc)
{
    unsigned char bytes[8 + 6] = {0};
    uint32_t magic = LOG_PROTOCOL_MAGIC, size = 6;
    struct slice prefix;
    size_t used;

    (void)tc;
    memcpy(bytes, &magic, 4);
    memcpy(bytes + 4, &size, 4);
    memcpy(bytes + 8, "auth: ", 6);
    for (size_t n = 0; n < sizeof(bytes); n++)
        ATF_CHECK_EQ(log_protocol_handshake(slice_of(bytes, n), &prefix, &used), 0);
    ATF_REQUIRE_EQ(log_protocol_handshake(slice_of(bytes, sizeof(bytes)), &prefix, &used), 1);
    ATF_CHECK_EQ(used, sizeof(bytes));
    ATF_CHECK(slice_equal_str(prefix, "auth: "));
    size = 100000;
    memcpy(bytes + 4, &size, 4);
    ATF_CHECK_EQ(log_protocol_handshake(slice_of(bytes, sizeof(bytes)), &prefix, &used), -1);
    ATF_CHECK_EQ(log_protocol_handshake(LINE("\001\0021 x"), &prefix, &used), -1);
}

ATF_TC_WITHOUT_HEAD(orders);
ATF_TC_BODY(orders, tc)
{
    struct log_order o;

    (void)tc;
    ATF_REQUIRE(log_protocol_order(LINE("12 345 BYE"), &o));
    ATF_CHECK_EQ(o.fd, 12);
    ATF_CHECK_EQ(o.pid, 345);
    ATF_CHECK_EQ(o.what, LOG_ORDER_BYE);
    ATF_REQUIRE(log_protocol_order(LINE("12 345 DEFAULT-FATAL service(x): child 345 returned error 89"), &o));
    ATF_CHECK_EQ(o.what, LOG_ORDER_DEFAULT_FATAL);
    ATF_CHECK(slice_equal_str(o.text, "service(x): child 345 returned error 89"));
    ATF_CHECK(!log_protocol_order(LINE("12 BYE"), &o));
    ATF_CHECK(!log_protocol_order(LINE("12 345 HELLO"), &o));
    ATF_CHECK(!log_protocol_order(LINE(""), &o));
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, recorded);
    ATF_TP_ADD_TC(tp, prefix_of_a_message);
    ATF_TP_ADD_TC(tp, not_believed);
    ATF_TP_ADD_TC(tp, handshake);
    ATF_TP_ADD_TC(tp, orders);
    return atf_no_error();
}
