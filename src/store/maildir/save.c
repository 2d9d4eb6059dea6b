/* save.c - staging messages in tmp/, publishing them into new/ or cur/ (maildir-and-layouts 8.8, 8.9).
 *
 * Staged: a file in tmp/, whole, converted, dated; nobody sees it. Durable: its fsync, without a lock. Published, under
 * the uidlist lock and the index log lock: rename, fsync of the folders, uidlist record, index record. A crash before the
 * rename leaves a file in tmp/ (removed after 36 hours), one after it leaves a message that the next sync finds.
 *
 * A copy by link leaves nothing in tmp/: staged, it only says of which message it is one, and the link gets its name at
 * once when it is published. What is expunged over there in between is no copy. */
#include "store/internal.h"
#include "store/maildir/maildir.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

struct maildir_staged {
    char *base;                /* tmp/<base> */
    struct stage_writer *writer; /* while bytes come */
    struct mailbox *source;    /* of a copy by link: referenced; NULL = the bytes are in tmp/ */
    uint32_t source_uid;
    const char *source_base;   /* of a copy: the name to keep; NULL = base */
    const char *source_guid;   /* of a copy */
    const char *published;     /* "new/x" or "cur/x", once it is there */
    bool has_tmp;
};

static struct maildir *maildir_of(const struct staged *s)
{
    return s->box->data;
}

static const char *tmp_name(struct staged *s, const struct maildir_staged *d)
{
    return arena_printf(s->arena, "tmp/%s", d->base);
}

static struct maildir_staged *new_staged(struct staged *s)
{
    struct maildir_staged *d = ARENA_NEW(s->arena, struct maildir_staged);

    d->base = maildir_name_new(s->arena);
    s->data = d;
    s->fd = -1;
    return d;
}

/* The file in tmp/. -> fd or -1. */
static int create_tmp(struct staged *s, struct error *e)
{
    struct maildir *m = maildir_of(s);
    struct maildir_staged *d = s->data;
    const struct mail_modes *modes = &s->box->modes;
    bool made = false;

    for (int tries = 0; tries < 10; tries++) {
        int fd = os_create(m->dir, tmp_name(s, d), modes->file, modes->gid, e);

        if (fd >= 0) {
            d->has_tmp = true;
            return fd;
        }
        if (e->class == ERROR_NOT_FOUND && !made) {
            made = true;
            if (os_mkdir(m->dir, "tmp", modes->dir, modes->gid, e) < 0 && e->class != ERROR_EXISTS)
                break;
        } else if (e->class == ERROR_EXISTS) {
            d->base = maildir_name_new(s->arena);
        } else {
            break;
        }
    }
    error_context(e, "%s/", s->box->path);
    return stage_space_text(e);
}

int maildir_stage(struct staged *s, struct error *e)
{
    struct maildir_staged *d = new_staged(s);

    s->fd = create_tmp(s, e);
    if (s->fd < 0)
        return -1;
    d->writer = stage_writer_new(s->box, s->fd, maildir_of(s)->save_crlf);
    return 0;
}

int maildir_stage_write(struct staged *s, struct slice bytes, struct error *e)
{
    struct maildir_staged *d = s->data;

    return stage_writer_put(d->writer, bytes, e);
}

int maildir_stage_finish(struct staged *s, struct error *e)
{
    struct maildir_staged *d = s->data;

    if (stage_writer_finish(d->writer, e) < 0)
        return -1;
    s->size_physical = d->writer->size_physical;
    s->size_virtual = d->writer->size_virtual;
    if (d->writer->coded)
        d->source_guid = d->base; /* without sizes, as Dovecot has it where the file's size is not the message's */
    stage_writer_free(&d->writer);
    if (s->meta.has_date && os_set_times(maildir_of(s)->dir, tmp_name(s, d), (time_t)s->meta.internal_date, e) < 0)
        return -1;
    return 0;
}

void maildir_discard(struct staged *s)
{
    struct maildir_staged *d = s->data;
    struct error e;

    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    if (d == NULL)
        return;
    stage_writer_free(&d->writer);
    if (d->has_tmp && os_unlink(maildir_of(s)->dir, tmp_name(s, d), &e) < 0 && e.class != ERROR_NOT_FOUND)
        log_error_value(mail_user_log(s->box->user), &e);
    d->has_tmp = false;
    mailbox_close(&d->source);
}

/* ---- copies ---- */

static bool same_modes(const struct mailbox *a, const struct mailbox *b)
{
    return a->modes.file == b->modes.file && a->modes.gid == b->modes.gid;
}

/* May the file with this name be linked, and how large is it? */
static int look_at_source(struct maildir *from, const char *name, void *arg, struct error *e)
{
    struct staged *s = arg;
    struct maildir_staged *d = s->data;
    struct stat st;

    if (fstatat(from->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : error_sys(e, "stat", name);
    if (!S_ISREG(st.st_mode))
        return 1;
    d->source = mailbox_ref(from->box);
    s->size_physical = (uint64_t)st.st_size;
    return 1;
}

int maildir_stage_copy(struct staged *s, struct mailbox *from_box, uint32_t uid, struct error *e)
{
    struct maildir *m = maildir_of(s), *from;
    struct maildir_staged *d;
    struct maildir_record *rec;
    struct slice base;
    uint64_t w, size;
    int r;

    if (from_box->driver != &maildir_driver || !m->copy_with_hardlinks || !same_modes(s->box, from_box))
        return 0;
    from = from_box->data;
    error_clear(e);
    rec = maildir_record_of(from, uid, e);
    if (rec == NULL)
        return e->class == ERROR_NONE ? store_message_gone(uid, e) : -1;
    d = new_staged(s);
    d->source_uid = uid;
    base = slice_from_str(rec->base);
    if (rec->where != WHERE_GONE && !from->broken_sizes && maildir_size_field(base, 'W', &w) && maildir_size_field(base, 'S', &size)) {
        /* The name says the size, and so that a mail server made the file: no look at it. */
        d->source = mailbox_ref(from_box);
        s->size_physical = size;
    } else if (store_read_coded(from_box)) {
        return 0; /* the file's size may be another one */
    } else {
        r = maildir_file_do(from, uid, look_at_source, s, e);
        if (r < 0)
            return -1;
        rec = maildir_uidlist_find(&from->list, uid);
        if (r == 0 || rec == NULL)
            return store_message_gone(uid, e);
        if (d->source == NULL)
            return 0;
    }
    base = slice_from_str(rec->base);
    d->source_guid = maildir_guid_of(rec, s->arena);
    if (maildir_size_field(base, 'W', &w))
        s->size_virtual = w;
    /* The name is kept only where it says the size rightly. */
    if (s->size_virtual != 0 && maildir_size_field(base, 'S', &size) && size == s->size_physical &&
        strcmp(d->source_guid, rec->base) == 0)
        d->source_base = arena_strdup(s->arena, rec->base);
    return 1;
}

int maildir_stage_again(struct staged *s, const struct staged *first, struct error *e)
{
    struct maildir *m = maildir_of(s), *other = first->box->data;
    const struct maildir_staged *from = first->data;
    struct maildir_staged *d;

    if (first->box->driver != &maildir_driver || !same_modes(s->box, first->box) || m->save_crlf != other->save_crlf ||
        s->meta.has_date != first->meta.has_date || s->meta.internal_date != first->meta.internal_date)
        return 0;
    d = new_staged(s);
    if (os_link(other->dir, arena_printf(s->arena, "tmp/%s", from->base), m->dir, tmp_name(s, d), e) < 0) {
        if (e->sys == EXDEV || e->sys == EMLINK || e->sys == EPERM || e->sys == EACCES)
            return 0;
        return stage_space_text(e);
    }
    d->has_tmp = true;
    s->size_physical = first->size_physical;
    s->size_virtual = first->size_virtual;
    return 1;
}

/* ---- publishing ---- */

struct publish {
    enum { PUBLISH_LOCK_LIST, PUBLISH_SYNC, PUBLISH_LOCK_INDEX, PUBLISH_PREPARE, PUBLISH_FILES, PUBLISH_SYNCED, PUBLISH_COMMIT } phase;
    struct arena *arena;
    struct driver_sync sync;
    bool index_locked, without_uids, renamed;
    size_t at;                     /* the next to get its name */
    bool any_new, any_cur;
    unsigned syncs;
    bool given;                    /* UIDs came along */
    size_t list_before;
    uint32_t next_before;
    uint64_t size_before;
    struct stat st_new, st_cur;
    struct maildir_ext ext;
    bool quiet_new, quiet_cur;
    int new_fd, cur_fd;
};

static void close_fds(struct publish *p, struct maildir *m)
{
    if (p->new_fd >= 0)
        close(p->new_fd);
    if (p->cur_fd >= 0)
        close(p->cur_fd);
    if (m->sync_fd >= 0)
        close(m->sync_fd);
    p->new_fd = p->cur_fd = m->sync_fd = -1;
}

static void unlock(struct mailbox *box, struct publish *p)
{
    struct maildir *m = box->data;

    if (p->index_locked)
        index_unlock(box->index);
    p->index_locked = false;
    maildir_list_unlock(m);
}

/* Lines of UIDs that were given are taken back: else the list would say that these UIDs are used up, and the next run of a
 * conversion that their messages were there and have been removed. Nobody has shown them to a client: that takes our lock. */
static void take_back_lines(struct maildir *m, const struct publish *p)
{
    struct maildir_uidlist *list = &m->list;
    struct stat st;
    struct error e;
    int fd = openat(m->control, "dovecot-uidlist", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && st.st_ino == list->ino && (uint64_t)st.st_size > p->size_before &&
        os_truncate(fd, p->size_before, &e) < 0)
        log_error_value(mail_user_log(m->box->user), &e);
    close(fd);
}

/* The failure of one is the failure of all: what got its name goes. */
static void undo(struct mailbox *box, struct driver_publish *pub, const struct publish *p)
{
    struct maildir *m = box->data;
    struct error e;

    if (p->given)
        take_back_lines(m, p);

    for (size_t i = 0; i < pub->count; i++) {
        struct maildir_staged *d = pub->staged[i]->data;

        if (d->published != NULL && os_unlink(m->dir, d->published, &e) < 0 && e.class != ERROR_NOT_FOUND)
            log_error_value(mail_user_log(box->user), &e);
        d->published = NULL;
        pub->staged[i]->uid = 0;
    }
    if (!p->without_uids) {
        /* Lines of files that are gone again: the list is read anew. What stands there is used up, and no more. */
        m->list.next_uid = p->next_before;
        m->list.exists = true;
        m->list.ino = 0;
    }
    maildir_given_done(m);
}

static uint32_t letters_for(struct maildir *m, const struct mail_meta *meta)
{
    uint32_t letters = 0;

    for (size_t i = 0; i < meta->keyword_count; i++) {
        int letter = maildir_keyword_letter(&m->keywords, meta->keywords[i]);

        if (letter < 0)
            letter = maildir_keyword_add(&m->keywords, meta->keywords[i]);
        if (letter >= 0)
            letters |= 1u << letter;
    }
    return letters;
}

static char *sized_base(struct staged *s, const struct maildir_staged *d)
{
    char *base = arena_printf(s->arena, "%s,S=%llu", d->base, (unsigned long long)s->size_physical);

    if (s->size_virtual != 0 || s->size_physical == 0)
        base = arena_printf(s->arena, "%s,W=%llu", base, (unsigned long long)s->size_virtual);
    return base;
}

static int copy_bytes(const struct mime_source *from, int to, struct error *e)
{
    unsigned char *room = mem_room_new();
    uint64_t at = 0;
    ssize_t n;

    while ((n = from->read(from->arg, at, room, MEM_ROOM_SIZE, e)) > 0 && os_write(to, slice_of(room, (size_t)n), e) == 0)
        at += (uint64_t)n;
    mem_room_free(room);
    return n == 0 ? 0 : -1;
}

/* In place of a link that cannot be made: the same bytes and the same date in a file in tmp/, durable. */
static int copy_file(struct maildir *m, struct staged *s, struct error *e)
{
    const struct maildir_staged *d = s->data;
    struct mail_file file = {.fd = -1};
    int r, to;

    if (maildir_read(d->source, d->source_uid, s->arena, &file, e) < 0)
        return -1;
    to = create_tmp(s, e);
    r = to < 0 ? -1 : copy_bytes(&file.source, to, e);
    if (r == 0)
        r = os_set_times(m->dir, tmp_name(s, d), file.internal_date, e);
    if (r == 0 && !m->fsync_never)
        r = os_sync(to, e);
    if (to >= 0)
        close(to);
    maildir_read_end(&file);
    return r;
}

struct link_arg {
    struct maildir *m;
    const char *to;
};

static int link_file(struct maildir *from, const char *name, void *arg, struct error *e)
{
    const struct link_arg *l = arg;

    if (os_link(from->dir, name, l->m->dir, l->to, e) == 0)
        return 1;
    return e->class == ERROR_NOT_FOUND ? 0 : -1;
}

/* The file that this is a copy of, under its new name or, where links are refused, in tmp/. ERROR_EXPUNGED: it is gone. */
static int take_source(struct maildir *m, struct staged *s, const char *to, struct error *e)
{
    struct maildir_staged *d = s->data;
    struct link_arg arg = {m, to};
    struct stat st;
    int r = maildir_file_do(d->source->data, d->source_uid, link_file, &arg, e);

    if (r == 0 && fstatat(m->dir, *to == 'n' ? "new" : "cur", &st, 0) < 0)
        return error_sys(e, "stat", s->box->path);
    if (r == 0 || (r < 0 && e->class == ERROR_NOT_FOUND)) /* that: its whole mailbox is gone */
        return store_message_gone(d->source_uid, e);
    if (r < 0 && (e->sys == EXDEV || e->sys == EMLINK || e->sys == EPERM || e->sys == EACCES))
        r = copy_file(m, s, e);
    if (r >= 0)
        mailbox_close(&d->source);
    return r < 0 ? -1 : 0;
}

/* A message to its name: a link to its source, or tmp/x. A kept name (of a copy) must not replace another file: *kept says
 * that the uidlist knows all files of the folders. NULL: a name of our own. */
static int put_in_place(struct maildir *m, struct staged *s, const char *base, const char *info, const bool *kept,
                        struct error *e)
{
    struct maildir_staged *d = s->data;
    const char *to = arena_printf(s->arena, "%s/%s%s", *info == '\0' ? "new" : "cur", base, info);
    struct stat st;

    if (d->source != NULL && take_source(m, s, to, e) < 0)
        return -1;
    if (d->has_tmp) {
        if (kept != NULL && !*kept && fstatat(m->dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return error_set(e, ERROR_EXISTS, "%s/%s is there already", s->box->path, to);
        if (os_rename(m->dir, tmp_name(s, d), m->dir, to, e) < 0)
            return -1;
    }
    d->has_tmp = false;
    d->published = to;
    return 0;
}

/* What the uidlist says of a message besides its name; guid: where the name is not the GUID. */
static const char *fields_for(struct staged *s, const char *guid)
{
    const char *fields = guid == NULL ? NULL : maildir_fields_set(s->arena, NULL, 'G', guid);

    if (s->meta.pop3_uidl != NULL)
        fields = maildir_fields_set(s->arena, fields, 'P', s->meta.pop3_uidl);
    if (s->meta.pop3_order != 0)
        fields = maildir_fields_set(s->arena, fields, 'O', arena_printf(s->arena, "%u", s->meta.pop3_order));
    return fields;
}

static int publish_one(struct maildir *m, struct staged *s, bool with_uid, const bool *quiet, struct error *e)
{
    struct maildir_staged *d = s->data;
    struct maildir_uidlist *list = &m->list;
    const char *fields, *base = NULL, *info = "", *guid = s->meta.guid;
    bool kept = false;
    uint32_t letters = with_uid ? letters_for(m, &s->meta) : 0;
    struct maildir_record *rec;

    if ((s->meta.flags & INDEX_FLAGS_CLIENT) != 0 || s->meta.keyword_count > 0)
        info = maildir_info_make(s->arena, NULL, s->meta.flags & INDEX_FLAGS_CLIENT, letters);
    if (with_uid && d->source_base != NULL && guid == NULL) {
        rec = maildir_uidlist_find_base(list, d->source_base, strlen(d->source_base));
        if (rec == NULL) {
            base = d->source_base;
            if (put_in_place(m, s, base, info, quiet, e) < 0) {
                if (e->class != ERROR_EXISTS)
                    return -1;
                base = NULL;
            }
            kept = base != NULL;
        }
    }
    if (base == NULL) {
        base = sized_base(s, d);
        if (guid == NULL)
            guid = d->source_guid;
        if (put_in_place(m, s, base, info, NULL, e) < 0)
            return -1;
    }
    s->storage_id = base;
    if (!with_uid)
        return 0;
    fields = fields_for(s, kept ? NULL : guid);
    if (s->meta.uid >= list->next_uid && s->meta.uid < UINT32_MAX - 1)
        list->next_uid = s->meta.uid;
    rec = maildir_uidlist_add(list, list->next_uid++, arena_strdup(maildir_uidlist_arena(list), base),
                              fields == NULL ? NULL : arena_strdup(maildir_uidlist_arena(list), fields));
    rec->where = *info == '\0' ? WHERE_NEW : WHERE_CUR;
    rec->info = *info == '\0' ? NULL : arena_strdup(maildir_uidlist_arena(list), info);
    s->uid = rec->uid;
    return 0;
}

/* A value with a space or a line end would break the record. */
static bool field_ok(const char *value)
{
    return value == NULL || (strpbrk(value, " \r\n\t") == NULL && *value != '\0');
}

/* UIDs that messages bring along must not be lost between the renames and the uidlist. */
static int note_given(struct maildir *m, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct maildir_record *at = ARENA_ARRAY(p->arena, struct maildir_record, pub->count + 1);
    size_t n = 0;

    for (size_t i = 0; i < pub->count; i++) {
        struct staged *s = pub->staged[i];
        const struct maildir_staged *d = s->data;

        if (s->meta.uid != 0)
            at[n++] = (struct maildir_record){.uid = s->meta.uid, .base = sized_base(s, d),
                                              .fields = fields_for(s, s->meta.guid != NULL ? s->meta.guid : d->source_guid)};
    }
    p->given = n > 0;
    /* A list that must be written as a whole is so before: what is appended can be taken back without any room. */
    if (p->given && (m->list.recreate || !m->list.exists || m->list.version != 3) && maildir_list_recreate(m, e) < 0)
        return -1;
    return maildir_given_write(m, at, n, e);
}

static enum step prepare(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct maildir *m = box->data;

    maildir_ext_read(m, &p->ext);
    p->quiet_new = fstatat(m->dir, "new", &p->st_new, 0) == 0 && (uint32_t)p->st_new.st_mtim.tv_sec == p->ext.new_mtime &&
                   (uint32_t)p->st_new.st_mtim.tv_nsec == p->ext.new_mtime_ns;
    p->quiet_cur = fstatat(m->dir, "cur", &p->st_cur, 0) == 0 && (uint32_t)p->st_cur.st_mtim.tv_sec == p->ext.cur_mtime &&
                   (uint32_t)p->st_cur.st_mtim.tv_nsec == p->ext.cur_mtime_ns;
    for (size_t i = 0; i < pub->count; i++) {
        if (!field_ok(pub->staged[i]->meta.guid) || !field_ok(pub->staged[i]->meta.pop3_uidl))
            return error_set(e, ERROR_INVALID, "GUID or UIDL cannot be stored"), STEP_ERROR;
        if (!p->without_uids)
            letters_for(m, &pub->staged[i]->meta);
    }
    /* Letters before names that use them. */
    if (!p->without_uids && (maildir_keywords_write(m, e) < 0 || note_given(m, pub, p, e) < 0))
        return STEP_ERROR;
    p->list_before = m->list.count;
    p->next_before = m->list.next_uid;
    p->size_before = m->list.size;
    p->renamed = true;
    p->phase = PUBLISH_FILES;
    return STEP_MORE;
}

/* Messages to their names, slice by slice: the locks are ours all the while. */
static enum step place_files(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct budget *budget,
                             struct error *e)
{
    const bool quiet = p->quiet_new && p->quiet_cur;
    struct maildir *m = box->data;

    maildir_list_touch(m);
    while (p->at < pub->count) {
        struct staged *s = pub->staged[p->at++];
        const struct maildir_staged *d = s->data;

        if (publish_one(m, s, !p->without_uids, &quiet, e) < 0) {
            if (e->class != ERROR_EXPUNGED || !pub->skip_gone)
                return stage_space_text(e), STEP_ERROR;
            s->gone = true;
            continue;
        }
        p->any_new = p->any_new || d->published[0] == 'n';
        p->any_cur = p->any_cur || d->published[0] == 'c';
        if (budget_spent(budget, 1) && p->at < pub->count)
            return STEP_MORE;
    }
    p->phase = PUBLISH_SYNCED;
    pub->fd_count = 0;
    if (m->fsync_never)
        return STEP_MORE;
    if (p->any_new && (p->new_fd = openat(m->dir, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0)
        pub->fds[pub->fd_count++] = p->new_fd;
    if (p->any_cur && (p->cur_fd = openat(m->dir, "cur", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0)
        pub->fds[pub->fd_count++] = p->cur_fd;
    pub->syncing = pub->fd_count > 0;
    return pub->syncing ? STEP_WAIT : STEP_MORE;
}

/* The folders are durable: the list, whose sync the caller does too. */
static enum step write_list(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct maildir *m = box->data;
    size_t doubled;
    int r;

    if (p->without_uids || (!p->any_new && !p->any_cur))
        return STEP_DONE;
    maildir_uidlist_index(&m->list, &doubled);
    m->defer_sync = true;
    r = maildir_list_write(m, p->list_before, e);
    m->defer_sync = false;
    if (r < 0)
        return STEP_ERROR;
    p->phase = PUBLISH_COMMIT;
    if (m->sync_fd < 0)
        return STEP_MORE;
    pub->fds[0] = m->sync_fd;
    pub->fd_count = 1;
    pub->syncing = true;
    return STEP_WAIT;
}

static void note_times(struct maildir *m, struct publish *p, struct index_batch *batch)
{
    struct maildir_ext ext = p->ext;
    uint32_t now = (uint32_t)time(NULL);

    if (p->quiet_new && fstatat(m->dir, "new", &p->st_new, 0) == 0 &&
        ((uint32_t)p->st_new.st_mtim.tv_sec != ext.new_mtime || (uint32_t)p->st_new.st_mtim.tv_nsec != ext.new_mtime_ns)) {
        ext.new_check = now;
        ext.new_mtime = (uint32_t)p->st_new.st_mtim.tv_sec;
        ext.new_mtime_ns = (uint32_t)p->st_new.st_mtim.tv_nsec;
    }
    if (p->quiet_cur && fstatat(m->dir, "cur", &p->st_cur, 0) == 0 &&
        ((uint32_t)p->st_cur.st_mtim.tv_sec != ext.cur_mtime || (uint32_t)p->st_cur.st_mtim.tv_nsec != ext.cur_mtime_ns)) {
        ext.cur_check = now;
        ext.cur_mtime = (uint32_t)p->st_cur.st_mtim.tv_sec;
        ext.cur_mtime_ns = (uint32_t)p->st_cur.st_mtim.tv_nsec;
    }
    maildir_ext_stat_list(m, &ext);
    if (memcmp(&ext, &p->ext, sizeof(ext)) != 0)
        maildir_ext_write(m, batch, &ext);
}

static enum step commit(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct index_batch *batch = index_batch_new(p->arena, INDEX_EXTERNAL);
    struct index_status status;
    uint32_t unclaimed, last = 0;

    index_status(box->index, &status);
    unclaimed = status.first_recent_uid;
    for (size_t i = 0; i < pub->count; i++) {
        struct staged *s = pub->staged[i];
        struct index_append *append;

        if (s->gone)
            continue;
        last = s->uid;
        append = index_batch_append(batch, s->uid, s->meta.flags & INDEX_FLAGS_CLIENT);
        for (size_t k = 0; k < s->meta.keyword_count; k++)
            index_append_keyword(batch, append, s->meta.keywords[k]);
        stage_append_cached(s, batch, append);
        if (s->meta.min_modseq != 0)
            index_append_modseq(batch, append, s->meta.min_modseq);
    }
    note_times(box->data, p, batch);
    if (pub->take_recent)
        index_batch_first_recent(batch, last + 1);
    if (index_commit_locked(box->index, batch, &pub->commit, e) < 0)
        return STEP_ERROR;
    if (pub->take_recent) {
        pub->recent_first = unclaimed == 0 ? 1 : unclaimed;
        pub->recent_last = last;
    }
    pub->changed = true;
    return STEP_DONE;
}

/* Is the index so far that ours can be the next UIDs? */
static bool is_behind(struct mailbox *box)
{
    struct maildir *m = box->data;
    struct index_status status;

    index_status(box->index, &status);
    return !m->list.exists || m->list.recreate || m->list.version != 3 || status.uid_validity != m->list.uid_validity ||
           (m->list.count > 0 && m->list.at[m->list.count - 1].uid >= status.next_uid);
}

static enum step run(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct budget *budget,
                     struct error *e)
{
    struct maildir *m = box->data;
    enum step r;

    switch (p->phase) {
    case PUBLISH_LOCK_LIST:
        r = maildir_list_lock(m, e);
        if (r == STEP_WAIT && !pub->need_uids && pub->staged[0]->meta.keyword_count == 0 && pub->count == 1) {
            /* Somebody is busy with the list: the next sync gives the UID. */
            p->without_uids = true;
            p->phase = PUBLISH_PREPARE;
            return STEP_MORE;
        }
        p->phase = r == STEP_DONE ? PUBLISH_LOCK_INDEX : p->phase;
        return r == STEP_DONE ? STEP_MORE : r;
    case PUBLISH_SYNC:
        /* Files and lines that the index does not know yet come first, so that UIDs ascend. */
        r = maildir_sync(box, &p->sync, budget, e);
        if (r != STEP_DONE)
            return r;
        maildir_sync_end(box, &p->sync);
        p->phase = PUBLISH_LOCK_LIST;
        return STEP_MORE;
    case PUBLISH_LOCK_INDEX:
        if (!p->index_locked) {
            r = index_lock_try(box->index, "appending", e);
            if (r != STEP_DONE)
                return r;
            p->index_locked = true;
        }
        if (maildir_list_refresh(m, e) < 0 || maildir_keywords_refresh(m, e) < 0 || maildir_list_begin(m, e) < 0)
            return STEP_ERROR;
        if (is_behind(box)) {
            unlock(box, p);
            if (++p->syncs > 5)
                return error_set(e, ERROR_TEMPORARY, "%s: uidlist and index do not come together", box->path), STEP_ERROR;
            p->sync = (struct driver_sync){.why = SYNC_FULL};
            p->phase = PUBLISH_SYNC;
            return STEP_MORE;
        }
        p->phase = PUBLISH_PREPARE;
        return STEP_MORE;
    case PUBLISH_PREPARE:
        return prepare(box, pub, p, e);
    case PUBLISH_FILES:
        return place_files(box, pub, p, budget, e);
    case PUBLISH_SYNCED:
        close_fds(p, m);
        return write_list(box, pub, p, e);
    case PUBLISH_COMMIT:
        close_fds(p, m);
        r = commit(box, pub, p, e);
        if (r == STEP_DONE)
            maildir_given_done(m);
        return r;
    }
    return STEP_DONE;
}

enum step maildir_publish(struct mailbox *box, struct driver_publish *pub, struct budget *budget, struct error *e)
{
    struct publish *p = pub->state;
    enum step r;

    if (p == NULL) {
        p = pub->state = mem_zero(1, sizeof(*p));
        p->arena = arena_new();
        p->new_fd = p->cur_fd = -1;
    }
    if (pub->sync_error.class != ERROR_NONE) {
        *e = pub->sync_error;
        r = STEP_ERROR;
    } else {
        do {
            r = run(box, pub, p, budget, e);
        } while (r == STEP_MORE && !budget_spent(budget, 1));
    }
    if (r == STEP_ERROR && p->renamed)
        undo(box, pub, p);
    if (r == STEP_ERROR || r == STEP_DONE)
        p->renamed = false;
    if (r == STEP_DONE)
        pub->commit.uid_validity = ((struct maildir *)box->data)->list.uid_validity;
    return r;
}

void maildir_publish_end(struct mailbox *box, struct driver_publish *pub)
{
    struct publish *p = pub->state;

    if (p == NULL)
        return;
    pub->state = NULL;
    maildir_sync_end(box, &p->sync);
    if (p->renamed)
        undo(box, pub, p); /* cancelled half-way */
    close_fds(p, box->data);
    unlock(box, p);
    arena_free(p->arena);
    mem_free(p);
}
