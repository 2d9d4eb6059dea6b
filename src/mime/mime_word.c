/* Encoded-words (RFC 2047 section 2, 6): header text to UTF-8.
 *
 * White space between two encoded-words vanishes, line breaks vanish everywhere. Adjacent words of one charset are
 * decoded together, since a multi-byte character may be split between them. A malformed word stays as it is; one of
 * an unknown charset is taken for UTF-8. What is not valid becomes U+FFFD, NUL outside of words too. */
#include "mime/mime_internal.h"

#define CHARSET_MAX 64

struct word {
    struct slice charset, text;
    bool base64;
    size_t size;               /* of the whole word */
};

/* An encoded-word at the front: "=?charset?B|Q?text?=". As in the real server, "charset*language" (RFC 2231 section 5) is a charset
 * that nobody knows. Looks no further than the fourth question mark, so that
 * a line of a hundred thousand "=?" stays linear. */
static bool parse_word(struct slice s, struct word *w)
{
    if (!slice_starts(s, SLICE("=?")))
        return false;
    struct slice rest = slice_from(s, 2);
    ptrdiff_t mark = slice_find(rest, '?');
    if (mark < 0 || mark > CHARSET_MAX || (size_t)mark + 3 > rest.size || rest.at[mark + 2] != '?')
        return false;
    w->charset = slice_head(rest, (size_t)mark);
    unsigned char method = rest.at[mark + 1] | 0x20;
    if (method != 'b' && method != 'q')
        return false;
    w->base64 = method == 'b';
    rest = slice_from(rest, (size_t)mark + 3);
    ptrdiff_t end = slice_find(rest, '?');
    if (end < 0 || (size_t)end + 1 >= rest.size || rest.at[end + 1] != '=')
        return false;
    w->text = slice_head(rest, (size_t)end);
    w->size = (size_t)(rest.at + end + 2 - s.at);
    return true;
}

static void decode_q(struct slice s, struct buffer *out)
{
    for (size_t i = 0; i < s.size; i++) {
        int high, low;
        if (s.at[i] == '\n' || (s.at[i] == '\r' && i + 1 < s.size && s.at[i + 1] == '\n'))
            continue;
        if (s.at[i] == '_') {
            buffer_append_byte(out, ' ');
        } else if (s.at[i] == '=' && i + 2 < s.size && (high = mime_hex_digit(s.at[i + 1])) >= 0 &&
                   (low = mime_hex_digit(s.at[i + 2])) >= 0) {
            buffer_append_byte(out, (unsigned char)(high << 4 | low));
            i += 2;
        } else {
            buffer_append_byte(out, s.at[i]);
        }
    }
}

static void decode_text(const struct word *w, struct buffer *out)
{
    if (!w->base64) {
        decode_q(w->text, out);
        return;
    }
    struct mime_decoder d;
    mime_decoder_init(&d, MIME_ENCODING_BASE64);
    mime_decoder_feed(&d, w->text, out);
    mime_decoder_finish(&d, out);
}

static size_t skip_space(struct slice s)
{
    size_t i = 0;
    while (i < s.size && (s.at[i] == ' ' || s.at[i] == '\t' || s.at[i] == '\r' || s.at[i] == '\n'))
        i++;
    return i;
}

/* Plain text between words: without line breaks, checked. */
static void put_plain(struct buffer *out, struct slice s)
{
    struct mime_charset *utf8 = mime_utf8_open();

    while (s.size > 0) {
        struct slice line;

        (void)mime_line_next(&s, &line);
        for (ptrdiff_t nul; (nul = slice_find(line, '\0')) >= 0; line = slice_from(line, (size_t)nul + 1)) {
            mime_charset_feed(utf8, slice_head(line, (size_t)nul), out);
            buffer_append_str(out, MIME_REPLACEMENT);
        }
        mime_charset_feed(utf8, line, out);
    }
    (void)mime_charset_close(utf8, out);
}

/* Where the next "=?" begins, or the end. */
static size_t find_mark(struct slice s, size_t from)
{
    while (from < s.size) {
        const unsigned char *p = memchr(s.at + from, '=', s.size - from);
        if (p == NULL || p + 1 == s.at + s.size)
            break;
        from = (size_t)(p - s.at);
        if (p[1] == '?')
            return from;
        from++;
    }
    return s.size;
}

/* False: of an unknown charset, taken for UTF-8. */
static bool put_word(struct buffer *out, struct slice charset, struct slice bytes)
{
    struct mime_charset *c = mime_name_is_utf8(charset) ? mime_utf8_open() : mime_charset_open(charset);
    bool known = c != NULL;
    size_t from = out->size;

    if (c == NULL)
        c = mime_utf8_open();
    mime_charset_feed(c, bytes, out);
    (void)mime_charset_close(c, out);
    for (unsigned char *nul; (nul = out->size == from ? NULL : memchr(out->at + from, '\0', out->size - from)) != NULL;)
        *nul = ' ';
    return known;
}

struct folding {
    struct buffer *out;
    struct buffer piece;       /* what is not folded yet */
    bool fold;
};

static struct buffer *begin_piece(struct folding *f)
{
    buffer_reset(&f->piece);
    return f->fold ? &f->piece : f->out;
}

static void end_piece(struct folding *f, bool known)
{
    if (f->fold && known)
        mime_normalise(f->out, buffer_slice(&f->piece));
    else if (f->fold)
        buffer_append_slice(f->out, buffer_slice(&f->piece));
}

static void decode(struct folding *f, struct slice s)
{
    struct buffer bytes = {0};
    size_t from = 0;
    struct word w;

    while (s.size > 0) {
        from = find_mark(s, from);
        if (from == s.size)
            break;
        if (!parse_word(slice_from(s, from), &w)) {
            from++;
            continue;
        }
        put_plain(begin_piece(f), slice_head(s, from));
        end_piece(f, true);
        buffer_reset(&bytes);
        for (;;) {
            struct slice charset = w.charset;
            decode_text(&w, &bytes);
            s = slice_from(s, from + w.size);
            from = skip_space(s);
            bool more = parse_word(slice_from(s, from), &w);
            if (!more || !slice_equal_nocase(charset, w.charset)) {
                end_piece(f, put_word(begin_piece(f), charset, buffer_slice(&bytes)));
                buffer_reset(&bytes);
            }
            if (!more)
                break;
        }
        from = 0;
    }
    put_plain(begin_piece(f), s);
    end_piece(f, true);
    buffer_free(&bytes);
    buffer_free(&f->piece);
}

void mime_words_decode(struct buffer *out, struct slice s)
{
    decode(&(struct folding){.out = out}, s);
}

void mime_words_fold(struct buffer *out, struct slice s)
{
    decode(&(struct folding){.out = out, .fold = true}, s);
}
