/* scan.c - finds where messages of an mbox begin and end (maildir-and-layouts 9.1).
 *
 * A message ends where its Content-Length says, if there the next one begins or the file ends; else at the next line that is a
 * From_ line. Nothing is quoted: a From_ line in a text is one, unless a Content-Length covers it. */
#include "store/mbox/format.h"

#define WINDOW 65536

void mbox_scan_init(struct mbox_scan *s, const struct mime_source *source, uint64_t size, enum mbox_md5 md5)
{
    *s = (struct mbox_scan){.source = source, .size = size, .md5 = md5};
}

void mbox_scan_end(struct mbox_scan *s)
{
    buffer_free(&s->window);
}

/* At least `want` bytes from `at` on (WINDOW at most), fewer only at the end. */
static int look(struct mbox_scan *s, uint64_t at, size_t want, struct slice *out, struct error *e)
{
    uint64_t left = at < s->size ? s->size - at : 0;
    size_t have = 0, most = left < WINDOW ? (size_t)left : WINDOW;

    if (want > most)
        want = most;
    if (s->source->read == NULL) {
        *out = slice_head(slice_from(s->source->whole, (size_t)at), (size_t)left);
        return 0;
    }
    if (at < s->window_at || at + want > s->window_at + s->window.size) {
        buffer_reset(&s->window);
        buffer_reserve(&s->window, WINDOW);
        s->window_at = at;
        while (have < most) {
            ssize_t n = s->source->read(s->source->arg, at + have, s->window.at + have, most - have, e);

            if (n < 0)
                return -1;
            if (n == 0)
                break;
            have += (size_t)n;
        }
        s->window.size = have;
    }
    *out = slice_from(buffer_slice(&s->window), (size_t)(at - s->window_at));
    return 0;
}

/* The line at `at` as a From_ line; *size with its line end. */
static int from_line(struct mbox_scan *s, uint64_t at, size_t *size, int64_t *date, bool *crlf, struct error *e)
{
    struct slice text;
    ptrdiff_t lf;

    if (look(s, at, MBOX_FROM_MAX + 2, &text, e) < 0)
        return -1;
    if (!slice_starts(text, SLICE("From ")))
        return 0;
    lf = slice_find(slice_head(text, MBOX_FROM_MAX + 2), '\n');
    if (lf < 0)
        return 0;
    *size = (size_t)lf + 1;
    *crlf = lf > 0 && text.at[lf - 1] == '\r';
    return mbox_from_parse(slice_head(text, (size_t)lf - (*crlf ? 1 : 0)), date) ? 1 : 0;
}

int mbox_scan_from(struct mbox_scan *s, uint64_t at, struct error *e)
{
    size_t size;
    int64_t date;
    bool crlf;

    return from_line(s, at, &size, &date, &crlf, e);
}

/* Reads the header into *text; m->body is set. */
static int read_header(struct mbox_scan *s, struct mbox_message *m, struct buffer *text, struct error *e)
{
    uint64_t at = m->header;
    bool line_start = true;

    for (;;) {
        struct slice rest;
        ptrdiff_t lf;
        size_t size;

        if (look(s, at, MBOX_FROM_MAX + 2, &rest, e) < 0)
            return -1;
        if (rest.size == 0) {
            m->headless = true;
            break;
        }
        lf = slice_find(slice_head(rest, WINDOW), '\n');
        size = lf < 0 ? slice_head(rest, WINDOW).size : (size_t)lf + 1;
        if (line_start && slice_starts(rest, SLICE("From "))) {
            int r = mbox_scan_from(s, at, e);

            if (r < 0)
                return -1;
            if (r > 0) {
                m->headless = true;
                break;
            }
            if (look(s, at, MBOX_FROM_MAX + 2, &rest, e) < 0)
                return -1;
        }
        if (text->size + size <= MBOX_HEADER_MAX)
            buffer_append(text, rest.at, size);
        else
            m->huge = true;
        at += size;
        if (line_start && lf >= 0 && (size == 1 || (size == 2 && rest.at[0] == '\r')))
            break;
        line_start = lf >= 0;
    }
    m->body = at;
    return 0;
}

static struct slice length_of(struct slice header)
{
    struct slice field, name, value;

    while (mbox_header_next(&header, &field, &name, &value))
        if (slice_equal_str_nocase(name, "Content-Length"))
            return slice_trim(value);
    return SLICE_EMPTY;
}

/* Does the message end at `at`? *next is where the next one begins. */
static int ends_at(struct mbox_scan *s, struct mbox_message *m, uint64_t at, struct error *e)
{
    struct slice rest;
    size_t skip, n;
    int r;

    if (at == s->size) {
        m->next = at;
        return 1;
    }
    if (look(s, at, MBOX_FROM_MAX + 4, &rest, e) < 0)
        return -1;
    skip = rest.size > 1 && rest.at[0] == '\r' && rest.at[1] == '\n' ? 2 : rest.at[0] == '\n' ? 1 : 0;
    if (skip == 0)
        return 0;
    m->next = at + skip;
    if (m->next == s->size)
        return 1;
    r = mbox_scan_from(s, m->next, e);
    if (r != 0)
        return r;
    for (; at < s->size; at += n) {
        if (look(s, at, 1, &rest, e) < 0)
            return -1;
        for (n = 0; n < rest.size && rest.at[n] == '\n';)
            n++;
        if (n < rest.size || n == 0)
            return 0;
    }
    m->filler = true;
    m->next = s->size;
    return 1;
}

static int end_by_length(struct mbox_scan *s, struct mbox_message *m, struct slice header, struct error *e)
{
    struct slice text = length_of(header);
    uint64_t length;
    int r;

    m->has_length = text.at != NULL;
    if (m->headless || !slice_to_u64(text, &length) || length > s->size - m->body)
        return 0;
    r = ends_at(s, m, m->body + length, e);
    if (r > 0) {
        m->length_valid = true;
        m->end = m->body + length;
    }
    return r;
}

/* What is in front of `next` and not the body's: one line end. */
static int cut_line_end(struct mbox_scan *s, struct mbox_message *m, struct error *e)
{
    struct slice tail;
    uint64_t from = m->next < 2 ? 0 : m->next - 2;

    m->end = m->next;
    if (m->end <= m->body)
        return 0;
    if (look(s, from, 2, &tail, e) < 0)
        return -1;
    tail = slice_head(tail, (size_t)(m->next - from));
    if (tail.size == 0 || tail.at[tail.size - 1] != '\n')
        return 0;
    m->end--;
    if (m->crlf && m->end > m->body && tail.size == 2 && tail.at[0] == '\r')
        m->end--;
    return 0;
}

static int end_by_search(struct mbox_scan *s, struct mbox_message *m, struct error *e)
{
    uint64_t at = m->body > m->header ? m->body - 1 : m->body; /* the line end in front of an empty body counts, too */
    struct slice rest;
    ptrdiff_t found;
    int r;

    for (;;) {
        /* No more than a line ahead: what is in the window is searched before it is read again. */
        if (look(s, at, MBOX_FROM_MAX + 8, &rest, e) < 0)
            return -1;
        found = slice_find_slice(rest, SLICE("\nFrom "));
        if (found < 0) {
            if (at + rest.size >= s->size || rest.size < 6)
                break;
            at += rest.size - 5;
            continue;
        }
        at += (uint64_t)found;
        r = mbox_scan_from(s, at + 1, e);
        if (r < 0)
            return -1;
        if (r > 0) {
            m->next = at + 1;
            return cut_line_end(s, m, e);
        }
        at++;
    }
    m->next = s->size;
    return cut_line_end(s, m, e);
}

int mbox_scan_message(struct mbox_scan *s, uint64_t at, struct arena *arena, struct mbox_message *m, struct error *e)
{
    struct buffer header = {0};
    size_t size;
    int r;

    *m = (struct mbox_message){.from = at};
    r = from_line(s, at, &size, &m->date, &m->crlf, e);
    if (r < 0)
        return -1;
    if (r == 0)
        return error_set(e, ERROR_CORRUPT, "no From_ line at offset %llu", (unsigned long long)at);
    m->header = at + size;
    r = read_header(s, m, &header, e);
    if (r == 0) {
        mbox_header_read(buffer_slice(&header), s->md5, arena, m);
        r = end_by_length(s, m, buffer_slice(&header), e);
        if (r == 0)
            r = end_by_search(s, m, e);
    }
    buffer_free(&header);
    return r < 0 ? -1 : 0;
}
