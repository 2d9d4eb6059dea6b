/* parser.c - tokens of IMAP.
 *
 * The texts are those of imap 2; their order of precedence is the order in which the bytes come. */
#include "imap/parser.h"

enum { LITERAL_MINUS_MAX = 4096 };

void imap_parser_init(struct imap_parser *p, struct arena *arena, size_t max, unsigned flags, unsigned want)
{
    *p = (struct imap_parser){.arena = arena, .max = max, .flags = flags, .want = want};
    p->tail[0] = &p->args;
}

static enum imap_parse bad(struct imap_parser *p, const char *problem)
{
    p->problem = problem;
    return IMAP_PARSE_BAD;
}

static struct imap_arg *add_arg(struct imap_parser *p, enum imap_arg_type type, struct slice text)
{
    struct imap_arg *a = ARENA_NEW(p->arena, struct imap_arg);

    a->type = type;
    a->text = text;
    *p->tail[p->depth] = a;
    p->tail[p->depth] = &a->next;
    if (p->depth == 0)
        p->count++;
    p->items++;
    p->scanned = 0;
    return a;
}

static bool ends_atom(unsigned char c)
{
    return c == ' ' || c == ')' || c == '\r' || c == '\n';
}

/* An atom; the first byte may be anything that begins no other token. */
static enum imap_parse read_atom(struct imap_parser *p, struct slice in, size_t *used)
{
    size_t i = p->scanned;

    for (; i < in.size && !ends_atom(in.at[i]); i++) {
        unsigned char c = in.at[i];

        if (c >= 0x80)
            return bad(p, "8bit data in atom");
        if (c < ' ' || c == 0x7f || c == '(' || c == '{' || c == '"')
            return bad(p, "Invalid characters in atom");
    }
    if (i > p->max)
        return bad(p, "Too long argument");
    if (i == in.size) {
        p->scanned = i;
        return IMAP_PARSE_MORE;
    }
    struct slice text = arena_slice(p->arena, slice_head(in, i));
    add_arg(p, slice_equal_str_nocase(text, "NIL") ? IMAP_NIL : IMAP_ATOM, text);
    *used += i;
    if (in.at[i] == ')' && p->depth == 0) /* belongs to the atom: also the last one that is wanted is bad */
        return bad(p, "Unexpected ')'");
    return IMAP_PARSE_DONE;
}

static enum imap_parse read_quoted(struct imap_parser *p, struct slice in, size_t *used)
{
    size_t i = p->scanned > 0 ? p->scanned : 1, n = 0;
    unsigned char *text;

    for (; i < in.size && in.at[i] != '"'; i++) {
        if (in.at[i] == '\\') {
            if (i + 1 == in.size)
                break;
            i++;
        }
        if (in.at[i] == '\r' || in.at[i] == '\n')
            return bad(p, "Missing '\"'");
        if (in.at[i] == '\0')
            return bad(p, "NULs not allowed in strings");
    }
    if (i > p->max)
        return bad(p, "Too long argument");
    if (i >= in.size || in.at[i] != '"') {
        p->scanned = i;
        return IMAP_PARSE_MORE;
    }
    text = arena_alloc(p->arena, i);
    for (size_t k = 1; k < i; k++) {
        if (in.at[k] == '\\')
            k++;
        text[n++] = in.at[k];
    }
    add_arg(p, IMAP_QUOTED, slice_of(text, n));
    *used += i + 1;
    return IMAP_PARSE_DONE;
}

const char *imap_parser_reason(const struct imap_parser *p)
{
    const char *end = p->problem[0] == '[' ? strchr(p->problem, ']') : NULL;

    return end == NULL ? p->problem : end + 2;
}

/* "{n}" or "{n+}", at[0] is the brace. */
static enum imap_parse read_literal_size(struct imap_parser *p, struct slice in, size_t *used)
{
    uint64_t size = 0;
    size_t i = 1;

    p->literal_plus = false;
    for (; i < in.size && in.at[i] >= '0' && in.at[i] <= '9'; i++) {
        unsigned digit = in.at[i] - '0';

        if (size > (UINT64_MAX / 2 - digit) / 10) {
            p->problem = "Literal size too large"; /* who has announced it will send it: nothing behind it is a command */
            return IMAP_PARSE_BYE;
        }
        if (i == 32) /* zeros without end: the same answer in whatever pieces they come */
            return bad(p, "Invalid literal size");
        size = size * 10 + digit;
    }
    if (i == in.size)
        return IMAP_PARSE_MORE;
    if (i == 1) {
        *used += 1;
        return bad(p, "Invalid literal size");
    }
    if (in.at[i] == '+') {
        p->literal_plus = true;
        if (++i == in.size)
            return IMAP_PARSE_MORE;
        if (in.at[i] != '}') {
            *used += i;
            return bad(p, "Expecting '}' after '+'");
        }
    }
    if (in.at[i] != '}') {
        *used += 1;
        return bad(p, "Invalid literal size");
    }
    *used += i + 1;
    p->literal_size = size;
    p->at = IMAP_AT_LITERAL_LF;
    if (p->literal_plus && (p->flags & IMAP_PARSER_LITERAL_MINUS) != 0 && size > LITERAL_MINUS_MAX) {
        p->problem = "[TOOBIG] Non-synchronizing literal size too large";
        return IMAP_PARSE_BYE;
    }
    if ((p->flags & IMAP_PARSER_MESSAGE) != 0)
        return IMAP_PARSE_DONE;
    if (p->total > p->max || size > p->max - p->total) {
        p->problem = "Literal size too large";
        return IMAP_PARSE_BYE;
    }
    p->say_go_on = !p->literal_plus; /* at once, as Dovecot does: before the line end is looked at */
    return IMAP_PARSE_DONE;
}

static enum imap_parse read_literal_lf(struct imap_parser *p, struct slice in, size_t *used)
{
    size_t i = 0;

    if (in.size > 0 && in.at[0] == '\r')
        i = 1;
    if (i == in.size)
        return IMAP_PARSE_MORE;
    if (in.at[i] != '\n')
        return bad(p, "Missing LF after literal size");
    *used += i + 1;
    if ((p->flags & IMAP_PARSER_MESSAGE) != 0) {
        p->at = IMAP_AT_TOKEN;
        return IMAP_PARSE_MESSAGE;
    }
    p->literal = arena_alloc(p->arena, (size_t)p->literal_size + 1);
    p->literal_have = 0;
    p->at = IMAP_AT_LITERAL;
    return IMAP_PARSE_DONE;
}

static enum imap_parse read_literal(struct imap_parser *p, struct slice in, size_t *used)
{
    size_t n = (size_t)p->literal_size - p->literal_have;

    if (n > in.size)
        n = in.size;
    if (n > 0)
        memcpy(p->literal + p->literal_have, in.at, n);
    p->literal_have += n;
    *used += n;
    if (p->literal_have < p->literal_size)
        return IMAP_PARSE_MORE;
    p->at = IMAP_AT_TOKEN;
    if (!p->literal8 && slice_find(slice_of(p->literal, p->literal_have), '\0') >= 0)
        return bad(p, "NULs not allowed in strings");
    add_arg(p, IMAP_LITERAL, slice_of(p->literal, p->literal_have))->literal8 = p->literal8;
    return IMAP_PARSE_DONE;
}

static enum imap_parse open_list(struct imap_parser *p, size_t *used)
{
    struct imap_arg *list;

    if (p->depth == IMAP_LIST_DEPTH)
        return bad(p, "Too many '('");
    list = add_arg(p, IMAP_LIST, SLICE_EMPTY);
    p->depth++;
    p->tail[p->depth] = &list->children;
    *used += 1;
    return IMAP_PARSE_DONE;
}

/* The line end, in front of which only spaces were. DONE with eol, or an error. */
static enum imap_parse read_eol(struct imap_parser *p, struct slice in, size_t *used)
{
    size_t i = in.at[0] == '\r' ? 1 : 0;

    if (i == in.size)
        return IMAP_PARSE_MORE;
    if (in.at[i] != '\n')
        return bad(p, "CR sent without LF");
    if (p->depth > 0)
        return bad(p, "Missing ')'");
    *used += i + 1;
    p->eol = (unsigned char)(i + 1);
    return IMAP_PARSE_DONE;
}

static enum imap_parse read_token(struct imap_parser *p, struct slice in, size_t *used)
{
    switch (in.at[0]) {
    case ' ':
        *used += 1;
        return IMAP_PARSE_DONE;
    case '\r':
    case '\n':
        return read_eol(p, in, used);
    case '(':
        return open_list(p, used);
    case ')':
        if (p->depth == 0)
            return bad(p, "Unexpected ')'");
        p->depth--;
        *used += 1;
        return IMAP_PARSE_DONE;
    case '"':
        return read_quoted(p, in, used);
    case '{':
        p->literal8 = false;
        return read_literal_size(p, in, used);
    case '~':
        if (in.size == 1)
            return IMAP_PARSE_MORE;
        if (in.at[1] == '{') {
            size_t n = 0;
            enum imap_parse got;

            if ((p->flags & IMAP_PARSER_LITERAL8) == 0)
                return bad(p, "literal8 not allowed here");
            p->literal8 = true;
            got = read_literal_size(p, slice_from(in, 1), &n);
            if (n > 0)
                *used += n + 1;
            return got;
        }
        return read_atom(p, in, used);
    default:
        return read_atom(p, in, used);
    }
}

enum imap_parse imap_parser_read(struct imap_parser *p, struct slice in, size_t *used)
{
    *used = 0;
    for (;;) {
        struct slice rest = slice_from(in, *used);
        enum imap_parse got;

        if (p->at == IMAP_AT_TOKEN) {
            if (p->eol || (p->want > 0 && p->count >= p->want && p->depth == 0))
                return IMAP_PARSE_DONE;
            if (p->total > p->max)
                return bad(p, "IMAP command line too large");
            if (p->items > IMAP_ARGS_MAX)
                return bad(p, "Too many arguments");
        }
        size_t before = *used;
        if (p->at == IMAP_AT_LITERAL)
            got = read_literal(p, rest, used);
        else if (rest.size == 0)
            return IMAP_PARSE_MORE;
        else if (p->at == IMAP_AT_LITERAL_LF)
            got = read_literal_lf(p, rest, used);
        else
            got = read_token(p, rest, used);
        p->total += *used - before;
        if (got != IMAP_PARSE_DONE)
            return got;
    }
}

void imap_parser_message_done(struct imap_parser *p)
{
    add_arg(p, IMAP_LITERAL, SLICE_EMPTY)->literal8 = p->literal8;
}

bool imap_parser_gather(struct imap_parser *p)
{
    if (p->literal_size > p->max)
        return false;
    p->say_go_on = !p->literal_plus;
    p->literal = arena_alloc(p->arena, (size_t)p->literal_size + 1);
    p->literal_have = 0;
    p->at = IMAP_AT_LITERAL;
    return true;
}

static bool is_tag_char(unsigned char c)
{
    return c > ' ' && c < 0x7f && strchr("+(){%*\"\\", c) == NULL;
}

static bool is_name_char(unsigned char c)
{
    return c > ' ' && c < 0x7f && strchr("(){%*\"\\]", c) == NULL;
}

/* Tags and names: each piece of a word that comes in has all of it looked at again. */
enum { WORD_MAX = 8192 };

/* A word up to SP, CR or LF. False: it is not complete; one that is too long need not be. */
static bool take_word(struct slice in, size_t max, struct slice *word)
{
    size_t i = 0;

    while (i < in.size && in.at[i] != ' ' && in.at[i] != '\r' && in.at[i] != '\n')
        i++;
    *word = slice_head(in, i);
    return i < in.size || i > max;
}

static bool all_of(struct slice word, bool (*is)(unsigned char))
{
    for (size_t i = 0; i < word.size; i++) {
        if (!is(word.at[i]))
            return false;
    }
    return word.size > 0;
}

enum imap_parse imap_line_read(struct slice in, size_t max, struct imap_line *line, size_t *used)
{
    struct slice rest = in;

    if (max > WORD_MAX)
        max = WORD_MAX;
    *line = (struct imap_line){.problem = "Error in IMAP tag: Invalid tag"};
    *used = 0;
    if (!take_word(rest, max, &line->tag))
        return IMAP_PARSE_MORE;
    if (line->tag.size > max) {
        line->tag = SLICE_EMPTY;
        line->problem = "Error in IMAP tag: Too long argument";
        return IMAP_PARSE_BAD;
    }
    if (!all_of(line->tag, is_tag_char)) {
        line->tag = SLICE_EMPTY;
        return IMAP_PARSE_BAD;
    }
    line->problem = "Error in IMAP command: Invalid command name";
    for (;;) {
        /* exactly one space in front of the name, and between UID and the name behind it */
        size_t at = (size_t)(rest.at - in.at) + (line->uid ? 3 : line->tag.size);

        if (at == in.size)
            return IMAP_PARSE_MORE;
        if (in.at[at] != ' ') {
            *used = at;
            return IMAP_PARSE_BAD;
        }
        rest = slice_from(in, at + 1);
        if (!take_word(rest, max, &line->name))
            return IMAP_PARSE_MORE;
        if (line->name.size > max) {
            line->problem = "Error in IMAP command: Too long argument";
            *used = at;
            return IMAP_PARSE_BAD;
        }
        if (!all_of(line->name, is_name_char)) {
            *used = at;
            return IMAP_PARSE_BAD;
        }
        if (line->uid || !slice_equal_str_nocase(line->name, "UID"))
            break;
        line->uid = true;
    }
    *used = (size_t)(line->name.at - in.at) + line->name.size;
    return IMAP_PARSE_DONE;
}

/* The size of the literal whose "{n+}" ends the line; UINT64_MAX: no number of 64 bits. */
static uint64_t announced(struct slice line)
{
    uint64_t size;
    size_t from;

    if (line.size > 0 && line.at[line.size - 1] == '\r')
        line.size--;
    if (!slice_ends(line, SLICE("+}")))
        return 0;
    line.size -= 2;
    for (from = line.size; from > 0 && line.at[from - 1] >= '0' && line.at[from - 1] <= '9';)
        from--;
    if (from == line.size || from == 0 || line.at[from - 1] != '{')
        return 0;
    return slice_to_u64(slice_from(line, from), &size) ? size : UINT64_MAX;
}

bool imap_skip_line(struct slice in, size_t *used, uint64_t *literal)
{
    enum { TAIL = 48 }; /* of a line that is not whole: what may be the begin of "{n+}"; longer ones are not taken for it */
    ptrdiff_t lf = slice_find(in, '\n');

    *literal = 0;
    if (lf < 0) {
        *used = in.size > TAIL ? in.size - TAIL : 0;
        return false;
    }
    *used = (size_t)lf + 1;
    *literal = announced(slice_head(in, (size_t)lf));
    return true;
}
