/* scheme_derived.c - schemes with iterations: SCRAM (RFC 5802, RFC 7677), PBKDF2, OTP (RFC 2289), ARGON2.
 *
 * Iteration counts come from the database, which the admin fills; they are bounded all the same, so that a broken row
 * cannot hold a process for hours. */
#include "config.h"

#include "auth/scheme_impl.h"

#include <nettle/hmac.h>
#include <nettle/md4.h>
#include <nettle/md5.h>
#include <nettle/nettle-meta.h>
#include <nettle/pbkdf2.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stdio.h>
#ifdef HAVE_SODIUM
#include <sodium.h>
#endif

#define SCRAM_ITERATIONS 4096
#define SCRAM_SALT 16
#define ITERATIONS_MOST 10000000
#define KEY_MAX SHA256_DIGEST_SIZE

/* ---- SCRAM ---------------------------------------------------------------------------------------------------- */

struct keys { unsigned char stored[KEY_MAX], server[KEY_MAX]; };

static void scram_keys(const struct nettle_hash *hash, struct slice password, struct slice salt, unsigned iterations,
                       struct keys *out)
{
    unsigned char salted[KEY_MAX], client[KEY_MAX];
    size_t n = hash->digest_size;

    if (hash == &nettle_sha1) {
        struct hmac_sha1_ctx ctx;
        struct sha1_ctx sha;
        pbkdf2_hmac_sha1(password.size, password.at, iterations, salt.size, salt.at, n, salted);
        hmac_sha1_set_key(&ctx, n, salted);
        hmac_sha1_update(&ctx, 10, (const unsigned char *)"Client Key");
        hmac_sha1_digest(&ctx, n, client);
        hmac_sha1_update(&ctx, 10, (const unsigned char *)"Server Key");
        hmac_sha1_digest(&ctx, n, out->server);
        sha1_init(&sha);
        sha1_update(&sha, n, client);
        sha1_digest(&sha, n, out->stored);
    } else {
        struct hmac_sha256_ctx ctx;
        struct sha256_ctx sha;
        pbkdf2_hmac_sha256(password.size, password.at, iterations, salt.size, salt.at, n, salted);
        hmac_sha256_set_key(&ctx, n, salted);
        hmac_sha256_update(&ctx, 10, (const unsigned char *)"Client Key");
        hmac_sha256_digest(&ctx, n, client);
        hmac_sha256_update(&ctx, 10, (const unsigned char *)"Server Key");
        hmac_sha256_digest(&ctx, n, out->server);
        sha256_init(&sha);
        sha256_update(&sha, n, client);
        sha256_digest(&sha, n, out->stored);
    }
    explicit_bzero(salted, sizeof(salted));
    explicit_bzero(client, sizeof(client));
}

static bool decode_part(struct slice part, struct buffer *out)
{
    buffer_reset(out);
    return text_base64_decode(out, part) == 0;
}

enum scheme_result scheme_scram_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                       struct error *e)
{
    const struct nettle_hash *hash = s->how;
    struct slice rest = raw, part[4];
    struct buffer salt = {0}, stored = {0};
    struct keys keys;
    uint32_t iterations;
    enum scheme_result result = SCHEME_INVALID;

    for (size_t i = 0; i < 4; i++)
        if (!slice_split(&rest, ',', &part[i])) {
            error_set(e, ERROR_INVALID, "Invalid %s passdb entry format", s->name);
            return SCHEME_INVALID;
        }
    if (rest.at != NULL) {
        error_set(e, ERROR_INVALID, "Invalid %s passdb entry format", s->name);
    } else if (!slice_to_u32(part[0], &iterations) || iterations < SCRAM_ITERATIONS || iterations > ITERATIONS_MOST) {
        error_set(e, ERROR_INVALID, "Invalid %s iteration count in passdb", s->name);
    } else if (!decode_part(part[1], &salt) || salt.size == 0 || !decode_part(part[2], &stored) ||
               stored.size != hash->digest_size) {
        error_set(e, ERROR_INVALID, "Invalid %s StoredKey in passdb", s->name);
    } else {
        scram_keys(hash, in->password, buffer_slice(&salt), iterations, &keys);
        result = slice_equal_secret(slice_of(keys.stored, hash->digest_size), buffer_slice(&stored)) ? SCHEME_MATCH
                                                                                                  : SCHEME_MISMATCH;
        explicit_bzero(&keys, sizeof(keys));
    }
    buffer_free(&salt);
    buffer_wipe(&stored);
    return result;
}

int scheme_scram_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    const struct nettle_hash *hash = s->how;
    unsigned iterations = in->rounds < SCRAM_ITERATIONS ? SCRAM_ITERATIONS : in->rounds;
    unsigned char salt[SCRAM_SALT];
    struct keys keys;

    (void)e;
    if (iterations > ITERATIONS_MOST)
        iterations = ITERATIONS_MOST;
    scheme_random(salt, sizeof(salt));
    scram_keys(hash, in->password, slice_of(salt, sizeof(salt)), iterations, &keys);
    buffer_printf(out, "%u,", iterations);
    text_base64_encode(out, slice_of(salt, sizeof(salt)));
    buffer_append_byte(out, ',');
    text_base64_encode(out, slice_of(keys.stored, hash->digest_size));
    buffer_append_byte(out, ',');
    text_base64_encode(out, slice_of(keys.server, hash->digest_size));
    explicit_bzero(&keys, sizeof(keys));
    return 0;
}

/* ---- PBKDF2: $1$salt$rounds$40 hexadecimal digits ------------------------------------------------------------- */

enum scheme_result scheme_pbkdf2_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                        struct error *e)
{
    struct slice rest = raw, salt, rounds, hex;
    struct buffer stored = {0};
    unsigned char made[SHA1_DIGEST_SIZE];
    enum scheme_result result = SCHEME_INVALID;
    uint32_t n;

    (void)s;
    if (!slice_starts(raw, SLICE("$1$"))) {
        error_set(e, ERROR_INVALID, "Invalid PBKDF2 passdb entry prefix");
        return SCHEME_INVALID;
    }
    rest = slice_from(raw, 3);
    if (!slice_split(&rest, '$', &salt) || !slice_split(&rest, '$', &rounds) || !slice_to_u32(rounds, &n) || n == 0 ||
        n > ITERATIONS_MOST || !slice_split(&rest, '$', &hex) || salt.size == 0) {
        error_set(e, ERROR_INVALID, "Invalid PBKDF2 passdb entry format");
    } else if (text_hex_decode(&stored, hex) < 0 || stored.size != SHA1_DIGEST_SIZE) {
        error_set(e, ERROR_INVALID, "PBKDF2 hash not 160bit hex-encoded");
    } else {
        pbkdf2_hmac_sha1(in->password.size, in->password.at, n, salt.size, salt.at, sizeof(made), made);
        result = slice_equal_secret(slice_of(made, sizeof(made)), buffer_slice(&stored)) ? SCHEME_MATCH : SCHEME_MISMATCH;
        explicit_bzero(made, sizeof(made));
    }
    buffer_wipe(&stored);
    return result;
}

int scheme_pbkdf2_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    unsigned rounds = in->rounds == 0 ? 5000 : in->rounds > ITERATIONS_MOST ? ITERATIONS_MOST : in->rounds;
    unsigned char made[SHA1_DIGEST_SIZE];
    char salt[17];

    (void)s, (void)e;
    scheme_random_salt(salt, 16);
    pbkdf2_hmac_sha1(in->password.size, in->password.at, rounds, 16, (const unsigned char *)salt, sizeof(made), made);
    buffer_printf(out, "$1$%s$%u$", salt, rounds);
    text_hex_encode(out, slice_of(made, sizeof(made)));
    return 0;
}

/* ---- OTP: <algorithm> <sequence> <seed> <16 hexadecimal digits> ----------------------------------------------- */

/* Folds a digest to 64 bits (RFC 2289 section 6.0, appendix A). */
static void fold(const struct nettle_hash *hash, const unsigned char *digest, unsigned char out[8])
{
    if (hash == &nettle_sha1) {
        /* Words are folded in memory order of the little-endian reference machine. */
        for (size_t i = 0; i < 4; i++) {
            out[i] = digest[3 - i] ^ digest[11 - i] ^ digest[19 - i];
            out[4 + i] = digest[7 - i] ^ digest[15 - i];
        }
    } else {
        for (size_t i = 0; i < 8; i++)
            out[i] = digest[i] ^ digest[8 + i];
    }
}

static void otp_hash(const struct nettle_hash *hash, struct slice a, struct slice b, unsigned char out[8])
{
    unsigned char digest[SCHEME_DIGEST_MOST];
    void *ctx = mem_alloc(hash->context_size);

    hash->init(ctx);
    hash->update(ctx, a.size, a.at);
    hash->update(ctx, b.size, b.at);
    hash->digest(ctx, hash->digest_size, digest);
    fold(hash, digest, out);
    mem_free(ctx);
}

static void otp_compute(const struct nettle_hash *hash, struct slice seed, struct slice password, unsigned sequence,
                        unsigned char out[8])
{
    otp_hash(hash, seed, password, out);
    for (unsigned i = 0; i < sequence; i++) {
        unsigned char last[8];
        memcpy(last, out, 8);
        otp_hash(hash, slice_of(last, 8), SLICE_EMPTY, out);
    }
}

enum scheme_result scheme_otp_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                     struct error *e)
{
    struct slice rest = raw, name, number, seed, hex;
    const struct nettle_hash *hash = NULL;
    struct buffer stored = {0};
    unsigned char made[8];
    enum scheme_result result = SCHEME_INVALID;
    uint32_t sequence;

    (void)s;
    if (slice_split(&rest, ' ', &name))
        hash = slice_equal_str(name, "md4") ? &nettle_md4 : slice_equal_str(name, "md5") ? &nettle_md5
             : slice_equal_str(name, "sha1") ? &nettle_sha1 : NULL;
    if (hash == NULL || !slice_split(&rest, ' ', &number) || !slice_to_u32(number, &sequence) || sequence == 0 ||
        sequence > 1024 || !slice_split(&rest, ' ', &seed) || seed.size == 0 || seed.size > 16 ||
        !slice_split(&rest, ' ', &hex) || text_hex_decode(&stored, hex) < 0 || stored.size != 8) {
        error_set(e, ERROR_INVALID, "Invalid OTP data in passdb");
    } else {
        otp_compute(hash, seed, in->password, sequence, made);
        result = slice_equal_secret(slice_of(made, 8), buffer_slice(&stored)) ? SCHEME_MATCH : SCHEME_MISMATCH;
    }
    buffer_wipe(&stored);
    return result;
}

int scheme_otp_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    unsigned char random[8], made[8];
    struct buffer seed = {0};

    (void)s, (void)e;
    scheme_random(random, sizeof(random));
    text_hex_encode(&seed, slice_of(random, sizeof(random)));
    otp_compute(&nettle_sha1, buffer_slice(&seed), in->password, 1024, made);
    buffer_append_str(out, "sha1 1024 ");
    buffer_append_slice(out, buffer_slice(&seed));
    buffer_append_byte(out, ' ');
    text_hex_encode(out, slice_of(made, sizeof(made)));
    buffer_free(&seed);
    return 0;
}

/* ---- ARGON2 --------------------------------------------------------------------------------------------------- */

#ifdef HAVE_SODIUM

enum scheme_result scheme_argon2_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                        struct error *e)
{
    enum scheme_result result;
    char *stored;

    (void)s, (void)e;
    if (sodium_init() < 0)
        return SCHEME_INVALID;
    stored = mem_strndup(raw);
    result = crypto_pwhash_str_verify(stored, (const char *)in->password.at, in->password.size) == 0 ? SCHEME_MATCH
                                                                                                 : SCHEME_MISMATCH;
    explicit_bzero(stored, raw.size);
    mem_free(stored);
    return result;
}

/* The operations limit chooses the memory, in libsodium's three named steps. */
int scheme_argon2_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    char made[crypto_pwhash_STRBYTES];
    const char *text = in->password.size == 0 ? "" : (const char *)in->password.at;
    bool id = strcmp(s->how, "id") == 0;
    unsigned long long ops = in->rounds;
    size_t memory;
    int result;

    if (sodium_init() < 0)
        return error_set(e, ERROR_BUG, "sodium_init() failed");
    if (id) {
        memory = ops >= crypto_pwhash_argon2id_OPSLIMIT_SENSITIVE ? crypto_pwhash_argon2id_MEMLIMIT_SENSITIVE
               : ops >= crypto_pwhash_argon2id_OPSLIMIT_MODERATE  ? crypto_pwhash_argon2id_MEMLIMIT_MODERATE
                                                                  : crypto_pwhash_argon2id_MEMLIMIT_INTERACTIVE;
        if (ops < 3)
            ops = 3;
        result = crypto_pwhash_argon2id_str(made, text, in->password.size, ops, memory);
    } else {
        if (ops == 0)
            ops = crypto_pwhash_argon2i_OPSLIMIT_INTERACTIVE;
        memory = ops >= crypto_pwhash_argon2i_OPSLIMIT_SENSITIVE ? crypto_pwhash_argon2i_MEMLIMIT_SENSITIVE
               : ops >= crypto_pwhash_argon2i_OPSLIMIT_MODERATE  ? crypto_pwhash_argon2i_MEMLIMIT_MODERATE
                                                                 : crypto_pwhash_argon2i_MEMLIMIT_INTERACTIVE;
        result = crypto_pwhash_argon2i_str(made, text, in->password.size, ops, memory);
    }
    if (result < 0)
        return error_sys(e, id ? "crypto_pwhash_argon2id_str" : "crypto_pwhash_argon2i_str", NULL);
    buffer_append_str(out, made);
    return 0;
}

#endif
