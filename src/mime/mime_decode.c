/* Content-Transfer-Encoding, undone in a stream: base64, quoted-printable (RFC 2045 section 6). Others, uuencode too,
 * are unknown, as in the real server (BINARY: UNKNOWN-CTE).
 *
 * Lenient: what is not base64 ends it, a "=" that begins no escape stays, white space before a line end of
 * quoted-printable is dropped. `broken` tells that the input was not valid. */
#include "mime/mime_internal.h"

#include "base/text.h"

enum mime_encoding mime_encoding_of(struct slice s)
{
    s = slice_trim(s);
    if (s.size == 0 || slice_equal_str_nocase(s, "7bit") || slice_equal_str_nocase(s, "8bit") ||
        slice_equal_str_nocase(s, "binary"))
        return MIME_ENCODING_NONE;
    if (slice_equal_str_nocase(s, "quoted-printable"))
        return MIME_ENCODING_QP;
    if (slice_equal_str_nocase(s, "base64"))
        return MIME_ENCODING_BASE64;
    return MIME_ENCODING_UNKNOWN;
}

void mime_decoder_init(struct mime_decoder *d, enum mime_encoding encoding)
{
    *d = (struct mime_decoder){.encoding = encoding};
}

/* ---- base64: state counts the letters of the group, bits holds them ----------------------------------------- */

/* Whole groups of four letters, as long as nothing else comes: how many bytes were read. `out` has room. */
static size_t take_groups(struct slice in, struct buffer *out)
{
    unsigned char *to = out->at + out->size;
    size_t i = 0;

    for (; in.size - i >= 4; i += 4) {
        int a = text_base64_value(in.at[i]), b = text_base64_value(in.at[i + 1]), c = text_base64_value(in.at[i + 2]),
            e = text_base64_value(in.at[i + 3]);
        uint32_t bits;

        if ((a | b | c | e) < 0)
            break;
        bits = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | (uint32_t)e;
        *to++ = (unsigned char)(bits >> 16);
        *to++ = (unsigned char)(bits >> 8);
        *to++ = (unsigned char)bits;
    }
    out->size += i / 4 * 3;
    return i;
}

static void feed_base64(struct mime_decoder *d, struct slice in, struct buffer *out)
{
    buffer_reserve(out, in.size / 4 * 3 + 3);
    for (size_t i = 0; i < in.size; i++) {
        if (d->state == 0 && d->held == 0 && !d->ended) {
            i += take_groups(slice_from(in, i), out);
            if (i == in.size)
                break;
        }
        unsigned char c = in.at[i];
        int v = text_base64_value(c);
        if (d->ended) {
            /* Data behind the padding is not valid, and not taken. */
            if (v >= 0)
                d->broken = true;
            if (d->broken)
                return;
        } else if (v >= 0 && d->held == 0) {
            d->bits = d->bits << 6 | (uint32_t)v;
            if (++d->state == 4) {
                unsigned char three[3] = {(unsigned char)(d->bits >> 16), (unsigned char)(d->bits >> 8),
                                          (unsigned char)d->bits};
                buffer_append(out, three, 3);
                d->state = 0;
                d->bits = 0;
            }
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            continue;
        } else if (c == '=' && d->state + d->held >= 2) {
            d->held++;                     /* padding seen */
            if (d->state + d->held == 4) {
                if (d->state == 3) {
                    buffer_append_byte(out, (unsigned char)(d->bits >> 10));
                    buffer_append_byte(out, (unsigned char)(d->bits >> 2));
                } else {
                    buffer_append_byte(out, (unsigned char)(d->bits >> 4));
                }
                d->state = 0;
                d->bits = 0;
                d->held = 0;
                d->ended = true;
            }
        } else {
            d->broken = d->ended = true;
        }
    }
}

/* A group that was not finished gives the bytes it has. */
static void finish_base64(struct mime_decoder *d, struct buffer *out)
{
    if (d->state == 0)
        return;
    d->broken = true;
    if (d->state == 3) {
        buffer_append_byte(out, (unsigned char)(d->bits >> 10));
        buffer_append_byte(out, (unsigned char)(d->bits >> 2));
    } else if (d->state == 2) {
        buffer_append_byte(out, (unsigned char)(d->bits >> 4));
    }
}

/* ---- quoted-printable: hold keeps white space, or "=" and what follows it ------------------------------------ */

static void flush_hold(struct mime_decoder *d, struct buffer *out)
{
    d->broken = d->broken || (d->held > 0 && memchr(d->hold, '\r', d->held) != NULL); /* a CR that ends no line */
    buffer_append(out, d->hold, d->held);
    d->held = 0;
}

/* White space at hand: kept until the next byte tells whether the line ends. Long runs cannot be held. */
static void hold_byte(struct mime_decoder *d, unsigned char c, struct buffer *out)
{
    if (d->held == sizeof(d->hold))
        flush_hold(d, out);
    d->hold[d->held++] = c;
}

/* A byte behind "=". True: the escape is over and the byte was used. */
static bool take_escape(struct mime_decoder *d, unsigned char c, struct buffer *out)
{
    unsigned char first = d->held > 1 ? d->hold[1] : 0;

    if (c == '\n' && (d->held == 1 || first == ' ' || first == '\t' || first == '\r')) {
        d->held = 0;                       /* soft line break */
        return true;
    }
    if (d->held == 1 && mime_hex_digit(c) >= 0) {
        hold_byte(d, c, out);
        return true;
    }
    if (d->held == 2 && mime_hex_digit(first) >= 0 && mime_hex_digit(c) >= 0) {
        buffer_append_byte(out, (unsigned char)(mime_hex_digit(first) << 4 | mime_hex_digit(c)));
        d->held = 0;
        return true;
    }
    if ((c == ' ' || c == '\t' || c == '\r') && (d->held == 1 || mime_hex_digit(first) < 0) &&
        d->held < sizeof(d->hold)) {
        hold_byte(d, c, out);
        return true;
    }
    d->broken = true;
    flush_hold(d, out);
    return false;
}

static void feed_qp(struct mime_decoder *d, struct slice in, struct buffer *out)
{
    size_t i = 0;

    while (i < in.size) {
        unsigned char c = in.at[i];
        if (d->held > 0 && d->hold[0] == '=') {
            if (take_escape(d, c, out))
                i++;
        } else if (c == '=') {
            flush_hold(d, out);
            d->hold[d->held++] = c;
            i++;
        } else if (c == ' ' || c == '\t' || c == '\r') {
            hold_byte(d, c, out);
            i++;
        } else if (c == '\n') {
            d->held = 0;
            buffer_append_str(out, "\r\n"); /* also where the file's lines end in LF alone, as the real server does */
            i++;
        } else {
            flush_hold(d, out);
            /* Words and blanks, but for those at the end: the line may end behind them. */
            size_t n = text_plain_length(slice_from(in, i), '=');
            while (n > 0 && in.at[i + n - 1] == ' ')
                n--;
            if (n == 0)
                n = 1; /* a control character */
            buffer_append(out, in.at + i, n);
            i += n;
        }
    }
}

/* White space and unfinished escapes at the end are dropped. */
static void finish_qp(struct mime_decoder *d)
{
    if (d->held > 0 && d->hold[0] == '=')
        d->broken = true;
    d->held = 0;
}

void mime_decoder_feed(struct mime_decoder *d, struct slice in, struct buffer *out)
{
    switch (d->encoding) {
    case MIME_ENCODING_BASE64:
        feed_base64(d, in, out);
        break;
    case MIME_ENCODING_QP:
        feed_qp(d, in, out);
        break;
    default:
        buffer_append_slice(out, in);
    }
}

void mime_decoder_finish(struct mime_decoder *d, struct buffer *out)
{
    if (d->encoding == MIME_ENCODING_BASE64)
        finish_base64(d, out);
    else if (d->encoding == MIME_ENCODING_QP)
        finish_qp(d);
}
