/* The MIME parser: one pass over a mail, a tree of parts with offsets and sizes (RFC 2046 section 5.1, imap 10.5).
 *
 * It walks line by line and keeps a stack of open parts. A line that begins with "--" and a boundary of an open
 * multipart ends everything above that multipart; the line break before it belongs to the boundary. Rules learnt from
 * the real server, which the cached sizes must equal (index-format 9.7):
 *  - the boundary need only be a prefix of the line; the innermost exact one wins, else the longest;
 *  - a boundary ends a header too; a part without body gives the line break of its header's last line to the boundary,
 *    but the parts around it that end there keep it;
 *  - a boundary line without LF at the end of the mail ends parts and begins none;
 *  - after the closing boundary of a multipart its boundary means nothing any more.
 * Depth, parts and header bytes are capped; the stack is an array, so nesting costs no recursion. A multipart or
 * message at the deepest level is not looked into; the last part that is allowed runs to the end of the mail. */
#include "base/text.h"
#include "mime/mime_internal.h"

#define BOUNDARY_MAX 80        /* longer ones are compared by their first 80 bytes (RFC 2046 allows 70) */

enum state {
    IN_HEADER,
    IN_BODY,
    FINISHED
};

/* A part whose end has not been seen. */
struct open {
    struct mime_part *part;
    struct mime_part **tail;               /* where the next child is linked */
    struct mime_place begin, body;
    struct slice boundary;                 /* with the leading "--"; NIL: none, or its closing line was seen */
};

struct mime_parser {
    struct arena *arena;
    struct mime_window window;
    struct mime_limits limits;
    unsigned flags;
    enum state state;
    struct mime_part *root;
    VEC(struct open) open;
    size_t boundaries;                     /* open parts that have one */
    uint32_t parts;
    struct mime_place here, before;        /* of window.at; in front of the last line break */
    bool line_start, cr;                   /* cr: the byte before window.at is a CR */
    bool fresh;                            /* the header of the top part has just ended */
    struct mime_place floor;               /* where the text at hand began: behind a header or a boundary line */
    const unsigned char *nul;              /* first NUL in the window at or behind window.at, or its end */
    struct mime_budget budget;

    /* the header being read */
    struct buffer value;                   /* the wanted field so far, after its colon */
    enum mime_known field;
    bool in_field, has_type;
    uint64_t header_left, field_size;
    struct slice part_boundary;            /* found in Content-Type */
    struct mime_envelope_builder envelope;
};

static struct open *top(struct mime_parser *p)
{
    return &p->open.at[p->open.count - 1];
}

static struct mime_size between(const struct mime_place *from, const struct mime_place *to)
{
    struct mime_size size = {0};
    if (to->physical > from->physical) {
        size.physical = to->physical - from->physical;
        size.virtual = size.physical + (to->missing - from->missing);
        size.lines = to->lines - from->lines;
    }
    return size;
}

/* ---- moving ------------------------------------------------------------------------------------------------- */

static int fill(struct mime_parser *p, size_t want, struct error *e)
{
    struct mime_window *w = &p->window;
    const unsigned char *end = w->end;
    const unsigned char *at = w->at;

    if (mime_window_fill(w, want, e) < 0)
        return -1;
    if (w->at != at || w->end != end || p->nul == NULL) {
        p->nul = memchr(w->at, '\0', (size_t)(w->end - w->at));
        if (p->nul == NULL)
            p->nul = w->end;
    }
    return 0;
}

/* Consumes up to `to`; with `lf` the last byte is a line break. */
static void advance(struct mime_parser *p, const unsigned char *to, bool lf)
{
    struct mime_window *w = &p->window;
    size_t n = (size_t)(to - w->at);

    if (p->nul < to) {
        top(p)->part->flags |= MIME_PART_NULS;
        p->nul = memchr(to, '\0', (size_t)(w->end - to));
        if (p->nul == NULL)
            p->nul = w->end;
    }
    if (lf) {
        bool crlf = n >= 2 ? to[-2] == '\r' : p->cr;
        p->before = p->here;
        p->before.physical += n - 1;
        if (crlf)
            p->before.physical--;
        else
            p->here.missing++;
        p->here.lines++;
        p->cr = false;
    } else if (n > 0) {
        p->cr = to[-1] == '\r';
    }
    p->line_start = lf;
    p->here.physical += n;
    w->at = to;
    w->offset += n;
}

/* Consumes whole lines. */
static void take_lines(struct mime_parser *p, const struct text_lines *lines)
{
    const unsigned char *to = p->window.at + lines->size;
    bool crlf = lines->size >= 2 ? to[-2] == '\r' : p->cr;

    p->here.lines += lines->count - 1;
    p->here.missing += lines->bare - !crlf;
    advance(p, to, true);
}

/* The end of the line at hand, behind its LF. When the line is longer than the window: where the window ends, and
 * *lf is false. */
static int find_line(struct mime_parser *p, const unsigned char **to, bool *lf, struct error *e)
{
    struct mime_window *w = &p->window;
    const unsigned char *found = w->at == w->end ? NULL : memchr(w->at, '\n', (size_t)(w->end - w->at));

    if (found == NULL && !w->eof) {
        if (fill(p, MIME_WINDOW_SIZE, e) < 0)
            return -1;
        found = w->at == w->end ? NULL : memchr(w->at, '\n', (size_t)(w->end - w->at));
    }
    *lf = found != NULL;
    *to = found == NULL ? w->end : found + 1;
    return 0;
}

/* ---- parts -------------------------------------------------------------------------------------------------- */

static void begin_part(struct mime_parser *p, const struct mime_place *at)
{
    struct mime_part *part = ARENA_NEW(p->arena, struct mime_part);
    struct open o = {.part = part, .tail = &part->children, .begin = *at};

    part->offset = at->physical;
    bool message = p->open.count == 0;     /* the top of a mail: it has an envelope */
    if (p->open.count == 0) {
        p->root = part;
    } else {
        struct open *parent = top(p);
        part->parent = parent->part;
        *parent->tail = part;
        parent->tail = &part->next;
        parent->part->children_count++;
        if ((parent->part->flags & MIME_PART_MULTIPART) != 0)
            part->flags |= MIME_PART_IS_MIME;
        else
            message = true;
    }
    if (++p->parts >= p->limits.parts) {
        /* The last part takes all that follows. */
        part->flags |= MIME_PART_CUT;
        for (size_t i = 0; i < p->open.count; i++)
            p->open.at[i].boundary = SLICE_EMPTY;
        p->boundaries = 0;
    }
    p->envelope.envelope = NULL;
    if ((p->flags & MIME_PARSE_DATA) != 0) {
        part->data = ARENA_NEW(p->arena, struct mime_part_data);
        if (message) {
            mime_envelope_begin(&p->envelope, p->arena);
            part->data->envelope = p->envelope.envelope;
        }
    }
    VEC_PUSH(&p->open, o);
    p->state = IN_HEADER;
    p->fresh = false;
    p->in_field = p->has_type = false;
    p->header_left = p->limits.header_size;
    p->part_boundary = SLICE_EMPTY;
}

static void close_top(struct mime_parser *p, const struct mime_place *end)
{
    struct open *o = top(p);
    struct mime_part *part = o->part;

    part->body = between(&o->body, end);
    if (o->boundary.at != NULL)
        p->boundaries--;
    p->open.count--;
}

/* ---- header fields ------------------------------------------------------------------------------------------ */

/* The first of the part. */
static void take_content_type(struct mime_parser *p, struct slice value)
{
    struct mime_part *part = top(p)->part;
    struct mime_content_type got;
    struct slice type, subtype;

    p->has_type = true;
    mime_content_type_take(p->arena, value, &got);
    if (part->data != NULL)
        mime_data_first_type(part->data, &got, &p->budget);
    if (!got.good)
        return;
    type = got.type;
    subtype = got.subtype;
    if (slice_equal_str_nocase(type, "text")) {
        part->flags |= MIME_PART_TEXT;
    } else if (slice_equal_str_nocase(type, "message") && slice_equal_str_nocase(subtype, "rfc822")) {
        part->flags |= MIME_PART_MESSAGE;
    } else if (slice_equal_str_nocase(type, "multipart") && subtype.size > 0) {
        part->flags |= MIME_PART_MULTIPART;
        if (slice_equal_str_nocase(subtype, "digest"))
            part->flags |= MIME_PART_DIGEST;
        const struct slice *boundary = mime_param_find(&got.params, "boundary");
        if (boundary != NULL)
            p->part_boundary = *boundary;
    }
}

static void end_field(struct mime_parser *p)
{
    if (!p->in_field)
        return;
    p->in_field = false;
    struct slice value = mime_field_value(buffer_slice(&p->value));
    uint64_t size = p->field == MIME_KNOWN_NONE ? p->field_size : value.size;
    if (value.size > p->header_left)
        value.size = (size_t)p->header_left;
    p->header_left -= size < p->header_left ? size : p->header_left;
    if (p->field == MIME_KNOWN_NONE)
        return;

    struct mime_part *part = top(p)->part;
    if (p->field == MIME_KNOWN_MIME_VERSION || p->field == MIME_KNOWN_CONTENT_TYPE)
        part->flags |= MIME_PART_IS_MIME;
    if (p->field == MIME_KNOWN_CONTENT_TYPE && !p->has_type) {
        take_content_type(p, value);
        return;
    }
    if (part->data == NULL)
        return;
    if (p->field >= MIME_KNOWN_DATE)
        mime_envelope_add(&p->envelope, p->arena, p->field, value, &p->budget.addresses_left);
    else
        mime_data_add(p->arena, part->data, p->field, value, &p->budget);
}

/* Which fields of this part are worth keeping? */
static enum mime_known wanted(const struct mime_parser *p, struct slice name)
{
    enum mime_known known = mime_known_of(name);

    if (known == MIME_KNOWN_MIME_VERSION || known == MIME_KNOWN_CONTENT_TYPE)
        return known;
    if ((p->flags & MIME_PARSE_DATA) == 0 || (known >= MIME_KNOWN_DATE && p->envelope.envelope == NULL))
        return MIME_KNOWN_NONE;
    return known;
}

/* A header line or a piece of one. Only wanted values are copied, and only as far as the budgets go. */
static void take_header_line(struct mime_parser *p, const unsigned char *to)
{
    const unsigned char *at = p->window.at;
    size_t size = (size_t)(to - at);
    uint64_t allowed = size < p->budget.headers_left ? size : p->budget.headers_left;

    p->budget.headers_left -= allowed;
    if (p->line_start && !(p->in_field && (*at == ' ' || *at == '\t'))) {
        end_field(p);
        const unsigned char *colon = memchr(at, ':', size);
        p->in_field = true;
        p->field = MIME_KNOWN_NONE;
        p->field_size = 0;
        buffer_reset(&p->value);
        if (colon == NULL)
            return;
        struct slice name = slice_of(at, (size_t)(colon - at));
        const unsigned char *nul = memchr(at, '\0', name.size);
        if (nul != NULL)
            name.size = (size_t)(nul - at);
        while (name.size > 0 && (name.at[name.size - 1] == ' ' || name.at[name.size - 1] == '\t'))
            name.size--;
        p->field = wanted(p, name);
        at = colon + 1;
        if (at < to && (*at == ' ' || *at == '\t') && p->field == MIME_KNOWN_NONE)
            at++;
        size = (size_t)(to - at);
    }
    if (p->field == MIME_KNOWN_NONE) {
        p->field_size += size;
        if (size > 0 && to[-1] == '\n')
            p->field_size--;
        return;
    }
    if (size > allowed)
        size = (size_t)allowed;
    if (p->value.size < p->header_left + 16)
        buffer_append(&p->value, at, size < p->header_left + 16 - p->value.size
                                         ? size : (size_t)(p->header_left + 16 - p->value.size));
}

/* ---- ends of headers and parts ------------------------------------------------------------------------------ */

static bool starts_with_boundary(struct slice line, struct slice boundary)
{
    return line.size >= boundary.size && memcmp(line.at, boundary.at, boundary.size) == 0;
}

/* Which open part's boundary is this line (without its line break)? Its index in the stack, or -1. *closing: the
 * line ends that multipart. */
static ptrdiff_t match_boundary(const struct mime_parser *p, struct slice line, bool *closing)
{
    ptrdiff_t best = -1;
    size_t size = 0;

    if (p->boundaries == 0 || line.size < 2 || line.at[0] != '-' || line.at[1] != '-')
        return -1;
    bool lf = line.at[line.size - 1] == '\n';
    line.size -= lf;
    if (line.at[line.size - 1] == '\r')
        line.size--;
    for (size_t i = p->open.count; i-- > 0;) {
        struct slice b = p->open.at[i].boundary;
        if (b.at == NULL || (best >= 0 && b.size <= size) || !starts_with_boundary(line, b))
            continue;
        best = (ptrdiff_t)i;
        size = b.size;
        *closing = line.size >= size + 2 && line.at[size] == '-' && line.at[size + 1] == '-';
        if (line.size == size || (*closing && line.size == size + 2 && lf))
            break;
    }
    return best;
}

/* A container too deep, or a message when no part may follow, is not looked into. */
static void cut_container(const struct mime_parser *p, struct mime_part *part)
{
    uint32_t containers = MIME_PART_MULTIPART | MIME_PART_DIGEST | MIME_PART_MESSAGE;

    if ((part->flags & containers) == 0)
        return;
    if (p->open.count < p->limits.depth) {
        if (p->parts < p->limits.parts)
            return;
        containers = MIME_PART_MESSAGE;
    }
    if ((part->flags & containers) != 0) {
        part->flags &= ~containers;
        part->flags |= MIME_PART_CUT;
    }
}

/* The header of the top part ended at `end`: what is it? */
static void end_header(struct mime_parser *p, const struct mime_place *end)
{
    end_field(p);
    struct open *o = top(p);
    struct mime_part *part = o->part;

    o->body = *end;
    part->header = between(&o->begin, end);
    p->state = IN_BODY;
    p->floor = *end;
    p->fresh = true;
    if (!p->has_type) {
        bool digest = part->parent != NULL && (part->parent->flags & MIME_PART_DIGEST) != 0;
        part->flags |= digest ? MIME_PART_MESSAGE : MIME_PART_TEXT;
    }
    if (part->data != NULL && (part->flags & MIME_PART_IS_MIME) == 0)
        mime_data_forget_content(part->data);
    cut_container(p, part);
    bool last = p->parts >= p->limits.parts;
    if ((part->flags & MIME_PART_MULTIPART) != 0 && p->part_boundary.at != NULL && !last) {
        struct buffer b = {0};
        buffer_append_str(&b, "--");
        buffer_append_slice(&b, slice_head(p->part_boundary, BOUNDARY_MAX));
        o->boundary = arena_slice(p->arena, buffer_slice(&b));
        buffer_free(&b);
        p->boundaries++;
    }
}

/* What a message/rfc822 holds when nothing follows its header: an empty message. */
static void add_empty_message(struct mime_parser *p, const struct mime_place *at)
{
    while (p->fresh && (top(p)->part->flags & MIME_PART_MESSAGE) != 0) {
        begin_part(p, at);
        end_header(p, at);
    }
}

/* The part at the top has no body and a boundary follows: the line break before the boundary is taken off its
 * header. */
static void cut_header(struct mime_parser *p)
{
    struct open *o = top(p);
    struct mime_place end = p->before.physical < o->begin.physical ? o->begin : p->before;
    size_t level = p->open.count - 1;

    if (p->state == IN_HEADER)
        end_header(p, &end);
    o = top(p);
    o->part->header = between(&o->begin, &end);
    o->body = end;
    add_empty_message(p, &end);
    while (p->open.count > level)
        close_top(p, &end);
}

/* A boundary line of the open part `level` ends at `to`. */
static void take_boundary(struct mime_parser *p, size_t level, bool closing, const unsigned char *to, bool lf)
{
    struct mime_place end = p->here;       /* parts around a cut header keep the line break */

    if (p->open.count > level + 1) {
        if (p->state == IN_HEADER || p->fresh)
            cut_header(p);
        else if (p->here.physical != p->floor.physical)
            end = p->before;
    }
    while (p->open.count > level + 1)
        close_top(p, &end);
    p->state = IN_BODY;
    p->fresh = false;
    advance(p, to, lf);
    p->floor = p->here;
    if (closing) {
        p->open.at[level].boundary = SLICE_EMPTY;
        p->boundaries--;
    } else if (lf) {
        begin_part(p, &p->here);
    }
}

/* ---- the loop ----------------------------------------------------------------------------------------------- */

/* At the start of a line: takes it if it is a boundary. 1: taken, 0: not, -1: error. */
static int try_boundary(struct mime_parser *p, struct error *e)
{
    const unsigned char *to;
    bool lf, closing = false;

    if (!p->line_start || p->boundaries == 0 || *p->window.at != '-')
        return 0;
    if (find_line(p, &to, &lf, e) < 0)
        return -1;
    ptrdiff_t level = match_boundary(p, slice_of(p->window.at, (size_t)(to - p->window.at)), &closing);
    if (level < 0)
        return 0;
    take_boundary(p, (size_t)level, closing, to, lf);
    return 1;
}

static int step_header(struct mime_parser *p, struct error *e)
{
    const unsigned char *to;
    bool lf;

    int taken = try_boundary(p, e);
    if (taken != 0)
        return taken < 0 ? -1 : 0;
    if (find_line(p, &to, &lf, e) < 0)
        return -1;
    size_t size = (size_t)(to - p->window.at);
    bool empty = p->line_start && lf && (size == 1 || (size == 2 && to[-2] == '\r'));
    if (!empty)
        take_header_line(p, to);
    advance(p, to, lf);
    if (empty)
        end_header(p, &p->here);
    return 0;
}

static int step_body(struct mime_parser *p, uint64_t stop, struct error *e)
{
    struct mime_window *w = &p->window;

    int taken = try_boundary(p, e);
    if (taken != 0)
        return taken < 0 ? -1 : 0;
    if (p->fresh && (top(p)->part->flags & MIME_PART_MESSAGE) != 0) {
        begin_part(p, &p->here);
        p->fresh = false;
        return 0;
    }
    p->fresh = false;
    /* All lines at hand in which no boundary can be. */
    struct slice text = slice_of(w->at, (size_t)(w->end - w->at));
    struct text_lines lines = text_lines(slice_head(text, stop - p->here.physical), p->cr, p->boundaries > 0 ? '-' : -1);
    if (lines.size > 0) {
        take_lines(p, &lines);
        return 0;
    }
    ptrdiff_t lf = slice_find(text, '\n');
    if (lf >= 0)
        advance(p, w->at + lf + 1, true);
    else if (w->eof || text.size >= MIME_WINDOW_SIZE)
        advance(p, w->end, false);
    else if (fill(p, MIME_WINDOW_SIZE, e) < 0)
        return -1;
    return 0;
}

static void finish(struct mime_parser *p)
{
    if (p->state == IN_HEADER)
        end_header(p, &p->here);
    add_empty_message(p, &p->here);
    while (p->open.count > 0)
        close_top(p, &p->here);
    p->state = FINISHED;
}

struct mime_parser *mime_parser_new(struct arena *arena, const struct mime_source *source,
                                    const struct mime_limits *limits, unsigned flags)
{
    struct mime_parser *p = ARENA_NEW(arena, struct mime_parser);

    p->arena = arena;
    p->limits = limits == NULL ? mime_limits_default : *limits;
    p->flags = flags;
    p->budget = mime_budget_of(&p->limits);
    p->line_start = true;
    mime_window_init(&p->window, source, 0);
    begin_part(p, &p->here);
    return p;
}

enum step mime_parser_step(struct mime_parser *p, size_t budget, struct error *e)
{
    uint64_t stop = budget > UINT64_MAX - p->here.physical ? UINT64_MAX : p->here.physical + budget;

    while (p->state != FINISHED) {
        if (p->here.physical >= stop)
            return STEP_MORE;
        if (p->window.at == p->window.end || p->nul == NULL) {
            if (fill(p, 1, e) < 0)
                return STEP_ERROR;
            if (p->window.at == p->window.end) {
                finish(p);
                break;
            }
        }
        if ((p->state == IN_HEADER ? step_header(p, e) : step_body(p, stop, e)) < 0)
            return STEP_ERROR;
    }
    return STEP_DONE;
}

struct mime_part *mime_parser_root(struct mime_parser *p)
{
    return p->state == FINISHED ? p->root : NULL;
}

void mime_parser_free(struct mime_parser *p)
{
    if (p == NULL)
        return;
    mime_window_free(&p->window);
    buffer_free(&p->value);
    VEC_FREE(&p->open);
}

/* NIL: the window does not hold the mail from its first byte on any more. */
static struct slice header_at_hand(const struct mime_parser *p)
{
    const struct mime_window *w = &p->window;

    if (w->buf == NULL || w->offset != (uint64_t)(w->at - w->buf))
        return SLICE_EMPTY;
    return arena_slice(p->arena, slice_of(w->buf, (size_t)p->root->header.physical));
}

int mime_parse_and_header(struct arena *arena, const struct mime_source *source, unsigned flags, struct mime_part **root,
                          struct slice *header, struct error *e)
{
    struct mime_parser *p = mime_parser_new(arena, source, NULL, flags);
    enum step step;

    do
        step = mime_parser_step(p, SIZE_MAX, e);
    while (step == STEP_MORE);
    if (step == STEP_DONE)
        *root = mime_parser_root(p);
    if (step == STEP_DONE && header != NULL)
        *header = header_at_hand(p);
    mime_parser_free(p);
    return step == STEP_DONE ? 0 : -1;
}

int mime_parse(struct arena *arena, const struct mime_source *source, unsigned flags, struct mime_part **root, struct error *e)
{
    return mime_parse_and_header(arena, source, flags, root, NULL, e);
}
