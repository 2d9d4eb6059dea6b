/* A transaction log from anywhere, applied to an empty state; then what state_mend makes of it (index-format 3, 4). */
#include "index/index_backend.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_flags(void *arg, uint32_t first, uint32_t last, bool visible)
{
    (void)arg;
    (void)visible;
    if (first > last)
        abort();
}

static void ignore_expunged(void *arg, uint32_t uid, uint8_t flags, uint64_t modseq, struct slice keywords)
{
    (void)arg;
    (void)modseq;
    (void)keywords;
    (void)flags;
    if (uid == 0)
        abort();
}

static void ignore_deleted(void *arg, unsigned level)
{
    (void)arg;
    (void)level;
}

static void ignore_error(void *arg, const struct log_record *r, const char *why)
{
    (void)r;
    (void)why;
    *(bool *)arg = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct state_sink sink = {ignore_flags, ignore_expunged, ignore_deleted, ignore_error};
    bool errors = false;
    struct state s = {.sink = &sink, .sink_arg = &errors};
    struct log_walk walk = {.bytes = slice_of(data, size)};
    struct buffer notes = {0};
    struct log_header h;
    struct log_record r;
    uint64_t modseq, last = 0, tail = 0;
    uint32_t bad;

    if (format_log_header_get(walk.bytes, &h) != NULL)
        return 0;
    state_init(&s, h.indexid);
    modseq = h.initial_modseq;
    walk.at = h.header_size;
    state_apply_begin(&s);
    while (format_log_next(&walk, &r) == LOG_SCAN_RECORD) {
        modseq = format_modseq_after(&r, modseq, h.minor);
        state_apply(&s, &r, modseq);
        format_tail_after(&r, &last, &tail, &bad);
    }
    state_apply_end(&s);
    if (s.count != state_get(&s, BASE_AT_MESSAGES))
        abort();
    for (uint32_t i = 1; i < s.count; i++) {
        if (state_uid(&s, i) <= state_uid(&s, i - 1))
            abort();
    }
    state_mend(&s, &notes);
    if (state_damaged(&s))
        abort();
    buffer_free(&notes);
    state_free(&s);
    return 0;
}
