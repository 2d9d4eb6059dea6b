/* query.c - the search program of a virtual mailbox, in the syntax of SEARCH (RFC 3501 section 6.4.4).
 *
 * Sequence numbers mean nothing here. Dates relative to now (OLDER, YOUNGER) are those of the moment when the program is
 * read, which is at each SELECT. */
#include "store/search_part.h"
#include "store/virtual/virtual.h"

#include <time.h>

#define DEPTH_MAX 50

struct reading {
    struct arena *arena;
    struct slice rest;             /* of the text, while arguments are made of it */
    const struct imap_arg *at;     /* the last argument that was taken */
    unsigned depth;
};

static struct search_key *fault(struct error *e, const char *text, struct slice word)
{
    error_set(e, ERROR_INVALID, "%s: %.*s", text, (int)(word.size > 100 ? 100 : word.size), (const char *)word.at);
    return NULL;
}

/* ---- the text as arguments -------------------------------------------------------------------------------------------- */

static void read_quoted(struct reading *q, struct imap_arg *a)
{
    struct buffer out = {0};
    size_t i;

    for (i = 1; i < q->rest.size && q->rest.at[i] != '"'; i++) {
        if (q->rest.at[i] == '\\' && i + 1 < q->rest.size)
            i++;
        buffer_append_byte(&out, q->rest.at[i]);
    }
    a->type = IMAP_QUOTED;
    a->text = arena_slice(q->arena, buffer_slice(&out));
    buffer_free(&out);
    q->rest = slice_from(q->rest, i < q->rest.size ? i + 1 : i);
}

/* Up to the end, or where `inner` to the parenthesis. False with *e. */
static bool read_args(struct reading *q, struct imap_arg **out, bool inner, struct error *e)
{
    if (q->depth > DEPTH_MAX)
        return fault(e, "Search program is nested too deeply", SLICE("")) != NULL;
    for (;;) {
        struct imap_arg *a;
        size_t i = 0;

        while (q->rest.size > 0 && (q->rest.at[0] == ' ' || q->rest.at[0] == '\t'))
            q->rest = slice_from(q->rest, 1);
        if (q->rest.size == 0 || q->rest.at[0] == ')') {
            if (inner != (q->rest.size > 0))
                return fault(e, "Parentheses do not match", SLICE("")) != NULL;
            q->rest = slice_from(q->rest, inner ? 1 : 0);
            return true;
        }
        *out = a = ARENA_NEW(q->arena, struct imap_arg);
        out = &a->next;
        if (q->rest.at[0] == '(') {
            a->type = IMAP_LIST;
            q->rest = slice_from(q->rest, 1);
            q->depth++;
            if (!read_args(q, &a->children, true, e))
                return false;
            q->depth--;
        } else if (q->rest.at[0] == '"') {
            read_quoted(q, a);
        } else {
            while (i < q->rest.size && strchr(" \t()", q->rest.at[i]) == NULL)
                i++;
            a->type = IMAP_ATOM;
            a->text = slice_head(q->rest, i);
            q->rest = slice_from(q->rest, i);
        }
    }
}

/* ---- arguments as keys ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum search_type type;
    uint8_t flags;
    bool negate;
} plain[] = {{"ALL", SEARCH_ALL, 0, false}, {"ANSWERED", SEARCH_FLAGS, INDEX_ANSWERED, false},
             {"DELETED", SEARCH_FLAGS, INDEX_DELETED, false}, {"DRAFT", SEARCH_FLAGS, INDEX_DRAFT, false},
             {"FLAGGED", SEARCH_FLAGS, INDEX_FLAGGED, false}, {"SEEN", SEARCH_FLAGS, INDEX_SEEN, false},
             {"UNANSWERED", SEARCH_FLAGS, INDEX_ANSWERED, true}, {"UNDELETED", SEARCH_FLAGS, INDEX_DELETED, true},
             {"UNDRAFT", SEARCH_FLAGS, INDEX_DRAFT, true}, {"UNFLAGGED", SEARCH_FLAGS, INDEX_FLAGGED, true},
             {"UNSEEN", SEARCH_FLAGS, INDEX_SEEN, true}, {"RECENT", SEARCH_RECENT, 0, false}, {"OLD", SEARCH_RECENT, 0, true}};
static const struct {
    const char *name;
    enum search_date date;
    enum search_when when;
} dates[] = {{"BEFORE", SEARCH_INTERNAL, SEARCH_BEFORE}, {"ON", SEARCH_INTERNAL, SEARCH_ON}, {"SINCE", SEARCH_INTERNAL, SEARCH_SINCE},
             {"SENTBEFORE", SEARCH_SENT, SEARCH_BEFORE}, {"SENTON", SEARCH_SENT, SEARCH_ON}, {"SENTSINCE", SEARCH_SENT, SEARCH_SINCE},
             {"SAVEDBEFORE", SEARCH_SAVED, SEARCH_BEFORE}, {"SAVEDON", SEARCH_SAVED, SEARCH_ON}, {"SAVEDSINCE", SEARCH_SAVED, SEARCH_SINCE}};
static const char *const headers[] = {"FROM", "TO", "CC", "BCC", "SUBJECT"};

static struct search_key *header_key(struct reading *q, struct slice name, enum mime_match_kind match, struct slice text)
{
    struct search_key *k = search_key_new(q->arena, SEARCH_HEADER);

    k->name = name;
    k->match = match;
    k->key = mime_key_new(q->arena, text);
    return k;
}

static struct search_key *number_key(struct reading *q, struct slice word, struct slice text, struct error *e)
{
    struct search_key *k = search_key_new(q->arena, slice_equal_str_nocase(word, "LARGER") ? SEARCH_LARGER : SEARCH_SMALLER);
    uint64_t now = (uint64_t)time(NULL);
    bool older = slice_equal_str_nocase(word, "OLDER");

    if (!slice_to_u64(text, &k->number))
        return fault(e, "Invalid search parameter", text);
    if (older || slice_equal_str_nocase(word, "YOUNGER")) {
        k->type = SEARCH_DATE;
        k->exact = true;
        k->when = older ? SEARCH_BEFORE : SEARCH_SINCE;
        k->number = (k->number < now ? now - k->number : 0) + (older ? 1 : 0);
    }
    return k;
}

static struct search_key *parse_key(struct reading *q, struct error *e);

/* The string behind a key. */
static bool parameter(struct reading *q, struct slice word, struct slice *text, struct error *e)
{
    const struct imap_arg *a = q->at->next;

    if (!imap_arg_is_string(a))
        return fault(e, "Missing parameter for search key", word) != NULL;
    q->at = a;
    *text = a->text;
    return true;
}

/* INTHREAD algorithm key */
static struct search_key *inthread_key(struct reading *q, struct slice word, struct error *e)
{
    struct search_key *k = search_key_new(q->arena, SEARCH_INTHREAD);
    struct slice text;

    if (!parameter(q, word, &text, e))
        return NULL;
    if (!thread_kind_parse(text, &k->thread))
        return fault(e, "Unknown thread algorithm", text);
    k->children = parse_key(q, e);
    return k->children == NULL ? NULL : k;
}

static struct search_key *mimepart_key(struct reading *q, struct error *e)
{
    struct search_key *k = search_key_new(q->arena, SEARCH_MIMEPART);
    const char *text;

    return search_part_parse(q->arena, "UTF-8", &q->at, k, &text) ? k : fault(e, "Invalid MIMEPART", slice_from_str(text));
}

/* Keys with one parameter, HEADER with two. NULL with *e; *known false: no such word. */
static struct search_key *parameter_key(struct reading *q, struct slice word, bool *known, struct error *e)
{
    static const char *const others[] = {"BODY", "TEXT", "HEADER", "LARGER", "SMALLER", "OLDER", "YOUNGER", "KEYWORD", "UNKEYWORD", "X-GUID"};
    struct slice text = SLICE_EMPTY, second;
    struct search_key *k;
    int date = -1, header = -1;
    bool other = false;

    for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++)
        if (slice_equal_str_nocase(word, dates[i].name))
            date = (int)i;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        if (slice_equal_str_nocase(word, headers[i]))
            header = (int)i;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        other = other || slice_equal_str_nocase(word, others[i]);
    *known = date >= 0 || header >= 0 || other;
    if (!*known)
        return NULL;
    if (!parameter(q, word, &text, e))
        return NULL;
    if (date >= 0) {
        k = search_key_new(q->arena, SEARCH_DATE);
        k->date = dates[date].date;
        k->when = dates[date].when;
        return search_date_parse(text, &k->number) ? k : fault(e, "Invalid search date parameter", text);
    }
    if (header >= 0)
        return header_key(q, slice_from_str(headers[header]), *headers[header] == 'S' ? MIME_MATCH_SUBJECT : MIME_MATCH_ADDRESSES, text);
    if (slice_equal_str_nocase(word, "HEADER"))
        return parameter(q, word, &second, e) ? header_key(q, text, MIME_MATCH_VALUE, second) : NULL;
    if (slice_equal_str_nocase(word, "BODY") || slice_equal_str_nocase(word, "TEXT")) {
        k = search_key_new(q->arena, text.size == 0 ? SEARCH_ALL : slice_equal_str_nocase(word, "TEXT") ? SEARCH_TEXT : SEARCH_BODY);
        k->key = mime_key_new(q->arena, text);
        return k;
    }
    if (slice_equal_str_nocase(word, "KEYWORD") || slice_equal_str_nocase(word, "UNKEYWORD") || slice_equal_str_nocase(word, "X-GUID")) {
        k = search_key_new(q->arena, slice_equal_str_nocase(word, "X-GUID") ? SEARCH_GUID : SEARCH_KEYWORD);
        k->negate = slice_equal_str_nocase(word, "UNKEYWORD");
        k->name = text;
        return k;
    }
    return number_key(q, word, text, e);
}

static struct search_key *parse_all(struct reading *q, struct imap_arg *first, struct error *e)
{
    struct search_key *all = search_key_new(q->arena, SEARCH_AND), **tail = &all->children;
    struct imap_arg *before = ARENA_NEW(q->arena, struct imap_arg);

    before->next = first;
    q->at = before;
    while (q->at->next != NULL) {
        *tail = parse_key(q, e);
        if (*tail == NULL)
            return NULL;
        tail = &(*tail)->next;
    }
    return all->children == NULL ? fault(e, "Empty search program", SLICE("")) : all;
}

static struct search_key *parse_word(struct reading *q, struct slice word, struct error *e)
{
    struct search_key *k, **tail;
    bool known;

    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (slice_equal_str_nocase(word, plain[i].name)) {
            k = search_key_new(q->arena, plain[i].type);
            k->flags = plain[i].flags;
            k->negate = plain[i].negate;
            return k;
        }
    }
    if (slice_equal_str_nocase(word, "NOT") || slice_equal_str_nocase(word, "OR")) {
        bool either = slice_equal_str_nocase(word, "OR");

        k = search_key_new(q->arena, either ? SEARCH_OR : SEARCH_AND);
        tail = &k->children;
        for (int i = 0; i < (either ? 2 : 1); i++) {
            *tail = parse_key(q, e);
            if (*tail == NULL)
                return NULL;
            tail = &(*tail)->next;
        }
        k->negate = !either;
        return k;
    }
    if (slice_equal_str_nocase(word, "INTHREAD"))
        return inthread_key(q, word, e);
    if (slice_equal_str_nocase(word, "MIMEPART"))
        return mimepart_key(q, e);
    k = parameter_key(q, word, &known, e);
    return known ? k : fault(e, "Unknown search key", word);
}

/* The key behind the last argument taken. */
static struct search_key *parse_key(struct reading *q, struct error *e)
{
    const struct imap_arg *a = q->at->next;
    struct search_key *k;

    if (q->depth >= DEPTH_MAX)
        return fault(e, "Search program is nested too deeply", SLICE(""));
    if (a == NULL || (a->type != IMAP_LIST && !imap_arg_is_atom(a)))
        return fault(e, "Search key expected", a == NULL ? SLICE("") : a->text);
    q->depth++;
    if (a->type == IMAP_LIST) {
        k = parse_all(q, a->children, e);
        q->at = a;
    } else {
        q->at = a;
        k = parse_word(q, a->text, e);
    }
    q->depth--;
    return k;
}

struct search_key *virtual_query_parse(struct arena *arena, const char *text, struct error *e)
{
    struct reading q = {.arena = arena, .rest = slice_from_str(text)};
    struct imap_arg *args = NULL;

    return read_args(&q, &args, false, e) ? parse_all(&q, args, e) : NULL;
}
