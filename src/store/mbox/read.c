/* read.c - one message out of the file (maildir-and-layouts 9.1).
 *
 * Where it begins stands in the index, as of the last sync. Others may have moved it since: then it is looked for by its UID.
 * Its bytes are copied under a read lock that is given back before anybody sees them; so no client, however slow, holds up a
 * delivery, and nobody sees bytes move. */
#include "store/mbox/mbox.h"
#include "store/coding/codec.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LOCK_TRIES 100                    /* of a millisecond; then it is read without, ... */
#define READ_TRIES 2000                   /* ... until it does not change meanwhile */
#define CLOCK_TICK_NS 20000000            /* two changes within it may have one time */
#define CHUNK 65536

static ssize_t read_fd(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    const struct mbox *m = arg;
    ssize_t n = TEMP_FAILURE_RETRY(pread(m->fd, buf, size, (off_t)offset));

    return n < 0 ? error_sys(e, "read", m->box->path) : n;
}

struct mime_source mbox_source(const struct mbox *m)
{
    return (struct mime_source){read_fd, (void *)(uintptr_t)m, SLICE_EMPTY};
}

static bool same_time(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Has nothing happened since the index was told where messages are? */
static bool is_known(const struct mbox *m, const struct stat *st)
{
    struct mbox_ext ext;

    mbox_ext_get(m, &ext);
    return ext.size == (uint64_t)st->st_size && ext.mtime == (uint32_t)st->st_mtime;
}

static int scan_at(struct mbox *m, struct mbox_scan *scan, uint32_t uid, struct arena *arena, struct mbox_message *out, struct error *e)
{
    struct slice raw = index_ext_record(m->box->index, m->ext, uid);
    uint64_t at;

    if (raw.size < 8)
        return 0;
    /* The line end in front of the From_ line is what Dovecot writes down. */
    at = bytes_le64(raw.at);
    for (unsigned i = 0; i < 3; i++) {
        int r = at + i < scan->size ? mbox_scan_from(scan, at + i, e) : 0;

        if (r > 0)
            r = mbox_scan_message(scan, at + i, arena, out, e) < 0 ? -1 : 1;
        if (r != 0)
            return r;
    }
    return 0;
}

static int search(struct mbox_scan *scan, uint32_t uid, struct arena *arena, struct mbox_message *out, struct error *e)
{
    for (uint64_t at = 0; at < scan->size; at = out->next) {
        if (mbox_scan_message(scan, at, arena, out, e) < 0)
            return e->class == ERROR_CORRUPT ? 0 : -1;
        if (out->uid == uid && !(at == 0 && out->pseudo))
            return 1;
    }
    return 0;
}

static int find(struct mbox *m, const struct stat *st, uint32_t uid, struct arena *arena, struct mbox_message *out, struct error *e)
{
    struct mime_source source = mbox_source(m);
    struct index_record rec;
    struct mbox_scan scan;
    int r;

    mbox_scan_init(&scan, &source, (uint64_t)st->st_size, m->md5);
    r = scan_at(m, &scan, uid, arena, out, e);
    if (r > 0 && out->uid != uid && !is_known(m, st))
        r = 0;
    if (r == 0)
        r = index_get(m->box->index, uid, &rec) ? search(&scan, uid, arena, out, e) : 0;
    mbox_scan_end(&scan);
    return r == 0 ? error_set(e, ERROR_EXPUNGED, "message is gone") : r < 0 ? -1 : 0;
}

/* Was it left alone so long that a change since then would have changed its time? */
static bool is_still(const struct stat *st)
{
    struct timespec now;
    int64_t age;

    clock_gettime(CLOCK_REALTIME, &now);
    age = (now.tv_sec - st->st_mtim.tv_sec) * 1000000000ll + now.tv_nsec - st->st_mtim.tv_nsec;
    return age > CLOCK_TICK_NS || age < -CLOCK_TICK_NS; /* or by another clock than ours */
}

typedef int look_fn(struct mbox *, const struct mbox_message *, void *, struct error *);

/* Runs `act` on a message. *sure: nobody has changed the file meanwhile; otherwise what was seen, and what failed, means
 * nothing. */
static int look(struct mbox *m, uint32_t uid, struct arena *arena, look_fn *act, void *arg, bool locked, bool *sure, struct error *e)
{
    struct mbox_message message;
    struct stat before, after;
    int r;

    *sure = true;
    if (fstat(m->fd, &before) < 0)
        return error_sys(e, "fstat", m->box->path);
    *sure = locked || is_still(&before);
    if (!*sure)
        return -1;
    r = find(m, &before, uid, arena, &message, e);
    if (r == 0)
        r = act(m, &message, arg, e);
    *sure = locked || (fstat(m->fd, &after) == 0 && same_time(&before, &after));
    return r;
}

/* The same while the file does not change: under the lock, or where others hold it all the time, in a moment in which they
 * leave it alone. */
static int with_message(struct mbox *m, uint32_t uid, struct arena *arena, look_fn *act, void *arg, struct error *e)
{
    bool ours = m->locked != MBOX_UNLOCKED, locked = ours, sure = false;
    int r = -1;

    for (unsigned i = 0; !sure && i < READ_TRIES; i++) {
        enum step step = ours ? STEP_DONE : mbox_lock(m, MBOX_LOCKED_READ, e);

        if (step == STEP_ERROR && e->class != ERROR_LOCK_TIMEOUT)
            return e->class == ERROR_NOT_FOUND ? error_set(e, ERROR_EXPUNGED, "the mailbox's file is gone") : -1;
        locked = step == STEP_DONE;
        if (locked || i >= LOCK_TRIES)
            r = look(m, uid, arena, act, arg, locked, &sure, e);
        if (!sure)
            nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    m->waiting_since = 0;
    if (!sure) {
        error_set(e, ERROR_LOCK_TIMEOUT, "%s: Timeout while waiting for lock", m->box->path);
        r = error_user(e, "Timeout while waiting for lock");
    }
    if (locked && !ours)
        mbox_unlock(m);
    return r;
}

/* ---- bytes ---- */

static int visible_header(struct mbox *m, const struct mbox_message *message, struct buffer *out, struct error *e)
{
    struct buffer header = {0};
    ssize_t n;

    if (message->huge) {
        /* It is shown as it is. */
        n = 0;
    } else {
        n = os_pread(m->fd, message->header, (size_t)(message->body - message->header), &header, e);
        if (n >= 0)
            mbox_header_visible(buffer_slice(&header), false, out);
    }
    buffer_free(&header);
    return n < 0 ? -1 : 0;
}

static int copy_range(struct mbox *m, uint64_t at, uint64_t end, struct blob *blob, struct error *e)
{
    struct buffer part = {0};
    int r = 0;

    while (r == 0 && at < end) {
        ssize_t n;

        buffer_reset(&part);
        n = os_pread(m->fd, at, end - at < CHUNK ? (size_t)(end - at) : CHUNK, &part, e);
        if (n <= 0) {
            r = n < 0 ? -1 : 0;
            break;
        }
        r = blob_append(blob, buffer_slice(&part), e);
        at += (uint64_t)n;
    }
    buffer_free(&part);
    return r;
}

static int copy_message(struct mbox *m, const struct mbox_message *message, void *arg, struct error *e)
{
    struct mail_file *out = arg;
    struct buffer header = {0};
    struct blob *blob = blob_new(conf_str(mail_user_settings(m->box->user), SET_mail_temp_dir));
    int r = visible_header(m, message, &header, e);

    blob_free(out->data); /* of a try that was disturbed */
    out->data = blob;
    if (r == 0)
        r = blob_append(blob, buffer_slice(&header), e);
    if (r == 0)
        r = copy_range(m, message->huge ? message->header : message->body, message->end, blob, e);
    buffer_free(&header);
    out->internal_date = (time_t)message->date;
    return r;
}

int mbox_read(struct mailbox *box, uint32_t uid, struct arena *arena, struct mail_file *out, struct error *e)
{
    struct mbox *m = box->data;

    *out = (struct mail_file){.fd = -1};
    if (with_message(m, uid, arena, copy_message, out, e) < 0) {
        blob_free(out->data);
        out->data = NULL;
        return -1;
    }
    out->source = (struct mime_source){blob_read, out->data, SLICE_EMPTY};
    out->size = blob_size(out->data);
    out->save_date = time(NULL);
    out->path = box->path;
    return 0;
}

void mbox_read_end(struct mail_file *file)
{
    blob_free(file->data);
    file->data = NULL;
}

/* ---- facts ---- */

static int keep_message(struct mbox *m, const struct mbox_message *message, void *arg, struct error *e)
{
    (void)m;
    (void)e;
    *(struct mbox_message *)arg = *message;
    return 0;
}

int mbox_item(struct mailbox *box, uint32_t uid, enum driver_item item, struct arena *arena, struct driver_value *out, struct error *e)
{
    struct mbox *m = box->data;
    struct mbox_message message;
    struct buffer hex = {0};

    *out = (struct driver_value){.known = true};
    if (item == ITEM_PATH) {
        out->text = box->path;
        return 0;
    }
    if (item == ITEM_SAVE_DATE) {
        out->number = (uint64_t)time(NULL); /* nothing tells it: the first time that somebody asks is kept */
        return 0;
    }
    if (item == ITEM_POP3_UIDL || item == ITEM_POP3_ORDER)
        return 0;
    if (item == ITEM_SIZE_VIRTUAL) {
        out->known = false;
        return 0;
    }
    if (with_message(m, uid, arena, keep_message, &message, e) < 0)
        return -1;
    switch (item) {
    case ITEM_GUID:
        text_hex_encode(&hex, slice_of(message.md5, sizeof(message.md5)));
        out->text = arena_strdup(arena, buffer_cstr(&hex));
        buffer_free(&hex);
        break;
    case ITEM_INTERNAL_DATE:
        out->number = (uint64_t)message.date;
        break;
    case ITEM_SIZE_PHYSICAL:
        out->number = message.end - message.header - (message.huge ? 0 : message.hidden);
        break;
    default:
        break;
    }
    return 0;
}
