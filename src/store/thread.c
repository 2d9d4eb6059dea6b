/* thread.c - threads (RFC 5256; imap 11.7, oracle-build 1.4): REFERENCES, REFS, ORDEREDSUBJECT.
 *
 * The headers of the messages found are read in steps; then the trees are built at once. Messages outside of the result count
 * as missing. Message ids are found by sorting, not by hashing, so that nobody chooses collisions: O(n log n). A message
 * brings at most REFERENCES_MAX ids, and a link whose parent stands deeper than DEPTH_MAX is dropped, which bounds the
 * walks up the tree and the recursion down. */
#include "store/thread.h"

#include "store/internal.h"

#include <stdlib.h>

enum { REFERENCES_MAX = 1001, DEPTH_MAX = 1000 };

struct entry {                 /* a message of the result */
    uint32_t seq;
    bool reply;
    int64_t date;
    struct slice id, subject;
    struct slice *references;
    size_t count;
};

struct thread {
    struct arena *arena;
    enum thread_kind kind;
    struct entry *entries;
    uint32_t count;
    size_t range;              /* of the messages to read, and the one before the next */
    uint32_t last;
    bool missed;
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

static int read_headers(struct arena *arena, struct mail *mail, struct entry *entry, struct error *e)
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
            entry->id = arena_slice(arena, id);
    }
    if (mime_header_find(block, "References", &field))
        read_ids(arena, field.value, REFERENCES_MAX, entry);
    if (entry->count == 0 && mime_header_find(block, "In-Reply-To", &field))
        read_ids(arena, field.value, 1, entry);
    if (mime_header_find(block, "Subject", &field))
        entry->subject = arena_slice(arena, mime_base_subject(mail_arena(mail), field.value, &entry->reply));
    return 0;
}

static void read_entry(struct thread *t, struct mailbox_view *view, struct entry *entry)
{
    struct mail *mail;
    struct error e = {0};

    if (mail_open(view, entry->seq, &mail, &e) < 0) {
        t->missed = t->missed || e.class == ERROR_EXPUNGED;
        return;
    }
    if (read_headers(t->arena, mail, entry, &e) < 0 && e.class != ERROR_EXPUNGED)
        log_error_value(mailbox_view_box(view)->user->log_p, &e);
    mail_close(&mail);
}

static uint32_t next_seq(struct thread *t, const struct index_ranges *seqs)
{
    while (t->range < seqs->count && t->last >= seqs->at[t->range].last)
        t->range++;
    if (t->range == seqs->count)
        return 0;
    return t->last < seqs->at[t->range].first ? seqs->at[t->range].first : t->last + 1;
}

enum step thread_read(struct thread *t, struct mailbox_view *view, const struct index_ranges *seqs, struct budget *budget)
{
    uint32_t seq;

    if (t->entries == NULL) {
        size_t count = 0;

        for (size_t i = 0; i < seqs->count; i++)
            count += seqs->at[i].last - seqs->at[i].first + 1;
        t->entries = ARENA_ARRAY(t->arena, struct entry, count + 1);
    }
    while ((seq = next_seq(t, seqs)) != 0) {
        if (budget_spent(budget, 1))
            return STEP_MORE;
        t->last = t->entries[t->count].seq = seq;
        read_entry(t, view, &t->entries[t->count++]);
    }
    return STEP_DONE;
}

bool thread_missed(const struct thread *t)
{
    return t->missed;
}

/* ---- ids to nodes ------------------------------------------------------------------------------------------------------- */

struct ids {
    struct slice *at;          /* sorted, each once */
    struct thread_node *nodes;
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
    ids.nodes = ARENA_ARRAY(arena, struct thread_node, ids.count + 1);
    VEC_FREE(&all);
    return ids;
}

static struct thread_node *find_node(const struct ids *ids, struct slice id)
{
    const struct slice *at = bsearch(&id, ids->at, ids->count, sizeof(*ids->at), compare_slices);

    return at == NULL ? NULL : &ids->nodes[at - ids->at];
}

/* May `child` hang below `parent`? Not where that made a loop, nor too deep. */
static bool may_link(const struct thread_node *parent, const struct thread_node *child)
{
    unsigned steps = 0;

    for (const struct thread_node *n = parent; n != NULL; n = n->parent) {
        if (n == child || steps++ > DEPTH_MAX)
            return false;
    }
    return true;
}

/* Links of one message: its references to each other, then itself to the last of them. */
static void link_entry(const struct ids *ids, const struct entry *entry, struct thread_node *self)
{
    struct thread_node *above = NULL;

    for (size_t i = 0; i < entry->count; i++) {
        struct thread_node *n = find_node(ids, entry->references[i]);

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
static uint32_t place_of(const struct thread_node *n)
{
    while (n->seq == 0 && n->children != NULL)
        n = n->children;
    return n->seq;
}

static int compare_nodes(const void *a, const void *b)
{
    const struct thread_node *x = *(struct thread_node *const *)a, *y = *(struct thread_node *const *)b;
    uint32_t p, q;

    if (x->date != y->date)
        return x->date < y->date ? -1 : 1;
    p = place_of(x);
    q = place_of(y);
    return p < q ? -1 : p > q;
}

static struct thread_node *sort_list(struct thread_node *list)
{
    VEC(struct thread_node *) all = {0};
    struct thread_node *first = NULL;

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
static struct thread_node *prune(struct thread_node *list, bool root)
{
    struct thread_node *kept = NULL, *next;

    for (; list != NULL; list = next) {
        next = list->next;
        list->children = prune(list->children, false);
        if (list->seq == 0 && list->children == NULL)
            continue;
        if (list->seq == 0 && (!root || list->children->next == NULL)) {
            for (struct thread_node *c = list->children, *after; c != NULL; c = after) {
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

static struct thread_node *append_list(struct thread_node *list, struct thread_node *more)
{
    struct thread_node **end = &list;

    while (*end != NULL)
        end = &(*end)->next;
    *end = more;
    return list;
}

static struct thread_node *make_roots(struct arena *arena, struct thread *t)
{
    struct ids ids = collect_ids(arena, t);
    struct thread_node **all = ARENA_ARRAY(arena, struct thread_node *, ids.count + t->count + 1), *roots = NULL;
    size_t count = 0;

    for (size_t i = 0; i < ids.count; i++)
        all[count++] = &ids.nodes[i];
    for (uint32_t i = 0; i < t->count; i++) {
        const struct entry *entry = &t->entries[i];
        struct thread_node *self = entry->id.size == 0 ? NULL : find_node(&ids, entry->id);

        if (self == NULL || self->seq != 0) /* no id, or another message has it: a node of its own */
            self = all[count++] = ARENA_NEW(arena, struct thread_node);
        self->seq = entry->seq;
        self->date = entry->date;
        self->subject = entry->subject;
        self->reply = entry->reply;
        link_entry(&ids, entry, self);
    }
    for (size_t i = count; i-- > 0;) {
        struct thread_node **list = all[i]->parent == NULL ? &roots : &all[i]->parent->children;

        all[i]->next = *list;
        *list = all[i];
    }
    return prune(roots, true);
}

/* ---- merging by subject (RFC 5256 section 3, REFERENCES step 5) ------------------------------------------------------------ */

struct subject_root {
    struct thread_node *root;
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
    struct thread_node *top = group[0].root, *made;

    for (size_t i = 1; i < count; i++) {
        struct thread_node *n = group[i].root;

        if ((top->seq != 0 && n->seq == 0) || (top->seq != 0 && n->seq != 0 && top->reply && !n->reply))
            top = n;
    }
    for (size_t i = 0; i < count; i++) {
        struct thread_node *n = group[i].root;

        if (n == top)
            continue;
        group[i].root = NULL;
        n->next = NULL;
        if (top->seq == 0 && n->seq == 0) {
            top->children = append_list(top->children, n->children);
        } else if (top->seq == 0 || (n->reply && !top->reply)) {
            top->children = append_list(top->children, n);
        } else {
            made = ARENA_NEW(arena, struct thread_node);
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

static struct thread_node *merge_subjects(struct arena *arena, struct thread_node *roots)
{
    VEC(struct subject_root) all = {0};
    struct thread_node *merged = NULL;

    for (struct thread_node *n = roots; n != NULL; n = n->next) {
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

static int64_t newest(const struct thread_node *n)
{
    int64_t date = n->seq == 0 ? INT64_MIN : n->date;

    for (const struct thread_node *c = n->children; c != NULL; c = c->next) {
        int64_t d = newest(c);

        if (d > date)
            date = d;
    }
    return date;
}

static struct thread_node *sort_by_newest(struct thread_node *roots)
{
    for (struct thread_node *n = roots; n != NULL; n = n->next)
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

static struct thread_node *by_subject(struct arena *arena, struct thread *t)
{
    struct entry **all = ARENA_ARRAY(arena, struct entry *, t->count + 1);
    struct thread_node *roots = NULL, *root = NULL, **end = NULL;
    size_t count = 0;

    for (uint32_t i = 0; i < t->count; i++)
        all[count++] = &t->entries[i];
    if (count > 1)
        qsort(all, count, sizeof(*all), compare_entries);
    for (size_t i = 0; i < count; i++) {
        struct thread_node *n = ARENA_NEW(arena, struct thread_node);

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

/* ---- the result --------------------------------------------------------------------------------------------------------- */

static struct thread_node *build(struct thread *t)
{
    struct thread_node *roots = t->kind == THREAD_ORDEREDSUBJECT ? by_subject(t->arena, t) : make_roots(t->arena, t);

    if (t->kind == THREAD_REFERENCES)
        return merge_subjects(t->arena, roots);
    return t->kind == THREAD_REFS ? sort_by_newest(roots) : roots;
}

const struct thread_node *thread_roots(struct thread *t)
{
    return build(t);
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

    for (const struct thread_node *root = build(t); root != NULL; root = root->next) {
        if (has_member(root, wanted))
            collect_members(root, &members);
    }
    if (members.count > 0)
        qsort(members.at, members.count, sizeof(*members.at), compare_numbers);
    for (size_t i = 0; i < members.count; i++)
        index_ranges_add(out, members.at[i], members.at[i]);
    VEC_FREE(&members);
}
