/* crypt_rsa.c - RSA keys of mail_crypt: the secret of a message of version 2 is encrypted with OAEP (RFC 8017 section 7.1, SHA-1
 * and no label), as Dovecot does. nettle has RSA itself; the padding is here. */
#include "store/coding/crypt.h"

#include <gmp.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <nettle/bignum.h>
#include <nettle/memops.h>
#include <nettle/rsa.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>

#define HASH SHA1_DIGEST_SIZE
enum { PADDING = 2 * HASH + 2, SECRET = 64, SIZE_LEAST = PADDING + SECRET, SIZE_MOST = 2048 /* 16384 bits */ };

struct crypt_rsa {
    struct rsa_public_key public;
    struct rsa_private_key private;
    struct buffer der;             /* SubjectPublicKeyInfo */
    struct buffer pkcs1;           /* RSAPrivateKey (RFC 8017 appendix A.1.2), if there is one */
};

static int bad(struct error *e, const char *why)
{
    return error_set(e, ERROR_INVALID, "%s", why);
}

void crypt_rsa_free(struct crypt_rsa *rsa)
{
    rsa_public_key_clear(&rsa->public);
    mpz_t *const secrets[] = {&rsa->private.d, &rsa->private.p, &rsa->private.q, &rsa->private.a, &rsa->private.b, &rsa->private.c};

    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++)
        explicit_bzero((*secrets[i])->_mp_d, (size_t)(*secrets[i])->_mp_alloc * sizeof(mp_limb_t));
    rsa_private_key_clear(&rsa->private);
    buffer_free(&rsa->der);
    buffer_wipe(&rsa->pkcs1);
    mem_free(rsa);
}

struct slice crypt_rsa_der(const struct crypt_rsa *rsa)
{
    return buffer_slice(&rsa->der);
}

struct slice crypt_rsa_pkcs1(const struct crypt_rsa *rsa)
{
    return buffer_slice(&rsa->pkcs1);
}

static void take(mpz_t out, gnutls_datum_t *in)
{
    nettle_mpz_set_str_256_u(out, in->size, in->data);
    explicit_bzero(in->data, in->size);
    gnutls_free(in->data);
}

/* The numbers of the public half are there. */
static int finish(struct crypt_key *key, gnutls_pubkey_t public, struct error *e)
{
    struct crypt_rsa *rsa = key->rsa;
    gnutls_datum_t der = {0};
    struct sha256_ctx ctx;

    /* The secret of a message must fit. */
    if (!rsa_public_key_prepare(&rsa->public) || rsa->public.size < SIZE_LEAST || rsa->public.size > SIZE_MOST ||
        gnutls_pubkey_export2(public, GNUTLS_X509_FMT_DER, &der) < 0)
        return bad(e, "Unsupported key type");
    buffer_append(&rsa->der, der.data, der.size);
    gnutls_free(der.data);
    sha256_init(&ctx);
    sha256_update(&ctx, rsa->der.size, rsa->der.at);
    sha256_digest(&ctx, CRYPT_ID_SIZE, key->id);
    return 0;
}

static struct crypt_key *key_new(void)
{
    struct crypt_key *key = mem_zero(1, sizeof(*key));

    key->rsa = mem_zero(1, sizeof(*key->rsa));
    rsa_public_key_init(&key->rsa->public);
    rsa_private_key_init(&key->rsa->private);
    return key;
}

int crypt_rsa_public(struct slice der, struct crypt_key **out, struct error *e)
{
    gnutls_datum_t data = {(unsigned char *)(uintptr_t)der.at, (unsigned)der.size}, n = {0}, exponent = {0};
    struct crypt_key *key;
    gnutls_pubkey_t public;
    int r = -1;

    if (gnutls_pubkey_init(&public) < 0)
        return error_set(e, ERROR_BUG, "gnutls_pubkey_init failed");
    if (gnutls_pubkey_import(public, &data, GNUTLS_X509_FMT_DER) < 0 || gnutls_pubkey_export_rsa_raw(public, &n, &exponent) < 0) {
        gnutls_pubkey_deinit(public);
        return bad(e, "Corrupted data");
    }
    key = key_new();
    take(key->rsa->public.n, &n);
    take(key->rsa->public.e, &exponent);
    r = finish(key, public, e);
    gnutls_pubkey_deinit(public);
    if (r < 0)
        crypt_key_free(&key);
    *out = key;
    return r;
}

int crypt_rsa_private(gnutls_x509_privkey_t pem, struct crypt_key **out, struct error *e)
{
    gnutls_datum_t n = {0}, exponent = {0}, d = {0}, p = {0}, q = {0}, u = {0}, e1 = {0}, e2 = {0};
    gnutls_pubkey_t public;
    gnutls_datum_t pkcs1 = {0};
    struct crypt_key *key;
    int r;

    if (gnutls_x509_privkey_export_rsa_raw2(pem, &n, &exponent, &d, &p, &q, &u, &e1, &e2) < 0)
        return bad(e, "Unsupported key type");
    key = key_new();
    if (gnutls_x509_privkey_export2(pem, GNUTLS_X509_FMT_DER, &pkcs1) >= 0) {
        buffer_append(&key->rsa->pkcs1, pkcs1.data, pkcs1.size);
        explicit_bzero(pkcs1.data, pkcs1.size);
        gnutls_free(pkcs1.data);
    }
    if (gnutls_pubkey_init(&public) < 0)
        log_fatal(EXIT_OUT_OF_MEMORY, "gnutls_pubkey_init failed");
    r = gnutls_pubkey_import_rsa_raw(public, &n, &exponent) < 0 ? bad(e, "Corrupted data") : 0;
    take(key->rsa->public.n, &n);
    take(key->rsa->public.e, &exponent);
    take(key->rsa->private.d, &d);
    take(key->rsa->private.p, &p);
    take(key->rsa->private.q, &q);
    take(key->rsa->private.a, &e1);
    take(key->rsa->private.b, &e2);
    take(key->rsa->private.c, &u);
    if (r == 0)
        r = finish(key, public, e);
    gnutls_pubkey_deinit(public);
    if (r == 0 && (!rsa_private_key_prepare(&key->rsa->private) || key->rsa->private.size != key->rsa->public.size))
        r = bad(e, "Corrupted data");
    key->has_private = true;
    if (r < 0)
        crypt_key_free(&key);
    *out = key;
    return r;
}

int crypt_rsa_pkcs1_read(struct slice der, struct crypt_key **out, struct error *e)
{
    const gnutls_datum_t data = {(unsigned char *)(uintptr_t)der.at, (unsigned)der.size};
    gnutls_x509_privkey_t private;
    int r;

    if (gnutls_x509_privkey_init(&private) < 0)
        return error_set(e, ERROR_BUG, "gnutls_x509_privkey_init failed");
    r = gnutls_x509_privkey_import(private, &data, GNUTLS_X509_FMT_DER) < 0 ||
                gnutls_x509_privkey_get_pk_algorithm(private) != GNUTLS_PK_RSA
            ? bad(e, "Corrupted data")
            : crypt_rsa_private(private, out, e);
    gnutls_x509_privkey_deinit(private);
    return r;
}

int crypt_rsa_pem(const struct crypt_rsa *rsa, struct buffer *out, struct error *e)
{
    const gnutls_datum_t data = {rsa->pkcs1.at, (unsigned)rsa->pkcs1.size};
    gnutls_x509_privkey_t private;
    gnutls_datum_t pem = {0};
    int r = -1;

    if (gnutls_x509_privkey_init(&private) < 0)
        return error_set(e, ERROR_BUG, "gnutls_x509_privkey_init failed");
    if (gnutls_x509_privkey_import(private, &data, GNUTLS_X509_FMT_DER) >= 0 &&
        gnutls_x509_privkey_export2_pkcs8(private, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem) >= 0) {
        buffer_append(out, pem.data, pem.size);
        explicit_bzero(pem.data, pem.size);
        gnutls_free(pem.data);
        r = 0;
    }
    gnutls_x509_privkey_deinit(private);
    return r < 0 ? bad(e, "No private key") : 0;
}

/* ---- OAEP: 00, masked seed, masked (hash of the label, zeros, 01, message) ---- */

static void mask(const unsigned char *seed, size_t seed_size, unsigned char *data, size_t size)
{
    unsigned char number[4], block[HASH];

    for (uint32_t i = 0; size > 0; i++) {
        size_t n = size < HASH ? size : HASH;
        struct sha1_ctx ctx;

        bytes_put_be32(number, i);
        sha1_init(&ctx);
        sha1_update(&ctx, seed_size, seed);
        sha1_update(&ctx, sizeof(number), number);
        sha1_digest(&ctx, HASH, block);
        memxor(data, block, n);
        data += n;
        size -= n;
    }
    explicit_bzero(block, sizeof(block));
}

static void label_hash(unsigned char out[HASH])
{
    struct sha1_ctx ctx;

    sha1_init(&ctx);
    sha1_digest(&ctx, HASH, out);
}

static void random_bytes(void *ctx, size_t size, uint8_t *out)
{
    (void)ctx;
    if (gnutls_rnd(GNUTLS_RND_KEY, out, size) < 0)
        log_fatal(EXIT_OUT_OF_MEMORY, "No random bytes");
}

static void put_mpz(struct buffer *out, size_t size, const mpz_t number)
{
    unsigned char bytes[SIZE_MOST];

    nettle_mpz_get_str_256(size, bytes, number);
    buffer_append(out, bytes, size);
    explicit_bzero(bytes, sizeof(bytes));
}

int crypt_rsa_wrap(const struct crypt_key *key, struct slice secret, struct buffer *out)
{
    const struct rsa_public_key *public = &key->rsa->public;
    unsigned char block[SIZE_MOST] = {0};
    unsigned char *seed = block + 1, *data = seed + HASH;
    size_t data_size = public->size - 1 - HASH;
    mpz_t m;

    if (secret.size + PADDING > public->size)
        return -1;
    label_hash(data);
    data[data_size - secret.size - 1] = 1;
    memcpy(data + data_size - secret.size, secret.at, secret.size);
    random_bytes(NULL, HASH, seed);
    mask(seed, HASH, data, data_size);
    mask(data, data_size, seed, HASH);
    nettle_mpz_init_set_str_256_u(m, public->size, block);
    mpz_powm_sec(m, m, public->e, public->n);
    put_mpz(out, public->size, m);
    mpz_clear(m);
    explicit_bzero(block, sizeof(block));
    return 0;
}

/* Where the message begins, in the same time whatever the block holds; 0: the padding is wrong. */
static size_t unpad(const unsigned char *block, size_t size)
{
    unsigned char hash[HASH];
    const unsigned char *data = block + 1 + HASH;
    size_t data_size = size - 1 - HASH, start = 0;
    unsigned wrong = block[0], found = 0;

    label_hash(hash);
    for (size_t i = 0; i < HASH; i++)
        wrong |= (unsigned)(hash[i] ^ data[i]);
    for (size_t i = HASH; i < data_size; i++) {
        const unsigned one = ((data[i] ^ 1u) - 1u) >> 31, zero = (data[i] - 1u) >> 31;  /* 1: it is that byte */

        start |= (0 - (size_t)(one & ~found)) & (i + 1);
        wrong |= ~(one | zero | found) & 1u;
        found |= one;
    }
    wrong |= found ^ 1u;
    return wrong != 0 ? 0 : 1 + HASH + start;
}

int crypt_rsa_unwrap(const struct crypt_key *key, struct slice wrapped, struct buffer *secret)
{
    const struct rsa_public_key *public = &key->rsa->public;
    unsigned char block[SIZE_MOST];
    size_t start = 0;
    mpz_t c, m;

    if (!key->has_private || wrapped.size != public->size)
        return -1;
    nettle_mpz_init_set_str_256_u(c, wrapped.size, wrapped.at);
    mpz_init(m);
    if (mpz_cmp(c, public->n) < 0 && rsa_compute_root_tr(public, &key->rsa->private, NULL, random_bytes, m, c)) {
        unsigned char *seed = block + 1, *data = seed + HASH;

        nettle_mpz_get_str_256(public->size, block, m);
        mask(data, public->size - 1 - HASH, seed, HASH);
        mask(seed, HASH, data, public->size - 1 - HASH);
        start = unpad(block, public->size);
    }
    if (start > 0)
        buffer_append(secret, block + start, public->size - start);
    explicit_bzero(block, sizeof(block));
    explicit_bzero(m->_mp_d, (size_t)m->_mp_alloc * sizeof(mp_limb_t));
    mpz_clears(c, m, NULL);
    return start > 0 ? 0 : -1;
}
