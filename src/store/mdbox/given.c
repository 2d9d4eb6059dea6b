/* given.c - what a conversion was putting in place when it died is not given to its mailbox by a rebuild.
 *
 * A rebuild appends messages that no mailbox has to the one they were saved to, with the next free UIDs. For a delivery that
 * is right. A conversion gives UIDs, flags and dates, which the files do not know, and saves again what is not there: a
 * message that had come back by itself would have its UID taken, and stand twice. So the GUIDs of what is to be saved stand in
 * a file of the storage before the first byte gets into an m.* file, until mailbox and map agree. It is locked meanwhile: one
 * that nobody has locked is of a process that died, or could not take back what it had begun. A rebuild counts no reference for what such files name and no mailbox has, which
 * the next purge removes, and then removes the files. */
#include "store/mdbox/rebuild.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define PREFIX "given"
#define FILE_MAX (16u << 20)

enum { GUID_LINE = 33 }; /* 32 hex digits, LF */

/* ---- the writer's ---- */

static int write_guids(int fd, struct staged *const *staged, size_t count, struct error *e)
{
    struct buffer out = {0};
    int r;

    for (size_t i = 0; i < count; i++) {
        const struct mdbox_staged *d = staged[i]->data;

        if (d->reference)
            continue;
        text_hex_encode(&out, slice_of(d->guid128, 16));
        buffer_append(&out, "\n", 1);
    }
    r = os_write(fd, buffer_slice(&out), e);
    buffer_free(&out);
    return r;
}

int mdbox_given_begin(struct mdbox_given *g, struct mdbox_storage *s, struct staged *const *staged, size_t count, bool sync,
                      struct arena *arena, struct error *e)
{
    bool any = false;

    for (size_t i = 0; i < count && !any; i++)
        any = staged[i]->meta.uid != 0;
    if (!any || g->name != NULL)
        return 0;
    g->name = arena_printf(arena, PREFIX "%s", dbox_temp_name(arena));
    g->fd = os_create(s->dir, g->name, s->modes.file, s->modes.gid, e);
    if (g->fd < 0) {
        g->name = NULL;
        return error_context(e, "%s/", s->path);
    }
    if (os_lock_fd(g->fd, OS_LOCK_FLOCK, e) != OS_GOT || write_guids(g->fd, staged, count, e) < 0 || (sync && os_sync(g->fd, e) < 0))
        return error_context(e, "%s/%s: ", s->path, g->name);
    return 0;
}

void mdbox_given_end(struct mdbox_given *g, struct mdbox_storage *s, const struct log *log)
{
    struct error e;

    if (g->name == NULL)
        return;
    if (os_unlink(s->dir, g->name, &e) < 0 && e.class != ERROR_NOT_FOUND)
        log_error_value(log, &e);
    mdbox_given_keep(g);
}

void mdbox_given_keep(struct mdbox_given *g)
{
    if (g->name != NULL)
        close(g->fd);
    g->name = NULL;
}

/* ---- what the dead have left ---- */

static bool is_name(const char *name)
{
    return strncmp(name, PREFIX ".", sizeof(PREFIX)) == 0;
}

static bool is_left(const struct mdbox_storage *s, const char *name)
{
    int fd = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct error ignored;
    bool left = fd >= 0 && os_lock_fd(fd, OS_LOCK_FLOCK, &ignored) == OS_GOT;

    if (fd >= 0)
        close(fd);
    return left;
}

/* The next name of a file that was left; NULL behind the last one. */
static const char *next_left(const struct mdbox_storage *s, DIR *d)
{
    struct dirent *entry;

    while ((entry = readdir(d)) != NULL)
        if (is_name(entry->d_name) && is_left(s, entry->d_name))
            return entry->d_name;
    return NULL;
}

bool mdbox_given_left(const struct mdbox_storage *s)
{
    DIR *d = opendir(s->path);
    bool any = d != NULL && next_left(s, d) != NULL;

    if (d != NULL)
        closedir(d);
    return any;
}

static void add_guids(struct mdbox_rebuild *r, struct slice text)
{
    unsigned char guid[16];

    /* A line that was cut off is of a message that was not yet being put in place. */
    for (; text.size >= GUID_LINE; text = slice_from(text, GUID_LINE)) {
        struct rebuild_guid *at;

        store_guid_of_text(slice_head(text, GUID_LINE - 1), guid);
        VEC_PUSH(&r->given, (struct rebuild_guid){{0}});
        at = &r->given.at[r->given.count - 1];
        memcpy(at->guid, guid, sizeof(guid));
    }
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct rebuild_guid));
}

int mdbox_rebuild_read_given(struct mdbox_rebuild *r, struct error *e)
{
    DIR *d = opendir(r->storage->path);
    struct buffer text = {0};
    const char *name;
    int ret = 0;

    if (d == NULL)
        return errno == ENOENT ? 0 : error_sys(e, "opendir", r->storage->path);
    while (ret == 0 && (name = next_left(r->storage, d)) != NULL) {
        VEC_PUSH(&r->given_names, arena_strdup(r->arena, name));
        ret = os_read_file(r->storage->dir, name, FILE_MAX, &text, e);
        if (ret == 0)
            add_guids(r, buffer_slice(&text));
    }
    buffer_free(&text);
    closedir(d);
    if (r->given.count > 1)
        qsort(r->given.at, r->given.count, sizeof(*r->given.at), compare);
    return ret;
}

bool mdbox_rebuild_is_given(const struct mdbox_rebuild *r, const unsigned char guid[16])
{
    return r->given.count > 0 && bsearch(guid, r->given.at, r->given.count, sizeof(*r->given.at), compare) != NULL;
}

int mdbox_rebuild_remove_given(struct mdbox_rebuild *r, struct error *e)
{
    for (size_t i = 0; i < r->given_names.count; i++)
        if (os_unlink(r->storage->dir, r->given_names.at[i], e) < 0 && e->class != ERROR_NOT_FOUND)
            return -1;
    return 0;
}
