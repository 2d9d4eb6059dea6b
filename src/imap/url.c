/* url.c - parsing of IMAP URLs, in the order in which Dovecot finds faults: authority, path, query, then what the
 * segments of the path mean. */
#include "imap/url.h"

#include <arpa/inet.h>
#include <time.h>

struct parse {
    struct arena *arena;
    struct slice text, path, query;
    bool has_query, has_fragment, has_authority, relative;
    VEC(struct slice) segments;
    struct imap_url *out;
    const char *fault;
};

static int fault(struct parse *p, const char *text)
{
    if (p->fault == NULL)
        p->fault = text;
    return -1;
}

static int fault_named(struct parse *p, const char *before, struct slice what, const char *after)
{
    return fault(p, arena_printf(p->arena, "%s%.*s%s", before, (int)(what.size > 1000 ? 1000 : what.size),
                                 (const char *)what.at, after));
}

/* ---- RFC 3986 ----------------------------------------------------------------------------------------------------------- */

static int hex(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_plain(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("-._~!$&'()*+,;=", c) != NULL);
}

/* "%XX" at the front of `s`. */
static int check_escape(struct parse *p, struct slice s)
{
    if (s.size < 3)
        return fault(p, "Unexpected URI boundary after '%'");
    for (size_t k = 1; k <= 2; k++) {
        if (hex(s.at[k]) < 0)
            return fault(p, arena_printf(p->arena, "Expecting hex digit after '%.*s', but found '%c'", (int)k, (const char *)s.at, s.at[k]));
    }
    if (hex(s.at[1]) == 0 && hex(s.at[2]) == 0)
        return fault(p, "Percent encoding is not allowed to encode NUL character");
    return 0;
}

/* What stands in the URL from there on. */
static struct slice to_end(const struct parse *p, const unsigned char *at)
{
    return slice_from(p->text, (size_t)(at - p->text.at));
}

/* Only such bytes that may stand in a component; `more` are allowed too. */
static int check_bytes(struct parse *p, struct slice s, const char *more, const char *name)
{
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = s.at[i];

        if (c == '%') {
            if (check_escape(p, *name == 'U' ? slice_from(s, i) : to_end(p, s.at + i)) < 0) /* of Userinfo alone the end counts */
                return -1;
            i += 2;
        } else if (!is_plain(c) && (c == '\0' || strchr(more, c) == NULL)) {
            return fault(p, arena_printf(p->arena, "%s component contains invalid character", name));
        }
    }
    return 0;
}

static const char *decode(struct parse *p, struct slice s)
{
    char *out = arena_alloc(p->arena, s.size + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.size; i++) {
        if (s.at[i] == '%') {
            out[n++] = (char)(hex(s.at[i + 1]) << 4 | hex(s.at[i + 2]));
            i += 2;
        } else {
            out[n++] = (char)s.at[i];
        }
    }
    out[n] = '\0';
    return out;
}

/* Text up to one of the bytes; *rest begins with it. */
static struct slice until(struct slice *rest, const char *stops)
{
    size_t n = 0;
    struct slice got;

    while (n < rest->size && (rest->at[n] == '\0' || strchr(stops, rest->at[n]) == NULL))
        n++;
    got = slice_head(*rest, n);
    *rest = slice_from(*rest, n);
    return got;
}

/* ---- the authority ------------------------------------------------------------------------------------------------------ */

static int parse_userinfo(struct parse *p, struct slice info)
{
    struct slice user = info;
    ptrdiff_t at;

    if (check_bytes(p, info, ":", "Userinfo") < 0)
        return -1;
    if (slice_find(info, ':') >= 0)
        return fault_named(p, "Stray ':' in userinfo `", info, "'");
    at = slice_find(info, ';');
    if (at >= 0) {
        struct slice more = slice_from(info, (size_t)at);

        user = slice_head(info, (size_t)at);
        if (!slice_starts_nocase(more, SLICE(";AUTH=")))
            return fault_named(p, "Stray ';' in userinfo `", info, "'");
        more = slice_from(more, 6);
        if (more.size == 0)
            return fault(p, "Empty auth-type value after ';AUTH='");
        p->out->auth = decode(p, more);
    }
    if (user.size > 0)
        p->out->user = decode(p, user);
    return 0;
}

static bool is_letter_or_digit(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* One label of a host's name, from *i on. An escaped byte that no label may have is its last one. */
static int check_label(struct parse *p, struct slice host, size_t *i)
{
    size_t begin = *i;
    bool hyphen = false, over = false;

    while (*i < host.size && host.at[*i] != '.') {
        unsigned char c = host.at[*i];
        bool escaped = c == '%';

        if (over)
            return fault(p, "Invalid host identifier");
        if (escaped) {
            if (check_escape(p, to_end(p, host.at + *i)) < 0)
                return -1;
            c = (unsigned char)(hex(host.at[*i + 1]) << 4 | hex(host.at[*i + 2]));
        }
        if (*i == begin && (escaped || !is_letter_or_digit(c)))
            return fault(p, escaped && is_letter_or_digit(c) ? "Invalid domain label in hostname" : "Invalid host identifier");
        hyphen = c == '-';
        over = !hyphen && !is_letter_or_digit(c);
        if (over && !escaped)
            return fault(p, "Invalid host identifier");
        *i += escaped ? 3 : 1;
    }
    if (hyphen)
        return fault(p, "Invalid domain label in hostname");
    return *i == begin || (over && *i < host.size) ? fault(p, "Invalid host identifier") : 0;
}

static int check_host(struct parse *p, struct slice host)
{
    for (size_t i = 0; i < host.size; i++) { /* behind the dot, which may be the last */
        if (check_label(p, host, &i) < 0)
            return -1;
    }
    return 0;
}

/* What stands in "[...]". */
static int check_address(struct parse *p, struct slice address)
{
    struct in6_addr binary;

    if (address.size == 0)
        return fault(p, "Empty IPv6 host address");
    if ((address.at[0] | 0x20) == 'v')
        return fault_named(p, "Future IP host address '", address, "' not supported");
    if (inet_pton(AF_INET6, arena_str(p->arena, address), &binary) != 1)
        return fault_named(p, "Invalid IPv6 host address '", address, "'");
    return 0;
}

static int parse_host(struct parse *p, struct slice host)
{
    struct slice port = SLICE_EMPTY;
    ptrdiff_t at;

    if (host.size > 0 && host.at[0] == '[') {
        at = slice_find(host, ']');
        if (at < 0)
            return fault(p, "Expecting ']' at end of IP-literal");
        port = slice_from(host, (size_t)at + 1);
        if (port.size > 0 && port.at[0] != ':')
            return fault(p, "Invalid host identifier");
        host = slice_head(host, (size_t)at + 1);
        if (check_address(p, slice_of(host.at + 1, host.size - 2)) < 0)
            return -1;
    } else {
        at = slice_find(host, ':');
        if (at >= 0) {
            port = slice_from(host, (size_t)at);
            host = slice_head(host, (size_t)at);
        }
        if (check_host(p, host) < 0)
            return -1;
        if (host.size > 1 && host.at[host.size - 1] == '.')
            host.size--;
    }
    if (port.size > 1) {
        uint32_t number = 0;

        for (size_t i = 1; i < port.size; i++) {
            if (port.at[i] < '0' || port.at[i] > '9')
                return fault(p, "Invalid host port");
        }
        if (!slice_to_u32(slice_from(port, 1), &number) || number > 65535)
            return fault(p, "Invalid port number");
        p->out->has_port = true;
        p->out->port = number;
    }
    p->out->host = host.size == 0 ? NULL : host.at[0] == '[' ? arena_str(p->arena, host) : decode(p, host);
    return 0;
}

/* What is none begins a path. */
static bool is_scheme(struct slice word)
{
    for (size_t i = 0; i < word.size; i++) {
        unsigned char c = word.at[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';

        if (!letter && (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.')))
            return false;
    }
    return word.size > 0;
}

/* Scheme and authority off the front; the path begins behind. */
static int parse_front(struct parse *p, struct slice *rest)
{
    struct slice word = *rest, authority;
    bool scheme = false;

    until(&word, ":/?#");
    if (word.size > 0 && word.at[0] == ':' && is_scheme(slice_head(*rest, (size_t)(word.at - rest->at)))) {
        if (!slice_starts_nocase(*rest, SLICE("imap:")))
            return fault(p, "Not an IMAP URL");
        scheme = true;
        *rest = slice_from(*rest, 5);
        if (!slice_starts(*rest, SLICE("//")))
            return fault(p, "Absolute IMAP URL requires `//' after `imap:'");
    }
    if (!slice_starts(*rest, SLICE("//"))) {
        p->relative = true;
        return 0;
    }
    *rest = slice_from(*rest, 2);
    authority = until(rest, "/?#");
    {
        size_t n = 0;
        bool userinfo;

        while (n < authority.size && (is_plain(authority.at[n]) || authority.at[n] == ':' || authority.at[n] == '%'))
            n++;
        userinfo = n < authority.size && authority.at[n] == '@';
        if (parse_host(p, slice_from(authority, userinfo ? n + 1 : 0)) < 0 || (userinfo && parse_userinfo(p, slice_head(authority, n)) < 0))
            return -1;
    }
    if (p->out->host == NULL && !scheme && authority.size == 0) {
        p->relative = true; /* "//" names nothing */
        return 0;
    }
    if (p->out->host == NULL)
        return fault(p, "IMAP URL does not allow empty host identifier");
    return 0;
}

/* ---- the path ----------------------------------------------------------------------------------------------------------- */

/* Segments without "." and ".."; a relative path begins at the base mailbox (RFC 3986 section 5.2). */
static void split_path(struct parse *p, struct slice path, const char *base)
{
    struct slice part;
    bool dots = false;

    if (path.size > 0 && path.at[0] == '/') {
        path = slice_from(path, 1);
    } else if (base != NULL && p->relative) {
        struct slice rest = slice_from_str(base);

        while (rest.size > 0 && slice_split(&rest, '/', &part))
            VEC_PUSH(&p->segments, part);
    }
    while (path.size > 0 && slice_split(&path, '/', &part)) {
        dots = slice_equal_str(part, ".") || slice_equal_str(part, "..");
        if (part.size == 2 && dots && p->segments.count > 0)
            p->segments.count--;
        if (!dots)
            VEC_PUSH(&p->segments, part);
    }
}

static int parse_number(struct parse *p, struct slice text, uint64_t most, uint64_t *out)
{
    uint64_t n = 0;

    if (text.size == 0 || text.at[0] < '0' || text.at[0] > '9')
        return fault_named(p, "Value '", text, "' is not a valid IMAP number");
    if (!slice_to_u64(text, &n) || n > most)
        return fault(p, "IMAP number is too high");
    *out = n;
    return 0;
}

static int parse_nz_number(struct parse *p, struct slice text, const char *name, uint32_t *out)
{
    uint64_t n;

    if (text.size == 0)
        return fault(p, arena_printf(p->arena, "Empty %s value", name));
    if (parse_number(p, text, UINT32_MAX, &n) < 0)
        return -1;
    if (n == 0)
        return fault(p, arena_printf(p->arena, "%s cannot be zero", name));
    *out = (uint32_t)n;
    return 0;
}

static int parse_partial(struct parse *p, struct slice text)
{
    struct slice from = text;
    ptrdiff_t dot = slice_find(text, '.');

    if (text.size == 0)
        return fault(p, "Empty PARTIAL value");
    if (dot >= 0) {
        struct slice count = slice_from(text, (size_t)dot + 1);

        from = slice_head(text, (size_t)dot);
        if (count.size == 0)
            return fault(p, "Empty PARTIAL size");
        if (from.size == 0)
            return fault(p, "Empty PARTIAL offset");
        if (parse_number(p, from, INT64_MAX, &p->out->from) < 0 || parse_number(p, count, INT64_MAX, &p->out->count) < 0)
            return -1;
        return p->out->count == 0 ? fault(p, "PARTIAL size cannot be zero") : 0;
    }
    return parse_number(p, from, INT64_MAX, &p->out->from);
}

/* "/a/b;UIDVALIDITY=1" in front of the first segment that begins with ';'. -> segments used, -1. */
static ptrdiff_t parse_mailbox(struct parse *p)
{
    struct buffer name = {0};
    size_t i = 0;
    bool ended = false;

    for (; i < p->segments.count && !ended; i++) {
        struct slice segment = p->segments.at[i], params, value;
        ptrdiff_t at = slice_find(segment, ';');

        params = at < 0 ? SLICE_EMPTY : slice_from(segment, (size_t)at);
        if (at == 0 && !slice_starts_nocase(params, SLICE(";UIDVALIDITY=")))
            break;
        segment = at < 0 ? segment : slice_head(segment, (size_t)at);
        if (i > 0 && segment.size > 0)
            buffer_append_byte(&name, '/');
        buffer_append_str(&name, decode(p, segment));
        if (at < 0)
            continue;
        ended = true;
        if (!slice_starts_nocase(params, SLICE(";UIDVALIDITY="))) {
            fault(p, "Encountered stray ';' in mailbox reference");
            break;
        }
        params = slice_from(params, 13);
        value = until(&params, ";");
        if (params.size > 0)
            fault(p, "Encountered stray ';' after UIDVALIDITY");
        else
            parse_nz_number(p, value, "UIDVALIDITY", &p->out->uid_validity);
    }
    if (name.size > 0)
        p->out->mailbox = arena_str(p->arena, buffer_slice(&name));
    buffer_free(&name);
    return p->fault != NULL ? -1 : (ptrdiff_t)i;
}

/* ";NAME=value" at the front of a segment; what stands behind the value goes to *more. */
static bool take_param(struct slice segment, const char *name, struct slice *value, struct slice *more)
{
    if (!slice_starts_nocase(segment, slice_from_str(name)))
        return false;
    *more = slice_from(segment, strlen(name));
    *value = until(more, ";");
    return true;
}

/* What the segments behind the mailbox say. *extra: what stands behind the last value. */
static int parse_message(struct parse *p, size_t at, struct slice *extra)
{
    enum { WANT_UID, WANT_SECTION, WANT_PARTIAL, WANT_NOTHING } want = WANT_UID;

    *extra = SLICE_EMPTY;
    for (; at < p->segments.count; at++) {
        struct slice segment = p->segments.at[at], value, more = SLICE_EMPTY;
        const char *name;

        if (segment.size == 0 && at + 1 == p->segments.count)
            break;
        if (want == WANT_UID && take_param(segment, ";UID=", &value, &more)) {
            name = "UID";
            want = WANT_SECTION;
            if (parse_nz_number(p, value, "UID", &p->out->uid) < 0)
                return -1;
        } else if (want == WANT_SECTION && take_param(segment, ";SECTION=", &value, &more)) {
            name = "SECTION";
            want = WANT_PARTIAL;
            if (value.size == 0)
                return fault(p, "Empty SECTION value");
            p->out->section = decode(p, value);
        } else if ((want == WANT_SECTION || want == WANT_PARTIAL) && take_param(segment, ";PARTIAL=", &value, &more)) {
            name = "PARTIAL";
            want = WANT_NOTHING;
            if (parse_partial(p, value) < 0)
                return -1;
        } else {
            return fault_named(p, "Unexpected IMAP URL path segment: `", segment, "'");
        }
        if (more.size > 0 && at + 1 < p->segments.count)
            return fault(p, arena_printf(p->arena, "Encountered stray ';' in %s path segment", name));
        *extra = more;
    }
    return 0;
}

/* ---- URLAUTH (RFC 4467 section 6) --------------------------------------------------------------------------------------- */

static bool digits(const char **at, int count, int *out)
{
    *out = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

/* RFC 3339 section 5.6 */
static bool parse_date_time(const char *s, int64_t *out)
{
    struct tm tm = {0};
    int sign, hours = 0, minutes = 0, second;

    if (!digits(&s, 4, &tm.tm_year) || *s++ != '-' || !digits(&s, 2, &tm.tm_mon) || *s++ != '-' ||
        !digits(&s, 2, &tm.tm_mday) || (*s != 'T' && *s != 't'))
        return false;
    s++;
    if (!digits(&s, 2, &tm.tm_hour) || *s++ != ':' || !digits(&s, 2, &tm.tm_min) || *s++ != ':' || !digits(&s, 2, &second))
        return false;
    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || second > 60)
        return false;
    if (*s == '.') {
        s++;
        if (*s < '0' || *s > '9')
            return false;
        while (*s >= '0' && *s <= '9')
            s++;
    }
    sign = *s == '-' ? -1 : 1;
    if (*s == '+' || *s == '-') {
        s++;
        if (!digits(&s, 2, &hours) || *s++ != ':' || !digits(&s, 2, &minutes) || hours > 23 || minutes > 59)
            return false;
    } else if (*s++ != 'Z' && s[-1] != 'z') {
        return false;
    }
    tm.tm_year -= 1900;
    tm.tm_mon--;
    tm.tm_sec = second;
    *out = (int64_t)timegm(&tm) - sign * (hours * 3600 + minutes * 60);
    return *s == '\0';
}

static int parse_access(struct parse *p, struct slice access)
{
    ptrdiff_t plus = slice_find(access, '+');
    struct slice application = plus < 0 ? access : slice_head(access, (size_t)plus);

    if (access.size == 0)
        return fault(p, to_end(p, access.at).size == 0 ? "Missing URLAUTH access specifier" : "Empty URLAUTH access specifier");
    if (application.size == 0)
        return fault(p, "Empty URLAUTH access application");
    p->out->application = decode(p, application);
    if (plus >= 0) {
        if ((size_t)plus + 1 == access.size)
            return fault_named(p, "Empty URLAUTH access user for `", application, "' application");
        p->out->access_user = decode(p, slice_from(access, (size_t)plus + 1));
    }
    return 0;
}

/* "mechanism:token" */
static int parse_verifier(struct parse *p, struct slice text)
{
    struct slice mechanism = until(&text, ":"), token = slice_from(text, 1);
    struct buffer bytes = {0};
    int got;

    if (mechanism.size == 0)
        return fault(p, text.size == 0 ? "Missing URLAUTH verifier" : "Missing URLAUTH mechanism");
    if (token.size == 0)
        return fault(p, "Missing URLAUTH token");
    if (token.size < 32)
        return fault(p, "Too short URLAUTH token");
    got = text_hex_decode(&bytes, token);
    p->out->mechanism = decode(p, mechanism);
    p->out->token = arena_slice(p->arena, buffer_slice(&bytes));
    buffer_free(&bytes);
    return got < 0 ? fault(p, "Invalid URLAUTH token") : 0;
}

static int parse_urlauth(struct parse *p, struct slice extra)
{
    struct slice rest = extra, access;

    if (slice_starts_nocase(rest, SLICE(";EXPIRE="))) {
        struct slice when = slice_from(rest, 8);

        rest = when;
        when = until(&rest, ";");
        if (!slice_starts_nocase(rest, SLICE(";URLAUTH=")))
            return fault_named(p, "Unrecognized IMAP URL extension: ", extra, "");
        if (!parse_date_time(decode(p, when), &p->out->expire))
            return fault(p, "invalid date-time for `;EXPIRE='");
        p->out->has_expire = true;
    }
    if (!slice_starts_nocase(rest, SLICE(";URLAUTH=")))
        return fault_named(p, "Unrecognized IMAP URL extension: ", extra, "");
    rest = slice_from(rest, 9);
    access = until(&rest, ":");
    if (parse_access(p, access) < 0)
        return -1;
    p->out->rump_size = (size_t)(access.at + access.size - p->text.at);
    return rest.size == 0 ? 0 : parse_verifier(p, slice_from(rest, 1));
}

static int parse_extra(struct parse *p, struct slice extra, unsigned flags)
{
    static const char *const words[] = {";URLAUTH=", ";EXPIRE="};

    if (extra.size == 0)
        return 0;
    if ((flags & IMAP_URL_URLAUTH) != 0)
        return parse_urlauth(p, extra);
    for (size_t i = 0; i < 2; i++) {
        if (slice_starts_nocase(extra, slice_from_str(words[i])))
            return fault(p, arena_printf(p->arena, "`%s' is not allowed in this context", words[i]));
    }
    return fault_named(p, "Unrecognized IMAP URL extension: ", extra, "");
}

/* ---- all of it ---------------------------------------------------------------------------------------------------------- */

static int parse_query(struct parse *p)
{
    if (check_bytes(p, p->query, ":@/?", "Query") < 0)
        return -1;
    if (p->out->uid != 0)
        return fault(p, "Search query part only valid for messagelist-type IMAP URL");
    if (p->query.size == 0)
        return fault(p, "Empty IMAP URL search query not allowed");
    p->out->search = decode(p, p->query);
    return 0;
}

static int parse_all(struct parse *p, const char *base, unsigned flags)
{
    struct slice rest = p->text, extra;
    ptrdiff_t used;

    if (parse_front(p, &rest) < 0)
        return -1;
    if (!p->relative && (flags & IMAP_URL_RELATIVE) != 0)
        return fault(p, "Relative URL required");
    p->path = until(&rest, "?#");
    if (check_bytes(p, p->path, ":@/", "Path") < 0)
        return -1;
    if (p->relative && (flags & IMAP_URL_RELATIVE) == 0)
        return fault(p, "Relative URL not allowed");
    p->has_query = rest.size > 0 && rest.at[0] == '?';
    if (p->has_query) {
        rest = slice_from(rest, 1);
        p->query = until(&rest, "#");
    }
    p->has_fragment = rest.size > 0;
    split_path(p, p->path, base);
    used = parse_mailbox(p);
    if (used < 0 || parse_message(p, (size_t)used, &extra) < 0 || parse_extra(p, extra, flags) < 0)
        return -1;
    if (p->has_query && parse_query(p) < 0)
        return -1;
    return p->has_fragment ? fault(p, "Fragment component not allowed in IMAP URL") : 0;
}

int imap_url_parse(struct arena *arena, struct slice text, const char *base, unsigned flags, struct imap_url *out,
                   const char **fault_text)
{
    struct parse p = {.arena = arena, .text = text, .out = out};
    int got;

    *out = (struct imap_url){.count = UINT64_MAX, .rump_size = text.size};
    got = parse_all(&p, base, flags);
    VEC_FREE(&p.segments);
    *fault_text = p.fault;
    return got;
}
