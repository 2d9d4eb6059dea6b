/* search_part_parse.c - MIMEPART of SEARCH (imap 11.4, not advertised): arguments to keys about parts. */
#include "store/search_part.h"

struct parse {
    struct arena *arena;
    const char *charset;
    const struct imap_arg *at;     /* the last argument that was taken */
    unsigned keys;
    const char *fault;
};

static bool bad(struct parse *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool bad(struct parse *p, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    p->fault = arena_strdup(p->arena, buffer_cstr(&text));
    buffer_free(&text);
    return false;
}

/* The next argument as a string: a parameter of `key`. */
static bool parameter(struct parse *p, const char *key)
{
    const struct imap_arg *a = p->at->next;

    if (a == NULL || a->type == IMAP_LIST)
        return bad(p, "%s (for search key: %s)", a == NULL ? "Missing parameter for search key" : "Unexpected (", key);
    p->at = a;
    return true;
}

/* False without a fault: the text that was taken last is in a charset that nobody knows. */
static bool readable(const struct parse *p)
{
    return p->charset != NULL;
}

static bool take_key(struct parse *p, struct search_part_key *k)
{
    struct buffer utf8 = {0};
    bool good = mime_charset_to_utf8(slice_from_str(p->charset != NULL ? p->charset : "ISO-8859-1"), p->at->text, &utf8);

    k->key = mime_key_new(p->arena, arena_slice(p->arena, buffer_slice(&utf8)));
    buffer_free(&utf8);
    return good || bad(p, "Invalid search key");
}

static const struct {
    const char *name;
    enum search_part_type type;
} equal_keys[] = {{"TYPE", PART_TYPE}, {"SUBTYPE", PART_SUBTYPE},   {"ENCODING", PART_ENCODING}, {"ID", PART_ID},
                  {"MD5", PART_MD5},   {"LOCATION", PART_LOCATION}, {"LANGUAGE", PART_LANGUAGE}};
static const char *const envelope_keys[] = {"FROM", "TO", "CC", "BCC", "SENDER", "REPLY-TO", "SUBJECT", "IN-REPLY-TO", "MESSAGE-ID"};
static const struct {
    const char *name;
    enum search_when when;
} sent_keys[] = {{"SENTBEFORE", SEARCH_BEFORE}, {"SENTON", SEARCH_ON}, {"SENTSINCE", SEARCH_SINCE}};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool parse_key(struct parse *p, struct search_part_key **out);

static struct search_part_key *new_key(struct parse *p, enum search_part_type type)
{
    struct search_part_key *k = ARENA_NEW(p->arena, struct search_part_key);

    k->type = type;
    k->id = p->keys++;
    return k;
}

/* [LARGER|SMALLER, or MIN|MAX] number */
static bool parse_number(struct parse *p, struct search_part_key *k, const char *more, const char *less, uint64_t shift,
                         const char *none, const char *fault)
{
    const struct imap_arg *a = p->at->next;
    bool compared = false;

    if (a == NULL || (more != NULL && !imap_arg_is_atom(a) && a->type != IMAP_LIST))
        return bad(p, "%s", none);
    if (more != NULL && imap_arg_is_atom(a) && (slice_equal_str_nocase(a->text, more) || slice_equal_str_nocase(a->text, less))) {
        k->compare = slice_equal_str_nocase(a->text, more) ? PART_LARGER : PART_SMALLER;
        compared = true;
        p->at = a;
        a = a->next;
    }
    if (a == NULL)
        return bad(p, "Invalid MIMEPART %s value", k->type == PART_SIZE ? "SIZE" : "DEPTH");
    if (!imap_arg_is_string(a) || !slice_to_u64(a->text, &k->number) || k->number > INT64_MAX)
        return bad(p, "%s", fault);
    p->at = a;
    if (!compared || shift == 0)
        return true;
    if (k->compare == PART_SMALLER) /* MIN and MAX include the number */
        k->number += shift;
    else if (k->number > 0)
        k->number -= shift;
    else {
        k->type = PART_AND; /* at least 0: all */
        k->children = NULL;
    }
    return true;
}

static bool parse_filename(struct parse *p, struct search_part_key *k)
{
    static const char *const words[] = {"IS", "CONTAINS", "BEGINS", "ENDS"};
    const struct imap_arg *a = p->at->next;

    for (int i = 0; i < 4; i++) {
        if (!imap_arg_is_atom(a) || !slice_equal_str_nocase(a->text, words[i]))
            continue;
        k->compare = (enum search_part_compare)i;
        if (!imap_arg_is_string(a->next))
            return bad(p, "Invalid MIMEPART FILENAME string value");
        p->at = a->next;
        return readable(p) && take_key(p, k);
    }
    return bad(p, "Invalid MIMEPART FILENAME match type");
}

static bool parse_disposition(struct parse *p, struct search_part_key *k)
{
    const struct imap_arg *a = p->at->next;

    if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "TYPE")) {
        p->at = a;
        k->type = PART_DISPOSITION;
        if (!parameter(p, "TYPE"))
            return false;
        k->text = p->at->text;
        return true;
    }
    if (!imap_arg_is_atom(a) || !slice_equal_str_nocase(a->text, "PARAM"))
        return bad(p, "Invalid MIMEPART DISPOSITION key type");
    p->at = a;
    if (!parameter(p, "PARAM") || !readable(p))
        return false;
    k->name = p->at->text;
    return parameter(p, "PARAM") && take_key(p, k);
}

/* PARENT and CHILD: EXISTS, or a key. */
static bool parse_relative(struct parse *p, struct search_part_key *k)
{
    const struct imap_arg *a = p->at->next;

    if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "EXISTS")) {
        p->at = a;
        return true;
    }
    return parse_key(p, &k->children);
}

static bool is_word(const struct imap_arg *a, const char *word)
{
    return a->type == IMAP_ATOM && slice_equal_str(a->text, word);
}

static bool parse_list(struct parse *p, struct search_part_key *k)
{
    struct search_part_key **tail = &k->children;
    const struct imap_arg *list = p->at;
    bool flat = list->type != IMAP_LIST; /* what is inside stands behind it, up to the word ")" */
    struct imap_arg *before = ARENA_NEW(p->arena, struct imap_arg);

    k->type = PART_AND;
    before->next = list->children;
    if (!flat)
        p->at = before;
    while (p->at->next != NULL && !(flat && is_word(p->at->next, ")"))) {
        if (!parse_key(p, tail))
            return false;
        tail = &(*tail)->next;
    }
    if (flat && p->at->next == NULL)
        return bad(p, "Missing ')'");
    if (k->children == NULL)
        return bad(p, "No MIMEPART keys inside list");
    p->at = flat ? p->at->next : list;
    return true;
}

static bool parse_word(struct parse *p, struct search_part_key *k, const char *word)
{
    for (size_t i = 0; i < COUNT(equal_keys); i++) {
        if (strcmp(word, equal_keys[i].name) == 0) {
            k->type = equal_keys[i].type;
            if (!parameter(p, word))
                return false;
            k->text = p->at->text;
            return true;
        }
    }
    for (size_t i = 0; i < COUNT(envelope_keys); i++) {
        if (strcmp(word, envelope_keys[i]) == 0) {
            k->type = PART_ENVELOPE;
            k->name = slice_from_str(envelope_keys[i]);
            return parameter(p, word) && take_key(p, k);
        }
    }
    for (size_t i = 0; i < COUNT(sent_keys); i++) {
        if (strcmp(word, sent_keys[i].name) == 0) {
            k->type = PART_SENT;
            k->when = sent_keys[i].when;
            if (!parameter(p, word))
                return false;
            return search_date_parse(p->at->text, &k->number) || bad(p, "Invalid search date parameter");
        }
    }
    if (strcmp(word, "DESCRIPTION") == 0) {
        k->type = PART_DESCRIPTION;
        return parameter(p, word) && take_key(p, k);
    }
    if (strcmp(word, "PARAM") == 0) {
        k->type = PART_PARAM;
        if (!parameter(p, word) || !readable(p))
            return false;
        k->name = p->at->text;
        return parameter(p, word) && take_key(p, k);
    }
    if (strcmp(word, "HEADER") == 0) /* these three match nothing in the real server */
        return parameter(p, word) && readable(p) && parameter(p, word);
    if (strcmp(word, "BODY") == 0 || strcmp(word, "TEXT") == 0)
        return parameter(p, word) && readable(p);
    if (strcmp(word, "DISPOSITION") == 0) {
        k->type = PART_DISPOSITION_PARAM;
        return parse_disposition(p, k);
    }
    if (strcmp(word, "FILENAME") == 0) {
        k->type = PART_FILENAME;
        return parse_filename(p, k);
    }
    if (strcmp(word, "SIZE") == 0) {
        k->type = PART_SIZE;
        return parse_number(p, k, "LARGER", "SMALLER", 0, "Invalid MIMEPART SIZE key type", "Invalid MIMEPART SIZE value");
    }
    if (strcmp(word, "DEPTH") == 0) {
        k->type = PART_DEPTH;
        return parse_number(p, k, "MIN", "MAX", 1, "Invalid MIMEPART DEPTH key", "Invalid MIMEPART DEPTH level");
    }
    if (strcmp(word, "INDEX") == 0) {
        k->type = PART_INDEX;
        return parse_number(p, k, NULL, NULL, 0, "Invalid MIMEPART INDEX value", "Invalid MIMEPART INDEX number");
    }
    if (strcmp(word, "PARENT") == 0 || strcmp(word, "CHILD") == 0) {
        k->type = *word == 'P' ? PART_PARENT : PART_CHILD;
        return parse_relative(p, k);
    }
    return bad(p, "Unknown MIMEPART key %s", word);
}

static bool parse_or(struct parse *p, struct search_part_key *k)
{
    k->type = PART_OR;
    return parse_key(p, &k->children) && parse_key(p, &k->children->next);
}

static bool parse_key(struct parse *p, struct search_part_key **out)
{
    const struct imap_arg *a = p->at->next;
    struct search_part_key *k;
    bool negate = false;

    while (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "NOT")) {
        negate = !negate;
        p->at = a;
        a = a->next;
    }
    if (a == NULL || is_word(a, ")"))
        return bad(p, "Missing MIMEPART key");
    if (p->keys >= SEARCH_PART_KEYS)
        return bad(p, "Too many MIMEPART keys");
    k = *out = new_key(p, PART_NONE);
    k->negate = negate;
    p->at = a;
    if (a->type == IMAP_LIST || is_word(a, "("))
        return parse_list(p, k);
    if (!imap_arg_is_atom(a))
        return bad(p, "Unexpected string as search key: %.*s", (int)(a->text.size > 200 ? 200 : a->text.size), (const char *)a->text.at);
    if (slice_equal_str_nocase(a->text, "OR"))
        return parse_or(p, k);
    return parse_word(p, k, arena_str_upper(p->arena, a->text));
}

bool search_part_parse(struct arena *arena, const char *charset, const struct imap_arg **arg, struct search_key *k, const char **fault)
{
    struct parse p = {.arena = arena, .charset = charset, .at = *arg};
    struct search_part_key *part;

    if (!parse_key(&p, &part)) {
        *fault = p.fault;
        return false;
    }
    k->type = SEARCH_MIMEPART;
    k->part = part;
    k->part_keys = p.keys;
    *arg = p.at;
    return true;
}
