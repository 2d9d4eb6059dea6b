/* An mbox file from anybody: read message by message. Ranges lie in the file and follow one another; a header that is written
 * anew says what it was told, and keeps what it had. */
#include "store/mbox/format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rewrite(struct slice header, struct arena *arena)
{
    struct mbox_facts f = {.uid = 7, .flags = 8, .old = true, .keywords = SLICE("kw"), .has_length = true, .length = 3};
    struct buffer before = {0}, made = {0}, after = {0};
    struct mbox_message m = {.uid = 0};

    mbox_header_make(header, &f, header.size, &made);
    mbox_header_read(buffer_slice(&made), MBOX_MD5_ALL, arena, &m);
    mbox_header_visible(header, false, &before);
    mbox_header_visible(buffer_slice(&made), false, &after);
    if (m.uid != 7 || m.flags != 8 || !m.old || !slice_equal_str(m.keywords, "kw") || !slice_equal(buffer_slice(&before), buffer_slice(&after)))
        abort();
    buffer_free(&before);
    buffer_free(&made);
    buffer_free(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mime_source source = mime_source_slice(slice_of(data, size));
    struct arena *arena = arena_new();
    struct mbox_message m;
    struct mbox_scan scan;
    struct error e;

    mbox_scan_init(&scan, &source, size, size % 2 == 0 ? MBOX_MD5_ALL : MBOX_MD5_APOP3D);
    for (uint64_t at = 0; at < size; at = m.next) {
        struct slice header;

        if (mbox_scan_message(&scan, at, arena, &m, &e) < 0) {
            if (at != 0)
                abort(); /* a message ends only where another begins, or the file ends */
            break;
        }
        if (m.from != at || m.header <= m.from || m.body < m.header || m.end < m.body || m.next < m.end || m.next > size)
            abort();
        header = slice_of(data + m.header, (size_t)(m.body - m.header));
        /* Of CRLF in a file with LF the hidden part is written with LF. */
        if (!m.huge && !m.headless && !m.crlf && slice_find(header, '\r') < 0)
            rewrite(header, arena);
    }
    mbox_scan_end(&scan);
    arena_free(arena);
    return 0;
}
