/* Functions in %{...}: env:NAME, hashes of a variable, if (config 9.1). */
#include "conf/expand.h"

#include <nettle/md4.h>
#include <nettle/nettle-meta.h>
#include <nettle/pbkdf2.h>
#include <nettle/sha2.h>
#include <nettle/sha3.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#define FAIL(x, ...) expand_fail_text((x), arena_printf((x)->arena, __VA_ARGS__))

bool expand_fail_text(struct expand *x, const char *text)
{
    struct error e;
    error_clear(&e);
    error_set(&e, ERROR_INVALID, "%s", text);
    expand_fail(x, &e);
    return false;
}

static const char *text_of(struct expand *x, struct slice s)
{
    return arena_str(x->arena, s);
}

/* ---- hashes ----------------------------------------------------------------------------------------------------- */

static const struct nettle_hash *find_hash(struct slice name)
{
    static const struct {
        const char *name;
        const struct nettle_hash *hash;
    } known[] = {
        {"md4", &nettle_md4}, {"md5", &nettle_md5}, {"sha1", &nettle_sha1}, {"sha256", &nettle_sha256},
        {"sha384", &nettle_sha384}, {"sha512", &nettle_sha512}, {"sha3-256", &nettle_sha3_256},
        {"sha3-512", &nettle_sha3_512},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (slice_equal_str(name, known[i].name))
            return known[i].hash;
    }
    return NULL;
}

enum hash_format { FORMAT_HEX, FORMAT_BASE64 };
enum { PKCS5_OUTPUT = 512, ROUNDS_MOST = 10000000 };

struct hash_options {
    uint32_t rounds, truncate;
    enum hash_format format;
    struct slice salt;
    bool has_salt;
};

static bool read_option(struct expand *x, struct slice key, struct slice value, struct hash_options *o)
{
    if (slice_equal_str(key, "rounds")) {
        if (!slice_to_u32(value, &o->rounds) || o->rounds > ROUNDS_MOST)
            return FAIL(x, "Cannot parse hash arguments:'%s' is not number for rounds", text_of(x, value));
        if (o->rounds < 1)
            return FAIL(x, "Cannot parse hash arguments:rounds must be at least 1");
    } else if (slice_equal_str(key, "truncate")) {
        if (!slice_to_u32(value, &o->truncate))
            return FAIL(x, "Cannot parse hash arguments:'%s' is not number for truncbits", text_of(x, value));
    } else if (slice_equal_str(key, "format")) {
        if (slice_equal_str(value, "hex") || slice_equal_str(value, "hexuc"))
            o->format = FORMAT_HEX;
        else if (slice_equal_str(value, "base64"))
            o->format = FORMAT_BASE64;
        else
            return FAIL(x, "Cannot parse hash arguments:'%s' is not supported format", text_of(x, value));
    } else if (slice_equal_str(key, "salt")) {
        o->salt = expand_text(x, text_of(x, value));
        o->has_salt = true;
    }
    return true;
}

static bool read_options(struct expand *x, struct slice text, struct hash_options *o)
{
    struct slice part;
    while (slice_split(&text, ',', &part)) {
        ptrdiff_t equals = slice_find(part, '=');
        struct slice key = equals < 0 ? part : slice_head(part, (size_t)equals);
        struct slice value = equals < 0 ? SLICE_EMPTY : slice_from(part, (size_t)equals + 1);
        if (!read_option(x, key, value, o))
            return false;
        if (o->has_salt) /* what follows the salt is not read */
            break;
    }
    return true;
}

/* Repeats the digest over salt and the text so far. */
static void digest_rounds(struct expand *x, const struct nettle_hash *hash, const struct hash_options *o,
                          struct slice value, struct buffer *out)
{
    void *context = arena_alloc(x->arena, hash->context_size);
    unsigned char digest[SHA512_DIGEST_SIZE];
    for (uint32_t round = 0; round < o->rounds; round++) {
        hash->init(context);
        hash->update(context, o->salt.size, o->salt.at);
        hash->update(context, value.size, value.at);
        hash->digest(context, hash->digest_size, digest);
        value = slice_of(digest, hash->digest_size);
    }
    buffer_append_slice(out, value);
}

/* The leading bits, moved right into as few bytes as hold them. */
static void truncate_bits(struct buffer *digest, uint32_t bits)
{
    if (bits == 0 || bits >= digest->size * 8)
        return;
    size_t size = (bits + 7) / 8;
    unsigned shift = (unsigned)(size * 8 - bits);
    for (size_t i = size; shift > 0 && i-- > 0;) {
        unsigned high = i > 0 ? (unsigned)digest->at[i - 1] << (8 - shift) : 0;
        digest->at[i] = (unsigned char)((digest->at[i] >> shift) | high);
    }
    digest->size = size;
}

static bool hash_field(struct expand *x, struct slice algorithm, struct slice options, struct slice field,
                       struct slice *value)
{
    const struct nettle_hash *hash = find_hash(algorithm);
    bool pkcs5 = slice_equal_str(algorithm, "pkcs5"), size = slice_equal_str(algorithm, "size");
    struct hash_options o = {.rounds = pkcs5 ? 2048 : 1};
    struct slice text;
    struct buffer digest = {0};
    if (!read_options(x, options, &o) || !expand_find(x, field, &text))
        return false;
    if (pkcs5) {
        struct slice salt = o.has_salt ? o.salt : field;
        unsigned char *key = arena_alloc(x->arena, PKCS5_OUTPUT);
        nettle_pbkdf2_hmac_sha256(text.size, text.at, o.rounds, salt.size, salt.at, PKCS5_OUTPUT, key);
        buffer_append(&digest, key, PKCS5_OUTPUT);
    } else if (size) {
        unsigned char length[4];
        bytes_put_be32(length, (uint32_t)(text.size + o.salt.size));
        buffer_append(&digest, length, sizeof(length));
    } else {
        digest_rounds(x, hash, &o, text, &digest);
    }
    truncate_bits(&digest, o.truncate);
    struct buffer out = {0};
    if (o.format == FORMAT_HEX)
        text_hex_encode(&out, buffer_slice(&digest));
    else
        text_base64_encode(&out, buffer_slice(&digest));
    *value = arena_slice(x->arena, buffer_slice(&out));
    buffer_free(&out);
    buffer_free(&digest);
    return true;
}

/* ---- if --------------------------------------------------------------------------------------------------------- */

enum { IF_PARTS = 6 };

/* Splits at ';' outside of braces; \; and \: stand for the byte; an unescaped ':' ends the parameters. */
static unsigned split_if(struct expand *x, struct slice text, const char *parts[IF_PARTS])
{
    struct buffer part = {0};
    unsigned n = 0, depth = 0;
    for (size_t i = 0; i <= text.size; i++) {
        unsigned char c = i < text.size ? text.at[i] : ';';
        bool last = i == text.size || (depth == 0 && c == ':');
        if (c == '\\' && i + 1 < text.size && depth == 0) {
            unsigned char next = text.at[++i];
            if (next != ';' && next != ':')
                buffer_append_byte(&part, '\\');
            buffer_append_byte(&part, next);
            continue;
        }
        if (last || (depth == 0 && c == ';')) {
            if (n < IF_PARTS)
                parts[n] = text_of(x, buffer_slice(&part));
            n++;
            buffer_reset(&part);
            if (last)
                break;
            continue;
        }
        if (c == '{')
            depth++;
        else if (c == '}' && depth > 0)
            depth--;
        buffer_append_byte(&part, c);
    }
    buffer_free(&part);
    return n;
}

/* * and ?; linear in practice, quadratic at worst: goes back only to the last star. */
static bool wildcard_matches(const char *pattern, const char *text)
{
    const char *star = NULL, *retry = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            retry = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star + 1;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static bool regex_matches(struct expand *x, const char *pattern, const char *text, bool *result)
{
    regex_t regex;
    char why[128];
    int error = regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB);
    if (error != 0) {
        regerror(error, &regex, why, sizeof(why));
        return FAIL(x, "if: regex failed: %s", why);
    }
    *result = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return true;
}

static bool read_integer(const char *text, long long *number)
{
    char *end;
    *number = strtoll(text, &end, 10);
    return *text != '\0' && *end == '\0';
}

/* One table for numbers and texts: which outcomes of a comparison (below, equal, above) are true. */
static const struct {
    const char *name;
    bool number;
    bool below, equal, above;
} comparators[] = {
    {"==", true, false, true, false}, {"!=", true, true, false, true}, {"<", true, true, false, false},
    {"<=", true, true, true, false}, {">", true, false, false, true}, {">=", true, false, true, true},
    {"eq", false, false, true, false}, {"ne", false, true, false, true}, {"lt", false, true, false, false},
    {"le", false, true, true, false}, {"gt", false, false, false, true}, {"ge", false, false, true, true},
};

static bool compare(struct expand *x, const char *a, const char *op, const char *b, bool *result)
{
    for (size_t i = 0; i < sizeof(comparators) / sizeof(comparators[0]); i++) {
        if (strcmp(op, comparators[i].name) != 0)
            continue;
        long long one = 0, two = 0;
        if (comparators[i].number) {
            if (!read_integer(a, &one))
                return FAIL(x, "if: %s (lhs) is not a number", a);
            if (!read_integer(b, &two))
                return FAIL(x, "if: %s (rhs) is not a number", b);
        } else {
            one = strcmp(a, b);
        }
        *result = one < two ? comparators[i].below : one > two ? comparators[i].above : comparators[i].equal;
        return true;
    }
    bool not = op[0] == '!';
    if (strcmp(op + not, "*") == 0) {
        *result = wildcard_matches(b, a) != not;
        return true;
    }
    if (strcmp(op + not, "~") == 0) {
        if (!regex_matches(x, b, a, result))
            return false;
        *result ^= not;
        return true;
    }
    return FAIL(x, "if: Unsupported comparator '%s'", op);
}

static bool choose(struct expand *x, struct slice text, struct slice *value)
{
    const char *parts[IF_PARTS];
    unsigned n = split_if(x, text, parts);
    if (n < 2)
        return FAIL(x, "if: missing parameter(s)");
    if (n != 4 && n != 5)
        return FAIL(x, "if: requires four or five parameters, got %u", n);
    bool result = false;
    const char *a = text_of(x, expand_text(x, parts[0])), *b = text_of(x, expand_text(x, parts[2]));
    if (!compare(x, a, text_of(x, expand_text(x, parts[1])), b, &result))
        return false;
    if (result)
        *value = expand_text(x, parts[3]);
    else
        *value = n == 5 ? expand_text(x, parts[4]) : SLICE_EMPTY;
    return true;
}

bool expand_function(struct expand *x, struct slice name, struct slice *value)
{
    if (slice_equal_str(name, "if") || slice_starts(name, SLICE("if;")))
        return choose(x, slice_from(name, 3), value);
    ptrdiff_t colon = slice_find(name, ':');
    if (colon < 0)
        return false;
    struct slice function = slice_head(name, (size_t)colon), argument = slice_from(name, (size_t)colon + 1);
    if (slice_equal_str(function, "env")) {
        const char *got = getenv(text_of(x, argument));
        *value = got == NULL ? SLICE_EMPTY : slice_from_str(arena_strdup(x->arena, got));
        return true;
    }
    ptrdiff_t semicolon = slice_find(function, ';');
    struct slice options = semicolon < 0 ? SLICE_EMPTY : slice_from(function, (size_t)semicolon + 1);
    if (semicolon >= 0)
        function = slice_head(function, (size_t)semicolon);
    bool done;
    if (expand_crypt(x, function, options, argument, &done, value))
        return done;
    if (find_hash(function) == NULL && !slice_equal_str(function, "pkcs5") && !slice_equal_str(function, "size"))
        return false;
    return hash_field(x, function, options, argument, value);
}
