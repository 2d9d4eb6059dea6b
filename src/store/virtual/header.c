/* header.c - what a virtual mailbox's index says of the mailboxes behind it (index-format 10, "virtual", "virtual2").
 * Bytes in, values out. */
#include "store/virtual/virtual.h"

#define HEADER_SIZE 16
#define ENTRY_SIZE 24
#define MORE_SIZE 8
#define GUID_SIZE 16

static int broken(struct error *e, const char *why)
{
    return error_set(e, ERROR_CORRUPT, "Corrupted virtual index header: %s", why);
}

int virtual_header_parse(struct virtual_header *h, struct slice header, struct slice more, struct arena *arena, struct error *e)
{
    uint32_t count, last = 0;
    size_t at;

    *h = (struct virtual_header){0};
    if (header.size == 0)
        return 0;
    if (header.size < HEADER_SIZE)
        return broken(e, "too small");
    h->change_counter = bytes_le32(header.at);
    count = bytes_le32(header.at + 4);
    h->highest_id = bytes_le32(header.at + 8);
    h->crc = bytes_le32(header.at + 12);
    if (count > (header.size - HEADER_SIZE) / ENTRY_SIZE)
        return broken(e, "mailbox_count is too large");
    h->at = ARENA_ARRAY(arena, struct virtual_entry, count + 1);
    at = HEADER_SIZE + (size_t)count * ENTRY_SIZE;
    for (uint32_t i = 0; i < count; i++) {
        const unsigned char *raw = header.at + HEADER_SIZE + (size_t)i * ENTRY_SIZE;
        struct virtual_entry *entry = &h->at[i];
        uint32_t size = bytes_le32(raw + 4);

        entry->id = bytes_le32(raw);
        entry->uid_validity = bytes_le32(raw + 8);
        entry->next_uid = bytes_le32(raw + 12);
        entry->modseq = bytes_le64(raw + 16);
        if (entry->id <= last || entry->id > h->highest_id)
            return broken(e, "mailbox ids are not ascending");
        if (size == 0 || size > header.size - at || memchr(header.at + at, '\0', size) != NULL)
            return broken(e, "a name's length is wrong");
        entry->name = arena_str(arena, slice_of(header.at + at, size));
        at += size;
        last = entry->id;
    }
    h->count = count;
    if (more.size >= MORE_SIZE && more.at[0] == 1 && more.at[1] == GUID_SIZE && bytes_le16(more.at + 2) == MORE_SIZE &&
        bytes_le32(more.at + 4) == h->change_counter && (more.size - MORE_SIZE) / GUID_SIZE >= count) {
        for (uint32_t i = 0; i < count; i++)
            memcpy(h->at[i].guid, more.at + MORE_SIZE + (size_t)i * GUID_SIZE, GUID_SIZE);
    }
    return 0;
}

static void put32(struct buffer *out, uint32_t v)
{
    unsigned char raw[4];

    bytes_put_le32(raw, v);
    buffer_append(out, raw, 4);
}

void virtual_header_put(const struct virtual_header *h, struct buffer *header, struct buffer *more)
{
    static const unsigned char version[4] = {1, GUID_SIZE, MORE_SIZE, 0};
    unsigned char modseq[8];

    put32(header, h->change_counter);
    put32(header, (uint32_t)h->count);
    put32(header, h->highest_id);
    put32(header, h->crc);
    buffer_append(more, version, sizeof(version));
    put32(more, h->change_counter);
    for (size_t i = 0; i < h->count; i++) {
        const struct virtual_entry *entry = &h->at[i];

        put32(header, entry->id);
        put32(header, (uint32_t)strlen(entry->name));
        put32(header, entry->uid_validity);
        put32(header, entry->next_uid);
        bytes_put_le64(modseq, entry->modseq);
        buffer_append(header, modseq, sizeof(modseq));
        buffer_append(more, entry->guid, GUID_SIZE);
    }
    for (size_t i = 0; i < h->count; i++)
        buffer_append_str(header, h->at[i].name);
}
