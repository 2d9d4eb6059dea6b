/* Address lists (RFC 5322 section 3.4, with the obsolete forms of 4.4), and what broken ones mean (imap 10.4).
 *
 * A list item is a group ("phrase :"), a name with an address in brackets ("phrase <...>"), or a bare address; they
 * are tried in this order, so that nothing is read more than three times. An item that does not end at a comma ends
 * the list. What is written as most programs write it is taken in one go, before (take_plain). Linear time; the number of
 * addresses is capped by the caller's budget (oracle-build 1.5). */
#include "base/text.h"
#include "mime/mime_internal.h"

struct list {
    struct arena *arena;
    struct mime_lex lex;
    struct buffer comment, text;
    struct mime_address *first, **tail;
    uint32_t *left;
    bool fill, borrow, short_way;
};

static struct slice keep_text(struct list *l)
{
    return mime_keep(l->arena, buffer_slice(&l->text));
}

static void add_address(struct list *l, struct mime_address a)
{
    if (*l->left == 0)
        return;
    --*l->left;
    struct mime_address *kept = ARENA_NEW(l->arena, struct mime_address);
    *kept = a;
    kept->next = NULL;
    *l->tail = kept;
    l->tail = &kept->next;
}

static void fill_missing(struct list *l, struct mime_address *a)
{
    if (a->mailbox.at == NULL) {
        a->invalid = true;
        a->mailbox = l->fill ? slice_from_str("MISSING_MAILBOX") : slice_of("", 0);
    }
    if (a->domain.size == 0) {
        a->invalid = true;
        a->domain = l->fill ? slice_from_str("MISSING_DOMAIN") : slice_of("", 0);
    }
}

/* Local part: a quoted string or atoms with dots. Failure leaves the mailbox missing. */
static int take_local(struct list *l, struct mime_address *a)
{
    int more;
    buffer_reset(&l->text);
    if (l->lex.at == l->lex.end)
        return 0;
    if (*l->lex.at == '"')
        more = mime_lex_quoted(&l->lex, &l->text);
    else
        more = mime_lex_local(&l->lex, &l->text);
    if (more >= 0)
        a->mailbox = keep_text(l);
    return more;
}

static int take_domain(struct list *l, struct mime_address *a)
{
    buffer_reset(&l->text);
    int more = mime_lex_domain(&l->lex, &l->text);
    if (more >= 0)
        a->domain = keep_text(l);
    return more;
}

/* A source route: "@one,@two:". */
static int take_route(struct list *l, struct mime_address *a)
{
    struct buffer route = {0};
    int more = 1;

    while (more > 0) {
        if (*l->lex.at == ',') {
            l->lex.at++;
            more = mime_lex_space(&l->lex);
        } else if (*l->lex.at == '@') {
            buffer_append_str(&route, route.size > 0 ? ",@" : "@");
            more = mime_lex_domain(&l->lex, &route);
        } else {
            break;
        }
    }
    bool good = more > 0 && *l->lex.at == ':';
    if (good) {
        l->lex.at++;
        more = mime_lex_space(&l->lex);
        a->route = mime_keep(l->arena, buffer_slice(&route));
    } else {
        a->invalid = true;
        a->route = l->fill ? slice_from_str("INVALID_ROUTE") : slice_of("", 0);
        more = mime_lex_more(&l->lex);
    }
    buffer_free(&route);
    return more;
}

/* "<route:local@domain>", the lexer at '<'. */
static void take_bracketed(struct list *l, struct mime_address *a)
{
    bool broken = false;
    l->lex.at++;
    int more = mime_lex_space(&l->lex);
    if (more > 0 && *l->lex.at == '@')
        more = take_route(l, a);
    if (more > 0 && *l->lex.at != '>') {
        more = take_local(l, a);
        if (more < 0 && mime_lex_more(&l->lex) && *l->lex.at == '@')
            more = 1;
        if (more > 0 && *l->lex.at == '@')
            more = take_domain(l, a);
        broken = more < 0;
    }
    if (!broken && more > 0 && *l->lex.at == '>') {
        l->lex.at++;
        broken = mime_lex_space(&l->lex) < 0;
    } else {
        broken = true;
    }
    if (broken) {
        a->invalid = true;
        a->domain = l->fill ? slice_from_str("SYNTAX_ERROR") : slice_of("", 0);
    }
}

/* A bare address, or words that are no address: one word is a mailbox, several are a name. */
static void take_bare(struct list *l, struct mime_address *a)
{
    buffer_reset(&l->comment);
    bool quoted = mime_lex_more(&l->lex) && *l->lex.at == '"';
    (void)take_local(l, a);
    bool at_sign = mime_lex_more(&l->lex) && *l->lex.at == '@';

    if (at_sign)
        (void)take_domain(l, a);
    if (l->comment.size > 0) {
        a->name = mime_keep(l->arena, buffer_slice(&l->comment));
        return;
    }
    if (at_sign || l->text.size + quoted == 0)
        return;
    /* l->text is still the local part, also of one that failed. */
    size_t before = l->text.size;
    buffer_append_byte(&l->text, ' ');
    (void)mime_lex_phrase(&l->lex, &l->text);
    if (l->text.size > before + 1) {
        a->name = keep_text(l);
        a->mailbox = SLICE_EMPTY;
    } else if (quoted && a->mailbox.at != NULL) {
        a->name = a->mailbox;
        a->mailbox = SLICE_EMPTY;
    }
}

/* An address with or without a name. */
static void take_mailbox(struct list *l)
{
    struct mime_address a = {0};
    const unsigned char *begin = l->lex.at;

    buffer_reset(&l->text);
    int more = mime_lex_phrase(&l->lex, &l->text);
    if (more > 0 && *l->lex.at == '<') {
        if (l->text.size > 0)
            a.name = keep_text(l);
        take_bracketed(l, &a);
    } else {
        l->lex.at = begin;
        take_bare(l, &a);
    }
    fill_missing(l, &a);
    add_address(l, a);
}

/* ---- plain addresses: most there are ---- */

/* ASCII alone: what else there is goes the long way. */
static const unsigned char *skip(const unsigned char *at, const unsigned char *end, unsigned what)
{
    while (at < end && (mime_kinds[*at] & what) != 0)
        at++;
    return at;
}

/* Atoms with single dots between them. */
static bool is_dotted(struct slice s)
{
    if (s.size == 0 || s.at[0] == '.' || s.at[s.size - 1] == '.')
        return false;
    for (const unsigned char *dot = s.at; (dot = memchr(dot, '.', (size_t)(s.at + s.size - dot))) != NULL; dot++)
        if (dot[1] == '.')
            return false;
    return true;
}

/* local@domain; NULL: it is not that plainly. */
static const unsigned char *plain_spec(const unsigned char *at, const unsigned char *end, struct mime_address *a)
{
    const unsigned char *sign = skip(at, end, MIME_ATOM | MIME_DOT), *behind;

    if (sign == end || *sign != '@')
        return NULL;
    behind = skip(sign + 1, end, MIME_ATOM | MIME_DOT);
    a->mailbox = slice_of(at, (size_t)(sign - at));
    a->domain = slice_of(sign + 1, (size_t)(behind - sign - 1));
    return is_dotted(a->mailbox) && is_dotted(a->domain) ? behind : NULL;
}

/* The name in front of '<': words with single blanks between them, quoted as a whole or not at all. -> at the '<', or NULL. */
static const unsigned char *plain_name(const unsigned char *at, const unsigned char *end, struct mime_address *a)
{
    const unsigned char *begin = at, *behind;

    if (*at == '"') {
        begin++;
        behind = skip(begin, end, MIME_QUOTED);
        if (behind == end || *behind != '"')
            return NULL;
        at = behind + 1;
    } else {
        if (*at == '.')
            return NULL;
        behind = skip(begin, end, MIME_ATOM | MIME_DOT | MIME_BLANK);
        at = behind;
        if (behind > begin && behind[-1] == ' ')
            behind--;
    }
    a->name = slice_of(begin, (size_t)(behind - begin));
    if (a->name.size > 0 && !text_is_plain(a->name, true))
        return NULL;
    at = skip(at, end, MIME_BLANK);
    return at < end && *at == '<' && (a->name.size > 0 || *begin == '<') ? at : NULL;
}

/* `Name <local@domain>`, `"Name" <local@domain>`, `<local@domain>` or `local@domain`, up to a comma or the end. False: not
 * plainly, the list is where it was. */
static bool take_plain(struct list *l)
{
    const unsigned char *at = l->lex.at, *end = l->lex.end;
    struct mime_address a = {.plain = true};
    const unsigned char *behind = plain_spec(at, end, &a);

    if (at == end)
        return false;
    if (behind == NULL) {
        at = plain_name(at, end, &a);
        if (at == NULL || (behind = plain_spec(at + 1, end, &a)) == NULL || behind == end || *behind++ != '>')
            return false;
    }
    behind = skip(behind, end, MIME_BLANK);
    if (behind < end && *behind != ',')
        return false;
    if (!l->borrow) {
        a.name = a.name.size > 0 ? mime_keep(l->arena, a.name) : SLICE_EMPTY;
        a.mailbox = mime_keep(l->arena, a.mailbox);
        a.domain = mime_keep(l->arena, a.domain);
    }
    if (a.name.size == 0)
        a.name = SLICE_EMPTY;
    l->lex.at = behind;
    add_address(l, a);
    return true;
}

/* Items between commas. In a group, an item may be empty before the semicolon too. */
static void take_items(struct list *l, bool group)
{
    for (;;) {
        const unsigned char *begin = l->lex.at;
        if (group) {
            take_mailbox(l);
        } else if (!l->short_way || !take_plain(l)) {
            buffer_reset(&l->text);
            int more = mime_lex_phrase(&l->lex, &l->text);
            if (more > 0 && *l->lex.at == ':') {
                struct mime_address mark = {.mailbox = keep_text(l)};
                add_address(l, mark);
                l->lex.at++;
                if (mime_lex_space(&l->lex) > 0 && *l->lex.at != ';')
                    take_items(l, true);       /* groups do not nest: one level */
                if (mime_lex_more(&l->lex) && *l->lex.at == ';') {
                    l->lex.at++;
                    (void)mime_lex_space(&l->lex);
                }
                add_address(l, (struct mime_address){0});
            } else {
                l->lex.at = begin;
                take_mailbox(l);
            }
        }
        if (!mime_lex_more(&l->lex) || *l->lex.at != ',')
            return;
        l->lex.at++;
        int more = mime_lex_space(&l->lex);
        if (more == 0 || (more < 0 && group))  /* an unfinished comment counts as an address that is missing */
            return;
    }
}

struct mime_address *mime_address_parse(struct arena *arena, struct slice value, uint32_t *left, bool fill)
{
    return mime_address_parse_how(arena, value, left, fill ? MIME_ADDRESS_FILL : 0);
}

struct mime_address *mime_address_parse_how(struct arena *arena, struct slice value, uint32_t *left, unsigned how)
{
    uint32_t own = mime_limits_default.addresses;
    struct list l = {.arena = arena, .left = left == NULL ? &own : left, .fill = (how & MIME_ADDRESS_FILL) != 0,
                     .borrow = (how & MIME_ADDRESS_BORROW) != 0, .short_way = (how & MIME_ADDRESS_NO_SHORT_WAY) == 0};

    /* White space at the end does not count, but that a last dot is followed by some does: see mime_lex_local. */
    size_t size = value.size;
    while (value.size > 0 && memchr(" \t\r\n", value.at[value.size - 1], 4) != NULL)
        value.size--;
    if (value.size > 0 && value.size < size && value.at[value.size - 1] == '.')
        value.size++;
    if (value.size == 0)
        return NULL;
    l.lex = mime_lex_of(value);
    l.lex.comment = &l.comment;
    l.tail = &l.first;
    if (mime_lex_space(&l.lex) > 0)
        take_items(&l, false);
    buffer_free(&l.comment);
    buffer_free(&l.text);
    return l.first;
}

/* A phrase or local part: bare when all of it is atoms (and dots inside), else quoted. */
static void put_word(struct buffer *out, struct slice s, bool dots)
{
    bool bare = s.size > 0;
    for (size_t i = 0; i < s.size && bare; i++)
        bare = mime_is_atext(s.at[i]) || (dots && s.at[i] == '.' && i > 0 && i + 1 < s.size);
    if (bare)
        buffer_append_slice(out, s);
    else
        text_quoted(out, s);
}

static void put_one(struct buffer *out, const struct mime_address *a)
{
    if (a->name.size > 0) {
        put_word(out, a->name, false);
        buffer_append_byte(out, ' ');
    }
    buffer_append_byte(out, '<');
    if (a->route.size > 0) {
        buffer_append_slice(out, a->route);
        buffer_append_byte(out, ':');
    }
    if (a->mailbox.size > 0)
        put_word(out, a->mailbox, true);
    else if (a->domain.size > 0)
        buffer_append_str(out, "\"\"");
    if (a->domain.size > 0) {
        buffer_append_byte(out, '@');
        buffer_append_slice(out, a->domain);
    }
    buffer_append_byte(out, '>');
}

void mime_address_write(struct buffer *out, const struct mime_address *list)
{
    bool comma = false;
    for (const struct mime_address *a = list; a != NULL; a = a->next) {
        if (a->domain.at == NULL && a->mailbox.at == NULL) {      /* end of a group */
            buffer_append_byte(out, ';');
            comma = true;
            continue;
        }
        if (comma)
            buffer_append_str(out, ", ");
        if (a->domain.at == NULL) {
            put_word(out, a->mailbox, false);
            buffer_append_str(out, ": ");
            comma = false;
        } else {
            put_one(out, a);
            comma = true;
        }
    }
}

bool mime_address_first(struct arena *arena, struct slice value, struct slice *address)
{
    uint32_t left = 2;                     /* a group mark may stand before the first address */
    const struct mime_address *a = mime_address_parse(arena, value, &left, false);
    if (a != NULL && a->domain.at == NULL)
        a = a->next;
    if (a == NULL || a->invalid || a->mailbox.size == 0 || a->domain.size == 0)
        return false;
    struct buffer b = {0};
    buffer_append_slice(&b, a->mailbox);
    buffer_append_byte(&b, '@');
    buffer_append_slice(&b, a->domain);
    *address = mime_keep(arena, buffer_slice(&b));
    buffer_free(&b);
    return true;
}
