/* cmd_fetch.c - doveadm fetch: fields of messages (doveadm 6.1).
 *
 * A field is a row of a table: its name and the function that prints its value. hdr.NAME, body.SECTION and
 * binary.SECTION carry their rest along. */
#include "cmd_fetch.h"
#include "store/driver.h"
#include "store/location.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

typedef int fetch_fn(struct fetch_mail *, struct error *);

struct field {
    const char *name;
    fetch_fn *print;
    const char *rest;
};

/* ---- what the index knows ------------------------------------------------------------------------------------------- */

static int put_user(struct fetch_mail *m, struct error *e)
{
    (void)e;
    print_value(m->d, m->d->username);
    return 0;
}

static int put_mailbox(struct fetch_mail *m, struct error *e)
{
    (void)e;
    struct mailbox *box = mailbox_view_box(m->view);
    uint32_t uid = m->record.uid;

    mailbox_origin(&box, &uid); /* of a virtual mailbox: whose the message is */
    print_value(m->d, mailbox_where(box)->vname);
    return 0;
}

static int put_mailbox_guid(struct fetch_mail *m, struct error *e)
{
    unsigned char guid[16];
    struct buffer hex = {0};

    if (mailbox_guid(mailbox_view_box(m->view), guid, e) < 0)
        return -1;
    text_hex_encode(&hex, slice_of(guid, sizeof(guid)));
    print_value(m->d, buffer_cstr(&hex));
    buffer_free(&hex);
    return 0;
}

static int put_seq(struct fetch_mail *m, struct error *e)
{
    (void)e;
    print_number(m->d, m->seq);
    return 0;
}

static int put_uid(struct fetch_mail *m, struct error *e)
{
    (void)e;
    print_number(m->d, m->record.uid);
    return 0;
}

static int put_modseq(struct fetch_mail *m, struct error *e)
{
    (void)e;
    print_number(m->d, m->record.modseq);
    return 0;
}

static int put_flags(struct fetch_mail *m, struct error *e)
{
    struct index *index = index_view_index(mailbox_view_index(m->view));
    struct buffer out = {0};
    const char *name;

    (void)e;
    index_flags_put(&out, m->record.flags, mailbox_view_recent(m->view, m->record.uid));
    for (unsigned i = 0; (name = index_keyword_name(index, i)) != NULL; i++)
        if (index_keyword_has(m->record.keywords, i))
            buffer_printf(&out, "%s%s", out.size > 0 ? " " : "", name);
    print_value(m->d, buffer_cstr(&out));
    buffer_free(&out);
    return 0;
}

static int put_guid(struct fetch_mail *m, struct error *e)
{
    const char *guid;

    if (mail_guid(m->mail, &guid, e) < 0)
        return -1;
    print_value(m->d, guid);
    return 0;
}

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

static int stream_section(struct fetch_mail *m, const char *text, struct error *e)
{
    const struct mime_source *source;
    struct mime_section section;
    struct mime_part *root = NULL;
    struct mime_reader *reader;
    struct mime_hint hint = {0};
    unsigned char part[16 * 1024];
    ssize_t n;

    if (mime_section_parse(m->arena, slice_from_str(text), &section, e) < 0 || mail_source(m->mail, &source, e) < 0)
        return -1;
    if (mime_section_needs_tree(&section) && mail_parts(m->mail, false, &root, e) < 0)
        return -1;
    if (root != NULL && section.depth > 0) {
        bool whole;
        if (mime_section_part(root, &section, &whole) == NULL) {
            print_stream(m->d, SLICE_EMPTY, true); /* no such part */
            return 0;
        }
    }
    if (mime_section_open(m->arena, source, root, &section, 0, UINT64_MAX, &hint, &reader, e) < 0)
        return -1;
    while ((n = mime_reader_read(reader, part, sizeof(part), e)) > 0) {
        print_stream(m->d, slice_of(part, (size_t)n), false);
    }
    mime_reader_free(reader);
    if (n < 0)
        return -1;
    print_stream(m->d, SLICE_EMPTY, true);
    return 0;
}

/* Where the body begins: behind the first empty line; without one there is no body. */
static int find_body(const struct mime_source *source, uint64_t *at, struct error *e)
{
    unsigned char part[16 * 1024];
    uint64_t offset = 0;
    bool line_empty = true;
    ssize_t n;

    while ((n = mime_source_read(source, offset, part, sizeof(part), e)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (part[i] == '\n' && line_empty) {
                *at = offset + (uint64_t)i + 1;
                return 0;
            }
            if (part[i] != '\r' || (i + 1 < n && part[i + 1] != '\n'))
                line_empty = part[i] == '\n';
        }
        offset += (uint64_t)n;
    }
    *at = offset;
    return n < 0 ? -1 : 0;
}

/* A stretch of the mail as it lies there, line ends too: unlike a section of IMAP, nothing is added. */
static int stream_stretch(struct fetch_mail *m, const struct mime_source *source, uint64_t from, uint64_t to,
                          struct error *e)
{
    unsigned char part[16 * 1024];
    ssize_t n = 1;

    while (from < to &&
           (n = mime_source_read(source, from, part, to - from < sizeof(part) ? (size_t)(to - from) : sizeof(part), e)) > 0) {
        print_stream(m->d, slice_of(part, (size_t)n), false);
        from += (uint64_t)n;
    }
    if (n < 0)
        return -1;
    print_stream(m->d, SLICE_EMPTY, true);
    return 0;
}

static int put_hdr(struct fetch_mail *m, struct error *e)
{
    const struct mime_source *source;
    uint64_t body;

    if (mail_source(m->mail, &source, e) < 0 || find_body(source, &body, e) < 0)
        return -1;
    return stream_stretch(m, source, 0, body, e);
}

static int put_body(struct fetch_mail *m, struct error *e)
{
    const struct mime_source *source;
    uint64_t body;

    if (mail_source(m->mail, &source, e) < 0 || find_body(source, &body, e) < 0)
        return -1;
    return stream_stretch(m, source, body, UINT64_MAX, e);
}

static int put_text(struct fetch_mail *m, struct error *e)
{
    const struct mime_source *source;

    return mail_source(m->mail, &source, e) < 0 ? -1 : stream_stretch(m, source, 0, UINT64_MAX, e);
}

static int put_body_section(struct fetch_mail *m, struct error *e)
{
    return stream_section(m, m->rest, e);
}

/* Without transfer encodings; headers have none. */
static int put_binary_section(struct fetch_mail *m, struct error *e)
{
    struct mime_section section;
    struct mail_binary found;
    struct buffer out = {0};
    int r;

    if (mime_section_parse(m->arena, slice_from_str(m->rest), &section, e) < 0)
        return -1;
    if (section.what != MIME_SECTION_ALL && section.what != MIME_SECTION_TEXT)
        return stream_section(m, m->rest, e);
    r = mail_binary(m->mail, &section, &out, &found, e);
    if (r == 0 && (found.unknown || found.broken)) {
        r = error_set(e, ERROR_UNSUPPORTED, "UID=%u: cannot be decoded", m->record.uid);
        error_user(e, found.unknown ? "Unknown Content-Transfer-Encoding." : "Invalid data in MIME part");
    }
    if (r == 0)
        print_stream(m->d, buffer_slice(&out), true);
    buffer_free(&out);
    return r;
}

/* ---- header fields ----------------------------------------------------------------------------------------------------- */

enum filter { FILTER_NONE, FILTER_UTF8, FILTER_ADDRESS, FILTER_ADDRESS_NAME, FILTER_ADDRESS_NAME_UTF8 };

static const struct {
    const char *name;
    enum filter filter;
} filters[] = {{"utf8", FILTER_UTF8},
               {"address", FILTER_ADDRESS},
               {"address_name", FILTER_ADDRESS_NAME},
               {"address_name.utf8", FILTER_ADDRESS_NAME_UTF8}};

/* One address a line; a group's name and end stand as lines, too. */
static void put_addresses(struct fetch_mail *m, struct slice value, enum filter filter, struct buffer *out)
{
    uint32_t left = 100000;
    bool first = true;

    for (struct mime_address *a = mime_address_parse(m->arena, value, &left, false); a != NULL; a = a->next) {
        if (!first)
            buffer_append_byte(out, '\n');
        first = false;
        if (filter == FILTER_ADDRESS) {
            buffer_append_slice(out, a->mailbox);
            if (a->domain.at != NULL) { /* else a mark of a group */
                buffer_append_byte(out, '@');
                buffer_append_slice(out, a->domain);
            }
        } else if (filter == FILTER_ADDRESS_NAME_UTF8)
            mime_words_decode(out, a->name);
        else
            buffer_append_slice(out, a->name);
    }
}

/* CRLF becomes LF, folds stay. */
static void put_raw(struct slice value, struct buffer *out)
{
    for (size_t i = 0; i < value.size; i++)
        if (value.at[i] != '\r' || i + 1 >= value.size || value.at[i + 1] != '\n')
            buffer_append_byte(out, value.at[i]);
}

static bool is_blank(struct slice value)
{
    size_t i = 0;

    while (i < value.size && (value.at[i] == ' ' || value.at[i] == '\t'))
        i++;
    return i == value.size;
}

static int put_header_field(struct fetch_mail *m, struct error *e)
{
    const char *dot = strchr(m->rest, '.');
    struct slice name = slice_of(m->rest, dot == NULL ? strlen(m->rest) : (size_t)(dot - m->rest)), block;
    enum filter filter = FILTER_NONE;
    struct mime_headers headers;
    struct mime_field field;
    struct buffer out = {0};
    bool first = true;

    for (size_t i = 0; dot != NULL && i < sizeof(filters) / sizeof(filters[0]); i++)
        if (strcmp(dot + 1, filters[i].name) == 0)
            filter = filters[i].filter;
    if (dot != NULL && filter == FILTER_NONE)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Unknown header filter: %s", dot + 1);
    if (mail_header_fields(m->mail, &name, 1, &block, e) < 0)
        return -1;
    mime_headers_init(&headers, block);
    while (mime_headers_next(&headers, &field)) {
        if (!slice_equal_nocase(field.name, name))
            continue;
        if (!first)
            buffer_append_byte(&out, '\n');
        first = false;
        if (is_blank(field.value)) /* the blanks belong to what is in front of the value */
            continue;
        if (filter == FILTER_NONE)
            put_raw(field.value, &out);
        else if (filter == FILTER_UTF8)
            fetch_put_decoded(m->arena, field.value, &out);
        else
            put_addresses(m, field.value, filter, &out);
    }
    print_value(m->d, buffer_cstr(&out));
    buffer_free(&out);
    return 0;
}

/* ---- sizes, dates, IMAP forms ------------------------------------------------------------------------------------------- */

static int put_size_physical(struct fetch_mail *m, struct error *e)
{
    uint64_t size;

    if (mail_size_physical(m->mail, &size, e) < 0)
        return -1;
    print_number(m->d, size);
    return 0;
}

static int put_size_virtual(struct fetch_mail *m, struct error *e)
{
    uint64_t size;

    if (mail_size_virtual(m->mail, &size, e) < 0)
        return -1;
    print_number(m->d, size);
    return 0;
}

static const char *local_text(struct fetch_mail *m, int64_t when)
{
    char text[40];
    time_t t = when;
    struct tm tm;

    localtime_r(&t, &tm);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    return arena_strdup(m->arena, text);
}

static int put_received(struct fetch_mail *m, struct error *e)
{
    int64_t when;

    if (mail_internal_date(m->mail, &when, e) < 0)
        return -1;
    print_value(m->d, local_text(m, when));
    return 0;
}

static int put_received_unix(struct fetch_mail *m, struct error *e)
{
    int64_t when;

    if (mail_internal_date(m->mail, &when, e) < 0)
        return -1;
    print_value(m->d, arena_printf(m->arena, "%lld", (long long)when));
    return 0;
}

static int put_saved(struct fetch_mail *m, struct error *e)
{
    int64_t when;

    if (mail_save_date(m->mail, &when, e) < 0)
        return -1;
    print_value(m->d, local_text(m, when));
    return 0;
}

static int put_saved_unix(struct fetch_mail *m, struct error *e)
{
    int64_t when;

    if (mail_save_date(m->mail, &when, e) < 0)
        return -1;
    print_value(m->d, arena_printf(m->arena, "%lld", (long long)when));
    return 0;
}

static int put_sent(struct fetch_mail *m, struct error *e)
{
    int64_t when;
    int zone;

    if (mail_sent_date(m->mail, &when, &zone, e) < 0)
        return -1;
    print_value(m->d, arena_printf(m->arena, "%s (%c%02d%02d)", local_text(m, when), zone < 0 ? '-' : '+',
                                   abs(zone) / 60, abs(zone) % 60));
    return 0;
}

static int put_sent_unix(struct fetch_mail *m, struct error *e)
{
    int64_t when;
    int zone;

    if (mail_sent_date(m->mail, &when, &zone, e) < 0)
        return -1;
    print_value(m->d, arena_printf(m->arena, "%lld", (long long)when));
    return 0;
}

static int put_slice(struct fetch_mail *m, struct slice text)
{
    print_value(m->d, arena_str(m->arena, text));
    return 0;
}

static int put_envelope(struct fetch_mail *m, struct error *e)
{
    struct buffer text = {0};
    int got = mail_envelope(m->mail, &text, e);

    if (got == 0)
        put_slice(m, buffer_slice(&text));
    buffer_free(&text);
    return got;
}

static int put_imap_body(struct fetch_mail *m, struct error *e)
{
    struct slice text;

    return mail_structure(m->mail, false, &text, e) < 0 ? -1 : put_slice(m, text);
}

static int put_bodystructure(struct fetch_mail *m, struct error *e)
{
    struct slice text;

    return mail_structure(m->mail, true, &text, e) < 0 ? -1 : put_slice(m, text);
}

static int put_preview(struct fetch_mail *m, struct error *e)
{
    struct slice text;

    return mail_preview(m->mail, &text, e) < 0 ? -1 : put_slice(m, text);
}

static int put_uidl(struct fetch_mail *m, struct error *e)
{
    const char *text;

    if (mail_pop3_uidl(m->mail, &text, e) < 0)
        return -1;
    print_value(m->d, text == NULL ? "" : text);
    return 0;
}

static int put_order(struct fetch_mail *m, struct error *e)
{
    uint32_t order;

    if (mail_pop3_order(m->mail, &order, e) < 0)
        return -1;
    print_value(m->d, order == 0 ? "" : arena_printf(m->arena, "%u", order));
    return 0;
}

static int put_refcount(struct fetch_mail *m, struct error *e)
{
    uint32_t count;

    if (mail_refcount(m->mail, &count, e) < 0)
        return -1;
    print_number(m->d, count);
    return 0;
}

/* Maildir: the file's name without its flags; formats that keep messages in files of their own making have none. */
static int put_storageid(struct fetch_mail *m, struct error *e)
{
    const char *path = mail_path(m->mail), *name;
    struct mailbox *box = mailbox_view_box(m->view);
    uint32_t uid = m->record.uid;

    (void)e;
    mailbox_origin(&box, &uid);
    if (strcmp(mailbox_where(box)->ns->storage->at.driver->name, "maildir") != 0)
        path = NULL;
    name = path == NULL ? "" : strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
    print_value(m->d, arena_str(m->arena, slice_of(name, strcspn(name, ":"))));
    return 0;
}

static const struct {
    const char *name;
    fetch_fn *print;
} fields_known[] = {
    {"user", put_user},
    {"mailbox", put_mailbox},
    {"mailbox-guid", put_mailbox_guid},
    {"seq", put_seq},
    {"uid", put_uid},
    {"guid", put_guid},
    {"flags", put_flags},
    {"modseq", put_modseq},
    {"hdr", put_hdr},
    {"body", put_body},
    {"body.preview", put_preview},
    {"body.snippet", put_preview},
    {"text", put_text},
    {"text.utf8", fetch_put_text_utf8},
    {"size.physical", put_size_physical},
    {"size.virtual", put_size_virtual},
    {"date.received", put_received},
    {"date.sent", put_sent},
    {"date.saved", put_saved},
    {"date.received.unixtime", put_received_unix},
    {"date.sent.unixtime", put_sent_unix},
    {"date.saved.unixtime", put_saved_unix},
    {"imap.envelope", put_envelope},
    {"imap.body", put_imap_body},
    {"imap.bodystructure", put_bodystructure},
    {"pop3.uidl", put_uidl},
    {"pop3.order", put_order},
    {"refcount", put_refcount},
    {"storageid", put_storageid},
};
enum { FIELDS_KNOWN = sizeof(fields_known) / sizeof(fields_known[0]) };

/* ---- the command ------------------------------------------------------------------------------------------------------- */

struct fetch {
    struct field *fields;
    size_t count;
    struct query *query;
};

static void unknown(const char *what, const char *name) __attribute__((noreturn));

static void unknown(const char *what, const char *name)
{
    fputs("Available fetch fields: hdr.<name> body.<section> binary.<section>", stderr);
    for (size_t i = 0; i < FIELDS_KNOWN; i++)
        fprintf(stderr, " %s", fields_known[i].name);
    fputc('\n', stderr);
    doveadm_fatal(DOVEADM_TEMPFAIL, "Unknown fetch %s: %s", what, name);
}

static void check_section(struct doveadm *d, const char *text)
{
    struct mime_section section;
    struct error e;

    if (mime_section_parse(d->arena, slice_from_str(text), &section, &e) < 0 ||
        section.what == MIME_SECTION_FIELDS || section.what == MIME_SECTION_FIELDS_NOT)
        unknown("section", text);
}

static struct field find_field(struct doveadm *d, const char *name)
{
    for (size_t i = 0; i < FIELDS_KNOWN; i++)
        if (strcmp(name, fields_known[i].name) == 0)
            return (struct field){name, fields_known[i].print, NULL};
    if (strncmp(name, "hdr.", 4) == 0)
        return (struct field){name, put_header_field, name + 4};
    if (strncmp(name, "body.", 5) == 0 || strncmp(name, "binary.", 7) == 0) {
        const char *section = strchr(name, '.') + 1;
        check_section(d, section);
        return (struct field){name, *name == 'b' && name[1] == 'o' ? put_body_section : put_binary_section, section};
    }
    unknown("field", name);
}

static struct fetch *parse_fetch(struct doveadm *d)
{
    struct fetch *f = ARENA_NEW(d->arena, struct fetch);
    const char *text = doveadm_text(d, "fieldstr");
    size_t n;
    const char *const *words = doveadm_list(d, "query", &n);
    struct slice rest = slice_from_str(text), word;

    f->fields = ARENA_ARRAY(d->arena, struct field, strlen(text) + 1);
    while (slice_split(&rest, ' ', &word))
        if (word.size > 0)
            f->fields[f->count++] = find_field(d, (const char *)text_lowered(d->arena, word).at);
    f->query = query_parse(d, words, n);
    return f;
}

static int fetch_prepare(struct doveadm *d)
{
    struct fetch *f;
    size_t n;

    doveadm_list(d, "query", &n);
    if (doveadm_text(d, "fieldstr") == NULL || n == 0)
        return doveadm_usage(d);
    f = parse_fetch(d);
    doveadm_mail_print(d, "pager");
    for (size_t i = 0; i < f->count; i++)
        print_header_simple(d, f->fields[i].name);
    return DOVEADM_OK;
}

static int fetch_mail(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    struct fetch *f = arg;
    struct fetch_mail m = {.d = d, .view = view, .seq = seq};
    int status = DOVEADM_OK;
    struct error e;

    if (f->count == 0)
        return DOVEADM_OK;
    if (!index_view_get(mailbox_view_index(view), seq, &m.record) || mail_open(view, seq, &m.mail, &e) < 0)
        return DOVEADM_OK; /* gone meanwhile */
    m.arena = mail_arena(m.mail);
    for (size_t i = 0; i < f->count; i++) {
        m.rest = f->fields[i].rest;
        if (f->fields[i].print(&m, &e) == 0)
            continue;
        print_value(d, "");
        if (e.class != ERROR_EXPUNGED)
            doveadm_status_add(&status, doveadm_mail_failed_by(d, &e, "fetch(%s) failed for box=%s uid=%u",
                                                            strncmp(f->fields[i].name, "hdr.", 4) == 0 ? f->fields[i].name + 4 : f->fields[i].name,
                                                            mailbox_where(mailbox_view_box(view))->vname, m.record.uid));
    }
    mail_close(&m.mail);
    return status;
}

/* A mailbox that is missing is silent here. */
static int fetch_failed(struct doveadm *d, const char *mailbox, const struct error *e)
{
    return e->class == ERROR_NOT_FOUND ? DOVEADM_OK : doveadm_mail_failed_by(d, e, "Syncing mailbox %s failed", mailbox);
}

static int fetch_run(struct doveadm *d, struct mail_user *user)
{
    static const struct query_walk walk = {
        .why = SYNC_POLL, .read_only = true, .mail = fetch_mail, .failed = fetch_failed};
    struct fetch *f = parse_fetch(d);

    return query_run(d, f->query, user, &walk, f);
}

int doveadm_fetch(struct doveadm *d)
{
    static const struct mail_command command = {fetch_prepare, fetch_run};

    return doveadm_mail_run(d, &command);
}
