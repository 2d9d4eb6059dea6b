/* Encrypted mail (mail_crypt; dbox-format 7, docs/formats/coding.md): ciphers, keys, the stream, and which keys a user has.
 *
 * Elliptic curves and RSA are nettle's; PEM and passwords of PEM files are GnuTLS's. A message has a key of its own, which is wrapped
 * for a public key; who has the private key with that identity can read it. */
#ifndef YARILO_STORE_CODING_CRYPT_H
#define YARILO_STORE_CODING_CRYPT_H

#include "store/coding/codec.h"

#include <gnutls/x509.h>
#include <nettle/aes.h>
#include <nettle/ecc.h>
#include <nettle/gcm.h>
#include <nettle/nettle-meta.h>

#define CRYPT_ID_SIZE 32
#define CRYPT_TAG_SIZE 16
#define CRYPT_MAGIC "CRYPTED\x03\x07"
#define CRYPT_SECRET_MAX 66        /* bytes of a coordinate of secp521r1 */

/* ---- crypt_cipher.c ---- */

enum crypt_mode { CRYPT_CBC, CRYPT_CTR, CRYPT_GCM };
struct crypt_cipher {
    const char *name;              /* "aes-256-gcm" */
    struct slice oid;              /* DER with tag and length; empty: it has none */
    const struct nettle_cipher *aes;
    enum crypt_mode mode;
    size_t key_size, iv_size;
};
const struct crypt_cipher *crypt_cipher_find(struct slice name);         /* NULL: not known */
const struct crypt_cipher *crypt_cipher_of_oid(struct slice der);

struct crypt_digest {
    const char *name;
    struct slice oid;
    const struct nettle_hash *hash;
};
const struct crypt_digest *crypt_digest_find(struct slice name);
const struct crypt_digest *crypt_digest_of_oid(struct slice der);
/* PBKDF2 (RFC 8018 section 5.2) with HMAC of the digest. */
void crypt_derive(const struct crypt_digest *, struct slice secret, struct slice salt, uint32_t rounds, unsigned char *out,
                  size_t size);

struct crypt_symmetric {
    const struct crypt_cipher *cipher;
    bool encrypt;
    union {
        struct aes128_ctx aes128;
        struct aes192_ctx aes192;
        struct aes256_ctx aes256;
    } key;
    struct gcm_key gcm_key;
    struct gcm_ctx gcm;
    unsigned char iv[AES_BLOCK_SIZE];
    unsigned char part[2 * AES_BLOCK_SIZE];   /* bytes that make no block yet; CBC keeps the last block for its padding */
    size_t parts;
};
void crypt_symmetric_init(struct crypt_symmetric *, const struct crypt_cipher *, bool encrypt, const unsigned char *key,
                          const unsigned char *iv, struct slice aad);
void crypt_symmetric_put(struct crypt_symmetric *, struct slice, struct buffer *out);
/* What is left. tag (CRYPT_TAG_SIZE bytes, GCM): written when encrypting, compared when decrypting. -1: wrong padding or tag. */
int crypt_symmetric_end(struct crypt_symmetric *, struct buffer *out, unsigned char *tag);

/* ---- crypt_key.c ---- */

struct crypt_curve;
const struct crypt_curve *crypt_curve_find(struct slice name);   /* OpenSSL's names, or the dotted OID */

struct crypt_rsa;
struct crypt_key {
    const struct crypt_curve *curve;   /* NULL: an RSA key, which has neither point nor scalar nor old_id */
    struct crypt_rsa *rsa;
    struct ecc_point point;
    struct ecc_scalar scalar;      /* has_private */
    bool has_private;
    unsigned char id[CRYPT_ID_SIZE], old_id[CRYPT_ID_SIZE];   /* of version 2 and 1 */
};
void crypt_key_free(struct crypt_key **);   /* NULL is fine */
struct crypt_key *crypt_key_generate(const struct crypt_curve *);
/* PEM or Dovecot's own form. `password` may be NULL. Errors as Dovecot has them ("Unknown key format", ...). */
int crypt_key_public(struct slice text, struct crypt_key **, struct error *);
int crypt_key_private(struct slice text, const char *password, struct crypt_key **, struct error *);
/* How Dovecot's own form is protected, and by which key. */
enum crypt_wrap { CRYPT_WRAP_NONE, CRYPT_WRAP_KEY, CRYPT_WRAP_PASSWORD, CRYPT_WRAP_UNKNOWN };
enum crypt_wrap crypt_key_wrap_of(struct slice text, unsigned char id[CRYPT_ID_SIZE]);
int crypt_key_unwrap(struct slice text, const struct crypt_key *with, struct crypt_key **, struct error *);
/* Texts to be stored. `with` and `password`: one of them, or none. */
void crypt_key_public_text(const struct crypt_key *, struct buffer *out);
void crypt_key_private_text(const struct crypt_key *, const struct crypt_key *with, const char *password, struct buffer *out);
int crypt_key_pem(const struct crypt_key *, struct buffer *out, struct error *);
void crypt_id_hex(const unsigned char id[CRYPT_ID_SIZE], char hex[2 * CRYPT_ID_SIZE + 1]);

/* The x coordinate of private * public, as long as the field: bytes. */
size_t crypt_agree(const struct crypt_key *private_key, const struct ecc_point *, unsigned char out[CRYPT_SECRET_MAX]);
/* Points as octets (SEC 1, 2.3): uncompressed out; both forms in. -1: not on the curve. */
void crypt_point_put(const struct crypt_key *, bool compressed, struct buffer *out);
int crypt_point_get(struct ecc_point *, const struct crypt_curve *, struct slice octets);
const struct ecc_curve *crypt_curve_ecc(const struct crypt_curve *);

/* ---- crypt_rsa.c ---- */

/* Key of a SubjectPublicKeyInfo; of a PEM file's private key. */
int crypt_rsa_public(struct slice der, struct crypt_key **, struct error *);
int crypt_rsa_private(gnutls_x509_privkey_t, struct crypt_key **, struct error *);
void crypt_rsa_free(struct crypt_rsa *);
struct slice crypt_rsa_der(const struct crypt_rsa *);     /* SubjectPublicKeyInfo */
/* The private key as RSAPrivateKey (DER), and as PEM of PKCS #8. */
struct slice crypt_rsa_pkcs1(const struct crypt_rsa *);
int crypt_rsa_pkcs1_read(struct slice der, struct crypt_key **, struct error *);
int crypt_rsa_pem(const struct crypt_rsa *, struct buffer *out, struct error *);
/* -1: the key is too small for the secret; not encrypted for this key. */
int crypt_rsa_wrap(const struct crypt_key *, struct slice secret, struct buffer *out);
int crypt_rsa_unwrap(const struct crypt_key *, struct slice wrapped, struct buffer *secret);

/* ---- crypt_stream.c ---- */

/* The private key with an identity of a version's kind; it stays the giver's. NULL with *e. */
struct crypt_ring {
    const struct crypt_key *(*find)(struct crypt_ring *, const unsigned char id[CRYPT_ID_SIZE], bool old, struct error *);
};
bool crypt_is(struct slice head);
/* Takes over what *input holds. Reads the header at once: NULL with *e, and the input is freed. */
struct decoder *crypt_decode(struct input *, struct crypt_ring *, struct error *);
/* version 1 or 2. */
struct byte_sink *crypt_encode(const struct crypt_key *public_key, unsigned version, struct byte_sink *next);
/* With another cipher (fs crypt: algo=aes-256-cbc-sha1). NULL: not known. */
struct crypt_suite {
    const struct crypt_cipher *cipher;
    const struct crypt_digest *digest;
};
int crypt_suite_parse(struct slice name, struct crypt_suite *);
struct byte_sink *crypt_encode_as(const struct crypt_key *public_key, unsigned version, const struct crypt_suite *,
                                  struct byte_sink *next);

#endif
