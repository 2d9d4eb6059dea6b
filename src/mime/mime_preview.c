/* PREVIEW: the first 200 characters of a mail's text (imap 10.7; RFC 8970).
 *
 * The first text part that is not inside an attached message gives it. Quoted lines count only if there is nothing
 * else. At most 64 KiB of a part are decoded: what comes later is not looked at, whatever a sender puts in front. */
#include <stdlib.h>

#include "base/text.h"
#include "mime/mime_internal.h"

#define PREVIEW_CHARS 200
#define PREVIEW_BYTES 65536u
#define ENTITY_MAX 10

/* A line of text being collected, and what it adds up to. */
struct sink {
    struct buffer text, quoted;
    size_t chars, quoted_chars;
    bool space, quoted_space;
    bool line_start, in_quote;
};

static void put_char(struct buffer *out, size_t *chars, bool *space, const unsigned char *at, size_t size)
{
    if (*chars >= PREVIEW_CHARS)
        return;
    if (size == 1 && (*at == ' ' || (*at >= '\t' && *at <= '\r'))) {
        *space = out->size > 0;
        return;
    }
    if (size == 1 && *at == '\0')
        return;
    if (size == 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
        return;                            /* byte order mark */
    if (*space) {
        *space = false;
        if (*chars + 2 > PREVIEW_CHARS) {
            *chars = PREVIEW_CHARS;        /* no room for the word behind it: no space either */
            return;
        }
        buffer_append_byte(out, ' ');
        ++*chars;
    }
    buffer_append(out, at, size);
    ++*chars;
}

static bool sink_full(const struct sink *s)
{
    return s->chars >= PREVIEW_CHARS;
}

static void sink_put(struct sink *s, const unsigned char *at, size_t size)
{
    if (s->line_start) {
        s->in_quote = *at == '>';
        s->line_start = false;
        if (s->in_quote) {
            if (s->quoted_chars == 0)
                s->quoted_chars = 1;       /* the mark counts */
            return;
        }
    }
    if (s->in_quote)
        put_char(&s->quoted, &s->quoted_chars, &s->quoted_space, at, size);
    else
        put_char(&s->text, &s->chars, &s->space, at, size);
    if (*at == '\n')
        s->line_start = true;
}

static size_t char_size(unsigned char c)
{
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

static void take_plain(struct sink *s, struct slice text)
{
    for (size_t i = 0; i < text.size && !sink_full(s);) {
        size_t n = char_size(text.at[i]);
        if (n > text.size - i)
            n = text.size - i;
        sink_put(s, text.at + i, n);
        i += n;
    }
}

/* ---- HTML --------------------------------------------------------------------------------------------------- */

static void put_code(struct sink *s, uint32_t c)
{
    struct buffer b = {0};

    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return;
    text_utf8_put(&b, c);
    sink_put(s, b.at, b.size);
    buffer_free(&b);
}

static void put_entity(struct sink *s, const char *name)
{
    uint32_t code = 0;
    char *end;

    if (name[0] != '#') {
        put_code(s, mime_entity_code(name));
        return;
    }
    bool hex = (name[1] | 0x20) == 'x';
    const char *number = name + (hex ? 2 : 1);
    if (mime_hex_digit((unsigned char)*number) < 0)
        return;
    code = (uint32_t)strtoul(number, &end, hex ? 16 : 10);
    if (*end == '\0')
        put_code(s, code);
}

/* "&name;" at the front: its length. What is none loses its ampersand; one that is cut off by the end vanishes. */
static size_t take_entity(struct sink *s, struct slice in)
{
    char name[ENTITY_MAX + 1];
    size_t n = 0;

    for (size_t i = 1; i < in.size; i++) {
        unsigned char c = in.at[i];
        if (c == ';') {
            name[n] = '\0';
            put_entity(s, name);
            return i + 1;
        }
        if (n == ENTITY_MAX || !(c == '#' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')))
            return 1;
        name[n++] = (char)c;
    }
    return in.size;
}

static bool tag_is(struct slice tag, const char *name)
{
    size_t n = strlen(name);
    return slice_starts_nocase(tag, slice_from_str(name)) &&
           (tag.size == n || strchr(" \t\r\n>/", tag.at[n]) != NULL);
}

/* End of a tag that begins at in.at[0] == '<': behind its '>', quotes respected; the end if it has none. */
static size_t tag_end(struct slice in)
{
    unsigned char quote = 0;
    for (size_t i = 1; i < in.size; i++) {
        if (quote != 0) {
            if (in.at[i] == quote)
                quote = 0;
        } else if (in.at[i] == '"' || in.at[i] == '\'') {
            quote = in.at[i];
        } else if (in.at[i] == '>') {
            return i + 1;
        }
    }
    return in.size;
}

static void take_html(struct sink *s, struct slice in)
{
    static const unsigned char blank = ' ';
    unsigned quotes = 0;                   /* open blockquotes */
    const char *until = NULL;              /* "</style" or "</script": nothing counts before it */

    while (in.size > 0 && !sink_full(s)) {
        if (in.at[0] != '<') {
            size_t n = char_size(in.at[0]);
            if (n > in.size)
                n = in.size;
            if (until == NULL && quotes == 0) {
                if (in.at[0] == '&')
                    n = take_entity(s, in);
                else
                    sink_put(s, in.at, n);
            }
            in = slice_from(in, n);
            continue;
        }
        if (until != NULL && !slice_starts_nocase(in, slice_from_str(until))) {
            in = slice_from(in, 1);
            continue;
        }
        if (slice_starts(in, SLICE("<!--"))) {
            in = slice_from(in, 4);
            ptrdiff_t end = slice_find_slice(in, SLICE("-->"));
            in = end < 0 ? SLICE_EMPTY : slice_from(in, (size_t)end + 3);
            continue;
        }
        size_t size = tag_end(in);
        struct slice tag = slice_head(slice_from(in, 1), size - 1);
        bool empty = tag.size > 1 && tag.at[tag.size - 2] == '/';
        until = empty ? NULL : tag_is(tag, "style") ? "</style" : tag_is(tag, "script") ? "</script" : NULL;
        if (tag_is(tag, "blockquote"))
            quotes++;
        else if (tag_is(tag, "/blockquote") && quotes > 0)
            quotes--;
        bool line_start = s->line_start;
        s->line_start = false;
        sink_put(s, &blank, 1);
        s->line_start = line_start;
        in = slice_from(in, size);
    }
}

/* ---- parts -------------------------------------------------------------------------------------------------- */

static int read_part(const struct mime_source *source, const struct mime_part *part, struct buffer *text,
                     struct error *e)
{
    const struct mime_part_data *d = part->data;
    struct mime_window w;
    struct mime_decoder decoder;
    struct buffer decoded = {0};
    uint64_t left = part->body.physical;

    mime_decoder_init(&decoder, d->decoding);
    mime_window_init(&w, source, part->offset + part->header.physical);
    while (left > 0 && decoded.size < PREVIEW_BYTES) {
        if (mime_window_fill(&w, 1, e) < 0) {
            mime_window_free(&w);
            buffer_free(&decoded);
            return -1;
        }
        size_t n = (size_t)(w.end - w.at);
        if (n > left)
            n = (size_t)left;
        if (n > 8192)
            n = 8192;
        if (n == 0)
            break;
        mime_decoder_feed(&decoder, slice_of(w.at, n), &decoded);
        w.at += n;
        w.offset += n;
        left -= n;
    }
    mime_decoder_finish(&decoder, &decoded);
    mime_window_free(&w);
    struct mime_charset *c = mime_charset_open_body(d->charset);
    mime_charset_feed(c, buffer_slice(&decoded), text);
    mime_charset_close_body(c, text);
    buffer_free(&decoded);
    return 0;
}

static bool is_html(const struct mime_part *part)
{
    return part->data->type.at != NULL && slice_equal_str_nocase(part->data->subtype, "html");
}

static bool is_text(const struct mime_part *part)
{
    const struct mime_part_data *d = part->data;

    return (part->flags & MIME_PART_MULTIPART) == 0 && (d->type.at == NULL || slice_equal_str_nocase(d->type, "text"));
}

/* Of alternatives plain text, else the last HTML, else the last other text. What is inside further multiparts does not count. */
static struct mime_part *find_alternative(const struct mime_part *parent)
{
    struct mime_part *best = NULL;

    for (struct mime_part *part = parent->children; part != NULL; part = part->next) {
        if (!is_text(part))
            continue;
        if (part->data->type.at == NULL || slice_equal_str_nocase(part->data->subtype, "plain"))
            return part;
        if (best == NULL || is_html(part) || !is_html(best))
            best = part;
    }
    return best;
}

/* The part whose text counts. Attached messages are not looked into; those that a digest holds without a type are text. */
static struct mime_part *find_text(struct mime_part *part)
{
    struct mime_part *found = NULL;

    if (is_text(part))
        return part;
    if ((part->flags & MIME_PART_MESSAGE) != 0)
        return NULL;
    if (slice_equal_str_nocase(part->data->subtype, "alternative"))
        return find_alternative(part);
    for (struct mime_part *c = part->children; c != NULL && found == NULL; c = c->next)
        found = find_text(c);
    return found;
}

int mime_preview(struct arena *arena, const struct mime_source *source, struct mime_part *root, struct buffer *out,
                 struct error *e)
{
    struct sink sink = {.line_start = true};
    struct mime_part *part = find_text(root);
    struct buffer text = {0};
    int result = 0;

    (void)arena;
    /* "Content-Type: text" is a part that says it is text, but not which: nothing of it is shown. */
    if (part != NULL && part->data->decoding != MIME_ENCODING_UNKNOWN && (part->data->type.at == NULL || part->data->subtype.size > 0))
        result = read_part(source, part, &text, e);
    if (result == 0 && part != NULL) {
        if (is_html(part))
            take_html(&sink, buffer_slice(&text));
        else
            take_plain(&sink, buffer_slice(&text));
    }
    if (result == 0 && sink.chars > 0) {
        buffer_append_slice(out, buffer_slice(&sink.text));
    } else if (result == 0 && sink.quoted.size > 0) {
        buffer_append_byte(out, '>');
        buffer_append_slice(out, buffer_slice(&sink.quoted));
    }
    buffer_free(&sink.text);
    buffer_free(&sink.quoted);
    buffer_free(&text);
    return result;
}
