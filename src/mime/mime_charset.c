/* Charsets to UTF-8 by iconv, and the case- and accent-folding of searches (i;unicode-casemap, RFC 5051, imap 11.2).
 *
 * UTF-8 itself is checked, not converted. Bytes that are not valid become U+FFFD, one for a run of them, so that
 * what comes out is always UTF-8. A sequence that is cut by the end of a chunk is kept for the next one. */
#include <errno.h>
#include <iconv.h>

#include <unicode/uchar.h>
#include <unicode/unorm2.h>

#include "base/text.h"
#include "mime/mime_internal.h"

#define HOLD_SIZE 32
#define CHARSET_NAME_MAX 64
#define LEAD_MOST 6 /* bytes of a character, as its first byte says */

struct mime_charset {
    iconv_t conv;              /* (iconv_t)-1: UTF-8 */
    unsigned char hold[HOLD_SIZE];
    size_t held;
    bool broken, bad_before;
};

/* One process-wide text: whoever works for a user sets what holds for him (mime.h). */
static const char *aliases;

void mime_charset_aliases(const char *text)
{
    aliases = text;
}

static struct slice real_name(struct slice name)
{
    struct slice rest = slice_from_str(aliases == NULL ? "" : aliases), word;

    if (name.at == NULL)
        name = SLICE("UTF-8");
    while (rest.size > 0 && slice_split(&rest, ' ', &word)) {
        ptrdiff_t equals = slice_find(word, '=');

        if (equals > 0 && (size_t)equals + 1 < word.size && slice_equal_nocase(slice_head(word, (size_t)equals), name))
            return slice_from(word, (size_t)equals + 1);
    }
    return name;
}

bool mime_name_is_utf8(struct slice name)
{
    return name.at == NULL || slice_equal_str_nocase(name, "utf-8") || slice_equal_str_nocase(name, "utf8") ||
           slice_equal_str_nocase(name, "us-ascii") || slice_equal_str_nocase(name, "ascii");
}

/* The name as the C library's iconv reads it, and so Dovecot: of other characters than these it takes no notice ("UT\\F-8", "UTF 8"),
 * what stands behind "//" is an instruction, which is left out here ("//IGNORE"). Separators at the end are dropped first: "UTF-8, " is a
 * charset, "UTF-8,$" is none. Without any letter it is the locale's charset. False: it is none. */
static bool plain_name(struct slice name, char text[CHARSET_NAME_MAX])
{
    size_t n = 0, slashes = 0;

    while (name.size > 0 && strchr(" \t\r\n\v\f,/", name.at[name.size - 1]) != NULL && name.at[name.size - 1] != '\0')
        name.size--;
    for (size_t i = 0; i < name.size && slashes < 2; i++) {
        unsigned char c = name.at[i];
        bool taken = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c != '\0' && strchr("_-.,:", c) != NULL);

        slashes += c == '/';
        if (!taken)
            continue;
        if (slashes > 0 || n + 1 == CHARSET_NAME_MAX)
            return false;
        text[n++] = (char)c;
    }
    text[n] = '\0';
    return n == 0 || text[n - 1] != ',';
}

static iconv_t open_conv(struct slice name)
{
    char text[CHARSET_NAME_MAX];

    if (!plain_name(name, text))
        return (iconv_t)-1;
    return iconv_open("UTF-8", *text == '\0' ? "ASCII" : text);
}

bool mime_charset_known(struct slice name)
{
    name = real_name(name);
    if (mime_name_is_utf8(name))
        return true;
    iconv_t conv = open_conv(name);
    if (conv == (iconv_t)-1)
        return false;
    iconv_close(conv);
    return true;
}

struct mime_charset *mime_utf8_open(void)
{
    struct mime_charset *c = mem_zero(1, sizeof(*c));
    c->conv = (iconv_t)-1;
    return c;
}

struct mime_charset *mime_charset_open(struct slice name)
{
    iconv_t conv = (iconv_t)-1;

    name = real_name(name);
    if (!mime_name_is_utf8(name)) {
        conv = open_conv(name);
        if (conv == (iconv_t)-1)
            return NULL;
    }
    struct mime_charset *c = mime_utf8_open();
    c->conv = conv;
    return c;
}

struct mime_charset *mime_charset_open_body(struct slice name)
{
    struct mime_charset *c = mime_charset_open(name);

    if (c == NULL)
        c = mime_charset_open(SLICE_EMPTY);
    return c != NULL ? c : mime_utf8_open();
}

static void put_bad(struct mime_charset *c, struct buffer *out)
{
    if (!c->bad_before)
        buffer_append_str(out, MIME_REPLACEMENT);
    c->bad_before = c->broken = true;
}

/* How long a character is that begins with this byte. */
static size_t lead_length(unsigned char lead)
{
    return lead < 0xc2 || lead >= 0xfe ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf8 ? 4 : lead < 0xfc ? 5 : 6;
}

/* A place near the end where a character begins, whatever stands before it: no lead takes more than five bytes with it, so that is
 * behind five bytes of ASCII. */
static size_t sure_start(struct slice s)
{
    size_t i = s.size, ascii = 0;

    for (; i > 0 && ascii < LEAD_MOST - 1; i--)
        ascii = s.at[i - 1] < 0x80 ? ascii + 1 : 0;
    return ascii < LEAD_MOST - 1 ? 0 : i + ascii;
}

/* Where the last character begins if the text ends inside it, whether it would be valid or not; else the end. */
static size_t cut_end(struct slice s)
{
    for (size_t i = sure_start(s); i < s.size;) {
        size_t n = lead_length(s.at[i]);

        if (n > s.size - i)
            return i;
        i += n;
    }
    return s.size;
}

/* Length of the valid character at the front; 0: it is not valid; -1: cut off. */
static int utf8_length(const unsigned char *p, size_t size)
{
    static const unsigned char least[] = {0, 0, 0x80, 0xa0, 0x90};
    int n = p[0] < 0x80 ? 1
            : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
            : (p[0] & 0xf0) == 0xe0 ? 3
            : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

    for (int i = 1; i < n; i++) {
        if ((size_t)i >= size)
            return -1;
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        if (i == 1 && ((p[0] == 0xe0 && p[1] < least[3]) || (p[0] == 0xed && p[1] >= 0xa0) ||
                       (p[0] == 0xf0 && p[1] < least[4]) || (p[0] == 0xf4 && p[1] >= 0x90)))
            return 0;
    }
    return n;
}

/* Copies what is valid. */
static void copy_utf8(struct mime_charset *c, struct slice in, struct buffer *out)
{
    size_t i = 0, from = 0;

    while (i < in.size) {
        if (in.at[i] < 0x80) {
            i += text_ascii_length(slice_from(in, i));
            continue;
        }
        int n = utf8_length(in.at + i, in.size - i);
        if (n > 0) {
            i += (size_t)n;
            continue;
        }
        if (i > from) {
            buffer_append(out, in.at + from, i - from);
            c->bad_before = false;
        }
        put_bad(c, out);
        from = ++i;
    }
    if (i > from) {
        buffer_append(out, in.at + from, i - from);
        c->bad_before = false;
    }
}

/* Returns how much was consumed: less than all when the end is cut off. */
static size_t check_utf8(struct mime_charset *c, struct slice in, struct buffer *out)
{
    size_t whole = cut_end(in);

    copy_utf8(c, slice_head(in, whole), out);
    return whole;
}

static size_t convert(struct mime_charset *c, struct slice in, struct buffer *out)
{
    char *at = (char *)(uintptr_t)in.at;
    size_t left = in.size;

    while (left > 0) {
        buffer_reserve(out, left * 2 + 64);
        char *to = (char *)out->at + out->size;
        size_t room = out->room - out->size, before = out->size;
        size_t got = iconv(c->conv, &at, &left, &to, &room);
        int err = errno;
        out->size = (size_t)((unsigned char *)to - out->at);
        if (out->size > before)
            c->bad_before = false;
        if (got != (size_t)-1)
            break;
        if (err == EINVAL)
            break;
        if (err == EILSEQ) {
            put_bad(c, out);
            at++;
            left--;
        }
    }
    return in.size - left;
}

void mime_charset_feed(struct mime_charset *c, struct slice in, struct buffer *out)
{
    /* First the character that was cut: byte by byte until it is whole. */
    while (c->held > 0 && in.size > 0) {
        c->hold[c->held++] = in.at[0];
        in = slice_from(in, 1);
        struct slice held = slice_of(c->hold, c->held);
        size_t used = c->conv == (iconv_t)-1 ? check_utf8(c, held, out) : convert(c, held, out);
        if (used == 0 && c->held == HOLD_SIZE) {
            put_bad(c, out);
            used = c->held;
        }
        memmove(c->hold, c->hold + used, c->held - used);
        c->held -= used;
    }
    if (in.size == 0)
        return;
    size_t used = c->conv == (iconv_t)-1 ? check_utf8(c, in, out) : convert(c, in, out);
    struct slice rest = slice_from(in, used);
    if (rest.size > HOLD_SIZE / 2) {       /* no charset has characters that long */
        put_bad(c, out);
        return;
    }
    if (rest.size > 0)
        memcpy(c->hold, rest.at, rest.size);
    c->held = rest.size;
}

bool mime_charset_close(struct mime_charset *c, struct buffer *out)
{
    if (c->held > 0 && c->conv == (iconv_t)-1) {
        c->broken = true;
        copy_utf8(c, slice_of(c->hold, c->held), out);
    } else if (c->held > 0) {
        put_bad(c, out);
    }
    bool good = !c->broken;
    if (c->conv != (iconv_t)-1) {
        /* Some converters keep a character until they know that nothing combines with it. */
        buffer_reserve(out, 64);
        char *to = (char *)out->at + out->size;
        size_t room = out->room - out->size;
        (void)iconv(c->conv, NULL, NULL, &to, &room);
        out->size = (size_t)((unsigned char *)to - out->at);
        iconv_close(c->conv);
    }
    mem_free(c);
    return good;
}

void mime_charset_close_body(struct mime_charset *c, struct buffer *out)
{
    c->held = 0;
    (void)mime_charset_close(c, out);
}

bool mime_charset_to_utf8(struct slice name, struct slice text, struct buffer *out)
{
    struct mime_charset *c = mime_charset_open(name);
    if (c == NULL)
        return false;
    mime_charset_feed(c, text, out);
    return mime_charset_close(c, out);
}

/* ---- decomposed title case ---------------------------------------------------------------------------------- */

static void fold(struct buffer *out, UChar32 c)
{
    UErrorCode status = U_ZERO_ERROR;
    const UNormalizer2 *nfkd = unorm2_getNFKDInstance(&status);
    UChar text[32];

    c = u_totitle(c);
    if (U_SUCCESS(status)) {
        int32_t n = unorm2_getDecomposition(nfkd, c, text, 32, &status);
        if (n > 0 && U_SUCCESS(status)) {
            for (int32_t i = 0; i < n;) {
                UChar32 part;
                U16_NEXT(text, i, n, part);
                text_utf8_put(out, (uint32_t)part);
            }
            return;
        }
    }
    text_utf8_put(out, (uint32_t)c);
}

/* Folded characters are remembered: a mail uses few, and asking ICU for each costs more than all the rest. */
static void put_folded(struct buffer *out, UChar32 c)
{
    static struct folded {
        UChar32 c;                 /* 0: free */
        unsigned char size, utf8[11];
    } known[512];
    struct folded *slot = &known[(size_t)c % (sizeof(known) / sizeof(known[0]))];
    size_t from = out->size;

    if (slot->c == c) {
        buffer_append(out, slot->utf8, slot->size);
        return;
    }
    fold(out, c);
    if (out->size - from > sizeof(slot->utf8))
        return;
    slot->c = c;
    slot->size = (unsigned char)(out->size - from);
    memcpy(slot->utf8, out->at + from, slot->size);
}

void mime_normalise(struct buffer *out, struct slice s)
{
    size_t i = 0;

    buffer_reserve(out, s.size);
    while (i < s.size) {
        unsigned char c = s.at[i];
        if (c < 0x80) {
            size_t n = text_ascii_length(slice_from(s, i));
            buffer_append(out, s.at + i, n);
            text_upper_ascii(out->at + out->size - n, n);
            i += n;
            continue;
        }
        int n = utf8_length(s.at + i, s.size - i);
        if (n <= 0) {
            buffer_append_str(out, MIME_REPLACEMENT);
            i++;
            while (i < s.size && s.at[i] >= 0x80 && utf8_length(s.at + i, s.size - i) <= 0)
                i++;
            continue;
        }
        UChar32 v = n == 2 ? c & 0x1f : n == 3 ? c & 0x0f : c & 0x07;
        for (int k = 1; k < n; k++)
            v = v << 6 | (s.at[i + (size_t)k] & 0x3f);
        put_folded(out, v);
        i += (size_t)n;
    }
}
