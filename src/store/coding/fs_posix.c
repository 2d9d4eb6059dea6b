/* fs_posix.c - plain files. Written under another name in the same folder, synced, renamed, the folder synced. */
#include "store/coding/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Options as Dovecot has them; those that change nothing here are taken: prefix= is the only one that does. */
struct posix {
    const char *prefix;
};

static int posix_open(struct fs *fs, struct slice args, struct slice *rest, struct error *e)
{
    static const char *const known[] = {"lock=", "mode=", "no-fsync", "accurate-mtime", "dirs", "no-mmap"};
    struct posix *p = ARENA_NEW(fs->arena, struct posix);
    struct slice word;

    p->prefix = "";
    fs->data = p;
    while (slice_split(&args, ':', &word)) {
        bool fine = word.size == 0;

        if (slice_starts(word, SLICE("prefix="))) {
            p->prefix = arena_str(fs->arena, slice_from(word, 7));
            continue;
        }
        for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
            fine = fine || slice_starts(word, slice_from_str(known[i]));
        if (!fine)
            return error_set(e, ERROR_INVALID, "fs-posix: Unknown arg '%.*s'", (int)(word.size > 200 ? 200 : word.size),
                             (const char *)word.at);
        if (slice_equal_str(word, "no-fsync"))
            fs->durable = false;
    }
    *rest = SLICE_EMPTY;
    return 0;
}

static const char *full(struct fs *fs, const char *path, struct arena *arena)
{
    const struct posix *p = fs->data;

    return *p->prefix == '\0' ? path : arena_printf(arena, "%s%s", p->prefix, path);
}

/* ---- writing ---- */

struct posix_sink {
    struct byte_sink sink;
    struct fs *fs;
    struct fs_temp temp;
    char *name;
};

static int put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    struct posix_sink *s = (struct posix_sink *)sink;

    return os_write(s->temp.fd, bytes, e) < 0 ? stage_space_text(e) : 0;
}

static int finish(struct byte_sink *sink, struct error *e)
{
    struct posix_sink *s = (struct posix_sink *)sink;

    if (s->fs->durable && os_sync(s->temp.fd, e) < 0)
        return stage_space_text(e);
    if (os_rename(s->temp.dir, s->temp.name, s->temp.dir, s->name, e) < 0)
        return -1;
    mem_free(s->temp.name);
    s->temp.name = NULL;
    return s->fs->durable ? os_sync(s->temp.dir, e) : 0;
}

static void free_sink(struct byte_sink *sink)
{
    struct posix_sink *s = (struct posix_sink *)sink;

    fs_temp_drop(s->fs, &s->temp);
    mem_free(s->name);
    mem_free(s);
}

static struct byte_sink *posix_create(struct fs *fs, const char *path, struct error *e)
{
    struct posix_sink *s = mem_zero(1, sizeof(*s));
    struct arena *arena = arena_new();
    const char *name;

    s->sink = (struct byte_sink){put, finish, free_sink, NULL};
    s->fs = fs;
    if (fs_temp_open(fs, full(fs, path, arena), &s->temp, &name, e) < 0) {
        mem_free(s);
        s = NULL;
    } else {
        s->name = mem_strdup(name);
    }
    arena_free(arena);
    return s == NULL ? NULL : &s->sink;
}

/* ---- reading ---- */

static ssize_t read_fd(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    return os_pread_into((int)(intptr_t)arg, offset, buf, size, e);
}

static void end_file(struct fs_file *file)
{
    close((int)(intptr_t)file->data);
}

static int posix_read(struct fs *fs, const char *path, struct fs_file *file, struct error *e)
{
    struct arena *arena = arena_new();
    const char *at = full(fs, path, arena);
    int fd = open(at, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    int r = 0;

    if (fd < 0) {
        r = error_sys(e, "open", at);
    } else if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        r = error_set(e, ERROR_CORRUPT, "%s is not a regular file", at);
    } else {
        *file = (struct fs_file){{read_fd, (void *)(intptr_t)fd, SLICE_EMPTY}, (uint64_t)st.st_size, end_file,
                                 (void *)(intptr_t)fd};
    }
    arena_free(arena);
    return r;
}

/* ---- names ---- */

static int posix_unlink(struct fs *fs, const char *path, struct error *e)
{
    struct arena *arena = arena_new();
    const char *at = full(fs, path, arena);
    int r = os_unlink(AT_FDCWD, at, e);

    if (r == 0)
        fs_remove_folders(at, 2);
    arena_free(arena);
    return r;
}

/* Links or renames below folders that exist or are made. */
static int move(struct fs *fs, const char *from, const char *to, bool link, struct error *e)
{
    struct arena *arena = arena_new();
    const char *name;
    int dir = fs_folder(fs, full(fs, to, arena), true, &name, e);
    int r = dir < 0 ? -1 : 0;

    from = full(fs, from, arena);
    if (r == 0)
        r = link ? os_link(AT_FDCWD, from, dir, name, e) : os_rename(AT_FDCWD, from, dir, name, e);
    if (r == 0 && fs->durable)
        r = os_sync(dir, e);
    if (dir >= 0)
        close(dir);
    arena_free(arena);
    return r;
}

static int posix_link(struct fs *fs, const char *from, const char *to, struct error *e)
{
    return move(fs, from, to, true, e);
}

static int posix_rename(struct fs *fs, const char *from, const char *to, struct error *e)
{
    return move(fs, from, to, false, e);
}

const struct fs_ops fs_posix = {"posix", posix_open, NULL, posix_create, posix_read, posix_unlink, posix_link, posix_rename};
