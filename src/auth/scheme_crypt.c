/* scheme_crypt.c - the schemes of crypt(3), by libxcrypt (auth.md 10).
 *
 * libxcrypt answers unusable settings with a string that starts with '*': that is a mismatch, never a match, so that
 * a stored "*" or "!" locks an account. */
#include "auth/scheme_impl.h"

#include <crypt.h>
#include <stdio.h>

const struct scheme_crypt scheme_crypt_des = {"", 0, 0, 0, 2};
const struct scheme_crypt scheme_crypt_md5 = {"$1$", 0, 0, 0, 8};
const struct scheme_crypt scheme_crypt_sha256 = {"$5$", 5000, 1000, 999999999, 16};
const struct scheme_crypt scheme_crypt_sha512 = {"$6$", 5000, 1000, 999999999, 16};
const struct scheme_crypt scheme_crypt_blf = {"$2y$", 5, 4, 31, 22};
const struct scheme_crypt scheme_crypt_any = {"$2y$", 5, 4, 31, 22};

/* crypt with the setting of `stored`; "" when it cannot be used. The text is in *data. */
static const char *run_crypt(struct slice password, const char *stored, struct crypt_data *data)
{
    const char *made = "";
    char *text;

    if (slice_find(password, '\0') >= 0)
        return ""; /* crypt would see only what stands before it */
    text = mem_strndup(password);
    made = crypt_r(text, stored, data);
    explicit_bzero(text, password.size);
    mem_free(text);
    return made == NULL || made[0] == '*' ? "" : made;
}

static struct crypt_data *new_data(void)
{
    return mem_zero(1, sizeof(struct crypt_data));
}

static void free_data(struct crypt_data *data)
{
    explicit_bzero(data, sizeof(*data));
    mem_free(data);
}

static bool is_blowfish(struct slice raw)
{
    return raw.size >= 4 && raw.at[0] == '$' && raw.at[1] == '2' && raw.at[2] >= 'a' && raw.at[2] <= 'z' &&
           raw.at[3] == '$';
}

enum scheme_result scheme_crypt_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                       struct error *e)
{
    struct crypt_data *data;
    enum scheme_result result = SCHEME_MISMATCH;
    const char *made;
    char *stored;

    if (s->how == &scheme_crypt_blf && !is_blowfish(raw)) {
        error_set(e, ERROR_INVALID, "Password is not blowfish password");
        return SCHEME_INVALID;
    }
    /* An empty stored password, as in passwd for accounts without one, is not one that anybody may give. */
    if (raw.size == 0 || slice_find(raw, '\0') >= 0)
        return SCHEME_MISMATCH;
    stored = mem_strndup(raw);
    data = new_data();
    made = run_crypt(in->password, stored, data);
    if (*made != '\0' && slice_equal_secret(slice_from_str(made), raw))
        result = SCHEME_MATCH;
    free_data(data);
    explicit_bzero(stored, raw.size);
    mem_free(stored);
    return result;
}

static unsigned clamp(unsigned n, const struct scheme_crypt *how)
{
    if (n == 0)
        n = how->default_rounds;
    return n < how->least ? how->least : n > how->most ? how->most : n;
}

int scheme_crypt_generate(const struct scheme *s, const struct scheme_input *in, struct buffer *out, struct error *e)
{
    const struct scheme_crypt *how = s->how;
    unsigned rounds = clamp(in->rounds, how);
    char salt[32], setting[64];
    struct crypt_data *data;
    const char *made;

    scheme_random_salt(salt, how->salt);
    if (how == &scheme_crypt_blf || how == &scheme_crypt_any) {
        /* 22 letters hold 132 bits, the salt 128: the last letter carries only two of them. */
        salt[21] = "./Oeu"[(unsigned char)salt[21] % 2 == 0 ? 0 : 2];
        snprintf(setting, sizeof(setting), "$2y$%02u$%s", rounds, salt);
    } else if (how->default_rounds != 0 && rounds != how->default_rounds) {
        snprintf(setting, sizeof(setting), "%srounds=%u$%s", how->prefix, rounds, salt);
    } else {
        snprintf(setting, sizeof(setting), "%s%s", how->prefix, salt);
    }
    data = new_data();
    made = run_crypt(in->password, setting, data);
    if (*made != '\0')
        buffer_append_str(out, made);
    free_data(data);
    return out->size > 0 ? 0 : error_set(e, ERROR_INVALID, "crypt() refused the password or scheme %s", s->name);
}

/* MD5: what crypt makes of "$1$", else the plain digest in hexadecimal. */
enum scheme_result scheme_md5_verify(const struct scheme *s, const struct scheme_input *in, struct slice raw,
                                     struct error *e)
{
    if (slice_starts(raw, SLICE("$1$")))
        return scheme_crypt_verify(s, in, raw, e);
    enum scheme_result result = scheme_verify(in->password, in->user, SLICE("PLAIN-MD5"), raw, e);
    if (result == SCHEME_INVALID)
        error_set(e, ERROR_INVALID, "Not a valid MD5-CRYPT or PLAIN-MD5 password");
    return result;
}
