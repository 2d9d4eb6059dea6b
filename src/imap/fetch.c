/* fetch.c - FETCH: one message after the other, one item after the other, as far as the client reads.
 *
 * A line begins with the buffered items, written at once; then each streamed item in pieces of CHUNK. Whatever was
 * being written is kept in struct fetch, so that a step can end at any piece. A message that is gone gives
 * placeholders (imap 10.2). */
#include "imap/fetch.h"
#include "imap/part.h"

#include <stdio.h>

enum { CHUNK = 16 * 1024 };

/* (PARTIAL a:b): the first or last messages of the set (RFC 9394 section 3.3). */
static void cut_partial(struct fetch *f)
{
    uint64_t count = imap_ranges_count(&f->seqs), first = f->partial_first, last = f->partial_last, n = 0;
    struct index_ranges kept = {0};

    if (f->partial_end) {
        last = first > count ? 0 : count - f->partial_first + 1;
        first = f->partial_last >= count ? 1 : count - f->partial_last + 1;
    }
    for (size_t i = 0; i < f->seqs.count && n < last; i++) {
        const struct index_range *range = &f->seqs.at[i];
        uint64_t size = (uint64_t)range->last - range->first + 1, from = first > n + 1 ? first - n - 1 : 0,
                 to = last - n < size ? last - n : size;

        if (from < to)
            index_ranges_add(&kept, range->first + (uint32_t)from, range->first + (uint32_t)to - 1);
        n += size;
    }
    index_ranges_free(&f->seqs);
    f->seqs = kept;
}

void fetch_begin(struct session *s, struct request *r)
{
    struct fetch *f = r->state = ARENA_NEW(r->arena, struct fetch);
    const struct imap_arg *a = r->args, *rest;

    if (!imap_arg_is_atom(a) || a->next == NULL || (a->next->type != IMAP_LIST && !imap_arg_is_atom(a->next)) ||
        (a->next->next != NULL && a->next->next->type != IMAP_LIST)) {
        request_bad(s, r, "Invalid arguments");
        return;
    }
    session_keywords_refresh(s); /* flags are shown as they are now, with names that are announced afterwards */
    if (!request_set(s, r, a->text, &f->seqs) || !fetch_parse(s, r, f, a->next, &rest))
        return;
    if (s->examined || mailbox_view_read_only(s->view))
        f->sees = false;
    if (f->partial)
        cut_partial(f);
    limit_keep_last(s, r, &f->seqs);
}

/* ---- the buffered items ---------------------------------------------------------------------------------------------- */

static void put_date(struct buffer *out, int64_t when)
{
    buffer_append_byte(out, '"');
    mime_date_imap_put(out, when, mime_date_local_zone(when));
    buffer_append_byte(out, '"');
}

/* Reading failed: a message that has gone is no failure. */
static int broken(struct fetch *f, const struct error *e)
{
    if (e->class != ERROR_EXPUNGED)
        return -1;
    f->gone = true;
    f->issued = true;
    return 0;
}

static int put_size(struct fetch *f, struct buffer *out, struct error *e)
{
    uint64_t size = 0;

    if (f->mail == NULL || mail_size_virtual(f->mail, &size, e) < 0) {
        if (f->mail != NULL && broken(f, e) < 0)
            return -1;
        size = 0;
    }
    buffer_append_str(out, "RFC822.SIZE ");
    buffer_append_number(out, size);
    return 0;
}

static int put_internal_date(struct fetch *f, struct buffer *out, struct error *e)
{
    int64_t when = 0;

    if (f->mail != NULL && mail_internal_date(f->mail, &when, e) < 0 && broken(f, e) < 0)
        return -1;
    buffer_append_str(out, "INTERNALDATE ");
    put_date(out, f->gone ? 0 : when);
    return 0;
}

static int put_save_date(struct fetch *f, const struct fetch_item *item, struct buffer *out, struct error *e)
{
    int64_t when = 0;

    if (f->mail != NULL && mail_save_date(f->mail, &when, e) < 0 && broken(f, e) < 0)
        return -1;
    buffer_printf(out, "%s ", item->label);
    if (f->gone || f->mail == NULL)
        buffer_append_str(out, "NIL");
    else
        put_date(out, when);
    return 0;
}

static int put_guid(struct fetch *f, struct buffer *out, struct error *e)
{
    const char *guid = "";

    buffer_append_str(out, "X-GUID ");
    if (f->mail != NULL && mail_guid(f->mail, &guid, e) < 0) {
        if (broken(f, e) < 0)
            return -1;
        guid = "";
    }
    if (*guid != '\0')
        mime_put_astring(out, slice_from_str(guid));
    return 0;
}

/* LAZY: only what the cache has already. */
static int preview_text(struct session *s, struct request *r, struct fetch *f, const struct fetch_item *item,
                        struct slice *text, struct error *e)
{
    *text = SLICE_EMPTY;
    if (f->mail == NULL)
        return 0;
    if (item->lazy) {
        struct slice value;

        if (index_cache_get(mailbox_index(s->box), f->record.uid, index_field("body.snippet"), r->arena, &value) ==
                INDEX_CACHE_FOUND && value.size > 0)
            *text = slice_from(value, 1);
        return 0;
    }
    if (mail_preview(f->mail, text, e) < 0)
        return broken(f, e);
    if (text->at == NULL)
        *text = SLICE("");
    return 0;
}

static int put_preview(struct session *s, struct request *r, struct fetch *f, const struct fetch_item *item,
                       struct buffer *out, struct error *e)
{
    struct slice text;

    if (preview_text(s, r, f, item, &text, e) < 0)
        return -1;
    buffer_printf(out, "%s ", item->label);
    if (item->fuzzy && (text.at != NULL || (item->lazy && f->mail != NULL))) {
        buffer_append_str(out, "(FUZZY ");
        mime_put_nstring(out, text);
        buffer_append_byte(out, ')');
    } else {
        mime_put_nstring(out, text);
    }
    return 0;
}

/* RFC 8474 section 5.1: a copy keeps it where the format keeps GUIDs. */
static int put_email_id(struct fetch *f, struct buffer *out, struct error *e)
{
    unsigned char guid[16] = {0};

    if (f->mail != NULL && mail_guid128(f->mail, guid, e) < 0 && broken(f, e) < 0)
        return -1;
    buffer_append_str(out, "EMAILID (M");
    text_hex_encode(out, slice_of(guid, sizeof(guid)));
    buffer_append_byte(out, ')');
    return 0;
}

static int put_buffered(struct session *s, struct request *r, struct fetch *f, const struct fetch_item *item,
                        struct buffer *out, struct error *e)
{
    switch (item->kind) {
    case FETCH_FLAGS:
        buffer_append_str(out, "FLAGS ");
        session_put_flags(s, out, f->record.flags, mailbox_view_recent(s->view, f->record.uid), f->record.keywords);
        return 0;
    case FETCH_UID:
        buffer_append_str(out, "UID ");
        buffer_append_number(out, f->record.uid);
        return 0;
    case FETCH_MODSEQ:
        if (f->record.modseq > s->modseq_fetched)
            s->modseq_fetched = f->record.modseq;
        buffer_append_str(out, "MODSEQ (");
        buffer_append_number(out, f->record.modseq);
        buffer_append_byte(out, ')');
        return 0;
    case FETCH_INTERNALDATE:
        return put_internal_date(f, out, e);
    case FETCH_SIZE:
        return put_size(f, out, e);
    case FETCH_PREVIEW:
        return put_preview(s, r, f, item, out, e);
    case FETCH_SAVEDATE:
        return put_save_date(f, item, out, e);
    case FETCH_GUID:
        return put_guid(f, out, e);
    case FETCH_EMAILID:
        return put_email_id(f, out, e);
    case FETCH_THREADID:
        buffer_append_str(out, "THREADID NIL");
        return 0;
    case FETCH_MAILBOX:
    case FETCH_REAL_UID: {
        struct mailbox *box = s->box;
        uint32_t uid = f->record.uid;

        mailbox_origin(&box, &uid);
        if (item->kind == FETCH_REAL_UID) {
            buffer_printf(out, "X-REAL-UID %u", uid);
            return 0;
        }
        buffer_append_str(out, "X-MAILBOX ");
        put_mailbox(s, out, mailbox_where(box)->vname);
        return 0;
    }
    default:
        return 0;
    }
}

/* ---- the streamed items ---------------------------------------------------------------------------------------------- */

static void put_placeholder(struct buffer *out, const struct fetch_item *item)
{
    switch (item->kind) {
    case FETCH_ENVELOPE:
        buffer_append_str(out, "ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
        break;
    case FETCH_BODY:
        buffer_append_str(out, "BODY (\"text\" \"plain\" NIL NIL NIL \"7bit\" 0 0)");
        break;
    case FETCH_BODYSTRUCTURE:
        buffer_append_str(out, "BODYSTRUCTURE (\"text\" \"plain\" NIL NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)");
        break;
    case FETCH_BINARY_SIZE:
        buffer_printf(out, "%s 0", item->label);
        break;
    default:
        buffer_printf(out, "%s NIL", item->label);
        break;
    }
}

/* The item's label and the head of its literal. */
static void put_literal(struct buffer *out, const struct fetch_item *item, uint64_t size)
{
    buffer_append_str(out, item->label);
    buffer_append_str(out, " {");
    buffer_append_number(out, size);
    buffer_append_str(out, "}\r\n");
}

static int put_text(struct fetch *f, const struct fetch_item *item, struct buffer *out, struct error *e)
{
    struct slice text;

    buffer_append_str(out, item->label);
    buffer_append_str(out, " (");
    if (item->kind == FETCH_ENVELOPE) {
        if (mail_envelope(f->mail, out, e) < 0)
            return -1;
    } else {
        if (mail_structure(f->mail, item->kind == FETCH_BODYSTRUCTURE, &text, e) < 0)
            return -1;
        buffer_append_slice(out, text);
    }
    buffer_append_byte(out, ')');
    return 0;
}

/* HEADER.FIELDS of the message itself: from the cache, if it is there. */
static int put_fields(struct fetch *f, const struct fetch_item *item, struct buffer *out, uint64_t *size, struct error *e)
{
    const struct mime_section *section = &item->section;
    struct buffer text = {0};
    struct slice block, part;
    bool invert = section->what == MIME_SECTION_FIELDS_NOT;

    if ((invert ? mail_header(f->mail, &block, e)
                : mail_header_fields(f->mail, section->names, section->names_count, &block, e)) < 0)
        return -1;
    mime_header_filter(&text, block, mime_names_new(mail_arena(f->mail), section->names, section->names_count), invert);
    part = slice_from(buffer_slice(&text), item->from < text.size ? (size_t)item->from : text.size);
    part = slice_head(part, item->count < part.size ? (size_t)item->count : part.size);
    put_literal(out, item, part.size);
    buffer_append_slice(out, part);
    *size = part.size;
    buffer_free(&text);
    return 0;
}

static int open_section(struct session *s, struct fetch *f, const struct fetch_item *item, struct buffer *out,
                        struct error *e)
{
    const struct mime_source *source;
    struct mime_part *root = NULL;

    if (s->hint_uid != f->record.uid)
        s->hint = (struct mime_hint){0};
    s->hint_uid = f->record.uid;
    if (mime_section_needs_tree(&item->section) && mail_parts(f->mail, false, &root, e) < 0)
        return -1;
    if (root == NULL && item->section.what == MIME_SECTION_ALL && mail_parts(f->mail, false, &root, e) < 0)
        return -1;
    if (mail_source(f->mail, &source, e) < 0 ||
        mime_section_open(mail_arena(f->mail), source, root, &item->section, item->from, item->count, &s->hint,
                          &f->reader, e) < 0)
        return -1;
    put_literal(out, item, mime_reader_size(f->reader));
    return 0;
}

/* BINARY.SIZE of a header. */
static int put_section_size(struct session *s, struct fetch *f, const struct fetch_item *item, struct buffer *out, struct error *e)
{
    struct buffer head = {0};
    int got = open_section(s, f, item, &head, e);

    if (got == 0)
        buffer_printf(out, "%s %llu", item->label, (unsigned long long)mime_reader_size(f->reader));
    mime_reader_free(f->reader);
    f->reader = NULL;
    buffer_free(&head);
    return got;
}

/* ---- BINARY (RFC 3516) ------------------------------------------------------------------------------------------------- */

/* -> 0 decoded, 1 it cannot be (the reply will say why), -1. *size is BINARY.SIZE's, if that is asked for. */
static int decode_part(struct fetch *f, const struct fetch_item *item, bool *binary, uint64_t *size, struct error *e)
{
    struct mail_binary result;
    int got = item->kind == FETCH_BINARY_SIZE
                  ? mail_binary_size(f->mail, &item->section, &f->decoded, size, &result, e)
                  : mail_binary(f->mail, &item->section, &f->decoded, &result, e);

    if (got < 0)
        return -1;
    if (result.unknown)
        f->unknown_cte = "Unknown Content-Transfer-Encoding.";
    f->parse_failed = f->parse_failed || result.broken;
    *binary = result.decoded;
    return result.unknown || result.broken ? 1 : 0;
}

/* -> 0 written, 1 nothing to write (the reply will say why), -1. */
static int put_binary(struct fetch *f, const struct fetch_item *item, struct buffer *out, uint64_t *size, struct error *e)
{
    bool binary = false;
    struct slice part;
    uint64_t told = 0;
    int got = decode_part(f, item, &binary, &told, e);

    if (got != 0)
        return got;
    if (item->kind == FETCH_BINARY_SIZE) {
        buffer_printf(out, "%s %llu", item->label, (unsigned long long)told);
        return 0;
    }
    part = slice_from(buffer_slice(&f->decoded), item->from < f->decoded.size ? (size_t)item->from : f->decoded.size);
    part = slice_head(part, item->count < part.size ? (size_t)item->count : part.size);
    buffer_printf(out, "%s %s{%zu}\r\n", item->label, binary ? "~" : "", part.size);
    buffer_append_slice(out, part);
    *size = part.size;
    return 0;
}

static int put_streamed(struct session *s, struct fetch *f, const struct fetch_item *item, struct buffer *out,
                        struct error *e)
{
    int got;
    size_t before = out->size;
    uint64_t size = 0; /* of the text that is sent */

    if (f->mail == NULL || f->gone) {
        put_placeholder(out, item);
        f->issued = true;
        return 0;
    }
    if (item->kind == FETCH_BINARY_SIZE && item->header)
        got = put_section_size(s, f, item, out, e);
    else if (item->kind == FETCH_SECTION && item->section.depth == 0 &&
        (item->section.what == MIME_SECTION_FIELDS || item->section.what == MIME_SECTION_FIELDS_NOT))
        got = put_fields(f, item, out, &size, e);
    else if (item->kind == FETCH_SECTION)
        got = open_section(s, f, item, out, e);
    else if (item->kind == FETCH_BINARY || item->kind == FETCH_BINARY_SIZE)
        got = put_binary(f, item, out, &size, e);
    else
        got = put_text(f, item, out, e);
    if (got < 0 && e->class == ERROR_EXPUNGED) {
        out->size = before;
        f->gone = f->issued = true;
        put_placeholder(out, item);
        return 0;
    }
    if (got == 0 && (item->kind == FETCH_SECTION || item->kind == FETCH_BINARY)) {
        if (f->reader != NULL)
            size = mime_reader_size(f->reader);
        if (item->header && item->section.what != MIME_SECTION_MIME) {
            s->stats.hdr_count++;
            s->stats.hdr_bytes += size;
        } else {
            s->stats.body_count++;
            s->stats.body_bytes += size;
        }
    }
    return got;
}

/* ---- the walk -------------------------------------------------------------------------------------------------------- */

static void end_reader(struct fetch *f)
{
    mime_reader_free(f->reader);
    f->reader = NULL;
}

static void end_message(struct fetch *f)
{
    end_reader(f);
    if (f->mail != NULL)
        mail_close(&f->mail);
    f->writing = false;
    f->item = NULL;
}

/* A line that would be empty tells the UID. */
static void end_line(struct session *s, struct request *r, struct fetch *f)
{
    if (f->first && !s->uidonly)
        session_write(s, slice_from_str(arena_printf(r->arena, "UID %u", f->record.uid)));
    session_write(s, SLICE(")\r\n"));
}

/* Failure to read (imap 10.2). `imap_fetch_failure` says whether the session ends at once, behind the last message, or when a
 * message that had failed before is asked for again. STEP_DONE, or go on with the next message. */
static enum step fetch_failed(struct session *s, struct request *r, struct fetch *f, const struct error *e)
{
    const char *how = conf_str(s->set, SET_imap_fetch_failure);

    log_error_value(&s->log, e);
    end_line(s, r, f);
    f->failed = e->user[0] != '\0' ? arena_strdup(r->arena, e->user) : error_internal_text(r->arena);
    f->failed_why = arena_printf(r->arena, "FETCH failed: %s", e->admin);
    if (strcmp(how, "disconnect-immediately") == 0) {
        session_bye(s, arena_printf(r->arena, "FETCH failed: %s", f->failed), f->failed_why);
        return STEP_DONE;
    }
    if (strcmp(how, "disconnect-after") == 0 || session_fetch_failed(s, f->record.uid))
        f->failed_bye = true;
    end_message(f);
    return STEP_MORE;
}

/* The front of the line: "* n FETCH (" and the buffered items. -1: *e, the line ends before the item that failed. */
static int begin_message(struct session *s, struct request *r, struct fetch *f, struct error *e)
{
    struct buffer *line = &f->line;
    struct index_record *record = &f->record;
    bool newly_seen = f->sees && !record->expunged && (record->flags & INDEX_SEEN) == 0;
    size_t good;

    f->gone = record->expunged;
    f->writing = f->first = true;
    f->item = f->items;
    buffer_reset(line);
    put_fetch_front(s, line, f->seq, record->uid);
    if (f->needs_mail && !f->gone && mail_open(s->view, f->seq, &f->mail, e) < 0) {
        f->mail = NULL;
        if (broken(f, e) < 0) {
            session_write(s, buffer_slice(line));
            return -1;
        }
    }
    if (f->gone && f->needs_mail)
        f->issued = true;
    if (newly_seen) {
        record->flags |= INDEX_SEEN;
        index_ranges_add(&f->seen, record->uid, record->uid);
    }
    if ((f->flags || newly_seen) && HASH_COUNT(s->keywords) > s->keywords_told)
        session_tell_flags(s); /* names come before they are used */
    for (; f->item != NULL && f->item->kind < FETCH_FIRST_STREAMED; f->item = f->item->next) {
        good = line->size;
        if (!f->first)
            buffer_append_byte(line, ' ');
        if (put_buffered(s, r, f, f->item, line, e) < 0) {
            line->size = good;
            session_write(s, buffer_slice(line));
            return -1;
        }
        f->first = false;
    }
    if (newly_seen && !f->flags) {
        static const struct fetch_item flags = {.kind = FETCH_FLAGS, .label = "FLAGS"};

        if (!f->first)
            buffer_append_byte(line, ' ');
        put_buffered(s, r, f, &flags, line, e);
        f->first = false;
    }
    session_write(s, buffer_slice(line));
    return 0;
}

/* Writes on until the line is complete, the client has to read, or the slice is used up. */
static enum step write_message(struct session *s, struct request *r, struct fetch *f, struct budget *budget, struct error *e)
{
    unsigned char chunk[CHUNK], *room;

    for (;;) {
        struct buffer *out = &f->line;
        ssize_t n;
        int got;

        if (f->reader != NULL) {
            if (stream_full(s->io))
                return STEP_OUTPUT_FULL;
            room = session_room(s, CHUNK);
            n = mime_reader_read(f->reader, room != NULL ? room : chunk, CHUNK, e);
            if (n < 0) { /* the literal's size is out already: nothing else can be said */
                log_error_value(&s->log, e);
                session_bye(s, NULL, "FETCH failed: message ended early");
                return STEP_DONE;
            }
            if (n == 0)
                end_reader(f);
            else if (room != NULL)
                session_wrote(s, slice_of(room, (size_t)n));
            else
                session_write(s, slice_of(chunk, (size_t)n));
            if (budget_spent(budget, 1))
                return STEP_MORE;
            continue;
        }
        if (f->item == NULL)
            break;
        buffer_reset(out);
        if (!f->first)
            buffer_append_byte(out, ' ');
        got = put_streamed(s, f, f->item, out, e);
        if (got < 0)
            return fetch_failed(s, r, f, e);
        if (got == 0) {
            session_write(s, buffer_slice(out));
            f->first = false;
        }
        f->item = f->item->next;
    }
    end_line(s, r, f);
    end_message(f);
    return STEP_MORE;
}

static enum step finish(struct session *s, struct request *r, struct fetch *f, struct budget *budget, struct error *e)
{
    enum step step;

    if (!f->committed && f->seen.count > 0) {
        struct index_batch *batch = index_batch_new(r->arena, INDEX_INTERNAL);

        for (size_t i = 0; i < f->seen.count; i++)
            index_batch_flags(batch, f->seen.at[i].first, f->seen.at[i].last, INDEX_ADD, INDEX_SEEN);
        index_batch_by(batch, mailbox_view_index(s->view), true);
        r->op = mailbox_commit(s->view, batch, MAILBOX_RIGHT_SEEN, NULL);
    }
    f->committed = true;
    step = request_op(s, r, budget, e);
    if (step == STEP_ERROR && e->class == ERROR_PERMISSION)
        step = STEP_DONE;
    if (step != STEP_DONE)
        return step;
    index_cache_flush(mailbox_index(s->box));
    if (f->failed_bye) {
        session_bye(s, arena_printf(r->arena, "FETCH failed: %s", f->failed), f->failed_why);
        return STEP_DONE;
    }
    if (f->unknown_cte != NULL)
        request_reply(r, "NO [UNKNOWN-CTE] %s", f->unknown_cte);
    else if (f->parse_failed)
        request_reply(r, "NO [PARSE] Invalid data in MIME part.");
    else if (f->failed != NULL)
        request_reply(r, "NO [SERVERBUG] %s", f->failed);
    else if (f->issued)
        request_reply(r, "OK [EXPUNGEISSUED] Some messages were already expunged.");
    else
        request_reply(r, "OK %sFetch completed.", r->limited == NULL ? "" : r->limited);
    return STEP_DONE;
}

/* UID FETCH ... VANISHED: what of the set is gone since (RFC 7162 section 3.2.6). '*' is above all UIDs here, also above those that
 * are gone (measured): alone it names none of them. */
static void tell_vanished(struct session *s, struct request *r, struct fetch *f)
{
    struct index_ranges gone = {0}, told = {0};
    struct imap_set set;
    struct buffer out = {0};
    struct error e = {0};
    uint32_t next = index_view_next_uid(mailbox_view_index(s->view));

    f->vanished = false;
    if (imap_set_parse(r->arena, r->args->text, &set) < 0 || next == 1)
        return;
    if (index_vanished_since(mailbox_index(s->box), f->modseq, &gone, &e) < 0) {
        struct index_record record;

        for (uint32_t uid = 1; uid < next;) {
            uint32_t to = index_get_from(mailbox_index(s->box), uid, &record) && record.uid < next ? record.uid : next;

            if (to > uid)
                index_ranges_add(&gone, uid, to - 1);
            uid = to + 1;
        }
    }
    for (size_t i = 0; i < gone.count; i++) {
        for (size_t k = 0; k < set.count; k++) {
            uint32_t a = set.at[k].first == 0 ? UINT32_MAX : set.at[k].first;
            uint32_t b = set.at[k].last == 0 ? UINT32_MAX : set.at[k].last, first, last;

            if (a > b) {
                uint32_t t = a;
                a = b;
                b = t;
            }
            first = a > gone.at[i].first ? a : gone.at[i].first;
            last = b < gone.at[i].last ? b : gone.at[i].last;
            if (first <= last)
                index_ranges_add(&told, first, last);
        }
    }
    if (told.count > 0) {
        buffer_append_str(&out, "* VANISHED (EARLIER) ");
        imap_ranges_put(&out, &told);
        buffer_append_str(&out, "\r\n");
        session_write(s, buffer_slice(&out));
    }
    buffer_free(&out);
    index_ranges_free(&gone);
    index_ranges_free(&told);
}

enum step fetch_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct fetch *f = r->state;

    if (f->vanished)
        tell_vanished(s, r, f);
    while (!f->committed) {
        enum step step;

        if (f->writing) {
            step = write_message(s, r, f, budget, e);
            if (step != STEP_MORE || s->phase == PHASE_OVER)
                return step;
            if (f->writing)
                return STEP_MORE;
        }
        if (stream_full(s->io))
            return STEP_OUTPUT_FULL;
        f->seq = imap_ranges_next(&f->seqs, &f->at, f->seq);
        if (f->seq == 0)
            break;
        if (!index_view_get(mailbox_view_index(s->view), f->seq, &f->record) ||
            (f->changed_since && f->record.modseq <= f->modseq))
            continue;
        if (begin_message(s, r, f, e) < 0) {
            step = fetch_failed(s, r, f, e);
            if (step != STEP_MORE)
                return step;
        }
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    return finish(s, r, f, budget, e);
}

void fetch_end(struct session *s, struct request *r)
{
    struct fetch *f = r->state;

    (void)s;
    if (f == NULL)
        return;
    end_message(f);
    buffer_free(&f->decoded);
    buffer_free(&f->line);
    index_ranges_free(&f->seqs);
    index_ranges_free(&f->seen);
}

/* ---- without being asked for --------------------------------------------------------------------------------------------- */

struct request *fetch_news_begin(struct session *s, const struct fetch *plan, const struct index_ranges *seqs)
{
    static const struct command news = {.name = "FETCH", .end = fetch_end};
    struct arena *arena = worker_arena(s->worker);
    struct request *r = ARENA_NEW(arena, struct request);
    struct fetch *f = ARENA_NEW(arena, struct fetch);

    *f = *plan;
    f->seqs = *seqs;
    r->arena = arena;
    r->command = &news;
    r->state = f;
    return r;
}

enum step fetch_news_step(struct session *s, struct request **news, struct budget *budget, struct error *e)
{
    struct request *r = *news;
    enum step step = fetch_run(s, r, budget, e);

    if (step != STEP_DONE && step != STEP_ERROR)
        return step;
    fetch_news_end(s, news);
    return step;
}

void fetch_news_end(struct session *s, struct request **news)
{
    struct request *r = *news;

    *news = NULL;
    if (r == NULL)
        return;
    fetch_end(s, r);
    store_op_free(&r->op);
    worker_arena_back(s->worker, r->arena);
}
