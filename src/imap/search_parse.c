/* search_parse.c - search keys (RFC 3501 section 6.4.4, RFC 4731, RFC 5182, RFC 7162; imap 11.1). */
#include "imap/updates.h"
#include "store/search_part.h"

#include <time.h>

enum { DEPTH_MAX = 200 };

/* ---- keys without a parameter ---------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum search_type type;
    uint8_t flags;
    bool negate;
} plain[] = {{"ALL", SEARCH_ALL, 0, false},
             {"ANSWERED", SEARCH_FLAGS, INDEX_ANSWERED, false},
             {"DELETED", SEARCH_FLAGS, INDEX_DELETED, false},
             {"DRAFT", SEARCH_FLAGS, INDEX_DRAFT, false},
             {"FLAGGED", SEARCH_FLAGS, INDEX_FLAGGED, false},
             {"SEEN", SEARCH_FLAGS, INDEX_SEEN, false},
             {"UNANSWERED", SEARCH_FLAGS, INDEX_ANSWERED, true},
             {"UNDELETED", SEARCH_FLAGS, INDEX_DELETED, true},
             {"UNDRAFT", SEARCH_FLAGS, INDEX_DRAFT, true},
             {"UNFLAGGED", SEARCH_FLAGS, INDEX_FLAGGED, true},
             {"UNSEEN", SEARCH_FLAGS, INDEX_SEEN, true},
             {"RECENT", SEARCH_RECENT, 0, false},
             {"OLD", SEARCH_RECENT, 0, true},
             {"SAVEDATESUPPORTED", SEARCH_ALL, 0, false}};

static const struct {
    const char *name;
    enum search_date date;
    enum search_when when;
} dates[] = {{"BEFORE", SEARCH_INTERNAL, SEARCH_BEFORE},   {"ON", SEARCH_INTERNAL, SEARCH_ON},
             {"SINCE", SEARCH_INTERNAL, SEARCH_SINCE},     {"SENTBEFORE", SEARCH_SENT, SEARCH_BEFORE},
             {"SENTON", SEARCH_SENT, SEARCH_ON},           {"SENTSINCE", SEARCH_SENT, SEARCH_SINCE},
             {"SAVEDBEFORE", SEARCH_SAVED, SEARCH_BEFORE}, {"SAVEDON", SEARCH_SAVED, SEARCH_ON},
             {"SAVEDSINCE", SEARCH_SAVED, SEARCH_SINCE},   {"X-SAVEDBEFORE", SEARCH_SAVED, SEARCH_BEFORE},
             {"X-SAVEDON", SEARCH_SAVED, SEARCH_ON},       {"X-SAVEDSINCE", SEARCH_SAVED, SEARCH_SINCE}};

/* ---- parameters -------------------------------------------------------------------------------------------------------- */

/* The string behind a key; *arg moves to it. */
static bool parameter(struct session *s, struct request *r, const struct imap_arg **arg, const char *key)
{
    const struct imap_arg *a = (*arg)->next;

    if (a == NULL) {
        request_bad(s, r, "Missing parameter for search key (for search key: %s)", key);
        return false;
    }
    if (a->type == IMAP_LIST) {
        request_bad(s, r, "Unexpected ( (for search key: %s)", key);
        return false;
    }
    *arg = a;
    return true;
}

/* Text of a key in UTF-8. */
static bool key_text(struct session *s, struct request *r, struct search *q, const struct imap_arg *arg, struct slice *utf8)
{
    struct buffer out = {0};
    bool good;

    if (q->bad_charset)
        return search_charset_unknown(s, r, q);
    good = mime_charset_to_utf8(slice_from_str(q->charset == NULL ? "UTF-8" : q->charset), arg->text, &out);
    if (q->charset != NULL && *q->charset == '\0') /* no charset at all: nothing but ASCII */
        for (size_t i = 0; i < arg->text.size; i++)
            good = good && arg->text.at[i] < 0x80;
    *utf8 = arena_slice(r->arena, buffer_slice(&out));
    buffer_free(&out);
    if (!good)
        request_bad(s, r, "Invalid search key");
    return good;
}

/* The UIDs that are meant, also of messages that are still to come (searches that are watched). */
static void put_uids(struct session *s, const struct imap_set *set, struct index_ranges *out)
{
    const struct index_view *view = mailbox_view_index(s->view);
    uint32_t count = index_view_count(view), last = count == 0 ? 0 : index_view_uid(view, count);

    for (size_t i = 0; i < set->count; i++) {
        uint32_t a = set->at[i].first, b = set->at[i].last;

        if (a == 0 && b == 0) { /* '*' */
            if (last != 0)
                index_ranges_add(out, last, last);
        } else if (a == 0 || b == 0) { /* as far as the mailbox goes now */
            a = a == 0 ? b : a;
            if (last != 0)
                index_ranges_add(out, a > last ? last : a, last);
        } else {
            index_ranges_add(out, a < b ? a : b, a < b ? b : a);
        }
    }
}

/* A sequence set, "UID set", "$". */
static bool parse_set(struct session *s, struct request *r, struct search *q, struct slice text, bool uids,
                      struct search_key *k)
{
    struct imap_set set;

    k->type = SEARCH_SEQS;
    if (imap_set_parse(r->arena, text, &set) < 0) {
        request_bad(s, r, uids ? "Invalid UID messageset" : "Invalid messageset");
        return false;
    }
    if (uids && !set.saved) {
        k->type = SEARCH_UIDS;
        put_uids(s, &set, &k->ranges);
        VEC_PUSH(&q->with_ranges, k);
        return true;
    }
    imap_set_resolve(&set, uids ? IMAP_SET_UIDS : IMAP_SET_SEARCH_SEQS, mailbox_view_index(s->view), &s->saved,
                     &k->ranges);
    VEC_PUSH(&q->with_ranges, k);
    if (!uids)
        q->has_set = true;
    return true;
}

/* MESSAGELIMIT of any size, or UIDONLY. */
static bool uid_bounds_known(const struct session *s)
{
    return session_extension(s, "UIDONLY") || strcasestr(conf_str(s->set, SET_imap_capability), "MESSAGELIMIT=") != NULL;
}

/* UIDAFTER n, UIDBEFORE n: the bound itself is not meant. */
static bool parse_uid_bound(struct session *s, struct request *r, struct search *q, struct slice text, bool after, struct search_key *k)
{
    uint32_t n;

    if (!slice_to_u32(text, &n) || n == 0) {
        request_bad(s, r, "Invalid UID");
        return false;
    }
    k->type = SEARCH_UIDS;
    if (after && n < UINT32_MAX)
        index_ranges_add(&k->ranges, n + 1, UINT32_MAX);
    else if (!after && n > 1)
        index_ranges_add(&k->ranges, 1, n - 1);
    VEC_PUSH(&q->with_ranges, k);
    return true;
}

/* UIDs in the mailboxes behind a virtual one: '*' can only mean the highest that there may be. */
static bool parse_real_uids(struct session *s, struct request *r, struct search *q, struct slice text, struct search_key *k)
{
    struct imap_set set;

    k->type = SEARCH_REAL_UIDS;
    if (imap_set_parse(r->arena, text, &set) < 0 || set.saved) {
        request_bad(s, r, "Invalid UID messageset");
        return false;
    }
    for (size_t i = 0; i < set.count; i++) {
        uint32_t first = set.at[i].first == 0 ? UINT32_MAX - 1 : set.at[i].first;
        uint32_t last = set.at[i].last == 0 ? UINT32_MAX - 1 : set.at[i].last;

        index_ranges_add(&k->ranges, first < last ? first : last, first < last ? last : first);
    }
    VEC_PUSH(&q->with_ranges, k);
    return true;
}

static bool parse_header(struct session *s, struct request *r, struct search *q, const struct imap_arg *arg,
                         struct slice name, enum mime_match_kind match, struct search_key *k)
{
    struct slice text;

    if (!key_text(s, r, q, arg, &text))
        return false;
    k->type = SEARCH_HEADER;
    k->name = name;
    k->match = match;
    k->key = mime_key_new(r->arena, text);
    return true;
}

static bool parse_body(struct session *s, struct request *r, struct search *q, const struct imap_arg *arg, bool text,
                       struct search_key *k)
{
    struct slice utf8;

    if (!key_text(s, r, q, arg, &utf8))
        return false;
    k->type = utf8.size == 0 ? SEARCH_ALL : text ? SEARCH_TEXT : SEARCH_BODY;
    k->key = mime_key_new(r->arena, utf8);
    return true;
}

static bool is_keyword(struct session *s, struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (name.at[i] <= ' ' || name.at[i] == 0x7f || strchr("]%*\\(){\"", name.at[i]) != NULL)
            return false;
    }
    return name.size > 0 && name.size <= conf_uint(s->set, SET_mail_max_keyword_length);
}

/* MODSEQ [entry type] n (RFC 7162 section 3.1.5). */
static bool parse_modseq(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg,
                         struct search_key *k)
{
    const struct imap_arg *a = *arg;
    uint64_t number;

    if (!imap_number(a->text, &number)) { /* quoted or not: an entry is what is no number */
        struct slice flag = a->text;

        if (!slice_starts_nocase(flag, SLICE("/flags/")) || a->next == NULL || !imap_arg_is_string(a->next)) {
            request_bad(s, r, "Invalid MODSEQ value");
            return false;
        }
        flag = slice_from(flag, 7);
        if (flag.size > 0 && flag.at[0] == '\\' && !slice_equal_str_nocase(flag, "\\seen") &&
            !slice_equal_str_nocase(flag, "\\answered") && !slice_equal_str_nocase(flag, "\\flagged") &&
            !slice_equal_str_nocase(flag, "\\deleted") && !slice_equal_str_nocase(flag, "\\draft")) {
            request_bad(s, r, "Invalid MODSEQ system flag");
            return false;
        }
        if (is_keyword(s, flag))
            session_keyword_mention(s, flag);
        a = a->next;
        if (!slice_equal_str_nocase(a->text, "all") && !slice_equal_str_nocase(a->text, "priv") &&
            !slice_equal_str_nocase(a->text, "shared")) {
            request_bad(s, r, "Invalid MODSEQ type");
            return false;
        }
        a = a->next;
    }
    if (a == NULL || !imap_arg_is_string(a) || !imap_number(a->text, &k->number)) {
        request_bad(s, r, "Invalid MODSEQ value");
        return false;
    }
    *arg = a;
    k->type = SEARCH_MODSEQ;
    q->has_modseq = true;
    r->condstore = true;
    return true;
}

static bool parse_number(struct session *s, struct request *r, struct slice text, const char *what, uint64_t least,
                         struct search_key *k)
{
    if (imap_number(text, &k->number) && k->number >= least)
        return true;
    request_bad(s, r, "Invalid search %s parameter", what);
    return false;
}

/* ---- one key ----------------------------------------------------------------------------------------------------------- */

static bool parse_list(struct session *s, struct request *r, struct search *q, const struct imap_arg *first,
                       struct search_key **out);
static bool parse_key(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg,
                      struct search_key **out);

static bool plain_key(const char *word, struct search_key *k)
{
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (strcmp(plain[i].name, word) == 0) {
            k->type = plain[i].type;
            k->flags = plain[i].flags;
            k->negate = plain[i].negate;
            return true;
        }
    }
    return false;
}

/* *found tells whether the word is one of these. */
/* SINCE and its like. `found`: the word is one of them. */
static bool date_key(struct session *s, struct request *r, const struct imap_arg **arg, const char *word, struct search_key *k,
                     bool *found)
{
    for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
        if (strcmp(dates[i].name, word) != 0)
            continue;
        *found = true;
        if (!parameter(s, r, arg, word))
            return false;
        k->type = SEARCH_DATE;
        k->date = dates[i].date;
        k->when = dates[i].when;
        if (search_date_parse((*arg)->text, &k->number))
            return true;
        request_bad(s, r, "Invalid search date parameter");
        return false;
    }
    *found = false;
    return true;
}

static bool age_key(struct session *s, struct request *r, const struct imap_arg **arg, const char *word, struct search_key *k)
{
    uint64_t now = (uint64_t)time(NULL);

    if (!parameter(s, r, arg, word) || !parse_number(s, r, (*arg)->text, "interval", 1, k))
        return false;
    k->type = SEARCH_DATE;
    k->exact = true;
    k->when = *word == 'O' ? SEARCH_BEFORE : SEARCH_SINCE;
    k->number = (k->number < now ? now - k->number : 0) + (*word == 'O' ? 1 : 0); /* OLDER: so old or older */
    return true;
}

static bool keyword_key(struct session *s, struct request *r, const struct search *q, const struct imap_arg **arg, const char *word,
                        struct search_key *k)
{
    if (!parameter(s, r, arg, word))
        return false;
    k->negate = *word == 'U';
    k->type = is_keyword(s, (*arg)->text) ? SEARCH_KEYWORD : SEARCH_NONE;
    k->name = (*arg)->text;
    if (k->type == SEARCH_KEYWORD && q->where.size == 0) /* else the names are not the selected mailbox's */
        session_keyword_mention(s, k->name);
    return true;
}

static bool mimepart_key(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg, struct search_key *k)
{
    const char *fault;

    if (search_part_parse(r->arena, q->bad_charset ? NULL : q->charset == NULL ? "UTF-8" : q->charset, arg, k, &fault))
        return true;
    if (fault == NULL)
        return search_charset_unknown(s, r, q);
    request_bad(s, r, "%s", fault);
    return false;
}

/* Keys about what the header or the body says. */
static bool content_key(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg, const char *word,
                        struct search_key *k, bool *found)
{
    static const char *const headers[] = {"FROM", "TO", "CC", "BCC", "SUBJECT"};
    struct slice name;

    *found = true;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        if (strcmp(headers[i], word) == 0)
            return parameter(s, r, arg, word) && parse_header(s, r, q, *arg, slice_from_str(headers[i]),
                                                              *word == 'S' ? MIME_MATCH_SUBJECT : MIME_MATCH_ADDRESSES, k);
    }
    if (strcmp(word, "BODY") == 0 || strcmp(word, "TEXT") == 0)
        return parameter(s, r, arg, word) && parse_body(s, r, q, *arg, *word == 'T', k);
    if (strcmp(word, "HEADER") == 0) {
        if (!parameter(s, r, arg, word))
            return false;
        name = (*arg)->text;
        if (q->bad_charset)
            return search_charset_unknown(s, r, q);
        return parameter(s, r, arg, word) && parse_header(s, r, q, *arg, name, MIME_MATCH_VALUE, k);
    }
    if (strcmp(word, "MIMEPART") == 0)
        return mimepart_key(s, r, q, arg, k);
    *found = false;
    return true;
}

/* Names of messages and of the mailbox that do not change. */
static bool identity_key(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg, const char *word,
                         struct search_key *k, bool *found)
{
    bool email = strcmp(word, "EMAILID") == 0 && session_extension(s, "OBJECTID");

    *found = true;
    if (email || strcmp(word, "X-GUID") == 0) {
        if (!parameter(s, r, arg, word))
            return false;
        k->type = SEARCH_GUID;
        k->exact = email;
        k->name = slice_from((*arg)->text, email ? 1 : 0);
        return true;
    }
    if (strcmp(word, "THREADID") == 0 && session_extension(s, "OBJECTID")) {
        k->type = SEARCH_NONE; /* messages have none */
        return parameter(s, r, arg, word);
    }
    if (strcmp(word, "X-MAILBOX") == 0) {
        k->type = SEARCH_MAILBOX;
        return parameter(s, r, arg, word) && (q->bad_charset || key_text(s, r, q, *arg, &k->name));
    }
    *found = false;
    return true;
}

/* INTHREAD algorithm key. */
static bool inthread_key(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg, struct search_key *k)
{
    if (!thread_kind_parse((*arg)->text, &k->thread)) {
        request_bad(s, r, "Unknown thread algorithm");
        return false;
    }
    *arg = (*arg)->next;
    if (*arg == NULL) {
        request_bad(s, r, "Missing argument");
        return false;
    }
    k->type = SEARCH_INTHREAD;
    return parse_key(s, r, q, arg, &k->children);
}

/* A key with parameters. `found` false: the word is none. */
static bool parameter_key(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg,
                          const char *word, struct search_key *k, bool *found)
{
    bool good = date_key(s, r, arg, word, k, found);

    if (!*found)
        good = content_key(s, r, q, arg, word, k, found);
    if (!*found)
        good = identity_key(s, r, q, arg, word, k, found);
    if (*found)
        return good;
    *found = true;
    if (strcmp(word, "LARGER") == 0 || strcmp(word, "SMALLER") == 0) {
        k->type = *word == 'L' ? SEARCH_LARGER : SEARCH_SMALLER;
        return parameter(s, r, arg, word) && parse_number(s, r, (*arg)->text, "size", 0, k);
    }
    if (strcmp(word, "OLDER") == 0 || strcmp(word, "YOUNGER") == 0)
        return age_key(s, r, arg, word, k);
    if (strcmp(word, "KEYWORD") == 0 || strcmp(word, "UNKEYWORD") == 0)
        return keyword_key(s, r, q, arg, word, k);
    if (strcmp(word, "MODSEQ") == 0)
        return parameter(s, r, arg, word) && parse_modseq(s, r, q, arg, k);
    if (strcmp(word, "UID") == 0)
        return parameter(s, r, arg, word) && parse_set(s, r, q, (*arg)->text, true, k);
    if ((strcmp(word, "UIDAFTER") == 0 || strcmp(word, "UIDBEFORE") == 0) && uid_bounds_known(s)) /* RFC 9738 section 3.4 */
        return parameter(s, r, arg, word) && parse_uid_bound(s, r, q, (*arg)->text, word[3] == 'A', k);
    if (strcmp(word, "X-REAL-UID") == 0)
        return parameter(s, r, arg, word) && parse_real_uids(s, r, q, (*arg)->text, k);
    if (strcmp(word, "INTHREAD") == 0)
        return parameter(s, r, arg, word) && inthread_key(s, r, q, arg, k);
    *found = false;
    return true;
}

static bool parse_or(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg,
                     struct search_key *k)
{
    struct search_key **tail = &k->children;

    k->type = SEARCH_OR;
    for (;;) { /* OR a OR b c: one list of alternatives, not a tree as deep as it is long */
        const struct imap_arg *a = (*arg)->next;

        if (a == NULL) {
            request_bad(s, r, "Missing argument");
            return false;
        }
        if (!parse_key(s, r, q, &a, tail))
            return false;
        tail = &(*tail)->next;
        *arg = a;
        a = a->next;
        if (a == NULL) {
            request_bad(s, r, "Missing argument");
            return false;
        }
        *arg = a;
        if (imap_arg_is_atom(a) && slice_equal_str_nocase(a->text, "OR"))
            continue;
        return parse_key(s, r, q, arg, tail);
    }
}

static bool is_set(const char *word)
{
    return (*word >= '0' && *word <= '9') || *word == '*' || strcmp(word, "$") == 0;
}

static bool parse_atom(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg,
                       struct search_key *k)
{
    const char *word = request_upper(r, (*arg)->text);
    bool found;

    if (plain_key(word, k))
        return true;
    if (strcmp(word, "NEW") == 0) {
        k->type = SEARCH_AND;
        k->children = search_key_new(r->arena, SEARCH_RECENT);
        k->children->next = search_key_new(r->arena, SEARCH_FLAGS);
        k->children->next->flags = INDEX_SEEN;
        k->children->next->negate = true;
        return true;
    }
    if (strcmp(word, "OR") == 0)
        return parse_or(s, r, q, arg, k);
    if (is_set(word)) {
        struct imap_set set;

        return imap_set_parse(r->arena, (*arg)->text, &set) == 0 && set.saved
                   ? parse_set(s, r, q, (*arg)->text, true, k)
                   : parse_set(s, r, q, (*arg)->text, false, k);
    }
    if (!parameter_key(s, r, q, arg, word, k, &found))
        return false;
    if (!found)
        request_bad(s, r, "Unknown argument %s", word);
    return found;
}

/* One key; *arg moves to its last argument. */
static bool parse_key(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg,
                      struct search_key **out)
{
    struct search_key *k = *out = search_key_new(r->arena, SEARCH_ALL);
    bool negate = false, good;

    if (++q->depth > DEPTH_MAX) {
        request_bad(s, r, "Too many nested search keys");
        return false;
    }
    while (imap_arg_is_atom(*arg) && (slice_equal_str_nocase((*arg)->text, "NOT") ||
                                      slice_equal_str_nocase((*arg)->text, "FUZZY"))) {
        negate = negate != slice_equal_str_nocase((*arg)->text, "NOT");
        if ((*arg)->next == NULL) {
            request_bad(s, r, "Missing argument");
            return false;
        }
        *arg = (*arg)->next;
    }
    if ((*arg)->type == IMAP_LIST) {
        if ((*arg)->children == NULL) {
            request_bad(s, r, "No search parameters inside list");
            return false;
        }
        k->type = SEARCH_AND;
        good = parse_list(s, r, q, (*arg)->children, &k->children);
    } else if (!imap_arg_is_atom(*arg)) {
        request_bad(s, r, "Unexpected string as search key: %.*s", (int)((*arg)->text.size > 200 ? 200 : (*arg)->text.size),
                    (const char *)(*arg)->text.at);
        return false;
    } else {
        good = parse_atom(s, r, q, arg, k);
    }
    if (negate)
        k->negate = !k->negate;
    q->depth--;
    return good;
}

static bool parse_list(struct session *s, struct request *r, struct search *q, const struct imap_arg *first,
                       struct search_key **out)
{
    for (const struct imap_arg *a = first; a != NULL; a = a->next) {
        if (!parse_key(s, r, q, &a, out))
            return false;
        out = &(*out)->next;
    }
    return true;
}

bool search_parse(struct session *s, struct request *r, struct search *q, const struct imap_arg *arg)
{
    if (arg == NULL) {
        request_bad(s, r, "Missing search parameters");
        return false;
    }
    q->root = search_key_new(r->arena, SEARCH_AND);
    if (!parse_list(s, r, q, arg, &q->root->children))
        return false;
    q->match = store_search_new(r->arena, q->root);
    return true;
}

/* ---- RETURN (...) ------------------------------------------------------------------------------------------------------ */

/* "a:b", or with RFC 9394 "-a:-b": from the end. */
static bool parse_range(const struct session *s, struct slice text, uint32_t *first, uint32_t *last, bool *end)
{
    struct slice rest = text, a;

    if (!slice_split(&rest, ':', &a))
        return false;
    *end = a.size > 0 && a.at[0] == '-' && session_extension(s, "PARTIAL");
    if (*end) {
        if (rest.size == 0 || rest.at[0] != '-')
            return false;
        a = slice_from(a, 1);
        rest = slice_from(rest, 1);
    }
    if (!slice_to_u32(a, first) || !slice_to_u32(rest, last) || *first == 0 || *last == 0)
        return false;
    if (*first > *last) {
        uint32_t t = *first;
        *first = *last;
        *last = t;
    }
    return true;
}

bool search_parse_partial(const struct session *s, struct slice text, uint32_t *first, uint32_t *last, bool *end)
{
    return parse_range(s, text, first, last, end);
}

/* UPDATE [(items)]; *arg moves behind the items. */
static bool parse_update(struct session *s, struct request *r, struct search *q, const struct imap_arg **arg)
{
    const struct imap_arg *items = (*arg)->next;

    if ((q->returns & RETURN_UPDATE) != 0) {
        request_bad(s, r, "SEARCH return options have duplicate UPDATE");
        return false;
    }
    if (items == NULL || items->type != IMAP_LIST)
        return true;
    *arg = items;
    if (items->children == NULL)
        return true;
    return fetch_parse_news(s, r, items, "SEARCH UPDATE fetch-att: ", &q->update_items);
}

bool search_parse_returns(struct session *s, struct request *r, struct search *q, const struct imap_arg *list)
{
    static const struct {
        const char *name;
        unsigned flag;
    } words[] = {{"MIN", RETURN_MIN},   {"MAX", RETURN_MAX},       {"ALL", RETURN_ALL},
                 {"COUNT", RETURN_COUNT}, {"SAVE", RETURN_SAVE},   {"UPDATE", RETURN_UPDATE},
                 {"CONTEXT", 0},        {"RELEVANCY", RETURN_RELEVANCY}};

    q->extended = true;
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        size_t i = 0;

        if (!imap_arg_is_atom(a)) {
            request_bad(s, r, "SEARCH return options contain non-atoms");
            return false;
        }
        if (slice_equal_str_nocase(a->text, "PARTIAL")) {
            if ((q->returns & RETURN_PARTIAL) != 0) {
                request_bad(s, r, "PARTIAL can be used only once");
                return false;
            }
            if (!imap_arg_is_atom(a->next)) {
                request_bad(s, r, "PARTIAL range missing");
                return false;
            }
            a = a->next;
            if (!parse_range(s, a->text, &q->partial_first, &q->partial_last, &q->partial_end)) {
                request_bad(s, r, "PARTIAL range broken");
                return false;
            }
            q->returns |= RETURN_PARTIAL;
            continue;
        }
        while (i < sizeof(words) / sizeof(words[0]) && !slice_equal_str_nocase(a->text, words[i].name))
            i++;
        if (i == sizeof(words) / sizeof(words[0])) {
            request_bad(s, r, "Unknown SEARCH return option");
            return false;
        }
        if (words[i].flag == RETURN_UPDATE && !parse_update(s, r, q, &a))
            return false;
        q->returns |= words[i].flag;
    }
    if ((q->returns & RETURN_UPDATE) != 0 && updates_has(s, slice_from_str(r->tag))) {
        request_bad(s, r, "Duplicate search update tag");
        return false;
    }
    if ((q->returns & (RETURN_PARTIAL | RETURN_ALL)) == (RETURN_PARTIAL | RETURN_ALL)) {
        request_bad(s, r, "PARTIAL conflicts with ALL");
        return false;
    }
    if (q->returns == 0)
        q->returns |= RETURN_ALL;
    return true;
}
