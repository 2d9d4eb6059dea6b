/* fs_sis.c - single instance storage (dbox-format 5.3): files of equal content are links to one.
 *
 * The name of a file begins with the hash of its content, up to the first '-'. Beside it, `hashes/<hash>` is a link to the
 * first file with that content. What is written is compared with it on the way; equal to the end, it becomes a link. A hash
 * that collides costs nothing: the bytes differ, so the file stays and takes the place in hashes/.
 *
 * sis-queue writes plainly and leaves an empty file in a queue folder; `doveadm sis deduplicate` compares later.
 *
 * Beside a running Dovecot: every step is a link or a rename that either sees whole or not at all, and it is checked
 * afterwards that the link went to the file that was compared. */
#include "store/coding/fs.h"
#include "store/attachment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define COMPARE_SIZE 65536
#define HASH_DIR_MODE 0700

static int open_parent(struct fs *fs, struct slice args, struct slice *rest, struct error *e)
{
    (void)fs;
    if (args.size == 0)
        return error_set(e, ERROR_INVALID, "fs-sis: Parent filesystem not given as parameter");
    *rest = args;
    return 0;
}

/* "hashes/<hash>" for a file's name; NULL: the name has no hash. */
static char *hash_name(const char *name, struct arena *arena)
{
    const char *dash = strchr(name, '-');

    return dash == NULL || dash == name ? NULL : arena_printf(arena, "hashes/%.*s", (int)(dash - name), name);
}

/* ---- writing ---- */

struct sis_sink {
    struct byte_sink sink;
    struct fs *fs;
    struct arena *arena;
    struct fs_temp temp;
    const char *name, *hash;
    int same;                   /* hashes/<hash>, as long as the bytes are equal; -1 */
    uint64_t at;
    unsigned char *buffer;
};

static void differs(struct sis_sink *s)
{
    if (s->same >= 0)
        close(s->same);
    s->same = -1;
}

static void compare(struct sis_sink *s, struct slice bytes)
{
    while (s->same >= 0 && bytes.size > 0) {
        size_t want = bytes.size < COMPARE_SIZE ? bytes.size : COMPARE_SIZE;
        ssize_t n = TEMP_FAILURE_RETRY(pread(s->same, s->buffer, want, (off_t)s->at));

        if (n <= 0 || memcmp(s->buffer, bytes.at, (size_t)n) != 0) {
            differs(s);
            return;
        }
        s->at += (uint64_t)n;
        bytes = slice_from(bytes, (size_t)n);
    }
}

static int put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    struct sis_sink *s = (struct sis_sink *)sink;

    compare(s, bytes);
    return os_write(s->temp.fd, bytes, e) < 0 ? stage_space_text(e) : 0;
}

/* The same content is there: 1 = the name is a link to it. 0: write the file after all. */
static int link_same(struct sis_sink *s, struct error *e)
{
    struct stat st, linked;

    if (fstat(s->same, &st) < 0 || (uint64_t)st.st_size != s->at)
        return 0;
    if (os_link(s->temp.dir, s->hash, s->temp.dir, s->name, e) < 0)
        return e->sys == EMLINK || e->class == ERROR_NOT_FOUND ? 0 : -1;
    if (fstatat(s->temp.dir, s->name, &linked, AT_SYMLINK_NOFOLLOW) == 0 && linked.st_ino == st.st_ino &&
        linked.st_dev == st.st_dev)
        return 1;
    /* hashes/<hash> was replaced between our comparison and the link. */
    return os_unlink(s->temp.dir, s->name, e) < 0 && e->class != ERROR_NOT_FOUND ? -1 : 0;
}

/* The newest content takes the place in hashes/. Failing costs only the sharing. */
static void publish_hash(struct sis_sink *s, bool had)
{
    char *temp;
    struct error e;

    if (!had) {
        if (os_mkdir(s->temp.dir, "hashes", HASH_DIR_MODE, (gid_t)-1, &e) < 0 && e.class != ERROR_EXISTS)
            goto failed;
        if (os_link(s->temp.dir, s->name, s->temp.dir, s->hash, &e) == 0 || e.class == ERROR_EXISTS)
            return;
        goto failed;
    }
    temp = arena_printf(s->arena, "hashes/.temp.%s.tmp", s->hash + 7);
    if (os_link(s->temp.dir, s->name, s->temp.dir, temp, &e) < 0) {
        /* Left by one that died, or somebody does the same now: the next one will share. */
        if (e.class == ERROR_EXISTS)
            (void)os_unlink(s->temp.dir, temp, &e);
        return;
    }
    if (os_rename(s->temp.dir, temp, s->temp.dir, s->hash, &e) == 0) {
        /* A rename between two links of one file does nothing. */
        (void)os_unlink(s->temp.dir, temp, &e);
        return;
    }
failed:
    log_error_value(mail_user_log(s->fs->user), &e);
}

static int finish(struct byte_sink *sink, struct error *e)
{
    struct sis_sink *s = (struct sis_sink *)sink;
    bool had = s->hash != NULL && faccessat(s->temp.dir, s->hash, F_OK, 0) == 0;
    int r = s->same >= 0 ? link_same(s, e) : 0;

    if (r < 0)
        return -1;
    if (r == 0) {
        if (s->fs->durable && os_sync(s->temp.fd, e) < 0)
            return stage_space_text(e);
        if (os_rename(s->temp.dir, s->temp.name, s->temp.dir, s->name, e) < 0)
            return -1;
        mem_free(s->temp.name);
        s->temp.name = NULL;
        if (s->hash != NULL)
            publish_hash(s, had);
    }
    return s->fs->durable ? os_sync(s->temp.dir, e) : 0;
}

static void free_sink(struct byte_sink *sink)
{
    struct sis_sink *s = (struct sis_sink *)sink;

    differs(s);
    fs_temp_drop(s->fs, &s->temp);
    mem_free(s->buffer);
    arena_free(s->arena);
    mem_free(s);
}

static struct byte_sink *sis_create(struct fs *fs, const char *path, struct error *e)
{
    struct sis_sink *s;
    const char *name;
    struct fs_temp temp;

    if (fs->parent->ops != &fs_posix)
        return fs_create(fs->parent, path, e); /* bytes that are encoded with a random key are never equal */
    if (fs_temp_open(fs, path, &temp, &name, e) < 0)
        return NULL;
    s = mem_zero(1, sizeof(*s));
    s->sink = (struct byte_sink){put, finish, free_sink, NULL};
    s->fs = fs;
    s->arena = arena_new();
    s->temp = temp;
    s->name = arena_strdup(s->arena, name);
    s->hash = hash_name(name, s->arena);
    s->buffer = mem_alloc(COMPARE_SIZE);
    s->same = s->hash == NULL ? -1 : openat(temp.dir, s->hash, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return &s->sink;
}

/* ---- the rest ---- */

static int sis_read(struct fs *fs, const char *path, struct fs_file *file, struct error *e)
{
    return fs_read(fs->parent, path, file, e);
}

static int sis_unlink(struct fs *fs, const char *path, struct error *e)
{
    struct arena *arena = arena_new();
    struct stat st, shared;
    const char *name, *hash;
    struct error ignored;
    int r, dir = fs_folder(fs, path, false, &name, e);

    if (dir < 0) {
        arena_free(arena);
        return -1;
    }
    /* The last but one link is the one in hashes/. */
    hash = hash_name(name, arena);
    if (hash != NULL && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink == 2 &&
        fstatat(dir, hash, &shared, AT_SYMLINK_NOFOLLOW) == 0 && shared.st_ino == st.st_ino && shared.st_dev == st.st_dev &&
        os_unlink(dir, hash, &ignored) == 0)
        (void)os_rmdir(dir, "hashes", &ignored);
    close(dir);
    arena_free(arena);
    r = fs_unlink(fs->parent, path, e);
    return r;
}

const struct fs_ops fs_sis = {"sis", open_parent, NULL, sis_create, sis_read, sis_unlink, fs_parent_link, fs_parent_rename};

/* ---- sis-queue ---- */

static int queue_open(struct fs *fs, struct slice args, struct slice *rest, struct error *e)
{
    struct slice folder;

    if (!slice_split(&args, ':', &folder) || args.size == 0)
        return error_set(e, ERROR_INVALID, "fs-sis-queue: Parent filesystem not given as parameter");
    fs->data = arena_str(fs->arena, folder);
    *rest = args;
    return 0;
}

/* Best effort: a file that is not in the queue is merely never shared. */
static void enqueue(struct fs *fs, const char *path)
{
    const char *folder = fs->data, *name = strrchr(path, '/');
    struct arena *arena = arena_new();
    const char *queued = arena_printf(arena, "%s/%s", folder, name == NULL ? path : name + 1);
    struct error e;
    int fd = os_create(AT_FDCWD, queued, 0600, (gid_t)-1, &e);

    if (fd < 0 && e.class == ERROR_NOT_FOUND && os_mkdir_parents(AT_FDCWD, folder, 0700, (gid_t)-1, &e) == 0)
        fd = os_create(AT_FDCWD, queued, 0600, (gid_t)-1, &e);
    if (fd >= 0)
        close(fd);
    else if (e.class != ERROR_EXISTS)
        log_error_value(mail_user_log(fs->user), &e);
    arena_free(arena);
}

struct queue_sink {
    struct byte_sink sink;
    struct fs *fs;
    char *path;
};

static int queue_put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    return byte_sink_put(sink->next, bytes, e);
}

static int queue_finish(struct byte_sink *sink, struct error *e)
{
    struct queue_sink *s = (struct queue_sink *)sink;

    if (byte_sink_finish(sink->next, e) < 0)
        return -1;
    enqueue(s->fs, s->path);
    return 0;
}

static void queue_free(struct byte_sink *sink)
{
    mem_free(((struct queue_sink *)sink)->path);
    mem_free(sink);
}

static struct byte_sink *queue_create(struct fs *fs, const char *path, struct error *e)
{
    struct byte_sink *below = fs_create(fs->parent, path, e);
    struct queue_sink *s;

    if (below == NULL)
        return NULL;
    s = mem_zero(1, sizeof(*s));
    s->sink = (struct byte_sink){queue_put, queue_finish, queue_free, below};
    s->fs = fs;
    s->path = mem_strdup(path);
    return &s->sink;
}

const struct fs_ops fs_sis_queue = {"sis-queue", queue_open, NULL, queue_create, sis_read, sis_unlink, fs_parent_link,
                                    fs_parent_rename};

/* ---- what doveadm sis does ---- */

/* Equal to the end? 1, 0, -1. */
static int same_content(int a, int b, struct error *e)
{
    unsigned char *buffer = mem_alloc(2 * COMPARE_SIZE);
    uint64_t at = 0;
    int r = 1;

    while (r == 1) {
        ssize_t n = TEMP_FAILURE_RETRY(pread(a, buffer, COMPARE_SIZE, (off_t)at));
        ssize_t m = TEMP_FAILURE_RETRY(pread(b, buffer + COMPARE_SIZE, COMPARE_SIZE, (off_t)at));

        if (n < 0 || m < 0)
            r = error_sys(e, "read", NULL);
        else if (n != m || memcmp(buffer, buffer + COMPARE_SIZE, (size_t)n) != 0)
            r = 0;
        else if (n == 0)
            break;
        else
            at += (uint64_t)n;
    }
    mem_free(buffer);
    return r;
}

/* The file becomes a link to hashes/<hash>, by a link of another name that is renamed over it. */
static int replace_by_link(int dir, const char *name, const char *hash, struct arena *arena, struct error *e)
{
    const char *temp = arena_printf(arena, ".temp.%s", name);
    struct error ignored;

    if (os_link(dir, hash, dir, temp, e) < 0)
        return e->sys == EMLINK ? 0 : -1;
    if (os_rename(dir, temp, dir, name, e) < 0) {
        (void)os_unlink(dir, temp, &ignored);
        return -1;
    }
    (void)os_unlink(dir, temp, &ignored); /* it stays where both were one file */
    return 0;
}

static int deduplicate_in(int dir, const char *name, struct arena *arena, struct error *e)
{
    const char *hash = hash_name(name, arena);
    int file, shared = -1, r;
    struct stat a, b;

    if (hash == NULL)
        return error_set(e, ERROR_INVALID, "%s: no hash in its name", name);
    file = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0)
        return errno == ENOENT ? 0 : error_sys(e, "open", name); /* the mail is gone by now */
    shared = openat(dir, hash, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (shared < 0 && errno != ENOENT) {
        r = error_sys(e, "open", hash);
    } else if (shared < 0) {
        r = os_mkdir(dir, "hashes", HASH_DIR_MODE, (gid_t)-1, e) < 0 && e->class != ERROR_EXISTS ? -1 : 0;
        if (r == 0)
            r = os_link(dir, name, dir, hash, e) < 0 && e->class != ERROR_EXISTS ? -1 : 0;
    } else if (fstat(file, &a) < 0 || fstat(shared, &b) < 0) {
        r = error_sys(e, "fstat", name);
    } else if (a.st_ino == b.st_ino && a.st_dev == b.st_dev) {
        r = 0;
    } else {
        r = a.st_size != b.st_size ? 0 : same_content(file, shared, e);
        r = r == 1 ? replace_by_link(dir, name, hash, arena, e) : r;
    }
    close(file);
    if (shared >= 0)
        close(shared);
    return r;
}

int attachment_deduplicate(const char *root, const char *name, struct error *e)
{
    struct arena *arena = arena_new();
    const char *path, *base;
    int dir, r;

    if (strlen(name) < 4 || strchr(name, '/') != NULL || name[0] == '.') {
        arena_free(arena);
        return error_set(e, ERROR_INVALID, "%s: not the name of an attachment", name);
    }
    path = arena_printf(arena, "%s/%.2s/%.2s/%s", root, name, name + 2, name);
    dir = fs_folder(NULL, path, false, &base, e);
    r = dir < 0 ? (e->class == ERROR_NOT_FOUND ? 0 : -1) : deduplicate_in(dir, base, arena, e);
    if (dir >= 0)
        close(dir);
    arena_free(arena);
    return r;
}
