/* smtp_path.c - reverse and forward paths (RFC 5321 section 4.1.2), with the error texts of doors 1.3. */
#include "smtp/smtp.h"

struct cursor {
    struct slice in;
    size_t at;
};

static int peek(const struct cursor *c)
{
    return c->at < c->in.size ? c->in.at[c->at] : -1;
}

static bool is_atext(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c > 0 && c < 0x80 && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool is_alnum(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A domain or an address literal; the cursor stands behind it. */
static const char *take_domain(struct cursor *c, struct slice *out)
{
    size_t start = c->at;

    if (peek(c) == '[') {
        while (peek(c) >= 0 && peek(c) != ']' && peek(c) > 0x20)
            c->at++;
        if (peek(c) != ']')
            return "Missing ']' at end of address literal";
        c->at++;
    } else {
        for (;;) {
            size_t label = c->at;
            while (is_alnum(peek(c)) || peek(c) == '-' || peek(c) == '_')
                c->at++;
            if (c->at == label)
                return "Empty sub-domain";
            if (peek(c) != '.')
                break;
            c->at++;
        }
    }
    *out = slice_of(c->in.at + start, c->at - start);
    return NULL;
}

static const char *take_quoted(struct cursor *c, struct arena *a, struct slice *out)
{
    unsigned char *text = arena_alloc(a, c->in.size - c->at + 1);
    size_t n = 0;

    for (c->at++; peek(c) != '"'; c->at++) {
        if (peek(c) == '\\')
            c->at++;
        if (peek(c) < 0x20)
            return "Missing '\"' at end of localpart";
        text[n++] = (unsigned char)peek(c);
    }
    c->at++;
    *out = slice_of(text, n);
    return NULL;
}

/* A lone dot anywhere is taken, as the real server takes it: RFC 5321 would want quotes. */
static void take_dot_string(struct cursor *c, struct slice *out)
{
    size_t start = c->at;

    while (is_atext(peek(c)) || peek(c) == '.')
        c->at++;
    *out = slice_of(c->in.at + start, c->at - start);
}

/* "@a,@b:" is accepted and dropped. */
static const char *skip_source_route(struct cursor *c)
{
    struct slice domain;
    const char *error;

    if (peek(c) != '@')
        return NULL;
    for (;;) {
        c->at++;
        if (peek(c) == '>' || peek(c) < 0)
            return "Missing domain after '@' in source route";
        if ((error = take_domain(c, &domain)) != NULL)
            return error;
        if (peek(c) == ',' && c->at + 1 < c->in.size && c->in.at[c->at + 1] == '@') {
            c->at++;
            continue;
        }
        if (peek(c) != ':')
            return "Missing ':' at end of source route";
        c->at++;
        return NULL;
    }
}

static const char *take_mailbox(struct cursor *c, struct arena *a, struct smtp_path *out)
{
    const char *error;

    if (peek(c) == '"') {
        if ((error = take_quoted(c, a, &out->local)) != NULL)
            return error;
    } else
        take_dot_string(c, &out->local);
    if (peek(c) != '@')
        return NULL;
    c->at++;
    if (peek(c) == '>' || peek(c) < 0)
        return "Missing domain after '@'";
    return take_domain(c, &out->domain);
}

/* The end of a path that does not parse: the next '>' before a space. False: there is none. */
static bool find_end(struct slice in, size_t *end)
{
    for (size_t i = 1; i < in.size; i++) {
        if (in.at[i] == '>') {
            *end = i;
            return true;
        }
        if (in.at[i] == ' ')
            return false;
    }
    return false;
}

static const char *parse_strict(struct cursor *c, unsigned flags, bool brackets, struct arena *a, struct smtp_path *out)
{
    const char *error;

    if (brackets) {
        c->at++;
        if (peek(c) == '>') {
            c->at++;
            out->null = true;
            return (flags & SMTP_PATH_NULL_ALLOWED) != 0 ? NULL : "Null path not allowed";
        }
    }
    if ((error = skip_source_route(c)) != NULL || (error = take_mailbox(c, a, out)) != NULL)
        return error;
    if (!brackets)
        return NULL;
    if (peek(c) != '>')
        return (flags & SMTP_PATH_BROKEN_ALLOWED) != 0 && slice_find(slice_from(c->in, c->at), '>') >= 0
                   ? "Invalid character in localpart"
                   : "Missing '>' at end of path";
    c->at++;
    return NULL;
}

const char *smtp_path_parse(struct slice in, unsigned flags, struct arena *a, struct smtp_path *out, struct slice *rest)
{
    struct cursor c = {.in = in};
    const char *error;
    bool brackets;
    size_t end;

    memset(out, 0, sizeof(*out));
    if (peek(&c) == ' ' && (flags & SMTP_PATH_SPACE_BEFORE) != 0)
        while (peek(&c) == ' ')
            c.at++;
    if (peek(&c) < 0)
        return "Path is empty string";
    if (peek(&c) == ' ')
        return "Unexpected whitespace before path";
    brackets = peek(&c) == '<';
    if (!brackets && (flags & SMTP_PATH_NO_BRACKETS) == 0)
        return "Missing '<' at beginning of path";
    in = slice_from(in, c.at);
    c = (struct cursor){.in = in};
    error = parse_strict(&c, flags, brackets, a, out);
    if (error == NULL && peek(&c) >= 0 && peek(&c) != ' ')
        error = "Invalid character in path";
    if (error == NULL) {
        *rest = slice_from(in, c.at);
        return NULL;
    }
    if (brackets && (flags & SMTP_PATH_BROKEN_ALLOWED) != 0 && find_end(in, &end) &&
        (end + 1 == in.size || in.at[end + 1] == ' ')) {
        memset(out, 0, sizeof(*out));
        out->broken = arena_slice(a, slice_of(in.at + 1, end - 1));
        *rest = slice_from(in, end + 1);
        return NULL;
    }
    return error;
}

/* RFC 5321 "Dot-string": atoms with single dots between them. */
static bool needs_quotes(struct slice local)
{
    bool dot = true;

    for (size_t i = 0; i < local.size; i++) {
        if (local.at[i] == '.') {
            if (dot)
                return true;
            dot = true;
        } else if (!is_atext(local.at[i]))
            return true;
        else
            dot = false;
    }
    return dot;
}

char *smtp_path_text(struct arena *a, const struct smtp_path *path)
{
    struct buffer out = {0};
    char *text;

    if (path->null)
        return arena_strdup(a, "");
    if (path->broken.at != NULL)
        return arena_str(a, path->broken);
    if (needs_quotes(path->local))
        text_quoted(&out, path->local);
    else
        buffer_append_slice(&out, path->local);
    if (path->domain.size > 0) {
        buffer_append_byte(&out, '@');
        buffer_append_slice(&out, path->domain);
    }
    text = arena_str(a, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

char *smtp_path_user(struct arena *a, const struct smtp_path *path)
{
    if (path->domain.size == 0)
        return arena_str(a, path->local);
    return arena_printf(a, "%.*s@%.*s", (int)path->local.size, path->local.at, (int)path->domain.size,
                        path->domain.at);
}
