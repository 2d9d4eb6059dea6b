/* mailbox.c - one mailbox into another: identity first, then messages by ascending UIDs, then the counters.
 *
 * The target tells how far an earlier run came: a UID that is there was copied, and copied whole, because saves are all or
 * nothing. So there is no file of our own that could contradict the mail. UIDNEXT and the highest modseq are set last: until
 * then a UID above the target's last one is one that is still to come. A UID below it that is not there has been removed
 * from the target since, and stays away; what only the target has stays there. Nothing is ever deleted.
 *
 * Maildir puts a batch's files in place before its uidlist names them. Which UIDs they are to have stands in a file beside it
 * meanwhile (src/store/maildir/given.c), so that the sync at the beginning of the next run names them rightly.
 *
 * A message that cannot be read ends its mailbox: those behind it would take its place away. */
#include "migrate/migrate.h"

enum { BATCH_COUNT = 200, BATCH_BYTES = 32 << 20, PIECE = 64 << 10 };

struct copy {
    struct migrate *m;
    struct migrate_box *stats;
    struct mailbox *from, *to;
    struct mailbox_view *view;      /* of the target */
    struct arena *arena;            /* of the batch */
    struct save *saves[BATCH_COUNT];
    uint32_t uids[BATCH_COUNT];
    size_t count;
    uint64_t bytes;
    uint32_t next_uid;              /* the target's, when we began */
    bool modseqs;
};

/* ---- what is there already ---- */

static size_t keywords_of(struct mailbox *box, const struct index_record *rec, struct arena *arena, struct slice **out)
{
    struct index *index = mailbox_index(box);
    unsigned known = index_keyword_count(index);
    size_t n = 0;

    *out = ARENA_ARRAY(arena, struct slice, known + 1);
    for (unsigned i = 0; i < known; i++)
        if (index_keyword_has(rec->keywords, i))
            (*out)[n++] = slice_from_str(arena_strdup(arena, index_keyword_name(index, i)));
    return n;
}

static bool same_keywords(const struct copy *c, const struct slice *names, size_t n, const struct index_record *there)
{
    struct index *index = mailbox_index(c->to);
    size_t has = 0;

    for (unsigned i = 0; i < index_keyword_count(index); i++)
        has += index_keyword_has(there->keywords, i);
    if (has != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int at = index_keyword_find(index, names[i]);

        if (at < 0 || !index_keyword_has(there->keywords, (unsigned)at))
            return false;
    }
    return true;
}

static int head_of(struct mail *mail, struct buffer *out, struct error *e)
{
    const struct mime_source *source;
    unsigned char *piece = arena_alloc(mail_arena(mail), PIECE);
    ssize_t n;

    if (mail_source(mail, &source, e) < 0)
        return -1;
    while (out->size < PIECE && (n = mime_source_read(source, out->size, piece, PIECE - out->size, e)) != 0) {
        if (n < 0)
            return -1;
        buffer_append(out, piece, (size_t)n);
    }
    return 0;
}

/* The next line without its end; false behind the last one. */
static bool next_line(struct slice *rest, struct slice *line)
{
    if (rest->size == 0)
        return false;
    slice_split(rest, '\n', line);
    if (line->size > 0 && line->at[line->size - 1] == '\r')
        *line = slice_head(*line, line->size - 1);
    return true;
}

/* Is `copy` what a format makes of `text` that keeps its own facts in the header (mbox)? It has given every message a GUID of its own, and
 * left header lines out that it uses itself; line ends may be others, and one more or less at the end. Not whole: both are cut
 * off somewhere. */
static bool may_be_copy(struct slice text, struct slice copy, bool whole)
{
    struct slice a, b;
    bool header = true;

    while (next_line(&copy, &b)) {
        do {
            if (!next_line(&text, &a))
                return !whole || (b.size == 0 && copy.size == 0);
        } while (header && a.size > 0 && !slice_equal(a, b));
        if (!slice_equal(a, b))
            return !whole && (text.size == 0 || copy.size == 0);
        header = header && a.size > 0;
    }
    return !whole || !next_line(&text, &a) || (a.size == 0 && text.size == 0);
}

static bool same_content(struct mail *from, struct mail *to, struct error *e)
{
    struct buffer a = {0}, b = {0};
    int64_t date_a, date_b;
    bool same = mail_internal_date(from, &date_a, e) == 0 && mail_internal_date(to, &date_b, e) == 0 && date_a == date_b &&
                head_of(from, &a, e) == 0 && head_of(to, &b, e) == 0 &&
                may_be_copy(buffer_slice(&a), buffer_slice(&b), a.size < PIECE && b.size < PIECE);

    buffer_free(&a);
    buffer_free(&b);
    return same;
}

static int same_message(const struct copy *c, uint32_t uid, struct error *e)
{
    struct mail *a = NULL, *b = NULL;
    unsigned char guid_a[16], guid_b[16];
    int r = -1;

    if (mail_open_uid(c->from, uid, &a, e) == 0 && mail_open_uid(c->to, uid, &b, e) == 0 && mail_guid128(a, guid_a, e) == 0 &&
        mail_guid128(b, guid_b, e) == 0) {
        r = memcmp(guid_a, guid_b, 16) == 0 || same_content(a, b, e) ? 0 : -1;
        if (r < 0)
            error_set(e, ERROR_EXISTS, "it is another message in the target (somebody saved there): remove the target mailbox, "
                                       "then run again");
    }
    mail_close(&a);
    mail_close(&b);
    return r;
}

/* A later run brings flags up to date. */
static int update(struct copy *c, const struct index_record *rec, const struct index_record *there, struct error *e)
{
    struct arena *arena = arena_new();
    struct slice *names;
    size_t n = keywords_of(c->from, rec, arena, &names);
    struct index_batch *batch;
    uint8_t flags = rec->flags & INDEX_FLAGS_CLIENT;
    int r = 0;

    c->stats->present++;
    if (same_message(c, rec->uid, e) < 0) {
        r = -1;
    } else if (flags != (there->flags & INDEX_FLAGS_CLIENT) || !same_keywords(c, names, n, there)) {
        batch = index_batch_new(arena, INDEX_INTERNAL);
        index_batch_flags(batch, rec->uid, rec->uid, INDEX_REPLACE, flags);
        index_batch_keywords(batch, rec->uid, rec->uid, INDEX_REPLACE, names, n);
        r = store_op_wait(mailbox_commit(c->view, batch, MAILBOX_RIGHT_WRITE, NULL), e);
        if (r == 0)
            c->stats->changed++;
    }
    arena_free(arena);
    return r;
}

/* ---- copying ---- */

static int write_bytes(struct save *save, struct mail *mail, struct error *e)
{
    const struct mime_source *source;
    unsigned char *piece;
    uint64_t at = 0;
    ssize_t n;

    if (mail_source(mail, &source, e) < 0)
        return -1;
    if (source->read == NULL)
        return save_write(save, source->whole, e);
    piece = arena_alloc(mail_arena(mail), PIECE);
    while ((n = source->read(source->arg, at, piece, PIECE, e)) > 0) {
        if (save_write(save, slice_of(piece, (size_t)n), e) < 0)
            return -1;
        at += (uint64_t)n;
    }
    return n < 0 ? -1 : 0;
}

static int stage(struct copy *c, struct mail *mail, const struct index_record *rec, struct error *e)
{
    struct mail_meta meta = {.has_date = true, .uid = rec->uid, .flags = rec->flags & INDEX_FLAGS_CLIENT};
    struct slice *names;
    struct save *save = NULL;

    meta.keyword_count = keywords_of(c->from, rec, mail_arena(mail), &names);
    meta.keywords = names;
    if (c->modseqs)
        meta.min_modseq = rec->modseq;
    if (mail_internal_date(mail, &meta.internal_date, e) < 0 || mail_save_date(mail, &meta.save_date, e) < 0 ||
        mail_guid(mail, &meta.guid, e) < 0 || mail_pop3_uidl(mail, &meta.pop3_uidl, e) < 0 ||
        mail_pop3_order(mail, &meta.pop3_order, e) < 0)
        return -1;
    if (save_begin(c->to, &meta, &save, e) < 0)
        return -1;
    if (write_bytes(save, mail, e) < 0 || save_finish(save, e) < 0) {
        save_cancel(&save);
        return -1;
    }
    c->bytes += save_size(save);
    c->uids[c->count] = rec->uid;
    c->saves[c->count++] = save;
    return 0;
}

static int flush(struct copy *c, struct error *e)
{
    struct save_result result;
    size_t n = c->count;

    if (n == 0)
        return 0;
    c->count = 0;
    c->bytes = 0;
    if (store_op_wait(save_commit(c->to, c->saves, n, true, NULL, c->arena, &result), e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (result.uids[i] != c->uids[i])
            return error_set(e, ERROR_CORRUPT, "UID %u became %u: somebody else saves into the target", c->uids[i], result.uids[i]);
    c->stats->copied += (uint32_t)n;
    return 0;
}

/* A record of the source; `rec` points into its index, which looking at a message may change: hence the copy. */
static int copy_one(struct copy *c, const struct index_record *source, struct error *e)
{
    struct index_record rec = *source, there;
    struct mail *mail = NULL;
    int r;

    rec.keywords = slice_of(arena_copy(c->arena, rec.keywords.at, rec.keywords.size), rec.keywords.size);
    if (index_get(mailbox_index(c->to), rec.uid, &there))
        return update(c, &rec, &there, e);
    if (rec.uid < c->next_uid) {
        c->stats->gone++;
        return 0;
    }
    r = mail_open_uid(c->from, rec.uid, &mail, e) < 0 ? -1 : stage(c, mail, &rec, e);
    if (r < 0 && e->class == ERROR_EXPUNGED)
        r = 0; /* gone from the source meanwhile */
    mail_close(&mail);
    if (r == 0 && (c->count == BATCH_COUNT || c->bytes >= BATCH_BYTES))
        r = flush(c, e);
    return r;
}

static int copy_all(struct copy *c, struct error *e)
{
    struct index_record rec;
    int r = 0;

    for (uint32_t uid = 1; r == 0 && index_get_from(mailbox_index(c->from), uid, &rec);) {
        uid = rec.uid + 1;
        r = copy_one(c, &rec, e);
        if (r < 0)
            error_context(e, "UID %u: ", uid - 1);
        c->stats->done++;
        progress_draw(c->m, c->stats);
        if (c->count == 0) {
            arena_free(c->arena);
            c->arena = arena_new();
        }
    }
    /* What could be read is saved in any case. */
    if (r == 0) {
        r = flush(c, e);
    } else {
        struct error second;

        if (flush(c, &second) < 0)
            *e = second;
    }
    return r;
}

static void count_extra(struct copy *c)
{
    struct index_record rec, other;

    for (uint32_t uid = 1; index_get_from(mailbox_index(c->to), uid, &rec); uid = rec.uid + 1)
        if (!index_get(mailbox_index(c->from), rec.uid, &other))
            c->stats->extra++;
}

/* Where the GUID could not be taken over (LAYOUT=index), an equal UIDVALIDITY alone does not make it the same mailbox: then
 * something must be in common. */
static int check_related(struct copy *c, const struct mailbox_identity *id, struct error *e)
{
    struct index_record rec, other;
    unsigned char guid[16];

    if (mailbox_guid(c->to, guid, e) < 0)
        return -1;
    if (memcmp(guid, id->guid, 16) == 0 || index_count(mailbox_index(c->to)) == 0 || index_count(mailbox_index(c->from)) == 0)
        return 0;
    for (uint32_t uid = 1; index_get_from(mailbox_index(c->to), uid, &rec); uid = rec.uid + 1)
        if (index_get(mailbox_index(c->from), rec.uid, &other))
            return same_message(c, rec.uid, e);
    return error_set(e, ERROR_EXISTS, "it has messages, and none of the source's");
}

/* Records that raise modseqs are only understood behind the one that enables them. */
static int enable_modseqs(struct copy *c, struct error *e)
{
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_INTERNAL);
    struct index_status status;
    int r = 0;

    index_status(mailbox_index(c->to), &status);
    if (c->modseqs && !status.modseq_enabled) {
        index_batch_enable_modseq(batch);
        r = store_op_wait(mailbox_commit(c->view, batch, 0, NULL), e);
    }
    arena_free(arena);
    return r;
}

/* A Dovecot may have rebuilt the target between two runs. */
static int take_back_misplaced(struct copy *c, uint32_t next_uid, struct error *e)
{
    struct index_status target;
    uint32_t first;

    index_status(mailbox_index(c->to), &target);
    if (target.next_uid > next_uid || !mailbox_can_unplace(c->to))
        return 0;
    if (migrate_find_misplaced(c->from, c->to, &first, e) < 0)
        return -1;
    return first == 0 || (store_op_wait(mailbox_unplace(c->to, first), e) == 0 &&
                          store_op_wait(mailbox_sync(c->to, NULL, SYNC_FULL), e) == 0) ? 0 : -1;
}

static int convert(struct copy *c, struct error *e)
{
    struct mailbox_identity id = {0};
    struct index_status status, target;

    if (store_op_wait(mailbox_sync(c->from, NULL, SYNC_FULL), e) < 0 || store_op_wait(mailbox_sync(c->to, NULL, SYNC_FULL), e) < 0 ||
        mailbox_guid(c->from, id.guid, e) < 0)
        return -1;
    index_status(mailbox_index(c->from), &status);
    c->stats->total = status.messages;
    c->modseqs = status.modseq_enabled;
    id.uid_validity = status.uid_validity;
    /* The second sync takes in what an interrupted run has put in place and not named, where the format can. */
    if (store_op_wait(mailbox_adopt(c->to, &id), e) < 0 || store_op_wait(mailbox_sync(c->to, NULL, SYNC_FULL), e) < 0 ||
        take_back_misplaced(c, status.next_uid, e) < 0 || check_related(c, &id, e) < 0)
        return -1;
    index_status(mailbox_index(c->to), &target);
    c->next_uid = target.next_uid;
    c->view = mailbox_view_open(c->to, false);
    if (enable_modseqs(c, e) < 0 || copy_all(c, e) < 0)
        return -1;
    id.next_uid = status.next_uid;
    id.first_recent = status.first_recent_uid;
    id.highest_modseq = status.modseq_enabled ? status.highest_modseq : 0;
    if (store_op_wait(mailbox_adopt(c->to, &id), e) < 0 || store_op_wait(mailbox_sync(c->to, NULL, SYNC_FULL), e) < 0)
        return -1;
    count_extra(c);
    return 0;
}

static int open_target(struct copy *c, const struct mailbox_place *to, struct error *e)
{
    enum mailbox_existence there;

    if (mailbox_exists(to, false, &there, e) < 0)
        return -1;
    if (there != MAILBOX_EXISTS_YES && store_op_wait(mailbox_create(to, false, NULL), e) < 0 && e->class != ERROR_EXISTS)
        return -1;
    return mailbox_open(&c->to, to, MAILBOX_OPEN_CREATE | MAILBOX_OPEN_SAVE, e);
}

static int look_only(struct copy *c, struct error *e)
{
    struct index_status status;

    if (store_op_wait(mailbox_sync(c->from, NULL, SYNC_POLL), e) < 0)
        return -1;
    index_status(mailbox_index(c->from), &status);
    c->stats->total = status.messages;
    return 0;
}

int migrate_mailbox(struct migrate *m, const struct mailbox_place *from, const struct mailbox_place *to, struct migrate_box *stats,
                    struct error *e)
{
    struct copy c = {.m = m, .stats = stats, .arena = arena_new()};
    int r = mailbox_open(&c.from, from, 0, e);

    if (r == 0)
        r = m->dry_run ? look_only(&c, e) : open_target(&c, to, e);
    if (r == 0 && !m->dry_run)
        r = c.from == c.to ? error_set(e, ERROR_INVALID, "source and target are the same mailbox") : convert(&c, e);
    for (size_t i = 0; i < c.count; i++)
        save_cancel(&c.saves[i]);
    if (c.view != NULL)
        mailbox_view_close(&c.view);
    if (c.from != NULL)
        mailbox_close(&c.from);
    if (c.to != NULL)
        mailbox_close(&c.to);
    arena_free(c.arena);
    if (r < 0)
        stats->failed = arena_strdup(m->arena, e->admin);
    return r;
}
