/* save_cache.c - what a save puts into the index cache (index-format 9.5): the fields that decisions want, so that the first
 * session that shows the new message need not open its file. The real server does the same, GUIDs and UIDLs excepted.
 *
 * All of it is best effort: a message that cannot be parsed is saved all the same. */
#include "store/internal.h"
#include "store/stage.h"

#include <stdlib.h>
#include <time.h>

#define WANTED_MAX 256

struct collect {
    struct staged *s;
    struct index *index;
    struct mime_source source;
    struct arena *arena;
    struct mime_part *root;       /* NULL = not parsed */
    struct slice header;
    struct mime_field_list fields;    /* of the header */
    bool header_known, failed;
    size_t room;
};

static void add(struct collect *c, unsigned field, struct slice value)
{
    struct staged *s = c->s;

    if (s->cached_count == c->room)
        return;
    s->cached[s->cached_count++] = (struct staged_value){field, arena_slice(s->arena, value)};
}

static void add_u32(struct collect *c, unsigned field, uint32_t value)
{
    unsigned char raw[4];

    bytes_put_le32(raw, value);
    add(c, field, slice_of(raw, 4));
}

static void add_u64(struct collect *c, unsigned field, uint64_t value)
{
    unsigned char raw[8];

    bytes_put_le64(raw, value);
    add(c, field, slice_of(raw, 8));
}

static void add_buffer(struct collect *c, unsigned field, struct buffer *out)
{
    add(c, field, out->at == NULL ? slice_of("", 0) : buffer_slice(out));
    buffer_free(out);
}

static bool need_header(struct collect *c)
{
    struct error ignored;

    if (!c->header_known && !c->failed) {
        c->failed = mime_header_read(c->arena, &c->source, NULL, &c->header, &ignored) < 0;
        if (!c->failed)
            c->fields = mime_headers_all(c->arena, c->header);
        c->header_known = !c->failed;
    }
    return c->header_known;
}

static bool need_parts(struct collect *c)
{
    struct error ignored;

    if (c->root == NULL && !c->failed)
        c->failed = mime_parse(c->arena, &c->source, MIME_PARSE_DATA, &c->root, &ignored) < 0;
    return !c->failed;
}

static void add_sent_date(struct collect *c, unsigned field)
{
    unsigned char raw[8] = {0};
    struct mime_field date;
    int64_t sent;
    int zone;

    if (mime_header_find(c->header, "Date", &date) && mime_date_parse(date.value, &sent, &zone)) {
        bytes_put_le32(raw, (uint32_t)sent);
        bytes_put_le32(raw + 4, (uint32_t)zone);
    }
    add(c, field, slice_of(raw, 8));
}

static void add_snippet(struct collect *c, unsigned field)
{
    struct buffer out = {0};
    struct error ignored;

    buffer_append_byte(&out, '1');
    if (mime_preview(c->arena, &c->source, c->root, &out, &ignored) == 0)
        add(c, field, buffer_slice(&out));
    buffer_free(&out);
}

/* Facts of the save itself. */
static bool add_fact(struct collect *c, unsigned field, const char *name)
{
    const struct staged *s = c->s;
    struct stat st;

    if (strcmp(name, "size.virtual") == 0)
        add_u64(c, field, s->size_virtual);
    else if (strcmp(name, "size.physical") == 0)
        add_u64(c, field, s->size_physical);
    else if (strcmp(name, "date.save") == 0)
        add_u32(c, field, (uint32_t)time(NULL));
    else if (strcmp(name, "date.received") == 0 && s->meta.has_date)
        add_u32(c, field, (uint32_t)s->meta.internal_date);
    else if (strcmp(name, "date.received") == 0 && (s->box->driver->can & DRIVER_FACTS_IN_FILE) == 0 && fstat(s->fd, &st) == 0)
        add_u32(c, field, (uint32_t)st.st_mtime); /* which is what the format will tell */
    else
        return strncmp(name, "date.", 5) == 0 && strcmp(name, "date.sent") != 0;
    return true;
}

static void add_of_header(struct collect *c, unsigned field, const char *name)
{
    struct buffer out = {0};

    if (!need_header(c))
        return;
    if (strncasecmp(name, "hdr.", 4) == 0) {
        mime_header_cache_encode(&out, &c->fields, slice_from_str(name + 4));
        add_buffer(c, field, &out);
    } else if (strcmp(name, "imap.envelope") == 0) {
        mime_envelope_put(&out, mime_envelope_parse(c->arena, c->header));
        add_buffer(c, field, &out);
    } else {
        add_sent_date(c, field);
    }
}

static void add_of_parts(struct collect *c, unsigned field, const char *name)
{
    bool structure = strcmp(name, "imap.bodystructure") == 0;
    struct buffer out = {0};

    if (!need_parts(c))
        return;
    if (strcmp(name, "flags") == 0) {
        add_u32(c, field, mail_cache_flags(c->root, true));
    } else if (strcmp(name, "mime.parts") == 0) {
        mime_parts_encode(&out, c->root);
        add_buffer(c, field, &out);
    } else if (strcmp(name, "body.snippet") == 0) {
        add_snippet(c, field);
    } else if (!mime_structure_is_plain(c->root)) { /* else "flags" says it all */
        mime_structure_put(&out, c->root, structure);
        add_buffer(c, field, &out);
    }
}

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(name, *list) == 0)
            return true;
    return false;
}

static void collect(struct collect *c, const unsigned *fields, size_t count)
{
    static const char *const of_parts[] = {"flags", "mime.parts", "imap.body", "imap.bodystructure", "body.snippet", NULL};
    static const char *const of_header[] = {"date.sent", "imap.envelope", NULL};

    for (size_t i = 0; i < count; i++) {
        const char *name = index_field_name(fields[i]);

        if (add_fact(c, fields[i], name))
            continue;
        if (is_one_of(name, of_parts))
            add_of_parts(c, fields[i], name);
        else if (strncasecmp(name, "hdr.", 4) == 0 || is_one_of(name, of_header))
            add_of_header(c, fields[i], name);
    }
}

/* Who parses for the flags has the parts too. */
static size_t wanted(struct index *index, unsigned *fields)
{
    unsigned parts = index_field("mime.parts"), flags = index_field("flags");
    size_t count = index_cache_wanted(index, fields, WANTED_MAX);

    for (size_t i = 0; i < count; i++)
        if (fields[i] == flags && index_cache_want(index, parts))
            return index_cache_wanted(index, fields, WANTED_MAX);
    return count;
}

void save_cache_parse(struct staged *s)
{
    unsigned fields[WANTED_MAX];
    struct collect c = {.s = s, .index = s->box->index};
    struct mail_file file;
    struct error ignored;

    if (s->cached != NULL || (s->fd < 0 && (s->box->driver->stage_read == NULL || (s->box->driver->can & DRIVER_IS_FILE) != 0)))
        return;
    c.room = wanted(c.index, fields);
    if (c.room == 0)
        return;
    c.arena = arena_new();
    if (store_read_staged(s, c.arena, &file, &ignored) == 0) {
        s->cached = ARENA_ARRAY(s->arena, struct staged_value, c.room);
        c.source = file.source;
        collect(&c, fields, c.room);
        store_read_end(NULL, &file);
    }
    arena_free(c.arena);
}

void save_cache_copy(struct staged *s, struct mailbox *from, uint32_t uid)
{
    unsigned fields[WANTED_MAX], save_date = index_field("date.save");
    size_t n = index_cache_wanted(s->box->index, fields, WANTED_MAX);
    struct collect c = {.s = s, .room = n};
    struct slice *values;

    if (n == 0)
        return;
    values = ARENA_ARRAY(s->arena, struct slice, n);
    s->cached = ARENA_ARRAY(s->arena, struct staged_value, n);
    index_cache_peek_many(from->index, uid, fields, n, s->arena, values);
    for (size_t i = 0; i < n; i++) {
        if (fields[i] == save_date)
            add_u32(&c, save_date, (uint32_t)time(NULL));
        else if (values[i].at != NULL)
            s->cached[s->cached_count++] = (struct staged_value){fields[i], values[i]};
    }
}

void stage_append_cached(const struct staged *s, struct index_batch *batch, struct index_append *append)
{
    for (size_t i = 0; i < s->cached_count; i++)
        index_append_cache(batch, append, s->cached[i].field, s->cached[i].value);
}
