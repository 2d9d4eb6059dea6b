/* lock.c - the locks of an mbox file (maildir-and-layouts 9.3).
 *
 * Other programs lock the same file in their own ways, so there may be several, taken in the order that the configuration
 * gives. One that is busy gives all of them back: nobody waits while holding one that another needs. */
#include "store/mbox/mbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <unistd.h>

int mbox_locks_parse(struct slice text, struct mbox_locks *out, struct error *e)
{
    static const char *const names[] = {"dotlock", "dotlock_try", "fcntl", "flock", "lockf"};
    struct slice word;

    *out = (struct mbox_locks){.count = 0};
    while (slice_split(&text, ' ', &word)) {
        size_t i = 0;

        if (word.size == 0)
            continue;
        while (i < MBOX_LOCKS_MAX && !slice_equal_str_nocase(word, names[i]))
            i++;
        if (i == MBOX_LOCKS_MAX)
            return error_set(e, ERROR_INVALID, "Invalid value: %.*s", (int)word.size, word.at);
        for (unsigned k = 0; k < out->count; k++)
            if (out->at[k] == (enum mbox_lock_method)i)
                return error_set(e, ERROR_INVALID, "Duplicated value: %.*s", (int)word.size, word.at);
        out->at[out->count++] = (enum mbox_lock_method)i;
    }
    return 0;
}

int mbox_file_open(struct mbox *m, struct error *e)
{
    struct stat st;

    if (stat(m->box->path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? mailbox_not_found(&m->box->place, e) : error_sys(e, "stat", m->box->path);
    if (!S_ISREG(st.st_mode))
        return mailbox_not_found(&m->box->place, e);
    if (m->fd >= 0 && st.st_dev == m->dev && st.st_ino == m->ino)
        return 0;
    if (m->fd >= 0)
        close(m->fd);
    m->backend_read_only = false;
    m->fd = open(m->box->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (m->fd < 0 && (errno == EACCES || errno == EROFS)) {
        m->backend_read_only = true;
        m->fd = open(m->box->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
    if (m->fd < 0)
        return errno == ENOENT ? mailbox_not_found(&m->box->place, e) : error_sys(e, "open", m->box->path);
    if (fstat(m->fd, &st) < 0)
        return error_sys(e, "fstat", m->box->path);
    m->dev = st.st_dev;
    m->ino = st.st_ino;
    return 0;
}

/* ---- dotlocks ---- */

static enum os_lock try_dotlock(struct mbox *m, struct error *e)
{
    const char *path = m->box->path, *slash = strrchr(path, '/');
    char *folder = mem_printf("%.*s", (int)(slash - path), path), *name = mem_printf("%s.lock", slash + 1);
    struct os_dotlock_options options = {.mode = 0600, .stale_secs = m->dotlock_stale, .protects = slash + 1,
                                         .by_link = !conf_bool(mail_user_settings(m->box->user), SET_dotlock_use_excl)};
    int dir = open(*folder == '\0' ? "/" : folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    enum os_lock r = OS_LOCK_ERROR;

    if (dir < 0) {
        error_sys(e, "open", folder);
    } else {
        r = os_dotlock_try_with(dir, name, &options, &m->dotlock, e);
        close(dir);
    }
    mem_free(folder);
    mem_free(name);
    return r;
}

/* A spool folder that only the group of mail programs may write to: that group is taken for the call. */
static enum os_lock dotlock_privileged(struct mbox *m, struct error *e)
{
    const char *name = conf_str(mail_user_settings(m->box->user), SET_mail_privileged_group);
    struct group *group = *name == '\0' ? NULL : getgrnam(name);
    gid_t own = getegid();
    enum os_lock r;

    if (group == NULL || group->gr_gid == own || setegid(group->gr_gid) < 0)
        return OS_LOCK_ERROR;
    r = try_dotlock(m, e);
    if (setegid(own) < 0)
        log_write(mail_user_log(m->box->user), LOG_LEVEL_FATAL, "setegid(%u) failed: %s", (unsigned)own, strerror(errno));
    return r;
}

static enum os_lock dotlock(struct mbox *m, bool only_try, struct error *e)
{
    enum os_lock r = try_dotlock(m, e);

    if (r == OS_LOCK_ERROR && e->class == ERROR_PERMISSION)
        r = dotlock_privileged(m, e);
    if (r != OS_LOCK_ERROR || !only_try || (e->class != ERROR_PERMISSION && e->class != ERROR_SPACE && e->class != ERROR_QUOTA))
        return r;
    return OS_GOT; /* none can be made here: the others have to do */
}

/* ---- all of them ---- */

static enum os_lock_method fd_method(enum mbox_lock_method method)
{
    return method == MBOX_LOCK_FLOCK ? OS_LOCK_FLOCK : OS_LOCK_FCNTL;
}

static enum os_lock try_one(struct mbox *m, enum mbox_lock_method method, bool exclusive, struct error *e)
{
    if (method == MBOX_LOCK_DOTLOCK || method == MBOX_LOCK_DOTLOCK_TRY)
        return dotlock(m, method == MBOX_LOCK_DOTLOCK_TRY, e);
    /* A file that was opened for reading cannot be locked for writing by fcntl. */
    return exclusive && (!m->backend_read_only || method == MBOX_LOCK_FLOCK) ? os_lock_fd(m->fd, fd_method(method), e)
                                                                             : os_lock_fd_shared(m->fd, fd_method(method), e);
}

static void release(struct mbox *m, const struct mbox_locks *locks, unsigned count)
{
    while (count-- > 0) {
        if (locks->at[count] == MBOX_LOCK_DOTLOCK || locks->at[count] == MBOX_LOCK_DOTLOCK_TRY) {
            if (m->dotlock != NULL)
                os_dotlock_release(&m->dotlock);
            m->dotlock = NULL;
        } else if (m->fd >= 0) {
            os_unlock_fd(m->fd, fd_method(locks->at[count]));
        }
    }
}

/* Who sleeps long between two looks never finds the lock free beside sessions that wait for it in the kernel, or take it again
 * at once. */
#define RETRY_MOST_MS 10

static enum step busy(struct mbox *m, struct error *e)
{
    uint64_t now = time_monotonic_ns();

    if (m->box->job != NULL)
        m->box->job->retry_most = RETRY_MOST_MS;
    if (m->waiting_since == 0)
        m->waiting_since = now;
    if (now - m->waiting_since < (uint64_t)m->lock_timeout * 1000000000ull)
        return STEP_WAIT;
    m->waiting_since = 0;
    error_set(e, ERROR_LOCK_TIMEOUT, "%s: Timeout while waiting for lock", m->box->path);
    error_user(e, "Timeout while waiting for lock");
    return STEP_ERROR;
}

enum step mbox_lock(struct mbox *m, enum mbox_locked kind, struct error *e)
{
    const struct mbox_locks *locks = kind == MBOX_LOCKED_WRITE ? &m->write_locks : &m->read_locks;
    struct stat st;

    if (m->locked != MBOX_UNLOCKED)
        return error_set(e, ERROR_BUG, "%s: locked already", m->box->path), STEP_ERROR;
    if (mbox_file_open(m, e) < 0)
        return STEP_ERROR;
    for (unsigned i = 0; i < locks->count; i++) {
        enum os_lock r = try_one(m, locks->at[i], kind == MBOX_LOCKED_WRITE, e);

        if (r == OS_GOT)
            continue;
        release(m, locks, i);
        return r == OS_BUSY ? busy(m, e) : STEP_ERROR;
    }
    /* It may have been replaced before we had the locks. */
    if (stat(m->box->path, &st) < 0 || st.st_dev != m->dev || st.st_ino != m->ino) {
        release(m, locks, locks->count);
        return busy(m, e);
    }
    m->locked = kind;
    m->waiting_since = 0;
    return STEP_DONE;
}

void mbox_unlock(struct mbox *m)
{
    if (m->locked != MBOX_UNLOCKED)
        release(m, m->locked == MBOX_LOCKED_WRITE ? &m->write_locks : &m->read_locks,
                m->locked == MBOX_LOCKED_WRITE ? m->write_locks.count : m->read_locks.count);
    m->locked = MBOX_UNLOCKED;
}
