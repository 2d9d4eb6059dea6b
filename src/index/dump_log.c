/* dump_log.c - a transaction log as text, in the words of the real doveadm, its omissions included: of a record with
 * several introductions or header parts only the first is shown. */
#include "index/dump.h"
#include "index/format.h"

#include <time.h>

static void put_hex(struct buffer *out, struct slice s)
{
    text_hex_encode(out, s);
}

/* Hexadecimal, and the number when it is one. */
static void put_data(struct buffer *out, struct slice s)
{
    put_hex(out, s);
    if (s.size == 4)
        buffer_printf(out, " (dec=%u)", bytes_le32(s.at));
}

static const char *type_name(uint32_t type)
{
    switch (type) {
    case LOG_EXPUNGE:
        return "expunge";
    case LOG_EXPUNGE_GUID:
        return "expunge-guid";
    case LOG_APPEND:
        return "append";
    case LOG_FLAGS:
        return "flag-update";
    case LOG_HEADER:
        return "header-update";
    case LOG_EXT_INTRO:
        return "ext-intro";
    case LOG_EXT_RESET:
        return "ext-reset";
    case LOG_EXT_HEADER:
        return "ext-hdr";
    case LOG_EXT_HEADER32:
        return "ext-hdr32";
    case LOG_EXT_RECORD:
        return "ext-rec";
    case LOG_EXT_INC:
        return "ext-atomic-inc";
    case LOG_KEYWORD:
        return "keyword-update";
    case LOG_KEYWORD_RESET:
        return "keyword-reset";
    case LOG_MODSEQ:
        return "modseq-update";
    case LOG_DELETED:
        return "index-deleted";
    case LOG_UNDELETED:
        return "index-undeleted";
    case LOG_BOUNDARY:
        return "boundary";
    case LOG_ATTRIBUTE:
        return "attribute-update";
    default:
        return NULL;
    }
}

/* Fields of the base header by name; size 0 ends the list. */
static const struct {
    uint16_t offset, size;
    const char *name;
} header_fields[] = {
    {0, 1, "major_version"},
    {1, 1, "minor_version"},
    {2, 2, "base_header_size"},
    {4, 4, "header_size"},
    {8, 4, "record_size"},
    {12, 1, "compat_flags"},
    {16, 4, "indexid"},
    {20, 4, "flags"},
    {24, 4, "uid_validity"},
    {28, 4, "next_uid"},
    {32, 4, "messages_count"},
    {36, 4, "unused_old_recent_messages_count"},
    {40, 4, "seen_messages_count"},
    {44, 4, "deleted_messages_count"},
    {48, 4, "first_recent_uid"},
    {52, 4, "first_unseen_uid_lowwater"},
    {56, 4, "first_deleted_uid_lowwater"},
    {60, 4, "log_file_seq"},
    {64, 4, "log_file_tail_offset"},
    {68, 4, "log_file_head_offset"},
    {84, 4, "day_stamp"},
    {0, 0, NULL},
};

static void put_header_update(struct buffer *out, struct slice body)
{
    struct log_header_part part;

    if (!format_header_next(&body, false, &part))
        return;
    while (part.bytes.size > 0) {
        unsigned f = 0;
        uint32_t value;

        while (header_fields[f].size > 0 &&
               (header_fields[f].offset != part.offset || header_fields[f].size > part.bytes.size))
            f++;
        if (header_fields[f].size == 0)
            break;
        value = header_fields[f].size == 4   ? bytes_le32(part.bytes.at)
                : header_fields[f].size == 2 ? bytes_le16(part.bytes.at)
                                             : part.bytes.at[0];
        buffer_printf(out, " - %s = %u\n", header_fields[f].name, value);
        part.offset += header_fields[f].size;
        part.bytes = slice_from(part.bytes, header_fields[f].size);
    }
    if (part.bytes.size == 0)
        return;
    buffer_printf(out, " - offset = %u, size = %zu: ", part.offset, part.bytes.size);
    put_data(out, part.bytes);
    buffer_append_byte(out, '\n');
}

static void put_intro(struct buffer *out, struct slice body, uint16_t *record_size)
{
    struct log_intro in;

    if (!format_intro_next(&body, &in))
        return;
    *record_size = in.record_size;
    buffer_printf(out, " - ext_id = %u\n - reset_id = %u\n - hdr_size = %u\n - record_size = %u\n - record_align = %u\n",
                  in.ext_id, in.reset_id, in.header_size, in.record_size, in.record_align);
    buffer_printf(out, " - flags = %u\n - name_size = %zu\n", in.flags, in.name.size);
    if (in.name.size > 0)
        buffer_printf(out, " - name = '%.*s'\n", (int)in.name.size, (const char *)in.name.at);
}

static void put_ext_header(struct buffer *out, struct slice body, bool wide)
{
    struct log_header_part part;

    if (!format_header_next(&body, wide, &part))
        return;
    buffer_printf(out, " - offset = %u, size = %zu: ", part.offset, part.bytes.size);
    put_data(out, part.bytes);
    buffer_append_byte(out, '\n');
}

static void put_ext_records(struct buffer *out, struct slice body, uint16_t record_size)
{
    size_t step = align4(4 + (uint32_t)record_size);

    for (size_t at = 0; at + step <= body.size; at += step) {
        buffer_printf(out, " - uid=%u: ", bytes_le32(body.at + at));
        put_data(out, slice_of(body.at + at + 4, record_size));
        buffer_append_byte(out, '\n');
    }
}

static void put_ranges(struct buffer *out, struct slice rest, const char *between)
{
    uint32_t first, last;

    while (format_range_next(&rest, &first, &last))
        buffer_printf(out, "%u-%u%s", first, last, between);
    buffer_append_byte(out, '\n');
}

static void put_flags(struct buffer *out, struct slice rest)
{
    struct log_flags f;

    for (struct slice next = rest; format_flags_next(&next, &f); rest = next)
        buffer_printf(out, " - uids=%u-%u (flags +%x-%x, modseq_inc_flag=%d)\n", f.first, f.last, f.add, f.remove,
                      rest.at[10]);
}

static void put_appends(struct buffer *out, struct slice body)
{
    buffer_append_str(out, " - uids=");
    for (size_t at = 0; at + 8 <= body.size; at += 8) {
        buffer_printf(out, "%u", bytes_le32(body.at + at));
        if (body.at[at + 4] != 0)
            buffer_printf(out, " (flags=%x)", body.at[at + 4]);
        buffer_append_byte(out, ',');
    }
    buffer_append_byte(out, '\n');
}

static void put_keyword(struct buffer *out, struct slice body)
{
    struct log_keyword k;

    format_keyword_get(body, &k);
    buffer_printf(out, " - modify=%d, name=%.*s, uids=", k.modify, (int)k.name.size, (const char *)k.name.at);
    put_ranges(out, k.ranges, ",");
}

static void put_time(struct buffer *out, uint32_t stamp)
{
    time_t t = stamp;
    struct tm tm;
    char text[40];

    localtime_r(&t, &tm);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    buffer_append_str(out, text);
}

/* Names first, then the numbers of all. */
static void put_attributes(struct buffer *out, struct slice body)
{
    size_t end = 0, at;

    while (end < body.size && body.at[end] != 0)
        end += strnlen((const char *)body.at + end, body.size - end) + 1;
    if (end % 4 == 0) { /* what the real one makes of a list whose last NUL begins a word */
        buffer_append_str(out, " - broken entry\n");
        return;
    }
    at = (end + 1 + 3) & ~(size_t)3;
    for (size_t name = 0; name < end;) {
        const char *text = (const char *)body.at + name;

        buffer_printf(out, " - %s: %s/%s : timestamp=", text[0] == '+' ? "add" : "remove",
                      text[1] == 'p' ? "private" : "shared", text + 2);
        put_time(out, bytes_le32(body.at + at));
        at += 4;
        if (text[0] == '+') {
            buffer_printf(out, " value_len=%u", bytes_le32(body.at + at));
            at += 4;
        }
        buffer_append_byte(out, '\n');
        name += strlen(text) + 1;
    }
}

static void put_guids(struct buffer *out, struct slice body)
{
    for (size_t at = 0; at + 20 <= body.size; at += 20) {
        buffer_printf(out, " - uid=%u (guid ", bytes_le32(body.at + at));
        put_hex(out, slice_of(body.at + at + 4, 16));
        buffer_append_str(out, ")\n");
    }
}

static void put_numbers(struct buffer *out, const struct log_record *r)
{
    struct slice s = r->body;

    for (size_t at = 0; r->type == LOG_EXT_INC && at + 8 <= s.size; at += 8)
        buffer_printf(out, " - uid=%u: %+d\n", bytes_le32(s.at + at), (int32_t)bytes_le32(s.at + at + 4));
    for (size_t at = 0; r->type == LOG_MODSEQ && at + 12 <= s.size; at += 12)
        buffer_printf(out, " - uid=%u modseq=%llu\n", bytes_le32(s.at + at),
                      (unsigned long long)bytes_le64(s.at + at + 4));
}

static void put_body(struct buffer *out, const struct log_record *r, uint16_t *record_size)
{
    switch (r->type) {
    case LOG_EXPUNGE:
        buffer_append_str(out, " - uids=");
        put_ranges(out, r->body, ",");
        break;
    case LOG_KEYWORD_RESET:
        buffer_append_str(out, " - uids=");
        put_ranges(out, r->body, ", ");
        break;
    case LOG_EXPUNGE_GUID:
        put_guids(out, r->body);
        break;
    case LOG_APPEND:
        put_appends(out, r->body);
        break;
    case LOG_FLAGS:
        put_flags(out, r->body);
        break;
    case LOG_HEADER:
        put_header_update(out, r->body);
        break;
    case LOG_EXT_INTRO:
        put_intro(out, r->body, record_size);
        break;
    case LOG_EXT_RESET:
        buffer_printf(out, " - new_reset_id = %u\n - preserve_data = %u\n", bytes_le32(r->body.at),
                      r->body.size > 4 ? r->body.at[4] : 0);
        break;
    case LOG_EXT_HEADER:
    case LOG_EXT_HEADER32:
        put_ext_header(out, r->body, r->type == LOG_EXT_HEADER32);
        break;
    case LOG_EXT_RECORD:
        put_ext_records(out, r->body, *record_size);
        break;
    case LOG_EXT_INC:
    case LOG_MODSEQ:
        put_numbers(out, r);
        break;
    case LOG_KEYWORD:
        put_keyword(out, r->body);
        break;
    case LOG_BOUNDARY:
        buffer_printf(out, " - size=%u\n", bytes_le32(r->body.at));
        break;
    case LOG_ATTRIBUTE:
        put_attributes(out, r->body);
        break;
    default:
        break;
    }
}

static void put_record_head(struct buffer *out, const struct log_record *r)
{
    const char *name = type_name(r->type);

    buffer_printf(out, "record: offset=%llu, type=", (unsigned long long)r->offset);
    if (name != NULL)
        buffer_append_str(out, name);
    else
        buffer_printf(out, "unknown: %x", r->type | (r->external ? (uint32_t)LOG_EXTERNAL : 0));
    buffer_printf(out, "%s%s, size=%u", r->external ? " (ext)" : "", r->sync ? " (sync)" : "", r->size);
}

/* Why the walk ended before the end of the file, in the words of the real one. */
static int tell_end(struct slice file, const struct log_walk *w, struct buffer *out, struct error *e)
{
    size_t left = file.size - w->at;
    uint32_t size = left >= 8 ? format_offset_get(file.at + w->at) : 0;

    if (left < 8 || size == 0)
        return 0;
    if (size > left) {
        struct log_record r = {.offset = w->at, .size = size,
                               .type = bytes_le32(file.at + w->at + 4) & LOG_TYPE_MASK,
                               .external = (bytes_le32(file.at + w->at + 4) & LOG_EXTERNAL) != 0,
                               .sync = (bytes_le32(file.at + w->at + 4) & LOG_SYNC) != 0};

        put_record_head(out, &r);
        return error_set(e, ERROR_CORRUPT, "rec data read() %zu != %u", left - 8, size - 8);
    }
    return w->why[0] != '\0' ? error_set(e, ERROR_CORRUPT, "%s", w->why) : 0;
}

int index_dump_log(struct slice file, struct buffer *out, struct error *e)
{
    struct log_walk walk = {.bytes = file};
    uint16_t record_size = 0;
    struct log_header h;
    struct log_record r;
    uint64_t modseq;

    if (file.size < LOG_HEADER_SIZE)
        return error_set(e, ERROR_CORRUPT, "file hdr read() %zu != %d", file.size, LOG_HEADER_SIZE);
    h = (struct log_header){.major = file.at[0], .minor = file.at[1], .header_size = bytes_le16(file.at + 2),
                            .indexid = bytes_le32(file.at + 4), .file_seq = bytes_le32(file.at + 8),
                            .prev_file_seq = bytes_le32(file.at + 12), .prev_file_offset = bytes_le32(file.at + 16),
                            .create_stamp = bytes_le32(file.at + 20), .initial_modseq = bytes_le64(file.at + 24),
                            .compat = file.at[32]};
    buffer_printf(out, "version = %u.%u\nhdr size = %u\nindex id = %u\nfile seq = %u\nprev file = %u/%u\n", h.major,
                  h.minor, h.header_size, h.indexid, h.file_seq, h.prev_file_seq, h.prev_file_offset);
    buffer_printf(out, "create stamp = %u\ninitial modseq = %llu\ncompat flags = %x\n", h.create_stamp,
                  (unsigned long long)h.initial_modseq, h.compat);
    if (h.header_size > file.size)
        return 0;
    modseq = h.initial_modseq;
    walk.at = h.header_size;
    walk.raw_boundaries = true;
    while (format_log_next(&walk, &r) == LOG_SCAN_RECORD) {
        uint64_t after = format_modseq_after(&r, modseq, h.minor);

        put_record_head(out, &r);
        if (after != modseq)
            buffer_printf(out, ", modseq=%llu", (unsigned long long)after);
        buffer_append_byte(out, '\n');
        modseq = after;
        put_body(out, &r, &record_size);
    }
    return tell_end(file, &walk, out, e);
}
