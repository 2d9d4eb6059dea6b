/* save.c - staging messages, and appending them to the file (maildir-and-layouts 9.1).
 *
 * Staged: the bytes in a file without a name. Published, under the file's and the index's lock: first everything that others did
 * is taken in, and X-IMAPbase is raised over the UIDs to come; then all messages are appended by one call (but where that is
 * more than memory should hold), synced, and told to the index. A process that dies before that call has appended nothing,
 * one that dies after it leaves whole messages, that the next sync finds. */
#include "store/mbox/mbox.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define APPEND_MAX (64ull << 20)
#define CHUNK (4u << 20)

struct mbox_staged {
    int fd;                          /* the bytes as they came; -1 = none */
    struct stage_writer *writer;
    struct slice header;             /* as it is to be stored, empty line included; in the arena */
    uint64_t body, end;              /* of the file */
    bool add_line_end;               /* the text does not end with one */
    uint64_t offset;                 /* where its From_ line will be */
};

static struct mbox *mbox_of(const struct staged *s)
{
    return s->box->data;
}

/* ---- staging ---- */

static int open_temp(const struct mailbox *box, struct error *e)
{
    const char *temp = conf_str(mail_user_settings(box->user), SET_mail_temp_dir);
    int fd = open(*temp == '\0' ? "/tmp" : temp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0)
        fd = memfd_create("message", MFD_CLOEXEC);
    return fd < 0 ? error_sys(e, "open", temp) : fd;
}

int mbox_stage(struct staged *s, struct error *e)
{
    struct mbox_staged *d = ARENA_NEW(s->arena, struct mbox_staged);

    s->data = d;
    s->fd = -1;
    d->fd = -1;
    if (mbox_of(s)->backend_read_only) {
        error_set(e, ERROR_PERMISSION, "Mailbox %s: Mailbox is read-only", s->box->place.vname);
        return error_user(e, "Mailbox is read-only");
    }
    d->fd = open_temp(s->box, e);
    if (d->fd < 0)
        return stage_space_text(e);
    d->writer = stage_writer_new(s->box, d->fd, mbox_of(s)->save_crlf);
    return 0;
}

int mbox_stage_write(struct staged *s, struct slice bytes, struct error *e)
{
    return stage_writer_put(((struct mbox_staged *)s->data)->writer, bytes, e);
}

static struct mime_source staged_source(const struct mbox_staged *d);

static ssize_t read_staged(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    const struct mbox_staged *d = arg;
    uint64_t total = d->header.size + d->end - d->body;
    size_t n = 0;

    while (n < size && offset < total + (d->add_line_end ? 1 : 0)) {
        unsigned char *to = (unsigned char *)buf + n;
        struct slice rest = slice_from(d->header, (size_t)offset);
        ssize_t got;

        if (offset < d->header.size) {
            rest = slice_head(rest, size - n);
            memcpy(to, rest.at, rest.size);
            got = (ssize_t)rest.size;
        } else if (offset < total) {
            uint64_t left = total - offset;

            got = TEMP_FAILURE_RETRY(pread(d->fd, to, left < size - n ? (size_t)left : size - n, (off_t)(d->body + offset - d->header.size)));
            if (got < 0)
                return error_sys(e, "read", "staged message");
            if (got == 0)
                break;
        } else {
            *to = '\n';
            got = 1;
        }
        n += (size_t)got;
        offset += (uint64_t)got;
    }
    return (ssize_t)n;
}

static struct mime_source staged_source(const struct mbox_staged *d)
{
    return (struct mime_source){read_staged, (void *)(uintptr_t)d, SLICE_EMPTY};
}

/* Where the header ends: behind the first empty line. */
static int split(struct mbox_staged *d, uint64_t size, struct buffer *header, struct error *e)
{
    size_t line = 0;

    d->end = size;
    for (;;) {
        size_t had = header->size;

        if (had >= MBOX_HEADER_MAX)
            return error_set(e, ERROR_LIMIT, "the header of the message is too long for an mbox");
        if (os_pread(d->fd, had, 65536, header, e) < 0)
            return -1;
        if (header->size == had) {
            d->body = size;
            return 0;
        }
        for (size_t i = had; i < header->size; i++) {
            size_t length = i - line;

            if (header->at[i] != '\n')
                continue;
            if (length == 0 || (length == 1 && header->at[line] == '\r')) {
                d->body = i + 1;
                header->size = i + 1;
                return 0;
            }
            line = i + 1;
        }
    }
}

int mbox_stage_finish(struct staged *s, struct error *e)
{
    struct mbox_staged *d = s->data;
    struct buffer header = {0}, kept = {0};
    struct mime_source source = staged_source(d);
    struct mime_size sizes;
    unsigned char last = '\n';
    int r;

    if (stage_writer_finish(d->writer, e) < 0)
        return -1;
    r = split(d, d->writer->stored, &header, e);
    if (r == 0) {
        mbox_header_visible(buffer_slice(&header), true, &kept);
        /* An mbox needs an empty line between the two. */
        if (kept.size > 0 && kept.at[kept.size - 1] != '\n')
            buffer_append_byte(&kept, '\n');
        if (d->body == d->end && !slice_ends(buffer_slice(&kept), SLICE("\n\n")) && !slice_ends(buffer_slice(&kept), SLICE("\n\r\n")) &&
            !slice_equal_str(buffer_slice(&kept), "\n") && !slice_equal_str(buffer_slice(&kept), "\r\n"))
            buffer_append_byte(&kept, '\n');
        d->header = arena_slice(s->arena, buffer_slice(&kept));
        if (d->end > d->body && pread(d->fd, &last, 1, (off_t)d->end - 1) != 1)
            r = error_sys(e, "read", "staged message");
        d->add_line_end = last != '\n';
    }
    buffer_free(&header);
    buffer_free(&kept);
    if (r == 0)
        r = mime_source_sizes(&source, &sizes, e);
    if (r < 0)
        return -1;
    s->size_physical = sizes.physical;
    s->size_virtual = sizes.virtual;
    s->fd = fcntl(d->fd, F_DUPFD_CLOEXEC, 0);
    return s->fd < 0 ? error_sys(e, "dup", NULL) : 0;
}

int mbox_stage_read(const struct staged *s, struct arena *arena, struct mail_file *out, struct error *e)
{
    const struct mbox_staged *d = s->data;

    (void)arena;
    if (d->fd < 0)
        return error_set(e, ERROR_BUG, "no staged bytes to read");
    out->fd = -1;
    out->source = staged_source(d);
    out->size = s->size_physical;
    return 0;
}

int mbox_stage_copy(struct staged *s, struct mailbox *from, uint32_t uid, struct error *e)
{
    (void)s, (void)from, (void)uid, (void)e;
    return 0;
}

int mbox_stage_again(struct staged *s, const struct staged *first, struct error *e)
{
    (void)s, (void)first, (void)e;
    return 0;
}

void mbox_discard(struct staged *s)
{
    struct mbox_staged *d = s->data;

    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    if (d == NULL)
        return;
    stage_writer_free(&d->writer);
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
}

/* ---- publishing ---- */

struct publish {
    enum { PUBLISH_SYNC, PUBLISH_APPEND, PUBLISH_COMMIT } phase;
    struct arena *arena;
    struct driver_sync how;
    struct mbox_sync *sync;
    uint64_t old_size;               /* of the file, before the append */
    bool appended;
};

static int read_all(const struct mbox_staged *d, struct buffer *out, struct error *e)
{
    uint64_t at = d->body;

    while (at < d->end) {
        ssize_t n = os_pread(d->fd, at, d->end - at < CHUNK ? (size_t)(d->end - at) : CHUNK, out, e);

        if (n < 0)
            return -1;
        if (n == 0)
            return error_set(e, ERROR_TEMPORARY, "the staged message became shorter");
        at += (uint64_t)n;
    }
    return 0;
}

static const char *sender_of(const struct mailbox *box, const struct staged *s, struct arena *arena)
{
    if (s->meta.envelope_sender != NULL)
        return s->meta.envelope_sender;
    if (s->meta.post)
        return "";
    return strchr(box->user->name, '@') != NULL ? box->user->name : arena_printf(arena, "%s@%s", box->user->name, store_hostname());
}

static struct slice join_keywords(const struct staged *s, struct arena *arena)
{
    struct buffer out = {0};
    struct slice words;

    for (size_t k = 0; k < s->meta.keyword_count; k++) {
        if (out.size > 0)
            buffer_append_byte(&out, ' ');
        buffer_append_slice(&out, s->meta.keywords[k]);
    }
    words = arena_slice(arena, buffer_slice(&out));
    buffer_free(&out);
    return words;
}

/* From_ line and header of a message that is to stand at the end. */
static void make_head(struct mailbox *box, struct driver_publish *pub, struct publish *p, size_t i, struct buffer *out)
{
    const struct staged *s = pub->staged[i];
    const struct mbox_staged *d = s->data;
    struct mbox_facts f = {.uid = s->uid, .flags = s->meta.flags & INDEX_FLAGS_CLIENT, .old = pub->take_recent,
                           .keywords = join_keywords(s, p->arena), .has_length = true};
    struct buffer all = {0};
    struct index_status status;
    size_t room;

    f.length = d->end - d->body + (d->add_line_end ? 1 : 0);
    if (p->old_size == 0 && i == 0) {
        for (size_t n = 0; n < pub->count; n++) {
            for (size_t k = 0; k < pub->staged[n]->meta.keyword_count; k++) {
                if (all.size > 0)
                    buffer_append_byte(&all, ' ');
                buffer_append_slice(&all, pub->staged[n]->meta.keywords[k]);
            }
        }
        index_status(box->index, &status);
        f.base = true;
        f.base_validity = status.uid_validity;
        f.base_last = pub->staged[pub->count - 1]->uid;
        f.base_keywords = arena_slice(p->arena, buffer_slice(&all));
        buffer_free(&all);
    }
    mbox_from_make(out, sender_of(box, s, p->arena), s->meta.has_date ? s->meta.internal_date : (int64_t)time(NULL));
    room = 0;
    mbox_header_make(d->header, &f, room, out);
}

static int write_part(struct mbox *m, uint64_t *at, struct buffer *out, struct error *e)
{
    if (out->size > 0 && os_pwrite(m->fd, buffer_slice(out), *at, e) < 0)
        return -1;
    *at += out->size;
    buffer_reset(out);
    return 0;
}

static int append_all(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct mbox *m = box->data;
    struct buffer out = {0};
    unsigned char last = '\n';
    uint64_t at = p->old_size;
    int r = 0;

    if (p->old_size > 0 && pread(m->fd, &last, 1, (off_t)p->old_size - 1) != 1)
        return error_sys(e, "read", box->path);
    if (last != '\n')
        buffer_append_byte(&out, '\n');
    for (size_t i = 0; r == 0 && i < pub->count; i++) {
        struct mbox_staged *d = pub->staged[i]->data;

        d->offset = at + out.size;
        make_head(box, pub, p, i, &out);
        r = read_all(d, &out, e);
        if (d->add_line_end)
            buffer_append_byte(&out, '\n');
        buffer_append_byte(&out, '\n');
        if (r == 0 && out.size > APPEND_MAX)
            r = write_part(m, &at, &out, e);
    }
    if (r == 0)
        r = write_part(m, &at, &out, e);
    buffer_free(&out);
    return r;
}

static void undo(struct mbox *m, struct publish *p)
{
    struct error e;

    if (p->appended && os_truncate(m->fd, p->old_size, &e) < 0)
        log_error_value(mail_user_log(m->box->user), &e);
    p->appended = false;
}

static int give_uids(struct mailbox *box, struct driver_publish *pub, struct error *e)
{
    struct index_status status;
    uint32_t next;

    index_status(box->index, &status);
    next = status.next_uid;
    for (size_t i = 0; i < pub->count; i++) {
        struct staged *s = pub->staged[i];

        if (s->meta.uid > next && s->meta.uid < UINT32_MAX - 1)
            next = s->meta.uid;
        if (next >= UINT32_MAX - 1)
            return error_set(e, ERROR_LIMIT, "UIDs are used up");
        s->uid = next++;
    }
    return 0;
}

static enum step append(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct mbox *m = box->data;
    struct stat st;

    if (give_uids(box, pub, e) < 0)
        return STEP_ERROR;
    if (fstat(m->fd, &st) < 0)
        return error_sys(e, "fstat", box->path), STEP_ERROR;
    p->old_size = (uint64_t)st.st_size;
    p->appended = true;
    if (append_all(box, pub, p, e) < 0)
        return stage_space_text(e), STEP_ERROR;
    p->phase = PUBLISH_COMMIT;
    if (m->fsync_never)
        return STEP_MORE;
    pub->fds[0] = m->fd;
    pub->fd_count = 1;
    pub->syncing = true;
    return STEP_WAIT;
}

static enum step commit(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct error *e)
{
    struct index_batch *batch = index_batch_new(p->arena, INDEX_EXTERNAL);
    uint32_t last = pub->staged[pub->count - 1]->uid;
    struct mbox *m = box->data;
    struct index_status status;
    struct mbox_ext ext;
    struct stat st;

    if (fstat(m->fd, &st) < 0)
        return error_sys(e, "fstat", box->path), STEP_ERROR;
    index_status(box->index, &status);
    for (size_t i = 0; i < pub->count; i++) {
        struct staged *s = pub->staged[i];
        const struct mbox_staged *d = s->data;
        struct index_append *append = index_batch_append(batch, s->uid, s->meta.flags & INDEX_FLAGS_CLIENT);
        unsigned char raw[8];

        for (size_t k = 0; k < s->meta.keyword_count; k++)
            index_append_keyword(batch, append, s->meta.keywords[k]);
        if (s->meta.min_modseq != 0)
            index_append_modseq(batch, append, s->meta.min_modseq);
        bytes_put_le64(raw, d->offset == 0 ? 0 : d->offset - 1);
        index_append_ext(batch, append, m->ext, slice_of(raw, 8));
        stage_append_cached(s, batch, append);
    }
    mbox_ext_get(m, &ext);
    ext.size = (uint64_t)st.st_size;
    ext.mtime = (uint32_t)st.st_mtime;
    mbox_ext_put(m, batch, &ext);
    if (pub->take_recent)
        index_batch_first_recent(batch, last + 1);
    if (index_commit_locked(box->index, batch, &pub->commit, e) < 0)
        return stage_space_text(e), STEP_ERROR;
    if (pub->take_recent) {
        pub->recent_first = status.first_recent_uid == 0 ? 1 : status.first_recent_uid;
        pub->recent_last = last;
    }
    p->appended = false;
    pub->commit.uid_validity = status.uid_validity;
    pub->changed = true;
    return STEP_DONE;
}

/* What X-IMAPbase must cover: their number, and gaps where UIDs are wished for. */
static void begin(struct mailbox *box, struct driver_publish *pub, struct publish *p)
{
    struct index_status status;
    struct slice *names;
    size_t count = 0;
    uint32_t most = 0;

    p->arena = arena_new();
    p->sync = mbox_sync_new();
    p->sync->keep_locks = p->sync->need_file = true;
    p->how.why = SYNC_APPLY;
    index_status(box->index, &status);
    for (size_t i = 0; i < pub->count; i++) {
        count += pub->staged[i]->meta.keyword_count;
        if (pub->staged[i]->meta.uid > most)
            most = pub->staged[i]->meta.uid;
    }
    p->sync->reserve = (uint32_t)pub->count + (most > status.next_uid && most < UINT32_MAX / 2 ? most - status.next_uid : 0);
    names = ARENA_ARRAY(p->arena, struct slice, count + 1);
    count = 0;
    for (size_t i = 0; i < pub->count; i++)
        for (size_t k = 0; k < pub->staged[i]->meta.keyword_count; k++)
            names[count++] = pub->staged[i]->meta.keywords[k];
    p->sync->reserve_keywords = names;
    p->sync->reserve_keyword_count = count;
}

static enum step run(struct mailbox *box, struct driver_publish *pub, struct publish *p, struct budget *budget, struct error *e)
{
    enum step r;

    switch (p->phase) {
    case PUBLISH_SYNC:
        r = mbox_sync_step(box->data, &p->how, p->sync, budget, e);
        if (r != STEP_DONE)
            return r;
        if (((struct mbox *)box->data)->backend_read_only)
            return error_set(e, ERROR_PERMISSION, "Mailbox is read-only"), STEP_ERROR;
        p->phase = PUBLISH_APPEND;
        return STEP_MORE;
    case PUBLISH_APPEND:
        return append(box, pub, p, e);
    case PUBLISH_COMMIT:
        return commit(box, pub, p, e);
    }
    return STEP_DONE;
}

enum step mbox_publish(struct mailbox *box, struct driver_publish *pub, struct budget *budget, struct error *e)
{
    struct publish *p = pub->state;
    enum step r;

    if (p == NULL) {
        p = pub->state = mem_zero(1, sizeof(*p));
        begin(box, pub, p);
    }
    if (pub->sync_error.class != ERROR_NONE) {
        *e = pub->sync_error;
        r = STEP_ERROR;
    } else {
        do {
            r = run(box, pub, p, budget, e);
        } while (r == STEP_MORE && !budget_spent(budget, 1));
    }
    if (r == STEP_ERROR)
        undo(box->data, p);
    return r;
}

void mbox_publish_end(struct mailbox *box, struct driver_publish *pub)
{
    struct publish *p = pub->state;

    if (p == NULL)
        return;
    pub->state = NULL;
    undo(box->data, p); /* cancelled half-way */
    mbox_sync_free(box->data, p->sync);
    arena_free(p->arena);
    mem_free(p);
}
