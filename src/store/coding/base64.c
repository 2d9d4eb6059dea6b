/* base64.c - base64 that can be written again exactly (dbox-format 5.1), and only that.
 *
 * The text's first line says how long all are: a multiple of four. A shorter line, padding, or the end of the part ends it. Line
 * ends are LF, since that is what dbox stores. */
#include "store/coding/attach.h"

#define TRAILING_MAX 1024
#define COLUMNS_MAX 0x7ffffffcu /* what a reference can say */

static void end_text(struct base64_check *c, uint64_t at)
{
    c->ended = true;
    c->text = at;
}

static void line_end(struct base64_check *c)
{
    if (c->columns == 0)
        c->columns = c->column;
    if (c->column == 0 && c->columns > 0)
        end_text(c, c->taken - 1); /* an empty line: the line end before it was the last one */
    else if (c->column == 0 || c->column % 4 != 0)
        c->bad = true;
    else if (c->padding > 0 || c->column < c->columns)
        end_text(c, c->taken);
    c->column = 0;
}

void base64_check_put(struct base64_check *c, struct slice bytes)
{
    for (size_t i = 0; i < bytes.size && !c->bad; i++) {
        unsigned char b = bytes.at[i];

        if (c->ended) {
            c->taken += bytes.size - i;
            break;
        }
        if (b == '\n') {
            line_end(c);
        } else if (c->padding > 0 && c->column % 4 == 0) {
            end_text(c, c->taken); /* something behind "==" in its line */
        } else if (b == '=') {
            /* One or two, at the end of four; and bits that nobody reads are 0, else they would come back as 0. */
            if (c->column % 4 < 2 || (c->padding == 0 && (c->last & (c->column % 4 == 2 ? 15 : 3)) != 0))
                c->bad = true;
            c->padding++;
            c->column++;
        } else if (c->padding > 0 || text_base64_value(b) < 0) {
            c->bad = true;
        } else {
            c->last = text_base64_value(b);
            c->column++;
        }
        if (c->column > COLUMNS_MAX || (c->columns != 0 && c->column > c->columns))
            c->bad = true;
        c->taken++;
    }
}

bool base64_check_end(struct base64_check *c)
{
    if (c->bad)
        return false;
    if (!c->ended) {
        /* The part ended in a line, or right behind a full one, whose line end is not ours. */
        if (c->column % 4 != 0 || (c->column == 0 && c->columns == 0))
            return false;
        if (c->columns == 0)
            c->columns = c->column;
        c->text = c->column == 0 ? c->taken - 1 : c->taken;
        c->ended = true;
    } else if (c->columns == 0) {
        c->columns = c->column;
    }
    return c->columns > 0 && c->taken - c->text <= TRAILING_MAX;
}

void base64_reader_put(struct base64_reader *r, struct slice text, struct buffer *out)
{
    for (size_t i = 0; i < text.size; i++) {
        int value = text_base64_value(text.at[i]);

        if (value < 0) {
            if (text.at[i] == '=' && r->count > 0) {
                /* 2 letters are one byte, 3 letters two. */
                unsigned bits = r->count * 6;

                for (unsigned have = bits; have >= 8; have -= 8)
                    buffer_append_byte(out, (unsigned char)(r->bits >> (have - 8)));
                r->count = 0;
            }
            continue;
        }
        r->bits = r->bits << 6 | (uint32_t)value;
        if (++r->count == 4) {
            buffer_append_byte(out, (unsigned char)(r->bits >> 16));
            buffer_append_byte(out, (unsigned char)(r->bits >> 8));
            buffer_append_byte(out, (unsigned char)r->bits);
            r->bits = 0;
            r->count = 0;
        }
    }
}
