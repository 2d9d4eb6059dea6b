/* stage.c - the bytes of a staged message on their way into the file: line ends, sizes, the chain of sinks.
 *
 * The converter works on 64 KiB at a time; so a sink sees large pieces and the file gets large writes, whatever pieces the
 * client sent. An error stays: the message is spoiled, the caller discards it. */
#include "store/coding/attach.h"
#include "store/coding/coding.h"
#include "store/stage.h"

#include <unistd.h>

#define BUFFER_SIZE 65536

int byte_sink_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    return bytes.size == 0 ? 0 : sink->put(sink, bytes, e);
}

int byte_sink_finish(struct byte_sink *sink, struct error *e)
{
    return sink->finish(sink, e);
}

void byte_sinks_free(struct byte_sink *first)
{
    while (first != NULL) {
        struct byte_sink *next = first->next;

        first->free(first);
        first = next;
    }
}

int stage_space_text(struct error *e)
{
    if (e->class == ERROR_SPACE || e->class == ERROR_QUOTA)
        error_user(e, "Not enough disk quota");
    return -1;
}

/* ---- the last sink ---- */

static struct stage_writer *writer_of_file(struct byte_sink *sink)
{
    return (struct stage_writer *)((char *)sink - offsetof(struct stage_writer, file));
}

static int file_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    struct stage_writer *w = writer_of_file(sink);

    if (os_write(w->fd, bytes, e) < 0)
        return stage_space_text(e);
    w->stored += bytes.size;
    return 0;
}

static int file_finish(struct byte_sink *sink, struct error *e)
{
    (void)sink;
    (void)e;
    return 0;
}

static void file_free(struct byte_sink *sink)
{
    (void)sink;
}

/* ---- the writer ---- */

struct stage_writer *stage_writer_new(struct mailbox *box, int fd, bool crlf)
{
    struct stage_writer *w = mem_zero(1, sizeof(*w));
    struct error e;

    w->box = box;
    w->fd = fd;
    w->crlf = crlf;
    w->file = (struct byte_sink){file_put, file_finish, file_free, NULL};
    w->first = &w->file;
    if (coding_sinks(box, &w->first, &w->attachments, &e) < 0) {
        w->failed = e; /* and not before: what went well leaves errors there, too */
        return w;
    }
    w->coded = w->first != &w->file;
    return w;
}

void stage_writer_free(struct stage_writer **writer_p)
{
    struct stage_writer *w = *writer_p;

    if (w == NULL)
        return;
    *writer_p = NULL;
    byte_sinks_free(w->first);
    buffer_free(&w->buffer);
    mem_free(w);
}

static int fail(struct stage_writer *w, struct error *e)
{
    w->failed = *e;
    return -1;
}

static int flush(struct stage_writer *w, struct error *e)
{
    if (!w->looked && coding_refuses(w->box, buffer_slice(&w->buffer), e) < 0)
        return fail(w, e);
    w->looked = true;
    w->size_physical += w->buffer.size;
    if (byte_sink_put(w->first, buffer_slice(&w->buffer), e) < 0)
        return fail(w, e);
    buffer_reset(&w->buffer);
    return 0;
}

static void put_byte(struct stage_writer *w, unsigned char c)
{
    buffer_append_byte(&w->buffer, c);
    w->size_virtual++;
}

static void put_bytes(struct stage_writer *w, struct slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        unsigned char c = bytes.at[i];

        if (c == '\n') {
            if (w->crlf) {
                put_byte(w, '\r');
                put_byte(w, '\n');
            } else {
                put_byte(w, '\n');
                w->size_virtual++;
            }
            w->last_cr = false;
            continue;
        }
        if (w->last_cr)
            put_byte(w, '\r');
        w->last_cr = c == '\r';
        if (!w->last_cr) {
            /* Up to the next line end at once. */
            size_t from = i;

            while (i + 1 < bytes.size && bytes.at[i + 1] != '\n' && bytes.at[i + 1] != '\r')
                i++;
            buffer_append(&w->buffer, bytes.at + from, i - from + 1);
            w->size_virtual += i - from + 1;
        }
    }
}

/* Usually CRLFs come and LFs are kept: most of that goes without care for each byte. */
static void put_converted(struct stage_writer *w, struct slice bytes)
{
    unsigned char *to;
    size_t used, made;

    if (!w->crlf && bytes.size > 1) {
        if (w->last_cr) {
            put_bytes(w, slice_head(bytes, 1));
            bytes = slice_from(bytes, 1);
        }
        if (!w->last_cr) {
            buffer_reserve(&w->buffer, bytes.size);
            to = w->buffer.at + w->buffer.size;
            made = text_put_lf(to, bytes.size, bytes, &used);
            w->buffer.size += made;
            w->size_virtual += made + text_lines(slice_of(to, made), false, -1).count;
            bytes = slice_from(bytes, used);
        }
    }
    put_bytes(w, bytes);
}

int stage_writer_put(struct stage_writer *w, struct slice bytes, struct error *e)
{
    if (w->failed.class != ERROR_NONE) {
        *e = w->failed;
        return -1;
    }
    while (bytes.size > 0) {
        struct slice part = slice_head(bytes, BUFFER_SIZE);

        put_converted(w, part);
        bytes = slice_from(bytes, part.size);
        if (w->buffer.size >= BUFFER_SIZE && flush(w, e) < 0)
            return -1;
    }
    return 0;
}

int stage_writer_finish(struct stage_writer *w, struct error *e)
{
    if (w->failed.class != ERROR_NONE) {
        *e = w->failed;
        return -1;
    }
    if (w->last_cr)
        put_byte(w, '\r');
    w->last_cr = false;
    if (flush(w, e) < 0)
        return -1;
    if (byte_sink_finish(w->first, e) < 0)
        return fail(w, e);
    buffer_free(&w->buffer);
    w->finished = true;
    if (w->attachments != NULL)
        extract_sink_keep(w->attachments);
    return 0;
}

const char *stage_writer_ext_refs(const struct stage_writer *w)
{
    return w->attachments == NULL ? NULL : extract_sink_refs(w->attachments);
}
