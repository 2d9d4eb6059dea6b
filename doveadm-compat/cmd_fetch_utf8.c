/* cmd_fetch_utf8.c - the field text.utf8 of doveadm fetch: a mail as a human would read it (doveadm 6.1).
 *
 * Headers are decoded and unfolded, bodies lose their transfer encoding and become UTF-8, whatever their type; boundaries
 * and what stands around them are left out, and so is a body whose encoding is unknown. */
#include "cmd_fetch.h"

void fetch_put_decoded(struct arena *arena, struct slice header_value, struct buffer *out)
{
    char *text = arena_str(arena, header_value);

    for (size_t i = 1; i < header_value.size; i++)
        if (text[i - 1] == '\n' && text[i] == '\t')
            text[i] = ' ';
    mime_words_decode(out, slice_of(text, header_value.size));
}

static void put_header(struct fetch_mail *m, struct slice block)
{
    struct mime_headers headers;
    struct mime_field field;
    struct buffer out = {0};

    mime_headers_init(&headers, block);
    while (mime_headers_next(&headers, &field)) {
        if (field.name.size > 0) { /* the blanks in front of the value stay */
            size_t front = (size_t)(field.value.at - field.raw.at);

            buffer_append(&out, field.raw.at, front);
            if (front > 0 && field.raw.at[front - 1] == ':')
                buffer_append_byte(&out, ' ');
            fetch_put_decoded(m->arena, field.value, &out);
        } else
            buffer_append_slice(&out, field.value);
        buffer_append_byte(&out, '\n');
    }
    if (headers.empty_line)
        buffer_append_byte(&out, '\n');
    print_stream(m->d, buffer_slice(&out), false);
    buffer_free(&out);
}

/* Decoded bytes through the charset to the output. */
static void put_piece(struct fetch_mail *m, struct mime_charset *charset, struct slice bytes)
{
    struct buffer out = {0};

    mime_charset_feed(charset, bytes, &out);
    print_stream(m->d, buffer_slice(&out), false);
    buffer_free(&out);
}

/* Lines of quoted-printable end in CRLF when they are decoded, others as they lie there. */
static int put_body(struct fetch_mail *m, const struct mime_source *source, const struct mime_part *part,
                    struct mime_charset *charset, struct error *e)
{
    uint64_t at = part->offset + part->header.physical, end = at + part->body.physical;
    enum mime_encoding encoding = part->data->decoding;
    struct mime_reader *reader = NULL;
    struct mime_hint hint = {0};
    struct mime_decoder decoder;
    unsigned char bytes[16 * 1024];
    struct buffer out = {0};
    ssize_t n;

    mime_decoder_init(&decoder, encoding);
    if (encoding == MIME_ENCODING_QP && mime_reader_open(m->arena, source, at, part->body.physical, part->body.virtual, 0,
                                                         UINT64_MAX, &hint, &reader, e) < 0)
        return -1;
    do {
        n = reader != NULL ? mime_reader_read(reader, bytes, sizeof(bytes), e)
                           : mime_source_read(source, at, bytes, end - at < sizeof(bytes) ? (size_t)(end - at) : sizeof(bytes), e);
        if (n <= 0)
            break;
        at += (uint64_t)n;
        out.size = 0;
        mime_decoder_feed(&decoder, slice_of(bytes, (size_t)n), &out);
        put_piece(m, charset, buffer_slice(&out));
    } while (reader != NULL || at < end);
    mime_reader_free(reader);
    out.size = 0;
    mime_decoder_finish(&decoder, &out);
    put_piece(m, charset, buffer_slice(&out));
    out.size = 0;
    mime_charset_close_body(charset, &out);
    print_stream(m->d, buffer_slice(&out), false);
    buffer_free(&out);
    return n < 0 ? -1 : 0;
}

static int put_part(struct fetch_mail *m, const struct mime_source *source, const struct mime_part *part, struct error *e)
{
    struct mime_charset *charset;
    struct slice block;

    if (mime_header_read(m->arena, source, part, &block, e) < 0)
        return -1;
    put_header(m, block);
    if ((part->flags & (MIME_PART_MULTIPART | MIME_PART_MESSAGE)) != 0 || part->data == NULL ||
        part->data->decoding == MIME_ENCODING_UNKNOWN)
        return 0;
    charset = mime_charset_open_body(mime_param_utf8(m->arena, &part->data->params, "charset"));
    return put_body(m, source, part, charset, e);
}

int fetch_put_text_utf8(struct fetch_mail *m, struct error *e)
{
    const struct mime_source *source;
    struct mime_part *root;

    if (mail_source(m->mail, &source, e) < 0 || mail_parts(m->mail, true, &root, e) < 0)
        return -1;
    for (struct mime_part *part = root; part != NULL; part = mime_part_following(root, part))
        if (put_part(m, source, part, e) < 0)
            return -1;
    print_stream(m->d, SLICE_EMPTY, true);
    return 0;
}
