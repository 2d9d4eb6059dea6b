/* smtp_data.c - the end of DATA and stuffed dots (RFC 5321 section 4.5.2).
 *
 * Only CRLF . CRLF ends the message. A bare LF or CR ends no line: a relay in front that thinks otherwise must not be
 * able to smuggle a second message (doors 8, known-faults 33604). All bytes are kept. */
#include "smtp/smtp.h"

size_t smtp_data_take(struct smtp_data *d, struct slice in, struct buffer *out, bool *end)
{
    size_t i = 0;

    *end = false;
    while (i < in.size) {
        unsigned char c = in.at[i];

        if (c != '.' && (d->state == SMTP_DATA_LINE_START || d->state == SMTP_DATA_BODY)) {
            /* Whole lines at once, up to one that may begin with a dot. */
            struct slice lines = slice_from(in, i);

            lines.size = text_lines(lines, false, '.').size;
            if (lines.size > 0) {
                buffer_append_slice(out, lines);
                i += lines.size;
                d->state = lines.size > 1 && in.at[i - 2] == '\r' ? SMTP_DATA_LINE_START : SMTP_DATA_BODY;
                continue;
            }
        }
        switch (d->state) {
        case SMTP_DATA_LINE_START:
            if (c == '.') {
                d->state = SMTP_DATA_DOT;
                i++;
            } else
                d->state = SMTP_DATA_BODY;
            break;
        case SMTP_DATA_DOT:
            if (c == '\r') {
                d->state = SMTP_DATA_DOT_CR;
                i++;
            } else
                d->state = SMTP_DATA_BODY; /* the dot was stuffed, or one that nobody stuffed: it goes either way */
            break;
        case SMTP_DATA_DOT_CR:
            if (c == '\n') {
                d->state = SMTP_DATA_LINE_START;
                *end = true;
                return i + 1;
            }
            buffer_append_byte(out, '\r');
            d->state = SMTP_DATA_CR;
            break;
        case SMTP_DATA_CR:
            if (c == '\n') {
                buffer_append_byte(out, '\n');
                d->state = SMTP_DATA_LINE_START;
                i++;
            } else
                d->state = SMTP_DATA_BODY;
            break;
        case SMTP_DATA_BODY: {
            struct slice rest = slice_from(in, i);
            ptrdiff_t cr = slice_find(rest, '\r');
            size_t n = cr < 0 ? rest.size : (size_t)cr + 1;
            buffer_append(out, rest.at, n);
            i += n;
            if (cr >= 0)
                d->state = SMTP_DATA_CR;
            break;
        }
        }
    }
    return i;
}
