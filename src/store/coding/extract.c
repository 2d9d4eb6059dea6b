/* extract.c - taking attachments out of a message that is saved (dbox-format 5.1 to 5.3).
 *
 * The message is kept until it has come as a whole, parsed once by the parser that everybody uses, and cut: what is large
 * enough and neither text nor a container becomes a file, the rest goes on. Base64 that can be written again exactly is stored
 * decoded. The files are durable before the message is; whoever discards the message removes them. */
#include "store/coding/attach.h"
#include "store/coding/codec.h"
#include "store/attachment.h"
#include "store/internal.h"

#define CHUNK 65536

struct extract {
    struct byte_sink sink;
    struct mail_user *user;
    struct arena *arena;
    struct fs *fs;
    const char *folder;
    uint64_t min_size;
    struct blob *blob;
    struct mime_source source;
    unsigned char *chunk;
    uint64_t passed;           /* bytes of the message that went on or were taken out */
    struct buffer refs;
    bool keep;
};

static int put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    return blob_append(((struct extract *)sink)->blob, bytes, e) < 0 ? stage_space_text(e) : 0;
}

/* Gives the bytes [from, to) of the message to `see`. */
static int each(struct extract *x, uint64_t from, uint64_t to, int (*see)(void *arg, struct slice, struct error *), void *arg,
                struct error *e)
{
    while (from < to) {
        size_t want = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        ssize_t n = blob_read(x->blob, from, x->chunk, want, e);

        if (n < 0 || see(arg, slice_of(x->chunk, (size_t)n), e) < 0)
            return -1;
        if (n == 0)
            return error_set(e, ERROR_BUG, "a staged message has become shorter");
        from += (uint64_t)n;
    }
    return 0;
}

static int pass(void *arg, struct slice bytes, struct error *e)
{
    return byte_sink_put(((struct extract *)arg)->sink.next, bytes, e);
}

static int pass_until(struct extract *x, uint64_t to, struct error *e)
{
    if (each(x, x->passed, to, pass, x, e) < 0)
        return -1;
    x->passed = to;
    return 0;
}

/* ---- one attachment ---- */

struct part {
    struct extract *x;
    struct base64_check check;
    struct base64_reader reader;
    bool decoded;
    struct buffer out;
    struct hash_template *hash;    /* first pass */
    struct byte_sink *file;        /* second pass */
};

static int check(void *arg, struct slice bytes, struct error *e)
{
    (void)e;
    base64_check_put(&((struct part *)arg)->check, bytes);
    return 0;
}

static int feed(void *arg, struct slice bytes, struct error *e)
{
    struct part *p = arg;

    if (p->decoded) {
        buffer_reset(&p->out);
        base64_reader_put(&p->reader, bytes, &p->out);
        bytes = buffer_slice(&p->out);
    }
    if (p->hash != NULL)
        hash_template_put(p->hash, bytes);
    return p->file == NULL ? 0 : byte_sink_put(p->file, bytes, e);
}

/* "ab/cd/abcd...-<guid>" */
static char *path_for(struct extract *x, struct hash_template *hash)
{
    struct buffer name = {0}, hex = {0};
    unsigned char guid[16];
    char *path;

    hash_template_end(hash, &name);
    while (name.size < 4)
        buffer_append_byte(&name, '_');
    store_guid_new(guid);
    text_hex_encode(&hex, slice_of(guid, 16));
    path = arena_printf(x->arena, "%.2s/%.2s/%.*s-%s", (const char *)name.at, (const char *)name.at + 2, (int)name.size,
                        (const char *)name.at, buffer_cstr(&hex));
    buffer_free(&name);
    buffer_free(&hex);
    return path;
}

static int write_file(struct part *p, const char *path, uint64_t from, uint64_t to, struct error *e)
{
    struct extract *x = p->x;
    int r;

    p->hash = NULL;
    p->reader = (struct base64_reader){0};
    p->file = fs_create(x->fs, arena_printf(x->arena, "%s/%s", x->folder, path), e);
    if (p->file == NULL)
        return stage_space_text(e);
    r = each(x, from, to, feed, p, e);
    if (r == 0)
        r = byte_sink_finish(p->file, e);
    byte_sinks_free(p->file);
    return r;
}

static int take_out(struct extract *x, const struct mime_part *part, struct error *e)
{
    uint64_t from = part->offset + part->header.physical, to = from + part->body.physical;
    struct part p = {.x = x};
    const char *path = NULL;
    int r;

    if (mime_encoding_of(part->data->encoding) == MIME_ENCODING_BASE64) {
        (void)each(x, from, to, check, &p, e);
        p.decoded = base64_check_end(&p.check);
        if (p.decoded)
            to = from + p.check.text;
    }
    if (to - from < x->min_size)
        return 0;
    p.hash = hash_template_new(x->arena, conf_str(x->user->settings, SET_mail_attachment_hash), e);
    if (p.hash == NULL)
        return error_context(e, "mail_attachment_hash: ");
    r = pass_until(x, from, e);
    if (r == 0)
        r = each(x, from, to, feed, &p, e);
    if (r == 0) {
        path = path_for(x, p.hash);
        r = write_file(&p, path, from, to, e);
    }
    buffer_free(&p.out);
    if (r < 0)
        return -1;
    buffer_printf(&x->refs, "%s%llu %llu ", x->refs.size > 0 ? " " : "", (unsigned long long)from,
                  (unsigned long long)(to - from));
    if (p.decoded)
        buffer_printf(&x->refs, "B%u %s", p.check.columns, path);
    else
        buffer_printf(&x->refs, "- %s", path);
    x->passed = to;
    return 0;
}

static int finish(struct byte_sink *sink, struct error *e)
{
    struct extract *x = (struct extract *)sink;
    struct mime_part *root, *part;

    if (blob_size(x->blob) >= x->min_size) {
        x->chunk = mem_alloc(CHUNK);
        if (mime_parse(x->arena, &x->source, MIME_PARSE_DATA, &root, e) < 0)
            return -1;
        for (part = root; part != NULL; part = mime_part_following(root, part)) {
            if ((part->flags & (MIME_PART_MULTIPART | MIME_PART_MESSAGE | MIME_PART_TEXT)) != 0 ||
                part->body.physical < x->min_size || part->data == NULL || part->data->type.size == 0)
                continue;
            if (take_out(x, part, e) < 0)
                return -1;
        }
    } else {
        x->chunk = mem_alloc(CHUNK);
    }
    return pass_until(x, blob_size(x->blob), e) < 0 ? -1 : byte_sink_finish(sink->next, e);
}

static void free_sink(struct byte_sink *sink)
{
    struct extract *x = (struct extract *)sink;

    if (!x->keep && x->refs.size > 0)
        attachment_refs_unlink(x->user, buffer_cstr(&x->refs), NULL);
    buffer_free(&x->refs);
    blob_free(x->blob);
    mem_free(x->chunk);
    arena_free(x->arena);
    mem_free(x);
}

struct byte_sink *extract_sink_new(struct mailbox *box, struct byte_sink *next, struct error *e)
{
    struct extract *x;
    const char *folder;
    struct fs *fs;

    if (coding_attachments(box->user, &fs, &folder, e) < 0)
        return NULL;
    x = mem_zero(1, sizeof(*x));
    x->sink = (struct byte_sink){put, finish, free_sink, next};
    x->user = box->user;
    x->arena = arena_new();
    x->fs = fs;
    x->folder = folder;
    x->min_size = conf_size(box->user->settings, SET_mail_attachment_min_size);
    x->blob = blob_new(conf_str(box->user->settings, SET_mail_temp_dir));
    x->source = (struct mime_source){blob_read, x->blob, SLICE_EMPTY};
    return &x->sink;
}

const char *extract_sink_refs(const struct byte_sink *sink)
{
    struct extract *x = (struct extract *)(uintptr_t)sink;

    return x->refs.size == 0 ? NULL : buffer_cstr(&x->refs);
}

void extract_sink_keep(struct byte_sink *sink)
{
    ((struct extract *)sink)->keep = true;
}
