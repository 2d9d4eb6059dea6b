/* rank.c - ranks of messages by a text of their header, kept in the index (rank.h, docs/formats/index.md).
 *
 * The rules that all who write them keep: equal texts have equal ranks, of two different texts the smaller one has the smaller
 * rank, 0 is none, and messages without one stand behind those that have one. Whoever writes raises the extension's reset
 * id by one; ranks computed for another reset id than the one of that moment are thrown away, since others have
 * moved numbers meanwhile. So nobody holds a lock while texts are read.
 *
 * Completing: the texts of messages without a rank are read and sorted; where each stands among those that have a rank is found by
 * galloping search, which reads the texts of few (one message speaks for all of its rank). New ranks share the room between
 * their neighbours evenly; where there is no room, neighbours move until there is (rank_room.c). What is read on the way is
 * checked, and some over the whole range: texts out of order, or two under one rank, and all ranks are made anew.
 *
 * What may go wrong: a message vanishes meanwhile (it counts as one without text), or cannot be read (no ranks are written, the
 * caller sorts by texts and hears of it there). */
#include "store/internal.h"
#include "store/rank.h"
#include "store/rank_room.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum phase { RANKS_NEW, RANKS_READ, RANKS_PLACE, RANKS_DONE };

enum {
    WORTH_MESSAGES = 64,           /* below so many the texts are read as fast as ranks */
    FEW = 100,                     /* less than one of so many: a text is read in the time of that many ranks */
    SPOTS = 8                      /* groups over the whole range whose order is looked at whatever is to be placed */
};

struct fresh {                     /* a message that has no rank yet */
    struct slice text;
    uint32_t at;                   /* its position in the head */
};

struct group {                     /* messages of one rank */
    uint32_t rank, first, count;   /* in `order` */
    bool read, gone;
    struct slice text;
};

struct ranks {
    struct arena *arena;
    struct mailbox *box;
    struct index_view *view;
    enum rank_key key;
    unsigned ext;
    bool exists;
    uint32_t reset_id, uid_validity;
    uint32_t count, shown;         /* messages of the head; those that the view shows, too */
    uint32_t *uids, *ranks;        /* of the head, as it was */
    uint32_t near;                 /* where the last one was found */

    enum phase phase;
    bool made_anew;
    uint32_t next;                 /* position to be read, or fresh text to be placed */
    struct fresh *fresh;
    uint32_t fresh_count;
    uint32_t *order;               /* positions, by rank */
    struct group *groups;
    uint32_t group_count, searched_to, spots;
    uint32_t *places;              /* of a run of equal fresh texts: the group it comes before */
    bool *joins;                   /* ... or which it belongs to */
};

static const char *name_of(enum rank_key key)
{
    static const char *const names[RANK_KEYS] = {"sort-c", "sort-f", "sort-s", "sort-t", "sort-df", "sort-dt"};

    return names[key];
}

static void __attribute__((format(printf, 2, 3))) report_broken(const struct ranks *r, const char *fmt, ...)
{
    char why[200];
    va_list args;

    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    log_error(r->box->user->log_p, "Mailbox %s: Broken %s indexes, resetting: %s", r->box->place.vname, name_of(r->key), why);
}

/* ---- what there is ------------------------------------------------------------------------------------------------------- */

/* None of them counts. Those of messages that the view does not show yet must be made anew with the others. */
static void distrust(struct ranks *r)
{
    memset(r->ranks, 0, r->count * sizeof(*r->ranks));
    r->shown = r->count;
}

/* Nobody leaves a message out: one without a rank in front of one that has one is a fault. */
static void check_gaps(struct ranks *r)
{
    uint32_t none = 0;

    for (uint32_t i = 0; i < r->count; i++) {
        if (r->ranks[i] == 0 && none == 0)
            none = r->uids[i];
        if (r->ranks[i] == 0 || none == 0)
            continue;
        report_broken(r, "sort_id=0 found in the middle (uid=%u has sort_id, uid=%u doesn't)", r->uids[i], none);
        distrust(r);
        return;
    }
}

struct ranks *ranks_new(struct arena *arena, struct mailbox_view *view, enum rank_key key, uint64_t messages)
{
    struct index *index = view->box->index;
    struct index_status status;
    struct ranks *r;

    if (messages < index_count(index) / FEW)
        return NULL;
    r = ARENA_NEW(arena, struct ranks);
    r->arena = arena;
    r->box = view->box;
    r->view = view->view;
    r->key = key;
    r->ext = index_ext(index, &(struct index_ext_def){name_of(key), 0, 4, 4, false});
    index_status(index, &status);
    r->uid_validity = status.uid_validity;
    r->reset_id = index_ext_reset_id(index, r->ext);
    r->count = index_count(index);
    r->uids = ARENA_ARRAY(arena, uint32_t, r->count + 1);
    r->ranks = ARENA_ARRAY(arena, uint32_t, r->count + 1);
    r->exists = index_ext_numbers(index, r->ext, r->uids, r->ranks);
    while (r->shown < r->count && r->uids[r->shown] < index_view_next_uid(r->view))
        r->shown++;
    check_gaps(r);
    return r;
}

/* Its position in the head; count when it is not there. */
static uint32_t find_uid(struct ranks *r, uint32_t uid)
{
    uint32_t low = 0, high = r->count;

    if (r->near < r->count && r->uids[r->near] == uid)
        return r->near;
    if (r->near + 1 < r->count && r->uids[r->near + 1] == uid)
        return ++r->near;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (r->uids[middle] < uid)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == r->count || r->uids[low] != uid)
        return r->count;
    return r->near = low;
}

uint32_t ranks_of(struct ranks *r, uint32_t uid)
{
    uint32_t at = find_uid(r, uid);

    return at < r->count ? r->ranks[at] : 0;
}

bool ranks_cover(struct ranks *r, const struct index_ranges *seqs)
{
    for (size_t i = 0; i < seqs->count; i++) {
        for (uint32_t seq = seqs->at[i].first; seq <= seqs->at[i].last; seq++) {
            uint32_t at = find_uid(r, index_view_uid(r->view, seq));

            if (at < r->count && r->ranks[at] == 0)
                return false;
        }
    }
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

/* 1: read; 0: the message has gone; -1: it cannot be read. */
static int read_text(const struct ranks *r, uint32_t at, struct slice *text)
{
    struct error e = {0};
    struct mail *mail;
    int got;

    if (mail_open_uid(r->box, r->uids[at], &mail, &e) < 0)
        return e.class == ERROR_EXPUNGED ? 0 : -1;
    got = mail_sort_text(mail, r->key, text, &e);
    if (got == 0)
        *text = arena_slice(r->arena, *text);
    mail_close(&mail);
    return got == 0 ? 1 : e.class == ERROR_EXPUNGED ? 0 : -1;
}

static bool worth_it(const struct ranks *r, const struct index_ranges *seqs)
{
    struct index *index = r->box->index;
    uint64_t wanted = 0, missing = 0;

    for (size_t i = 0; i < seqs->count; i++)
        wanted += (uint64_t)seqs->at[i].last - seqs->at[i].first + 1;
    for (uint32_t i = 0; i < r->shown; i++)
        missing += r->ranks[i] == 0;
    if (missing > 2 * wanted)
        return false;
    return r->exists || (r->shown >= WORTH_MESSAGES && !index_read_only(index) && !index_in_memory(index));
}

/* All are fresh, or what has no rank. */
static void begin_reading(struct ranks *r)
{
    if (r->fresh == NULL)
        r->fresh = ARENA_ARRAY(r->arena, struct fresh, r->shown + 1);
    r->fresh_count = r->next = 0;
    r->phase = RANKS_READ;
}

static enum step read_fresh(struct ranks *r, struct budget *budget)
{
    while (r->next < r->shown) {
        uint32_t at = r->next++;
        struct slice text;
        int got;

        if (r->ranks[at] != 0)
            continue;
        got = read_text(r, at, &text);
        if (got < 0)
            return STEP_ERROR;
        r->fresh[r->fresh_count++] = (struct fresh){got > 0 ? text : SLICE(""), at}; /* gone, and nobody has noticed yet: no gap */
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    return STEP_DONE;
}

static int compare_fresh(const void *a, const void *b)
{
    const struct fresh *x = a, *y = b;
    int d = slice_compare(x->text, y->text);

    return d != 0 ? d : x->at < y->at ? -1 : x->at > y->at;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void make_groups(struct ranks *r)
{
    uint64_t *sorted;
    uint32_t ranked = 0, count = 0;

    for (uint32_t i = 0; i < r->count; i++)
        ranked += r->ranks[i] != 0;
    sorted = ARENA_ARRAY(r->arena, uint64_t, ranked + 1);
    r->group_count = r->searched_to = 0;
    r->order = ARENA_ARRAY(r->arena, uint32_t, ranked + 1);
    r->groups = ARENA_ARRAY(r->arena, struct group, ranked + 1);
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->ranks[i] != 0)
            sorted[count++] = (uint64_t)r->ranks[i] << 32 | i;
    }
    if (count > 1)
        qsort(sorted, count, sizeof(*sorted), compare_numbers);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t rank = (uint32_t)(sorted[i] >> 32);

        r->order[i] = (uint32_t)sorted[i];
        if (r->group_count == 0 || r->groups[r->group_count - 1].rank != rank)
            r->groups[r->group_count++] = (struct group){.rank = rank, .first = i};
        r->groups[r->group_count - 1].count++;
    }
}

/* Texts that were read are sorted, and the search among the others begins. */
static void begin_placing(struct ranks *r)
{
    if (r->fresh_count > 1)
        qsort(r->fresh, r->fresh_count, sizeof(*r->fresh), compare_fresh);
    make_groups(r);
    r->places = ARENA_ARRAY(r->arena, uint32_t, r->fresh_count + 1);
    r->joins = ARENA_ARRAY(r->arena, bool, r->fresh_count + 1);
    r->next = r->spots = 0;
    r->phase = RANKS_PLACE;
}

/* ---- placing ------------------------------------------------------------------------------------------------------------- */

/* The first that is still there speaks for all; the last one must say the same. -1: cannot be read, or they contradict
 * each other (*broken). */
static int read_group(struct ranks *r, struct group *g, bool *broken)
{
    struct slice other;

    if (g->read || g->gone)
        return 0;
    for (uint32_t i = 0; i < g->count && !g->read; i++) {
        int got = read_text(r, r->order[g->first + i], &g->text);

        if (got < 0)
            return -1;
        g->read = got > 0;
    }
    g->gone = !g->read;
    if (g->gone || g->count == 1)
        return 0;
    switch (read_text(r, r->order[g->first + g->count - 1], &other)) {
    case 0:
        return 0;
    case 1:
        if (slice_equal(g->text, other))
            return 0;
        report_broken(r, "Equal sort_id of '%.*s' and '%.*s'", (int)slice_head(g->text, 60).size, (const char *)g->text.at,
                      (int)slice_head(other, 60).size, (const char *)other.at);
        *broken = true;
        return -1;
    default:
        return -1;
    }
}

/* How the group's text compares with this one. Groups of messages that have all gone are like the next one. */
static int compare_group(struct ranks *r, uint32_t at, struct slice text, int *d, bool *broken)
{
    while (at < r->group_count) {
        if (read_group(r, &r->groups[at], broken) < 0)
            return -1;
        if (!r->groups[at].gone) {
            *d = slice_compare(r->groups[at].text, text);
            return 0;
        }
        at++;
    }
    *d = 1;
    return 0;
}

/* The first group whose text is not smaller: by steps that double, then between the last two. */
static int find_group(struct ranks *r, struct slice text, uint32_t *out, bool *broken)
{
    uint32_t low = r->searched_to, high = low, step = 1;
    int d;

    for (;;) {
        if (high >= r->group_count) {
            high = r->group_count;
            break;
        }
        if (compare_group(r, high, text, &d, broken) < 0)
            return -1;
        if (d >= 0)
            break;
        low = high + 1;
        high += step;
        step *= 2;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (compare_group(r, middle, text, &d, broken) < 0)
            return -1;
        if (d < 0)
            low = middle + 1;
        else
            high = middle;
    }
    while (low < r->group_count && r->groups[low].gone)
        low++;
    r->searched_to = *out = low;
    return 0;
}

/* Texts that were read must rise with their ranks. */
static bool in_order(const struct ranks *r)
{
    const struct group *last = NULL;

    for (uint32_t i = 0; i < r->group_count; i++) {
        const struct group *g = &r->groups[i];

        if (!g->read)
            continue;
        if (last != NULL && slice_compare(last->text, g->text) >= 0) {
            report_broken(r, "Invalid sort_id order ('%.*s' > '%.*s')", (int)slice_head(last->text, 60).size, (const char *)last->text.at,
                          (int)slice_head(g->text, 60).size, (const char *)g->text.at);
            return false;
        }
        last = g;
    }
    return true;
}

static enum step place_fresh(struct ranks *r, struct budget *budget, bool *broken)
{
    for (; r->spots < SPOTS && r->group_count > 0; r->spots++) {
        if (read_group(r, &r->groups[(uint64_t)(r->group_count - 1) * r->spots / (SPOTS - 1)], broken) < 0)
            return STEP_ERROR;
    }
    while (r->next < r->fresh_count) {
        struct slice text = r->fresh[r->next].text;
        uint32_t place;

        if (find_group(r, text, &place, broken) < 0)
            return STEP_ERROR;
        for (bool joins = place < r->group_count && slice_equal(r->groups[place].text, text) && r->groups[place].read;
             r->next < r->fresh_count && slice_equal(r->fresh[r->next].text, text); r->next++) {
            r->places[r->next] = place;
            r->joins[r->next] = joins;
        }
        if (budget_spent(budget, 4))
            return STEP_MORE;
    }
    return STEP_DONE;
}

/* ---- giving and writing ---------------------------------------------------------------------------------------------------- */

/* Runs of fresh texts in front of a group: a new rank for each text. */
static void add_fresh(const struct ranks *r, struct rank_room *room, uint32_t group, uint32_t *next)
{
    while (*next < r->fresh_count && r->places[*next] == group) {
        uint32_t first = *next;

        if (r->joins[first])
            break; /* they belong to the group itself */
        while (*next < r->fresh_count && slice_equal(r->fresh[*next].text, r->fresh[first].text))
            (*next)++;
        rank_room_add(room, 0, *next - first);
    }
}

/* All texts in their order, those with a rank and those that need one; then the ranks to the messages. */
static void give_ranks(struct ranks *r, bool *changed)
{
    struct rank_room *room = rank_room_new(r->arena, (size_t)r->group_count + r->fresh_count);
    uint32_t next = 0, entry = 0;

    for (uint32_t g = 0; g <= r->group_count; g++) {
        add_fresh(r, room, g, &next);
        if (g == r->group_count)
            break;
        rank_room_add(room, r->groups[g].rank, r->groups[g].count);
        while (next < r->fresh_count && r->places[next] == g)
            next++;
    }
    rank_room_give(room);
    next = 0;
    for (uint32_t g = 0; g <= r->group_count; g++) {
        while (next < r->fresh_count && r->places[next] == g && !r->joins[next]) {
            uint32_t first = next, rank = rank_room_get(room, entry++);

            for (; next < r->fresh_count && slice_equal(r->fresh[next].text, r->fresh[first].text); next++) {
                r->ranks[r->fresh[next].at] = rank;
                changed[r->fresh[next].at] = true;
            }
        }
        if (g == r->group_count)
            break;
        for (uint32_t i = 0, rank = rank_room_get(room, entry); i < r->groups[g].count; i++) {
            uint32_t at = r->order[r->groups[g].first + i];

            changed[at] = changed[at] || r->ranks[at] != rank;
            r->ranks[at] = rank;
        }
        for (uint32_t rank = rank_room_get(room, entry++); next < r->fresh_count && r->places[next] == g; next++) {
            r->ranks[r->fresh[next].at] = rank;
            changed[r->fresh[next].at] = true;
        }
    }
}

/* Under the log's lock, if nobody else has it, and if the ranks are still the ones that these were computed for. */
static void write_ranks(struct ranks *r, const bool *changed)
{
    struct index *index = r->box->index;
    struct index_batch *batch;
    struct index_status status;
    struct error e = {0};

    if (index_read_only(index) || index_in_memory(index) || index_locked(index) || index_deleted(index) != 0 ||
        index_lock_try(index, "sort ranks", &e) != STEP_DONE)
        return;
    index_status(index, &status);
    if (status.uid_validity == r->uid_validity && index_ext_reset_id(index, r->ext) == r->reset_id &&
        index_ext_exists(index, r->ext) == r->exists) {
        batch = index_batch_new(r->arena, INDEX_INTERNAL);
        index_batch_ext_reset(batch, r->ext, r->reset_id + 1, true);
        for (uint32_t i = 0; i < r->count; i++) {
            unsigned char rank[4];

            if (!changed[i])
                continue;
            bytes_put_le32(rank, r->ranks[i]);
            index_batch_ext_record(batch, r->ext, r->uids[i], slice_of(rank, sizeof(rank)));
        }
        if (index_commit_locked(index, batch, NULL, &e) < 0)
            log_error_value(r->box->user->log_p, &e);
    }
    index_unlock(index);
}

static void finish(struct ranks *r)
{
    bool *changed = ARENA_ARRAY(r->arena, bool, r->count + 1);

    give_ranks(r, changed);
    write_ranks(r, changed);
    r->phase = RANKS_DONE;
}

/* What the index says is not to be trusted: everything from the texts, once. */
static void make_anew(struct ranks *r)
{
    if (r->made_anew) { /* no text changes: this cannot be, and must not go on for ever */
        r->phase = RANKS_DONE;
        return;
    }
    r->made_anew = true;
    distrust(r);
    r->fresh = NULL;
    begin_reading(r);
}

enum step ranks_complete(struct ranks *r, const struct index_ranges *seqs, struct budget *budget)
{
    for (;;) {
        bool broken = false;
        enum step step;

        switch (r->phase) {
        case RANKS_NEW:
            r->phase = RANKS_DONE;
            if (!ranks_cover(r, seqs) && worth_it(r, seqs))
                begin_reading(r);
            continue;
        case RANKS_READ:
            step = read_fresh(r, budget);
            if (step == STEP_DONE)
                begin_placing(r);
            break;
        case RANKS_PLACE:
            step = place_fresh(r, budget, &broken);
            if (!broken && step == STEP_DONE && !in_order(r))
                broken = true;
            if (broken) {
                make_anew(r);
                continue;
            }
            if (step == STEP_DONE)
                finish(r);
            break;
        default:
            return STEP_DONE;
        }
        if (step == STEP_MORE)
            return step;
        if (step == STEP_ERROR) {
            r->phase = RANKS_DONE;
            return STEP_DONE;
        }
    }
}
