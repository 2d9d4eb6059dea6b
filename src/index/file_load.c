/* file_load.c - reading the whole family: base index, then the logs from its position on (index-format 6.1, 6.3).
 *
 * The result is always a usable state: what is damaged is left out, logged with Dovecot's texts (12.1, 12.2), and
 * need_repair (with need_new_log when the log cannot go on) tells the next lock holder to write a sound family.
 * A reader changes nothing on disk. */
#include "index/index_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAP_MIN_SIZE = 128 * 1024 };

struct loaded_log {
    int fd;                 /* -1 = not there or not usable */
    bool writable;
    struct stat st;
    struct log_header h;
    struct buffer bytes;
    bool usable;
};

struct load {
    struct index *index;
    struct state state;
    struct loaded_log logs[2]; /* .log.2, .log */
    bool have_base;
    struct stat base_st;
    uint32_t seq;           /* where applying begins */
    uint64_t offset;
    unsigned first;         /* the first of logs[] to apply */
    bool need_repair, need_new_log;
    bool last_try;
    bool beyond;            /* the base's position is behind the end of the log: that position stands */
    uint64_t refused_modseq; /* at the end of a log that is not this family's */
    uint64_t head, modseq, log_modseq, tail, tail_last, request_end;
    struct buffer notes;
};

const char *file_name(const struct index *index, char out[FILE_NAME_SIZE], const char *suffix)
{
    snprintf(out, FILE_NAME_SIZE, "%s%s", index->prefix, suffix);
    return out;
}

static int open_either(const struct index *index, const char *name, bool *writable)
{
    int fd = -1;

    *writable = false;
    if (!index->read_only) {
        fd = openat(index->dir, name, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
        *writable = fd >= 0;
    }
    if (fd < 0 && (index->read_only || errno == EACCES || errno == EROFS || errno == EPERM))
        fd = openat(index->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    return fd;
}

static void corrupted_log(const struct index *index, const char *suffix, uint32_t seq, const char *why, uint64_t at)
{
    index_error(index, "Corrupted transaction log file %s/%s%s seq %u: %s (sync_offset=%llu)", index->path,
                index->prefix, suffix, seq, why, (unsigned long long)at);
}

/* 0: opened, or found unusable (fd is open then, usable false); 1: not there; -1. */
static int open_log(struct load *l, const char *suffix, struct loaded_log *log, struct error *e)
{
    char name[FILE_NAME_SIZE];
    const char *why;

    log->fd = open_either(l->index, file_name(l->index, name, suffix), &log->writable);
    if (log->fd < 0)
        return errno == ENOENT ? 1 : error_sys(e, "open", name);
    if (fstat(log->fd, &log->st) < 0)
        return error_sys(e, "fstat", name);
    if (!S_ISREG(log->st.st_mode) || log->st.st_size > UINT32_MAX)
        return error_set(e, ERROR_CORRUPT, "%s/%s is not a transaction log", l->index->path, name);
    if (os_pread(log->fd, 0, (size_t)log->st.st_size, &log->bytes, e) < 0)
        return -1;
    why = format_log_header_get(buffer_slice(&log->bytes), &log->h);
    if (why != NULL) {
        if (*why != '\0')
            corrupted_log(l->index, suffix, log->bytes.size >= 12 ? bytes_le32(log->bytes.at + 8) : 0, why, 0);
        return 0;
    }
    log->usable = true;
    return 0;
}

static void close_log(struct loaded_log *log)
{
    if (log->fd >= 0)
        close(log->fd);
    buffer_free(&log->bytes);
    *log = (struct loaded_log){.fd = -1};
}

/* Where the log has everything from the beginning, a base whose last records are zeros is worth less than none. */
static bool is_worthless(const struct load *l)
{
    const struct loaded_log *log = &l->logs[1];

    return l->state.count > 0 && state_uid(&l->state, l->state.count - 1) == 0 && log->usable && log->h.prev_file_seq == 0;
}

/* A large one is mapped, with room for messages that come: opening a mailbox must not cost what all its messages cost. */
static int get_base(struct load *l, int fd, struct buffer *file, struct os_map **map, struct error *e)
{
    const size_t size = (size_t)l->base_st.st_size;
    struct error ignored;

    if (size >= MAP_MIN_SIZE && !l->index->set.mmap_disable && !l->index->no_map &&
        os_map_open(map, fd, size, size / 8 + MAP_MIN_SIZE, &ignored) == 0)
        return 0;
    buffer_reserve(file, size);
    return os_pread(fd, 0, size, file, e) < 0 ? -1 : 0;
}

/* The base index; its absence or uselessness leaves the empty state with have_base false. */
static int read_base(struct load *l, struct error *e)
{
    struct buffer file = {0};
    struct os_map *map = NULL;
    char why[128];
    bool writable;
    int fd, ret;

    state_init(&l->state, 0);
    fd = open_either(l->index, l->index->prefix, &writable);
    if (fd < 0)
        return errno == ENOENT ? 0 : error_sys(e, "open", l->index->prefix);
    if (fstat(fd, &l->base_st) < 0 || !S_ISREG(l->base_st.st_mode)) {
        close(fd);
        return error_set(e, ERROR_CORRUPT, "%s/%s is not an index file", l->index->path, l->index->prefix);
    }
    ret = get_base(l, fd, &file, &map, e);
    close(fd);
    if (ret == 0) {
        switch (map == NULL ? state_load(&l->state, &file, why, sizeof(why), &l->notes)
                            : state_load_map(&l->state, &map, (size_t)l->base_st.st_size, why, sizeof(why), &l->notes)) {
        case STATE_GOOD:
            l->have_base = true;
            break;
        case STATE_MEND:
            l->have_base = !is_worthless(l);
            l->need_repair = true;
            if (!l->have_base) {
                index_error(l->index, "Corrupted index file %s/%s: last message has uid=0", l->index->path, l->index->prefix);
                buffer_reset(&l->notes);
                state_free(&l->state);
                state_init(&l->state, 0);
            }
            break;
        case STATE_UNUSABLE:
            if (why[0] != '\0')
                index_error(l->index, "Corrupted index file %s/%s: %s", l->index->path, l->index->prefix, why);
            l->need_repair = true;
            break;
        }
    }
    buffer_free(&file);
    os_map_close(&map);
    return ret;
}

static uint64_t count_modseqs(const struct loaded_log *log)
{
    struct log_walk walk = {.bytes = buffer_slice(&log->bytes), .at = log->h.header_size};
    uint64_t modseq = log->h.initial_modseq;
    struct log_record r;

    while (format_log_next(&walk, &r) == LOG_SCAN_RECORD)
        modseq = format_modseq_after(&r, modseq, log->h.minor);
    return modseq;
}

/* The log says it belongs to another family, or is marked corrupted: the base index wins (6.1). A mark alone does
 * not make the bytes wrong; they are read as far as they are valid, which loses nothing that can be kept. */
static void check_family(struct load *l)
{
    struct loaded_log *log = &l->logs[1];
    uint32_t id = state_get(&l->state, BASE_AT_INDEXID);

    if (!log->usable)
        return;
    if (log->h.indexid == 0) {
        index_error(l->index, "Transaction log file %s/%s.log: marked corrupted", l->index->path, l->index->prefix);
        l->need_repair = l->need_new_log = true;
        log->h.indexid = l->have_base ? id : log->h.create_stamp;
    }
    if (l->have_base && log->h.indexid != id) {
        char why[64];

        snprintf(why, sizeof(why), "indexid changed: %u -> %u", log->h.indexid, id);
        index_error(l->index, "Index file %s/%s: %s", l->index->path, l->index->prefix, why);
        corrupted_log(l->index, ".log", log->h.file_seq, why, log->bytes.size);
        log->usable = false;
        l->refused_modseq = count_modseqs(log); /* it may well be the base's header that is wrong */
    }
    if (!l->have_base)
        state_put(&l->state, BASE_AT_INDEXID, log->h.indexid);
}

/* .log.2 is read only when something before the log is wanted. */
static int open_older(struct load *l, struct error *e)
{
    struct loaded_log *old = &l->logs[0], *log = &l->logs[1];
    int ret = open_log(l, ".log.2", old, e);

    if (ret < 0)
        return -1;
    if (ret == 0 && (!old->usable || (old->st.st_ino == log->st.st_ino && old->st.st_dev == log->st.st_dev) ||
                     old->h.indexid != log->h.indexid || old->h.file_seq >= log->h.file_seq))
        close_log(old);
    return 0;
}

static void begin_at(struct load *l, unsigned first, uint32_t seq, uint64_t offset)
{
    l->first = first;
    l->seq = seq;
    l->offset = offset;
}

/* The base's position is in none of the logs that are there. What the head log has is applied as a whole when the
 * base is older (12.3); a position beyond the log's end means that the base has all of it. */
static int lost_log(struct load *l, const char *why)
{
    struct loaded_log *log = &l->logs[1];
    uint32_t seq = state_get(&l->state, BASE_AT_LOG_SEQ), head = state_get(&l->state, BASE_AT_LOG_HEAD);

    if (!l->last_try)
        return 1; /* others may have appended, rotated and rewritten between our looks at the files */
    index_error(l->index, "Index %s/%s: Index mapped (file_seq=%u): Lost log for seq=%u offset=%u: %s (initial_mapped=0) "
                          "- fscking (reopen_reason: index unchanged)",
                l->index->path, l->index->prefix, seq, seq, head, why);
    index_log_fsck(l->index);
    if (seq != log->h.file_seq)
        buffer_printf(&l->notes, "log_file_seq %u -> %u\n", seq, log->h.file_seq);
    l->need_repair = true;
    if (seq < log->h.file_seq) {
        begin_at(l, 1, log->h.file_seq, log->h.header_size);
        return 0;
    }
    /* The base has all of this log and more. A base at the very beginning of a log without predecessor would be
     * dropped for that log (7.3), so the position is kept and a new log follows on from it. */
    begin_at(l, 1, log->h.file_seq, log->bytes.size);
    l->beyond = l->need_new_log = true;
    return 0;
}

/* 6.3. 1: the files changed while they were read; again. */
static int find_start(struct load *l, struct error *e)
{
    struct loaded_log *old = &l->logs[0], *log = &l->logs[1];
    uint32_t seq = l->have_base ? state_get(&l->state, BASE_AT_LOG_SEQ) : 0;
    uint64_t offset = l->have_base ? state_get(&l->state, BASE_AT_LOG_HEAD) : 0;
    char why[256];

    if (seq != 0 && log->h.prev_file_seq == seq && log->h.prev_file_offset == offset) {
        begin_at(l, 1, log->h.file_seq, log->h.header_size);
        return 0;
    }
    if (log->h.prev_file_seq == 0 && (log->h.file_seq > seq || (log->h.file_seq == seq && offset <= log->h.header_size))) {
        uint32_t id = log->h.indexid;

        state_free(&l->state);
        state_init(&l->state, id);
        begin_at(l, 1, log->h.file_seq, log->h.header_size);
        return 0;
    }
    if (log->h.file_seq == seq) {
        begin_at(l, 1, seq, offset);
        if (offset >= log->h.header_size && offset <= log->bytes.size)
            return 0;
        snprintf(why, sizeof(why), "Failed to map file seq=%u offset=%llu..18446744073709551615 (ret=0): %s/%s.log: "
                                   "start_offset (%llu) > current sync_offset (%zu), file size=%zu",
                 seq, (unsigned long long)offset, l->index->path, l->index->prefix, (unsigned long long)offset,
                 log->bytes.size, log->bytes.size);
        return lost_log(l, why);
    }
    if (seq > log->h.file_seq) {
        snprintf(why, sizeof(why), "Missing middle file seq=%u (between %u..4294967295, we have seqs %u): Requested newer "
                                   "log than exists: Log inode is unchanged",
                 seq, seq, log->h.file_seq);
        return lost_log(l, why);
    }
    if (open_older(l, e) < 0)
        return -1;
    if (old->usable && log->h.prev_file_seq == old->h.file_seq) {
        if (old->h.prev_file_seq == seq && old->h.prev_file_offset == offset && seq != 0) {
            begin_at(l, 0, old->h.file_seq, old->h.header_size);
            return 0;
        }
        if (old->h.prev_file_seq == 0 && old->h.file_seq > seq) {
            uint32_t id = log->h.indexid;

            state_free(&l->state);
            state_init(&l->state, id);
            begin_at(l, 0, old->h.file_seq, old->h.header_size);
            return 0;
        }
        if (old->h.file_seq == seq && offset >= old->h.header_size && offset <= old->bytes.size) {
            begin_at(l, 0, seq, offset);
            return 0;
        }
    }
    snprintf(why, sizeof(why), "Missing middle file seq=%u (between %u..4294967295, we have seqs %u): Not found from "
                               ".log.2: %s",
             seq, seq, log->h.file_seq, old->usable ? "Different sequence" : "File doesn't exist");
    return lost_log(l, why);
}

/* Whatever was handed out must never be handed out again for less (14.3). */
static uint64_t base_modseq(const struct state *s)
{
    const struct state_ext *x;

    if (s->ext_modseq < 0)
        return 0;
    x = &s->exts[s->ext_modseq];
    return x->header_size >= 16 ? bytes_le64(x->header) : 0;
}

static enum log_scan walk_log(struct load *l, const struct loaded_log *log, struct log_walk *w, uint64_t from,
                              bool newest)
{
    struct log_record r;
    enum log_scan scan;
    uint32_t bad = 0;

    while ((scan = format_log_next(w, &r)) == LOG_SCAN_RECORD) {
        l->modseq = format_modseq_after(&r, l->modseq, log->h.minor);
        if (r.offset >= from)
            state_apply(&l->state, &r, l->modseq);
        if (newest && requests_is(&r))
            l->request_end = r.offset + r.size;
        if (newest && !format_tail_after(&r, &l->tail_last, &l->tail, &bad)) {
            w->told = r.offset;
            snprintf(w->why, sizeof(w->why), "log_file_tail_offset %u goes past sync offset %llu", bad,
                     (unsigned long long)(r.offset + r.size));
            return LOG_SCAN_BROKEN;
        }
    }
    return scan;
}

/* The whole file is walked, for the modseq and the tail; applied is what begins at `from`. */
static void apply_log(struct load *l, const struct loaded_log *log, const char *suffix, uint64_t from, bool newest)
{
    struct log_walk walk = {.bytes = buffer_slice(&log->bytes), .at = log->h.header_size};
    enum log_scan scan;

    l->modseq = log->h.initial_modseq;
    l->index->reading_seq = log->h.file_seq;
    state_apply_begin(&l->state);
    scan = walk_log(l, log, &walk, from, newest);
    if (scan == LOG_SCAN_BROKEN || walk.at < from) {
        corrupted_log(l->index, suffix, log->h.file_seq, scan == LOG_SCAN_BROKEN ? walk.why : "Unexpected garbage",
                      scan == LOG_SCAN_BROKEN ? walk.told : walk.at);
        l->need_repair = true;
        l->need_new_log |= newest;
    }
    if (walk.at < from && from <= walk.bytes.size) {
        /* the damage lies in what the base index has already; that its position is good is known */
        walk.at = (size_t)from;
        if (l->modseq < base_modseq(&l->state))
            l->modseq = base_modseq(&l->state);
        if (walk_log(l, log, &walk, from, newest) == LOG_SCAN_BROKEN)
            corrupted_log(l->index, suffix, log->h.file_seq, walk.why, walk.told);
    }
    state_apply_end(&l->state);
    l->head = walk.at;
}

static void apply_all(struct load *l)
{
    struct loaded_log *log = &l->logs[1];
    uint64_t least = base_modseq(&l->state);

    l->tail = l->tail_last = 0;
    if (l->have_base && state_get(&l->state, BASE_AT_LOG_SEQ) == log->h.file_seq && l->first == 1)
        l->tail = l->tail_last = state_get(&l->state, BASE_AT_LOG_TAIL);
    if (l->tail < log->h.header_size)
        l->tail = log->h.header_size; /* there is nothing before the first record */
    if (l->tail > log->bytes.size) {
        char why[128];

        snprintf(why, sizeof(why), "Invalid offset: file_seq=%u, min_file_offset (%llu) > max_file_offset (%zu)",
                 log->h.file_seq, (unsigned long long)l->tail, log->bytes.size);
        corrupted_log(l->index, ".log", log->h.file_seq, why, log->bytes.size);
        l->tail = l->tail_last = log->bytes.size;
        l->need_repair = true; /* a base index with the right tail */
    }
    if (l->first == 0) {
        struct loaded_log *old = &l->logs[0];

        apply_log(l, old, ".log.2", l->offset, false);
        if (l->head != log->h.prev_file_offset) {
            index_error(l->index, "Invalid transaction log size (%llu vs %u): %s/%s.log.2",
                        (unsigned long long)l->head, log->h.prev_file_offset, l->index->path, l->index->prefix);
            l->need_repair = true;
        }
        l->offset = log->h.header_size;
    }
    apply_log(l, log, ".log", l->offset, true);
    l->log_modseq = l->modseq;
    if (l->modseq < least)
        l->modseq = least;
    if (l->beyond)
        return;
    state_put(&l->state, BASE_AT_LOG_SEQ, log->h.file_seq);
    state_put(&l->state, BASE_AT_LOG_HEAD, (uint32_t)l->head);
}

/* No usable log: the state is the base's, or empty. */
static void without_log(struct load *l)
{
    uint32_t seq = state_get(&l->state, BASE_AT_LOG_SEQ);

    l->need_repair = l->need_new_log = true;
    l->head = state_get(&l->state, BASE_AT_LOG_HEAD);
    l->tail = l->head;
    if (!l->logs[1].usable)
        l->logs[1].h = (struct log_header){.header_size = LOG_HEADER_SIZE, .file_seq = seq,
                                           .indexid = state_get(&l->state, BASE_AT_INDEXID)};
    l->modseq = base_modseq(&l->state);
    if (l->modseq < l->refused_modseq)
        l->modseq = l->refused_modseq;
    if (l->modseq == 0)
        l->modseq = 1;
    l->log_modseq = l->modseq;
}

static void take(struct load *l)
{
    struct index *index = l->index;
    struct loaded_log *log = &l->logs[1];
    bool damaged = l->state.base != NULL && state_damaged(&l->state);

    if (index->need_repair) /* the sink has seen a record that contradicts the state */
        l->need_repair = true;
    if (l->need_repair || damaged) {
        if (damaged || l->notes.size > 0 || index->need_repair)
            state_mend(&l->state, &l->notes);
        l->need_repair = true;
    }
    index_log_notes(index, &l->notes);
    if (index->log.fd < 0 || log->fd < 0 || index->log.ino != log->st.st_ino || index->log.dev != log->st.st_dev) {
        file_log_close(index);
        file_log_take(index, log->fd, &log->h, l->head, l->modseq);
        log->fd = -1;
    }
    index->log.h = log->h;
    index->log.dev = log->st.st_dev;
    index->log.ino = log->st.st_ino;
    index->log.head = l->head;
    index->log.modseq = l->log_modseq;
    index->log.tail = l->tail;
    index->log.tail_last = l->tail_last;
    index->log.request_end = l->request_end;
    index->log.mtime = (uint32_t)log->st.st_mtime;
    index->log.writable = log->writable;
    if (!index->locked && !log->writable && index->log.fd >= 0)
        index->read_only = true;
    index->modseq = l->modseq;
    index->base_size = l->have_base ? (uint64_t)l->base_st.st_size : 0;
    index->base_dev = l->base_st.st_dev;
    index->base_ino = l->base_st.st_ino;
    index->need_repair = l->need_repair;
    index->fsck_told &= l->need_repair;
    index->need_new_log = l->need_new_log;
    index->refreshed_bytes = l->head > l->offset ? l->head - l->offset : 0;
    index_state_replace(index, &l->state);
}

static void free_load(struct load *l)
{
    close_log(&l->logs[0]);
    close_log(&l->logs[1]);
    if (l->state.base != NULL)
        state_free(&l->state);
    buffer_free(&l->notes);
}

/* 1: again. */
static int try_load(struct index *index, bool last_try, struct error *e)
{
    struct load l = {.index = index, .logs = {{.fd = -1}, {.fd = -1}}, .last_try = last_try};
    struct index_view *views = index->views;
    int ret;

    l.state.sink = &index_sink;
    l.state.sink_arg = index;
    ret = open_log(&l, ".log", &l.logs[1], e);
    if (ret >= 0 && read_base(&l, e) < 0)
        ret = -1;
    if (ret == 1 && !l.have_base && !l.need_repair) {
        free_load(&l);
        return error_set(e, ERROR_NOT_FOUND, "%s/%s.log does not exist", index->path, index->prefix);
    }
    if (ret < 0) {
        free_load(&l);
        return -1;
    }
    index->base_log_seq = l.have_base ? state_get(&l.state, BASE_AT_LOG_SEQ) : 0;
    index->base_log_tail = l.have_base ? state_get(&l.state, BASE_AT_LOG_TAIL) : 0;
    index->need_repair = false;
    index->deleted = 0;
    check_family(&l);
    /* applying tells views nothing: they get the difference as a whole */
    index->views = NULL;
    ret = 0;
    if (l.logs[1].usable && (ret = find_start(&l, e)) == 0)
        apply_all(&l);
    else if (ret == 0)
        without_log(&l);
    index->views = views;
    if (ret == 0)
        take(&l);
    free_load(&l);
    return ret;
}

int file_load(struct index *index, struct error *e)
{
    enum { TRIES = 4 };
    int ret = 1;

    for (int i = 1; ret == 1; i++)
        ret = try_load(index, i == TRIES, e);
    return ret;
}
