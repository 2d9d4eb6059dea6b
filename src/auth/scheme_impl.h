/* Between the files of the scheme library: one table row per scheme. */
#ifndef YARILO_AUTH_SCHEME_IMPL_H
#define YARILO_AUTH_SCHEME_IMPL_H

#include "auth/scheme.h"

enum scheme_encoding { ENCODING_TEXT, ENCODING_HEX, ENCODING_BASE64 };

#define SCHEME_DIGEST_MOST 64 /* bytes of SHA-512 */

struct scheme_input {
    struct slice password;
    const char *user;
    unsigned rounds;
};

struct scheme {
    const char *name;
    enum scheme_encoding encoding; /* of the stored form when none is named */
    size_t raw_size;               /* bytes of the decoded form; 0 = any */
    enum scheme_result (*verify)(const struct scheme *, const struct scheme_input *, struct slice raw, struct error *);
    int (*generate)(const struct scheme *, const struct scheme_input *, struct buffer *raw, struct error *);
    const void *how;               /* the scheme's own: digest, crypt prefix */
};

/* verify for schemes whose data is a function of the input: generates and compares. */
enum scheme_result scheme_verify_same(const struct scheme *, const struct scheme_input *, struct slice raw, struct error *);

/* Fills with random bytes, or with letters of crypt's alphabet "./0-9A-Za-z". */
void scheme_random(unsigned char *at, size_t size);
void scheme_random_salt(char *at, size_t size); /* adds the NUL */

#define SCHEME_FUNCTIONS(name) \
    enum scheme_result name##_verify(const struct scheme *, const struct scheme_input *, struct slice, struct error *); \
    int name##_generate(const struct scheme *, const struct scheme_input *, struct buffer *, struct error *)
SCHEME_FUNCTIONS(scheme_plain);
SCHEME_FUNCTIONS(scheme_plain_trunc);
SCHEME_FUNCTIONS(scheme_digest);
SCHEME_FUNCTIONS(scheme_salted);
SCHEME_FUNCTIONS(scheme_digest_md5);
SCHEME_FUNCTIONS(scheme_cram_md5);
SCHEME_FUNCTIONS(scheme_crypt);
SCHEME_FUNCTIONS(scheme_md5);
SCHEME_FUNCTIONS(scheme_scram);
SCHEME_FUNCTIONS(scheme_pbkdf2);
SCHEME_FUNCTIONS(scheme_otp);
SCHEME_FUNCTIONS(scheme_argon2);

struct scheme_crypt { const char *prefix; unsigned default_rounds, least, most; size_t salt; };
extern const struct scheme_crypt scheme_crypt_des, scheme_crypt_md5, scheme_crypt_sha256, scheme_crypt_sha512,
    scheme_crypt_blf, scheme_crypt_any;

#endif
