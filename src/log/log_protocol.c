/* The log protocol: 0x01, type+1 with flags, decimal pid, space, [decimal prefix length, space, prefix] text (ipc 3).
 *
 * Services are not trusted to write it well: every number and length is checked, and a line that does not fit is shown
 * as it is, as an error of the service. */
#include "log/log_protocol.h"

enum { FLAG_PREFIX_LENGTH = 0x40, FLAG_NO_SERVICE_PREFIX = 0x80 };

int log_protocol_handshake(struct slice bytes, struct slice *prefix, size_t *used)
{
    uint32_t magic, size;

    if (bytes.size < 4)
        return 0;
    memcpy(&magic, bytes.at, 4);
    if (magic != LOG_PROTOCOL_MAGIC)
        return -1;
    if (bytes.size < 8)
        return 0;
    memcpy(&size, bytes.at + 4, 4);
    if (size > LOG_PROTOCOL_PREFIX_MAX)
        return -1;
    if (bytes.size - 8 < size)
        return 0;
    *prefix = slice_head(slice_from(bytes, 8), size);
    *used = 8 + (size_t)size;
    return 1;
}

/* Takes digits and the space after them. */
static bool take_number(struct slice *rest, uint32_t *number)
{
    struct slice copy = *rest, word;
    ptrdiff_t space = slice_find(copy, ' ');

    if (space <= 0)
        return false;
    word = slice_head(copy, (size_t)space);
    if (!slice_to_u32(word, number))
        return false;
    *rest = slice_from(copy, (size_t)space + 1);
    return true;
}

static bool parse(struct slice line, struct log_message *message)
{
    struct slice rest = slice_from(line, 2);
    unsigned flags;
    uint32_t size;

    if (line.size < 2 || line.at[0] != 0x01)
        return false;
    flags = line.at[1];
    message->no_service_prefix = (flags & FLAG_NO_SERVICE_PREFIX) != 0;
    message->has_prefix = (flags & FLAG_PREFIX_LENGTH) != 0;
    flags &= (unsigned)~(FLAG_PREFIX_LENGTH | FLAG_NO_SERVICE_PREFIX);
    if (flags == 0 || flags - 1 > LOG_PROTOCOL_OPTION || flags - 1 == LOG_LEVEL_PANIC + 1)
        return false;
    message->type = flags - 1;
    if (!take_number(&rest, &message->pid))
        return false;
    if (message->has_prefix) {
        if (!take_number(&rest, &size) || size > rest.size)
            return false;
        message->prefix = slice_head(rest, size);
        rest = slice_from(rest, size);
    }
    message->text = rest;
    return true;
}

void log_protocol_parse(struct slice line, struct log_message *message)
{
    *message = (struct log_message){0};
    if (parse(line, message))
        return;
    *message = (struct log_message){.plain = true, .type = LOG_LEVEL_ERROR, .text = line};
}

bool log_protocol_order(struct slice line, struct log_order *order)
{
    struct slice rest = line, word;

    if (!take_number(&rest, &order->fd) || !take_number(&rest, &order->pid) || !slice_split(&rest, ' ', &word))
        return false;
    order->text = rest;
    if (slice_equal_str(word, "BYE"))
        order->what = LOG_ORDER_BYE;
    else if (slice_equal_str(word, "FATAL"))
        order->what = LOG_ORDER_FATAL;
    else if (slice_equal_str(word, "DEFAULT-FATAL"))
        order->what = LOG_ORDER_DEFAULT_FATAL;
    else
        return false;
    return true;
}
