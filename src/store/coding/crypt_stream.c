/* crypt_stream.c - an encrypted message (dbox-format 7): header, ciphertext, tag.
 *
 * Version 2: the message's key, IV and associated data are one secret, wrapped by AES-256-CBC with a key that comes of the
 * ECDH of an ephemeral key and the recipient's. Its hash in the header (2049 rounds, numbered) shows a wrong key at once. Version
 * 1: AES-256-CTR with a zero IV, the secret is the key, nothing protects the ciphertext from being changed.
 *
 * The tag stands at the end, so what is read before is not proven yet; a message that was changed ends in an error. */
#include "store/coding/crypt.h"

#include <gnutls/crypto.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>

#define MAGIC_SIZE (sizeof(CRYPT_MAGIC) - 1)
#define HASH_ROUNDS 2049
#define WRAP_ROUNDS 2048
#define ROUNDS_MAX 10000000
#define SECRET_MAX (32 + AES_BLOCK_SIZE + CRYPT_TAG_SIZE)
enum { FLAG_HMAC = 1, FLAG_AEAD = 2, FLAG_NONE = 4 };
enum { KEY_RSA = 1, KEY_EC = 2 };

bool crypt_is(struct slice head)
{
    return slice_starts(head, slice_of(CRYPT_MAGIC, MAGIC_SIZE));
}

/* What the header keeps of the secret. */
static void secret_hash(const struct crypt_digest *digest, struct slice secret, unsigned char *out)
{
    unsigned char ctx[sizeof(struct sha512_ctx)] __attribute__((aligned(16)));
    unsigned char number[4];
    const struct nettle_hash *hash = digest->hash;

    hash->init(ctx);
    hash->update(ctx, secret.size, secret.at);
    hash->digest(ctx, hash->digest_size, out);
    for (uint32_t i = 1; i < HASH_ROUNDS; i++) {
        bytes_put_be32(number, i);
        hash->update(ctx, hash->digest_size, out);
        hash->update(ctx, sizeof(number), number);
        hash->digest(ctx, hash->digest_size, out);
    }
}

/* ---- reading ---- */

struct crypt_decoder {
    struct decoder decoder;
    struct input in;
    struct crypt_symmetric s;
    size_t trailer;                /* bytes of tag or MAC at the end */
    bool tag, mac, ended, finished;
    const struct nettle_hash *hash;
    struct hmac_sha512_ctx hmac;   /* the largest; which one it is says hash */
    struct buffer out;
    size_t at;
};

#define HMAC_DO(d, sha1, sha256, sha384, sha512) \
    ((d)->hash == &nettle_sha1 ? (sha1) : (d)->hash == &nettle_sha256 ? (sha256) : (d)->hash == &nettle_sha384 ? (sha384) : (sha512))

static void mac_begin(struct crypt_decoder *d, struct slice key)
{
    void *ctx = &d->hmac;

    HMAC_DO(d, hmac_sha1_set_key(ctx, key.size, key.at), hmac_sha256_set_key(ctx, key.size, key.at),
            hmac_sha384_set_key(ctx, key.size, key.at), hmac_sha512_set_key(ctx, key.size, key.at));
}

static void mac_put(struct crypt_decoder *d, struct slice bytes)
{
    void *ctx = &d->hmac;

    HMAC_DO(d, hmac_sha1_update(ctx, bytes.size, bytes.at), hmac_sha256_update(ctx, bytes.size, bytes.at),
            hmac_sha384_update(ctx, bytes.size, bytes.at), hmac_sha512_update(ctx, bytes.size, bytes.at));
}

static bool mac_is(struct crypt_decoder *d, const unsigned char *expect)
{
    unsigned char mac[SHA512_DIGEST_SIZE];
    void *ctx = &d->hmac;
    size_t size = d->trailer;

    HMAC_DO(d, hmac_sha1_digest(ctx, size, mac), hmac_sha256_digest(ctx, size, mac), hmac_sha384_digest(ctx, size, mac),
            hmac_sha512_digest(ctx, size, mac));
    return memeql_sec(mac, expect, size);
}

/* Big-endian lengths and what they count, off the front; false: not that much is there. */
static bool get_number(struct slice *rest, size_t bytes, uint32_t *out)
{
    if (rest->size < bytes)
        return false;
    *out = 0;
    for (size_t i = 0; i < bytes; i++)
        *out = *out << 8 | rest->at[i];
    *rest = slice_from(*rest, bytes);
    return true;
}

static bool get_bytes(struct slice *rest, size_t size, struct slice *out)
{
    if (rest->size < size)
        return false;
    *out = slice_head(*rest, size);
    *rest = slice_from(*rest, size);
    return true;
}

static bool get_counted(struct slice *rest, size_t bytes, struct slice *out)
{
    uint32_t size;

    return get_number(rest, bytes, &size) && get_bytes(rest, size, out);
}

/* An OID with its tag and length; those that are known are short. */
static bool get_oid(struct slice *rest, struct slice *out)
{
    return rest->size >= 2 && rest->at[0] == 0x06 && rest->at[1] < 128 && get_bytes(rest, (size_t)rest->at[1] + 2, out);
}

static int header_bad(struct error *e)
{
    return error_set(e, ERROR_CORRUPT, "Decryption error: the header is damaged");
}

static int agree(const struct crypt_key *key, struct slice point, unsigned char shared[CRYPT_SECRET_MAX], size_t *size,
                 struct error *e)
{
    struct ecc_point ephemeral;
    int r;

    ecc_point_init(&ephemeral, crypt_curve_ecc(key->curve));
    r = crypt_point_get(&ephemeral, key->curve, point);
    if (r == 0)
        *size = crypt_agree(key, &ephemeral, shared);
    ecc_point_clear(&ephemeral);
    return r < 0 ? header_bad(e) : 0;
}

/* One key block of version 2. 1: it is ours, the secret is there; 0: somebody else's. */
static int open_block(struct slice *rest, struct crypt_ring *ring, const struct crypt_digest *digest, uint32_t rounds,
                      struct buffer *secret, struct error *e)
{
    const struct crypt_cipher *cbc = crypt_cipher_find(SLICE("aes-256-cbc"));
    unsigned char shared[CRYPT_SECRET_MAX], derived[32 + AES_BLOCK_SIZE];
    struct slice id, point, wrapped;
    const struct crypt_key *key;
    struct crypt_symmetric s;
    uint32_t type;
    size_t size;
    int r;

    if (!get_number(rest, 1, &type) || !get_bytes(rest, CRYPT_ID_SIZE, &id) || !get_counted(rest, 4, &point) ||
        !get_counted(rest, 4, &wrapped))
        return header_bad(e);
    if (type != KEY_EC && type != KEY_RSA) {
        error_set(e, ERROR_UNSUPPORTED, "Decryption error: unsupported key type 0x%02x", type);
        return 0;
    }
    key = ring->find(ring, id.at, false, e);
    if (key == NULL)
        return 0;
    if ((key->rsa != NULL) != (type == KEY_RSA))
        return header_bad(e);
    if (type == KEY_RSA)
        return crypt_rsa_unwrap(key, wrapped, secret) < 0 ? error_set(e, ERROR_CORRUPT, "Cannot perform key decryption: wrong padding") : 1;
    if (agree(key, point, shared, &size, e) < 0)
        return -1;
    crypt_derive(digest, slice_of(shared, size), point, rounds, derived, sizeof(derived));
    crypt_symmetric_init(&s, cbc, false, derived, derived + 32, SLICE_EMPTY);
    crypt_symmetric_put(&s, wrapped, secret);
    r = crypt_symmetric_end(&s, secret, NULL) < 0 ? error_set(e, ERROR_CORRUPT, "Cannot perform key decryption: wrong padding") : 1;
    explicit_bzero(&s, sizeof(s));
    explicit_bzero(shared, sizeof(shared));
    explicit_bzero(derived, sizeof(derived));
    return r;
}

static int open_v2(struct crypt_decoder *d, struct slice rest, uint32_t flags, struct crypt_ring *ring, struct error *e)
{
    const struct crypt_cipher *cipher;
    const struct crypt_digest *digest;
    struct slice oid, mac_oid, keys, hash;
    unsigned char expect[SHA512_DIGEST_SIZE];
    uint32_t rounds, count;
    struct buffer secret = {0};
    size_t tag_size;
    int r = 0;

    if (!get_oid(&rest, &oid) || !get_oid(&rest, &mac_oid) || !get_number(&rest, 4, &rounds) || !get_counted(&rest, 4, &keys) ||
        !get_number(&keys, 1, &count) || rounds == 0 || rounds > ROUNDS_MAX)
        return header_bad(e);
    cipher = crypt_cipher_of_oid(oid);
    digest = crypt_digest_of_oid(mac_oid);
    if (cipher == NULL || digest == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "Decryption error: unsupported/invalid %s",
                         cipher == NULL ? "cipher" : "MAC algorithm");
    if ((flags & ~(uint32_t)(FLAG_HMAC | FLAG_AEAD | FLAG_NONE)) != 0)
        return error_set(e, ERROR_UNSUPPORTED, "Decryption error: unsupported flags 0x%x", flags);
    if (((flags & FLAG_AEAD) != 0) != (cipher->mode == CRYPT_GCM))
        return header_bad(e);
    error_set(e, ERROR_PERMISSION, "Decryption error: no private key available");
    while (r == 0 && count > 0) {
        r = open_block(&keys, ring, digest, rounds, &secret, e);
        count--;
    }
    /* The blocks of others stand between ours and the hash. */
    while (r > 0 && count-- > 0)
        if (!get_bytes(&keys, 1 + CRYPT_ID_SIZE, &hash) || !get_counted(&keys, 4, &hash) || !get_counted(&keys, 4, &hash))
            r = header_bad(e);
    if (r > 0 && !get_counted(&keys, 4, &hash))
        r = header_bad(e);
    if (r <= 0) {
        buffer_wipe(&secret);
        return -1;
    }
    tag_size = (flags & (FLAG_AEAD | FLAG_HMAC)) != 0 ? CRYPT_TAG_SIZE : 0;
    secret_hash(digest, buffer_slice(&secret), expect);
    if (secret.size != cipher->key_size + cipher->iv_size + tag_size ||
        !slice_equal(hash, slice_of(expect, digest->hash->digest_size))) {
        r = error_set(e, ERROR_CORRUPT, "Decryption error: corrupted header ekhash");
    } else {
        const unsigned char *iv = secret.at + cipher->key_size;
        struct slice aad = slice_of(iv + cipher->iv_size, tag_size);

        d->tag = (flags & FLAG_AEAD) != 0;
        d->mac = !d->tag && (flags & FLAG_HMAC) != 0;
        d->hash = digest->hash;
        d->trailer = d->tag ? CRYPT_TAG_SIZE : d->mac ? digest->hash->digest_size : 0;
        if (d->mac)
            mac_begin(d, aad);
        crypt_symmetric_init(&d->s, cipher, false, secret.at, iv, d->tag ? aad : SLICE_EMPTY);
        r = 0;
    }
    buffer_wipe(&secret);
    return r;
}

static int open_v1(struct crypt_decoder *d, struct slice rest, struct crypt_ring *ring, struct error *e)
{
    static const unsigned char zero[AES_BLOCK_SIZE];
    const struct crypt_cipher *ctr = crypt_cipher_find(SLICE("aes-256-ctr"));
    unsigned char shared[CRYPT_SECRET_MAX], wrap[SHA256_DIGEST_SIZE], expect[SHA256_DIGEST_SIZE];
    struct slice point, id, hash, wrapped;
    const struct crypt_key *key;
    struct sha256_ctx ctx;
    struct buffer secret = {0};
    size_t size;
    int r = 0;

    if (!get_counted(&rest, 2, &point) || !get_counted(&rest, 2, &id) || !get_counted(&rest, 2, &hash) ||
        !get_counted(&rest, 2, &wrapped) || id.size != CRYPT_ID_SIZE || wrapped.size != SHA256_DIGEST_SIZE)
        return header_bad(e);
    error_set(e, ERROR_PERMISSION, "Decryption error: no private key available");
    key = ring->find(ring, id.at, true, e);
    if (key != NULL && key->rsa != NULL)
        return header_bad(e);
    if (key == NULL || agree(key, point, shared, &size, e) < 0)
        return -1;
    sha256_init(&ctx);
    sha256_update(&ctx, size, shared);
    sha256_digest(&ctx, sizeof(wrap), wrap);
    crypt_symmetric_init(&d->s, ctr, false, wrap, zero, SLICE_EMPTY);
    crypt_symmetric_put(&d->s, wrapped, &secret);
    crypt_symmetric_end(&d->s, &secret, NULL);
    sha256_update(&ctx, secret.size, secret.at);
    sha256_digest(&ctx, sizeof(expect), expect);
    if (slice_equal(hash, slice_of(expect, sizeof(expect))))
        crypt_symmetric_init(&d->s, ctr, false, secret.at, zero, SLICE_EMPTY);
    else
        r = error_set(e, ERROR_CORRUPT, "Decryption error: corrupted header ekhash");
    buffer_wipe(&secret);
    explicit_bzero(shared, sizeof(shared));
    explicit_bzero(wrap, sizeof(wrap));
    return r;
}

static int open_header(struct crypt_decoder *d, struct crypt_ring *ring, struct error *e)
{
    struct slice head;
    uint32_t flags = 0, size;

    if (input_fill(&d->in, MAGIC_SIZE + 9, e) < 0)
        return -1;
    head = input_slice(&d->in);
    if (!crypt_is(head) || head.size < MAGIC_SIZE + 9)
        return error_set(e, ERROR_CORRUPT, "Decryption error: Input truncated in decryption header");
    switch (head.at[MAGIC_SIZE]) {
    case 1:
        size = (uint32_t)head.at[MAGIC_SIZE + 1] << 8 | head.at[MAGIC_SIZE + 2];
        size += (uint32_t)MAGIC_SIZE + 3;
        break;
    case 2:
        flags = bytes_be32(head.at + MAGIC_SIZE + 1);
        size = bytes_be32(head.at + MAGIC_SIZE + 5);
        break;
    default:
        return error_set(e, ERROR_UNSUPPORTED, "Unsupported encrypted data 0x%02x", head.at[MAGIC_SIZE]);
    }
    if (size < MAGIC_SIZE + 9 || size > INPUT_SIZE)
        return header_bad(e);
    if (input_fill(&d->in, size, e) < 0)
        return -1;
    head = input_slice(&d->in);
    if (head.size < size)
        return error_set(e, ERROR_CORRUPT, "Decryption error: Input truncated in decryption header");
    head = slice_head(head, size);
    if ((head.at[MAGIC_SIZE] == 2 ? open_v2(d, slice_from(head, MAGIC_SIZE + 9), flags, ring, e)
                                  : open_v1(d, slice_from(head, MAGIC_SIZE + 3), ring, e)) < 0)
        return -1;
    input_take(&d->in, size);
    return 0;
}

static int more(struct crypt_decoder *d, struct error *e)
{
    struct slice have;

    buffer_reset(&d->out);
    d->at = 0;
    while (d->out.size == 0 && !d->ended) {
        if (input_fill(&d->in, INPUT_SIZE / 2 + d->trailer, e) < 0)
            return -1;
        have = input_slice(&d->in);
        if (!d->in.end) {
            /* What could be the trailer stays. */
            have = slice_head(have, have.size - d->trailer);
        } else if (have.size < d->trailer) {
            return input_bad(&d->in, "crypt", "footer is longer than data", e);
        } else {
            have = slice_head(have, have.size - d->trailer);
            d->ended = true;
        }
        if (d->mac)
            mac_put(d, have);
        crypt_symmetric_put(&d->s, have, &d->out);
        input_take(&d->in, have.size);
    }
    if (!d->ended || d->finished)
        return 0;
    have = input_slice(&d->in);
    if (d->mac && !mac_is(d, have.at))
        return input_bad(&d->in, "crypt", "MAC error: Cannot verify MAC: mismatch", e);
    if (crypt_symmetric_end(&d->s, &d->out, d->tag ? (unsigned char *)have.at : NULL) < 0)
        return input_bad(&d->in, "crypt", d->tag ? "MAC error: decryption failed" : "decryption failed", e);
    d->finished = true;
    return 0;
}

static ssize_t crypt_read(struct decoder *decoder, unsigned char *buf, size_t size, struct error *e)
{
    struct crypt_decoder *d = (struct crypt_decoder *)decoder;

    if (d->at == d->out.size && more(d, e) < 0)
        return -1;
    if (size > d->out.size - d->at)
        size = d->out.size - d->at;
    if (size > 0)
        memcpy(buf, d->out.at + d->at, size);
    d->at += size;
    return (ssize_t)size;
}

static void crypt_free(struct decoder *decoder)
{
    struct crypt_decoder *d = (struct crypt_decoder *)decoder;

    explicit_bzero(&d->s, sizeof(d->s));
    explicit_bzero(&d->hmac, sizeof(d->hmac));
    buffer_wipe(&d->out);
    input_free(&d->in);
    mem_free(d);
}

struct decoder *crypt_decode(struct input *in, struct crypt_ring *ring, struct error *e)
{
    struct crypt_decoder *d = mem_zero(1, sizeof(*d));

    d->decoder = (struct decoder){crypt_read, crypt_free};
    d->in = *in;
    if (open_header(d, ring, e) < 0) {
        crypt_free(&d->decoder);
        return NULL;
    }
    return &d->decoder;
}

/* ---- writing ---- */

struct crypt_sink {
    struct byte_sink sink;
    struct crypt_symmetric s;
    bool tag;
    struct buffer out;             /* the header, then what is coded */
};

static int flush(struct crypt_sink *s, struct error *e)
{
    int r = byte_sink_put(s->sink.next, buffer_slice(&s->out), e);

    buffer_reset(&s->out);
    return r;
}

static int crypt_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    struct crypt_sink *s = (struct crypt_sink *)sink;

    crypt_symmetric_put(&s->s, bytes, &s->out);
    return flush(s, e);
}

static int crypt_finish(struct byte_sink *sink, struct error *e)
{
    struct crypt_sink *s = (struct crypt_sink *)sink;
    unsigned char tag[CRYPT_TAG_SIZE];

    crypt_symmetric_end(&s->s, &s->out, tag);
    if (s->tag)
        buffer_append(&s->out, tag, sizeof(tag));
    return flush(s, e) < 0 ? -1 : byte_sink_finish(sink->next, e);
}

static void crypt_sink_free(struct byte_sink *sink)
{
    struct crypt_sink *s = (struct crypt_sink *)sink;

    explicit_bzero(&s->s, sizeof(s->s));
    buffer_free(&s->out);
    mem_free(s);
}

static void put_number(struct buffer *out, size_t bytes, size_t number)
{
    for (size_t i = bytes; i > 0; i--)
        buffer_append_byte(out, (unsigned char)(number >> (8 * (i - 1))));
}

static void put_counted(struct buffer *out, size_t bytes, struct slice content)
{
    put_number(out, bytes, content.size);
    buffer_append_slice(out, content);
}

static void random_secret(unsigned char *out, size_t size)
{
    if (gnutls_rnd(GNUTLS_RND_KEY, out, size) < 0)
        log_fatal(EXIT_OUT_OF_MEMORY, "No random bytes");
}

/* The ephemeral point and the secret, encrypted by what both keys agree on. */
static void wrap_ec(const struct crypt_key *to, const struct crypt_suite *suite, struct slice secret, struct buffer *keys)
{
    const struct crypt_cipher *cbc = crypt_cipher_find(SLICE("aes-256-cbc"));
    unsigned char shared[CRYPT_SECRET_MAX], derived[32 + AES_BLOCK_SIZE];
    struct crypt_key *ephemeral = crypt_key_generate(to->curve);
    struct buffer point = {0}, wrapped = {0};
    struct crypt_symmetric wrap;
    size_t agreed;

    crypt_point_put(ephemeral, false, &point);
    agreed = crypt_agree(ephemeral, &to->point, shared);
    crypt_derive(suite->digest, slice_of(shared, agreed), buffer_slice(&point), WRAP_ROUNDS, derived, sizeof(derived));
    crypt_symmetric_init(&wrap, cbc, true, derived, derived + 32, SLICE_EMPTY);
    crypt_symmetric_put(&wrap, secret, &wrapped);
    crypt_symmetric_end(&wrap, &wrapped, NULL);
    put_counted(keys, 4, buffer_slice(&point));
    put_counted(keys, 4, buffer_slice(&wrapped));
    crypt_key_free(&ephemeral);
    explicit_bzero(&wrap, sizeof(wrap));
    explicit_bzero(shared, sizeof(shared));
    explicit_bzero(derived, sizeof(derived));
    buffer_free(&point);
    buffer_free(&wrapped);
}

static void begin_v2(struct crypt_sink *s, const struct crypt_key *to, const struct crypt_suite *suite)
{
    const struct crypt_cipher *cipher = suite->cipher;
    unsigned char secret[SECRET_MAX], hash[SHA512_DIGEST_SIZE];
    size_t tag_size = s->tag ? CRYPT_TAG_SIZE : 0, size = cipher->key_size + cipher->iv_size + tag_size;
    struct buffer keys = {0}, rest = {0}, wrapped = {0};

    random_secret(secret, size);
    put_number(&keys, 1, 1);
    put_number(&keys, 1, to->rsa != NULL ? KEY_RSA : KEY_EC);
    buffer_append(&keys, to->id, CRYPT_ID_SIZE);
    if (to->rsa != NULL) {
        /* Keys that are too small for any secret are not taken at all (crypt_rsa.c). */
        if (crypt_rsa_wrap(to, slice_of(secret, size), &wrapped) < 0)
            log_fatal(EXIT_OUT_OF_MEMORY, "An RSA key is too small to encrypt with");
        put_counted(&keys, 4, SLICE_EMPTY);
        put_counted(&keys, 4, buffer_slice(&wrapped));
    } else {
        wrap_ec(to, suite, slice_of(secret, size), &keys);
    }
    buffer_append_slice(&rest, cipher->oid);
    buffer_append_slice(&rest, suite->digest->oid);
    put_number(&rest, 4, WRAP_ROUNDS);
    secret_hash(suite->digest, slice_of(secret, size), hash);
    put_counted(&keys, 4, slice_of(hash, suite->digest->hash->digest_size));
    put_counted(&rest, 4, buffer_slice(&keys));
    put_number(&s->out, 1, 2);
    put_number(&s->out, 4, s->tag ? FLAG_AEAD : FLAG_NONE);
    put_number(&s->out, 4, MAGIC_SIZE + 9 + rest.size);
    buffer_append_slice(&s->out, buffer_slice(&rest));
    crypt_symmetric_init(&s->s, cipher, true, secret, secret + cipher->key_size,
                         slice_of(secret + cipher->key_size + cipher->iv_size, tag_size));
    explicit_bzero(secret, sizeof(secret));
    buffer_free(&keys);
    buffer_free(&rest);
    buffer_free(&wrapped);
}

static void begin_v1(struct crypt_sink *s, const struct crypt_key *to)
{
    static const unsigned char zero[AES_BLOCK_SIZE];
    const struct crypt_cipher *ctr = crypt_cipher_find(SLICE("aes-256-ctr"));
    unsigned char secret[SHA256_DIGEST_SIZE], shared[CRYPT_SECRET_MAX], wrap[SHA256_DIGEST_SIZE], hash[SHA256_DIGEST_SIZE];
    struct crypt_key *ephemeral = crypt_key_generate(to->curve);
    struct buffer point = {0}, wrapped = {0}, rest = {0};
    struct sha256_ctx ctx;

    random_secret(secret, sizeof(secret));
    crypt_point_put(ephemeral, false, &point);
    sha256_init(&ctx);
    sha256_update(&ctx, crypt_agree(ephemeral, &to->point, shared), shared);
    sha256_digest(&ctx, sizeof(wrap), wrap);
    crypt_symmetric_init(&s->s, ctr, true, wrap, zero, SLICE_EMPTY);
    crypt_symmetric_put(&s->s, slice_of(secret, sizeof(secret)), &wrapped);
    sha256_update(&ctx, sizeof(secret), secret);
    sha256_digest(&ctx, sizeof(hash), hash);
    put_counted(&rest, 2, buffer_slice(&point));
    put_counted(&rest, 2, slice_of(to->old_id, CRYPT_ID_SIZE));
    put_counted(&rest, 2, slice_of(hash, sizeof(hash)));
    put_counted(&rest, 2, buffer_slice(&wrapped));
    put_number(&s->out, 1, 1);
    put_number(&s->out, 2, rest.size);
    buffer_append_slice(&s->out, buffer_slice(&rest));
    crypt_symmetric_init(&s->s, ctr, true, secret, zero, SLICE_EMPTY);
    crypt_key_free(&ephemeral);
    explicit_bzero(secret, sizeof(secret));
    explicit_bzero(shared, sizeof(shared));
    explicit_bzero(wrap, sizeof(wrap));
    buffer_free(&point);
    buffer_free(&wrapped);
    buffer_free(&rest);
}

int crypt_suite_parse(struct slice name, struct crypt_suite *out)
{
    ptrdiff_t dash = slice_find_last(name, '-');

    if (dash < 0)
        return -1;
    out->cipher = crypt_cipher_find(slice_head(name, (size_t)dash));
    out->digest = crypt_digest_find(slice_from(name, (size_t)dash + 1));
    return out->cipher == NULL || out->digest == NULL || out->cipher->oid.size == 0 ? -1 : 0;
}

struct byte_sink *crypt_encode_as(const struct crypt_key *to, unsigned version, const struct crypt_suite *suite,
                                  struct byte_sink *next)
{
    struct crypt_sink *s = mem_zero(1, sizeof(*s));

    s->sink = (struct byte_sink){crypt_put, crypt_finish, crypt_sink_free, next};
    buffer_append(&s->out, CRYPT_MAGIC, MAGIC_SIZE);
    s->tag = version != 1 && suite->cipher->mode == CRYPT_GCM;
    if (version == 1)
        begin_v1(s, to);
    else
        begin_v2(s, to, suite);
    return &s->sink;
}

struct byte_sink *crypt_encode(const struct crypt_key *to, unsigned version, struct byte_sink *next)
{
    struct crypt_suite suite = {crypt_cipher_find(SLICE("aes-256-gcm")), crypt_digest_find(SLICE("sha256"))};

    return crypt_encode_as(to, version, &suite, next);
}
