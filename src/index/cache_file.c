/* cache_file.c - the cache file: opening, checking, field headers, records (index-format 9.1 to 9.3, 12.4).
 *
 * The cache is dispensable: on any doubt it is not used, on damage it is deleted with a line in the log, and never
 * is anything but the cache lost. Bytes are read through windows of the process, so that an idle mailbox holds
 * none and a FETCH of many messages reads their records with few calls: of a chain, the records that came with the save
 * and those that each kind of question added later lie apart, and each place needs a window of its own. */
#include "index/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW_SIZE = 16 * 1024, WINDOWS = 16, FIELD_HEADER_MAX = 1024 * 1024 };

static struct window {
    const struct index_cache *of;
    uint32_t at;
    uint64_t used;
    struct window *next;       /* the one that was looked into after this: chains of one message after the other go the same way */
    struct buffer bytes;
} windows[WINDOWS];
uint64_t cache_moves = 1;

struct index_cache *cache_of(struct index *index)
{
    if (index->cache == NULL) {
        index->cache = mem_zero(1, sizeof(*index->cache));
        index->cache->fd = -1;
        index->cache->queue_sorted = true;
    }
    return index->cache;
}

unsigned cache_ext(struct index *index)
{
    return index_ext(index, &(struct index_ext_def){"cache", 0, 4, 4, false});
}

void cache_bytes_drop(const struct index_cache *c)
{
    for (size_t i = 0; i < WINDOWS; i++) {
        if (windows[i].of != c)
            continue;
        cache_moves++;
        windows[i].of = NULL;
        windows[i].used = 0;
        buffer_free(&windows[i].bytes);
    }
}

void cache_free_fields(struct index_cache *c)
{
    for (uint32_t i = 0; i < c->field_count; i++)
        mem_free(c->fields[i].name);
    mem_free(c->fields);
    mem_free(c->by_global);
    c->fields = NULL;
    c->by_global = NULL;
    c->field_count = 0;
    c->by_global_count = 0;
}

void cache_forget(struct index_cache *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->file_seq = 0;
    cache_bytes_drop(c);
    cache_message_drop(c);
    cache_free_fields(c);
}

void cache_close(struct index *index)
{
    struct index_cache *c = index->cache;

    if (c == NULL)
        return;
    cache_forget(c);
    cache_drop_queue(c);
    mem_free(c->policy);
    mem_free(c);
    index->cache = NULL;
}

void cache_delete(struct index *index, const char *fmt, ...)
{
    char name[FILE_NAME_SIZE], why[160];
    struct error ignored;
    va_list args;

    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    index_error(index, "Deleting corrupted cache: %s", why);
    cache_forget(cache_of(index));
    if (!index->read_only)
        os_unlink(index->dir, file_name(index, name, ".cache"), &ignored);
}

uint32_t cache_reset_id(const struct index *index)
{
    int at = index->state.ext_cache;

    return at < 0 ? 0 : index->state.exts[at].reset_id;
}

uint32_t cache_offset(const struct index *index, uint32_t uid)
{
    const struct state *s = &index->state;
    int at = s->ext_cache;
    int64_t i;

    if (at < 0 || s->exts[at].record_size != 4 || (i = state_find(s, uid)) < 0)
        return 0;
    return bytes_le32(state_record(s, (uint32_t)i) + s->exts[at].record_offset);
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static bool read_header(struct index *index, unsigned char h[CACHE_HEADER_SIZE])
{
    struct index_cache *c = index->cache;
    ssize_t n = pread(c->fd, h, CACHE_HEADER_SIZE, 0);

    if (n < 0)
        return false;
    if (n < CACHE_HEADER_SIZE) {
        cache_delete(index, "File too small");
        return false;
    }
    if (h[0] != CACHE_MAJOR) {
        cache_delete(index, "Unsupported major version (%u)", h[0]);
        return false;
    }
    if (h[1] != 8) {
        cache_delete(index, "Unsupported uoff_t size (%u)", h[1]);
        return false;
    }
    if (bytes_le32(h + CACHE_AT_INDEXID) != state_get(&index->state, BASE_AT_INDEXID)) {
        char name[FILE_NAME_SIZE];
        struct error ignored;

        cache_forget(c); /* another family's: silently (9.1) */
        if (!index->read_only)
            os_unlink(index->dir, file_name(index, name, ".cache"), &ignored);
        return false;
    }
    if (bytes_le32(h + CACHE_AT_FILE_SEQ) == 0) {
        cache_delete(index, "file_seq is 0");
        return false;
    }
    return true;
}

static bool open_file(struct index *index)
{
    struct index_cache *c = index->cache;
    char name[FILE_NAME_SIZE];
    unsigned char h[CACHE_HEADER_SIZE];
    struct stat st;

    cache_forget(c);
    c->fd = openat(index->dir, file_name(index, name, ".cache"),
                   (index->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (c->fd < 0)
        return false;
    if (fstat(c->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        cache_forget(c);
        return false;
    }
    c->dev = st.st_dev;
    c->ino = st.st_ino;
    if (!read_header(index, h))
        return false;
    c->file_seq = bytes_le32(h + CACHE_AT_FILE_SEQ);
    if (h[2] < CACHE_MINOR)
        c->purge_wanted = true;
    return cache_load_fields(index);
}

bool cache_ready(struct index *index)
{
    struct index_cache *c;
    uint32_t reset_id;

    if (index->in_memory)
        return false;
    c = cache_of(index);
    reset_id = cache_reset_id(index);
    if (reset_id == 0)
        return false;
    if (c->fd >= 0 && c->file_seq == reset_id)
        return true;
    if (c->failed_at == index->generation + 1)
        return false; /* a new file comes with a log record */
    /* not yet open, or purged by others since; a file whose generation is another is between two steps of a purge */
    if (open_file(index) && c->file_seq == reset_id)
        return true;
    c->failed_at = index->generation + 1;
    return false;
}

/* ---- bytes -------------------------------------------------------------------------------------------------------- */

static bool holds(const struct window *w, const struct index_cache *c, uint32_t offset, uint32_t size)
{
    return w->of == c && offset >= w->at && (uint64_t)offset + size <= (uint64_t)w->at + w->bytes.size;
}

/* The window that holds these bytes, else the one that has not been used for longest, to be filled. */
static struct window *find_window(const struct index_cache *c, struct window *last, uint32_t offset, uint32_t size)
{
    struct window *oldest = &windows[0];

    if (holds(last, c, offset, size))
        return last;
    if (last->next != NULL && holds(last->next, c, offset, size))
        return last->next;
    for (struct window *w = windows; w < windows + WINDOWS; w++) {
        if (holds(w, c, offset, size))
            return w;
        if (w->used < oldest->used)
            oldest = w;
    }
    return oldest;
}

/* At least so many bytes; as many as the window has. */
static struct slice bytes_from(struct index *index, uint32_t offset, uint32_t size)
{
    static uint64_t clock;
    static struct window *last = windows;
    struct index_cache *c = index->cache;
    struct error ignored;
    struct window *w = find_window(c, last, offset, size);

    if (!holds(w, c, offset, size)) {
        cache_moves++;
        buffer_reset(&w->bytes);
        if (w->bytes.room > 4 * WINDOW_SIZE)
            buffer_free(&w->bytes);
        w->of = c;
        w->at = offset;
        if (os_pread(c->fd, offset, size > WINDOW_SIZE ? size : WINDOW_SIZE, &w->bytes, &ignored) < 0 ||
            w->bytes.size < size) {
            cache_bytes_drop(c);
            return SLICE_EMPTY;
        }
    }
    w->used = ++clock;
    if (w != last) {
        last->next = w;
        last = w;
    }
    return slice_of(w->bytes.at + (offset - w->at), w->bytes.size - (offset - w->at));
}

struct slice cache_bytes(struct index *index, uint32_t offset, uint32_t size)
{
    return slice_head(bytes_from(index, offset, size), size);
}

/* ---- field headers ------------------------------------------------------------------------------------------------ */

void cache_map_fields(struct index_cache *c)
{
    unsigned n = cache_field_count();

    mem_free(c->by_global);
    c->by_global = mem_zero(n + 1, sizeof(*c->by_global));
    c->by_global_count = n;
    for (uint32_t i = 0; i < c->field_count; i++) {
        if (c->fields[i].global < n)
            c->by_global[c->fields[i].global] = i + 1;
    }
}

int cache_number(struct index_cache *c, unsigned field)
{
    if (field >= c->by_global_count)
        return -1; /* a name that was registered after the header was read is not in it */
    return (int)c->by_global[field] - 1;
}

/* -> NULL, or why the header is wrong. */
static const char *parse_fields(struct index_cache *c, struct slice h)
{
    uint32_t n = bytes_le32(h.at + 8);
    struct slice names;

    if (n > (h.size - 12) / 10)
        return "invalid field header size";
    names = slice_from(h, 12 + 10 * (size_t)n);
    c->fields = mem_zero(n + 1, sizeof(*c->fields));
    for (uint32_t i = 0; i < n; i++) {
        struct cache_field *f = &c->fields[i];
        ptrdiff_t end = slice_find(names, 0);
        uint32_t size;

        if (end <= 0)
            return "field header names corrupted";
        f->name = mem_strndup(slice_head(names, (size_t)end));
        c->field_count = i + 1;
        names = slice_from(names, (size_t)end + 1);
        f->last_used = bytes_le32(h.at + 12 + 4 * (size_t)i);
        f->size = bytes_le32(h.at + 12 + 4 * (size_t)n + 4 * (size_t)i);
        if (h.at[12 + 8 * (size_t)n + i] > CACHE_HEADER)
            return "field type corrupted";
        f->type = h.at[12 + 8 * (size_t)n + i];
        f->decision = h.at[12 + 9 * (size_t)n + i] & 0x7f; /* forced is ours to say (9.2) */
        if (f->decision > INDEX_CACHE_YES)
            return "field decision type corrupted";
        if ((f->type == CACHE_FIXED || f->type == CACHE_BITMASK) != (f->size != CACHE_VARIABLE))
            return "field type corrupted";
        f->global = index_field(f->name);
        if (f->global != UINT_MAX) {
            if (cache_field_type(f->global, &size) != f->type)
                return "registered field type changed";
            if (size != f->size)
                return "registered field size changed";
        }
    }
    return NULL;
}

static bool has_duplicate(const struct index_cache *c)
{
    bool *seen = mem_zero(cache_field_count() + 1, sizeof(*seen)), twice = false;

    for (uint32_t i = 0; i < c->field_count && !twice; i++) {
        if (c->fields[i].global == UINT_MAX)
            continue;
        twice = seen[c->fields[i].global];
        seen[c->fields[i].global] = true;
    }
    mem_free(seen);
    return twice;
}

/* Follows the chain to the newest field header. 0 = deleted. */
static uint32_t newest_header(struct index *index, uint32_t *count)
{
    struct index_cache *c = index->cache;
    unsigned char b[4];
    uint32_t at, next;

    *count = 0;
    if (pread(c->fd, b, 4, CACHE_AT_FIELDS) != 4 || (at = format_offset_get(b)) == 0) {
        cache_delete(index, "missing header fields");
        return 0;
    }
    for (;;) {
        ++*count;
        if (pread(c->fd, b, 4, at) != 4) {
            cache_delete(index, "header field next_offset points outside file");
            return 0;
        }
        next = format_offset_get(b);
        if (next == 0)
            return at;
        if (next <= at) {
            cache_delete(index, next == at ? "next_offset in field header loops" : "next_offset in field header decreases");
            return 0;
        }
        at = next;
    }
}

bool cache_load_fields(struct index *index)
{
    struct index_cache *c = index->cache;
    struct buffer h = {0};
    const char *why = NULL;
    struct error ignored;
    unsigned char head[12];
    uint32_t count, size, at = newest_header(index, &count);

    if (at == 0)
        return false;
    cache_free_fields(c);
    if (pread(c->fd, head, sizeof(head), at) != (ssize_t)sizeof(head))
        why = "header field next_offset points outside file";
    if (why == NULL) {
        size = bytes_le32(head + 4);
        if (size < sizeof(head) || size > FIELD_HEADER_MAX)
            why = "invalid field header size";
        else if (os_pread(c->fd, at, size, &h, &ignored) < 0 || h.size < size)
            why = "invalid field header size";
        else
            why = parse_fields(c, buffer_slice(&h));
    }
    buffer_free(&h);
    if (why == NULL && has_duplicate(c))
        why = "Duplicated field in header";
    if (why != NULL) {
        cache_delete(index, "%s", why);
        return false;
    }
    c->fields_at = at;
    c->header_count = count;
    if (count > index->set.cache_purge_headers)
        c->purge_wanted = true;
    cache_map_fields(c);
    cache_policy_from_file(index);
    return true;
}

void cache_emit_fields(const struct cache_field *f, uint32_t n, struct buffer *out)
{
    size_t start = out->size;
    unsigned char b[4];

    buffer_append(out, "\0\0\0\0\0\0\0\0", 8);
    bytes_put_le32(b, n);
    buffer_append(out, b, 4);
    for (uint32_t i = 0; i < n; i++) {
        bytes_put_le32(b, f[i].last_used);
        buffer_append(out, b, 4);
    }
    for (uint32_t i = 0; i < n; i++) {
        bytes_put_le32(b, f[i].size);
        buffer_append(out, b, 4);
    }
    for (uint32_t i = 0; i < n; i++)
        buffer_append_byte(out, (unsigned char)f[i].type);
    for (uint32_t i = 0; i < n; i++)
        buffer_append_byte(out, f[i].decision);
    for (uint32_t i = 0; i < n; i++)
        buffer_append(out, f[i].name, strlen(f[i].name) + 1);
    bytes_put_le32(out->at + start + 4, (uint32_t)(out->size - start));
}

/* ---- records ------------------------------------------------------------------------------------------------------ */

bool cache_record_get(struct index *index, uint32_t offset, struct cache_record *r)
{
    struct slice head, all;
    uint32_t size;

    if (offset % 4 != 0 || offset < CACHE_HEADER_SIZE) {
        cache_delete(index, "invalid record offset");
        return false;
    }
    head = bytes_from(index, offset, CACHE_RECORD_HEAD);
    if (head.at == NULL) {
        cache_delete(index, "record points outside file");
        return false;
    }
    size = bytes_le32(head.at + 4);
    if (size < CACHE_RECORD_HEAD || size > index->set.cache_max_size) {
        cache_delete(index, "invalid record size");
        return false;
    }
    all = size <= head.size ? slice_head(head, size) : cache_bytes(index, offset, size);
    if (all.at == NULL) {
        cache_delete(index, "record points outside file");
        return false;
    }
    r->prev = bytes_le32(all.at);
    r->body = slice_from(all, CACHE_RECORD_HEAD);
    if (r->prev >= offset) { /* chains go back in the file (9.3): nothing can be circular */
        bool outside = cache_bytes(index, r->prev, 8).at == NULL;

        cache_delete(index, outside ? "record points outside file" : "record list is circular");
        return false;
    }
    return true;
}

int cache_record_rest(struct index *index, struct slice *rest, uint32_t *number, struct slice *value)
{
    struct index_cache *c = index->cache;
    size_t size, at = 4;

    if (rest->size == 0)
        return 0;
    if (rest->size < 4) {
        cache_delete(index, "record has invalid size");
        return -1;
    }
    *number = bytes_le32(rest->at);
    if (*number >= c->field_count) {
        uint32_t known = c->field_count;

        /* others may have added fields; the window's bytes stay where they are */
        if (!cache_load_fields(index))
            return -1;
        if (*number >= c->field_count) {
            cache_delete(index, "field index too large (%u >= %u)", *number, known);
            return -1;
        }
    }
    size = c->fields[*number].size;
    if (size == CACHE_VARIABLE) {
        if (rest->size < 8) {
            cache_delete(index, "record continues outside its allocated size");
            return -1;
        }
        size = bytes_le32(rest->at + 4);
        at = 8;
    }
    if (size > rest->size - at) {
        cache_delete(index, "record continues outside its allocated size");
        return -1;
    }
    *value = slice_of(rest->at + at, size);
    *rest = slice_from(*rest, at + ((size + 3) & ~(size_t)3));
    return 1;
}

/* ---- lock --------------------------------------------------------------------------------------------------------- */

enum os_lock cache_lock(struct index *index)
{
    struct index_cache *c = cache_of(index);
    char name[FILE_NAME_SIZE];
    struct error e;
    struct stat st;

    for (int chase = 0; chase < 5; chase++) {
        enum os_lock got;

        if (c->fd < 0 && !open_file(index))
            return OS_LOCK_ERROR;
        got = os_lock_fd(c->fd, index->set.lock_method == OS_LOCK_FLOCK ? OS_LOCK_FLOCK : OS_LOCK_FCNTL, &e);
        if (got != OS_GOT)
            return got;
        if (fstatat(index->dir, file_name(index, name, ".cache"), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_ino == c->ino && st.st_dev == c->dev)
            return OS_GOT;
        cache_forget(c);
    }
    return OS_BUSY;
}

void cache_unlock(struct index *index)
{
    if (index->cache->fd >= 0)
        os_unlock_fd(index->cache->fd, index->set.lock_method == OS_LOCK_FLOCK ? OS_LOCK_FLOCK : OS_LOCK_FCNTL);
}
