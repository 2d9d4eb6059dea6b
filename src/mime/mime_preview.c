/* PREVIEW: the first 200 characters of a mail's text (imap 10.7; RFC 8970).
 *
 * The parts are walked in order; the first that gives text ends it. Quoted lines count only if there is nothing else.
 * At most 64 KiB of a part are decoded: what comes later is not looked at, whatever a sender puts in front. */
#include "mime/mime_internal.h"

#define PREVIEW_CHARS 200
#define PREVIEW_BYTES 65536u

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
    if (size == 1 && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n')) {
        *space = *chars > 0;
        return;
    }
    if (size == 1 && *at == '\0')
        return;
    if (size == 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
        return;                            /* byte order mark */
    if (*space) {
        buffer_append_byte(out, ' ');
        *space = false;
        if (++*chars >= PREVIEW_CHARS)
            return;
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
        if (s->in_quote)
            return;
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
    unsigned char b[4];
    size_t n;

    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return;
    if (c == 0xa0)
        c = ' ';
    if (c < 0x80) {
        b[0] = (unsigned char)c;
        n = 1;
    } else if (c < 0x800) {
        b[0] = (unsigned char)(0xc0 | c >> 6);
        b[1] = (unsigned char)(0x80 | (c & 0x3f));
        n = 2;
    } else if (c < 0x10000) {
        b[0] = (unsigned char)(0xe0 | c >> 12);
        b[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        b[2] = (unsigned char)(0x80 | (c & 0x3f));
        n = 3;
    } else {
        b[0] = (unsigned char)(0xf0 | c >> 18);
        b[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
        b[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        b[3] = (unsigned char)(0x80 | (c & 0x3f));
        n = 4;
    }
    s->line_start = false;
    sink_put(s, b, n);
}

/* "&name;" or "&#123;" at the front: its length, 0 if it is none. */
static size_t take_entity(struct sink *s, struct slice in)
{
    static const struct {
        const char *name;
        uint32_t code;
    } names[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}, {"nbsp", 0xa0},
                 {"copy", 0xa9}, {"reg", 0xae}, {"trade", 0x2122}, {"hellip", 0x2026}, {"ndash", 0x2013},
                 {"mdash", 0x2014}, {"lsquo", 0x2018}, {"rsquo", 0x2019}, {"ldquo", 0x201c}, {"rdquo", 0x201d},
                 {"laquo", 0xab}, {"raquo", 0xbb}, {"bull", 0x2022}, {"middot", 0xb7}, {"euro", 0x20ac},
                 {"pound", 0xa3}, {"yen", 0xa5}, {"cent", 0xa2}, {"sect", 0xa7}, {"deg", 0xb0}, {"auml", 0xe4},
                 {"ouml", 0xf6}, {"uuml", 0xfc}, {"Auml", 0xc4}, {"Ouml", 0xd6}, {"Uuml", 0xdc}, {"szlig", 0xdf},
                 {"eacute", 0xe9}, {"egrave", 0xe8}, {"ecirc", 0xea}, {"agrave", 0xe0}, {"aacute", 0xe1},
                 {"acirc", 0xe2}, {"aring", 0xe5}, {"Aring", 0xc5}, {"ccedil", 0xe7}, {"ntilde", 0xf1},
                 {"oacute", 0xf3}, {"oslash", 0xf8}, {"Oslash", 0xd8}, {"aelig", 0xe6}, {"iacute", 0xed},
                 {"uacute", 0xfa}, {"zwnj", 0x200c}, {"zwj", 0x200d}, {"shy", 0xad}};
    struct slice head = slice_head(in, 12);
    ptrdiff_t end = slice_find(head, ';');

    if (end < 2)
        return 0;
    struct slice name = slice_head(slice_from(in, 1), (size_t)end - 1);
    if (name.at[0] == '#') {
        uint32_t code = 0;
        bool hex = name.size > 1 && (name.at[1] | 0x20) == 'x';
        for (size_t i = hex ? 2 : 1; i < name.size; i++) {
            int digit = mime_hex_digit(name.at[i]);
            if (digit < 0 || (!hex && digit > 9))
                return 0;
            code = code * (hex ? 16 : 10) + (uint32_t)digit;
        }
        put_code(s, code);
        return (size_t)end + 1;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal_str(name, names[i].name)) {
            put_code(s, names[i].code);
            return (size_t)end + 1;
        }
    }
    return 0;
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
                size_t entity = in.at[0] == '&' ? take_entity(s, in) : 0;
                s->line_start = false;
                if (entity > 0)
                    n = entity;
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
            ptrdiff_t end = slice_find_slice(in, SLICE("-->"));
            in = end < 0 ? SLICE_EMPTY : slice_from(in, (size_t)end + 3);
            continue;
        }
        size_t size = tag_end(in);
        struct slice tag = slice_head(slice_from(in, 1), size - 1);
        until = tag_is(tag, "style") ? "</style" : tag_is(tag, "script") ? "</script" : NULL;
        if (tag_is(tag, "blockquote"))
            quotes++;
        else if (tag_is(tag, "/blockquote") && quotes > 0)
            quotes--;
        s->line_start = false;
        sink_put(s, &blank, 1);
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
    struct slice charset = SLICE_EMPTY;

    for (size_t i = 0; i < d->params.count && charset.at == NULL; i++)
        if (slice_equal_str_nocase(d->params.at[i].name, "charset"))
            charset = d->params.at[i].value;
    if (!mime_charset_known(charset))
        charset = SLICE_EMPTY;
    mime_decoder_init(&decoder, mime_encoding_of(d->encoding));
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
    (void)mime_charset_to_utf8(charset, buffer_slice(&decoded), text);
    buffer_free(&decoded);
    return 0;
}

/* 0: no text part, 1: plain, 2: HTML. */
static int kind_of(const struct mime_part *part)
{
    const struct mime_part_data *d = part->data;

    if (part->children != NULL || (part->flags & (MIME_PART_MULTIPART | MIME_PART_MESSAGE)) != 0)
        return 0;
    if (d->type.at == NULL)
        return 1;
    if (slice_equal_str_nocase(d->type, "application") && slice_equal_str_nocase(d->subtype, "xhtml+xml"))
        return 2;
    if (!slice_equal_str_nocase(d->type, "text"))
        return 0;
    return slice_equal_str_nocase(d->subtype, "html") ? 2 : 1;
}

int mime_preview(struct arena *arena, const struct mime_source *source, struct mime_part *root, struct buffer *out,
                 struct error *e)
{
    struct sink sink = {.line_start = true};
    struct buffer text = {0};
    int result = 0;

    (void)arena;
    for (struct mime_part *part = root; part != NULL && sink.chars == 0; part = mime_part_following(root, part)) {
        int kind = kind_of(part);
        if (kind == 0 || mime_encoding_of(part->data->encoding) == MIME_ENCODING_UNKNOWN)
            continue;
        buffer_reset(&text);
        if (read_part(source, part, &text, e) < 0) {
            result = -1;
            break;
        }
        sink.line_start = true;
        if (kind == 2)
            take_html(&sink, buffer_slice(&text));
        else
            take_plain(&sink, buffer_slice(&text));
        if (sink.chars == 0 && sink.quoted_chars > 0)
            break;
    }
    if (result == 0 && sink.chars > 0) {
        buffer_append_slice(out, buffer_slice(&sink.text));
    } else if (result == 0 && sink.quoted_chars > 0) {
        buffer_append_byte(out, '>');
        buffer_append_slice(out, buffer_slice(&sink.quoted));
    }
    buffer_free(&sink.text);
    buffer_free(&sink.quoted);
    buffer_free(&text);
    return result;
}
