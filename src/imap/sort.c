/* sort.c - SORT (RFC 5256, RFC 5957; imap 11.5): the hits of a search in the order of their keys.
 *
 * Values are fetched message by message, in steps; then one sort. Ties fall to the next key, at last to the sequence
 * number, which REVERSE does not touch. */
#include "imap/search.h"

#include <stdlib.h>

enum sort_key { SORT_ARRIVAL, SORT_CC, SORT_DATE, SORT_FROM, SORT_SIZE, SORT_SUBJECT, SORT_TO, SORT_DISPLAYFROM,
                SORT_DISPLAYTO, SORT_RELEVANCY };
enum { PROGRAM_MAX = 32 };

struct sort_program {
    size_t count;
    enum sort_key keys[PROGRAM_MAX];
    bool reverse[PROGRAM_MAX];
};

struct sort_value {
    int64_t number;
    struct slice text;
};

struct sort_item {
    uint32_t seq;
    const struct sort_program *program;
    struct sort_value *values;
};

static const struct {
    const char *name;
    enum sort_key key;
    const char *header;   /* that the value comes from */
    const char *cached;   /* the cache field that spares reading the message; NULL: never read for this */
} keys[] = {{"ARRIVAL", SORT_ARRIVAL, NULL, "date.received"},
            {"CC", SORT_CC, "Cc", "hdr.Cc"},
            {"DATE", SORT_DATE, NULL, "date.sent"},
            {"FROM", SORT_FROM, "From", "hdr.From"},
            {"SIZE", SORT_SIZE, NULL, NULL},
            {"SUBJECT", SORT_SUBJECT, "Subject", "hdr.Subject"},
            {"TO", SORT_TO, "To", "hdr.To"},
            {"DISPLAYFROM", SORT_DISPLAYFROM, "From", "hdr.From"},
            {"DISPLAYTO", SORT_DISPLAYTO, "To", "hdr.To"},
            {"RELEVANCY", SORT_RELEVANCY, NULL, NULL},
            {"X-SCORE", SORT_RELEVANCY, NULL, NULL}};

static bool add_key(struct session *s, struct request *r, struct sort_program *p, const char *word, bool reverse)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (strcmp(keys[i].name, word) != 0)
            continue;
        for (size_t k = 0; k < p->count; k++) {
            if (p->keys[k] == keys[i].key)
                return true; /* a key that came before decides already */
        }
        p->keys[p->count] = keys[i].key;
        p->reverse[p->count++] = reverse;
        return true;
    }
    request_bad(s, r, "Unknown sort argument: %s", word);
    return false;
}

bool sort_parse(struct session *s, struct request *r, struct search *q, const struct imap_arg *program)
{
    struct sort_program *p = ARENA_NEW(r->arena, struct sort_program);
    bool reverse = false;

    if (program == NULL || program->type != IMAP_LIST) {
        request_bad(s, r, "Invalid sort argument");
        return false;
    }
    if (program->children == NULL) {
        request_bad(s, r, "Empty sort program");
        return false;
    }
    for (const struct imap_arg *a = program->children; a != NULL; a = a->next) {
        const char *word;

        if (!imap_arg_is_string(a)) {
            request_bad(s, r, "Invalid sort list argument");
            return false;
        }
        word = request_upper(r, a->text);
        if (strcmp(word, "REVERSE") == 0) {
            reverse = !reverse;
            if (a->next == NULL) {
                request_bad(s, r, "Sort list ends with REVERSE");
                return false;
            }
            continue;
        }
        if (!add_key(s, r, p, word, reverse))
            return false;
        reverse = false;
    }
    q->sort = p;
    return true;
}

/* ---- values ------------------------------------------------------------------------------------------------------------ */

static struct slice normalised(struct arena *arena, struct slice text)
{
    struct buffer out = {0};
    struct slice copy;

    mime_normalise(&out, text);
    copy = arena_slice(arena, buffer_slice(&out));
    buffer_free(&out);
    return copy;
}

static struct slice display_name(struct mail *mail, const struct mime_address *a)
{
    struct buffer out = {0};
    struct slice copy;

    if (a->name.size > 0) {
        mime_words_decode(&out, a->name);
    } else {
        buffer_append_slice(&out, a->mailbox);
        buffer_append_byte(&out, '@');
        buffer_append_slice(&out, a->domain);
    }
    copy = arena_slice(mail_arena(mail), buffer_slice(&out));
    buffer_free(&out);
    return copy;
}

static const char *header_of(enum sort_key key)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (keys[i].key == key)
            return keys[i].header;
    }
    return NULL;
}

static int header_value(struct mail *mail, struct arena *arena, enum sort_key key, struct slice *out, struct error *e)
{
    const char *name = header_of(key);
    struct slice block, wanted = slice_from_str(name);
    struct mime_field field;
    const struct mime_address *first;
    bool reply;

    *out = SLICE("");
    if (mail_header_fields(mail, &wanted, 1, &block, e) < 0)
        return -1;
    if (!mime_header_find(block, name, &field))
        return 0;
    if (key == SORT_SUBJECT) {
        *out = arena_slice(arena, mime_base_subject(mail_arena(mail), field.value, &reply));
        return 0;
    }
    first = mime_address_parse(mail_arena(mail), field.value, NULL, true);
    if (first == NULL)
        return 0;
    *out = normalised(arena, key == SORT_DISPLAYFROM || key == SORT_DISPLAYTO ? display_name(mail, first) : first->mailbox);
    return 0;
}

static int get_value(struct mail *mail, struct arena *arena, enum sort_key key, struct sort_value *v, struct error *e)
{
    uint64_t size;
    int zone;

    switch (key) {
    case SORT_ARRIVAL:
        return mail_internal_date(mail, &v->number, e);
    case SORT_DATE:
        if (mail_sent_date(mail, &v->number, &zone, e) < 0)
            return -1;
        return v->number != 0 ? 0 : mail_internal_date(mail, &v->number, e);
    case SORT_SIZE:
        if (mail_size_virtual(mail, &size, e) < 0)
            return -1;
        v->number = (int64_t)size;
        return 0;
    case SORT_RELEVANCY:
        v->number = 1;
        return 0;
    default:
        return header_value(mail, arena, key, &v->text, e);
    }
}

static int compare_items(const void *a, const void *b)
{
    const struct sort_item *x = a, *y = b;
    const struct sort_program *p = x->program;

    for (size_t i = 0; i < p->count; i++) {
        int d = x->values[i].number < y->values[i].number ? -1 : x->values[i].number > y->values[i].number;

        if (d == 0)
            d = slice_compare(x->values[i].text, y->values[i].text);
        if (d != 0)
            return p->reverse[i] ? -d : d;
    }
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* ---- running ----------------------------------------------------------------------------------------------------------- */

/* Is there a key whose value is not in the cache? (imap 11.5, mail_sort_max_read_count) */
static bool must_read(struct session *s, struct request *r, const struct search *q, uint32_t seq)
{
    uint32_t uid = index_view_uid(mailbox_view_index(s->view), seq);
    struct slice value;

    for (size_t i = 0; i < q->sort->count; i++) {
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
            if (keys[k].key == q->sort->keys[i] && keys[k].cached != NULL &&
                index_cache_get(mailbox_index(s->box), uid, index_field(keys[k].cached), r->arena, &value) != INDEX_CACHE_FOUND)
                return true;
        }
    }
    return false;
}

static void fetch_item(struct session *s, struct request *r, struct search *q, struct sort_item *item)
{
    struct mail *mail;
    struct error e = {0};
    unsigned limit = conf_uint(s->set, SET_mail_sort_max_read_count);
    int got = 0;

    item->values = ARENA_ARRAY(r->arena, struct sort_value, q->sort->count);
    if (limit > 0 && must_read(s, r, q, item->seq) && q->sort_reads++ >= limit) {
        q->sort_limited = true; /* its values stay empty; a repetition finds more in the cache */
        return;
    }
    if (mail_open(s->view, item->seq, &mail, &e) < 0) {
        q->issued = q->issued || e.class == ERROR_EXPUNGED;
        return;
    }
    for (size_t i = 0; got == 0 && i < q->sort->count; i++)
        got = get_value(mail, r->arena, q->sort->keys[i], &item->values[i], &e);
    mail_close(&mail);
    if (got < 0 && e.class == ERROR_EXPUNGED)
        q->issued = true;
    else if (got < 0)
        log_error_value(&s->log, &e);
}

enum step sort_run(struct session *s, struct request *r, struct search *q, struct budget *budget, struct error *e)
{
    static const size_t item_size = sizeof(struct sort_item);
    struct sort_item *items;

    (void)e;
    if (q->order != NULL)
        return STEP_DONE;
    if (q->sort_items == NULL)
        q->sort_items = arena_array(r->arena, (size_t)imap_ranges_count(&q->hits) + 1, item_size);
    items = q->sort_items;
    while ((q->hit = imap_ranges_next(&q->hits, &q->hit_at, q->sorted_to)) != 0) {
        q->sorted_to = q->hit;
        items[q->order_count].seq = q->hit;
        items[q->order_count].program = q->sort;
        fetch_item(s, r, q, &items[q->order_count++]); /* what cannot be read has empty values */
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    q->hit = 0;
    qsort(items, q->order_count, item_size, compare_items);
    q->order = mem_alloc(((size_t)q->order_count + 1) * sizeof(*q->order));
    for (uint32_t i = 0; i < q->order_count; i++)
        q->order[i] = items[i].seq;
    return STEP_DONE;
}
