/* event_filter.c - filters of events (config 7.2; ipc 8.3): KEY op VALUE with AND, OR, NOT and brackets. AND and OR bind alike,
 * from left to right. */
#include "conf/event_filter.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum token { END, TOKEN, STRING, AND, OR, NOT, OPERATOR, OPEN, CLOSE, OTHER };
enum { DEPTH_MOST = 64 };

struct filter {
    const char *at;
    enum token token;
    const char *shown;            /* the token in messages */
    const char *begin;            /* of a TOKEN, STRING or word */
    struct arena *arena;
    unsigned depth;
    struct error *e;
};

static bool is_token_byte(char c)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr(":.*?_-", c) != NULL);
}

static void read_word(struct filter *f)
{
    static const struct {
        const char *word;
        enum token token;
    } words[] = {{"AND", AND}, {"OR", OR}, {"NOT", NOT}};
    const char *start = f->begin = f->at;
    while (is_token_byte(*f->at))
        f->at++;
    struct slice word = slice_of(start, (size_t)(f->at - start));
    f->token = TOKEN;
    f->shown = "TOKEN";
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_equal_str_nocase(word, words[i].word)) {
            f->token = words[i].token;
            f->shown = words[i].word;
        }
    }
}

static void read_string(struct filter *f)
{
    f->begin = f->at;
    for (f->at++; *f->at != '\0' && *f->at != '"'; f->at++) {
        if (*f->at == '\\' && f->at[1] != '\0')
            f->at++;
    }
    if (*f->at == '\0') {
        f->token = END;
        f->shown = "$end";
        return;
    }
    f->at++;
    f->token = STRING;
    f->shown = "STRING";
}

static void next(struct filter *f)
{
    static const struct {
        char c;
        enum token token;
        const char *shown;
    } single[] = {{'\0', END, "$end"}, {'=', OPERATOR, "'='"}, {'>', OPERATOR, "'>'"}, {'<', OPERATOR, "'<'"},
                  {'(', OPEN, "'('"}, {')', CLOSE, "')'"}};
    while (*f->at == ' ' || *f->at == '\t' || *f->at == '\n' || *f->at == '\r')
        f->at++;
    if (is_token_byte(*f->at)) {
        read_word(f);
        return;
    }
    if (*f->at == '"') {
        read_string(f);
        return;
    }
    for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++) {
        if (*f->at == single[i].c) {
            f->token = single[i].token;
            f->shown = single[i].shown;
            f->at += *f->at != '\0';
            return;
        }
    }
    f->token = OTHER;
    f->shown = "$undefined";
    f->at++;
}

static int unexpected(struct filter *f, const char *expecting)
{
    return error_set(f->e, ERROR_INVALID, "event filter: syntax error, unexpected %s%s%s", f->shown,
                     expecting[0] == '\0' ? "" : ", expecting ", expecting);
}

/* The text of the word or string that was read last. */
static struct slice token_text(const struct filter *f)
{
    struct slice raw = slice_of(f->begin, (size_t)(f->at - f->begin));
    char *out, *to;

    if (*f->begin != '"')
        return slice_of(arena_str(f->arena, raw), raw.size);
    raw = slice_of(raw.at + 1, raw.size - 2);
    to = out = arena_str(f->arena, raw);
    for (size_t i = 0; i < raw.size; i++) {
        if (raw.at[i] == '\\' && i + 1 < raw.size)
            i++;
        *to++ = (char)raw.at[i];
    }
    *to = '\0';
    return slice_of(out, (size_t)(to - out));
}

static int read_operand(struct filter *f, struct event_filter **out);

static struct event_filter *node(struct filter *f, enum event_filter_type type)
{
    struct event_filter *n = ARENA_NEW(f->arena, struct event_filter);

    n->type = type;
    return n;
}

static int read_expression(struct filter *f, struct event_filter **out)
{
    struct event_filter *last;

    if (read_operand(f, out) < 0)
        return -1;
    for (last = *out; f->token == AND || f->token == OR; last = last->next) {
        last->or_next = f->token == OR;
        next(f);
        if (read_operand(f, &last->next) < 0)
            return -1;
    }
    return 0;
}

static int read_comparison(struct filter *f, struct event_filter **out)
{
    struct event_filter *leaf = *out = node(f, EVENT_FILTER_IS);

    leaf->key = token_text(f);
    next(f);
    if (f->token != OPERATOR)
        return unexpected(f, "'=' or '>' or '<'");
    leaf->type = f->shown[1] == '=' ? EVENT_FILTER_IS : f->shown[1] == '>' ? EVENT_FILTER_ABOVE : EVENT_FILTER_BELOW;
    next(f);
    if (f->token == OPERATOR && f->shown[1] == '=' && f->at[-2] != '=') {
        leaf->equal_too = true;
        next(f); /* ">=" and "<=" */
    }
    if (f->token != TOKEN && f->token != STRING && f->token != AND && f->token != OR && f->token != NOT)
        return unexpected(f, "");
    leaf->value = token_text(f);
    next(f);
    return 0;
}

static int read_inner(struct filter *f, struct event_filter *outer)
{
    next(f);
    if (outer->type == EVENT_FILTER_NOT)
        return read_operand(f, &outer->inner);
    if (read_expression(f, &outer->inner) < 0)
        return -1;
    if (f->token != CLOSE)
        return unexpected(f, "')'");
    next(f);
    return 0;
}

static int read_operand(struct filter *f, struct event_filter **out)
{
    int r;

    if (f->token == TOKEN || f->token == STRING)
        return read_comparison(f, out);
    if ((f->token != NOT && f->token != OPEN) || f->depth >= DEPTH_MOST)
        return unexpected(f, "TOKEN or STRING or NOT or '('");
    *out = node(f, f->token == NOT ? EVENT_FILTER_NOT : EVENT_FILTER_GROUP);
    f->depth++;
    r = read_inner(f, *out);
    f->depth--;
    return r;
}

int event_filter_parse(struct arena *arena, const char *filter, struct event_filter **out, struct error *e)
{
    struct filter f = {.at = filter, .arena = arena, .e = e};

    *out = NULL;
    next(&f);
    if (f.token == TOKEN || f.token == STRING || f.token == NOT || f.token == OPEN) {
        if (read_expression(&f, out) < 0)
            return -1;
    }
    return f.token == END ? 0 : unexpected(&f, "$end");
}

static bool operand_matches(const struct event_filter *f, bool (*leaf)(void *arg, const struct event_filter *), void *arg)
{
    switch (f->type) {
    case EVENT_FILTER_GROUP:
        return event_filter_match(f->inner, leaf, arg);
    case EVENT_FILTER_NOT:
        return !event_filter_match(f->inner, leaf, arg);
    default:
        return leaf(arg, f);
    }
}

bool event_filter_match(const struct event_filter *f, bool (*leaf)(void *arg, const struct event_filter *), void *arg)
{
    bool is = operand_matches(f, leaf, arg);

    for (; f->next != NULL; f = f->next) {
        if (is != f->or_next)
            is = operand_matches(f->next, leaf, arg);
    }
    return is;
}

/* ---- comparisons ------------------------------------------------------------------------------------------------------- */

/* Masks in any case: back to the last star when it does not go on. */
static bool mask_matches(struct slice mask, struct slice text)
{
    size_t m = 0, t = 0, star = SIZE_MAX, from = 0;

    while (t < text.size) {
        if (m < mask.size && mask.at[m] == '*') {
            star = m++;
            from = t;
        } else if (m < mask.size && (mask.at[m] == '?' || tolower(mask.at[m]) == tolower(text.at[t]))) {
            m++;
            t++;
        } else if (star != SIZE_MAX) {
            m = star + 1;
            t = ++from;
        } else {
            return false;
        }
    }
    while (m < mask.size && mask.at[m] == '*')
        m++;
    return m == mask.size;
}

static bool number_matches(int64_t number, const struct event_filter *f)
{
    char *end;
    long long value = strtoll((const char *)f->value.at, &end, 10);

    if (f->value.size == 0 || *end != '\0')
        return false;
    if (value == number)
        return f->type == EVENT_FILTER_IS || f->equal_too;
    return f->type == EVENT_FILTER_ABOVE ? number > value : f->type == EVENT_FILTER_BELOW && number < value;
}

bool event_filter_is(const struct event_filter *f, const struct event_value *v)
{
    bool is = f->type == EVENT_FILTER_IS;

    if (v == NULL)
        return is && f->value.size == 0;
    switch (v->type) {
    case EVENT_STR:
        return is && mask_matches(f->value, v->text);
    case EVENT_INT:
        return number_matches(v->number, f);
    case EVENT_LIST:
        for (size_t i = 0; is && i < v->count; i++) {
            if (mask_matches(f->value, v->list[i]))
                return true;
        }
        return false;
    default:
        return false;
    }
}

bool event_filter_is_source(const struct event_filter *f, struct slice file, uint32_t line)
{
    struct slice rest = f->value, name;
    uint32_t number;

    if (f->type != EVENT_FILTER_IS || !slice_split(&rest, ':', &name) || !slice_equal(name, file))
        return false;
    return rest.size == 0 || (slice_to_u32(rest, &number) && number == line);
}
