/* search_result.c - "* SEARCH", "* SORT", "* ESEARCH", and what "$" stands for afterwards (imap 11.3). */
#include "imap/updates.h"

enum { PIECE = 8 * 1024 };

static uint32_t shown(const struct session *s, const struct request *r, uint32_t seq)
{
    return r->uid ? index_view_uid(mailbox_view_index(s->view), seq) : seq;
}

/* The n-th result (1-based) in the order of the answer; 0: there is none. */
static uint32_t result_at(const struct search *q, uint64_t n)
{
    if (q->order != NULL)
        return n <= q->order_count ? q->order[n - 1] : 0;
    for (size_t i = 0; i < q->hits.count; i++) {
        uint64_t size = (uint64_t)q->hits.at[i].last - q->hits.at[i].first + 1;

        if (n <= size)
            return q->hits.at[i].first + (uint32_t)n - 1;
        n -= size;
    }
    return 0;
}

static uint32_t next_result(struct search *q)
{
    if (q->order != NULL)
        return q->order_at < q->order_count ? q->order[q->order_at++] : 0;
    return imap_ranges_next(&q->hits, &q->hit_at, q->hit);
}

/* The line of a plain SEARCH or SORT, in pieces. */
static enum step tell_plain(struct session *s, struct request *r, struct search *q)
{
    struct buffer out = {0};

    if (q->hit == 0)
        buffer_append_str(&out, q->sort != NULL ? "* SORT" : "* SEARCH");
    for (;;) {
        uint32_t seq;

        if (out.size > PIECE) {
            session_write(s, buffer_slice(&out));
            buffer_reset(&out);
            if (stream_full(s->io)) {
                buffer_free(&out);
                return STEP_OUTPUT_FULL;
            }
        }
        seq = next_result(q);
        if (seq == 0)
            break;
        q->hit = seq;
        buffer_append_byte(&out, ' ');
        buffer_append_number(&out, shown(s, r, seq));
    }
    if (q->has_modseq && q->hit != 0)
        buffer_printf(&out, " (MODSEQ %llu)", (unsigned long long)q->modseq);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    return STEP_DONE;
}

/* Results first..last of the answer as a set: ranges where numbers rise by one. */
static void put_set(struct session *s, struct request *r, struct search *q, uint64_t first, uint64_t last,
                    struct buffer *out)
{
    uint32_t begin = 0, end = 0;

    if (q->order == NULL) {
        struct index_ranges set = {0};
        size_t at = 0;
        uint64_t n = 0;

        for (uint32_t seq = 0; (seq = imap_ranges_next(&q->hits, &at, seq)) != 0 && n < last;) {
            if (++n >= first)
                index_ranges_add(&set, shown(s, r, seq), shown(s, r, seq));
        }
        imap_ranges_put(out, &set);
        index_ranges_free(&set);
        return;
    }
    for (uint64_t n = first; n <= last && n <= q->order_count; n++) {
        uint32_t v = shown(s, r, q->order[n - 1]);

        if (begin != 0 && v == end + 1) {
            end = v;
            continue;
        }
        if (begin != 0)
            buffer_printf(out, end > begin ? "%u:%u," : "%u,", begin, end);
        begin = end = v;
    }
    if (begin != 0)
        buffer_printf(out, end > begin ? "%u:%u" : "%u", begin, end);
}

static uint64_t modseq_of(struct session *s, uint32_t seq)
{
    struct index_record record;

    return index_view_get(mailbox_view_index(s->view), seq, &record) ? record.modseq : 0;
}

/* Which of `count` results PARTIAL means. False: none. */
static bool partial_places(const struct search *q, uint64_t count, uint64_t *first, uint64_t *last)
{
    *first = q->partial_first;
    *last = q->partial_last;
    if (q->partial_first > count)
        return false;
    if (q->partial_end) {
        *last = count - q->partial_first + 1;
        *first = q->partial_last >= count ? 1 : count - q->partial_last + 1;
    }
    return true;
}

/* The highest modseq of the messages that the reply names. */
static uint64_t told_modseq(struct session *s, struct search *q, uint64_t count)
{
    uint64_t highest = 0, first = 0, last = 0;
    bool partial = (q->returns & RETURN_PARTIAL) != 0 && partial_places(q, count, &first, &last);

    if ((q->returns & RETURN_ALL) != 0 || (q->returns & (RETURN_COUNT | RETURN_PARTIAL)) == RETURN_COUNT ||
        (q->returns & ~(unsigned)RETURN_SAVE) == 0)
        return q->modseq;
    for (uint64_t n = 1; n <= count; n++) {
        bool named = (n == 1 && (q->returns & RETURN_MIN) != 0) || (n == count && (q->returns & RETURN_MAX) != 0) ||
                     (partial && n >= first && n <= last);
        uint64_t m = named ? modseq_of(s, result_at(q, n)) : 0;

        if (m > highest)
            highest = m;
    }
    return highest;
}

static void tell_extended(struct session *s, struct request *r, struct search *q, uint64_t count)
{
    struct buffer out = {0};

    if ((q->returns & ~(unsigned)RETURN_SAVE) == 0 && !q->has_modseq)
        return;
    buffer_append_str(&out, "* ESEARCH (TAG ");
    mime_put_nstring(&out, slice_from_str(r->tag));
    if (q->where.size > 0) {
        buffer_append_str(&out, " MAILBOX ");
        mime_put_astring(&out, q->where);
        buffer_printf(&out, " UIDVALIDITY %u", q->uid_validity);
    }
    buffer_append_byte(&out, ')');
    if (r->uid)
        buffer_append_str(&out, " UID");
    if (count > 0 && (q->returns & RETURN_MIN) != 0)
        buffer_printf(&out, " MIN %u", shown(s, r, result_at(q, 1)));
    if (count > 0 && (q->returns & RETURN_MAX) != 0)
        buffer_printf(&out, " MAX %u", shown(s, r, result_at(q, count)));
    if (count > 0 && (q->returns & RETURN_ALL) != 0) {
        buffer_append_str(&out, " ALL ");
        put_set(s, r, q, 1, UINT64_MAX, &out);
    }
    if ((q->returns & RETURN_RELEVANCY) != 0) {
        buffer_append_str(&out, " RELEVANCY (");
        for (uint64_t n = 0; n < count; n++)
            buffer_append_str(&out, n == 0 ? "1" : " 1");
        buffer_append_byte(&out, ')');
    }
    if ((q->returns & RETURN_PARTIAL) != 0) {
        uint64_t first, last;

        if (q->partial_end)
            buffer_printf(&out, " PARTIAL (-%u:-%u ", q->partial_first, q->partial_last);
        else
            buffer_printf(&out, " PARTIAL (%u:%u ", q->partial_first, q->partial_last);
        if (!partial_places(q, count, &first, &last))
            buffer_append_str(&out, "NIL");
        else
            put_set(s, r, q, first, last, &out);
        buffer_append_byte(&out, ')');
    }
    if ((q->returns & RETURN_COUNT) != 0)
        buffer_printf(&out, " COUNT %llu", (unsigned long long)count);
    if (q->has_modseq && count > 0) {
        uint64_t modseq = told_modseq(s, q, count);

        if (modseq > 0) /* PARTIAL may name none */
            buffer_printf(&out, " MODSEQ %llu", (unsigned long long)modseq);
    }
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
}

/* SAVE with only MIN or MAX saves those messages (RFC 5182 section 2.4). */
static void save_result(struct session *s, struct search *q, uint64_t count)
{
    const struct index_view *view = mailbox_view_index(s->view);
    unsigned few = q->returns & (RETURN_MIN | RETURN_MAX), many = q->returns & (RETURN_ALL | RETURN_COUNT | RETURN_PARTIAL);
    size_t at = 0;

    index_ranges_free(&s->saved);
    s->saved = (struct index_ranges){0};
    if (count == 0)
        return;
    if (few != 0 && many == 0) {
        uint32_t low = index_view_uid(view, result_at(q, 1)), high = index_view_uid(view, result_at(q, count));

        if ((few & RETURN_MIN) != 0)
            index_ranges_add(&s->saved, low, low);
        if ((few & RETURN_MAX) != 0)
            index_ranges_add(&s->saved, high, high);
        return;
    }
    for (uint32_t seq = 0; (seq = imap_ranges_next(&q->hits, &at, seq)) != 0;) {
        uint32_t uid = index_view_uid(view, seq);

        index_ranges_add(&s->saved, uid, uid);
    }
}

enum step search_tell(struct session *s, struct request *r, struct search *q)
{
    uint64_t count = imap_ranges_count(&q->hits);

    if (!q->extended)
        return tell_plain(s, r, q);
    if ((q->returns & RETURN_UPDATE) != 0 && updates_full(s)) {
        session_print(s, "* NO [NOUPDATE \"%s\"]", r->tag);
        q->returns &= ~(unsigned)RETURN_UPDATE;
        if ((q->returns & ~(unsigned)RETURN_SAVE) == 0)
            q->returns |= RETURN_ALL;
    }
    tell_extended(s, r, q, count);
    if ((q->returns & RETURN_SAVE) != 0)
        save_result(s, q, count);
    if ((q->returns & RETURN_UPDATE) != 0)
        updates_add(s, r, q);
    return STEP_DONE;
}
