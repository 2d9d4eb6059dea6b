/* text.c - TAB escapes, base64, hex, UTF-8, ASCII case.
 *
 * The escaping pair is the only one in the house (ipc "Notation"): every field that crosses a process boundary goes
 * through it. Decoders write nothing that they would have to take back: a failed call leaves *out as it was. */
#include "base/text.h"

static char escape_letter(unsigned char c)
{
    switch (c) {
    case '\0':
        return '0';
    case '\001':
        return '1';
    case '\t':
        return 't';
    case '\r':
        return 'r';
    case '\n':
        return 'n';
    default:
        return '\0';
    }
}

void text_tab_escape(struct buffer *out, struct slice s)
{
    size_t from = 0;

    for (size_t i = 0; i < s.size; i++) {
        char letter = escape_letter(s.at[i]);

        if (letter == '\0')
            continue;
        buffer_append(out, s.at + from, i - from);
        buffer_append_byte(out, '\001');
        buffer_append_byte(out, (unsigned char)letter);
        from = i + 1;
    }
    if (from < s.size)
        buffer_append(out, s.at + from, s.size - from);
}

char *text_tab_escaped(struct arena *arena, struct slice s)
{
    size_t size = s.size;
    char *text, *p;

    for (size_t i = 0; i < s.size; i++)
        size += escape_letter(s.at[i]) != '\0';
    text = p = arena_alloc(arena, size + 1);
    for (size_t i = 0; i < s.size; i++) {
        char letter = escape_letter(s.at[i]);

        if (letter != '\0') {
            *p++ = '\001';
            *p++ = letter;
        } else {
            *p++ = (char)s.at[i];
        }
    }
    return text;
}

static unsigned char unescape_letter(unsigned char c)
{
    switch (c) {
    case '0':
        return '\0';
    case '1':
        return '\001';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'n':
        return '\n';
    default:
        return c;
    }
}

struct slice text_tab_unescape(struct arena *arena, struct slice s)
{
    unsigned char *copy, *p;

    if (slice_find(s, '\001') < 0)
        return arena_slice(arena, s);
    copy = p = arena_alloc(arena, s.size + 1);
    for (size_t i = 0; i < s.size; i++) {
        if (s.at[i] != '\001')
            *p++ = s.at[i];
        else if (++i < s.size)
            *p++ = unescape_letter(s.at[i]);
    }
    return slice_of(copy, (size_t)(p - copy));
}

size_t text_tab_fields(struct arena *arena, struct slice line, struct slice **fields)
{
    size_t count = 1, n = 0;
    struct slice part, rest = line;

    for (size_t i = 0; i < line.size; i++)
        count += line.at[i] == '\t';
    *fields = ARENA_ARRAY(arena, struct slice, count);
    if (line.at == NULL)
        rest = SLICE("");
    while (n < count && slice_split(&rest, '\t', &part))
        (*fields)[n++] = text_tab_unescape(arena, part);
    return n;
}

void text_quoted(struct buffer *out, struct slice s)
{
    size_t from = 0;

    buffer_append_byte(out, '"');
    for (size_t i = 0; i < s.size; i++) {
        if (s.at[i] != '"' && s.at[i] != '\\')
            continue;
        buffer_append(out, s.at + from, i - from);
        buffer_append_byte(out, '\\');
        from = i;
    }
    if (from < s.size)
        buffer_append(out, s.at + from, s.size - from);
    buffer_append_byte(out, '"');
}

static const char base64_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const unsigned char text_base64_values[256] = {
    ['A'] = 1, ['B'] = 2, ['C'] = 3, ['D'] = 4, ['E'] = 5, ['F'] = 6, ['G'] = 7, ['H'] = 8,
    ['I'] = 9, ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};

void text_base64_encode(struct buffer *out, struct slice s)
{
    size_t i;

    for (i = 0; i + 2 < s.size; i += 3) {
        uint32_t v = (uint32_t)s.at[i] << 16 | (uint32_t)s.at[i + 1] << 8 | s.at[i + 2];
        char four[4] = {base64_letters[v >> 18], base64_letters[v >> 12 & 63], base64_letters[v >> 6 & 63],
                        base64_letters[v & 63]};

        buffer_append(out, four, 4);
    }
    if (i < s.size) {
        bool two = i + 1 < s.size;
        uint32_t v = (uint32_t)s.at[i] << 16 | (two ? (uint32_t)s.at[i + 1] << 8 : 0);
        char four[4] = {base64_letters[v >> 18], base64_letters[v >> 12 & 63], two ? base64_letters[v >> 6 & 63] : '=',
                        '='};

        buffer_append(out, four, 4);
    }
}

int text_base64_decode(struct buffer *out, struct slice s)
{
    size_t before = out->size, pad = 0;

    if (s.size % 4 != 0)
        return -1;
    while (pad < 2 && pad < s.size && s.at[s.size - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < s.size; i += 4) {
        size_t letters = i + 4 == s.size ? 4 - pad : 4;
        uint32_t v = 0;

        for (size_t k = 0; k < 4; k++) {
            int value = k < letters ? text_base64_value(s.at[i + k]) : 0;

            if (value < 0) {
                out->size = before;
                return -1;
            }
            v = v << 6 | (uint32_t)value;
        }
        unsigned char three[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v};
        buffer_append(out, three, letters - 1);
    }
    return 0;
}

void text_hex_encode(struct buffer *out, struct slice s)
{
    static const char digits[] = "0123456789abcdef";

    buffer_reserve(out, s.size * 2);
    for (size_t i = 0; i < s.size; i++) {
        out->at[out->size++] = (unsigned char)digits[s.at[i] >> 4];
        out->at[out->size++] = (unsigned char)digits[s.at[i] & 15];
    }
}

static int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int text_hex_decode(struct buffer *out, struct slice s)
{
    size_t before = out->size;

    if (s.size % 2 != 0)
        return -1;
    for (size_t i = 0; i < s.size; i += 2) {
        int high = hex_value(s.at[i]), low = hex_value(s.at[i + 1]);

        if (high < 0 || low < 0) {
            out->size = before;
            return -1;
        }
        buffer_append_byte(out, (unsigned char)(high << 4 | low));
    }
    return 0;
}

/* The table of RFC 3629 section 4: the first byte decides the length and the range of the second byte. */
int32_t text_utf8_next(struct slice *s)
{
    unsigned char c, low = 0x80, high = 0xBF;
    size_t more;
    int32_t value;

    if (s->size == 0)
        return -1;
    c = s->at[0];
    if (c < 0x80) {
        more = 0;
        value = c;
    } else if (c >= 0xC2 && c <= 0xDF) {
        more = 1;
        value = c & 0x1F;
    } else if (c >= 0xE0 && c <= 0xEF) {
        more = 2;
        value = c & 0x0F;
        low = c == 0xE0 ? 0xA0 : 0x80;
        high = c == 0xED ? 0x9F : 0xBF;
    } else if (c >= 0xF0 && c <= 0xF4) {
        more = 3;
        value = c & 0x07;
        low = c == 0xF0 ? 0x90 : 0x80;
        high = c == 0xF4 ? 0x8F : 0xBF;
    } else {
        more = 0;
        value = -1;
    }
    for (size_t i = 1; i <= more; i++) {
        if (i >= s->size || s->at[i] < low || s->at[i] > high) {
            more = 0;
            value = -1;
            break;
        }
        value = value << 6 | (s->at[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *s = slice_from(*s, more + 1);
    return value;
}

bool text_utf8_valid(struct slice s)
{
    while (s.size > 0)
        if (text_utf8_next(&s) < 0)
            return false;
    return true;
}

void text_utf8_put(struct buffer *out, uint32_t c)
{
    unsigned char bytes[4];
    size_t n = 0;

    if (c < 0x80) {
        bytes[n++] = (unsigned char)c;
    } else if (c < 0x800) {
        bytes[n++] = (unsigned char)(0xC0 | c >> 6);
        bytes[n++] = (unsigned char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        bytes[n++] = (unsigned char)(0xE0 | c >> 12);
        bytes[n++] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (c & 0x3F));
    } else {
        bytes[n++] = (unsigned char)(0xF0 | (c >> 18 & 0x07));
        bytes[n++] = (unsigned char)(0x80 | (c >> 12 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (c & 0x3F));
    }
    buffer_append(out, bytes, n);
}

char text_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

struct slice text_lowered(struct arena *arena, struct slice s)
{
    char *copy = arena_str(arena, s);

    for (size_t i = 0; i < s.size; i++)
        copy[i] = text_lower(copy[i]);
    return slice_of(copy, s.size);
}

static char json_letter(int32_t c)
{
    switch (c) {
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '"':
    case '\\':
        return (char)c;
    default:
        return '\0';
    }
}

void text_json_escape(struct buffer *out, struct slice s)
{
    while (s.size > 0) {
        const unsigned char *at = s.at;
        int32_t c = text_utf8_next(&s);
        char letter = json_letter(c);

        if (c < 0)
            buffer_append_str(out, "\xef\xbf\xbd");
        else if (letter != '\0')
            buffer_printf(out, "\\%c", letter);
        else if (c < 0x20 || c == 0x2028 || c == 0x2029)
            buffer_printf(out, "\\u%04x", (unsigned)c);
        else
            buffer_append(out, at, (size_t)(s.at - at));
    }
}
