/* print_simple.c - the formatters that keep nothing: flow, tab, pager, json, formatted, server. */
#include "print.h"

#include <stdio.h>

static bool last_column(const struct print *p)
{
    return p->column + 1 >= p->headers.count;
}

/* Where server and json write: in doveadm-server what commands print past their formatter goes nowhere. */
static FILE *file;

void print_to(FILE *f)
{
    file = f;
}

static FILE *out(void)
{
    return file == NULL ? stdout : file;
}

static void put(struct slice s)
{
    if (s.size > 0)
        fwrite(s.at, 1, s.size, stdout);
}

/* ---- flow: title=value title=value ------------------------------------------------------------------------------ */

static void flow_title(struct print *p)
{
    const struct print_header *h = &p->headers.at[p->column];

    if ((h->flags & PRINT_HIDE_TITLE) == 0)
        printf("%s=", h->title);
}

static void flow_end(struct print *p)
{
    putchar(last_column(p) ? '\n' : ' ');
}

static void flow_value(struct print *p, const char *value)
{
    flow_title(p);
    fputs(value == NULL ? "" : value, stdout);
    flow_end(p);
}

static void flow_stream(struct print *p, struct slice bytes, bool end)
{
    if (!p->started)
        flow_title(p);
    p->started = !end;
    put(bytes);
    if (end)
        flow_end(p);
}

static void no_flush(struct print *p)
{
    (void)p;
}

const struct print_ops print_flow = {"flow", NULL, flow_value, flow_stream, no_flush};

/* ---- tab --------------------------------------------------------------------------------------------------------- */

static void tab_titles(struct print *p)
{
    if (p->state != NULL)
        return;
    p->state = p; /* once */
    if (p->no_titles)
        return;
    for (size_t i = 0; i < p->headers.count; i++)
        printf("%s%s", i > 0 ? "\t" : "", p->headers.at[i].title);
    putchar('\n');
}

static void tab_between(const struct print *p)
{
    if (p->column > 0)
        putchar('\t');
}

static void tab_end(const struct print *p)
{
    if (last_column(p))
        putchar('\n');
}

static void tab_value(struct print *p, const char *value)
{
    tab_titles(p);
    tab_between(p);
    fputs(value == NULL ? "" : value, stdout);
    tab_end(p);
}

/* A streamed value has a tab before and, beginning with the second column, one behind it too: scripts know it so. */
static void tab_stream(struct print *p, struct slice bytes, bool end)
{
    tab_titles(p);
    if (bytes.size > 0 && !p->started) {
        tab_between(p);
        p->started = true;
    }
    put(bytes);
    if (end) {
        p->started = false;
        tab_between(p);
        tab_end(p);
    }
}

const struct print_ops print_tab = {"tab", NULL, tab_value, tab_stream, tab_titles};

/* ---- pager: one field a line --------------------------------------------------------------------------------------- */

static void pager_value(struct print *p, const char *value)
{
    const struct print_header *h = &p->headers.at[p->column];

    if (p->column == 0 && p->rows > 0)
        fputs("\f\n", stdout);
    if ((h->flags & PRINT_HIDE_TITLE) == 0)
        printf("%s: ", h->title);
    printf("%s\n", value == NULL ? "" : value);
}

static void pager_stream(struct print *p, struct slice bytes, bool end)
{
    const struct print_header *h = &p->headers.at[p->column];

    /* No form feed when the first column is a streamed one: neither has Dovecot. */
    if (!p->started && (h->flags & PRINT_HIDE_TITLE) == 0)
        printf("%s:\n", h->title);
    p->started = !end;
    put(bytes);
}

const struct print_ops print_pager = {"pager", NULL, pager_value, pager_stream, no_flush};

/* ---- json: one array of objects -------------------------------------------------------------------------------------- */

static void json_escape(struct slice s)
{
    struct buffer text = {0};

    text_json_escape(&text, s);
    fwrite(text.size > 0 ? (const char *)text.at : "", 1, text.size, out());
    buffer_free(&text);
}

void print_json_text(const char *text)
{
    fputc('"', out());
    json_escape(slice_from_str(text));
    fputc('"', out());
}

void print_json_raw(const char *text)
{
    fputs(text, out());
}

static void json_begin(struct print *p)
{
    if (p->column == 0)
        fputs(p->rows == 0 ? "[{" : ",{", out());
    else
        fputc(',', out());
    fprintf(out(), "\"%s\":", p->headers.at[p->column].key);
}

static void json_value(struct print *p, const char *value)
{
    json_begin(p);
    if (value == NULL)
        fputs("null", out());
    else if ((p->headers.at[p->column].flags & PRINT_NUMBER) != 0)
        fputs(value, out());
    else
        print_json_text(value);
    if (last_column(p))
        fputc('}', out());
}

/* A character may be cut between two pieces: up to 3 bytes of it wait. */
static void json_stream(struct print *p, struct slice bytes, bool end)
{
    static unsigned char wait[4];
    static size_t waiting;
    size_t tail = 0;

    if (!p->started) {
        json_begin(p);
        fputc('"', out());
        waiting = 0;
    }
    p->started = !end;
    if (waiting > 0 || !end) {
        struct buffer joined = {0};
        buffer_append(&joined, wait, waiting);
        buffer_append_slice(&joined, bytes);
        waiting = 0;
        if (!end)
            while (tail < 3 && tail < joined.size && (joined.at[joined.size - 1 - tail] & 0x80) != 0) {
                unsigned char c = joined.at[joined.size - 1 - tail++];
                if ((c & 0xc0) == 0xc0)
                    break;
            }
        json_escape(slice_of(joined.at, joined.size - tail));
        memcpy(wait, joined.at == NULL ? wait : joined.at + joined.size - tail, tail);
        waiting = tail;
        buffer_free(&joined);
    } else
        json_escape(bytes);
    if (end) {
        fputc('"', out());
        if (last_column(p))
            fputc('}', out());
    }
}

static void json_flush(struct print *p)
{
    fputs(p->rows == 0 ? "[]" : "]", out());
}

const struct print_ops print_json = {"json", NULL, json_value, json_stream, json_flush};

/* ---- formatted: a template with %{key} --------------------------------------------------------------------------------- */

/* Chosen with -f for a command that has no template. */
static void need_template(const struct print *p)
{
    if (p->template == NULL)
        doveadm_fatal(DOVEADM_TEMPFAIL, "formatted formatter cannot be used without a format.");
}

static void formatted_value(struct print *p, const char *value)
{
    const char **row = p->state;

    need_template(p);
    if (row == NULL)
        row = p->state = mem_zero(p->headers.count, sizeof(*row));
    row[p->column] = mem_strdup(value == NULL ? "" : value);
    if (!last_column(p))
        return;
    for (const char *t = p->template; *t != '\0'; t++) {
        size_t n = strncmp(t, "%{", 2) == 0 ? strcspn(t, "}") : 0;
        if (n == 0 || t[n] != '}') {
            putchar(*t);
            continue;
        }
        for (size_t i = 0; i < p->headers.count; i++)
            if (slice_equal_str(slice_of(t + 2, n - 2), p->headers.at[i].key))
                fputs(row[i], stdout);
        t += n;
    }
    for (size_t i = 0; i < p->headers.count; i++)
        mem_free((char *)(uintptr_t)row[i]);
    mem_free(row);
    p->state = NULL;
}

static void formatted_stream(struct print *p, struct slice bytes, bool end)
{
    (void)end;
    need_template(p);
    put(bytes);
}

const struct print_ops print_formatted = {"formatted", NULL, formatted_value, formatted_stream, no_flush};

/* ---- server: what the client of doveadm-server gets, who knows the headers -------------------------------------------- */

static void server_put(struct slice bytes, bool end)
{
    struct buffer text = {0};

    text_tab_escape(&text, bytes);
    if (text.size > 0)
        fwrite(text.at, 1, text.size, out());
    buffer_free(&text);
    if (end)
        fputc('\t', out());
}

static void server_value(struct print *p, const char *value)
{
    (void)p;
    server_put(slice_from_str(value), true);
}

static void server_stream(struct print *p, struct slice bytes, bool end)
{
    (void)p;
    server_put(bytes, end);
}

const struct print_ops print_server = {"server", NULL, server_value, server_stream, no_flush};
