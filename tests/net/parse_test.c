/* Addresses, the PROXY protocol, cipher lists. */
#include "net/net.h"

#include <atf-c.h>
#include <gnutls/gnutls.h>

ATF_TC_WITHOUT_HEAD(addresses);
ATF_TC_BODY(addresses, tc)
{
    struct net_ip ip, other;
    char text[NET_IP_TEXT];

    ATF_REQUIRE(net_ip_parse(SLICE("127.0.0.1"), &ip));
    ATF_CHECK_STREQ(net_ip_text(&ip, text), "127.0.0.1");
    ATF_REQUIRE(net_ip_parse(SLICE("::ffff:127.0.0.1"), &other));
    ATF_CHECK(net_ip_equal(&ip, &other));
    ATF_CHECK(net_ip_in(&ip, "10.0.0.0/8, 127.0.0.0/8"));
    ATF_CHECK(!net_ip_in(&ip, "10.0.0.0/8 ::1 nonsense 127.0.0.1/33"));
    ATF_REQUIRE(net_ip_parse(SLICE("2001:db8::5"), &ip));
    ATF_CHECK(net_ip_in(&ip, "2001:db8::/33"));
    ATF_CHECK(!net_ip_in(&ip, "2001:db8:8000::/33"));
    ATF_CHECK(!net_ip_parse(SLICE("127.0.0.1\0.evil"), &ip));
    ATF_CHECK(!net_ip_parse(SLICE("localhost"), &ip));
}

static enum step parse(const void *bytes, size_t size, struct haproxy_header *h, struct error *e)
{
    return haproxy_parse(slice_of(bytes, size), h, e);
}

ATF_TC_WITHOUT_HEAD(haproxy_v1);
ATF_TC_BODY(haproxy_v1, tc)
{
    static const char good[] = "PROXY TCP4 192.0.2.1 198.51.100.2 4444 993\r\nrest";
    struct haproxy_header h;
    struct error e;
    char text[NET_IP_TEXT];

    for (size_t n = 0; n < sizeof(good) - 5; n++)
        ATF_CHECK_EQ(parse(good, n, &h, &e), STEP_INPUT);
    ATF_REQUIRE_EQ(parse(good, sizeof(good) - 1, &h, &e), STEP_DONE);
    ATF_CHECK_EQ(h.size, sizeof(good) - 5);
    ATF_CHECK_STREQ(net_ip_text(&h.source.ip, text), "192.0.2.1");
    ATF_CHECK_EQ(h.source.port, 4444);
    ATF_CHECK_EQ(h.destination.port, 993);
    ATF_CHECK_EQ(parse("PROXY UNKNOWN whatever\r\n", 24, &h, &e), STEP_DONE);
    ATF_CHECK(h.local);
    ATF_CHECK_EQ(parse("PROXY FOO 1 2 3 4\r\n", 19, &h, &e), STEP_ERROR);
    ATF_CHECK_STREQ(e.admin, "haproxy(v1): Client disconnected: Unknown proxied protocol (protocol=`FOO')");
    ATF_CHECK_EQ(parse("PROXY TCP4 a b 3 4\r\n", 20, &h, &e), STEP_ERROR);
    ATF_CHECK_STREQ(e.admin, "haproxy(v1): Client disconnected: Proxied remote address is invalid");
    ATF_CHECK_EQ(parse("GET / HTTP/1.0\r\n", 16, &h, &e), STEP_ERROR);
    ATF_CHECK_STREQ(e.admin, "haproxy: Client disconnected: Failed to read valid HAproxy data");
    char endless[200];
    memset(endless, 'x', sizeof(endless));
    memcpy(endless, "PROXY TCP4 ", 11);
    ATF_CHECK_EQ(parse(endless, sizeof(endless), &h, &e), STEP_ERROR);
}

ATF_TC_WITHOUT_HEAD(haproxy_v2);
ATF_TC_BODY(haproxy_v2, tc)
{
    unsigned char in[64] = "\r\n\r\n\0\r\nQUIT\n";
    struct haproxy_header h;
    struct error e;
    char text[NET_IP_TEXT];

    memcpy(in + 12, "\x21\x11\x00\x15", 4);
    memcpy(in + 16, "\xc0\x00\x02\x07\xc6\x33\x64\x01\x11\x5c\x03\xe1", 12);
    memcpy(in + 28, "\x02\x00\x06x.test", 9);
    for (size_t n = 8; n < 37; n++)
        ATF_CHECK_EQ_MSG(parse(in, n, &h, &e), STEP_INPUT, "%zu", n);
    ATF_REQUIRE_EQ(parse(in, sizeof(in), &h, &e), STEP_DONE);
    ATF_CHECK_EQ(h.size, 37);
    ATF_CHECK_STREQ(net_ip_text(&h.source.ip, text), "192.0.2.7");
    ATF_CHECK_EQ(h.destination.port, 993);
    ATF_CHECK_STREQ(h.authority, "x.test");
    in[30] = 99; /* the TLV is longer than the header */
    ATF_CHECK_EQ(parse(in, sizeof(in), &h, &e), STEP_ERROR);
    ATF_CHECK_MATCH("Invalid TLV: get_tlv\\(0\\) failed: Truncated data \\(cmd=01", e.admin);
    in[30] = 6;
    in[13] = 0x12;
    ATF_CHECK_EQ(parse(in, sizeof(in), &h, &e), STEP_ERROR);
    ATF_CHECK_MATCH("Not using TCP \\(type=02", e.admin);
    in[12] = 0x20;
    ATF_CHECK_EQ(parse(in, sizeof(in), &h, &e), STEP_DONE);
    ATF_CHECK(h.local);
    in[14] = 0xff;
    ATF_CHECK_EQ(parse(in, sizeof(in), &h, &e), STEP_ERROR);
    ATF_CHECK_MATCH("Too long header", e.admin);
}

/* The TLS 1.2 suites that a priority string enables, by GnuTLS's names, in order. */
static char *suites_of(const char *list, struct error *e)
{
    struct tls_settings set = {.cipher_list = list, .min_protocol = "TLSv1.2"};
    struct buffer words = {0}, out = {0};
    gnutls_priority_t priority;
    char *text;

    if (tls_priority(&set, TLS_PRIORITY_BEFORE_13, &words, e) < 0) {
        buffer_free(&words);
        return NULL;
    }
    ATF_REQUIRE_EQ_MSG(gnutls_priority_init(&priority, buffer_cstr(&words), NULL), 0, "%s", buffer_cstr(&words));
    for (unsigned i = 0;; i++) {
        unsigned index;
        gnutls_protocol_t version;
        int r = gnutls_priority_get_cipher_suite_index(priority, i, &index);
        if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (r < 0)
            continue;
        const char *name = gnutls_cipher_suite_info(index, NULL, NULL, NULL, NULL, &version);
        if (name != NULL && version <= GNUTLS_TLS1_2)
            buffer_printf(&out, "%s ", name);
    }
    gnutls_priority_deinit(priority);
    buffer_free(&words);
    text = mem_strdup(buffer_cstr(&out));
    buffer_free(&out);
    return text;
}

ATF_TC_WITHOUT_HEAD(cipher_lists);
ATF_TC_BODY(cipher_lists, tc)
{
    struct error e;
    char *got;

    got = suites_of("EECDH+AESGCM:EDH+AESGCM", &e);
    ATF_CHECK_STREQ(got, "TLS_ECDHE_ECDSA_AES_256_GCM_SHA384 TLS_ECDHE_ECDSA_AES_128_GCM_SHA256 "
                         "TLS_ECDHE_RSA_AES_256_GCM_SHA384 TLS_ECDHE_RSA_AES_128_GCM_SHA256 "
                         "TLS_DHE_RSA_AES_256_GCM_SHA384 TLS_DHE_RSA_AES_128_GCM_SHA256 ");
    mem_free(got);
    got = suites_of("FOO:ECDHE+CHACHA20", &e);
    ATF_CHECK_STREQ(got, "TLS_ECDHE_ECDSA_CHACHA20_POLY1305 TLS_ECDHE_RSA_CHACHA20_POLY1305 ");
    mem_free(got);
    /* Nothing that the list excludes is ever on: no CBC, no plain RSA, no DHE. */
    got = suites_of("ALL:!kRSA:!DHE:!SHA1:!SHA256:!SHA384:!AES128", &e);
    ATF_CHECK(got[0] != '\0');
    ATF_CHECK(strstr(got, "CBC") == NULL);
    ATF_CHECK(strstr(got, "TLS_RSA") == NULL);
    ATF_CHECK(strstr(got, "DHE_RSA_AES_256") == NULL || strstr(got, "TLS_DHE") == NULL);
    ATF_CHECK(strstr(got, "AES_128") == NULL);
    mem_free(got);
    /* Dovecot's default. */
    got = suites_of("ALL:!kRSA:!SRP:!kDHd:!DSS:!aNULL:!eNULL:!EXPORT:!DES:!3DES:!MD5:!PSK:!RC4:!ADH:!LOW@STRENGTH", &e);
    ATF_CHECK(strstr(got, "TLS_ECDHE_RSA_AES_256_GCM_SHA384") != NULL);
    ATF_CHECK(strstr(got, "TLS_RSA_") == NULL);
    ATF_CHECK(strstr(got, "3DES") == NULL);
    mem_free(got);
    ATF_CHECK(suites_of("ALL:COMPLEMENTOFALL:-ALL", &e) == NULL);
    ATF_CHECK_MATCH("^Can't set cipher list to 'ALL:COMPLEMENTOFALL:-ALL' \\(ssl_cipher_list setting\\): ", e.admin);
    ATF_CHECK(suites_of("FOO", &e) == NULL);
}

ATF_TC_WITHOUT_HEAD(tls_words);
ATF_TC_BODY(tls_words, tc)
{
    struct tls_settings set = {.min_protocol = "TLSv9"};
    struct buffer words = {0};
    struct error e;

    ATF_CHECK_EQ(tls_priority(&set, TLS_PRIORITY_START, &words, &e), -1);
    ATF_CHECK_STREQ(e.admin, "Unknown ssl_min_protocol setting 'TLSv9'");
    set.min_protocol = "tlsv1.3";
    buffer_reset(&words);
    ATF_REQUIRE_EQ(tls_priority(&set, TLS_PRIORITY_START, &words, &e), 0);
    ATF_CHECK(strstr(buffer_cstr(&words), "VERS-TLS1.2") == NULL);
    set.curve_list = "X25519:nonsense";
    buffer_reset(&words);
    ATF_CHECK_EQ(tls_priority(&set, TLS_PRIORITY_START, &words, &e), -1);
    ATF_CHECK_STREQ(e.admin, "Can't set curve list to 'X25519:nonsense' (ssl_curve_list setting)");
    buffer_free(&words);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, addresses);
    ATF_TP_ADD_TC(tp, haproxy_v1);
    ATF_TP_ADD_TC(tp, haproxy_v2);
    ATF_TP_ADD_TC(tp, cipher_lists);
    ATF_TP_ADD_TC(tp, tls_words);
    return atf_no_error();
}
