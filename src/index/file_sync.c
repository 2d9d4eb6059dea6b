/* file_sync.c - reading parts of the logs again: requests to the storage, what has vanished since a modseq, what has
 * changed since a place in the log. */
#include "index/index_backend.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int file_pending(struct index *index, struct arena *arena, struct index_requests *out, struct error *e)
{
    struct file_log *log = &index->log;
    struct buffer bytes = {0};
    uint64_t from = log->tail < log->h.header_size ? log->h.header_size : log->tail;
    int ret = 0;

    out->head_seq = log->h.file_seq;
    out->head_offset = (uint32_t)log->head;
    if (from >= log->head)
        return 0;
    if (os_pread(log->fd, from, (size_t)(log->head - from), &bytes, e) < 0)
        ret = -1;
    else
        requests_collect(index, arena, buffer_slice(&bytes), from, out);
    buffer_free(&bytes);
    return ret;
}

/* Appends the expunges after `modseq` in one log file. False: the file begins later than that. */
static bool find_vanished(struct slice file, uint64_t modseq, struct index_ranges *out)
{
    struct log_header h;
    struct log_record r;
    struct log_walk walk;
    uint64_t now;

    if (format_log_header_get(file, &h) != NULL)
        return false;
    now = h.initial_modseq;
    walk = (struct log_walk){.bytes = file, .at = h.header_size};
    while (format_log_next(&walk, &r) == LOG_SCAN_RECORD) {
        struct slice rest = r.body;
        uint32_t first, last;

        now = format_modseq_after(&r, now, h.minor);
        if (now <= modseq || !r.external)
            continue;
        if (r.type == LOG_EXPUNGE_GUID) {
            for (size_t at = 0; at < rest.size; at += 20)
                index_ranges_add(out, bytes_le32(rest.at + at), bytes_le32(rest.at + at));
        } else if (r.type == LOG_EXPUNGE) {
            while (format_range_next(&rest, &first, &last))
                index_ranges_add(out, first, last);
        }
    }
    return h.initial_modseq <= modseq;
}

int file_vanished(struct index *index, uint64_t modseq, struct index_ranges *out, struct error *e)
{
    struct buffer file = {0};
    struct file_log *log = &index->log;
    char name[FILE_NAME_SIZE];
    bool reaches;

    if (log->fd < 0 || os_pread(log->fd, 0, (size_t)log->head, &file, e) < 0)
        return error_set(e, ERROR_NOT_FOUND, "%s/%s has no log", index->path, index->prefix);
    reaches = find_vanished(buffer_slice(&file), modseq, out);
    if (!reaches && log->h.prev_file_seq != 0) {
        struct log_header h;

        buffer_reset(&file);
        if (os_read_file(index->dir, file_name(index, name, ".log.2"), UINT32_MAX, &file, e) == 0 &&
            format_log_header_get(buffer_slice(&file), &h) == NULL && h.indexid == log->h.indexid &&
            h.file_seq == log->h.prev_file_seq)
            reaches = find_vanished(buffer_slice(&file), modseq, out);
    }
    buffer_free(&file);
    return reaches ? 0 : error_set(e, ERROR_NOT_FOUND, "%s/%s: the logs do not reach back to modseq %llu", index->path,
                                   index->prefix, (unsigned long long)modseq);
}

/* Appends whose flags or keywords the records from `from` on change. */
static void find_changed(struct slice file, uint64_t from, struct index_ranges *out)
{
    struct log_walk walk = {.bytes = file, .at = from};
    struct log_record r;

    while (format_log_next(&walk, &r) == LOG_SCAN_RECORD) {
        struct slice rest = r.body;
        struct log_keyword keyword;
        struct log_flags flags;
        uint32_t first, last;

        switch (r.type) {
        case LOG_FLAGS:
            while (format_flags_next(&rest, &flags)) {
                if (!format_flags_internal(&flags))
                    index_ranges_add(out, flags.first, flags.last);
            }
            break;
        case LOG_KEYWORD:
            format_keyword_get(rest, &keyword);
            while (format_range_next(&keyword.ranges, &first, &last))
                index_ranges_add(out, first, last);
            break;
        case LOG_KEYWORD_RESET:
            while (format_range_next(&rest, &first, &last))
                index_ranges_add(out, first, last);
            break;
        default:
            break;
        }
    }
}

bool file_changed(struct index *index, uint32_t log_seq, uint64_t log_offset, struct index_ranges *out)
{
    struct file_log *log = &index->log;
    struct buffer file = {0};
    struct error e;
    bool current = log_seq == log->h.file_seq, found = false;
    char name[FILE_NAME_SIZE];

    if (log->fd < 0 || log_seq == 0 || (!current && log_seq != log->h.prev_file_seq) || (current && log_offset > log->head) ||
        os_pread(log->fd, 0, (size_t)log->head, &file, &e) < 0)
        goto end;
    find_changed(buffer_slice(&file), current ? log_offset : log->h.header_size, out);
    found = current;
    if (!current) {
        struct log_header h;

        buffer_reset(&file);
        if (os_read_file(index->dir, file_name(index, name, ".log.2"), UINT32_MAX, &file, &e) == 0 &&
            format_log_header_get(buffer_slice(&file), &h) == NULL && h.indexid == log->h.indexid &&
            h.file_seq == log_seq && log_offset <= file.size) {
            find_changed(buffer_slice(&file), log_offset, out);
            found = true;
        }
    }
end:
    buffer_free(&file);
    return found;
}
