/* list_lock.c - mailboxes.lock: who creates, renames and deletes mailboxes (maildir-and-layouts 4.2).
 *
 * The file is made under a random name, locked by fcntl, then linked to its name, so that nobody sees it unlocked. It
 * vanishes with its holder's descriptor lock: a leftover file is simply locked by the next one. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha1.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

struct list_lock {
    int dir, fd;
    char name[64];
};

static void lock_name(const struct mail_storage *storage, char name[64])
{
    struct sha1_ctx ctx;
    unsigned char digest[SHA1_DIGEST_SIZE];
    int n = snprintf(name, 64, "mailboxes.lock");

    if (storage->at.volatile_dir == NULL)
        return;
    sha1_init(&ctx);
    sha1_update(&ctx, strlen(storage->ns->prefix), (const unsigned char *)storage->ns->prefix);
    sha1_digest(&ctx, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        n += snprintf(name + n, 64 - (size_t)n, "%02x", digest[i]);
}

static bool same_file(int dir, const char *name, int fd)
{
    struct stat a, b;

    return fstatat(dir, name, &a, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* -> fd of a locked file that has the name; -1: e set, or EEXIST with class ERROR_EXISTS. */
static int make_lock(struct list_lock *lock, const struct mail_modes *modes, struct error *e)
{
    char temp[128];
    unsigned char random[8] = {0};
    struct error ignored;
    int fd, n;

    if (getrandom(random, sizeof(random), 0) < 0)
        bytes_put_le64(random, time_monotonic_ns());
    n = snprintf(temp, sizeof(temp), "%s", lock->name);
    for (size_t i = 0; i < sizeof(random); i++)
        n += snprintf(temp + n, sizeof(temp) - (size_t)n, "%02x", random[i]);
    fd = os_create(lock->dir, temp, modes->file, modes->gid, e);
    if (fd < 0)
        return -1;
    if (os_lock_fd(fd, OS_LOCK_FCNTL, e) != OS_GOT || os_link(lock->dir, temp, lock->dir, lock->name, e) < 0) {
        os_unlink(lock->dir, temp, &ignored);
        close(fd);
        return -1;
    }
    os_unlink(lock->dir, temp, &ignored);
    return fd;
}

static enum step try_lock(struct list_lock *lock, const struct mail_modes *modes, struct error *e)
{
    for (int tries = 0; tries < 10; tries++) {
        int fd = make_lock(lock, modes, e);

        if (fd >= 0) {
            lock->fd = fd;
            return STEP_DONE;
        }
        if (e->class != ERROR_EXISTS)
            return STEP_ERROR;
        fd = openat(lock->dir, lock->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) {
            if (errno == ENOENT)
                continue;
            error_sys(e, "open", lock->name);
            return STEP_ERROR;
        }
        switch (os_lock_fd(fd, OS_LOCK_FCNTL, e)) {
        case OS_GOT:
            if (same_file(lock->dir, lock->name, fd)) {
                lock->fd = fd;
                return STEP_DONE;
            }
            break; /* released and removed meanwhile */
        case OS_BUSY:
            close(fd);
            return STEP_WAIT;
        case OS_LOCK_ERROR:
            close(fd);
            return STEP_ERROR;
        }
        close(fd);
    }
    return STEP_WAIT;
}

enum step list_lock_try(const struct mail_storage *storage, struct list_lock **out, struct error *e)
{
    struct arena *arena = arena_new();
    struct list_lock *lock = mem_zero(1, sizeof(*lock));
    struct mail_modes modes = mail_modes_of(storage->at.root);
    const char *root = storage->at.volatile_dir != NULL ? storage->at.volatile_dir
                                                        : mail_location_path(&storage->at, arena, "", PATH_INDEX);
    enum step r = STEP_ERROR;

    if (root == NULL)
        root = storage->at.root;
    lock->dir = lock->fd = -1;
    lock_name(storage, lock->name);
    if (folder_make(root, &modes, e) == 0) {
        lock->dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (lock->dir < 0)
            error_sys(e, "open", root);
        else
            r = try_lock(lock, &modes, e);
    }
    arena_free(arena);
    if (r == STEP_DONE) {
        *out = lock;
        return r;
    }
    if (lock->dir >= 0)
        close(lock->dir);
    mem_free(lock);
    return r;
}

void list_lock_release(struct list_lock **lock_p)
{
    struct list_lock *lock = *lock_p;
    struct error e;

    if (lock == NULL)
        return;
    *lock_p = NULL;
    if (same_file(lock->dir, lock->name, lock->fd) && os_unlink(lock->dir, lock->name, &e) < 0)
        log_error_value(NULL, &e);
    close(lock->fd);
    close(lock->dir);
    mem_free(lock);
}
