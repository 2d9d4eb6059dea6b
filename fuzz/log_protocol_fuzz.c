/* What services write to their standard error: no crash, and every part lies inside the line. */
#include "log/log_protocol.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct slice part, const uint8_t *data, size_t size)
{
    if (part.size > 0 && (part.at < data || part.at + part.size > data + size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice line = slice_of(data, size), prefix;
    struct log_message message;
    struct log_order order;
    size_t used;

    log_protocol_parse(line, &message);
    inside(message.text, data, size);
    inside(message.prefix, data, size);
    if (message.plain ? message.type != LOG_LEVEL_ERROR : message.type > LOG_PROTOCOL_OPTION)
        abort();
    if (log_protocol_handshake(line, &prefix, &used) == 1) {
        inside(prefix, data, size);
        if (used > size)
            abort();
    }
    if (log_protocol_order(line, &order))
        inside(order.text, data, size);
    return 0;
}
