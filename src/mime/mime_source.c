/* Reading a mail forwards through a window of 64 KiB, or in place when it is in memory.
 *
 * A read function may give less than asked only at the end of the mail, so that a short read ends it. Sizes of a
 * whole mail are counted here too. */
#include "base/text.h"
#include "mime/mime_internal.h"

ssize_t mime_source_read(const struct mime_source *source, uint64_t offset, void *buf, size_t size, struct error *e)
{
    struct slice rest;

    if (source->read != NULL)
        return source->read(source->arg, offset, buf, size, e);
    rest = offset > source->whole.size ? SLICE_EMPTY : slice_head(slice_from(source->whole, (size_t)offset), size);
    if (rest.size > 0)
        memcpy(buf, rest.at, rest.size);
    return (ssize_t)rest.size;
}

void mime_window_init(struct mime_window *w, const struct mime_source *source, uint64_t offset)
{
    *w = (struct mime_window){.source = source, .offset = offset};
    if (source->read == NULL) {
        size_t skip = offset < source->whole.size ? (size_t)offset : source->whole.size;
        w->at = source->whole.size == 0 ? (const unsigned char *)"" : source->whole.at + skip;
        w->end = w->at + (source->whole.size - skip);
        w->eof = true;
    }
}

ssize_t mime_read_ahead(const struct mime_source *source, uint64_t offset, void *buf, size_t *size, size_t least, struct error *e)
{
    ssize_t got = source->read(source->arg, offset, buf, *size, e);

    while (got < 0 && *size > least) {
        *size = *size / 2 > least ? *size / 2 : least;
        got = source->read(source->arg, offset, buf, *size, e);
    }
    return got;
}

int mime_window_fill(struct mime_window *w, size_t want, struct error *e)
{
    size_t have = (size_t)(w->end - w->at);
    if (have >= want || w->eof)
        return 0;
    if (w->buf == NULL)
        w->buf = mem_room_new();
    if (have > 0)
        memmove(w->buf, w->at, have);
    w->at = w->buf;
    w->end = w->buf + have;
    while (have < want) {
        size_t room = MIME_WINDOW_SIZE - have;
        ssize_t got = mime_read_ahead(w->source, w->offset + have, w->buf + have, &room, want - have, e);
        if (got < 0)
            return -1;
        have += (size_t)got;
        w->end = w->buf + have;
        if ((size_t)got < room) {
            w->eof = true;
            break;
        }
    }
    return 0;
}

void mime_window_free(struct mime_window *w)
{
    mem_room_free(w->buf);
    w->buf = NULL;
    w->at = w->end = NULL;
}

int mime_range_sizes(const struct mime_source *source, uint64_t offset, uint64_t physical, struct mime_size *size, struct error *e)
{
    struct mime_window w;
    bool cr = false;
    int r;

    *size = (struct mime_size){0};
    mime_window_init(&w, source, offset);
    while ((r = mime_window_fill(&w, 1, e)) == 0) {
        struct slice text = slice_head(slice_of(w.at, (size_t)(w.end - w.at)), physical - size->physical);
        struct text_lines lines = text_lines(text, cr, -1);

        if (text.size == 0)
            break;
        size->virtual += lines.bare;
        size->lines += lines.count;
        size->physical += text.size;
        cr = text.at[text.size - 1] == '\r';
        w.at += text.size;
        w.offset += text.size;
    }
    size->virtual += size->physical;
    mime_window_free(&w);
    return r;
}

int mime_source_sizes(const struct mime_source *source, struct mime_size *size, struct error *e)
{
    return mime_range_sizes(source, 0, UINT64_MAX, size, e);
}
