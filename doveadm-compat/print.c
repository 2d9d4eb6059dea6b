/* print.c - headers, rows, sticky values: what all formatters share. */
#include "print.h"

#include <stdio.h>

static const struct print_ops *const formatters[] = {&print_flow,  &print_tab,  &print_table,
                                                     &print_pager, &print_json, &print_formatted, &print_server};

static const struct print_ops *find(const char *name)
{
    for (size_t i = 0; i < sizeof(formatters) / sizeof(formatters[0]); i++)
        if (strcmp(formatters[i]->name, name) == 0)
            return formatters[i];
    return NULL;
}

bool print_known(const char *formatter)
{
    return find(formatter) != NULL && find(formatter) != &print_server;
}

void print_init(struct doveadm *d, const char *fallback)
{
    struct print *p;

    if (d->batch_headers && d->print != NULL)
        return;
    p = mem_zero(1, sizeof(*p));
    print_free(d);
    p->ops = find(d->formatter != NULL ? d->formatter : fallback);
    p->no_titles = d->no_titles;
    d->print = p;
}

void print_header(struct doveadm *d, const char *key, const char *title, unsigned flags)
{
    struct print_header h = {arena_strdup(d->arena, key), arena_strdup(d->arena, title), flags};

    if (d->remote)
        h.flags &= ~(unsigned)PRINT_STICKY; /* it comes with each row */

    VEC_PUSH(&d->print->headers, h);
    VEC_PUSH(&d->print->sticky, NULL);
    if (d->print->ops->header != NULL)
        d->print->ops->header(d->print, &h);
}

void print_header_simple(struct doveadm *d, const char *key_and_title)
{
    print_header(d, key_and_title, key_and_title, 0);
}

/* Sticky values that stand before the next column. */
static void fill_sticky(struct print *p)
{
    while (p->column < p->headers.count && (p->headers.at[p->column].flags & PRINT_STICKY) != 0) {
        const char *value = p->sticky.at[p->column];
        p->ops->value(p, value);
        p->column++;
    }
}

static void next_column(struct print *p)
{
    p->column++;
    fill_sticky(p);
    if (p->column >= p->headers.count) {
        p->column = 0;
        p->rows++;
    }
}

static void begin_column(struct print *p)
{
    if (p->column == 0)
        fill_sticky(p);
}

void print_value(struct doveadm *d, const char *value)
{
    begin_column(d->print);
    d->print->ops->value(d->print, value);
    next_column(d->print);
}

void print_number(struct doveadm *d, uint64_t n)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    print_value(d, text);
}

void print_stream(struct doveadm *d, struct slice bytes, bool end)
{
    begin_column(d->print);
    d->print->ops->stream(d->print, bytes, end);
    if (end)
        next_column(d->print);
}

void print_sticky(struct doveadm *d, const char *key, const char *value)
{
    struct print *p = d->print;

    for (size_t i = 0; i < p->headers.count; i++)
        if (strcmp(p->headers.at[i].key, key) == 0) {
            mem_free(p->sticky.at[i]);
            p->sticky.at[i] = mem_strdup(value);
        }
}

void print_template(struct doveadm *d, const char *text)
{
    d->print->template = text;
}

void print_begin(struct doveadm *d)
{
    if (d->print->ops == &print_tab)
        print_tab.flush(d->print); /* which prints the titles if they were not */
}

void print_flush(struct doveadm *d)
{
    if (d->print == NULL)
        return;
    d->print->ops->flush(d->print);
    fflush(stdout);
}

void print_free(struct doveadm *d)
{
    struct print *p = d->print;

    if (p == NULL)
        return;
    for (size_t i = 0; i < p->sticky.count; i++)
        mem_free(p->sticky.at[i]);
    VEC_FREE(&p->sticky);
    VEC_FREE(&p->headers);
    mem_free(p);
    d->print = NULL;
}
