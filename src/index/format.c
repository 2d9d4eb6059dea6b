/* format.c - decoding and checking log records: pure functions over bytes (index-format 3, 4, 5, 7.5).
 *
 * What may go wrong: everything in a log comes from other processes or from a damaged disk. A record that does not
 * pass format_log_next is never looked at again, and the texts are those that Dovecot logs (index-format 12.2). */
#include "index/format.h"
#include "index/index.h"

#include <stdio.h>

void format_offset_put(unsigned char out[4], uint32_t n)
{
    n >>= 2;
    out[0] = (unsigned char)(0x80 | (n >> 21 & 0x7f));
    out[1] = (unsigned char)(0x80 | (n >> 14 & 0x7f));
    out[2] = (unsigned char)(0x80 | (n >> 7 & 0x7f));
    out[3] = (unsigned char)(0x80 | (n & 0x7f));
}

uint32_t format_offset_get(const unsigned char at[4])
{
    if ((at[0] & at[1] & at[2] & at[3] & 0x80) == 0)
        return 0;
    return ((uint32_t)(at[0] & 0x7f) << 21 | (uint32_t)(at[1] & 0x7f) << 14 | (uint32_t)(at[2] & 0x7f) << 7 |
            (uint32_t)(at[3] & 0x7f)) << 2;
}

const char *format_log_header_get(struct slice file, struct log_header *h)
{
    unsigned char bytes[LOG_HEADER_SIZE] = {0};
    size_t size;

    if (file.size == 0)
        return "";
    if (file.at[0] != LOG_MAJOR)
        return "";
    if (file.size < LOG_HEADER_MIN)
        return "unexpected end of file while reading header";
    h->header_size = bytes_le16(file.at + 2);
    if (h->header_size < LOG_HEADER_MIN)
        return "Header size too small";
    size = h->header_size < LOG_HEADER_SIZE ? h->header_size : LOG_HEADER_SIZE;
    if (file.size < h->header_size)
        return "unexpected end of file while reading header";
    memcpy(bytes, file.at, size);
    h->major = bytes[0];
    h->minor = bytes[1];
    h->indexid = bytes_le32(bytes + 4);
    h->file_seq = bytes_le32(bytes + 8);
    h->prev_file_seq = bytes_le32(bytes + 12);
    h->prev_file_offset = bytes_le32(bytes + 16);
    h->create_stamp = bytes_le32(bytes + 20);
    h->initial_modseq = bytes_le64(bytes + 24);
    h->compat = bytes[32];
    if (h->minor >= 2 && h->compat != BASE_COMPAT_LE)
        return ""; /* of another CPU; nothing is logged, as of another version */
    return NULL;
}

void format_log_header_put(unsigned char out[LOG_HEADER_SIZE], const struct log_header *h)
{
    memset(out, 0, LOG_HEADER_SIZE);
    out[0] = LOG_MAJOR;
    out[1] = LOG_MINOR;
    bytes_put_le16(out + 2, LOG_HEADER_SIZE);
    bytes_put_le32(out + 4, h->indexid);
    bytes_put_le32(out + 8, h->file_seq);
    bytes_put_le32(out + 12, h->prev_file_seq);
    bytes_put_le32(out + 16, h->prev_file_offset);
    bytes_put_le32(out + 20, h->create_stamp);
    bytes_put_le64(out + 24, h->initial_modseq);
    out[32] = BASE_COMPAT_LE;
}

#define BROKEN(w, ...) (snprintf((w)->why, sizeof((w)->why), __VA_ARGS__), false)

/* Ranges are `step` bytes apart, each beginning with uid1 and uid2; ascending, not overlapping. */
static bool check_ranges(struct log_walk *w, uint32_t type, struct slice s, size_t step)
{
    uint32_t prev = 0;

    if (s.size == 0)
        return BROKEN(w, "No UID ranges (type=0x%x)", type);
    if (s.size % step != 0)
        return BROKEN(w, "Invalid record size (type=0x%x)", type);
    for (size_t at = 0; at < s.size; at += step) {
        uint32_t first = bytes_le32(s.at + at), last = bytes_le32(s.at + at + 4);

        if (first == 0 || first > last)
            return BROKEN(w, "Invalid UID range (%u .. %u, type=0x%x)", first, last, type);
        if (first <= prev)
            return BROKEN(w, "Non-sorted UID ranges (type=0x%x)", type);
        prev = last;
    }
    return true;
}

static bool check_keyword(struct log_walk *w, struct slice s)
{
    uint32_t name_size, from;

    if (s.size < 4)
        return BROKEN(w, "Invalid keyword update record size");
    name_size = bytes_le16(s.at + 2);
    if (name_size == 0)
        return BROKEN(w, "Trying to use empty keyword");
    from = align4(4 + name_size);
    if (from >= s.size)
        return BROKEN(w, "Invalid keyword update record size");
    return check_ranges(w, LOG_KEYWORD, slice_from(s, from), 8);
}

static bool check_header_parts(struct log_walk *w, uint32_t type, struct slice s, bool wide)
{
    struct log_header_part part;

    while (s.size > 0) {
        if (!format_header_next(&s, wide, &part))
            return BROKEN(w, "Invalid record size (type=0x%x)", type);
    }
    return true;
}

static bool check_intros(struct log_walk *w, struct slice s)
{
    while (s.size > 0) {
        uint32_t size;

        if (s.size < LOG_INTRO_SIZE)
            return BROKEN(w, "Invalid record size (type=0x%x)", LOG_EXT_INTRO);
        size = align4(LOG_INTRO_SIZE + (uint32_t)bytes_le16(s.at + 18));
        if (LOG_INTRO_SIZE + (size_t)bytes_le16(s.at + 18) > s.size)
            return BROKEN(w, "ext intro: name_size too large");
        s = slice_from(s, size);
    }
    return true;
}

static bool check_attributes(struct log_walk *w, struct slice s)
{
    size_t at = 0, want = 0, end;

    while (at < s.size && s.at[at] != 0) {
        const unsigned char *nul;

        if (s.at[at] != '+' && s.at[at] != '-')
            return BROKEN(w, "attribute update: Invalid prefix 0x%02x", s.at[at]);
        want += s.at[at] == '+' ? 8 : 4;
        if (++at >= s.size)
            return BROKEN(w, "attribute update doesn't end with NUL");
        if (s.at[at] != 'p' && s.at[at] != 's')
            return BROKEN(w, "attribute update: Invalid type 0x%02x", s.at[at]);
        if (++at >= s.size || s.at[at] == 0)
            return BROKEN(w, "attribute update: Empty key");
        nul = memchr(s.at + at, 0, s.size - at);
        if (nul == NULL)
            return BROKEN(w, "attribute update doesn't end with NUL");
        at = (size_t)(nul - s.at) + 1;
    }
    if (at >= s.size)
        return BROKEN(w, "attribute update doesn't end with NUL");
    end = (at + 1 + 3) & ~(size_t)3;
    if (end > s.size || s.size - end != want)
        return BROKEN(w, "Invalid record size (type=0x%x)", LOG_ATTRIBUTE);
    return true;
}

static bool check_expunge_guids(struct log_walk *w, struct slice s)
{
    if (s.size % 20 != 0)
        return BROKEN(w, "Invalid expunge guid record size");
    for (size_t at = 0; at < s.size; at += 20) {
        if (bytes_le32(s.at + at) == 0)
            return BROKEN(w, "Expunge guid record with uid=0");
    }
    return true;
}

static bool check_body(struct log_walk *w, const struct log_record *r)
{
    struct slice s = r->body;
    uint32_t type = r->type;

    if (((type & 0x0001) != 0 && type != LOG_EXPUNGE) || ((type & 0x2000) != 0 && type != LOG_EXPUNGE_GUID))
        return BROKEN(w, "expunge %srecord missing protection mask", (type & 0x2000) != 0 ? "guid " : "");
    if (s.size == 0)
        return BROKEN(w, "Empty record contents (type=0x%x)", type);
    switch (type) {
    case LOG_APPEND:
        return s.size % 8 == 0 || BROKEN(w, "Invalid append record size");
    case LOG_EXPUNGE:
    case LOG_KEYWORD_RESET:
        return check_ranges(w, type, s, 8);
    case LOG_EXPUNGE_GUID:
        return check_expunge_guids(w, s);
    case LOG_FLAGS:
        return check_ranges(w, type, s, 12);
    case LOG_KEYWORD:
        return check_keyword(w, s);
    case LOG_HEADER:
    case LOG_EXT_HEADER:
        return check_header_parts(w, type, s, false);
    case LOG_EXT_HEADER32:
        return check_header_parts(w, type, s, true);
    case LOG_EXT_INTRO:
        return check_intros(w, s);
    case LOG_EXT_RESET:
        return s.size >= 4 || BROKEN(w, "Invalid record size (type=0x%x)", type);
    case LOG_EXT_INC:
        return s.size % 8 == 0 || BROKEN(w, "Invalid record size (type=0x%x)", type);
    case LOG_MODSEQ:
        return s.size % 12 == 0 || BROKEN(w, "Invalid record size (type=0x%x)", type);
    case LOG_ATTRIBUTE:
        return check_attributes(w, s);
    case LOG_BOUNDARY:
        return s.size >= 4 || BROKEN(w, "Invalid record size (type=0x%x)", type);
    default:
        return true; /* what is unknown is the state's to report: it does not make the log unreadable */
    }
}

/* One record, whatever it is. */
static enum log_scan next_record(struct log_walk *w, struct log_record *r)
{
    size_t left = w->bytes.size - w->at;
    const unsigned char *p = w->bytes.at + w->at;
    uint32_t size, type;

    if (left < 8)
        return LOG_SCAN_END;
    size = format_offset_get(p);
    if (size == 0)
        return LOG_SCAN_END;
    if (size < 8) {
        snprintf(w->why, sizeof(w->why), "hdr.size too small (%u)", size);
        w->told = w->base + w->at;
        return LOG_SCAN_BROKEN;
    }
    if (size > left)
        return LOG_SCAN_END;
    type = bytes_le32(p + 4);
    *r = (struct log_record){
        .offset = w->base + w->at,
        .size = size,
        .type = type & LOG_TYPE_MASK,
        .external = (type & LOG_EXTERNAL) != 0,
        .sync = (type & LOG_SYNC) != 0,
        .body = slice_of(p + 8, size - 8),
    };
    if (!check_body(w, r)) {
        w->told = r->offset + size;
        return LOG_SCAN_BROKEN;
    }
    w->at += size;
    return LOG_SCAN_RECORD;
}

/* All of the transaction is in the file: its records must be valid and fill it exactly. Looked at before the first of
 * them is shown, since a transaction counts as a whole or not at all. */
static bool check_transaction(struct log_walk *w, size_t start, uint32_t size)
{
    struct log_walk inner = {.bytes = slice_head(w->bytes, start + size), .base = w->base, .at = start};
    struct log_record r;
    enum log_scan scan;

    while ((scan = next_record(&inner, &r)) == LOG_SCAN_RECORD)
        ;
    if (scan == LOG_SCAN_BROKEN) {
        memcpy(w->why, inner.why, sizeof(w->why));
        w->told = inner.told;
        return false;
    }
    w->told = w->base + inner.at;
    return inner.at == start + size || BROKEN(w, "Transaction does not fill its boundary");
}

enum log_scan format_log_next(struct log_walk *w, struct log_record *r)
{
    size_t start = w->at;
    enum log_scan scan = next_record(w, r);

    if (scan != LOG_SCAN_RECORD || r->type != LOG_BOUNDARY || w->raw_boundaries)
        return scan;
    if (bytes_le32(r->body.at) > w->bytes.size - start) {
        w->at = start;
        return LOG_SCAN_END; /* all of the transaction or nothing of it */
    }
    if (!check_transaction(w, start, bytes_le32(r->body.at))) {
        w->at = start;
        return LOG_SCAN_BROKEN;
    }
    return LOG_SCAN_RECORD;
}

bool format_log_goes_on(struct slice tail)
{
    uint32_t first = tail.size >= 8 ? format_offset_get(tail.at) : 0;
    uint64_t budget = 16 * (uint64_t)tail.size; /* bytes of records looked at: linear, whatever is there */
    struct log_record r;

    /* a boundary that announces more than there is: what follows belongs to it */
    if (first == LOG_BOUNDARY_SIZE && (bytes_le32(tail.at + 4) & LOG_TYPE_MASK) == LOG_BOUNDARY)
        return false;
    for (size_t at = 4; at + 8 <= tail.size; at += 4) {
        struct log_walk walk = {.bytes = tail, .at = at};
        unsigned records = 0;

        while (format_log_next(&walk, &r) == LOG_SCAN_RECORD) {
            records++;
            if (budget < r.size)
                return false;
            budget -= r.size;
        }
        if (records >= 2 && walk.at == tail.size)
            return true;
    }
    return false;
}

bool format_flags_next(struct slice *rest, struct log_flags *f)
{
    if (rest->size < 12)
        return false;
    f->first = bytes_le32(rest->at);
    f->last = bytes_le32(rest->at + 4);
    f->add = rest->at[8];
    f->remove = rest->at[9];
    f->modseq_inc = rest->at[10] != 0;
    *rest = slice_from(*rest, 12);
    return true;
}

bool format_flags_internal(const struct log_flags *f)
{
    return ((f->add | f->remove) & 0x1f) == 0 && !f->modseq_inc;
}

bool format_range_next(struct slice *rest, uint32_t *first, uint32_t *last)
{
    if (rest->size < 8)
        return false;
    *first = bytes_le32(rest->at);
    *last = bytes_le32(rest->at + 4);
    *rest = slice_from(*rest, 8);
    return true;
}

void format_keyword_get(struct slice body, struct log_keyword *k)
{
    uint32_t name_size = bytes_le16(body.at + 2);

    k->modify = body.at[0];
    k->name = slice_of(body.at + 4, name_size);
    k->ranges = slice_from(body, align4(4 + name_size));
}

bool format_header_next(struct slice *rest, bool wide, struct log_header_part *part)
{
    size_t head = wide ? 8 : 4, size, step;

    if (rest->size < head)
        return false;
    part->offset = wide ? bytes_le32(rest->at) : bytes_le16(rest->at);
    size = wide ? bytes_le32(rest->at + 4) : bytes_le16(rest->at + 2);
    if (size > rest->size - head)
        return false;
    part->bytes = slice_of(rest->at + head, size);
    step = (head + size + 3) & ~(size_t)3;
    *rest = slice_from(*rest, step);
    return true;
}

bool format_intro_next(struct slice *rest, struct log_intro *i)
{
    size_t name_size;

    if (rest->size < LOG_INTRO_SIZE)
        return false;
    i->ext_id = bytes_le32(rest->at);
    i->reset_id = bytes_le32(rest->at + 4);
    i->header_size = bytes_le32(rest->at + 8);
    i->record_size = bytes_le16(rest->at + 12);
    i->record_align = bytes_le16(rest->at + 14);
    i->flags = bytes_le16(rest->at + 16);
    name_size = bytes_le16(rest->at + 18);
    if (name_size > rest->size - LOG_INTRO_SIZE)
        return false;
    i->name = slice_of(rest->at + LOG_INTRO_SIZE, name_size);
    *rest = slice_from(*rest, align4((uint32_t)(LOG_INTRO_SIZE + name_size)));
    return true;
}

static bool flags_count(struct slice body)
{
    struct log_flags f;

    while (format_flags_next(&body, &f)) {
        if (!format_flags_internal(&f))
            return true;
    }
    return false;
}

static uint64_t modseq_raised(struct slice body, uint64_t modseq)
{
    for (size_t at = 0; at + 12 <= body.size; at += 12) {
        uint64_t value = (uint64_t)bytes_le32(body.at + at + 4) | (uint64_t)bytes_le32(body.at + at + 8) << 32;

        if (value > modseq)
            modseq = value;
    }
    return modseq;
}

static bool intro_of_modseq(struct slice body)
{
    struct log_intro intro;

    while (format_intro_next(&body, &intro)) {
        if (slice_equal_str(intro.name, "modseq"))
            return true;
    }
    return false;
}

uint64_t format_modseq_after(const struct log_record *r, uint64_t modseq, uint8_t minor)
{
    if (modseq == 0) /* a log of an old version: counting starts when the extension is introduced */
        return r->type == LOG_EXT_INTRO && intro_of_modseq(r->body) ? 1 : 0;
    switch (r->type) {
    case LOG_EXPUNGE:
    case LOG_EXPUNGE_GUID:
        return r->external ? modseq + 1 : modseq;
    case LOG_APPEND:
    case LOG_KEYWORD:
    case LOG_KEYWORD_RESET:
    case LOG_ATTRIBUTE:
        return modseq + 1;
    case LOG_FLAGS:
        return minor < 3 || flags_count(r->body) ? modseq + 1 : modseq;
    case LOG_MODSEQ:
        return modseq_raised(r->body, modseq);
    default:
        return modseq;
    }
}

bool format_tail_after(const struct log_record *r, uint64_t *last, uint64_t *tail, uint32_t *bad)
{
    uint64_t end = r->offset + r->size;

    if (!r->external)
        return true;
    if (r->type == LOG_HEADER) {
        struct slice rest = r->body;
        struct log_header_part part;

        if (format_header_next(&rest, false, &part) && part.offset <= BASE_AT_LOG_TAIL &&
            part.offset + part.bytes.size >= BASE_AT_LOG_TAIL + 4) {
            uint32_t value = bytes_le32(part.bytes.at + (BASE_AT_LOG_TAIL - part.offset));

            if (value < *last)
                return true;
            if (value > end) {
                *bad = value;
                return false;
            }
            *last = value;
            if (value > *tail)
                *tail = value;
            return true;
        }
    }
    if (*tail == r->offset)
        *tail = end;
    return true;
}

const char *format_ext_problem(struct slice name, uint32_t header_size, uint16_t record_size, uint16_t record_align)
{
    if (header_size == 0 && record_size == 0)
        return "Invalid field values";
    if (name.size == 0 || name.size > EXT_NAME_MAX)
        return "Invalid name";
    for (size_t i = 0; i < name.size; i++) {
        unsigned char c = name.at[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
              c == ' '))
            return "Invalid name";
    }
    if (record_size > 0 && record_align == 0)
        return "Record field alignment is zero";
    if (record_align > 8) /* kept without record data, but it would raise the alignment of all records (2.3) */
        return "Record alignment is too large";
    if (record_size >= 32768)
        return "Record size is too large";
    if (header_size > EXT_HEADER_MAX)
        return "Invalid field values";
    return NULL;
}

static const struct {
    const char *name;
    uint8_t bit;
} client_flags[] = {{"\\Answered", INDEX_ANSWERED}, {"\\Flagged", INDEX_FLAGGED}, {"\\Deleted", INDEX_DELETED},
                    {"\\Seen", INDEX_SEEN}, {"\\Draft", INDEX_DRAFT}};

void index_flags_put(struct buffer *out, uint8_t flags, bool recent)
{
    const char *space = "";

    for (size_t i = 0; i < sizeof(client_flags) / sizeof(client_flags[0]); i++) {
        if ((flags & client_flags[i].bit) == 0)
            continue;
        buffer_append_str(out, space);
        buffer_append_str(out, client_flags[i].name);
        space = " ";
    }
    if (recent) {
        buffer_append_str(out, space);
        buffer_append_str(out, "\\Recent");
    }
}

const char *index_flag_name(uint8_t bit)
{
    for (size_t i = 0; i < sizeof(client_flags) / sizeof(client_flags[0]); i++)
        if (client_flags[i].bit == bit)
            return client_flags[i].name;
    return NULL;
}

bool index_flag_find(struct slice name, uint8_t *bit)
{
    for (size_t i = 0; i < sizeof(client_flags) / sizeof(client_flags[0]); i++) {
        if (slice_equal_str_nocase(name, client_flags[i].name)) {
            *bit = client_flags[i].bit;
            return true;
        }
    }
    return false;
}
