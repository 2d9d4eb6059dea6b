/* header.c - hidden headers of a message: reading and writing (maildir-and-layouts 9.1).
 *
 * Lines that are not ours are never touched. Ours are read wherever they stand, in any number (the first one counts), and are
 * written behind the others, in the real server's order, with spaces as padding so that most later changes need no room. */
#include "store/mbox/format.h"

#include "index/index.h"

#include <nettle/md5.h>
#include <stdio.h>
#include <time.h>

#define KEYWORD_COLUMNS 1024             /* of X-Keywords, before it is folded */

bool mbox_header_hidden(struct slice name)
{
    static const char *const names[] = {"Content-Length", "Status", "X-IMAP", "X-IMAPbase", "X-Keywords", "X-Status", "X-UID"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (slice_equal_str_nocase(name, names[i]))
            return true;
    return false;
}

static size_t line_size(struct slice rest)
{
    ptrdiff_t lf = slice_find(rest, '\n');

    return lf < 0 ? rest.size : (size_t)lf + 1;
}

bool mbox_header_next(struct slice *rest, struct slice *field, struct slice *name, struct slice *value)
{
    size_t size;
    ptrdiff_t colon;

    if (rest->size == 0)
        return false;
    size = line_size(*rest);
    while (size < rest->size && (rest->at[size] == ' ' || rest->at[size] == '\t'))
        size += line_size(slice_from(*rest, size));
    *field = slice_head(*rest, size);
    *rest = slice_from(*rest, size);
    colon = slice_find(*field, ':');
    *name = colon < 0 ? SLICE_EMPTY : slice_trim(slice_head(*field, (size_t)colon));
    *value = colon < 0 ? SLICE_EMPTY : slice_from(*field, (size_t)colon + 1);
    return true;
}

static bool is_blank(struct slice field)
{
    return slice_equal_str(field, "\n") || slice_equal_str(field, "\r\n");
}

void mbox_header_visible(struct slice header, bool saved, struct buffer *out)
{
    struct slice field, name, value;

    while (mbox_header_next(&header, &field, &name, &value))
        if (!mbox_header_hidden(name) && !(saved && slice_equal_str_nocase(name, "X-Delivery-ID")))
            buffer_append_slice(out, field);
}

/* ---- reading ---- */

static void read_status(struct slice value, struct mbox_message *m)
{
    for (size_t i = 0; i < value.size; i++) {
        m->flags |= value.at[i] == 'R' ? INDEX_SEEN : 0;
        m->old = m->old || value.at[i] == 'O';
    }
}

static void read_x_status(struct slice value, struct mbox_message *m)
{
    for (size_t i = 0; i < value.size; i++) {
        switch (value.at[i]) {
        case 'A':
            m->flags |= INDEX_ANSWERED;
            break;
        case 'F':
            m->flags |= INDEX_FLAGGED;
            break;
        case 'T':
            m->flags |= INDEX_DRAFT;
            break;
        case 'D':
            m->flags |= INDEX_DELETED;
            break;
        }
    }
}

static bool next_token(struct slice *rest, struct slice *token)
{
    *rest = slice_trim(*rest);
    if (rest->size == 0)
        return false;
    *token = *rest;
    for (size_t i = 0; i < rest->size; i++) {
        if (rest->at[i] == ' ' || rest->at[i] == '\t' || rest->at[i] == '\r' || rest->at[i] == '\n') {
            *token = slice_head(*rest, i);
            break;
        }
    }
    *rest = slice_from(*rest, token->size);
    return true;
}

static void read_base(struct slice value, bool pseudo, struct arena *arena, struct mbox_message *m)
{
    struct slice validity, last;
    uint32_t a, b;

    if (m->has_base || !next_token(&value, &validity) || !next_token(&value, &last) || !slice_to_u32(validity, &a) || a == 0 ||
        !slice_to_u32(last, &b))
        return;
    m->has_base = true;
    m->pseudo = pseudo;
    m->base_validity = a;
    m->base_last = b;
    m->base_keywords = arena_slice(arena, slice_trim(value));
}

/* One field's value without line ends, and without one blank behind the colon. */
static void md5_value(struct md5_ctx *md5, struct slice value)
{
    if (value.size > 0 && (value.at[0] == ' ' || value.at[0] == '\t'))
        value = slice_from(value, 1);
    while (value.size > 0) {
        size_t size = line_size(value), text = size;

        while (text > 0 && (value.at[text - 1] == '\n' || value.at[text - 1] == '\r'))
            text--;
        md5_update(md5, text, value.at);
        value = slice_from(value, size);
    }
}

static bool md5_wants(struct slice name, enum mbox_md5 which, bool *received)
{
    bool had = *received;

    if (which == MBOX_MD5_ALL)
        return name.size > 0 && !mbox_header_hidden(name);
    if (slice_equal_str_nocase(name, "Received")) {
        *received = true;
        return !had;
    }
    return slice_equal_str_nocase(name, "Delivered-To") || slice_equal_str_nocase(name, "X-Delivery-ID") ||
           (!had && (slice_equal_str_nocase(name, "Date") || slice_equal_str_nocase(name, "Message-ID")));
}

void mbox_header_read(struct slice header, enum mbox_md5 which, struct arena *arena, struct mbox_message *m)
{
    struct slice field, name, value;
    struct md5_ctx md5;
    bool received = false, has_uid = false, has_keywords = false, has_status = false, has_x_status = false;
    uint32_t uid;

    md5_init(&md5);
    while (mbox_header_next(&header, &field, &name, &value)) {
        if (md5_wants(name, which, &received))
            md5_value(&md5, value);
        if (!mbox_header_hidden(name))
            continue;
        m->hidden += field.size;
        if (slice_equal_str_nocase(name, "Status") && !has_status) {
            has_status = true;
            read_status(value, m);
        } else if (slice_equal_str_nocase(name, "X-Status") && !has_x_status) {
            has_x_status = true;
            read_x_status(value, m);
        } else if (slice_equal_str_nocase(name, "X-Keywords") && !has_keywords) {
            has_keywords = true;
            m->keywords = arena_slice(arena, slice_trim(value));
        } else if (slice_equal_str_nocase(name, "X-UID") && !has_uid) {
            has_uid = slice_to_u32(slice_trim(value), &uid);
            m->uid = has_uid ? uid : 0;
        } else if (slice_equal_str_nocase(name, "X-IMAPbase")) {
            read_base(value, false, arena, m);
        } else if (slice_equal_str_nocase(name, "X-IMAP")) {
            read_base(value, true, arena, m);
        }
    }
    md5_digest(&md5, sizeof(m->md5), m->md5);
}

/* ---- writing ---- */

static const char *line_end(const struct mbox_facts *f)
{
    return f->crlf ? "\r\n" : "\n";
}

static void put_base(const struct mbox_facts *f, struct buffer *out)
{
    buffer_printf(out, "%s: %u %010u", f->pseudo ? "X-IMAP" : "X-IMAPbase", f->base_validity, f->base_last);
    if (f->base_keywords.size > 0) {
        buffer_append_byte(out, ' ');
        buffer_append_slice(out, f->base_keywords);
    }
}

/* Folded where a line would be too long for some readers. */
static void put_keywords(struct slice words, struct buffer *out, const char *end)
{
    struct slice word;
    size_t column = 0;
    bool first = true;

    while (next_token(&words, &word)) {
        if (!first && column + word.size > KEYWORD_COLUMNS) {
            buffer_append_str(out, end);
            buffer_append_byte(out, '\t');
            column = 0;
        } else if (!first) {
            buffer_append_byte(out, ' ');
        }
        buffer_append_slice(out, word);
        column += word.size + 1;
        first = false;
    }
}

static void put_status(const struct mbox_facts *f, struct buffer *out)
{
    buffer_printf(out, "Status: %s%s%s", (f->flags & INDEX_SEEN) != 0 ? "R" : "", f->old ? "O" : "", line_end(f));
    if ((f->flags & (INDEX_FLAGS_CLIENT & ~INDEX_SEEN)) != 0)
        buffer_printf(out, "X-Status: %s%s%s%s%s", (f->flags & INDEX_ANSWERED) != 0 ? "A" : "", (f->flags & INDEX_FLAGGED) != 0 ? "F" : "",
                      (f->flags & INDEX_DRAFT) != 0 ? "T" : "", (f->flags & INDEX_DELETED) != 0 ? "D" : "", line_end(f));
}

static void put_padding(struct buffer *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buffer_append_byte(out, ' ');
}

static size_t make_with(struct slice header, const struct mbox_facts *f, bool keywords, size_t padding, struct buffer *out)
{
    struct slice field, name, value, rest = header;
    size_t before = out->size;
    const char *end = line_end(f);

    while (mbox_header_next(&rest, &field, &name, &value)) {
        if (is_blank(field))
            break;
        if (mbox_header_hidden(name))
            continue;
        buffer_append_slice(out, field);
        if (field.at[field.size - 1] != '\n')
            buffer_append_str(out, end);
    }
    if (f->base) {
        put_base(f, out);
        if (f->pseudo && !keywords)
            put_padding(out, padding);
        buffer_append_str(out, end);
    }
    if (!f->pseudo) {
        buffer_printf(out, "X-UID: %u", f->uid);
        if (!keywords)
            put_padding(out, padding);
        buffer_append_str(out, end);
    }
    put_status(f, out);
    if (keywords) {
        buffer_append_str(out, "X-Keywords: ");
        put_keywords(f->keywords, out, end);
        put_padding(out, padding);
        buffer_append_str(out, end);
    }
    if (f->has_length)
        buffer_printf(out, "Content-Length: %llu%s", (unsigned long long)f->length, end);
    buffer_append_str(out, end);
    return out->size - before;
}

void mbox_header_make(struct slice header, const struct mbox_facts *f, size_t room, struct buffer *out)
{
    size_t before = out->size, needed, empty = sizeof("X-Keywords: ") + (f->crlf ? 1 : 0);
    bool keywords = f->keywords.size > 0;

    needed = make_with(header, f, keywords, 0, out);
    out->size = before;
    if (needed > room)
        make_with(header, f, keywords || !f->pseudo, MBOX_PADDING, out);
    else if (!keywords && !f->pseudo && room - needed >= empty)
        make_with(header, f, true, room - needed - empty, out);
    else
        make_with(header, f, keywords, room - needed, out);
}

void mbox_pseudo_make(const struct mbox_facts *f, const char *host, int64_t now, struct buffer *out)
{
    time_t when = (time_t)now;
    struct mbox_facts facts = *f;
    struct buffer header = {0};
    char date[64] = "";
    struct tm tm;

    facts.base = facts.pseudo = true;
    facts.uid = 0;
    facts.flags = INDEX_SEEN;
    facts.old = true;
    facts.keywords = SLICE_EMPTY;
    facts.has_length = facts.crlf = false;
    if (gmtime_r(&when, &tm) != NULL)
        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", &tm);
    mbox_from_make(out, "MAILER_DAEMON", now);
    buffer_printf(&header, "Date: %s\nFrom: Mail System Internal Data <MAILER-DAEMON@%s>\n"
                  "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nMessage-ID: <%lld@%s>\n", date, host, (long long)now, host);
    mbox_header_make(buffer_slice(&header), &facts, 0, out);
    buffer_free(&header);
    buffer_append_str(out, "This text is part of the internal format of your mail folder, and is not\n"
                      "a real message.  It is created automatically by the mail system software.\n"
                      "If deleted, important folder data will be lost, and it will be re-created\n"
                      "with the data reset to initial values.\n\n");
}
