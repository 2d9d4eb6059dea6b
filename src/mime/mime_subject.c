/* Base subject (RFC 5256 section 2.1 as imap 11.6 has it), for SORT and THREAD, and message-ids for threading.
 *
 * Each round looks only at the ends of what is left and moves them inwards, so the whole is linear. */
#include "mime/mime_internal.h"

struct cutter {
    struct slice s;
    bool reply;
};

/* Normalised, white space runs as one space. Spaces at the end go; one in front may stay (step 3 removes it). */
static struct slice prepare(struct arena *arena, struct slice subject)
{
    struct buffer folded = {0};
    size_t to = 0;
    bool space = false;

    mime_words_fold(&folded, subject);
    for (size_t i = 0; i < folded.size; i++) {
        unsigned char c = folded.at[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            space = true;
            continue;
        }
        if (space)
            folded.at[to++] = ' ';
        space = false;
        folded.at[to++] = c;
    }
    folded.size = to;
    struct slice kept = mime_keep(arena, buffer_slice(&folded));
    buffer_free(&folded);
    return kept;
}

static void cut_trailers(struct cutter *c)
{
    for (;;) {
        if (c->s.size > 0 && c->s.at[c->s.size - 1] == ' ') {
            c->s.size--;
        } else if (slice_ends(c->s, SLICE("(FWD)"))) {
            c->s.size -= 5;
            c->reply = true;
        } else {
            return;
        }
    }
}

/* "[...]" without brackets inside, and one space behind it; 0 if there is none at `from`. */
static size_t blob_size(struct slice s)
{
    if (s.size == 0 || s.at[0] != '[')
        return 0;
    for (size_t i = 1; i < s.size; i++) {
        if (s.at[i] == '[')
            return 0;
        if (s.at[i] == ']')
            return i + 1 < s.size && s.at[i + 1] == ' ' ? i + 2 : i + 1;
    }
    return 0;
}

/* Blobs, then RE, FW or FWD, a space, a blob, ":". Keeps everything when the mark is not there. */
static bool cut_leader(struct cutter *c)
{
    struct slice s = c->s;
    bool space = s.size > 0 && s.at[0] == ' ';
    size_t n;

    if (space)
        s = slice_from(s, 1);
    c->s = s;
    while ((n = blob_size(s)) > 0)
        s = slice_from(s, n);
    if (slice_starts(s, SLICE("FWD")))
        s = slice_from(s, 3);
    else if (slice_starts(s, SLICE("RE")) || slice_starts(s, SLICE("FW")))
        s = slice_from(s, 2);
    else
        return space;
    if (s.size > 0 && s.at[0] == ' ')
        s = slice_from(s, 1);
    s = slice_from(s, blob_size(s));
    if (s.size == 0 || s.at[0] != ':')
        return space;
    c->s = slice_from(s, 1);
    c->reply = true;
    return true;
}

static bool cut_blob(struct cutter *c)
{
    size_t n = blob_size(c->s);
    if (n == 0 || n >= c->s.size)
        return false;
    c->s = slice_from(c->s, n);
    return true;
}

struct slice mime_base_subject(struct arena *arena, struct slice subject, bool *reply)
{
    struct cutter c = {prepare(arena, subject), false};

    for (;;) {
        cut_trailers(&c);
        bool changed;
        do {
            changed = cut_leader(&c);
            while (cut_blob(&c))           /* all at once: each leader scan walks over all of them */
                changed = true;
        } while (changed);
        if (!slice_starts(c.s, SLICE("[FWD:")) || !slice_ends(c.s, SLICE("]")))
            break;
        c.s = slice_from(slice_head(c.s, c.s.size - 1), 5);
        c.reply = true;
    }
    *reply = c.reply;
    if (c.s.at == NULL)
        c.s = slice_of("", 0);
    return c.s;
}

/* ---- message-ids -------------------------------------------------------------------------------------------- */

/* What stands between the brackets when there is nothing to parse in it, without white space. */
static void put_plain_id(struct buffer *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (memchr(" \t\r\n", text.at[i], 4) == NULL)
            buffer_append_byte(out, text.at[i]);
}

/* With quotes, comments or an address literal in it. *next: where to go on. */
static bool parse_id(struct buffer *out, const unsigned char *open, const unsigned char *end, const unsigned char **next)
{
    struct mime_lex l = {open + 1, end, NULL};
    bool found = false;
    int more = mime_lex_space(&l);

    if (more > 0)
        more = *l.at == '"' ? mime_lex_quoted(&l, out) : mime_lex_local(&l, out);
    if (more > 0 && *l.at == '@') {
        buffer_append_byte(out, '@');
        more = mime_lex_domain(&l, out);
        found = more > 0 && *l.at == '>';
    }
    /* Behind the id, or behind the '<' that began none. An unfinished comment or string ate the rest. */
    *next = found ? l.at + 1 : l.at > open ? l.at : open + 1;
    return found;
}

bool mime_message_id_next(struct arena *arena, struct slice *rest, struct slice *id)
{
    const unsigned char *at = rest->at, *end = at + rest->size, *mark = at;
    struct buffer b = {0};
    bool found = false;

    while (!found && at < end && (at = memchr(at, '<', (size_t)(end - at))) != NULL) {
        mark = mark > at ? mark : at + 1;  /* of the '<' before: looked for once, however many there are */
        while (mark < end && *mark != '>' && *mark != '"' && *mark != '(' && *mark != '[')
            mark++;
        if (mark == end)
            break;
        buffer_reset(&b);
        if (*mark == '>') {
            struct slice text = slice_of(at + 1, (size_t)(mark - at - 1));
            at = mark + 1;
            found = slice_find(text, '@') >= 0;
            if (found)
                put_plain_id(&b, text);
        } else {
            found = parse_id(&b, at, end, &at);
        }
    }
    *rest = found ? slice_of(at, (size_t)(end - at)) : SLICE_EMPTY;
    if (found)
        *id = mime_keep(arena, buffer_slice(&b));
    buffer_free(&b);
    return found;
}
