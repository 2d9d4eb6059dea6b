/* fs_coded.c - file systems that encode on the way:
 *
 *     compress:gz:6:PARENT, compress:maybe-gz:6:PARENT     (maybe: files that are plain are read, too)
 *     crypt:[algo=X:][set_prefix=P:][public_key_path=F:][private_key_path=F:][password=S:]PARENT
 *     mail-crypt:[...:]PARENT                               keys of the user's mail_crypt_global_* settings
 *
 * Without paths, keys are the settings `<set_prefix>_public_key` and `<set_prefix>_private_key`; the prefix is
 * mail_crypt_global. What stands in a file is told by its first bytes, so that plain files can be read (crypt) after encryption
 * was switched on. */
#include "store/coding/codec.h"
#include "store/coding/crypt.h"
#include "store/coding/fs.h"
#include "store/internal.h"

#include <fcntl.h>
#include <stdio.h>

#define KEY_FILE_MAX 65536

/* ---- both: a sink in front of the parent's, a spool behind it ---- */

static struct byte_sink *create_through(struct fs *fs, const char *path,
                                        struct byte_sink *(*encode)(struct fs *, struct byte_sink *), struct error *e)
{
    struct byte_sink *below = fs_create(fs->parent, path, e);

    return below == NULL ? NULL : encode(fs, below);
}

struct coded_file {
    struct fs_file below;
    struct spool *spool;
};

static void end_coded(struct fs_file *file)
{
    struct coded_file *c = file->data;

    spool_free(c->spool);
    c->below.end(&c->below);
    mem_free(c);
}

/* 1: *decoder decodes it; 0: it is plain; -1. Takes over the input unless it returns 0. */
typedef int open_coded(struct fs *, struct input *, struct decoder **, struct error *);

static int read_through(struct fs *fs, const char *path, open_coded *open_it, struct fs_file *file, struct error *e)
{
    struct coded_file *c = mem_zero(1, sizeof(*c));
    struct decoder *decoder = NULL;
    struct input in;
    int r;

    if (fs_read(fs->parent, path, &c->below, e) < 0) {
        mem_free(c);
        return -1;
    }
    input_init(&in, decoder_of_source(&c->below.source));
    r = input_fill(&in, CODEC_HEAD, e);
    if (r < 0)
        input_free(&in);
    else
        r = open_it(fs, &in, &decoder, e);
    if (r < 0) {
        c->below.end(&c->below);
        mem_free(c);
        return error_context(e, "%s: ", path);
    }
    if (r == 0) {
        input_free(&in);
        *file = c->below;
        mem_free(c);
        return 0;
    }
    c->spool = spool_new(decoder, c->below.size, conf_str(fs->user->settings, SET_mail_temp_dir));
    *file = (struct fs_file){{spool_read, c->spool, SLICE_EMPTY}, UINT64_MAX, end_coded, c};
    return 0;
}

/* ---- compress ---- */

struct compress {
    const struct codec *codec;
    int level;
    bool maybe;
};

static int compress_open(struct fs *fs, struct slice args, struct slice *rest, struct error *e)
{
    struct compress *c = ARENA_NEW(fs->arena, struct compress);
    struct slice name, level, first;
    uint32_t number;

    if (!slice_split(&args, ':', &name))
        return error_set(e, ERROR_INVALID, "fs-compress: Compression method not given as parameter");
    c->maybe = slice_starts(name, SLICE("maybe-"));
    if (c->maybe)
        name = slice_from(name, 6);
    c->codec = codec_find(name);
    if (c->codec == NULL || c->codec->encode == NULL)
        return error_set(e, ERROR_INVALID, "fs-compress: Unknown compression method: %.*s",
                         (int)(name.size > 100 ? 100 : name.size), (const char *)name.at);
    c->level = c->codec->level_default;
    *rest = args;
    if (slice_split(&args, ':', &first) && slice_to_u32(first, &number)) {
        level = first;
        if (number > INT32_MAX || (int)number < c->codec->level_min || (int)number > c->codec->level_max)
            return error_set(e, ERROR_INVALID, "fs-compress: Invalid compression level: %.*s", (int)level.size,
                             (const char *)level.at);
        c->level = (int)number;
        *rest = args;
    }
    if (rest->size == 0)
        return error_set(e, ERROR_INVALID, "fs-compress: Parent filesystem not given as parameter");
    fs->data = c;
    return 0;
}

static struct byte_sink *compress_encode(struct fs *fs, struct byte_sink *below)
{
    const struct compress *c = fs->data;

    return c->codec->encode(c->level, below);
}

static struct byte_sink *compress_create(struct fs *fs, const char *path, struct error *e)
{
    return create_through(fs, path, compress_encode, e);
}

static int compress_decode(struct fs *fs, struct input *in, struct decoder **out, struct error *e)
{
    const struct compress *c = fs->data;
    const struct codec *codec = c->codec->is == NULL ? c->codec : codec_detect(input_slice(in));

    (void)e;
    if (codec == NULL && c->maybe)
        return 0;
    if (codec == NULL || codec->decode == NULL)
        codec = c->codec;
    *out = codec->decode(in);
    return 1;
}

static int compress_read(struct fs *fs, const char *path, struct fs_file *file, struct error *e)
{
    return read_through(fs, path, compress_decode, file, e);
}

const struct fs_ops fs_compress = {"compress", compress_open, NULL, compress_create, compress_read, fs_parent_unlink,
                                   fs_parent_link, fs_parent_rename};

/* ---- crypt ---- */

struct crypt_fs {
    struct crypt_ring ring;        /* first */
    struct crypt_suite suite;
    const char *prefix, *public_path, *private_path, *password;
    struct crypt_key *public_key;
    VEC(struct crypt_key *) keys;
    bool loaded;
};

static const struct crypt_key *find_key(struct crypt_ring *ring, const unsigned char id[CRYPT_ID_SIZE], bool old,
                                        struct error *e)
{
    struct crypt_fs *c = (struct crypt_fs *)ring;

    (void)e;
    for (size_t i = 0; i < c->keys.count; i++)
        if (memcmp(old ? c->keys.at[i]->old_id : c->keys.at[i]->id, id, CRYPT_ID_SIZE) == 0)
            return c->keys.at[i];
    return NULL;
}

/* name=value; false: it is the parent's. */
static bool take_option(struct fs *fs, struct crypt_fs *c, struct slice word, struct error *e, bool *good)
{
    static const char *const names[] = {"set_prefix=", "public_key_path=", "private_key_path=", "password="};
    const char **const places[] = {&c->prefix, &c->public_path, &c->private_path, &c->password};

    for (size_t i = 0; i < 4; i++) {
        size_t n = strlen(names[i]);

        if (slice_starts(word, slice_from_str(names[i]))) {
            *places[i] = arena_str(fs->arena, slice_from(word, n));
            return true;
        }
    }
    if (!slice_starts(word, SLICE("algo=")))
        return false;
    *good = crypt_suite_parse(slice_from(word, 5), &c->suite) == 0;
    if (!*good)
        error_set(e, ERROR_INVALID, "fs-crypt: Unknown algo: %.*s", (int)(word.size > 100 ? 100 : word.size),
                  (const char *)word.at);
    return true;
}

static int crypt_open(struct fs *fs, struct slice args, struct slice *rest, struct error *e)
{
    struct crypt_fs *c = ARENA_NEW(fs->arena, struct crypt_fs);
    struct slice word;
    bool good = true;

    c->ring.find = find_key;
    c->prefix = "mail_crypt_global";
    crypt_suite_parse(SLICE("aes-256-gcm-sha256"), &c->suite);
    fs->data = c;
    *rest = args;
    while (slice_split(&args, ':', &word) && take_option(fs, c, word, e, &good)) {
        if (!good)
            return -1;
        *rest = args;
    }
    return rest->size == 0 ? error_set(e, ERROR_INVALID, "fs-crypt: Missing parameters") : 0;
}

static void crypt_close(struct fs *fs)
{
    struct crypt_fs *c = fs->data;

    if (c == NULL)
        return;
    crypt_key_free(&c->public_key);
    for (size_t i = 0; i < c->keys.count; i++)
        crypt_key_free(&c->keys.at[i]);
    VEC_FREE(&c->keys);
}

/* The text of a key: a file's, else a setting's. Empty: none. */
static int key_text(struct fs *fs, const char *path, const char *setting, struct buffer *out, struct error *e)
{
    const char *text;

    if (path != NULL)
        return os_read_file(AT_FDCWD, path, KEY_FILE_MAX, out, e);
    text = conf_plugin(fs->user->settings, setting);
    if (text != NULL)
        buffer_append_str(out, text);
    return 0;
}

static int load_keys(struct fs *fs, struct crypt_fs *c, struct error *e)
{
    char name[200], password_name[220];
    struct buffer text = {0};
    struct crypt_key *key;
    int r;

    if (c->loaded)
        return 0;
    snprintf(name, sizeof(name), "%s_public_key", c->prefix);
    r = key_text(fs, c->public_path, name, &text, e);
    if (r == 0 && text.size > 0 && c->public_key == NULL && crypt_key_public(buffer_slice(&text), &c->public_key, e) < 0)
        r = error_context(e, "%s: ", name);
    for (unsigned i = 1; r == 0; i++) {
        buffer_reset(&text);
        snprintf(name, sizeof(name), i == 1 ? "%s_private_key" : "%s_private_key%u", c->prefix, i);
        snprintf(password_name, sizeof(password_name), "%s_password", name);
        r = key_text(fs, i == 1 ? c->private_path : NULL, name, &text, e);
        if (r < 0 || text.size == 0)
            break;
        r = crypt_key_private(buffer_slice(&text), c->password != NULL ? c->password : conf_plugin(fs->user->settings, password_name),
                              &key, e);
        if (r < 0)
            error_context(e, "%s: ", name);
        else
            VEC_PUSH(&c->keys, key);
        if (c->private_path != NULL)
            break;
    }
    buffer_wipe(&text);
    c->loaded = r == 0;
    return r < 0 ? error_context(e, "fs-crypt: ") : 0;
}

static struct byte_sink *crypt_fs_encode(struct fs *fs, struct byte_sink *below)
{
    const struct crypt_fs *c = fs->data;

    return crypt_encode_as(c->public_key, 2, &c->suite, below);
}

static struct byte_sink *crypt_create(struct fs *fs, const char *path, struct error *e)
{
    struct crypt_fs *c = fs->data;

    if (load_keys(fs, c, e) < 0)
        return NULL;
    if (c->public_key == NULL) {
        /* Plain text where encryption was asked for would be worse than none. */
        error_set(e, ERROR_INVALID, "fs-crypt: no public key");
        return NULL;
    }
    return create_through(fs, path, crypt_fs_encode, e);
}

static int crypt_fs_decode(struct fs *fs, struct input *in, struct decoder **out, struct error *e)
{
    struct crypt_fs *c = fs->data;

    if (!crypt_is(input_slice(in)))
        return 0;
    if (load_keys(fs, c, e) < 0) {
        input_free(in);
        return -1;
    }
    *out = crypt_decode(in, &c->ring, e);
    return *out == NULL ? -1 : 1;
}

static int crypt_fs_read(struct fs *fs, const char *path, struct fs_file *file, struct error *e)
{
    return read_through(fs, path, crypt_fs_decode, file, e);
}

const struct fs_ops fs_crypt = {"crypt", crypt_open, crypt_close, crypt_create, crypt_fs_read, fs_parent_unlink, fs_parent_link,
                                fs_parent_rename};
const struct fs_ops fs_mail_crypt = {"mail-crypt", crypt_open, crypt_close, crypt_create, crypt_fs_read, fs_parent_unlink,
                                     fs_parent_link, fs_parent_rename};
