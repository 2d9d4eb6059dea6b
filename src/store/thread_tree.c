/* thread_tree.c - the trees of THREAD (RFC 5256; imap 11.7, oracle-build 1.4).
 *
 * Message ids are found by sorting: by a hash in linear time, and those with the same hash by their bytes, so that nobody who chooses
 * collisions makes it worse than O(n log n). A link whose parent stands deeper than THREAD_DEPTH_MAX is dropped, which bounds
 * the walks up the tree and the recursion down. */
#include "store/order.h"
#include "store/thread_tree.h"

#include <stdlib.h>

enum { MANY = 256 };               /* so many are sorted in linear time; its tables cost too much for few */

/* ---- ids to nodes ------------------------------------------------------------------------------------------------------- */

struct ids {
    struct thread_node *nodes;
    size_t count;
    uint32_t *node_of;         /* by place: of each entry first its own id, if it has one, then its references */
};

static uint64_t hash(struct slice id)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < id.size; i++)
        h = (h ^ id.at[i]) * 0x100000001b3u;
    return (h ^ h >> 32) & UINT32_MAX;
}

struct placed_id {
    struct slice id;
    uint32_t place;
};

static int compare_ids(const void *a, const void *b)
{
    return slice_compare(((const struct placed_id *)a)->id, ((const struct placed_id *)b)->id);
}

/* A run of the same hash: nearly always of the same id. */
static void sort_run(const struct slice *ids, uint32_t *run, uint32_t count)
{
    struct placed_id *placed;
    uint32_t same = 1;

    while (same < count && slice_equal(ids[run[same]], ids[run[0]]))
        same++;
    if (same == count)
        return;
    placed = mem_alloc(count * sizeof(*placed));
    for (uint32_t i = 0; i < count; i++)
        placed[i] = (struct placed_id){ids[run[i]], run[i]};
    qsort(placed, count, sizeof(*placed), compare_ids);
    for (uint32_t i = 0; i < count; i++)
        run[i] = placed[i].place;
    mem_free(placed);
}

/* A node for each id, however often it occurs. */
static void number_ids(struct ids *ids, const struct slice *all, uint32_t count)
{
    uint64_t *hashes = mem_alloc(((size_t)count + 1) * sizeof(*hashes));
    struct order order;

    for (uint32_t i = 0; i < count; i++)
        hashes[i] = hash(all[i]);
    order_init(&order, count);
    order_by(&order, hashes, false);
    for (uint32_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && hashes[order.at[end]] == hashes[order.at[first]]; end++) {
        }
        sort_run(all, order.at + first, end - first);
        for (uint32_t i = first; i < end; i++) {
            ids->count += i == first || !slice_equal(all[order.at[i]], all[order.at[i - 1]]);
            ids->node_of[order.at[i]] = (uint32_t)ids->count - 1;
        }
    }
    order_free(&order);
    mem_free(hashes);
}

static struct ids collect_ids(struct arena *arena, const struct thread_entry *entries, uint32_t count)
{
    struct ids ids = {0};
    VEC(struct slice) all = {0};

    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].id.size > 0)
            VEC_PUSH(&all, entries[i].id);
        for (size_t k = 0; k < entries[i].count; k++)
            VEC_PUSH(&all, entries[i].references[k]);
    }
    ids.node_of = ARENA_ARRAY(arena, uint32_t, all.count + 1);
    number_ids(&ids, all.at, (uint32_t)all.count);
    ids.nodes = ARENA_ARRAY(arena, struct thread_node, ids.count + 1);
    VEC_FREE(&all);
    return ids;
}

static bool may_link(const struct thread_node *parent, const struct thread_node *child)
{
    unsigned steps = 0;

    for (const struct thread_node *n = parent; n != NULL; n = n->parent) {
        if (n == child || steps++ > THREAD_DEPTH_MAX)
            return false;
    }
    return true;
}

/* Links of one message: its references to each other, then itself to the last of them. */
static void link_entry(const struct ids *ids, const struct thread_entry *entry, const uint32_t *references, struct thread_node *self)
{
    struct thread_node *above = NULL;

    for (size_t i = 0; i < entry->count; i++) {
        struct thread_node *n = &ids->nodes[references[i]];

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

/* A missing message stands where its first child would (imap 11.7); in REFS what hangs below one stands before the others. */
static uint64_t place_of(const struct thread_node *n)
{
    if (n->named != 0)
        return n->named;
    while (n->seq == 0 && n->children != NULL)
        n = n->children;
    return (uint64_t)1 << 32 | n->seq;
}

static int compare_nodes(const void *a, const void *b)
{
    const struct thread_node *x = *(struct thread_node *const *)a, *y = *(struct thread_node *const *)b;
    uint64_t p, q;

    if (x->date != y->date)
        return x->date < y->date ? -1 : 1;
    p = place_of(x);
    q = place_of(y);
    return p < q ? -1 : p > q;
}

/* The same order for many: by place, then, stable, by date. */
static void order_nodes(struct thread_node **all, uint32_t count)
{
    uint64_t *numbers = mem_alloc(count * sizeof(*numbers));
    struct thread_node **copy = mem_alloc(count * sizeof(struct thread_node *));
    struct order order;

    memcpy(copy, all, count * sizeof(struct thread_node *));
    order_init(&order, count);
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = place_of(copy[i]);
    order_by(&order, numbers, false);
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = (uint64_t)copy[i]->date ^ (uint64_t)1 << 63; /* signed numbers in unsigned order */
    order_by(&order, numbers, false);
    for (uint32_t i = 0; i < count; i++)
        all[i] = copy[order.at[i]];
    order_free(&order);
    mem_free(numbers);
    mem_free(copy);
}

/* By date, then by place. */
static struct thread_node *sort_list(struct thread_node *list)
{
    VEC(struct thread_node *) all = {0};
    struct thread_node *first = NULL;

    if (list == NULL || list->next == NULL)
        return list;
    for (; list != NULL; list = list->next)
        VEC_PUSH(&all, list);
    if (all.count < MANY)
        qsort(all.at, all.count, sizeof(*all.at), compare_nodes);
    else
        order_nodes(all.at, (uint32_t)all.count);
    for (size_t i = all.count; i-- > 0;) {
        all.at[i]->next = first;
        first = all.at[i];
    }
    VEC_FREE(&all);
    return first;
}

/* Takes missing messages out where they hold nothing together, and sorts by date. At most THREAD_DEPTH_MAX deep, twice. */
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
                c->named = root ? list->named : 0;
                c->next = kept;
                kept = c;
            }
            continue;
        }
        if (list->seq == 0) {
            list->date = list->children->date;
            list->about = list->children->about;
        }
        list->next = kept;
        kept = list;
    }
    return sort_list(kept);
}

/* Numbers those that are missing in the order in which they are referred to. */
static void name_missing(const struct ids *ids, const struct thread_entry *entries, uint32_t entry_count)
{
    const uint32_t *node_of = ids->node_of;
    uint32_t named = 0;

    for (uint32_t i = 0; i < entry_count; i++) {
        node_of += entries[i].id.size > 0;
        for (size_t k = 0; k < entries[i].count; k++, node_of++) {
            struct thread_node *n = &ids->nodes[*node_of];

            if (n->seq == 0 && n->named == 0)
                n->named = ++named;
        }
    }
}

static struct thread_node *make_roots(struct arena *arena, enum thread_kind kind, const struct thread_entry *entries, uint32_t entry_count)
{
    struct ids ids = collect_ids(arena, entries, entry_count);
    struct thread_node **all = ARENA_ARRAY(arena, struct thread_node *, ids.count + entry_count + 1), *roots = NULL;
    const uint32_t *node_of = ids.node_of;
    size_t count = 0;

    for (size_t i = 0; i < ids.count; i++)
        all[count++] = &ids.nodes[i];
    for (uint32_t i = 0; i < entry_count; i++) {
        const struct thread_entry *entry = &entries[i];
        struct thread_node *self = entry->id.size == 0 ? NULL : &ids.nodes[*node_of++];

        if (self == NULL || self->seq != 0) /* no id, or another message has it: a node of its own */
            self = all[count++] = ARENA_NEW(arena, struct thread_node);
        self->seq = entry->seq;
        self->date = entry->date;
        self->about = entry;
        link_entry(&ids, entry, node_of, self);
        node_of += entry->count;
    }
    if (kind == THREAD_REFS)
        name_missing(&ids, entries, entry_count);
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
    uint64_t subject;
};

typedef VEC(struct subject_root) subject_roots;

static bool is_reply(const struct thread_node *n)
{
    return n->about != NULL && n->about->reply;
}

/* The roots by subject, those of the same in their order. */
static subject_roots by_subject_number(struct thread_node *list)
{
    subject_roots all = {0};
    struct subject_root *sorted;
    uint64_t *numbers;
    struct order order;

    for (; list != NULL; list = list->next)
        VEC_PUSH(&all, ((struct subject_root){list, list->about != NULL ? list->about->subject : 0}));
    numbers = mem_alloc((all.count + 1) * sizeof(*numbers));
    sorted = mem_alloc((all.count + 1) * sizeof(*sorted));
    for (size_t i = 0; i < all.count; i++)
        numbers[i] = all.at[i].subject;
    order_init(&order, (uint32_t)all.count);
    order_by(&order, numbers, false);
    for (size_t i = 0; i < all.count; i++)
        sorted[i] = all.at[order.at[i]];
    order_free(&order);
    mem_free(numbers);
    mem_free(all.at);
    all.at = sorted;
    return all;
}

/* Behind the last root with the subject of this one. */
static size_t group_end(const subject_roots *all, size_t first)
{
    size_t end = first + 1;

    while (end < all->count && all->at[end].subject == all->at[first].subject)
        end++;
    return end;
}

uint32_t thread_doubtful(struct arena *arena, struct thread_node *list, const struct thread_entry ***out)
{
    subject_roots all = by_subject_number(list);
    const struct thread_entry **doubtful = ARENA_ARRAY(arena, const struct thread_entry *, all.count + 1);
    uint32_t count = 0;

    for (size_t i = 0, end; i < all.count; i = end) {
        end = group_end(&all, i);
        for (size_t k = i; k < end && end > i + 1; k++) {
            if (all.at[k].root->about != NULL)
                doubtful[count++] = all.at[k].root->about;
        }
    }
    VEC_FREE(&all);
    *out = doubtful;
    return count;
}

/* The tail of the list that begins at *from. */
static struct thread_node **tail_of(struct thread_node **from)
{
    while (*from != NULL)
        from = &(*from)->next;
    return from;
}

/* A missing message over the two of them takes the first one's place in the group. */
static struct thread_node *put_above(struct arena *arena, struct subject_root *group, size_t count, struct thread_node *top,
                                     struct thread_node *other)
{
    struct thread_node *made = ARENA_NEW(arena, struct thread_node);

    top->children = sort_list(top->children);
    top->next = other;
    made->children = top;
    for (size_t k = 0; k < count; k++) {
        if (group[k].root == top)
            group[k].root = made;
    }
    return made;
}

static void merge_group(struct arena *arena, struct subject_root *group, size_t count)
{
    struct thread_node *top = group[0].root, **tail;

    for (size_t i = 1; i < count; i++) {
        struct thread_node *n = group[i].root;

        if ((top->seq != 0 && n->seq == 0) || (top->seq != 0 && n->seq != 0 && is_reply(top) && !is_reply(n)))
            top = n;
    }
    tail = tail_of(&top->children);
    for (size_t i = 0; i < count; i++) {
        struct thread_node *n = group[i].root;

        if (n == top)
            continue;
        group[i].root = NULL;
        n->next = NULL;
        if (top->seq == 0 && n->seq == 0) {
            *tail = n->children;
        } else if (top->seq == 0 || (is_reply(n) && !is_reply(top))) {
            *tail = n;
        } else { /* once: the new top is a missing one */
            top = put_above(arena, group, count, top, n);
            tail = &top->children;
        }
        tail = tail_of(tail); /* of what has been added */
    }
    top->children = sort_list(top->children);
    if (top->seq == 0)
        top->date = top->children->date;
}

struct thread_node *thread_merge_subjects(struct arena *arena, struct thread_node *roots)
{
    subject_roots all = by_subject_number(roots);
    struct thread_node *merged = NULL;
    bool any = false;

    for (size_t i = 0, end; i < all.count; i = end) {
        const struct thread_entry *about = all.at[i].root->about;

        end = group_end(&all, i);
        if (end == i + 1 || about == NULL || about->no_subject)
            continue;
        merge_group(arena, &all.at[i], end - i);
        any = true;
    }
    for (size_t i = all.count; any && i-- > 0;) {
        if (all.at[i].root != NULL) {
            all.at[i].root->next = merged;
            merged = all.at[i].root;
        }
    }
    VEC_FREE(&all);
    return any ? sort_list(merged) : roots;
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

static struct thread_node *by_subject(struct arena *arena, const struct thread_entry *entries, uint32_t count)
{
    uint64_t *numbers = mem_alloc(((size_t)count + 1) * sizeof(*numbers));
    struct thread_node *roots = NULL, *root = NULL, **end = NULL;
    struct order order;

    order_init(&order, count); /* entries stand in the order of their numbers */
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = (uint64_t)entries[i].date ^ (uint64_t)1 << 63;
    order_by(&order, numbers, false);
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = entries[i].subject;
    order_by(&order, numbers, false);
    for (uint32_t i = 0; i < count; i++) {
        const struct thread_entry *entry = &entries[order.at[i]];
        struct thread_node *n = ARENA_NEW(arena, struct thread_node);

        n->seq = entry->seq;
        n->date = entry->date;
        n->about = entry;
        if (root == NULL || root->about->subject != entry->subject) {
            root = n;
            end = &root->children;
            n->next = roots;
            roots = n;
        } else {
            *end = n;
            end = &n->next;
        }
    }
    order_free(&order);
    mem_free(numbers);
    return sort_list(roots);
}

struct thread_node *thread_build(struct arena *arena, enum thread_kind kind, const struct thread_entry *entries, uint32_t count)
{
    struct thread_node *roots;

    if (kind == THREAD_ORDEREDSUBJECT)
        return by_subject(arena, entries, count);
    roots = make_roots(arena, kind, entries, count);
    return kind == THREAD_REFS ? sort_by_newest(roots) : roots;
}
