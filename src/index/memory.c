/* memory.c - the backend without files (INDEX=MEMORY, raw mails): the same records, applied and kept only until the
 * storage has carried them out. */
#include "index/batch.h"

#include <time.h>

static int open_memory(struct index *index, struct error *e)
{
    (void)e;
    state_init(&index->state, (uint32_t)time(NULL));
    index->modseq = index->log.modseq = 1;
    index->log.h = (struct log_header){.header_size = LOG_HEADER_SIZE, .file_seq = 2,
                                       .indexid = state_get(&index->state, BASE_AT_INDEXID)};
    index->log.head = index->log.tail = LOG_HEADER_SIZE;
    return 0;
}

static void close_memory(struct index *index)
{
    buffer_free(&index->memory_log);
}

static enum step nothing_new(struct index *index, struct error *e)
{
    (void)index;
    (void)e;
    return STEP_DONE;
}

static void unlock_memory(struct index *index)
{
    (void)index;
}

static int commit_memory(struct index *index, struct index_batch *batch, struct index_commit *out, struct error *e)
{
    struct buffer bytes = {0};
    int ret = batch_encode(index, batch, index->log.head, &bytes, out, e);

    if (ret == 0 && bytes.size > 0)
        ret = batch_apply(index, batch, buffer_slice(&bytes), index->log.head, e);
    if (ret == 0) {
        index->log.head += bytes.size;
        if (batch->done != NULL || index->log.tail == index->log.head) {
            index->log.tail = index->log.tail_last = index->log.head;
            buffer_reset(&index->memory_log);
        } else {
            if (index->memory_log.size == 0)
                index->log.tail = index->log.head - bytes.size;
            buffer_append_slice(&index->memory_log, buffer_slice(&bytes));
        }
        if (index->log.head > UINT32_MAX / 2) /* offsets are only names here */
            index->log.head = index->log.tail = LOG_HEADER_SIZE + index->memory_log.size;
    }
    buffer_free(&bytes);
    return ret;
}

static int pending_memory(struct index *index, struct arena *arena, struct index_requests *out, struct error *e)
{
    (void)e;
    out->head_seq = index->log.h.file_seq;
    out->head_offset = (uint32_t)index->log.head;
    requests_collect(index, arena, buffer_slice(&index->memory_log), index->log.head - index->memory_log.size, out);
    return 0;
}

static int repair_memory(struct index *index, struct error *e)
{
    struct buffer notes = {0};

    (void)e;
    state_mend(&index->state, &notes);
    buffer_free(&notes);
    index->need_repair = false;
    return 0;
}

static int reset_memory(struct index *index, struct index_batch *batch, struct error *e)
{
    struct state old = index->state, new;
    struct index_view *views = index->views;
    struct index_commit out = {0};
    int ret;

    index->state = (struct state){.sink = &index_sink, .sink_arg = index};
    state_init(&index->state, index->log.h.indexid);
    index->views = NULL;
    ret = commit_memory(index, batch, &out, e);
    index->views = views;
    new = index->state;
    index->state = old;
    if (ret == 0)
        index_state_replace(index, &new);
    else
        state_free(&new);
    return ret;
}

static int vanished_memory(struct index *index, uint64_t modseq, struct index_ranges *out, struct error *e)
{
    (void)modseq;
    (void)out;
    return error_set(e, ERROR_NOT_FOUND, "%s keeps no log", index->path);
}

const struct index_ops index_memory_ops = {
    .name = "memory",
    .open = open_memory,
    .close = close_memory,
    .refresh = nothing_new,
    .lock = nothing_new,
    .unlock = unlock_memory,
    .commit = commit_memory,
    .pending = pending_memory,
    .repair = repair_memory,
    .reset = reset_memory,
    .vanished = vanished_memory,
};
