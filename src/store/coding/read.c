/* read.c - the one way to a stored message's bytes: what the driver gives, decoded (store/stage.h).
 *
 * Encryption is outermost, compression inside of it, and attachments were taken out before both: so they are put back last.
 * What a message is in is told by its first bytes, one message at a time, when somebody reads it first; most readers want
 * only facts that the cache has. A plain message is read from its file, with nothing in between. */
#include "store/coding/coding.h"
#include "store/coding/codec.h"
#include "store/coding/crypt_user.h"
#include "store/internal.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

struct reading {
    struct mailbox *box;
    uint32_t uid;
    struct arena *arena;
    struct mail_file stored;      /* as the driver gave it */
    bool looked;
    struct mime_source source;    /* after looking */
    struct spool *spool;          /* NULL: the stored bytes are plain */
    struct splice *splice;        /* attachments; NULL = none */
};

bool store_may_share(const struct mailbox *to, const struct mailbox *from)
{
    const struct coding *a = coding_of(to->user), *b = coding_of(from->user);

    if (to->user != from->user && strcmp(to->user->name, from->user->name) != 0)
        return !a->crypt && !b->crypt && a->zlib == b->zlib;
    return a->crypt == b->crypt && a->zlib == b->zlib &&
           (!a->crypt || !crypt_user_by_folder(to->user) || strcmp(to->path, from->path) == 0);
}

bool store_read_coded(const struct mailbox *box)
{
    const struct coding *c = coding_of(box->user);

    return (c->zlib || c->crypt) && (box->driver->can & DRIVER_IS_FILE) == 0;
}

static int context(const struct reading *r, struct error *e)
{
    struct driver_value path;
    struct error ignored;

    if (r->uid == 0)
        return error_context(e, "read(staged message) failed: ");
    if (r->box->driver->item(r->box, r->uid, ITEM_PATH, r->arena, &path, &ignored) == 0 && path.text != NULL)
        return error_context(e, "read(%s) failed: ", path.text);
    return error_context(e, "read(UID=%u) failed: ", r->uid);
}

/* Decoders for what the first bytes tell, one inside the other. */
static int look(struct reading *r, struct error *e)
{
    const struct coding *c = coding_of(r->box->user);
    const struct codec *codec;
    struct input in;
    bool coded = false;

    input_init(&in, decoder_of_source(&r->stored.source));
    if (input_fill(&in, CODEC_HEAD, e) < 0)
        goto failed;
    if (c->crypt && crypt_is(input_slice(&in))) {
        struct decoder *plain = crypt_user_decode(r->box, &in, e);

        if (plain == NULL)
            return -1;
        input_init(&in, plain);
        coded = true;
        if (input_fill(&in, CODEC_HEAD, e) < 0)
            goto failed;
    }
    codec = c->zlib ? codec_detect(input_slice(&in)) : NULL;
    if (codec != NULL) {
        if (!codec_there(codec)) {
            error_set(e, ERROR_UNSUPPORTED, "Support not compiled in for handler: %s", codec->name);
            goto failed;
        }
        input_init(&in, codec->decode(&in));
        coded = true;
    }
    r->source = r->stored.source;
    if (coded) {
        const char *temp = conf_str(r->box->user->settings, SET_mail_temp_dir);

        r->spool = spool_new(decoder_of_input(&in), r->stored.size, temp);
        r->source = (struct mime_source){spool_read, r->spool, SLICE_EMPTY};
    } else {
        input_free(&in);
    }
    if (r->stored.ext_refs != NULL) {
        r->splice = splice_open(r->box->user, &r->source, r->stored.ext_refs, r->stored.ext_suffix, e);
        if (r->splice == NULL) {
            spool_free(r->spool);
            r->spool = NULL;
            return -1;
        }
        r->source = (struct mime_source){splice_read, r->splice, SLICE_EMPTY};
    }
    r->looked = true;
    return 0;
failed:
    input_free(&in);
    return -1;
}

static ssize_t read_decoded(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    struct reading *r = arg;
    ssize_t n;

    if (!r->looked && look(r, e) < 0)
        return context(r, e);
    n = mime_source_read(&r->source, offset, buf, size, e);
    return n < 0 ? context(r, e) : n;
}

static void decode(struct mailbox *box, uint32_t uid, struct arena *arena, struct mail_file *file)
{
    struct reading *r;

    if (!store_read_coded(box) && file->ext_refs == NULL)
        return;
    r = ARENA_NEW(arena, struct reading);
    *r = (struct reading){.box = box, .uid = uid, .arena = arena, .stored = *file};
    file->source = (struct mime_source){read_decoded, r, SLICE_EMPTY};
    file->coding = r;
}

int store_read(struct mailbox *box, uint32_t uid, struct arena *arena, struct mail_file *file, struct error *e)
{
    struct mailbox *asked = box;

    mailbox_origin(&box, &uid);
    if (box->driver->read(box, uid, arena, file, e) < 0)
        return -1;
    file->owner = box == asked ? NULL : box;
    decode(box, uid, arena, file);
    return 0;
}

struct file_part {
    int fd;
    uint64_t at, size;
};

static ssize_t read_file(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    const struct file_part *file = arg;

    if (offset >= file->size)
        return 0;
    if (size > file->size - offset)
        size = (size_t)(file->size - offset);
    return os_pread_into(file->fd, file->at + offset, buf, size, e);
}

struct mime_source store_file_source(struct arena *arena, int fd, uint64_t at, uint64_t size)
{
    struct file_part *file = ARENA_NEW(arena, struct file_part);

    *file = (struct file_part){fd, at, size};
    return (struct mime_source){read_file, file, SLICE_EMPTY};
}

int store_read_staged(const struct staged *s, struct arena *arena, struct mail_file *file, struct error *e)
{
    struct stat st;

    *file = (struct mail_file){.fd = -1};
    if (s->box->driver->stage_read != NULL) {
        if (s->box->driver->stage_read(s, arena, file, e) < 0)
            return -1;
    } else {
        if (fstat(s->fd, &st) < 0)
            return error_sys(e, "fstat", "staged message");
        file->size = (uint64_t)st.st_size;
        file->source = store_file_source(arena, s->fd, 0, file->size);
    }
    decode(s->box, 0, arena, file);
    return 0;
}

int store_read_size(struct mail_file *file, uint64_t *size, struct error *e)
{
    struct reading *r = file->coding;

    *size = file->size;
    if (r == NULL)
        return 0;
    if (!r->looked && look(r, e) < 0)
        return context(r, e);
    if (r->spool != NULL && spool_size(r->spool, size, e) < 0)
        return context(r, e);
    if (r->splice != NULL)
        *size = splice_size(r->splice, *size);
    return 0;
}

void store_read_end(struct mailbox *box, struct mail_file *file)
{
    struct reading *r = file->coding;

    if (r != NULL) {
        splice_close(&r->splice);
        spool_free(r->spool);
        *file = r->stored;
    }
    if (file->owner != NULL)
        box = file->owner;
    if (box != NULL)
        box->driver->read_end(file);
}
