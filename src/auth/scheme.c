/* scheme.c - the table of password schemes, and the encodings of their stored forms. */
#include "config.h"

#include "auth/scheme_impl.h"

#include <nettle/nettle-meta.h>
#include <sys/random.h>

#include <nettle/md4.h>

/* In the order in which Dovecot's doveadm lists them. */
static const struct scheme schemes[] = {
    {"SHA1", ENCODING_BASE64, 20, scheme_digest_verify, scheme_digest_generate, &nettle_sha1},
    {"SSHA512", ENCODING_BASE64, 0, scheme_salted_verify, scheme_salted_generate, &nettle_sha512},
    {"SCRAM-SHA-256", ENCODING_TEXT, 0, scheme_scram_verify, scheme_scram_generate, &nettle_sha256},
    {"BLF-CRYPT", ENCODING_TEXT, 0, scheme_crypt_verify, scheme_crypt_generate, &scheme_crypt_blf},
    {"PLAIN", ENCODING_TEXT, 0, scheme_plain_verify, scheme_plain_generate, NULL},
    {"HMAC-MD5", ENCODING_HEX, 32, scheme_cram_md5_verify, scheme_cram_md5_generate, NULL},
    {"OTP", ENCODING_TEXT, 0, scheme_otp_verify, scheme_otp_generate, NULL},
    {"SHA512", ENCODING_BASE64, 64, scheme_digest_verify, scheme_digest_generate, &nettle_sha512},
    {"SHA", ENCODING_BASE64, 20, scheme_digest_verify, scheme_digest_generate, &nettle_sha1},
    {"DES-CRYPT", ENCODING_TEXT, 0, scheme_crypt_verify, scheme_crypt_generate, &scheme_crypt_des},
    {"CRYPT", ENCODING_TEXT, 0, scheme_crypt_verify, scheme_crypt_generate, &scheme_crypt_any},
    {"SSHA", ENCODING_BASE64, 0, scheme_salted_verify, scheme_salted_generate, &nettle_sha1},
    {"MD5-CRYPT", ENCODING_TEXT, 0, scheme_crypt_verify, scheme_crypt_generate, &scheme_crypt_md5},
    {"PLAIN-MD4", ENCODING_HEX, 16, scheme_digest_verify, scheme_digest_generate, &nettle_md4},
    {"PLAIN-MD5", ENCODING_HEX, 16, scheme_digest_verify, scheme_digest_generate, &nettle_md5},
    {"SCRAM-SHA-1", ENCODING_TEXT, 0, scheme_scram_verify, scheme_scram_generate, &nettle_sha1},
    {"SHA512-CRYPT", ENCODING_TEXT, 0, scheme_crypt_verify, scheme_crypt_generate, &scheme_crypt_sha512},
    {"CLEAR", ENCODING_TEXT, 0, scheme_plain_verify, scheme_plain_generate, NULL},
    {"CLEARTEXT", ENCODING_TEXT, 0, scheme_plain_verify, scheme_plain_generate, NULL},
#ifdef HAVE_SODIUM
    {"ARGON2I", ENCODING_TEXT, 0, scheme_argon2_verify, scheme_argon2_generate, "i"},
    {"ARGON2ID", ENCODING_TEXT, 0, scheme_argon2_verify, scheme_argon2_generate, "id"},
#endif
    {"SSHA256", ENCODING_BASE64, 0, scheme_salted_verify, scheme_salted_generate, &nettle_sha256},
    {"MD5", ENCODING_TEXT, 0, scheme_md5_verify, scheme_crypt_generate, &scheme_crypt_md5},
    {"PBKDF2", ENCODING_TEXT, 0, scheme_pbkdf2_verify, scheme_pbkdf2_generate, NULL},
    {"SHA256", ENCODING_BASE64, 32, scheme_digest_verify, scheme_digest_generate, &nettle_sha256},
    {"CRAM-MD5", ENCODING_HEX, 32, scheme_cram_md5_verify, scheme_cram_md5_generate, NULL},
    {"PLAIN-TRUNC", ENCODING_TEXT, 0, scheme_plain_trunc_verify, scheme_plain_trunc_generate, NULL},
    {"SHA256-CRYPT", ENCODING_TEXT, 0, scheme_crypt_verify, scheme_crypt_generate, &scheme_crypt_sha256},
    {"SMD5", ENCODING_BASE64, 0, scheme_salted_verify, scheme_salted_generate, &nettle_md5},
    {"DIGEST-MD5", ENCODING_HEX, 16, scheme_digest_md5_verify, scheme_digest_md5_generate, NULL},
    {"LDAP-MD5", ENCODING_BASE64, 16, scheme_digest_verify, scheme_digest_generate, &nettle_md5},
};
#define SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

const char *scheme_name_at(size_t i)
{
    return i < SCHEMES ? schemes[i].name : NULL;
}

void scheme_random(unsigned char *at, size_t size)
{
    /* Requests of at most 256 bytes are never short once the pool is ready. */
    if (getrandom(at, size, 0) != (ssize_t)size)
        log_fatal(EXIT_FATAL, "getrandom() failed");
}

void scheme_random_salt(char *at, size_t size)
{
    static const char letters[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    scheme_random((unsigned char *)at, size);
    for (size_t i = 0; i < size; i++)
        at[i] = letters[(unsigned char)at[i] & 63];
    at[size] = '\0';
}

/* The row and the encoding of "NAME" or "NAME.ENCODING"; *named tells whether an encoding was given. */
static const struct scheme *find_scheme(struct slice name, enum scheme_encoding *encoding, bool *named)
{
    ptrdiff_t dot = slice_find(name, '.');
    struct slice base = dot < 0 ? name : slice_head(name, (size_t)dot);

    *named = dot >= 0;
    if (slice_equal_str_nocase(base, "BCRYPT")) /* the name other systems give it; not listed */
        base = SLICE("BLF-CRYPT");
    for (size_t i = 0; i < SCHEMES; i++) {
        if (!slice_equal_str_nocase(base, schemes[i].name))
            continue;
        *encoding = schemes[i].encoding;
        if (dot >= 0) {
            struct slice ext = slice_from(name, (size_t)dot + 1);
            if (slice_equal_str_nocase(ext, "HEX"))
                *encoding = ENCODING_HEX;
            else if (slice_equal_str_nocase(ext, "B64") || slice_equal_str_nocase(ext, "BASE64"))
                *encoding = ENCODING_BASE64;
            else
                return NULL;
        }
        return &schemes[i];
    }
    return NULL;
}

bool scheme_known(struct slice name)
{
    enum scheme_encoding encoding;
    bool named;

    return find_scheme(name, &encoding, &named) != NULL;
}

bool scheme_is_plain(struct slice name)
{
    enum scheme_encoding encoding;
    bool named;
    const struct scheme *s = find_scheme(name, &encoding, &named);

    return s != NULL && s->verify == scheme_plain_verify;
}

bool scheme_split(struct slice *stored, struct slice *scheme)
{
    ptrdiff_t end;

    if (slice_starts(*stored, SLICE("$1$"))) {
        *scheme = SLICE("MD5-CRYPT");
        return true;
    }
    if (stored->size == 0 || stored->at[0] != '{' || (end = slice_find(*stored, '}')) < 0)
        return false;
    *scheme = slice_from(slice_head(*stored, (size_t)end), 1);
    *stored = slice_from(*stored, (size_t)end + 1);
    return true;
}

static int decode(const struct scheme *s, enum scheme_encoding encoding, bool named, struct slice data,
                  struct buffer *raw, struct error *e)
{
    if (encoding == ENCODING_TEXT) {
        buffer_append_slice(raw, data);
    } else if (encoding == ENCODING_HEX || (!named && s->raw_size != 0 && data.size == s->raw_size * 2)) {
        /* Exactly as many digits as the digest has: Dovecot takes it for hexadecimal, whatever the scheme. */
        bool guessed = !named;
        if (data.size % 2 == 0 && (!guessed || data.size == s->raw_size * 2) && text_hex_decode(raw, data) == 0) {
            /* decoded */
        } else if (named) {
            return error_set(e, ERROR_INVALID, "Input isn't valid HEX encoded data");
        } else {
            buffer_reset(raw);
            if (text_base64_decode(raw, data) < 0)
                return error_set(e, ERROR_INVALID, "Input isn't valid base64 encoded data");
        }
    } else if (text_base64_decode(raw, data) < 0) {
        return error_set(e, ERROR_INVALID, "Input isn't valid base64 encoded data");
    }
    if (s->raw_size != 0 && raw->size != s->raw_size)
        return error_set(e, ERROR_INVALID, "Input length isn't valid (%zu instead of %zu)", raw->size, s->raw_size);
    return 0;
}

int scheme_decode(struct slice name, struct slice data, struct buffer *raw, struct error *e)
{
    enum scheme_encoding encoding;
    bool named;
    const struct scheme *s = find_scheme(name, &encoding, &named);

    if (s == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "Unknown scheme");
    return decode(s, encoding, named, data, raw, e);
}

enum scheme_result scheme_verify(struct slice password, const char *user, struct slice name, struct slice data,
                                 struct error *e)
{
    enum scheme_encoding encoding;
    bool named;
    const struct scheme *s = find_scheme(name, &encoding, &named);
    struct scheme_input in = {password, user, 0};
    struct buffer raw = {0};
    enum scheme_result result = SCHEME_INVALID;

    if (s == NULL) {
        error_set(e, ERROR_UNSUPPORTED, "Unknown scheme %.*s", (int)slice_head(name, 64).size, (const char *)name.at);
        return SCHEME_UNKNOWN;
    }
    buffer_reserve(&raw, data.size + 1);
    if (decode(s, encoding, named, data, &raw, e) == 0)
        result = s->verify(s, &in, buffer_slice(&raw), e);
    buffer_wipe(&raw);
    return result;
}

enum scheme_result scheme_verify_same(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                      struct error *e)
{
    struct buffer made = {0};
    enum scheme_result result;

    if (s->generate(s, in, &made, e) < 0)
        result = SCHEME_INVALID;
    else
        result = slice_equal_secret(buffer_slice(&made), raw) ? SCHEME_MATCH : SCHEME_MISMATCH;
    buffer_wipe(&made);
    return result;
}

int scheme_generate(struct slice password, const char *user, struct slice name, unsigned rounds, struct buffer *out,
                    struct error *e)
{
    enum scheme_encoding encoding;
    bool named;
    const struct scheme *s = find_scheme(name, &encoding, &named);
    struct scheme_input in = {password, user, rounds};
    struct buffer raw = {0};
    int result;

    if (s == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "Unknown scheme: %.*s", (int)slice_head(name, 64).size,
                         (const char *)name.at);
    result = s->generate(s, &in, &raw, e);
    if (result == 0) {
        if (encoding == ENCODING_HEX)
            text_hex_encode(out, buffer_slice(&raw));
        else if (encoding == ENCODING_BASE64)
            text_base64_encode(out, buffer_slice(&raw));
        else
            buffer_append_slice(out, buffer_slice(&raw));
    }
    buffer_wipe(&raw);
    return result;
}

int scheme_credentials(struct slice name, struct slice data, const char *user, const char *wanted, struct buffer *raw,
                       struct error *e)
{
    enum scheme_encoding encoding, wanted_encoding;
    bool named;
    const struct scheme *s = find_scheme(name, &encoding, &named);
    const struct scheme *w;
    struct buffer plain = {0};
    int result;

    if (s == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "Unknown scheme %.*s", (int)slice_head(name, 64).size,
                         (const char *)name.at);
    if (decode(s, encoding, named, data, &plain, e) < 0) {
        buffer_wipe(&plain);
        return -1;
    }
    w = find_scheme(slice_from_str(wanted), &wanted_encoding, &named);
    /* CRAM-MD5 and HMAC-MD5, PLAIN and CLEARTEXT ... are one scheme under several names. */
    if (w == NULL || (s->verify == w->verify && s->how == w->how)) {
        buffer_append_slice(raw, buffer_slice(&plain));
        result = w == NULL ? error_set(e, ERROR_UNSUPPORTED, "Unknown scheme %s", wanted) : 0;
    } else if (s->verify == scheme_plain_verify) {
        struct scheme_input in = {buffer_slice(&plain), user, 0};
        result = w->generate(w, &in, raw, e);
    } else {
        result = error_set(e, ERROR_UNSUPPORTED, "Requested %s scheme, but we have only %s", wanted, s->name);
    }
    buffer_wipe(&plain);
    return result;
}
