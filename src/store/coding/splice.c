/* splice.c - attachments put back into the message that they were taken from (dbox-format 5.2).
 *
 * Every place of the message can be read: what stands before, between and behind the references comes from the stored
 * message, a reference's bytes from its file, as they are or as base64 in lines of so many characters. A file that is missing
 * or too short, or a mail_attachment_dir that is, is an error of the ranges that it was for. */
#include "store/coding/codec.h"
#include "store/coding/coding.h"
#include "store/attachment.h"
#include "store/internal.h"

enum { CHUNK = 3 * 1024 };  /* bytes that become letters at a time */

struct piece {
    struct attachment_ref ref;
    const char *path;
    bool open;
    struct fs_file file;
};

struct splice {
    struct arena *arena;
    struct fs *fs;               /* NULL: mail_attachment_dir is unset, so no piece can be read */
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
        if (strcmp(e->admin, "mail_attachment_dir is unset") != 0) {
            splice_close(&s);
            return NULL;
        }
        s->fs = NULL;
        folder = "";
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

/* The letters from `column` of a line on, as many as fit: three bytes are four letters. -> how many; 0: the file ends here. */
static ssize_t read_letters(struct piece *p, uint64_t line, uint64_t column, unsigned char *buf, size_t size, struct error *e)
{
    unsigned char raw[CHUNK];
    uint64_t left = (p->ref.base64_columns - column / 4 * 4) / 4 * 3;
    uint64_t want = ((uint64_t)size + 3) / 4 * 3 + 3;
    struct buffer letters = {0};
    struct slice part;
    ssize_t n;

    want = want < left ? want : left;
    want = want < sizeof(raw) ? want : sizeof(raw);
    n = mime_source_read(&p->file.source, line * (p->ref.base64_columns / 4 * 3) + column / 4 * 3, raw, (size_t)want, e);
    if (n < 0)
        return error_context(e, "attachment %s: ", p->path);
    text_base64_encode(&letters, slice_of(raw, (size_t)n));
    part = slice_head(slice_from(buffer_slice(&letters), (size_t)(column % 4)), size);
    if (part.size > 0)
        memcpy(buf, part.at, part.size);
    buffer_free(&letters);
    return (ssize_t)part.size;
}

/* A byte of a line's end, which only a full line has. */
static ssize_t read_line_end(struct piece *p, uint64_t line, bool cr, unsigned char *buf, struct error *e)
{
    ssize_t n = mime_source_read(&p->file.source, (line + 1) * (p->ref.base64_columns / 4 * 3) - 1, buf, 1, e);

    if (n < 0)
        return error_context(e, "attachment %s: ", p->path);
    *buf = cr ? '\r' : '\n';
    return n;
}

/* Lines may be of any length (a whole attachment in one is not rare). The last one may be shorter, and ends where the reference's
 * size says. */
static int read_base64(struct piece *p, uint64_t offset, unsigned char *buf, size_t size, struct error *e)
{
    const uint64_t columns = p->ref.base64_columns, ends = p->ref.crlf ? 2 : 1;

    while (size > 0) {
        uint64_t line = offset / (columns + ends), column = offset % (columns + ends);
        ssize_t n = column < columns ? read_letters(p, line, column, buf, size, e)
                                     : read_line_end(p, line, ends == 2 && column == columns, buf, e);

        if (n < 0)
            return -1;
        if (n == 0)
            return short_file(p, e);
        buf += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static int read_piece(struct splice *s, struct piece *p, uint64_t offset, unsigned char *buf, size_t size, struct error *e)
{
    if (s->fs == NULL)
        return error_set(e, ERROR_CORRUPT, "It contains references to external attachments, but mail_attachment_dir is unset");
    if (!p->open) {
        if (fs_read(s->fs, p->path, &p->file, e) < 0) {
            if (e->class == ERROR_NOT_FOUND)
                e->class = ERROR_CORRUPT;   /* the message is there */
            return -1;
        }
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
