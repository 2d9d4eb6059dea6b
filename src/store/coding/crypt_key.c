/* crypt_key.c - keys of mail_crypt: PEM, and the form in which Dovecot keeps them in attributes (docs/formats/coding.md).
 *
 *     2:<hex of SubjectPublicKeyInfo with a compressed point>:<id>                           public
 *     2:<curve>:0:<hex>:<id>                                                                 private, bare
 *     2:<curve>:1:<cipher>:<salt>:<digest>:<rounds>:<hex>:<ephemeral point>:<id of key>:<id> private, for a key
 *     2:<curve>:2:<cipher>:<salt>:<digest>:<rounds>:<hex>:<id>                               private, with a password
 *
 * The curve is its OID in dots. The private number is a big-endian integer behind its length (4 bytes), with a zero byte in front
 * where its first bit is set. An RSA key has RSA's OID and a PKCS #1 RSAPrivateKey there, and as ephemeral point the secret that was
 * encrypted for it. An identity is the SHA-256 of the SubjectPublicKeyInfo. Secrets are wiped where they end. */
#include "store/coding/crypt.h"

#include <gmp.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <nettle/bignum.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecdsa.h>
#include <nettle/sha2.h>

#define ROUNDS 2048
#define ROUNDS_MAX 10000000            /* what somebody else's text may make us count */
#define SALT_SIZE 8
#define RSA_SECRET_SIZE 16             /* what an RSA key is given to encrypt, when it wraps another key */
#define RSA_OID "1.2.840.113549.1.1.1"

struct crypt_curve {
    const char *names[3];              /* NULL-ended */
    const char *oid;
    struct slice der;                  /* of the OID, with tag and length */
    const struct ecc_curve *(*ecc)(void);
    gnutls_ecc_curve_t gnutls;
    size_t bytes;                      /* of a coordinate */
    const char *p, *b;                 /* hex: the prime, and the curve's constant; a is -3 */
};

#define OID(text) {(const unsigned char *)(text), sizeof(text) - 1}

static const struct ecc_curve *secp192(void) { return nettle_get_secp_192r1(); }
static const struct ecc_curve *secp224(void) { return nettle_get_secp_224r1(); }
static const struct ecc_curve *secp256(void) { return nettle_get_secp_256r1(); }
static const struct ecc_curve *secp384(void) { return nettle_get_secp_384r1(); }
static const struct ecc_curve *secp521(void) { return nettle_get_secp_521r1(); }

static const struct crypt_curve curves[] = {
    {{"prime256v1", "P-256", NULL}, "1.2.840.10045.3.1.7", OID("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), secp256,
     GNUTLS_ECC_CURVE_SECP256R1, 32, "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
     "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b"},
    {{"secp384r1", "P-384", NULL}, "1.3.132.0.34", OID("\x06\x05\x2b\x81\x04\x00\x22"), secp384, GNUTLS_ECC_CURVE_SECP384R1, 48,
     "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
     "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef"},
    {{"secp521r1", "P-521", NULL}, "1.3.132.0.35", OID("\x06\x05\x2b\x81\x04\x00\x23"), secp521, GNUTLS_ECC_CURVE_SECP521R1, 66,
     "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
     "ffffffffffffffffffff",
     "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1"
     "ef451fd46b503f00"},
    {{"prime192v1", "P-192", NULL}, "1.2.840.10045.3.1.1", OID("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x01"), secp192,
     GNUTLS_ECC_CURVE_SECP192R1, 24, "fffffffffffffffffffffffffffffffeffffffffffffffff",
     "64210519e59c80e70fa7e9ab72243049feb8deecc146b9b1"},
    {{"secp224r1", "P-224", NULL}, "1.3.132.0.33", OID("\x06\x05\x2b\x81\x04\x00\x21"), secp224, GNUTLS_ECC_CURVE_SECP224R1, 28,
     "ffffffffffffffffffffffffffffffff000000000000000000000001",
     "b4050a850c04b3abf54132565044b0b7d7bfd8ba270b39432355ffb4"},
};
#define CURVES (sizeof(curves) / sizeof(curves[0]))
static const struct slice ec_oid = OID("\x06\x07\x2a\x86\x48\xce\x3d\x02\x01");

const struct crypt_curve *crypt_curve_find(struct slice name)
{
    for (size_t i = 0; i < CURVES; i++)
        if (slice_equal_str(name, curves[i].names[0]) || slice_equal_str(name, curves[i].names[1]) ||
            slice_equal_str(name, curves[i].oid))
            return &curves[i];
    return NULL;
}

const struct ecc_curve *crypt_curve_ecc(const struct crypt_curve *curve)
{
    return curve->ecc();
}

static int bad(struct error *e, const char *why)
{
    return error_set(e, ERROR_INVALID, "%s", why);
}

/* ---- points ---- */

static void put_point(const struct crypt_curve *curve, const struct ecc_point *point, bool compressed, struct buffer *out)
{
    unsigned char bytes[1 + 2 * CRYPT_SECRET_MAX];
    mpz_t x, y;

    mpz_inits(x, y, NULL);
    ecc_point_get(point, x, y);
    bytes[0] = (unsigned char)(!compressed ? 4 : 2 + mpz_odd_p(y));
    nettle_mpz_get_str_256(curve->bytes, bytes + 1, x);
    if (!compressed)
        nettle_mpz_get_str_256(curve->bytes, bytes + 1 + curve->bytes, y);
    buffer_append(out, bytes, 1 + (compressed ? 1 : 2) * curve->bytes);
    mpz_clears(x, y, NULL);
}

void crypt_point_put(const struct crypt_key *key, bool compressed, struct buffer *out)
{
    put_point(key->curve, &key->point, compressed, out);
}

/* y of a compressed point: a root of x^3 - 3x + b. For these primes but 224's it is one power, for that one GMP has none, and
 * nobody stores it so. */
static int decompress(const struct crypt_curve *curve, mpz_t x, mpz_t y, bool odd)
{
    mpz_t p, t;
    int r = -1;

    mpz_init_set_str(p, curve->p, 16);
    mpz_init(t);
    if (mpz_fdiv_ui(p, 4) == 3 && mpz_cmp(x, p) < 0) {
        mpz_powm_ui(t, x, 3, p);
        mpz_submul_ui(t, x, 3);
        mpz_set_str(y, curve->b, 16);
        mpz_add(t, t, y);
        mpz_mod(t, t, p);
        mpz_add_ui(y, p, 1);
        mpz_fdiv_q_2exp(y, y, 2);
        mpz_powm(y, t, y, p);
        if (mpz_odd_p(y) != (int)odd)
            mpz_sub(y, p, y);
        r = 0; /* whether it is on the curve is seen by ecc_point_set */
    }
    mpz_clears(p, t, NULL);
    return r;
}

int crypt_point_get(struct ecc_point *point, const struct crypt_curve *curve, struct slice octets)
{
    bool compressed = octets.size == 1 + curve->bytes && (octets.at[0] == 2 || octets.at[0] == 3);
    mpz_t x, y;
    int r = -1;

    if (!compressed && (octets.size != 1 + 2 * curve->bytes || octets.at[0] != 4))
        return -1;
    mpz_init(y);
    nettle_mpz_init_set_str_256_u(x, curve->bytes, octets.at + 1);
    if (compressed)
        r = decompress(curve, x, y, octets.at[0] == 3);
    else
        nettle_mpz_set_str_256_u(y, curve->bytes, octets.at + 1 + curve->bytes), r = 0;
    if (r == 0 && !ecc_point_set(point, x, y))
        r = -1;
    mpz_clears(x, y, NULL);
    return r;
}

size_t crypt_agree(const struct crypt_key *key, const struct ecc_point *other, unsigned char out[CRYPT_SECRET_MAX])
{
    struct ecc_point shared;
    mpz_t x, y;

    ecc_point_init(&shared, key->curve->ecc());
    ecc_point_mul(&shared, &key->scalar, other);
    mpz_inits(x, y, NULL);
    ecc_point_get(&shared, x, y);
    nettle_mpz_get_str_256(key->curve->bytes, out, x);
    mpz_clears(x, y, NULL);
    ecc_point_clear(&shared);
    return key->curve->bytes;
}

/* ---- DER ---- */

static void put_der(struct buffer *out, unsigned char tag, struct slice content)
{
    buffer_append_byte(out, tag);
    if (content.size > 255) {
        buffer_append_byte(out, 0x82);
        buffer_append_byte(out, (unsigned char)(content.size >> 8));
    } else if (content.size > 127) {
        buffer_append_byte(out, 0x81);
    }
    buffer_append_byte(out, (unsigned char)content.size);
    buffer_append_slice(out, content);
}

/* Takes one element off the front. */
static bool get_der(struct slice *rest, unsigned char tag, struct slice *content)
{
    size_t head = 2, size;

    if (rest->size < 2 || rest->at[0] != tag)
        return false;
    size = rest->at[1];
    if (size == 0x81 && rest->size > 2)
        size = rest->at[2], head = 3;
    else if (size == 0x82 && rest->size > 3)
        size = (size_t)rest->at[2] << 8 | rest->at[3], head = 4;
    else if (size > 127)
        return false;
    if (size > rest->size - head)
        return false;
    *content = slice_of(rest->at + head, size);
    *rest = slice_from(*rest, head + size);
    return true;
}

static void put_algorithm(const struct crypt_curve *curve, struct buffer *out)
{
    struct buffer ids = {0};

    buffer_append_slice(&ids, ec_oid);
    buffer_append_slice(&ids, curve->der);
    put_der(out, 0x30, buffer_slice(&ids));
    buffer_free(&ids);
}

/* SubjectPublicKeyInfo (RFC 5480 section 2). */
static void put_public(const struct crypt_key *key, bool compressed, struct buffer *out)
{
    struct buffer body = {0}, point = {0};

    put_algorithm(key->curve, &body);
    buffer_append_byte(&point, 0);
    put_point(key->curve, &key->point, compressed, &point);
    put_der(&body, 0x03, buffer_slice(&point));
    put_der(out, 0x30, buffer_slice(&body));
    buffer_free(&body);
    buffer_free(&point);
}

/* ---- keys ---- */

static struct crypt_key *key_new(const struct crypt_curve *curve)
{
    struct crypt_key *key = mem_zero(1, sizeof(*key));

    key->curve = curve;
    ecc_point_init(&key->point, curve->ecc());
    ecc_scalar_init(&key->scalar, curve->ecc());
    return key;
}

void crypt_key_free(struct crypt_key **key_p)
{
    struct crypt_key *key = *key_p;

    if (key == NULL)
        return;
    *key_p = NULL;
    if (key->rsa != NULL) {
        crypt_rsa_free(key->rsa);
        mem_free(key);
        return;
    }
    ecc_point_clear(&key->point);
    explicit_bzero(key->scalar.p, ecc_bit_size(key->curve->ecc()) / 8 & ~(size_t)7);
    ecc_scalar_clear(&key->scalar);
    mem_free(key);
}

static void make_ids(struct crypt_key *key)
{
    static const char digits[] = "0123456789ABCDEF";
    struct buffer der = {0};
    struct sha256_ctx ctx;

    put_public(key, true, &der);
    sha256_init(&ctx);
    sha256_update(&ctx, der.size, der.at);
    sha256_digest(&ctx, CRYPT_ID_SIZE, key->id);
    /* Version 1: of the point's digits. */
    buffer_reset(&der);
    put_point(key->curve, &key->point, true, &der);
    for (size_t i = 0; i < der.size; i++) {
        const uint8_t two[2] = {(uint8_t)digits[der.at[i] >> 4], (uint8_t)digits[der.at[i] & 15]};

        sha256_update(&ctx, 2, two);
    }
    sha256_digest(&ctx, CRYPT_ID_SIZE, key->old_id);
    buffer_free(&der);
}

/* From the private number; the point is calculated. */
static struct crypt_key *key_of_scalar(const struct crypt_curve *curve, struct slice number)
{
    struct crypt_key *key = key_new(curve);
    mpz_t k;
    bool good;

    nettle_mpz_init_set_str_256_u(k, number.size, number.at);
    good = ecc_scalar_set(&key->scalar, k) != 0;
    mpz_clear(k);
    if (!good) {
        crypt_key_free(&key);
        return NULL;
    }
    ecc_point_mul_g(&key->point, &key->scalar);
    key->has_private = true;
    make_ids(key);
    return key;
}

static void random_bytes(void *ctx, size_t size, uint8_t *out)
{
    (void)ctx;
    if (gnutls_rnd(GNUTLS_RND_KEY, out, size) < 0)
        log_fatal(EXIT_OUT_OF_MEMORY, "No random bytes");
}

struct crypt_key *crypt_key_generate(const struct crypt_curve *curve)
{
    struct crypt_key *key = key_new(curve);

    ecdsa_generate_keypair(&key->point, &key->scalar, NULL, random_bytes);
    key->has_private = true;
    make_ids(key);
    return key;
}

void crypt_id_hex(const unsigned char id[CRYPT_ID_SIZE], char hex[2 * CRYPT_ID_SIZE + 1])
{
    struct buffer out = {0};

    text_hex_encode(&out, slice_of(id, CRYPT_ID_SIZE));
    memcpy(hex, buffer_cstr(&out), 2 * CRYPT_ID_SIZE + 1);
    buffer_free(&out);
}

/* ---- public keys ---- */

static int public_of_der(struct slice der, struct crypt_key **out, struct error *e)
{
    struct slice info, algorithm, oid, bits;
    const struct crypt_curve *curve = NULL;
    struct crypt_key *key;

    if (!get_der(&der, 0x30, &info) || !get_der(&info, 0x30, &algorithm) || !get_der(&info, 0x03, &bits) || bits.size < 2 ||
        !get_der(&algorithm, 0x06, &oid))
        return bad(e, "Corrupted data");
    if (!slice_equal(oid, slice_from(ec_oid, 2)))
        return bad(e, "Unsupported key type");
    for (size_t i = 0; i < CURVES; i++)
        if (slice_equal(algorithm, curves[i].der))
            curve = &curves[i];
    if (curve == NULL)
        return bad(e, "Unsupported curve");
    key = key_new(curve);
    if (crypt_point_get(&key->point, curve, slice_from(bits, 1)) < 0) {
        crypt_key_free(&key);
        return bad(e, "Corrupted data");
    }
    make_ids(key);
    *out = key;
    return 0;
}

/* The bytes between "-----BEGIN <what>-----" and its end. */
static int pem_body(struct slice text, const char *what, struct buffer *der)
{
    struct buffer mark = {0}, base64 = {0};
    ptrdiff_t at, end;
    int r = -1;

    buffer_printf(&mark, "-----BEGIN %s-----", what);
    at = slice_find_slice(text, buffer_slice(&mark));
    if (at >= 0) {
        text = slice_from(text, (size_t)at + mark.size);
        end = slice_find_slice(text, SLICE("-----END"));
        for (ptrdiff_t i = 0; i < end; i++)
            if (text.at[i] > ' ')
                buffer_append_byte(&base64, text.at[i]);
        r = end < 0 ? -1 : text_base64_decode(der, buffer_slice(&base64));
    }
    buffer_free(&mark);
    buffer_free(&base64);
    return r;
}

static bool is_pem(struct slice text)
{
    return slice_starts(text, SLICE("-----BEGIN "));
}

/* "2:...": at most `most` fields; 0: not of that form. */
static size_t split(struct slice text, struct slice *fields, size_t most)
{
    size_t n = 0;
    unsigned char sep;

    text = slice_trim(text);
    if (text.size < 2 || text.at[0] != '2' || (text.at[1] != ':' && text.at[1] != '\t'))
        return 0;
    sep = text.at[1];
    while (n < most && slice_split(&text, sep, &fields[n]))
        n++;
    return text.size > 0 ? 0 : n;
}

static bool is_rsa(struct slice der)
{
    static const struct slice rsa_oid = OID("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01");
    struct slice info, algorithm, oid;

    return get_der(&der, 0x30, &info) && get_der(&info, 0x30, &algorithm) && get_der(&algorithm, 0x06, &oid) && slice_equal(oid, rsa_oid);
}

static int public_of(struct slice der, struct crypt_key **out, struct error *e)
{
    return is_rsa(der) ? crypt_rsa_public(der, out, e) : public_of_der(der, out, e);
}

/* Does the key have the identity that the text says? */
static int check_id(struct crypt_key *key, struct slice id, struct error *e)
{
    char hex[2 * CRYPT_ID_SIZE + 1];

    crypt_id_hex(key->id, hex);
    return slice_equal_str_nocase(id, hex) ? 0 : bad(e, "Key id mismatch after load");
}

static int public_of_fields(const struct slice *fields, struct slice der, struct crypt_key **out, struct error *e)
{
    if (public_of(der, out, e) < 0)
        return -1;
    if (check_id(*out, fields[2], e) == 0)
        return 0;
    crypt_key_free(out);
    return -1;
}

int crypt_key_public(struct slice text, struct crypt_key **out, struct error *e)
{
    struct buffer der = {0};
    struct slice fields[3];
    int r;

    text = slice_trim(text);
    if (is_pem(text))
        r = pem_body(text, "PUBLIC KEY", &der) < 0 ? bad(e, "Unknown key format") : public_of(buffer_slice(&der), out, e);
    else if (split(text, fields, 3) == 3 && text_hex_decode(&der, fields[1]) == 0)
        r = public_of_fields(fields, buffer_slice(&der), out, e);
    else
        r = bad(e, "Unknown key format");
    buffer_free(&der);
    return r;
}

void crypt_key_public_text(const struct crypt_key *key, struct buffer *out)
{
    struct buffer der = {0};

    if (key->rsa != NULL)
        buffer_append_slice(&der, crypt_rsa_der(key->rsa));
    else
        put_public(key, true, &der);
    buffer_append_str(out, "2:");
    text_hex_encode(out, buffer_slice(&der));
    buffer_append_byte(out, ':');
    text_hex_encode(out, slice_of(key->id, CRYPT_ID_SIZE));
    buffer_free(&der);
}

/* ---- private keys: PEM ---- */

static int private_of_pem(struct slice text, const char *password, struct crypt_key **out, struct error *e)
{
    gnutls_datum_t data = {(unsigned char *)text.at, (unsigned)text.size}, x = {0}, y = {0}, k = {0};
    gnutls_x509_privkey_t pem;
    gnutls_ecc_curve_t which;
    const struct crypt_curve *curve = NULL;
    int r;

    if (gnutls_x509_privkey_init(&pem) < 0)
        return error_set(e, ERROR_BUG, "gnutls_x509_privkey_init failed");
    r = gnutls_x509_privkey_import2(pem, &data, GNUTLS_X509_FMT_PEM, password, 0);
    if (r == GNUTLS_E_DECRYPTION_FAILED) {
        gnutls_x509_privkey_deinit(pem);
        if (password == NULL) /* ERROR_PERMISSION says that one is missing */
            return error_set(e, ERROR_PERMISSION, "Key is encrypted and requires a password");
        return bad(e, "Invalid password");
    }
    if (r < 0) {
        gnutls_x509_privkey_deinit(pem);
        return bad(e, gnutls_strerror(r));
    }
    if (gnutls_x509_privkey_get_pk_algorithm(pem) == GNUTLS_PK_RSA) {
        r = crypt_rsa_private(pem, out, e);
        gnutls_x509_privkey_deinit(pem);
        return r;
    }
    r = gnutls_x509_privkey_export_ecc_raw(pem, &which, &x, &y, &k);
    gnutls_x509_privkey_deinit(pem);
    for (size_t i = 0; r >= 0 && i < CURVES; i++)
        if (curves[i].gnutls == which)
            curve = &curves[i];
    if (curve == NULL)
        r = bad(e, "Unsupported key type");
    else
        r = (*out = key_of_scalar(curve, slice_of(k.data, k.size))) == NULL ? bad(e, "Corrupted data") : 0;
    if (k.data != NULL)
        explicit_bzero(k.data, k.size);
    gnutls_free(x.data);
    gnutls_free(y.data);
    gnutls_free(k.data);
    return r;
}

/* PKCS #8 (RFC 5958) around RFC 5915. */
int crypt_key_pem(const struct crypt_key *key, struct buffer *out, struct error *e)
{
    static const unsigned char zero[] = {0x02, 0x01, 0x00}, one[] = {0x02, 0x01, 0x01};
    struct buffer inner = {0}, body = {0}, point = {0}, der = {0}, text = {0};
    unsigned char number[CRYPT_SECRET_MAX];
    mpz_t k;

    if (!key->has_private)
        return bad(e, "No private key");
    if (key->rsa != NULL)
        return crypt_rsa_pem(key->rsa, out, e);
    mpz_init(k);
    ecc_scalar_get(&key->scalar, k);
    nettle_mpz_get_str_256(key->curve->bytes, number, k);
    mpz_clear(k);
    buffer_append(&inner, one, sizeof(one));
    put_der(&inner, 0x04, slice_of(number, key->curve->bytes));
    buffer_append_byte(&body, 0);
    put_point(key->curve, &key->point, false, &body);
    put_der(&point, 0x03, buffer_slice(&body));
    put_der(&inner, 0xa1, buffer_slice(&point));
    buffer_reset(&body);
    buffer_append(&body, zero, sizeof(zero));
    put_algorithm(key->curve, &body);
    put_der(&der, 0x30, buffer_slice(&inner));
    put_der(&body, 0x04, buffer_slice(&der));
    buffer_wipe(&der);
    put_der(&der, 0x30, buffer_slice(&body));
    text_base64_encode(&text, buffer_slice(&der));
    buffer_append_str(out, "-----BEGIN PRIVATE KEY-----\n");
    for (size_t at = 0; at < text.size; at += 64) {
        buffer_append_slice(out, slice_head(slice_from(buffer_slice(&text), at), 64));
        buffer_append_byte(out, '\n');
    }
    buffer_append_str(out, "-----END PRIVATE KEY-----\n");
    explicit_bzero(number, sizeof(number));
    buffer_wipe(&inner);
    buffer_wipe(&body);
    buffer_wipe(&der);
    buffer_wipe(&text);
    buffer_free(&point);
    return 0;
}

/* ---- private keys: Dovecot's form ---- */

enum { F_VERSION, F_CURVE, F_WRAP, F_CIPHER, F_SALT, F_DIGEST, F_ROUNDS, F_DATA, F_EPHEMERAL, F_WITH, F_ID, F_COUNT };

enum crypt_wrap crypt_key_wrap_of(struct slice text, unsigned char id[CRYPT_ID_SIZE])
{
    struct slice f[F_COUNT];
    struct buffer hex = {0};
    size_t n = split(text, f, F_COUNT);
    enum crypt_wrap wrap = CRYPT_WRAP_UNKNOWN;

    if (n == 5 && slice_equal_str(f[F_WRAP], "0"))
        wrap = CRYPT_WRAP_NONE;
    else if (n == 9 && slice_equal_str(f[F_WRAP], "2"))
        wrap = CRYPT_WRAP_PASSWORD;
    else if (n == 11 && slice_equal_str(f[F_WRAP], "1") && text_hex_decode(&hex, f[F_WITH]) == 0 && hex.size == CRYPT_ID_SIZE) {
        memcpy(id, hex.at, CRYPT_ID_SIZE);
        wrap = CRYPT_WRAP_KEY;
    }
    buffer_free(&hex);
    return wrap;
}

/* What stands for the private key: the number behind its length, or RSA's whole structure. */
static int key_of_bytes(const struct crypt_curve *curve, struct slice bytes, struct slice id, struct crypt_key **out,
                        struct error *e)
{
    struct crypt_key *key = NULL;

    if (curve == NULL && crypt_rsa_pkcs1_read(bytes, &key, e) < 0)
        return -1;
    if (curve != NULL && bytes.size >= 4 && bytes_be32(bytes.at) == bytes.size - 4 && bytes.size - 4 <= curve->bytes + 1)
        key = key_of_scalar(curve, slice_from(bytes, 4));
    if (key == NULL)
        return bad(e, "Corrupted data");
    if (check_id(key, id, e) < 0) {
        crypt_key_free(&key);
        return -1;
    }
    *out = key;
    return 0;
}

/* The secret that two keys agree on, or that was encrypted for an RSA key. `peer`: the text's field. */
static int secret_of_peer(const struct crypt_key *with, struct slice peer, struct buffer *secret)
{
    unsigned char shared[CRYPT_SECRET_MAX];
    struct ecc_point ephemeral;
    int r;

    if (with->rsa != NULL)
        return crypt_rsa_unwrap(with, peer, secret);
    ecc_point_init(&ephemeral, with->curve->ecc());
    r = crypt_point_get(&ephemeral, with->curve, peer);
    if (r == 0)
        buffer_append(secret, shared, crypt_agree(with, &ephemeral, shared));
    ecc_point_clear(&ephemeral);
    explicit_bzero(shared, sizeof(shared));
    return r;
}

static void secret_for_peer(const struct crypt_key *with, struct buffer *secret, struct buffer *peer)
{
    unsigned char shared[CRYPT_SECRET_MAX];
    struct crypt_key *ephemeral;

    if (with->rsa != NULL) {
        random_bytes(NULL, RSA_SECRET_SIZE, shared);
        buffer_append(secret, shared, RSA_SECRET_SIZE);
        if (crypt_rsa_wrap(with, buffer_slice(secret), peer) < 0)
            log_fatal(EXIT_OUT_OF_MEMORY, "An RSA key is too small to encrypt with");
    } else {
        ephemeral = crypt_key_generate(with->curve);
        crypt_point_put(ephemeral, false, peer);
        buffer_append(secret, shared, crypt_agree(ephemeral, &with->point, shared));
        crypt_key_free(&ephemeral);
    }
    explicit_bzero(shared, sizeof(shared));
}

static int unwrap(struct slice text, const char *password, const struct crypt_key *with, struct crypt_key **out,
                  struct error *e)
{
    struct slice f[F_COUNT];
    size_t n = split(text, f, F_COUNT);
    const struct crypt_curve *curve = n < 5 ? NULL : crypt_curve_find(f[F_CURVE]);
    const struct crypt_cipher *cipher;
    const struct crypt_digest *digest;
    struct buffer data = {0}, salt = {0}, peer = {0}, plain = {0}, secret = {0};
    unsigned char derived[64];
    struct crypt_symmetric s;
    uint32_t rounds;
    int r = -1;

    if (n < 5)
        return bad(e, "Corrupted data");
    if (curve == NULL && !slice_equal_str(f[F_CURVE], RSA_OID))
        return bad(e, "Unsupported curve");
    if (n == 5) {
        r = text_hex_decode(&data, f[3]) < 0 ? bad(e, "Corrupted data") : key_of_bytes(curve, buffer_slice(&data), f[4], out, e);
        buffer_wipe(&data);
        return r;
    }
    cipher = crypt_cipher_find(f[F_CIPHER]);
    digest = crypt_digest_find(f[F_DIGEST]);
    if (cipher == NULL || digest == NULL || cipher->mode == CRYPT_GCM || !slice_to_u32(f[F_ROUNDS], &rounds) || rounds == 0 ||
        rounds > ROUNDS_MAX)
        return bad(e, "Unsupported cipher or digest");
    if (with == NULL)
        buffer_append_str(&secret, password);
    if (text_hex_decode(&data, f[F_DATA]) < 0 || text_hex_decode(&salt, f[F_SALT]) < 0 ||
        (with != NULL && (text_hex_decode(&peer, f[F_EPHEMERAL]) < 0 || secret_of_peer(with, buffer_slice(&peer), &secret) < 0))) {
        bad(e, "Corrupted data");
        goto end;
    }
    crypt_derive(digest, buffer_slice(&secret), buffer_slice(&salt), rounds, derived, cipher->key_size + cipher->iv_size);
    crypt_symmetric_init(&s, cipher, false, derived, derived + cipher->key_size, SLICE_EMPTY);
    crypt_symmetric_put(&s, buffer_slice(&data), &plain);
    if (crypt_symmetric_end(&s, &plain, NULL) < 0)
        bad(e, "Decryption failed");
    else
        r = key_of_bytes(curve, buffer_slice(&plain), f[n - 1], out, e);
    if (r < 0 && with == NULL)
        bad(e, "Invalid password");
    explicit_bzero(&s, sizeof(s));
    explicit_bzero(derived, sizeof(derived));
end:
    buffer_wipe(&plain);
    buffer_wipe(&secret);
    buffer_free(&data);
    buffer_free(&salt);
    buffer_free(&peer);
    return r;
}

int crypt_key_unwrap(struct slice text, const struct crypt_key *with, struct crypt_key **out, struct error *e)
{
    return unwrap(text, NULL, with, out, e);
}

int crypt_key_private(struct slice text, const char *password, struct crypt_key **out, struct error *e)
{
    unsigned char id[CRYPT_ID_SIZE];

    text = slice_trim(text);
    if (is_pem(text))
        return private_of_pem(text, password, out, e);
    switch (crypt_key_wrap_of(text, id)) {
    case CRYPT_WRAP_NONE:
        return unwrap(text, NULL, NULL, out, e);
    case CRYPT_WRAP_PASSWORD:
        return password == NULL ? error_set(e, ERROR_PERMISSION, "Password not available") : unwrap(text, password, NULL, out, e);
    case CRYPT_WRAP_KEY:
        return bad(e, "Key is encrypted with another key");
    default:
        return bad(e, "Unknown key format");
    }
}

static void put_private(const struct crypt_key *key, struct buffer *out)
{
    unsigned char number[5 + CRYPT_SECRET_MAX];
    size_t size;
    mpz_t k;

    if (key->rsa != NULL) {
        buffer_append_slice(out, crypt_rsa_pkcs1(key->rsa));
        return;
    }
    mpz_init(k);
    ecc_scalar_get(&key->scalar, k);
    size = mpz_sizeinbase(k, 2) / 8 + 1; /* a zero byte where the first bit would be set */
    bytes_put_be32(number, (uint32_t)size);
    nettle_mpz_get_str_256(size, number + 4, k);
    mpz_clear(k);
    buffer_append(out, number, size + 4);
    explicit_bzero(number, sizeof(number));
}

void crypt_key_private_text(const struct crypt_key *key, const struct crypt_key *with, const char *password,
                            struct buffer *out)
{
    const struct crypt_cipher *cipher = crypt_cipher_find(SLICE("aes-256-ctr"));
    const struct crypt_digest *digest = crypt_digest_find(SLICE("sha256"));
    unsigned char salt[SALT_SIZE], derived[64];
    struct buffer plain = {0}, coded = {0}, peer = {0}, secret = {0};
    struct crypt_symmetric s;

    put_private(key, &plain);
    buffer_printf(out, "2:%s:%d:", key->rsa != NULL ? RSA_OID : key->curve->oid, with != NULL ? 1 : password != NULL ? 2 : 0);
    if (with == NULL && password == NULL) {
        text_hex_encode(out, buffer_slice(&plain));
    } else {
        random_bytes(NULL, sizeof(salt), salt);
        if (with != NULL)
            secret_for_peer(with, &secret, &peer);
        else
            buffer_append_str(&secret, password);
        crypt_derive(digest, buffer_slice(&secret), slice_of(salt, sizeof(salt)), ROUNDS, derived, cipher->key_size + cipher->iv_size);
        crypt_symmetric_init(&s, cipher, true, derived, derived + cipher->key_size, SLICE_EMPTY);
        crypt_symmetric_put(&s, buffer_slice(&plain), &coded);
        crypt_symmetric_end(&s, &coded, NULL);
        buffer_printf(out, "%s:", cipher->name);
        text_hex_encode(out, slice_of(salt, sizeof(salt)));
        buffer_printf(out, ":%s:%d:", digest->name, ROUNDS);
        text_hex_encode(out, buffer_slice(&coded));
        if (with != NULL) {
            buffer_append_byte(out, ':');
            text_hex_encode(out, buffer_slice(&peer));
            buffer_append_byte(out, ':');
            text_hex_encode(out, slice_of(with->id, CRYPT_ID_SIZE));
        }
        explicit_bzero(&s, sizeof(s));
        explicit_bzero(derived, sizeof(derived));
    }
    buffer_append_byte(out, ':');
    text_hex_encode(out, slice_of(key->id, CRYPT_ID_SIZE));
    buffer_wipe(&plain);
    buffer_wipe(&secret);
    buffer_free(&coded);
    buffer_free(&peer);
}
