/* crypt_cipher.c - AES in the modes that mail_crypt uses, and key derivation, by nettle. */
#include "store/coding/crypt.h"

#include <nettle/cbc.h>
#include <nettle/ctr.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/pbkdf2.h>

#define AES_OID(last) {(const unsigned char *)"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01" last, 11}

static const struct crypt_cipher ciphers[] = {
    {"aes-256-gcm", AES_OID("\x2e"), &nettle_aes256, CRYPT_GCM, 32, GCM_IV_SIZE},
    {"aes-192-gcm", AES_OID("\x1a"), &nettle_aes192, CRYPT_GCM, 24, GCM_IV_SIZE},
    {"aes-128-gcm", AES_OID("\x06"), &nettle_aes128, CRYPT_GCM, 16, GCM_IV_SIZE},
    {"aes-256-cbc", AES_OID("\x2a"), &nettle_aes256, CRYPT_CBC, 32, AES_BLOCK_SIZE},
    {"aes-192-cbc", AES_OID("\x16"), &nettle_aes192, CRYPT_CBC, 24, AES_BLOCK_SIZE},
    {"aes-128-cbc", AES_OID("\x02"), &nettle_aes128, CRYPT_CBC, 16, AES_BLOCK_SIZE},
    {"aes-256-ctr", {NULL, 0}, &nettle_aes256, CRYPT_CTR, 32, AES_BLOCK_SIZE},
    {"aes-192-ctr", {NULL, 0}, &nettle_aes192, CRYPT_CTR, 24, AES_BLOCK_SIZE},
    {"aes-128-ctr", {NULL, 0}, &nettle_aes128, CRYPT_CTR, 16, AES_BLOCK_SIZE},
};

#define SHA2_OID(last) {(const unsigned char *)"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02" last, 11}

static const struct crypt_digest digests[] = {
    {"sha256", SHA2_OID("\x01"), &nettle_sha256},
    {"sha384", SHA2_OID("\x02"), &nettle_sha384},
    {"sha512", SHA2_OID("\x03"), &nettle_sha512},
    {"sha1", {(const unsigned char *)"\x06\x05\x2b\x0e\x03\x02\x1a", 7}, &nettle_sha1},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const struct crypt_cipher *crypt_cipher_find(struct slice name)
{
    for (size_t i = 0; i < COUNT(ciphers); i++)
        if (slice_equal_str_nocase(name, ciphers[i].name))
            return &ciphers[i];
    return NULL;
}

const struct crypt_cipher *crypt_cipher_of_oid(struct slice der)
{
    for (size_t i = 0; i < COUNT(ciphers); i++)
        if (der.size > 0 && slice_equal(der, ciphers[i].oid))
            return &ciphers[i];
    return NULL;
}

const struct crypt_digest *crypt_digest_find(struct slice name)
{
    for (size_t i = 0; i < COUNT(digests); i++)
        if (slice_equal_str_nocase(name, digests[i].name))
            return &digests[i];
    return NULL;
}

const struct crypt_digest *crypt_digest_of_oid(struct slice der)
{
    for (size_t i = 0; i < COUNT(digests); i++)
        if (slice_equal(der, digests[i].oid))
            return &digests[i];
    return NULL;
}

void crypt_derive(const struct crypt_digest *digest, struct slice secret, struct slice salt, uint32_t rounds,
                  unsigned char *out, size_t size)
{
    if (digest->hash == &nettle_sha1) {
        pbkdf2_hmac_sha1(secret.size, secret.at, rounds, salt.size, salt.at, size, out);
    } else if (digest->hash == &nettle_sha256) {
        pbkdf2_hmac_sha256(secret.size, secret.at, rounds, salt.size, salt.at, size, out);
    } else if (digest->hash == &nettle_sha384) {
        struct hmac_sha384_ctx ctx;

        hmac_sha384_set_key(&ctx, secret.size, secret.at);
        PBKDF2(&ctx, hmac_sha384_update, hmac_sha384_digest, SHA384_DIGEST_SIZE, rounds, salt.size, salt.at, size, out);
    } else {
        struct hmac_sha512_ctx ctx;

        hmac_sha512_set_key(&ctx, secret.size, secret.at);
        PBKDF2(&ctx, hmac_sha512_update, hmac_sha512_digest, SHA512_DIGEST_SIZE, rounds, salt.size, salt.at, size, out);
    }
}

/* ---- bytes ---- */

void crypt_symmetric_init(struct crypt_symmetric *s, const struct crypt_cipher *cipher, bool encrypt,
                          const unsigned char *key, const unsigned char *iv, struct slice aad)
{
    *s = (struct crypt_symmetric){.cipher = cipher, .encrypt = encrypt};
    if (cipher->mode == CRYPT_CBC && !encrypt)
        cipher->aes->set_decrypt_key(&s->key, key);
    else
        cipher->aes->set_encrypt_key(&s->key, key);
    memcpy(s->iv, iv, cipher->iv_size);
    if (cipher->mode == CRYPT_GCM) {
        gcm_set_key(&s->gcm_key, &s->key, cipher->aes->encrypt);
        gcm_set_iv(&s->gcm, &s->gcm_key, cipher->iv_size, iv);
        if (aad.size > 0)
            gcm_update(&s->gcm, &s->gcm_key, aad.size, aad.at);
    }
}

/* Whole blocks; the very last piece of a GCM or CTR stream may be shorter. */
static void run(struct crypt_symmetric *s, struct slice in, struct buffer *out)
{
    unsigned char *to;

    if (in.size == 0)
        return;
    buffer_reserve(out, in.size);
    to = out->at + out->size;
    switch (s->cipher->mode) {
    case CRYPT_GCM:
        if (s->encrypt)
            gcm_encrypt(&s->gcm, &s->gcm_key, &s->key, s->cipher->aes->encrypt, in.size, to, in.at);
        else
            gcm_decrypt(&s->gcm, &s->gcm_key, &s->key, s->cipher->aes->encrypt, in.size, to, in.at);
        break;
    case CRYPT_CTR:
        ctr_crypt(&s->key, s->cipher->aes->encrypt, AES_BLOCK_SIZE, s->iv, in.size, to, in.at);
        break;
    case CRYPT_CBC:
        if (s->encrypt)
            cbc_encrypt(&s->key, s->cipher->aes->encrypt, AES_BLOCK_SIZE, s->iv, in.size, to, in.at);
        else
            cbc_decrypt(&s->key, s->cipher->aes->decrypt, AES_BLOCK_SIZE, s->iv, in.size, to, in.at);
        break;
    }
    out->size += in.size;
}

void crypt_symmetric_put(struct crypt_symmetric *s, struct slice in, struct buffer *out)
{
    /* How much must stay behind: a CBC reader needs the last block at the end. */
    size_t keep = s->cipher->mode == CRYPT_CBC && !s->encrypt ? 1 : 0, whole;

    if (in.size == 0)
        return;
    while (s->parts > 0 && in.size > 0) {
        struct slice more = slice_head(in, AES_BLOCK_SIZE - s->parts % AES_BLOCK_SIZE);

        if (s->parts == AES_BLOCK_SIZE) { /* the block that was kept is not the last one */
            run(s, slice_of(s->part, AES_BLOCK_SIZE), out);
            s->parts = 0;
            break;
        }
        memcpy(s->part + s->parts, more.at, more.size);
        s->parts += more.size;
        in = slice_from(in, more.size);
        if (s->parts < AES_BLOCK_SIZE || (keep > 0 && in.size == 0))
            return;
        run(s, slice_of(s->part, AES_BLOCK_SIZE), out);
        s->parts = 0;
    }
    whole = in.size - in.size % AES_BLOCK_SIZE;
    if (keep > 0 && whole == in.size && whole > 0)
        whole -= AES_BLOCK_SIZE;
    run(s, slice_head(in, whole), out);
    in = slice_from(in, whole);
    if (in.size > 0)
        memcpy(s->part, in.at, in.size);
    s->parts = in.size;
}

static int end_cbc(struct crypt_symmetric *s, struct buffer *out)
{
    unsigned char pad;
    size_t before = out->size;

    if (s->encrypt) {
        pad = (unsigned char)(AES_BLOCK_SIZE - s->parts);
        memset(s->part + s->parts, pad, pad);
        run(s, slice_of(s->part, AES_BLOCK_SIZE), out);
        return 0;
    }
    if (s->parts != AES_BLOCK_SIZE)
        return -1;
    run(s, slice_of(s->part, AES_BLOCK_SIZE), out);
    pad = out->at[out->size - 1];
    out->size = before;
    if (pad == 0 || pad > AES_BLOCK_SIZE)
        return -1;
    for (size_t i = AES_BLOCK_SIZE - pad; i < AES_BLOCK_SIZE; i++)
        if (out->at[before + i] != pad)
            return -1;
    out->size = before + AES_BLOCK_SIZE - pad;
    return 0;
}

int crypt_symmetric_end(struct crypt_symmetric *s, struct buffer *out, unsigned char *tag)
{
    unsigned char digest[CRYPT_TAG_SIZE];

    if (s->cipher->mode == CRYPT_CBC)
        return end_cbc(s, out);
    run(s, slice_of(s->part, s->parts), out);
    s->parts = 0;
    if (s->cipher->mode == CRYPT_CTR)
        return 0;
    gcm_digest(&s->gcm, &s->gcm_key, &s->key, s->cipher->aes->encrypt, sizeof(digest), digest);
    if (s->encrypt) {
        memcpy(tag, digest, sizeof(digest));
        return 0;
    }
    return memeql_sec(tag, digest, sizeof(digest)) ? 0 : -1;
}
