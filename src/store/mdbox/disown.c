/* disown.c - a second copy of a message does not own its attachments.
 *
 * A purge that dies between writing a message's copy and telling the map leaves two copies, which name the same attachment
 * files. A rebuild counts one of them; were the other one purged as it is, the files would go that the first still needs. So
 * its key X becomes Y, an unknown key, which readers and purges of either server pass over: one byte, in place. */
#include "store/internal.h"
#include "store/mdbox/mdbox.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define POST_MAGIC_SIZE 4 /* LF 01 03 LF */

/* Where the line of key X begins in the metadata of the message at `offset`. 0: it has none. */
static uint64_t find_line(const struct dbox_file *file, uint64_t offset, struct arena *arena)
{
    struct dbox_metadata meta;
    struct dbox_message m;
    struct error ignored;
    ptrdiff_t at;

    if (dbox_message_at(file, offset, &m, &ignored) < 0 || dbox_message_metadata(file, &m, arena, &meta, &ignored) < 0 ||
        meta.attachments == NULL)
        return 0;
    at = slice_starts(meta.lines, SLICE("X")) ? -1 : slice_find_slice(meta.lines, SLICE("\nX"));
    if (at < 0 && !slice_starts(meta.lines, SLICE("X")))
        return 0;
    return m.body + m.size + POST_MAGIC_SIZE + (uint64_t)(at + 1);
}

int mdbox_disown(struct mdbox_storage *s, const struct mdbox_map_record *where, struct error *e)
{
    struct arena *arena = arena_new();
    char name[MDBOX_NAME_MAX];
    struct dbox_file file;
    int alt = -1, fd, r = 0;
    uint64_t at;

    mdbox_name(name, where->file_id);
    fd = openat(s->dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && s->alt_path != NULL && (alt = mdbox_open_alt(s, false, e)) >= 0) {
        fd = openat(alt, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        close(alt);
    }
    if (fd < 0) {
        r = error_sys(e, "open", name);
    } else if (dbox_file_from_fd(&file, fd, arena_printf(arena, "%s/%s", s->path, name), e) < 0) {
        r = -1;
    } else {
        at = find_line(&file, where->offset, arena);
        if (at > 0 && (os_pwrite(file.fd, SLICE("Y"), at, e) < 0 || os_sync(file.fd, e) < 0))
            r = -1;
        dbox_file_close(&file);
    }
    arena_free(arena);
    return r;
}
