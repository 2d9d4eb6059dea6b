/* sync_apply.c - the second half of a sync: UIDs for new files, requests carried out, one batch for the index
 * (maildir-and-layouts 8.7-5 to 9; index-format 7.9).
 *
 * Files first, then the uidlist, then the index: a crash in between leaves files that the next sync finds, and requests that are
 * still asked for. So does a sync that ends between two steps. */
#include "store/maildir/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct maildir_apply {
    struct maildir *m;
    struct maildir_sync *s;
    struct driver_sync *sync;
    struct arena *arena;
    struct index_batch *batch;
    struct index_requests requests;
    struct index_status status;
    bool reset;                   /* UIDVALIDITY is another one: the index begins anew */
    bool touched;                 /* we renamed or unlinked files */
    bool failed_files;
    bool appended;                /* next_uid grows by itself */
    uint32_t first_recent;
    bool recent_before;           /* there is a recent message already: first_recent stays */
    uint32_t letters_known;       /* which keyword letters have a bit in the index */
    signed char letter_of[256];   /* letter of keyword i of the index, -1 = none */
    unsigned keywords;
    uint64_t generation;          /* of the index before */
    size_t carried;               /* requests that are done (without a scan) */
};

/* ---- new files ---- */

static int compare_fresh(const void *x, const void *y)
{
    const struct maildir_entry *a = x, *b = y;

    return maildir_name_compare(a->name, b->name);
}

/* Nobody has seen it here. Whether it is recent where it was converted from says whoever converts. */
static void add_record(struct maildir_apply *a, struct maildir_entry *entry, const char *fields)
{
    struct maildir_uidlist *list = &a->m->list;
    const char *info = entry->name + entry->base_size;
    struct maildir_record *rec = maildir_uidlist_add(list, list->next_uid++,
        arena_str(maildir_uidlist_arena(list), slice_of(entry->name, entry->base_size)), fields);

    rec->where = entry->in_new ? WHERE_NEW : WHERE_CUR;
    rec->was_new = true;
    rec->info = *info == '\0' ? NULL : arena_strdup(maildir_uidlist_arena(list), info);
    rec->seen = true;
    entry->dropped = true; /* has its UID */
}

static int add_fresh(struct maildir_apply *a, struct error *e)
{
    struct maildir_uidlist *list = &a->m->list;
    struct maildir_sync *s = a->s;
    size_t from = list->count, doubled, count = 0;
    struct maildir_given *given = s->fresh.count == 0 ? NULL : ARENA_ARRAY(a->arena, struct maildir_given, s->fresh.count);

    if (s->fresh.count > 1)
        qsort(s->fresh.at, s->fresh.count, sizeof(*s->fresh.at), compare_fresh);
    if (given != NULL && a->m->lock != NULL)
        count = maildir_given_match(a->m, &s->fresh, given);
    for (size_t i = 0; i < count; i++) {
        list->next_uid = given[i].uid;
        add_record(a, &s->fresh.at[given[i].entry], given[i].fields);
    }
    if (s->fresh.count - count > UINT32_MAX - 2 - list->next_uid)
        return error_set(e, ERROR_LIMIT, "UIDs are used up");
    for (size_t i = 0; i < s->fresh.count; i++)
        if (!s->fresh.at[i].dropped)
            add_record(a, &s->fresh.at[i], NULL);
    /* Garbage: rewrite when most lines are of messages that are gone. */
    if (s->full && (list->lines + s->fresh.count) * 75 / 100 >= list->count - list->gone && list->gone > 0)
        list->recreate = true;
    maildir_uidlist_index(list, &doubled);
    if (list->count == from && !list->recreate && list->exists)
        return 0;
    return maildir_list_write(a->m, from, e);
}

/* ---- keywords ---- */

static void map_keywords(struct maildir_apply *a)
{
    struct index *index = a->m->box->index;

    a->keywords = index_keyword_count(index);
    if (a->keywords > 256)
        a->keywords = 256; /* letters are 26: later keywords are the index's alone */
    for (unsigned i = 0; i < a->keywords; i++) {
        int letter = maildir_keyword_letter(&a->m->keywords, slice_from_str(index_keyword_name(index, i)));

        a->letter_of[i] = (signed char)letter;
        if (letter >= 0)
            a->letters_known |= 1u << letter;
    }
}

static uint32_t letters_of(const struct maildir_apply *a, const struct index_record *rec)
{
    uint32_t letters = 0;

    for (unsigned i = 0; i < a->keywords; i++)
        if (a->letter_of[i] >= 0 && index_keyword_has(rec->keywords, i))
            letters |= 1u << a->letter_of[i];
    return letters;
}

/* The keyword's name; a letter without one gets "unknown-n", which then stands in the file. */
static struct slice letter_name(struct maildir_apply *a, int letter)
{
    struct maildir_keywords *kw = &a->m->keywords;

    if (kw->names[letter] == NULL) {
        kw->names[letter] = mem_printf("unknown-%d", letter);
        kw->changed = true;
    }
    return slice_from_str(kw->names[letter]);
}

/* New keywords of requests get letters while there are any. */
static bool give_letters(struct maildir_apply *a)
{
    struct index *index = a->m->box->index;
    bool any = false;

    for (size_t i = 0; i < a->requests.count; i++) {
        const struct index_request *r = &a->requests.at[i];

        for (size_t k = 0; k < r->keyword_count; k++) {
            unsigned n = r->keywords[k].keyword;

            if (n >= a->keywords || !r->keywords[k].add || a->letter_of[n] >= 0)
                continue;
            if (a->m->lock == NULL) {
                any = true; /* needs the uidlist lock */
                continue;
            }
            a->letter_of[n] = (signed char)maildir_keyword_add(&a->m->keywords, slice_from_str(index_keyword_name(index, n)));
            if (a->letter_of[n] >= 0)
                a->letters_known |= 1u << a->letter_of[n];
        }
    }
    return any;
}

/* ---- requests to files ---- */

struct rename_arg {
    struct maildir_apply *a;
    const struct index_record *want;
    struct maildir_record *rec;
};

static int rename_file(struct maildir *m, const char *name, void *arg, struct error *e)
{
    struct rename_arg *r = arg;
    struct arena *arena = r->a->arena;
    const char *old_info = name + 4 + strlen(r->rec->base);
    uint8_t flags;
    uint32_t have, letters;
    char *info;
    struct stat st;

    /* Letters of keywords that the index does not know stay in the name. */
    maildir_info_parse(old_info, &flags, &have);
    letters = letters_of(r->a, r->want) | (have & ~r->a->letters_known);
    info = maildir_info_make(arena, old_info, r->want->flags & INDEX_FLAGS_CLIENT, letters);
    if (strncmp(name, "cur/", 4) == 0 && strcmp(info, old_info) == 0)
        return fstatat(m->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? 1 : errno == ENOENT ? 0 : error_sys(e, "stat", name);
    if (os_rename(m->dir, name, m->dir, arena_printf(arena, "cur/%s%s", r->rec->base, info), e) < 0)
        return e->class == ERROR_NOT_FOUND ? 0 : -1;
    r->a->touched = true;
    r->rec->where = WHERE_CUR;
    r->rec->info = arena_strdup(maildir_uidlist_arena(&m->list), info);
    return 1;
}

/* The index's flags to the file's name; what cannot be written is marked DIRTY. */
static void carry_flags(struct maildir_apply *a, struct maildir_record *rec, const struct index_record *index)
{
    struct rename_arg arg = {a, index, rec};
    struct error e;
    int r;

    a->s->flag_changes++;
    r = maildir_file_do(a->m, rec->uid, rename_file, &arg, &e);
    if (r < 0) {
        if (e.class != ERROR_SPACE && e.class != ERROR_QUOTA && e.class != ERROR_PERMISSION)
            log_error_value(mail_user_log(a->m->box->user), &e);
        if ((index->flags & INDEX_DIRTY) == 0)
            index_batch_flags_raw(a->batch, rec->uid, rec->uid, INDEX_DIRTY, 0);
        a->failed_files = true;
    } else if ((index->flags & INDEX_DIRTY) != 0) {
        index_batch_flags_raw(a->batch, rec->uid, rec->uid, 0, INDEX_DIRTY);
    }
}

static int unlink_file(struct maildir *m, const char *name, void *arg, struct error *e)
{
    struct maildir_apply *a = arg;

    if (os_unlink(m->dir, name, e) == 0) {
        a->touched = true;
        return 1;
    }
    return e->class == ERROR_NOT_FOUND ? 0 : -1;
}

static void guid128(const struct maildir_record *rec, struct arena *arena, unsigned char guid[16])
{
    store_guid_of_text(slice_from_str(maildir_guid_of(rec, arena)), guid);
}

static void gone(struct maildir_apply *a, struct maildir_record *rec)
{
    if (rec->where != WHERE_GONE)
        a->m->list.gone++;
    rec->where = WHERE_GONE;
    rec->info = NULL;
}

/* An expunge request: the file, then the record. */
static void carry_expunge(struct maildir_apply *a, const struct index_request *request)
{
    struct maildir_record *rec = maildir_uidlist_find(&a->m->list, request->uid);
    unsigned char guid[16];
    struct error e;

    a->s->expunges++;
    memcpy(guid, request->guid, 16);
    if (rec != NULL && rec->where != WHERE_GONE) {
        static const unsigned char none[16];

        if (maildir_file_do(a->m, request->uid, unlink_file, a, &e) < 0) {
            log_error_value(mail_user_log(a->m->box->user), &e);
            a->failed_files = true;
            return; /* the request stays: the next sync tries again */
        }
        if (memcmp(guid, none, 16) == 0)
            guid128(rec, a->arena, guid);
        gone(a, rec);
    }
    index_batch_expunge(a->batch, request->uid, guid);
}

/* ---- the index ---- */

static void append_message(struct maildir_apply *a, struct maildir_record *rec)
{
    struct index_append *append;
    uint8_t flags;
    uint32_t letters;

    maildir_info_parse(rec->info, &flags, &letters);
    append = index_batch_append(a->batch, rec->uid, flags);
    a->appended = true;
    a->s->new_messages++;
    for (int i = 0; i < MAILDIR_LETTERS; i++)
        if ((letters & 1u << i) != 0)
            index_append_keyword(a->batch, append, letter_name(a, i));
    /* A file of cur/ that the uidlist knew was seen by a client before. */
    a->recent_before = a->recent_before || rec->was_new;
    if (!a->recent_before && a->first_recent <= rec->uid)
        a->first_recent = rec->uid + 1;
}

/* The file's flags to the index, where they differ. */
static void take_flags(struct maildir_apply *a, struct maildir_record *rec, const struct index_record *index)
{
    uint32_t letters, have = letters_of(a, index);
    uint8_t flags, mine = index->flags & INDEX_FLAGS_CLIENT;
    struct slice name;

    maildir_info_parse(rec->info, &flags, &letters);
    if (flags != mine)
        index_batch_flags_raw(a->batch, rec->uid, rec->uid, flags, (uint8_t)(mine & ~flags));
    for (int i = 0; letters != have && i < MAILDIR_LETTERS; i++) {
        uint32_t bit = 1u << i;

        if ((letters & bit) == (have & bit))
            continue;
        name = letter_name(a, i);
        index_batch_keywords(a->batch, rec->uid, rec->uid, (letters & bit) != 0 ? INDEX_ADD : INDEX_REMOVE, &name, 1);
    }
}

/* A file whose UID the index has expunged. */
static void reappeared(struct maildir_apply *a, struct maildir_record *rec)
{
    struct maildir_uidlist *list = &a->m->list;
    const char *base = rec->base, *info = rec->info;
    uint8_t where = rec->where;
    uint32_t old = rec->uid;

    if (!rec->suspect) {
        rec->suspect = true; /* somebody's unlink may be under way */
        return;
    }
    log_warning(mail_user_log(a->m->box->user), "Maildir %s: Expunged message reappeared, giving a new UID (old uid=%u, file=%s)",
                a->m->box->path, old, base);
    gone(a, rec);
    list->recreate = true;
    rec = maildir_uidlist_add(list, list->next_uid++, base, NULL);
    rec->where = where;
    rec->info = info;
    rec->seen = true;
}

/* Walks uidlist and index side by side. */
static void compare(struct maildir_apply *a)
{
    struct index *index = a->m->box->index;
    struct maildir_uidlist *list = &a->m->list;
    struct index_record rec;
    size_t next_request = 0;
    bool have = !a->reset && index_get_from(index, 1, &rec);

    for (size_t i = 0; i < list->count || have;) {
        struct maildir_record *file = i < list->count ? &list->at[i] : NULL;
        const struct index_request *request = NULL;

        if (file != NULL && (!have || file->uid < rec.uid)) {
            if (file->seen && file->where != WHERE_GONE) {
                if (a->reset || file->uid >= a->status.next_uid)
                    append_message(a, file);
                else
                    reappeared(a, file);
            } else if (a->s->full && !file->seen) {
                gone(a, file);
            }
            i++;
            continue;
        }
        while (next_request < a->requests.count && a->requests.at[next_request].uid < rec.uid)
            next_request++;
        if (next_request < a->requests.count && a->requests.at[next_request].uid == rec.uid)
            request = &a->requests.at[next_request];
        if (file == NULL || file->uid > rec.uid) {
            /* In the index, but no line: its file has another UID or none. */
            if (a->s->full || (request != NULL && request->expunge))
                index_batch_expunge(a->batch, rec.uid, NULL);
        } else {
            if (a->s->full && !file->seen) {
                unsigned char guid[16];

                guid128(file, a->arena, guid);
                gone(a, file);
                index_batch_expunge(a->batch, rec.uid, guid);
            } else if (request != NULL && request->expunge) {
                carry_expunge(a, request);
            } else if (request != NULL || (rec.flags & INDEX_DIRTY) != 0) {
                carry_flags(a, file, &rec);
            } else if (file->seen) {
                take_flags(a, file, &rec);
            }
            i++;
        }
        have = index_get_from(index, rec.uid + 1, &rec);
    }
}

/* Only requests: no scan has been made. Names that others find out between the steps stand in the uidlist's records, which are
 * looked for each time. */
static enum step carry_requests(struct maildir_apply *a, struct budget *budget)
{
    struct index_record rec;

    maildir_list_touch(a->m);
    while (a->carried < a->requests.count) {
        const struct index_request *request = &a->requests.at[a->carried++];
        struct maildir_record *file = maildir_uidlist_find(&a->m->list, request->uid);

        if (request->expunge)
            carry_expunge(a, request);
        else if (file != NULL && index_get(a->m->box->index, request->uid, &rec))
            carry_flags(a, file, &rec);
        if (budget_spent(budget, 1) && a->carried < a->requests.count)
            return STEP_MORE;
    }
    return STEP_DONE;
}

/* ---- the storage header ---- */

static void note_times(struct maildir_apply *a)
{
    struct maildir *m = a->m;
    struct maildir_sync *s = a->s;
    struct maildir_ext old, ext;
    struct stat st_new, st_cur;
    bool quiet, quiet_new;

    maildir_ext_read(m, &old);
    ext = old;
    if (s->scanned) {
        ext.new_check = s->now;
        ext.new_mtime = (uint32_t)s->st_new.st_mtim.tv_sec;
        ext.new_mtime_ns = (uint32_t)s->st_new.st_mtim.tv_nsec;
    }
    if (s->full) {
        ext.cur_check = s->now;
        ext.cur_mtime = (uint32_t)s->st_cur.st_mtim.tv_sec;
        ext.cur_mtime_ns = (uint32_t)s->st_cur.st_mtim.tv_nsec;
    }
    /* Our own renames and unlinks are no news to us; the check time makes a later look possible where another's change may
     * hide in the same second. */
    quiet = s->full || ((uint32_t)s->st_cur.st_mtim.tv_sec == old.cur_mtime &&
                        (uint32_t)s->st_cur.st_mtim.tv_nsec == old.cur_mtime_ns);
    quiet_new = s->scanned || ((uint32_t)s->st_new.st_mtim.tv_sec == old.new_mtime &&
                               (uint32_t)s->st_new.st_mtim.tv_nsec == old.new_mtime_ns);
    if ((a->touched || s->moved_any) && fstatat(m->dir, "new", &st_new, 0) == 0 && fstatat(m->dir, "cur", &st_cur, 0) == 0) {
        if (quiet_new) {
            ext.new_mtime = (uint32_t)st_new.st_mtim.tv_sec;
            ext.new_mtime_ns = (uint32_t)st_new.st_mtim.tv_nsec;
            ext.new_check = s->now;
        }
        if (quiet) {
            ext.cur_mtime = (uint32_t)st_cur.st_mtim.tv_sec;
            ext.cur_mtime_ns = (uint32_t)st_cur.st_mtim.tv_nsec;
            ext.cur_check = s->now;
        }
    }
    maildir_ext_stat_list(m, &ext);
    for (size_t i = 0; i < m->list.count; i++) {
        if (m->list.at[i].suspect && m->list.at[i].where != WHERE_GONE) {
            ext.cur_mtime_ns = 0; /* look again next time */
            ext.cur_mtime = 0;
            break;
        }
    }
    if (memcmp(&old, &ext, sizeof(ext)) != 0)
        maildir_ext_write(m, a->batch, &ext);
}

static void note_recent(struct maildir_apply *a, uint32_t next_uid)
{
    uint32_t first = a->first_recent == 0 ? 1 : a->first_recent;

    if (a->sync->take_recent && first < next_uid) {
        a->sync->recent_first = first;
        a->sync->recent_last = next_uid - 1;
        index_batch_first_recent(a->batch, next_uid);
    } else if (first != a->status.first_recent_uid) {
        index_batch_first_recent(a->batch, first);
    }
}

static int commit(struct maildir_apply *a, struct error *e)
{
    struct index *index = a->m->box->index;
    struct index_commit out;

    if (a->reset)
        return index_reset(index, a->batch, e);
    if (!a->failed_files)
        index_batch_done(a->batch, &a->requests);
    return index_commit_locked(index, a->batch, &out, e);
}

/* Everything behind the files. */
static int conclude(struct maildir_apply *a, struct error *e)
{
    struct maildir *m = a->m;
    struct maildir_uidlist *list = &m->list;
    uint32_t next_uid;

    if (m->lock != NULL && maildir_keywords_write(m, e) < 0)
        return -1;
    next_uid = a->reset || (a->s->scanned && a->status.next_uid < list->next_uid) ? list->next_uid : a->status.next_uid;
    if (a->status.uid_validity != list->uid_validity && list->uid_validity != 0)
        index_batch_uid_validity(a->batch, list->uid_validity);
    if (a->s->scanned && !a->appended && (a->reset || next_uid > a->status.next_uid))
        index_batch_next_uid(a->batch, next_uid);
    if (a->s->scanned || a->sync->take_recent)
        note_recent(a, next_uid);
    note_times(a);
    if (commit(a, e) < 0)
        return -1;
    if (m->lock != NULL)
        maildir_given_done(m);
    index_maintain(m->box->index);
    a->sync->changed = a->sync->changed || index_generation(m->box->index) != a->generation;
    return 0;
}

/* What the scan has seen. */
static int take_scan(struct maildir_apply *a, struct error *e)
{
    struct maildir *m = a->m;
    size_t before;

    if (!m->look_only && add_fresh(a, e) < 0) /* else they have to wait for someone who may give them UIDs */
        return -1;
    before = m->list.count;
    compare(a);
    return m->list.count != before ? maildir_list_write(m, before, e) : 0;
}

/* Expunges and new letters need the uidlist lock, which comes first. */
static bool needs_both_locks(struct maildir_apply *a)
{
    bool both = give_letters(a);

    for (size_t i = 0; !both && i < a->requests.count; i++)
        both = a->requests.at[i].expunge;
    return both;
}

static void look_at_index(struct maildir_apply *a)
{
    struct maildir *m = a->m;
    struct index_record record;

    if (a->s->scanned && a->status.uid_validity != 0 && a->status.uid_validity != m->list.uid_validity) {
        log_warning(mail_user_log(m->box->user), "Maildir %s: UIDVALIDITY changed (%u -> %u)", m->box->path, a->status.uid_validity,
                    m->list.uid_validity);
        a->reset = true;
        a->first_recent = 1;
    }
    /* What a conversion that died has left on its way to the index has been seen by nobody, wherever its files lie. */
    a->recent_before = (!a->reset && index_get_from(m->box->index, a->first_recent, &record)) ||
                       (a->s->scanned && m->lock != NULL && maildir_given_there(m));
}

/* STEP_MORE: begin again with both locks. */
static enum step begin(struct maildir *m, struct driver_sync *sync, struct maildir_sync *s, struct error *e)
{
    struct arena *arena = arena_new();
    struct maildir_apply *a = s->apply = ARENA_NEW(arena, struct maildir_apply);

    *a = (struct maildir_apply){.m = m, .s = s, .sync = sync, .arena = arena, .generation = index_generation(m->box->index)};
    if (index_pending(m->box->index, arena, &a->requests, e) < 0)
        return STEP_ERROR;
    index_status(m->box->index, &a->status);
    a->first_recent = a->status.first_recent_uid == 0 ? 1 : a->status.first_recent_uid;
    a->batch = index_batch_new(arena, INDEX_EXTERNAL);
    map_keywords(a);
    if (s->index_first && needs_both_locks(a)) {
        maildir_sync_release(m, s);
        s->index_first = false;
        s->phase = SYNC_LOCKING;
        maildir_sync_apply_free(s);
        return STEP_MORE;
    }
    if (!s->index_first)
        give_letters(a);
    look_at_index(a);
    return STEP_DONE;
}

void maildir_sync_apply_free(struct maildir_sync *s)
{
    struct maildir_apply *a = s->apply;

    s->apply = NULL;
    if (a != NULL)
        arena_free(a->arena);
}

enum step maildir_sync_apply(struct maildir *m, struct driver_sync *sync, struct maildir_sync *s, struct budget *budget,
                             struct error *e)
{
    enum step step = s->apply == NULL ? begin(m, sync, s, e) : STEP_DONE;
    unsigned secs;

    if (step == STEP_DONE && !s->scanned)
        step = carry_requests(s->apply, budget);
    else if (step == STEP_DONE && take_scan(s->apply, e) < 0)
        step = STEP_ERROR;
    if (step == STEP_MORE)
        return step;
    if (step == STEP_DONE && conclude(s->apply, e) < 0)
        step = STEP_ERROR;
    secs = maildir_sync_took(s->locked_at);
    if (secs > 0)
        log_warning(mail_user_log(m->box->user),
                    "Maildir %s: Synchronization took %u seconds (%u new msgs, %u flag change attempts, %u expunge attempts)",
                    m->box->path, secs, s->new_messages, s->flag_changes, s->expunges);
    maildir_sync_apply_free(s);
    maildir_sync_release(m, s);
    return step;
}
