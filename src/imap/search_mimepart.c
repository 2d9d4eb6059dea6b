/* search_mimepart.c - MIMEPART of SEARCH (imap 11.4, not advertised): arguments to keys about parts. */
#include "imap/search.h"
#include "store/search_part.h"

struct parse {
    struct session *s;
    struct request *r;
    struct search *q;
    const struct imap_arg *at;     /* the last argument that was taken */
    unsigned keys, depth;
};

static bool bad(struct parse *p, const char *text)
{
    request_bad(p->s, p->r, "%s", text);
    return false;
}

/* The next argument as a string: a parameter of `key`. */
static bool parameter(struct parse *p, const char *key)
{
    const struct imap_arg *a = p->at->next;

    if (a == NULL || a->type == IMAP_LIST) {
        request_bad(p->s, p->r, "%s (for search key: %s)", a == NULL ? "Missing parameter for search key" : "Unexpected (", key);
        return false;
    }
    p->at = a;
    return true;
}

static bool take_key(struct parse *p, struct search_part_key *k)
{
    struct slice text;

    if (!search_text(p->s, p->r, p->q, p->at, &text))
        return false;
    k->key = mime_key_new(p->r->arena, text);
    return true;
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
    struct search_part_key *k = ARENA_NEW(p->r->arena, struct search_part_key);

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

    if (a == NULL)
        return bad(p, none);
    if (more != NULL && imap_arg_is_atom(a) && (slice_equal_str_nocase(a->text, more) || slice_equal_str_nocase(a->text, less))) {
        k->compare = slice_equal_str_nocase(a->text, more) ? PART_LARGER : PART_SMALLER;
        compared = true;
        p->at = a;
        a = a->next;
    }
    if (a == NULL) {
        request_bad(p->s, p->r, "Invalid MIMEPART %s value", k->type == PART_SIZE ? "SIZE" : "DEPTH");
        return false;
    }
    if (!imap_arg_is_string(a) || !imap_number(a->text, &k->number))
        return bad(p, fault);
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
        return take_key(p, k);
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
    if (!parameter(p, "PARAM"))
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

static bool parse_list(struct parse *p, struct search_part_key *k)
{
    struct search_part_key **tail = &k->children;
    const struct imap_arg *list = p->at;

    if (list->children == NULL)
        return bad(p, "No MIMEPART keys inside list");
    k->type = PART_AND;
    for (const struct imap_arg *a = list->children; a != NULL; a = p->at->next) {
        struct imap_arg before = {.next = (struct imap_arg *)(uintptr_t)a};

        p->at = &before;
        if (!parse_key(p, tail))
            return false;
        tail = &(*tail)->next;
    }
    p->at = list;
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
        if (!parameter(p, word))
            return false;
        k->name = p->at->text;
        return parameter(p, word) && take_key(p, k);
    }
    if (strcmp(word, "HEADER") == 0) /* these three match nothing in the real server */
        return parameter(p, word) && parameter(p, word);
    if (strcmp(word, "BODY") == 0 || strcmp(word, "TEXT") == 0)
        return parameter(p, word);
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
    request_bad(p->s, p->r, "Unknown MIMEPART key %s", word);
    return false;
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
    bool negate = false, good;

    while (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "NOT")) {
        negate = !negate;
        p->at = a;
        a = a->next;
    }
    if (a == NULL)
        return bad(p, "Missing MIMEPART key");
    if (p->keys >= SEARCH_PART_KEYS)
        return bad(p, "Too many MIMEPART keys");
    k = *out = new_key(p, PART_NONE);
    k->negate = negate;
    p->at = a;
    if (a->type == IMAP_LIST) {
        good = parse_list(p, k);
    } else if (!imap_arg_is_atom(a)) {
        request_bad(p->s, p->r, "Unexpected string as search key: %.*s", (int)(a->text.size > 200 ? 200 : a->text.size),
                    (const char *)a->text.at);
        return false;
    } else if (slice_equal_str_nocase(a->text, "OR")) {
        good = parse_or(p, k);
    } else {
        good = parse_word(p, k, request_upper(p->r, a->text));
    }
    return good;
}

bool search_parse_mimepart(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg,
                           struct search_key *k)
{
    struct parse p = {.s = s, .r = r, .q = q, .at = *arg};
    struct search_part_key *part;

    if (!parse_key(&p, &part))
        return false;
    k->type = SEARCH_MIMEPART;
    k->part = part;
    k->part_keys = p.keys;
    *arg = p.at;
    return true;
}
