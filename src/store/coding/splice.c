/* splice.c - attachments put back into the message that they were taken from (dbox-format 5.2).
 *
 * Every place of the message can be read: what stands before, between and behind the references comes from the stored
 * message, a reference's bytes from its file, as they are or as base64 in lines of so many characters. A file that is missing
 * or too short is an error of the ranges that it was for. */
#include "store/coding/codec.h"
#include "store/coding/coding.h"
#include "store/attachment.h"
#include "store/internal.h"

struct piece {
    struct attachment_ref ref;
    const char *path;
    bool open;
    struct fs_file file;
};

struct splice {
    struct arena *arena;
    struct fs *fs;
    struct mime_source stored;
    struct piece *at;
    size_t count;
};

struct splice *splice_open(struct mail_user *user, const struct mime_source *stored, const char *refs, const char *suffix,
                           struct error *e)
{
    struct splice *s = mem_zero(1, sizeof(*s));
    struct attachment_refs list;
    const char *folder;

    s->arena = arena_new();
    s->stored = *stored;
    if (coding_attachments(user, &s->fs, &folder, e) < 0) {
        if (slice_equal_str(slice_from_str(e->admin), "mail_attachment_dir is unset"))
            error_set(e, ERROR_CORRUPT, "It contains references to external attachments, but mail_attachment_dir is unset");
        splice_close(&s);
        return NULL;
    }
    if (attachment_refs_parse(slice_from_str(refs), s->arena, &list, e) < 0) {
        error_context(e, "Corrupted ext-refs metadata %s: ", refs);
        splice_close(&s);
        return NULL;
    }
    s->at = ARENA_ARRAY(s->arena, struct piece, list.count);
    s->count = list.count;
    for (size_t i = 0; i < list.count; i++) {
        s->at[i].ref = list.at[i];
        s->at[i].path = arena_printf(s->arena, "%s/%.*s%s", folder, (int)list.at[i].path.size,
                                     (const char *)list.at[i].path.at, suffix == NULL ? "" : suffix);
    }
    return s;
}

void splice_close(struct splice **splice_p)
{
    struct splice *s = *splice_p;

    if (s == NULL)
        return;
    *splice_p = NULL;
    for (size_t i = 0; i < s->count; i++)
        if (s->at[i].open)
            s->at[i].file.end(&s->at[i].file);
    arena_free(s->arena);
    mem_free(s);
}

uint64_t splice_size(const struct splice *s, uint64_t stored)
{
    for (size_t i = 0; i < s->count; i++)
        stored += s->at[i].ref.size;
    return stored;
}

static int short_file(const struct piece *p, struct error *e)
{
    return error_set(e, ERROR_CORRUPT, "attachment %s is shorter than the message says", p->path);
}

static int read_raw(struct piece *p, uint64_t offset, unsigned char *buf, size_t size, struct error *e)
{
    ssize_t n = mime_source_read(&p->file.source, offset, buf, size, e);

    if (n < 0)
        return error_context(e, "attachment %s: ", p->path);
    return (size_t)n < size ? short_file(p, e) : 0;
}

/* One line of base64 at a time: `columns` characters come of columns / 4 * 3 bytes; the last line may be shorter, and ends
 * where the reference's size says. */
static int read_base64(struct piece *p, uint64_t offset, unsigned char *buf, size_t size, struct error *e)
{
    size_t columns = p->ref.base64_columns, ends = p->ref.crlf ? 2 : 1, step = columns / 4 * 3;
    unsigned char raw[ATTACHMENT_COLUMNS_MAX / 4 * 3];
    struct buffer line = {0};
    int r = 0;

    while (r == 0 && size > 0) {
        uint64_t number = offset / (columns + ends);
        size_t skip = (size_t)(offset % (columns + ends));
        ssize_t n = mime_source_read(&p->file.source, number * step, raw, step, e);
        struct slice part;

        if (n < 0) {
            r = error_context(e, "attachment %s: ", p->path);
            break;
        }
        buffer_reset(&line);
        text_base64_encode(&line, slice_of(raw, (size_t)n));
        if ((size_t)n == step)
            buffer_append(&line, "\r\n" + 2 - ends, ends);
        part = slice_head(slice_from(buffer_slice(&line), skip), size);
        if (part.size == 0) {
            r = short_file(p, e);
            break;
        }
        memcpy(buf, part.at, part.size);
        buf += part.size;
        offset += part.size;
        size -= part.size;
    }
    buffer_free(&line);
    return r;
}

static int read_piece(struct splice *s, struct piece *p, uint64_t offset, unsigned char *buf, size_t size, struct error *e)
{
    if (!p->open) {
        if (fs_read(s->fs, p->path, &p->file, e) < 0)
            return -1;
        p->open = true;
    }
    return p->ref.base64_columns == 0 ? read_raw(p, offset, buf, size, e) : read_base64(p, offset, buf, size, e);
}

ssize_t splice_read(void *arg, uint64_t offset, void *out, size_t size, struct error *e)
{
    struct splice *s = arg;
    unsigned char *buf = out;
    uint64_t inserted = 0;      /* bytes of pieces before `offset` */
    size_t done = 0, i = 0;

    while (done < size) {
        size_t want = size - done;
        uint64_t at = offset + done;
        struct piece *p;
        ssize_t n;

        while (i < s->count && at >= s->at[i].ref.offset + s->at[i].ref.size) {
            inserted += s->at[i].ref.size;
            i++;
        }
        p = i < s->count ? &s->at[i] : NULL;
        if (p != NULL && at >= p->ref.offset) {
            if (want > p->ref.offset + p->ref.size - at)
                want = (size_t)(p->ref.offset + p->ref.size - at);
            if (read_piece(s, p, at - p->ref.offset, buf + done, want, e) < 0)
                return -1;
            done += want;
            continue;
        }
        if (p != NULL && want > p->ref.offset - at)
            want = (size_t)(p->ref.offset - at);
        n = mime_source_read(&s->stored, at - inserted, buf + done, want, e);
        if (n < 0)
            return -1;
        done += (size_t)n;
        if ((size_t)n < want) {
            if (p != NULL)
                return error_set(e, ERROR_CORRUPT, "The message ends before its attachment at %llu",
                                 (unsigned long long)p->ref.offset);
            break;
        }
    }
    return (ssize_t)done;
}
