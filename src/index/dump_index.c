/* dump_index.c - an index and its cache as text, in the words of the real doveadm.
 *
 * Extensions are numbered in the records as the real one registers them: keywords and modseq first, then the others
 * in the order of the file. */
#include "index/cache.h"
#include "index/dump.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void put_time(struct buffer *out, const char *format, uint32_t stamp)
{
    time_t t = stamp;
    struct tm tm;
    char text[40];

    localtime_r(&t, &tm);
    strftime(text, sizeof(text), format, &tm);
    buffer_append_str(out, text);
}

static void put_stamp(struct buffer *out, uint32_t stamp)
{
    put_time(out, "%Y-%m-%d %H:%M:%S", stamp);
}

static void put_hex(struct buffer *out, struct slice s)
{
    text_hex_encode(out, s);
}

/* ---- base header -------------------------------------------------------------------------------------------------- */

static const struct {
    const char *label;
    uint16_t at;
    bool stamp;
} header_lines[] = {
    {"index id ................. = ", BASE_AT_INDEXID, true},
    {"flags .................... = ", BASE_AT_FLAGS, false},
    {"uid validity ............. = ", BASE_AT_UID_VALIDITY, true},
    {"next uid ................. = ", BASE_AT_NEXT_UID, false},
    {"messages count ........... = ", BASE_AT_MESSAGES, false},
    {"seen messages count ...... = ", BASE_AT_SEEN, false},
    {"deleted messages count ... = ", BASE_AT_DELETED, false},
    {"first recent uid ......... = ", BASE_AT_FIRST_RECENT, false},
    {"first unseen uid lowwater  = ", BASE_AT_UNSEEN_LOWWATER, false},
    {"first deleted uid lowwater = ", BASE_AT_DELETED_LOWWATER, false},
    {"log file seq ............. = ", BASE_AT_LOG_SEQ, false},
    {"log file tail offset ..... = ", BASE_AT_LOG_TAIL, false},
    {"log file head offset ..... = ", BASE_AT_LOG_HEAD, false},
    {"log2 rotate time ......... = ", BASE_AT_LOG2_TIME, true},
    {"last temp file scan ...... = ", 80, true},
    {"day stamp ................ = ", BASE_AT_DAY_STAMP, true},
};

static void put_header(struct index *index, const char *path, struct buffer *out)
{
    struct state *s = &index->state;

    /* the real one shows nothing before the first tail record */
    state_put(s, BASE_AT_LOG_TAIL, index->log.tail_last == 0 ? 0 : (uint32_t)index->log.tail);
    index_store_modseq(index);
    buffer_printf(out, "-- INDEX: %s\nversion .................. = %u.%u\n", path, s->base[0], s->base[1]);
    buffer_printf(out, "base header size ......... = %u\nheader size .............. = %u\n", s->base_size,
                  state_get(s, BASE_AT_HEADER_SIZE));
    buffer_printf(out, "record size .............. = %u\ncompat flags ............. = %u\n", s->stride,
                  s->base[BASE_AT_COMPAT]);
    for (size_t i = 0; i < sizeof(header_lines) / sizeof(header_lines[0]); i++) {
        uint32_t value = state_get(s, header_lines[i].at);

        buffer_printf(out, "%s%u", header_lines[i].label, value);
        if (header_lines[i].stamp) {
            buffer_append_str(out, " (");
            put_stamp(out, value);
            buffer_append_byte(out, ')');
        }
        buffer_append_byte(out, '\n');
    }
    for (unsigned i = 0; i < BASE_DAYS; i++)
        buffer_printf(out, "day first uid[%u] ......... = %u\n", i, state_get(s, BASE_AT_DAY_FIRST + 4 * i));
}

/* ---- extensions --------------------------------------------------------------------------------------------------- */

enum field_kind { U32, U64, STAMP, GUID, HEX };

struct field {
    uint16_t at;
    enum field_kind kind;
    const char *label;
};

static void put_field(struct buffer *out, const struct field *f, struct slice s)
{
    size_t size = f->kind == U64 ? 8 : f->kind == GUID ? 16 : 4;

    if (s.size < f->at + size)
        return;
    s = slice_of(s.at + f->at, size);
    buffer_append_str(out, f->label);
    switch (f->kind) {
    case U32:
        buffer_printf(out, "%u", bytes_le32(s.at));
        break;
    case U64:
        buffer_printf(out, "%llu", (unsigned long long)bytes_le64(s.at));
        break;
    case STAMP:
        put_stamp(out, bytes_le32(s.at));
        break;
    case GUID:
        put_hex(out, s);
        break;
    case HEX:
        buffer_printf(out, "0x%x", bytes_le32(s.at));
        break;
    }
    buffer_append_byte(out, '\n');
}

static const struct header_format {
    const char *name;
    struct field fields[9];
} header_formats[] = {
    {"modseq", {{0, U64, " - highest_modseq = "}, {8, U32, " - log_seq ...... = "}, {12, U32, " - log_offset ... = "}}},
    {"dbox-hdr",
     {{0, U32, " - rebuild_count . = "}, {4, GUID, " - mailbox_guid .. = "}, {20, HEX, " - flags ......... = "}}},
    {"mdbox-hdr",
     {{0, U32, " - map_uid_validity .. = "}, {4, GUID, " - mailbox_guid ...... = "},
      {20, HEX, " - flags ............. = "}}},
    {"hdr-pop3-uidl", {{0, U32, " - max_uid_with_pop3_uidl = "}}},
    {"hdr-vsize",
     {{8, U32, " - highest uid . = "}, {12, U32, " - message count = "}, {0, U64, " - vsize ....... = "}}},
    {"maildir",
     {{0, STAMP, " - new_check_time .... = "}, {4, STAMP, " - new_mtime ......... = "},
      {8, U32, " - new_mtime_nsecs ... = "}, {12, STAMP, " - cur_check_time .... = "},
      {16, STAMP, " - cur_mtime ......... = "}, {20, U32, " - cur_mtime_nsecs.... = "},
      {24, STAMP, " - uidlist_mtime ..... = "}, {28, U32, " - uidlist_mtime_nsecs = "},
      {32, U32, " - uidlist_size ...... = "}}},
};

/* The names of the mailbox list (index-format 11.1). */
static void put_list_names(struct buffer *out, struct slice h)
{
    size_t at = 1;

    if (h.size == 0)
        return;
    buffer_printf(out, " - refresh_flag = %u\n", h.at[0]);
    while (at + 4 < h.size && bytes_le32(h.at + at) != 0) {
        struct slice rest = slice_from(h, at + 4);
        ptrdiff_t end = slice_find(rest, 0);

        if (end < 0)
            return;
        buffer_printf(out, " - %u : %.*s\n", bytes_le32(h.at + at), (int)end, (const char *)rest.at);
        at += 4 + (size_t)end + 1;
    }
}

static void put_ext_header(struct buffer *out, const char *name, struct slice h)
{
    if (h.size == 0 || strcmp(name, "keywords") == 0)
        return;
    for (size_t i = 0; i < sizeof(header_formats) / sizeof(header_formats[0]); i++) {
        if (strcmp(header_formats[i].name, name) != 0)
            continue;
        buffer_append_str(out, "header\n");
        for (size_t f = 0; f < 9 && header_formats[i].fields[f].label != NULL; f++)
            put_field(out, &header_formats[i].fields[f], h);
        return;
    }
    buffer_append_str(out, "header ........ = ");
    put_hex(out, h);
    buffer_append_byte(out, '\n');
    if (strcmp(name, "list") == 0)
        put_list_names(out, h);
}

static void put_exts(struct index *index, struct buffer *out)
{
    struct index_ext_info x;

    for (unsigned i = 0; index_ext_at(index, i, &x); i++) {
        buffer_printf(out, "-- Extension %u --\nname ........ = %s\nhdr_size .... = %u\nreset_id .... = %u\n", i, x.name,
                      x.header_size, x.reset_id);
        buffer_printf(out, "record_offset = %u\nrecord_size . = %u\nrecord_align  = %u\n", x.record_offset,
                      x.record_size, x.record_align);
        put_ext_header(out, x.name, x.header);
    }
    if (index->state.ext_count == 0)
        buffer_append_str(out, "no extensions\n");
    buffer_append_str(out, "-- Keywords --\n");
    for (unsigned k = 0; k < index_keyword_count(index); k++)
        buffer_printf(out, "%3u = %s\n", k, index_keyword_name(index, k));
}

/* ---- cache -------------------------------------------------------------------------------------------------------- */

static const char *type_name(enum cache_type type)
{
    switch (type) {
    case CACHE_FIXED:
        return "fix";
    case CACHE_VAR:
        return "var";
    case CACHE_STRING:
        return "str";
    case CACHE_BITMASK:
        return "bit";
    case CACHE_HEADER:
        return "hdr";
    }
    return "?";
}

static const char *decision_name(uint8_t decision)
{
    switch (decision & 0x7f) {
    case INDEX_CACHE_NO:
        return "no";
    case INDEX_CACHE_TEMP:
        return "tmp";
    default:
        return "yes";
    }
}

static void put_cache_field(struct buffer *out, uint32_t i, const struct cache_field *f)
{
    char size[16] = "-";

    if (f->size != CACHE_VARIABLE)
        snprintf(size, sizeof(size), "%u", f->size);
    buffer_printf(out, "%2u: %-44s %-4s %4s %-3s  ", i, f->name, type_name(f->type), size, decision_name(f->decision));
    put_time(out, "%Y-%m-%d %H:%M\n", f->last_used);
}

static bool put_cache_header(struct index *index, const char *path, struct buffer *out)
{
    unsigned char h[CACHE_HEADER_SIZE];
    struct index_cache *c;

    buffer_printf(out, "\n-- CACHE: %s.cache\n", path);
    if (!cache_ready(index) || pread(index->cache->fd, h, sizeof(h), 0) != (ssize_t)sizeof(h)) {
        buffer_append_str(out, "cache is unusable\n");
        return false;
    }
    c = index->cache;
    buffer_printf(out, "major version ........ = %u\nminor version ........ = %u\nindexid .............. = %u (", h[0],
                  h[2], bytes_le32(h + CACHE_AT_INDEXID));
    put_stamp(out, bytes_le32(h + CACHE_AT_INDEXID));
    buffer_printf(out, ")\nfile_seq ............. = %u (", c->file_seq);
    put_stamp(out, c->file_seq);
    buffer_printf(out, ") (%d purges)\n", (int)(c->file_seq - bytes_le32(h + CACHE_AT_INDEXID)));
    buffer_printf(out, "continued_record_count = %u\nrecord_count ......... = %u\nused_file_size (old) . = %u\n",
                  bytes_le32(h + CACHE_AT_CONTINUED), bytes_le32(h + CACHE_AT_RECORDS),
                  bytes_le32(h + CACHE_AT_USED_SIZE));
    buffer_printf(out, "deleted_record_count . = %u\nfield_header_offset .. = %u (0x%08x nontranslated)\n",
                  bytes_le32(h + CACHE_AT_DELETED), format_offset_get(h + CACHE_AT_FIELDS),
                  bytes_le32(h + CACHE_AT_FIELDS));
    buffer_append_str(out, "-- Cache fields --\n #  Name                                         Type Size Dec  Last used\n");
    for (uint32_t i = 0; i < c->field_count; i++)
        put_cache_field(out, i, &c->fields[i]);
    return true;
}

/* One part of mime.parts and its children; false when the bytes end too early (index-format 9.7). */
static bool put_part(struct buffer *out, struct slice *s, bool root, unsigned depth)
{
    uint32_t flags, children;
    uint64_t pos = 0, n[4];

    if (s->size < 4 + (root ? 0u : 8u) + 32 || depth > 100)
        return false;
    flags = bytes_le32(s->at);
    *s = slice_from(*s, 4);
    if (!root) {
        pos = bytes_le64(s->at);
        *s = slice_from(*s, 8);
    }
    for (int i = 0; i < 4; i++)
        n[i] = bytes_le64(s->at + 8 * i);
    *s = slice_from(*s, 32);
    buffer_printf(out, "(pos=%llu hdr.p=%llu hdr.v=%llu body.p=%llu body.v=%llu flags=%x", (unsigned long long)pos,
                  (unsigned long long)n[0], (unsigned long long)n[1], (unsigned long long)n[2],
                  (unsigned long long)n[3], flags);
    if ((flags & 0x0c) != 0) {
        if (s->size < 4)
            return false;
        *s = slice_from(*s, 4);
    }
    if ((flags & 0x05) != 0) {
        if (s->size < 4)
            return false;
        children = bytes_le32(s->at);
        *s = slice_from(*s, 4);
        if (children > 0)
            buffer_append_byte(out, ' ');
        for (; children > 0; children--) {
            if (!put_part(out, s, false, depth + 1))
                return false;
        }
    }
    buffer_append_byte(out, ')');
    return true;
}

static void put_cached_header(struct buffer *out, struct slice value)
{
    unsigned lines = 0;

    while (value.size >= 4 && bytes_le32(value.at) != 0) {
        buffer_printf(out, "%s%u", lines == 0 ? "" : ", ", bytes_le32(value.at));
        lines++;
        value = slice_from(value, 4);
    }
    value = slice_from(value, 4);
    if (lines > 0)
        buffer_append_str(out, ": ");
    if (lines == 1 && value.size > 0 && value.at[value.size - 1] == '\n')
        value.size--;
    buffer_append_slice(out, value);
}

static void put_cached(struct buffer *out, const struct cache_field *f, struct slice value)
{
    buffer_printf(out, "    - %s: ", f->name);
    switch (f->type) {
    case CACHE_FIXED:
        if (value.size == 4)
            buffer_printf(out, "%u ", bytes_le32(value.at));
        else if (value.size == 8)
            buffer_printf(out, "%llu", (unsigned long long)bytes_le64(value.at));
        __attribute__((fallthrough));
    case CACHE_VAR:
    case CACHE_BITMASK:
        buffer_append_byte(out, '(');
        put_hex(out, value);
        buffer_append_byte(out, ')');
        if (strcmp(f->name, "mime.parts") == 0) {
            buffer_append_byte(out, ' ');
            put_part(out, &value, true, 0);
        }
        break;
    case CACHE_STRING:
        buffer_append_slice(out, value);
        break;
    case CACHE_HEADER:
        put_cached_header(out, value);
        break;
    }
    buffer_append_byte(out, '\n');
}

static void put_cached_all(struct index *index, uint32_t uid, struct buffer *out)
{
    struct cache_record r;
    struct slice value;
    uint32_t number;

    for (uint32_t at = cache_offset(index, uid); at != 0; at = r.prev) {
        if (!cache_record_get(index, at, &r))
            return;
        buffer_printf(out, " - cache offset=%u size=%zu, prev_offset = %u\n", at, r.body.size + 8, r.prev);
        while (cache_record_next(index, &r.body, &number, &value) == 1)
            put_cached(out, &index->cache->fields[number], value);
        if (index->cache->fd < 0)
            return;
    }
}

/* ---- records ------------------------------------------------------------------------------------------------------ */

#define UNDER "                   : "
static const struct header_format record_formats[] = {
    {"map", {{0, U32, UNDER "file_id = "}, {4, U32, UNDER "offset  = "}, {8, U32, UNDER "size    = "}}},
    {"list",
     {{0, U32, UNDER "name_id      = "}, {4, U32, UNDER "parent_uid   = "}, {8, GUID, UNDER "guid         = "},
      {24, U32, UNDER "uid_validity = "}}},
    {"msgs",
     {{0, U32, UNDER "messages = "}, {4, U32, UNDER "unseen   = "}, {8, U32, UNDER "recent   = "},
      {12, U32, UNDER "uidnext  = "}}},
    {"vsize",
     {{0, U64, UNDER "vsize         = "}, {8, U32, UNDER "highest_uid   = "}, {12, U32, UNDER "message_count = "}}},
};

static void put_record_ext(struct buffer *out, unsigned number, const struct index_ext_info *x, struct slice data)
{
    bool is_number = x->record_size == x->record_align && data.size == x->record_size;

    buffer_printf(out, " - ext %u %-10s: ", number, x->name);
    if (is_number && data.size == 8)
        buffer_printf(out, "%10llu", (unsigned long long)bytes_le64(data.at));
    else if (is_number && data.size == 4)
        buffer_printf(out, "%10u", bytes_le32(data.at));
    else if (is_number && data.size == 2)
        buffer_printf(out, "%10u", bytes_le16(data.at));
    else
        buffer_append_str(out, "          ");
    buffer_append_str(out, " (");
    put_hex(out, data);
    buffer_append_str(out, ")\n");
    if (strcmp(x->name, "mdbox") == 0 && data.size >= 8) {
        buffer_printf(out, UNDER "map_uid   = %u\n" UNDER "save_date = %u (", bytes_le32(data.at),
                      bytes_le32(data.at + 4));
        put_stamp(out, bytes_le32(data.at + 4));
        buffer_append_str(out, ")\n");
    }
    if (is_number)
        return;
    for (size_t i = 0; i < sizeof(record_formats) / sizeof(record_formats[0]); i++) {
        for (size_t f = 0; strcmp(record_formats[i].name, x->name) == 0 && f < 9 &&
                           record_formats[i].fields[f].label != NULL; f++)
            put_field(out, &record_formats[i].fields[f], data);
    }
}

static void put_record_exts(struct index *index, uint32_t i, struct buffer *out)
{
    static const char *const first[] = {"keywords", "modseq"};
    const unsigned char *r = state_record(&index->state, i);
    struct index_ext_info x;
    unsigned number = 2;

    for (unsigned f = 0; f < 2; f++) {
        for (unsigned n = 0; index_ext_at(index, n, &x); n++) {
            uint16_t size = x.record_size;

            if (f == 0 && size > 2)
                size = 2; /* the real one shows only the size that it began with */
            if (strcmp(x.name, first[f]) == 0 && size > 0)
                put_record_ext(out, f, &x, slice_of(r + x.record_offset, size));
        }
    }
    for (unsigned n = 0; index_ext_at(index, n, &x); n++) {
        if (strcmp(x.name, first[0]) == 0 || strcmp(x.name, first[1]) == 0)
            continue;
        if (x.record_size > 0)
            put_record_ext(out, number, &x, slice_of(r + x.record_offset, x.record_size));
        number++;
    }
}

static void put_flag_names(struct buffer *out, uint8_t flags)
{
    static const struct {
        uint8_t flag;
        const char *name;
    } names[] = {{INDEX_SEEN, "Seen"}, {INDEX_ANSWERED, "Answered"}, {INDEX_FLAGGED, "Flagged"},
                 {INDEX_DELETED, "Deleted"}, {INDEX_DRAFT, "Draft"}};
    bool any = false;

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if ((flags & names[i].flag) != 0) {
            buffer_printf(out, "%s%s", any ? " " : "(", names[i].name);
            any = true;
        }
    }
    if (any)
        buffer_append_byte(out, ')');
}

void index_dump(struct index *index, const char *path, uint32_t uid, struct buffer *out)
{
    struct buffer unseen = {0}, *head = uid == 0 ? out : &unseen;
    bool cached;

    put_header(index, path, head);
    put_exts(index, head);
    cached = put_cache_header(index, path, head);
    buffer_printf(head, "\n-- RECORDS: %u\n", index->state.count);
    buffer_free(&unseen);
    for (uint32_t i = 0; i < index->state.count; i++) {
        uint32_t this = state_uid(&index->state, i);
        uint8_t flags = state_record(&index->state, i)[4];

        if (uid != 0 && this != uid)
            continue;
        buffer_printf(out, "RECORD: seq=%u, uid=%u, flags=0x%02x ", i + 1, this, flags);
        put_flag_names(out, flags);
        buffer_append_byte(out, '\n');
        put_record_exts(index, i, out);
        if (cached)
            put_cached_all(index, this, out);
        buffer_append_byte(out, '\n');
    }
}
