/* view.c - what one session sees: stable numbers over a shared, moving state.
 *
 * The journal. Applying log records appends an entry per change to the index's journal; a view remembers how far it
 * has read. Reading (catch_up) turns expunges into *ghosts*, messages that are gone from the shared array but keep
 * their number in this view, and collects the ranges of UIDs whose flags changed. So a change costs one entry,
 * whatever the number of sessions, and a view costs nothing while nothing happens.
 *
 * Numbers. Visible are the records with uid < next_uid and the ghosts, in order of UIDs. Ghost j has the number
 * (records below its UID) + j + 1, which grows with j: both directions are binary searches.
 *
 * What may go wrong: a view that never syncs would pin the journal; when that grows beyond JOURNAL_MAX all views are
 * made to catch up, which bounds the memory of each by the number of its messages. */
#include "index/index_backend.h"

#include <stdlib.h>
#include <utlist.h>

enum { JOURNAL_KEEP = 256, JOURNAL_MAX = 16384, CHANGED_MAX = 4096, GHOST_LOOK = 256, UNSEEN_GHOSTS_MAX = 1024 };

struct segment {
    uint32_t first, last;
    bool own_silent, visible;
};

struct view_sync {
    struct index_change *changes; /* expunges, in the order of yielding */
    uint32_t expunged, yielded;
    bool invalid, appended, header, keywords;
    uint32_t first_new, first_keyword;
    struct segment *segments;
    uint32_t segment_count, segment_at;
    uint32_t ghost_at;            /* held back messages whose flags changed are told too */
    uint32_t next_uid_at;         /* within the segment: the next UID to look at */
    uint32_t visible_before;      /* messages from here on are new: no flag changes for them */
};

/* ---- the journal ------------------------------------------------------------------------------------------------- */

static uint64_t journal_end(const struct index *index)
{
    return index->journal_start + index->journal.count;
}

static void catch_up(const struct index_view *);

static void trim_journal(struct index *index)
{
    uint64_t least = journal_end(index);
    struct index_view *v;

    DL_FOREACH(index->views, v)
    {
        if (index->journal.count >= JOURNAL_MAX)
            catch_up(v);
        if (v->pos < least)
            least = v->pos;
    }
    if (least == journal_end(index)) {
        index->journal_start = least;
        index->journal.count = 0;
        if (index->journal.room > JOURNAL_KEEP)
            VEC_FREE(&index->journal);
        return;
    }
    if (least - index->journal_start >= index->journal.count / 2) {
        size_t drop = (size_t)(least - index->journal_start);

        memmove(index->journal.at, index->journal.at + drop,
                (index->journal.count - drop) * sizeof(*index->journal.at));
        index->journal.count -= drop;
        index->journal_start = least;
    }
}

static void journal_add(struct index *index, struct journal_entry e)
{
    if (index->views == NULL)
        return;
    if (index->journal.count >= JOURNAL_MAX ||
        (index->journal.count >= JOURNAL_KEEP && index->journal.count == index->journal.room))
        trim_journal(index);
    VEC_PUSH(&index->journal, e);
}

void journal_flags(struct index *index, uint32_t first, uint32_t last, bool visible)
{
    journal_add(index, (struct journal_entry){.first = first, .last = last, .view = index->commit_view,
                                              .silent = index->commit_silent, .visible = visible});
}

void journal_expunged(struct index *index, uint32_t uid, uint8_t flags, uint64_t modseq, struct slice keywords)
{
    struct journal_entry e = {.first = uid, .last = uid, .expunged = 1, .flags = flags, .modseq = modseq};

    keywords = slice_head(keywords, sizeof(e.keywords));
    if (keywords.size > 0)
        memcpy(e.keywords, keywords.at, keywords.size);
    journal_add(index, e);
}

/* ---- reading it --------------------------------------------------------------------------------------------------- */

static int compare_ghosts(const void *a, const void *b)
{
    const struct ghost *x = a, *y = b;

    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static void add_ghost(struct index_view *v, const struct journal_entry *e)
{
    if (v->ghost_count == v->ghost_room) {
        v->ghost_room = v->ghost_room == 0 ? 4 : v->ghost_room * 2;
        v->ghosts = mem_realloc(v->ghosts, v->ghost_room * sizeof(*v->ghosts));
    }
    v->ghosts[v->ghost_count] =
        (struct ghost){.uid = e->first, .flags = private_flags(v, e->first, e->flags), .modseq = e->modseq};
    memcpy(v->ghosts[v->ghost_count++].keywords, e->keywords, sizeof(e->keywords));
}

/* What changed about a message before it went, which its session is still to be told (FETCH of a message that is
 * held back shows the flags it had). */
static void keep_change(struct index_view *v)
{
    struct ghost *g = &v->ghosts[v->ghost_count - 1];

    if (v->changed_count > GHOST_LOOK) { /* not worth the search: telling too much is no fault */
        g->changed = g->visible = 1;
        return;
    }
    g->own_silent = 1;
    for (uint32_t i = 0; i < v->changed_count; i++) {
        const struct journal_entry *e = &v->changed[i];

        if (g->uid < e->first || g->uid > e->last)
            continue;
        g->changed = 1;
        g->visible |= e->visible;
        if (e->view != v->id || !e->silent)
            g->own_silent = 0;
    }
}

/* Too many ranges to keep one by one: they become one that covers all, at the price of telling too much. */
static void fold_changes(struct index_view *v)
{
    struct journal_entry all = v->changed[0];

    for (uint32_t i = 1; i < v->changed_count; i++) {
        if (v->changed[i].first < all.first)
            all.first = v->changed[i].first;
        if (v->changed[i].last > all.last)
            all.last = v->changed[i].last;
    }
    all.view = 0;
    all.silent = 0;
    all.visible = 1;
    v->changed[0] = all;
    v->changed_count = 1;
}

static void add_change(struct index_view *v, const struct journal_entry *e)
{
    struct journal_entry *last = v->changed_count > 0 ? &v->changed[v->changed_count - 1] : NULL;

    if (last != NULL && last->view == e->view && last->silent == e->silent && last->visible == e->visible &&
        e->first >= last->first && e->first - 1 <= last->last) { /* the usual runs join at once */
        if (e->last > last->last)
            last->last = e->last;
        return;
    }
    if (v->changed_count >= CHANGED_MAX)
        fold_changes(v);
    if (v->changed_count == v->changed_room) {
        v->changed_room = v->changed_room == 0 ? 4 : v->changed_room * 2;
        v->changed = mem_realloc(v->changed, v->changed_room * sizeof(*v->changed));
    }
    v->changed[v->changed_count++] = *e;
}

/* Ghosts are sorted: those below next_uid have numbers. */
static void count_shown(struct index_view *v)
{
    v->ghosts_shown = v->ghost_count;
    while (v->ghosts_shown > 0 && v->ghosts[v->ghosts_shown - 1].uid >= v->next_uid)
        v->ghosts_shown--;
}

/* The view's place in the journal is a matter of bookkeeping, not of what it shows: const stays for callers. */
static void catch_up(const struct index_view *view)
{
    struct index_view *v = (struct index_view *)view;
    struct index *index = v->index;
    uint32_t sorted = v->ghost_count;

    if (v->pos == journal_end(index))
        return;
    for (size_t i = (size_t)(v->pos - index->journal_start); i < index->journal.count; i++) {
        const struct journal_entry *e = &index->journal.at[i];

        if (!e->expunged) {
            if (e->first < v->next_uid)
                add_change(v, e);
        } else if (e->first < v->next_uid || v->ghost_count - v->ghosts_shown < UNSEEN_GHOSTS_MAX) {
            add_ghost(v, e);
            if (e->first < v->next_uid)
                keep_change(v);
        }
    }
    v->pos = journal_end(index);
    if (v->ghost_count > sorted) {
        qsort(v->ghosts, v->ghost_count, sizeof(*v->ghosts), compare_ghosts);
        count_shown(v);
    }
}

bool index_view_changed(const struct index_view *v)
{
    const struct index *index = v->index;

    if (v->private != NULL && index_view_changed(v->private))
        return true;
    if (v->pos != journal_end(index) || v->ghost_count > 0 || v->changed_count > 0 || v->epoch != index->epoch)
        return true;
    return v->next_uid != state_get(&index->state, BASE_AT_NEXT_UID) || v->modseq != index->modseq ||
           v->keywords != index->state.keyword_count || v->uid_validity != state_get(&index->state, BASE_AT_UID_VALIDITY) ||
           v->first_recent != state_get(&index->state, BASE_AT_FIRST_RECENT);
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static void take_header(struct index_view *v)
{
    const struct index *index = v->index;

    v->next_uid = state_get(&index->state, BASE_AT_NEXT_UID);
    v->uid_validity = state_get(&index->state, BASE_AT_UID_VALIDITY);
    v->first_recent = state_get(&index->state, BASE_AT_FIRST_RECENT);
    v->modseq = index->modseq;
    v->keywords = index->state.keyword_count;
}

struct index_view *index_view_open(struct index *index)
{
    struct index_view *v = mem_zero(1, sizeof(*v));

    v->index = index_ref(index);
    v->id = ++index->next_view_id;
    v->epoch = index->epoch;
    v->pos = journal_end(index);
    take_header(v);
    DL_APPEND(index->views, v);
    return v;
}

static void free_sync(struct index_view *v)
{
    if (v->sync == NULL)
        return;
    mem_free(v->sync->changes);
    mem_free(v->sync->segments);
    mem_free(v->sync);
    v->sync = NULL;
}

void index_view_close(struct index_view **view)
{
    struct index_view *v = *view;
    struct index *index;

    if (v == NULL)
        return;
    *view = NULL;
    index = v->index;
    DL_DELETE(index->views, v);
    trim_journal(index);
    free_sync(v);
    mem_free(v->ghosts);
    mem_free(v->changed);
    index_view_close(&v->private);
    mem_free(v);
    index_close(&index);
}

struct index *index_view_index(const struct index_view *v)
{
    return v->index;
}

size_t index_view_memory(const struct index_view *v)
{
    return sizeof(*v) + v->ghost_room * sizeof(*v->ghosts) + v->changed_room * sizeof(*v->changed);
}

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

static uint32_t visible_records(const struct index_view *v)
{
    return state_lower(&v->index->state, v->next_uid);
}

uint32_t index_view_count(const struct index_view *v)
{
    catch_up(v);
    return visible_records(v) + v->ghosts_shown;
}

uint32_t index_view_next_uid(const struct index_view *v)
{
    return v->next_uid;
}

static uint32_t ghost_seq(const struct index_view *v, uint32_t j)
{
    return state_lower(&v->index->state, v->ghosts[j].uid) + j + 1;
}

/* Ghosts with a number below seq; *hit: the next one has exactly this number. */
static uint32_t ghosts_before(const struct index_view *v, uint32_t seq, bool *hit)
{
    uint32_t low = 0, high = v->ghosts_shown;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (ghost_seq(v, mid) < seq)
            low = mid + 1;
        else
            high = mid;
    }
    *hit = low < v->ghosts_shown && ghost_seq(v, low) == seq;
    return low;
}

static uint32_t ghosts_below_uid(const struct index_view *v, uint32_t uid)
{
    uint32_t low = 0, high = v->ghost_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (v->ghosts[mid].uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void ghost_record(const struct index_view *v, const struct ghost *g, struct index_record *out)
{
    *out = (struct index_record){.uid = g->uid, .flags = g->flags, .expunged = true,
                                 .modseq = g->modseq > 0 ? g->modseq : index_default_modseq(v->index),
                                 .keywords = slice_of(g->keywords, sizeof(g->keywords))};
}

bool index_view_get(const struct index_view *v, uint32_t seq, struct index_record *out)
{
    uint32_t before;
    bool hit;

    catch_up(v);
    if (seq == 0)
        return false;
    before = ghosts_before(v, seq, &hit);
    if (hit) {
        ghost_record(v, &v->ghosts[before], out);
        return true;
    }
    if (seq - before > visible_records(v))
        return false;
    if (!index_get_at(v->index, seq - before, out))
        return false;
    out->flags = private_flags(v, out->uid, out->flags);
    return true;
}

bool index_view_get_uid(const struct index_view *v, uint32_t uid, struct index_record *out)
{
    uint32_t g;

    catch_up(v);
    if (uid >= v->next_uid)
        return false;
    if (index_get(v->index, uid, out)) {
        out->flags = private_flags(v, uid, out->flags);
        return true;
    }
    g = ghosts_below_uid(v, uid);
    if (g == v->ghost_count || v->ghosts[g].uid != uid)
        return false;
    ghost_record(v, &v->ghosts[g], out);
    return true;
}

uint32_t index_view_uid(const struct index_view *v, uint32_t seq)
{
    struct index_record r;

    return index_view_get(v, seq, &r) ? r.uid : 0;
}

/* The number that a message with this UID has or would have. */
static uint32_t seq_lower(const struct index_view *v, uint32_t uid)
{
    if (uid > v->next_uid)
        uid = v->next_uid;
    return state_lower(&v->index->state, uid) + ghosts_below_uid(v, uid) + 1;
}

uint32_t index_view_seq(const struct index_view *v, uint32_t uid)
{
    struct index_record r;

    return index_view_get_uid(v, uid, &r) ? seq_lower(v, uid) : 0;
}

bool index_view_seq_range(const struct index_view *v, uint32_t first_uid, uint32_t last_uid, uint32_t *first_seq,
                          uint32_t *last_seq)
{
    uint32_t first, last;

    catch_up(v);
    if (first_uid > last_uid)
        return false;
    first = seq_lower(v, first_uid);
    last = last_uid == UINT32_MAX ? index_view_count(v) : seq_lower(v, last_uid + 1) - 1;
    if (last < first)
        return false;
    *first_seq = first;
    *last_seq = last;
    return true;
}

void index_view_status(const struct index_view *v, struct index_status *out)
{
    const struct state *s = &v->index->state;
    uint32_t recent_from;

    catch_up(v);
    index_status(v->index, out);
    for (uint32_t i = visible_records(v); i < s->count; i++) { /* new mails that this view does not show yet */
        uint8_t flags = state_record(s, i)[4];

        out->messages--;
        out->seen -= (flags & INDEX_SEEN) != 0 && out->seen > 0;
        out->deleted -= (flags & INDEX_DELETED) != 0 && out->deleted > 0;
    }
    if (v->private != NULL && (v->private_mask & INDEX_SEEN) != 0)
        out->seen = private_seen((struct index_view *)(uintptr_t)v);
    for (uint32_t i = 0; i < v->ghosts_shown; i++) {
        out->messages++;
        out->seen += (v->ghosts[i].flags & INDEX_SEEN) != 0;
        out->deleted += (v->ghosts[i].flags & INDEX_DELETED) != 0;
    }
    out->next_uid = v->next_uid;
    out->unseen = out->messages - (out->seen < out->messages ? out->seen : out->messages);
    recent_from = seq_lower(v, out->first_recent_uid);
    out->recent = out->messages + 1 - recent_from;
}

static uint32_t walk_to_unseen(const struct index_view *v)
{
    struct index_record r;

    for (uint32_t seq = 1; index_view_get(v, seq, &r); seq++) {
        if ((r.flags & INDEX_SEEN) == 0)
            return seq;
    }
    return 0;
}

uint32_t index_view_first_unseen(const struct index_view *v)
{
    struct state *s = &v->index->state;
    struct index_status st;
    uint32_t i, end;

    index_view_status(v, &st);
    if (st.unseen == 0)
        return 0;
    if (v->private != NULL)
        return walk_to_unseen(v);
    for (uint32_t g = 0; g < v->ghosts_shown; g++) {
        if ((v->ghosts[g].flags & INDEX_SEEN) == 0) /* rare: held back expunges */
            return walk_to_unseen(v);
    }
    end = visible_records(v);
    if (s->unseen_from < state_get(s, BASE_AT_UNSEEN_LOWWATER))
        s->unseen_from = state_get(s, BASE_AT_UNSEEN_LOWWATER);
    for (i = state_lower(s, s->unseen_from); i < end; i++) {
        if ((state_record(s, i)[4] & INDEX_SEEN) == 0) {
            s->unseen_from = state_uid(s, i); /* the next look begins here */
            return i + 1 + ghosts_below_uid(v, state_uid(s, i));
        }
    }
    return 0;
}

/* ---- syncing ------------------------------------------------------------------------------------------------------ */

static void take_expunges(struct index_view *v, struct view_sync *sync)
{
    sync->changes = mem_alloc(sizeof(*sync->changes) * (v->ghosts_shown + 1));
    for (uint32_t j = v->ghosts_shown; j-- > 0;) {
        sync->changes[sync->expunged++] = (struct index_change){
            .kind = INDEX_CHANGE_EXPUNGED, .seq = ghost_seq(v, j), .uid = v->ghosts[j].uid};
    }
    mem_free(v->ghosts);
    v->ghosts = NULL;
    v->ghost_count = v->ghost_room = v->ghosts_shown = 0;
}

static int compare_first(const void *a, const void *b)
{
    const struct journal_entry *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Cuts overlapping ranges into segments that do not overlap, each with the sum of what its ranges say: a sweep over
 * all begins and ends, with a count of what covers the place. O(k log k). */
static void take_changes(struct index_view *v, struct view_sync *sync)
{
    uint32_t n = v->changed_count, begun = 0, ended = 0, loud = 0, visible = 0;
    struct journal_entry *begins = v->changed, *ends;
    uint64_t *cuts;
    uint32_t cut_count = 0;

    if (n == 0)
        return;
    ends = mem_alloc(n * sizeof(*ends));
    cuts = mem_alloc(n * 2 * sizeof(*cuts));
    qsort(begins, n, sizeof(*begins), compare_first);
    for (uint32_t i = 0; i < n; i++) {
        ends[i] = begins[i];
        ends[i].first = begins[i].last; /* sorted by their ends below */
        cuts[cut_count++] = begins[i].first;
        cuts[cut_count++] = (uint64_t)begins[i].last + 1;
    }
    qsort(ends, n, sizeof(*ends), compare_first);
    qsort(cuts, cut_count, sizeof(*cuts), compare_numbers);
    sync->segments = mem_alloc(cut_count * sizeof(*sync->segments));
    for (uint32_t c = 0; c + 1 < cut_count; c++) {
        if (cuts[c] == cuts[c + 1])
            continue;
        for (; begun < n && begins[begun].first <= cuts[c]; begun++) {
            bool quiet = begins[begun].view == v->id && begins[begun].silent;

            loud += !quiet;
            visible += begins[begun].visible;
        }
        for (; ended < n && ends[ended].first < cuts[c]; ended++) {
            bool quiet = ends[ended].view == v->id && ends[ended].silent;

            loud -= !quiet;
            visible -= ends[ended].visible;
        }
        if (begun > ended)
            sync->segments[sync->segment_count++] = (struct segment){
                (uint32_t)cuts[c], (uint32_t)(cuts[c + 1] - 1), loud == 0, visible > 0};
    }
    mem_free(ends);
    mem_free(cuts);
    mem_free(v->changed);
    v->changed = NULL;
    v->changed_count = v->changed_room = 0;
    if (sync->segment_count > 0)
        sync->next_uid_at = sync->segments[0].first;
}

/* Changes of private flags are changes of the messages that the session sees. */
static void take_private(struct index_view *v)
{
    struct index_change c;

    if (v->private == NULL)
        return;
    index_view_sync(v->private, false);
    while (index_view_next(v->private, &c)) {
        struct journal_entry e = {.first = c.uid, .last = c.uid, .visible = true};

        if (c.kind == INDEX_CHANGE_INVALID)
            e = (struct journal_entry){.first = 1, .last = UINT32_MAX - 1, .visible = true};
        else if (c.kind != INDEX_CHANGE_FLAGS)
            continue;
        if (c.own_silent) {
            e.view = v->id;
            e.silent = true;
        }
        add_change(v, &e);
    }
}

void index_view_sync(struct index_view *v, bool hold_expunges)
{
    struct index *index = v->index;
    struct view_sync *sync;

    free_sync(v);
    if (!index_view_changed(v))
        return;
    sync = v->sync = mem_zero(1, sizeof(*sync));
    if (v->epoch != index->epoch) {
        sync->invalid = true;
        return;
    }
    catch_up(v);
    take_private(v);
    sync->visible_before = v->next_uid;
    sync->first_keyword = v->keywords;
    sync->keywords = v->keywords != index->state.keyword_count;
    sync->header = v->uid_validity != state_get(&index->state, BASE_AT_UID_VALIDITY) || v->modseq != index->modseq ||
                   v->first_recent != state_get(&index->state, BASE_AT_FIRST_RECENT) ||
                   v->next_uid != state_get(&index->state, BASE_AT_NEXT_UID);
    if (!hold_expunges)
        take_expunges(v, sync);
    take_changes(v, sync);
    sync->appended = visible_records(v) < index->state.count || v->ghosts_shown < v->ghost_count;
    sync->first_new = v->next_uid;
    take_header(v);
    count_shown(v); /* what came and went since the last sync is shown as gone, as Dovecot does */
    trim_journal(index);
}

/* A held back message with something to tell and a UID below `uid`. */
static bool next_ghost(struct index_view *v, struct view_sync *sync, uint64_t uid, struct index_change *out)
{
    for (; sync->ghost_at < v->ghost_count && v->ghosts[sync->ghost_at].uid < uid; sync->ghost_at++) {
        struct ghost *g = &v->ghosts[sync->ghost_at];

        if (!g->changed)
            continue;
        g->changed = 0;
        *out = (struct index_change){.kind = INDEX_CHANGE_FLAGS, .uid = g->uid, .own_silent = g->own_silent,
                                     .flags_visible = g->visible, .seq = ghost_seq(v, sync->ghost_at)};
        sync->ghost_at++;
        return true;
    }
    return false;
}

static bool next_flags(struct index_view *v, struct view_sync *sync, struct index_change *out)
{
    const struct state *s = &v->index->state;

    while (sync->segment_at < sync->segment_count) {
        const struct segment *seg = &sync->segments[sync->segment_at];
        uint32_t i = state_lower(s, sync->next_uid_at), uid;

        if (i == s->count || (uid = state_uid(s, i)) >= sync->visible_before) {
            sync->segment_at = sync->segment_count;
            break;
        }
        if (uid > seg->last) {
            if (++sync->segment_at < sync->segment_count)
                sync->next_uid_at = sync->segments[sync->segment_at].first;
            continue;
        }
        if (next_ghost(v, sync, uid, out))
            return true;
        sync->next_uid_at = uid + 1;
        *out = (struct index_change){.kind = INDEX_CHANGE_FLAGS, .uid = uid, .own_silent = seg->own_silent,
                                     .flags_visible = seg->visible,
                                     .seq = i + 1 + ghosts_below_uid(v, uid)};
        return true;
    }
    return next_ghost(v, sync, UINT64_MAX, out);
}

bool index_view_next(struct index_view *v, struct index_change *out)
{
    struct view_sync *sync = v->sync;

    if (sync == NULL)
        return false;
    if (sync->invalid) {
        sync->invalid = false;
        *out = (struct index_change){.kind = INDEX_CHANGE_INVALID};
        return true;
    }
    if (sync->keywords) {
        sync->keywords = false;
        *out = (struct index_change){.kind = INDEX_CHANGE_KEYWORDS, .first = sync->first_keyword};
        return true;
    }
    if (sync->yielded < sync->expunged) {
        *out = sync->changes[sync->yielded++];
        return true;
    }
    if (sync->appended) {
        const struct state *s = &v->index->state;
        uint32_t i = state_lower(s, sync->first_new), g = ghosts_below_uid(v, sync->first_new);
        uint32_t first = i < s->count ? state_uid(s, i) : UINT32_MAX;

        sync->appended = false;
        if (g < v->ghost_count && v->ghosts[g].uid < first)
            first = v->ghosts[g].uid;
        *out = (struct index_change){.kind = INDEX_CHANGE_APPENDED, .count = index_view_count(v), .first = first};
        return true;
    }
    if (next_flags(v, sync, out))
        return true;
    if (sync->header) {
        sync->header = false;
        *out = (struct index_change){.kind = INDEX_CHANGE_HEADER};
        return true;
    }
    free_sync(v);
    return false;
}

/* ---- views of other processes -------------------------------------------------------------------------------------- */

void index_view_past(const struct index_view *v, struct index_past *out)
{
    struct index_log_position at;
    uint32_t count = index_view_count(v);

    index_log_position(v->index, &at);
    *out = (struct index_past){.uid_validity = v->uid_validity, .next_uid = v->next_uid, .log_seq = at.seq,
                               .log_offset = at.head};
    for (uint32_t seq = 1; seq <= count; seq++) {
        uint32_t uid = index_view_uid(v, seq);

        index_ranges_add(&out->uids, uid, uid);
    }
}

static void add_past_changes(struct index_view *v, const struct index_past *past)
{
    const struct index_ops *ops = v->index->ops;
    struct index_ranges uids = {0};

    if (ops->changed == NULL || !ops->changed(v->index, past->log_seq, past->log_offset, &uids)) {
        index_ranges_free(&uids);
        uids = (struct index_ranges){0};
        index_ranges_add(&uids, 1, UINT32_MAX);
    }
    for (size_t i = 0; i < uids.count; i++)
        add_change(v, &(struct journal_entry){.first = uids.at[i].first, .last = uids.at[i].last, .visible = true});
    index_ranges_free(&uids);
}

struct index_view *index_view_open_past(struct index *index, const struct index_past *past)
{
    const struct state *s = &index->state;
    struct index_view *v;
    uint32_t i = 0;

    if (past->uid_validity != state_get(s, BASE_AT_UID_VALIDITY) || past->next_uid > state_get(s, BASE_AT_NEXT_UID))
        return NULL;
    v = index_view_open(index);
    v->next_uid = past->next_uid;
    v->modseq = 0; /* the header is news */
    for (size_t r = 0; r < past->uids.count; r++) {
        for (uint64_t uid = past->uids.at[r].first; uid <= past->uids.at[r].last && uid < past->next_uid; uid++) {
            if (i < s->count && state_uid(s, i) < uid)
                goto other;
            if (i < s->count && state_uid(s, i) == uid)
                i++;
            else
                add_ghost(v, &(struct journal_entry){.first = (uint32_t)uid, .last = (uint32_t)uid});
        }
    }
    if (i < s->count && state_uid(s, i) < past->next_uid)
        goto other;
    count_shown(v);
    add_past_changes(v, past);
    return v;
other:
    index_view_close(&v);
    return NULL;
}
