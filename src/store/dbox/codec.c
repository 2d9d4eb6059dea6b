/* codec.c - the lines and headers of dbox files (dbox-format 1.1 to 1.4), over bytes alone.
 *
 * Version 1 files (before Dovecot 1.2) are read: their metadata ends with a line that begins with a space, their file
 * header has a field more. */
#include "store/dbox/dbox.h"

#include <ctype.h>

static bool hex_u64(struct slice text, uint64_t *out)
{
    uint64_t n = 0;

    if (text.size == 0 || text.size > 16)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        int c = text.at[i];

        if (!isxdigit(c))
            return false;
        n = n << 4 | (uint64_t)(isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    *out = n;
    return true;
}

const char *dbox_header_parse(struct slice file, struct dbox_header *out)
{
    ptrdiff_t end = slice_find(slice_head(file, 4096), '\n');
    struct dbox_header h = {0};
    struct slice line, part;
    uint64_t n;
    bool has_size = false;

    if (file.size == 0 || end < 0)
        return "EOF while reading file header";
    line = slice_head(file, (size_t)end);
    h.size = (uint32_t)end + 1;
    if (line.size == 0 || (line.at[0] != '1' && line.at[0] != '2') || (line.size > 1 && line.at[1] != ' '))
        return "Invalid dbox version";
    h.version = (unsigned)(line.at[0] - '0');
    line = slice_from(line, 2);
    while (slice_split(&line, ' ', &part)) {
        if (part.size == 0)
            continue;
        if (part.at[0] == 'M') {
            if (!hex_u64(slice_from(part, 1), &n) || n == 0 || n > 65536)
                return "Invalid message header size";
            h.message_header_size = (uint32_t)n;
            has_size = true;
        } else if (part.at[0] == 'C') {
            if (!hex_u64(slice_from(part, 1), &n))
                return "Invalid create time stamp";
            h.created = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
        }
    }
    if (!has_size)
        return "Missing message header size";
    *out = h;
    return NULL;
}

void dbox_header_put(struct buffer *out, time_t created)
{
    buffer_printf(out, "2 M%x C%lx\n", DBOX_MESSAGE_HEADER_SIZE, (unsigned long)created);
}

const char *dbox_message_header_parse(struct slice at, uint64_t *body_size)
{
    uint64_t n;

    if (at.size < DBOX_MESSAGE_HEADER_SIZE)
        return "EOF reading msg header";
    if (at.at[0] != 1 || at.at[1] != 2)
        return "msg header has bad magic value";
    if (at.at[at.size - 1] != '\n')
        return "msg header doesn't end with LF";
    if (!hex_u64(slice_of(at.at + 13, 16), &n))
        return "msg header has bad message size";
    *body_size = n;
    return NULL;
}

void dbox_message_header_put(unsigned char out[DBOX_MESSAGE_HEADER_SIZE], uint64_t body_size)
{
    static const char digits[] = "0123456789ABCDEF";

    memset(out, ' ', DBOX_MESSAGE_HEADER_SIZE);
    out[0] = 1;
    out[1] = 2;
    out[2] = 'N';
    for (int i = 0; i < 16; i++)
        out[28 - i] = (unsigned char)digits[body_size >> (4 * i) & 15];
    out[29] = '\n';
}

/* ---- metadata ---- */

static void take_text(struct arena *arena, struct slice value, const char **out)
{
    if (*out == NULL && memchr(value.at, '\0', value.size) == NULL)
        *out = arena_str(arena, value);
}

static void take_line(struct slice line, struct arena *arena, struct dbox_metadata *m)
{
    struct slice value = slice_from(line, 1);
    uint64_t n;

    switch (line.at[0]) {
    case 'Z':
        if (!m->has_physical && hex_u64(value, &m->physical))
            m->has_physical = true;
        break;
    case 'R':
        if (!m->has_received && hex_u64(value, &n)) {
            m->received = n > INT64_MAX ? INT64_MAX : (int64_t)n;
            m->has_received = true;
        }
        break;
    case 'V':
        if (!m->has_virtual && hex_u64(value, &m->virtual_size))
            m->has_virtual = true;
        break;
    case 'O':
        if (!m->has_order && slice_to_u32(value, &m->pop3_order))
            m->has_order = true;
        break;
    case 'P':
        take_text(arena, value, &m->pop3_uidl);
        break;
    case 'G':
        take_text(arena, value, &m->guid);
        break;
    case 'B':
        take_text(arena, value, &m->mailbox);
        break;
    case 'X':
        take_text(arena, value, &m->attachments);
        break;
    default:
        break;
    }
}

int dbox_metadata_parse(struct slice at, struct arena *arena, struct dbox_metadata *out, size_t *used, const char **why)
{
    struct dbox_metadata m = {0};
    struct slice rest;
    size_t from;

    *used = 0;
    if (at.size < 4) {
        *why = "Unexpected EOF while reading metadata header";
        return 0;
    }
    if (at.at[0] != '\n' || at.at[1] != 1 || at.at[2] != 3 || at.at[3] != '\n') {
        *why = "metadata header has bad magic value";
        return -1;
    }
    for (from = 4;; ) {
        ptrdiff_t end;
        struct slice line;

        rest = slice_from(at, from);
        end = rest.size == 0 ? -1 : slice_find(rest, '\n');
        if (end < 0) {
            *why = "missing end-of-metadata line";
            *used = from;
            return 0;
        }
        line = slice_head(rest, (size_t)end);
        if (line.size == 0 || line.at[0] == ' ') {
            m.lines = slice_of(at.at + 4, from - 4);
            *used = from + (size_t)end + 1;
            break;
        }
        take_line(line, arena, &m);
        from += (size_t)end + 1;
    }
    m.lines = arena_slice(arena, m.lines);
    *out = m;
    return 1;
}

static bool one_line(const char *text)
{
    return text != NULL && strpbrk(text, "\r\n") == NULL;
}

void dbox_metadata_put(struct buffer *out, const struct dbox_metadata *m, uint64_t body_size)
{
    buffer_append(out, "\n\001\003\n", 4);
    if (m->has_physical && m->physical != body_size)
        buffer_printf(out, "Z%llx\n", (unsigned long long)m->physical);
    if (m->has_received)
        buffer_printf(out, "R%llx\n", (unsigned long long)(m->received < 0 ? 0 : m->received));
    if (m->has_virtual)
        buffer_printf(out, "V%llx\n", (unsigned long long)m->virtual_size);
    if (one_line(m->pop3_uidl))
        buffer_printf(out, "P%s\n", m->pop3_uidl);
    if (m->has_order)
        buffer_printf(out, "O%u\n", m->pop3_order);
    if (one_line(m->guid))
        buffer_printf(out, "G%s\n", m->guid);
    if (one_line(m->mailbox))
        buffer_printf(out, "B%s\n", m->mailbox);
    if (one_line(m->attachments))
        buffer_printf(out, "X%s\n", m->attachments);
    buffer_append_byte(out, '\n');
}
