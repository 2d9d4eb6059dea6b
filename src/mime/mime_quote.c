/* How IMAP writes strings: NIL, quoted, literal (imap 4.4). */
#include "base/text.h"
#include "mime/mime_internal.h"

#define ESCAPES_IN_QUOTED 4

static void put_literal(struct buffer *out, struct slice s)
{
    buffer_printf(out, "{%zu}\r\n", s.size);
    buffer_append_slice(out, s);
}

static void put_between_quotes(struct buffer *out, struct slice s)
{
    buffer_reserve(out, s.size + 2);
    out->at[out->size++] = '"';
    buffer_append_slice(out, s);
    out->at[out->size++] = '"';
}

void mime_put_nstring(struct buffer *out, struct slice s)
{
    /* What keeps a character from standing in a quoted string as it is. */
    enum { ESCAPED = 1, LITERAL = 2 };
    static const unsigned char kind[256] = {['\0'] = LITERAL, ['\r'] = LITERAL, ['\n'] = LITERAL, ['"'] = ESCAPED,
                                            ['\\'] = ESCAPED, [0x80 ... 0xff] = LITERAL};
    unsigned met = 0, escapes = 0;

    if (s.at == NULL) {
        buffer_append_str(out, "NIL");
        return;
    }
    if (text_is_plain(s, false)) {
        put_between_quotes(out, s);
        return;
    }
    for (size_t i = 0; i < s.size; i++)
        met |= kind[s.at[i]];
    if (met == 0) {
        put_between_quotes(out, s);
        return;
    }
    for (size_t i = 0; met == ESCAPED && i < s.size; i++)
        escapes += kind[s.at[i]];
    if ((met & LITERAL) != 0 || escapes > ESCAPES_IN_QUOTED) {
        put_literal(out, s);
        return;
    }
    text_quoted(out, s);
}

static bool is_break(unsigned char c)
{
    return c == '\r' || c == '\n';
}

void mime_put_nstring_nolf(struct buffer *out, struct slice s)
{
    size_t i = 0;

    if (text_is_plain(s, false)) {
        put_between_quotes(out, s);
        return;
    }
    while (i < s.size && !is_break(s.at[i]))
        i++;
    if (i == s.size) {
        mime_put_nstring(out, s);
        return;
    }
    struct buffer b = {0};
    buffer_append(&b, s.at, i);
    while (i < s.size) {
        if (!is_break(s.at[i])) {
            buffer_append_byte(&b, s.at[i++]);
            continue;
        }
        while (i < s.size && is_break(s.at[i]))
            i++;
        if (i < s.size && s.at[i] != ' ' && s.at[i] != '\t')
            buffer_append_byte(&b, ' ');
    }
    mime_put_nstring(out, b.size == 0 ? slice_of("", 0) : buffer_slice(&b));
    buffer_free(&b);
}

void mime_put_humans(struct buffer *out, struct slice s)
{
    bool literal = false, space = false;
    struct buffer b = {0};

    if (s.at == NULL) {
        buffer_append_str(out, "NIL");
        return;
    }
    if (text_is_plain(s, true)) {
        put_between_quotes(out, s);
        return;
    }
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = s.at[i];
        if (c == ' ' || c == '\t' || is_break(c)) {
            if (space || b.size == 0 || c != ' ')
                literal = true;
            space = true;
            continue;
        }
        if (space && b.size > 0)
            buffer_append_byte(&b, ' ');
        space = false;
        if (c == '"' || c == '\\' || c >= 0x80)
            literal = true;
        if (c == '\0') {
            literal = true;
            c = 0x80;
        }
        buffer_append_byte(&b, c);
    }
    if (b.size == 0) {
        buffer_append_str(out, "\"\"");
    } else if (literal || space) {
        put_literal(out, buffer_slice(&b));
    } else {
        put_between_quotes(out, buffer_slice(&b));
    }
    buffer_free(&b);
}

void mime_put_astring(struct buffer *out, struct slice s)
{
    bool atom = s.size > 0 && !slice_equal_str_nocase(s, "NIL");

    for (size_t i = 0; i < s.size && atom; i++) {
        unsigned char c = s.at[i];
        atom = c > ' ' && c < 0x7f && strchr("%*\\\"(){", c) == NULL;
    }
    if (atom)
        buffer_append_slice(out, s);
    else
        mime_put_nstring(out, s.at == NULL ? slice_of("", 0) : s);
}
