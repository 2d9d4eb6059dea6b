/* query.c - words to a tree (doveadm 5).
 *
 * AND binds neighbours, OR between keys makes the whole list at that level an OR; both at one level are refused. */
#include "query_impl.h"

#include "store/search_part.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

struct parser {
    struct doveadm *d;
    const char *const *words;
    size_t n, at;
    struct imap_arg *args;     /* the words as arguments, once MIMEPART wants them */
    bool oldest_only;
};

static struct query_node *new_node(struct parser *p, enum query_kind kind)
{
    struct query_node *node = ARENA_NEW(p->d->arena, struct query_node);

    node->kind = kind;
    return node;
}

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    doveadm_fatal(DOVEADM_TEMPFAIL, "%s", text);
}

static const char *parameter(struct parser *p, const char *key)
{
    if (p->at >= p->n)
        fail("Missing parameter for search key (for search key: %s)", key);
    return p->words[p->at++];
}

static struct query_node *key_node(struct parser *p, struct search_key *key)
{
    struct query_node *node = new_node(p, QUERY_KEY);

    node->key = key;
    return node;
}

static struct search_key *new_key(struct parser *p, enum search_type type)
{
    return search_key_new(p->d->arena, type);
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

/* The ranges live in the arena, as the rest of the query does. `star`: what "*" is. */
static bool parse_set(struct arena *arena, const char *text, uint32_t star, struct index_ranges *out)
{
    struct index_ranges found = {0};
    struct slice rest = slice_from_str(text), one, low;

    if (*text == '\0' || strspn(text, "0123456789*,:") != strlen(text))
        return false;
    while (slice_split(&rest, ',', &one)) {
        uint32_t a = star, b;
        slice_split(&one, ':', &low);
        if (!slice_equal_str(low, "*") && (!slice_to_u32(low, &a) || a == 0))
            goto bad;
        b = a;
        if (one.at != NULL && one.size > 0) {
            b = star;
            if (!slice_equal_str(one, "*") && (!slice_to_u32(one, &b) || b == 0))
                goto bad;
        }
        index_ranges_add(&found, a < b ? a : b, a < b ? b : a);
    }
    *out = (struct index_ranges){.at = ARENA_ARRAY(arena, struct index_range, found.count + 1), .count = found.count};
    memcpy(out->at, found.at, found.count * sizeof(*found.at));
    index_ranges_free(&found);
    return true;
bad:
    index_ranges_free(&found);
    return false;
}


/* Settings intervals with or without a blank: "1day", "2 w"; unit words and their beginnings. */
static bool parse_interval(const char *text, uint64_t *secs)
{
    static const struct {
        const char *word;
        uint64_t secs;
    } units[] = {{"secs", 1}, {"mins", 60}, {"hours", 3600}, {"days", 86400}, {"weeks", 604800}};
    char *unit;
    uint64_t n = strtoull(text, &unit, 10);

    if (unit == text)
        return false;
    while (*unit == ' ')
        unit++;
    if (*unit == '\0')
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strncasecmp(units[i].word, unit, strlen(unit)) == 0) {
            *secs = n * units[i].secs;
            return true;
        }
    return false;
}

/* The four forms, in the order of the specification: days, then exact times. */
static void parse_date(struct search_key *key, const char *text)
{
    int year, month, day, used = 0;
    uint64_t number;

    if (sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &used) == 3 && text[used] == '\0' && month >= 1 &&
        month <= 12 && day >= 1 && day <= 31) {
        struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
        key->number = (uint64_t)(timegm(&tm) / 86400);
        return;
    }
    if (search_date_parse(slice_from_str(text), &key->number))
        return;
    key->exact = true;
    if (slice_to_u64(slice_from_str(text), &key->number))
        return;
    if (!parse_interval(text, &number))
        fail("Invalid search date parameter: %s", text);
    key->number = (uint64_t)time(NULL) - number;
}

static uint64_t parse_size(const char *text)
{
    static const char letters[] = "bkmgt";
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    const char *unit;

    if (end == text)
        fail("Invalid size: %s", text);
    if (*end == '\0')
        return n;
    unit = strchr(letters, tolower((unsigned char)*end));
    if (unit == NULL || (end[1] != '\0' && strcasecmp(end + 1, "B") != 0 && strcasecmp(end + 1, "iB") != 0))
        fail("Invalid size: %s", text);
    for (const char *u = letters; u < unit; u++)
        n *= 1024;
    return n;
}

/* ---- keys ----------------------------------------------------------------------------------------------------------- */

static struct query_node *flag_node(struct parser *p, uint8_t flags, bool negate)
{
    struct search_key *key = new_key(p, SEARCH_FLAGS);

    key->flags = flags;
    key->negate = negate;
    return key_node(p, key);
}

static struct query_node *flag_key(struct parser *p, const char *key)
{
    static const struct {
        const char *name;
        uint8_t flag;
    } flags[] = {{"ANSWERED", INDEX_ANSWERED}, {"DELETED", INDEX_DELETED}, {"DRAFT", INDEX_DRAFT},
                 {"FLAGGED", INDEX_FLAGGED},   {"SEEN", INDEX_SEEN}};

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(key, flags[i].name) == 0)
            return flag_node(p, flags[i].flag, false);
        if (strncmp(key, "UN", 2) == 0 && strcmp(key + 2, flags[i].name) == 0)
            return flag_node(p, flags[i].flag, true);
    }
    return NULL;
}

static struct query_node *header_node(struct parser *p, const char *name, const char *value, enum mime_match_kind match)
{
    struct search_key *key = new_key(p, SEARCH_HEADER);

    key->name = slice_from_str(name);
    key->match = match;
    key->key = mime_key_new(p->d->arena, slice_from_str(value));
    return key_node(p, key);
}

static struct query_node *text_key(struct parser *p, const char *word)
{
    static const struct {
        const char *key, *header;
        enum mime_match_kind match;
    } headers[] = {{"FROM", "From", MIME_MATCH_ADDRESSES}, {"TO", "To", MIME_MATCH_ADDRESSES},
                   {"CC", "Cc", MIME_MATCH_ADDRESSES},     {"BCC", "Bcc", MIME_MATCH_ADDRESSES},
                   {"SUBJECT", "Subject", MIME_MATCH_SUBJECT}};
    bool body = strcmp(word, "BODY") == 0;

    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        if (strcmp(word, headers[i].key) == 0)
            return header_node(p, headers[i].header, parameter(p, word), headers[i].match);
    if (strcmp(word, "HEADER") == 0) {
        const char *name = parameter(p, word);
        return header_node(p, name, parameter(p, word), MIME_MATCH_VALUE);
    }
    if (body || strcmp(word, "TEXT") == 0) {
        struct search_key *key = new_key(p, body ? SEARCH_BODY : SEARCH_TEXT);
        key->key = mime_key_new(p->d->arena, slice_from_str(parameter(p, word)));
        return key_node(p, key);
    }
    return NULL;
}

static struct query_node *date_key(struct parser *p, const char *word)
{
    static const struct {
        const char *prefix;
        enum search_date date;
    } dates[] = {{"", SEARCH_INTERNAL}, {"SENT", SEARCH_SENT}, {"SAVED", SEARCH_SAVED}, {"X-SAVED", SEARCH_SAVED}};
    static const struct {
        const char *word;
        enum search_when when;
    } whens[] = {{"BEFORE", SEARCH_BEFORE}, {"ON", SEARCH_ON}, {"SINCE", SEARCH_SINCE}};

    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 3; j++) {
            size_t n = strlen(dates[i].prefix);
            struct search_key *key;
            if (strncmp(word, dates[i].prefix, n) != 0 || strcmp(word + n, whens[j].word) != 0)
                continue;
            key = new_key(p, SEARCH_DATE);
            key->date = dates[i].date;
            key->when = whens[j].when;
            parse_date(key, parameter(p, word));
            return key_node(p, key);
        }
    if (strcmp(word, "YOUNGER") == 0 || strcmp(word, "OLDER") == 0) {
        struct search_key *key = new_key(p, SEARCH_DATE);
        const char *text = parameter(p, word);
        uint64_t secs;
        if (!slice_to_u64(slice_from_str(text), &secs))
            fail("Invalid search date parameter: %s", text);
        key->date = SEARCH_INTERNAL;
        key->exact = true;
        key->when = *word == 'Y' ? SEARCH_SINCE : SEARCH_BEFORE;
        key->number = (uint64_t)time(NULL) - secs;
        return key_node(p, key);
    }
    return NULL;
}

static struct query_node *other_key(struct parser *p, const char *word)
{
    struct search_key *key;

    if (strcmp(word, "ALL") == 0)
        return key_node(p, new_key(p, SEARCH_ALL));
    if (strcmp(word, "OLDESTONLY") == 0) {
        p->oldest_only = true;
        return key_node(p, new_key(p, SEARCH_ALL));
    }
    if (strcmp(word, "RECENT") == 0)
        return key_node(p, new_key(p, SEARCH_RECENT));
    if (strcmp(word, "OLD") == 0) {
        key = new_key(p, SEARCH_RECENT);
        key->negate = true;
        return key_node(p, key);
    }
    if (strcmp(word, "NEW") == 0) {
        struct query_node *both = new_node(p, QUERY_AND);
        both->children = key_node(p, new_key(p, SEARCH_RECENT));
        both->children->next = flag_node(p, INDEX_SEEN, true);
        return both;
    }
    if (strcmp(word, "KEYWORD") == 0 || strcmp(word, "UNKEYWORD") == 0) {
        key = new_key(p, SEARCH_KEYWORD);
        key->negate = *word == 'U';
        key->name = slice_from_str(parameter(p, word));
        return key_node(p, key);
    }
    if (strcmp(word, "LARGER") == 0 || strcmp(word, "SMALLER") == 0) {
        key = new_key(p, *word == 'L' ? SEARCH_LARGER : SEARCH_SMALLER);
        key->number = parse_size(parameter(p, word));
        return key_node(p, key);
    }
    if (strcmp(word, "GUID") == 0 || strcmp(word, "X-GUID") == 0) {
        key = new_key(p, SEARCH_GUID);
        key->name = slice_from_str(parameter(p, word));
        return key_node(p, key);
    }
    if (strcmp(word, "MODSEQ") == 0) {
        key = new_key(p, SEARCH_MODSEQ);
        if (!slice_to_u64(slice_from_str(parameter(p, word)), &key->number))
            fail("Invalid MODSEQ parameter");
        return key_node(p, key);
    }
    if (strcmp(word, "SAVEDATESUPPORTED") == 0)
        return key_node(p, new_key(p, SEARCH_ALL));
    if (strcmp(word, "UID") == 0 || strcmp(word, "X-REAL-UID") == 0) {
        key = new_key(p, SEARCH_UIDS);
        /* Not the last message, as in IMAP, but no end: "99:*" is nothing where there is no UID from 99 on. */
        if (!parse_set(p->d->arena, parameter(p, word), UINT32_MAX - 1, &key->ranges))
            fail("Invalid UID messageset");
        return key_node(p, key);
    }
    return NULL;
}

static struct query_node *mailbox_key(struct parser *p, const char *word)
{
    struct query_node *node;

    if (strcmp(word, "MAILBOX") == 0 || strcmp(word, "X-MAILBOX") == 0) {
        const char *name = parameter(p, word);
        if (!text_utf8_valid(slice_from_str(name)))
            fail("Mailbox name not valid UTF-8: %s", name);
        node = new_node(p, *word == 'X' ? QUERY_X_MAILBOX : QUERY_MAILBOX);
        node->text = strcasecmp(name, "INBOX") == 0 ? "INBOX" : name;
        return node;
    }
    if (strcmp(word, "MAILBOX-GUID") == 0) {
        node = new_node(p, QUERY_MAILBOX_GUID);
        node->text = parameter(p, word);
        return node;
    }
    return NULL;
}

static struct query_node *mimepart_key(struct parser *p)
{
    struct search_key *key = new_key(p, SEARCH_MIMEPART);
    const struct imap_arg *last;
    const char *fault;

    if (p->args == NULL) {
        p->args = ARENA_ARRAY(p->d->arena, struct imap_arg, p->n);
        for (size_t i = 0; i < p->n; i++) {
            p->args[i].type = IMAP_ATOM;
            p->args[i].text = slice_from_str(p->words[i]);
            p->args[i].next = i + 1 < p->n ? &p->args[i + 1] : NULL;
        }
    }
    last = &p->args[p->at - 1];
    if (!search_part_parse(p->d->arena, "UTF-8", &last, key, &fault))
        fail("%s", fault);
    p->at = (size_t)(last - p->args) + 1;
    return key_node(p, key);
}

static struct query_node *parse_list(struct parser *p, bool nested);
static struct query_node *parse_one(struct parser *p);

/* INTHREAD algorithm key: the key is judged for all messages of a mailbox. */
static struct query_node *inthread_key(struct parser *p)
{
    struct query_node *node = new_node(p, QUERY_INTHREAD);

    node->key = new_key(p, SEARCH_INTHREAD);
    if (!thread_kind_parse(slice_from_str(parameter(p, "INTHREAD")), &node->key->thread))
        fail("Unknown thread algorithm");
    if (p->at >= p->n)
        fail("Missing argument");
    node->children = parse_one(p);
    return node;
}

static struct query_node *parse_one(struct parser *p)
{
    const char *raw = p->words[p->at++], *word;
    struct query_node *node;
    struct search_key *key;

    if (strcmp(raw, "(") == 0)
        return parse_list(p, true);
    if (strcmp(raw, ")") == 0)
        fail("Unexpected ')'");
    word = arena_str_upper(p->d->arena, slice_from_str(raw));
    if (strcmp(word, "NOT") == 0) {
        if (p->at >= p->n)
            fail("Missing argument");
        node = parse_one(p);
        node->negate = !node->negate;
        return node;
    }
    if (strcmp(word, "FUZZY") == 0) {
        if (p->at >= p->n)
            fail("Missing argument");
        return parse_one(p);
    }
    if (strcmp(word, "MIMEPART") == 0)
        return mimepart_key(p);
    if (strcmp(word, "INTHREAD") == 0)
        return inthread_key(p);
    if ((node = mailbox_key(p, word)) != NULL || (node = flag_key(p, word)) != NULL ||
        (node = text_key(p, word)) != NULL || (node = date_key(p, word)) != NULL || (node = other_key(p, word)) != NULL)
        return node;
    key = new_key(p, SEARCH_SEQS);
    if (!parse_set(p->d->arena, raw, UINT32_MAX, &key->ranges))
        fail("Unknown argument %s", word);
    return key_node(p, key);
}

/* An OR anywhere makes all that stands beside it alternatives; behind it every two need one between them. */
static struct query_node *parse_list(struct parser *p, bool nested)
{
    struct query_node *list = new_node(p, QUERY_AND), **last = &list->children;
    bool closed = false, after_or = false;

    while (p->at < p->n) {
        if (nested && strcmp(p->words[p->at], ")") == 0) {
            p->at++;
            closed = true;
            break;
        }
        if (strcasecmp(p->words[p->at], "OR") == 0) {
            p->at++;
            list->kind = QUERY_OR;
            after_or = true;
            if (p->at >= p->n || (nested && strcmp(p->words[p->at], ")") == 0))
                fail("Missing argument");
            continue;
        }
        if (list->kind == QUERY_OR && !after_or)
            fail("Use parenthesis when mixing ANDs and ORs");
        *last = parse_one(p);
        last = &(*last)->next;
        after_or = false;
    }
    if (nested && !closed)
        fail("Missing ')'");
    if (list->children == NULL)
        fail("No search parameters inside list");
    return list;
}

struct query *query_parse(struct doveadm *d, const char *const *words, size_t n)
{
    struct parser p = {.d = d, .words = words, .n = n};
    struct query *q = ARENA_NEW(d->arena, struct query);

    q->root = parse_list(&p, false);
    q->oldest_only = p.oldest_only;
    return q;
}

/* ---- safety checks of expunge and move --------------------------------------------------------------------------------- */

static bool is_mailbox(const struct query_node *n)
{
    return n->kind == QUERY_MAILBOX || n->kind == QUERY_MAILBOX_GUID;
}

/* Does every branch name a mailbox? */
static bool has_mailbox(const struct query_node *n)
{
    if (is_mailbox(n))
        return true;
    if (n->kind == QUERY_AND) {
        for (const struct query_node *c = n->children; c != NULL; c = c->next)
            if (has_mailbox(c))
                return true;
        return false;
    }
    if (n->kind == QUERY_OR) {
        for (const struct query_node *c = n->children; c != NULL; c = c->next)
            if (!has_mailbox(c))
                return false;
        return true;
    }
    return false;
}

/* Does every branch say something besides? */
static bool has_more(const struct query_node *n)
{
    if (is_mailbox(n))
        return false;
    if (n->kind == QUERY_AND || n->kind == QUERY_OR) {
        bool all = n->kind == QUERY_OR;
        for (const struct query_node *c = n->children; c != NULL; c = c->next) {
            if (n->kind == QUERY_AND && has_more(c))
                return true;
            if (n->kind == QUERY_OR && !has_more(c))
                return false;
        }
        return all;
    }
    return true;
}

void query_check_safe(const struct query *q, const char *command)
{
    if (!has_mailbox(q->root))
        doveadm_fatal(DOVEADM_USAGE, "%s: To avoid accidents, search query must contain MAILBOX in all search branches",
                      command);
    if (!has_more(q->root))
        doveadm_fatal(DOVEADM_USAGE,
                      "%s: To avoid accidents, each branch in search query must contain something else besides MAILBOX "
                      "(e.g. just add \"all\" if you want everything)",
                      command);
}
