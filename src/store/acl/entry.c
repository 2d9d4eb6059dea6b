/* entry.c - one line of an access control list (quota-acl-plugins 2.2, 2.3).
 *
 *     ["-"] identifier SP letters [SP ":" names]      user=bob lrs        -user=eve s
 *     ["-"] DQUOTE identifier DQUOTE SP letters ...   "user=two words" l
 *
 * Lines of one identifier are one entry with what is given and what is taken. A right that nobody here knows by its name
 * is kept, so that a rewrite loses nothing. A line that is not understood makes the whole file unusable: whoever wrote it
 * meant to restrict something. */
#include "store/acl/acl.h"

#include <stdlib.h>

static const struct {
    const char *name;
    char letter;
    unsigned right;
} rights_table[] = {{"admin", 'a', MAILBOX_RIGHT_ADMIN},       {"create", 'k', MAILBOX_RIGHT_CREATE},
                    {"delete", 'x', MAILBOX_RIGHT_DELETE},     {"expunge", 'e', MAILBOX_RIGHT_EXPUNGE},
                    {"insert", 'i', MAILBOX_RIGHT_INSERT},     {"lookup", 'l', MAILBOX_RIGHT_LOOKUP},
                    {"post", 'p', MAILBOX_RIGHT_POST},         {"read", 'r', MAILBOX_RIGHT_READ},
                    {"write", 'w', MAILBOX_RIGHT_WRITE},       {"write-deleted", 't', MAILBOX_RIGHT_TRASH},
                    {"write-seen", 's', MAILBOX_RIGHT_SEEN}};
enum { RIGHTS = sizeof(rights_table) / sizeof(rights_table[0]) };

static const struct {
    const char *text;
    enum acl_kind kind;
} identifiers[] = {{"anyone", ACL_ANYONE},   {"anonymous", ACL_ANYONE},  {"authenticated", ACL_AUTHENTICATED},
                   {"group=", ACL_GROUP},    {"owner", ACL_OWNER},       {"user=", ACL_USER},
                   {"group-override=", ACL_GROUP_OVERRIDE}};
enum { IDENTIFIERS = sizeof(identifiers) / sizeof(identifiers[0]) };

const char *acl_right_name(unsigned right)
{
    for (size_t i = 0; i < RIGHTS; i++)
        if (rights_table[i].right == right)
            return rights_table[i].name;
    return "";
}

unsigned acl_right_of_name(struct slice name)
{
    for (size_t i = 0; i < RIGHTS; i++)
        if (slice_equal_str(name, rights_table[i].name))
            return rights_table[i].right;
    return 0;
}

unsigned acl_right_of_letter(char letter)
{
    for (size_t i = 0; i < RIGHTS; i++)
        if (rights_table[i].letter == letter)
            return rights_table[i].right;
    return 0;
}

unsigned acl_right_at(size_t i)
{
    return i < RIGHTS ? rights_table[i].right : 0;
}

char acl_right_letter(unsigned right)
{
    for (size_t i = 0; i < RIGHTS; i++)
        if (rights_table[i].right == right)
            return rights_table[i].letter;
    return '?';
}

void acl_put_letters(struct buffer *out, unsigned rights)
{
    for (size_t i = 0; i < RIGHTS; i++)
        if ((rights & rights_table[i].right) != 0)
            buffer_append_byte(out, (unsigned char)rights_table[i].letter);
}

/* ---- identifiers ---- */

bool acl_identifier_parse(struct arena *arena, struct slice text, struct acl_entry *entry)
{
    for (size_t i = 0; i < IDENTIFIERS; i++) {
        size_t n = strlen(identifiers[i].text);

        if (identifiers[i].text[n - 1] != '=') {
            if (!slice_equal_str(text, identifiers[i].text))
                continue;
            entry->name = NULL;
        } else {
            if (!slice_starts(text, slice_of(identifiers[i].text, n)) || slice_find(text, '\0') >= 0)
                continue;
            entry->name = arena_str(arena, slice_from(text, n));
        }
        entry->kind = identifiers[i].kind;
        return true;
    }
    return false;
}

void acl_identifier_put(struct buffer *out, const struct acl_entry *entry)
{
    for (size_t i = 0; i < IDENTIFIERS; i++) {
        if (identifiers[i].kind != entry->kind)
            continue;
        buffer_append_str(out, identifiers[i].text);
        buffer_append_str(out, entry->name == NULL ? "" : entry->name);
        return;
    }
}

/* ---- lines ---- */

static int bad(struct error *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int bad(struct error *e, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    error_set(e, ERROR_CORRUPT, "%s", buffer_cstr(&text));
    buffer_free(&text);
    return -1;
}

/* DQUOTE ... DQUOTE off the front of *rest, with backslash as escape. */
static int take_quoted(struct slice *rest, struct buffer *out)
{
    for (size_t i = 1; i < rest->size; i++) {
        unsigned char c = rest->at[i];

        if (c == '"') {
            *rest = slice_from(*rest, i + 1);
            return 0;
        }
        if (c == '\\' && i + 1 < rest->size)
            c = rest->at[++i];
        buffer_append_byte(out, c);
    }
    return -1;
}

static bool is_space(unsigned char c)
{
    return c == ' ' || c == '\t';
}

/* ":lookup, read foo": rights by name. */
static void take_names(struct arena *arena, struct slice names, unsigned *rights, const char **more)
{
    struct buffer unknown = {0};

    while (names.size > 0) {
        size_t n = 0;
        unsigned right;

        while (n < names.size && names.at[n] > ' ' && names.at[n] != ',') /* control characters separate too */
            n++;
        right = acl_right_of_name(slice_head(names, n));
        *rights |= right;
        if (right == 0 && n > 0) {
            if (unknown.size > 0)
                buffer_append_byte(&unknown, ' ');
            buffer_append_slice(&unknown, slice_head(names, n));
        }
        names = slice_from(names, n + 1);
    }
    *more = unknown.size == 0 ? NULL : arena_str(arena, buffer_slice(&unknown));
    buffer_free(&unknown);
}

static int take_rights(struct arena *arena, struct slice text, unsigned *rights, const char **more, struct error *e)
{
    size_t i = 0;

    *rights = 0;
    *more = NULL;
    text = slice_trim(text);
    for (; i < text.size && !is_space(text.at[i]) && text.at[i] != ':'; i++) {
        unsigned right = acl_right_of_letter((char)text.at[i]);

        if (right == 0)
            return bad(e, "Unknown ACL '%c'", text.at[i] < ' ' || text.at[i] > '~' ? '?' : text.at[i]);
        *rights |= right;
    }
    text = slice_trim(slice_from(text, i));
    if (text.size == 0)
        return 0;
    if (text.at[0] != ':')
        return bad(e, "Missing ':' prefix in ACL extensions");
    take_names(arena, slice_from(text, 1), rights, more);
    return 0;
}

int acl_line_parse(struct arena *arena, struct slice line, struct acl_entry *entry, struct error *e)
{
    bool negative = line.size > 0 && line.at[0] == '-';
    struct buffer quoted = {0};
    struct slice id;
    unsigned rights;
    const char *more;
    int r = 0;

    if (line.size > 0 && memchr(line.at, '\0', line.size) != NULL) /* names end there for some readers */
        return bad(e, "NUL in a line");
    *entry = (struct acl_entry){0};
    if (negative)
        line = slice_from(line, 1);
    if (line.size > 0 && line.at[0] == '"') {
        r = take_quoted(&line, &quoted);
        id = buffer_slice(&quoted);
        if (r < 0 || (line.size > 0 && !is_space(line.at[0])))
            r = bad(e, "Invalid quoted ID");
    } else {
        size_t n = 0;

        while (n < line.size && !is_space(line.at[n]))
            n++;
        id = slice_head(line, n);
        line = slice_from(line, n);
    }
    if (r == 0 && !acl_identifier_parse(arena, id, entry))
        r = bad(e, "Unknown ID '%.*s'", (int)(id.size > 200 ? 200 : id.size), id.at == NULL ? "" : (const char *)id.at);
    buffer_free(&quoted);
    if (r < 0 || take_rights(arena, line, &rights, &more, e) < 0)
        return -1;
    entry->has_rights = !negative;
    entry->has_negative = negative;
    *(negative ? &entry->negative : &entry->rights) = rights;
    *(negative ? &entry->more_negative : &entry->more) = more;
    return 0;
}

static void put_half(struct buffer *out, const struct acl_entry *entry, bool negative)
{
    struct buffer id = {0};
    const char *more = negative ? entry->more_negative : entry->more;

    acl_identifier_put(&id, entry);
    if (negative)
        buffer_append_byte(out, '-');
    /* Quotes inside of a word without spaces are letters of it. */
    if (slice_find(buffer_slice(&id), ' ') >= 0 || slice_find(buffer_slice(&id), '\t') >= 0)
        text_quoted(out, buffer_slice(&id));
    else
        buffer_append_slice(out, buffer_slice(&id));
    buffer_append_byte(out, ' ');
    acl_put_letters(out, negative ? entry->negative : entry->rights);
    if (more != NULL)
        buffer_printf(out, " :%s", more);
    buffer_append_byte(out, '\n');
    buffer_free(&id);
}

void acl_line_put(struct buffer *out, const struct acl_entry *entry)
{
    if (entry->has_rights)
        put_half(out, entry, false);
    if (entry->has_negative)
        put_half(out, entry, true);
}

/* ---- lists ---- */

int acl_compare(const struct acl_entry *a, const struct acl_entry *b)
{
    if (a->global != b->global)
        return a->global ? 1 : -1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return strcmp(a->name == NULL ? "" : a->name, b->name == NULL ? "" : b->name);
}

static int compare_void(const void *a, const void *b)
{
    return acl_compare(a, b);
}

static void merge(struct acl_entry *into, const struct acl_entry *other)
{
    into->has_rights |= other->has_rights;
    into->has_negative |= other->has_negative;
    into->rights |= other->rights;
    into->negative |= other->negative;
    if (into->more == NULL)
        into->more = other->more;
    if (into->more_negative == NULL)
        into->more_negative = other->more_negative;
}

void acl_sort(struct acl_entries *entries)
{
    size_t n = 0;

    if (entries->count > 1)
        qsort(entries->at, entries->count, sizeof(*entries->at), compare_void);
    for (size_t i = 0; i < entries->count; i++) {
        if (n > 0 && acl_compare(&entries->at[n - 1], &entries->at[i]) == 0)
            merge(&entries->at[n - 1], &entries->at[i]);
        else
            entries->at[n++] = entries->at[i];
    }
    entries->count = n;
}

int acl_text_parse(struct arena *arena, struct slice text, const char *path, struct acl_entries *out, struct error *e)
{
    struct acl_entry entry;
    struct slice line;

    for (unsigned number = 1; slice_split(&text, '\n', &line); number++) {
        if (line.size == 0 || line.at[0] == '#' || (line.size == 1 && line.at[0] == '\r'))
            continue;
        if (acl_line_parse(arena, line, &entry, e) < 0)
            return error_context(e, "ACL file %s line %u: ", path, number);
        VEC_PUSH(out, entry);
    }
    acl_sort(out);
    return 0;
}

/* ---- global files ---- */

static int take_pattern(struct arena *arena, struct slice *line, const char **pattern, struct error *e)
{
    struct buffer quoted = {0};
    struct slice text;
    int r = 0;

    if (line->size > 0 && line->at[0] == '"') {
        if (take_quoted(line, &quoted) < 0)
            r = bad(e, "Missing '\"'");
        else if (line->size == 0 || !is_space(line->at[0]))
            r = bad(e, "Expecting space after '\"'");
        text = buffer_slice(&quoted);
    } else {
        size_t n = 0;

        while (n < line->size && !is_space(line->at[n]))
            n++;
        text = slice_head(*line, n);
        *line = slice_from(*line, n);
    }
    if (r == 0 && slice_trim(*line).size == 0)
        r = bad(e, "Missing ACL rights");
    if (r == 0 && text.size == 0)
        r = bad(e, "Empty ACL pattern");
    *line = slice_trim(*line);
    *pattern = r == 0 ? arena_str(arena, text) : "";
    buffer_free(&quoted);
    return r;
}

int acl_global_parse(struct arena *arena, struct slice text, const char *path, struct acl_patterns *out, struct error *e)
{
    struct acl_pattern line_out;
    struct slice line;

    for (unsigned number = 1; slice_split(&text, '\n', &line); number++) {
        line = slice_trim(line);
        if (line.size == 0 || line.at[0] == '#')
            continue;
        if (take_pattern(arena, &line, &line_out.pattern, e) < 0 ||
            acl_line_parse(arena, line, &line_out.entry, e) < 0)
            return error_context(e, "Global ACL file %s line %u: ", path, number);
        line_out.entry.global = true;
        VEC_PUSH(out, line_out);
    }
    return 0;
}
