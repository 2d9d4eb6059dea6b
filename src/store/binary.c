/* binary.c - a message or part without its transfer encodings (RFC 3516, imap 10.3), whole in memory. */
#include "store/store.h"

enum { CHUNK = 16 * 1024 };

struct binary {
    struct mail *mail;
    const struct mime_source *source;
    struct buffer *out;
    bool decoded;              /* anything was */
    bool broken, unknown;      /* an encoding that is invalid, or not known */
};

/* What the body is decoded by; there is nothing to decode in an empty one, and its header is left alone. */
static enum mime_encoding encoding_of(const struct mime_part *part)
{
    enum mime_encoding encoding = part->data == NULL ? MIME_ENCODING_NONE : part->data->decoding;

    return part->body.physical == 0 && encoding != MIME_ENCODING_UNKNOWN ? MIME_ENCODING_NONE : encoding;
}

/* Physical bytes with CRLF line ends, as they are. */
static int copy_raw(struct binary *b, uint64_t at, uint64_t end, struct error *e)
{
    struct buffer chunk = {0};

    while (at < end) {
        size_t want = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
        ssize_t n;

        buffer_reset(&chunk);
        buffer_reserve(&chunk, want);
        n = mime_source_read(b->source, at, chunk.at, want, e);
        chunk.size = n < 0 ? 0 : (size_t)n;
        if (chunk.size == 0) {
            buffer_free(&chunk);
            return n < 0 ? -1 : 0;
        }
        for (size_t i = 0; i < chunk.size; i++) {
            if (chunk.at[i] == '\n' && (b->out->size == 0 || b->out->at[b->out->size - 1] != '\r'))
                buffer_append_byte(b->out, '\r');
            buffer_append_byte(b->out, chunk.at[i]);
        }
        at += chunk.size;
    }
    buffer_free(&chunk);
    return 0;
}

static int copy_body(struct binary *b, const struct mime_part *part, struct error *e)
{
    uint64_t at = part->offset + part->header.physical, end = at + part->body.physical;
    enum mime_encoding encoding = encoding_of(part);
    struct buffer raw = {0};
    struct binary inner = *b;
    struct mime_decoder decoder;
    int got;

    if (encoding == MIME_ENCODING_UNKNOWN) {
        b->unknown = true;
        return 0;
    }
    if (encoding == MIME_ENCODING_NONE)
        return copy_raw(b, at, end, e);
    inner.out = &raw;
    got = copy_raw(&inner, at, end, e);
    mime_decoder_init(&decoder, encoding);
    mime_decoder_feed(&decoder, buffer_slice(&raw), b->out);
    mime_decoder_finish(&decoder, b->out);
    b->decoded = true;
    b->broken = b->broken || decoder.broken;
    buffer_free(&raw);
    return got;
}

/* The header, with Content-Transfer-Encoding at its end as "binary" where the body is decoded. */
static int copy_header(struct binary *b, const struct mime_part *part, struct error *e)
{
    static const char name[] = "Content-Transfer-Encoding";
    enum mime_encoding encoding = encoding_of(part);
    struct slice block, names[1] = {SLICE("Content-Transfer-Encoding")};

    if (part->children != NULL || encoding == MIME_ENCODING_NONE || encoding == MIME_ENCODING_UNKNOWN)
        return copy_raw(b, part->offset, part->offset + part->header.physical, e);
    if (mime_header_read(mail_arena(b->mail), b->source, part, &block, e) < 0)
        return -1;
    mime_header_filter(b->out, block, mime_names_new(mail_arena(b->mail), names, 1), true);
    if (b->out->size >= 2)
        b->out->size -= 2; /* the empty line comes last */
    buffer_printf(b->out, "%s: binary\r\n\r\n", name);
    return 0;
}

static int copy_part(struct binary *b, const struct mime_part *part, bool header, struct error *e);

/* A body with parts: what stands between them is copied. */
static int copy_children(struct binary *b, const struct mime_part *part, struct error *e)
{
    uint64_t at = part->offset + part->header.physical, end = at + part->body.physical;

    for (const struct mime_part *c = part->children; c != NULL; c = c->next) {
        if (copy_raw(b, at, c->offset, e) < 0 || copy_part(b, c, true, e) < 0)
            return -1;
        at = c->offset + c->header.physical + c->body.physical;
    }
    return at < end ? copy_raw(b, at, end, e) : 0;
}

static int copy_part(struct binary *b, const struct mime_part *part, bool header, struct error *e)
{
    if (header && copy_header(b, part, e) < 0)
        return -1;
    return part->children != NULL ? copy_children(b, part, e) : copy_body(b, part, e);
}

int mail_binary(struct mail *mail, const struct mime_section *section, struct buffer *out, struct mail_binary *result,
                struct error *e)
{
    struct binary b = {.mail = mail, .out = out};
    struct mime_part *root, *part;
    bool whole = true;

    *result = (struct mail_binary){0};
    buffer_reset(out);
    if (mail_parts(mail, true, &root, e) < 0 || mail_source(mail, &b.source, e) < 0)
        return -1;
    part = section->depth == 0 ? root : mime_section_part(root, section, &whole);
    if (part != NULL && section->what == MIME_SECTION_TEXT && section->depth > 0)
        part = (part->flags & MIME_PART_MESSAGE) != 0 ? part->children : NULL;
    if (part == NULL)
        return 0;
    if (copy_part(&b, part, section->depth == 0 && section->what == MIME_SECTION_ALL, e) < 0)
        return -1;
    result->unknown = b.unknown;
    result->broken = b.broken;
    /* Also where the NUL is in the header that is left out: a part is told of as a whole. */
    result->decoded = b.decoded || (part->flags & MIME_PART_NULS) != 0 || slice_find(buffer_slice(out), '\0') >= 0;
    return 0;
}

/* What decoding changes in the sizes of encoded parts whose header begins in [from, to). */
static int changes_within(struct binary *b, const struct mime_part *part, uint64_t from, uint64_t to, uint64_t *change, struct error *e)
{
    for (; part != NULL && part->offset < to; part = part->next) {
        struct buffer text = {0};
        struct binary inner = {.mail = b->mail, .source = b->source, .out = &text};
        int got;

        if (part->children != NULL && changes_within(b, part->children, from, to, change, e) < 0)
            return -1;
        if (part->children != NULL || part->offset < from)
            continue;
        got = copy_part(&inner, part, true, e);
        if (got == 0 && inner.decoded)
            *change += text.size - (part->header.virtual + part->body.virtual);
        buffer_free(&text);
        if (got < 0)
            return -1;
    }
    return 0;
}

int mail_binary_size(struct mail *mail, const struct mime_section *section, struct buffer *scratch, uint64_t *size,
                     struct mail_binary *result, struct error *e)
{
    struct binary b = {.mail = mail};
    struct mime_part *root, *part;
    uint64_t end, change = 0;
    bool whole = true;

    if (mail_binary(mail, section, scratch, result, e) < 0 || mail_parts(mail, true, &root, e) < 0 ||
        mail_source(mail, &b.source, e) < 0)
        return -1;
    *size = scratch->size;
    part = section->depth == 0 ? NULL : mime_section_part(root, section, &whole);
    if (part == NULL)
        return 0;
    end = part->offset + part->header.physical + part->body.physical;
    if (changes_within(&b, root, end, part->offset + part->header.virtual + part->body.virtual, &change, e) < 0)
        return -1;
    if (*size + change <= INT64_MAX) /* what would be below zero, and is told as 2^64 less that there, is of no use to anybody */
        *size += change;
    return 0;
}
