/* watch.c - news of other writers by inotify (DECISIONS 13): one descriptor a process, one set of watches a mailbox.
 *
 * Watched are the index log's folder (appends, and the log being replaced) and the format's own folders (new/, cur/). A
 * folder that is not the mailbox's alone (fs layout) gives more events than needed: they cost a stat. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <utlist.h>

struct mailbox_watch {
    struct mailbox_watch *prev, *next;
    struct mailbox *box;
    void (*news)(void *arg);
    void *arg;
    bool due;
};

struct watched {                   /* one watch descriptor: boxes that it tells about */
    int id;
    struct mailbox *box;
    bool log_only;                 /* the index's folder: only the log is news */
    UT_hash_handle hh;
};

static int fd = -1;
static bool failed;
static struct watched *all;

int store_watch_fd(void)
{
    if (fd < 0 && !failed) {
        fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (fd < 0) {
            failed = true;
            log_warning(NULL, "inotify_init() failed: %s: mailboxes are polled", strerror(errno));
        }
    }
    return fd;
}

enum {
    NEWS_EVENTS = IN_MODIFY | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
};

static int watch_path(struct mailbox *box, const char *path, bool log_only, bool folder)
{
    int id = inotify_add_watch(fd, path, NEWS_EVENTS | (folder ? IN_ONLYDIR : 0u));
    struct watched *w;

    if (id < 0)
        return -1;
    HASH_FIND_INT(all, &id, w);
    if (w == NULL) {
        w = mem_zero(1, sizeof(*w));
        w->id = id;
        HASH_ADD_INT(all, id, w);
    }
    w->box = box;
    w->log_only = log_only;
    return id;
}

static void watch_box(struct mailbox *box)
{
    const char *dir = NULL, *log;
    struct arena *arena = arena_new();
    size_t n = 0;

    index_watch(box->index, &dir, &log);
    if (dir != NULL && box->index_path != NULL)
        box->watch_ids[n++] = watch_path(box, dir, true, true);
    for (const char *const *name = box->driver->watch; name != NULL && *name != NULL && n < 4; name++)
        box->watch_ids[n++] = watch_path(box, arena_printf(arena, "%s/%s", box->path, *name), false, true);
    if ((box->driver->can & DRIVER_IS_FILE) != 0 && n < 4)
        box->watch_ids[n++] = watch_path(box, box->path, false, false);
    if (box->private != NULL && n < 4) {
        index_watch(box->private, &dir, &log);
        box->watch_ids[n < 2 ? 2 : n] = watch_path(box, dir, true, true); /* the second place means arrival */
    }
    arena_free(arena);
}

static void unwatch_box(struct mailbox *box)
{
    for (size_t i = 0; i < 4; i++) {
        struct watched *w;

        if (box->watch_ids[i] < 0)
            continue;
        HASH_FIND_INT(all, &box->watch_ids[i], w);
        if (w != NULL && w->box == box) {
            HASH_DEL(all, w);
            mem_free(w);
            inotify_rm_watch(fd, box->watch_ids[i]);
        }
        box->watch_ids[i] = -1;
    }
}

/* The log itself, not its folder: every event on the descriptor wakes somebody. */
int mailbox_watch_open(struct mailbox *box, struct error *e)
{
    const char *dir = NULL, *log;
    struct arena *arena;
    int own;

    index_watch(box->index, &dir, &log);
    if (box->user->no_notify || box->driver->origin != NULL || dir == NULL || box->index_path == NULL)
        return error_set(e, ERROR_UNSUPPORTED, "Mailbox %s has no notification of changes", box->place.vname);
    own = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (own < 0)
        return error_sys(e, "inotify_init", NULL);
    arena = arena_new();
    if (inotify_add_watch(own, arena_printf(arena, "%s/%s", dir, log), IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF) < 0) {
        (void)error_sys(e, "inotify_add_watch", dir);
        (void)close(own);
        own = -1;
    }
    for (const char *const *name = box->driver->watch; own >= 0 && name != NULL && *name != NULL; name++)
        (void)inotify_add_watch(own, arena_printf(arena, "%s/%s", box->path, *name), NEWS_EVENTS | IN_ONLYDIR);
    if (own >= 0 && (box->driver->can & DRIVER_IS_FILE) != 0)
        (void)inotify_add_watch(own, box->path, NEWS_EVENTS | IN_ATTRIB);
    arena_free(arena);
    return own;
}

struct mailbox_watch *mailbox_watch_add(struct mailbox *box, void (*news)(void *arg), void *arg)
{
    struct mailbox_watch *watch;

    if (box->user->no_notify || store_watch_fd() < 0)
        return NULL;
    watch = mem_zero(1, sizeof(*watch));
    watch->box = mailbox_ref(box);
    watch->news = news;
    watch->arg = arg;
    if (box->watches == NULL)
        watch_box(box);
    DL_APPEND(box->watches, watch);
    return watch;
}

void mailbox_watch_remove(struct mailbox_watch **watch_p)
{
    struct mailbox_watch *watch = *watch_p;

    if (watch == NULL)
        return;
    *watch_p = NULL;
    DL_DELETE(watch->box->watches, watch);
    if (watch->box->watches == NULL)
        unwatch_box(watch->box);
    mailbox_close(&watch->box);
    mem_free(watch);
}

/* A callback may remove watches, its own too: marks first, then one at a time from the start. */
void mailbox_wake_watches(struct mailbox *box, const struct mailbox_watch *except)
{
    struct mailbox_watch *watch;
    bool again = true;

    if (box->watches == NULL)
        return;
    mailbox_ref(box);
    DL_FOREACH(box->watches, watch)
        watch->due = watch != except;
    while (again) {
        again = false;
        DL_FOREACH(box->watches, watch)
        {
            if (!watch->due)
                continue;
            watch->due = false;
            again = true;
            watch->news(watch->arg);
            break;
        }
    }
    mailbox_close(&box);
}

void store_watch_poll(void)
{
    char buf[16 * (sizeof(struct inotify_event) + NAME_MAX + 1)] __attribute__((aligned(8)));
    struct mailbox *last = NULL;
    ssize_t n;

    while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0) {
        for (char *p = buf; p < buf + n;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)p;
            struct watched *w;
            int id = event->wd;

            p += sizeof(*event) + event->len;
            if ((event->mask & IN_Q_OVERFLOW) != 0) {
                struct watched *next;

                HASH_ITER(hh, all, w, next)
                    mailbox_wake_watches(w->box, NULL);
                last = NULL;
                break;
            }
            HASH_FIND_INT(all, &id, w);
            if (w == NULL || (event->mask & IN_IGNORED) != 0)
                continue;
            /* The index's folder holds much else: lists, locks, caches of all kinds. */
            if (w->log_only && event->len > 0 && strcmp(event->name, "dovecot.index.log") != 0 &&
                strcmp(event->name, "dovecot.index.pvt.log") != 0)
                continue;
            if (id == w->box->watch_ids[1])
                w->box->arrival = true;
            if (w->box == last)
                continue; /* one wake a mailbox and batch of events: the sync looks at everything */
            last = w->box;
            mailbox_wake_watches(w->box, NULL);
        }
    }
}
