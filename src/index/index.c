/* index.c - the shared object: opening once per process, locking, waiting, committing. What it knows is asked in lookup.c.
 *
 * What may go wrong: the folder behind a handle may be deleted or replaced while it is open. Then index_refresh says
 * ERROR_NOT_FOUND, the handle leaves the registry, and the next index_open makes a fresh one. */
#include "index/index_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

enum { LOCK_TIMEOUT_SECS = 180, LOCK_LONG_SECS = 30, WAIT_MOST_MS = 100 };

/* Those of them that nobody uses, oldest first. */
static struct {
    struct index *list;
    unsigned count, most, secs;
} kept;

/* The open indexes of this process: POSIX locks and shared views demand that there is one object per family. */
static struct index *registry;

/* ---- logging ----------------------------------------------------------------------------------------------------- */

static void log_index(const struct index *index, enum log_level level, const char *fmt, va_list args)
{
    char text[700];

    vsnprintf(text, sizeof(text), fmt, args);
    if (index->name != NULL)
        log_write(NULL, level, "%s%s", index->name, text);
    else
        log_write(NULL, level, "%s", text);
}

void index_warning(const struct index *index, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_index(index, LOG_LEVEL_WARNING, fmt, args);
    va_end(args);
}

void index_error(const struct index *index, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_index(index, LOG_LEVEL_ERROR, fmt, args);
    va_end(args);
}

void index_info(const struct index *index, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_index(index, LOG_LEVEL_INFO, fmt, args);
    va_end(args);
}

void index_log_fsck(struct index *index)
{
    if (!index->fsck_told) /* without the mailbox's name, which stands before what was found */
        log_warning(NULL, "fscking index file %s/%s", index->path, index->prefix);
    index->fsck_told = true;
}

static void log_note_lines(struct index *index, struct slice rest, bool faults)
{
    struct slice line;

    while (rest.size > 0 && slice_split(&rest, '\n', &line)) {
        bool fault = line.size > 0 && line.at[0] == '!';

        if (line.size == 0 || fault != faults)
            continue;
        line = slice_from(line, fault ? 1 : 0);
        index_error(index, "%s index file %s/%s: %.*s", fault ? "Corrupted" : "Fixed", index->path, index->prefix,
                    (int)line.size, (const char *)line.at);
    }
}

void index_log_notes(struct index *index, struct buffer *notes)
{
    if (notes->size == 0)
        return;
    log_note_lines(index, buffer_slice(notes), true);
    index_log_fsck(index);
    log_note_lines(index, buffer_slice(notes), false);
    buffer_reset(notes);
}

/* ---- what applying records tells ---------------------------------------------------------------------------------- */

static void sink_flags(void *arg, uint32_t first, uint32_t last, bool visible)
{
    journal_flags(arg, first, last, visible);
}

static void sink_expunged(void *arg, uint32_t uid, uint8_t flags, uint64_t modseq, struct slice keywords)
{
    journal_expunged(arg, uid, flags, modseq, keywords);
}

static void sink_deleted(void *arg, unsigned level)
{
    ((struct index *)arg)->deleted = level;
}

static void sink_error(void *arg, const struct log_record *r, const char *why)
{
    struct index *index = arg;

    if (!index->need_repair)
        index_error(index, "Log synchronization error at seq=%u,offset=%llu for %s/%s: %s", index->reading_seq,
                    (unsigned long long)r->offset, index->path, index->prefix, why);
    index->need_repair = true;
}

const struct state_sink index_sink = {sink_flags, sink_expunged, sink_deleted, sink_error};

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static void default_number(uint64_t *n, uint64_t value)
{
    if (*n == 0)
        *n = value;
}

static void default_count(unsigned *n, unsigned value)
{
    if (*n == 0)
        *n = value;
}

static char *copy_or(const char *text, const char *otherwise)
{
    return mem_strdup(text != NULL ? text : otherwise);
}

/* Headers that the configuration wants are fields before anybody has asked for them. */
static void register_headers(const char *list)
{
    struct slice rest = slice_from_str(list), word;

    while (rest.size > 0 && slice_split(&rest, ' ', &word)) {
        char name[80];

        if (slice_starts_nocase(word, SLICE("hdr.")) &&
            snprintf(name, sizeof(name), "%.*s", (int)word.size, (const char *)word.at) < (int)sizeof(name))
            index_field(name);
    }
}

static void take_settings(struct index *index, const struct index_settings *from)
{
    struct index_settings *set = &index->set;

    if (from != NULL)
        *set = *from;
    default_number(&set->log_rotate_min_size, 32 * 1024);
    default_number(&set->log_rotate_max_size, 1024 * 1024);
    default_count(&set->log_rotate_min_age_secs, 300);
    default_count(&set->log2_max_age_secs, 2 * 86400);
    default_number(&set->rewrite_min_log_bytes, 8 * 1024);
    default_number(&set->rewrite_max_log_bytes, 128 * 1024);
    default_count(&set->cache_unaccessed_drop_secs, 30 * 86400);
    default_count(&set->cache_record_max_size, 64 * 1024);
    if (set->cache_max_size == 0 || set->cache_max_size > 1024 * 1024 * 1024 - 4)
        set->cache_max_size = 1024 * 1024 * 1024 - 4; /* what the encoding of offsets can hold (9.3) */
    default_count(&set->cache_purge_min_size, 32 * 1024);
    default_count(&set->cache_purge_delete_percent, 20);
    default_count(&set->cache_purge_continued_percent, 200);
    default_count(&set->cache_purge_headers, 4);
    index->cache_fields = copy_or(set->cache_fields, "flags");
    index->always_cache_fields = copy_or(set->always_cache_fields, "");
    index->never_cache_fields = copy_or(set->never_cache_fields, "imap.envelope");
    register_headers(index->cache_fields);
    register_headers(index->always_cache_fields);
}

static char *make_key(const struct index_where *where, struct error *e)
{
    struct stat st;

    if (fstat(where->dir, &st) < 0) {
        error_sys(e, "fstat", where->path);
        return NULL;
    }
    return mem_printf("%llu:%llu:%s", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
                      where->prefix != NULL ? where->prefix : "dovecot.index");
}

static void leave_registry(struct index *index)
{
    if (index->key == NULL)
        return;
    HASH_DEL(registry, index);
    mem_free(index->key);
    index->key = NULL;
}

static void free_index(struct index *index)
{
    leave_registry(index);
    if (index->ops->close != NULL)
        index->ops->close(index);
    cache_close(index);
    state_free(&index->state);
    VEC_FREE(&index->journal);
    VEC_FREE(&index->known_exts);
    if (index->dir >= 0)
        close(index->dir);
    mem_free(index->path);
    mem_free(index->prefix);
    mem_free(index->log_name);
    mem_free(index->name);
    mem_free(index->cache_fields);
    mem_free(index->always_cache_fields);
    mem_free(index->never_cache_fields);
    mem_free(index);
}

static struct index *new_index(const struct index_where *where)
{
    struct index *index = mem_zero(1, sizeof(*index));

    index->refs = 1;
    index->ops = where->ops != NULL ? where->ops : where->in_memory ? &index_memory_ops : &index_files_ops;
    index->dir = -1;
    index->log.fd = -1;
    index->path = copy_or(where->path, "(in-memory index)");
    index->prefix = copy_or(where->prefix, "dovecot.index");
    index->log_name = mem_printf("%s.log", index->prefix);
    index->name = mem_strdup_null(where->name);
    index->mode = where->mode != 0 ? where->mode : 0600;
    index->gid = where->gid != 0 ? where->gid : (gid_t)-1;
    index->read_only = where->read_only;
    index->in_memory = where->in_memory;
    index->no_create = where->no_create;
    index->init = where->init;
    index->init_arg = where->init_arg;
    take_settings(index, where->settings);
    index->state.sink = &index_sink;
    index->state.sink_arg = index;
    return index;
}

/* The folder may have been renamed since: what it is called now counts. */
static void take_names(struct index *index, const struct index_where *where)
{
    if (where->path != NULL && strcmp(index->path, where->path) != 0) {
        mem_free(index->path);
        index->path = mem_strdup(where->path);
    }
    if (where->name != NULL && (index->name == NULL || strcmp(index->name, where->name) != 0)) {
        mem_free(index->name);
        index->name = mem_strdup(where->name);
    }
}

/* An open handle that can be shared: same family, still there, and not read-only when the caller wants to write. */
static struct index *find_open(const char *key, const struct index_where *where)
{
    struct index *index;
    struct error ignored;

    HASH_FIND_STR(registry, key, index);
    if (index == NULL)
        return NULL;
    if (index_refresh(index, &ignored) == STEP_ERROR || (index->read_only && !where->read_only)) {
        leave_registry(index); /* one without users is closed when its time is up */
        return NULL;
    }
    if (index->refs++ == 0) {
        DL_DELETE(kept.list, index);
        kept.count--;
        index->init = where->init;
        index->init_arg = where->init_arg;
    }
    take_names(index, where);
    return index;
}

int index_open(struct index **out, const struct index_where *where, struct error *e)
{
    struct index *index;
    char *key = NULL;

    if (!where->in_memory) {
        key = make_key(where, e);
        if (key == NULL)
            return -1;
        index = find_open(key, where);
        if (index != NULL) {
            mem_free(key);
            *out = index;
            return 0;
        }
    }
    index = new_index(where);
    if (!where->in_memory) {
        index->dir = fcntl(where->dir, F_DUPFD_CLOEXEC, 3);
        if (index->dir < 0) {
            mem_free(key);
            error_sys(e, "dup", where->path);
            free_index(index);
            return -1;
        }
    }
    if (index->ops->open(index, e) < 0) {
        mem_free(key);
        free_index(index);
        return -1;
    }
    if (key != NULL) {
        index->key = key;
        HASH_ADD_KEYPTR(hh, registry, index->key, strlen(index->key), index);
    }
    *out = index;
    return 0;
}

struct index *index_ref(struct index *index)
{
    index->refs++;
    return index;
}

static void drop_oldest(void)
{
    struct index *index = kept.list;

    DL_DELETE(kept.list, index);
    kept.count--;
    free_index(index);
}

unsigned index_keep_expire(void)
{
    uint64_t now = time_monotonic_ns();

    while (kept.list != NULL &&
           (kept.count > kept.most || now - kept.list->unused_ns >= (uint64_t)kept.secs * 1000000000u))
        drop_oldest();
    return kept.count;
}

void index_keep(unsigned count, unsigned secs)
{
    kept.most = count;
    kept.secs = secs;
    index_keep_expire();
}

void index_close(struct index **out)
{
    struct index *index = *out;

    *out = NULL;
    if (index == NULL || --index->refs > 0)
        return;
    if (index->cache != NULL && !index->gone && !index->read_only)
        index_cache_flush(index);
    if (index->locked)
        index_unlock(index);
    if (index->ops->tidy != NULL)
        index->ops->tidy(index);
    if (kept.most == 0 || index->key == NULL || index->gone || index->need_repair) {
        free_index(index);
        return;
    }
    index->init = NULL; /* its argument is the user's who has just gone */
    index->unused_ns = time_monotonic_ns();
    DL_APPEND(kept.list, index);
    kept.count++;
    index_keep_expire();
}

enum step index_refresh(struct index *index, struct error *e)
{
    if (index->gone) {
        error_set(e, ERROR_NOT_FOUND, "%s/%s.log was deleted while it was open", index->path, index->prefix);
        return STEP_ERROR;
    }
    return index->ops->refresh(index, e);
}

bool index_read_only(const struct index *index)
{
    return index->read_only;
}

bool index_in_memory(const struct index *index)
{
    return index->in_memory;
}

unsigned index_deleted(const struct index *index)
{
    return index->deleted;
}

uint64_t index_generation(const struct index *index)
{
    return index->generation;
}

void index_watch(const struct index *index, const char **dir_path, const char **log_name)
{
    *dir_path = index->path;
    *log_name = index->log_name;
}

/* ---- locks -------------------------------------------------------------------------------------------------------- */

enum step index_lock_try(struct index *index, const char *why, struct error *e)
{
    enum step step;

    if (index->locked)
        return STEP_WAIT;
    if (index->read_only) {
        error_set(e, ERROR_PERMISSION, "%s/%s is read-only", index->path, index->prefix);
        return STEP_ERROR;
    }
    if (index->gone)
        return index_refresh(index, e);
    step = index->ops->lock(index, e);
    if (step == STEP_DONE) {
        index->locked = true;
        index->lock_why = why;
        index->locked_ns = time_monotonic_ns();
    }
    return step;
}

void index_unlock(struct index *index)
{
    uint64_t secs = (time_monotonic_ns() - index->locked_ns) / 1000000000u;

    if (!index->locked)
        return;
    index->locked = false;
    index->ops->unlock(index);
    if (secs > LOCK_LONG_SECS)
        index_warning(index, "Transaction log file %s/%s.log was locked for %u seconds (%s)", index->path,
                      index->prefix, (unsigned)secs, index->lock_why);
}

bool index_locked(const struct index *index)
{
    return index->locked;
}

uint32_t index_lock_timeout(const struct index *index)
{
    unsigned secs = index->set.lock_timeout_secs;

    return secs == 0 || secs > LOCK_TIMEOUT_SECS ? LOCK_TIMEOUT_SECS : secs;
}

/* Who holds a POSIX lock; 0 = not known (an OFD lock, another method). */
static pid_t lock_holder(const struct index *index)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (index->log.fd < 0 || fcntl(index->log.fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK || lock.l_pid <= 0)
        return 0;
    return lock.l_pid;
}

int index_waiter_next(struct index_waiter *w, const struct index *index, struct error *e)
{
    uint64_t now = time_monotonic_ns();
    unsigned ms;

    if (w->since_ns == 0)
        w->since_ns = now;
    if (now - w->since_ns >= (uint64_t)index_lock_timeout(index) * 1000000000u) {
        pid_t pid = lock_holder(index);
        char holder[64] = "";

        if (pid > 0)
            snprintf(holder, sizeof(holder), " (WRITE lock held by pid %ld)", (long)pid);
        return error_set(e, ERROR_LOCK_TIMEOUT,
                         "Timeout (%us) while waiting for lock for transaction log file %s/%s.log%s",
                         index_lock_timeout(index), index->path, index->prefix, holder);
    }
    ms = w->tries < 7 ? 1u << w->tries : WAIT_MOST_MS;
    w->tries++;
    return (int)(ms > WAIT_MOST_MS ? WAIT_MOST_MS : ms);
}

static int sleep_for_lock(struct index_waiter *w, const struct index *index, struct error *e)
{
    int ms = index_waiter_next(w, index, e);
    struct timespec ts;

    if (ms < 0)
        return -1;
    ts = (struct timespec){0, ms * 1000000L};
    nanosleep(&ts, NULL);
    return 0;
}

int index_lock_wait(struct index *index, const char *why, struct error *e)
{
    struct index_waiter w = {0};
    enum step step;

    while ((step = index_lock_try(index, why, e)) == STEP_WAIT) {
        if (sleep_for_lock(&w, index, e) < 0)
            return -1;
    }
    return step == STEP_DONE ? 0 : -1;
}

/* ---- committing --------------------------------------------------------------------------------------------------- */

int index_commit_locked(struct index *index, struct index_batch *batch, struct index_commit *out, struct error *e)
{
    struct index_commit ignored;

    if (out == NULL)
        out = &ignored;
    *out = (struct index_commit){0};
    if (!index->locked)
        return error_set(e, ERROR_BUG, "%s/%s: commit without the lock", index->path, index->prefix);
    if (index->deleted == 2 && !batch_undeletes(batch))
        return error_set(e, ERROR_NOT_FOUND, "Mailbox was deleted");
    if (index->ops->commit(index, batch, out, e) < 0)
        return -1;
    out->uid_validity = state_get(&index->state, BASE_AT_UID_VALIDITY);
    out->highest_modseq = index->modseq;
    return 0;
}

enum step index_commit(struct index *index, struct index_batch *batch, struct index_commit *out, struct error *e)
{
    enum step step = index_lock_try(index, "appending", e);
    int ret;

    if (step != STEP_DONE)
        return step;
    ret = index_commit_locked(index, batch, out, e);
    index_unlock(index);
    return ret == 0 ? STEP_DONE : STEP_ERROR;
}

int index_commit_wait(struct index *index, struct index_batch *batch, struct index_commit *out, struct error *e)
{
    int ret;

    if (index_lock_wait(index, "appending", e) < 0)
        return -1;
    ret = index_commit_locked(index, batch, out, e);
    index_unlock(index);
    return ret;
}

bool index_has_pending(const struct index *index)
{
    return index->log.request_end > index->log.tail;
}

void index_log_position(const struct index *index, struct index_log_position *out)
{
    *out = (struct index_log_position){index->log.h.file_seq, index->log.tail, index->log.head};
}

int index_pending(struct index *index, struct arena *arena, struct index_requests *out, struct error *e)
{
    *out = (struct index_requests){0};
    return index->ops->pending(index, arena, out, e);
}

void index_maintain(struct index *index)
{
    if (index->locked && index->ops->maintain != NULL)
        index->ops->maintain(index);
}

enum step index_repair(struct index *index, struct error *e)
{
    bool mine = !index->locked;
    enum step step;
    int ret;

    if (mine && (step = index_lock_try(index, "fscking", e)) != STEP_DONE)
        return step;
    ret = index->ops->repair(index, e);
    if (mine)
        index_unlock(index);
    return ret == 0 ? STEP_DONE : STEP_ERROR;
}

enum step index_fsck(struct index *index, struct error *e)
{
    enum step step = index_lock_try(index, "fscking", e);

    if (step != STEP_DONE)
        return step;
    index_log_fsck(index);
    step = index_repair(index, e);
    index_unlock(index);
    return step;
}

int index_reset(struct index *index, struct index_batch *batch, struct error *e)
{
    if (!index->locked)
        return error_set(e, ERROR_BUG, "%s/%s: reset without the lock", index->path, index->prefix);
    return index->ops->reset(index, batch, e);
}

void index_mark_corrupted(struct index *index, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_index(index, LOG_LEVEL_ERROR, fmt, args);
    va_end(args);
    index->need_repair = true;
}

int index_vanished_since(struct index *index, uint64_t modseq, struct index_ranges *out, struct error *e)
{
    return index->ops->vanished(index, modseq, out, e);
}

/* A state that was read anew takes the place of the old one: views learn the difference, UID by UID. */
void index_state_replace(struct index *index, struct state *new)
{
    struct state *old = &index->state;
    uint32_t a = 0, b = 0, next = state_get(new, BASE_AT_NEXT_UID);
    uint32_t was = old->base == NULL ? 0 : state_get(old, BASE_AT_UID_VALIDITY);

    if (old->base != NULL && index->views != NULL) {
        if (was != 0 && was != state_get(new, BASE_AT_UID_VALIDITY))
            index->epoch++;
        if (next < state_get(old, BASE_AT_NEXT_UID))
            index->epoch++; /* UIDs that sessions have seen may be given again */
        while (a < old->count) {
            uint32_t uid = state_uid(old, a);

            while (b < new->count && state_uid(new, b) < uid)
                b++;
            if (b == new->count || state_uid(new, b) != uid)
                journal_expunged(index, uid, state_record(old, a)[4], state_modseq(old, a), state_keywords(old, a));
            else if (old->stride != new->stride || memcmp(state_record(old, a), state_record(new, b), old->stride) != 0)
                journal_flags(index, uid, uid, true);
            a++;
        }
    }
    if (old->base != NULL)
        state_free(old);
    *old = *new;
    *new = (struct state){0};
    old->sink = &index_sink;
    old->sink_arg = index;
    index->generation++;
}
