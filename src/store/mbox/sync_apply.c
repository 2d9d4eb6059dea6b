/* sync_apply.c - what was read of the file against the index: UIDs, flags, expunges; then the file is changed, and last the
 * index learns of all that by one commit (maildir-and-layouts 9.2).
 *
 * A process that dies in between leaves a file that is right and an index that is behind: UIDs stand in the file, the next sync
 * reads it again, and what sessions have asked for is still in the log. */
#include "store/mbox/mbox.h"

#include <unistd.h>

struct apply {
    struct mbox *m;
    struct driver_sync *sync;
    struct mbox_sync *s;
    struct arena *arena;
    struct index_batch *batch;
    struct index_status status;
    struct mbox_ext ext;
    bool reset;                      /* another UIDVALIDITY: all that the index knows is void */
    bool failed;                     /* something of the requests has to be tried again */
    bool changed_file;
    uint32_t uid_validity, next_uid, first_recent;
    size_t first;                    /* entry: the first that is a message; before it stands the pseudo message */
    const struct mbox_message *base; /* NULL = none */
    size_t holder;                   /* entry that shall have the base; count = none */
    struct slice base_keywords;
    bool base_due;
    struct mbox_pieces pieces;
};

static struct mbox_entry *entry_at(const struct apply *a, size_t i)
{
    return &a->s->entries.at[i];
}

static size_t entry_count(const struct apply *a)
{
    return a->s->entries.count;
}

static bool cannot_write(const struct apply *a, const struct mbox_entry *entry)
{
    return a->m->backend_read_only || entry->m.huge || entry->m.headless;
}

static const struct index_request *request_of(const struct apply *a, uint32_t uid)
{
    size_t from = 0, to = a->s->requests.count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (a->s->requests.at[middle].uid < uid)
            from = middle + 1;
        else
            to = middle;
    }
    return from < a->s->requests.count && a->s->requests.at[from].uid == uid ? &a->s->requests.at[from] : NULL;
}

/* ---- keywords ---- */

static bool next_word(struct slice *rest, struct slice *word)
{
    size_t size = 0;

    *rest = slice_trim(*rest);
    while (size < rest->size && rest->at[size] != ' ' && rest->at[size] != '\t' && rest->at[size] != '\n' && rest->at[size] != '\r')
        size++;
    *word = slice_head(*rest, size);
    *rest = slice_from(*rest, size);
    return size > 0;
}

static bool has_word(struct slice words, struct slice wanted)
{
    struct slice word;

    while (next_word(&words, &word))
        if (slice_equal_nocase(word, wanted))
            return true;
    return false;
}

/* Names that X-IMAPbase does not know are not keywords: another program may have its own meaning for the header. */
static struct slice known_words(const struct apply *a, struct slice words)
{
    struct buffer out = {0};
    struct slice word, kept;

    while (a->base != NULL && next_word(&words, &word)) {
        if (!has_word(a->base->base_keywords, word) || has_word(buffer_slice(&out), word))
            continue;
        if (out.size > 0)
            buffer_append_byte(&out, ' ');
        buffer_append_slice(&out, word);
    }
    kept = arena_slice(a->arena, buffer_slice(&out));
    buffer_free(&out);
    return kept;
}

static struct slice words_of(const struct apply *a, const struct index_record *rec)
{
    struct index *index = a->m->box->index;
    struct buffer out = {0};
    struct slice words;

    for (unsigned i = 0; i < index_keyword_count(index); i++)
        if (index_keyword_has(rec->keywords, i))
            buffer_printf(&out, "%s%s", out.size > 0 ? " " : "", index_keyword_name(index, i));
    words = arena_slice(a->arena, buffer_slice(&out));
    buffer_free(&out);
    return words;
}

static bool same_words(struct slice a, struct slice b)
{
    struct slice rest = a, word;

    if (slice_equal(a, b))
        return true;
    while (next_word(&rest, &word))
        if (!has_word(b, word))
            return false;
    for (rest = b; next_word(&rest, &word);)
        if (!has_word(a, word))
            return false;
    return true;
}

static void take_words(struct apply *a, uint32_t uid, struct slice words)
{
    VEC(struct slice) names = {0};
    struct slice word;

    while (next_word(&words, &word))
        VEC_PUSH(&names, word);
    index_batch_keywords(a->batch, uid, uid, INDEX_REPLACE, names.at, names.count);
    VEC_FREE(&names);
}

/* ---- who is who ---- */

static int find_validity(struct apply *a, struct error *e)
{
    a->base = entry_count(a) > 0 && entry_at(a, 0)->m.has_base ? &entry_at(a, 0)->m : NULL;
    a->first = entry_count(a) > 0 && entry_at(a, 0)->m.pseudo ? 1 : 0;
    a->uid_validity = a->status.uid_validity;
    if (a->base != NULL && a->status.uid_validity != 0 && a->base->base_validity != a->status.uid_validity &&
        !(a->ext.mtime == 0 && a->ext.dirty)) {
        mailbox_log(a->m->box, LOG_LEVEL_WARNING, "UIDVALIDITY changed (%u -> %u)", a->status.uid_validity, a->base->base_validity);
        a->reset = true;
    }
    if (a->base != NULL && (a->reset || a->uid_validity == 0))
        a->uid_validity = a->base->base_validity;
    if (a->uid_validity == 0 && store_next_uid_validity(a->m->box->storage, &a->uid_validity, e) < 0)
        return -1;
    a->next_uid = a->reset || a->status.next_uid == 0 ? 1 : a->status.next_uid;
    if (a->base != NULL && a->base->base_last >= a->next_uid && a->base->base_last < UINT32_MAX - 1)
        a->next_uid = a->base->base_last + 1;
    a->first_recent = a->reset || a->status.first_recent_uid == 0 ? 1 : a->status.first_recent_uid;
    return 0;
}

static bool same_md5(const struct apply *a, uint32_t uid, const struct mbox_message *m)
{
    struct slice raw = index_ext_record(a->m->box->index, a->m->ext_md5, uid);

    return raw.size >= 16 && memcmp(raw.at, m->md5, 16) == 0;
}

static void vanish(struct apply *a, const struct index_record *rec)
{
    const struct index_request *request = request_of(a, rec->uid);

    index_batch_expunge(a->batch, rec->uid, request != NULL && request->expunge ? request->guid : NULL);
}

/* UIDs for the entries from i on; records of the index that nobody has are expunged. An X-UID counts when it is larger than
 * those before it, and one that was given away. */
static void assign(struct apply *a, size_t i, uint32_t prev)
{
    struct index *index = a->m->box->index;
    uint32_t limit = a->next_uid - 1;
    struct index_record rec;
    bool have = !a->reset && index_get_from(index, prev + 1, &rec);

    for (; i < entry_count(a); i++) {
        struct mbox_entry *entry = entry_at(a, i);
        uint32_t uid = entry->m.uid <= prev || entry->m.uid > limit ? 0 : entry->m.uid;
        struct index_record mine;

        /* One that the index has let go is not to come back under its old number. */
        if (uid != 0 && !a->reset && uid < a->status.next_uid && !index_get(index, uid, &mine))
            uid = 0;
        if (uid == 0 && have && same_md5(a, rec.uid, &entry->m))
            uid = rec.uid;
        while (have && uid != 0 && rec.uid < uid) {
            vanish(a, &rec);
            have = index_get_from(index, rec.uid + 1, &rec);
        }
        if (uid != 0 && have && rec.uid == uid) {
            have = index_get_from(index, rec.uid + 1, &rec);
        } else {
            entry->is_new = true;
            if (uid == 0)
                uid = a->next_uid++;
        }
        entry->uid = prev = uid;
    }
    for (; have; have = index_get_from(index, rec.uid + 1, &rec))
        vanish(a, &rec);
}

/* Only the tail was read: the first entry is known, all others come behind what the index has. */
static bool assign_tail(struct apply *a)
{
    struct index_record rec;

    if (a->first == 0) {
        struct mbox_entry *entry = entry_at(a, 0);

        if (!index_get_at(a->m->box->index, 1, &rec) || rec.uid != entry->m.uid)
            return false;
        entry->uid = rec.uid;
    }
    assign(a, 1, a->status.next_uid - 1);
    return true;
}

/* ---- what each shall say ---- */

/* The index's flags where somebody has asked for them, else the file's. */
static void decide(struct apply *a, struct mbox_entry *entry)
{
    const struct index_request *request = a->reset ? NULL : request_of(a, entry->uid);
    struct mbox_facts *f = &entry->facts;
    struct slice words = known_words(a, entry->m.keywords), old;
    struct index_record rec;

    f->uid = entry->uid;
    f->crlf = entry->m.crlf;
    f->flags = entry->m.flags;
    f->keywords = words;
    if (!entry->is_new && index_get(a->m->box->index, entry->uid, &rec)) {
        entry->expunge = request != NULL && request->expunge && !a->m->backend_read_only;
        old = words_of(a, &rec);
        if (request != NULL || (rec.flags & INDEX_DIRTY) != 0) {
            f->flags = rec.flags & INDEX_FLAGS_CLIENT;
            f->keywords = old;
            if (!entry->expunge && cannot_write(a, entry)) {
                if ((rec.flags & INDEX_DIRTY) == 0)
                    index_batch_flags_raw(a->batch, rec.uid, rec.uid, INDEX_DIRTY, 0);
            } else if (!entry->expunge && (rec.flags & INDEX_DIRTY) != 0) {
                index_batch_flags_raw(a->batch, rec.uid, rec.uid, 0, INDEX_DIRTY);
            }
        } else {
            if (f->flags != (rec.flags & INDEX_FLAGS_CLIENT))
                index_batch_flags_raw(a->batch, rec.uid, rec.uid, f->flags, (uint8_t)(rec.flags & INDEX_FLAGS_CLIENT & ~f->flags));
            if (!same_words(words, old))
                take_words(a, rec.uid, words);
        }
    } else if (entry->m.old && a->first_recent == entry->uid) {
        a->first_recent = entry->uid + 1;
    }
}

static void decide_all(struct apply *a)
{
    for (size_t i = a->first; i < entry_count(a); i++)
        decide(a, entry_at(a, i));
    a->holder = entry_count(a);
    if (a->first == 1)
        a->holder = 0;
    for (size_t i = a->first; a->holder == entry_count(a) && i < entry_count(a); i++)
        if (!entry_at(a, i)->expunge)
            a->holder = i;
}

static bool needs_writing(const struct apply *a, const struct mbox_entry *entry)
{
    const struct mbox_message *m = &entry->m;

    return m->uid != entry->uid || m->flags != entry->facts.flags || !same_words(known_words(a, m->keywords), entry->facts.keywords) ||
           (a->s->flush && entry->facts.old && !m->old);
}

/* The base: what it has to know of. */
static void decide_base(struct apply *a)
{
    struct index *index = a->m->box->index;
    struct slice have = a->base == NULL ? SLICE_EMPTY : a->base->base_keywords;
    bool missing = false;
    struct buffer out = {0};

    for (size_t i = a->first; i < entry_count(a); i++) {
        struct slice words = entry_at(a, i)->facts.keywords, word;

        while (!missing && next_word(&words, &word))
            missing = !has_word(have, word);
    }
    for (size_t k = 0; k < a->s->reserve_keyword_count; k++)
        missing = missing || !has_word(have, a->s->reserve_keywords[k]);
    for (struct slice word; next_word(&have, &word);) {
        buffer_printf(&out, "%s%.*s", out.size > 0 ? " " : "", (int)word.size, word.at);
    }
    for (unsigned k = 0; missing && k < index_keyword_count(index); k++)
        if (!has_word(buffer_slice(&out), slice_from_str(index_keyword_name(index, k))))
            buffer_printf(&out, "%s%s", out.size > 0 ? " " : "", index_keyword_name(index, k));
    for (size_t k = 0; missing && k < a->s->reserve_keyword_count; k++)
        if (!has_word(buffer_slice(&out), a->s->reserve_keywords[k]))
            buffer_printf(&out, "%s%.*s", out.size > 0 ? " " : "", (int)a->s->reserve_keywords[k].size, a->s->reserve_keywords[k].at);
    a->base_keywords = arena_slice(a->arena, buffer_slice(&out));
    buffer_free(&out);
    a->base_due = missing || a->base == NULL || a->base->base_validity != a->uid_validity ||
                  a->base->base_last < a->next_uid - 1 + a->s->reserve || a->holder != 0;
}

static void fill_base(const struct apply *a, struct mbox_facts *f)
{
    uint32_t last = a->next_uid - 1 + a->s->reserve;

    f->base = true;
    f->base_validity = a->uid_validity;
    f->base_last = a->base != NULL && !(a->base->base_validity != a->uid_validity) && a->base->base_last > last ? a->base->base_last : last;
    f->base_keywords = a->base_keywords;
}

static int make_header(struct apply *a, struct mbox_entry *entry, struct error *e)
{
    struct buffer old = {0}, out = {0};
    struct mbox_facts *f = &entry->facts;
    const struct mbox_message *m = &entry->m;
    ssize_t n = os_pread(a->m->fd, m->header, (size_t)(m->body - m->header), &old, e);

    if (n >= 0) {
        f->length = m->end - m->body;
        f->has_length = m->end < m->next || m->next == a->s->scan.size;
        mbox_header_make(buffer_slice(&old), f, (size_t)(m->body - m->header), &out);
        entry->header = arena_slice(a->arena, buffer_slice(&out));
    }
    buffer_free(&old);
    buffer_free(&out);
    return n < 0 ? -1 : 0;
}

static int make_headers(struct apply *a, struct error *e)
{
    struct mbox_entry *last = NULL;
    bool expunges = false;

    for (size_t i = 0; i < entry_count(a); i++) {
        struct mbox_entry *entry = entry_at(a, i);
        bool is_pseudo = i < a->first;

        expunges = expunges || entry->expunge;
        if (entry->expunge || cannot_write(a, entry))
            continue;
        entry->facts.old = is_pseudo || entry->m.old || entry->uid < a->first_recent;
        if (is_pseudo) {
            entry->facts.pseudo = true;
            entry->facts.flags = entry->m.flags;
            entry->facts.crlf = entry->m.crlf;
        }
        if (i == a->holder)
            fill_base(a, &entry->facts);
        if (i >= a->first)
            last = entry;
        if (!(i == a->holder && a->base_due) && (is_pseudo || !needs_writing(a, entry)))
            continue;
        if (make_header(a, entry, e) < 0)
            return -1;
    }
    /* Until the file is cut its end is line ends: this message says how long it is. */
    if (expunges && last != NULL && !last->m.length_valid && last->header.size == 0)
        return make_header(a, last, e);
    return 0;
}

/* ---- the file ---- */

static void add_range(struct apply *a, uint64_t at, uint64_t end)
{
    struct mbox_piece *last = a->pieces.count > 0 ? &a->pieces.at[a->pieces.count - 1] : NULL;

    if (at == end)
        return;
    if (last != NULL && last->size > 0 && last->at + last->size == at)
        last->size += end - at;
    else
        VEC_PUSH(&a->pieces, ((struct mbox_piece){at, end - at, SLICE_EMPTY}));
}

static void add_bytes(struct apply *a, struct slice bytes)
{
    VEC_PUSH(&a->pieces, ((struct mbox_piece){0, 0, bytes}));
}

static bool moves(const struct mbox_entry *entry)
{
    return entry->expunge || entry->m.filler || (entry->header.size > 0 && entry->header.size != entry->m.body - entry->m.header);
}

static int overwrite(struct apply *a, const struct mbox_entry *entry, struct error *e)
{
    struct buffer old = {0};
    int r = os_pread(a->m->fd, entry->m.header, entry->header.size, &old, e) < 0 ? -1 : 0;

    if (r == 0 && !slice_equal(buffer_slice(&old), entry->header)) {
        r = mbox_overwrite(a->m, entry->m.header, buffer_slice(&old), entry->header, e);
        a->changed_file = true;
    }
    buffer_free(&old);
    return r;
}

/* All are gone: what is left says which UIDs were used. */
static void add_pseudo(struct apply *a)
{
    struct mbox_facts f = {.uid = 0};
    struct buffer out = {0};

    fill_base(a, &f);
    mbox_pseudo_make(&f, store_hostname(), time(NULL), &out);
    add_bytes(a, arena_slice(a->arena, buffer_slice(&out)));
    buffer_free(&out);
}

/* 1: done; 0: all of the file must be read first. */
static int write_file(struct apply *a, struct error *e)
{
    size_t from = entry_count(a);
    uint64_t at = 0, size, start;
    bool left = a->first == 1;

    for (size_t i = 0; i < entry_count(a); i++) {
        entry_at(a, i)->offset = entry_at(a, i)->m.from;
        if (from == entry_count(a) && moves(entry_at(a, i)))
            from = i;
        left = left || !entry_at(a, i)->expunge;
    }
    if (from < a->s->tail)
        return 0;
    for (size_t i = 0; i < from; i++)
        if (entry_at(a, i)->header.size > 0 && overwrite(a, entry_at(a, i), e) < 0)
            return -1;
    if (from == entry_count(a))
        return 1;
    start = at = entry_at(a, from)->m.from;
    for (size_t i = from; i < entry_count(a); i++) {
        struct mbox_entry *entry = entry_at(a, i);
        const struct mbox_message *m = &entry->m;

        if (entry->expunge)
            continue;
        entry->offset = at;
        add_range(a, m->from, m->header);
        if (entry->header.size > 0)
            add_bytes(a, entry->header);
        else
            add_range(a, m->header, m->body);
        add_range(a, m->body, m->filler ? m->end : m->next);
        if (m->filler)
            add_bytes(a, SLICE("\n"));
        at += m->header - m->from + (entry->header.size > 0 ? entry->header.size : m->body - m->header) +
              (m->filler ? m->end + 1 : m->next) - m->body;
    }
    if (!left)
        add_pseudo(a);
    a->changed_file = true;
    return mbox_rewrite(a->m, start, &a->pieces, &size, e) < 0 ? -1 : 1;
}

/* ---- the index ---- */

static struct slice offset_record(const struct mbox_entry *entry, unsigned char raw[8])
{
    bytes_put_le64(raw, entry->offset == 0 ? 0 : entry->offset - 1);
    return slice_of(raw, 8);
}

static void append_message(struct apply *a, const struct mbox_entry *entry)
{
    struct index_append *append = index_batch_append(a->batch, entry->uid, entry->facts.flags);
    struct slice words = entry->facts.keywords, word;
    unsigned char raw[8];

    while (next_word(&words, &word))
        index_append_keyword(a->batch, append, word);
    index_append_ext(a->batch, append, a->m->ext, offset_record(entry, raw));
    if (cannot_write(a, entry) && entry->m.uid != entry->uid)
        index_append_ext(a->batch, append, a->m->ext_md5, slice_of(entry->m.md5, 16));
}

static bool note_messages(struct apply *a)
{
    bool appended = false;

    for (size_t i = a->first; i < entry_count(a); i++) {
        struct mbox_entry *entry = entry_at(a, i);
        unsigned char raw[8];

        if (entry->expunge) {
            index_batch_expunge(a->batch, entry->uid, request_of(a, entry->uid)->guid);
        } else if (a->reset || entry->is_new) {
            append_message(a, entry);
            appended = true;
        } else if (!slice_equal(slice_head(index_ext_record(a->m->box->index, a->m->ext, entry->uid), 8), offset_record(entry, raw))) {
            index_batch_ext_record(a->batch, a->m->ext, entry->uid, offset_record(entry, raw));
        }
    }
    return appended;
}

static void note_recent(struct apply *a)
{
    if (a->sync->take_recent && a->first_recent < a->next_uid) {
        a->sync->recent_first = a->first_recent;
        a->sync->recent_last = a->next_uid - 1;
        index_batch_first_recent(a->batch, a->next_uid);
        a->m->old_due = true;
    } else if (a->first_recent != a->status.first_recent_uid) {
        index_batch_first_recent(a->batch, a->first_recent);
    }
}

/* The file's size and time as they are now, which are ours. */
static int note_file(struct apply *a, struct error *e)
{
    static const unsigned char none[16];
    struct mbox_ext ext = a->ext;
    struct stat st;

    if (fstat(a->m->fd, &st) < 0)
        return error_sys(e, "fstat", a->m->box->path);
    ext.size = (uint64_t)st.st_size;
    ext.mtime = (uint32_t)st.st_mtime;
    ext.dirty = a->s->tail > 0;
    if (memcmp(ext.guid, none, 16) == 0)
        store_mailbox_guid_new(a->m->box, ext.guid);
    if (ext.size != a->ext.size || ext.mtime != a->ext.mtime || ext.dirty != a->ext.dirty || memcmp(ext.guid, a->ext.guid, 16) != 0)
        mbox_ext_put(a->m, a->batch, &ext);
    return 0;
}

static int commit(struct apply *a, struct error *e)
{
    struct index *index = a->m->box->index;

    if (a->reset)
        return index_reset(index, a->batch, e);
    if (!a->failed)
        index_batch_done(a->batch, &a->s->requests);
    return index_commit_locked(index, a->batch, NULL, e);
}

/* The file is left alone: flags that it does not have are marked. */
static void mark_dirty(struct apply *a, bool all)
{
    for (size_t i = 0; i < a->s->requests.count; i++) {
        const struct index_request *r = &a->s->requests.at[i];
        struct index_record rec;

        if (r->expunge) {
            a->failed = a->failed || all;
            continue;
        }
        if (!all && a->first == 0 && r->uid == entry_at(a, 0)->uid)
            continue;
        if (index_get(a->m->box->index, r->uid, &rec) && (rec.flags & INDEX_DIRTY) == 0)
            index_batch_flags_raw(a->batch, r->uid, r->uid, INDEX_DIRTY, 0);
    }
}

static int apply_index(struct apply *a, struct error *e)
{
    a->next_uid = a->status.next_uid;
    a->first_recent = a->status.first_recent_uid == 0 ? 1 : a->status.first_recent_uid;
    mark_dirty(a, true);
    note_recent(a);
    return commit(a, e);
}

/* 1, 0: all of the file must be read first, -1. */
static int apply_file(struct apply *a, struct error *e)
{
    bool appended;
    int r;

    if (find_validity(a, e) < 0)
        return -1;
    if (a->s->tail > 0) {
        if (a->reset || !assign_tail(a))
            return 0;
        mark_dirty(a, false);
    } else {
        assign(a, a->first, 0);
    }
    decide_all(a);
    decide_base(a);
    if (make_headers(a, e) < 0)
        return -1;
    r = write_file(a, e);
    if (r <= 0)
        return r;
    if (a->reset || a->status.uid_validity != a->uid_validity)
        index_batch_uid_validity(a->batch, a->uid_validity);
    appended = note_messages(a);
    if (!appended && (a->reset || a->next_uid > a->status.next_uid))
        index_batch_next_uid(a->batch, a->next_uid);
    if (a->s->flush)
        a->m->old_due = false;
    note_recent(a);
    return note_file(a, e) < 0 || commit(a, e) < 0 ? -1 : 1;
}

enum step mbox_sync_apply(struct mbox *m, struct driver_sync *sync, struct mbox_sync *s, struct error *e)
{
    struct apply a = {.m = m, .sync = sync, .s = s, .arena = arena_new()};
    uint64_t before = index_generation(m->box->index);
    int r;

    a.batch = index_batch_new(a.arena, INDEX_EXTERNAL);
    index_status(m->box->index, &a.status);
    mbox_ext_get(m, &a.ext);
    if (s->scanning)
        r = apply_file(&a, e);
    else
        r = apply_index(&a, e) < 0 ? -1 : 1;
    if (r > 0) {
        index_maintain(m->box->index);
        sync->changed = sync->changed || index_generation(m->box->index) != before;
    } else if (r == 0) {
        s->full = true;
    } else {
        sync->recent_first = sync->recent_last = 0;
    }
    VEC_FREE(&a.pieces);
    arena_free(a.arena);
    return r > 0 ? STEP_DONE : r == 0 ? STEP_MORE : STEP_ERROR;
}
