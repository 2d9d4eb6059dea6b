/* thread.c - threads (RFC 5256; imap 11.7): reading what the trees are built of (thread_tree.c).
 *
 * Headers come from the cache, in steps. Subjects are compared by their ranks (rank.h) where the index has those of all
 * messages: then only the subjects of threads that may have to be merged are read. Messages outside of the result count
 * as missing. A message brings at most REFERENCES_MAX ids. */
#include "store/internal.h"
#include "store/order.h"
#include "store/rank.h"
#include "store/thread_tree.h"

#include <stdlib.h>

enum { REFERENCES_MAX = 1001 };
enum thread_phase { THREAD_RANKS, THREAD_READ, THREAD_DOUBTS, THREAD_BUILT };

struct thread {
    struct arena *arena;
    enum thread_kind kind;
    enum thread_phase phase;
    struct ranks *ranks;           /* of base subjects; NULL: they are read */
    struct mail_headers *headers;  /* of header_names those that are asked of each message; NULL: none */
    bool with_ids, with_subject, missed;
    struct thread_entry *entries;
    struct slice *subjects;        /* of the entries, with_subject */
    uint32_t count;
    size_t range;                  /* of the messages to read, and the one before the next */
    uint32_t last;
    struct thread_node *roots;
    const struct thread_entry **doubtful;
    uint32_t doubtful_count, doubtful_at;
};

bool thread_kind_parse(struct slice name, enum thread_kind *kind)
{
    static const char *const names[] = {"REFERENCES", "REFS", "ORDEREDSUBJECT"};

    for (int i = 0; i < 3; i++) {
        if (slice_equal_str_nocase(name, names[i])) {
            *kind = (enum thread_kind)i;
            return true;
        }
    }
    return false;
}

struct thread *thread_new(struct arena *arena, enum thread_kind kind)
{
    struct thread *t = ARENA_NEW(arena, struct thread);

    t->arena = arena;
    t->kind = kind;
    return t;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

static const struct slice header_names[] = {{(const unsigned char *)"Message-ID", 10}, {(const unsigned char *)"References", 10},
                                            {(const unsigned char *)"In-Reply-To", 11}, {(const unsigned char *)"Subject", 7}};
enum { MESSAGE_ID, REFERENCES, IN_REPLY_TO, SUBJECT, HEADERS };

static void read_ids(struct arena *arena, struct slice value, size_t most, struct thread_entry *entry)
{
    struct slice rest = value, id;
    VEC(struct slice) ids = {0};

    while (ids.count < most && mime_message_id_next(arena, &rest, &id))
        VEC_PUSH(&ids, id);
    entry->count = ids.count;
    entry->references = arena_copy(arena, ids.at, ids.count * sizeof(*ids.at));
    VEC_FREE(&ids);
}

static void take_ids(struct arena *arena, const struct slice *blocks, struct thread_entry *entry)
{
    struct mime_field field;
    struct slice rest;

    if (mime_header_find(blocks[MESSAGE_ID], "Message-ID", &field)) {
        rest = field.value;
        if (!mime_message_id_next(arena, &rest, &entry->id))
            entry->id = SLICE_EMPTY;
    }
    if (mime_header_find(blocks[REFERENCES], "References", &field))
        read_ids(arena, field.value, REFERENCES_MAX, entry);
    if (entry->count == 0 && mime_header_find(blocks[IN_REPLY_TO], "In-Reply-To", &field))
        read_ids(arena, field.value, 1, entry);
}

static struct slice take_subject(struct arena *arena, struct slice block, struct thread_entry *entry)
{
    struct mime_field field;
    struct slice subject = SLICE("");

    if (mime_header_find(block, "Subject", &field))
        subject = mime_base_subject(arena, field.value, &entry->reply);
    entry->no_subject = subject.size == 0;
    return subject;
}

static int read_headers(struct thread *t, struct mail *mail, struct thread_entry *entry, struct error *e)
{
    struct slice blocks[HEADERS], *given = t->with_ids ? blocks : blocks + SUBJECT;
    int zone;

    if (t->headers != NULL && mail_headers_get(mail, t->headers, given, e) < 0)
        return -1;
    if (mail_sent_date(mail, &entry->date, &zone, e) < 0 || (entry->date == 0 && mail_internal_date(mail, &entry->date, e) < 0))
        return -1;
    if (t->with_ids)
        take_ids(t->arena, blocks, entry);
    if (t->with_subject)
        t->subjects[entry - t->entries] = take_subject(t->arena, blocks[SUBJECT], entry);
    return 0;
}

static void read_entry(struct thread *t, struct mailbox_view *view, struct thread_entry *entry)
{
    struct mail *mail;
    struct error e = {0};

    entry->no_subject = true; /* until it is known better */
    if (t->ranks != NULL)
        entry->subject = ranks_of(t->ranks, index_view_uid(mailbox_view_index(view), entry->seq));
    if (mail_open(view, entry->seq, &mail, &e) < 0) {
        t->missed = t->missed || e.class == ERROR_EXPUNGED;
        return;
    }
    if (read_headers(t, mail, entry, &e) < 0 && e.class != ERROR_EXPUNGED)
        log_error_value(view->box->user->log_p, &e);
    mail_close(&mail);
}

static size_t count_messages(const struct index_ranges *seqs)
{
    size_t count = 0;

    for (size_t i = 0; i < seqs->count; i++)
        count += seqs->at[i].last - seqs->at[i].first + 1;
    return count;
}

static void begin_reading(struct thread *t, const struct index_ranges *seqs)
{
    size_t count = count_messages(seqs);

    if (t->ranks != NULL && !ranks_cover(t->ranks, seqs))
        t->ranks = NULL;
    t->with_ids = t->kind != THREAD_ORDEREDSUBJECT;
    t->with_subject = t->kind != THREAD_REFS && t->ranks == NULL;
    t->entries = ARENA_ARRAY(t->arena, struct thread_entry, count + 1);
    t->subjects = t->with_subject ? ARENA_ARRAY(t->arena, struct slice, count + 1) : NULL;
    if (t->with_ids)
        t->headers = mail_headers_new(t->arena, header_names, t->with_subject ? HEADERS : SUBJECT);
    else if (t->with_subject)
        t->headers = mail_headers_new(t->arena, header_names + SUBJECT, 1);
    t->phase = THREAD_READ;
}

static uint32_t next_seq(struct thread *t, const struct index_ranges *seqs)
{
    while (t->range < seqs->count && t->last >= seqs->at[t->range].last)
        t->range++;
    if (t->range == seqs->count)
        return 0;
    return t->last < seqs->at[t->range].first ? seqs->at[t->range].first : t->last + 1;
}

static enum step read_entries(struct thread *t, struct mailbox_view *view, const struct index_ranges *seqs, struct budget *budget)
{
    uint32_t seq;

    while ((seq = next_seq(t, seqs)) != 0) {
        if (budget_spent(budget, 1))
            return STEP_MORE;
        t->last = t->entries[t->count].seq = seq;
        read_entry(t, view, &t->entries[t->count++]);
    }
    return STEP_DONE;
}

/* All that is read: subjects become numbers, entries trees. */
static void build(struct thread *t)
{
    if (t->with_subject) {
        uint64_t *numbers = mem_alloc(((size_t)t->count + 1) * sizeof(*numbers));

        order_number_texts(t->subjects, t->count, numbers);
        for (uint32_t i = 0; i < t->count; i++)
            t->entries[i].subject = numbers[i];
        mem_free(numbers);
    }
    t->roots = thread_build(t->arena, t->kind, t->entries, t->count);
    if (t->kind == THREAD_REFERENCES && t->ranks != NULL) {
        t->doubtful_count = thread_doubtful(t->arena, t->roots, &t->doubtful);
        t->headers = mail_headers_new(t->arena, header_names + SUBJECT, 1);
    }
}

static void read_doubtful(struct thread *t, struct mailbox_view *view, struct thread_entry *entry)
{
    struct mail *mail;
    struct slice block;
    struct error e = {0};

    if (mail_open(view, entry->seq, &mail, &e) < 0)
        return;
    if (mail_headers_get(mail, t->headers, &block, &e) == 0)
        take_subject(t->arena, block, entry);
    else if (e.class != ERROR_EXPUNGED)
        log_error_value(view->box->user->log_p, &e);
    mail_close(&mail);
}

/* Marks of a reply, and whether there is a subject at all, are not in the ranks. */
static enum step read_doubts(struct thread *t, struct mailbox_view *view, struct budget *budget)
{
    while (t->doubtful_at < t->doubtful_count) {
        if (budget_spent(budget, 1))
            return STEP_MORE;
        read_doubtful(t, view, &t->entries[t->doubtful[t->doubtful_at++] - t->entries]);
    }
    return STEP_DONE;
}

enum step thread_read(struct thread *t, struct mailbox_view *view, const struct index_ranges *seqs, struct budget *budget)
{
    if (t->phase == THREAD_RANKS) {
        if (t->ranks == NULL && t->kind != THREAD_REFS)
            t->ranks = ranks_new(t->arena, view, RANK_SUBJECT, count_messages(seqs));
        if (t->ranks != NULL && ranks_complete(t->ranks, seqs, budget) != STEP_DONE)
            return STEP_MORE;
        begin_reading(t, seqs);
    }
    if (t->phase == THREAD_READ) {
        if (read_entries(t, view, seqs, budget) != STEP_DONE)
            return STEP_MORE;
        build(t);
        t->phase = THREAD_DOUBTS;
    }
    if (t->phase == THREAD_DOUBTS) {
        if (read_doubts(t, view, budget) != STEP_DONE)
            return STEP_MORE;
        if (t->kind == THREAD_REFERENCES && (t->ranks == NULL || t->doubtful_count > 0))
            t->roots = thread_merge_subjects(t->arena, t->roots);
        t->phase = THREAD_BUILT;
    }
    return STEP_DONE;
}

bool thread_missed(const struct thread *t)
{
    return t->missed;
}

const struct thread_node *thread_roots(struct thread *t)
{
    return t->roots;
}

static bool has_member(const struct thread_node *n, const struct index_ranges *wanted)
{
    if (n->seq != 0 && index_ranges_has(wanted, n->seq))
        return true;
    for (const struct thread_node *c = n->children; c != NULL; c = c->next) {
        if (has_member(c, wanted))
            return true;
    }
    return false;
}

typedef VEC(uint32_t) numbers;

static void collect_members(const struct thread_node *n, numbers *out)
{
    if (n->seq != 0)
        VEC_PUSH(out, n->seq);
    for (const struct thread_node *c = n->children; c != NULL; c = c->next)
        collect_members(c, out);
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

void thread_members(struct thread *t, const struct index_ranges *wanted, struct index_ranges *out)
{
    numbers members = {0};

    for (const struct thread_node *root = t->roots; root != NULL; root = root->next) {
        if (has_member(root, wanted))
            collect_members(root, &members);
    }
    if (members.count > 0)
        qsort(members.at, members.count, sizeof(*members.at), compare_numbers);
    for (size_t i = 0; i < members.count; i++)
        index_ranges_add(out, members.at[i], members.at[i]);
    VEC_FREE(&members);
}
