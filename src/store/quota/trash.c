/* trash.c - the trash plugin: makes room by expunging from mailboxes that a file names (quota-acl-plugins 4).
 *
 * Lines of the file are "PRIORITY MAILBOX"; the lowest number goes first. Within a priority the mailboxes are merged: each
 * offers its messages in their order, and the one with the earliest date goes. First everything is chosen, then, only if that
 * is enough, expunged. What does not count cannot make room and is left alone. */
#include "store/quota/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX 65536
#define WAIT_MS 2000               /* for others' locks; the save that asks is refused then */

struct trash_box {
    const char *vname;
    uint32_t priority;
};

struct trash {
    VEC(struct trash_box) boxes;   /* sorted */
    bool busy;                     /* what is expunged may be copied elsewhere, which asks again */
};

struct source {
    struct mailbox *box;
    struct mailbox_view *view;
    struct index_batch *batch;
    struct index_record next;      /* what it offers; uid 0 = nothing more */
    int64_t date;
    uint64_t size;
    bool used;
};

struct cleaning {
    struct quota *quota;
    struct arena *arena;
    struct source *sources;
    size_t count;
    struct quota_amount need, found;
};

/* ---- the file ---- */

static int read_line(struct trash *t, struct quota *q, struct slice line)
{
    struct trash_box box;
    ptrdiff_t at = slice_find(line, ' ');

    if (at < 0)
        return 0;
    box.vname = arena_str(q->arena, slice_from(line, (size_t)at + 1));
    if (!slice_to_u32(slice_head(line, (size_t)at), &box.priority)) {
        log_error(q->user->log_p, "trash: Invalid priority for mailbox '%s'", box.vname);
        return -1;
    }
    if (!text_utf8_valid(slice_from_str(box.vname))) {
        log_error(q->user->log_p, "trash: Mailbox name not UTF-8: %s", box.vname);
        return -1;
    }
    log_debug(q->user->log_p, "trash plugin: Added '%s' with priority %u", box.vname, box.priority);
    VEC_PUSH(&t->boxes, box);
    return 0;
}

static int by_priority(const void *a, const void *b)
{
    const struct trash_box *one = a, *two = b;

    return (one->priority > two->priority) - (one->priority < two->priority);
}

static ssize_t read_file(struct quota *q, const char *path, char *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = 0, more;

    if (fd < 0) {
        log_error(q->user->log_p, "trash plugin: open(%s) failed: %m", path);
        return -1;
    }
    while ((more = read(fd, out + n, (size_t)(FILE_MAX - n))) > 0)
        n += more;
    if (more < 0)
        log_error(q->user->log_p, "trash plugin: read(%s) failed: %m", path);
    close(fd);
    return more < 0 ? -1 : n;
}

void quota_trash_open(struct quota *q)
{
    struct trash *t;
    struct slice rest, line;
    const char *path;
    struct error e;
    char *text;
    ssize_t n;

    if (!mail_user_plugin(q->user, "trash"))
        return;
    if (mail_user_plugin_text(q->user, q->arena, "trash", &path, &e) < 0) {
        log_error_value(q->user->log_p, &e);
        return;
    }
    if (path == NULL || *path == '\0')
        return;
    text = mem_alloc(FILE_MAX);
    t = mem_zero(1, sizeof(*t));
    n = read_file(q, path, text);
    rest = slice_of(text, n < 0 ? 0 : (size_t)n);
    while (n >= 0 && rest.size > 0 && slice_split(&rest, '\n', &line))
        if (read_line(t, q, line) < 0)
            n = -1;
    mem_free(text);
    if (n >= 0 && t->boxes.count > 0)
        qsort(t->boxes.at, t->boxes.count, sizeof(*t->boxes.at), by_priority);
    q->trash = t;
    if (n < 0)
        quota_trash_close(q);
}

void quota_trash_close(struct quota *q)
{
    if (q->trash == NULL)
        return;
    VEC_FREE(&q->trash->boxes);
    mem_free(q->trash);
    q->trash = NULL;
}

/* ---- what may go ---- */

static bool counts(const struct quota *q, const char *vname)
{
    for (size_t i = 0; i < q->roots.count; i++) {
        struct quota_amount limits;

        if (quota_limits(q->roots.at[i]->rules.at, q->roots.at[i]->rules.count, vname, &limits))
            return true;
    }
    return false;
}

/* The next message from `uid` on. */
static void offer(struct cleaning *c, struct source *s, uint32_t uid)
{
    for (; index_get_from(s->box->index, uid, &s->next); uid = s->next.uid + 1) {
        struct mail *mail;
        struct error e;
        bool good;

        if (mail_open_uid(s->box, s->next.uid, &mail, &e) < 0)
            continue;
        good = mail_internal_date(mail, &s->date, &e) == 0 &&
               (c->quota->vsizes ? mail_size_virtual(mail, &s->size, &e) : mail_size_physical(mail, &s->size, &e)) == 0;
        mail_close(&mail);
        if (good)
            return;
    }
    s->next.uid = 0;
}

/* Ends after a while: a lock that others hold costs this save, not the sessions that wait behind it. */
static void run_op(struct cleaning *c, struct store_op *op)
{
    struct budget budget = BUDGET_UNLIMITED;
    unsigned waited = 0;
    struct error e;
    enum step r;

    while ((r = store_op_step(op, &budget, &e)) == STEP_MORE || (r == STEP_WAIT && waited < WAIT_MS)) {
        if (r == STEP_WAIT) {
            os_sync_poll();
            nanosleep(&(struct timespec){0, 1000000}, NULL);
            waited++;
        }
    }
    if (r == STEP_ERROR) {
        error_context(&e, "trash plugin: ");
        log_error_value(c->quota->user->log_p, &e);
    }
    store_op_free(&op);
}

/* A mailbox that another session of this process is at work on is left out: nothing here may wait for it. */
static void add_source(struct cleaning *c, const char *vname)
{
    struct mail_user *user = c->quota->user;
    struct source *s = &c->sources[c->count];
    struct mailbox_place place;
    enum mailbox_existence there;
    struct error e;

    if (!counts(c->quota, vname) || mailbox_place(user, c->arena, slice_from_str(vname), &place, &e) < 0 ||
        mailbox_exists(&place, false, &there, &e) < 0 || there != MAILBOX_EXISTS_YES)
        return;
    *s = (struct source){0};
    if (mailbox_open(&s->box, &place, MAILBOX_OPEN_UNCHECKED, &e) < 0) {
        if (e.class != ERROR_NOT_FOUND) {
            error_context(&e, "trash plugin: ");
            log_error_value(user->log_p, &e);
        }
        return;
    }
    if (s->box->job != NULL || s->box->waiting != NULL || s->box->read_only) {
        mailbox_close(&s->box);
        return;
    }
    s->view = mailbox_view_open(s->box, false);
    run_op(c, mailbox_sync(s->box, s->view, SYNC_POLL));
    s->batch = index_batch_new(c->arena, INDEX_INTERNAL);
    offer(c, s, 1);
    c->count++;
}

static bool enough(const struct cleaning *c)
{
    return c->found.bytes >= c->need.bytes && c->found.count >= c->need.count;
}

/* Takes the earliest of what the sources from `first` on offer until it is enough. */
static void choose(struct cleaning *c, size_t first)
{
    while (!enough(c)) {
        struct source *best = NULL;

        for (size_t i = first; i < c->count; i++)
            if (c->sources[i].next.uid != 0 && (best == NULL || c->sources[i].date < best->date))
                best = &c->sources[i];
        if (best == NULL)
            return;
        mailbox_batch_expunge(best->view, best->batch, best->next.uid);
        best->used = true;
        c->found.bytes += best->size;
        c->found.count++;
        offer(c, best, best->next.uid + 1);
    }
}

static void expunge(struct cleaning *c)
{
    for (size_t i = 0; i < c->count; i++) {
        struct source *s = &c->sources[i];
        struct index_commit commit;

        if (s->used)
            run_op(c, mailbox_commit(s->view, s->batch, MAILBOX_RIGHT_EXPUNGE, &commit));
    }
}

bool quota_trash_clean(struct quota *q, const struct quota_amount *need)
{
    struct cleaning c = {.quota = q, .need = *need};
    struct trash *t = q->trash;
    bool good;

    if (t == NULL || t->busy || t->boxes.count == 0)
        return false;
    t->busy = true;
    c.arena = arena_new();
    c.sources = ARENA_ARRAY(c.arena, struct source, t->boxes.count);
    for (size_t i = 0; i < t->boxes.count && !enough(&c);) {
        size_t first = c.count;
        uint32_t priority = t->boxes.at[i].priority;

        for (; i < t->boxes.count && t->boxes.at[i].priority == priority; i++)
            add_source(&c, t->boxes.at[i].vname);
        choose(&c, first);
    }
    good = enough(&c);
    if (good)
        expunge(&c);
    else
        log_debug(q->user->log_p, "trash plugin: Failed to remove enough messages (needed %llu bytes, expunged only %llu bytes)",
                  (unsigned long long)need->bytes, (unsigned long long)c.found.bytes);
    for (size_t i = 0; i < c.count; i++) {
        index_cache_flush(c.sources[i].box->index);
        mailbox_view_close(&c.sources[i].view);
        mailbox_close(&c.sources[i].box);
    }
    arena_free(c.arena);
    t->busy = false;
    return good;
}
