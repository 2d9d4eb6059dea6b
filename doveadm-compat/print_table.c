/* print_table.c - columns as wide as the longest value of the first 100 rows, within the terminal (doveadm 3). */
#include "print.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LOOK_AHEAD = 100, LEAST_WIDTH = 30, USUAL_WIDTH = 80 };

struct column {
    size_t widest, narrowest, width;
};

struct table {
    VEC(char *) cells;     /* of the rows that wait for the widths */
    struct column *columns;
    bool fixed;            /* the widths are known, the titles printed */
    struct buffer pending; /* pieces of a streamed value */
};

static struct table *table_of(struct print *p)
{
    if (p->state == NULL)
        p->state = mem_zero(1, sizeof(struct table));
    return p->state;
}

static size_t characters(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

static size_t terminal_width(void)
{
    struct winsize w;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col == 0)
        return USUAL_WIDTH;
    return w.ws_col < LEAST_WIDTH ? LEAST_WIDTH : w.ws_col;
}

static bool all_hidden(const struct print *p)
{
    for (size_t i = 0; i < p->headers.count; i++)
        if ((p->headers.at[i].flags & PRINT_HIDE_TITLE) == 0)
            return false;
    return true;
}

static void fit(struct print *p, struct table *t)
{
    size_t most = terminal_width(), sum = p->headers.count == 0 ? 0 : p->headers.count - 1, grow;

    for (size_t i = 0; i < p->headers.count; i++)
        sum += t->columns[i].width;
    /* Too wide: from the right, the first column that can give all that is too much does; those before it have each given
     * half of what is above their shortest text, which nobody subtracts. Tables come out as wide as the real program's. */
    for (size_t i = p->headers.count; sum > most && i-- > 0;) {
        size_t spare = t->columns[i].width - t->columns[i].narrowest;

        t->columns[i].width -= spare >= sum - most ? sum - most : spare / 2;
        if (spare >= sum - most)
            break;
    }
    if (sum >= most || p->headers.count == 0)
        return;
    grow = p->headers.count - 1;
    for (size_t i = 0; i < p->headers.count; i++)
        if ((p->headers.at[i].flags & PRINT_EXPAND) != 0) {
            grow = i;
            break;
        }
    t->columns[grow].width += (most - sum) / 2;
}

static void put_cell(const struct print *p, const struct table *t, size_t column, const char *text)
{
    size_t n = characters(text), width = t->columns[column].width;
    int pad = n < width ? (int)(width - n) : 0;

    if ((p->headers.at[column].flags & PRINT_RIGHT) != 0)
        printf("%*s%s", pad, "", text);
    else
        printf("%s%*s", text, pad, "");
    putchar(column + 1 == p->headers.count ? '\n' : ' ');
}

static void fix_widths(struct print *p)
{
    struct table *t = table_of(p);

    if (t->fixed)
        return;
    t->fixed = true;
    t->columns = mem_zero(p->headers.count, sizeof(*t->columns));
    for (size_t i = 0; i < p->headers.count; i++) {
        t->columns[i].widest = characters(p->headers.at[i].title);
        t->columns[i].narrowest = t->columns[i].widest;
    }
    for (size_t i = 0; i < t->cells.count; i++) {
        struct column *c = &t->columns[i % p->headers.count];
        size_t n = characters(t->cells.at[i]);
        c->widest = n > c->widest ? n : c->widest;
        c->narrowest = n < c->narrowest ? n : c->narrowest;
    }
    for (size_t i = 0; i < p->headers.count; i++)
        t->columns[i].width = t->columns[i].widest;
    fit(p, t);
    if (!p->no_titles && !all_hidden(p))
        for (size_t i = 0; i < p->headers.count; i++)
            put_cell(p, t, i, p->headers.at[i].title);
    for (size_t i = 0; i < t->cells.count; i++) {
        put_cell(p, t, i % p->headers.count, t->cells.at[i]);
        mem_free(t->cells.at[i]);
    }
    t->cells.count = 0;
}

static void value(struct print *p, const char *text)
{
    struct table *t = table_of(p);

    if (text == NULL)
        text = "";
    if (t->fixed) {
        put_cell(p, t, p->column, text);
        return;
    }
    VEC_PUSH(&t->cells, mem_strdup(text));
    if (t->cells.count == LOOK_AHEAD * p->headers.count)
        fix_widths(p);
}

static void stream(struct print *p, struct slice bytes, bool end)
{
    struct table *t = table_of(p);

    if (slice_find(bytes, '\n') >= 0) {
        fflush(stdout);
        doveadm_fatal(DOVEADM_TEMPFAIL, "table formatter doesn't support multi-line values");
    }
    buffer_append_slice(&t->pending, bytes);
    if (!end)
        return;
    value(p, buffer_cstr(&t->pending));
    buffer_reset(&t->pending);
}

static void flush(struct print *p)
{
    struct table *t = table_of(p);

    fix_widths(p);
    VEC_FREE(&t->cells);
    mem_free(t->columns);
    buffer_free(&t->pending);
    mem_free(t);
    p->state = NULL;
}

const struct print_ops print_table = {"table", NULL, value, stream, flush};
