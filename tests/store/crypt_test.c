/* Encryption of mail: streams, keys and their texts; messages and keys of the real server. */
#include "tests/store/coding_help.h"

#include <gnutls/abstract.h>

/* ---- encryption ---- */

struct one_key {
    struct crypt_ring ring;
    const struct crypt_key *key;
};

static const struct crypt_key *find_one(struct crypt_ring *ring, const unsigned char id[CRYPT_ID_SIZE], bool old,
                                        struct error *e)
{
    const struct crypt_key *key = ((struct one_key *)ring)->key;

    (void)e;
    return memcmp(old ? key->old_id : key->id, id, CRYPT_ID_SIZE) == 0 ? key : NULL;
}

/* 0 and the bytes, or -1. */
static int decrypted(const struct crypt_key *key, struct slice stored, struct buffer *out, struct error *e)
{
    struct mime_source source = mime_source_slice(stored);
    struct one_key ring = {{find_one}, key};
    unsigned char buf[5000];
    struct decoder *d;
    struct input in;
    ssize_t n;

    input_init(&in, decoder_of_source(&source));
    d = crypt_decode(&in, &ring.ring, e);
    if (d == NULL)
        return -1;
    while ((n = d->read(d, buf, sizeof(buf), e)) > 0)
        buffer_append(out, buf, (size_t)n);
    decoder_free(d);
    return n < 0 ? -1 : 0;
}

static struct buffer encrypted(const struct crypt_key *key, unsigned version, const char *suite_name, struct slice plain,
                               size_t piece)
{
    struct buffer out = {0};
    struct memory_sink last = to_memory(&out);
    struct crypt_suite suite;
    struct byte_sink *sink;
    struct error e;

    ATF_REQUIRE_EQ(crypt_suite_parse(slice_from_str(suite_name), &suite), 0);
    sink = crypt_encode_as(key, version, &suite, &last.sink);
    for (; plain.size > 0; plain = slice_from(plain, piece))
        ATF_REQUIRE_EQ(byte_sink_put(sink, slice_head(plain, piece), &e), 0);
    ATF_REQUIRE_EQ(byte_sink_finish(sink, &e), 0);
    byte_sinks_free(sink);
    return out;
}

ATF_TC_WITHOUT_HEAD(crypt_round_trips);
ATF_TC_BODY(crypt_round_trips, tc)
{
    static const char *const curves[] = {"prime256v1", "secp384r1", "secp521r1", "secp224r1", "prime192v1"};
    static const char *const suites[] = {"aes-256-gcm-sha256", "aes-256-cbc-sha1", "aes-128-gcm-sha512", "aes-128-cbc-sha384"};
    static const size_t sizes[] = {0, 1, 15, 16, 17, 20007, 32768, 100001};
    struct error e;

    (void)tc;
    for (size_t c = 0; c < 5; c++) {
        struct crypt_key *key = crypt_key_generate(crypt_curve_find(slice_from_str(curves[c])));
        struct crypt_key *other = crypt_key_generate(crypt_curve_find(slice_from_str(curves[c])));

        for (size_t i = 0; i < 8; i++) {
            unsigned version = (i + c) % 3 == 0 ? 1 : 2;
            struct buffer plain = sample(sizes[i], 1), back = {0}, stored;

            stored = encrypted(key, version, suites[(i + c) % 4], buffer_slice(&plain), i % 2 == 0 ? 7 : 50000);
            ATF_CHECK(crypt_is(buffer_slice(&stored)));
            ATF_CHECK_EQ_MSG(decrypted(key, buffer_slice(&stored), &back, &e), 0, "%s", e.admin);
            ATF_CHECK(slice_equal(buffer_slice(&back), buffer_slice(&plain)));
            buffer_free(&back);
            ATF_CHECK_EQ(decrypted(other, buffer_slice(&stored), &back, &e), -1);
            ATF_CHECK_EQ(e.class, ERROR_PERMISSION);
            buffer_free(&plain);
            buffer_free(&stored);
            buffer_free(&back);
        }
        crypt_key_free(&key);
        crypt_key_free(&other);
    }
}

/* With a tag nothing that was changed or cut is taken as whole. */
ATF_TC_WITHOUT_HEAD(crypt_damaged);
ATF_TC_BODY(crypt_damaged, tc)
{
    struct crypt_key *key = crypt_key_generate(crypt_curve_find(SLICE("prime256v1")));
    struct buffer plain = sample(1000, 1), stored, back = {0};
    struct error e;

    (void)tc;
    stored = encrypted(key, 2, "aes-256-gcm-sha256", buffer_slice(&plain), 1000);
    for (size_t size = 0; size < stored.size; size += 1 + size / 50) {
        ATF_CHECK_EQ_MSG(decrypted(key, slice_head(buffer_slice(&stored), size), &back, &e), -1, "%zu", size);
        buffer_free(&back);
    }
    for (size_t at = 0; at < stored.size; at += 1 + (size_t)rand() % 9) {
        stored.at[at] ^= (unsigned char)(1 << at % 8);
        /* Rounds of a key derivation are capped; that byte may still cost seconds. */
        if (at < 40 || at >= 44)
            ATF_CHECK_EQ_MSG(decrypted(key, buffer_slice(&stored), &back, &e), -1, "%zu", at);
        stored.at[at] ^= (unsigned char)(1 << at % 8);
        buffer_free(&back);
    }
    ATF_CHECK_EQ(decrypted(key, buffer_slice(&stored), &back, &e), 0);
    buffer_free(&back);
    buffer_free(&plain);
    buffer_free(&stored);
    crypt_key_free(&key);
}

/* A key and messages of the real server. */
ATF_TC_WITHOUT_HEAD(crypt_vectors);
ATF_TC_BODY(crypt_vectors, tc)
{
    static const char pem[] =
        "-----BEGIN PRIVATE KEY-----\n"
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdsIbQX3NjPCDJpD2\n"
        "DOcdmh0RZ+TlaTUaMg91ifbdHGqhRANCAARzosnqHYS4IeWkXIjXt9RK4ON3vBTI\n"
        "54hALYVN2/0kHlv9IQJ7GQ+xA37oYKFgl8BDPc/n5JribebVTMcWT4RJ\n"
        "-----END PRIVATE KEY-----\n";
    static const char *const made[] = {
        "4352595054454403070200000002000000ff060960864801650304012e060960864801650304020100000800000000cf0102"
        "89ba02d9be1af1baab6ae8aa3affca1bd55ad060a6983a2040309cf4717b40a60000004104f382c4667af3af9f1546a314ee"
        "67be03df99cadf79250c7f99a949d94f6534dd28ca0df53efaffe7a863b24b5e56ec792d136ab5054e32ac387bc53c544dbe"
        "0700000040ece534ebcbff634eb013170b68921221dc142489d28e5b114963aea34d7c06c7f6bd1cbc3fff36acc21bd46604"
        "6e5f9c1df1c36c0f03d19e6a0d62e2e1e87e7f00000020efb2614208d74babbb2160bc35cda7f45ff010a6609e439d6b8a82"
        "2e9cb4c04679f5e75ead45c939e01cb6298c66e72cc89e5c8a6013eed5b025f4cf33469fa2ca9949336bebf57d7b4926e1af"
        "1c8f9adb37a8f1e354ffd9c86c",
        "4352595054454403070100a9004104acf0614cadbc86a2330755ac33ccbcb4daf94eec906f0e8a199bb8e26ab232aeeff54a"
        "053b387b900f3d46e15c83fc5936bb1eb1a6590cd2fc707d1cb6171505002056a875d9fcf4fabd1d6fbd45881e427462992a"
        "d3f8c403a5756f1c7162e9698500204c14365a15ad5d9cf666a27c92b79ca63685694ff7eafd357d956d7c36d6e0c90020a1"
        "651430dcac0c42a3dc57c3bc863d959b0ff5504c15f11ea15f269caf519c5d6390efa951610dc1e3233fc5174e50b4375dbc"
        "e75b2ae946b6406ed6227847bf8fa6331d411e63f501ab",
    };
    struct crypt_key *key;
    struct error e;

    (void)tc;
    ATF_REQUIRE_EQ_MSG(crypt_key_private(slice_from_str(pem), NULL, &key, &e), 0, "%s", e.admin);
    for (size_t i = 0; i < sizeof(made) / sizeof(*made); i++) {
        struct buffer stored = {0}, back = {0};

        ATF_REQUIRE_EQ(text_hex_decode(&stored, slice_from_str(made[i])), 0);
        ATF_CHECK_EQ_MSG(decrypted(key, buffer_slice(&stored), &back, &e), 0, "%s", e.admin);
        ATF_CHECK(slice_equal_str(buffer_slice(&back), "Subject: x\n\nhello world\nhello world\nhello\n"));
        buffer_free(&stored);
        buffer_free(&back);
    }
    crypt_key_free(&key);
}

static struct crypt_key *new_rsa(unsigned bits, struct crypt_key **public, struct error *e)
{
    struct crypt_key *key = NULL;
    gnutls_x509_privkey_t private;
    gnutls_pubkey_t half;
    gnutls_privkey_t whole;
    gnutls_datum_t pem;

    ATF_REQUIRE(gnutls_x509_privkey_init(&private) == 0 && gnutls_x509_privkey_generate(private, GNUTLS_PK_RSA, bits, 0) == 0);
    ATF_REQUIRE(gnutls_pubkey_init(&half) == 0 && gnutls_privkey_init(&whole) == 0 &&
                gnutls_privkey_import_x509(whole, private, 0) == 0 && gnutls_pubkey_import_privkey(half, whole, 0, 0) == 0);
    ATF_REQUIRE_EQ(0, gnutls_x509_privkey_export2_pkcs8(private, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem));
    (void)crypt_key_private(slice_of(pem.data, pem.size), NULL, &key, e);
    gnutls_free(pem.data);
    ATF_REQUIRE_EQ(0, gnutls_pubkey_export2(half, GNUTLS_X509_FMT_PEM, &pem));
    if (key != NULL)
        ATF_REQUIRE_EQ_MSG(0, crypt_key_public(slice_of(pem.data, pem.size), public, e), "%s", e->admin);
    gnutls_free(pem.data);
    gnutls_privkey_deinit(whole);
    gnutls_pubkey_deinit(half);
    gnutls_x509_privkey_deinit(private);
    return key;
}

ATF_TC_WITHOUT_HEAD(key_texts);
ATF_TC_BODY(key_texts, tc)
{
    static const char *const curves[] = {"prime256v1", "secp384r1", "secp521r1", "prime192v1"};
    static const char *const bad[] = {"", "x", "2:", "2:a:b", "1:a:b:c", "2:1.2.840.10045.3.1.7:0:00000001ff:aa", "-----BEGIN X",
                                      "2:1.2.3:0:00000001ff:aa", "2:1.2.840.113549.1.1.1:0:3003020100:aa"};
    struct error e;

    (void)tc;
    for (size_t c = 0; c < 6; c++) { /* 4: an RSA key; 5: a key wrapped for one */
        struct crypt_key *half = NULL, *again = NULL;
        struct crypt_key *key = c == 4 ? new_rsa(1024, &half, &e) : crypt_key_generate(crypt_curve_find(slice_from_str(curves[c % 4])));
        struct crypt_key *owner = c == 5 ? new_rsa(1024, &half, &e) : crypt_key_generate(crypt_curve_find(SLICE("prime256v1")));
        struct buffer text = {0};
        unsigned char id[CRYPT_ID_SIZE];

        crypt_key_public_text(key, &text);
        ATF_REQUIRE_EQ_MSG(crypt_key_public(buffer_slice(&text), &again, &e), 0, "%s: %s", curves[c], e.admin);
        ATF_CHECK(memcmp(again->id, key->id, CRYPT_ID_SIZE) == 0);
        crypt_key_free(&again);
        buffer_reset(&text);
        ATF_REQUIRE_EQ(crypt_key_pem(key, &text, &e), 0);
        ATF_REQUIRE_EQ_MSG(crypt_key_private(buffer_slice(&text), NULL, &again, &e), 0, "%s", e.admin);
        ATF_CHECK(memcmp(again->id, key->id, CRYPT_ID_SIZE) == 0);
        crypt_key_free(&again);
        for (int wrap = 0; wrap < 3; wrap++) {
            buffer_reset(&text);
            crypt_key_private_text(key, wrap == 1 ? owner : NULL, wrap == 2 ? "secret" : NULL, &text);
            ATF_CHECK_EQ(crypt_key_wrap_of(buffer_slice(&text), id), (enum crypt_wrap)wrap);
            if (wrap == 1) {
                ATF_CHECK(memcmp(id, owner->id, CRYPT_ID_SIZE) == 0);
                ATF_CHECK_EQ(crypt_key_private(buffer_slice(&text), NULL, &again, &e), -1);
                ATF_REQUIRE_EQ_MSG(crypt_key_unwrap(buffer_slice(&text), owner, &again, &e), 0, "%s", e.admin);
            } else {
                ATF_REQUIRE_EQ_MSG(crypt_key_private(buffer_slice(&text), "secret", &again, &e), 0, "%s", e.admin);
            }
            ATF_CHECK(memcmp(again->id, key->id, CRYPT_ID_SIZE) == 0);
            crypt_key_free(&again);
            if (wrap == 2) {
                ATF_CHECK_EQ(crypt_key_private(buffer_slice(&text), "other", &again, &e), -1);
                ATF_CHECK_EQ(crypt_key_private(buffer_slice(&text), NULL, &again, &e), -1);
            }
        }
        crypt_key_free(&key);
        crypt_key_free(&owner);
        crypt_key_free(&half);
        buffer_free(&text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct crypt_key *key;

        ATF_CHECK_EQ(crypt_key_private(slice_from_str(bad[i]), NULL, &key, &e), -1);
        ATF_CHECK_EQ(crypt_key_public(slice_from_str(bad[i]), &key, &e), -1);
    }
}

/* RSA keys: every secret comes back, whatever is wrong with a block does not. */
ATF_TC_WITHOUT_HEAD(rsa);
ATF_TC_BODY(rsa, tc)
{
    const struct slice secret = SLICE("a secret of sixty-four bytes, as aes-256-cbc with its MAC has it");
    struct crypt_key *public = NULL, *key, *other_public = NULL, *other;
    struct buffer wrapped = {0}, plain = {0};
    struct error e;

    (void)tc;
    key = new_rsa(1024, &public, &e);
    ATF_REQUIRE_MSG(key != NULL, "%s", e.admin);
    ATF_CHECK(memcmp(key->id, public->id, CRYPT_ID_SIZE) == 0 && key->has_private && !public->has_private);
    for (size_t n = 0; n <= secret.size; n++) {
        ATF_REQUIRE_EQ(0, crypt_rsa_wrap(public, slice_head(secret, n), &wrapped));
        ATF_REQUIRE_EQ(0, crypt_rsa_unwrap(key, buffer_slice(&wrapped), &plain));
        ATF_CHECK(slice_equal(buffer_slice(&plain), slice_head(secret, n)));
        if (n < secret.size)
            buffer_reset(&wrapped);
        buffer_reset(&plain);
    }
    ATF_CHECK_EQ(-1, crypt_rsa_unwrap(public, buffer_slice(&wrapped), &plain));
    for (size_t i = 0; i < wrapped.size; i++) {
        wrapped.at[i] ^= (unsigned char)(1u << i % 8);
        ATF_CHECK_EQ(-1, crypt_rsa_unwrap(key, buffer_slice(&wrapped), &plain));
        wrapped.at[i] ^= (unsigned char)(1u << i % 8);
        ATF_CHECK_EQ(-1, crypt_rsa_unwrap(key, slice_head(buffer_slice(&wrapped), i), &plain));
    }
    ATF_CHECK_EQ(0, plain.size);
    other = new_rsa(1024, &other_public, &e);
    ATF_REQUIRE_MSG(other != NULL, "%s", e.admin);
    ATF_CHECK_EQ(-1, crypt_rsa_unwrap(other, buffer_slice(&wrapped), &plain));
    ATF_CHECK_MSG(new_rsa(512, NULL, &e) == NULL, "a key that no secret fits into was taken");
    crypt_key_free(&key);
    crypt_key_free(&public);
    crypt_key_free(&other);
    crypt_key_free(&other_public);
    buffer_free(&wrapped);
    buffer_free(&plain);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, crypt_round_trips);
    ATF_TP_ADD_TC(tp, crypt_damaged);
    ATF_TP_ADD_TC(tp, crypt_vectors);
    ATF_TP_ADD_TC(tp, key_texts);
    ATF_TP_ADD_TC(tp, rsa);

    return atf_no_error();
}
