/* fetch_parse.c - the items of FETCH (RFC 3501 section 6.4.5, imap 10.2, 10.3). */
#include "imap/fetch.h"
#include "imap/search.h"

static bool is_streamed(const struct fetch_item *i)
{
    return i->kind >= FETCH_FIRST_STREAMED;
}

/* Buffered items stand before streamed ones; equal items that are plain words (RFC822 too) once,
 * PREVIEW as often as it was asked for. */
static void add_item(struct fetch *f, struct fetch_item *item)
{
    struct fetch_item **at = &f->items;

    for (; *at != NULL && (is_streamed(item) || !is_streamed(*at)); at = &(*at)->next) {
        if ((*at)->kind == item->kind && item->kind != FETCH_PREVIEW &&
            (item->kind < FETCH_SECTION || *item->label == 'R') && strcmp((*at)->label, item->label) == 0)
            return;
    }
    item->next = *at;
    *at = item;
    f->flags = f->flags || item->kind == FETCH_FLAGS;
    f->sees = f->sees || item->sees;
    if (item->kind != FETCH_FLAGS && item->kind != FETCH_UID && item->kind != FETCH_MODSEQ &&
        item->kind != FETCH_MAILBOX && item->kind != FETCH_REAL_UID)
        f->needs_mail = true;
}

static struct fetch_item *new_item(struct request *r, enum fetch_kind kind, const char *label)
{
    struct fetch_item *item = ARENA_NEW(r->arena, struct fetch_item);

    item->kind = kind;
    item->label = label;
    item->count = UINT64_MAX;
    return item;
}

static const struct {
    const char *name;
    enum fetch_kind kind;
    enum mime_section_what what;
    bool sees;
} plain[] = {{"FLAGS", FETCH_FLAGS, 0, false},
             {"UID", FETCH_UID, 0, false},
             {"MODSEQ", FETCH_MODSEQ, 0, false},
             {"INTERNALDATE", FETCH_INTERNALDATE, 0, false},
             {"RFC822.SIZE", FETCH_SIZE, 0, false},
             {"SAVEDATE", FETCH_SAVEDATE, 0, false},
             {"X-SAVEDATE", FETCH_SAVEDATE, 0, false},
             {"X-GUID", FETCH_GUID, 0, false},
             {"X-MAILBOX", FETCH_MAILBOX, 0, false},
             {"X-REAL-UID", FETCH_REAL_UID, 0, false},
             {"PREVIEW", FETCH_PREVIEW, 0, false},
             {"SNIPPET", FETCH_PREVIEW, 0, false},
             {"ENVELOPE", FETCH_ENVELOPE, 0, false},
             {"BODY", FETCH_BODY, 0, false},
             {"BODYSTRUCTURE", FETCH_BODYSTRUCTURE, 0, false},
             {"RFC822", FETCH_SECTION, MIME_SECTION_ALL, true},
             {"RFC822.HEADER", FETCH_SECTION, MIME_SECTION_HEADER, false},
             {"RFC822.TEXT", FETCH_SECTION, MIME_SECTION_TEXT, true}};

/* False: there is no such item. */
static bool add_plain_of(struct request *r, struct fetch *f, struct slice name)
{
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (slice_equal_str(name, plain[i].name)) {
            struct fetch_item *item = new_item(r, plain[i].kind, plain[i].name);

            item->sees = plain[i].sees;
            item->section.what = plain[i].what;
            item->header = plain[i].kind == FETCH_SECTION && plain[i].what == MIME_SECTION_HEADER;
            if (plain[i].kind == FETCH_MODSEQ)
                r->condstore = true;
            add_item(f, item);
            return true;
        }
    }
    return false;
}

static void add_plain(struct request *r, struct fetch *f, const char *name)
{
    (void)add_plain_of(r, f, slice_from_str(name));
}

/* Names of HEADER.FIELDS as the reply repeats them: upper case, quoted if they came so or are no atoms. */
static void put_name(struct buffer *out, const struct imap_arg *a)
{
    struct buffer upper = {0};

    for (size_t i = 0; i < a->text.size; i++) {
        unsigned char c = a->text.at[i];

        buffer_append_byte(&upper, c >= 'a' && c <= 'z' ? (unsigned char)(c - 32) : c);
    }
    if (a->type != IMAP_ATOM)
        mime_put_nstring(out, slice_of(upper.at == NULL ? (const unsigned char *)"" : upper.at, upper.size));
    else
        buffer_append_slice(out, buffer_slice(&upper));
    buffer_free(&upper);
}

/* A list of names behind "[HEADER.FIELDS", whatever stands there instead of it. NULL, or what is wrong. */
static const char *list_fault(const struct imap_arg *list)
{
    if (list == NULL || list->type != IMAP_LIST)
        return "Missing ']'";
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        if (!imap_arg_is_string(a))
            return "Header list contains non-strings";
    }
    return imap_arg_is_atom(list->next) && list->next->text.at[0] == ']' ? NULL : "Missing ']'";
}

static bool take_names(struct request *r, struct fetch_item *item, const struct imap_arg *list, struct buffer *label)
{
    bool fields = item->section.what == MIME_SECTION_FIELDS || item->section.what == MIME_SECTION_FIELDS_NOT;
    size_t n = 0;

    for (const struct imap_arg *a = list->children; a != NULL; a = a->next)
        n++;
    if (n == 0 || !fields)
        return false;
    item->section.names = ARENA_ARRAY(r->arena, struct slice, n);
    item->section.names_count = n;
    n = 0;
    buffer_append_str(label, " (");
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        item->section.names[n] = a->text;
        buffer_append_str(label, n++ == 0 ? "" : " ");
        put_name(label, a);
    }
    buffer_append_byte(label, ')');
    return true;
}

static bool digits(struct slice *rest, uint64_t *out)
{
    size_t n = 0;

    while (n < rest->size && rest->at[n] >= '0' && rest->at[n] <= '9')
        n++;
    if (n == 0 || !slice_to_u64(slice_head(*rest, n), out) || *out == UINT64_MAX)
        return false;
    *rest = slice_from(*rest, n);
    return true;
}

/* "<origin.length>" behind ']'. NULL, or what is wrong. */
static const char *parse_partial(struct slice rest, struct fetch_item *item, struct buffer *label)
{
    if (rest.size == 0)
        return NULL;
    if (rest.at[0] != '<')
        return "Unexpected data after ']'";
    rest = slice_from(rest, 1);
    if (!digits(&rest, &item->from))
        return "Too big partial start";
    if (rest.size > 0 && rest.at[0] == '.') {
        rest = slice_from(rest, 1);
        if (!digits(&rest, &item->count))
            return "Too big partial end";
    }
    if (rest.size == 0 || rest.at[0] != '>')
        return "Missing '>' in partial";
    if (rest.size > 1)
        return "Unexpected data after '>'";
    buffer_printf(label, "<%llu>", (unsigned long long)item->from);
    return NULL;
}

/* BODY[...], BODY.PEEK[...], BINARY[...]...; *arg moves to the last argument that belongs to it. */
static bool parse_section(struct session *s, struct request *r, struct fetch *f, const struct imap_arg **arg,
                          const char *name, size_t prefix, enum fetch_kind kind, bool peek)
{
    struct fetch_item *item = new_item(r, kind, NULL);
    struct buffer label = {0};
    struct slice rest = slice_from((*arg)->text, prefix), section;
    const struct imap_arg *behind = (*arg)->next;
    struct error e = {0};
    const char *fault = NULL;
    ptrdiff_t end;
    bool good = false;

    buffer_append_str(&label, kind == FETCH_BINARY_SIZE ? "BINARY.SIZE[" : kind == FETCH_BINARY ? "BINARY[" : "BODY[");
    if (rest.size == 0 || rest.at[0] != '[') {
        fault = "Missing '['";
        goto done;
    }
    rest = slice_from(rest, 1);
    end = slice_find(rest, ']');
    section = slice_from_str(request_upper(r, end < 0 ? rest : slice_head(rest, (size_t)end)));
    if ((end < 0 || (behind != NULL && behind->type == IMAP_LIST)) && (fault = list_fault(behind)) != NULL)
        goto done;
    if (end >= 0 && behind != NULL && behind->type == IMAP_LIST) /* names of headers belong to none that has ended */
        goto bad_section;
    buffer_append_slice(&label, section);
    if (mime_section_parse(r->arena, section, &item->section, &e) < 0)
        goto bad_section;
    if (end < 0) {
        if (!take_names(r, item, (*arg)->next, &label))
            goto bad_section;
        *arg = (*arg)->next->next;
        rest = slice_from((*arg)->text, 1);
    } else {
        if (item->section.what == MIME_SECTION_FIELDS || item->section.what == MIME_SECTION_FIELDS_NOT)
            goto bad_section;
        rest = slice_from(rest, (size_t)end + 1);
    }
    buffer_append_byte(&label, ']');
    if (kind != FETCH_BINARY_SIZE) /* nothing behind it is looked at */
        fault = parse_partial(rest, item, &label);
    good = fault == NULL;
done:
    if (fault != NULL)
        request_bad(s, r, "Invalid %s[..] parameter: %s", name, fault);
    if (good) {
        item->label = arena_str(r->arena, buffer_slice(&label));
        item->sees = !peek && kind != FETCH_BINARY_SIZE;
        item->header = item->section.what != MIME_SECTION_ALL && item->section.what != MIME_SECTION_TEXT;
        if (kind == FETCH_BINARY && item->header)
            item->kind = FETCH_SECTION; /* headers have no encoding */
        add_item(f, item);
    }
    buffer_free(&label);
    return good;
bad_section:
    request_bad(s, r, "Invalid %s[..] section", name);
    buffer_free(&label);
    return false;
}

static bool parse_preview(struct session *s, struct request *r, struct fetch *f, const struct imap_arg **arg,
                          const char *name)
{
    struct fetch_item *item = new_item(r, FETCH_PREVIEW, name);
    const struct imap_arg *list = (*arg)->next;

    item->fuzzy = strcmp(name, "SNIPPET") == 0;
    if (list != NULL && list->type == IMAP_LIST && list->children != NULL) {
        for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
            if (!imap_arg_is_atom(a)) {
                request_bad(s, r, "Invalid PREVIEW modifier");
                return false;
            }
            if (slice_equal_str_nocase(a->text, "LAZY") || slice_equal_str_nocase(a->text, "LAZY=FUZZY")) {
                item->lazy = true;
            } else if (!slice_equal_str_nocase(a->text, "FUZZY")) {
                request_bad(s, r, "'%s' is not a supported PREVIEW modifier", arena_str(r->arena, a->text));
                return false;
            }
            item->fuzzy = item->fuzzy || strcmp(request_upper(r, a->text), "LAZY") != 0;
        }
        *arg = list;
    }
    add_item(f, item);
    return true;
}

/* What stands in front of the first character that is none of a name. Most items do not look at what follows, as in the real
 * server: FLAGS[] is FLAGS. */
static struct slice name_of(const char *word)
{
    size_t n = 0;

    while ((word[n] >= 'A' && word[n] <= 'Z') || (word[n] >= '0' && word[n] <= '9') || word[n] == '-')
        n++;
    return slice_of(word, n);
}

static bool parse_body(struct session *s, struct request *r, struct fetch *f, const struct imap_arg **arg, const char *rest)
{
    bool peek = strncmp(rest, ".PEEK", 5) == 0;

    if (*rest == '\0')
        return add_plain_of(r, f, SLICE("BODY"));
    return parse_section(s, r, f, arg, "BODY", peek ? 9 : 4, FETCH_SECTION, peek);
}

static bool parse_binary(struct session *s, struct request *r, struct fetch *f, const struct imap_arg **arg, const char *rest)
{
    if (strncmp(rest, ".PEEK", 5) == 0)
        return parse_section(s, r, f, arg, "BINARY", 11, FETCH_BINARY, true);
    if (strncmp(rest, ".SIZE", 5) == 0)
        return parse_section(s, r, f, arg, "BINARY", 11, FETCH_BINARY_SIZE, true);
    return parse_section(s, r, f, arg, "BINARY", 6, FETCH_BINARY, false);
}

/* Names are shown without a dot at their end, as the real server reads them. */
static const char *without_dot(struct request *r, const char *word)
{
    size_t n = strlen(word);

    return n > 0 && word[n - 1] == '.' ? arena_str(r->arena, slice_of(word, n - 1)) : word;
}

static bool parse_item(struct session *s, struct request *r, struct fetch *f, const struct imap_arg **arg)
{
    const char *word = request_upper(r, (*arg)->text);
    struct slice name = name_of(word);

    if (slice_equal_str(name, "PREVIEW"))
        return parse_preview(s, r, f, arg, "PREVIEW");
    if (slice_equal_str(name, "SNIPPET"))
        return parse_preview(s, r, f, arg, "SNIPPET");
    if (slice_equal_str(name, "BODY"))
        return parse_body(s, r, f, arg, word + name.size);
    if (slice_equal_str(name, "BINARY"))
        return parse_binary(s, r, f, arg, word + name.size);
    if (slice_equal_str(name, "RFC822")) {
        if (add_plain_of(r, f, slice_from_str(word)))
            return true;
        request_bad(s, r, "Unknown parameter %s", without_dot(r, word));
        return false;
    }
    if (slice_equal_str(name, "MODSEQ") && !session_modseqs_last(s)) {
        request_bad(s, r, "FETCH MODSEQ can't be used with non-permanent modseqs");
        return false;
    }
    if (add_plain_of(r, f, name))
        return true;
    if ((strcmp(word, "EMAILID") == 0 || strcmp(word, "THREADID") == 0) && session_extension(s, "OBJECTID")) {
        add_item(f, new_item(r, *word == 'E' ? FETCH_EMAILID : FETCH_THREADID, *word == 'E' ? "EMAILID" : "THREADID"));
        return true;
    }
    request_bad(s, r, "Unknown parameter: %s", without_dot(r, word));
    return false;
}

static bool parse_macro(struct request *r, struct fetch *f, const char *word)
{
    static const struct {
        const char *name, *items[6];
    } macros[] = {{"ALL", {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", NULL}},
                  {"FAST", {"FLAGS", "INTERNALDATE", "RFC822.SIZE", NULL}},
                  {"FULL", {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", NULL}}};

    for (size_t i = 0; i < 3; i++) {
        if (strcmp(macros[i].name, word) == 0) {
            for (size_t k = 0; macros[i].items[k] != NULL; k++)
                add_plain(r, f, macros[i].items[k]);
            return true;
        }
    }
    return false;
}

static bool parse_modifiers(struct session *s, struct request *r, struct fetch *f, const struct imap_arg *list)
{
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        if (!imap_arg_is_atom(a)) {
            request_bad(s, r, "FETCH modifiers contain non-atoms");
            return false;
        }
        if (slice_equal_str_nocase(a->text, "CHANGEDSINCE")) {
            if (!imap_arg_is_atom(a->next) || !imap_number(a->next->text, &f->modseq)) {
                request_bad(s, r, "Invalid CHANGEDSINCE modseq");
                return false;
            }
            if (!session_modseqs_last(s)) {
                request_bad(s, r, "FETCH CHANGEDSINCE can't be used with non-permanent modseqs");
                return false;
            }
            a = a->next;
            f->changed_since = true;
            r->condstore = true;
        } else if (slice_equal_str_nocase(a->text, "PARTIAL") && r->uid && session_extension(s, "PARTIAL")) {
            if (!imap_arg_is_atom(a->next) ||
                !search_parse_partial(s, a->next->text, &f->partial_first, &f->partial_last, &f->partial_end)) {
                request_bad(s, r, "PARTIAL range broken");
                return false;
            }
            f->partial = true;
            a = a->next;
        } else if (slice_equal_str_nocase(a->text, "VANISHED") && r->uid) {
            if (!s->qresync) {
                request_bad(s, r, "QRESYNC not enabled");
                return false;
            }
            f->vanished = true;
        } else {
            request_bad(s, r, "Unknown FETCH modifier");
            return false;
        }
    }
    if (f->vanished && !f->changed_since) {
        request_bad(s, r, "VANISHED used without CHANGEDSINCE");
        return false;
    }
    return true;
}

bool fetch_parse(struct session *s, struct request *r, struct fetch *f, const struct imap_arg *items,
                 const struct imap_arg **rest)
{
    if (r->uid)
        add_plain(r, f, "UID");
    if (items->type == IMAP_LIST) {
        if (items->children == NULL) {
            request_bad(s, r, "FETCH list is empty");
            return false;
        }
        for (const struct imap_arg *a = items->children; a != NULL; a = a->next) {
            if (!imap_arg_is_atom(a)) {
                request_bad(s, r, "FETCH list contains non-atoms");
                return false;
            }
            if (!parse_item(s, r, f, &a))
                return false;
        }
    } else if (!parse_macro(r, f, request_upper(r, items->text)) && !parse_item(s, r, f, &items)) {
        return false;
    }
    *rest = items->next;
    if (*rest != NULL && (*rest)->type == IMAP_LIST) {
        if (!parse_modifiers(s, r, f, *rest))
            return false;
    } else if (*rest != NULL) {
        request_bad(s, r, "Invalid arguments");
        return false;
    }
    if (f->changed_since)
        add_plain(r, f, "MODSEQ");
    return true;
}

bool fetch_parse_news(struct session *s, struct request *r, const struct imap_arg *list, const char *prefix, struct fetch **out)
{
    struct fetch *f = *out = ARENA_NEW(r->arena, struct fetch);
    struct imap_arg alone = *list;
    const struct imap_arg *rest;
    unsigned bad = s->bad_count;
    const char *reply;
    bool uid = r->uid, condstore = r->condstore, good;

    alone.next = NULL;
    r->uid = false; /* nothing is added to what was asked for */
    good = fetch_parse(s, r, f, &alone, &rest);
    r->uid = uid;
    if (good) {
        r->condstore = condstore || r->condstore;
        if (s->view != NULL && (s->examined || mailbox_view_read_only(s->view)))
            f->sees = false;
        return true;
    }
    reply = strstr(r->reply, ": ");
    s->bad_count = bad;
    request_bad(s, r, "%sInvalid fetch-att list: %.*s", prefix, (int)strlen(reply + 2) - 1, reply + 2);
    return false;
}
