/* list_watch.c - news of which mailboxes a user has and what they hold, for NOTIFY: the folders of the list index and of the
 * subscriptions are watched.
 *
 * Whoever changes a mailbox, a name or a subscription writes one of these files, here and in the real server. What has changed
 * the caller finds out by looking; a burst of events is one piece of news for it. One inotify descriptor a process, made at
 * the first use. */
#include "store/internal.h"

#include <errno.h>
#include <limits.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <utlist.h>

enum { FOLDERS = 16 };

struct list_watch {
    struct list_watch *prev, *next;
    int ids[FOLDERS];
    size_t count;
    void (*news)(void *arg);
    void *arg;
    bool due;
};

static int fd = -1;
static struct list_watch *all;

int store_list_watch_fd(void)
{
    return fd;
}

/* The same folder gives the same number to all watches: it goes with the last of them. */
static void watch_folder(struct list_watch *w, const char *path)
{
    int id = inotify_add_watch(fd, path, IN_MODIFY | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR);

    for (size_t i = 0; i < w->count; i++) {
        if (w->ids[i] == id)
            return;
    }
    if (id >= 0)
        w->ids[w->count++] = id;
}

/* Where a location keeps its list index, its subscriptions, and the folders themselves. */
static void watch_location(struct list_watch *w, struct arena *arena, const struct mail_location *at)
{
    const char *base = at->index != NULL ? at->index : at->root, *slash = strrchr(at->list_index, '/');
    const char *folders[4] = {at->root, base, at->control, NULL};

    if (slash != NULL)
        folders[3] = arena_printf(arena, *at->list_index == '/' ? "%s%.*s" : "%s/%.*s", *at->list_index == '/' ? "" : base,
                                  (int)(slash - at->list_index), at->list_index);
    for (size_t i = 0; i < 4; i++) {
        if (folders[i] != NULL && w->count < FOLDERS)
            watch_folder(w, folders[i]);
    }
}

struct list_watch *mailbox_list_watch_add(struct mail_user *user, void (*news)(void *arg), void *arg)
{
    struct list_watch *w;
    struct arena *arena;

    if (fd < 0) {
        fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (fd < 0) {
            log_warning(mail_user_log(user), "inotify_init() failed: %s", strerror(errno));
            return NULL;
        }
    }
    w = mem_zero(1, sizeof(*w));
    w->news = news;
    w->arg = arg;
    arena = arena_new();
    for (const struct mail_namespace *ns = user->namespaces; ns != NULL; ns = ns->next) {
        if (ns->storage == NULL || ns->unusable)
            continue;
        watch_location(w, arena, &ns->storage->at);
    }
    arena_free(arena);
    DL_APPEND(all, w);
    return w;
}

static bool has_id(const struct list_watch *w, int id)
{
    for (size_t i = 0; i < w->count; i++) {
        if (w->ids[i] == id)
            return true;
    }
    return false;
}

void mailbox_list_watch_remove(struct list_watch **watch)
{
    struct list_watch *w = *watch, *other;

    if (w == NULL)
        return;
    *watch = NULL;
    DL_DELETE(all, w);
    for (size_t i = 0; i < w->count; i++) {
        bool used = false;

        DL_FOREACH(all, other)
            used = used || has_id(other, w->ids[i]);
        if (!used)
            inotify_rm_watch(fd, w->ids[i]);
    }
    mem_free(w);
}

/* INBOX's own files lie in the same folder. */
static bool is_news(const struct inotify_event *event)
{
    if ((event->mask & (IN_ISDIR | IN_Q_OVERFLOW)) != 0)
        return true;
    return event->len > 0 && (strstr(event->name, "list.index.log") != NULL || strstr(event->name, "subscriptions") != NULL);
}

void store_list_watch_poll(void)
{
    char buf[16 * (sizeof(struct inotify_event) + NAME_MAX + 1)] __attribute__((aligned(8)));
    struct list_watch *w;
    ssize_t n;

    while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0) {
        for (char *p = buf; p < buf + n;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)p;

            p += sizeof(*event) + event->len;
            if (!is_news(event))
                continue;
            DL_FOREACH(all, w)
                w->due = w->due || (event->mask & IN_Q_OVERFLOW) != 0 || has_id(w, event->wd);
        }
    }
    DL_FOREACH(all, w)
    {
        if (w->due) {
            w->due = false;
            w->news(w->arg); /* only takes note: no watch is added or removed from inside */
        }
    }
}
