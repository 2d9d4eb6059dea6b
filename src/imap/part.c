/* part.c - the bytes that a URL names (RFC 5092 section 6): a mailbox, a message, a section, a range. */
#include "imap/part.h"

int part_section_parse(struct arena *arena, const char *text, struct mime_section *section)
{
    char *upper = arena_strdup(arena, text);
    struct slice rest = slice_from_str(upper), names = SLICE_EMPTY, word;
    struct error e = {0};
    ptrdiff_t open;
    size_t n = 0;

    for (char *c = upper; *c != '\0'; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
    open = slice_find(rest, '(');
    if (open >= 0) {
        names = slice_from(rest, (size_t)open + 1);
        if (names.size == 0 || names.at[names.size - 1] != ')')
            return -1;
        names.size--;
        rest = slice_trim(slice_head(rest, (size_t)open));
    }
    if (mime_section_parse(arena, rest, section, &e) < 0)
        return -1;
    if (section->what != MIME_SECTION_FIELDS && section->what != MIME_SECTION_FIELDS_NOT)
        return open < 0 ? 0 : -1;
    section->names = ARENA_ARRAY(arena, struct slice, names.size + 1);
    while (names.size > 0 && slice_split(&names, ' ', &word)) {
        if (word.size > 1 && word.at[0] == '"' && word.at[word.size - 1] == '"')
            word = slice_of(word.at + 1, word.size - 2);
        if (word.size > 0)
            section->names[n++] = word;
    }
    section->names_count = n;
    return n > 0 ? 0 : -1;
}

/* Errors that are the URL's doing are told; others are the caller's. */
static int refuse(struct arena *arena, const struct error *e, const char **fault)
{
    if (e->user[0] != '\0' && e->class != ERROR_TEMPORARY && e->class != ERROR_BUG && e->class != ERROR_CORRUPT)
        *fault = arena_strdup(arena, e->user);
    return -1;
}

int part_begin(struct part *p, struct mail_user *user, struct arena *arena, const struct imap_url *url, const char **fault,
               struct error *e)
{
    struct mailbox_place place;

    *p = (struct part){.user = user, .url = url};
    *fault = NULL;
    if (url->mailbox == NULL) {
        *fault = "Mailbox-relative IMAP URL, but no mailbox selected";
        return -1;
    }
    if (url->uid == 0 || url->search != NULL) {
        *fault = "Invalid messagepart IMAP URL";
        return -1;
    }
    if (!text_utf8_valid(slice_from_str(url->mailbox))) {
        *fault = "Mailbox name is not valid UTF-8";
        return -1;
    }
    if (mailbox_place(user, arena, slice_from_str(url->mailbox), &place, e) < 0 ||
        mailbox_need(&place, MAILBOX_RIGHT_READ, e) < 0 || mailbox_open(&p->box, &place, 0, e) < 0) {
        p->box = NULL;
        return refuse(arena, e, fault);
    }
    p->op = mailbox_sync(p->box, NULL, SYNC_POLL);
    return 0;
}

int part_check(struct part *p, const char **fault)
{
    struct index_status status;

    *fault = NULL;
    index_status(mailbox_index(p->box), &status);
    if (p->url->uid_validity == 0 || p->url->uid_validity == status.uid_validity)
        return 0;
    *fault = "Invalid UIDVALIDITY";
    return -1;
}

int part_find(struct part *p, struct arena *arena, const char **fault, struct error *e)
{
    struct index_record record;

    *fault = NULL;
    if (!index_get_from(mailbox_index(p->box), p->url->uid, &record) || record.uid != p->url->uid) {
        *fault = "Message not found";
        return -1;
    }
    if (mail_open_uid(p->box, p->url->uid, &p->mail, e) < 0) {
        p->mail = NULL;
        return -1;
    }
    if (part_section_parse(arena, p->url->section == NULL ? "" : p->url->section, &p->section) < 0) {
        *fault = "Invalid section";
        return -1;
    }
    return 0;
}

static int read_fields(struct part *p, struct arena *arena, struct error *e)
{
    struct slice block;
    bool invert = p->section.what == MIME_SECTION_FIELDS_NOT;

    if (mail_header(p->mail, &block, e) < 0)
        return -1;
    mime_header_filter(&p->whole, block, mime_names_new(arena, p->section.names, p->section.names_count), invert);
    return 0;
}

/* What is in `whole` cut to the URL's range. */
static void cut_whole(struct part *p)
{
    uint64_t from = p->url->from < p->whole.size ? p->url->from : p->whole.size, left = p->whole.size - from;

    p->at = from;
    p->size = p->url->count < left ? p->url->count : left;
    p->whole.size = (size_t)(from + p->size);
}

static bool is_decodable(const struct mime_section *s)
{
    return s->what == MIME_SECTION_ALL;
}

int part_open(struct part *p, struct arena *arena, bool decode, const char **fault, struct error *e)
{
    const struct mime_source *source;
    struct mime_part *root = NULL;
    struct mail_binary result;

    *fault = NULL;
    p->binary = false;
    mime_reader_free(p->reader);
    p->reader = NULL;
    buffer_reset(&p->whole);
    if (decode && is_decodable(&p->section)) {
        if (mail_binary(p->mail, &p->section, &p->whole, &result, e) < 0)
            return -1;
        if (result.unknown || result.broken) {
            *fault = result.unknown ? "Unknown Content-Transfer-Encoding" : "Invalid data in MIME part";
            return -1;
        }
        p->binary = result.decoded;
        cut_whole(p);
        return 0;
    }
    if (p->section.depth == 0 && (p->section.what == MIME_SECTION_FIELDS || p->section.what == MIME_SECTION_FIELDS_NOT)) {
        if (read_fields(p, arena, e) < 0)
            return -1;
        cut_whole(p);
        return 0;
    }
    p->hint = (struct mime_hint){0};
    if (mail_parts(p->mail, false, &root, e) < 0 || mail_source(p->mail, &source, e) < 0 ||
        mime_section_open(arena, source, root, &p->section, p->url->from, p->url->count, &p->hint, &p->reader, e) < 0)
        return -1;
    p->size = mime_reader_size(p->reader);
    return 0;
}

ssize_t part_read(struct part *p, void *buf, size_t size, struct error *e)
{
    size_t left = p->whole.size - (size_t)p->at;

    if (p->reader != NULL)
        return mime_reader_read(p->reader, buf, size, e);
    if (size > left)
        size = left;
    if (size > 0)
        memcpy(buf, p->whole.at + p->at, size);
    p->at += size;
    return (ssize_t)size;
}

int part_structure(struct part *p, struct arena *arena, struct buffer *out, const char **fault, struct error *e)
{
    struct mime_part *root, *part;
    bool whole;

    (void)arena;
    *fault = NULL;
    if (mail_parts(p->mail, true, &root, e) < 0)
        return -1;
    part = p->section.depth == 0 ? root : mime_section_part(root, &p->section, &whole);
    if (part == NULL) {
        *fault = "Message part not found";
        return -1;
    }
    mime_structure_put(out, part, true);
    return 0;
}

void part_close(struct part *p)
{
    store_op_free(&p->op);
    mime_reader_free(p->reader);
    p->reader = NULL;
    buffer_free(&p->whole);
    if (p->mail != NULL)
        mail_close(&p->mail);
    if (p->box != NULL)
        mailbox_close(&p->box);
}
