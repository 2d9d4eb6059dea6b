/* mail.c - one message: facts from the index cache, else from the driver, else from one parse (index-format 9.7).
 *
 * What a parse has found goes to the cache where its decisions want it, so that the next session need not open the file.
 * A cached value that cannot be is thrown away with the message's whole cache record. */
#include "store/internal.h"
#include "store/stage.h"

#include <search.h>
#include <stdlib.h>

struct mail {
    struct mailbox *box;
    struct arena *arena;
    uint32_t uid;
    bool open, sizes_checked, header_known, plain;
    struct mail_file file;
    struct mime_part *root;      /* NULL = not parsed */
    bool root_data;
    struct slice header;
    struct slice parsed_header;  /* was at hand in the parse; NIL = not, or not parsed */
};

enum { F_FLAGS, F_SENT, F_RECEIVED, F_SAVE, F_VSIZE, F_PSIZE, F_BODY, F_STRUCTURE, F_ENVELOPE, F_PARTS, F_SNIPPET, F_COUNT };

static unsigned field(int which)
{
    static const char *const names[F_COUNT] = {"flags", "date.sent", "date.received", "date.save", "size.virtual",
                                               "size.physical", "imap.body", "imap.bodystructure", "imap.envelope",
                                               "mime.parts", "body.snippet"};
    static unsigned numbers[F_COUNT];
    static bool known[F_COUNT];

    if (!known[which]) {
        numbers[which] = index_field(names[which]);
        known[which] = true;
    }
    return numbers[which];
}

static bool cached(struct mail *mail, unsigned number, struct slice *out)
{
    return index_cache_get(mail->box->index, mail->uid, number, mail->arena, out) == INDEX_CACHE_FOUND;
}

static void keep(struct mail *mail, unsigned number, struct slice value)
{
    index_cache_put(mail->box->index, mail->uid, number, value);
}

static void keep_u32(struct mail *mail, int which, uint32_t value)
{
    unsigned char raw[4];

    bytes_put_le32(raw, value);
    keep(mail, field(which), slice_of(raw, 4));
}

static void keep_u64(struct mail *mail, int which, uint64_t value)
{
    unsigned char raw[8];

    bytes_put_le64(raw, value);
    keep(mail, field(which), slice_of(raw, 8));
}

static bool cached_u32(struct mail *mail, int which, uint32_t *out)
{
    struct slice raw;

    if (!cached(mail, field(which), &raw) || raw.size != 4)
        return false;
    *out = bytes_le32(raw.at);
    return true;
}

static bool cached_u64(struct mail *mail, int which, uint64_t *out)
{
    struct slice raw;

    if (!cached(mail, field(which), &raw) || raw.size != 8)
        return false;
    *out = bytes_le64(raw.at);
    return true;
}

/* ---- opening ---- */

/* The one that was closed last: a FETCH or SEARCH opens one message after the other. */
static struct mail *spare;

enum { SPARE_SIZE = 8192 };

int mail_open_uid(struct mailbox *box, uint32_t uid, struct mail **out, struct error *e)
{
    struct mail *mail = spare;

    if (uid == 0)
        return error_set(e, ERROR_EXPUNGED, "Mailbox %s: no such message", box->place.vname);
    spare = NULL;
    if (mail == NULL) {
        mail = mem_alloc(sizeof(*mail));
        mail->arena = arena_new();
    }
    *mail = (struct mail){.box = mailbox_ref(box), .arena = mail->arena, .uid = uid, .file.fd = -1};
    *out = mail;
    return 0;
}

int mail_open(struct mailbox_view *view, uint32_t seq, struct mail **out, struct error *e)
{
    return mail_open_uid(view->box, index_view_uid(view->view, seq), out, e);
}

void mail_close(struct mail **mail_p)
{
    struct mail *mail = *mail_p;

    if (mail == NULL)
        return;
    *mail_p = NULL;
    if (mail->open)
        store_read_end(mail->box, &mail->file);
    mailbox_close(&mail->box);
    if (spare == NULL) {
        arena_recycle(mail->arena, SPARE_SIZE);
        spare = mail;
        return;
    }
    arena_free(mail->arena);
    mem_free(mail);
}

uint32_t mail_uid(const struct mail *mail)
{
    return mail->uid;
}

struct arena *mail_arena(struct mail *mail)
{
    return mail->arena;
}

static int fail(struct mail *mail, struct error *e)
{
    return error_context(e, "Mailbox %s: UID=%u: ", mail->box->place.vname, mail->uid);
}

static int need_file(struct mail *mail, struct error *e)
{
    if (mail->open)
        return 0;
    if (store_read(mail->box, mail->uid, mail->arena, &mail->file, e) < 0)
        return fail(mail, e);
    mail->open = true;
    return 0;
}

int mail_source(struct mail *mail, const struct mime_source **out, struct error *e)
{
    if (need_file(mail, e) < 0)
        return -1;
    *out = &mail->file.source;
    return 0;
}

static int item(struct mail *mail, enum driver_item what, struct driver_value *out, struct error *e)
{
    return mail->box->driver->item(mail->box, mail->uid, what, mail->arena, out, e) < 0 ? fail(mail, e) : 0;
}

/* ---- parsing ---- */

/* What the whole mail was found to be: sizes that others said wrong are mended. */
static void check_sizes(struct mail *mail, uint64_t physical, uint64_t virtual_size)
{
    unsigned vsize = field(F_VSIZE);
    struct slice raw;

    if (mail->sizes_checked)
        return;
    mail->sizes_checked = true;
    if (mail->box->driver->mend != NULL)
        mail->box->driver->mend(mail->box, mail->uid, physical, virtual_size);
    /* A look that decisions do not count: nobody has asked for the size. */
    if (index_cache_peek_many(mail->box->index, mail->uid, &vsize, 1, mail->arena, &raw) == 1 && raw.size == 8 && bytes_le64(raw.at) != virtual_size)
        index_cache_corrupted(mail->box->index, mail->uid, "Cached virtual size is wrong");
    keep_u64(mail, F_VSIZE, virtual_size);
}

uint32_t mail_cache_flags(const struct mime_part *root, bool data)
{
    uint32_t flags = (root->flags & MIME_PART_NULS) != 0 ? 0x04 : 0x20;

    if (root->header.physical == root->header.virtual)
        flags |= 0x01;
    if (root->body.physical == root->body.virtual)
        flags |= 0x02;
    if (data && mime_structure_is_plain(root))
        flags |= 0x10;
    return flags;
}

static void keep_parse(struct mail *mail)
{
    struct mime_size total = mime_part_total(mail->root);
    struct buffer out = {0};

    check_sizes(mail, total.physical, total.virtual);
    if (index_cache_wants(mail->box->index, mail->uid, field(F_PARTS))) {
        mime_parts_encode(&out, mail->root);
        keep(mail, field(F_PARTS), buffer_slice(&out));
        buffer_free(&out);
    }
    keep_u32(mail, F_FLAGS, mail_cache_flags(mail->root, mail->root_data));
}

static int parse(struct mail *mail, bool data, struct error *e)
{
    if (need_file(mail, e) < 0)
        return -1;
    if (mime_parse_and_header(mail->arena, &mail->file.source, data ? MIME_PARSE_DATA : 0, &mail->root, &mail->parsed_header, e) < 0)
        return fail(mail, e);
    mail->root_data = data;
    keep_parse(mail);
    return 0;
}

int mail_parse(struct mail *mail, struct error *e)
{
    return mail->root != NULL ? 0 : parse(mail, false, e);
}

int mail_parts(struct mail *mail, bool data, struct mime_part **root, struct error *e)
{
    struct slice raw;

    if (mail->root == NULL && cached(mail, field(F_PARTS), &raw) && raw.size > 0) {
        struct error ignored;

        if (mime_parts_decode(mail->arena, raw, &mail->root, &ignored) < 0) {
            index_cache_corrupted(mail->box->index, mail->uid, ignored.admin);
            mail->root = NULL;
        }
    }
    if (mail->root == NULL) {
        if (parse(mail, data, e) < 0)
            return -1;
    } else if (data && !mail->root_data) {
        if (need_file(mail, e) < 0)
            return -1;
        if (mime_part_load_data(mail->arena, &mail->file.source, mail->root, e) < 0) {
            if (e->class != ERROR_CORRUPT)
                return fail(mail, e);
            index_cache_corrupted(mail->box->index, mail->uid, "Cached MIME parts don't match message during parsing");
            mail->root = NULL;
            if (parse(mail, true, e) < 0)
                return -1;
        }
        mail->root_data = true;
    }
    *root = mail->root;
    return 0;
}

/* ---- dates and sizes ---- */

int mail_internal_date(struct mail *mail, int64_t *out, struct error *e)
{
    struct driver_value value;
    uint32_t seconds;

    if (cached_u32(mail, F_RECEIVED, &seconds)) {
        *out = seconds;
        return 0;
    }
    if (item(mail, ITEM_INTERNAL_DATE, &value, e) < 0)
        return -1;
    *out = (int64_t)value.number;
    keep_u32(mail, F_RECEIVED, (uint32_t)value.number);
    return 0;
}

int mail_save_date(struct mail *mail, int64_t *out, struct error *e)
{
    struct driver_value value;
    uint32_t seconds;

    if (cached_u32(mail, F_SAVE, &seconds)) {
        *out = seconds;
        return 0;
    }
    if (item(mail, ITEM_SAVE_DATE, &value, e) < 0)
        return -1;
    *out = (int64_t)value.number;
    keep_u32(mail, F_SAVE, (uint32_t)value.number);
    return 0;
}

int mail_sent_date(struct mail *mail, int64_t *out, int *zone, struct error *e)
{
    static const char name[] = "Date";
    struct slice raw, names[1] = {slice_from_str(name)}, block;
    struct mime_field date;
    unsigned char value[8] = {0};

    if (cached(mail, field(F_SENT), &raw) && raw.size == 8) {
        *out = bytes_le32(raw.at);
        *zone = (int32_t)bytes_le32(raw.at + 4);
        return 0;
    }
    if (mail_header_fields(mail, names, 1, &block, e) < 0)
        return -1;
    *out = 0;
    *zone = 0;
    if (mime_header_find(block, name, &date) && mime_date_parse(date.value, out, zone)) {
        bytes_put_le32(value, (uint32_t)*out);
        bytes_put_le32(value + 4, (uint32_t)*zone);
    }
    keep(mail, field(F_SENT), slice_of(value, 8));
    return 0;
}

int mail_size_physical(struct mail *mail, uint64_t *out, struct error *e)
{
    struct driver_value value;

    if (mail->open && mail->file.coding == NULL) {
        *out = mail->file.size;
        return 0;
    }
    if (cached_u64(mail, F_PSIZE, out))
        return 0;
    if (item(mail, ITEM_SIZE_PHYSICAL, &value, e) < 0)
        return -1;
    *out = value.number;
    if (value.known) {
        if ((mail->box->driver->can & DRIVER_FACTS_IN_FILE) != 0)
            keep_u64(mail, F_PSIZE, *out);
        return 0;
    }
    /* It is coded, and neither its name nor its metadata tell. */
    if (need_file(mail, e) < 0)
        return -1;
    if (store_read_size(&mail->file, out, e) < 0)
        return fail(mail, e);
    keep_u64(mail, F_PSIZE, *out);
    return 0;
}

bool mail_size_virtual_known(struct mail *mail)
{
    struct driver_value value;
    struct error ignored;
    struct slice raw;
    unsigned number = field(F_VSIZE);

    return mail->root != NULL || index_cache_peek_many(mail->box->index, mail->uid, &number, 1, mail->arena, &raw) == 1 ||
           (item(mail, ITEM_SIZE_VIRTUAL, &value, &ignored) == 0 && value.known);
}

int mail_size_virtual(struct mail *mail, uint64_t *out, struct error *e)
{
    struct driver_value value;
    struct mime_size size;

    if (mail->root != NULL) {
        size = mime_part_total(mail->root);
        *out = size.virtual;
        return 0;
    }
    if (cached_u64(mail, F_VSIZE, out))
        return 0;
    if (item(mail, ITEM_SIZE_VIRTUAL, &value, e) < 0)
        return -1;
    if (value.known) {
        *out = value.number;
        if ((mail->box->driver->can & DRIVER_FACTS_IN_FILE) != 0)
            keep_u64(mail, F_VSIZE, *out); /* a name may say anything: then only what was counted is kept */
        return 0;
    }
    if (need_file(mail, e) < 0)
        return -1;
    if (mime_source_sizes(&mail->file.source, &size, e) < 0)
        return fail(mail, e);
    check_sizes(mail, size.physical, size.virtual);
    *out = size.virtual;
    return 0;
}

int mail_guid(struct mail *mail, const char **out, struct error *e)
{
    struct driver_value value;

    if (item(mail, ITEM_GUID, &value, e) < 0)
        return -1;
    *out = value.text;
    return 0;
}

int mail_guid128(struct mail *mail, unsigned char guid[16], struct error *e)
{
    const char *text;

    if (mail_guid(mail, &text, e) < 0)
        return -1;
    store_guid_of_text(slice_from_str(text), guid);
    return 0;
}

int mail_pop3_uidl(struct mail *mail, const char **out, struct error *e)
{
    struct driver_value value;

    if (item(mail, ITEM_POP3_UIDL, &value, e) < 0)
        return -1;
    *out = value.text;
    return 0;
}

int mail_pop3_order(struct mail *mail, uint32_t *out, struct error *e)
{
    struct driver_value value;

    if (item(mail, ITEM_POP3_ORDER, &value, e) < 0)
        return -1;
    *out = (uint32_t)value.number;
    return 0;
}

int mail_refcount(struct mail *mail, uint32_t *out, struct error *e)
{
    struct driver_value value;
    const char *path;
    struct stat st;

    if ((mail->box->driver->can & DRIVER_COUNTS_REFERENCES) != 0) {
        if (item(mail, ITEM_REFCOUNT, &value, e) < 0)
            return -1;
        *out = (uint32_t)value.number;
        return 0;
    }
    path = mail_path(mail); /* a copy is a link where the format allows it */
    *out = path != NULL && stat(path, &st) == 0 ? (uint32_t)st.st_nlink : 1;
    return 0;
}

const char *mail_path(struct mail *mail)
{
    struct driver_value value;
    struct error e;

    return item(mail, ITEM_PATH, &value, &e) < 0 ? NULL : value.text;
}

/* ---- headers ---- */

int mail_header(struct mail *mail, struct slice *block, struct error *e)
{
    if (!mail->header_known) {
        if (need_file(mail, e) < 0)
            return -1;
        mail->header = mail->parsed_header;
        if (mail->header.at == NULL && mime_header_read(mail->arena, &mail->file.source, NULL, &mail->header, e) < 0)
            return fail(mail, e);
        mail->header_known = true;
    }
    *block = mail->header;
    return 0;
}

#define HEADER_NAMES_MAX 2000
#define HEADER_NAME_SIZE 64
#define HEADER_ASK_MAX 64

static int compare_text(const void *a, const void *b)
{
    return strcasecmp(a, b);
}

struct header_name {
    char text[HEADER_NAME_SIZE + 5]; /* hdr.NAME; first: names are compared by it */
    unsigned field;
};

/* The cache field of a header. Names are the clients' choice: a process knows so many, others are not cached. */
static bool header_field(struct slice name, unsigned *out)
{
    static void *tree;
    static size_t count;
    struct header_name wanted = {.text = "hdr."}, **found;

    if (name.size == 0 || name.size > HEADER_NAME_SIZE || memchr(name.at, '\0', name.size) != NULL)
        return false;
    memcpy(wanted.text + 4, name.at, name.size);
    found = tfind(&wanted, &tree, compare_text);
    if (found == NULL) {
        struct header_name *added;

        if (count >= HEADER_NAMES_MAX)
            return false;
        added = mem_alloc(sizeof(*added));
        *added = wanted;
        added->field = index_field(added->text);
        found = tsearch(added, &tree, compare_text);
        count++;
    }
    *out = (*found)->field;
    return true;
}

static bool fields_from_cache(struct mail *mail, const unsigned *fields, size_t count, struct slice *block)
{
    struct slice *values = ARENA_ARRAY(mail->arena, struct slice, count + 1);
    struct error e;

    if (index_cache_get_many(mail->box->index, mail->uid, fields, count, mail->arena, values) < count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (values[i].at == NULL)
            return false;
    if (mime_header_cache_merge(mail->arena, values, count, block, &e) < 0) {
        index_cache_corrupted(mail->box->index, mail->uid, e.admin);
        return false;
    }
    return true;
}

/* The header from the file; of the fields named (NULL: none can be kept) those go to the cache that it wants. */
static int fields_from_file(struct mail *mail, const struct slice *names, const unsigned *fields, size_t count,
                            struct slice *block, struct error *e)
{
    struct mime_field_list list = {0};
    struct buffer out = {0};

    if (mail_header(mail, block, e) < 0)
        return -1;
    for (size_t i = 0; fields != NULL && i < count; i++) {
        if (!index_cache_wants(mail->box->index, mail->uid, fields[i]))
            continue;
        if (list.at == NULL)
            list = mime_headers_all(mail->arena, *block);
        buffer_reset(&out);
        mime_header_cache_encode(&out, &list, names[i]);
        keep(mail, fields[i], out.size == 0 ? slice_of("", 0) : buffer_slice(&out));
    }
    buffer_free(&out);
    return 0;
}

bool mail_cached_header(struct mail *mail, struct slice name, struct slice *block)
{
    unsigned field;

    *block = mail->header;
    return mail->header_known || (header_field(name, &field) && fields_from_cache(mail, &field, 1, block));
}

int mail_header_fields(struct mail *mail, const struct slice *names, size_t count, struct slice *block, struct error *e)
{
    unsigned *fields;
    bool can = count > 0 && count <= HEADER_ASK_MAX;

    if (mail->header_known) {
        *block = mail->header;
        return 0;
    }
    fields = ARENA_ARRAY(mail->arena, unsigned, count + 1);
    for (size_t i = 0; can && i < count; i++)
        can = header_field(names[i], &fields[i]);
    if (can && fields_from_cache(mail, fields, count, block))
        return 0;
    return fields_from_file(mail, names, can ? fields : NULL, count, block, e);
}

struct mail_headers {
    size_t count;
    const struct slice *names;
    unsigned *fields;            /* NULL: not all of them can be kept */
};

struct mail_headers *mail_headers_new(struct arena *arena, const struct slice *names, size_t count)
{
    struct mail_headers *headers = ARENA_NEW(arena, struct mail_headers);
    bool can = count > 0 && count <= HEADER_ASK_MAX;

    headers->count = count;
    headers->names = arena_copy(arena, names, count * sizeof(*names));
    headers->fields = ARENA_ARRAY(arena, unsigned, count + 1);
    for (size_t i = 0; can && i < count; i++)
        can = header_field(names[i], &headers->fields[i]);
    if (!can)
        headers->fields = NULL;
    return headers;
}

static bool blocks_from_cache(struct mail *mail, const struct mail_headers *headers, struct slice *blocks)
{
    struct error e;

    if (index_cache_get_many(mail->box->index, mail->uid, headers->fields, headers->count, mail->arena, blocks) < headers->count)
        return false;
    for (size_t i = 0; i < headers->count; i++) {
        if (mime_header_cache_decode(blocks[i], &blocks[i], &e) < 0) {
            index_cache_corrupted(mail->box->index, mail->uid, e.admin);
            return false;
        }
    }
    return true;
}

int mail_headers_get(struct mail *mail, const struct mail_headers *headers, struct slice *blocks, struct error *e)
{
    struct slice block;

    if (!mail->header_known && headers->fields != NULL && blocks_from_cache(mail, headers, blocks))
        return 0;
    if (fields_from_file(mail, headers->names, mail->header_known ? NULL : headers->fields, headers->count, &block, e) < 0)
        return -1;
    for (size_t i = 0; i < headers->count; i++)
        blocks[i] = block;
    return 0;
}

/* ---- IMAP texts ---- */

static struct slice text_of(struct mail *mail, struct buffer *out)
{
    struct slice text = arena_slice(mail->arena, buffer_slice(out));

    buffer_free(out);
    return text;
}

enum { STRUCTURE_ROOM = 1024 };   /* enough for most */

/* The cache fields of an envelope and of the ten headers it is made of; NULL when no more names can be kept. */
static const unsigned *envelope_fields(void)
{
    static unsigned fields[1 + MIME_ENVELOPE_NAMES];
    static bool known;

    fields[0] = field(F_ENVELOPE);
    for (size_t i = 0; !known && i < MIME_ENVELOPE_NAMES; i++)
        if (!header_field(slice_from_str(mime_envelope_names[i]), &fields[1 + i]))
            return NULL;
    known = true;
    return fields;
}

static void keep_envelope(struct mail *mail, struct slice text)
{
    if (index_cache_wants(mail->box->index, mail->uid, field(F_ENVELOPE)))
        keep(mail, field(F_ENVELOPE), text);
}

/* As it is cached, else from the headers: all looked up at once, and parsed where they lie. */
static bool envelope_from_cache(struct mail *mail, const unsigned *fields, struct buffer *out)
{
    struct slice values[1 + MIME_ENVELOPE_NAMES];
    struct index *index = mail->box->index;
    const size_t before = out->size, headers = fields == NULL || mail->header_known ? 0 : MIME_ENVELOPE_NAMES;
    const unsigned whole = field(F_ENVELOPE);
    size_t found = index_cache_borrow(index, mail->uid, headers > 0 ? fields : &whole, 1 + headers, values);
    struct error e;

    if (values[0].size > 0) {
        index_cache_used(index, mail->uid, &whole, 1, values);
        buffer_append_slice(out, values[0]);
        return true;
    }
    index_cache_used(index, mail->uid, headers > 0 ? fields : &whole, 1 + headers, values);
    if (headers == 0 || found - (values[0].at != NULL) < headers)
        return false;
    if (mime_envelope_put_cached(out, mail->arena, values + 1, &e) < 0) {
        index_cache_corrupted(index, mail->uid, e.admin);
        return false;
    }
    keep_envelope(mail, slice_from(buffer_slice(out), before));
    return true;
}

int mail_envelope(struct mail *mail, struct buffer *out, struct error *e)
{
    const unsigned *fields = envelope_fields();
    struct slice names[MIME_ENVELOPE_NAMES], block;
    const size_t before = out->size;

    if (envelope_from_cache(mail, fields, out))
        return 0;
    for (size_t i = 0; i < MIME_ENVELOPE_NAMES; i++)
        names[i] = slice_from_str(mime_envelope_names[i]);
    if (fields_from_file(mail, names, mail->header_known || fields == NULL ? NULL : fields + 1, MIME_ENVELOPE_NAMES, &block, e) < 0)
        return -1;
    mime_envelope_put(out, mail->root != NULL && mail->root_data ? mail->root->data->envelope : mime_envelope_parse(mail->arena, block));
    keep_envelope(mail, slice_from(buffer_slice(out), before));
    return 0;
}

/* The cached form, whole or derived. */
static bool structure_from_cache(struct mail *mail, bool extended, struct slice *text)
{
    struct buffer out = {0};
    struct error ignored;
    struct slice raw;
    uint32_t flags;

    if (!extended && cached(mail, field(F_BODY), text) && text->size > 0)
        return true;
    if (cached(mail, field(F_STRUCTURE), &raw) && raw.size > 0) {
        if (extended) {
            *text = raw;
            return true;
        }
        if (mime_structure_to_body(&out, raw, &ignored) == 0) {
            *text = text_of(mail, &out);
            return true;
        }
        buffer_free(&out);
        index_cache_corrupted(mail->box->index, mail->uid, ignored.admin);
        return false;
    }
    if (cached_u32(mail, F_FLAGS, &flags) && (flags & 0x10) != 0 && cached(mail, field(F_PARTS), &raw) && raw.size > 0) {
        struct mime_part *root;

        if (mime_parts_decode(mail->arena, raw, &root, &ignored) < 0)
            return false;
        mime_structure_put_plain(&out, root, extended);
        *text = text_of(mail, &out);
        return true;
    }
    return false;
}

int mail_structure(struct mail *mail, bool extended, struct slice *text, struct error *e)
{
    struct buffer out = {0};
    struct mime_part *root;

    if (structure_from_cache(mail, extended, text))
        return 0;
    if (mail_parts(mail, true, &root, e) < 0)
        return -1;
    buffer_reserve(&out, STRUCTURE_ROOM);
    if (!mime_structure_is_plain(root)) {
        mime_structure_put(&out, root, true);
        keep(mail, field(F_STRUCTURE), buffer_slice(&out));
        if (extended) {
            *text = text_of(mail, &out);
            return 0;
        }
        buffer_reset(&out);
    }
    mime_structure_put(&out, root, extended);
    if (!extended && index_cache_wants(mail->box->index, mail->uid, field(F_BODY)) &&
        !index_cache_wants(mail->box->index, mail->uid, field(F_STRUCTURE)) && !mime_structure_is_plain(root))
        keep(mail, field(F_BODY), buffer_slice(&out));
    *text = text_of(mail, &out);
    return 0;
}

int mail_preview(struct mail *mail, struct slice *text, struct error *e)
{
    struct buffer out = {0};
    struct mime_part *root;
    struct slice raw;

    if (cached(mail, field(F_SNIPPET), &raw) && raw.size > 0 && raw.at[0] == '1') {
        *text = slice_from(raw, 1);
        return 0;
    }
    if (mail_parts(mail, true, &root, e) < 0)
        return -1;
    buffer_append_byte(&out, '1');
    if (mime_preview(mail->arena, &mail->file.source, root, &out, e) < 0) {
        buffer_free(&out);
        return fail(mail, e);
    }
    keep(mail, field(F_SNIPPET), buffer_slice(&out));
    *text = slice_from(text_of(mail, &out), 1);
    return 0;
}
