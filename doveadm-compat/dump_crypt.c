/* dump_crypt.c - doveadm dump of encrypted mail (dcrypt-file) and of the texts of keys (dcrypt-key); docs/formats/coding.md.
 *
 * What is wrong with a file is told, and is no failure. No key is asked for: a message's header says for which one it is. */
#include "doveadm.h"
#include "store/coding/crypt.h"

#include <errno.h>

enum { HEAD_MAX = 64 * 1024, KEY_MAX = 1024 * 1024, MAGIC = sizeof(CRYPT_MAGIC) - 1 };

/* ---- messages ---------------------------------------------------------------------------------------------------------- */

/* A ring without keys, which remembers what it was asked for. */
struct asked {
    struct crypt_ring ring;
    bool any;
    unsigned char id[CRYPT_ID_SIZE];
};

static const struct crypt_key *remember(struct crypt_ring *ring, const unsigned char id[CRYPT_ID_SIZE], bool old, struct error *e)
{
    struct asked *asked = (struct asked *)(void *)ring;

    (void)old, (void)e;
    if (!asked->any)
        memcpy(asked->id, id, CRYPT_ID_SIZE);
    asked->any = true;
    return NULL;
}

/* False with *e: there is no header, or a damaged one. */
static bool read_header(struct slice file, struct asked *asked, struct error *e)
{
    struct mime_source source = mime_source_slice(file);
    struct input in;

    *asked = (struct asked){.ring = {remember}};
    if (file.size >= MAGIC && !crypt_is(file)) {
        error_set(e, ERROR_INVALID, "Stream is not encrypted (invalid magic)");
        return false;
    }
    input_init(&in, decoder_of_source(&source));
    decoder_free(crypt_decode(&in, &asked->ring, e));
    return asked->any;
}

static void put_flags(struct buffer *out, uint32_t flags)
{
    static const char *const names[] = {"INTEGRITY_HMAC", "INTEGRITY_AEAD", "INTEGRITY_NONE", "VERSION_1"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((flags & 1u << i) != 0)
            buffer_printf(out, "flags: IO_STREAM_ENC_%s\n", names[i]);
}

int doveadm_dump_crypt_file(const char *path, struct buffer *out)
{
    struct buffer file = {0};
    struct asked asked;
    struct error e;
    int fault = doveadm_dump_read(path, HEAD_MAX, &file);

    if (fault == EISDIR) {
        log_error(NULL, "read(%s) failed: pread(size=8192 offset=0) failed: %s", path, strerror(fault));
    } else if (fault != 0) {
        log_error(NULL, "read(%s) failed: open(%s) failed: %s", path, path, strerror(fault));
    } else if (file.size == 0) {
        ; /* nothing to say */
    } else if (!read_header(buffer_slice(&file), &asked, &e)) {
        log_error(NULL, "read(%s) failed: %s", path, strstr(e.admin, "truncated") != NULL ? "Truncated header" : e.admin);
    } else {
        if (file.at[MAGIC] == 2)
            put_flags(out, bytes_be32(file.at + MAGIC + 1));
        buffer_printf(out, "format: DECRYPT_FORMAT_V%u\ndecrypt key digest: ", file.at[MAGIC]);
        text_hex_encode(out, slice_of(asked.id, CRYPT_ID_SIZE));
        buffer_append_byte(out, '\n');
    }
    buffer_free(&file);
    return DOVEADM_OK;
}

bool doveadm_is_crypt_file(const char *path)
{
    struct buffer file = {0};
    struct asked asked;
    struct error e;
    bool is = doveadm_dump_read(path, HEAD_MAX, &file) == 0 && file.size > MAGIC && read_header(buffer_slice(&file), &asked, &e);

    buffer_free(&file);
    return is;
}

/* ---- keys -------------------------------------------------------------------------------------------------------------- */

struct info {
    bool pem, public;
    unsigned version;             /* of Dovecot's own form */
    enum crypt_wrap wrap;
    struct slice id, with;        /* own form: as they stand there */
};

static int bad(struct error *e, const char *why)
{
    return error_set(e, ERROR_INVALID, "%s", why);
}

static int read_pem(struct slice title, struct info *info, struct error *e)
{
    info->pem = true;
    info->wrap = CRYPT_WRAP_NONE;
    if (slice_starts(title, SLICE("RSA")))
        return bad(e, "RSA private key format not supported, convert it to PKEY format with openssl pkey");
    if (slice_starts(title, SLICE("ENCRYPTED PRIVATE KEY")))
        info->wrap = CRYPT_WRAP_PASSWORD;
    else if (slice_starts(title, SLICE("PUBLIC KEY")))
        info->public = true;
    else if (!slice_starts(title, SLICE("PRIVATE KEY")))
        return bad(e, "Unknown/invalid PEM key type");
    return 0;
}

/* Version 1 has its fields behind TABs, version 2 behind colons; the third says how a private key is wrapped, the last is the key's
 * identity. The names of public keys of version 1 are nowhere kept in this form. */
static int read_own(struct slice text, struct info *info, struct error *e)
{
    static const unsigned counts[2][3] = {{5, 7, 6}, {5, 11, 9}};
    char separator = info->version == 1 ? '\t' : ':';
    struct slice fields[12], rest = text;
    unsigned n = 0;

    while (n < 12 && slice_split(&rest, separator, &fields[n]))
        n++;
    if (n == 3 && info->version == 2) {
        info->public = true;
        info->wrap = CRYPT_WRAP_NONE;
    } else {
        info->wrap = n < 5 || fields[2].size != 1 ? CRYPT_WRAP_UNKNOWN
                     : fields[2].at[0] == '0'     ? CRYPT_WRAP_NONE
                     : fields[2].at[0] == '1'     ? CRYPT_WRAP_KEY
                     : fields[2].at[0] == '2'     ? CRYPT_WRAP_PASSWORD
                                                  : CRYPT_WRAP_UNKNOWN;
        if (info->wrap == CRYPT_WRAP_UNKNOWN || n != counts[info->version - 1][fields[2].at[0] - '0'])
            return error_set(e, ERROR_INVALID, "Invalid dovecot v%u encoding", info->version);
    }
    info->id = fields[n - 1];
    info->with = info->wrap == CRYPT_WRAP_KEY ? fields[n - 2] : SLICE_EMPTY;
    return 0;
}

/* A NUL ends it. */
static struct slice key_text(const struct buffer *file)
{
    ptrdiff_t nul = slice_find(buffer_slice(file), '\0');

    return nul < 0 ? buffer_slice(file) : slice_head(buffer_slice(file), (size_t)nul);
}

static int read_info(struct slice text, struct info *info, struct error *e)
{
    ptrdiff_t tab = slice_find(text, '\t'), colon = slice_find(text, ':'), first = tab < 0 || (colon >= 0 && colon < tab) ? colon : tab;

    *info = (struct info){0};
    if (slice_starts(text, SLICE("-----BEGIN ")))
        return read_pem(slice_from(text, 11), info, e);
    if (first < 0)
        return bad(e, "Unknown key format");
    if (first != 1 || (text.at[0] != '1' && text.at[0] != '2'))
        return bad(e, "Invalid dovecot key version");
    info->version = text.at[0] == '1' ? 1 : 2;
    if (info->version == 1 && first != tab)
        return bad(e, "Dovecot v1 key format uses tab to separate fields");
    if (info->version == 2 && first != colon)
        return bad(e, "Dovecot v2 key format uses colon to separate fields");
    return read_own(text, info, e);
}

static void put_info(struct buffer *out, const struct info *info)
{
    static const char *const wraps[] = {[CRYPT_WRAP_NONE] = "NONE", [CRYPT_WRAP_KEY] = "KEY", [CRYPT_WRAP_PASSWORD] = "PASSWORD"};

    buffer_printf(out, "format: DCRYPT_FORMAT_%s\nversion: DCRYPT_KEY_VERSION_%s\n", info->pem ? "PEM" : "DOVECOT",
                  info->pem            ? "NA"
                  : info->version == 1 ? "1"
                                       : "2");
    buffer_printf(out, "kind: DCRYPT_KEY_KIND_%s\nencryption_type: DCRYPT_KEY_ENCRYPTION_TYPE_%s\n", info->public ? "PUBLIC" : "PRIVATE",
                  wraps[info->wrap]);
    if (info->wrap == CRYPT_WRAP_KEY)
        buffer_printf(out, "encryption_key_hash: %.*s\n", (int)info->with.size, info->with.at);
    if (!info->pem)
        buffer_printf(out, "key_hash: %.*s\n", (int)info->id.size, info->id.at);
}

static void put_key(struct buffer *out, const struct crypt_key *key)
{
    char hex[2 * CRYPT_ID_SIZE + 1];

    crypt_id_hex(key->id, hex);
    buffer_printf(out, "key type: DCRYPT_KEY_%s\nv2 hash: %s\n", key->rsa != NULL ? "RSA" : "EC", hex);
    if (key->rsa != NULL)
        return;
    crypt_id_hex(key->old_id, hex);
    buffer_printf(out, "v1 hash: %s\n", hex);
}

int doveadm_dump_crypt_key(const char *path, struct buffer *out)
{
    struct buffer file = {0};
    struct crypt_key *key = NULL;
    struct info info;
    struct error e;
    int fault = doveadm_dump_read(path, KEY_MAX, &file);
    struct slice text = key_text(&file);

    if (fault != 0) {
        log_error(NULL, "%s(%s) failed: %s", fault == EISDIR ? "read" : "open", path, strerror(fault));
    } else if (read_info(text, &info, &e) < 0) {
        log_error(NULL, "dcrypt_key_string_get_info failed: %s", e.admin);
    } else {
        if (info.wrap == CRYPT_WRAP_NONE && (info.public ? crypt_key_public(text, &key, &e) : crypt_key_private(text, NULL, &key, &e)) < 0) {
            log_error(NULL, "dcrypt_key_load_%s failed: %s", info.public ? "public" : "private", e.admin);
            key = NULL;
        }
        put_info(out, &info);
        if (key != NULL)
            put_key(out, key);
        crypt_key_free(&key);
    }
    buffer_wipe(&file);
    return DOVEADM_OK;
}

bool doveadm_is_crypt_key(const char *path)
{
    struct buffer file = {0};
    struct info info;
    struct error e;
    bool is = doveadm_dump_read(path, KEY_MAX, &file) == 0 && read_info(key_text(&file), &info, &e) == 0;

    buffer_wipe(&file);
    return is;
}
