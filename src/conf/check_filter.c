/* The syntax of event filters (config 7.2; ipc 8.3): KEY op VALUE with AND, OR, NOT and brackets. Only checked here;
 * the stats service has its own compiled form. */
#include "conf/check.h"

#include <ctype.h>

enum token { END, TOKEN, STRING, AND, OR, NOT, OPERATOR, OPEN, CLOSE, OTHER };
enum { DEPTH_MOST = 64 };

struct filter {
    const char *at;
    enum token token;
    const char *shown;            /* the token in messages */
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
    const char *start = f->at;
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

static int read_operand(struct filter *f);

static int read_expression(struct filter *f)
{
    if (read_operand(f) < 0)
        return -1;
    while (f->token == AND || f->token == OR) {
        next(f);
        if (read_operand(f) < 0)
            return -1;
    }
    return 0;
}

static int read_comparison(struct filter *f)
{
    next(f);
    if (f->token != OPERATOR)
        return unexpected(f, "'=' or '>' or '<'");
    next(f);
    if (f->token == OPERATOR && f->shown[1] == '=' && f->at[-2] != '=')
        next(f); /* ">=" and "<=" */
    if (f->token != TOKEN && f->token != STRING && f->token != AND && f->token != OR && f->token != NOT)
        return unexpected(f, "");
    next(f);
    return 0;
}

static int read_operand(struct filter *f)
{
    if (f->token == TOKEN || f->token == STRING)
        return read_comparison(f);
    if ((f->token != NOT && f->token != OPEN) || ++f->depth > DEPTH_MOST)
        return unexpected(f, "TOKEN or STRING or NOT or '('");
    bool open = f->token == OPEN;
    next(f);
    if (!open)
        return read_operand(f);
    if (read_expression(f) < 0)
        return -1;
    if (f->token != CLOSE)
        return unexpected(f, "')'");
    next(f);
    return 0;
}

int check_event_filter(const char *filter, struct error *e)
{
    struct filter f = {.at = filter, .e = e};
    next(&f);
    if (f.token == TOKEN || f.token == STRING || f.token == NOT || f.token == OPEN) {
        if (read_expression(&f) < 0)
            return -1;
    }
    return f.token == END ? 0 : unexpected(&f, "$end");
}
