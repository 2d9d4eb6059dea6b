/* thread.c - THREAD (RFC 5256; imap 11.7, oracle-build 1.4): REFERENCES, REFS, ORDEREDSUBJECT.
 *
 * The headers of the messages found are read in steps; then the trees are built at once. Messages outside of the result count
 * as missing. Message ids are found by sorting, not by hashing, so that nobody chooses collisions: O(n log n). A message
 * brings at most REFERENCES_MAX ids, and a link whose parent stands deeper than DEPTH_MAX is dropped, which bounds the
 * walks up the tree and the recursion down. */
#include "imap/search.h"

#include <stdlib.h>

enum { REFERENCES_MAX = 1001, DEPTH_MAX = 1000 };
enum thread_kind { THREAD_REFERENCES, THREAD_REFS, THREAD_ORDEREDSUBJECT };

struct node {
    struct node *parent, *children, *next;
    uint32_t seq;              /* of the visible message; 0: missing */
    bool reply;
    int64_t date;              /* of a missing one: its first child's */
    struct slice subject;      /* base subject */
};

struct entry {                 /* a message of the result */
    uint32_t seq;
    bool reply;
    int64_t date;
    struct slice id, subject;
    struct slice *references;
    size_t count;
};

struct thread {
    enum thread_kind kind;
    struct entry *entries;
    uint32_t count, last;
};

bool thread_kind_of(struct request *r, struct search *q, struct slice name)
{
    static const char *const names[] = {"REFERENCES", "REFS", "ORDEREDSUBJECT"};

    for (int i = 0; i < 3; i++) {
        if (slice_equal_str_nocase(name, names[i])) {
            q->thread = ARENA_NEW(r->arena, struct thread);
            q->thread->kind = (enum thread_kind)i;
            return true;
        }
    }
    return false;
}

bool thread_parse(struct session *s, struct request *r, struct search *q, const struct imap_arg *arg)
{
    if (!imap_arg_is_atom(arg) || !imap_arg_is_string(arg->next)) {
        request_bad(s, r, "Invalid arguments");
        return false;
    }
    if (thread_kind_of(r, q, arg->text))
        return true;
    request_bad(s, r, "Unknown thread algorithm");
    return false;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

static void read_ids(struct arena *arena, struct slice value, size_t most, struct entry *entry)
{
    struct slice rest = value, id;
    VEC(struct slice) ids = {0};

    while (ids.count < most && mime_message_id_next(arena, &rest, &id))
        VEC_PUSH(&ids, arena_slice(arena, id));
    entry->count = ids.count;
    entry->references = arena_copy(arena, ids.at, ids.count * sizeof(*ids.at));
    VEC_FREE(&ids);
}

static int read_headers(struct request *r, struct mail *mail, struct entry *entry, struct error *e)
{
    static const struct slice names[] = {{(const unsigned char *)"Message-ID", 10}, {(const unsigned char *)"References", 10},
                                         {(const unsigned char *)"In-Reply-To", 11}, {(const unsigned char *)"Subject", 7}};
    struct mime_field field;
    struct slice block, rest, id;
    int zone;

    if (mail_header_fields(mail, names, 4, &block, e) < 0 || mail_sent_date(mail, &entry->date, &zone, e) < 0 ||
        (entry->date == 0 && mail_internal_date(mail, &entry->date, e) < 0))
        return -1;
    if (mime_header_find(block, "Message-ID", &field)) {
        rest = field.value;
        if (mime_message_id_next(mail_arena(mail), &rest, &id))
            entry->id = arena_slice(r->arena, id);
    }
    if (mime_header_find(block, "References", &field))
        read_ids(r->arena, field.value, REFERENCES_MAX, entry);
    if (entry->count == 0 && mime_header_find(block, "In-Reply-To", &field))
        read_ids(r->arena, field.value, 1, entry);
    if (mime_header_find(block, "Subject", &field))
        entry->subject = arena_slice(r->arena, mime_base_subject(mail_arena(mail), field.value, &entry->reply));
    return 0;
}

static void read_entry(struct session *s, struct request *r, struct search *q, struct entry *entry)
{
    struct mail *mail;
    struct error e = {0};

    if (mail_open(s->view, entry->seq, &mail, &e) < 0) {
        q->issued = q->issued || e.class == ERROR_EXPUNGED;
        return;
    }
    if (read_headers(r, mail, entry, &e) < 0 && e.class != ERROR_EXPUNGED)
        log_error_value(&s->log, &e);
    mail_close(&mail);
}

/* ---- ids to nodes ------------------------------------------------------------------------------------------------------- */

struct ids {
    struct slice *at;          /* sorted, each once */
    struct node *nodes;
    size_t count;
};

static int compare_slices(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static struct ids collect_ids(struct arena *arena, const struct thread *t)
{
    struct ids ids = {0};
    VEC(struct slice) all = {0};

    for (uint32_t i = 0; i < t->count; i++) {
        if (t->entries[i].id.size > 0)
            VEC_PUSH(&all, t->entries[i].id);
        for (size_t k = 0; k < t->entries[i].count; k++)
            VEC_PUSH(&all, t->entries[i].references[k]);
    }
    if (all.count > 0)
        qsort(all.at, all.count, sizeof(*all.at), compare_slices);
    for (size_t i = 0; i < all.count; i++) {
        if (ids.count == 0 || !slice_equal(all.at[i], all.at[ids.count - 1]))
            all.at[ids.count++] = all.at[i];
    }
    ids.at = arena_copy(arena, all.at, ids.count * sizeof(*all.at));
    ids.nodes = ARENA_ARRAY(arena, struct node, ids.count + 1);
    VEC_FREE(&all);
    return ids;
}

static struct node *find_node(const struct ids *ids, struct slice id)
{
    const struct slice *at = bsearch(&id, ids->at, ids->count, sizeof(*ids->at), compare_slices);

    return at == NULL ? NULL : &ids->nodes[at - ids->at];
}

/* May `child` hang below `parent`? Not where that made a loop, nor too deep. */
static bool may_link(const struct node *parent, const struct node *child)
{
    unsigned steps = 0;

    for (const struct node *n = parent; n != NULL; n = n->parent) {
        if (n == child || steps++ > DEPTH_MAX)
            return false;
    }
    return true;
}

/* Links of one message: its references to each other, then itself to the last of them. */
static void link_entry(const struct ids *ids, const struct entry *entry, struct node *self)
{
    struct node *above = NULL;

    for (size_t i = 0; i < entry->count; i++) {
        struct node *n = find_node(ids, entry->references[i]);

        if (above != NULL && n->parent == NULL && may_link(above, n))
            n->parent = above;
        above = n;
    }
    if (self->parent != above) { /* what others said of this message gives way to what it says itself */
        self->parent = NULL;
        if (above != NULL && may_link(above, self))
            self->parent = above;
    }
}

/* ---- trees -------------------------------------------------------------------------------------------------------------- */

/* A missing message stands where its first child would (imap 11.7). */
static uint32_t place_of(const struct node *n)
{
    while (n->seq == 0 && n->children != NULL)
        n = n->children;
    return n->seq;
}

static int compare_nodes(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    uint32_t p, q;

    if (x->date != y->date)
        return x->date < y->date ? -1 : 1;
    p = place_of(x);
    q = place_of(y);
    return p < q ? -1 : p > q;
}

static struct node *sort_list(struct node *list)
{
    VEC(struct node *) all = {0};
    struct node *first = NULL;

    for (; list != NULL; list = list->next)
        VEC_PUSH(&all, list);
    if (all.count > 1)
        qsort(all.at, all.count, sizeof(*all.at), compare_nodes);
    for (size_t i = all.count; i-- > 0;) {
        all.at[i]->next = first;
        first = all.at[i];
    }
    VEC_FREE(&all);
    return first;
}

/* Takes missing messages out where they hold nothing together, and sorts by date. At most DEPTH_MAX deep, twice. */
static struct node *prune(struct node *list, bool root)
{
    struct node *kept = NULL, *next;

    for (; list != NULL; list = next) {
        next = list->next;
        list->children = prune(list->children, false);
        if (list->seq == 0 && list->children == NULL)
            continue;
        if (list->seq == 0 && (!root || list->children->next == NULL)) {
            for (struct node *c = list->children, *after; c != NULL; c = after) {
                after = c->next;
                c->next = kept;
                kept = c;
            }
            continue;
        }
        if (list->seq == 0) {
            list->date = list->children->date;
            list->subject = list->children->subject;
            list->reply = list->children->reply;
        }
        list->next = kept;
        kept = list;
    }
    return sort_list(kept);
}

static struct node *append_list(struct node *list, struct node *more)
{
    struct node **end = &list;

    while (*end != NULL)
        end = &(*end)->next;
    *end = more;
    return list;
}

static struct node *make_roots(struct arena *arena, struct thread *t)
{
    struct ids ids = collect_ids(arena, t);
    struct node **all = ARENA_ARRAY(arena, struct node *, ids.count + t->count + 1), *roots = NULL;
    size_t count = 0;

    for (size_t i = 0; i < ids.count; i++)
        all[count++] = &ids.nodes[i];
    for (uint32_t i = 0; i < t->count; i++) {
        const struct entry *entry = &t->entries[i];
        struct node *self = entry->id.size == 0 ? NULL : find_node(&ids, entry->id);

        if (self == NULL || self->seq != 0) /* no id, or another message has it: a node of its own */
            self = all[count++] = ARENA_NEW(arena, struct node);
        self->seq = entry->seq;
        self->date = entry->date;
        self->subject = entry->subject;
        self->reply = entry->reply;
        link_entry(&ids, entry, self);
    }
    for (size_t i = count; i-- > 0;) {
        struct node **list = all[i]->parent == NULL ? &roots : &all[i]->parent->children;

        all[i]->next = *list;
        *list = all[i];
    }
    return prune(roots, true);
}

/* ---- merging by subject (RFC 5256 section 3, REFERENCES step 5) ------------------------------------------------------------ */

struct subject_root {
    struct node *root;
    size_t place;
};

static int compare_subjects(const void *a, const void *b)
{
    const struct subject_root *x = a, *y = b;
    int d = slice_compare(x->root->subject, y->root->subject);

    return d != 0 ? d : x->place < y->place ? -1 : x->place > y->place;
}

static void merge_group(struct arena *arena, struct subject_root *group, size_t count)
{
    struct node *top = group[0].root, *made;

    for (size_t i = 1; i < count; i++) {
        struct node *n = group[i].root;

        if ((top->seq != 0 && n->seq == 0) || (top->seq != 0 && n->seq != 0 && top->reply && !n->reply))
            top = n;
    }
    for (size_t i = 0; i < count; i++) {
        struct node *n = group[i].root;

        if (n == top)
            continue;
        group[i].root = NULL;
        n->next = NULL;
        if (top->seq == 0 && n->seq == 0) {
            top->children = append_list(top->children, n->children);
        } else if (top->seq == 0 || (n->reply && !top->reply)) {
            top->children = append_list(top->children, n);
        } else {
            made = ARENA_NEW(arena, struct node);
            top->children = sort_list(top->children);
            top->next = n;
            made->children = top;
            for (size_t k = 0; k < count; k++) {
                if (group[k].root == top)
                    group[k].root = made;
            }
            top = made;
        }
    }
    top->children = sort_list(top->children);
    if (top->seq == 0)
        top->date = top->children->date;
}

static struct node *merge_subjects(struct arena *arena, struct node *roots)
{
    VEC(struct subject_root) all = {0};
    struct node *merged = NULL;

    for (struct node *n = roots; n != NULL; n = n->next) {
        struct subject_root r = {n, all.count};
        VEC_PUSH(&all, r);
    }
    if (all.count > 1)
        qsort(all.at, all.count, sizeof(*all.at), compare_subjects);
    for (size_t i = 0, end; i < all.count; i = end) {
        struct slice subject = all.at[i].root->subject;

        for (end = i + 1; end < all.count && slice_equal(all.at[end].root->subject, subject); end++) {
        }
        if (subject.size > 0 && end > i + 1)
            merge_group(arena, &all.at[i], end - i);
    }
    for (size_t i = 0; i < all.count; i++) {
        if (all.at[i].root != NULL) {
            all.at[i].root->next = merged;
            merged = all.at[i].root;
        }
    }
    VEC_FREE(&all);
    return sort_list(merged);
}

/* ---- REFS: threads by their newest message; ORDEREDSUBJECT ------------------------------------------------------------------ */

static int64_t newest(const struct node *n)
{
    int64_t date = n->seq == 0 ? INT64_MIN : n->date;

    for (const struct node *c = n->children; c != NULL; c = c->next) {
        int64_t d = newest(c);

        if (d > date)
            date = d;
    }
    return date;
}

static struct node *sort_by_newest(struct node *roots)
{
    for (struct node *n = roots; n != NULL; n = n->next)
        n->date = newest(n);
    return sort_list(roots);
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    int d = slice_compare(x->subject, y->subject);

    if (d != 0)
        return d;
    if (x->date != y->date)
        return x->date < y->date ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static struct node *by_subject(struct arena *arena, struct thread *t)
{
    struct entry **all = ARENA_ARRAY(arena, struct entry *, t->count + 1);
    struct node *roots = NULL, *root = NULL, **end = NULL;
    size_t count = 0;

    for (uint32_t i = 0; i < t->count; i++)
        all[count++] = &t->entries[i];
    if (count > 1)
        qsort(all, count, sizeof(*all), compare_entries);
    for (size_t i = 0; i < count; i++) {
        struct node *n = ARENA_NEW(arena, struct node);

        n->seq = all[i]->seq;
        n->date = all[i]->date;
        if (i == 0 || !slice_equal(all[i]->subject, all[i - 1]->subject)) {
            root = n;
            end = &root->children;
            n->next = roots;
            roots = n;
        } else {
            *end = n;
            end = &n->next;
        }
    }
    return sort_list(roots);
}

/* ---- output ------------------------------------------------------------------------------------------------------------- */

static void put_number(struct session *s, struct request *r, struct buffer *out, uint32_t seq)
{
    buffer_append_number(out, r->uid ? index_view_uid(mailbox_view_index(s->view), seq) : seq);
}

static void put_node(struct session *s, struct request *r, struct buffer *out, const struct node *n)
{
    buffer_append_byte(out, '(');
    for (;;) { /* only children in a row stand flat */
        if (n->seq != 0) {
            put_number(s, r, out, n->seq);
            if (n->children != NULL)
                buffer_append_byte(out, ' ');
        }
        if (n->children == NULL || n->children->next != NULL)
            break;
        n = n->children;
    }
    for (const struct node *c = n->children; c != NULL; c = c->next)
        put_node(s, r, out, c);
    buffer_append_byte(out, ')');
}

/* MORE: the slice is used up. */
static enum step read_entries(struct session *s, struct request *r, struct search *q, struct budget *budget)
{
    struct thread *t = q->thread;

    if (t->entries == NULL)
        t->entries = arena_array(r->arena, (size_t)imap_ranges_count(&q->hits) + 1, sizeof(*t->entries));
    while ((q->hit = imap_ranges_next(&q->hits, &q->hit_at, t->last)) != 0) {
        if (budget_spent(budget, 1))
            return STEP_MORE;
        t->last = t->entries[t->count].seq = q->hit;
        read_entry(s, r, q, &t->entries[t->count++]);
    }
    return STEP_DONE;
}

static struct node *build(struct request *r, struct thread *t)
{
    struct node *roots = t->kind == THREAD_ORDEREDSUBJECT ? by_subject(r->arena, t) : make_roots(r->arena, t);

    if (t->kind == THREAD_REFERENCES)
        return merge_subjects(r->arena, roots);
    return t->kind == THREAD_REFS ? sort_by_newest(roots) : roots;
}

static bool has_member(const struct node *n, const struct index_ranges *wanted)
{
    if (n->seq != 0 && index_ranges_has(wanted, n->seq))
        return true;
    for (const struct node *c = n->children; c != NULL; c = c->next) {
        if (has_member(c, wanted))
            return true;
    }
    return false;
}

typedef VEC(uint32_t) numbers;

static void collect_members(const struct node *n, numbers *out)
{
    if (n->seq != 0)
        VEC_PUSH(out, n->seq);
    for (const struct node *c = n->children; c != NULL; c = c->next)
        collect_members(c, out);
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

enum step thread_members(struct session *s, struct request *r, struct search *q, const struct index_ranges *wanted,
                         struct index_ranges *out, struct budget *budget)
{
    numbers members = {0};

    if (read_entries(s, r, q, budget) != STEP_DONE)
        return STEP_MORE;
    for (const struct node *root = build(r, q->thread); root != NULL; root = root->next) {
        if (has_member(root, wanted))
            collect_members(root, &members);
    }
    if (members.count > 0)
        qsort(members.at, members.count, sizeof(*members.at), compare_numbers);
    for (size_t i = 0; i < members.count; i++)
        index_ranges_add(out, members.at[i], members.at[i]);
    VEC_FREE(&members);
    return STEP_DONE;
}

enum step thread_run(struct session *s, struct request *r, struct search *q, struct budget *budget)
{
    struct node *roots;
    struct buffer out = {0};

    if (read_entries(s, r, q, budget) != STEP_DONE)
        return STEP_MORE;
    roots = build(r, q->thread);
    buffer_append_str(&out, "* THREAD ");
    for (; roots != NULL; roots = roots->next)
        put_node(s, r, &out, roots);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    return STEP_DONE;
}
