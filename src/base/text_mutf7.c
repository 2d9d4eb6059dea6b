/* text_mutf7.c - modified UTF-7 of IMAP mailbox names (RFC 3501 section 5.1.3).
 *
 * One name has one encoding: the decoder refuses everything that the encoder would not write, so that two names
 * on the wire never mean one folder. A NUL is refused as well, since names become paths. */
#include "base/text.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int letter_value(unsigned char c)
{
    return c == ',' ? 63 : c == '/' ? -1 : text_base64_value(c);
}

static bool is_direct(uint32_t c)
{
    return c >= 0x20 && c <= 0x7E;
}

/* The UTF-16 units of a shift become characters; `high` is the first half of a pair that waits for the second. */
static int take_unit(struct buffer *out, uint32_t unit, uint32_t *high)
{
    if (*high != 0) {
        if (unit < 0xDC00 || unit > 0xDFFF)
            return -1;
        text_utf8_put(out, 0x10000 + ((*high - 0xD800) << 10) + (unit - 0xDC00));
        *high = 0;
        return 0;
    }
    if (unit >= 0xDC00 && unit <= 0xDFFF)
        return -1;
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        *high = unit;
        return 0;
    }
    if (unit == 0 || is_direct(unit))
        return -1;
    text_utf8_put(out, unit);
    return 0;
}

/* `s` begins behind the '&'. -> bytes used including the closing '-', or -1. */
static ptrdiff_t decode_shift(struct buffer *out, struct slice s)
{
    uint32_t bits = 0, high = 0;
    unsigned count = 0;
    size_t i;

    for (i = 0; i < s.size && s.at[i] != '-'; i++) {
        int value = letter_value(s.at[i]);

        if (value < 0)
            return -1;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 16) {
            count -= 16;
            if (take_unit(out, bits >> count & 0xFFFF, &high) < 0)
                return -1;
            bits &= (1u << count) - 1;
        }
    }
    if (i == s.size || high != 0 || count >= 6 || bits != 0)
        return -1;
    return (ptrdiff_t)i + 1;
}

int text_mutf7_to_utf8(struct buffer *out, struct slice s)
{
    size_t before = out->size;
    bool shifted = false; /* a shift has just ended; another one would have been part of it */

    for (size_t i = 0; i < s.size; i++) {
        ptrdiff_t used;

        if (!is_direct(s.at[i]))
            goto bad;
        if (s.at[i] != '&') {
            buffer_append_byte(out, s.at[i]);
            shifted = false;
        } else if (i + 1 < s.size && s.at[i + 1] == '-') {
            buffer_append_byte(out, '&');
            shifted = false;
            i++;
        } else {
            used = shifted ? -1 : decode_shift(out, slice_from(s, i + 1));
            if (used < 0)
                goto bad;
            shifted = true;
            i += (size_t)used;
        }
    }
    return 0;
bad:
    out->size = before;
    return -1;
}

struct shift {
    bool open;
    uint32_t bits;
    unsigned count;
};

static void put_unit(struct buffer *out, struct shift *shift, uint32_t unit)
{
    if (!shift->open) {
        buffer_append_byte(out, '&');
        *shift = (struct shift){true, 0, 0};
    }
    shift->bits = shift->bits << 16 | unit;
    shift->count += 16;
    while (shift->count >= 6) {
        shift->count -= 6;
        buffer_append_byte(out, (unsigned char)letters[shift->bits >> shift->count & 63]);
    }
    shift->bits &= (1u << shift->count) - 1;
}

static void close_shift(struct buffer *out, struct shift *shift)
{
    if (!shift->open)
        return;
    if (shift->count > 0)
        buffer_append_byte(out, (unsigned char)letters[shift->bits << (6 - shift->count) & 63]);
    buffer_append_byte(out, '-');
    shift->open = false;
}

int text_utf8_to_mutf7(struct buffer *out, struct slice s)
{
    size_t before = out->size;
    struct shift shift = {false, 0, 0};

    while (s.size > 0) {
        int32_t c = text_utf8_next(&s);

        if (c <= 0) {
            out->size = before;
            return -1;
        }
        if (is_direct((uint32_t)c)) {
            close_shift(out, &shift);
            buffer_append_byte(out, (unsigned char)c);
            if (c == '&')
                buffer_append_byte(out, '-');
        } else if (c < 0x10000) {
            put_unit(out, &shift, (uint32_t)c);
        } else {
            put_unit(out, &shift, 0xD800 + (((uint32_t)c - 0x10000) >> 10));
            put_unit(out, &shift, 0xDC00 + (((uint32_t)c - 0x10000) & 0x3FF));
        }
    }
    close_shift(out, &shift);
    return 0;
}
