/* Password schemes (auth.md 10): pure functions, a library of their own (libauthscheme.a), since doveadm pw uses them.
 *
 * A stored password is `{NAME}data` or `{NAME.ENCODING}data`; ENCODING is HEX, B64 or BASE64. Without an encoding
 * the scheme's own holds; a digest of known length is also recognised as hexadecimal when it has exactly that many
 * digits. Names are case-insensitive. All comparisons of secrets take constant time. */
#ifndef YARILO_AUTH_SCHEME_H
#define YARILO_AUTH_SCHEME_H

#include "base/base.h"

enum scheme_result {
    SCHEME_MATCH = 1,
    SCHEME_MISMATCH = 0,
    SCHEME_INVALID = -1, /* the stored data is not of that scheme */
    SCHEME_UNKNOWN = -2
};

/* Takes `{SCHEME}` (or, for "$1$...", MD5-CRYPT) off the front of *stored into *scheme; false: there is none, or the
 * closing brace is missing. */
bool scheme_split(struct slice *stored, struct slice *scheme);
bool scheme_known(struct slice scheme);

/* Is the password the stored one? `scheme` as scheme_split gives it, `data` the rest. `user`: the name for schemes
 * that mix it in. For INVALID and UNKNOWN *e has the reason in Dovecot's words. */
enum scheme_result scheme_verify(struct slice password, const char *user, struct slice scheme, struct slice data,
                                 struct error *e);
/* The encoding alone: 0, or -1 with "Input isn't valid base64 encoded data" and the like (doveadm pw -t says so). */
int scheme_decode(struct slice scheme, struct slice data, struct buffer *raw, struct error *e);

/* A new stored form, without the {SCHEME} prefix. rounds 0 = the scheme's default. Values out of the scheme's range
 * are clamped. -1: unknown scheme, user missing ("digest_md5_generate(): username not given"), or the library refused. */
int scheme_generate(struct slice password, const char *user, struct slice scheme, unsigned rounds, struct buffer *out,
                    struct error *e);

/* What a mechanism needs: the raw (decoded) data of `wanted` from a stored password. The same scheme is decoded, a
 * plain text password generates it; anything else: -1 with class UNSUPPORTED. */
int scheme_credentials(struct slice scheme, struct slice data, const char *user, const char *wanted,
                       struct buffer *raw, struct error *e);

/* The names in Dovecot's order (doveadm pw -l), NULL after the last. */
const char *scheme_name_at(size_t i);
bool scheme_is_plain(struct slice scheme); /* PLAIN, CLEAR, CLEARTEXT (whatever the encoding) */

#endif
