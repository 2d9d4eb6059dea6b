/* imap_args.c - the parser for commands before login (imap 2, 3.1).
 *
 * It starts anew when input has come that can make a difference (a line end, a complete literal), over at most a
 * thousand bytes and the literals, so that its cost is bounded by what a client may send. Lists are not nested: no
 * command before login wants that, and depth is what attackers use (known-faults 2026-27857). */
#include "login/imap_args.h"

struct cursor {
    struct slice in;
    size_t at;
    size_t literals; /* synchronising ones met so far */
};

static int peek(const struct cursor *c)
{
    return c->at < c->in.size ? c->in.at[c->at] : -1;
}

/* The line end here: 0 none, else its size. */
static size_t line_end(const struct cursor *c)
{
    if (peek(c) == '\n')
        return 1;
    if (peek(c) == '\r' && c->at + 1 < c->in.size && c->in.at[c->at + 1] == '\n')
        return 2;
    return 0;
}

/* Puts the cursor behind the next LF. */
static void skip_line(struct cursor *c)
{
    ptrdiff_t lf = slice_find(slice_from(c->in, c->at), '\n');

    c->at = lf < 0 ? c->in.size : c->at + (size_t)lf + 1;
}

static bool atom_byte(int c)
{
    return c > 0x20 && c < 0x7f && c != '(' && c != ')' && c != '{' && c != '"';
}

static const char *take_atom(struct cursor *c, struct arena *a, struct imap_arg *out)
{
    size_t start = c->at;

    while (atom_byte(peek(c)))
        c->at++;
    out->kind = IMAP_ATOM;
    out->value = arena_slice(a, slice_of(c->in.at + start, c->at - start));
    if (peek(c) >= 0x80)
        return "8bit data in atom";
    if (peek(c) == ' ' || peek(c) == ')' || line_end(c) > 0)
        return NULL;
    return peek(c) == '\r' ? "CR sent without LF" : "Invalid characters in atom";
}

static const char *take_quoted(struct cursor *c, struct arena *a, struct imap_arg *out)
{
    unsigned char *text = arena_alloc(a, c->in.size - c->at);
    size_t n = 0;

    c->at++;
    for (;;) {
        int byte = peek(c);
        if (byte < 0 || byte == '\r' || byte == '\n')
            return "Missing '\"'";
        if (byte == 0)
            return "NULs not allowed in strings";
        c->at++;
        if (byte == '"')
            break;
        if (byte == '\\') {
            byte = peek(c);
            if (byte < 0 || byte == '\r' || byte == '\n')
                return "Missing '\"'";
            c->at++;
        }
        text[n++] = (unsigned char)byte;
    }
    out->kind = IMAP_QUOTED;
    out->value = slice_of(text, n);
    return NULL;
}

enum literal { LITERAL_OK, LITERAL_ERROR, LITERAL_MORE, LITERAL_SYNC, LITERAL_BIG };

static enum literal take_literal(struct cursor *c, size_t max, struct imap_wait *wait, struct arena *a,
                                 struct imap_arg *out, const char **error)
{
    size_t start = ++c->at, digits;
    uint64_t size = 0;
    bool sync = true;

    while (peek(c) >= '0' && peek(c) <= '9')
        c->at++;
    digits = c->at - start; /* none: zero */
    if (digits > 0 && !slice_to_u64(slice_of(c->in.at + start, digits), &size))
        return LITERAL_BIG;
    if (peek(c) == '+') {
        sync = false;
        c->at++;
        if (peek(c) != '}') {
            *error = "Expecting '}' after '+'";
            return LITERAL_ERROR;
        }
    }
    if (peek(c) != '}') {
        *error = "Invalid literal size";
        return LITERAL_ERROR;
    }
    c->at++;
    if (size > max)
        return LITERAL_BIG;
    if (line_end(c) == 0) {
        *error = "Missing LF after literal size";
        return LITERAL_ERROR;
    }
    c->at += line_end(c);
    if (sync)
        c->literals++;
    if (c->in.size - c->at < size || (size == 0 && sync && c->literals > wait->literals_seen)) {
        wait->need = c->at + size;
        return sync && c->literals > wait->literals_seen ? LITERAL_SYNC : LITERAL_MORE;
    }
    out->kind = IMAP_LITERAL;
    out->value = arena_slice(a, slice_of(c->in.at + c->at, size));
    c->at += size;
    if (slice_find(out->value, 0) >= 0) {
        *error = "NULs not allowed in strings";
        return LITERAL_ERROR;
    }
    return LITERAL_OK;
}

/* The rest of the line after a literal must be there before the command is complete. */
static bool line_is_complete(const struct cursor *c)
{
    return slice_find(slice_from(c->in, c->at), '\n') >= 0;
}

static enum imap_parsed wait_for_line(const struct cursor *c, struct imap_wait *wait)
{
    wait->need = c->in.size + 1;
    return IMAP_INCOMPLETE;
}

static enum imap_parsed parse_args(struct cursor *c, size_t literal_max, struct imap_wait *wait, struct arena *a,
                                   struct imap_line *out)
{
    unsigned depth = 0;

    out->args = ARENA_ARRAY(a, struct imap_arg, IMAP_ARGS_MAX);
    while (out->error == NULL) {
        struct imap_arg *arg = &out->args[out->count];
        while (peek(c) == ' ')
            c->at++;
        if (line_end(c) > 0)
            break;
        if (out->count == IMAP_ARGS_MAX) {
            out->error = "Too many arguments";
            break;
        }
        if (peek(c) == '(') {
            /* Only ID takes a list; its words for this error are its own. */
            if (++depth > 1)
                out->error = "Too many '('";
            arg->kind = IMAP_OPEN;
            c->at++;
        } else if (peek(c) == ')') {
            if (depth-- == 0)
                out->error = "Unexpected ')'";
            arg->kind = IMAP_CLOSE;
            depth = 1; /* a second list in one command is refused as well */
            c->at++;
        } else if (peek(c) == '"') {
            out->error = take_quoted(c, a, arg);
        } else if (peek(c) == '{') {
            switch (take_literal(c, literal_max, wait, a, arg, &out->error)) {
            case LITERAL_SYNC:
                wait->literals_seen = c->literals;
                return IMAP_GO_AHEAD;
            case LITERAL_MORE:
                return IMAP_INCOMPLETE;
            case LITERAL_BIG:
                return IMAP_LITERAL_TOO_BIG;
            default:
                if (out->error == NULL && !line_is_complete(c))
                    return wait_for_line(c, wait);
                break;
            }
        } else
            out->error = take_atom(c, a, arg);
        out->count++;
    }
    skip_line(c);
    out->size = c->at;
    *wait = (struct imap_wait){0, 0};
    return IMAP_LINE;
}

enum imap_parsed imap_parse_line(struct slice input, size_t literal_max, struct imap_wait *wait, struct arena *a,
                                 struct imap_line *out)
{
    struct cursor c = {.in = input};
    size_t start;

    memset(out, 0, sizeof(*out));
    if (input.size < wait->need)
        return IMAP_INCOMPLETE;
    if (!line_is_complete(&c))
        return wait_for_line(&c, wait);
    while (peek(&c) != ' ' && line_end(&c) == 0)
        c.at++;
    out->tag = arena_slice(a, slice_of(input.at, c.at));
    if (peek(&c) == ' ')
        c.at++;
    start = c.at;
    while (peek(&c) != ' ' && line_end(&c) == 0 && peek(&c) >= 0)
        c.at++;
    out->command = arena_slice(a, slice_of(input.at + start, c.at - start));
    return parse_args(&c, literal_max, wait, a, out);
}

bool imap_arg_string(const struct imap_line *line, size_t i, struct slice *out)
{
    if (i >= line->count || line->args[i].kind == IMAP_OPEN || line->args[i].kind == IMAP_CLOSE)
        return false;
    *out = line->args[i].value;
    return true;
}
