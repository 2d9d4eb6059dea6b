/* Content-Type, Content-Disposition and their parameters (RFC 2045 section 5.1, RFC 2183, RFC 2231 section 3).
 *
 * Continuations are joined when their numbers run from 0 without a gap or repetition; otherwise each piece is shown
 * as it came. Values with RFC 2231 encoding stay undecoded under the name with a star (imap 10.5). Plain parameters
 * keep their order, joined ones follow sorted by name. What is over the cap is ignored (oracle-build 1.5). */
#include <stdio.h>
#include <stdlib.h>

#include "mime/mime_internal.h"

struct piece {
    struct slice key;
    uint32_t index;
    bool extended;
    size_t order;
    struct slice value;
};

/* "name*0*", "name*0", "name*": true, with what is meant. Anything else is a plain name. */
static bool split_piece(struct slice name, struct piece *p)
{
    ptrdiff_t star = slice_find(name, '*');
    if (star < 0)
        return false;
    size_t end = name.size;
    p->extended = name.at[end - 1] == '*';
    if (p->extended)
        end--;
    p->key = slice_head(name, (size_t)star);
    p->index = 0;
    for (size_t i = (size_t)star + 1; i < end; i++) {
        if (name.at[i] < '0' || name.at[i] > '9')
            return false;
        p->index = p->index * 10 + (uint32_t)(name.at[i] - '0');
    }
    return p->extended || end > (size_t)star + 1;
}

static int by_key_and_index(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    int order = slice_compare(x->key, y->key);
    if (order != 0)
        return order;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static void add_param(struct mime_params *params, struct slice name, struct slice value)
{
    params->at[params->count++] = (struct mime_param){name, value};
}

static void join_pieces(struct arena *arena, const struct piece *p, size_t count, struct mime_params *params)
{
    bool extended = false, gapless = true;
    for (size_t i = 0; i < count; i++) {
        extended |= p[i].extended;
        gapless &= p[i].index == i;
    }
    struct buffer b = {0};
    if (!gapless) {
        for (size_t i = 0; i < count; i++) {
            buffer_reset(&b);
            buffer_append_slice(&b, p[i].key);
            buffer_printf(&b, "*%u%s", p[i].index, p[i].extended ? "*" : "");
            add_param(params, mime_keep(arena, buffer_slice(&b)), p[i].value);
        }
        buffer_free(&b);
        return;
    }
    buffer_append_slice(&b, p[0].key);
    if (extended)
        buffer_append_byte(&b, '*');
    struct slice name = mime_keep(arena, buffer_slice(&b));
    buffer_reset(&b);
    if (extended && !p[0].extended)
        buffer_append_str(&b, "''");
    for (size_t i = 0; i < count; i++) {
        if (!extended || p[i].extended) {
            buffer_append_slice(&b, p[i].value);
            continue;
        }
        for (size_t k = 0; k < p[i].value.size; k++) {
            if (p[i].value.at[k] == '%')
                buffer_append_str(&b, "%25");
            else
                buffer_append_byte(&b, p[i].value.at[k]);
        }
    }
    add_param(params, name, mime_keep(arena, buffer_slice(&b)));
    buffer_free(&b);
}

/* The value behind the '='. An unquoted encoded-word is no token, but common: it runs to the next space or ';'. */
static int take_value(struct mime_lex *l, struct buffer *out)
{
    if (mime_lex_space(l) < 0)
        return -1;
    if (l->at == l->end)
        return 0;
    if (*l->at == '"')
        return mime_lex_quoted(l, out);
    if (*l->at != '=')
        return mime_lex_token(l, out);
    const unsigned char *begin = l->at;
    while (l->at < l->end && *l->at != ';' && *l->at != ' ' && *l->at != '\t' && *l->at != '\r' && *l->at != '\n')
        l->at++;
    const unsigned char *nul = memchr(begin, '\0', (size_t)(l->at - begin));
    buffer_append(out, begin, (size_t)((nul == NULL ? l->at : nul) - begin));
    return mime_lex_space(l);
}

/* One "; name=value". 1: found; 0: the end; -1: something else. */
static int take_param(struct mime_lex *l, struct buffer *name, struct buffer *value)
{
    buffer_reset(name);
    buffer_reset(value);
    if (l->at == l->end)
        return 0;
    if (*l->at != ';')
        return -1;
    l->at++;
    int more = mime_lex_space(l);
    if (more <= 0)
        return more;
    if (mime_lex_token(l, name) <= 0 || *l->at != '=')
        return -1;
    l->at++;
    return take_value(l, value) < 0 ? -1 : 1;
}

void mime_params_parse(struct arena *arena, struct mime_lex *l, struct mime_params *params, uint32_t max)
{
    struct buffer name = {0}, value = {0};
    VEC(struct mime_param) plain = {0};
    VEC(struct piece) pieces = {0};

    *params = (struct mime_params){0};
    while (plain.count + pieces.count < max) {
        int got = take_param(l, &name, &value);
        if (got == 0)
            break;
        if (got < 0) {
            if (l->at == l->end)
                break;
            const unsigned char *next = memchr(l->at + 1, ';', (size_t)(l->end - l->at - 1));
            if (next == NULL)
                break;
            l->at = next;
            continue;
        }
        struct slice kept = mime_keep(arena, buffer_slice(&value));
        struct piece p;
        if (split_piece(buffer_slice(&name), &p)) {
            p.key = mime_keep(arena, p.key);
            p.value = kept;
            p.order = pieces.count;
            VEC_PUSH(&pieces, p);
        } else {
            struct mime_param param = {mime_keep(arena, buffer_slice(&name)), kept};
            VEC_PUSH(&plain, param);
        }
    }
    if (plain.count + pieces.count > 0) {
        params->at = ARENA_ARRAY(arena, struct mime_param, plain.count + pieces.count);
        for (size_t i = 0; i < plain.count; i++)
            add_param(params, plain.at[i].name, plain.at[i].value);
        if (pieces.count > 1)
            qsort(pieces.at, pieces.count, sizeof(pieces.at[0]), by_key_and_index);
        /* Sorted with case, grouped without: "A*1" and "a*0" make a group with a gap. */
        for (size_t i = 0, k; i < pieces.count; i = k) {
            for (k = i + 1; k < pieces.count && slice_equal_nocase(pieces.at[k].key, pieces.at[i].key); k++)
                ;
            join_pieces(arena, &pieces.at[i], k - i, params);
        }
    }
    VEC_FREE(&plain);
    VEC_FREE(&pieces);
    buffer_free(&name);
    buffer_free(&value);
}

void mime_content_type_take(struct arena *arena, struct slice value, struct mime_content_type *out)
{
    out->good = mime_content_type_parse(arena, value, &out->type, &out->subtype, &out->params);
}

bool mime_content_type_parse(struct arena *arena, struct slice value, struct slice *type, struct slice *subtype,
                             struct mime_params *params)
{
    struct mime_lex l = mime_lex_of(value);
    struct buffer word = {0};
    bool ok = false;

    *type = *subtype = slice_of("", 0);
    *params = (struct mime_params){0};
    if (mime_lex_space(&l) <= 0)
        goto out;
    const unsigned char *begin = l.at;
    mime_lex_token(&l, &word);
    if (l.at == begin || word.size == 0)
        goto out;
    if (l.at == l.end) {                   /* "text": a type without subtype, if nothing follows */
        *type = mime_keep(arena, buffer_slice(&word));
        ok = true;
        goto out;
    }
    if (*l.at != '/')
        goto out;
    struct slice first = mime_keep(arena, buffer_slice(&word));
    l.at++;
    buffer_reset(&word);
    if (mime_lex_space(&l) <= 0)
        goto out;
    int more = mime_lex_token(&l, &word);
    if (more < 0 || word.size == 0 || (more > 0 && *l.at != ';'))
        goto out;
    *type = first;
    *subtype = mime_keep(arena, buffer_slice(&word));
    mime_params_parse(arena, &l, params, mime_limits_default.params);
    ok = true;
out:
    buffer_free(&word);
    return ok;
}

bool mime_disposition_parse(struct arena *arena, struct slice value, struct slice *word, struct mime_params *params)
{
    struct mime_lex l = mime_lex_of(value);
    struct buffer b = {0};

    *params = (struct mime_params){0};
    (void)mime_lex_space(&l);
    if (mime_lex_token(&l, &b) < 0) {
        *word = SLICE_EMPTY;
        buffer_free(&b);
        return false;
    }
    *word = mime_keep(arena, buffer_slice(&b));
    buffer_free(&b);
    mime_params_parse(arena, &l, params, mime_limits_default.params);
    return true;
}

const struct slice *mime_param_find(const struct mime_params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++)
        if (slice_equal_str_nocase(params->at[i].name, name))
            return &params->at[i].value;
    return NULL;
}

/* ---- values as people read them ----------------------------------------------------------------------------- */

/* RFC 2231 section 4: charset'language'text with percent escapes. */
static struct slice decode_extended(struct arena *arena, struct slice value)
{
    struct buffer bytes = {0}, text = {0};
    struct slice charset = SLICE_EMPTY;
    ptrdiff_t first = slice_find(value, '\'');
    ptrdiff_t second = first < 0 ? -1 : slice_find(slice_from(value, (size_t)first + 1), '\'');

    if (second >= 0) {
        charset = slice_head(value, (size_t)first);
        value = slice_from(value, (size_t)(first + second) + 2);
    }
    for (size_t i = 0; i < value.size; i++) {
        int high, low;
        if (value.at[i] == '%' && i + 2 < value.size && (high = mime_hex_digit(value.at[i + 1])) >= 0 &&
            (low = mime_hex_digit(value.at[i + 2])) >= 0) {
            buffer_append_byte(&bytes, (unsigned char)(high << 4 | low));
            i += 2;
        } else {
            buffer_append_byte(&bytes, value.at[i]);
        }
    }
    if (!mime_charset_known(charset))
        charset = SLICE_EMPTY;
    (void)mime_charset_to_utf8(charset, buffer_slice(&bytes), &text);
    struct slice kept = mime_keep(arena, buffer_slice(&text));
    buffer_free(&bytes);
    buffer_free(&text);
    return kept;
}

struct slice mime_param_utf8(struct arena *arena, const struct mime_params *params, const char *name)
{
    struct slice wanted = slice_from_str(name);
    const struct mime_param *plain = NULL;

    for (size_t i = 0; i < params->count; i++) {
        const struct mime_param *p = &params->at[i];
        if (p->name.size == wanted.size + 1 && p->name.at[wanted.size] == '*' &&
            slice_equal_nocase(slice_head(p->name, wanted.size), wanted))
            return decode_extended(arena, p->value);
        if (plain == NULL && slice_equal_nocase(p->name, wanted))
            plain = p;
    }
    if (plain == NULL)
        return SLICE_EMPTY;
    struct buffer b = {0};
    mime_words_decode(&b, plain->value);
    struct slice kept = mime_keep(arena, buffer_slice(&b));
    buffer_free(&b);
    return kept;
}
