/* Tokens of structured header values: atoms, quoted strings, comments, phrases, domains (RFC 5322 section 3.2), and
 * tokens of RFC 2045.
 *
 * Lenient where the real server is: dots anywhere in a local part, white space before dots, 8-bit bytes in atoms.
 * Line breaks inside quoted strings and comments vanish, NUL becomes U+FFFD there and ends an atom elsewhere.
 * Comments nest by a counter, so depth costs nothing. */
#include "mime/mime_internal.h"

#define A MIME_QUOTED | MIME_ATOM
#define T MIME_QUOTED | MIME_TOKEN
#define AT A | MIME_TOKEN
#define Q MIME_QUOTED

/* Alike in a row; 0: controls, '"', '\\', DEL, and what is not ASCII, which is in no kind but counts as atext and as part of a token. */
const unsigned char mime_kinds[256] = {
    [' '] = Q | MIME_BLANK, ['!'] = AT, ['#' ... '\''] = AT, ['('] = Q, [')'] = Q, ['*'] = AT, ['+'] = AT, [','] = Q, ['-'] = AT,
    ['.'] = T | MIME_DOT, ['/'] = A, ['0' ... '9'] = AT, [':'] = Q, [';'] = Q, ['<'] = Q, ['='] = A, ['>'] = Q, ['?'] = A, ['@'] = Q,
    ['A' ... 'Z'] = AT, ['['] = Q, [']'] = Q, ['^'] = AT, ['_'] = AT, ['`'] = AT, ['a' ... 'z'] = AT, ['{' ... '~'] = AT,
};

static bool is_token_char(unsigned char c)
{
    return c >= 0x80 || (mime_kinds[c] & MIME_TOKEN) != 0;
}

/* Text between delimiters: copies up to `stop`, NUL as U+FFFD, without line breaks; false if the end came first. An
 * escape takes its backslash away unless a line break or NUL follows it. `parens`: a comment, where they nest. What
 * was read before an escape, NUL or line break stays in `out` even if the end comes first, as in the real server. */
static bool take_delimited(struct mime_lex *l, struct buffer *out, unsigned char stop, bool parens)
{
    unsigned depth = 1;
    size_t sure = out == NULL ? 0 : out->size;

    while (l->at < l->end) {
        unsigned char c = *l->at++;
        if (c == '\\' && out != NULL && l->at < l->end)
            sure = out->size;
        if (c == '\\' && l->at < l->end && *l->at != '\r' && *l->at != '\n' && *l->at != '\0') {
            if (out != NULL)
                buffer_append_byte(out, *l->at);
            l->at++;
            continue;
        }
        if (c == stop && --depth == 0)
            return true;
        if (parens && c == '(')
            depth++;
        if (out == NULL)
            continue;
        if (c == '\0') {
            buffer_append_str(out, MIME_REPLACEMENT);
            sure = out->size;
        } else if (c == '\n') {
            while (out->size > sure && out->at[out->size - 1] == '\r')
                out->size--;
            sure = out->size;
        } else {
            buffer_append_byte(out, c);
        }
    }
    if (out != NULL)
        out->size = sure;
    return false;
}

int mime_lex_space(struct mime_lex *l)
{
    while (l->at < l->end) {
        switch (*l->at) {
        case ' ': case '\t': case '\r': case '\n':
            l->at++;
            break;
        case '(':
            l->at++;
            if (l->comment != NULL)
                buffer_reset(l->comment);
            if (!take_delimited(l, l->comment, ')', true))
                return -1;
            break;
        default:
            return 1;
        }
    }
    return 0;
}

int mime_lex_atom(struct mime_lex *l, struct buffer *out)
{
    const unsigned char *begin = l->at;
    while (l->at < l->end && mime_is_atext(*l->at))
        l->at++;
    if (l->at == begin)
        return l->at == l->end ? 0 : -1;
    buffer_append(out, begin, (size_t)(l->at - begin));
    return mime_lex_space(l);
}

int mime_lex_local(struct mime_lex *l, struct buffer *out)
{
    bool any = false;
    for (;;) {
        const unsigned char *begin = l->at;
        while (l->at < l->end && (mime_is_atext(*l->at) || *l->at == '.'))
            l->at++;
        buffer_append(out, begin, (size_t)(l->at - begin));
        if (l->at > begin)
            any = true;
        if (!any)
            return l->at == l->end ? 0 : -1;
        if (l->at > begin && l->at[-1] == '.')             /* only '@' may follow a dot at the end */
            return l->at == l->end ? 0 : *l->at == '@' ? 1 : -1;
        int more = mime_lex_space(l);
        if (more <= 0 || *l->at != '.')
            return more;
    }
}

int mime_lex_quoted(struct mime_lex *l, struct buffer *out)
{
    l->at++;                               /* the quote */
    if (!take_delimited(l, out, '"', false))
        return -1;
    return mime_lex_space(l);
}

int mime_lex_phrase(struct mime_lex *l, struct buffer *out)
{
    if (l->at == l->end)
        return 0;
    if (*l->at == '.')
        return -1;
    for (;;) {
        int more;
        if (*l->at == '"') {
            more = mime_lex_quoted(l, out);
        } else {
            const unsigned char *begin = l->at;
            while (l->at < l->end && (mime_is_atext(*l->at) || *l->at == '.'))
                l->at++;
            buffer_append(out, begin, (size_t)(l->at - begin));
            more = mime_lex_space(l);
        }
        if (more <= 0)
            return more;
        if (!mime_is_atext(*l->at) && *l->at != '"' && *l->at != '.')
            return 1;
        buffer_append_byte(out, ' ');
    }
}

static int take_literal(struct mime_lex *l, struct buffer *out)
{
    const unsigned char *begin = l->at++;
    for (; l->at < l->end; l->at++) {
        if (*l->at == '[')
            return -1;
        if (*l->at == '\\' && l->at + 1 < l->end) {
            l->at++;
        } else if (*l->at == ']') {
            l->at++;
            for (const unsigned char *p = begin; p < l->at; p++) {
                if (*p == '\0')
                    buffer_append_str(out, MIME_REPLACEMENT);
                else if (*p != '\n' && !(*p == '\r' && p + 1 < l->at && p[1] == '\n'))
                    buffer_append_byte(out, *p);
            }
            return mime_lex_space(l);
        }
    }
    return -1;
}

int mime_lex_domain(struct mime_lex *l, struct buffer *out)
{
    l->at++;                               /* the '@' */
    int more = mime_lex_space(l);
    if (more <= 0)
        return -1;
    if (*l->at == '[')
        return take_literal(l, out);
    for (;;) {
        const unsigned char *begin = l->at;
        while (l->at < l->end && mime_is_atext(*l->at))
            l->at++;
        if (l->at == begin)
            return -1;
        buffer_append(out, begin, (size_t)(l->at - begin));
        more = mime_lex_space(l);
        if (more <= 0 || *l->at != '.')
            return more;
        buffer_append_byte(out, '.');
        l->at++;
        more = mime_lex_space(l);
        if (more <= 0)
            return -1;
    }
}

int mime_lex_token(struct mime_lex *l, struct buffer *out)
{
    const unsigned char *begin = l->at;
    while (l->at < l->end && is_token_char(*l->at))
        l->at++;
    buffer_append(out, begin, (size_t)(l->at - begin));
    return mime_lex_space(l);
}

void mime_put_no_nuls(struct buffer *out, struct slice s)
{
    while (s.size > 0) {
        const unsigned char *nul = memchr(s.at, '\0', s.size);
        size_t n = nul == NULL ? s.size : (size_t)(nul - s.at);
        buffer_append(out, s.at, n);
        if (nul == NULL)
            return;
        buffer_append_str(out, MIME_REPLACEMENT);
        s = slice_from(s, n + 1);
    }
}

struct slice mime_keep(struct arena *arena, struct slice s)
{
    return s.size == 0 ? slice_of("", 0) : arena_slice(arena, s);
}

struct slice mime_no_nuls(struct arena *arena, struct slice s)
{
    if (s.size == 0 || memchr(s.at, '\0', s.size) == NULL)
        return mime_keep(arena, s);
    struct buffer b = {0};
    mime_put_no_nuls(&b, s);
    struct slice kept = mime_keep(arena, buffer_slice(&b));
    buffer_free(&b);
    return kept;
}

int mime_hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
