/* Sections of a mail: which bytes BODY[1.2.HEADER] means (imap 10.3, RFC 3501 section 6.4.5), and reading them as
 * IMAP shows them: CRLF line ends, NUL -> 0x80, in chunks, with the exact size known before.
 *
 * Sizes of parts come from the tree. A partial range begins at a virtual offset, which in LF-stored mail must be
 * searched for; where physical and virtual size are equal it is computed, and otherwise the hint of an earlier read
 * saves the scan. A mail that is shorter than its tree says is reported, never padded. */
#include "base/text.h"
#include "mime/mime_internal.h"

/* ---- which part --------------------------------------------------------------------------------------------- */

static bool take_word(struct slice *text, const char *word)
{
    if (!slice_equal_str_nocase(*text, word))
        return false;
    *text = SLICE_EMPTY;
    return true;
}

int mime_section_parse(struct arena *arena, struct slice text, struct mime_section *section, struct error *e)
{
    VEC(uint32_t) numbers = {0};
    bool good = true;

    *section = (struct mime_section){0};
    while (good && text.size > 0 && text.at[0] >= '0' && text.at[0] <= '9') {
        uint32_t n = 0;
        size_t i = 0;
        for (; i < text.size && text.at[i] >= '0' && text.at[i] <= '9'; i++)
            n = n > 100000000 ? n : n * 10 + (uint32_t)(text.at[i] - '0');
        VEC_PUSH(&numbers, n);
        text = slice_from(text, i);
        if (text.size == 0)
            break;
        good = text.at[0] == '.' && text.size > 1;
        text = slice_from(text, 1);
    }
    if (good && text.size > 0) {
        if (take_word(&text, "HEADER"))
            section->what = MIME_SECTION_HEADER;
        else if (take_word(&text, "TEXT"))
            section->what = MIME_SECTION_TEXT;
        else if (take_word(&text, "HEADER.FIELDS"))
            section->what = MIME_SECTION_FIELDS;
        else if (take_word(&text, "HEADER.FIELDS.NOT"))
            section->what = MIME_SECTION_FIELDS_NOT;
        else if (numbers.count > 0 && take_word(&text, "MIME"))
            section->what = MIME_SECTION_MIME;
        else
            good = false;
    }
    if (good && numbers.count > 0) {
        section->numbers = ARENA_ARRAY(arena, uint32_t, numbers.count);
        memcpy(section->numbers, numbers.at, numbers.count * sizeof(uint32_t));
        section->depth = numbers.count;
    }
    VEC_FREE(&numbers);
    return good ? 0 : error_set(e, ERROR_INVALID, "Invalid BODY[..] section");
}

bool mime_section_needs_tree(const struct mime_section *section)
{
    return section->depth > 0;
}

/* Of a part that is no multipart, number 1 is the part itself, once; a message/rfc822 part is entered by the number
 * behind its own. */
struct mime_part *mime_section_part(struct mime_part *root, const struct mime_section *section, bool *whole)
{
    struct mime_part *part = root;
    bool itself = false;

    *whole = section->depth == 0;
    for (size_t i = 0; i < section->depth && part != NULL; i++) {
        uint32_t n = section->numbers[i];
        if (i > 0 && (part->flags & MIME_PART_MESSAGE) != 0 && part->children != NULL) {
            part = part->children;
            itself = false;
        }
        if ((part->flags & MIME_PART_MULTIPART) != 0) {
            for (part = part->children; part != NULL && n > 1; n--)
                part = part->next;
            itself = false;
        } else if (n != 1 || itself) {
            return NULL;
        } else {
            itself = true;
        }
    }
    return part;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

struct mime_reader {
    struct mime_window window;
    struct slice text;         /* bytes at hand, already as shown (HEADER.FIELDS), instead of the window */
    bool in_memory;
    uint64_t end;              /* physical end of the range */
    uint64_t size, left;       /* virtual bytes in all, still to give */
    uint64_t at;               /* virtual place in the range */
    bool cr;                   /* the byte before is a CR */
    bool owe_lf;               /* a CR was made up, its LF comes next */
    bool straight;             /* physical == virtual: no CR is missing */
    struct mime_hint *hint;
    uint64_t begin;
};

static int corrupt(struct error *e)
{
    return error_set(e, ERROR_CORRUPT, "Cached message size larger than expected");
}

/* Turns bytes of the window into shown bytes. Returns how many were made; at most `room`. */
static size_t convert(struct mime_reader *r, unsigned char *out, size_t room)
{
    struct mime_window *w = &r->window;
    size_t have = (size_t)(w->end - w->at), made = 0;

    if (have > r->end - w->offset)
        have = (size_t)(r->end - w->offset);
    const unsigned char *p = w->at, *end = w->at + have;
    if (!r->straight && !r->owe_lf) {
        size_t used;
        made = text_put_crlf(out, room, slice_of(p, have), &r->cr, &used);
        p += used;
    }
    while (made < room && (p < end || r->owe_lf)) {
        if (r->owe_lf) {
            out[made++] = '\n';
            r->owe_lf = false;
            r->cr = false;
            p++;
            continue;
        }
        const unsigned char *lf = r->straight ? NULL : memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((lf == NULL ? end : lf) - p);
        if (n > room - made)
            n = room - made;
        if (n > 0) {
            memcpy(out + made, p, n);
            r->cr = p[n - 1] == '\r';
            p += n;
            made += n;
        } else if (r->cr) {
            out[made++] = '\n';
            r->cr = false;
            p++;
        } else {
            out[made++] = '\r';
            r->owe_lf = true;
        }
    }
    w->offset += (uint64_t)(p - w->at);
    w->at = p;
    return made;
}

static void hide_nuls(unsigned char *at, size_t size)
{
    unsigned char *nul;
    while (size > 0 && (nul = memchr(at, '\0', size)) != NULL) {
        *nul = 0x80;
        size -= (size_t)(nul + 1 - at);
        at = nul + 1;
    }
}

static ssize_t read_shown(struct mime_reader *r, unsigned char *out, size_t room, struct error *e)
{
    size_t made = 0;

    while (made < room) {
        if (r->window.at == r->window.end && !r->owe_lf) {
            if (mime_window_fill(&r->window, 1, e) < 0)
                return -1;
        }
        size_t n = convert(r, out + made, room - made);
        if (n == 0)
            break;
        made += n;
    }
    return (ssize_t)made;
}

/* Moves to the virtual offset `from` of the range. */
static int seek(struct mime_reader *r, uint64_t from, struct error *e)
{
    unsigned char trash[4096];

    if (r->straight) {
        mime_window_init(&r->window, r->window.source, r->begin + from);
        r->at = from;
        return 0;
    }
    struct mime_hint *hint = r->hint;
    if (hint != NULL && hint->begin == r->begin && hint->virtual <= from && hint->physical >= r->begin &&
        hint->physical <= r->end) {
        mime_window_init(&r->window, r->window.source, hint->physical);
        r->at = hint->virtual;
        r->cr = hint->physical > r->begin && hint->after_cr;
    }
    while (r->at < from) {
        size_t n = from - r->at < sizeof(trash) ? (size_t)(from - r->at) : sizeof(trash);
        ssize_t got = read_shown(r, trash, n, e);
        if (got < 0)
            return -1;
        if (got == 0)
            return corrupt(e);
        r->at += (uint64_t)got;
    }
    return 0;
}

static uint64_t clip(uint64_t size, uint64_t from, uint64_t count)
{
    if (from >= size)
        return 0;
    return size - from < count ? size - from : count;
}

int mime_reader_open(struct arena *arena, const struct mime_source *source, uint64_t offset, uint64_t physical,
                     uint64_t virtual, uint64_t from, uint64_t count, struct mime_hint *hint,
                     struct mime_reader **reader, struct error *e)
{
    struct mime_reader *r = ARENA_NEW(arena, struct mime_reader);
    struct mime_size counted;

    if (virtual == UINT64_MAX) {
        if (mime_range_sizes(source, offset, physical, &counted, e) < 0)
            return -1;
        virtual = counted.virtual;
    }
    mime_window_init(&r->window, source, offset);
    r->begin = offset;
    r->end = physical > UINT64_MAX - offset ? UINT64_MAX : offset + physical;
    r->straight = physical == virtual;
    r->size = r->left = clip(virtual, from, count);
    r->hint = hint;
    if (r->left > 0 && from > 0 && seek(r, from, e) < 0) {
        mime_window_free(&r->window);
        return -1;
    }
    *reader = r;
    return 0;
}

static void open_text(struct arena *arena, struct slice text, uint64_t from, uint64_t count,
                      struct mime_reader **reader)
{
    struct mime_reader *r = ARENA_NEW(arena, struct mime_reader);

    r->in_memory = true;
    r->size = r->left = clip(text.size, from, count);
    r->text = r->left == 0 ? SLICE_EMPTY : slice_head(slice_from(text, (size_t)from), (size_t)r->left);
    *reader = r;
}

/* The end of the mail's header: only for sections that need no tree. */
static int scan_header(const struct mime_source *source, uint64_t *size, struct error *e)
{
    struct mime_window w;
    bool start = true;

    mime_window_init(&w, source, 0);
    for (;;) {
        if (mime_window_fill(&w, MIME_WINDOW_SIZE, e) < 0) {
            mime_window_free(&w);
            return -1;
        }
        if (w.at == w.end)
            break;
        size_t n = (size_t)(w.end - w.at);
        if (start && (w.at[0] == '\n' || (n > 1 && w.at[0] == '\r' && w.at[1] == '\n'))) {
            w.offset += w.at[0] == '\n' ? 1 : 2;
            break;
        }
        const unsigned char *lf = memchr(w.at, '\n', n);
        start = lf != NULL;
        size_t step = lf == NULL ? n : (size_t)(lf + 1 - w.at);
        w.at += step;
        w.offset += step;
    }
    *size = w.offset;
    mime_window_free(&w);
    return 0;
}

static int open_fields(struct arena *arena, const struct mime_source *source, const struct mime_part *part,
                       const struct mime_section *section, uint64_t from, uint64_t count, struct mime_reader **reader,
                       struct error *e)
{
    struct slice block;
    struct buffer out = {0};

    if (mime_header_read(arena, source, part, &block, e) < 0)
        return -1;
    struct mime_names *names = mime_names_new(arena, section->names, section->names_count);
    mime_header_filter(&out, block, names, section->what == MIME_SECTION_FIELDS_NOT);
    open_text(arena, arena_slice(arena, buffer_slice(&out)), from, count, reader);
    buffer_free(&out);
    return 0;
}

int mime_section_open(struct arena *arena, const struct mime_source *source, struct mime_part *root,
                      const struct mime_section *section, uint64_t from, uint64_t count, struct mime_hint *hint,
                      struct mime_reader **reader, struct error *e)
{
    bool whole, fields = section->what == MIME_SECTION_FIELDS || section->what == MIME_SECTION_FIELDS_NOT;

    if (root == NULL && section->depth == 0) {
        uint64_t header = 0;
        if (fields)
            return open_fields(arena, source, NULL, section, from, count, reader, e);
        if (section->what != MIME_SECTION_ALL && scan_header(source, &header, e) < 0)
            return -1;
        bool header_only = section->what == MIME_SECTION_HEADER;
        return mime_reader_open(arena, source, header_only ? 0 : header, header_only ? header : UINT64_MAX - header,
                                UINT64_MAX, from, count, hint, reader, e);
    }

    struct mime_part *part = root == NULL ? NULL : mime_section_part(root, section, &whole);
    bool inside = section->depth > 0 && section->what != MIME_SECTION_ALL && section->what != MIME_SECTION_MIME;

    if (part != NULL && inside)
        /* n.HEADER and n.TEXT speak of the message in a message/rfc822 part. */
        part = (part->flags & MIME_PART_MESSAGE) != 0 ? part->children : NULL;
    if (part == NULL) {
        open_text(arena, SLICE_EMPTY, from, count, reader);
        return 0;
    }
    if (fields && !(inside && part->header.physical == 0))
        return open_fields(arena, source, part, section, from, count, reader, e);
    if (fields) {
        open_text(arena, SLICE_EMPTY, from, count, reader);
        return 0;
    }

    uint64_t offset = part->offset;
    struct mime_size size = part->header;
    if (section->what == MIME_SECTION_TEXT || (section->what == MIME_SECTION_ALL && !whole)) {
        offset += part->header.physical;
        size = part->body;
    } else if (section->what == MIME_SECTION_ALL) {
        size = mime_part_total(part);
    }
    return mime_reader_open(arena, source, offset, size.physical, size.virtual, from, count, hint, reader, e);
}

uint64_t mime_reader_size(const struct mime_reader *r)
{
    return r->size;
}

void mime_reader_free(struct mime_reader *r)
{
    if (r != NULL)
        mime_window_free(&r->window);
}

ssize_t mime_reader_read(struct mime_reader *r, void *buf, size_t size, struct error *e)
{
    if (size > r->left)
        size = (size_t)r->left;
    if (size == 0)
        return 0;
    if (r->in_memory) {
        memcpy(buf, r->text.at, size);
        r->text = slice_from(r->text, size);
        r->left -= size;
        return (ssize_t)size;
    }
    ssize_t got = read_shown(r, buf, size, e);
    if (got < 0)
        return -1;
    if (got == 0)
        return corrupt(e);
    hide_nuls(buf, (size_t)got);
    r->left -= (uint64_t)got;
    r->at += (uint64_t)got;
    if (r->hint != NULL && !r->straight && !r->owe_lf)
        *r->hint = (struct mime_hint){r->begin, r->window.offset, r->at, r->cr};
    return got;
}
