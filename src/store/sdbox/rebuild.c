/* rebuild.c - a new index from the files, the old index and its backup (dbox-format 2.6).
 *
 * The files say which messages there are; flags, keywords and whatever else was known of them comes by UID from the old
 * index, else from dovecot.index.backup. UIDs stay what the names say, UIDVALIDITY and the mailbox's GUID what they were:
 * also when every index file but the backup is gone. The new index replaces the old one as one transaction of a new log. */
#include "store/sdbox/sdbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Fields of the base header (index-format 2.1). */
#define BASE_NEXT_UID 28
#define BASE_TEMP_SCAN 80      /* last_temp_file_scan, day_stamp, day_first_uid */

struct found {
    uint32_t uid;
    bool in_alt;
};

struct copied {                      /* an extension that goes on */
    unsigned ext;
    bool records;
    bool cache;
    uint16_t record_size;
};

struct sdbox_rebuild {
    struct sdbox *d;
    enum { REBUILD_BEGIN, REBUILD_CHECK, REBUILD_COMMIT } phase;
    struct arena *arena;
    int alt;
    struct index *backup;            /* NULL = none that can be used */
    VEC(struct found) files;
    struct index_requests expunged;  /* carried_out: expunged, but their files cannot be removed */
    VEC(struct copied) exts;
    size_t next;
    struct index_batch *batch;
    struct sdbox_header header;
    struct index_status status;
    uint32_t uid_validity, highest;
};

bool sdbox_rebuild_wanted(struct sdbox *d)
{
    struct index_status status;
    struct sdbox_header h;
    bool has_header = sdbox_header_get(d, &h);

    index_status(d->box->index, &status);
    if (d->damaged && has_header && h.rebuild_count != d->damaged_count && h.rebuild_count != 0)
        d->damaged = false; /* another process has done it */
    if (d->refused || status.uid_validity == 0)
        return false;
    if (!has_header && !d->damaged)
        mailbox_log(d->box, LOG_LEVEL_ERROR, "%s: sdbox: Invalid dbox header size", d->box->path);
    return d->damaged || status.fscked || !has_header;
}

struct sdbox_rebuild *sdbox_rebuild_begin(struct sdbox *d)
{
    struct sdbox_rebuild *r = mem_zero(1, sizeof(*r));

    r->d = d;
    r->arena = arena_new();
    r->alt = -1;
    return r;
}

void sdbox_rebuild_end(struct sdbox_rebuild **rebuild)
{
    struct sdbox_rebuild *r = *rebuild;

    if (r == NULL)
        return;
    *rebuild = NULL;
    if (r->backup != NULL)
        index_close(&r->backup);
    if (r->alt >= 0)
        close(r->alt);
    VEC_FREE(&r->files);
    VEC_FREE(&r->exts);
    arena_free(r->arena);
    mem_free(r);
}

/* ---- what is there ---- */

static bool parse_name(const char *text, uint32_t *uid)
{
    return text[0] >= '1' && text[0] <= '9' && slice_to_u32(slice_from_str(text), uid) && *uid < UINT32_MAX;
}

static int scan(struct sdbox_rebuild *r, int folder, const char *path, bool in_alt, struct error *e)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    uint32_t uid;

    if (dir == NULL) {
        error_sys(e, "opendir", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    errno = 0;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != 'u' || entry->d_name[1] != '.')
            continue;
        if (parse_name(entry->d_name + 2, &uid))
            VEC_PUSH(&r->files, ((struct found){uid, in_alt}));
        else
            log_warning(mail_user_log(r->d->box->user), "sdbox %s: Ignoring invalid filename %s", r->d->box->path, entry->d_name + 2);
        errno = 0;
    }
    if (errno != 0) {
        error_sys(e, "readdir", path);
        closedir(dir);
        return -1;
    }
    closedir(dir);
    return 0;
}

static int compare_found(const void *x, const void *y)
{
    const struct found *a = x, *b = y;

    if (a->uid != b->uid)
        return a->uid < b->uid ? -1 : 1;
    return (int)a->in_alt - (int)b->in_alt; /* the primary place wins */
}

static bool uses_alt(struct sdbox *d)
{
    struct index_record rec;

    for (uint32_t uid = 1; index_get_from(d->box->index, uid, &rec); uid = rec.uid + 1)
        if ((rec.flags & INDEX_BACKEND) != 0)
            return true;
    return false;
}

static int compare_uids(const void *x, const void *y)
{
    const uint32_t *a = x, *b = y;

    return *a < *b ? -1 : *a > *b;
}

static bool is_expunged(const struct sdbox_rebuild *r, uint32_t uid)
{
    return r->expunged.carried_out_count > 0 &&
           bsearch(&uid, r->expunged.carried_out, r->expunged.carried_out_count, sizeof(uid), compare_uids) != NULL;
}

static int find_files(struct sdbox_rebuild *r, struct error *e)
{
    struct sdbox *d = r->d;
    size_t kept = 0;

    /* What was expunged must not come back, whatever stopped the one who did it before the files were gone. */
    if (sdbox_unlink_carried_out(d, r->arena, &r->expunged, e) < 0 || scan(r, d->dir, d->box->path, false, e) < 0)
        return -1;
    if (d->alt_path != NULL) {
        r->alt = sdbox_open_alt(d, false, e);
        if (r->alt < 0 ? e->class != ERROR_NOT_FOUND : scan(r, r->alt, d->alt_path, true, e) < 0)
            return error_context(e, "sdbox: Rebuilding failed on alt path %s: ", d->alt_path);
    }
    if (r->files.count > 1)
        qsort(r->files.at, r->files.count, sizeof(*r->files.at), compare_found);
    for (size_t i = 0; i < r->files.count; i++)
        if ((kept == 0 || r->files.at[kept - 1].uid != r->files.at[i].uid) && !is_expunged(r, r->files.at[i].uid))
            r->files.at[kept++] = r->files.at[i];
    r->files.count = kept;
    return 0;
}

/* ---- what was known ---- */

/* The base index before the last rewrite. It may be older, or of another time altogether: only what the old index does not
 * know is taken from it. */
static void open_backup(struct sdbox_rebuild *r)
{
    struct mailbox *box = r->d->box;
    struct index_where where = {.path = box->index_path, .prefix = "dovecot.index.backup", .read_only = true};
    struct error e;

    if (box->index_path == NULL)
        return;
    where.dir = open(box->index_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (where.dir < 0)
        return;
    if (faccessat(where.dir, "dovecot.index.backup", F_OK, 0) < 0 || index_open(&r->backup, &where, &e) < 0)
        r->backup = NULL;
    close(where.dir);
}

static bool is_ours(const char *name)
{
    static const char *const names[] = {"dbox-hdr", "hdr-vsize", "modseq", "keywords"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Extensions of others, and the headers of ours that a rebuild does not change. */
static void copy_extensions(struct sdbox_rebuild *r, const struct index *from, bool records)
{
    struct index *index = r->d->box->index;
    struct index_ext_info info;

    for (unsigned i = 0; index_ext_at(from, i, &info); i++) {
        struct index_ext_def def = {.name = arena_strdup(r->arena, info.name), .header_size = info.header_size,
                                    .record_size = info.record_size, .record_align = info.record_align};
        struct copied c = {.record_size = info.record_size};

        if (is_ours(info.name))
            continue;
        if (info.record_align == 0)
            def.record_align = 1;
        c.cache = strcmp(info.name, "cache") == 0;
        if (c.cache && !records)
            continue; /* the backup's offsets are of another cache file */
        c.ext = index_ext(index, &def);
        if (!records && index_ext_exists(index, c.ext))
            continue;
        c.records = records && info.record_size > 0;
        if (info.reset_id != 0)
            index_batch_ext_reset(r->batch, c.ext, info.reset_id, false);
        if (info.header.size > 0)
            index_batch_ext_header(r->batch, c.ext, 0, arena_slice(r->arena, info.header));
        VEC_PUSH(&r->exts, c);
    }
}

static int take_identity(struct sdbox_rebuild *r, struct error *e)
{
    static const unsigned char none[16];
    static const struct index_ext_def def = {.name = "dbox-hdr", .header_size = SDBOX_HEADER_SIZE, .shrink = true};
    struct sdbox *d = r->d;
    bool known = sdbox_header_get(d, &r->header) && r->status.uid_validity != 0;
    struct index_status old = {0};

    if (r->backup != NULL)
        index_status(r->backup, &old);
    r->uid_validity = r->status.uid_validity != 0 ? r->status.uid_validity : old.uid_validity;
    if (!known && r->backup != NULL) {
        struct slice raw = index_ext_header(r->backup, index_ext(r->backup, &def));

        if (raw.size >= 20) {
            memcpy(r->header.guid, raw.at + 4, 16);
            r->header.rebuild_count = bytes_le32(raw.at);
            r->header.flags |= raw.size > 20 ? raw.at[20] : 0;
        }
    }
    if (memcmp(r->header.guid, none, 16) == 0)
        store_guid_new(r->header.guid);
    r->header.rebuild_count++;
    if (!known) /* what the files have is not known */
        r->header.flags |= SDBOX_HAS_POP3_UIDL | SDBOX_HAS_POP3_ORDER;
    return r->uid_validity != 0 ? 0 : store_next_uid_validity(d->box->storage, &r->uid_validity, e);
}

static enum step begin(struct sdbox_rebuild *r, struct error *e)
{
    struct sdbox *d = r->d;

    if (!dbox_alt_mounted(&d->box->storage->at, uses_alt(d))) {
        d->refused = true;
        return error_set(e, ERROR_TEMPORARY, "sdbox: Alt storage not mounted, aborting index rebuild"), STEP_ERROR;
    }
    log_warning(mail_user_log(d->box->user), "sdbox %s: Rebuilding index", d->box->path);
    if (find_files(r, e) < 0)
        return STEP_ERROR;
    index_status(d->box->index, &r->status);
    open_backup(r);
    if (take_identity(r, e) < 0)
        return STEP_ERROR;
    r->batch = index_batch_new(r->arena, INDEX_EXTERNAL);
    sdbox_header_put(d, r->batch, &r->header);
    index_batch_uid_validity(r->batch, r->uid_validity);
    copy_extensions(r, d->box->index, true);
    if (r->backup != NULL)
        copy_extensions(r, r->backup, false);
    r->phase = REBUILD_CHECK;
    return STEP_MORE;
}

/* ---- the files ---- */

enum sound { SOUND, SOUND_MENDED, SOUND_NOT };

static int look(struct sdbox_rebuild *r, int dir, const char *path, const char *name, struct error *e)
{
    struct dbox_metadata meta;
    struct dbox_message m;
    struct dbox_file file;
    struct arena *arena;
    int result;

    if (dbox_file_open(&file, dir, path, name, e) < 0)
        return -1;
    arena = arena_new();
    result = dbox_message_at(&file, file.header.size, &m, e);
    if (result == 0)
        result = dbox_message_metadata(&file, &m, arena, &meta, e);
    if (result == 0) {
        r->header.flags |= meta.pop3_uidl != NULL ? SDBOX_HAS_POP3_UIDL : 0;
        r->header.flags |= meta.has_order ? SDBOX_HAS_POP3_ORDER : 0;
    }
    arena_free(arena);
    dbox_file_close(&file);
    return result;
}

/* Is the message whole? Corrupt ones are repaired once. -1: an I/O fault, the rebuild must not go on. */
static int check_file(struct sdbox_rebuild *r, const struct found *f, enum sound *sound, struct error *e)
{
    struct mailbox *box = r->d->box;
    int dir = f->in_alt ? r->alt : r->d->dir, fixed;
    const char *path = f->in_alt ? r->d->alt_path : box->path;
    char name[SDBOX_NAME_MAX];

    sdbox_name(name, f->uid);
    *sound = SOUND;
    if (look(r, dir, path, name, e) == 0)
        return 0;
    *sound = SOUND_NOT;
    if (e->class == ERROR_NOT_FOUND)
        return 0; /* unlinked meanwhile: it was expunged before */
    if (e->class != ERROR_CORRUPT)
        return -1;
    log_error_value(mail_user_log(box->user), e);
    fixed = dbox_file_fix(dir, path, name, 0, &box->modes, mail_user_log(box->user), e);
    if (fixed < 0 && e->class != ERROR_CORRUPT)
        return -1;
    if (fixed == 1 && look(r, dir, path, name, e) == 0) {
        *sound = SOUND_MENDED;
        return 0;
    }
    if (fixed != 0)
        log_error_value(mail_user_log(box->user), e);
    log_warning(mail_user_log(box->user), "sdbox: Skipping unfixable file: %s/%s", path, name);
    return 0;
}

static void copy_keywords(struct sdbox_rebuild *r, struct index_append *append, const struct index *from, const struct index_record *rec)
{
    for (unsigned i = 0; i < index_keyword_count(from); i++)
        if (index_keyword_has(rec->keywords, i))
            index_append_keyword(r->batch, append, slice_from_str(index_keyword_name(from, i)));
}

static void add_message(struct sdbox_rebuild *r, const struct found *f, bool mended)
{
    const struct index *index = r->d->box->index, *from = index;
    struct index_append *append;
    struct index_record rec = {0};
    uint8_t flags;
    bool known = index_get(index, f->uid, &rec), in_old = known;

    if (!known && r->backup != NULL) {
        from = r->backup;
        known = index_get(from, f->uid, &rec);
    }
    flags = known ? (uint8_t)(rec.flags & INDEX_FLAGS_CLIENT) : 0;
    append = index_batch_append(r->batch, f->uid, flags | (f->in_alt ? INDEX_BACKEND : 0));
    r->highest = f->uid;
    if (known)
        copy_keywords(r, append, from, &rec);
    for (size_t i = 0; in_old && i < r->exts.count; i++) {
        const struct copied *c = &r->exts.at[i];
        struct slice bytes = c->records && !(c->cache && mended) ? index_ext_record(index, c->ext, f->uid) : SLICE_EMPTY;

        if (bytes.size == c->record_size && bytes.size > 0)
            index_append_ext(r->batch, append, c->ext, bytes);
    }
}

static enum step check_files(struct sdbox_rebuild *r, struct budget *budget, struct error *e)
{
    while (r->next < r->files.count) {
        const struct found *f = &r->files.at[r->next];
        enum sound sound;

        if (check_file(r, f, &sound, e) < 0)
            return STEP_ERROR;
        r->next++;
        if (sound != SOUND_NOT)
            add_message(r, f, sound == SOUND_MENDED);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    r->phase = REBUILD_COMMIT;
    return STEP_MORE;
}

/* ---- the new index ---- */

static enum step commit(struct sdbox_rebuild *r, struct error *e)
{
    struct sdbox *d = r->d;
    struct index *index = d->box->index;
    struct slice base = index_header(index);
    struct index_status old = {0};
    unsigned char raw[4];
    uint32_t next = r->highest + 1, first_recent = r->status.first_recent_uid;

    if (r->backup != NULL)
        index_status(r->backup, &old);
    sdbox_header_put(d, r->batch, &r->header);
    if (next < r->status.next_uid)
        next = r->status.next_uid;
    if (r->status.uid_validity == 0 && old.uid_validity == r->uid_validity) {
        next = next < old.next_uid ? old.next_uid : next;
        first_recent = old.first_recent_uid;
    }
    /* Behind the appends, which raise it themselves. */
    bytes_put_le32(raw, next);
    if (next > r->highest + 1)
        index_batch_header(r->batch, BASE_NEXT_UID, slice_of(raw, 4), false);
    index_batch_first_recent(r->batch, first_recent);
    if (base.size >= 120) /* last_temp_file_scan, and on which days mail came */
        index_batch_header(r->batch, BASE_TEMP_SCAN, slice_of(base.at + BASE_TEMP_SCAN, 40), false);
    if (index_reset(index, r->batch, e) < 0)
        return STEP_ERROR;
    if (r->status.modseq_enabled || r->expunged.carried_out_count > 0) {
        struct index_batch *batch = index_batch_new(r->arena, INDEX_INTERNAL);

        if (r->status.modseq_enabled)
            index_batch_enable_modseq(batch);
        for (size_t i = 0; i < r->expunged.carried_out_count; i++)
            index_batch_carried_out(batch, r->expunged.carried_out[i]);
        if (index_commit_locked(index, batch, NULL, e) < 0)
            return STEP_ERROR;
    }
    d->damaged = false;
    return STEP_DONE;
}

enum step sdbox_rebuild_step(struct sdbox_rebuild *r, struct budget *budget, struct error *e)
{
    switch (r->phase) {
    case REBUILD_BEGIN:
        return begin(r, e);
    case REBUILD_CHECK:
        return check_files(r, budget, e);
    case REBUILD_COMMIT:
        return commit(r, e);
    }
    return STEP_DONE;
}
