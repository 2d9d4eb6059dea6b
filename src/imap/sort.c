/* sort.c - SORT (RFC 5256, RFC 5957; imap 11.5): the hits of a search in the order of their keys.
 *
 * Each key is a column of numbers. What is a number already (dates, sizes) is fetched message by message, in steps. Texts have
 * ranks in the index (store/rank.h); where those do not tell of all hits, the texts are fetched, and ranked here. Then one
 * stable sort a column, from the last to the first, so that ties fall to the next key, at last to the sequence number, which
 * REVERSE does not touch. */
#include "imap/search.h"
#include "store/order.h"
#include "store/rank.h"

enum sort_key { SORT_ARRIVAL, SORT_CC, SORT_DATE, SORT_FROM, SORT_SIZE, SORT_SUBJECT, SORT_TO, SORT_DISPLAYFROM,
                SORT_DISPLAYTO, SORT_RELEVANCY };
enum { PROGRAM_MAX = 32 };

struct sort_program {
    size_t count;
    enum sort_key keys[PROGRAM_MAX];
    bool reverse[PROGRAM_MAX];
};

struct sort_column {
    bool is_text;
    struct ranks *ranks;       /* NULL: the key is no text, or ranks are not used */
    bool ready;                /* the ranks are as complete as they will be */
    uint64_t *numbers;         /* of the hits, in their order */
    struct slice *texts;       /* NULL: it is a column of numbers from the start */
};

struct sort_state {
    struct sort_column columns[PROGRAM_MAX];
    uint32_t *seqs;
    uint32_t count, last;      /* hits that were fetched */
};

static const struct {
    const char *name;
    enum sort_key key;
    enum rank_key rank;   /* RANK_KEYS: it is no text */
    const char *cached;   /* the cache field that spares reading the message; NULL: never read for this */
} keys[] = {{"ARRIVAL", SORT_ARRIVAL, RANK_KEYS, "date.received"},
            {"CC", SORT_CC, RANK_CC, "hdr.Cc"},
            {"DATE", SORT_DATE, RANK_KEYS, "date.sent"},
            {"FROM", SORT_FROM, RANK_FROM, "hdr.From"},
            {"SIZE", SORT_SIZE, RANK_KEYS, NULL},
            {"SUBJECT", SORT_SUBJECT, RANK_SUBJECT, "hdr.Subject"},
            {"TO", SORT_TO, RANK_TO, "hdr.To"},
            {"DISPLAYFROM", SORT_DISPLAYFROM, RANK_DISPLAYFROM, "hdr.From"},
            {"DISPLAYTO", SORT_DISPLAYTO, RANK_DISPLAYTO, "hdr.To"},
            {"RELEVANCY", SORT_RELEVANCY, RANK_KEYS, NULL},
            {"X-SCORE", SORT_RELEVANCY, RANK_KEYS, NULL}};

static bool add_key(struct session *s, struct request *r, struct sort_program *p, struct slice shown, bool reverse)
{
    const char *word = request_upper(r, shown);

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
    request_bad(s, r, "Unknown sort argument: %s", arena_str(r->arena, shown));
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
        if (!add_key(s, r, p, a->text, reverse))
            return false;
        reverse = false;
    }
    q->sort = p;
    return true;
}

/* ---- columns ----------------------------------------------------------------------------------------------------------- */

static enum rank_key rank_key_of(enum sort_key key)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (keys[i].key == key)
            return keys[i].rank;
    }
    return RANK_KEYS;
}

/* Signed numbers in unsigned order. */
static uint64_t ordered(int64_t number)
{
    return (uint64_t)number ^ (uint64_t)1 << 63;
}

static void begin(struct session *s, struct request *r, struct search *q)
{
    struct sort_state *state = q->sort_state = ARENA_NEW(r->arena, struct sort_state);
    size_t hits = (size_t)imap_ranges_count(&q->hits) + 1;

    state->seqs = ARENA_ARRAY(r->arena, uint32_t, hits);
    for (size_t i = 0; i < q->sort->count; i++) {
        enum rank_key key = rank_key_of(q->sort->keys[i]);

        state->columns[i].numbers = ARENA_ARRAY(r->arena, uint64_t, hits);
        state->columns[i].is_text = key != RANK_KEYS;
        if (key != RANK_KEYS)
            state->columns[i].ranks = ranks_new(r->arena, s->view, key, hits - 1);
    }
}

/* Ranks are completed for the first key only: it decides most, and a mailbox that is sorted by another one gets its ranks then. Not
 * where the number of messages that may be read is limited: these texts come from more than the hits. */
static enum step complete_ranks(struct session *s, struct request *r, struct search *q, struct budget *budget)
{
    for (size_t i = 0; i < q->sort->count; i++) {
        struct sort_column *c = &q->sort_state->columns[i];

        if (c->ready)
            continue;
        if (c->ranks != NULL && i == 0 && conf_uint(s->set, SET_mail_sort_max_read_count) == 0 &&
            ranks_complete(c->ranks, &q->hits, budget) != STEP_DONE)
            return STEP_MORE;
        c->ready = true;
        if (c->ranks != NULL && !ranks_cover(c->ranks, &q->hits))
            c->ranks = NULL;
        if (c->is_text && c->ranks == NULL) {
            c->texts = ARENA_ARRAY(r->arena, struct slice, (size_t)imap_ranges_count(&q->hits) + 1);
        }
    }
    return STEP_DONE;
}

/* ---- values ------------------------------------------------------------------------------------------------------------ */

static int get_number(struct mail *mail, enum sort_key key, uint64_t *out, struct error *e)
{
    int64_t number = 1;
    uint64_t size;
    int zone;

    switch (key) {
    case SORT_ARRIVAL:
        if (mail_internal_date(mail, &number, e) < 0)
            return -1;
        break;
    case SORT_DATE:
        if (mail_sent_date(mail, &number, &zone, e) < 0 || (number == 0 && mail_internal_date(mail, &number, e) < 0))
            return -1;
        break;
    case SORT_SIZE:
        if (mail_size_virtual(mail, &size, e) < 0)
            return -1;
        number = (int64_t)size;
        break;
    default:
        break;
    }
    *out = ordered(number);
    return 0;
}

/* Is there a key whose value is not in the cache? (imap 11.5, mail_sort_max_read_count) */
static bool must_read(struct session *s, struct request *r, const struct search *q, uint32_t uid)
{
    struct slice value;

    for (size_t i = 0; i < q->sort->count; i++) {
        if (q->sort_state->columns[i].ranks != NULL)
            continue;
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
            if (keys[k].key == q->sort->keys[i] && keys[k].cached != NULL &&
                index_cache_get(mailbox_index(s->box), uid, index_field(keys[k].cached), r->arena, &value) != INDEX_CACHE_FOUND)
                return true;
        }
    }
    return false;
}

static int fetch_values(struct request *r, struct search *q, struct mail *mail, uint32_t n, struct error *e)
{
    for (size_t i = 0; i < q->sort->count; i++) {
        struct sort_column *c = &q->sort_state->columns[i];
        int got;

        if (c->ranks != NULL)
            continue;
        if (c->texts != NULL) {
            got = mail_sort_text(mail, rank_key_of(q->sort->keys[i]), &c->texts[n], e);
            c->texts[n] = got < 0 ? SLICE_EMPTY : arena_slice(r->arena, c->texts[n]);
        } else {
            got = get_number(mail, q->sort->keys[i], &c->numbers[n], e);
        }
        if (got < 0)
            return -1;
    }
    return 0;
}

/* Ranks at once. -> must the message be opened for something else? */
static bool take_ranks(struct search *q, uint32_t uid, uint32_t n)
{
    bool more = false;

    for (size_t i = 0; i < q->sort->count; i++) {
        struct sort_column *c = &q->sort_state->columns[i];

        c->numbers[n] = c->ranks != NULL ? ranks_of(c->ranks, uid) : ordered(0);
        if (c->ranks == NULL)
            more = true;
        else if (c->numbers[n] == 0)
            q->issued = true; /* expunged, and the client does not know it yet */
    }
    return more;
}

/* What cannot be read has empty values. */
static void fetch_item(struct session *s, struct request *r, struct search *q, uint32_t seq, uint32_t n)
{
    uint32_t uid = index_view_uid(mailbox_view_index(s->view), seq);
    unsigned limit = conf_uint(s->set, SET_mail_sort_max_read_count);
    struct error e = {0};
    struct mail *mail;

    if (!take_ranks(q, uid, n))
        return;
    if (limit > 0 && must_read(s, r, q, uid) && q->sort_reads++ >= limit) {
        q->sort_limited = true; /* a repetition finds more in the cache */
        return;
    }
    if (mail_open(s->view, seq, &mail, &e) < 0) {
        q->issued = q->issued || e.class == ERROR_EXPUNGED;
        return;
    }
    if (fetch_values(r, q, mail, n, &e) < 0) {
        if (e.class == ERROR_EXPUNGED)
            q->issued = true;
        else
            log_error_value(&s->log, &e);
    }
    mail_close(&mail);
}

/* ---- sorting ----------------------------------------------------------------------------------------------------------- */

static void sort_all(struct search *q)
{
    struct sort_state *state = q->sort_state;
    struct order order;

    order_init(&order, state->count);
    for (size_t i = q->sort->count; i-- > 0;) {
        struct sort_column *c = &state->columns[i];

        if (c->texts != NULL)
            order_number_texts(c->texts, state->count, c->numbers);
        order_by(&order, c->numbers, q->sort->reverse[i]);
    }
    q->order_count = state->count;
    q->order = order_take(&order);
    for (uint32_t i = 0; i < q->order_count; i++)
        q->order[i] = state->seqs[q->order[i]];
}

/* ---- running ----------------------------------------------------------------------------------------------------------- */

enum step sort_run(struct session *s, struct request *r, struct search *q, struct budget *budget, struct error *e)
{
    struct sort_state *state;

    (void)e;
    if (q->order != NULL)
        return STEP_DONE;
    if (q->sort_state == NULL)
        begin(s, r, q);
    if (complete_ranks(s, r, q, budget) != STEP_DONE)
        return STEP_MORE;
    state = q->sort_state;
    while ((q->hit = imap_ranges_next(&q->hits, &q->hit_at, state->last)) != 0) {
        state->last = state->seqs[state->count] = q->hit;
        fetch_item(s, r, q, q->hit, state->count++);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    q->hit = 0;
    sort_all(q);
    return STEP_DONE;
}
