/* scheme_digest.c - schemes that are a digest of the password, alone or with a salt behind it (auth.md 10). */
#include "auth/scheme_impl.h"

#include <nettle/md5.h>
#include <nettle/nettle-meta.h>

#define SALT_SIZE 4 /* of new SMD5 and SSHA values */

enum scheme_result scheme_plain_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                       struct error *e)
{
    (void)s, (void)e;
    return slice_equal_secret(in->password, raw) ? SCHEME_MATCH : SCHEME_MISMATCH;
}

int scheme_plain_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    (void)s, (void)e;
    buffer_append_slice(out, in->password);
    return 0;
}

/* "<length>-<prefix>": only the first `length` bytes of the password count. */
enum scheme_result scheme_plain_trunc_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                             struct error *e)
{
    struct slice rest = raw, length;
    uint32_t n;

    (void)s;
    if (slice_find(raw, '-') < 0 || !slice_split(&rest, '-', &length) || !slice_to_u32(length, &n)) {
        error_set(e, ERROR_INVALID, "PLAIN-TRUNC missing length: prefix");
        return SCHEME_INVALID;
    }
    /* The stored part is compared as a whole: one longer than its length matches nothing. */
    return slice_equal_secret(slice_head(in->password, n), rest) ? SCHEME_MATCH : SCHEME_MISMATCH;
}

int scheme_plain_trunc_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out,
                                struct error *e)
{
    (void)s, (void)e;
    /* The real one gives the bare password, which it does not verify itself; a length in front verifies in both. */
    buffer_printf(out, "%zu-", in->password.size);
    buffer_append_slice(out, in->password);
    return 0;
}

static void digest(const struct nettle_hash *hash, struct slice a, struct slice b, unsigned char *out)
{
    void *ctx = mem_alloc(hash->context_size);

    hash->init(ctx);
    hash->update(ctx, a.size, a.at);
    hash->update(ctx, b.size, b.at);
    hash->digest(ctx, hash->digest_size, out);
    explicit_bzero(ctx, hash->context_size);
    mem_free(ctx);
}

int scheme_digest_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    const struct nettle_hash *hash = s->how;
    unsigned char raw[SCHEME_DIGEST_MOST];

    (void)e;
    digest(hash, in->password, SLICE_EMPTY, raw);
    buffer_append(out, raw, hash->digest_size);
    return 0;
}

enum scheme_result scheme_digest_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                        struct error *e)
{
    return scheme_verify_same(s, in, raw, e);
}

enum scheme_result scheme_salted_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                        struct error *e)
{
    const struct nettle_hash *hash = s->how;
    unsigned char made[SCHEME_DIGEST_MOST];

    if (raw.size <= hash->digest_size) {
        error_set(e, ERROR_INVALID, "%s password is too short", s->name);
        return SCHEME_INVALID;
    }
    digest(hash, in->password, slice_from(raw, hash->digest_size), made);
    return slice_equal_secret(slice_of(made, hash->digest_size), slice_head(raw, hash->digest_size)) ? SCHEME_MATCH
                                                                                                   : SCHEME_MISMATCH;
}

int scheme_salted_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    const struct nettle_hash *hash = s->how;
    unsigned char made[SCHEME_DIGEST_MOST], salt[SALT_SIZE];

    (void)e;
    scheme_random(salt, sizeof(salt));
    digest(hash, in->password, slice_of(salt, sizeof(salt)), made);
    buffer_append(out, made, hash->digest_size);
    buffer_append(out, salt, sizeof(salt));
    return 0;
}

/* MD5(user:realm:password); the realm is what follows the last '@' (RFC 2831 section 2.1.2.1). */
int scheme_digest_md5_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out,
                               struct error *e)
{
    struct slice user = slice_from_str(in->user), realm = SLICE_EMPTY;
    unsigned char raw[MD5_DIGEST_SIZE];
    struct md5_ctx ctx;
    ptrdiff_t at;

    (void)s;
    if (user.size == 0)
        return error_set(e, ERROR_INVALID, "digest_md5_generate(): username not given");
    at = slice_find_last(user, '@');
    if (at >= 0) {
        realm = slice_from(user, (size_t)at + 1);
        user = slice_head(user, (size_t)at);
    }
    md5_init(&ctx);
    md5_update(&ctx, user.size, user.at);
    md5_update(&ctx, 1, (const unsigned char *)":");
    md5_update(&ctx, realm.size, realm.at);
    md5_update(&ctx, 1, (const unsigned char *)":");
    md5_update(&ctx, in->password.size, in->password.at);
    md5_digest(&ctx, sizeof(raw), raw);
    buffer_append(out, raw, sizeof(raw));
    explicit_bzero(&ctx, sizeof(ctx));
    return 0;
}

enum scheme_result scheme_digest_md5_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                            struct error *e)
{
    return scheme_verify_same(s, in, raw, e);
}

/* The states of HMAC-MD5 after its outer and its inner pad, in that order (RFC 2195): enough to answer challenges, not the password. */
int scheme_cram_md5_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    unsigned char key[MD5_BLOCK_SIZE] = {0}, pad[MD5_BLOCK_SIZE], raw[32];
    struct md5_ctx ctx;

    (void)s, (void)e;
    if (in->password.size > sizeof(key)) {
        md5_init(&ctx);
        md5_update(&ctx, in->password.size, in->password.at);
        md5_digest(&ctx, MD5_DIGEST_SIZE, key);
    } else if (in->password.size > 0) {
        memcpy(key, in->password.at, in->password.size);
    }
    for (unsigned inner = 0; inner < 2; inner++) {
        for (size_t i = 0; i < sizeof(pad); i++)
            pad[i] = key[i] ^ (inner == 0 ? 0x5c : 0x36);
        md5_init(&ctx);
        md5_update(&ctx, sizeof(pad), pad);
        for (size_t i = 0; i < 4; i++)
            bytes_put_le32(raw + 16 * inner + 4 * i, ctx.state[i]);
    }
    buffer_append(out, raw, sizeof(raw));
    explicit_bzero(key, sizeof(key));
    explicit_bzero(pad, sizeof(pad));
    explicit_bzero(&ctx, sizeof(ctx));
    return 0;
}

enum scheme_result scheme_cram_md5_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                          struct error *e)
{
    return scheme_verify_same(s, in, raw, e);
}
