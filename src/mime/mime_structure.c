/* BODYSTRUCTURE and BODY (imap 10.5, RFC 3501 section 7.4.2), and BODY derived from a cached BODYSTRUCTURE.
 *
 * Nesting is bounded by the parser's depth, so recursion is. */
#include "mime/mime_internal.h"

static const char default_plain[] = "\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" ";

static void put_params(struct buffer *out, const struct mime_params *params, bool add_charset)
{
    bool charset = false;

    for (size_t i = 0; i < params->count; i++)
        charset |= slice_equal_str_nocase(params->at[i].name, "charset");
    if (params->count == 0 && !add_charset) {
        buffer_append_str(out, "NIL");
        return;
    }
    buffer_append_byte(out, '(');
    for (size_t i = 0; i < params->count; i++) {
        if (i > 0)
            buffer_append_byte(out, ' ');
        mime_put_nstring_nolf(out, params->at[i].name);
        buffer_append_byte(out, ' ');
        mime_put_nstring_nolf(out, params->at[i].value);
    }
    if (add_charset && !charset) {
        if (params->count > 0)
            buffer_append_byte(out, ' ');
        buffer_append_str(out, "\"charset\" \"us-ascii\"");
    }
    buffer_append_byte(out, ')');
}

/* " disposition language location" */
static void put_extension(struct buffer *out, const struct mime_part_data *d)
{
    buffer_append_byte(out, ' ');
    if (d->disposition.at == NULL) {
        buffer_append_str(out, "NIL");
    } else {
        buffer_append_byte(out, '(');
        mime_put_nstring_nolf(out, d->disposition);
        buffer_append_byte(out, ' ');
        put_params(out, &d->disposition_params, false);
        buffer_append_byte(out, ')');
    }
    buffer_append_byte(out, ' ');
    if (d->languages_count == 0) {
        buffer_append_str(out, "NIL");
    } else {
        for (size_t i = 0; i < d->languages_count; i++) {
            buffer_append_byte(out, i == 0 ? '(' : ' ');
            mime_put_nstring_nolf(out, d->languages[i]);
        }
        buffer_append_byte(out, ')');
    }
    buffer_append_byte(out, ' ');
    mime_put_nstring_nolf(out, d->location);
}

static void put_multipart(struct buffer *out, const struct mime_part *part, bool extended)
{
    for (const struct mime_part *child = part->children; child != NULL; child = child->next) {
        buffer_append_byte(out, '(');
        mime_structure_put(out, child, extended);
        buffer_append_byte(out, ')');
    }
    if (part->children == NULL)
        buffer_printf(out, "(%s0 0%s)", default_plain, extended ? " NIL NIL NIL NIL" : "");
    buffer_append_byte(out, ' ');
    mime_put_nstring_nolf(out, part->data->subtype);
    if (extended) {
        buffer_append_byte(out, ' ');
        put_params(out, &part->data->params, false);
        put_extension(out, part->data);
    }
}

static void put_single(struct buffer *out, const struct mime_part *part, bool extended)
{
    const struct mime_part_data *d = part->data;
    bool text = (part->flags & MIME_PART_TEXT) != 0;
    bool message = (part->flags & MIME_PART_MESSAGE) != 0;

    if (d->type.at == NULL && !message) {
        buffer_append_str(out, "\"text\" \"plain\" (\"charset\" \"us-ascii\")");
        text = true;
    } else if (message) {
        buffer_append_str(out, "\"message\" \"rfc822\" ");
        put_params(out, &d->params, false);
    } else if (slice_equal_str_nocase(d->type, "multipart") ||
               (slice_equal_str_nocase(d->type, "message") && slice_equal_str_nocase(d->subtype, "rfc822"))) {
        /* Looks like a container, was not looked into: opaque bytes. */
        buffer_append_str(out, "\"application\" \"octet-stream\" ");
        put_params(out, &d->params, false);
    } else {
        mime_put_nstring_nolf(out, d->type);
        buffer_append_byte(out, ' ');
        mime_put_nstring_nolf(out, d->subtype);
        buffer_append_byte(out, ' ');
        put_params(out, &d->params, text);
    }
    buffer_append_byte(out, ' ');
    mime_put_nstring_nolf(out, d->id);
    buffer_append_byte(out, ' ');
    mime_put_nstring_nolf(out, d->description);
    buffer_append_byte(out, ' ');
    mime_put_nstring_nolf(out, d->encoding.at == NULL ? SLICE("7bit") : d->encoding);
    buffer_printf(out, " %llu", (unsigned long long)part->body.virtual);
    if (text) {
        buffer_printf(out, " %u", part->body.lines);
    } else if (message && part->children != NULL) {
        buffer_append_str(out, " (");
        if (part->children->data->envelope != NULL)
            mime_envelope_put(out, part->children->data->envelope);
        buffer_append_str(out, ") (");
        mime_structure_put(out, part->children, extended);
        buffer_printf(out, ") %u", part->body.lines);
    }
    if (extended) {
        buffer_append_byte(out, ' ');
        mime_put_nstring_nolf(out, d->md5);
        put_extension(out, d);
    }
}

void mime_structure_put(struct buffer *out, const struct mime_part *part, bool extended)
{
    if ((part->flags & MIME_PART_MULTIPART) != 0)
        put_multipart(out, part, extended);
    else
        put_single(out, part, extended);
}

bool mime_structure_is_plain(const struct mime_part *root)
{
    const struct mime_part_data *d = root->data;

    if ((root->flags & MIME_PART_TEXT) == 0 || root->children != NULL || d->id.at != NULL ||
        d->description.at != NULL || d->md5.at != NULL || d->disposition.at != NULL || d->languages_count > 0 ||
        d->location.at != NULL)
        return false;
    if (d->encoding.at != NULL && !slice_equal_str_nocase(d->encoding, "7bit"))
        return false;
    if (d->type.at == NULL)
        return true;
    if (!slice_equal_str_nocase(d->type, "text") || !slice_equal_str_nocase(d->subtype, "plain") ||
        d->params.count > 1)
        return false;
    return d->params.count == 0 || (slice_equal_str_nocase(d->params.at[0].name, "charset") &&
                                    slice_equal_str_nocase(d->params.at[0].value, "us-ascii"));
}

void mime_structure_put_plain(struct buffer *out, const struct mime_part *root, bool extended)
{
    buffer_printf(out, "%s%llu %u%s", default_plain, (unsigned long long)root->body.virtual, root->body.lines,
                  extended ? " NIL NIL NIL NIL" : "");
}

/* ---- BODY out of BODYSTRUCTURE ------------------------------------------------------------------------------ */

struct scan {
    const unsigned char *at, *end;
    struct buffer *out;
    bool keep;
};

static bool copy_to(struct scan *s, const unsigned char *to)
{
    if (s->keep)
        buffer_append(s->out, s->at, (size_t)(to - s->at));
    s->at = to;
    return true;
}

static bool scan_quoted(struct scan *s)
{
    const unsigned char *p = s->at + 1;
    while (p < s->end && *p != '"')
        p += *p == '\\' ? 2 : 1;
    return p < s->end && copy_to(s, p + 1);
}

static bool scan_literal(struct scan *s)
{
    uint64_t size = 0;
    const unsigned char *p = s->at + 1;
    while (p < s->end && *p >= '0' && *p <= '9' && size < UINT32_MAX)
        size = size * 10 + (uint64_t)(*p++ - '0');
    if (s->end - p < 3 || p[0] != '}' || p[1] != '\r' || p[2] != '\n' || size > (uint64_t)(s->end - p - 3))
        return false;
    return copy_to(s, p + 3 + size);
}

/* Any value: string, atom, or a list with all that is in it. */
static bool scan_value(struct scan *s)
{
    unsigned depth = 0;

    do {
        if (s->at == s->end)
            return false;
        const unsigned char *p = s->at;
        switch (*p) {
        case '(':
            depth++;
            (void)copy_to(s, p + 1);
            continue;
        case ')':
            if (depth == 0)
                return false;
            depth--;
            (void)copy_to(s, p + 1);
            break;
        case '"':
            if (!scan_quoted(s))
                return false;
            break;
        case '{':
            if (!scan_literal(s))
                return false;
            break;
        case ' ':
            if (depth == 0)
                return false;
            (void)copy_to(s, p + 1);
            break;
        default:
            while (p < s->end && *p != ' ' && *p != '(' && *p != ')')
                p++;
            (void)copy_to(s, p);
        }
    } while (depth > 0);
    return true;
}

static bool scan_space(struct scan *s)
{
    return s->at < s->end && *s->at == ' ' && copy_to(s, s->at + 1);
}

static bool scan_values(struct scan *s, unsigned count)
{
    while (count-- > 0)
        if (!scan_space(s) || !scan_value(s))
            return false;
    return true;
}

/* Drops the rest up to the closing parenthesis of this level (not consumed) or the end. */
static bool drop_rest(struct scan *s)
{
    bool keep = s->keep, good = true;
    s->keep = false;
    while (good && s->at < s->end && *s->at != ')')
        good = scan_space(s) && scan_value(s);
    s->keep = keep;
    return good;
}

static bool scan_structure(struct scan *s, unsigned depth)
{
    if (depth > mime_limits_default.depth + 2 || s->at == s->end)
        return false;
    if (*s->at == '(') {
        while (s->at < s->end && *s->at == '(') {
            (void)copy_to(s, s->at + 1);
            if (!scan_structure(s, depth + 1) || s->at == s->end || *s->at != ')')
                return false;
            (void)copy_to(s, s->at + 1);
        }
        return scan_values(s, 1) && drop_rest(s);
    }
    struct slice rest = slice_of(s->at, (size_t)(s->end - s->at));
    bool text = slice_starts_nocase(rest, SLICE("\"text\" "));
    bool message = slice_starts_nocase(rest, SLICE("\"message\" \"rfc822\" "));
    /* type, then subtype, params, id, description, encoding, size */
    if (!scan_value(s) || !scan_values(s, 6))
        return false;
    if (text && !scan_values(s, 1))
        return false;
    if (message) {
        if (!scan_values(s, 1) || !scan_space(s) || s->at == s->end || *s->at != '(')
            return false;
        (void)copy_to(s, s->at + 1);
        if (!scan_structure(s, depth + 1) || s->at == s->end || *s->at != ')')
            return false;
        (void)copy_to(s, s->at + 1);
        if (!scan_values(s, 1))
            return false;
    }
    return drop_rest(s);
}

int mime_structure_to_body(struct buffer *out, struct slice structure, struct error *e)
{
    struct scan s = {structure.at, structure.at + structure.size, out, true};
    size_t before = out->size;

    if (scan_structure(&s, 0) && s.at == s.end)
        return 0;
    out->size = before;
    return error_set(e, ERROR_CORRUPT, "Cached BODYSTRUCTURE is malformed");
}
