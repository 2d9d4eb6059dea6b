/* precache.c - fills the index cache for messages that it has nothing of yet (doveadm index, the indexer).
 *
 * All of them are behind the last one that it has something of. What is kept is what the real server keeps, in its order: headers,
 * flags, parts and sizes where decisions want them; then what the format tells whoever opens a message, wanted or not: dates, of dbox
 * also GUID and sizes, of mbox the size. Texts that are made from the parts (structure, envelope, preview) are left to whoever asks
 * for them first, as there.
 *
 * A message that cannot be read does not keep the others from their turn; the first such error is the operation's. */
#include "store/internal.h"

enum { FIELDS_MAX = 256 };

struct precache_op {
    struct store_op op;
    struct mailbox_view *view;
    struct mailbox_precache *out;
    uint32_t back;             /* looking for the last one that is cached, from here backwards */
    bool found, failed;
    struct error error;        /* the first */
    bool want_parse, want_virtual, want_physical;
    unsigned headers[FIELDS_MAX];   /* fields */
    size_t header_count;
};

/* What decisions want, once for all messages. */
static void see_wanted(struct precache_op *p)
{
    struct index *index = p->view->box->index;
    unsigned fields[FIELDS_MAX];
    size_t count = index_cache_wanted(index, fields, FIELDS_MAX);

    for (size_t i = 0; i < count; i++) {
        const char *name = index_field_name(fields[i]);

        if (strncasecmp(name, "hdr.", 4) == 0)
            p->headers[p->header_count++] = fields[i];
        p->want_parse |= strcmp(name, "flags") == 0 || strcmp(name, "mime.parts") == 0;
        p->want_virtual |= strcmp(name, "size.virtual") == 0;
        p->want_physical |= strcmp(name, "size.physical") == 0;
    }
}

static bool see_field(void *arg, const char *field, struct slice value)
{
    (void)field;
    (void)value;
    *(bool *)arg = true;
    return false;
}

static enum step find_first(struct precache_op *p, struct budget *budget)
{
    struct index_view *view = mailbox_view_index(p->view);

    for (bool cached = false; p->back > 0; p->back--) {
        if (budget_spent(budget, 1))
            return STEP_MORE;
        index_cache_each(index_view_index(view), index_view_uid(view, p->back), see_field, &cached);
        if (cached)
            break;
    }
    p->found = true;
    see_wanted(p);
    p->out->seq = p->back;
    p->out->first = p->back + 1;
    return STEP_DONE;
}

/* ---- one message ------------------------------------------------------------------------------------------------- */

static void keep(struct mail *mail, struct index *index, const char *field, uint64_t value, size_t bytes)
{
    unsigned char raw[8];

    bytes_put_le64(raw, value);
    index_cache_put_anyway(index, mail_uid(mail), index_field(field), slice_of(raw, bytes));
}

static int keep_headers(const struct precache_op *p, struct mail *mail, struct error *e)
{
    struct slice block;
    struct mime_field_list list;
    struct buffer out = {0};

    if (p->header_count == 0)
        return 0;
    if (mail_header(mail, &block, e) < 0)
        return -1;
    list = mime_headers_all(mail_arena(mail), block);
    for (size_t i = 0; i < p->header_count; i++) {
        buffer_reset(&out);
        mime_header_cache_encode(&out, &list, slice_from_str(index_field_name(p->headers[i]) + 4));
        index_cache_put(p->view->box->index, mail_uid(mail), p->headers[i], out.size == 0 ? slice_of("", 0) : buffer_slice(&out));
    }
    buffer_free(&out);
    return 0;
}

static int keep_sizes(struct mail *mail, struct index *index, bool virtual_size, bool physical, struct error *e)
{
    uint64_t size;

    if (virtual_size) {
        if (mail_size_virtual(mail, &size, e) < 0)
            return -1;
        keep(mail, index, "size.virtual", size, 8);
    }
    if (physical) {
        if (mail_size_physical(mail, &size, e) < 0)
            return -1;
        keep(mail, index, "size.physical", size, 8);
    }
    return 0;
}

static int keep_item(struct mail *mail, struct mailbox *box, enum driver_item what, const char *field, size_t bytes, struct error *e)
{
    struct driver_value value;

    if (box->driver->item(box, mail_uid(mail), what, mail_arena(mail), &value, e) < 0)
        return -1;
    if (what == ITEM_GUID)
        index_cache_put_anyway(box->index, mail_uid(mail), index_field(field), slice_from_str(value.text));
    else if (value.known || (what != ITEM_SIZE_VIRTUAL && what != ITEM_SIZE_PHYSICAL))
        keep(mail, box->index, field, value.number, bytes);
    return 0;
}

static int keep_facts(const struct precache_op *p, struct mail *mail, struct error *e)
{
    struct mailbox *box = p->view->box;
    unsigned can = box->driver->can;
    bool mbox = (can & DRIVER_IS_FILE) != 0, dbox = (can & DRIVER_FACTS_IN_FILE) != 0 && box->driver->origin == NULL && !mbox;

    if (dbox && keep_item(mail, box, ITEM_GUID, "guid", 0, e) < 0)
        return -1;
    if (dbox && keep_item(mail, box, ITEM_SIZE_VIRTUAL, "size.virtual", 8, e) < 0)
        return -1;
    if (mbox && keep_sizes(mail, box->index, true, false, e) < 0)
        return -1;
    if (dbox && keep_item(mail, box, ITEM_SIZE_PHYSICAL, "size.physical", 8, e) < 0)
        return -1;
    if (keep_item(mail, box, ITEM_INTERNAL_DATE, "date.received", 4, e) < 0)
        return -1;
    /* mdbox has it in the mailbox's index. */
    return (can & DRIVER_COUNTS_REFERENCES) != 0 ? 0 : keep_item(mail, box, ITEM_SAVE_DATE, "date.save", 4, e);
}

static int cache_one(struct precache_op *p, uint32_t seq, struct error *e)
{
    struct mail *mail;
    int r = mail_open(p->view, seq, &mail, e);

    if (r < 0)
        return -1;
    r = keep_headers(p, mail, e);
    if (r == 0 && p->want_parse)
        r = mail_parse(mail, e);
    if (r == 0)
        r = keep_sizes(mail, p->view->box->index, p->want_virtual, p->want_physical, e);
    if (r == 0)
        r = keep_facts(p, mail, e);
    mail_close(&mail);
    return r;
}

static enum step run(struct store_op *op, struct budget *budget, struct error *e)
{
    struct precache_op *p = (struct precache_op *)op;
    struct mailbox_precache *out = p->out;

    if (!p->found && find_first(p, budget) != STEP_DONE)
        return STEP_MORE;
    while (out->seq < out->last) {
        uint32_t uid = index_view_uid(mailbox_view_index(p->view), out->seq + 1);

        if (budget_spent(budget, 1))
            return STEP_MORE;
        if (out->first_uid == 0)
            out->first_uid = uid;
        out->last_uid = uid;
        if (cache_one(p, out->seq + 1, e) == 0) {
            out->cached++;
        } else if (e->class != ERROR_EXPUNGED && !p->failed) {
            p->failed = true;
            p->error = *e;
        }
        out->seq++;
    }
    index_cache_flush(p->view->box->index);
    if (!p->failed)
        return STEP_DONE;
    *e = p->error;
    return STEP_ERROR;
}

static void end(struct store_op *op)
{
    (void)op;
}

struct store_op *mailbox_precache(struct mailbox_view *view, struct mailbox_precache *out)
{
    static const struct op_class class = {run, end};
    struct precache_op *p = store_op_new(sizeof(*p), &class);

    p->view = view;
    p->out = out;
    p->back = index_view_count(mailbox_view_index(view));
    *out = (struct mailbox_precache){.last = p->back};
    return &p->op;
}
