/* expand_crypt.c - %{encrypt;...:variable} and %{decrypt;...:variable}, what Dovecot's plugin var_expand_crypt adds (config 9.1).
 *
 * Options: key and iv in hexadecimal digits, algo (AES-256-CBC), format (hex, base64), noiv=yes. Encrypted values are IV$DATA$, with
 * noiv the data alone. Without an IV each value gets a new one. The ciphers are AES and Camellia in the modes CBC (with the padding
 * of PKCS #7), CTR and CFB, under the names that OpenSSL gives them. */
#include "conf/expand.h"

#include <nettle/cbc.h>
#include <nettle/cfb.h>
#include <nettle/ctr.h>
#include <nettle/nettle-meta.h>
#include <sys/random.h>

enum { BLOCK = 16, KEY_MOST = 32 };
enum mode { MODE_CBC, MODE_CTR, MODE_CFB };

static const struct {
    const char *name;
    const struct nettle_cipher *cipher;
    enum mode mode;
} algorithms[] = {
    {"aes-128-cbc", &nettle_aes128, MODE_CBC}, {"aes-192-cbc", &nettle_aes192, MODE_CBC}, {"aes-256-cbc", &nettle_aes256, MODE_CBC},
    {"aes-128-ctr", &nettle_aes128, MODE_CTR}, {"aes-192-ctr", &nettle_aes192, MODE_CTR}, {"aes-256-ctr", &nettle_aes256, MODE_CTR},
    {"aes-128-cfb", &nettle_aes128, MODE_CFB}, {"aes-192-cfb", &nettle_aes192, MODE_CFB}, {"aes-256-cfb", &nettle_aes256, MODE_CFB},
    {"camellia-128-cbc", &nettle_camellia128, MODE_CBC}, {"camellia-192-cbc", &nettle_camellia192, MODE_CBC},
    {"camellia-256-cbc", &nettle_camellia256, MODE_CBC}, {"camellia-128-ctr", &nettle_camellia128, MODE_CTR},
    {"camellia-192-ctr", &nettle_camellia192, MODE_CTR}, {"camellia-256-ctr", &nettle_camellia256, MODE_CTR},
};

struct crypt {
    const struct nettle_cipher *cipher;
    enum mode mode;
    bool base64, no_iv;
    struct buffer key, iv;         /* as they were given */
};

/* ---- options ---------------------------------------------------------------------------------------------------- */

static bool find_algorithm(struct expand *x, struct slice name, struct crypt *c)
{
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        if (!slice_equal_str_nocase(name, algorithms[i].name))
            continue;
        c->cipher = algorithms[i].cipher;
        c->mode = algorithms[i].mode;
        return true;
    }
    return expand_fail_text(x, arena_printf(x->arena, "Invalid cipher %.*s", (int)name.size, (const char *)name.at));
}

/* Digits up to the first that is none. */
static void read_hex(struct slice text, struct buffer *out)
{
    buffer_reset(out);
    while (text.size >= 2 && text_hex_decode(out, slice_head(text, 2)) == 0)
        text = slice_from(text, 2);
}

static bool read_option(struct expand *x, struct slice name, struct slice value, struct crypt *c)
{
    if (slice_equal_str(name, "algo"))
        return find_algorithm(x, value, c);
    if (slice_equal_str(name, "key"))
        read_hex(value, &c->key);
    else if (slice_equal_str(name, "iv"))
        read_hex(value, &c->iv);
    else if (slice_equal_str(name, "noiv"))
        c->no_iv = slice_equal_str_nocase(value, "yes");
    else if (slice_equal_str(name, "format") && slice_equal_str(value, "base64"))
        c->base64 = true;
    else if (slice_equal_str(name, "format") && slice_equal_str(value, "hex"))
        c->base64 = false;
    else if (slice_equal_str(name, "format"))
        return expand_fail_text(x, arena_printf(x->arena, "Cannot parse hash arguments:'%.*s' is not supported format", (int)value.size,
                                                (const char *)value.at));
    return true;
}

static bool read_options(struct expand *x, struct slice text, struct crypt *c)
{
    struct slice part;

    while (slice_split(&text, ',', &part)) {
        ptrdiff_t equals = slice_find(part, '=');

        if (equals > 0 && !read_option(x, slice_head(part, (size_t)equals), slice_from(part, (size_t)equals + 1), c))
            return false;
    }
    return true;
}

/* ---- texts ------------------------------------------------------------------------------------------------------ */

static void put_bytes(const struct crypt *c, struct buffer *out, struct slice bytes)
{
    if (c->base64)
        text_base64_encode(out, bytes);
    else
        text_hex_encode(out, bytes);
}

/* What is no text of that form ends the bytes. */
static void take_bytes(const struct crypt *c, struct slice text, struct buffer *out)
{
    uint32_t bits = 0;
    int value;

    if (!c->base64) {
        read_hex(text, out);
        return;
    }
    buffer_reset(out);
    for (size_t i = 0; i < text.size && (value = text_base64_value(text.at[i])) >= 0; i++) {
        bits = (bits << 6 | (uint32_t)value) & 0xffff;
        if (i % 4 != 0)
            buffer_append_byte(out, (unsigned char)(bits >> (6 - 2 * (i % 4))));
    }
}

/* "IV$DATA$"; the data alone, whatever it looks like, when the IV was given. */
static void split_value(struct crypt *c, struct slice text, struct buffer *data)
{
    struct slice iv;

    if (c->iv.size == 0 && slice_find(text, '$') >= 0 && slice_split(&text, '$', &iv)) {
        ptrdiff_t end = slice_find(text, '$');

        take_bytes(c, iv, &c->iv);
        text = end < 0 ? text : slice_head(text, (size_t)end);
    }
    take_bytes(c, text, data);
}

/* ---- ciphers ---------------------------------------------------------------------------------------------------- */

static bool check_sizes(struct expand *x, const struct crypt *c)
{
    if (c->key.size != c->cipher->key_size)
        return expand_fail_text(x, arena_printf(x->arena, "crypt: Key length invalid (%zu != %u)", c->key.size, c->cipher->key_size));
    if (c->iv.size != BLOCK)
        return expand_fail_text(x, arena_printf(x->arena, "crypt: IV length invalid (%zu != %u)", c->iv.size, (unsigned)BLOCK));
    return true;
}

/* In place. */
static void run_cipher(struct expand *x, const struct crypt *c, bool decrypts, struct buffer *data)
{
    void *context = arena_alloc(x->arena, c->cipher->context_size);
    unsigned char iv[BLOCK];

    memcpy(iv, c->iv.at, BLOCK);
    if (decrypts && c->mode == MODE_CBC)
        c->cipher->set_decrypt_key(context, c->key.at);
    else
        c->cipher->set_encrypt_key(context, c->key.at);
    if (c->mode == MODE_CTR)
        ctr_crypt(context, c->cipher->encrypt, BLOCK, iv, data->size, data->at, data->at);
    else if (c->mode == MODE_CFB && decrypts)
        cfb_decrypt(context, c->cipher->encrypt, BLOCK, iv, data->size, data->at, data->at);
    else if (c->mode == MODE_CFB)
        cfb_encrypt(context, c->cipher->encrypt, BLOCK, iv, data->size, data->at, data->at);
    else if (decrypts)
        cbc_decrypt(context, c->cipher->decrypt, BLOCK, iv, data->size, data->at, data->at);
    else
        cbc_encrypt(context, c->cipher->encrypt, BLOCK, iv, data->size, data->at, data->at);
    explicit_bzero(context, c->cipher->context_size);
}

static void pad(struct buffer *data)
{
    size_t n = BLOCK - data->size % BLOCK;

    for (size_t i = 0; i < n; i++)
        buffer_append_byte(data, (unsigned char)n);
}

static bool unpad(struct buffer *data)
{
    size_t n = data->size == 0 ? 0 : data->at[data->size - 1];

    if (n == 0 || n > BLOCK || n > data->size)
        return false;
    for (size_t i = data->size - n; i < data->size; i++)
        if (data->at[i] != n)
            return false;
    data->size -= n;
    return true;
}

static bool encrypt(struct expand *x, struct crypt *c, struct slice value, struct buffer *data, struct buffer *out)
{
    unsigned char iv[BLOCK];

    if (c->iv.size == 0) {
        if (getrandom(iv, sizeof(iv), 0) != (ssize_t)sizeof(iv))
            return expand_fail_text(x, "crypt: no random numbers");
        buffer_append(&c->iv, iv, sizeof(iv));
    }
    if (!check_sizes(x, c))
        return false;
    buffer_append_slice(data, value);
    if (c->mode == MODE_CBC)
        pad(data);
    run_cipher(x, c, false, data);
    if (!c->no_iv) {
        put_bytes(c, out, buffer_slice(&c->iv));
        buffer_append_byte(out, '$');
    }
    put_bytes(c, out, buffer_slice(data));
    if (!c->no_iv)
        buffer_append_byte(out, '$');
    return true;
}

/* What comes out is as foreign as any value: it is escaped like them. */
static bool decrypt(struct expand *x, struct crypt *c, struct slice value, struct buffer *data, struct buffer *out)
{
    split_value(c, value, data);
    if (c->iv.size == 0)
        return expand_fail_text(x, "decrypt: IV missing");
    if (!check_sizes(x, c))
        return false;
    if (c->mode == MODE_CBC && (data->size == 0 || data->size % BLOCK != 0))
        return expand_fail_text(x, "data authentication failed");
    run_cipher(x, c, true, data);
    if (c->mode == MODE_CBC && !unpad(data))
        return expand_fail_text(x, "data authentication failed");
    if (x->vars->escape != NULL)
        buffer_append_str(out, x->vars->escape(x->vars->arg, arena_str(x->arena, buffer_slice(data)), x->arena));
    else
        buffer_append_slice(out, buffer_slice(data));
    return true;
}

static bool crypt_field(struct expand *x, bool decrypts, struct slice options, struct slice field, struct slice *value)
{
    struct crypt c = {.cipher = &nettle_aes256, .mode = MODE_CBC};
    struct buffer data = {0}, out = {0};
    struct slice text;
    bool done = read_options(x, options, &c) && expand_find(x, field, &text) &&
                (decrypts ? decrypt(x, &c, text, &data, &out) : encrypt(x, &c, text, &data, &out));

    if (done)
        *value = arena_slice(x->arena, buffer_slice(&out));
    if (c.key.size > 0)
        explicit_bzero(c.key.at, c.key.size);
    buffer_free(&c.key);
    buffer_free(&c.iv);
    buffer_free(&data);
    buffer_free(&out);
    return done;
}

bool expand_crypt(struct expand *x, struct slice function, struct slice options, struct slice field, bool *done, struct slice *value)
{
    bool decrypts = slice_equal_str(function, "decrypt");

    if (!x->vars->crypt || (!decrypts && !slice_equal_str(function, "encrypt")))
        return false;
    *done = crypt_field(x, decrypts, options, field, value);
    return true;
}
